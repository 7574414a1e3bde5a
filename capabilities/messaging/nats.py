"""`messaging.nats`: messages in a NATS server, whose subjects are the topics.

The library reconnects by itself, but sends messages again then of which it isn't known whether they arrived, and says
nothing of those that it missed. So a connection here ends when it breaks, and capabilities/messaging/connected.py
makes another.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from capabilities.errors import ConfigError
from capabilities.messaging import (
    ConnectionLost,
    NotPermitted,
    PayloadTooLarge,
    TopicNotFound,
    Unavailable,
)
from capabilities.messaging.connected import (
    ANSWER_SECONDS,
    CONNECT_SECONDS,
    ConnectedBackend,
    Connection,
    make_tls_context,
    read_error,
)
from capabilities.messaging.inbox import Inbox

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

PUBLIC_ADDRESS = "tls://connect.ngs.global"
"""Where credentials without an address are for: the service that Spiderlightning's `slight` reaches."""

TOPIC_BYTES = 2_048
"""How long a subject may be: a server ends a connection that sends a line of more than 4,096 bytes."""

CLOSE_SECONDS = 0.5
"""How long ending a connection may take."""

BROKER = "the NATS server"


class NatsBackend(ConnectedBackend):
    """Topics in the NATS server at NATS_ADDRESS: `nats://HOST[:PORT]`, or `tls://HOST[:PORT]`."""

    REQUIRED: ClassVar[tuple[str, ...]] = ()
    OPTIONAL: ClassVar[tuple[str, ...]] = (
        "NATS_ADDRESS",
        "NATS_CREDS",
        "NATS_USERNAME",
        "NATS_PASSWORD",
        "NATS_TOKEN",
        "NATS_CA_FILE",
    )

    def __init__(self, configs: Mapping[str, str]) -> None:
        """Raises ConfigError."""
        super().__init__(BROKER)
        self._credentials = _parse_credentials(configs)
        address = configs.get("NATS_ADDRESS") or (PUBLIC_ADDRESS if "user_credentials" in self._credentials else "")
        if not address:
            raise ConfigError("NATS_ADDRESS is missing: give the address of a NATS server", "NATS_ADDRESS")
        self._host, self._port, tls = _parse_address(address)
        self._ca_file = configs.get("NATS_CA_FILE")
        self._tls = tls or self._ca_file is not None
        try:
            import nats  # noqa: F401  # to see whether it is there
        except ImportError:
            text = "messaging.nats needs the Python package nats-py: pip install 'slight-py[nats]'"
            raise ConfigError(text) from None

    def _check_topic(self, topic: str) -> None:
        check_subject(topic)

    def _notice(self, reason: str, mend: str = "start it, or correct NATS_ADDRESS") -> str:
        return f"nats {self._host}:{self._port}: {reason}; {mend}"

    async def _connect(self, lost: Callable[[Connection], None]) -> Connection:
        from nats import errors

        tls = await asyncio.to_thread(make_tls_context, self._ca_file, "NATS_CA_FILE") if self._tls else None
        client = _make_client(self._tls)
        connection = NatsConnection(client, lost)
        url = f"{'tls' if self._tls else 'nats'}://{self._host}:{self._port}"
        try:
            await client.connect(
                url,
                name="slight-py",
                error_cb=connection.note,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=int(CONNECT_SECONDS),
                # Nothing is kept back: what `publish` returns from is on its way, before any `flush` that follows.
                pending_size=1,
                tls=tls,
                tls_hostname=self._host if tls else None,
                skip_subject_validation=True,  # it's done here, and more strictly
                **self._credentials,
            )
        except BaseException as error:
            cause = connection.error if isinstance(error, errors.NoServersError) else error
            await _close(client)
            match cause:
                case PlainServerError():
                    notice = self._notice("it doesn't offer TLS", "correct NATS_ADDRESS (nats:// is without TLS)")
                    raise Unavailable(f"{BROKER} doesn't offer TLS", notice) from None
                case errors.Error() if re.search("authorization|authentication|expired", str(cause).lower()):
                    raise self._refused("correct them in the slightfile") from None
                case OSError() | TimeoutError():
                    raise self._unreachable(cause) from None
                case errors.Error() | EOFError():
                    text = "what answers is not a NATS server, or it ended the connection"
                    raise Unavailable(f"{BROKER} can't be used", self._notice(text)) from None
            raise
        connection.watch()
        return connection


class NatsConnection:
    """A connection to a NATS server."""

    def __init__(self, client: Client, lost: Callable[[Connection], None]) -> None:
        self.is_open = False
        self.error: Exception | None = None
        """What the library reported last."""
        self._client = client
        self._lost = lost
        self._subscriptions: dict[Inbox, Subscription] = {}
        self._ended = asyncio.get_running_loop().create_future()
        self._ending: asyncio.Task[None] | None = None
        self._refused: set[tuple[str, str]] = set()
        """What the server didn't permit, and nobody was told yet: `publish` or `subscription`, and the topic."""

    async def publish(self, message: bytes, topic: str) -> None:
        if len(message) > self._client.max_payload:
            limit = self._client.max_payload
            raise PayloadTooLarge(f"the message is longer than the {limit} bytes that {BROKER} allows")
        await self._exchange(self._client.publish(topic, message), "publish", topic)

    async def subscribe(self, topic: str, inbox: Inbox) -> None:
        async def take(message: Msg) -> None:
            inbox.put(message.data)

        async def subscribe() -> None:
            self._subscriptions[inbox] = await self._client.subscribe(topic, cb=take)

        await self._exchange(subscribe(), "subscription", topic)

    async def unsubscribe(self, topic: str, inbox: Inbox) -> None:
        from nats import errors

        subscription = self._subscriptions.pop(inbox, None)
        if subscription is not None:
            with suppress(errors.Error):
                await subscription.unsubscribe()

    async def close(self) -> None:
        self.is_open = False
        if not self._ended.done():
            self._ended.set_result(None)
        await _close(self._client)
        for subscription in self._subscriptions.values():
            subscription._stop_processing()  # which the library leaves undone where it fails on the way

    async def _exchange(self, sending: Any, kind: str, topic: str) -> None:
        """Sends something and waits until the server has answered a ping sent after it: so it has it, or said no.

        It runs in a task of its own, as the library swallows cancellations in places.
        """
        exchange = asyncio.create_task(self._send(sending))
        exchange.add_done_callback(read_error)
        await asyncio.wait({exchange, self._ended}, timeout=ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not exchange.done() and not self._ended.done():
            self.end()
            raise Unavailable(f"{BROKER} didn't answer in time, so it isn't known whether it took this over")
        # The library leaves an exchange waiting when the connection ends.
        if not exchange.done() or exchange.exception() is not None:
            exchange.cancel()
            raise ConnectionLost(f"the connection to {BROKER} broke, so it isn't known whether it took this over")
        if (kind, topic.lower()) in self._refused:
            self._refused.discard((kind, topic.lower()))
            verb = "publish on" if kind == "publish" else "subscribe to"
            notice = f"nats: the server doesn't permit to {verb} the topic {topic!r}; give the user that permission"
            raise NotPermitted(f"{BROKER} doesn't permit to {verb} this topic", notice)

    async def _send(self, sending: Any) -> None:
        await sending
        await self._client.flush(int(ANSWER_SECONDS))

    async def note(self, error: Exception) -> None:
        """The library calls this for each error that belongs to no call."""
        from nats import errors

        self.error = error
        refused = re.search('permissions violation for (publish|subscription) to "(.*)"', str(error), re.DOTALL)
        if refused:
            self._refused.add((refused[1], refused[2]))
        elif isinstance(error, errors.SlowConsumerError):
            for inbox in self._subscriptions:
                inbox.miss(ConnectionLost("messages are missing: they came faster than they were received"))

    def watch(self) -> None:
        """Notices from now on when the connection ends.

        The library calls nobody where its own end of the connection fails on the way; but then, too, it reads no more.
        """
        reading = self._client._reading_task
        self.is_open = reading is not None and not reading.done()
        if reading is not None:
            reading.add_done_callback(read_error)
            reading.add_done_callback(lambda _: self.end())

    def end(self) -> None:
        """Does nothing the second time."""
        if self.is_open:
            self.is_open = False
            self._lost(self)
            self._ending = asyncio.create_task(self.close())


async def _close(client: Client) -> None:
    """Whatever it fails with, the connection is gone. After a handshake of TLS that failed, it would wait for ever."""
    with suppress(Exception):
        async with asyncio.timeout(CLOSE_SECONDS):
            await client.close()


class PlainServerError(Exception):
    """A server without TLS where TLS is asked for."""


def _make_client(tls: bool) -> Client:
    """The library's client. Where it is to use TLS, it would speak in clear text, and say its credentials, to a server
    that doesn't ask for TLS."""
    from nats.aio.client import Client

    if not tls:
        return Client()

    class TLSClient(Client):
        async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
            if initial_connection and not info.get("tls_required"):
                raise PlainServerError
            await super()._process_info(info, initial_connection)

    return TLSClient()


def check_subject(topic: str) -> None:
    """Raises TopicNotFound for what can't be the name of one NATS subject."""
    if len(topic.encode(errors="surrogatepass")) > TOPIC_BYTES:
        raise TopicNotFound(f"a topic of NATS has at most {TOPIC_BYTES} bytes")
    if not all(topic.split(".")):
        raise TopicNotFound("a topic of NATS has no empty part before, between or after its dots")
    if re.search(r"[*>\s\x00-\x20\x7f-\x9f\ud800-\udfff]", topic):
        raise TopicNotFound("a topic of NATS has no space, no control character, and none of * and >")
    if topic.startswith("$"):
        raise TopicNotFound("the topics of NATS that start with $ are the server's own")


def _parse_address(address: str) -> tuple[str, int, bool]:
    """The host, the port, and whether TLS is asked for. Raises ConfigError."""
    try:
        parts = urlsplit(address if "://" in address else f"nats://{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("nats", "tls") or parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigError("NATS_ADDRESS is not an address: give nats://HOST:PORT or tls://HOST:PORT", "NATS_ADDRESS")
    if parts.username is not None or parts.password is not None:
        text = "NATS_ADDRESS has credentials: give NATS_USERNAME and NATS_PASSWORD, or NATS_TOKEN, instead"
        raise ConfigError(text, "NATS_ADDRESS")
    return host, port or 4222, parts.scheme == "tls"


def _parse_credentials(configs: Mapping[str, str]) -> dict[str, Any]:
    """What the library takes as credentials. Raises ConfigError."""
    creds, token = configs.get("NATS_CREDS"), configs.get("NATS_TOKEN")
    user, password = configs.get("NATS_USERNAME"), configs.get("NATS_PASSWORD")
    if (user is None) != (password is None):
        missing = "NATS_PASSWORD" if password is None else "NATS_USERNAME"
        raise ConfigError(f"{missing} is missing: a user and a password belong together", missing)
    if sum(each is not None for each in (creds, token, user)) > 1:
        raise ConfigError("give NATS_CREDS, NATS_TOKEN, or NATS_USERNAME and NATS_PASSWORD, and not several of them")
    if creds is not None:
        if not ("BEGIN NATS USER JWT" in creds and "BEGIN USER NKEY SEED" in creds):
            text = "NATS_CREDS is not what a file of NATS credentials (.creds) holds: give its text, not its path"
            raise ConfigError(text, "NATS_CREDS")
        try:
            import nkeys  # noqa: F401  # to see whether it is there
            from nats.aio.client import RawCredentials
        except ImportError:
            text = "NATS_CREDS needs the Python packages nats-py and nkeys: pip install 'slight-py[nats]'"
            raise ConfigError(text) from None
        return {"user_credentials": RawCredentials(creds.strip() + "\n")}
    if token is not None:
        return {"token": token}
    return {} if user is None else {"user": user, "password": password}
