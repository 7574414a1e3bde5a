"""Guests that answer requests in booted native machines, called from Python as those of `slight_py.handlers` are.

Each is made an application that serves its handlers, in an image and a machine of its own.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager

from bindgen.runtime import Err
from capabilities.bindings import http_types
from capabilities.bindings.http_types import Request, Response
from capabilities.http.dispatch import HandlerFailure
from capabilities.http.settings import HttpSettings
from capabilities.keyvalue.memory import MemoryStores
from tests import wat
from tests.booted import ENDED, Booted, image_of
from tests.command import EMULATED, scratch
from tests.servers import HOST, free_port
from tests.wat import LIMITS

MEMORY = 256 << 20
"""Bytes of a machine."""

PORT = 3000
"""Where the applications serve, in their machines."""

SLIGHTFILE = """
[[capability]]
resource = "http"
name = "http"

[[capability]]
resource = "keyvalue.memory"
name = "*"
"""

_IMPORTS = """
(import "http-server" "router::new" (func $new_router (param i32)))
(import "http-server" "router::get" (func $add_route (param i32 i32 i32 i32 i32 i32)))
(import "http-server" "server::serve" (func $serve (param i32 i32 i32 i32)))
(import "keyvalue" "keyvalue::open" (func $open_store (param i32 i32 i32)))
(import "keyvalue" "keyvalue::set" (func $set_value (param i32 i32 i32 i32 i32 i32)))
"""

_RESULT, _TEXTS = 4032, 4096
"""Where what `_start` needs lies in the guest's memory: the modules of the tests use less of their first 8 KiB."""

_HANDLER = re.compile(r'\(func \(export "(handle-[a-z-]+)"\)')

_ENDED_GUEST = re.compile(r"slight-py: app\.wasm: the guest (?:trapped|broke the binary interface): (.*)")
_FAILED_REQUEST = re.compile(r"slight-py: GET /(\S+) \1: (?:the handler returned the error status-error: (\d+)|(.*))")

_log = logging.getLogger("slight_py.http")


def application(module: str, stores: MemoryStores | None = None) -> str:
    """A module's text with an entry point, which puts the values of `stores` into its own and serves each handler at
    a path of its name."""
    texts = bytearray()

    def text(content: bytes) -> str:
        """The arguments for a text: where it lies, and its length."""
        texts.extend(content)
        return f"(i32.const {_TEXTS + len(texts) - len(content)}) (i32.const {len(content)})"

    result = f"(i32.const {_RESULT})"
    handle = f"(i32.load (i32.const {_RESULT + 4}))"
    succeeded = f"(if (i32.load8_u {result}) (then (unreachable)))"
    body = []
    for name, values in ({} if stores is None else stores._stores).items():
        for key, value in values.items():
            body.append(f"(call $open_store {text(name)} {result}) {succeeded}")
            body.append(f"(call $set_value {handle} {text(key)} {text(value)} {result}) {succeeded}")
    body.append(f"(call $new_router {result}) {succeeded}")
    for handler in map(str.encode, _HANDLER.findall(module)):
        body.append(f"(call $add_route {handle} {text(b'/' + handler)} {text(handler)} {result}) {succeeded}")
    body.append(f"(call $serve {text(f'{HOST}:{PORT}'.encode())} {handle} {result}) {succeeded}")
    return "\n".join((_IMPORTS, module, wat.data(_TEXTS, bytes(texts)), f'(func (export "_start") {" ".join(body)})'))


class MachineHandlers:
    """A `Dispatcher` of `capabilities.http`, in a machine that is booted when there is a request."""

    def __init__(self, module: str, stores: MemoryStores | None) -> None:
        self._handlers = _HANDLER.findall(module)
        path = scratch() / "app.wasm"
        path.write_bytes(wat.binary(application(module, stores)))
        self._image = image_of(path, SLIGHTFILE)
        self._booted: Booted | None = None
        self._booting = asyncio.Lock()
        self._port = 0
        self._lines: queue.Queue[str] = queue.Queue()

    def resolve(self, handler: str) -> str | None:
        return handler if handler in self._handlers else None

    async def handle(self, handler: str, request: Request) -> Response:
        """Raises what `slight_py.handlers.Handlers.handle` raises."""
        async with self._booting:
            if self._booted is None:
                await self._boot(HttpSettings())
        status, headers, body = await _ask(self._port, handler, request)
        if status != 500:
            return Response(status, headers, body)
        found = _FAILED_REQUEST.fullmatch(line := await self._line())
        assert found is not None, line
        assert found[1] == handler
        if found[2] is not None:
            raise Err(http_types.HttpErrorStatusError(int(found[2])))
        raise HandlerFailure(found[3])

    @asynccontextmanager
    async def serving(self, settings: HttpSettings) -> AsyncIterator[int]:
        """A port of 127.0.0.1 that leads to the machine's server, with the time limit of `settings`."""
        await self._boot(settings)
        try:
            yield self._port
        finally:
            await asyncio.to_thread(self.close)

    async def _boot(self, settings: HttpSettings) -> None:
        """Raises HandlerFailure where the guest is ended before it serves."""
        self._port = free_port()
        options = (
            f"--memory={MEMORY}",
            f"--max-memory={LIMITS.memory}",
            f"--max-concurrent={LIMITS.instances // 2}",  # and as many that answer no requests
            f"--request-timeout={settings.request_timeout}",
            f"-p={self._port}:{PORT}",
        )
        self._booted = Booted(self._image, *options, hear=self._hear)
        line = await self._line()
        if found := _ENDED_GUEST.fullmatch(line):
            raise HandlerFailure(found[1])
        assert line == f"slight-py: serving at {HOST}:{self._port}", line

    def _hear(self, line: str) -> None:
        self._lines.put(line)
        if "serving at" not in line and line != ENDED:
            _log.error(line)

    async def _line(self) -> str:
        return await asyncio.to_thread(self._lines.get, timeout=EMULATED)

    def close(self) -> None:
        """Ends the machine, if there is one."""
        booted, self._booted = self._booted, None
        if booted is not None:
            booted.terminate()
            assert booted.close() in (0, 1)


async def _ask(port: int, handler: str, request: Request) -> tuple[int, list[tuple[str, str]], bytes]:
    """What a request of this number of headers is answered. One without a name gets some."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        names = iter(("host", *("x" for _ in request.headers)))
        headers = [(name or next(names), value) for name, value in request.headers]
        lines = [f"{request.method.name} /{handler} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
        writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status, *fields = head.removesuffix("\r\n\r\n").split("\r\n")
        found = [(name.lower(), value) for name, _, value in (field.partition(": ") for field in fields)]
        return int(status.split()[1]), found, await reader.readexactly(int(dict(found)["content-length"]))
    finally:
        writer.close()


class MachineHost:
    """Where the machines of a test are."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def handlers(self, wasm: bytes, *, stores: MemoryStores | None = None) -> MachineHandlers:
        """What answers requests with a module of tests/wat.py. Its stores begin with the values of `stores`."""
        found = MachineHandlers(wat.text_of(wasm), stores)
        self._stack.callback(found.close)
        return found


@contextmanager
def machine_host() -> Iterator[MachineHost]:
    """Machines that live as long as the block."""
    with ExitStack() as stack:
        yield MachineHost(stack)
