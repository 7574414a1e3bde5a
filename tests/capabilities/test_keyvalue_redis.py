"""`keyvalue.redis` against a real Redis, and against servers that misbehave as a real one rarely does."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from capabilities.errors import ConfigError
from capabilities.keyvalue import (
    AuthenticationFailed,
    ConnectionFailed,
    InvalidValue,
    KeyNotFound,
    StoreError,
    TimedOut,
)
from capabilities.keyvalue import redis as backend_module
from capabilities.keyvalue.redis import BATCH_BYTES, BATCH_COMMANDS, MAX_CONNECTIONS, RedisBackend, parse_address
from tests.redis_server import RedisServer
from tests.servers import HOST, free_port

PASSWORD = "s3cr3t-pa55"


@pytest.fixture(scope="module")
def shared_server() -> Iterator[RedisServer]:
    with RedisServer(unix_socket=True) as server:
        yield server


@pytest.fixture
def server(shared_server: RedisServer) -> RedisServer:
    """A Redis without data, which a test leaves running."""
    shared_server.cli("FLUSHALL")
    return shared_server


@asynccontextmanager
async def stores_at(address: str) -> AsyncIterator[RedisBackend]:
    stores = RedisBackend({"REDIS_ADDRESS": address})
    yield stores
    await stores.close()


async def check_fails(call: Awaitable[Any], case: type[Any]) -> str:
    """The text of the error that the call ends with."""
    with pytest.raises(StoreError) as caught:
        await asyncio.wait_for(call, 20)
    error = caught.value
    assert type(error) is case, error
    assert str(error)
    assert PASSWORD not in f"{error} {error.notice}"
    return str(error)


@asynccontextmanager
async def fake_redis(answer: Callable[[list[bytes]], bytes | None]) -> AsyncIterator[str]:
    """A server that answers each command with bytes, or by closing the connection. Yields its address."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            while line := await reader.readline():
                command = []
                for _ in range(int(line[1:])):
                    length = int((await reader.readline())[1:])
                    command.append((await reader.readexactly(length + 2))[:-2])
                reply = answer(command)
                if reply is None:
                    break
                writer.write(reply)
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, HOST, 0)
    yield f"redis://{HOST}:{listener.sockets[0].getsockname()[1]}"
    listener.close()
    for writer in writers:
        writer.close()
    await asyncio.sleep(0.01)


# The data.


def test_the_layout_is_upstreams(server: RedisServer) -> None:
    async def scenario() -> None:
        async with stores_at(server.address) as stores:
            store = await stores.open("my-container")
            await store.set("a:b", b"ours")
            assert server.cli("GET", "my-container:a:b") == b"ours"
            server.cli("SET", "my-container:theirs", "value")
            assert await store.get("theirs") == b"value"
            assert sorted(await store.keys()) == ["a:b", "theirs"]

    asyncio.run(scenario())


def test_a_colon_in_a_stores_name_is_encoded(server: RedisServer) -> None:
    async def scenario() -> None:
        async with stores_at(server.address) as stores:
            await (await stores.open("a:b%")).set("key", b"value")
            assert server.cli("KEYS", "*") == b"a%3Ab%25:key"

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["a*b", "a?b", "a[x]b", "a\\b", "a[^y]b", "[", "]", "\\", "a[x-z]b"])
def test_glob_characters_in_a_stores_name_match_only_themselves(server: RedisServer, name: str) -> None:
    async def scenario() -> None:
        server.cli("MSET", "axb:other", "1", "axxb:other", "2", "b:other", "3", ":other", "4", "x:other", "5")
        async with stores_at(server.address) as stores:
            store = await stores.open(name)
            assert await store.keys() == []
            await store.set("*", b"")
            assert await store.keys() == ["*"]

    asyncio.run(scenario())


def test_keys_that_are_not_utf_8_are_left_out(server: RedisServer) -> None:
    async def scenario() -> None:
        server.cli("SET", b"store:\xff\xfe", "value")
        server.cli("SET", "store:ключ", "value")
        async with stores_at(server.address) as stores:
            assert await (await stores.open("store")).keys() == ["ключ"]

    asyncio.run(scenario())


def test_a_key_that_scan_returns_twice_is_listed_once() -> None:
    pages = {
        b"0": b"*2\r\n$2\r\n17\r\n*2\r\n$3\r\ns:a\r\n$3\r\ns:b\r\n",
        b"17": b"*2\r\n$1\r\n5\r\n*0\r\n",
        b"5": b"*2\r\n$1\r\n0\r\n*2\r\n$3\r\ns:b\r\n$3\r\ns:a\r\n",
    }

    async def scenario() -> None:
        async with fake_redis(lambda command: pages[command[1]]) as address, stores_at(address) as stores:
            assert sorted(await (await stores.open("s")).keys()) == ["a", "b"]

    asyncio.run(scenario())


def test_a_listing_past_the_limit_is_an_error(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "LISTING_LIMIT", 1_000)

    async def scenario() -> None:
        async with stores_at(server.address) as stores:
            store = await stores.open("s")
            await store.set("x" * 900, b"")
            assert await store.keys() == ["x" * 900]
            await store.set("y" * 900, b"")
            await check_fails(store.keys(), StoreError)

    asyncio.run(scenario())


def test_what_is_no_value_of_redis_is_an_invalid_value(server: RedisServer) -> None:
    async def scenario() -> None:
        server.cli("LPUSH", "store:list", "item")
        async with stores_at(server.address) as stores:
            store = await stores.open("store")
            await check_fails(store.get("list"), InvalidValue)
            await store.set("list", b"value")
            assert await store.get("list") == b"value"

    asyncio.run(scenario())


def test_a_full_redis_is_an_unexpected_error() -> None:
    async def scenario(address: str) -> None:
        async with stores_at(address) as stores:
            store = await stores.open("store")
            assert "OOM" in await check_fails(store.set("key", b"value"), StoreError)
            await check_fails(store.get("key"), KeyNotFound)

    with RedisServer("--maxmemory", "1") as full:
        asyncio.run(scenario(full.address))


# Connections.


def test_opening_a_store_does_not_touch_the_network() -> None:
    async def scenario() -> None:
        connections = 0

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            writer.close()

        listener = await asyncio.start_server(accept, HOST, 0)
        async with stores_at(f"redis://{HOST}:{listener.sockets[0].getsockname()[1]}") as stores:
            store = await stores.open("store")
            await asyncio.sleep(0.05)
            assert connections == 0
            await check_fails(store.get("key"), ConnectionFailed)
            assert connections > 0
        listener.close()

    asyncio.run(scenario())


def test_a_thousand_gets_at_once_share_a_bounded_number_of_connections(server: RedisServer) -> None:
    def received() -> int:
        lines = server.cli("INFO", "stats").split()
        return int(next(line for line in lines if line.startswith(b"total_connections_received:")).split(b":")[1])

    async def scenario() -> None:
        async with stores_at(server.address) as stores:
            store = await stores.open("store")
            await store.set("key", b"value")
            assert await asyncio.gather(*(store.get("key") for _ in range(1_000))) == [b"value"] * 1_000
            assert await asyncio.gather(*(store.get("key") for _ in range(1_000))) == [b"value"] * 1_000

    before = received()
    asyncio.run(scenario())
    of_redis_cli = 1
    assert received() - before <= MAX_CONNECTIONS + of_redis_cli


def test_under_uvloop_a_thousand_gets_at_once_are_answered(server: RedisServer) -> None:
    async def scenario() -> None:
        async with stores_at(server.address) as stores:
            store = await stores.open("store")
            await store.set("key", b"value")
            assert await asyncio.gather(*(store.get("key") for _ in range(1_000))) == [b"value"] * 1_000

    uvloop.run(scenario())


def test_cancelled_calls_use_up_no_connection(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "MAX_CONNECTIONS", 2)

    async def scenario() -> None:
        async with stores_at(server.address) as stores:
            store = await stores.open("store")
            await store.set("key", b"value")
            for round_ in range(50):
                calls = [asyncio.create_task(store.get("key")) for _ in range(6)]
                for _ in range(round_ % 12):
                    await asyncio.sleep(0)
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
            assert await asyncio.gather(*(store.get("key") for _ in range(20))) == [b"value"] * 20

    asyncio.run(scenario())


def test_commands_of_the_same_moment_share_a_connection(server: RedisServer) -> None:
    async def scenario() -> None:
        async with stores_at(server.address) as stores:
            store = await stores.open("store")
            before = server.cli("INFO", "stats")
            await asyncio.gather(*(store.set(f"key-{n}", b"%d" % n) for n in range(BATCH_COMMANDS)))
            assert await asyncio.gather(*(store.get(f"key-{n}") for n in range(10))) == [b"%d" % n for n in range(10)]
            made = _counter(server.cli("INFO", "stats"), b"total_connections_received")
            # One for both gathers, and one for redis-cli itself.
            assert made - _counter(before, b"total_connections_received") == 2

    asyncio.run(scenario())


def _counter(info: bytes, name: bytes) -> int:
    return int(info.partition(name + b":")[2].split()[0])


def test_in_a_batch_each_command_has_an_answer_of_its_own(server: RedisServer) -> None:
    async def scenario() -> None:
        async with stores_at(server.address) as stores:
            store = await stores.open("store")
            await store.set("here", b"value")
            server.cli("LPUSH", "store:list", "a")
            here, missing, wrong, again = await asyncio.gather(
                *(store.get(key) for key in ("here", "missing", "list", "here")), return_exceptions=True
            )
            assert here == again == b"value"
            assert isinstance(missing, KeyNotFound)
            assert isinstance(wrong, InvalidValue)

    asyncio.run(scenario())


def test_a_call_that_is_cancelled_takes_no_other_answer_with_it(server: RedisServer) -> None:
    async def scenario() -> None:
        async with stores_at(server.address) as stores:
            store = await stores.open("store")
            await asyncio.gather(*(store.set(f"key-{n}", b"%d" % n) for n in range(20)))
            calls = [asyncio.create_task(store.get(f"key-{n}")) for n in range(20)]
            await asyncio.sleep(0)
            for call in calls[::2]:
                call.cancel()
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert answers[1::2] == [b"%d" % n for n in range(1, 20, 2)]
            assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])

    asyncio.run(scenario())


def test_values_that_are_large_together_do_not_travel_together(server: RedisServer) -> None:
    async def scenario() -> None:
        async with stores_at(server.address) as stores:
            store = await stores.open("store")
            value = bytes(BATCH_BYTES)
            await asyncio.gather(*(store.set(f"key-{n}", value) for n in range(8)))
            assert await asyncio.gather(*(store.get(f"key-{n}") for n in range(8))) == [value] * 8

    asyncio.run(scenario())


@pytest.mark.parametrize("host", ["localhost", "host.localhost", "HOST.localhost"])
def test_a_name_below_localhost_is_this_machine(server: RedisServer, host: str) -> None:
    async def scenario() -> None:
        async with stores_at(server.address.replace(HOST, host)) as stores:
            await (await stores.open("store")).set("key", b"value")

    asyncio.run(scenario())


def test_closing_ends_the_connections(server: RedisServer) -> None:
    async def scenario() -> None:
        async with stores_at(server.address) as stores:
            store = await stores.open("store")
            await asyncio.gather(*(store.set(f"{number}", b"") for number in range(20)))
            assert len(server.cli("CLIENT", "LIST").splitlines()) > 1
        of_redis_cli = 1
        assert len(server.cli("CLIENT", "LIST").splitlines()) == of_redis_cli

    asyncio.run(scenario())


def test_errors_last_only_while_redis_is_away() -> None:
    async def scenario(server: RedisServer) -> None:
        async with stores_at(server.address) as stores:
            store = await stores.open("store")
            await asyncio.gather(*(store.set(f"{number}", b"old") for number in range(200)))
            server.kill()
            for _ in range(3):
                answers = await asyncio.gather(*(store.get(f"{n}") for n in range(200)), return_exceptions=True)
                assert {type(answer) for answer in answers} == {ConnectionFailed}
            server.start()
            await asyncio.gather(*(store.set(f"{number}", b"new") for number in range(200)))
            assert await asyncio.gather(*(store.get(f"{number}") for number in range(200))) == [b"new"] * 200

    with RedisServer() as server:
        asyncio.run(scenario(server))


def test_a_restart_between_two_calls_goes_unnoticed() -> None:
    async def scenario(server: RedisServer) -> None:
        async with stores_at(server.address) as stores:
            store = await stores.open("store")
            await asyncio.gather(*(store.set(f"{number}", b"") for number in range(100)))
            server.restart()
            assert await store.keys() == []
            await asyncio.gather(*(store.set(f"{number}", b"") for number in range(100)))
            server.restart()
            await asyncio.sleep(0.01)  # a DEL isn't repeated, so the loop must have seen the connections end
            await check_fails(store.delete("1"), KeyNotFound)

    with RedisServer() as server:
        asyncio.run(scenario(server))


def test_a_redis_that_is_not_there_yet_is_used_once_it_is() -> None:
    async def scenario(server: RedisServer) -> None:
        async with stores_at(server.address) as stores:
            store = await stores.open("store")
            await check_fails(store.set("key", b""), ConnectionFailed)
            server.start()
            await store.set("key", b"value")
            assert await store.get("key") == b"value"

    with RedisServer() as server:
        server.kill()
        asyncio.run(scenario(server))


def test_calls_under_way_when_redis_dies_end_with_a_connection_error() -> None:
    async def scenario(server: RedisServer) -> None:
        async with stores_at(server.address) as stores:
            store = await stores.open("store")
            await asyncio.gather(*(store.get("key") for _ in range(64)), return_exceptions=True)
            os.kill(server.pid, signal.SIGSTOP)
            calls: list[asyncio.Task[Any]] = [asyncio.create_task(store.get("key")) for _ in range(100)]
            calls += [asyncio.create_task(store.delete("key")) for _ in range(100)]
            await asyncio.sleep(0.05)
            assert not any(call.done() for call in calls)
            server.kill()
            for call in calls:
                await check_fails(call, ConnectionFailed)

    with RedisServer() as server:
        asyncio.run(scenario(server))


def test_a_redis_that_hangs_is_a_timeout_error_for_all_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "COMMAND_SECONDS", 0.3)

    async def scenario(server: RedisServer) -> None:
        async with stores_at(server.address) as stores:
            store = await stores.open("store")
            await store.set("key", b"value")
            os.kill(server.pid, signal.SIGSTOP)
            start = time.monotonic()
            answers = await asyncio.gather(*(store.get("key") for _ in range(1_000)), return_exceptions=True)
            assert time.monotonic() - start < 3
            assert {type(answer) for answer in answers} == {TimedOut}
            os.kill(server.pid, signal.SIGCONT)
            monkeypatch.undo()
            assert await asyncio.gather(*(store.get("key") for _ in range(100))) == [b"value"] * 100

    with RedisServer() as server:
        asyncio.run(scenario(server))


def test_a_host_that_does_not_accept_is_a_timeout_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "CONNECT_SECONDS", 0.2)

    async def scenario() -> None:
        with socket.socket() as listener, socket.socket() as one, socket.socket() as other:
            listener.bind((HOST, 0))
            listener.listen(0)
            for filler in (one, other):  # a full backlog: further connections stay half open
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
            async with stores_at(f"redis://{HOST}:{listener.getsockname()[1]}") as stores:
                await check_fails((await stores.open("store")).get("key"), TimedOut)

    asyncio.run(scenario())


def test_a_get_on_a_connection_that_broke_is_sent_again() -> None:
    commands: list[list[bytes]] = []

    def answer(command: list[bytes]) -> bytes | None:
        commands.append(command)
        return None if len(commands) == 1 else b"$5\r\nvalue\r\n"

    async def scenario() -> None:
        async with fake_redis(answer) as address, stores_at(address) as stores:
            assert await (await stores.open("s")).get("key") == b"value"
        assert commands == [[b"GET", b"s:key"]] * 2

    asyncio.run(scenario())


def test_a_delete_on_a_connection_that_broke_is_not_sent_again() -> None:
    commands: list[list[bytes]] = []

    def answer(command: list[bytes]) -> bytes | None:
        commands.append(command)
        return None if len(commands) == 1 else b":0\r\n"

    async def scenario() -> None:
        async with fake_redis(answer) as address, stores_at(address) as stores:
            await check_fails((await stores.open("s")).delete("key"), ConnectionFailed)
        assert commands == [[b"DEL", b"s:key"]]

    asyncio.run(scenario())


def test_a_connection_that_always_breaks_is_given_up_after_the_second_try() -> None:
    commands: list[list[bytes]] = []

    async def scenario() -> None:
        async with fake_redis(commands.append) as address, stores_at(address) as stores:
            await check_fails((await stores.open("s")).get("key"), ConnectionFailed)
        assert len(commands) == 2

    asyncio.run(scenario())


def test_a_redis_that_loads_its_data_is_a_connection_error() -> None:
    async def scenario() -> None:
        loading = b"-LOADING Redis is loading the dataset in memory\r\n"
        async with fake_redis(lambda _: loading) as address, stores_at(address) as stores:
            text = await check_fails((await stores.open("s")).get("key"), ConnectionFailed)
            assert "loading" in text

    asyncio.run(scenario())


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"*x\r\n", b"$\r\n", b"\r\n", b"+" * 100_000])
def test_something_that_is_no_redis_is_an_unexpected_error(reply: bytes) -> None:
    async def scenario() -> None:
        async with fake_redis(lambda _: reply) as address, stores_at(address) as stores:
            await check_fails((await stores.open("s")).get("key"), StoreError)

    asyncio.run(scenario())


# Passwords, databases, sockets, TLS.


def test_a_password_opens_the_store_and_a_wrong_one_is_an_authentication_error() -> None:
    async def scenario(server: RedisServer) -> None:
        for address in (server.address, server.socket_address):
            async with stores_at(address) as stores:
                store = await stores.open("store")
                await store.set("key", b"value")
                assert await store.get("key") == b"value"
            for wrong in (f":{PASSWORD}x@", f"nobody:{PASSWORD}x@", ""):
                async with stores_at(address.replace(f":{PASSWORD}@", wrong)) as stores:
                    await check_fails((await stores.open("store")).get("key"), AuthenticationFailed)

    with RedisServer(password=PASSWORD, unix_socket=True) as server:
        asyncio.run(scenario(server))


def test_a_password_that_redis_does_not_ask_for_is_an_authentication_error(server: RedisServer) -> None:
    async def scenario() -> None:
        async with stores_at(f"redis://:{PASSWORD}@{HOST}:{server.port}") as stores:
            await check_fails((await stores.open("store")).get("key"), AuthenticationFailed)

    asyncio.run(scenario())


def test_a_user_without_the_permission_is_an_authentication_error() -> None:
    password = "p/a:s@s?#%"
    encoded = "p%2Fa%3As%40s%3F%23%25"

    async def scenario(server: RedisServer) -> None:
        server.cli("ACL", "SETUSER", "reader", "on", f">{password}", "~store:*", "+get")
        async with stores_at(f"redis://reader:{encoded}@{HOST}:{server.port}") as stores:
            store = await stores.open("store")
            await check_fails(store.get("key"), KeyNotFound)
            await check_fails(store.set("key", b""), AuthenticationFailed)
            await check_fails((await stores.open("other")).get("key"), AuthenticationFailed)

    with RedisServer() as server:
        asyncio.run(scenario(server))


@pytest.mark.parametrize("error", ["ERR unknown command 'AUTH', with args beginning with: '{}' ", "{} is wrong", "{}"])
def test_a_server_that_repeats_the_password_in_its_error_does_not_give_it_away(error: str) -> None:
    async def scenario() -> None:
        async with fake_redis(lambda _: f"-{error}\r\n".format(PASSWORD).encode()) as address:
            address = address.replace("redis://", f"redis://:{PASSWORD}@")
            async with stores_at(address) as stores:
                await check_fails((await stores.open("s")).get("key"), StoreError)

    asyncio.run(scenario())


def test_no_error_shows_where_redis_is() -> None:
    async def scenario() -> None:
        port = free_port()
        async with stores_at(f"redis://{HOST}:{port}") as stores:
            text = await check_fails((await stores.open("store")).get("key"), ConnectionFailed)
            assert text == "Redis can't be reached: Connection refused"
        async with stores_at("unix:///nowhere/redis.sock") as stores:
            text = await check_fails((await stores.open("store")).get("key"), ConnectionFailed)
            assert text == "Redis can't be reached: No such file or directory"

    asyncio.run(scenario())


def test_the_notice_of_an_error_says_where_redis_is_and_no_secret() -> None:
    async def scenario() -> None:
        port = free_port()
        for address, place in (
            (f"redis://user:{PASSWORD}@{HOST}:{port}", f"{HOST}:{port}"),
            (f"unix://user:{PASSWORD}@/nowhere/redis.sock", "/nowhere/redis.sock"),
        ):
            async with stores_at(address) as stores:
                with pytest.raises(ConnectionFailed) as caught:
                    await (await stores.open("store")).get("key")
                notice = str(caught.value.notice)
                assert notice.startswith(f"redis {place}: ")
                assert notice.endswith("; start it, or correct REDIS_ADDRESS in the slightfile")
                assert PASSWORD not in notice

    asyncio.run(scenario())


def test_the_database_is_the_addresss(server: RedisServer) -> None:
    async def scenario() -> None:
        for number, address in enumerate(
            (f"{server.address}/3", f"{server.address}?db=4", f"{server.socket_address}?db=5")
        ):
            async with stores_at(address) as stores:
                await (await stores.open("store")).set("key", b"value")
            assert server.cli("-n", str(3 + number), "KEYS", "*") == b"store:key"
        assert server.cli("KEYS", "*") == b""

    asyncio.run(scenario())


def test_a_database_that_redis_does_not_have_is_named_as_the_cause(server: RedisServer) -> None:
    async def scenario() -> None:
        async with stores_at(f"{server.address}/99") as stores:
            text = await check_fails((await stores.open("store")).get("key"), StoreError)
            assert "database" in text

    asyncio.run(scenario())


def test_a_unix_socket_works(server: RedisServer) -> None:
    async def scenario() -> None:
        async with stores_at(server.socket_address) as stores:
            store = await stores.open("store")
            await asyncio.gather(*(store.set(f"{number}", b"value") for number in range(200)))
            assert len(await store.keys()) == 200

    asyncio.run(scenario())


@pytest.fixture(scope="module")
def tls_server() -> Iterator[RedisServer]:
    with RedisServer(tls=True, password=PASSWORD) as server:
        yield server


def test_tls_works_with_a_certificate_authority_of_ones_own(tls_server: RedisServer) -> None:
    async def scenario() -> None:
        async with stores_at(tls_server.address) as stores:
            store = await stores.open("store")
            await asyncio.gather(*(store.set(f"{number}", b"value") for number in range(100)))
            assert len(await store.keys()) == 100

    asyncio.run(scenario())


def test_the_files_for_tls_are_read_once(tls_server: RedisServer) -> None:
    async def scenario() -> None:
        assert tls_server.certificate is not None
        copy = tls_server.directory / "copy.pem"
        copy.write_bytes(tls_server.certificate.read_bytes())
        async with stores_at(tls_server.address.replace("certificate.pem", "copy.pem")) as stores:
            store = await stores.open("store")
            await store.set("key", b"value")
            copy.unlink()
            assert await asyncio.gather(*(store.get("key") for _ in range(50))) == [b"value"] * 50

    asyncio.run(scenario())


def test_a_first_call_that_is_cancelled_leaves_the_next_one_its_connection(tls_server: RedisServer) -> None:
    async def scenario() -> None:
        async with stores_at(tls_server.address) as stores:
            store = await stores.open("store")
            first, second = asyncio.create_task(store.set("key", b"")), asyncio.create_task(store.set("key", b""))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            first.cancel()
            await second
            assert first.cancelled()

    asyncio.run(scenario())


def test_closing_gives_up_on_a_redis_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "CONNECT_SECONDS", 1.0)

    async def scenario(server: RedisServer) -> None:
        async with stores_at(server.address) as stores:
            await (await stores.open("store")).set("key", b"value")
            os.kill(server.pid, signal.SIGSTOP)
            start = time.monotonic()
        assert time.monotonic() - start < 3
        os.kill(server.pid, signal.SIGCONT)
        await asyncio.sleep(0.1)  # the TLS that was given up ends, and with it the transport

    with RedisServer(tls=True) as server:
        asyncio.run(scenario(server))


def test_a_certificate_that_nobody_vouches_for_is_refused(tls_server: RedisServer) -> None:
    async def scenario() -> None:
        async with stores_at(f"rediss://:{PASSWORD}@{HOST}:{tls_server.port}") as stores:
            text = await check_fails((await stores.open("store")).get("key"), ConnectionFailed)
            assert "not trusted" in text

    asyncio.run(scenario())


def test_a_certificate_of_another_host_is_refused(tls_server: RedisServer) -> None:
    async def scenario() -> None:
        async with stores_at(tls_server.address.replace(HOST, "localhost")) as stores:
            text = await check_fails((await stores.open("store")).get("key"), ConnectionFailed)
            assert "not trusted" in text

    asyncio.run(scenario())


def test_tls_files_that_cannot_be_used_are_a_connection_error_until_they_can(tls_server: RedisServer) -> None:
    async def scenario() -> None:
        assert tls_server.certificate is not None
        late = tls_server.directory / "late.pem"
        async with stores_at(tls_server.address.replace("certificate.pem", "late.pem")) as stores:
            store = await stores.open("store")
            assert "TLS files" in await check_fails(store.get("key"), ConnectionFailed)
            late.write_text("no certificate")
            assert "TLS files" in await check_fails(store.get("key"), ConnectionFailed)
            late.write_bytes(tls_server.certificate.read_bytes())
            await store.set("key", b"value")

    asyncio.run(scenario())


def test_tls_with_a_redis_that_does_not_speak_it_fails(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "CONNECT_SECONDS", 0.2)

    async def scenario() -> None:
        async with stores_at(f"rediss://{HOST}:{server.port}") as stores:  # Redis waits for the rest of a command
            await check_fails((await stores.open("store")).get("key"), TimedOut)

    asyncio.run(scenario())


def test_a_redis_that_speaks_tls_only_is_a_connection_error_without_it(tls_server: RedisServer) -> None:
    async def scenario() -> None:
        async with stores_at(f"redis://{HOST}:{tls_server.port}") as stores:
            await check_fails((await stores.open("store")).get("key"), ConnectionFailed)

    asyncio.run(scenario())


def test_a_server_that_asks_for_a_certificate_gets_the_clients() -> None:
    async def scenario(server: RedisServer) -> None:
        with_key = f"&ssl_certfile={server.certificate}&ssl_keyfile={server.directory}/key.pem"
        async with stores_at(server.address + with_key) as stores:
            await (await stores.open("store")).set("key", b"value")
        async with stores_at(server.address) as stores:
            await check_fails((await stores.open("store")).set("key", b"value"), ConnectionFailed)

    with RedisServer("--tls-auth-clients", "yes", "--tls-ca-cert-file", "certificate.pem", tls=True) as server:
        asyncio.run(scenario(server))


# The configuration.


@pytest.mark.parametrize(
    "address",
    [
        "",
        "localhost:6379",
        f"{PASSWORD}@localhost",
        f"http://:{PASSWORD}@localhost",
        f"redis://:{PASSWORD}@",
        f"redis://:{PASSWORD}@:6379",
        f"redis://:{PASSWORD}@localhost:99999",
        f"redis://:{PASSWORD}@localhost:port",
        f"redis://user:{PASSWORD}/more@localhost",
        f"redis://:{PASSWORD}#more@localhost",
        f"redis://:{PASSWORD}@localhost/database",
        f"redis://:{PASSWORD}@localhost/-1",
        f"redis://:{PASSWORD}@localhost/1/2",
        f"redis://:{PASSWORD}@localhost?db=x",
        f"redis://:{PASSWORD}@localhost?{PASSWORD}",
        f"redis://:{PASSWORD}@localhost?max_connections=9",
        f"redis://:{PASSWORD}@localhost?ssl_ca_certs=x",
        f"redis://:{PASSWORD}@[::1",
        f"unix://:{PASSWORD}@",
        f"unix://:{PASSWORD}@host/path",
    ],
)
def test_a_bad_address_is_a_config_error_that_shows_nothing_of_it(address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RedisBackend({"REDIS_ADDRESS": address})
    assert caught.value.key == "REDIS_ADDRESS"
    assert "REDIS_ADDRESS" in str(caught.value)
    for part in (PASSWORD, "localhost"):
        assert part not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_missing_address_is_a_config_error() -> None:
    with pytest.raises(ConfigError) as caught:
        RedisBackend({})
    assert caught.value.key == "REDIS_ADDRESS"


def test_without_the_redis_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(ConfigError, match=r"pip install 'slight-py\[redis\]'"):
        RedisBackend({"REDIS_ADDRESS": "redis://localhost"})


def test_an_address_is_taken_apart_as_the_redis_uri_scheme_has_it() -> None:
    address = parse_address("redis://us%65r:p%40ss@redis.example:7000/12")
    assert (address.host, address.port, address.username, address.password, address.database, address.tls) == (
        "redis.example",
        7000,
        "user",
        "p@ss",
        12,
        None,
    )
    address = parse_address("redis://[::1]/")
    assert (address.host, address.port, address.username, address.password, address.database) == (
        "::1",
        6379,
        None,
        None,
        0,
    )
    address = parse_address("rediss://host?ssl_ca_certs=/a%20b.pem&db=3")
    assert (address.tls, address.database) == ({"ssl_ca_certs": "/a b.pem"}, 3)
    address = parse_address("unix://:pass@/run/redis%20.sock?db=2")
    assert (address.host, address.path, address.password, address.database) == (None, "/run/redis .sock", "pass", 2)


def test_an_address_that_is_printed_shows_no_password() -> None:
    assert PASSWORD not in repr(parse_address(f"redis://:{PASSWORD}@localhost"))
    assert PASSWORD not in repr(RedisBackend({"REDIS_ADDRESS": f"redis://:{PASSWORD}@localhost"}))
