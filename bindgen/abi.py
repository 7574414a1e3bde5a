"""The binary interfaces: what a resolved type or function is to a core module.

There are two, and whoever asks says which one is meant. `Abi2022` is that of wit-bindgen 0.2: docs/abi.md, "Layout in
memory" and "Flattening". `CanonicalAbi` is that of the component model: its specification, `CanonicalABI.md`. `Abi`
holds what they have in common. Sizes, alignments and offsets are in bytes. A flat type is a letter: `i` i32, `I` i64,
`f` f32, `d` f64.

Types come from `bindgen.wit_parser`, which bounds how deep and how large one may be: the functions here recurse
freely, and remember what they found. Backends do not ask here but read `bindgen.plan`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from typing import Literal, TypeAlias

from bindgen.wit_parser.model import (
    Borrow,
    ExpectedOf,
    FixedListOf,
    Flags,
    Function,
    FunctionKind,
    FutureOf,
    ListOf,
    OptionOf,
    Own,
    Primitive,
    Record,
    Resource,
    StreamOf,
    TupleOf,
    Type,
    TypeDef,
    Union,
    Variant,
    cases,
    components,
    unaliased,
)

Direction: TypeAlias = Literal["import", "export"]
"""Whether the guest imports the function or exports it."""


@dataclass(frozen=True, slots=True)
class SizeAlign:
    """What a value takes in memory. `size` is also the stride of a list of such values."""

    size: int
    align: int


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
    Primitive.ERROR_CONTEXT: (4, "i"),
}
"""Size, which is the alignment too, and flat type."""

_HANDLE = SizeAlign(4, 4)
_POINTER_AND_LENGTH = SizeAlign(8, 4)


def align_up(offset: int, align: int) -> int:
    """The first multiple of `align` from `offset` on."""
    return -(-offset // align) * align


@dataclass(frozen=True, slots=True)
class Abi(ABC):
    """What both interfaces say of types and functions."""

    max_flat_params: int = 16
    """With more flat parameters, a function takes one pointer to all of them."""
    max_flat_results: int = 1
    """With more flat results, a function hands them over in memory."""

    # Layout in memory.

    @cache
    def size_align(self, type_: Type) -> SizeAlign:
        """Size and alignment of a value in memory."""
        type_ = unaliased(type_)
        match type_:
            case Primitive.UNIT:
                return SizeAlign(0, 1)
            case Primitive.STRING | ListOf():
                return _POINTER_AND_LENGTH
            case Primitive():
                size = _SCALARS[type_][0]
                return SizeAlign(size, size)
            case Resource() | Own() | Borrow() | StreamOf() | FutureOf():
                return _HANDLE
            case FixedListOf(element, length):
                one = self.size_align(element)
                return SizeAlign(one.size * length, one.align)
            case TupleOf() | TypeDef(kind=Record()):
                return self.offsets(components(type_))[1]
            case TypeDef(kind=Flags(names)):
                size = self.flags_size(len(names))
                return SizeAlign(size, min(size, 4))
        return self._variant(type_)

    @abstractmethod
    def _variant(self, type_: Type) -> SizeAlign:
        """What a variant, union, enum, option or expected takes."""

    def offsets(self, types: Iterable[Type]) -> tuple[tuple[int, ...], SizeAlign]:
        """Where each field of a record of `types` lies, and what the record takes."""
        starts = []
        end, align = 0, 1
        for layout in map(self.size_align, types):
            starts.append(align_up(end, layout.align))
            end = starts[-1] + layout.size
            align = max(align, layout.align)
        return tuple(starts), SizeAlign(align_up(end, align), align)

    @abstractmethod
    def extent(self, type_: Type) -> int:
        """How many bytes from its start a value reaches in memory: its size, or more."""

    def flags_size(self, count: int) -> int:
        """What `count` flags take: 1 byte, 2 bytes, or as many u32 as hold them."""
        if count <= 8:
            return 1
        return 2 if count <= 16 else align_up(count, 32) // 8

    @abstractmethod
    def tag_size(self, count: int) -> int:
        """What the tag of a variant of `count` cases takes."""

    @cache
    def payload_offset(self, type_: Type) -> int:
        """Where the payloads of a variant, union, option or expected lie."""
        align = max([self.size_align(payload).align for payload in components(type_)], default=1)
        return align_up(self.tag_size(len(cases(type_))), align)

    # Flattening.

    @cache
    def flatten(self, type_: Type) -> str:
        """The WebAssembly values that a value travels as."""
        type_ = unaliased(type_)
        match type_:
            case Primitive.UNIT:
                return ""
            case Primitive.STRING | ListOf():
                return "ii"
            case Primitive():
                return _SCALARS[type_][1]
            case Resource() | Own() | Borrow() | StreamOf() | FutureOf():
                return "i"
            case FixedListOf(element, length):
                return self.flatten(element) * length
            case TupleOf() | TypeDef(kind=Record()):
                return "".join(map(self.flatten, components(type_)))
            case TypeDef(kind=Flags(names)):
                return "i" * max(1, self.flags_size(len(names)) // 4)
        return "i" + self.join(map(self.flatten, components(type_)))

    def join(self, flats: Iterable[str]) -> str:
        """The slots in which the cases of a variant travel, each of the flat types of one case.

        A case with fewer values leaves the last slots zero; a float in an integer's slot travels as its bits.
        """
        return "".join(map(_join_slot, zip_longest(*flats)))

    # Functions.

    @abstractmethod
    def name(self, function: Function) -> str:
        """What a function is imported and exported as."""

    @abstractmethod
    def self_type(self, resource: Resource) -> Type:
        """What a method of a resource takes first."""

    def param_types(self, function: Function) -> tuple[Type, ...]:
        """What a call passes, in order: a method's handle comes first."""
        types = tuple(param.type for param in function.params)
        if function.kind is FunctionKind.METHOD:
            assert function.resource is not None
            return (self.self_type(function.resource), *types)
        return types

    def signature(self, function: Function, direction: Direction) -> Signature:
        """The type of a function that the guest imports or exports."""
        params = "".join(map(self.flatten, self.param_types(function)))
        result = self.flatten(function.result)
        indirect_params = len(params) > self.max_flat_params
        result_pointer = len(result) > self.max_flat_results
        if indirect_params:
            params = "i"
        if result_pointer:
            params, result = (params + "i", "") if direction == "import" else (params, "i")
        return Signature(params, result, indirect_params, result_pointer)


@dataclass(frozen=True, slots=True)
class Abi2022(Abi):
    """What `slight` and its guests agreed on."""

    @cache
    def _variant(self, type_: Type) -> SizeAlign:
        """The size need not be a multiple of the alignment, nor hold the whole value: see `extent`."""
        tag = self.tag_size(len(cases(type_)))
        size = align = tag
        for payload in map(self.size_align, components(type_)):
            size = max(size, align_up(tag, payload.align) + payload.size)
            align = max(align, payload.align)
        return SizeAlign(size, align)

    @cache
    def extent(self, type_: Type) -> int:
        """How many bytes from its start a value reaches in memory: its size, or more.

        A variant's size counts every payload from where it would lie if its case were the only one, but all of them
        lie where the strictest alignment among them says: `variant { a(tuple<u8, u8, u8>), b(u16) }` has size 4, and
        the third byte of `a` is the variant's fifth. In a list, such a value reaches into the next one. A check that
        a value lies within memory has to take its extent.
        """
        type_ = unaliased(type_)
        size = self.size_align(type_).size
        parts = components(type_)
        match type_:
            case TupleOf() | TypeDef(kind=Record()):
                starts, _ = self.offsets(parts)
            case OptionOf() | ExpectedOf() | TypeDef(kind=Variant() | Union()):
                starts = (self.payload_offset(type_),) * len(parts)
            case _:
                return size
        return max([size, *(start + self.extent(part) for start, part in zip(starts, parts, strict=True))])

    def tag_size(self, count: int) -> int:
        if count <= 0xFF:
            return 1
        return 2 if count <= 0xFFFF else 4

    def name(self, function: Function) -> str:
        """`handle-http`, `keyvalue::open`."""
        return f"{function.resource.name}::{function.name}" if function.resource else function.name

    def self_type(self, resource: Resource) -> Type:
        return resource


@dataclass(frozen=True, slots=True)
class CanonicalAbi(Abi):
    """What the component model says: `CanonicalABI.md`, "Alignment", "Element Size", "Flattening"."""

    max_flat_async_params: int = 4
    """With more flat parameters, an import that the guest lowers with `async` takes one pointer to all of them."""

    @cache
    def _variant(self, type_: Type) -> SizeAlign:
        tag = self.tag_size(len(cases(type_)))
        payloads = [self.size_align(payload) for payload in components(type_)]
        align = max([tag, *(payload.align for payload in payloads)])
        end = self.payload_offset(type_) + max([payload.size for payload in payloads], default=0)
        return SizeAlign(align_up(end, align), align)

    def extent(self, type_: Type) -> int:
        """The size: no value reaches further."""
        return self.size_align(type_).size

    def tag_size(self, count: int) -> int:
        if count <= 1 << 8:
            return 1
        return 2 if count <= 1 << 16 else 4

    def name(self, function: Function) -> str:
        """`get-random-bytes`, `[constructor]fields`, `[method]fields.get`, `[static]fields.from-list`."""
        if function.resource is None:
            return function.name
        if function.kind is FunctionKind.CONSTRUCTOR:
            return f"[constructor]{function.resource.name}"
        return f"[{function.kind.value}]{function.resource.name}.{function.name}"

    def self_type(self, resource: Resource) -> Type:
        return Borrow(resource)

    def async_signature(self, function: Function) -> Signature:
        """The type of an import that the guest lowers with `async`: the result is a number that says how far the call
        is, and what the function returns is in memory, where the last parameter points."""
        params = "".join(map(self.flatten, self.param_types(function)))
        indirect_params = len(params) > self.max_flat_async_params
        result_pointer = bool(self.flatten(function.result))
        if indirect_params:
            params = "i"
        return Signature(params + ("i" if result_pointer else ""), "i", indirect_params, result_pointer)

    def return_signature(self, function: Function) -> Signature:
        """The type of `task.return`, by which an export that is lifted with `async` hands its result over."""
        params = self.flatten(function.result)
        indirect_params = len(params) > self.max_flat_params
        return Signature("i" if indirect_params else params, "", indirect_params, False)


def _join_slot(letters: Iterable[str | None]) -> str:
    distinct = set(letters) - {None}
    if len(distinct) == 1:
        return str(distinct.pop())
    return "i" if distinct == {"i", "f"} else "I"
