"""Messages on topics: what stands behind the interface `messaging`.

This module holds what the backends share: their Protocols, and the errors and limits that make them answer alike.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from capabilities.errors import CapabilityError

TOPIC_LIMIT = 65_536
"""How long a topic, or the name of a grant, may be: in bytes of UTF-8."""

MESSAGE_LIMIT = 64 * 1024 * 1024
"""How long a message may be, in bytes. What carries messages may allow less."""


class MessagingError(CapabilityError):
    """Anything that can go wrong with messages and has no class of its own."""


class PayloadTooLarge(MessagingError):
    """The message is larger than what carries it allows."""


class TopicNotFound(MessagingError):
    """There is no such topic or queue, and none can be of that name; or there is no such subscription."""


class NotPermitted(MessagingError):
    """What carries the messages refuses the credentials, or doesn't allow them this topic."""


class Unavailable(MessagingError):
    """What carries the messages can't be reached, or doesn't answer in time."""


class DeliveryFailed(MessagingError):
    """The message could not be handed over, or none came in time."""


class ConnectionLost(MessagingError):
    """The connection broke, so it isn't known whether the message was handed over, or which were missed."""


class UnsupportedFormat(MessagingError):
    """A message that isn't of the kind that is expected."""


class Backend(Protocol):
    """What carries messages.

    A backend is made as `Backend(configs)` from a mapping of strings: that checks the configuration, raises
    ConfigError, and does no I/O.
    """

    REQUIRED: ClassVar[tuple[str, ...]]
    """The keys that the configuration must have."""

    OPTIONAL: ClassVar[tuple[str, ...]]
    """The keys that it may have."""

    async def open(self, name: str) -> Topics:
        """The topics of that name, which cost nothing until they are used. Raises MessagingError."""
        ...

    async def close(self) -> None:
        """Lets go of what the backend holds. Its topics and subscriptions are of no use afterwards."""
        ...


class Topics(Protocol):
    """The topics that a guest reaches under one name. Topics of two names are the same ones where a server that others
    use, too, carries the messages, and different ones elsewhere."""

    async def publish(self, message: bytes, topic: str) -> None:
        """Returns when what carries the messages has taken the message over. Raises MessagingError."""
        ...

    async def subscribe(self, topic: str) -> Subscription:
        """A subscription that sees every message published on the topic from when this returns.

        A backend refuses every way to name more than one topic, such as the wildcards of MQTT (`+`, `#`) and NATS (`*`,
        `>`), with TopicNotFound: the front compares the text of the topic with what the slightfile allows. Raises
        MessagingError.
        """
        ...


class Subscription(Protocol):
    """The messages of one topic, in the order in which they were published, each once.

    There is one call of `receive` at a time: a guest that waits does nothing else.
    """

    async def receive(self, seconds: float) -> bytes | None:
        """The next message, which counts as delivered when this returns; None where none comes in so many seconds.

        Raises MessagingError. A call that is cancelled loses no message.
        """
        ...

    async def close(self) -> None:
        """Ends the subscription. What it hasn't handed out is dropped, unless what carries the messages keeps it."""
        ...
