"""What a guest is told through the interface `distributed-locking`."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from bindgen.runtime import Err
from capabilities import notices
from capabilities.bindings import distributed_locking as bindings
from capabilities.locking import (
    NAME_LIMIT,
    TIME_TO_LIVE_LIMIT,
    LockError,
    LockTimeout,
    NoSuchKey,
    NotAcquired,
    NotReleased,
    ProtocolFault,
    Unreachable,
)
from capabilities.locking.host import Locks, hosts
from capabilities.locking.memory import MemoryLocks


def host_of(**grants: Any) -> Locks:
    host = hosts(grants)["distributed-locking"]
    assert isinstance(host, Locks)
    return host


class Failing:
    """A backend that fails."""

    def __init__(self, error: LockError) -> None:
        self._error = error

    async def lock(self, *_: Any) -> bytes:
        raise self._error


@pytest.mark.parametrize(
    ("error", "case"),
    [
        (NotAcquired, bindings.DistributedLockingErrorLockAcquireError),
        (NotReleased, bindings.DistributedLockingErrorLockReleaseError),
        (LockTimeout, bindings.DistributedLockingErrorLockTimeoutError),
        (Unreachable, bindings.DistributedLockingErrorConnectionError),
        (ProtocolFault, bindings.DistributedLockingErrorProtocolError),
        (NoSuchKey, bindings.DistributedLockingErrorInvalidLockId),
        (LockError, bindings.DistributedLockingErrorUnexpectedError),
    ],
)
def test_every_error_has_its_case_and_the_user_is_told_once(
    error: type[LockError], case: type[Any], caplog: pytest.LogCaptureFixture
) -> None:
    notices.forget()

    async def scenario() -> None:
        locks = await host_of(my=Failing(error("text", "start it"))).session().distributed_locking_open("my")
        for _ in range(2):
            with pytest.raises(Err) as caught:
                await locks.lock(b"lock")
            assert caught.value.value == case("text")

    with caplog.at_level(logging.WARNING, "slight_py"):
        asyncio.run(scenario())
    assert caplog.messages == ["start it"]


def test_a_name_that_is_not_granted_is_an_error_that_says_what_is() -> None:
    async def scenario() -> None:
        session = host_of(my=MemoryLocks({}).connect()).session()
        for name, words in (("other", "granted: 'my'"), ("", "granted")):
            with pytest.raises(Err) as caught:
                await session.distributed_locking_open(name)
            assert words in caught.value.value.value

    asyncio.run(scenario())


@pytest.mark.parametrize("seconds", [0, -1, -(2**63), TIME_TO_LIVE_LIMIT + 1, 2**63 - 1])
def test_a_time_to_live_that_makes_no_sense_takes_no_lock(seconds: int) -> None:
    async def scenario() -> None:
        backend = MemoryLocks({})
        locks = await host_of(my=backend.connect()).session().distributed_locking_open("my")
        with pytest.raises(Err) as caught:
            await locks.lock_with_time_to_live(b"lock", seconds)
        assert isinstance(caught.value.value, bindings.DistributedLockingErrorLockAcquireError)
        await locks.unlock(await locks.lock(b"lock"))
        for good in (1, TIME_TO_LIVE_LIMIT):
            await locks.unlock(await locks.lock_with_time_to_live(b"lock", good))

    asyncio.run(scenario())


def test_a_name_that_is_too_long_takes_no_lock() -> None:
    async def scenario() -> None:
        locks = await host_of(my=MemoryLocks({}).connect()).session().distributed_locking_open("my")
        with pytest.raises(Err) as caught:
            await locks.lock(b"n" * (NAME_LIMIT + 1))
        assert isinstance(caught.value.value, bindings.DistributedLockingErrorLockAcquireError)
        await locks.lock(b"n" * NAME_LIMIT)

    asyncio.run(scenario())


def test_an_instance_can_not_give_back_anothers_lock_and_its_end_gives_back_its_own() -> None:
    async def scenario() -> None:
        host = host_of(my=MemoryLocks({}).connect())
        sessions = [host.session(), host.session()]
        mine, others = [await session.distributed_locking_open("my") for session in sessions]
        key = await mine.lock(b"lock")
        with pytest.raises(Err) as caught:
            await others.unlock(key)
        assert isinstance(caught.value.value, bindings.DistributedLockingErrorInvalidLockId)
        waiting = asyncio.create_task(others.lock(b"lock"))
        await sessions[0].close()
        await asyncio.wait_for(waiting, 5)

    asyncio.run(scenario())
