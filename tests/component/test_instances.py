"""Which instance answers a request."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from slight_py.component import instances
from slight_py.component.instances import Instances, InUse
from slight_py.engine import Trap


class Instance:
    """An instance that lets requests in, or doesn't; its own guest, and its own state."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.open = True
        self.closed = False
        self.failure: Exception | None = None

    def guest(self, _function: object) -> Instance:
        return self

    @property
    def state(self) -> Instance:
        return self

    def is_open(self) -> bool:
        return self.open

    def close(self) -> None:
        assert not self.closed
        self.closed = True


class Pool:
    """Instances whose makes are counted."""

    def __init__(self, requests: int) -> None:
        self.made: list[Instance] = []
        self.instances = Instances(self._make, None, requests)

    async def _make(self) -> Any:
        await asyncio.sleep(0)
        self.made.append(Instance(len(self.made)))
        return self.made[-1]

    async def take(self) -> InUse:
        return await self.instances.take()

    async def take_alone(self) -> InUse:
        """One that lets no other in meanwhile."""
        used = await self.take()
        number(used).open = False
        return used

    def give_back(self, used: InUse) -> None:
        number(used).open = True
        self.instances.give_back(used)

    @property
    def open(self) -> list[int]:
        return [each.number for each in self.made if not each.closed]


def number(used: InUse) -> Instance:
    instance: Any = used.instance
    assert isinstance(instance, Instance)
    return instance


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def test_an_instance_is_closed_after_its_requests() -> None:
    async def main() -> None:
        pool = Pool(2)
        one, two, three = [await pool.take() for _ in range(3)]
        assert one is two
        assert three is not one
        pool.give_back(one)
        assert pool.open == [0, 1]
        pool.give_back(two)
        assert pool.open == [1]
        pool.give_back(three)
        assert pool.open == [1], "it may answer another request"
        pool.instances.close()
        assert pool.open == []

    run(main())


def test_a_request_that_isnt_let_in_gets_an_instance_that_answers_none() -> None:
    async def main() -> None:
        pool = Pool(9)
        one, two = await pool.take_alone(), await pool.take_alone()
        assert one is not two
        pool.give_back(one)
        assert await pool.take_alone() is one
        assert len(pool.made) == 2

    run(main())


def test_instances_that_are_made_at_the_same_time_are_kept() -> None:
    async def main() -> None:
        pool = Pool(9)
        one, two = await asyncio.gather(pool.take_alone(), pool.take_alone())
        pool.give_back(one)
        pool.give_back(two)
        again = [await pool.take_alone() for _ in range(2)]
        assert {id(each) for each in again} == {id(one), id(two)}

    run(main())


def test_so_many_instances_wait_for_requests_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "IDLE", 2)

    async def main() -> None:
        pool = Pool(9)
        for used in [await pool.take_alone() for _ in range(5)]:
            pool.give_back(used)
        assert len(pool.open) == 3, "two, and the one that gets the next request"
        pool.instances.close()
        assert pool.open == []

    run(main())


def test_an_instance_that_is_given_up_ends_with_its_last_request() -> None:
    async def main() -> None:
        pool = Pool(9)
        one, two = await pool.take(), await pool.take()
        pool.instances.give_up(one)
        pool.give_back(one)
        assert pool.open == [0], "the other request goes on"
        assert not two.is_last
        assert await pool.take() is not two
        pool.give_back(two)
        assert pool.open == [1]

    run(main())


def test_an_instance_that_ends_between_two_requests_is_replaced_and_the_log_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        pool = Pool(9)
        used = await pool.take()
        pool.give_back(used)
        number(used).failure = Trap("unreachable")
        assert await pool.take() is not used
        assert pool.open == [1]

    run(main())
    assert caplog.messages == ["an instance has ended between two requests: unreachable"]
