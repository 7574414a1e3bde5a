"""The native flavour of images beside the Linux flavour, in the same minutes, and beside an empty Linux init.

Both flavours serve the same module, from the same line but for `--native`. A round measures each thing once with
either flavour; the medians of the rounds are told, and held against what was promised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from bench import boots, instructions
from bench.boots import ANSWERED, Empty
from bench.images import DEMO, HELLO
from bench.machines import SERVING, TIME, launcher, least_memory, watched
from bench.processes import SERVER_CORE, free_port, median, spread, wrk
from bench.table import lines_table, number
from unikernel import image
from unikernel.machine import Accel

FlavourName: TypeAlias = Literal["native", "linux"]
FLAVOURS: Sequence[FlavourName] = ("linux", "native")

MEMORY_STEPS: Mapping[FlavourName, int] = {"linux": 4 << 20, "native": 1 << 19}
"""Bytes between two amounts of memory that are tried."""

_BESIDE = {"linux": "Linux", "empty": "empty init"}
"""What the table calls the other columns."""

CONNECTIONS = 32
"""Those that requests are sent over at once."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a number of the native flavour should be: at most `bound`, or at least."""

    bound: float
    against: Literal["", "linux", "empty"] = ""
    """What it is a multiple of; nothing: `bound` is in the unit of the row."""
    least: bool = False

    def met_by(self, value: float) -> bool:
        return value >= self.bound if self.least else value <= self.bound

    def text(self, unit: str) -> str:
        sign = "≥" if self.least else "≤"
        return f"{sign} {self.bound:g} {f'× {_BESIDE[self.against]}' if self.against else unit}"


@dataclass(frozen=True, slots=True)
class Compared:
    """What was measured of both flavours, and of the empty init if it is compared with that. Numbers are by round."""

    name: str
    unit: str
    native: Sequence[float]
    linux: Sequence[float]
    target: Target | None = None
    empty: Sequence[float] = field(default=())

    @property
    def ratio(self) -> float | None:
        """To what the target is a multiple of, else to the Linux flavour."""
        against = self.empty if self.target and self.target.against == "empty" else self.linux
        return median(self.native) / median(against) if against else None

    @property
    def met(self) -> bool | None:
        """Whether the target is reached, if there is one."""
        if self.target is None:
            return None
        value = self.ratio if self.target.against else median(self.native)
        return value is not None and self.target.met_by(value)

    def as_json(self) -> dict[str, object]:
        target = self.target.text(self.unit) if self.target else ""
        numbers = {"native": list(self.native), "linux": list(self.linux), "empty": list(self.empty)}
        return {"name": self.name, "unit": self.unit, **numbers, "target": target, "met": self.met}


def comparison(rows: Sequence[Compared], accel: Accel) -> str:
    """The rows as a Markdown table."""
    head = [f"under {accel.upper()}", "native", "Linux", "empty init", "ratio", "spread", "target"]
    return lines_table(head, [_cells(row) for row in rows])


def _cells(row: Compared) -> list[str]:
    native = median(row.native)

    def beside(numbers: Sequence[float]) -> str:
        return number(median(numbers), max(native, median(numbers))) if numbers else ""

    ratio = f"{row.ratio:.2f}" if row.ratio is not None else ""
    spreads = [spread(numbers) for numbers in (row.native, row.linux) if len(numbers) > 1]
    verdict = ("✓ " if row.met else "✗ ") + row.target.text(row.unit) if row.target else ""
    around = ", ".join(f"±{part:.0%}" for part in spreads)
    return [row.name, f"{number(native)} {row.unit}", beside(row.linux), beside(row.empty), ratio, around, verdict]


@dataclass(frozen=True, slots=True)
class Flavours:
    """The images of both flavours, by flavour and by name, and how they are measured."""

    images: Mapping[FlavourName, Mapping[str, Path]]
    empty: Empty
    accel: Accel
    rounds: int
    seconds: float
    """How long requests are sent, in each round, to a machine."""

    def rows(self, scratch: Path) -> list[Compared]:
        return [*self._sizes(), *self._starts(), *self._speed(), *self._instructions(scratch)]

    def _of(self, name: str) -> dict[FlavourName, Path]:
        return {flavour: self.images[flavour][name] for flavour in FLAVOURS}

    def _sizes(self) -> list[Compared]:
        demos = self._of(DEMO)
        files = {flavour: [path.stat().st_size / 1e6] for flavour, path in demos.items()}
        memory = {}
        for flavour, path in demos.items():
            most = image.read(path).flavour.memory
            memory[flavour] = [least_memory(path, self.accel, most, MEMORY_STEPS[flavour]) / 1e6]
        return [
            Compared("image of the http demo", "MB", files["native"], files["linux"], Target(2.5)),
            Compared("least memory that serves the http demo", "MB", memory["native"], memory["linux"], Target(12)),
        ]

    def _starts(self) -> list[Compared]:
        empty: list[float] = []
        outputs, answers, demands = (_lists() for _ in range(3))
        for _ in range(self.rounds):
            empty.append(self.empty.boot())
            for flavour in FLAVOURS:
                outputs[flavour].append(boots.first_output(self.images[flavour][HELLO], self.accel))
                demo = self.images[flavour][DEMO]
                answers[flavour].append(boots.boot(demo, self.accel, {})[ANSWERED])
                demands[flavour].append(boots.on_demand(demo, self.accel))

        def row(name: str, times: Mapping[FlavourName, Sequence[float]], most: float) -> Compared:
            return Compared(name, "ms", times["native"], times["linux"], Target(most, "empty"), empty)

        return [
            row("start of QEMU to the first output", outputs, 0.2),
            row("start of QEMU to the first HTTP answer", answers, 0.5),
            row("on demand: a client's connection to its answer", demands, 0.5),
        ]

    def _speed(self) -> list[Compared]:
        rates = _lists()
        with ExitStack() as machines:
            ports = {}
            for flavour, path in self._of(DEMO).items():
                ports[flavour] = free_port()
                command = launcher(path, self.accel, "-p", f"{ports[flavour]}:3000")
                limit = TIME + 4 * self.seconds * (self.rounds + 1)
                pinned = ["taskset", "-c", str(SERVER_CORE), *command]
                machines.enter_context(watched(pinned, limit)).heard(SERVING)
            for round_ in range(self.rounds + 1):
                for flavour, port in ports.items():
                    load = wrk(port, "/hello", self.seconds, CONNECTIONS)
                    if load.failed:
                        raise SystemExit(f"bench: {load.failed} requests to the {flavour} machine failed")
                    if round_:  # the first one is a warm-up
                        rates[flavour].append(load.requests_per_second)
        name = f"requests per second, {CONNECTIONS} connections"
        return [Compared(name, "requests/s", rates["native"], rates["linux"], Target(3, "linux", least=True))]

    def _instructions(self, scratch: Path) -> list[Compared]:
        folder = instructions.prepare(scratch)
        counted = {flavour: instructions.counted(path, folder, self.rounds) for flavour, path in self._of(DEMO).items()}
        instances = {flavour: [found.instance / 1e3 for found in counted[flavour]] for flavour in FLAVOURS}
        requests = {flavour: [found.request / 1e3 for found in counted[flavour]] for flavour in FLAVOURS}
        return [
            Compared(
                "instance for a request: the processor's instructions",
                "thousand",
                *(instances["native"], instances["linux"]),
                Target(1, "linux"),
            ),
            Compared("the whole request, likewise", "thousand", requests["native"], requests["linux"]),
        ]


def _lists() -> dict[FlavourName, list[float]]:
    return {flavour: [] for flavour in FLAVOURS}
