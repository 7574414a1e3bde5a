"""The guest, from inside and by its protocol: real images under QEMU's emulation, with the test as their launcher."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from bindgen.runtime import GuestFault
from capabilities.http.settings import HttpSettings
from slight_py.engine import Limits
from slight_py.errors import UsageError
from slight_py.runner import RunConfig
from slight_py.slightfile import Slightfile
from slight_py.wasi import WasiSettings
from tests import wat
from tests.command import ROOT, build_guest, guest, scratch, slight_py
from tests.unikernel.fake_guest import make_manifest
from unikernel import build, control, image, machine
from unikernel.control import CONTROL, STDERR, STDIN, STDIO, Message
from unikernel.guest import application, functions, service, work
from unikernel.guest.grants import granted
from unikernel.manifest import Config, Cpu, Grant

SECONDS = 60.0
"""How long anything here may take, on a machine that has more to do."""

SEED = bytes(64)

NOW = 4_102_444_800
"""2100, in seconds since the epoch: no clock has that of its own."""

INSIDE = """
import asyncio, glob, json, os, resource, socket, sys, time
from . import inside

def line(path):
    with open(path) as file:
        return file.readline().strip()

def commands():
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        command = open(path, "rb").read().replace(b"\\0", b" ").decode().strip()
        if command:  # the kernel's own threads have none
            yield path.split("/")[2], command

class Inside:
    INTERFACES = (inside,)
    REQUIRED = ("WHAT",)

    def __init__(self, configs):
        self.what = configs["WHAT"]

    async def look(self):
        if self.what == "wait":
            print("waiting", flush=True)
            while time.time() < NOW:
                await asyncio.sleep(0.01)
            print("later", flush=True)
            return
        with open("/var-is-writable", "w"):
            pass
        lo = socket.socket()
        lo.bind(("127.0.0.1", 0))
        lo.listen()
        socket.create_connection(lo.getsockname()).close()
        print(json.dumps({
            "processes": dict(commands()),
            "pid": os.getpid(),
            "time": time.time(),
            "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            "hostname": socket.gethostname(),
            "mounts": {each.split()[1]: each.split()[2] for each in open("/proc/mounts")},
            "host": socket.gethostbyname("host.localhost"),
            "random": int(line("/proc/sys/kernel/random/entropy_avail")),
        }), flush=True)
"""


@cache
def folder() -> Path:
    made = scratch() / "guests-of-images"
    made.mkdir()
    return made


@cache
def inside() -> image.Image:
    """An image whose module has a Python class of the test's look around in the machine."""
    here = folder()
    (here / "inside.wit").write_text("look: func()\n")
    done = slight_py("bindgen", "python", "--import", here / "inside.wit", "--out-dir", here)
    assert done.code == 0, done.err
    (here / "probe.py").write_text(f"NOW = {NOW}\n{INSIDE}")
    slightfile = here / "slightfile.toml"
    slightfile.write_text(
        'specversion = "0.2"\n[[capability]]\nresource = "probe.py:Inside"\nname = "*"\n'
        '[capability.configs]\nWHAT = "${envvars.WHAT}"\n'
    )
    wasm = here / "inside.wasm"
    wasm.write_bytes(
        wasmtime.wat2wasm('(module (import "inside" "look" (func $look)) (func (export "_start") call $look))')
    )
    return built(wasm, slightfile)


@cache
def probe() -> image.Image:
    build_guest("probe")
    return built(guest("probe"))


@cache
def server() -> image.Image:
    build_guest("server")
    return built(guest("server"))


@cache
def function_service() -> image.Image:
    return built(None)


def built(wasm: Path | None, slightfile: Path | None = None) -> image.Image:
    path = folder() / f"{wasm.stem if wasm else 'functions'}.img"
    build.build(wasm, slightfile, path)
    return image.read(path)


class Guest:
    """A machine at work, and our ends of its ports."""

    def __init__(self, ends: dict[str, socket.socket], process: subprocess.Popen[bytes]) -> None:
        self.ends = ends
        self.process = process
        self._lines = control.Lines()
        self._heard: list[bytes] = []

    def say(self, line: bytes) -> None:
        self.ends[CONTROL].sendall(line)

    def hear(self) -> Message:
        while not self._heard:
            received = self.ends[CONTROL].recv(65536)
            assert received, f"the machine has ended: {self.err()}"
            self._heard += self._lines.feed(received)
        return control.from_guest(self._heard.pop(0))

    def until(self, kind: str) -> list[Message]:
        """What comes up to a message of that kind."""
        found = [self.hear()]
        while found[-1].kind != kind:
            found.append(self.hear())
        return found

    def boot(self, args: Sequence[str] = (), **given: Any) -> None:
        """Waits for the hello and answers it."""
        assert self.hear().kind == "hello"
        filled = {"env": {}, "values": {}, "volumes": [], "network": machine.ADDRESSES, "time": time.time_ns()}
        filled |= {"seed": SEED, "options": {}, "channel": False}
        self.say(control.boot(args=args, **(filled | given)))

    def wait(self) -> int:
        """Hangs up, as the launcher does when it has heard the exit code, on which the machine ends."""
        self.ends[CONTROL].close()
        return self.process.wait(SECONDS)

    def err(self) -> str:
        """What it wrote on standard error, once it has ended."""
        self.wait()
        return b"".join(iter(lambda: self.ends[STDERR].recv(65536), b"")).decode()

    def out(self) -> bytes:
        """All that it wrote on standard output, once it has ended."""
        self.wait()
        return b"".join(iter(lambda: self.ends[STDIO].recv(65536), b""))


@contextlib.contextmanager
def booted(found: image.Image, *more: str) -> Iterator[Guest]:
    """A machine with that image, which is ended with the block. `more` are further ports."""
    ours, theirs = {}, {}
    for name in (CONTROL, STDIO, STDERR, STDIN, *more):
        ours[name], theirs[name] = socket.socketpair()
        ours[name].settimeout(SECONDS)
    serial = [(name, f"socket,fd={end.fileno()}") for name, end in theirs.items()]
    words = machine.arguments(machine.Machine(found, 256 << 20, 1, "tcg", "null", serial))
    process = subprocess.Popen(
        [machine.QEMU, *words, "-no-reboot"], pass_fds=[end.fileno() for end in theirs.values()],
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    for end in theirs.values():
        end.close()
    try:
        yield Guest(ours, process)
    finally:
        process.kill()
        process.wait()
        for end in ours.values():
            end.close()


# The machine, from inside.


def test_the_runtime_is_the_only_process_and_finds_its_machine_in_order() -> None:
    with booted(inside()) as found:
        found.boot(values={"WHAT": "look"}, time=NOW * 10**9)
        assert found.until("exit")[-1].value == 0
        seen = json.loads(found.out())
    assert seen["processes"] == {"1": "/usr/bin/python3 -IS /sbin/init"}
    assert seen["pid"] == 1
    assert 0 <= seen["time"] - NOW < SECONDS
    assert seen["files"] >= 65536
    assert seen["hostname"] == "slight"
    assert seen["mounts"]["/"] == "overlay"
    assert {seen["mounts"][each] for each in ("/tmp", "/run")} == {"tmpfs"}
    assert (seen["mounts"]["/proc"], seen["mounts"]["/sys"]) == ("proc", "sysfs")
    assert seen["host"] == "10.0.2.2"
    assert seen["random"] == 256


def test_a_resumed_guest_has_the_time_that_it_is_given() -> None:
    with booted(inside()) as found:
        found.boot(values={"WHAT": "wait"}, time=10**18)
        found.until("phase")
        while found.hear().value != "entered":
            pass
        found.say(control.resume(NOW * 10**9, SEED))
        assert found.until("exit")[-1].value == 0
        assert found.out() == b"waiting\nlater\n"


def test_a_value_that_is_not_handed_over_is_named_with_its_line() -> None:
    with booted(inside()) as found:
        found.boot()
        errors, last = found.until("exit")[-2:]
    assert last.value == 2
    assert errors.value == [
        "slightfile.toml:2: probe.py:Inside: the value of WHAT is handed over at the start, and 'WHAT' is not; set it"
    ]


# The protocol.


def test_the_guest_says_how_far_it_is_and_how_it_ended() -> None:
    with booted(probe()) as found:
        found.boot(["exit", "7"], env={"A": "b"})
        said = found.until("exit")
        found.wait()
    assert [(each.kind, each.value) for each in said] == [
        ("phase", "imported"), ("phase", "loaded"), ("phase", "entered"), ("exit", 7)
    ]  # fmt: skip
    times = [each.at for each in said]
    assert times == sorted(times)


def test_the_module_sees_its_arguments_variables_and_input() -> None:
    with booted(probe()) as found:
        found.boot(["environment"], env={"GREETING": "hello", "OTHER": "\N{SNOWMAN}"})
        assert found.until("exit")[-1].value == 0
        assert found.out().decode().splitlines() == ["GREETING=hello", "OTHER=\N{SNOWMAN}"]
    with booted(probe()) as found:
        found.boot(["input"])
        found.ends[STDIN].sendall(b"from the host\n")
        found.ends[STDIN].shutdown(socket.SHUT_WR)
        assert found.until("exit")[-1].value == 0
        assert found.out() == b"from the host\n"


def test_a_trap_is_told_on_standard_error_and_ends_with_1() -> None:
    with booted(probe()) as found:
        found.boot(["trap"])
        assert found.until("exit")[-1].value == 1
        assert "probe.wasm: the guest trapped: wasm trap: wasm `unreachable`" in found.err()


def test_a_signal_right_behind_the_start_is_not_lost() -> None:
    with booted(probe()) as found:
        found.boot(["sleep"])
        found.say(control.signal(2))
        assert found.until("exit")[-1].value == 130


def test_a_ping_is_answered_while_the_module_waits() -> None:
    with booted(probe()) as found:
        found.boot(["wait"])
        while found.hear().value != "entered":
            pass
        for number in (1, 2):
            found.say(control.ping(number))
            assert (found.hear().kind, number) == ("pong", number)
        found.say(b"nonsense\n" + control.signal(15))
        assert found.until("exit")[-1].value == 143


def test_the_guest_ends_when_the_launcher_has_gone() -> None:
    with booted(probe()) as found:
        found.boot(["sleep"])
        while found.hear().value != "entered":
            pass
        assert found.wait() == 0


def test_a_start_that_is_none_is_refused() -> None:
    with booted(probe()) as found:
        assert found.hear().kind == "hello"
        found.say(b'{"boot": {}}\n')
        errors, last = found.until("exit")[-2:]
    assert last.value == 1
    assert "don't understand each other" in errors.value[0]


def test_a_server_tells_its_address_and_its_port_and_ends_in_order() -> None:
    with booted(server()) as found:
        found.boot(env={"ADDRESS": "127.0.0.1:0"})
        serving = found.until("serving")[-1].value
        assert serving["address"] == "127.0.0.1:0"
        assert serving["port"] > 1024
        found.say(control.signal(15))
        assert found.until("exit")[-1].value == 0


def test_a_function_service_serves_one_client_after_the_other() -> None:
    wasm = bytes(
        wasmtime.wat2wasm(
            '(module (memory (export "memory") 1) (func (export "get_buffer_ptr") (result i32) i32.const 0)'
            '(func (export "process_data") (param i32) (result i32) (local.get 0)))'
        )
    )
    with booted(function_service(), control.COMMAND, control.DATA) as found:
        found.boot(channel=True)
        command, data = found.ends[control.COMMAND].makefile("rwb"), found.ends[control.DATA]
        command.write(b"MODULE %d\n" % len(wasm) + wasm)
        command.flush()
        assert command.readline() == b"READY 65536\n"
        for size in (0, 1, 65536):
            command.write(b"JOB %d\n" % size)
            command.flush()
            data.sendall(b"x" * size)
            assert command.readline() == b"DONE %d\n" % size
            assert sum(len(data.recv(65536)) for _ in iter(lambda: waiting(data), False)) == size
        found.say(control.signal(2))
        assert found.until("exit")[-1].value == 0


def waiting(opened: socket.socket) -> bool:
    """Whether something is to be read; what a guest has sent may take a moment."""
    import select

    return bool(select.select((opened,), (), (), 0.5)[0])


def test_a_function_service_without_a_channel_says_what_to_do() -> None:
    with booted(function_service()) as found:
        found.boot()
        errors, last = found.until("exit")[-2:]
    assert last.value == 2
    assert errors.value == [
        "the image is a function service, which is reached over a channel; run it with --channel DIR"
    ]


# By the command, which has volumes.


def test_a_module_reads_and_writes_a_directory_of_the_host(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from the host\n")
    run = ("image", "run", "--accel", "tcg", probe().path)
    done = slight_py(*run, "--volume", f"{tmp_path}:/data", "--", "read", "/data/in", seconds=SECONDS)
    assert (done.code, done.out) == (0, "from the host\n"), done.err
    done = slight_py(*run, "--volume", f"{tmp_path}:/data/deep", "--", "write", "/data/deep/out", seconds=SECONDS)
    assert done.code == 0, done.err
    assert (tmp_path / "out").read_text() == "from the guest\n"


def test_a_volume_to_be_read_is_not_written_to(tmp_path: Path) -> None:
    run = ("image", "run", "--accel", "tcg", probe().path)
    done = slight_py(*run, "--volume", f"{tmp_path}:/data:ro", "--", "write", "/data/out", seconds=SECONDS)
    assert done.code == 9
    assert not (tmp_path / "out").exists()


def test_a_volume_cant_take_the_place_of_the_runtime(tmp_path: Path) -> None:
    run = ("image", "run", "--accel", "tcg", probe().path)
    done = slight_py(*run, "--volume", f"{tmp_path}:/usr", seconds=SECONDS)
    assert done.code == 2
    assert "/usr" in done.err
    assert "choose" in done.err


@pytest.mark.parametrize("memory", ["50M", "62M"])
def test_too_little_memory_is_named_as_such(memory: str) -> None:
    """Before the runtime is imported, and once the application is loaded."""
    run = ("image", "run", "--accel", "tcg", "--memory", memory, server().path, "--env", "ADDRESS=127.0.0.1:0")
    done = slight_py(*run, seconds=SECONDS)
    assert done.code == 1
    assert "not enough memory for the runtime and the application; give more with --memory" in done.err


# Without a machine.


def test_init_runs_as_process_1_alone() -> None:
    code = f"import sys; sys.path.append({str(ROOT)!r}); from unikernel.guest.init import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (2, "slight-py: error: this is for process 1 of a virtual machine alone\n")


def test_every_missing_value_is_named() -> None:
    grants = tuple(
        Grant("keyvalue.redis", "keyvalue", name, line, {"REDIS_ADDRESS": Config(source=source)})
        for name, line, source in (("a", 3, "ONE"), ("b", 7, "TWO"), ("c", 9, "THREE"))
    )
    manifest = replace(make_manifest(grants=grants), slightfile="s.toml")
    with pytest.raises(UsageError) as error:
        granted(Path("/app"), manifest, {"TWO": "redis://x"})
    assert [line.partition(" the value")[0] for line in error.value.lines] == [
        "s.toml:3: keyvalue.redis:", "s.toml:9: keyvalue.redis:"
    ]  # fmt: skip
    values = {"ONE": "redis://1", "TWO": "redis://2", "THREE": "redis://3"}
    slightfile = granted(Path("/app"), manifest, values)
    assert [grant.configs["REDIS_ADDRESS"] for grant in slightfile.grants] == list(values.values())


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"{}", "the manifest has no 'flavour'"), (b"\xff", "codec can't decode"), (b"", "Expecting value")],
)
def test_an_app_json_that_is_none_is_named(content: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "app.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"app\.json can't be read: .*; build the image again") as error:
        work.read_manifest(tmp_path)
    assert why in str(error.value)


@pytest.mark.parametrize("cpu", ["native", "portable"])
def test_a_module_that_this_processor_does_not_run_is_named_with_what_to_do(cpu: Cpu, tmp_path: Path) -> None:
    (tmp_path / "module.cwasm").write_bytes(b"for another")
    settings = WasiSettings((), {}, ())
    config = RunConfig(Path("app.wasm"), Slightfile(None, "0.2", ()), settings, Limits(), HttpSettings())
    with pytest.raises(UsageError, match=r"app.wasm: this machine doesn't run it as it was compiled") as error:
        application.load(config, tmp_path, cpu)
    assert ("; build the image with --cpu portable" in str(error.value)) == (cpu == "native")


def test_clients_over_vsock_are_served_with_both_halves_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With sockets of another family, as there is no vsock where tests run."""

    def listen(port: int) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / str(port)))
        listener.setblocking(False)
        listener.listen()
        return listener

    def connect(port: int) -> socket.socket:
        opened = socket.socket(socket.AF_UNIX)
        opened.settimeout(SECONDS)
        opened.connect(str(tmp_path / str(port)))
        return opened

    def talk() -> None:
        for number in range(3):
            # One that goes away with half of what it takes, having said something.
            with connect(control.COMMAND_VSOCK) as half:
                half.sendall(b"JOB 1\n")
            with connect(control.COMMAND_VSOCK) as command, connect(control.DATA_VSOCK) as data:
                answers = command.makefile("rb")
                command.sendall(b"JOB 1\n")
                data.sendall(b"x")
                assert answers.readline() == b"ERROR there is no module yet\n", number

    monkeypatch.setattr(functions, "_vsock_listener", listen)

    async def main() -> None:
        serving = asyncio.create_task(functions.vsock_clients(service.Settings(wat.engine(Limits(instances=4)), 5.0)))
        await asyncio.sleep(0)
        await asyncio.to_thread(talk)
        serving.cancel()
        await asyncio.wait((serving,))

    wat.run(main(), SECONDS)


RANDOM = """
(import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
(memory (export "memory") 4)
(func (export "fill") (param i32 i32) (result i32) (call $random (local.get 0) (local.get 1)))
"""


def test_random_numbers_come_from_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "urandom", lambda size: b"\x07" * size)
    program = wat.program(wat.binary(RANDOM))
    fill = program.info.functions["fill"]

    async def main() -> None:
        instance = await program.instantiate()
        try:
            assert await instance.call(fill, (10, 200_000)) == 0
            assert bytes(instance.memory[:200_020]) == bytes(10) + b"\x07" * 200_000 + bytes(10)
            with pytest.raises(GuestFault, match="random_get: buf: 10 bytes at 0x3ffff reach past the end of memory"):
                await instance.call(fill, (4 * 65536 - 1, 10))
        finally:
            instance.close()

    wat.run(main())
