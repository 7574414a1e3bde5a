"""Streams and futures: where a reader and a writer meet, each in a component or in the host.

Nothing is kept between both: a read and a write that meet copy as much as both have room for, and whoever comes first
waits. So a fast writer waits for a slow reader, and any length passes in constant memory. Rules and names are those of
CanonicalABI.md, sections "Stream State" and "Future State".

What a component reads and writes lies in its memory; it's copied once, straight from there or to there. The host's side
are a `StreamReader` or `FutureReader` for what it got, and an asynchronous iterable or an awaitable for what it gives.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import traceback
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Generator
from enum import Enum, IntEnum
from typing import Any, Protocol

from bindgen.runtime import GuestFault
from slight_py.component.handles import HandleTable
from slight_py.component.types import FutureOf, Primitive, StreamOf, ValueType, text
from slight_py.component.waitables import Event, EventCode, Waitable
from slight_py.engine import Exit, Trap

logger = logging.getLogger(__name__)

MAX_LENGTH = (1 << 28) - 1
"""How many values one read or write may be of."""

BLOCKED = 0xFFFF_FFFF
"""What a guest is told that reads or writes and has to wait."""

READABLE_STREAM = "readable end of a stream"
WRITABLE_STREAM = "writable end of a stream"
READABLE_FUTURE = "readable end of a future"
WRITABLE_FUTURE = "writable end of a future"
"""The keys of ends in a handle table."""


class Dropped(Exception):
    """The future that is waited for will never have a value: its writer has ended."""


class CopyResult(IntEnum):
    """How a read or a write has ended."""

    COMPLETED = 0
    DROPPED = 1
    CANCELLED = 2


class Form(Protocol):
    """How the values of a stream or future lie in a guest's memory: `bindgen.runtime.component.Payload`, which has the
    Python values of a generated module, and those of `slight_py.component.values`."""

    def load(self, guest: Any, where: str, at: int, count: int) -> Any:
        """So many values from memory at `at`, where they are known to lie."""

    def store(self, guest: Any, where: str, at: int, values: Any) -> Awaitable[None] | None:
        """Writes values there. An awaitable, where the guest has to allocate memory for them first."""


# What is copied from and to. The state of a read or write is in its buffer: what there is, and how much is done.


class Buffer:
    """The values of one read or write."""

    __slots__ = ("done", "length")

    def __init__(self, length: int) -> None:
        self.length = length
        self.done = 0
        """How many of them were copied."""

    @property
    def left(self) -> int:
        return self.length - self.done


class GuestBuffer(Buffer):
    """Values in a guest's memory, or places for them."""

    __slots__ = ("_at", "_form", "_size", "_where", "guest")

    def __init__(self, guest: Any, form: Form, size: int, at: int, length: int, where: str) -> None:
        """`size` is the bytes from a value to the next. The range was checked."""
        super().__init__(length)
        self.guest = guest
        self._form = form
        self._size = size
        self._at = at
        self._where = where

    def _advance(self, count: int) -> int:
        at = self._at + self.done * self._size
        self.done += count
        return at

    def take(self, count: int, form: Form | None) -> Any:
        """The next values, to be copied elsewhere."""
        return (form or self._form).load(self.guest, self._where, self._advance(count), count)

    def put(self, values: Any, form: Form | None) -> Awaitable[None] | None:
        """Writes the next values. An awaitable, where that isn't done at once."""
        return (form or self._form).store(self.guest, self._where, self._advance(len(values)), values)


class HostSource(Buffer):
    """A piece of what the host writes."""

    __slots__ = ("_values",)

    def __init__(self, values: Any) -> None:
        super().__init__(len(values))
        # Slices of a memoryview copy nothing.
        self._values = memoryview(values).cast("B") if isinstance(values, bytes | bytearray | memoryview) else values

    def take(self, count: int, _form: Form | None) -> Any:
        start = self.done
        self.done += count
        if not start and count == self.length:
            return self._values
        return self._values[start : self.done]


class HostTarget(Buffer):
    """What the host reads into."""

    __slots__ = ("values",)

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.values: Any = None

    def put(self, values: Any, _form: Form | None) -> None:
        self.done += len(values)
        self.values = values


class Copy:
    """A read or a write: what is copied, and who is told."""

    __slots__ = ("_copied", "_ended", "buffer", "is_read")

    def __init__(
        self,
        is_read: bool,
        buffer: Any,
        copied: Callable[[Copy], None],
        ended: Callable[[Copy, CopyResult], None],
    ) -> None:
        """`copied` is told that a part was copied; more may be, as long as the copy isn't withdrawn."""
        self.is_read = is_read
        self.buffer = buffer
        self._copied = copied
        self._ended = ended

    def copied(self) -> None:
        self._copied(self)

    def ended(self, result: CopyResult) -> None:
        self._ended(self, result)

    @property
    def guest(self) -> Any:
        return self.buffer.guest if isinstance(self.buffer, GuestBuffer) else None


class Channel:
    """Where the two ends of a stream or a future meet."""

    __slots__ = (
        "__weakref__",
        "_busy",
        "_waiters",
        "dropped",
        "element",
        "ends",
        "failure",
        "form",
        "giver",
        "is_broken",
        "is_future",
        "pending",
        "type",
    )

    def __init__(self, is_future: bool, type_: str, element: ValueType | None = None) -> None:
        self.is_future = is_future
        self.type = type_
        """The structural text of what it carries; nothing where it carries nothing but a count."""
        self.element = element
        """The same, where the type came from a component rather than from the host."""
        self.form: Form | None = None
        """How the host sees the values, where it has one of the ends."""
        self.dropped = False
        """Whether one of the ends is gone."""
        self.is_broken = False
        """Whether the writer has ended before it said so: what was read isn't all."""
        self.failure: Exception | None = None
        """What went wrong in the host, so that there will be no value."""
        self.giver: Giver | None = None
        """The host, where it writes."""
        self.ends: dict[bool, End] = {}
        """The ends that components have, by whether they are readable."""
        self.pending: Copy | None = None
        self._busy = False
        """Whether values are being written to a guest, which may have to allocate memory for them."""
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def is_open(self) -> bool:
        """Whether the host may still write to it."""
        return self.giver is not None and not self.dropped

    @property
    def is_idle(self) -> bool:
        """Whether a read or a write could but wait."""
        return self.pending is None and not self._busy and not self.dropped and self.failure is None

    async def copy(self, copy: Copy) -> None:
        """Reads or writes: copies what it can if the other end waits, and else waits for that.

        Raises GuestFault where what is copied breaks the rules.
        """
        while self._busy:
            await self._change()
        if self.failure is not None:
            raise self.failure
        if self.dropped:
            copy.ended(CopyResult.DROPPED)
            return
        other = self.pending
        if other is None:
            self.wait(copy)
            return
        if other.is_read == copy.is_read:
            raise RuntimeError("two reads, or two writes, of one stream at a time")
        self._check_instances(copy, other)
        if other.buffer.left:
            if copy.buffer.left:
                await self._transfer(copy, other)
            copy.ended(CopyResult.COMPLETED)
        elif not copy.is_read and not copy.buffer.length and not other.buffer.length:
            copy.ended(CopyResult.COMPLETED)
        else:
            self._end_pending(CopyResult.COMPLETED)
            self.wait(copy)

    async def _transfer(self, copy: Copy, other: Copy) -> None:
        source, target = (other, copy) if copy.is_read else (copy, other)
        count = min(source.buffer.left, target.buffer.left)
        form = self.form if source.guest is None or target.guest is None else None
        try:
            values = source.buffer.take(count, form)
        except GuestFault as fault:
            # It may be the host or another component that reads what this one can't hand over.
            source.guest.state.fail(fault)
            raise
        written = target.buffer.put(values, form)
        if written is not None:
            self._busy = True
            try:
                await written
            except Exception as error:
                target.guest.state.fail(error)
                raise
            finally:
                self._busy = False
                self._changed()
        if self.pending is other:
            if self.is_future:
                self._end_pending(CopyResult.COMPLETED)
            else:
                other.copied()
        if self.dropped and self.pending is not None:
            self._end_pending(CopyResult.DROPPED)

    def cancel(self, copy_is_read: bool) -> None:
        """Withdraws the read or write that waits, unless values of it are being copied: it ends by itself then."""
        if not self._busy and self.pending is not None and self.pending.is_read == copy_is_read:
            self._end_pending(CopyResult.CANCELLED)

    def drop(self) -> None:
        """One of the ends is gone. The other end is told, even if nothing is being copied."""
        if not self.dropped:
            self.dropped = True
            if self.pending is not None and not self._busy:
                self._end_pending(CopyResult.DROPPED)
            for end in self.ends.values():
                end.notify_dropped()
            if self.giver is not None:
                self.giver.stop()
            self._changed()

    def fail(self, error: Exception) -> None:
        """There will be no value, since something went wrong in the host. A component can't be told: it's ended."""
        self.failure = error
        if self.pending is not None and self.pending.guest is not None:
            self.pending.guest.state.fail(error)

    def withdraw(self, copy: Copy) -> None:
        """Whoever reads or writes has been told of what was copied so far: no more is."""
        if self.pending is copy:
            self.pending = None

    async def reader(self) -> bool:
        """Waits until somebody reads, for a writer in the host. False where the reader is gone."""
        while not self.dropped and not self._is_wanted():
            await self._change()
        return not self.dropped

    def _is_wanted(self) -> bool:
        """Whether a read waits for more, or for a sign that there is something."""
        pending = self.pending
        return not self._busy and pending is not None and (pending.buffer.left > 0 or not pending.buffer.length)

    def wait(self, copy: Copy) -> None:
        """Has a read or a write wait for the other end, while the channel is idle."""
        self.pending = copy
        if copy.is_read and self.giver is not None:
            self.giver.begin()
        self._changed()

    def _end_pending(self, result: CopyResult) -> None:
        pending, self.pending = self.pending, None
        assert pending is not None
        pending.ended(result)

    async def _change(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _changed(self) -> None:
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def _check_instances(self, copy: Copy, other: Copy) -> None:
        # So says the specification, "temporary".
        one, two = copy.guest, other.guest
        if one is not None and two is not None and one.state is two.state and not _is_number(self.element):
            kind = "future" if self.is_future else "stream"
            raise GuestFault(f"cannot read from and write to intra-component {kind} of {self.type}")


def _is_number(element: ValueType | None) -> bool:
    return element is None or (
        isinstance(element, Primitive) and element.name not in ("bool", "char", "string", "error-context")
    )


# The ends of components.


class CopyState(Enum):
    IDLE = 1
    BLOCKING = 2
    COPYING = 3
    CANCELLING = 4
    DONE = 5


class End(Waitable):
    """An end of a stream or a future that a component has."""

    __slots__ = ("channel", "index", "is_readable", "other_dropped", "state")

    def __init__(self, channel: Channel, is_readable: bool) -> None:
        super().__init__()
        self.channel = channel
        self.is_readable = is_readable
        self.index = 0
        """In the component's handle table."""
        self.state = CopyState.IDLE
        self.other_dropped = False
        """Whether the component knows that the other end is gone."""
        channel.ends[is_readable] = self
        if channel.dropped:
            self.notify_dropped()

    @property
    def is_copying(self) -> bool:
        return self.state in (CopyState.BLOCKING, CopyState.COPYING, CopyState.CANCELLING)

    @property
    def kind(self) -> str:
        """For messages."""
        return "future" if self.channel.is_future else "stream"

    def notify_dropped(self) -> None:
        """The other end is gone: an event for a component that reads or writes nothing."""
        if self.state is CopyState.IDLE:
            self.set_event(self._dropped)

    def _dropped(self) -> Event:
        self.state = CopyState.DONE
        self.other_dropped = True
        code = EVENT_CODES[self.channel.is_future, self.is_readable]
        return code, self.index, CopyResult.DROPPED

    def done_reason(self) -> str:
        """Why an end that is done can't be used, for messages."""
        if self.channel.is_future and not self.is_readable:
            return "after previous write succeeded or readable end dropped"
        if self.other_dropped:
            other = "writable" if self.is_readable else "readable"
            return f"after being notified that the {other} end dropped"
        return f"after previous {'read' if self.is_readable else 'write'} succeeded"

    def drop(self) -> None:
        """The component drops the end."""
        self.join(None)
        self.channel.ends.pop(self.is_readable, None)
        self.channel.drop()

    def on_drop(self) -> None:
        """The component has ended, and didn't drop the end before."""
        pending = self.channel.pending
        if pending is not None and pending.is_read == self.is_readable:
            self.channel.withdraw(pending)
        if not self.is_readable and self.state is not CopyState.DONE:
            self.channel.is_broken = True
        self.drop()


EVENT_CODES = {
    (False, True): EventCode.STREAM_READ,
    (False, False): EventCode.STREAM_WRITE,
    (True, True): EventCode.FUTURE_READ,
    (True, False): EventCode.FUTURE_WRITE,
}
"""What a component is told, by whether it's a future, and whether it reads."""


def key_of_end(is_future: bool, is_readable: bool) -> str:
    """The key of an end in a handle table."""
    if is_future:
        return READABLE_FUTURE if is_readable else WRITABLE_FUTURE
    return READABLE_STREAM if is_readable else WRITABLE_STREAM


def text_of_element(type_: StreamOf | FutureOf) -> str:
    """The structural text of what a stream or future of this type carries; empty for nothing."""
    return "" if type_.element is None else text(type_.element)


def check_type(end: End, element: ValueType | None, wanted: str, where: str) -> None:
    """Raises GuestFault where an end carries something else than the guest says; `wanted` is the text of `element`."""
    channel = end.channel
    known = channel.element
    if channel.type != wanted or (known is not None and known is not element and known != element):
        raise GuestFault(f"{where}: the end is of `{channel.type or '_'}`, not of `{wanted or '_'}`")


def add_end(handles: HandleTable, channel: Channel, is_readable: bool, where: str) -> int:
    """Gives a component an end; returns its index."""
    end = End(channel, is_readable)
    end.index = handles.add(key_of_end(channel.is_future, is_readable), end, where)
    return end.index


def add_ends(
    handles: HandleTable, is_future: bool, element: ValueType | None, type_: str, where: str
) -> tuple[int, int]:
    """A new stream or future, both of whose ends the guest has: the indices of the readable and the writable one."""
    channel = Channel(is_future, type_, element)
    return add_end(handles, channel, True, where), add_end(handles, channel, False, where)


def _readable(handles: HandleTable, is_future: bool, index: int, where: str) -> End:
    """The readable end that a guest means to hand over. It stays the guest's where it is refused."""
    end: End = handles.get(key_of_end(is_future, True), index, where)
    if end.set is not None:
        raise GuestFault(f"{where}: cannot lift {end.kind} in a waitable set")
    if end.state is CopyState.DONE:
        raise GuestFault(f"{where}: cannot lift {end.kind} {end.done_reason()}")
    if end.state is not CopyState.IDLE:
        raise GuestFault(f"{where}: cannot lift {end.kind} while it is being read")
    return end


def _take(handles: HandleTable, end: End, where: str) -> Channel:
    """The channel of an end that is the guest's no more."""
    handles.take(key_of_end(end.channel.is_future, True), end.index, where)
    end.channel.ends.pop(True)
    return end.channel


def take_channel(handles: HandleTable, is_future: bool, index: int, type_: str, where: str) -> Channel:
    """The channel whose readable end a guest hands over; `type_` is the structural text of what it has to carry."""
    end = _readable(handles, is_future, index, where)
    if end.channel.type != type_:
        raise GuestFault(f"{where}: the end {index} is of `{end.channel.type or '_'}`, not of `{type_ or '_'}`")
    return _take(handles, end, where)


def lift_readable(
    handles: HandleTable, is_future: bool, element: ValueType | None, type_: str, index: int, where: str
) -> Any:
    """What a guest hands over: the host's reader, which another component can be given."""
    end = _readable(handles, is_future, index, where)
    check_type(end, element, type_, where)
    channel = _take(handles, end, where)
    reader = FutureReader(channel) if is_future else StreamReader(channel)
    handles.share(reader)
    return reader


def add_source(
    handles: HandleTable,
    is_future: bool,
    type_: str,
    form: Form | None,
    source: Any,
    where: str,
    element: ValueType | None = None,
) -> int:
    """Hands a stream or future over to a guest; returns the index. `source` is a reader to be passed on, or what the
    host gives: an asynchronous iterable of pieces, or an awaitable of a value."""
    channel = _passed_on(source, is_future, type_)
    if channel is None:
        channel = Channel(is_future, type_, element)
        channel.form = form
        channel.giver = Giver(channel, source)
        handles.share(channel)
    try:
        return add_end(handles, channel, True, where)
    except GuestFault:  # the guest has too many handles already
        channel.drop()
        raise


def _passed_on(value: Any, is_future: bool, type_: str) -> Channel | None:
    """The channel of a reader that nobody has begun to read."""
    if not isinstance(value, _Reader) or not value.is_untouched:
        return None
    if (value.channel.is_future, value.channel.type) != (is_future, type_):
        return None
    return value.hand_on()


class Giver:
    """The host as the writer of a channel. A task writes what comes from the source, from the first read on."""

    __slots__ = ("_channel", "_source", "_task", "loop")

    def __init__(self, channel: Channel, source: Any) -> None:
        self.loop = asyncio.get_running_loop()
        """The event loop in which it writes."""
        self._channel = channel
        self._source = source
        self._task: asyncio.Task[None] | None = None
        if isinstance(source, Coroutine):
            self.begin()  # There is something to be done, whether the guest asks for the result or not.

    def begin(self) -> None:
        """Somebody reads, or is about to."""
        if self._task is None:
            channel, source = self._channel, self._source
            self._task = _kept(_give_value(channel, source) if channel.is_future else _give_pieces(channel, source))
            self._task.add_done_callback(self._ended)

    def stop(self) -> None:
        """The reader is gone."""
        if self._task is None:
            self._give_up()
        else:
            self._task.cancel()

    def _ended(self, _task: asyncio.Task[None]) -> None:
        # It may have been cancelled before its coroutine began.
        if self._channel.giver is self:
            self._give_up()

    def _give_up(self) -> None:
        """Closes the source, which nobody has asked for anything."""
        self._channel.giver = None
        if isinstance(self._source, Coroutine):
            self._source.close()
        elif not self._channel.is_future and hasattr(self._source, "aclose"):
            _kept(_close(self._source))


def _kept(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task that does something, and is held until it's done."""
    task = asyncio.get_running_loop().create_task(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return task


_tasks: set[asyncio.Task[None]] = set()
"""Those under way."""


async def _give_pieces(channel: Channel, source: AsyncIterable[Any]) -> None:
    """Writes the pieces of a stream, each when there is a reader that wants it."""
    pieces = aiter(source)
    try:
        while await channel.reader():
            piece = await anext(pieces, None)
            if piece is None:
                break
            await _write(channel, HostSource(piece))
    except Exception:
        # The guest sees the end of the stream, as it would see any other reader's or writer's end.
        logger.debug("a stream for a guest ended early", exc_info=True)
    finally:
        channel.giver = None
        channel.drop()
        await _close(pieces)


async def _close(pieces: AsyncIterator[Any]) -> None:
    aclose = getattr(pieces, "aclose", None)
    if aclose is not None:
        try:
            await aclose()
        except Exception:
            logger.exception("what a stream for a guest came from can't be closed")


async def _write(channel: Channel, source: HostSource) -> None:
    """Writes until all is read, or the reader is gone."""
    while source.left:
        ended = asyncio.get_running_loop().create_future()

        def copied(copy: Copy, ended: asyncio.Future[CopyResult] = ended) -> None:
            if not source.left:
                channel.withdraw(copy)
                _finish(ended, copy, CopyResult.COMPLETED)

        await channel.copy(Copy(False, source, copied, functools.partial(_finish, ended)))
        if await ended is CopyResult.DROPPED:
            return


async def _give_value(channel: Channel, source: Awaitable[Any]) -> None:
    """Writes the value of a future once it's there."""
    try:
        value = await source
        await _write(channel, HostSource([value]))
    except (GuestFault, Trap, Exit) as error:
        channel.fail(error)
    except Exception as error:
        from capabilities import custom

        reason = f"a future that the host gave has no value: {custom.describe(error, '')}"
        channel.fail(Trap(reason, "".join(traceback.format_exception(error))))
    finally:
        channel.giver = None


def _finish(ended: asyncio.Future[CopyResult], _copy: Copy, result: CopyResult) -> None:
    if not ended.done():
        ended.set_result(result)


# The ends of the host.


class _Reader:
    """The readable end of a stream or future that the host has. One task at a time may read."""

    __slots__ = ("__weakref__", "_expected", "_got", "_has_ended", "channel", "is_untouched")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.is_untouched = True
        """Whether it was neither read nor closed, so that it can be handed on."""
        self._got: Any = None
        """What was copied for a task that was cancelled before it could take it."""
        self._has_ended = False
        self._expected: _HostRead | None = None

    @property
    def is_open(self) -> bool:
        """Whether the host may still read from it."""
        return not self._has_ended and not self.channel.dropped

    def hand_on(self) -> Channel:
        """The channel, for another to read from: this is no reader any more."""
        self.is_untouched = False
        self._has_ended = True
        return self.channel

    def close(self) -> None:
        """Says that nobody reads any more, which the writer learns when it writes."""
        if not self._has_ended:
            self.is_untouched = False
            self._has_ended = True
            self._got = None
            self.channel.drop()

    on_drop = close

    def __del__(self) -> None:
        # The call that it was handed over for may have been refused for another of its arguments: then nobody reads.
        giver = self.channel.giver
        if giver is not None and not self._has_ended and not giver.loop.is_closed():
            giver.loop.call_soon_threadsafe(self.channel.drop)

    def _expect(self, limit: int) -> None:
        """Has the writer write up to `limit` values without a wait, before somebody reads them."""
        if self.is_untouched and self.channel.is_idle:
            self.is_untouched = False
            self._expected = _HostRead(self.channel, limit)
            self.channel.wait(self._expected.copy)

    async def _read(self, limit: int) -> Any:
        """Up to `limit` values, or up to as many as were expected; None when there are no more."""
        self.is_untouched = False
        if self._got is not None:
            got, self._got = self._got, None
            return got
        if self._has_ended:
            return None
        read, self._expected = self._expected, None
        if read is None:
            read = _HostRead(self.channel, limit)
            await self.channel.copy(read.copy)
        try:
            await read.ended
        except asyncio.CancelledError:
            self._got = read.target.values
            if self._got is None:
                self.channel.cancel(True)
            raise
        values = read.target.values
        if values is None:
            self._has_ended = True
            if self.channel.is_broken:
                raise Dropped("the component that writes has ended before it said that this is all")
        return values


class _HostRead:
    """A read of the host's, of up to so many values."""

    __slots__ = ("_channel", "copy", "ended", "target")

    def __init__(self, channel: Channel, limit: int) -> None:
        self._channel = channel
        self.target = HostTarget(limit)
        self.ended: asyncio.Future[CopyResult] = asyncio.get_running_loop().create_future()
        self.copy = Copy(True, self.target, self._copied, functools.partial(_finish, self.ended))

    def _copied(self, copy: Copy) -> None:
        self._channel.withdraw(copy)
        _finish(self.ended, copy, CopyResult.COMPLETED)


class StreamReader(_Reader):
    """A stream that a component handed over, for the host to read: see `bindgen.runtime.component.StreamReader`."""

    __slots__ = ()

    async def read(self, limit: int) -> Any:
        """Up to `limit` values, as soon as there is one: bytes of a stream of u8, a range where it carries nothing but
        a count, else a list. Nothing at the end.

        Raises Dropped where the component ended before it ended the stream, GuestFault where it broke the rules.
        """
        if limit < 1:
            raise ValueError(f"{limit} values can't be read")
        got = await self._read(limit)
        if got is None:
            return b"" if self.channel.type == "u8" else range(0) if not self.channel.type else []
        if len(got) > limit:
            self._got = got[limit:]
            return got[:limit]
        return got

    def expect(self, limit: int) -> None:
        """See `bindgen.runtime.component.StreamReader`."""
        self._expect(limit)

    async def __aiter__(self) -> AsyncIterator[Any]:
        while piece := await self.read(PIECE):
            yield piece


PIECE = 64 << 10
"""How many values are read at a time where nobody says how many."""


class FutureReader(_Reader):
    """A future that a component handed over, for the host to await: see `bindgen.runtime.component.FutureReader`."""

    __slots__ = ()

    def expect(self) -> None:
        """See `bindgen.runtime.component.FutureReader`."""
        self._expect(1)

    def __await__(self) -> Generator[Any, None, Any]:
        """The value. Raises Dropped where the component ended before it wrote one, or where it was awaited before."""
        return self._value().__await__()

    async def _value(self) -> Any:
        got = await self._read(1)
        if got is None:
            raise Dropped("the future has no value, or was awaited before")
        self._has_ended = True
        return got[0] if self.channel.type else None
