"""Which instance of a component answers a request: a fresh one, or one that has answered others.

Requests of one instance run at the same time where its tasks let others in, and one after the other else. An instance
that has ended gets no more of them.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from slight_py.component.instance import ComponentInstance, Lifted

IDLE = 16
"""How many instances may wait for their next request. Those beyond are closed: each holds its memory."""

log = logging.getLogger("slight_py")


class InUse:
    """An instance, and the requests that it answers."""

    __slots__ = ("instance", "is_given_up", "left", "running")

    def __init__(self, instance: ComponentInstance, requests: int) -> None:
        self.instance = instance
        self.left = requests
        """How many more requests it may get."""
        self.running = 0
        """How many it answers now."""
        self.is_given_up = False
        """Whether a request hasn't ended as it should: what it began may go on in the instance."""

    @property
    def is_last(self) -> bool:
        """Whether the instance ends with the request that is being answered, and with all that it has begun."""
        return not self.left and self.running == 1 and not self.is_given_up


class Instances:
    """Instances that answer up to so many requests each by calls of one function."""

    def __init__(self, make: Callable[[], Awaitable[ComponentInstance]], function: Lifted, requests: int) -> None:
        self._make = make
        self._function = function
        self._requests = requests
        self._current: InUse | None = None
        """The one that gets the next request, if it lets that in."""
        self._idle: list[InUse] = []
        """Others that answer none now."""

    async def take(self) -> InUse:
        """The instance for a request. `give_back` must follow. Raises what making one does."""
        used = self._free() or InUse(await self._make(), self._requests)
        used.left -= 1
        used.running += 1
        before, self._current = self._current, used if used.left else None
        if before is not None and not before.running:
            self._put(before)
        return used

    def give_up(self, used: InUse) -> None:
        """A request hasn't ended as it should: the instance gets no others, and ends with those that it answers."""
        used.is_given_up = True
        if used is self._current:
            self._current = None

    def give_back(self, used: InUse) -> None:
        """A request is over."""
        used.running -= 1
        if not used.running and used is not self._current:
            self._put(used)

    def close(self) -> None:
        """Ends the instances that answer no request."""
        idle, self._idle = self._idle, []
        if self._current is not None and not self._current.running:
            idle.append(self._current)
        self._current = None
        for used in idle:
            used.instance.close()

    def _free(self) -> InUse | None:
        """One that lets a request in, if there is one."""
        used, self._current = self._current, None
        while used is None or not self._lets_in(used):
            if used is not None and not used.running:
                self._end(used)
            if not self._idle:
                return None
            used = self._idle.pop()
        return used

    def _put(self, used: InUse) -> None:
        """Keeps an instance that answers no request, if it's of use."""
        if len(self._idle) < IDLE and self._lets_in(used):
            self._idle.append(used)
        else:
            self._end(used)

    def _lets_in(self, used: InUse) -> bool:
        if not used.left or used.is_given_up:
            return False
        state = used.instance.guest(self._function).state
        return state.failure is None and state.is_open()

    def _end(self, used: InUse) -> None:
        if used.left and not used.is_given_up:
            failure = used.instance.guest(self._function).state.failure
            if failure is not None:
                log.error("an instance has ended between two requests: %s", failure)
        used.instance.close()
