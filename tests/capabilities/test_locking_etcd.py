"""`distributed_locking.etcd` against a real etcd: what it leaves there, and its faults."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from capabilities.errors import ConfigError
from capabilities.locking import LockError, NotAcquired, NotReleased, ProtocolFault, Unreachable, etcd
from capabilities.locking.etcd import EtcdBackend, parse_endpoints
from tests.etcd_server import EtcdServer
from tests.servers import HOST, free_port, make_certificate


@asynccontextmanager
async def backend_at(endpoint: str, **configs: str) -> AsyncIterator[EtcdBackend]:
    backend = EtcdBackend({"ETCD_ENDPOINT": endpoint, **configs})
    yield backend
    await backend.close()


async def fails(call: Awaitable[Any], kind: type[LockError], notice: str = "") -> str:
    """The text of the error that a call ends with."""
    with pytest.raises(LockError) as caught:
        await asyncio.wait_for(call, 20)
    assert type(caught.value) is kind, caught.value
    for text in (str(caught.value), caught.value.notice or ""):
        assert "wrong-password" not in text
    assert HOST not in str(caught.value)
    assert notice in (caught.value.notice or "")
    return str(caught.value)


def test_others_see_the_locks_under_plain_names(shared_etcd: EtcdServer) -> None:
    async def scenario() -> None:
        async with backend_at(shared_etcd.endpoint) as backend:
            await backend.lock(1, "orders", b"invoice-7", None)
            (key,) = await asyncio.to_thread(lambda: shared_etcd.keys)
            assert key.rpartition("/")[0] == "orders/invoice-7"
            await backend.end(1)

    asyncio.run(scenario())
    assert shared_etcd.keys == []


def test_two_processes_share_the_locks(shared_etcd: EtcdServer) -> None:
    async def scenario() -> None:
        async with backend_at(shared_etcd.endpoint) as one, backend_at(shared_etcd.endpoint) as two:
            key = await one.lock(1, "set", b"lock", None)
            waiting = asyncio.create_task(two.lock(1, "set", b"lock", None))
            await asyncio.sleep(0.2)
            assert not waiting.done()
            await one.unlock(1, "set", key)
            await asyncio.wait_for(waiting, 5)

    asyncio.run(scenario())


def test_a_lease_is_kept_alive_for_as_long_as_the_lock_is_held(
    shared_etcd: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(etcd, "LEASE_SECONDS", 2)  # the least that etcd grants
    monkeypatch.setattr(etcd, "KEEP_SECONDS", 0.5)

    async def scenario() -> None:
        async with backend_at(shared_etcd.endpoint) as backend:
            key = await backend.lock(1, "set", b"lock", None)
            waiting = asyncio.create_task(backend.lock(2, "set", b"lock", None))
            await asyncio.sleep(4)
            assert not waiting.done()
            await backend.unlock(1, "set", key)
            await asyncio.wait_for(waiting, 5)

    asyncio.run(scenario())


def test_the_locks_of_a_process_that_dies_are_free_when_their_leases_run_out(
    shared_etcd: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(etcd, "LEASE_SECONDS", 2)
    monkeypatch.setattr(etcd, "KEEP_SECONDS", 0.5)

    async def scenario() -> None:
        async with backend_at(shared_etcd.endpoint) as dies, backend_at(shared_etcd.endpoint) as lives:
            key = await dies.lock(1, "set", b"lock", None)
            lease = dies._keys.find(1, "set", key)
            lease.stop()  # nobody keeps it alive any more
            await asyncio.wait_for(lives.lock(1, "set", b"lock", None), 10)
            assert "lost" in await fails(dies.unlock(1, "set", key), NotReleased)

    asyncio.run(scenario())


def test_an_etcd_that_is_away_at_the_start_is_used_when_it_comes() -> None:
    with EtcdServer() as server:
        server.stop()

        async def scenario() -> None:
            async with backend_at(server.endpoint) as backend:
                told = f"distributed_locking.etcd {HOST}:{server.port}: connection refused; start it, or correct ETCD"
                await fails(backend.lock(1, "set", b"lock", None), Unreachable, told)
                await asyncio.to_thread(server.start)
                await backend.unlock(1, "set", await backend.lock(1, "set", b"lock", None))

        asyncio.run(scenario())


def test_an_etcd_that_dies_while_a_lock_is_held_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd, "LEASE_SECONDS", 3)
    monkeypatch.setattr(etcd, "KEEP_SECONDS", 0.5)
    with EtcdServer() as server:

        async def scenario() -> None:
            async with backend_at(server.endpoint) as backend:
                key = await backend.lock(1, "set", b"lock", None)
                waiting = asyncio.create_task(backend.lock(2, "set", b"lock", None))
                await asyncio.sleep(0.3)
                await asyncio.to_thread(server.kill)
                await fails(waiting, Unreachable, "start it")
                await fails(backend.unlock(1, "set", key), Unreachable, "start it")
                await asyncio.to_thread(server.start)
                # Idle connections from before are no hindrance, and neither is what was left behind.
                await asyncio.wait_for(backend.lock(3, "set", b"lock", None), 20)
                await asyncio.wait_for(backend.lock(3, "set", b"other", None), 20)

        asyncio.run(scenario())
        assert server.keys == []


def test_an_etcd_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd, "CALL_SECONDS", 0.5)
    monkeypatch.setattr(etcd, "LEASE_SECONDS", 2)
    monkeypatch.setattr(etcd, "KEEP_SECONDS", 0.3)
    with EtcdServer() as server:

        async def scenario() -> None:
            async with backend_at(server.endpoint) as backend:
                key = await backend.lock(1, "set", b"lock", None)
                waiting = asyncio.create_task(backend.lock(2, "set", b"lock", None))
                await asyncio.sleep(0.3)
                os.kill(server.pid, signal.SIGSTOP)
                try:
                    await fails(backend.lock(3, "set", b"other", None), Unreachable, "no answer in time")
                    await fails(backend.unlock(1, "set", key), Unreachable, "no answer in time")
                    assert "place in the queue was lost" in await fails(waiting, Unreachable)
                finally:
                    os.kill(server.pid, signal.SIGCONT)
                await asyncio.wait_for(backend.lock(4, "set", b"lock", None), 20)

        asyncio.run(scenario())


def test_several_endpoints_stand_in_for_each_other(shared_etcd: EtcdServer) -> None:
    async def scenario() -> None:
        async with backend_at(f"{HOST}:{free_port()}, {shared_etcd.endpoint}") as backend:
            await backend.unlock(1, "set", await backend.lock(1, "set", b"lock", None))

    asyncio.run(scenario())


def test_users_and_passwords() -> None:
    with EtcdServer() as server:
        for command in (
            ("user", "add", "root:root"),
            ("user", "grant-role", "root", "root"),
            ("user", "add", "guest:guest"),
            ("role", "add", "locks"),
            ("role", "grant-permission", "locks", "readwrite", "set/", "--prefix"),
            ("user", "grant-role", "guest", "locks"),
        ):
            server.ctl(*command)
        endpoint = server.endpoint

        async def scenario() -> None:
            async with backend_at(endpoint, ETCD_USER="guest", ETCD_PASSWORD="wrong-password") as backend:
                await fails(backend.lock(1, "set", b"lock", None), Unreachable, "take ETCD_USER out")
            server.ctl("auth", "enable")
            async with backend_at(endpoint) as backend:
                await fails(backend.lock(1, "set", b"lock", None), Unreachable, "give ETCD_USER and ETCD_PASSWORD")
            async with backend_at(endpoint, ETCD_USER="guest", ETCD_PASSWORD="wrong-password") as backend:
                await fails(backend.lock(1, "set", b"lock", None), Unreachable, "correct ETCD_USER and ETCD_PASSWORD")
            async with backend_at(endpoint, ETCD_USER="guest", ETCD_PASSWORD="guest") as backend:
                await backend.unlock(1, "set", await backend.lock(1, "set", b"lock", None))
                await fails(backend.lock(1, "other", b"lock", None), NotAcquired, "give the user a role")
                # Its tokens are gone with it.
                await asyncio.to_thread(server.restart)
                await backend.unlock(1, "set", await backend.lock(1, "set", b"lock", None))

        asyncio.run(scenario())


def test_tls() -> None:
    with EtcdServer(tls=True) as server:
        other = server.directory / "other.pem"
        make_certificate(other, server.directory / "other-key.pem")

        async def scenario() -> None:
            async with backend_at(server.endpoint, ETCD_CACERT=str(server.certificate)) as backend:
                await backend.unlock(1, "set", await backend.lock(1, "set", b"lock", None))
            for endpoint, configs, notice in (
                (server.url, {}, "certificate is not trusted"),
                (server.url, {"ETCD_CACERT": str(other)}, "certificate is not trusted"),
                (server.url, {"ETCD_CACERT": "/none"}, "correct ETCD_CACERT"),
                (f"http://{server.endpoint}", {}, ""),
            ):
                async with backend_at(endpoint, **configs) as backend:
                    await fails(backend.lock(1, "set", b"lock", None), Unreachable, notice)

        asyncio.run(scenario())


def test_something_else_that_answers() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        writer.close()

    async def scenario() -> None:
        listener = await asyncio.start_server(answer, HOST, 0)
        async with backend_at(f"{HOST}:{listener.sockets[0].getsockname()[1]}") as backend:
            assert "not an etcd" in await fails(backend.lock(1, "set", b"lock", None), ProtocolFault)
        listener.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("text", "endpoints"),
    [
        ("localhost:2379", ["http://localhost:2379"]),
        ("http://a:1,http://b:2/, a:1", None),
        ("http://a:1, http://b:2/", ["http://a:1", "http://b:2"]),
        ("https://[::1]:2379", ["https://[::1]:2379"]),
    ],
)
def test_endpoints(text: str, endpoints: list[str] | None) -> None:
    if endpoints is not None:
        assert parse_endpoints(text, "http") == endpoints
    assert parse_endpoints("a:1", "https") == ["https://a:1"]


@pytest.mark.parametrize(
    "configs",
    [
        {"ETCD_ENDPOINT": ""},
        {"ETCD_ENDPOINT": " , "},
        {"ETCD_ENDPOINT": "localhost"},
        {"ETCD_ENDPOINT": "localhost:port"},
        {"ETCD_ENDPOINT": "ftp://localhost:1"},
        {"ETCD_ENDPOINT": "localhost:1/v3"},
        {"ETCD_ENDPOINT": "http://a:1,https://b:1"},
        {"ETCD_ENDPOINT": "http://user:wrong-password@localhost:1"},
        {"ETCD_ENDPOINT": "localhost:1", "ETCD_PASSWORD": "wrong-password"},
        {"ETCD_ENDPOINT": "localhost:1", "ETCD_CERT": "file"},
        {"ETCD_ENDPOINT": "localhost:1", "ETCD_KEY": "file"},
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(configs: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        EtcdBackend(configs)
    assert caught.value.key in (*EtcdBackend.REQUIRED, *EtcdBackend.OPTIONAL)
    assert "wrong-password" not in str(caught.value)
