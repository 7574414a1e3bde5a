"""`keyvalue.memory`: stores that live as long as one `run`, and that all its workers share.

The parent process holds `MemoryStores`. A worker process has `RemoteMemoryStores` instead, which asks the parent over
an AF_UNIX stream socket that the worker inherited, so nobody else can connect; `serve` answers it there.

A request is a header (operation, lengths of name, key and value), then the three; an answer is a header (status,
length), then that many bytes. Answers come in the order of the requests, of which any number may be under way. Both
ends run on one machine: integers are in its own byte order.

Keys are listed in pages, since a million at once would hold up both ends. The first answer to KEYS has a number, by
which the parent knows the rest of the listing, and 0 where there is none; KEYS with that number as its value asks for
the next page, FORGET with it ends the listing.

INCREMENT has the number to add as its value, and is answered with the sum. The value of SWAP is the version (its length
in a byte, its text) with the new value behind it, and the answer is empty where the version is another by now.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from array import array
from collections import deque
from enum import IntEnum
from struct import Struct
from typing import ClassVar, Final, cast

from capabilities.keyvalue import (
    KEY_LIMIT,
    LISTING_KEY_BYTES,
    LISTING_LIMIT,
    VALUE_LIMIT,
    AuthenticationFailed,
    ConnectionFailed,
    InvalidKey,
    InvalidValue,
    IoFailed,
    KeyNotFound,
    StoreError,
    TimedOut,
    add,
    check_value,
    encode,
    key_not_found,
    too_many_keys,
    version_of,
)

ENTRY_BYTES = 192
"""What an entry takes beside its key and value: two objects and a place in a dict, measured with CPython 3.11."""

STORE_BYTES = 320
"""What a store takes beside its name and entries."""

DECODE_BATCH = 10_000
"""How many keys are decoded before the event loop gets its turn: about a millisecond's worth."""


class _Entries(dict[bytes, bytes]):
    """The keys and values of one store."""

    __slots__ = ("key_bytes",)

    key_bytes: int
    """What all keys take together."""

    def __init__(self) -> None:
        self.key_bytes = 0


class MemoryStores:
    """The stores themselves, bounded to `limit_bytes` in all.

    A key and its value count for their bytes and ENTRY_BYTES, a store that has any for its name and STORE_BYTES.
    """

    REQUIRED: ClassVar[tuple[str, ...]] = ()
    OPTIONAL: ClassVar[tuple[str, ...]] = ()

    __slots__ = ("_limit_bytes", "_stores", "used_bytes")

    def __init__(self, limit_bytes: int = 256 * 1024 * 1024) -> None:
        self._limit_bytes = limit_bytes
        self._stores: dict[bytes, _Entries] = {}
        self.used_bytes = 0

    async def open(self, name: str) -> MemoryStore:
        """Raises InvalidKey for a name past KEY_LIMIT."""
        return MemoryStore(self, encode(name))

    async def close(self) -> None:
        self._stores.clear()
        self.used_bytes = 0

    def get(self, name: bytes, key: bytes) -> bytes:
        value = self._value(name, key)
        if value is None:
            raise key_not_found(key.decode())
        return value

    def set(self, name: bytes, key: bytes, value: bytes) -> None:
        """Raises StoreError, and changes nothing, where the limit leaves no room."""
        store = self._stores.get(name)
        old = None if store is None else store.get(key)
        growth = len(value)
        growth += len(key) + ENTRY_BYTES if old is None else -len(old)
        if store is None:
            growth += len(name) + STORE_BYTES
        if growth > 0 and self.used_bytes + growth > self._limit_bytes:
            text = f"the stores in memory are full: they may take {self._limit_bytes} bytes in all"
            raise StoreError(text, f"keyvalue.memory: {text}; delete what isn't needed, or use another resource type")
        if store is None:
            store = self._stores[name] = _Entries()
        if old is None:
            store.key_bytes += len(key)
        store[key] = value
        self.used_bytes += growth

    def exists(self, name: bytes, key: bytes) -> bool:
        return self._value(name, key) is not None

    def increment(self, name: bytes, key: bytes, delta: int) -> int:
        number = add(self._value(name, key), delta)
        self.set(name, key, b"%d" % number)
        return number

    def swap(self, name: bytes, key: bytes, version: str, value: bytes) -> bool:
        if version_of(self._value(name, key)) != version:
            return False
        self.set(name, key, value)
        return True

    def _value(self, name: bytes, key: bytes) -> bytes | None:
        store = self._stores.get(name)
        return None if store is None else store.get(key)

    def keys(self, name: bytes) -> list[bytes]:
        store = self._stores.get(name)
        if store is None:
            return []
        if store.key_bytes + LISTING_KEY_BYTES * len(store) > LISTING_LIMIT:
            raise too_many_keys()
        return list(store)

    def delete(self, name: bytes, key: bytes) -> None:
        store = self._stores.get(name)
        value = None if store is None else store.pop(key, None)
        if store is None or value is None:
            raise key_not_found(key.decode())
        store.key_bytes -= len(key)
        self.used_bytes -= len(key) + len(value) + ENTRY_BYTES
        if not store:
            del self._stores[name]
            self.used_bytes -= len(name) + STORE_BYTES


class MemoryStore:
    """One store in this process. But for `keys`, no method suspends."""

    __slots__ = ("_name", "_stores")

    def __init__(self, stores: MemoryStores, name: bytes) -> None:
        self._stores = stores
        self._name = name

    async def get(self, key: str) -> bytes:
        return self._stores.get(self._name, encode(key))

    async def set(self, key: str, value: bytes) -> None:
        check_value(value)
        self._stores.set(self._name, encode(key), value)

    async def keys(self) -> list[str]:
        return await _decode_all(self._stores.keys(self._name))

    async def delete(self, key: str) -> None:
        self._stores.delete(self._name, encode(key))

    async def exists(self, key: str) -> bool:
        return self._stores.exists(self._name, encode(key))

    async def increment(self, key: str, delta: int) -> int:
        return self._stores.increment(self._name, encode(key), delta)

    async def read(self, key: str) -> tuple[bytes | None, str]:
        return await _read(self, key)

    async def swap(self, key: str, version: str, value: bytes) -> bool:
        check_value(value)
        return self._stores.swap(self._name, encode(key), version, value)


async def _read(store: MemoryStore | RemoteMemoryStore, key: str) -> tuple[bytes | None, str]:
    try:
        value = await store.get(key)
    except KeyNotFound:
        return None, version_of(None)
    return value, version_of(value)


async def _decode_all(keys: list[bytes]) -> list[str]:
    """Empties the list as it goes: to let go of all at once takes a while."""
    decoded: list[str] = []
    while keys:
        decoded.extend(map(bytes.decode, keys[-DECODE_BATCH:]))
        del keys[-DECODE_BATCH:]
        if keys:
            await asyncio.sleep(0)
    return decoded


# What goes over the socket.


class _Operation(IntEnum):
    GET = 0
    SET = 1
    KEYS = 2
    DELETE = 3
    FORGET = 4
    INCREMENT = 5
    SWAP = 6


_REQUEST = Struct("=BIII")
"""Operation; lengths of name, key and value."""

_ANSWER = Struct("=BI")
"""Status; length of what follows: the value, the listing, or the error's text."""

_OK: Final = 0
_ERRORS: Final[tuple[type[StoreError], ...]] = (
    *(KeyNotFound, InvalidKey, InvalidValue, ConnectionFailed, AuthenticationFailed, TimedOut, IoFailed, StoreError),
)
"""Status 1 and up: the classes of errors."""

_COUNT = Struct("=I")
_NUMBER = Struct("=q")
_SWAPPED: Final = b"\1"
_VERSION_LIMIT = 255
_ANY_LENGTH: Final = range(VALUE_LIMIT + 1)
_LENGTHS: Final[dict[int, range]] = {
    _Operation.INCREMENT: range(_NUMBER.size, _NUMBER.size + 1),
    _Operation.SWAP: range(1, 1 + _VERSION_LIMIT + VALUE_LIMIT + 1),
}
"""How long the value of a request may be, where that is not what a value may have."""
_ANSWER_LIMIT = max(VALUE_LIMIT, LISTING_LIMIT + _COUNT.size)
_WRITE_BATCH = 64 * 1024
"""Short answers are gathered up to this many bytes: a system call each would cost more than the answers."""

PAGE_KEYS = 10_000
"""How many keys are listed in one page, at most: some milliseconds' worth."""

PAGE_BYTES = 1024 * 1024
"""How much their bytes may be, if all are of average length."""

LISTINGS = 4
"""How many listings a worker has under way, at most. Further ones wait."""


def _pack_keys(keys: list[bytes]) -> bytes:
    """The number of keys, their lengths, and their bytes on end."""
    return _COUNT.pack(len(keys)) + array("I", map(len, keys)).tobytes() + b"".join(keys)


def _pack_error(error: StoreError) -> bytes:
    """The text for the guest and, behind a NUL, the notice, where there is one. No text of this module has a NUL."""
    return "\0".join(filter(None, (str(error), error.notice))).encode()


def _unpack_error(status: int, data: bytes) -> StoreError:
    text, _, notice = data.decode().partition("\0")
    return _ERRORS[status - 1](text, notice or None)


def _unpack_keys(listing: bytes) -> list[bytes]:
    (count,) = _COUNT.unpack_from(listing)
    start = _COUNT.size * (1 + count)
    keys = []
    for length in array("I", listing[_COUNT.size : start]):
        keys.append(listing[start : start + length])
        start += length
    return keys


def _pack_swap(version: str, value: bytes) -> bytes:
    return b"".join((bytes((len(version),)), version.encode(), value))


def _unpack_swap(packed: bytes) -> tuple[str, bytes]:
    end = 1 + packed[0]
    return packed[1:end].decode(errors="replace"), packed[end:]


# The parent's end.


async def serve(stores: MemoryStores, sock: socket.socket) -> None:
    """Answers the worker at the other end of `sock` until it is gone, and takes care of closing `sock`."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_unix_connection(lambda: _Server(stores), sock=sock)
    try:
        await server.closed
    finally:
        transport.abort()


class _Server(asyncio.Protocol):
    """One worker's requests. A worker that breaks the protocol is cut off; one that reads no answers is not read."""

    def __init__(self, stores: MemoryStores) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stores = stores
        self._received = bytearray()
        self._listings: dict[int, list[bytes]] = {}
        """What is left to list, by the listings' numbers."""
        self._numbers = itertools.count(1)
        self._paused = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        self._paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        self._answer_received()
        if not self._paused:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._answer_received()

    def _answer_received(self) -> None:
        """Answers the requests that have arrived whole, until the worker must read first."""
        answers: list[bytes] = []
        gathered = 0
        while not self._paused and (request := self._next_request()) is not None:
            status, data = self._answer(*request)
            answers += (_ANSWER.pack(status, len(data)), data)
            gathered += _ANSWER.size + len(data)
            if gathered >= _WRITE_BATCH:
                self._transport.write(b"".join(answers))
                answers.clear()
                gathered = 0
        if answers:
            self._transport.write(b"".join(answers))

    def _next_request(self) -> tuple[int, bytes, bytes, bytes] | None:
        received = self._received
        if len(received) < _REQUEST.size:
            return None
        operation, name, key, value = _REQUEST.unpack_from(received)
        if (
            operation > max(_Operation)
            or max(name, key) > KEY_LIMIT
            or value not in _LENGTHS.get(operation, _ANY_LENGTH)
        ):
            self._transport.abort()
            return None
        key_at = _REQUEST.size + name
        value_at = key_at + key
        end = value_at + value
        if len(received) < end:
            return None
        with memoryview(received) as view:
            request = (
                operation,
                view[_REQUEST.size : key_at].tobytes(),
                view[key_at:value_at].tobytes(),
                view[value_at:end].tobytes(),
            )
        del received[:end]
        try:
            request[2].decode()
        except UnicodeDecodeError:
            self._transport.abort()
            return None
        return request

    def _answer(self, operation: int, name: bytes, key: bytes, value: bytes) -> tuple[int, bytes]:
        try:
            match operation:
                case _Operation.GET:
                    return _OK, self._stores.get(name, key)
                case _Operation.SET:
                    self._stores.set(name, key, value)
                case _Operation.KEYS:
                    return _OK, self._next_page(name, value)
                case _Operation.FORGET:
                    self._listings.pop(_number(value), None)
                case _Operation.DELETE:
                    self._stores.delete(name, key)
                case _Operation.INCREMENT:
                    return _OK, _NUMBER.pack(self._stores.increment(name, key, *_NUMBER.unpack(value)))
                case _Operation.SWAP:
                    version, value = _unpack_swap(value)
                    return _OK, _SWAPPED if self._stores.swap(name, key, version, value) else b""
        except StoreError as error:
            return 1 + _ERRORS.index(type(error)), _pack_error(error)
        return _OK, b""

    def _next_page(self, name: bytes, value: bytes) -> bytes:
        number = _number(value)
        keys = self._listings.pop(number, []) if number else self._stores.keys(name)
        average = sum(map(len, keys[-100:])) // 100 + 1
        count = min(PAGE_KEYS, PAGE_BYTES // average + 1)
        page = keys[-count:]
        del keys[-count:]
        number = 0
        if keys and len(self._listings) < LISTINGS:
            number = next(self._numbers)
            self._listings[number] = keys
        elif keys:
            raise StoreError("too many listings are under way")
        return _COUNT.pack(number) + _pack_keys(page)


def _number(value: bytes) -> int:
    """Which listing is meant; 0 for a new one."""
    return _COUNT.unpack(value)[0] if len(value) == _COUNT.size else 0


# A worker's end.


class RemoteMemoryStores:
    """The parent's stores, from a worker. Where the parent is gone, every call raises ConnectionFailed."""

    REQUIRED: ClassVar[tuple[str, ...]] = ()
    OPTIONAL: ClassVar[tuple[str, ...]] = ()

    __slots__ = ("_connecting", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._connecting: asyncio.Task[_Client] | None = None

    async def open(self, name: str) -> RemoteMemoryStore:
        """Raises InvalidKey for a name past KEY_LIMIT."""
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
        client = await asyncio.shield(self._connecting)
        return RemoteMemoryStore(client, encode(name))

    async def close(self) -> None:
        if self._connecting is None:
            self._sock.close()
        else:
            (await self._connecting).close()

    async def _connect(self) -> _Client:
        loop = asyncio.get_running_loop()
        _, client = await loop.create_unix_connection(_Client, sock=self._sock)
        return client


class RemoteMemoryStore:
    """One store of the parent's."""

    __slots__ = ("_client", "_name")

    def __init__(self, client: _Client, name: bytes) -> None:
        self._client = client
        self._name = name

    async def get(self, key: str) -> bytes:
        return await self._client.ask(_Operation.GET, self._name, encode(key))

    async def set(self, key: str, value: bytes) -> None:
        check_value(value)
        await self._client.ask(_Operation.SET, self._name, encode(key), value)

    async def keys(self) -> list[str]:
        keys: list[str] = []
        number = b""
        async with self._client.listings:
            try:
                while True:
                    page = await self._client.ask(_Operation.KEYS, self._name, b"", number)
                    number = page[: _COUNT.size]
                    keys += await _decode_all(_unpack_keys(page[_COUNT.size :]))
                    if not any(number):
                        return keys
            finally:
                if any(number):
                    self._client.forget(number)

    async def delete(self, key: str) -> None:
        await self._client.ask(_Operation.DELETE, self._name, encode(key))

    async def increment(self, key: str, delta: int) -> int:
        answer = await self._client.ask(_Operation.INCREMENT, self._name, encode(key), _NUMBER.pack(delta))
        return int(_NUMBER.unpack(answer)[0])

    async def read(self, key: str) -> tuple[bytes | None, str]:
        return await _read(self, key)

    async def swap(self, key: str, version: str, value: bytes) -> bool:
        check_value(value)
        packed = _pack_swap(version, value)
        return await self._client.ask(_Operation.SWAP, self._name, encode(key), packed) == _SWAPPED


class _Client(asyncio.Protocol):
    """Requests under way, in the order in which their answers come."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[tuple[int, bytes]]] = deque()
        self._received = bytearray()
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost = False
        self._transport: asyncio.Transport
        self.listings = asyncio.Semaphore(LISTINGS)

    async def ask(self, operation: _Operation, name: bytes, key: bytes = b"", value: bytes = b"") -> bytes:
        while not self._writable.is_set():
            await self._writable.wait()
        if self._lost:
            raise _parent_gone()
        status, data = await self._send(operation, name, key, value)
        if status != _OK:
            raise _unpack_error(status, data)
        return data

    def _send(self, operation: _Operation, name: bytes, key: bytes, value: bytes) -> asyncio.Future[tuple[int, bytes]]:
        answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        header = _REQUEST.pack(operation, len(name), len(key), len(value))
        self._transport.write(b"".join((header, name, key, value)))
        return answer

    def forget(self, number: bytes) -> None:
        """Ends a listing. Nobody waits for the answer."""
        if not self._lost:
            self._send(_Operation.FORGET, b"", b"", number).cancel()

    def close(self) -> None:
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._writable.set()
        while self._waiting:
            answer = self._waiting.popleft()
            if not answer.done():
                answer.set_exception(_parent_gone())

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        start = 0
        while len(received) - start >= _ANSWER.size:
            status, length = _ANSWER.unpack_from(received, start)
            if status > len(_ERRORS) or length > _ANSWER_LIMIT or not self._waiting:
                self._transport.abort()
                return
            end = start + _ANSWER.size + length
            if len(received) < end:
                break
            answer = self._waiting.popleft()
            # A caller that was cancelled has no more use for its answer.
            if not answer.done():
                answer.set_result((status, bytes(received[start + _ANSWER.size : end])))
            start = end
        del received[:start]


def _parent_gone() -> ConnectionFailed:
    return ConnectionFailed("the process that holds the stores in memory is gone")
