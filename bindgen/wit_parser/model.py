"""Interfaces as they are once every name is resolved: what a backend reads.

Definitions (`TypeDef`, `Resource`, `Function`, `Interface`) are equal only to themselves; types without a name,
like `ListOf`, are equal when they say the same.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TypeAlias


class Primitive(enum.Enum):
    """A type that needs no definition; its value is how WIT spells it."""

    BOOL = "bool"
    U8 = "u8"
    U16 = "u16"
    U32 = "u32"
    U64 = "u64"
    S8 = "s8"
    S16 = "s16"
    S32 = "s32"
    S64 = "s64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    CHAR = "char"
    STRING = "string"
    UNIT = "unit"
    ERROR_CONTEXT = "error-context"


@dataclass(frozen=True, slots=True)
class ListOf:
    element: Type


@dataclass(frozen=True, slots=True)
class FixedListOf:
    """`list<element, length>`: always so many, where a tuple of them would be."""

    element: Type
    length: int


@dataclass(frozen=True, slots=True)
class OptionOf:
    value: Type


@dataclass(frozen=True, slots=True)
class ExpectedOf:
    """`expected<ok, err>`; `_` is UNIT."""

    ok: Type
    err: Type


@dataclass(frozen=True, slots=True)
class TupleOf:
    items: tuple[Type, ...]


@dataclass(frozen=True, slots=True)
class Own:
    """`own<resource>`: a handle that hands the resource over. In WIT of 2022 a `Resource` itself stands for one."""

    resource: Resource


@dataclass(frozen=True, slots=True)
class Borrow:
    """`borrow<resource>`: a handle that lends the resource for the call."""

    resource: Resource


@dataclass(frozen=True, slots=True)
class StreamOf:
    """`stream<element>`; without an element only how many there are is passed on."""

    element: Type | None


@dataclass(frozen=True, slots=True)
class FutureOf:
    """`future<value>`."""

    value: Type | None


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    docs: str
    type: Type


@dataclass(frozen=True, slots=True)
class Label:
    """A flag, or a case of an enum."""

    name: str
    docs: str


@dataclass(frozen=True, slots=True)
class Case:
    """A case of a variant or a union. Neither None nor UNIT is a payload."""

    name: str
    docs: str
    type: Type | None


@dataclass(frozen=True, slots=True)
class Record:
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Flags:
    names: tuple[Label, ...]


@dataclass(frozen=True, slots=True)
class Variant:
    cases: tuple[Case, ...]


@dataclass(frozen=True, slots=True)
class Union:
    """Its cases are named "0", "1" and so on."""

    cases: tuple[Case, ...]


@dataclass(frozen=True, slots=True)
class Enum:
    cases: tuple[Label, ...]


@dataclass(frozen=True, slots=True)
class Alias:
    type: Type


Kind: TypeAlias = Record | Flags | Variant | Union | Enum | Alias


@dataclass(eq=False, slots=True)
class TypeDef:
    """A type that has a name."""

    name: str
    docs: str
    interface: Interface = field(repr=False)
    kind: Kind


@dataclass(eq=False, slots=True)
class Resource:
    """What a guest holds by handle; where a type is asked for, it stands for such a handle."""

    name: str
    docs: str
    interface: Interface = field(repr=False)
    functions: tuple[Function, ...] = field(repr=False)


Type: TypeAlias = (
    Primitive
    | ListOf
    | FixedListOf
    | OptionOf
    | ExpectedOf
    | TupleOf
    | TypeDef
    | Resource
    | Own
    | Borrow
    | StreamOf
    | FutureOf
)


class FunctionKind(enum.Enum):
    FREE = "free"
    STATIC = "static"
    METHOD = "method"
    CONSTRUCTOR = "constructor"


@dataclass(frozen=True, slots=True)
class Param:
    name: str
    type: Type


@dataclass(eq=False, slots=True)
class Function:
    name: str
    docs: str
    kind: FunctionKind
    resource: Resource | None
    """What it belongs to, unless it is free."""
    params: tuple[Param, ...]
    """Without the handle that a method takes first."""
    result: Type
    is_async: bool = False
    """Whether it is declared `async`: it may wait, and whoever calls it need not."""


@dataclass(frozen=True, slots=True)
class Use:
    """A definition of another interface, under the name it has in this one."""

    name: str
    target: TypeDef | Resource


@dataclass(frozen=True, slots=True)
class Package:
    """Where an interface of today's WIT comes from, `wasi:http@0.2.12`."""

    namespace: str
    name: str
    version: str | None = None

    def __str__(self) -> str:
        """As WIT spells it."""
        return f"{self.namespace}:{self.name}{f'@{self.version}' if self.version else ''}"


@dataclass(eq=False, slots=True)
class Interface:
    name: str
    """In WIT of 2022 the file's name without `.wit` or `.wit.md`: the module that a guest imports from."""
    path: Path
    docs: str
    types: tuple[TypeDef, ...]
    """Those defined here, in the order of the text."""
    resources: tuple[Resource, ...]
    """Those defined here, in the order of the text."""
    functions: tuple[Function, ...]
    """The free ones, in the order of the text."""
    uses: tuple[Use, ...]
    package: Package | None = None
    """None in WIT of 2022, which has no packages."""

    @property
    def id(self) -> str:
        """What a guest imports or exports it as: `wasi:http/types@0.2.12`, or in WIT of 2022 its name."""
        if self.package is None:
            return self.name
        version = f"@{self.package.version}" if self.package.version else ""
        return f"{self.package.namespace}:{self.package.name}/{self.name}{version}"


@dataclass(eq=False, slots=True)
class World:
    """What a component imports and exports."""

    name: str
    docs: str
    package: Package
    imports: tuple[Interface | Function, ...]
    """Interfaces, those that only others of them use included, and functions of the world's own."""
    exports: tuple[Interface | Function, ...]
    types: tuple[TypeDef, ...] = ()
    """Those that the world itself defines; as those of an interface `$root`, which has no package."""
    resources: tuple[Resource, ...] = ()
    """The same for resources, whose functions are imports of the world."""


def functions_of(interface: Interface) -> tuple[Function, ...]:
    """The free functions, then those of each resource."""
    return (*interface.functions, *(each for resource in interface.resources for each in resource.functions))


def types_of(function: Function) -> tuple[Type, ...]:
    """The types of a function's parameters, and that of its result."""
    return (*(param.type for param in function.params), function.result)


def mentioned(interface: Interface) -> list[Type]:
    """The types that an interface defines, then those that its functions name."""
    return [*interface.types, *(type_ for function in functions_of(interface) for type_ in types_of(function))]


def unaliased(type_: Type) -> Type:
    """What `type_` stands for once every alias at its outside is seen through."""
    while isinstance(type_, TypeDef) and isinstance(type_.kind, Alias):
        type_ = type_.kind.type
    return type_


def rebuilt(type_: Type, change: Callable[[Type], Type]) -> Type:
    """A list, option, expected, tuple, stream or future of what `change` makes of the types in it; another type is
    itself."""
    match type_:
        case ListOf(element):
            return ListOf(change(element))
        case OptionOf(value):
            return OptionOf(change(value))
        case ExpectedOf(ok, err):
            return ExpectedOf(change(ok), change(err))
        case TupleOf(items):
            return TupleOf(tuple(map(change, items)))
        case StreamOf(element) if element is not None:
            return StreamOf(change(element))
        case FutureOf(value) if value is not None:
            return FutureOf(change(value))
        case FixedListOf(element, length):
            return FixedListOf(change(element), length)
    return type_


def without_aliases(type_: Type) -> Type:
    """What `type_` stands for once every alias is seen through, also those within lists, options and the like."""
    return rebuilt(unaliased(type_), without_aliases)


def spelling(type_: Type) -> tuple[str, tuple[Type, ...]]:
    """How WIT writes a type: its name, and the types that stand in brackets behind that."""
    match type_:
        case ListOf(element):
            return "list", (element,)
        case OptionOf(value):
            return "option", (value,)
        case ExpectedOf(ok, err):
            return "expected", (ok, err)
        case TupleOf(items):
            return "tuple", items
        case Own(resource):
            return "own", (resource,)
        case Borrow(resource):
            return "borrow", (resource,)
        case StreamOf(inner):
            return "stream", () if inner is None else (inner,)
        case FutureOf(inner):
            return "future", () if inner is None else (inner,)
        case FixedListOf(element):
            return "list", (element,)
        case Primitive():
            return type_.value, ()
        case TypeDef() | Resource():
            return type_.name, ()


def named_in(type_: Type) -> Iterator[TypeDef | Resource]:
    """The definitions that stand in a type as WIT writes it."""
    if isinstance(type_, TypeDef | Resource):
        yield type_
    for inner in spelling(type_)[1]:
        yield from named_in(inner)


# What a type is made of.


def is_unit(type_: Type) -> bool:
    """Whether it is `unit`, be it under another name."""
    return unaliased(type_) is Primitive.UNIT


@cache
def cases(type_: Type) -> tuple[tuple[str, Type | None], ...]:
    """Name and payload of each case of a variant, union, enum, option or expected; raises TypeError for other types.

    The payload is None where there is none, be it left out or `unit`.
    """
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
    return tuple((name, None if payload is None or is_unit(payload) else payload) for name, payload in found)


def labels(definition: TypeDef) -> tuple[Label | Case, ...]:
    """What has a number in a type: its flags, or its cases."""
    match definition.kind:
        case Flags(those) | Enum(those) | Variant(those) | Union(those):
            return those
    return ()


@cache
def components(type_: Type) -> tuple[Type, ...]:
    """The types that a type is made of: elements, fields, payloads. An alias is seen through."""
    type_ = unaliased(type_)
    match type_:
        case ListOf(element) | FixedListOf(element):
            return (element,)
        case TupleOf(items):
            return items
        case TypeDef(kind=Record(fields)):
            return tuple(field.type for field in fields)
        case OptionOf() | ExpectedOf() | TypeDef(kind=Variant() | Union() | Enum()):
            return tuple(payload for _, payload in cases(type_) if payload is not None)
    return ()


def written_with(type_: Type) -> tuple[Type, ...]:
    """The types that a definition is written with: as `components`, but those of an alias are what it stands for."""
    if isinstance(type_, TypeDef) and isinstance(type_.kind, Alias):
        return (type_.kind.type,)
    return components(type_)


@cache
def has_heap(type_: Type) -> bool:
    """Whether a value may own memory besides its own: a string or a list anywhere in it."""
    type_ = unaliased(type_)
    return type_ is Primitive.STRING or isinstance(type_, ListOf) or any(map(has_heap, components(type_)))


@cache
def contains_handle(type_: Type) -> bool:
    """Whether there is a handle anywhere in a value, inside its lists too."""
    type_ = unaliased(type_)
    is_handle = isinstance(type_, Resource | Own | Borrow | StreamOf | FutureOf)
    return is_handle or any(map(contains_handle, components(type_)))
