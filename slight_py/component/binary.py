"""Reads the binary of a component into a plan, and checks all of it before anything runs.

Nested components are instantiated while they are read, on paper: each instantiation reads the nested component's bytes
again, with the arguments it is given, and adds its core instances to the plan. Before that, every nested component is
read once by itself, for its type.

Source: "Component Model Binary Format Explainer" (WebAssembly/component-model, design/mvp/Binary.md), version 0x0d.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from slight_py.component import core_module
from slight_py.component.canonical import CanonReader
from slight_py.component.errors import ComponentError, InvalidComponent, UnsupportedComponent
from slight_py.component.items import (
    NOWHERE,
    Body,
    ComponentItem,
    CoreInstanceItem,
    CoreItem,
    InstanceItem,
    Item,
    ModuleItem,
    from_host,
    from_type,
    narrow,
    to_plan,
    type_of,
)
from slight_py.component.matching import Substitution, Work, bind, core_mismatch, fresh, mismatch
from slight_py.component.names import without_version
from slight_py.component.plan import (
    ComponentInstance,
    CoreImport,
    CoreInstance,
    CoreModule,
    ExportedInstance,
    Extern,
    LocalResource,
    Plan,
)
from slight_py.component.reading import Reader
from slight_py.component.scopes import Externs, Scope
from slight_py.component.type_section import (
    ExternName,
    TypeReader,
    component_type,
    declare_export,
    declare_import,
    extern_name,
    sort_of,
)
from slight_py.component.types import (
    ComponentType,
    ExternType,
    FuncType,
    InstanceType,
    ResourceType,
    TypeExtern,
)

__all__ = ["ComponentError", "InvalidComponent", "UnsupportedComponent", "is_component", "read"]

MAGIC = b"\0asm"
PREAMBLE = MAGIC + b"\x0d\0\x01\0"
MAX_INSTANCES = 1_000
"""How many component instances, and how many core instances, there may be; wasmtime allows as many in a component."""
MAX_ENTRIES = 100_000
"""Of a section."""


def is_component(wasm: bytes) -> bool:
    """Whether the bytes begin as those of a component, of whichever version."""
    return wasm[:4] == MAGIC and wasm[6:8] == b"\x01\0"


def read(wasm: bytes) -> Plan:
    """The plan of a component.

    Raises InvalidComponent for bytes that are none, and UnsupportedComponent for what this version can't run.
    """
    return _Reading(wasm).plan()


@dataclass(slots=True)
class _Said:
    """What the custom sections of a component say about it."""

    name: str | None = None
    modules: dict[int, str] = field(default_factory=dict)
    """The names of core modules, by their numbers in the component."""
    producers: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)


class _Reading:
    """A component's file while it is read."""

    def __init__(self, wasm: bytes) -> None:
        self.wasm = wasm
        self.work = Work()
        self.modules: dict[int, CoreModule] = {}
        """By where they begin."""
        self.types: dict[int, ComponentType] = {}
        """Of nested components, by where they begin."""
        self.core_instances: list[CoreInstance] = []
        self.instances: list[ComponentInstance] = []
        self.resources: dict[ResourceType, LocalResource] = {}
        self.imports: dict[str, Item] = {}
        self.implements: dict[str, str] = {}
        """The interfaces of exports that have names of their own."""
        self.said = _Said()
        """About the outermost component."""

    def plan(self) -> Plan:
        number = self.instance(None)
        scope = self.component(0, len(self.wasm), None, number, {}, 0)
        _name_resources(scope.exports, self.implements)
        return Plan(
            modules=tuple(self.modules.values()),
            core_instances=tuple(self.core_instances),
            component_instances=tuple(self.instances),
            imports={name: to_plan(item) for name, item in self.imports.items()},
            exports={name: self._exported(name, item) for name, item in scope.exports.items()},
            resources=self.resources,
            producers=self.said.producers,
            name=self.said.name,
        )

    def _exported(self, name: str, item: Item) -> Extern:
        export = to_plan(item)
        if isinstance(export, ExportedInstance) and name in self.implements:
            return ExportedInstance(export.exports, self.implements[name])
        return export

    def instance(self, parent: int | None) -> int:
        """The number of a new component instance."""
        number = len(self.instances)
        if number >= MAX_INSTANCES:
            raise self.work.unsupported(f"more than {MAX_INSTANCES:,} components are instantiated")
        self.instances.append(ComponentInstance(number, parent))
        return number

    def component(
        self, start: int, end: int, outer: Scope | None, number: int | None, arguments: Mapping[str, Item], depth: int
    ) -> Scope:
        """Reads a component. Without a number only for its type; else as the instance of that number."""
        scope = Scope("component", outer, number, self.work)
        _Component(self, scope, Reader(self.wasm, start, end), arguments, depth).read()
        return scope

    def type_of_component(self, start: int, end: int, outer: Scope, depth: int) -> ComponentType:
        """The type of a nested component. It depends on nothing around it, so it is worked out once."""
        if start not in self.types:
            self.types[start] = component_type(self.component(start, end, outer, None, {}, depth))
        return self.types[start]

    def module(self, start: int, end: int, name: str | None) -> CoreModule:
        """The core module in a range of the file, which its component calls by this name."""
        if start not in self.modules:
            type_, own_name = core_module.read(self.wasm, start, end)
            self.work.spend(len(type_.imports) + len(type_.exports))
            self.modules[start] = CoreModule(len(self.modules), start, end, name or own_name, type_)
        return self.modules[start]


class _Component:
    """Reads the sections of one component into a scope."""

    def __init__(self, file: _Reading, scope: Scope, reader: Reader, arguments: Mapping[str, Item], depth: int) -> None:
        self.file = file
        self.scope = scope
        self.reader = reader
        self.arguments = arguments
        """What the imports are, by name; none where only the type is asked for."""
        self.depth = depth
        self.is_outermost = scope.outer is None
        self.work = file.work
        self.said = _Said()

    def read(self) -> None:
        self._preamble()
        self.said = _said(Reader(self.reader.wasm, self.reader.at, self.reader.end))
        if self.is_outermost:
            self.file.said = self.said
        for number, section in self.reader.sections():
            self.work.at = section.at
            self._section(number, section)

    def _preamble(self) -> None:
        start = self.reader.at
        found = self.reader.wasm[start : min(start + 8, self.reader.end)]
        if found[:4] != MAGIC:
            raise self.reader.invalid("the file is no WebAssembly")
        if found != PREAMBLE:
            if found[6:8] == b"\x01\0":
                raise self.reader.unsupported(f"a component of the version {found[4:6].hex()}, which is not 0d00")
            raise self.reader.invalid("the file is no component")
        self.reader.skip(8)

    def _section(self, number: int, section: Reader) -> None:
        match number:
            case 0:
                section.name()
                return
            case 1:
                modules = self.scope.spaces["core module"]
                module = self.file.module(section.at, section.end, self.said.modules.get(len(modules)))
                modules.append(ModuleItem(module, module.type))
                return
            case 4:
                self._nested(section)
                return
            case 9:
                raise section.unsupported("a start function of a component")
            case 12:
                raise section.unsupported("values defined by a component")
        entry = self._entries(section).get(number)
        if entry is None:
            raise section.invalid(f"there is no section {number} in a component")
        for _ in range(section.count("entries of a section", MAX_ENTRIES)):
            self.work.at = section.at
            self.work.spend(1)
            entry(section)
        section.finish(f"section {number}")

    def _entries(self, section: Reader) -> dict[int, Callable[[Reader], None]]:
        types = TypeReader(self.scope, section, self.file.resources, self.depth)
        canon = CanonReader(self.scope, section, types)
        return {
            2: self._core_instance,
            3: lambda _: types.core_type(),
            5: self._instance,
            6: lambda section: self._alias(section, types),
            7: lambda _: self.scope.spaces["type"].append(types.any_type()),
            8: lambda _: canon.read(),
            10: lambda section: self._import(section, types),
            11: lambda section: self._export(section, types),
        }

    def _nested(self, section: Reader) -> None:
        """A component in the component."""
        depth = self.depth + 1
        self.work.check_depth(depth)
        type_ = self.file.type_of_component(section.at, section.end, self.scope, depth)
        self.work.at = section.at
        self.scope.spaces["component"].append(ComponentItem(Body(section.at, section.end, self.scope), type_))

    # Core instances.

    def _core_instance(self, section: Reader) -> None:
        match section.byte():
            case 0:
                item = self._instantiate_module(section)
            case 1:
                item = CoreInstanceItem(NOWHERE, self._core_exports(section))
            case other:
                raise section.invalid(f"{other:#x} where a core instance is expected", section.at - 1)
        self.scope.spaces["core instance"].append(item)

    def _core_exports(self, section: Reader) -> dict[str, CoreItem]:
        exports: dict[str, CoreItem] = {}
        for _ in range(section.count("exports", MAX_ENTRIES)):
            self.work.spend(1)
            at = section.at
            name = section.name()
            sort = core_module.KINDS.get(section.byte())
            if sort is None:
                raise section.invalid(f"{name} is of no kind that a core instance exports", at)
            if name in exports:
                raise section.invalid(f"there is an export {name} already", at)
            exports[name] = self.scope.get(f"core {sort}", section)  # type: ignore[arg-type]  # one of KINDS
        return exports

    def _instantiate_module(self, section: Reader) -> CoreInstanceItem:
        at = section.at
        module: ModuleItem = self.scope.get("core module", section)
        given: dict[str, CoreInstanceItem] = {}
        for _ in range(section.count("arguments", MAX_ENTRIES)):
            self.work.spend(1)
            name = section.name()
            section.expect(0x12, "for a core instance")
            if name in given:
                raise section.invalid(f"there is an argument {name} already", at)
            given[name] = self.scope.get("core instance", section)
        imports = self._core_imports(section, module, given, at)
        return CoreInstanceItem(self._new_core_instance(module, imports), module.type.exports)

    def _core_imports(
        self, section: Reader, item: ModuleItem, given: Mapping[str, CoreInstanceItem], at: int
    ) -> tuple[CoreImport, ...]:
        type_ = item.type if item.module is None else item.module.type
        self.work.spend(len(type_.imports))
        found = []
        for (module, name), expected in type_.imports.items():
            source = given[module].export(name) if module in given else None
            if source is None:
                raise section.invalid(f"the core module imports {module} {name}, which it is not given", at)
            if problem := core_mismatch(source.type, expected):
                raise section.invalid(f"the import {module} {name} of the core module: {problem}", at)
            found.append(CoreImport(module, name, source.source))
        return tuple(found)

    def _new_core_instance(self, item: ModuleItem, imports: tuple[CoreImport, ...]) -> int:
        if item.module is None or self.scope.number is None:
            return NOWHERE
        number = len(self.file.core_instances)
        if number >= MAX_INSTANCES:
            raise self.work.unsupported(f"more than {MAX_INSTANCES:,} core modules are instantiated")
        self.file.core_instances.append(CoreInstance(number, item.module, imports, self.scope.number))
        return number

    # Component instances.

    def _instance(self, section: Reader) -> None:
        match section.byte():
            case 0:
                item = self._instantiate(section)
            case 1:
                item = InstanceItem(self._inline_exports(section))
            case other:
                raise section.invalid(f"{other:#x} where an instance is expected", section.at - 1)
        self.work.check_depth(item.type.depth)
        self.scope.spaces["instance"].append(item)

    def _inline_exports(self, section: Reader) -> dict[str, Item]:
        exports: dict[str, Item] = {}
        names = Externs(names_resources=False)
        for _ in range(section.count("exports", MAX_ENTRIES)):
            self.work.spend(1)
            at = section.at
            name = extern_name(section, "export").text
            item = self._sorted_item(section)
            if names.add(section, at, "export", name, type_of(item)).kind in ("dependency", "url", "hash"):
                raise section.invalid(f"{name!r} is a name for imports only", at)
            exports[name] = item
        return exports

    def _sorted_item(self, section: Reader) -> Item:
        """An item by its sort and its number, which is one that components import and export."""
        at = section.at
        sort = sort_of(section)
        if sort not in ("func", "type", "component", "instance", "core module"):
            raise section.invalid(f"a {sort} is nothing that a component imports or exports", at)
        item: Item = self.scope.get(sort, section)
        return item

    def _instantiate(self, section: Reader) -> InstanceItem:
        at = section.at
        component: ComponentItem = self.scope.get("component", section)
        given: dict[str, Item] = {}
        for _ in range(section.count("arguments", MAX_ENTRIES)):
            self.work.spend(1)
            name = section.name()
            if name in given:
                raise section.invalid(f"there is an argument {name} already", at)
            given[name] = self._sorted_item(section)
        self.work.at = at
        return self._new_instance(section, component, given, at)

    def _new_instance(
        self, section: Reader, component: ComponentItem, given: Mapping[str, Item], at: int
    ) -> InstanceItem:
        type_ = component.type
        arguments = {name: type_of(item) for name, item in given.items()}
        mapped, problem = bind(self.work, arguments, type_.imports, type_.imported_resources)
        if problem:
            raise section.invalid(f"the arguments don't fit the component: {problem}", at)
        if self.scope.number is None or component.body is None:
            own = {each: ResourceType(each.name) for each in type_.defined_resources}
            self.scope.defined_resources += own.values()
            substitution = Substitution(self.work, {**mapped, **own})
            return InstanceItem({name: from_type(substitution.extern(each)) for name, each in type_.exports.items()})
        body = component.body
        number = self.file.instance(self.scope.number)
        depth = self.depth + 1
        self.work.check_depth(depth)
        inner = self.file.component(body.start, body.end, body.scope, number, given, depth)
        self.work.at = at
        return InstanceItem(
            {name: narrow(self.work, inner.exports[name], each) for name, each in type_.exports.items()}
        )

    # Aliases, imports and exports.

    def _alias(self, section: Reader, types: TypeReader) -> None:
        at = section.at
        sort = sort_of(section)
        match section.byte():
            case 0 if not sort.startswith("core ") or sort == "core module":
                types.alias_export(sort, at)
            case 1 if sort.startswith("core ") and sort.removeprefix("core ") in core_module.KINDS.values():
                self._alias_core_export(section, sort, at)
            case 2 if sort in ("type", "component", "core module", "core type"):
                types.alias_outer(sort, at)
            case _:
                raise section.invalid(f"there is no such alias of a {sort}", at)

    def _alias_core_export(self, section: Reader, sort: str, at: int) -> None:
        instance: CoreInstanceItem = self.scope.get("core instance", section)
        name = section.name()
        item = instance.export(name)
        if item is None:
            raise section.invalid(f"the core instance has no export {name}", at)
        if f"core {core_module.kind_of(item.type)}" != sort:
            raise section.invalid(f"the export {name} is no {sort.removeprefix('core ')}", at)
        self.scope.spaces[sort].append(item)  # type: ignore[index]  # a core sort

    def _import(self, section: Reader, types: TypeReader) -> None:
        at = section.at
        name, type_ = extern_name(section, "import"), types.extern_type()
        item, resources = self._imported(section, types, name, type_, at)
        self.scope.imported_resources += resources
        declare_import(self.scope, section, at, name, type_of(item))
        self.scope.add(item)

    def _imported(
        self, section: Reader, types: TypeReader, name: ExternName, type_: ExternType, at: int
    ) -> tuple[Item, tuple[ResourceType, ...]]:
        """What an import is, and the resources that come with it."""
        if self.scope.number is None:
            return types.opened(type_)
        if not self.is_outermost:
            return narrow(self.work, self.arguments[name.text], type_), ()
        if isinstance(type_, InstanceType):
            type_, resources = fresh(self.work, type_, without_version(name.implements or name.text))
        else:
            resources = types.opened(type_)[1]
        if not isinstance(type_, FuncType | InstanceType | TypeExtern):
            raise section.unsupported(f"the import {name.text} is a component or a core module", at)
        self.file.imports[name.text] = item = from_host(self.work, name.text, type_, name.implements)
        return item, resources

    def _export(self, section: Reader, types: TypeReader) -> None:
        at = section.at
        name = extern_name(section, "export")
        item = self._sorted_item(section)
        ascribed = section.optional(types.extern_type)
        if ascribed is not None:
            if problem := mismatch(self.work, type_of(item), ascribed):
                raise section.invalid(f"the export {name.text} is not of the type that it is said to be: {problem}", at)
            item = narrow(self.work, item, ascribed)
        declare_export(self.scope, section, at, name, item)
        if self.is_outermost and name.implements is not None:
            self.file.implements[name.text] = name.implements
        self.scope.add(item)


# Custom sections.


def _said(component: Reader) -> _Said:
    """Reads the custom sections of a component. Those that can't be read are as good as none."""
    said = _Said()
    try:
        for number, section in component.sections():
            if number == 0:
                _read_custom(section, said)
    except ComponentError:
        pass
    return said


def _read_custom(section: Reader, said: _Said) -> None:
    match section.name():
        case "component-name":
            for number, part in section.sections():
                if number == 0:
                    said.name = part.name()
                elif part.wasm[part.at : part.at + 2] == _CORE_MODULES:
                    part.skip(2)
                    said.modules = _names_of(part)
        case "producers":
            said.producers = _producers(section)


def _names_of(part: Reader) -> dict[int, str]:
    return dict(part.many("names", MAX_ENTRIES, lambda: (part.u32(), part.name())))


_CORE_MODULES = b"\0\x11"
"""Begins the names of core modules in a section `component-name`."""


def _producers(section: Reader) -> dict[str, tuple[tuple[str, str], ...]]:
    """Source: WebAssembly/tool-conventions, ProducersSection.md."""
    found = {}
    for _ in range(section.count("fields", 100)):
        name = section.name()
        found[name] = tuple(section.many("values", 1_000, lambda: (section.name(), section.name())))
    return found


def _name_resources(exports: Mapping[str, Item], implements: Mapping[str, str]) -> None:
    """Gives the resources of exported interfaces the interfaces' names."""
    for name, item in exports.items():
        if not isinstance(item, InstanceItem):
            continue
        for export in item.exports.values():
            if isinstance(export, ResourceType) and export.instance is not None and not export.interface:
                export.interface = without_version(implements.get(name, name))
