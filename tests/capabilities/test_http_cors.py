"""Cross-origin headers: Spiderlightning's by default, and what the slightfile makes of them."""

from __future__ import annotations

import asyncio
import pickle

import pytest

from capabilities.bindings.http_types import Response
from capabilities.errors import ConfigError
from capabilities.http.cors import Cors
from capabilities.http.settings import HttpSettings
from tests.http_serving import Functions, answering, every_server, serving

EVERYTHING = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "*",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Expose-Headers": "*",
}
"""What Spiderlightning sets: enable_cors_all of the crate routerify-cors 3.0.0."""


def parse(lines: str) -> dict[str, str]:
    assert lines == "" or lines.endswith("\r\n")
    pairs = [line.split(": ", 1) for line in lines.split("\r\n")[:-1]]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def headers(origin: str | None = None, **configs: str) -> dict[str, str]:
    cors = Cors.from_configs({f"CORS_{key}": value for key, value in configs.items()})
    return parse(cors.lines(origin))


@pytest.mark.parametrize("origin", [None, "https://a.example"])
def test_everything_is_allowed_by_default(origin: str | None) -> None:
    assert parse(Cors().lines(origin)) == EVERYTHING
    assert headers(origin) == EVERYTHING
    assert headers(origin, ALLOW_ORIGIN=" * ") == EVERYTHING


@every_server
@pytest.mark.parametrize("request_line", ["GET /", "GET /nowhere", "POST /", "OPTIONS /", "GET /fail", "TRACE /", "G"])
def test_the_headers_are_on_every_response(request_line: str) -> None:
    async def main() -> bytes:
        functions = Functions(hello=answering(Response(200, None, b"")), fail=answering(Response(999, None, b"")))
        async with serving(functions, ("GET", "/", "hello"), ("GET", "/fail", "fail")) as server:
            return await server.raw(f"{request_line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())

    head = asyncio.run(main()).partition(b"\r\n\r\n")[0].decode()
    assert {line for line in head.split("\r\n") if line.startswith("Access-Control")} == {
        f"{name}: {value}" for name, value in EVERYTHING.items()
    }


def answer(cors: Cors, origin: str, *guests: tuple[str, str]) -> list[str]:
    async def main() -> bytes:
        functions = Functions(hello=answering(Response(200, list(guests), b"")))
        async with serving(functions, settings=HttpSettings(cors=cors)) as server:
            return await server.raw(
                f"GET / HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\nConnection: close\r\n\r\n".encode()
            )

    lines = asyncio.run(main()).partition(b"\r\n\r\n")[0].decode().split("\r\n")
    return [line for line in lines if line.startswith(("Access", "access", "Vary", "vary"))]


@every_server
def test_what_is_configured_replaces_what_a_guest_sets() -> None:
    guests = ("access-control-allow-origin", "https://evil.example"), ("access-control-allow-credentials", "true")
    assert answer(Cors(), "https://evil.example", *guests) == [f"{name}: {value}" for name, value in EVERYTHING.items()]
    listed = Cors.from_configs({"CORS_ALLOW_ORIGIN": "https://a.example"})
    assert answer(listed, "https://evil.example", *guests) == ["Vary: Origin"]


@every_server
def test_switched_off_the_guest_decides() -> None:
    off = Cors.from_configs({"CORS_ALLOW_ORIGIN": "none"})
    assert answer(off, "https://b.example") == []
    assert answer(off, "https://b.example", ("access-control-allow-origin", "https://b.example")) == [
        "access-control-allow-origin: https://b.example"
    ]


@every_server
def test_a_listed_origin_is_echoed_and_others_get_nothing() -> None:
    cors = Cors.from_configs({"CORS_ALLOW_ORIGIN": "https://a.example , http://localhost:3000"})
    assert "Access-Control-Allow-Origin: http://localhost:3000" in answer(cors, "http://localhost:3000")
    for origin in ("https://a.example.evil.example", "http://a.example", "null", "https://a.example:444", "*"):
        assert answer(cors, origin) == ["Vary: Origin"]
    assert parse(cors.lines(None)) == {"Vary": "Origin"}
    assert parse(cors.lines("https://a.example")) == {
        **EVERYTHING,
        "Access-Control-Allow-Origin": "https://a.example",
        "Vary": "Origin",
    }


@every_server
def test_a_guests_own_vary_is_kept_beside_ours() -> None:
    cors = Cors.from_configs({"CORS_ALLOW_ORIGIN": "https://a.example"})
    assert answer(cors, "https://b.example", ("vary", "accept")) == ["Vary: Origin", "vary: accept"]


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("HTTPS://A.Example", "https://a.example"),
        ("https://a.example:443", "https://a.example"),
        ("http://a.example:80", "http://a.example"),
        ("http://a.example:443", "http://a.example:443"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("capacitor://localhost", "capacitor://localhost"),
    ],
)
def test_an_origin_is_compared_as_browsers_write_it(text: str, origin: str) -> None:
    assert headers(origin, ALLOW_ORIGIN=text)["Access-Control-Allow-Origin"] == origin


def test_lists_of_names_and_the_age_are_passed_on() -> None:
    got = headers(None, ALLOW_METHODS="GET,PUT", ALLOW_HEADERS="X-A , x-b", EXPOSE_HEADERS="", MAX_AGE="600")
    assert got == {
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Allow-Methods": "GET, PUT",
        "Access-Control-Allow-Headers": "X-A, x-b",
        "Access-Control-Max-Age": "600",
    }


def test_credentials_come_with_an_origin_and_names_alone() -> None:
    """With credentials browsers read `*` as a name (the Fetch standard), so none is sent."""
    got = headers("https://a.example", ALLOW_ORIGIN="https://a.example", ALLOW_CREDENTIALS="true")
    assert got == {
        "Access-Control-Allow-Origin": "https://a.example",
        "Access-Control-Allow-Methods": "GET, HEAD, PUT, POST, DELETE",
        "Access-Control-Allow-Credentials": "true",
        "Vary": "Origin",
    }
    assert "Access-Control-Allow-Credentials" not in headers(None, ALLOW_CREDENTIALS="false")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ALLOW_ORIGIN", ""),
        ("ALLOW_ORIGIN", "null"),
        ("ALLOW_ORIGIN", "a.example"),
        ("ALLOW_ORIGIN", "https://a.example/"),
        ("ALLOW_ORIGIN", "https://a.example/path"),
        ("ALLOW_ORIGIN", "https://*.example"),
        ("ALLOW_ORIGIN", "https://a.example,"),
        ("ALLOW_ORIGIN", "*, https://a.example"),
        ("ALLOW_ORIGIN", "none, https://a.example"),
        ("ALLOW_ORIGIN", "https://a.example:port"),
        ("ALLOW_ORIGIN", "https://user@a.example"),
        ("ALLOW_ORIGIN", "https://a.exa\nmple"),
        ("ALLOW_ORIGIN", "https://a.example?b"),
        ("ALLOW_ORIGIN", "https://ä.example"),
        ("ALLOW_METHODS", "GET PUT"),
        ("ALLOW_METHODS", "GET,"),
        ("ALLOW_HEADERS", "X-A\r\nX-Forged: 1"),
        ("EXPOSE_HEADERS", "é"),
        ("MAX_AGE", ""),
        ("MAX_AGE", "-1"),
        ("MAX_AGE", "1h"),
        ("MAX_AGE", "١"),
        ("MAX_AGE", "1" * 10),
        ("ALLOW_CREDENTIALS", "yes"),
        ("ALLOW_ORIGINS", "*"),
    ],
)
def test_a_value_that_makes_no_sense_is_an_error_that_names_its_key(key: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Cors.from_configs({f"CORS_{key}": value})
    assert caught.value.key == f"CORS_{key}"


@pytest.mark.parametrize(
    ("configs", "key"),
    [
        ({"CORS_ALLOW_CREDENTIALS": "true"}, "CORS_ALLOW_CREDENTIALS"),
        ({"CORS_ALLOW_ORIGIN": "*", "CORS_ALLOW_CREDENTIALS": "true"}, "CORS_ALLOW_CREDENTIALS"),
        (
            {"CORS_ALLOW_ORIGIN": "https://a", "CORS_ALLOW_CREDENTIALS": "true", "CORS_ALLOW_HEADERS": "*"},
            "CORS_ALLOW_HEADERS",
        ),
        ({"CORS_ALLOW_ORIGIN": "none", "CORS_MAX_AGE": "1"}, "CORS_ALLOW_ORIGIN"),
    ],
)
def test_values_that_contradict_each_other_are_an_error(configs: dict[str, str], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Cors.from_configs(configs)
    assert caught.value.key == key


def test_other_keys_of_the_capability_are_left_alone() -> None:
    assert parse(Cors.from_configs({"SOMETHING": "else"}).lines()) == EVERYTHING


def test_settings_can_be_handed_to_another_process() -> None:
    cors = Cors.from_configs({"CORS_ALLOW_ORIGIN": "https://a.example"})
    again = pickle.loads(pickle.dumps(HttpSettings(cors=cors))).cors
    assert again.lines("https://a.example") == cors.lines("https://a.example")
    assert again.varies
