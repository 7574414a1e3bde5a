"""`messaging.mosquitto`: messages in an MQTT broker, such as Mosquitto, over MQTT 5.

Version 5 is the first in which a broker says whether it took a message over. Everything is sent with QoS 1: the broker
confirms each message, and so does this end. A connection that breaks is not continued but replaced
(capabilities/messaging/connected.py), so nothing is sent twice.

paho-mqtt brings no event loop for asyncio; it says when its socket is to be read and written, and `MqttConnection` does
that.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from capabilities.errors import ConfigError
from capabilities.messaging import (
    ConnectionLost,
    DeliveryFailed,
    MessagingError,
    NotPermitted,
    PayloadTooLarge,
    TopicNotFound,
    Unavailable,
)
from capabilities.messaging.connected import (
    ANSWER_SECONDS,
    CONNECT_SECONDS,
    BrokerSubscription,
    ConnectedBackend,
    Connection,
    check_length,
    make_tls_context,
    parse_port,
    parse_switch,
)
from capabilities.messaging.inbox import Inbox

if TYPE_CHECKING:
    import paho.mqtt.client as mqtt
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

BROKER = "the MQTT broker"

TOPIC_BYTES = 65_535
"""How long a topic may be (MQTT 5, section 1.5.4)."""

KEEPALIVE_SECONDS = 15
"""How long a connection may be silent before it is checked. One that stays silent then is given up."""

UNCONFIRMED = 65_535
"""How many messages the broker may send before their confirmations come: as many as there can be."""

# MQTT 5, section 2.4.
_BAD_CREDENTIALS = (0x86, 0x87, 0x8C)
_TOO_LARGE = (0x95,)
_NOT_AUTHORIZED = 0x87
_TOPIC_INVALID = (0x8F, 0x90)
_PROTOCOL_ERROR = 0x82


class MosquittoBackend:
    """Topics in the MQTT broker at MOSQUITTO_HOST and MOSQUITTO_PORT.

    It has a connection to publish and another to subscribe: a message that breaks the first, as one that is too large
    for the broker may, takes no subscription with it.
    """

    REQUIRED: ClassVar[tuple[str, ...]] = ("MOSQUITTO_HOST",)
    OPTIONAL: ClassVar[tuple[str, ...]] = (
        "MOSQUITTO_PORT",
        "MOSQUITTO_USERNAME",
        "MOSQUITTO_PASSWORD",
        "MOSQUITTO_TLS",
        "MOSQUITTO_CA_FILE",
    )

    def __init__(self, configs: Mapping[str, str]) -> None:
        """Raises ConfigError."""
        self._publishing = MqttBroker(configs)
        self._subscribing = MqttBroker(configs)

    async def open(self, name: str) -> MosquittoBackend:
        check_length(name)
        return self

    async def publish(self, message: bytes, topic: str) -> None:
        await self._publishing.publish(message, topic)

    async def subscribe(self, topic: str) -> BrokerSubscription:
        return await self._subscribing.subscribe(topic)

    async def close(self) -> None:
        await self._publishing.close()
        await self._subscribing.close()


class MqttBroker(ConnectedBackend):
    """The broker, over one connection."""

    def __init__(self, configs: Mapping[str, str]) -> None:
        """Raises ConfigError."""
        super().__init__(BROKER)
        self._host = configs.get("MOSQUITTO_HOST", "")
        if not re.fullmatch(r"[\w.:-]+", self._host):
            raise ConfigError("MOSQUITTO_HOST is not the name or IP address of an MQTT broker", "MOSQUITTO_HOST")
        self._ca_file = configs.get("MOSQUITTO_CA_FILE")
        self._tls = parse_switch(configs, "MOSQUITTO_TLS") or self._ca_file is not None
        self._port = parse_port(configs.get("MOSQUITTO_PORT", "8883" if self._tls else "1883"), "MOSQUITTO_PORT")
        self._user, self._password = configs.get("MOSQUITTO_USERNAME"), configs.get("MOSQUITTO_PASSWORD")
        if self._user is None and self._password is not None:
            raise ConfigError("MOSQUITTO_USERNAME is missing: a password belongs to a user", "MOSQUITTO_USERNAME")
        try:
            import paho.mqtt.client  # noqa: F401  # to see whether it is there
        except ImportError:
            text = "messaging.mosquitto needs the Python package paho-mqtt: pip install 'slight-py[mqtt]'"
            raise ConfigError(text) from None

    def _check_topic(self, topic: str) -> None:
        check_topic(topic)

    def _notice(self, reason: str, mend: str = "start it, or correct MOSQUITTO_HOST and MOSQUITTO_PORT") -> str:
        return f"mqtt {self._host}:{self._port}: {reason}; {mend}"

    async def _connect(self, lost: Callable[[Connection], None]) -> Connection:
        import paho.mqtt.client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion

        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"slight-py-{uuid.uuid4().hex}",
            protocol=mqtt.MQTTv5,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_SECONDS
        if self._user is not None:
            client.username_pw_set(self._user, self._password)
        if self._tls:
            client.tls_set_context(await asyncio.to_thread(make_tls_context, self._ca_file, "MOSQUITTO_CA_FILE"))
        connection = MqttConnection(client, lost)
        try:
            code = await connection.open(self._host, self._port)
        except OSError as error:
            await connection.close()
            raise self._unreachable(error) from None
        except BaseException:
            await connection.close()
            raise
        if code == 0:
            return connection
        await connection.close()
        if code in _BAD_CREDENTIALS:
            raise self._refused("correct MOSQUITTO_USERNAME and MOSQUITTO_PASSWORD")
        raise Unavailable(f"{BROKER} refuses the connection", self._notice(f"it refuses the connection (0x{code:02x})"))


class MqttConnection:
    """A connection to an MQTT broker. Everything but `connect` of the library runs in the event loop."""

    def __init__(self, client: mqtt.Client, lost: Callable[[Connection], None]) -> None:
        self.is_open = False
        self._client = client
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._answers: dict[int, asyncio.Future[list[int]]] = {}
        """What waits for an answer of the broker, by the identifiers of the packets."""
        self._accepted: asyncio.Future[int] = self._loop.create_future()
        self._inboxes: dict[str, set[Inbox]] = {}
        self._publishing: dict[int, int] = {}
        """The lengths of the messages that the broker hasn't answered yet."""
        self._packet_limit = 0
        self._checking: asyncio.Task[None] | None = None
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_answer
        client.on_unsubscribe = self._on_answer
        client.on_socket_open = self._on_socket_open
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_socket_register_write
        client.on_socket_unregister_write = self._on_socket_unregister_write

    async def open(self, host: str, port: int) -> int:
        """The broker's answer: 0, or the reason code of its refusal. Raises OSError."""
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho-mqtt gives no types here
        # Mosquitto drops silently what comes beyond the unconfirmed ones and 1,000 more. Left to itself, it sends 20.
        properties.ReceiveMaximum = UNCONFIRMED
        connect = partial(self._client.connect, host, port, KEEPALIVE_SECONDS, properties=properties)
        # It waits for the network, and can't be cancelled: it ends by itself after CONNECT_SECONDS.
        await asyncio.to_thread(connect)
        self._checking = asyncio.create_task(self._check())
        code = await self._accepted
        self.is_open = code == 0
        return code

    async def publish(self, message: bytes, topic: str) -> None:
        if self._packet_limit and packet_length(message, topic) > self._packet_limit:
            raise PayloadTooLarge(f"the message is longer than {BROKER} allows")
        result = self._client.publish(topic, message, qos=1)
        self._publishing[result.mid] = len(message)
        try:
            code = (await self._answer(result.rc, result.mid))[0]
        finally:
            del self._publishing[result.mid]
        if code >= 0x80:
            raise _refusal(code, f"publish on the topic {topic!r}")

    async def subscribe(self, topic: str, inbox: Inbox) -> None:
        from paho.mqtt.subscribeoptions import SubscribeOptions

        self._inboxes.setdefault(topic, set()).add(inbox)
        try:
            options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
            result, number = self._client.subscribe(topic, options=options)
            code = (await self._answer(result, number))[0]
            if code >= 0x80:
                raise _refusal(code, f"subscribe to the topic {topic!r}")
        except BaseException:
            self._forget(topic, inbox)
            raise

    async def unsubscribe(self, topic: str, inbox: Inbox) -> None:
        if self._forget(topic, inbox):
            await self._answer(*self._client.unsubscribe(topic))

    def _forget(self, topic: str, inbox: Inbox) -> bool:
        """Whether it was the last inbox of the topic."""
        inboxes = self._inboxes.get(topic, set())
        inboxes.discard(inbox)
        if not inboxes:
            self._inboxes.pop(topic, None)
        return not inboxes

    async def close(self) -> None:
        self.is_open = False
        if self._checking is not None:
            self._checking.cancel()
        self._client.disconnect()
        with suppress(OSError):
            self._client.loop_write()
        self._end()

    async def _answer(self, result: int, number: int | None) -> list[int]:
        """The reason codes with which the broker answers a packet."""
        if result != 0 or number is None or not self.is_open:
            raise ConnectionLost(f"the connection to {BROKER} broke")
        answer: asyncio.Future[list[int]] = self._loop.create_future()
        self._answers[number] = answer
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await answer
        except TimeoutError:
            text = f"{BROKER} didn't answer in time, so it isn't known whether it took this over"
            raise Unavailable(text) from None
        finally:
            self._answers.pop(number, None)

    async def _check(self) -> None:
        """Lets the library send its pings, and give up a connection on which nothing answers them."""
        while self._client.loop_misc() == 0:  # noqa: ASYNC110  # the library has no event for it
            await asyncio.sleep(1)
        self._end()

    def _end(self) -> None:
        """Lets go of all that waits. Does nothing the second time."""
        if self.is_open:
            self.is_open = False
            self._lost(self)
        if not self._accepted.done():
            self._accepted.set_exception(ConnectionResetError())
            self._accepted.exception()  # nobody may wait for it
        for answer in self._answers.values():
            if not answer.done():
                text = f"the connection to {BROKER} broke, so it isn't known whether it took this over"
                answer.set_exception(ConnectionLost(text))
        sock: Any = self._client.socket()
        if sock is not None:
            self._on_socket_close(self._client, None, sock)
            sock.close()

    # What the library calls.

    def _on_connect(
        self, client: mqtt.Client, data: Any, flags: Any, code: ReasonCode, properties: Properties | None
    ) -> None:
        self._packet_limit = getattr(properties, "MaximumPacketSize", 0)
        if not self._accepted.done():
            self._accepted.set_result(code.value)

    def _on_disconnect(
        self, client: mqtt.Client, data: Any, flags: Any, code: ReasonCode, properties: Properties | None
    ) -> None:
        # Where only its `message_size_limit` is set, Mosquitto answers a message that is too large with a reason code
        # that MQTT doesn't know there. The library ends the connection for it, and says no more than that.
        if code.value == _PROTOCOL_ERROR and self._publishing:
            answer = self._answers.get(max(self._publishing, key=self._publishing.__getitem__))
            if answer is not None and not answer.done():
                answer.set_exception(PayloadTooLarge(f"the message is longer than {BROKER} allows"))
        self._end()

    def _on_message(self, client: mqtt.Client, data: Any, message: mqtt.MQTTMessage) -> None:
        for inbox in self._inboxes.get(message.topic, ()):
            inbox.put(bytes(message.payload))

    def _on_publish(
        self, client: mqtt.Client, data: Any, number: int, code: ReasonCode, properties: Properties | None
    ) -> None:
        self._on_answer(client, data, number, [code], properties)

    def _on_answer(
        self, client: mqtt.Client, data: Any, number: int, codes: list[ReasonCode], properties: Properties | None
    ) -> None:
        answer = self._answers.get(number)
        if answer is not None and not answer.done():
            answer.set_result([code.value for code in codes])

    def _on_socket_open(self, client: mqtt.Client, data: Any, sock: Any) -> None:
        """In the thread that connects, as registering to write may be."""
        self._loop.call_soon_threadsafe(self._watch, self._loop.add_reader, sock, self._read)

    def _on_socket_close(self, client: mqtt.Client, data: Any, sock: Any) -> None:
        with suppress(OSError, ValueError):
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)

    def _on_socket_register_write(self, client: mqtt.Client, data: Any, sock: Any) -> None:
        self._loop.call_soon_threadsafe(self._watch, self._loop.add_writer, sock, self._write)

    def _on_socket_unregister_write(self, client: mqtt.Client, data: Any, sock: Any) -> None:
        with suppress(OSError, ValueError):
            self._loop.remove_writer(sock)

    def _watch(self, add: Callable[..., Any], sock: Any, callback: Callable[[], None]) -> None:
        if sock.fileno() >= 0:  # else it was closed in the meantime
            add(sock, callback)

    def _read(self) -> None:
        sock: Any = self._client.socket()
        try:
            self._client.loop_read()
            # TLS may have decrypted more than was asked for, of which the system's socket knows nothing.
            while hasattr(sock, "pending") and self._is_current(sock) and sock.pending():
                self._client.loop_read()
        except Exception:  # whatever it is, the connection is of no use any more
            self._end()

    def _is_current(self, sock: Any) -> bool:
        return self._client.socket() is sock

    def _write(self) -> None:
        try:
            self._client.loop_write()
        except Exception:  # the same
            self._end()


def packet_length(message: bytes, topic: str) -> int:
    """How long the packet is that publishes a message with QoS 1, in bytes (MQTT 5, section 3.3)."""
    # The topic with its length, the identifier of the packet, the properties' length, which is 0, and the message.
    rest = 2 + len(topic.encode()) + 2 + 1 + len(message)
    length_of_rest = max(1, -(-rest.bit_length() // 7))
    return 1 + length_of_rest + rest


def _refusal(code: int, what: str) -> MessagingError:
    """For a reason code with which the broker says no."""
    if code in _TOO_LARGE:
        return PayloadTooLarge(f"the message is longer than {BROKER} allows")
    if code == _NOT_AUTHORIZED:
        notice = f"mqtt: the broker doesn't permit to {what}; give the user of MOSQUITTO_USERNAME that permission"
        return NotPermitted(f"{BROKER} doesn't permit this topic", notice)
    if code in _TOPIC_INVALID:
        return TopicNotFound(f"{BROKER} doesn't take this name of a topic")
    return DeliveryFailed(f"{BROKER} doesn't take this over (reason code 0x{code:02x})")


def check_topic(topic: str) -> None:
    """Raises TopicNotFound for what can't be the name of one MQTT topic (MQTT 5, sections 1.5.4 and 4.7)."""
    if not topic:
        raise TopicNotFound("a topic of MQTT has at least one character")
    if len(topic.encode(errors="surrogatepass")) > TOPIC_BYTES:
        raise TopicNotFound(f"a topic of MQTT has at most {TOPIC_BYTES} bytes")
    if re.search(r"[+#]", topic):
        raise TopicNotFound("a topic of MQTT has none of + and #, which stand for other topics")
    if re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef]", topic) or any(
        ord(character) & 0xFFFE == 0xFFFE for character in topic
    ):
        raise TopicNotFound("a topic of MQTT has no control characters, and none that Unicode reserves")
    if topic.startswith("$"):
        raise TopicNotFound("the topics of MQTT that start with $ are the broker's own")
