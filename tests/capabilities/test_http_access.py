"""The access log: what it holds of a request, and that nobody can forge a line of it."""

from __future__ import annotations

import asyncio
import json as json_module

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.bindings.http_types import Request, Response
from capabilities.http.access import AccessRecord, json, plain, printable
from tests.http_serving import Functions, echo, every_server, serving

RECORD = AccessRecord("127.0.0.1", "GET", "/a", 200, 5, 0.00125, "handle_a")


def records_of(*requests: bytes) -> list[AccessRecord]:
    records: list[AccessRecord] = []

    async def slow(request: Request) -> Response:
        await asyncio.sleep(0.05)
        return Response(200, None, b"hello")

    async def main() -> None:
        routes = (("POST", "/echo/:a", "echo"), ("GET", "/slow", "slow"))
        async with serving(Functions(echo=echo, slow=slow), *routes, on_access=records.append) as server:
            for request in requests:
                await server.raw(request)

    asyncio.run(main())
    return records


@every_server
def test_every_request_is_one_record_without_its_query() -> None:
    end = b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    records = records_of(
        b"POST /echo/%41?secret=1" + end + b"Content-Length: 3\r\n\r\nabc",
        b"GET /nowhere#x" + end + b"\r\n",
        b"HEAD /slow" + end + b"\r\n",
        b"GET /bad path" + end + b"\r\n",
    )
    assert [(r.client, r.method, r.path, r.status, r.bytes, r.handler) for r in records] == [
        ("127.0.0.1", "POST", "/echo/%41", 200, 3, "echo"),
        ("127.0.0.1", "GET", "/nowhere", 404, len("Not Found\n"), None),
        ("127.0.0.1", "HEAD", "/slow", 200, 0, "slow"),
        ("127.0.0.1", "-", "-", 400, len("Bad Request\n"), None),
    ]


@every_server
def test_the_time_is_that_of_the_whole_request() -> None:
    (record,) = records_of(b"GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert 0.05 <= record.seconds < 1


def test_a_plain_line_has_seven_fields() -> None:
    assert plain(RECORD) == "127.0.0.1 GET /a 200 5 0.001250 handle_a"
    nobody = AccessRecord("::1", "-", "-", 400, 12, 0.0, None)
    assert plain(nobody) == "::1 - - 400 12 0.000000 -"


def test_a_json_line_has_the_names_of_the_record() -> None:
    assert json_module.loads(json(RECORD)) == {
        "client": "127.0.0.1",
        "method": "GET",
        "path": "/a",
        "status": 200,
        "bytes": 5,
        "seconds": 0.00125,
        "handler": "handle_a",
    }


@given(st.text(alphabet=st.characters(), max_size=50), st.text(max_size=20))
def test_no_path_and_no_name_makes_a_second_line(path: str, handler: str) -> None:
    record = AccessRecord("127.0.0.1", "GET", path, 200, 0, 0.0, handler)
    for line in (plain(record), json(record)):
        assert line.isprintable()
        assert len(line.splitlines()) == 1
        line.encode()
    assert json_module.loads(json(record))["path"] == path


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b é", "a b é"),
        ("a\r\nb", r"a\r\nb"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\u2028\u202e", r"\u2028\u202e"),
        ("\udcff", r"\udcff"),
        ("\0", r"\x00"),
    ],
)
def test_what_would_act_on_a_terminal_or_end_a_line_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_long_text_is_cut() -> None:
    assert printable("a" * 10_000) == "a" * 1_000 + "…"
