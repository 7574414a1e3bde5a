"""Runs cases in processes of their own and watches those: what ends, hangs or grows is a finding, with the files that
reproduce it."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.fuzz import smith
from tests.fuzz.serving import resident

ROOT = Path(__file__).resolve().parents[2]

TARGET = (sys.executable, "-X", "faulthandler", "-m", "tests.fuzz.target")

Kind = Literal["module", "guest", "requests", "component", "script"]
TURNS: tuple[Kind, ...] = ("module", "guest", "module", "requests", "module", "guest", "module", "component", "script")
"""The kinds of cases, in turn."""

EXAMPLES = 3
"""How many findings of one sort are kept; the rest is counted."""


@dataclass(frozen=True)
class Limits:
    """What one case may use."""

    seconds: float = 60.0
    memory: int = 1500 << 20
    """Bytes, without what is only reserved."""


@dataclass
class Totals:
    """What was done and found so far."""

    cases: int = 0
    modules: int = 0
    calls: int = 0
    requests: int = 0
    findings: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        found = sum(self.findings.values())
        return (
            f"{self.cases:,} cases: {self.modules:,} modules, {self.calls:,} calls, {self.requests:,} connections; "
            f"{found:,} findings"
        )


def case_of(seed: int, number: int, kind: str | None = None) -> dict[str, Any]:
    """The case of a seed with that number: of one kind, or of all in turn."""
    return {"kind": kind or TURNS[number % len(TURNS)], "seed": seed, "number": number}


class Worker:
    """A process that runs cases one after the other, and is replaced when it has ended."""

    def __init__(self, limits: Limits = Limits(), command: Sequence[str] = TARGET) -> None:
        self._limits = limits
        self._command = command
        self._scratch = tempfile.TemporaryDirectory(prefix="slight-py-fuzz-")
        self.directory = Path(self._scratch.name)
        self._process: subprocess.Popen[bytes] | None = None
        self._written = 0
        """How much stood on standard error before the case."""

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._scratch.cleanup()

    def run(self, case: dict[str, Any]) -> dict[str, Any]:
        """Runs a case; returns what the target answers, or in its place what became of the target."""
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        self._written = (self.directory / "stderr").stat().st_size
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(case).encode() + b"\n")
            process.stdin.flush()
        deadline = time.monotonic() + self._limits.seconds
        while not select.select((process.stdout,), (), (), 0.05)[0]:
            if time.monotonic() > deadline:
                # faulthandler writes where each of the threads is.
                process.send_signal(signal.SIGABRT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(5)
                return self._ended("hang", f"no end within {self._limits.seconds:g} seconds")
            if (size := resident(process.pid)) > self._limits.memory:
                return self._ended("memory", f"{size >> 20} MiB of memory")
        line = process.stdout.readline()
        if not line:
            code = process.wait()
            what = signal.Signals(-code).name if code < 0 else f"exit-{code}"
            return self._ended(what, f"the process ended with {code}")
        answer: dict[str, Any] = json.loads(line)
        if answer["finding"]:
            return self._ended(answer["finding"], answer["detail"], answer)
        if answer["last"]:
            self._end()
        return answer

    def _ended(self, what: str, detail: str, answer: dict[str, Any] | None = None) -> dict[str, Any]:
        """What was found, with what stands on standard error. The process is replaced: it may have suffered."""
        self._end()
        errors = (self.directory / "stderr").read_bytes()[self._written :].decode(errors="replace")
        return {**(answer or {}), "finding": what, "detail": f"{detail}\n{errors[-20_000:]}"}

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._end()
            for each in self.directory.iterdir():
                shutil.rmtree(each) if each.is_dir() else each.unlink()
            own = {"XDG_CACHE_HOME": str(self.directory / "cache"), "TMPDIR": str(self.directory)}
            # The cache is another one here, and the program that generates modules stays where it is.
            own[smith.VARIABLE] = str(smith.built() or "")
            with (self.directory / "stderr").open("wb") as errors:
                self._process = subprocess.Popen(
                    [*self._command, str(self.directory)], cwd=ROOT, env={**os.environ, **own}, stderr=errors,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
                )  # fmt: skip
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # and the server that it has started
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                with suppress(BrokenPipeError):
                    pipe.close()
            self._process = None


class Findings:
    """What was found, as files in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.counted: Counter[str] = Counter()
        self._lock = threading.Lock()

    def keep(self, case: dict[str, Any], answer: dict[str, Any], worker: Worker) -> str | None:
        """Writes what reproduces a finding, unless there is enough of its sort. Returns the command that replays it."""
        kind, what = case["kind"], answer["finding"]
        with self._lock:
            self.counted[f"{kind}: {what}"] += 1
            if self.counted[f"{kind}: {what}"] > EXAMPLES:
                return None
        name = f"{kind}-{what}-{case.get('seed', 'file')}-{case.get('number', 0)}"
        place = self.directory / name
        place.mkdir(parents=True, exist_ok=True)
        command = f"{os.path.relpath(sys.executable)} -m tests.fuzz replay {place}"
        with suppress(FileNotFoundError):
            shutil.copyfile(worker.directory / "input", place / "input")
        (place / "case.json").write_text(json.dumps({**case, "finding": what, "replay": command}, indent=2) + "\n")
        (place / "stderr").write_text(answer["detail"])
        return command


def fuzz(
    seed: int,
    findings: Findings,
    *,
    seconds: float | None = None,
    cases: int | None = None,
    jobs: int = 1,
    first: int = 0,
    kind: str | None = None,
    every: float = 60.0,
    limits: Limits = Limits(),
    command: Sequence[str] = TARGET,
) -> Totals:
    """Runs the cases of a seed from the number `first` on, for so many seconds or so many cases, in `jobs` processes at
    once; of one kind alone where that is given. Prints what it finds, and `every` so many seconds how far it is."""
    totals = Totals(findings=findings.counted)
    lock = threading.Lock()
    numbers = iter(range(first, first + cases) if cases is not None else range(first, 1 << 62))
    began = time.monotonic()
    faults: list[BaseException] = []

    def over() -> bool:
        return bool(faults) or (seconds is not None and time.monotonic() - began > seconds)

    def work() -> None:
        try:
            with Worker(limits, command) as worker:
                while not over():
                    with lock:
                        number = next(numbers, None)
                    if number is None:
                        return
                    case = case_of(seed, number, kind)
                    answer = worker.run(case)
                    if answer["finding"]:
                        replay = findings.keep(case, answer, worker)
                        if replay:
                            reason = answer["detail"].strip().splitlines() or [""]
                            print(f"FOUND {case['kind']} {answer['finding']} (seed {seed}, case {number}): {reason[0]}")
                            print(f"  {replay}", flush=True)
                    with lock:
                        totals.cases += 1
                        for name in ("modules", "calls", "requests"):
                            setattr(totals, name, getattr(totals, name) + answer.get(name, 0))
        except BaseException as error:  # told below, in the thread that waits
            faults.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    told = began
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.05)
        if time.monotonic() - told > every:
            told = time.monotonic()
            print(f"{(told - began) / 60:.0f} min: {totals}", flush=True)
    if faults:
        raise faults[0]
    return totals
