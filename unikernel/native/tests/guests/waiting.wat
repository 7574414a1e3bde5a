;; Waits for a clock.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func $wait (param $nanoseconds i64) (result i32)
    (i32.store (i32.const 16) (i32.const 1)) ;; the monotonic clock
    (i64.store (i32.const 24) (local.get $nanoseconds))
    (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))
  (func (export "for-100-milliseconds") (result i32) (call $wait (i64.const 100000000)))
  (func (export "for-an-hour") (result i32) (call $wait (i64.const 3600000000000))))
