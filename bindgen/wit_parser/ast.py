"""The syntax tree: what a file says, before any name means anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from bindgen.wit_parser.model import Primitive
from bindgen.wit_parser.source import Span


@dataclass(eq=False, slots=True)
class Id:
    name: str
    """Without the `%` that it may be written with."""
    span: Span


# Types, where they are used.


@dataclass(eq=False, slots=True)
class Name:
    """A named type, or `handle NAME`."""

    id: Id
    handle: bool


@dataclass(eq=False, slots=True)
class Apply:
    """`list<T>`, `option<T>`, `expected<T, E>` (always with both arguments), `tuple<...>`."""

    constructor: str
    arguments: tuple[TypeExpr, ...]


TypeExpr: TypeAlias = Primitive | Name | Apply


# Items.


@dataclass(eq=False, slots=True)
class Used:
    """`NAME` or `NAME as LOCAL`."""

    id: Id
    local: Id


@dataclass(eq=False, slots=True)
class Use:
    names: tuple[Used, ...] | None
    """None is `*`."""
    file: Id


@dataclass(eq=False, slots=True)
class Alias:
    id: Id
    docs: str
    type: TypeExpr


@dataclass(eq=False, slots=True)
class Member:
    """A field, a flag or a case; those of a union are named "0", "1" and so on."""

    id: Id
    docs: str
    type: TypeExpr | None


@dataclass(eq=False, slots=True)
class Compound:
    """A record, flags, a variant, a union or an enum."""

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
    id: Id
    docs: str
    static: bool
    params: tuple[Param, ...]
    result: TypeExpr


@dataclass(eq=False, slots=True)
class Resource:
    id: Id
    docs: str
    functions: tuple[Function, ...]


@dataclass(eq=False, slots=True)
class Block:
    """`interface NAME { ... }`."""

    id: Id
    docs: str
    items: tuple[Item, ...]


Item: TypeAlias = Use | Alias | Compound | Resource | Function | Block


@dataclass(eq=False, slots=True)
class File:
    docs: str
    items: tuple[Item, ...]
    broken: frozenset[str]
    """The names of the types and resources whose definitions could not be read."""
    incomplete: bool
    """Whether definitions or uses could not be read whose names are not known."""
