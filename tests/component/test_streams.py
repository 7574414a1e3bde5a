"""Streams and futures, held against a model: nothing is lost, nothing comes twice, and nobody waits for ever.

The ends are driven as components drive them, by the built-in functions, without an engine: a component here is a
memory and a handle table.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import resource
import struct
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bindgen.runtime import GuestFault, Import
from slight_py.component import streams
from slight_py.component import types as t
from slight_py.component.builtins import builtin
from slight_py.component.handles import HandleTable
from slight_py.component.plan import Builtin, Options
from slight_py.component.streams import BLOCKED, Channel, Dropped, End, FutureReader, StreamReader
from slight_py.component.tasks import State
from slight_py.component.waitables import WaitableSet
from slight_py.engine import Trap
from tests.component.values_of_types import FakeSpace

COMPLETED, DROPPED, CANCELLED = range(3)
IN, OUT = 0x10000, 0x40000
"""Where a component reads to and writes from in its memory."""


class FakeGuest(FakeSpace):
    """A component that is in nobody's store. To allocate takes it a moment."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[Exception] = []
        self.state = State(self.handles, self.failures.append)

    async def allocate(self, lower: Any) -> None:
        await asyncio.sleep(0)
        await super().allocate(lower)


async def answered(found: Import, guest: FakeGuest, args: tuple[int, ...]) -> Any:
    """What an import says, which it may say at once."""
    answer: Any = found.call(None, guest, args)
    return await answer if inspect.isawaitable(answer) else answer


class Side:
    """One end of a stream or future, and the component that has it."""

    def __init__(self, type_: t.StreamOf | t.FutureOf, is_readable: bool, channel: Channel, guest: FakeGuest) -> None:
        self.guest = guest
        self.kind = "future" if isinstance(type_, t.FutureOf) else "stream"
        self.verb, self.what = ("read", "readable") if is_readable else ("write", "writable")
        self.type = type_
        key = streams.key_of_end(channel.is_future, is_readable)
        self.index = streams.add_end(guest.handles, channel, is_readable, "test")
        self.end: End = guest.handles.get(key, self.index)

    def call(self, name: str, *args: int, is_async: bool = True) -> Coroutine[Any, Any, int]:
        core = t.CoreFuncType(("i32",) * (1 + len(args)), ("i32",))
        found = builtin(Builtin(f"{self.kind}.{name}", 0, core, self.type, Options(is_async=is_async)))
        assert found is not None
        return answered(found, self.guest, (self.index, *args))

    async def copy(self, count: int) -> tuple[int, int] | None:
        """Reads or writes; how that ended and with how many, None if it waits."""
        at = IN if self.verb == "read" else OUT
        packed = await self.call(self.verb, at, *([count] if self.kind == "stream" else []))
        return None if packed == BLOCKED else (packed & 0xF, packed >> 4)

    async def cancel(self) -> tuple[int, int] | None:
        packed = await self.call(f"cancel-{self.verb}")
        return None if packed == BLOCKED else (packed & 0xF, packed >> 4)

    async def drop(self) -> None:
        await self.call(f"drop-{self.what}")

    def event(self) -> tuple[int, int] | None:
        if not self.end.has_event:
            return None
        code, index, packed = self.end.take_event()
        assert (code, index) == (streams_event(self), self.index)
        return packed & 0xF, packed >> 4


def streams_event(side: Side) -> int:
    """The number of the event, as CanonicalABI.md has it."""
    return {"streamread": 2, "streamwrite": 3, "futureread": 4, "futurewrite": 5}[side.kind + side.verb]


def pair(type_: t.StreamOf | t.FutureOf) -> tuple[Side, Side]:
    """A writer and a reader, in two components."""
    channel = Channel(isinstance(type_, t.FutureOf), streams.text_of_element(type_), type_.element)
    return Side(type_, False, channel, FakeGuest()), Side(type_, True, channel, FakeGuest())


def number(position: int) -> bytes:
    """What is written at a place of a stream of u16."""
    return struct.pack("<H", position * 7919 % 65521)


def numbers(start: int, count: int) -> bytes:
    return b"".join(map(number, range(start, start + count)))


STREAM = t.StreamOf(t.U16)


class Interleaving:
    """Random steps of a writer and a reader of numbers, and what must have come of them."""

    def __init__(self) -> None:
        self.writer, self.reader = pair(STREAM)
        self.written = 0
        self.received = b""
        self.gone: set[Side] = set()

    def other(self, side: Side) -> Side:
        return self.reader if side is self.writer else self.writer

    def take(self, side: Side, outcome: tuple[int, int] | None) -> None:
        """What a component learns of its read or write."""
        if outcome is None:
            return
        result, count = outcome
        assert result != DROPPED or self.other(side) in self.gone
        if side is self.writer:
            self.written += count
        else:
            self.received += bytes(side.guest.memory[IN : IN + 2 * count])

    async def copy(self, side: Side, count: int) -> None:
        if side.end.state is not streams.CopyState.IDLE:
            with pytest.raises(GuestFault, match=rf"^stream.{side.verb}: cannot {side.verb} "):
                await side.copy(count)
            return
        if side is self.writer:
            data = numbers(self.written, count)
            side.guest.memory[OUT : OUT + len(data)] = data
        outcome = await side.copy(count)
        assert outcome is None or outcome[1] <= count
        self.take(side, outcome)

    async def cancel(self, side: Side) -> None:
        if side.end.state is not streams.CopyState.COPYING:
            with pytest.raises(GuestFault, match="can be cancelled"):
                await side.cancel()
            return
        outcome = await side.cancel()
        assert outcome is not None
        self.take(side, outcome)

    async def drop(self, side: Side) -> None:
        if side.end.is_copying:
            with pytest.raises(GuestFault, match="cannot drop busy stream"):
                await side.drop()
            return
        await side.drop()
        self.gone.add(side)

    async def step(self, side: Side, action: str, count: int) -> None:
        if side in self.gone:
            return
        match action:
            case "copy":
                await self.copy(side, count)
            case "event":
                self.take(side, side.event())
            case "cancel":
                await self.cancel(side)
            case "drop":
                await self.drop(side)

    async def settle(self) -> None:
        """What has begun is ended, and then, if nobody has dropped an end, more goes through."""
        for side in (self.writer, self.reader):
            if side.end.state is streams.CopyState.COPYING and side not in self.gone:
                self.take(side, await side.cancel())
        if not self.gone:
            before = self.written
            await self.copy(self.writer, 5)
            await self.copy(self.reader, 5)
            self.take(self.writer, self.writer.event())
            assert self.written == before + 5


actions = st.tuples(
    st.booleans(), st.sampled_from(["copy"] * 6 + ["event"] * 3 + ["cancel", "drop"]), st.integers(0, 6)
)


@given(st.lists(actions, max_size=40))
@settings(max_examples=400, deadline=None)
def test_what_is_written_is_read_once_and_in_order(steps: Any) -> None:
    async def play() -> None:
        model = Interleaving()
        for is_writer, action, count in steps:
            await model.step(model.writer if is_writer else model.reader, action, count)
            # Whoever reads may learn of it before whoever writes does.
            assert model.received == numbers(0, len(model.received) // 2)
        await model.settle()
        if not model.gone:
            assert model.received == numbers(0, model.written)
        assert not model.writer.guest.failures
        assert not model.reader.guest.failures

    asyncio.run(play())


async def outcome_of(side: Side) -> tuple[int, int]:
    """How a read or write that waits ends."""
    for _ in range(100):
        found = side.event()
        if found is not None:
            return found
        await asyncio.sleep(0)
    raise AssertionError("it waits for ever")


async def write_all(side: Side, texts: list[str], cancels: Any) -> None:
    """Writes texts, and gives some writes up in their midst, to begin them again with what is left."""
    left = texts
    while left:
        space = side.guest
        for place, each in enumerate(left):
            data = each.encode()
            at = OUT + 0x1000 + 0x100 * place
            space.memory[at : at + len(data)] = data
            struct.pack_into("<II", space.memory, OUT + 8 * place, at, len(data))
        outcome = await side.copy(len(left))
        if outcome is None and next(cancels):
            outcome = await side.cancel()
        result, count = outcome or await outcome_of(side)
        assert result in (COMPLETED, CANCELLED)
        left = left[count:]
        await asyncio.sleep(0)
    await side.drop()


async def read_all(side: Side, counts: Any, cancels: Any) -> list[str]:
    found: list[str] = []
    while True:
        outcome = await side.copy(next(counts))
        if outcome is None and next(cancels):
            outcome = await side.cancel()
        result, count = outcome or await outcome_of(side)
        for place in range(count):
            at, size = struct.unpack_from("<II", side.guest.memory, IN + 8 * place)
            found.append(bytes(side.guest.memory[at : at + size]).decode())
        if result == DROPPED:
            return found
        await asyncio.sleep(0)


@given(
    st.lists(st.text("aé€", max_size=5), max_size=12),
    st.lists(st.integers(0, 4), min_size=1, max_size=5),
    st.lists(st.booleans(), min_size=1, max_size=7),
    st.lists(st.booleans(), min_size=1, max_size=7),
)
@settings(max_examples=150, deadline=None)
def test_texts_pass_while_both_sides_cancel_and_begin_again(texts: Any, counts: Any, one: Any, two: Any) -> None:
    """To hand a text over, the reader has to allocate memory for it: the writer may do something else meanwhile."""
    writer, reader = pair(t.StreamOf(t.STRING))
    # Somebody has to be patient now and then.
    counts = itertools.cycle([*counts, 3])
    cancels = [itertools.cycle([*each, False, False]) for each in (one, two)]

    async def play() -> list[str]:
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            group.create_task(write_all(writer, texts, cancels[0]))
            reading = group.create_task(read_all(reader, counts, cancels[1]))
        return reading.result()

    assert asyncio.run(play()) == texts


# With an end in the host.


async def pieces(data: bytes, sizes: Any, closed: list[bool]) -> AsyncIterator[bytes]:
    at = 0
    try:
        while at < len(data):
            size = next(sizes)
            await asyncio.sleep(0)
            yield data[at : at + size]
            at += size
    finally:
        closed.append(True)


def given_by_host(guest: FakeGuest, type_: t.StreamOf | t.FutureOf, source: Any) -> Side:
    """The readable end of what the host writes."""
    is_future = isinstance(type_, t.FutureOf)
    carried = streams.text_of_element(type_)
    index = streams.add_source(guest.handles, is_future, carried, None, source, "test", type_.element)
    end = guest.handles.get(streams.key_of_end(is_future, True), index)
    side = Side(type_, True, end.channel, guest)
    guest.handles.take(streams.key_of_end(is_future, True), side.index)
    side.end, side.index = end, index
    return side


sizes = st.lists(st.integers(0, 9), min_size=1, max_size=5).map(lambda found: itertools.cycle([*found, 4]))


@given(st.binary(max_size=60), sizes, sizes)
@settings(max_examples=150, deadline=None)
def test_what_the_host_writes_is_read_by_a_component(data: Any, written: Any, read: Any) -> None:
    closed: list[bool] = []

    async def play() -> bytes:
        side = given_by_host(FakeGuest(), t.StreamOf(t.U8), pieces(data, written, closed))
        found = b""
        while True:
            result, count = await side.copy(next(read)) or await outcome_of(side)
            found += bytes(side.guest.memory[IN : IN + count])
            if result == DROPPED:
                return found

    assert asyncio.run(play()) == data
    assert closed == [True]


@given(st.binary(max_size=60), sizes, sizes, st.lists(st.booleans(), min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_what_a_component_writes_is_read_by_the_host(data: Any, written: Any, read: Any, gives_up: Any) -> None:
    """The host's reads may be cancelled, as when something else is done first: nothing is lost by that."""
    patience = itertools.cycle([*gives_up, False])

    async def play() -> bytes:
        writer, other = pair(t.StreamOf(t.U8))
        reader = StreamReader(other.end.channel)

        async def write() -> None:
            at = 0
            while at < len(data):
                size = min(next(written), len(data) - at)
                writer.guest.memory[OUT : OUT + size] = data[at : at + size]
                result, count = await writer.copy(size) or await outcome_of(writer)
                assert result == COMPLETED
                at += count
            await writer.drop()

        writing = asyncio.create_task(write())
        found = b""
        while True:
            reading = asyncio.create_task(reader.read(1 + next(read)))
            await asyncio.sleep(0)
            if next(patience):
                reading.cancel()
            try:
                piece = await reading
            except asyncio.CancelledError:
                continue
            if not piece:
                await writing
                return found
            found += piece

    assert asyncio.run(play()) == data


def test_a_source_is_asked_for_a_piece_when_the_component_reads() -> None:
    asked = []

    async def source() -> AsyncIterator[bytes]:
        for number in range(3):
            asked.append(number)
            yield b"ab"

    async def play() -> None:
        side = given_by_host(FakeGuest(), t.StreamOf(t.U8), source())
        for _ in range(5):
            await asyncio.sleep(0)
        assert asked == []
        assert (await side.copy(1) or await outcome_of(side)) == (COMPLETED, 1)
        assert await side.copy(1) == (COMPLETED, 1)
        for _ in range(5):
            await asyncio.sleep(0)
        assert asked == [0]
        await side.drop()

    asyncio.run(play())


def test_a_source_is_closed_when_the_component_gives_the_stream_up() -> None:
    closed: list[bool] = []

    async def endless() -> AsyncIterator[bytes]:
        try:
            await asyncio.sleep(3600)
            yield b"x"
        finally:
            closed.append(True)

    async def play() -> None:
        side = given_by_host(FakeGuest(), t.StreamOf(t.U8), endless())
        assert await side.copy(1) is None
        for _ in range(5):
            await asyncio.sleep(0)
        assert await side.cancel() == (CANCELLED, 0)
        await side.drop()
        for _ in range(5):
            await asyncio.sleep(0)

    asyncio.run(play())
    assert closed == [True]


class Source:
    """A source that has nothing for now, and says when nobody wants anything of it any more."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    def __aiter__(self) -> Source:
        return self

    async def __anext__(self) -> bytes:
        await self.closed.wait()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed.set()


def test_a_source_is_closed_when_the_component_has_too_many_handles(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        source, guest = Source(), FakeGuest()
        monkeypatch.setattr(HandleTable, "LIMIT", 0)
        with pytest.raises(GuestFault, match="the guest holds 0 handles and drops none"):
            given_by_host(guest, t.StreamOf(t.U8), source)
        await asyncio.wait_for(source.closed.wait(), 5)

    asyncio.run(play())


def test_a_stream_that_is_refused_is_the_components_until_it_ends() -> None:
    async def play() -> None:
        source = Source()
        side = given_by_host(FakeGuest(), t.StreamOf(t.U8), source)
        with pytest.raises(GuestFault, match="call: the end 1 is of `u8`, not of `u16`"):
            streams.take_channel(side.guest.handles, False, side.index, "u16", "call")
        side.guest.handles.close()
        await asyncio.wait_for(source.closed.wait(), 5)

    asyncio.run(play())


def test_a_source_is_closed_when_nobody_keeps_the_reader_that_was_handed_over() -> None:
    """As where the call is refused for its next argument."""

    async def play() -> None:
        source = Source()
        side = given_by_host(FakeGuest(), t.StreamOf(t.U8), source)
        reader = StreamReader(streams.take_channel(side.guest.handles, False, side.index, "u8", "call"))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not source.closed.is_set()
        del reader
        await asyncio.wait_for(source.closed.wait(), 5)

    asyncio.run(play())


def test_a_source_that_fails_ends_the_stream() -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"ab"
        raise OSError("the connection is gone")

    async def play() -> None:
        side = given_by_host(FakeGuest(), t.StreamOf(t.U8), failing())
        assert (await side.copy(2) or await outcome_of(side)) == (COMPLETED, 2)
        assert (await side.copy(9) or await outcome_of(side)) == (DROPPED, 0)

    asyncio.run(play())


def test_reads_and_writes_of_nothing_tell_when_the_other_end_is_ready() -> None:
    async def play() -> None:
        writer, reader = pair(STREAM)
        assert await writer.copy(0) is None
        assert await reader.copy(4) is None
        assert writer.event() == (COMPLETED, 0)
        # The reader waits: a write of nothing is done at once.
        assert await writer.copy(0) == (COMPLETED, 0)
        assert reader.event() is None
        assert await reader.cancel() == (CANCELLED, 0)

    asyncio.run(play())


def test_a_writer_learns_that_the_reader_is_gone_and_may_not_write_again() -> None:
    async def play() -> None:
        writer, reader = pair(STREAM)
        assert await writer.copy(3) is None
        assert await reader.copy(1) == (COMPLETED, 1)
        await reader.drop()
        assert writer.event() == (DROPPED, 1)
        with pytest.raises(
            GuestFault, match="cannot write to stream after being notified that the readable end dropped"
        ):
            await writer.copy(1)

    asyncio.run(play())


@pytest.mark.parametrize("is_writer", [True, False])
def test_an_end_that_does_nothing_is_told_once_that_the_other_is_gone(is_writer: Any) -> None:
    async def play() -> None:
        gone, left = pair(STREAM)[:: 1 if is_writer else -1]
        await gone.drop()
        assert left.event() == (DROPPED, 0)
        assert left.event() is None
        with pytest.raises(GuestFault, match="after being notified that the"):
            await left.copy(1)
        await left.drop()

    asyncio.run(play())


def test_whoever_gets_a_stream_whose_writer_is_gone_is_told() -> None:
    async def play() -> None:
        writer, reader = pair(STREAM)
        await writer.drop()
        channel = streams.take_channel(reader.guest.handles, False, reader.index, "u16", "call")
        side = given_by_host(FakeGuest(), STREAM, StreamReader(channel))
        assert side.event() == (DROPPED, 0)
        with pytest.raises(GuestFault, match="cannot lift stream after being notified that the writable end dropped"):
            streams.take_channel(side.guest.handles, False, side.index, "u16", "call")

    asyncio.run(play())


def test_a_writer_of_a_future_that_learns_of_its_readers_end_need_not_write() -> None:
    async def play() -> None:
        writer, reader = pair(t.FutureOf(t.U16))
        await reader.drop()
        assert writer.event() == (DROPPED, 0)
        await writer.drop()

    asyncio.run(play())


def test_what_a_set_waits_for_is_not_waited_for_otherwise() -> None:
    async def play() -> None:
        _, reader = pair(STREAM)
        reader.end.join(WaitableSet())
        with pytest.raises(GuestFault, match="waitable cannot be used synchronously while added to a waitable set"):
            await reader.call("read", IN, 1, is_async=False)
        with pytest.raises(GuestFault, match="call: cannot lift stream in a waitable set"):
            streams.take_channel(reader.guest.handles, False, reader.index, "u16", "call")

    asyncio.run(play())


def test_a_synchronous_function_reads_what_is_there() -> None:
    async def play() -> None:
        writer, reader = pair(STREAM)
        assert await writer.copy(3) is None
        assert await reader.call("read", IN, 2, is_async=False) == COMPLETED | 2 << 4

    asyncio.run(play())


def test_a_component_may_pass_numbers_to_itself_and_nothing_else() -> None:
    async def play(type_: t.StreamOf) -> tuple[int, int] | None:
        guest = FakeGuest()
        channel = Channel(False, streams.text_of_element(type_), type_.element)
        writer, reader = Side(type_, False, channel, guest), Side(type_, True, channel, guest)
        assert await writer.copy(1) is None
        return await reader.copy(1)

    assert asyncio.run(play(t.StreamOf(t.U64))) == (COMPLETED, 1)
    with pytest.raises(GuestFault, match="cannot read from and write to intra-component stream"):
        asyncio.run(play(t.StreamOf(t.STRING)))


@pytest.mark.parametrize(
    ("at", "count", "message"),
    [
        (IN + 1, 1, "not aligned to 2 bytes"),
        ((1 << 20) - 2, 2, "4 bytes at 0xffffe are not in memory"),
        (0, 1 << 28, "268435456 values are more than"),
    ],
)
def test_places_are_checked_before_anything_is_read(at: Any, count: Any, message: Any) -> None:
    _, reader = pair(STREAM)
    with pytest.raises(GuestFault, match=rf"^stream.read: .*{message}"):
        asyncio.run(reader.call("read", at, count))


def test_an_end_of_another_type_is_refused() -> None:
    _, reader = pair(t.StreamOf(t.STRING))
    reader.type = STREAM
    with pytest.raises(GuestFault, match=r"stream.read: the end is of `string`, not of `u16`"):
        asyncio.run(reader.copy(1))


def test_an_end_that_is_being_read_cannot_be_handed_over() -> None:
    async def play() -> None:
        _, reader = pair(STREAM)
        await reader.copy(1)
        with pytest.raises(GuestFault, match="call: cannot lift stream while it is being read"):
            streams.take_channel(reader.guest.handles, False, reader.index, "u16", "call")

    asyncio.run(play())


def test_a_synchronous_function_may_not_wait() -> None:
    _, reader = pair(STREAM)
    with pytest.raises(GuestFault, match=r"stream.read: cannot block a synchronous task before returning"):
        asyncio.run(reader.call("read", IN, 1, is_async=False))


# Futures.


def test_a_future_carries_one_value() -> None:
    async def play() -> None:
        writer, reader = pair(t.FutureOf(t.U16))
        assert await reader.copy(1) is None
        writer.guest.memory[OUT : OUT + 2] = number(1)
        assert await writer.copy(1) == (COMPLETED, 0)
        assert reader.event() == (COMPLETED, 0)
        assert reader.guest.memory[IN : IN + 2] == number(1)
        for side in (reader, writer):
            with pytest.raises(GuestFault, match=f"future after previous {side.verb} succeeded"):
                await side.copy(1)
            await side.drop()

    asyncio.run(play())


def test_a_future_must_be_written_before_it_is_dropped() -> None:
    async def play() -> None:
        writer, reader = pair(t.FutureOf(t.U16))
        with pytest.raises(GuestFault, match="cannot drop future write end without first writing a value"):
            await writer.drop()
        await reader.drop()
        assert await writer.copy(1) == (DROPPED, 0)
        await writer.drop()

    asyncio.run(play())


async def value(found: Any, failure: Exception | None = None) -> Any:
    await asyncio.sleep(0)
    if failure is not None:
        raise failure
    return found


def test_a_future_that_the_host_gives_and_one_that_it_gets() -> None:
    async def play() -> None:
        side = given_by_host(FakeGuest(), t.FutureOf(t.STRING), value("né"))
        assert (await side.copy(1) or await outcome_of(side)) == (COMPLETED, 0)
        at, size = struct.unpack_from("<II", side.guest.memory, IN)
        assert side.guest.memory[at : at + size] == "né".encode()

        writer, reader = pair(t.FutureOf(t.U16))
        waiting = asyncio.create_task(value_of(FutureReader(reader.end.channel)))
        await asyncio.sleep(0)
        writer.guest.memory[OUT : OUT + 2] = b"\x01\x02"
        assert await writer.copy(1) == (COMPLETED, 0)
        assert await waiting == 0x201

    asyncio.run(play())


async def value_of(reader: FutureReader) -> Any:
    return await reader


def test_a_future_that_the_host_fails_to_give_ends_the_component() -> None:
    """The component model has no way to tell a component that a future will have no value."""

    async def play() -> None:
        guest = FakeGuest()
        side = given_by_host(guest, t.FutureOf(t.U8), value(0, OSError("gone")))
        assert await side.copy(1) is None
        for _ in range(5):
            await asyncio.sleep(0)
        (failure,) = guest.failures
        assert isinstance(failure, Trap)
        assert str(failure) == "a future that the host gave has no value: OSError: gone"

    asyncio.run(play())


def test_the_host_is_told_when_a_component_ends_before_it_has_written_all() -> None:
    async def play() -> None:
        for type_, reader_of in ((STREAM, StreamReader), (t.FutureOf(t.U16), FutureReader)):
            writer, other = pair(type_)
            reader = reader_of(other.end.channel)
            waiting = asyncio.create_task(reader.read(1) if isinstance(reader, StreamReader) else value_of(reader))
            await asyncio.sleep(0)
            writer.guest.handles.close()
            with pytest.raises(Dropped):
                await waiting

    asyncio.run(play())


def test_a_stream_that_was_read_by_nobody_is_handed_on_without_the_host() -> None:
    async def play() -> None:
        writer, other = pair(STREAM)
        third = FakeGuest()
        side = given_by_host(third, STREAM, StreamReader(other.end.channel))
        assert side.end.channel is writer.end.channel
        writer.guest.memory[OUT : OUT + 2] = number(5)
        assert await side.copy(1) is None
        assert await writer.copy(1) == (COMPLETED, 1)
        assert third.memory[IN : IN + 2] == number(5)

    asyncio.run(play())


def test_a_gigabyte_passes_in_constant_memory() -> None:
    """From the host to a component and from another one back, 64 KiB at a time."""
    total, piece = 1 << 30, bytes(1 << 16)

    async def source() -> AsyncIterator[bytes]:
        for _ in range(total // len(piece)):
            yield piece

    async def play() -> int:
        incoming = given_by_host(FakeGuest(), t.StreamOf(t.U8), source())
        writer, other = pair(t.StreamOf(t.U8))
        reader = StreamReader(other.end.channel)

        async def work() -> None:
            while True:
                result, count = await incoming.copy(1 << 16) or await outcome_of(incoming)
                if result == DROPPED:
                    break
                await writer.copy(count) or await outcome_of(writer)
            await writer.drop()

        found = 0
        async with asyncio.TaskGroup() as group:
            group.create_task(work())
            async for each in reader:
                found += len(each)
        return found

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert asyncio.run(play()) == total
    # KiB: what this process took at most grew by far less than what passed.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
