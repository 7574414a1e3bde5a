"""Guests in WebAssembly's text format, and the real runtime around them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import cache
from struct import pack
from typing import Any, TypeVar

import pytest
import wasmtime

from bindgen.runtime import Import
from capabilities.bindings.http_types import Method, Request, Response
from capabilities.http.listen import bind
from capabilities.http.routes import RouteTable
from capabilities.http.server import HttpService
from capabilities.http.settings import HttpSettings
from capabilities.keyvalue import Backend
from capabilities.keyvalue.memory import MemoryStores
from slight_py import engine as engine_module
from slight_py import linker, slightfile, slots, store
from slight_py.engine import Engine, Limits, Program, describe
from slight_py.handlers import Handlers
from slight_py.runner import Loaded
from slight_py.wasi import IMPORTS, WasiSettings

T = TypeVar("T")

# The text of modules.

MEMORY = '(memory (export "memory") 1)'

PAGE = 65536

REALLOC = """
(global $free (mut i32) (i32.const 8192))
(func $realloc (export "canonical_abi_realloc") (param $old i32) (param $size i32) (param $align i32) (param $new i32)
    (result i32)
  (local $at i32)
  (local.set $at
    (i32.and (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
             (i32.sub (i32.const 0) (local.get $align))))
  (global.set $free (i32.add (local.get $at) (local.get $new)))
  (loop $grow
    (if (i32.gt_u (global.get $free) (i32.mul (memory.size) (i32.const 65536)))
      (then
        (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then (unreachable)))
        (br $grow))))
  (local.get $at))
"""
"""Never frees, and grows the memory for what doesn't fit. The first 8 KiB are the module's own."""

KEYVALUE = """
(import "keyvalue" "keyvalue::open" (func $open (param i32 i32 i32)))
(import "keyvalue" "keyvalue::get" (func $get (param i32 i32 i32 i32)))
(import "keyvalue" "keyvalue::set" (func $set (param i32 i32 i32 i32 i32 i32)))
(import "keyvalue" "keyvalue::keys" (func $keys (param i32 i32)))
(import "canonical_abi" "resource_drop_keyvalue" (func $drop (param i32)))
"""

KV = '(import "kv" "kv::open" (func $kv_open (param i32 i32 i32)))'

HANDLER = "(param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)"
"""The signature of every handler."""


def data(at: int, *content: bytes | str) -> str:
    """A data segment at an address below 8 KiB."""
    joined = b"".join(each.encode() if isinstance(each, str) else each for each in content)
    escaped = "".join(f"\\{byte:02x}" for byte in joined)
    return f'(data (i32.const {at}) "{escaped}")'


def response(
    status: int = 200,
    headers: tuple[int, int] | None = None,
    body: tuple[int, int] | None = None,
    *,
    expected: int = 0,
    headers_tag: int | None = None,
    body_tag: int | None = None,
) -> bytes:
    """What a handler's result points to. Headers and body are pointer and length; tags are as they should be."""
    tags = (
        headers is not None if headers_tag is None else headers_tag,
        body is not None if body_tag is None else body_tag,
    )
    parts = (expected, status, tags[0], *(headers or (0, 0)), tags[1], *(body or (0, 0)))
    return pack("<B3xH2xB3xIIB3xII", *parts)


BODY_AT = 24
"""Where pointer and length of the body are in a response."""


def handler(body: str, name: str = "handle-bad") -> str:
    return f'(func (export "{name}") {HANDLER} (local $n i32) {body})'


HELLO = data(0, response(body=(32, 5)), "hello") + handler("(i32.const 0)", "handle-hello")
"""A handler with nothing wrong. It takes the first 64 bytes."""


def call(function: str, *args: int | str) -> str:
    """A call with constants, or with what instructions give."""
    return f"(call {function} {' '.join(each if isinstance(each, str) else f'(i32.const {each})' for each in args)})"


def load(at: int) -> str:
    return f"(i32.load (i32.const {at}))"


def times(count: int, body: str) -> str:
    """Instructions over and over, with the number of the time in the local $n."""
    again = f"(br_if $again (i32.lt_u (local.get $n) (i32.const {count})))"
    return f"(loop $again {body} (local.set $n (i32.add (local.get $n) (i32.const 1))) {again})"


FOREVER = "(loop $forever (br $forever))"


def module(*fields: str, imports: str = "", memory: str = MEMORY, realloc: str = REALLOC) -> bytes:
    """A module whose `handle-hello` answers, besides what `fields` hold."""
    return binary("\n".join((imports, memory, realloc, HELLO, *fields)))


_texts: dict[bytes, str] = {}


def binary(fields: str) -> bytes:
    found = bytes(wasmtime.wat2wasm(f"(module {fields})"))
    _texts[found] = fields
    return found


def text_of(module: bytes) -> str:
    """The fields of a module that `binary` made."""
    return _texts[module]


def many_functions(count: int) -> bytes:
    """A module of so many empty functions: 4 bytes each, of which wasmtime takes some 6 KB to compile."""

    def number(value: int) -> bytes:
        return bytes((value & 0x7F | 0x80,)) + number(value >> 7) if value >> 7 else bytes((value,))

    def section(kind: int, content: bytes) -> bytes:
        return bytes((kind,)) + number(len(content)) + content

    types = section(1, b"\1\x60\0\0")
    return (
        b"\0asm\1\0\0\0"
        + types
        + section(3, number(count) + bytes(count))
        + section(10, number(count) + b"\2\0\x0b" * count)
    )


# The runtime around them.

LIMITS = Limits(memory=16 << 20, instances=32)

STORES = ("C", "Python")
"""With slight_py/_store.c and slight_py/_slots.c, or with slight_py/store.py and wasmtime's pool."""

_with_slots = slots.native


def use_store(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has programs that are made from now on run with the project's C, or without it."""
    if form == "C":
        assert hasattr(store, "PureStore"), "slight_py/_store.c is not built: pip install --editable ."
        assert slots.native, "slight_py/_slots.c is not built: pip install --editable ."
    else:
        monkeypatch.setattr(engine_module, "Store", getattr(store, "PureStore", store.Store))
        monkeypatch.setattr(store, "enter_address", store._ENTER)
        monkeypatch.setattr(f"{__name__}._with_slots", False)


def engine(limits: Limits = LIMITS) -> Engine:
    """An engine that tests share: each one reserves address space for its instances."""
    return _engine(limits, _with_slots)


@cache
def _engine(limits: Limits, with_slots: bool) -> Engine:
    return Engine(limits, with_slots=with_slots)


def program(
    wasm: bytes, imports: Mapping[tuple[str, str], tuple[Import, Any]] | None = None, limits: Limits = LIMITS
) -> Program:
    """A module linked with imports of the test's own, besides those of WASI."""
    found = engine(limits)
    links = {(each.module, each.name): (each, None) for each in IMPORTS}
    return Program(found, found.compile(wasm), {**links, **(imports or {})})


def handlers(
    wasm: bytes, limits: Limits = LIMITS, wasi: WasiSettings | None = None, stores: Backend | None = None
) -> Handlers:
    """What answers requests with a module, linked as `slight-py run` does it without a slightfile."""
    found = engine(limits)
    module = found.compile(wasm)
    loaded = Loaded(describe(module), slightfile.embedded(), found, module)
    kept = stores or MemoryStores()
    return Handlers(loaded.program(linker.Backends(lambda: kept), None), wasi or WasiSettings())


REQUEST = Request(Method.GET, "/", [("host", "localhost")], [], b"")


async def ask(guests: Handlers, name: str = "handle-bad", request: Request = REQUEST) -> Response:
    """What a handler answers, in an instance of its own."""
    function = guests.resolve(name)
    assert function is not None, name
    return await guests.handle(function, request)


SERVED = ("handle-hello", "handle-bad")
"""The handlers that there are routes to, where a module has them."""


@asynccontextmanager
async def serving(guests: Handlers, settings: HttpSettings) -> AsyncIterator[int]:
    """A server on a port of 127.0.0.1, whose paths have the names of the handlers they lead to."""
    table = RouteTable()
    for name in SERVED:
        if guests.resolve(name):
            table = table.add("GET", f"/{name}", name)
    service = HttpService(guests, settings)
    sockets = bind("127.0.0.1:0")
    await service.start(sockets, table)
    try:
        yield sockets[0].getsockname()[1]
    finally:
        await service.stop()


async def get(port: int, path: str) -> tuple[int, bytes]:
    """The status and the content of an answer, over a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        head, _, content = (await reader.read()).partition(b"\r\n\r\n")
        return int(head.split()[1]), content
    finally:
        writer.close()


async def until(holds: Callable[[], object]) -> None:
    """Waits until `holds`: what engine and threads do is not announced."""
    while not holds():  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.001)


def run(main: Coroutine[Any, Any, T], seconds: float = 30) -> T:
    """Runs a test to its end, or to that of its time. No guest may be left then."""

    async def limited() -> T:
        async with asyncio.timeout(seconds):
            return await main

    others = set(engine_module._instances)
    try:
        found = asyncio.run(limited())
    finally:
        left = set(engine_module._instances) - others
        engine_module._instances.clear()
    assert not left
    return found
