"""What guests do with files and output: it holds up nobody else, it is bounded, and nothing of it is lost."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import resource
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from struct import pack, unpack

import pytest

from capabilities.http.settings import HttpSettings
from slight_py import wasi
from slight_py.engine import WASI, Limits
from slight_py.wasi import Directory, WasiSettings, files, sandbox
from tests import command, wat
from tests.command import SECONDS
from tests.wasi_subjects import Ours, Subject, granted, ours
from tests.wat import call, data, handler

EAGAIN, EMFILE, ENFILE, ENOENT, ENXIO, EPERM, EPIPE, ESPIPE = 6, 33, 41, 44, 60, 63, 64, 70
"""Error numbers of WASI."""

WRITE = f'(import "{WASI}" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))'
OPEN = f'(import "{WASI}" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))'
POLL = f'(import "{WASI}" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))'
EXIT = f'(import "{WASI}" "proc_exit" (func $exit (param i32)))'

VECTOR, LINE, COUNT = 1024, 1040, 1032
"""Where the guests below have what they print."""


def line(content: bytes) -> str:
    return data(VECTOR, pack("<II", LINE, len(content))) + data(LINE, content)


SLEEP = f"(drop {call('$poll', 4096, 4160, 1, 4224)})", data(4096, pack("<QB7xI4xQ8xH6x", 0, 0, 1, 60 * 10**9, 0))
"""Instructions that sleep for a minute, and what they need for it."""


def server(path: Path, body: str, *fields: str, imports: str) -> Path:
    """A module that serves /hello, which answers, and /bad, which runs `body`."""
    path.write_bytes(
        wat.module(
            data(512, "/hello", "handle-hello", "127.0.0.1:0", "/bad", "handle-bad"),
            handler(body),
            f"""(func (export "_start")
              {call("$router", 640)}
              {call("$get", wat.load(644), 512, 6, 518, 12, 640)}
              {call("$get", wat.load(644), 541, 4, 545, 10, 640)}
              {call("$serve", 530, 11, wat.load(644), 640)}
              (if (i32.load8_u (i32.const 640)) (then (unreachable))))""",
            *fields,
            imports=f"""
            (import "http-server" "router::new" (func $router (param i32)))
            (import "http-server" "router::get" (func $get (param i32 i32 i32 i32 i32 i32)))
            (import "http-server" "server::serve" (func $serve (param i32 i32 i32 i32)))
            {imports}""",
        )
    )
    return path


def program(path: Path, body: str, *fields: str, imports: str) -> Path:
    """A module whose `_start` runs `body`."""
    start = f'(func (export "_start") (local $n i32) {body})'
    path.write_bytes(wat.binary("\n".join((imports, wat.MEMORY, *fields, start))))
    return path


# Output that nobody reads.


def serving_at(running: command.Server, err: int | None = None) -> None:
    """Waits until it serves; with `err`, whose standard error is a pipe."""
    if err is None:
        running.port = int(running.wait_for(r"serving at 127\.0\.0\.1:(\d+)")[1])
        return
    told = b""
    while not told.endswith(b"\n"):
        told += os.read(err, 1)
    found = re.search(rb"serving at 127\.0\.0\.1:(\d+)", told)
    assert found, told
    running.port = int(found[1])


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("descriptor", [1, 2])
def test_output_that_nobody_reads_holds_up_those_alone_who_print(descriptor: int, workers: str, tmp_path: Path) -> None:
    forever = f"(loop $more (drop {call('$write', descriptor, VECTOR, 1, COUNT)}) (br $more)) (unreachable)"
    app = server(tmp_path / "app.wasm", forever, line(b"x" * 999 + b"\n"), imports=WRITE)
    reading, writing = os.pipe()
    unread = {"stdout" if descriptor == 1 else "stderr": writing}
    arguments = ("run", app, "--request-timeout", "2", "--workers", workers)
    with command.running(*arguments, **unread) as running, ThreadPoolExecutor(5) as pool:
        os.close(writing)
        serving_at(running, reading if descriptor == 2 else None)
        printing = [pool.submit(running.get, "/bad") for _ in range(5)]
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            began = time.monotonic()
            assert running.get("/hello")[:2] == (200, b"hello")
            assert time.monotonic() - began < 1
        assert [each.result(SECONDS).status for each in printing] == [504] * 5
        assert running.get("/hello")[:2] == (200, b"hello")
        began = time.monotonic()
        assert running.stop(signal.SIGTERM) == 0
        assert time.monotonic() - began < 10
    os.close(reading)


def test_a_program_whose_output_nobody_reads_ends_with_a_signal(tmp_path: Path) -> None:
    forever = f"(loop $more (drop {call('$write', 1, VECTOR, 1, COUNT)}) (br $more))"
    app = program(tmp_path / "app.wasm", forever, line(b"x" * 999 + b"\n"), imports=WRITE)
    reading, writing = os.pipe()
    with command.running("run", app, stdout=writing) as running:
        os.close(writing)
        assert os.read(reading, 1000) == b"x" * 999 + b"\n"
        began = time.monotonic()
        assert running.stop(signal.SIGTERM) == 128 + signal.SIGTERM
        assert time.monotonic() - began < 10
    os.close(reading)


COUNTED = 40_000
NUMBER = f"""
(i32.store (i32.const {LINE})
  (i32.add (i32.const 0x30303030)
    (i32.or (i32.or (i32.div_u (local.get $n) (i32.const 1000))
                    (i32.shl (i32.rem_u (i32.div_u (local.get $n) (i32.const 100)) (i32.const 10)) (i32.const 8)))
            (i32.or (i32.shl (i32.rem_u (i32.div_u (local.get $n) (i32.const 10)) (i32.const 10)) (i32.const 16))
                    (i32.shl (i32.rem_u (local.get $n) (i32.const 10)) (i32.const 24))))))
"""
"""Puts the local $n into the line: thousands, hundreds, tens, ones."""


@pytest.mark.parametrize("end", ["", call("$exit", 7)], ids=["returns", "exits"])
def test_what_a_program_prints_is_out_in_its_order_when_it_has_ended(end: str, tmp_path: Path) -> None:
    printing = wat.times(COUNTED, f"{NUMBER} (drop {call('$write', 1, VECTOR, 1, COUNT)})")
    app = program(tmp_path / "app.wasm", printing + end, line(b"0000\n"), imports=WRITE + EXIT)
    reading, writing = os.pipe()
    with command.running("run", app, stdout=writing) as running:
        os.close(writing)
        # More than the pipe holds, and read once the program has nothing more to do.
        command.wait_until(lambda: cpu(running.pid) == (time.sleep(0.2) or cpu(running.pid)), "that it waits")
        assert running.process.poll() is None
        with os.fdopen(reading, "rb") as out:
            printed = out.read().split()
        assert running.wait() == (7 if end else 0)
    assert len(printed) == COUNTED
    assert all(each == b"%c%03d" % (0x30 + number // 1000, number % 1000) for number, each in enumerate(printed))


def cpu(pid: int) -> int:
    """Processor time of a process that has printed something, in ticks."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return int(user) + int(system)


def test_a_program_learns_that_nobody_reads_its_output_any_more(tmp_path: Path) -> None:
    until_it_fails = f"(loop $more (br_if $more (i32.eqz (local.tee $n {call('$write', 1, VECTOR, 1, COUNT)}))))"
    ends = f"{until_it_fails} {call('$exit', '(local.get $n)')}"
    app = program(tmp_path / "app.wasm", ends, line(b"line\n"), imports=WRITE + EXIT)
    reading, writing = os.pipe()
    with command.running("run", app, stdout=writing) as running:
        os.close(writing)
        assert os.read(reading, 5) == b"line\n"
        os.close(reading)
        assert running.wait() == EPIPE


def test_what_a_guest_says_on_standard_error_comes_before_what_is_said_of_it(tmp_path: Path) -> None:
    body = wat.times(200, f"(drop {call('$write', 2, VECTOR, 1, COUNT)})") + "(unreachable)"
    app = program(tmp_path / "app.wasm", body, line(b"the guest's own\n"), imports=WRITE)
    errors = command.slight_py("run", app).errors
    assert errors[:200] == ["the guest's own"] * 200
    assert len(errors) == 201
    assert "the guest trapped" in errors[200]


# Files that stay open.

KEPT = 2048
"""Where the handlers below count what they open; the error that ended it is behind it."""

UNTIL_NO_MORE = f"""
(loop $more
  (local.set $n {call("$open", 3, 0, LINE, 4, 0, "(i64.const 2)", "(i64.const 0)", 0, 3000)})
  (if (i32.eqz (local.get $n))
    (then (i32.store (i32.const {KEPT}) (i32.add {wat.load(KEPT)} (i32.const 1))) (br $more))))
(i32.store (i32.const {KEPT + 4}) (local.get $n))
"""
"""Opens a file again and again, and keeps all."""


def test_an_instance_has_a_limit_of_open_files_and_closes_them_with_itself(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    wasm = wat.module(
        data(LINE, "file"), data(256, wat.response(body=(KEPT, 8))), handler(f"{UNTIL_NO_MORE} (i32.const 256)"),
        imports=OPEN,
    )  # fmt: skip
    guests = wat.handlers(wasm, wasi=WasiSettings(directories=(Directory(tmp_path, "."),)))

    async def main() -> None:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            response = await wat.ask(guests)
            assert response.body is not None
            count, error = unpack("<II", response.body)
            assert (count, error) == (files.MAX_OPEN - 1, EMFILE)  # the directory is one of them
        await wat.until(lambda: len(os.listdir("/proc/self/fd")) <= before + 1)

    wat.run(main())


def test_guests_leave_descriptors_to_connections_and_the_log_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sleeping, subscription = SLEEP
    app = server(
        tmp_path / "app.wasm", f"{UNTIL_NO_MORE} {sleeping} (unreachable)", data(LINE, "file"), subscription,
        imports=OPEN + POLL,
    )  # fmt: skip
    with (
        command.running("run", app, "--dir", f"{tmp_path}::.", "--request-timeout", "3") as running,
        ThreadPoolExecutor(30) as pool,
    ):
        serving_at(running)
        resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (400, 400))
        keeping = [pool.submit(running.get, "/bad") for _ in range(30)]
        running.wait_for("^slight-py: warning: guests have 200 files open, half of the descriptors")
        while not all(each.done() for each in keeping):
            assert running.get("/hello")[:2] == (200, b"hello")
            time.sleep(0.05)
        assert {each.result().status for each in keeping} == {504}
        command.wait_until(lambda: len(os.listdir(f"/proc/{running.pid}/fd")) < 60, "that the files are closed")
        assert running.err.count("files open") == 1
        assert running.stop() == 0


def test_a_guest_is_told_where_the_process_has_no_more_files_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(files.Budget, "limit", 3)
    with ours(granted(tmp_path)) as subject:
        assert [subject.open("file")[0] for _ in range(4)] == [0, 0, ENFILE, ENFILE]
        subject.call("fd_close", 4)
        deadline = time.monotonic() + SECONDS
        while subject.open("file")[0] == ENFILE:  # it is closed in a thread
            assert time.monotonic() < deadline


def test_a_descriptor_stays_open_for_as_long_as_a_thread_is_at_work_on_it() -> None:
    async def main() -> None:
        files.BUDGET.take()
        owned = files.Owned(os.open("/dev/null", os.O_RDONLY))
        begun, go, seen = threading.Event(), threading.Event(), []

        def work(number: int) -> None:
            begun.set()
            assert go.wait(SECONDS)
            seen.append(os.fstat(number).st_rdev)

        task = asyncio.create_task(files.in_thread(work, owned))
        await asyncio.to_thread(begun.wait, SECONDS)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        owned.close()
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            await files.in_thread(work, owned)
        number = owned._number
        assert os.fstat(number).st_rdev == os.stat("/dev/null").st_rdev
        go.set()
        await wat.until(lambda: seen and not os.path.exists(f"/proc/self/fd/{number}"))
        assert seen == [os.stat("/dev/null").st_rdev]

    wat.run(main())


def test_a_file_that_is_opened_for_somebody_who_is_gone_is_closed() -> None:
    async def main() -> None:
        before = os.listdir("/proc/self/fd")
        begun, go = threading.Event(), threading.Event()

        def work() -> int:
            begun.set()
            assert go.wait(SECONDS)
            return os.open("/dev/null", os.O_RDONLY)

        table = wasi.Context(WasiSettings()).files()
        task = asyncio.create_task(table.open(work))
        await asyncio.to_thread(begun.wait, SECONDS)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        used = files.BUDGET._used
        go.set()
        await wat.until(lambda: files.BUDGET._used == used - 1)
        assert len(os.listdir("/proc/self/fd")) <= len(before) + 2

    wat.run(main())


# Calls that take their time.

MEGABYTES = 64


def slow_call(name: str, body: str, *fields: str, imports: str) -> bytes:
    memory = f'(memory (export "memory") {MEGABYTES * 16 + 1})'
    return wat.module(*fields, handler(f"{body} (i32.const 0)"), imports=imports, memory=memory)


FILES = "\n".join(
    f'(import "{WASI}" "{name}" (func ${name} {params}))'
    for name, params in {
        "random_get": "(param i32 i32) (result i32)",
        "fd_pwrite": "(param i32 i32 i32 i64 i32) (result i32)",
        "fd_pread": "(param i32 i32 i32 i64 i32) (result i32)",
        "fd_sync": "(param i32) (result i32)",
        "fd_readdir": "(param i32 i32 i32 i64 i32) (result i32)",
    }.items()
)

ALL = f"(i32.const {65536}) (i32.const {60 << 20})"
OPENED = call("$open", 3, 0, LINE, 4, 1, "(i64.const 66)", "(i64.const 0)", 0, 3000)


def good(instruction: str) -> str:
    """A call that must say 0."""
    return f"(if {instruction} (then (unreachable)))"


SLOW: dict[str, str] = {
    "random-numbers": good(call("$random_get", 65536, 64 << 20)),
    "writing": good(OPENED)
    + good(call("$fd_pwrite", wat.load(3000), VECTOR, 1, "(i64.const 0)", 3004))
    + good(call("$fd_sync", wat.load(3000))),
    "reading": good(OPENED) + good(call("$fd_pread", wat.load(3000), VECTOR, 1, "(i64.const 0)", 3004)),
    "listing": good(call("$fd_readdir", 3, 65536, 60 << 20, "(i64.const 0)", 3004)),
}

HELD_UP = 0.04
"""Seconds for which the loop may be held up, at best of some tries: machines have more to do."""


@pytest.mark.parametrize("name", SLOW)
def test_a_call_that_takes_its_time_holds_up_nobody(name: str, tmp_path: Path) -> None:
    if name == "reading":
        (tmp_path / "file").write_bytes(bytes(60 << 20))
    if name == "listing":
        for number in range(20_000):
            (tmp_path / f"an-entry-with-a-name-of-some-length-{number}").touch()
    buffers = data(VECTOR, pack("<II", 65536, 60 << 20)) + data(LINE, "file")
    guests = wat.handlers(
        slow_call(name, SLOW[name], buffers, imports=OPEN + FILES), Limits(memory=128 << 20, instances=8),
        WasiSettings(directories=(Directory(tmp_path, "."),)),
    )  # fmt: skip

    async def longest() -> float:
        """The longest time for which the loop was held up during a request."""
        request = asyncio.create_task(wat.ask(guests))
        found, before = 0.0, time.perf_counter()
        while not request.done():
            await asyncio.sleep(0)
            now = time.perf_counter()
            found, before = max(found, now - before), now
        assert (await request).body == b"hello"
        return found

    async def main() -> None:
        held_up = []
        for _ in range(5):
            held_up.append(await longest())
            if held_up[-1] < HELD_UP:
                return
        raise AssertionError(f"the loop was held up for {held_up} seconds")

    wat.run(main(), 60)


def test_a_request_that_is_ended_amid_a_write_leaves_nothing_open(tmp_path: Path) -> None:
    buffers = data(VECTOR, pack("<II", 65536, 60 << 20)) + data(LINE, "file")
    again = f"(loop $more {good(call('$fd_pwrite', wat.load(3000), VECTOR, 1, '(i64.const 0)', 3004))} (br $more))"
    wasm = slow_call("writing", good(OPENED) + again, buffers, imports=OPEN + FILES)
    given = WasiSettings(directories=(Directory(tmp_path, "."),))
    guests = wat.handlers(wasm, Limits(memory=128 << 20, instances=8), given)

    async def main() -> None:
        async with wat.serving(guests, HttpSettings(request_timeout=0.3)) as port:
            for _ in range(3):
                assert (await wat.get(port, "/handle-bad"))[0] == 504
            assert await wat.get(port, "/handle-hello") == (200, b"hello")
        await wat.until(lambda: not any(str(tmp_path) in each for each in opened()))

    wat.run(main(), 30)


def opened() -> list[str]:
    """What this process has open."""
    found = []
    for each in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{each}"))
        except FileNotFoundError:
            continue
    return found


# What is no file.


def test_a_fifo_holds_up_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with ours(granted(tmp_path)) as subject:
        began = time.monotonic()
        error, number = subject.open("fifo")
        assert error == 0
        assert subject.take(number, 10)[0] == ESPIPE
        assert subject.open("fifo", rights=1 << 6)[0] == 0  # the guest itself could read it
        subject.call("fd_close", number)
        assert time.monotonic() - began < 5


def test_a_fifo_that_nobody_reads_is_not_opened_to_write(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with ours(granted(tmp_path)) as subject:
        assert subject.open("fifo", rights=1 << 6)[0] == ENXIO


def test_a_device_gives_what_it_has(tmp_path: Path) -> None:
    with ours(WasiSettings(directories=(Directory(Path("/dev"), "/dev"),))) as subject:
        assert subject.take(subject.open("zero")[1], 10) == (0, bytes(10))
        assert subject.take(subject.open("null")[1], 10) == (0, b"")
        assert subject.print(subject.open("full", rights=1 << 6)[1], b"x")[0] == 51  # ENOSPC


# The sandbox, from Python.


def swapped(home: Path, stop: threading.Event) -> None:
    """Has `way` be a directory and a link out of it in turn, as fast as that goes."""
    (home / "link").symlink_to("../outside")
    (home / "directory").mkdir()
    (home / "directory" / "secret").write_bytes(b"inside")
    while not stop.is_set():
        for each in ("link", "directory"):
            os.rename(home / each, home / "way")
            os.rename(home / "way", home / each)


def content(start: int, path: bytes) -> bytes:
    with os.fdopen(sandbox.open_at(start, path, True, os.O_RDONLY), "rb") as found:
        return found.read()


WAYS: dict[str, Callable[[int], object]] = {
    "open": lambda start: content(start, b"way/secret"),
    "open-through-the-parent": lambda start: content(start, b"way/../directory/secret"),
    "create": lambda start: os.close(sandbox.open_at(start, b"way/new", True, os.O_CREAT | os.O_WRONLY)),
    "stat": lambda start: sandbox.stat_at(start, b"way/secret", True).st_size,
    "unlink": lambda start: sandbox.unlink(start, b"way/other"),
    "mkdir": lambda start: sandbox.create_directory(start, b"way/made"),
    "link": lambda start: sandbox.link(start, b"way/secret", start, b"stolen"),
    "rename": lambda start: sandbox.rename(start, b"way/other", start, b"stolen"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_link_that_takes_the_place_of_a_directory_leads_nowhere(way: str, tmp_path: Path) -> None:
    home, outside = tmp_path / "home", tmp_path / "outside"
    home.mkdir()
    outside.mkdir()
    (outside / "secret").write_bytes(b"of the house, and longer")
    (outside / "other").write_bytes(b"")
    before = sorted(os.listdir(outside))
    start, stop = os.open(home, os.O_PATH | os.O_DIRECTORY), threading.Event()
    swapping = threading.Thread(target=swapped, args=(home, stop))
    swapping.start()
    try:
        for _ in range(3000):
            try:
                found = WAYS[way](start)
            except OSError:
                continue
            assert found in (None, b"inside", 6)
    finally:
        stop.set()
        swapping.join()
        os.close(start)
    assert sorted(os.listdir(outside)) == before
    assert (outside / "secret").read_bytes() == b"of the house, and longer"
    stolen = home / "stolen"
    assert not stolen.exists() or stolen.read_bytes() == b"inside"


def test_a_path_may_lead_through_so_many_directories_and_no_more(tmp_path: Path) -> None:
    deepest = tmp_path.joinpath(*["d"] * (sandbox.MAX_DEPTH + 1))
    deepest.mkdir(parents=True)
    with ours(granted(tmp_path)) as subject:
        fits = "/".join(["d"] * sandbox.MAX_DEPTH)
        before = len(os.listdir("/proc/self/fd"))
        assert subject.open(f"{fits}/.")[0] == 0
        assert subject.open(f"{fits}/d/.")[0] == 37  # ENAMETOOLONG
        assert subject.open("d/../" * 700 + "d")[0] == 0
        assert len(os.listdir("/proc/self/fd")) <= before + 3


# What differs from wasmtime.


def test_a_directory_is_removed_by_a_name_with_a_slash_too(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    with ours(granted(tmp_path)) as subject:
        assert subject.at("path_remove_directory", "directory/") == 0
    assert not (tmp_path / "directory").exists()


def test_the_third_time_of_a_file_is_that_of_its_last_change(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with ours(granted(tmp_path)) as subject:
        assert subject.call("path_filestat_get", 3, 1, *subject.path("file"), 4096) == 0
        assert unpack("<Q", subject.read(4096 + 56, 8))[0] == (tmp_path / "file").stat().st_ctime_ns


def many_buffers(subject: Subject, count: int) -> object:
    return subject.call("fd_write", 1, 65536, count, 64)


def test_a_call_names_a_bounded_number_of_buffers(tmp_path: Path) -> None:
    with ours(granted(tmp_path)) as subject:
        assert isinstance(subject, Ours)
        assert many_buffers(subject, 1024) == 0
        assert many_buffers(subject, 1025) == 28  # EINVAL
        assert many_buffers(subject, 1 << 28) == "ended"


# Standard input.


def test_a_program_can_wait_for_its_input_and_for_a_clock_at_once(tmp_path: Path) -> None:
    subscriptions = pack("<QB7xI4xQ8xH6x", 1, 0, 1, 60 * 10**9, 0) + pack("<QB7xI28x", 2, 1, 0)
    waiting = f"(drop {call('$poll', 4096, 4352, 2, 4608)}) {call('$exit', '(i32.load8_u (i32.const 4352))')}"
    says = f"(drop {call('$write', 1, VECTOR, 1, COUNT)})"
    app = program(
        tmp_path / "app.wasm", says + waiting, line(b"waits\n"), data(4096, subscriptions), imports=POLL + EXIT + WRITE
    )
    with command.running("run", app) as running:
        command.wait_until(lambda: running.out == "waits\n", "the guest")
        assert running.process.stdin is not None
        running.process.stdin.write(b"x")
        running.process.stdin.flush()
        assert running.wait() == 2  # the user data of the event that came
