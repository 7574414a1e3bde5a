"""The HTTP server: connections hand over requests that aiohttp parsed; what is here routes, limits and answers them."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from http import HTTPStatus
from socket import socket
from time import perf_counter
from typing import Any

from bindgen.runtime import Err, rest
from capabilities.bindings.http_types import Method, Request, Response
from capabilities.http.access import CLIENT_GONE, AccessRecord, printable
from capabilities.http.aiohttp_server import (
    BadHttpMethod,
    HttpProcessingError,
    HttpVersion10,
    HttpVersion11,
    LineTooLong,
    RawRequestMessage,
)
from capabilities.http.connection import (
    MAX_LINE,
    BrokenContent,
    Connection,
    Connections,
    Incoming,
    Malformed,
    content_length,
)
from capabilities.http.dispatch import Dispatcher, HandlerFailure, resolve
from capabilities.http.limit import TimeExceeded, TimeLimit
from capabilities.http.listen import ListenError, close_to_more, name_of
from capabilities.http.message import NO_CONTENT, BadResponse, authority, encode_head, guest_headers, origin_form
from capabilities.http.routes import Match, Matcher, NotFound, RouteTable
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

_VERSIONS = (HttpVersion11, HttpVersion10)

_METHODS = {method.name: method for method in Method}

_log = logging.getLogger("slight_py.http")


class HttpService:
    """Serves a table of routes on listening sockets."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        settings: HttpSettings | None = None,
        on_access: Callable[[AccessRecord], None] | None = None,
    ) -> None:
        """`on_access` is called at the end of every request, and must not raise."""
        self._dispatcher = dispatcher
        self._settings = settings or HttpSettings()
        self._on_access = on_access
        self._cors = self._settings.cors
        self._handler_limit = TimeLimit(self._settings.request_timeout)
        self._body_limit = TimeLimit(self._settings.body_timeout)
        self._matcher: Matcher = RouteTable().compile()
        self._handlers: dict[str, Any] = {}
        self._listeners: list[asyncio.Server] = []
        self._sockets: Sequence[socket] = ()
        self._connections = Connections(self._serve, self._refuse)
        self._running = 0
        self._open = 0
        self._none_open = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None

    async def start(self, sockets: Sequence[socket], table: RouteTable) -> None:
        """Listens on sockets that `bind` made, which are the service's from now on, and returns.

        Raises `Err[HttpRouterErrorUnexpectedError]` where a handler of the table is missing, and ListenError.
        """
        try:
            self._handlers = {name: resolve(self._dispatcher, name) for name in {r.handler for r in table.routes}}
            self._matcher = table.compile()
            self._sockets = sockets
            for opened in sockets:
                self._listeners.append(await _listen(opened, self._connections))
        except BaseException:
            for listener in self._listeners:
                listener.close()
            for opened in sockets:
                opened.close()
            raise

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

    async def _serve(self, request: Incoming) -> bool:
        """One request, from its parsed head until its response is out; says whether its connection goes on."""
        head, content, connection = request
        on_access = self._on_access
        began = perf_counter() if on_access else 0.0
        handler = None
        status, sent = CLIENT_GONE, 0
        self._open += 1
        try:
            found = self._route(head)
            if isinstance(found, Match):
                handler = found.handler
                response = await self._answer(request, found)
            else:
                response = found
            keep_alive = not head.should_close and content.is_eof() and not connection.ends
            lines, body, status_sent = self._encode(head, response, handler, keep_alive)
            connection.write(lines, body, keep_alive)
            if connection.writing_paused:
                await connection.drain()
            status, sent = status_sent, len(body)
            return keep_alive
        except ConnectionError:
            # The client is gone, and the cancellation that says so is on its way.
            return False
        finally:
            self._open -= 1
            if not self._open:
                self._none_open.set()
            if on_access:
                path = _target_of(head).partition("?")[0]
                seconds = perf_counter() - began
                on_access(AccessRecord(connection.client, head.method, path, status, sent, seconds, handler))

    def _route(self, head: RawRequestMessage) -> Match | Response:
        """The route of a request, or the answer to a request that has none."""
        if head.version not in _VERSIONS:
            return _plain(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        method = head.method
        if method not in _METHODS:
            return _NOT_IMPLEMENTED
        headers = head.headers
        if not _is_host(headers.get("Host", "")):  # the parser asks for one in HTTP/1.1, and takes no two
            return _BAD_REQUEST
        if head.chunked and headers["Transfer-Encoding"].strip().lower() != "chunked":
            return _NOT_IMPLEMENTED  # a body in a form that nobody here undoes
        if "Expect" in headers and head.version == HttpVersion11 and not _expects_continue(head):
            return _EXPECTATION_FAILED
        target = _target_of(head)
        if target == "*":
            return _plain(HTTPStatus.NO_CONTENT, [("Allow", "GET, HEAD, PUT, POST, DELETE, OPTIONS")])
        query = target.find("?")
        try:
            target.encode()
            found = self._matcher.match(method, target if query < 0 else target[:query])
        except ValueError:
            return _BAD_REQUEST
        if isinstance(found, Match):
            return found
        if isinstance(found, NotFound):
            return _NOT_FOUND
        allow = [("Allow", ", ".join(found.allowed))]
        return _plain(HTTPStatus.NO_CONTENT if method == "OPTIONS" else HTTPStatus.METHOD_NOT_ALLOWED, allow)

    async def _answer(self, request: Incoming, match: Match) -> Response:
        """Receives the body and runs the handler, within the limits.

        The reason of a handler's failure goes to the log alone.
        """
        if self._running >= self._settings.max_concurrent:
            return _BUSY
        head, content, _ = request
        self._running += 1
        try:
            body = b"" if content.at_eof() else await self._receive(request)
            if not isinstance(body, bytes):
                return body
            headers = guest_headers(head.raw_headers)
            if head.path[0] != "/" and (host := authority(head.path)) is not None:
                headers = [("host", host), *(header for header in headers if header[0] != "host")]
            message = Request(_METHODS[head.method], _target_of(head), headers, list(match.params), body)
            handling = self._dispatcher.handle(self._handlers[match.handler], message)
            try:
                try:
                    awaited = handling.send(None)
                except StopIteration as done:  # at once, as most are
                    answer: Response = done.value
                    return answer
                with self._handler_limit:
                    return await rest(handling, awaited)
            except Err as error:
                reason = f"the handler returned the error {_describe(error.value)}"
            except HandlerFailure as failure:
                reason = str(failure)
            except TimeExceeded:
                _log_failure(head, match.handler, f"no answer within {self._settings.request_timeout:g} seconds")
                return _TIMEOUT
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
            _log_failure(head, match.handler, reason)
            return _FAILED
        finally:
            self._running -= 1

    async def _receive(self, request: Incoming) -> bytes | Response:
        """The body of a request, or the answer to one that is too long, too slow or malformed."""
        head, content, connection = request
        limit = self._settings.max_body
        if content_length(head) > limit:
            return _TOO_LARGE
        chunks: list[bytes] = []
        size = 0
        try:
            if content.is_eof():  # all of it has come
                body = content.read_nowait()
                return body if len(body) <= limit else _TOO_LARGE
            if _expects_continue(head):
                connection.write(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
            with self._body_limit:
                while chunk := await content.readany():
                    size += len(chunk)
                    if size > limit:
                        return _TOO_LARGE
                    chunks.append(chunk)
        except TimeExceeded:
            return _BODY_TIMEOUT
        except (BrokenContent, HttpProcessingError):
            return _BAD_REQUEST
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _encode(
        self, head: RawRequestMessage, response: Response, handler: str | None, keep_alive: bool
    ) -> tuple[bytes, bytes, int]:
        """Head, content and status to send: a guest's response, or a 500 in its place where it can't be sent."""
        cors = self._cors
        own = cors.lines(head.headers.get("Origin")) if cors.varies else cors.lines()
        if not keep_alive:
            own += "Connection: close\r\n"
        elif head.version != HttpVersion11:
            own += "Connection: keep-alive\r\n"
        method = head.method
        try:
            lines = encode_head(response, method, own, not cors.off)
        except BadResponse as error:
            _log_failure(head, handler or "-", f"the response can't be sent: {error}")
            response = _FAILED
            lines = encode_head(response, method, own, not cors.off)
        if method == "HEAD" or response.status in NO_CONTENT:
            return lines, b"", response.status
        return lines, response.body or b"", response.status

    def _refuse(self, connection: Connection, request: Malformed) -> None:
        """Answers what could not be parsed, before its connection closes."""
        status = _status_of(request)
        response = _plain(status)
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


def _plain(status: HTTPStatus, headers: Sequence[tuple[str, str]] = ()) -> Response:
    """An answer of the server's own, which says no more than its status."""
    if status in NO_CONTENT:
        return Response(status.value, list(headers), b"")
    content_type = ("Content-Type", "text/plain; charset=utf-8")
    return Response(status.value, [content_type, *headers], f"{status.phrase}\n".encode())


_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (?:[^ \r\n]+ HTTP/([0-9])\.([0-9])\r\n|[^\r\n]*\Z)")
"""RFC 9112 section 3, with methods as in RFC 9110 section 9.1; or the beginning of such a line."""


def _status_of(request: Malformed) -> HTTPStatus:
    """What is wrong with a request that could not be parsed."""
    if isinstance(request.error, LineTooLong):
        too_long = request.line.find(b"\r\n", 0, MAX_LINE) < 0
        return HTTPStatus.REQUEST_URI_TOO_LONG if too_long else HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    if line := _REQUEST_LINE.match(request.line):
        method, major, minor = line.groups(b"")
        if major and (major, minor) not in ((b"1", b"0"), (b"1", b"1")):
            return HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
        if method.decode() not in _METHODS and isinstance(request.error, BadHttpMethod):
            return HTTPStatus.NOT_IMPLEMENTED
    return HTTPStatus.BAD_REQUEST


_HOST = re.compile(
    r"(?:\[[0-9A-Fa-f:.]+\]|\[v[0-9A-Fa-f]+\.[!$&'()*+,;=:._~0-9A-Za-z-]+\]|(?:[!$&'()*+,;=._~0-9A-Za-z-]|%[0-9A-Fa-f]{2})+)"
    r"(?::[0-9]*)?"
)
"""RFC 3986 section 3.2.2: an address in brackets or a name, and a port."""


@lru_cache(maxsize=256)
def _is_host(text: str) -> bool:
    """RFC 9110 section 7.2 has no other characters, and lets it be empty."""
    return not text or (len(text) <= 300 and _HOST.fullmatch(text) is not None)


_BAD_REQUEST = _plain(HTTPStatus.BAD_REQUEST)
_EXPECTATION_FAILED = _plain(HTTPStatus.EXPECTATION_FAILED)
_BODY_TIMEOUT = _plain(HTTPStatus.REQUEST_TIMEOUT)
_BUSY = _plain(HTTPStatus.SERVICE_UNAVAILABLE, [("Retry-After", "1")])
_FAILED = _plain(HTTPStatus.INTERNAL_SERVER_ERROR)
_NOT_FOUND = _plain(HTTPStatus.NOT_FOUND)
_NOT_IMPLEMENTED = _plain(HTTPStatus.NOT_IMPLEMENTED)
_TIMEOUT = _plain(HTTPStatus.GATEWAY_TIMEOUT)
_TOO_LARGE = _plain(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def _target_of(head: RawRequestMessage) -> str:
    """Path and query."""
    target = head.path
    return target if target[0] == "/" and "#" not in target else origin_form(target)


def _expects_continue(head: RawRequestMessage) -> bool:
    """Whether the client waits for a word before it sends the body: RFC 9110 section 10.1.1."""
    return head.version == HttpVersion11 and head.headers.get("Expect", "").lower() == "100-continue"


def _describe(error: object) -> str:
    """A case of a variant as its WIT text names it, and what it carries."""
    case = re.sub("(?<!^)([A-Z])", r"-\1", type(error).__name__.removeprefix("HttpError")).lower()
    return f"{case}: {getattr(error, 'value', '')}"


def _log_failure(head: RawRequestMessage, handler: str, reason: str) -> None:
    path = printable(_target_of(head).partition("?")[0])
    _log.error("%s %s %s: %s", head.method, path, printable(handler), printable(reason))
