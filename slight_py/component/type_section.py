"""Reads the types of a component.

Source: "Component Model Binary Format Explainer", "Type Definitions", and "Component Model AST Explainer".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from slight_py.component import core_module, names
from slight_py.component.items import CoreItem, Item, from_type, kind_of, type_of
from slight_py.component.matching import MAX_DEPTH, Work, fresh, has_free_resources
from slight_py.component.plan import CoreFunction, LocalResource
from slight_py.component.reading import Reader
from slight_py.component.scopes import Scope, Sort
from slight_py.component.types import (
    BOOL,
    CHAR,
    ERROR_CONTEXT,
    F32,
    F64,
    S8,
    S16,
    S32,
    S64,
    STRING,
    U8,
    U16,
    U32,
    U64,
    AnyType,
    Borrow,
    Case,
    ComponentType,
    CoreExternType,
    CoreFuncType,
    Enum,
    ExternType,
    Field,
    FixedListOf,
    Flags,
    FuncType,
    FutureOf,
    InstanceType,
    ListOf,
    MapOf,
    ModuleType,
    OptionOf,
    Own,
    Primitive,
    Record,
    ResourceType,
    ResultOf,
    StreamOf,
    TupleOf,
    TypeExtern,
    ValueType,
    Variant,
    record_layout,
)

T = TypeVar("T")

MAX_TYPE_DEPTH = 60
"""How deeply value types may be nested."""
MAX_TYPE_NODES = 100_000
"""How many types a value type may be made of, if those used twice count twice."""
MAX_VALUE_SIZE = (1 << 28) - 1
"""In bytes, by the rules of the canonical ABI ("Element Size")."""
MAX_DECLARATIONS = 1_000_000
MAX_PARAMS = 1_000
MAX_MEMBERS = 10_000
"""Of a record, a variant, an enum or a tuple."""

PRIMITIVES: dict[int, Primitive] = {
    0x7F: BOOL,
    0x7E: S8,
    0x7D: U8,
    0x7C: S16,
    0x7B: U16,
    0x7A: S32,
    0x79: U32,
    0x78: S64,
    0x77: U64,
    0x76: F32,
    0x75: F64,
    0x74: CHAR,
    0x73: STRING,
    0x64: ERROR_CONTEXT,
}

SORT_BYTES: dict[int, Sort] = {1: "func", 3: "type", 4: "component", 5: "instance"}
CORE_SORT_BYTES: dict[int, Sort] = {
    0: "core func",
    1: "core table",
    2: "core memory",
    3: "core global",
    4: "core tag",
    0x10: "core type",
    0x11: "core module",
    0x12: "core instance",
}


_EXTERN_TYPES = {0: ModuleType, 1: FuncType, 4: ComponentType, 5: InstanceType}


class TypeReader:
    """Reads types from a range of the file into a scope."""

    def __init__(self, scope: Scope, reader: Reader, resources: dict[ResourceType, LocalResource], depth: int) -> None:
        self.scope = scope
        self.reader = reader
        self.work: Work = scope.work
        self.resources = resources
        """The plan's, to which those that are defined here are added."""
        self.depth = depth
        """How many components and types are around what is read here."""
        self.work.check_depth(depth)

    # Value types.

    def value_type(self) -> ValueType:
        primitive = PRIMITIVES.get(self.reader.peek())
        if primitive is not None:
            self.reader.byte()
            return primitive
        at = self.reader.at
        found = self.scope.at("type", self.reader.index(), self.reader, at)
        if not isinstance(found, ValueType):
            raise self.reader.invalid("a type that no value has where a value's type is expected", at)
        return found

    def optional_type(self) -> ValueType | None:
        return self.reader.optional(self.value_type)

    def _label(self, what: str) -> str:
        at = self.reader.at
        label = self.reader.name()
        if not names.is_label(label):
            raise self.reader.invalid(f"{label!r} is no name for a {what}: it is not in kebab-case", at)
        return label

    def _members(self, what: str, most: int, read: Callable[[], T], label: Callable[[T], str]) -> tuple[T, ...]:
        """Fields, cases, flags or parameters: their names must differ, and not only in case."""
        seen = set()
        found = []
        for _ in range(self.reader.count(f"{what}s", most)):
            at = self.reader.at
            member = read()
            name = label(member)
            if names.canonical(name) in seen:
                raise self.reader.invalid(f"there is a {what} called {name}, or too like it, already", at)
            seen.add(names.canonical(name))
            found.append(member)
        self.work.spend(len(found))
        return tuple(found)

    def _some(self, what: str, most: int, read: Callable[[], T], label: Callable[[T], str]) -> tuple[T, ...]:
        at = self.reader.at
        found = self._members(what, most, read, label)
        if not found:
            raise self.reader.invalid(f"there must be at least one {what}", at)
        return found

    def _labels(self, what: str, most: int) -> tuple[str, ...]:
        return self._some(what, most, lambda: self._label(what), lambda label: label)

    def _field(self, what: str) -> Field:
        return Field(self._label(what), self.value_type())

    def _case(self) -> Case:
        case = Case(self._label("case"), self.optional_type())
        self.reader.expect(0, "after a case")
        return case

    def _defined(self, opcode: int) -> ValueType:
        reader = self.reader
        match opcode:
            case 0x72:
                return Record(self._some("field", MAX_MEMBERS, lambda: self._field("field"), lambda each: each.name))
            case 0x71:
                return Variant(self._some("case", MAX_MEMBERS, self._case, lambda each: each.name))
            case 0x70:
                return ListOf(self.value_type())
            case 0x6F:
                return self._tuple()
            case 0x6E:
                return self._flags()
            case 0x6D:
                return Enum(self._labels("case", MAX_MEMBERS))
            case 0x6B:
                return OptionOf(self.value_type())
            case 0x6A:
                return ResultOf(self.optional_type(), self.optional_type())
            case 0x69:
                return Own(self._resource())
            case 0x68:
                return Borrow(self._resource())
            case 0x67:
                return self._fixed_list()
            case 0x66:
                return self._stream()
            case 0x65:
                return FutureOf(self._streamed())
            case 0x63:
                return self._map()
        raise reader.invalid(f"{opcode:#x} is no kind of type", reader.at - 1)

    def _flags(self) -> Flags:
        at = self.reader.at
        flags = Flags(self._labels("flag", 1_000))
        if len(flags.names) > 32:
            raise self.reader.invalid("there can't be more than 32 flags in a type", at)
        return flags

    def _tuple(self) -> TupleOf:
        at = self.reader.at
        items = self.reader.many("types of a tuple", MAX_MEMBERS, self.value_type)
        if not items:
            raise self.reader.invalid("there must be at least one type in a tuple", at)
        self.work.spend(len(items))
        return TupleOf(tuple(items))

    def _fixed_list(self) -> FixedListOf:
        at = self.reader.at
        element, length = self.value_type(), self.reader.u32()
        if length == 0:
            raise self.reader.invalid("a list of a fixed length has at least one element", at)
        return FixedListOf(element, length)

    def _stream(self) -> StreamOf:
        at = self.reader.at
        element = self._streamed()
        if element == CHAR:
            raise self.reader.invalid("there is no stream<char>: characters are streamed as bytes of an encoding", at)
        return StreamOf(element)

    def _streamed(self) -> ValueType | None:
        """What a stream or a future carries."""
        at = self.reader.at
        element = self.optional_type()
        if element is not None and element.has_borrow:
            raise self.reader.invalid("a borrowed handle can't be carried by a stream or a future", at)
        return element

    def _map(self) -> MapOf:
        at = self.reader.at
        map_ = MapOf(self.value_type(), self.value_type())
        if not isinstance(map_.key, Primitive) or map_.key in (F32, F64, ERROR_CONTEXT):
            raise self.reader.invalid("the keys of a map are booleans, integers, characters or strings", at)
        if record_layout(map_.parts())[0] > MAX_VALUE_SIZE:
            raise self.reader.invalid(f"an entry of a map may take {MAX_VALUE_SIZE:,} bytes at most", at)
        return map_

    def _resource(self) -> ResourceType:
        at = self.reader.at
        found = self.scope.get("type", self.reader)
        if not isinstance(found, ResourceType):
            raise self.reader.invalid("a type that is no resource where a resource is expected", at)
        return found

    def _checked(self, type_: ValueType, at: int) -> ValueType:
        """Makes sure that whatever walks through the type comes to an end."""
        if type_.depth > MAX_TYPE_DEPTH:
            raise self.reader.unsupported(f"types are nested more than {MAX_TYPE_DEPTH} deep", at)
        if type_.nodes > MAX_TYPE_NODES:
            raise self.reader.unsupported(f"a type is made of more than {MAX_TYPE_NODES:,} types", at)
        if type_.size > MAX_VALUE_SIZE:
            raise self.reader.invalid(f"a value of {type_.size:,} bytes, of which it may have {MAX_VALUE_SIZE:,}", at)
        return type_

    # Other types.

    def any_type(self) -> AnyType:
        """A type definition. Raises InvalidComponent and UnsupportedComponent."""
        at = self.work.at = self.reader.at
        self.work.spend(1)
        opcode = self.reader.byte()
        match opcode:
            case 0x40 | 0x43:
                return self._function(opcode == 0x43)
            case 0x41:
                return self._nested("component type").component_type()
            case 0x42:
                return self._nested("instance type").instance_type()
            case 0x3F:
                return self._resource_definition(at)
        primitive = PRIMITIVES.get(opcode)
        return self._checked(self._defined(opcode), at) if primitive is None else primitive

    def _function(self, is_async: bool) -> FuncType:
        params = self._members("parameter", MAX_PARAMS, lambda: self._field("parameter"), lambda each: each.name)
        return FuncType(params, self.result(), is_async)

    def result(self) -> ValueType | None:
        """The result of a function, which is no borrowed handle and holds none."""
        at = self.reader.at
        match self.reader.byte():
            case 0:
                result = self.value_type()
                if result.has_borrow:
                    raise self.reader.invalid("a function can't return a borrowed handle", at)
                return result
            case 1:
                self.reader.expect(0, "for a function without a result")
                return None
            case other:
                raise self.reader.invalid(f"{other:#x} where a function's result is expected", at)

    def _resource_definition(self, at: int) -> ResourceType:
        if self.scope.is_type:
            raise self.reader.invalid("a resource can only be defined by a component, not by a type", at)
        rep = core_module.value_type(self.reader)
        if rep == "i64":
            raise self.reader.unsupported("a resource that is represented by an i64", at)
        if rep != "i32":
            raise self.reader.invalid("a resource is represented by an i32", at)
        destructor = self.reader.optional(lambda: self._destructor(at))
        resource = ResourceType("", instance=self.scope.number)
        self.scope.own_resources.add(resource)
        self.scope.defined_resources.append(resource)
        if self.scope.number is not None:
            self.resources[resource] = LocalResource(resource, destructor)
        return resource

    def _destructor(self, at: int) -> CoreFunction:
        item: CoreItem = self.scope.get("core func", self.reader)
        if item.type != CoreFuncType(("i32",), ()):
            raise self.reader.invalid("the destructor of a resource takes an i32 and returns nothing", at)
        return item.source

    # Component and instance types.

    def _nested(self, kind: str) -> TypeReader:
        scope = Scope("component type" if kind == "component type" else "instance type", self.scope, None, self.work)
        return TypeReader(scope, self.reader, self.resources, self.depth + 1)

    def component_type(self) -> ComponentType:
        for _ in range(self.reader.count("declarations", MAX_DECLARATIONS)):
            if self.reader.peek() == 3:
                self.work.at = self.reader.at
                self.reader.byte()
                self._import_declaration()
            else:
                self._declaration()
        return component_type(self.scope)

    def instance_type(self) -> InstanceType:
        for _ in range(self.reader.count("declarations", MAX_DECLARATIONS)):
            self._declaration()
        exports = {name: type_of(item) for name, item in self.scope.exports.items()}
        type_ = InstanceType(exports, tuple(self.scope.defined_resources))
        self.work.check_depth(type_.depth)
        return type_

    def _declaration(self) -> None:
        at = self.work.at = self.reader.at
        self.work.spend(1)
        match self.reader.byte():
            case 0:
                self.core_type()
            case 1:
                self.scope.spaces["type"].append(self.any_type())
            case 2:
                self._alias(at)
            case 4:
                self._export_declaration()
            case other:
                raise self.reader.invalid(f"{other:#x} is no declaration of a component or instance type", at)

    def _import_declaration(self) -> None:
        at = self.reader.at
        self.work.spend(1)
        name, type_ = extern_name(self.reader, "import"), self.extern_type()
        item, resources = self.opened(type_)
        self.scope.imported_resources += resources
        declare_import(self.scope, self.reader, at, name, type_of(item))
        self.scope.add(item)

    def _export_declaration(self) -> None:
        at = self.reader.at
        name, type_ = extern_name(self.reader, "export"), self.extern_type()
        item, resources = self.opened(type_)
        self.scope.defined_resources += resources
        declare_export(self.scope, self.reader, at, name, item)
        self.scope.add(item)

    def opened(self, type_: ExternType) -> tuple[Item, tuple[ResourceType, ...]]:
        """Something of this type, and the resources that come with it."""
        if isinstance(type_, InstanceType):
            type_, resources = fresh(self.work, type_)
            return from_type(type_), resources
        if isinstance(type_, TypeExtern) and isinstance(type_.type, ResourceType) and self._is_new(type_.type):
            return type_.type, (type_.type,)
        return from_type(type_), ()

    _new: ResourceType | None = None

    def _is_new(self, resource: ResourceType) -> bool:
        """Whether the type that was read last is `(sub resource)`, which stands for any resource."""
        return resource is self._new

    def extern_type(self) -> ExternType:
        """The type of an import or export."""
        at = self.reader.at
        byte = self.reader.byte()
        match byte:
            case 0:
                self.reader.expect(0x11, "for a core module")
                found = self.scope.get("core type", self.reader)
            case 1 | 4 | 5:
                found = self.scope.get("type", self.reader)
            case 2:
                raise self.reader.unsupported("imports and exports of values", at)
            case 3:
                return TypeExtern(self._bound())
            case other:
                raise self.reader.invalid(f"{other:#x} is no kind of import or export", at)
        extern: ExternType = found
        if not isinstance(found, _EXTERN_TYPES[byte]):
            raise self.reader.invalid("a type of another kind than the import or export that has it", at)
        return extern

    def _bound(self) -> AnyType:
        at = self.reader.at
        match self.reader.byte():
            case 0:
                found: AnyType = self.scope.get("type", self.reader)
                return found
            case 1:
                self._new = ResourceType("")
                return self._new
            case other:
                raise self.reader.invalid(f"{other:#x} is no bound of a type", at)

    def _alias(self, at: int) -> None:
        """An alias in a type, which can only be of types and instances."""
        sort = sort_of(self.reader)
        match self.reader.byte():
            case 0 if sort in ("type", "instance"):
                self.alias_export(sort, at)
            case 2 if sort in ("type", "core type"):
                self.alias_outer(sort, at)
            case _:
                raise self.reader.invalid("an alias in a type that is not one of a type or an instance", at)

    def alias_export(self, sort: Sort, at: int) -> None:
        instance = self.scope.get("instance", self.reader)
        name = self.reader.name()
        item = instance.exports.get(name)
        if item is None:
            raise self.reader.invalid(f"the instance has no export {name}", at)
        if kind_of(item) != sort:
            raise self.reader.invalid(f"the export {name} is a {kind_of(item)} and not a {sort}", at)
        self.scope.add(item)

    def alias_outer(self, sort: Sort, at: int) -> None:
        count = self.reader.u32()
        scope, inner = self.scope, None
        for _ in range(count):
            if scope.outer is None:
                raise self.reader.invalid(f"nothing is {count} levels outside of this", at)
            scope, inner = scope.outer, scope
        item = scope.get(sort, self.reader)
        # A component must be the same wherever its bytes stand, so it can't use a resource of what surrounds it.
        if sort == "type" and inner is not None and not inner.is_type and has_free_resources(self.work, item):
            raise self.reader.invalid("a component can't use a type with resources of the component around it", at)
        self.scope.spaces[sort].append(item)

    # Core types.

    def core_type(self) -> None:
        """An entry of a section of core types."""
        self.work.spend(1)
        opcode = self.reader.peek()
        if opcode == 0x50:
            self.reader.byte()
            self.scope.spaces["core type"].append(self._module_type())
            return
        if opcode == 0:  # what follows begins with the byte of a module type, and is none
            self.reader.byte()
            if self.reader.peek() != 0x50:
                raise self.reader.invalid(f"{self.reader.peek():#x} where a core type that can be extended is expected")
        self.scope.spaces["core type"] += core_module.type_group(self.reader)

    def _module_type(self) -> ModuleType:
        types: list[object] = []
        imports: dict[tuple[str, str], CoreExternType] = {}
        exports: dict[str, CoreExternType] = {}
        for _ in range(self.reader.count("declarations", 100_000)):
            self.work.spend(1)
            at = self.reader.at
            match self.reader.byte():
                case 0:
                    key = (self.reader.name(), self.reader.name())
                    if key in imports:
                        raise self.reader.invalid(f"a module type imports {key[0]} {key[1]} twice", at)
                    imports[key] = core_module.import_type(self.reader, types)
                case 1:
                    types += core_module.type_group(self.reader)
                case 2:
                    types.append(self._outer_core_type(types, at))
                case 3:
                    name = self.reader.name()
                    if name in exports:
                        raise self.reader.invalid(f"a module type exports {name} twice", at)
                    exports[name] = core_module.import_type(self.reader, types)
                case other:
                    raise self.reader.invalid(f"{other:#x} is no declaration of a module type", at)
        return ModuleType(imports, exports)

    def _outer_core_type(self, types: list[object], at: int) -> object:
        self.reader.expect(0x10, "for an alias of a type")
        self.reader.expect(1, "for an alias of something further out")
        count, index = self.reader.u32(), self.reader.u32()
        scope: Scope | None = self.scope
        for _ in range(min(count, MAX_DEPTH + 1) - 1):
            scope = scope.outer if scope is not None else None
        space: list[object] = types
        if count > 0:
            space = scope.spaces["core type"] if scope is not None else []
        if index >= len(space) or isinstance(space[index], ModuleType):
            raise self.reader.invalid("an alias of a core type that there is not", at)
        return space[index]


def component_type(scope: Scope) -> ComponentType:
    """The type of a component that has been read into a scope."""
    exports = {name: type_of(item) for name, item in scope.exports.items()}
    imported, defined = tuple(scope.imported_resources), tuple(scope.defined_resources)
    type_ = ComponentType(scope.imports, exports, imported, defined)
    scope.work.check_depth(type_.depth)
    return type_


def sort_of(reader: Reader) -> Sort:
    """What sort of thing an alias, an argument or an export is."""
    at = reader.at
    byte = reader.byte()
    if byte == 2:
        raise reader.unsupported("values", at)
    sort = CORE_SORT_BYTES.get(reader.byte()) if byte == 0 else SORT_BYTES.get(byte)
    if sort is None:
        raise reader.invalid("no sort of thing that components know", at)
    return sort


@dataclass(frozen=True, slots=True)
class ExternName:
    """The name of an import or export, and what stands beside it."""

    text: str
    implements: str | None = None
    """The interface that an instance with a name of its own implements: `wasi:keyvalue/store@0.2.0`."""


def extern_name(reader: Reader, what: str) -> ExternName:
    """The name of an import or export. What is said beside it only for tools (`external-id`) is passed over."""
    at = reader.at
    match reader.byte():
        case 0 | 1:  # components of 2023 have a 1 before the names of interfaces
            return ExternName(reader.name())
        case 2:
            return _name_with_options(reader, what, at)
        case other:
            raise reader.invalid(f"{other:#x} where a name is expected", at)


def _name_with_options(reader: Reader, what: str, at: int) -> ExternName:
    text = reader.name()
    options: dict[int, str] = {}
    for _ in range(reader.count("options of a name", 3)):
        option = reader.byte()
        if option in options or option > 2:
            raise reader.invalid(f"{option:#x} is no option of a name, or is given twice", at)
        options[option] = reader.name()
    if 1 in options:
        raise reader.unsupported(f"the {what} {text} has a versionsuffix", at)
    implements = options.get(0)
    if implements is not None:
        parsed, interface = names.parse(text), names.parse(implements)
        if parsed is None or parsed.kind != "label" or interface is None or interface.kind != "interface":
            raise reader.invalid(f"the {what} {text} can't be said to implement {implements}", at)
    return ExternName(text, implements)


def declare_import(scope: Scope, reader: Reader, at: int, extern: ExternName, type_: ExternType) -> None:
    """Checks an import's name and type, and remembers both."""
    name = extern.text
    _check_implements(reader, at, extern, type_)
    scope.import_names.add(reader, at, "import", name, type_)
    if scope.kind != "instance type" and not scope.name_import(type_):
        raise reader.invalid(f"the import {name} uses a type that is not imported by a name itself", at)
    scope.imports[name] = type_
    _call(type_, name)


def declare_export(scope: Scope, reader: Reader, at: int, extern: ExternName, item: Item) -> None:
    """Checks an export's name and type, and remembers both."""
    name, type_ = extern.text, type_of(item)
    _check_implements(reader, at, extern, type_)
    parsed = scope.export_names.add(reader, at, "export", name, type_)
    if parsed.kind in ("dependency", "url", "hash"):
        raise reader.invalid(f"{name!r} is a name for imports only", at)
    if scope.kind != "instance type" and not scope.name_export(type_):
        raise reader.invalid(f"the export {name} uses a type that is not exported by a name itself", at)
    scope.exports[name] = item
    _call(type_, name)


def _check_implements(reader: Reader, at: int, extern: ExternName, type_: ExternType) -> None:
    if extern.implements is not None and not isinstance(type_, InstanceType):
        raise reader.invalid(f"{extern.text} is no instance, and can't implement {extern.implements}", at)


def _call(type_: ExternType, name: str) -> None:
    """A resource is called by the first name that it gets."""
    if isinstance(type_, TypeExtern) and isinstance(type_.type, ResourceType) and not type_.type.name:
        type_.type.name = name
