"""Rust text as rustfmt leaves it, with `max_width = 120` and `use_small_heuristics = "Max"`.

Code is a list: a string is a line, a list within the list is indented, and what may take several lines is one of the
classes here, since whether it has to is known only where it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

LINE_LENGTH = 120

_SIMPLE = re.compile(r"[&*]*[\w$]+(\.\w+|\[\w+\])*( as \w+)?")
"""A name, a literal, or a part or a cast of one."""


@dataclass(frozen=True, slots=True)
class Items:
    """Items between brackets, with commas: a call, a signature, a tuple, a struct."""

    head: str
    """With the opening bracket; all there is where there are no items and no tail."""
    items: Sequence[str | Items] = ()
    tail: str = ""
    """From the closing bracket on."""
    target: str = ""
    """What the value is for, `let x =` or `Some(x) =>`: the value may stand on the next line."""
    is_type: bool = False
    """Not an expression: then short items don't share lines, and a last item doesn't begin on the first line."""


@dataclass(frozen=True, slots=True)
class Signature:
    """Of a function: what begins its definition or is its declaration."""

    name: str
    """With what stands before it: `pub fn get`."""
    parameters: Sequence[str | Items]
    result: str = ""
    """What follows the parameters: ` -> T`."""
    end: str = " {"


@dataclass(frozen=True, slots=True)
class Unsafe:
    """An unsafe block with one expression, which is the value of what it stands in."""

    expression: Items


Code: TypeAlias = "str | Items | Signature | Unsafe | Sequence[Code]"


Value: TypeAlias = "str | Items"
"""An expression."""


def render(code: Iterable[Code], depth: int = 0) -> list[str]:
    """The lines of `code`, indented by `depth` steps."""
    lines = []
    for part in code:
        match part:
            case str():
                lines.append("    " * depth + part if part else "")
            case Items():
                lines += _items(part, depth)
            case Signature():
                lines += _signature(part, depth)
            case Unsafe(expression):
                lines += _unsafe(expression, depth)
            case _:
                lines += render(part, depth + 1)
    return lines


def bind(name: str, value: Value) -> Code:
    """A variable with that value."""
    if isinstance(value, str):
        return Items(value, (), ";", f"let {name} =")
    return replace(value, tail=f"{value.tail};", target=f"let {name} =")


def arm(pattern: str, statements: Sequence[Code], value: Items) -> list[Code]:
    """A case of a match: `value` is what it gives, after `statements`."""
    if statements:
        return [f"{pattern} => {{", [*statements, value], "}"]
    return [Items(value.head, value.items, f"{value.tail},", f"{pattern} =>")]


def docs(text: str, mark: str = "///") -> list[Code]:
    """Documentation comments."""
    lines = text.expandtabs(4).strip().splitlines()
    return [f"{mark} {line}".rstrip() for line in lines]


def _fits(line: str, depth: int) -> bool:
    return 4 * depth + len(line) <= LINE_LENGTH


def _items(part: Items, depth: int) -> list[str]:
    value = _value(part)
    line = f"{part.target} {value}" if part.target else value
    if _fits(line, depth):
        return render([line], depth)
    if part.target.endswith("=>") and _fits(value.removesuffix(","), depth + 1):
        return render([f"{part.target} {{", [value.removesuffix(",")], "}"], depth)
    if part.target.endswith("=") and _fits(value, depth + 1):
        return render([part.target, [value]], depth)
    if part.is_type or not part.head.endswith("("):
        return _one_a_line(part, depth)
    if len(part.items) == 1 and isinstance(inner := part.items[0], Items):
        # A call as the only argument of a call begins on the same line.
        merged = replace(inner, head=part.head + inner.head, tail=inner.tail + part.tail, target=part.target)
        return _items(merged, depth)
    if part.items and all(isinstance(item, str) and _is_short(item) for item in part.items):
        head = f"{part.target} {part.head}" if part.target else part.head
        return render([head, filled(list(map(str, part.items)), depth + 1), part.tail], depth)
    return _one_a_line(part, depth)


def _one_a_line(part: Items, depth: int) -> list[str]:
    head = f"{part.target} {part.head}" if part.target else part.head
    if not part.items:
        return render([head, part.tail] if head.endswith("(") else [head + part.tail], depth)
    return render([head, [_with(item, ",") for item in part.items], part.tail], depth)


def _value(part: Items) -> str:
    """All on one line, without the target."""
    pad = " " if part.head.endswith("{") and part.items else ""
    items = ", ".join(item if isinstance(item, str) else _value(item) for item in part.items)
    return f"{part.head}{pad}{items}{pad}{part.tail}"


def _with(item: str | Items, end: str) -> str | Items:
    return item + end if isinstance(item, str) else replace(item, tail=item.tail + end)


def _is_short(item: str) -> bool:
    """Whether rustfmt packs such an item with others onto a line."""
    return len(item) <= 10 and _SIMPLE.fullmatch(item) is not None


def filled(items: Sequence[str], depth: int) -> list[str]:
    """As many items on a line as it holds."""
    lines = [""]
    for item in items:
        if lines[-1] and not _fits(f"{lines[-1]} {item},", depth):
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else ''}{item},"
    return lines


def _signature(part: Signature, depth: int) -> list[str]:
    items = Items(f"{part.name}(", part.parameters, f"){part.result}{part.end}", is_type=True)
    line = _value(items)
    if part.result and part.end != " {" and not _fits(f"{line} ", depth):
        if part.end == ";" and _fits(line, depth):
            return render([line.removesuffix(f"{part.result};"), [f"{part.result.strip()};"]], depth)
        return _one_a_line(items, depth)
    return _items(items, depth)


def _unsafe(expression: Items, depth: int) -> list[str]:
    (line, *more) = _items(expression, depth)
    line = f"unsafe {{ {line.strip()} }}"
    if not more and _fits(line, depth):
        return render([line], depth)
    return render(["unsafe {", [expression], "}"], depth)


def use(path: str, names: Sequence[str]) -> list[Code]:
    """A use of several names."""
    if len(names) == 1:
        return [f"{path}{names[0]};"]
    line = f"{path}{{{', '.join(names)}}};"
    return [line] if len(line) <= LINE_LENGTH else [f"{path}{{", [*filled(names, 1)], "};"]
