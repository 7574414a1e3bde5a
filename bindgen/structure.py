"""The type of a function or a value as one text, which a component's own types are compared with.

It says nothing of the names of types, and is made from WIT here, and from a component's binary by
`slight_py.component.types`. Its parts, in today's WIT: the names of primitive types, with `f32` and `f64` for floats;
`list<T>`, `option<T>`, `tuple<T, U>`; `result<T, E>` with `_` for what there is none of; `record{a: T}`,
`variant{a, b(T)}`, `enum{a, b}`, `flags{a, b}`; `own<KEY>` and `borrow<KEY>`; `stream<T>`, `future<T>`;
`func(a: T) -> R`, `async func(a: T)`. The KEY of a resource is that of `key_of`.
"""

from __future__ import annotations

from collections.abc import Callable

from bindgen.wit_parser.model import (
    Borrow,
    Enum,
    ExpectedOf,
    FixedListOf,
    Flags,
    Function,
    FunctionKind,
    FutureOf,
    ListOf,
    OptionOf,
    Own,
    Primitive,
    Record,
    Resource,
    StreamOf,
    TupleOf,
    Type,
    TypeDef,
    Union,
    Variant,
    is_unit,
    unaliased,
)

_PRIMITIVES = {Primitive.FLOAT32: "f32", Primitive.FLOAT64: "f64"}


def key_of(resource: Resource) -> str:
    """What tells a resource from others, whatever the version of its interface: `wasi:io/streams/input-stream`."""
    package = resource.interface.package
    interface = f"{package.namespace}:{package.name}/{resource.interface.name}" if package else resource.interface.name
    return f"{interface}/{resource.name}"


def type_text(type_: Type, named: Callable[[TypeDef], str] | None = None) -> str:
    """The text of a type. `named` has another text for records, variants, enums and flags in it, or their own if it
    isn't given."""

    def text(inner: Type | None) -> str:
        if inner is None or is_unit(inner):
            return "_"
        inner = unaliased(inner)
        return named(inner) if named and isinstance(inner, TypeDef) else type_text(inner, named)

    match unaliased(type_):
        case Primitive() as primitive:
            return _PRIMITIVES.get(primitive, primitive.value)
        case ListOf(element):
            return f"list<{text(element)}>"
        case FixedListOf(element, length):
            return f"list<{text(element)}, {length}>"
        case OptionOf(value):
            return f"option<{text(value)}>"
        case ExpectedOf(ok, err):
            return f"result<{text(ok)}, {text(err)}>"
        case TupleOf(items):
            return f"tuple<{', '.join(map(text, items))}>"
        case Own(resource) | (Resource() as resource):
            return f"own<{key_of(resource)}>"
        case Borrow(resource):
            return f"borrow<{key_of(resource)}>"
        case StreamOf(carried) | FutureOf(carried) as channel:
            kind = "stream" if isinstance(channel, StreamOf) else "future"
            return kind if carried is None else f"{kind}<{text(carried)}>"
        case TypeDef() as definition:
            kind, inside = pieces(definition, text)
            return f"{kind}{{{', '.join(inside)}}}"


def pieces(definition: TypeDef, text: Callable[[Type], str]) -> tuple[str, list[str]]:
    """The parts of the text of a record, variant, enum or flags: which of them it is, and what stands in its braces.
    `text` has the texts of the types in it."""
    match definition.kind:
        case Record(fields):
            return "record", [f"{field.name}: {text(field.type)}" for field in fields]
        case Variant(cases) | Union(cases):
            return "variant", [f"{case.name}({text(case.type)})" if case.type else case.name for case in cases]
        case Enum(labels):
            return "enum", [label.name for label in labels]
        case Flags(labels):
            return "flags", [label.name for label in labels]
    raise TypeError(f"{definition.name} is an alias")


def function_text(function: Function, named: Callable[[TypeDef], str] | None = None) -> str:
    """The text of a function's type. A method takes its resource first, under the name `self`. For `named`, see
    `type_text`."""

    def text(type_: Type) -> str:
        real = unaliased(type_)
        return named(real) if named and isinstance(real, TypeDef) else type_text(real, named)

    params = [f"{param.name}: {text(param.type)}" for param in function.params]
    if function.kind is FunctionKind.METHOD:
        assert function.resource is not None
        params.insert(0, f"self: {type_text(Borrow(function.resource))}")
    head = "async func" if function.is_async else "func"
    result = "" if is_unit(function.result) else f" -> {text(function.result)}"
    return f"{head}({', '.join(params)}){result}"
