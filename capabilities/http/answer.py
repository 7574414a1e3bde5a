"""The response to a request, as a handler writes it piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from capabilities.http.connection import Connection
from capabilities.http.dispatch import WrongLength
from capabilities.http.message import NO_CONTENT, Fields, date_line, encoded, field_lines, status_line, trailer_lines

ROOM = 128 * 1024
"""Up to how many bytes of a response wait here and in the transport, before its writer is to wait."""


class Framing(Enum):
    """How a client learns where a body ends: RFC 9112 section 6."""

    NONE = "no body"
    LENGTH = "Content-Length"
    CHUNKS = "chunks"
    CLOSE = "the end of the connection"


class Terms(Protocol):
    """What the exchange of a response knows about it."""

    method: str
    connection: Connection
    is_http_11: bool
    cors_is_ours: bool

    def own_lines(self, keep_alive: bool) -> str:
        """The server's own header lines."""

    def before_head(self) -> bool:
        """The head is about to be sent; says whether the connection may go on after the response."""

    def finished(self, keep_alive: bool) -> None:
        """All of the response was written."""

    def was_cut(self, reason: str, head_sent: bool) -> None:
        """The response won't get whole: its connection is closed, or there is another one where the head isn't out."""


class Answer:
    """Implements `ResponseBody`.

    The head and the pieces that are written are held until the end of the turn of the event loop, or until there is
    much of them. A response that is whole by then is one write, with a Content-Length.
    """

    __slots__ = (
        "_bodyless",
        "_call",
        "_connection",
        "_declared",
        "_done",
        "_eager",
        "_framing",
        "_held",
        "_held_size",
        "_keep_alive",
        "_lines",
        "_patience",
        "_scheduled",
        "_terms",
        "sent",
        "status",
        "written",
    )

    def __init__(self, terms: Terms, status: int, headers: Fields, eager: bool, patience: float) -> None:
        """With `eager`, what is held goes out at the end of the turn, the head up to `patience` seconds later; without
        it, when `suspended`, `send` or `finish` is called. Raises BadResponse.
        """
        line = status_line(status)
        fields = field_lines(headers, terms.cors_is_ours)
        self._terms = terms
        self._connection = terms.connection
        self._lines: bytes | None = line + fields.lines + (b"" if fields.dated else date_line())
        """Of the head, until it's sent."""
        self._bodyless = terms.method == "HEAD" or status in NO_CONTENT
        self._declared = None if status in NO_CONTENT else fields.length
        self._framing = Framing.NONE
        self._held: list[bytes] = []
        self._held_size = 0
        self._keep_alive = False
        self._patience = patience
        self._scheduled: asyncio.Handle | None = None
        """What calls `send`."""
        self._call: Callable[[], None] | None = None
        self._done = False
        self._eager = eager
        self.status = status
        self.written = 0
        """How many bytes the handler wrote."""
        self.sent = 0
        """How many of them were sent."""
        if eager:
            self._schedule()

    @property
    def head_sent(self) -> bool:
        return self._lines is None

    @property
    def done(self) -> bool:
        """Whether it's finished or cut."""
        return self._done

    # For who writes.

    @property
    def room(self) -> int:
        if self._bodyless:
            return ROOM
        connection = self._connection
        if connection.writing_paused:
            return 0
        left = ROOM - self._held_size
        if self._lines is None:  # before, what waits is of others
            left -= connection.waiting
        return left if left > 0 else 0

    def write(self, data: bytes) -> None:
        self._check_open()
        self.written += len(data)
        if self._declared is not None and self.written > self._declared and self._terms.method != "HEAD":
            self._cut_for_length()
        if self._bodyless or not data:
            return
        self._held.append(data)
        self._held_size += len(data)
        if self._held_size >= ROOM:
            self.send()
        elif self._eager:
            self._schedule()

    def when_room(self, call: Callable[[], None]) -> None:
        self._call = call
        if self.room > 0:
            self.writable()
        else:
            self._patience = 0.0
            self._unschedule()
            self._schedule()

    async def drain(self) -> None:
        while self.room <= 0:
            self._check_open()
            there = asyncio.Event()
            self.when_room(there.set)
            await there.wait()
        self._check_open()

    def finish(self, trailers: Fields = ()) -> None:
        self._check_open()
        if self._declared is not None and self.written != self._declared and not self._bodyless:
            self._cut_for_length()
        lines = trailer_lines(trailers) if trailers else b""
        if self._lines is not None and not (lines and self._declared is None):
            head = self._head(self._whole_length())
            self._connection.write(head, b"".join(self._held), self._keep_alive)
            self.sent = self._held_size
        else:
            self.send()
        if self._framing is Framing.CHUNKS:
            self._connection.write(b"0\r\n" + lines + b"\r\n", b"", self._keep_alive)
        self._close()
        self._terms.finished(self._keep_alive)

    def cut(self, reason: str) -> None:
        if self._done:
            return
        if self.head_sent and not self._connection.gone:
            self.send()
        self._close()
        if self._framing is Framing.CLOSE:
            self._connection.reset()
        self._terms.was_cut(reason, self.head_sent)

    # For the server.

    @property
    def waiting(self) -> bool:
        """Whether the writer waits for the client."""
        return self._call is not None

    def forget(self) -> None:
        """Nothing more of it is sent."""
        if not self._done:
            self._close()

    def suspended(self) -> None:
        """The writer waits for the first time, and others have their turn."""
        self._eager = True
        if self._patience:
            self._schedule()
        else:
            self.send()

    def send(self) -> None:
        """Sends what is held."""
        self._unschedule()
        if self._done:
            return
        if self._lines is not None:
            self._connection.write(self._head(self._declared), b"", True)
        size, parts = self._held_size, self._held
        if size:
            self._held, self._held_size = [], 0
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            if self._framing is Framing.CHUNKS:
                self._connection.write(b"%x\r\n" % size, data, True)
                self._connection.write(b"\r\n", b"", True)
            else:
                self._connection.write(b"", data, True)
            self.sent += size
        if self._call is not None:
            self._connection.flush()
            if self.room > 0:
                self.writable()

    def writable(self) -> None:
        """There is room."""
        call, self._call = self._call, None
        if call is not None:
            call()

    def _schedule(self) -> None:
        if self._scheduled is None:
            loop = asyncio.get_running_loop()
            if self._patience and self._lines is not None:
                self._scheduled = loop.call_later(self._patience, self._send_later)
            else:
                self._scheduled = loop.call_soon(self._send_later)

    def _send_later(self) -> None:
        if self._connection.gone:
            self._unschedule()
            self.writable()  # who waits for room is told then
        else:
            self.send()

    def _unschedule(self) -> None:
        scheduled, self._scheduled = self._scheduled, None
        if scheduled is not None:
            scheduled.cancel()

    def _whole_length(self) -> int | None:
        """The Content-Length of a response that is whole. That to HEAD says how long the one to GET is, if the handler
        told."""
        if self._declared is not None or self.status in NO_CONTENT:
            return self._declared
        return self.written or (None if self._bodyless else 0)

    def _head(self, length: int | None) -> bytes:
        """The head, which is about to be sent, of a response with a body of that length; None where nobody knows it."""
        lines, self._lines = self._lines, None
        assert lines is not None
        terms = self._terms
        keep_alive = terms.before_head()
        if self.status == 205:
            framing = b"Content-Length: 0\r\n"
        elif length is not None:
            framing = b"Content-Length: %d\r\n" % length
            self._framing = Framing.NONE if self._bodyless else Framing.LENGTH
        elif self._bodyless:
            framing = b""
        elif terms.is_http_11:
            framing = b"Transfer-Encoding: chunked\r\n"
            self._framing = Framing.CHUNKS
        else:
            framing, keep_alive = b"", False
            self._framing = Framing.CLOSE
        self._keep_alive = keep_alive
        return b"".join((lines, encoded(terms.own_lines(keep_alive)), framing, b"\r\n"))

    def _check_open(self) -> None:
        if self._done or self._connection.gone:
            raise ConnectionResetError("the response is over, or the client is gone")

    def _close(self) -> None:
        self._done = True
        self._unschedule()
        self._held, self._held_size = [], 0
        self.writable()

    def _cut_for_length(self) -> None:
        """Raises WrongLength."""
        assert self._declared is not None
        error = WrongLength(self.written, self._declared)
        self.cut(str(error))
        raise error
