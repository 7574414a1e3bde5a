"""`keyvalue.redis`: stores in a Redis, under the keys `NAME:KEY`.

A `:` or `%` in a store's name is percent-encoded, so that the first `:` always ends the name: else the store `a` could
reach the data of a store `a:b` by keys that start with `b:`.

The connections are redis-py's. Its client is not used: it retries all commands alike, and a DEL that is sent again may
find its own work done.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha1
from os import strerror
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit

from capabilities.errors import ConfigError
from capabilities.keyvalue import (
    LISTING_KEY_BYTES,
    LISTING_LIMIT,
    AuthenticationFailed,
    ConnectionFailed,
    InvalidValue,
    StoreError,
    TimedOut,
    check_value,
    encode,
    key_not_found,
    too_many_keys,
)

if TYPE_CHECKING:
    from redis.asyncio.connection import ConnectionPool

MAX_CONNECTIONS = 64
"""A backend's connections, at most. Calls beyond that wait for one."""

CONNECT_SECONDS = 3.0
"""How long making a connection may take."""

COMMAND_SECONDS = 10.0
"""How long a command may take, with the wait for a connection and the making of one."""

BATCH_COMMANDS = 64
"""How many commands go to Redis in one piece, at most."""

BATCH_BYTES = 256 * 1024
"""How much they may carry together: what is larger goes alone, and holds up nobody else's answer."""

SCAN_COUNT = 1_000
"""How many of Redis's keys one SCAN looks at."""

SWAP = b"""
local value = redis.call('GET', KEYS[1])
if ARGV[1] ~= (value and redis.sha1hex(value) or '') then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""
"""A script of Redis, which runs whole before any other command: KEYS[1] becomes ARGV[2], if its value is still the one
whose SHA-1 is ARGV[1]."""

SETS = 256
"""How many sets the keys of a listing are in."""

_SCHEMES = ("redis", "rediss", "unix")
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


class RedisBackend:
    """Stores in the Redis at REDIS_ADDRESS.

    The address is `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`, the same with `rediss` for TLS, or
    `unix://[[USER]:PASSWORD@]/PATH[?db=DATABASE]`.
    """

    REQUIRED: ClassVar[tuple[str, ...]] = ("REDIS_ADDRESS",)
    OPTIONAL: ClassVar[tuple[str, ...]] = ()

    __slots__ = ("_address", "_batches", "_opening", "_pool", "_turns", "_waiting")

    def __init__(self, configs: Mapping[str, str]) -> None:
        """Raises ConfigError."""
        address = configs.get("REDIS_ADDRESS")
        if not address:
            raise ConfigError("REDIS_ADDRESS is missing: give the address of a Redis", "REDIS_ADDRESS")
        try:
            import redis.asyncio  # noqa: F401  # to see whether it is there
        except ImportError:
            text = "keyvalue.redis needs the Python package redis: pip install 'slight-py[redis]'"
            raise ConfigError(text) from None
        self._address = parse_address(address)
        self._pool: ConnectionPool | None = None
        self._opening: asyncio.Task[ConnectionPool] | None = None
        self._turns = asyncio.Semaphore(MAX_CONNECTIONS)
        self._waiting: list[_Call] = []
        """The commands of this turn of the event loop. They go out together at its end."""
        self._batches: set[asyncio.Task[None]] = set()

    async def open(self, name: str) -> RedisStore:
        """Raises InvalidKey for a name past KEY_LIMIT."""
        return RedisStore(self, key_prefix(name))

    async def close(self) -> None:
        """A connection that doesn't end in time is given up."""
        from redis.exceptions import RedisError

        for batch in self._batches:
            batch.cancel()
        if self._pool is not None:
            with suppress(RedisError):
                await self._pool.aclose()

    async def run(self, *command: str | bytes, repeatable: bool) -> Any:
        """Redis's answer to a command. Raises StoreError.

        A connection that broke unnoticed is replaced, and a `repeatable` command is then sent a second time.
        """
        loop = asyncio.get_running_loop()
        call = _Call(command, repeatable, loop.create_future())
        if not self._waiting:
            loop.call_soon(self._send)
        self._waiting.append(call)
        try:
            return await call.answer
        except Exception as error:
            raise _mapped(error, self._address.place) from None

    def _send(self) -> None:
        """Sends what waits: guests that ask in the same turn of the event loop share a connection and a packet."""
        waiting, self._waiting = self._waiting, []
        for calls in _batches(waiting):
            # A task of its own, as a guest that is cancelled must not take the others' answers with it.
            batch = asyncio.create_task(self._run_batch(calls))
            self._batches.add(batch)
            batch.add_done_callback(self._batches.discard)

    async def _run_batch(self, calls: list[_Call]) -> None:
        """Gives every one of the calls its answer or its error."""
        try:
            async with asyncio.timeout(COMMAND_SECONDS), self._turns:
                pool = self._pool or await self._open_pool()
                try:
                    await _exchange(pool, calls)
                except Exception as error:
                    if not _is_broken_connection(error):
                        raise
                    _fail([call for call in calls if not call.repeatable], error)
                await _exchange(pool, calls)
        except Exception as error:
            _fail(calls, error)

    async def _open_pool(self) -> ConnectionPool:
        """The pool, made by whoever comes first. A caller that is cancelled leaves the others theirs."""
        if self._opening is None or (self._opening.done() and self._pool is None):
            self._opening = asyncio.create_task(_make_pool(self._address))
        self._pool = await asyncio.shield(self._opening)
        return self._pool


class RedisStore:
    """One store: the keys of Redis that start with its prefix."""

    __slots__ = ("_prefix", "_redis")

    def __init__(self, redis: RedisBackend, prefix: bytes) -> None:
        self._redis = redis
        self._prefix = prefix

    async def get(self, key: str) -> bytes:
        value: bytes | None = await self._redis.run("GET", self._prefix + encode(key), repeatable=True)
        if value is None:
            raise key_not_found(key)
        return value

    async def set(self, key: str, value: bytes) -> None:
        check_value(value)
        await self._redis.run("SET", self._prefix + encode(key), value, repeatable=True)

    async def keys(self) -> list[str]:
        """Those that aren't UTF-8, which others may have put there, are left out: a guest has no name for them."""
        pattern = re.sub(rb"([\\*?\[\]])", rb"\\\1", self._prefix) + b"*"
        cursor = b"0"
        # SCAN may return a key more than once. One set would take a while to grow: hence many.
        seen: list[set[str]] = [set() for _ in range(SETS)]
        found: list[str] = []
        size = 0
        while True:
            command = ("SCAN", cursor, "MATCH", pattern, "COUNT", str(SCAN_COUNT))
            cursor, batch = await self._redis.run(*command, repeatable=True)
            for key in _decoded(batch, len(self._prefix)):
                same = seen[hash(key) % SETS]
                if key not in same:
                    same.add(key)
                    found.append(key)
            size += sum(map(len, batch)) + LISTING_KEY_BYTES * len(batch)
            if size > LISTING_LIMIT:
                raise too_many_keys()
            if cursor == b"0":
                await _clear(seen)
                return found

    async def delete(self, key: str) -> None:
        """Not repeatable: the second DEL would not find what the first one removed."""
        if not await self._redis.run("DEL", self._prefix + encode(key), repeatable=False):
            raise key_not_found(key)

    async def exists(self, key: str) -> bool:
        return bool(await self._redis.run("EXISTS", self._prefix + encode(key), repeatable=True))

    async def increment(self, key: str, delta: int) -> int:
        """Not repeatable: the second INCRBY would add again."""
        return int(await self._redis.run("INCRBY", self._prefix + encode(key), str(delta), repeatable=False))

    async def read(self, key: str) -> tuple[bytes | None, str]:
        value: bytes | None = await self._redis.run("GET", self._prefix + encode(key), repeatable=True)
        return value, "" if value is None else sha1(value, usedforsecurity=False).hexdigest()

    async def swap(self, key: str, version: str, value: bytes) -> bool:
        """Not repeatable: the second script would find the value of the first."""
        check_value(value)
        command = ("EVAL", SWAP, "1", self._prefix + encode(key), version, value)
        return bool(await self._redis.run(*command, repeatable=False))


async def _clear(sets: list[set[str]]) -> None:
    """Lets go of what a long listing took in pieces."""
    if sum(map(len, sets)) > SCAN_COUNT:
        for some in sets:
            some.clear()
            await asyncio.sleep(0)


def key_prefix(name: str) -> bytes:
    """What the Redis keys of a store start with, and those of no other store."""
    return encode(name).replace(b"%", b"%25").replace(b":", b"%3A") + b":"


def _decoded(keys: list[bytes], prefix_length: int) -> Iterator[str]:
    for key in keys:
        try:
            yield key[prefix_length:].decode()
        except UnicodeDecodeError:
            continue


# The address.


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """Where a Redis is. It holds a password: nothing prints it."""

    host: str | None
    port: int
    path: str | None
    """Of a Unix socket, where there is no host."""
    username: str | None
    password: str | None
    database: int
    tls: Mapping[str, str] | None
    """Files for TLS by the names of _TLS_OPTIONS; None without TLS."""

    @property
    def place(self) -> str:
        """Where it is, without the credentials."""
        if self.path is not None:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in (self.host or "") else f"{self.host}:{self.port}"


def parse_address(address: str) -> Address:
    """Raises ConfigError, which shows nothing of the address: where its parts end is what isn't known then."""
    try:
        parts = urlsplit(address)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        port = parts.port
    except ValueError:
        raise _bad_address("it is not a URL (in a password, '/', '?' and '#' are written %2F, %3F and %23)") from None
    if parts.scheme not in _SCHEMES:
        raise _bad_address("it starts with none of redis://, rediss:// and unix://")
    if parts.fragment:
        raise _bad_address("it has a '#' (in a password, it is written %23)")
    unix = parts.scheme == "unix"
    if unix and (parts.hostname or not parts.path):
        raise _bad_address("a Unix socket is written unix:///PATH")
    if not unix and not parts.hostname:
        raise _bad_address("it has no host")
    known = ("db", *(_TLS_OPTIONS if parts.scheme == "rediss" else ()))
    if not options.keys() <= set(known):
        raise _bad_address(f"the options after its '?' may be {', '.join(known)}")
    return Address(
        host=parts.hostname,
        port=port or 6379,
        path=unquote(parts.path) if unix else None,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        database=_parse_database(options.pop("db", "") or ("" if unix else parts.path.strip("/"))),
        tls=options if parts.scheme == "rediss" else None,
    )


def _parse_database(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()):
        raise _bad_address("its database is not a number")
    return int(text)


def _bad_address(reason: str) -> ConfigError:
    return ConfigError(f"REDIS_ADDRESS is not the address of a Redis: {reason}", "REDIS_ADDRESS")


# Connections.


async def _make_pool(address: Address) -> ConnectionPool:
    """A pool that connects when it is first used. What is read from files for TLS is read once, here."""
    from redis.asyncio.connection import ConnectionPool, SSLConnection, UnixDomainSocketConnection

    settings: dict[str, Any] = {
        "max_connections": MAX_CONNECTIONS,
        "username": address.username,
        "password": address.password,
        "db": address.database,
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": None,  # COMMAND_SECONDS bounds a command as a whole
        "driver_info": None,  # it would cost each connection two more commands
        # With RESP3, redis-py hands out idle connections that Redis has closed as if they were good.
        "protocol": 2,
    }
    if address.path is not None:
        return ConnectionPool(connection_class=UnixDomainSocketConnection, path=address.path, **settings)
    settings |= {"host": await _resolvable(address.host or ""), "port": address.port}
    if address.tls is None:
        return ConnectionPool(**settings)
    context = await asyncio.to_thread(_make_tls_context, address.tls)

    class TLSPool(ConnectionPool):
        def make_connection(self) -> Any:
            """Each connection would load the system's certificates again, for 40 ms on the event loop."""
            connection = super().make_connection()  # type: ignore[no-untyped-call]  # redis-py gives no types here
            connection.ssl_context.context = context
            return connection

    return TLSPool(connection_class=SSLConnection, **settings)


async def _resolvable(host: str) -> str:
    """The host's name, or loopback for a name below `localhost` that this system's resolver doesn't know.

    RFC 6761 section 6.3 says that such names are loopback, but not every resolver keeps to it. In a virtual machine,
    /etc/hosts says that `host.localhost` is the loopback of the machine's host.
    """
    if not host.lower().endswith(".localhost"):
        return host
    try:
        await asyncio.get_running_loop().getaddrinfo(host, None)
    except OSError:
        return "127.0.0.1"
    return host


def _make_tls_context(files: Mapping[str, str]) -> ssl.SSLContext:
    """Raises ConnectionFailed."""
    try:
        context = ssl.create_default_context(cafile=files.get("ssl_ca_certs"))
        if "ssl_certfile" in files:
            context.load_cert_chain(files["ssl_certfile"], files.get("ssl_keyfile"))
    except OSError as error:
        text = "REDIS_ADDRESS names TLS files that can't be used"
        raise ConnectionFailed(text, f"keyvalue.redis: {text}: {error.strerror}") from None
    return context


@dataclass(slots=True, eq=False)
class _Call:
    """A command, and where its answer goes. Whoever waits for it may have gone: the answer is cancelled then."""

    command: tuple[str | bytes, ...]
    repeatable: bool
    answer: asyncio.Future[Any]


def _batches(calls: list[_Call]) -> Iterator[list[_Call]]:
    batch: list[_Call] = []
    size = 0
    for call in calls:
        size += sum(map(len, call.command))
        if batch and (size > BATCH_BYTES or len(batch) == BATCH_COMMANDS):
            yield batch
            batch, size = [], sum(map(len, call.command))
        batch.append(call)
    if batch:
        yield batch


def _fail(calls: list[_Call], error: Exception) -> None:
    for call in calls:
        if not call.answer.done():
            call.answer.set_exception(error)


async def _exchange(pool: ConnectionPool, calls: list[_Call]) -> None:
    """Sends the commands that still have no answer, and receives their answers. Raises what ends the connection."""
    from redis.exceptions import ResponseError

    waiting = [call for call in calls if not call.answer.done()]
    if not waiting:
        return
    connection = await pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py gives no types here
    try:
        await connection.send_packed_command(connection.pack_commands([call.command for call in waiting]))
        for call in waiting:
            try:
                answer = await connection.read_response()
            except ResponseError as error:
                _fail([call], error)
            else:
                if not call.answer.done():
                    call.answer.set_result(answer)
    finally:
        await pool.release(connection)


# Errors. What they say to the guest has no part of the address, or of what Redis says about it.


def _mapped(error: Exception, place: str) -> Exception:
    """What a guest and its user are told of what redis-py and the system raise; an error of ours stays what it is."""
    from redis.exceptions import RedisError

    return _describe(error, place) if isinstance(error, RedisError | OSError | ValueError) else error


def _is_broken_connection(error: Exception) -> bool:
    """Whether it was the connection that failed, rather than Redis that refused."""
    from redis import exceptions as redis

    return type(error) is redis.ConnectionError and not isinstance(error.__cause__, redis.RedisError)


def _describe(error: Exception, place: str) -> StoreError:
    from redis import exceptions as redis

    # Over a Unix socket, redis-py wraps what Redis says to the first commands.
    if type(error) is redis.ConnectionError and isinstance(error.__cause__, redis.RedisError):
        error = error.__cause__
    notice = f"redis {place}: "
    match error:
        case TimeoutError() | redis.TimeoutError():
            notice += "no answer in time; look whether it runs and isn't overloaded, or correct REDIS_ADDRESS"
            return TimedOut("Redis did not answer in time", notice)
        case redis.NoPermissionError():
            notice += "the user may not run this command or use this key; change its ACL, or REDIS_ADDRESS"
            return AuthenticationFailed("Redis refuses the user and password of REDIS_ADDRESS", notice)
        case redis.AuthenticationError() | redis.AuthorizationError():
            notice += "it refuses the user and password; correct REDIS_ADDRESS"
            return AuthenticationFailed("Redis refuses the user and password of REDIS_ADDRESS", notice)
        case redis.BusyLoadingError():
            return ConnectionFailed(
                "Redis can't be used yet: it is loading its data", f"{notice}it is loading its data"
            )
        case redis.ConnectionError() | OSError():
            reason = _reason(error)
            notice += f"{reason[0].lower()}{reason[1:]}; start it, or correct REDIS_ADDRESS in the slightfile"
            return ConnectionFailed(f"Redis can't be reached: {reason}", notice)
        case redis.ResponseError():
            return _describe_answer(error, notice)
    text = "what answers at REDIS_ADDRESS is not a Redis"
    return StoreError(text, f"{notice}what answers is not a Redis; correct REDIS_ADDRESS in the slightfile")


def _reason(error: Exception) -> str:
    """Why there is no connection, by what the system said to redis-py."""
    cause = error if isinstance(error, OSError) else error.__cause__ or error.__context__
    match cause:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {cause.verify_message}"
        case ssl.SSLError():
            return "TLS failed"
        case OSError(errno=int(number)):
            return strerror(number)
    return "the connection broke"


def _describe_answer(error: Exception, notice: str) -> StoreError:
    """For an error that Redis answered with: its first word says which, the rest may quote the command."""
    text = str(error)
    code = getattr(error, "status_code", None) or text.partition(" ")[0]
    if code == "WRONGTYPE":
        notice += "a key of a store holds something other than a string; remove it, or have the module use another key"
        return InvalidValue("Redis holds something other than a value under this key", notice)
    if "not an integer" in text or "would overflow" in text:
        return InvalidValue("the value under the key is no number that fits into 64 bits with a sign, or the sum isn't")
    if "DB index" in text:
        notice += "there is no such database; correct REDIS_ADDRESS in the slightfile"
        return StoreError("REDIS_ADDRESS names a database that Redis doesn't have", notice)
    if not re.fullmatch("[A-Z]{2,20}", code):
        code = "ERR"
    text = f"Redis answered with an error: {code}"
    return StoreError(text, f"{notice}it answers with the error {code}{_MENDS.get(code, '; see its log')}")


_MENDS = {
    "OOM": ": it has no memory left; raise its maxmemory, or remove keys",
    "MISCONF": ": it can't write to its disk; see its log",
    "READONLY": ": it is a replica; give the address of its master in REDIS_ADDRESS",
    "MOVED": ": it is a Redis Cluster, which is not supported",
    "CROSSSLOT": ": it is a Redis Cluster, which is not supported",
}
"""What to do about errors that Redis answers with."""
