"""Types of components and their values for hypothesis, and generated modules of interfaces that are made of them."""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from hypothesis import strategies as st

from bindgen.backends import python
from bindgen.structure import key_of
from bindgen.wit_packages import load_package
from bindgen.wit_parser.model import (
    Alias,
    Case,
    Enum,
    ExpectedOf,
    Field,
    Flags,
    Function,
    FunctionKind,
    Interface,
    Label,
    ListOf,
    OptionOf,
    Own,
    Package,
    Param,
    Primitive,
    Record,
    Resource,
    TupleOf,
    Type,
    TypeDef,
    Use,
    Variant,
    World,
)
from tests.bindgen.specification import despecialized

PACKAGE = Package("test", "values", "1.0.0")


def new_interface(name: str) -> Interface:
    return Interface(name, Path(f"{name}.wit"), "", (), (), (), (), PACKAGE)


THINGS = new_interface("things")
THING = Resource("thing", "", THINGS, ())
THINGS.resources = (THING,)
KEY = key_of(THING)

_numbers = itertools.count()


def defined(kind: Any) -> TypeDef:
    """A type with a name of its own; `interface_of` says where it belongs."""
    return TypeDef(f"t{next(_numbers)}", "", THINGS, kind)


def labels(count: int) -> tuple[Label, ...]:
    return tuple(Label(f"l{number}", "") for number in range(count))


def cases(payloads: Sequence[Type | None]) -> tuple[Case, ...]:
    return tuple(Case(f"c{number}", "", payload) for number, payload in enumerate(payloads))


def fields(types: Sequence[Type]) -> tuple[Field, ...]:
    return tuple(Field(f"f{number}", "", type_) for number, type_ in enumerate(types))


SIMPLE: st.SearchStrategy[Type] = st.one_of(
    st.sampled_from([each for each in Primitive if each not in (Primitive.UNIT, Primitive.ERROR_CONTEXT)]),
    st.just(Own(THING)),
    st.sampled_from([1, 8, 9, 16, 17, 32]).map(lambda count: defined(Flags(labels(count)))),
    st.sampled_from([1, 2, 255, 256, 257]).map(lambda count: defined(Enum(labels(count)))),
)


def compound(inner: st.SearchStrategy[Type]) -> st.SearchStrategy[Type]:
    some = st.lists(inner, min_size=1, max_size=4)
    maybe = st.one_of(st.just(Primitive.UNIT), inner)
    payloads = st.lists(st.one_of(st.none(), inner), min_size=1, max_size=4)
    return st.one_of(
        inner.map(ListOf),
        inner.map(OptionOf),
        st.builds(ExpectedOf, maybe, maybe),
        some.map(lambda types: TupleOf(tuple(types))),
        some.map(lambda types: defined(Record(fields(types)))),
        payloads.map(lambda types: defined(Variant(cases(types)))),
        inner.map(lambda type_: defined(Alias(type_))),
    )


TYPES: st.SearchStrategy[Type] = st.recursive(SIMPLE, compound, max_leaves=8)

_INTEGERS = {
    Primitive.U8: (0, 8),
    Primitive.U16: (0, 16),
    Primitive.U32: (0, 32),
    Primitive.U64: (0, 64),
    Primitive.S8: (1, 8),
    Primitive.S16: (1, 16),
    Primitive.S32: (1, 32),
    Primitive.S64: (1, 64),
}


def values_of(type_: Type) -> st.SearchStrategy[Any]:
    """Values as `tests.bindgen.specification` has them; a handle is the number of what it stands for."""
    kind, inside = despecialized(type_)
    if kind == "scalar":
        if inside is Primitive.BOOL:
            return st.booleans()
        if inside is Primitive.CHAR:
            return st.characters(exclude_categories=("Cs",))
        if inside in (Primitive.FLOAT32, Primitive.FLOAT64):
            return st.floats(width=32 if inside is Primitive.FLOAT32 else 64, allow_nan=False)
        is_signed, bits = _INTEGERS[inside]
        low = -(1 << bits - 1) if is_signed else 0
        return st.integers(low, low + (1 << bits) - 1)
    if kind == "string":
        return st.text(max_size=5)
    if kind == "list":
        return st.lists(values_of(inside), max_size=4)
    if kind == "record":
        return st.tuples(*map(values_of, inside))
    if kind == "flags":
        return st.integers(0, (1 << inside) - 1)
    if kind == "handle":
        return st.integers(0, 3)
    return st.one_of(
        *(st.tuples(st.just(n), st.none() if case is None else values_of(case)) for n, case in enumerate(inside))
    )


def handles_changed(type_: Type, value: Any, change: Callable[[Any], Any]) -> Any:
    """The value with other handles in it."""
    kind, inside = despecialized(type_)
    if kind == "handle":
        return change(value)
    if kind == "list":
        return [handles_changed(inside, each, change) for each in value]
    if kind == "record":
        return tuple([handles_changed(part, each, change) for part, each in zip(inside, value, strict=True)])
    if kind == "variant" and inside[value[0]] is not None:
        return value[0], handles_changed(inside[value[0]], value[1], change)
    return value


def interface_of(*functions: tuple[str, Sequence[Type], Type], is_async: bool = False) -> Interface:
    """An interface with free functions: name, types of the parameters `p0`, `p1` and so on, type of the result."""
    interface = new_interface("functions")
    made = []
    definitions: dict[TypeDef, None] = {}
    for name, params, result in functions:
        listed = tuple(Param(f"p{number}", type_) for number, type_ in enumerate(params))
        made.append(Function(name, "", FunctionKind.FREE, None, listed, result, is_async))
        for type_ in (*params, result):
            _collect(type_, definitions)
    for definition in definitions:
        definition.interface = interface
    interface.types, interface.functions = tuple(definitions), tuple(made)
    interface.uses = (Use("thing", THING),)
    return interface


def _collect(type_: Type, found: dict[TypeDef, None]) -> None:
    """The definitions in a type, those that others are made of first."""
    match type_:
        case TypeDef(kind=Alias(target)):
            _collect(target, found)
        case ListOf(inner) | OptionOf(inner):
            _collect(inner, found)
        case ExpectedOf(ok, err):
            _collect(ok, found)
            _collect(err, found)
        case TupleOf(items):
            for item in items:
                _collect(item, found)
        case TypeDef(kind=Record(parts)):
            for part in parts:
                _collect(part.type, found)
        case TypeDef(kind=Variant(those)):
            for case in those:
                if case.type is not None:
                    _collect(case.type, found)
    if isinstance(type_, TypeDef):
        found[type_] = None


def module_of(interface: Interface, directory: Path) -> ModuleType:
    """The generated module of an interface that a component both imports and exports."""
    return modules_of([interface], [interface], directory)[interface.name.replace("-", "_")]


def modules_of(imports: Sequence[Interface], exports: Sequence[Interface], directory: Path) -> dict[str, ModuleType]:
    """The generated modules, by their names."""
    root = f"generated_{next(_numbers)}"
    modules = {}
    for path, text in python.write(imports, exports).items():
        (directory / root / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / root / path).write_text(text)
    sys.path.insert(0, str(directory))
    try:
        importlib.invalidate_caches()
        for path in python.write(imports, exports):
            name = path.removesuffix(".py").replace("/", ".")
            modules[name.rpartition(".")[2]] = importlib.import_module(f"{root}.{name}")
    finally:
        sys.path.remove(str(directory))
    return modules


def modules_of_text(text: str, directory: Path) -> dict[str, ModuleType]:
    """The generated modules of a package with one world."""
    path = directory / "package.wit"
    path.write_text(text)
    return modules_of(*sides_of(load_package(path).world("")), directory)


def sides_of(world: World) -> tuple[list[Interface], list[Interface]]:
    """The interfaces that a world imports, and those that it exports."""
    imports, exports = (
        [each for each in side if isinstance(each, Interface)] for side in (world.imports, world.exports)
    )
    return imports, exports
