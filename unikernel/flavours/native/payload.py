"""The application behind a native kernel: a finished kernel gets one more segment, and needs no compiler for it.

    the kernel's ELF file, with its spare program header (PT_NULL) made into one that loads the payload (PT_LOAD)
    4096 * N   the payload: a header, the manifest that the machine reads, and the compiled module

A boot loader puts the payload at the first page after the kernel's own memory, where the kernel looks for its header.
Offsets in the header count from its beginning; the module begins at a page, so that it can be run where it lies.
`unikernel/native/src/boot` reads it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from slight_py.errors import UsageError
from unikernel import elf
from unikernel.elf import PAGE, PT_LOAD, PT_NULL, Segment

_MAGIC = b"slightAP"
VERSION = 1
_HEADER = struct.Struct("<8sIIQQQQQ")
"""Magic, version, 0, size of the whole, then offset and length of the manifest, and of the module."""

_READABLE = 4
"""PF_R of elf(5). The kernel itself makes the module's code executable, once it has checked it."""

TOP = 1 << 32
"""Kernels are loaded below this address: a PVH kernel begins in 32-bit mode."""


@dataclass(frozen=True, slots=True)
class Payload:
    """What a kernel finds behind itself."""

    manifest: bytes
    """JSON: see manifest.py."""
    module: bytes
    """Compiled by `slight_py.ahead`."""


def pack(payload: Payload) -> bytes:
    """The payload's bytes, up to the end of a page."""
    begin = _up(_HEADER.size + len(payload.manifest))
    total = _up(begin + len(payload.module))
    header = _HEADER.pack(
        *(_MAGIC, VERSION, 0, total), *(_HEADER.size, len(payload.manifest)), *(begin, len(payload.module))
    )
    return (header + payload.manifest).ljust(begin, b"\0") + payload.module.ljust(total - begin, b"\0")


def unpack(packed: bytes) -> Payload:
    """The other end of `pack`. Raises ValueError for what is no payload, or not a whole one."""
    if len(packed) < _HEADER.size or not packed.startswith(_MAGIC):
        raise ValueError("it has no payload's header")
    _, version, _, total, at, length, begin, size = _HEADER.unpack_from(packed)
    if version != VERSION:
        raise ValueError(f"its payload is of format {version}, and this is format {VERSION}")
    if total != len(packed) or at < _HEADER.size or at + length > begin or begin % PAGE or begin + size > total:
        raise ValueError("its parts lie outside of it")
    return Payload(packed[at : at + length], packed[begin : begin + size])


def kernel_for(kernel: bytes, size: int, name: str) -> bytes:
    """A kernel that has a boot loader load a payload of `size` bytes, which is to follow it in the file, at the next
    page.

    Raises UsageError, with the kernel's `name`, for one that has no place for a payload.
    """
    found = elf.segments(kernel, name)
    loaded = [segment for segment in found if segment.type == PT_LOAD]
    spare = [number for number, segment in enumerate(found) if segment.type == PT_NULL]
    if not loaded or len(spare) != 1 or not elf.has_pvh_note(kernel, name):
        raise UsageError(f"{name}: this is not a kernel of the native machine: it has no place for an application")
    stripped = elf.strip(kernel, name)
    offset = _up(len(stripped))
    address = _up(max(segment.physical + segment.memory for segment in loaded))
    if address + size > TOP:
        raise UsageError(f"{name}: the application takes {size:,} bytes, and there are not as many below 4 GiB")
    found[spare[0]] = Segment(PT_LOAD, _READABLE, offset, address, address, size, size, PAGE)
    return elf.with_segments(elf.standalone(stripped), found).ljust(offset, b"\0")


def _up(size: int) -> int:
    """A size or an address up to the next page."""
    return -(-size // PAGE) * PAGE
