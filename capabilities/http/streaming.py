"""The HTTP server in front of a handler that reads bodies and writes responses piece by piece."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from http import HTTPStatus
from socket import socket
from time import perf_counter
from typing import Any

from bindgen.runtime import rest
from capabilities.bindings.http_types import Response
from capabilities.http.access import CLIENT_GONE, AccessRecord, printable
from capabilities.http.aiohttp_server import HttpVersion11, RawRequestMessage
from capabilities.http.answer import Answer
from capabilities.http.body import IncomingBody
from capabilities.http.connection import Incoming, content_length
from capabilities.http.dispatch import HandlerFailure, StreamingDispatcher, WrongLength
from capabilities.http.message import NO_CONTENT, Fields, authority, encode_head, informational_head
from capabilities.http.service import (
    BAD_REQUEST,
    BUSY,
    FAILED,
    TIMEOUT,
    TOO_LARGE,
    UNWIND,
    VERSIONS,
    Service,
    expects_continue,
    plain,
    target_of,
    unacceptable,
)
from capabilities.http.settings import HttpSettings

DISCARDED = 256 * 1024
"""Up to how many bytes of a body that no handler has read are read, for the sake of the next request."""

_log = logging.getLogger("slight_py.http")


class StreamingService(Service):
    """Serves all requests, of any method, with one handler."""

    def __init__(
        self,
        dispatcher: StreamingDispatcher,
        settings: HttpSettings | None = None,
        on_access: Callable[[AccessRecord], None] | None = None,
    ) -> None:
        """`on_access` is called at the end of every response, and must not raise."""
        super().__init__(settings, on_access, self._serve, streaming=True)
        self._dispatcher = dispatcher
        self.settings = self._settings
        self.cors_is_ours = not self._cors.off
        self._silence = _Silence(self._settings.request_timeout)
        self._afterwards: set[asyncio.Task[object]] = set()
        """The tasks of handlers that go on after their responses."""

    async def start(self, sockets: Sequence[socket]) -> None:
        """Listens on sockets that `bind` made, which are the service's from now on, and returns. Raises ListenError."""
        await self._listen(sockets)

    async def _stop(self) -> None:
        ends = asyncio.get_running_loop().time() + self._settings.drain_timeout
        await super()._stop()
        await self._wait_until_none_open(max(0.0, ends - asyncio.get_running_loop().time()))
        for task in self._afterwards:
            task.cancel()
        await self._wait_until_none_open(UNWIND)

    async def _serve(self, request: Incoming) -> bool | None:
        """One request, until its handler ends; says whether its connection goes on, or None where that has begun."""
        head, content, connection, _ = request
        self._open += 1
        began = perf_counter() if self._on_access else 0.0
        try:
            refusal = self._refusal(head)
            if refusal is None:
                return await self._exchange(_Exchange(self, request, began))
            keep_alive = not head.should_close and content.is_eof() and not connection.ends
            return await self._reply(request, refusal, keep_alive, began)
        except ConnectionError:
            return False  # the client is gone, and the cancellation that says so is on its way
        finally:
            self._ended()

    async def _exchange(self, exchange: _Exchange) -> bool | None:
        """Runs the handler, and does what is left to do when it has ended. Returns what `_serve` does."""
        self._running += 1
        try:
            try:
                begun = self._begin(exchange)
                if begun is not None:
                    await self._go_on(exchange, *begun)
            finally:
                self._running -= 1
                exchange.end()
            return None if exchange.handed_over else await self._after(exchange)
        except (ConnectionError, asyncio.CancelledError):
            if exchange.handed_over:
                return None  # the connection is another task's
            raise
        finally:
            if not exchange.recorded:
                exchange.record(CLIENT_GONE)
            if exchange.handed_over:
                self._afterwards.discard(exchange.task)

    def _refusal(self, head: RawRequestMessage) -> Response | None:
        """The answer to a request that no handler sees."""
        if head.version not in VERSIONS:
            return plain(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        refusal = unacceptable(head)
        if refusal is None and content_length(head) > self._settings.max_body:
            return TOO_LARGE
        if refusal is None and not _is_text(head.path):
            return BAD_REQUEST
        if refusal is None and self._running >= self._settings.max_concurrent:
            return BUSY
        return refusal

    def _begin(self, exchange: _Exchange) -> tuple[Coroutine[Any, Any, None], Any] | None:
        """Runs the handler until it waits for something; what is left of it then, and what it waits for.

        Most are done at once, and need nothing of what those need that wait.
        """
        handling = self._dispatcher.handle(exchange)
        try:
            awaited = handling.send(None)
        except StopIteration:
            exchange.complete()
            return None
        except Exception as error:
            self._failed(exchange, error)
            return None
        exchange.suspended()
        return handling, awaited

    async def _go_on(self, exchange: _Exchange, handling: Coroutine[Any, Any, None], awaited: Any) -> None:
        """Runs what is left of the handler, within the limits."""
        self._silence.add(exchange)
        try:
            await rest(handling, awaited)
        except asyncio.CancelledError:
            if not exchange.out_of_time or exchange.task.uncancel():
                raise
            exchange.failed(exchange.lateness(self._settings.request_timeout), TIMEOUT)
        except Exception as error:
            self._failed(exchange, error)
        else:
            exchange.complete()
        finally:
            self._silence.discard(exchange)

    def _failed(self, exchange: _Exchange, error: Exception) -> None:
        """Answers where the handler doesn't. Raises ConnectionError where the client is gone."""
        match error:
            case HandlerFailure():
                exchange.failed(str(error), FAILED)
            case ConnectionError() if exchange.connection.gone:
                raise error
            case WrongLength():
                pass  # it's in the log
            case _:
                exchange.failed(f"{type(error).__name__}: {error}", FAILED)

    async def _after(self, exchange: _Exchange) -> bool:
        """What is left to do when a handler has ended; says whether the connection goes on."""
        request = exchange.request
        answer = exchange.answer
        if answer is None:
            assert exchange.refusal is not None
            exchange.recorded = True
            return await self._reply(request, exchange.refusal, exchange.before_head(), exchange.began)
        connection = request.connection
        if connection.writing_paused:
            await connection.drain()
        exchange.record(answer.status)
        if not exchange.keep_alive or exchange.body_failed:
            return False
        return request.content.is_eof() or await connection.discard(request.content, DISCARDED)

    async def _reply(self, request: Incoming, response: Response, keep_alive: bool, began: float) -> bool:
        """Sends an answer of the server's own; says whether the connection goes on."""
        head, content, connection, _ = request
        lines = encode_head(response, head.method, self.own_lines(head, keep_alive), self.cors_is_ours)
        body = b"" if head.method == "HEAD" or response.status in NO_CONTENT else response.body or b""
        sent = False
        try:
            connection.write(lines, body, keep_alive)
            if connection.writing_paused:
                await connection.drain()
            sent = True
        finally:
            status = response.status if sent else CLIENT_GONE
            self.record(request, status, len(body) if sent else 0, began)
        return keep_alive and (content.is_eof() or await connection.discard(content, DISCARDED))

    def hand_over(self, exchange: _Exchange) -> None:
        """Has the connection of a response that is finished go on, while its handler still has something to do."""
        assert exchange.answer is not None
        exchange.handed_over = True
        exchange.record(exchange.answer.status)
        self._afterwards.add(exchange.task)
        self._silence.discard(exchange)
        self._silence.add(exchange)
        request = exchange.request
        request.connection.hand_over(request.content, exchange.keep_alive)

    def record(self, request: Incoming, status: int, sent: int, began: float) -> None:
        """Tells of a request that is over."""
        if self._on_access is not None:
            head = request.head
            path = target_of(head).partition("?")[0]
            seconds = perf_counter() - began
            self._on_access(AccessRecord(request.connection.client, head.method, path, status, sent, seconds, None))


class _Exchange:
    """Implements `Exchange`, and `Terms` of the response."""

    scheme = "http"

    __slots__ = (
        "_body",
        "_seen",
        "_service",
        "_started",
        "answer",
        "authority",
        "began",
        "client",
        "connection",
        "cors_is_ours",
        "eager",
        "ended",
        "handed_over",
        "headers",
        "is_http_11",
        "keep_alive",
        "method",
        "out_of_time",
        "recorded",
        "refusal",
        "request",
        "target",
        "task",
    )

    def __init__(self, service: StreamingService, request: Incoming, began: float) -> None:
        head, _, connection, _ = request
        self._service = service
        self.request = request
        self.began = began
        self.connection = connection
        self.client = connection.client
        self.method = head.method
        self.target = "" if head.method == "CONNECT" else target_of(head)
        self.authority = _authority(head)
        self.headers = head.raw_headers
        self.is_http_11 = head.version == HttpVersion11
        self.cors_is_ours = service.cors_is_ours
        self._body: IncomingBody | None = None
        self.answer: Answer | None = None
        self.refusal: Response | None = None
        """The answer of the server's own in place of the handler's."""
        self.eager = False
        self.ended = False
        self.keep_alive = False
        self.handed_over = False
        self.out_of_time = False
        self.recorded = False
        self.task: asyncio.Task[object]
        """What runs the handler, from its first waiting on."""
        self._started = False
        self._seen = (0, 0)
        """How much was read and written when somebody last looked."""
        connection.on_writable = self._writable

    # For the handler.

    @property
    def body(self) -> IncomingBody:
        body = self._body
        if body is None:
            head, content, _, _ = self.request
            expects = not content.is_eof() and expects_continue(head)
            body = self._body = IncomingBody(self.request, self._service.settings, expects)
        return body

    def inform(self, status: int, headers: Fields) -> None:
        head = informational_head(status, headers)
        if self._started:
            raise RuntimeError("the response has begun already")
        if self.is_http_11:
            self.connection.write(head, b"", True)

    def start(self, status: int, headers: Fields, patience: float = 0.0) -> Answer:
        if self._started:
            raise RuntimeError("the response has begun already")
        answer = Answer(self, status, headers, self.eager, patience)
        self._started = True
        self.answer = answer
        return answer

    def fail(self, status: int, reason: str) -> None:
        if self._started:
            raise RuntimeError("the response has begun already")
        self._started = True
        self.failed(reason, plain(HTTPStatus(status)))

    # For the service.

    def suspended(self) -> None:
        """The handler waits for the first time: from now on, others have their turn while it works."""
        self.eager = True
        self.task = _current_task()
        if self.answer is not None:
            if self.answer.done:
                self._go_on()
            else:
                self.answer.suspended()
        self.has_moved()

    def failed(self, reason: str, refusal: Response) -> None:
        """Answers with `refusal`, or cuts the connection where a part of the response is out."""
        answer = self.answer
        if answer is not None and answer.head_sent and not answer.done:
            answer.cut(reason)
            return
        self._log(reason)
        if answer is not None and answer.done:
            return
        if answer is not None:
            answer.forget()
            self.answer = None
        if self.refusal is None:
            self.refusal = refusal

    def end(self) -> None:
        """The handler has ended."""
        self.ended = True
        if self._body is not None:
            self._body.close()
        if not self.handed_over:
            self.connection.on_writable = None
        if self.answer is not None:
            self.answer.forget()

    def complete(self) -> None:
        """The handler has ended as it should: complains where the response is not whole. Raises ConnectionError where
        that is because the client is gone."""
        if self.connection.gone and (self.answer is None or not self.answer.done):
            raise ConnectionResetError("the client is gone")
        if self.answer is None:
            if self.refusal is None:
                self.failed("the handler ended without a response", FAILED)
        elif not self.answer.done:
            self.failed("the handler ended before its response was whole", FAILED)

    @property
    def body_failed(self) -> bool:
        """Whether the body couldn't be read, because of the client."""
        return self._body is not None and self._body.failed

    def record(self, status: int) -> None:
        """Tells of the request, once, that it's over."""
        if not self.recorded:
            self.recorded = True
            self._service.record(self.request, status, self.answer.sent if self.answer else 0, self.began)

    def has_moved(self) -> bool:
        """Whether something was read or written since the last call, or the handler waits for the client."""
        answer = self.answer
        seen = (self.body.size_read, answer.written if answer else -1)
        before, self._seen = self._seen, seen
        if self.handed_over:
            return False
        return seen != before or self.body.waiting or (answer is not None and answer.waiting)

    def lateness(self, seconds: float) -> str:
        """What a handler did that took longer than that."""
        if self.handed_over:
            return f"the handler has not ended {seconds:g} seconds after its response"
        return f"no {'answer' if self.answer is None else 'more of the answer'} within {seconds:g} seconds"

    # Terms of the response.

    def own_lines(self, keep_alive: bool) -> str:
        return self._service.own_lines(self.request.head, keep_alive)

    def before_head(self) -> bool:
        head, content, connection, _ = self.request
        if head.should_close or connection.ends:
            goes_on = False
        elif content.at_eof():
            return True
        else:
            goes_on = content.exception() is None and not self.body.failed
        body = self.body
        if body.expects and body.wanted:
            body.expect_more()  # it would be too late afterwards
        expects, body.expects = body.expects, False
        return goes_on and not expects

    def finished(self, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        if self.eager:
            asyncio.get_running_loop().call_soon(self._go_on)

    def was_cut(self, reason: str, head_sent: bool) -> None:
        self._log(reason)
        if self._body is not None:
            self._body.close()
        if not head_sent:
            self.answer, self.refusal = None, FAILED
        elif self.eager:
            asyncio.get_running_loop().call_soon(self._go_on, True)

    def _go_on(self, cut: bool = False) -> None:
        """Has the connection go on without the handler, once that has no more to do with it."""
        if not self.ended and not self.handed_over and (cut or self.request.content.is_eof()):
            self.connection.on_writable = None
            self._service.hand_over(self)

    def _writable(self) -> None:
        if self.answer is not None:
            self.answer.writable()

    def _log(self, reason: str) -> None:
        path = printable(target_of(self.request.head).partition("?")[0])
        _log.error("%s %s: %s", printable(self.method), path, printable(reason))


class _Silence:
    """Ends handlers that neither read nor write for a time, and those that go on for as long after their response.

    As the time is the same for all, one timer serves them, as in TimeLimit.
    """

    __slots__ = ("_due", "_seconds", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due: dict[_Exchange, float] = {}
        """When to look at each of them, the first to look at first."""
        self._timer: asyncio.TimerHandle | None = None

    def add(self, exchange: _Exchange) -> None:
        """The time of a handler begins."""
        loop = asyncio.get_running_loop()
        self._due[exchange] = due = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(due, self._look)

    def discard(self, exchange: _Exchange) -> None:
        self._due.pop(exchange, None)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._timer = None
        while self._due:
            exchange, due = next(iter(self._due.items()))
            if due > now:
                self._timer = loop.call_at(due, self._look)
                return
            del self._due[exchange]
            if exchange.has_moved():
                self._due[exchange] = now + self._seconds
            else:
                exchange.out_of_time = True
                exchange.task.cancel()


def _current_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None, "a handler runs in a task"
    return task


def _is_text(path: str) -> bool:
    """Whether a target is UTF-8: the parser has surrogates for what isn't."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _authority(head: RawRequestMessage) -> str | None:
    """Host and port of a request: those of its target, where that has them, else of the header Host."""
    target = head.path
    if target[0] != "/" and target != "*":
        found = target if head.method == "CONNECT" else authority(target)
        if found is not None:
            return found
    return head.headers.get("Host") or None
