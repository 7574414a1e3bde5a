"""The handle table of a component instance: what the guest knows by a number.

Resources of the host and of components, ends of streams and futures, sets of waitables, subtasks and error contexts are
all in one table, as the canonical ABI has it ("Table State" and "Resource State" of CanonicalABI.md). Index 0 is never
given out, and an index that was given back is given out again, the last one first.

A guest is hostile: it may name any index for anything. Whatever it names wrongly is a `GuestFault`, which ends it.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Coroutine, Hashable
from contextlib import suppress
from typing import Any, Protocol

from bindgen.runtime import GuestFault
from slight_py.component.types import ResourceType

logger = logging.getLogger(__name__)


class BorrowScope:
    """A call of an export that was lent resources: it must drop its handles to them before it returns."""

    __slots__ = ("borrows",)

    def __init__(self) -> None:
        self.borrows = 0
        """How many of them it still has."""


class SharedEnd(Protocol):
    """An end of a stream or future that the host has."""

    @property
    def is_open(self) -> bool: ...


class Resource:
    """A resource that a component implements, as everybody but that component knows it."""

    __slots__ = ("_destructor", "rep", "type")

    def __init__(
        self, type_: ResourceType, rep: int, destructor: Callable[[int], Coroutine[Any, Any, None]] | None = None
    ) -> None:
        self.type = type_
        self.rep = rep
        """What stands for it in the component that implements it: any number."""
        self._destructor = destructor

    async def drop(self) -> None:
        """Ends the resource, whose owner the caller is: runs its destructor in the instance that implements it.

        Raises Trap or GuestFault where the destructor fails.
        """
        destructor, self._destructor = self._destructor, None
        if destructor is not None:
            await destructor(self.rep)


class HandleTable:
    """The handles of one component instance.

    A resource's key says what type it is of: the `KEY` of its structural text where the host implements it, the
    `ResourceType` where a component does. Other handles have the name of their kind as key, such as `waitable set`.

    `where` is for messages: the function and the parameter that a handle is passed in.
    """

    LIMIT = 65_536
    """How many handles an instance may have at once."""

    __slots__ = ("_borrows", "_free", "_keys", "_lends", "_shared", "_values", "scope")

    def __init__(self) -> None:
        # Two lists rather than one of objects: to make an object takes longer than all else in `add`.
        self._keys: list[Hashable] = [None]
        self._values: list[Any] = [None]
        self._free: list[int] = []
        self._lends: dict[int, int] = {}
        """How many calls each handle is lent to, where it is to any."""
        self._borrows: dict[int, BorrowScope] = {}
        """The handles that were lent to this instance, and to which of its calls."""
        self._shared: weakref.WeakSet[SharedEnd] | None = None
        self.scope = BorrowScope()
        """The call that `borrow` lends to; whoever calls the guest says which that is."""

    def __len__(self) -> int:
        """How many handles there are."""
        return len(self._keys) - 1 - len(self._free)

    def add(self, key: Hashable, value: object, where: str = "") -> int:
        """Gives the guest a handle of its own; returns its index. Raises GuestFault where it has too many."""
        free = self._free
        if free:
            index = free.pop()
            self._keys[index] = key
            self._values[index] = value
            return index
        index = len(self._keys)
        if index > self.LIMIT:
            raise GuestFault(f"{_at(where)}the guest holds {self.LIMIT} handles and drops none")
        self._keys.append(key)
        self._values.append(value)
        return index

    def get(self, key: Hashable, index: int, where: str = "") -> Any:
        """What the guest means by `index`. Of use for a borrow only where the guest can't run before it is done with.

        Raises GuestFault where that is not a handle of this type.
        """
        try:
            if self._keys[index] == key:
                return self._values[index]
        except IndexError:
            pass
        raise self._refusal(key, index, where)

    def find(self, index: int, where: str = "") -> Any:
        """What the guest means by `index`, of whatever type. Raises GuestFault where that is no handle."""
        if index >= len(self._keys) or self._keys[index] is None:
            raise GuestFault(f"{_at(where)}there is no handle {index}")
        return self._values[index]

    def take(self, key: Hashable, index: int, where: str = "") -> Any:
        """What the guest hands over: the handle is its no more.

        Raises GuestFault where that is not a handle of this type, is lent to a call, or is itself only lent.
        """
        try:
            if self._keys[index] == key and not (self._lends or self._borrows):
                value = self._values[index]
                self._keys[index] = self._values[index] = None
                self._free.append(index)
                return value
        except IndexError:
            pass
        value = self.get(key, index, where)
        if index in self._borrows:
            raise GuestFault(f"{_at(where)}handle {index} of {_name(key)} was lent to the guest, and is not its own")
        self._remove(key, index, where)
        return value

    def lend(self, key: Hashable, index: int, where: str = "") -> Any:
        """What the guest lends to a call during which it may run. The handle stays until `give_back`."""
        value = self.get(key, index, where)
        self._lends[index] = self._lends.get(index, 0) + 1
        return value

    def give_back(self, index: int) -> None:
        """Ends what `lend` began."""
        count = self._lends[index] - 1
        if count:
            self._lends[index] = count
        else:
            del self._lends[index]

    def borrow(self, key: Hashable, value: object, where: str = "") -> int:
        """Gives the guest a handle that is lent to it for the call in `scope`; returns its index."""
        return self.add_borrow(key, value, self.scope, where)

    def add_borrow(self, key: Hashable, value: object, scope: BorrowScope, where: str = "") -> int:
        """Gives the guest a handle that is lent to it for the call `scope`; returns its index."""
        index = self.add(key, value, where)
        self._borrows[index] = scope
        scope.borrows += 1
        return index

    def drop(self, key: Hashable, index: int, where: str = "") -> Any:
        """Ends a handle to a resource. Returns what it stood for if it was the guest's own, None if it was lent.

        What the owner's end means for the resource is up to the caller. Raises GuestFault as `take` does.
        """
        value = self.get(key, index, where)
        self._remove(key, index, where)
        scope = self._borrows.pop(index, None) if self._borrows else None
        if scope is None:
            return value
        scope.borrows -= 1
        return None

    def exchange(self, index: int, value: object) -> None:
        """Has a handle that the guest has stand for another value."""
        self._values[index] = value

    def share(self, end: SharedEnd) -> None:
        """Notes an end of a stream or future that the host has, whose other end the guest has or had."""
        if self._shared is None:
            self._shared = weakref.WeakSet()
        self._shared.add(end)

    def is_shared_with_host(self) -> bool:
        """Whether there is a stream or future whose end in the host may still be read or written."""
        return self._shared is not None and any(end.is_open for end in self._shared)

    def close(self) -> None:
        """The instance ends: whatever it owned is told so, by `on_drop`."""
        values = [value for index, value in enumerate(self._values) if index not in self._borrows]
        # Whatever on_drop does finds an empty table.
        self._keys, self._values = [None], [None]
        self._free.clear()
        self._lends.clear()
        self._borrows.clear()
        for value in values:
            if value is not None:
                # A parent may come before its children, which end as well.
                with suppress(GuestFault):
                    dropped(value)

    def _remove(self, key: Hashable, index: int, where: str) -> None:
        if index in self._lends:
            raise GuestFault(f"{_at(where)}handle {index} of {_name(key)} is lent to a call that isn't done")
        self._keys[index] = self._values[index] = None
        self._free.append(index)

    def _refusal(self, key: Hashable, index: int, where: str) -> GuestFault:
        found = self._keys[index] if 0 <= index < len(self._keys) else None
        if found is None:
            return GuestFault(f"{_at(where)}there is no handle {index}, where one of {_name(key)} is expected")
        return GuestFault(f"{_at(where)}handle {index} is of {_name(found)}, not of {_name(key)}")


def dropped(value: object) -> None:
    """Tells an object of the host that the guest that owned it has dropped it, or has ended.

    Raises GuestFault where the guest may not drop it: a parent before its children.
    """
    on_drop = getattr(value, "on_drop", None)
    if on_drop is not None:
        try:
            on_drop()
        except GuestFault:
            raise
        except Exception:
            logger.exception("on_drop of %s failed", type(value).__name__)


def key_of(resource: ResourceType) -> Hashable:
    """What tells resources of this type from others in a table."""
    return resource.key if resource.instance is None else resource


def _at(where: str) -> str:
    return f"{where}: " if where else ""


def _name(key: Hashable) -> str:
    return key.key or "a resource" if isinstance(key, ResourceType) else str(key)
