"""What a generated Python host module of a component's interface imports: the guest as it sees it, and checks.

It is the counterpart of `bindgen.runtime`, and adds what the component model has beyond the interface of 2022. The
rules that are enforced here are those of its specification, `CanonicalABI.md`, where a broken one is a trap: it's a
GuestFault here.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

from bindgen.runtime import (
    AsyncCall,
    Err,
    Export,
    Flat,
    GuestFault,
    Import,
    Ok,
    Some,
    bits_of_float32,
    bits_of_float64,
    compiled,
    float32_of,
    float64_of,
    pack_numbers,
    s32,
    s64,
    wrong_type,
)
from bindgen.runtime import PureLift as BaseLift
from bindgen.runtime import PureLower as BaseLower
from bindgen.runtime.text import ALIGNMENTS, MAX_BYTES, Encoding, codec_of, encode

__all__ = [
    "AsyncCall",
    "Channels",
    "Err",
    "Export",
    "Flat",
    "FutureReader",
    "Guest",
    "GuestFault",
    "HandleTable",
    "Import",
    "Lift",
    "Lower",
    "Ok",
    "Payload",
    "Some",
    "StreamReader",
    "bits_of_float32",
    "bits_of_float64",
    "float32_of",
    "float64_of",
    "pack_numbers",
    "s32",
    "s64",
    "signed",
    "wrong_type",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class HandleTable(Protocol):
    """What one instance of a component holds by number: resources, ends of streams and futures, and more.

    `key` says which resource is meant: `wasi:io/streams/input-stream`. `str(where)` stands in front of messages, and is
    asked for only then. The methods by which a guest hands something over raise GuestFault where it has no such handle.
    """

    def add(self, key: str, value: object, where: Any) -> int:
        """Hands a resource over to the guest, which owns it from now on; returns its handle."""

    def take(self, key: str, index: int, where: Any) -> Any:
        """The resource that the guest hands over: the handle is gone. One that is only lent to the guest, or by it, is
        refused."""

    def get(self, key: str, index: int, where: Any) -> Any:
        """The resource that the guest lends for a call during which it can't run."""

    def lend(self, key: str, index: int, where: Any) -> Any:
        """The resource that the guest lends for a call during which it goes on: it can't give the handle up until
        `give_back`."""

    def give_back(self, index: int) -> None:
        """Ends what `lend` began."""

    def borrow(self, key: str, value: object, where: Any) -> int:
        """Lends the guest a resource for the call that it gets; returns its handle, which the guest has to drop before
        it returns."""


@dataclass(frozen=True, slots=True)
class Payload(Generic[T]):
    """What a stream or a future carries, and how it lies in the guest's memory."""

    type: str
    """The structural text of one value; nothing where only how many there are is passed on."""
    size: int
    """Bytes from one value to the next."""
    align: int
    load: Callable[[Lift, int, int], Sequence[T]]
    """`load(lift, at, count)`: so many values from memory at `at`, which is checked; `bytes` of a stream of u8, and
    `range(count)` where `type` is empty."""
    note: Callable[[Lower, Any], None]
    """`note(lower, values)`: the first walk of `Lower` over a sequence of values."""
    store: Callable[[Lower, memoryview, int, Any], None]
    """`store(lower, memory, at, values)`: the second walk, which writes them to memory at `at`."""


class StreamReader(AsyncIterable[T_co], Protocol[T_co]):
    """A stream that a guest handed over, for the host to read: once, and by one reader. `T_co` is a piece of it,
    `bytes` of a stream of u8, and else a list. Iterating gives pieces as the guest writes them."""

    async def read(self, limit: int) -> T_co:
        """Up to `limit` values, as soon as there is one; none at the end."""

    def expect(self, limit: int) -> None:
        """Says that the stream will be read: the guest may write up to `limit` values before, and needn't wait. Nothing
        once it was read, or handed on."""

    def close(self) -> None:
        """Says that nobody reads any more, which the guest learns when it writes."""


class FutureReader(Awaitable[T_co], Protocol[T_co]):
    """A future that a guest handed over, for the host to await, once."""

    def expect(self) -> None:
        """Says that the future will be awaited: the guest may write its value before, and needn't wait."""

    def close(self) -> None:
        """Says that nobody waits any more, which the guest learns when it writes."""


class Channels(Protocol):
    """The streams and futures between a host and one instance."""

    def take_stream(self, payload: Payload[Any], index: int, where: str) -> StreamReader[Any]:
        """The readable end of a stream that the guest hands over."""

    def take_future(self, payload: Payload[Any], index: int, where: str) -> FutureReader[Any]:
        """The readable end of a future that the guest hands over."""

    def add_stream(self, payload: Payload[Any], source: AsyncIterable[Any], where: str) -> int:
        """Hands a stream over that the host fills with the pieces of `source`, each a sequence of values; returns the
        index of its readable end. `source` is asked for a piece when the guest reads, and closed with `aclose`, where
        it has that, when the guest gives the stream up."""

    def add_future(self, payload: Payload[Any], source: Awaitable[Any], where: str) -> int:
        """Hands a future over that the host fulfils with the value of `source`; returns the index of its readable end.
        It's cancelled, where it can be, when the guest gives the future up."""


class Guest(Protocol):
    """One instance of a component, as its bindings see it."""

    @property
    def handles(self) -> HandleTable:
        """What the guest holds by number."""

    @property
    def channels(self) -> Channels:
        """The streams and futures that it shares with the host."""

    @property
    def encoding(self) -> Encoding:
        """How the texts of the function that is called lie in memory: its option `string-encoding`."""

    @property
    def memory(self) -> memoryview:
        """The guest's memory as bytes, writable. It's stale after the next `await` of `allocate` or `call`.

        Raises GuestFault where there is none.
        """

    async def allocate(self, lower: Any) -> None:
        """Asks the function's option `realloc` for every block of `lower`, which `place`s them, and then for the texts
        of its `later`, which `place_later` does.

        Raises GuestFault where the guest returns memory that it doesn't have.
        """

    async def call(self, export: Any, args: Sequence[Flat]) -> Any:
        """Calls an exported function (as the engine names it) with flat arguments; returns its flat result or None."""

    async def finish(self, export: Any, result: Any) -> None:
        """Ends a call, once the result is lifted: calls the function's `post-return` with what `call` returned, where
        it has one. Raises GuestFault where the guest keeps what was lent to it."""

    async def run(
        self,
        export: Any,
        args: Sequence[Flat],
        lift: Callable[[Guest, Any], T],
        returned: Callable[[Guest, Sequence[Any]], T],
    ) -> T:
        """Calls an exported function of type `async func`, and waits until it has returned.

        Where the component lifts it without `async`, `lift` makes a value of what `call` would return. Where it lifts
        it with `async`, `returned` makes one of the flat arguments of the guest's `task.return`; the guest may go on
        after that.
        """

    async def subtask(
        self,
        work: Coroutine[Any, Any, T],
        lower: Callable[[Any], Awaitable[None]] | None,
        lent: Iterable[int],
    ) -> int:
        """Begins what the guest asked for with an import that it lowers with `async`; returns the flat result.

        `work` is the host's: what it returns, or the Err that it raises, `lower` writes to the guest's memory, which
        happens when nothing else of the guest runs; there is none where nothing is returned. After that, the handles
        `lent` are given back.
        """


# Lifting.


def signed(value: int, bits: int) -> int:
    """The signed integer that the lowest `bits` bits mean, whatever the others are."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


class Lift(BaseLift):
    """Takes over the values of one call, and checks them.

    Methods name the class that they complete, and use no `super()`: the class in C has them, too, and is another one.
    """

    __slots__ = ("encoding", "lent")

    guest: Any

    def __init__(self, guest: Guest, where: str, at: str = "result", lends: bool = False) -> None:
        """With `lends`, the guest goes on during the call: what it lends is noted in `lent`, to be given back."""
        super().__init__(guest, where, at)  # type: ignore[arg-type]  # it has what is asked of it here
        self.encoding: Encoding = guest.encoding
        self.lent: builtins.list[int] | None = [] if lends else None

    def __str__(self) -> str:
        """What stands in front of messages."""
        return f"{self.where}: {self.at}"

    def area(self, pointer: int, size: int, align: int) -> None:
        """Checks what the guest points to: `size` bytes in memory, aligned to `align`."""
        self.aligned(pointer, align)
        self.range(pointer, size)

    def aligned(self, pointer: int, align: int) -> None:
        if pointer % align:
            self.fault(f"the pointer {pointer:#x} is not a multiple of {align}")

    def string(self, pointer: int, length: int) -> str:
        codec, size = codec_of(length, self.encoding)
        if size > MAX_BYTES:
            self.fault(f"the text has {size} bytes; it may have {MAX_BYTES}")
        data = self._slice(pointer, size, ALIGNMENTS[self.encoding])
        self._spend(size * (self.TEXT - 1))
        try:
            return str(data, codec)
        except UnicodeDecodeError as error:
            self.fault(f"the text is not {codec.upper()}: {error.reason} at byte {error.start}")

    def list(self, stride: int, reach: int, align: int, pointer: int, length: int) -> builtins.range:
        self.area(pointer, length * stride, align)
        return BaseLift.list(self, stride, reach, align, pointer, length)

    def rows(self, width: int, pointer: int, length: int) -> builtins.list[Any]:
        self.area(pointer, 0, 4)
        return BaseLift.rows(self, width, pointer, length)

    def own(self, key: str, index: int) -> Any:
        """The resource that the guest hands over."""
        return self.guest.handles.take(key, index, self)

    def borrow(self, key: str, index: int) -> Any:
        """The resource that the guest lends for the call."""
        if self.lent is None:
            return self.guest.handles.get(key, index, self)
        found = self.guest.handles.lend(key, index, self)
        self.lent.append(index)
        return found

    def stream(self, payload: Payload[T], index: int) -> Any:
        """A stream that the guest hands over, for the host to read."""
        return self.guest.channels.take_stream(payload, index, f"{self.where}: {self.at}")

    def future(self, payload: Payload[T], index: int) -> Any:
        """A future that the guest hands over, for the host to await."""
        return self.guest.channels.take_future(payload, index, f"{self.where}: {self.at}")

    def _slice(self, pointer: int, length: int, align: int) -> memoryview:
        self.area(pointer, length, align)
        self._spend(length)
        return self.memory[pointer : pointer + length]


# Lowering.


class Lower(BaseLower):
    """Hands the values of one call over, as `bindgen.runtime.Lower` does."""

    REALLOC = "the function's realloc"

    __slots__ = ("encoding",)

    guest: Any

    def __init__(self, guest: Guest, where: str) -> None:
        super().__init__(guest, where)  # type: ignore[arg-type]  # it has what is asked of it here
        self.encoding: Encoding = guest.encoding

    @property
    def text_align(self) -> int:  # type: ignore[override]  # there it is the same for all
        """What addresses of texts are multiples of, in bytes."""
        return ALIGNMENTS[self.encoding]

    def __str__(self) -> str:
        """What stands in front of messages."""
        return self.where

    def _encoded(self, text: str) -> tuple[builtins.bytes, int]:
        return encode(text, self.encoding)

    def own(self, key: str, value: object) -> int:
        """The handle by which the guest owns `value` from now on."""
        index: int = self.guest.handles.add(key, value, self)
        return index

    def borrow(self, key: str, value: object) -> int:
        """The handle by which the guest knows `value` for the call that it gets."""
        index: int = self.guest.handles.borrow(key, value, self)
        return index

    def stream(self, payload: Payload[T], source: Any) -> int:
        """The index of a stream that the host fills from `source`."""
        index: int = self.guest.channels.add_stream(payload, source, self.where)
        return index

    def future(self, payload: Payload[T], source: Any) -> int:
        """The index of a future that the host fulfils from `source`."""
        index: int = self.guest.channels.add_future(payload, source, self.where)
        return index


# The same in C.

PureLift: TypeAlias = Lift
PureLower: TypeAlias = Lower

if not TYPE_CHECKING and not os.environ.get("SLIGHT_PY_PURE"):
    try:
        from bindgen.runtime._support import ComponentLift, ComponentLower, setup_component
    except ImportError:
        pass
    else:
        setup_component(PureLift, PureLower, encode)
        Lift, Lower = compiled(ComponentLift, PureLift), compiled(ComponentLower, PureLower)
