"""`slight-py run` of modules that serve HTTP, in one process and in several."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import resource
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from tests.command import (
    SECONDS,
    Answer,
    Server,
    build_guest,
    connections,
    guest,
    is_alive,
    running,
    serving,
    slight_py,
    wait_until,
)
from tests.guests import example, slightfile
from tests.servers import free_port

SERVER = guest("server")


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    build_guest("server")


CORS = {f"access-control-{each}": "*" for each in ("allow-origin", "allow-methods", "allow-headers", "expose-headers")}


@pytest.fixture(scope="module", params=["http-server-demo-c", "http-server-demo-rust"])
def demo(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Spiderlightning's http-server-demo."""
    with serving(example(request.param), "-c", slightfile(request.param)) as server:
        yield server


@contextmanager
def slow_request(server: Server, milliseconds: int) -> Iterator[Future[Answer]]:
    """A request that a handler has begun to answer."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.get, f"/slow/{milliseconds}")
        server.wait_for("^slow$")
        yield answer


# The routes of the demo.


def test_a_handler_answers(demo: Server) -> None:
    answer = demo.get("/hello")
    assert (answer.status, answer.body) == (200, b"hello")


@pytest.mark.parametrize(("path", "name"), [("/person/Ada", "Ada"), ("/person/Gr%C3%A5%20x/", "Grå x")])
def test_a_parameter_of_the_route_reaches_the_handler(path: str, name: str, demo: Server) -> None:
    assert demo.get(path)[:2] == (200, f"hello {name}".encode())


def test_a_value_that_one_request_sets_another_one_gets(demo: Server) -> None:
    for value in (b"spiderlightning", bytes(range(256)), b""):
        assert demo.request("PUT", "/set", value)[:2] == (204, b"")
        assert demo.get("/get")[:2] == (200, value)


@pytest.mark.parametrize(("method", "path"), [("POST", "/upload"), ("DELETE", "/delete-file")])
def test_a_body_goes_to_the_handler_and_comes_back(method: str, path: str, demo: Server) -> None:
    body = bytes(range(256)) * 4_000
    assert demo.request(method, path, body)[:2] == (200, body)


def test_the_headers_of_a_request_reach_the_handler(demo: Server) -> None:
    """The demo answers with those it got."""
    assert demo.request("GET", "/hello", headers={"X-Mine": "and yours"}).headers["x-mine"] == "and yours"


def test_head_is_answered_like_get_without_the_body(demo: Server) -> None:
    answer = demo.request("HEAD", "/hello")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "5")


def test_a_path_without_route_is_not_found(demo: Server) -> None:
    for path in ("/", "/hello/there", "/person", "/person/a/b"):
        assert demo.get(path).status == 404


def test_a_method_without_route_is_not_allowed(demo: Server) -> None:
    answer = demo.request("POST", "/hello", b"")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert demo.get("/set").headers["allow"] == "PUT, OPTIONS"


@pytest.mark.parametrize(("method", "path"), [("GET", "/hello"), ("GET", "/nothing"), ("PUT", "/set")])
def test_every_answer_allows_every_origin(method: str, path: str, demo: Server) -> None:
    headers = demo.request(method, path, b"").headers
    assert {name: value for name, value in headers.items() if name.startswith("access-control")} == CORS


def test_the_program_goes_on_once_the_server_is_started(demo: Server) -> None:
    wait_until(lambda: demo.out == "guest starting server\nguest moving on\n", "what the demo prints")


def test_a_guest_without_main_starts_its_server() -> None:
    with serving(example("on-server-init"), "-c", slightfile("on-server-init")) as server:
        assert server.get("/hello")[:2] == (200, b"hello")
        assert server.stop() == 0


# What a handler does wrong.


def test_a_handler_that_fails_is_a_500_and_a_line_and_harms_no_other_request() -> None:
    with serving(SERVER) as server:
        for path in ("/trap", "/exit", "/error", "/hello"):
            assert server.get(path).status == (200 if path == "/hello" else 500)
        assert server.stop() == 0
        failures = [line for line in server.err.splitlines() if "GET" in line]
    assert failures == [
        "slight-py: GET /trap handle_trap: wasm trap: wasm `unreachable` instruction executed",
        "slight-py: GET /exit handle_exit: the guest exited with code 5",
        "slight-py: GET /error handle_error: the handler returned the error invalid-url: so says the guest",
    ]


# Limits.


@pytest.fixture(scope="module")
def limited() -> Iterator[Server]:
    flags = ("--max-body", "1K", "--request-timeout", "1", "--max-concurrent", "1")
    with serving(SERVER, *flags) as server:
        yield server


def test_every_request_has_an_instance_of_its_own(limited: Server) -> None:
    assert [limited.get("/count").body for _ in range(3)] == [b"1"] * 3


def test_a_body_past_the_limit_is_refused(limited: Server) -> None:
    assert limited.request("GET", "/hello", b"x" * 1024).status == 200
    assert limited.request("GET", "/hello", b"x" * 1025).status == 413


def test_requests_past_the_limit_are_refused_and_a_late_one_is_ended(limited: Server) -> None:
    with slow_request(limited, 30_000) as slow:
        assert limited.get("/hello").status == 503
        assert slow.result(SECONDS).status == 504
    assert limited.get("/hello").status == 200


# How a server ends.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_request_under_way_finish(number: signal.Signals) -> None:
    with serving(SERVER) as server, slow_request(server, 2_500) as slow:
        server.send(number)
        wait_until(lambda: server.refuses, "no more connections")
        assert not slow.done()
        assert slow.result(SECONDS)[:2] == (200, b"done")
        assert server.wait() == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_it_at_once(number: signal.Signals, code: int) -> None:
    with serving(SERVER) as server, slow_request(server, 30_000) as slow:
        server.send(number)
        wait_until(lambda: server.refuses, "no more connections")
        server.send(number)
        assert server.wait(5) == code
        assert isinstance(slow.exception(SECONDS), ConnectionError | http.client.HTTPException)


def test_a_request_that_takes_too_long_at_the_end_is_cut() -> None:
    with serving(SERVER, "--drain-timeout", "0.2") as server, slow_request(server, 30_000) as slow:
        assert server.stop() == 0
        assert isinstance(slow.exception(SECONDS), ConnectionError | http.client.HTTPException)


def test_a_program_that_stops_its_server_ends_with_0() -> None:
    with serving(SERVER, "--", "stop") as server:
        assert server.wait() == 0


def test_a_program_that_stops_its_server_lets_the_request_under_way_finish() -> None:
    with serving(SERVER, "--", "read", "stop") as server, slow_request(server, 700) as slow:
        assert server.process.stdin is not None
        server.process.stdin.write(b"\n")
        server.process.stdin.flush()
        assert slow.result(SECONDS)[:2] == (200, b"done")
        assert server.wait() == 0


def test_a_program_may_start_another_server_after_it_stopped_one() -> None:
    with serving(SERVER, "--", "stop", "serve") as server:
        second = server.wait_for(r"serving at .*\n(?:.*\n)*.*serving at 127\.0\.0\.1:(\d+)")
        server.port = int(second[1])
        assert server.get("/hello").status == 200
        assert server.stop() == 0


def test_a_program_may_have_two_servers() -> None:
    with serving(SERVER, "--", "serve") as server:
        ports = server.wait_for(r"serving at 127\.0\.0\.1:(\d+)\n(?:.*\n)*.*serving at 127\.0\.0\.1:(\d+)").groups()
        for server.port in map(int, ports):
            assert server.get("/hello").status == 200
        assert server.stop() == 0


@pytest.mark.parametrize(("what", "code"), [("exit", 3), ("trap", 1)])
def test_a_program_that_fails_takes_its_server_with_it(what: str, code: int) -> None:
    with serving(SERVER, "--", what) as server:
        assert server.wait() == code


def test_requests_are_answered_while_the_program_still_runs() -> None:
    with serving(SERVER, "--", "sleep") as server:
        assert server.get("/hello").status == 200
        assert server.stop() == 0


# Where it listens.


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_that_is_taken_is_one_line_and_exit_code_2(workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = slight_py("run", SERVER, "--env", f"ADDRESS={address}", "--workers", workers)
    why = "something else listens there"
    assert done == (2, "", f"slight-py: error: {SERVER}: can't listen on {address}: {why}\n")


def test_an_address_that_makes_no_sense_is_the_programs_to_deal_with() -> None:
    done = slight_py("run", SERVER, "--env", "ADDRESS=nowhere")
    assert done == (4, "", "'nowhere' is not HOST:PORT, as in 127.0.0.1:3000 or [::1]:3000\n")


# The access log.


def test_the_access_log_has_a_line_for_each_request() -> None:
    with serving(example("http-server-demo-c"), "--access-log", "plain") as server:
        server.get("/person/Ada?token=secret")
        server.request("POST", "/nothing", b"")
        assert server.stop() == 0
        lines = [line for line in server.err.splitlines() if not line.startswith("slight-py: ")]
    seconds = r"\d+\.\d{6}"
    assert len(lines) == 2
    assert re.fullmatch(rf"127\.0\.0\.1 GET /person/Ada 200 9 {seconds} handle_person", lines[0])
    assert re.fullmatch(rf"127\.0\.0\.1 POST /nothing 404 10 {seconds} -", lines[1])


def test_the_access_log_can_be_json() -> None:
    with serving(example("http-server-demo-c"), "--access-log", "json") as server:
        server.get("/person/Ada?token=secret")
        assert server.stop() == 0
        (record,) = (json.loads(line) for line in server.err.splitlines() if line.startswith("{"))
    assert 0 < record.pop("seconds") < SECONDS
    assert record == {
        "client": "127.0.0.1",
        "method": "GET",
        "path": "/person/Ada",
        "status": 200,
        "bytes": 9,
        "handler": "handle_person",
    }


def test_requests_are_answered_though_nobody_reads_the_log() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    port = free_port()
    address = ("--env", f"ADDRESS=127.0.0.1:{port}")
    with running("run", SERVER, *address, "--access-log", "plain", stderr=writer) as server:
        os.close(writer)
        server.port = port
        wait_until(lambda: not server.refuses, "a server")
        connection = server.connect()
        assert [server.request("GET", "/hello", connection=connection).status for _ in range(3)] == [200] * 3


# Several processes.


@pytest.fixture(scope="module")
def pair() -> Iterator[Server]:
    """The demo with two workers."""
    app = "http-server-demo-c"
    with serving(example(app), "-c", slightfile(app), "--workers", "2") as server:
        yield server


@contextmanager
def held(server: Server, count: int) -> Iterator[list[http.client.HTTPConnection]]:
    """Connections that have each been used, and are kept."""
    with ExitStack() as stack:
        kept = [server.connect() for _ in range(count)]
        for connection in kept:
            stack.callback(connection.close)
            assert server.request("GET", "/hello", connection=connection).status == 200
        yield kept


def test_the_entry_point_runs_once_however_many_workers_there_are(pair: Server) -> None:
    assert len(pair.workers) == 2
    wait_until(lambda: pair.out == "guest starting server\nguest moving on\n", "what the demo prints")


def test_all_workers_answer(pair: Server) -> None:
    with held(pair, 40):
        shares = [connections(pid, pair.port) for pid in pair.workers]
    assert sum(shares) == 40
    assert all(shares)


def test_workers_share_the_stores_in_memory(pair: Server) -> None:
    with held(pair, 40) as kept:
        assert all(connections(pid, pair.port) for pid in pair.workers)
        for number, connection in enumerate(kept):
            value = str(number).encode()
            assert pair.request("PUT", "/set", value, connection=connection).status == 204
            assert {pair.request("GET", "/get", connection=each).body for each in kept[:8]} == {value}


def all_ended(pids: list[int]) -> bool:
    return not any(map(is_alive, pids))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_main_process_ends_all_workers(number: signal.Signals) -> None:
    with serving(SERVER, "--workers", "2") as server, slow_request(server, 2_500) as slow:
        children = server.children
        assert len(server.workers) == 2
        server.send(number)
        wait_until(lambda: server.refuses, "no more connections")
        assert not slow.done()
        assert slow.result(SECONDS)[:2] == (200, b"done")
        assert server.wait() == 0
        wait_until(lambda: all_ended(children), "the end of all processes")


def test_ctrl_c_reaches_every_process_and_lets_the_request_under_way_finish() -> None:
    with serving(SERVER, "--workers", "2") as server, slow_request(server, 700) as slow:
        children = server.children
        os.killpg(server.pid, signal.SIGINT)
        assert slow.result(SECONDS)[:2] == (200, b"done")
        assert server.wait() == 0
        wait_until(lambda: all_ended(children), "the end of all processes")
        assert "Traceback" not in server.err


def test_a_second_ctrl_c_ends_all_workers_at_once() -> None:
    with serving(SERVER, "--workers", "2") as server, slow_request(server, 30_000) as slow:
        children = server.children
        os.killpg(server.pid, signal.SIGINT)
        wait_until(lambda: server.refuses, "no more connections")
        os.killpg(server.pid, signal.SIGINT)
        assert server.wait(5) == 130
        wait_until(lambda: all_ended(children), "the end of all processes")
        assert isinstance(slow.exception(SECONDS), ConnectionError | http.client.HTTPException)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
@pytest.mark.parametrize("group", [False, True], ids=["the-command", "all-processes"])
def test_a_signal_while_the_workers_start_ends_them_without_a_word(number: signal.Signals, group: bool) -> None:
    def ended(delay: float) -> tuple[int, str, list[int]]:
        with running("run", SERVER, "--env", "ADDRESS=127.0.0.1:0", "--workers", "2") as command:
            wait_until(lambda: len(command.workers) == 2, "two workers")
            workers = command.workers
            time.sleep(delay)
            if group:
                os.killpg(command.pid, number)
            else:
                command.send(number)
            code = command.wait()
            err = re.sub(r"slight-py: serving at .*\n", "", command.err)
            return code, err, [pid for pid in workers if is_alive(pid)]

    # Whenever it comes: before the workers' Python has started, and when they serve and nobody has said so yet.
    for delay in (0, 0.05, 0.1, 0.2, 0.3, 0.5):
        assert ended(delay) == (0, "", []), f"{delay} seconds after the start of the workers"


def test_a_signal_to_all_processes_ends_them_without_a_word() -> None:
    for _ in range(5):
        with serving(SERVER, "--workers", "2") as server:
            children = server.children
            # The workers first, and the main process some time later: signals come in any order.
            for pid in server.workers:
                os.kill(pid, signal.SIGTERM)
            time.sleep(0.2)
            assert server.stop() == 0
            assert len(server.err.splitlines()) == 1
            wait_until(lambda: all_ended(children), "the end of all processes")  # noqa: B023  # within the round


def test_ctrl_c_means_nothing_to_a_worker_from_its_first_moment_on() -> None:
    """The terminal sends SIGINT to every process; what it means is for the main one to say."""
    with running("run", SERVER, "--env", "ADDRESS=127.0.0.1:0", "--workers", "2") as command:
        wait_until(lambda: len(command.workers) == 2, "two workers")
        started = command.workers
        while "serving at" not in command.err:
            for pid in started:
                os.kill(pid, signal.SIGINT)
            time.sleep(0.01)
        assert command.workers == started
        assert len(command.err.splitlines()) == 1


def test_a_worker_that_is_killed_is_replaced() -> None:
    with serving(SERVER, "--workers", "2") as server:
        killed, kept = server.workers
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: len(set(server.workers) - {killed}) == 2, "another worker")
        assert kept in server.workers
        with held(server, 40):
            assert all(connections(pid, server.port) for pid in server.workers)
        assert server.stop() == 0
        assert "slight-py: a worker ended unexpectedly (-9); starting another\n" in server.err


def test_a_worker_is_replaced_though_the_file_of_the_module_is_gone(tmp_path: Path) -> None:
    app = tmp_path / "app.wasm"
    shutil.copyfile(SERVER, app)
    with serving(app, "--workers", "2") as server:
        app.unlink()
        (killed, _) = server.workers
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: len(set(server.workers) - {killed}) == 2, "another worker")
        with held(server, 40):
            assert all(connections(pid, server.port) for pid in server.workers)


def test_no_worker_outlives_the_main_process() -> None:
    with serving(SERVER, "--workers", "2") as server:
        children = server.children
        assert len(server.workers) == 2
        server.process.kill()
        assert server.wait() == -signal.SIGKILL
        wait_until(lambda: all_ended(children), "the end of all processes")


def test_what_is_wrong_with_a_module_is_told_once_however_many_workers_there_are(tmp_path: Path) -> None:
    nothing = tmp_path / "slightfile.toml"
    nothing.write_text('specversion = "0.2"\n')
    done = slight_py("run", SERVER, "-c", nothing, "--workers", "3")
    assert (done.code, len(done.errors)) == (2, 1)
    done = slight_py("run", SERVER, "--env", "ADDRESS=127.0.0.1:0", "--workers", "2", "--", "trap")
    assert done.code == 1
    assert [line for line in done.errors if "serving at" not in line] == [
        f"slight-py: {SERVER}: the guest trapped: wasm trap: wasm `unreachable` instruction executed"
    ]


def test_the_log_of_a_worker_is_like_that_of_a_single_process() -> None:
    with serving(SERVER, "--workers", "2", "--access-log", "plain") as server:
        assert server.get("/exit").status == 500
        assert server.stop() == 0
        told, logged = server.err.splitlines()[1:]
    assert told == "slight-py: GET /exit handle_exit: the guest exited with code 5"
    assert logged.startswith("127.0.0.1 GET /exit 500 ")


def test_the_log_says_that_descriptors_run_short_and_the_server_goes_on() -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))

    with serving(SERVER, preexec_fn=few) as server:
        with ExitStack() as clients:
            for _ in range(250):
                clients.enter_context(socket.create_connection(("127.0.0.1", server.port), SECONDS))
            server.wait_for("of the 200 descriptors that this process may have, few are left")
        wait_until(lambda: connections(server.pid, server.port) == 0, "the end of all connections")
        assert server.get("/hello").status == 200
        assert server.err.count("few are left") == 1
        assert server.stop() == 0


@pytest.mark.parametrize("late", [False, True], ids=["never-read", "read-late"])
def test_a_log_that_is_not_read_holds_up_nobody(late: bool) -> None:
    app = "http-server-demo-c"
    reading, writing = os.pipe()
    arguments = ("run", example(app), "-c", slightfile(app), "--env", "ADDRESS=127.0.0.1:0", "--access-log", "plain")
    with running(*arguments, stderr=writing) as server, os.fdopen(reading, "rb") as log:
        os.close(writing)
        while b"serving at" not in (line := log.readline()):
            assert line, "it ended"
        server.port = int(line.rsplit(b":", 1)[1])
        with closing(server.connect()) as connection:
            # Lines of some 50 bytes: more than the pipe and those that wait may hold.
            for _ in range(30_000):
                assert server.request("GET", "/hello", connection=connection).status == 200
        with ThreadPoolExecutor() as pool:
            if late:
                rest = pool.submit(log.read)
                server.get("/hello")
            assert server.stop() == 0
            if late:
                lines = rest.result(SECONDS).splitlines()
                assert any(re.fullmatch(rb"slight-py: \d+ lines of the log are left out: .*", line) for line in lines)
                assert 1000 < len(lines) < 30_000


@pytest.mark.parametrize("workers", ["1", "2"])
def test_clients_under_load_see_no_reset_when_the_server_stops(workers: str) -> None:
    body = bytes(20_000)

    def client(server: Server) -> int:
        """Sends bodies on one connection until an answer says that it's the last; returns how many were answered."""
        with closing(server.connect()) as connection:
            for answered in itertools.count(1):
                answer = server.request("GET", "/hello", body, connection=connection)
                assert answer.status == 200
                if answer.headers.get("connection") == "close":
                    return answered
        raise AssertionError("unreachable")

    with serving(SERVER, "--workers", workers) as server, ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            server.get("/hello")
        clients = [pool.submit(client, server) for _ in range(8)]
        time.sleep(0.3)
        assert server.stop() == 0
        assert all(each.result(SECONDS) > 5 for each in clients)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_clients_that_connect_while_the_server_stops_are_answered_or_refused(workers: str) -> None:
    def client(server: Server) -> int:
        """Makes a connection for each request, until nobody listens any more; returns how many were answered."""
        for answered in itertools.count():
            try:
                assert server.get("/hello").status == 200
            except ConnectionRefusedError:
                return answered
        raise AssertionError("unreachable")

    with serving(SERVER, "--workers", workers) as server, ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client, server) for _ in range(8)]
        time.sleep(0.3)
        assert server.stop() == 0
        assert all(each.result(SECONDS) > 5 for each in clients)
