"""What is known while a component, a component type or an instance type is read: its index spaces, and the rules for
the names and the types of its imports and exports.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from slight_py.component import names
from slight_py.component.items import Item, kind_of
from slight_py.component.matching import Work
from slight_py.component.names import Name
from slight_py.component.reading import Reader
from slight_py.component.types import (
    AnyType,
    Borrow,
    Enum,
    ExternType,
    Field,
    Flags,
    FuncType,
    InstanceType,
    Own,
    Primitive,
    Record,
    ResourceType,
    ResultOf,
    TypeExtern,
    ValueType,
    Variant,
)

Sort: TypeAlias = Literal[
    "func",
    "type",
    "component",
    "instance",
    "core func",
    "core table",
    "core memory",
    "core global",
    "core tag",
    "core type",
    "core module",
    "core instance",
]
SORTS: tuple[Sort, ...] = get_args(Sort)


@dataclass(slots=True)
class Externs:
    """The imports, or the exports, of a component or of a type: their names, and the types that they give names to."""

    names: dict[tuple[str, str], str] = field(default_factory=dict)
    resources: dict[ResourceType, set[str]] = field(default_factory=dict)
    """By which names a resource is known here."""
    resource_names: set[str] = field(default_factory=set)
    types: set[ValueType | ResourceType] = field(default_factory=set)
    """Those that have a name here, or in an instance that is imported or exported."""
    names_resources: bool = True
    """False for an instance that is put together from items: it gives names to no resources, so its functions can't be
    methods."""

    def add(self, reader: Reader, at: int, what: str, text: str, type_: ExternType) -> Name:
        """Checks the name of an import or export, which has this type, and remembers it.

        `what` is `import` or `export`, for messages. Raises InvalidComponent.
        """
        name = names.parse(text)
        if name is None:
            if names.is_nested(text):
                raise reader.unsupported(f"the {what} {text} has nested namespaces or packages in its name", at)
            if names.is_accessor(text):
                raise reader.unsupported(f"the {what} {text} reads or writes a field of a resource", at)
            raise reader.invalid(f"{text!r} is no name for an {what}", at)
        if problem := self._problem(name, type_):
            raise reader.invalid(f"the {what} {text}: {problem}", at)
        if earlier := self.names.get(name.unique):
            raise reader.invalid(f"the {what} {text} is too like the {what} {earlier}", at)
        self.names[name.unique] = text
        if self.names_resources and isinstance(type_, TypeExtern) and isinstance(type_.type, ResourceType):
            self.resources.setdefault(type_.type, set()).add(text)
            self.resource_names.add(text)
        return name

    def _problem(self, name: Name, type_: ExternType) -> str | None:
        """What is wrong with the type of something that is named so."""
        if name.kind not in ("constructor", "method", "static"):
            return None
        if not isinstance(type_, FuncType):
            return "a name in brackets is for functions"
        match name.kind:
            case "constructor":
                return self._constructor_problem(name, type_)
            case "method":
                return self._method_problem(name, type_.params[:1])
        return None if name.resource in self.resource_names else f"there is no resource {name.resource} here"

    def _constructor_problem(self, name: Name, type_: FuncType) -> str | None:
        if type_.is_async:
            return "a constructor can't be async"
        result = type_.result.ok if isinstance(type_.result, ResultOf) else type_.result
        if not isinstance(result, Own):
            return "a constructor returns an own handle of its resource, or a result with one"
        return self._resource_problem(name, result.resource)

    def _method_problem(self, name: Name, first: tuple[Field, ...]) -> str | None:
        if not first or first[0].name != "self" or not isinstance(first[0].type, Borrow):
            return "the first parameter of a method is self, a borrowed handle of its resource"
        return self._resource_problem(name, first[0].type.resource)

    def _resource_problem(self, name: Name, resource: ResourceType) -> str | None:
        if name.resource in self.resources.get(resource, ()):
            return None
        return f"its resource is not the one that is called {name.resource} here"


@dataclass(eq=False, slots=True)
class Scope:
    """A component, a component type or an instance type that is being read."""

    kind: Literal["component", "component type", "instance type"]
    outer: Scope | None
    number: int | None
    """The number of the component instance; None where only the type is asked for."""
    work: Work
    spaces: dict[Sort, list[Any]] = field(default_factory=lambda: {sort: [] for sort in SORTS})
    imports: dict[str, ExternType] = field(default_factory=dict)
    exports: dict[str, Item] = field(default_factory=dict)
    import_names: Externs = field(default_factory=Externs)
    export_names: Externs = field(default_factory=Externs)
    imported_resources: list[ResourceType] = field(default_factory=list)
    defined_resources: list[ResourceType] = field(default_factory=list)
    """Those that are made anew for every instance of this."""
    own_resources: set[ResourceType] = field(default_factory=set)
    """Those that this component itself implements, whose representation it knows."""

    @property
    def is_type(self) -> bool:
        return self.kind != "component"

    def get(self, sort: Sort, reader: Reader) -> Any:
        """The item with the number that is read next. Raises InvalidComponent."""
        at = reader.at
        return self.at(sort, reader.u32(), reader, at)

    def at(self, sort: Sort, index: int, reader: Reader, at: int) -> Any:
        space = self.spaces[sort]
        if index >= len(space):
            raise reader.invalid(f"there is no {sort} {index} here, but {len(space):,} so far", at)
        return space[index]

    def add(self, item: Item) -> None:
        """Puts an item into its index space."""
        self.spaces[kind_of(item)].append(item)

    # Which types have names.

    def name_import(self, type_: ExternType) -> bool:
        """Remembers the types that an import gives names to. False if it uses one that has none itself."""
        return self._name(type_, self.import_names.types, [self.import_names.types, self.export_names.types])

    def name_export(self, type_: ExternType) -> bool:
        return self._name(type_, self.export_names.types, [self.export_names.types])

    def _name(self, type_: ExternType, known: set[ValueType | ResourceType], into: list[set[Any]]) -> bool:
        self.work.spend(1)
        match type_:
            case TypeExtern():
                if not self._has_names(type_.type, known):
                    return False
                if isinstance(type_.type, ValueType | ResourceType):
                    for each in into:
                        each.add(type_.type)
                return True
            case InstanceType():
                return all(self._name(each, known, into) for each in type_.exports.values())
            case FuncType():
                return self._function_has_names(type_, known)
        return True  # components and core modules stand for themselves

    def _has_names(self, type_: AnyType, known: set[ValueType | ResourceType]) -> bool:
        """Whether the types in this one have names; the type itself is being given one."""
        match type_:
            case Own() | Borrow():
                return type_.resource in known
            case ValueType():
                return self._all_named(type_.parts(), known)
            case FuncType():
                return self._function_has_names(type_, known)
            case InstanceType():
                return all(self._extern_has_names(each, known) for each in type_.exports.values())
        return True

    def _extern_has_names(self, type_: ExternType, known: set[ValueType | ResourceType]) -> bool:
        match type_:
            case TypeExtern():
                return self._has_names(type_.type, known)
            case FuncType() | InstanceType():
                return self._has_names(type_, known)
        return True

    def _function_has_names(self, type_: FuncType, known: set[ValueType | ResourceType]) -> bool:
        result = () if type_.result is None else (type_.result,)
        return self._all_named((*(each.type for each in type_.params), *result), known)

    def _all_named(self, types: Iterable[ValueType], known: set[ValueType | ResourceType]) -> bool:
        return all(self._is_named(each, known) for each in types)

    def _is_named(self, type_: ValueType, known: set[ValueType | ResourceType]) -> bool:
        """Records, variants, enums and flags must have names, and the resources of handles. Two types that say the
        same are taken for one here.
        """
        match type_:
            case Primitive():
                return True
            case Record() | Variant() | Enum() | Flags():
                self.work.spend(type_.nodes)
                return type_ in known
            case Own() | Borrow():
                return type_.resource in known
        self.work.spend(1)
        return self._all_named(type_.parts(), known)
