"""What whoever runs slight-py is told when a capability refuses or fails: one line for a cause, not for a call.

A module may swallow its errors, and its user would be left with nothing.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar

log = logging.getLogger("slight_py")

LIMIT = 100
"""How many causes are told of one module that are about the same thing: a guest that opens a new name each time must
not fill the log, nor silence what is told of other modules or of the outage of a server."""

TOTAL_LIMIT = 1_000
"""How many are told of one module in all."""

TEXT_LIMIT = 1_000
"""How many characters of a cause are told."""

module: ContextVar[str] = ContextVar("module", default="")
"""The module that is at work, where there are several: log lines begin with it (slight_py/logs.py)."""

_told: set[tuple[str, str]] = set()
"""The modules and the causes that were told of them."""

_numbers: Counter[tuple[str, str]] = Counter()
"""How many causes were told of a module, by what they are about; and in all, under ""."""


def show(cause: str) -> None:
    """Logs a cause."""
    log.warning("%s", cause)


_pass_on: Callable[[str], None] = show


def tell(cause: str) -> None:
    """Logs a warning, unless the same was told of the same module before in this run."""
    from capabilities.http.access import printable  # what a run that tells nothing never pays

    cause = printable(cause, TEXT_LIMIT)
    name = module.get()
    if (name, cause) in _told:
        return
    # A cause begins with what it is about: the slightfile's path where that refuses something, else the service or the
    # resource type. None of them is of a guest's choosing.
    subject = (name, cause.partition(" ")[0])
    for counted, limit in ((subject, LIMIT), ((name, ""), TOTAL_LIMIT)):
        if _numbers[counted] > limit:
            return
        if _numbers[counted] == limit:
            _numbers[counted] += 1
            _pass_on(f"{subject[1]} there are more warnings of this kind, which are left out")
            return
    _told.add((name, cause))
    _numbers.update((subject, (name, "")))
    _pass_on(cause)


def redirect(pass_on: Callable[[str], None]) -> None:
    """Has causes go elsewhere than to this process's log: those of a worker go to the main process, which tells each
    cause once however many workers come upon it."""
    global _pass_on
    _pass_on = pass_on


def forget() -> None:
    """Forgets what was told, as for a new run."""
    _told.clear()
    _numbers.clear()
