"""The HTTP server over real connections: what a guest sees of a request, and a client of the response."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from io import BytesIO
from time import time

import aiohttp
import pytest

from bindgen.runtime import Err
from capabilities.bindings.http_types import (
    HttpErrorStatusError,
    HttpErrorUnexpectedError,
    HttpRouterErrorUnexpectedError,
    Method,
    Request,
    Response,
)
from capabilities.http.access import AccessRecord
from capabilities.http.dispatch import HandlerFailure
from capabilities.http.listen import ListenError, bind
from capabilities.http.routes import RouteTable
from capabilities.http.server import HttpService
from tests import http_serving
from tests.http_serving import Functions, answering, echo, every_server, hello, read_response, serving

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
CLOSE = b"Connection: close\r\n\r\n"


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n".encode("latin-1") + CLOSE


def status_of(response: bytes) -> int:
    return int(response.split(b" ", 2)[1])


def headers_of(response: bytes) -> list[str]:
    return response.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]


def ask(request: bytes, functions: Functions, *routes: tuple[str, str, str]) -> bytes:
    """The response to one request on a connection of its own."""

    async def main() -> bytes:
        async with serving(functions, *routes) as server:
            return await server.raw(request)

    return asyncio.run(main())


def answer(response: Response, request: bytes = GET + CLOSE) -> bytes:
    """What a client gets when the handler's response is `response`."""
    return ask(request, Functions(hello=answering(response)))


# What a guest sees


@every_server
def test_a_guest_sees_method_uri_params_and_body() -> None:
    functions = Functions(h=hello)
    request = b"PUT /p/Zo%C3%AB/?a=1&b=%20? HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n" + CLOSE + b"abc"
    ask(request, functions, ("PUT", "/p/:name", "h"))
    (seen,) = functions.seen
    assert (seen.method, seen.uri, seen.params, seen.body) == (
        Method.PUT,
        "/p/Zo%C3%AB/?a=1&b=%20?",
        [("name", "Zoë")],
        b"abc",
    )


@every_server
def test_a_body_is_there_even_if_it_is_empty() -> None:
    functions = Functions(hello=hello)
    ask(GET + CLOSE, functions)
    assert functions.seen[0].body == b""


@every_server
def test_headers_keep_their_order_and_come_in_lower_case() -> None:
    functions = Functions(hello=hello)
    ask(b"GET / HTTP/1.1\r\nX-B:  1 \r\nHost: a\r\nx-A: 2\r\nX-b: 3\r\n" + CLOSE, functions)
    assert functions.seen[0].headers == [
        ("x-b", "1"),
        ("host", "a"),
        ("x-a", "2"),
        ("x-b", "3"),
        ("connection", "close"),
    ]


@every_server
def test_a_header_that_is_not_utf_8_is_read_as_latin_1() -> None:
    functions = Functions(hello=hello)
    ask(GET + b"X-Utf: \xc3\xa9\r\nX-Latin: \xe9\xff\r\n" + CLOSE, functions)
    assert ("x-utf", "é") in functions.seen[0].headers
    assert ("x-latin", "éÿ") in functions.seen[0].headers


@every_server
@pytest.mark.parametrize(
    ("target", "uri"),
    [
        ("http://other:8080/a/b?c", "/a/b?c"),
        ("http://other", "/"),
        ("http://other?q=/x", "/?q=/x"),
        ("/a#fragment", "/a"),
        ("/a?b#fragment", "/a?b"),
        ("//a//b", "//a//b"),
        ("/a%2Fb%00", "/a%2Fb%00"),
    ],
)
def test_a_uri_is_path_and_query_as_they_were_sent(target: str, uri: str) -> None:
    functions = Functions(h=hello)
    response = ask(get(target), functions, ("GET", "/*", "h"), ("GET", "/", "h"))
    assert status_of(response) == 200
    assert functions.seen[0].uri == uri


@every_server
def test_escapes_reach_the_parameter_as_text() -> None:
    functions = Functions(h=hello)
    ask(get("/a%2Fb%00%0A"), functions, ("GET", "/:x", "h"))
    assert functions.seen[0].params == [("x", "a/b\0\n")]


@every_server
def test_a_body_in_chunks_arrives_whole() -> None:
    functions = Functions(h=hello)
    chunks = b"5\r\nhello\r\n0006;ext=1\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n"
    request = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n" + CLOSE + chunks
    assert status_of(ask(request, functions, ("POST", "/", "h"))) == 200
    assert functions.seen[0].body == b"hello world"


@every_server
def test_a_compressed_body_is_not_touched() -> None:
    functions = Functions(h=hello)
    body = gzip.compress(b"hello")
    head = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n".encode()
    ask(head + CLOSE + body, functions, ("POST", "/", "h"))
    assert functions.seen[0].body == body


@every_server
def test_a_client_that_expects_100_continue_is_told_to_go_on() -> None:
    async def main() -> None:
        functions = Functions(h=echo)
        async with serving(functions, ("POST", "/", "h")) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n")
            assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 2) == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"ok")
            status, headers, content = await read_response(reader)
            assert (status, content) == (200, b"ok")
            assert "expect" not in headers
            writer.close()

    asyncio.run(main())


@every_server
def test_a_client_that_expected_100_continue_and_did_not_wait_is_not_told() -> None:
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n" + CLOSE + b"ok"
    assert ask(request, Functions(h=hello), ("POST", "/", "h")).startswith(b"HTTP/1.1 200 OK\r\n")


# What a client gets


@every_server
def test_a_response_is_the_guests_with_its_length_and_date() -> None:
    response = answer(Response(201, [("X-A", "1"), ("x-b", "zwölf\t!")], b"made"))
    assert response.startswith(b"HTTP/1.1 201 Created\r\n")
    assert response.endswith(b"\r\n\r\nmade")
    headers = headers_of(response)
    assert "X-A: 1" in headers
    assert "x-b: zwölf\t!" in headers
    assert "Content-Length: 4" in headers
    (date,) = [header.partition(": ")[2] for header in headers if header.startswith("Date: ")]
    assert abs(parsedate_to_datetime(date).timestamp() - time()) < 10


@every_server
def test_no_header_is_guessed() -> None:
    names = {header.partition(":")[0].lower() for header in headers_of(answer(Response(200, None, b"hello")))}
    assert {name for name in names if not name.startswith("access-control-")} == {
        "content-length",
        "date",
        "connection",
    }


@every_server
def test_a_guests_own_date_and_server_go_out_once() -> None:
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    headers = headers_of(answer(Response(200, [("date", date), ("server", "mine")], b"")))
    assert [header for header in headers if header.lower().startswith(("date", "server"))] == [
        f"date: {date}",
        "server: mine",
    ]


@every_server
def test_a_cookie_may_be_set_more_than_once() -> None:
    headers = headers_of(answer(Response(200, [("set-cookie", "a=1"), ("set-cookie", "b=2")], b"")))
    assert [header for header in headers if header.startswith("set-cookie")] == ["set-cookie: a=1", "set-cookie: b=2"]


@every_server
def test_headers_copied_from_the_request_do_not_break_the_response() -> None:
    """Spiderlightning's own examples answer with the request's headers."""

    async def main() -> None:
        functions = Functions(h=echo)
        async with serving(functions, ("POST", "/", "h"), ("GET", "/", "h")) as server:
            request = (
                b"POST / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=1\r\nX-Hop: 1\r\n"
                b"TE: trailers\r\nTrailer: x\r\nProxy-Authorization: secret\r\nProxy-Connection: keep-alive\r\n"
                b"Upgrade: h2c\r\nTransfer-Encoding: chunked\r\nX-Mine: kept\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            )
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            for _ in range(2):
                writer.write(request)
                status, headers, content = await read_response(reader)
                assert (status, content) == (200, b"abc")
                assert {name for name in headers if not name.startswith("access-control")} == {
                    "content-length",
                    "date",
                    "x-mine",
                }
            writer.close()

    asyncio.run(main())


@every_server
@pytest.mark.parametrize("length", ["0", "1", "99", "abc"])
def test_a_guests_content_length_is_replaced(length: str) -> None:
    headers = headers_of(answer(Response(200, [("Content-Length", length)], b"four")))
    assert [header for header in headers if header.lower().startswith("content-length")] == ["Content-Length: 4"]


@every_server
@pytest.mark.parametrize(
    "header",
    [
        ("x", "a\r\nSet-Cookie: forged=1"),
        ("x", "a\nb"),
        ("x", "a\rb"),
        ("x", "a\0b"),
        ("x", "a\x1bb"),
        ("x\r\nforged", "1"),
        ("x\n", "1"),
        ("x y", "1"),
        ("x:", "1"),
        ("é", "1"),
        ("", "1"),
        ("n" * 5000 + "\n", "1"),
    ],
)
def test_a_header_that_could_forge_another_is_a_500_and_a_line_in_the_log(
    header: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        functions = Functions(bad=answering(Response(200, [header], b"body")), hello=hello)
        async with serving(functions, ("GET", "/bad", "bad"), ("GET", "/", "hello")) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET /bad HTTP/1.1\r\nHost: a\r\n\r\n" + GET + b"\r\n")
            status, headers, content = await read_response(reader)
            assert (status, content) == (500, b"Internal Server Error\n")
            assert not {"x", "forged", "set-cookie"} & set(headers)
            assert (await read_response(reader))[2] == b"hello"
            writer.close()

    asyncio.run(main())
    (record,) = caplog.records
    assert record.name == "slight_py.http"
    assert record.getMessage().startswith("GET /bad bad: the response can't be sent: ")
    assert record.getMessage().isprintable()


def test_a_header_that_is_no_unicode_text_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    """Python's strings can hold half a surrogate pair; those of the native machine can't."""
    assert status_of(answer(Response(200, [("x", "\udcff")], b"body"))) == 500
    assert "GET / hello: the response can't be sent: a header is not Unicode text" in caplog.messages


@every_server
@pytest.mark.parametrize("status", [0, 99, 100, 101, 199, 600, 65535])
def test_a_status_that_is_no_final_one_is_a_500(status: int, caplog: pytest.LogCaptureFixture) -> None:
    assert status_of(answer(Response(status, None, b""))) == 500
    assert f"the status {status}" in caplog.text


@every_server
@pytest.mark.parametrize("status", [200, 299, 404, 599])
def test_any_other_status_goes_out(status: int) -> None:
    response = answer(Response(status, None, b"x"))
    assert response.startswith(f"HTTP/1.1 {status} ".encode())
    assert response.endswith(b"\r\n\r\nx")


@every_server
@pytest.mark.parametrize(("status", "length"), [(204, None), (304, None), (205, "0")])
def test_a_status_without_content_sends_none(status: int, length: str | None) -> None:
    async def main() -> None:
        functions = Functions(hello=answering(Response(status, [("content-length", "7")], b"content")))
        async with serving(functions) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            for _ in range(2):
                writer.write(GET + b"\r\n")
                got, headers, _ = await read_response(reader)
                assert (got, headers.get("content-length")) == (status, length)
            writer.close()

    asyncio.run(main())


@every_server
def test_head_is_answered_by_the_route_for_get_without_its_content() -> None:
    functions = Functions(h=hello)
    response = ask(b"HEAD / HTTP/1.1\r\nHost: a\r\n" + CLOSE, functions, ("GET", "/", "h"))
    assert functions.seen[0].method is Method.HEAD
    assert "Content-Length: 5" in headers_of(response)
    assert response.endswith(b"\r\n\r\n")


@every_server
def test_head_says_nothing_of_the_length_where_the_handler_left_the_content_away() -> None:
    """An empty response to HEAD is no promise that the one to GET is empty."""
    response = ask(
        b"HEAD / HTTP/1.1\r\nHost: a\r\n" + CLOSE, Functions(h=answering(Response(200, None, None))), ("GET", "/", "h")
    )
    assert b"Content-Length" not in response


@every_server
def test_a_body_of_many_megabytes_comes_through_both_ways() -> None:
    async def main() -> None:
        body = bytes(range(256)) * 36_000
        async with (
            serving(Functions(h=echo), ("POST", "/", "h")) as server,
            aiohttp.ClientSession() as client,
            client.post(server.url, data=BytesIO(body)) as response,
        ):
            assert await response.read() == body

    asyncio.run(main())


@every_server
def test_a_handler_without_body_and_headers_answers_with_nothing() -> None:
    response = answer(Response(200, None, None))
    assert "Content-Length: 0" in headers_of(response)
    assert response.endswith(b"\r\n\r\n")


# Connections


@every_server
def test_requests_sent_at_once_are_answered_in_order() -> None:
    async def number(request: Request) -> Response:
        await asyncio.sleep(0.02 if request.uri == "/1" else 0)
        return Response(200, None, request.uri.encode())

    async def main() -> None:
        async with serving(Functions(n=number), ("GET", "/:n", "n")) as server:
            requests = b"".join(f"GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for n in range(1, 100))
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(requests)
            for n in range(1, 100):
                assert (await read_response(reader))[2] == f"/{n}".encode()
            writer.close()

    asyncio.run(main())


def test_a_request_that_cannot_be_parsed_is_refused_after_the_answer_to_the_one_before_it() -> None:
    async def slow(request: Request) -> Response:
        await asyncio.sleep(0.05)
        return await hello(request)

    async def main() -> bytes:
        async with serving(Functions(hello=slow)) as server:
            return await server.raw(GET + b"\r\n", b"no request\r\n\r\n")

    assert [each[:3] for each in asyncio.run(main()).split(b"HTTP/1.1 ")[1:]] == [b"200", b"400"]


@every_server
def test_http_1_0_is_closed_unless_the_client_wants_it_open() -> None:
    async def main() -> None:
        async with serving(Functions(hello=hello)) as server:
            response = await server.raw(b"GET / HTTP/1.0\r\n\r\n")
            assert "Connection: close" in headers_of(response)
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            for _ in range(2):
                writer.write(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                assert (await read_response(reader))[1]["connection"] == "keep-alive"
            writer.close()

    asyncio.run(main())


@every_server
def test_a_websocket_upgrade_is_an_ordinary_request() -> None:
    async def main() -> None:
        async with serving(Functions(hello=hello)) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(GET + b"Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Key: a\r\n\r\n")
            assert (await read_response(reader))[0] == 200
            writer.write(GET + b"\r\n")
            assert (await read_response(reader))[2] == b"hello"
            writer.close()

    asyncio.run(main())


@every_server
def test_requests_behind_an_upgrade_are_answered_too() -> None:
    offer = b" HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    upgrade = b"GET /upgrade" + offer + b"\r\n"
    body = b"POST /body" + offer + b"Content-Length: 3\r\n\r\nabc"

    async def main() -> None:
        routes = ("GET", "/:n", "e"), ("POST", "/:n", "e")
        async with serving(Functions(e=echo), *routes) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(upgrade + body + upgrade + upgrade + GET.replace(b"/", b"/last", 1) + b"\r\n")
            for content in (b"", b"abc", b"", b"", b""):
                assert (await read_response(reader))[::2] == (200, content)
            writer.close()
            writer = (await asyncio.open_connection("127.0.0.1", server.port))[1]
            for at in range(len(body)):
                writer.write(body[at : at + 1])
                await asyncio.sleep(0.001)
            writer.close()
        uris = ["/upgrade", "/body", "/upgrade", "/upgrade", "/last", "/body"]
        assert [each.uri for each in server.functions.seen] == uris

    asyncio.run(main())


@every_server
def test_an_upgrade_to_what_the_parser_does_not_know_loses_nothing() -> None:
    upgrade = GET + b"Upgrade: h2c\r\nConnection: upgrade\r\n\r\n"

    async def main() -> None:
        async with serving(Functions(hello=hello)) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            for requests in (upgrade, upgrade, upgrade + GET + b"\r\n", GET + b"\r\n" + upgrade):
                writer.write(requests)
                for _ in range(requests.count(b"GET")):
                    status, headers, _ = await read_response(reader)
                    assert (status, headers.get("connection")) == (200, None)
            writer.close()

    asyncio.run(main())


@every_server
@pytest.mark.parametrize("before", [0, 3, 15, 31, 100])
def test_a_tunnel_is_not_made(before: int) -> None:
    async def main() -> None:
        async with serving(Functions(hello=hello)) as server:
            requests = (GET + b"\r\n") * before + b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n"
            response = await server.raw(requests + (GET + b"\r\n") * 3)
            assert response.count(b"HTTP/1.1 200 ") == before
            assert response.count(b"HTTP/1.1 501 ") == 1

    asyncio.run(main())


@every_server
def test_a_client_that_leaves_ends_its_handler(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        begun, ended = asyncio.Event(), asyncio.Event()
        records: list[AccessRecord] = []

        async def slow(request: Request) -> Response:
            begun.set()
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()
            return Response(200, None, b"")

        async with serving(Functions(slow=slow), ("GET", "/", "slow"), on_access=records.append) as server:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(GET + b"\r\n")
            await asyncio.wait_for(begun.wait(), 2)
            writer.close()
            await asyncio.wait_for(ended.wait(), 2)
            await asyncio.sleep(0.01)
        assert [(record.status, record.handler) for record in records] == [(499, "slow")]

    asyncio.run(main())
    assert not caplog.records


def test_a_server_that_fails_itself_closes_the_connection_and_says_so_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(record: AccessRecord) -> None:
        raise OSError("disk\nfull")

    async def main() -> bytes:
        async with serving(Functions(hello=hello), on_access=fail) as server:
            return await server.raw(GET + b"\r\n" + GET + b"\r\n")

    assert asyncio.run(main()).count(b"HTTP/1.1 ") == 1
    assert [record.getMessage() for record in caplog.records] == [r"the server failed: OSError: disk\nfull"]


# Requests without a handler


@every_server
@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /nowhere", 404),
        ("GET //", 404),
        ("POST /", 405),
        ("PATCH /", 405),
        ("TRACE /", 501),
        ("PROPFIND /", 501),
        ("CONNECT a:1", 501),
        ("GET /%ff", 400),
        ("GET /?q=%ff", 200),
    ],
)
def test_a_request_without_a_handler_is_told_why(request_line: str, status: int) -> None:
    functions = Functions(hello=hello)
    response = ask(f"{request_line} HTTP/1.1\r\nHost: a\r\n".encode() + CLOSE, functions)
    assert status_of(response) == status
    assert bool(functions.seen) == (status == 200)


@every_server
def test_405_names_the_methods_that_there_are() -> None:
    response = ask(b"POST / HTTP/1.1\r\nHost: a\r\n" + CLOSE, Functions(hello=hello))
    assert "Allow: GET, HEAD, OPTIONS" in headers_of(response)


@every_server
def test_options_is_answered_for_any_path_that_has_routes() -> None:
    functions = Functions(h=hello)
    request = b"OPTIONS /x HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\nAccess-Control-Request-Method: PUT\r\n" + CLOSE
    response = ask(request, functions, ("PUT", "/:a", "h"))
    assert status_of(response) == 204
    assert "Allow: PUT, OPTIONS" in headers_of(response)
    assert "Access-Control-Allow-Origin: *" in headers_of(response)
    assert not functions.seen
    assert status_of(ask(b"OPTIONS /x/y HTTP/1.1\r\nHost: a\r\n" + CLOSE, functions, ("PUT", "/:a", "h"))) == 404
    assert status_of(ask(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n" + CLOSE, functions, ("PUT", "/:a", "h"))) == 204


# Handlers that fail


async def _error(request: Request) -> Response:
    raise Err(HttpErrorUnexpectedError("password=hunter2\nGET /forged"))


async def _status_error(request: Request) -> Response:
    raise Err(HttpErrorStatusError(403))


async def _trap(request: Request) -> Response:
    raise HandlerFailure("unreachable at 0x1234\r\nforged")


async def _bug(request: Request) -> Response:
    raise ValueError("secret\u2028of the host")


async def _timeout_of_its_own(request: Request) -> Response:
    raise TimeoutError("redis")


@every_server
@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (_error, r"the handler returned the error unexpected-error: password=hunter2\nGET /forged"),
        (_status_error, "the handler returned the error status-error: 403"),
        (_trap, r"unreachable at 0x1234\r\nforged"),
        (_bug, r"ValueError: secret\u2028of the host"),
        (_timeout_of_its_own, "TimeoutError: redis"),
    ],
)
def test_a_handler_that_fails_is_a_500_that_says_nothing_and_one_line_in_the_log(
    handler: Callable[[Request], object], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    functions = Functions(hello=handler)
    response = ask(b"GET /?token=secret HTTP/1.1\r\nHost: a\r\n" + CLOSE, functions)
    assert response.partition(b"\r\n\r\n")[2] == b"Internal Server Error\n"
    assert "Content-Type: text/plain; charset=utf-8" in headers_of(response)
    if http_serving.server == "machine" and "returned the error" not in reason:
        reason = "wasm trap: wasm `unreachable` instruction executed"  # what else a guest fails with
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("slight_py.http", f"GET / hello: {reason}")
    ]


@every_server
def test_a_failure_leaves_other_requests_alone() -> None:
    async def main() -> None:
        routes = (("GET", "/b", "b"), ("GET", "/h", "h"))
        connector = aiohttp.TCPConnector(limit=2)
        async with (
            serving(Functions(b=_bug, h=hello), *routes) as server,
            aiohttp.ClientSession(connector=connector) as client,
        ):

            async def status(path: str) -> int:
                async with client.get(server.url + path) as response:
                    return response.status

            assert await asyncio.gather(*map(status, ["/b", "/h"] * 20)) == [500, 200] * 20

    logging.getLogger("slight_py.http").setLevel(logging.CRITICAL)
    try:
        asyncio.run(main())
    finally:
        logging.getLogger("slight_py.http").setLevel(logging.NOTSET)


# Starting


def test_a_handler_that_is_missing_stops_the_start() -> None:
    async def main() -> None:
        table = RouteTable().add("GET", "/", "handle_gone")
        sockets = bind("127.0.0.1:0")
        service = HttpService(Functions(hello=hello))
        with pytest.raises(Err) as caught:
            await service.start(sockets, table)
        assert caught.value.value == HttpRouterErrorUnexpectedError("no exported function 'handle-gone'")
        assert sockets[0].fileno() == -1
        await service.stop()

    asyncio.run(main())


def test_a_port_that_was_taken_since_it_was_bound_is_told_at_the_start() -> None:
    async def main() -> None:
        first = bind("127.0.0.1:0")
        port = first[0].getsockname()[1]
        second = bind(f"127.0.0.1:{port}")
        services = [HttpService(Functions()), HttpService(Functions())]
        await services[0].start(first, RouteTable())
        with pytest.raises(ListenError, match=f"can't listen on 127.0.0.1:{port}: something else listens there"):
            await services[1].start(second, RouteTable())
        assert second[0].fileno() == -1
        await services[0].stop()

    asyncio.run(main())
