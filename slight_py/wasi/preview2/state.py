"""What one instance has of WASI 0.2 and 0.3, made when the instance asks for it."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

from slight_py.sessions import Sessions
from slight_py.wasi.context import NOTHING, Context
from slight_py.wasi.files import Files


class WasiGuest(Protocol):
    """What WASI asks of an instance."""

    wasi: Any
    """Its `Context`, or None for one with nothing but output."""
    files: Any
    """Its `Files` once it has any, shared with WASI preview 1. Whoever ends the instance closes them."""

    @property
    def started(self) -> int:
        """When its monotonic clock began, by `time.monotonic_ns()`; 0 where that wasn't noted."""

    @property
    def sessions(self) -> Sessions:
        """What is kept for the instance."""


class State:
    """What an instance has."""

    __slots__ = ("_guest", "context", "started", "unfinished")

    def __init__(self, guest: WasiGuest) -> None:
        self._guest = guest
        self.context: Context = guest.wasi or NOTHING
        self.started = guest.started or time.monotonic_ns()
        """The guest's clock begins with it: it isn't told for how long the machine has been running."""
        self.unfinished: set[asyncio.Task[None]] = set()
        """What prints the streams that a guest of WASI 0.3 handed over."""

    @property
    def files(self) -> Files:
        """Its descriptors."""
        guest = self._guest
        if guest.files is None:
            guest.files = self.context.files()
        files: Files = guest.files
        return files


def state_of(guest: WasiGuest) -> State:
    return guest.sessions.kept(State, lambda: State(guest))
