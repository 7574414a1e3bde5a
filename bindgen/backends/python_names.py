"""What things are called in a generated Python module, and what it has to import for that."""

from __future__ import annotations

import keyword
import unicodedata
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from functools import cache

from bindgen.backends.scope import Scope
from bindgen.wit_parser.model import (
    Alias,
    Case,
    ExpectedOf,
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
    functions_of,
    labels,
    named_in,
    spelling,
    types_of,
    unaliased,
    without_aliases,
    written_with,
)

_ANNOTATIONS = {
    Primitive.BOOL: "bool",
    Primitive.FLOAT32: "float",
    Primitive.FLOAT64: "float",
    Primitive.CHAR: "str",
    Primitive.STRING: "str",
    Primitive.UNIT: "None",
}

RUNTIME = "bindgen.runtime"
"""What generated modules import, unless they are told another name for it."""

# fmt: off
IMPORTED = {
    "dataclasses": {"dataclass"},
    "enum": {"IntEnum", "IntFlag"},
    "struct": {"Struct"},
    "typing": {"Any", "Protocol", "TypeAlias", "Union"},
    RUNTIME: {
        "Err", "Export", "Flat", "Guest", "GuestResource", "Import", "Lift", "Lower", "Ok", "Some", "bits_of_float32",
        "bits_of_float64", "float32_of", "float64_of", "pack_numbers", "s32", "s64", "wrong_type",
    },
}
"""What a module imports where its text mentions it, by module of Python's or ours."""

_IN_ANNOTATIONS = {"bool", "bytes", "float", "int", "list", "str", "tuple"}
_CLASSES = {name for names in IMPORTED.values() for name in names if name[0].isupper()}
_FUNCTIONS = {"len", "ord", "range", "type"} | set().union(*IMPORTED.values()) - _CLASSES
_CONSTANTS = {"IMPORTS", "RESOURCES", "GUEST_RESOURCES"}
_CONSTANTS |= {"annotations", "memoryview"}  # what `from __future__` brings, and what helpers are annotated with
_LOCALS = {
    "answer", "args", "each", "err", "export", "guest", "host", "lift", "lower", "memory", "params_at", "problem",
    "result", "result_at", "self_",
}
# fmt: on


def _same(name: str) -> str:
    """Python compares identifiers by their compatible form, NFKC (its reference, "Identifiers and keywords")."""
    return unicodedata.normalize("NFKC", name)


def snake(name: str) -> str:
    """`new-with-base` as `new_with_base`, in the normal form that Python looks for."""
    return _same(name.replace("-", "_").lower())


def camel(name: str) -> str:
    """`http-error` as `HttpError`."""
    return _same("".join(part[:1].upper() + part[1:] for part in name.split("-")))


def name_modules(interfaces: Iterable[Interface]) -> dict[Interface, str]:
    """The modules of the interfaces, without `.py`. There are file systems that don't tell upper from lower case."""
    files = Scope([*keyword.kwlist, "__init__"], same=lambda name: _same(name).casefold())
    return {interface: files.claim(interface, snake(interface.name)) for interface in interfaces}


def _declare(interface: Interface) -> Scope:
    """What the types of one interface are called, the same in its own module and in those that import from it; and what
    it imports itself."""
    scope = Scope([*keyword.kwlist, *_IN_ANNOTATIONS, *_CLASSES], same=_same)
    scope.claim("host", f"{camel(interface.name)}Host")
    for definition in interface.types:
        scope.claim(definition, camel(definition.name))
    for resource in interface.resources:
        scope.claim(resource, camel(resource.name))
    for definition in interface.types:
        for number, case in enumerate(labels(definition)):
            if isinstance(case, Case):
                scope.claim((definition, number), camel(definition.name) + camel(case.name))
    for used in _mentioned_by(interface):
        there = declared(used.interface)[used]
        scope.claim(used, there, f"{camel(used.interface.name)}{there}")
    return scope


declared = cache(_declare)
"""The same for every module: only for interfaces that others import from."""


def field_names(definition: TypeDef) -> list[str]:
    """The attributes of a record. A type checker would take an attribute `int` for the type of those after it."""
    assert isinstance(definition.kind, Record)
    scope = declared(definition.interface).nested()
    return [scope.fresh(snake(field.name)) for field in definition.kind.fields]


def label_names(definition: TypeDef) -> list[str]:
    """The members of an enum or of flags."""
    scope = Scope(same=_same)
    return [scope.fresh(snake(label.name).upper()) for label in labels(definition)]


def method_names(interface: Interface) -> dict[Function, str]:
    """The methods of the host, `keyvalue_open` for a static `open` of `keyvalue`, and those of each resource."""
    outer = declared(interface)
    host = outer.nested()
    own = {resource: outer.nested() for resource in interface.resources}
    found = {}
    for function in functions_of(interface):
        is_method = function.kind is FunctionKind.METHOD
        scope = own[function.resource] if function.resource and is_method else host
        found[function] = scope.fresh(snake(function.name) if is_method else full_name(function))
    return found


def full_name(function: Function) -> str:
    """The name of a function with that of its resource."""
    own = snake(function.name)
    return f"{snake(function.resource.name)}_{own}" if function.resource else own


def parameter_names(function: Function) -> list[str]:
    """The parameters of a host's method, without `self`."""
    scope = Scope([*keyword.kwlist, "self"], same=_same)
    return [scope.fresh(snake(param.name)) for param in function.params]


class Names:
    """The names in the module of one interface."""

    def __init__(
        self, interface: Interface, modules: Mapping[Interface, str], exports: Collection[Interface] = ()
    ) -> None:
        """`modules` are the modules of all interfaces. `exports` are those that the guest exports: it defines their
        resources."""
        self._interface = interface
        self._modules = modules
        self._exports = exports
        self._types = _declare(interface)
        self._module = self._types.nested([*_FUNCTIONS, *_CONSTANTS])
        self.methods = method_names(interface)
        self.siblings: dict[str, dict[str, str]] = {}
        """By module, what is imported from it and the name it gets here."""
        for definition in _mentioned_by(interface):
            self.use(definition)
        # What a user of the module writes, in this order whoever asks first.
        for function in functions_of(interface) if interface in exports else ():
            self.constant(function)

    @property
    def host(self) -> str:
        """The Protocol that a host implements."""
        return self._types["host"]

    def use(self, definition: TypeDef | Resource) -> str:
        """The name of a type's class or alias."""
        return self._from(definition.interface, definition)

    def is_guests(self, resource: Resource) -> bool:
        """Whether the guest defines the resource."""
        return resource.interface in self._exports

    def case(self, definition: TypeDef, number: int) -> str:
        """The name of the class of a case."""
        return self._from(definition.interface, (definition, number))

    def _from(self, interface: Interface, key: Hashable) -> str:
        if interface is self._interface:
            return self._types[key]
        there = declared(interface)[key]
        here = self._types.claim(key, there, f"{camel(interface.name)}{there}")
        self.siblings.setdefault(self._modules[interface], {})[there] = here
        return here

    def imported(self, function: Function) -> str:
        """What answers a function that the guest imports."""
        return self._module.claim(("import", function), f"_{full_name(function)}")

    def exported(self, function: Function) -> str:
        """What calls a function that the guest exports."""
        return self._module.claim(("export", function), full_name(function))

    def constant(self, function: Function) -> str:
        """The constant that describes a function that the guest exports."""
        return self._module.claim(("constant", function), self.exported(function).upper())

    def helper(self, operation: str, type_: Type) -> str:
        """What does something with values of a type: `_load_option_u8`."""
        return self._module.claim((operation, without_aliases(type_)), f"_{operation}_{self._slug(type_)}")

    def struct(self, format_: str) -> str:
        """What packs and unpacks a format of the module `struct`."""
        return self._module.claim(("struct", format_), f"_{format_}")

    def function_scope(self) -> Scope:
        """The names in a function that answers or makes a call."""
        return self._types.nested([*_FUNCTIONS, *_LOCALS])

    def annotation(self, type_: Type) -> str:
        match type_:
            case Primitive():
                return _ANNOTATIONS.get(type_, "int")
            case TypeDef() | Resource():
                return self.use(type_)
            case ListOf(element):
                return "bytes" if unaliased(element) is Primitive.U8 else f"list[{self.annotation(element)}]"
            case TupleOf(items):
                return f"tuple[{', '.join(map(self.annotation, items)) or '()'}]"
            case OptionOf(value):
                inner = self.annotation(value)
                return f"Some[{inner}] | None" if self.wrapped(value) else f"{inner} | None"
            case ExpectedOf(ok, err):
                return f"Ok[{self.annotation(ok)}] | Err[{self.annotation(err)}]"

    def wrapped(self, type_: Type) -> bool:
        """Whether an option of the type is written with `Some`, since None is one of the type's own values."""
        real = unaliased(type_)
        return real is Primitive.UNIT or isinstance(real, OptionOf)

    def _slug(self, type_: Type) -> str:
        """The type's part in the name of a helper function."""
        match type_:
            case TypeDef(kind=Alias(target)):
                return self._slug(target)
            case TypeDef() | Resource():
                prefix = "" if type_.interface is self._interface else snake(type_.interface.name) + "_"
                return prefix + snake(type_.name)
        name, inner = spelling(type_)
        return "_".join([f"tuple{len(inner)}" if isinstance(type_, TupleOf) else name, *map(self._slug, inner)])


def _mentioned_by(interface: Interface) -> Iterator[TypeDef | Resource]:
    """The definitions of other interfaces that a module imports: what its types and functions name."""
    types = [part for definition in interface.types for part in written_with(definition)]
    for function in functions_of(interface):
        types += types_of(function)
    for type_ in types:
        yield from (definition for definition in named_in(type_) if definition.interface is not interface)
