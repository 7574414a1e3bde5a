"""`slight-py run` of modules that publish and receive: several in one process, and one in several processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.command import (
    SECONDS,
    Done,
    Server,
    at_once,
    build_guest,
    connections,
    guest,
    running,
    slight_py,
    wait_until,
)
from tests.guests import example, slightfile
from tests.servers import free_port

A, B = "a.wasm", "b.wasm"


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    build_guest("messenger")


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """A directory with the same module under two names."""
    for name in (A, B):
        shutil.copyfile(guest("messenger"), tmp_path / name)
    return tmp_path


ALLOWED = """\
specversion = "0.2"

[[capability]]
resource = "http"
name = "web"

[[capability]]
resource = "messaging.memory"
name = "shop"

    [[capability.allow]]
    modules = ["a.wasm"]
    publish = ["orders.*", "go"]
    subscribe = ["receipts"]

    [[capability.allow]]
    modules = ["b.wasm"]
    publish = ["receipts"]
    subscribe = ["orders.*", "go"]
"""


def run(directory: Path, *words: str, grants: str | None = None, stdin: str = "") -> Done:
    """Runs both modules, with their arguments."""
    options = []
    if grants is not None:
        (directory / "slightfile.toml").write_text(grants)
        options = ["-c", "slightfile.toml"]
    return slight_py("run", A, B, *options, "--no-dir", "--", *words, cwd=directory, stdin=stdin)


def go_on(process: Server, *lines: str) -> None:
    """Has a module that reads its input go on, once these lines have been printed."""
    wait_until(lambda: set(lines) <= set(process.out.splitlines()), f"{lines} on standard output")
    assert process.process.stdin is not None
    process.process.stdin.write(b"x\n")
    process.process.stdin.flush()


# The examples.


@pytest.mark.parametrize("backend", ["memory", "filesystem"])
def test_one_example_receives_what_the_other_one_publishes(backend: str, tmp_path: Path) -> None:
    publisher, receiver = example("messaging-demo-publisher-c"), example("messaging-demo-receiver-rust")
    grants = slightfile("messaging-demo-publisher-c", backend)
    done = slight_py("run", publisher, receiver, "-c", grants, "--", "spy", env={"TMPDIR": str(tmp_path)})
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    for what in ("published", "received"):
        assert [line for line in lines if line.startswith(what)] == [f"{what}: order {n}" for n in (1, 2, 3)]
    assert len(lines) == 6
    (told,) = done.errors
    assert "asked to subscribe 'orders.new', which the slightfile does not allow it" in told


def test_the_examples_find_each_other_as_two_processes_through_files(tmp_path: Path) -> None:
    modules = [example("messaging-demo-receiver-rust"), example("messaging-demo-publisher-c")]
    grants = slightfile("messaging-demo-publisher-c", "filesystem")
    receiver, publisher = at_once(
        lambda module: slight_py("run", module, "-c", grants, env={"TMPDIR": str(tmp_path)}), modules
    )
    assert (receiver.code, publisher.code) == (0, 0), receiver.err + publisher.err
    assert receiver.out == "received: order 1\nreceived: order 2\nreceived: order 3\n"


# Who may do what.


def test_a_module_does_what_it_is_allowed_and_nothing_else(modules: Path) -> None:
    (modules / "slightfile.toml").write_text(ALLOWED)
    words = [
        *("b.wasm=sub:orders.new", "b.wasm=sub:go", "a.wasm=sub:receipts", "a.wasm=read"),
        *("a.wasm=sub:orders.new", "a.wasm=sub:orders.*", "a.wasm=sub:*", "a.wasm=sub:receipts/#"),
        *("a.wasm=pub:receipts:forged", "a.wasm=pub:orders:no", "a.wasm=pub:orders.new:1", "a.wasm=pub:go:go"),
        *("b.wasm=receive:go", "b.wasm=receive:orders.new", "b.wasm=sub:receipts", "b.wasm=pub:orders.new:forged"),
        *("b.wasm=pub:receipts:paid", "a.wasm=receive:receipts", "a.wasm=open:bank"),
    ]
    with running("run", A, B, "-c", "slightfile.toml", "--no-dir", "--", *words, cwd=modules) as process:
        go_on(process, "b.wasm sub:go: done", "a.wasm sub:receipts: done")
        assert process.wait() == 0, process.err
        lines = process.out.splitlines()
    refused = "insufficient-permissions"
    assert [line for line in lines if line.startswith(A)] == [
        "a.wasm sub:receipts: done",
        f"a.wasm read: {ord('x')}",
        f"a.wasm sub:orders.new: {refused}",
        f"a.wasm sub:orders.*: {refused}",
        f"a.wasm sub:*: {refused}",
        f"a.wasm sub:receipts/#: {refused}",
        f"a.wasm pub:receipts:forged: {refused}",
        f"a.wasm pub:orders:no: {refused}",
        "a.wasm pub:orders.new:1: done",
        "a.wasm pub:go:go: done",
        "a.wasm receive:receipts: paid",
        f"a.wasm open:bank: {refused}",
    ]
    assert [line for line in lines if line.startswith(B)] == [
        "b.wasm sub:orders.new: done",
        "b.wasm sub:go: done",
        "b.wasm receive:go: go",
        "b.wasm receive:orders.new: 1",
        f"b.wasm sub:receipts: {refused}",
        f"b.wasm pub:orders.new:forged: {refused}",
        "b.wasm pub:receipts:paid: done",
    ]


def test_a_refusal_is_told_once_with_what_to_add(modules: Path) -> None:
    done = run(modules, *["a.wasm=pub:receipts:forged"] * 3, *['b.wasm=pub:x"\\:'] * 2, grants=ALLOWED)
    assert done.code == 0
    assert sorted(done.errors) == [
        "slight-py: warning: a.wasm: slightfile.toml:7: messaging: the module asked to publish 'receipts', which "
        'the slightfile does not allow it; add [[capability.allow]] with modules = ["a.wasm"] and publish '
        '= ["receipts"]',
        "slight-py: warning: b.wasm: slightfile.toml:7: messaging: the module asked to publish 'x\"\\\\', which "
        'the slightfile does not allow it; add [[capability.allow]] with modules = ["b.wasm"] and publish '
        '= ["x\\"\\\\"]',
    ]


def test_without_allow_a_module_may_do_everything(modules: Path) -> None:
    grants = 'specversion = "0.2"\n[[capability]]\nresource = "messaging.memory"\nname = "shop"\n'
    grants += '[[capability]]\nresource = "http"\nname = "web"\n'
    for given in (grants, None):
        done = run(modules, "a.wasm=sub:x", "a.wasm=pub:x:hello", "a.wasm=receive:x", grants=given)
        assert done == (0, "a.wasm sub:x: done\na.wasm pub:x:hello: done\na.wasm receive:x: hello\n", "")


def test_a_capability_for_one_module_is_not_there_for_the_other(modules: Path) -> None:
    grants = 'specversion = "0.2"\n[[capability]]\nresource = "messaging.memory"\nname = "shop"\nmodules = ["a.wasm"]\n'
    grants += '[[capability]]\nresource = "http"\nname = "web"\n'
    for options in ([], ["-l"]):
        (modules / "slightfile.toml").write_text(grants)
        done = slight_py("run", A, B, "-c", "slightfile.toml", *options, cwd=modules)
        assert done == (
            2,
            "",
            "slight-py: error: slightfile.toml: b.wasm imports messaging, and no capability of the family 'messaging' "
            'is granted; add "b.wasm" to the modules of the one on line 2, or add [[capability]] with resource = '
            '"messaging.memory" and name = "*"\n',
        )
    alone = slight_py("run", A, "-c", "slightfile.toml", "--", "pub:x:", cwd=modules)
    assert alone == (0, "a.wasm pub:x:: done\n", "")


def test_one_name_may_be_two_things_for_two_modules(modules: Path) -> None:
    one = '[[capability]]\nresource = "messaging.memory"\nname = "shop"\nmodules = ["a.wasm"]\n'
    other = '[[capability]]\nresource = "messaging.filesystem"\nname = "shop"\nmodules = ["b.wasm"]\n'
    other += f'configs = {{ DIRECTORY = "{modules}/messages" }}\n'
    grants = 'specversion = "0.2"\n[[capability]]\nresource = "http"\nname = "web"\n' + one + other
    done = run(modules, "b.wasm=pub:x:kept", "a.wasm=sub:x", "a.wasm=pub:x:from a", "a.wasm=receive:x", grants=grants)
    assert done.code == 0, done.err
    assert "a.wasm receive:x: from a" in done.out
    (kept,) = (modules / "messages/shop/x").iterdir()
    assert kept.read_bytes() == b"kept"


def test_a_slightfile_that_names_another_module_is_a_mistake(modules: Path) -> None:
    done = run(modules, grants=ALLOWED.replace('["b.wasm"]', '["c.wasm"]'))
    error = (
        "slight-py: error: slightfile.toml:7: c.wasm is none of the modules that are run: a.wasm, b.wasm; correct it\n"
    )
    assert done == (2, "", error)


# Several modules.


def test_the_exit_code_is_the_first_one_that_is_not_zero_and_nobody_ends_for_another(modules: Path) -> None:
    words = ["b.wasm=sub:go", "b.wasm=receive:go", "b.wasm=exit:3"]
    words += ["a.wasm=read", "a.wasm=pub:go:", "a.wasm=read", "a.wasm=read"]
    with running("run", A, B, "--", *words, cwd=modules) as process:
        go_on(process, "b.wasm sub:go: done")
        process.wait_for("^slight-py: b.wasm: it ended with exit code 3; the others go on$")
        assert process.process.poll() is None
        go_on(process, f"a.wasm read: {ord('x')}")
        assert process.wait() == 3
        assert process.out.count(f"a.wasm read: {ord('x')}") == 2
    both = run(modules, "a.wasm=exit:7", "b.wasm=exit:5")
    assert both.code == 7
    trapped = run(modules, "b.wasm=trap")
    assert trapped.code == 1
    assert any(line.startswith("slight-py: b.wasm: the guest trapped: ") for line in trapped.errors)


def test_the_first_module_has_standard_input(modules: Path) -> None:
    done = run(modules, "read", stdin="x")
    assert sorted(done.out.splitlines()) == [f"a.wasm read: {ord('x')}", "b.wasm read: -1"]


def test_two_modules_of_one_name_are_refused(modules: Path) -> None:
    (modules / "other").mkdir()
    shutil.copyfile(modules / A, modules / "other" / A)
    done = slight_py("run", A, f"other/{A}", cwd=modules)
    error = "slight-py: error: two modules are called a.wasm, and names tell them apart; copy one to another name\n"
    assert done == (2, "", error)


def test_more_modules_than_there_is_room_for_are_refused(modules: Path) -> None:
    done = slight_py("run", A, B, "--max-concurrent", "5000", cwd=modules)
    assert (done.code, done.out) == (2, "")
    assert "there are 2 modules, each with so many" in done.err


def two_servers(modules: Path, stack: ExitStack, *options: str) -> tuple[Server, Server]:
    """Both modules, each with a server; one of them as it can be asked, with the other one's port."""
    ports = free_port(), free_port()
    words = [f"{name}=serve:127.0.0.1:{port}" for name, port in zip((A, B), ports, strict=True)]
    process = stack.enter_context(running("run", A, B, *options, "--", *words, cwd=modules))
    for port in ports:
        process.wait_for(rf"serving at 127\.0\.0\.1:{port}")
    process.port = ports[0]
    other = Server(process.process, process._out, process._err)
    other.port = ports[1]
    return process, other


@pytest.mark.parametrize("options", [(), ("--workers", "2")])
def test_each_module_answers_at_its_own_server_and_a_signal_ends_both(modules: Path, options: tuple[str, ...]) -> None:
    (modules / "slightfile.toml").write_text(ALLOWED)
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        a, b = two_servers(modules, stack, "-c", "slightfile.toml", *options)
        waiting = pool.submit(b.get, "/receive/orders.new")
        b.wait_for("^subscribed$")
        assert a.get("/receive/orders.new").body == b"insufficient-permissions"
        assert a.get("/pub/receipts/forged").body == b"insufficient-permissions"
        assert a.get("/pub/orders.new/one").body == b"published"
        assert waiting.result().body == b"one"
        assert b.get("/pub/orders.new/forged").body == b"insufficient-permissions"
        assert b.get("/trap").status == 500
        b.wait_for(r"^slight-py: b\.wasm: GET /trap handle_trap: ")
        assert len(a.workers) == (4 if options else 0)
        assert a.stop() == 0


@pytest.mark.parametrize(("form", "line"), [("plain", r"^b\.wasm 127\.0\.0\.1 GET /pub/x/y 200 "), ("json", r"^{.*}$")])
def test_a_line_of_the_access_log_names_the_module(form: str, line: str, modules: Path) -> None:
    with ExitStack() as stack:
        _, b = two_servers(modules, stack, "--access-log", form)
        b.get("/pub/x/y")
        found = b.wait_for(line)[0]
        if form == "json":
            record = json.loads(found)
            assert (record["module"], record["path"], record["status"]) == (B, "/pub/x/y", 200)


def test_a_signal_without_a_server_ends_all(modules: Path) -> None:
    words = [f"{name}={act}" for name in (A, B) for act in ("sub:x", "receive:x", "receive:x", "receive:x")]
    with running("run", A, B, "--", *words, cwd=modules) as process:
        wait_until(lambda: process.out.count("sub:x: done") == 2, "both subscriptions")
        assert process.stop(signal.SIGTERM) == 143


def test_a_program_that_fails_leaves_the_servers_of_others_alone(modules: Path) -> None:
    port = free_port()
    words = [f"a.wasm=serve:127.0.0.1:{port}", "b.wasm=exit:3"]
    with running("run", A, B, "--", *words, cwd=modules) as server:
        server.wait_for(rf"^slight-py: a\.wasm: serving at 127\.0\.0\.1:{port}$")
        server.wait_for("^slight-py: b.wasm: it ended with exit code 3; the others go on$")
        server.port = port
        assert server.get("/pub/x/y").body == b"published"
        assert server.stop() == 3


def test_a_port_that_another_module_has_is_a_mistake(modules: Path) -> None:
    done = run(modules, f"serve:127.0.0.1:{free_port()}")
    assert done.code == 2
    assert "b.wasm: " in done.err


# Several workers.


def test_what_is_published_in_one_worker_is_received_in_another(modules: Path) -> None:
    port = free_port()
    with running("run", A, "--workers", "2", "--", f"serve:127.0.0.1:{port}", cwd=modules) as server:
        server.wait_for("with 2 workers")
        server.port = port
        received = dict.fromkeys(server.workers, 0)
        for number in range(40):
            with closing(server.connect()) as receiver, closing(server.connect()) as publisher:
                of_receiver = connect(server, receiver)
                of_publisher = connect(server, publisher)
                if of_receiver == of_publisher:
                    continue
                with ThreadPoolExecutor(1) as pool:
                    path = f"/receive/topic-{number}"
                    waiting = pool.submit(server.request, "GET", path, connection=receiver)
                    wait_until(lambda: server.err.count("subscribed") > sum(received.values()), "a subscription")
                    answer = server.request("GET", f"/pub/topic-{number}/hello", connection=publisher)
                    assert answer.body == b"published"
                    assert waiting.result().body == b"hello"
                received[of_receiver] += 1
            if all(received.values()):
                return
        pytest.fail(f"the connections never reached both workers: {received}")


def connect(server: Server, connection: object) -> int:
    """Connects; returns the worker that answers."""
    before = {pid: connections(pid, server.port) for pid in server.workers}
    connection.connect()

    def grown() -> list[int]:
        return [pid for pid in before if connections(pid, server.port) > before[pid]]

    wait_until(lambda: bool(grown()), "a worker that accepts")
    return grown()[0]


def test_a_handler_that_waits_for_a_message_ends_with_its_request(modules: Path) -> None:
    port = free_port()
    with running("run", A, "--request-timeout", "1", "--", f"serve:127.0.0.1:{port}", cwd=modules) as server:
        server.wait_for("serving at")
        server.port = port
        assert server.get("/receive/x").status == 504
        assert server.get("/pub/x/y").body == b"published"
        assert server.stop() == 0


def test_what_a_worker_had_subscribed_to_ends_with_it(modules: Path) -> None:
    """A queue that nobody reads any more would fill up, and hold up whoever publishes."""
    port = free_port()
    with running("run", A, "--workers", "2", "--", f"serve:127.0.0.1:{port}", cwd=modules) as server:
        server.wait_for("with 2 workers")
        server.port = port
        with ThreadPoolExecutor(1) as pool, closing(server.connect()) as receiver:
            worker = connect(server, receiver)
            waiting = pool.submit(server.request, "GET", "/receive/x", connection=receiver)
            server.wait_for("^subscribed$")
            os.kill(worker, signal.SIGKILL)
            with pytest.raises((ConnectionError, HTTPException)):
                waiting.result(SECONDS)
        wait_until(lambda: worker not in server.workers and len(server.workers) == 2, "another worker")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(server.get, "/receive/x")
            wait_until(lambda: server.err.count("subscribed") == 2, "a subscription")
            assert server.get("/pub/x/again").body == b"published"
            assert waiting.result().body == b"again"
        assert server.stop() == 0
