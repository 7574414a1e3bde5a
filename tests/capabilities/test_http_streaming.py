"""The HTTP server where requests are read and responses are written piece by piece."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from resource import RUSAGE_SELF, getrusage
from typing import Any

import pytest
import uvloop

from capabilities.http import body as body_module
from capabilities.http import connection as connection_module
from capabilities.http.access import AccessRecord
from capabilities.http.cors import Cors
from capabilities.http.dispatch import (
    BodyBroken,
    BodyTimeout,
    BodyTooLarge,
    Exchange,
    HandlerFailure,
    TrailersTooLarge,
    WrongLength,
)
from capabilities.http.message import BadResponse
from capabilities.http.settings import HttpSettings
from tests.http_serving import read_response, streaming

Handler = Callable[[Exchange], Awaitable[None]]

NO_CORS = Cors(origins=())
PLAIN = HttpSettings(cors=NO_CORS)
CLOSE = b"Host: a\r\nConnection: close\r\n\r\n"
KEEP = b"Host: a\r\n\r\n"
CHUNKED = b"Host: a\r\nTransfer-Encoding: chunked\r\n\r\n"
EXPECT = b"Host: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"

loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


@pytest.fixture(autouse=True)
def _short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "LINGER", 0.2)


async def until(condition: Callable[[], object]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came to be")


async def echo(exchange: Exchange) -> None:
    """Sends back what it receives, as it comes."""
    response = exchange.start(200, [])
    while data := await exchange.body.read(65536):
        response.write(data)
        await response.drain()
    response.finish(exchange.body.trailers())


async def hello(exchange: Exchange) -> None:
    response = exchange.start(200, [("Content-Type", b"text/plain")])
    response.write(b"hello")
    response.finish()


def answering(*pieces: bytes, status: int = 200, headers: Any = (), pause: bool = False, trailers: Any = ()) -> Handler:
    """A handler that writes these pieces, and has others have their turn between them where it makes a `pause`."""

    async def handle(exchange: Exchange) -> None:
        response = exchange.start(status, headers)
        for piece in pieces:
            response.write(piece)
            if pause:
                await asyncio.sleep(0.01)
        response.finish(trailers)

    return handle


def ask(handler: Handler, *parts: bytes, settings: HttpSettings = PLAIN, pause: float = 0.02) -> bytes:
    """What a client gets that sends these parts."""

    async def main() -> bytes:
        async with streaming(handler, settings) as server:
            return await server.raw(*parts, pause=pause)

    return asyncio.run(main())


def lines_of(response: bytes) -> list[bytes]:
    return response.partition(b"\r\n\r\n")[0].split(b"\r\n")


def body_of(response: bytes) -> bytes:
    return response.partition(b"\r\n\r\n")[2]


# What a handler sees.


def seen(request: bytes) -> Any:
    found = []

    async def handle(exchange: Exchange) -> None:
        found.append(exchange)
        await hello(exchange)

    ask(handle, request)
    (exchange,) = found
    return exchange


def test_a_handler_sees_the_head_as_it_was_sent() -> None:
    exchange = seen(b"PATCH /a%20b?c=d HTTP/1.1\r\nHost: h:1\r\nX-One: 1\r\nX-One: \xff\r\nConnection: close\r\n\r\n")
    assert (exchange.method, exchange.target, exchange.authority) == ("PATCH", "/a%20b?c=d", "h:1")
    assert (exchange.scheme, exchange.client) == ("http", "127.0.0.1")
    assert exchange.headers == (
        (b"Host", b"h:1"),
        (b"X-One", b"1"),
        (b"X-One", b"\xff"),
        (b"Connection", b"close"),
    )


@pytest.mark.parametrize("method", ["GET", "TRACE", "PROPFIND", "BREW", "get", "X-A!#$%&'*+.^_`|~9", "PUTT", "PU"])
def test_any_method_reaches_the_handler(method: str) -> None:
    assert seen(f"{method} /p HTTP/1.1\r\n".encode() + CLOSE).method == method


def test_a_client_that_leaves_before_what_was_written_is_sent_is_no_error_of_the_server() -> None:
    problems: list[Any] = []

    async def handle(exchange: Exchange) -> None:
        response = exchange.start(200, [])
        await asyncio.sleep(0.01)  # what is written from here on is sent at the end of the loop's turn
        response.write(b"x")
        exchange.connection.transport.abort()
        await asyncio.sleep(0.05)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: problems.append(context))
        async with streaming(handle, PLAIN) as server:
            await server.raw(b"GET / HTTP/1.1\r\n" + CLOSE)

    asyncio.run(main())
    assert problems == []


def test_a_response_can_be_cut_when_the_client_has_left() -> None:
    """As a guest's response is that is ended because its client has left."""
    cut: list[str] = []

    async def handle(exchange: Exchange) -> None:
        response = exchange.start(200, [])
        await asyncio.sleep(0.01)  # the head is sent
        response.write(b"x")
        exchange.connection.transport.abort()
        response.cut("the guest is ended")
        cut.append("cut")

    async def main() -> None:
        async with streaming(handle, PLAIN) as server:
            await server.raw(b"GET / HTTP/1.1\r\n" + CLOSE)

    asyncio.run(main())
    assert cut == ["cut"]


def test_whoever_reads_a_body_on_when_the_handler_has_ended_is_told() -> None:
    """A component may have handed the body on, to a request of its own that goes on in the background."""
    readers: list[asyncio.Task[bytes]] = []

    async def handle(exchange: Exchange) -> None:
        readers.append(asyncio.create_task(exchange.body.read(10)))
        await asyncio.sleep(0)
        await hello(exchange)

    async def main() -> None:
        async with streaming(handle, PLAIN) as server:
            await server.raw(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n" + CLOSE)
            (reader,) = readers
            with pytest.raises(ConnectionAbortedError, match="nobody reads the body any more"):
                await asyncio.wait_for(reader, 5)

    asyncio.run(main())


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_method_of_no_standard_may_come_in_pieces(cut: int) -> None:
    request = b"BREW /pot HTTP/1.1\r\n" + CHUNKED + b"5\r\nhello\r\n0\r\n\r\nBREW / HTTP/1.1\r\n" + CLOSE
    got = []

    async def handle(exchange: Exchange) -> None:
        got.append((exchange.method, exchange.target, await exchange.body.read(100)))
        await hello(exchange)

    ask(handle, request[:cut], request[cut:])
    assert got == [("BREW", "/pot", b"hello"), ("BREW", "/", b"")]


@pytest.mark.parametrize(
    "line", [b"BR EW / HTTP/1.1", b"BREW  / HTTP/1.1", b"B(EW / HTTP/1.1", b"A" * 101 + b" / HTTP/1.1"]
)
def test_what_is_no_method_is_refused(line: bytes) -> None:
    response = ask(hello, line + b"\r\n" + CLOSE)
    assert response.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 "))


@pytest.mark.parametrize(
    ("line", "target", "authority"),
    [
        (b"OPTIONS * HTTP/1.1", "*", "a"),
        (b"GET http://h:8/p?q HTTP/1.1", "/p?q", "h:8"),
        (b"CONNECT h:443 HTTP/1.1", "", "h:443"),
    ],
)
def test_targets_of_all_forms(line: bytes, target: str, authority: str) -> None:
    exchange = seen(line + b"\r\n" + CLOSE)
    assert (exchange.target, exchange.authority) == (target, authority)


def test_a_request_of_http_1_0_may_have_no_authority() -> None:
    assert seen(b"GET / HTTP/1.0\r\n\r\n").authority is None


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /\xff HTTP/1.1\r\n" + CLOSE, 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n" + CLOSE, 505),
        (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: more\r\nConnection: close\r\n\r\n", 417),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ],
)
def test_what_no_handler_sees(request_: bytes, status: int) -> None:
    assert ask(hello, request_).startswith(b"HTTP/1.1 %d " % status)


# Responses.


def test_a_response_that_is_whole_at_once_has_a_length() -> None:
    response = ask(answering(b"hel", b"lo"), b"GET / HTTP/1.1\r\n" + CLOSE)
    assert b"Content-Length: 5" in lines_of(response)
    assert body_of(response) == b"hello"


def test_a_response_that_takes_time_is_sent_in_chunks() -> None:
    response = ask(answering(b"hel", b"lo", pause=True), b"GET / HTTP/1.1\r\n" + CLOSE)
    assert b"Transfer-Encoding: chunked" in lines_of(response)
    assert body_of(response) == b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"


def test_a_length_that_the_handler_says_is_sent() -> None:
    handler = answering(b"hel", b"lo", headers=[("Content-Length", b"5")], pause=True)
    response = ask(handler, b"GET / HTTP/1.1\r\n" + CLOSE)
    assert b"Content-Length: 5" in lines_of(response)
    assert not any(line.startswith(b"Transfer-Encoding") for line in lines_of(response))
    assert body_of(response) == b"hello"


def test_a_client_of_http_1_0_gets_no_chunks() -> None:
    response = ask(answering(b"hel", b"lo", pause=True, trailers=[("x", b"y")]), b"GET / HTTP/1.0\r\n\r\n")
    assert b"Connection: close" in lines_of(response)
    assert body_of(response) == b"hello"


def test_an_empty_response() -> None:
    response = ask(answering(), b"GET / HTTP/1.1\r\n" + CLOSE)
    assert b"Content-Length: 0" in lines_of(response)


@pytest.mark.parametrize("pause", [False, True])
def test_trailers_are_sent_after_chunks(pause: bool) -> None:
    handler = answering(b"hello", pause=pause, headers=[("Trailer", b"X-Sum")], trailers=[("X-Sum", b"1")])
    response = ask(handler, b"GET / HTTP/1.1\r\n" + CLOSE)
    assert b"Trailer: X-Sum" in lines_of(response)
    assert body_of(response) == b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"


def test_trailers_about_the_framing_are_left_out() -> None:
    trailers = [("Content-Length", b"1"), ("Transfer-Encoding", b"x"), ("Content-Type", b"x"), ("X-Y", b"z")]
    response = ask(answering(b"a", pause=True, trailers=trailers), b"GET / HTTP/1.1\r\n" + CLOSE)
    assert body_of(response) == b"1\r\na\r\n0\r\nX-Y: z\r\n\r\n"


@pytest.mark.parametrize("pause", [False, True])
def test_the_answer_to_head_has_no_body(pause: bool) -> None:
    handler = answering(b"hello", headers=[("Content-Length", b"5")], pause=pause)
    response = ask(handler, b"HEAD / HTTP/1.1\r\n" + CLOSE)
    assert b"Content-Length: 5" in lines_of(response)
    assert body_of(response) == b""


def test_the_answer_to_head_needs_no_body() -> None:
    response = ask(answering(headers=[("Content-Length", b"12")]), b"HEAD / HTTP/1.1\r\n" + CLOSE)
    assert b"Content-Length: 12" in lines_of(response)


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("pause", [False, True])
def test_statuses_without_content(status: int, pause: bool) -> None:
    handler = answering(b"hello", status=status, headers=[("Content-Length", b"5")], pause=pause)
    response = ask(handler, b"GET / HTTP/1.1\r\n" + KEEP, b"GET / HTTP/1.1\r\n" + CLOSE)
    head = b"HTTP/1.1 %d" % status
    assert response.count(head) == 2
    assert b"ontent-Length" not in response
    assert b"hello" not in response


def test_headers_of_the_connection_are_the_servers() -> None:
    headers = [("Connection", b"x-a"), ("Transfer-Encoding", b"gzip"), ("Keep-Alive", b"1"), ("X-B", b"b")]
    response = ask(answering(headers=headers), b"GET / HTTP/1.1\r\n" + CLOSE)
    assert [line for line in lines_of(response) if line.startswith((b"Conn", b"Trans", b"Keep"))] == [
        b"Connection: close"
    ]
    assert b"X-B: b" in lines_of(response)


def test_a_handlers_date_is_kept() -> None:
    response = ask(answering(headers=[("date", b"then")]), b"GET / HTTP/1.1\r\n" + CLOSE)
    assert [line for line in lines_of(response) if line.lower().startswith(b"date")] == [b"date: then"]


def test_cors_is_as_for_other_handlers() -> None:
    headers = [("Access-Control-Allow-Origin", b"https://x")]
    response = ask(answering(headers=headers), b"GET / HTTP/1.1\r\n" + CLOSE, settings=HttpSettings())
    assert b"Access-Control-Allow-Origin: *" in lines_of(response)
    assert b"https://x" not in response
    response = ask(answering(headers=headers), b"GET / HTTP/1.1\r\n" + CLOSE)
    assert b"Access-Control-Allow-Origin: https://x" in lines_of(response)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (101, []),
        (600, []),
        (200, [("a b", b"c")]),
        (200, [("a", b"b\r\nc: d")]),
        (200, [("a" * 101, b"b\n")]),
        (200, [("Content-Length", b"-1")]),
        (200, [("Content-Length", b"1"), ("Content-Length", b"2")]),
    ],
)
def test_a_response_that_cant_be_sent(status: int, headers: Any) -> None:
    errors = []

    async def handle(exchange: Exchange) -> None:
        try:
            exchange.start(status, headers)
        except BadResponse as error:
            errors.append(error)
            exchange.fail(502, "it was bad")

    assert ask(handle, b"GET / HTTP/1.1\r\n" + CLOSE).startswith(b"HTTP/1.1 502 ")
    assert len(errors) == 1


def test_responses_before_the_one_that_counts() -> None:
    async def handle(exchange: Exchange) -> None:
        exchange.inform(103, [("Link", b"</a>")])
        await hello(exchange)

    response = ask(handle, b"GET / HTTP/1.1\r\n" + CLOSE)
    assert response.startswith(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert ask(handle, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_response_begins_once() -> None:
    errors = []

    async def handle(exchange: Exchange) -> None:
        await hello(exchange)
        for again in (lambda: exchange.start(200, []), lambda: exchange.inform(103, [])):
            try:
                again()
            except RuntimeError as error:
                errors.append(error)

    ask(handle, b"GET / HTTP/1.1\r\n" + CLOSE)
    assert len(errors) == 2


@pytest.mark.parametrize("pause", [False, True])
@pytest.mark.parametrize("written", [5, 7])
def test_another_length_than_the_declared_one(pause: bool, written: int, caplog: pytest.LogCaptureFixture) -> None:
    errors = []

    async def handle(exchange: Exchange) -> None:
        response = exchange.start(200, [("Content-Length", b"6")])
        try:
            for _ in range(written):
                response.write(b"a")
                if pause:
                    await asyncio.sleep(0.01)
            response.finish()
        except WrongLength as error:
            errors.append((error.written, error.declared))

    response = ask(handle, b"GET / HTTP/1.1\r\n" + CLOSE)
    assert errors == [(written, 6)]
    if pause:
        assert b"Content-Length: 6" in lines_of(response)
        assert body_of(response) == b"a" * min(written, 6)
    else:
        assert response.startswith(b"HTTP/1.1 500 ")
    (record,) = caplog.records
    assert f"{written} bytes of the 6" in record.getMessage()


def test_a_length_that_turns_out_wrong_cuts_the_connection_though_the_handler_goes_on() -> None:
    async def main() -> None:
        cut, ended = asyncio.Event(), asyncio.Event()

        async def handle(exchange: Exchange) -> None:
            response = exchange.start(200, [("Content-Length", b"6")])
            await asyncio.sleep(0.01)
            with pytest.raises(WrongLength):
                response.finish()
            await cut.wait()
            await asyncio.sleep(0.1)
            ended.set()

        async with streaming(handle, PLAIN) as server:
            assert body_of(await server.raw(b"GET / HTTP/1.1\r\n" + KEEP)) == b""
            assert not ended.is_set()
            cut.set()
        assert ended.is_set()

    asyncio.run(main())


# Handlers that fail.


async def _trap(exchange: Exchange) -> None:
    raise HandlerFailure("unreachable executed")


async def _trap_after_the_head(exchange: Exchange) -> None:
    response = exchange.start(200, [])
    response.write(b"begun")
    await asyncio.sleep(0.01)
    raise HandlerFailure("unreachable executed")


async def _nothing(exchange: Exchange) -> None:
    pass


async def _half(exchange: Exchange) -> None:
    exchange.start(200, []).write(b"begun")
    await asyncio.sleep(0.01)


async def _own_failure(exchange: Exchange) -> None:
    raise ConnectionRefusedError("the database is down")


@pytest.mark.parametrize(
    ("handler", "reason"),
    [(_trap, "unreachable executed"), (_nothing, "without a response"), (_own_failure, "the database is down")],
)
def test_a_handler_that_fails_before_the_head_is_a_500(
    handler: Handler, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(exchange: Exchange) -> None:
        await (handler if exchange.target == "/fail" else hello)(exchange)

    response = ask(handle, b"GET /fail HTTP/1.1\r\n" + KEEP + b"GET / HTTP/1.1\r\n" + CLOSE)
    assert response.startswith(b"HTTP/1.1 500 ")
    assert response.endswith(b"hello"), "the connection goes on"
    assert reason.encode() not in response
    assert [record.getMessage() for record in caplog.records if reason in record.getMessage()]


@pytest.mark.parametrize(
    ("handler", "reason"), [(_trap_after_the_head, "unreachable"), (_half, "before its response was whole")]
)
def test_a_handler_that_fails_after_the_head_cuts_the_connection(
    handler: Handler, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    response = ask(handler, b"GET / HTTP/1.1\r\n" + KEEP)
    assert body_of(response) == b"5\r\nbegun\r\n"
    assert reason in caplog.text


def test_a_cut_in_a_response_of_unknown_length_is_no_end_of_it() -> None:
    async def main() -> None:
        async with streaming(_half, PLAIN) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 5)
            writer.close()

    asyncio.run(main())


# Bodies of requests.


def reading(*, most: int = 65536) -> tuple[Handler, list[Any]]:
    """A handler that reads the body, and what it has read: bytes, then trailers or an error."""
    got: list[Any] = []

    async def handle(exchange: Exchange) -> None:
        try:
            while data := await exchange.body.read(most):
                got.append(data)
            got.append(exchange.body.trailers())
        except Exception as error:
            got.append(error)
        await hello(exchange)

    return handle, got


@pytest.mark.parametrize("pieces", [1, 2, 7, 1000])
def test_bodies_and_trailers_arrive_however_they_are_cut(pieces: int) -> None:
    handle, got = reading()
    request = b"POST / HTTP/1.1\r\n" + CHUNKED + b'5\r\nhello\r\n4;a="b:c"\r\n\r\n\r\n\r\n0;last="x:y"\r\n'
    request += b"X-Sum: 1 \r\nTE: b\r\nX-Two:\t2\r\n\r\n"
    step = max(1, len(request) // pieces)
    parts = [request[start : start + step] for start in range(0, len(request), step)]

    async def main() -> None:
        async with streaming(handle, PLAIN) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            for part in parts:
                writer.write(part)
                await asyncio.sleep(0.001)
            assert (await read_response(reader))[0] == 200
            writer.write(b"GET / HTTP/1.1\r\n" + CLOSE)
            assert (await read_response(reader))[0] == 200
            writer.close()

    asyncio.run(main())
    *data, trailers, none = got
    assert b"".join(data) == b"hello\r\n\r\n"
    assert trailers == [("x-sum", b"1"), ("x-two", b"2")]
    assert none == []


def test_trailers_of_requests_in_a_row_are_told_apart() -> None:
    handle, got = reading()
    request = b"POST / HTTP/1.1\r\n" + CHUNKED + b"1\r\na\r\n0\r\nX: %d\r\n\r\n"
    ask(handle, request % 1 + request % 2 + request % 3 + b"GET / HTTP/1.1\r\n" + CLOSE)
    assert [each for each in got if isinstance(each, list)] == [[("x", b"1")], [("x", b"2")], [("x", b"3")], []]


def test_no_trailer_becomes_a_header_of_the_next_request() -> None:
    names = []

    async def handle(exchange: Exchange) -> None:
        names.append([name for name, _ in exchange.headers])
        await hello(exchange)

    request = b"POST / HTTP/1.1\r\n" + CHUNKED + b"1\r\na\r\n0\r\nX: y\r\n\r\n"
    ask(handle, request + b"GET / HTTP/1.1\r\n" + CLOSE)
    ask(handle, request, b"GET / HTTP/1.1\r\n" + CLOSE)
    assert names == [[b"Host", b"Transfer-Encoding"], [b"Host", b"Connection"]] * 2


def test_trailers_that_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "MAX_TRAILERS", 1000)
    handle, got = reading()
    large = b"".join(b"X-%d: %s\r\n" % (number, b"y" * 90) for number in range(20))
    request = b"POST / HTTP/1.1\r\nConnection: close\r\n" + CHUNKED + b"1\r\na\r\n0\r\n"
    ask(handle, request + large + b"\r\n")
    ask(handle, request + b"X: y\r\n\r\n")
    assert isinstance(got[1], TrailersTooLarge)
    assert got[3] == [("x", b"y")]


def test_a_body_is_read_in_pieces_of_the_size_that_is_asked_for() -> None:
    handle, got = reading(most=3)
    ask(handle, b"POST / HTTP/1.1\r\nContent-Length: 8\r\n" + CLOSE + b"01234567")
    assert got == [b"012", b"345", b"67", []]


def test_a_handler_may_read_while_the_body_comes() -> None:
    handle, got = reading()
    ask(handle, b"POST / HTTP/1.1\r\nContent-Length: 6\r\n" + CLOSE, b"abc", b"def")
    assert got == [b"abc", b"def", []]


def test_a_body_longer_than_the_limit_fails_while_it_is_read() -> None:
    handle, got = reading()
    settings = HttpSettings(max_body=10, cors=NO_CORS)
    chunk = b"8\r\n01234567\r\n"
    response = ask(handle, b"POST / HTTP/1.1\r\n" + CHUNKED, chunk, chunk, b"0\r\n\r\n", settings=settings)
    assert got[0] == b"01234567"
    assert isinstance(got[1], BodyTooLarge)
    assert response.startswith(b"HTTP/1.1 200 ")


def test_a_length_beyond_the_limit_is_refused_before_the_handler() -> None:
    settings = HttpSettings(max_body=10, cors=NO_CORS)
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n"
    response = ask(hello, request, settings=settings)
    assert response.startswith(b"HTTP/1.1 413 ")


def test_a_body_whose_framing_breaks() -> None:
    handle, got = reading()
    response = ask(handle, b"POST / HTTP/1.1\r\n" + CHUNKED + b"5\r\nhello\r\n", b"zz\r\n")
    assert got[0] == b"hello"
    assert isinstance(got[1], BodyBroken)
    assert response.count(b"HTTP/1.1 ") == 1


def test_a_client_that_sends_nothing_for_too_long() -> None:
    handle, got = reading()
    settings = HttpSettings(body_timeout=0.1, cors=NO_CORS)
    response = ask(handle, b"POST / HTTP/1.1\r\nContent-Length: 6\r\nHost: a\r\n\r\nabc", settings=settings)
    assert got[0] == b"abc"
    assert isinstance(got[1], BodyTimeout)
    assert response.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close" in response


def test_a_client_that_sends_a_byte_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_module, "MIN_RATE", 1000)
    handle, got = reading()
    settings = HttpSettings(body_timeout=0.15, cors=NO_CORS)
    drops = [b"a"] * 12
    ask(handle, b"POST / HTTP/1.1\r\nContent-Length: 50\r\nHost: a\r\n\r\n", *drops, settings=settings, pause=0.03)
    assert 2 <= len(got) <= 8
    assert isinstance(got[-1], BodyTimeout)


def test_the_word_to_go_on_is_sent_when_the_handler_reads() -> None:
    async def main() -> None:
        begin = asyncio.Event()

        async def handle(exchange: Exchange) -> None:
            await begin.wait()
            await echo(exchange)

        async with streaming(handle, PLAIN) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"POST / HTTP/1.1\r\n" + EXPECT)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.05)
            begin.set()
            assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"hello")
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            assert b"Connection: close" not in head
            assert await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 5) == b"5\r\nhello\r\n0\r\n\r\n"
            writer.close()

    asyncio.run(main())


def test_a_client_that_waits_for_the_word_gets_a_final_answer_instead() -> None:
    response = ask(hello, b"POST / HTTP/1.1\r\n" + EXPECT)
    assert response.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close" in lines_of(response)


def test_the_word_comes_before_the_head_of_who_reads_later() -> None:
    async def handle(exchange: Exchange) -> None:
        exchange.body.wanted = True
        response = exchange.start(200, [])
        response.write(b"begin ")
        await asyncio.sleep(0.01)
        response.write(await exchange.body.read(100))
        response.finish()

    response = ask(handle, b"POST / HTTP/1.1\r\n" + EXPECT, b"hello", b"GET / HTTP/1.1\r\n" + CLOSE)
    assert response.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert b"5\r\nhello\r\n" in response


def test_a_connection_goes_on_after_a_short_body_that_nobody_read() -> None:
    parts = [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc", b"def", b"GET / HTTP/1.1\r\n" + CLOSE]
    assert ask(hello, *parts).count(b"HTTP/1.1 200 OK") == 2


def test_a_connection_ends_after_a_long_body_that_nobody_read() -> None:
    settings = HttpSettings(max_body=1 << 30, cors=NO_CORS)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900000000\r\n\r\n"
    response = ask(hello, head + bytes(500_000), settings=settings)
    assert response.count(b"HTTP/1.1 200 OK") == 1


# Back pressure, and who leaves.


@loops
def test_a_client_that_does_not_read_stops_the_handler(run: Any) -> None:
    async def main() -> None:
        written = 0

        async def handle(exchange: Exchange) -> None:
            nonlocal written
            response = exchange.start(200, [])
            for _ in range(1000):
                response.write(bytes(64 * 1024))
                written += 64 * 1024
                await response.drain()
            response.finish()

        async with streaming(handle, PLAIN) as server:
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", server.port))
            await loop.sock_sendall(client, b"GET / HTTP/1.1\r\n" + CLOSE)
            await until(lambda: written)
            await asyncio.sleep(0.2)
            before = written
            await asyncio.sleep(0.1)
            assert written == before < 16 << 20
            received = 0
            while data := await loop.sock_recv(client, 1 << 20):
                received += len(data)
            client.close()
            assert written == 1000 * 64 * 1024
            assert received > written

    run(main())


@loops
def test_a_handler_that_does_not_read_stops_the_client(run: Any) -> None:
    async def main() -> None:
        begin = asyncio.Event()
        size = 0

        async def handle(exchange: Exchange) -> None:
            nonlocal size
            await begin.wait()
            while data := await exchange.body.read(65536):
                size += len(data)
            await hello(exchange)

        total = 64 << 20
        async with streaming(handle, HttpSettings(max_body=total, cors=NO_CORS)) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.transport.set_write_buffer_limits(high=1 << 16)
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % total)
            sent = 0

            async def send() -> None:
                nonlocal sent
                while sent < total:
                    writer.write(bytes(1 << 16))
                    sent += 1 << 16
                    await writer.drain()

            sending = asyncio.create_task(send())
            await asyncio.sleep(0.3)
            before = sent
            await asyncio.sleep(0.1)
            assert sent == before < 32 << 20
            begin.set()
            await asyncio.wait_for(sending, 20)
            assert (await read_response(reader))[0] == 200
            assert size == total
            writer.close()

    run(main())


@loops
def test_a_long_echo_takes_constant_memory(run: Any) -> None:
    async def main() -> None:
        total = 128 << 20
        async with streaming(echo, HttpSettings(max_body=total, cors=NO_CORS)) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 18)
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % total)
            piece = bytes(1 << 18)

            async def send() -> None:
                for _ in range(total // len(piece)):
                    writer.write(piece)
                    await writer.drain()

            before = getrusage(RUSAGE_SELF).ru_maxrss
            sending = asyncio.create_task(send())
            await reader.readuntil(b"\r\n\r\n")
            received = 0
            while line := await asyncio.wait_for(reader.readline(), 20):
                size = int(line, 16)
                received += size
                await reader.readexactly(size + 2)
                if not size:
                    break
            await sending
            writer.close()
            assert received == total
            assert getrusage(RUSAGE_SELF).ru_maxrss - before < 32 << 10

    run(main())


def test_a_client_that_leaves_ends_the_handler() -> None:
    async def main() -> None:
        records: list[AccessRecord] = []
        ended = asyncio.Event()

        async def handle(exchange: Exchange) -> None:
            response = exchange.start(200, [])
            try:
                while True:
                    response.write(b"tick")
                    await asyncio.sleep(0.01)
            finally:
                ended.set()

        async with streaming(handle, PLAIN, records.append) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET / HTTP/1.1\r\n" + KEEP)
            await reader.readuntil(b"tick")
            writer.close()
            await asyncio.wait_for(ended.wait(), 5)
            await until(lambda: records)
        (record,) = records
        assert (record.status, record.method, record.path) == (499, "GET", "/")
        assert record.bytes >= 4

    asyncio.run(main())


def test_a_handler_that_ends_since_its_client_left_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        records: list[AccessRecord] = []

        async def handle(exchange: Exchange) -> None:
            response = exchange.start(200, [])
            with suppress(ConnectionError, asyncio.CancelledError):
                while True:
                    response.write(b"tick")
                    await asyncio.sleep(0.01)

        async with streaming(handle, PLAIN, records.append) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET / HTTP/1.1\r\n" + KEEP)
            await reader.readuntil(b"tick")
            writer.close()
            await until(lambda: records)
        assert [record.status for record in records] == [499]

    asyncio.run(main())
    assert caplog.messages == []


def test_a_client_that_leaves_in_its_body_ends_the_handler() -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def handle(exchange: Exchange) -> None:
            try:
                while await exchange.body.read(100):
                    pass
            finally:
                ended.set()

        async with streaming(handle, PLAIN) as server:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
            await asyncio.sleep(0.05)
            writer.close()
            await asyncio.wait_for(ended.wait(), 5)

    asyncio.run(main())


def test_a_client_that_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "SEND_STALL", 0.1)

    async def main() -> None:
        ended = asyncio.Event()

        async def handle(exchange: Exchange) -> None:
            response = exchange.start(200, [])
            try:
                while True:
                    response.write(bytes(1 << 16))
                    await response.drain()
            finally:
                ended.set()

        async with streaming(handle, PLAIN) as server:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 10)
            writer.write(b"GET / HTTP/1.1\r\n" + KEEP)
            await asyncio.wait_for(ended.wait(), 5)
            writer.close()

    asyncio.run(main())


# Limits.


def test_a_handler_that_does_not_answer_in_time(caplog: pytest.LogCaptureFixture) -> None:
    async def handle(exchange: Exchange) -> None:
        await (asyncio.sleep(10) if exchange.target == "/slow" else hello(exchange))

    settings = HttpSettings(request_timeout=0.1, cors=NO_CORS)
    response = ask(handle, b"GET /slow HTTP/1.1\r\n" + KEEP + b"GET / HTTP/1.1\r\n" + CLOSE, settings=settings)
    assert response.startswith(b"HTTP/1.1 504 ")
    assert response.endswith(b"hello")
    assert "no answer within 0.1 seconds" in caplog.text


def test_a_handler_may_take_its_time_while_it_writes_or_reads() -> None:
    async def handle(exchange: Exchange) -> None:
        response = exchange.start(200, [])
        for _ in range(10):
            response.write(b"a")
            await asyncio.sleep(0.05)
        while await exchange.body.read(100):
            pass
        response.finish()

    settings = HttpSettings(request_timeout=0.15, body_timeout=1, cors=NO_CORS)
    parts = [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n", *[b"a"] * 6]
    response = ask(handle, *parts, b"GET / HTTP/1.0\r\n\r\n", settings=settings, pause=0.1)
    assert body_of(response).startswith(b"1\r\na\r\n" * 10 + b"0\r\n\r\nHTTP/1.1 200 OK")


def test_a_handler_that_stops_writing_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    async def handle(exchange: Exchange) -> None:
        exchange.start(200, []).write(b"a")
        await asyncio.sleep(10)

    response = ask(handle, b"GET / HTTP/1.1\r\n" + KEEP, settings=HttpSettings(request_timeout=0.1, cors=NO_CORS))
    assert body_of(response) == b"1\r\na\r\n"
    assert "no more of the answer within 0.1 seconds" in caplog.text


def test_the_most_requests_at_once() -> None:
    async def main() -> None:
        through = asyncio.Event()

        async def handle(exchange: Exchange) -> None:
            await through.wait()
            await hello(exchange)

        async with streaming(handle, HttpSettings(max_concurrent=2, cors=NO_CORS)) as server:
            waiting = [asyncio.create_task(server.raw(b"GET / HTTP/1.1\r\n" + CLOSE)) for _ in range(2)]
            await asyncio.sleep(0.05)
            assert (await server.raw(b"GET / HTTP/1.1\r\n" + CLOSE)).startswith(b"HTTP/1.1 503 ")
            through.set()
            assert all(each.endswith(b"hello") for each in await asyncio.gather(*waiting))

    asyncio.run(main())


# What comes after the response.


@loops
def test_a_handler_may_go_on_after_its_response(run: Any) -> None:
    async def main() -> None:
        ended: list[str] = []
        records: list[AccessRecord] = []
        answered = asyncio.Event()

        async def handle(exchange: Exchange) -> None:
            await hello(exchange)
            if exchange.target == "/late":
                await answered.wait()
                await asyncio.sleep(0.1)
                ended.append(exchange.target)

        async with streaming(handle, PLAIN, records.append) as server:
            response = await server.raw(b"GET /late HTTP/1.1\r\n" + KEEP + b"GET / HTTP/1.1\r\n" + CLOSE)
            assert response.count(b"hello") == 2
            assert [(record.path, record.status) for record in records] == [("/late", 200), ("/", 200)]
            assert not ended
            answered.set()
        assert ended == ["/late"], "the server waits for it when it stops"

    run(main())


def test_a_handler_that_goes_on_for_too_long_is_ended(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def handle(exchange: Exchange) -> None:
            await hello(exchange)
            try:
                await asyncio.sleep(10)
            finally:
                ended.set()

        async with streaming(handle, HttpSettings(request_timeout=0.1, cors=NO_CORS)) as server:
            await server.raw(b"GET / HTTP/1.1\r\n" + CLOSE)
            await asyncio.wait_for(ended.wait(), 5)

    asyncio.run(main())
    assert "has not ended 0.1 seconds after its response" in caplog.text


def test_a_handler_that_traps_after_its_response_leaves_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def handle(exchange: Exchange) -> None:
        await hello(exchange)
        if exchange.target == "/late":
            await asyncio.sleep(0.01)
            raise HandlerFailure("unreachable executed")

    response = ask(handle, b"GET /late HTTP/1.1\r\n" + KEEP, b"GET / HTTP/1.1\r\n" + CLOSE)
    assert response.count(b"hello") == 2
    assert "unreachable executed" in caplog.text


def test_a_server_that_stops_ends_what_goes_on() -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def handle(exchange: Exchange) -> None:
            await hello(exchange)
            try:
                await asyncio.sleep(10)
            finally:
                ended.set()

        async with streaming(handle, HttpSettings(drain_timeout=0.1, cors=NO_CORS)) as server:
            await server.raw(b"GET / HTTP/1.1\r\n" + CLOSE)
        assert ended.is_set()

    asyncio.run(main())


def test_a_server_that_stops_lets_a_stream_end() -> None:
    async def main() -> None:
        async def handle(exchange: Exchange) -> None:
            response = exchange.start(200, [])
            for _ in range(10):
                response.write(b"a")
                await asyncio.sleep(0.02)
            response.finish()

        async with streaming(handle, PLAIN) as server:
            asking = asyncio.create_task(server.raw(b"GET / HTTP/1.1\r\n" + KEEP))
            await asyncio.sleep(0.05)
        assert (await asking).endswith(b"1\r\na\r\n" * 10 + b"0\r\n\r\n")

    asyncio.run(main())


def test_requests_in_a_row_are_answered_in_order() -> None:
    async def handle(exchange: Exchange) -> None:
        if exchange.target in ("/1", "/4"):
            await asyncio.sleep(0.02)
        response = exchange.start(200, [])
        response.write(exchange.target.encode())
        response.finish()

    requests = b"".join(b"GET /%d HTTP/1.1\r\n" % number + KEEP for number in range(1, 40))
    response = ask(handle, requests + b"GET /40 HTTP/1.1\r\n" + CLOSE)
    bodies = [part.partition(b"\r\n\r\n")[2] for part in response.split(b"HTTP/1.1 200 OK")[1:]]
    assert bodies == [b"/%d" % number for number in range(1, 41)]


def test_the_access_log_counts_what_was_sent() -> None:
    async def main() -> list[AccessRecord]:
        records: list[AccessRecord] = []

        async with streaming(echo, PLAIN, records.append) as server:
            await server.raw(b"POST /a?b HTTP/1.1\r\nContent-Length: 5\r\n" + CLOSE + b"hello")
            await server.raw(b"HEAD / HTTP/1.1\r\n" + CLOSE)
            await server.raw(b"GET /c HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n")
        return records

    records = asyncio.run(main())
    assert [(r.method, r.path, r.status, r.bytes, r.handler) for r in records] == [
        ("POST", "/a", 200, 5, None),
        ("HEAD", "/", 200, 0, None),
        ("GET", "/c", 400, 12, None),
    ]
