"""Answers a guest's `distributed-locking` imports with the locks that it is granted."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Mapping
from typing import Final, TypeVar

from bindgen.runtime import Err
from capabilities import notices
from capabilities.bindings import distributed_locking as bindings
from capabilities.errors import CapabilityError
from capabilities.grants import Grants, NotGranted
from capabilities.locking import (
    NAME_LIMIT,
    TIME_TO_LIVE_LIMIT,
    Backend,
    LockTimeout,
    NoSuchKey,
    NotAcquired,
    NotReleased,
    ProtocolFault,
    Unreachable,
)

T = TypeVar("T")

_CASES: Final[tuple[tuple[type[CapabilityError], type[bindings.DistributedLockingError]], ...]] = (
    (NotAcquired, bindings.DistributedLockingErrorLockAcquireError),
    (NotReleased, bindings.DistributedLockingErrorLockReleaseError),
    (LockTimeout, bindings.DistributedLockingErrorLockTimeoutError),
    (Unreachable, bindings.DistributedLockingErrorConnectionError),
    (ProtocolFault, bindings.DistributedLockingErrorProtocolError),
    (NoSuchKey, bindings.DistributedLockingErrorInvalidLockId),
    (CapabilityError, bindings.DistributedLockingErrorUnexpectedError),
)
"""Which error is which case: the first one that fits."""


def hosts(grants: Mapping[str, Backend]) -> dict[str, object]:
    """What answers the interface of the family: see `Locks` for `grants`."""
    return {"distributed-locking": Locks(grants)}


class Locks:
    """Makes what implements `DistributedLockingHost` for each instance of a guest.

    `grants` says which backend keeps the set of locks of which name; the name `*` stands for every name that has no
    grant of its own.
    """

    def __init__(self, grants: Mapping[str, Backend]) -> None:
        self._grants = Grants("distributed_locking", "set of locks", grants)
        self._numbers = itertools.count(1)

    def session(self) -> Session:
        return Session(self._grants, next(self._numbers))


class Session:
    """Implements `DistributedLockingHost` for one instance, and gives its locks back when it ends."""

    def __init__(self, grants: Grants[Backend], number: int) -> None:
        self._grants = grants
        self.number = number
        self._used: dict[int, Backend] = {}
        """The backends that the instance has used, by their identity."""

    async def distributed_locking_open(self, name: str) -> bindings.DistributedLocking:
        """Raises Err[DistributedLockingError]: `unexpected-error` for a name that is not granted."""
        try:
            backend = self._grants.of(name)
        except NotGranted as error:
            raise Err(bindings.DistributedLockingErrorUnexpectedError(str(error))) from None
        if len(name.encode()) > NAME_LIMIT:
            text = f"the name of a set of locks may have {NAME_LIMIT} bytes"
            raise Err(bindings.DistributedLockingErrorUnexpectedError(text))
        self._used[id(backend)] = backend
        return LockSet(backend, self, name)

    async def close(self) -> None:
        await asyncio.gather(*(backend.end(self.number) for backend in self._used.values()))


class LockSet:
    """Implements the resource `distributed-locking`."""

    __slots__ = ("_backend", "_name", "_session")

    def __init__(self, backend: Backend, session: Session, name: str) -> None:
        self._backend = backend
        self._session = session
        self._name = name

    async def lock(self, lock_name: bytes) -> bytes:
        """Raises Err[DistributedLockingError]."""
        return await self._lock(lock_name, None)

    async def lock_with_time_to_live(self, lock_name: bytes, time_to_live_in_secs: int) -> bytes:
        """Raises Err[DistributedLockingError]."""
        if not 1 <= time_to_live_in_secs <= TIME_TO_LIVE_LIMIT:
            text = f"a time to live of {time_to_live_in_secs} seconds is not possible: 1 to {TIME_TO_LIVE_LIMIT} are"
            raise Err(bindings.DistributedLockingErrorLockAcquireError(text))
        return await self._lock(lock_name, time_to_live_in_secs)

    async def unlock(self, lock_key: bytes) -> None:
        """Raises Err[DistributedLockingError]."""
        await _asked(self._backend.unlock(self._session.number, self._name, bytes(lock_key)))

    async def _lock(self, name: bytes, seconds: int | None) -> bytes:
        if len(name) > NAME_LIMIT:
            raise _mapped(NotAcquired(f"{len(name)} bytes are more than the {NAME_LIMIT} a lock's name may have"))
        return await _asked(self._backend.lock(self._session.number, self._name, bytes(name), seconds))


async def _asked(answer: Awaitable[T]) -> T:
    try:
        return await answer
    except CapabilityError as error:
        if error.notice:
            notices.tell(error.notice)
        raise _mapped(error) from None


def _mapped(error: CapabilityError) -> Err[bindings.DistributedLockingError]:
    return Err(next(case for kind, case in _CASES if isinstance(error, kind))(str(error)))
