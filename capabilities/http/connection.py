"""A client's connection: aiohttp parses what comes, and here is the order in which it is answered, and for how long.

Requests of a connection are answered one after the other, by one task that lives as long as the connection. aiohttp's
own protocol is for applications that know nothing of the wire: on Python 3.11 it makes a task for each request, which
takes longer than to parse it. Responses are written here in full, as their framing is known (message.py).
"""

from __future__ import annotations

import asyncio
import logging
import re
import resource
import struct
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from socket import SO_KEEPALIVE, SO_LINGER, SOL_SOCKET
from typing import NamedTuple, cast

from capabilities.http.access import printable
from capabilities.http.aiohttp_server import (
    BadHttpMessage,
    BadHttpMethod,
    BaseProtocol,
    HttpProcessingError,
    HttpRequestParser,
    RawRequestMessage,
    StreamReader,
)

MAX_LINE = 8190
"""The longest request target, and the longest header with its name, in bytes (aiohttp's default, and Apache's)."""

MAX_HEADERS = 128
"""The most headers of a request (aiohttp's default)."""

MAX_PIPELINED = 16
"""The most requests of a connection that are parsed and not answered; then the client isn't read on for a while."""

MAX_IN_A_ROW = 8
"""How many requests of a connection are answered before others have their turn."""

READ_AHEAD = 64 * 1024
"""Up to how many bytes of a body are received before somebody asks for them; twice that stops the client."""

IDLE_TIMEOUT = 75.0
"""How long a connection may take to send the head of its next request, in seconds (nginx's `keepalive_timeout`)."""

GRACE = 1.0
"""How long a connection that is silent is kept when the server stops, in seconds: a request may be on its way."""

LINGER = 2.0
"""How long a body that nobody wants is read on, in seconds, so that the client gets to read the answer."""

SEND_STALL = 30.0
"""How long a client may take nothing of a response that waits for it, in seconds."""

MAX_UNSENT = 256 * 1024 * 1024
"""Up to how many bytes of responses wait for their clients in a process; then who holds the most is cut off."""

WARN_EVERY = 60.0
"""Seconds from one warning that descriptors run short to the next."""

WRITE_LATER = 128 * 1024
"""Up to how many bytes of responses wait for the end of a turn of the event loop."""

MAX_REQUEST_LINE = MAX_LINE + 100
"""Up to how many bytes of a request line are looked at, when it is malformed: method and version come on top."""

MAX_FRAMING, FRAMING_PER_BYTE = 64 * 1024, 8
"""How many bytes the sizes, extensions and trailers of the chunks of a body may take, and besides that for each byte of
the body: chunks of a single byte take five."""

MAX_TRAILERS = 64 * 1024
"""How many bytes the trailers of a body in chunks may take, with the line of the last chunk."""

_END_OF_HEAD = b"\r\n\r\n"

_EXTENSION_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}(?= |\Z)")
"""A method as RFC 9110 section 9.1 has it, or the beginning of one."""

_KNOWN_METHOD = b"PUT"
"""What the parser is given in the place of a method that it doesn't know: one that means nothing to it."""

_NEVER_PAUSES = (3, 12) <= sys.version_info < (3, 12, 9) or (3, 13) <= sys.version_info < (3, 13, 2)
"""Whether asyncio's `writelines` doesn't say that a client takes nothing (CVE-2024-12254)."""

_log = logging.getLogger("slight_py.http")


class BrokenContent(Exception):
    """The body of a request can't be read on: its framing is broken."""


class Incoming(NamedTuple):
    """A request as it comes in."""

    head: RawRequestMessage
    """As aiohttp parsed it."""
    content: StreamReader
    connection: Connection
    ending: Ending | None = None
    """What is kept of a body in chunks, where trailers are wanted."""


class Ending:
    """The end of a body in chunks, as it came over the wire: the parser reads the trailers, and tells nobody."""

    __slots__ = ("_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0

    def add(self, piece: bytes) -> None:
        """The next bytes that came. No more of those before are kept than trailers may have."""
        pieces = self._pieces
        pieces.append(piece)
        self._size += len(piece)
        while self._size - len(pieces[0]) > MAX_TRAILERS:
            self._size -= len(pieces.popleft())

    def lines(self) -> list[bytes] | None:
        """The lines of the trailers of a body that has ended, or None where they are larger than MAX_TRAILERS.

        Such a body ends with the line of the last chunk, the trailers and an empty line, all of which the parser has
        checked. The line of the last chunk is the last one that is none of a field.
        """
        tail = b"".join(self._pieces)[-MAX_TRAILERS:]
        lines = tail.removesuffix(_END_OF_HEAD).split(b"\r\n")
        for number in range(len(lines) - 1, -1, -1):
            if not _FIELD.match(lines[number]):
                return lines[number + 1 :] if number or self._size <= MAX_TRAILERS else None
        return None


_FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:")
"""How the line of a field begins."""


class Malformed(NamedTuple):
    """What could not be parsed, in the place of a request."""

    error: HttpProcessingError
    line: bytes
    """What came, at least its first line, or up to MAX_REQUEST_LINE of that."""


def content_length(head: RawRequestMessage) -> int:
    """How long the body is, as far as the head says it. The parser has seen that it's a number."""
    digits = head.headers.get("Content-Length", "").lstrip("0")
    return int(digits or 0)


def _has_two_spaces(line: bytes) -> bool:
    """RFC 9112 section 3 has one space between method, target and version; the parser takes several."""
    at = line.find(b"  ")
    return at >= 0 and at < line.find(b"\r\n")


class Connections:
    """All connections of a server, and what they answer with."""

    def __init__(
        self,
        serve: Callable[[Incoming], Awaitable[bool | None]],
        refuse: Callable[[Connection, Malformed], None],
        streaming: bool = False,
    ) -> None:
        """`serve` answers a request, and says whether its connection goes on, or None where it called `hand_over`;
        `refuse` answers what is malformed. With `streaming`, requests have trailers and may have any method."""
        self.serve = serve
        self.refuse = refuse
        self.streaming = streaming
        self.open: set[Connection] = set()
        self.finishing = False
        """Whether connections close after the answer to what has begun to arrive."""
        self.stalled: set[Connection] = set()
        """Those whose clients have more to receive than they take at once."""
        self._closed = asyncio.Event()
        self._unwritten: list[Connection] = []
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._descriptors = most if most != resource.RLIM_INFINITY else sys.maxsize
        self._warned = float("-inf")

    def __call__(self) -> Connection:
        """The protocol of a new connection."""
        return Connection(self)

    async def finish(self, seconds: float) -> bool:
        """Has each connection close when what has begun to arrive is answered, or when it's silent for GRACE.

        Says whether all are closed within that many seconds.
        """
        self.finishing = True
        for connection in list(self.open):
            connection.finish()
        return await self._wait_until_all_closed(seconds)

    def abort(self) -> None:
        """Cuts all connections, and cancels what they answer."""
        for connection in list(self.open):
            connection.abort()

    async def close(self, seconds: float) -> None:
        """Closes all connections. What was written may take that long until it's out."""
        tasks = [task for connection in self.open if (task := connection.task) is not None]
        for connection in list(self.open):
            connection.close()
        await self._wait_until_all_closed(seconds)
        self.abort()
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    async def _wait_until_all_closed(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while self.open:
                    self._closed.clear()
                    await self._closed.wait()
        except TimeoutError:
            return False
        return True

    def bound_unsent(self) -> None:
        """Cuts off the clients that hold the most of what waits to be sent, where that is too much in all."""
        held = {connection: connection.unsent for connection in self.stalled}
        too_much = sum(held.values()) - MAX_UNSENT
        while too_much > 0:
            most = max(held, key=held.__getitem__)
            too_much -= held.pop(most)
            self.stalled.discard(most)
            _log.warning(
                "%s is cut off: responses that clients don't read take more than %d MiB, and it holds the most of them",
                most.client,
                MAX_UNSENT >> 20,
            )
            most.abort()

    def check_descriptors(self, newest: int) -> None:
        """Warns where few descriptors are left: connections for which there is none are closed by the event loop, which
        says nothing. The system gives the smallest number that is free."""
        if newest >= self._descriptors - max(8, self._descriptors // 20):
            now = time.monotonic()
            if now - self._warned >= WARN_EVERY:
                self._warned = now
                _log.warning(
                    "of the %d descriptors that this process may have, few are left: connections may fail (ulimit -n)",
                    self._descriptors,
                )

    def closed(self, connection: Connection) -> None:
        """One of them is closed."""
        self.open.discard(connection)
        self.stalled.discard(connection)
        self._closed.set()

    def flush_soon(self, connection: Connection) -> None:
        """Has the connection flush at the end of this turn of the event loop."""
        if not self._unwritten:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unwritten.append(connection)

    def _flush(self) -> None:
        unwritten, self._unwritten = self._unwritten, []
        for connection in unwritten:
            connection.flush()


class Connection(BaseProtocol):
    """A connection to a client."""

    __slots__ = (
        "_answering",
        "_body_left",
        "_chunked_size",
        "_connections",
        "_content",
        "_deaf",
        "_draining",
        "_ending",
        "_endings",
        "_finishing",
        "_idle_until",
        "_in_chunks",
        "_line",
        "_lingering",
        "_method",
        "_parsed",
        "_says_no_more",
        "_seam",
        "_stall",
        "_timer",
        "_unfed",
        "_unwritten",
        "_unwritten_size",
        "_waiter",
        "client",
        "on_writable",
        "task",
    )

    transport: asyncio.Transport | None
    """None once the connection is closed."""

    def __init__(self, connections: Connections) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(loop, self._new_parser(loop))
        self._connections = connections
        self._parsed: deque[tuple[RawRequestMessage, StreamReader] | Malformed] = deque()
        self._content: StreamReader | None = None
        """The body of the last request that was parsed."""
        self._body_left = 0
        """How many bytes of that body are to come, where its length is known."""
        self._in_chunks = False
        """Whether that body comes in chunks, of which nobody knows how many there are."""
        self._chunked_size = 0
        """How many bytes of that body have come, where it comes in chunks, with their framing."""
        self._line = b""
        """What has come of the next head: at least its first line, or up to MAX_REQUEST_LINE of that."""
        self._seam = b""
        """The last bytes that came, if the end of a head may go through there."""
        self._unfed = b""
        """What came and the parser has not been given yet."""
        self.task: asyncio.Task[None] | None = None
        """What answers the requests."""
        self._waiter: asyncio.Future[None] | None = None
        """What the task waits for when there is nothing to answer."""
        self._finishing = False
        """Whether there is nothing to answer after what was parsed by now."""
        self._answering = False
        """Whether there is a request without an answer, besides those that are parsed."""
        self._lingering = False
        """Whether all that the client sends is a body that was refused."""
        self._says_no_more = False
        """Whether nothing comes any more, but what has come is answered."""
        self._draining = False
        """Whether the answer to what has begun to arrive is the last one: the server stops."""
        self._deaf = False
        """Whether what comes is of no use any more."""
        self._idle_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._unwritten: list[bytes] = []
        """What is to be written at the end of this turn of the event loop."""
        self._unwritten_size = 0
        self.client = "-"
        """The address of the other end."""
        self._ending: Ending | None = None
        """Of the body that comes, where it comes in chunks and trailers are wanted."""
        self._endings: deque[Ending] = deque()
        """Those of the requests in `_parsed`."""
        self._method = ""
        """The method of the next request, where the parser was given another."""
        self._stall: asyncio.TimerHandle | None = None
        """Cuts the connection off where the client takes nothing of what is written."""
        self.on_writable: Callable[[], None] | None = None
        """Called when there is room for more after there was none. Where it's set, a client that takes nothing is cut
        off without anybody's `drain`."""

    def _new_parser(self, loop: asyncio.AbstractEventLoop) -> HttpRequestParser:
        return HttpRequestParser(
            self,
            loop,
            READ_AHEAD,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            max_headers=MAX_HEADERS,
            payload_exception=BrokenContent,
            auto_decompress=False,  # a guest gets the body that its Content-Encoding tells of
            max_msg_queue_size=MAX_PIPELINED,
        )

    # From the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if opened := transport.get_extra_info("socket"):
            opened.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
            self._connections.check_descriptors(opened.fileno())
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.client = str(peer[0])
        self._connections.open.add(self)
        self._now_idle()
        if self._connections.finishing:
            self.finish()
        self.task = self._loop.create_task(self._run())

    def data_received(self, data: bytes) -> None:
        """The parser gets each request in a piece of its own: where it finds something malformed, it forgets what it
        found before in the same piece."""
        if self._deaf or self._parser is None:
            return
        if (
            not (self._unfed or self._body_left or self._line or self._in_chunks)
            and data.find(_END_OF_HEAD) == len(data) - 4 >= 0
        ):
            self._line = data
            self._feed(data)  # one request without a body, or its head: so it is most often
        elif self._unfed or not data:
            self._feed(b"")  # which has the parser go on with what it holds
            data, self._unfed = self._unfed + data, b""
            self._feed_pieces(data)
        else:
            self._feed_pieces(data)
        if len(self._parsed) >= MAX_PIPELINED - 1 and not self._buffer_paused:
            self._pause_reading_for_buffer()

    def _feed_pieces(self, data: bytes) -> None:
        start = 0
        while start < len(data) and not self._deaf:
            if self._reading_paused or len(self._parsed) >= MAX_PIPELINED - 1:
                self._unfed = data[start:]
                return
            if self._body_left:
                end = min(len(data), start + self._body_left)
                self._body_left -= end - start
            else:
                end = self._end_of_piece(data, start)
            piece = data[start:end]
            start = end
            if self._in_chunks and self._ending is not None:
                self._ending.add(piece)
            self._feed(piece)
            if self._in_chunks and not self._reading_paused:
                self._check_framing()

    def _check_framing(self) -> None:
        """Refuses a body in chunks that is mostly framing."""
        content = self._content
        assert content is not None
        framing = self._chunked_size - content.total_bytes
        if framing > MAX_FRAMING + FRAMING_PER_BYTE * content.total_bytes:
            content.set_exception(BrokenContent("the framing of the chunks is out of proportion to the body"))
            self._finishing = self._deaf = True

    def _end_of_piece(self, data: bytes, start: int) -> int:
        """Where the head ends that goes on at `start`, or may: in chunks, nobody knows where a body ends."""
        across = (self._seam + data[start : start + 3]).find(_END_OF_HEAD)
        if across >= 0:
            end = start + across + len(_END_OF_HEAD) - len(self._seam)
            self._seam = b""
        elif (at := data.find(_END_OF_HEAD, start)) >= 0:
            end = at + len(_END_OF_HEAD)
            self._seam = b""
        else:
            end = len(data)
            self._seam = (self._seam + data[max(start, end - 3) :])[-3:]
        if self._in_chunks and self._content is not None and self._content.is_eof():
            self._in_chunks = False
            # The parser would take the last trailer for a header of the next request.
            self._parser = self._new_parser(self._loop)
        if not self._in_chunks:
            if len(self._line) <= MAX_REQUEST_LINE:
                self._line += data[start : min(end, start + MAX_REQUEST_LINE + 1)]
        else:
            self._chunked_size += end - start
        return end

    def _feed(self, data: bytes) -> None:
        parser = self._parser
        upgraded = True
        while upgraded and parser is not None and not self._deaf:
            try:
                messages, upgraded, data = parser.feed_data(data)
            except HttpProcessingError as error:
                if isinstance(error, BadHttpMethod) and self._connections.streaming and self._take_method(data):
                    return
                self._malformed(error)
                return
            if upgraded:
                # The client would speak something else, is not heard, and goes on with HTTP.
                parser.set_upgraded(False)
            if not messages:
                continue
            if self._finishing:
                self._deaf = True  # the answer before was the last
                return
            head, content = messages[-1]
            if self._method:
                head = head._replace(method=self._method)
                messages, self._method = [(head, content)], ""
            line, self._line = self._line, b""
            if _has_two_spaces(line):
                self._malformed(BadHttpMessage("the request line has more than one space in a row"))
                return
            self._chunked_size = 0
            self._in_chunks = head.chunked
            self._body_left = 0 if head.chunked or content.is_eof() else content_length(head)
            self._parsed.extend(messages)
            self._content = content
            if head.chunked and self._connections.streaming:
                self._ending = Ending()
                self._endings.append(self._ending)
            self._finishing = self._draining
            self._wake()
            if head.method == "CONNECT":
                # What comes next is for the other end of a tunnel.
                self._finishing = self._deaf = True
                return

    def _take_method(self, data: bytes) -> bool:
        """Has the parser take a request for another, with a method that it knows; says whether it's a method at all.

        The parser has a list of methods, and nothing is wrong with others. `data` is what it refused.
        """
        if self._method or (self._content is not None and not self._content.is_eof()):
            return False
        came = self._line  # all that came of this head, unless it's long
        before = came[: -len(data)] if came.endswith(data) else came[: -(MAX_REQUEST_LINE + 1)]
        head = before + data
        token = _EXTENSION_METHOD.match(head)
        if token is None or (token.end() == len(head) and len(head) > 100):
            return False
        self._parser = self._new_parser(self._loop)
        if token.end() == len(head):
            self._line, self._unfed = b"", head  # the rest of it is on its way
        else:
            self._method = token.group().decode()
            self._feed(_KNOWN_METHOD + head[token.end() :])
        return True

    def _malformed(self, error: HttpProcessingError) -> None:
        self._deaf = True
        if self._content is not None and not self._content.is_eof():
            # The parser leaves the reader of a body whose framing breaks to wait.
            self._content.set_exception(BrokenContent("the framing of the body is broken"))
        elif not self._finishing:
            self._parsed.append(Malformed(error, self._line))
            self._wake()
        self._finishing = True

    def eof_received(self) -> bool:
        """The client says no more, or is gone, which looks the same: requests that wait for their turn are answered,
        and a handler at work is ended, as nobody may be there who would read its answer."""
        self.flush()
        self._says_no_more = True
        return bool(self._parsed) and not self._answering

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.closed(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._content is not None and not self._content.is_eof():
            self._content.set_exception(ConnectionResetError("the client is gone"))
        if self.task is not None:
            self.task.cancel()
        self._end_stall()
        super().connection_lost(exc)
        self._parser = None

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.on_writable is not None:
            self._begin_stall()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.on_writable is not None:
            self._end_stall()
            self.on_writable()

    # Requests, one after the other.

    def hand_over(self, content: StreamReader, goes_on: bool) -> None:
        """Has another task go on after the answer to a request, as the one that calls this has something else to do.

        `content` is the body of that request, of which nobody reads what has yet to come.
        """
        self.task = self._loop.create_task(self._run(content, goes_on))

    async def _run(self, answered: StreamReader | None = None, goes_on: bool = True) -> None:
        """Answers requests until the connection ends. With `answered` and `goes_on`, the one before is answered."""
        parsed = self._parsed
        in_a_row = 0
        handed_over = False
        try:
            if answered is not None:
                if self.writing_paused:
                    with suppress(ConnectionError):  # the client is gone, and this task is about to be cancelled
                        await self.drain()
                if not await self._go_on(answered, goes_on):
                    return
            while True:
                if not parsed:
                    if self._finishing or self._says_no_more:
                        break
                    in_a_row = 0
                    self._waiter = self._loop.create_future()
                    try:
                        await self._waiter
                    finally:
                        self._waiter = None
                    continue
                request = parsed.popleft()
                self._answering = True
                if isinstance(request, Malformed):
                    _log.debug("a request that can't be parsed: %s", printable(request.error.message))
                    self._connections.refuse(self, request)
                    await self._see_off()
                    break
                head, content = request
                ending = self._endings.popleft() if head.chunked and self._endings else None
                served = await self._connections.serve(Incoming(head, content, self, ending))
                if served is None:
                    handed_over = True
                    return
                if not await self._go_on(content, served):
                    break
                in_a_row += 1
                if in_a_row == MAX_IN_A_ROW:
                    in_a_row = 0
                    await asyncio.sleep(0)
        except Exception as error:
            # Not the handler's failure but ours. Part of an answer may be out, so there is no other one.
            _log.error("the server failed: %s", printable(f"{type(error).__name__}: {error}"))
        finally:
            if not handed_over:
                self.task = None
                self.close()

    async def _go_on(self, content: StreamReader, goes_on: bool) -> bool:
        """What is to do after the answer to a request with that body. Says whether there may be another request."""
        self._answered()
        if not content.is_eof():
            await self._linger(content)
        if not goes_on:
            await self._see_off()
            return False
        self._answering = False
        self._now_idle()
        return True

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _answered(self) -> None:
        """Lets the parser go on with what it holds back while enough requests have no answer."""
        if self._parser is None:
            return
        self._parser.message_consumed()
        if self._buffer_paused and len(self._parsed) <= MAX_PIPELINED // 2:
            self.data_received(b"")
            if len(self._parsed) < MAX_PIPELINED - 1:
                self._resume_reading_for_buffer()

    async def _linger(self, content: StreamReader) -> None:
        """Reads on for a while what nobody wants: a client that is cut off while it sends may not read the answer."""
        self._lingering = True
        try:
            async with asyncio.timeout(LINGER):
                while not content.is_eof():
                    await content.readany()
        except (TimeoutError, ConnectionError):
            pass
        except (BrokenContent, HttpProcessingError):
            await self._see_off()
        finally:
            self._lingering = False

    async def _see_off(self) -> None:
        """The same for a client of which nothing more is heard: until it leaves, or for LINGER."""
        self._deaf = True
        self.flush()
        self._resume_transport_reading()
        if self.transport is not None and not self.transport.is_closing() and self.transport.can_write_eof():
            with suppress(OSError):  # it has left
                self.transport.write_eof()
                await asyncio.sleep(LINGER)

    def _now_idle(self) -> None:
        self._idle_until = self._loop.time() + IDLE_TIMEOUT
        if self._timer is None:
            self._set_timer(self._idle_until, self._check_idle)

    def _check_idle(self) -> None:
        """There is one timer for all the times that the connection is idle."""
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return  # the end of the request sets it again
        if self._draining and self._line:
            self._idle_until = self._loop.time() + IDLE_TIMEOUT  # the drain timeout bounds it
        if self._loop.time() < self._idle_until:
            self._set_timer(self._idle_until, self._check_idle)
        else:
            self.close()

    def _set_timer(self, when: float, then: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, then)

    # Responses.

    @property
    def ends(self) -> bool:
        """Whether no request comes after the one that is being answered."""
        return (self._finishing or self._draining) and not self._parsed

    def write(self, head: bytes, body: bytes, goes_on: bool = False) -> None:
        """Writes a response.

        Where the connection `goes_on`, responses that aren't long go out at the end of this turn of the event loop,
        together with those to others: a client that sleeps is woken once for all of them, and each waking costs more
        than the write.

        Raises ConnectionError where the client is gone.
        """
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError("the client is gone")
        if not self._unwritten:
            self._connections.flush_soon(self)
        self._unwritten += (head, body) if body else (head,)
        self._unwritten_size += len(head) + len(body)
        if not goes_on or self._unwritten_size > WRITE_LATER:
            self.flush()

    def flush(self) -> None:
        """Writes what waits to be written."""
        parts, self._unwritten, self._unwritten_size = self._unwritten, [], 0
        if parts and self.transport is not None and not self.transport.is_closing():
            if _NEVER_PAUSES:
                self.transport.write(b"".join(parts))
            else:
                self.transport.writelines(parts)

    @property
    def unsent(self) -> int:
        """How many bytes of responses wait until the client takes them."""
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    @property
    def gone(self) -> bool:
        """Whether nothing can be written any more."""
        return self.transport is None or self.transport.is_closing()

    @property
    def waiting(self) -> int:
        """How many bytes wait to be written, or until the client takes them."""
        return self._unwritten_size + self.unsent

    async def drain(self) -> None:
        """Waits until there is room for more, as a client may not read what it asked for.

        Raises ConnectionError where the client is gone, or took nothing for SEND_STALL.
        """
        transport = cast(asyncio.Transport, self.transport)
        self._begin_stall()
        try:
            await self._drain_helper()
        finally:
            self._end_stall()
        if transport.is_closing():
            raise ConnectionResetError("the client is gone, or took nothing")

    def _begin_stall(self) -> None:
        """Has the connection cut off where the client takes nothing from now on."""
        if self._stall is None:
            self._stall = self._loop.call_later(SEND_STALL, self._check_stall, self.unsent)
            self._connections.stalled.add(self)
            self._connections.bound_unsent()

    def _check_stall(self, waiting: int) -> None:
        still_waiting = self.unsent
        if still_waiting < waiting:
            self._stall = self._loop.call_later(SEND_STALL, self._check_stall, still_waiting)
        elif self.transport is not None:
            self.transport.abort()

    def _end_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
            self._connections.stalled.discard(self)

    async def discard(self, content: StreamReader, most: int) -> bool:
        """Reads up to `most` bytes of a body that nobody wants, for LINGER at most. Says whether that was all of it."""
        try:
            async with asyncio.timeout(LINGER):
                while not content.at_eof() and most > 0:
                    most -= len(await content.readany())
        except (TimeoutError, ConnectionError, BrokenContent, HttpProcessingError):
            return False
        return content.at_eof()

    # The end.

    def finish(self) -> None:
        """Closes when what has begun to arrive is answered, or when nothing comes for GRACE."""
        self._draining = True
        if self._lingering:
            self.close()
        elif (self._answering or self._parsed) and not self._line:
            self._finishing = True  # the next answer is the last
        elif not self._line:
            self._idle_until = self._loop.time() + GRACE
            self._set_timer(self._idle_until, self._check_idle)

    def close(self) -> None:
        """Closes when what was written is out, or the client has taken nothing of the end of it for SEND_STALL."""
        self._finishing = self._deaf = True
        self.flush()
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.close()
            if transport.get_write_buffer_size():
                self._set_timer(self._loop.time() + SEND_STALL, transport.abort)

    def reset(self) -> None:
        """Closes so that the client learns that something is missing, which the end of a connection doesn't say."""
        if self.transport is not None and (opened := self.transport.get_extra_info("socket")):
            with suppress(OSError):  # it's closed
                opened.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self.abort()

    def abort(self) -> None:
        """Closes without more ado."""
        self._finishing = self._deaf = True
        if self.transport is not None:
            self.transport.abort()
