"""The text of generated Python: laid out as a formatter would, so that it finds nothing to do."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

LINE_LENGTH = 120
"""Of the generated text."""


def indented(lines: Iterable[str]) -> list[str]:
    """The lines of a block."""
    return [f"    {line}" if line else "" for line in lines]


def joined(items: Sequence[str]) -> str:
    """The items of a tuple, to be assigned to or from, or returned."""
    return ", ".join(items) if len(items) != 1 else f"({items[0]},)"


def plus(place: str, offset: int) -> str:
    """An address behind another: `at + 4`, and not `at + 4 + 0` or `at + 2 + 2`."""
    name, _, number = place.partition(" + ")
    total = int(number or 0) + offset
    return f"{name} + {total}" if total else name


def inline(function: str, arguments: Sequence[str]) -> str:
    """A call, or a tuple where `function` is empty, on one line."""
    trailing = "," if not function and len(arguments) == 1 else ""
    return f"{function}({', '.join(arguments)}{trailing})"


def call(prefix: str, function: str, arguments: Sequence[str], suffix: str = "", within: int = 0) -> list[str]:
    """A call or a definition, on one line where it fits, else an argument a line. `within` is how far the lines are
    going to be indented."""
    line = prefix + inline(function, arguments) + suffix
    if within + len(line) <= LINE_LENGTH or not arguments:
        return [line]
    indent = " " * (len(prefix) - len(prefix.lstrip()))
    return [f"{prefix}{function}(", *(f"{indent}    {argument}," for argument in arguments), f"{indent}){suffix}"]


def docstring(docs: str, indent: str) -> list[str]:
    """A docstring, wrapped to the line length; nothing for no text."""
    if not docs:
        return []
    text = docs.strip().replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    if text.endswith('"'):
        text = text[:-1] + '\\"'
    if "\n" not in text and len(indent) + len(text) + 6 <= LINE_LENGTH:
        return [f'{indent}"""{text}"""']
    lines: list[str] = []
    for number, line in enumerate(text.split("\n")):
        room = LINE_LENGTH - len(indent) - (3 if number == 0 else 0)
        lines += textwrap.wrap(line, room, break_long_words=False, break_on_hyphens=False) or [""]
    lines[0] = f'"""{lines[0]}'
    return [f"{indent}{line}".rstrip() for line in [*lines, '"""']]


def class_(decorator: str, name: str, bases: str, docs: str, body: list[str]) -> list[str]:
    lines = ["", "", *([decorator] if decorator else []), f"class {name}{bases}:"]
    lines += docstring(docs, "    ")
    if docs and body and body[0]:
        lines.append("")
    elif not docs and body and not body[0]:
        body = body[1:]
    return lines + (body or ([] if docs else ["    pass"]))


LONGEST_CHAIN = 100
"""Members of a union that are joined by `|`: Python's compiler recurses for each of them."""


def chained(head: str, members: Sequence[str]) -> list[str]:
    """The members of a union, assigned by `head`."""
    line = head + " | ".join(members)
    if len(line) <= LINE_LENGTH:
        return [line]
    first, *rest = members
    return [f"{head}(", f"    {first}", *(f"    | {member}" for member in rest), ")"]


def import_(module: str, names: Sequence[str]) -> list[str]:
    """What imports some names of a module; nothing for none."""
    if not names:
        return []
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= LINE_LENGTH:
        return [line]
    return [f"from {module} import (", *(f"    {name}," for name in names), ")"]


def import_order(name: str) -> tuple[bool, str]:
    """Classes before functions, as the linter sorts them."""
    return name[0].islower(), name


def spaced(lines: list[str]) -> list[str]:
    """Blank lines as the formatter has them: two around what is defined at the top, at most one elsewhere."""
    spaced: list[str] = []
    inside = False
    for line in lines:
        if not line:
            if spaced and spaced[-1]:
                spaced.append("")
            continue
        defines = line.startswith(("class ", "def ", "async def ", "@"))
        if spaced and not spaced[-1] and line[0] not in ' )"' and (defines or inside) and spaced[-2:-1] != [""]:
            spaced.append("")
        if line[0] not in " )":
            inside = defines
        spaced.append(line)
    return spaced
