"""wasi:io 0.2: streams, what a guest polls, and pipes, by the contract of their WIT."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bindgen.runtime import Err, GuestFault
from capabilities.bindings.wasi_io_0_2.streams import StreamErrorClosed, StreamErrorLastOperationFailed
from capabilities.wasi import io
from capabilities.wasi.allowance import Allowance
from capabilities.wasi.io import (
    BytesInput,
    Error,
    Event,
    InputStream,
    Pipe,
    Pollable,
    PulledInput,
    PushedOutput,
    Sink,
    Timer,
    poll,
)

T = TypeVar("T")

CLOSED = "closed"


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, 30))


async def outcome(call: Awaitable[Any]) -> Any:
    """What a call returns; `closed`, or the error of `last-operation-failed`, where it fails."""
    try:
        return await call
    except Err as error:
        problem = error.value
    if isinstance(problem, StreamErrorClosed):
        return CLOSED
    assert isinstance(problem, StreamErrorLastOperationFailed)
    return problem.value


async def waits(call: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Begins a call, which must have to wait."""
    task = asyncio.create_task(call)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def written(pipe: Pipe, data: bytes) -> None:
    """Writes as a guest does that heeds its permits."""
    while data:
        permit = await pipe.output.check_write()
        if not permit:
            await (await pipe.output.subscribe()).block()
            continue
        await pipe.output.write(data[:permit])
        data = data[permit:]


# Reading.


def test_a_read_returns_up_to_as_many_bytes_as_asked_for_and_then_the_end() -> None:
    async def main() -> None:
        stream = BytesInput(b"hello world")
        assert await stream.read(5) == b"hello"
        assert await stream.blocking_read(1 << 63) == b" world"
        for _ in range(3):
            assert await outcome(stream.read(1)) == CLOSED
            assert await outcome(stream.blocking_read(1)) == CLOSED
            assert await outcome(stream.skip(1)) == CLOSED
            assert await outcome(stream.blocking_skip(1)) == CLOSED

    run(main())


def test_a_read_of_nothing_tells_whether_the_stream_is_open() -> None:
    async def main() -> None:
        pipe = Pipe()
        assert await pipe.input.read(0) == b""
        await pipe.write(b"x")
        assert await pipe.input.read(0) == b""
        assert await pipe.input.skip(0) == 0
        pipe.end()
        assert await pipe.input.read(0) == b""
        assert await pipe.input.read(1) == b"x"
        assert await outcome(pipe.input.read(0)) == CLOSED

    run(main())


def test_a_read_does_not_wait_and_a_blocking_one_does() -> None:
    async def main() -> None:
        pipe = Pipe()
        assert await pipe.input.read(10) == b""
        assert await pipe.input.skip(10) == 0
        reading = await waits(pipe.input.blocking_read(10))
        await pipe.write(b"abc")
        assert await reading == b"abc"
        skipping = await waits(pipe.input.blocking_skip(2))
        await pipe.write(b"abc")
        assert await skipping == 2
        assert await pipe.input.read(10) == b"c"
        reading = await waits(pipe.input.blocking_read(10))
        pipe.end()
        assert await outcome(reading) == CLOSED

    run(main())


def test_a_failure_is_told_once_after_what_came_before_it() -> None:
    async def main() -> None:
        pipe = Pipe()
        await pipe.write(b"abc")
        cause = ConnectionResetError(104, "Connection reset by peer")
        pipe.fail(cause)
        assert await pipe.input.read(10) == b"abc"
        error = await outcome(pipe.input.read(10))
        assert isinstance(error, Error)
        assert error.cause is cause
        assert await error.to_debug_string() == "Connection reset by peer"
        assert await outcome(pipe.input.read(10)) == CLOSED

    run(main())


def test_what_is_told_of_an_error_names_no_file_of_the_host_and_is_short() -> None:
    async def main() -> None:
        assert await Error(FileNotFoundError(2, "No such file or directory", "/home/me/x")).to_debug_string() == (
            "No such file or directory"
        )
        assert len(await Error(ValueError("x" * 100_000)).to_debug_string()) == io.MAX_DEBUG_STRING
        assert await Error(KeyError()).to_debug_string() == "KeyError"

    run(main())


# Writing.


def test_a_write_is_permitted_as_check_write_says_and_no_more() -> None:
    async def main() -> None:
        pipe = Pipe(8)
        assert await pipe.output.check_write() == 8
        await pipe.output.write(b"abc")
        await pipe.output.write_zeroes(2)
        with pytest.raises(GuestFault, match=r"output-stream.write: 4 bytes where check-write permits 3$"):
            await pipe.output.write(b"defg")
        await pipe.output.write(b"def")
        assert await pipe.output.check_write() == 0
        assert await pipe.read() == b"abc\0\0def"

    run(main())


@pytest.mark.parametrize("write", [lambda out: out.write(b"x"), lambda out: out.write_zeroes(1)])
def test_a_write_without_check_write_ends_the_guest(write: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        with pytest.raises(GuestFault, match="1 bytes where check-write permits 0"):
            await write(Pipe().output)
        await Pipe().output.write(b"")
        out = Sink()
        await out.check_write()
        await out.flush()
        with pytest.raises(GuestFault, match="1 bytes where check-write permits 0"):
            await write(out)

    run(main())


@pytest.mark.parametrize("length", [1 << 17, (1 << 64) - 1])
def test_zeroes_beyond_the_permit_are_never_made(length: int) -> None:
    async def main() -> None:
        out = Sink()
        await out.check_write()
        with pytest.raises(GuestFault, match=f"output-stream.write-zeroes: {length} bytes where check-write permits"):
            await out.write_zeroes(length)
        with pytest.raises(GuestFault, match=f"{length} bytes are more than 4096$"):
            await out.blocking_write_zeroes_and_flush(length)

    run(main())


def test_a_blocking_write_takes_4096_bytes_and_no_more() -> None:
    async def main() -> None:
        pipe = Pipe()
        await pipe.output.blocking_write_and_flush(b"a" * 4096)
        await pipe.output.blocking_write_zeroes_and_flush(4096)
        await pipe.output.blocking_write_and_flush(b"")
        with pytest.raises(GuestFault, match=r"blocking-write-and-flush: 4097 bytes are more than 4096$"):
            await pipe.output.blocking_write_and_flush(b"a" * 4097)
        assert await pipe.read() == b"a" * 4096 + bytes(4096)

    run(main())


def test_a_blocking_write_waits_for_room() -> None:
    async def main() -> None:
        pipe = Pipe(10)
        writing = await waits(pipe.output.blocking_write_and_flush(b"x" * 25))
        found = [await pipe.read() for _ in range(2)]
        await writing
        assert b"".join((*found, await pipe.read())) == b"x" * 25

    run(main())


@pytest.mark.parametrize("call", ["check_write", "flush", "blocking_flush"])
def test_who_writes_learns_that_nobody_reads(call: str) -> None:
    async def main() -> None:
        pipe = Pipe()
        assert await pipe.output.check_write() > 0
        pipe.input.on_drop()
        assert await outcome(pipe.output.write(b"x")) == CLOSED
        assert await outcome(pipe.output.blocking_write_and_flush(b"x")) == CLOSED
        assert await outcome(getattr(pipe.output, call)()) == CLOSED
        assert await (await pipe.output.subscribe()).ready()

    run(main())


def test_who_waits_for_room_learns_that_nobody_reads() -> None:
    async def main() -> None:
        pipe = Pipe(4)
        await pipe.output.blocking_write_and_flush(b"full")
        writing = await waits(pipe.output.blocking_write_and_flush(b"x"))
        pipe.stop(ConnectionResetError(104, "gone"))
        error = await outcome(writing)
        assert await error.to_debug_string() == "gone"
        assert await outcome(pipe.output.check_write()) == CLOSED

    run(main())


def test_a_flush_permits_nothing_until_it_is_done() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        sent: list[bytes] = []

        async def send(data: bytes) -> None:
            await gate.wait()
            sent.append(data)

        out = PushedOutput(send)
        assert await out.check_write() == io.CAPACITY
        await out.write(b"abc")
        assert await out.check_write() == io.CAPACITY - 3
        await out.flush()
        assert await out.check_write() == 0
        pollable = await out.subscribe()
        assert not await pollable.ready()
        blocking = await waits(pollable.block())
        flushing = await waits(out.blocking_flush())
        gate.set()
        await blocking
        await flushing
        assert sent == [b"abc"]
        assert await out.check_write() == io.CAPACITY

    run(main())


def test_a_blocking_write_returns_when_its_bytes_are_sent() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        sent: list[bytes] = []

        async def send(data: bytes) -> None:
            await gate.wait()
            sent.append(data)

        out = PushedOutput(send)
        writing = await waits(out.blocking_write_and_flush(b"abc"))
        assert await out.check_write() == 0
        gate.set()
        await writing
        assert sent == [b"abc"]
        # Behind bytes that wait, it keeps the order.
        gate.clear()
        await out.check_write()
        await out.write(b"1")
        writing = await waits(out.blocking_write_and_flush(b"2"))
        gate.set()
        await writing
        assert b"".join(sent) == b"abc12"

    run(main())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("of the host's")])
def test_what_can_not_be_sent_fails_and_closes_the_stream(error: Exception) -> None:
    async def send(_data: bytes) -> None:
        raise error

    async def main() -> None:
        at_once = PushedOutput(send)
        found = await outcome(at_once.blocking_write_and_flush(b"x"))
        assert found.cause is error
        later = PushedOutput(send)
        await later.check_write()
        await later.write(b"x")
        await later.flush()
        await (await later.subscribe()).block()
        found = await outcome(later.check_write())
        assert found.cause is error
        for out in (at_once, later):
            assert await outcome(out.check_write()) == CLOSED
            assert await outcome(out.blocking_write_and_flush(b"x")) == CLOSED

    run(main())


def test_what_was_written_before_a_stream_is_dropped_is_sent() -> None:
    async def main() -> None:
        sent: list[bytes] = []
        done: list[int] = []

        async def send(data: bytes) -> None:
            await asyncio.sleep(0)
            sent.append(data)

        out = PushedOutput(send, lambda: done.append(len(sent)))
        await out.check_write()
        await out.write(b"abc")
        out.on_drop()
        assert not done
        await asyncio.sleep(0.01)
        assert (sent, done) == ([b"abc"], [1])
        assert await outcome(out.check_write()) == CLOSED
        PushedOutput(send, lambda: done.append(0)).on_drop()
        assert done == [1, 0]

    run(main())


# Splicing.


def test_a_splice_moves_what_both_sides_allow() -> None:
    async def main() -> None:
        source, target = Pipe(), Pipe(4)
        assert await target.output.splice(source.input, 100) == 0
        await source.write(b"abcdefgh")
        assert await target.output.splice(source.input, 3) == 3
        assert await target.output.splice(source.input, 100) == 1
        assert await target.output.splice(source.input, 100) == 0
        splicing = await waits(target.output.blocking_splice(source.input, 100))
        assert await target.read(3) == b"abc"
        assert await splicing == 3
        assert await target.read() == b"defg"
        assert await target.output.blocking_splice(source.input, 100) == 1
        assert await target.output.splice(source.input, 0) == 0
        splicing = await waits(target.output.blocking_splice(source.input, 100))
        await source.write(b"i")
        assert await splicing == 1
        source.end()
        assert await outcome(target.output.splice(source.input, 1)) == CLOSED
        assert await target.read() == b"hi"
        target.input.on_drop()
        assert await outcome(target.output.blocking_splice(BytesInput(b"x"), 1)) == CLOSED

    run(main())


# Polling.


def test_a_stream_is_ready_when_a_call_would_not_wait() -> None:
    async def main() -> None:
        pipe = Pipe(1)
        readable, writable = await pipe.input.subscribe(), await pipe.output.subscribe()
        assert await poll([readable, writable]) == [1]
        await pipe.write(b"x")
        assert await poll([readable, writable]) == [0]
        assert await pipe.input.read(1) == b"x"
        pipe.end()
        assert await poll([readable, writable, readable]) == [0, 1, 2]

    run(main())


def test_a_pollable_that_outlives_its_stream_is_ready() -> None:
    async def main() -> None:
        pipe = Pipe()
        for stream in (pipe.input, PulledInput(forever), Pipe(0).output):
            pollable = await stream.subscribe()
            assert not await pollable.ready()
            blocking = await waits(pollable.block())
            stream.on_drop()
            await blocking
            assert await poll([pollable]) == [0]

    async def forever(_size: int) -> bytes:
        await asyncio.sleep(1000)
        return b""

    run(main())


def test_nothing_to_poll_and_too_much_end_the_guest() -> None:
    async def main() -> None:
        with pytest.raises(GuestFault, match="the list is empty"):
            await io.PollHost().poll([])
        with pytest.raises(GuestFault, match="65537 pollables are more than 65536"):
            await poll([Pollable()] * 65537)

    run(main())


@pytest.mark.parametrize("count", [1, 100, 20_000])
def test_the_one_of_many_that_becomes_ready_is_found_and_nobody_waits_any_more(count: int) -> None:
    async def main() -> None:
        events = [Event() for _ in range(count)]
        polling = await waits(poll(events))
        events[count // 2].set()
        assert await polling == [count // 2]
        assert not any(each._signal._waiting for each in events)
        polling = asyncio.create_task(poll([each for each in events if not each.is_ready()] or [Event()]))
        await asyncio.sleep(0.05)
        polling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await polling
        assert not any(each._signal._waiting for each in events)

    run(main())


def test_the_first_timer_ends_a_poll() -> None:
    async def main() -> None:
        now = time.monotonic_ns()
        ms = 1_000_000
        timers = [Timer(now + 60_000 * ms), Timer(now + 20 * ms), Timer((1 << 64) - 1), Timer(now + 50_000 * ms)]
        assert await poll([*timers, Event()]) == [1]
        assert 15 * ms < time.monotonic_ns() - now < 2_000 * ms
        assert await poll([timers[0], Timer(now)]) == [1]
        await Timer(time.monotonic_ns() + 10 * ms).block()

    run(main())


def test_a_guest_that_polls_holds_up_nobody() -> None:
    async def main() -> None:
        guests = [asyncio.create_task(poll([Event(), Timer(time.monotonic_ns() + 1_000_000_000)])) for _ in range(500)]
        began = time.monotonic()
        for _ in range(10):
            await asyncio.sleep(0)
        assert time.monotonic() - began < 0.9
        assert await asyncio.gather(*guests) == [[1]] * 500

    run(main())


# Bytes from asynchronous functions.


def source(*pieces: bytes | Exception) -> tuple[PulledInput, list[int]]:
    asked: list[int] = []
    todo = list(pieces)

    async def fetch(size: int) -> bytes:
        asked.append(size)
        await asyncio.sleep(0)
        found = todo.pop(0) if todo else b""
        if isinstance(found, Exception):
            raise found
        return found

    return PulledInput(fetch), asked


def test_what_is_pulled_comes_in_order_and_ends() -> None:
    async def main() -> None:
        stream, asked = source(b"abc", b"de")
        assert asked == []
        assert await stream.read(2) == b""  # begins to fetch
        await (await stream.subscribe()).block()
        assert await stream.read(2) == b"ab"
        assert await stream.blocking_read(10) == b"c"
        assert await stream.blocking_skip(1) == 1
        assert await stream.blocking_read(0) == b""
        assert await stream.blocking_read(1 << 40) == b"e"
        assert asked == [2, 1]
        assert await outcome(stream.blocking_read(1 << 40)) == CLOSED
        assert asked == [2, 1, io.CAPACITY]
        assert await outcome(stream.read(1)) == CLOSED
        assert len(asked) == 3
        # Who reads nothing waits until there is something, of which the next read has all.
        stream, asked = source(b"abc")
        assert await stream.blocking_read(0) == b""
        assert await stream.read(100) == b"abc"
        assert asked == [io.CAPACITY]

    run(main())


def test_what_can_not_be_pulled_fails_and_closes_the_stream() -> None:
    async def main() -> None:
        error = OSError(5, "Input/output error")
        stream, _ = source(b"abc", error)
        assert await stream.blocking_read(3) == b"abc"
        found = await outcome(stream.blocking_read(3))
        assert found.cause is error
        assert await outcome(stream.blocking_read(3)) == CLOSED

    run(main())


def test_a_guest_that_only_asks_whether_a_stream_is_ready_gets_its_bytes() -> None:
    async def main() -> None:
        stream, _ = source(b"abc")
        pollable = await stream.subscribe()
        for _ in range(10):
            if await pollable.ready():
                break
            await asyncio.sleep(0)
        assert await stream.read(10) == b"abc"

    run(main())


def test_a_dropped_stream_is_closed_once_and_fetches_no_more() -> None:
    async def main() -> None:
        closed: list[None] = []
        cancelled: list[None] = []

        async def fetch(_size: int) -> bytes:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                cancelled.append(None)
                raise
            return b"x"

        stream = PulledInput(fetch, lambda: closed.append(None))
        await stream.read(1)
        await asyncio.sleep(0)
        stream.on_drop()
        stream.on_drop()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (closed, cancelled) == ([None], [None])
        assert await outcome(stream.blocking_read(1)) == CLOSED

    run(main())


def test_a_blocking_read_that_is_cancelled_leaves_the_stream_usable() -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def fetch(_size: int) -> bytes:
            await gate.wait()
            return b"x"

        for stream in (PulledInput(fetch), Pipe().input):
            reading = await waits(stream.blocking_read(1))
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            assert not stream._signal._waiting
        pulled = PulledInput(fetch)
        gate.set()
        assert await pulled.blocking_read(1) == b"x"

    run(main())


# Pipes.


def test_a_pipe_never_holds_more_than_its_bound() -> None:
    async def main() -> None:
        pipe = Pipe(1000)
        writing = await waits(pipe.write(bytes(range(256)) * 10))
        found = b""
        while len(found) < 2560:
            assert pipe.input.size <= 1000
            found += await pipe.input.blocking_read(300)
            await asyncio.sleep(0)
        await writing
        assert found == bytes(range(256)) * 10

    run(main())


def test_a_host_that_writes_learns_that_the_guest_has_dropped_the_stream() -> None:
    async def main() -> None:
        pipe = Pipe(4)
        writing = await waits(pipe.write(b"more than four"))
        pipe.input.on_drop()
        with pytest.raises(BrokenPipeError):
            await writing
        with pytest.raises(BrokenPipeError):
            await pipe.write(b"x")

    run(main())


def test_a_host_reads_to_the_end_or_to_the_error() -> None:
    async def main() -> None:
        pipe = Pipe()
        await written(pipe, b"abc")
        pipe.output.on_drop()
        assert [each async for each in pipe] == [b"abc"]
        assert await pipe.read() == b""
        failing = Pipe()
        await written(failing, b"abc")
        failing.fail(ConnectionAbortedError("the guest ended"))
        assert await failing.read() == b"abc"
        with pytest.raises(ConnectionAbortedError, match="the guest ended"):
            await failing.read()

    run(main())


def test_a_dropped_output_means_what_its_maker_says() -> None:
    async def main() -> None:
        dropped: list[bool] = []
        pipe = Pipe(on_output_drop=lambda: dropped.append(True))
        await written(pipe, b"abc")
        pipe.output.on_drop()
        assert dropped == [True]
        assert await pipe.read() == b"abc"
        reading = await waits(pipe.read())
        pipe.end()
        assert await reading == b""

    run(main())


def test_what_streams_may_hold_together_is_bounded() -> None:
    async def main() -> None:
        allowance = Allowance(3 * io.CAPACITY)
        pipes = [Pipe(allowance=allowance) for _ in range(3)]
        with pytest.raises(GuestFault, match="262144 bytes for it, more than the 196608"):
            Pipe(allowance=allowance)
        await written(pipes[0], b"x")
        pipes[0].output.on_drop()
        with pytest.raises(GuestFault):
            Pipe(allowance=allowance)  # what it wrote is still there
        assert await pipes[0].read() == b"x"
        pipes[0] = Pipe(allowance=allowance)
        for pipe in pipes:
            pipe.input.on_drop()
            pipe.output.on_drop()
        assert allowance.held == 0

    run(main())


def test_chunks_are_handed_on_without_being_copied() -> None:
    async def main() -> None:
        pipe = Pipe(1 << 20)
        chunk = bytes(1 << 16)
        await pipe.write(chunk)
        await written(pipe, chunk)
        assert await pipe.input.read(1 << 16) is chunk
        assert await pipe.read() is chunk

    run(main())


def streamed(chunk: int, total: int) -> int:
    """Streams so many bytes through a pipe, in chunks of a size; returns the most memory that this took."""

    async def main() -> int:
        pipe = Pipe()
        data = bytes(chunk)

        async def write() -> None:
            for _ in range(total // chunk):
                await pipe.write(data)
            pipe.end()

        tracemalloc.start()
        writing = asyncio.create_task(write())
        found = 0
        while (piece := await outcome(pipe.input.blocking_read(1 << 20))) != CLOSED:
            found += len(piece)
        await writing
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found == total
        return peak

    gc.collect()
    return run(main())


def test_a_long_stream_takes_constant_memory() -> None:
    assert streamed(1 << 16, 1 << 30) < 1 << 20
    assert streamed(128, 1 << 20) < 1 << 20


def test_tiny_chunks_take_no_more_memory_than_their_bytes_need() -> None:
    async def main() -> int:
        pipe = Pipe(1 << 17)
        tracemalloc.start()
        while await pipe.output.check_write():
            await pipe.output.write(b"x")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        began = time.perf_counter()
        for _ in range(1 << 16):
            assert await pipe.input.read(1) == b"x"
        assert time.perf_counter() - began < 3
        assert len(await pipe.read()) > 1000
        return peak

    assert run(main()) < 2 << 17


# Streams of functions, however those are timed.

STEPS = st.lists(st.tuples(st.sampled_from(["read", "blocking_read", "poll", "skip"]), st.integers(0, 70)), max_size=30)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=50), max_size=10), STEPS, st.lists(st.integers(0, 3), min_size=1))
def test_what_is_pulled_arrives_once_and_in_order(pieces: list[bytes], steps: list[Any], delays: list[int]) -> None:
    data = b"".join(pieces)

    async def main() -> None:
        at, calls = 0, 0

        async def fetch(size: int) -> bytes:
            nonlocal at, calls
            for _ in range(delays[calls % len(delays)]):
                await asyncio.sleep(0)
            calls += 1
            found = data[at : at + min(size, 50)]
            at += len(found)
            return found

        stream = PulledInput(fetch)
        taken = 0
        for name, size in steps:
            if name == "poll":
                await poll([await stream.subscribe()])
                continue
            found = await outcome(getattr(stream, name)(size))
            if found == CLOSED:
                break
            if isinstance(found, int):
                taken += found
                assert found <= size
            else:
                assert data[taken:].startswith(found)
                assert len(found) <= size
                taken += len(found)
            assert name != "blocking_read" or found or not size
        while (found := await outcome(stream.blocking_read(7))) != CLOSED:
            assert data[taken:].startswith(found)
            taken += len(found)
        assert taken == len(data)

    asyncio.run(main())


WRITES = st.lists(
    st.tuples(
        st.sampled_from(["write", "blocking", "zeroes", "flush", "blocking_flush", "poll"]), st.binary(max_size=40)
    ),
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(WRITES, st.integers(1, 60), st.lists(st.integers(0, 3), min_size=1), st.one_of(st.none(), st.integers(0, 5)))
def test_what_is_pushed_arrives_once_and_in_order(
    steps: list[tuple[str, bytes]], capacity: int, delays: list[int], fails: int | None
) -> None:
    async def main() -> None:
        sent, written, calls = bytearray(), bytearray(), 0
        done: list[None] = []

        async def send(data: bytes) -> None:
            nonlocal calls
            for _ in range(delays[calls % len(delays)]):
                await asyncio.sleep(0)
            calls += 1
            if fails is not None and calls > fails:
                raise OSError(28, "full")
            sent.extend(data)

        out = PushedOutput(send, lambda: done.append(None), capacity)
        failed = False
        for name, data in steps:
            call: Any = None
            if name == "poll":
                await poll([await out.subscribe()])
                permit = await outcome(out.check_write())
                assert failed or isinstance(permit, Error) or permit == CLOSED or permit > 0
                failed |= not isinstance(permit, int)
            elif name in ("write", "zeroes"):
                permit = await outcome(out.check_write())
                if isinstance(permit, int):
                    assert permit <= capacity
                    data = data[:permit] if name == "write" else bytes(min(permit, len(data)))
                    call = out.write(data) if name == "write" else out.write_zeroes(len(data))
                    written += data
            elif name == "blocking":
                call = out.blocking_write_and_flush(data)
                written += data
            else:
                call = out.flush() if name == "flush" else out.blocking_flush()
            if call is not None:
                answer = await outcome(call)
                assert answer is None or fails is not None
                failed |= answer is not None
                if name.startswith("blocking") and not failed:
                    assert sent == written
        out.on_drop()
        for _ in range(20 * len(steps) + 20):
            await asyncio.sleep(0)
        assert written.startswith(sent)
        assert fails is not None or sent == written
        assert done == [None]

    asyncio.run(main())


# Streams against a model.

CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("check_write")),
        st.tuples(st.just("write"), st.binary(max_size=40)),
        st.tuples(st.just("write_zeroes"), st.integers(0, 40)),
        st.tuples(st.just("flush")),
        st.tuples(st.just("host_write"), st.binary(max_size=40)),
        st.tuples(st.sampled_from(["read", "skip", "blocking_read", "host_read"]), st.integers(0, 40)),
        st.tuples(st.sampled_from(["end", "fail", "drop_input", "drop_output"])),
    ),
    max_size=60,
)


class Model:
    """A pipe as the WIT describes it, in the plainest way."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.held = b""
        self.permit = 0
        self.write_closed = False
        self.ended = False
        self.error = False

    def call(self, name: str, argument: Any) -> Any:
        answer: Any = getattr(self, name)() if argument is None else getattr(self, name)(argument)
        return answer

    def check_write(self) -> Any:
        if self.write_closed:
            return CLOSED
        self.permit = self.capacity - len(self.held)
        return self.permit

    def write(self, data: bytes) -> Any:
        if self.write_closed:
            return CLOSED
        if len(data) > self.permit:
            return GuestFault
        self.permit -= len(data)
        self.held += data
        return None

    def write_zeroes(self, size: int) -> Any:
        return self.write(bytes(size))

    def flush(self) -> Any:
        if self.write_closed:
            return CLOSED
        self.permit = 0
        return None

    def read(self, size: int) -> Any:
        if self.held:
            found, self.held = self.held[:size], self.held[size:]
            return found
        if self.ended:
            failed, self.error = self.error, False
            return "failed" if failed else CLOSED
        return b""

    def end(self) -> None:
        self.ended = self.write_closed = True

    def fail(self) -> None:
        self.error |= not self.ended
        self.end()

    def drop_output(self) -> None:
        if not self.write_closed:
            self.end()

    def drop_input(self) -> None:
        self.held = b""
        self.error = False
        self.end()


@settings(max_examples=300, deadline=None)
@given(CALLS, st.integers(1, 50))
def test_a_pipe_is_as_its_model(calls: list[tuple[Any, ...]], capacity: int) -> None:
    async def main() -> None:
        pipe, model = Pipe(capacity), Model(capacity)
        for name, *arguments in calls:
            await compare(pipe, model, name, arguments[0] if arguments else None)
            assert pipe.input.size == len(model.held)
            assert await (await pipe.input.subscribe()).ready() == bool(model.held or model.ended)
            assert await (await pipe.output.subscribe()).ready() == (
                model.write_closed or len(model.held) < model.capacity
            )

    asyncio.run(main())


async def compare(pipe: Pipe, model: Model, name: str, argument: Any) -> None:
    if name == "host_write":
        if not model.write_closed and len(argument) <= model.capacity - len(model.held):
            await pipe.write(argument)
            model.held += argument
    elif name == "host_read":
        if model.held and argument:
            found = await pipe.read(argument)
            assert 0 < len(found) <= argument
            assert model.held.startswith(found)
            model.held = model.held[len(found) :]
    elif name == "end":
        model.end()
        pipe.end()
    elif name == "fail":
        model.fail()
        pipe.fail(OSError(5, "failed"))
    elif name == "drop_input":
        model.drop_input()
        pipe.input.on_drop()
    elif name == "drop_output":
        model.drop_output()
        pipe.output.on_drop()
    elif name in ("read", "skip", "blocking_read"):
        if name == "blocking_read" and not model.held and not model.ended:
            return
        await same_read(pipe.input, model, name, argument)
    else:
        try:
            found = await outcome(getattr(pipe.output, name)(*([] if argument is None else [argument])))
        except GuestFault:
            found = GuestFault
        assert found == model.call(name, argument)


async def same_read(stream: InputStream, model: Model, name: str, size: int) -> None:
    """A read may return less than there is, but nothing only where there is nothing or nothing is asked for."""
    found = await outcome(getattr(stream, name)(size))
    if isinstance(found, Error):
        found = "failed"
    if isinstance(found, bytes) and found:
        assert len(found) <= size
        assert model.held.startswith(found)
        model.held = model.held[len(found) :]
    elif isinstance(found, int) and found:
        assert found <= min(size, len(model.held))
        model.held = model.held[found:]
    else:
        assert not (model.held and size)
        expected = model.read(size)
        assert found == (0 if name == "skip" and expected == b"" else expected)
