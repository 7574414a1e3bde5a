"""An application as a virtual machine: how large its image is, what memory it takes, how soon and how fast it answers.

    python -m bench.image [--rounds N] [--seconds S] [--save] [linux] [native]

`linux` boots four machines of the Linux flavour in each round: one with an empty init, one that is stopped at its init,
one that serves, and one that goes on from a snapshot. `native` has both flavours in each round, see native.py. Without
either, both are measured. Times are those of the host's monotonic clock, medians of the rounds, and begin with the
QEMU process unless the row says otherwise. What they are compared with is the same kernel in the same machine with a
static init that does nothing but reboot, from the start of QEMU to its end.

The first instruction of init is taken to be the moment when the kernel's line `Run /sbin/init as init process` is
here: the kernel prints it right before it executes init. For that it prints all its other messages as well
(`loglevel=7` in place of `quiet`), which takes time of its own; so it is an upper bound. What follows is when the
launcher has heard of it: the guest is up with its hello, which process 1 sends once it has mounted file systems
and found its channels. QEMU's start comes from the launcher, with the digits that its message has.

`--save` measures all, and fills the tables of docs/image.md and docs/performance.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import boots, document, images, native, service
from bench.boots import FLOOR, PHASES, Empty, time_rows
from bench.images import DEMO, SERVICE, parts, sizes_table
from bench.machines import TIME, Ended, least_memory
from bench.native import Compared, Flavours, comparison
from bench.plots import Bar, Group, svg
from bench.processes import ROOT, require
from bench.table import Row, table
from unikernel import image
from unikernel.machine import Accel

LINUX, NATIVE = "linux", "native"

Sizes = Mapping[str, Mapping[str, int]]
"""The bytes of each part of images."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found. What was not asked for is empty."""

    accel: Accel
    sizes: Sizes
    """Of the Linux flavour's images."""
    rows: Sequence[Row]
    native_sizes: Sizes
    compared: Sequence[Compared]

    def tables(self) -> dict[str, str]:
        """The tables by the names that they have in documents."""
        found = {}
        if self.rows:
            found["image-sizes"] = sizes_table(self.sizes)
            found["image-times"] = table(self.rows, f"under {self.accel.upper()}", "empty init")
        if self.compared:
            found["native-sizes"] = sizes_table(self.native_sizes)
            found["native"] = comparison(self.compared, self.accel)
        return found

    def as_json(self) -> dict[str, object]:
        return {
            "machine": document.machine(),
            "accelerator": self.accel,
            "sizes": self.sizes,
            "rows": [row.as_json() for row in self.rows],
            "native sizes": self.native_sizes,
            "native": [row.as_json() for row in self.compared],
        }


def measure(what: Sequence[str], rounds: int, seconds: float, kernel: Path | None, scratch: Path) -> Measured:
    """Builds the images and measures them. `kernel` is a native kernel in place of ours."""
    apps = images.build_apps(scratch)
    built = images.build_images(apps, scratch / "linux")
    saved = scratch / "snapshot"
    accel = boots.save(built[DEMO], saved)
    empty = boots.empty(image.read(built[DEMO]), accel, scratch)
    sizes: dict[str, dict[str, int]] = {}
    native_sizes: dict[str, dict[str, int]] = {}
    rows: list[Row] = []
    compared: list[Compared] = []
    if LINUX in what:
        built[SERVICE] = images.built(scratch / "service.img")
        sizes = {name: parts(path) for name, path in built.items()}
        rows = linux(built, empty, saved, scratch, rounds)
    if NATIVE in what:
        options = ("--native", *(("--kernel", str(kernel)) if kernel else ()))
        small = images.build_images(apps, scratch / "native", *options)
        native_sizes = {name: parts(path) for name, path in small.items()}
        flavours = Flavours({"linux": built, "native": small}, empty, accel, rounds, seconds)
        compared = flavours.rows(scratch)
    return Measured(accel, sizes, rows, native_sizes, compared)


def linux(built: Mapping[str, Path], empty: Empty, saved: Path, scratch: Path, rounds: int) -> list[Row]:
    """The rows of the Linux flavour. `saved` is a snapshot of the http demo."""
    demo, accel = built[DEMO], empty.accel
    found = image.read(demo)
    times = time_rows(
        [
            {
                FLOOR: empty.boot(),
                "first instruction of init": boots.first_instruction(found, accel),
                **boots.boot(demo, accel, PHASES),
                "first answer of a snapshot, likewise": boots.restored(demo, accel, saved),
            }
            for _ in range(rounds)
        ]
    )
    memory = least_memory(demo, accel, found.flavour.memory, native.MEMORY_STEPS["linux"])
    return [
        *times,
        Row("the snapshot's file on the disk", "MB", saved.stat().st_blocks * 512 / 1e6),
        Row("the least --memory that serves", "MiB", memory / (1 << 20)),
        service.row(built[SERVICE], accel, scratch, rounds),
    ]


def plot(sizes: Sizes, times: Sequence[Row], accel: str) -> str:
    """The Linux flavour's sizes and times as SVG. Of the rows, those with a unit of ms are drawn."""
    demo = sorted(sizes[DEMO].items(), key=lambda part: -part[1])
    bars = [
        Bar(row.name, row.ours, f"{row.ratio:.1f} ×" if row.ratio is not None else "", row.name == FLOOR)
        for row in times
        if row.unit == "ms"
    ]
    groups = [
        Group("Image", "MB", [Bar(name, image_parts["whole"] / 1e6) for name, image_parts in sizes.items()]),
        Group("The http demo's image by part", "MB", [Bar(name, size / 1e6) for name, size in demo if name != "whole"]),
        Group(f"Time until, under {accel.upper()}, from QEMU's start unless another is named", "ms", bars),
    ]
    return svg("An application as a virtual machine", groups)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.image", description="Measures images and their machines.")
    parser.add_argument("what", nargs="*", choices=[[], LINUX, NATIVE], help="one flavour's rows (all)")
    parser.add_argument("--rounds", type=int, default=5, help="how many of each (5)")
    parser.add_argument("--seconds", type=float, default=2, help="how long each load of requests lasts (2)")
    parser.add_argument("--kernel", type=Path, metavar="FILE", help="a native kernel in place of ours, to try it")
    parser.add_argument("--save", action="store_true", help="measure all, and keep numbers, plot and tables in docs/")
    options = parser.parse_args()
    if options.save and (options.what or options.kernel):
        parser.error("--save is for all rows, of our own kernel")
    require("wrk", "taskset")
    with tempfile.TemporaryDirectory() as scratch:
        what = options.what or (LINUX, NATIVE)
        try:
            found = measure(what, options.rounds, options.seconds, options.kernel, Path(scratch))
        except Ended as ended:
            raise SystemExit(
                f"bench: a machine ended before it was ready, or took more than {TIME:g} s:\n{ended}"
            ) from None
    tables = found.tables()
    print(*tables.values(), sep="\n\n")
    if options.save:
        save(found, tables)


def save(found: Measured, tables: Mapping[str, str]) -> None:
    """Keeps all in docs/: what is of the native flavour in performance.md, and everything else in image.md."""
    native_tables = {name: content for name, content in tables.items() if name.startswith("native")}
    others = {name: content for name, content in tables.items() if name not in native_tables}
    plots = {"image.svg": plot(found.sizes, found.rows, found.accel)}
    document.save("image", found.as_json(), plots, others, ROOT / "docs/image.md")
    text = document.PERFORMANCE.read_text()
    for name, content in native_tables.items():
        text = document.fill(text, name, content)
    document.PERFORMANCE.write_text(text)


if __name__ == "__main__":
    main()
