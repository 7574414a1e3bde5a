"""The HTTP client, against real servers on 127.0.0.1 and a real proxy."""

from __future__ import annotations

import asyncio
import gzip
import logging
import shutil
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import uvloop
from aiohttp import web

from bindgen.runtime import Err
from capabilities import notices
from capabilities.bindings import http_types
from capabilities.http_client import (
    Broken,
    HttpClientError,
    InvalidRequest,
    InvalidResponse,
    InvalidUrl,
    Refused,
    RefusedByProxy,
    Request,
    Response,
    TimedOut,
    TooLarge,
    Unreachable,
    client,
    fields,
)
from capabilities.http_client.client import HttpClient
from capabilities.http_client.host import HttpClientHost
from capabilities.http_client.urls import Address
from tests.http_origin import Origin, ok, origin, raw_origin
from tests.servers import HOST, Server, free_port, make_certificate

METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")

LOCAL = {"ALLOW_PRIVATE": HOST}
"""Grants the servers of these tests."""

OTHER = "127.0.0.2"
"""Another address of this machine, which is not granted."""


def with_client(
    use: Callable[[HttpClient], Awaitable[None]], configs: Mapping[str, str] = LOCAL, **arguments: Any
) -> None:
    """Runs a test with a client of its own."""

    async def run() -> None:
        arguments.setdefault("environment", {})
        sender = HttpClient(configs, **arguments)
        try:
            async with asyncio.timeout(20):
                await use(sender)
        finally:
            await sender.close()

    asyncio.run(run())


async def get(sender: HttpClient, url: str, *headers: tuple[str, str], method: str = "GET") -> Response:
    return await sender.send(Request(method, url, headers))


class Names:
    """A name server that answers with what it is told to, in turn, the last answer for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, name: str) -> list[Address]:
        self.asked.append(name)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [ip_address(each) for each in answer]


# What is sent.


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("body", [b"", bytes(range(256)) * 2_000], ids=["empty", "binary"])
def test_every_method_carries_any_bytes(method: str, body: bytes) -> None:
    async def use(sender: HttpClient) -> None:
        async with origin() as server:
            response = await sender.send(Request(method, server.url("/a?b=%2F"), [("X-A", "1"), ("x-a", "ü")], body))
            (seen,) = server.seen
        assert (seen.method, seen.target, seen.body) == (method, "/a?b=%2F", body)
        assert seen.values("x-a") == ["1", "ü"]
        assert seen.values("transfer-encoding") == []
        assert seen.values("content-length") in ([str(len(body))], [] if not body else None)
        assert (response.status, response.body) == (200, b"" if method == "HEAD" else body)

    with_client(use)


def test_nothing_is_added_but_what_the_guest_leaves_out() -> None:
    async def use(sender: HttpClient) -> None:
        async with origin() as server:
            await get(sender, server.url())
            own = [("accept", "a/b"), ("ACCEPT-ENCODING", "gzip"), ("user-agent", "mine"), ("content-type", "c/d")]
            await sender.send(Request("POST", server.url(), own, b"x"))
            host = ("Host", f"{HOST}:{server.port}")
            added = {("User-Agent", "slight-py"), ("Accept", "*/*"), ("Accept-Encoding", "identity")}
            assert set(server.seen[0].headers) == {host, *added}
            assert set(server.seen[1].headers) == {host, *own, ("Content-Length", "1")}

    with_client(use)


def test_headers_of_the_connection_are_not_the_guests_to_set() -> None:
    async def use(sender: HttpClient) -> None:
        async with origin() as server:
            forbidden = [
                ("Host", "other.example"), ("content-length", "100"), ("Transfer-Encoding", "chunked"),
                ("TE", "trailers"),
                ("Connection", "close, X-Named"), ("X-Named", "1"), ("Keep-Alive", "1"), ("Upgrade", "h2c"),
                ("Expect", "100-continue"), ("Trailer", "X"), ("Proxy-Authorization", "Basic eA=="),
                ("Proxy-Connection", "close"), ("HTTP2-Settings", "x"),
            ]  # fmt: skip
            body = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
            await sender.send(Request("POST", server.url(), [*forbidden, ("X-Kept", "1")], body))
            await get(sender, server.url("/next"))
        first, second = server.seen
        names = {name.lower() for name, _ in first.headers}
        assert names == {"host", "content-length", "user-agent", "accept", "accept-encoding", "x-kept"}
        assert first.values("host") == [f"{HOST}:{server.port}"]
        assert first.values("content-length") == [str(len(body))]
        assert (first.body, second.target) == (body, "/next")

    with_client(use)


@pytest.mark.parametrize(
    ("method", "header"),
    [
        ("GET", ("X", "a\r\nHost: b")), ("GET", ("X", "a\nb")), ("GET", ("X", "a\rb")), ("GET", ("X", "a\0")),
        ("GET", ("X\r\nY", "a")), ("GET", ("X Y", "a")), ("GET", ("X:", "a")), ("GET", ("", "a")), ("GET", ("Ü", "a")),
        ("GET", ("X", "a" * fields.HEADER_BYTES)), ("GET /x HTTP/1.1\r\nA:", ("X", "a")), ("CONNECT", ("X", "a")),
        ("get", ("X", "a")), ("TRACE", ("X", "a")), ("", ("X", "a")),
    ],
)  # fmt: skip
def test_a_request_that_could_be_read_as_two_is_not_sent(method: str, header: tuple[str, str]) -> None:
    async def use(sender: HttpClient) -> None:
        async with origin() as server:
            with pytest.raises(InvalidRequest):
                await sender.send(Request(method, server.url(), [header]))
            assert server.connections == 0

    with_client(use)


def test_a_request_has_a_bounded_number_of_headers_and_a_bounded_body() -> None:
    async def use(sender: HttpClient) -> None:
        async with origin() as server:
            with pytest.raises(InvalidRequest):
                await get(sender, server.url(), *[("X", "1")] * (fields.HEADERS_LIMIT + 1))
            with pytest.raises(TooLarge):
                await sender.send(Request("PUT", server.url(), [], bytes(client.REQUEST_BYTES + 1)))
            assert server.connections == 0

    with_client(use)


def test_user_and_password_of_a_url_become_a_header() -> None:
    async def use(sender: HttpClient) -> None:
        async with origin() as server:
            url = server.url().replace("//", "//Aladdin:open%20sesame@")
            await get(sender, url)
            await get(sender, url, ("Authorization", "Bearer x"))
            assert [seen.values("authorization") for seen in server.seen] == [
                ["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="], ["Bearer x"],
            ]  # fmt: skip

    with_client(use)


def test_neither_cookies_nor_the_users_netrc_reach_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text(f"machine {HOST} login user password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(headers={"Set-Cookie": "session=of-one-guest; Path=/"})

    async def use(sender: HttpClient) -> None:
        async with origin(answer) as server:
            first = await get(sender, server.url())
            await get(sender, server.url())
            assert (b"Set-Cookie", b"session=of-one-guest; Path=/") in first.headers
            assert [seen.values("cookie") + seen.values("authorization") for seen in server.seen] == [[], []]

    with_client(use)


# What comes back.


@pytest.mark.parametrize("status", [200, 201, 204, 299, 304, 400, 404, 418, 500, 503, 599])
def test_a_response_of_any_status_is_a_response(status: int) -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(status=status, headers={"X-A": "b"})

    async def use(sender: HttpClient) -> None:
        async with origin(answer) as server:
            response = await get(sender, server.url())
            assert (response.status, response.body) == (status, b"")
            assert (b"X-A", b"b") in response.headers

    with_client(use)


def test_headers_come_as_they_were_sent_without_those_of_the_connection() -> None:
    message = (
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nX-Bytes: \xff\xfe\r\nset-cookie: b=2\r\nX-Text: \xc3\xbc\r\n"
        b"X-Empty:\r\n"
        b"Connection: keep-alive, X-Named\r\nX-Named: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\n"
        b"Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"
    )

    async def use(sender: HttpClient) -> None:
        async with raw_origin(message) as server:
            response = await get(sender, server.url())
            assert response.headers == [
                (b"Set-Cookie", b"a=1"), (b"X-Bytes", b"\xff\xfe"), (b"set-cookie", b"b=2"),
                (b"X-Text", b"\xc3\xbc"), (b"X-Empty", b""),
            ]  # fmt: skip
            assert response.body == b"abc"
            seen = await HttpClientHost(sender).request(guest_request(server.url()))
            assert seen.headers == [
                ("set-cookie", "a=1"), ("x-bytes", "ÿþ"), ("set-cookie", "b=2"), ("x-text", "ü"), ("x-empty", ""),
            ]  # fmt: skip

    with_client(use)


def test_a_compressed_body_stays_as_it_is_with_the_headers_that_say_so() -> None:
    packed = gzip.compress(bytes(200 * 1024 * 1024), 1)

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    async def use(sender: HttpClient) -> None:
        async with origin(answer) as server:
            response = await get(sender, server.url())
            headers = dict(response.headers)
            assert response.body == packed
            assert (headers[b"Content-Encoding"], headers[b"Content-Length"]) == (b"gzip", str(len(packed)).encode())

    with_client(use, {**LOCAL, "MAX_RESPONSE_MIB": "1"})


def test_headers_of_the_size_that_is_allowed_are_taken() -> None:
    value = "a" * (fields.HEADER_BYTES - 3)

    async def use(sender: HttpClient) -> None:
        message = f"HTTP/1.1 200 OK\r\nX-A: {value}\r\nContent-Length: 0\r\n\r\n".encode()
        async with raw_origin(message) as server:
            response = await get(sender, server.url(), ("X-A", value))
            assert dict(response.headers)[b"X-A"] == value.encode()

    with_client(use)


def test_the_answer_to_head_says_how_long_the_body_would_be() -> None:
    async def use(sender: HttpClient) -> None:
        async with raw_origin(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n") as server:
            response = await get(sender, server.url(), method="HEAD")
            assert (response.headers, response.body) == ([(b"Content-Length", b"9999999999")], b"")

    with_client(use)


@pytest.mark.parametrize("framing", ["length", "chunks", "end"])
def test_a_body_that_is_too_large_is_given_up(framing: str) -> None:
    sent = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        head = {"length": "Content-Length: 99999999999\r\n", "chunks": "Transfer-Encoding: chunked\r\n", "end": ""}
        writer.write(f"HTTP/1.1 200 OK\r\n{head[framing]}\r\n".encode())
        while True:
            piece = bytes(0x10000)
            writer.write(b"10000\r\n%b\r\n" % piece if framing == "chunks" else piece)
            await writer.drain()
            sent += len(piece)

    async def use(sender: HttpClient) -> None:
        async with raw_origin(talk) as server:
            with pytest.raises(TooLarge) as error:
                await get(sender, server.url())
            assert "raise MAX_RESPONSE_MIB" in str(error.value.notice)
            assert sent < 32 * 1024 * 1024

    with_client(use, {**LOCAL, "MAX_RESPONSE_MIB": "1"})


def test_a_body_of_exactly_the_limit_is_taken() -> None:
    limit = 1024 * 1024

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(body=bytes(limit if request.path == "/limit" else limit + 1))

    async def use(sender: HttpClient) -> None:
        async with origin(answer) as server:
            assert (await get(sender, server.url("/limit"))).body == bytes(limit)
            with pytest.raises(TooLarge):
                await get(sender, server.url("/more"))

    with_client(use, {**LOCAL, "MAX_RESPONSE_MIB": "1"})


def test_all_requests_together_hold_a_bounded_amount(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_HELD_BYTES", 1_000_000)

    async def use(sender: HttpClient) -> None:
        async with origin() as server:
            requests = [sender.send(Request("POST", server.url(), [], bytes(200_000))) for _ in range(10)]
            done = await asyncio.gather(*requests, return_exceptions=True)
            failed = [each for each in done if not isinstance(each, Response)]
            assert 0 < len(failed) < 10
            assert {type(each) for each in failed} == {HttpClientError}
            # What was held is free again.
            assert (await sender.send(Request("POST", server.url(), [], bytes(499_000)))).status == 200

    with_client(use)


GARBAGE = {
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n", InvalidResponse),
    "nothing": (b"", Broken),
    "half a head": (b"HTTP/1.1 200 OK\r\nX: ", Broken),
    "a short body": (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", Broken),
    "half a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nabc", Broken),
    "no last chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", Broken),
    "a bad chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n0\r\n\r\n", HttpClientError),
    "another coding": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc", InvalidResponse),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", InvalidResponse),
    "a bad length": (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nabc", InvalidResponse),
    "another protocol": (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        InvalidResponse,
    ),
    "a long header": (b"HTTP/1.1 200 OK\r\nX: " + b"a" * fields.HEADER_BYTES + b"\r\n\r\n", InvalidResponse),
    "many headers": (b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * (fields.HEADERS_LIMIT + 1) + b"\r\n", InvalidResponse),
    "a header without end": (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1_000_000, InvalidResponse),
    "a bad status": (b"HTTP/1.1 abc OK\r\n\r\n", InvalidResponse),
}


@pytest.mark.parametrize("case", GARBAGE)
def test_a_response_that_is_broken_is_an_error(case: str) -> None:
    message, kind = GARBAGE[case]

    async def use(sender: HttpClient) -> None:
        async with raw_origin(message) as server, origin() as sound:
            with pytest.raises(HttpClientError) as error:
                await get(sender, server.url(), method="POST")
            assert isinstance(error.value, kind)
            with pytest.raises(Err) as told:
                await HttpClientHost(sender).request(guest_request(server.url(), http_types.Method.POST))
            assert isinstance(told.value.value, http_types.HttpErrorProtocolError)
            # The client is sound.
            assert (await get(sender, sound.url())).status == 200

    with_client(use)


def test_a_response_that_comes_before_the_whole_request_is_read_is_a_response_or_a_clear_error() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
        await writer.drain()
        await asyncio.sleep(0.2)

    async def use(sender: HttpClient) -> None:
        async with raw_origin(talk) as server:
            response = await sender.send(Request("POST", server.url(), [], bytes(30_000_000)))
            assert (response.status, response.body) == (413, b"big")

    with_client(use)


# Redirects.


def redirecting(status: int, location: str) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """A server that redirects all but /end."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/end":
            return await ok(request)
        return web.Response(status=status, headers={"Location": location})

    return answer


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_keeps_the_method_or_becomes_a_get(status: int, method: str) -> None:
    becomes_get = (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST")

    async def use(sender: HttpClient) -> None:
        async with origin(redirecting(status, "/end")) as server:
            headers = [("Content-Type", "text/plain"), ("X-Kept", "1"), ("Authorization", "Bearer x")]
            response = await sender.send(Request(method, server.url(), headers, b"body"))
            assert response.status == 200
            assert [seen.target for seen in server.seen] == ["/", "/end"]
            last = server.seen[1]
            assert last.method == ("GET" if becomes_get else method)
            assert last.body == (b"" if becomes_get else b"body")
            assert last.values("content-type") == ([] if becomes_get else ["text/plain"])
            assert (last.values("x-kept"), last.values("authorization")) == (["1"], ["Bearer x"])
            # The end of an answer to HEAD that doesn't say a length is, to aiohttp, that of its connection.
            assert server.connections == 1 or method == "HEAD"

    with_client(use)


CREDENTIALS = [("Authorization", "Bearer secret"), ("cookie", "session=secret"), ("X-Kept", "1")]


def test_credentials_do_not_follow_a_redirect_to_another_origin() -> None:
    async def use(sender: HttpClient) -> None:
        # Another port is another origin.
        async with origin() as other:
            async with origin(redirecting(307, other.url("/end"))) as server:
                await get(sender, server.url(), *CREDENTIALS)
                await get(sender, server.url().replace("//", "//user:secret@"))
            assert [seen.values("x-kept") for seen in other.seen] == [["1"], []]
            assert "secret" not in str(other.seen)
            assert all(not seen.values("authorization") and not seen.values("cookie") for seen in other.seen)
            # Nor do they come back with the next redirect.
            other.seen.clear()
            async with (
                origin(redirecting(307, other.url("/end"))) as second,
                origin(redirecting(307, second.url())) as first,
            ):
                await get(sender, first.url(), *CREDENTIALS)
            assert "secret" not in str(other.seen)

    with_client(use)


def test_redirects_without_end_are_given_up() -> None:
    async def use(sender: HttpClient) -> None:
        async with origin(redirecting(302, "/again")) as server:
            with pytest.raises(InvalidResponse, match="more than 10 redirects"):
                await get(sender, server.url())
            assert len(server.seen) == client.MAX_REDIRECTS + 1

    with_client(use)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://h/", "http://127.1/", "http://a@b@c/", "gopher:x"])
def test_a_redirect_that_leads_nowhere_is_an_error(location: str) -> None:
    async def use(sender: HttpClient) -> None:
        async with origin(redirecting(302, location)) as server:
            with pytest.raises(InvalidResponse):
                await get(sender, server.url())

    with_client(use)


@pytest.mark.parametrize("status", [300, 304, 305, 399])
def test_other_statuses_are_not_redirects(status: int) -> None:
    async def use(sender: HttpClient) -> None:
        async with origin(redirecting(status, "/end")) as server:
            assert (await get(sender, server.url())).status == status

    with_client(use)


def test_a_redirect_without_a_location_is_the_response() -> None:
    async def use(sender: HttpClient) -> None:
        async with raw_origin(b"HTTP/1.1 302 Found\r\nContent-Length: 2\r\n\r\nhi") as server:
            assert (await get(sender, server.url())).body == b"hi"

    with_client(use)


def test_every_redirect_is_checked_like_the_first_request() -> None:
    async def use(sender: HttpClient) -> None:
        async with origin(host=OTHER) as private:
            names = [
                private.url(),
                f"http://rebound.example:{private.port}/",
                f"http://[::ffff:{OTHER}]:{private.port}/",
            ]
            for location in names:
                async with origin(redirecting(307, location)) as server:
                    with pytest.raises(Refused):
                        await get(sender, server.url())
                    assert len(server.seen) == 1
            assert private.connections == 0

    with_client(use, look_up=Names([OTHER]))


def test_a_redirect_to_a_host_or_a_scheme_that_is_not_granted_is_refused() -> None:
    async def use(sender: HttpClient) -> None:
        for location in (f"http://{OTHER}/", "https://127.0.0.1/"):
            async with origin(redirecting(302, location)) as server:
                with pytest.raises(Refused):
                    await get(sender, server.url())

    with_client(use, {"ALLOW_HOSTS": HOST, "ALLOW_SCHEMES": "http"})


# Where connections may go.


def test_without_a_grant_this_machine_is_not_reached_by_any_of_its_names() -> None:
    async def use(sender: HttpClient) -> None:
        async with origin() as server:
            for host in (
                HOST,
                "localhost",
                "a.localhost",
                "[::1]",
                "[::ffff:127.0.0.1]",
                "0.0.0.0",
                "[::]",
                "１２７.0.0.1",
            ):
                with pytest.raises(Refused):
                    await get(sender, f"http://{host}:{server.port}/")
            for host in ("2130706433", "0x7f000001", "017700000001", "127.1", "0177.0.0.1"):
                with pytest.raises(InvalidUrl):
                    await get(sender, f"http://{host}:{server.port}/")
            assert server.connections == 0

    with_client(use, {})


@pytest.mark.parametrize("host", ["localhost", "some.localhost"])
def test_a_name_of_this_machine_that_is_written_out_is_granted(host: str) -> None:
    async def use(sender: HttpClient) -> None:
        async with origin() as server:
            assert (await get(sender, f"http://{host}:{server.port}/")).status == 200
            with pytest.raises(Refused):
                await get(sender, server.url())

    with_client(use, {"ALLOW_HOSTS": "localhost, some.localhost"})


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fd00::1"])
def test_a_public_name_with_an_address_that_is_not_is_refused(address: str) -> None:
    async def use(sender: HttpClient) -> None:
        async with origin() as server:
            with pytest.raises(Refused) as refused:
                await get(sender, f"http://metadata.example:{server.port}/")
            assert server.connections == 0
        assert address not in str(refused.value)
        shown = address.removeprefix("::ffff:")
        assert f'ALLOW_PRIVATE = "{shown}"' in str(refused.value.notice)

    with_client(use, {"ALLOW_HOSTS": "metadata.example"}, look_up=Names([address]))


def test_a_name_that_changes_its_address_gains_nothing() -> None:
    names = Names([HOST], [OTHER])

    async def hang_up(request: web.BaseRequest) -> web.Response:
        return web.Response(headers={"Connection": "close"})

    async def use(sender: HttpClient) -> None:
        async with origin(hang_up) as granted:
            url = f"http://rebound.example:{granted.port}/"
            refused: list[str] = []

            async def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                refused.append("connected")
                writer.close()

            async with await asyncio.start_server(connected, OTHER, granted.port):
                assert (await get(sender, url)).status == 200
                for _ in range(3):
                    with pytest.raises(Refused):
                        await get(sender, url)
            # The name is asked for once for a connection: what was checked is what is connected to.
            assert names.asked == ["rebound.example"] * 4
            assert (granted.connections, refused) == (1, [])

    with_client(use, look_up=names)


def test_of_several_addresses_only_those_that_are_granted_are_tried() -> None:
    async def use(sender: HttpClient) -> None:
        async with origin() as granted:
            tried: list[str] = []

            async def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                tried.append("connected")
                writer.close()

            async with await asyncio.start_server(connected, OTHER, granted.port):
                assert (await get(sender, f"http://several.example:{granted.port}/")).status == 200
            assert tried == []

    with_client(use, look_up=Names([OTHER, "169.254.169.254", HOST]))


def test_what_aiohttp_connects_to_is_checked_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(sender: HttpClient) -> None:
        async with origin(host=OTHER) as private:
            monkeypatch.setattr("capabilities.http_client.policy.Policy.check", lambda *_: None)
            with pytest.raises(Refused):
                await get(sender, private.url())
            assert private.connections == 0

    with_client(use)


def test_a_name_that_nobody_knows_is_not_reached() -> None:
    async def use(sender: HttpClient) -> None:
        with pytest.raises(Unreachable, match="no address of that name"):
            await get(sender, "http://nowhere.invalid/")

    with_client(use)


def test_lookups_that_take_for_ever_hold_up_neither_others_nor_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    from threading import Event

    from capabilities.http_client import resolver

    answered, all_asked = Event(), asyncio.Event()
    asked: list[str] = []
    real = resolver._get_addresses
    loop: asyncio.AbstractEventLoop

    def slow(name: str) -> list[Address]:
        asked.append(name)
        if len(asked) == resolver.THREADS:
            loop.call_soon_threadsafe(all_asked.set)
        if name.startswith("slow"):
            answered.wait(20)
        return real("localhost")

    monkeypatch.setattr(resolver, "_get_addresses", slow)

    async def use(sender: HttpClient) -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()
        async with origin() as server:
            names = [f"slow{number}" for number in range(resolver.THREADS + 4)]
            slow_ones = [asyncio.create_task(get(sender, f"http://{name}.example/")) for name in names]
            await all_asked.wait()
            await asyncio.sleep(0.05)
            assert len(asked) == resolver.THREADS
            # Nothing else of the process waits for those threads.
            assert await asyncio.to_thread(lambda: "at once") == "at once"
            assert (await get(sender, server.url())).status == 200
            done = await asyncio.gather(*slow_ones, return_exceptions=True)
            assert {type(each) for each in done} == {TimedOut}
            answered.set()
            assert (await get(sender, f"http://localhost:{server.port}/")).status == 200

    with_client(use, {"ALLOW_PRIVATE": "127.0.0.0/8, ::1", "TIMEOUT_SECONDS": "1"})


# Time.


@pytest.mark.parametrize("where", ["head", "body", "trickle", "request"])
def test_a_server_that_is_too_slow_is_given_up(where: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if where != "request":
            await reader.readuntil(b"\r\n\r\n")
        if where == "body":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        if where == "trickle":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)
        await asyncio.sleep(10)

    async def use(sender: HttpClient) -> None:
        async with raw_origin(talk) as server:
            started = asyncio.get_running_loop().time()
            with pytest.raises(TimedOut):
                await sender.send(Request("POST", server.url(), [], bytes(30_000_000) if where == "request" else b""))
            assert 0.9 < asyncio.get_running_loop().time() - started < 3

    with_client(use, {**LOCAL, "TIMEOUT_SECONDS": "1"})


def test_redirects_share_the_time_of_their_request() -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(0.4)
        return web.Response(status=302, headers={"Location": "/"})

    async def use(sender: HttpClient) -> None:
        async with origin(answer) as server:
            with pytest.raises(TimedOut):
                await get(sender, server.url())
            assert len(server.seen) <= 3

    with_client(use, {**LOCAL, "TIMEOUT_SECONDS": "1"})


def test_a_guest_that_ends_lets_go_of_its_connection() -> None:
    gone = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.read() == b""
        gone.set()

    async def use(sender: HttpClient) -> None:
        async with raw_origin(talk) as server:
            request = asyncio.create_task(get(sender, server.url()))
            await asyncio.sleep(0.1)
            request.cancel()
            await gone.wait()
            assert sender._held == 0

    with_client(use)


# Connections.


def test_requests_one_after_the_other_share_a_connection() -> None:
    async def use(sender: HttpClient) -> None:
        async with origin() as server:
            for number in range(20):
                await sender.send(Request("POST", server.url(), [], b"x" * number))
                await get(sender, server.url(), method="OPTIONS")
            assert (len(server.seen), server.connections) == (40, 1)

    with_client(use)


def test_requests_at_once_have_connections_up_to_the_limit() -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(0.05)
        return web.Response()

    async def use(sender: HttpClient) -> None:
        async with origin(answer) as server:
            done = await asyncio.gather(*(get(sender, server.url()) for _ in range(150)))
            assert {each.status for each in done} == {200}
            assert server.connections == client.MAX_CONNECTIONS_PER_SERVER

    with_client(use)


@pytest.mark.parametrize("method", METHODS)
def test_a_connection_that_the_server_has_closed_is_replaced(method: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")  # and hangs up, without saying so

    async def use(sender: HttpClient) -> None:
        async with raw_origin(talk) as server:
            for _ in range(3):
                assert (await get(sender, server.url(), method=method)).status == 200
                await asyncio.sleep(0.05)
            assert server.connections == 3

    with_client(use)


@pytest.mark.parametrize("method", METHODS)
def test_a_request_is_sent_again_only_where_that_does_no_harm(method: str) -> None:
    heard: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heard.append(head + await reader.readexactly(4))
        if len(heard) > 1:  # the first one is taken, and not answered
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async def use(sender: HttpClient) -> None:
        async with raw_origin(talk) as server:
            request = Request(method, server.url(), [], b"body")
            if method in ("POST", "PATCH"):
                with pytest.raises(Broken):
                    await sender.send(request)
                assert len(heard) == 1
            else:
                assert (await sender.send(request)).status == 200
                assert heard == heard[:1] * 2

    with_client(use)


@pytest.mark.parametrize("method", METHODS)
def test_a_server_that_speaks_without_being_asked_loses_its_connection(method: str) -> None:
    message = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Of: %d\r\n\r\n"
    ended: list[int] = []
    first = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(message % server.connections)
        await writer.drain()
        if server.connections == 1:
            await asyncio.sleep(0.05)
            sent = 0
            with suppress(ConnectionError):
                while True:
                    writer.write(message % 666 * 1_000)
                    await writer.drain()
                    sent += 1_000
            ended.append(sent)
            first.set()

    async def use(sender: HttpClient) -> None:
        nonlocal server
        async with raw_origin(talk) as server:
            await get(sender, server.url(), method=method)
            await first.wait()
            # The buffers of the system took what was sent; the client reads none of it.
            assert ended[0] < 500_000
            response = await get(sender, server.url(), method=method)
            assert (b"X-Of", b"2") in response.headers

    server: Origin
    with_client(use)


@pytest.mark.parametrize(("number", "taken"), [(0, True), (20, True), (21, False), (10_000, False)])
def test_a_response_has_a_bounded_number_of_others_before_it(number: int, taken: bool) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * number

    async def use(sender: HttpClient) -> None:
        async with raw_origin(early + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as server:
            if taken:
                assert (await get(sender, server.url(), method="POST")).body == b"ok"
            else:
                with pytest.raises(Broken):
                    await get(sender, server.url(), method="POST")

    with_client(use)


def test_a_server_that_comes_back_is_reached_again() -> None:
    async def use(sender: HttpClient) -> None:
        port = free_port()
        with pytest.raises(Unreachable, match="Connection refused"):
            await get(sender, f"http://{HOST}:{port}/")

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(talk, HOST, port):
            assert (await get(sender, f"http://{HOST}:{port}/")).status == 200
        with pytest.raises(Unreachable):
            await get(sender, f"http://{HOST}:{port}/")

    with_client(use)


# TLS.


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"
    make_certificate(*files)
    return files


def server_tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    return context


def test_the_certificates_of_the_system_are_trusted(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))

    async def use(sender: HttpClient) -> None:
        async with origin(tls=server_tls(certificate)) as server:
            for _ in range(3):
                assert (await sender.send(Request("POST", server.url(), [], b"x"))).body == b"x"
            assert server.connections == 1

    with_client(use)


def test_another_certificate_is_not_trusted(certificate: tuple[Path, Path]) -> None:
    async def use(sender: HttpClient) -> None:
        async with origin(tls=server_tls(certificate)) as server:
            with pytest.raises(Unreachable, match="its certificate is not trusted: self-signed certificate") as error:
                await get(sender, server.url(), ("Authorization", "Bearer x"))
            assert server.seen == []
            assert f"https://{HOST}:{server.port}" in str(error.value.notice)
            assert "SSL_CERT_FILE" in str(error.value.notice)

    with_client(use)


def test_a_certificate_must_name_the_host(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))

    async def use(sender: HttpClient) -> None:
        async with origin(tls=server_tls(certificate)) as server:
            with pytest.raises(Unreachable, match="Hostname mismatch"):
                await get(sender, f"https://other.example:{server.port}/")
            assert server.seen == []

    with_client(use, look_up=Names([HOST]))


def test_a_server_that_does_not_speak_tls_is_not_reached() -> None:
    async def use(sender: HttpClient) -> None:
        async with origin() as server:
            with pytest.raises(Unreachable, match="TLS failed"):
                await get(sender, f"https://{HOST}:{server.port}/")

    with_client(use)


def test_credentials_do_not_follow_from_https_to_http(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))

    async def use(sender: HttpClient) -> None:
        async with origin() as plain:
            async with origin(redirecting(307, plain.url("/end")), tls=server_tls(certificate)) as server:
                await get(sender, server.url(), *CREDENTIALS)
                assert server.seen[0].values("authorization") == ["Bearer secret"]
            assert "secret" not in str(plain.seen)

    with_client(use)


# Proxies.


class Tinyproxy(Server):
    """A real proxy. `lines` are added to its configuration."""

    def __init__(self, lines: str = "") -> None:
        super().__init__()
        log = self.directory / "requests"
        log.touch()
        log.chmod(0o666)
        (self.directory / "tinyproxy.conf").write_text(
            f'Port {self.port}\nListen {HOST}\nTimeout 10\nLogFile "{log}"\nLogLevel Connect\nMaxClients 20\n{lines}\n'
        )
        self.directory.chmod(0o755)

    def command(self) -> list[str]:
        found = shutil.which("tinyproxy")
        assert found, "the tests need tinyproxy: apt install tinyproxy"
        return [found, "-d", "-c", str(self.directory / "tinyproxy.conf")]

    @property
    def requests(self) -> list[str]:
        """The first lines of the requests that it was sent."""
        lines = (self.directory / "requests").read_text().splitlines()
        return [line.partition("): ")[2] for line in lines if "Request (file descriptor" in line]

    def environment_of_clients(self, user: str = "") -> dict[str, str]:
        url = f"http://{user}{HOST}:{self.port}"
        return {"HTTP_PROXY": url, "HTTPS_PROXY": url}


@pytest.fixture(scope="module")
def proxy() -> Iterator[Tinyproxy]:
    with Tinyproxy() as server:
        yield server


def test_requests_go_through_the_proxy_of_the_environment(
    proxy: Tinyproxy, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))

    async def use(sender: HttpClient) -> None:
        async with origin() as plain, origin(tls=server_tls(certificate)) as secret:
            body = bytes(range(256)) * 100
            for server in (plain, secret):
                for _ in range(2):
                    assert (await sender.send(Request("PUT", server.url("/a?b"), [], body))).body == body
            assert [seen.target for seen in plain.seen + secret.seen] == ["/a?b"] * 4
            assert f"PUT {plain.url('/a?b')} HTTP/1.1" in proxy.requests
            # Of what is encrypted, the proxy learns the host and no more; and the tunnel is used again.
            assert proxy.requests.count(f"CONNECT {HOST}:{secret.port} HTTP/1.1") == 1
            assert secret.connections == 1

    with_client(use, environment=proxy.environment_of_clients())


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_proxy_may_speak_tls_itself(
    proxy: Tinyproxy, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, make_loop: Any
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection(HOST, proxy.port)
        await asyncio.gather(pump(reader, outer), pump(inner, writer))

    async def run() -> None:
        listening = await asyncio.start_server(connected, HOST, 0, ssl=server_tls(certificate))
        address = f"https://{HOST}:{listening.sockets[0].getsockname()[1]}"
        sender = HttpClient(LOCAL, environment={"HTTP_PROXY": address, "HTTPS_PROXY": address})
        async with asyncio.timeout(20), origin() as plain, origin(tls=server_tls(certificate)) as secret:
            body = bytes(range(256)) * 1_000
            for server in (plain, secret):
                assert (await sender.send(Request("POST", server.url(), [], body))).body == body
            await sender.close()
        listening.close()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(run())
    assert any(line.startswith("CONNECT") for line in proxy.requests)


def test_no_proxy_is_reached_for_hosts_that_need_none(proxy: Tinyproxy) -> None:
    before = len(proxy.requests)

    async def use(sender: HttpClient) -> None:
        async with origin() as server:
            assert (await get(sender, server.url())).status == 200
        assert len(proxy.requests) == before

    with_client(use, environment={**proxy.environment_of_clients(), "NO_PROXY": "127.0.0.0/8"})


def test_what_is_not_granted_is_refused_before_the_proxy_hears_of_it(proxy: Tinyproxy) -> None:
    before = len(proxy.requests)

    async def use(sender: HttpClient) -> None:
        for url in (
            "http://other.example/", "https://other.example/", "http://127.0.0.1/", "http://[::1]/",
            "http://inside.example/", "https://inside.example/", "http://169.254.169.254/latest",
            f"http://{HOST}:{proxy.port}/",
        ):  # fmt: skip
            with pytest.raises(Refused):
                await get(sender, url)
        assert len(proxy.requests) == before

    # The proxy's own address is no guest's to reach, nor is what a name leads to inside.
    configs = {"ALLOW_HOSTS": "inside.example, *.0.example, 127.0.0.2"}
    with_client(use, configs, environment=proxy.environment_of_clients(), look_up=Names(["10.0.0.1"]))
    with_client(
        lambda sender: _refused_by_address(sender, proxy, before),
        {},
        environment=proxy.environment_of_clients(),
        look_up=Names(["8.8.8.8", "10.0.0.1"]),
    )


async def _refused_by_address(sender: HttpClient, proxy: Tinyproxy, before: int) -> None:
    for url in ("http://mixed.example/", f"http://{HOST}/", f"http://{HOST}:{proxy.port}/"):
        with pytest.raises(Refused):
            await get(sender, url)
    assert len(proxy.requests) == before


def test_a_name_that_only_the_proxy_knows_is_left_to_it(proxy: Tinyproxy) -> None:
    async def unknown(name: str) -> list[Address]:
        raise OSError("no name server")

    async def use(sender: HttpClient) -> None:
        async with origin() as server:
            # The proxy knows localhost.
            assert (await get(sender, f"http://localhost:{server.port}/")).status == 200

    configs = {"ALLOW_HOSTS": "localhost"}
    with_client(use, configs, environment=proxy.environment_of_clients(), look_up=unknown)


def test_a_proxy_gets_its_password_and_nobody_else_does() -> None:
    with Tinyproxy("BasicAuth user secret") as proxy:

        async def use(sender: HttpClient) -> None:
            async with origin() as server:
                own = ("Proxy-Authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=")
                assert (await get(sender, server.url(), own)).status == 200
                assert server.seen[0].values("proxy-authorization") == []

        with_client(use, environment=proxy.environment_of_clients("user:secret@"))

        async def refused(sender: HttpClient) -> None:
            for scheme in ("http", "https"):
                with pytest.raises(RefusedByProxy) as error:
                    await get(sender, f"{scheme}://{HOST}:1/", ("Proxy-Authorization", "Basic dXNlcjpzZWNyZXQ="))
                assert error.value.status == 407
                assert f"the proxy of {scheme.upper()}_PROXY refuses" in str(error.value.notice)
                assert "wrong" not in str(error.value.notice)
            with pytest.raises(Err) as told:
                await HttpClientHost(sender).request(guest_request(f"http://{HOST}:1/"))
            assert told.value.value == http_types.HttpErrorStatusError(407)

        with_client(refused, environment=proxy.environment_of_clients())


def test_a_proxy_that_refuses_a_tunnel_answers_with_its_status() -> None:
    with Tinyproxy("ConnectPort 443") as proxy:

        async def use(sender: HttpClient) -> None:
            with pytest.raises(RefusedByProxy) as error:
                await get(sender, f"https://{HOST}:1/")
            assert error.value.status == 403

        with_client(use, environment=proxy.environment_of_clients())


def test_a_proxy_that_is_away_is_said_to_be() -> None:
    async def use(sender: HttpClient) -> None:
        for scheme in ("http", "https"):
            with pytest.raises(Unreachable, match="the proxy can't be reached: Connection refused") as error:
                await get(sender, f"{scheme}://{HOST}/")
            assert str(error.value.notice) == (
                f"http-client: the proxy of {scheme.upper()}_PROXY can't be reached: Connection refused; start it, or "
                "correct that variable"
            )

    url = f"http://user:secret@{HOST}:{free_port()}"
    with_client(use, environment={"http_proxy": url, "https_proxy": url})


# The front.


def guest_request(url: str, method: http_types.Method = http_types.Method.GET) -> http_types.Request:
    return http_types.Request(method, url, [], [("name", "not sent")], None)


class Failing:
    """A client that fails in one way."""

    REQUIRED = OPTIONAL = ()

    def __init__(self, error: HttpClientError) -> None:
        self._error = error

    async def send(self, request: Request) -> Response:
        raise self._error

    async def close(self) -> None: ...


@pytest.mark.parametrize(
    ("error", "case"),
    [
        (InvalidUrl("x"), http_types.HttpErrorInvalidUrl("x")),
        (TimedOut("x"), http_types.HttpErrorTimeoutError("x")),
        (InvalidRequest("x"), http_types.HttpErrorProtocolError("x")),
        (InvalidResponse("x"), http_types.HttpErrorProtocolError("x")),
        (Broken("x"), http_types.HttpErrorProtocolError("x")),
        (TooLarge("x"), http_types.HttpErrorProtocolError("x")),
        (RefusedByProxy(502, "x"), http_types.HttpErrorStatusError(502)),
        (Refused("x"), http_types.HttpErrorUnexpectedError("x")),
        (Unreachable("x"), http_types.HttpErrorUnexpectedError("x")),
        (HttpClientError("x"), http_types.HttpErrorUnexpectedError("x")),
    ],
)
def test_each_error_is_the_case_that_the_interface_has_for_it(
    error: HttpClientError, case: http_types.HttpError
) -> None:
    with pytest.raises(Err) as told:
        asyncio.run(HttpClientHost(Failing(error)).request(guest_request("http://h/")))
    assert told.value.value == case


@pytest.mark.parametrize("method", http_types.Method)
def test_a_guests_request_is_sent_and_its_params_are_not(method: http_types.Method) -> None:
    async def use(sender: HttpClient) -> None:
        async with origin() as server:
            request = http_types.Request(method, server.url("/p?q"), [("x-a", "1")], [("name", "not sent")], b"\0\xff")
            response = await HttpClientHost(sender).request(request)
            (seen,) = server.seen
            assert (seen.method, seen.target, seen.body) == (method.name, "/p?q", b"\0\xff")
            assert "not sent" not in str(seen)
            assert (response.status, response.body) == (200, b"" if method.name == "HEAD" else b"\0\xff")

    with_client(use)


def test_what_was_refused_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    notices.forget()

    async def use(sender: HttpClient) -> None:
        host = HttpClientHost(sender)
        for path in ("/a?token=secret", "/b"):
            with pytest.raises(Err):
                await host.request(guest_request(f"http://user:secret@other.example{path}"))
        with pytest.raises(Err):
            await host.request(guest_request("http://api.example:8080/"))

    with caplog.at_level(logging.WARNING, "slight_py"):
        with_client(use, {"ALLOW_HOSTS": "api.example"}, look_up=Names(["10.1.2.3"]))
    add = 'add to the [capability.configs] of the capability with resource = "http-client":'
    assert caplog.messages == [
        "http-client: the module asked for http://other.example, which the slightfile does not grant (it grants "
        f'api.example); {add} ALLOW_HOSTS = "api.example, other.example"',
        "http-client: the module asked for api.example:8080, which is at 10.1.2.3, and that is no public address, nor "
        f'one that the slightfile grants; {add} ALLOW_PRIVATE = "10.1.2.3"',
    ]
    notices.forget()


def test_the_client_closes_its_connections() -> None:
    ended = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await reader.read()
        ended.set()

    async def use(sender: HttpClient) -> None:
        async with raw_origin(talk) as server:
            await get(sender, server.url())
            await sender.close()
            await ended.wait()

    with_client(use)
