"""What things are called in a generated Python module, and what it has to import for that."""

from __future__ import annotations

import keyword
from collections.abc import Collection, Hashable
from functools import cache

from bindgen.wit_parser.model import (
    Alias,
    ExpectedOf,
    Interface,
    ListOf,
    OptionOf,
    Primitive,
    Resource,
    TupleOf,
    Type,
    TypeDef,
    Union,
    Variant,
    unaliased,
)

_ANNOTATIONS = {
    Primitive.BOOL: "bool",
    Primitive.FLOAT32: "float",
    Primitive.FLOAT64: "float",
    Primitive.CHAR: "str",
    Primitive.STRING: "str",
    Primitive.UNIT: "None",
}

_TAKEN_BY_MODULE = {"Any", "Err", "Export", "Guest", "Import", "IntEnum", "IntFlag", "Lift", "Lower", "Ok", "Protocol"}
_TAKEN_BY_MODULE |= {"GuestResource", "Some", "Struct", "TypeAlias"}
_TAKEN_BY_FUNCTION = {"answer", "args", "block", "each", "err", "export", "flat", "guest", "handle", "host"}
_BUILTINS = {"bool", "bytes", "float", "int", "isinstance", "len", "list", "ord", "range", "str", "tuple", "type"}
_SUPPORT = {"bits_of_float32", "bits_of_float64", "float32_of", "float64_of", "pack_numbers", "s32", "s64"}
_TAKEN_BY_FUNCTION |= _BUILTINS | _SUPPORT
_TAKEN_BY_FUNCTION |= {"lift", "lower", "memory", "params_at", "problem", "result", "result_at", "self_", "tag"}


def snake(name: str) -> str:
    """`new-with-base` as `new_with_base`; a keyword of Python gets an underscore."""
    text = name.replace("-", "_").lower()
    return text + "_" if keyword.iskeyword(text) else text


def camel(name: str) -> str:
    """`http-error` as `HttpError`."""
    text = "".join(part[:1].upper() + part[1:] for part in name.split("-"))
    return text + "_" if keyword.iskeyword(text) or text in _TAKEN_BY_MODULE else text


def local(name: str) -> str:
    """A parameter's name inside a generated function."""
    text = snake(name)
    return text + "_" if text in _TAKEN_BY_FUNCTION else text


def exported(name: str) -> str:
    """A function's name at the top of a generated module."""
    return name + "_" if name in _BUILTINS | _SUPPORT | {"assert_never", "dataclass"} else name


@cache
def _class_names(interface: Interface) -> dict[tuple[Hashable, int | None], str]:
    """The classes of an interface, by definition and, for those of cases, number. Where two would have one name, the
    later one gets an underscore."""
    found: dict[tuple[Hashable, int | None], str] = {}
    taken = {f"{camel(interface.name)}Host"}

    def add(key: tuple[Hashable, int | None], name: str) -> None:
        while name in taken:
            name += "_"
        taken.add(name)
        found[key] = name

    for definition in interface.types:
        add((definition, None), camel(definition.name))
    for resource in interface.resources:
        add((resource, None), camel(resource.name))
    for definition in interface.types:
        if isinstance(definition.kind, Variant | Union):
            for number, case in enumerate(definition.kind.cases):
                add((definition, number), camel(definition.name) + camel(case.name))
    return found


class Names:
    """The names in the module of one interface."""

    def __init__(self, interface: Interface, exports: Collection[Interface] = ()) -> None:
        """`exports` are the interfaces that the guest exports: it defines their resources."""
        self._interface = interface
        self._exports = exports
        self._own = set(_class_names(interface).values())
        self.support_used: set[str] = set()
        self.siblings: dict[str, dict[str, str]] = {}
        """By module, what is imported from it and the name it gets here."""

    def support(self, expression: str) -> str:
        """Notes that the function or class at the start of `expression` comes from `bindgen.support`."""
        self.support_used.add(expression.partition("(")[0])
        return expression

    def use(self, definition: TypeDef | Resource) -> str:
        """The name of a type's class or alias."""
        return self._from(definition.interface, _class_names(definition.interface)[definition, None])

    def is_guests(self, resource: Resource) -> bool:
        """Whether the guest defines the resource."""
        return resource.interface in self._exports

    def case(self, definition: TypeDef, number: int) -> str:
        """The name of the class of a case."""
        assert isinstance(definition.kind, Variant | Union)
        return self._from(definition.interface, _class_names(definition.interface)[definition, number])

    def _from(self, interface: Interface, name: str) -> str:
        if interface is self._interface:
            return name
        here = camel(interface.name) + name if name in self._own else name
        self.siblings.setdefault(snake(interface.name), {})[name] = here
        return here

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
                return f"{self.support('Some')}[{inner}] | None" if self.wrapped(value) else f"{inner} | None"
            case ExpectedOf(ok, err):
                ok_text, err_text = self.annotation(ok), self.annotation(err)
                return f"{self.support('Ok')}[{ok_text}] | {self.support('Err')}[{err_text}]"

    def wrapped(self, type_: Type) -> bool:
        """Whether an option of the type is written with `Some`, since None is one of the type's own values."""
        real = unaliased(type_)
        return real is Primitive.UNIT or isinstance(real, OptionOf)

    def slug(self, type_: Type) -> str:
        """The type's part in the name of a helper function."""
        match type_:
            case Primitive():
                return type_.value
            case TypeDef(kind=Alias(target)):
                return self.slug(target)
            case TypeDef() | Resource():
                prefix = "" if type_.interface is self._interface else snake(type_.interface.name) + "_"
                return prefix + snake(type_.name)
            case ListOf(element):
                return f"list_{self.slug(element)}"
            case OptionOf(value):
                return f"option_{self.slug(value)}"
            case ExpectedOf(ok, err):
                return f"expected_{self.slug(ok)}_{self.slug(err)}"
            case TupleOf(items):
                return "_".join([f"tuple{len(items)}", *map(self.slug, items)])
