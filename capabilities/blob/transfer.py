"""Streams of objects that are kept behind a network: in parts, of which few are in memory at once.

A reader asks for one range of the object after the other, so between two reads it holds no connection, and after an
outage it goes on. A writer sends part by part, and what was sent becomes an object when it's committed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from capabilities.blob import READ_LIMIT, BlobError, Busy, TooLarge, Unavailable

PART_BYTES = 8 * 1024 * 1024
"""How long a part is that a writer sends, but for the last one. S3 wants 5 MiB at least."""

AHEAD_BYTES = 256 * 1024
"""How much a reader asks for at first, where it's to read less: each request waits for the network. It asks for twice
as much each time, up to AHEAD_LIMIT, so what it asks for in vain is about as much as it has read."""

AHEAD_LIMIT = 4 * 1024 * 1024

ROOM_BYTES = 256 * 1024 * 1024
"""How much all streams of a backend may hold in memory."""

ROOM_SECONDS = 10.0
"""How long a stream waits for others to let go of memory."""


class Room:
    """What all streams of a backend share, and wait for: bytes of memory, or open files."""

    def __init__(self, size: int) -> None:
        self.free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def take(self, amount: int) -> bool:
        """Takes so much if that is free and nobody waits."""
        if self._waiting or amount > self.free:
            return False
        self.free -= amount
        return True

    async def wait(self, amount: int) -> None:
        """Takes so much as soon as it's free. Raises Busy after ROOM_SECONDS."""
        if self.take(amount):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (amount, turn)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(ROOM_SECONDS):
                await turn
        except BaseException as error:
            if not turn.cancelled():  # it was given what it waited for, and can't use it any more
                self.give(amount)
            with suppress(ValueError):
                self._waiting.remove(entry)
            self._serve()
            if isinstance(error, TimeoutError):
                raise Busy("too many streams are open at once; try again") from None
            raise

    def give(self, amount: int) -> None:
        self.free += amount
        self._serve()

    def _serve(self) -> None:
        """Gives those who wait longest what they wait for."""
        while self._waiting and self._waiting[0][0] <= self.free:
            amount, turn = self._waiting.popleft()
            if not turn.done():  # nobody waits any more where it is cancelled
                self.free -= amount
                turn.set_result(None)


class RangeReader:
    """Implements `Reader`. `fetch(offset, length)` returns that range of the object, or raises BlobError."""

    def __init__(self, size: int, fetch: Callable[[int, int], Awaitable[bytes]], room: Room) -> None:
        self._size = size
        self._fetch = fetch
        self._room = room
        self._offset = 0
        """Up to where the object was fetched."""
        self._ahead = AHEAD_BYTES
        self._buffer = bytearray()
        """What was fetched and not yet read; so much of `room` is held."""

    @property
    def left(self) -> int:
        return self._size - self._offset + len(self._buffer)

    async def read(self, size: int) -> bytes:
        size = min(size, READ_LIMIT, self.left)
        if size > len(self._buffer):
            await self._fill(size - len(self._buffer))
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._room.give(size)
        return data

    async def _fill(self, least: int) -> None:
        """Fetches so many bytes, or more where there is room for them."""
        length = min(max(least, self._ahead), self._size - self._offset)
        if not self._room.take(length):
            length = least
            await self._room.wait(length)
        try:
            data = await self._fetch(self._offset, length)
            if len(data) != length:
                raise Unavailable("a part of the object did not arrive whole")
        except BaseException:
            self._room.give(length)
            raise
        self._buffer += data
        self._offset += length
        self._ahead = min(2 * self._ahead, AHEAD_LIMIT)

    async def close(self) -> None:
        self._room.give(len(self._buffer))
        self._buffer.clear()
        self._size = self._offset


class Upload(Protocol):
    """How one object is sent to where it is kept. All methods raise BlobError."""

    part_limit: int
    """How many parts an object may have."""

    async def put(self, data: bytes) -> None:
        """Sends a whole object, and puts it in place."""
        ...

    async def send(self, number: int, data: bytes) -> None:
        """Sends the part of that number; the first is 1."""
        ...

    async def finish(self) -> None:
        """Puts the object in place that the parts make."""
        ...

    async def cancel(self) -> None:
        """Drops the parts that were sent."""
        ...


class PartWriter:
    """Implements `Writer`. An object that is shorter than a part is sent at once."""

    def __init__(self, upload: Upload, room: Room) -> None:
        self._upload = upload
        self._room = room
        self._buffer = bytearray()
        """What was not sent yet; so much of `room` is held."""
        self._parts = 0
        """How many were sent."""
        self._state = "open"
        """Then "failed" or "committed"; "closed" at the end."""

    async def write(self, data: bytes) -> None:
        self._begin()
        rest = memoryview(data)
        while rest:
            piece = rest[: PART_BYTES - len(self._buffer)]
            await self._room.wait(len(piece))
            self._buffer += piece
            rest = rest[len(piece) :]
            if len(self._buffer) == PART_BYTES:
                await self._send()
        self._state = "open"

    async def commit(self) -> None:
        self._begin()
        if not self._parts:
            await self._upload.put(bytes(self._buffer))
        else:
            if self._buffer:
                await self._send()
            await self._upload.finish()
        self._state = "committed"
        self._drop()

    async def abort(self) -> None:
        state, self._state = self._state, "closed"
        self._drop()
        if self._parts and state not in ("committed", "closed"):
            await self._upload.cancel()

    def _begin(self) -> None:
        """What begins here has failed unless it says otherwise at its end: it may be cancelled, too."""
        if self._state != "open":
            raise BlobError("the object can't be written any more: its stream has failed or is closed")
        self._state = "failed"

    async def _send(self) -> None:
        if self._parts == self._upload.part_limit:
            raise TooLarge(f"an object may have {self._parts * PART_BYTES} bytes here, and no more")
        self._parts += 1
        await self._upload.send(self._parts, bytes(self._buffer))
        self._drop()

    def _drop(self) -> None:
        self._room.give(len(self._buffer))
        self._buffer = bytearray()
