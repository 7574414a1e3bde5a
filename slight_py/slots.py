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

from slight_py import capi, sections

MAX_DATA = 128 << 10
"""Bytes of data that a module for the slots may begin with. More takes longer to copy than the pool takes in all."""

MAX_DEFINITIONS = 10_000
"""How many functions, globals and imports it may have: each one takes up to 64 bytes of an instance."""

_PAGE = 64 << 10

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
    except sections.Unreadable:
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
        """Raises sections.Unreadable."""
        needs = cls()
        for number, section in sections.sections(wasm):
            if number == sections.DATA:
                needs.data += section.end - section.at
            elif number in (sections.IMPORT, sections.FUNCTION, sections.GLOBAL):
                needs.definitions += section.unsigned()
            elif number == sections.TABLE:
                needs.tables = section.unsigned()
                if needs.tables:
                    if section.byte() not in _REFERENCES:
                        raise sections.Unreadable("a table that has an initializer")
                    needs.table_elements = section.limits()
            elif number == sections.MEMORY:
                needs.memories = section.unsigned()
                if needs.memories:
                    needs.memory = section.limits()
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
