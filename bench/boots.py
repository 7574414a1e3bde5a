"""How long machines take to boot. All times are in milliseconds, of the host's monotonic clock.

What they are compared with is an empty init: the Linux flavour's kernel and machine, with a static init that does
nothing but reboot, from the start of QEMU to its end.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.images import EMPTY_INIT, GREETING, STATIC, archive, compiled
from bench.machines import SERVING, TIME, ask, launcher, qemu, watched
from bench.processes import free_port, median, spread
from bench.table import Row
from unikernel import control, image, snapshot
from unikernel.image import Image
from unikernel.machine import Accel

FLOOR = "an empty init, to QEMU's end"
UP_NAME, SERVES, ANSWERED = "the guest up", "serving", "first answer"
LAUNCHED = "first answer, from the launcher's start"

UP = re.compile(r"the guest is up, .* ([\d.]+) s after QEMU")
PHASES = {
    "the runtime imported": re.compile("the guest: imported"),
    "the module loaded": re.compile("the guest: loaded"),
    "the application entered": re.compile("the guest: entered"),
}
INIT = re.compile("Run /sbin/init as init process")


@dataclass(frozen=True, slots=True)
class Empty:
    """The machine with the empty init."""

    image: Image
    """One of the Linux flavour, whose kernel it has."""
    accel: Accel
    init: Path
    """The initramfs."""

    def boot(self) -> float:
        began = time.monotonic()
        command = [*_silent(self.image, self.accel), "-initrd", str(self.init)]
        subprocess.run(command, stdin=subprocess.DEVNULL, check=True, capture_output=True, timeout=TIME)
        return (time.monotonic() - began) * 1e3


def empty(found: Image, accel: Accel, scratch: Path) -> Empty:
    """Raises SystemExit for an image whose kernel is not ours: one with modules doesn't start an init of this kind."""
    if found.manifest.root.type != "erofs":
        raise SystemExit(
            "bench: the image has Debian's kernel; install what ours is built with: sudo apt install gcc make"
        )
    cpio = scratch / "init.cpio"
    cpio.write_bytes(archive(compiled(EMPTY_INIT, scratch / "init", *STATIC).read_bytes()))
    return Empty(found, accel, cpio)


def _silent(found: Image, accel: Accel) -> list[str]:
    """The launcher's machine, with its serial ports connected to nothing."""
    serial = [(name, "null") for name in (control.CONTROL, control.STDIO, control.STDERR, control.STDIN)]
    return qemu(found, found.flavour.memory, accel, serial)


def first_instruction(found: Image, accel: Accel) -> float:
    """Until Linux begins its init, which is when it has printed `INIT`; all its messages come with that one."""
    command = [word.replace("quiet", "loglevel=7") if "console=" in word else word for word in _silent(found, accel)]
    began = time.monotonic()
    with watched(command) as process:
        _, when = process.heard(INIT)
    return (when - began) * 1e3


def first_output(path: Path, accel: Accel) -> float:
    """From the start of QEMU, without the launcher, until the greeting of the WASI program is on the console."""
    found = image.read(path)
    command = qemu(found, found.flavour.memory, accel)
    began = time.monotonic()
    with watched(command) as process:
        _, when = process.heard(re.compile(f"^{GREETING}"))
    return (when - began) * 1e3


def boot(path: Path, accel: Accel, phases: Mapping[str, re.Pattern[str]]) -> dict[str, float]:
    """The http demo's way to its first answer, from the start of QEMU; and the whole, from that of the launcher."""
    port = free_port()
    began = time.monotonic()
    with watched(launcher(path, accel, "--verbose", "-p", f"{port}:3000")) as run:
        found, up = run.heard(UP)
        started = up - float(found[1])
        times = {name: run.heard(pattern)[1] for name, pattern in {**phases, SERVES: SERVING}.items()}
        ask(port)
        answered = time.monotonic()
    since = {name: (when - started) * 1e3 for name, when in ({UP_NAME: up} | times | {ANSWERED: answered}).items()}
    return since | {LAUNCHED: (answered - began) * 1e3}


def restored(path: Path, accel: Accel, saved: Path) -> float:
    """From the start of the launcher to the first answer of a machine that goes on from a snapshot."""
    port = free_port()
    began = time.monotonic()
    with watched(launcher(path, accel, "--restore", str(saved), "-p", f"{port}:3000")) as run:
        run.heard(SERVING)
        ask(port)
        return (time.monotonic() - began) * 1e3


def on_demand(path: Path, accel: Accel) -> float:
    """From a client's connection, to a launcher that listens and has no machine, to the answer."""
    port = free_port()
    with watched(launcher(path, accel, "--on-demand", "-p", f"{port}:3000")) as run:
        run.heard(SERVING)
        began = time.monotonic()
        ask(port)
        return (time.monotonic() - began) * 1e3


def save(path: Path, to: Path) -> Accel:
    """Saves a machine that serves; returns what it runs under here."""
    command = launcher(path, "auto", "--snapshot", str(to))
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIME)
    return snapshot.read(to).accel


def time_rows(rounds: Sequence[Mapping[str, float]]) -> list[Row]:
    """The median of each time, and its multiple of the empty init's."""
    floor = median([times[FLOOR] for times in rounds])
    by_name = {name: [times[name] for times in rounds] for name in rounds[0]}
    return [Row(name, "ms", median(times), floor, spread(times)) for name, times in by_name.items()]
