"""The stores of the native machine beside those of the Linux flavour: the same data in Redis, the same errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from capabilities.keyvalue import KEY_LIMIT, VALUE_LIMIT, StoreError
from capabilities.keyvalue.memory import MemoryStores
from capabilities.keyvalue.redis import RedisBackend
from tests.keyvalue_subjects import KEYS, NAMES, closing
from tests.native_keyvalue import native_stores
from tests.redis_server import RedisServer
from tests.servers import HOST, free_port

PASSWORD = "s3cr3t-pa55"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def guarded_server() -> Iterator[RedisServer]:
    with RedisServer(password=PASSWORD) as server:
        yield server


def linux(address: str) -> Any:
    return closing(RedisBackend({"REDIS_ADDRESS": address}))


def native(address: str) -> Any:
    return native_stores("redis", address)


@pytest.mark.parametrize(("writer", "reader"), [(linux, native), (native, linux)], ids=["linux first", "native first"])
def test_what_one_flavour_writes_the_other_reads(
    server: RedisServer, writer: Callable[[str], Any], reader: Callable[[str], Any]
) -> None:
    server.cli("FLUSHALL")

    async def scenario() -> None:
        async with writer(server.address) as writing, reader(server.address) as reading:
            for name in NAMES:
                written = await writing.open(name)
                for key in KEYS:
                    await written.set(key, f"{name} {key}".encode())
            for name in NAMES:
                read = await reading.open(name)
                assert sorted(await read.keys()) == sorted(KEYS)
                for key in KEYS:
                    assert await read.get(key) == f"{name} {key}".encode()
                    await read.delete(key)
                assert await (await writing.open(name)).keys() == []

    asyncio.run(scenario())


def told(call: Callable[[Any], Awaitable[Any]], backend: Any) -> tuple[str, str, str | None]:
    """The error that a call ends with: its class, its text, and its notice."""

    async def scenario() -> tuple[str, str, str | None]:
        async with backend as stores:
            with pytest.raises(StoreError) as caught:
                await call(await stores.open("store"))
            return type(caught.value).__name__, str(caught.value), caught.value.notice

    return asyncio.run(scenario())


CALLS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "get of no key": lambda store: store.get('it\'s "missing"\n\u200b🦀' + "x" * 100),
    "delete of no key": lambda store: store.delete("missing"),
    "get of a long key": lambda store: store.get("k" * (KEY_LIMIT + 1)),
    "set of a long key": lambda store: store.set("é" * KEY_LIMIT, b""),
    "delete of a long key": lambda store: store.delete("k" * (KEY_LIMIT + 1)),
    "set of a long value": lambda store: store.set("key", bytes(VALUE_LIMIT + 1)),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_both_flavours_refuse_in_the_same_words(server: RedisServer, call: Callable[[Any], Awaitable[Any]]) -> None:
    assert told(call, native_stores("memory")) == told(call, closing(MemoryStores()))
    assert told(call, native(server.address)) == told(call, linux(server.address))


def test_both_flavours_are_full_in_the_same_words() -> None:
    async def fill(store: Any) -> None:
        for number in range(10):
            await store.set(f"{number}", bytes(VALUE_LIMIT))

    assert told(fill, native_stores("memory")) == told(fill, closing(MemoryStores()))


def test_both_flavours_speak_of_redis_in_the_same_words(server: RedisServer, guarded_server: RedisServer) -> None:
    server.cli("FLUSHALL")
    server.cli("LPUSH", "store:list", "item")
    for call, address in (
        (lambda store: store.get("list"), server.address),
        (lambda store: store.get("key"), f"{server.address}/99"),
        (lambda store: store.get("key"), f"redis://:{PASSWORD}@{HOST}:{server.port}"),
        (lambda store: store.get("key"), f"redis://{HOST}:{guarded_server.port}"),
        (lambda store: store.get("key"), f"redis://:{PASSWORD}x@{HOST}:{guarded_server.port}"),
        (lambda store: store.get("key"), f"redis://nobody:{PASSWORD}@{HOST}:{guarded_server.port}"),
        (lambda store: store.delete("key"), f"redis://{HOST}:{free_port()}"),
        (lambda store: store.keys(), f"redis://{HOST}:{free_port()}"),
    ):
        said = told(call, native(address))
        assert said == told(call, linux(address))
        assert PASSWORD not in f"{said}"


def test_a_user_who_may_not_do_something_is_told_so_in_the_same_words(server: RedisServer) -> None:
    server.cli("ACL", "SETUSER", "reader", "on", f">{PASSWORD}", "~store:*", "+get")
    address = f"redis://reader:{PASSWORD}@{HOST}:{server.port}"

    async def change(store: Any) -> None:
        await store.set("key", b"")

    assert told(change, native(address)) == told(change, linux(address))


def test_a_full_redis_is_told_in_the_same_words() -> None:
    async def change(store: Any) -> None:
        await store.set("key", b"value")

    with RedisServer("--maxmemory", "1") as full:
        assert told(change, native(full.address)) == told(change, linux(full.address))


@pytest.mark.parametrize(
    "reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"*x\r\n", b"-LOADING it loads\r\n", b"-odd\r\n"]
)
def test_what_a_server_answers_is_told_in_the_same_words(reply: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(reply)
        await reader.read(1000)
        writer.close()

    async def scenario() -> list[tuple[str, str, str | None]]:
        listener = await asyncio.start_server(answer, HOST, 0)
        address = f"redis://{HOST}:{listener.sockets[0].getsockname()[1]}"
        said = []
        for backend in (native(address), linux(address)):
            async with backend as stores:
                with pytest.raises(StoreError) as caught:
                    await (await stores.open("store")).get("key")
            said.append((type(caught.value).__name__, str(caught.value), caught.value.notice))
        listener.close()
        return said

    one, other = asyncio.run(scenario())
    assert one == other
