"""A thousand requests at once, and a Redis that goes away and comes back."""

from __future__ import annotations

import asyncio
import resource
import time
from collections import Counter
from collections.abc import Iterator
from threading import Event, Thread

import pytest

from tests.command import Server, serving, wait_until
from tests.guests import example, slightfile
from tests.redis_server import RedisServer

REQUESTS = 1_000
VALUE = b"spiderlightning"
USUAL_LIMIT = 1_024
"""How many files a process may have open unless it asks for more, on most systems."""


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def _room_for_connections() -> Iterator[None]:
    """The clients live in this process."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def _limit_open_files() -> None:
    """As in a new shell: a process may ask for more."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (USUAL_LIMIT, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


async def ask_at_once(port: int, count: int) -> Counter[bytes]:
    """How often each answer came, to requests that are all sent when the last connection is there."""
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    for _, writer in connections:
        writer.write(b"GET /get HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    answers: Counter[bytes] = Counter()
    for answer in await asyncio.gather(*(reader.read() for reader, _ in connections)):
        head, _, body = answer.partition(b"\r\n\r\n")
        answers[head.split(b" ")[1] + b" " + body] += 1
    for _, writer in connections:
        writer.close()
    return answers


@pytest.mark.usefixtures("_room_for_connections")
def test_a_thousand_requests_at_once_are_all_answered_without_a_thread_more(redis: RedisServer) -> None:
    name = "http-server-demo-rust"
    env = {"REDIS_ADDRESS": redis.address}
    with serving(example(name), "-c", slightfile(name, "redis"), env=env, preexec_fn=_limit_open_files) as server:
        assert server.request("PUT", "/set", VALUE).status == 204
        before = server.threads
        answers = asyncio.run(asyncio.wait_for(ask_at_once(server.port, REQUESTS), 30))
        assert answers == {b"200 " + VALUE: REQUESTS}
        assert server.threads == before
        assert server.children == []
        assert server.stop() == 0
        assert [line for line in server.err.splitlines() if "serving at" not in line] == []


class Load:
    """Requests from a few clients, each one after the other, and what became of them."""

    CLIENTS = 8

    def __init__(self, server: Server) -> None:
        self._server = server
        self._over = Event()
        self._threads = [Thread(target=self._run) for _ in range(self.CLIENTS)]
        self.answers: list[tuple[float, float, int]] = []
        """When each was sent, when it was answered, and the status."""

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        connection = self._server.connect()
        while not self._over.is_set():
            began = time.monotonic()
            status = self._server.request("GET", "/get", connection=connection).status
            self.answers.append((began, time.monotonic(), status))
        connection.close()

    def statuses(self, since: float = 0, until: float = float("inf")) -> set[int]:
        """Of the requests that were sent and answered between two times."""
        return {status for began, ended, status in self.answers if since <= began and ended < until}

    def wait_for_more(self) -> None:
        """Waits until each client has had some more answers."""
        enough = len(self.answers) + 20 * self.CLIENTS
        wait_until(lambda: len(self.answers) >= enough, "more answers")


def test_a_redis_that_goes_away_and_comes_back_is_missed_while_it_is_away_alone(redis: RedisServer) -> None:
    name = "http-server-demo-c"
    env = {"REDIS_ADDRESS": redis.address}
    with serving(example(name), "-c", slightfile(name, "redis"), env=env) as server:
        assert server.request("PUT", "/set", VALUE).status == 204
        with Load(server) as load:
            load.wait_for_more()
            gone = time.monotonic()
            redis.kill()
            wait_until(lambda: 500 in load.statuses(), "a failure")
            load.wait_for_more()
            redis.start()
            redis.cli("SET", "my-container:key", VALUE)
            back = time.monotonic()
            load.wait_for_more()
        assert load.statuses(until=gone) == {200}
        assert load.statuses() <= {200, 404, 500}  # 404: it is back, and the value isn't yet
        assert load.statuses(since=back) == {200}
        assert server.process.poll() is None
        warning = "slight-py: warning: redis "
        assert any(line.startswith(warning) for line in server.err.splitlines())
        failures = {line for line in server.err.splitlines() if "serving at" not in line and warning not in line}
        assert failures
        reason = "the handler returned the error unexpected-error: Redis can't be reached: "
        assert all(each.startswith(f"slight-py: GET /get handle_get: {reason}") for each in failures)
        assert server.stop() == 0


def test_a_redis_that_is_not_there_at_the_start_is_used_once_it_is(redis: RedisServer) -> None:
    name = "http-server-demo-rust"
    redis.kill()
    env = {"REDIS_ADDRESS": redis.address}
    with serving(example(name), "-c", slightfile(name, "redis"), env=env) as server:
        assert server.get("/get").status == 500
        redis.start()
        assert server.request("PUT", "/set", VALUE).status == 204
        assert server.get("/get")[:2] == (200, VALUE)
        assert server.stop() == 0
