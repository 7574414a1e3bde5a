"""What everything that carries messages does alike.

A backend is added to `CARRIERS`: how it is opened, for a test alone, and what it does in a way of its own.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bindgen.runtime import Err
from capabilities.bindings.messaging import (
    MessagingErrorDeliveryFailed,
    MessagingErrorPayloadTooLarge,
    MessagingErrorQueueOrTopicNotFound,
)
from capabilities.messaging import MESSAGE_LIMIT, TOPIC_LIMIT, Backend, Topics, host
from capabilities.messaging.azsbus import ServiceBusBackend
from capabilities.messaging.filesystem import FilesystemBackend
from capabilities.messaging.host import SUBSCRIPTIONS, Messages, Session
from capabilities.messaging.kafka import KafkaBackend
from capabilities.messaging.memory import MemoryTopics
from capabilities.messaging.mosquitto import MosquittoBackend
from capabilities.messaging.nats import NatsBackend
from capabilities.permissions import Permissions
from slight_py.sharing import Connection, serve
from tests.broker_servers import MosquittoServer, NatsServer
from tests.kafka_server import KafkaServer
from tests.service_bus import LARGEST as SERVICE_BUS_LARGEST
from tests.service_bus import ServiceBus

EVERYTHING = {"*": Permissions("", "messaging", "app.wasm", ())}
"""What a module may do without a slightfile."""

ANY_TOPICS = ("", ".", "..", "../up", "/", "a/b", "a b", "*", "%", "%41", "new\nline", "nul\0", "ключ", "🦀", "x" * 300)
"""Topics that differ, where any text is a topic."""


@dataclass(frozen=True)
class Carrier:
    """A backend as these tests see it."""

    open: Callable[[Path], AbstractAsyncContextManager[Backend]]
    """Opens it, with a directory that is the test's own; leaving the block closes it."""
    keeps: bool = False
    """Whether a message that nobody is subscribed to waits for the first subscription."""
    names_apart: bool = True
    """Whether the topics of two names are different ones."""
    fans_out: bool = True
    """Whether every subscription sees every message, and not one of them each, as with a queue."""
    largest: int = MESSAGE_LIMIT
    """The largest message that it carries."""
    topics: tuple[str, ...] = field(default=ANY_TOPICS)
    """Topics that are not alike, with every awkward character that they may have."""
    seconds: float = 5.0
    """How long a message may be under way."""
    quiet: float = 0.2
    """How long to wait before it's clear that none comes."""


@asynccontextmanager
async def memory(directory: Path) -> AsyncIterator[Backend]:
    topics = MemoryTopics({})
    desk = topics.connect()
    yield MemoryTopics.attach(desk)
    await desk.close()
    assert topics.used_bytes == 0
    await topics.close()


KEY = ("capabilities.messaging.memory:MemoryTopics", ())


@asynccontextmanager
async def memory_of_a_worker(directory: Path) -> AsyncIterator[Backend]:
    here, there = socket.socketpair()
    topics = MemoryTopics({})
    serving = asyncio.create_task(serve({KEY: topics}, here))
    connection = Connection(there)
    yield MemoryTopics.attach(connection.backend(KEY))
    await connection.close()
    await serving
    assert topics.used_bytes == 0


def filesystem(directory: Path) -> AbstractAsyncContextManager[Backend]:
    return closing(FilesystemBackend({"DIRECTORY": str(directory / "messages")}))


@asynccontextmanager
async def closing(backend: Backend) -> AsyncIterator[Backend]:
    yield backend
    await backend.close()


SERVERS = ExitStack()
"""The servers that these tests share, as they take long to start."""


@functools.cache
def kafka_server() -> KafkaServer:
    return SERVERS.enter_context(KafkaServer())


@pytest.fixture(scope="module", autouse=True)
def stopped_servers() -> Iterator[None]:
    with SERVERS:
        yield
    kafka_server.cache_clear()


@asynccontextmanager
async def mosquitto(directory: Path) -> AsyncIterator[Backend]:
    with MosquittoServer() as server:
        async with closing(MosquittoBackend(server.configs)) as backend:
            yield backend


@asynccontextmanager
async def nats(directory: Path) -> AsyncIterator[Backend]:
    with NatsServer() as server:
        async with closing(NatsBackend(server.configs)) as backend:
            yield backend


def kafka(directory: Path) -> AbstractAsyncContextManager[Backend]:
    return closing(KafkaBackend({"CAK_ENDPOINT": kafka_server().endpoint}))


@asynccontextmanager
async def service_bus(directory: Path) -> AsyncIterator[Backend]:
    async with ServiceBus() as bus, closing(ServiceBusBackend(bus.configs)) as backend:
        yield backend


MQTT_TOPICS = ("a/b", "a", "A", "/", "a/", "/a", "a//b", " ", "a.b", "..", "*", ">", "%41", "ключ", "🦀", "x" * 300)

NATS_TOPICS = ("a.b", "a", "A", "a/b", "/", "+", "#", "%41", "a$", "ключ", "🦀", "x" * 300)

KAFKA_TOPICS = ("a.b", "a-b", "a", "A", "...", "-", "_x", "x" * 249)
"""Kafka has no two topics that differ in `.` and `_` alone."""

QUEUES = ("a", "a.b", "a/b", "a-b", "a_b", "a~b", "x" * 260)

CARRIERS = {
    "memory": Carrier(memory),
    "memory of a worker": Carrier(memory_of_a_worker),
    "filesystem": Carrier(filesystem, keeps=True),
    "mosquitto": Carrier(mosquitto, names_apart=False, topics=MQTT_TOPICS),
    "nats": Carrier(nats, names_apart=False, largest=1024 * 1024, topics=NATS_TOPICS),
    # Its default limit, 1,048,588 bytes, is one of what it stores: 72 bytes more than a single message of that size.
    "kafka": Carrier(kafka, names_apart=False, largest=1_048_588 - 72, topics=KAFKA_TOPICS, quiet=0.7),
    "service bus": Carrier(
        service_bus, keeps=True, names_apart=False, fans_out=False, largest=SERVICE_BUS_LARGEST, topics=QUEUES
    ),
}

Scenario = Callable[[Backend, Carrier], Awaitable[None]]
Run = Callable[[Scenario], None]


@pytest.fixture(params=CARRIERS)
def carrier(request: pytest.FixtureRequest) -> Carrier:
    return CARRIERS[request.param]


@pytest.fixture
def run(carrier: Carrier, tmp_path: Path) -> Run:
    async def main(scenario: Scenario) -> None:
        async with asyncio.timeout(60), carrier.open(tmp_path) as backend:
            await scenario(backend, carrier)

    return lambda scenario: asyncio.run(main(scenario))


_numbers = itertools.count()


def fresh_topic() -> str:
    """A topic that no other test uses: a server may be shared."""
    return f"topic-{next(_numbers)}"


async def received(subscription: Any, carrier: Carrier, count: int) -> list[bytes | None]:
    return [await subscription.receive(carrier.seconds) for _ in range(count)]


async def topics_of(backend: Backend, name: str = "name") -> Topics:
    return await backend.open(name)


def test_a_message_arrives_byte_for_byte(run: Run) -> None:
    async def scenario(backend: Backend, carrier: Carrier) -> None:
        topics, topic = await topics_of(backend), fresh_topic()
        subscription = await topics.subscribe(topic)
        for message in (bytes(range(256)), b"line\nline\r\n", b"\0", b"\xff\xfe", b"", bytes(100_003)):
            await topics.publish(message, topic)
            assert await subscription.receive(carrier.seconds) == message
        await subscription.close()

    run(scenario)


def test_messages_come_in_the_order_in_which_they_were_published_and_each_once(run: Run) -> None:
    async def scenario(backend: Backend, carrier: Carrier) -> None:
        topics, topic = await topics_of(backend), fresh_topic()
        subscription = await topics.subscribe(topic)
        messages = [f"message {number}".encode() for number in range(50)]
        for message in messages:
            await topics.publish(message, topic)
        assert await received(subscription, carrier, 50) == messages
        assert await subscription.receive(carrier.quiet) is None
        await subscription.close()

    run(scenario)


def test_every_subscription_of_a_topic_sees_every_message(run: Run) -> None:
    async def scenario(backend: Backend, carrier: Carrier) -> None:
        topics, topic = await topics_of(backend), fresh_topic()
        subscriptions = [await topics.subscribe(topic) for _ in range(3)]
        messages = [b"one", b"two", b"three"]
        for message in messages:
            await topics.publish(message, topic)
        if carrier.fans_out:
            for subscription in subscriptions:
                assert await received(subscription, carrier, 3) == messages
        else:  # each sees what is left
            assert [await each.receive(carrier.seconds) for each in subscriptions] == messages
        for subscription in subscriptions:
            await subscription.close()

    run(scenario)


def test_a_subscription_sees_nothing_of_what_came_before_it_while_another_one_was_there(run: Run) -> None:
    async def scenario(backend: Backend, carrier: Carrier) -> None:
        topics, topic = await topics_of(backend), fresh_topic()
        first = await topics.subscribe(topic)
        await topics.publish(b"before", topic)
        assert await first.receive(carrier.seconds) == b"before"
        second = await topics.subscribe(topic)
        await topics.publish(b"after", topic)
        assert await second.receive(carrier.seconds) == b"after"
        assert await first.receive(carrier.seconds if carrier.fans_out else carrier.quiet) == (
            b"after" if carrier.fans_out else None
        )
        await first.close()
        await second.close()

    run(scenario)


def test_a_message_that_nobody_is_subscribed_to_is_kept_or_not_as_the_backend_says(run: Run) -> None:
    async def scenario(backend: Backend, carrier: Carrier) -> None:
        topics, topic = await topics_of(backend), fresh_topic()
        await topics.publish(b"early", topic)
        subscription = await topics.subscribe(topic)
        await topics.publish(b"late", topic)
        expected = [b"early", b"late"] if carrier.keeps else [b"late"]
        assert await received(subscription, carrier, len(expected)) == expected
        await subscription.close()

    run(scenario)


def test_a_topic_gets_no_message_of_another_one(run: Run) -> None:
    async def scenario(backend: Backend, carrier: Carrier) -> None:
        topics = await topics_of(backend)
        subscriptions = {topic: await topics.subscribe(topic) for topic in carrier.topics}
        for topic in carrier.topics:
            await topics.publish(f"to {topic}".encode(), topic)
        for topic, subscription in subscriptions.items():
            assert await subscription.receive(carrier.seconds) == f"to {topic}".encode()
        quiet = [each.receive(carrier.quiet) for each in subscriptions.values()]
        assert await asyncio.gather(*quiet) == [None] * len(quiet)
        for subscription in subscriptions.values():
            await subscription.close()

    run(scenario)


def test_topics_of_two_names_are_apart_or_not_as_the_backend_says(run: Run) -> None:
    async def scenario(backend: Backend, carrier: Carrier) -> None:
        one, other = await topics_of(backend, "one"), await topics_of(backend, "other")
        topic = fresh_topic()
        subscription = await one.subscribe(topic)
        await other.publish(b"from the other", topic)
        found = await subscription.receive(carrier.quiet if carrier.names_apart else carrier.seconds)
        assert found == (None if carrier.names_apart else b"from the other")
        await subscription.close()

    run(scenario)


def test_who_waits_gets_a_message_that_comes_meanwhile(run: Run) -> None:
    async def scenario(backend: Backend, carrier: Carrier) -> None:
        topics, topic = await topics_of(backend), fresh_topic()
        subscription = await topics.subscribe(topic)
        waiting = asyncio.create_task(subscription.receive(carrier.seconds))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await topics.publish(b"now", topic)
        assert await waiting == b"now"
        await subscription.close()

    run(scenario)


def test_who_waits_in_vain_waits_as_long_as_it_said(run: Run) -> None:
    async def scenario(backend: Backend, carrier: Carrier) -> None:
        subscription = await (await topics_of(backend)).subscribe(fresh_topic())
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await subscription.receive(0.3) is None
        assert 0.29 < loop.time() - began < 3
        await subscription.close()

    run(scenario)


def test_a_call_that_is_cancelled_loses_no_message(run: Run) -> None:
    async def scenario(backend: Backend, carrier: Carrier) -> None:
        topics, topic = await topics_of(backend), fresh_topic()
        subscription = await topics.subscribe(topic)
        messages = [f"message {number}".encode() for number in range(20)]
        found: list[bytes | None] = []
        for number, message in enumerate(messages):
            waiting = asyncio.create_task(subscription.receive(carrier.seconds))
            await asyncio.sleep(0)
            await topics.publish(message, topic)
            for _ in range(number):  # at another moment each time
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait({waiting})
            if not waiting.cancelled():
                found.append(waiting.result())
        found += await received(subscription, carrier, len(messages) - len(found))
        assert found == messages
        await subscription.close()

    run(scenario)


def test_many_publishers_at_once_lose_nothing(run: Run) -> None:
    async def scenario(backend: Backend, carrier: Carrier) -> None:
        topics, topic = await topics_of(backend), fresh_topic()
        subscription = await topics.subscribe(topic)
        messages = [f"message {number}".encode() for number in range(100)]
        await asyncio.gather(*(topics.publish(message, topic) for message in messages))
        assert sorted(filter(None, await received(subscription, carrier, 100))) == sorted(messages)
        await subscription.close()

    run(scenario)


def test_a_subscription_that_is_closed_holds_up_nobody(run: Run) -> None:
    async def scenario(backend: Backend, carrier: Carrier) -> None:
        topics, topic = await topics_of(backend), fresh_topic()
        closed, subscription = await topics.subscribe(topic), await topics.subscribe(topic)
        assert await closed.receive(carrier.quiet) is None
        await closed.close()
        for _ in range(10):
            await topics.publish(b"message", topic)
        assert await received(subscription, carrier, 10) == [b"message"] * 10
        await subscription.close()

    run(scenario)


# Through the interface.


async def failure(answer: Awaitable[object], case: type[Any]) -> str:
    with pytest.raises(Err) as error:
        await answer
    assert type(error.value.value) is case, error.value.value
    return str(error.value.value.value)


Guests = Callable[[Session, Session, Carrier], Awaitable[None]]


@pytest.fixture
def run_guests(run: Run) -> Callable[[Guests], None]:
    """Runs a scenario of two instances."""

    def run_scenario(scenario: Guests) -> None:
        async def main(backend: Backend, carrier: Carrier) -> None:
            messages = Messages({"*": backend}, EVERYTHING)
            one, other = messages.session(), messages.session()
            try:
                await scenario(one, other, carrier)
            finally:
                await one.close()
                await other.close()

        run(main)

    return run_scenario


def test_a_guest_receives_what_another_one_publishes(run_guests: Callable[[Guests], None]) -> None:
    async def scenario(one: Session, other: Session, carrier: Carrier) -> None:
        topic = fresh_topic()
        sub, pub = await one.sub_open("name"), await other.pub_open("name")
        token = await sub.subscribe(topic)
        await pub.publish(b"hello", topic)
        assert await sub.receive(token) == b"hello"
        assert await (await one.sub_open("name")).subscribe(topic) != token

    run_guests(scenario)


def test_a_token_is_worth_nothing_to_another_instance(run_guests: Callable[[Guests], None]) -> None:
    async def scenario(one: Session, other: Session, carrier: Carrier) -> None:
        token = await (await one.sub_open("name")).subscribe(fresh_topic())
        for guessed in (token, "", "0", token[:-1]):
            await failure((await other.sub_open("name")).receive(guessed), MessagingErrorQueueOrTopicNotFound)
        await failure((await one.sub_open("another name")).receive(token), MessagingErrorQueueOrTopicNotFound)

    run_guests(scenario)


def test_no_message_in_time_is_an_error_of_its_own_and_loses_nothing(
    run_guests: Callable[[Guests], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(one: Session, other: Session, carrier: Carrier) -> None:
        topic = fresh_topic()
        sub = await one.sub_open("name")
        token = await sub.subscribe(topic)
        monkeypatch.setattr(host, "RECEIVE_SECONDS", 0.2)
        assert "no message" in await failure(sub.receive(token), MessagingErrorDeliveryFailed)
        monkeypatch.undo()
        await (await other.pub_open("name")).publish(b"late", topic)
        assert await sub.receive(token) == b"late"

    run_guests(scenario)


def test_what_is_too_long_is_refused(run_guests: Callable[[Guests], None]) -> None:
    async def scenario(one: Session, other: Session, carrier: Carrier) -> None:
        pub, sub = await one.pub_open("name"), await one.sub_open("name")
        too_long = "é" * (TOPIC_LIMIT // 2 + 1)
        await failure(pub.publish(b"", too_long), MessagingErrorQueueOrTopicNotFound)
        await failure(sub.subscribe(too_long), MessagingErrorQueueOrTopicNotFound)
        await failure(one.pub_open(too_long), MessagingErrorQueueOrTopicNotFound)
        await failure(pub.publish(bytes(MESSAGE_LIMIT + 1), fresh_topic()), MessagingErrorPayloadTooLarge)
        await failure(pub.publish(bytes(carrier.largest + 1), fresh_topic()), MessagingErrorPayloadTooLarge)

    run_guests(scenario)


def test_the_largest_message_arrives(run_guests: Callable[[Guests], None]) -> None:
    async def scenario(one: Session, other: Session, carrier: Carrier) -> None:
        topic = fresh_topic()
        sub = await one.sub_open("name")
        token = await sub.subscribe(topic)
        await (await other.pub_open("name")).publish(bytes(carrier.largest), topic)
        assert await sub.receive(token) == bytes(carrier.largest)

    run_guests(scenario)


def test_an_instance_has_so_many_subscriptions_and_no_more(run_guests: Callable[[Guests], None]) -> None:
    async def scenario(one: Session, other: Session, carrier: Carrier) -> None:
        sub = await one.sub_open("name")
        await asyncio.gather(*(sub.subscribe(fresh_topic()) for _ in range(SUBSCRIPTIONS)))
        await failure(sub.subscribe(fresh_topic()), MessagingErrorDeliveryFailed)
        assert await (await other.sub_open("name")).subscribe(fresh_topic())

    run_guests(scenario)


def test_what_an_instance_was_subscribing_to_ends_with_it(run: Run) -> None:
    async def scenario(backend: Backend, carrier: Carrier) -> None:
        session = Messages({"*": backend}, EVERYTHING).session()
        sub = await session.sub_open("name")
        tasks = [asyncio.create_task(sub.subscribe(fresh_topic())) for _ in range(10)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await session.close()  # memory's carriers check that nothing is left

    run(scenario)
