"""The binary interface of wit-bindgen 0.2: what a resolved type or function is to a core module.

The rules are those of docs/abi.md, "Layout in memory" and "Flattening", and not those of the component model
that came later. Sizes, alignments and offsets are in bytes. A flat type is a letter: `i` i32, `I` i64, `f` f32,
`d` f64.

Types come from `bindgen.wit_parser`, which bounds how deep and how large one may be: the functions here recurse
freely, and remember what they found.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from typing import Literal, TypeAlias

from bindgen.wit_parser.model import (
    Enum,
    ExpectedOf,
    Flags,
    Function,
    FunctionKind,
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
    unaliased,
)

MAX_FLAT_PARAMS = 16
"""With more flat parameters, a function takes one pointer to all of them."""

MAX_FLAT_RESULTS = 1
"""With more flat results, a function hands them over in memory."""

Side: TypeAlias = Literal["import", "export"]
"""Whether the guest imports the function or exports it."""


@dataclass(frozen=True, slots=True)
class SizeAlign:
    """What a value takes in memory. `size` is also the stride of a list of such values."""

    size: int
    align: int


@dataclass(frozen=True, slots=True)
class CaseView:
    """A variant, union, enum, option or expected, seen as the variant it is in memory."""

    tag_size: int
    payload_offset: int
    cases: tuple[tuple[str, Type | None], ...]
    """Name and payload by tag; None where there is no payload, be it left out or `unit`."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A function's type in core WebAssembly."""

    params: str
    """With the pointers that the two flags below tell of."""
    result: str
    """A letter or nothing."""
    indirect_params: bool
    """The first parameter points to all of them, laid out as a record of `param_types`."""
    result_pointer: bool
    """The result is in memory: of an import where its last parameter points, of an export where its result does."""


_SCALARS = {
    Primitive.BOOL: (1, "i"),
    Primitive.U8: (1, "i"),
    Primitive.S8: (1, "i"),
    Primitive.U16: (2, "i"),
    Primitive.S16: (2, "i"),
    Primitive.U32: (4, "i"),
    Primitive.S32: (4, "i"),
    Primitive.U64: (8, "I"),
    Primitive.S64: (8, "I"),
    Primitive.FLOAT32: (4, "f"),
    Primitive.FLOAT64: (8, "d"),
    Primitive.CHAR: (4, "i"),
}
"""Size, which is the alignment too, and flat type."""

_HANDLE = SizeAlign(4, 4)
_POINTER_AND_LENGTH = SizeAlign(8, 4)


def align_up(offset: int, align: int) -> int:
    """The first multiple of `align` from `offset` on."""
    return -(-offset // align) * align


# Layout in memory.


@cache
def size_align(type_: Type) -> SizeAlign:
    """Size and alignment of a value in memory.

    The size of a variant need not be a multiple of its alignment, nor hold the whole value: see `extent`.
    """
    type_ = unaliased(type_)
    match type_:
        case Primitive.UNIT:
            return SizeAlign(0, 1)
        case Primitive.STRING | ListOf():
            return _POINTER_AND_LENGTH
        case Primitive():
            size = _SCALARS[type_][0]
            return SizeAlign(size, size)
        case Resource():
            return _HANDLE
        case TupleOf(items):
            return offsets(items)[1]
        case TypeDef(kind=Record(fields)):
            return offsets(field.type for field in fields)[1]
        case TypeDef(kind=Flags(names)):
            size = flags_size(len(names))
            return SizeAlign(size, min(size, 4))
    view = cases(type_)
    size = align = view.tag_size
    for payload in _payloads(view):
        layout = size_align(payload)
        size = max(size, align_up(view.tag_size, layout.align) + layout.size)
        align = max(align, layout.align)
    return SizeAlign(size, align)


def offsets(types: Iterable[Type]) -> tuple[tuple[int, ...], SizeAlign]:
    """Where each field of a record of `types` lies, and what the record takes."""
    found = []
    end, align = 0, 1
    for type_ in types:
        layout = size_align(type_)
        start = align_up(end, layout.align)
        found.append(start)
        end = start + layout.size
        align = max(align, layout.align)
    return tuple(found), SizeAlign(align_up(end, align), align)


@cache
def extent(type_: Type) -> int:
    """How many bytes from its start a value reaches in memory: its size, or more.

    A variant's size counts every payload from where it would lie if its case were the only one, but all of them
    lie where the strictest alignment among them says: `variant { a(tuple<u8, u8, u8>), b(u16) }` has size 4, and
    the third byte of `a` is the variant's fifth. In a list, such a value reaches into the next one. A check that
    a value lies within memory has to take its extent.
    """
    type_ = unaliased(type_)
    match type_:
        case TupleOf(items):
            return _record_extent(items)
        case TypeDef(kind=Record(fields)):
            return _record_extent(field.type for field in fields)
        case OptionOf() | ExpectedOf() | TypeDef(kind=Variant() | Union()):
            view = cases(type_)
            reach = (view.payload_offset + extent(payload) for payload in _payloads(view))
            return max(size_align(type_).size, *reach, 0)
    return size_align(type_).size


def _record_extent(types: Iterable[Type]) -> int:
    types = tuple(types)
    starts, layout = offsets(types)
    return max(layout.size, *(start + extent(type_) for start, type_ in zip(starts, types, strict=True)), 0)


def flags_size(count: int) -> int:
    """What `count` flags take: 1 byte, 2 bytes, or as many u32 as hold them."""
    if count <= 8:
        return 1
    return 2 if count <= 16 else align_up(count, 32) // 8


def tag_size(count: int) -> int:
    """What the tag of a variant of `count` cases takes."""
    if count <= 0xFF:
        return 1
    return 2 if count <= 0xFFFF else 4


@cache
def cases(type_: Type) -> CaseView:
    """A variant, union, enum, option or expected as the variant it is; any other type raises TypeError."""
    found: list[tuple[str, Type | None]]
    match unaliased(type_):
        case OptionOf(value):
            found = [("none", None), ("some", value)]
        case ExpectedOf(ok, err):
            found = [("ok", ok), ("err", err)]
        case TypeDef(kind=Variant(those) | Union(those)):
            found = [(case.name, case.type) for case in those]
        case TypeDef(kind=Enum(labels)):
            found = [(label.name, None) for label in labels]
        case _:
            raise TypeError(f"{type_} has no cases")
    view = tuple((name, None if payload is None or is_unit(payload) else payload) for name, payload in found)
    tag = tag_size(len(view))
    align = max((size_align(payload).align for _, payload in view if payload is not None), default=1)
    return CaseView(tag, align_up(tag, align), view)


def _payloads(view: CaseView) -> list[Type]:
    return [payload for _, payload in view.cases if payload is not None]


# Flattening.


@cache
def flatten(type_: Type) -> str:
    """The WebAssembly values that a value travels as."""
    type_ = unaliased(type_)
    match type_:
        case Primitive.UNIT:
            return ""
        case Primitive.STRING | ListOf():
            return "ii"
        case Primitive():
            return _SCALARS[type_][1]
        case Resource():
            return "i"
        case TupleOf(items):
            return "".join(map(flatten, items))
        case TypeDef(kind=Record(fields)):
            return "".join(flatten(field.type) for field in fields)
        case TypeDef(kind=Flags(names)):
            return "i" * max(1, flags_size(len(names)) // 4)
    return "i" + join(map(flatten, _payloads(cases(type_))))


def join(flats: Iterable[str]) -> str:
    """The slots in which the cases of a variant travel, each of the flat types of one case.

    A case with fewer values leaves the last slots zero; a float in an integer's slot travels as its bits.
    """
    return "".join(map(_join_slot, zip_longest(*flats)))


def _join_slot(letters: Iterable[str | None]) -> str:
    distinct = set(letters) - {None}
    if len(distinct) == 1:
        return str(distinct.pop())
    return "i" if distinct == {"i", "f"} else "I"


def param_types(function: Function) -> tuple[Type, ...]:
    """What a call passes, in order: a method's handle comes first."""
    types = tuple(param.type for param in function.params)
    if function.kind is FunctionKind.METHOD:
        assert function.resource is not None
        return (function.resource, *types)
    return types


def signature(function: Function, side: Side) -> Signature:
    """The type of a function that the guest imports or exports."""
    params = "".join(map(flatten, param_types(function)))
    result = flatten(function.result)
    indirect_params = len(params) > MAX_FLAT_PARAMS
    result_pointer = len(result) > MAX_FLAT_RESULTS
    if indirect_params:
        params = "i"
    if result_pointer:
        params, result = (params + "i", "") if side == "import" else (params, "i")
    return Signature(params, result, indirect_params, result_pointer)


# What a backend wants to know of a type.


def is_unit(type_: Type) -> bool:
    """Whether it is `unit`, be it under another name."""
    return unaliased(type_) is Primitive.UNIT


@cache
def has_heap(type_: Type) -> bool:
    """Whether a value may own memory besides its own: a string or a list anywhere in it."""
    type_ = unaliased(type_)
    return type_ is Primitive.STRING or isinstance(type_, ListOf) or any(map(has_heap, components(type_)))


@cache
def contains_handle(type_: Type) -> bool:
    """Whether there is a handle anywhere in a value, inside its lists too."""
    type_ = unaliased(type_)
    return isinstance(type_, Resource) or any(map(contains_handle, components(type_)))


def components(type_: Type) -> tuple[Type, ...]:
    """The types that a type is made of: elements, fields, payloads. An alias is seen through."""
    type_ = unaliased(type_)
    match type_:
        case ListOf(element):
            return (element,)
        case TupleOf(items):
            return items
        case TypeDef(kind=Record(fields)):
            return tuple(field.type for field in fields)
        case OptionOf() | ExpectedOf() | TypeDef(kind=Variant() | Union() | Enum()):
            return tuple(_payloads(cases(type_)))
    return ()
