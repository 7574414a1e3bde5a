"""Components in text form that are run by the command: programs, and servers of HTTP."""

from __future__ import annotations

from pathlib import Path

import wasmtime

COMMAND = """
(component
  (import "wasi:cli/exit@0.2.0" (instance $exit (export "exit" (func (param "status" (result))))))
  (core func $exit (canon lower (func $exit "exit")))
  (core module $m
    (import "" "exit" (func $exit (param i32)))
    (func (export "run") (result i32) BODY))
  (core instance $i (instantiate $m (with "" (instance (export "exit" (func $exit))))))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $run (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $run)))
"""

ERROR_CODE = """
(type $dns' (record (field "rcode" (option string)) (field "info-code" (option u16))))
(export "DNS-error-payload" (type $dns (eq $dns')))
(type $tls' (record (field "alert-id" (option u8)) (field "alert-message" (option string))))
(export "TLS-alert-received-payload" (type $tls (eq $tls')))
(type $size' (record (field "field-name" (option string)) (field "field-size" (option u32))))
(export "field-size-payload" (type $size (eq $size')))
(type $code' (variant (case "DNS-timeout") (case "DNS-error" $dns) (case "destination-not-found")
  (case "destination-unavailable") (case "destination-IP-prohibited") (case "destination-IP-unroutable")
  (case "connection-refused") (case "connection-terminated") (case "connection-timeout")
  (case "connection-read-timeout") (case "connection-write-timeout") (case "connection-limit-reached")
  (case "TLS-protocol-error") (case "TLS-certificate-error") (case "TLS-alert-received" $tls)
  (case "HTTP-request-denied") (case "HTTP-request-length-required") (case "HTTP-request-body-size" (option u64))
  (case "HTTP-request-method-invalid") (case "HTTP-request-URI-invalid") (case "HTTP-request-URI-too-long")
  (case "HTTP-request-header-section-size" (option u32)) (case "HTTP-request-header-size" (option $size))
  (case "HTTP-request-trailer-section-size" (option u32)) (case "HTTP-request-trailer-size" $size)
  (case "HTTP-response-incomplete") (case "HTTP-response-header-section-size" (option u32))
  (case "HTTP-response-header-size" $size) (case "HTTP-response-body-size" (option u64))
  (case "HTTP-response-trailer-section-size" (option u32)) (case "HTTP-response-trailer-size" $size)
  (case "HTTP-response-transfer-coding" (option string)) (case "HTTP-response-content-coding" (option string))
  (case "HTTP-response-timeout") (case "HTTP-upgrade-failed") (case "HTTP-protocol-error") (case "loop-detected")
  (case "configuration-error") (case "internal-error" (option string))))
(export "error-code" (type $code (eq $code')))
"""

SERVER = f"""
(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type $request (sub resource)))
    (export "response-outparam" (type $outparam (sub resource)))
    (export "fields" (type $fields (sub resource)))
    (export "outgoing-response" (type $response (sub resource)))
    {ERROR_CODE}
    (export "[constructor]fields" (func (result (own $fields))))
    (export "[constructor]outgoing-response" (func (param "headers" (own $fields)) (result (own $response))))
    (export "[method]outgoing-response.set-status-code"
      (func (param "self" (borrow $response)) (param "status-code" u16) (result (result))))
    (export "[static]response-outparam.set" (func
      (param "param" (own $outparam)) (param "response" (result (own $response) (error $code)))))))
  (alias export $types "incoming-request" (type $request))
  (alias export $types "response-outparam" (type $outparam))
  (core module $libc
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $libc (instantiate $libc))
  (core func $fields (canon lower (func $types "[constructor]fields")))
  (core func $response (canon lower (func $types "[constructor]outgoing-response")))
  (core func $status (canon lower (func $types "[method]outgoing-response.set-status-code")))
  (core func $set (canon lower (func $types "[static]response-outparam.set") (memory (core memory $libc "memory"))
    (realloc (core func $libc "realloc"))))
  (core func $drop (canon resource.drop $request))
  (core module $m
    (import "" "fields" (func $fields (result i32)))
    (import "" "response" (func $response (param i32) (result i32)))
    (import "" "status" (func $status (param i32 i32) (result i32)))
    (import "" "set" (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
    (import "" "drop" (func $drop (param i32)))
    (func $answer (param $outparam i32) (param $status i32)
      (local $made i32)
      (local.set $made (call $response (call $fields)))
      (drop (call $status (local.get $made) (local.get $status)))
      (call $set (local.get $outparam) (i32.const 0) (local.get $made)
        (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
    (func (export "handle") (param $request i32) (param $outparam i32) BODY))
  (core instance $i (instantiate $m (with "" (instance
    (export "fields" (func $fields)) (export "response" (func $response)) (export "status" (func $status))
    (export "set" (func $set)) (export "drop" (func $drop))))))
  (func $handle (param "request" (own $request)) (param "response-out" (own $outparam))
    (canon lift (core func $i "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))
"""

ASYNC_SERVER = f"""
(component
  (import "wasi:http/types@0.3.0" (instance $types
    (export "fields" (type $fields (sub resource)))
    (export "request" (type $request (sub resource)))
    (export "response" (type $response (sub resource)))
    {ERROR_CODE}
    (export "[constructor]fields" (func (result (own $fields))))
    (export "[static]response.new" (func (param "headers" (own $fields)) (param "contents" (option (stream u8)))
      (param "trailers" (future (result (option (own $fields)) (error $code))))
      (result (tuple (own $response) (future (result (error $code)))))))
    (export "[method]response.set-status-code"
      (func (param "self" (borrow $response)) (param "status-code" u16) (result (result))))))
  (alias export $types "fields" (type $fields))
  (alias export $types "request" (type $request))
  (alias export $types "response" (type $response))
  (alias export $types "error-code" (type $code))
  (type $trailers (future (result (option (own $fields)) (error $code))))
  (type $sent (future (result (error $code))))
  (core module $libc (memory (export "memory") 1))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (core func $fields (canon lower (func $types "[constructor]fields")))
  (core func $response (canon lower (func $types "[static]response.new") (memory $memory)))
  (core func $status (canon lower (func $types "[method]response.set-status-code")))
  (core func $drop (canon resource.drop $request))
  (core func $new (canon future.new $trailers))
  (core func $write (canon future.write $trailers async (memory $memory)))
  (core func $end (canon future.drop-writable $trailers))
  (core func $forget (canon future.drop-readable $sent))
  (core func $return (canon task.return (result (result (own $response) (error $code))) (memory $memory)))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "fields" (func $fields (result i32)))
    (import "" "response" (func $response (param i32 i32 i32 i32 i32)))
    (import "" "status" (func $status (param i32 i32) (result i32)))
    (import "" "drop" (func $drop (param i32)))
    (import "" "new" (func $new (result i64)))
    (import "" "write" (func $write (param i32 i32) (result i32)))
    (import "" "end" (func $end (param i32)))
    (import "" "forget" (func $forget (param i32)))
    (import "" "return" (func $return (param i32 i32 i32 i64 i32 i32 i32 i32)))
    (global $requests (mut i32) (i32.const 0))
    (func $answer (param $status i32) (result i32)
      (local $future i64) (local $writable i32)
      (local.set $future (call $new))
      (local.set $writable (i32.wrap_i64 (i64.shr_u (local.get $future) (i64.const 32))))
      (call $response (call $fields) (i32.const 0) (i32.const 0) (i32.wrap_i64 (local.get $future)) (i32.const 64))
      (call $forget (i32.load (i32.const 68)))
      (drop (call $status (i32.load (i32.const 64)) (local.get $status)))
      (call $return (i32.const 0) (i32.load (i32.const 64)) (i32.const 0) (i64.const 0)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
      (if (call $write (local.get $writable) (i32.const 512)) (then unreachable))
      (call $end (local.get $writable))
      (i32.const 0))
    (func (export "handle") (param $request i32) RESULT
      (call $drop (local.get $request))
      (global.set $requests (i32.add (global.get $requests) (i32.const 1)))
      BODY)
    (func (export "callback") (param i32 i32 i32) (result i32) CALLBACK))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $memory)) (export "fields" (func $fields)) (export "response" (func $response))
    (export "status" (func $status)) (export "drop" (func $drop)) (export "new" (func $new))
    (export "write" (func $write)) (export "end" (func $end)) (export "forget" (func $forget))
    (export "return" (func $return))))))
  (func $handle async (param "request" (own $request)) (result (result (own $response) (error $code)))
    (canon lift (core func $i "handle") async OPTIONS (memory $memory)))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/handler@0.3.0" (instance $handler)))
"""
"""`$answer` answers with a status, and fails where the trailers that it writes aren't awaited yet. `$requests` counts
the requests that the instance got."""


def with_callback(callback: str) -> str:
    """That server, whose handler returns to its callback."""
    text = ASYNC_SERVER.replace("RESULT", "(result i32)").replace("CALLBACK", callback)
    return text.replace("OPTIONS", '(callback (core func $i "callback"))')


def without_callback() -> str:
    """That server, whose handler has the instance for itself until it has ended."""
    text = ASYNC_SERVER.replace("RESULT", "").replace("CALLBACK", "(unreachable)")
    return text.replace("OPTIONS", "")


def written(folder: Path, text: str, body: str = "", name: str = "app.wasm") -> Path:
    """The file of a component, with a core function's body in place of BODY."""
    path = folder / name
    path.write_bytes(wasmtime.wat2wasm(text.replace("BODY", body)))
    return path
