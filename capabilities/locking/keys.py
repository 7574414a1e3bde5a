"""The keys that sessions hold their locks under: nobody can guess one, and one session's are of no use to another."""

from __future__ import annotations

import secrets
from collections.abc import Hashable
from typing import Generic, TypeVar

from capabilities.locking import LOCKS_LIMIT, NotAcquired, no_such_key

T = TypeVar("T")

KEY_BYTES = 16


class Keys(Generic[T]):
    """What is held under each key."""

    def __init__(self) -> None:
        self._held: dict[bytes, tuple[Hashable, str, T]] = {}
        """By key: the session, the set of locks, and what is held."""
        self._of: dict[Hashable, set[bytes]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def check(self, session: Hashable) -> None:
        """Raises NotAcquired where the session may hold no more."""
        if len(self._of.get(session, ())) >= LOCKS_LIMIT:
            raise NotAcquired(f"{LOCKS_LIMIT} locks are held here already, and no more may be")

    def add(self, session: Hashable, name: str, held: T) -> bytes:
        """Returns the new key."""
        key = secrets.token_bytes(KEY_BYTES)
        self._held[key] = (session, name, held)
        self._of.setdefault(session, set()).add(key)
        return key

    def find(self, session: Hashable, name: str, key: bytes) -> T:
        """Raises NoSuchKey where the session holds nothing of the set `name` under the key."""
        entry = self._held.get(key)
        if entry is None or entry[:2] != (session, name):
            raise no_such_key()
        return entry[2]

    def remove(self, key: bytes) -> T:
        """Raises KeyError."""
        session, _, held = self._held.pop(key)
        keys = self._of[session]
        keys.discard(key)
        if not keys:
            del self._of[session]
        return held

    def of(self, session: Hashable) -> list[bytes]:
        """The keys of a session."""
        return list(self._of.get(session, ()))

    def sessions(self) -> list[Hashable]:
        """Those that hold anything."""
        return list(self._of)
