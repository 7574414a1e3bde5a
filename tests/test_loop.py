"""The event loop, and the memory of the process that runs it."""

from __future__ import annotations

import subprocess
import sys

from slight_py import loop

BLOCK = 64 << 10

CODE = f"""
import asyncio, os
from slight_py import loop

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")

async def main():
    before = resident()
    for size in ({loop.KEPT // 2}, {loop.KEPT * 8}):
        blocks = [b"x" * {BLOCK} for _ in range(size // {BLOCK})]
        blocks.clear()
        print(resident() - before)

loop.run(main())
"""


def test_memory_that_was_freed_is_kept_for_a_while_and_not_for_ever() -> None:
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    little, much = map(int, done.stdout.split())
    assert little > loop.KEPT // 4
    assert much < 2 * loop.KEPT


async def _answer() -> int:
    return 42


def test_a_coroutine_is_run_to_its_end() -> None:
    assert loop.run(_answer()) == 42
