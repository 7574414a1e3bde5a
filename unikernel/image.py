"""The image file: a kernel, a root file system and a manifest in one file, which is a kernel and a disk at once.

    0         the kernel, an uncompressed ELF file with a PVH entry point
    400       in the padding after its program headers: our header, and from 440 a partition table (MBR)
    4096 * N  the root file system: erofs, which partition 1 is, or an initramfs; or a native kernel's payload
    4096 * M  the manifest, JSON

A launcher boots the file as a kernel, and gives the same file to the machine as its disk. An image is input, from
anywhere: all that is read of it is checked.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from slight_py import cache
from slight_py.errors import UsageError
from unikernel import elf, flavours
from unikernel.flavours import Flavour
from unikernel.manifest import Manifest, Part, Root, RootType, from_json, to_json

BLOCK = 4096
"""Bytes: where the parts begin is a multiple of it."""

VERSION = 2

FRONT, END = 400, 512
"""The bytes of the first sector that are ours and not the kernel's."""

_MAGIC = b"slightVM"
_HEADER = struct.Struct("<8sIIQQQ")
"""Magic, version, 0, size of the file, where the manifest begins, its length."""

_SIGNATURE = 440
_PARTITION = struct.Struct("<B3sB3sII")
_NO_CYLINDERS = b"\xfe\xff\xff"
"""What a partition table has where a place is given by its sector alone."""

_LINUX = 0x83
_SECTOR = 512
_MANIFEST_LIMIT = 1 << 20
_CHUNK = 1 << 20

_ROOTS: Mapping[RootType, str] = {
    "erofs": "root file system",
    "initramfs": "root file system",
    "payload": "application",
}
"""What messages call a root."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image file that was found to be one."""

    path: Path
    manifest: Manifest
    size: int

    @property
    def root(self) -> Root:
        return self.manifest.root

    @property
    def flavour(self) -> Flavour:
        return flavours.named(self.manifest.flavour)


def command_line(root: str) -> str:
    """The kernel's command line for an image whose root file system is of that type.

    A panic reboots, which ends QEMU. `t` is a triple fault: there is nothing else to reset this machine with. A
    launcher without a control channel adds the machine's addresses, see network.py.
    """
    mount = " root=/dev/vda1 rootfstype=erofs ro" if root == "erofs" else ""
    return f"console=ttyS0 quiet panic=-1 reboot=t{mount}"


# Writing.


def check_kernel(path: Path, kernel: bytes) -> None:
    """Raises UsageError for a kernel that can't be the beginning of an image."""
    segments = elf.segments(kernel, str(path))
    # Program headers, which may lie there too, are not zero.
    taken = any(each.size and each.offset < END and each.end > FRONT for each in segments)
    if taken or len(kernel) < END or any(kernel[FRONT:END]):
        raise UsageError(
            f"{path}: the kernel has something of its own in its bytes {FRONT} to {END}, where an image has its "
            "partition table; link it with its headers and segments elsewhere"
        )


def padded(size: int) -> int:
    """A size up to the end of its last block."""
    return -(-size // BLOCK) * BLOCK


def complete(manifest: Manifest, kernel: bytes, root: bytes, parts: Iterable[Part]) -> Manifest:
    """A manifest with the places, sizes and hashes of a kernel and of a root, whose `parts` are to be listed."""
    blank = kernel[:FRONT] + bytes(END - FRONT) + kernel[END:]
    return replace(
        manifest,
        kernel=replace(manifest.kernel, size=len(kernel), sha256=hashlib.sha256(blank).hexdigest()),
        root=replace(
            manifest.root, offset=padded(len(kernel)), size=len(root), sha256=hashlib.sha256(root).hexdigest()
        ),
        parts=(Part("kernel", len(kernel)), *parts),
    )


def write(path: Path, kernel: bytes, root: bytes, manifest: Manifest) -> int:
    """Writes an image in one step, and returns its size. `check_kernel` has been satisfied, and the manifest's root
    begins at `padded(len(kernel))`."""
    assert manifest.root.offset == padded(len(kernel))
    text = to_json(manifest).encode()
    at = padded(manifest.root.offset + len(root))
    total = at + padded(len(text))
    with replacing(path) as file:
        file.write(kernel[:FRONT] + _front(manifest, total, at, len(text)) + kernel[END:])
        file.seek(manifest.root.offset)
        file.write(root)
        file.seek(at)
        file.write(text)
        file.truncate(total)
    return total


def _front(manifest: Manifest, total: int, at: int, length: int) -> bytes:
    """Our header and the partition table, bytes FRONT to END of an image."""
    header = _HEADER.pack(_MAGIC, VERSION, 0, total, at, length)
    if manifest.root.type != "erofs":
        return header.ljust(END - FRONT, b"\0")
    # The signature tells disks apart. It comes from the content: the same image has the same one.
    signature = bytes.fromhex(manifest.root.sha256)[:4] + b"\0\0"
    first, count = manifest.root.offset // _SECTOR, padded(manifest.root.size) // _SECTOR
    entry = _PARTITION.pack(0, _NO_CYLINDERS, _LINUX, _NO_CYLINDERS, first, count)
    return header + (signature + entry).ljust(END - _SIGNATURE - 2, b"\0") + b"\x55\xaa"


def check_place(path: Path) -> None:
    """Raises UsageError for a path where no file can be put, as far as that shows before it is done."""
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: this is not a file, so the image can't take its place; name another with -o")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no directory {path.parent}; create it, or name another place with -o")


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` when it is whole, and leaves nothing where it doesn't get that far.

    Raises UsageError where it can't be written.
    """
    check_place(path)
    try:
        with cache.replacing(path) as file:
            yield file
            mask = os.umask(0)
            os.umask(mask)
            os.fchmod(file.fileno(), 0o666 & ~mask)
    except OSError as error:
        raise UsageError(f"{path}: it can't be written: {error.strerror}; give another place with -o") from error


# Reading.


def read(path: Path) -> Image:
    """What an image says of itself. Raises UsageError for a file that is no image, or not a whole one.

    Its parts are not read: see `verify`.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            front = file.read(END)
            total, at, length = _header(path, front, size)
            file.seek(at)
            text = file.read(length)
    except OSError as error:
        raise UsageError(f"{path}: it can't be read: {error.strerror}") from None
    try:
        manifest = from_json(text)
    except ValueError as error:
        reason = "it is not JSON" if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) else str(error)
        raise _damaged(path, f"its manifest can't be read: {reason}") from None
    kernel, root = manifest.kernel, manifest.root
    if kernel.size > root.offset or root.offset % BLOCK or root.offset + root.size > at:
        raise _damaged(path, "its parts lie outside of it")
    if front[FRONT:] != _front(manifest, total, at, length):
        raise _damaged(path, "its partition table is not that of its manifest")
    return Image(path, manifest, size)


def _header(path: Path, front: bytes, size: int) -> tuple[int, int, int]:
    """The size that an image must have, and where its manifest is. Raises UsageError."""
    if len(front) < END or front[:4] != b"\x7fELF" or front[FRONT : FRONT + len(_MAGIC)] != _MAGIC:
        is_module = front.startswith(b"\0asm")
        hint = f"this is a module; `slight-py image build {path}` makes an image of it"
        raise UsageError(f"{path}: {hint if is_module else 'this is not an image that slight-py image build made'}")
    _, version, _, total, at, length = _HEADER.unpack_from(front, FRONT)
    if version != VERSION:
        raise UsageError(
            f"{path}: an image of format {version}, and this slight-py reads format {VERSION}; build it again"
        )
    if size < total:
        raise UsageError(f"{path}: the image is cut short: it has {size:,} of {total:,} bytes; copy or build it again")
    if size > total:
        raise _damaged(path, f"it has {size - total:,} bytes behind its end")
    if length > _MANIFEST_LIMIT or at + length > total:
        raise _damaged(path, "its manifest lies outside of it")
    return total, at, length


def _damaged(path: Path, what: str) -> UsageError:
    return UsageError(f"{path}: the image is damaged: {what}; copy or build it again")


def verify(image: Image) -> None:
    """Compares the parts of an image with the hashes in its manifest. Raises UsageError where they differ."""
    kernel, root = image.manifest.kernel, image.manifest.root
    try:
        with image.path.open("rb") as file:
            front = file.read(END)
            found = hashlib.sha256(front[:FRONT] + bytes(END - FRONT))
            _hash(file, kernel.size - END, found)
            if found.hexdigest() != kernel.sha256:
                raise _damaged(image.path, "its kernel is not the one that it was built with")
            found = hashlib.sha256()
            file.seek(root.offset)
            _hash(file, root.size, found)
            if found.hexdigest() != root.sha256:
                raise _damaged(image.path, f"its {_ROOTS[root.type]} is not the one that it was built with")
    except OSError as error:
        raise UsageError(f"{image.path}: it can't be read: {error.strerror}") from None


def _hash(file: IO[bytes], size: int, into: Any) -> None:
    while size > 0 and (chunk := file.read(min(size, _CHUNK))):
        into.update(chunk)
        size -= len(chunk)


def copy_part(image: Image, offset: int, size: int, to: IO[bytes]) -> None:
    """Copies bytes of an image, such as its initramfs, to a file."""
    with image.path.open("rb") as file:
        file.seek(offset)
        while size > 0 and (chunk := file.read(min(size, _CHUNK))):
            to.write(chunk)
            size -= len(chunk)
