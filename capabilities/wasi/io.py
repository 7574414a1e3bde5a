"""wasi:io 0.2 on asyncio: errors, what a guest polls, the streams that it reads and writes, and what to build them of.

A guest's call that must wait is a coroutine that waits; the event loop goes on meanwhile. The rules are those of the
WIT of `wasi:io@0.2` (`wit/wasi/io-0.2`). Where that leaves a choice: a `pollable` that outlives its stream is ready,
and a call to a stream that was dropped (by others who hold it) is answered with `closed`.

Three things make a stream:

- `Pipe`: bytes in memory between a guest and the host, or between two guests, with a bound and with back pressure;
- `BytesInput`, `PulledInput`: what a guest reads, from bytes or from an asynchronous function;
- `PushedOutput`, `Sink`: what a guest writes, to an asynchronous function or to nothing.

All of this belongs to one event loop, and none of it is to be used from a thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import NoReturn

from bindgen.runtime import Err, GuestFault
from capabilities.bindings.wasi_io_0_2.streams import StreamErrorClosed, StreamErrorLastOperationFailed
from capabilities.wasi.allowance import Allowance
from capabilities.wasi.chunks import Chunks

log = logging.getLogger("slight_py")

CAPACITY = 1 << 16
"""Bytes that a stream holds, and the most that one call reads or may write, unless its maker says otherwise."""

MAX_BLOCKING_WRITE = 4096
"""Bytes that `blocking-write-and-flush` takes at most: the WIT's number."""

MAX_POLLED = 1 << 16
"""Pollables in one call of `poll`: as many as an instance may hold handles."""

POLLED_AT_ONCE = 1 << 12
"""Pollables that are looked at before others have their turn, in about a millisecond."""

MAX_DEBUG_STRING = 1024
"""Characters of `to-debug-string`."""

_ZEROES = bytes(CAPACITY)


class Error:
    """The resource `error` of wasi:io/error: why an operation of a stream failed."""

    __slots__ = ("cause",)

    def __init__(self, cause: BaseException) -> None:
        self.cause = cause
        """For other interfaces, which tell more of their own errors: `filesystem-error-code`, `http-error-code`."""

    async def to_debug_string(self) -> str:
        cause = self.cause
        # The system's own words: `str()` would tell the host's name of the file, too.
        text = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
        return (text or type(cause).__name__)[:MAX_DEBUG_STRING]


# Waiting.

Waiter = asyncio.Future[None]


class Signal:
    """Tells those who wait that something has changed. They look at it again, and go on waiting where it's not what
    they wait for."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: set[Waiter] = set()

    def add(self, waiter: Waiter) -> None:
        self._waiting.add(waiter)

    def discard(self, waiter: Waiter) -> None:
        self._waiting.discard(waiter)

    def notify(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, set()
            for each in waiting:
                _wake(each)

    async def wait(self) -> None:
        """Waits for the next `notify`."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            await waiter
        finally:
            self._waiting.discard(waiter)


def _wake(waiter: Waiter) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Pollable:
    """The resource `pollable` of wasi:io/poll. This class is ready at all times; those that derive from it are not."""

    __slots__ = ()

    deadline: int | None = None
    """When it becomes ready by itself, by `time.monotonic_ns()`."""

    def is_ready(self) -> bool:
        return True

    def watch(self, waiter: Waiter) -> None:
        """Has a future done as soon as this may have become ready."""

    def unwatch(self, waiter: Waiter) -> None:
        """Ends that. It may be called more often than `watch`."""

    async def ready(self) -> bool:
        return self.is_ready()

    async def block(self) -> None:
        while not self.is_ready():
            await _wait_for_one((self,))


class Timer(Pollable):
    """Ready from a point in time on."""

    __slots__ = ("deadline",)

    def __init__(self, deadline: int) -> None:
        """`deadline` is in nanoseconds by `time.monotonic_ns()`."""
        self.deadline: int = deadline

    def is_ready(self) -> bool:
        return time.monotonic_ns() >= self.deadline


class Event(Pollable):
    """Ready once its host has said so: a response that came, say."""

    __slots__ = ("_is_set", "_signal")

    def __init__(self) -> None:
        self._is_set = False
        self._signal = Signal()

    def set(self) -> None:
        self._is_set = True
        self._signal.notify()

    def is_ready(self) -> bool:
        return self._is_set

    def watch(self, waiter: Waiter) -> None:
        self._signal.add(waiter)

    def unwatch(self, waiter: Waiter) -> None:
        self._signal.discard(waiter)


class _StreamPollable(Pollable):
    """Ready when a stream is, and when that was dropped."""

    __slots__ = ("_stream",)

    def __init__(self, stream: InputStream | OutputStream) -> None:
        self._stream = stream

    def is_ready(self) -> bool:
        return self._stream.look()

    def watch(self, waiter: Waiter) -> None:
        self._stream.watch(waiter)

    def unwatch(self, waiter: Waiter) -> None:
        self._stream.unwatch(waiter)


async def poll(pollables: Sequence[Pollable]) -> list[int]:
    """Waits until at least one is ready; the places of those that are. Raises GuestFault for none and for more than
    MAX_POLLED."""
    if not pollables:
        raise GuestFault("wasi:io/poll: poll: the list is empty: there is nothing to wait for")
    if len(pollables) > MAX_POLLED:
        raise GuestFault(f"wasi:io/poll: poll: {len(pollables)} pollables are more than {MAX_POLLED}")
    while True:
        ready = await _ready(pollables)
        if ready:
            return ready
        await _wait_for_one(pollables)


class PollHost:
    """Answers `wasi:io/poll`."""

    async def poll(self, in_: Sequence[Pollable]) -> list[int]:
        return await poll(in_)


async def _ready(pollables: Sequence[Pollable]) -> list[int]:
    if len(pollables) <= POLLED_AT_ONCE:
        return [place for place, each in enumerate(pollables) if each.is_ready()]
    found: list[int] = []
    for start in range(0, len(pollables), POLLED_AT_ONCE):
        piece = pollables[start : start + POLLED_AT_ONCE]
        found += [place for place, each in enumerate(piece, start) if each.is_ready()]
        await asyncio.sleep(0)
    return found


LONGEST = 86_400.0
"""Seconds that a timer of the event loop runs at most: it's not made for the 584 years that a guest can ask for."""


async def _wait_for_one(pollables: Sequence[Pollable]) -> None:
    """Waits until one of them may be ready. Nothing is left behind, however the waiting ends."""
    loop = asyncio.get_running_loop()
    waiter: Waiter = loop.create_future()
    deadline: int | None = None
    timer: asyncio.TimerHandle | None = None
    # While the others had their turn, one that was looked at may have become ready.
    took_turns = len(pollables) > POLLED_AT_ONCE
    try:
        for each in pollables:
            each.watch(waiter)
            if took_turns and each.is_ready():
                _wake(waiter)
            if each.deadline is not None and (deadline is None or each.deadline < deadline):
                deadline = each.deadline
        if deadline is not None:
            seconds = max(0.0, (deadline - time.monotonic_ns()) / 1e9)
            timer = loop.call_later(min(seconds, LONGEST), _wake, waiter)
        await waiter
    finally:
        if timer is not None:
            timer.cancel()
        for each in pollables:
            each.unwatch(waiter)


# What a guest reads.


def _closed() -> NoReturn:
    raise Err(StreamErrorClosed())


class InputStream:
    """The resource `input-stream`: bytes that the host has for a guest.

    `feed` gives it some, `end` and `fail` say that no more will come. A class that derives from it can learn what the
    guest does by `_wanted`, `_taken` and `on_drop`.
    """

    def __init__(self) -> None:
        self._chunks = Chunks()
        self._signal = Signal()
        self._ended = False
        """Whether nothing will come any more."""
        self._error: Exception | None = None
        """Why, if that is told yet."""

    # The host's side.

    @property
    def size(self) -> int:
        """Bytes that were not read yet."""
        return self._chunks.size

    def feed(self, data: bytes | memoryview) -> None:
        """Gives the guest bytes, which must not change any more. They are lost if it has dropped the stream."""
        if not self._ended:
            self._chunks.append(data)
            self._signal.notify()

    def end(self) -> None:
        """Nothing will come any more."""
        self._ended = True
        self._signal.notify()

    def fail(self, error: Exception) -> None:
        """Nothing will come any more, because of an error. The guest learns it once it has read what came before."""
        if not self._ended:
            self._error = error
            self.end()

    # The guest's side.

    async def read(self, len_: int) -> bytes:
        return self._take(len_)

    async def blocking_read(self, len_: int) -> bytes:
        await self._wait(len_)
        return self._take(len_)

    async def skip(self, len_: int) -> int:
        return self._skip(len_)

    async def blocking_skip(self, len_: int) -> int:
        await self._wait(len_)
        return self._skip(len_)

    async def subscribe(self) -> Pollable:
        return _StreamPollable(self)

    def on_drop(self) -> None:
        """The guest has no more use for it."""
        self._chunks.clear()
        self._error = None
        self.end()
        self._taken()

    # In between.

    def is_ready(self) -> bool:
        return self._chunks.size > 0 or self._ended

    def look(self) -> bool:
        """Whether it's ready; where not, begins to get what would make it so."""
        if self.is_ready():
            return True
        self._wanted(CAPACITY)
        return self.is_ready()

    def watch(self, waiter: Waiter) -> None:
        self._signal.add(waiter)

    def unwatch(self, waiter: Waiter) -> None:
        self._signal.discard(waiter)

    async def _wait(self, _size: int) -> None:
        while not self.is_ready():
            await self._signal.wait()

    def _take(self, most: int) -> bytes:
        if self._chunks.size:
            found = self._chunks.take(min(most, CAPACITY))
            self._taken()
            return found
        self._check_open(most)
        return b""

    def _skip(self, most: int) -> int:
        if self._chunks.size:
            count = self._chunks.skip(most)
            self._taken()
            return count
        self._check_open(most)
        return 0

    def _check_open(self, wanted: int) -> None:
        """Raises Err at the end; where there will be more, begins to get it."""
        if self._ended:
            error, self._error = self._error, None
            if error is not None:
                raise Err(StreamErrorLastOperationFailed(Error(error)))
            _closed()
        if wanted:
            self._wanted(wanted)

    def _wanted(self, size: int) -> None:
        """The guest looks for bytes, and there are none."""

    def _taken(self) -> None:
        """The guest has read some, or will read no more."""


class BytesInput(InputStream):
    """Bytes, and then the end."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.feed(data)
        self.end()


_background: set[asyncio.Task[None]] = set()
"""What streams do while nobody waits for it."""


def _in_background(work: Awaitable[None]) -> asyncio.Task[None]:
    task = asyncio.ensure_future(work)
    _background.add(task)
    task.add_done_callback(_background.discard)
    return task


class PulledInput(InputStream):
    """Bytes that an asynchronous function returns piece by piece, when the guest wants some.

    At most one piece is fetched ahead, and only for a guest that polls or reads without waiting.
    """

    def __init__(
        self, fetch: Callable[[int], Awaitable[bytes]], close: Callable[[], None] | None = None, most: int = CAPACITY
    ) -> None:
        """`fetch` gets a number of bytes, at most `most`, and returns up to so many, none at the end. What it raises
        is the guest's `last-operation-failed`. `close` is called once, when nothing will be fetched any more because
        the guest has dropped the stream."""
        super().__init__()
        self._fetch = fetch
        self._close = close
        self._most = most
        self._busy = False
        self._task: asyncio.Task[None] | None = None

    async def _wait(self, size: int) -> None:
        while not self.is_ready():
            if self._busy:
                await self._signal.wait()
            else:
                self._busy = True
                await self._pull(size)

    def _wanted(self, size: int) -> None:
        if not self._busy and not self.is_ready():
            self._busy = True
            self._task = _in_background(self._pull(size))

    async def _pull(self, size: int) -> None:
        try:
            found = await self._fetch(min(size or self._most, self._most))
        except OSError as error:
            self.fail(error)
        except Exception as error:
            log.error("a stream can't be read: %s: %s", type(error).__name__, error)
            self.fail(error)
        else:
            if found:
                self.feed(found)
            else:
                self.end()
        finally:
            self._busy = False
            self._signal.notify()

    def on_drop(self) -> None:
        super().on_drop()
        if self._task is not None:
            self._task.cancel()
        close, self._close = self._close, None
        if close is not None:
            close()


# What a guest writes.


class OutputStream:
    """The resource `output-stream`. What becomes of the bytes is for a class that derives from it: `_room`, `_accept`
    and `_flush`; and it says by `changed` when there is more room, by `close` and `fail` that nothing more is taken.
    """

    def __init__(self) -> None:
        self._signal = Signal()
        self._permit = 0
        """Bytes that `check-write` has permitted and that were not written."""
        self._is_closed = False
        self._error: Exception | None = None
        """Why it's closed, if that is told yet."""

    # For those that derive from it.

    def _room(self) -> int:
        """Bytes that may be written now; 0 as long as a flush isn't done."""
        raise NotImplementedError

    def _accept(self, data: bytes) -> None:
        """Takes bytes, no more than there is room for."""
        raise NotImplementedError

    def _flush(self) -> None:
        """Begins to flush."""

    def _idle(self) -> bool:
        """Whether a flush would be done at once."""
        return True

    # The host's side.

    def changed(self) -> None:
        """There may be room now."""
        self._signal.notify()

    def close(self) -> None:
        """Nothing more is taken."""
        self._is_closed = True
        self._permit = 0
        self._signal.notify()

    def fail(self, error: Exception) -> None:
        """Nothing more is taken, because of an error, which the guest learns from its next call."""
        if not self._is_closed:
            self._error = error
            self.close()

    # The guest's side.

    async def check_write(self) -> int:
        return self._check_write()

    async def write(self, contents: bytes) -> None:
        self._write("write", contents)

    async def write_zeroes(self, len_: int) -> None:
        self._check_permit("write-zeroes", len_)
        while len_:
            piece = min(len_, CAPACITY)
            self._write("write-zeroes", _ZEROES[:piece])
            len_ -= piece

    async def blocking_write_and_flush(self, contents: bytes) -> None:
        _check_blocking("blocking-write-and-flush", len(contents))
        await self._write_all(contents)

    async def blocking_write_zeroes_and_flush(self, len_: int) -> None:
        _check_blocking("blocking-write-zeroes-and-flush", len_)
        await self._write_all(_ZEROES[:len_])

    async def flush(self) -> None:
        self._check_open()
        self._permit = 0
        self._flush()

    async def blocking_flush(self) -> None:
        await self.flush()
        await self._flushed()
        await self._wait()

    async def subscribe(self) -> Pollable:
        return _StreamPollable(self)

    async def splice(self, src: InputStream, len_: int) -> int:
        return await self._splice(src.read, len_)

    async def blocking_splice(self, src: InputStream, len_: int) -> int:
        await self._wait()
        return await self._splice(src.blocking_read, len_)

    def on_drop(self) -> None:
        """The guest has no more use for it. What it wrote is on its way."""
        self._error = None
        self.close()

    # In between.

    def is_ready(self) -> bool:
        return self._is_closed or self._room() > 0

    def look(self) -> bool:
        return self.is_ready()

    def watch(self, waiter: Waiter) -> None:
        self._signal.add(waiter)

    def unwatch(self, waiter: Waiter) -> None:
        self._signal.discard(waiter)

    async def _wait(self) -> None:
        while not self.is_ready():
            await self._signal.wait()

    def _check_open(self) -> None:
        if self._is_closed:
            error, self._error = self._error, None
            if error is not None:
                raise Err(StreamErrorLastOperationFailed(Error(error)))
            _closed()

    def _check_write(self) -> int:
        self._check_open()
        self._permit = self._room()
        return self._permit

    def _check_permit(self, name: str, size: int) -> None:
        self._check_open()
        if size > self._permit:
            raise GuestFault(
                f"wasi:io/streams: [method]output-stream.{name}: {size} bytes where check-write permits {self._permit}"
            )

    def _write(self, name: str, data: bytes) -> None:
        self._check_permit(name, len(data))
        if data:
            self._permit -= len(data)
            self._accept(data)

    async def _write_all(self, data: bytes) -> None:
        """Writes and flushes, however long that takes."""
        written = 0
        while written < len(data):
            await self._wait()
            piece = data[written : written + self._check_write()]
            self._write("write", piece)
            written += len(piece)
        await self.flush()
        await self._flushed()

    async def _flushed(self) -> None:
        while not self._idle() and not self._is_closed:
            await self._signal.wait()
        if self._error is not None:
            self._check_open()

    async def _splice(self, read: Callable[[int], Awaitable[bytes]], most: int) -> int:
        data = await read(min(self._check_write(), most))
        self._write("splice", data)
        return len(data)


def _check_blocking(name: str, size: int) -> None:
    if size > MAX_BLOCKING_WRITE:
        raise GuestFault(
            f"wasi:io/streams: [method]output-stream.{name}: {size} bytes are more than {MAX_BLOCKING_WRITE}"
        )


class Sink(OutputStream):
    """Takes everything, and keeps nothing."""

    def _room(self) -> int:
        return CAPACITY

    def _accept(self, data: bytes) -> None:
        pass


class PushedOutput(OutputStream):
    """Hands what a guest writes to an asynchronous function, piece by piece and in order."""

    def __init__(
        self, send: Callable[[bytes], Awaitable[None]], done: Callable[[], None] | None = None, capacity: int = CAPACITY
    ) -> None:
        """`send` has taken all of the bytes when it is done. What it raises is the guest's `last-operation-failed`.
        `done` is called once the guest has dropped the stream and all that it wrote is sent, or can't be."""
        super().__init__()
        self._send = send
        self._done = done
        self._capacity = capacity
        self._chunks = Chunks()
        self._sending = 0
        """Bytes that were taken from `_chunks` and aren't sent."""
        self._task: asyncio.Task[None] | None = None
        self._flushing = False
        self._dropped = False

    def _room(self) -> int:
        return 0 if self._flushing else self._capacity - self._chunks.size - self._sending

    def _accept(self, data: bytes) -> None:
        self._chunks.append(data)
        if self._task is None:
            self._task = _in_background(self._send_all())

    def _flush(self) -> None:
        self._flushing = not self._idle()

    def _idle(self) -> bool:
        return self._task is None and not self._sending

    async def _send_all(self) -> None:
        try:
            while self._chunks.size and self._error is None:
                await self._send_one(self._chunks.take(self._capacity))
        finally:
            self._chunks.clear()
            self._task = None
            self._sent()

    async def _write_all(self, data: bytes) -> None:
        self._check_open()
        if not data or not self._idle():
            await super()._write_all(data)
            return
        # Nobody is at work on it, and the guest waits: there is no need for a task.
        self._permit = 0
        self._flushing = True
        try:
            await self._send_one(data)
        finally:
            self._sent()
        if self._error is not None:
            self._check_open()

    async def _send_one(self, data: bytes) -> None:
        self._sending = len(data)
        try:
            await self._send(data)
        except OSError as error:
            self.fail(error)
        except Exception as error:
            log.error("a stream can't be written: %s: %s", type(error).__name__, error)
            self.fail(error)
        finally:
            self._sending = 0
            self.changed()

    def _sent(self) -> None:
        """Nothing waits to be sent any more."""
        self._flushing = False
        self.changed()
        if self._dropped:
            self._finish()

    def on_drop(self) -> None:
        super().on_drop()
        self._dropped = True
        if self._idle():
            self._finish()

    def _finish(self) -> None:
        done, self._done = self._done, None
        if done is not None:
            done()


# Pipes.


class Pipe:
    """Bytes on their way, up to `capacity` of them: who writes waits while there are so many.

    `output` is what a guest writes and `input` what a guest reads; `read` and `write` are for the host, at either end.
    """

    def __init__(
        self,
        capacity: int = CAPACITY,
        allowance: Allowance | None = None,
        on_output_drop: Callable[[], None] | None = None,
    ) -> None:
        """Takes `capacity` from `allowance` until it's closed at both ends. When the guest drops `output`, that is the
        end of what is written, unless `on_output_drop` says what it is.

        Raises GuestFault where the instance may have no more.
        """
        if allowance is not None:
            allowance.take(capacity)
        self.capacity = capacity
        self._allowance = allowance
        self._on_output_drop = on_output_drop or self.end
        self.input: InputStream = _PipeInput(self)
        self.output: OutputStream = _PipeOutput(self)

    # Writing, by the host.

    async def write(self, data: bytes | memoryview) -> None:
        """Hands on bytes, which must not change any more, and waits until there is room for all of them.

        Raises BrokenPipeError where nobody reads any more.
        """
        view: memoryview | None = None
        while True:
            if self.closed:
                raise BrokenPipeError("nobody reads from the pipe any more")
            room = self.room
            if len(data) <= room:
                self.input.feed(data)
                return
            if room:
                view = memoryview(data) if view is None else view
                self.input.feed(view[:room])
                data = view = view[room:]
            await self.output._signal.wait()

    @property
    def room(self) -> int:
        """Bytes that it takes now."""
        return self.capacity - self.input.size

    def end(self) -> None:
        """Nothing more will be written."""
        self._close(self.input.end)

    def fail(self, error: Exception) -> None:
        """Nothing more will be written because of an error, which whoever reads will be told."""
        self._close(lambda: self.input.fail(error))

    def _close(self, close: Callable[[], None]) -> None:
        close()
        self.output.close()
        self._release()

    # Reading, by the host.

    async def read(self, most: int = CAPACITY) -> bytes:
        """The next bytes, one at least; none at the end. Raises what `fail` was told."""
        if self.input.size == 0:
            await self.input._wait(most)
        if self.input.size == 0:
            error, self.input._error = self.input._error, None
            if error is not None:
                raise error
            return b""
        return self.input._take(most)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self.read():
            yield data

    def stop(self, error: Exception | None = None) -> None:
        """Nothing more will be read: whoever writes is told so, and the error if there is one."""
        if error is not None:
            self.output.fail(error)
        self.input.on_drop()

    @property
    def closed(self) -> bool:
        """Whether nobody reads any more, or nothing more may be written."""
        return self.output._is_closed

    def _read_or_dropped(self) -> None:
        """Some bytes are gone, or whoever reads is."""
        if self.input._ended and not self.input.size:
            self.output.close()
            self._release()
        else:
            self.output.changed()

    def _release(self) -> None:
        if self._allowance is not None and self.input._ended and not self.input.size:
            allowance, self._allowance = self._allowance, None
            allowance.give_back(self.capacity)


class _PipeInput(InputStream):
    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        self._pipe = pipe

    def _taken(self) -> None:
        self._pipe._read_or_dropped()


class _PipeOutput(OutputStream):
    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        self._pipe = pipe

    def _room(self) -> int:
        return self._pipe.room

    def _accept(self, data: bytes) -> None:
        self._pipe.input.feed(data)

    def on_drop(self) -> None:
        if not self._is_closed:
            super().on_drop()
            self._pipe._on_output_drop()
