"""The HTTP server: connections hand over requests that aiohttp parsed; what is here routes, limits and answers them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from http import HTTPStatus
from socket import socket
from time import perf_counter
from typing import Any

from bindgen.runtime import Err, rest
from capabilities.bindings.http_types import Method, Request, Response
from capabilities.http.access import CLIENT_GONE, AccessRecord
from capabilities.http.aiohttp_server import HttpProcessingError, RawRequestMessage
from capabilities.http.connection import BrokenContent, Incoming, content_length
from capabilities.http.dispatch import Dispatcher, HandlerFailure, resolve
from capabilities.http.limit import TimeExceeded, TimeLimit
from capabilities.http.message import NO_CONTENT, BadResponse, authority, encode_head, guest_headers
from capabilities.http.routes import Match, Matcher, NotFound, RouteTable
from capabilities.http.service import (
    BAD_REQUEST,
    BODY_TIMEOUT,
    BUSY,
    FAILED,
    NOT_FOUND,
    NOT_IMPLEMENTED,
    TIMEOUT,
    TOO_LARGE,
    VERSIONS,
    Service,
    expects_continue,
    log_failure,
    plain,
    target_of,
    unacceptable,
)
from capabilities.http.settings import HttpSettings

_METHODS = {method.name: method for method in Method}


class HttpService(Service):
    """Serves a table of routes on listening sockets."""

    methods = frozenset(_METHODS)

    def __init__(
        self,
        dispatcher: Dispatcher,
        settings: HttpSettings | None = None,
        on_access: Callable[[AccessRecord], None] | None = None,
    ) -> None:
        """`on_access` is called at the end of every request, and must not raise."""
        super().__init__(settings, on_access, self._serve)
        self._dispatcher = dispatcher
        self._handler_limit = TimeLimit(self._settings.request_timeout)
        self._body_limit = TimeLimit(self._settings.body_timeout)
        self._matcher: Matcher = RouteTable().compile()
        self._handlers: dict[str, Any] = {}

    async def start(self, sockets: Sequence[socket], table: RouteTable) -> None:
        """Listens on sockets that `bind` made, which are the service's from now on, and returns.

        Raises `Err[HttpRouterErrorUnexpectedError]` where a handler of the table is missing, and ListenError.
        """
        try:
            self._handlers = {name: resolve(self._dispatcher, name) for name in {r.handler for r in table.routes}}
            self._matcher = table.compile()
        except BaseException:
            self._close_sockets(sockets)
            raise
        await self._listen(sockets)

    async def _serve(self, request: Incoming) -> bool:
        """One request, from its parsed head until its response is out; says whether its connection goes on."""
        head, content, connection, _ = request
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
            self._ended()
            if on_access:
                path = target_of(head).partition("?")[0]
                seconds = perf_counter() - began
                on_access(AccessRecord(connection.client, head.method, path, status, sent, seconds, handler))

    def _route(self, head: RawRequestMessage) -> Match | Response:
        """The route of a request, or the answer to a request that has none."""
        if head.version not in VERSIONS:
            return plain(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        method = head.method
        if method not in _METHODS:
            return NOT_IMPLEMENTED
        refused = unacceptable(head)
        if refused is not None:
            return refused
        target = target_of(head)
        if target == "*":
            return plain(HTTPStatus.NO_CONTENT, [("Allow", "GET, HEAD, PUT, POST, DELETE, OPTIONS")])
        query = target.find("?")
        try:
            target.encode()
            found = self._matcher.match(method, target if query < 0 else target[:query])
        except ValueError:
            return BAD_REQUEST
        if isinstance(found, Match):
            return found
        if isinstance(found, NotFound):
            return NOT_FOUND
        allow = [("Allow", ", ".join(found.allowed))]
        return plain(HTTPStatus.NO_CONTENT if method == "OPTIONS" else HTTPStatus.METHOD_NOT_ALLOWED, allow)

    async def _answer(self, request: Incoming, match: Match) -> Response:
        """Receives the body and runs the handler, within the limits.

        The reason of a handler's failure goes to the log alone.
        """
        if self._running >= self._settings.max_concurrent:
            return BUSY
        head, content, _, _ = request
        self._running += 1
        try:
            body = b"" if content.at_eof() else await self._receive(request)
            if not isinstance(body, bytes):
                return body
            headers = guest_headers(head.raw_headers)
            if head.path[0] != "/" and (host := authority(head.path)) is not None:
                headers = [("host", host), *(header for header in headers if header[0] != "host")]
            message = Request(_METHODS[head.method], target_of(head), headers, list(match.params), body)
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
                log_failure(head, match.handler, f"no answer within {self._settings.request_timeout:g} seconds")
                return TIMEOUT
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
            log_failure(head, match.handler, reason)
            return FAILED
        finally:
            self._running -= 1

    async def _receive(self, request: Incoming) -> bytes | Response:
        """The body of a request, or the answer to one that is too long, too slow or malformed."""
        head, content, connection, _ = request
        limit = self._settings.max_body
        if content_length(head) > limit:
            return TOO_LARGE
        chunks: list[bytes] = []
        size = 0
        try:
            if content.is_eof():  # all of it has come
                body = content.read_nowait()
                return body if len(body) <= limit else TOO_LARGE
            if expects_continue(head):
                connection.write(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
            with self._body_limit:
                while chunk := await content.readany():
                    size += len(chunk)
                    if size > limit:
                        return TOO_LARGE
                    chunks.append(chunk)
        except TimeExceeded:
            return BODY_TIMEOUT
        except (BrokenContent, HttpProcessingError):
            return BAD_REQUEST
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _encode(
        self, head: RawRequestMessage, response: Response, handler: str | None, keep_alive: bool
    ) -> tuple[bytes, bytes, int]:
        """Head, content and status to send: a guest's response, or a 500 in its place where it can't be sent."""
        own, ours = self.own_lines(head, keep_alive), not self._cors.off
        method = head.method
        try:
            lines = encode_head(response, method, own, ours)
        except BadResponse as error:
            log_failure(head, handler or "-", f"the response can't be sent: {error}")
            response = FAILED
            lines = encode_head(response, method, own, ours)
        if method == "HEAD" or response.status in NO_CONTENT:
            return lines, b"", response.status
        return lines, response.body or b"", response.status


def _describe(error: object) -> str:
    """A case of a variant as its WIT text names it, and what it carries."""
    case = re.sub("(?<!^)([A-Z])", r"-\1", type(error).__name__.removeprefix("HttpError")).lower()
    return f"{case}: {getattr(error, 'value', '')}"
