"""What things are called in the Rust module of an interface, and what its types are in Rust."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from bindgen import abi
from bindgen.wit_parser.model import (
    Alias,
    ExpectedOf,
    Function,
    Interface,
    ListOf,
    OptionOf,
    Primitive,
    Record,
    Resource,
    TupleOf,
    Type,
    TypeDef,
    Union,
    Variant,
    unaliased,
)

PRIMITIVES = {
    Primitive.BOOL: "bool",
    Primitive.U8: "u8",
    Primitive.S8: "i8",
    Primitive.U16: "u16",
    Primitive.S16: "i16",
    Primitive.U32: "u32",
    Primitive.S32: "i32",
    Primitive.U64: "u64",
    Primitive.S64: "i64",
    Primitive.FLOAT32: "f32",
    Primitive.FLOAT64: "f64",
    Primitive.CHAR: "char",
    Primitive.STRING: "String",
    Primitive.UNIT: "()",
}

MAX_TUPLE = 12
"""The standard library implements its traits for tuples of up to so many items. A longer one becomes a struct."""

# fmt: off
_KEYWORDS = frozenset([
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else",
    "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
    "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super", "trait", "true",
    "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
])
_TAKEN_BY_MODULE = frozenset([
    "Box", "Clone", "Drop", "Err", "FnOnce", "Guest", "None", "Ok", "Option", "Result", "Self", "Sized", "Some",
    "String", "Vec",
])
_TAKEN_BY_FUNCTION = frozenset(["function", "import", "loan", "params", "result", "this"])
# fmt: on


def snake(name: str) -> str:
    """`new-with-base` as `new_with_base`; a keyword of Rust gets an underscore."""
    text = name.replace("-", "_").lower()
    return f"{text}_" if text in _KEYWORDS else text


def camel(name: str) -> str:
    """`http-error` as `HttpError`."""
    text = "".join(part[:1].upper() + part[1:] for part in name.split("-"))
    return f"{text}_" if text in _TAKEN_BY_MODULE else text


def constant(name: str) -> str:
    """`read-only` as `READ_ONLY`."""
    return name.replace("-", "_").upper()


def local(name: str) -> str:
    """A parameter's name in a generated function."""
    text = snake(name)
    return f"{text}_" if text in _TAKEN_BY_FUNCTION else text


def module(interface: Interface) -> str:
    """The name of an interface's module."""
    text = snake(interface.name)
    return f"{text}_" if text == "canonical_abi" else text


class Names:
    """The names in the module of one interface."""

    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        self._used = {use.target: camel(use.name) for use in reversed(interface.uses)}
        self._wide = _wide_tuples(interface)

    def use(self, definition: TypeDef | Resource) -> str:
        """The name of a definition's type."""
        if definition.interface is self._interface:
            return camel(definition.name)
        return self._used.get(definition) or self._elsewhere(definition.interface, camel(definition.name))

    def guest_trait(self, resource: Resource) -> str:
        """The name of the trait of a resource that this interface has the guest define."""
        name = f"Guest{camel(resource.name)}"
        return f"{name}_" if name in _type_names(self._interface) else name

    def wide(self, tuple_: TupleOf) -> str:
        """The name of the struct that a tuple of more than MAX_TUPLE items is."""
        interface, name = self._wide[tuple_]
        return name if interface is self._interface else self._elsewhere(interface, name)

    def own_wide(self) -> list[TupleOf]:
        """The long tuples whose structs are in this module."""
        return [tuple_ for tuple_, (interface, _) in self._wide.items() if interface is self._interface]

    def _elsewhere(self, interface: Interface, name: str) -> str:
        return f"super::{module(interface)}::{name}"

    def owned(self, type_: Type) -> str:
        """The type of a result, and of what is part of another value."""
        match type_:
            case Primitive():
                return PRIMITIVES[type_]
            case TypeDef() | Resource():
                return self.use(type_)
            case ListOf(element):
                return f"Vec<{self.owned(element)}>"
            case OptionOf(value):
                return f"Option<{self.owned(value)}>"
            case ExpectedOf(ok, err):
                return f"Result<{self.owned(ok)}, {self.owned(err)}>"
            case TupleOf(items):
                return self.wide(type_) if len(items) > MAX_TUPLE else _tuple(map(self.owned, items))

    def borrowed(self, type_: Type) -> str:
        """The type of a parameter of an import: what isn't a number or the like is borrowed."""
        real = unaliased(type_)
        match real:
            case Primitive.STRING:
                return "&str"
            case ListOf(element):
                return f"&[{self.owned(element)}]"
            case OptionOf(value):
                return f"Option<{self.borrowed(value)}>"
            case ExpectedOf(ok, err):
                return f"Result<{self.borrowed(ok)}, {self.borrowed(err)}>"
            case TupleOf(items) if len(items) <= MAX_TUPLE:
                return _tuple(map(self.borrowed, items))
        return f"&{self.owned(type_)}" if is_borrowed(type_) else self.owned(type_)


def is_borrowed(type_: Type) -> bool:
    """Whether a parameter of an import is a reference to a type that has a name: a record, a variant, a resource."""
    match unaliased(type_):
        case TupleOf(items):
            return len(items) > MAX_TUPLE
        case Resource() | TypeDef(kind=Record() | Variant() | Union()):
            return True
    return False


def is_plain(type_: Type) -> bool:
    """Whether a list of it lies in Rust's memory as the ABI has it."""
    real = unaliased(type_)
    return isinstance(real, Primitive) and real not in (Primitive.STRING, Primitive.UNIT)


def derives(type_: Type) -> str:
    """The traits that a type has from `derive`."""
    if abi.contains_handle(type_):
        return "#[derive(Debug)]"
    copy = "Copy, " if is_copy(type_) else ""
    eq = "" if _contains_float(type_) else ", Eq"
    return f"#[derive(Clone, {copy}Debug, PartialEq{eq})]"


def is_copy(type_: Type) -> bool:
    """Whether copying a value's bytes copies the value."""
    return not abi.has_heap(type_) and not abi.contains_handle(type_)


def _contains_float(type_: Type) -> bool:
    real = unaliased(type_)
    return real in (Primitive.FLOAT32, Primitive.FLOAT64) or any(map(_contains_float, abi.components(real)))


def error_types(interfaces: Iterable[Interface]) -> set[TypeDef]:
    """The types that are errors: those on the `err` side of an expected, and those that are called so."""
    found = set()
    seen: set[Type] = set()
    waiting = [type_ for interface in interfaces for type_ in mentioned(interface)]
    while waiting:
        type_ = unaliased(waiting.pop())
        if type_ in seen:
            continue
        seen.add(type_)
        waiting += abi.components(type_)
        if isinstance(type_, TypeDef) and (type_.name == "error" or type_.name.endswith("-error")):
            found.add(type_)
        if isinstance(type_, ExpectedOf) and isinstance(err := unaliased(type_.err), TypeDef):
            found.add(err)
    return found


def all_functions(interface: Interface) -> tuple[Function, ...]:
    """The free ones, then those of each resource."""
    return (*interface.functions, *(each for resource in interface.resources for each in resource.functions))


def mentioned(interface: Interface) -> list[Type]:
    """The types that an interface defines or that its functions name."""
    types: list[Type] = list(interface.types)
    for function in all_functions(interface):
        types += [*(param.type for param in function.params), function.result]
    return types


def _type_names(interface: Interface) -> set[str]:
    """The names that an interface gives to types in its module."""
    defined = {camel(each.name) for each in interface.types} | {camel(each.name) for each in interface.resources}
    return defined | {camel(use.name) for use in interface.uses}


@cache
def _wide_tuples(interface: Interface) -> dict[TupleOf, tuple[Interface, str]]:
    """The tuples that are structs here, each with the first interface that mentions it and its name there."""
    found: dict[TupleOf, tuple[Interface, str]] = {}
    for used in sorted({use.target.interface for use in interface.uses}, key=lambda used: used.name):
        for tuple_, place in _wide_tuples(used).items():
            found.setdefault(tuple_, place)
    taken = _type_names(interface)
    seen: set[Type] = set()
    waiting = mentioned(interface)[::-1]
    while waiting:
        type_ = waiting.pop()
        if type_ in seen or (isinstance(type_, TypeDef) and type_.interface is not interface):
            continue
        seen.add(type_)
        if isinstance(type_, TupleOf) and len(type_.items) > MAX_TUPLE and type_ not in found:
            name = f"Tuple{len(type_.items)}"
            while name in taken:
                name += "_"
            taken.add(name)
            found[type_] = interface, name
        if isinstance(type_, TypeDef) and isinstance(type_.kind, Alias):
            waiting.append(type_.kind.type)
        else:
            waiting += abi.components(type_)[::-1]
    return found


def _tuple(items: Iterable[str]) -> str:
    items = tuple(items)
    return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
