"""The functions of WASI, called from Python: as slight-py answers them, and as wasmtime does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from struct import pack, unpack_from
from typing import Any

import wasmtime

from bindgen.runtime import GuestFault
from slight_py import wasi
from slight_py.engine import WASI, Exit, Instance, Program, Trap
from slight_py.wasi import Directory, WasiSettings
from tests import wat

PAGES = 4

PATHS, PATH_SIZE = 1024, 8192
"""Where paths go in the guest's memory: one after the other, each with as much room."""

BUFFER, BUFFER_SIZE = 65536, 131072

RESULT, RESULT2, VECTORS = 64, 80, 128

ENDED = "ended"
"""What a call returns that ended the guest."""


@cache
def forwarding() -> bytes:
    """A guest that exports each function of WASI that it imports, as it is."""
    types = {"i": "i32", "I": "i64"}
    imports, exports = [], []
    for each in wasi.IMPORTS:
        params = " ".join(types[letter] for letter in each.params)
        signature = f"(param {params}) {'(result i32)' if each.result else ''}"
        given = " ".join(f"(local.get {number})" for number in range(len(each.params)))
        imports.append(f'(import "{WASI}" "{each.name}" (func ${each.name} {signature}))')
        exports.append(f'(func (export "{each.name}") {signature} (call ${each.name} {given}))')
    return wat.binary("\n".join((*imports, f'(memory (export "memory") {PAGES})', *exports)))


class Subject:
    """A guest, and how to call WASI as it would."""

    def call(self, name: str, *args: int) -> Any:
        """WASI's error number, or ENDED."""
        raise NotImplementedError

    def read(self, at: int, size: int) -> bytes:
        raise NotImplementedError

    def write(self, at: int, content: bytes) -> None:
        raise NotImplementedError

    # What tests do.

    def path(self, text: str | bytes, number: int = 0) -> tuple[int, int]:
        """Puts a path into memory; returns its address and length."""
        content = text.encode() if isinstance(text, str) else text
        at = PATHS + number * PATH_SIZE
        self.write(at, content)
        return at, len(content)

    def u32(self, at: int = RESULT) -> int:
        return int(unpack_from("<I", self.read(at, 4))[0])

    def u64(self, at: int = RESULT) -> int:
        return int(unpack_from("<Q", self.read(at, 8))[0])

    def open(
        self, path: str | bytes, oflags: int = 0, rights: int = 2, flags: int = 0, follow: int = 1, directory: int = 3
    ) -> tuple[Any, int]:
        """WASI's error, and the descriptor."""
        self.write(RESULT, bytes(4))
        error = self.call("path_open", directory, follow, *self.path(path), oflags, rights, 0, flags, RESULT)
        return error, self.u32() if error == 0 else 999

    def print(self, number: int, content: bytes, position: int | None = None) -> tuple[Any, int]:
        """Writes to a descriptor: WASI's error, and how many bytes."""
        self.write(BUFFER, content)
        self.write(VECTORS, pack("<II", BUFFER, len(content)))
        self.write(RESULT, bytes(4))
        where = () if position is None else (position,)
        error = self.call("fd_write" if position is None else "fd_pwrite", number, VECTORS, 1, *where, RESULT)
        return error, self.u32()

    def take(self, number: int, size: int, position: int | None = None) -> tuple[Any, bytes]:
        """Reads from a descriptor: WASI's error, and the bytes."""
        self.write(VECTORS, pack("<II", BUFFER, size))
        self.write(RESULT, bytes(4))
        where = () if position is None else (position,)
        error = self.call("fd_read" if position is None else "fd_pread", number, VECTORS, 1, *where, RESULT)
        return error, self.read(BUFFER, self.u32())

    def seek(self, number: int, offset: int, whence: int) -> tuple[Any, int]:
        self.write(RESULT, bytes(8))
        return self.call("fd_seek", number, offset % (1 << 64), whence, RESULT), self.u64()

    def at(self, name: str, path: str | bytes, directory: int = 3) -> Any:
        """A function of a path alone."""
        return self.call(name, directory, *self.path(path))

    def status(self, of: int | str, follow: int = 1, directory: int = 3) -> Any:
        """What is told of a file: its type, links, size, and times; WASI's error where nothing is."""
        if isinstance(of, int):
            error = self.call("fd_filestat_get", of, BUFFER)
        else:
            error = self.call("path_filestat_get", directory, follow, *self.path(of), BUFFER)
        if error:
            return error
        device, _, filetype, links, size, *times = unpack_from("<QQB7xQQQQQ", self.read(BUFFER, 64))
        told = ["now" if abs(each - time.time_ns()) < 60e9 else each for each in times[:2]]
        return device, filetype, links if filetype != 3 else "", size if filetype != 3 else "", told

    def identity(self, of: int | str, follow: int = 1) -> Any:
        return self.status(of, follow) if self.status(of, follow) in range(1, 77) else self.read(BUFFER + 8, 8)

    def entries(self, number: int, size: int = BUFFER_SIZE) -> Any:
        """Names and types of all that is in a directory, sorted; asked for with a buffer of `size`."""
        found = []
        cookie = 0
        while True:
            self.write(RESULT, bytes(4))
            error = self.call("fd_readdir", number, BUFFER, size, cookie, RESULT)
            if error:
                return error
            used, at = self.u32(), 0
            content = self.read(BUFFER, used)
            while at + 24 <= used:
                following, _, length, kind = unpack_from("<QQIB", content, at)
                name = content[at + 24 : at + 24 + length]
                if len(name) < length:
                    break
                found.append((name, kind))
                cookie = following
                at += 24 + length
            if used < size:
                return sorted(found)


class Ours(Subject):
    """slight-py's."""

    def __init__(self, runner: asyncio.Runner, program: Program, instance: Instance) -> None:
        self._runner = runner
        self._program = program
        self.instance = instance

    def called(self, name: str, *args: int) -> Any:
        """WASI's error number. Raises what ends the guest."""

        async def called() -> Any:
            return await self.instance.call(self._program.info.functions[name], args)

        return self._runner.run(called())

    def call(self, name: str, *args: int) -> Any:
        try:
            return self.called(name, *args)
        except (GuestFault, Trap):
            return ENDED
        except Exit as ended:
            return f"exit {ended.code}"

    def read(self, at: int, size: int) -> bytes:
        return bytes(self.instance.memory[at : at + size])

    def write(self, at: int, content: bytes) -> None:
        self.instance.memory[at : at + len(content)] = content


class Wasmtimes(Subject):
    """wasmtime's."""

    def __init__(self, store: wasmtime.Store, instance: wasmtime.Instance) -> None:
        self._store = store
        self._exports = instance.exports(store)
        self._memory: Any = self._exports["memory"]

    def call(self, name: str, *args: int) -> Any:
        function: Any = self._exports[name]
        try:
            return function(self._store, *args)
        except wasmtime.ExitTrap as ended:
            return f"exit {ended.code}"
        except (wasmtime.WasmtimeError, wasmtime.Trap):
            return ENDED

    def read(self, at: int, size: int) -> bytes:
        return bytes(self._memory.read(self._store, at, at + size))

    def write(self, at: int, content: bytes) -> None:
        self._memory.write(self._store, content, at)


@contextmanager
def ours(settings: WasiSettings) -> Iterator[Ours]:
    with asyncio.Runner() as runner:
        program = wat.program(forwarding())

        async def make() -> Instance:
            return await program.instantiate(wasi.Context(settings))

        instance = runner.run(make())
        try:
            yield Ours(runner, program, instance)
        finally:
            instance.close()


@contextmanager
def wasmtimes(settings: WasiSettings) -> Iterator[Wasmtimes]:
    config = wasmtime.WasiConfig()
    config.argv = tuple(settings.args)
    config.env = tuple(settings.env.items())
    config.inherit_stdout()
    config.inherit_stderr()
    for each in settings.directories:
        config.preopen_dir(str(each.host), each.guest, each.writable)
    linker = wasmtime.Linker(wasmtime.Engine())
    linker.define_wasi()
    store = wasmtime.Store(linker.engine)
    store.set_wasi(config)
    yield Wasmtimes(store, linker.instantiate(store, wasmtime.Module(linker.engine, forwarding())))


def granted(*directories: Path, writable: bool = True) -> WasiSettings:
    """Settings with directories: the first is `.`, the others have their own names."""
    names = [".", *(each.name for each in directories[1:])]
    return WasiSettings(
        ("program", "größe", ""), {"HOME": "/", "LEER": ""},
        [Directory(each, name, writable) for each, name in zip(directories, names, strict=True)],
    )  # fmt: skip
