"""What values are lifted from and lowered to: the memory, handle table and encoding of one call, and its checks.

codecs.py has what does that for each type. Rules and names are those of CanonicalABI.md ("Loading", "Storing").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, TypeAlias

from bindgen.runtime import (
    GuestFault,
    Lift,
)
from slight_py.component.handles import BorrowScope, HandleTable
from slight_py.component.plan import Encoding
from slight_py.component.types import (
    ValueType,
)

FlatValue: TypeAlias = int | float
"""A core value: i32 and i64 as unsigned integers, f32 and f64 as floats."""

MAX_BYTES = (1 << 28) - 1
"""How long a string or a list may be in memory, in bytes."""

_UTF16_TAG = 1 << 31
"""Set in the length of a string of `latin1+utf16` that is UTF-16."""


class Space(Protocol):
    """What a canonical function reads and writes: the memory, the allocator and the encoding that its options name, and
    the handle table of its instance."""

    @property
    def memory(self) -> memoryview:
        """The memory, writable. Stale once the guest has run. Raises GuestFault where the options name none."""

    @property
    def handles(self) -> HandleTable: ...

    @property
    def encoding(self) -> Encoding: ...

    @property
    def instance(self) -> int | None:
        """The number of the component instance."""

    async def allocate(self, lower: Any) -> None:
        """Has the guest allocate `lower.blocks`, and gives the addresses to `lower.place`.

        Raises GuestFault where the options name no allocator, Trap where it fails.
        """


class Lifting:
    """Takes over the values of one call.

    `lenders` notes which handles are lent to the call, for `HandleTable.give_back`; without it borrows aren't counted,
    which is right only where the guest can't run before the call is done.
    """

    __slots__ = ("encoding", "handles", "left", "lenders", "memory", "space", "where")

    def __init__(self, space: Space, where: str, lenders: list[int] | None = None, memory: bool = True) -> None:
        """`memory` says whether the values need one. `where` is for messages."""
        self.space = space
        self.where = where
        self.memory = space.memory if memory else memoryview(b"")
        self.encoding = space.encoding
        self.handles = space.handles
        self.lenders = lenders
        self.left = Lift.LIMIT
        """How many bytes the call may still hand over; see `Lift`."""

    def fault(self, what: str) -> NoReturn:
        raise GuestFault(f"{self.where}: {what}")

    def check(self, pointer: int, size: int, alignment: int) -> None:
        """Checks that `size` bytes at `pointer` lie in memory, and are aligned."""
        if pointer % alignment:
            self.fault(f"{pointer:#x} is not aligned to {alignment} bytes")
        if pointer + size > len(self.memory):
            self.fault(f"{size} bytes at {pointer:#x} reach past the end of memory, {len(self.memory):#x}")

    def spend(self, size: int) -> None:
        """Counts what the call hands over. Raises GuestFault where that is too much."""
        self.left -= size
        if self.left < 0:
            self.fault(
                f"the call hands over too much; it may {Lift.LIMIT >> 20} MiB, or {Lift.LIMIT // Lift.TEXT >> 20} MiB"
                f" of text, or {Lift.LIMIT // Lift.ELEMENT} elements of lists"
            )

    def string(self, pointer: int, units: int) -> str:
        encoding, size = "utf-8", units
        alignment = 1
        if self.encoding == "utf16":
            encoding, size, alignment = "utf-16-le", 2 * units, 2
        elif self.encoding == "latin1+utf16":
            alignment = 2
            if units & _UTF16_TAG:
                encoding, size = "utf-16-le", 2 * (units ^ _UTF16_TAG)
            else:
                encoding = "latin-1"
        if size > MAX_BYTES:
            self.fault(f"a string of {size} bytes is longer than {MAX_BYTES}")
        self.check(pointer, size, alignment)
        self.spend(size * Lift.TEXT)
        try:
            return str(self.memory[pointer : pointer + size], encoding)
        except UnicodeDecodeError as error:
            self.fault(f"the text is not {encoding}: {error.reason} at byte {error.start}")

    def list(self, pointer: int, length: int, element: Codec) -> Any:
        size = length * element.size
        if size > MAX_BYTES:
            self.fault(f"a list of {size} bytes is longer than {MAX_BYTES}")
        self.check(pointer, size, element.alignment)
        return element.load_many(self, pointer, length)


class Lowering:
    """Hands the values of one call over. `scope` is the call of an export that resources are lent to."""

    __slots__ = ("_lengths", "blocks", "encoding", "handles", "instance", "memory", "scope", "space", "take", "where")

    later = None
    """Whoever allocates for `bindgen.runtime.Lower` asks for it: what is handed over in pieces, which is nothing."""

    memory: memoryview
    """The guest's memory, once the blocks are allocated."""
    take: Callable[[], tuple[int, int]]
    """Pointer and length of the next block, once they are allocated."""

    def __init__(self, space: Space, where: str, scope: BorrowScope | None = None) -> None:
        self.space = space
        self.where = where
        self.scope = scope
        self.encoding = space.encoding
        self.handles = space.handles
        self.instance = space.instance
        self.blocks: list[tuple[int, int, bytes | None]] = []
        """Size and alignment in bytes, and what to write there where that is known."""
        self._lengths: list[int] = []

    def block(self, size: int, alignment: int, length: int, data: bytes | None = None) -> None:
        """Notes a block; `length` is what the guest is told, in elements or code units."""
        self.blocks.append((size, alignment, data))
        self._lengths.append(length)

    def string(self, value: str) -> None:
        """Notes the block of a text."""
        if self.encoding == "utf8":
            data = value.encode()
            self.block(len(data), 1, len(data), data)
            return
        if self.encoding == "latin1+utf16":
            try:
                data = value.encode("latin-1")
            except UnicodeEncodeError:
                pass
            else:
                self.block(len(data), 2, len(data), data)
                return
        data = value.encode("utf-16-le")
        tag = _UTF16_TAG if self.encoding == "latin1+utf16" else 0
        self.block(len(data), 2, len(data) // 2 | tag, data)

    async def allocate(self) -> None:
        """Has the guest allocate the blocks, and fills those whose content is known."""
        if self.blocks:
            await self.space.allocate(self)

    def place(self, pointers: Sequence[int]) -> None:
        """Takes the addresses of the blocks. Raises GuestFault for a useless one."""
        memory = self.memory = self.space.memory
        end = len(memory)
        for (size, alignment, data), pointer in zip(self.blocks, pointers, strict=True):
            if pointer % alignment or pointer + size > end:
                raise GuestFault(
                    f"{self.where}: realloc returned {pointer:#x} for {size} bytes aligned to {alignment}, in a memory"
                    f" of {end:#x}"
                )
            if data:
                memory[pointer : pointer + size] = data
        self.take = iter(list(zip(pointers, self._lengths, strict=True))).__next__


@dataclass(frozen=True, slots=True)
class ErrorContext:
    """What went wrong, for people to read; equal only as far as the text is."""

    message: str


ERROR_CONTEXT_KEY = "error context"
"""The key of error contexts in a handle table."""

Next: TypeAlias = Callable[[], Any]
"""Gives the next of some core values."""


class Codec:
    """How values of one type are read and written.

    `load`, `load_many`, `store` and `store_many` don't check that the place is in memory and aligned: whoever knows the
    place does.
    """

    __slots__ = ("alignment", "lift", "load", "load_many", "lower", "note", "pack", "size", "store", "type")

    def __init__(
        self,
        type_: ValueType,
        load: Callable[[Lifting, int], Any],
        lift: Callable[[Lifting, Next], Any],
        store: Callable[[Lowering, Any, int], None],
        lower: Callable[[Lowering, Any, list[FlatValue]], None],
        note: Callable[[Lowering, Any], None] | None = None,
        load_many: Callable[[Lifting, int, int], Any] | None = None,
        pack: Callable[[Any], bytes] | None = None,
    ) -> None:
        self.type = type_
        self.size = type_.size
        self.alignment = type_.alignment
        self.load = load
        """The value at an address."""
        self.lift = lift
        """The value that core values stand for."""
        self.store = store
        """Writes a value at an address: the second walk."""
        self.lower = lower
        """Appends the core values that stand for a value: the second walk."""
        self.note = note
        """Notes the blocks that a value needs: the first walk. None where none are needed."""
        self.load_many = load_many or self._load_one_by_one
        """So many values that lie one after the other."""
        self.pack = pack
        """The bytes of many values, for numbers; None where values can't be packed at once."""

    def _load_one_by_one(self, lifting: Lifting, at: int, count: int) -> list[Any]:
        lifting.spend(count * Lift.ELEMENT)
        load, size = self.load, self.size
        return [load(lifting, place) for place in range(at, at + count * size, size)]

    def note_many(self, lowering: Lowering, values: Sequence[Any]) -> None:
        if self.note is not None:
            for value in values:
                self.note(lowering, value)

    def store_many(self, lowering: Lowering, values: Sequence[Any], at: int) -> None:
        if self.pack is not None:
            data = self.pack(values)
            lowering.memory[at : at + len(data)] = data
            return
        for value in values:
            self.store(lowering, value, at)
            at += self.size
