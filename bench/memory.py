"""What an instance takes in memory beyond the guest's own pages.

    python -m bench.memory {idle,busy}

In a process of its own, with the engine and the handlers of a server, instances of http-server-demo-rust are made STEP
at a time and kept: idle ones are instantiated and no more; busy ones are requests for /get that wait for a store which
never answers, each with its task, its coroutines, its handles, and the stack that the guest runs on.

What is read after each step is /proc/self/smaps. An instance takes memory where a mapping has anonymous pages: pages
that are this process's alone, and that the kernel can't take back. The guest's own pages are those among them that lie
in its linear memory, found by the address of each instance's memory; they hold a copy of what the module begins with.
The kernel's page tables (VmPTE in /proc/self/status), which no process sees as its own, are a row of their own, and so
are Python's blocks of memory, which are part of the first. The stack is not among the guest's own pages here: it counts
as ours.

Numbers are the medians of the differences between steps, by instance. The engine's slots are fresh, as they are at the
first requests of a server; the first step is not counted.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import re
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.processes import ROOT, median
from capabilities.bindings.http_types import Method, Request
from slight_py import engine as engines
from slight_py import linker, modules, slightfile
from slight_py.engine import Engine, Limits, describe
from slight_py.handlers import Handlers
from slight_py.runner import Loaded
from slight_py.wasi import WasiSettings

GUEST = ROOT / "examples/build/http-server-demo-rust.wasm"

STEP, STEPS = 40, 6
"""Instances made between two readings, and how often."""

REQUEST = Request(Method.GET, "/get", [("host", "localhost")], [], b"")

_MAPPING = re.compile(r"([0-9a-f]+)-[0-9a-f]+ ")


def anonymous(smaps: Iterable[str], memories: Iterable[range]) -> tuple[int, int]:
    """KiB of anonymous pages in the whole process, and in the mappings that begin in one of the guests' memories.

    Takes the lines of /proc/PID/smaps one by one: as a whole they would take memory that is measured.
    """
    spans = list(memories)
    whole = guests = start = 0
    for line in smaps:
        if line.startswith("Anonymous:"):
            size = int(line.split()[1])
            whole += size
            if size and any(start in span for span in spans):
                guests += size
        elif found := _MAPPING.match(line):
            start = int(found[1], 16)
    return whole, guests


@dataclass(frozen=True, slots=True)
class Reading:
    """What a process took at one moment. Sizes are in KiB."""

    ours: int
    """Anonymous pages but for the guests' own."""
    guests: int
    page_tables: int
    blocks: int
    """Pieces of memory that Python's objects take."""


def read() -> Reading:
    gc.collect()
    memories = [_span(instance.memory) for instance in engines._instances]
    with open("/proc/self/smaps") as smaps:
        whole, guests = anonymous(smaps, memories)
    tables = re.search(r"^VmPTE:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert tables is not None
    return Reading(whole - guests, guests, int(tables[1]), sys.getallocatedblocks())


def _span(memory: memoryview) -> range:
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return range(start, start + len(memory))


def growth(readings: list[Reading]) -> dict[str, float]:
    """What each instance added, the first of the readings being left out."""
    pairs = list(pairwise(readings[1:]))
    names = ("ours", "guests", "page_tables", "blocks")
    return {name: median([getattr(b, name) - getattr(a, name) for a, b in pairs]) / STEP for name in names}


class Silent:
    """Stores that never answer."""

    waiting = 0
    """How many wait."""

    async def open(self, name: str) -> Any:
        return self

    async def get(self, key: str) -> bytes:
        self.waiting += 1
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nobody answers")


def server(stores: Any) -> Handlers:
    """What answers requests in `slight-py run`."""
    engine = Engine(Limits())
    module = modules.load(engine, GUEST)
    loaded = Loaded(describe(module), slightfile.embedded(), engine, module)
    return Handlers(loaded.program(linker.Backends(lambda: stores), None), WasiSettings())


async def steps(make: Callable[[], Awaitable[None]]) -> dict[str, float]:
    readings = [read()]
    for _ in range(STEPS):
        await make()
        readings.append(read())
    return growth(readings)


async def idle() -> dict[str, float]:
    handlers = server(Silent())
    kept = []

    async def make() -> None:
        kept.extend([await handlers._program.instantiate(handlers._wasi) for _ in range(STEP)])

    try:
        return await steps(make)
    finally:
        for instance in kept:
            instance.close()


async def busy() -> dict[str, float]:
    stores = Silent()
    handlers = server(stores)
    function = handlers.resolve("handle_get")
    assert function is not None
    tasks: list[asyncio.Task[Any]] = []

    async def make() -> None:
        tasks.extend(asyncio.create_task(handlers.handle(function, REQUEST)) for _ in range(STEP))
        while stores.waiting < len(tasks):  # noqa: ASYNC110 - the guests count, and tell nobody
            await asyncio.sleep(0.001)

    try:
        return await steps(make)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    print(json.dumps(asyncio.run({"idle": idle, "busy": busy}[sys.argv[1]]())))
