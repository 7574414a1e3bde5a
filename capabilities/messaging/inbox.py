"""What has come for a subscription and hasn't been received yet, where a broker sends messages by itself."""

from __future__ import annotations

import asyncio
from collections import deque

from capabilities.messaging import ConnectionLost, MessagingError, TopicNotFound

LIMIT = 16 * 1024 * 1024
"""How much an inbox keeps, in bytes. A single message may be larger."""

TOTAL_LIMIT = 256 * 1024 * 1024
"""How much all inboxes of one backend keep together, in bytes."""

MESSAGE_BYTES = 128
"""What a message counts for besides its own length."""

GONE = "there is no such subscription: it was ended"


class Room:
    """How many bytes the inboxes that share it may still keep: many instances, each with many subscriptions, must not
    fill the memory together."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = TOTAL_LIMIT


class Inbox:
    """The messages of one subscription in their order.

    What is missing is never missing silently: an error stands in its place, which `receive` raises once. The
    messages before it and after it are handed out as usual.
    """

    __slots__ = ("_arrived", "_closed", "_items", "_room", "_size", "away")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._items: deque[bytes | MessagingError] = deque()
        self._size = 0
        self._arrived = asyncio.Event()
        self._closed = False
        self.away: MessagingError | None = None
        """Why nothing can come at present; None while messages can come."""

    def put(self, message: bytes) -> None:
        """Keeps a message, or notes that it is missing where this inbox is full, or all of them together are."""
        size = len(message) + MESSAGE_BYTES
        if self._closed:
            return
        if (self._size and self._size + size > LIMIT) or size > self._room.left:
            self.miss(ConnectionLost("messages are missing: they came faster than they were received"))
            return
        self._resize(size)
        self._add(message)

    def _resize(self, size: int) -> None:
        """Counts so many bytes more, or fewer for a negative number."""
        self._size += size
        self._room.left -= size

    def miss(self, error: MessagingError) -> None:
        """Notes that messages may be missing here. Where that is noted already, nothing changes."""
        if not (self._items and isinstance(self._items[-1], MessagingError)):
            self._add(error)

    def _add(self, item: bytes | MessagingError) -> None:
        if not self._closed:
            self._items.append(item)
            self._arrived.set()

    async def receive(self, seconds: float) -> bytes | None:
        """The next message; None where none comes in so many seconds. Raises MessagingError."""
        try:
            async with asyncio.timeout(seconds):
                while not self._items and not self._closed:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            if self.away is not None:
                raise self.away from None
            return None
        # From here on nothing waits, so a call that is cancelled has removed nothing.
        if self._closed:
            raise TopicNotFound(GONE)
        item = self._items.popleft()
        if isinstance(item, MessagingError):
            raise item
        self._resize(-len(item) - MESSAGE_BYTES)
        return item

    def close(self) -> None:
        """Drops what is left. `receive` raises TopicNotFound from now on."""
        self._closed = True
        self._items.clear()
        self._resize(-self._size)
        self._arrived.set()
