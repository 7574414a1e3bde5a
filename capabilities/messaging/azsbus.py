"""`messaging.azsbus`: messages in the queues of Azure Service Bus, over its HTTP interface.

Sources: Microsoft's "Service Bus Runtime REST" (Send Message, Peek-Lock Message, Delete Message, Unlock Message) and
"Service Bus access control with Shared Access Signatures".

A message is locked, deleted, and then handed out. Were it deleted when it's read, an answer that gets lost would take
the message with it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote, urlsplit

from capabilities.errors import ConfigError
from capabilities.messaging import (
    MESSAGE_LIMIT,
    DeliveryFailed,
    MessagingError,
    NotPermitted,
    PayloadTooLarge,
    TopicNotFound,
    Unavailable,
)
from capabilities.messaging.connected import check_length, check_message, reason_of
from capabilities.messaging.receiving import Receiving

if TYPE_CHECKING:
    import aiohttp

CONNECT_SECONDS = 5.0
"""How long making a connection may take."""

ANSWER_SECONDS = 10.0
"""How long the service may take to answer, beyond what it is asked to wait for a message."""

POLL_SECONDS = 30
"""How long the service is asked to wait for a message, at a time."""

TOKEN_SECONDS = 600
"""How long a signature is good for."""

SMALLEST_LIMIT = 192 * 1024
"""The service answers alike to a message that is too large and to a queue that is full. Each queue takes messages of
256 KiB with their headers, so below this it's the queue."""

_QUEUE = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9._~-]*[a-zA-Z0-9])?(/[a-zA-Z0-9]([a-zA-Z0-9._~-]*[a-zA-Z0-9])?)*")
_OWN_SEGMENTS = ("messages", "subscriptions")
"""What follows a queue in the addresses of the interface."""


class ServiceBusBackend:
    """Queues of the namespace AZURE_SERVICE_BUS_NAMESPACE. A topic is the queue of that name."""

    REQUIRED: ClassVar[tuple[str, ...]] = ("AZURE_SERVICE_BUS_NAMESPACE", "AZURE_POLICY_NAME", "AZURE_POLICY_KEY")
    OPTIONAL: ClassVar[tuple[str, ...]] = ("AZURE_SERVICE_BUS_ENDPOINT",)

    def __init__(self, configs: Mapping[str, str]) -> None:
        """Raises ConfigError."""
        for key in self.REQUIRED:
            if not configs.get(key):
                raise ConfigError(f"{key} is missing: messaging.azsbus needs it", key)
        namespace = configs["AZURE_SERVICE_BUS_NAMESPACE"]
        if not re.fullmatch(r"[a-zA-Z0-9-]{1,50}", namespace):
            text = "AZURE_SERVICE_BUS_NAMESPACE is not the name of a namespace: letters, digits and '-', without a host"
            raise ConfigError(text, "AZURE_SERVICE_BUS_NAMESPACE")
        address = configs.get("AZURE_SERVICE_BUS_ENDPOINT") or f"https://{namespace}.servicebus.windows.net"
        self._endpoint = _parse_endpoint(address)
        self._policy = configs["AZURE_POLICY_NAME"]
        self._key = configs["AZURE_POLICY_KEY"].encode()
        self._session: aiohttp.ClientSession | None = None
        self._subscriptions: set[QueueSubscription] = set()

    async def open(self, name: str) -> ServiceBusBackend:
        check_length(name)
        return self

    async def close(self) -> None:
        for subscription in list(self._subscriptions):
            await subscription.close()
        if self._session is not None:
            await self._session.close()

    async def publish(self, message: bytes, topic: str) -> None:
        check_queue(topic)
        check_message(message)
        answer = await self.request("POST", topic, "/messages", message)
        if answer.status != 201:
            raise self._failure(answer.status, topic, len(message))

    async def subscribe(self, topic: str) -> QueueSubscription:
        """Asks nothing of the service: what is in the queue waits there."""
        check_queue(topic)
        subscription = QueueSubscription(self, topic, self._subscriptions.discard)
        self._subscriptions.add(subscription)
        return subscription

    async def lock(self, topic: str) -> Locked | None:
        """The next message of a queue, locked; None where none comes in POLL_SECONDS. Raises MessagingError."""
        path = f"/messages/head?timeout={POLL_SECONDS}"
        answer = await self.request("POST", topic, path, seconds=POLL_SECONDS + ANSWER_SECONDS)
        if answer.status == 204:
            return None
        if answer.status != 201:
            raise self._failure(answer.status, topic)
        try:
            properties = json.loads(answer.properties)
            number, token = int(properties["SequenceNumber"]), str(properties["LockToken"])
        except (ValueError, KeyError, TypeError):
            raise Unavailable("what answers is not Service Bus", self._notice("it is not Service Bus")) from None
        return Locked(answer.body, f"/messages/{number}/{quote(token, safe='')}")

    async def delete(self, topic: str, path: str) -> bool:
        """Whether a locked message could be deleted: its lock may be over, or it is deleted. Raises MessagingError."""
        answer = await self.request("DELETE", topic, path)
        if answer.status in (200, 204):
            return True
        if answer.status == 404:
            return False
        raise self._failure(answer.status, topic)

    async def unlock(self, topic: str, path: str) -> None:
        with suppress(MessagingError):  # then the lock ends by itself
            await self.request("PUT", topic, path)

    async def request(
        self, method: str, queue: str, path: str, body: bytes | None = None, seconds: float = ANSWER_SECONDS
    ) -> Answer:
        """The service's answer, whatever its status is. Raises MessagingError."""
        import aiohttp

        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
            # Each subscription keeps a connection while it waits, so there is no limit to their number here.
            self._session = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0))
            # It would send a DELETE again whose answer is lost, and the second answer, that there is no such message,
            # would then be taken to be the first.
            self._session._retry_connection = False
        headers = {"Authorization": sign(f"{self._endpoint}/{queue}", self._policy, self._key, int(time.time()))}
        if body is not None:
            headers["Content-Type"] = "application/octet-stream"
        try:
            async with (
                asyncio.timeout(seconds),
                self._session.request(
                    method, f"{self._endpoint}/{queue}{path}", headers=headers, data=body or b"", allow_redirects=False
                ) as response,
            ):
                content = await _read(response)
                return Answer(response.status, content, response.headers.get("BrokerProperties", ""))
        except TimeoutError:
            text = "Service Bus didn't answer in time, so it isn't known whether it took this over"
            raise Unavailable(text, self._notice("no answer in time")) from None
        except (aiohttp.ClientError, OSError) as error:
            cause = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
            reason = reason_of(cause) if isinstance(cause, OSError | ssl.SSLError) else "the connection broke"
            raise Unavailable("Service Bus can't be reached", self._notice(reason)) from None

    def _failure(self, status: int, topic: str, length: int = 0) -> MessagingError:
        match status:
            case 401:
                notice = (
                    "it refuses the policy; correct AZURE_POLICY_NAME and AZURE_POLICY_KEY, or give it Send and Listen"
                )
                return NotPermitted("Service Bus refuses the credentials", self._notice(notice, mend=""))
            case 413:
                return PayloadTooLarge("the message is longer than Service Bus allows")
            case 403 if length > SMALLEST_LIMIT:
                return PayloadTooLarge("the message is longer than Service Bus allows, or the queue is full")
            case 403:
                return DeliveryFailed("the queue is full")
            case 404 | 410:
                notice = self._notice(f"there is no queue {topic!r}", "create it")
                return TopicNotFound("there is no such queue", notice)
            case 429 | 500 | 502 | 503 | 504:
                return Unavailable(f"Service Bus can't answer at present (status {status})")
        return DeliveryFailed(f"Service Bus doesn't take this over (status {status})")

    def _notice(self, reason: str, mend: str = "correct AZURE_SERVICE_BUS_NAMESPACE, or try later") -> str:
        return f"service bus {urlsplit(self._endpoint).netloc}: {reason}; {mend}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service answers to a request."""

    status: int
    body: bytes
    properties: str
    """The header BrokerProperties, which is JSON."""


@dataclass(slots=True)
class Locked:
    """A message that the service keeps from other receivers for a while."""

    message: bytes
    path: str
    """What follows the queue in its address."""
    deleting: bool = False
    """Whether the service was asked to delete it. That it isn't there any more then is no surprise."""


class QueueSubscription:
    """Receives from a queue, as others may: each message goes to one of them."""

    def __init__(self, bus: ServiceBusBackend, queue: str, closed: Callable[[QueueSubscription], None]) -> None:
        self._bus = bus
        self._queue = queue
        self._closed = closed
        self._receiving = Receiving(self._fetch)
        self._locked: Locked | None = None

    async def receive(self, seconds: float) -> bytes | None:
        while True:
            start = time.monotonic()
            locked = self._locked = self._locked or await self._receiving.next(seconds)
            if locked is None:
                return None
            # Deleting is asked for here, and not where the message is fetched, so that a message which nobody asks
            # for any more goes back into the queue.
            known = not locked.deleting
            locked.deleting = True
            deleted = await self._bus.delete(self._queue, locked.path)
            self._locked = None
            if deleted or not known:
                return locked.message
            # The lock ran out before anybody asked for the message: it is in the queue again.
            seconds = max(0.0, seconds - (time.monotonic() - start))

    async def close(self) -> None:
        self._closed(self)
        fetched = await self._receiving.cancel()
        locked, self._locked = self._locked or fetched, None
        if locked is not None and not locked.deleting:
            await self._bus.unlock(self._queue, locked.path)

    async def _fetch(self) -> Locked:
        while True:
            locked = await self._bus.lock(self._queue)
            if locked is not None:
                return locked


def sign(address: str, policy: str, key: bytes, now: int) -> str:
    """A Shared Access Signature for an address, good until TOKEN_SECONDS after `now` (seconds since 1970)."""
    resource, expiry = quote(address.lower(), safe=""), str(now + TOKEN_SECONDS)
    digest = hmac.digest(key, f"{resource}\n{expiry}".encode(), hashlib.sha256)
    signature = quote(base64.b64encode(digest), safe="")
    return f"SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn={quote(policy, safe='')}"


def check_queue(topic: str) -> None:
    """Raises TopicNotFound for what can't be the name of a queue."""
    if len(topic) > 260 or not _QUEUE.fullmatch(topic) or set(topic.lower().split("/")) & set(_OWN_SEGMENTS):
        raise TopicNotFound(
            "a queue of Service Bus has 1 to 260 of the characters a-z, A-Z, 0-9, '.', '_', '~', '-' and '/', with a "
            "letter or digit first and last, also beside each '/'"
        )


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, unless it's longer than a message may be."""
    chunks = []
    length = 0
    async for chunk in response.content.iter_any():
        length += len(chunk)
        if length > MESSAGE_LIMIT:
            raise DeliveryFailed(f"the next message is longer than {MESSAGE_LIMIT} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _parse_endpoint(address: str) -> str:
    """The address without a slash at its end. Raises ConfigError."""
    try:
        parts = urlsplit(address)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
        text = "AZURE_SERVICE_BUS_ENDPOINT is not an address: give https://HOST, or http:// for an emulator"
        raise ConfigError(text, "AZURE_SERVICE_BUS_ENDPOINT")
    return f"{parts.scheme}://{parts.netloc}"
