"""The access log: one line a request, on standard error."""

from __future__ import annotations

from collections.abc import Callable
from json import dumps

from capabilities.http import access
from capabilities.http.access import AccessRecord
from slight_py import logs

FORMATS = {"plain": access.plain, "json": access.json}


def logger(name: str | None, module: str = "") -> Callable[[AccessRecord], None] | None:
    """What writes a record in the format `name`, beginning with the module where it is one of several; None where no
    log is wanted."""
    if name is None:
        return None
    text = FORMATS[name]
    start = ""
    if module:
        start = f"{access.printable(module)} " if name == "plain" else f'{{"module": {dumps(module)}, '

    def write(record: AccessRecord) -> None:
        line = text(record)
        logs.lines.write(f"{start}{line[1:] if start and name == 'json' else line}\n")

    return write
