"""A machine that is booted for whoever connects: here it is an echo server of this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from slight_py.errors import UsageError
from tests.servers import free_port
from unikernel.on_demand import BootError, Listener, OnDemand

IDLE = 0.2
BOOT = 0.1
GUEST = 3000

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Echo:
    """A machine that sends back what it got, once its client has finished."""

    def __init__(self, server: asyncio.Server) -> None:
        self.server = server
        self.over = asyncio.Event()

    @classmethod
    async def boot(cls) -> Echo:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"echo " + await reader.read())
            writer.close()

        await asyncio.sleep(BOOT)
        return cls(await asyncio.start_server(answer, "127.0.0.1", 0))

    async def connect(self, port: int) -> Streams:
        assert port == GUEST
        return await asyncio.open_connection(*self.server.sockets[0].getsockname())

    async def ended(self) -> str:
        await self.over.wait()
        return "app.img: the application ended with exit code 3"

    async def stop(self) -> None:
        self.server.close()
        self.over.set()


class Host:
    """What serves, the machines it has booted, and how to end it."""

    def __init__(self, boots: list[Callable[[], Awaitable[Echo]]]) -> None:
        self.machines: list[Echo] = []
        self.tries = 0
        self._boots = boots
        self.until = asyncio.Event()
        self.port = 0

    async def boot(self) -> Echo:
        boot = self._boots[min(self.tries, len(self._boots) - 1)]
        self.tries += 1
        machine = await boot()
        self.machines.append(machine)
        return machine

    async def connect(self) -> Streams:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, text: bytes) -> bytes:
        reader, writer = await self.connect()
        writer.write(text)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        return answer


async def fails() -> Echo:
    await asyncio.sleep(BOOT)
    raise BootError("app.img: the machine ran out of memory")


def run(test: Callable[[Host], Awaitable[None]], *boots: Callable[[], Awaitable[Echo]]) -> Host:
    """Serves while a test runs, and ends it then."""

    async def main() -> Host:
        host = Host(list(boots) or [Echo.boot])
        host.port = free_port()
        served = asyncio.create_task(
            OnDemand(host.boot, IDLE).serve([Listener("127.0.0.1", host.port, GUEST)], host.until)
        )
        await asyncio.sleep(0.05)
        try:
            async with asyncio.timeout(20):
                await test(host)
        finally:
            host.until.set()
            await asyncio.wait_for(served, 20)
        return host

    return asyncio.run(main())


def test_nothing_is_booted_before_somebody_connects() -> None:
    async def test(host: Host) -> None:
        await asyncio.sleep(BOOT)

    assert run(test).tries == 0


def test_clients_that_connect_at_once_share_one_boot() -> None:
    async def test(host: Host) -> None:
        answers = await asyncio.gather(*(host.ask(b"%d" % number) for number in range(20)))
        assert answers == [b"echo %d" % number for number in range(20)]

    assert run(test).tries == 1


def test_a_machine_without_connections_is_stopped_and_the_next_client_gets_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test(host: Host) -> None:
        assert await host.ask(b"one") == b"echo one"
        async with asyncio.timeout(5):
            await host.machines[0].over.wait()
        assert await host.ask(b"two") == b"echo two"

    with caplog.at_level(logging.ERROR, "slight_py"):
        assert run(test).tries == 2
    assert not caplog.records


def test_a_connection_keeps_the_machine() -> None:
    async def test(host: Host) -> None:
        reader, writer = await host.connect()
        writer.write(b"wait")
        await asyncio.sleep(BOOT + 2 * IDLE)
        assert not host.machines[0].over.is_set()
        writer.write_eof()
        assert await reader.read() == b"echo wait"
        writer.close()

    assert run(test).tries == 1


def test_a_failed_boot_closes_the_connections_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async def test(host: Host) -> None:
        results = await asyncio.gather(*(host.ask(b"x") for _ in range(3)), return_exceptions=True)
        assert all(result == b"" or isinstance(result, ConnectionError) for result in results)
        assert await host.ask(b"again") == b"echo again"

    with caplog.at_level(logging.ERROR, "slight_py"):
        host = run(test, fails, Echo.boot)
    assert host.tries == 2
    assert [record.getMessage() for record in caplog.records] == ["app.img: the machine ran out of memory"]


def test_a_boot_that_fails_in_a_way_nobody_thought_of_ends_no_other_way(caplog: pytest.LogCaptureFixture) -> None:
    async def breaks() -> Echo:
        raise OSError(24, "Too many open files")

    async def test(host: Host) -> None:
        results = await asyncio.gather(*(host.ask(b"x") for _ in range(3)), return_exceptions=True)
        assert all(result == b"" or isinstance(result, ConnectionError) for result in results)
        assert await host.ask(b"again") == b"echo again"

    with caplog.at_level(logging.ERROR):
        host = run(test, breaks, Echo.boot)
    assert host.tries == 2
    assert [record.getMessage() for record in caplog.records] == [
        "the machine can't be booted: OSError(24, 'Too many open files')"
    ]


def test_a_machine_that_ended_by_itself_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    async def test(host: Host) -> None:
        await host.ask(b"one")
        await host.machines[0].stop()
        await asyncio.sleep(0.05)
        assert await host.ask(b"two") == b"echo two"

    with caplog.at_level(logging.ERROR):
        assert run(test).tries == 2
    assert [record.getMessage() for record in caplog.records] == [
        "app.img: the application ended with exit code 3; the next client gets a new machine"
    ]


def test_a_client_that_comes_while_the_machine_goes_down_is_answered_by_the_next_one() -> None:
    class Slow(Echo):
        async def stop(self) -> None:
            self.server.close()
            await asyncio.sleep(2 * BOOT)
            self.over.set()

    async def test(host: Host) -> None:
        assert await host.ask(b"one") == b"echo one"
        first = host.machines[0]
        while first.server.is_serving():  # noqa: ASYNC110 - a server tells nobody of its end
            await asyncio.sleep(0.01)
        assert not first.over.is_set()
        answers = await asyncio.gather(*(host.ask(b"%d" % number) for number in range(5)))
        assert answers == [b"echo %d" % number for number in range(5)]
        assert first.over.is_set()

    assert run(test, Slow.boot).tries == 2


def test_a_machine_that_can_not_be_ended_is_replaced_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    class Stuck(Echo):
        async def stop(self) -> None:
            self.over.set()
            raise OSError("no such process")

    async def test(host: Host) -> None:
        assert await host.ask(b"one") == b"echo one"
        await asyncio.wait_for(host.machines[0].over.wait(), 5)
        assert await host.ask(b"two") == b"echo two"

    with caplog.at_level(logging.ERROR):
        assert run(test, Stuck.boot, Echo.boot).tries == 2
    assert [record.getMessage() for record in caplog.records] == [
        "the machine can't be ended: OSError('no such process')"
    ]


def test_a_client_that_leaves_during_the_boot_takes_it_from_nobody() -> None:
    async def test(host: Host) -> None:
        _, leaving = await host.connect()
        await asyncio.sleep(BOOT / 4)
        staying = asyncio.create_task(host.ask(b"stay"))
        await asyncio.sleep(BOOT / 4)
        leaving.transport.abort()
        assert await staying == b"echo stay"

    assert run(test).tries == 1


def test_a_machine_whose_only_client_left_during_the_boot_is_stopped() -> None:
    async def slow() -> Echo:
        await asyncio.sleep(2 * IDLE)
        return await Echo.boot()

    async def test(host: Host) -> None:
        _, writer = await host.connect()
        await asyncio.sleep(0.05)
        writer.transport.abort()
        await asyncio.sleep(2 * IDLE + 2 * BOOT)
        async with asyncio.timeout(5):
            await host.machines[0].over.wait()

    assert run(test, slow).tries == 1


def test_the_end_stops_the_machine_and_frees_the_port() -> None:
    async def test(host: Host) -> None:
        _, writer = await host.connect()
        await asyncio.sleep(2 * BOOT)
        writer.write(b"unfinished")

    host = run(test)
    assert host.machines[0].over.is_set()

    async def connect() -> None:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", host.port)

    asyncio.run(connect())


def test_an_address_that_is_taken_is_named() -> None:
    port = free_port()

    async def main() -> None:
        taken = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", port)
        async with taken:
            with pytest.raises(UsageError, match=f"127.0.0.1:{port} can't be listened at: .*-p OTHER:{GUEST}"):
                await OnDemand(Echo.boot, IDLE).serve([Listener("127.0.0.1", port, GUEST)], asyncio.Event())

    asyncio.run(main())
