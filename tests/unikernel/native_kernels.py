"""What counts as a kernel of native images, and boots nowhere: an ELF file with the places that an image needs."""

from __future__ import annotations

import struct
from pathlib import Path

from unikernel import elf
from unikernel.elf import Segment

BASE = 1 << 20
TEXT, DATA, BSS = 4096, 4096, 10_000
"""Bytes of its code and data, and of what it has in memory alone."""

TEXT_SEGMENT = Segment(elf.PT_LOAD, 5, 4096, BASE, BASE, TEXT, TEXT, 4096)
DATA_SEGMENT = Segment(elf.PT_LOAD, 6, 8192, BASE + TEXT, BASE + TEXT, DATA, DATA + BSS, 4096)
SPARE = Segment(elf.PT_NULL, 4, 0, 0, 0, 0, 0, 0)
NOTE = struct.pack("<III4sI", 4, 4, elf.PHYS32_ENTRY, b"Xen\0", BASE)
NOTE_SEGMENT = Segment(elf.PT_NOTE, 4, 4096, BASE, BASE, len(NOTE), len(NOTE), 4)

END = BASE + TEXT + DATA + BSS
"""Where its memory ends."""


def write(path: Path, *segments: Segment) -> Path:
    """Writes one with these program headers, or with all that it needs. It has section headers, as a linker writes
    them."""
    used = segments or (TEXT_SEGMENT, DATA_SEGMENT, SPARE, NOTE_SEGMENT)
    content = bytearray(12288 + 64)
    sections = (12288, 64, 1)  # where they are, bytes of each, and how many
    struct.pack_into(
        "<16sHHIQQQIHHHHHH", content, 0,
        b"\x7fELF\2\1\1", 2, elf.X86_64, 1, BASE, 64, sections[0], 0, 64, 56, len(used), sections[1], sections[2], 0,
    )  # fmt: skip
    for number, segment in enumerate(used):
        struct.pack_into(
            "<IIQQQQQQ", content, 64 + 56 * number,
            segment.type, segment.flags, segment.offset, segment.address, segment.physical,
            segment.size, segment.memory, segment.align,
        )  # fmt: skip
    content[4096 : 4096 + len(NOTE)] = NOTE
    path.write_bytes(content)
    return path
