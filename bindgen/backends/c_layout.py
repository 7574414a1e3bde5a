"""How the C types of the bindings lie in memory, and where that is how the host has them.

A C struct is rounded up to its alignment, and no value reaches past it; a variant of the binary interface isn't, and
one may (`bindgen.abi`, `extent`). Where the two agree, values are copied whole and lists are used where they lie;
elsewhere the bindings move them part by part.
"""

from __future__ import annotations

from functools import cache

from bindgen.abi import align_up
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
def agrees(whole: Shape) -> bool:
    """Whether the C type lies in memory as the host has it, and so does all that its lists show."""
    if not all(map(agrees, inner(whole))):
        return False
    if not isinstance(whole, Choice):
        return True
    end = max([whole.tag_size, *(whole.payload_offset + payload.size for _, payload in payloads(whole))])
    return whole.size == align_up(end, whole.align)


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
