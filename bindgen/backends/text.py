"""The layout of generated text, for languages with brackets and blocks."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from itertools import pairwise

LINE_LENGTH = 120
"""Of the generated text."""


def indented(lines: Iterable[str]) -> list[str]:
    """The lines of a block."""
    return [f"    {line}" if line else "" for line in lines]


def plus(place: str, offset: int) -> str:
    """An address behind another: `at + 4`, and not `at + 4 + 0` or `at + 2 + 2`."""
    name, _, number = place.partition(" + ")
    total = int(number or 0) + offset
    return f"{name} + {total}" if total else name


def paragraphs(text: str, room: int) -> list[str]:
    """The lines of documentation, wrapped so that they have `room`."""
    lines = text.split("\n")
    return [
        part
        for line in lines
        for part in textwrap.wrap(line, room, break_long_words=False, break_on_hyphens=False) or [""]
    ]


def folded(line: str, last: str = "") -> list[str]:
    """A statement. Where it's too long for a line, what stands in its widest brackets has a line of its own, or one for
    each item. `last` stands behind the last of several.
    """
    marks = _widest_brackets(line) if len(line) > LINE_LENGTH else []
    if not marks:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()))
    together = f"{indent}    {line[marks[0] + 1 : marks[-1]].strip()}"
    if len(together) <= LINE_LENGTH:
        return [line[: marks[0] + 1], together, indent + line[marks[-1] :]]
    items = [line[start + 1 : end].strip() for start, end in pairwise(marks)]
    closing = last if len(items) > 1 else ""
    if len(items) > 1 and not items[-1]:
        items.pop()
        closing = ","  # it makes a tuple of one item a tuple
    ends = [","] * (len(items) - 1) + [closing]
    inner = [each for item, end in zip(items, ends, strict=True) for each in folded(f"{indent}    {item}{end}", last)]
    return [line[: marks[0] + 1], *inner, indent + line[marks[-1] :]]


def _widest_brackets(line: str) -> list[int]:
    """Where the widest brackets of a line open, where the commas in them are, and where they close; or nothing. What
    stands in a string is no bracket."""
    found: list[list[int]] = [[]]
    marks: list[int] = []
    depth = 0
    in_string = False
    for at, character in enumerate(line):
        in_string ^= character == '"'
        if in_string:
            continue
        if character in "([{":
            depth += 1
            if depth == 1:
                marks = [at]
        elif character in ")]}":
            depth -= 1
            if depth == 0 and at > marks[0] + 1:
                found.append([*marks, at])
        elif character == "," and depth == 1:
            marks.append(at)
    return max(found, key=lambda marks: marks[-1] - marks[0] if marks else 0)
