"""Which requests are understood: whatever follows them, in whichever packets they come, and what the others get."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capabilities.bindings.http_types import Request, Response
from capabilities.http import connection as connection_module
from tests.http_serving import Functions, echo, every_server, every_server_and_loop, hello, serving

GET = b"GET /hello HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
ROOT = b"GET / HTTP/1.1\r\nHost: a\r\n"
ROUTES = (("GET", "/hello", "hello"), ("POST", "/echo", "echo"))


@pytest.fixture(autouse=True)
def _short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "LINGER", 0.05)


async def plain_echo(request: Request) -> Response:
    return Response(200, None, request.body)


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def ask(*parts: bytes, pause: float = 0.02) -> bytes:
    async def main() -> bytes:
        async with serving(Functions(hello=hello, echo=plain_echo), *ROUTES) as server:
            return await server.raw(*parts, pause=pause)

    return asyncio.run(main())


REQUESTS = [
    (GET + b"\r\n", b"hello"),
    (b"\r\n" + GET + b"X: y\r\n\r\n", b"hello"),
    (GET + b"Upgrade: h2c\r\nConnection: upgrade\r\n\r\n", b"hello"),
    (POST + b"Content-Length: 5\r\n\r\nab\r\n\r", b"ab\r\n\r"),
    (POST + b"Content-Length: 12\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n", b"\r\n" * 6),
    (POST + CHUNKED + b"3\r\nabc\r\n4;x=y\r\n\r\n\r\n\r\n0\r\n\r\n", b"abc\r\n\r\n"),
    (POST + CHUNKED + b"1\r\na\r\n0\r\nTrailer: b\r\n\r\n", b"a"),
    (POST + b"Content-Length: 0\r\n\r\n", b""),
]

GARBAGE = [
    b"\x16\x03\x01\x02\0\x01\xfc",
    b"GARBAGE\r\n\r\n",
    b"GET /hello HTTP/1.1\r\nBad header\r\n\r\n",
    b"GET /hello HTTP/1.1\r\n\r\n",
    b"GET  /hello HTTP/1.1\r\nHost: a\r\n\r\n",
]


@every_server_and_loop
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.sampled_from(REQUESTS), max_size=25),
    st.sampled_from(GARBAGE),
    st.lists(st.integers(0, 4000), max_size=12),
)
def test_what_comes_before_garbage_is_answered_however_it_is_cut(
    run: Callable[..., Any], requests: list[tuple[bytes, bytes]], garbage: bytes, cuts: list[int]
) -> None:
    sent = b"".join(request for request, _ in requests) + garbage
    places = [0, *sorted(cut for cut in cuts if cut < len(sent)), len(sent)]
    parts = [sent[start:end] for start, end in pairwise(places)]

    async def main() -> None:
        functions = Functions(hello=hello, echo=plain_echo)
        async with serving(functions, *ROUTES) as server:
            answer = await server.raw(*parts, pause=0)
        *answers, last = answer.split(b"HTTP/1.1 ")[1:]
        assert last.startswith(b"400 ")
        assert [each.partition(b"\r\n\r\n")[2] for each in answers] == [content for _, content in requests]
        assert all(each.startswith(b"200 ") for each in answers)

    run(main())


@every_server
@pytest.mark.parametrize("behind", [b"", GET + b"\r\n", b"garbage\r\n\r\n", b"\0"])
@pytest.mark.parametrize("pause", [0, 0.02])
def test_a_request_that_is_the_last_is_answered_and_what_follows_is_ignored(behind: bytes, pause: float) -> None:
    last = GET + b"Connection: close\r\n\r\n"
    for parts in ((last + behind,), (last, behind)):
        answer = ask(*parts, pause=pause)
        assert statuses(answer) == [200]
        assert b"Connection: close\r\n" in answer


@every_server_and_loop
def test_a_client_that_sends_on_behind_its_last_request_gets_to_read_all_answers(run: Callable[..., Any]) -> None:
    # To close a connection while something comes is to reset it, and what the client hasn't read by then is lost.
    async def main() -> None:
        async with serving(Functions(hello=hello)) as server:
            for _ in range(20):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(ROOT + b"\r\n" + ROOT + b"Connection: close\r\n\r\n")
                for _ in range(5):
                    await asyncio.sleep(0.001)
                    writer.write(bytes(10_000))
                assert statuses(await asyncio.wait_for(reader.read(), 5)) == [200, 200]
                writer.close()

    run(main())


@every_server
def test_a_body_that_is_not_read_on_loses_nothing_that_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "READ_AHEAD", 1024)
    long = POST + b"Content-Length: 100000\r\n\r\n" + b"\r\n\r\n" * 25_000
    answer = ask(GET + b"\r\n" + long + long + GET + b"\r\n" + b"garbage\r\n\r\n")
    assert statuses(answer) == [200, 200, 200, 200, 400]
    assert answer.count(b"\r\n\r\n") == 50_000 + 5


@every_server
def test_many_requests_before_garbage_are_answered() -> None:
    assert statuses(ask((GET + b"\r\n") * 100 + b"garbage")) == [200] * 100 + [400]


@every_server
@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /hello HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: a:b\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: \xff\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: " + b"a" * 1000 + b"\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost:\r\n\r\n", 200),
        (b"GET /hello HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", 200),
        (b"GET /hello HTTP/1.1\r\nHost: xn--a.example_1:80\r\n\r\n", 200),
        (b"GET /hello HTTP/1.0\r\n\r\n", 200),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n", 200),
        (POST + b"Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n", 400),
        (b"BREW /hello HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"get /hello HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"TRACE /hello HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"B(W /hello HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /hello HTTP/1.2\r\nHost: a\r\n\r\n", 505),
        (b"GET /hello HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET /hello HTTP/9.9\r\nHost: a\r\n\r\n", 505),
        (b"GET  /hello HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /hello  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (GET + b"X: two  spaces\r\n\r\n", 200),
        (GET + b"Expect: 100-continue\r\n\r\n", 200),
        (GET + b"Expect: a-pony\r\n\r\n", 417),
        (b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET /" + b"a" * 8_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (GET + b"X: " + b"a" * 10_000 + b"\r\n\r\n", 431),
        (POST + CHUNKED + b"1;" + b"x" * 100_000 + b"\r\na\r\n0\r\n\r\n", 400),
        (POST + CHUNKED + (b"1;" + b"x" * 100 + b"\r\na\r\n") * 1000 + b"0\r\n\r\n", 400),
        (POST + CHUNKED + b"1\r\na\r\n" * 20_000 + b"0\r\n\r\n", 200),
        (POST + CHUNKED + b"1;name=value\r\na\r\n0\r\n\r\n", 200),
    ],
)
def test_a_request_gets_the_status_that_says_what_is_wrong(request_: bytes, status: int) -> None:
    closing = request_.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) if status in (200, 404, 417) else request_
    for parts in ((closing,), (closing[:7], closing[7:])):

        async def main(parts: tuple[bytes, ...] = parts) -> list[int]:
            async with serving(Functions(hello=hello, echo=plain_echo), *ROUTES) as server:
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                for part in parts:
                    writer.write(part)
                    await asyncio.sleep(0.01)
                answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
                writer.close()
                return statuses(answer)

        assert asyncio.run(main()) in ([status], [100])


@every_server
def test_the_host_of_a_full_url_is_the_host_that_a_handler_sees() -> None:
    async def main() -> None:
        functions = Functions(echo=echo)
        async with serving(functions, ("GET", "/*", "echo")) as server:
            await server.raw(
                b"GET http://user@example.org:81/path?q HTTP/1.1\r\nHost: other\r\nA: b\r\nConnection: close\r\n\r\n"
            )
            assert functions.seen[0].uri == "/path?q"
            assert [header for header in functions.seen[0].headers if header[0] in ("host", "a")] == [
                ("host", "example.org:81"),
                ("a", "b"),
            ]

    asyncio.run(main())


@every_server
def test_no_trailer_becomes_a_header_of_the_next_request() -> None:
    async def main() -> list[list[str]]:
        functions = Functions(hello=hello, echo=plain_echo)
        first = POST + CHUNKED + b"1\r\na\r\n0\r\nX: y\r\n\r\n"
        async with serving(functions, *ROUTES) as server:
            await server.raw(first + GET + b"Connection: close\r\n\r\n")
            await server.raw(first, GET + b"Connection: close\r\n\r\n")
        return [[name for name, _ in request.headers or ()] for request in functions.seen]

    assert asyncio.run(main()) == [["host", "transfer-encoding"], ["host", "connection"]] * 2
