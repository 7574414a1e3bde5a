"""Where each microsecond of a hello goes.

    python -m bench.profile [--rounds N] [--before] [--save]

What is measured, on one core and in turn, and of each number the least of the rounds is told:

- the whole: the processor time of `slight-py run` for a request of wrk, user's and system's
- the steps, one by one, in a server under the same load: medians of what perf_counter says around each (hot_path.py,
  `serve`). Nearly all hellos are answered without a wait, so nothing else gets between two readings
- HTTP alone: the processor time for a request of a server whose dispatcher answers at once what the guest would
  (hot_path.py, `constant`), less the steps that both have, routing and the head of the answer
- the same steps in a loop without HTTP, where the processor's caches hold nothing else: medians, the least, and page
  faults in place of the time (hot_path.py, `loop`)

The sum of the parts is not the whole. What HTTP and guests take from each other's caches is in the steps, but not in
HTTP alone; medians leave out what happens now and then, as collections of garbage and the ticks of the engine's clock
do; and the readings take time of their own.

It is told of the code as it is built, and of the same without C (SLIGHT_PY_PURE=1). With `--before`, it is also told of
the commit BEFORE, whose tree comes from the history of the project, and its C through `cc -O2`, as `pip install` does.
`--save` takes that along, and writes docs/profile.json, docs/performance-profile.svg and docs/performance.md's table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from bench.document import machine, save
from bench.http import GUEST, cost
from bench.plots import Bar, Group, svg
from bench.processes import ROOT, SERVER_CORE, free_port, require, server, wrk
from bench.table import matrix

HOT_PATH = Path(__file__).resolve().parent / "hot_path.py"

BEFORE = "d918037"
"""The last commit before the work on speed that docs/performance.md tells of."""

HTTP, SUM, WHOLE = "HTTP: kernel, event loop, aiohttp", "sum of the parts", "the whole, measured"
FAULT = "one page fault of fresh memory"

OF_NOW = {"now, in a loop": "median", "now, at best": "least", "now, page faults": "faults"}
"""What is told of the steps in a loop, and what hot_path.py calls it."""

SHARED = ("routing, and the guest's request", "the head of the answer")
"""Steps that a server without a guest has, too."""

SECONDS = 2

Parts = dict[str, float]
"""Microseconds by step, or page faults."""


@contextmanager
def earlier(commit: str) -> Iterator[Path]:
    """The tree of a commit. Its C is compiled as far as there is any."""
    with tempfile.TemporaryDirectory() as scratch:
        found = subprocess.run(["git", "-C", str(ROOT), "archive", commit], capture_output=True, check=False)
        if found.returncode:
            raise SystemExit(f"bench: git gives no tree of {commit}: {found.stderr.decode().strip()}")
        subprocess.run(["tar", "-x", "-C", scratch], input=found.stdout, check=True)
        for name in ("slight_py/_store", "slight_py/_slots", "bindgen/runtime/_support"):
            source = Path(scratch, f"{name}.c")
            if source.exists():
                output = source.with_name(source.stem + sysconfig.get_config_var("EXT_SUFFIX"))
                include = f"-I{sysconfig.get_path('include')}"
                subprocess.run(["cc", "-O2", "-fwrapv", "-shared", "-fPIC", include, "-o", output, source], check=True)
        yield Path(scratch)


def cpu_of(arguments: Sequence[str], env: dict[str, str], port: int) -> float:
    """The processor time of a Python command that serves /hello, in µs for a request."""
    with server(["-P", *arguments], port, env) as started:
        wrk(port, "/hello", 1)
        return cost(started, SECONDS, "/hello").server * 1e6


def hot_path(*arguments: str) -> list[str]:
    return [str(HOT_PATH), *arguments]


def parts(tree: Path, pure: bool) -> tuple[Parts, dict[str, Parts]]:
    """One round: all parts, and what a loop says of the steps."""
    env = {"PYTHONPATH": str(tree), **({"SLIGHT_PY_PURE": "1"} if pure else {})}
    whole, alone, stepped = free_port(), free_port(), free_port()
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch, "steps.json")
        run = ["-m", "slight_py", "run", str(GUEST), "--env", f"ADDRESS=127.0.0.1:{whole}"]
        whole_cpu = cpu_of(run, env, whole)
        alone_cpu = cpu_of(hot_path("constant", str(alone)), env, alone)
        cpu_of(hot_path("serve", str(GUEST), str(stepped), str(output)), env, stepped)
        steps: Parts = json.loads(output.read_text())
        command = ["taskset", "-c", str(SERVER_CORE), sys.executable, "-P", *hot_path("loop", str(GUEST), str(output))]
        subprocess.run(command, env=os.environ | env, check=True, timeout=300)
        looped: dict[str, Any] = json.loads(output.read_text())
    http = alone_cpu - sum(steps[name] for name in SHARED)
    return {HTTP: http, **steps, WHOLE: whole_cpu, FAULT: looped["fault"]}, looped


def least(rounds: Sequence[Parts]) -> Parts:
    return {name: min(each[name] for each in rounds) for name in rounds[0]}


def measure(forms: Mapping[str, Callable[[], tuple[Parts, dict[str, Parts]]]], rounds: int) -> dict[str, Parts]:
    """The parts of each form, in turn, and of the form `now` what OF_NOW names."""
    found: dict[str, list[Parts]] = {}
    for _ in range(rounds):
        for name, once in forms.items():
            medians, others = once()
            found.setdefault(name, []).append(medians)
            if name == "now":
                for column, kind in OF_NOW.items():
                    found.setdefault(column, []).append(others[kind])
    return {name: least(each) for name, each in found.items()}


def profile_table(found: Mapping[str, Parts]) -> str:
    """A row for each step, a column for each form. A column without HTTP has no sum: it is of the steps alone."""
    apart = (WHOLE, FAULT)
    steps = [name for name in found["now"] if name not in apart]
    sums = {form: {SUM: sum(each[name] for name in steps)} for form, each in found.items() if HTTP in each}
    columns = {form: each | sums.get(form, {}) for form, each in found.items()}
    rows = [(name, [_number(each.get(name)) for each in columns.values()]) for name in (*steps, SUM, *apart)]
    return matrix("µs", list(found), rows)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def plot(found: Mapping[str, Parts]) -> str:
    """What each step takes now, and took before where that was measured."""
    before = found.get("before", {})
    bars = []
    for name, value in found["now"].items():
        if name != FAULT:
            bars.append(Bar(name, value))
            if name in before:
                bars.append(Bar("before", before[name], floor=True))
    return svg("A hello, step by step", [Group("Time on the server's core", "µs", bars)])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description="Measures the steps of a hello.")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (5)")
    parser.add_argument("--before", action="store_true", help=f"measure commit {BEFORE} as well")
    parser.add_argument("--save", action="store_true", help="that, and keep the numbers in docs/")
    options = parser.parse_args()
    require("wrk", "taskset")
    compare = options.before or options.save
    with earlier(BEFORE) if compare else nullcontext() as tree:
        forms = {"before": partial(parts, tree, False)} if tree else {}
        forms |= {"now": partial(parts, ROOT, False), "now, without C": partial(parts, ROOT, True)}
        found = measure(forms, options.rounds)
    print(profile_table(found))
    if options.save:
        numbers = {"machine": machine(), "before": BEFORE, "parts": found}
        save("profile", numbers, {"performance-profile.svg": plot(found)}, {"profile": profile_table(found)})


if __name__ == "__main__":
    main()
