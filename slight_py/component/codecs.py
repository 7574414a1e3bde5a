"""How values of each type of the component model are lifted and lowered at run time.

What they are in Python, values.py says. Rules and names are those of CanonicalABI.md ("Loading", "Storing", "Flat
Lifting", "Flat Lowering").
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterator, Sequence
from struct import Struct
from typing import Any, TypeAlias

from bindgen.runtime import (
    Err,
    Lift,
    Ok,
    Some,
    bits_of_float32,
    bits_of_float64,
    float32_of,
    float64_of,
)
from slight_py.component import streams
from slight_py.component.handles import Resource, key_of
from slight_py.component.lifting import ERROR_CONTEXT_KEY, Codec, ErrorContext, FlatValue, Lifting, Lowering, Next
from slight_py.component.types import (
    Borrow,
    Enum,
    FixedListOf,
    Flags,
    FutureOf,
    ListOf,
    MapOf,
    OptionOf,
    Own,
    Primitive,
    Record,
    ResourceType,
    ResultOf,
    StreamOf,
    TupleOf,
    ValueType,
    Variant,
    discriminant_size,
    offsets,
    payload_offset,
    text,
)

_PAIR = Struct("<II")
_U32 = Struct("<I")

_NUMBERS = {
    "s8": ("b", 8, True),
    "u8": ("B", 8, False),
    "s16": ("h", 16, True),
    "u16": ("H", 16, False),
    "s32": ("i", 32, True),
    "u32": ("I", 32, False),
    "s64": ("q", 64, True),
    "u64": ("Q", 64, False),
    "f32": ("f", 0, True),
    "f64": ("d", 0, True),
}
"""Letter of `struct`, bits, and whether they are signed; no bits for a float."""


@functools.cache
def codec(type_: ValueType) -> Codec:
    """How values of a type are read and written."""
    match type_:
        case Primitive(name=name) if name in _NUMBERS:
            return _number(type_, *_NUMBERS[name])
        case Primitive():
            return _PRIMITIVES[type_.name](type_)
        case ListOf():
            return _list(type_, codec(type_.element))
        case MapOf():
            return _list(type_, codec(TupleOf((type_.key, type_.value))))
        case FixedListOf():
            return _fixed_list(type_, codec(type_.element))
        case TupleOf():
            return _sequence(type_, type_.items, tuple, iter)
        case Record():
            return _record(type_)
        case Flags():
            return _flags(type_)
        case Enum():
            return _enum(type_)
        case Variant() | OptionOf() | ResultOf():
            return _variant(type_)
        case Own() | Borrow():
            return _handle(type_)
        case StreamOf() | FutureOf():
            return _end(type_)
    raise TypeError(f"{type_!r} has no values")


def _number(type_: ValueType, letter: str, bits: int, signed: bool) -> Codec:
    both = Struct(f"<{letter}")
    unpack, pack = both.unpack_from, both.pack_into
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed and bits else (0, (1 << bits) - 1)
    mask = (1 << bits) - 1
    core = (1 << max(bits, 32)) - 1

    def load(lifting: Lifting, at: int) -> Any:
        return unpack(lifting.memory, at)[0]

    def store(lowering: Lowering, value: Any, at: int) -> None:
        pack(lowering.memory, at, value)

    def lift_unsigned(_lifting: Lifting, take: Next) -> Any:
        return take() & mask

    def lift_signed(_lifting: Lifting, take: Next) -> Any:
        value = take() & mask
        return value - mask - 1 if value > high else value

    def lift_float(_lifting: Lifting, take: Next) -> Any:
        return take()

    def lower_integer(_lowering: Lowering, value: Any, flat: list[FlatValue]) -> None:
        if not low <= value <= high:
            raise OverflowError(f"{value} is not of {text(type_)}")
        flat.append(value & core)

    def lower_float(_lowering: Lowering, value: Any, flat: list[FlatValue]) -> None:
        flat += both.unpack(both.pack(value))  # An f32 has fewer bits than Python's float.

    lift = lift_float if not bits else lift_signed if signed else lift_unsigned
    lower = lower_integer if bits else lower_float
    if letter == "B":
        return Codec(type_, load, lift, store, lower, load_many=_load_bytes, pack=bytes)

    def load_many(lifting: Lifting, at: int, count: int) -> list[Any]:
        lifting.spend(count * Lift.NUMBER)
        return list(struct.unpack_from(f"<{count}{letter}", lifting.memory, at))

    def pack_many(values: Sequence[Any]) -> bytes:
        return struct.pack(f"<{len(values)}{letter}", *values)

    return Codec(type_, load, lift, store, lower, load_many=load_many, pack=pack_many)


def _load_bytes(lifting: Lifting, at: int, count: int) -> bytes:
    lifting.spend(count)
    return bytes(lifting.memory[at : at + count])


def _bool(type_: ValueType) -> Codec:
    def load(lifting: Lifting, at: int) -> bool:
        return lifting.memory[at] != 0

    def load_many(lifting: Lifting, at: int, count: int) -> list[bool]:
        lifting.spend(count * Lift.NUMBER)
        return [byte != 0 for byte in lifting.memory[at : at + count]]

    def store(lowering: Lowering, value: Any, at: int) -> None:
        lowering.memory[at] = bool(value)

    def lift(_lifting: Lifting, take: Next) -> bool:
        return bool(take())

    def lower(_lowering: Lowering, value: Any, flat: list[FlatValue]) -> None:
        flat.append(int(bool(value)))

    def pack(values: Sequence[Any]) -> bytes:
        return bytes(map(bool, values))

    return Codec(type_, load, lift, store, lower, load_many=load_many, pack=pack)


def _char(type_: ValueType) -> Codec:
    def checked(lifting: Lifting, value: int) -> str:
        if value > 0x10FFFF or 0xD800 <= value <= 0xDFFF:
            lifting.fault(f"{value:#x} is not a Unicode scalar value")
        return chr(value)

    def number(value: str) -> int:
        code = ord(value)
        if 0xD800 <= code <= 0xDFFF:
            raise OverflowError(f"{code:#x} is not a Unicode scalar value")
        return code

    def load(lifting: Lifting, at: int) -> str:
        return checked(lifting, _U32.unpack_from(lifting.memory, at)[0])

    def load_many(lifting: Lifting, at: int, count: int) -> list[str]:
        lifting.spend(count * Lift.NUMBER)
        return [checked(lifting, each) for each in struct.unpack_from(f"<{count}I", lifting.memory, at)]

    def store(lowering: Lowering, value: str, at: int) -> None:
        _U32.pack_into(lowering.memory, at, number(value))

    def lift(lifting: Lifting, take: Next) -> str:
        return checked(lifting, take())

    def lower(_lowering: Lowering, value: str, flat: list[FlatValue]) -> None:
        flat.append(number(value))

    def pack(values: Sequence[str]) -> bytes:
        return struct.pack(f"<{len(values)}I", *map(number, values))

    return Codec(type_, load, lift, store, lower, load_many=load_many, pack=pack)


def _string(type_: ValueType) -> Codec:
    def load(lifting: Lifting, at: int) -> str:
        return lifting.string(*_PAIR.unpack_from(lifting.memory, at))

    def lift(lifting: Lifting, take: Next) -> str:
        return lifting.string(take(), take())

    def store(lowering: Lowering, _value: str, at: int) -> None:
        _PAIR.pack_into(lowering.memory, at, *lowering.take())

    def lower(lowering: Lowering, _value: str, flat: list[FlatValue]) -> None:
        flat += lowering.take()

    return Codec(type_, load, lift, store, lower, Lowering.string)


def _list(type_: ValueType, element: Codec) -> Codec:
    pack = element.pack

    def load(lifting: Lifting, at: int) -> Any:
        pointer, length = _PAIR.unpack_from(lifting.memory, at)
        return lifting.list(pointer, length, element)

    def lift(lifting: Lifting, take: Next) -> Any:
        return lifting.list(take(), take(), element)

    def note(lowering: Lowering, values: Sequence[Any]) -> None:
        data = None if pack is None else pack(values)
        lowering.block(len(values) * element.size, element.alignment, len(values), data)
        element.note_many(lowering, values)

    def place(lowering: Lowering, values: Sequence[Any]) -> tuple[int, int]:
        pointer, length = lowering.take()
        if pack is None:
            if len(values) != length:
                raise RuntimeError(f"{lowering.where}: a list changed while it was handed over")
            element.store_many(lowering, values, pointer)
        return pointer, length

    def store(lowering: Lowering, values: Sequence[Any], at: int) -> None:
        _PAIR.pack_into(lowering.memory, at, *place(lowering, values))

    def lower(lowering: Lowering, values: Sequence[Any], flat: list[FlatValue]) -> None:
        flat += place(lowering, values)

    return Codec(type_, load, lift, store, lower, note)


def _fixed_list(type_: FixedListOf, element: Codec) -> Codec:
    length = type_.length

    def checked(values: Sequence[Any]) -> Sequence[Any]:
        if len(values) != length:
            raise OverflowError(f"{len(values)} elements where {text(type_)} has {length}")
        return values

    def load(lifting: Lifting, at: int) -> Any:
        return element.load_many(lifting, at, length)

    def lift(lifting: Lifting, take: Next) -> Any:
        values = [element.lift(lifting, take) for _ in range(length)]
        return bytes(values) if element.pack is bytes else values

    def note(lowering: Lowering, values: Sequence[Any]) -> None:
        element.note_many(lowering, checked(values))

    def store(lowering: Lowering, values: Sequence[Any], at: int) -> None:
        element.store_many(lowering, checked(values), at)

    def lower(lowering: Lowering, values: Sequence[Any], flat: list[FlatValue]) -> None:
        for value in checked(values):
            element.lower(lowering, value, flat)

    return Codec(type_, load, lift, store, lower, note if element.note else None)


def _sequence(
    type_: ValueType,
    types: Sequence[ValueType],
    make: Callable[[list[Any]], Any],
    split: Callable[[Any], Iterator[Any]],
) -> Codec:
    """Values one after the other. `make` makes one value of theirs, `split` gives theirs of one."""
    codecs = [codec(each) for each in types]
    places = offsets(types)
    loads = [(each.load, offset) for each, offset in zip(codecs, places, strict=True)]
    notes = [each.note for each in codecs]

    def load(lifting: Lifting, at: int) -> Any:
        return make([each(lifting, at + offset) for each, offset in loads])

    def lift(lifting: Lifting, take: Next) -> Any:
        return make([each.lift(lifting, take) for each in codecs])

    def note(lowering: Lowering, value: Any) -> None:
        for each, part in zip(notes, split(value), strict=True):
            if each is not None:
                each(lowering, part)

    def store(lowering: Lowering, value: Any, at: int) -> None:
        for each, part, offset in zip(codecs, split(value), places, strict=True):
            each.store(lowering, part, at + offset)

    def lower(lowering: Lowering, value: Any, flat: list[FlatValue]) -> None:
        for each, part in zip(codecs, split(value), strict=True):
            each.lower(lowering, part, flat)

    return Codec(type_, load, lift, store, lower, note if any(notes) else None)


def _record(type_: Record) -> Codec:
    names = [field.name for field in type_.fields]

    def make(parts: list[Any]) -> dict[str, Any]:
        return dict(zip(names, parts, strict=True))

    def split(value: Any) -> Iterator[Any]:
        return iter([value[name] for name in names])

    return _sequence(type_, [field.type for field in type_.fields], make, split)


def _unsigned(size: int) -> tuple[Callable[..., tuple[Any, ...]], Callable[..., None]]:
    """What reads and writes an unsigned integer of 1, 2 or 4 bytes."""
    packed = Struct({1: "<B", 2: "<H", 4: "<I"}[size])
    return packed.unpack_from, packed.pack_into


def _flags(type_: Flags) -> Codec:
    names = [(name, 1 << bit) for bit, name in enumerate(type_.names)]
    bits = dict(names)
    unpack, pack = _unsigned(type_.size)

    def make(value: int) -> frozenset[str]:
        return frozenset([name for name, bit in names if value & bit])

    def number(value: Any) -> int:
        return sum({bits[name] for name in value})

    def load(lifting: Lifting, at: int) -> frozenset[str]:
        return make(unpack(lifting.memory, at)[0])

    def lift(_lifting: Lifting, take: Next) -> frozenset[str]:
        return make(take())

    def store(lowering: Lowering, value: Any, at: int) -> None:
        pack(lowering.memory, at, number(value))

    def lower(_lowering: Lowering, value: Any, flat: list[FlatValue]) -> None:
        flat.append(number(value))

    return Codec(type_, load, lift, store, lower)


def _enum(type_: Enum) -> Codec:
    names = type_.names
    numbers = {name: number for number, name in enumerate(names)}
    unpack, pack = _unsigned(type_.size)

    def name_of(lifting: Lifting, number: int) -> str:
        if number >= len(names):
            lifting.fault(f"{number} is not a case of {text(type_)}")
        return names[number]

    def load(lifting: Lifting, at: int) -> str:
        return name_of(lifting, unpack(lifting.memory, at)[0])

    def lift(lifting: Lifting, take: Next) -> str:
        return name_of(lifting, take())

    def store(lowering: Lowering, value: str, at: int) -> None:
        pack(lowering.memory, at, numbers[value])

    def lower(_lowering: Lowering, value: str, flat: list[FlatValue]) -> None:
        flat.append(numbers[value])

    return Codec(type_, load, lift, store, lower)


def _variant(type_: Variant | OptionOf | ResultOf) -> Codec:
    cases = type_.cases
    codecs = [None if case.type is None else codec(case.type) for case in cases]
    make, split = _forms(type_)
    offset = payload_offset(cases)
    unpack, pack = _unsigned(discriminant_size(len(cases)))
    slots = (type_.flat or ())[1:]
    lifts, lowers = _coercions(codecs, slots)

    def checked(lifting: Lifting, tag: int) -> int:
        if tag >= len(cases):
            lifting.fault(f"{tag} is not a case of {text(type_)}")
        return tag

    def load(lifting: Lifting, at: int) -> Any:
        tag = checked(lifting, unpack(lifting.memory, at)[0])
        payload = codecs[tag]
        return make(tag, None if payload is None else payload.load(lifting, at + offset))

    def lift(lifting: Lifting, take: Next) -> Any:
        tag = checked(lifting, take())
        values = [take() for _ in slots]
        payload = codecs[tag]
        if payload is None:
            return make(tag, None)
        if (converts := lifts[tag]) is not None:
            values = [value if each is None else each(value) for value, each in zip(values, converts, strict=False)]
        return make(tag, payload.lift(lifting, iter(values).__next__))

    def note(lowering: Lowering, value: Any) -> None:
        tag, payload = split(value)
        each = codecs[tag]
        if each is not None and each.note is not None:
            each.note(lowering, payload)

    def store(lowering: Lowering, value: Any, at: int) -> None:
        tag, payload = split(value)
        pack(lowering.memory, at, tag)
        each = codecs[tag]
        if each is not None:
            each.store(lowering, payload, at + offset)

    def lower(lowering: Lowering, value: Any, flat: list[FlatValue]) -> None:
        tag, payload = split(value)
        flat.append(tag)
        values: list[FlatValue] = []
        each = codecs[tag]
        if each is not None:
            each.lower(lowering, payload, values)
            if (converts := lowers[tag]) is not None:
                values = [x if to is None else to(x) for x, to in zip(values, converts, strict=True)]
        flat += values
        flat += [_ZEROS[core] for core in slots[len(values) :]]

    return Codec(type_, load, lift, store, lower, note if any(each and each.note for each in codecs) else None)


_ZEROS: dict[str, FlatValue] = {"i32": 0, "i64": 0, "f32": 0.0, "f64": 0.0}
_Convert: TypeAlias = Callable[[Any], Any] | None

_LIFTED: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("i32", "f32"): float32_of,
    ("i64", "f32"): float32_of,
    ("i64", "f64"): float64_of,
    ("i64", "i32"): lambda value: value & 0xFFFF_FFFF,
}
"""How a value is had of the slot that it shares with values of other cases: by the core types of both."""

_LOWERED: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("i32", "f32"): bits_of_float32,
    ("i64", "f32"): bits_of_float32,
    ("i64", "f64"): bits_of_float64,
}


def _coercions(
    codecs: Sequence[Codec | None], slots: Sequence[str]
) -> tuple[list[list[_Convert] | None], list[list[_Convert] | None]]:
    """What converts the core values of the payload of each case, None where nothing has to."""

    def conversions(table: dict[tuple[str, str], Callable[[Any], Any]], payload: Codec | None) -> list[_Convert] | None:
        flat = (payload.type.flat or ()) if payload is not None else ()
        found = [table.get((slot, core)) for slot, core in zip(slots, flat, strict=False)]
        return found if any(found) else None

    return [conversions(_LIFTED, each) for each in codecs], [conversions(_LOWERED, each) for each in codecs]


def _forms(
    type_: Variant | OptionOf | ResultOf,
) -> tuple[Callable[[int, Any], Any], Callable[[Any], tuple[int, Any]]]:
    """What makes a value of the number of its case and the payload, and what gives both of a value."""
    if isinstance(type_, OptionOf):
        if isinstance(type_.value, OptionOf):
            return (lambda tag, value: Some(value) if tag else None), _split_wrapped_option
        return (lambda _tag, value: value), (lambda value: (0, None) if value is None else (1, value))
    if isinstance(type_, ResultOf):
        return (lambda tag, value: Err(value) if tag else Ok(value)), _split_result
    names = [case.name for case in type_.cases]
    numbers = {name: number for number, name in enumerate(names)}
    return (lambda tag, value: (names[tag], value)), (lambda value: (numbers[value[0]], value[1]))


def _split_wrapped_option(value: Some[Any] | None) -> tuple[int, Any]:
    return (0, None) if value is None else (1, value.value)


def _split_result(value: Ok[Any] | Err[Any]) -> tuple[int, Any]:
    return (1 if isinstance(value, Err) else 0), value.value


def _index_codec(
    type_: ValueType, take_over: Callable[[Lifting, int], Any], hand_over: Callable[[Lowering, Any], int]
) -> Codec:
    """Values that the guest knows by an index of its handle table."""

    def load(lifting: Lifting, at: int) -> Any:
        return take_over(lifting, _U32.unpack_from(lifting.memory, at)[0])

    def lift(lifting: Lifting, take: Next) -> Any:
        return take_over(lifting, take())

    def store(lowering: Lowering, value: Any, at: int) -> None:
        _U32.pack_into(lowering.memory, at, hand_over(lowering, value))

    def lower(lowering: Lowering, value: Any, flat: list[FlatValue]) -> None:
        flat.append(hand_over(lowering, value))

    return Codec(type_, load, lift, store, lower)


def _handle(type_: Own | Borrow) -> Codec:
    resource = type_.resource
    key = key_of(resource)

    def take_own(lifting: Lifting, index: int) -> Any:
        return lifting.handles.take(key, index, lifting.where)

    def take_borrow(lifting: Lifting, index: int) -> Any:
        if lifting.lenders is None:
            return lifting.handles.get(key, index, lifting.where)
        lifting.lenders.append(index)
        return lifting.handles.lend(key, index, lifting.where)

    def hand_own(lowering: Lowering, value: Any) -> int:
        _check_resource(resource, value)
        return lowering.handles.add(key, value, lowering.where)

    def hand_borrow(lowering: Lowering, value: Any) -> int:
        _check_resource(resource, value)
        if resource.instance is not None and resource.instance == lowering.instance:
            return int(value.rep)
        if lowering.scope is None:
            raise ValueError(f"{lowering.where}: resources can be lent to a call of an export alone")
        return lowering.handles.add_borrow(key, value, lowering.scope, lowering.where)

    own = isinstance(type_, Own)
    return _index_codec(type_, take_own if own else take_borrow, hand_own if own else hand_borrow)


def _check_resource(resource: ResourceType, value: Any) -> None:
    if resource.instance is not None and not (isinstance(value, Resource) and value.type is resource):
        raise ValueError(f"{value!r} where a resource {resource.key} of a component is expected")


def _end(type_: StreamOf | FutureOf) -> Codec:
    is_future, element = isinstance(type_, FutureOf), type_.element
    carried = streams.text_of_element(type_)

    def take_over(lifting: Lifting, index: int) -> Any:
        return streams.lift_readable(lifting.handles, is_future, element, carried, index, lifting.where)

    def hand_over(lowering: Lowering, value: Any) -> int:
        return streams.add_source(lowering.handles, is_future, carried, None, value, lowering.where, element)

    return _index_codec(type_, take_over, hand_over)


def _error_context(type_: ValueType) -> Codec:
    def take_over(lifting: Lifting, index: int) -> Any:
        return lifting.handles.get(ERROR_CONTEXT_KEY, index, lifting.where)

    def hand_over(lowering: Lowering, value: Any) -> int:
        if not isinstance(value, ErrorContext):
            raise ValueError(f"{value!r} where an ErrorContext is expected")
        return lowering.handles.add(ERROR_CONTEXT_KEY, value, lowering.where)

    return _index_codec(type_, take_over, hand_over)


_PRIMITIVES = {"bool": _bool, "char": _char, "string": _string, "error-context": _error_context}
