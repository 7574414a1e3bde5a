"""Calls of a component's asynchronous functions: by generated bindings, by their types, and by other components.

The rules are those of CanonicalABI.md, `canon_lift` and `canon_lower`; what a task is, tasks.py has.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from bindgen.runtime import GuestFault, rest
from slight_py.component.handles import BorrowScope
from slight_py.component.lifting import FlatValue
from slight_py.component.subtasks import Subtask, SubtaskState, begun
from slight_py.component.tasks import Export, Guest, Task
from slight_py.component.types import MAX_FLAT_ASYNC_PARAMS, MAX_FLAT_PARAMS, MAX_FLAT_RESULTS, FuncType, ValueType
from slight_py.component.values import Passing
from slight_py.engine import Trap


class _AwaitedTask(Task):
    """A call that somebody awaits the result of."""

    __slots__ = ("result",)

    def __init__(self, guest: Guest, export: Export) -> None:
        super().__init__(guest, export)
        self.result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def resolve(self, value: Any) -> None:
        if not self.result.done():
            self.result.set_result(value)

    async def cancelled(self) -> None:
        self.result.cancel()

    def abort(self, error: Exception) -> None:
        if not self.result.done():
            self.result.set_exception(error)
            self.result.exception()  # Nobody may be waiting for it any more, which is no news.
        super().abort(error)


# Calls from the host.


class Call:
    """A call of an export by a generated module, which is given this in place of the export: so that the caller learns
    of more than the result."""

    __slots__ = ("_on_return", "export", "task")

    def __init__(self, export: Export, on_return: Callable[[Any], None]) -> None:
        """`on_return` is told of the result before the core code goes on. It must not raise."""
        self.export = export
        self._on_return = on_return
        self.task: Task | None = None
        """The task, once it has begun."""

    def returns(self, value: Any) -> None:
        self._on_return(value)

    async def exited(self) -> None:
        """Waits until the task has ended. Raises what ended the instance before."""
        if self.task is not None:
            await self.task.until_exited()


class HostTask(_AwaitedTask):
    """A call of an export by the host, by a generated module: it lowers the parameters and lifts the result."""

    __slots__ = ("_args", "_call_of", "_lift", "_returned", "_scope")

    def __init__(
        self,
        guest: Guest,
        export: Export | Call,
        args: Sequence[FlatValue],
        lift: Callable[[Any, Any], Any],
        returned: Callable[[Any, Sequence[FlatValue]], Any],
    ) -> None:
        self._call_of = export if isinstance(export, Call) else None
        super().__init__(guest, export.export if isinstance(export, Call) else export)
        if self._call_of is not None:
            self._call_of.task = self
        self._args = args
        self._lift = lift
        self._returned = returned
        # What was lent with the parameters was lent to the call that is made next, which is this.
        self._scope, guest.handles.scope = guest.handles.scope, BorrowScope()

    async def start(self) -> Sequence[FlatValue]:
        return self._args

    async def resolve(self, value: Any) -> None:
        if self._call_of is not None:
            self._call_of.returns(value)
        await super().resolve(value)

    def left_borrows(self) -> int:
        return self._scope.borrows

    def lift(self, result: Any) -> Any:
        return self._lift(self.guest, result)

    def returned(self, guest: Guest, args: Sequence[FlatValue]) -> Any:
        return self._returned(guest, args)


async def run(
    guest: Guest,
    export: Export | Call,
    args: Sequence[FlatValue],
    lift: Callable[[Any, Any], Any],
    returned: Callable[[Any, Sequence[FlatValue]], Any],
) -> Any:
    """Calls an export, and waits until it has returned: see `bindgen.runtime.component.Guest.run`.

    Most core code is done without a wait. What has to wait goes on at the side: its task may have returned already, and
    waits then for what the caller does with the result.
    """
    state = guest.state
    if state.failure is not None:
        raise state.failure
    task = HostTask(guest, export, args, lift, returned)
    beginning = task.begin()
    try:
        awaited = beginning.send(None)
    except StopIteration:
        return await task.result
    except Exception as error:
        state.fail(error)
        raise
    begun = state.spawn(_finished(beginning, awaited))
    try:
        return await task.result
    except asyncio.CancelledError:
        begun.cancel()
        raise


async def _finished(begun: Coroutine[Any, Any, None], awaited: Any) -> None:
    await rest(begun, awaited)


PATIENCE = 0.2
"""Seconds between looks for tasks that wait for each other."""


async def call(guest: Guest, export: Export, values: Sequence[Any], where: str = "") -> Any:
    """Calls an export with values as values.py has them, and waits until it has returned one, or None without one.

    Raises GuestFault or Trap where the guest breaks a rule, ValueError for values that are not of the types. A
    component whose tasks all wait, and for nothing that the host does, is ended by a Trap.
    """
    task = ValueTask(guest, export, values, where or export.name)
    begun = asyncio.ensure_future(task.begin())
    try:
        while not task.result.done():
            waits: list[asyncio.Future[Any]] = [task.result] if begun.done() else [task.result, begun]
            done, _ = await asyncio.wait(waits, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
            if begun in done:
                begun.result()
            elif not done and guest.is_stuck():
                guest.state.fail(Trap("deadlock detected: event loop cannot make further progress"))
        await begun
    except ValueError:
        task.abort(GuestFault("the call was not made"))
        raise
    except Exception as error:
        guest.state.fail(error)
        raise
    finally:
        begun.cancel()
    return task.result.result()


# Calls from one component to another.


@functools.cache
def passing(types: tuple[ValueType, ...], most: int) -> Passing:
    """How values of such types are passed, at most so many of them as core values."""
    return Passing(types, most)


def params_of(type_: FuncType, most: int = MAX_FLAT_PARAMS) -> Passing:
    return passing(tuple(each.type for each in type_.params), most)


def result_of(type_: FuncType, most: int = MAX_FLAT_RESULTS) -> Passing:
    return passing(() if type_.result is None else (type_.result,), most)


class ValueTask(_AwaitedTask):
    """A call with Python values of values.py."""

    __slots__ = ("_values", "_where")

    def __init__(self, guest: Guest, export: Export, values: Sequence[Any], where: str) -> None:
        super().__init__(guest, export)
        self._values = values
        self._where = where

    async def start(self) -> Sequence[FlatValue]:
        return await params_of(self.export.type).lower(self.guest, self._values, self._where, self)

    def lift(self, result: Any) -> Any:
        flat = () if result is None else (result,)
        return self._only(result_of(self.export.type).lift(self.guest, flat, self._where))

    def returned(self, guest: Guest, args: Sequence[FlatValue]) -> Any:
        return self._only(result_of(self.export.type, MAX_FLAT_PARAMS).lift(guest, args, self._where))

    def _only(self, values: list[Any]) -> Any:
        return values[0] if values else None


MAX_TASKS = 4096
"""How many calls of one component by others may be under way: each takes some KiB."""


class ComponentTask(ValueTask):
    """A call by another component, whose subtask it is."""

    __slots__ = ("_args", "_caller", "_is_async", "_subtask", "flat")

    def __init__(
        self, guest: Guest, export: Export, caller: Guest, args: Sequence[FlatValue], is_async: bool, where: str
    ) -> None:
        super().__init__(guest, export, (), where)
        self._caller = caller
        self._args = args
        self._is_async = is_async
        self._subtask = Subtask(caller.state.handles)
        self._subtask.on_request_cancel(self.request_cancel)
        self.flat: list[FlatValue] = []
        """The core result, for a caller that waits."""

    async def start(self) -> Sequence[FlatValue]:
        self._subtask.progress(SubtaskState.STARTED)
        most = MAX_FLAT_ASYNC_PARAMS if self._is_async else MAX_FLAT_PARAMS
        params = params_of(self.export.type, most)
        self._values = params.lift(self._caller, self._args, self._where, self._subtask.lent)
        return await super().start()

    async def resolve(self, value: Any) -> None:
        type_ = self.export.type
        if type_.result is not None:
            result = result_of(type_, 0 if self._is_async else MAX_FLAT_RESULTS)
            out = int(self._args[-1]) if result.in_memory else None
            self.flat = await result.lower(self._caller, [value], self._where, out=out)
        self._subtask.progress(SubtaskState.RETURNED)

    async def cancelled(self) -> None:
        self._subtask.resolve_cancelled()

    async def answer(self) -> int | float | None:
        """Makes the call; returns what the caller's core code gets."""
        caller = self._caller.state
        if len(self.owner.tasks) >= MAX_TASKS:
            raise GuestFault(f"{self._where}: {MAX_TASKS} calls of the component are under way, and it ends none")
        await self.begin()
        if self._is_async:
            return begun(caller, self._subtask)
        if not self._subtask.is_resolved:
            caller.check_block(self._where)
        await self._subtask.until_resolved(caller)
        self._subtask.deliver()
        return self.flat[0] if self.flat else None


async def call_component(
    caller: Guest, guest: Guest, export: Export, args: Sequence[FlatValue], is_async: bool, where: str
) -> int | float | None:
    """Answers a component that calls another one's export, lowered with `async` or without."""
    return await ComponentTask(guest, export, caller, args, is_async, where).answer()
