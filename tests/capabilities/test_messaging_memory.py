"""What is `messaging.memory`'s own: its limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from capabilities.messaging import DeliveryFailed, TopicNotFound
from capabilities.messaging.memory import MESSAGE_BYTES, QUEUE_LIMIT, SUBSCRIPTION_BYTES, MemoryTopics


def run(scenario: Callable[[MemoryTopics], Awaitable[None]], limit: int = 1_000_000) -> None:
    asyncio.run(asyncio.wait_for(scenario(MemoryTopics({}, limit)), 20))


async def until_refused(call: Callable[[int], Awaitable[object]]) -> tuple[int, str]:
    """How often a call can be made until it is refused, and why it is then."""
    for number in range(10_000):
        try:
            await call(number)
        except DeliveryFailed as error:
            return number, str(error)
    pytest.fail("it is never refused")


def test_a_publisher_that_finds_no_room_is_told_and_nobody_gets_the_message() -> None:
    async def scenario(topics: MemoryTopics) -> None:
        desk = topics.connect()
        slow, quick = await desk.subscribe("name", "topic"), await desk.subscribe("name", "topic")
        published, error = await until_refused(lambda _: desk.publish("name", bytes(10_000), "topic"))
        assert "may take 1000000 bytes in all" in error
        room = 1_000_000 - 2 * (SUBSCRIPTION_BYTES + len("nametopic"))
        assert published == room // (2 * (10_000 + MESSAGE_BYTES))
        for number in (slow, quick):
            for _ in range(published):
                assert await desk.receive(number) == bytes(10_000)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(desk.receive(number), 0.01)
        await desk.publish("name", b"again", "topic")
        await desk.close()
        assert topics.used_bytes == 0

    run(scenario)


def test_one_subscription_that_nobody_reads_leaves_room_for_others() -> None:
    async def scenario(topics: MemoryTopics) -> None:
        desk = topics.connect()
        full, other = await desk.subscribe("name", "full"), await desk.subscribe("name", "other")
        size = QUEUE_LIMIT // 4
        published, error = await until_refused(lambda _: desk.publish("name", bytes(size), "full"))
        assert published == 3
        assert "a subscription is full" in error
        await desk.publish("name", b"message", "other")
        assert await desk.receive(other) == b"message"
        assert await desk.receive(full) == bytes(size)
        await desk.publish("name", bytes(size), "full")

    run(scenario, 4 * QUEUE_LIMIT)


def test_subscriptions_and_their_topics_count() -> None:
    async def scenario(topics: MemoryTopics) -> None:
        desk = topics.connect()
        subscribed, _ = await until_refused(lambda number: desk.subscribe("name", f"{number:05}" + "é" * 5_000))
        assert subscribed == 1_000_000 // (SUBSCRIPTION_BYTES + len("name") + 5 + 10_000)
        await desk.close()
        assert topics.used_bytes == 0

    run(scenario)


def test_what_one_user_has_subscribed_to_is_not_anothers() -> None:
    async def scenario(topics: MemoryTopics) -> None:
        one, other = topics.connect(), topics.connect()
        number = await one.subscribe("name", "topic")
        await one.publish("name", b"message", "topic")
        with pytest.raises(TopicNotFound):
            await other.receive(number)
        await other.unsubscribe(number)
        await other.close()
        assert await one.receive(number) == b"message"

    run(scenario)


def test_a_closed_subscription_takes_no_message() -> None:
    async def scenario(topics: MemoryTopics) -> None:
        desk = topics.connect()
        number = await desk.subscribe("name", "topic")
        await desk.unsubscribe(number)
        await desk.unsubscribe(number)
        await desk.publish("name", bytes(100_000), "topic")
        assert topics.used_bytes == 0
        with pytest.raises(TopicNotFound):
            await desk.receive(number)

    run(scenario)
