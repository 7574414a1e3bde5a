"""Locks: what stands behind the interface `distributed-locking`.

`host` answers the guests and hands their calls to the backends: `memory` and `etcd`. This module holds what the
backends share: their Protocol, limits and errors.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from capabilities.errors import CapabilityError

NAME_LIMIT = 4_096
"""How long the name of a lock, or of a set of locks, may be, in bytes."""

LOCKS_LIMIT = 1_000
"""How many locks a guest's instance may hold at once."""

TIME_TO_LIVE_LIMIT = 30 * 24 * 60 * 60
"""How long a lock may be held that is given back by itself, in seconds."""

WAIT_SECONDS = 20.0
"""How long a call waits for a lock: less than a request may take, so that its handler hears of it."""


class LockError(CapabilityError):
    """Anything that can go wrong with locks and has no class of its own."""


class NotAcquired(LockError):
    """The lock can't be had."""


class NotReleased(LockError):
    """The lock can't be given back."""


class LockTimeout(LockError):
    """The lock wasn't free in time."""


class Unreachable(LockError):
    """What keeps the locks can't be reached."""


class ProtocolFault(LockError):
    """What keeps the locks answered with something unexpected."""


class NoSuchKey(LockError):
    """No lock is held under this key."""


class Backend(Protocol):
    """What keeps locks.

    A backend is made as `Backend(configs)` from a mapping of strings: that checks the configuration, raises
    ConfigError, and does no I/O. Its methods take and return plain values, so that they can be called from another
    process.

    `session` is a number of the caller's choice. Its locks are its own: no other session can give them back.
    """

    REQUIRED: ClassVar[tuple[str, ...]]
    """The keys that the configuration must have."""

    OPTIONAL: ClassVar[tuple[str, ...]]
    """The keys that it may have."""

    async def lock(self, session: int, name: str, lock: bytes, seconds: int | None) -> bytes:
        """Waits for the lock of the set `name`, in turn with all others, and returns a key for it.

        It's given back by `unlock` or `end`, or by itself after so many `seconds`. Raises LockError: LockTimeout after
        WAIT_SECONDS. A call that is cancelled leaves no lock behind.
        """
        ...

    async def unlock(self, session: int, name: str, key: bytes) -> None:
        """Gives back the lock that was taken with this key.

        Raises LockError: NoSuchKey where the session holds no lock of this set under the key.
        """
        ...

    async def end(self, session: int) -> None:
        """Gives back all locks of a session."""
        ...

    async def close(self) -> None:
        """Gives back all locks and lets go of what the backend holds."""
        ...


def timed_out() -> LockTimeout:
    return LockTimeout(f"the lock was not free within {WAIT_SECONDS:g} seconds")


def no_such_key() -> NoSuchKey:
    return NoSuchKey("no lock is held under this key")
