"""The types of the component model, as they are known at run time.

Value types are frozen, hashable and compared by structure; a resource type is equal only to itself, since two
components may define resources that look alike. Each value type carries what the canonical ABI asks of it (size,
alignment, flat core types), worked out once when the type is made.

Source: "Canonical ABI Explainer" of the component model (WebAssembly/component-model, design/mvp/CanonicalABI.md),
sections "Despecialization", "Alignment", "Element Size" and "Flattening". 32-bit memories only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, TypeAlias

MAX_FLAT_PARAMS = 16
"""How many core values a function takes, or an asynchronously lifted one; beyond, they go through memory."""
MAX_FLAT_ASYNC_PARAMS = 4
"""The same for a function that is lowered asynchronously."""
MAX_FLAT_RESULTS = 1

Flat: TypeAlias = tuple[str, ...]
"""Core types: `i32`, `i64`, `f32` or `f64`."""


@dataclass(eq=False, slots=True)
class ResourceType:
    """A resource type, equal only to itself."""

    name: str
    """As the interface that it comes from calls it: `input-stream`; empty for one that has no name (yet)."""
    interface: str = ""
    """The name of the interface without its version, `wasi:io/streams`; empty outside of interfaces."""
    instance: int | None = None
    """The component instance that implements it; None for one that the host implements."""

    @property
    def key(self) -> str:
        """What `own<KEY>` and `borrow<KEY>` name in a structural text: `wasi:io/streams/input-stream`."""
        return f"{self.interface}/{self.name}" if self.interface else self.name

    def __repr__(self) -> str:
        return f"<resource {self.key}>"


@dataclass(frozen=True, slots=True)
class ValueType:
    """What a parameter, a result, a field or an element can be. Subclasses are made, never this class itself."""

    size: int = field(init=False, repr=False, compare=False)
    """Bytes in a linear memory."""
    alignment: int = field(init=False, repr=False, compare=False)
    """1, 2, 4 or 8."""
    flat: Flat | None = field(init=False, repr=False, compare=False)
    """The core types that a value is passed as; None for more than MAX_FLAT_PARAMS."""
    nodes: int = field(init=False, repr=False, compare=False)
    """How many types it is made of, itself included; one that occurs twice counts twice."""
    depth: int = field(init=False, repr=False, compare=False)
    """How deeply types are nested in it: 1 for one that holds no other."""
    has_pointer: bool = field(init=False, repr=False, compare=False)
    """Whether a string, a list or a map is in it, whose content lies elsewhere in memory. What a stream or a future
    carries doesn't count."""
    has_borrow: bool = field(init=False, repr=False, compare=False)
    has_resource: bool = field(init=False, repr=False, compare=False)
    """Whether an own or a borrow is in it."""

    def __post_init__(self) -> None:
        parts = tuple(self.parts())
        size, alignment = self._layout()
        values = {
            "size": size,
            "alignment": alignment,
            "flat": self._flatten(),
            "nodes": 1 + sum(part.nodes for part in parts),
            "depth": 1 + max((part.depth for part in parts), default=0),
            "has_pointer": self._has_pointer(),
            "has_borrow": any(part.has_borrow for part in parts),
            "has_resource": any(part.has_resource for part in parts),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def parts(self) -> Iterable[ValueType]:
        """The types directly in this one."""
        return ()

    def _layout(self) -> tuple[int, int]:
        """Size and alignment. Four bytes, as handles have, unless a subclass says otherwise."""
        return 4, 4

    def _flatten(self) -> Flat | None:
        return ("i32",)

    def _has_pointer(self) -> bool:
        return any(part.has_pointer for part in self.parts())


@dataclass(frozen=True, slots=True)
class Primitive(ValueType):
    """A type without parts; the constants below are all there are."""

    name: str

    _LAYOUTS: ClassVar[Mapping[str, tuple[int, str]]] = MappingProxyType(
        {
            "bool": (1, "i32"),
            "s8": (1, "i32"),
            "u8": (1, "i32"),
            "s16": (2, "i32"),
            "u16": (2, "i32"),
            "s32": (4, "i32"),
            "u32": (4, "i32"),
            "s64": (8, "i64"),
            "u64": (8, "i64"),
            "f32": (4, "f32"),
            "f64": (8, "f64"),
            "char": (4, "i32"),
            "error-context": (4, "i32"),
        }
    )
    """Size, which is the alignment too, and core type."""

    def _layout(self) -> tuple[int, int]:
        if self.name == "string":
            return 8, 4
        size = self._LAYOUTS[self.name][0]
        return size, size

    def _flatten(self) -> Flat:
        return ("i32", "i32") if self.name == "string" else (self._LAYOUTS[self.name][1],)

    def _has_pointer(self) -> bool:
        return self.name == "string"


BOOL = Primitive("bool")
S8, U8 = Primitive("s8"), Primitive("u8")
S16, U16 = Primitive("s16"), Primitive("u16")
S32, U32 = Primitive("s32"), Primitive("u32")
S64, U64 = Primitive("s64"), Primitive("u64")
F32, F64 = Primitive("f32"), Primitive("f64")
CHAR, STRING = Primitive("char"), Primitive("string")
ERROR_CONTEXT = Primitive("error-context")


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a record, or a parameter of a function."""

    name: str
    type: ValueType


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    type: ValueType | None
    """None for a case without a payload."""


@dataclass(frozen=True, slots=True)
class _Elsewhere(ValueType):
    """A pointer and a length: what it holds lies elsewhere in memory."""

    def _layout(self) -> tuple[int, int]:
        return 8, 4

    def _flatten(self) -> Flat:
        return ("i32", "i32")

    def _has_pointer(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class ListOf(_Elsewhere):
    element: ValueType

    def parts(self) -> Iterable[ValueType]:
        return (self.element,)


@dataclass(frozen=True, slots=True)
class MapOf(_Elsewhere):
    """`map<K, V>`, passed as `list<tuple<K, V>>`."""

    key: ValueType
    value: ValueType

    def parts(self) -> Iterable[ValueType]:
        return (self.key, self.value)


@dataclass(frozen=True, slots=True)
class FixedListOf(ValueType):
    """`list<T, N>`: N elements, stored in place as a tuple's are."""

    element: ValueType
    length: int

    def parts(self) -> Iterable[ValueType]:
        return (self.element,)

    def _layout(self) -> tuple[int, int]:
        return self.element.size * self.length, self.element.alignment

    def _flatten(self) -> Flat | None:
        if self.element.flat is None or len(self.element.flat) * self.length > MAX_FLAT_PARAMS:
            return None
        return self.element.flat * self.length


@dataclass(frozen=True, slots=True)
class TupleOf(ValueType):
    items: tuple[ValueType, ...]

    def parts(self) -> Iterable[ValueType]:
        return self.items

    def _layout(self) -> tuple[int, int]:
        return record_layout(self.items)

    def _flatten(self) -> Flat | None:
        return flatten(self.items)


@dataclass(frozen=True, slots=True)
class Record(ValueType):
    fields: tuple[Field, ...]

    def parts(self) -> Iterable[ValueType]:
        return (each.type for each in self.fields)

    def _layout(self) -> tuple[int, int]:
        return record_layout(self.parts())

    def _flatten(self) -> Flat | None:
        return flatten(self.parts())


@dataclass(frozen=True, slots=True)
class Flags(ValueType):
    names: tuple[str, ...]
    """1 to 32 of them, the lowest bit first."""

    def _layout(self) -> tuple[int, int]:
        size = 1 if len(self.names) <= 8 else 2 if len(self.names) <= 16 else 4
        return size, size


@dataclass(frozen=True, slots=True)
class Enum(ValueType):
    names: tuple[str, ...]

    def _layout(self) -> tuple[int, int]:
        return variant_layout([Case(name, None) for name in self.names])


@dataclass(frozen=True, slots=True)
class _Variants(ValueType):
    """What is a variant once despecialised."""

    def _cases(self) -> tuple[Case, ...]:
        raise NotImplementedError

    def parts(self) -> Iterable[ValueType]:
        return (case.type for case in self._cases() if case.type is not None)

    def _layout(self) -> tuple[int, int]:
        return variant_layout(self._cases())

    def _flatten(self) -> Flat | None:
        return flatten_variant(self._cases())


@dataclass(frozen=True, slots=True)
class Variant(_Variants):
    cases: tuple[Case, ...]

    def _cases(self) -> tuple[Case, ...]:
        return self.cases


@dataclass(frozen=True, slots=True)
class OptionOf(_Variants):
    value: ValueType

    @property
    def cases(self) -> tuple[Case, ...]:
        return (Case("none", None), Case("some", self.value))

    def _cases(self) -> tuple[Case, ...]:
        return self.cases


@dataclass(frozen=True, slots=True)
class ResultOf(_Variants):
    ok: ValueType | None
    err: ValueType | None

    @property
    def cases(self) -> tuple[Case, ...]:
        return (Case("ok", self.ok), Case("error", self.err))

    def _cases(self) -> tuple[Case, ...]:
        return self.cases


@dataclass(frozen=True, slots=True)
class Own(ValueType):
    resource: ResourceType

    def __post_init__(self) -> None:
        ValueType.__post_init__(self)
        object.__setattr__(self, "has_resource", True)


@dataclass(frozen=True, slots=True)
class Borrow(ValueType):
    resource: ResourceType

    def __post_init__(self) -> None:
        ValueType.__post_init__(self)
        object.__setattr__(self, "has_resource", True)
        object.__setattr__(self, "has_borrow", True)


@dataclass(frozen=True, slots=True)
class StreamOf(ValueType):
    element: ValueType | None

    def parts(self) -> Iterable[ValueType]:
        return () if self.element is None else (self.element,)

    def _has_pointer(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class FutureOf(ValueType):
    element: ValueType | None

    def parts(self) -> Iterable[ValueType]:
        return () if self.element is None else (self.element,)

    def _has_pointer(self) -> bool:
        return False


def with_parts(type_: ValueType, change: Callable[[ValueType], ValueType]) -> ValueType:
    """The same type with each of the types directly in it changed; resources stay as they are."""
    match type_:
        case ListOf():
            return ListOf(change(type_.element))
        case FixedListOf():
            return FixedListOf(change(type_.element), type_.length)
        case MapOf():
            return MapOf(change(type_.key), change(type_.value))
        case TupleOf():
            return TupleOf(tuple(map(change, type_.items)))
        case Record():
            return Record(tuple(Field(each.name, change(each.type)) for each in type_.fields))
        case Variant():
            return Variant(tuple(Case(case.name, case.type and change(case.type)) for case in type_.cases))
        case OptionOf():
            return OptionOf(change(type_.value))
        case ResultOf():
            return ResultOf(type_.ok and change(type_.ok), type_.err and change(type_.err))
        case StreamOf():
            return StreamOf(type_.element and change(type_.element))
        case FutureOf():
            return FutureOf(type_.element and change(type_.element))
    return type_


def align(offset: int, alignment: int) -> int:
    """The next offset that is a multiple of the alignment."""
    return (offset + alignment - 1) // alignment * alignment


def record_layout(types: Iterable[ValueType]) -> tuple[int, int]:
    """The size and the alignment of values stored one after the other."""
    size, alignment = 0, 1
    for each in types:
        size = align(size, each.alignment) + each.size
        alignment = max(alignment, each.alignment)
    return align(size, alignment), alignment


def offsets(types: Iterable[ValueType]) -> list[int]:
    """Where values stored one after the other begin, in bytes from the first."""
    found = []
    size = 0
    for each in types:
        size = align(size, each.alignment)
        found.append(size)
        size += each.size
    return found


def discriminant_size(cases: int) -> int:
    """The bytes of the number that says which of so many cases a value is."""
    return 1 if cases <= 1 << 8 else 2 if cases <= 1 << 16 else 4


def payload_offset(cases: Iterable[Case]) -> int:
    """Where the payload of a variant begins, in bytes from the discriminant, which comes first."""
    cases = tuple(cases)
    largest = max((case.type.alignment for case in cases if case.type is not None), default=1)
    return align(discriminant_size(len(cases)), largest)


def variant_layout(cases: Iterable[Case]) -> tuple[int, int]:
    """The size and the alignment of a variant."""
    cases = tuple(cases)
    payloads = [case.type for case in cases if case.type is not None]
    alignment = max([discriminant_size(len(cases)), *(each.alignment for each in payloads)])
    size = payload_offset(cases) + max((each.size for each in payloads), default=0)
    return align(size, alignment), alignment


def flatten(types: Iterable[ValueType]) -> Flat | None:
    """The core types of values one after the other; None for more than MAX_FLAT_PARAMS."""
    found: list[str] = []
    for each in types:
        if each.flat is None or len(found) + len(each.flat) > MAX_FLAT_PARAMS:
            return None
        found += each.flat
    return tuple(found)


def flatten_variant(cases: Iterable[Case]) -> Flat | None:
    """The core types of a variant: the discriminant, then types that hold the payload of any case."""
    found: list[str] = []
    for case in cases:
        if case.type is None:
            continue
        if case.type.flat is None:
            return None
        for place, core in enumerate(case.type.flat):
            if place < len(found):
                found[place] = join(found[place], core)
            else:
                found.append(core)
    return None if len(found) >= MAX_FLAT_PARAMS else ("i32", *found)


def join(one: str, other: str) -> str:
    """The core type that holds values of either core type."""
    if one == other:
        return one
    return "i32" if {one, other} == {"i32", "f32"} else "i64"


# What components import and export.


@dataclass(frozen=True, slots=True)
class FuncType:
    params: tuple[Field, ...]
    result: ValueType | None
    is_async: bool = False
    """Whether the type says `async func`, which is apart from how a function is lifted or lowered."""


@dataclass(eq=False, slots=True)
class InstanceType:
    """The exports of an instance. Not compared for equality, but matched: an instance may export more."""

    exports: Mapping[str, ExternType]
    resources: tuple[ResourceType, ...] = ()
    """Those that stand for any resource: an instance of this type brings its own in place of each."""
    depth: int = field(init=False)
    """How deeply instance and component types are nested in it: 1 for one that holds no other."""

    def __post_init__(self) -> None:
        self.depth = _depth(self.exports.values())


@dataclass(eq=False, slots=True)
class ComponentType:
    imports: Mapping[str, ExternType]
    exports: Mapping[str, ExternType]
    imported_resources: tuple[ResourceType, ...] = ()
    """Those that stand for whatever resource an instantiation is given."""
    defined_resources: tuple[ResourceType, ...] = ()
    """Those that an instantiation makes anew."""
    depth: int = field(init=False)
    """As of an instance type."""

    def __post_init__(self) -> None:
        self.depth = max(_depth(self.imports.values()), _depth(self.exports.values()))


@dataclass(frozen=True, slots=True)
class CoreFuncType:
    params: tuple[str, ...]
    """`i32`, `i64`, `f32`, `f64`, `v128`, or a reference type, spelt as in the text format."""
    results: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    minimum: int
    maximum: int | None
    is_64: bool = False
    is_shared: bool = False


@dataclass(frozen=True, slots=True)
class TableType:
    element: str
    limits: Limits


@dataclass(frozen=True, slots=True)
class MemoryType:
    limits: Limits
    """In pages."""
    page_size: int = 65536
    """In bytes."""


@dataclass(frozen=True, slots=True)
class GlobalType:
    type: str
    is_mutable: bool


@dataclass(frozen=True, slots=True)
class TagType:
    type: CoreFuncType


CoreExternType: TypeAlias = CoreFuncType | TableType | MemoryType | GlobalType | TagType


@dataclass(eq=False, slots=True)
class ModuleType:
    """What a core module imports and exports. Matched, not compared for equality."""

    imports: Mapping[tuple[str, str], CoreExternType]
    exports: Mapping[str, CoreExternType]


AnyType: TypeAlias = ValueType | ResourceType | FuncType | InstanceType | ComponentType
"""What a type index of a component can stand for."""


@dataclass(frozen=True, slots=True)
class TypeExtern:
    """An import or export that is itself a type, such as a record or a resource."""

    type: AnyType


ExternType: TypeAlias = FuncType | InstanceType | ComponentType | ModuleType | TypeExtern
"""The type of an import or export."""


def _depth(types: Iterable[ExternType]) -> int:
    inner = (each.type if isinstance(each, TypeExtern) else each for each in types)
    return 1 + max((each.depth for each in inner if isinstance(each, InstanceType | ComponentType)), default=0)


def text(type_: ValueType | FuncType | None) -> str:
    """The structural text of a type: fully expanded, with no names of types but the keys of resources. Two types
    have the same text when they are the same once the versions of interfaces are left out. None is `_`.
    """
    match type_:
        case None:
            return "_"
        case FuncType():
            result = "" if type_.result is None else f" -> {text(type_.result)}"
            return f"{'async ' * type_.is_async}func({_fields(type_.params)}){result}"
        case Primitive():
            return type_.name
        case ListOf():
            return f"list<{text(type_.element)}>"
        case FixedListOf():
            return f"list<{text(type_.element)}, {type_.length}>"
        case MapOf():
            return f"map<{text(type_.key)}, {text(type_.value)}>"
        case OptionOf():
            return f"option<{text(type_.value)}>"
        case ResultOf():
            return f"result<{text(type_.ok)}, {text(type_.err)}>"
        case TupleOf():
            return f"tuple<{', '.join(map(text, type_.items))}>"
        case Record():
            return f"record{{{_fields(type_.fields)}}}"
        case Variant():
            return f"variant{{{', '.join(map(_case, type_.cases))}}}"
        case Enum():
            return f"enum{{{', '.join(type_.names)}}}"
        case Flags():
            return f"flags{{{', '.join(type_.names)}}}"
        case Own():
            return f"own<{type_.resource.key}>"
        case Borrow():
            return f"borrow<{type_.resource.key}>"
        case StreamOf():
            return "stream" if type_.element is None else f"stream<{text(type_.element)}>"
        case FutureOf():
            return "future" if type_.element is None else f"future<{text(type_.element)}>"
    raise TypeError(f"{type_!r} has no structural text")


def _fields(fields: Iterable[Field]) -> str:
    return ", ".join(f"{each.name}: {text(each.type)}" for each in fields)


def _case(case: Case) -> str:
    return case.name if case.type is None else f"{case.name}({text(case.type)})"


# Functions as core functions.


def params_in_memory(type_: FuncType, most: int = MAX_FLAT_PARAMS) -> bool:
    """Whether the parameters are passed as one pointer: they take more than `most` core values."""
    flat = flatten(param.type for param in type_.params)
    return flat is None or len(flat) > most


def result_in_memory(type_: FuncType) -> bool:
    """Whether a result is passed by a pointer when neither side is asynchronous."""
    if type_.result is None:
        return False
    return type_.result.flat is None or len(type_.result.flat) > MAX_FLAT_RESULTS


def lifted_core_type(type_: FuncType, is_async: bool = False, has_callback: bool = False) -> CoreFuncType:
    """The type that a core function must have to be lifted to a function of this type.

    With `is_async` its result is given by task.return, and what it returns is for its callback, if there is one.
    """
    params = ("i32",) if params_in_memory(type_) else _flat_params(type_)
    if is_async:
        return CoreFuncType(params, ("i32",) if has_callback else ())
    if type_.result is None:
        return CoreFuncType(params, ())
    return CoreFuncType(params, ("i32",) if result_in_memory(type_) else type_.result.flat or ())


def lowered_core_type(type_: FuncType, is_async: bool = False) -> CoreFuncType:
    """The type of the core function that a function of this type is lowered to."""
    most = MAX_FLAT_ASYNC_PARAMS if is_async else MAX_FLAT_PARAMS
    params = ("i32",) if params_in_memory(type_, most) else _flat_params(type_)
    if is_async:
        return CoreFuncType(params if type_.result is None else (*params, "i32"), ("i32",))
    if type_.result is None:
        return CoreFuncType(params, ())
    if result_in_memory(type_):
        return CoreFuncType((*params, "i32"), ())
    return CoreFuncType(params, type_.result.flat or ())


def _flat_params(type_: FuncType) -> Flat:
    return flatten(param.type for param in type_.params) or ()
