"""How the C types of the bindings lie in memory, and where that is how the host has them.

A C struct is rounded up to its alignment, and no value reaches past it; a variant of the binary interface isn't, and
one may (`bindgen.abi`, `extent`). Where the two agree, values are copied whole and lists are used where they lie;
elsewhere the bindings move them part by part.
"""

from __future__ import annotations

from functools import cache

from bindgen.abi import SizeAlign, align_up
from bindgen.plan import choice, parts, shape
from bindgen.wit_parser.model import (
    Enum,
    ExpectedOf,
    Field,
    Flags,
    ListOf,
    OptionOf,
    Primitive,
    Record,
    Resource,
    TupleOf,
    Type,
    TypeDef,
    Union,
    Variant,
    cases,
    components,
    contains_handle,
    has_heap,
    unaliased,
)

WORD_FLAGS = 64
"""With more flags, their type is an array of 32-bit words."""


@cache
def is_empty(type_: Type) -> bool:
    """Whether there is nothing to a value: `unit`, and what is made of it alone. C has no such types."""
    return not shape(type_).slots


@cache
def canonical(type_: Type) -> Type:
    """A type with all aliases seen through, also within it: what C has one type for."""
    type_ = unaliased(type_)
    if is_empty(type_):
        return Primitive.UNIT
    match type_:
        case ListOf(element):
            return ListOf(canonical(element))
        case OptionOf(value):
            return OptionOf(canonical(value))
        case ExpectedOf(ok, err):
            return ExpectedOf(canonical(ok), canonical(err))
        case TupleOf(items):
            return TupleOf(tuple(map(canonical, items)))
    return type_


def members(type_: Type) -> list[tuple[int, Type]]:
    """The fields of a record or tuple that have a place in C, with their numbers."""
    real = unaliased(type_)
    types = real.items if isinstance(real, TupleOf) else tuple(field.type for field in fields_of(real))
    return [(number, each) for number, each in enumerate(types) if not is_empty(each)]


def fields_of(type_: Type) -> tuple[Field, ...]:
    assert isinstance(type_, TypeDef)
    assert isinstance(type_.kind, Record)
    return type_.kind.fields


def payloads(type_: Type) -> list[tuple[int, Type]]:
    """The payloads of a variant, union, option or expected that have a place in C, with their tags."""
    found = enumerate(case for _, case in cases(type_))
    return [(tag, case) for tag, case in found if case is not None and not is_empty(case)]


def payload_groups(type_: Type) -> list[tuple[tuple[int, ...], Type]]:
    """`payloads`, those of one C type together: they lie in the same place, so what is done with them is the same."""
    groups: dict[Type, tuple[list[int], Type]] = {}
    for tag, part in payloads(type_):
        groups.setdefault(canonical(part), ([], part))[0].append(tag)
    return [(tuple(tags), part) for tags, part in groups.values()]


def is_record(type_: Type) -> bool:
    real = unaliased(type_)
    return isinstance(real, TupleOf) or (isinstance(real, TypeDef) and isinstance(real.kind, Record))


def is_variant(type_: Type) -> bool:
    """Whether it is a tag and, perhaps, a payload. An enum, which is a number in C, is none."""
    real = unaliased(type_)
    if isinstance(real, TypeDef):
        return isinstance(real.kind, Variant | Union)
    return isinstance(real, OptionOf | ExpectedOf)


def flags_count(type_: Type) -> int:
    """How many flags a type has; 0 for one that is none, too."""
    real = unaliased(type_)
    return len(real.kind.names) if isinstance(real, TypeDef) and isinstance(real.kind, Flags) else 0


@cache
def size_align(type_: Type) -> SizeAlign:
    """Size and alignment of the C type."""
    if 32 < flags_count(type_) <= WORD_FLAGS:
        return SizeAlign(8, 8)
    if is_record(type_):
        return _struct([size_align(each) for _, each in members(type_)])[1]
    if is_variant(type_):
        tag = choice(type_).tag_size
        inner = [size_align(case) for _, case in payloads(type_)]
        align = max([tag, *(each.align for each in inner)])
        return SizeAlign(align_up(_payload_offset(type_) + max([each.size for each in inner], default=0), align), align)
    return _hosts(type_)


def _hosts(type_: Type) -> SizeAlign:
    """Size and alignment as the host has them."""
    return SizeAlign(shape(type_).size, shape(type_).align)


def _struct(parts: list[SizeAlign]) -> tuple[list[int], SizeAlign]:
    starts = []
    end, align = 0, 1
    for part in parts:
        starts.append(align_up(end, part.align))
        end = starts[-1] + part.size
        align = max(align, part.align)
    return starts, SizeAlign(align_up(end, align), align)


def _payload_offset(type_: Type) -> int:
    align = max([size_align(case).align for _, case in payloads(type_)], default=1)
    return align_up(choice(type_).tag_size, align)


@cache
def agrees(type_: Type) -> bool:
    """Whether the C type lies in memory as the host has it, and so does all that its lists show."""
    real = unaliased(type_)
    if is_empty(real):
        return True
    if size_align(real) != _hosts(real):
        return False
    if isinstance(real, ListOf):
        return agrees(real.element)
    if is_record(real):
        mine = _struct([size_align(each) for _, each in members(real)])[0]
        host = [parts(real)[number].offset for number, _ in members(real)]
        return mine == host and all(agrees(each) for _, each in members(real))
    if is_variant(real):
        same_place = _payload_offset(real) == choice(real).payload_offset or not payloads(real)
        return same_place and all(agrees(case) for _, case in payloads(real))
    return True


@cache
def is_copied(type_: Type) -> bool:
    """Whether a value's bytes are those that the host has, be they aligned alike or not."""
    return agrees(type_) or flags_count(type_) > 0


@cache
def converts(type_: Type) -> bool:
    """Whether there is a list in a value whose elements the host has in another layout."""
    real = unaliased(type_)
    if isinstance(real, ListOf):
        return not agrees(real.element)
    return any(map(converts, components(real)))


@cache
def owns(type_: Type) -> bool:
    """Whether a value owns something that has to be freed: memory, or handles."""
    return has_heap(type_) or contains_handle(type_)


def is_leaf(type_: Type) -> bool:
    """Whether a value is a number in C, or a handle: one flat value."""
    real = unaliased(type_)
    if isinstance(real, TypeDef):
        return isinstance(real.kind, Enum) or (isinstance(real.kind, Flags) and flags_count(real) <= 32)
    return isinstance(real, Resource) or (
        isinstance(real, Primitive) and real not in (Primitive.STRING, Primitive.UNIT)
    )
