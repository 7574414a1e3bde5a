"""`blobstore.filesystem`: where its files are, who may read them, and what is left of objects that were given up."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from capabilities.blob import BlobError, Busy, InvalidName, ObjectNotFound, Replaced, filesystem, transfer
from capabilities.blob.filesystem import FilesystemBackend, FilesystemContainer
from capabilities.errors import ConfigError
from capabilities.filenames import file_name
from tests.command import ROOT


def open_container(directory: Path, name: str = "photos") -> FilesystemContainer:
    return asyncio.run(FilesystemBackend({"DIRECTORY": str(directory)}).open(name))


async def put(container: FilesystemContainer, name: str, data: bytes) -> None:
    writer = await container.write(name)
    await writer.write(data)
    await writer.commit()


async def get(container: FilesystemContainer, name: str) -> bytes:
    reader = await container.read(name)
    data = await reader.read(1000)
    await reader.close()
    return data


def files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_an_object_is_a_file_of_its_name_for_the_user_alone(tmp_path: Path) -> None:
    container = open_container(tmp_path / "data")
    asyncio.run(put(container, "a.txt", b"content"))
    asyncio.run(put(container, "b/c", b""))
    assert files(tmp_path / "data") == ["photos", "photos/a.txt", "photos/b%2Fc"]
    assert (tmp_path / "data/photos/a.txt").read_bytes() == b"content"
    assert stat.S_IMODE((tmp_path / "data/photos/a.txt").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "data/photos").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_an_object_whose_name_no_file_can_have_holds_it(tmp_path: Path) -> None:
    name = "…" * 300
    container = open_container(tmp_path)

    async def check() -> None:
        await put(container, name, b"content")
        assert await get(container, name) == b"content"
        assert (await container.object_info(name)).size == 7
        assert [each async for page in container.pages() for each in page] == [name]
        reader = await container.read(name)
        assert reader.left == 7
        await reader.close()

    asyncio.run(check())
    (tmp_path / "photos" / file_name(name)).write_bytes(b"something else")
    with pytest.raises(BlobError, match="does not start with the object's name"):
        asyncio.run(get(container, name))


@pytest.mark.parametrize("name", ["../outside", "/etc", "..", ".", "", "a/b", "\0", "x" * 300])
def test_a_containers_directory_stays_inside_the_directory(tmp_path: Path, name: str) -> None:
    container = open_container(tmp_path / "data", name)
    asyncio.run(put(container, "object", b"x"))
    (made,) = (tmp_path / "data").iterdir()
    assert made.is_dir()
    assert files(tmp_path) == ["data", f"data/{made.name}", f"data/{made.name}/object"]


def test_a_containers_name_is_bounded(tmp_path: Path) -> None:
    with pytest.raises(InvalidName):
        open_container(tmp_path, "x" * 65_537)


@pytest.mark.parametrize("kind", ["link", "directory", "pipe"])
def test_what_is_not_a_plain_file_is_no_object(tmp_path: Path, kind: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "photos").mkdir()
    path = tmp_path / "photos/object"
    if kind == "link":
        path.symlink_to(tmp_path / "secret")
    elif kind == "directory":
        path.mkdir()
    else:
        os.mkfifo(path)

    async def check() -> None:
        container = await FilesystemBackend({"DIRECTORY": str(tmp_path)}).open("photos")
        assert not await container.has("object")
        assert [page async for page in container.pages()] == []
        for method in (container.read, container.object_info, container.delete):
            with pytest.raises(ObjectNotFound):
                await method("object")

    asyncio.run(check())
    assert (tmp_path / "secret").read_bytes() == b"secret"


def test_a_container_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/object").write_bytes(b"x")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/photos").symlink_to(tmp_path / "outside")
    container = open_container(tmp_path / "data")
    for call in (get(container, "object"), put(container, "object", b"y")):
        with pytest.raises(BlobError, match="can't be used"):
            asyncio.run(call)
    assert (tmp_path / "outside/object").read_bytes() == b"x"


def test_nothing_is_left_of_an_object_that_is_aborted(tmp_path: Path) -> None:
    async def check() -> None:
        writer = await container.write("object")
        await writer.write(b"x" * 100_000)
        assert len(files(tmp_path / "photos")) == 1
        await writer.abort()
        assert files(tmp_path / "photos") == []

    container = open_container(tmp_path)
    before = descriptors()
    asyncio.run(check())
    assert descriptors() == before


def test_what_is_committed_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(file: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{file}"))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    asyncio.run(put(open_container(tmp_path), "object", b"x"))
    content, directory = synced
    assert Path(content).parent == tmp_path / "photos"
    assert directory == str(tmp_path / "photos")


def test_where_there_is_no_room_the_old_object_stays_and_the_user_is_told(tmp_path: Path) -> None:
    script = """
import asyncio, resource, signal, sys
from capabilities.blob import BlobError
from capabilities.blob.filesystem import FilesystemBackend

async def main():
    container = await FilesystemBackend({"DIRECTORY": sys.argv[1]}).open("photos")
    writer = await container.write("object")
    await writer.write(b"old")
    await writer.commit()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    writer = await container.write("object")
    try:
        await writer.write(bytes(200_000))
    except BlobError as error:
        print(error)
        print(error.notice)
    try:
        await writer.commit()
    except BlobError as error:
        print(error)
    await writer.abort()

asyncio.run(main())
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "the files of the container can't be used: file too large",
        f"blobstore.filesystem: {tmp_path}/photos: file too large; make room, allow access, or correct DIRECTORY",
        "the object can't be written any more: its stream has failed or is closed",
    ]
    assert files(tmp_path) == ["photos", "photos/object"]
    assert (tmp_path / "photos/object").read_bytes() == b"old"


def test_an_object_that_is_made_shorter_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    async def check() -> None:
        await put(container, "object", bytes(1000))
        reader = await container.read("object")
        os.truncate(tmp_path / "photos/object", 10)
        with pytest.raises(Replaced):
            await reader.read(1000)
        await reader.close()

    container = open_container(tmp_path)
    asyncio.run(check())


def test_a_stream_that_is_cancelled_while_a_thread_uses_its_file_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A descriptor that is closed too early may be another file's by the time the thread writes to it."""
    blocked, go_on = threading.Event(), threading.Event()
    real = filesystem.write_all

    def slow(file: int, data: bytes) -> None:
        if data == b"slow":
            blocked.set()
            assert go_on.wait(10)
        real(file, data)

    monkeypatch.setattr(filesystem, "write_all", slow)

    async def check() -> None:
        writer = await container.write("object")
        writing = asyncio.create_task(writer.write(b"slow"))
        await asyncio.to_thread(blocked.wait)
        writing.cancel()
        await asyncio.wait([writing])
        aborting = asyncio.create_task(writer.abort())
        await asyncio.sleep(0.05)
        assert not aborting.done()
        go_on.set()
        await aborting

    container = open_container(tmp_path)
    before = descriptors()
    asyncio.run(check())
    assert descriptors() == before
    assert files(tmp_path / "photos") == []


@pytest.mark.parametrize("method", ["read", "write"])
def test_a_stream_that_nobody_waits_for_any_more_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    blocked, go_on = threading.Event(), threading.Event()
    name = "_open" if method == "read" else "_create"
    real: Any = getattr(FilesystemContainer, name)

    def slow(*arguments: Any) -> Any:
        blocked.set()
        assert go_on.wait(10)
        return real(*arguments)

    monkeypatch.setattr(FilesystemContainer, name, slow)

    async def check() -> None:
        opening = asyncio.create_task(getattr(container, method)("object"))
        await asyncio.to_thread(blocked.wait)
        opening.cancel()
        await asyncio.wait([opening])
        go_on.set()
        while filesystem._ending:
            await asyncio.wait(filesystem._ending)

    container = open_container(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/object").write_bytes(b"x")
    before, free = descriptors(), filesystem._files.free
    asyncio.run(check())
    assert (descriptors(), filesystem._files.free) == (before, free)
    assert files(tmp_path / "photos") == ["object"]


def test_how_many_files_are_open_is_bounded_for_all_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "_files", transfer.Room(2))
    monkeypatch.setattr(transfer, "ROOM_SECONDS", 0.1)

    async def check() -> None:
        one, other = await container.write("one"), await container.write("other")
        with pytest.raises(Busy):
            await container.write("third")
        await one.commit()
        await put(container, "third", b"x")
        with pytest.raises(ObjectNotFound):
            await container.read("no-such")
        await put(container, "fourth", b"x")
        await other.abort()

    container = open_container(tmp_path)
    asyncio.run(check())
    assert filesystem._files.free == 2


# Without a DIRECTORY.


def test_without_a_directory_objects_live_as_long_as_the_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem.tempfile, "tempdir", str(tmp_path))

    async def check() -> None:
        backend = FilesystemBackend({})
        assert os.listdir(tmp_path) == []
        connections = backend.connect(), backend.connect()
        one, other = [await each.open("photos") for each in connections]
        await put(one, "object", b"x")
        assert await get(other, "object") == b"x"
        (made,) = os.listdir(tmp_path)
        assert stat.S_IMODE(os.stat(tmp_path / made).st_mode) == 0o700
        await connections[0].close()
        assert await get(other, "object") == b"x"
        await backend.close()
        assert os.listdir(tmp_path) == []

    asyncio.run(check())


def test_two_backends_without_a_directory_share_nothing() -> None:
    async def check() -> None:
        one, other = FilesystemBackend({}), FilesystemBackend({})
        await put(await one.open("photos"), "object", b"x")
        assert not await (await other.open("photos")).has("object")
        await one.close()
        await other.close()

    asyncio.run(check())


def test_without_a_place_for_temporary_files_the_user_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem.tempfile, "tempdir", str(tmp_path / "no-such"))

    async def check() -> None:
        backend = FilesystemBackend({})
        for _ in range(2):
            with pytest.raises(BlobError, match="there is no directory for objects") as caught:
                await backend.open("photos")
            assert str(tmp_path) not in str(caught.value)
            assert caught.value.notice == (
                f"blobstore.filesystem: {tmp_path}/no-such: no such file or directory; set TMPDIR, or give a DIRECTORY"
            )
        (tmp_path / "no-such").mkdir()
        await put(await backend.open("photos"), "object", b"x")
        await backend.close()

    asyncio.run(check())


@pytest.mark.parametrize("directory", ["", "a\0b"])
def test_a_directory_that_is_no_path_is_refused(directory: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FilesystemBackend({"DIRECTORY": directory})
    assert caught.value.key == "DIRECTORY"
