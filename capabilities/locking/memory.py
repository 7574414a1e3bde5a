"""`distributed_locking.memory`: locks that live as long as one `run`, and that all its workers share.

The main process keeps them; a worker asks it (slight_py/sharing.py).
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from capabilities.locking import WAIT_SECONDS, LockError, no_such_key, timed_out

TOTAL_LIMIT = 100_000
"""How many locks may be held and waited for in all."""

KEY_BYTES = 16


@dataclass(slots=True)
class _Lock:
    """A lock that somebody holds."""

    holder: bytes
    waiting: deque[asyncio.Future[bytes]] = field(default_factory=deque)
    """Those whose turn it is next, with the first one first. Each gets the key that it holds the lock under."""


@dataclass(slots=True)
class _Held:
    """What a session holds under a key."""

    session: Hashable
    set_name: str
    lock: tuple[str, bytes]
    timer: asyncio.TimerHandle | None = None


class MemoryLocks:
    """The locks themselves."""

    REQUIRED: ClassVar[tuple[str, ...]] = ()
    OPTIONAL: ClassVar[tuple[str, ...]] = ()

    def __init__(self, _configs: Mapping[str, str]) -> None:
        self._locks: dict[tuple[str, bytes], _Lock] = {}
        """Those that are held, by their set and name."""
        self._held: dict[bytes, _Held] = {}
        self._keys: dict[Hashable, set[bytes]] = {}
        """The keys of each session."""
        self._waiting = 0

    def connect(self) -> MemoryClient:
        """The backend for one process."""
        return MemoryClient(self)

    async def lock(self, session: Hashable, name: str, lock: bytes, seconds: int | None) -> bytes:
        """Raises LockError."""
        if len(self._held) + self._waiting >= TOTAL_LIMIT:
            raise LockError("too many locks are held and waited for")
        place = (name, lock)
        entry = self._locks.get(place)
        if entry is None:
            key = secrets.token_bytes(KEY_BYTES)
            self._locks[place] = _Lock(key)
        else:
            key = await self._wait(place, entry)
        held = self._held[key] = _Held(session, name, place)
        self._keys.setdefault(session, set()).add(key)
        if seconds is not None:
            held.timer = asyncio.get_running_loop().call_later(seconds, self._give_back, key)
        return key

    async def unlock(self, session: Hashable, name: str, key: bytes) -> None:
        """Raises NoSuchKey."""
        held = self._held.get(key)
        if held is None or (held.session, held.set_name) != (session, name):
            raise no_such_key()
        self._give_back(key)

    async def end(self, session: Hashable) -> None:
        for key in list(self._keys.get(session, ())):
            self._give_back(key)

    async def close(self) -> None:
        for session in list(self._keys):
            await self.end(session)

    async def _wait(self, place: tuple[str, bytes], entry: _Lock) -> bytes:
        """Waits for one's turn; returns the key that one holds the lock under then."""
        turn: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        entry.waiting.append(turn)
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._pass_on(place)  # it was one's turn at the same moment
            elif turn in entry.waiting:
                entry.waiting.remove(turn)
            if isinstance(error, TimeoutError):
                raise timed_out() from None
            raise
        finally:
            self._waiting -= 1

    def _give_back(self, key: bytes) -> None:
        held = self._held.pop(key)
        if held.timer is not None:
            held.timer.cancel()
        keys = self._keys[held.session]
        keys.discard(key)
        if not keys:
            del self._keys[held.session]
        self._pass_on(held.lock)

    def _pass_on(self, place: tuple[str, bytes]) -> None:
        """Hands a lock on to the first one that waits for it."""
        entry = self._locks[place]
        while entry.waiting:
            turn = entry.waiting.popleft()
            if not turn.done():
                entry.holder = secrets.token_bytes(KEY_BYTES)
                turn.set_result(entry.holder)
                return
        del self._locks[place]


class MemoryClient:
    """What one process sees of the locks: its sessions are its own, and end with it."""

    def __init__(self, locks: MemoryLocks) -> None:
        self._locks = locks
        self._sessions: set[int] = set()

    async def lock(self, session: int, name: str, lock: bytes, seconds: int | None) -> bytes:
        """Raises LockError."""
        self._sessions.add(session)
        return await self._locks.lock((id(self), session), name, lock, seconds)

    async def unlock(self, session: int, name: str, key: bytes) -> None:
        """Raises NoSuchKey."""
        await self._locks.unlock((id(self), session), name, key)

    async def end(self, session: int) -> None:
        self._sessions.discard(session)
        await self._locks.end((id(self), session))

    async def close(self) -> None:
        for session in list(self._sessions):
            await self.end(session)
