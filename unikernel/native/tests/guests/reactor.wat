;; Is initialized before its first call.
(module
  (global $ready (mut i32) (i32.const 0))
  (func (export "_initialize") (global.set $ready (i32.const 9)))
  (func (export "run") (result i32) (global.get $ready)))
