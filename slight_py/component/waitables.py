"""What a task of a component can wait for: subtasks, and copies of streams and futures.

Names and numbers are those of CanonicalABI.md, section "Waitable State".
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import TypeAlias

from bindgen.runtime import GuestFault


class EventCode(IntEnum):
    """What has happened, as guests are told."""

    NONE = 0
    SUBTASK = 1
    STREAM_READ = 2
    STREAM_WRITE = 3
    FUTURE_READ = 4
    FUTURE_WRITE = 5
    TASK_CANCELLED = 6


Event: TypeAlias = tuple[int, int, int]
"""An `EventCode`, and two numbers that depend on it: the index of the waitable, and how far that is."""

NO_EVENT: Event = (EventCode.NONE, 0, 0)
CANCELLED_EVENT: Event = (EventCode.TASK_CANCELLED, 0, 0)

WAITABLE_SET = "waitable set"
"""The key of waitable sets in a handle table."""


class Waitable:
    """Something that has an event for its guest now and then, one at a time."""

    __slots__ = ("_event", "_waiter", "set")

    def __init__(self) -> None:
        self._event: Callable[[], Event] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.set: WaitableSet | None = None
        """The set that it is in."""

    @property
    def has_event(self) -> bool:
        return self._event is not None

    def set_event(self, event: Callable[[], Event]) -> None:
        """Has an event in place of any that the guest hasn't taken yet. It is worked out when the guest takes it."""
        self._event = event
        if self.set is not None:
            self.set.ready(self)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def take_event(self) -> Event:
        event, self._event = self._event, None
        if self.set is not None:
            self.set.not_ready(self)
        assert event is not None
        return event()

    def waiter(self) -> asyncio.Future[None]:
        """A future that is done when there is an event, for the one task that may block for it."""
        self._waiter = asyncio.get_running_loop().create_future()
        if self._event is not None:
            self._waiter.set_result(None)
        return self._waiter

    def join(self, joined: WaitableSet | None) -> None:
        """Puts it into a set, or into none."""
        if self.set is not None:
            self.set.remove(self)
        self.set = joined
        if joined is not None:
            joined.add(self)


class WaitableSet:
    """Waitables that a task waits for together. Their events come in the order in which they happened."""

    __slots__ = ("_members", "_ready", "_waiters", "waiting")

    def __init__(self) -> None:
        self._members: set[Waitable] = set()
        self._ready: dict[Waitable, None] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self.waiting = 0
        """How many tasks wait for it."""

    @property
    def has_event(self) -> bool:
        return bool(self._ready)

    def take_event(self) -> Event:
        """The first of the events. There must be one."""
        return next(iter(self._ready)).take_event()

    def add_waiter(self) -> asyncio.Future[None]:
        """A future that is done when there is an event; it may be cancelled, or set by the one who waits."""
        waiter = asyncio.get_running_loop().create_future()
        if self._ready:
            waiter.set_result(None)
        else:
            self._waiters.append(waiter)
        return waiter

    def check_drop(self, where: str) -> None:
        """Raises GuestFault where the guest can't drop it."""
        if self._members:
            raise GuestFault(f"{where}: cannot drop waitable set with {len(self._members)} waitables in it")
        if self.waiting:
            raise GuestFault(f"{where}: cannot drop waitable set with waiters")

    # For waitables.

    def add(self, waitable: Waitable) -> None:
        self._members.add(waitable)
        if waitable.has_event:
            self.ready(waitable)

    def remove(self, waitable: Waitable) -> None:
        self._members.discard(waitable)
        self._ready.pop(waitable, None)

    def ready(self, waitable: Waitable) -> None:
        self._ready[waitable] = None
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def not_ready(self, waitable: Waitable) -> None:
        self._ready.pop(waitable, None)
