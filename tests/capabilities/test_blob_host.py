"""`blob-store` as a guest meets it: what it may open, its errors, and what becomes of streams that it leaves open."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from bindgen.runtime import Err
from capabilities import blob, notices
from capabilities.bindings.blob_store import ErrorUnexpectedError
from capabilities.bindings.blob_types import ContainerMetadata, ObjectMetadata
from capabilities.blob import host
from capabilities.blob.filesystem import FilesystemBackend, FilesystemContainer
from capabilities.blob.host import STREAM_LIMIT, BlobStore, Container, Session, hosts


@pytest.fixture(autouse=True)
def _nothing_was_told() -> None:
    notices.forget()


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Callable[[Session, Container], Coroutine[Any, Any, None]]], None]:
    """Runs a coroutine function with the session of an instance, and its container `photos`, in files of `tmp_path`."""

    def run(function: Callable[[Session, Container], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            session = BlobStore({"photos": FilesystemBackend({"DIRECTORY": str(tmp_path)})}).session()
            await function(session, await session.container_open("photos"))
            await session.close()

        asyncio.run(main())

    return run


def left(directory: Path) -> list[str]:
    """The files of the container."""
    return sorted(os.listdir(directory / "photos"))


async def error(call: Coroutine[Any, Any, Any]) -> str:
    """The text of the error that a guest gets."""
    with pytest.raises(Err) as caught:
        await call
    assert isinstance(caught.value.value, ErrorUnexpectedError)
    return caught.value.value.value


async def put(container: Container, name: str, data: bytes) -> None:
    stream = await container.write_object(name)
    await stream.write(data)
    await stream.close()


def test_all_functions_of_the_interface_are_answered(run: Any) -> None:
    async def check(session: Session, container: Container) -> None:
        await put(container, "a", b"12345")
        await put(container, "b", b"")
        await put(container, "c", b"x")
        await put(container, "d", b"x")
        assert await container.name() == "photos"
        info = await container.info()
        assert isinstance(info, ContainerMetadata)
        assert info.name == "photos"
        metadata = await container.object_info("a")
        assert isinstance(metadata, ObjectMetadata)
        assert (metadata.name, metadata.container, metadata.size) == ("a", "photos", 5)
        assert metadata.created_at > 1_700_000_000
        assert sorted(await container.list_objects()) == ["a", "b", "c", "d"]
        await container.delete_object("a")
        await container.delete_objects(["b", "no-such"])
        assert sorted(await container.list_objects()) == ["c", "d"]
        assert await container.has_object("c") is True
        assert await container.has_object("a") is False
        await container.clear()
        assert await container.list_objects() == []

    run(check)


def test_a_read_stream_ends_with_none(run: Any) -> None:
    async def check(session: Session, container: Container) -> None:
        await put(container, "object", b"12345")
        stream = await container.read_object("object")
        assert await stream.available() == 5
        assert await stream.read(3) == b"123"
        assert await stream.read(0) == b""
        assert await stream.available() == 2
        assert await stream.read(2**64 - 1) == b"45"
        assert await stream.available() == 0
        assert await stream.read(1) is None
        assert await stream.read(0) is None
        await put(container, "empty", b"")
        empty = await container.read_object("empty")
        assert await empty.available() == 0
        assert await empty.read(1) is None

    run(check)


def test_what_goes_wrong_is_said_to_the_guest(run: Any) -> None:
    async def check(session: Session, container: Container) -> None:
        for call in (container.read_object, container.object_info, container.delete_object):
            assert await error(call("no-such")) == "there is no object 'no-such'"
        assert await error(session.container_open("videos")) == "no container 'videos' is granted; granted: 'photos'"
        one_name: list[Callable[[str], Coroutine[Any, Any, Any]]] = [
            container.read_object, container.write_object, container.object_info, container.delete_object,
            container.has_object,
        ]  # fmt: skip
        for method in one_name:
            assert await error(method("")) == "an object's name can't be empty"
            assert "1025 bytes is longer than the 1024" in await error(method("x" * 1025))
        assert await error(container.delete_objects(["a", ""])) == "an object's name can't be empty"
        stream = await container.write_object("object")
        await stream.close()
        assert await error(stream.close()) == "the stream is closed"
        assert await error(stream.write(b"x")) == "the stream is closed"

    run(check)


def test_the_user_is_told_once_where_it_failed_and_the_guest_is_not(
    run: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def check(session: Session, container: Container) -> None:
        (tmp_path / "photos").write_bytes(b"in the way")
        for _ in range(2):
            assert await error(container.list_objects()) == "the files of the container can't be used: not a directory"

    with caplog.at_level(logging.WARNING):
        run(check)
    assert caplog.messages == [
        f"blobstore.filesystem: {tmp_path}/photos: not a directory; make room, allow access, or correct DIRECTORY"
    ]


def test_a_writer_that_is_not_closed_when_the_instance_ends_is_aborted(run: Any, tmp_path: Path) -> None:
    async def check(session: Session, container: Container) -> None:
        await put(container, "old", b"old")
        stream = await container.write_object("old")
        await stream.write(b"new")
        await container.write_object("other")
        assert len(left(tmp_path)) == 2 + 1  # the other one's handle was dropped at once
        await session.close()
        assert left(tmp_path) == ["old"]
        assert (tmp_path / "photos/old").read_bytes() == b"old"

    run(check)


def test_a_stream_whose_handle_is_dropped_is_closed(run: Any, tmp_path: Path) -> None:
    async def check(session: Session, container: Container) -> None:
        await put(container, "object", bytes(10))
        before = len(os.listdir("/proc/self/fd"))
        writer, reader = await container.write_object("new"), await container.read_object("object")
        await writer.write(b"x")
        await reader.read(1)
        del writer, reader
        while session._closing:
            await asyncio.wait(session._closing)
        assert left(tmp_path) == ["object"]
        assert len(os.listdir("/proc/self/fd")) == before

    run(check)


def test_the_streams_of_an_instance_are_bounded(run: Any) -> None:
    async def check(session: Session, container: Container) -> None:
        await put(container, "object", b"x")
        streams: list[Any] = [await container.write_object(str(number)) for number in range(STREAM_LIMIT - 1)]
        reader = await container.read_object("object")
        for method in (container.write_object, container.read_object):
            assert f"{STREAM_LIMIT} streams are open" in await error(method("object"))
        await reader.read(1)  # at the end, it's no open stream any more
        streams.append(await container.write_object("one"))
        assert "streams are open" in await error(container.write_object("two"))
        await streams[0].close()
        streams.append(await container.write_object("two"))
        assert "streams are open" in await error(container.write_object("three"))
        del streams[5]
        await container.write_object("three")

    run(check)


def test_many_objects_are_written_and_read_one_after_the_other(run: Any) -> None:
    async def check(session: Session, container: Container) -> None:
        for number in range(3 * STREAM_LIMIT):
            await put(container, str(number), b"x")
            reader = await container.read_object(str(number))
            assert await reader.available() == 1
        assert len(await container.list_objects()) == 3 * STREAM_LIMIT

    run(check)


def test_a_listing_is_bounded(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "LISTING_LIMIT", 100)

    async def check(session: Session, container: Container) -> None:
        await put(container, "x" * 30, b"")
        assert len(await container.list_objects()) == 1
        await put(container, "x" * 31, b"")
        assert await error(container.list_objects()) == "the container holds more objects than can be listed at once"
        await container.clear()
        assert await container.list_objects() == []

    run(check)


def test_a_commit_that_fails_aborts(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(session: Session, container: Container) -> None:
        stream = await container.write_object("object")
        await stream.write(b"x")
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", refuse)
            assert "no space left" in await error(stream.close())
        while session._closing:
            await asyncio.wait(session._closing)
        assert left(tmp_path) == []
        await session.close()

    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    run(check)


def test_an_abort_that_fails_is_told_and_ends_nothing(
    run: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def abort(self: Any) -> None:
        raise blob.Unavailable("away", "it is away; start it")

    async def check(session: Session, container: Container) -> None:
        streams = [await container.write_object(name) for name in ("a", "b")]
        monkeypatch.setattr("capabilities.blob.filesystem.FileWriter.abort", abort)
        await session.close()
        assert len(streams) == 2

    with caplog.at_level(logging.WARNING):
        run(check)
    assert caplog.messages == ["it is away; start it"]


def test_each_instance_has_a_session_of_its_own(tmp_path: Path) -> None:
    async def check() -> None:
        store = hosts({"*": FilesystemBackend({"DIRECTORY": str(tmp_path)})})["blob-store"]
        assert isinstance(store, BlobStore)
        one, other = store.session(), store.session()
        stream = await (await one.container_open("photos")).write_object("one")
        await (await other.container_open("photos")).write_object("other")
        await other.close()
        await stream.close()
        assert left(tmp_path) == ["one"]
        await one.close()

    asyncio.run(check())


def test_names_of_two_backends_are_kept_apart(tmp_path: Path) -> None:
    async def check() -> None:
        backends = {each: FilesystemBackend({"DIRECTORY": str(tmp_path / each)}) for each in ("one", "*")}
        session = BlobStore(backends).session()
        await put(await session.container_open("one"), "object", b"x")
        assert await (await session.container_open("other")).list_objects() == []
        assert os.listdir(tmp_path) == ["one"]

    asyncio.run(check())


def test_a_containers_handle_can_be_sent_to_a_worker() -> None:
    import io

    from slight_py.sharing import _LENGTH, _pack, _Unpickler

    container = FilesystemContainer("/path")
    assert _Unpickler(io.BytesIO(_pack(container)[_LENGTH.size :])).load() == container
