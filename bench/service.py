"""The speed of a function service: an image that gets its module, and then jobs, over sockets."""

from __future__ import annotations

import time
from pathlib import Path

from bench.images import REACTOR, UPPER, compiled
from bench.machines import TIME, connected, launcher, watched
from bench.processes import median, spread
from bench.table import Row
from unikernel.machine import Accel

JOBS, JOB = 1000, 1024
"""Jobs in a round, and the bytes of each."""


def row(path: Path, accel: Accel, scratch: Path, rounds: int) -> Row:
    """Measures an image. Its sockets are made below `scratch`."""
    module = compiled(UPPER, scratch / "upper.wasm", *REACTOR).read_bytes()
    speeds = jobs_per_second(path, accel, module, scratch / "channel", rounds)
    return Row(f"the function service, jobs of {JOB:,} bytes", "jobs/s", median(speeds), None, spread(speeds))


def jobs_per_second(path: Path, accel: Accel, module: bytes, folder: Path, rounds: int) -> list[float]:
    """The speed in each round, with sockets that are made in `folder`."""
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


def expect(received: bytes, expected: bytes) -> None:
    if received != expected:
        raise SystemExit(f"bench: the function service said {received[:100]!r} in place of {expected[:100]!r}")
