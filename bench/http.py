"""HTTP through a guest, beside bare aiohttp: requests per second, latency, start, memory.

    python -m bench.http [--seconds S] [--rounds N] [--save] [ROW ...]

Each row compares two servers in turn (A B A B …) on one core, with wrk on the other, and tells the median of the rounds
and the ratio of the medians. The targets are those of docs/performance.md. `--save` measures all rows, and writes
docs/performance.json, two plots, and docs/performance.md's tables.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import document
from bench.plots import Bar, Group, svg
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

SCALING_CONNECTIONS = 128

BUSY = 0.85
"""The part of its core that a server under full load takes at the least, if nothing gets in its way."""


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
        self, ours: Server, floor: Server, path: str, connections: int = 32, script: str = ""
    ) -> tuple[list[Load], list[Load]]:
        """The loads of both servers, in turn, after a warm-up of each."""
        lua = HERE / script if script else None
        for each in (ours, floor):
            wrk(each.port, path, 1, connections, lua)
        pairs = [
            (cost(ours, self.seconds, path, connections, lua), cost(floor, self.seconds, path, connections, lua))
            for _ in range(self.rounds)
        ]
        mine, floors = ([pair[side] for pair in pairs] for side in (0, 1))
        if connections > 1:
            warn(path, {"the guest's server": mine, "bare aiohttp": floors})
        loads = [each.load for each in mine], [each.load for each in floors]
        check(path, [*loads[0], *loads[1]])
        return loads

    def rate(self, name: str, target: float, loads: tuple[list[Load], list[Load]]) -> Row:
        mine, floors = ([load.requests_per_second for load in side] for side in loads)
        ratio = median(mine) / median(floors)
        met = ratio >= target if target else None
        return Row(name, "requests/s", median(mine), median(floors), spread(mine), f"≥ {target}" if target else "", met)


def warn(path: str, costs: Mapping[str, Sequence[Cost]]) -> None:
    """Says where a server had less than its core: what was measured is then something else.

    With Redis that is so, since Redis and wrk share a core.
    """
    for name, each in costs.items():
        part = median([one.server * one.load.requests_per_second for one in each])
        if part < BUSY:
            print(f"bench: {path}: {name} was at work {part:.0%} of the time: is there other work?", file=sys.stderr)


def check(path: str, loads: Sequence[Load]) -> None:
    """Raises SystemExit where a request failed: what is fast because it fails is not measured."""
    failed = sum(load.failed for load in loads)
    if failed:
        raise SystemExit(f"bench: {path}: {failed} requests failed")


def plain(bench: Bench) -> Iterator[Row]:
    """hello at 1, 32 and 512 connections, a path parameter and ten headers, and a 64 KiB echo."""
    with bare() as floor, guest() as ours:
        for connections in (32, 1, 512):
            loads = bench.pair(ours, floor, "/hello", connections)
            yield bench.rate(
                f"hello, {connections} connection{'s' * (connections > 1)}", 0.5 if connections == 32 else 0, loads
            )
            if connections == 32:
                p99 = [median([load.p99 for load in side]) for side in loads]
                met = p99[0] <= 3 * p99[1]
                yield Row("hello, p99 latency", "ms", p99[0] * 1e3, p99[1] * 1e3, 0, "≤ 3", met)
        loads = bench.pair(ours, floor, "/person/somebody", script="headers.lua")
        yield bench.rate("path parameter, ten headers", 0, loads)
        yield bench.rate("64 KiB echo", 0.5, bench.pair(ours, floor, "/upload", script="upload.lua"))


def memory_store(bench: Bench) -> Iterator[Row]:
    """Key/value get and set on memory."""
    with bare() as floor, guest() as ours:
        yield bench.rate("set on memory", 0, bench.pair(ours, floor, "/set", script="put.lua"))
        yield bench.rate("get on memory", 0.45, bench.pair(ours, floor, "/get"))


def redis_store(bench: Bench) -> Iterator[Row]:
    """Key/value get and set on Redis."""
    with redis_server() as address:
        env = {"REDIS_ADDRESS": address}
        slightfile = ROOT / "examples/http-server-demo-rust/slightfile-redis.toml"
        with bare(env) as floor, guest("-c", str(slightfile), env=env) as ours:
            yield bench.rate("set on Redis", 0, bench.pair(ours, floor, "/set", script="put.lua"))
            yield bench.rate("get on Redis", 0.7, bench.pair(ours, floor, "/get"))


# Processor time.


@dataclass(frozen=True, slots=True)
class Cost:
    """What a load took from the processor."""

    load: Load
    server: float
    """Seconds of the server and its workers for a request."""
    wrk: float
    """The part of one core's time that wrk took."""


def cost(server: Server, seconds: float, path: str, connections: int = 32, script: Path | None = None) -> Cost:
    """Loads a server for a while."""
    used, own, began = cpu_seconds(server.process.pid), _children(), time.perf_counter()
    load = wrk(server.port, path, seconds, connections, script)
    wall = time.perf_counter() - began
    requests = load.requests_per_second * max(1, round(seconds))
    return Cost(load, (cpu_seconds(server.process.pid) - used) / requests, (_children() - own) / wall)


def cpu_seconds(pid: int) -> float:
    """The processor time of a process and of all below it that run, user's and system's."""
    own = _ticks(Path(f"/proc/{pid}/stat").read_text()) / os.sysconf("SC_CLK_TCK")
    return own + sum(map(cpu_seconds, _below(pid)))


def _below(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for each in Path(f"/proc/{pid}").glob("task/*/children") for child in each.read_text().split()]


def _ticks(stat: str) -> int:
    """utime and stime of /proc/PID/stat, see proc_pid_stat(5). The name of the program may hold anything."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _children() -> float:
    """The processor time of the processes that ended here."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def workers(bench: Bench) -> Iterator[Row]:
    """Two workers on two cores against one on its own.

    wrk is on the last core each time, so one worker has its core for itself, and two, each on a core of its own, have
    what wrk leaves them. The route is one on which wrk takes little beside the server, and the rows say how much. There
    are enough connections that a worker has requests left while wrk waits for its turn beside the other. Capacity is
    what the servers' processor time would come to without wrk: requests in a second of each core that is theirs.
    """
    path, script = "/person/somebody", HERE / "many_headers.lua"

    def load(of: Server, seconds: float) -> Cost:
        return cost(of, seconds, path, SCALING_CONNECTIONS, script)

    with guest("--workers", "2", cores=CORES[:2]) as two, guest() as one:
        for each in (one, two):
            load(each, 1)
        _spread(two)
        pairs = [(load(one, bench.seconds), load(two, bench.seconds)) for _ in range(bench.rounds)]
    floors, mine = ([pair[side] for pair in pairs] for side in (0, 1))
    check(path, [each.load for each in (*floors, *mine)])
    yield bench.rate(
        f"forty headers, {SCALING_CONNECTIONS} connections",
        1.6,
        ([each.load for each in mine], [each.load for each in floors]),
    )
    capacity, base = [2 / each.server for each in mine], [1 / each.server for each in floors]
    yield Row("capacity, were there no wrk", "requests/s", median(capacity), median(base), spread(capacity))
    shares, alone = [each.wrk * 100 for each in mine], [each.wrk * 100 for each in floors]
    yield Row("wrk's part of its core", "%", median(shares), median(alone), spread(shares))


def _spread(workers: Server) -> None:
    """Puts each worker, with its threads, on a core of its own."""
    spawned = [pid for pid in _below(workers.process.pid) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    for pid, core in zip(spawned, CORES[:2], strict=True):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {core})


def memory(_: Bench) -> Iterator[Row]:
    """What an instance takes beyond the guest's own pages: see memory.py."""
    for kind in ("idle", "busy"):
        command = [sys.executable, "-m", "bench.memory", kind]
        found = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=120).stdout)
        whole = found["ours"] + found["page_tables"]
        target, met = ("< 64", whole < 64) if kind == "busy" else ("", None)
        yield Row(f"{kind}: beyond the guest's own pages", "KiB", whole, None, None, target, met)
        yield Row(f"{kind}: of which page tables", "KiB", found["page_tables"])
        yield Row(f"{kind}: the guest's own pages", "KiB", found["guests"])
        yield Row(f"{kind}: Python's objects, in", "blocks", found["blocks"])


def start(bench: Bench) -> Iterator[Row]:
    """From the start of the process to the first answer, and a command as a whole, each on one core."""
    for name, options in (("cold start, cached module", []), ("cold start, no cache", ["--no-cache"])):
        times = [_first_answer(options) * 1e3 for _ in range(bench.rounds + 1)][1:]  # the first one fills the cache
        yield Row(name, "ms", median(times), None, spread(times))
    demo = ROOT / "examples/build/keyvalue-demo-rust.wasm"
    ours = [sys.executable, "-m", "slight_py", "run", str(demo)]
    floor = [sys.executable, "-c", "import aiohttp, wasmtime"]
    _wall(ours)
    pairs = [(_wall(ours), _wall(floor)) for _ in range(3 * bench.rounds)]
    mine, floors = ([pair[side] * 1e3 for pair in pairs] for side in (0, 1))
    met = median(mine) <= 2.5 * median(floors)
    yield Row("keyvalue-demo as a command", "ms", median(mine), median(floors), spread(mine), "≤ 2.5", met)


def _first_answer(options: list[str]) -> float:
    """Seconds, to within the 5 ms between two tries to connect."""
    port = free_port()
    command = ["-m", "slight_py", "run", str(GUEST), "--env", f"ADDRESS=127.0.0.1:{port}", *options]
    began = time.perf_counter()
    with server(command, port):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/hello", timeout=10).read()
        return time.perf_counter() - began


def _wall(command: list[str]) -> float:
    began = time.perf_counter()
    pinned = ["taskset", "-c", str(SERVER_CORE), *command]
    subprocess.run(pinned, cwd=ROOT, stdout=subprocess.DEVNULL, check=True, timeout=60)
    return time.perf_counter() - began


ROWS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "plain": plain,
    "memory": memory_store,
    "redis": redis_store,
    "workers": workers,
    "start": start,
    "instances": memory,
}


@dataclass(frozen=True, slots=True)
class Section:
    """Rows that make one table."""

    what: str
    floor: str
    """What they are compared with."""
    rows: Sequence[str]


SECTIONS = {
    "http": Section("through a guest", "bare aiohttp", ("plain", "memory", "redis")),
    "workers": Section("2 workers", "1 worker", ("workers",)),
    "start": Section("a process", "the imports", ("start",)),
    "instances": Section("an instance", "", ("instances",)),
}


# What is said of it.


def section_table(name: str, rows: Sequence[Row]) -> str:
    return table(rows, SECTIONS[name].what, SECTIONS[name].floor)


def plots(found: Mapping[str, Sequence[Row]]) -> dict[str, str]:
    """Requests per second and latency, starts and memory, as SVG by the file's name. Takes rows by section."""

    def group(title: str, section: str, unit: str) -> Group:
        bars = []
        for row in found[section]:
            if row.unit == unit:
                bars.append(Bar(row.name, row.ours, f"{row.ratio:.2f} ×" if row.ratio is not None else ""))
                if row.floor is not None:
                    bars.append(Bar(SECTIONS[section].floor, row.floor, floor=True))
        return Group(title, unit, bars)

    http = [
        group("Through a guest, and bare aiohttp", "http", "requests/s"),
        group("Two workers, and one", "workers", "requests/s"),
        group("Latency", "http", "ms"),
    ]
    start = [group("Start", "start", "ms"), group("Memory of an instance", "instances", "KiB")]
    return {
        "performance-http.svg": svg("HTTP through a guest", http),
        "performance-start.svg": svg("Start and memory", start),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.http", description="Measures HTTP through a guest.")
    parser.add_argument("rows", nargs="*", choices=[[], *ROWS], help="which rows (all)")
    parser.add_argument("--seconds", type=float, default=2, help="how long each load lasts (2)")
    parser.add_argument("--rounds", type=int, default=5, help="how many of each (5)")
    parser.add_argument("--save", action="store_true", help="measure all, and keep numbers, plots and tables in docs/")
    options = parser.parse_args()
    if options.save and options.rows:
        parser.error("--save is for all rows")
    require("wrk", "redis-server", "taskset")
    bench = Bench(options.seconds, options.rounds)
    found: dict[str, list[Row]] = {}
    for name, section in SECTIONS.items():
        for each in section.rows:
            for row in ROWS[each](bench) if each in (options.rows or ROWS) else ():
                found.setdefault(name, []).append(row)
                print(line(row), flush=True)
    tables = {name: section_table(name, rows) for name, rows in found.items()}
    print("", *tables.values(), sep="\n\n")
    if options.save:
        machine = document.machine()
        numbers = {name: [row.as_json() for row in rows] for name, rows in found.items()}
        tables["machine"] = document.machine_table(machine)
        document.save("performance", {"machine": machine} | numbers, plots(found), tables)


if __name__ == "__main__":
    main()
