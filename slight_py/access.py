"""The access log: one line a request, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress

from capabilities.http import access
from capabilities.http.access import AccessRecord

FORMATS = {"plain": access.plain, "json": access.json}


def logger(name: str | None) -> Callable[[AccessRecord], None] | None:
    """What writes a record in the format `name`; None where no log is wanted."""
    if name is None:
        return None
    text = FORMATS[name]

    def write(record: AccessRecord) -> None:
        with suppress(OSError):  # nobody reads it any more: requests are answered all the same
            sys.stderr.write(text(record) + "\n")

    return write
