;; Begins with three pages of memory.
(module (memory (export "memory") 3) (func (export "run") (result i32) (i32.const 0)))
