"""`python -m tests.fuzz run` and `python -m tests.fuzz replay`: see tests/fuzz/README.md."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from tests.fuzz import smith
from tests.fuzz.harness import TURNS, Findings, Worker, case_of, fuzz


def main() -> int:
    options = _options()
    if options.command == "replay":
        return _replay(options)
    seed = secrets.randbits(32) if options.seed is None else options.seed
    if options.without_smith:
        os.environ[smith.VARIABLE] = ""
    elif reason := smith.build():
        print(f"without generated modules, as wasm-smith can't be built: {reason}")
    findings = Findings(options.findings)
    print(f"seed {seed}, {options.minutes:g} minutes, {options.jobs} processes; findings go to {options.findings}")
    seconds = options.minutes * 60 if options.cases is None else None
    totals = fuzz(
        seed, findings, seconds=seconds, cases=options.cases, jobs=options.jobs, first=options.first, kind=options.kind
    )
    print(f"seed {seed}: {totals}")
    for sort, count in sorted(findings.counted.items()):
        print(f"  {sort}: {count}")
    return 1 if findings.counted else 0


def _replay(options: argparse.Namespace) -> int:
    """Runs one case again, and says what becomes of it."""
    case: dict[str, Any]
    if options.finding is not None:
        kind = json.loads((options.finding / "case.json").read_text())["kind"]
        case = {"kind": kind, "file": str((options.finding / "input").resolve())}
    else:
        case = case_of(options.seed, options.case, options.kind)
    with Worker() as worker:
        answer = worker.run(case)
    print(f"{answer['finding']}\n{answer['detail']}" if answer["finding"] else "nothing was found")
    return 1 if answer["finding"] else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Looks for what breaks the runtime.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run cases for a time; exit code 1 where something was found")
    run.add_argument("--minutes", type=float, default=10, metavar="N", help="for how long (10)")
    run.add_argument("--cases", type=int, metavar="N", help="so many cases, in place of a time")
    run.add_argument("--kind", choices=sorted(set(TURNS)), help="cases of one kind alone (all in turn)")
    run.add_argument("--seed", type=int, metavar="S", help="of the cases (a random one)")
    run.add_argument("--first", type=int, default=0, metavar="N", help="the number of the first case (0)")
    run.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), metavar="N", help="processes (cores)")
    run.add_argument("--findings", type=Path, default=Path("fuzz-findings"), metavar="DIR", help="(fuzz-findings)")
    run.add_argument("--without-smith", action="store_true", help="without the modules of wasm-smith and wasm-mutate")
    replay = commands.add_parser("replay", help="run one case again; exit code 1 where something is found")
    replay.add_argument("finding", nargs="?", type=Path, metavar="DIR", help="a finding's directory")
    replay.add_argument("--seed", type=int, metavar="S")
    replay.add_argument("--case", type=int, metavar="N")
    replay.add_argument("--kind", choices=sorted(set(TURNS)), help="where the case was one of a single kind")
    options = parser.parse_args()
    if options.command == "replay" and options.finding is None and None in (options.seed, options.case):
        parser.error("name a finding's directory, or a seed and a case: --seed S --case N")
    return options


if __name__ == "__main__":
    sys.exit(main())
