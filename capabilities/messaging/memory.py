"""`messaging.memory`: topics that live as long as one `run`, and that all its modules and workers share.

The main process holds `MemoryTopics`. Whoever uses them, itself or a worker, has a `Desk` there, with what that one has
subscribed to; a worker asks its desk over a socket (slight_py/sharing.py), so a desk's methods take and return values
alone. `MemoryBackend` makes of a desk what every backend is.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Mapping
from typing import ClassVar, Protocol, TypeAlias

from capabilities.messaging import DeliveryFailed, TopicNotFound
from capabilities.messaging.receiving import Receiving

LIMIT = 256 * 1024 * 1024
"""Bytes that all subscriptions and the messages that wait in them may take. A message counts in each anew."""

QUEUE_LIMIT = 64 * 1024 * 1024
"""Bytes of messages that may wait in one subscription when another one comes."""

MESSAGE_BYTES = 64
"""What a message takes beside its bytes: an object and a place in a queue, measured with CPython 3.11."""

SUBSCRIPTION_BYTES = 1536
"""What a subscription takes beside its topic, measured in the same way."""

Topic: TypeAlias = tuple[str, str]
"""The name that the topics are granted under, and the topic."""


class _Queue:
    """The messages that wait in one subscription."""

    __slots__ = ("arrived", "messages", "size", "topic")

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.messages: deque[bytes] = deque()
        self.size = 0
        """Of the messages, in bytes."""
        self.arrived = asyncio.Event()
        """Whether there are messages."""


class MemoryTopics:
    """The topics themselves, whose subscriptions take up to `limit_bytes` in all."""

    REQUIRED: ClassVar[tuple[str, ...]] = ()
    OPTIONAL: ClassVar[tuple[str, ...]] = ()

    __slots__ = ("_limit_bytes", "_queues", "used_bytes")

    def __init__(self, configs: Mapping[str, str] | None = None, limit_bytes: int = LIMIT) -> None:
        self._limit_bytes = limit_bytes
        self._queues: dict[Topic, set[_Queue]] = {}
        self.used_bytes = 0

    def connect(self) -> Desk:
        return Desk(self)

    @staticmethod
    def attach(desk: Asked) -> MemoryBackend:
        """The backend that asks a desk, of this process or of the main one."""
        return MemoryBackend(desk)

    async def close(self) -> None:
        self._queues.clear()
        self.used_bytes = 0

    def subscribe(self, topic: Topic) -> _Queue:
        """Raises DeliveryFailed where the limit leaves no room."""
        self._take(_size(topic))
        queue = _Queue(topic)
        self._queues.setdefault(topic, set()).add(queue)
        return queue

    def unsubscribe(self, queue: _Queue) -> None:
        queues = self._queues.get(queue.topic, set())
        if queue not in queues:  # all were closed
            return
        queues.remove(queue)
        self.used_bytes -= _size(queue.topic) + queue.size
        if not queues:
            del self._queues[queue.topic]

    def publish(self, topic: Topic, message: bytes) -> None:
        """Puts a message into all queues of a topic; into none, and raises DeliveryFailed, where one is full."""
        queues = self._queues.get(topic, set())
        size = len(message) + MESSAGE_BYTES
        if any(queue.messages and queue.size + size > QUEUE_LIMIT for queue in queues):
            raise DeliveryFailed(f"a subscription is full: {QUEUE_LIMIT} bytes may wait in it")
        self._take(size * len(queues))
        for queue in queues:
            queue.messages.append(message)
            queue.size += size
            queue.arrived.set()

    def next(self, queue: _Queue) -> bytes:
        """Takes the first message out of a queue, which has one."""
        message = queue.messages.popleft()
        size = len(message) + MESSAGE_BYTES
        queue.size -= size
        self.used_bytes -= size
        if not queue.messages:
            queue.arrived.clear()
        return message

    def _take(self, size: int) -> None:
        if self.used_bytes + size > self._limit_bytes:
            raise DeliveryFailed(
                f"the messages that wait in memory are too many: they may take {self._limit_bytes} bytes in all"
            )
        self.used_bytes += size


def _size(topic: Topic) -> int:
    return SUBSCRIPTION_BYTES + sum(len(each.encode()) for each in topic)


class Asked(Protocol):
    """What a desk is asked, here or from another process. Each of these raises MessagingError."""

    async def publish(self, name: str, message: bytes, topic: str) -> None: ...

    async def subscribe(self, name: str, topic: str) -> int:
        """The number of a new subscription."""
        ...

    async def receive(self, number: int) -> bytes:
        """The next message, however long it takes."""
        ...

    async def unsubscribe(self, number: int) -> None: ...


class Desk:
    """What one process has subscribed to, in the process that holds the topics."""

    __slots__ = ("_numbers", "_queues", "_topics")

    def __init__(self, topics: MemoryTopics) -> None:
        self._topics = topics
        self._numbers = itertools.count()
        self._queues: dict[int, _Queue] = {}

    async def publish(self, name: str, message: bytes, topic: str) -> None:
        self._topics.publish((name, topic), message)

    async def subscribe(self, name: str, topic: str) -> int:
        number = next(self._numbers)
        self._queues[number] = self._topics.subscribe((name, topic))
        return number

    async def receive(self, number: int) -> bytes:
        queue = self._queues.get(number)
        if queue is None:
            raise TopicNotFound("the subscription is closed")
        await queue.arrived.wait()
        return self._topics.next(queue)

    async def unsubscribe(self, number: int) -> None:
        queue = self._queues.pop(number, None)
        if queue is not None:
            self._topics.unsubscribe(queue)

    async def close(self) -> None:
        for number in list(self._queues):
            await self.unsubscribe(number)


class MemoryBackend:
    """Implements `Backend`."""

    __slots__ = ("_desk",)

    REQUIRED: ClassVar[tuple[str, ...]] = ()
    OPTIONAL: ClassVar[tuple[str, ...]] = ()

    def __init__(self, desk: Asked) -> None:
        self._desk = desk

    async def open(self, name: str) -> _Topics:
        return _Topics(self._desk, name)

    async def close(self) -> None:
        pass


class _Topics:
    __slots__ = ("_desk", "_name")

    def __init__(self, desk: Asked, name: str) -> None:
        self._desk = desk
        self._name = name

    async def publish(self, message: bytes, topic: str) -> None:
        await self._desk.publish(self._name, message, topic)

    async def subscribe(self, topic: str) -> _Subscription:
        return _Subscription(self._desk, await self._desk.subscribe(self._name, topic))


class _Subscription:
    __slots__ = ("_desk", "_number", "_receiving")

    def __init__(self, desk: Asked, number: int) -> None:
        self._desk = desk
        self._number = number
        self._receiving = Receiving(lambda: desk.receive(number))

    async def receive(self, seconds: float) -> bytes | None:
        return await self._receiving.next(seconds)

    async def close(self) -> None:
        await self._receiving.cancel()
        await self._desk.unsubscribe(self._number)
