;; Has no entry point.
(module (func (export "run")))
