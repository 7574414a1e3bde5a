"""The root file system of an image: a tree in memory, packed as erofs or as an initramfs. Neither takes root's rights.

The same tree gives the same bytes: entries are sorted, belong to root, and are of the second 0.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from slight_py.errors import UsageError

UUID = "736c6967-6874-4d00-8000-000000000001"
"""Of every erofs: a random one would make each image another."""

_FILE, _DIRECTORY, _LINK, _DEVICE = 0o100000, 0o040000, 0o120000, 0o020000
_SECONDS = 120.0
"""How long a tool may take."""


@dataclass(frozen=True, slots=True)
class File:
    content: bytes
    executable: bool = False

    @property
    def mode(self) -> int:
        return 0o755 if self.executable else 0o644


@dataclass(frozen=True, slots=True)
class Link:
    target: str


@dataclass(frozen=True, slots=True)
class Directory:
    pass


Entry: TypeAlias = File | Link | Directory


class Tree:
    """A file system in memory. Paths are relative to its root: `usr/bin/python3`."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def add(self, path: str, entry: Entry) -> None:
        """Adds an entry, and the directories that it lies in. Another one at its place is a mistake."""
        known = self._entries.setdefault(path, entry)
        assert known == entry, path
        for parent in PurePosixPath(path).parents[:-1]:
            self._entries.setdefault(str(parent), Directory())

    def __iter__(self) -> Iterator[tuple[str, Entry]]:
        """Every entry, sorted by path: what is in a directory comes after it."""
        return iter(sorted(self._entries.items(), key=lambda item: item[0].split("/")))

    def files(self) -> Iterator[tuple[str, bytes]]:
        return ((path, entry.content) for path, entry in self if isinstance(entry, File))

    def read(self, path: str) -> bytes:
        """Raises KeyError where there is no such file."""
        entry = self._entries[path]
        if not isinstance(entry, File):
            raise KeyError(path)
        return entry.content

    def __contains__(self, path: str) -> bool:
        return path in self._entries


def erofs(tree: Tree) -> bytes:
    """The tree as a read-only file system. Raises UsageError where mkfs.erofs is missing and can't be installed, or has
    no room."""
    tool = find_tool("mkfs.erofs", "erofs-utils")
    # LZ4 takes no time that could be measured at boot, in pieces of 64 KiB neither, and saves two fifths.
    options = ["-zlz4hc,9", "-C65536", "-x-1", "-T0", f"-U{UUID}", "--all-root"]
    with scratch() as folder:
        root, packed = folder / "root", folder / "erofs"
        _unpack(tree, root)
        run_tool(tool, "--quiet", *options, str(packed), str(root))
        return packed.read_bytes()


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory for what is in the making. Raises UsageError where it has no room."""
    try:
        with tempfile.TemporaryDirectory(prefix="slight-py-") as folder:
            yield Path(folder)
    except OSError as error:
        raise UsageError(
            f"{tempfile.gettempdir()}: the image can't be made there: {error.strerror}; set TMPDIR to a directory with "
            "more room"
        ) from error


def _unpack(tree: Tree, root: Path) -> None:
    root.mkdir()
    root.chmod(0o755)
    for path, entry in tree:
        place = root / path
        match entry:
            case Directory():
                place.mkdir()
                place.chmod(0o755)
            case Link(target):
                place.symlink_to(target)
            case File(content):
                place.write_bytes(content)
                place.chmod(entry.mode)


def initramfs(tree: Tree) -> bytes:
    """The tree as a cpio archive of the format `newc`, compressed by gzip.

    /dev/console is added: the kernel opens it for init before there is a devtmpfs.
    """
    archive = bytearray()
    for number, (path, entry) in enumerate(tree, 1):
        match entry:
            case Directory():
                archive += _cpio(number, path, _DIRECTORY | 0o755)
            case Link(target):
                archive += _cpio(number, path, _LINK | 0o777, os.fsencode(target))
            case File(content):
                archive += _cpio(number, path, _FILE | entry.mode, content)
    archive += _cpio(0, "dev/console", _DEVICE | 0o600, device=(5, 1))
    archive += _cpio(0, "TRAILER!!!", 0)
    return gzip.compress(bytes(archive), 6, mtime=0)


def _cpio(inode: int, path: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    name = os.fsencode(path) + b"\0"
    fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return _four(header) + _four(content)


def _four(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


# Tools of the system.


def find_tool(name: str, package: str) -> str:
    """The path of a program, from a Debian package that root gets installed. Raises UsageError."""
    found = _which(name)
    if found is None and os.geteuid() == 0 and (apt := _which("apt-get")):
        run_tool(apt, "install", "--yes", "--no-install-recommends", package)
        found = _which(name)
    if found is None:
        raise UsageError(f"{name} is missing, which the image is packed with; install it: sudo apt install {package}")
    return found


def _which(name: str) -> str | None:
    # Debian's users don't have the folder of the tools for file systems in their PATH.
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def run_tool(tool: str, *arguments: str) -> None:
    """Runs a program to its end. Raises UsageError, with the last that it said, where it fails."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            [tool, *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"{tool} can't be run: {error}") from None
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise UsageError(f"{tool} failed{f': {said[-1]}' if said else ''}; it needs room in the temporary directory")
