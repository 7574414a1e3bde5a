"""Answers a guest's `messaging` imports with the topics that it is granted."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bindgen.runtime import Err
from capabilities import messaging as family
from capabilities import notices
from capabilities.bindings.messaging import (
    MessagingError,
    MessagingErrorConnectionLost,
    MessagingErrorDeliveryFailed,
    MessagingErrorInsufficientPermissions,
    MessagingErrorPayloadTooLarge,
    MessagingErrorQueueOrTopicNotFound,
    MessagingErrorServiceUnavailable,
    MessagingErrorUnexpectedError,
    MessagingErrorUnsupportedMessageFormat,
)
from capabilities.errors import CapabilityError
from capabilities.grants import Grants, NotGranted
from capabilities.messaging import MESSAGE_LIMIT, TOPIC_LIMIT, Backend, Subscription, Topics

RECEIVE_SECONDS = 10.0
"""How long `receive` waits for a message. It is well below what a request has by default (30), so that a handler can
still answer when nothing has come; a guest that wants to wait longer asks again, and misses nothing meanwhile."""

SUBSCRIPTIONS = 32
"""How many subscriptions one instance may have. They end with it, and in no other way."""

_CASES: dict[type[CapabilityError], type[MessagingError]] = {
    family.PayloadTooLarge: MessagingErrorPayloadTooLarge,
    family.TopicNotFound: MessagingErrorQueueOrTopicNotFound,
    family.NotPermitted: MessagingErrorInsufficientPermissions,
    NotGranted: MessagingErrorInsufficientPermissions,
    family.Unavailable: MessagingErrorServiceUnavailable,
    family.DeliveryFailed: MessagingErrorDeliveryFailed,
    family.ConnectionLost: MessagingErrorConnectionLost,
    family.UnsupportedFormat: MessagingErrorUnsupportedMessageFormat,
}


def hosts(grants: Mapping[str, Backend]) -> dict[str, object]:
    """What answers the interface of the family: see `Messages` for `grants`."""
    return {"messaging": Messages(grants)}


class Messages:
    """Makes what answers one instance. `grants` says which backend carries the messages of which name; the name `*`
    stands for every name that has no grant of its own."""

    __slots__ = ("_grants",)

    def __init__(self, grants: Mapping[str, Backend]) -> None:
        self._grants = Grants("messaging", "name", grants)

    def session(self) -> Session:
        return Session(self._grants)


class Session:
    """Implements `MessagingHost` for one instance, and holds its subscriptions."""

    __slots__ = ("_grants", "_subscribing", "subscriptions")

    def __init__(self, grants: Grants[Backend]) -> None:
        self._grants = grants
        self._subscribing: set[asyncio.Task[Subscription]] = set()
        self.subscriptions: dict[tuple[str, str], Subscription] = {}
        """By the name that they were opened under, and the token."""

    async def pub_open(self, name: str) -> _Pub:
        """Raises Err[MessagingError]: `insufficient-permissions` for a name that is not granted."""
        return _Pub(name, await self._open(name))

    async def sub_open(self, name: str) -> _Sub:
        """Raises Err[MessagingError], as `pub_open` does."""
        return _Sub(name, await self._open(name), self)

    async def _open(self, name: str) -> Topics:
        with _answered():
            _check_length("name", name)
            return await self._grants.of(name).open(name)

    async def subscribe(self, name: str, topics: Topics, topic: str) -> str:
        """Adds a subscription; returns its token. Raises MessagingError."""
        if len(self.subscriptions) + len(self._subscribing) >= SUBSCRIPTIONS:
            raise family.DeliveryFailed(f"an instance may have {SUBSCRIPTIONS} subscriptions, and has as many")
        task = asyncio.create_task(_subscription(topics, topic))
        self._subscribing.add(task)
        await asyncio.wait({task})  # if the instance ends meanwhile, `close` ends what comes of it
        self._subscribing.discard(task)
        subscription = task.result()
        # A token says which subscription is meant, and proves that it is the caller's own.
        token = secrets.token_hex(16)
        self.subscriptions[name, token] = subscription
        return token

    async def close(self) -> None:
        """Ends all subscriptions of the instance, each whatever becomes of the others."""
        late = await asyncio.gather(*self._subscribing, return_exceptions=True)
        ending = [*self.subscriptions.values(), *(each for each in late if not isinstance(each, BaseException))]
        self.subscriptions.clear()
        ended = await asyncio.gather(*(each.close() for each in ending), return_exceptions=True)
        for failed in (each for each in ended if each is not None):
            raise failed


async def _subscription(topics: Topics, topic: str) -> Subscription:
    return await topics.subscribe(topic)


class _Pub:
    __slots__ = ("_name", "_topics")

    def __init__(self, name: str, topics: Topics) -> None:
        self._name = name
        self._topics = topics

    async def publish(self, msg: bytes, topic: str) -> None:
        with _answered():
            _check_length("topic", topic)
            if len(msg) > MESSAGE_LIMIT:
                raise family.PayloadTooLarge(f"{len(msg)} bytes are more than the {MESSAGE_LIMIT} a message may have")
            await self._topics.publish(msg, topic)


class _Sub:
    __slots__ = ("_name", "_session", "_topics")

    def __init__(self, name: str, topics: Topics, session: Session) -> None:
        self._name = name
        self._topics = topics
        self._session = session

    async def subscribe(self, topic: str) -> str:
        with _answered():
            _check_length("topic", topic)
            return await self._session.subscribe(self._name, self._topics, topic)

    async def receive(self, sub_tok: str) -> bytes:
        """Raises Err[MessagingError]: `delivery-failed` where no message comes within RECEIVE_SECONDS."""
        with _answered():
            subscription = self._session.subscriptions.get((self._name, sub_tok))
            if subscription is None:
                raise family.TopicNotFound("there is no such subscription: its token is another instance's, or none")
            message = await subscription.receive(RECEIVE_SECONDS)
            if message is None:
                raise family.DeliveryFailed(
                    f"no message came within {RECEIVE_SECONDS:g} seconds; receive again to wait on"
                )
            return message


def _check_length(what: str, text: str) -> None:
    length = len(text.encode())
    if length > TOPIC_LIMIT:
        raise family.TopicNotFound(f"a {what} of {length} bytes is too long: it may have {TOPIC_LIMIT}")


@contextmanager
def _answered() -> Iterator[None]:
    """What a backend raises, as the interface's cases; and what the user should know of it, told once."""
    try:
        yield
    except CapabilityError as error:
        if error.notice is not None:
            notices.tell(error.notice)
        raise Err(_case(error)) from None


def _case(error: CapabilityError) -> MessagingError:
    found: Any = next((_CASES[kind] for kind in type(error).__mro__ if kind in _CASES), MessagingErrorUnexpectedError)
    case: MessagingError = found(str(error))
    return case
