"""`slight-py image run` of native images under QEMU's emulation: a module sees what it sees under `slight-py run`."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import wasmtime

from slight_py import ahead
from tests.command import COMMAND, Done, Server, build_guest, guest, running, scratch, slight_py
from tests.guests import example, slightfile
from tests.redis_server import RedisServer
from tests.servers import free_port
from tests.unikernel.test_demand_machine import READY
from unikernel import build, elf, flavours, image, native
from unikernel.flavours.native import payload
from unikernel.flavours.native.payload import Payload
from unikernel.image import Image
from unikernel.manifest import app_json

SECONDS = 90.0
"""How long anything here may take, on a machine that has more to do."""


@cache
def built(app: Path, grants: Path | None = None) -> Image:
    path = scratch() / f"native-{app.stem}-{grants.stem if grants else 'embedded'}.img"
    build.build(app, grants, path, flavour=flavours.named("native"))
    return image.read(path)


@cache
def probe() -> Path:
    build_guest("probe")
    return guest("probe")


@cache
def demo() -> Image:
    return built(example("http-server-demo-c"), slightfile("http-server-demo-c"))


def run(found: Image, *words: str | Path, stdin: str = "", env: dict[str, str] | None = None) -> Done:
    return slight_py("image", "run", found.path, *words, stdin=stdin, env=env, seconds=SECONDS)


def as_a_process(app: Path, *words: str | Path, stdin: str = "") -> Done:
    """How the same ends under `slight-py run`, which calls the module by its path and not by its name."""
    done = slight_py("run", app, *words, stdin=stdin)
    return done._replace(err=done.err.replace(str(app), app.name))


# Programs.


@pytest.mark.parametrize(
    ("words", "stdin"),
    [
        (("--", "arguments", "one two", "\N{SNOWMAN}", ""), ""),
        (("--env", "GREETING=good day", "--env", "EMPTY=", "--", "environment"), ""),
        (("--", "input"), "line one\nline two without an end"),
        (("--", "exit", "7"), ""),
        (("--", "read", "/nowhere"), ""),
        (("--", "trap"), ""),
    ],
)
def test_a_program_sees_and_says_what_it_does_as_a_process(words: tuple[str, ...], stdin: str) -> None:
    assert run(built(probe()), *words, stdin=stdin) == as_a_process(probe(), *words, stdin=stdin)


@pytest.mark.parametrize("name", ["keyvalue-demo-c", "kv-2022-c", "bare-c"])
def test_an_example_says_what_it_does_as_a_process(name: str) -> None:
    assert run(built(example(name))) == as_a_process(example(name))


def test_a_large_input_comes_through_whole() -> None:
    given = os.urandom(300_000)
    done = subprocess.run(
        [*COMMAND, "image", "run", built(probe()).path, "--", "input"],
        input=given,
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(given).digest()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_program_with_its_code(number: signal.Signals) -> None:
    with running("image", "run", built(probe()).path, "--", "sleep") as process:
        process.wait_for("^sleep$")
        process.process.send_signal(number)
        assert process.wait(SECONDS) == 128 + number


# Calls, with --verbose.


def calls(err: str) -> list[str]:
    """The calls that are shown, without their times."""
    return re.findall(r"^slight-py: (\S+::.* = .*)  \d+\.\d ms$", err, re.MULTILINE)


@pytest.mark.parametrize("name", ["keyvalue-demo-c", "kv-2022-c"])
def test_with_verbose_the_calls_of_capabilities_are_shown_as_of_a_process(name: str) -> None:
    app = example(name)
    shown = calls(slight_py("run", app, "--verbose").err)
    assert len(shown) > 5
    assert calls(run(built(app), "--verbose").err) == shown
    assert calls(run(built(app)).err) == []


def test_with_verbose_the_calls_of_a_server_are_shown_as_of_a_process() -> None:
    port = free_port()
    words = ("--env", f"ADDRESS=127.0.0.1:{port}", "--verbose")
    app, grants = example("http-server-demo-c"), slightfile("http-server-demo-c")
    shown = []
    for command in (("run", app, "-c", grants), ("image", "run", demo().path)):
        with running(*command, *words) as server:
            server.port = port
            server.wait_for("serving at")
            assert server.request("PUT", "/set", b"a value")[0] == 204
            assert server.get("/get")[1] == b"a value"
            server.process.send_signal(signal.SIGTERM)
            assert server.wait(SECONDS) == 0
            shown.append(calls(server.err))
            assert "a value" not in server.err
    assert any(call.startswith("server::serve(") for call in shown[0])
    assert shown[1] == shown[0]


# Files.


def test_a_file_that_is_mapped_can_be_read_and_not_written(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_text("a,b\n" * 3000)
    done = run(built(probe()), "--map", file, "--", "read", "/files/data.csv")
    assert (done.code, done.out, done.err) == (0, file.read_text(), "")
    done = run(built(probe()), "--map", f"{file}:/etc/app/table", "--", "write", "/etc/app/table")
    assert done.code == 9
    assert file.read_text() == "a,b\n" * 3000


# Servers.


def test_a_server_is_reached_and_ends_in_order() -> None:
    port = free_port()
    with running("image", "run", demo().path, "--env", f"ADDRESS=127.0.0.1:{port}", "--access-log", "plain") as server:
        server.port = port
        server.wait_for(rf"^slight-py: serving at 127\.0\.0\.1:{port}$")
        assert server.get("/hello")[:2] == (200, b"hello")
        assert server.get("/nowhere")[0] == 404
        server.wait_for(r" GET /hello 200 5 \d+\.\d{6} handle_hello$")
        server.process.send_signal(signal.SIGTERM)
        assert server.wait(SECONDS) == 0


def test_a_port_is_forwarded_from_where_it_is_asked_for() -> None:
    port = free_port()
    with running("image", "run", demo().path, "-p", f"{port}:3000") as server:
        server.port = port
        server.wait_for(rf"serving at 127\.0\.0\.1:{port}")
        assert server.get("/hello")[:2] == (200, b"hello")


@contextmanager
def on_demand() -> Iterator[Server]:
    """The demo, with a machine for who connects. It is emulated: the KVM of a machine that is emulated itself may take
    milliseconds for a packet."""
    port, words = free_port(), ("--on-demand", "--idle", "1", "--accel", "tcg")
    with running("image", "run", demo().path, *words, "-p", f"{port}:3000") as server:
        server.wait_for(READY)
        server.port = port
        yield server


def test_a_machine_is_booted_for_who_connects() -> None:
    with on_demand() as server:
        assert server.get("/hello")[:2] == (200, b"hello")
        server.wait_for("nobody was connected for 1 s")
        assert server.get("/hello")[:2] == (200, b"hello")
        server.process.send_signal(signal.SIGTERM)
        assert server.wait(SECONDS) == 0


def test_many_who_connect_during_a_boot_are_all_answered_by_one_machine() -> None:
    with on_demand() as server, ThreadPoolExecutor(200) as pool:
        begin = time.monotonic()
        answers = list(pool.map(lambda _: server.get("/hello")[:2], range(200)))
        assert answers == [(200, b"hello")] * 200
        assert server.err.count("the machine is up") == 1
        assert time.monotonic() - begin < 30


def test_two_at_once_have_a_machine_each() -> None:
    with on_demand() as one, on_demand() as other, ThreadPoolExecutor(2) as pool:
        puts = list(pool.map(lambda server: server.request("PUT", "/set", str(server.port).encode())[0], (one, other)))
        assert puts == [204, 204]
        assert [server.get("/get")[1] for server in (one, other)] == [str(one.port).encode(), str(other.port).encode()]


def test_a_server_goes_on_from_a_snapshot_as_often_as_it_is_asked_to(tmp_path: Path) -> None:
    port, path = free_port(), tmp_path / "snapshot"
    done = run(demo(), "--env", f"ADDRESS=127.0.0.1:{port}", "--snapshot", path)
    assert (done.code, done.out) == (0, "guest starting server\nguest moving on\n")
    for _ in range(2):
        with running("image", "run", demo().path, "--restore", path) as server:
            server.port = port
            server.wait_for(rf"serving at 127\.0\.0\.1:{port}")
            assert server.get("/hello")[:2] == (200, b"hello")
            assert server.request("PUT", "/set", b"kept")[0] == 204
            assert server.get("/get")[1] == b"kept"
            server.process.send_signal(signal.SIGTERM)
            assert server.wait(SECONDS) == 0


# What an image is given.


def test_keys_and_values_are_in_the_redis_whose_address_is_handed_over(shared_redis: RedisServer) -> None:
    found = built(example("keyvalue-demo-c"), slightfile("keyvalue-demo-c", "redis"))
    address = shared_redis.address.replace("127.0.0.1", "host.localhost")
    done = run(found, "--net", "--pass", "REDIS_ADDRESS", env={"REDIS_ADDRESS": address})
    assert done == as_a_process(example("keyvalue-demo-c"))


def test_without_the_value_or_the_network_nothing_is_booted() -> None:
    done = run(built(example("keyvalue-demo-c"), slightfile("keyvalue-demo-c", "redis")))
    assert done.code == 2
    assert "let it reach the host and the network with --net" in done.err
    assert "--pass REDIS_ADDRESS" in done.err


def test_a_redis_that_is_away_is_named() -> None:
    found = built(example("keyvalue-demo-c"), slightfile("keyvalue-demo-c", "redis"))
    address = f"redis://host.localhost:{free_port()}"
    done = run(found, "--net", "--pass", "REDIS_ADDRESS", env={"REDIS_ADDRESS": address})
    assert done.code == 1
    assert "Redis" in done.err
    assert len(done.err.splitlines()) < 6


# Machines that fail.


def test_too_little_memory_is_named_with_what_to_do() -> None:
    done = run(demo(), "--memory", "1M")
    assert done.code == 2
    assert "error: --memory 1M: the kernel alone reaches up to" in done.err
    least = max(each.physical + each.memory for each in elf.headers(demo().path.read_bytes()[:4096], ""))
    done = run(demo(), "--memory", str(least + (64 << 10) & -4096))
    assert done.code == 1
    assert "the machine ran out of memory; give it more than --memory" in done.err


def _with_module(wat: str, path: Path) -> Image:
    """An image of a module that no build has checked."""
    found = built(probe())
    kernel = native.kernel()
    module = ahead.compile_ahead(bytes(wasmtime.wat2wasm(wat)))
    packed = payload.pack(Payload(app_json(found.manifest).encode(), module))
    prepared = payload.kernel_for(kernel.read_bytes(), len(packed), str(kernel))
    image.write(path, prepared, packed, image.complete(found.manifest, prepared, packed, ()))
    return image.read(path)


def test_an_import_that_is_missing_is_named(tmp_path: Path) -> None:
    found = _with_module('(module (import "moon" "rise" (func)) (func (export "_start")))', tmp_path / "app.img")
    done = run(found)
    assert done.code == 2
    assert "moon" in done.err
    assert "rise" in done.err
    assert len(done.err.splitlines()) == 1


def test_a_module_of_another_version_is_named(tmp_path: Path) -> None:
    found = built(probe())
    content = bytearray(found.path.read_bytes())
    at = content.index(b"\x0250\x18" + ahead.MACHINE, found.root.offset)  # wasmtime's version, with its length
    content[at + 1] = ord("4")
    changed = tmp_path / "app.img"
    changed.write_bytes(content)
    done = slight_py("image", "run", changed, seconds=SECONDS)
    assert done.code in (1, 2)
    assert "version" in done.err


def test_a_program_that_computes_for_ever_answers_pings_and_signals(tmp_path: Path) -> None:
    found = _with_module(
        '(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))', tmp_path / "a.img"
    )
    with running("--verbose", "image", "run", found.path) as process:
        process.wait_for("entered")
        time.sleep(1)
        process.process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 143
