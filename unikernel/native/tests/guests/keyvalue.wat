;; Imports a capability.
(module
  (import "keyvalue" "keyvalue::open" (func (param i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "_start")))
