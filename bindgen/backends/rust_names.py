"""What things are called in the Rust module of an interface, and what its types are in Rust."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping
from functools import cache

from bindgen.backends.scope import Scope, camel, full_name, slug, snake
from bindgen.wit_parser.model import (
    Alias,
    Enum,
    ExpectedOf,
    Flags,
    Function,
    FunctionKind,
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
    components,
    contains_handle,
    functions_of,
    has_heap,
    mentioned,
    spelling,
    unaliased,
    without_aliases,
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
_TAKEN_BY_HOST = frozenset(["Future", "H", "Host", "R", "Send", "Sync", "T"])
_LONGEST = 40
"""How much of the name of a helper function may say what its type is made of."""

_LOCALS_OF_HOST = frozenset([
    "answer", "asked", "blocks", "caller", "handle", "host", "lift", "lower", "owned", "pair", "params", "params_at",
    "result", "store", "this",
])
_TAKEN_BY_FUNCTION = frozenset(["function", "import", "loan", "params", "result", "slots", "this"])
# fmt: on


def name_modules(interfaces: Iterable[Interface]) -> dict[Interface, str]:
    """The modules of the interfaces. There are file systems that don't tell upper from lower case.

    A module `std` of a crate would be what `std::` means there, and the roots of crates are in files called `lib` and
    `main`.
    """
    taken = ["canonical_abi", "alloc", "core", "lib", "main", "std", "wasmtime"]
    files = Scope([*_KEYWORDS, *taken], same=str.casefold)
    return {interface: files.claim(interface, snake(interface.name)) for interface in interfaces}


@cache
def field_names(definition: TypeDef) -> tuple[str, ...]:
    """The fields of a record."""
    assert isinstance(definition.kind, Record)
    scope = Scope(_KEYWORDS, same=_same)
    return tuple(scope.fresh(snake(field.name)) for field in definition.kind.fields)


@cache
def case_names(definition: TypeDef) -> tuple[str, ...]:
    """The cases of a variant, an enum or a union; those of a union are numbered."""
    kind = definition.kind
    assert isinstance(kind, Variant | Union | Enum)
    scope = Scope(_TAKEN_BY_MODULE, same=_same)
    prefix = "Case" if isinstance(kind, Union) else ""
    return tuple(scope.fresh(prefix + camel(case.name)) for case in kind.cases)


@cache
def flag_names(definition: TypeDef) -> tuple[str, ...]:
    """The constants of flags: `READ_ONLY` for `read-only`."""
    assert isinstance(definition.kind, Flags)
    scope = Scope(same=_same)
    return tuple(scope.fresh(label.name.replace("-", "_").upper()) for label in definition.kind.names)


@cache
def _function_names(interface: Interface) -> dict[Function, str]:
    """The free functions, and those of each resource."""
    found: dict[Function, str] = {}
    for functions in (interface.functions, *(resource.functions for resource in interface.resources)):
        scope = Scope(_KEYWORDS, same=_same)
        found |= {function: scope.fresh(snake(function.name)) for function in functions}
    return found


@cache
def params_of(function: Function) -> tuple[tuple[str, Type], ...]:
    """Names and types of what a call passes. A method's own resource comes first, as `this`."""
    scope = Scope([*_KEYWORDS, *_TAKEN_BY_FUNCTION], same=_same)
    params = tuple((scope.fresh(snake(param.name)), param.type) for param in function.params)
    if function.kind is FunctionKind.METHOD:
        assert function.resource is not None
        return (("this", function.resource), *params)
    return params


@cache
def _type_scope(interface: Interface, taken: frozenset[str]) -> Scope:
    """The names of the types that are defined in a module (`TypeDef`, `Resource`), of those from others (`Use`), and of
    the traits and destructors of resources. `taken` are those that the modules of a side use themselves."""
    scope = Scope([*_TAKEN_BY_MODULE, *taken], same=_same)
    defined: list[TypeDef | Resource] = [*interface.types, *interface.resources]
    for definition in defined:
        scope.claim(definition, camel(definition.name))
    for use in interface.uses:
        scope.claim(use, camel(use.name))
    for resource in interface.resources:
        scope.claim(("trait", resource), f"Guest{scope[resource]}")
        scope.claim(("destructor", resource), f"__drop_{snake(resource.name)}")
    return scope


@cache
def _type_names(interface: Interface, taken: frozenset[str]) -> dict[TypeDef | Resource, str]:
    """What types are called in a module. One that is used under several names has the first of them."""
    scope = _type_scope(interface, taken)
    defined: list[TypeDef | Resource] = [*interface.types, *interface.resources]
    used = {use.target: scope[use] for use in reversed(interface.uses)}
    return used | {definition: scope[definition] for definition in defined}


def _same(name: str) -> str:
    """Rust compares identifiers in the form NFC."""
    return unicodedata.normalize("NFC", name)


class Names:
    """The names in the module of one interface."""

    _taken: frozenset[str] = frozenset()

    def __init__(self, interface: Interface, modules: Mapping[Interface, str]) -> None:
        """`modules` are the modules of all interfaces."""
        self._interface = interface
        self._modules = modules
        self._types = _type_names(interface, self._taken)
        self._functions = _function_names(interface)
        self._wide = _wide_tuples(interface, self._taken)

    def use(self, definition: TypeDef | Resource) -> str:
        """The name of a definition's type."""
        there = _type_names(definition.interface, self._taken)[definition]
        return self._types.get(definition) or self._elsewhere(definition.interface, there)

    def used(self) -> dict[str, list[tuple[str, str]]]:
        """What is used from other modules, by module: names there, and here."""
        found: dict[str, list[tuple[str, str]]] = {}
        for use in self._interface.uses:
            there = _type_names(use.target.interface, self._taken)[use.target]
            names = found.setdefault(self._modules[use.target.interface], [])
            names.append((there, _type_scope(self._interface, self._taken)[use]))
        return found

    @property
    def module(self) -> str:
        """The module's own name."""
        return self._modules[self._interface]

    def function(self, function: Function) -> str:
        return self._functions[function]

    def guest_trait(self, resource: Resource) -> str:
        """The name of the trait of a resource that this interface has the guest define."""
        return _type_scope(resource.interface, self._taken)["trait", resource]

    def destructor(self, resource: Resource) -> str:
        """The name of the function that drops a resource of the guest for the host."""
        return _type_scope(resource.interface, self._taken)["destructor", resource]

    def wide(self, tuple_: TupleOf) -> str:
        """The name of the struct that a tuple of more than MAX_TUPLE items is."""
        interface, name = self._wide[tuple_]
        return name if interface is self._interface else self._elsewhere(interface, name)

    def own_wide(self) -> list[TupleOf]:
        """The long tuples whose structs are in this module."""
        return [tuple_ for tuple_, (interface, _) in self._wide.items() if interface is self._interface]

    def _elsewhere(self, interface: Interface, name: str) -> str:
        return f"super::{self._modules[interface]}::{name}"

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
                return self.wide(type_) if len(items) > MAX_TUPLE else tuple_of(map(self.owned, items))
        raise TypeError(f"there is no {spelling(type_)[0]} in WIT of 2022")

    def borrowed(self, type_: Type) -> str:
        """The type of a parameter of an import: what isn't a number or the like is borrowed."""
        if is_reference(type_):
            return f"&{self.viewed(type_)}"
        match unaliased(type_):
            case OptionOf(value):
                return f"Option<{self.borrowed(value)}>"
            case ExpectedOf(ok, err):
                return f"Result<{self.borrowed(ok)}, {self.borrowed(err)}>"
            case TupleOf(items) if len(items) <= MAX_TUPLE:
                return tuple_of(map(self.borrowed, items))
        return self.owned(type_)

    def viewed(self, type_: Type) -> str:
        """What is behind a reference to a value."""
        match unaliased(type_):
            case Primitive.STRING:
                return "str"
            case ListOf(element):
                return f"[{self.owned(element)}]"
        return self.owned(type_)


class HostNames(Names):
    """The names in the module of one interface, for a host."""

    _taken = _TAKEN_BY_HOST

    def __init__(
        self, interface: Interface, modules: Mapping[Interface, str], exports: Collection[Interface] = ()
    ) -> None:
        """`exports` are the interfaces that the guest exports: it defines their resources."""
        super().__init__(interface, modules)
        self._exports = exports
        self._module = _type_scope(interface, self._taken).nested([*_KEYWORDS, "add_to_linker"])
        # In this order whoever asks first, so that others can ask for the same names.
        for resource in interface.resources:
            self.trait(resource)
            self.dyn(resource)
        for function in functions_of(interface):
            self.exported(function)
        host = Scope([*_KEYWORDS], same=_same)
        self._methods = dict(self._functions)
        for function in functions_of(interface):
            if function.kind is not FunctionKind.METHOD:
                self._methods[function] = host.fresh(snake(full_name(function)))

    def is_guests(self, resource: Resource) -> bool:
        """Whether the guest defines the resource."""
        return resource.interface in self._exports

    def method(self, function: Function) -> str:
        """The method of the host's trait, or of the trait of a resource, that answers an import."""
        return self._methods[function]

    def trait(self, resource: Resource) -> str:
        """The trait that the host implements for a resource."""
        return self._module.claim(("trait", resource), f"Host{self.use(resource)}")

    def dyn(self, resource: Resource) -> str:
        """The trait of whatever implements `trait`."""
        return self._module.claim(("dyn", resource), f"Dyn{self.use(resource)}")

    def imported(self, function: Function) -> str:
        """What answers a function that the guest imports."""
        return self._module.claim(("import", function), f"import_{snake(full_name(function))}")

    def exported(self, function: Function) -> str:
        """The type of a function that the guest exports."""
        return self._module.claim(("export", function), camel(full_name(function)))

    def helper(self, operation: str, type_: Type) -> str:
        """What does something with values of a type: `load_option_u8`."""
        return self._module.claim((operation, without_aliases(type_)), f"{operation}_{slug(type_)[:_LONGEST]}")

    def function_scope(self) -> Scope:
        """The names in a function that answers or makes a call."""
        return self._module.nested([*_KEYWORDS, *_LOCALS_OF_HOST])


def is_reference(type_: Type) -> bool:
    """Whether a parameter of an import is a reference, and not a value that may be made of some."""
    match unaliased(type_):
        case TupleOf(items):
            return len(items) > MAX_TUPLE
        case Primitive.STRING | ListOf() | Resource() | TypeDef(kind=Record() | Variant() | Union()):
            return True
    return False


def derives(type_: Type) -> str:
    """The traits that a type has from `derive`."""
    if contains_handle(type_):
        return "#[derive(Debug)]"
    copy = "Copy, " if is_copy(type_) else ""
    eq = "" if _contains_float(type_) else ", Eq"
    return f"#[derive(Clone, {copy}Debug, PartialEq{eq})]"


def is_copy(type_: Type) -> bool:
    """Whether copying a value's bytes copies the value."""
    return not has_heap(type_) and not contains_handle(type_)


def _contains_float(type_: Type) -> bool:
    real = unaliased(type_)
    return real in (Primitive.FLOAT32, Primitive.FLOAT64) or any(map(_contains_float, components(real)))


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
        waiting += components(type_)
        if isinstance(type_, TypeDef) and (type_.name == "error" or type_.name.endswith("-error")):
            found.add(type_)
        if isinstance(type_, ExpectedOf) and isinstance(err := unaliased(type_.err), TypeDef):
            found.add(err)
    return found


def _within(interface: Interface) -> list[Type]:
    """The types that a module mentions, and what they are made of, once each, as far as the module has their text."""
    found: dict[Type, None] = {}
    waiting = mentioned(interface)[::-1]
    while waiting:
        type_ = waiting.pop()
        if type_ in found or (isinstance(type_, TypeDef) and type_.interface is not interface):
            continue
        found[type_] = None
        if isinstance(type_, TypeDef) and isinstance(type_.kind, Alias):
            waiting.append(type_.kind.type)
        else:
            waiting += components(type_)[::-1]
    return list(found)


def anonymous_types(interface: Interface) -> list[Type]:
    """The options, expecteds and tuples of Rust's own that a module mentions, once each."""
    found: dict[Type, Type] = {}
    for type_ in _within(interface):
        is_tuple = isinstance(type_, TupleOf) and 0 < len(type_.items) <= MAX_TUPLE
        if is_tuple or isinstance(type_, OptionOf | ExpectedOf):
            found.setdefault(without_aliases(type_), type_)
    return list(found.values())


@cache
def _wide_tuples(interface: Interface, taken: frozenset[str]) -> dict[TupleOf, tuple[Interface, str]]:
    """The tuples that are structs here, each with the first interface that mentions it and its name there."""
    found: dict[TupleOf, tuple[Interface, str]] = {}
    for used in sorted({use.target.interface for use in interface.uses}, key=lambda used: used.name):
        for tuple_, place in _wide_tuples(used, taken).items():
            found.setdefault(tuple_, place)
    for type_ in _within(interface):
        if isinstance(type_, TupleOf) and len(type_.items) > MAX_TUPLE and type_ not in found:
            found[type_] = interface, _type_scope(interface, taken).claim(type_, f"Tuple{len(type_.items)}")
    return found


def tuple_of(items: Iterable[str]) -> str:
    """A tuple of types, or of values."""
    items = tuple(items)
    return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
