"""Answers a guest's `messaging` imports with the topics that it is granted."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

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
from capabilities.permissions import NotAllowed, Permissions

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
    NotAllowed: MessagingErrorInsufficientPermissions,
    family.Unavailable: MessagingErrorServiceUnavailable,
    family.DeliveryFailed: MessagingErrorDeliveryFailed,
    family.ConnectionLost: MessagingErrorConnectionLost,
    family.UnsupportedFormat: MessagingErrorUnsupportedMessageFormat,
}


def hosts(grants: Mapping[str, Backend], permissions: Mapping[str, Permissions]) -> dict[str, object]:
    """What answers the interface of the family: see `Messages`."""
    return {"messaging": Messages(grants, permissions)}


class Messages:
    """Makes what answers one instance of a module.

    `grants` says which backend carries the messages of which name, and `permissions` what the module may do there; the
    name `*` stands for every name that has no grant of its own.
    """

    __slots__ = ("_grants",)

    def __init__(self, grants: Mapping[str, Backend], permissions: Mapping[str, Permissions]) -> None:
        granted = {name: _Granted(backend, permissions[name]) for name, backend in grants.items()}
        self._grants = Grants("messaging", "name", granted)

    def session(self) -> Session:
        return Session(self._grants)


class _Granted(NamedTuple):
    backend: Backend
    permissions: Permissions


class _Opened(NamedTuple):
    """What an instance has opened under a name."""

    name: str
    topics: Topics
    permissions: Permissions


class Session:
    """Implements `MessagingHost` for one instance, and holds its subscriptions."""

    __slots__ = ("_grants", "_subscribing", "subscriptions")

    def __init__(self, grants: Grants[_Granted]) -> None:
        self._grants = grants
        self._subscribing: set[asyncio.Task[Subscription]] = set()
        self.subscriptions: dict[tuple[str, str], Subscription] = {}
        """By the name that they were opened under, and the token."""

    async def pub_open(self, name: str) -> _Pub:
        """Raises Err[MessagingError]: `insufficient-permissions` for a name that is not granted."""
        return _Pub(await self._open(name))

    async def sub_open(self, name: str) -> _Sub:
        """Raises Err[MessagingError], as `pub_open` does."""
        return _Sub(await self._open(name), self)

    async def _open(self, name: str) -> _Opened:
        with _answered():
            _check_length("name", name)
            granted = self._grants.of(name)
            return _Opened(name, await granted.backend.open(name), granted.permissions)

    async def subscribe(self, opened: _Opened, topic: str) -> str:
        """Adds a subscription; returns its token. Raises MessagingError."""
        if len(self.subscriptions) + len(self._subscribing) >= SUBSCRIPTIONS:
            raise family.DeliveryFailed(f"an instance may have {SUBSCRIPTIONS} subscriptions, and has as many")
        task = asyncio.create_task(_subscription(opened.topics, topic))
        self._subscribing.add(task)
        await asyncio.wait({task})  # if the instance ends meanwhile, `close` ends what comes of it
        self._subscribing.discard(task)
        subscription = task.result()
        # A token says which subscription is meant, and proves that it is the caller's own.
        token = secrets.token_hex(16)
        self.subscriptions[opened.name, token] = subscription
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
    __slots__ = ("_opened",)

    def __init__(self, opened: _Opened) -> None:
        self._opened = opened

    async def publish(self, msg: bytes, topic: str) -> None:
        with _answered():
            _check_length("topic", topic)
            self._opened.permissions.check("publish", topic)
            if len(msg) > MESSAGE_LIMIT:
                raise family.PayloadTooLarge(f"{len(msg)} bytes are more than the {MESSAGE_LIMIT} a message may have")
            await self._opened.topics.publish(msg, topic)


class _Sub:
    __slots__ = ("_opened", "_session")

    def __init__(self, opened: _Opened, session: Session) -> None:
        self._opened = opened
        self._session = session

    async def subscribe(self, topic: str) -> str:
        with _answered():
            _check_length("topic", topic)
            # In MQTT, who subscribes to `orders/#` gets what is published on `orders`, too.
            self._opened.permissions.check("subscribe", topic, [topic[:-2]] if topic.endswith("/#") else ())
            return await self._session.subscribe(self._opened, topic)

    async def receive(self, sub_tok: str) -> bytes:
        """Raises Err[MessagingError]: `delivery-failed` where no message comes within RECEIVE_SECONDS."""
        with _answered():
            subscription = self._session.subscriptions.get((self._opened.name, sub_tok))
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
