"""What an image needs to know of ELF files, for x86-64 alone.

The format is that of the System V ABI (generic part, chapters 4 and 5) and of elf(5); notes that a hypervisor reads are
those of Xen (`xen/include/public/elfnote.h`). Everything here works on program headers, which say what is loaded;
section headers serve linkers and debuggers, and are dropped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from slight_py.errors import UsageError

PAGE = 4096
SECTOR = 512
BLOCK = 1 << 15
PADDING = (0x00, 0xCC)
"""`pack` leaves out blocks of this many bytes that are all the same one of these two: zero, and `int3`."""

PT_NULL, PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE = range(5)
DT_NULL, DT_NEEDED, DT_STRTAB, DT_STRSZ, DT_RPATH, DT_RUNPATH = 0, 1, 5, 10, 15, 29
X86_64 = 62
EI_OSABI, ELFOSABI_STANDALONE = 7, 255
PHYS32_ENTRY = 18
"""The type of Xen's note that holds where a PVH kernel starts, in 32-bit mode."""

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_DYNAMIC = struct.Struct("<qQ")
_NOTE = struct.Struct("<III")


@dataclass(frozen=True, slots=True)
class Segment:
    """A program header; the fields are in the file's order. Sizes and offsets are in bytes."""

    type: int
    flags: int
    offset: int
    address: int
    physical: int
    size: int
    memory: int
    align: int

    @property
    def end(self) -> int:
        return self.offset + self.size

    def holds(self, other: Segment) -> bool:
        """Whether the other's bytes in the file are among this one's."""
        return self.offset <= other.offset and other.end <= self.end


@dataclass(frozen=True, slots=True)
class Needed:
    """What the dynamic loader is asked for: itself, libraries by name, and folders to look for them in."""

    interpreter: str | None
    libraries: tuple[str, ...]
    runpath: tuple[str, ...]


def is_elf(data: bytes) -> bool:
    return data[:4] == b"\x7fELF"


def segments(data: bytes, name: str) -> list[Segment]:
    """The program headers of an ELF file for x86-64. Raises UsageError, with `name`, for all that isn't one."""
    found = headers(data, name)
    for each in found:
        if each.end > len(data):
            raise UsageError(f"{name}: the ELF file is cut short: it has {len(data)} bytes of at least {each.end}")
    return found


def headers(data: bytes, name: str) -> list[Segment]:
    """The same of the beginning of a file, which the headers are in. What they stand for may be missing."""
    if not is_elf(data):
        raise UsageError(f"{name}: this is not an ELF file")
    if len(data) < _HEADER.size:
        raise UsageError(f"{name}: the ELF file is cut short: it ends in its header")
    identity, _, machine, _, _, start, _, _, _, size, count, *_ = _HEADER.unpack_from(data)
    if identity[4:6] != b"\2\1" or machine != X86_64:
        raise UsageError(f"{name}: this ELF file is not for x86-64")
    if count and (size != _SEGMENT.size or start + count * size > len(data)):
        raise UsageError(f"{name}: the ELF file is broken or cut short: its program headers are not all there")
    return [Segment(*_SEGMENT.unpack_from(data, start + at * size)) for at in range(count)]


def has_pvh_note(data: bytes, name: str) -> bool:
    """Whether a kernel says where it starts by the PVH protocol. Raises UsageError for what isn't ELF."""
    return any(
        owner == b"Xen\0" and kind == PHYS32_ENTRY
        for each in segments(data, name)
        if each.type == PT_NOTE
        for owner, kind in _notes(data[each.offset : each.end])
    )


def _notes(data: bytes) -> Iterator[tuple[bytes, int]]:
    """The owner and the type of each note; what is broken ends the list."""
    at = 0
    while at + _NOTE.size <= len(data):
        owner, content, kind = _NOTE.unpack_from(data, at)
        at += _NOTE.size
        yield data[at : at + owner], kind
        at += -(-owner // 4) * 4 + -(-content // 4) * 4


def needed(path: Path) -> Needed:
    """What an executable or a shared object asks the dynamic loader for. Raises UsageError, and OSError."""
    data, name = path.read_bytes(), str(path)
    found = segments(data, name)
    interpreter = next((_text(data, each.offset, each.end, name) for each in found if each.type == PT_INTERP), None)
    entries: list[tuple[int, int]] = []
    for each in found:
        if each.type == PT_DYNAMIC:
            whole = data[each.offset : each.offset + each.size // _DYNAMIC.size * _DYNAMIC.size]
            entries.extend(_DYNAMIC.iter_unpack(whole))
    if (DT_NULL, 0) in entries:
        del entries[entries.index((DT_NULL, 0)) :]
    if not entries:
        return Needed(interpreter, (), ())
    table = dict(entries)
    start = _offset(found, table.get(DT_STRTAB, -1), name)
    end = min(start + table.get(DT_STRSZ, 0), len(data))

    def texts(*tags: int) -> list[str]:
        return [_text(data, start + at, end, name) for tag, at in entries if tag in tags]

    # The loader ignores DT_RPATH where there is a DT_RUNPATH.
    paths = texts(DT_RUNPATH) or texts(DT_RPATH)
    return Needed(interpreter, tuple(texts(DT_NEEDED)), tuple(part for path in paths for part in path.split(":")))


def _offset(found: list[Segment], address: int, name: str) -> int:
    """Where in the file an address is loaded from."""
    for each in found:
        if each.type == PT_LOAD and each.address <= address < each.address + each.size:
            return each.offset + address - each.address
    raise UsageError(f"{name}: the ELF file is broken: its table of names is not among what is loaded")


def _text(data: bytes, start: int, end: int, name: str) -> str:
    terminator = data.find(b"\0", start, end)
    if terminator < 0:
        raise UsageError(f"{name}: the ELF file is broken: a name in it has no end")
    return data[start:terminator].decode(errors="surrogateescape")


def strip(data: bytes, name: str) -> bytes:
    """An executable or a shared object without section headers, symbols for debuggers, and all else after the last
    byte that a program header names. It runs and loads as before. Raises UsageError for what isn't ELF."""
    found = segments(data, name)
    fields = list(_HEADER.unpack_from(data))
    headers = fields[5] + len(found) * _SEGMENT.size
    fields[6] = fields[11] = fields[12] = fields[13] = 0  # e_shoff, e_shentsize, e_shnum, e_shstrndx
    end = max([_HEADER.size, headers, *(each.end for each in found)])
    return _HEADER.pack(*fields) + data[_HEADER.size : end]


def with_segments(data: bytes, changed: Sequence[Segment]) -> bytes:
    """An ELF file whose program headers are `changed`, as many as it has: the file is one that `segments` reads."""
    start, count = (_HEADER.unpack_from(data)[at] for at in (5, 10))
    assert len(changed) == count
    table = b"".join(_SEGMENT.pack(*astuple(segment)) for segment in changed)
    return data[:start] + table + data[start + len(table) :]


def standalone(data: bytes) -> bytes:
    """An ELF file that says it is for no operating system, as Hermit's loader expects of a kernel; others don't ask."""
    return data[:EI_OSABI] + bytes((ELFOSABI_STANDALONE,)) + data[EI_OSABI + 1 :]


def pack(data: bytes, name: str) -> bytes:
    """A kernel with its program headers, its segments one after another, and nothing else.

    As the linker leaves it, more than half of the file is padding: segments begin at multiples of 2 MiB, and so do
    parts of the code. Segments are cut where padding is long; a boot loader clears what a segment has in memory and
    not in the file. The program headers follow the first 512 bytes, so that these have room for a partition table.
    The result is for boot loaders, which copy segments; a system that maps them may refuse it. Raises UsageError.
    """
    found = segments(data, name)
    content = bytearray(PAGE)
    headers: list[Segment] = []
    for piece in (piece for each in found if each.type == PT_LOAD for piece in _cut(each, data)):
        shift = len(content) - piece.offset
        headers.append(replace(piece, offset=len(content), align=PAGE))
        notes = (each for each in found if each.type == PT_NOTE and piece.holds(each))
        headers += [replace(note, offset=note.offset + shift) for note in notes]
        content += data[piece.offset : piece.end]
        content += bytes(-len(content) % PAGE)
    table = b"".join(_SEGMENT.pack(*astuple(each)) for each in headers)
    if SECTOR + len(table) > PAGE:
        raise UsageError(f"{name}: this is no kernel: it has {len(headers)} segments")
    fields = list(_HEADER.unpack_from(data))
    fields[5:7] = SECTOR, 0  # e_phoff, e_shoff
    fields[10:] = len(headers), 0, 0, 0  # e_phnum, and of sections e_shentsize, e_shnum, e_shstrndx
    content[: _HEADER.size] = _HEADER.pack(*fields)
    content[SECTOR : SECTOR + len(table)] = table
    return bytes(content)


def _cut(segment: Segment, data: bytes) -> list[Segment]:
    """A segment in pieces, without blocks of padding: zeros, or the traps between parts of the code, where nothing
    ever goes. In memory the pieces meet."""
    runs = [[0, 0]]
    for at in range(0, segment.size, BLOCK):
        block = data[segment.offset + at : min(segment.offset + at + BLOCK, segment.end)]
        if block[0] in PADDING and block.count(block[0]) == len(block):
            continue
        if runs[-1][1] != at:
            runs.append([at, at])
        runs[-1][1] = at + len(block)
    ends = [*(start for start, _ in runs[1:]), segment.memory]
    return [
        replace(
            segment,
            offset=segment.offset + start,
            address=segment.address + start,
            physical=segment.physical + start,
            size=end - start,
            memory=after - start,
        )
        for (start, end), after in zip(runs, ends, strict=True)
    ]
