"""Servers for the tests of the HTTP client, in the test's event loop: one that answers, and one that says anything."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.servers import HOST


@dataclass
class Seen:
    """A request as it reached a server."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each.lower() == name]


@dataclass
class Origin:
    """A server at work."""

    port: int = 0
    scheme: str = "http"
    host: str = HOST
    connections: int = 0
    """How many were made to it so far."""
    seen: list[Seen] = field(default_factory=list)

    def url(self, path: str = "/") -> str:
        return f"{self.scheme}://{self.host}:{self.port}{path}"


Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


async def ok(request: web.BaseRequest) -> web.StreamResponse:
    """Answers with what it received."""
    return web.Response(body=await request.read())


@asynccontextmanager
async def origin(answer: Answer = ok, host: str = HOST, tls: ssl.SSLContext | None = None) -> AsyncIterator[Origin]:
    """A server that answers every request with `answer`, and remembers what it was asked."""
    found = Origin(scheme="https" if tls else "http", host=host)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        headers = [(name.decode("latin-1"), value.decode("utf-8")) for name, value in request.raw_headers]
        found.seen.append(Seen(request.method, request.raw_path, headers, await request.read()))
        return await answer(request)

    server = web.Server(handle, access_log=None)

    def connection() -> asyncio.Protocol:
        found.connections += 1
        return server()

    listening = await asyncio.get_running_loop().create_server(connection, host, 0, ssl=tls)
    found.port = listening.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        listening.close()
        await server.shutdown(0.01)


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def raw_origin(talk: Talk | bytes, host: str = HOST) -> AsyncIterator[Origin]:
    """A server that says `talk` to whoever sends the head of a request, and hangs up; or does with the connection what
    `talk` does."""
    found = Origin(host=host)
    writers = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.connections += 1
        writers.append(writer)
        try:
            if isinstance(talk, bytes):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(talk)
                await writer.drain()
            else:
                await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(connected, host, 0)
    found.port = listening.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        listening.close()
        for writer in writers:
            writer.close()
