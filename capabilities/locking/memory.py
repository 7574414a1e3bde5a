"""`distributed_locking.memory`: locks that live as long as one `run`, and that all its workers share.

The main process keeps them; a worker asks it (slight_py/sharing.py).
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from capabilities.locking import WAIT_SECONDS, LockError, timed_out
from capabilities.locking.keys import Keys

TOTAL_LIMIT = 100_000
"""How many locks may be held and waited for in all."""


@dataclass(slots=True)
class _Held:
    """A lock that a session holds."""

    place: tuple[str, bytes]
    """Its set, and its name."""
    timer: asyncio.TimerHandle | None = None


class MemoryLocks:
    """The locks themselves."""

    REQUIRED: ClassVar[tuple[str, ...]] = ()
    OPTIONAL: ClassVar[tuple[str, ...]] = ()

    def __init__(self, _configs: Mapping[str, str]) -> None:
        self._locks: dict[tuple[str, bytes], deque[asyncio.Future[None]]] = {}
        """Those that are held, by their set and name, with those who wait, the first one first."""
        self._keys: Keys[_Held] = Keys()
        self._waiting = 0
        self._clients = itertools.count()

    def connect(self) -> MemoryClient:
        """The backend for one process."""
        return MemoryClient(self, next(self._clients))

    async def lock(self, session: Hashable, name: str, lock: bytes, seconds: int | None) -> bytes:
        """Raises LockError."""
        self._keys.check(session)
        if len(self._keys) + self._waiting >= TOTAL_LIMIT:
            raise LockError("too many locks are held and waited for")
        held = _Held((name, lock))
        if held.place in self._locks:
            await self._wait(held.place)
        else:
            self._locks[held.place] = deque()
        key = self._keys.add(session, name, held)
        if seconds is not None:
            held.timer = asyncio.get_running_loop().call_later(seconds, self._give_back, key)
        return key

    async def unlock(self, session: Hashable, name: str, key: bytes) -> None:
        """Raises NoSuchKey."""
        self._keys.find(session, name, key)
        self._give_back(key)

    async def end(self, session: Hashable) -> None:
        for key in self._keys.of(session):
            self._give_back(key)

    async def close(self) -> None:
        for session in self._keys.sessions():
            await self.end(session)

    async def _wait(self, place: tuple[str, bytes]) -> None:
        """Waits for one's turn, from which on one holds the lock. Raises LockTimeout."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._locks[place]
        waiting.append(turn)
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await turn
        except BaseException as error:
            if turn in waiting:
                waiting.remove(turn)
            else:
                self._pass_on(place)  # it was one's turn at the same moment
            if isinstance(error, TimeoutError):
                raise timed_out() from None
            raise
        finally:
            self._waiting -= 1

    def _give_back(self, key: bytes) -> None:
        held = self._keys.remove(key)
        if held.timer is not None:
            held.timer.cancel()
        self._pass_on(held.place)

    def _pass_on(self, place: tuple[str, bytes]) -> None:
        """Hands a lock on to the first one that waits for it."""
        waiting = self._locks[place]
        if not waiting:
            del self._locks[place]
            return
        turn = waiting.popleft()
        if not turn.done():  # else whoever waited was cancelled, and passes it on
            turn.set_result(None)


class MemoryClient:
    """What one process sees of the locks: its sessions are its own, and end with it."""

    def __init__(self, locks: MemoryLocks, number: int) -> None:
        self._locks = locks
        self._number = number
        self._sessions: set[int] = set()

    async def lock(self, session: int, name: str, lock: bytes, seconds: int | None) -> bytes:
        """Raises LockError."""
        self._sessions.add(session)
        return await self._locks.lock((self._number, session), name, lock, seconds)

    async def unlock(self, session: int, name: str, key: bytes) -> None:
        """Raises NoSuchKey."""
        await self._locks.unlock((self._number, session), name, key)

    async def end(self, session: int) -> None:
        self._sessions.discard(session)
        await self._locks.end((self._number, session))

    async def close(self) -> None:
        for session in list(self._sessions):
            await self.end(session)
