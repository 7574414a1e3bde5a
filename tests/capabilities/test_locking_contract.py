"""What every backend of locks does alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from capabilities.locking import Backend, LockTimeout, NoSuchKey, NotAcquired, etcd, keys, memory
from capabilities.locking.etcd import EtcdBackend
from capabilities.locking.memory import MemoryLocks
from tests.etcd_server import EtcdServer
from tests.shared_backends import as_worker

Scenario = Callable[[Backend], Coroutine[Any, Any, None]]
Run = Callable[[Scenario], None]


@pytest.fixture(params=["memory", "memory, in a worker", "etcd"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a scenario with a backend, which holds nothing afterwards."""

    @asynccontextmanager
    async def made() -> AsyncIterator[Backend]:
        if request.param == "etcd":
            server: EtcdServer = request.getfixturevalue("shared_etcd")
            backend = EtcdBackend({"ETCD_ENDPOINT": server.endpoint})
            yield backend
            await backend.close()
            assert server.keys == []
            return
        locks = MemoryLocks({})
        if request.param == "memory":
            yield locks.connect()
        else:
            async with as_worker(locks) as backend:
                yield backend
        await locks.close()
        assert (locks._locks, len(locks._keys), locks._waiting) == ({}, 0, 0)

    def run(scenario: Scenario) -> None:
        async def whole() -> None:
            async with made() as backend, asyncio.timeout(30):
                await scenario(backend)
                for session in range(200):
                    await backend.end(session)

        asyncio.run(whole())

    return run


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a lock."""
    monkeypatch.setattr(memory, "WAIT_SECONDS", 0.3)
    monkeypatch.setattr(etcd, "WAIT_SECONDS", 0.3)


async def is_free(backend: Backend, name: str, lock: bytes) -> bool:
    """Whether a lock can be had; it's given back. For tests in which nobody waits long."""
    try:
        key = await backend.lock(199, name, lock, None)
    except LockTimeout:
        return False
    await backend.unlock(199, name, key)
    return True


@pytest.mark.usefixtures("quick")
def test_a_lock_has_one_holder_until_it_is_given_back(run: Run) -> None:
    async def scenario(backend: Backend) -> None:
        key = await backend.lock(1, "set", b"lock", None)
        assert not await is_free(backend, "set", b"lock")
        with pytest.raises(LockTimeout):
            await backend.lock(1, "set", b"lock", None)  # not for its holder either
        await backend.unlock(1, "set", key)
        assert await is_free(backend, "set", b"lock")

    run(scenario)


NAMES = [b"", b"a", b"a/", b"/a", b"a/b", b"a/b/c", b"A", b"a%2Fb", b"%", b"\0", b"\xff\xfe", b"a\0", b"n" * 1000]


@pytest.mark.usefixtures("quick")
def test_no_two_names_are_confused(run: Run) -> None:
    async def scenario(backend: Backend) -> None:
        places = [(name, lock) for name in ("", "set", "set/a", "a", "é") for lock in NAMES]
        for order in (places, places[::-1]):
            for name, lock in order:
                await backend.lock(1, name, lock, None)
            waiting = [is_free(backend, name, lock) for name, lock in places]
            assert not any(await asyncio.gather(*waiting))
            await backend.end(1)

    run(scenario)


@pytest.mark.usefixtures("quick")
def test_a_key_is_of_use_to_its_session_and_set_alone_and_once(run: Run) -> None:
    async def scenario(backend: Backend) -> None:
        key = await backend.lock(1, "set", b"lock", None)
        assert len(key) == keys.KEY_BYTES
        attempts = [(2, "set", key), (1, "other", key), (1, "set", b""), (1, "set", b"lock"), (1, "set", key + b"\0")]
        for session, name, attempt in attempts:
            with pytest.raises(NoSuchKey):
                await backend.unlock(session, name, attempt)
        assert not await is_free(backend, "set", b"lock")
        await backend.unlock(1, "set", key)
        with pytest.raises(NoSuchKey):
            await backend.unlock(1, "set", key)

    run(scenario)


@pytest.mark.usefixtures("quick")
def test_the_end_of_a_session_gives_all_its_locks_back(run: Run) -> None:
    async def scenario(backend: Backend) -> None:
        for number in range(5):
            await backend.lock(1, "set", bytes([number]), 1000 if number % 2 else None)
        await backend.lock(2, "set", b"other", None)
        await backend.end(1)
        assert all([await is_free(backend, "set", bytes([number])) for number in range(5)])
        assert not await is_free(backend, "set", b"other")

    run(scenario)


def test_whoever_waits_gets_the_lock_in_turn(run: Run) -> None:
    order = []

    async def wait(backend: Backend, session: int) -> None:
        key = await backend.lock(session, "set", b"lock", None)
        order.append(session)
        await backend.unlock(session, "set", key)

    async def scenario(backend: Backend) -> None:
        key = await backend.lock(1, "set", b"lock", None)
        waiting = []
        for session in range(2, 12):
            waiting.append(asyncio.create_task(wait(backend, session)))
            await asyncio.sleep(0.05)
        assert order == []
        await backend.unlock(1, "set", key)
        await asyncio.gather(*waiting)
        assert order == list(range(2, 12))

    run(scenario)


def test_of_a_hundred_that_contend_no_two_hold_it_at_once(run: Run) -> None:
    inside = 0
    turns = 0

    async def contend(backend: Backend, session: int) -> None:
        nonlocal inside, turns
        key = await backend.lock(session, "set", b"lock", None)
        inside += 1
        assert inside == 1
        await asyncio.sleep(0.001)
        inside -= 1
        turns += 1
        if session % 2:
            await backend.unlock(session, "set", key)
        else:
            await backend.end(session)

    async def scenario(backend: Backend) -> None:
        await asyncio.gather(*(contend(backend, session) for session in range(100)))

    run(scenario)
    assert turns == 100


def test_a_lock_with_a_time_to_live_is_given_back_by_itself(run: Run) -> None:
    async def scenario(backend: Backend) -> None:
        loop = asyncio.get_running_loop()
        key = await backend.lock(1, "set", b"lock", 1)
        began = loop.time()
        other = await backend.lock(2, "set", b"lock", None)
        assert 0.9 < loop.time() - began < 3
        with pytest.raises(NoSuchKey):
            await backend.unlock(1, "set", key)
        await backend.unlock(2, "set", other)

    run(scenario)


def test_the_time_to_live_begins_when_the_lock_is_had(run: Run) -> None:
    async def scenario(backend: Backend) -> None:
        first = await backend.lock(1, "set", b"lock", None)
        waiting = asyncio.create_task(backend.lock(2, "set", b"lock", 1))
        await asyncio.sleep(1.2)
        await backend.unlock(1, "set", first)
        await backend.unlock(2, "set", await waiting)

    run(scenario)


@pytest.mark.usefixtures("quick")
def test_a_call_that_is_cancelled_leaves_no_lock_behind(run: Run) -> None:
    async def scenario(backend: Backend) -> None:
        key = await backend.lock(1, "set", b"lock", None)
        waiting = [asyncio.create_task(backend.lock(2, "set", b"lock", None)) for _ in range(5)]
        await asyncio.sleep(0.1)
        for call in waiting:
            call.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await backend.unlock(1, "set", key)
        assert await is_free(backend, "set", b"lock")

    run(scenario)


def test_a_call_that_is_cancelled_at_any_moment_leaves_no_lock_behind(run: Run) -> None:
    async def scenario(backend: Backend) -> None:
        for step in range(60):
            lock = b"lock %d" % step
            holder = asyncio.create_task(backend.lock(1, "set", lock, None))
            call = asyncio.create_task(backend.lock(2, "set", lock, None))
            await asyncio.sleep(step / 10_000)
            if step % 3:
                await backend.end(1)
                for _ in range(step % 7):
                    await asyncio.sleep(0)
            call.cancel()
            with suppress(asyncio.CancelledError):
                await call
            await backend.end(2)
            await holder
            await backend.end(1)
            async with asyncio.timeout(5):
                key = await backend.lock(3, "set", lock, None)
            await backend.unlock(3, "set", key)

    run(scenario)


def test_a_session_holds_a_bounded_number_of_locks(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "LOCKS_LIMIT", 10)

    async def scenario(backend: Backend) -> None:
        held = [await backend.lock(1, "set", bytes([number]), None) for number in range(10)]
        with pytest.raises(NotAcquired, match="no more may be"):
            await backend.lock(1, "set", b"one more", None)
        await backend.unlock(1, "set", held[0])
        await backend.lock(1, "set", b"one more", None)

    run(scenario)


def test_the_locks_of_a_worker_that_dies_are_free() -> None:
    async def scenario() -> None:
        locks = MemoryLocks({})
        async with as_worker(locks) as one, as_worker(locks) as two:
            async with as_worker(locks) as third:
                await third.lock(1, "set", b"lock", None)
                waiting = asyncio.create_task(third.lock(2, "set", b"lock", None))
                mine = asyncio.create_task(one.lock(1, "set", b"lock", None))
                await asyncio.sleep(0.1)
            with pytest.raises(Exception, match="gone"):
                await waiting
            key = await asyncio.wait_for(mine, 5)
            # The same number is another session in another worker.
            with pytest.raises(NoSuchKey):
                await two.unlock(1, "set", key)
        await locks.close()
        assert locks._locks == {}

    asyncio.run(scenario())
