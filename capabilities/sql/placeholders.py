"""The placeholders of a statement: `$1`, `$2` and so on; or `?` for each parameter, in their order.

Spiderlightning's own host puts parameters in the place of each `?`. PostgreSQL has no such placeholder, but operators
of that name, and SQLite takes `$1` for a name that it has no number for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_TOKEN = re.compile(
    r"""--[^\n]*+|/\*|(?P<escapes>\b[eE])?'|"|(?<![\w$])\$(?P<number>[1-9][0-9]{0,4})(?!\w)"""
    r"""|(?<![\w$])(?P<quote>\$(?:[^\W\d]\w{0,62})?\$)|\?"""
)
_COMMENT = re.compile(r"/\*|\*/")
_ESCAPED = re.compile(r"(?:[^\\']|\\.|'')*+'", re.DOTALL)


class Unclosed(Exception):
    """A text or a comment has no end: no statement."""


def placeholders(statement: str) -> list[tuple[int, int, int]]:
    """Where each placeholder begins and ends, and its number; 0 for `?`. Those in texts and comments are none."""
    try:
        return list(_find(statement))
    except Unclosed:
        return []


def _find(statement: str) -> Iterator[tuple[int, int, int]]:
    at = 0
    while token := _TOKEN.search(statement, at):
        at = token.end()
        text = token.group()
        if text == "?":
            yield token.start(), at, 0
        elif token["number"]:
            yield token.start(), at, int(token["number"])
        elif text == "/*":
            at = _end_of_comment(statement, at)
        elif token["escapes"]:
            escaped = _ESCAPED.match(statement, at)
            if escaped is None:
                raise Unclosed
            at = escaped.end()
        elif not text.startswith("--"):
            # In '' and "", a doubled quote is one text that ends and another one that begins.
            end = statement.find(text, at)
            if end < 0:
                raise Unclosed
            at = end + len(text)


def _end_of_comment(statement: str, at: int) -> int:
    """In PostgreSQL, comments nest."""
    depth = 1
    while depth:
        mark = _COMMENT.search(statement, at)
        if mark is None:
            raise Unclosed
        at = mark.end()
        depth += 1 if mark.group() == "/*" else -1
    return at


def numbered(statement: str, parameters: int, write: str = "${}") -> str:
    """The statement with its placeholders written as `write` says.

    Each `?` gets the next number, where there are as many as there are parameters and no placeholder has a number; any
    other `?` stays what it is, an operator.
    """
    found = placeholders(statement)
    marks = [each for each in found if each[2] == 0]
    if len(marks) == len(found) == parameters:
        found = [(start, end, number) for number, (start, end, _) in enumerate(marks, 1)]
    else:
        found = [each for each in found if each[2]]
    pieces: list[str] = []
    at = 0
    for start, end, number in found:
        pieces += statement[at:start], write.format(number)
        at = end
    return "".join((*pieces, statement[at:]))
