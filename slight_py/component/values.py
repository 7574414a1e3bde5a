"""Values of any type, lifted from a component's memory and lowered to it: the canonical ABI at run time.

`codec(type)` makes what reads and writes values of a type, once for each type. It is used where no generated module
is: for calls from a component to another, for what streams and futures carry, and for functions that the host calls by
name. Rules and names are those of CanonicalABI.md ("Loading", "Storing", "Flat Lifting", "Flat Lowering").

What values are in Python:

| type | value |
| --- | --- |
| `bool`, integers, floats | bool, int, float |
| `char`, `string` | str |
| `list<u8>` | bytes; any bytes-like object is taken, and so is a sequence of numbers |
| other lists, of fixed length too | list; any sequence is taken |
| `map<K, V>` | list of tuples, in the guest's order, which may repeat a key |
| `record` | dict, by the names of the fields |
| `tuple` | tuple |
| `variant` | tuple of the case's name, and its payload or None |
| `enum` | the case's name |
| `option<T>` | None or the value; `Some(value)` for the value where `T` is an option itself |
| `result<T, E>` | `Ok(value)` or `Err(value)`, the value being None where there is no type |
| `flags` | frozenset of names; any container of names is taken |
| `own`, `borrow` | the host's object; a `Resource` where a component implements the resource |
| `stream`, `future` | `StreamReader`, `FutureReader` |
| `error-context` | `ErrorContext` |

A value is lowered in two walks, as `bindgen.runtime.Lower` does it: the first notes the blocks of memory that it needs,
which the guest then allocates; the second writes. So nothing runs in the guest while a value is half written.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Awaitable, Sequence
from typing import Any

from bindgen.runtime import (
    GuestFault,
)
from slight_py.component.codecs import codec
from slight_py.component.handles import BorrowScope
from slight_py.component.lifting import FlatValue, Lifting, Lowering, Space
from slight_py.component.types import (
    TupleOf,
    ValueType,
    flatten,
    offsets,
)


class Passing:
    """Values that are passed together: the parameters of a function, or its result."""

    __slots__ = ("_codecs", "_has_pointer", "_offsets", "alignment", "in_memory", "size")

    def __init__(self, types: Sequence[ValueType], most: int) -> None:
        """Beyond `most` core values they go through memory, as a tuple."""
        flat = flatten(types)
        self.in_memory = flat is None or len(flat) > most
        """Whether one pointer stands for all of them."""
        self._codecs = [codec(each) for each in types]
        self._has_pointer = self.in_memory or any(each.has_pointer for each in types)
        self._offsets = offsets(types)
        together = TupleOf(tuple(types))
        self.size, self.alignment = together.size, together.alignment

    def lift(self, space: Space, args: Sequence[FlatValue], where: str, lenders: list[int] | None = None) -> list[Any]:
        """The values that core values stand for. Raises GuestFault for what breaks the rules."""
        lifting = Lifting(space, where, lenders, self._has_pointer)
        take = iter(args).__next__
        if not self.in_memory:
            return [each.lift(lifting, take) for each in self._codecs]
        at = int(take())
        lifting.check(at, self.size, self.alignment)
        return [each.load(lifting, at + offset) for each, offset in zip(self._codecs, self._offsets, strict=True)]

    async def lower(
        self, space: Space, values: Sequence[Any], where: str, scope: BorrowScope | None = None, out: int | None = None
    ) -> list[FlatValue]:
        """The core values that stand for values. Where they are in memory, `out` is the guest's place for them; without
        one it is allocated.

        Raises GuestFault for a guest that gives useless places, ValueError for values that are not of the types.
        """
        lowering = Lowering(space, where, scope)
        flat: list[FlatValue] = []
        try:
            if self.in_memory and out is None:
                lowering.block(self.size, self.alignment, 0)
            for each, value in zip(self._codecs, values, strict=True):
                if each.note is not None:
                    each.note(lowering, value)
            await lowering.allocate()
            if not self.in_memory:
                for each, value in zip(self._codecs, values, strict=True):
                    each.lower(lowering, value, flat)
                return flat
            at = self._place(lowering, out)
            for each, value, offset in zip(self._codecs, values, self._offsets, strict=True):
                each.store(lowering, value, at + offset)
        except (struct.error, OverflowError, LookupError, AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"{where}: a value is not of its type: {error}") from error
        return [at] if out is None else []

    def _place(self, lowering: Lowering, out: int | None) -> int:
        if out is None:
            return lowering.take()[0]
        memory = lowering.memory = lowering.space.memory
        if out % self.alignment or out + self.size > len(memory):
            raise GuestFault(
                f"{lowering.where}: the guest wants {self.size} bytes, aligned to {self.alignment}, at {out:#x} of a"
                f" memory of {len(memory):#x}"
            )
        return out


class ElementForm:
    """How a component sees the values of a stream or future; a `streams.Form`."""

    __slots__ = ("_codec", "alignment", "size")

    def __init__(self, element: ValueType | None) -> None:
        self._codec = None if element is None else codec(element)
        self.size, self.alignment = (0, 1) if element is None else (element.size, element.alignment)

    def load(self, guest: Space, where: str, at: int, count: int) -> Any:
        if self._codec is None:
            return range(count)
        return self._codec.load_many(Lifting(guest, where), at, count)

    def store(self, guest: Space, where: str, at: int, values: Any) -> Awaitable[None] | None:
        if self._codec is None:
            return None
        if isinstance(values, bytes | memoryview):
            guest.memory[at : at + len(values)] = values
            return None
        lowering = Lowering(guest, where)
        if self._codec.note is None:
            lowering.memory = guest.memory
            self._codec.store_many(lowering, values, at)
            return None
        return self._store_later(lowering, at, values)

    async def _store_later(self, lowering: Lowering, at: int, values: Sequence[Any]) -> None:
        assert self._codec is not None
        self._codec.note_many(lowering, values)
        await lowering.allocate()
        lowering.memory = lowering.space.memory
        self._codec.store_many(lowering, values, at)


@functools.cache
def element_form(element: ValueType | None) -> ElementForm:
    """How a component sees what a stream or future carries."""
    return ElementForm(element)
