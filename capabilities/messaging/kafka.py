"""`messaging.confluent_apache_kafka`: messages in Apache Kafka, in Confluent's cloud or elsewhere.

Kafka keeps the messages, so an outage loses none: a subscription remembers how far it has come and goes on there.

Kafka keeps the order of a partition, so all messages of one publisher go into one partition of a topic.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

from capabilities.errors import ConfigError
from capabilities.messaging import (
    MESSAGE_LIMIT,
    ConnectionLost,
    DeliveryFailed,
    MessagingError,
    NotPermitted,
    PayloadTooLarge,
    TopicNotFound,
    Unavailable,
)
from capabilities.messaging.connected import check_length, check_message, make_tls_context, read_error, reason_of
from capabilities.messaging.receiving import Receiving

ANSWER_SECONDS = 10.0
"""How long Kafka may take to answer, with all that is asked for on the way."""

REQUEST_SECONDS = 5.0
"""How long Kafka may take to answer one request; and how long a topic that isn't there may take to be made."""

REQUEST_SECONDS = 5.0
"""How long Kafka may take to answer one request; and how long a topic that isn't there may take to be made."""

SILENCE_SECONDS = 5.0
"""After how long without an answer to its fetches a subscription takes Kafka to be away."""

FETCH_BYTES = 1024 * 1024
"""How much a subscription fetches in advance of a partition, and 16 times as much of all. A message may be larger."""

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")


class KafkaBackend:
    """Topics in the Kafka at CAK_ENDPOINT: `HOST:PORT`, or several of them with commas between."""

    REQUIRED: ClassVar[tuple[str, ...]] = ("CAK_ENDPOINT",)
    OPTIONAL: ClassVar[tuple[str, ...]] = (
        "CAK_SECURITY_PROTOCOL",
        "CAK_SASL_MECHANISMS",
        "CAK_SASL_USERNAME",
        "CAK_SASL_PASSWORD",
        "CAK_GROUP_ID",
        "CAK_CA_FILE",
    )

    def __init__(self, configs: Mapping[str, str]) -> None:
        """Raises ConfigError."""
        self._endpoint = parse_endpoint(configs.get("CAK_ENDPOINT", ""))
        self._settings = _parse_security(configs)
        self._ca_file = configs.get("CAK_CA_FILE")
        self._group = configs.get("CAK_GROUP_ID") or None
        self._publisher = secrets.randbits(32)
        """Which of its partitions a topic's messages go to, so that those of this publisher stay in their order."""
        self._producer: Any = None
        self._starting: asyncio.Task[Any] | None = None
        self._subscriptions: set[KafkaSubscription] = set()
        try:
            import aiokafka  # noqa: F401  # to see whether it is there
        except ImportError:
            text = "messaging.confluent_apache_kafka needs the Python package aiokafka: pip install 'slight-py[kafka]'"
            raise ConfigError(text) from None

    async def open(self, name: str) -> KafkaBackend:
        check_length(name)
        return self

    async def close(self) -> None:
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
            await asyncio.wait({self._starting})
        ending = [subscription.close() for subscription in self._subscriptions]
        await asyncio.gather(*ending, self._drop_producer())

    async def publish(self, message: bytes, topic: str) -> None:
        from aiokafka import errors

        check_topic(topic)
        check_message(message)
        producer = await self._started_producer()
        with _answered(topic):
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    partitions = sorted(await producer.partitions_for(topic))
                    partition = partitions[self._publisher % len(partitions)]
                    await producer.send_and_wait(topic, message, partition=partition)
            except (errors.KafkaError, TimeoutError):
                # It may hold the message and send it later; and it counts its messages, of which Kafka misses one now.
                await self._drop_producer(producer)
                raise

    async def subscribe(self, topic: str) -> KafkaSubscription:
        from aiokafka import AIOKafkaConsumer

        check_topic(topic)
        consumer = AIOKafkaConsumer(
            topic,
            **await self._connection_settings(),
            group_id=self._group,
            enable_auto_commit=False,
            # Without a group, a position that Kafka doesn't have is an error, and not silently another one.
            auto_offset_reset="none" if self._group is None else "latest",
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_bytes=16 * FETCH_BYTES,
        )
        subscription = KafkaSubscription(consumer, self._group is not None, self._subscriptions.discard)
        try:
            await self._start(consumer, topic)
            with _answered(topic):
                async with asyncio.timeout(ANSWER_SECONDS):
                    await subscription.find_positions()
        except BaseException:
            await _stop(consumer)
            raise
        self._subscriptions.add(subscription)
        return subscription

    async def _started_producer(self) -> Any:
        """The producer, which all who publish share. All who need a new one wait for the same attempt."""
        if self._producer is not None:
            return self._producer
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._start_producer())
            self._starting.add_done_callback(read_error)
        return await asyncio.shield(self._starting)

    async def _start_producer(self) -> Any:
        from aiokafka import AIOKafkaProducer

        producer = AIOKafkaProducer(
            **await self._connection_settings(),
            acks="all",
            enable_idempotence=True,
            max_request_size=MESSAGE_LIMIT + 1024 * 1024,
        )
        try:
            await self._start(producer, "")
        except BaseException:
            await _stop(producer)
            raise
        self._producer = producer
        return producer

    async def _drop_producer(self, producer: Any = None) -> None:
        """Stops the producer, or does nothing where it isn't `producer` any more."""
        current = self._producer
        if current is not None and producer in (None, current):
            self._producer = None
            await _stop(current)

    async def _connection_settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {
            **self._settings,
            "bootstrap_servers": self._endpoint,
            "request_timeout_ms": int(REQUEST_SECONDS * 1000),
            "client_id": "slight-py",
        }
        if settings["security_protocol"].endswith("SSL"):
            settings["ssl_context"] = await asyncio.to_thread(make_tls_context, self._ca_file, "CAK_CA_FILE")
        return settings

    async def _start(self, client: Any, topic: str) -> None:
        """Connects a producer or a consumer. Raises MessagingError."""
        from aiokafka import errors

        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                with _answered(topic, passing=errors.KafkaConnectionError):
                    await client.start()
        except TimeoutError:
            raise Unavailable("Kafka didn't answer in time", self._notice("no answer in time")) from None
        except errors.KafkaConnectionError:
            raise await self._why_unreachable() from None

    async def _why_unreachable(self) -> MessagingError:
        """The library says only that it could reach none of its addresses, so this tries the first one again."""
        from aiokafka import errors
        from aiokafka.conn import create_conn

        settings = await self._connection_settings()
        del settings["bootstrap_servers"]
        host, _, port = self._endpoint[0].rpartition(":")
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                connection = await create_conn(host.strip("[]"), int(port), **settings)
        except (errors.AuthenticationFailedError, errors.SaslAuthenticationFailed):
            notice = self._notice("it refuses the user", "correct CAK_SASL_USERNAME and CAK_SASL_PASSWORD")
            return NotPermitted("Kafka refuses the credentials", notice)
        except (errors.UnsupportedSaslMechanismError, errors.AuthenticationMethodNotSupported):
            notice = self._notice("it doesn't know this way to log in", "correct CAK_SASL_MECHANISMS")
            return NotPermitted("Kafka refuses the credentials", notice)
        except (OSError, errors.KafkaError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__ or error.__context__ or error
            reason = reason_of(cause) if isinstance(cause, ssl.SSLError | OSError) else "it ended the connection"
            return Unavailable("Kafka can't be reached", self._notice(reason))
        connection.close()
        return Unavailable("Kafka can't be reached", self._notice("the connection broke"))

    def _notice(self, reason: str, mend: str = "start it, or correct CAK_ENDPOINT and CAK_SECURITY_PROTOCOL") -> str:
        return f"kafka {','.join(self._endpoint)}: {reason}; {mend}"


class KafkaSubscription:
    """What one consumer reads of a topic.

    Without a group, it reads all that was published since `find_positions`. As a member of a group, it reads its share
    from where the group has come to, and says to Kafka what it has handed out.
    """

    def __init__(self, consumer: Any, in_group: bool, closed: Any) -> None:
        self._consumer = consumer
        self._in_group = in_group
        self._closed = closed
        self._positions: dict[Any, int] = {}
        """The offset of the next message of each partition."""
        self._receiving: Receiving[Any] = Receiving(self._fetch)
        self._committing: asyncio.Task[None] | None = None
        self._started = time.monotonic()

    async def find_positions(self) -> None:
        """Sets where the subscription begins. Raises KafkaError."""
        partitions = self._consumer.assignment()
        if self._in_group:
            for partition in partitions:
                await self._consumer.position(partition)
            return
        self._positions = await self._consumer.end_offsets(partitions)
        for partition, offset in self._positions.items():
            self._consumer.seek(partition, offset)

    async def receive(self, seconds: float) -> bytes | None:
        await self._settle()
        record = await self._receiving.next(seconds)
        if record is None:
            if self._is_away():
                raise Unavailable("Kafka can't be reached")
            return None
        if self._in_group:
            self._committing = asyncio.create_task(self._commit(record))
        message: bytes = record.value or b""
        return message

    async def close(self) -> None:
        self._closed(self)
        await self._receiving.cancel()
        await self._settle()
        await _stop(self._consumer)

    async def _fetch(self) -> Any:
        from aiokafka import TopicPartition, errors

        while True:
            with _answered("of the subscription"):
                try:
                    record = await self._consumer.getone()
                except errors.NoOffsetForPartitionError:
                    await self._seek_again()
                    continue
                except errors.OffsetOutOfRangeError as error:
                    await self._skip_deleted(error.args[0])
                    text = "messages are missing: Kafka deleted them before they were received"
                    raise ConnectionLost(text) from None
            self._positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
            return record

    async def _seek_again(self) -> None:
        """The topic has new partitions: the library has forgotten the positions of the others then. A new partition is
        read from its beginning, as it may hold messages already."""
        partitions = self._consumer.assignment()
        new = [each for each in partitions if each not in self._positions]
        if new:
            self._positions |= await self._consumer.beginning_offsets(new)
        for partition in partitions:
            self._consumer.seek(partition, self._positions[partition])

    async def _skip_deleted(self, lost: dict[Any, int]) -> None:
        for partition, offset in (await self._consumer.beginning_offsets(list(lost))).items():
            self._positions[partition] = offset
            self._consumer.seek(partition, offset)

    def _is_away(self) -> bool:
        """Whether Kafka has left the fetches without an answer. A consumer that has no partition fetches nothing."""
        polled = [self._consumer.last_poll_timestamp(each) for each in self._consumer.assignment()]
        times = [each / 1000 for each in polled if each is not None]
        if not polled or (not times and time.monotonic() - self._started < SILENCE_SECONDS):
            return False
        return not times or time.time() - max(times) > SILENCE_SECONDS

    async def _commit(self, record: Any) -> None:
        from aiokafka import TopicPartition, errors

        with suppress(errors.KafkaError, TimeoutError):  # then the group may get the message a second time
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._consumer.commit({TopicPartition(record.topic, record.partition): record.offset + 1})

    async def _settle(self) -> None:
        """Waits for the last commit: they must not overtake each other."""
        if self._committing is not None:
            await asyncio.wait({self._committing})


@contextmanager
def _answered(topic: str, passing: type[Exception] | tuple[()] = ()) -> Iterator[None]:
    """What the library raises, as errors of messages, but for what is `passing`."""
    from aiokafka import errors

    try:
        yield
    except passing:
        raise
    except (errors.MessageSizeTooLargeError, errors.RecordTooLargeError, errors.RecordListTooLargeError):
        raise PayloadTooLarge("the message is longer than Kafka allows") from None
    except (errors.TopicAuthorizationFailedError, errors.GroupAuthorizationFailedError):
        notice = f"kafka: the user isn't permitted to use the topic {topic!r}, or the group; give it that permission"
        raise NotPermitted("Kafka doesn't permit this topic", notice) from None
    except errors.ClusterAuthorizationFailedError:
        notice = "kafka: the user isn't permitted to write; give it that permission"
        raise NotPermitted("Kafka doesn't permit to publish", notice) from None
    except (errors.UnknownTopicOrPartitionError, errors.InvalidTopicError):
        notice = f"kafka: there is no topic {topic!r}, and Kafka makes none by itself; create it"
        raise TopicNotFound("Kafka has no such topic", notice) from None
    except (errors.KafkaTimeoutError, errors.RequestTimedOutError, TimeoutError):
        raise Unavailable("Kafka didn't answer in time, so it isn't known whether it took this over") from None
    except (errors.KafkaConnectionError, errors.NodeNotReadyError):
        raise ConnectionLost("the connection to Kafka broke") from None
    except errors.BrokerResponseError as error:
        raise DeliveryFailed(f"Kafka doesn't take this over ({type(error).__name__})") from None
    except (errors.KafkaError, errors.ConsumerStoppedError):
        raise ConnectionLost("the connection to Kafka broke, so it isn't known whether it took this over") from None


async def _stop(client: Any) -> None:
    """Stops a producer or a consumer. What it fails with doesn't matter any more."""
    with suppress(Exception):
        async with asyncio.timeout(2):
            await client.stop()


def check_topic(topic: str) -> None:
    """Raises TopicNotFound for what can't be the name of a Kafka topic, or is that of one of Kafka's own."""
    if not _TOPIC.fullmatch(topic) or topic in (".", ".."):
        raise TopicNotFound("a topic of Kafka has 1 to 249 of the characters a-z, A-Z, 0-9, '.', '_' and '-'")
    if topic.startswith("__"):
        raise TopicNotFound("the topics of Kafka that start with __ are its own")


def parse_endpoint(text: str) -> list[str]:
    """Raises ConfigError."""
    addresses = [each.strip() for each in text.split(",")]
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not (re.fullmatch(r"[\w.-]+|\[[0-9a-fA-F:.]+\]", host) and port.isdigit() and 0 < int(port) < 65_536):
            raise ConfigError("CAK_ENDPOINT is not an address of Kafka: give HOST:PORT", "CAK_ENDPOINT")
    return addresses


def _parse_security(configs: Mapping[str, str]) -> dict[str, str]:
    """What the library takes as the protocol and the credentials. Raises ConfigError."""
    user, password = configs.get("CAK_SASL_USERNAME"), configs.get("CAK_SASL_PASSWORD")
    protocol = configs.get("CAK_SECURITY_PROTOCOL", "PLAINTEXT" if user is None else "SASL_SSL").upper()
    if protocol not in PROTOCOLS:
        text = f"CAK_SECURITY_PROTOCOL is none of {', '.join(PROTOCOLS)}"
        raise ConfigError(text, "CAK_SECURITY_PROTOCOL")
    if not protocol.startswith("SASL"):
        if user is not None or password is not None:
            text = f"{protocol} has no user: leave out CAK_SASL_USERNAME, or give SASL_SSL as CAK_SECURITY_PROTOCOL"
            raise ConfigError(text, "CAK_SECURITY_PROTOCOL")
        return {"security_protocol": protocol}
    for key, value in (("CAK_SASL_USERNAME", user), ("CAK_SASL_PASSWORD", password)):
        if not value:
            raise ConfigError(f"{key} is missing: CAK_SECURITY_PROTOCOL asks for a user and a password", key)
    mechanism = configs.get("CAK_SASL_MECHANISMS", "PLAIN").upper()
    if mechanism not in MECHANISMS:
        raise ConfigError(f"CAK_SASL_MECHANISMS is none of {', '.join(MECHANISMS)}", "CAK_SASL_MECHANISMS")
    return {
        "security_protocol": protocol,
        "sasl_mechanism": mechanism,
        "sasl_plain_username": str(user),
        "sasl_plain_password": str(password),
    }
