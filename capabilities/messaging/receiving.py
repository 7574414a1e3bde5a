"""How backends wait for a message without losing one whose receiver has given up meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Receiving(Generic[T]):
    """Fetches one message after the other. `fetch` waits for the next one for as long as it takes.

    A fetch goes on when the time of `next` is over or its caller is cancelled, and its message is the next caller's.
    """

    __slots__ = ("_fetch", "_task")

    def __init__(self, fetch: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._fetch = fetch
        self._task: asyncio.Task[T] | None = None

    async def next(self, seconds: float) -> T | None:
        """The next message; None where none comes in so many seconds. Raises what `fetch` raises."""
        task = self._task = self._task or asyncio.create_task(self._fetch())
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            return None
        self._task = None
        return task.result()

    async def cancel(self) -> T | None:
        """Gives up. Returns the message that was fetched and that nobody asked for, where there is one."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                return await task
        return None
