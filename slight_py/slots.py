"""Where guests have their memories and stacks: which modules are for the slots of `_slots.c`, and which for wasmtime.

To give an instance memory of its own is most of what a short call takes. wasmtime's pool gives its pages back to the
system when it ends, and the next one takes a page fault for each page that it touches. In a slot the pages stay and are
cleared, which takes a tenth of that. The data that a module begins with is copied into a slot at each start, and only
mapped into a memory of the pool; so the slots are for modules that have little of it, and nothing unusual, and the pool
is for all others. It is for all modules where `_slots.c` was not built, or the kernel doesn't say which pages hold
something (Linux before 6.7).

`_slots.c` has no twin in Python: wasmtime asks for memory in the middle of things, where no Python may run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slight_py import capi

MAX_DATA = 128 << 10
"""Bytes of data that a module for the slots may begin with. More takes longer to copy than the pool takes in all."""

MAX_DEFINITIONS = 10_000
"""How many functions, globals and imports it may have: each one takes up to 64 bytes of an instance."""

_PAGE = 64 << 10

# WebAssembly's binary format, section 5.5: the sections that say what an instance takes.
_IMPORT, _FUNCTION, _TABLE, _MEMORY, _GLOBAL, _DATA = 2, 3, 4, 5, 6, 11
_REFERENCES = (0x6F, 0x70)

native = False
"""Whether slots can be used."""
available = False
"""Whether they are, for modules that are compiled here."""


configure: Callable[[int, int, int, int, int], None]
"""Has the engines of a configuration use slots: how many memories, of how many bytes each, and stacks likewise. Takes
the address of the configuration first. It is there where slots can be used.

Raises MemoryError where the system has no room.
"""

if not TYPE_CHECKING and not os.environ.get("SLIGHT_PY_PURE"):
    try:
        from slight_py import _slots
    except ImportError:
        pass
    else:
        native = True
        available = _slots.setup(capi.address)
        configure = _slots.configure


def suits(wasm: bytes, memory: int, table_elements: int) -> bool:
    """Whether a module is one for slots, given the bytes and the elements that an instance may have.

    What can't be read says no, and so does a module past the limits: wasmtime says what is wrong with it.
    """
    try:
        return _Needs.of(wasm).within(memory, table_elements)
    except IndexError:
        return False


@dataclass(slots=True)
class _Needs:
    """What an instance of a module takes to begin with."""

    data: int = 0
    """Bytes, at the most."""
    definitions: int = 0
    tables: int = 0
    table_elements: int = 0
    memories: int = 0
    memory: int = 0
    """Pages."""

    @classmethod
    def of(cls, wasm: bytes) -> _Needs:
        """Raises IndexError where the bytes end too early, or aren't what they seem."""
        needs = cls()
        at = 8
        while at < len(wasm):
            section = wasm[at]
            size, start = _unsigned(wasm, at + 1)
            at = start + size
            if section == _DATA:
                needs.data += size
            elif section in (_IMPORT, _FUNCTION, _GLOBAL):
                needs.definitions += _unsigned(wasm, start)[0]
            elif section == _TABLE:
                needs.tables, start = _unsigned(wasm, start)
                if needs.tables:
                    if wasm[start] not in _REFERENCES:
                        raise IndexError("a table that has an initializer")
                    needs.table_elements = _minimum(wasm, start + 1)
            elif section == _MEMORY:
                needs.memories, start = _unsigned(wasm, start)
                if needs.memories:
                    needs.memory = _minimum(wasm, start)
        return needs

    def within(self, memory: int, table_elements: int) -> bool:
        return (
            self.data <= MAX_DATA
            and self.definitions <= MAX_DEFINITIONS
            and self.tables <= 1
            and self.table_elements <= table_elements
            and self.memories <= 1
            and self.memory * _PAGE <= memory
        )


def _minimum(wasm: bytes, at: int) -> int:
    """The smaller one of the limits of a table or a memory."""
    return _unsigned(wasm, at + 1)[0]


def _unsigned(wasm: bytes, at: int) -> tuple[int, int]:
    """A number in LEB128, of up to 32 bits, and where it ends."""
    value = 0
    for shift in range(0, 35, 7):
        byte = wasm[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise IndexError("a number that is too long")
