"""aiohttp's side of the server: its protocol for a connection with our limits, and the way a response goes out.

Responses are written to the connection straight away, as their framing is known in full (message.py), and aiohttp is
told that they are out. That keeps aiohttp's defaults (a Content-Type, a Server header) off a guest's response.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

from capabilities.http import aiohttp_server as web
from capabilities.http.access import printable
from capabilities.http.aiohttp_server import AbstractStreamWriter, StreamReader

MAX_LINE = 8190
"""The longest request target, and the longest header with its name, in bytes (aiohttp's default, and Apache's)."""

MAX_HEADERS = 128
"""The most headers of a request (aiohttp's default)."""

IDLE_TIMEOUT = 75.0
"""How long a connection may take to send the head of its next request, in seconds (nginx's `keepalive_timeout`)."""

LINGER = 2.0
"""How long a body that nobody wants is read on, in seconds, so that the client gets to read the answer."""

SEND_STALL = 30.0
"""How long a client may take nothing of a response that waits for it, in seconds."""

ONE_WRITE = 64 * 1024
"""Up to how many bytes of content are copied behind the head, to be one packet with it."""

_log = logging.getLogger("slight_py.http")


async def send(request: web.BaseRequest, head: bytes, body: bytes, goes_on: bool = False) -> None:
    """Writes a response, and waits until the connection has room for more, as a client may not read what it asked for.

    Where the connection `goes_on`, a short response goes out at the end of this turn of the event loop, together with
    those to others: a client that sleeps is woken once for all of them, and each waking costs more than the write.

    Raises ConnectionError where the client is gone, or took nothing for SEND_STALL.
    """
    connection = cast(Connection, request.protocol)
    transport = connection.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client is gone")
    if len(body) <= ONE_WRITE:
        connection.write_soon(head + body)
        if not goes_on:
            connection.flush()
    else:
        connection.write_soon(head)
        connection.flush()
        transport.write(body)
    if connection.writing_paused:
        await _drain(request.writer, transport)


async def _drain(writer: AbstractStreamWriter, transport: asyncio.Transport) -> None:
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def check(waiting: int) -> None:
        nonlocal timer
        still_waiting = transport.get_write_buffer_size()
        if still_waiting < waiting:
            timer = loop.call_later(SEND_STALL, check, still_waiting)
        else:
            transport.abort()

    timer = loop.call_later(SEND_STALL, check, transport.get_write_buffer_size())
    try:
        await writer.drain()
    finally:
        timer.cancel()
    if transport.is_closing():
        raise ConnectionResetError("the client is gone, or took nothing")


class _Sent(web.StreamResponse):
    """What aiohttp gets for a response that is out already: nothing to do but to go on, or to close."""

    def __init__(self, keep_alive: bool) -> None:
        super().__init__()
        self._goes_on = keep_alive

    @property
    def keep_alive(self) -> bool:
        return self._goes_on

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


SENT_AND_OPEN = _Sent(keep_alive=True)
SENT_AND_DONE = _Sent(keep_alive=False)


class Server(web.Server):
    """Makes the protocol of each connection."""

    def __init__(
        self,
        serve: Callable[[web.BaseRequest], Any],
        refuse_unparsed: Callable[[web.BaseRequest, BaseException | None], None],
    ) -> None:
        super().__init__(serve, handler_cancellation=True)
        self.refuse_unparsed = refuse_unparsed
        self._unwritten: list[Connection] = []

    def flush_soon(self, connection: Connection) -> None:
        """Has the connection flush at the end of this turn of the event loop."""
        if not self._unwritten:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unwritten.append(connection)

    def _flush(self) -> None:
        unwritten, self._unwritten = self._unwritten, []
        for connection in unwritten:
            connection.flush()

    def __call__(self) -> web.RequestHandler:
        return Connection(
            self,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=IDLE_TIMEOUT,
            lingering_time=LINGER,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            max_headers=MAX_HEADERS,
            auto_decompress=False,  # a guest gets the body that its Content-Encoding tells of
            access_log=cast(logging.Logger, None),
            logger=_log,
        )


class Connection(web.RequestHandler):
    """aiohttp's protocol, with our word for what it says to clients and to the log itself."""

    __slots__ = ("_flush_soon", "_receiving", "_refuse_unparsed", "_unwritten", "busy")

    def __init__(self, server: Server, **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self._flush_soon = server.flush_soon
        self._refuse_unparsed = server.refuse_unparsed
        self._unwritten = b""
        """What is to be written at the end of this turn of the event loop."""
        self.busy = False
        """Whether a request is under way."""
        self._receiving: StreamReader | None = None

    def write_soon(self, data: bytes) -> None:
        if not self._unwritten:
            self._flush_soon(self)
        self._unwritten += data

    def flush(self) -> None:
        """Writes what waits to be written."""
        data, self._unwritten = self._unwritten, b""
        if data and self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def close(self) -> None:
        self.flush()
        super().close()

    def force_close(self) -> None:
        self.flush()
        super().force_close()

    def receive(self, content: StreamReader | None) -> None:
        """Says which body a request waits for."""
        self._receiving = content
        if content is not None:
            self._check_framing(content)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._receiving is not None:
            self._check_framing(self._receiving)

    def _check_framing(self, content: StreamReader) -> None:
        """Ends the wait for a body whose framing broke.

        aiohttp 3.14 queues such an error as if it were the next request, and leaves the body's reader to wait. Nothing
        else can be in the queue before the body is complete.
        """
        if self._messages and not content.is_eof():
            content.set_exception(web.RequestPayloadError("the framing of the body is broken"))

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if message is not None:
            _log.debug("a request that can't be parsed: %s", printable(message))
            self._refuse_unparsed(request, exc)
        else:
            # Not the handler's failure but ours. Part of an answer may be out, so there is no other one.
            self.log_exception("the server failed", exc_info=exc)
            self.force_close()
        return SENT_AND_DONE

    def log_exception(self, *args: Any, **kw: Any) -> None:
        error = kw.get("exc_info")
        _log.error("%s: %s", args[0], printable(f"{type(error).__name__}: {error}"))
