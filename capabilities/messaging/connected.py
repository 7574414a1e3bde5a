"""Backends that keep one connection to a broker, which sends the messages of all subscriptions over it by itself.

The connection is made when it's needed, and made again when it broke: at once where there are subscriptions, else for
the next call.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from os import strerror
from typing import Any, Protocol

from capabilities.errors import ConfigError
from capabilities.messaging import (
    MESSAGE_LIMIT,
    TOPIC_LIMIT,
    ConnectionLost,
    MessagingError,
    NotPermitted,
    PayloadTooLarge,
    TopicNotFound,
    Unavailable,
)
from capabilities.messaging.inbox import Inbox, Room

CONNECT_SECONDS = 5.0
"""How long making a connection may take, with all the broker asks for."""

ANSWER_SECONDS = 10.0
"""How long a broker may take to answer."""

RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""How long is waited between attempts to connect again. The last one is repeated."""


class Connection(Protocol):
    """A connection to a broker. Each method raises MessagingError."""

    @property
    def is_open(self) -> bool: ...

    async def publish(self, message: bytes, topic: str) -> None:
        """Returns when the broker has confirmed the message."""
        ...

    async def subscribe(self, topic: str, inbox: Inbox) -> None:
        """Returns when the broker has confirmed that the topic's messages go into the inbox from now on."""
        ...

    async def unsubscribe(self, topic: str, inbox: Inbox) -> None: ...

    async def close(self) -> None: ...


class ConnectedBackend(ABC):
    """A backend of messages over one connection, and its topics: they are the same ones under each name."""

    def __init__(self, broker: str) -> None:
        self._broker = broker
        """What a guest is told that the broker is: `the MQTT broker`."""
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._returning: asyncio.Task[None] | None = None
        self._topics: dict[Inbox, str] = {}
        """The subscriptions: the topic of each inbox."""
        self._room = Room()
        self._leaving: set[asyncio.Task[None]] = set()
        self._closed = False

    @abstractmethod
    async def _connect(self, lost: Callable[[Connection], None]) -> Connection:
        """A new connection, which calls `lost` when it breaks. Raises MessagingError."""

    @abstractmethod
    def _check_topic(self, topic: str) -> None:
        """Raises TopicNotFound for what can't be the name of one topic of this broker."""

    async def open(self, name: str) -> ConnectedBackend:
        check_length(name)
        return self

    async def close(self) -> None:
        self._closed = True
        for inbox in self._topics:
            inbox.close()
        self._topics.clear()
        tasks = [task for task in (self._connecting, self._returning, *self._leaving) if task and not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        connection, self._connection = self._connection, None
        if connection is not None:
            await _end(connection)

    async def publish(self, message: bytes, topic: str) -> None:
        self._check(topic)
        check_message(message)
        connection = await self._connected()
        await connection.publish(message, topic)

    async def subscribe(self, topic: str) -> BrokerSubscription:
        self._check(topic)
        connection = await self._connected()
        inbox = Inbox(self._room)
        self._topics[inbox] = topic
        try:
            await connection.subscribe(topic, inbox)
        except BaseException:
            self._leave(inbox)
            raise
        return BrokerSubscription(inbox, self._leave)

    def _check(self, topic: str) -> None:
        check_length(topic)
        self._check_topic(topic)

    def _leave(self, inbox: Inbox) -> None:
        """Ends a subscription. The broker hears of it in a task of its own, as whoever ends it may be cancelled."""
        inbox.close()
        topic = self._topics.pop(inbox, None)
        connection = self._connection
        if topic is not None and connection is not None and connection.is_open:
            task = asyncio.create_task(_unsubscribe(connection, topic, inbox))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _connected(self) -> Connection:
        """The connection. All who need a new one wait for the same attempt."""
        if self._closed:
            raise Unavailable(f"{self._broker} isn't used any more: this run is ending")
        if self._connection is not None and self._connection.is_open:
            return self._connection
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._make_connection())
            self._connecting.add_done_callback(read_error)
        return await asyncio.shield(self._connecting)

    async def _make_connection(self) -> Connection:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connection = await self._connect(self._lost)
        except TimeoutError:
            raise Unavailable(f"{self._broker} didn't answer in time", self._notice("no answer in time")) from None
        try:
            await self._subscribe_again(connection)
        except BaseException:
            await _end(connection)
            raise
        self._connection = connection
        if not connection.is_open:
            self._lost(connection)
            raise ConnectionLost(f"the connection to {self._broker} broke")
        return connection

    async def _subscribe_again(self, connection: Connection) -> None:
        for inbox, topic in list(self._topics.items()):
            inbox.miss(ConnectionLost(f"the connection to {self._broker} broke: messages may be missing"))
            try:
                await connection.subscribe(topic, inbox)
                inbox.away = None
            except (NotPermitted, TopicNotFound) as error:
                inbox.away = error
            if inbox not in self._topics:  # it was ended in the meantime
                await _unsubscribe(connection, topic, inbox)

    def _lost(self, connection: Connection) -> None:
        if connection is not self._connection:
            return  # it's being made, and whoever makes it sees that
        self._connection = None
        self._set_away(Unavailable(f"{self._broker} can't be reached"))
        if self._topics and not self._closed and (self._returning is None or self._returning.done()):
            self._returning = asyncio.create_task(self._return())

    def _set_away(self, error: MessagingError) -> None:
        for inbox in self._topics:
            inbox.away = error

    async def _return(self) -> None:
        """Connects again, for as long as there are subscriptions that need it."""
        attempt = 0
        while self._topics:
            try:
                await self._connected()
                return
            except MessagingError as error:
                self._set_away(error)
            await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
            attempt += 1

    @abstractmethod
    def _notice(self, reason: str, mend: str = ...) -> str:
        """What whoever runs this is told when the broker can't be used: where it is, why, and what to do about it."""

    def _unreachable(self, error: Exception) -> Unavailable:
        """For an error of the network while a connection was made."""
        return Unavailable(f"{self._broker} can't be reached", self._notice(reason_of(error)))

    def _refused(self, mend: str) -> NotPermitted:
        """For credentials that the broker doesn't accept."""
        return NotPermitted(f"{self._broker} refuses the credentials", self._notice("it refuses the credentials", mend))


class BrokerSubscription:
    """A subscription whose messages come into an inbox."""

    __slots__ = ("_inbox", "_leave")

    def __init__(self, inbox: Inbox, leave: Callable[[Inbox], None]) -> None:
        self._inbox = inbox
        self._leave = leave

    async def receive(self, seconds: float) -> bytes | None:
        return await self._inbox.receive(seconds)

    async def close(self) -> None:
        self._leave(self._inbox)


# What all brokers have in common.


def check_length(name: str) -> None:
    """Raises TopicNotFound for the name of a topic, or of a grant, that is too long."""
    if len(name.encode(errors="surrogatepass")) > TOPIC_LIMIT:
        raise TopicNotFound(f"the name is longer than {TOPIC_LIMIT} bytes")


def check_message(message: bytes) -> None:
    """Raises PayloadTooLarge for a message past MESSAGE_LIMIT."""
    if len(message) > MESSAGE_LIMIT:
        raise PayloadTooLarge(f"the message is longer than {MESSAGE_LIMIT} bytes")


def make_tls_context(ca_file: str | None, key: str) -> ssl.SSLContext:
    """For a broker whose certificate the system trusts, or one of the certificates in `ca_file`, which the config key
    `key` names. Reads files. Raises Unavailable."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        notice = f"the file that {key} names can't be used: {reason_of(error)}; give a file of certificates (PEM)"
        raise Unavailable("the broker can't be reached: its certificates can't be read", notice) from None


def read_error(task: asyncio.Task[Any]) -> None:
    """Reads the error of a task for which nobody may wait any more, as asyncio would report it else."""
    if not task.cancelled():
        task.exception()


def parse_switch(configs: Mapping[str, str], key: str) -> bool:
    """The config `true` or `false`, or nothing for `false`. Raises ConfigError."""
    text = configs.get(key, "false").lower()
    if text not in ("true", "false"):
        raise ConfigError(f"{key} is neither true nor false", key)
    return text == "true"


def parse_port(text: str, key: str) -> int:
    """Raises ConfigError."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65_536):
        raise ConfigError(f"{key} is not a port: give a number from 1 to 65535", key)
    return int(text)


def reason_of(error: BaseException) -> str:
    """Why there is no connection, in words that have no part of an address or a secret."""
    match error:
        case TimeoutError():
            return "no answer in time"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message}"
        case ssl.SSLError():
            return "TLS failed"
        case OSError(errno=int(number)) if number > 0:
            return strerror(number).lower()
        case socket.gaierror():
            return "its name can't be resolved"
    return "it ended the connection"


async def _unsubscribe(connection: Connection, topic: str, inbox: Inbox) -> None:
    with suppress(MessagingError):  # then the connection has ended, and the subscription with it
        await connection.unsubscribe(topic, inbox)


async def _end(connection: Connection) -> None:
    with suppress(MessagingError, TimeoutError):
        async with asyncio.timeout(1):
            await connection.close()
