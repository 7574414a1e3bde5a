"""What whoever runs slight-py is told when a capability refuses or fails: one line for a cause, not for a call.

A module may swallow its errors, and its user would be left with nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar

log = logging.getLogger("slight_py")

LIMIT = 100
"""How many causes are told: a guest that opens a new name each time must not fill the log."""

TEXT_LIMIT = 1_000
"""How many characters of a cause are told."""

module: ContextVar[str] = ContextVar("module", default="")
"""The module that is at work, where there are several: log lines begin with it (slight_py/logs.py)."""

_told: set[tuple[str, str]] = set()


def show(cause: str) -> None:
    """Logs a cause."""
    log.warning("%s", cause)


_pass_on: Callable[[str], None] = show


def tell(cause: str) -> None:
    """Logs a warning, unless the same was told of the same module before in this run."""
    from capabilities.http.access import printable  # what a run that tells nothing never pays

    cause = printable(cause, TEXT_LIMIT)
    if (module.get(), cause) in _told or len(_told) > LIMIT:
        return
    _told.add((module.get(), cause))
    _pass_on(cause if len(_told) <= LIMIT else "there are more warnings of this kind, which are left out")


def redirect(pass_on: Callable[[str], None]) -> None:
    """Has causes go elsewhere than to this process's log: those of a worker go to the main process, which tells each
    cause once however many workers come upon it."""
    global _pass_on
    _pass_on = pass_on


def forget() -> None:
    """Forgets what was told, as for a new run."""
    _told.clear()
