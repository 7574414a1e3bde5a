"""The HTTP server: aiohttp's low-level server parses requests, and what is here routes, limits and answers them."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from http import HTTPStatus
from socket import socket
from time import perf_counter
from typing import Any, cast

from bindgen.support import Err
from capabilities.bindings.http_types import Method, Request, Response
from capabilities.http import aiohttp_server as web
from capabilities.http.access import CLIENT_GONE, AccessRecord, printable
from capabilities.http.aiohttp_server import (
    HttpProcessingError,
    HttpVersion10,
    HttpVersion11,
    LineTooLong,
    StreamReader,
)
from capabilities.http.connection import SENT_AND_DONE, SENT_AND_OPEN, Connection, Server, send
from capabilities.http.dispatch import Dispatcher, HandlerFailure, resolve
from capabilities.http.limit import TimeExceeded, TimeLimit
from capabilities.http.listen import ListenError, name_of
from capabilities.http.message import NO_CONTENT, BadResponse, encode_head, guest_headers, origin_form
from capabilities.http.routes import Match, Matcher, NotFound, RouteTable
from capabilities.http.settings import HttpSettings

UNWIND = 2.0
"""How long handlers that were cancelled by `stop` may take to end, in seconds."""

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
        self._server: Server | None = None
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
            self._server = Server(self._serve, self._refuse_unparsed)
            for opened in sockets:
                self._listeners.append(await _listen(opened, self._server))
        except BaseException:
            for listener in self._listeners:
                listener.close()
            for opened in sockets:
                opened.close()
            raise

    async def stop(self) -> None:
        """Accepts no more, closes idle connections at once, and waits until the requests under way have ended.

        Those that still run after `drain_timeout` are cancelled, and their connections cut. It may be called again.
        """
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop())
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        for listener in self._listeners:
            listener.close()
        server = self._server
        if server is None:
            return
        server.pre_shutdown()
        # A request that was parsed by now starts within three turns of the loop: aiohttp's connection wakes up, makes
        # a task, and the task begins. Connections without one are idle.
        for _ in range(3):
            await asyncio.sleep(0)
        for connection in cast("list[Connection]", server.connections):
            if not connection.busy:
                connection.force_close()
        if not await self._wait_until_none_open(self._settings.drain_timeout):
            for connection in cast("list[Connection]", server.connections):
                if connection.busy and connection.transport is not None:
                    connection.transport.abort()
            await self._wait_until_none_open(UNWIND)
        await server.shutdown(0.05)

    async def _wait_until_none_open(self, seconds: float) -> bool:
        """Waits until no request is under way; says whether that came to be."""
        if self._open:
            self._none_open.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._none_open.wait()
            except TimeoutError:
                return False
        return True

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request, from its parsed head until its response is out."""
        on_access = self._on_access
        began = perf_counter() if on_access else 0.0
        connection = cast(Connection, request.protocol)
        content = request.content
        handler = None
        status, sent = CLIENT_GONE, 0
        connection.busy = True
        self._open += 1
        try:
            found = self._route(request)
            if isinstance(found, Match):
                handler = found.handler
                response = await self._answer(request, found)
            else:
                response = found
            keep_alive = request.keep_alive and content.is_eof() and self._stopping is None
            head, body, status_sent = self._encode(request, response, handler, keep_alive)
            await send(request, head, body, keep_alive)
            status, sent = status_sent, len(body)
            if keep_alive:
                return SENT_AND_OPEN
            if content.exception() is not None:
                connection.force_close()  # what is left of a broken body can't be read on
            return SENT_AND_DONE
        except ConnectionError:
            # The client is gone, and the cancellation that says so is on its way.
            return SENT_AND_DONE
        finally:
            connection.busy = False
            self._open -= 1
            if not self._open:
                self._none_open.set()
            if on_access:
                client, path = request.remote or "-", _target_of(request).partition("?")[0]
                seconds = perf_counter() - began
                on_access(AccessRecord(client, request.method, path, status, sent, seconds, handler))

    def _route(self, request: web.BaseRequest) -> Match | Response:
        """The route of a request, or the answer to a request that has none."""
        if request.version not in _VERSIONS:
            return _plain(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        method = request.method
        if method not in _METHODS:
            return _NOT_IMPLEMENTED
        target = _target_of(request)
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

    async def _answer(self, request: web.BaseRequest, match: Match) -> Response:
        """Receives the body and runs the handler, within the limits."""
        if self._running >= self._settings.max_concurrent:
            return _BUSY
        self._running += 1
        try:
            content = request.content
            body = b"" if content.at_eof() else await self._receive(request, content)
            if not isinstance(body, bytes):
                return body
            headers = guest_headers(request.raw_headers)
            message = Request(_METHODS[request.method], _target_of(request), headers, list(match.params), body)
            return await self._run(request, match.handler, message)
        finally:
            self._running -= 1

    async def _receive(self, request: web.BaseRequest, content: StreamReader) -> bytes | Response:
        """The body of a request, or the answer to one that is too long, too slow or malformed."""
        limit = self._settings.max_body
        if (request.content_length or 0) > limit:
            return _TOO_LARGE
        if not content.is_eof() and _expects_continue(request):
            await send(request, b"HTTP/1.1 100 Continue\r\n\r\n", b"")
        chunks: list[bytes] = []
        size = 0
        connection = cast(Connection, request.protocol)
        connection.receive(content)
        try:
            with self._body_limit:
                while chunk := await content.readany():
                    size += len(chunk)
                    if size > limit:
                        return _TOO_LARGE
                    chunks.append(chunk)
        except TimeExceeded:
            return _BODY_TIMEOUT
        except (web.RequestPayloadError, HttpProcessingError):
            return _BAD_REQUEST
        finally:
            connection.receive(None)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _run(self, request: web.BaseRequest, handler: str, message: Request) -> Response:
        """The handler's response, or the answer to its failure, whose reason goes to the log alone."""
        try:
            with self._handler_limit:
                return await self._dispatcher.handle(self._handlers[handler], message)
        except Err as error:
            reason = f"the handler returned the error {_describe(error.value)}"
        except HandlerFailure as failure:
            reason = str(failure)
        except TimeExceeded:
            _log_failure(request, handler, f"no answer within {self._settings.request_timeout:g} seconds")
            return _TIMEOUT
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
        _log_failure(request, handler, reason)
        return _FAILED

    def _encode(
        self, request: web.BaseRequest, response: Response, handler: str | None, keep_alive: bool
    ) -> tuple[bytes, bytes, int]:
        """Head, content and status to send: a guest's response, or a 500 in its place where it can't be sent."""
        cors = self._cors
        lines = cors.lines(request.headers.get("Origin")) if cors.varies else cors.lines()
        if not keep_alive:
            lines += "Connection: close\r\n"
        elif request.version != HttpVersion11:
            lines += "Connection: keep-alive\r\n"
        method = request.method
        try:
            head = encode_head(response, method, lines, not cors.off)
        except BadResponse as error:
            _log_failure(request, handler or "-", f"the response can't be sent: {error}")
            response = _FAILED
            head = encode_head(response, method, lines, not cors.off)
        if method == "HEAD" or response.status in NO_CONTENT:
            return head, b"", response.status
        return head, response.body or b"", response.status

    def _refuse_unparsed(self, request: web.BaseRequest, error: BaseException | None) -> None:
        """Answers what could not be parsed, before aiohttp closes its connection."""
        status = (
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if isinstance(error, LineTooLong) else HTTPStatus.BAD_REQUEST
        )
        response = _plain(status)
        lines = self._cors.lines() + "Connection: close\r\n"
        body = response.body or b""
        connection = cast(Connection, request.protocol)
        connection.write_soon(encode_head(response, "GET", lines, not self._cors.off) + body)
        connection.flush()
        if self._on_access:
            self._on_access(AccessRecord(request.remote or "-", "-", "-", status, len(body), 0.0, None))


async def _listen(opened: socket, server: Server) -> asyncio.Server:
    try:
        return await asyncio.get_running_loop().create_server(server, sock=opened, backlog=BACKLOG)
    except OSError as error:
        raise ListenError(name_of(opened), error) from None


def _plain(status: HTTPStatus, headers: Sequence[tuple[str, str]] = ()) -> Response:
    """An answer of the server's own, which says no more than its status."""
    if status in NO_CONTENT:
        return Response(status.value, list(headers), b"")
    content_type = ("Content-Type", "text/plain; charset=utf-8")
    return Response(status.value, [content_type, *headers], f"{status.phrase}\n".encode())


_BAD_REQUEST = _plain(HTTPStatus.BAD_REQUEST)
_BODY_TIMEOUT = _plain(HTTPStatus.REQUEST_TIMEOUT)
_BUSY = _plain(HTTPStatus.SERVICE_UNAVAILABLE, [("Retry-After", "1")])
_FAILED = _plain(HTTPStatus.INTERNAL_SERVER_ERROR)
_NOT_FOUND = _plain(HTTPStatus.NOT_FOUND)
_NOT_IMPLEMENTED = _plain(HTTPStatus.NOT_IMPLEMENTED)
_TIMEOUT = _plain(HTTPStatus.GATEWAY_TIMEOUT)
_TOO_LARGE = _plain(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def _target_of(request: web.BaseRequest) -> str:
    """Path and query."""
    target = request.raw_path
    return target if target[0] == "/" and "#" not in target else origin_form(target)


def _expects_continue(request: web.BaseRequest) -> bool:
    """Whether the client waits for a word before it sends the body: RFC 9110 section 10.1.1."""
    return request.version == HttpVersion11 and request.headers.get("Expect", "").lower() == "100-continue"


def _describe(error: object) -> str:
    """A case of a variant as its WIT text names it, and what it carries."""
    case = re.sub("(?<!^)([A-Z])", r"-\1", type(error).__name__.removeprefix("HttpError")).lower()
    return f"{case}: {getattr(error, 'value', '')}"


def _log_failure(request: web.BaseRequest, handler: str, reason: str) -> None:
    path = printable(_target_of(request).partition("?")[0])
    _log.error("%s %s %s: %s", request.method, path, printable(handler), printable(reason))
