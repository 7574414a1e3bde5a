"""wasi:filesystem 0.3. What it has in common with 0.2 is in descriptors.py."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from bindgen.runtime.component import StreamReader
from capabilities.bindings.wasi_clocks_0_3.system_clock import Instant
from capabilities.bindings.wasi_filesystem_0_3 import types
from capabilities.bindings.wasi_filesystem_0_3.types import (
    DescriptorFlags,
    DescriptorStat,
    DirectoryEntry,
    MetadataHashValue,
    NewTimestampNow,
    NewTimestampTimestamp,
)
from capabilities.wasi.io import CAPACITY
from slight_py.wasi import descriptors
from slight_py.wasi.descriptors import LABELS, SECOND, Dialect, Writing, check_position, decoded, granted
from slight_py.wasi.files import in_thread, read_names
from slight_py.wasi.preview2.state import State
from slight_py.wasi.preview3.streams import Pieces, Result, failing, write_all

P = TypeVar("P", bound=Sequence[Any])


def _case(label: str) -> Any:
    """`ErrorCodeNoEntry` for `no-entry`; None where this version has no such case."""
    return getattr(types, "ErrorCode" + label.title().replace("-", ""), None)


_CODES = {number: case for number, label in LABELS.items() if (case := _case(label)) is not None}


def _code(error: OSError) -> Any:
    case = _CODES.get(error.errno or 0)
    return types.ErrorCodeOther(error.strerror) if case is None else case()


_TYPES = {
    stat.S_IFBLK: types.DescriptorTypeBlockDevice,
    stat.S_IFCHR: types.DescriptorTypeCharacterDevice,
    stat.S_IFDIR: types.DescriptorTypeDirectory,
    stat.S_IFIFO: types.DescriptorTypeFifo,
    stat.S_IFLNK: types.DescriptorTypeSymbolicLink,
    stat.S_IFREG: types.DescriptorTypeRegularFile,
    stat.S_IFSOCK: types.DescriptorTypeSocket,
}


def _type(mode: int) -> Any:
    case = _TYPES.get(stat.S_IFMT(mode))
    return types.DescriptorTypeOther(None) if case is None else case()


def _stat(found: os.stat_result) -> DescriptorStat:
    times = (Instant(*divmod(each, SECOND)) for each in (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns))
    return DescriptorStat(_type(found.st_mode), found.st_nlink, found.st_size, *times)


_ENTRIES_AT_ONCE = 1 << 14
"""Bytes of entries that are read at once."""


class Descriptor(descriptors.Descriptor):
    """The resource `descriptor`."""

    DIALECT = Dialect(_code, _type, _stat, DescriptorFlags, MetadataHashValue, NewTimestampNow, NewTimestampTimestamp)

    __slots__ = ()

    async def read_via_stream(self, offset: int) -> tuple[AsyncIterable[bytes], Awaitable[Result]]:
        at = offset

        async def fetch() -> bytes:
            nonlocal at
            await self._files.settle()
            found = await self._readable.read_bytes(CAPACITY, check_position(at))
            at += len(found)
            return found

        return self._stream(fetch)

    async def read_directory(self) -> tuple[AsyncIterable[list[DirectoryEntry]], Awaitable[Result]]:
        cookie, ended = 0, False

        async def fetch() -> list[DirectoryEntry]:
            nonlocal cookie, ended
            entries: list[tuple[bytes, int]] = []
            while not entries and not ended:
                directory = await self._directory.opened(self._files)
                entries, cookie, ended = await in_thread(read_names, directory, cookie, _ENTRIES_AT_ONCE)
            return [DirectoryEntry(_type(mode), decoded(name)) for name, mode in entries]

        return self._stream(fetch)

    def _stream(self, fetch: Callable[[], Awaitable[P]]) -> tuple[AsyncIterable[P], Awaitable[Result]]:
        try:
            self._opened.begin_stream()
        except OSError as error:
            pieces: Pieces[P] = Pieces(failing(error), _code)
        else:
            pieces = Pieces(fetch, _code, self._opened.end_stream)
        return pieces, pieces.result

    async def write_via_stream(self, data: StreamReader[bytes], offset: int) -> Awaitable[Result]:
        return self._write(data, offset)

    async def append_via_stream(self, data: StreamReader[bytes]) -> Awaitable[Result]:
        return self._write(data, None)

    def _write(self, data: StreamReader[bytes], position: int | None) -> Awaitable[Result]:
        try:
            writing = Writing(self._files, self._writable, position)
            self._opened.begin_stream()
        except OSError as error:
            return write_all(data, failing(error), _code)[0]
        writing.begin()

        def done() -> None:
            writing.end()
            self._opened.end_stream()

        return write_all(data, writing.put, _code, done)[0]


class Preopens:
    """Answers `wasi:filesystem/preopens`."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def get_directories(self) -> list[tuple[Descriptor, str]]:
        return granted(self._state.files, Descriptor)
