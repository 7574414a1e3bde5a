"""Reads the body of a message while it comes, without waiting: what aiohttp's StreamReader does for tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from capabilities.http.aiohttp_server import StreamReader

AT_ONCE = 64 * 1024
"""How many bytes are taken at once, at most."""


class ContentReader:
    """What came of a body, for one reader. A class that derives from it says what goes wrong, in which words."""

    __slots__ = ("_began", "_call", "_content", "_error", "_timer", "failed", "size_read", "waited")

    def __init__(self, content: StreamReader) -> None:
        self._content = content
        self._error: Exception | None = None
        self.failed = False
        """Whether nothing can be read any more, because of the other side."""
        self.size_read = 0
        """How many bytes were read."""
        self.waited = 0.0
        """How many seconds the reader has waited for the other side."""
        self._call: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._began = 0.0
        """Since when the reader waits, by the event loop's clock."""

    # What goes wrong.

    def _patience(self) -> float:
        """How many seconds the other side may send nothing from now on."""
        raise NotImplementedError

    def _too_slow(self) -> Exception:
        """The error where it sends nothing for longer."""
        raise NotImplementedError

    def _broken(self, error: BaseException) -> Exception:
        """The error for one of aiohttp's."""
        raise NotImplementedError

    def _excess(self) -> Exception | None:
        """The error where `size_read` is too much."""
        raise NotImplementedError

    def _about_to_wait(self) -> None:
        """The reader is about to wait for the other side."""

    # As in RequestBody.

    @property
    def ready(self) -> bool:
        content = self._content
        return (
            self._error is not None
            or content.total_bytes > self.size_read
            or content.is_eof()
            or content.exception() is not None
        )

    @property
    def ended(self) -> bool:
        content = self._content
        return self._error is None and content.is_eof() and content.total_bytes <= self.size_read

    def take(self, most: int) -> bytes:
        if self._error is not None:
            raise self._error
        content = self._content
        if content.total_bytes <= self.size_read:
            error = content.exception()
            if error is not None:
                raise self._fail(self._broken(error))
            return b""
        data = content._read_nowait(min(most, AT_ONCE))  # `read_nowait` forgets it where there is an error after it
        self.size_read += len(data)
        excess = self._excess()
        if excess is not None:
            raise self._fail(excess)
        return data

    def when_ready(self, call: Callable[[], None]) -> None:
        if self.ready:
            call()
            return
        if self._call is None:
            self._wait()
        self._call = call

    async def read(self, most: int) -> bytes:
        while not self.ready:
            came = asyncio.Event()
            self.when_ready(came.set)
            await came.wait()
        return self.take(most)

    def close(self) -> None:
        call, self._call = self._call, None
        self._stop_waiting()
        if self._error is None and not self.ended:
            self._error = ConnectionAbortedError("nobody reads the body any more")
        if call is not None:
            call()  # whoever waits would wait for ever

    @property
    def waiting(self) -> bool:
        """Whether the reader waits for the other side."""
        return self._call is not None

    def _wait(self) -> None:
        """Has `_wake` called when something comes, or `_end_waiting` when that takes too long."""
        self._about_to_wait()
        loop = asyncio.get_running_loop()
        self._began = loop.time()
        self._timer = loop.call_at(self._began + self._patience(), self._end_waiting)
        self._listen(loop)

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        # A StreamReader wakes the one who waits through this future, as its own `read` does.
        waiter: asyncio.Future[None] = loop.create_future()
        waiter.add_done_callback(self._wake)
        self._content._waiter = waiter

    def _wake(self, waiter: asyncio.Future[None]) -> None:
        if waiter.cancelled() or self._call is None:
            return
        waiter.exception()  # `take` raises it
        if not self.ready:
            self._listen(asyncio.get_running_loop())
            return
        self._stop_waiting()
        call, self._call = self._call, None
        call()

    def _end_waiting(self) -> None:
        self._fail(self._too_slow())
        self._stop_waiting()
        call, self._call = self._call, None
        if call is not None:
            call()

    def _stop_waiting(self) -> None:
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        self.waited += asyncio.get_running_loop().time() - self._began
        waiter, self._content._waiter = self._content._waiter, None
        if waiter is not None:
            waiter.cancel()

    def _fail(self, error: Exception) -> Exception:
        self._error = error
        self.failed = True
        return error
