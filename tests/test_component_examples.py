"""The examples that are components: they build, and do what their READMEs say, with their slightfiles."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests import component_toolchain
from tests.command import Server, running
from tests.guests import example, slightfile
from tests.redis_server import RedisServer


@pytest.fixture(autouse=True)
def _tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", component_toolchain.javascript()["PATH"])


@contextmanager
def serving(name: str, backend: str = "memory", **variables: str) -> Iterator[Server]:
    command = ("run", "-c", slightfile(name, backend), example(name), "--listen", "127.0.0.1:0")
    with running(*command, env=variables) as server:
        found = server.wait_for_either(r"serving at 127\.0\.0\.1:(\d+)", component_toolchain.START_SECONDS)
        assert found is not None, server.err
        server.port = int(found[1])
        yield server


def test_the_component_in_c_answers_every_request() -> None:
    with serving("component-hello-c") as server:
        for method, path in (("GET", "/"), ("POST", "/any?thing")):
            answer = server.request(method, path)
            assert (answer[0], answer[1]) == (200, b"Hello from a component!\n")


@pytest.mark.parametrize("backend", ["memory", "redis"])
def test_the_component_in_javascript_keeps_values(backend: str) -> None:
    name = "component-keyvalue-js"
    with RedisServer() as redis, serving(name, backend, REDIS_ADDRESS=redis.address) as server:
        value = os.urandom(10_000)
        assert server.request("PUT", "/a%20key", body=value)[0] == 204
        assert server.get("/a%20key")[:2] == (200, value)
        assert server.get("/")[:2] == (200, b"a key\n")
        assert server.request("DELETE", "/a%20key")[0] == 204
        assert server.get("/a%20key")[0] == 404
        assert server.request("POST", "/a%20key")[0] == 405


def test_the_component_in_python_greets_as_its_setting_says_and_logs_whom() -> None:
    with serving("component-settings-python", GREETING="Servus") as server:
        assert server.get("/Ada%20L.")[:2] == (200, b"Servus, Ada L.!\n")
        server.wait_for("guest info: greetings: Ada L.")
    with serving("component-settings-python") as server:
        assert server.get("/")[:2] == (200, b"Hello, world!\n")


def test_the_component_that_echoes_sends_back_more_than_it_holds() -> None:
    body = os.urandom(1 << 20)
    with serving("component-echo-c") as server:
        assert server.request("POST", "/", body=body)[:2] == (200, body)
