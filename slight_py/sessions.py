"""What a host keeps for one instance of a guest, and lets go of when the instance ends: its locks, say.

A host that has a method `session` is asked for such an object once an instance; that has the methods of the interface
in the host's place, and a coroutine method `close`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

log = logging.getLogger("slight_py")

CLOSE_SECONDS = 10.0
"""How long the sessions that are closing are waited for at the end."""

_closing: set[asyncio.Task[None]] = set()


class Sessions:
    """The sessions of one instance."""

    __slots__ = ("_of",)

    def __init__(self) -> None:
        self._of: dict[int, tuple[Any, Any]] = {}
        """The hosts and their sessions, by the hosts' identity."""

    def of(self, host: Any) -> Any:
        """The session of a host, made when it is asked for first."""
        entry = self._of.get(id(host))
        if entry is None:
            entry = self._of[id(host)] = host, host.session()
        return entry[1]

    def end(self) -> None:
        """Begins to close them: the instance does not wait for what may be a network."""
        for _, session in self._of.values():
            task = asyncio.create_task(_close(session))
            _closing.add(task)
            task.add_done_callback(_closing.discard)
        self._of.clear()


async def _close(session: Any) -> None:
    try:
        await session.close()
    except Exception as error:
        log.error("%s can't be closed: %s: %s", type(session).__name__, type(error).__name__, error)


async def closed() -> None:
    """Waits until all sessions of instances that have ended are closed, for CLOSE_SECONDS at most."""
    if _closing:
        await asyncio.wait(_closing, timeout=CLOSE_SECONDS)
