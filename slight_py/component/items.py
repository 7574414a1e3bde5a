"""What the index spaces of a component hold while it is read.

A component is read in one of two ways. Where its type is asked for, it is read with imports that nothing stands
behind: its items are known by their types alone. Where it is instantiated, its items are what they are in that
instance, with resource types of its own. Both ways make the same checks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from slight_py.component.core_module import kind_of as core_kind
from slight_py.component.plan import (
    ComponentFunction,
    CoreExport,
    CoreFunction,
    CoreKind,
    CoreModule,
    ExportedComponent,
    ExportedInstance,
    Extern,
    ImportedFunction,
    ImportedInstance,
    LiftedFunction,
)
from slight_py.component.types import (
    AnyType,
    ComponentType,
    CoreExternType,
    ExternType,
    FuncType,
    InstanceType,
    ModuleType,
    TypeExtern,
)

if TYPE_CHECKING:
    from slight_py.component.matching import Work
    from slight_py.component.scopes import Scope

NOWHERE = -1
"""The number of a core instance in a component of which only the type is asked for."""


@dataclass(frozen=True, slots=True)
class CoreItem:
    """A core function, table, memory, global or tag."""

    source: CoreFunction
    type: CoreExternType


@dataclass(eq=False, slots=True)
class CoreInstanceItem:
    """A core instance: an instantiated module, or items put together under names."""

    number: int
    """Of an instantiated module: its place in the plan, or NOWHERE."""
    exports: Mapping[str, CoreItem | CoreExternType]
    """Of an instantiated module: types only. Modules have thousands of exports, few of which are ever named."""

    def export(self, name: str) -> CoreItem | None:
        found = self.exports.get(name)
        if found is None or isinstance(found, CoreItem):
            return found
        kind: CoreKind = core_kind(found)
        return CoreItem(CoreExport(self.number, name, kind), found)


@dataclass(eq=False, frozen=True, slots=True)
class ModuleItem:
    module: CoreModule | None
    """None where only the type is known."""
    type: ModuleType
    """As it is seen here: an importer may know of fewer exports than the module has."""


@dataclass(eq=False, frozen=True, slots=True)
class Body:
    """Where the bytes of a nested component are, and what surrounds it."""

    start: int
    end: int
    scope: Scope


@dataclass(eq=False, frozen=True, slots=True)
class ComponentItem:
    body: Body | None
    """None where only the type is known."""
    type: ComponentType
    """As it is seen here: an importer may know of fewer exports than the component has."""


@dataclass(eq=False, slots=True)
class InstanceItem:
    exports: Mapping[str, Item]
    imported: ImportedInstance | None = None
    """What it is of the host's, if it is that."""
    known_type: InstanceType | None = None
    """Its type, if that is known already."""

    @property
    def type(self) -> InstanceType:
        if self.known_type is None:
            self.known_type = InstanceType({name: type_of(item) for name, item in self.exports.items()})
        return self.known_type


class _ExportsOfType(Mapping[str, "Item"]):
    """The exports of an instance that nothing stands behind. They are made when they are asked for: an instance type
    may hold one instance type many times, and that another one, and so on.
    """

    def __init__(self, types: Mapping[str, ExternType]) -> None:
        self._types = types
        self._made: dict[str, Item] = {}

    def __getitem__(self, name: str) -> Item:
        if name not in self._made:
            self._made[name] = from_type(self._types[name])
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)


Item: TypeAlias = ComponentFunction | InstanceItem | ComponentItem | ModuleItem | AnyType


Kind: TypeAlias = Literal["func", "instance", "component", "core module", "type"]


def kind_of(item: Item) -> Kind:
    """The index space that an item belongs to."""
    match item:
        case ImportedFunction() | LiftedFunction():
            return "func"
        case InstanceItem():
            return "instance"
        case ComponentItem():
            return "component"
        case ModuleItem():
            return "core module"
    return "type"


def type_of(item: Item) -> ExternType:
    match item:
        case ImportedFunction() | LiftedFunction() | InstanceItem() | ComponentItem() | ModuleItem():
            return item.type
    return TypeExtern(item)


def from_type(type_: ExternType) -> Item:
    """An item of this type that nothing stands behind. An instance's resources have been made anew before."""
    match type_:
        case FuncType():
            return ImportedFunction(None, "", type_)
        case InstanceType():
            return InstanceItem(_ExportsOfType(type_.exports), known_type=type_)
        case ComponentType():
            return ComponentItem(None, type_)
        case ModuleType():
            return ModuleItem(None, type_)
        case TypeExtern():
            return type_.type


def from_host(
    work: Work, name: str, type_: FuncType | InstanceType | TypeExtern, implements: str | None = None
) -> Item:
    """What the host provides under the name of an import, which may be said to implement an interface."""
    match type_:
        case FuncType():
            return ImportedFunction(None, name, type_)
        case InstanceType():
            work.spend(5 + 5 * len(type_.exports))
            exports = {each: _host_export(work, name, each, export) for each, export in type_.exports.items()}
            item = InstanceItem(exports)
            item.known_type = type_
            plan_exports = {each: to_plan(export) for each, export in exports.items()}
            item.imported = ImportedInstance(name, type_, plan_exports, implements)
            return item
        case TypeExtern():
            return type_.type


def _host_export(work: Work, interface: str, name: str, type_: ExternType) -> Item:
    if isinstance(type_, FuncType):
        return ImportedFunction(interface, name, type_)
    if isinstance(type_, InstanceType):
        return from_host(work, f"{interface}/{name}", type_)
    return from_type(type_)


def narrow(work: Work, item: Item, type_: ExternType) -> Item:
    """The item as somebody sees it who knows it by this type, which it matches: with those exports only."""
    match item, type_:
        case InstanceItem(), InstanceType():
            work.spend(5 + 5 * len(type_.exports))
            exports = {name: narrow(work, item.exports[name], export) for name, export in type_.exports.items()}
            same = len(exports) == len(item.exports) and all(item.exports[name] is exports[name] for name in exports)
            return item if same else InstanceItem(exports)
        case ComponentItem(), ComponentType():
            return ComponentItem(item.body, type_)
        case ModuleItem(), ModuleType():
            return ModuleItem(item.module, type_)
    return item


def to_plan(item: Item) -> Extern:
    """The item as the plan has it. Something stands behind it: it is of the component that is run."""
    match item:
        case InstanceItem():
            if item.imported is not None:
                return item.imported
            return ExportedInstance({name: to_plan(export) for name, export in item.exports.items()})
        case ComponentItem():
            return ExportedComponent(item.type)
        case ModuleItem():
            return item.module or item.type
    return item
