"""The function service: modules and jobs come in over one channel, their data over another.

A client sends on the command channel, and waits for each answer before it sends the next:

    MODULE 1234\\n  and 1234 bytes, a module         READY 65536\\n      the most bytes that a job may have
    JOB 11\\n       and 11 bytes on the data channel  DONE 5\\n           and 5 bytes on the data channel

`ERROR` and a line of text answers what can't be done, and both channels are as good as before: what comes with a
command is read to its announced end, whatever becomes of it. The command goes first and its data second, in both
directions, so that neither side waits for the other.

The module exports `memory`, `get_buffer_ptr() -> i32`, where its buffer is, and `process_data(length: i32) -> i32`,
which takes that many bytes from there and returns how many it has put in their place. The buffer reaches to the end
of the memory, unless `get_buffer_size() -> i32` says how long it is. One instance does all jobs of a module, so that
it may keep what it likes; one that traps, takes too long, or returns what can't be is thrown away, and the next job
gets a fresh one. A module may import WASI, and sees no files there.

Bytes go from the channel into the module's memory and from there into the channel, with no copy in between. The
channels are two file descriptors, of any kind that can be waited for.
"""

from __future__ import annotations

import asyncio
import os
import select
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from bindgen.runtime import GuestFault
from slight_py import wasi
from slight_py.compilation import Compilation, CompileLimits
from slight_py.engine import Engine, Exit, Instance, InvalidModule, ModuleInfo, Program, Trap, describe
from unikernel.checks import printable

T = TypeVar("T")

POINTER, PROCESS, SIZE = "get_buffer_ptr", "process_data", "get_buffer_size"
SIGNATURES = {POINTER: ("", "i"), PROCESS: ("i", "i"), SIZE: ("", "i")}
"""What a module exports, each with its parameters and results. The last one need not be there."""

LINE_LIMIT = 64
"""Bytes of a command's line. No command takes as many."""

SOON, TURN = 0.002, 0.02
"""Seconds for which the event loop may be held up by a wait, and by work."""

AWAY, PAUSE = 1.0, 0.02
"""Seconds that the data channel may have nobody at its end while the command channel has, and between two looks. QEMU
takes in the connections of a client one after the other, and the first command may come in between."""

_CHUNK = 1 << 16
_ERROR_LIMIT = 500


class JobError(Exception):
    """A command that can't be done; str() is the line that says why."""


class ChannelEnded(Exception):
    """The client has gone."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What clients are served with."""

    engine: Engine
    time_limit: float = 30.0
    """Seconds that a job may take."""
    compilation: Callable[[], CompileLimits] = CompileLimits
    """What the compilation of the next module may take."""


async def serve(command: int, data: int, settings: Settings) -> None:
    """Serves a client until it closes a channel. The descriptors become non-blocking, and stay open."""
    for each in (command, data):
        os.set_blocking(each, False)
    session = _Session(_Channel(command, 0), _Channel(data, AWAY), settings)
    try:
        while True:
            await session.command()
    except ChannelEnded:
        pass
    finally:
        session.close()


class _Session:
    """What one client has sent, and the instance that does its jobs."""

    def __init__(self, command: _Channel, data: _Channel, settings: Settings) -> None:
        self._command = command
        self._data = data
        self._settings = settings
        self._imports = {(each.module, each.name): (each, None) for each in wasi.IMPORTS}
        self._worker: _Worker | None = None

    def close(self) -> None:
        if self._worker is not None:
            self._worker.discard()
        self._worker = None

    async def command(self) -> None:
        """Does one command. Raises ChannelEnded."""
        line = await self._command.line()
        word, _, number = line.partition(b" ")
        does = {b"MODULE": self._module, b"JOB": self._job}.get(word)
        try:
            if does is None or not number.isdigit() or len(number) > 15:
                raise JobError("a command is `MODULE` or `JOB` with a number of bytes")
            answer, result = await does(int(number))
        except JobError as error:
            reason = printable(" ".join(str(error).split()))[:_ERROR_LIMIT]
            answer, result = f"ERROR {reason}", None
        await self._command.write(memoryview(answer.encode() + b"\n"))
        if result is not None:
            await self._data.write(result)

    async def _module(self, size: int) -> tuple[str, None]:
        """Takes a module in place of the one before."""
        self.close()
        engine = self._settings.engine
        limits = self._settings.compilation()
        wasm = await self._receive(size, limits.size)
        try:
            compilation = Compilation(engine, wasm, limits)
            try:
                module = await asyncio.to_thread(compilation.result)
            except asyncio.CancelledError:
                compilation.cancel()
                raise
            info = describe(module)
            _check(info)
            worker = _Worker(Program(engine, module, self._imports, info), info, self._settings.time_limit)
        except InvalidModule as error:
            raise JobError(f"the module can't be used: {error}") from None
        except MemoryError:
            raise JobError("there is not enough memory for the module") from None
        _, room = await worker.buffer()
        self._worker = worker
        return f"READY {room}", None

    async def _receive(self, size: int, limit: int) -> bytes:
        try:
            if size > limit:
                raise JobError(f"a module of {size} bytes is too large; {limit} is the limit")
            wasm = bytearray(size)
        except JobError:
            await self._command.discard(size)
            raise
        await self._command.read_into(memoryview(wasm))
        return bytes(wasm)

    async def _job(self, size: int) -> tuple[str, memoryview]:
        try:
            if self._worker is None:
                raise JobError("there is no module yet")
            at, room = await self._worker.buffer()
            if size > room:
                raise JobError(f"{size} bytes don't fit into the module's buffer of {room}")
        except JobError:
            await self._data.discard(size)
            raise
        await self._data.read_into(self._worker.memory[at : at + size])
        result = await self._worker.process(size)
        return f"DONE {len(result)}", result


def _check(info: ModuleInfo) -> None:
    """Raises JobError for a module that doesn't have what a job takes."""
    for name, (params, result) in SIGNATURES.items():
        function = info.functions.get(name)
        if function is None and name == SIZE:
            continue
        if function is None or (function.params, function.result) != (params, result):
            raise JobError(f"the module does not export {name}({'i32' if params else ''}) -> i32")
    if info.memory is None:
        raise JobError("the module does not export its memory")


class _Worker:
    """The instance of a module, made when there is none."""

    def __init__(self, program: Program, info: ModuleInfo, time_limit: float) -> None:
        self._program = program
        self._functions = info.functions
        self._wasi = wasi.Context(wasi.WasiSettings(("module",)))
        self._time_limit = time_limit
        self._instance: Instance | None = None

    def discard(self) -> None:
        """Throws the instance away."""
        if self._instance is not None:
            self._instance.close()
        self._instance = None

    @property
    def memory(self) -> memoryview:
        """As it is now: the next call may change its size."""
        assert self._instance is not None
        return self._instance.memory

    async def buffer(self) -> tuple[int, int]:
        """Where the module's buffer is, and its length. Raises JobError."""
        return await self._limited(self._buffer)

    async def process(self, size: int) -> memoryview:
        """Has the module process as many bytes of its buffer, and returns the result as it lies there.

        Raises JobError.
        """

        async def process(instance: Instance) -> memoryview:
            length = await instance.call(self._functions[PROCESS], (size,))
            at, room = await self._buffer(instance)
            if length > room:
                raise GuestFault(f"{PROCESS} returned {_signed(length)}, and the module's buffer has {room} bytes")
            return instance.memory[at : at + length]

        return await self._limited(process)

    async def _buffer(self, instance: Instance) -> tuple[int, int]:
        at = await instance.call(self._functions[POINTER], ())
        memory = len(instance.memory)
        if at > memory:
            raise GuestFault(f"{POINTER} returned {_signed(at)}, which is no address in the module's memory")
        if SIZE not in self._functions:
            return at, memory - at
        room = await instance.call(self._functions[SIZE], ())
        if room > len(instance.memory) - at:
            raise GuestFault(f"{SIZE} returned {_signed(room)}, which reaches past the end of the module's memory")
        return at, room

    async def _limited(self, steps: Callable[[Instance], Awaitable[T]]) -> T:
        """Runs `steps` within the limit of time. The instance is thrown away if that fails."""
        try:
            async with asyncio.timeout(self._time_limit):
                if self._instance is None:
                    self._instance = await self._program.instantiate(self._wasi)
                    await self._instance.initialize()
                return await steps(self._instance)
        except TimeoutError:
            reason = f"the module took more than {self._time_limit:g} seconds"
        except Trap as trap:
            reason = f"the module trapped: {trap}"
        except Exit as ended:
            reason = f"the module ended itself with code {ended.code}"
        except GuestFault as fault:
            reason = str(fault)
        except InvalidModule as error:
            reason = f"the module can't be run: {error}"
        self.discard()
        raise JobError(reason)


def _signed(number: int) -> int:
    """An i32 as a person takes it, of which there are more signed ones."""
    return number - (1 << 32) if number >> 31 else number


class _Channel:
    """A descriptor to read from and write to. Every method raises ChannelEnded where there is nobody at its end, once
    its `patience` is over, in seconds."""

    def __init__(self, file: int, patience: float) -> None:
        self._file = file
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._poll = select.poll()
        self._turned = 0.0
        self._scratch = memoryview(bytearray(_CHUNK))
        self._ahead = b""
        """What was read and not asked for yet."""

    async def line(self) -> bytes:
        """A line without its end; of one that is too long, nothing."""
        found = b""
        while True:
            line, end, self._ahead = self._ahead.partition(b"\n")
            found = (found + line)[: LINE_LIMIT + 1]
            if end:
                return found if len(found) <= LINE_LIMIT else b""
            count = await self._read(self._scratch)
            self._ahead = bytes(self._scratch[:count])

    async def read_into(self, view: memoryview) -> None:
        """Fills the view."""
        ahead = self._take_ahead(len(view))
        view[: len(ahead)] = ahead
        view = view[len(ahead) :]
        while view:
            view = view[await self._read(view) :]

    async def discard(self, count: int) -> None:
        """Reads as many bytes, and keeps none."""
        count -= len(self._take_ahead(count))
        while count:
            count -= await self._read(self._scratch[:count])

    def _take_ahead(self, count: int) -> bytes:
        taken, self._ahead = self._ahead[:count], self._ahead[count:]
        return taken

    async def write(self, view: memoryview) -> None:
        waited = 0.0
        while view:
            await self._turn()
            try:
                view = view[os.write(self._file, view) :]
            except BlockingIOError:
                await self._ready(select.POLLOUT, self._loop.add_writer, self._loop.remove_writer)
                if hung_up(self._file):
                    waited = await self._pause(waited)
            except OSError:
                raise ChannelEnded from None

    async def _read(self, view: memoryview) -> int:
        """Reads what is there, one byte at least; returns how many."""
        waited = 0.0
        while True:
            await self._turn()
            try:
                count = os.readv(self._file, [view])
            except BlockingIOError:
                await self._ready(select.POLLIN, self._loop.add_reader, self._loop.remove_reader)
                continue
            except OSError:
                raise ChannelEnded from None
            if count:
                return count
            waited = await self._pause(waited)

    async def _pause(self, waited: float) -> float:
        """Waits for somebody to be there, and returns for how long that has been done."""
        if waited >= self._patience:
            raise ChannelEnded
        await asyncio.sleep(PAUSE)
        return waited + PAUSE

    async def _turn(self) -> None:
        """Lets others have their turn now and then, where there is always something to read."""
        now = time.monotonic()
        if now - self._turned > TURN:
            self._turned = now
            await asyncio.sleep(0)

    async def _ready(self, event: int, add: Callable[..., object], remove: Callable[[int], object]) -> None:
        """Waits; at first without the event loop, since a client at work is sooner than a round of that."""
        self._poll.register(self._file, event)
        if self._poll.poll(SOON * 1000):
            return
        ready = self._loop.create_future()
        add(self._file, _resolve, ready)
        try:
            await ready
        finally:
            remove(self._file)


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def hung_up(file: int) -> bool:
    """Whether nobody is at the other end, which a write to a virtio port does not tell."""
    poll = select.poll()
    poll.register(file, 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))
