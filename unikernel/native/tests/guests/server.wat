;; Imports servers, and begins none.
(module
  (import "http-server" "router::new" (func (param i32)))
  (memory (export "memory") 1)
  (func (export "_start")))
