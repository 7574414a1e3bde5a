"""What things are called in a generated Python module, and what it has to import for that."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Collection, Hashable, Iterable, Mapping
from functools import cache

from bindgen.backends import scope
from bindgen.backends.scope import Scope, full_name, slug
from bindgen.wit_parser.model import (
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
    unaliased,
    without_aliases,
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
_LOCALS_OF_HELPERS = {"at", "block", "length", "tag", "value"}
# fmt: on

_NUMBERED = re.compile(r"[fsv]\d+(_\d+)?")
"""Other variables of helpers."""


def _same(name: str) -> str:
    """Python compares identifiers by their compatible form, NFKC (its reference, "Identifiers and keywords")."""
    return unicodedata.normalize("NFKC", name)


def snake(name: str) -> str:
    """`new-with-base` as `new_with_base`, in the normal form that Python looks for."""
    return _same(scope.snake(name))


def camel(name: str) -> str:
    """`http-error` as `HttpError`."""
    return _same(scope.camel(name))


def name_modules(interfaces: Iterable[Interface]) -> dict[Interface, str]:
    """The modules of the interfaces, without `.py`. There are file systems that don't tell upper from lower case."""
    files = Scope([*keyword.kwlist, "__init__"], same=lambda name: _same(name).casefold())
    return {interface: files.claim(interface, snake(interface.name)) for interface in interfaces}


def _declare(interface: Interface) -> Scope:
    """The names of an interface's types, and of the modules whose types it uses."""
    names = Scope([*keyword.kwlist, *_IN_ANNOTATIONS, *_CLASSES], same=_same)
    names.claim("host", f"{camel(interface.name)}Host")
    for definition in interface.types:
        names.claim(definition, camel(definition.name))
    for resource in interface.resources:
        names.claim(resource, camel(resource.name))
    for definition in interface.types:
        for number, case in enumerate(labels(definition)):
            if isinstance(case, Case):
                names.claim((definition, number), camel(definition.name) + camel(case.name))
    for use in interface.uses:
        _name_sibling(names, use.target.interface)
    return names


def _name_sibling(names: Scope, interface: Interface) -> str:
    """What the module of another interface is called, unless it was named before."""
    name = snake(interface.name)
    if _NUMBERED.fullmatch(name) or name in _LOCALS | _LOCALS_OF_HELPERS | _FUNCTIONS | _CONSTANTS:
        name += "_module"
    return names.claim(interface, name)


declared = cache(_declare)
"""The same for every module."""


def field_names(definition: TypeDef) -> list[str]:
    """The attributes of a record. A type checker would take an attribute `int` for the type of those after it."""
    assert isinstance(definition.kind, Record)
    names = declared(definition.interface).nested()
    return [names.fresh(snake(field.name)) for field in definition.kind.fields]


def label_names(definition: TypeDef) -> list[str]:
    """The members of an enum or of flags."""
    names = Scope(same=_same)
    return [names.fresh(snake(label.name).upper()) for label in labels(definition)]


def method_names(interface: Interface) -> dict[Function, str]:
    """The methods of the host, `keyvalue_open` for a static `open` of `keyvalue`, and those of each resource."""
    outer = declared(interface)
    host = outer.nested()
    own = {resource: outer.nested() for resource in interface.resources}
    found = {}
    for function in functions_of(interface):
        is_method = function.kind is FunctionKind.METHOD
        names = own[function.resource] if function.resource and is_method else host
        found[function] = names.fresh(snake(function.name if is_method else full_name(function)))
    return found


def parameter_names(function: Function) -> list[str]:
    """The parameters of a host's method, without `self`."""
    names = Scope([*keyword.kwlist, "self"], same=_same)
    return [names.fresh(snake(param.name)) for param in function.params]


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
        self.siblings: dict[str, str] = {}
        """The modules of other interfaces whose types are used, by what they are called here."""
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
        name = declared(interface)[key]
        if interface is self._interface:
            return name
        here = _name_sibling(self._types, interface)
        self.siblings[here] = self._modules[interface]
        return f"{here}.{name}"

    def imported(self, function: Function) -> str:
        """What answers a function that the guest imports."""
        return self._module.claim(("import", function), f"_{snake(full_name(function))}")

    def exported(self, function: Function) -> str:
        """What calls a function that the guest exports."""
        return self._module.claim(("export", function), snake(full_name(function)))

    def constant(self, function: Function) -> str:
        """The constant that describes a function that the guest exports."""
        return self._module.claim(("constant", function), self.exported(function).upper())

    def helper(self, operation: str, type_: Type) -> str:
        """What does something with values of a type: `_load_option_u8`."""
        return self._module.claim((operation, without_aliases(type_)), f"_{operation}_{_same(slug(type_))}")

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
