"""`slight-py run` of components: programs to their ends, and servers."""

from __future__ import annotations

import json
import re
import signal
import socket
from pathlib import Path

import pytest
import wasmtime

from tests import wat
from tests.command import Server, at_once, running, serving, slight_py, wait_until
from tests.component.guests import COMMAND, SERVER, with_callback, without_callback, written

ANSWERS = "(call $drop (local.get $request)) (call $answer (local.get $outparam) (i32.const 201))"


# Programs.


@pytest.mark.parametrize(
    ("body", "code", "err"),
    [
        ("(i32.const 0)", 0, ""),
        ("(i32.const 1)", 1, "slight-py: app.wasm ended with code 1 and said nothing\n"),
        ("(call $exit (i32.const 0)) (unreachable)", 0, ""),
        ("(call $exit (i32.const 1)) (unreachable)", 1, "slight-py: app.wasm ended with code 1 and said nothing\n"),
        ("(unreachable)", 1, "{app}: the guest trapped: wasm trap: wasm `unreachable` instruction executed\n"),
        ("(i32.const 2)", 1, "{app}: the guest broke the binary interface: wasi:cli/run@0.2.12: run: result: "
                             "2 is not a case of result\n"),
    ],
)  # fmt: skip
def test_a_program_ends_with_its_code(body: str, code: int, err: str, tmp_path: Path) -> None:
    app = written(tmp_path, COMMAND, body)
    done = slight_py("run", app)
    assert (done.code, done.out) == (code, "")
    assert done.err == (f"slight-py: {err.format(app=app)}" if "{app}" in err else err)


# What is refused.


def line_of(path: Path, *arguments: str) -> str:
    """Why a component isn't run: one line."""
    done = slight_py("run", path, *arguments)
    assert (done.code, done.out) == (2, "")
    (line,) = done.errors
    start = f"slight-py: error: {path}: "
    assert line.startswith(start)
    return line.removeprefix(start)


def test_a_component_that_exports_nothing_to_run_is_refused(tmp_path: Path) -> None:
    library = written(tmp_path, '(component (core module $m) (export "lib" (core module $m)))')
    assert line_of(library) == (
        "exports neither wasi:cli/run, to be run, nor wasi:http/incoming-handler or wasi:http/handler, to answer "
        "requests; it exports lib"
    )


def test_a_component_that_is_both_program_and_handler_is_refused(tmp_path: Path) -> None:
    run = """
    (core module $r (func (export "run") (result i32) (i32.const 0)))
    (core instance $r (instantiate $r))
    (func $run (result (result)) (canon lift (core func $r "run")))
    (instance $run (export "run" (func $run)))
    (export "wasi:cli/run@0.2.0" (instance $run))
    (instance $handler (export"""
    both = written(tmp_path, SERVER.replace("(instance $handler (export", run), ANSWERS)
    assert line_of(both) == (
        "exports wasi:cli/run@0.2.0 and wasi:http/incoming-handler@0.2.0, and only one of them can be run; export one,"
        " or make two components"
    )


def test_an_entry_point_of_another_type_is_refused(tmp_path: Path) -> None:
    wrong = COMMAND.replace("(func $run (result (result))", "(func $run (result u32)")
    assert line_of(written(tmp_path, wrong, "(i32.const 0)")) == (
        "exports wasi:cli/run@0.2.0: run as func() -> u32, but it is func() -> result<_, _>; build it against "
        "wasi:cli/run@0.2.12"
    )


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    app = written(tmp_path, COMMAND, "(i32.const 0)")
    whole = app.read_bytes()
    cuts = [8, len(whole) // 2, len(whole) - 1]
    paths = []
    for cut in cuts:
        paths.append(tmp_path / f"{cut}.wasm")
        paths[-1].write_bytes(whole[:cut])
    for path, done in zip(paths, at_once(lambda path: slight_py("run", path), paths), strict=True):
        assert (done.code, done.out) == (2, "")
        assert len(done.errors) == 1
        assert done.err.startswith(f"slight-py: error: {path}: ")


@pytest.mark.parametrize(
    ("imported", "why"),
    [
        (
            '(instance $exit (export "exit" (func (param "status" u32))))',
            "imports wasi:cli/exit@0.2.0: exit as func(status: u32), but it is func(status: result<_, _>); build it"
            " against wasi:cli/exit@0.2.12",
        ),
        (
            '(instance $exit (export "leave" (func (param "status" (result)))))',
            "imports wasi:cli/exit@0.2.0: leave, which wasi:cli/exit@0.2.12 doesn't have; build it against that",
        ),
    ],
)
def test_an_import_of_another_type_is_refused(imported: str, why: str, tmp_path: Path) -> None:
    original = '(instance $exit (export "exit" (func (param "status" (result)))))'
    text = COMMAND.replace(original, imported)
    if "leave" in imported:
        text = text.replace('(func $exit "exit")', '(func $exit "leave")')
    assert line_of(written(tmp_path, text, "(i32.const 0)")) == why


def test_an_interface_that_nobody_has_is_refused(tmp_path: Path) -> None:
    text = COMMAND.replace("wasi:cli/exit@0.2.0", "acme:cli/exit@1.0.0")
    assert line_of(written(tmp_path, text, "(i32.const 0)")).startswith(
        "imports acme:cli/exit@1.0.0 (exit), which nothing provides; if it is one of your own, write a Python class"
    )
    text = COMMAND.replace("wasi:cli/exit@0.2.0", "wasi:cli/exit@1.0.0")
    assert line_of(written(tmp_path, text, "(i32.const 0)")) == (
        "imports wasi:cli/exit@1.0.0 (exit), which nothing provides; there is wasi:cli/exit@0.2.0 and "
        "wasi:cli/exit@0.3.0: build it against that"
    )


# Servers.


def test_a_handler_answers_each_request_by_an_instance_of_its_own(tmp_path: Path) -> None:
    body = f"(global.set $count (i32.add (global.get $count) (i32.const 1))) {ANSWERS}".replace(
        "(i32.const 201)", "(i32.add (i32.const 200) (global.get $count))"
    )
    text = SERVER.replace("(func $answer", "(global $count (mut i32) (i32.const 0)) (func $answer")
    with serving(written(tmp_path, text, body), "--listen", "127.0.0.1:0") as server:
        assert [server.request(method, "/x").status for method in ("GET", "PUT", "GET")] == [201] * 3
        assert server.stop() == 0
        assert server.err.splitlines()[1:] == []


COUNT = "(i32.add (i32.const 200) (global.get $requests))"
YIELDED = "(i32.const 1)"
"""What a handler or a callback returns to have others run."""


@pytest.mark.parametrize("server", [with_callback("(unreachable)"), without_callback()], ids=["callback", "stackful"])
def test_an_instance_answers_as_many_requests_as_it_may(server: str, tmp_path: Path) -> None:
    body = f"(call $answer {COUNT})" if "(callback" in server else f"(drop (call $answer {COUNT}))"
    app = written(tmp_path, server, body)
    for requests, statuses in ((1, [201, 201, 201]), (2, [201, 202, 201])):
        with serving(app, "--listen", "127.0.0.1:0", "--instance-requests", str(requests)) as running_:
            assert [running_.get("/").status for _ in statuses] == statuses
            assert running_.stop() == 0
            assert running_.err.splitlines()[1:] == []


def at_the_same_time(server: Server, count: int) -> list[int]:
    """The statuses of requests that are sent together, in order."""
    return sorted(answer.status for answer in at_once(lambda _: server.get("/"), range(count)))


def assert_together(server: Server, status: int) -> None:
    """Two requests that are sent together have that status, at one of some attempts: an instance whose code runs just
    when the second one comes doesn't get that, and then both wait in vain."""
    for _ in range(5):
        statuses = at_the_same_time(server, 2)
        if statuses == [status, status]:
            return
        assert statuses == [504, 504]
    raise AssertionError("no two requests met in an instance")


def test_requests_of_an_instance_run_at_the_same_time(tmp_path: Path) -> None:
    # The first one waits for the second.
    waits = "(i32.lt_u (global.get $requests) (i32.const 2))"
    both = f"(if (result i32) {waits} (then {YIELDED}) (else (call $answer {COUNT})))"
    app = written(tmp_path, with_callback(both), both)
    with serving(app, "--listen", "127.0.0.1:0", "--instance-requests", "2", "--request-timeout", "2") as server:
        assert_together(server, 202)
        assert server.stop() == 0


def test_an_instance_that_traps_takes_its_own_requests_with_it(tmp_path: Path) -> None:
    body = f"(if (i32.eq (global.get $requests) (i32.const 2)) (then unreachable)) {YIELDED}"
    app = written(tmp_path, with_callback(YIELDED), body)
    options = ("--instance-requests", "3", "--request-timeout", "2")
    with serving(app, "--listen", "127.0.0.1:0", *options) as server:
        assert_together(server, 500)
        assert_together(server, 500)  # by another instance
        assert server.stop() == 0
        _, *lines = server.err.splitlines()
    trapped = "slight-py: GET /: wasm trap: wasm `unreachable` instruction executed"
    assert [line for line in lines if "no answer within 2 seconds" not in line] == [trapped] * 4


def test_a_request_of_an_instance_is_ended_by_the_time_limit(tmp_path: Path) -> None:
    is_second = "(i32.eq (global.get $requests) (i32.const 2))"
    body = f"(if (result i32) {is_second} (then {YIELDED}) (else (call $answer {COUNT})))"
    app = written(tmp_path, with_callback(YIELDED), body)
    with serving(app, "--listen", "127.0.0.1:0", "--instance-requests", "9", "--request-timeout", "0.5") as server:
        assert [server.get("/").status for _ in range(3)] == [201, 504, 201], "the instance gets no more requests"
        assert server.stop() == 0


def test_an_instance_of_anything_else_answers_one_request(tmp_path: Path) -> None:
    module = tmp_path / "module.wasm"
    module.write_bytes(wasmtime.wat2wasm(f'(module {wat.MEMORY} (func (export "_start")))'))
    for app in (written(tmp_path, SERVER, ANSWERS), module):
        assert line_of(app, "--instance-requests", "2") == (
            "--instance-requests is for components that export wasi:http/handler of WASI 0.3, whose instances may "
            "answer several requests; leave it out"
        )


def test_headers_of_cors_are_the_components_own_unless_a_slightfile_has_them(tmp_path: Path) -> None:
    app = written(tmp_path, SERVER, ANSWERS)
    with serving(app, "--listen", "127.0.0.1:0") as server:
        assert not [name for name in server.get("/").headers if name.startswith("access-control-")]
    slightfile = tmp_path / "slightfile.toml"
    slightfile.write_text(
        'specversion = "0.2"\n[[capability]]\nresource = "http"\nname = "web"\n'
        '[capability.configs]\nCORS_ALLOW_ORIGIN = "https://app.example"\n'
    )
    with serving(app, "-c", slightfile, "--listen", "127.0.0.1:0") as server:
        answer = server.request("GET", "/", headers={"Origin": "https://app.example"})
        assert answer.headers["access-control-allow-origin"] == "https://app.example"


def test_workers_answer_and_finish_what_they_have_begun(tmp_path: Path) -> None:
    app = written(tmp_path, SERVER, ANSWERS)
    with serving(app, "--listen", "127.0.0.1:0", "--workers", "2") as server:
        assert len(server.workers) == 2
        assert {server.get("/").status for _ in range(10)} == {201}
        assert server.stop(signal.SIGINT) == 0
        assert server.refuses


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("(unreachable)", "wasm trap: wasm `unreachable` instruction executed"),
        (
            "(call $drop (local.get $outparam))",
            "resource.drop of wasi:http/types/incoming-request: handle 2 is of wasi:http/types/response-outparam, not "
            "of wasi:http/types/incoming-request",
        ),
        (
            "(call $drop (i32.const 77))",
            "resource.drop of wasi:http/types/incoming-request: there is no handle 77, where one of "
            "wasi:http/types/incoming-request is expected",
        ),
        ("(call $drop (local.get $request))", "the handler ended without a response"),
    ],
)
def test_a_handler_that_fails_is_a_500_and_a_line_in_the_log(body: str, reason: str, tmp_path: Path) -> None:
    with serving(written(tmp_path, SERVER, body), "--listen", "127.0.0.1:0") as server:
        assert server.get("/some/path").status == 500
        assert server.get("/some/path").status == 500, "the server goes on"
        assert server.stop() == 0
        _, *lines = server.err.splitlines()
    assert lines == [f"slight-py: GET /some/path: {reason}"] * 2


def test_a_handler_that_computes_for_ever_is_ended_and_others_have_their_turn(tmp_path: Path) -> None:
    body = f"(if (global.get $first) (then (loop $forever (br $forever)))) {ANSWERS}"
    text = SERVER.replace("(func $answer", "(global $first i32 (i32.const 1)) (func $answer")
    with serving(
        written(tmp_path, text, body), "--listen", "127.0.0.1:0", "--request-timeout", "1", "--max-concurrent", "2"
    ) as server:
        assert server.get("/").status == 504
        assert server.stop() == 0


def test_the_access_log_has_a_line_for_each_request_of_a_component(tmp_path: Path) -> None:
    app = written(tmp_path, SERVER, ANSWERS)
    with serving(app, "--listen", "127.0.0.1:0", "--access-log", "json") as server:
        server.get("/a?b=c")
        wait_until(lambda: '"path"' in server.err, "a line of the access log")
        assert server.stop() == 0
        (record,) = (json.loads(line) for line in server.err.splitlines() if line.startswith("{"))
    assert (record["method"], record["path"], record["status"], record["bytes"]) == ("GET", "/a", 201, 0)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_address_that_is_taken_or_makes_no_sense_is_one_line(workers: str, tmp_path: Path) -> None:
    app = written(tmp_path, SERVER, ANSWERS)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = line_of(app, "--listen", address, "--workers", workers)
    assert line == f"can't listen on {address}: something else listens there"
    line = line_of(app, "--listen", "nowhere", "--workers", workers)
    assert line == "--listen: 'nowhere' is not HOST:PORT, as in 127.0.0.1:3000 or [::1]:3000"


def test_a_module_and_a_component_run_together(tmp_path: Path) -> None:
    component = written(tmp_path, SERVER, ANSWERS)
    program = written(tmp_path, COMMAND, "(i32.const 1)", "program.wasm")
    module = tmp_path / "module.wasm"
    module.write_bytes(wasmtime.wat2wasm(f'(module {wat.MEMORY} (func (export "_start")))'))
    with running("run", component, program, module, "--listen", "127.0.0.1:0") as server:
        server.port = int(server.wait_for(r"serving at 127\.0\.0\.1:(\d+)")[1])
        assert server.get("/").status == 201
        server.wait_for("program.wasm: it ended with exit code 1; the others go on")
        assert server.stop() == 1


def test_more_memory_than_an_instance_may_have_is_one_line(tmp_path: Path) -> None:
    app = written(tmp_path, COMMAND.replace("BODY))", "BODY) (memory 1))"), "(i32.const 0)")
    assert line_of(app, "--max-memory", "1K") == (
        "its memory begins with 65,536 bytes, and an instance may have less; allow more with --max-memory"
    )


def test_two_components_can_not_be_served_at_one_port(tmp_path: Path) -> None:
    one, other = (written(tmp_path, SERVER, ANSWERS, f"{name}.wasm") for name in ("one", "other"))
    done = slight_py("run", one, other)
    assert (done.code, done.out) == (2, "")
    assert done.errors == [
        "slight-py: error: one.wasm and other.wasm answer requests, and --listen gives them one address, "
        "127.0.0.1:3000; let them have free ports with --listen 127.0.0.1:0, or run each by a command of its own"
    ]
    with running("run", one, other, "--listen", "127.0.0.1:0") as server:
        for name in ("one", "other"):
            server.port = int(server.wait_for(rf"{name}\.wasm: serving at 127\.0\.0\.1:(\d+)")[1])
            assert server.get("/").status == 201
        assert server.stop() == 0


INFORMS = (
    SERVER.replace(
        '(export "[static]response-outparam.set"',
        """(export "[method]response-outparam.send-informational" (func (param "self" (borrow $outparam))
          (param "status" u16) (param "headers" (own $fields)) (result (result (error $code)))))
        (export "[static]response-outparam.set\"""",
    )
    .replace(
        "(core func $drop (canon",
        """(core func $inform (canon lower (func $types "[method]response-outparam.send-informational")
          (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
        (core func $drop (canon""",
    )
    .replace('(import "" "drop"', '(import "" "inform" (func $inform (param i32 i32 i32 i32))) (import "" "drop"')
    .replace('(export "drop" (func $drop))', '(export "inform" (func $inform)) (export "drop" (func $drop))')
)
"""A server that can send a status before its response."""


def test_a_component_sends_a_status_before_its_response(tmp_path: Path) -> None:
    hints = "(call $inform (local.get $outparam) (i32.const 103) (call $fields) (i32.const 2048))"
    app = written(tmp_path, INFORMS, hints + ANSWERS)
    with (
        serving(app, "--listen", "127.0.0.1:0") as server,
        socket.create_connection(("127.0.0.1", server.port), 10) as client,
    ):
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert re.findall(rb"^HTTP/1\.1 (\d+)", answer, re.MULTILINE) == [b"103", b"201"]


def test_what_a_component_calls_is_shown_with_verbose(tmp_path: Path) -> None:
    app = written(tmp_path, SERVER, ANSWERS)
    with serving(app, "--listen", "127.0.0.1:0", "--verbose") as server:
        assert server.get("/").status == 201
        server.wait_for(r"wasi:http/types@0\.2\.12::\[constructor\]fields\(\) = fields  \d+\.\d ms")
        server.wait_for(
            r"wasi:http/types@0\.2\.12::\[method\]outgoing-response\.set-status-code\(201\) = ok  \d+\.\d ms"
        )
