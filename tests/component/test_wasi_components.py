"""Components that use WASI 0.2 and 0.3, run from the command line."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import wasmtime

from tests import command

HEAD = """
(import "wasi:io/error@0.2.3" (instance $errors (export "error" (type (sub resource)))))
(alias export $errors "error" (type $error))
(import "wasi:io/poll@0.2.3" (instance $polls
  (export "pollable" (type $pollable (sub resource)))
  (export "poll" (func (param "in" (list (borrow $pollable))) (result (list u32))))))
(alias export $polls "pollable" (type $pollable))
(import "wasi:io/streams@0.2.3" (instance $streams
  (alias outer 1 $error (type $error'))
  (alias outer 1 $pollable (type $pollable'))
  (type $failed' (variant (case "last-operation-failed" (own $error')) (case "closed")))
  (export "stream-error" (type $failed (eq $failed')))
  (export "input-stream" (type $input (sub resource)))
  (export "output-stream" (type $output (sub resource)))
  (export "[method]input-stream.blocking-read"
    (func (param "self" (borrow $input)) (param "len" u64) (result (result (list u8) (error $failed)))))
  (export "[method]input-stream.subscribe" (func (param "self" (borrow $input)) (result (own $pollable'))))
  (export "[method]output-stream.check-write"
    (func (param "self" (borrow $output)) (result (result u64 (error $failed)))))
  (export "[method]output-stream.write"
    (func (param "self" (borrow $output)) (param "contents" (list u8)) (result (result (error $failed)))))
  (export "[method]output-stream.blocking-write-and-flush"
    (func (param "self" (borrow $output)) (param "contents" (list u8)) (result (result (error $failed)))))))
(alias export $streams "input-stream" (type $input))
(alias export $streams "output-stream" (type $output))
(import "wasi:cli/stdin@0.2.3" (instance $stdin
  (alias outer 1 $input (type $input'))
  (export "get-stdin" (func (result (own $input'))))))
(import "wasi:cli/stdout@0.2.3" (instance $stdout
  (alias outer 1 $output (type $output'))
  (export "get-stdout" (func (result (own $output'))))))
(import "wasi:cli/exit@0.2.3" (instance $exits (export "exit" (func (param "status" (result))))))
(import "wasi:clocks/monotonic-clock@0.2.3" (instance $clock
  (alias outer 1 $pollable (type $pollable'))
  (export "subscribe-duration" (func (param "when" u64) (result (own $pollable'))))))
(core module $memory
  (memory (export "memory") 4)
  (global $free (mut i32) (i32.const 65536))
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    (global.set $free (i32.and (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
    (global.get $free)
    (global.set $free (i32.add (global.get $free) (local.get 3)))))
(core instance $memory (instantiate $memory))
(alias core export $memory "memory" (core memory $mem))
(alias core export $memory "realloc" (core func $realloc))
(core func $poll (canon lower (func $polls "poll") (memory $mem) (realloc (core func $realloc))))
(core func $read
  (canon lower (func $streams "[method]input-stream.blocking-read") (memory $mem) (realloc (core func $realloc))))
(core func $readable (canon lower (func $streams "[method]input-stream.subscribe")))
(core func $check (canon lower (func $streams "[method]output-stream.check-write") (memory $mem)))
(core func $write (canon lower (func $streams "[method]output-stream.write") (memory $mem)))
(core func $print (canon lower (func $streams "[method]output-stream.blocking-write-and-flush") (memory $mem)))
(core func $stdin (canon lower (func $stdin "get-stdin")))
(core func $stdout (canon lower (func $stdout "get-stdout")))
(core func $exit (canon lower (func $exits "exit")))
(core func $timer (canon lower (func $clock "subscribe-duration")))
"""
"""What the components of these tests import of WASI 0.2, and a memory."""

IMPORTS = """
(import "wasi" "memory" (memory 4))
(import "wasi" "poll" (func $poll (param i32 i32 i32)))
(import "wasi" "read" (func $read (param i32 i64 i32)))
(import "wasi" "readable" (func $readable (param i32) (result i32)))
(import "wasi" "check" (func $check (param i32 i32)))
(import "wasi" "write" (func $write (param i32 i32 i32 i32)))
(import "wasi" "print" (func $print (param i32 i32 i32 i32)))
(import "wasi" "stdin" (func $stdin (result i32)))
(import "wasi" "stdout" (func $stdout (result i32)))
(import "wasi" "exit" (func $exit (param i32)))
(import "wasi" "timer" (func $timer (param i64) (result i32)))
"""

TAIL = """
(core instance $main (instantiate $main (with "wasi" (instance
  (export "memory" (memory $mem)) (export "poll" (func $poll)) (export "read" (func $read))
  (export "readable" (func $readable)) (export "check" (func $check)) (export "write" (func $write))
  (export "print" (func $print)) (export "stdin" (func $stdin)) (export "stdout" (func $stdout))
  (export "exit" (func $exit)) (export "timer" (func $timer))))))
(func $run (result (result)) (canon lift (core func $main "run")))
(instance $exported (export "run" (func $run)))
(export "wasi:cli/run@0.2.3" (instance $exported))
"""


def program(path: Path, body: str, data: str = "") -> Path:
    """A component whose core function `run` is `body`: it returns 0, or 1 to fail."""
    core = f'(core module $main {IMPORTS} {data} (func (export "run") (result i32) {body}))'
    path.write_bytes(wasmtime.wat2wasm(f"(component {HEAD} {core} {TAIL})"))
    return path


HELLO = '(data (i32.const 64) "hello\\n")'


def printing(at: int, size: int) -> str:
    """Prints bytes of the memory, and fails where that fails. Its result is at 16."""
    return f"""
    (call $print (local.get $out) (i32.const {at}) (i32.const {size}) (i32.const 16))
    (if (i32.load8_u (i32.const 16)) (then (return (i32.const 1))))
    """


def test_a_program_prints_and_ends(tmp_path: Path) -> None:
    body = f"(local $out i32) (local.set $out (call $stdout)) {printing(64, 6)} (i32.const 0)"
    app = program(tmp_path / "app.wasm", body, HELLO)
    assert command.slight_py("run", app) == (0, "hello\n", "")


def test_what_run_returns_and_an_exit_are_the_exit_code(tmp_path: Path) -> None:
    app = program(tmp_path / "app.wasm", "(i32.const 1)")
    assert command.slight_py("run", app).code == 1
    for status in (0, 1):
        app = program(tmp_path / "app.wasm", f"(call $exit (i32.const {status})) (unreachable)")
        assert command.slight_py("run", app).code == status


def test_a_program_copies_its_input(tmp_path: Path) -> None:
    body = """
    (local $in i32) (local $out i32)
    (local.set $in (call $stdin))
    (local.set $out (call $stdout))
    (loop $more
      (call $read (local.get $in) (i64.const 4096) (i32.const 16))
      (if (i32.load8_u (i32.const 16)) (then
        (return (i32.ne (i32.load8_u (i32.const 20)) (i32.const 1)))))
      (call $print (local.get $out) (i32.load (i32.const 20)) (i32.load (i32.const 24)) (i32.const 32))
      (br_if $more (i32.eqz (i32.load8_u (i32.const 32)))))
    (i32.const 1)
    """
    app = program(tmp_path / "app.wasm", body)
    assert command.slight_py("run", app, stdin="größe\n" * 1000) == (0, "größe\n" * 1000, "")


def test_a_program_that_polls_wakes_with_the_first_event(tmp_path: Path) -> None:
    """It waits for its input and for three timers, and exits by which of them came."""
    body = """
    (i32.store (i32.const 64) (call $readable (call $stdin)))
    (i32.store (i32.const 68) (call $timer (i64.const 60000000000)))
    (i32.store (i32.const 72) (call $timer (i64.const 30000000)))
    (i32.store (i32.const 76) (call $timer (i64.const -1)))
    (call $poll (i32.const 64) (i32.const 4) (i32.const 16))
    (if (i32.ne (i32.load (i32.const 20)) (i32.const 1)) (then (unreachable)))
    (i32.ne (i32.load (i32.load (i32.const 16))) (i32.const 2))
    """
    app = program(tmp_path / "app.wasm", body)
    with command.running("run", app) as running:
        began = time.monotonic()
        assert running.process.wait(30) == 0
        assert time.monotonic() - began < 20


def test_a_program_that_writes_more_than_it_may_is_ended(tmp_path: Path) -> None:
    body = """
    (local $out i32)
    (local.set $out (call $stdout))
    (call $check (local.get $out) (i32.const 16))
    (call $write (local.get $out) (i32.const 64) (i32.const 131072) (i32.const 16))
    (i32.const 0)
    """
    done = command.slight_py("run", program(tmp_path / "app.wasm", body))
    assert (done.code, done.out) == (1, "")
    assert "output-stream.write: 131072 bytes where check-write permits 65536" in done.err


def test_a_program_whose_output_nobody_reads_ends_with_a_signal(tmp_path: Path) -> None:
    body = """
    (local $out i32)
    (local.set $out (call $stdout))
    (loop $more
      (call $print (local.get $out) (i32.const 64) (i32.const 4096) (i32.const 16))
      (br_if $more (i32.eqz (i32.load8_u (i32.const 16)))))
    (i32.const 1)
    """
    app = program(tmp_path / "app.wasm", body)
    reader, writer = os.pipe()
    try:
        with command.running("run", app, stdout=writer) as running:
            assert os.read(reader, 10) == bytes(10)
            began = time.monotonic()
            assert running.stop(signal.SIGTERM) == 128 + signal.SIGTERM
            assert time.monotonic() - began < 5
    finally:
        os.close(reader)
        os.close(writer)


# WASI 0.3.

THREE = """
(component
  (import "wasi:cli/types@0.3.0" (instance $types
    (type $code' (enum "io" "illegal-byte-sequence" "pipe"))
    (export "error-code" (type (eq $code')))))
  (alias export $types "error-code" (type $code))
  (import "wasi:cli/stdout@0.3.0" (instance $stdout
    (alias outer 1 $code (type $code'))
    (export "error-code" (type $failed (eq $code')))
    (type $result (future (result (error $failed))))
    (type $bytes (stream u8))
    (export "write-via-stream" (func (param "data" $bytes) (result $result)))))
  (import "wasi:clocks/monotonic-clock@0.3.0" (instance $clock
    (export "wait-for" (func async (param "how-long" u64)))))
  (core module $memory (memory (export "memory") 4))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $mem))
  (type $bytes (stream u8))
  (type $outcome (future (result (error $code))))
  (core func $new (canon stream.new $bytes))
  (core func $put (canon stream.write $bytes async (memory $mem)))
  (core func $end (canon stream.drop-writable $bytes))
  (core func $forget (canon future.drop-readable $outcome))
  (core func $print (canon lower (func $stdout "write-via-stream")))
  (core func $sleep (canon lower (func $clock "wait-for") async))
  (core func $return (canon task.return (result (result))))
  (core func $set (canon waitable-set.new))
  (core func $join (canon waitable.join))
  (core module $main
    (import "" "memory" (memory 4))
    (import "" "new" (func $new (result i64)))
    (import "" "put" (func $put (param i32 i32 i32) (result i32)))
    (import "" "end" (func $end (param i32)))
    (import "" "forget" (func $forget (param i32)))
    (import "" "print" (func $print (param i32) (result i32)))
    (import "" "sleep" (func $sleep (param i64) (result i32)))
    (import "" "return" (func $return (param i32)))
    (import "" "set" (func $set (result i32)))
    (import "" "join" (func $join (param i32 i32)))
    (data (i32.const 64) "hello\\n")
    (global $writable (mut i32) (i32.const 0))
    (global $waiting (mut i32) (i32.const 0))
    ;; Waits for the first event of a waitable.
    (func $wait (param $for i32) (result i32)
      (global.set $waiting (call $set))
      (call $join (local.get $for) (global.get $waiting))
      (i32.or (i32.const 2) (i32.shl (global.get $waiting) (i32.const 4))))
    (func (export "run") (result i32)
      (call $wait (i32.shr_u (call $sleep (i64.const 20000000)) (i32.const 4))))
    (func (export "callback") (param $event i32) (param $index i32) (param $payload i32) (result i32)
      (local $ends i64)
      ;; The sleep is over: hands a stream over, and writes to it.
      (if (i32.eq (local.get $event) (i32.const 1)) (then
        (local.set $ends (call $new))
        (global.set $writable (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))))
        (call $forget (call $print (i32.wrap_i64 (local.get $ends))))
        (if (i32.eq (call $put (global.get $writable) (i32.const 64) (i32.const 6)) (i32.const -1)) (then
          (return (call $wait (global.get $writable)))))))
      (call $join (global.get $writable) (i32.const 0))
      (call $end (global.get $writable))
      (call $return (i32.const 0))
      (i32.const 0)))
  (core instance $main (instantiate $main (with "" (instance
    (export "memory" (memory $mem)) (export "new" (func $new)) (export "put" (func $put)) (export "end" (func $end))
    (export "forget" (func $forget)) (export "print" (func $print)) (export "sleep" (func $sleep))
    (export "return" (func $return)) (export "set" (func $set)) (export "join" (func $join))))))
  (func $run async (result (result))
    (canon lift (core func $main "run") async (callback (core func $main "callback"))))
  (instance $exported (export "run" (func $run)))
  (export "wasi:cli/run@0.3.0" (instance $exported)))
"""


def test_a_program_of_wasi_0_3_waits_and_prints(tmp_path: Path) -> None:
    app = tmp_path / "app.wasm"
    app.write_bytes(wasmtime.wat2wasm(THREE))
    assert command.slight_py("run", app) == (0, "hello\n", "")
