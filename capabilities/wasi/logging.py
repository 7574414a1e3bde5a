"""Answers a component's `wasi:logging` imports: what it logs goes into the log of slight-py, a line a message.

A line has the message's level and, where it isn't empty, its context. Both texts are a guest's: they are bounded, and
what is no character that can be seen is escaped, so no message can look like two, or like one of slight-py's own.
"""

from __future__ import annotations

import logging

from capabilities.bindings.wasi_logging_0_1_0_draft.logging import Level
from capabilities.http.access import printable

log = logging.getLogger("slight_py")

CONTEXT_LIMIT = 200
"""How many characters of a context are logged."""

MESSAGE_LIMIT = 4_000
"""How many characters of a message are logged."""

_LEVELS = {
    Level.TRACE: logging.DEBUG,
    Level.DEBUG: logging.DEBUG,
    Level.INFO: logging.INFO,
    Level.WARN: logging.WARNING,
    Level.ERROR: logging.ERROR,
    Level.CRITICAL: logging.CRITICAL,
}
"""Messages of the first two are logged with `--verbose` alone."""


class Logging:
    """Implements `LoggingHost`."""

    async def log(self, level: Level, context: str, message: str) -> None:
        told = f"{printable(context, CONTEXT_LIMIT)}: " if context else ""
        log.log(_LEVELS[level], "guest %s: %s%s", level.name.lower(), told, printable(message, MESSAGE_LIMIT))
