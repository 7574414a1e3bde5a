"""One time limit for many tasks."""

from __future__ import annotations

import asyncio
from types import TracebackType


class TimeExceeded(Exception):
    """The block took longer than its TimeLimit."""


class TimeLimit:
    """A context manager that cancels what a task does in its block after a time, as `asyncio.timeout` does.

    Many tasks may be in the block at once, each of them once. As the limit is the same for all, they are due in the
    order in which they came, and a single timer for the oldest serves them all: a timer each, which nearly always is
    cancelled, costs a quarter of what a short request takes.

    Leaving the block after the time raises TimeExceeded in place of the cancellation. A task that was cancelled by
    somebody else, too, stays cancelled.
    """

    __slots__ = ("_due", "_loop", "_seconds", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        """The loop of the tasks. To ask asyncio for it takes a system call before Python 3.12."""
        self._due: dict[asyncio.Task[object], float] = {}
        """When each task's time is over, the oldest first. A task whose time is over is not in it."""
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None, "a TimeLimit is for tasks"
        self._due[task] = due = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(due, self._expire)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = asyncio.current_task(self._loop)
        if task is None or self._due.pop(task, None) is not None:
            return
        if task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TimeExceeded from error

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._timer = None
        while self._due:
            task, due = next(iter(self._due.items()))
            if due > now:
                self._timer = loop.call_at(due, self._expire)
                return
            del self._due[task]
            task.cancel()
