"""Components in WebAssembly's text format: valid ones, which between them use all that the binary format has."""

from __future__ import annotations

LIBC = """
(core module $libc
  (memory (export "memory") 1)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 0)
  (func (export "free") (param i32))
  (func (export "none"))
  (func (export "one") (result i32) i32.const 1)
  (func (export "take") (param i32))
  (func (export "take2") (param i32 i32))
  (func (export "take3") (param i32 i32 i32))
  (func (export "map") (param i32) (result i32) local.get 0)
  (func (export "map2") (param i32 i32) (result i32) local.get 0)
  (func (export "callback") (param i32 i32 i32) (result i32) i32.const 0)
  (func (export "number") (param i64 f32 f64) (result i64) local.get 0)
  (global (export "global") (mut i32) (i32.const 7))
  (table (export "table") 4 funcref))
(core instance $libc (instantiate $libc))
(alias core export $libc "memory" (core memory $memory))
(alias core export $libc "realloc" (core func $realloc))
(alias core export $libc "free" (core func $free))
(alias core export $libc "none" (core func $none))
(alias core export $libc "one" (core func $one))
(alias core export $libc "take" (core func $take))
(alias core export $libc "take2" (core func $take2))
(alias core export $libc "take3" (core func $take3))
(alias core export $libc "map" (core func $map))
(alias core export $libc "map2" (core func $map2))
(alias core export $libc "callback" (core func $callback))
(alias core export $libc "number" (core func $number))
"""
"""A core module with a function of every signature that is lifted here, its instance, and its exports."""


def component(*parts: str) -> str:
    return f"(component {' '.join(parts)})"


VALUE_TYPES = component(
    """
    (type $record (record (field "a" u8) (field "long-name" string) (field "b2" (list u16))))
    (type $variant (variant (case "none") (case "some" f32) (case "more" $record)))
    (type $enum (enum "a" "b-c" "D"))
    (type $flags (flags "a" "b"))
    (type $many (flags "f0" "f1" "f2" "f3" "f4" "f5" "f6" "f7" "f8" "f9" "f10" "f11" "f12" "f13" "f14" "f15" "f16"))
    (type $tuple (tuple bool s8 u8 s16 u16 s32 u32 s64 u64 f32 f64 char string))
    (type $option (option $variant))
    (type $result (result $record (error $enum)))
    (type $plain (result))
    (type $failing (result (error string)))
    (type $map (map string $tuple))
    (type $stream (stream u8))
    (type $bare (stream))
    (type $future (future $result))
    (type $function (func (param "a" $tuple) (param "b" $option) (result $result)))
    (type $late (func async (param "a" $stream) (result $future)))
    """
)

IMPORTS = component(
    """
    (type $error (record (field "code" u32)))
    (import "plain" (func (param "x" u32) (result string)))
    (import "named" (type $named (eq $error)))
    (import "thing" (type $thing (sub resource)))
    (import "[constructor]thing" (func (result (own $thing))))
    (import "[method]thing.get" (func (param "self" (borrow $thing)) (result $named)))
    (import "[static]thing.make" (func (param "x" u8) (result (own $thing))))
    (import "wasi:io/streams@0.2.12" (instance $streams
      (export "input-stream" (type $input (sub resource)))
      (type $variant (variant (case "closed") (case "failed" string)))
      (export "stream-error" (type $e (eq $variant)))
      (export "[method]input-stream.read"
        (func (param "self" (borrow $input)) (param "len" u64) (result (result (list u8) (error $e)))))))
    (alias export $streams "input-stream" (type $input))
    (import "wasi:http/types@0.2.12" (instance
      (alias outer 1 $input (type $input))
      (export "input-stream" (type $mine (eq $input)))
      (export "body" (type $body (sub resource)))
      (export "[method]body.stream" (func (param "self" (borrow $body)) (result (own $mine))))))
    (import "a:b/c@1.2.3-rc.1+build.5" (instance))
    """
)

HELLO = component(
    """
    (import "wasi:cli/environment@0.2.0" (instance $environment
      (export "get-arguments" (func (result (list string))))))
    """,
    LIBC,
    """
    (alias export $environment "get-arguments" (func $arguments))
    (core func $lowered (canon lower (func $arguments) (memory $memory) (realloc $realloc)))
    (core module $main
      (import "env" "memory" (memory 1))
      (import "wasi:cli/environment@0.2.0" "get-arguments" (func (param i32)))
      (func (export "run") (result i32) i32.const 0)
      (func (export "text") (param i32 i32) (result i32) i32.const 0))
    (core instance $main (instantiate $main
      (with "env" (instance $libc))
      (with "wasi:cli/environment@0.2.0" (instance (export "get-arguments" (func $lowered))))))
    (func $run (result (result)) (canon lift (core func $main "run")))
    (component $exports
      (import "import-run" (func $run (result (result))))
      (export "run" (func $run)))
    (instance $exported (instantiate $exports (with "import-run" (func $run))))
    (export "wasi:cli/run@0.2.0" (instance $exported))
    (func $text (param "name" string) (result string)
      (canon lift (core func $main "text") (memory $memory) (realloc $realloc) (post-return $free)))
    (export "text" (func $text) (func (param "name" string) (result string)))
    """,
)

RESOURCES = component(
    LIBC,
    """
    (type $counter (resource (rep i32) (dtor (core func $free))))
    (core func $new (canon resource.new $counter))
    (core func $drop (canon resource.drop $counter))
    (core func $rep (canon resource.rep $counter))
    (core module $main
      (import "counter" "new" (func (param i32) (result i32)))
      (import "counter" "drop" (func (param i32)))
      (import "counter" "rep" (func (param i32) (result i32))))
    (core instance (instantiate $main (with "counter" (instance
      (export "new" (func $new)) (export "drop" (func $drop)) (export "rep" (func $rep))))))
    (func $make (param "start" u32) (result (own $counter)) (canon lift (core func $map)))
    (func $get (param "self" (borrow $counter)) (result u32) (canon lift (core func $map)))
    (component $interface
      (import "counter" (type $c (sub resource)))
      (import "make" (func $make (param "start" u32) (result (own $c))))
      (import "get" (func $get (param "self" (borrow $c)) (result u32)))
      (export $out "counter" (type $c))
      (export "[constructor]counter" (func $make) (func (param "start" u32) (result (own $out))))
      (export "[method]counter.get" (func $get) (func (param "self" (borrow $out)) (result u32))))
    (instance $exported (instantiate $interface
      (with "counter" (type $counter)) (with "make" (func $make)) (with "get" (func $get))))
    (export "docs:counters/counters@1.0.0" (instance $exported))
    """,
)

ASYNC = component(
    """
    (import "sleep" (func $sleep async (param "ns" u64)))
    (import "fetch" (func $fetch async (param "url" string) (result string)))
    """,
    LIBC,
    """
    (type $bytes (stream u8))
    (type $done (future (result string)))
    (core func (canon lower (func $sleep) async))
    (core func (canon lower (func $sleep)))
    (core func (canon lower (func $fetch) async (memory $memory) (realloc $realloc)))
    (core func (canon task.return (result u32)))
    (core func (canon task.return (result string) (memory $memory) string-encoding=utf16))
    (core func (canon task.return))
    (core func (canon task.cancel))
    (core func (canon subtask.cancel))
    (core func (canon subtask.cancel async))
    (core func (canon subtask.drop))
    (core func (canon backpressure.inc))
    (core func (canon backpressure.dec))
    (core func (canon context.get i32 0))
    (core func (canon context.set i32 0))
    (core func (canon thread.yield))
    (core func (canon stream.new $bytes))
    (core func (canon stream.read $bytes async (memory $memory)))
    (core func (canon stream.write $bytes (memory $memory)))
    (core func (canon stream.cancel-read $bytes))
    (core func (canon stream.cancel-write $bytes async))
    (core func (canon stream.drop-readable $bytes))
    (core func (canon stream.drop-writable $bytes))
    (core func (canon future.new $done))
    (core func (canon future.read $done async (memory $memory) (realloc $realloc)))
    (core func (canon future.write $done async (memory $memory)))
    (core func (canon future.cancel-read $done async))
    (core func (canon future.cancel-write $done))
    (core func (canon future.drop-readable $done))
    (core func (canon future.drop-writable $done))
    (core func (canon waitable-set.new))
    (core func (canon waitable-set.wait (memory $memory)))
    (core func (canon waitable-set.poll (memory $memory)))
    (core func (canon waitable-set.drop))
    (core func (canon waitable.join))
    (func (export "callback") async (param "x" u32) (result string)
      (canon lift (core func $map) async (callback $callback) (memory $memory)))
    (func (export "stackful") async (param "x" u32) (canon lift (core func $take) async))
    (func (export "streams") async (param "x" $bytes) (result $bytes)
      (canon lift (core func $map) async (callback $callback)))
    """,
)

COMPOSED = component(
    """
    (component $logger
      (import "sink" (func $sink (param "text" string)))
      (core module $m (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 0)
        (func (export "log") (param i32 i32)))
      (core instance $i (instantiate $m))
      (core func (canon lower (func $sink) (memory (core memory $i "memory"))))
      (func $log (param "text" string)
        (canon lift (core func $i "log") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
      (type $session (resource (rep i32)))
      (export $s "session" (type $session))
      (export "log" (func $log)))
    (import "print" (func $print (param "text" string)))
    (instance $first (instantiate $logger (with "sink" (func $print))))
    (alias export $first "log" (func $log))
    (instance $second (instantiate $logger (with "sink" (func $log))))
    (component $pair
      (alias outer 1 $logger (component $inner))
      (import "sink" (func $sink (param "text" string)))
      (import "builder" (component $builder
        (import "sink" (func (param "text" string)))
        (export "log" (func (param "text" string)))))
      (instance $a (instantiate $inner (with "sink" (func $sink))))
      (instance $b (instantiate $builder (with "sink" (func $sink))))
      (export "first" (instance $a))
      (export "second" (instance $b)))
    (instance $both (instantiate $pair (with "sink" (func $print)) (with "builder" (component $logger))))
    (export "both" (instance $both))
    (export "log" (func $second "log"))
    """
)

MODULES = component(
    """
    (core type $libc-type (module
      (type $t (func (param i32) (result i32)))
      (import "env" "f" (func (type $t)))
      (export "memory" (memory 1))
      (export "g" (func (type $t)))))
    (core type $function (func (param i32 i64 f32 f64 v128 funcref externref) (result i32)))
    (component $linker
      (core type $small (module
        (export "g" (func (param i32) (result i32)))
        (import "env" "f" (func (param i32) (result i32)))))
      (import "code" (core module $code (type $small)))
      (core module $helper (func (export "f") (param i32) (result i32) local.get 0))
      (core instance $helper (instantiate $helper))
      (core instance $main (instantiate $code (with "env" (instance (export "f" (func $helper "f"))))))
      (func (export "g") (param "x" u32) (result u32) (canon lift (core func $main "g"))))
    (core module $code
      (import "env" "f" (func $f (param i32) (result i32)))
      (memory (export "memory") 2 10)
      (global (export "counter") (mut i64) (i64.const 5))
      (table (export "table") 1 funcref)
      (func (export "g") (param i32) (result i32) local.get 0 call $f))
    (instance $linked (instantiate $linker (with "code" (core module $code))))
    (export "code" (core module $code))
    (export "g" (func $linked "g"))
    """
)

NESTED_TYPES = component(
    """
    (type $outer (record (field "a" u8)))
    (type $interface (instance
      (type $local (list u8))
      (alias outer 1 $outer (type $from-outside))
      (export "r" (type $r (sub resource)))
      (export "bytes" (type $bytes (eq $local)))
      (export "outer" (type $o (eq $from-outside)))
      (export "f" (func (param "r" (borrow $r)) (param "o" $o) (result $bytes)))
      (export "inner" (instance (export "x" (func))))))
    (type $c (component
      (import "a" (instance $a (export "r" (type (sub resource)))))
      (alias export $a "r" (type $r))
      (import "b" (func (param "r" (own $r))))
      (import "m" (core module (import "a" "b" (func)) (export "c" (global i32))))
      (export "t" (type $t (sub resource)))
      (export "d" (func (result (own $t))))))
    (import "i" (instance $i (type $interface)))
    (import "j" (instance $j (type $interface)))
    (alias export $i "r" (type $r))
    (export "k" (type $outer))
    """
)

VALID = {
    "value types": VALUE_TYPES,
    "imports": IMPORTS,
    "hello": HELLO,
    "resources": RESOURCES,
    "async": ASYNC,
    "composed": COMPOSED,
    "modules": MODULES,
    "nested types": NESTED_TYPES,
    "empty": "(component)",
}
