"""What a generated Python host module imports: the guest as it sees it, checks, handles, allocation.

A generated module does the lifting and lowering for exactly its types; this module holds what is the same for all of
them. It knows no WebAssembly engine: an engine's instance is anything that satisfies `Guest`.

Rules of the binary interface that are enforced here: docs/abi.md.

`_support.c` has what `Lift` and `Lower` do most often, and is used where it was built. It knows how things go well, and
leaves everything else to the Python here, so each rule and each message is in this module.
"""

from __future__ import annotations

import builtins
import functools
import os
import struct
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from struct import Struct, pack_into
from typing import TYPE_CHECKING, Any, Generic, Never, NoReturn, Protocol, TypeAlias, TypeVar

E = TypeVar("E")
T = TypeVar("T")
R = TypeVar("R", bound="GuestResource")

Flat = int | float
"""A WebAssembly value: i32 and i64 as unsigned integers, f32 and f64 as floats."""

CANONICAL_ABI = "canonical_abi"
"""The module from which guests import what belongs to no interface."""

_U32, _F32, _U64, _F64 = Struct("<I"), Struct("<f"), Struct("<Q"), Struct("<d")

_PAIR = Struct("<II")
"""A text or a list in memory: pointer and length."""


class Err(Exception, Generic[E]):
    """The `err` side of an `expected<T, E>`: raised where the function returns `T`, and carries an `E`."""

    def __init__(self, value: E) -> None:
        super().__init__(value)
        self.value = value


@dataclass(frozen=True, slots=True)
class Ok(Generic[T]):
    """The `ok` side of an `expected<T, E>` that is a value rather than what a function returns."""

    value: T


@dataclass(frozen=True, slots=True)
class Some(Generic[T]):
    """A value of an `option<T>` whose `T` may be None itself. Any other option is the value or None."""

    value: T


class GuestFault(Exception):
    """A guest broke the rules of the binary interface: the instance must be ended.

    The message names the interface, the function, the parameter, and what was wrong.
    """


class Guest(Protocol):
    """One instance of a guest, as its bindings see it."""

    @property
    def handles(self) -> Handles:
        """The host's resources that the guest holds."""

    @property
    def resources(self) -> Resources:
        """The guest's own resources, whoever holds them."""

    reused: bool
    """Whether there may be more calls after this one. Where not, nothing needs to be freed."""

    @property
    def memory(self) -> memoryview:
        """The guest's memory as bytes, writable. It's stale after the next `await` of `allocate` or `call`.

        Raises GuestFault where there is none.
        """

    async def allocate(self, lower: Lower) -> None:
        """Asks the guest's `canonical_abi_realloc` for every block of `lower`, which `place`s them, and then for the
        texts of its `later`, which `place_later` does.

        Raises GuestFault where the guest returns memory that it doesn't have.
        """

    async def free(self, blocks: Sequence[tuple[int, int, int]]) -> None:
        """Gives blocks back with the guest's `canonical_abi_free`: address, size and alignment of each."""

    async def drop(self, resource: str, rep: int) -> None:
        """Calls the guest's `canonical_abi_drop_NAME`: nobody holds the resource any more."""

    async def call(self, export: Any, args: Sequence[Flat]) -> Any:
        """Calls an exported function (as the engine names it) with flat arguments; returns its flat result or None."""


@types.coroutine
def rest(
    begun: Coroutine[Any, Any, T], awaited: Any, on_return: Callable[[], None] | None = None
) -> Generator[Any, Any, T]:
    """Awaits what is left of a coroutine, which was begun with `send(None)` and waits for `awaited`.

    Most calls are done at once, and need nothing of what those need that wait: whoever begins a coroutine by hand can
    tell them apart. `on_return` is called whenever it waits no more: others have had their turn meanwhile.
    """
    while True:
        try:
            sent = yield awaited
        except BaseException as error:
            go_on = functools.partial(begun.throw, error)
        else:
            go_on = functools.partial(begun.send, sent)
        if on_return is not None:
            on_return()
        try:
            awaited = go_on()
        except StopIteration as done:
            result: T = done.value
            return result
        finally:
            del go_on  # which holds the error, whose traceback holds this frame


@dataclass(frozen=True, slots=True)
class Import:
    """A function that a guest may import, and what answers it."""

    module: str
    name: str
    params: str
    """One letter a flat parameter: `i` i32, `I` i64, `f` f32, `d` f64."""
    result: str
    """The letter of the flat result, or nothing."""
    call: Callable[[Any, Any, tuple[Any, ...]], Coroutine[Any, Any, Flat | None]]
    """`await call(host, guest, flat arguments)`, the host being what implements the interface's Protocol."""
    failure: Callable[[Any, Exception], Exception] | None = None
    """What to raise, given the host, where `call` raises another exception than one about the guest: that itself, if
    nothing is said here."""
    type: str = ""
    """The function's type as a component has it, in one text that says nothing of names of types; nothing in WIT of
    2022. See `bindgen.structure`."""
    call_async: AsyncCall | None = None
    """What answers a component that lowers the function with `async`, where it may."""


@dataclass(frozen=True, slots=True)
class AsyncCall:
    """The other way to answer an import: the guest goes on while the host is at work."""

    params: str
    """The letters of the flat parameters. The result is a number: how far the call is."""
    call: Callable[[Any, Any, tuple[Any, ...]], Coroutine[Any, Any, int]]
    """`await call(host, guest, flat arguments)`."""


@dataclass(frozen=True, slots=True)
class Export:
    """A function that a guest may export."""

    name: str
    params: str
    result: str
    type: str = ""
    """As that of an `Import`."""
    module: str = ""
    """The interface that it belongs to, `wasi:http/incoming-handler@0.2.12`; nothing in WIT of 2022, where the names
    of all exports are in one."""


# Lifting: from the guest's memory and flat values. Everything a guest hands over is checked here.


class Lift:
    """Takes over the values of one call, and checks them.

    `at` is what is being lifted, for messages; `left` is how much the call may still hand over.
    """

    LIMIT = 256 << 20
    """Bytes that one call may hand over. Lists may overlap in the guest's memory, so its size is no bound.

    Nobody else has a turn while values are lifted: what takes longer than a copy of its bytes counts for more.
    """

    TEXT = 8
    """What a byte of text counts as: each may become four, where a text has wide characters."""

    NUMBER = 64
    """What a number in a list counts as: about the memory that Python takes for one."""

    ELEMENT = 4096
    """What any other element of a list counts as, besides the texts and lists in it: Python takes 2 to 3 µs for one."""

    __slots__ = ("at", "guest", "left", "memory", "owned", "owns", "where")

    def __init__(self, guest: Guest, where: str, at: str = "result", owns: bool = False) -> None:
        """With `owns`, what is lifted is the host's: handles leave the table, and texts and lists are noted in `owned`,
        to be freed."""
        self.owns = owns
        self.owned: builtins.list[tuple[int, int, int]] | None = [] if owns and guest.reused else None
        self.guest = guest
        self.memory = memory_of(guest, where)
        self.where = where
        self.at = at
        self.left = self.LIMIT

    def fault(self, what: str) -> NoReturn:
        raise GuestFault(f"{self.where}: {self.at}: {what}")

    def range(self, pointer: int, size: int) -> None:
        """Checks that `size` bytes from `pointer` lie in memory. Both are unsigned, so nothing wraps."""
        if pointer + size > len(self.memory):
            self.fault(f"{size} bytes at {pointer:#x} reach past the end of memory, {len(self.memory):#x}")

    def bytes(self, pointer: int, length: int) -> bytes:
        """A copy of a `list<u8>`. Where the length is 0, the pointer may be anything."""
        return self._slice(pointer, length, 1).tobytes()

    def string(self, pointer: int, length: int) -> str:
        """A copy of a `string`."""
        data = self._slice(pointer, length, 1)
        self._spend(length * (self.TEXT - 1))
        try:
            return str(data, "utf-8")
        except UnicodeDecodeError as error:
            self.fault(f"the text is not UTF-8: {error.reason} at byte {error.start}")

    def list(self, stride: int, reach: int, align: int, pointer: int, length: int) -> builtins.range:
        """The addresses of a list's elements. `reach` is how many bytes an element may extend over."""
        self._spend(length * self.ELEMENT)
        if length:
            self.range(pointer, (length - 1) * stride + reach)
            size = max(length * stride, (length - 1) * stride + reach)
            if size and self.owned is not None:
                self.owned.append((pointer, size, align))
        return builtins.range(pointer, pointer + length * stride, stride) if stride else builtins.range(length)

    def pair(self, at: int) -> tuple[int, int]:
        """Pointer and length of the text or list that is in memory at `at`."""
        try:
            pair: tuple[int, int] = _PAIR.unpack_from(self.memory, at)
        except (struct.error, IndexError):
            self.range(at, _PAIR.size)
            raise
        return pair

    def bytes_at(self, at: int) -> builtins.bytes:
        return self.bytes(*self.pair(at))

    def string_at(self, at: int) -> str:
        return self.string(*self.pair(at))

    def texts(self, pointer: int, length: int) -> builtins.list[str]:
        """A list of strings."""
        self.list(8, 8, 4, pointer, length)
        return [self.string(*pair) for pair in _PAIR.iter_unpack(self.memory[pointer : pointer + 8 * length])]

    def rows(self, width: int, pointer: int, length: int) -> builtins.list[Any]:
        """A list of tuples of `width` strings each."""
        if not length:
            return []
        size = 8 * width
        self.list(size, size, 4, pointer, length)
        texts = [self.string(*pair) for pair in _PAIR.iter_unpack(self.memory[pointer : pointer + size * length])]
        return list(zip(*[iter(texts)] * width, strict=True))

    def numbers(self, size: int, pointer: int, length: int) -> memoryview:
        """The bytes of a list of numbers."""
        self._spend(length * self.NUMBER)
        return self._slice(pointer, length * size, size)

    def handle(self, resource: str, handle: int) -> Any:
        """The resource that the guest lends for this call, or hands over."""
        found = self.guest.handles.get(resource, handle, f"{self.where}: {self.at}")
        if self.owns:
            self.guest.handles.drop(resource, handle)
        return found

    def resource(self, kind: type[R], name: str, handle: int) -> R:
        """A resource of the guest's own, which it hands over."""
        return kind(self.guest, name, self.guest.resources.take(name, handle, f"{self.where}: {self.at}"))

    def bool(self, value: int) -> bool:
        if value > 1:
            self.fault(f"{value} is not a bool")
        return value == 1

    def unsigned(self, value: int, bits: int) -> int:
        """An unsigned integer of `bits` bits that travelled in a wider slot."""
        if value >> bits:
            self.fault(f"{value} is not a u{bits}")
        return value

    def signed(self, value: int, bits: int) -> int:
        """A signed integer of `bits` bits that travelled in 32, sign-extended."""
        value = s32(value)
        if not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
            self.fault(f"{value} is not an s{bits}")
        return value

    def char(self, value: int) -> str:
        if value > 0x10FFFF or 0xD800 <= value <= 0xDFFF:
            self.fault(f"{value:#x} is not a Unicode scalar value")
        return chr(value)

    def flags(self, value: int, count: int) -> int:
        if value >> count:
            self.fault(f"{value:#x} has more than the {count} flags there are")
        return value

    def case(self, tag: int, count: int, name: str) -> int:
        """The tag, which is that of one of the `count` cases of `name`."""
        if tag >= count:
            self.fault(f"{tag} is not a case of {name}")
        return tag

    def tag(self, at: int, count: int, name: str) -> int:
        """The tag that is in memory at `at`, in one byte."""
        try:
            tag = self.memory[at]
        except IndexError:
            self.range(at, 1)
            raise
        return tag if tag < count else self.case(tag, count, name)

    def _slice(self, pointer: int, length: int, align: int) -> memoryview:
        if not length:
            return self.memory[:0]
        if self.owned is not None:
            self.owned.append((pointer, length, align))
        end = pointer + length
        if end > len(self.memory):
            self.range(pointer, length)
        self._spend(length)
        return self.memory[pointer:end]

    def _spend(self, size: int) -> None:
        left = self.left - size
        if left < 0:
            self.fault(
                f"the call hands over too much; it may {self.LIMIT >> 20} MiB, or {self.LIMIT // self.TEXT >> 20} MiB "
                f"of text, or {self.LIMIT // self.ELEMENT} elements of lists"
            )
        self.left = left


def memory_of(guest: Guest, where: str) -> memoryview:
    """The guest's memory. Raises GuestFault, which says `where`, for a guest that shows none."""
    try:
        return guest.memory
    except GuestFault as fault:
        raise GuestFault(f"{where}: {fault}") from None


def s32(value: int) -> int:
    """The signed integer that 32 bits mean."""
    return value - (1 << 32) if value >> 31 else value


def s64(value: int) -> int:
    """The signed integer that 64 bits mean."""
    return value - (1 << 64) if value >> 63 else value


def float32_of(bits: int) -> float:
    """The float that travelled as 32 bits, in the low half of a wider slot."""
    return float(_F32.unpack(_U32.pack(bits & 0xFFFF_FFFF))[0])


def float64_of(bits: int) -> float:
    return float(_F64.unpack(_U64.pack(bits))[0])


def bits_of_float32(value: float) -> int:
    return int(_U32.unpack(_F32.pack(value))[0])


def bits_of_float64(value: float) -> int:
    return int(_U64.unpack(_F64.pack(value))[0])


def pack_numbers(memory: memoryview, at: int, letter: str, values: Sequence[Flat]) -> None:
    """Writes a list of numbers, `letter` being their format for `struct`."""
    pack_into(f"<{len(values)}{letter}", memory, at, *values)


# Lowering: into memory that the guest allocates.


def wrong_type(value: Never, expected: str) -> NoReturn:
    """Refuses what a host returned. Where `value` is not Never, a type checker finds a case that is left out."""
    raise TypeError(f"a value of type {type(value).__name__} where {expected} is expected")


class Lower:
    """Hands the values of one call over: first every block of memory is asked for, then all are allocated, then filled.

    A generated module walks a value twice in the same order. The first walk notes the blocks; `Guest.allocate` has the
    guest allocate them, and fills those whose content is known; the second takes the addresses, one after the other,
    with `take` or `put`. So a guest is asked once however many texts there are, and nothing is computed while it runs.

    But for the texts of long lists: to note, allocate and fill a million takes seconds. Those are handed over in pieces
    when all else is allocated, and others have their turn in between.
    """

    PIECE = 4096
    """How many texts are noted, allocated and filled at a time, at most. A list with more is a long one."""

    REALLOC = "canonical_abi_realloc"
    """What messages call the function by which the guest allocates."""

    text_align = 1
    """What addresses of texts are multiples of, in bytes."""

    __slots__ = ("_tables", "_taken", "blocks", "guest", "later", "memory", "take", "where")

    memory: memoryview
    """The guest's memory, once the blocks are allocated."""

    take: Callable[[], tuple[int, int]]
    """The next block: address, and length, which is in elements for a list and else in bytes."""

    def __init__(self, guest: Guest, where: str) -> None:
        self.guest = guest
        self.where = where
        self.blocks: builtins.list[tuple[int, int, builtins.bytes | None]] = []
        """Size and alignment in bytes, and the data where they are known."""
        self._taken: builtins.list[tuple[int, int]] = []
        """What the second walk takes: the number of the block, and the length."""
        self._tables: builtins.list[tuple[int, builtins.list[int]]] = []
        """The numbers of blocks that hold pointers and lengths of others, which come next, and those lengths."""
        self.later: builtins.list[tuple[int, Sequence[Any], int]] | None = None
        """The long lists: the number of the block, the texts or rows of them, and how many are in a row, or 0. What is
        in them must not change until the call is done."""

    def block(self, size: int, align: int) -> None:
        """Notes a block that the second walk fills."""
        self._taken.append((len(self.blocks), size))
        self.blocks.append((size, align, None))

    def list(self, stride: int, reach: int, align: int, length: int) -> None:
        """Notes the block of a list, which the second walk fills. `reach` is how many bytes an element may extend
        over."""
        self._taken.append((len(self.blocks), length))
        self.blocks.append(((length - 1) * stride + max(stride, reach) if length else 0, align, None))

    def string(self, text: str) -> None:
        data, units = self._encoded(text)
        self._taken.append((len(self.blocks), units))
        self.blocks.append((len(data), self.text_align, data))

    def bytes(self, data: builtins.bytes) -> None:
        self._taken.append((len(self.blocks), len(data)))
        self.blocks.append((len(data), 1, data))

    def texts(self, texts: Sequence[str]) -> None:
        """Notes a list of strings: its block and theirs. The second walk finds all of them filled, and takes one."""
        if len(texts) > self.PIECE:
            self._long(texts, 0)
        else:
            self._table(len(texts), 1, texts)

    def rows(self, rows: Sequence[Sequence[str]], width: int) -> None:
        """Notes a list of tuples of `width` strings each, as `texts` does."""
        if len(rows) * width > self.PIECE:
            self._long(rows, width)
        else:
            self._table(len(rows), width, chain.from_iterable(_checked(rows, width)))

    def _long(self, rows: Sequence[Any], width: int) -> None:
        size = 8 * (width or 1)
        self.later = [*(self.later or ()), (len(self.blocks), rows, width)]
        self.list(size, size, 4, len(rows))

    def _table(self, length: int, width: int, texts: Iterable[str]) -> None:
        number = len(self.blocks)
        self.list(8 * width, 8 * width, 4, length)
        units = []
        for text in texts:
            data, count = self._encoded(text)
            units.append(count)
            self.blocks.append((len(data), self.text_align, data))
        if length:
            self._tables.append((number, units))

    def _encoded(self, text: str) -> tuple[builtins.bytes, int]:
        """The bytes of a text, and what travels as its length."""
        data = text.encode()
        return data, len(data)

    def handle(self, resource: str, value: object) -> int:
        """The handle by which the guest holds `value` from now on."""
        return self.guest.handles.add(resource, value, f"{self.where}: result")

    def resource(self, value: GuestResource) -> int:
        """A handle by which the guest knows a resource of its own during the call."""
        if value.guest is not self.guest:
            raise ValueError("the resource belongs to another instance")
        return self.guest.resources.lend(value.shared)

    def place(self, pointers: Sequence[int]) -> None:
        """Takes the addresses that the guest gave, and writes what is known. Raises GuestFault for a useless one."""
        memory = self.memory = memory_of(self.guest, self.where)
        end = len(memory)
        for (size, align, data), pointer in zip(self.blocks, pointers, strict=True):
            if pointer + size > end or pointer % align or (size and not pointer):
                self._refuse(size, align, pointer)
            if data:
                memory[pointer : pointer + size] = data
        for table, lengths in self._tables:
            at = pointers[table]
            for number, length in enumerate(lengths, table + 1):
                _PAIR.pack_into(memory, at, pointers[number], length)
                at += _PAIR.size
        self.take = iter([(pointers[number], length) for number, length in self._taken]).__next__

    async def place_later(
        self, pointers: Sequence[int], allocate: Callable[[builtins.list[int]], Awaitable[Sequence[int]]]
    ) -> None:
        """Hands over the long lists, whose blocks are among those of `pointers`.

        `allocate` gives others their turn, and has the guest allocate texts of such sizes; it returns the addresses.
        Raises GuestFault for a useless one, RuntimeError where a list changes its length meanwhile.
        """
        for number, rows, width in self.later or ():
            at, length = pointers[number], len(rows)
            step = self.PIECE // (width or 1) or 1
            for start in range(0, length, step):
                piece = rows[start : start + step]
                texts = chain.from_iterable(_checked(piece, width)) if width else piece
                encoded = [self._encoded(text) for text in texts]
                self._place_texts(at, encoded, await allocate([len(data) for data, _ in encoded]))
                at += _PAIR.size * len(encoded)
                if len(rows) != length:
                    raise RuntimeError("the list changed while it was read")

    def _place_texts(self, at: int, texts: Sequence[tuple[builtins.bytes, int]], pointers: Sequence[int]) -> None:
        """Writes texts, and where they are into the block at `at`, which `place` found to be the guest's."""
        memory = self.memory = memory_of(self.guest, self.where)
        end = len(memory)
        pairs: builtins.list[int] = []
        for (data, length), pointer in zip(texts, pointers, strict=True):
            size = len(data)
            if pointer + size > end or pointer % self.text_align or (size and not pointer):
                self._refuse(size, self.text_align, pointer)
            memory[pointer : pointer + size] = data
            pairs += (pointer, length)
        pack_numbers(memory, at, "I", pairs)

    def put(self, at: int) -> int:
        """Writes address and length of the next block into memory at `at`; returns the address."""
        pointer, length = self.take()
        _PAIR.pack_into(self.memory, at, pointer, length)
        return pointer

    def _refuse(self, size: int, align: int, pointer: int) -> NoReturn:
        raise GuestFault(f"{self.where}: {self.REALLOC} returned {pointer:#x} for {size} bytes aligned to {align}")


def _checked(rows: Iterable[Sequence[str]], width: int) -> Iterable[Sequence[str]]:
    for row in rows:
        if len(row) != width:
            raise ValueError(f"{len(row)} values where {width} are expected")
        yield row


# Handles: the resources of the host that a guest holds.


class Handles:
    """The resources that one guest instance holds, by the number that the guest knows them by.

    Numbers start at 0 and never come again, so a handle that was dropped is told from one that was not.
    """

    LIMIT = 65_536
    """How many handles an instance may hold at once."""

    __slots__ = ("_entries", "_next")

    def __init__(self) -> None:
        self._entries: dict[int, tuple[str, Any]] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, resource: str, value: object, where: str) -> int:
        """Hands a resource over to the guest; returns its handle."""
        if len(self._entries) >= self.LIMIT:
            raise GuestFault(f"{where}: the guest holds {self.LIMIT} handles and drops none")
        handle = self._next
        self._next = handle + 1
        self._entries[handle] = (resource, value)
        return handle

    def get(self, resource: str, handle: int, where: str) -> Any:
        """What the guest means by `handle`, which it lends for one call."""
        return self._find(resource, handle, where)[1]

    def exchange(self, handle: int, value: object) -> None:
        """Has a handle that the guest holds stand for another value."""
        self._entries[handle] = (self._entries[handle][0], value)

    def drop(self, resource: str, handle: int) -> None:
        """The guest has no more use for `handle`."""
        self._find(resource, handle, f"canonical_abi: resource_drop_{resource}: handle")
        del self._entries[handle]

    def _find(self, resource: str, handle: int, where: str) -> tuple[str, Any]:
        entry = self._entries.get(handle)
        if entry is None:
            state = "was dropped" if handle < self._next else "was never given out"
            raise GuestFault(f"{where}: handle {handle} of {resource} {state}")
        if entry[0] != resource:
            raise GuestFault(f"{where}: handle {handle} is of {entry[0]}, not of {resource}")
        return entry


# Resources of the guest's own: it knows them by a number of its choice, the representation; others by handles.


class Shared:
    """A resource of the guest and how many handles to it there are, those of the host included."""

    __slots__ = ("count", "name", "rep")

    def __init__(self, name: str, rep: int) -> None:
        self.name = name
        self.rep = rep
        self.count = 1


class Resources:
    """The handles to the resources that one guest instance defines. Numbers never come again, as in `Handles`."""

    __slots__ = ("_entries", "_next")

    def __init__(self) -> None:
        self._entries: dict[int, Shared] = {}
        self._next = 0

    def new(self, name: str, rep: int) -> int:
        """`resource_new_NAME`: a first handle to what the guest knows as `rep`."""
        return self._add(Shared(name, rep))

    def get(self, name: str, handle: int) -> int:
        """`resource_get_NAME`: the representation behind a handle."""
        return self._find(name, handle, f"canonical_abi: resource_get_{name}: handle").rep

    def clone(self, name: str, handle: int) -> int:
        """`resource_clone_NAME`: another handle to the same resource."""
        return self.lend(self._find(name, handle, f"canonical_abi: resource_clone_{name}: handle"))

    def drop(self, name: str, handle: int) -> Shared | None:
        """`resource_drop_NAME`: ends a handle. Returns the resource if that was the last one, for the guest to drop."""
        shared = self.take(name, handle, f"canonical_abi: resource_drop_{name}: handle")
        shared.count -= 1
        return None if shared.count else shared

    def lend(self, shared: Shared) -> int:
        """One more handle to a resource."""
        shared.count += 1
        return self._add(shared)

    def take(self, name: str, handle: int, where: str) -> Shared:
        """What the guest hands over with `handle`, which is the guest's no more."""
        shared = self._find(name, handle, where)
        del self._entries[handle]
        return shared

    def _add(self, shared: Shared) -> int:
        if len(self._entries) >= Handles.LIMIT:
            raise GuestFault(f"canonical_abi: {shared.name}: the guest holds {Handles.LIMIT} handles and drops none")
        handle = self._next
        self._next = handle + 1
        self._entries[handle] = shared
        return handle

    def _find(self, name: str, handle: int, where: str) -> Shared:
        shared = self._entries.get(handle)
        if shared is None:
            state = "was dropped" if handle < self._next else "was never given out"
            raise GuestFault(f"{where}: handle {handle} of {name} {state}")
        if shared.name != name:
            raise GuestFault(f"{where}: handle {handle} is of {shared.name}, not of {name}")
        return shared


class GuestResource:
    """A resource of a guest, as the host holds it. The generated classes of such resources derive from it.

    It's valid as long as its instance. `drop` gives it up; without that it ends with the instance.
    """

    __slots__ = ("guest", "name", "shared")

    def __init__(self, guest: Guest, name: str, shared: Shared) -> None:
        self.guest = guest
        self.name = name
        self.shared = shared

    async def drop(self) -> None:
        """Gives the resource up. If nobody else holds it, the guest's destructor runs."""
        self.shared.count -= 1
        if not self.shared.count:
            await self.guest.drop(self.name, self.shared.rep)


def guest_resource_imports(name: str) -> tuple[Import, ...]:
    """What a guest that defines the resource `name` imports for it."""

    async def new(_host: None, guest: Guest, args: tuple[int]) -> int:
        return guest.resources.new(name, args[0])

    async def get(_host: None, guest: Guest, args: tuple[int]) -> int:
        return guest.resources.get(name, args[0])

    async def clone(_host: None, guest: Guest, args: tuple[int]) -> int:
        return guest.resources.clone(name, args[0])

    async def drop(_host: None, guest: Guest, args: tuple[int]) -> None:
        last = guest.resources.drop(name, args[0])
        if last is not None:
            await guest.drop(name, last.rep)

    return (
        Import(CANONICAL_ABI, f"resource_new_{name}", "i", "i", new),
        Import(CANONICAL_ABI, f"resource_get_{name}", "i", "i", get),
        Import(CANONICAL_ABI, f"resource_clone_{name}", "i", "i", clone),
        Import(CANONICAL_ABI, f"resource_drop_{name}", "i", "", drop),
    )


def host_resource_imports(name: str) -> tuple[Import, ...]:
    """What a guest that holds the host's resource `name` imports for it."""

    async def drop(_host: None, guest: Guest, args: tuple[int]) -> None:
        guest.handles.drop(name, args[0])

    return (Import(CANONICAL_ABI, f"resource_drop_{name}", "i", "", drop),)


# The same in C.


def compiled(base: type, python: type) -> type:
    """The class with what `base` does in C in place of what it does in Python. Its fields are in C too."""
    rest = {
        name: each
        for ancestor in reversed(python.__mro__[:-1])
        for name, each in vars(ancestor).items()
        if getattr(base, name, None) is getattr(object, name, None)
        and (callable(each) or isinstance(each, int | str | property))
    }
    return type(python.__name__, (base,), {**rest, "__slots__": ()})


PureLift: TypeAlias = Lift
PureLower: TypeAlias = Lower

if not TYPE_CHECKING and not os.environ.get("SLIGHT_PY_PURE"):
    try:
        from bindgen.runtime import _support
    except ImportError:
        pass
    else:
        _support.setup(PureLift, PureLower, memory_of)
        Lift, Lower = compiled(_support.Lift, PureLift), compiled(_support.Lower, PureLower)
