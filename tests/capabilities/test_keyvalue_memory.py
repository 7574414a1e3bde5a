"""`keyvalue.memory`: its limit, and the socket between a worker and the parent that holds the stores."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from capabilities.keyvalue import (
    KEY_LIMIT,
    VALUE_LIMIT,
    ConnectionFailed,
    KeyNotFound,
    StoreError,
    memory,
)
from capabilities.keyvalue.memory import ENTRY_BYTES, STORE_BYTES, MemoryStores, RemoteMemoryStores, serve

REQUEST = struct.Struct("=BIII")
GET, SET = 0, 1


async def check_fails(call: Awaitable[Any], case: type[Any]) -> None:
    with pytest.raises(StoreError) as caught:
        await call
    assert type(caught.value) is case


@asynccontextmanager
async def connected(stores: MemoryStores) -> AsyncIterator[RemoteMemoryStores]:
    """A worker's stores, served as a parent does it."""
    parent, worker = socket.socketpair()
    serving = asyncio.create_task(serve(stores, parent))
    remote = RemoteMemoryStores(worker)
    yield remote
    await remote.close()
    await asyncio.wait_for(serving, 5)


# In one process.


def test_get_set_and_delete_answer_without_suspending() -> None:
    async def scenario() -> None:
        stores = MemoryStores()
        store = await stores.open("store")
        await store.set("key", b"value")
        assert await store.get("key") == b"value"
        await store.delete("key")

    with pytest.raises(StopIteration):
        scenario().send(None)


def test_a_set_past_the_limit_is_refused_and_changes_nothing() -> None:
    async def scenario() -> None:
        stores = MemoryStores(limit_bytes=10_000)
        store = await stores.open("store")
        await store.set("key", b"old")
        used = stores.used_bytes
        await check_fails(store.set("key", bytes(10_000)), StoreError)
        await check_fails(store.set("other", bytes(10_000)), StoreError)
        await check_fails((await stores.open("other")).set("key", bytes(9_700)), StoreError)
        assert await store.get("key") == b"old"
        assert await store.keys() == ["key"]
        assert stores.used_bytes == used

    asyncio.run(scenario())


def test_what_is_deleted_or_replaced_makes_room() -> None:
    async def scenario() -> None:
        stores = MemoryStores(limit_bytes=10_000)
        store, other = await stores.open("store"), await stores.open("other")
        for _ in range(10):
            await store.set("key", bytes(9_000))
            await check_fails(other.set("key", bytes(9_000)), StoreError)
            await store.set("key", b"")
            await other.set("key", bytes(8_000))
            await other.delete("key")

    asyncio.run(scenario())


def test_a_full_store_still_takes_a_value_that_is_no_longer_than_the_old() -> None:
    async def scenario() -> None:
        value = b"x" * 1_000
        stores = MemoryStores(limit_bytes=len("s") + STORE_BYTES + len("k") + len(value) + ENTRY_BYTES)
        store = await stores.open("s")
        await store.set("k", value)
        await store.set("k", value[::-1])
        await check_fails(store.set("k", value + b"x"), StoreError)

    asyncio.run(scenario())


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "é"]), st.sampled_from(["", "k", "ключ"]), st.none() | st.binary(max_size=9)
        )
    )
)
def test_used_bytes_are_those_of_the_entries_there_are(operations: list[tuple[str, str, bytes | None]]) -> None:
    """An operation is a store, a key, and the value to set there, or None to delete."""

    async def scenario() -> None:
        stores = MemoryStores()
        entries: dict[tuple[str, str], bytes] = {}
        for name, key, value in operations:
            store = await stores.open(name)
            if value is not None:
                entries[name, key] = value
                await store.set(key, value)
            elif entries.pop((name, key), None) is not None:
                await store.delete(key)
            else:
                await check_fails(store.delete(key), KeyNotFound)
        names = {name for name, _ in entries}
        expected = sum(len(key.encode()) + len(value) + ENTRY_BYTES for (_, key), value in entries.items())
        expected += sum(len(name.encode()) + STORE_BYTES for name in names)
        assert stores.used_bytes == expected

    asyncio.run(scenario())


def test_many_small_entries_take_no_more_memory_than_the_limit() -> None:
    async def scenario() -> None:
        store = await MemoryStores(limit_bytes=2_000_000).open("store")
        for number in range(1_000_000):
            await store.set(f"{number:x}", bytes([number & 255, 0]))

    tracemalloc.start()
    try:
        with pytest.raises(StoreError):
            asyncio.run(scenario())
        assert tracemalloc.get_traced_memory()[1] < 2_500_000
    finally:
        tracemalloc.stop()


def test_stores_that_are_only_opened_and_read_take_no_room() -> None:
    async def scenario() -> None:
        stores = MemoryStores(limit_bytes=0)
        before, _ = tracemalloc.get_traced_memory()
        for number in range(2_000):
            store = await stores.open(f"store {number}")
            assert await store.keys() == []
            await check_fails(store.get("key"), KeyNotFound)
        assert stores.used_bytes == 0
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 50_000

    tracemalloc.start()
    try:
        asyncio.run(scenario())
    finally:
        tracemalloc.stop()


def test_listing_many_keys_gives_the_loop_its_turn() -> None:
    async def scenario() -> None:
        store = await MemoryStores().open("store")
        for number in range(5 * memory.DECODE_BATCH):
            await store.set(f"{number}", b"")
        listing = asyncio.create_task(store.keys())
        turns = 0
        while not listing.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 5
        assert len(await listing) == 5 * memory.DECODE_BATCH

    asyncio.run(scenario())


def test_a_listing_past_the_limit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "LISTING_LIMIT", 1_000)

    async def scenario() -> None:
        stores = MemoryStores()
        store = await stores.open("store")
        await store.set("x" * 900, b"")
        assert await store.keys() == ["x" * 900]
        await store.set("y" * 900, b"")
        await check_fails(store.keys(), StoreError)
        async with connected(stores) as remote:
            await check_fails((await remote.open("store")).keys(), StoreError)

    asyncio.run(scenario())


# From a worker.


def test_workers_share_the_stores() -> None:
    async def scenario() -> None:
        stores = MemoryStores()
        async with connected(stores) as one, connected(stores) as other:
            await (await one.open("store")).set("key", b"value")
            assert await (await other.open("store")).get("key") == b"value"
            assert await (await stores.open("store")).get("key") == b"value"

    asyncio.run(scenario())


def test_a_worker_process_reaches_its_parents_stores() -> None:
    worker_code = """
import asyncio, socket, sys
from capabilities.keyvalue.memory import RemoteMemoryStores
async def main():
    store = await RemoteMemoryStores(socket.socket(fileno=int(sys.argv[1]))).open("store")
    await store.set("answer", (await store.get("question"))[::-1])
asyncio.run(main())
"""

    async def scenario() -> None:
        stores = MemoryStores()
        store = await stores.open("store")
        await store.set("question", b"abc")
        parent, worker = socket.socketpair()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", worker_code, str(worker.fileno()), pass_fds=[worker.fileno()]
        )
        worker.close()
        await asyncio.wait_for(serve(stores, parent), 20)
        assert await asyncio.wait_for(process.wait(), 5) == 0
        assert await store.get("answer") == b"cba"

    asyncio.run(scenario())


def test_the_limit_holds_for_workers_too() -> None:
    async def scenario() -> None:
        async with connected(MemoryStores(limit_bytes=10_000)) as remote:
            store = await remote.open("store")
            await check_fails(store.set("key", bytes(10_000)), StoreError)
            await store.set("key", bytes(9_000))

    asyncio.run(scenario())


def test_requests_do_not_wait_for_the_answers_of_others() -> None:
    async def scenario() -> None:
        parent, worker = socket.socketpair()
        parent.setblocking(False)
        store = await RemoteMemoryStores(worker).open("s")
        calls = [asyncio.create_task(store.get(f"{number:03}")) for number in range(500)]
        expected = b"".join(REQUEST.pack(GET, 1, 3, 0) + f"s{number:03}".encode() for number in range(500))
        received = b""
        while len(received) < len(expected):
            received += await asyncio.wait_for(asyncio.get_running_loop().sock_recv(parent, 65_536), 5)
        assert received == expected
        assert not any(call.done() for call in calls)
        await asyncio.get_running_loop().sock_sendall(parent, struct.pack("=BI1s", 0, 1, b"v") * 500)
        assert await asyncio.gather(*calls) == [b"v"] * 500
        parent.close()

    asyncio.run(scenario())


def test_under_uvloop_a_thousand_calls_at_once_are_answered() -> None:
    async def scenario() -> None:
        async with connected(MemoryStores()) as remote:
            store = await remote.open("store")
            await asyncio.gather(*(store.set(f"{number}", b"v" * number) for number in range(1_000)))
            values = await asyncio.gather(*(store.get(f"{number}") for number in range(1_000)))
            assert values == [b"v" * number for number in range(1_000)]

    uvloop.run(scenario())


def test_when_the_parent_is_gone_every_call_is_a_connection_error() -> None:
    async def scenario() -> None:
        parent, worker = socket.socketpair()
        remote = RemoteMemoryStores(worker)
        store = await remote.open("store")
        calls = [asyncio.create_task(store.get("key")) for _ in range(10)]
        await asyncio.sleep(0)
        parent.close()
        for call in calls:
            await check_fails(asyncio.wait_for(call, 5), ConnectionFailed)
        await check_fails(store.set("key", b""), ConnectionFailed)
        await check_fails(store.keys(), ConnectionFailed)
        await check_fails((await remote.open("other")).delete("key"), ConnectionFailed)

    asyncio.run(scenario())


def test_writers_that_wait_for_a_parent_to_read_are_told_when_it_is_gone() -> None:
    async def scenario() -> None:
        parent, worker = socket.socketpair()
        store = await RemoteMemoryStores(worker).open("store")
        calls = [asyncio.create_task(store.set("key", bytes(1_000_000))) for _ in range(10)]
        await asyncio.sleep(0.01)
        assert not any(call.done() for call in calls)
        parent.close()
        for call in calls:
            await check_fails(asyncio.wait_for(call, 5), ConnectionFailed)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "garbage",
    [
        REQUEST.pack(5, 0, 0, 0),
        REQUEST.pack(255, 0, 0, 0),
        REQUEST.pack(GET, KEY_LIMIT + 1, 0, 0),
        REQUEST.pack(GET, 0, KEY_LIMIT + 1, 0),
        REQUEST.pack(SET, 0, 0, VALUE_LIMIT + 1),
        REQUEST.pack(SET, 0, 1, 0) + b"\xff",
    ],
)
def test_a_worker_that_breaks_the_protocol_is_cut_off_and_the_others_are_not(garbage: bytes) -> None:
    async def scenario() -> None:
        stores = MemoryStores()
        parent, worker = socket.socketpair()
        serving = asyncio.create_task(serve(stores, parent))
        async with connected(stores) as other:
            worker.sendall(garbage)
            await asyncio.wait_for(serving, 5)
            assert worker.recv(100) == b""
            store = await other.open("store")
            await store.set("key", b"value")
            assert await store.get("key") == b"value"
        worker.close()

    asyncio.run(scenario())


def test_a_request_that_arrives_in_pieces_is_answered() -> None:
    async def scenario() -> None:
        stores = MemoryStores()
        await (await stores.open("s")).set("k", b"value")
        parent, worker = socket.socketpair()
        worker.setblocking(False)
        serving = asyncio.create_task(serve(stores, parent))
        request = REQUEST.pack(GET, 1, 1, 0) + b"sk"
        for at in range(len(request)):
            worker.send(request[at : at + 1])
            await asyncio.sleep(0.001)
        answer = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(worker, 100), 5)
        assert answer == struct.pack("=BI", 0, 5) + b"value"
        worker.close()
        await serving

    asyncio.run(scenario())


def test_a_worker_that_reads_no_answers_is_not_read_and_gets_them_all_later() -> None:
    count = 50_000
    request = REQUEST.pack(GET, 1, 1, 0) + b"sk"
    answer = struct.pack("=BI", 0, 1_000) + bytes(1_000)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        stores = MemoryStores()
        await (await stores.open("s")).set("k", bytes(1_000))
        parent, worker = socket.socketpair()
        worker.setblocking(False)
        serving = asyncio.create_task(serve(stores, parent))
        sending = asyncio.create_task(loop.sock_sendall(worker, request * count))
        await asyncio.sleep(0.2)
        assert not sending.done()
        received = 0
        while received < count * len(answer):
            received += len(await asyncio.wait_for(loop.sock_recv(worker, 1 << 20), 5))
        await sending
        assert received == count * len(answer)
        worker.close()
        await serving

    asyncio.run(scenario())


def test_answers_that_nobody_reads_do_not_fill_the_parents_memory() -> None:
    async def scenario() -> None:
        stores = MemoryStores()
        await (await stores.open("s")).set("k", bytes(20_000))
        parent, worker = socket.socketpair()
        worker.setblocking(False)
        serving = asyncio.create_task(serve(stores, parent))
        before, _ = tracemalloc.get_traced_memory()
        assert worker.send((REQUEST.pack(GET, 1, 1, 0) + b"sk") * 2_000) == 2_000 * 15
        await asyncio.sleep(0.05)
        assert tracemalloc.get_traced_memory()[1] - before < 2_000_000
        worker.close()
        await serving

    tracemalloc.start()
    try:
        asyncio.run(scenario())
    finally:
        tracemalloc.stop()


def test_ending_serve_closes_the_socket() -> None:
    async def scenario() -> None:
        parent, worker = socket.socketpair()
        serving = asyncio.create_task(serve(MemoryStores(), parent))
        store = await RemoteMemoryStores(worker).open("store")
        await store.set("key", b"value")
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        await check_fails(store.get("key"), ConnectionFailed)
        assert parent.fileno() == -1

    asyncio.run(scenario())


def test_closing_stores_that_were_never_opened_closes_the_socket() -> None:
    async def scenario() -> None:
        parent, worker = socket.socketpair()
        serving = asyncio.create_task(serve(MemoryStores(), parent))
        await RemoteMemoryStores(worker).close()
        await asyncio.wait_for(serving, 5)

    asyncio.run(scenario())


def test_nothing_is_left_in_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    async def scenario() -> None:
        async with connected(MemoryStores()) as remote:
            await (await remote.open("store")).set("key", b"value")

    asyncio.run(scenario())
    assert list(tmp_path.iterdir()) == []
