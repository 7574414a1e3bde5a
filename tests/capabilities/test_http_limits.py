"""What the HTTP server does when something is too much or too slow, and when it stops."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
import pytest

from capabilities.bindings.http_types import Request, Response
from capabilities.http import connection as connection_module
from capabilities.http.access import AccessRecord
from capabilities.http.limit import TimeExceeded, TimeLimit
from capabilities.http.server import HttpService
from capabilities.http.settings import HttpSettings
from tests.http_serving import (
    LOOPS,
    Functions,
    Handler,
    Serving,
    answering,
    both_servers,
    echo,
    every_server,
    every_server_and_loop,
    hello,
    read_response,
    serving,
)

POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"

loops = pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)


SECONDS = 20.0
"""How long anything here may take, on a machine that has more to do."""


@pytest.fixture(autouse=True)
def _short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "LINGER", 0.2)


def status_of(response: bytes) -> int:
    return int(response.split(b" ", 2)[1])


class Gate:
    """A handler that waits until it's let through, and says how it ended."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self.through = asyncio.Event()

    async def __call__(self, request: Request) -> Response:
        self.begun += 1
        try:
            await self.through.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Response(200, None, b"through")


async def until(condition: Callable[[], bool]) -> None:
    """Waits until it holds: for as long as an emulated machine may take that has little of the processor."""
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.005)


# Bodies


def posting(
    settings: HttpSettings, *parts: bytes, pause: float = 0.02, within: float = 5.0
) -> tuple[bytes, list[Request]]:
    """What is answered to a request, and what reaches the handler. Raises TimeoutError where the end of the answer is
    not there within some seconds."""

    async def main() -> tuple[bytes, list[Request]]:
        functions = Functions(h=echo)
        async with serving(functions, ("POST", "/", "h"), settings=settings) as server:
            return await server.raw(*parts, pause=pause, timeout=within), functions.seen

    return asyncio.run(main())


@every_server
def test_a_body_as_long_as_the_limit_is_taken() -> None:
    body = b"Content-Length: 10\r\nConnection: close\r\n\r\n0123456789"
    response, _ = posting(HttpSettings(max_body=10), POST + body)
    assert response.endswith(b"\r\n\r\n0123456789")


@every_server
def test_a_longer_body_is_refused_by_its_length_before_it_comes() -> None:
    request = POST + b"Content-Length: 11\r\nExpect: 100-continue\r\n\r\n"
    response, seen = posting(HttpSettings(max_body=10), request, within=1)
    assert status_of(response) == 413
    assert b"100 Continue" not in response
    assert b"Connection: close" in response
    assert not seen


@every_server
def test_a_body_in_chunks_is_refused_as_soon_as_it_is_too_long() -> None:
    chunk = b"8\r\n01234567\r\n"
    response, seen = posting(HttpSettings(max_body=10), POST + CHUNKED, chunk, chunk, b"0\r\n\r\n")
    assert status_of(response) == 413
    assert not seen


@every_server
def test_a_body_in_chunks_that_came_at_once_is_measured_too() -> None:
    request = POST + b"Connection: close\r\n" + CHUNKED + b"b\r\n01234567890\r\n0\r\n\r\n"
    response, seen = posting(HttpSettings(max_body=10), request)
    assert status_of(response) == 413
    assert not seen


@both_servers
@pytest.mark.parametrize("begin", [b"Content-Length: 5\r\n\r\n", CHUNKED + b"5\r\n"])
def test_a_body_that_comes_too_slowly_is_a_408(begin: bytes) -> None:
    settings = HttpSettings(body_timeout=0.1)
    drops = [b"a"] * 3
    response, seen = posting(settings, POST + begin, *drops, pause=0.08)
    assert status_of(response) == 408
    assert b"Connection: close" in response
    assert not seen


@every_server
def test_a_body_whose_framing_breaks_midway_is_a_400_at_once(caplog: pytest.LogCaptureFixture) -> None:
    response, seen = posting(HttpSettings(), POST + CHUNKED + b"5\r\nhello\r\n", b"zz\r\n", within=1)
    assert status_of(response) == 400
    assert response.count(b"HTTP/1.1") == 1
    assert not seen
    assert not caplog.records


def test_framing_that_breaks_before_the_body_is_read_is_a_400_at_once() -> None:
    async def main() -> None:
        functions = Functions(h=echo)
        async with serving(functions, ("POST", "/", "h")) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            await until(lambda: len(server.connections) == 1)
            (connection,) = server.connections
            connection.data_received(POST + CHUNKED)
            connection.data_received(b"zz\r\n")
            assert (await read_response(reader))[0] == 400
            assert not functions.seen
            writer.close()

    asyncio.run(main())


@every_server
def test_a_client_that_leaves_amid_its_body_reaches_no_handler(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        records: list[AccessRecord] = []
        functions = Functions(h=echo)
        async with serving(functions, ("POST", "/", "h"), on_access=records.append) as server:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(POST + b"Content-Length: 5\r\n\r\nab")
            await asyncio.sleep(0.05)
            writer.close()
            await until(lambda: len(records) == 1)
        assert records[0].status == 499
        assert not functions.seen

    asyncio.run(main())
    assert not caplog.records


# Handlers


@every_server_and_loop
def test_a_handler_that_takes_too_long_is_cancelled_and_is_a_504(
    run: Callable[[Any], None], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        gate = Gate()
        functions = Functions(slow=gate, hello=hello)
        routes = (("GET", "/slow", "slow"), ("GET", "/", "hello"))
        async with serving(functions, *routes, settings=HttpSettings(request_timeout=0.5)) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n" + GET + b"\r\n")
            status, _, content = await read_response(reader)
            assert (status, content) == (504, b"Gateway Timeout\n")
            await until(lambda: gate.cancelled == 1)
            assert (await read_response(reader))[2] == b"hello"
            writer.close()

    run(main())
    assert [record.getMessage() for record in caplog.records] == ["GET /slow slow: no answer within 0.5 seconds"]


def test_each_task_has_its_own_time() -> None:
    async def main() -> list[object]:
        limit = TimeLimit(0.2)

        async def take(start: float, seconds: float) -> str:
            await asyncio.sleep(start)
            with limit:
                await asyncio.sleep(seconds)
            await asyncio.sleep(0.3)
            return "done"

        tasks = [take(0, 0.5), take(0.1, 0), take(0.15, 0.1), take(0.15, 0.5), take(0.5, 0.5), take(0.5, 0)]
        return await asyncio.gather(*tasks, return_exceptions=True)

    over = [isinstance(result, TimeExceeded) for result in asyncio.run(main())]
    assert over == [True, False, False, True, True, False]


def test_a_task_that_another_cancels_is_cancelled_even_as_its_time_is_over() -> None:
    async def main() -> None:
        limit = TimeLimit(0.05)

        async def take() -> None:
            with limit:
                try:
                    await asyncio.sleep(1)
                finally:
                    asyncio.current_task().cancel()

        task = asyncio.create_task(take())
        done, _ = await asyncio.wait((task,), timeout=2)
        assert done
        assert task.cancelled()

    asyncio.run(main())


@every_server
def test_more_requests_at_once_than_allowed_are_told_to_come_back() -> None:
    async def main() -> None:
        gate = Gate()
        settings = HttpSettings(max_concurrent=3)
        async with serving(Functions(g=gate), ("GET", "/", "g"), settings=settings) as server:
            waiting = [asyncio.create_task(server.raw(GET + b"Connection: close\r\n\r\n")) for _ in range(3)]
            await until(lambda: gate.begun == 3)
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(GET + b"\r\n")
            status, headers, _ = await read_response(reader)
            assert (status, headers["retry-after"]) == (503, "1")
            gate.through.set()
            assert [status_of(response) for response in await asyncio.gather(*waiting)] == [200] * 3
            writer.write(GET + b"\r\n")
            assert (await read_response(reader))[0] == 200
            writer.close()

    asyncio.run(main())


@both_servers
def test_a_failed_request_gives_its_place_back() -> None:
    async def fail(request: Request) -> Response:
        raise ValueError

    async def main() -> None:
        settings = HttpSettings(max_concurrent=1, max_body=1, body_timeout=0.05)
        routes = (("GET", "/", "f"), ("POST", "/", "f"))
        async with serving(Functions(f=fail), *routes, settings=settings) as server:
            close = b"Connection: close\r\n"
            for request, status in (
                (GET + close + b"\r\n", 500),
                (POST + close + b"Content-Length: 2\r\n\r\nab", 413),
                (POST + close + b"Content-Length: 1\r\n\r\n", 408),
                (GET + close + b"\r\n", 500),
            ):
                assert status_of(await server.raw(request)) == status

    logging.getLogger("slight_py.http").setLevel(logging.CRITICAL)
    try:
        asyncio.run(main())
    finally:
        logging.getLogger("slight_py.http").setLevel(logging.NOTSET)


@both_servers
@loops
def test_a_client_that_reads_nothing_is_cut_off_and_holds_no_place(
    run: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection_module, "SEND_STALL", 0.1)

    async def main() -> None:
        async def large(request: Request) -> Response:
            return Response(200, None, bytes(20_000_000))

        records: list[AccessRecord] = []
        settings = HttpSettings(max_concurrent=1)
        routes = (("GET", "/", "large"), ("GET", "/hello", "hello"))
        functions = Functions(large=large, hello=hello)
        async with serving(functions, *routes, settings=settings, on_access=records.append) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
            writer.write(GET + b"\r\n")
            await reader.readexactly(100)  # the handler has ended
            other = await server.raw(b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert status_of(other) == 200
            await until(lambda: len(records) == 2)
            assert [record.status for record in records] == [200, 499]
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await asyncio.wait_for(reader.readexactly(20_000_000), 5)
            writer.close()

    run(main())
    assert not caplog.records


@loops
@pytest.mark.parametrize("connection", [b"close", b"keep-alive"])
def test_a_client_that_does_not_read_the_end_of_a_response_is_cut_off(
    connection: bytes, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of it is too little for the server to wait before it goes on."""
    monkeypatch.setattr(connection_module, "SEND_STALL", 0.1)
    monkeypatch.setattr(connection_module, "IDLE_TIMEOUT", 0.2)

    async def main() -> None:
        async with _started(answering(Response(200, None, bytes(60_000))), HttpSettings()) as (service, server):
            ours, theirs = socket.socketpair()
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(service._connections, theirs)
            ours.send(GET + b"Connection: " + connection + b"\r\n\r\n")
            (protocol,) = server.connections
            await until(lambda: protocol.transport.get_write_buffer_size() > 0)
            assert not protocol.writing_paused
            await until(lambda: not server.connections)
            ours.close()
            await service.stop()

    run(main())


@every_server_and_loop
def test_a_client_that_leaves_amid_its_response_is_no_failure(
    run: Callable[[Any], None], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async def large(request: Request) -> Response:
            return Response(200, None, bytes(20_000_000))

        records: list[AccessRecord] = []
        async with serving(Functions(hello=large), on_access=records.append) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
            writer.write(GET + b"\r\n")
            await reader.readexactly(100_000)
            assert not records
            writer.transport.abort()
            await until(lambda: len(records) == 1)
        assert [record.status for record in records] == [499]

    run(main())
    gc.collect()
    assert not caplog.records


@every_server
def test_a_client_that_reads_slowly_gets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "SEND_STALL", 0.15)

    async def main() -> None:
        async def large(request: Request) -> Response:
            return Response(200, None, bytes(20_000_000))

        async with serving(Functions(large=large), ("GET", "/", "large")) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 20)
            writer.write(GET + b"Connection: close\r\n\r\n")
            got = 0
            while chunk := await reader.read(1_000_000):
                got += len(chunk)
                await asyncio.sleep(0.02)
            assert got > 20_000_000
            writer.close()

    asyncio.run(main())


# Stopping


@asynccontextmanager
async def _started(
    gate: Handler, settings: HttpSettings, method: str = "GET"
) -> AsyncIterator[tuple[HttpService, Serving]]:
    async with serving(Functions(g=gate), (method, "/", "g"), settings=settings) as server:
        yield cast(HttpService, server.service), server


@both_servers
@loops
def test_stop_lets_requests_under_way_end_and_closes_silent_connections_soon(
    run: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "GRACE", 0.1)

    async def main() -> None:
        gate = Gate()
        async with _started(gate, HttpSettings()) as (service, server):
            idle, idle_writer = await asyncio.open_connection("127.0.0.1", server.port)
            idle_writer.write(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await read_response(idle))[0] == 404
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(GET + b"\r\n")
            await until(lambda: gate.begun == 1)
            stopping = asyncio.create_task(service.stop())
            assert await asyncio.wait_for(idle.read(), 1) == b""
            assert not stopping.done()
            with pytest.raises(ConnectionError):
                await asyncio.open_connection("127.0.0.1", server.port)
            await asyncio.sleep(0.2)
            assert not stopping.done()
            gate.through.set()
            status, headers, content = await read_response(reader)
            assert (status, headers["connection"], content) == (200, "close", b"through")
            assert await asyncio.wait_for(reader.read(), 1) == b""
            await asyncio.wait_for(stopping, 1)
            writer.close()
            idle_writer.close()

    run(main())


@every_server_and_loop
def test_stop_cancels_what_still_runs_after_the_drain_timeout(run: Callable[[Any], None]) -> None:
    async def main() -> None:
        gate = Gate()
        async with _started(gate, HttpSettings(drain_timeout=0.1)) as (service, server):
            waiting = [asyncio.create_task(server.raw(GET + b"\r\n")) for _ in range(3)]
            await until(lambda: gate.begun == 3)
            began = time.perf_counter()
            await service.stop()
            assert 0.1 <= time.perf_counter() - began < 5
            assert gate.cancelled == 3
            assert await asyncio.gather(*waiting) == [b""] * 3

    run(main())


def test_stop_waits_until_cancelled_handlers_have_ended() -> None:
    async def main() -> None:
        begun, ended = asyncio.Event(), False

        async def unwinds(request: Request) -> Response:
            nonlocal ended
            begun.set()
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.2)
                ended = True
            return Response(200, None, b"")

        async with serving(Functions(hello=unwinds), settings=HttpSettings(drain_timeout=0.05)) as server:
            waiting = asyncio.create_task(server.raw(GET + b"\r\n"))
            await begun.wait()
            await server.service.stop()
            assert ended
            assert await waiting == b""

    asyncio.run(main())


@every_server
@pytest.mark.parametrize("begun", [b"", b"G", GET, GET + b"X: y\r\n\r"])
def test_stop_answers_what_arrives_in_time_and_says_that_it_is_the_last(begun: bytes) -> None:
    async def main() -> None:
        gate = Gate()
        gate.through.set()
        async with _started(gate, HttpSettings()) as (service, server):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(begun)
            await asyncio.sleep(0.1)  # it is accepted, and what it sent is there
            stopping = asyncio.create_task(service.stop())
            await asyncio.sleep(0.2)
            writer.write((GET + b"X: y\r\n\r\n").removeprefix(begun))
            status, headers, content = await read_response(reader)
            assert (status, headers["connection"], content) == (200, "close", b"through")
            assert await asyncio.wait_for(reader.read(), 1) == b""  # and no reset
            writer.close()
            await asyncio.wait_for(stopping, 1)
            assert gate.begun == 1

    asyncio.run(main())


@every_server
def test_stop_bounds_what_never_arrives_by_the_drain_timeout() -> None:
    async def main() -> None:
        async with _started(Gate(), HttpSettings(drain_timeout=0.3)) as (service, server):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(GET)
            await asyncio.sleep(0.1)  # it is accepted, and what it sent is there
            began = time.perf_counter()
            await service.stop()
            assert 0.3 <= time.perf_counter() - began < 5
            assert await asyncio.wait_for(reader.read(), 1) == b""
            writer.close()

    asyncio.run(main())


@every_server_and_loop
def test_stop_resets_nobody_who_sends_bodies_on_connections_that_are_kept(run: Callable[[Any], None]) -> None:
    body = bytes(20_000)
    request = POST + b"Content-Length: 20000\r\n\r\n" + body

    async def main() -> None:
        async with _started(echo, HttpSettings(), method="POST") as (service, server):
            answered = 0

            async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
                """Whether the connection goes on."""
                nonlocal answered
                writer.write(request)
                status, headers, content = await read_response(reader)
                assert (status, content) == (200, body)
                answered += 1
                return headers.get("connection") != "close"

            async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                while await ask(reader, writer):
                    pass
                assert await reader.read() == b""
                writer.close()

            connections = []
            for _ in range(8):
                connections.append(await asyncio.open_connection("127.0.0.1", server.port))
                assert await ask(*connections[-1])
            clients = [asyncio.create_task(client(*each)) for each in connections]
            await until(lambda: answered > 100)
            await service.stop()
            await asyncio.wait_for(asyncio.gather(*clients), SECONDS)

    run(main())


def test_stop_answers_a_request_that_was_just_received() -> None:
    async def main() -> None:
        gate = Gate()
        gate.through.set()
        async with _started(gate, HttpSettings()) as (service, server):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            await asyncio.sleep(0.02)
            stops: list[asyncio.Task[None]] = []
            (connection,) = server.connections
            forward = connection.data_received

            class Watch:
                """Stands in for the connection's protocol, to stop the server the moment data is in."""

                def __getattr__(self, name: str) -> Any:
                    return getattr(connection, name)

                def data_received(self, data: bytes) -> None:
                    stops.append(asyncio.create_task(service.stop()))
                    forward(data)

            connection.transport.set_protocol(Watch())
            writer.write(GET + b"\r\n")
            assert (await read_response(reader))[0] == 200
            await stops[0]
            writer.close()

    asyncio.run(main())


def test_stop_answers_on_a_connection_that_was_being_accepted() -> None:
    async def main() -> None:
        gate = Gate()
        async with _started(gate, HttpSettings()) as (service, server):
            waiting = asyncio.create_task(server.raw(GET + b"\r\n"))
            await until(lambda: gate.begun == 1)
            stopping = asyncio.create_task(service.stop())
            await asyncio.sleep(0.02)
            ours, theirs = socket.socketpair()
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(service._connections, theirs)
            gate.through.set()
            reader, writer = await asyncio.open_connection(sock=ours)
            writer.write(GET + b"\r\n")
            status, headers, _ = await read_response(reader)
            assert (status, headers["connection"]) == (200, "close")
            writer.close()
            await stopping
            await waiting

    asyncio.run(main())


@every_server
def test_stop_may_be_called_again_and_at_the_same_time() -> None:
    async def main() -> None:
        gate = Gate()
        async with _started(gate, HttpSettings()) as (service, server):
            waiting = asyncio.create_task(server.raw(GET + b"\r\n"))
            await until(lambda: gate.begun == 1)
            stops = [asyncio.create_task(service.stop()) for _ in range(2)]
            await asyncio.sleep(0.02)
            assert not any(stop.done() for stop in stops)
            gate.through.set()
            await asyncio.gather(*stops)
            await service.stop()
            assert status_of(await waiting) == 200

    asyncio.run(main())


def test_stop_before_the_start_does_nothing() -> None:
    async def main() -> None:
        await HttpService(Functions()).stop()

    asyncio.run(main())


@every_server
def test_stop_does_not_wait_for_clients_that_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "LINGER", 5.0)

    async def main() -> None:
        functions = Functions(h=hello)
        async with serving(functions, ("POST", "/", "h"), settings=HttpSettings(max_body=1)) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(POST + b"Content-Length: 100\r\n\r\n")
            assert (await read_response(reader))[0] == 413
            began = time.perf_counter()
            await server.service.stop()
            assert await asyncio.wait_for(reader.read(), 2) == b""
            assert time.perf_counter() - began < 2
            writer.close()

    asyncio.run(main())


@every_server
def test_stop_receives_a_body_that_is_on_its_way() -> None:
    async def main() -> None:
        functions = Functions(e=echo)
        async with serving(functions, ("POST", "/", "e")) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(POST + b"Content-Length: 8\r\n\r\nhalf")
            await asyncio.sleep(0.1)  # the first half is there
            stopping = asyncio.create_task(server.service.stop())
            await asyncio.sleep(0.2)
            behind = POST + CHUNKED + b"1;" + b"x" * 1_000_000  # which would be malformed, and is not answered
            writer.write(b"full" + GET + b"\r\n" + behind)
            status, headers, body = await read_response(reader)
            assert (status, body) == (200, b"halffull")
            assert headers["connection"] == "close"
            assert await reader.read() == b""
            await stopping
            writer.close()
        assert len(functions.seen) == 1

    asyncio.run(main())


# Requests made to confuse


@every_server
@pytest.mark.parametrize(
    "request_",
    [
        POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        POST + b"Content-Length: 3, 3\r\n\r\nabc",
        POST + b"Content-Length: +3\r\n\r\nabc",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: 0x3\r\n\r\nabc",
        POST + b"Content-Length: 99999999999999999999999\r\n\r\nabc",
        POST + b"Content-Length: 3\r\n" + CHUNKED + b"0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        POST + CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n",
        POST + CHUNKED + b"-1\r\nabc\r\n0\r\n\r\n",
        POST + CHUNKED + b"3\r\nabcdef\r\n0\r\n\r\n",
        POST + CHUNKED + b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        POST + CHUNKED + b"3\nabc\r\n0\r\n\r\n",
        POST + b"X: a\r\n folded: b\r\n\r\n",
        POST + b"X: a\0b\r\n\r\n",
        POST + b"X: a\rb\r\n\r\n",
        POST + b"X y: a\r\n\r\n",
        POST + b": a\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST / HTTP/1.1\nHost: a\n\n",
        b"POST /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_a_request_that_two_servers_could_read_in_two_ways_is_refused(
    request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        functions = Functions(h=echo)
        async with serving(functions, ("POST", "/", "h"), ("POST", "/*", "h")) as server:
            response = await server.raw(request_)
            assert status_of(response) == 400
            assert response.count(b"HTTP/1.1 ") == 1
            assert response.endswith(b"\r\n\r\nBad Request\n")
            assert b"Connection: close\r\n" in response
            assert not functions.seen

    asyncio.run(main())
    assert not caplog.records


@every_server
def test_a_version_that_is_not_http_1_is_a_505() -> None:
    async def main() -> None:
        async with serving(Functions(hello=hello)) as server:
            response = await server.raw(b"GET / HTTP/2.0\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert status_of(response) == 505

    asyncio.run(main())


@every_server
@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"X: " + b"a" * 1_000_000, 431),
        (b"a" * 1_000_000 + b": x", 431),
        (b"X: " + b"a" * 8000, 200),
        (b"\r\n".join(b"X: a" for _ in range(1000)), 400),
        (b"\r\n".join(b"X: a" for _ in range(100)), 200),
    ],
)
def test_a_head_that_is_too_long_is_refused(head: bytes, status: int) -> None:
    async def main() -> None:
        async with serving(Functions(hello=hello)) as server:
            response = await server.raw(GET + b"Connection: close\r\n" + head + b"\r\n\r\n")
            assert status_of(response) == status

    asyncio.run(main())


@both_servers
def test_a_connection_that_sends_no_request_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "IDLE_TIMEOUT", 0.1)

    async def main() -> None:
        async with serving(Functions(hello=hello)) as server:
            assert await server.raw(b"", timeout=2) == b""
            assert await server.raw(GET, timeout=2) == b""
            response = await server.raw(GET + b"\r\n", timeout=2)
            assert status_of(response) == 200

    asyncio.run(main())


@both_servers
def test_a_connection_is_idle_between_requests_and_not_during_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "IDLE_TIMEOUT", 0.3)

    async def slow(request: Request) -> Response:
        await asyncio.sleep(0.5)
        return Response(200, None, b"slow")

    async def main() -> None:
        async with serving(Functions(s=slow, h=hello), ("GET", "/slow", "s"), ("GET", "/", "h")) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            for _ in range(3):
                writer.write(GET + b"\r\n")
                assert (await read_response(reader))[0] == 200
                await asyncio.sleep(0.15)
            writer.write(GET.replace(b"/", b"/slow", 1) + b"\r\n")
            assert (await read_response(reader))[2] == b"slow"
            began = time.perf_counter()
            assert await asyncio.wait_for(reader.read(), 2) == b""
            assert 0.25 < time.perf_counter() - began < 1
            writer.close()

    asyncio.run(main())


@loops
def test_a_client_that_asks_more_than_it_is_answered_is_not_read_on(run: Callable[..., Any]) -> None:
    count = 1_000_000
    request = GET + b"\r\n"

    async def main() -> None:
        gate = Gate()
        async with serving(Functions(hello=gate)) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(request * count)
            await until(lambda: gate.begun == 1)
            await asyncio.sleep(0.1)
            (connection,) = server.connections
            assert len(connection._parsed) <= connection_module.MAX_PIPELINED
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(writer.drain(), 0.2)
            gate.through.set()
            for _ in range(200):
                assert (await read_response(reader))[2] == b"through"
            assert len(connection._parsed) <= connection_module.MAX_PIPELINED
            writer.transport.abort()
        assert 200 <= gate.begun < count

    run(main())


@every_server_and_loop
def test_bodies_that_come_after_their_heads_use_up_nothing(run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with serving(Functions(e=echo), ("POST", "/", "e"), ("GET", "/", "e")) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            for _ in range(3 * connection_module.MAX_PIPELINED):
                writer.write(POST + b"Content-Length: 1\r\n\r\n")
                await asyncio.sleep(0.002)
                writer.write(b"x")
                assert (await read_response(reader))[::2] == (200, b"x")
            writer.write((GET + b"\r\n") * 100)
            for _ in range(100):
                assert (await read_response(reader))[0] == 200
            writer.close()

    run(main())


@loops
def test_a_client_that_asks_much_at_once_leaves_others_their_turn(run: Callable[..., Any]) -> None:
    async def busy(request: Request) -> Response:
        time.sleep(0.0001)  # noqa: ASYNC251  # as a guest that computes
        return Response(200, None, b"")

    async def main() -> None:
        async with serving(Functions(hello=busy)) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write((GET + b"\r\n") * 5000)
            longest, done = 0.0, asyncio.create_task(reader.readuntil(b"never"))
            while len(server.functions.seen) < 5000:
                began = time.perf_counter()
                await asyncio.sleep(0)
                longest = max(longest, time.perf_counter() - began)
            done.cancel()
            await asyncio.gather(done, return_exceptions=True)
            writer.transport.abort()
        assert longest < 0.2

    run(main())


@every_server_and_loop
def test_stop_answers_all_requests_that_wait_on_a_connection(run: Callable[..., Any]) -> None:
    async def slow(request: Request) -> Response:
        await asyncio.sleep(0.1)
        return Response(200, None, b"")

    async def main() -> None:
        functions = Functions(hello=slow)
        async with serving(functions) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write((GET + b"\r\n") * 3)
            await until(lambda: len(functions.seen) == 1)
            stopping = asyncio.create_task(server.service.stop())
            for connection in (None, None, "close"):
                status, headers, _ = await read_response(reader)
                assert (status, headers.get("connection")) == (200, connection)
            assert await reader.read() == b""
            await stopping
            writer.close()

    run(main())


@loops
def test_a_client_that_says_no_more_gets_what_is_written(run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with serving(Functions(hello=hello)) as server:
            for _ in range(20):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(GET + b"\r\n")
                writer.write_eof()
                assert (await read_response(reader))[2] == b"hello"
                writer.close()

    run(main())


@loops
@pytest.mark.parametrize("count", [1, 16, 30, 100])
def test_all_requests_of_a_client_that_says_no_more_are_answered(count: int, run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with serving(Functions(hello=hello)) as server:
            for _ in range(5):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write((GET + b"\r\n") * count)
                writer.write_eof()
                answer = await asyncio.wait_for(reader.read(), 5)
                assert answer.count(b"HTTP/1.1 200 ") == count
                writer.close()

    run(main())


@every_server_and_loop
def test_a_client_that_goes_on_with_a_head_that_is_too_long_gets_to_read_why(run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with serving(Functions(hello=hello)) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(GET + b"X: ")
            for _ in range(40):
                writer.write(b"x" * 100_000)
                await asyncio.sleep(0.001)
            assert (await read_response(reader))[0] == 431
            assert await reader.read() == b""
            writer.close()

    run(main())


@every_server
def test_a_length_of_many_zeros_is_a_length() -> None:
    async def main() -> None:
        async with serving(Functions(e=echo), ("POST", "/", "e")) as server:
            response = await server.raw(POST + b"Connection: close\r\nContent-Length: " + b"0" * 5000 + b"3\r\n\r\nabc")
            assert status_of(response) == 200
            assert response.endswith(b"abc")

    asyncio.run(main())


@every_server
def test_requests_on_many_connections_at_once_are_answered() -> None:
    async def main() -> None:
        async with serving(Functions(hello=hello)) as server:

            async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(GET + b"\r\n")
                assert (await read_response(reader))[0] == 200
                return reader, writer

            # One after the other: a port that QEMU forwards loses some of those that connect at once.
            connections = [await connect() for _ in range(200)]
            for _, writer in connections:
                writer.write(GET + b"\r\n")
            for reader, writer in connections:
                assert (await read_response(reader))[0] == 200
                writer.close()

    asyncio.run(main())


@both_servers
def test_a_hundred_connections_at_once_are_served() -> None:
    async def main() -> None:
        async with serving(Functions(hello=hello)) as server, aiohttp.ClientSession() as client:

            async def status() -> int:
                async with client.get(server.url) as response:
                    return response.status

            assert await asyncio.gather(*(status() for _ in range(300))) == [200] * 300

    asyncio.run(main())


@every_server_and_loop
def test_clients_that_read_nothing_hold_no_more_than_the_budget(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection_module, "MAX_UNSENT", 20_000_000)

    async def main() -> None:
        async def large(request: Request) -> Response:
            return Response(200, None, bytes(18_000_000 if request.uri == "/much" else 8_000_000))

        functions = Functions(large=large, hello=hello)
        async with serving(functions, ("GET", "/*", "large"), ("GET", "/hello", "hello")) as server:
            clients: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
            for path in (b"/some", b"/much", b"/other"):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
                writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n")
                await until(lambda: len(functions.seen) == len(clients) + 1)  # it's over before the next
                clients.append((reader, writer))
            # The one that holds the most is cut off; those that hold less get to read all of it.
            await until(lambda: len(caplog.records) == 1)
            for reader, _ in (clients[0], clients[2]):
                await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SECONDS)
                assert len(await asyncio.wait_for(reader.readexactly(8_000_000), SECONDS)) == 8_000_000
            for _, writer in clients:
                writer.close()

    run(main())
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "127.0.0.1 is cut off" in caplog.text
