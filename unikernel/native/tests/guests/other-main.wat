;; Has an entry point of another signature.
(module (func (export "main")))
