"""A guest's standard input, output and error: the process's own, without the event loop waiting for any of them."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress

from slight_py.output import LIMIT, STANDARD_ERROR, STANDARD_OUTPUT, Writer


class Output:
    """Standard output or error. A guest that prints faster than somebody reads waits."""

    def __init__(self, writer: Writer, descriptor: int) -> None:
        self._writer = writer
        self._descriptor = descriptor
        self._end = 0
        """How many bytes the writer had got with the last ones from here."""

    @property
    def is_terminal(self) -> bool:
        return os.isatty(self._descriptor)

    async def write(self, memory: Callable[[], memoryview], at: int, size: int) -> int:
        """Prints what is in memory, which is asked for after each wait; returns how many bytes that is. Raises OSError
        where what was printed before can't be written: nobody reads it any more, say."""
        writer = self._writer
        done = 0
        while True:
            writer.check()
            if writer.waiting >= LIMIT:
                await writer.room()
                continue
            piece = min(size - done, LIMIT)
            writer.write(bytes(memory()[at + done : at + done + piece]))
            self._end = writer.accepted
            done += piece
            if done == size:
                return done

    @property
    def free(self) -> int:
        """Bytes that can be printed now without anybody waiting."""
        return max(0, LIMIT - self._writer.waiting)

    def print(self, data: bytes) -> None:
        """Prints bytes, of which there are no more than `free`."""
        self._writer.write(data)
        self._end = self._writer.accepted

    def check(self) -> None:
        """Raises OSError where what was printed before can't be written."""
        self._writer.check()

    async def printed(self) -> None:
        """Waits until what guests have printed so far is out."""
        await self._writer.out(self._end)

    async def room(self) -> None:
        """Waits until a guest could print something without waiting."""
        await self._writer.room()


class Input:
    """Standard input. A thread reads, and only when somebody wants something."""

    AHEAD = 1 << 16
    """The most bytes that are read at once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._changed = threading.Condition()
        self._ahead = b""
        self._ended = False
        """Whether the end was read. At a terminal there may be more after it."""
        self._error: OSError | None = None
        self._wanted = False
        self._waiting: dict[asyncio.Future[None], asyncio.AbstractEventLoop] = {}
        self._thread: threading.Thread | None = None

    @property
    def is_terminal(self) -> bool:
        return os.isatty(self._descriptor)

    @property
    def is_ready(self) -> bool:
        """Whether there is something to read, or the end, or an error."""
        return bool(self._ahead or self._ended or self._error)

    async def ready(self) -> None:
        """Waits until there is something to read, or the end, or an error."""
        with self._changed:
            if self.is_ready:
                return
            loop = asyncio.get_running_loop()
            done = loop.create_future()
            self._waiting[done] = loop
            self._wanted = True
            if self._thread is None:
                # A daemon: whoever never writes must not keep the process from ending.
                self._thread = threading.Thread(target=self._run, name="input", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        try:
            await done
        finally:
            with self._changed:
                self._waiting.pop(done, None)

    async def read(self, most: int) -> bytes:
        """Some bytes, nothing at the end. Raises OSError."""
        await self.ready()
        return self.take(most)

    def take(self, most: int) -> bytes:
        """What `read` returns, once this is ready."""
        with self._changed:
            if self._ahead:
                found, self._ahead = self._ahead[:most], self._ahead[most:]
                return found
            self._ended = False
            error, self._error = self._error, None
            if error is not None:
                raise error
            return b""

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._wanted:
                    self._changed.wait()
            found, error = b"", None
            try:
                found = os.read(self._descriptor, self.AHEAD)
            except OSError as raised:
                error = raised
            with self._changed:
                self._wanted = False
                self._ahead += found
                self._ended = not found
                self._error = error
                due, self._waiting = self._waiting, {}
            for done, loop in due.items():
                with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(_resolve, done)


def _resolve(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


INPUT = Input(0)
OUTPUTS = {1: Output(STANDARD_OUTPUT, 1), 2: Output(STANDARD_ERROR, 2)}
"""Those of this process, by the descriptors that they are for a guest and for the process alike."""


async def printed() -> None:
    """Waits until all that guests have printed so far is out."""
    for each in OUTPUTS.values():
        await each.printed()
