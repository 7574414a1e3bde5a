"""What things are called in a generated Python module, and what it has to import for that."""

from __future__ import annotations

import builtins
import keyword
import re
import unicodedata
from collections.abc import Collection, Hashable, Iterable, Mapping
from functools import cache

from bindgen.backends import scope
from bindgen.backends.scope import Scope, full_name, slug
from bindgen.wit_parser.model import (
    Alias,
    Borrow,
    Case,
    ExpectedOf,
    FixedListOf,
    Function,
    FunctionKind,
    FutureOf,
    Interface,
    ListOf,
    OptionOf,
    Own,
    Package,
    Primitive,
    Record,
    Resource,
    StreamOf,
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
_PYTHONS = {
    "dataclasses": {"dataclass"},
    "enum": {"IntEnum", "IntFlag"},
    "struct": {"Struct"},
    "typing": {"Any", "Protocol", "TypeAlias", "Union"},
}
_OURS = {
    "Err", "Export", "Flat", "Guest", "Import", "Lift", "Lower", "Ok", "Some", "bits_of_float32", "bits_of_float64",
    "float32_of", "float64_of", "pack_numbers", "s32", "s64", "wrong_type",
}
IMPORTED = {**_PYTHONS, RUNTIME: _OURS | {"GuestResource"}}
"""What a module imports where its text mentions it, by module of Python's or ours."""

IMPORTED_IN_PACKAGES = {
    **_PYTHONS,
    "collections.abc": {"AsyncIterable", "Awaitable", "Sequence"},
    RUNTIME: _OURS | {"AsyncCall", "FutureReader", "Payload", "StreamReader", "signed"},
}
"""The same for the module of an interface that is of a package."""

_IN_ANNOTATIONS = {"bool", "bytes", "float", "int", "list", "str", "tuple"}
_CLASSES = {name for names in IMPORTED.values() for name in names if name[0].isupper()}
_FUNCTIONS = {"len", "ord", "range", "type"} | set().union(*IMPORTED.values()) - _CLASSES
_CLASSES_IN_PACKAGES = {name for names in IMPORTED_IN_PACKAGES.values() for name in names if name[0].isupper()}
_FUNCTIONS_IN_PACKAGES = _FUNCTIONS | {"signed", "isinstance", "lower_answer"}
_CONSTANTS = {"IMPORTS", "RESOURCES", "GUEST_RESOURCES"}
_CONSTANTS |= {"annotations", "memoryview"}  # what `from __future__` brings, and what helpers are annotated with
_CONSTANTS_IN_PACKAGES = _CONSTANTS | {"EXPORTS", "INTERFACE"}
_LOCALS = {
    "answer", "args", "each", "err", "export", "guest", "host", "lift", "lower", "memory", "params_at", "problem",
    "result", "result_at", "self_",
}
_LOCALS_OF_HELPERS = {"at", "block", "length", "tag", "value"}
# fmt: on

_BUILTINS = {name for name in dir(builtins) if name.islower()}

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
    """The modules of the interfaces, without `.py`; those of a package are in its folder: `wasi_io_0_2/streams`. There
    are file systems that don't tell upper from lower case."""
    folders: dict[str, Scope] = {}
    found = {}
    for interface in interfaces:
        folder = f"{name_package(interface.package)}/" if interface.package else ""
        reserved = [*keyword.kwlist, "__init__"]
        files = folders.setdefault(folder, Scope(reserved, same=lambda name: _same(name).casefold()))
        found[interface] = folder + files.claim(interface, snake(interface.name))
    return found


def name_package(package: Package) -> str:
    """The folder of a package: `wasi_http_0_2`. Versions that go together have one: those of a major version, of a
    minor one before 1.0; a pre-release goes with no other."""
    parts = [package.namespace, package.name]
    if package.version:
        version = package.version.partition("+")[0]
        major, minor, *_ = version.split(".")
        parts.append(version if "-" in version else major if major != "0" else f"0.{minor}")
    return snake(re.sub(r"[-.]", "_", "_".join(parts)))


def _declare(interface: Interface) -> Scope:
    """The names of an interface's types, and of the modules whose types it uses."""
    classes = _CLASSES_IN_PACKAGES if interface.package else _CLASSES
    names = Scope([*keyword.kwlist, *_IN_ANNOTATIONS, *classes], same=_same)
    names.claim("host", f"{camel(interface.name)}Host")
    for definition in interface.types:
        names.claim(definition, camel(definition.name))
    for resource in interface.resources:
        names.claim(resource, camel(resource.name))
    for definition in interface.types:
        for number, case in enumerate(labels(definition)):
            if isinstance(case, Case):
                names.claim((definition, number), camel(definition.name) + camel(case.name))
    for definition in interface.types if interface.package else ():
        if not isinstance(definition.kind, Alias):
            names.claim(("text", definition), f"{snake(definition.name).upper()}_TYPE")
    for resource in interface.resources if interface.package else ():
        names.claim(("key", resource), f"{snake(resource.name).upper()}_KEY")
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


def parameter_names(interface: Interface, function: Function) -> list[str]:
    """The parameters of a host's method, without `self`. In packages, none hides what Python has."""
    hidden = _BUILTINS if interface.package else set()
    names = Scope([*keyword.kwlist, *hidden, "self"], same=_same)
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
        self._functions = _FUNCTIONS_IN_PACKAGES if interface.package else _FUNCTIONS
        constants = _CONSTANTS_IN_PACKAGES if interface.package else _CONSTANTS
        self._module = self._types.nested([*self._functions, *constants])
        self.methods = method_names(interface)
        self.siblings: dict[str, str] = {}
        """The modules of other interfaces whose types are used, by what they are called here."""
        # What a user of the module writes, in this order whoever asks first.
        for function in functions_of(interface) if interface in exports else ():
            self.constant(function)

    @property
    def in_package(self) -> bool:
        """Whether the interface is of a package, and so a component's."""
        return self._interface.package is not None

    @property
    def folder(self) -> str:
        """The folder that the module is in, if the interface is of a package."""
        return self._modules[self._interface].rpartition("/")[0]

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

    def text(self, definition: TypeDef) -> str:
        """The constant that holds the structural text of a record, variant, enum or flags of a package."""
        return self._from(definition.interface, ("text", definition))

    def key(self, resource: Resource) -> str:
        """An expression for what tells a resource from others: a constant in packages, else its name."""
        if resource.interface.package is None:
            return f'"{resource.name}"'
        return self._from(resource.interface, ("key", resource))

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

    def imported_async(self, function: Function) -> str:
        """What answers a function that the guest imports and lowers with `async`."""
        return self._module.claim(("async", function), f"_{snake(full_name(function))}_async")

    def lifting(self, function: Function, operation: str) -> str:
        """What lifts the result of an asynchronous function that the guest exports."""
        return self._module.claim((operation, function), f"_{operation}_{snake(full_name(function))}")

    def piece(self, operation: str, list_: Type) -> str:
        """What does something with a piece of a stream, which is in memory as a list is."""
        named = slug(list_).replace("expected", "result").removeprefix("list_")
        return self._module.claim(("piece", operation, without_aliases(list_)), f"_{operation}_pieces_{_same(named)}")

    def payload(self, channel: Type) -> str:
        """The constant that says what a stream or a future carries."""
        named = slug(channel).replace("expected", "result")
        return self._module.claim(("payload", without_aliases(channel)), f"_{_same(named).upper()}")

    def exported(self, function: Function) -> str:
        """What calls a function that the guest exports."""
        return self._module.claim(("export", function), snake(full_name(function)))

    def constant(self, function: Function) -> str:
        """The constant that describes a function that the guest exports."""
        return self._module.claim(("constant", function), self.exported(function).upper())

    def helper(self, operation: str, type_: Type) -> str:
        """What does something with values of a type: `_load_option_u8`."""
        named = slug(type_)
        if self._interface.package:
            named = named.replace("expected", "result")
        return self._module.claim((operation, without_aliases(type_)), f"_{operation}_{_same(named)}")

    def struct(self, format_: str) -> str:
        """What packs and unpacks a format of the module `struct`."""
        return self._module.claim(("struct", format_), f"_{format_}")

    def function_scope(self) -> Scope:
        """The names in a function that answers or makes a call."""
        return self._types.nested([*self._functions, *_LOCALS])

    def annotation(self, type_: Type, received: bool = False) -> str:
        """How Python writes a type. With `received`, it's that of what comes from the guest, which matters for streams
        and futures."""
        match type_:
            case Primitive():
                return _ANNOTATIONS.get(type_, "int")
            case TypeDef() | Resource():
                return self.use(type_)
            case Own(resource) | Borrow(resource):
                return self.use(resource)
            case StreamOf(element):
                pieces = "range" if element is None else self.annotation(ListOf(element), received)
                return f"StreamReader[{pieces}]" if received else f"AsyncIterable[{pieces}]"
            case FutureOf(value):
                inner = "None" if value is None else self.annotation(value, received)
                return f"FutureReader[{inner}]" if received else f"Awaitable[{inner}]"
            case ListOf(element):
                return "bytes" if unaliased(element) is Primitive.U8 else f"list[{self.annotation(element, received)}]"
            case FixedListOf(element, length):
                return self.annotation(TupleOf((element,) * length), received)
            case TupleOf(items):
                inner = ", ".join(self.annotation(item, received) for item in items)
                return f"tuple[{inner or '()'}]"
            case OptionOf(value):
                inner = self.annotation(value, received)
                return f"Some[{inner}] | None" if self.wrapped(value) else f"{inner} | None"
            case ExpectedOf(ok, err):
                return f"Ok[{self.annotation(ok, received)}] | Err[{self.annotation(err, received)}]"

    def wrapped(self, type_: Type) -> bool:
        """Whether an option of the type is written with `Some`, since None is one of the type's own values."""
        real = unaliased(type_)
        return real is Primitive.UNIT or isinstance(real, OptionOf)
