"""What a host keeps for one instance of a guest, and lets go of when the instance ends: its locks, say.

A host that has a method `session` is asked for such an object once an instance; that has the methods of the interface
in the host's place, and a coroutine method `close`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from bindgen.runtime import Import

T = TypeVar("T")

log = logging.getLogger("slight_py")

CLOSE_SECONDS = 10.0
"""How long the sessions that are closing are waited for at the end."""

_closing: set[asyncio.Task[None]] = set()


class Sessions:
    """The sessions of one instance."""

    __slots__ = ("_kept", "_of")

    def __init__(self) -> None:
        self._of: dict[int, tuple[Any, Any]] = {}
        """The hosts and their sessions, by the hosts' identity."""
        self._kept: dict[object, Any] = {}

    def of(self, host: Any) -> Any:
        """The session of a host, made when it is asked for first."""
        entry = self._of.get(id(host))
        if entry is None:
            entry = self._of[id(host)] = host, host.session()
        return entry[1]

    def kept(self, key: object, make: Callable[[], T]) -> T:
        """What is kept under a key, made when it is asked for first. It needs no closing."""
        found: T | None = self._kept.get(key)
        if found is None:
            found = self._kept[key] = make()
        return found

    def end(self) -> None:
        """Begins to close them: the instance does not wait for what may be a network."""
        for _, session in self._of.values():
            wait_for(asyncio.create_task(_close(session)))
        self._of.clear()
        self._kept.clear()


def wait_for(task: asyncio.Task[None]) -> None:
    """Has the end of the process wait for what is still to be done for an instance, as `closed` says."""
    _closing.add(task)
    task.add_done_callback(_closing.discard)


def asked_of(definition: Import, host_of: Callable[[Any, Any], Any]) -> Import:
    """The same import, but answered by `host_of(host, guest)` in the place of its host, whichever way it is called."""

    async def call(host: Any, guest: Any, arguments: tuple[Any, ...]) -> Any:
        return await definition.call(host_of(host, guest), guest, arguments)

    lowered = definition.call_async
    if lowered is None:
        return replace(definition, call=call)

    async def call_async(host: Any, guest: Any, arguments: tuple[Any, ...]) -> int:
        return await lowered.call(host_of(host, guest), guest, arguments)

    return replace(definition, call=call, call_async=replace(lowered, call=call_async))


async def _close(session: Any) -> None:
    try:
        await session.close()
    except Exception as error:
        log.error("%s can't be closed: %s: %s", type(session).__name__, type(error).__name__, error)


async def closed() -> None:
    """Waits until all sessions of instances that have ended are closed, and what they wrote is in its files, for
    CLOSE_SECONDS at most."""
    if _closing:
        await asyncio.wait(_closing, timeout=CLOSE_SECONDS)
