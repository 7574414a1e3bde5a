"""What the tests of the HTTP server share: a dispatcher of Python functions, a server around it, raw connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import pytest
import uvloop

from capabilities.bindings.http_types import Request, Response
from capabilities.http.access import AccessRecord
from capabilities.http.dispatch import Exchange
from capabilities.http.listen import bind
from capabilities.http.routes import RouteTable
from capabilities.http.server import HttpService
from capabilities.http.service import Service
from capabilities.http.settings import HttpSettings
from capabilities.http.streaming import StreamingService
from tests.machine_http import machine_service
from tests.native_http import native_service

server = "python"
"""The server that `serving` has: the one in Python, or that of the native machine, as an ordinary program or in a
machine that was booted. The fixture `server` sets it."""

_Test = TypeVar("_Test", bound=Callable[..., object])


def _with_servers(*names: str) -> Callable[[_Test], _Test]:
    def mark(test: _Test) -> _Test:
        used: _Test = pytest.mark.usefixtures("server")(test)
        return pytest.mark.parametrize("server", names, indirect=True)(used)

    return mark


LOOPS = {"asyncio": asyncio.run, "uvloop": uvloop.run}
"""What runs a test, by the event loop."""

every_server = _with_servers("python", "native", "machine")
"""For tests that are the same for every server."""

_WITH_LOOPS = [
    *(
        pytest.param(server, run, id=f"{server}-{loop}")
        for server in ("python", "native")
        for loop, run in LOOPS.items()
    ),
    pytest.param("machine", asyncio.run, id="machine"),
]


def every_server_and_loop(test: _Test) -> _Test:
    """For those that are the same on every event loop of the clients, and of the server in Python."""
    used: _Test = pytest.mark.usefixtures("server")(test)
    return pytest.mark.parametrize(("server", "run"), _WITH_LOOPS, indirect=["server"])(used)


python_and_machine = _with_servers("python", "machine")
"""For those that the native machine's own tests in Rust have as well."""

both_servers = _with_servers("python", "native")
"""For those that set what nobody can set of a machine, such as how long a silent connection is kept, or that need more
than the port of QEMU's that leads to a machine: it takes few connections at a time, and some as long as QEMU runs."""

Handler = Callable[[Request], Awaitable[Response]]


class Functions:
    """A Dispatcher whose handlers are coroutine functions, by the name that a guest would export."""

    def __init__(self, **handlers: Handler) -> None:
        self.handlers = {name.replace("_", "-"): handler for name, handler in handlers.items()}
        self.seen: list[Request] = []

    def resolve(self, handler: str) -> Any | None:
        return self.handlers.get(handler.replace("_", "-"))

    async def handle(self, handler: Any, request: Request) -> Response:
        self.seen.append(request)
        response: Response = await handler(request)
        return response


async def hello(request: Request) -> Response:
    return Response(200, None, b"hello")


async def echo(request: Request) -> Response:
    """As Spiderlightning's examples do: the request's headers and body are the response's."""
    return Response(200, request.headers, request.body)


def answering(response: Response) -> Handler:
    async def answer(request: Request) -> Response:
        return response

    return answer


class Serving:
    """A server on a free port of 127.0.0.1, and what it has seen."""

    def __init__(self, service: Service, functions: Functions, port: int) -> None:
        self.service = service
        self.functions = functions
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    @property
    def seen(self) -> Request:
        """The one request that reached a handler."""
        (request,) = self.functions.seen
        return request

    @property
    def connections(self) -> list[Any]:
        """The protocols of those that are open."""
        return list(self.service._connections.open)

    async def raw(self, *parts: bytes, pause: float = 0.02, timeout: float = 5.0) -> bytes:  # noqa: ASYNC109 - of each answer, not of all
        """Sends the parts on a connection of their own; returns what comes back until the server closes it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for part in parts:
                writer.write(part)
                await asyncio.sleep(pause if part is not parts[-1] else 0)
            return await asyncio.wait_for(_read_all(reader), timeout)
        finally:
            writer.close()


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    data = b""
    try:
        while chunk := await reader.read(65536):
            data += chunk
    except ConnectionResetError:
        pass
    return data


@asynccontextmanager
async def serving(
    functions: Functions,
    *routes: tuple[str, str, str],
    settings: HttpSettings | None = None,
    on_access: Callable[[AccessRecord], None] | None = None,
    base: str = "",
) -> AsyncIterator[Serving]:
    """A server at work. The one of the native machine as a program has no base of its routes."""
    routes = routes or (("GET", "/", "hello"),)
    settings = settings or HttpSettings()
    if server == "machine":
        async with machine_service(functions, routes, settings, on_access, base) as (machine, port):
            yield Serving(cast(Service, machine), functions, port)
        return
    assert not base
    if server == "native":
        async with native_service(functions, routes, settings, on_access) as (native, port):
            yield Serving(cast(Service, native), functions, port)
        return
    async with _python_service(functions, routes, settings, on_access) as (python, port):
        yield Serving(python, functions, port)


@asynccontextmanager
async def _python_service(
    functions: Functions,
    routes: Sequence[tuple[str, str, str]],
    settings: HttpSettings | None,
    on_access: Callable[[AccessRecord], None] | None,
) -> AsyncIterator[tuple[HttpService, int]]:
    table = RouteTable()
    for method, route, handler in routes:
        table = table.add(method, route, handler)
    service = HttpService(functions, settings, on_access)
    sockets = bind("127.0.0.1:0")
    port = sockets[0].getsockname()[1]
    await service.start(sockets, table)
    try:
        yield service, port
    finally:
        await service.stop()


class Streams:
    """A StreamingDispatcher of one coroutine function."""

    def __init__(self, handler: Callable[[Exchange], Awaitable[None]]) -> None:
        self._handler = handler

    async def handle(self, exchange: Exchange) -> None:
        await self._handler(exchange)


@asynccontextmanager
async def streaming(
    handler: Callable[[Exchange], Awaitable[None]],
    settings: HttpSettings | None = None,
    on_access: Callable[[AccessRecord], None] | None = None,
) -> AsyncIterator[Serving]:
    """A server that hands requests over piece by piece."""
    service = StreamingService(Streams(handler), settings, on_access)
    sockets = bind("127.0.0.1:0")
    port = sockets[0].getsockname()[1]
    await service.start(sockets)
    try:
        yield Serving(service, Functions(), port)
    finally:
        await service.stop()


async def read_response(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (names in lower case) and content of one response with a Content-Length, or without content."""
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).decode()
    status_line, *lines = head.split("\r\n")[:-2]
    assert status_line.startswith("HTTP/1.1 "), status_line
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    content = await reader.readexactly(int(headers.get("content-length", "0")))
    return int(status_line.split()[1]), headers, content
