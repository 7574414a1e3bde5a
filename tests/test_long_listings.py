"""A guest that lists many keys: it gets them all, and holds up nobody else."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from capabilities.bindings.http_types import Response
from capabilities.keyvalue.filesystem import FilesystemBackend
from capabilities.keyvalue.memory import MemoryStores, RemoteMemoryStores, serve
from capabilities.keyvalue.redis import RedisBackend
from slight_py.engine import Limits
from tests import wat
from tests.redis_server import RedisServer

KEYS = 200_000

TURN = 0.06
"""Seconds of the processor that a turn of the event loop may take: a few are usual, and several times as many where
other work keeps both cores and their caches busy. To list all keys at once takes ten times as long."""

ANSWER, HEAD, KEYS_AT = 128, 160, 132

LISTS = wat.module(
    wat.data(64, "store"),
    wat.data(HEAD, wat.response(body=(0, 0))),
    wat.handler(
        wat.call("$open", 64, 5, 100)
        + wat.call("$keys", wat.load(104), ANSWER)
        # The body of the answer is the list as it is in memory: a pointer and a length for each key.
        + f"(i32.store (i32.const {HEAD + wat.BODY_AT}) {wat.load(KEYS_AT)})"
        + f"(i32.store (i32.const {HEAD + wat.BODY_AT + 4}) (i32.mul {wat.load(KEYS_AT + 4)} (i32.const 8)))"
        + f"(i32.const {HEAD})"
    ),
    imports=wat.KEYVALUE,
)
"""Lists the keys of `store`."""

LIMITS = Limits(memory=256 << 20, instances=4)


@asynccontextmanager
async def many_in_memory(redis: RedisServer, tmp_path: Path) -> AsyncIterator[Any]:
    yield full()


@asynccontextmanager
async def many_in_the_main_process(redis: RedisServer, tmp_path: Path) -> AsyncIterator[Any]:
    here, there = socket.socketpair()
    serving = asyncio.create_task(serve(full(), here))
    remote = RemoteMemoryStores(there)
    yield remote
    await remote.close()
    await serving


@asynccontextmanager
async def many_in_redis(redis: RedisServer, tmp_path: Path) -> AsyncIterator[Any]:
    redis.cli("FLUSHALL")
    redis.cli("EVAL", f"for n = 1, {KEYS} do redis.call('SET', 'store:key ' .. n, '') end", "0")
    backend = RedisBackend({"REDIS_ADDRESS": redis.address})
    yield backend
    await backend.close()


@asynccontextmanager
async def many_in_files(redis: RedisServer, tmp_path: Path) -> AsyncIterator[Any]:
    backend = FilesystemBackend({"DIRECTORY": str(tmp_path)})
    store = await backend.open("store")
    await store.set("key", b"")
    for number in range(KEYS // 40):
        (tmp_path / "store" / f"key{number}").touch()
    yield backend


def full() -> MemoryStores:
    stores = MemoryStores()
    for number in range(KEYS):
        stores.set(b"store", f"key {number}".encode(), b"")
    return stores


async def longest_turn() -> float:
    """How long others hold the event loop at most, until this is cancelled: in seconds of the processor."""
    longest = 0.0
    last = time.thread_time()
    try:
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            longest = max(longest, now - last)
            last = now
    except asyncio.CancelledError:
        return longest


@pytest.mark.parametrize("kept", [many_in_memory, many_in_the_main_process, many_in_redis, many_in_files])
def test_a_guest_that_lists_many_keys_holds_up_nobody(kept: Any, shared_redis: RedisServer, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with kept(shared_redis, tmp_path) as backend:
            guests = wat.handlers(LISTS, LIMITS, stores=backend)
            await wat.ask(guests, "handle-hello")
            probe = asyncio.create_task(longest_turn())
            await asyncio.sleep(0)
            answer: Response = await wat.ask(guests)
            await asyncio.sleep(0.1)  # what was listed is let go of meanwhile
            probe.cancel()
            assert len(answer.body or b"") // 8 >= KEYS // 40
            assert await probe < TURN

    # Collecting the garbage of all the tests takes longer than a turn may.
    gc.collect()
    gc.freeze()
    try:
        wat.run(scenario(), 60)
    finally:
        gc.unfreeze()


def test_a_list_that_the_host_keeps_stays_as_it_is() -> None:
    kept = [f"key {number}" for number in range(20_000)]

    class Keeps:
        REQUIRED = OPTIONAL = ()

        async def open(self, name: str) -> Any:
            return self

        async def keys(self) -> list[str]:
            return kept

        async def close(self) -> None:
            pass

    async def scenario() -> None:
        stores: Any = Keeps()
        answer = await wat.ask(wat.handlers(LISTS, LIMITS, stores=stores))
        assert len(answer.body or b"") == 8 * 20_000
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(kept) == 20_000
        assert sys.getrefcount(kept) < 5

    wat.run(scenario())
