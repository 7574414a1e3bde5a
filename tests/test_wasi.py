"""WASI: what guests see of the system, how they wait, and how they end."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from struct import pack, unpack_from
from typing import Any

import pytest
import wasmtime

from bindgen.runtime import GuestFault
from capabilities.http.dispatch import HandlerFailure
from capabilities.http.settings import HttpSettings
from slight_py import wasi
from slight_py.engine import WASI, Exit, Instance, Program, describe
from slight_py.errors import UsageError
from slight_py.linker import check
from slight_py.slightfile import embedded
from slight_py.wasi import Directory, WasiSettings
from tests import command, wat
from tests.wat import call, data, handler

EBADF, EINVAL, ENOTSUP, EPERM, EROFS, ENOTCAPABLE = 8, 28, 58, 63, 69, 76
"""Error numbers of WASI, which are not the system's."""

FORWARDED = {
    "poll_oneoff": "iiii",
    "clock_time_get": "iIi",
    "args_sizes_get": "ii",
    "args_get": "ii",
    "environ_sizes_get": "ii",
    "environ_get": "ii",
    "fd_prestat_get": "ii",
    "fd_prestat_dir_name": "iii",
    "fd_read": "iiii",
    "fd_write": "iiii",
    "path_open": "iiiiiIIii",
    "path_create_directory": "iii",
    "path_unlink_file": "iii",
    "path_symlink": "iiiii",
}
"""What the guest of these tests hands on to WASI, with the letters of the parameters."""


def forwarding() -> bytes:
    types = {"i": "i32", "I": "i64"}
    imports, exports = [], []
    for name, letters in FORWARDED.items():
        params = f"(param {' '.join(types[each] for each in letters)})"
        given = " ".join(f"(local.get {number})" for number in range(len(letters)))
        imports.append(f'(import "{WASI}" "{name}" (func ${name} {params} (result i32)))')
        exports.append(f'(func (export "{name}") {params} (result i32) (call ${name} {given}))')
    return wat.binary("\n".join((*imports, wat.MEMORY, *exports)))


class Guest:
    """An instance whose exports are the functions of WASI, with memory that the test reads and writes."""

    def __init__(self, program: Program, instance: Instance) -> None:
        self._program = program
        self._instance = instance

    @property
    def memory(self) -> memoryview:
        return self._instance.memory

    def put(self, at: int, content: bytes) -> None:
        self.memory[at : at + len(content)] = content

    def number(self, at: int) -> int:
        return int(unpack_from("<I", self.memory, at)[0])

    def text(self, at: int, length: int) -> str:
        return bytes(self.memory[at : at + length]).decode()

    async def __call__(self, name: str, *args: int) -> Any:
        return await self._instance.call(self._program.info.functions[name], args)

    def close(self) -> None:
        self._instance.close()


async def guest(settings: WasiSettings | None = None) -> Guest:
    program = wat.program(forwarding())
    return Guest(program, await program.instantiate(wasi.Context(settings or WasiSettings())))


# Waiting.

CLOCK, FD_READ, FD_WRITE = 0, 1, 2
REALTIME, MONOTONIC, CPU_TIME = 0, 1, 2
ABSOLUTE = 1
SUBSCRIPTIONS, EVENTS, COUNT = 1024, 4096, 64


def clock(user_data: int, which: int, nanoseconds: int, flags: int = 0) -> bytes:
    return pack("<QB7xI4xQ8xH6x", user_data, CLOCK, which, nanoseconds, flags)


def file(user_data: int, kind: int, descriptor: int) -> bytes:
    return pack("<QB7xI28x", user_data, kind, descriptor)


MS = 1_000_000
"""Nanoseconds."""


async def poll(guest: Guest, *subscriptions: bytes) -> tuple[list[tuple[int, int, int]], float]:
    """The events (user data, error and kind of each), and how many seconds they took to come."""
    guest.put(SUBSCRIPTIONS, b"".join(subscriptions))
    began = time.monotonic()
    assert await guest("poll_oneoff", SUBSCRIPTIONS, EVENTS, len(subscriptions), COUNT) == 0
    took = time.monotonic() - began
    return [unpack_from("<QHB", guest.memory, EVENTS + 32 * n) for n in range(guest.number(COUNT))], took


def polled(*subscriptions: bytes) -> tuple[list[tuple[int, int, int]], float]:
    async def main() -> tuple[list[tuple[int, int, int]], float]:
        instance = await guest()
        try:
            return await poll(instance, *subscriptions)
        finally:
            instance.close()

    return wat.run(main())


@pytest.mark.parametrize("which", [REALTIME, MONOTONIC])
def test_a_sleep_takes_as_long_as_it_should(which: int) -> None:
    events, took = polled(clock(2**64 - 1, which, 40 * MS))
    assert events == [(2**64 - 1, 0, CLOCK)]
    assert 0.03 < took < 0.5


def test_a_sleep_until_a_point_of_the_wall_clock_ends_then() -> None:
    events, took = polled(clock(7, REALTIME, time.time_ns() + 100 * MS, ABSOLUTE))
    assert events == [(7, 0, CLOCK)]
    assert 0.02 < took < 0.5


def test_a_sleep_until_a_point_of_the_guests_own_clock_ends_then() -> None:
    async def main() -> None:
        instance = await guest()
        await asyncio.sleep(0.05)
        assert await instance("clock_time_get", MONOTONIC, 0, 128) == 0
        (now,) = unpack_from("<Q", instance.memory, 128)
        events, took = await poll(instance, clock(7, MONOTONIC, now + 40 * MS, ABSOLUTE))
        assert events == [(7, 0, CLOCK)]
        assert 0.03 < took < 0.5
        assert await instance("clock_time_get", MONOTONIC, 0, 128) == 0
        assert unpack_from("<Q", instance.memory, 128)[0] - now > 35 * MS
        instance.close()

    wat.run(main())


@pytest.mark.parametrize(
    "subscription", [clock(1, REALTIME, 1, ABSOLUTE), clock(1, MONOTONIC, 1, ABSOLUTE), clock(1, MONOTONIC, 0)]
)
def test_a_point_in_the_past_is_reached_at_once(subscription: bytes) -> None:
    events, took = polled(subscription)
    assert events == [(1, 0, CLOCK)]
    assert took < 0.25


def test_the_first_of_several_ends_the_sleep() -> None:
    events, took = polled(
        clock(1, MONOTONIC, 60_000 * MS), clock(2, REALTIME, 20 * MS), clock(3, MONOTONIC, 50_000 * MS)
    )
    assert events == [(2, 0, CLOCK)]
    assert took < 0.5


def test_all_that_are_due_are_told() -> None:
    events, _ = polled(clock(1, MONOTONIC, 0), clock(2, MONOTONIC, 60_000 * MS), clock(3, REALTIME, 0))
    assert events == [(1, 0, CLOCK), (3, 0, CLOCK)]


def test_a_file_is_ready_at_once() -> None:
    events, took = polled(clock(1, MONOTONIC, 60_000 * MS), file(2, FD_READ, 0), file(3, FD_WRITE, 1))
    assert events == [(2, 0, FD_READ), (3, 0, FD_WRITE)]
    assert took < 0.25


def test_a_clock_that_cannot_be_waited_for_is_an_error_of_its_event() -> None:
    assert polled(clock(5, CPU_TIME, 60_000 * MS))[0] == [(5, ENOTSUP, CLOCK)]
    assert polled(clock(5, 2**32 - 1, 60_000 * MS))[0] == [(5, ENOTSUP, CLOCK)]


def test_many_events_are_told_in_the_order_of_their_subscriptions() -> None:
    assert polled(*(clock(n, MONOTONIC, 0) for n in range(60)))[0] == [(n, 0, CLOCK) for n in range(60)]


@pytest.mark.parametrize("count", [0, 4097, 2**32 - 1])
def test_no_subscription_and_too_many_are_an_error(count: int) -> None:
    async def main() -> None:
        instance = await guest()
        assert await instance("poll_oneoff", SUBSCRIPTIONS, EVENTS, count, COUNT) == EINVAL
        instance.close()

    wat.run(main())


@pytest.mark.parametrize("kind", [3, 255])
def test_a_kind_of_event_that_does_not_exist_ends_the_guest(kind: int) -> None:
    with pytest.raises(GuestFault, match=f"^{WASI}: poll_oneoff: subscriptions: {kind} is not a kind of event$"):
        polled(file(1, kind, 0))


WRONG_POINTERS = {
    "subscriptions": ((0xFFF0, EVENTS, 1, COUNT), "subscriptions: 48 bytes at 0xfff0"),
    "subscriptions-that-wrap": ((2**32 - 16, EVENTS, 1, COUNT), "subscriptions: 48 bytes at 0xfffffff0"),
    "many-subscriptions": ((0, EVENTS, 4096, COUNT), "subscriptions: 196608 bytes at 0x0"),
    "events": ((SUBSCRIPTIONS, 0xFFF0, 1, COUNT), "events: 32 bytes at 0xfff0"),
    "count": ((SUBSCRIPTIONS, EVENTS, 1, 0xFFFD), "events: 4 bytes at 0xfffd"),
}


@pytest.mark.parametrize(("args", "what"), WRONG_POINTERS.values(), ids=WRONG_POINTERS)
def test_a_pointer_past_the_memory_ends_the_guest(args: Sequence[int], what: str) -> None:
    async def main() -> None:
        instance = await guest()
        try:
            await instance("poll_oneoff", *args)
        finally:
            instance.close()

    with pytest.raises(GuestFault) as fault:
        wat.run(main())
    assert str(fault.value) == f"{WASI}: poll_oneoff: {what} reach past the end of memory, 0x10000"


POLL = f'(import "{WASI}" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))'


def sleeping(nanoseconds: int) -> bytes:
    """A module whose handler sleeps before it answers."""
    body = f"(drop {call('$poll', 1024, 2048, 1, 64)}) (i32.const 0)"
    return wat.module(data(1024, clock(0, MONOTONIC, nanoseconds)), handler(body), imports=POLL)


def test_handlers_that_sleep_hold_up_nobody() -> None:
    guests = wat.handlers(sleeping(300 * MS))

    async def main() -> float:
        began = time.perf_counter()
        async with wat.serving(guests, HttpSettings()) as port:
            asleep = [asyncio.create_task(wat.get(port, "/handle-bad")) for _ in range(20)]
            await asyncio.sleep(0.05)
            asked = time.perf_counter()
            assert await wat.get(port, "/handle-hello") == (200, b"hello")
            assert time.perf_counter() - asked < 0.2
            assert await asyncio.gather(*asleep) == [(200, b"hello")] * 20
        return time.perf_counter() - began

    assert 0.25 < wat.run(main()) < 2


@pytest.mark.parametrize("nanoseconds", [60_000 * MS, 2**64 - 1])
def test_a_handler_that_sleeps_too_long_is_ended(nanoseconds: int) -> None:
    guests = wat.handlers(sleeping(nanoseconds))

    async def main() -> int:
        async with wat.serving(guests, HttpSettings(request_timeout=0.1)) as port:
            status, _ = await wat.get(port, "/handle-bad")
            assert await wat.get(port, "/handle-hello") == (200, b"hello")
            return status

    assert wat.run(main()) == 504


# Ends.

EXIT = f'(import "{WASI}" "proc_exit" (func $exit (param i32)))'


@pytest.mark.parametrize("code", [0, 3])
def test_a_handler_that_exits_has_not_answered(code: int) -> None:
    guests = wat.handlers(wat.module(handler(f"{call('$exit', code)} (i32.const 0)"), imports=EXIT))

    async def main() -> None:
        with pytest.raises(HandlerFailure, match=f"^the guest exited with code {code}$"):
            await wat.ask(guests)
        assert (await wat.ask(guests, "handle-hello")).body == b"hello"

    wat.run(main())


def test_an_exit_in_the_start_function_is_an_exit() -> None:
    fields = f"{EXIT} {wat.MEMORY} (func $start {call('$exit', 5)}) (start $start)"

    async def main() -> None:
        with pytest.raises(Exit) as ended:
            await wat.program(wat.binary(fields)).instantiate()
        assert ended.value.code == 5

    wat.run(main())


def written(path: Path, fields: str) -> Path:
    path.write_bytes(wat.binary(fields))
    return path


@pytest.mark.parametrize("code", [0, 3, 125])
def test_an_exit_of_the_program_is_that_of_the_process(code: int, tmp_path: Path) -> None:
    app = written(tmp_path / "app.wasm", f'{EXIT} {wat.MEMORY} (func (export "_start") {call("$exit", code)})')
    silence = f"slight-py: app.wasm ended with code {code} and said nothing\n" if code else ""
    assert command.slight_py("run", app) == (code, "", silence)


def test_an_exit_code_that_is_a_shells_own_is_a_trap(tmp_path: Path) -> None:
    app = written(tmp_path / "app.wasm", f'{EXIT} {wat.MEMORY} (func (export "_start") {call("$exit", 126)})')
    done = command.slight_py("run", app)
    assert done.code == 1
    assert "exit with invalid exit status outside of [0..126)" in done.err


LOOP = f"(drop {call('$write', 1, 0, 1, 8)}) {wat.FOREVER}"

ENDLESS = {
    "start-function": f'(func $start {LOOP}) (start $start) (func (export "_start"))',
    "initialize": f'(func (export "_initialize") {LOOP}) (func (export "_start"))',
    "program": f'(func (export "_start") {LOOP})',
}


@pytest.mark.parametrize("fields", ENDLESS.values(), ids=ENDLESS)
def test_a_program_that_loops_for_ever_ends_with_a_signal(fields: str, tmp_path: Path) -> None:
    write = f'(import "{WASI}" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))'
    hello = data(0, pack("<II", 64, 5)) + data(64, "begun")
    app = written(tmp_path / "app.wasm", f"{write} {wat.MEMORY} {hello} {fields}")
    with command.running("run", app) as running:
        command.wait_until(lambda: running.out == "begun", "the guest")
        began = time.perf_counter()
        assert running.stop(signal.SIGTERM) == 128 + signal.SIGTERM
        assert time.perf_counter() - began < 2


# What a guest sees.


def test_a_guest_sees_its_arguments_and_variables() -> None:
    settings = WasiSettings(("app.wasm", "größe", ""), {"HOME": "/", "LEER": ""})

    async def main() -> None:
        instance = await guest(settings)
        assert await instance("args_sizes_get", 0, 4) == 0
        assert (instance.number(0), instance.number(4)) == (3, 18)
        assert await instance("args_get", 64, 128) == 0
        assert instance.text(128, 18) == "app.wasm\0größe\0\0"
        assert await instance("environ_sizes_get", 0, 4) == 0
        assert (instance.number(0), instance.number(4)) == (2, len("HOME=/\0LEER=\0"))
        assert await instance("environ_get", 64, 128) == 0
        assert instance.text(128, 13) == "HOME=/\0LEER=\0"
        instance.close()

    wat.run(main())


def test_a_guest_sees_nothing_of_the_process_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the house")

    async def main() -> None:
        instance = await guest()
        for name in ("args_sizes_get", "environ_sizes_get"):
            assert await instance(name, 0, 4) == 0
            assert instance.number(0) == 0
        assert await instance("fd_prestat_get", 3, 0) == EBADF
        instance.put(0, pack("<II", 64, 16))
        assert await instance("fd_read", 0, 0, 1, 8) == 0  # standard input is at its end
        assert instance.number(8) == 0
        instance.close()

    wat.run(main())


CREATE = 1
READ, WRITE = 1 << 1, 1 << 6


async def opened(instance: Guest, path: str, flags: int = 0, rights: int = READ) -> int:
    """Opens a path below the first directory; returns WASI's error."""
    encoded = path.encode()
    instance.put(256, encoded)
    return int(await instance("path_open", 3, 1, 256, len(encoded), flags, rights, 0, 0, 128))


def test_a_guest_finds_its_directory_as_the_current_one(tmp_path: Path) -> None:
    async def main() -> None:
        instance = await guest(WasiSettings(directories=(Directory(tmp_path, "."),)))
        assert await instance("fd_prestat_get", 3, 0) == 0
        assert (instance.number(0), instance.number(4)) == (0, 1)
        assert await instance("fd_prestat_dir_name", 3, 64, 1) == 0
        assert instance.text(64, 1) == "."
        assert await instance("fd_prestat_get", 4, 0) == EBADF
        assert await opened(instance, "new", CREATE, WRITE) == 0
        instance.put(0, pack("<II", 64, 5))
        instance.put(64, b"guest")
        assert await instance("fd_write", instance.number(128), 0, 1, 8) == 0
        instance.close()

    wat.run(main())
    assert (tmp_path / "new").read_bytes() == b"guest"


def test_a_guest_changes_nothing_in_a_directory_for_reading_alone(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")

    async def main() -> None:
        instance = await guest(WasiSettings(directories=(Directory(tmp_path, ".", writable=False),)))
        assert await opened(instance, "old") == 0
        refused = (EPERM, EROFS, ENOTCAPABLE)
        assert await opened(instance, "new", CREATE, WRITE) in refused
        assert await opened(instance, "old", 0, WRITE) in refused
        assert await instance("path_create_directory", 3, 256, 3) in refused
        assert await instance("path_unlink_file", 3, 256, 3) in refused
        assert await instance("path_symlink", 256, 3, 3, 257, 2) in refused
        instance.close()

    wat.run(main())
    assert [each.name for each in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_bytes() == b"old"


@pytest.mark.parametrize("path", ["../secret", "/secret", "below/../../secret", "link", "way/secret", "below/../link"])
def test_a_guest_does_not_leave_its_directory(path: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"of the house")
    home = tmp_path / "home"
    (home / "below").mkdir(parents=True)
    (home / "link").symlink_to(tmp_path / "secret")
    (home / "way").symlink_to("..")

    async def main() -> int:
        instance = await guest(WasiSettings(directories=(Directory(home, "."),)))
        try:
            return await opened(instance, path)
        finally:
            instance.close()

    assert wat.run(main()) in (EPERM, ENOTCAPABLE)


OPEN = f'(import "{WASI}" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))'


def test_a_directory_that_is_gone_fails_the_request_and_no_other(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    opens = f"(if {call('$open', 3, 0, 64, 1, 0, '(i64.const 2)', '(i64.const 0)', 0, 128)} (then (unreachable)))"
    wasm = wat.module(data(64, "."), handler(f"{opens} (i32.const 0)"), imports=OPEN)
    guests = wat.handlers(wasm, wasi=WasiSettings(directories=(Directory(home, "."),)))

    async def main() -> list[int]:
        async with wat.serving(guests, HttpSettings()) as port:
            statuses = []
            for change in (home.rmdir, home.mkdir, bool):
                statuses.append((await wat.get(port, "/handle-bad"))[0])
                assert await wat.get(port, "/handle-hello") == (200, b"hello")  # which has no use for it
                change()
            return statuses

    assert wat.run(main()) == [200, 500, 200]


def test_what_wasmtime_would_refuse_is_told_the_user(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere is not a directory"):
        wasi.check(WasiSettings(directories=(Directory(tmp_path / "nowhere", "."),)))
    for settings in (WasiSettings(args=("a\0b",)), WasiSettings(env={"A": "\0"}), WasiSettings(env={"\0": ""})):
        with pytest.raises(UsageError, match="NUL"):
            wasi.check(settings)


# Standard input.

ECHO = f"""
(import "{WASI}" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
(import "{WASI}" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
{wat.MEMORY}
{data(0, pack("<II", 64, 1))}
"""
COPY = f"""
(loop $more
  (if {call("$read", 0, 0, 1, 8)} (then (return)))
  (if (i32.eqz {wat.load(8)}) (then (return)))
  (drop {call("$write", 1, 0, 1, 8)})
  (br $more))
"""
"""Copies standard input to standard output, a byte at a time."""


def test_standard_input_reaches_the_program(tmp_path: Path) -> None:
    app = written(tmp_path / "app.wasm", f'{ECHO} (func (export "_start") {COPY})')
    assert command.slight_py("run", app, stdin="größe\n") == (0, "größe\n", "")


def test_a_program_that_waits_for_its_input_holds_up_no_request(tmp_path: Path) -> None:
    serve = f"""
    (import "http-server" "router::new" (func $router (param i32)))
    (import "http-server" "router::get" (func $get (param i32 i32 i32 i32 i32 i32)))
    (import "http-server" "server::serve" (func $serve (param i32 i32 i32 i32)))
    {ECHO} {wat.REALLOC} {data(512, "/hello", "handle-hello", "127.0.0.1:0")}
    {data(768, wat.response(body=(512, 6)))} {handler("(i32.const 768)", "handle-hello")}
    (func (export "_start")
      {call("$router", 640)}
      {call("$get", wat.load(644), 512, 6, 518, 12, 640)}
      {call("$serve", 530, 11, wat.load(644), 640)}
      (if (i32.load8_u (i32.const 640)) (then (unreachable)))
      {COPY})
    """
    app = written(tmp_path / "app.wasm", serve)
    with command.running("run", app) as server:
        server.port = int(server.wait_for(r"serving at 127\.0\.0\.1:(\d+)")[1])
        for _ in range(3):
            assert server.get("/hello")[:2] == (200, b"/hello")
        assert server.process.stdin is not None
        server.process.stdin.write(b"typed")
        server.process.stdin.flush()
        command.wait_until(lambda: server.out == "typed", "what was typed")
        assert server.get("/hello")[:2] == (200, b"/hello")
        server.process.stdin.close()
        assert server.get("/hello")[:2] == (200, b"/hello")
        assert server.stop() == 0


# What there is of preview 1.


def test_every_function_of_preview_1_is_provided() -> None:
    linker = wasmtime.Linker(wasmtime.Engine())
    linker.define_wasi()
    store = wasmtime.Store(linker.engine)
    for name in wasi.FUNCTIONS:
        assert isinstance(linker.get(store, WASI, name), wasmtime.Func), name


def test_a_function_that_preview_1_has_not_is_named(tmp_path: Path) -> None:
    fields = f'(import "{WASI}" "fd_dup" (func (param i32) (result i32))) {wat.MEMORY}'
    info = describe(wat.engine().compile(wat.binary(fields)))
    with pytest.raises(
        UsageError, match=rf"imports {WASI} \(fd_dup\), which nothing provides; that interface has no such function"
    ):
        check(tmp_path / "app.wasm", info, embedded(), link_all=False)


@pytest.mark.parametrize("form", wat.STORES)
def test_a_start_function_may_use_wasi_with_memory(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wat.use_store(form, monkeypatch)
    sizes = f'(import "{WASI}" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))'
    start = f"(func $start (if {call('$sizes', 0, 4)} (then (unreachable)))) (start $start)"

    async def main() -> None:
        program = wat.program(wat.binary(f"{sizes} {wat.MEMORY} {start}"))
        instance = await program.instantiate(wasi.Context(WasiSettings(("app", "größe"))))
        assert unpack_from("<II", instance.memory) == (2, len("app\0größe\0".encode()))
        instance.close()

    wat.run(main())


@pytest.mark.parametrize("form", wat.STORES)
def test_a_guest_that_exited_is_not_called_again(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wat.use_store(form, monkeypatch)
    fields = f'{EXIT} {wat.MEMORY} (func (export "exit") {call("$exit", 3)}) (func (export "nothing"))'

    async def main() -> None:
        program = wat.program(wat.binary(fields))
        instance = await program.instantiate()
        for name in ("exit", "nothing", "exit"):
            with pytest.raises(Exit, match=r"^the guest exited with code 3$"):
                await instance.call(program.info.functions[name], ())
        instance.close()

    wat.run(main())
