"""Answers a guest's `blob-store` imports with the containers that it is granted."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar

from bindgen.runtime import Err
from capabilities import blob, notices
from capabilities.bindings.blob_store import ErrorUnexpectedError
from capabilities.bindings.blob_types import ContainerMetadata, ObjectMetadata
from capabilities.errors import CapabilityError
from capabilities.grants import Grants

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")

STREAM_LIMIT = 32
"""How many streams an instance may have open."""

LISTING_LIMIT = 64 * 1024 * 1024
"""How much `list-objects` may return, in bytes, where a name takes its length and LISTING_NAME_BYTES."""

LISTING_NAME_BYTES = 32


def hosts(grants: Mapping[str, blob.Backend]) -> dict[str, object]:
    """What answers each interface of the family: see `BlobStore` for `grants`."""
    return {"blob-store": BlobStore(grants)}


def _answering(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """The same, but that what a backend can't do is the guest's error, and told to the user once."""

    @functools.wraps(method)
    async def answer(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(self, *args, **kwargs)
        except CapabilityError as error:
            if error.notice:
                notices.tell(error.notice)
            raise Err(ErrorUnexpectedError(str(error))) from None

    return answer


class BlobStore:
    """What instances get their own `Session` of.

    `grants` says which backend keeps the container of which name; the name `*` stands for every name that has no
    grant of its own.
    """

    __slots__ = ("_grants",)

    def __init__(self, grants: Mapping[str, blob.Backend]) -> None:
        self._grants = Grants("blob", "container", grants)

    def session(self) -> Session:
        return Session(self._grants)


class Session:
    """Implements `BlobStoreHost` for one instance, and knows its open streams."""

    __slots__ = ("_closing", "_grants", "_streams")

    def __init__(self, grants: Grants[blob.Backend]) -> None:
        self._grants = grants
        self._streams: dict[int, blob.Reader | blob.Writer] = {}
        """Those that are open, by their identity."""
        self._closing: set[asyncio.Task[None]] = set()

    @_answering
    async def container_open(self, name: str) -> Container:
        return Container(self, name, await self._grants.of(name).open(name))

    def check_room(self) -> None:
        """Raises Busy where no further stream may be opened."""
        if len(self._streams) >= STREAM_LIMIT:
            raise blob.Busy(f"{STREAM_LIMIT} streams are open, and there may be no more: close or drop some")

    def add(self, stream: blob.Reader | blob.Writer) -> None:
        self._streams[id(stream)] = stream

    def end(self, stream: blob.Reader | blob.Writer) -> None:
        """Begins to close or abort a stream, unless it has ended. The guest doesn't wait for that."""
        if self._streams.pop(id(stream), None) is not None:
            task = asyncio.create_task(_end(stream))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Aborts the writers that are open, as nobody will close them any more, and closes the readers."""
        for stream in list(self._streams.values()):
            self.end(stream)
        if self._closing:
            await asyncio.wait(self._closing)


async def _end(stream: blob.Reader | blob.Writer) -> None:
    try:
        await (stream.abort() if hasattr(stream, "abort") else stream.close())
    except CapabilityError as error:
        # The guest has gone, but what it began may take room where the objects are kept.
        if error.notice:
            notices.tell(error.notice)


class Container:
    """Implements the resource `container`."""

    __slots__ = ("_container", "_name", "_session")

    def __init__(self, session: Session, name: str, container: blob.Container) -> None:
        self._session = session
        self._name = name
        self._container = container

    async def name(self) -> str:
        return self._name

    @_answering
    async def info(self) -> ContainerMetadata:
        return ContainerMetadata(self._name, (await self._container.info()).created)

    @_answering
    async def read_object(self, name: str) -> ReadStream:
        blob.check_name(name)
        self._session.check_room()
        return ReadStream(self._session, await self._container.read(name))

    @_answering
    async def write_object(self, name: str) -> WriteStream:
        blob.check_name(name)
        self._session.check_room()
        return WriteStream(self._session, await self._container.write(name))

    @_answering
    async def list_objects(self) -> list[str]:
        names: list[str] = []
        size = 0
        async for page in self._container.pages():
            size += sum(len(name.encode()) + LISTING_NAME_BYTES for name in page)
            if size > LISTING_LIMIT:
                raise blob.BlobError("the container holds more objects than can be listed at once")
            names += page
        return names

    @_answering
    async def delete_object(self, name: str) -> None:
        blob.check_name(name)
        await self._container.delete(name)

    @_answering
    async def delete_objects(self, names: list[str]) -> None:
        for name in names:
            blob.check_name(name)
        await self._container.delete_all(names)

    @_answering
    async def has_object(self, name: str) -> bool:
        blob.check_name(name)
        return await self._container.has(name)

    @_answering
    async def object_info(self, name: str) -> ObjectMetadata:
        blob.check_name(name)
        info = await self._container.object_info(name)
        return ObjectMetadata(name, self._name, info.created, info.size)

    @_answering
    async def clear(self) -> None:
        async for page in self._container.pages():
            await self._container.delete_all(page)


class _Stream:
    """A stream is closed when the guest drops its handle: nothing else refers to this object then."""

    __slots__ = ("_session", "_stream")
    _stream: Any

    def __init__(self, session: Session, stream: blob.Reader | blob.Writer) -> None:
        self._session = session
        self._stream = stream
        session.add(stream)

    def __del__(self) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # the process is ending, and has closed the session
            return
        self._session.end(self._stream)


class ReadStream(_Stream):
    """Implements the resource `read-stream`."""

    __slots__ = ()

    @_answering
    async def read(self, size: int) -> bytes | None:
        """None at the end, also where no byte is asked for."""
        if not self._stream.left:
            return None
        data: bytes = await self._stream.read(size)
        if not self._stream.left:
            self._session.end(self._stream)
        return data

    async def available(self) -> int:
        left: int = self._stream.left
        return left


class WriteStream(_Stream):
    """Implements the resource `write-stream`."""

    __slots__ = ("_closed",)

    def __init__(self, session: Session, stream: blob.Writer) -> None:
        super().__init__(session, stream)
        self._closed = False

    @_answering
    async def write(self, data: bytes) -> None:
        self._check_open()
        await self._stream.write(data)

    @_answering
    async def close(self) -> None:
        self._check_open()
        self._closed = True
        try:
            await self._stream.commit()
        finally:
            self._session.end(self._stream)  # which aborts it where it is not committed

    def _check_open(self) -> None:
        if self._closed:
            raise blob.BlobError("the stream is closed")
