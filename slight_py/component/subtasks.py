"""Subtasks: calls of imports that a component needn't wait for.

Names, numbers and rules are those of CanonicalABI.md, sections "Subtask State" and `canon_lower`.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from enum import IntEnum
from typing import Any

from bindgen.runtime import Err, GuestFault
from slight_py.component.handles import HandleTable
from slight_py.component.tasks import Guest, State
from slight_py.component.waitables import Event, EventCode, Waitable
from slight_py.engine import Exit, Trap

MAX_HOST_CALLS = 4096
"""How many calls of imports may be under way in the host for one component instance: each takes some KiB."""

SUBTASK = "subtask"
"""The key of subtasks in a handle table."""


class SubtaskState(IntEnum):
    """How far a call of an import is, as guests are told."""

    STARTING = 0
    STARTED = 1
    RETURNED = 2
    CANCELLED_BEFORE_STARTED = 3
    CANCELLED_BEFORE_RETURNED = 4


class Subtask(Waitable):
    """A call of an import that the component needn't wait for."""

    __slots__ = ("_done", "_handles", "_lent", "_request", "cancel_requested", "index", "state")

    def __init__(self, handles: HandleTable, lent: Iterable[int] = ()) -> None:
        super().__init__()
        self._handles = handles
        self._lent: list[int] | None = [*lent]
        """The handles that the call was lent; None once the component knows that it is done."""
        self._request: Callable[[], Awaitable[None]] | None = None
        self._done: asyncio.Future[None] | None = None
        self.state = SubtaskState.STARTING
        self.index = 0
        """In the component's table; 0 before it is there."""
        self.cancel_requested = False

    @property
    def is_resolved(self) -> bool:
        return self.state >= SubtaskState.RETURNED

    @property
    def is_delivered(self) -> bool:
        """Whether the component knows that it is resolved."""
        return self._lent is None

    @property
    def lent(self) -> list[int]:
        """For whoever lifts the parameters: handles that are lent to the call."""
        assert self._lent is not None
        return self._lent

    def on_request_cancel(self, request: Callable[[], Awaitable[None]]) -> None:
        """Says what asks the callee to cancel itself."""
        self._request = request

    async def request_cancel(self) -> None:
        self.cancel_requested = True
        if self._request is not None:
            await self._request()

    def progress(self, state: SubtaskState) -> None:
        """The call has come further: the component is told, if it doesn't wait for the call."""
        self.state = state
        if self.index:
            self.set_event(self._told)
        if self._done is not None and self.is_resolved and not self._done.done():
            self._done.set_result(None)

    def resolve_cancelled(self) -> None:
        started = self.state is not SubtaskState.STARTING
        self.progress(SubtaskState.CANCELLED_BEFORE_RETURNED if started else SubtaskState.CANCELLED_BEFORE_STARTED)

    async def until_resolved(self, state: State) -> None:
        """Waits until the call is done, for core code of the instance that waits meanwhile."""
        while not self.is_resolved:
            self._done = asyncio.get_running_loop().create_future()
            await state.until(self._done)

    def deliver(self) -> None:
        """The component knows that the call is done: what it lent is its own again."""
        if self._lent is not None:
            for index in self._lent:
                self._handles.give_back(index)
            self._lent = None

    def _told(self) -> Event:
        if self.is_resolved:
            self.deliver()
        return EventCode.SUBTASK, self.index, self.state

    def on_drop(self) -> None:
        """The component has ended, and the call may go on for nothing."""
        self.join(None)
        self._lent = None


class _HostCall:
    """What the host does for a subtask."""

    __slots__ = ("_explain", "_is_lowering", "_lower", "_subtask", "_task", "_work")

    def __init__(
        self,
        state: State,
        subtask: Subtask,
        work: Coroutine[Any, Any, Any],
        lower: Callable[[Any], Awaitable[None]] | None,
    ) -> None:
        self._subtask = subtask
        self._work = work
        self._lower = lower
        self._explain, state.explain = state.explain, None
        self._is_lowering = False
        subtask.progress(SubtaskState.STARTED)
        subtask.on_request_cancel(self._cancel)
        state.host_calls += 1
        self._task = state.spawn(self._run())
        self._task.add_done_callback(functools.partial(_ended_host_call, state))

    async def _run(self) -> None:
        try:
            await self._answer()
        except (GuestFault, Trap, Exit):
            raise
        except Exception as error:
            if self._explain is None:
                raise
            raise self._explain(error) from error

    async def _answer(self) -> None:
        try:
            value = await self._work
        except Err as error:
            value = error
        except asyncio.CancelledError:
            if not self._subtask.cancel_requested:
                raise
            self._subtask.resolve_cancelled()
            return
        self._is_lowering = True
        if self._lower is not None:
            await self._lower(value)
        self._subtask.progress(SubtaskState.RETURNED)

    async def _cancel(self) -> None:
        """Cancels the host's coroutine, and gives it a turn to end."""
        if not self._is_lowering:
            self._task.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    def failure(self) -> BaseException | None:
        return self._task.exception() if self._task.done() and not self._task.cancelled() else None


def _ended_host_call(state: State, _task: asyncio.Task[None]) -> None:
    state.host_calls -= 1


async def subtask(
    guest: Guest,
    work: Coroutine[Any, Any, Any],
    lower: Callable[[Any], Awaitable[None]] | None,
    lent: Iterable[int],
) -> int:
    """Begins what an import that is lowered with `async` asks of the host: see `bindgen.runtime.component.Guest`.

    Returns the core result: how far it is, and the index of the subtask where it isn't done.
    """
    state = guest.state
    if state.host_calls >= MAX_HOST_CALLS:
        work.close()
        raise GuestFault(f"{MAX_HOST_CALLS} calls of imports are under way, and the guest waits for none")
    call_ = Subtask(state.handles, lent)
    host = _HostCall(state, call_, work, lower)
    await asyncio.sleep(0)  # What can be done at once is done now.
    failure = host.failure()
    if failure is not None:
        raise failure
    return begun(state, call_)


def begun(state: State, call: Subtask) -> int:
    """What the component is told of a call that it doesn't wait for: how far it is, and its index if it isn't done."""
    if call.is_resolved:
        call.deliver()
        return SubtaskState.RETURNED
    call.index = state.handles.add(SUBTASK, call, "a call of an import")
    return call.state | call.index << 4
