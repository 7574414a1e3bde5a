"""Standard output and standard error, written by a thread each: nobody else waits for whoever reads them.

What guests print and what is logged go the same way, so their order at standard error is the one they came in.
"""

from __future__ import annotations

import asyncio
import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from errno import EPIPE

LIMIT = 1 << 16
"""Bytes that may wait before `room` is to be waited for: as much as a pipe holds."""

LAST_WORDS = 2.0
"""How long the end of a process waits until all is written, in seconds."""


class Writer:
    """Bytes for one descriptor of the process, in their order."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._changed = threading.Condition()
        self._chunks: list[bytes] = []
        self.accepted = 0
        """Bytes that were handed over, ever."""
        self.written = 0
        """Bytes of those that are out, or had to be given up."""
        self.error: OSError | None = None
        """Why bytes had to be given up, for the next one who writes."""
        self.preface: Callable[[], bytes] = bytes
        """What to write before what waits, asked each time in the thread that writes."""
        self._waiting: dict[asyncio.Future[None], tuple[int, asyncio.AbstractEventLoop]] = {}
        """Who waits, and until how many bytes are out."""
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Bytes that are not out yet."""
        return self.accepted - self.written

    def write(self, data: bytes) -> None:
        """Has bytes written, and returns at once, however many wait already."""
        with self._changed:
            self._chunks.append(data)
            self.accepted += len(data)
            if self._thread is None:
                # A daemon: whoever never reads must not keep the process from ending.
                self._thread = threading.Thread(target=self._run, name="output", daemon=True)
                self._thread.start()
            elif len(self._chunks) == 1:
                self._changed.notify_all()

    async def room(self) -> None:
        """Waits until fewer than LIMIT bytes wait."""
        while self.waiting >= LIMIT:
            await self.out(self.accepted - LIMIT + 1)

    async def out(self, count: int) -> None:
        """Waits until `count` of the bytes ever handed over are out."""
        with self._changed:
            if self.written >= count:
                return
            loop = asyncio.get_running_loop()
            done = loop.create_future()
            self._waiting[done] = count, loop
        try:
            await done
        finally:
            with self._changed:
                self._waiting.pop(done, None)

    def check(self) -> None:
        """Raises the OSError of what could not be written. One that will not get better is raised again and again."""
        if (error := self.error) is not None:
            if error.errno != EPIPE:
                self.error = None
            raise OSError(error.errno, error.strerror)

    def flush(self, seconds: float) -> bool:
        """Waits until all is out, up to so long; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self.written == self.accepted, seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._chunks:
                    self._changed.wait()
                chunks, self._chunks = self._chunks, []
            # Not through `sys.stdout`: a process can't end while a thread waits there.
            with suppress(OSError):
                self._write_all(memoryview(self.preface()), counted=False)
            try:
                self._write_all(memoryview(b"".join(chunks)), counted=True)
            except OSError as error:
                self.error = error
                self._count(sum(map(len, chunks)) - self._partly)

    _partly = 0
    """Bytes that are out of what is being written."""

    def _write_all(self, data: memoryview, counted: bool) -> None:
        self._partly = 0
        while data:
            try:
                count = os.write(self._descriptor, data[:LIMIT])
            except BlockingIOError:  # whoever shares the descriptor with us has made it so
                select.select((), (self._descriptor,), ())
                continue
            data = data[count:]
            if counted:
                self._partly += count
                self._count(count)

    def _count(self, count: int) -> None:
        """Notes that so many bytes more are out, and tells those who wait for them."""
        with self._changed:
            self.written += count
            due = [(loop, done) for done, (until, loop) in self._waiting.items() if until <= self.written]
            for _, done in due:
                del self._waiting[done]
            self._changed.notify_all()
        for loop, done in due:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_resolve, done)


def _resolve(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


STANDARD_OUTPUT, STANDARD_ERROR = Writer(1), Writer(2)
"""Those of this process."""


def flush(seconds: float = LAST_WORDS) -> None:
    """Waits until all is out, up to so long in all."""
    end = time.monotonic() + seconds
    for each in (STANDARD_OUTPUT, STANDARD_ERROR):
        each.flush(max(0.0, end - time.monotonic()))
