"""The kernel of native images with trials of the machine in an application's place: built once, and booted by QEMU."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.command import scratch
from unikernel import native

SECONDS = 60.0
"""How long a trial may take: seconds, on a machine that has more to do."""

PREFIX = "slight-machine: "


@functools.cache
def kernel() -> Path:
    """The kernel, built with the crates that the one of images is built with. Raises UsageError."""
    path = scratch() / "native-trials.elf"
    path.write_bytes(native.build("slight-machine-trials", ["--features", "trials"], print))
    return path


def boot(
    command_line: str,
    *,
    board: str = "microvm,acpi=off",
    memory: str = "16M",
    processor: str = "max",
    more: Sequence[str] = (),
    code: int = 0,
    kernel: Path,
) -> list[str]:
    """What a machine with this command line writes to its serial port, without what begins each line. Raises
    AssertionError for one that doesn't end by itself, or QEMU with it, with this exit code."""
    command = ["qemu-system-x86_64", "-M", board, "-cpu", processor, "-accel", "tcg", "-m", memory, "-no-reboot"]
    command += ["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio"]
    command += ["-kernel", str(kernel), "-append", command_line, *more]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"{command_line}: the machine goes on; it has said {error.stdout!r}") from None
    assert done.returncode == code, done.stderr
    lines = done.stdout.replace("\r", "").splitlines()
    assert all(line.startswith(PREFIX) for line in lines), lines
    return [line.removeprefix(PREFIX) for line in lines]
