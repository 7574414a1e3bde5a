"""The text of generated Python: laid out as a formatter would, so that it finds nothing to do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from bindgen.backends.text import LINE_LENGTH, folded, paragraphs

_STRING = re.compile(r'"""(?s:.*?)"""|"[^"\n]*"')
_HEAD = re.compile(r"( *(?:async )?def \w+\()([^()]+)(\) -> .*:(?: \.\.\.)?)")
_CONDITION = re.compile(r"( *\w+ = )([^=]+ if .+ else \w+)")
_NAME = re.compile(r"(?<![.\w])[^\W\d]\w*")


def joined(items: Sequence[str]) -> str:
    """The items of a tuple, to be assigned to or from, or returned."""
    return ", ".join(items) if len(items) != 1 else f"({items[0]},)"


def tuple_(items: Sequence[str]) -> str:
    """A tuple that may stand anywhere."""
    return f"({', '.join(items)})" if len(items) != 1 else joined(items)


def names_in(lines: Iterable[str]) -> set[str]:
    """The names that a text mentions, without those of attributes."""
    return set(_NAME.findall(_STRING.sub("", "\n".join(lines))))


def docstring(docs: str, indent: str = "") -> list[str]:
    """A docstring, wrapped to the line length; nothing for no text."""
    if not docs:
        return []
    text = docs.strip().replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    if text.endswith('"'):
        text = text[:-1] + '\\"'
    if "\n" not in text and len(indent) + len(text) + 6 <= LINE_LENGTH:
        return [f'{indent}"""{text}"""']
    lines = paragraphs(f'"""{text}', LINE_LENGTH - len(indent))
    return [f"{indent}{line}".rstrip() for line in [*lines, '"""']]


def class_(head: str, docs: str, body: list[str], decorator: str = "") -> list[str]:
    about = docstring(docs, "    ")
    gap = [""] if about and body else []
    return [*([decorator] if decorator else []), f"{head}:", *about, *gap, *(body or ([] if docs else ["    pass"]))]


def import_(module: str, names: Iterable[str]) -> list[str]:
    """What imports some names of a module, classes before functions, as a linter sorts them; nothing for none."""
    listed = sorted(names, key=lambda name: (name[0].islower(), name))
    line = f"from {module} import {', '.join(listed)}"
    if len(line) <= LINE_LENGTH:
        return [line] if listed else []
    return [f"from {module} import (", *(f"    {name}," for name in listed), ")"]


def _folded(line: str) -> list[str]:
    """A statement in lines that are short enough: a function's parameters are folded before what it returns, and a
    condition that is assigned is put in brackets."""
    if len(line) <= LINE_LENGTH:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()))
    if found := _HEAD.fullmatch(line):
        head, parameters, end = found.groups()
        if len(indent) + 4 + len(parameters) <= LINE_LENGTH and len(indent) + len(end) <= LINE_LENGTH:
            return [head, f"{indent}    {parameters}", indent + end]
    if found := _CONDITION.fullmatch(line):
        head, value = found.groups()
        if len(indent) + 4 + len(value) <= LINE_LENGTH:
            return [f"{head}(", f"{indent}    {value}", f"{indent})"]
    return folded(line, ",")


def module_of(blocks: Iterable[list[str]]) -> str:
    """The text of a module: two empty lines around what is defined in it, one between other blocks."""
    text: list[str] = []
    before = False
    for block in filter(None, blocks):
        defines = block[0].startswith(("class ", "def ", "async def ", "@"))
        text += [""] * ((2 if defines or before else 1) if text else 0)
        before = defines
        in_docs = False
        for line in block:
            marks = line.count('"""')
            text += [line] if marks or in_docs else _folded(line)
            in_docs ^= marks == 1
    return "\n".join(text) + "\n"
