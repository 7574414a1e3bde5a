"""wasi:http 0.3: its types by the contract of their WIT, handlers behind a server, and requests that are sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import Any

import pytest

from bindgen.runtime import Err, Ok
from capabilities.bindings.wasi_http_0_3 import types
from capabilities.http import connection as connection_module
from capabilities.http.cors import Cors
from capabilities.http.dispatch import Exchange
from capabilities.http.settings import HttpSettings
from capabilities.http_client.client import HttpClient
from capabilities.http_client.host import hosts
from capabilities.wasi import http_fields
from capabilities.wasi.http_0_3 import Fields, Request, RequestOptions, Response, TypesHost, refuse, respond
from capabilities.wasi.http_fields import FORBIDDEN
from tests.http_origin import Origin, origin, raw_origin
from tests.http_serving import streaming
from tests.servers import HOST, free_port

HOSTS = TypesHost()
SETTINGS = HttpSettings(cors=Cors(origins=()))
CLOSE = b"Host: a\r\nConnection: close\r\n\r\n"
GET = b"GET / HTTP/1.1\r\n" + CLOSE
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"

Guest = Callable[[Request], Awaitable[Response]]


@pytest.fixture(autouse=True)
def _short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "LINGER", 0.2)


class Pieces:
    """The stream that a guest hands over: these pieces, with a pause before each, and then the end or an exception."""

    def __init__(self, *pieces: bytes, pause: float | None = None, error: Exception | None = None) -> None:
        self.left = list(pieces)
        self.pause = pause
        self.error = error
        self.closed = False

    async def read(self, limit: int) -> bytes:
        if self.pause is not None:
            await asyncio.sleep(self.pause)
        if self.left and not self.closed:
            piece = self.left.pop(0)
            assert len(piece) <= limit
            return piece
        if self.error is not None:
            raise self.error
        return b""

    def close(self) -> None:
        self.closed = True


class Value:
    """The future that a guest hands over: a value, or an exception where the guest ends before."""

    def __init__(self, value: Any = Ok(None)) -> None:  # noqa: B008  # it doesn't change
        self.value = value
        self.closed = False

    def __await__(self) -> Generator[Any, None, Any]:
        yield from asyncio.sleep(0).__await__()
        if isinstance(self.value, Exception) and not isinstance(self.value, Err):
            raise self.value
        return self.value

    def close(self) -> None:
        self.closed = True


async def made(
    contents: Any = None, trailers: Any = None, headers: Iterable[tuple[str, bytes]] = (), status: int = 200
) -> tuple[Response, Awaitable[Any]]:
    """A response as a guest makes it, and how its transmission ends."""
    fields = await HOSTS.fields_from_list(list(headers))
    response, sent = await HOSTS.response_new(fields, contents, trailers or Value())
    await response.set_status_code(status)
    return response, sent


async def trailing(*pairs: tuple[str, bytes]) -> Value:
    return Value(Ok(await HOSTS.fields_from_list(list(pairs))))


def ask(guest: Guest, *parts: bytes, settings: HttpSettings = SETTINGS) -> bytes:
    """What a client gets that sends these parts."""

    async def handle(exchange: Exchange) -> None:
        try:
            response = await guest(Request.incoming(exchange))
        except Err as error:
            refuse(exchange, error.value)
        else:
            await respond(exchange, response)

    async def main() -> bytes:
        async with streaming(handle, settings) as server:
            return await server.raw(*parts)

    return asyncio.run(main())


def error_of(begun: Awaitable[object]) -> Any:
    """What the error is of a call that returns one."""
    with pytest.raises(Err) as raised:
        run(begun)
    return raised.value.value


def run(begun: Awaitable[Any]) -> Any:
    async def main() -> Any:
        return await begun

    return asyncio.run(main())


def body_of(response: bytes) -> bytes:
    return response.partition(b"\r\n\r\n")[2]


# Fields and options.


def test_fields_by_their_contract() -> None:
    fields: Fields = run(HOSTS.fields_from_list([("X-B", b"1"), ("a", b"2"), ("x-b", b"3")]))
    assert run(fields.copy_all()) == [("X-B", b"1"), ("a", b"2"), ("x-b", b"3")]
    assert run(fields.get("X-b")) == [b"1", b"3"]
    assert run(fields.get_and_delete("x-B")) == [b"1", b"3"]
    assert run(fields.get_and_delete("x-B")) == []
    run(fields.append("c", b""))
    run(fields.set("A", [b"4"]))
    assert run(fields.has("C"))
    clone = run(fields.clone())
    run(clone.delete("c"))
    assert run(fields.copy_all()) == [("c", b""), ("A", b"4")]
    assert run(clone.copy_all()) == [("A", b"4")]


def test_fields_that_cant_be() -> None:
    fields: Fields = run(HOSTS.fields_new())
    for call in (fields.append, lambda name, value: fields.set(name, [value])):
        assert error_of(call("a b", b"")) == types.HeaderErrorInvalidSyntax()
        assert error_of(call("a", b"\n")) == types.HeaderErrorInvalidSyntax()
        assert error_of(call("a", b"x" * http_fields.MAX_BYTES)) == types.HeaderErrorSizeExceeded()
        for name in FORBIDDEN:
            assert error_of(call(name, b"")) == types.HeaderErrorForbidden()
    assert error_of(HOSTS.fields_from_list([("", b"")])) == types.HeaderErrorInvalidSyntax()
    assert run(fields.copy_all()) == []


def test_headers_of_a_message_are_immutable() -> None:
    async def main() -> None:
        response, _ = await made(headers=[("a", b"1")])
        headers = await response.get_headers()
        for begun in (headers.set("a", []), headers.append("a", b""), headers.delete("a"), headers.get_and_delete("a")):
            with pytest.raises(Err, match="Immutable"):
                await begun
        other, _ = await HOSTS.response_new(headers, None, Value())
        assert await (await other.get_headers()).copy_all() == [("a", b"1")]

    run(main())


def test_options_are_immutable_once_they_are_of_a_request() -> None:
    async def main() -> None:
        options = await HOSTS.request_options_new()
        for name in ("connect", "first_byte", "between_bytes"):
            await getattr(options, f"set_{name}_timeout")(5)
            assert await getattr(options, f"get_{name}_timeout")() == 5
        request, _ = await HOSTS.request_new(await HOSTS.fields_new(), None, Value(), options)
        kept = await request.get_options()
        assert kept is not None
        for name in ("connect", "first_byte", "between_bytes"):
            assert await getattr(kept, f"get_{name}_timeout")() == 5
            with pytest.raises(Err, match="Immutable"):
                await getattr(kept, f"set_{name}_timeout")(6)
        clone = await kept.clone()
        await clone.set_connect_timeout(None)
        assert (await clone.get_connect_timeout(), await clone.get_first_byte_timeout()) == (None, 5)

    run(main())


def test_a_new_request_and_what_it_can_have() -> None:
    async def main() -> None:
        request, _ = await HOSTS.request_new(await HOSTS.fields_new(), None, Value(), None)
        assert await request.get_options() is None
        assert await request.get_method() == types.MethodGet()
        assert [await request.get_path_with_query(), await request.get_scheme(), await request.get_authority()] == [
            None,
            None,
            None,
        ]
        for name, good, bad in (
            ("method", types.MethodOther("BREW"), types.MethodOther("A B")),
            ("path_with_query", "/a?b", "/a b"),
            ("scheme", types.SchemeOther("ws"), types.SchemeOther("a b")),
            ("authority", "[::1]:8", "a/b"),
        ):
            put, get = getattr(request, f"set_{name}"), getattr(request, f"get_{name}")
            await put(good)
            with pytest.raises(Err, match="None"):
                await put(bad)
            assert await get() == good

    run(main())


def test_statuses() -> None:
    async def main() -> None:
        response, _ = await made()
        assert await response.get_status_code() == 200
        for bad in (99, 600):
            with pytest.raises(Err, match="None"):
                await response.set_status_code(bad)
        await response.set_status_code(201)
        assert await response.get_status_code() == 201

    run(main())


# Handlers.


def test_what_a_guest_sees_of_a_request() -> None:
    got: list[Any] = []

    async def guest(request: Request) -> Response:
        headers = await request.get_headers()
        got.extend([await request.get_method(), await request.get_path_with_query(), await request.get_scheme()])
        got.extend([await request.get_authority(), await headers.copy_all(), await request.get_options()])
        return (await made())[0]

    ask(guest, b"BREW /a?b HTTP/1.1\r\nHost: h:8\r\nX-One: \xff\r\nConnection: close\r\n\r\n")
    assert got == [types.MethodOther("BREW"), "/a?b", types.SchemeHTTP(), "h:8", [("x-one", b"\xff")], None]


async def consume(request: Request) -> tuple[bytes, Any]:
    """The body, and what comes after it."""
    stream, trailers = await HOSTS.request_consume_body(request, Value())
    data = b"".join([piece async for piece in stream])
    return data, await trailers


@pytest.mark.parametrize("pause", [None, 0.02])
@pytest.mark.parametrize("headers", [[], [("content-length", b"10")]])
def test_a_response(pause: float | None, headers: Any) -> None:
    sent: list[Awaitable[Any]] = []

    async def guest(request: Request) -> Response:
        response, end = await made(Pieces(b"hello", b"world", pause=pause), headers=headers, status=201)
        sent.append(asyncio.ensure_future(end))
        return response

    response = ask(guest, GET)
    assert response.startswith(b"HTTP/1.1 201 Created\r\n")
    if pause == 0.02 and not headers:
        assert body_of(response) == b"5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n"
    else:
        assert b"content-length: 10\r\n" in response.lower()
        assert body_of(response) == b"helloworld"
    (end,) = sent
    assert isinstance(end, asyncio.Future)
    assert end.result() == Ok(None)


def test_a_response_without_contents() -> None:
    async def guest(request: Request) -> Response:
        return (await made())[0]

    assert b"Content-Length: 0\r\n" in ask(guest, GET)


def test_an_echo_with_trailers() -> None:
    async def guest(request: Request) -> Response:
        data, answer = await consume(request)
        assert isinstance(answer, Ok)
        trailers = await answer.value.copy_all()
        response, _ = await made(Pieces(data, pause=0.02), await trailing(*trailers))
        return response

    response = ask(guest, CHUNKED + b"5\r\nhello\r\n", b"0\r\nX-Sum: 1\r\nUpgrade: a\r\n\r\n")
    assert body_of(response) == b"5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"


def test_a_body_that_is_given_up_has_trailers_all_the_same() -> None:
    async def guest(request: Request) -> Response:
        stream, trailers = await HOSTS.request_consume_body(request, Value())
        assert await anext(aiter(stream)) == b"hello"
        await stream.aclose()
        answer = await trailers
        assert isinstance(answer, Ok)
        assert answer.value is not None
        assert await answer.value.copy_all() == [("x-sum", b"1")]
        return (await made(Pieces(b"good")))[0]

    response = ask(guest, CHUNKED + b"5\r\nhello\r\n", b"5\r\nworld\r\n0\r\nX-Sum: 1\r\n\r\n")
    assert body_of(response) == b"good"


def test_trailers_come_after_the_stream() -> None:
    async def guest(request: Request) -> Response:
        stream, trailers = await HOSTS.request_consume_body(request, Value())
        waiting = asyncio.ensure_future(trailers)
        await asyncio.sleep(0.02)
        assert not waiting.done()
        assert [piece async for piece in stream] == []
        assert await waiting == Ok(None)
        return (await made())[0]

    assert ask(guest, GET).startswith(b"HTTP/1.1 200")


def test_a_body_that_breaks_ends_and_its_trailers_say_why() -> None:
    got: list[Any] = []

    async def guest(request: Request) -> Response:
        got.append(await consume(request))
        return (await made())[0]

    ask(guest, CHUNKED + b"5\r\nhello\r\n", b"zz\r\n")
    ((data, answer),) = got
    assert data == b"hello"
    assert isinstance(answer, Err)
    assert answer.value == types.ErrorCodeHTTPProtocolError()


def test_an_error_in_place_of_a_response(caplog: pytest.LogCaptureFixture) -> None:
    async def guest(request: Request) -> Response:
        raise Err(types.ErrorCodeLoopDetected())

    assert ask(guest, GET).startswith(b"HTTP/1.1 502 ")
    assert "Loop-Detected" in caplog.text


@pytest.mark.parametrize("pause", [None, 0.02])
@pytest.mark.parametrize(
    ("contents", "trailers", "reason"),
    [
        ({"error": RuntimeError("the component has ended")}, Value(), "the component has ended"),
        ({}, Value(RuntimeError("the component has ended")), "the component has ended"),
        ({}, Value(Err(types.ErrorCodeLoopDetected())), "Loop-Detected"),
    ],
)
def test_a_body_that_does_not_get_whole(
    pause: float | None, contents: Any, trailers: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[Any] = []

    async def guest(request: Request) -> Response:
        pieces = Pieces(b"hello", pause=pause, **contents)
        response, end = await made(pieces, trailers)
        sent.extend([pieces, asyncio.ensure_future(end)])
        return response

    response = ask(guest, GET)
    if pause is None:
        assert response.startswith(b"HTTP/1.1 500 ")
    else:
        assert body_of(response) == b"5\r\nhello\r\n"
    assert reason in caplog.text
    pieces, end = sent
    assert pieces.closed
    assert isinstance(end.result(), Err)


def test_a_response_that_cant_be_sent(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[Any] = []

    async def guest(request: Request) -> Response:
        response, end = await made(Pieces(b"hello"), status=102)
        sent.append(asyncio.ensure_future(end))
        return response

    assert ask(guest, GET).startswith(b"HTTP/1.1 500 ")
    assert "the status 102" in caplog.text
    assert isinstance(sent[0].result(), Err)


@pytest.mark.parametrize("length", [b"4", b"6"])
def test_another_length_than_the_header_says(length: bytes, caplog: pytest.LogCaptureFixture) -> None:
    sent: list[Any] = []

    async def guest(request: Request) -> Response:
        response, end = await made(Pieces(b"hello", pause=0.02), headers=[("content-length", length)])
        sent.append(asyncio.ensure_future(end))
        return response

    response = ask(guest, GET)
    assert body_of(response) in (b"", b"hello")
    assert f"5 bytes of the {length.decode()}" in caplog.text
    (end,) = sent
    assert end.result().value == types.ErrorCodeHTTPResponseBodySize(5)


def test_a_guest_consumes_what_it_has_made() -> None:
    async def main() -> None:
        pieces, trailers = Pieces(b"hello"), Value()
        response, sent = await made(pieces, trailers)
        stream, future = await HOSTS.response_consume_body(response, Value(Err(types.ErrorCodeLoopDetected())))
        assert (stream, future) == (pieces, trailers)
        how = await sent
        assert how.value == types.ErrorCodeLoopDetected(), "it says itself how it went"
        empty, _ = await made()
        stream, _ = await HOSTS.response_consume_body(empty, Value())
        assert [piece async for piece in stream] == []

    run(main())


def test_messages_that_are_dropped_are_over() -> None:
    async def main() -> None:
        pieces, trailers = Pieces(b"hello"), Value()
        response, sent = await made(pieces, trailers)
        response.on_drop()
        assert pieces.closed
        assert trailers.closed
        assert isinstance(await sent, Err)

    run(main())


# Requests that are sent.


def sending(use: Callable[[Any], Awaitable[None]], **configs: str) -> None:
    async def main() -> None:
        sender = HttpClient({"ALLOW_PRIVATE": HOST, **configs}, environment={})
        try:
            async with asyncio.timeout(20):
                await use(hosts({"*": sender})["wasi:http/client@0.3.0"])
            assert sender._streamed == 0, "all that was begun is over"
        finally:
            await sender.close()

    asyncio.run(main())


async def asking(
    server: Origin,
    contents: Any = None,
    trailers: Any = None,
    headers: Any = (),
    options: RequestOptions | None = None,
) -> tuple[Request, Any]:
    fields = await HOSTS.fields_from_list(list(headers))
    request, sent = await HOSTS.request_new(fields, contents, trailers or Value(), options)
    await request.set_scheme(types.SchemeHTTP())
    await request.set_authority(f"{server.host}:{server.port}")
    if contents is not None:
        await request.set_method(types.MethodPost())
    return request, sent


async def read(response: Response) -> tuple[bytes, Any]:
    stream, trailers = await HOSTS.response_consume_body(response, Value())
    data = b"".join([piece async for piece in stream])
    answer = await trailers
    if isinstance(answer, Err):
        return data, answer.value
    return data, None if answer.value is None else await answer.value.copy_all()


@pytest.mark.parametrize("pause", [None, 0.02])
@pytest.mark.parametrize("headers", [[], [("content-length", b"10")]])
def test_a_request_with_a_body(pause: float | None, headers: Any) -> None:
    async def use(client: Any) -> None:
        async with origin() as server:
            request, sent = await asking(server, Pieces(b"hello", b"world", pause=pause), headers=headers)
            response = await client.send(request)
            assert await response.get_status_code() == 200
            assert ("content-length", b"10") in await (await response.get_headers()).copy_all()
            assert await read(response) == (b"helloworld", None)
            assert await sent == Ok(None)
            (seen,) = server.seen
        assert (seen.method, seen.body) == ("POST", b"helloworld")
        assert seen.values("content-length") == ([] if not headers else ["10"])

    sending(use)


def test_a_request_without_a_body() -> None:
    async def use(client: Any) -> None:
        async with origin() as server:
            request, sent = await asking(server)
            assert await read(await client.send(request)) == (b"", None)
            assert await sent == Ok(None)
            (seen,) = server.seen
        assert seen.values("content-length") == seen.values("transfer-encoding") == []

    sending(use)


def test_trailers_both_ways() -> None:
    got: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        got.append(await reader.readuntil(b"1\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-B: 2\r\n\r\n")

    async def use(client: Any) -> None:
        async with raw_origin(talk) as server:
            request, _ = await asking(server, Pieces(b"hi"), await trailing(("X-A", b"1")))
            assert await read(await client.send(request)) == (b"hello", [("x-b", b"2")])

    sending(use)
    assert got == [b"2\r\nhi\r\n0\r\nX-A: 1\r\n\r\n"]


def test_a_request_is_passed_on_with_its_body() -> None:
    async def use(client: Any) -> None:
        async with origin() as server:

            async def guest(request: Request) -> Response:
                await request.set_authority(f"{HOST}:{server.port}")
                response: Response = await client.send(request)
                return response

            async def handle(exchange: Exchange) -> None:
                await respond(exchange, await guest(Request.incoming(exchange)))

            async with streaming(handle, SETTINGS) as proxy:
                response = await proxy.raw(CHUNKED + b"5\r\nhello\r\n", b"5\r\nworld\r\n0\r\n\r\n")
                assert body_of(response) == b"helloworld"
                assert (await proxy.raw(GET)).startswith(b"HTTP/1.1 200")
            posted, asked = server.seen
        assert (posted.body, asked.body) == (b"helloworld", b"")
        assert asked.values("transfer-encoding") == []

    sending(use)


async def refused(client: Any, request: Request) -> Any:
    with pytest.raises(Err) as raised:
        await client.send(request)
    return raised.value.value


def test_what_goes_wrong_and_what_is_refused() -> None:
    async def use(client: Any) -> None:
        elsewhere = Origin(free_port(), host="127.0.0.2")
        for server, code in (
            (Origin(free_port()), types.ErrorCodeConnectionRefused()),
            (elsewhere, types.ErrorCodeDestinationIPProhibited()),
        ):
            pieces = Pieces(b"hello", pause=0.02)
            request, sent = await asking(server, pieces)
            assert await refused(client, request) == code
            assert (await sent).value == code
            assert pieces.closed
        request, _ = await asking(elsewhere)
        await request.set_method(types.MethodConnect())
        assert await refused(client, request) == types.ErrorCodeHTTPRequestMethodInvalid()
        request, _ = await HOSTS.request_new(await HOSTS.fields_new(), None, Value(), None)
        assert await refused(client, request) == types.ErrorCodeHTTPRequestURIInvalid()

    sending(use)


def test_a_guest_that_ends_in_the_body_of_a_request_breaks_it() -> None:
    async def use(client: Any) -> None:
        async with origin() as server:
            for pieces, trailers in (
                (Pieces(b"hello", pause=0.02, error=RuntimeError("ended")), Value()),
                (Pieces(b"hello", pause=0.02), Value(Err(types.ErrorCodeLoopDetected()))),
            ):
                request, sent = await asking(server, pieces, trailers)
                await refused(client, request)
                assert isinstance(await sent, Err)
            assert server.seen == []

    sending(use)


def test_another_length_of_a_request() -> None:
    async def use(client: Any) -> None:
        async with origin() as server:
            for length in (b"4", b"6"):
                pieces = Pieces(b"hello", pause=0.02)
                request, sent = await asking(server, pieces, headers=[("content-length", length)])
                assert await refused(client, request) == types.ErrorCodeHTTPRequestBodySize(5)
                assert isinstance(await sent, Err)
            assert server.seen == []

    sending(use)


def test_timeouts() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def use(client: Any) -> None:
        async with raw_origin(silent) as server:
            options = RequestOptions()
            await options.set_first_byte_timeout(100_000_000)
            request, _ = await asking(server, options=options)
            assert await refused(client, request) == types.ErrorCodeHTTPResponseTimeout()

    sending(use)


def test_a_response_that_is_dropped_ends_its_connection() -> None:
    left = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
        await reader.read()
        left.set()

    async def use(client: Any) -> None:
        async with raw_origin(talk) as server:
            request, _ = await asking(server)
            response = await client.send(request)
            response.on_drop()
            await asyncio.wait_for(left.wait(), 5)

    sending(use)
