"""The text of a file, places in it, and what is wrong there.

Places are offsets into `Source.text`, in code points; a span is a pair of them. They become lines and columns only
when there is something to say about them.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeAlias

MAX_ERRORS = 100
"""After so many errors, no more are looked for."""

MAX_BYTES = 4 << 20
"""The largest file that is read, in bytes."""

Span: TypeAlias = tuple[int, int]

_EXCERPT = 100
"""How many characters of a line are shown."""

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """Something to say about a place in a file, about a file as a whole (line 0), or in general (no path)."""

    message: str
    path: Path | None = None
    line: int = 0
    """From 1."""
    column: int = 0
    """From 1, in code points."""
    excerpt: str = ""
    """The line, and carets below what is meant."""
    hint: str = ""
    notes: tuple[Diagnostic, ...] = ()
    """What helps to understand it: where the first of two definitions is, say."""

    def render(self, severity: str = "error") -> str:
        """All of it as text, beginning with `PATH:LINE:COLUMN: error: MESSAGE`."""
        where = "" if self.path is None else f"{printable(str(self.path))}: "
        if self.line:
            where = f"{where[:-2]}:{self.line}:{self.column}: "
        lines = [f"{where}{severity}: {self.message}"]
        if self.excerpt:
            lines.append(self.excerpt)
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join([*lines, *(note.render("note") for note in self.notes)])


class WitError(Exception):
    """All that is wrong with some WIT files. As a string, it is what to show to a person."""

    def __init__(self, diagnostics: tuple[Diagnostic, ...], more: bool = False) -> None:
        super().__init__(diagnostics, more)
        self.diagnostics = diagnostics
        self.more = more
        """Whether the search ended early: there were MAX_ERRORS, or a file is too long."""

    def __str__(self) -> str:
        count = len(self.diagnostics)
        summary = f"{count} error" if count == 1 else f"{count} errors"
        if self.more:
            summary = f"{summary}; there may be more"
        return "\n\n".join([*(diagnostic.render() for diagnostic in self.diagnostics), summary])


class Source:
    """A file that was read."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.text = text
        """What the file holds, without a byte order mark."""
        self.code = _code_of_markdown(text) if path.name.endswith(".md") else text
        """The WIT in it: the text, and spaces in place of what is no WIT."""

    def say(self, span: Span, message: str, hint: str = "", notes: tuple[Diagnostic, ...] = ()) -> Diagnostic:
        """Something to say about a place in this file."""
        start, end = span
        line = self.text.count("\n", 0, start) + 1
        line_start = self.text.rfind("\n", 0, start) + 1
        column = start - line_start + 1
        return Diagnostic(message, self.path, line, column, self._excerpt(line, line_start, start, end), hint, notes)

    def _excerpt(self, line: int, line_start: int, start: int, end: int) -> str:
        line_end = self.text.find("\n", start)
        line_end = len(self.text) if line_end < 0 else line_end
        first = max(line_start, start - _EXCERPT // 2)
        last = min(line_end, first + _EXCERPT)
        end = max(min(end, last), start)
        before, marked = self.text[first:start], self.text[start:end]
        shown = printable(self.text[first:last].rstrip())
        if first > line_start:
            before, shown = f"…{before}", f"…{shown}"
        if last < line_end:
            shown += "…"
        indent = "".join("\t" if char == "\t" else " " * _width(char) for char in before)
        carets = "^" * max(1, sum(map(_width, marked)))
        number = str(line)
        return f"  {number} | {shown}\n  {' ' * len(number)} | {indent}{carets}"


class Reporter:
    """Collects errors, in any order."""

    def __init__(self) -> None:
        self._errors: list[Diagnostic] = []

    def report(self, error: Diagnostic) -> None:
        """Raises WitError when there have been enough."""
        self._errors.append(error)
        if len(self._errors) == MAX_ERRORS:
            raise WitError(self._sorted(), more=True)

    def give_up(self, error: Diagnostic) -> NoReturn:
        """Raises WitError: after this error, nothing can be looked for."""
        self._errors.append(error)
        raise WitError(self._sorted(), more=True)

    def finish(self) -> None:
        """Raises WitError if there was any error."""
        if self._errors:
            raise WitError(self._sorted())

    def _sorted(self) -> tuple[Diagnostic, ...]:
        """By place; the files in the order in which their first errors turned up."""
        files: dict[Path | None, int] = {}
        for error in self._errors:
            files.setdefault(error.path, len(files))
        return tuple(sorted(self._errors, key=lambda error: (files[error.path], error.line, error.column)))


def read(path: Path, reporter: Reporter, notes: tuple[Diagnostic, ...] = ()) -> Source | None:
    """The file at `path`. What keeps it from being read is reported, with `notes`; the answer then is None."""
    try:
        content = _read_regular_file(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        reporter.report(Diagnostic(f"the file can't be read: {reason}", path, notes=notes))
        return None
    try:
        return Source(path, content.removeprefix(b"\xef\xbb\xbf").decode())
    except UnicodeDecodeError as error:
        reporter.report(_not_utf8(path, error, notes))
        return None


def _read_regular_file(path: Path) -> bytes:
    """Raises OSError or ValueError. Reading what is no regular file might not end."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise ValueError("it is a directory")
    if not stat.S_ISREG(mode):
        raise ValueError("it is not a regular file")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES} bytes")
    return content


def _not_utf8(path: Path, error: UnicodeDecodeError, notes: tuple[Diagnostic, ...]) -> Diagnostic:
    content = bytes(error.object)
    utf16 = content.startswith(_UTF16_MARKS)
    before = content[: error.start].decode()
    after = content[error.start :].partition(b"\n")[0][:_EXCERPT].decode(errors="replace")
    return Source(path, before + after).say(
        (len(before), len(before) + 1),
        f"the file is not UTF-8: byte {content[error.start]:#04x}",
        hint="it looks like UTF-16; save it as UTF-8" if utf16 else "",
        notes=notes,
    )


def same_file(path: Path) -> str:
    """What is equal for two paths that lead to one file."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return str(path)


# Markdown: the WIT is in the fenced blocks whose info string is `wit`.

_FENCE = re.compile(r" {0,3}(?P<fence>`{3,}|~{3,})(?P<info>.*)")


def _code_of_markdown(text: str) -> str:
    lines = []
    fence = info = ""
    for line in text.split("\n"):
        match = _FENCE.match(line)
        is_code = False
        if not fence:
            if match and not (match["fence"][0] == "`" and "`" in match["info"]):
                fence, info = match["fence"], match["info"].strip()
        elif match and match["fence"].startswith(fence) and not match["info"].strip():
            fence = ""
        else:
            is_code = info == "wit"
        lines.append(line if is_code else " " * len(line))
    return "\n".join(lines)


# Text that may be hostile, on a terminal.


def printable(text: str) -> str:
    """The text, with a visible stand-in for each character that would change how the rest is displayed."""
    return text if text.isascii() and text.isprintable() else "".join(map(_shown, text))


def _shown(char: str) -> str:
    if char in "\t " or unicodedata.category(char)[0] not in "CZ":
        return char
    return f"<U+{ord(char):04X}>"


def _width(char: str) -> int:
    """How many columns of a terminal the character takes, as it is shown."""
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return sum(2 if unicodedata.east_asian_width(it) in "WF" else 1 for it in _shown(char))
