"""The body of a request, as it's written while it's sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from capabilities.http.dispatch import WrongLength
from capabilities.http.message import trailer_lines
from capabilities.http_client import Broken, HttpClientError

ROOM = 64 * 1024
"""Up to how many bytes wait to be sent, before their writer is to wait."""


class Upload:
    """Implements `ResponseBody` for a request: one writer writes, and aiohttp sends."""

    __slots__ = (
        "_call",
        "_declared",
        "_finished",
        "_held",
        "_held_size",
        "_over",
        "_sending",
        "_trailers",
        "_woken",
        "failure",
        "on_sent",
        "written",
    )

    def __init__(self, declared: int | None = None) -> None:
        """`declared` is what Content-Length says."""
        self._declared = declared
        self._held: list[bytes] = []
        self._held_size = 0
        self._trailers = b""
        self._finished = False
        self._over = False
        self._sending = False
        self._woken = asyncio.Event()
        self._call: Callable[[], None] | None = None
        self.written = 0
        """How many bytes were written."""
        self.failure: HttpClientError | WrongLength | None = None
        """Why the body won't get whole."""
        self.on_sent: Callable[[], None] | None = None
        """Called when some of it was sent."""

    # For who writes.

    @property
    def room(self) -> int:
        return ROOM if self.failure is not None else max(0, ROOM - self._held_size)

    def write(self, data: bytes) -> None:
        self._check_open()
        self.written += len(data)
        if self._declared is not None and self.written > self._declared:
            self._wrong_length()
        if data:
            self._held.append(data)
            self._held_size += len(data)
            self._woken.set()

    def when_room(self, call: Callable[[], None]) -> None:
        self._call = call
        if self.room > 0:
            self._writable()

    async def drain(self) -> None:
        while self.room <= 0:
            there = asyncio.Event()
            self.when_room(there.set)
            await there.wait()
        self._check_open()

    def finish(self, trailers: Sequence[tuple[str, bytes]] = ()) -> None:
        """Where the exchange is over before, the response says what became of it, and this is no error."""
        if self._declared is not None and self.written != self._declared:
            self._wrong_length()
        if self._over:
            return
        self._check_open()
        self._trailers = trailer_lines(trailers)
        self._finished = True
        self._woken.set()

    def cut(self, reason: str) -> None:
        self._fail(Broken(reason))

    def abandon(self) -> None:
        """Nothing more is sent: the exchange is over."""
        self._over = True
        self._fail(Broken("the request is over"))

    # For the client.

    def payload(self) -> Payload | bytes | None:
        """What aiohttp sends: the whole, where there is all of it and no trailers."""
        if self._finished and not self._trailers and self.failure is None:
            if self._declared == 0 or not self._held:
                return None
            data = b"".join(self._held)
            self._held, self._held_size = [], 0
            return data
        return _Payload(self, self._declared)

    async def send(self, writer: Any) -> None:
        """Sends what is written until that ends. Raises what `failure` says."""
        if self._sending:
            raise Broken("the server closed the connection before the response was whole")
        self._sending = True
        try:
            while True:
                if self.failure is not None:
                    raise self.failure
                if self._held:
                    data = self._held[0] if len(self._held) == 1 else b"".join(self._held)
                    self._held, self._held_size = [], 0
                    self._writable()
                    await writer.write(data)
                    if self.on_sent is not None:
                        self.on_sent()
                elif self._finished:
                    break
                else:
                    self._woken.clear()
                    writer.send_headers()
                    await self._woken.wait()
            if self._trailers and writer.chunked:
                writer.chunked = False  # the last chunk is written here, as aiohttp knows of no trailers
                await writer.write(b"0\r\n" + self._trailers + b"\r\n")
        finally:
            self.abandon()

    # In between.

    def _writable(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()

    def _check_open(self) -> None:
        if self._finished or self.failure is not None:
            raise ConnectionResetError("the request's body is over")

    def _wrong_length(self) -> NoReturn:
        assert self._declared is not None
        error = WrongLength(self.written, self._declared)
        self._fail(error)
        raise error

    def _fail(self, error: HttpClientError | WrongLength) -> None:
        if self.failure is None and not self._finished:
            self.failure = error
            self._held, self._held_size = [], 0
            self._woken.set()
            self._writable()


class _Payload(Payload):
    """An upload as aiohttp sends it."""

    _autoclose = True

    def __init__(self, upload: Upload, size: int | None) -> None:
        super().__init__(upload)
        self._size = size

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("a body that is streamed has no text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self._value.send(writer)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        await self._value.send(writer)
