"""Applications in native machines: how they begin and end, and what is said of it. QEMU emulates the processor."""

from __future__ import annotations

import signal
import subprocess
import time
from functools import cache
from pathlib import Path

import pytest

from tests.command import EMULATED, Done, running, scratch, slight_py
from tests.guests import example
from tests.wat import binary
from unikernel.native import BUILD_SECONDS

FD_WRITE = '(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))'
PROC_EXIT = '(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))'

PROGRAMS = {
    "exits": f'{PROC_EXIT} (memory (export "memory") 1) (func (export "_start") (call $exit (i32.const 7)))',
    "traps": '(func (export "_start") unreachable)',
    "divides": '(func (export "main") (param i32 i32) (result i32) (i32.div_u (i32.const 1) (i32.const 0)))',
    "lies": f"""{FD_WRITE} (memory (export "memory") 1)
        (func (export "_start") (drop (call $write (i32.const 1) (i32.const 65530) (i32.const 1) (i32.const 0))))""",
    "recurses": '(func $f (call $f) (call $f)) (func (export "_start") (call $f))',
    "computes": '(func (export "_start") (loop $again (br $again)))',
    "nothing": '(func (export "_start"))',
}
"""What they do, in WebAssembly's text form."""


CARD = ("-netdev", "user,id=net", "-device", "virtio-net-device,netdev=net")
"""QEMU's words for a network."""


@cache
def module(name: str) -> Path:
    path = scratch() / f"{name}.wasm"
    path.write_bytes(binary(PROGRAMS[name]))
    return path


def image(app: Path, slightfile: Path | None = None) -> Path:
    path = scratch() / f"{app.stem}-native.img"
    given = ["-c", slightfile] if slightfile else ["-l"]
    done = slight_py("image", "build", app, *given, "--native", "-o", path, seconds=BUILD_SECONDS)
    assert done.code == 0, done.err
    return path


def run(app: Path, *options: str) -> Done:
    return slight_py("image", "run", "--accel", "tcg", *options, image(app), seconds=EMULATED)


def alone(path: Path, *options: str) -> list[str]:
    """What an image writes to the console of a machine that nobody has launched for it. Raises TimeoutExpired for a
    machine that doesn't end."""
    machine = ["-M", "microvm,acpi=off", "-cpu", "max", "-accel", "tcg", "-m", "64M", "-no-reboot", "-nodefaults"]
    command = ["qemu-system-x86_64", *machine, "-no-user-config", "-display", "none", "-serial", "stdio", *options]
    done = subprocess.run(
        [*command, "-kernel", str(path)], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=EMULATED
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.replace("\r", "").splitlines()


@pytest.mark.parametrize("name", ["exits", "traps", "divides", "lies", "recurses", "nothing"])
def test_an_application_ends_as_without_a_machine_in_the_same_words(name: str) -> None:
    app = module(name)
    expected = slight_py("run", app.name, cwd=app.parent)
    assert run(app) == expected


def test_a_signal_ends_what_computes_for_ever() -> None:
    with running("image", "run", "--accel", "tcg", image(module("computes"))) as machine:
        time.sleep(2)  # the machine has booted, or else the launcher passes the signal on when it has
        machine.process.send_signal(signal.SIGTERM)
        assert machine.process.wait(EMULATED) == 128 + signal.SIGTERM


def test_a_machine_without_a_network_device_serves_nothing_and_says_so() -> None:
    (line,) = alone(image(example("http-server-demo-c")))
    assert line == (
        "slight-py: error: the application serves or connects, and the machine has no network device; give it a "
        "virtio-net device"
    )


def test_a_value_that_is_not_handed_over_is_named(tmp_path: Path) -> None:
    slightfile = tmp_path / "slightfile.toml"
    slightfile.write_text(
        'specversion = "0.2"\n[[capability]]\nresource = "keyvalue.redis"\nname = "my-container"\n'
        '[capability.configs]\nREDIS_ADDRESS = "${envvars.REDIS_ADDRESS}"\n'
    )
    (line,) = alone(image(example("keyvalue-demo-c"), slightfile), *CARD)
    assert line == (
        "slight-py: error: slightfile.toml:2: keyvalue.redis: the value of REDIS_ADDRESS is handed over at the start, "
        "and 'REDIS_ADDRESS' is not; set it"
    )


def test_a_module_of_another_version_of_the_engine_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "other.img"
    content = image(module("nothing")).read_bytes()
    version = b"\x0250"
    assert version in content, "the engine's section has its version before the target's name"
    path.write_bytes(content.replace(version, b"\x0249"))
    (line,) = alone(path)
    assert line.startswith("slight-py: error: nothing.wasm: this machine doesn't run it as it was compiled: ")
    assert line.endswith("; build the image again")
