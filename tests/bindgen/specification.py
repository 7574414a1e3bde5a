"""The canonical ABI of components, read out of `CanonicalABI.md` function by function, and a guest that keeps to it.

It's written for clarity and shares nothing with `bindgen.abi` but the types, so that what is generated is held against
it. Values are Python's own, whatever a module's classes are: numbers, str, a list, a tuple for a record or a tuple, the
pair of number and payload for a case, a number for an enum, flags and handles.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bindgen.runtime import GuestFault
from bindgen.runtime.text import Encoding
from bindgen.wit_parser.model import (
    Alias,
    Borrow,
    Enum,
    ExpectedOf,
    FixedListOf,
    Flags,
    FutureOf,
    ListOf,
    OptionOf,
    Own,
    Primitive,
    Record,
    StreamOf,
    TupleOf,
    Type,
    TypeDef,
    Variant,
)

# Types.

SCALARS = {
    Primitive.BOOL: ("B", "i"),
    Primitive.U8: ("B", "i"),
    Primitive.S8: ("b", "i"),
    Primitive.U16: ("H", "i"),
    Primitive.S16: ("h", "i"),
    Primitive.U32: ("I", "i"),
    Primitive.S32: ("i", "i"),
    Primitive.U64: ("Q", "I"),
    Primitive.S64: ("q", "I"),
    Primitive.FLOAT32: ("f", "f"),
    Primitive.FLOAT64: ("d", "d"),
    Primitive.CHAR: ("I", "i"),
}


def despecialized(type_: Type) -> tuple[str, Any]:
    """What a type is, with its parts: records, variants, flags, lists, texts, handles and scalars are all there is."""
    match type_:
        case TypeDef(kind=Alias(target)):
            return despecialized(target)
        case Primitive.STRING:
            return "string", None
        case Primitive():
            return "scalar", type_
        case ListOf(element):
            return "list", element
        case Own() | Borrow() | StreamOf() | FutureOf():
            return "handle", type_
        case TupleOf(items):
            return "record", list(items)
        case FixedListOf(element, length):
            return "record", [element] * length
        case TypeDef(kind=Record(fields)):
            return "record", [field.type for field in fields]
        case TypeDef(kind=Flags(labels)):
            return "flags", len(labels)
        case TypeDef(kind=Enum(labels)):
            return "variant", [None] * len(labels)
        case TypeDef(kind=Variant(cases)):
            return "variant", [case.type for case in cases]
        case OptionOf(value):
            return "variant", [None, value]
        case ExpectedOf(ok, err):
            return "variant", [None if each is Primitive.UNIT else each for each in (ok, err)]
    raise AssertionError(type_)


def align_to(at: int, align: int) -> int:
    return (at + align - 1) // align * align


def discriminant_size(count: int) -> int:
    return 1 if count <= 256 else 2 if count <= 65_536 else 4


def flags_size(count: int) -> int:
    return 1 if count <= 8 else 2 if count <= 16 else 4


def alignment(type_: Type) -> int:
    kind, inside = despecialized(type_)
    if kind == "scalar":
        return struct.calcsize(SCALARS[inside][0])
    if kind == "record":
        return max([1, *map(alignment, inside)])
    if kind == "variant":
        return max(discriminant_size(len(inside)), payload_alignment(inside))
    return flags_size(inside) if kind == "flags" else 4


def payload_alignment(cases: list[Type | None]) -> int:
    return max([1, *(alignment(case) for case in cases if case is not None)])


def size(type_: Type) -> int:
    kind, inside = despecialized(type_)
    if kind == "scalar":
        return struct.calcsize(SCALARS[inside][0])
    if kind == "record":
        end = 0
        for part in inside:
            end = align_to(end, alignment(part)) + size(part)
        return align_to(end, alignment(type_))
    if kind == "variant":
        start = align_to(discriminant_size(len(inside)), payload_alignment(inside))
        return align_to(start + max([0, *(size(case) for case in inside if case is not None)]), alignment(type_))
    if kind == "flags":
        return flags_size(inside)
    return 4 if kind == "handle" else 8


def flat_types(type_: Type) -> str:
    kind, inside = despecialized(type_)
    if kind == "scalar":
        return SCALARS[inside][1]
    if kind == "record":
        return "".join(map(flat_types, inside))
    if kind == "variant":
        joined = ""
        for case in inside:
            for number, letter in enumerate(flat_types(case) if case is not None else ""):
                if number == len(joined):
                    joined += letter
                else:
                    joined = joined[:number] + join(joined[number], letter) + joined[number + 1 :]
        return "i" + joined
    return "i" if kind in ("flags", "handle") else "ii"


def join(one: str, other: str) -> str:
    if one == other:
        return one
    return "i" if {one, other} == {"i", "f"} else "I"


# A guest.


class Handles:
    """A handle table that keeps to the protocol, and says what was done with it."""

    def __init__(self) -> None:
        self.held: dict[int, tuple[str, Any]] = {}
        self.lent: list[int] = []

    def add(self, key: str, value: object, where: str) -> int:
        index = next(number for number in range(1, len(self.held) + 2) if number not in self.held)
        self.held[index] = (key, value)
        return index

    borrow = add

    def get(self, key: str, index: int, where: str) -> Any:
        if self.held.get(index, ("", None))[0] != key:
            raise GuestFault(f"{where}: {index} is no handle of {key}")
        return self.held[index][1]

    def take(self, key: str, index: int, where: str) -> Any:
        value = self.get(key, index, where)
        del self.held[index]
        return value

    def lend(self, key: str, index: int, where: str) -> Any:
        self.lent.append(index)
        return self.get(key, index, where)


class Guest:
    """An instance whose memory is a bytearray, which a test reads and writes as the guest's code would."""

    def __init__(self, encoding: Encoding = "utf8", size: int = 1 << 16) -> None:
        self.encoding = encoding
        self.data = bytearray(size)
        self.handles = Handles()
        self.end = 16
        self.blocks: list[tuple[int, int]] = []
        """Size and alignment of each block that was asked for."""
        self.finished: list[Any] = []
        self.function: Callable[[Sequence[Any]], Any] = lambda _args: None
        """What an export does."""

    @property
    def memory(self) -> memoryview:
        return memoryview(self.data)

    def realloc(self, size: int, align: int) -> int:
        self.blocks.append((size, align))
        at = align_to(self.end, align)
        self.end = at + size
        if self.end > len(self.data):
            self.data += bytes(self.end - len(self.data))
        return at

    async def allocate(self, lower: Any) -> None:
        lower.place([self.realloc(size, align) for size, align, _ in lower.blocks])
        if lower.later:
            raise AssertionError("a test with long lists needs a better guest")

    async def call(self, export: Any, args: Sequence[Any]) -> Any:
        return self.function(args)

    async def finish(self, export: Any, result: Any) -> None:
        self.finished.append(result)

    # Values in memory.

    def store(self, type_: Type, value: Any, at: int) -> None:
        kind, inside = despecialized(type_)
        if kind == "scalar":
            struct.pack_into("<" + SCALARS[inside][0], self.data, at, ord(value) if inside is Primitive.CHAR else value)
        elif kind == "record":
            for part, each in zip(inside, value, strict=True):
                at = align_to(at, alignment(part))
                self.store(part, each, at)
                at += size(part)
        elif kind == "variant":
            number, payload = value
            width = discriminant_size(len(inside))
            self.data[at : at + width] = number.to_bytes(width, "little")
            if inside[number] is not None:
                self.store(inside[number], payload, at + align_to(width, payload_alignment(inside)))
        elif kind in ("flags", "handle"):
            width = size(type_)
            self.data[at : at + width] = value.to_bytes(width, "little")
        else:
            struct.pack_into("<II", self.data, at, *self.place(type_, value))

    def place(self, type_: Type, value: Any) -> tuple[int, int]:
        """Puts a text or a list where there is room: pointer and length."""
        kind, inside = despecialized(type_)
        if kind == "string":
            data, units = self.encoded(value)
            at = self.realloc(len(data), 1 if self.encoding == "utf8" else 2)
            self.data[at : at + len(data)] = data
            return at, units
        at = self.realloc(len(value) * size(inside), alignment(inside))
        for number, each in enumerate(value):
            self.store(inside, each, at + number * size(inside))
        return at, len(value)

    def encoded(self, text: str) -> tuple[bytes, int]:
        if self.encoding == "utf8":
            data = text.encode("utf-8")
            return data, len(data)
        if self.encoding == "latin1+utf16" and all(ord(character) < 256 for character in text):
            return text.encode("latin-1"), len(text)
        data = text.encode("utf-16-le")
        tag = 1 << 31 if self.encoding == "latin1+utf16" else 0
        return data, len(data) // 2 | tag

    def load(self, type_: Type, at: int) -> Any:
        kind, inside = despecialized(type_)
        assert at % alignment(type_) == 0
        if kind == "scalar":
            (value,) = struct.unpack_from("<" + SCALARS[inside][0], self.data, at)
            return chr(value) if inside is Primitive.CHAR else bool(value) if inside is Primitive.BOOL else value
        if kind == "record":
            values = []
            for part in inside:
                at = align_to(at, alignment(part))
                values.append(self.load(part, at))
                at += size(part)
            return tuple(values)
        if kind == "variant":
            width = discriminant_size(len(inside))
            number = int.from_bytes(self.data[at : at + width], "little")
            payload = inside[number]
            start = at + align_to(width, payload_alignment(inside))
            return number, None if payload is None else self.load(payload, start)
        if kind in ("flags", "handle"):
            return int.from_bytes(self.data[at : at + size(type_)], "little")
        return self.gather(type_, *struct.unpack_from("<II", self.data, at))

    def gather(self, type_: Type, at: int, length: int) -> Any:
        """The text or list at a pointer."""
        kind, inside = despecialized(type_)
        if kind == "list":
            assert at % alignment(inside) == 0
            return [self.load(inside, at + number * size(inside)) for number in range(length)]
        if self.encoding == "utf8":
            return self.data[at : at + length].decode("utf-8")
        assert at % 2 == 0
        if self.encoding == "latin1+utf16" and not length >> 31:
            return self.data[at : at + length].decode("latin-1")
        return self.data[at : at + 2 * (length & 0x7FFF_FFFF)].decode("utf-16-le")

    # Flat values.

    def lower(self, type_: Type, value: Any) -> list[Any]:
        kind, inside = despecialized(type_)
        if kind == "scalar":
            number = ord(value) if inside is Primitive.CHAR else value
            letter = SCALARS[inside][1]
            return [number & {"i": 0xFFFF_FFFF, "I": 0xFFFF_FFFF_FFFF_FFFF}[letter] if letter in "iI" else number]
        if kind == "record":
            return [flat for part, each in zip(inside, value, strict=True) for flat in self.lower(part, each)]
        if kind == "variant":
            number, payload = value
            slots = flat_types(type_)[1:]
            have = flat_types(inside[number]) if inside[number] is not None else ""
            flat = self.lower(inside[number], payload) if inside[number] is not None else []
            moved = [to_slot(*each) for each in zip(flat, have, slots, strict=False)]
            return [number, *moved, *[0 if letter in "iI" else 0.0 for letter in slots[len(have) :]]]
        return [value] if kind in ("flags", "handle") else list(self.place(type_, value))

    def lift(self, type_: Type, flat: Iterator[Any]) -> Any:
        kind, inside = despecialized(type_)
        if kind == "scalar":
            value = next(flat)
            if inside is Primitive.BOOL:
                return bool(value)
            if inside is Primitive.CHAR:
                return chr(value)
            form = SCALARS[inside][0]
            return value if form in "fd" else wrapped(value, form)
        if kind == "record":
            return tuple([self.lift(part, flat) for part in inside])
        if kind == "variant":
            number = next(flat)
            slots = flat_types(type_)[1:]
            values = [next(flat) for _ in slots]
            if inside[number] is None:
                return number, None
            own = zip(values, slots, flat_types(inside[number]), strict=False)
            return number, self.lift(inside[number], iter([from_slot(*each) for each in own]))
        return next(flat) if kind in ("flags", "handle") else self.gather(type_, next(flat), next(flat))


def wrapped(value: int, form: str) -> int:
    """The number that the lowest bits of a flat value mean."""
    bits = 8 * struct.calcsize(form)
    value &= (1 << bits) - 1
    return value - (1 << bits) if form.islower() and value >> (bits - 1) else value


def to_slot(value: Any, have: str, want: str) -> Any:
    if have == want or (have, want) == ("i", "I"):
        return value
    return int.from_bytes(struct.pack({"f": "<f", "d": "<d"}[have], value), "little")


def from_slot(value: Any, have: str, want: str) -> Any:
    if have == want:
        return value
    if want == "i":
        return value & 0xFFFF_FFFF
    width = {"f": 4, "d": 8}[want]
    return struct.unpack({"f": "<f", "d": "<d"}[want], (value & (1 << 8 * width) - 1).to_bytes(width, "little"))[0]
