"""The access log: one line a request, on standard error."""

from __future__ import annotations

from collections.abc import Callable

from capabilities.http import access
from capabilities.http.access import AccessRecord
from slight_py import logs

FORMATS = {"plain": access.plain, "json": access.json}


def logger(name: str | None) -> Callable[[AccessRecord], None] | None:
    """What writes a record in the format `name`; None where no log is wanted."""
    if name is None:
        return None
    text = FORMATS[name]

    def write(record: AccessRecord) -> None:
        logs.lines.write(text(record) + "\n")

    return write
