"""The server in Python and that of the native machine understand the same bytes in the same way."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import pytest

from capabilities.bindings.http_types import Request, Response
from capabilities.http import connection as connection_module
from capabilities.http.settings import HttpSettings
from tests import http_serving
from tests.http_serving import Functions, serving

ROUTES = (("GET", "/", "see"), ("GET", "/:a", "see"), ("POST", "/", "see"), ("POST", "/*", "see"))

AT_ONCE = 8
"""How many connections a server is asked on at the same time."""

AT_ONCE_FORWARDED = 2
"""The same for a booted machine: a port that QEMU forwards loses some of more."""

QUIET = 0.05
"""Seconds after the last answer that is expected in which no further one comes."""

SECONDS = 20.0
"""How long an answer may take, on a machine that has more to do."""

TARGETS = (
    *(
        b"*",
        b"*a",
        b"/a/b",
        b"/a?b",
        b"/a%zz",
        b"/%ff",
        b"/caf\xc3\xa9",
        b"/\x80",
        b"/a?b\xc3\xa9",
        b'/a"b',
        b"/a<b>",
        b"/a{b}",
    ),
    *(
        b"/a|b",
        b"/a\\b",
        b"/a^b`",
        b"//",
        b"/#",
        b"/a#b?c",
        b"#",
        b"?a",
        b"a",
        b"http://h/x?y",
        b"ftp://h/x",
        b"http://h",
    ),
    *(
        b"HTTP://h/",
        b"http://",
        b"http:///x",
        b"http://[::1]:80/x",
        b"http://h:80:80/",
        b"http://a b/",
        b"h://",
        b"1h://h/",
    ),
    *(b"http://us%41er:pw@h/", b"http://@h/x", b"http://h@/x", b"http://h#f", b"http://h?q#f"),
)

HEADERS = (
    *(b"X: \x80\xff", b"X:", b"X:a", b"X:\ta\t", b"X: a\x0bb", b"X: a\x01b", b"X: a\tb", b" X: a", b"X\t: a", b"X(: a"),
    *(
        b"X-\x80: a",
        b"X!#$%&'*+-.^_`|~1: a",
        b"Connection: close, keep-alive",
        b"Connection: Close",
        b"Connection: closee",
    ),
    *(
        b"Connection:",
        b"Connection: keep-alive",
        b"Connection: upgrade\r\nUpgrade: websocket",
        b"Upgrade: h2c",
        b"Expect: x",
    ),
    *(b"Content-Length: 0", b"Content-Length: 00", b"Content-Length: 1 ", b"Content-Length: 1\t", b"Content-Length: "),
    *(b"Content-Length: 18446744073709551616", b"Content-Length: 1a", b"Content-Length: 1\r\nContent-Length: 1"),
    *(b"Transfer-Encoding: chunked ", b"Transfer-Encoding: chunked;a=b", b"Transfer-Encoding: chunked,"),
    *(b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip, chunked"),
    *(b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", b'Transfer-Encoding: "chunked"', b"Host: b"),
    *(
        b"Expect: 100-continue, x",
        b"Expect:",
        b"Expect: 100-continue\r\nExpect: 100-continue",
        b"User-Agent: a\r\nUser-Agent: b",
    ),
    *(
        b"Content-Type: a\r\nContent-Type: a",
        b"ETag: a\r\nETag: b",
        b"Cookie: a\r\nCookie: b",
        b"Server: a\r\nServer: b",
    ),
    *(b"Content-Encoding: gzip", b"Origin: http://x", b"Keep-Alive: 5"),
)

CHUNKS = (
    *(b"1\r\na\r\n0\r\n\r\n", b"1 \r\na\r\n0\r\n\r\n", b"1;a\r\na\r\n0\r\n\r\n", b'1;a=b;c="d"\r\na\r\n0\r\n\r\n'),
    *(b"1; a\r\na\r\n0\r\n\r\n", b"1;\r\na\r\n0\r\n\r\n", b"1;a b\r\na\r\n0\r\n\r\n", b"1;\x80\r\na\r\n0\r\n\r\n"),
    *(
        b"0001\r\na\r\n000\r\n\r\n",
        b"00000000000000000000001\r\na\r\n0\r\n\r\n",
        b"1\r\na\r\n0\r\nX: y\r\nZ: z\r\n\r\n",
    ),
    *(b"1\r\na\r\n0\r\nContent-Length: 5\r\n\r\n", b"1\r\na\r\n0\r\nbad\r\n\r\n", b"1\r\na\r\n0\r\nX:\x01\r\n\r\n"),
    *(
        b"1\r\nab\r\n0\r\n\r\n",
        b"A\r\n0123456789\r\n0\r\n\r\n",
        b"g\r\n\r\n",
        b"\r\n",
        b"1\na\n0\n\n",
        b"1\r\na\n0\r\n\r\n",
    ),
    *(
        b"1\r\na\r\n0\r\n\n",
        b"0\r\n\r\nGET /n HTTP/1.1\r\nHost: a\r\n\r\n",
        b"ffffffffffffffff\r\n",
        b"7fffffffffffffff\r\nabc",
    ),
    *(b"-1\r\n", b"+1\r\na", b"0x1\r\na", b"\t1\r\na"),
)

REQUEST_LINES = (
    *(
        b"\r\nGET / HTTP/1.1\r\n",
        b"\n\nGET / HTTP/1.1\r\n",
        b" GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1 \r\n",
        b"GET /\r\n",
    ),
    *(b"GET / HTTP/1.1\r\r\n", b"GET\r\n", b"GET / HTTP/01.1\r\n", b"GET / HTTP/1.10\r\n", b"GET / http/1.1\r\n"),
    *(
        b"GET / HTP/1.1\r\n",
        b"GET / HTTP/1,1\r\n",
        b"GET\t/ HTTP/1.1\r\n",
        b"GET / HTTP/1.1\n",
        b"GE\0T / HTTP/1.1\r\n",
    ),
    *(
        b"HEAD / HTTP/1.1\r\n",
        b"PUT / HTTP/1.1\r\n",
        b"PATCH / HTTP/1.1\r\n",
        b"OPTIONS * HTTP/1.1\r\n",
        b"TRACE / HTTP/1.1\r\n",
    ),
    *(b"PROPFIND / HTTP/1.1\r\n", b"M-SEARCH / HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n", b"CONNECT a:1 HTTP/1.1\r\n"),
    *(b"GET / HTTP/0.9\r\n", b"GET / ICE/1.0\r\n"),
)

REQUESTS = [
    *(b"%s %s HTTP/1.1\r\nHost: a\r\n\r\n" % (method, target) for target in TARGETS for method in (b"GET", b"POST")),
    *(b"POST / HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n1\r\na\r\n0\r\n\r\n" % header for header in HEADERS),
    *(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks for chunks in CHUNKS),
    *(line + b"Host: a\r\n\r\n" for line in REQUEST_LINES),
]


class Answer(NamedTuple):
    """What a client gets, and what the handler has seen."""

    status: int
    is_last: bool
    content: bytes


async def see(request: Request) -> Response:
    seen = ascii((request.method.name, request.uri, request.headers, request.params, request.body))
    return Response(200, None, seen.encode())


def answers_of(data: bytes) -> list[Answer]:
    answers = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        length = re.search(rb"\r\nContent-Length: ([0-9]+)", head)
        has_content = length is not None and b" 100 " not in head
        size = int(length[1]) if length is not None and has_content else 0
        answers.append(Answer(int(head.split(b" ")[1]), b"\r\nConnection: close" in head, rest[:size]))
        data = rest[size:]
    return answers


async def ask_all() -> list[list[Answer]]:
    async with serving(Functions(see=see), *ROUTES, settings=HttpSettings(body_timeout=0.5)) as server:
        places = asyncio.Semaphore(AT_ONCE)

        async def ask(request: bytes) -> list[Answer]:
            async with places:
                return answers_of(await server.raw(request))

        return await asyncio.gather(*map(ask, REQUESTS))


async def ask_machine(counts: list[int]) -> list[list[Answer]]:
    """The answers of a booted machine to each request, of which so many are expected.

    It has the times of real servers for who is silent or late, which are long: nobody waits for those here.
    """
    async with serving(Functions(see=see), *ROUTES) as server:
        places = asyncio.Semaphore(AT_ONCE_FORWARDED)

        async def ask(request: bytes, count: int) -> list[Answer]:
            async with places:
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(request)
                data = b""
                with suppress(TimeoutError):
                    while chunk := await asyncio.wait_for(
                        reader.read(1 << 16), SECONDS if len(answers_of(data)) < count else QUIET
                    ):
                        data += chunk
                writer.close()
                return answers_of(data)

        return await asyncio.gather(*map(ask, REQUESTS, counts))


@pytest.fixture(scope="module")
def in_python() -> list[list[Answer]]:
    """What the server in Python answers to each request."""
    with short_times():
        return asyncio.run(ask_all())


@contextmanager
def short_times() -> Iterator[None]:
    """Has clients that are silent or late wait no longer than they must."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(connection_module, "LINGER", 0.1)
        monkeypatch.setattr(connection_module, "IDLE_TIMEOUT", 0.5)
        yield


def differences(expected: list[list[Answer]], found: list[list[Answer]]) -> list[object]:
    return [each for each in zip(REQUESTS, expected, found, strict=True) if each[1] != each[2]]


def test_the_requests_are_answered_in_many_ways(in_python: list[list[Answer]]) -> None:
    """So that the tests below compare more than refusals."""
    assert {answer.status for answers in in_python for answer in answers} >= {200, 204, 400, 405, 408, 417, 501, 505}


def test_both_servers_answer_the_same_to_the_same_bytes(
    in_python: list[list[Answer]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_serving, "server", "native")
    with short_times():
        assert differences(in_python, asyncio.run(ask_all())) == []


@pytest.mark.usefixtures("machines")
def test_a_booted_machine_answers_the_same_to_the_same_bytes(
    in_python: list[list[Answer]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_serving, "server", "machine")
    in_time = [[answer for answer in answers if answer.status != 408] for answers in in_python]
    assert differences(in_time, asyncio.run(ask_machine([len(answers) for answers in in_time]))) == []
