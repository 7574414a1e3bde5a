"""The syntax tree: what the files of a package say, before any name means anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from bindgen.wit_parser.ast import Id
from bindgen.wit_parser.model import FunctionKind, Primitive
from bindgen.wit_parser.source import Span

# Names and gates.


@dataclass(eq=False, slots=True)
class PackageName:
    """`NAMESPACE:NAME` or `NAMESPACE:NAME@VERSION`."""

    namespace: str
    name: str
    version: str | None
    span: Span


@dataclass(eq=False, slots=True)
class Path:
    """An interface or a world: `NAME`, which is of the same package, or `NAMESPACE:PACKAGE/NAME@VERSION`."""

    package: PackageName | None
    id: Id


@dataclass(eq=False, slots=True)
class Gate:
    """`@since(version = ...)` and `@unstable(feature = ...)`, of which an item has one at most."""

    since: Id | None = None
    """The version."""
    feature: Id | None = None
    external_id: Span | None = None
    """Where `@external-id` is, which says what a name stands for outside, and changes no type."""


# Types, where they are used.


@dataclass(eq=False, slots=True)
class Name:
    """A type with a name, or a resource, which stands for a handle that owns it."""

    id: Id


@dataclass(eq=False, slots=True)
class Handle:
    """`own<RESOURCE>` or `borrow<RESOURCE>`."""

    owns: bool
    id: Id


@dataclass(eq=False, slots=True)
class Apply:
    """`list<T>`, `option<T>`, `result<T, E>` (always with both arguments), `tuple<...>`, `stream<T>`, `future<T>`."""

    constructor: str
    arguments: tuple[TypeExpr | None, ...]
    """None is `_`, or a type that is left out."""
    length: int | None = None
    """Of a list of a fixed length."""


TypeExpr: TypeAlias = Primitive | Name | Handle | Apply


# Items of interfaces.


@dataclass(eq=False, slots=True)
class Renamed:
    """`NAME` or `NAME as LOCAL`."""

    id: Id
    local: Id


@dataclass(eq=False, slots=True)
class Use:
    """`use PATH.{NAMES};`."""

    gate: Gate
    path: Path
    names: tuple[Renamed, ...]


@dataclass(eq=False, slots=True)
class Alias:
    gate: Gate
    id: Id
    docs: str
    type: TypeExpr


@dataclass(eq=False, slots=True)
class Member:
    """A field, a flag or a case."""

    id: Id
    docs: str
    type: TypeExpr | None


@dataclass(eq=False, slots=True)
class Compound:
    """A record, flags, a variant or an enum."""

    gate: Gate
    keyword: str
    id: Id
    docs: str
    members: tuple[Member, ...]


@dataclass(eq=False, slots=True)
class Param:
    id: Id
    type: TypeExpr


@dataclass(eq=False, slots=True)
class Function:
    gate: Gate
    id: Id
    """Of a constructor, the keyword."""
    docs: str
    kind: FunctionKind
    is_async: bool
    params: tuple[Param, ...]
    result: TypeExpr | None


@dataclass(eq=False, slots=True)
class Resource:
    gate: Gate
    id: Id
    docs: str
    functions: tuple[Function, ...]


TypeItem: TypeAlias = Alias | Compound | Resource
InterfaceItem: TypeAlias = Use | TypeItem | Function


# Items of packages and worlds.


@dataclass(eq=False, slots=True)
class Interface:
    gate: Gate
    id: Id
    docs: str
    items: tuple[InterfaceItem, ...]


@dataclass(eq=False, slots=True)
class Extern:
    """`import` or `export` of a path, of a function, or of an interface that is written out there."""

    gate: Gate
    keyword: str
    id: Id
    """The name of what has no path; that of the path's last part otherwise."""
    kind: Path | Function | Interface
    is_renamed: bool = False
    """Whether a path stands behind a name of its own: `import NAME: PATH;`."""


@dataclass(eq=False, slots=True)
class Include:
    """`include PATH with { NAMES }`."""

    gate: Gate
    path: Path
    names: tuple[Renamed, ...]


WorldItem: TypeAlias = Extern | Include | Use | TypeItem


@dataclass(eq=False, slots=True)
class World:
    gate: Gate
    id: Id
    docs: str
    items: tuple[WorldItem, ...]


@dataclass(eq=False, slots=True)
class TopUse:
    """`use PATH as LOCAL;` outside of interfaces: another name, for this file alone."""

    path: Path
    local: Id


PackageItem: TypeAlias = TopUse | Interface | World


@dataclass(eq=False, slots=True)
class Nested:
    """`package NAME { ITEMS }`: another package, in the same file."""

    name: PackageName
    docs: str
    items: tuple[PackageItem, ...]


@dataclass(eq=False, slots=True)
class File:
    name: PackageName | None
    """What the file says that its package is called."""
    is_named: bool
    """Whether it says so, be it that it can't be read."""
    docs: str
    """Of the package."""
    items: tuple[PackageItem, ...]
    nested: tuple[Nested, ...]
