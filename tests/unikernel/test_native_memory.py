"""Native machines whose guests touch more memory than the machine has: the guest is ended, and the machine goes on.

QEMU emulates the processor.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Event

import pytest

from tests import wat
from tests.command import EMULATED, Server, running, scratch, slight_py, wait_until
from tests.servers import free_port
from unikernel.native import BUILD_SECONDS

PAGES = 4000
"""Of 64 KiB, which the guest declares: 250 MiB."""

LITTLE, ENOUGH = "32M", "384M"
"""Memory of the machine."""

REASON = "the machine has no memory left for the guest; give it more with --memory"

TOUCH = wat.times(PAGES * 16 - 1, "(i32.store8 offset=4096 (i32.mul (local.get $n) (i32.const 4096)) (i32.const 1))")
"""Instructions of a guest that write a byte to each page of its memory but the first, in which what it says is."""

FILL = f"(memory.fill (i32.const 4096) (i32.const 1) (i32.const {PAGES * wat.PAGE - 4096}))"
"""The same, by a function of the host."""

SAY = "(drop (call $write (i32.const 1) (i32.const 1000) (i32.const 1) (i32.const 1008)))"
"""Instructions that print a line."""

IMPORTS = """
(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
(import "http-server" "router::new" (func $router (param i32)))
(import "http-server" "router::get" (func $get (param i32 i32 i32 i32 i32 i32)))
(import "http-server" "server::serve" (func $serve (param i32 i32 i32 i32)))
"""

ADDRESS = "127.0.0.1:3000"

ROUTES = ("hello", "touch", "fill")


def route(number: int, name: str) -> str:
    """Data and instructions for a route to the handler of that name, in the router at 2004. It takes 32 bytes."""
    at = 1100 + 32 * number
    path, handler = f"/{name}", f"handle-{name}"
    texts = f"(i32.const {at}) (i32.const {len(path)}) (i32.const {at + 8}) (i32.const {len(handler)})"
    return f"(call $get (i32.load (i32.const 2004)) {texts} (i32.const 2000))"


def texts() -> str:
    routes = (
        wat.data(1100 + 32 * number, f"/{name}".ljust(8) + f"handle-{name}") for number, name in enumerate(ROUTES)
    )
    said = wat.data(1000, b"\x20\x04\0\0\x05\0\0\0"), wat.data(1056, "said\n")
    return "\n".join([*routes, *said, wat.data(1080, ADDRESS)])


@cache
def server() -> Path:
    """A module that answers `/hello`, and touches all of its memory for `/touch` and `/fill`."""
    adds = " ".join(route(number, name) for number, name in enumerate(ROUTES))
    begin = f"(call $router (i32.const 2000)) {adds}"
    serve = f"(call $serve (i32.const 1080) (i32.const {len(ADDRESS)}) (i32.load (i32.const 2004)) (i32.const 2032))"
    main = f'(func (export "main") (param i32 i32) (result i32) {begin} {serve} (i32.load8_u (i32.const 2032)))'
    touching = [
        wat.handler(f"{work} {SAY} (i32.const 0)", f"handle-{name}")
        for name, work in (("touch", TOUCH), ("fill", FILL))
    ]
    memory = f'(memory (export "memory") {PAGES})'
    path = scratch() / "touching.wasm"
    path.write_bytes(wat.module(texts(), main, *touching, imports=IMPORTS, memory=memory))
    return path


def image(app: Path, *granted: str | Path) -> Path:
    path = scratch() / f"{app.stem}.img"
    done = slight_py("image", "build", app, *granted, "--native", "-o", path, seconds=BUILD_SECONDS)
    assert done.code == 0, done.err
    return path


@cache
def served() -> Path:
    grants = scratch() / "touching.toml"
    grants.write_text('specversion = "0.2"\n\n[[capability]]\nresource = "http"\nname = "server"\n')
    return image(server(), "-c", grants)


@contextmanager
def serving(memory: str = LITTLE) -> Iterator[Server]:
    port = free_port()
    words = ("--accel", "tcg", "--memory", memory, "-p", f"{port}:3000")
    with running("image", "run", *words, served()) as machine:
        machine.port = port
        machine.wait_for("^slight-py: serving at ")
        yield machine


@pytest.mark.parametrize("name", ["touch", "fill"])
def test_a_request_that_touches_more_than_there_is_fails_alone(name: str) -> None:
    with serving() as machine:
        assert machine.get("/hello")[:2] == (200, b"hello")
        for _ in range(3):
            assert machine.get(f"/{name}")[0] == 500
            assert machine.get("/hello")[:2] == (200, b"hello")
        assert machine.err.count(REASON) == 3
        # What it does when its memory isn't to be relied on is not heard.
        assert "said" not in machine.out


@pytest.mark.parametrize("name", ["touch", "fill"])
def test_the_same_request_is_answered_where_there_is_enough(name: str) -> None:
    with serving(ENOUGH) as machine:
        assert machine.get(f"/{name}")[:2] == (200, b"hello")
        wait_until(lambda: machine.out == "said\n", "the guest's line")


def test_others_are_answered_while_requests_touch_more_than_there_is() -> None:
    enough = Event()

    def touch(path: str) -> list[int]:
        statuses = []
        while not enough.is_set():
            statuses.append(machine.get(path).status)
        return statuses

    with serving() as machine, ThreadPoolExecutor(4) as pool:
        touching = [pool.submit(touch, path) for path in ("/touch", "/fill") * 2]
        try:
            answers = [machine.get("/hello")[:2] for _ in range(20)]
        finally:
            enough.set()
        assert answers == [(200, b"hello")] * 20
        statuses = [status for each in touching for status in each.result()]
        assert set(statuses) == {500}
        assert machine.err.count(REASON) == len(statuses)


@pytest.mark.parametrize("work", [TOUCH, FILL], ids=["touch", "fill"])
def test_a_program_that_touches_more_than_there_is_traps(work: str) -> None:
    app = scratch() / "program.wasm"
    start = f'(func (export "_start") (local $n i32) {work} {SAY})'
    write = IMPORTS.strip().splitlines()[0]
    app.write_bytes(wat.binary(f'{write} (memory (export "memory") {PAGES}) {texts()} {start}'))
    words = ("--accel", "tcg", "--memory", LITTLE)
    done = slight_py("image", "run", *words, image(app, "-l"), seconds=EMULATED)
    assert done == (1, "", f"slight-py: program.wasm: the guest trapped: {REASON}\n")
