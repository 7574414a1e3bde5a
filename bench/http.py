"""HTTP through a guest, beside bare aiohttp: requests per second, latency, start, memory.

    python -m bench.http [--seconds S] [--rounds N] [ROW ...]

Each row compares two servers in turn (A B A B …) on one core, with wrk on the other, and tells the median of the rounds
and the ratio of the medians. The targets are those of docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.processes import (
    CORES,
    ROOT,
    SERVER_CORE,
    Load,
    Server,
    free_port,
    median,
    redis_server,
    require,
    server,
    spread,
    wrk,
)
from bench.table import Row, line, table

HERE = Path(__file__).resolve().parent
GUEST = ROOT / "examples/build/http-server-demo-rust.wasm"
RESULTS = ROOT / "docs/performance.json"


@contextmanager
def bare(env: dict[str, str] | None = None) -> Iterator[Server]:
    port = free_port()
    with server(["-m", "bench.bare", str(port)], port, env) as started:
        yield started


@contextmanager
def guest(*options: str, env: dict[str, str] | None = None, cores: list[int] | None = None) -> Iterator[Server]:
    port = free_port()
    command = ["-m", "slight_py", "run", str(GUEST), "--env", f"ADDRESS=127.0.0.1:{port}", *options]
    with server(command, port, env, cores or [SERVER_CORE]) as started:
        yield started


@dataclass(slots=True)
class Bench:
    seconds: float
    rounds: int

    def pair(
        self, ours: int, floor: int, path: str, connections: int = 32, script: str = ""
    ) -> tuple[list[Load], list[Load]]:
        """The loads of both servers, in turn, after a warm-up of each."""
        lua = HERE / script if script else None
        for port in (ours, floor):
            wrk(port, path, 1, connections, lua)
        pairs = [
            (wrk(floor, path, self.seconds, connections, lua), wrk(ours, path, self.seconds, connections, lua))
            for _ in range(self.rounds)
        ]
        floors, mine = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        failed = sum(load.failed for load in (*floors, *mine))
        if failed:
            raise SystemExit(f"bench: {path}: {failed} requests failed")
        return mine, floors

    def rate(self, name: str, target: float, loads: tuple[list[Load], list[Load]]) -> Row:
        mine, floors = ([load.requests_per_second for load in side] for side in loads)
        ratio = median(mine) / median(floors)
        met = ratio >= target if target else None
        return Row(name, "requests/s", median(mine), median(floors), spread(mine), f"≥ {target}" if target else "", met)


def plain(bench: Bench) -> Iterator[Row]:
    """hello at 1, 32 and 512 connections, a path parameter and ten headers, and a 64 KiB echo."""
    with bare() as floor, guest() as ours:
        for connections in (32, 1, 512):
            loads = bench.pair(ours.port, floor.port, "/hello", connections)
            yield bench.rate(f"hello, {connections} connections", 0.5 if connections == 32 else 0, loads)
            if connections == 32:
                p99 = [median([load.p99 for load in side]) for side in loads]
                met = p99[0] <= 3 * p99[1]
                yield Row("hello, p99 latency", "ms", p99[0] * 1e3, p99[1] * 1e3, 0, "≤ 3", met)
        loads = bench.pair(ours.port, floor.port, "/person/somebody", script="headers.lua")
        yield bench.rate("path parameter, ten headers", 0, loads)
        yield bench.rate("64 KiB echo", 0.5, bench.pair(ours.port, floor.port, "/upload", script="upload.lua"))


def memory_store(bench: Bench) -> Iterator[Row]:
    """Key/value get and set on memory."""
    with bare() as floor, guest() as ours:
        yield bench.rate("set on memory", 0, bench.pair(ours.port, floor.port, "/set", script="put.lua"))
        yield bench.rate("get on memory", 0.45, bench.pair(ours.port, floor.port, "/get"))


def redis_store(bench: Bench) -> Iterator[Row]:
    """Key/value get and set on Redis."""
    with redis_server() as address:
        env = {"REDIS_ADDRESS": address}
        slightfile = ROOT / "examples/http-server-demo-rust/slightfile-redis.toml"
        with bare(env) as floor, guest("-c", str(slightfile), env=env) as ours:
            yield bench.rate("set on Redis", 0, bench.pair(ours.port, floor.port, "/set", script="put.lua"))
            yield bench.rate("get on Redis", 0.7, bench.pair(ours.port, floor.port, "/get"))


def workers(bench: Bench) -> Iterator[Row]:
    """Two workers on both cores, the load beside them, against one on the same cores."""
    with guest("--workers", "2", cores=CORES) as two, guest(cores=CORES) as one:
        yield bench.rate("hello, 2 workers against 1", 1.6, bench.pair(two.port, one.port, "/hello"))


def start(bench: Bench) -> Iterator[Row]:
    """From the start of the process to the first answer, and a command as a whole."""
    for name, options in (("cold start, cached module", []), ("cold start, no cache", ["--no-cache"])):
        times = [_first_answer(options) for _ in range(bench.rounds + 1)][1:]
        yield Row(name, "ms", median(times) * 1e3, None, spread(times), "", None)
    demo = ROOT / "examples/build/keyvalue-demo-rust.wasm"
    ours = [sys.executable, "-m", "slight_py", "run", str(demo)]
    floor = [sys.executable, "-c", "import aiohttp, wasmtime"]
    _wall(ours)
    pairs = [(_wall(ours), _wall(floor)) for _ in range(3 * bench.rounds)]
    mine, bare_times = ([pair[side] * 1e3 for pair in pairs] for side in (0, 1))
    met = median(mine) <= 2.5 * median(bare_times)
    yield Row(
        "keyvalue-demo as a command, against the imports",
        "ms",
        median(mine),
        median(bare_times),
        spread(mine),
        "≤ 2.5",
        met,
    )


def _first_answer(options: list[str]) -> float:
    port = free_port()
    command = ["-m", "slight_py", "run", str(GUEST), "--env", f"ADDRESS=127.0.0.1:{port}", *options]
    began = time.perf_counter()
    with server(command, port):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/hello", timeout=10).read()
        return time.perf_counter() - began


def _wall(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


ROWS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "plain": plain,
    "memory": memory_store,
    "redis": redis_store,
    "workers": workers,
    "start": start,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.http", description="Measures HTTP through a guest.")
    parser.add_argument("rows", nargs="*", choices=[[], *ROWS], help="which rows (all)")
    parser.add_argument("--seconds", type=float, default=3, help="how long each load lasts (3)")
    parser.add_argument("--rounds", type=int, default=5, help="how many of each (5)")
    parser.add_argument("--save", action="store_true", help=f"keep the numbers in {RESULTS.relative_to(ROOT)}")
    options = parser.parse_args()
    require("wrk", "redis-server", "taskset")
    rows = []
    for name in options.rows or ROWS:
        for row in ROWS[name](Bench(options.seconds, options.rounds)):
            rows.append(row)
            print(line(row), flush=True)
    print()
    print(table(rows))
    if options.save:
        RESULTS.write_text(json.dumps([row.as_json() for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
