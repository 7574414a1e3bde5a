;; Computes for ever.
(module
  (func (export "run") (result i32) (loop $again (br $again)) (i32.const 0))
  (func (export "_start") (loop $again (br $again))))
