"""Starts what is measured, on a core of its own, and the load on the other."""

from __future__ import annotations

import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


@dataclass(slots=True)
class Server:
    """A server that was started here."""

    port: int
    process: subprocess.Popen[bytes]


@contextmanager
def server(
    arguments: Sequence[str], port: int, env: dict[str, str] | None = None, cores: Sequence[int] = (SERVER_CORE,)
) -> Iterator[Server]:
    """Runs a Python command that serves at a port, and ends it at the end."""
    command = ["taskset", "-c", ",".join(map(str, cores)), sys.executable, *arguments]
    process = subprocess.Popen(
        command, env={**os.environ, **(env or {})}, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(port, process)
        yield Server(port, process)
    finally:
        process.terminate()
        process.wait(30)


def wait_for(port: int, process: subprocess.Popen[bytes] | None = None, seconds: float = 30) -> None:
    """Waits until something listens at a port."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process is not None and process.poll() is not None:
            raise SystemExit(f"bench: {process.args!r} ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.005)
        else:
            return
    raise SystemExit(f"bench: nothing listens at port {port} after {seconds} seconds")


@contextmanager
def redis_server() -> Iterator[str]:
    """A Redis on the load's core, as another machine's would be; yields its address."""
    port = free_port()
    command = [
        "taskset",
        "-c",
        str(LOAD_CORE),
        "redis-server",
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk saw."""

    requests_per_second: float
    p99: float
    """Seconds."""
    failed: int
    """Responses other than 2xx and 3xx, and broken connections."""


_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def wrk(port: int, path: str, seconds: float, connections: int = 32, script: Path | None = None) -> Load:
    """Loads a server for a while."""
    command = [
        "taskset",
        "-c",
        str(LOAD_CORE),
        "wrk",
        "--latency",
        "-t1",
        f"-c{connections}",
        f"-d{max(1, round(seconds))}s",
    ]
    if script:
        command += ["-s", str(script)]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True, timeout=seconds + 30
    )
    text = done.stdout
    errors = sum(map(int, re.findall(r"(?:connect|read|write|timeout) (\d+)", text)))
    errors += sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", text)))
    rate, p99 = _number(text, r"Requests/sec:\s+([\d.]+)()"), _number(text, r"99%\s+([\d.]+)(us|ms|s)")
    return Load(rate, p99, errors)


def _number(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise SystemExit(f"bench: wrk printed something else:\n{text}")
    return float(found[1]) * _UNITS.get(found[2], 1.0)


def median(numbers: Sequence[float]) -> float:
    return statistics.median(numbers)


def spread(numbers: Sequence[float]) -> float:
    """Half of the range, as a part of the median."""
    return (max(numbers) - min(numbers)) / 2 / median(numbers) if median(numbers) else 0.0


def require(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise SystemExit(f"bench: {', '.join(missing)} missing; type: sudo apt install wrk redis-server util-linux")
