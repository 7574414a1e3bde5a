"""An application as a virtual machine: how large its image is, what memory it takes, how soon it answers.

    python -m bench.image [--rounds N] [--save [DIRECTORY]]

Each round boots four machines in turn: one with an empty init, one that is stopped at its init, one that serves, and
one that goes on from a snapshot. Times are those of the host's monotonic clock, medians of the rounds, and begin with
the QEMU process unless the row says otherwise. What they are compared with is the same kernel in the same machine
with a static init that does nothing but reboot, from the start of QEMU to its end.

The first instruction of init is taken to be the moment when the kernel's line `Run /sbin/init as init process` is
here: the kernel prints it right before it executes init. For that it prints all its other messages as well
(`loglevel=7` in place of `quiet`), which takes time of its own; so it is an upper bound. What follows is when the
launcher has heard of it: Python is up with the guest's hello, which process 1 sends once it has mounted file systems
and found its channels. QEMU's start comes from the launcher, with the digits that its message has.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.plots import Bar, Group, svg
from bench.processes import ROOT, free_port, median, spread
from bench.table import Row, matrix, number, table
from unikernel import control, image, machine, snapshot
from unikernel.image import Image
from unikernel.machine import Accel, Machine

MEMORY = 256 << 20
"""Bytes that a machine has by default."""

MEMORY_STEP, MEMORY_TIME = 4, 30.0
"""MiB between two amounts of memory that are tried, and the seconds that each has to answer."""

REQUESTS = 10
"""Those that a machine answers if its memory is enough."""

JOBS, JOB = 1000, 1024
"""Jobs of the function service in a round, and the bytes of each."""

BUILD_TIME, TIME = 900.0, 60.0
"""Seconds for building an image, with the kernel if there is none yet, and for everything else."""

SLIGHT_PY_IMAGE = (sys.executable, "-m", "slight_py", "image")

HTTP, KEYVALUE = "http-server-demo-rust", "keyvalue-demo-rust"

EMPTY_INIT = """
#include <sys/reboot.h>
int main(void) { return reboot(RB_AUTOBOOT); }
"""

HELLO = """
#include <stdio.h>
int main(void) { puts("hello"); }
"""

UPPER = """
static unsigned char buffer[65536];
__attribute__((export_name("get_buffer_ptr"))) unsigned char *get_buffer_ptr(void) { return buffer; }
__attribute__((export_name("get_buffer_size"))) int get_buffer_size(void) { return sizeof buffer; }
__attribute__((export_name("process_data"))) int process_data(int length) {
    for (int i = 0; i < length; i++) buffer[i] &= 0xdf;
    return length;
}
"""

NATIVE = ("-target", "x86_64-linux-musl", "-static")
WASI = ("-target", "wasm32-wasi")
REACTOR = (*WASI, "-mexec-model=reactor")

UP = re.compile(r"the guest is up, .* ([\d.]+) s after QEMU")
PHASES = {
    "the runtime imported": re.compile("the guest: imported"),
    "the module loaded": re.compile("the guest: loaded"),
    "the application entered": re.compile("the guest: entered"),
    "serving": re.compile("serving at"),
}
INIT = re.compile("Run /sbin/init as init process")

FLOOR = "an empty init, to QEMU's end"


class Ended(Exception):
    """A process ended, or its time did, before it said what was waited for."""


class Watched:
    """A process, and what it says line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._last: deque[str] = deque(maxlen=5)

    def heard(self, pattern: re.Pattern[str]) -> tuple[re.Match[str], float]:
        """The next line that matches, and when it came. Raises Ended."""
        assert self._process.stdout is not None
        for text in self._process.stdout:
            when = time.monotonic()
            self._last.append(text)
            if found := pattern.search(text):
                return found, when
        raise Ended("".join(self._last))


@contextmanager
def watched(command: Sequence[str], limit: float = TIME) -> Iterator[Watched]:
    """Runs a command, and ends it at the end, or after `limit` seconds."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    timer = threading.Timer(limit, process.kill)
    timer.start()
    try:
        yield Watched(process)
    finally:
        process.terminate()
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate(timeout=20)
        timer.cancel()


def launcher(path: Path, accel: str, *options: str) -> list[str]:
    return [*SLIGHT_PY_IMAGE, "run", str(path), "--accel", accel, *options]


# What is measured.


def compiled(source: str, output: Path, *options: str) -> Path:
    """Compiles a C program."""
    written = output.with_suffix(".c")
    written.write_text(source)
    command = [sys.executable, "-m", "ziglang", "cc", *options, "-Os", "-s", "-o", str(output), str(written)]
    subprocess.run(command, check=True, timeout=BUILD_TIME)
    return output


def built(app: Path | None, output: Path) -> Path:
    """Builds an image, of the function service if there is no app."""
    command = [*SLIGHT_PY_IMAGE, "build", *([str(app)] if app else []), "-o", str(output)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=BUILD_TIME)
    return output


def build_all(scratch: Path) -> dict[str, Path]:
    """The images by their names."""
    examples = [sys.executable, str(ROOT / "examples/build.py"), HTTP, KEYVALUE]
    subprocess.run(examples, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=BUILD_TIME)
    hello = compiled(HELLO, scratch / "hello.wasm", *WASI)
    apps = {
        "http demo": ROOT / f"examples/build/{HTTP}.wasm",
        "keyvalue demo": ROOT / f"examples/build/{KEYVALUE}.wasm",
        "WASI hello": hello,
        "function service": None,
    }
    return {name: built(app, scratch / f"{name.replace(' ', '-')}.img") for name, app in apps.items()}


def parts(path: Path) -> dict[str, int]:
    """The bytes of each part of an image, and of the whole."""
    command = [*SLIGHT_PY_IMAGE, "inspect", "--json", str(path)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=TIME)
    report = json.loads(done.stdout)
    return {part["name"]: part["size"] for part in report["parts"]} | {"whole": report["bytes"]}


def archive(init: bytes) -> bytes:
    """An initramfs with nothing in it but /init. The format is newc, see the kernel's buffer-format.rst."""
    content = bytearray()
    for name, mode, file in (("init", 0o100755, init), ("TRAILER!!!", 0, b"")):
        encoded = name.encode() + b"\0"
        fields = (1, mode, 0, 0, 1, 0, len(file), 0, 0, 0, 0, len(encoded), 0)
        content += b"070701" + b"".join(b"%08X" % field for field in fields)
        for each in (encoded, file):
            content += each
            content += bytes(-len(content) % 4)
    return bytes(content)


@dataclass(frozen=True, slots=True)
class Bench:
    """The image of the http demo, in the ways that it is measured. Times are in milliseconds."""

    path: Path
    image: Image
    accel: Accel
    init: Path
    """The initramfs with the empty init."""
    snapshot: Path

    def round(self) -> dict[str, float]:
        """All times once."""
        return {
            FLOOR: self._empty(),
            "first instruction of init": self._init(),
            **self._boot(),
            "first answer of a snapshot, likewise": self._restored(),
        }

    def _qemu(self) -> list[str]:
        """The launcher's machine, with its serial ports connected to nothing and the kernel's messages on stdout."""
        serial = [(name, "null") for name in (control.CONTROL, control.STDIO, control.STDERR, control.STDIN)]
        template = Machine(self.image, MEMORY, 1, self.accel, "stdio", serial=serial)
        return [str(machine.find()), *machine.arguments(template), "-no-reboot"]

    def _empty(self) -> float:
        began = time.monotonic()
        command = [*self._qemu(), "-initrd", str(self.init)]
        subprocess.run(command, stdin=subprocess.DEVNULL, check=True, capture_output=True, timeout=TIME)
        return (time.monotonic() - began) * 1e3

    def _init(self) -> float:
        command = [word.replace("quiet", "loglevel=7") if "console=" in word else word for word in self._qemu()]
        began = time.monotonic()
        with watched(command) as qemu:
            _, when = qemu.heard(INIT)
        return (when - began) * 1e3

    def _boot(self) -> dict[str, float]:
        port = free_port()
        began = time.monotonic()
        with watched(launcher(self.path, self.accel, "--verbose", "-p", f"{port}:3000")) as run:
            found, up = run.heard(UP)
            qemu = up - float(found[1])
            times = {"Python up": up} | {name: run.heard(pattern)[1] for name, pattern in PHASES.items()}
            ask(port)
            answered = time.monotonic()
        since_qemu = {name: (when - qemu) * 1e3 for name, when in (times | {"first answer": answered}).items()}
        return since_qemu | {"first answer, from the launcher's start": (answered - began) * 1e3}

    def _restored(self) -> float:
        port = free_port()
        began = time.monotonic()
        options = ("--restore", str(self.snapshot), "-p", f"{port}:3000")
        with watched(launcher(self.path, self.accel, *options)) as run:
            run.heard(PHASES["serving"])
            ask(port)
            return (time.monotonic() - began) * 1e3

    def least_memory(self) -> int:
        """The least MiB with which the demo is served. Raises SystemExit where the default is not enough."""
        fails, works = 0, (MEMORY >> 20) // MEMORY_STEP
        if not self._serves_with(works * MEMORY_STEP):
            raise SystemExit(f"bench: {self.path.name} does not answer within {MEMORY_TIME:g} s")
        while works - fails > 1:
            middle = (works + fails) // 2
            if self._serves_with(middle * MEMORY_STEP):
                works = middle
            else:
                fails = middle
        return works * MEMORY_STEP

    def _serves_with(self, memory: int) -> bool:
        port = free_port()
        command = launcher(self.path, self.accel, "--memory", f"{memory}M", "-p", f"{port}:3000")
        try:
            with watched(command, MEMORY_TIME) as run:
                run.heard(PHASES["serving"])
                for _ in range(REQUESTS):
                    ask(port)
        except (Ended, OSError, http.client.HTTPException):
            return False
        return True


def ask(port: int) -> None:
    """One request, over a connection of its own. Raises OSError or HTTPException where it isn't answered with 200."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", "/hello")
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise http.client.HTTPException(f"the status is {answer.status}")


def saved(path: Path, to: Path) -> Accel:
    """Saves a machine that serves; returns what it runs under here."""
    command = launcher(path, "auto", "--snapshot", str(to))
    subprocess.run(command, cwd=ROOT, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIME)
    return snapshot.read(to).accel


def jobs_per_second(path: Path, accel: str, module: bytes, folder: Path, rounds: int) -> list[float]:
    """The speed of the function service, whose sockets are made in `folder`."""
    payload = b"a" * JOB
    with (
        watched(launcher(path, accel, "--channel", str(folder)), TIME * (1 + rounds)),
        connected(folder / "command.sock") as command,
        connected(folder / "data.sock") as data,
        command.makefile("rb") as answers,
        data.makefile("rb") as results,
    ):
        command.sendall(b"MODULE %d\n" % len(module) + module)
        expect(answers.readline(), b"READY 65536\n")
        speeds = []
        for _ in range(rounds):
            began = time.monotonic()
            for _ in range(JOBS):
                command.sendall(b"JOB %d\n" % JOB)
                data.sendall(payload)
                expect(answers.readline(), b"DONE %d\n" % JOB)
                expect(results.read(JOB), payload.upper())
            speeds.append(JOBS / (time.monotonic() - began))
    return speeds


@contextmanager
def connected(path: Path) -> Iterator[socket.socket]:
    """A connection to a socket that is about to be made."""
    end = time.monotonic() + TIME
    with socket.socket(socket.AF_UNIX) as opened:
        opened.settimeout(TIME)
        while opened.connect_ex(str(path)):
            if time.monotonic() > end:
                raise SystemExit(f"bench: no machine listens at {path.name} after {TIME:g} s")
            time.sleep(0.01)
        yield opened


def expect(received: bytes, expected: bytes) -> None:
    if received != expected:
        raise SystemExit(f"bench: the function service said {received[:100]!r} in place of {expected[:100]!r}")


# What is said of it.


def sizes_table(sizes: Mapping[str, Mapping[str, int]]) -> str:
    """The parts of the images in MB, a column for each image."""
    names = list(dict.fromkeys(name for image_parts in sizes.values() for name in image_parts))
    names.sort(key="whole".__eq__)
    rows = [(name, [number(each.get(name, 0) / 1e6) for each in sizes.values()]) for name in names]
    return matrix("part, MB", list(sizes), rows)


def time_rows(rounds: Sequence[Mapping[str, float]]) -> list[Row]:
    """The median of each time, and its multiple of the empty init's."""
    floor = median([each[FLOOR] for each in rounds])
    times = {name: [each[name] for each in rounds] for name in rounds[0]}
    return [Row(name, "ms", median(each), floor, spread(each)) for name, each in times.items()]


def plot(sizes: Mapping[str, Mapping[str, int]], times: Sequence[Row], accel: str) -> str:
    """The sizes and times as SVG. `times` are those of `time_rows`."""
    demo = sorted(sizes["http demo"].items(), key=lambda part: -part[1])
    groups = [
        Group("Image", "MB", [Bar(name, each["whole"] / 1e6) for name, each in sizes.items()]),
        Group("The http demo's image by part", "MB", [Bar(name, size / 1e6) for name, size in demo if name != "whole"]),
        Group(
            f"Time until, under {accel.upper()}, from QEMU's start unless another is named",
            "ms",
            [Bar(row.name, row.ours, f"{row.ratio:.1f} ×", row.name == FLOOR) for row in times],
        ),
    ]
    return svg("An application as a virtual machine", groups)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.image", description="Measures images and their machines.")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is booted (5)")
    parser.add_argument(
        "--save", type=Path, nargs="?", const=ROOT / "docs", metavar="DIRECTORY",
        help="keep numbers and plot as image.json and image.svg (docs)",
    )  # fmt: skip
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            measure(Path(scratch), options.rounds, options.save)
        except Ended as ended:
            raise SystemExit(
                f"bench: a machine ended before it was ready, or took more than {TIME:g} s:\n{ended}"
            ) from None


def measure(scratch: Path, rounds: int, save: Path | None) -> None:
    images = build_all(scratch)
    sizes = {name: parts(path) for name, path in images.items()}
    print(sizes_table(sizes), end="\n\n", flush=True)
    demo, kept = images["http demo"], scratch / "snapshot"
    accel = saved(demo, kept)
    init = compiled(EMPTY_INIT, scratch / "init", *NATIVE)
    cpio = scratch / "init.cpio"
    cpio.write_bytes(archive(init.read_bytes()))
    found = image.read(demo)
    if found.manifest.root.type != "erofs":
        raise SystemExit(
            "bench: the image has Debian's kernel; install what ours is built with: sudo apt install gcc make"
        )
    bench = Bench(demo, found, accel, cpio, kept)
    times = time_rows([bench.round() for _ in range(rounds)])
    rows = [
        *times,
        Row("the snapshot's file on the disk", "MB", kept.stat().st_blocks * 512 / 1e6),
        Row("the least --memory that serves", "MiB", bench.least_memory()),
    ]
    module = compiled(UPPER, scratch / "upper.wasm", *REACTOR).read_bytes()
    speeds = jobs_per_second(images["function service"], accel, module, scratch / "channel", rounds)
    rows.append(Row(f"the function service, jobs of {JOB:,} bytes", "jobs/s", median(speeds), None, spread(speeds)))
    print(table(rows, f"under {accel.upper()}", "empty init"))
    if save:
        save.mkdir(exist_ok=True)
        kept_numbers = {"accelerator": accel, "sizes": sizes, "rows": [row.as_json() for row in rows]}
        (save / "image.json").write_text(json.dumps(kept_numbers, indent=1) + "\n")
        (save / "image.svg").write_text(plot(sizes, times, accel))


if __name__ == "__main__":
    main()
