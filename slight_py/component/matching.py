"""Types compared and rewritten: which type fits where another one is asked for, and with which resources.

Source: "Component Model AST Explainer", "Type Checking", and Subtyping.md. As in wasmtime, what fits is what is equal,
but for instances, components and core modules: they may export more and import less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from slight_py.component.errors import UnsupportedComponent
from slight_py.component.types import (
    AnyType,
    Borrow,
    ComponentType,
    CoreExternType,
    ExternType,
    Field,
    FuncType,
    GlobalType,
    InstanceType,
    Limits,
    MemoryType,
    ModuleType,
    Own,
    ResourceType,
    TableType,
    TypeExtern,
    ValueType,
    text,
    with_parts,
)

Mapped: TypeAlias = dict[ResourceType, ResourceType]
"""Which resource stands in for which."""

MAX_WORK = 500_000
"""How many definitions, types and names are looked at in all: some two seconds' worth. A Python guest of 18 MB, with 14
core modules, takes 18,000."""

MAX_DEPTH = 20
"""How deeply components, their types and those of instances may be nested."""

T = TypeVar("T")


@dataclass(slots=True)
class Work:
    """Counts what has been done, since a small file can describe very much: an instance of an instance of an instance.

    It knows, too, where in the file the reader is, for errors that have no reader at hand.
    """

    at: int = 0
    left: int = MAX_WORK

    def spend(self, amount: int) -> None:
        """Raises UnsupportedComponent when it is too much."""
        self.left -= amount
        if self.left < 0:
            raise self.unsupported("what the component describes is too large, once all of it is instantiated")

    def check_depth(self, depth: int) -> None:
        """Raises UnsupportedComponent for components, or component and instance types, that are nested so deeply that
        walking through them would take more frames than Python has.
        """
        if depth > MAX_DEPTH:
            raise self.unsupported(f"components and their types are nested more than {MAX_DEPTH} deep")

    def unsupported(self, problem: str) -> UnsupportedComponent:
        return UnsupportedComponent(self.at, problem)


# Rewriting.


@dataclass(slots=True)
class Substitution:
    """Puts resources in the place of others, everywhere in a type."""

    work: Work
    mapped: Mapped
    _done: dict[int, tuple[object, object]] = field(default_factory=dict)
    """By identity what was rewritten already: the type, which is held here so that its identity stays its own, and
    what became of it."""

    def extern(self, type_: ExternType) -> ExternType:
        match type_:
            case FuncType():
                return self.function(type_)
            case InstanceType():
                return self._once(type_, self._instance)
            case ComponentType():
                return self._once(type_, self._component)
            case TypeExtern():
                return TypeExtern(self.any(type_.type))
        return type_  # core modules know no resources

    def any(self, type_: AnyType) -> AnyType:
        match type_:
            case ResourceType():
                return self.mapped.get(type_, type_)
            case ValueType():
                return self.value(type_)
            case FuncType():
                return self.function(type_)
            case InstanceType():
                return self._once(type_, self._instance)
            case ComponentType():
                return self._once(type_, self._component)

    def function(self, type_: FuncType) -> FuncType:
        self.work.spend(1 + len(type_.params))
        params = tuple(Field(each.name, self.value(each.type)) for each in type_.params)
        return FuncType(params, type_.result and self.value(type_.result), type_.is_async)

    def value(self, type_: ValueType) -> ValueType:
        return self._once(type_, self._value) if type_.has_resource else type_

    def _once(self, type_: T, rewrite: Callable[[T], T]) -> T:
        done = self._done.get(id(type_))
        if done is None:
            self.work.spend(5)
            done = self._done[id(type_)] = (type_, rewrite(type_))
        return done[1]  # type: ignore[return-value]  # what `rewrite` made of a T

    def _value(self, type_: ValueType) -> ValueType:
        if isinstance(type_, Own | Borrow):
            return type(type_)(self.mapped.get(type_.resource, type_.resource))
        return with_parts(type_, self.value)

    def _instance(self, type_: InstanceType) -> InstanceType:
        return InstanceType(self._all(type_.exports), type_.resources)

    def _component(self, type_: ComponentType) -> ComponentType:
        return ComponentType(
            self._all(type_.imports), self._all(type_.exports), type_.imported_resources, type_.defined_resources
        )

    def _all(self, types: Mapping[str, ExternType]) -> dict[str, ExternType]:
        self.work.spend(5 * len(types))
        return {name: self.extern(each) for name, each in types.items()}


def fresh(work: Work, type_: InstanceType, interface: str = "") -> tuple[InstanceType, tuple[ResourceType, ...]]:
    """The type of one instance of this type, whose resources are its own, and those resources."""
    if not type_.resources:
        return type_, ()
    work.spend(5 * len(type_.resources))
    mapped = {each: ResourceType(each.name, interface) for each in type_.resources}
    substitution = Substitution(work, mapped)
    exports = {name: substitution.extern(each) for name, each in type_.exports.items()}
    return InstanceType(exports), tuple(mapped.values())


def has_free_resources(work: Work, type_: AnyType) -> bool:
    """Whether a resource is in a type that isn't bound by it, as the resources of an instance type are."""
    return bool(_Free(work).of(type_))


@dataclass(slots=True)
class _Free:
    work: Work
    _done: dict[int, tuple[object, frozenset[ResourceType]]] = field(default_factory=dict)

    def of(self, type_: AnyType | ExternType) -> frozenset[ResourceType]:
        if isinstance(type_, ValueType) and not type_.has_resource:
            return frozenset()
        done = self._done.get(id(type_))
        if done is None:
            self.work.spend(1)
            done = self._done[id(type_)] = (type_, self._of(type_))
        return done[1]

    def _of(self, type_: AnyType | ExternType) -> frozenset[ResourceType]:
        match type_:
            case ResourceType():
                return frozenset((type_,))
            case Own() | Borrow():
                return frozenset((type_.resource,))
            case ValueType():
                return self._union(type_.parts())
            case FuncType():
                return self._union([each.type for each in type_.params] + [type_.result] * (type_.result is not None))
            case InstanceType():
                return self._union(type_.exports.values()).difference(type_.resources)
            case ComponentType():
                inner = self._union([*type_.imports.values(), *type_.exports.values()])
                return inner.difference(type_.imported_resources, type_.defined_resources)
            case TypeExtern():
                return self.of(type_.type)
        return frozenset()

    def _union(self, types: Iterable[AnyType | ExternType | None]) -> frozenset[ResourceType]:
        found = [self.of(each) for each in types if each is not None]
        self.work.spend(sum(map(len, found)))
        return frozenset().union(*found)


# Comparing. What doesn't fit is said in a phrase; None means that it fits.


def mismatch(work: Work, actual: ExternType, expected: ExternType) -> str | None:
    """Why something of the type `actual` can't be where `expected` is asked for."""
    work.spend(1)
    if actual is expected:
        return None
    match actual, expected:
        case FuncType(), FuncType():
            return _function_mismatch(work, actual, expected)
        case InstanceType(), InstanceType():
            return _exports_mismatch(work, actual.exports, expected.exports)
        case ComponentType(), ComponentType():
            return _component_mismatch(work, actual, expected)
        case ModuleType(), ModuleType():
            return module_mismatch(work, actual, expected)
        case TypeExtern(), TypeExtern():
            return _type_mismatch(work, actual.type, expected.type)
    return f"{kind(actual)} where {kind(expected)} is asked for"


def kind(type_: ExternType | AnyType) -> str:
    """What sort of thing has such a type, with its article."""
    match type_:
        case FuncType():
            return "a function"
        case InstanceType():
            return "an instance"
        case ComponentType():
            return "a component"
        case ModuleType():
            return "a core module"
    return "a type"


def _exports_mismatch(work: Work, actual: Mapping[str, ExternType], expected: Mapping[str, ExternType]) -> str | None:
    for name, type_ in expected.items():
        if name not in actual:
            return f"it has no {name}"
        if problem := mismatch(work, actual[name], type_):
            return f"{name}: {problem}"
    return None


def _function_mismatch(work: Work, actual: FuncType, expected: FuncType) -> str | None:
    for each in (actual, expected):
        work.spend(1 + sum(param.type.nodes for param in each.params) + (each.result.nodes if each.result else 0))
    if actual == expected:
        return None
    if (found := _short(actual)) != (asked := _short(expected)):
        return f"{found} where {asked} is asked for"
    return f"{found} of another resource than the one that is asked for"


def _short(type_: FuncType | ValueType) -> str:
    written = text(type_)
    return written if len(written) <= 200 else f"{written[:200]}..."


def _type_mismatch(work: Work, actual: AnyType, expected: AnyType) -> str | None:
    match actual, expected:
        case ResourceType(), ResourceType():
            return None if actual is expected else "another resource than the one that is asked for"
        case ValueType(), ValueType():
            work.spend(actual.nodes + expected.nodes)
            if actual == expected:
                return None
            return f"the type {_short(actual)} where {_short(expected)} is asked for"
        case FuncType(), FuncType():
            return _function_mismatch(work, actual, expected)
        case InstanceType(), InstanceType():
            return mismatch(work, actual, expected)
        case ComponentType(), ComponentType():
            return mismatch(work, actual, expected)
    return "a type of another kind than the one that is asked for"


def bind(
    work: Work, actual: Mapping[str, ExternType], expected: Mapping[str, ExternType], resources: Iterable[ResourceType]
) -> tuple[Mapped, str | None]:
    """Which resources of `actual` stand for those of `expected`, and why `actual` has not all that is expected.

    A resource stands for the one of the same name, in the instance of the same name.
    """
    mapped: Mapped = {}
    _bind(work, actual, expected, set(resources), mapped)
    substitution = Substitution(work, mapped)
    for name, type_ in expected.items():
        if name not in actual:
            return mapped, f"{name} is missing"
        if problem := mismatch(work, actual[name], substitution.extern(type_)):
            return mapped, f"{name}: {problem}"
    return mapped, None


def _bind(
    work: Work,
    actual: Mapping[str, ExternType],
    expected: Mapping[str, ExternType],
    open_: set[ResourceType],
    mapped: Mapped,
) -> None:
    work.spend(len(expected))
    for name, type_ in expected.items():
        match type_, actual.get(name):
            case TypeExtern(ResourceType() as asked), TypeExtern(ResourceType() as given):
                if asked in open_:
                    mapped.setdefault(asked, given)
            case InstanceType(), InstanceType() as found:
                _bind(work, found.exports, type_.exports, open_, mapped)


def _component_mismatch(work: Work, actual: ComponentType, expected: ComponentType) -> str | None:
    """Whoever expects a component gives it the imports of `expected`, and wants the exports of `expected`."""
    mapped, problem = bind(work, expected.imports, actual.imports, actual.imported_resources)
    if problem:
        return f"import {problem}"
    substitution = Substitution(work, mapped)
    exports = {name: substitution.extern(each) for name, each in actual.exports.items()}
    _, problem = bind(work, exports, expected.exports, expected.defined_resources)
    return problem and f"export {problem}"


# Core modules.


def module_mismatch(work: Work, actual: ModuleType, expected: ModuleType) -> str | None:
    work.spend(len(actual.imports) + len(expected.exports))
    for (module, name), type_ in actual.imports.items():
        given = expected.imports.get((module, name))
        if given is None:
            return f"it imports {module} {name}"
        if problem := core_mismatch(given, type_):
            return f"import {module} {name}: {problem}"
    for export, type_ in expected.exports.items():
        found = actual.exports.get(export)
        if found is None:
            return f"it has no export {export}"
        if problem := core_mismatch(found, type_):
            return f"export {export}: {problem}"
    return None


def core_mismatch(actual: CoreExternType, expected: CoreExternType) -> str | None:
    match actual, expected:
        case (TableType(), TableType()) if actual.element == expected.element:
            return _limits_mismatch(actual.limits, expected.limits)
        case (MemoryType(), MemoryType()) if actual.page_size == expected.page_size:
            return _limits_mismatch(actual.limits, expected.limits)
        case (GlobalType(), GlobalType()) if actual.is_mutable != expected.is_mutable:
            return "one of the two globals is mutable"
    return None if actual == expected else f"{core_text(actual)} where {core_text(expected)} is asked for"


def _limits_mismatch(actual: Limits, expected: Limits) -> str | None:
    if (actual.is_64, actual.is_shared) != (expected.is_64, expected.is_shared):
        return "one of the two is for 64-bit addresses, or shared"
    if actual.minimum < expected.minimum:
        return f"a smallest size of {actual.minimum} where {expected.minimum} is asked for"
    if expected.maximum is not None and (actual.maximum is None or actual.maximum > expected.maximum):
        return f"a largest size of {actual.maximum} where {expected.maximum} is asked for"
    return None


def core_text(type_: CoreExternType) -> str:
    match type_:
        case TableType():
            return f"a table of {type_.element}"
        case MemoryType():
            return f"a memory with pages of {type_.page_size} bytes"
        case GlobalType():
            return f"a global of {type_.type}"
    function = type_ if not hasattr(type_, "type") else type_.type
    article = "a function" if function is type_ else "a tag"
    return f"{article} ({', '.join(function.params)}) -> ({', '.join(function.results)})"
