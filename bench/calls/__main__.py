"""What one call into a guest costs, through the generated bindings and written by hand for just that call.

    python -m bench.calls [--calls N]

Both use the same store (`slight_py.store`), and so the same C API; the hand-written ones know the layout of their
argument and check nothing. Medians of several runs, in turn. It also says what the host's side of a request costs, and
how long the generator takes for wit/.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from struct import pack_into
from types import ModuleType
from typing import Any

from bench.calls import handler
from bench.processes import median
from bindgen.backends import c, python
from bindgen.wit_parser import load, load_many
from slight_py import interfaces
from slight_py.engine import Engine, ExportedFunction, Instance, Limits, Program, describe

HERE = Path(__file__).resolve().parent
ROUNDS = 7

Body = Callable[[], Awaitable[Any]]


def build(directory: Path) -> tuple[bytes, ModuleType]:
    """The guest, and the generated host bindings."""
    interface = load(HERE / "calls.wit")
    for name, text in (c.write([], [interface]) | python.write([], [interface])).items():
        (directory / name).write_text(text)
    module = directory / "guest.wasm"
    sources = [HERE / "guest.c", *directory.glob("*.c")]
    command = ["-m", "ziglang", "cc", "-target", "wasm32-wasi", "-mexec-model=reactor", "-O2", "-s", "-I", directory]
    subprocess.run([sys.executable, *command, "-o", module, *sources], check=True)
    sys.path.insert(0, str(directory))
    return module.read_bytes(), importlib.import_module("calls")


class ByHand:
    """The same calls, each written for its one argument."""

    def __init__(self, instance: Instance, functions: dict[str, ExportedFunction]) -> None:
        self._instance = instance
        self._functions = functions
        self._realloc = functions["canonical_abi_realloc"]

    async def _allocate(self, sizes: list[tuple[int, int]]) -> list[int]:
        calls = [(0, 0, align, size) for size, align in sizes]
        return await self._instance._call(self._realloc, calls, True)

    async def text(self, value: str) -> Any:
        data = value.encode()
        (at,) = await self._allocate([(len(data), 1)])
        self._instance.memory[at : at + len(data)] = data
        return await self._instance.call(self._functions["text"], (at, len(data)))

    async def fields(self, value: Any) -> Any:
        text, blob = value.i.encode(), value.j
        i, j = await self._allocate([(len(text), 1), (len(blob), 1)])
        memory = self._instance.memory
        memory[i : i + len(text)] = text
        memory[j : j + len(blob)] = blob
        scalars = (value.a, value.b, value.c, value.d, value.e & 0xFFFF_FFFF, value.f, value.g, ord(value.h))
        return await self._instance.call(self._functions["fields"], (*scalars, i, len(text), j, len(blob)))

    async def texts(self, value: list[str]) -> Any:
        datas = [each.encode() for each in value]
        table, *ats = await self._allocate([(8 * len(datas), 4), *((len(data), 1) for data in datas)])
        memory = self._instance.memory
        for at, data in zip(ats, datas, strict=True):
            memory[at : at + len(data)] = data
        pairs = [number for at, data in zip(ats, datas, strict=True) for number in (at, len(data))]
        pack_into(f"<{len(pairs)}I", memory, table, *pairs)
        return await self._instance.call(self._functions["texts"], (table, len(datas)))


async def microseconds(body: Body, calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        await body()
    return (time.perf_counter() - began) / calls * 1e6


async def measure(calls: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        wasm, bindings = build(Path(scratch))
    engine = Engine(Limits(instances=2))
    module = engine.compile(wasm)
    functions = describe(module).functions
    instance = await Program(engine, module, {}).instantiate(reused=True)
    await instance.call(functions["_initialize"], ())
    hand = ByHand(instance, functions)
    ten = bindings.Ten(1, 2, 3, 4, -5, 6.0, True, "h", "a text", b"some bytes")
    many = [f"string number {number}" for number in range(1000)]
    print("| call | generated, µs | by hand, µs | ratio |")
    print("| --- | --- | --- | --- |")
    for what, name, value, count in (
        ("a string", "text", "a text of some length", calls),
        ("a record of ten fields", "fields", ten, calls),
        ("a list of 1,000 strings", "texts", many, max(1, calls // 50)),
    ):
        generated, by_hand = getattr(bindings, name), getattr(hand, name)
        pairs = []
        for _ in range(ROUNDS):
            ours = await microseconds(partial(generated, instance, functions[name], value), count)
            theirs = await microseconds(partial(by_hand, value), count)
            pairs.append((ours, theirs))
        ours, theirs = (median([pair[side] for pair in pairs]) for side in (0, 1))
        print(f"| {what} | {ours:.1f} | {theirs:.1f} | {ours / theirs:.2f} |")
    instance.close()


def generation() -> float:
    """Seconds to read Spiderlightning's interfaces in wit/ and write the Python bindings."""
    began = time.perf_counter()
    python.write(load_many(interfaces.paths()), [])
    return time.perf_counter() - began


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.calls", description="Measures calls into a guest.")
    parser.add_argument("--calls", type=int, default=2000, help="how many calls a round makes (2000)")
    asyncio.run(measure(parser.parse_args().calls))
    handler.measure()
    print(f"\nbindings for all of wit/: {median([generation() for _ in range(ROUNDS)]) * 1e3:.0f} ms")
