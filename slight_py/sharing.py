"""Backends whose state all workers of one run share: they live in the main process, and the workers ask it.

A worker has `Remote` in a backend's place, which hands its calls to the main process over an AF_UNIX stream socket that
the worker inherited, so nobody else can connect; `serve` makes them there. What a worker has open ends with it.

A message is its length and a pickle: `(number, backend, method, arguments)` asks, `(number, None, "", ())` takes a
question back, `(number, succeeded, result or error)` answers, in any order. The main process trusts its workers as
little as it has to: a pickle can name the classes of capabilities that hold values or are errors, and nothing else.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import io
import itertools
import logging
import pickle
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from struct import Struct
from typing import Any, TypeAlias

from bindgen.runtime import Err
from capabilities import notices
from capabilities.errors import CapabilityError

log = logging.getLogger("slight_py")

Key: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""Which backend is meant: what its resource type loads, and its configuration."""

MESSAGE_LIMIT = 256 * 1024 * 1024
"""How long a message may be, in bytes."""

CLOSE_SECONDS = 1.0
"""How long the end of a worker waits for the main process to say what the worker would tell."""

_LENGTH = Struct("=I")

NOTICES: Key = ("notices", ())
"""What stands for the log of the main process among the backends: see `Notices`."""


class Notices:
    """Tells whoever runs slight-py what the workers would, each cause once."""

    def connect(self) -> Notices:
        return self

    async def tell(self, cause: str) -> None:
        notices.tell(cause)

    async def close(self) -> None:
        """Nothing: there is nothing open."""


class Gone(CapabilityError):
    """The main process is gone, and with it what its backends kept."""


def _pack(message: object) -> bytes:
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(data)) + data


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("bindgen.runtime", "Err"):
            return Err
        if module.split(".")[0] in ("capabilities", "slight_py"):
            found = getattr(importlib.import_module(module), name, None)
            if isinstance(found, type) and (is_dataclass(found) or issubclass(found, CapabilityError)):
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is not for messages between processes")


async def _receive(reader: asyncio.StreamReader) -> Any:
    """The next message. Raises EOFError where the other end is gone, ValueError where it breaks the protocol."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length > MESSAGE_LIMIT:
            raise ValueError("a message is too long")
        data = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, OSError):
        raise EOFError from None
    try:
        return _Unpickler(io.BytesIO(data)).load()
    except Exception as error:
        raise ValueError(f"a message can't be read: {error}") from None


# The main process's end.


async def serve(backends: Mapping[Key, Any], sock: socket.socket) -> None:
    """Answers the worker at the other end of `sock` until it is gone, with the backends that there are by then."""
    reader, writer = await asyncio.open_unix_connection(sock=sock)
    worker = _Worker(backends, writer)
    try:
        with suppress(EOFError, ValueError):
            while True:
                await worker.take(*await _receive(reader))
    finally:
        writer.transport.abort()
        await worker.close()


class _Worker:
    """What one worker has asked for, and has open."""

    def __init__(self, backends: Mapping[Key, Any], writer: asyncio.StreamWriter) -> None:
        self._backends = backends
        self._writer = writer
        self._open: dict[Key, Any] = {}
        self._calls: dict[int, asyncio.Task[None]] = {}

    async def take(self, number: int, key: Key | None, method: str, arguments: tuple[Any, ...]) -> None:
        """Begins what a message asks for. Raises ValueError for what no worker asks for."""
        if key is None:
            if call := self._calls.get(number):
                call.cancel()
            return
        if key not in self._open:
            if key not in self._backends:
                raise ValueError("there is no such backend")
            self._open[key] = self._backends[key].connect()
        function = getattr(type(self._open[key]), method, None)
        if method.startswith("_") or method == "close" or not inspect.iscoroutinefunction(function):
            raise ValueError("there is no such method")
        call = asyncio.create_task(self._answer(number, function(self._open[key], *arguments)))
        self._calls[number] = call
        call.add_done_callback(lambda _: self._calls.pop(number, None))
        # A worker that reads no answers is not read.
        await self._writer.drain()

    async def _answer(self, number: int, answer: Any) -> None:
        try:
            message = _pack((number, True, await answer))
        except (CapabilityError, Err) as error:
            message = _pack((number, False, error))
        except Exception:
            log.exception("a backend that the workers share failed")
            message = _pack((number, False, CapabilityError("it failed in the main process")))
        self._writer.write(message)

    async def close(self) -> None:
        for call in list(self._calls.values()):
            call.cancel()
        for backend in self._open.values():
            await backend.close()


# A worker's end.


class Connection:
    """A worker's connection to the main process, made when a backend is asked for the first time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._opening: asyncio.Task[asyncio.StreamWriter] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._lost = False
        self._telling: set[asyncio.Task[None]] = set()

    def backend(self, key: Key) -> Any:
        """What stands for a backend of the main process."""
        return Remote(self, key)

    def tell(self, cause: str) -> None:
        """Has the main process tell whoever runs slight-py. If it is gone, this process does."""

        async def tell() -> None:
            try:
                await self.ask(NOTICES, "tell", (cause,))
            except CapabilityError:
                notices.show(cause)

        task = asyncio.create_task(tell())
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def ask(self, key: Key, method: str, arguments: tuple[Any, ...]) -> Any:
        """The answer of the main process. Raises what the backend raises there, or Gone."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        writer = await asyncio.shield(self._opening)
        if self._lost:
            raise _gone()
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            writer.write(_pack((number, key, method, arguments)))
            with suppress(OSError):  # then the answer says that it is gone
                await writer.drain()
            return await answer
        except asyncio.CancelledError:
            writer.write(_pack((number, None, "", ())))
            raise
        finally:
            del self._waiting[number]

    async def _open(self) -> asyncio.StreamWriter:
        reader, writer = await asyncio.open_unix_connection(sock=self._sock)
        self._reading = asyncio.create_task(self._read(reader))
        return writer

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                number, succeeded, result = await _receive(reader)
                answer = self._waiting.get(number)
                if answer is None or answer.done():
                    continue  # whoever asked has gone
                if succeeded:
                    answer.set_result(result)
                else:
                    answer.set_exception(result)
        except (EOFError, ValueError):
            pass
        finally:
            self._lost = True
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(_gone())

    async def close(self) -> None:
        if self._telling:
            await asyncio.wait(self._telling, timeout=CLOSE_SECONDS)
        if self._opening is None:
            self._sock.close()
            return
        (await self._opening).transport.abort()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])


class Remote:
    """A backend of the main process, in a worker: each of its coroutine methods is asked for there."""

    def __init__(self, connection: Connection, key: Key) -> None:
        self._connection = connection
        self._key = key

    def __getattr__(self, method: str) -> Any:
        if method.startswith("_"):
            raise AttributeError(method)

        async def ask(*arguments: Any) -> Any:
            return await self._connection.ask(self._key, method, arguments)

        return ask

    async def close(self) -> None:
        """Nothing: the connection closes what this worker has open."""


def _gone() -> Gone:
    return Gone("the process that holds this in memory is gone")
