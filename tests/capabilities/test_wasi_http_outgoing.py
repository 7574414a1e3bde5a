"""wasi:http/outgoing-handler 0.2 against servers on 127.0.0.1: bodies that are streamed both ways, limits, errors."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import uvloop
from aiohttp import web

from bindgen.runtime import Err, Ok
from capabilities import notices
from capabilities.bindings.wasi_http_0_2 import types
from capabilities.bindings.wasi_io_0_2.streams import StreamErrorClosed, StreamErrorLastOperationFailed
from capabilities.http_client import client as client_module
from capabilities.http_client.client import HttpClient
from capabilities.http_client.host import hosts
from capabilities.wasi.http import (
    IncomingResponse,
    OutgoingBody,
    OutgoingRequest,
    RequestOptions,
    TypesHost,
)
from capabilities.wasi.http_fields import FieldList
from capabilities.wasi.http_outgoing import FutureIncomingResponse, OutgoingHandlerHost
from capabilities.wasi.io import poll
from tests.http_origin import Origin, origin, raw_origin
from tests.servers import HOST, free_port, make_certificate

HOSTS = TypesHost()
LOCAL = {"ALLOW_PRIVATE": HOST}

loops = pytest.mark.parametrize("loop", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


def run(
    use: Callable[[OutgoingHandlerHost], Awaitable[None]],
    configs: Mapping[str, str] = LOCAL,
    loop: Any = asyncio.run,
    **arguments: Any,
) -> None:
    """Runs a test with a client of its own."""

    async def main() -> None:
        sender = HttpClient(configs, environment={}, **arguments)
        try:
            async with asyncio.timeout(20):
                await use(OutgoingHandlerHost(sender))
            assert sender._streamed == 0, "all that was begun is over"
        finally:
            await sender.close()

    loop(main())


async def asking(
    server: Origin, method: types.Method | None = None, path: str = "/", headers: Any = ()
) -> OutgoingRequest:
    request = await HOSTS.outgoing_request_new(await HOSTS.fields_from_list(headers))
    await request.set_scheme(types.SchemeHTTPS() if server.scheme == "https" else types.SchemeHTTP())
    await request.set_authority(f"{server.host}:{server.port}")
    await request.set_path_with_query(path)
    await request.set_method(method or types.MethodGet())
    return request


async def answer_of(future: FutureIncomingResponse) -> Ok[IncomingResponse] | Err[types.ErrorCode]:
    await (await future.subscribe()).block()
    answer = await future.get()
    assert isinstance(answer, Ok)
    future.on_drop()
    return answer.value


async def response_of(future: FutureIncomingResponse) -> IncomingResponse:
    answer = await answer_of(future)
    assert isinstance(answer, Ok), answer.value
    return answer.value


async def error_of(future: FutureIncomingResponse) -> types.ErrorCode:
    answer = await answer_of(future)
    assert isinstance(answer, Err)
    return answer.value


async def refused(begun: Awaitable[object]) -> types.ErrorCode:
    """The error of a request that is not even begun."""
    with pytest.raises(Err) as raised:
        await begun
    code: types.ErrorCode = raised.value.value
    return code


async def read(response: IncomingResponse) -> tuple[bytes, Any]:
    """The body, and its trailers or the error."""
    body = await response.consume()
    stream = await body.stream()
    pieces: list[bytes] = []
    failure: Any = None
    while failure is None:
        try:
            pieces.append(await stream.blocking_read(1 << 20))
        except Err as error:
            failure = error.value
    stream.on_drop()
    future = await HOSTS.incoming_body_finish(body)
    await (await future.subscribe()).block()
    answer = await future.get()
    assert isinstance(answer, Ok)
    found: Any = answer.value.value
    if isinstance(answer.value, Ok):
        assert failure == StreamErrorClosed()
        found = await found.entries() if found is not None else None
    response.on_drop()
    return b"".join(pieces), found


async def write(body: OutgoingBody, *pieces: bytes, pause: float = 0.0, trailers: Any = None) -> None:
    stream = await body.write()
    for piece in pieces:
        await stream.blocking_write_and_flush(piece)
        await asyncio.sleep(pause)
    stream.on_drop()
    await HOSTS.outgoing_body_finish(body, trailers and await HOSTS.fields_from_list(trailers))


# Requests and responses.


@loops
def test_a_request_without_a_body(loop: Any) -> None:
    async def use(host: OutgoingHandlerHost) -> None:
        async with origin() as server:
            request = await asking(server, path="/a?b=%2F", headers=[("X-A", b"1"), ("x-a", b"\xc3\xbc")])
            response = await response_of(await host.handle(request, None))
            assert await response.status() == 200
            assert await read(response) == (b"", None)
            (seen,) = server.seen
        assert (seen.method, seen.target, seen.body) == ("GET", "/a?b=%2F", b"")
        assert seen.values("x-a") == ["1", "ü"]
        assert seen.values("host") == [f"{HOST}:{server.port}"]
        assert seen.values("content-length") == seen.values("transfer-encoding") == []

    run(use, loop=loop)


@pytest.mark.parametrize("method", [types.MethodPost(), types.MethodDelete(), types.MethodOther("MOVE")])
def test_a_body_that_is_written_at_once_has_a_length(method: types.Method) -> None:
    async def use(host: OutgoingHandlerHost) -> None:
        async with origin() as server:
            request = await asking(server, method)
            body = await request.body()
            future = await host.handle(request, None)
            stream = await body.write()
            await stream.blocking_write_and_flush(b"hello")
            stream.on_drop()
            await HOSTS.outgoing_body_finish(body, None)
            assert await read(await response_of(future)) == (b"hello", None)
            (seen,) = server.seen
        assert seen.body == b"hello"
        assert seen.values("content-length") == ["5"]

    run(use)


@loops
@pytest.mark.parametrize("length", [None, b"10"])
def test_a_body_that_takes_time_is_streamed(loop: Any, length: bytes | None) -> None:
    async def use(host: OutgoingHandlerHost) -> None:
        async with origin() as server:
            headers = [] if length is None else [("Content-Length", length)]
            request = await asking(server, types.MethodPut(), headers=headers)
            body = await request.body()
            future = await host.handle(request, None)
            await write(body, b"hello", b"world", pause=0.02)
            assert await read(await response_of(future)) == (b"helloworld", None)
            (seen,) = server.seen
        assert seen.body == b"helloworld"
        assert seen.values("content-length") == ([] if length is None else ["10"])
        assert seen.values("transfer-encoding") == (["chunked"] if length is None else [])

    run(use, loop=loop)


def test_a_body_may_be_written_before_the_request_is_handed_over() -> None:
    async def use(host: OutgoingHandlerHost) -> None:
        async with origin() as server:
            request = await asking(server, types.MethodPost())
            await write(await request.body(), b"hello")
            assert await read(await response_of(await host.handle(request, None))) == (b"hello", None)

    run(use)


def test_a_server_may_answer_before_the_body_is_sent() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            size = int(await reader.readline(), 16)
            data = (await reader.readexactly(size + 2))[:-2]
            writer.write(b"%x\r\n%s\r\n" % (size, data.upper()))
        assert await reader.readexactly(5) == b"0\r\n\r\n"
        writer.write(b"0\r\n\r\n")

    async def use(host: OutgoingHandlerHost) -> None:
        async with raw_origin(talk) as server:
            request = await asking(server, types.MethodPost())
            body = await request.body()
            future = await host.handle(request, None)
            output = await body.write()
            response = await response_of(future)
            incoming = await response.consume()
            stream = await incoming.stream()
            for word in (b"one", b"two", b"three"):
                await output.blocking_write_and_flush(word)
                assert await stream.blocking_read(100) == word.upper()
            output.on_drop()
            await HOSTS.outgoing_body_finish(body, None)
            with pytest.raises(Err, match="Closed"):
                await stream.blocking_read(100)
            stream.on_drop()
            incoming.on_drop()
            response.on_drop()

    run(use)


@pytest.mark.parametrize("pause", [0.0, 0.02])
def test_trailers_both_ways(pause: float) -> None:
    got: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        got.append(await reader.readuntil(b"1\r\n\r\n"))
        writer.write(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-B: 2\r\nHost: h\r\n\r\n"
        )

    async def use(host: OutgoingHandlerHost) -> None:
        async with raw_origin(talk) as server:
            request = await asking(server, types.MethodPost())
            body = await request.body()
            future = await host.handle(request, None)
            await write(body, b"hi", pause=pause, trailers=[("X-A", b"1")])
            assert await read(await response_of(future)) == (b"hello", [("x-b", b"2")])

    run(use)
    assert got == [b"2\r\nhi\r\n0\r\nX-A: 1\r\n\r\n"]


def test_what_a_guest_sees_of_a_response() -> None:
    answer = b"HTTP/1.1 404 Gone\r\nX-One: 1\r\nConnection: close\r\nx-ONE: \xff\r\nContent-Length: 2\r\n\r\nno"

    async def use(host: OutgoingHandlerHost) -> None:
        async with raw_origin(answer) as server:
            response = await response_of(await host.handle(await asking(server), None))
            assert await response.status() == 404
            headers = await response.headers()
            assert await headers.entries() == [("x-one", b"1"), ("x-one", b"\xff"), ("content-length", b"2")]
            with pytest.raises(Err, match="Immutable"):
                await headers.append("a", b"b")
            headers.on_drop()
            assert (await read(response))[0] == b"no"
            with pytest.raises(Err, match="None"):
                await response.consume()

    run(use)


def test_redirects_are_the_guests_to_follow() -> None:
    async def use(host: OutgoingHandlerHost) -> None:
        async with raw_origin(b"HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n") as server:
            response = await response_of(await host.handle(await asking(server), None))
            assert await response.status() == 302
            response.on_drop()
            assert server.connections == 1

    run(use)


@pytest.mark.parametrize("method", [types.MethodHead(), types.MethodGet()])
def test_responses_without_a_body(method: types.Method) -> None:
    status = b"200 OK\r\nContent-Length: 9" if method == types.MethodHead() else b"204 No Content"

    async def use(host: OutgoingHandlerHost) -> None:
        async with raw_origin(b"HTTP/1.1 " + status + b"\r\n\r\n") as server:
            response = await response_of(await host.handle(await asking(server, method), None))
            assert await read(response) == (b"", None)

    run(use)


def test_a_future_is_asked_once() -> None:
    async def use(host: OutgoingHandlerHost) -> None:
        async with origin() as server:
            future = await host.handle(await asking(server), None)
            assert await future.get() is None
            pollable = await future.subscribe()
            assert not await pollable.ready()
            assert await poll([pollable]) == [0]
            first, second = await future.get(), await future.get()
            assert isinstance(first, Ok)
            assert isinstance(first.value, Ok)
            assert isinstance(second, Err)
            assert second.value is None
            first.value.value.on_drop()

    run(use)


def test_connections_are_used_again() -> None:
    async def use(host: OutgoingHandlerHost) -> None:
        async with origin() as server:
            for _ in range(5):
                request = await asking(server, types.MethodPost())
                await write(await request.body(), b"hello", trailers=[("a", b"b")])
                assert (await read(await response_of(await host.handle(request, None))))[0] == b"hello"
            assert server.connections == 1

    run(use)


def test_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    make_certificate(certificate, key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def trusted(host: OutgoingHandlerHost) -> None:
        async with origin(tls=context) as server:
            request = await asking(server, types.MethodPost())
            await write(await request.body(), b"hello")
            assert (await read(await response_of(await host.handle(request, None))))[0] == b"hello"

    async def untrusted(host: OutgoingHandlerHost) -> None:
        async with origin(tls=context) as server:
            code = await error_of(await host.handle(await asking(server), None))
            assert code == types.ErrorCodeTLSCertificateError()

    run(untrusted)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    run(trusted)


# Back pressure.


@loops
def test_a_guest_that_does_not_read_stops_the_server(loop: Any) -> None:
    sent = 0

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(640):
            await response.write(bytes(1 << 16))
            sent += 1 << 16
        return response

    async def use(host: OutgoingHandlerHost) -> None:
        async with origin(answer) as server:
            response = await response_of(await host.handle(await asking(server), None))
            await asyncio.sleep(0.3)
            before = sent
            await asyncio.sleep(0.1)
            assert sent == before < 20 << 20
            data, _ = await read(response)
            assert len(data) == 640 << 16

    run(use, loop=loop)


@loops
def test_a_server_that_does_not_read_stops_the_guest(loop: Any) -> None:
    written = size = 0
    begin = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal size
        await reader.readuntil(b"\r\n\r\n")
        await begin.wait()
        while size < 40 << 20:
            size += len(await reader.read(1 << 20))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async def use(host: OutgoingHandlerHost) -> None:
        async with raw_origin(talk) as server:
            request = await asking(server, types.MethodPost(), headers=[("content-length", b"%d" % (40 << 20))])
            body = await request.body()
            future = await host.handle(request, None)
            stream = await body.write()
            pollable = await stream.subscribe()

            async def write_all() -> None:
                nonlocal written
                while written < 40 << 20:
                    permit = await stream.check_write()
                    if permit:
                        await stream.write(bytes(min(permit, (40 << 20) - written)))
                        written += min(permit, (40 << 20) - written)
                    else:
                        await poll([pollable])
                stream.on_drop()
                await HOSTS.outgoing_body_finish(body, None)

            writing = asyncio.create_task(write_all())
            await asyncio.sleep(0.3)
            before = written
            await asyncio.sleep(0.1)
            assert written == before < 20 << 20
            begin.set()
            await writing
            assert await (await response_of(future)).status() == 204
            assert size == 40 << 20

    loop_run = loop

    async def main() -> None:
        sender = HttpClient(LOCAL, environment={})
        try:
            async with asyncio.timeout(20):
                await use(OutgoingHandlerHost(sender))
        finally:
            await sender.close()

    loop_run(main())


# What is refused.


def test_what_is_not_granted_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(notices, "tell", told.append)

    async def use(host: OutgoingHandlerHost) -> None:
        request = OutgoingRequest(FieldList())
        await request.set_authority("denied.example")
        assert await refused(host.handle(request, None)) == types.ErrorCodeHTTPRequestDenied()
        await request.set_authority("granted.example")
        await request.set_scheme(types.SchemeHTTP())
        assert await refused(host.handle(request, None)) == types.ErrorCodeHTTPRequestDenied()

    run(use, {"ALLOW_HOSTS": "granted.example", "ALLOW_SCHEMES": "https"})
    assert "ALLOW_HOSTS" in told[0]
    assert "ALLOW_SCHEMES" in told[1]


def test_an_address_that_is_not_public_is_refused() -> None:
    async def literal(host: OutgoingHandlerHost) -> None:
        async with origin() as server:
            assert await refused(host.handle(await asking(server), None)) == types.ErrorCodeDestinationIPProhibited()
            assert server.connections == 0

    async def look_up(name: str) -> list[Any]:
        from ipaddress import ip_address

        return [ip_address("10.0.0.1")]

    async def name(host: OutgoingHandlerHost) -> None:
        request = OutgoingRequest(FieldList())
        await request.set_authority("a.example")
        code = await error_of(await host.handle(request, None))
        assert code == types.ErrorCodeDestinationIPProhibited()

    run(literal, {})
    run(name, {}, look_up=look_up)


def test_requests_that_make_no_sense() -> None:
    async def use(host: OutgoingHandlerHost) -> None:
        request = OutgoingRequest(FieldList())
        assert await refused(host.handle(request, None)) == types.ErrorCodeHTTPRequestURIInvalid()
        await request.set_authority("a.example")
        await request.set_scheme(types.SchemeOther("ftp"))
        assert await refused(host.handle(request, None)) == types.ErrorCodeHTTPRequestURIInvalid()
        await request.set_scheme(None)
        await request.set_method(types.MethodConnect())
        assert await refused(host.handle(request, None)) == types.ErrorCodeHTTPRequestMethodInvalid()
        for name, value in (("a", b"\xff"), ("content-length", b"x")):
            bad = OutgoingRequest(FieldList([(name, value)]))
            await bad.set_authority("a.example")
            await bad.body()
            assert await refused(host.handle(bad, None)) == types.ErrorCodeHTTPProtocolError()

    run(use)


def test_a_body_of_a_request_that_is_refused_is_over() -> None:
    async def use(host: OutgoingHandlerHost) -> None:
        request = OutgoingRequest(FieldList())
        body = await request.body()
        await refused(host.handle(request, None))
        stream = await body.write()
        with pytest.raises(Err, match="Closed"):
            await stream.blocking_write_and_flush(b"hello")
        stream.on_drop()
        await HOSTS.outgoing_body_finish(body, None)

    run(use)


def test_too_many_requests_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_STREAMED", 2)

    async def use(host: OutgoingHandlerHost) -> None:
        async with raw_origin(_silent) as server:
            futures = [await host.handle(await asking(server), None) for _ in range(3)]
            assert await error_of(futures[2]) == types.ErrorCodeConnectionLimitReached()
            for future in futures:
                future.on_drop()
            await asyncio.sleep(0.05)

    run(use)


# What goes wrong.


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


def test_nobody_listens() -> None:
    async def use(host: OutgoingHandlerHost) -> None:
        code = await error_of(await host.handle(await asking(Origin(free_port())), None))
        assert code == types.ErrorCodeConnectionRefused()

    run(use)


def test_a_name_that_nobody_knows() -> None:
    from socket import EAI_NONAME, gaierror

    async def look_up(name: str) -> list[Any]:
        raise gaierror(EAI_NONAME, "no such name")

    async def use(host: OutgoingHandlerHost) -> None:
        request = OutgoingRequest(FieldList())
        await request.set_authority("nowhere.example")
        code = await error_of(await host.handle(request, None))
        assert isinstance(code, types.ErrorCodeDNSError)

    run(use, look_up=look_up)


@pytest.mark.parametrize(
    ("talk", "code"),
    [
        (b"", types.ErrorCodeHTTPResponseIncomplete()),
        (b"nonsense\r\n\r\n", types.ErrorCodeHTTPProtocolError()),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", types.ErrorCodeHTTPProtocolError()),
    ],
)
def test_answers_that_are_none(talk: bytes, code: types.ErrorCode) -> None:
    async def use(host: OutgoingHandlerHost) -> None:
        async with raw_origin(talk) as server:
            assert await error_of(await host.handle(await asking(server), None)) == code

    run(use)


@pytest.mark.parametrize("framing", [b"Content-Length: 9\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n9\r\n"])
def test_a_response_that_ends_early(framing: bytes) -> None:
    async def use(host: OutgoingHandlerHost) -> None:
        async with raw_origin(b"HTTP/1.1 200 OK\r\n" + framing + b"hello") as server:
            response = await response_of(await host.handle(await asking(server), None))
            body = await response.consume()
            stream = await body.stream()
            assert await stream.blocking_read(100) == b"hello"
            with pytest.raises(Err) as raised:
                await stream.blocking_read(100)
            failure = raised.value.value
            assert isinstance(failure, StreamErrorLastOperationFailed)
            assert await HOSTS.http_error_code(failure.value) == types.ErrorCodeHTTPResponseIncomplete()
            stream.on_drop()
            body.on_drop()

    run(use)


def test_a_response_larger_than_is_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(notices, "tell", told.append)

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=bytes((1 << 20) + 1))

    async def use(host: OutgoingHandlerHost) -> None:
        async with origin(answer) as server:
            response = await response_of(await host.handle(await asking(server), None))
            data, error = await read(response)
            assert len(data) <= 1 << 20
            assert error == types.ErrorCodeHTTPResponseBodySize(None)

    run(use, {**LOCAL, "MAX_RESPONSE_MIB": "1"})
    assert ["MAX_RESPONSE_MIB" in notice for notice in told] == [True]


async def options(**timeouts: float) -> RequestOptions:
    made = RequestOptions()
    for name, seconds in timeouts.items():
        await getattr(made, f"set_{name}_timeout")(int(seconds * 1e9))
    return made


def test_a_response_that_takes_too_long() -> None:
    async def use(host: OutgoingHandlerHost) -> None:
        async with raw_origin(_silent) as server:
            future = await host.handle(await asking(server), await options(first_byte=0.1))
            assert await error_of(future) == types.ErrorCodeHTTPResponseTimeout()

    run(use)


def test_a_long_upload_is_no_delay_of_the_response() -> None:
    async def use(host: OutgoingHandlerHost) -> None:
        async with origin() as server:
            request = await asking(server, types.MethodPost())
            body = await request.body()
            future = await host.handle(request, await options(first_byte=0.2))
            await write(body, *[b"a"] * 10, pause=0.05)
            assert (await read(await response_of(future)))[0] == b"a" * 10

    run(use)


def test_a_body_that_stalls() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
        await reader.read()

    async def use(host: OutgoingHandlerHost) -> None:
        async with raw_origin(talk) as server:
            future = await host.handle(await asking(server), await options(between_bytes=0.1, connect=5, first_byte=5))
            data, error = await read(await response_of(future))
            assert data == b"hello"
            assert error == types.ErrorCodeConnectionReadTimeout()

    run(use)


def test_a_connection_that_takes_too_long() -> None:
    async def use(host: OutgoingHandlerHost) -> None:
        import socket

        with socket.socket() as listening:
            listening.bind((HOST, 0))
            listening.listen(0)
            fill = [socket.socket() for _ in range(4)]
            for each in fill:
                each.setblocking(False)
                each.connect_ex(listening.getsockname())
            future = await host.handle(
                await asking(Origin(listening.getsockname()[1])), await options(connect=0.2, first_byte=10)
            )
            assert await error_of(future) == types.ErrorCodeConnectionTimeout()
            for each in fill:
                each.close()

    run(use)


@pytest.mark.parametrize("written", [4, 6])
def test_a_request_of_another_length_than_it_says(written: int) -> None:
    async def use(host: OutgoingHandlerHost) -> None:
        async with origin() as server:
            request = await asking(server, types.MethodPost(), headers=[("content-length", b"5")])
            body = await request.body()
            future = await host.handle(request, None)
            stream = await body.write()
            code = types.ErrorCodeHTTPRequestBodySize(written)
            if written > 5:
                with pytest.raises(Err) as raised:
                    await stream.blocking_write_and_flush(bytes(written))
                assert await HOSTS.http_error_code(raised.value.value.value) == code
                stream.on_drop()
            else:
                await stream.blocking_write_and_flush(bytes(written))
                stream.on_drop()
                assert await refused(HOSTS.outgoing_body_finish(body, None)) == code
            assert await error_of(future) == code
            assert server.seen == []

    run(use)


def test_a_server_that_answers_at_once_ends_the_body() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async def use(host: OutgoingHandlerHost) -> None:
        async with raw_origin(talk) as server:
            request = await asking(server, types.MethodPost())
            body = await request.body()
            future = await host.handle(request, None)
            stream = await body.write()
            await stream.blocking_write_and_flush(b"hello")
            response = await response_of(future)
            assert await response.status() == 413
            response.on_drop()
            await asyncio.sleep(0.02)
            with pytest.raises(Err, match="Closed"):
                await stream.blocking_write_and_flush(b"world")
            stream.on_drop()
            await HOSTS.outgoing_body_finish(body, None)

    run(use)


def test_a_body_that_is_dropped_breaks_the_request() -> None:
    async def use(host: OutgoingHandlerHost) -> None:
        async with origin() as server:
            request = await asking(server, types.MethodPost())
            body = await request.body()
            future = await host.handle(request, None)
            stream = await body.write()
            await stream.blocking_write_and_flush(b"hello")
            await asyncio.sleep(0.02)
            stream.on_drop()
            body.on_drop()
            assert isinstance(await answer_of(future), Err)
            assert server.seen == []

    run(use)


def test_what_is_given_up_ends() -> None:
    left = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
        await reader.read()
        left.set()

    async def use(host: OutgoingHandlerHost) -> None:
        async with raw_origin(talk) as server:
            for step in range(5):
                left.clear()
                future = await host.handle(await asking(server), None)
                if step == 0:
                    await asyncio.sleep(0.05)
                    future.on_drop()  # the response is there, and nobody asked for it
                else:
                    response = await response_of(future)
                    if step == 1:
                        response.on_drop()
                    elif step > 1:
                        body = await response.consume()
                        response.on_drop()
                        stream = await body.stream()
                        await stream.blocking_read(1)
                        stream.on_drop()
                        if step == 2:
                            body.on_drop()
                        else:
                            (await HOSTS.incoming_body_finish(body)).on_drop()
                await asyncio.wait_for(left.wait(), 5)

    run(use)


def test_a_request_that_is_given_up_before_its_answer_ends() -> None:
    left = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        left.set()

    async def use(host: OutgoingHandlerHost) -> None:
        async with raw_origin(talk) as server:
            future = await host.handle(await asking(server), None)
            await asyncio.sleep(0.05)
            future.on_drop()
            await asyncio.wait_for(left.wait(), 5)

    run(use)


def test_the_family_answers_with_it() -> None:
    async def use(_: OutgoingHandlerHost) -> None:
        sender = HttpClient(LOCAL, environment={})
        handler: Any = hosts({"*": sender})["wasi:http/outgoing-handler@0.2.12"]
        async with origin() as server:
            response = await response_of(await handler.handle(await asking(server), None))
            assert await response.status() == 200
            response.on_drop()
        await sender.close()

    run(use)
