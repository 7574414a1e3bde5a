"""Components behind HTTP, beside the same ones in `wasmtime serve`: requests per second, latency, bodies, memory.

    python -m bench.components --wasmtime PATH [--seconds S] [--rounds N] [--save] [ROW ...]

Each row compares the two servers in turn (A B A B …) with the same component, on one core, with wrk on the other, and
tells the median of the rounds and the ratio of the medians. wasmtime comes from its own crate, which takes some
minutes to build: see `--help`.

`--save` measures all rows, and fills the table of docs/performance.md.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import document
from bench.http import Bench
from bench.processes import ROOT, SERVER_CORE, Load, Server, free_port, median, require, server, spread, wait_for
from bench.table import Row, line, table
from capabilities.http.settings import HttpSettings
from capabilities.keyvalue.memory import MemoryStores
from slight_py import linker, runner, slightfile
from slight_py.component.running import LoadedComponent
from slight_py.engine import Limits
from slight_py.wasi import Context, WasiSettings

BUILT = ROOT / "examples/build"
HELLO, ECHO = BUILT / "component-hello-c.wasm", BUILT / "component-echo-c.wasm"

STREAMED = 1 << 30
"""Bytes of the body that goes through the echo in one request."""

CHUNK = 1 << 16


@contextmanager
def ours(component: Path) -> Iterator[Server]:
    port = free_port()
    command = ["-m", "slight_py", "run", str(component), "--listen", f"127.0.0.1:{port}", "--max-body", "4G"]
    with server(command, port) as started:
        yield started


@contextmanager
def theirs(wasmtime: Path, component: Path) -> Iterator[Server]:
    """`wasmtime serve`, with all its defaults."""
    port = free_port()
    command = ["taskset", "-c", str(SERVER_CORE), str(wasmtime), "serve", "--addr", f"127.0.0.1:{port}", str(component)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        yield Server(port, process)
    finally:
        process.terminate()
        process.wait(10)


class Pair:
    """The two servers of one component."""

    def __init__(self, bench: Bench, wasmtime: Path) -> None:
        self._bench = bench
        self._wasmtime = wasmtime

    def loads(self, component: Path, connections: int, script: str = "") -> tuple[list[Load], list[Load]]:
        with theirs(self._wasmtime, component) as floor, ours(component) as mine:
            return self._bench.pair(mine, floor, "/", connections, script)


def hello(bench: Bench, wasmtime: Path) -> Iterator[Row]:
    """The smallest component: requests per second and latency."""
    pair = Pair(bench, wasmtime)
    for connections in (32, 1):
        loads = pair.loads(HELLO, connections)
        name = f"hello, {connections} connection{'s' * (connections > 1)}"
        yield bench.rate(name, 1.0 if connections == 32 else 0, loads)
        if connections == 32:
            p99 = [median([load.p99 for load in side]) for side in loads]
            yield Row("hello, p99 latency", "ms", p99[0] * 1e3, p99[1] * 1e3, 0, "≤ 1.5", p99[0] <= 1.5 * p99[1])


def bodies(bench: Bench, wasmtime: Path) -> Iterator[Row]:
    """64 KiB that come and go."""
    yield bench.rate("64 KiB echo", 0.7, Pair(bench, wasmtime).loads(ECHO, 32, "upload.lua"))


def streamed(bench: Bench, wasmtime: Path) -> Iterator[Row]:
    """One body of a gigabyte through the echo: how fast, and how much memory that takes beside a small one."""
    rates: list[list[float]] = []
    grown = 0.0
    for serving in (ours(ECHO), theirs(wasmtime, ECHO)):
        with serving as started:
            asyncio.run(_through(started.port, CHUNK))
            before = _peak(started.process.pid)
            rates.append([STREAMED / 1e6 / asyncio.run(_through(started.port, STREAMED)) for _ in range(2)])
            if len(rates) == 1:
                grown = _peak(started.process.pid) - before
    yield Row("1 GB through the echo", "MB/s", median(rates[0]), median(rates[1]), spread(rates[0]))
    yield Row(
        "1 GB through the echo, memory beyond that for 64 KiB",
        "MiB",
        grown / (1 << 20),
        None,
        None,
        "< 16",
        grown < 16 << 20,
    )


def _peak(pid: int) -> int:
    """Bytes of memory that a process has had at most: VmHWM of proc_pid_status(5)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(each.split()[1]) << 10 for each in lines if each.startswith("VmHWM"))


async def _through(port: int, size: int) -> float:
    """Sends a body of that size, and receives as much; returns the seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = time.perf_counter()
    head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode())

    async def send() -> None:
        chunk = bytes(CHUNK)
        for _ in range(size // CHUNK):
            writer.write(chunk)
            await writer.drain()

    sending = asyncio.create_task(send())
    if not (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200"):
        raise SystemExit("bench: the echo was refused")
    received = 0
    while piece := await reader.read(1 << 20):
        received += len(piece)
    await sending
    writer.close()
    if received < size:
        raise SystemExit(f"bench: of {size} bytes, {received} came back")
    return time.perf_counter() - began


def instances(bench: Bench, _: Path) -> Iterator[Row]:
    """What it takes to make an instance of the hello and to end it again, in this process."""
    times = [asyncio.run(_instances()) for _ in range(bench.rounds)]
    yield Row("an instance of hello", "µs", median(times), None, spread(times), "≤ 10", median(times) <= 10)


async def _instances(count: int = 2000) -> float:
    """Microseconds of the processor for each."""
    config = runner.RunConfig(HELLO, slightfile.embedded(), WasiSettings(), Limits(), HttpSettings())
    loaded = runner.load(config)
    assert isinstance(loaded, LoadedComponent)
    program = loaded.program(linker.Backends(MemoryStores))
    context = Context(config.wasi)

    async def make(number: int) -> float:
        began = time.process_time()
        for _ in range(number):
            (await program.instantiate(context)).close()
        return time.process_time() - began

    await make(100)
    return await make(count) / count * 1e6


ROWS: dict[str, Callable[[Bench, Path], Iterator[Row]]] = {
    "hello": hello,
    "bodies": bodies,
    "streamed": streamed,
    "instances": instances,
}


FEATURES = "run,serve,cranelift,pooling-allocator,parallel-compilation,component-model,component-model-async"

BUILD = f"cargo install wasmtime-cli --version 48.0.8 --locked --no-default-features --features {FEATURES}"
"""What makes the `wasmtime` that the document's numbers are of."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.components",
        description="Measures components behind HTTP.",
        epilog=f"wasmtime is built by: {BUILD}",
    )
    parser.add_argument("rows", nargs="*", choices=[[], *ROWS], help="which rows (all)")
    parser.add_argument("--wasmtime", type=Path, default=shutil.which("wasmtime"), help="the command (that on PATH)")
    parser.add_argument("--seconds", type=float, default=2, help="how long each load lasts (2)")
    parser.add_argument("--rounds", type=int, default=5, help="how many of each (5)")
    parser.add_argument("--save", action="store_true", help="measure all, and fill the table of docs/performance.md")
    options = parser.parse_args()
    if options.save and options.rows:
        parser.error("--save is for all rows")
    if options.wasmtime is None and options.rows != ["instances"]:
        parser.error(f"wasmtime is not on PATH; name it with --wasmtime, or build it: {BUILD}")
    require("wrk", "taskset")
    bench = Bench(options.seconds, options.rounds)
    found: list[Row] = []
    for name in options.rows or ROWS:
        for row in ROWS[name](bench, options.wasmtime):
            found.append(row)
            print(line(row), flush=True)
    made = table(found, "a component", "wasmtime serve")
    print(f"\n{made}")
    if options.save:
        document.save("performance-components", [row.as_json() for row in found], {}, {"components": made})


if __name__ == "__main__":
    main()
