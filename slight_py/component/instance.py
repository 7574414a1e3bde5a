"""An instance of a component: the guest as generated bindings see it, and what each component in it has of its own.

Most components are one core instance with one memory; then the instance itself is the guest. Where functions name
another memory, allocator or encoding of texts, or belong to a component that is nested in it, a `View` stands in its
place.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from bindgen.runtime import GuestFault
from slight_py.component import subtasks, task_calls, tasks
from slight_py.component.channels import Channels
from slight_py.component.handles import HandleTable
from slight_py.component.plan import Encoding
from slight_py.component.types import FuncType
from slight_py.engine import ExportedFunction, Instance, Program

_NO_MEMORY = memoryview(bytearray())


@dataclass(frozen=True, slots=True)
class Place:
    """Where a canonical function's values are, and who allocates them: its options, found among the core instances."""

    part: int
    """The component instance: the number in the plan."""
    memory: int | None
    """The number of the exported memory (`store.export_number`)."""
    realloc: ExportedFunction | None
    encoding: Encoding


@dataclass(frozen=True, slots=True)
class Lifted(ExportedFunction):
    """A core function that a component exports as one of its own."""

    place: Place
    type: FuncType
    post_return: ExportedFunction | None
    callback: ExportedFunction | None
    is_async: bool
    is_main: bool
    """Whether the instance itself is the guest."""


class Part:
    """One component instance at run time."""

    __slots__ = ("_state", "entered", "handles", "number", "whole")

    def __init__(self, whole: ComponentInstance, number: int, handles: HandleTable) -> None:
        self.whole = whole
        self.number = number
        self.handles = handles
        self.entered = False
        """Whether a call of one of its functions isn't done: it can't be called again until then."""
        self._state: tasks.State | None = None

    @property
    def state(self) -> tasks.State:
        """What its asynchronous tasks share. Most components have none, and need none of this."""
        if self._state is None:
            self._state = tasks.State(self.handles, self.whole.fail)
        return self._state

    def is_stuck(self) -> bool:
        """Whether no task of it can go on, if it has any."""
        return self._state is None or self._state.is_stuck()

    def abort(self, error: Exception) -> None:
        """The instance has ended: its tasks don't go on."""
        if self._state is not None:
            self._state.abort(error)


class Asynchronous:
    """What a guest does that is asynchronous itself: see `bindgen.runtime.component.Guest`."""

    __slots__ = ()

    handles: Any
    state: Any

    @property
    def channels(self) -> Channels:
        """The streams and futures that it shares with the host."""
        return Channels(self.handles)

    async def run(
        self,
        export: Lifted | task_calls.Call,
        args: Sequence[Any],
        lift: Callable[[Any, Any], Any],
        returned: Callable[[Any, Sequence[Any]], Any],
    ) -> Any:
        """Calls an exported function of type `async func`, and waits until it has returned."""
        return await task_calls.run(self, export, args, lift, returned)  # type: ignore[arg-type]  # mixed into guests

    async def subtask(
        self,
        work: Coroutine[Any, Any, Any],
        lower: Callable[[Any], Awaitable[None]] | None,
        lent: Iterable[int],
    ) -> int:
        """Begins what the guest asked for with an import that it lowers with `async`."""
        return await subtasks.subtask(self, work, lower, lent)  # type: ignore[arg-type]  # mixed into guests


class ComponentInstance(Asynchronous, Instance):
    """One instance of a component, with all of its core instances in one store."""

    __slots__ = ("_parts", "_views", "handles")

    encoding: Encoding = "utf8"
    handles: HandleTable

    def __init__(self, program: Program, reused: bool, wasi: Any) -> None:
        super().__init__(program, reused, wasi)
        self.handles = HandleTable()
        """The table of the component instance that it is the guest for."""
        self._parts: dict[int, Part] | None = None
        self._views: dict[Place, View] | None = None

    @property
    def memory(self) -> memoryview:
        """The memory as it is now; an empty one where no function of the component names a memory."""
        memory = self._store.memory
        if memory is not None:
            return memory
        if self._program.memory is None:
            return _NO_MEMORY
        raise GuestFault("the guest calls an import from a start function, before it has a memory")

    def _failed(self, fault: Exception) -> None:
        """Ends the instance: nothing of a component that has broken a rule is entered again."""
        self._ended = self._ended or fault

    @property
    def instance(self) -> int:
        """The number of the component instance that it is the guest for."""
        number: int = self._program.main.part
        return number

    @property
    def whole(self) -> ComponentInstance:
        """Itself: a `View` is a part of an instance."""
        return self

    def part(self, number: int) -> Part:
        """A component instance by its number."""
        if self._parts is None:
            self._parts = {}
        found = self._parts.get(number)
        if found is None:
            table = self.handles if number == self._program.main.part else HandleTable()
            found = self._parts[number] = Part(self, number, table)
        return found

    @property
    def state(self) -> tasks.State:
        """What the tasks share of the component instance that it is the guest for."""
        return self.part(self.instance).state

    def fail(self, error: Exception) -> None:
        """Ends all that runs in the instance: a component has broken a rule, or can't go on."""
        if self._ended is None:
            self._ended = error
        self._abort(self._ended)
        # Whoever is at the other end of a stream learns that it has ended, once what goes on here is through.
        asyncio.get_running_loop().call_soon(self._close_tables)

    async def idle(self) -> None:
        """Waits until all tasks of all components in it have ended. Raises what ended the instance."""
        for part in [*(self._parts or {}).values()]:
            await part.state.idle()

    def is_stuck(self) -> bool:
        """Whether no task of any component in it can go on by itself, or by what the host does."""
        return all(part.is_stuck() for part in (self._parts or {}).values())

    def _abort(self, error: Exception) -> None:
        for part in (self._parts or {}).values():
            part.abort(error)
        self._changed()

    def _close_tables(self) -> None:
        self.handles.close()
        for part in (self._parts or {}).values():
            if part.handles is not self.handles:
                part.handles.close()

    def view(self, place: Place) -> View:
        """The guest as functions see it that name such a memory, allocator and encoding."""
        if self._views is None:
            self._views = {}
        found = self._views.get(place)
        if found is None:
            found = self._views[place] = View(self, place)
        return found

    def guest(self, function: Lifted) -> ComponentInstance | View:
        """The guest as the bindings of an exported function see it."""
        return self if function.is_main else self.view(function.place)

    def memory_at(self, number: int) -> memoryview:
        """An exported memory by its number. Raises GuestFault where its module isn't instantiated yet."""
        try:
            return self._store.memory_at(number)
        except IndexError:
            raise GuestFault("the guest calls an import from a start function, before it has a memory") from None

    async def finish(self, export: Lifted, result: Any) -> None:
        """Ends a call, once the result is lifted: calls the function's post-return, if it has one.

        Raises GuestFault where the guest keeps what was lent to it for the call.
        """
        handles = self.handles if export.is_main else self.part(export.place.part).handles
        if left := handles.scope.borrows:
            raise GuestFault(f"{export.name}: {left} borrow handles still remain at the end of the call")
        if export.post_return is not None:
            await self._call(export.post_return, [() if result is None else (result,)], True)

    def close(self) -> None:
        super().close()
        if self._ended is not None:
            # What the guest was ended for keeps the values of the calls that it broke off, and the instance with them:
            # streams among them would be fed until the collector of garbage comes.
            traceback.clear_frames(self._ended.__traceback__)
        if self._parts is not None or self._waiting:
            self._abort(self._ended or RuntimeError("the instance is closed"))
        self._close_tables()
        # They know the instance, too: so the memory of all of them is free at once.
        self._parts = self._views = None


class View(Asynchronous):
    """A guest that is a part of an instance, by a memory and an allocator of its own."""

    __slots__ = ("_instance", "_place", "encoding", "handles", "state")

    def __init__(self, instance: ComponentInstance, place: Place) -> None:
        self._instance = instance
        self._place = place
        self.encoding = place.encoding
        part = instance.part(place.part)
        self.handles = part.handles
        self.state = part.state

    @property
    def instance(self) -> int:
        """The number of the component instance."""
        return self._place.part

    @property
    def whole(self) -> ComponentInstance:
        """The instance that it is a part of."""
        return self._instance

    def __getattr__(self, name: str) -> Any:
        # What is the same for all parts: sessions, what WASI gives.
        return getattr(self._instance, name)

    @property
    def memory(self) -> memoryview:
        if self._place.memory is None:
            return _NO_MEMORY
        return self._instance.memory_at(self._place.memory)

    memory_for_wasi = memory

    @property
    def files(self) -> Any:
        return self._instance.files

    @files.setter
    def files(self, files: Any) -> None:
        self._instance.files = files

    async def allocate(self, lower: Any) -> None:
        if self._place.realloc is None:
            raise GuestFault(f"{lower.where}: the function has no realloc among its options")
        await self._instance.allocate(lower, self._place.realloc)


Guest: TypeAlias = ComponentInstance | View
