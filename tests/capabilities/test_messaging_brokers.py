"""What brokers of messages do when something is wrong. What they do when nothing is: test_messaging_contract.py."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.publish import single

from capabilities.errors import ConfigError
from capabilities.messaging import (
    Backend,
    ConnectionLost,
    DeliveryFailed,
    MessagingError,
    NotPermitted,
    PayloadTooLarge,
    TopicNotFound,
    Unavailable,
    inbox,
)
from capabilities.messaging.azsbus import ServiceBusBackend, sign
from capabilities.messaging.kafka import KafkaBackend
from capabilities.messaging.mosquitto import MosquittoBackend
from capabilities.messaging.nats import NatsBackend
from tests import kafka_server
from tests.broker_servers import PASSWORD, USER, MosquittoServer, NatsServer, nats_operator
from tests.kafka_server import KafkaServer
from tests.servers import HOST, free_port
from tests.service_bus import KEY, LARGEST, POLICY, ServiceBus

SECONDS = 5.0
"""How long a message may be under way."""


@dataclass(frozen=True)
class Kind:
    """A broker that sends messages by itself, and its backend."""

    server: Callable[..., MosquittoServer | NatsServer]
    backend: Callable[[Mapping[str, str]], Backend]
    user: Mapping[str, str]
    """The configs for USER and PASSWORD."""
    guarded: Callable[[], MosquittoServer | NatsServer]
    """A server that wants them, and lets the user use the topic `allowed` alone."""
    plain_address: Callable[[int], dict[str, str]]
    """The configs for a port of 127.0.0.1, without TLS."""


def guarded_mosquitto() -> MosquittoServer:
    return MosquittoServer(password=True, acl=f"user {USER}\ntopic readwrite allowed\n")


def guarded_nats() -> NatsServer:
    permissions = {"publish": ["allowed"], "subscribe": ["allowed"]}
    user = {"user": USER, "password": PASSWORD, "permissions": permissions}
    return NatsServer({"authorization": {"users": [user]}})


MQTT = Kind(
    MosquittoServer,
    MosquittoBackend,
    {"MOSQUITTO_USERNAME": USER, "MOSQUITTO_PASSWORD": PASSWORD},
    guarded_mosquitto,
    lambda port: {"MOSQUITTO_HOST": HOST, "MOSQUITTO_PORT": str(port)},
)
NATS = Kind(
    NatsServer,
    NatsBackend,
    {"NATS_USERNAME": USER, "NATS_PASSWORD": PASSWORD},
    guarded_nats,
    lambda port: {"NATS_ADDRESS": f"nats://{HOST}:{port}"},
)


@pytest.fixture(params=[MQTT, NATS], ids=["mosquitto", "nats"])
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@asynccontextmanager
async def closing(backend: Any) -> AsyncIterator[Any]:
    """The topics of a backend, which is closed afterwards."""
    try:
        yield await backend.open("name")
    finally:
        async with asyncio.timeout(5):
            await backend.close()


def run(scenario: Awaitable[None]) -> None:
    async def main() -> None:
        async with asyncio.timeout(120):
            await scenario

    asyncio.run(main())


async def failure(kind: type[MessagingError], answer: Awaitable[object]) -> MessagingError:
    with pytest.raises(MessagingError) as raised:
        await answer
    assert type(raised.value) is kind, repr(raised.value)
    return raised.value


def check_notice(error: MessagingError, *parts: str) -> None:
    """The notice has these parts, and nothing that is told to anybody has a secret."""
    assert error.notice is not None
    for part in parts:
        assert part in error.notice
    for secret in (PASSWORD, kafka_server.PASSWORD, KEY):
        assert secret not in error.notice + str(error)
    assert HOST not in str(error)


async def carries(topics: Any, topic: str = "allowed", message: bytes = b"hello") -> None:
    subscription = await topics.subscribe(topic)
    await topics.publish(message, topic)
    assert await subscription.receive(SECONDS) == message
    await subscription.close()


class Silent:
    """A server that accepts connections, and says nothing."""

    def __enter__(self) -> Silent:
        self._socket = socket.create_server((HOST, 0))
        self.port = self._socket.getsockname()[1]
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()


# Brokers that send by themselves.


def test_a_broker_that_is_away_at_start_is_used_when_it_comes(kind: Kind) -> None:
    async def scenario() -> None:
        server = kind.server()
        async with closing(kind.backend(server.configs)) as topics:
            for call in (topics.publish(b"", "topic"), topics.subscribe("topic")):
                check_notice(
                    await failure(Unavailable, call), f"{HOST}:{server.port}", "connection refused", "start it"
                )
            with server:
                await carries(topics)

    run(scenario())


def test_a_broker_that_returns_is_subscribed_to_again_and_the_gap_is_told_once(kind: Kind) -> None:
    async def scenario() -> None:
        with kind.server() as server:
            async with closing(kind.backend(server.configs)) as topics, closing(kind.backend(server.configs)) as others:
                one, two = await topics.subscribe("one"), await topics.subscribe("two")
                await topics.publish(b"before", "one")
                assert await one.receive(SECONDS) == b"before"
                await topics.publish(b"not received yet", "one")
                await carries(topics, "three")  # what was published before has come by now
                server.kill()
                await asyncio.sleep(0.1)  # until the end of the connection is noticed, publishing is a ConnectionLost
                await failure(Unavailable, topics.publish(b"lost", "one"))
                await failure(Unavailable, two.receive(0.1))
                server.start()
                assert await one.receive(SECONDS) == b"not received yet"
                await failure(ConnectionLost, one.receive(SECONDS))
                await failure(ConnectionLost, two.receive(SECONDS))
                for topic, subscription in (("one", one), ("two", two)):
                    await others.publish(topic.encode(), topic)
                    assert await subscription.receive(SECONDS) == topic.encode()
                    assert await subscription.receive(0.05) is None

    run(scenario())


def test_a_broker_that_dies_under_load_loses_nothing_that_it_confirmed_while_the_connection_lived(kind: Kind) -> None:
    async def scenario() -> None:
        with kind.server() as server:
            async with closing(kind.backend(server.configs)) as topics:
                subscription = await topics.subscribe("topic")
                published: list[bytes] = []

                async def publish(number: int) -> None:
                    for turn in range(10_000):
                        message = b"%d %d" % (number, turn)
                        try:
                            await topics.publish(message, "topic")
                        except (Unavailable, ConnectionLost):
                            return
                        published.append(message)

                publishing = [asyncio.create_task(publish(number)) for number in range(5)]
                found = [await subscription.receive(SECONDS) for _ in range(100)]
                began = time.monotonic()
                server.kill()
                await asyncio.gather(*publishing)
                assert time.monotonic() - began < 5
                while True:
                    try:
                        found.append(await subscription.receive(0.5))
                    except (Unavailable, ConnectionLost):
                        break
                for number in range(5):
                    mine = [each for each in found if each is not None and each.startswith(b"%d " % number)]
                    assert mine == [b"%d %d" % (number, turn) for turn in range(len(mine))]
                assert len(published) >= 90
                server.start()
                await carries(topics, "another")

    run(scenario())


def test_a_broker_that_does_not_answer_is_given_up(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capabilities.messaging.connected.CONNECT_SECONDS", 0.5)

    async def scenario() -> None:
        with Silent() as server:
            async with closing(kind.backend(kind.plain_address(server.port))) as topics:
                began = time.monotonic()
                error = await failure(Unavailable, topics.publish(b"", "topic"))
                check_notice(error, "no answer in time")
                assert time.monotonic() - began < 3

    run(scenario())


def test_what_is_no_broker_is_said_to_be_none(kind: Kind) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async def scenario() -> None:
        async with await asyncio.start_server(answer, HOST, 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with closing(kind.backend(kind.plain_address(port))) as topics:
                await failure(Unavailable, topics.publish(b"", "topic"))

    run(scenario())


def test_credentials_are_used_and_wrong_ones_refused(kind: Kind) -> None:
    async def scenario() -> None:
        with kind.guarded() as server:
            async with closing(kind.backend({**server.configs, **kind.user})) as topics:
                await carries(topics)
            password = next(key for key in kind.user if "PASSWORD" in key)
            for configs in ({**server.configs, **kind.user, password: "wrong"}, server.configs):
                async with closing(kind.backend(configs)) as topics:
                    for call in (topics.publish(b"", "allowed"), topics.subscribe("allowed")):
                        check_notice(await failure(NotPermitted, call), f"{HOST}:{server.port}", "correct")

    run(scenario())


def test_a_topic_that_the_broker_does_not_permit_is_refused_and_the_connection_lives(kind: Kind) -> None:
    async def scenario() -> None:
        with kind.guarded() as server:
            async with closing(kind.backend({**server.configs, **kind.user})) as topics:
                subscription = await topics.subscribe("allowed")
                check_notice(await failure(NotPermitted, topics.publish(b"", "Forbidden")), "Forbidden", "permission")
                if kind is NATS:  # Mosquitto takes the subscription, and then sends nothing
                    check_notice(await failure(NotPermitted, topics.subscribe("Forbidden")), "Forbidden", "permission")
                await topics.publish(b"hello", "allowed")
                assert await subscription.receive(SECONDS) == b"hello"

    run(scenario())


def test_tls_wants_a_certificate_that_is_trusted(kind: Kind) -> None:
    async def scenario() -> None:
        with kind.server(tls=True) as server:
            async with closing(kind.backend(server.configs)) as topics:
                await carries(topics, message=bytes(200_000))
            trusting_none = {key: value for key, value in server.configs.items() if "CA_FILE" not in key}
            if kind is MQTT:
                trusting_none["MOSQUITTO_TLS"] = "true"
            async with closing(kind.backend(trusting_none)) as topics:
                check_notice(await failure(Unavailable, topics.publish(b"", "topic")), "certificate is not trusted")
            missing = {**server.configs, next(key for key in server.configs if "CA_FILE" in key): "/nowhere"}
            async with closing(kind.backend(missing)) as topics:
                check_notice(await failure(Unavailable, topics.publish(b"", "topic")), "CA_FILE", "no such file")

    run(scenario())


def test_tls_is_not_given_up_for_a_broker_without_it(kind: Kind, tmp_path: Any) -> None:
    """Else whoever sits in between would get the credentials."""

    async def scenario() -> None:
        with kind.guarded() as server, kind.server(tls=True) as other:
            ca_file = next(key for key in other.configs if "CA_FILE" in key)
            configs = {**server.configs, **kind.user, ca_file: other.configs[ca_file]}
            async with closing(kind.backend(configs)) as topics:
                await failure(Unavailable, topics.publish(b"", "allowed"))
            assert USER not in (server.directory / "log").read_text()

    run(scenario())


def test_a_subscriber_that_is_too_slow_is_told_and_goes_on(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "LIMIT", 10_000)

    async def scenario() -> None:
        with kind.server() as server:
            async with closing(kind.backend(server.configs)) as topics:
                slow, quick = await topics.subscribe("topic"), await topics.subscribe("topic")
                for number in range(30):
                    await topics.publish(b"%d" % number + bytes(1_000), "topic")
                    assert await quick.receive(SECONDS) == b"%d" % number + bytes(1_000)
                found = [await slow.receive(SECONDS) for _ in range(8)]
                assert found == [b"%d" % number + bytes(1_000) for number in range(8)]
                error = await failure(ConnectionLost, slow.receive(SECONDS))
                assert "faster than they were received" in str(error)
                await topics.publish(b"after", "topic")
                assert await slow.receive(SECONDS) == b"after"
                await topics.publish(bytes(100_000), "topic")  # one message may be larger than the inbox
                assert await slow.receive(SECONDS) == bytes(100_000)

    run(scenario())


def test_what_all_subscriptions_keep_together_is_bounded(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 1_000 + inbox.MESSAGE_BYTES
    monkeypatch.setattr(inbox, "TOTAL_LIMIT", 5 * size)

    async def scenario() -> None:
        with kind.server() as server:
            backend = kind.backend(server.configs)
            async with closing(backend) as topics:
                slow, ended, other = [await topics.subscribe(topic) for topic in ("slow", "ended", "other")]
                for topic in ("slow", "ended", "slow", "ended", "slow"):
                    await topics.publish(bytes(1_000), topic)
                await topics.publish(bytes(1_000), "other")
                error = await failure(ConnectionLost, other.receive(SECONDS))
                assert "faster than they were received" in str(error)
                # What is received makes room, and what ends does.
                assert await slow.receive(SECONDS) == bytes(1_000)
                await topics.publish(bytes(1_000), "other")
                assert await other.receive(SECONDS) == bytes(1_000)
                await ended.close()
                for _ in range(3):
                    await topics.publish(bytes(1_000), "other")
                assert [await other.receive(SECONDS) for _ in range(3)] == [bytes(1_000)] * 3
                assert [await slow.receive(SECONDS) for _ in range(2)] == [bytes(1_000)] * 2
                assert getattr(backend, "_subscribing", backend)._room.left == 5 * size

    run(scenario())


def test_a_subscription_that_ends_is_ended_at_the_broker(kind: Kind) -> None:
    async def scenario() -> None:
        with kind.server() as server:
            backend = kind.backend(server.configs)
            async with closing(backend) as topics:
                subscription, other = await topics.subscribe("topic"), await topics.subscribe("topic")
                await subscription.close()
                await subscription.close()
                await failure(TopicNotFound, subscription.receive(1))
                await topics.publish(b"hello", "topic")
                assert await other.receive(SECONDS) == b"hello"
                subscribing = getattr(backend, "_subscribing", backend)
                assert list(subscribing._topics.values()) == ["topic"]
                await other.close()
                assert subscribing._topics == {}
                await carries(topics, "another")  # the broker has heard of it by now
                connection = subscribing._connection
                left = connection._inboxes if kind is MQTT else connection._client._subs
                assert "topic" not in left
                assert len(left) <= 1

    run(scenario())


WILDCARDS = {
    "mosquitto": ("+", "#", "a/#", "a/+/b", "$SYS/broker/clients/total", "$share/group/topic", "a#", "+a"),
    "nats": ("*", ">", "a.*", "a.>", "*.a", "$SYS.REQ.SERVER.PING", "$JS.API.INFO", "a*", ">a"),
}

IMPOSSIBLE = {
    "mosquitto": ("", "nul\0", "new\nline", "\x7f", "\ufffe", "\U0001ffff", "x" * 65_536),
    "nats": ("", ".", "a..b", "a.", ".a", "a b", "a\tb", "a\r\nPUB b 0\r\n\r\n", "nul\0", "a\u2028b", "x" * 2_049),
}


def test_no_topic_is_a_wildcard_and_none_harms_the_connection(kind: Kind) -> None:
    name = "mosquitto" if kind is MQTT else "nats"

    async def scenario() -> None:
        with kind.server() as server:
            async with closing(kind.backend(server.configs)) as topics:
                subscription = await topics.subscribe("topic")
                for topic in (*WILDCARDS[name], *IMPOSSIBLE[name], "x" * 65_537, "\ud800"):
                    await failure(TopicNotFound, topics.subscribe(topic))
                    await failure(TopicNotFound, topics.publish(b"", topic))
                await topics.publish(b"hello", "topic")
                assert await subscription.receive(SECONDS) == b"hello"

    run(scenario())


def test_a_crowd_of_publishers_loses_nothing(kind: Kind) -> None:
    """More messages than Mosquitto keeps for whoever confirms them late: 20, and 1,000 more."""

    async def scenario() -> None:
        with kind.server() as server:
            backends = [kind.backend(server.configs) for _ in range(4)]
            async with closing(kind.backend(server.configs)) as topics:
                subscription = await topics.subscribe("topic")
                messages = [b"%d" % number for number in range(1_000)]
                await asyncio.gather(*(each.publish(message, "topic") for each in backends for message in messages))
                found = []
                while (message := await subscription.receive(1)) is not None:
                    found.append(message)
                assert sorted(found) == sorted(messages * 4)
            for backend in backends:
                await backend.close()

    run(scenario())


# MQTT alone.


@pytest.mark.parametrize(
    ("option", "largest"),
    [
        # The length of a packet: 1 byte, 2 for the length of the rest, 12 for the topic, 3 more, and the message.
        ("max_packet_size 1000", 982),
        ("message_size_limit 1000", 1_000),
    ],
)
def test_a_message_that_is_too_large_for_mosquitto_is_refused_and_breaks_no_subscription(
    option: str, largest: int
) -> None:
    async def scenario() -> None:
        with MosquittoServer(option) as server:
            async with closing(MosquittoBackend(server.configs)) as topics:
                subscription = await topics.subscribe("some topic")
                for _ in range(2):
                    await failure(PayloadTooLarge, topics.publish(bytes(largest + 1), "some topic"))
                    await topics.publish(bytes(largest), "some topic")
                    assert await subscription.receive(SECONDS) == bytes(largest)

    run(scenario())


def test_a_retained_message_is_from_before_the_subscription() -> None:
    async def scenario() -> None:
        with MosquittoServer() as server:
            publish_one = partial(single, "topic", "retained", hostname=HOST, port=server.port, retain=True, qos=1)
            await asyncio.to_thread(publish_one)
            async with closing(MosquittoBackend(server.configs)) as topics:
                subscription = await topics.subscribe("topic")
                assert await subscription.receive(0.2) is None

    run(scenario())


# NATS alone.


def test_nats_takes_a_token_and_credentials_of_an_operator() -> None:
    async def scenario() -> None:
        with NatsServer({"authorization": {"token": PASSWORD}}) as server:
            async with closing(NatsBackend({**server.configs, "NATS_TOKEN": PASSWORD})) as topics:
                await carries(topics)
            async with closing(NatsBackend({**server.configs, "NATS_TOKEN": "wrong"})) as topics:
                await failure(NotPermitted, topics.publish(b"", "topic"))
        settings, creds = nats_operator()
        with NatsServer(settings) as server:
            async with closing(NatsBackend({**server.configs, "NATS_CREDS": creds})) as topics:
                await carries(topics)
            _, foreign = nats_operator()
            async with closing(NatsBackend({**server.configs, "NATS_CREDS": foreign})) as topics:
                await failure(NotPermitted, topics.publish(b"", "topic"))

    run(scenario())


def test_a_message_that_is_too_large_for_nats_is_refused() -> None:
    async def scenario() -> None:
        with NatsServer({"max_payload": 1_000}) as server:
            async with closing(NatsBackend(server.configs)) as topics:
                await failure(PayloadTooLarge, topics.publish(bytes(1_001), "topic"))
                await carries(topics, message=bytes(1_000))

    run(scenario())


# Kafka.


@pytest.fixture(scope="module")
def kafka() -> Iterator[KafkaServer]:
    """With the smallest segments, so that what is deleted is gone at once."""
    settings = ("message.max.bytes=2000", "log.retention.check.interval.ms=200", "log.segment.delete.delay.ms=0")
    with KafkaServer(*settings, "auto.create.topics.enable=true") as server:
        yield server


@asynccontextmanager
async def using(kafka: KafkaServer, **configs: str) -> AsyncIterator[Any]:
    async with closing(KafkaBackend({"CAK_ENDPOINT": kafka.endpoint, **configs})) as topics:
        yield topics


def test_kafka_keeps_what_is_published_while_a_subscriber_is_cut_off() -> None:
    async def scenario() -> None:
        with KafkaServer() as kafka:
            async with using(kafka) as topics:
                subscription = await topics.subscribe("topic")
                for number in range(10):
                    await topics.publish(b"%d" % number, "topic")
                assert await subscription.receive(SECONDS) == b"0"
                await asyncio.to_thread(kafka.restart)
                async with using(kafka) as others:
                    await others.publish(b"meanwhile", "topic")
                found = [await subscription.receive(15) for _ in range(10)]
                assert [each for each in found if each != b"meanwhile"] == [b"%d" % n for n in range(1, 10)]
                await topics.publish(b"after", "topic")
                assert await subscription.receive(15) == b"after"

    run(scenario())


def test_kafka_that_is_away_is_said_to_be_away(kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def be_impatient() -> None:
        monkeypatch.setattr("capabilities.messaging.kafka.ANSWER_SECONDS", 1.0)
        monkeypatch.setattr("capabilities.messaging.kafka.SILENCE_SECONDS", 1.0)

    async def scenario() -> None:
        async with closing(KafkaBackend({"CAK_ENDPOINT": f"{HOST}:{free_port()}"})) as topics:
            for call in (topics.publish(b"", "topic"), topics.subscribe("topic")):
                check_notice(await failure(Unavailable, call), "connection refused", "CAK_ENDPOINT")
        be_impatient()
        with Silent() as server:
            async with closing(KafkaBackend({"CAK_ENDPOINT": f"{HOST}:{server.port}"})) as topics:
                check_notice(await failure(Unavailable, topics.publish(b"", "topic")), "no answer in time")
        monkeypatch.undo()
        # A broker that stops answering: SIGSTOP leaves its connections open.
        async with using(kafka) as topics:
            subscription = await topics.subscribe("away")
            await topics.publish(b"before", "away")
            assert await subscription.receive(SECONDS) == b"before"
            be_impatient()
            with suspended(kafka.pid):
                await failure(Unavailable, topics.publish(b"perhaps", "away"))
                await failure(Unavailable, subscription.receive(1))
            monkeypatch.undo()
            await topics.publish(b"after", "away")
            found = await subscription.receive(2 * SECONDS)
            if found == b"perhaps":
                found = await subscription.receive(SECONDS)
            assert found == b"after"

    run(scenario())


class suspended:  # noqa: N801  # it reads as a state
    """A process does nothing while this block runs."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def __enter__(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)
        # The signal stops one thread after the other, and a broker answers as long as one of them runs.
        deadline = time.monotonic() + SECONDS
        while any(state != "T" for state in self._states()):
            assert time.monotonic() < deadline, "the process doesn't stop"
            time.sleep(0.001)

    def _states(self) -> Iterator[str]:
        """Of the threads, as proc(5) has them: T is stopped."""
        for status in Path("/proc", str(self._pid), "task").glob("*/stat"):
            yield status.read_text().rpartition(")")[2].split()[0]

    def __exit__(self, *error: object) -> None:
        os.kill(self._pid, signal.SIGCONT)


def test_a_message_that_is_too_large_for_kafka_is_refused(kafka: KafkaServer) -> None:
    async def scenario() -> None:
        async with using(kafka) as topics:
            for _ in range(2):
                await failure(PayloadTooLarge, topics.publish(bytes(2_000), "large"))
                await carries(topics, "large", bytes(1_500))

    run(scenario())


def test_kafka_s_names_of_topics(kafka: KafkaServer) -> None:
    async def scenario() -> None:
        async with using(kafka) as topics:
            impossible = ("", ".", "..", "a b", "a/b", "a*", "^a", ".*", "ключ", "a\0", "a\n", "x" * 250, "a:b")
            for topic in (*impossible, "__consumer_offsets", "__transaction_state"):
                await failure(TopicNotFound, topics.subscribe(topic))
                await failure(TopicNotFound, topics.publish(b"", topic))

    run(scenario())


def test_members_of_a_group_share_the_messages_and_go_on_where_the_group_was(kafka: KafkaServer) -> None:
    async def scenario() -> None:
        async with using(kafka) as topics, using(kafka, CAK_GROUP_ID="workers") as workers:
            subscription = await workers.subscribe("jobs")
            for number in range(5):
                await topics.publish(b"%d" % number, "jobs")
            assert [await subscription.receive(SECONDS) for _ in range(2)] == [b"0", b"1"]
            await subscription.close()
            again = await workers.subscribe("jobs")
            assert [await again.receive(SECONDS) for _ in range(3)] == [b"2", b"3", b"4"]
            assert await again.receive(0.3) is None

    run(scenario())


def test_partitions_that_are_added_are_read_from_their_beginning(kafka: KafkaServer) -> None:
    async def scenario() -> None:
        from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

        async with using(kafka) as topics:
            subscription = await topics.subscribe("growing")
            await topics.publish(b"before", "growing")
            assert await subscription.receive(SECONDS) == b"before"
            admin = AIOKafkaAdminClient(bootstrap_servers=kafka.endpoint)
            await admin.start()
            await admin.create_partitions({"growing": NewPartitions(total_count=8)})
            await admin.close()
            # Publishers that come now see all 8; the subscription sees them when it looks at the topic again.
            for number in range(12):
                async with using(kafka) as others:
                    await others.publish(b"%d" % number, "growing")
            await subscription._consumer._client.force_metadata_update()
            found = [await subscription.receive(SECONDS) for _ in range(12)]
            assert sorted(found) == sorted(b"%d" % number for number in range(12))
            assert await subscription.receive(0.7) is None

    run(scenario())


def test_messages_that_kafka_deleted_are_not_missing_silently(kafka: KafkaServer) -> None:
    async def scenario() -> None:
        from aiokafka import TopicPartition
        from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

        async with using(kafka) as topics:
            subscription = await topics.subscribe("short")
            await topics.publish(b"first", "short")
            assert await subscription.receive(SECONDS) == b"first"
            partition = next(each for each, offset in subscription._positions.items() if offset == 1)
            # It starts to fetch where Kafka no longer has what was there.
            with pausing(subscription):
                for number in range(3):
                    await topics.publish(b"%d" % number, "short")
                admin = AIOKafkaAdminClient(bootstrap_servers=kafka.endpoint)
                await admin.start()
                wanted = {TopicPartition("short", partition.partition): RecordsToDelete(before_offset=3)}
                await admin.delete_records(wanted)
                await admin.close()
            subscription._consumer.seek(partition, 1)
            await failure(ConnectionLost, subscription.receive(SECONDS))
            assert await subscription.receive(SECONDS) == b"2"

    run(scenario())


class pausing:  # noqa: N801  # it reads as a state
    """A subscription fetches nothing while this block runs."""

    def __init__(self, subscription: Any) -> None:
        self._consumer = subscription._consumer

    def __enter__(self) -> None:
        self._consumer.pause(*self._consumer.assignment())

    def __exit__(self, *error: object) -> None:
        self._consumer.resume(*self._consumer.assignment())


async def create_topic(kafka: KafkaServer, topic: str) -> None:
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    admin = AIOKafkaAdminClient(
        bootstrap_servers=kafka.endpoint,
        security_protocol="SASL_SSL",
        ssl_context=ssl.create_default_context(cafile=kafka.certificate),
        sasl_mechanism="PLAIN",
        sasl_plain_username=kafka_server.USER,
        sasl_plain_password=kafka_server.PASSWORD,
    )
    await admin.start()
    await admin.create_topics([NewTopic(topic, num_partitions=2, replication_factor=1)])
    await admin.close()


def test_kafka_with_a_user_and_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capabilities.messaging.kafka.REQUEST_SECONDS", 1.0)

    async def scenario() -> None:
        with KafkaServer("auto.create.topics.enable=false", password=True, tls=True) as kafka:
            user = {"CAK_SASL_USERNAME": kafka_server.USER, "CAK_SASL_PASSWORD": kafka_server.PASSWORD}
            ca_file = {"CAK_CA_FILE": str(kafka.certificate)}
            async with using(kafka, **user, **ca_file) as topics:
                for call in (topics.subscribe("nowhere"), topics.publish(b"", "nowhere")):
                    check_notice(await failure(TopicNotFound, call), "nowhere", "create it")
                await create_topic(kafka, "topic")
                await carries(topics, "topic")
            async with using(kafka, **{**user, "CAK_SASL_PASSWORD": "wrong"}, **ca_file) as topics:
                for call in (topics.publish(b"", "topic"), topics.subscribe("topic")):
                    check_notice(await failure(NotPermitted, call), "CAK_SASL_PASSWORD")
            async with using(kafka, **user) as topics:
                check_notice(await failure(Unavailable, topics.publish(b"", "topic")), "certificate is not trusted")
            async with using(kafka) as topics:
                check_notice(await failure(Unavailable, topics.publish(b"", "topic")), "CAK_SECURITY_PROTOCOL")

    run(scenario())


# Azure Service Bus, against a stand-in.


@asynccontextmanager
async def service_bus(bus: ServiceBus, **configs: str) -> AsyncIterator[Any]:
    async with bus, closing(ServiceBusBackend({**bus.configs, **configs})) as topics:
        yield topics


def test_a_signature_is_the_one_of_the_documents() -> None:
    """Computed with `openssl dgst -sha256 -hmac` from what Microsoft's documents say is signed."""
    token = sign("https://Tests.servicebus.windows.net/queue", "send/listen", b"key", 1_700_000_000 - 600)
    assert token == (
        "SharedAccessSignature sr=https%3A%2F%2Ftests.servicebus.windows.net%2Fqueue"
        "&sig=1MtU%2Fhj89cPZYxdvMmfInRQJsP%2F2hiCGtnKDIaQNbkk%3D&se=1700000000&skn=send%2Flisten"
    )


def test_a_message_in_a_queue_is_locked_and_then_deleted() -> None:
    async def scenario() -> None:
        bus = ServiceBus(("orders",))
        async with service_bus(bus) as topics:
            await topics.publish(b"hello", "orders")
            subscription = await topics.subscribe("orders")
            assert await subscription.receive(SECONDS) == b"hello"
            assert bus.requests[:2] == ["POST /orders/messages", "POST /orders/messages/head?timeout=30"]
            assert bus.requests[2].startswith("DELETE /orders/messages/1/")
            assert bus.queues["orders"].messages == []

    run(scenario())


def test_service_bus_refuses_a_wrong_key() -> None:
    async def scenario() -> None:
        for wrong in ({"AZURE_POLICY_KEY": "wrong"}, {"AZURE_POLICY_NAME": POLICY + "x"}):
            async with service_bus(ServiceBus(), **wrong) as topics:
                subscription = await topics.subscribe("orders")
                for call in (topics.publish(b"", "orders"), subscription.receive(SECONDS)):
                    check_notice(await failure(NotPermitted, call), "AZURE_POLICY_KEY")

    run(scenario())


def test_a_queue_that_is_not_there_and_one_that_is_full() -> None:
    async def scenario() -> None:
        bus = ServiceBus(("orders",))
        async with service_bus(bus) as topics:
            subscription = await topics.subscribe("nowhere")
            for call in (topics.publish(b"", "nowhere"), subscription.receive(SECONDS)):
                check_notice(await failure(TopicNotFound, call), "nowhere", "create it")
            await failure(PayloadTooLarge, topics.publish(bytes(LARGEST + 1), "orders"))
            bus.fail_next = [403]
            await failure(DeliveryFailed, topics.publish(b"small", "orders"))
            for status in (429, 500, 503):
                bus.fail_next = [status]
                await failure(Unavailable, topics.publish(b"", "orders"))

    run(scenario())


def test_service_bus_that_is_away_slow_or_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capabilities.messaging.azsbus.ANSWER_SECONDS", 0.5)

    async def scenario() -> None:
        bus = ServiceBus()
        async with closing(ServiceBusBackend(bus.configs)) as topics:
            subscription = await topics.subscribe("orders")
            for call in (topics.publish(b"", "orders"), subscription.receive(SECONDS)):
                check_notice(await failure(Unavailable, call), f"{HOST}:{bus.port}", "connection refused")
            await bus.start()
            await topics.publish(b"one", "orders")
            assert await subscription.receive(SECONDS) == b"one"
            await bus.stop()
            await failure(Unavailable, topics.publish(b"", "orders"))
            await bus.start()
            await topics.publish(b"two", "orders")
            assert await subscription.receive(SECONDS) == b"two"
            await bus.stop()

    run(scenario())


async def locked(bus: ServiceBus) -> None:
    """Waits until a receiver has locked the first message."""
    while not bus.queues["orders"].messages[0].lock:  # noqa: ASYNC110  # the stand-in has no event for it
        await asyncio.sleep(0)


def test_an_answer_of_service_bus_that_is_lost_loses_no_message() -> None:
    async def scenario() -> None:
        bus = ServiceBus(lock_seconds=0.3)
        async with service_bus(bus) as topics:
            subscription = await topics.subscribe("orders")
            await topics.publish(b"locked for nobody", "orders")
            bus.fail_next = ["lost"]  # the answer with the message
            await failure(Unavailable, subscription.receive(SECONDS))
            await asyncio.sleep(0.4)
            assert await subscription.receive(SECONDS) == b"locked for nobody"
            await topics.publish(b"deleted", "orders")
            waiting = asyncio.create_task(subscription.receive(SECONDS))
            await locked(bus)
            bus.fail_next = ["lost"]  # the answer that it is deleted
            await failure(Unavailable, waiting)
            assert bus.queues["orders"].messages == []
            assert await subscription.receive(SECONDS) == b"deleted"

    run(scenario())


def test_a_message_that_nobody_asks_for_any_more_goes_back_into_the_queue() -> None:
    async def scenario() -> None:
        bus = ServiceBus(lock_seconds=60)
        async with service_bus(bus) as topics:
            subscription = await topics.subscribe("orders")
            assert await subscription.receive(0.1) is None
            await topics.publish(b"hello", "orders")
            await locked(bus)
            await asyncio.sleep(0.1)
            await subscription.close()
            other = await topics.subscribe("orders")
            assert await other.receive(SECONDS) == b"hello"

    run(scenario())


def test_a_lock_that_ran_out_is_no_message() -> None:
    async def scenario() -> None:
        bus = ServiceBus(lock_seconds=0.3)
        async with service_bus(bus) as topics:
            late, prompt = await topics.subscribe("orders"), await topics.subscribe("orders")
            assert await late.receive(0.1) is None
            await topics.publish(b"hello", "orders")
            await asyncio.sleep(0.5)
            assert await prompt.receive(SECONDS) == b"hello"
            assert await late.receive(0.1) is None

    run(scenario())


def test_service_bus_s_names_of_queues() -> None:
    async def scenario() -> None:
        bus = ServiceBus()
        async with service_bus(bus) as topics:
            paths = ("../x", "a/../b", "a//b", "/a", "a/", "orders/messages", "t/Subscriptions/s", "a/messages/head")
            for topic in (
                "",
                ".",
                "a b",
                "a?b",
                "a#b",
                "a%2Fb",
                "$cbs",
                "a/$DeadLetterQueue",
                "ключ",
                "x" * 261,
                *paths,
            ):
                await failure(TopicNotFound, topics.subscribe(topic))
                await failure(TopicNotFound, topics.publish(b"", topic))
            assert bus.requests == []

    run(scenario())


# Configurations.


@pytest.mark.parametrize(
    ("backend", "configs", "key"),
    [
        (MosquittoBackend, {}, "MOSQUITTO_HOST"),
        (MosquittoBackend, {"MOSQUITTO_HOST": "mqtt://host"}, "MOSQUITTO_HOST"),
        (MosquittoBackend, {"MOSQUITTO_HOST": "host", "MOSQUITTO_PORT": "http"}, "MOSQUITTO_PORT"),
        (MosquittoBackend, {"MOSQUITTO_HOST": "host", "MOSQUITTO_PORT": "65536"}, "MOSQUITTO_PORT"),
        (MosquittoBackend, {"MOSQUITTO_HOST": "host", "MOSQUITTO_TLS": "yes"}, "MOSQUITTO_TLS"),
        (MosquittoBackend, {"MOSQUITTO_HOST": "host", "MOSQUITTO_PASSWORD": "x"}, "MOSQUITTO_USERNAME"),
        (NatsBackend, {}, "NATS_ADDRESS"),
        (NatsBackend, {"NATS_ADDRESS": "http://host"}, "NATS_ADDRESS"),
        (NatsBackend, {"NATS_ADDRESS": "nats://host:port"}, "NATS_ADDRESS"),
        (NatsBackend, {"NATS_ADDRESS": "nats://user:secret@host"}, "NATS_ADDRESS"),
        (NatsBackend, {"NATS_ADDRESS": "nats://host", "NATS_USERNAME": "x"}, "NATS_PASSWORD"),
        (NatsBackend, {"NATS_CREDS": "/path/of/a/file.creds"}, "NATS_CREDS"),
        (NatsBackend, {"NATS_ADDRESS": "h", "NATS_TOKEN": "x", "NATS_USERNAME": "x", "NATS_PASSWORD": "x"}, None),
        (KafkaBackend, {}, "CAK_ENDPOINT"),
        (KafkaBackend, {"CAK_ENDPOINT": "host"}, "CAK_ENDPOINT"),
        (KafkaBackend, {"CAK_ENDPOINT": "host:9092,"}, "CAK_ENDPOINT"),
        (KafkaBackend, {"CAK_ENDPOINT": "h:1", "CAK_SECURITY_PROTOCOL": "TLS"}, "CAK_SECURITY_PROTOCOL"),
        (KafkaBackend, {"CAK_ENDPOINT": "h:1", "CAK_SECURITY_PROTOCOL": "SASL_SSL"}, "CAK_SASL_USERNAME"),
        (KafkaBackend, {"CAK_ENDPOINT": "h:1", "CAK_SASL_USERNAME": "x"}, "CAK_SASL_PASSWORD"),
        (ServiceBusBackend, {}, "AZURE_SERVICE_BUS_NAMESPACE"),
        (
            ServiceBusBackend,
            {"AZURE_SERVICE_BUS_NAMESPACE": "a.b", "AZURE_POLICY_NAME": "x", "AZURE_POLICY_KEY": "x"},
            "AZURE_SERVICE_BUS_NAMESPACE",
        ),
    ],
)
def test_a_configuration_that_can_not_work_is_refused(
    backend: Callable[[Mapping[str, str]], object], configs: dict[str, str], key: str | None
) -> None:
    with pytest.raises(ConfigError) as error:
        backend(configs)
    assert error.value.key == key
    assert "secret" not in str(error.value)


def test_credentials_of_nats_without_an_address_are_for_the_public_service() -> None:
    _, creds = nats_operator()
    backend = NatsBackend({"NATS_CREDS": creds})
    assert (backend._host, backend._port, backend._tls) == ("connect.ngs.global", 4222, True)
