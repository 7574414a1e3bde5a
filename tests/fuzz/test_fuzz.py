"""A short, seeded part of `make fuzz`, and that the harness finds what is planted."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import ROOT
from tests.fuzz import guests, modules, requests, serving, smith
from tests.fuzz.harness import TURNS, Findings, Limits, Worker, case_of, fuzz
from tests.fuzz.requests import Conversation
from tests.fuzz.serving import Server
from tests.fuzz.target import rng_of
from tests.guests import example

SEED = 4
CASES = 140
"""A few seconds' worth, enough to find that the C API ends the process at a v128 in a signature, were such modules not
refused. `make fuzz` goes on from there."""


@pytest.fixture(autouse=True)
def _without_smith(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same cases whether the Rust program is built or not."""
    monkeypatch.setenv(smith.VARIABLE, "")
    smith.built.cache_clear()


def test_nothing_is_found_with_a_seed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in modules.EXAMPLES:
        example(name)  # builds it
    totals = fuzz(SEED, Findings(tmp_path), cases=CASES, jobs=2)
    assert not totals.findings, capfd.readouterr().out
    assert totals.cases == CASES
    assert totals.modules > CASES / 2
    assert totals.calls > 0
    assert totals.requests > 0


# The harness itself.


def planted(fault: str) -> tuple[str, ...]:
    return (sys.executable, "-X", "faulthandler", "-m", "tests.fuzz.planted", fault)


FAULTS = {
    "abort": ("SIGABRT", "Fatal Python error: Aborted"),
    "exit": ("exit-3", "the process ended with 3"),
    "raise": ("exception", "ZeroDivisionError: planted"),
    "log": ("traceback", "Traceback (most recent call last): planted"),
    "hang": ("hang", "tests/fuzz/planted.py"),
    "memory": ("memory", "MiB of memory"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_kept_with_what_reproduces_it(fault: str, tmp_path: Path) -> None:
    what, detail = FAULTS[fault]
    limits = Limits(seconds=1 if fault == "hang" else 30, memory=400 << 20)
    totals = fuzz(7, Findings(tmp_path), cases=3, limits=limits, command=planted(fault))
    assert dict(totals.findings) == {f"{TURNS[1]}: {what}": 1}
    (place,) = tmp_path.iterdir()
    assert (place / "input").read_text() == "case 1"
    assert detail in (place / "stderr").read_text()
    kept = json.loads((place / "case.json").read_text())
    assert (kept["seed"], kept["number"], kept["finding"]) == (7, 1, what)
    assert kept["replay"].endswith(f"-m tests.fuzz replay {place}")


def test_a_planted_fault_is_found_three_times_in_files_and_counted_beyond(tmp_path: Path) -> None:
    totals = fuzz(7, Findings(tmp_path), cases=14, command=planted("raise"))
    assert dict(totals.findings) == {"module: exception": 4, "guest: exception": 2, "requests: exception": 1}
    assert len(list(tmp_path.iterdir())) == 3 + 2 + 1


@pytest.mark.parametrize(
    ("fault", "what"),
    {
        "death": "server-death",
        "traceback": "server-traceback",
        "status": "status-500",
        "hung": "hung-connection",
        "memory": "server-memory",
        "deaf": "no-answer",
        "lost": "lost-requests",
    }.items(),
)
def test_a_fault_of_a_server_is_found(fault: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if fault == "hung":
        monkeypatch.setattr(serving, "ENDING", 0.5)
    server = Server(tmp_path, [sys.executable, "-m", "tests.fuzz.planted", "serve", fault])
    try:
        harmless = Conversation([b"GET /hello HTTP/1.1\r\n\r\n"], [0.0], "half")
        assert asyncio.run(server.talk([harmless])) is None
        end, valid = ("wait", 1) if fault == "lost" else ("half", 0)
        said = Conversation([b"GET /fault HTTP/1.1\r\n\r\n"], [0.0], end, valid)
        found = asyncio.run(server.talk([said]))
        assert found is not None
        assert found[0] == what
    finally:
        server.stop()


def test_a_seed_and_a_number_give_the_same_case() -> None:
    known = modules.seeds()
    for number in range(40):
        for make in (guests.make, requests.make, lambda rng: modules.make(rng, known)):
            case = case_of(SEED, number)
            assert make(rng_of(case)) == make(rng_of(case))
    assert case_of(1, 1) != case_of(2, 1)


def test_a_batch_of_requests_is_read_back_from_its_file() -> None:
    for number in range(20):
        batch = requests.make(random.Random(number))
        assert requests.from_bytes(requests.to_bytes(batch)) == batch


def test_a_finding_is_replayed_from_its_files_and_from_its_seed(tmp_path: Path) -> None:
    place = tmp_path / "finding"
    place.mkdir()
    (place / "input").write_bytes(b"\0asm\1\0\0\0")
    (place / "case.json").write_text(json.dumps({"kind": "module"}))
    for words in ([str(place)], ["--seed", "1", "--case", "0"]):
        command = [sys.executable, "-m", "tests.fuzz", "replay", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (0, "nothing was found\n"), done.stderr


def test_the_command_runs_for_its_time_and_says_its_seed_and_its_totals(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", "run", "--minutes", "0.02", "--seed", "5", "--jobs", "1"]
    command += ["--without-smith", "--findings", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    first, last = done.stdout.splitlines()
    assert first == f"seed 5, 0.02 minutes, 1 processes; findings go to {tmp_path}"
    assert last.startswith("seed 5: ")
    assert last.endswith(" 0 findings")


def test_a_worker_goes_on_after_a_finding() -> None:
    with Worker(command=planted("abort")) as worker:
        found = [worker.run(case_of(1, number))["finding"] for number in range(4)]
    assert found == [None, "SIGABRT", None, "SIGABRT"]
