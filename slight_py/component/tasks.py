"""Tasks: calls of a component's exports that may wait, and calls of imports that it needn't wait for.

A function that is lifted with `async` and a callback doesn't block: it returns to say what it waits for, and its
callback is called when that has happened. So tasks of one component take turns, each for as long as one call of core
code, and asyncio has the loop of each. Names and rules are those of CanonicalABI.md, sections "Task State", "Subtask
State", `canon_lift` and `canon_lower`.

What differs from the specification, since calls into a store nest (slight_py/engine.py):

- A call of core code that waits in an import keeps tasks of the same component out until it is done, and goes on only
  when the calls that began later are done.
- A function that is lifted with `async` and without a callback has its component for itself, as one with a callback has
  while its core code runs.
- A caller that doesn't wait for a component's function goes on when the core code that it calls first has returned,
  even if that waits in an import meanwhile.
- There are no threads.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from enum import Enum
from typing import Any, Protocol

from bindgen.runtime import GuestFault
from slight_py.component.handles import BorrowScope, HandleTable
from slight_py.component.lifting import FlatValue, Space
from slight_py.component.types import FuncType, ValueType
from slight_py.component.waitables import (
    CANCELLED_EVENT,
    NO_EVENT,
    WAITABLE_SET,
    Event,
    WaitableSet,
)


class Export(Protocol):
    """A core function that a component lifts, with its options."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> FuncType: ...
    @property
    def is_async(self) -> bool: ...
    @property
    def callback(self) -> Any: ...


class Guest(Space, Protocol):
    """A component instance as a canonical function sees it, with its options."""

    @property
    def state(self) -> State: ...

    def is_stuck(self) -> bool:
        """Whether no task of any component in the store can go on by itself, or by what the host does."""

    async def may_call(self) -> None:
        """Waits until a call can begin at once."""

    async def call(self, export: Any, args: Sequence[Any]) -> Any:
        """Calls a core function."""

    async def finish(self, export: Any, result: Any) -> None:
        """Calls a function's post-return, where it has one."""


class State:
    """What the tasks of one component instance share."""

    __slots__ = (
        "_background",
        "_blocked",
        "_entering",
        "_fail",
        "_resuming",
        "backpressure",
        "exclusive",
        "explain",
        "failure",
        "handles",
        "host_calls",
        "running",
        "storage",
        "tasks",
    )

    def __init__(self, handles: HandleTable, fail: Callable[[Exception], None]) -> None:
        """`fail` ends all component instances of the store."""
        self.handles = handles
        self._fail = fail
        self.failure: Exception | None = None
        """What ended the instance."""
        self.backpressure = 0
        """How often the component has said that it wants no new tasks, and hasn't taken it back."""
        self.exclusive: Task | None = None
        """The task whose core code runs or waits in an import."""
        self._resuming: deque[tuple[Task, asyncio.Future[bool]]] = deque()
        self._entering: deque[tuple[Task, asyncio.Future[bool]]] = deque()
        self._background: set[asyncio.Task[None]] = set()
        self._blocked: set[asyncio.Future[Any]] = set()
        self.running: list[Task] = []
        """The tasks whose core code is under way, the innermost call last."""
        self.tasks: set[Task] = set()
        """Those that have begun and not ended."""
        self.host_calls = 0
        """How many calls of imports that the component doesn't wait for the host is about to answer."""
        self.explain: Callable[[Exception], Exception] | None = None
        """What to raise, given what the host has raised, for the call that is about to become such a one."""
        self.storage = [0, 0]
        """What `context.get` and `context.set` are about in a call that is no task."""

    @property
    def task(self) -> Task | None:
        """The task whose core code has called a built-in function. None where the host called without a task."""
        return self.running[-1] if self.running else None

    def may_block(self) -> bool:
        """Whether the core code may wait: that of a synchronous function may not, until it has returned."""
        task = self.task
        return task is not None and (task.export.type.is_async or task.state is TaskState.RESOLVED)

    def check_block(self, where: str) -> None:
        """Raises GuestFault where the core code may not wait."""
        if not self.may_block():
            raise GuestFault(f"{where}: cannot block a synchronous task before returning")

    # Whose core code may run.

    def lets_in(self) -> bool:
        """Whether a new task needn't wait."""
        return self.exclusive is None and not (self.backpressure or self._entering or self._resuming)

    def is_open(self) -> bool:
        """Whether a new task may enter, now or once those that wait for their turn have had it."""
        return self.exclusive is None and not self.backpressure

    def try_enter(self, task: Task) -> bool:
        """Lets a new task in, if it needn't wait."""
        if not self.lets_in():
            return False
        self.exclusive = task
        return True

    def queue(self, task: Task) -> asyncio.Future[bool]:
        """Has a new task wait until it may enter: True when it does, False where it is refused before."""
        granted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._entering.append((task, granted))
        return granted

    async def resume(self, task: Task) -> None:
        """Lets a task go on when no other one's core code is under way."""
        if self.exclusive is None and not self._resuming:
            self.exclusive = task
            return
        granted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._resuming.append((task, granted))
        self.grant()
        await self.granted(task, granted)

    async def granted(self, task: Task, granted: asyncio.Future[bool]) -> bool:
        """Waits until the task has its turn."""
        try:
            return await granted
        except asyncio.CancelledError:
            self.release(task)
            raise

    def release(self, task: Task) -> None:
        """The task's core code has returned."""
        if self.exclusive is task:
            self.exclusive = None
            self.grant()

    def grant(self) -> None:
        """Lets the next task in that waits: those that have begun come first."""
        while self.exclusive is None:
            if self._resuming:
                task, granted = self._resuming.popleft()
            elif self._entering and not self.backpressure:
                task, granted = self._entering.popleft()
            else:
                return
            if not granted.done():
                self.exclusive = task
                granted.set_result(True)

    def refuse(self, task: Task) -> bool:
        """Takes a task out of those that wait to enter. False where it doesn't."""
        for entry in self._entering:
            if entry[0] is task and not entry[1].done():
                self._entering.remove(entry)
                entry[1].set_result(False)
                return True
        return False

    # What goes on by itself.

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Has something done at the side. What goes wrong in it ends the instance."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled():
            error = task.exception()
            if isinstance(error, Exception):
                self.fail(error)
            elif error is not None:
                raise error

    def fail(self, error: Exception) -> None:
        """Ends all instances of the store."""
        self._fail(error)

    def abort(self, error: Exception) -> None:
        """The instance has ended: nothing of it goes on."""
        if self.failure is None:
            self.failure = error
            for task in [*self.tasks]:
                task.abort(error)
            for waiter in self._blocked:
                if not waiter.done():
                    waiter.set_exception(error)
        for each in [*self._background]:
            each.cancel()

    async def until(self, waiter: asyncio.Future[Any]) -> None:
        """Waits for something while core code waits. Raises what ends the instance meanwhile."""
        self._blocked.add(waiter)
        try:
            await waiter
        finally:
            self._blocked.discard(waiter)

    def is_stuck(self) -> bool:
        """Whether all tasks wait, and nothing that the host does can wake them. An import that the host answers while
        core code waits is something that it does."""
        waiting = len(self._blocked) + len(self._entering) + len(self._resuming)
        return waiting >= len(self.tasks) and not self.host_calls and not self.handles.is_shared_with_host()

    async def idle(self) -> None:
        """Waits until all tasks have ended. Raises what ended the instance."""
        while self.tasks and self.failure is None:
            await asyncio.wait([task.exited for task in self.tasks])
        if self.failure is not None:
            raise self.failure


class TaskState(Enum):
    """How far a task is with being cancelled, or with returning."""

    INITIAL = 1
    PENDING_CANCEL = 2
    CANCEL_DELIVERED = 3
    RESOLVED = 4


_EXIT, _YIELD, _WAIT = range(3)
"""What a callback asks for, in the lowest four bits of its result."""


class Task(BorrowScope):
    """A call of a component's export. Subclasses say where the parameters come from, and where the result goes."""

    __slots__ = (
        "_has_entered",
        "_in_core",
        "_paused",
        "_waiter",
        "exited",
        "export",
        "failure",
        "guest",
        "owner",
        "state",
        "storage",
    )

    def __init__(self, guest: Guest, export: Export) -> None:
        super().__init__()
        self.guest = guest
        self.owner = guest.state
        """What it shares with the other tasks of the component instance."""
        self.export = export
        self.state = TaskState.INITIAL
        self.storage = [0, 0]
        """What `context.get` and `context.set` are about."""
        self.exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the task has ended, which may be long after it returned."""
        self.failure: Exception | None = None
        """What ended the instance before."""
        self._has_entered = False
        self._in_core = False
        """Whether its core code runs, or waits in an import."""
        self._waiter: asyncio.Future[None] | None = None
        """What the task waits for, where it can be cancelled meanwhile."""
        self._paused: asyncio.Future[None] | None = None

    # What subclasses are for.

    async def start(self) -> Sequence[FlatValue]:
        """The core values of the parameters."""
        raise NotImplementedError

    def lift(self, result: Any) -> Any:
        """The value that a core function lifted without `async` has returned."""
        raise NotImplementedError

    def returned(self, guest: Guest, args: Sequence[FlatValue]) -> Any:
        """The value that core values mean which `task.return` was given."""
        raise NotImplementedError

    async def resolve(self, value: Any) -> None:
        """Takes the result."""
        raise NotImplementedError

    async def cancelled(self) -> None:
        """There will be no result."""
        raise NotImplementedError

    def abort(self, error: Exception) -> None:
        """The instance has ended, and the task with it."""
        self.failure = error
        self._end()

    async def until_exited(self) -> None:
        """Waits until the task has ended: for one at a time. Raises what ended the instance before."""
        await self.exited
        if self.failure is not None:
            raise self.failure

    # How a task goes.

    async def begin(self) -> None:
        """Begins the task, and waits until its core code has returned for the first time. If the task may not enter
        yet, or isn't done then, it goes on at the side.

        Raises what the core code ends with.
        """
        state = self.owner
        if state.failure is not None:
            raise state.failure
        state.tasks.add(self)
        if self.export.type.is_async and not state.try_enter(self):
            state.spawn(self._enter_later(state.queue(self)))
            return
        packed = await self._first()
        if packed is not None:
            state.spawn(self._loop(packed))

    async def _enter_later(self, granted: asyncio.Future[bool]) -> None:
        if not await self.owner.granted(self, granted):
            await self._cancel()
            self._end()
            return
        packed = await self._first()
        if packed is not None:
            await self._loop(packed)

    async def _first(self) -> int | None:
        """The first call of core code. Returns what the callback loop goes on from, None when the task has ended."""
        self._has_entered = True
        export = self.export
        args = await self.start()
        result = await self._call(export, args)
        if not export.is_async:
            value = self.lift(result)
            await self._return(value)
            await self.guest.finish(export, result)
        elif export.callback is not None and result & 0xF != _EXIT:
            return int(result)
        self._exit()
        return None

    async def _call(self, function: Any, args: Sequence[FlatValue]) -> Any:
        await self.guest.may_call()
        running = self.owner.running
        running.append(self)
        self._in_core = True
        try:
            return await self.guest.call(function, args)
        finally:
            self._in_core = False
            running.remove(self)

    async def _loop(self, packed: int) -> None:
        """What comes after the first call of core code that has a callback."""
        state = self.owner
        while (code := packed & 0xF) != _EXIT:
            state.release(self)
            event = NO_EVENT
            if code == _YIELD:
                await self._yield()
                if self.deliver_cancel():
                    event = CANCELLED_EVENT
            elif code == _WAIT:
                joined = state.handles.get(WAITABLE_SET, packed >> 4, f"{self.export.name}: result of the callback")
                event = await self.wait(joined, True, True)
            else:
                raise GuestFault(f"{self.export.name}: unsupported callback code {code}")
            packed = await self._call(self.export.callback, event)
        self._exit()

    async def _yield(self) -> None:
        if self.state is not TaskState.PENDING_CANCEL:
            self._pause()
        await asyncio.sleep(0)
        await self.owner.resume(self)

    async def wait(self, joined: WaitableSet, cancellable: bool, returns: bool) -> Event:
        """Waits for an event of a set, or until the task is cancelled. `returns` says whether the core code has
        returned meanwhile, so that it has to wait for its turn."""
        state = self.owner
        joined.waiting += 1
        try:
            while True:
                if not joined.has_event and not (cancellable and self.state is TaskState.PENDING_CANCEL):
                    await self._until(joined.add_waiter(), cancellable)
                if returns:
                    await state.resume(self)
                if cancellable and self.deliver_cancel():
                    return CANCELLED_EVENT
                if joined.has_event:
                    return joined.take_event()
                if returns:
                    state.release(self)
        finally:
            joined.waiting -= 1

    async def _until(self, waiter: asyncio.Future[None], cancellable: bool) -> None:
        self._waiter = waiter if cancellable else None
        self._pause()
        try:
            await self.owner.until(waiter)
        finally:
            self._waiter = None

    def deliver_cancel(self) -> bool:
        """Whether the task was asked to cancel itself, and wasn't told before."""
        if self.state is not TaskState.PENDING_CANCEL:
            return False
        self.state = TaskState.CANCEL_DELIVERED
        return True

    async def request_cancel(self) -> None:
        """Asks the task to cancel itself, and waits until it has had its turn with that, if it can have it now."""
        state = self.owner
        if not self._has_entered:
            self.state = TaskState.CANCEL_DELIVERED
            if state.refuse(self):
                await self._until_paused()
            return
        if self.state is not TaskState.INITIAL:
            return
        self.state = TaskState.PENDING_CANCEL
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        elif self._in_core:
            return
        if state.exclusive in (None, self):
            await self._until_paused()

    async def _until_paused(self) -> None:
        """Waits until the task waits again, has returned or has ended."""
        self._paused = asyncio.get_running_loop().create_future()
        await self._paused

    def _pause(self) -> None:
        if self._paused is not None and not self._paused.done():
            self._paused.set_result(None)

    async def do_return(self, guest: Guest, args: Sequence[FlatValue], result: ValueType | None, where: str) -> None:
        """`task.return` of a result of such a type."""
        if not self.export.is_async:
            raise GuestFault(f"{where}: {self.export.name} isn't lifted with async")
        wanted = self.export.type.result
        if (result is not wanted and result != wanted) or guest.encoding != self.guest.encoding:
            raise GuestFault(f"{where}: {self.export.name} has another result, or other options")
        self._check_resolve(where)
        await self._return(self.returned(guest, args))

    async def do_cancel(self, where: str) -> None:
        """`task.cancel`: the task ends without a result."""
        if not self.export.is_async:
            raise GuestFault(f"{where}: {self.export.name} isn't lifted with async")
        if self.state is not TaskState.CANCEL_DELIVERED:
            raise GuestFault(f"{where}: the task wasn't asked to cancel itself, or has returned")
        self._check_resolve(where)
        await self._cancel()

    def _check_resolve(self, where: str) -> None:
        if self.state is TaskState.RESOLVED:
            raise GuestFault(f"{where}: the task has returned before")
        if left := self.left_borrows():
            raise GuestFault(f"{where}: {left} borrow handles still remain at the end of the call")

    def left_borrows(self) -> int:
        """How many handles the component still has that were lent to it for this call."""
        return self.borrows

    async def _return(self, value: Any) -> None:
        self._check_resolve(self.export.name)
        self.state = TaskState.RESOLVED
        await self.resolve(value)

    async def _cancel(self) -> None:
        self.state = TaskState.RESOLVED
        await self.cancelled()

    def _exit(self) -> None:
        if self.state is not TaskState.RESOLVED:
            raise GuestFault(f"{self.export.name}: the task has ended and never called task.return")
        self._end()

    def _end(self) -> None:
        state = self.owner
        state.tasks.discard(self)
        state.release(self)
        self._pause()
        if not self.exited.done():
            self.exited.set_result(None)
