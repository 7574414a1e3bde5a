"""What every HTTP server here does: it listens, stops, and answers what no handler ever sees."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from http import HTTPStatus
from socket import socket

from capabilities.bindings.http_types import Response
from capabilities.http.access import AccessRecord, printable
from capabilities.http.aiohttp_server import (
    BadHttpMethod,
    HttpVersion10,
    HttpVersion11,
    LineTooLong,
    RawRequestMessage,
)
from capabilities.http.connection import MAX_LINE, Connection, Connections, Incoming, Malformed
from capabilities.http.listen import ListenError, close_to_more, name_of
from capabilities.http.message import NO_CONTENT, encode_head, origin_form
from capabilities.http.settings import HttpSettings

ACCEPTING = 3
"""How many turns of the event loop go to connections that wait to be accepted when the server stops."""

CONNECTING = 0.01
"""How long connections that are being made at that time may take to be there, in seconds."""

UNWIND = 2.0
"""How long handlers that were cancelled by `stop` may take to end, in seconds."""

CLOSING = 2.0
"""How long a client may take to receive the end of its last answer, in seconds, once all are written."""

BACKLOG = 1024
"""How many connections wait to be accepted; the kernel may cut it (net.core.somaxconn)."""

VERSIONS = (HttpVersion11, HttpVersion10)

_log = logging.getLogger("slight_py.http")


class Service:
    """A server on listening sockets. What it answers with is for a class that derives from it."""

    methods: frozenset[str] | None = None
    """The methods that it serves; None for all."""

    def __init__(
        self,
        settings: HttpSettings | None,
        on_access: Callable[[AccessRecord], None] | None,
        serve: Callable[[Incoming], Awaitable[bool | None]],
        streaming: bool = False,
    ) -> None:
        """`serve` and `streaming` are for Connections. `on_access` is called at the end of every request, and must not
        raise."""
        self._settings = settings or HttpSettings()
        self._on_access = on_access
        self._cors = self._settings.cors
        self._listeners: list[asyncio.Server] = []
        self._sockets: Sequence[socket] = ()
        self._connections = Connections(serve, self._refuse, streaming)
        self._running = 0
        self._open = 0
        self._none_open = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None

    async def _listen(self, sockets: Sequence[socket]) -> None:
        """Raises ListenError, after which the sockets are closed."""
        self._sockets = sockets
        try:
            for opened in sockets:
                self._listeners.append(await _listen(opened, self._connections))
        except BaseException:
            self._close_sockets(sockets)
            raise

    def _close_sockets(self, sockets: Sequence[socket]) -> None:
        for listener in self._listeners:
            listener.close()
        for opened in sockets:
            opened.close()

    async def stop(self) -> None:
        """Accepts no more, and answers what has begun to arrive. Connections that are silent close after a second.

        What still runs after `drain_timeout` is cancelled, and the connections cut. It may be called again.
        """
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop())
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        # Connections that nobody has accepted are reset with their listener.
        for opened in self._sockets:
            close_to_more(opened)
        await asyncio.sleep(CONNECTING)
        for _ in range(ACCEPTING):
            await asyncio.sleep(0)
        for listener in self._listeners:
            listener.close()
        if not await self._connections.finish(self._settings.drain_timeout) and self._open:
            self._connections.abort()
            await self._wait_until_none_open(UNWIND)
        await self._connections.close(CLOSING)

    async def _wait_until_none_open(self, seconds: float) -> None:
        """Waits until no request is under way."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._open:
                    self._none_open.clear()
                    await self._none_open.wait()

    def _ended(self) -> None:
        """A request is not under way any more."""
        self._open -= 1
        if not self._open:
            self._none_open.set()

    def own_lines(self, head: RawRequestMessage, keep_alive: bool) -> str:
        """The header lines of a response that are the server's, besides those that frame it."""
        cors = self._cors
        own = cors.lines(head.headers.get("Origin")) if cors.varies else cors.lines()
        if not keep_alive:
            own += "Connection: close\r\n"
        elif head.version != HttpVersion11:
            own += "Connection: keep-alive\r\n"
        return own

    def _refuse(self, connection: Connection, request: Malformed) -> None:
        """Answers what could not be parsed, before its connection closes."""
        status = status_of(request, self.methods)
        response = plain(status)
        own = self._cors.lines() + "Connection: close\r\n"
        body = response.body or b""
        with suppress(ConnectionError):
            connection.write(encode_head(response, "GET", own, not self._cors.off), body)
        if self._on_access:
            self._on_access(AccessRecord(connection.client, "-", "-", status, len(body), 0.0, None))


async def _listen(opened: socket, connections: Connections) -> asyncio.Server:
    try:
        return await asyncio.get_running_loop().create_server(connections, sock=opened, backlog=BACKLOG)
    except OSError as error:
        raise ListenError(name_of(opened), error) from None


def plain(status: HTTPStatus, headers: Sequence[tuple[str, str]] = ()) -> Response:
    """An answer of the server's own, which says no more than its status."""
    if status in NO_CONTENT:
        return Response(status.value, list(headers), b"")
    content_type = ("Content-Type", "text/plain; charset=utf-8")
    return Response(status.value, [content_type, *headers], f"{status.phrase}\n".encode())


_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (?:[^ \r\n]+ HTTP/([0-9])\.([0-9])\r\n|[^\r\n]*\Z)")
"""RFC 9112 section 3, with methods as in RFC 9110 section 9.1; or the beginning of such a line."""


def status_of(request: Malformed, methods: frozenset[str] | None) -> HTTPStatus:
    """What is wrong with a request that could not be parsed, where these methods are served, or all."""
    if isinstance(request.error, LineTooLong):
        too_long = request.line.find(b"\r\n", 0, MAX_LINE) < 0
        return HTTPStatus.REQUEST_URI_TOO_LONG if too_long else HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    if line := _REQUEST_LINE.match(request.line):
        method, major, minor = line.groups(b"")
        if major and (major, minor) not in ((b"1", b"0"), (b"1", b"1")):
            return HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
        if (methods is None or method.decode() not in methods) and isinstance(request.error, BadHttpMethod):
            return HTTPStatus.NOT_IMPLEMENTED
    return HTTPStatus.BAD_REQUEST


_HOST = re.compile(
    r"(?:\[[0-9A-Fa-f:.]+\]|\[v[0-9A-Fa-f]+\.[!$&'()*+,;=:._~0-9A-Za-z-]+\]|(?:[!$&'()*+,;=._~0-9A-Za-z-]|%[0-9A-Fa-f]{2})+)"
    r"(?::[0-9]*)?"
)
"""RFC 3986 section 3.2.2: an address in brackets or a name, and a port."""


@lru_cache(maxsize=256)
def is_host(text: str) -> bool:
    """RFC 9110 section 7.2 has no other characters, and lets it be empty."""
    return not text or (len(text) <= 300 and _HOST.fullmatch(text) is not None)


BAD_REQUEST = plain(HTTPStatus.BAD_REQUEST)
EXPECTATION_FAILED = plain(HTTPStatus.EXPECTATION_FAILED)
BODY_TIMEOUT = plain(HTTPStatus.REQUEST_TIMEOUT)
BUSY = plain(HTTPStatus.SERVICE_UNAVAILABLE, [("Retry-After", "1")])
FAILED = plain(HTTPStatus.INTERNAL_SERVER_ERROR)
NOT_FOUND = plain(HTTPStatus.NOT_FOUND)
NOT_IMPLEMENTED = plain(HTTPStatus.NOT_IMPLEMENTED)
TIMEOUT = plain(HTTPStatus.GATEWAY_TIMEOUT)
TOO_LARGE = plain(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def unacceptable(head: RawRequestMessage) -> Response | None:
    """The answer to a request that can't be served, whatever is behind the server."""
    headers = head.headers
    if not is_host(headers.get("Host", "")):  # the parser asks for one in HTTP/1.1, and takes no two
        return BAD_REQUEST
    if head.chunked and headers["Transfer-Encoding"].strip().lower() != "chunked":
        return NOT_IMPLEMENTED  # a body in a form that nobody here undoes
    if "Expect" in headers and head.version == HttpVersion11 and not expects_continue(head):
        return EXPECTATION_FAILED
    return None


def target_of(head: RawRequestMessage) -> str:
    """Path and query."""
    target = head.path
    return target if target[0] == "/" and "#" not in target else origin_form(target)


def expects_continue(head: RawRequestMessage) -> bool:
    """Whether the client waits for a word before it sends the body: RFC 9110 section 10.1.1."""
    return head.version == HttpVersion11 and head.headers.get("Expect", "").lower() == "100-continue"


def log_failure(head: RawRequestMessage, handler: str, reason: str) -> None:
    path = printable(target_of(head).partition("?")[0])
    _log.error("%s %s %s: %s", head.method, path, printable(handler), printable(reason))
