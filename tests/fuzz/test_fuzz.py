"""A short, seeded part of `make fuzz`, and that the harness finds what is planted."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from slight_py.component import system
from slight_py.component.instance import ComponentInstance
from tests.command import ROOT
from tests.fuzz import components, guests, modules, playing, requests, scripts, serving, smith, worlds
from tests.fuzz.harness import TURNS, Findings, Limits, Worker, case_of, fuzz
from tests.fuzz.playing import Found, Play, Player
from tests.fuzz.requests import Conversation
from tests.fuzz.scripts import Case, Script
from tests.fuzz.serving import Server
from tests.fuzz.target import rng_of
from tests.fuzz.worlds import Step
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
    # Until a target answers its first case it imports a lot, which takes a while where there is more to do.
    limits = Limits(seconds=5 if fault == "hang" else 30, memory=400 << 20)
    totals = fuzz(7, Findings(tmp_path), cases=3, limits=limits, command=planted(fault))
    assert dict(totals.findings) == {f"{TURNS[1]}: {what}": 1}
    (place,) = tmp_path.iterdir()
    assert (place / "input").read_text() == "case 1"
    assert detail in (place / "stderr").read_text()
    kept = json.loads((place / "case.json").read_text())
    assert (kept["seed"], kept["number"], kept["finding"]) == (7, 1, what)
    assert kept["replay"].endswith(f"-m tests.fuzz replay {place}")


def test_a_planted_fault_is_found_three_times_in_files_and_counted_beyond(tmp_path: Path) -> None:
    totals = fuzz(7, Findings(tmp_path), cases=18, command=planted("raise"))
    others = {f"{kind}: exception": 1 for kind in ("requests", "component", "script")}
    assert dict(totals.findings) == {"module: exception": 4, "guest: exception": 2, **others}
    assert len(list(tmp_path.iterdir())) == 3 + 2 + len(others)


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
        makers: tuple[Callable[[random.Random], object], ...] = (
            guests.make, requests.make, components.make, scripts.make, lambda rng: modules.make(rng, known),
        )  # fmt: skip
        for make in makers:
            case = case_of(SEED, number)
            assert make(rng_of(case)) == make(rng_of(case))
    assert case_of(1, 1) != case_of(2, 1)


def test_a_batch_of_requests_is_read_back_from_its_file() -> None:
    for number in range(20):
        batch = requests.make(random.Random(number))
        assert requests.from_bytes(requests.to_bytes(batch)) == batch


def test_scripts_are_read_back_from_their_file() -> None:
    for number in range(5):
        case = scripts.make(random.Random(number))
        assert scripts.from_bytes(scripts.to_bytes(case)) == case


# What scripts are held against.


def test_every_function_of_wasi_can_be_called_by_a_script() -> None:
    """Those that there are to import, but those of the versions of drafts that share their names with others'."""
    called = {call.name for name in worlds.NAMES for call in worlds.named(name).calls if "#" in call.name}
    for interface in system.interfaces():
        bindings = importlib.import_module(system.bindings(interface)[interface])
        assert {f"{bindings.INTERFACE}#{each.name}" for each in bindings.IMPORTS} <= called, interface


def script(*steps: bytes, entry: str = "handle") -> Script:
    request = {"head": "GET / HTTP/1.1\r\nHost: a\r\n", "body": "", "end": "wait"}
    return Script(entry, [(worlds.SCRIPT_AT, b"".join(steps))], request)


def step(number: int, *operands: int) -> bytes:
    return struct.pack("<H", number) + b"".join(struct.pack("<IQ", 0, each) for each in operands)


def test_a_script_runs_beside_one_that_never_ends(tmp_path: Path) -> None:
    honest = scripts.write(random.Random(1), worlds.named("0.2 utf8"), "handle", honest=True)
    endless = script(step(Step.FOREVER))
    assert Player(tmp_path).play(Case("0.2 utf8", [honest, endless, script(step(Step.TRAP), entry="run")])) == 3


def finding(tmp_path: Path, *found: Script) -> str:
    with pytest.raises(Found) as raised:
        Player(tmp_path).play(Case("0.2 utf8", [*found]))
    return raised.value.what


def test_a_server_that_does_not_answer_the_honest_is_found(tmp_path: Path) -> None:
    assert finding(tmp_path, replace(script(step(Step.TRAP)), honest=True)) == "no-answer"


def test_a_secret_in_a_guests_memory_is_found(tmp_path: Path) -> None:
    leaking = script(step(Step.STOP, 0))
    leaking.image.append((worlds.DATA_AT, playing.SECRET))
    assert finding(tmp_path, leaking) == "escape"


def test_an_instance_and_a_task_that_are_left_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playing, "LATE", 0.5)
    monkeypatch.setattr(ComponentInstance, "close", lambda _self: None)
    assert finding(tmp_path, script(step(Step.STOP, 0))) == "leak"


def test_files_that_are_left_open_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    monkeypatch.setattr(
        Play, "prepare", lambda *_: opened.extend(os.open(tmp_path, os.O_RDONLY) for _ in range(playing.KEPT + 1))
    )
    try:
        player = Player(tmp_path)
        case = Case("0.2 utf8", [script(step(Step.STOP, 0))])
        player.play(case)  # how many there are after the first one is no finding
        with pytest.raises(Found, match="file descriptors are left"):
            player.play(case)
    finally:
        for each in opened:
            os.close(each)


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
