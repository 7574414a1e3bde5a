"""What whoever runs slight-py is told when a capability refuses or fails: one line for a cause, not for a call.

A module may swallow its errors, and its user would be left with nothing.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar

log = logging.getLogger("slight_py")

LIMIT = 100
"""How many causes are told: a guest that opens a new name each time must not fill the log."""

module: ContextVar[str] = ContextVar("module", default="")
"""The module that is at work, where there are several: log lines begin with it (slight_py/logs.py)."""

_told: set[tuple[str, str]] = set()


def tell(cause: str) -> None:
    """Logs a warning, unless this process has logged the same of the same module before."""
    if (module.get(), cause) in _told or len(_told) > LIMIT:
        return
    _told.add((module.get(), cause))
    if len(_told) > LIMIT:
        log.warning("there are more warnings of this kind, which are left out")
    else:
        log.warning("%s", cause)


def forget() -> None:
    """Forgets what was told, as for a new run."""
    _told.clear()
