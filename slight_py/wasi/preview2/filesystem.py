"""wasi:filesystem 0.2. What it has in common with 0.3 is in descriptors.py."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections import deque

from bindgen.runtime import Err
from capabilities.bindings.wasi_clocks_0_2.wall_clock import Datetime
from capabilities.bindings.wasi_filesystem_0_2.types import (
    DescriptorFlags,
    DescriptorStat,
    DescriptorType,
    DirectoryEntry,
    ErrorCode,
    MetadataHashValue,
    NewTimestampNow,
    NewTimestampTimestamp,
)
from capabilities.wasi.io import Error, InputStream, OutputStream
from slight_py.wasi import descriptors
from slight_py.wasi.descriptors import LABELS, SECOND, Dialect, Opened, decoded, fallible, granted
from slight_py.wasi.files import PIECE, Directory, in_thread, read_names
from slight_py.wasi.preview2.state import State
from slight_py.wasi.preview2.streams import FileOutput, file_input

_CODES = {number: ErrorCode[label.replace("-", "_").upper()] for number, label in LABELS.items()}
# There is no code for too many open files.
_CODES |= dict.fromkeys((errno.EMFILE, errno.ENFILE), ErrorCode.INSUFFICIENT_MEMORY)


def code_of(error: OSError) -> ErrorCode:
    return _CODES.get(error.errno or 0, ErrorCode.IO)


_TYPES = {
    stat.S_IFBLK: DescriptorType.BLOCK_DEVICE,
    stat.S_IFCHR: DescriptorType.CHARACTER_DEVICE,
    stat.S_IFDIR: DescriptorType.DIRECTORY,
    stat.S_IFIFO: DescriptorType.FIFO,
    stat.S_IFLNK: DescriptorType.SYMBOLIC_LINK,
    stat.S_IFREG: DescriptorType.REGULAR_FILE,
    stat.S_IFSOCK: DescriptorType.SOCKET,
}


def _type(mode: int) -> DescriptorType:
    return _TYPES.get(stat.S_IFMT(mode), DescriptorType.UNKNOWN)


def _datetime(nanoseconds: int) -> Datetime | None:
    """None for a time before 1970, which this version has no value for."""
    return Datetime(*divmod(nanoseconds, SECOND)) if nanoseconds >= 0 else None


def _stat(found: os.stat_result) -> DescriptorStat:
    times = (_datetime(each) for each in (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns))
    return DescriptorStat(_type(found.st_mode), found.st_nlink, found.st_size, *times)


class Descriptor(descriptors.Descriptor):
    """The resource `descriptor`."""

    DIALECT = Dialect(code_of, _type, _stat, DescriptorFlags, MetadataHashValue, NewTimestampNow, NewTimestampTimestamp)

    __slots__ = ()

    @fallible
    async def read_via_stream(self, offset: int) -> InputStream:
        file = self._readable
        self._opened.begin_stream()
        return file_input(file, offset, self._opened.end_stream)

    @fallible
    async def write_via_stream(self, offset: int) -> OutputStream:
        return self._output(offset)

    @fallible
    async def append_via_stream(self) -> OutputStream:
        return self._output(None)

    def _output(self, position: int | None) -> OutputStream:
        file = self._writable
        self._opened.begin_stream()
        return FileOutput(self._files, file, position, self._opened.end_stream)

    @fallible
    async def read(self, length: int, offset: int) -> tuple[bytes, bool]:
        """Up to PIECE bytes, and whether the end was reached."""
        size = min(length, PIECE)
        found = await self._file.read_bytes(size, offset)
        return found, len(found) < size

    @fallible
    async def write(self, buffer: bytes, offset: int) -> int:
        return await self._writable.write_bytes(buffer, offset)

    @fallible
    async def read_directory(self) -> DirectoryEntryStream:
        directory = self._directory
        await directory.opened(self._files)
        self._opened.begin_stream()
        return DirectoryEntryStream(self._opened, directory)


_ENTRIES_AT_ONCE = 1 << 14
"""Bytes of entries that are read at once."""


class DirectoryEntryStream:
    """The resource `directory-entry-stream`."""

    def __init__(self, opened: Opened, directory: Directory) -> None:
        """`opened` knows of the stream."""
        self._opened = opened
        self._directory = directory
        self._entries: deque[tuple[bytes, int]] = deque()
        self._cookie = 0
        self._ended = False
        self._reading = asyncio.Lock()
        """Where several calls are under way, each must have an entry of its own."""

    def on_drop(self) -> None:
        self._opened.end_stream()

    async def read_directory_entry(self) -> DirectoryEntry | None:
        try:
            async with self._reading:
                found = await self._next()
            return None if found is None else DirectoryEntry(_type(found[1]), decoded(found[0]))
        except OSError as error:
            raise Err(code_of(error)) from None

    async def _next(self) -> tuple[bytes, int] | None:
        while not self._entries:
            if self._ended:
                return None
            directory = await self._directory.opened(self._opened.files)
            entries, self._cookie, self._ended = await in_thread(read_names, directory, self._cookie, _ENTRIES_AT_ONCE)
            self._entries += entries
        return self._entries.popleft()


class Types:
    """Answers the functions of `wasi:filesystem/types` that are of no resource."""

    async def filesystem_error_code(self, err: Error) -> ErrorCode | None:
        return code_of(err.cause) if isinstance(err.cause, OSError) else None


class Preopens:
    """Answers `wasi:filesystem/preopens`."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def get_directories(self) -> list[tuple[Descriptor, str]]:
        return granted(self._state.files, Descriptor)
