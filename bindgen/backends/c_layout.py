"""How the C types of the bindings lie in memory, and where that is how the host has them.

A C struct is rounded up to its alignment, and no value reaches past it; a variant of the binary interface isn't, and
one may (`bindgen.abi`, `extent`). Where the two agree, values are copied whole and lists are used where they lie;
elsewhere the bindings move them part by part.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from bindgen.abi import SizeAlign, align_up
from bindgen.plan import Case, Choice, Elements, FlagSet, Labels, Number, Part, Parts, Shape, inner, shape
from bindgen.wit_parser.model import Primitive, Type, rebuilt, unaliased

WORD_FLAGS = 32
"""With more flags, their type is an array of words."""


@cache
def canonical(type_: Type) -> Type:
    """A type with all aliases seen through, also within it: what C has one type for. C has no empty types."""
    return Primitive.UNIT if shape(type_).is_empty else rebuilt(unaliased(type_), canonical)


def members(whole: Parts) -> list[Part]:
    """The fields of a record or tuple that have a place in C."""
    return [part for part in whole.parts if not part.shape.is_empty]


def payloads(choice: Choice) -> list[tuple[Case, Shape]]:
    """The cases with a payload that has a place in C."""
    return [(case, case.payload) for case in choice.cases if case.payload and not case.payload.is_empty]


# Memory.


@cache
def size_align(whole: Shape) -> SizeAlign:
    """Size and alignment of the C type."""
    match whole:
        case Parts():
            return _struct(part.shape for part in members(whole))[1]
        case Choice():
            fields = [size_align(payload) for _, payload in payloads(whole)]
            align = max([whole.tag_size, *(each.align for each in fields)])
            end = _payload_offset(whole) + max([each.size for each in fields], default=0)
            return SizeAlign(align_up(end, align), align)
    return SizeAlign(whole.size, whole.align)


def _struct(fields: Iterable[Shape]) -> tuple[list[int], SizeAlign]:
    starts = []
    end, align = 0, 1
    for field in map(size_align, fields):
        starts.append(align_up(end, field.align))
        end = starts[-1] + field.size
        align = max(align, field.align)
    return starts, SizeAlign(align_up(end, align), align)


def _payload_offset(choice: Choice) -> int:
    return align_up(choice.tag_size, max([size_align(payload).align for _, payload in payloads(choice)], default=1))


@cache
def agrees(whole: Shape) -> bool:
    """Whether the C type lies in memory as the host has it, and so does all that its lists show."""
    if whole.is_empty:
        return True
    if size_align(whole) != SizeAlign(whole.size, whole.align):
        return False
    match whole:
        case Parts():
            fields = members(whole)
            if _struct(part.shape for part in fields)[0] != [part.offset for part in fields]:
                return False
        case Choice() if payloads(whole) and _payload_offset(whole) != whole.payload_offset:
            return False
    return all(map(agrees, inner(whole)))


@cache
def converts(whole: Shape) -> bool:
    """Whether there is a list in a value whose elements the host has in another layout."""
    return (isinstance(whole, Elements) and not agrees(whole.element)) or any(map(converts, inner(whole)))


# What a value is to C.


def is_number(whole: Shape) -> bool:
    """Whether a value is a number in C that travels as it is."""
    return isinstance(whole, Number | Labels) or (isinstance(whole, FlagSet) and len(whole.slots) == 1)


def is_copyable(whole: Shape) -> bool:
    """Whether a value owns memory and no handles, of which there are no copies."""
    return whole.has_heap and not whole.has_handle
