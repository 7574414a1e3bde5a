"""The streams and futures of WASI 0.3, between a guest and what the host has: a file, standard input or output."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from bindgen.runtime import Err, Ok
from bindgen.runtime.component import StreamReader
from capabilities.wasi.io import CAPACITY
from slight_py import sessions
from slight_py.component.streams import Dropped
from slight_py.wasi.sandbox import failure

P = TypeVar("P", bound=Sequence[Any])

Result: TypeAlias = Ok[None] | Err[Any]
Code: TypeAlias = Callable[[OSError], Any]
"""The `error-code` of an error of the system."""


class Pieces(Generic[P]):
    """A stream that the host fills: asynchronous iteration gives its pieces. `result` is what came of it, the future
    that a guest gets beside the stream."""

    def __init__(self, fetch: Callable[[], Awaitable[P]], code: Code, close: Callable[[], None] | None = None) -> None:
        """`fetch` returns the next piece, an empty one at the end. `close` is called once, when no more is fetched."""
        self._fetch = fetch
        self._code = code
        self._close = close
        self._ended = False
        self.result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    def __aiter__(self) -> Pieces[P]:
        return self

    async def __anext__(self) -> P:
        if not self._ended:
            try:
                found = await self._fetch()
            except OSError as error:
                self._end(Err(self._code(error)))
            else:
                if found:
                    return found
                self._end(Ok(None))
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Nobody reads any more, which is no error."""
        self._end(Ok(None))

    def _end(self, result: Result) -> None:
        if self._ended:
            return
        self._ended = True
        if not self.result.done():  # the guest may have given it up
            self.result.set_result(result)
        if self._close is not None:
            self._close()


def failing(error: OSError) -> Callable[..., Awaitable[Any]]:
    """What stands in the place of a function that reads or writes, where nothing can be read or written."""

    async def fail(*_arguments: Any) -> Any:
        raise error

    return fail


def write_all(
    data: StreamReader[bytes],
    put: Callable[[bytes], Awaitable[None]],
    code: Code,
    done: Callable[[], None] | None = None,
    turns: asyncio.Semaphore | None = None,
) -> tuple[asyncio.Future[Result], asyncio.Task[None]]:
    """Writes a stream that the guest handed over, to its end, whether anybody waits for that or not.

    Returns what will come of it, and the task that is at work. `put` writes a piece, and raises OSError; the guest
    learns then that nobody reads any more. `done` is called at the end. `turns` says how many streams are read at a
    time.
    """
    result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(_write_all(data, put, code, done, turns or asyncio.Semaphore(), result))
    sessions.wait_for(task)
    return result, task


async def _write_all(
    data: StreamReader[bytes],
    put: Callable[[bytes], Awaitable[None]],
    code: Code,
    done: Callable[[], None] | None,
    turns: asyncio.Semaphore,
    result: asyncio.Future[Result],
) -> None:
    found: Result = Err(code(failure(errno.EIO)))
    try:
        async with turns:
            while piece := await data.read(CAPACITY):
                await put(piece)
        found = Ok(None)
    except OSError as error:
        found = Err(code(error))
    except Dropped:
        pass  # the guest has ended in the midst of it, and nobody is left to be told
    finally:
        data.close()
        if done is not None:
            done()
        if not result.done():  # the guest may have given it up
            result.set_result(found)
