"""Backends whose state all workers of one run share: they live in the main process, and the workers ask it.

A worker has `Remote` in a backend's place, which hands its calls to the main process over an AF_UNIX stream socket that
the worker inherited, so nobody else can connect; `serve` makes them there. What a worker has open ends with it.

A message is its length and a pickle: `(number, backend, method, arguments)` asks, `(number, None, "", ())` takes a
question back, `(number, succeeded, result or error)` answers, in any order. The main process trusts its workers as
little as it has to: a pickle holds values of Python's own types, and dataclasses and errors of capabilities by their
names and fields. It can name no other class, and change none.
"""

from __future__ import annotations

import asyncio
import inspect
import io
import itertools
import logging
import pickle
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import cache
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


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        """What stands for a dataclass or an error: where its class is, and what makes another one like it."""
        kind = type(obj)
        if isinstance(obj, CapabilityError | Err):
            values = obj.args
        elif is_dataclass(kind):
            values = tuple(getattr(obj, each.name) for each in fields(kind))
        else:
            return None
        _class(kind.__module__, kind.__qualname__)
        return kind.__module__, kind.__qualname__, values

    def reducer_override(self, obj: Any) -> Any:
        raise pickle.PicklingError(f"{type(obj).__name__} is not for messages between processes")


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, pid: Any) -> Any:
        module, name, values = pid
        return _class(module, name)(*values)

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is no value")


@cache
def _class(module: str, name: str) -> Any:
    """A class that messages may hold objects of. Raises UnpicklingError for any other."""
    if (module, name) == (Err.__module__, Err.__qualname__):
        return Err
    if module.split(".")[0] in ("capabilities", "slight_py"):
        # What this process has not imported, no message of its backends holds: and an import may do something.
        found = getattr(sys.modules.get(module), name, None)
        if isinstance(found, type) and (is_dataclass(found) or issubclass(found, CapabilityError)):
            return found
    raise pickle.UnpicklingError(f"{module}.{name} is not for messages between processes")


def _pack(message: object) -> bytes:
    """Raises CapabilityError where the message is too long, PicklingError where it holds what messages can't."""
    packed = io.BytesIO()
    _Pickler(packed, pickle.HIGHEST_PROTOCOL).dump(message)
    data = packed.getvalue()
    if len(data) > MESSAGE_LIMIT:
        raise CapabilityError(f"it takes {len(data)} bytes, more than processes tell each other")
    return _LENGTH.pack(len(data)) + data


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
        with suppress(EOFError):
            while True:
                message = await _receive(reader)
                match message:
                    case (int(number), None, "", ()):
                        worker.take_back(number)
                    case (int(number), (str(), tuple()) as key, str(method), tuple(arguments)):
                        await worker.take(number, key, method, arguments)
                    case _:
                        raise ValueError("a message is no question")
    except (ValueError, TypeError) as error:  # such as a key with lists in it
        log.error("a worker is cut off from what it shares: %s", error)
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

    def take_back(self, number: int) -> None:
        """Ends what a message has asked for."""
        if call := self._calls.get(number):
            call.cancel()

    async def take(self, number: int, key: Key, method: str, arguments: tuple[Any, ...]) -> None:
        """Begins what a message asks for. Raises ValueError for what no worker asks for, EOFError where it is gone."""
        if number in self._calls:
            raise ValueError("a number is used twice")
        if key not in self._open:
            if key not in self._backends:
                raise ValueError("there is no such backend")
            self._open[key] = self._backends[key].connect()
        function = getattr(type(self._open[key]), method, None)
        if method.startswith("_") or method == "close" or not inspect.iscoroutinefunction(function):
            raise ValueError("there is no such method")
        call = asyncio.create_task(self._answer(number, function, (self._open[key], *arguments)))
        self._calls[number] = call
        call.add_done_callback(lambda _: self._calls.pop(number, None))
        try:
            await self._writer.drain()  # a worker that reads no answers is not read
        except OSError:
            raise EOFError from None

    async def _answer(self, number: int, function: Any, arguments: tuple[Any, ...]) -> None:
        try:
            try:
                message = _pack((number, True, await function(*arguments)))
            except (CapabilityError, Err) as error:
                message = _pack((number, False, error))
        except Exception:
            log.exception("a backend that the workers share failed")
            message = _pack((number, False, CapabilityError("it failed in the main process")))
        self._writer.write(message)

    async def close(self) -> None:
        calls = list(self._calls.values())
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        for backend in self._open.values():
            try:
                await backend.close()
            except Exception:
                log.exception("what a worker had open can't be closed")


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
        except EOFError:
            pass
        except ValueError as error:
            log.error("the main process is cut off: %s", error)
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
        if method.startswith("_") or method == "session":  # a host with sessions is none of the main process's
            raise AttributeError(method)

        async def ask(*arguments: Any) -> Any:
            return await self._connection.ask(self._key, method, arguments)

        return ask

    async def close(self) -> None:
        """Nothing: the connection closes what this worker has open."""


def _gone() -> Gone:
    return Gone("the process that holds this in memory is gone")
