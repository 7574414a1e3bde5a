"""Bytes on their way from one who writes to one who reads."""

from __future__ import annotations

from collections import deque

SMALL = 4096
"""Bytes up to which a chunk is joined with the one before it: many tiny chunks must not take much more memory than what
is in them, nor a call each to be read. Larger ones are handed on as they are."""

JOINED = 16384
"""Bytes that joined chunks become at most."""

Chunk = bytes | bytearray | memoryview


class Chunks:
    """A queue of bytes. `append` and `take` need time for the bytes of that call alone."""

    __slots__ = ("_chunks", "_start", "size")

    def __init__(self) -> None:
        self._chunks: deque[Chunk] = deque()
        self._start = 0
        """Where the bytes of the first chunk begin that are not taken yet."""
        self.size = 0
        """How many bytes there are."""

    def append(self, data: bytes | memoryview) -> None:
        """Takes bytes over, which must not change any more."""
        size = len(data)
        if not size:
            return
        self.size += size
        chunks = self._chunks
        if size <= SMALL and chunks:
            last = chunks[-1]
            if len(last) <= SMALL and not isinstance(last, bytearray):
                last = chunks[-1] = bytearray(last)
            if isinstance(last, bytearray) and len(last) + size <= JOINED:
                last += data
                return
        chunks.append(data)

    def take(self, most: int) -> bytes:
        """The next bytes: at least one where there is any and `most` is not 0, at most `most`."""
        if not self.size or not most:
            return b""
        first, start = self._chunks[0], self._start
        if most >= len(first) - start:
            self._chunks.popleft()
            self._start = 0
            found = first[start:] if start else first
        else:
            self._start = start + most
            found = first[start : start + most]
        self.size -= len(found)
        return found if isinstance(found, bytes) else bytes(found)

    def skip(self, most: int) -> int:
        """Lets go of up to `most` bytes; returns how many."""
        todo = most = min(most, self.size)
        while todo:
            left = len(self._chunks[0]) - self._start
            if todo < left:
                self._start += todo
                break
            self._chunks.popleft()
            self._start = 0
            todo -= left
        self.size -= most
        return most

    def clear(self) -> None:
        self._chunks.clear()
        self._start = self.size = 0
