"""wasi:cli 0.3. What isn't here is as in 0.2."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterable, Awaitable

from bindgen.runtime import Err
from bindgen.runtime.component import StreamReader
from capabilities.bindings.wasi_cli_0_3.types import ErrorCode
from capabilities.wasi.io import CAPACITY
from slight_py.wasi.files import MAX_STREAMS
from slight_py.wasi.preview2.state import State
from slight_py.wasi.preview3.streams import Pieces, Result, write_all
from slight_py.wasi.stdio import INPUT, OUTPUTS, Output

_CODES = {errno.EPIPE: ErrorCode.PIPE, errno.EILSEQ: ErrorCode.ILLEGAL_BYTE_SEQUENCE}


def _code(error: OSError) -> ErrorCode:
    return _CODES.get(error.errno or 0, ErrorCode.IO)


class Environment:
    """Answers `wasi:cli/environment`."""

    def __init__(self, state: State) -> None:
        self._context = state.context

    async def get_environment(self) -> list[tuple[str, str]]:
        return self._context.variables

    async def get_arguments(self) -> list[str]:
        return self._context.arguments

    async def get_initial_cwd(self) -> str | None:
        """None: a guest finds its directories by their names."""
        return None


class Stdin:
    """Answers `wasi:cli/stdin`."""

    def __init__(self, state: State) -> None:
        self._given = state.context.stdin

    async def read_via_stream(self) -> tuple[AsyncIterable[bytes], Awaitable[Result]]:
        pieces = Pieces(self._read, _code)
        return pieces, pieces.result

    async def _read(self) -> bytes:
        return await INPUT.read(CAPACITY) if self._given else b""


AT_ONCE = 64
"""Streams of an instance that are read at a time, each of standard output and error, to be printed: up to 64 KiB of
each wait for whoever reads the output."""


def _refused() -> Awaitable[Result]:
    refused: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    refused.set_result(Err(ErrorCode.IO))
    return refused


class _Printer:
    """Prints the streams that one instance hands over."""

    def __init__(self, state: State, target: Output) -> None:
        self._unfinished = state.unfinished
        self._target = target
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def write_via_stream(self, data: StreamReader[bytes]) -> Awaitable[Result]:
        if len(self._unfinished) >= MAX_STREAMS:
            # Those that nobody writes keep all others waiting, and a guest needs no handle for what it has given away.
            data.close()
            return _refused()
        result, task = write_all(data, self._print, _code, turns=self._turns)
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        return result

    async def _print(self, data: bytes) -> None:
        await self._target.write(lambda: memoryview(data), 0, len(data))


class Stdout(_Printer):
    """Answers `wasi:cli/stdout`."""

    def __init__(self, state: State) -> None:
        super().__init__(state, OUTPUTS[1])


class Stderr(_Printer):
    """Answers `wasi:cli/stderr`."""

    def __init__(self, state: State) -> None:
        super().__init__(state, OUTPUTS[2])
