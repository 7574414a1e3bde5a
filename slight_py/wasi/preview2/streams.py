"""The streams of WASI 0.2 that lead to standard input and output, and to files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bindgen.runtime import Err
from capabilities.bindings.wasi_io_0_2.streams import StreamErrorClosed
from capabilities.wasi.io import CAPACITY, InputStream, OutputStream, PulledInput, PushedOutput, Waiter
from slight_py import sessions
from slight_py.wasi.descriptors import Writing, check_position
from slight_py.wasi.files import File, Files
from slight_py.wasi.stdio import Input, Output


class StandardInput(InputStream):
    """The process's standard input. What one stream doesn't read is there for the next one."""

    def __init__(self, source: Input) -> None:
        super().__init__()
        self._source = source
        self._waiting: asyncio.Task[None] | None = None

    def is_ready(self) -> bool:
        return self._ended or self._source.is_ready

    def on_drop(self) -> None:
        super().on_drop()
        if self._waiting is not None:
            self._waiting.cancel()

    async def _wait(self, _size: int) -> None:
        if not self._ended:
            await self._source.ready()

    def _take(self, most: int) -> bytes:
        self._check_open(most)
        if not most or not self._source.is_ready:
            return b""
        try:
            found = self._source.take(min(most, CAPACITY))
        except OSError as error:
            self.fail(error)
        else:
            if found:
                return found
            self.end()
        self._check_open(most)
        raise Err(StreamErrorClosed())

    def _skip(self, most: int) -> int:
        return len(self._take(most))

    def _wanted(self, _size: int) -> None:
        if self._waiting is None and not self._source.is_ready:
            self._waiting = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        try:
            await self._source.ready()
        finally:
            self._waiting = None
            self._signal.notify()


class StandardOutput(OutputStream):
    """The process's standard output or error. What is printed is on its way: a flush has nothing to wait for."""

    def __init__(self, target: Output) -> None:
        super().__init__()
        self._target = target
        self._waiting: asyncio.Task[None] | None = None

    def _room(self) -> int:
        return self._target.free

    def _accept(self, data: bytes) -> None:
        self._target.print(data)

    def _check_open(self) -> None:
        if not self._is_closed:
            try:
                self._target.check()
            except OSError as error:
                self.fail(error)
        super()._check_open()

    def watch(self, waiter: Waiter) -> None:
        super().watch(waiter)
        if self._waiting is None and not self.is_ready():
            self._waiting = asyncio.create_task(self._tell())

    async def _wait(self) -> None:
        if not self.is_ready():
            await self._target.room()

    async def _tell(self) -> None:
        try:
            await self._target.room()
        finally:
            self._waiting = None
            self._signal.notify()

    def on_drop(self) -> None:
        super().on_drop()
        if self._waiting is not None:
            self._waiting.cancel()


def file_input(file: File, position: int, close: Callable[[], None]) -> InputStream:
    """What is in a file from a position on. `close` is called when the guest drops the stream."""
    at = position

    async def fetch(size: int) -> bytes:
        nonlocal at
        found = await file.read_bytes(size, check_position(at))
        at += len(found)
        return found

    return PulledInput(fetch, close)


class FileOutput(PushedOutput):
    """Writes to a file."""

    def __init__(self, files: Files, file: File, position: int | None, done: Callable[[], None]) -> None:
        """Without a position, it appends. `done` is called when the guest has dropped the stream and what it wrote is
        written."""
        self._writing = Writing(files, file, position)
        super().__init__(self._writing.put, done)

    def _accept(self, data: bytes) -> None:
        self._writing.begin()
        super()._accept(data)
        if self._task is not None:
            sessions.wait_for(self._task)

    def _sent(self) -> None:
        self._writing.end()
        super()._sent()
