"""The structural texts of types in a generated Python module: a constant for each named type, and what uses them."""

from __future__ import annotations

import re

from bindgen.backends.python_names import Names
from bindgen.backends.text import LINE_LENGTH
from bindgen.structure import function_text, key_of, pieces, type_text
from bindgen.wit_parser.model import Function, Interface, Type, TypeDef, unaliased

_PART = re.compile("(?<=, )|(?<= -> )")
"""Where a long text may be parted."""

_MARK = "\0"
"""Around the name of a constant in a text."""


class Structure:
    """Writes the texts of one module."""

    def __init__(self, names: Names, interface: Interface) -> None:
        self._names = names
        self._interface = interface
        self._constants: dict[TypeDef, list[str]] = {}

    def constants(self) -> list[list[str]]:
        """The constants of the interface's types that were asked for, what they are made of first."""
        return list(self._constants.values())

    def keys(self) -> list[str]:
        """The constants that tell the interface's resources from others."""
        return [f'{self._names.key(each)} = "{key_of(each)}"' for each in self._interface.resources]

    def define(self, definition: TypeDef) -> str:
        """The name of the constant of a record, variant, enum or flags, which is written if it is of this module."""
        if definition.interface is self._interface and definition not in self._constants:
            kind, items = pieces(definition, self._marked)
            name = self._names.text(definition)
            self._constants[definition] = assigned(name, [f"{kind}{{", *_separated(items), "}"])
        return self._names.text(definition)

    def type(self, type_: Type) -> str:
        """An expression for the text of a type, in one line."""
        return _literal(self._marked(type_))

    def function(self, function: Function, indent: int) -> list[str]:
        """The lines of an argument `type`, the text of a function's type: a string, or several in brackets."""
        lines = _wrapped(function_text(function, self._named), LINE_LENGTH - indent - 4)
        if len(lines) == 1 and len(lines[0]) <= LINE_LENGTH - indent - len("type=,"):
            return [f"type={lines[0]}"]
        return ["type=(", *(f"    {line}" for line in lines), ")"]

    def _marked(self, type_: Type) -> str:
        real = unaliased(type_)
        return self._named(real) if isinstance(real, TypeDef) else type_text(real, self._named)

    def _named(self, definition: TypeDef) -> str:
        return f"{_MARK}{self.define(definition)}{_MARK}"


def assigned(name: str, items: list[str]) -> list[str]:
    """An assignment of a text to a constant: in one line, or a line for some of its parts each."""
    whole = f"{name} = {_literal(''.join(items))}"
    if len(whole) <= LINE_LENGTH:
        return [whole]
    lines: list[str] = []
    text = ""
    for item in items:
        if text and len(_literal(text + item)) > LINE_LENGTH - 4:
            lines.append(_literal(text))
            text = ""
        text += item
    return [f"{name} = (", *(f"    {line}" for line in [*lines, _literal(text)]), ")"]


def _separated(items: list[str]) -> list[str]:
    return [f"{item}, " for item in items[:-1]] + items[-1:]


def _wrapped(text: str, room: int) -> list[str]:
    """Strings of at most `room` characters, if there are enough places to part it, that make a text together."""
    lines: list[str] = []
    line = ""
    for item in _PART.split(text):
        if line and len(_literal(line + item)) > room:
            lines.append(_literal(line))
            line = ""
        line += item
    return [*lines, _literal(line)]


def _literal(text: str) -> str:
    """A string of Python's, which names the constants in the text."""
    parts = text.split(_MARK)
    if len(parts) == 1:
        return f'"{text}"'
    fixed = [part.replace("{", "{{").replace("}", "}}") for part in parts[::2]]
    names = [f"{{{part}}}" for part in parts[1::2]]
    return 'f"' + "".join(part for pair in zip(fixed, [*names, ""], strict=True) for part in pair) + '"'
