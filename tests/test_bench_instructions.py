"""The count of an emulated processor's instructions, with a program whose number of them is known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench import instructions
from unikernel import machine

LOOP = """
    .section .note.pvh, "a", @note
    .long 4, 4, 18
    .asciz "Xen"
    .long _start
    .text
    .globl _start
_start:
    movl $TURNS, %ecx
1:  decl %ecx
    jnz 1b
    lidt nothing
    int3
    .data
nothing:
    .word 0
    .long 0
"""
"""A kernel that runs a loop of two instructions, and then ends its machine with a fault that nothing handles."""


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the QEMU that counts."""
    return instructions.prepare(tmp_path_factory.mktemp("counting"))


def executed(counting: Path, folder: Path, turns: int) -> int:
    """The instructions of a machine, from its first to its last, with a loop of so many turns."""
    source, kernel = folder / "loop.S", folder / f"loop-{turns}"
    source.write_text(LOOP)
    target = ("-target", "x86-freestanding-none", "-nostdlib", "-static", "-Wl,--image-base=0x100000")
    command = [sys.executable, "-m", "ziglang", "cc", *target, f"-DTURNS={turns}", "-o", str(kernel), str(source)]
    subprocess.run(command, check=True, timeout=120)
    (counting.parent / "count").write_bytes(bytes(8))
    words = ["-M", "microvm,acpi=off", "-m", "16M", "-nodefaults", "-display", "none", "-no-reboot"]
    subprocess.run([str(counting / machine.QEMU), *words, "-kernel", str(kernel)], check=True, timeout=60)
    return instructions.executed(counting)


def test_two_instructions_are_counted_for_each_turn_of_a_loop(counting: Path, tmp_path: Path) -> None:
    assert executed(counting, tmp_path, 5000) - executed(counting, tmp_path, 1000) == 2 * (5000 - 1000)
