"""wasi:http/types 0.2 by the contract of its WIT, with exchanges of a server, and with guests that break the rules."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindgen.runtime import Err, GuestFault, Ok
from capabilities.bindings.wasi_http_0_2 import types
from capabilities.bindings.wasi_io_0_2.streams import StreamErrorClosed, StreamErrorLastOperationFailed
from capabilities.http import connection as connection_module
from capabilities.http.cors import Cors
from capabilities.http.dispatch import Exchange
from capabilities.http.settings import HttpSettings
from capabilities.wasi import http_errors, http_fields
from capabilities.wasi.allowance import Allowance, of_guest
from capabilities.wasi.http import (
    Fields,
    IncomingRequest,
    OutgoingRequest,
    OutgoingResponse,
    RequestOptions,
    ResponseOutparam,
    TypesHost,
    incoming,
)
from capabilities.wasi.http_fields import FORBIDDEN, FieldList
from capabilities.wasi.io import Error, poll
from tests.http_serving import streaming

HOST = TypesHost()
SETTINGS = HttpSettings(cors=Cors(origins=()))
CLOSE = b"Host: a\r\nConnection: close\r\n\r\n"
GET = b"GET / HTTP/1.1\r\n" + CLOSE
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"

Guest = Callable[[IncomingRequest, ResponseOutparam], Awaitable[None]]


@pytest.fixture(autouse=True)
def _short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "LINGER", 0.2)


def error_of(begun: Awaitable[object]) -> Any:
    """What the error is of a call that returns one."""
    with pytest.raises(Err) as raised:
        asyncio.run(awaited(begun))
    return raised.value.value


async def awaited(begun: Awaitable[Any]) -> Any:
    return await begun


def run(begun: Awaitable[Any]) -> Any:
    return asyncio.run(awaited(begun))


def ask(guest: Guest, *parts: bytes, settings: HttpSettings = SETTINGS) -> bytes:
    """What a client gets that sends these parts, and then the end of its side."""

    async def handle(exchange: Exchange) -> None:
        await guest(*incoming(exchange))

    async def main() -> bytes:
        async with streaming(handle, settings) as server:
            return await server.raw(*parts)

    return asyncio.run(main())


async def respond(out: ResponseOutparam, *pieces: bytes, status: int = 200, headers: Any = ()) -> None:
    """Answers as a guest does."""
    response = await HOST.outgoing_response_new(await HOST.fields_from_list(headers))
    await response.set_status_code(status)
    body = await response.body()
    await HOST.response_outparam_set(out, Ok(response))
    stream = await body.write()
    for piece in pieces:
        await stream.blocking_write_and_flush(piece)
    stream.on_drop()
    await HOST.outgoing_body_finish(body, None)


def body_of(response: bytes) -> bytes:
    return response.partition(b"\r\n\r\n")[2]


# Fields.


def fields(*entries: tuple[str, bytes]) -> Fields:
    made: Fields = run(HOST.fields_from_list(list(entries)))
    return made


def test_fields_keep_order_and_case() -> None:
    made = fields(("X-B", b"1"), ("a", b"2"), ("x-b", b"\xff"))
    assert run(made.entries()) == [("X-B", b"1"), ("a", b"2"), ("x-b", b"\xff")]
    assert run(made.get("X-b")) == [b"1", b"\xff"]
    assert run(made.get("b")) == []
    assert run(made.get("not a name")) == []
    assert run(made.has("A"))
    assert not run(made.has("not a name"))


def test_set_replaces_append_adds_delete_removes() -> None:
    made = fields(("a", b"1"), ("b", b"2"), ("A", b"3"))
    run(made.set("A", [b"4", b"5"]))
    assert run(made.entries()) == [("b", b"2"), ("A", b"4"), ("A", b"5")]
    run(made.append("b", b""))
    assert run(made.get("b")) == [b"2", b""]
    run(made.delete("B"))
    run(made.delete("never-there"))
    assert run(made.entries()) == [("A", b"4"), ("A", b"5")]
    run(made.set("a", []))
    assert run(made.entries()) == []


@pytest.mark.parametrize("name", ["", "a b", "a:", "é", "a\0", "a" * 200 + "\n"])
def test_names_that_are_none(name: str) -> None:
    made = fields(("a", b"1"))
    invalid = types.HeaderErrorInvalidSyntax()
    assert error_of(HOST.fields_from_list([(name, b"")])) == invalid
    assert error_of(made.set(name, [b""])) == invalid
    assert error_of(made.append(name, b"")) == invalid
    assert error_of(made.delete(name)) == invalid
    assert run(made.entries()) == [("a", b"1")]


@pytest.mark.parametrize("value", [b"\0", b"a\r\nb: c", b"\n", b"\x7f"])
def test_values_that_are_none(value: bytes) -> None:
    made = fields(("a", b"1"))
    invalid = types.HeaderErrorInvalidSyntax()
    assert error_of(HOST.fields_from_list([("a", b"good"), ("a", value)])) == invalid
    assert error_of(made.set("a", [b"good", value])) == invalid
    assert error_of(made.append("a", value)) == invalid
    assert run(made.entries()) == [("a", b"1")]


@pytest.mark.parametrize("name", sorted(FORBIDDEN))
def test_names_that_are_forbidden(name: str) -> None:
    made = fields()
    forbidden = types.HeaderErrorForbidden()
    for spelled in (name, name.title()):
        assert error_of(HOST.fields_from_list([(spelled, b"x")])) == forbidden
        assert error_of(made.set(spelled, [b"x"])) == forbidden
        assert error_of(made.append(spelled, b"x")) == forbidden
        assert error_of(made.delete(spelled)) == forbidden


def test_a_clone_is_another_and_mutable() -> None:
    response = OutgoingResponse(FieldList([("a", b"1")]))
    headers = run(response.headers())
    clone = run(headers.clone())
    run(clone.append("b", b"2"))
    assert run(headers.entries()) == [("a", b"1")]
    assert run(clone.entries()) == [("a", b"1"), ("b", b"2")]


def test_headers_of_a_message_are_immutable() -> None:
    headers = run(OutgoingResponse(FieldList([("a", b"1")])).headers())
    immutable = types.HeaderErrorImmutable()
    assert error_of(headers.set("a", [b"2"])) == immutable
    assert error_of(headers.append("a", b"2")) == immutable
    assert error_of(headers.delete("a")) == immutable
    assert run(headers.get("a")) == [b"1"]


def test_fields_have_a_size() -> None:
    made = fields()
    for _ in range(http_fields.MAX_FIELDS):
        run(made.append("a", b""))
    with pytest.raises(GuestFault, match="more than"):
        run(made.append("a", b""))
    made = fields(("a", bytes(0)))
    with pytest.raises(GuestFault, match="more than"):
        run(made.set("a", [b"x" * http_fields.MAX_BYTES]))
    with pytest.raises(GuestFault, match="more than"):
        run(HOST.fields_from_list([("a", b"x" * 1000)] * 132))


_NAMES = st.sampled_from(["a", "A", "b", "c-d"])
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), _NAMES, st.lists(st.binary(max_size=3), max_size=3)),
        st.tuples(st.just("append"), _NAMES, st.binary(max_size=3)),
        st.tuples(st.just("delete"), _NAMES),
    )
)


@given(_STEPS)
def test_fields_count_their_size(steps: list[Any]) -> None:
    content = FieldList()
    for name, *args in steps:
        with suppress(http_fields.InvalidField):
            getattr(content, name)(*args)
        content.append("e", b"f")
        assert content.size == sum(len(name) + len(value) for name, value in content.pairs)


# Requests that come in.


def test_what_a_guest_sees_of_a_request() -> None:
    got: list[Any] = []

    async def guest(request: IncomingRequest, out: ResponseOutparam) -> None:
        headers = await request.headers()
        got.extend([await request.method(), await request.path_with_query(), await request.scheme()])
        got.extend([await request.authority(), await headers.entries()])
        headers.on_drop()
        request.on_drop()
        await respond(out, b"hello")

    request = b"PUT /a?b=%20 HTTP/1.1\r\nHost: h:8\r\nX-One: \xff\r\nX-one: 2\r\nConnection: close\r\n\r\n"
    assert ask(guest, request).endswith(b"hello")
    assert got == [
        types.MethodPut(),
        "/a?b=%20",
        types.SchemeHTTP(),
        "h:8",
        [("x-one", b"\xff"), ("x-one", b"2")],
    ]


@pytest.mark.parametrize(
    ("line", "method", "path"),
    [
        ("TRACE /", types.MethodTrace(), "/"),
        ("BREW /pot", types.MethodOther("BREW"), "/pot"),
        ("CONNECT h:1", types.MethodConnect(), None),
        ("OPTIONS *", types.MethodOptions(), "*"),
    ],
)
def test_methods_and_targets(line: str, method: types.Method, path: str | None) -> None:
    got: list[Any] = []

    async def guest(request: IncomingRequest, out: ResponseOutparam) -> None:
        got.extend([await request.method(), await request.path_with_query()])
        await respond(out)

    ask(guest, f"{line} HTTP/1.1\r\n".encode() + CLOSE)
    assert got == [method, path]


async def until_closed(read: Callable[[], Awaitable[bytes]]) -> bytes:
    """What `read` returns, all together, until the stream is closed."""
    data = b""
    failure: Any = None
    while failure is None:
        try:
            data += await read()
        except Err as error:
            failure = error.value
    assert failure == StreamErrorClosed()
    return data


def test_a_body_is_consumed_once_and_its_stream_taken_once() -> None:
    async def guest(request: IncomingRequest, out: ResponseOutparam) -> None:
        body = await request.consume()
        with pytest.raises(Err, match="None"):
            await request.consume()
        stream = await body.stream()
        with pytest.raises(Err, match="None"):
            await body.stream()
        await respond(out, await until_closed(lambda: stream.blocking_read(1 << 20)))

    assert body_of(ask(guest, b"POST / HTTP/1.1\r\nContent-Length: 5\r\n" + CLOSE, b"hello")) == b"hello"


def test_reading_without_waiting_by_polls() -> None:
    async def guest(request: IncomingRequest, out: ResponseOutparam) -> None:
        stream = await (await request.consume()).stream()
        polled = 0
        pollable = await stream.subscribe()

        async def read() -> bytes:
            nonlocal polled
            data: bytes = await stream.read(2)
            if not data:
                polled += 1
                assert await poll([pollable, pollable]) == [0, 1]
            return data

        await respond(out, await until_closed(read))
        assert polled

    parts = [b"POST / HTTP/1.1\r\nContent-Length: 10\r\n" + CLOSE, b"hello", b"world"]
    assert body_of(ask(guest, *parts)) == b"helloworld"


def test_skipping_and_splicing() -> None:
    async def guest(request: IncomingRequest, out: ResponseOutparam) -> None:
        stream = await (await request.consume()).stream()
        response = await HOST.outgoing_response_new(await HOST.fields_new())
        body = await response.body()
        await HOST.response_outparam_set(out, Ok(response))
        output = await body.write()
        assert await stream.blocking_skip(2) == 2
        assert await output.blocking_splice(stream, 3) == 3
        assert await stream.read(0) == b""
        output.on_drop()
        await HOST.outgoing_body_finish(body, None)

    assert body_of(ask(guest, b"POST / HTTP/1.1\r\nContent-Length: 10\r\n" + CLOSE + b"0123456789")) == b"234"


def test_trailers_of_a_request() -> None:
    async def guest(request: IncomingRequest, out: ResponseOutparam) -> None:
        body = await request.consume()
        stream = await body.stream()
        await stream.blocking_read(1)
        stream.on_drop()
        future = await HOST.incoming_body_finish(body)
        assert await future.get() is None, "the rest of the body is on its way"
        await (await future.subscribe()).block()
        got = await future.get()
        assert isinstance(got, Ok)
        assert isinstance(got.value, Ok)
        trailers = got.value.value
        assert trailers is not None
        assert await trailers.entries() == [("x-sum", b"1")]
        with pytest.raises(Err, match="Immutable"):
            await trailers.append("a", b"b")
        assert isinstance(again := await future.get(), Err)
        assert again.value is None
        with pytest.raises(GuestFault, match="trailers"):
            future.on_drop()
        trailers.on_drop()
        future.on_drop()
        await respond(out, b"good")

    parts = [CHUNKED + b"5\r\nhello\r\n", b"0\r\nX-Sum: 1\r\nUpgrade: b\r\n\r\n"]
    assert body_of(ask(guest, *parts)) == b"good"


def test_a_request_without_trailers_has_none() -> None:
    async def guest(request: IncomingRequest, out: ResponseOutparam) -> None:
        future = await HOST.incoming_body_finish(await request.consume())
        got = await future.get()
        assert isinstance(got, Ok)
        assert isinstance(got.value, Ok)
        assert got.value.value is None
        await respond(out, b"good")

    assert body_of(ask(guest, GET)) == b"good"


def test_a_body_that_fails_says_why() -> None:
    got: list[Any] = []

    async def guest(request: IncomingRequest, out: ResponseOutparam) -> None:
        body = await request.consume()
        stream = await body.stream()
        assert await stream.blocking_read(100) == b"hello"
        with pytest.raises(Err) as raised:
            await stream.blocking_read(100)
        failure = raised.value.value
        assert isinstance(failure, StreamErrorLastOperationFailed)
        got.append(await HOST.http_error_code(failure.value))
        with pytest.raises(Err, match="Closed"):
            await stream.read(1)
        stream.on_drop()
        future = await HOST.incoming_body_finish(body)
        await (await future.subscribe()).block()
        answer = await future.get()
        assert isinstance(answer, Ok)
        assert isinstance(answer.value, Err)
        assert answer.value.value == got[-1]
        await respond(out)

    ask(guest, CHUNKED + b"5\r\nhello\r\n", b"zz\r\n")
    ask(guest, CHUNKED + b"5\r\nhello\r\n", b"6\r\nworld!\r\n", settings=HttpSettings(max_body=10))
    assert got == [types.ErrorCodeHTTPProtocolError(), types.ErrorCodeHTTPRequestBodySize(None)]


def test_an_error_that_is_none_of_http() -> None:
    assert run(HOST.http_error_code(Error(OSError("no such file")))) is None


# Responses.


def test_a_short_response_is_one_with_a_length() -> None:
    async def guest(request: IncomingRequest, out: ResponseOutparam) -> None:
        await respond(out, b"hel", b"lo", status=201, headers=[("X-A", b"\xff")])

    response = ask(guest, GET)
    assert response.startswith(b"HTTP/1.1 201 Created\r\nX-A: \xff\r\n")
    assert b"\r\nContent-Length: 5\r\n" in response
    assert body_of(response) == b"hello"


def test_a_response_without_a_body_is_empty() -> None:
    async def guest(request: IncomingRequest, out: ResponseOutparam) -> None:
        await HOST.response_outparam_set(out, Ok(OutgoingResponse(FieldList())))

    response = ask(guest, GET)
    assert b"\r\nContent-Length: 0\r\n" in response


def test_a_body_may_be_written_before_the_response_is_set() -> None:
    async def guest(request: IncomingRequest, out: ResponseOutparam) -> None:
        response = OutgoingResponse(FieldList())
        body = await response.body()
        stream = await body.write()
        await stream.blocking_write_and_flush(b"hello")
        assert await stream.check_write() == 65536 - 5
        await stream.write(bytes(65536 - 5))
        assert await stream.check_write() == 0
        assert not (await (await stream.subscribe()).ready())
        await HOST.response_outparam_set(out, Ok(response))
        assert await stream.check_write() > 0
        stream.on_drop()
        await HOST.outgoing_body_finish(body, None)

    assert body_of(ask(guest, GET)) == b"hello" + bytes(65536 - 5)


def test_a_body_may_be_finished_before_the_response_is_set() -> None:
    async def guest(request: IncomingRequest, out: ResponseOutparam) -> None:
        response = OutgoingResponse(FieldList([("content-length", b"5")]))
        body = await response.body()
        stream = await body.write()
        await stream.blocking_write_and_flush(b"hello")
        stream.on_drop()
        await HOST.outgoing_body_finish(body, None)
        await HOST.response_outparam_set(out, Ok(response))

    assert body_of(ask(guest, GET)) == b"hello"


def test_a_response_that_is_streamed_with_trailers() -> None:
    async def guest(request: IncomingRequest, out: ResponseOutparam) -> None:
        response = OutgoingResponse(FieldList())
        body = await response.body()
        await HOST.response_outparam_set(out, Ok(response))
        stream = await body.write()
        for _ in range(3):
            await stream.blocking_write_and_flush(b"hello")
            await asyncio.sleep(0.01)
        stream.on_drop()
        await HOST.outgoing_body_finish(body, await HOST.fields_from_list([("X-Sum", b"1")]))

    assert body_of(ask(guest, GET)) == b"5\r\nhello\r\n" * 3 + b"0\r\nX-Sum: 1\r\n\r\n"


def test_a_guest_that_writes_for_ever_waits_for_its_client() -> None:
    async def guest(request: IncomingRequest, out: ResponseOutparam) -> None:
        response = OutgoingResponse(FieldList())
        body = await response.body()
        await HOST.response_outparam_set(out, Ok(response))
        stream = await body.write()
        pollable = await stream.subscribe()
        left = 40 << 20
        while left:
            permit = min(await stream.check_write(), left)
            if permit:
                await stream.write(bytes(permit))
                left -= permit
            else:
                await poll([pollable])
        await stream.blocking_flush()
        stream.on_drop()
        await HOST.outgoing_body_finish(body, None)

    async def main() -> None:
        async def handle(exchange: Exchange) -> None:
            await guest(*incoming(exchange))

        async with streaming(handle, SETTINGS) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 20)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            size = 0
            while data := await asyncio.wait_for(reader.read(1 << 20), 10):
                size += len(data)
            assert size == 40 << 20
            writer.close()

    asyncio.run(main())


def test_an_error_in_place_of_a_response(caplog: pytest.LogCaptureFixture) -> None:
    async def guest(request: IncomingRequest, out: ResponseOutparam) -> None:
        await HOST.response_outparam_set(out, Err(types.ErrorCodeHTTPRequestDenied()))

    response = ask(guest, GET)
    assert response.startswith(b"HTTP/1.1 403 ")
    assert "HTTP-Request-Denied" in caplog.text


def _codes() -> Iterator[type]:
    for name, each in vars(types).items():
        if name.startswith("ErrorCode") and isinstance(each, type):
            yield each


@pytest.mark.parametrize("code", list(_codes()))
def test_each_error_has_a_status(code: type) -> None:
    made = code(None) if "value" in getattr(code, "__slots__", ()) else code()
    assert 400 <= http_errors.status_of(made) <= 599
    assert http_errors.describe(made)


def test_a_guest_that_sets_no_response_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    async def guest(request: IncomingRequest, out: ResponseOutparam) -> None:
        pass

    assert ask(guest, GET).startswith(b"HTTP/1.1 500 ")
    assert "without a response" in caplog.text


def test_a_status_that_is_none() -> None:
    response = OutgoingResponse(FieldList())
    assert run(response.status_code()) == 200
    for status in (0, 99, 600, 65535):
        assert error_of(response.set_status_code(status)) is None
    run(response.set_status_code(599))
    assert run(response.status_code()) == 599


def test_a_response_with_a_status_below_200_cant_be_sent(caplog: pytest.LogCaptureFixture) -> None:
    async def guest(request: IncomingRequest, out: ResponseOutparam) -> None:
        await respond(out, status=102)

    assert ask(guest, GET).startswith(b"HTTP/1.1 500 ")
    assert "the status 102" in caplog.text


def test_informational_responses() -> None:
    async def guest(request: IncomingRequest, out: ResponseOutparam) -> None:
        await out.send_informational(103, await HOST.fields_from_list([("Link", b"</a>")]))
        for status, code in ((200, types.ErrorCodeHTTPProtocolError), (101, types.ErrorCodeInternalError)):
            with pytest.raises(Err) as raised:
                await out.send_informational(status, await HOST.fields_new())
            assert isinstance(raised.value.value, code)
        await respond(out, b"hello")

    assert ask(guest, GET).startswith(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_a_body_is_taken_once_and_written_by_one_stream() -> None:
    response = OutgoingResponse(FieldList())
    body = run(response.body())
    assert error_of(response.body()) is None
    run(body.write())
    assert error_of(body.write()) is None


@pytest.mark.parametrize(("length", "written"), [(4, 5), (6, 5)])
def test_another_length_than_the_header_says(length: int, written: int, caplog: pytest.LogCaptureFixture) -> None:
    got: list[Any] = []

    async def guest(request: IncomingRequest, out: ResponseOutparam) -> None:
        response = OutgoingResponse(FieldList([("content-length", b"%d" % length)]))
        body = await response.body()
        await HOST.response_outparam_set(out, Ok(response))
        stream = await body.write()
        await asyncio.sleep(0.01)
        try:
            await stream.blocking_write_and_flush(bytes(written))
        except Err as error:
            got.append(await HOST.http_error_code(error.value.value))
        stream.on_drop()
        try:
            await HOST.outgoing_body_finish(body, None)
        except Err as error:
            got.append(error.value)

    response = ask(guest, GET)
    assert got[0] == types.ErrorCodeHTTPResponseBodySize(written)
    assert len(body_of(response)) <= written
    assert f"{written} bytes of the {length}" in caplog.text


@pytest.mark.parametrize("pause", [False, True])
def test_a_body_that_is_dropped_is_not_whole(pause: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def guest(request: IncomingRequest, out: ResponseOutparam) -> None:
        response = OutgoingResponse(FieldList())
        body = await response.body()
        await HOST.response_outparam_set(out, Ok(response))
        stream = await body.write()
        await stream.blocking_write_and_flush(b"hello")
        stream.on_drop()
        if pause:
            await asyncio.sleep(0.01)
        body.on_drop()

    response = ask(guest, GET)
    if pause:
        assert body_of(response) == b"5\r\nhello\r\n"
    else:
        assert response.startswith(b"HTTP/1.1 500 ")
    assert "dropped the outgoing-body" in caplog.text


def test_a_client_that_left_closes_the_stream() -> None:
    async def main() -> None:
        seen: list[Any] = []

        async def handle(exchange: Exchange) -> None:
            _, out = incoming(exchange)
            response = OutgoingResponse(FieldList())
            body = await response.body()
            await HOST.response_outparam_set(out, Ok(response))
            stream = await body.write()
            try:
                while True:
                    await stream.blocking_write_and_flush(b"tick")
                    await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                with pytest.raises(Err, match="Closed"):
                    await stream.blocking_write_and_flush(bytes(4096))
                seen.append("closed")
                raise

        async with streaming(handle, SETTINGS) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await reader.readuntil(b"tick")
            writer.close()
            await asyncio.sleep(0.1)
        assert seen == ["closed"]

    asyncio.run(main())


# Children.


def test_parents_are_dropped_after_their_children() -> None:
    async def guest(request: IncomingRequest, out: ResponseOutparam) -> None:
        headers = await request.headers()
        with pytest.raises(GuestFault, match="headers"):
            request.on_drop()
        headers.on_drop()
        request.on_drop()
        body = await request.consume()
        stream = await body.stream()
        with pytest.raises(GuestFault, match="stream"):
            body.on_drop()
        with pytest.raises(GuestFault, match="stream"):
            await HOST.incoming_body_finish(body)
        stream.on_drop()
        body.on_drop()
        await respond(out, b"good")

    assert body_of(ask(guest, GET)) == b"good"


def test_an_outgoing_body_outlives_its_stream() -> None:
    body = run(OutgoingResponse(FieldList()).body())
    stream = run(body.write())
    with pytest.raises(GuestFault, match="stream"):
        body.on_drop()
    with pytest.raises(GuestFault, match="stream"):
        run(HOST.outgoing_body_finish(body, None))
    stream.on_drop()
    body.on_drop()


@pytest.mark.parametrize("kind", [OutgoingResponse, OutgoingRequest])
def test_messages_outlive_their_headers(kind: Any) -> None:
    message = kind(FieldList([("a", b"1")]))
    headers = run(message.headers())
    with pytest.raises(GuestFault, match="headers"):
        message.on_drop()
    moved = run(HOST.outgoing_response_new(headers))
    assert moved.fields.pairs == [("a", b"1")]
    message.on_drop()


# Requests that go out.


def test_what_a_new_request_is() -> None:
    request: OutgoingRequest = run(HOST.outgoing_request_new(fields(("a", b"1"))))
    assert run(request.method()) == types.MethodGet()
    assert [run(request.path_with_query()), run(request.scheme()), run(request.authority())] == [None] * 3
    assert run(run(request.headers()).entries()) == [("a", b"1")]


@pytest.mark.parametrize("method", [types.MethodPatch(), types.MethodOther("BREW")])
def test_methods_that_a_request_may_have(method: types.Method) -> None:
    request = OutgoingRequest(FieldList())
    run(request.set_method(method))
    assert run(request.method()) == method


def test_a_method_by_its_name_is_that_method() -> None:
    request = OutgoingRequest(FieldList())
    run(request.set_method(types.MethodOther("PUT")))
    assert run(request.method()) == types.MethodPut()


@pytest.mark.parametrize(
    ("setter", "values"),
    [
        (
            "set_method",
            [types.MethodOther(name) for name in ("", "A B", "A\r\n", "é")],
        ),
        ("set_path_with_query", ["/a b", "/a\r\nb", "/#a", "a", "/é", "/\0", "http://x/", "/" * 8191]),
        (
            "set_scheme",
            [types.SchemeOther(""), types.SchemeOther("1a"), types.SchemeOther("a b"), types.SchemeOther("a" * 8191)],
        ),
        ("set_authority", ["", "a b", "a/b", "a:b", "a@", "[::1", "a\r\nb", "é", "a#b", "a?b", "a" * 8191]),
    ],
)
def test_what_a_request_cant_have(setter: str, values: list[Any]) -> None:
    for value in values:
        assert error_of(getattr(OutgoingRequest(FieldList()), setter)(value)) is None, value


@pytest.mark.parametrize(
    ("setter", "getter", "values"),
    [
        ("set_path_with_query", "path_with_query", ["/", "", "/a?b=%20&c=[1]", "?a", "*", "/" * 8190, None]),
        ("set_scheme", "scheme", [types.SchemeHTTP(), types.SchemeOther("ws+x"), None]),
        ("set_authority", "authority", ["a", "a.b:80", "[::1]:8", "127.0.0.1", "a:", None]),
    ],
)
def test_what_a_request_can_have(setter: str, getter: str, values: list[Any]) -> None:
    request = OutgoingRequest(FieldList())
    for value in values:
        run(getattr(request, setter)(value))
        assert run(getattr(request, getter)()) == value


def test_options_are_kept() -> None:
    options: RequestOptions = run(HOST.request_options_new())
    for name in ("connect", "first_byte", "between_bytes"):
        get, put = getattr(options, f"{name}_timeout"), getattr(options, f"set_{name}_timeout")
        assert run(get()) is None
        run(put((1 << 64) - 1))
        assert run(get()) == (1 << 64) - 1
        run(put(None))
        assert run(get()) is None


def test_headers_that_a_guest_makes_are_bounded_together_and_given_back() -> None:
    async def guest() -> None:
        mine = Allowance(1 << 20)
        of_guest.set(mine)
        kept = [await HOST.fields_new() for _ in range(17)]
        for fields in kept[:16]:
            await fields.append("name", b"x" * 65_000)
        with pytest.raises(GuestFault, match="more than the 1048576 that it may; it must drop something first"):
            await kept[16].append("name", b"x" * 65_000)
        del fields
        kept.clear()
        assert mine.held == 0

    asyncio.run(guest())


def test_bodies_that_go_nowhere_are_bounded_together_and_given_back() -> None:
    async def write(request: OutgoingRequest) -> None:
        output = await (await request.body()).write()
        await output.check_write()
        try:
            await output.write(bytes(65_536))
        finally:
            output.on_drop()

    async def guest() -> None:
        mine = Allowance(1 << 20)
        of_guest.set(mine)
        requests = [OutgoingRequest(FieldList()) for _ in range(17)]
        for request in requests[:16]:
            await write(request)
        assert mine.held == 1 << 20
        with pytest.raises(GuestFault, match="hold up to 1114112 bytes"):
            await write(requests[16])
        del request
        requests.clear()
        assert mine.held == 0

    asyncio.run(guest())
