"""What every backend of `blob-store` does alike, against real files and servers."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from capabilities import blob
from capabilities.blob import (
    READ_LIMIT,
    Backend,
    BlobError,
    Container,
    InvalidName,
    ObjectNotFound,
    Replaced,
    transfer,
)
from capabilities.blob.aws_s3 import S3Backend
from capabilities.blob.azblob import AzureBackend
from capabilities.blob.filesystem import FilesystemBackend

MB = 1_000_000
LONG = transfer.PART_BYTES + 12_345
"""Of an object that is sent in two parts."""

_numbers = itertools.count()

Open = Callable[[], Any]


@pytest.fixture(params=["filesystem", "aws_s3", "azblob"])
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def opened(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens an empty container, of a backend that is closed at the end."""
    name = f"test-{os.getpid()}-{next(_numbers)}"

    def make() -> Backend:
        if kind == "filesystem":
            return FilesystemBackend({"DIRECTORY": str(tmp_path)})
        if kind == "aws_s3":
            return S3Backend(request.getfixturevalue("shared_moto").configs())
        return AzureBackend(request.getfixturevalue("shared_azurite").configs())

    if kind == "aws_s3":
        request.getfixturevalue("shared_moto").create_bucket(name)
    elif kind == "azblob":
        request.getfixturevalue("shared_azurite").create_container(name)

    @asynccontextmanager
    async def opened() -> AsyncIterator[Container]:
        backend = make()
        try:
            yield await backend.open(name)
        finally:
            await backend.close()

    return opened


@pytest.fixture
def run(opened: Open) -> Callable[[Callable[[Container], Coroutine[Any, Any, Any]]], Any]:
    """Runs a coroutine function with an empty container."""

    def run(function: Callable[[Container], Coroutine[Any, Any, Any]]) -> Any:
        async def main() -> Any:
            async with asyncio.timeout(60), opened() as container:
                return await function(container)

        return asyncio.run(main())

    return run


async def put(container: Container, name: str, *pieces: bytes) -> None:
    writer = await container.write(name)
    for piece in pieces:
        await writer.write(piece)
    await writer.commit()


async def get(container: Container, name: str, size: int = READ_LIMIT) -> bytes:
    reader = await container.read(name)
    pieces = []
    while reader.left:
        pieces.append(await reader.read(size))
    await reader.close()
    return b"".join(pieces)


async def names(container: Container) -> list[str]:
    return sorted([name async for page in container.pages() for name in page])


def content(length: int) -> bytes:
    """Bytes of which no two parts are alike."""
    return b"".join(number.to_bytes(8) for number in range(length // 8 + 1))[:length]


def test_an_object_comes_back_as_it_was_written(run: Any) -> None:
    async def check(container: Container) -> None:
        await put(container, "empty")
        await put(container, "empty-piece", b"")
        await put(container, "short", b"one ", b"", b"two")
        assert await get(container, "empty") == b""
        assert await get(container, "empty-piece") == b""
        assert await get(container, "short") == b"one two"

    run(check)


@pytest.mark.parametrize("length", [transfer.PART_BYTES, 2 * transfer.PART_BYTES + 1])
def test_an_object_of_many_parts_comes_back_as_it_was_written(run: Any, length: int) -> None:
    async def check(container: Container) -> None:
        data = content(length)
        await put(container, "long", data[:3], data[3 : LONG - 1], data[LONG - 1 :])
        assert (await container.object_info("long")).size == length
        assert await get(container, "long") == data

    run(check)


def test_a_read_goes_on_where_the_last_one_ended(run: Any) -> None:
    async def check(container: Container) -> None:
        data = content(700_000)
        await put(container, "object", data)
        reader = await container.read("object")
        assert reader.left == len(data)
        at = 0
        for size in (0, 1, 10, 0, 300_000, 5, 2**64 - 1):
            piece = await reader.read(size)
            assert piece == data[at : at + size]
            at += len(piece)
            assert reader.left == len(data) - at
        assert at == len(data)
        assert await reader.read(2**64 - 1) == b""
        await reader.close()

    run(check)


def test_a_read_returns_a_bounded_number_of_bytes_whatever_is_asked_for(run: Any) -> None:
    async def check(container: Container) -> None:
        await put(container, "object", bytes(READ_LIMIT + 1))
        reader = await container.read("object")
        assert len(await reader.read(2**64 - 1)) == READ_LIMIT
        assert len(await reader.read(2**64 - 1)) == 1
        await reader.close()

    run(check)


@pytest.mark.parametrize("length", [10, LONG])
def test_nobody_sees_an_object_before_it_is_committed(run: Any, length: int) -> None:
    async def check(container: Container) -> None:
        writer = await container.write("object")
        await writer.write(bytes(length))
        assert not await container.has("object")
        assert await names(container) == []
        with pytest.raises(ObjectNotFound):
            await container.read("object")
        await writer.commit()
        assert await container.has("object")
        assert await names(container) == ["object"]

    run(check)


@pytest.mark.parametrize("length", [10, LONG])
def test_an_object_that_is_aborted_leaves_the_old_one(run: Any, length: int) -> None:
    async def check(container: Container) -> None:
        await put(container, "object", b"old")
        writer = await container.write("object")
        await writer.write(bytes(length))
        await writer.abort()
        assert await get(container, "object") == b"old"
        assert await names(container) == ["object"]
        with pytest.raises(BlobError, match="can't be written any more"):
            await writer.write(b"more")
        with pytest.raises(BlobError, match="can't be written any more"):
            await writer.commit()
        await writer.abort()

    run(check)


def test_a_committed_object_stays_when_its_writer_is_aborted(run: Any) -> None:
    async def check(container: Container) -> None:
        for length in (10, LONG):
            writer = await container.write("object")
            await writer.write(bytes(length))
            await writer.commit()
            await writer.abort()
            assert (await container.object_info("object")).size == length

    run(check)


def test_of_two_writers_the_one_that_commits_last_wins(run: Any) -> None:
    async def check(container: Container) -> None:
        one, other = await container.write("object"), await container.write("object")
        await other.write(b"other")
        await one.write(b"one")
        await other.commit()
        await one.commit()
        assert await get(container, "object") == b"one"

    run(check)


def test_of_two_long_writers_the_one_that_commits_last_wins_or_is_told(run: Any, kind: str) -> None:
    async def check(container: Container) -> None:
        one, other = await container.write("object"), await container.write("object")
        await one.write(b"1" * LONG)
        await other.write(b"2" * LONG)
        await other.commit()
        if kind == "azblob":  # which drops the blocks that others have sent of the same blob
            with pytest.raises(Replaced, match="write it again"):
                await one.commit()
            await one.abort()
            assert await get(container, "object") == b"2" * LONG
        else:
            await one.commit()
            assert await get(container, "object") == b"1" * LONG

    run(check)


@pytest.mark.parametrize("change", ["replaced", "deleted"])
def test_a_reader_never_mixes_two_objects(run: Any, kind: str, change: str) -> None:
    async def check(container: Container) -> None:
        data = content(3 * MB)
        await put(container, "object", data)
        reader = await container.read("object")
        assert await reader.read(10) == data[:10]
        if change == "replaced":
            await put(container, "object", bytes(3 * MB))
        else:
            await container.delete("object")
        if kind == "filesystem":
            assert await reader.read(3 * MB) == data[10:]
        else:
            with pytest.raises(Replaced, match="replaced or deleted"):
                await reader.read(3 * MB)
        await reader.close()

    run(check)


def test_what_is_not_there_is_an_error_that_names_it(run: Any) -> None:
    async def check(container: Container) -> None:
        assert await names(container) == []
        assert await container.has("no-such") is False
        for method in (container.read, container.object_info, container.delete):
            with pytest.raises(ObjectNotFound, match=r"^there is no object 'no-such'$") as caught:
                await method("no-such")
            assert caught.value.notice is None

    run(check)


def test_objects_are_deleted_one_by_one_and_many_at_once(run: Any) -> None:
    async def check(container: Container) -> None:
        for name in ("a", "b", "c", "d"):
            await put(container, name, b"x")
        await container.delete("a")
        with pytest.raises(ObjectNotFound):
            await container.delete("a")
        assert await names(container) == ["b", "c", "d"]
        await container.delete_all(["b", "no-such", "d"])
        assert await names(container) == ["c"]
        await container.delete_all([])
        assert await names(container) == ["c"]

    run(check)


def test_containers_and_objects_say_when_they_were_made(run: Any) -> None:
    async def check(container: Container) -> None:
        before = int(time.time())
        await put(container, "object", b"12345")
        info = await container.object_info("object")
        assert info.size == 5
        assert before - 2 <= info.created <= time.time() + 2
        assert before - 60 <= (await container.info()).created <= time.time() + 2

    run(check)


AWKWARD = [
    "plain-name_1.txt", "a/b", "a//b", "/lead", "trail/", "a b+c&d=e?f#g%41", "é ü 漢字 😀", "a'\"<>`{}|^~[]",
    "%2e%2e", "a%00", " lead", "trail ", "*", "x" * 1024, "…" * 341, ".hidden", "..a",
]  # fmt: skip

DOTS = ["..", "../x", "a/../b", "./y", ".", "dot.", "back\\slash", "\x01control", "nul\0x", "tab\tx", "\ufffe"]
"""Those that Azure can't keep."""


def test_any_name_is_an_object_of_its_own(run: Any, kind: str) -> None:
    async def check(container: Container) -> None:
        wanted = [*AWKWARD, *([] if kind == "azblob" else DOTS), *(["line\nx"] if kind == "filesystem" else [])]
        for name in wanted:
            await put(container, name, b"content of ", name.encode())
        assert await names(container) == sorted(wanted)
        for name in wanted:
            assert await get(container, name) == b"content of " + name.encode()
            assert await container.has(name)
            assert (await container.object_info(name)).size == 11 + len(name.encode())
        await container.delete(wanted[0])
        await container.delete_all(wanted)
        assert await names(container) == []

    run(check)


@pytest.mark.parametrize("name", DOTS)
def test_a_name_that_azure_would_change_is_refused(shared_azurite: Any, name: str) -> None:
    async def main() -> None:
        backend = AzureBackend(shared_azurite.configs())
        container = await backend.open("never-made")
        for method in (container.read, container.write, container.object_info, container.has, container.delete):
            with pytest.raises(InvalidName, match="Azure can't hold"):
                await method(name)
        await backend.close()

    asyncio.run(main())


def test_more_objects_than_a_page_has_are_listed_and_deleted(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(container: Container) -> None:
        wanted = sorted(f"object-{number}" for number in range(17))
        for name in wanted:
            await put(container, name, b"x")
        assert [len(page) async for page in container.pages()] == [5, 5, 5, 2]
        assert await names(container) == wanted
        await container.delete_all(wanted[1:])
        assert await names(container) == wanted[:1]

    monkeypatch.setattr(blob, "PAGE", 5)
    run(check)


def test_a_container_is_emptied_while_it_is_listed(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(container: Container) -> None:
        for number in range(17):
            await put(container, f"object-{number}", b"x")
        async for page in container.pages():
            await container.delete_all(page)
        assert await names(container) == []

    monkeypatch.setattr(blob, "PAGE", 5)
    run(check)


def memory(field: str) -> int:
    """The process's memory in bytes: `VmRSS` is that of now, `VmHWM` the most that it was."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def count_anew() -> int:
    """From now on, VmHWM counts anew; returns what it starts at."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def test_objects_that_are_larger_than_memory_take_little_of_it(run: Any, kind: str) -> None:
    size = 300 * MB if kind == "filesystem" else 50 * MB

    async def check(container: Container) -> tuple[int, int]:
        await put(container, "first", b"x")  # what is imported and made for the first object stays
        await get(container, "first")
        before = count_anew()
        piece = content(MB)
        writer = await container.write("large")
        for _ in range(size // MB):
            await writer.write(piece)
        await writer.commit()
        reader = await container.read("large")
        count = 0
        while data := await reader.read(MB):
            assert data == piece
            count += 1
        await reader.close()
        return count, memory("VmHWM") - before

    count, grown = run(check)
    assert count == size // MB
    assert grown < (16 * MB if kind == "filesystem" else 40 * MB)
