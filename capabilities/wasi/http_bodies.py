"""The bodies of messages as streams of wasi:io, which versions 0.2 of wasi:http have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn, Protocol

from bindgen.runtime import Err
from capabilities.bindings.wasi_io_0_2.streams import StreamErrorClosed, StreamErrorLastOperationFailed
from capabilities.http.dispatch import RequestBody, ResponseBody, WrongLength
from capabilities.wasi import allowance
from capabilities.wasi.allowance import Allowance
from capabilities.wasi.http_fields import Pair
from capabilities.wasi.io import CAPACITY, MAX_BLOCKING_WRITE, Error, InputStream, OutputStream, Waiter


class HasChildren(Protocol):
    """A resource that has children: the guest must drop them before it."""

    children: int
    """How many there are."""


class Parent:
    """`HasChildren`, for classes that derive from nothing else."""

    __slots__ = ("children",)

    def __init__(self) -> None:
        self.children = 0


class BodyInput(InputStream):
    """The `input-stream` of the body of a message that comes in."""

    def __init__(self, source: RequestBody, parent: HasChildren) -> None:
        super().__init__()
        self._source = source
        self._parent: HasChildren | None = parent
        parent.children += 1

    def is_ready(self) -> bool:
        return self._ended or self._source.ready

    def watch(self, waiter: Waiter) -> None:
        self._signal.add(waiter)
        self._source.when_ready(self._signal.notify)

    async def _wait(self, _size: int) -> None:
        while not self.is_ready():
            self._source.when_ready(self._signal.notify)
            await self._signal.wait()

    def _take(self, most: int) -> bytes:
        if self._ended:
            raise Err(StreamErrorClosed())
        if not most:
            return b""
        try:
            data = self._source.take(min(most, CAPACITY))
        except Exception as error:
            self._ended = True
            raise Err(StreamErrorLastOperationFailed(Error(error))) from None
        if not data and self._source.ended:
            self._ended = True
            raise Err(StreamErrorClosed())
        return data

    def _skip(self, most: int) -> int:
        return len(self._take(most))

    def on_drop(self) -> None:
        super().on_drop()
        parent, self._parent = self._parent, None
        if parent is not None:
            parent.children -= 1


class OutgoingContent(Parent):
    """The body of a message that goes out: what a guest writes, before it's known where to and afterwards."""

    __slots__ = (
        *("_allowance", "_broken", "_held", "_held_size", "_trailers"),
        *("finished", "output", "too_long", "writer"),
    )

    def __init__(self, too_long: Callable[[int], Exception]) -> None:
        """`too_long` makes the error that a guest gets which writes more than its Content-Length, from how much it has
        written, or less."""
        super().__init__()
        self.too_long = too_long
        self.writer: ResponseBody | None = None
        self.output: BodyOutput | None = None
        self.finished = False
        self._broken: str | None = None
        self._held: list[bytes] = []
        self._held_size = 0
        self._allowance: Allowance | None = None
        """What counts the bytes that are held."""
        self._trailers: Sequence[Pair] = ()

    def __del__(self) -> None:
        self._let_go()

    def _let_go(self) -> None:
        """Holds nothing any more."""
        if self._allowance is not None:
            self._allowance.give_back(self._held_size)
        self._held = []
        self._held_size = 0

    @property
    def room(self) -> int:
        return CAPACITY - self._held_size if self.writer is None else self.writer.room

    def write(self, data: bytes) -> None:
        """Raises WrongLength and ConnectionError, and GuestFault where the guest holds too much that goes nowhere."""
        if self.writer is not None:
            self.writer.write(data)
        else:
            if self._allowance is None:
                self._allowance = allowance.of_guest.get()
            self._allowance.take(len(data))
            self._held.append(data)
            self._held_size += len(data)

    def attach(self, writer: ResponseBody) -> None:
        """Says where it goes. What is wrong with its length by then is in the log, and the connection is cut."""
        self.writer = writer
        try:
            for data in self._held:
                writer.write(data)
            if self.finished:
                writer.finish(self._trailers)
            elif self._broken is not None:
                writer.cut(self._broken)
        except (WrongLength, ConnectionError):
            pass  # `writer` has said so
        self._let_go()
        if self.output is not None:
            self.output.changed()

    def finish(self, trailers: Sequence[Pair]) -> None:
        """That was all of it. Raises WrongLength, ConnectionError and BadResponse."""
        self.finished = True
        if self.writer is not None:
            self.writer.finish(trailers)
        self._trailers = trailers

    def cut(self, reason: str) -> None:
        """It won't get whole."""
        if self.finished:
            return
        self._broken = reason
        if self.writer is not None:
            self.writer.cut(reason)


class BodyOutput(OutputStream):
    """The `output-stream` of the body of a message that goes out."""

    def __init__(self, content: OutgoingContent) -> None:
        super().__init__()
        self._content = content
        self._is_child = True
        content.output = self
        content.children += 1

    async def blocking_write_and_flush(self, contents: bytes) -> None:
        # Most bodies are short, and written this way: then there is nothing to wait for.
        size = len(contents)
        if 0 < size <= MAX_BLOCKING_WRITE and not self._is_closed and self._content.room >= size:
            self._permit = 0
            self._accept(contents)
        else:
            await super().blocking_write_and_flush(contents)

    def _room(self) -> int:
        return min(self._content.room, CAPACITY)

    def _accept(self, data: bytes) -> None:
        try:
            self._content.write(data)
        except WrongLength as error:
            self.close()
            raise Err(StreamErrorLastOperationFailed(Error(self._content.too_long(error.written)))) from None
        except ConnectionError:
            self._gone()

    def _gone(self) -> NoReturn:
        self.close()
        raise Err(StreamErrorClosed())

    def _idle(self) -> bool:
        """A flush is done when what was written is on its way: there is room for more."""
        if self._room() > 0 or self._is_closed:
            return True
        self._listen()
        return False

    def watch(self, waiter: Waiter) -> None:
        super().watch(waiter)
        self._listen()

    async def _wait(self) -> None:
        while not self.is_ready():
            self._listen()
            await self._signal.wait()

    def _listen(self) -> None:
        if self._content.writer is not None:
            self._content.writer.when_room(self.changed)

    def on_drop(self) -> None:
        super().on_drop()
        if self._is_child:
            self._is_child = False
            self._content.children -= 1
            self._content.output = None  # the two would keep each other
