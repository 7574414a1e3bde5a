"""wasi:filesystem 0.2: each function by its WIT, the sandbox, and that it answers as WASI preview 1 does."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from capabilities.bindings.wasi_clocks_0_2.wall_clock import Datetime
from capabilities.bindings.wasi_filesystem_0_2.types import (
    Advice,
    DescriptorFlags,
    DescriptorType,
    NewTimestampNoChange,
    NewTimestampNow,
    NewTimestampTimestamp,
    OpenFlags,
    PathFlags,
)
from capabilities.wasi.io import Error
from slight_py.wasi import files, preview1
from slight_py.wasi.files import BUDGET, MAX_OPEN, MAX_STREAMS
from slight_py.wasi.preview2 import filesystem, state_of
from slight_py.wasi.preview2.filesystem import Descriptor, Preopens, Types
from tests import test_wasi_like_wasmtime as preview1_cases
from tests import wat
from tests.component.wasi2 import (
    FOLLOW,
    NO_FLAGS,
    NO_FOLLOW,
    READ,
    WRITE,
    Guest,
    contents,
    entries,
    granted,
    label,
    opened,
    outcome,
    run,
)
from tests.test_wasi_like_wasmtime import PATHS, TARGETS, furnish
from tests.wasi_subjects import BUFFER, RESULT, Subject, ours
from tests.wasi_subjects import granted as granted_in_preview1

CREATE, DIRECTORY = OpenFlags.CREATE, OpenFlags.DIRECTORY
EXCLUSIVE, TRUNCATE = OpenFlags.EXCLUSIVE, OpenFlags.TRUNCATE
NO_CHANGE, NOW = NewTimestampNoChange(), NewTimestampNow()

Test = Callable[[Descriptor], Coroutine[Any, Any, None]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with something of everything, and beside it one that is none of the guest's."""
    home, outside = tmp_path / "home", tmp_path / "outside"
    home.mkdir()
    outside.mkdir()
    (outside / "secret").write_bytes(b"of the house")
    furnish(home, outside)
    return home


def with_directory(home: Path, work: Test, writable: bool = True) -> None:
    """Runs a test with a directory; afterwards nothing of it may be open."""

    async def main() -> None:
        guest = Guest(granted(home, writable=writable))
        try:
            await work(await guest.directory())
        finally:
            guest.close()

    run(main())


def at(seconds: int, nanoseconds: int = 0) -> NewTimestampTimestamp:
    return NewTimestampTimestamp(Datetime(seconds, nanoseconds))


# Reading and writing.


def test_a_file_is_read_at_any_position(home: Path) -> None:
    async def work(directory: Descriptor) -> None:
        file = await opened(directory, "file")
        assert await file.read(4, 0) == (b"0123", False)
        assert await file.read(100, 8) == (b"89", True)
        assert await file.read(4, 10) == (b"", True)
        assert await file.read(4, 1 << 40) == (b"", True)
        assert await file.read(0, 3) == (b"", False)
        assert await file.read((1 << 64) - 1, 0) == (b"0123456789", True)
        assert await outcome(file.read(4, 1 << 63)) == "invalid"
        assert await outcome(file.write(b"x", 0)) == "bad-descriptor"
        assert await outcome(directory.read(4, 0)) == "bad-descriptor"

    with_directory(home, work)


def test_a_long_read_is_bounded(home: Path) -> None:
    (home / "long").write_bytes(bytes(3 << 20))

    async def work(directory: Descriptor) -> None:
        file = await opened(directory, "long")
        found, ended = await file.read(1 << 60, 0)
        assert (len(found), ended) == (files.PIECE, False)

    with_directory(home, work)


def test_a_file_is_written_at_any_position(home: Path) -> None:
    async def work(directory: Descriptor) -> None:
        file = await opened(directory, "new", READ | WRITE, CREATE)
        assert await file.write(b"hello", 0) == 5
        assert await file.write(b"!", 8) == 1
        assert await file.write(b"", 3) == 0
        assert await file.read(100, 0) == (b"hello\0\0\0!", True)
        assert await outcome(file.write(b"x", 1 << 63)) == "invalid"
        assert await file.write(bytes(range(256)) * 10_000, 0) == 2_560_000
        only = await opened(directory, "new", WRITE)
        assert await only.write(b"J", 0) == 1
        assert await outcome(only.read(1, 0)) == "bad-descriptor"
        assert await outcome(directory.write(b"x", 0)) == "bad-descriptor"

    with_directory(home, work)
    assert (home / "new").read_bytes() == b"J" + (bytes(range(256)) * 10_000)[1:]


@pytest.mark.parametrize("sizes", [(1 << 16,), (1, 7, 4096), (1 << 40,)])
def test_a_stream_reads_a_file_from_a_position_to_its_end(sizes: tuple[int, ...], home: Path) -> None:
    data = os.urandom(300_000)
    (home / "long").write_bytes(data)

    async def work(directory: Descriptor) -> None:
        file = await opened(directory, "long")
        streams = [await file.read_via_stream(offset) for offset in (0, 299_000, 300_000, 400_000)]
        file.on_drop()  # which the streams outlive
        assert await contents(streams[0], sizes) == data if len(sizes) == 1 else True
        assert await contents(streams[1], sizes) == data[299_000:]
        assert [await contents(each) for each in streams[2:]] == [b"", b""]
        for each in streams:
            each.on_drop()

    with_directory(home, work)


def test_a_stream_of_a_file_is_polled_skipped_and_read_without_waiting(home: Path) -> None:
    async def work(directory: Descriptor) -> None:
        stream = await (await opened(directory, "file")).read_via_stream(0)
        assert await stream.blocking_skip(2) == 2
        await (await stream.subscribe()).block()
        assert await stream.read(3) == b"234"
        assert await stream.blocking_read(100) == b"56789"
        assert await stream.read(100) == b""
        await (await stream.subscribe()).block()
        assert await outcome(stream.read(100)) == "closed"

    with_directory(home, work)


def test_streams_write_at_a_position_and_at_the_end(home: Path) -> None:
    async def work(directory: Descriptor) -> None:
        file = await opened(directory, "file", READ | WRITE)
        stream, appending = await file.write_via_stream(2), await file.append_via_stream()
        await stream.blocking_write_and_flush(b"ab")
        await appending.blocking_write_and_flush(b"END")
        assert await stream.check_write() == 1 << 16
        await stream.write(b"cd")
        await stream.write_zeroes(1)
        await stream.blocking_flush()
        assert await file.read(100, 0) == (b"01abcd\x00789END", True)
        source = await file.read_via_stream(0)
        assert await appending.blocking_splice(source, 3) == 3
        await appending.blocking_flush()
        assert (await file.read(100, 13))[0] == b"01a"

    with_directory(home, work)


def test_what_was_written_is_in_the_file_even_if_the_guest_ends_at_once(home: Path) -> None:
    before = BUDGET._used

    async def main() -> None:
        guest = Guest(granted(home))
        file = await opened(await guest.directory(), "new", WRITE, CREATE)
        stream = await file.write_via_stream(0)
        await stream.check_write()
        await stream.write(b"x" * 60_000)
        file.on_drop()
        guest.close()
        stream.on_drop()
        await wat.until(lambda: BUDGET._used <= before)
        assert (home / "new").read_bytes() == b"x" * 60_000

    run(main())


def test_streams_are_made_of_files_alone_that_are_open_for_that(home: Path) -> None:
    async def work(directory: Descriptor) -> None:
        reading, writing = await opened(directory, "file"), await opened(directory, "file", WRITE)
        assert await outcome(reading.write_via_stream(0)) == "bad-descriptor"
        assert await outcome(reading.append_via_stream()) == "bad-descriptor"
        assert await outcome(writing.read_via_stream(0)) == "bad-descriptor"
        for call in (directory.read_via_stream(0), directory.write_via_stream(0), directory.append_via_stream()):
            assert await outcome(call) == "bad-descriptor"

    with_directory(home, work)


def test_a_stream_that_fails_tells_the_file_systems_error(home: Path) -> None:
    async def work(directory: Descriptor) -> None:
        stream = await (await opened(directory, "file")).read_via_stream(1 << 63)
        assert await outcome(stream.blocking_read(1)) == "failed: Invalid argument"
        assert await outcome(stream.blocking_read(1)) == "closed"
        full = await opened(directory, "full", WRITE, CREATE)
        out = await full.write_via_stream(1 << 62)
        assert await outcome(out.blocking_write_and_flush(b"x")) == "failed: File too large"
        assert await outcome(out.check_write()) == "closed"
        types = Types()
        assert label(await types.filesystem_error_code(Error(OSError(28, "")))) == "insufficient-space"
        assert await types.filesystem_error_code(Error(ValueError())) is None

    with_directory(home, work)


# What is told of files, and changed of them.


def test_a_granted_directory_that_many_calls_open_at_a_time_is_open_once(home: Path) -> None:
    """A component needn't wait for one call to make the next; whatever they open is closed with it."""
    before = BUDGET._used

    async def main() -> None:
        guest = Guest(granted(home))
        directory = await guest.directory()
        await asyncio.gather(*(directory.stat() for _ in range(8)))
        guest.close()
        for _ in range(500):
            if BUDGET._used == before:
                break
            await asyncio.sleep(0.01)
        assert BUDGET._used == before

    run(main())


def test_a_status_tells_type_links_size_and_times(home: Path) -> None:
    os.link(home / "file", home / "second")

    async def work(directory: Descriptor) -> None:
        file = await opened(directory, "file")
        for found in (await file.stat(), await directory.stat_at(FOLLOW, "to-file")):
            assert (label(found.type), found.link_count, found.size) == ("regular-file", 2, 10)
            time_of_file = Datetime(*divmod(preview1_cases.TIME, 10**9))
            assert found.data_modification_timestamp == time_of_file
            assert found.status_change_timestamp is not None
            assert abs(found.status_change_timestamp.seconds - time.time()) < 600
        link = await directory.stat_at(NO_FOLLOW, "to-file")
        assert (label(link.type), link.size) == ("symbolic-link", 4)
        types = {path: label((await directory.stat_at(NO_FOLLOW, path)).type) for path in (".", "below", "fifo")}
        assert types == {".": "directory", "below": "directory", "fifo": "fifo"}
        assert label(await file.get_type()) == "regular-file"
        assert label(await directory.get_type()) == "directory"
        assert label((await directory.stat()).type) == "directory"

    with_directory(home, work)


def test_flags_tell_what_a_descriptor_is_open_for(home: Path) -> None:
    async def work(directory: Descriptor) -> None:
        for asked, told in ((READ, READ), (WRITE, WRITE), (READ | WRITE, READ | WRITE), (NO_FLAGS, READ)):
            assert await (await opened(directory, "file", asked)).get_flags() == told
        mutable = READ | DescriptorFlags.MUTATE_DIRECTORY
        assert await directory.get_flags() == mutable
        # Of a directory that is opened, it's what it was opened for.
        assert await (await opened(directory, "below", READ, DIRECTORY)).get_flags() == READ
        for flags in (mutable, DescriptorFlags.MUTATE_DIRECTORY):
            assert await (await opened(directory, "below", flags, DIRECTORY)).get_flags() == mutable

    with_directory(home, work)


def test_times_are_set(home: Path) -> None:
    async def work(directory: Descriptor) -> None:
        file, below = await opened(directory, "file", WRITE), await opened(directory, "below", READ, DIRECTORY)

        async def times(descriptor: Descriptor) -> list[Any]:
            found = await descriptor.stat()
            return [found.data_access_timestamp, found.data_modification_timestamp]

        for each in (file, below):
            await each.set_times(at(1, 2), at(3, 999_999_999))
            assert await times(each) == [Datetime(1, 2), Datetime(3, 999_999_999)]
            await each.set_times(NO_CHANGE, at(5))
            assert await times(each) == [Datetime(1, 2), Datetime(5, 0)]
            await each.set_times(NO_CHANGE, NO_CHANGE)
            assert await times(each) == [Datetime(1, 2), Datetime(5, 0)]
            await each.set_times(NOW, NO_CHANGE)
            accessed, modified = await times(each)
            assert abs(accessed.seconds - time.time()) < 60
            assert modified == Datetime(5, 0)
            assert await outcome(each.set_times(at(1, 10**9), NO_CHANGE)) == "invalid"
            assert await outcome(each.set_times(at((1 << 64) - 1), NO_CHANGE)) == "invalid"
        await directory.set_times_at(FOLLOW, "to-file", at(7), at(8))
        assert await times(file) == [Datetime(7, 0), Datetime(8, 0)]
        await directory.set_times_at(NO_FOLLOW, "to-file", at(9), at(9))
        assert await times(file) == [Datetime(7, 0), Datetime(8, 0)]
        assert await outcome(directory.set_times_at(FOLLOW, "out", NOW, NOW)) == "not-permitted"

    with_directory(home, work)


def test_the_size_of_a_file_is_set(home: Path) -> None:
    async def work(directory: Descriptor) -> None:
        file = await opened(directory, "file", READ | WRITE)
        await file.set_size(3)
        assert await file.read(100, 0) == (b"012", True)
        await file.set_size(5)
        assert await file.read(100, 0) == (b"012\0\0", True)
        assert await outcome(file.set_size(1 << 63)) == "invalid"
        assert await outcome(directory.set_size(0)) == "bad-descriptor"

    with_directory(home, work)


def test_hashes_and_sameness_tell_objects_apart_and_changes(home: Path) -> None:
    async def work(directory: Descriptor) -> None:
        file, again = await opened(directory, "file", READ | WRITE), await opened(directory, "to-file")
        other = await opened(directory, "closed")
        assert await file.is_same_object(again)
        assert not await file.is_same_object(other)
        assert await directory.is_same_object(await opened(directory, "dot"))
        before = await file.metadata_hash()
        assert await again.metadata_hash() == before == await directory.metadata_hash_at(FOLLOW, "to-file")
        assert await directory.metadata_hash_at(NO_FOLLOW, "to-file") != before
        assert await other.metadata_hash() != before
        await file.write(b"changed", 0)
        assert await file.metadata_hash() != before
        assert await outcome(directory.metadata_hash_at(FOLLOW, "out")) == "not-permitted"

    with_directory(home, work)


def test_advice_and_synchronization_are_taken(home: Path) -> None:
    async def work(directory: Descriptor) -> None:
        file, reading = await opened(directory, "file", WRITE), await opened(directory, "file")
        for advice in Advice:
            await file.advise(0, 10, advice)
        assert await outcome(file.advise(1 << 63, 1, Advice.NORMAL)) == "invalid"
        assert await outcome(directory.advise(0, 10, Advice.NORMAL)) == "bad-descriptor"
        for each in (file, reading, directory):
            await each.sync()
            await each.sync_data()

    with_directory(home, work)


# Directories and links.


def test_a_directory_lists_all_but_itself_and_the_one_above(home: Path) -> None:
    async def work(directory: Descriptor) -> None:
        assert await entries(directory) == sorted(
            (name, "fifo" if name == "fifo" else kind) for name, kind in listed(home)
        )
        assert await entries(await opened(directory, "empty", READ, DIRECTORY)) == []
        assert await outcome((await opened(directory, "file")).read_directory()) == "not-directory"

    with_directory(home, work)


def listed(path: Path) -> list[tuple[str, str]]:
    kinds = {"is_symlink": "symbolic-link", "is_dir": "directory", "is_file": "regular-file", "is_fifo": "fifo"}
    return [
        (each.name, next(kind for method, kind in kinds.items() if getattr(each, method)())) for each in path.iterdir()
    ]


def test_a_large_directory_is_listed_to_its_end_and_several_at_once(tmp_path: Path) -> None:
    names = {f"file with a rather long name {number}" for number in range(3000)}
    for name in names:
        (tmp_path / name).touch()

    async def work(directory: Descriptor) -> None:
        first, second = await directory.read_directory(), await directory.read_directory()
        found: list[list[str]] = [[], []]
        for _ in range(len(names)):
            for stream, list_ in zip((first, second), found, strict=True):
                entry = await stream.read_directory_entry()
                assert entry is not None
                list_.append(entry.name)
        assert await first.read_directory_entry() is None
        assert await first.read_directory_entry() is None
        assert set(found[0]) == set(found[1]) == names

    with_directory(tmp_path, work)


def test_a_name_that_is_no_text_is_an_error_and_the_others_come(tmp_path: Path) -> None:
    (tmp_path / "good").touch()
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))).touch()

    async def work(directory: Descriptor) -> None:
        stream = await directory.read_directory()
        found = [await outcome(stream.read_directory_entry()) for _ in range(3)]
        assert sorted("good" if hasattr(each, "name") else str(each) for each in found) == [
            "None",
            "good",
            "illegal-byte-sequence",
        ]

    with_directory(tmp_path, work)


def test_directories_links_and_names_are_made_changed_and_removed(home: Path) -> None:
    async def work(directory: Descriptor) -> None:
        below = await opened(directory, "below", READ, DIRECTORY)
        await directory.create_directory_at("made")
        assert await outcome(directory.create_directory_at("made")) == "exist"
        await directory.symlink_at("file", "link-to-file")
        assert await directory.readlink_at("link-to-file") == "file"
        await directory.link_at(NO_FOLLOW, "file", below, "hard")
        assert await (await opened(below, "hard")).is_same_object(await opened(directory, "file"))
        assert await outcome(directory.link_at(NO_FOLLOW, "nothing", below, "x")) == "no-entry"
        assert await outcome(directory.link_at(NO_FOLLOW, "file", below, "hard")) == "exist"
        assert await outcome(directory.link_at(NO_FOLLOW, "empty", below, "x")) == "not-permitted"
        assert await outcome(directory.link_at(FOLLOW, "file", below, "x")) == "invalid"
        await directory.rename_at("made", below, "moved")
        assert ("moved", "directory") in await entries(below)
        await below.remove_directory_at("moved")
        assert await outcome(directory.remove_directory_at("below")) == "not-empty"
        assert await outcome(directory.unlink_file_at("below")) == "is-directory"
        await below.unlink_file_at("hard")
        assert await outcome(below.unlink_file_at("hard")) == "no-entry"
        assert await outcome(directory.symlink_at("/etc", "absolute2")) == "not-permitted"
        assert await outcome(directory.readlink_at("absolute")) == "not-permitted"
        assert await outcome(directory.readlink_at("file")) == "invalid"

    with_directory(home, work)


def test_what_is_asked_of_a_file_that_only_a_directory_can_do(home: Path) -> None:
    async def work(directory: Descriptor) -> None:
        file = await opened(directory, "file", READ | WRITE)
        for call in (
            file.create_directory_at("x"), file.remove_directory_at("x"), file.unlink_file_at("x"),
            file.readlink_at("x"), file.symlink_at("x", "y"), file.stat_at(FOLLOW, "x"),
            file.metadata_hash_at(FOLLOW, "x"), file.set_times_at(FOLLOW, "x", NOW, NOW),
            file.rename_at("x", directory, "y"), directory.rename_at("file", file, "y"),
            file.link_at(NO_FOLLOW, "x", directory, "y"), directory.link_at(NO_FOLLOW, "file", file, "y"),
            file.open_at(FOLLOW, "x", OpenFlags(0), READ), file.read_directory(),
        ):  # fmt: skip
            assert await outcome(call) == "not-directory"

    with_directory(home, work)


# Opening.


def test_opening_creates_truncates_and_refuses_as_its_flags_say(home: Path) -> None:
    async def work(directory: Descriptor) -> None:
        assert await opened(directory, "nothing") == "no-entry"
        assert isinstance(await opened(directory, "new", WRITE, CREATE), Descriptor)
        assert await opened(directory, "new", WRITE, CREATE | EXCLUSIVE) == "exist"
        assert isinstance(await opened(directory, "newer", WRITE, CREATE | EXCLUSIVE), Descriptor)
        assert await opened(directory, "file", READ, DIRECTORY) == "not-directory"
        assert await opened(directory, "below", WRITE) == "is-directory"
        for how in (CREATE, EXCLUSIVE, TRUNCATE):
            assert await opened(directory, "below", READ, DIRECTORY | how) == "invalid"
        truncated = await opened(directory, "file", READ, TRUNCATE)
        assert await truncated.read(10, 0) == (b"", True)
        assert await opened(directory, "to-file", READ, OpenFlags(0), NO_FOLLOW) == "loop"
        for flag in ("FILE_INTEGRITY_SYNC", "DATA_INTEGRITY_SYNC", "REQUESTED_WRITE_SYNC"):
            assert await opened(directory, "file", READ | DescriptorFlags[flag]) == "unsupported"

    with_directory(home, work)


def test_nothing_is_changed_in_a_directory_for_reading_alone(home: Path) -> None:
    before = sorted(listed(home))

    async def work(directory: Descriptor) -> None:
        file = await opened(directory, "file")
        below = await opened(directory, "below", READ, DIRECTORY)
        assert await file.read(100, 0) == (b"0123456789", True)
        assert await directory.get_flags() == READ == await below.get_flags()
        assert await opened(directory, "file", WRITE) == "read-only"
        assert await opened(directory, "new", READ, CREATE) == "read-only"
        assert await opened(directory, "file", READ, TRUNCATE) == "read-only"
        assert await opened(directory, "below", DescriptorFlags.MUTATE_DIRECTORY, DIRECTORY) == "read-only"
        for each in (directory, below):
            for call in (
                each.create_directory_at("x"), each.remove_directory_at("empty"), each.unlink_file_at("file"),
                each.symlink_at("x", "y"), each.rename_at("file", each, "y"), each.set_times(NOW, NOW),
                each.link_at(NO_FOLLOW, "file", each, "y"), each.set_times_at(FOLLOW, "file", NOW, NOW),
            ):  # fmt: skip
                assert await outcome(call) == "read-only"
        assert await outcome(file.set_size(0)) == "read-only"
        assert await outcome(file.set_times(NOW, NOW)) == "read-only"
        assert await outcome(file.write(b"x", 0)) == "bad-descriptor"

    with_directory(home, work, writable=False)
    assert sorted(listed(home)) == before
    assert (home / "file").read_bytes() == b"0123456789"
    assert os.stat(home / "file").st_mtime_ns == preview1_cases.TIME


# The sandbox: as WASI preview 1 answers.

_LABELS = {
    preview1._ERRORS[number]: label(code) for number, code in filesystem._CODES.items() if number in preview1._ERRORS
}


def as_label(found: int) -> str:
    return "" if found == 0 else _LABELS[found]


async def told(call: Coroutine[Any, Any, Any]) -> str:
    """The name of an error, or nothing."""
    found = await outcome(call)
    if isinstance(found, Descriptor):
        found.on_drop()
    return found if isinstance(found, str) else ""


async def without_result(call: Coroutine[Any, Any, Any]) -> None:
    await call


Operation = tuple[Callable[[Subject, str], int], Callable[[Descriptor, str], Coroutine[Any, Any, Any]]]


def opening(oflags: int, rights: int, follow: int, how: OpenFlags, flags: DescriptorFlags) -> Operation:
    def old(subject: Subject, path: str) -> int:
        error, number = subject.open(path, oflags, rights, follow=follow)
        if error == 0:
            subject.call("fd_close", number)
        return int(error)

    return old, lambda each, path: each.open_at(PathFlags(follow), path, how, flags)


OPERATIONS: dict[str, Operation] = {
    "open": opening(0, 2, 1, OpenFlags(0), READ),
    "open-without-following": opening(0, 2, 0, OpenFlags(0), READ),
    "open-to-write": opening(0, 64, 1, OpenFlags(0), WRITE),
    "open-a-directory": opening(2, 2, 1, DIRECTORY, READ),
    "create": opening(1, 66, 1, CREATE, READ | WRITE),
    "create-exclusively": opening(5, 64, 1, CREATE | EXCLUSIVE, WRITE),
    "truncate": opening(8, 2, 1, TRUNCATE, READ),
    "stat": (
        lambda subject, path: subject.call("path_filestat_get", 3, 1, *subject.path(path), BUFFER),
        lambda each, path: each.stat_at(FOLLOW, path),
    ),
    "stat-without-following": (
        lambda subject, path: subject.call("path_filestat_get", 3, 0, *subject.path(path), BUFFER),
        lambda each, path: each.stat_at(NO_FOLLOW, path),
    ),
    "set-times": (
        lambda subject, path: subject.call("path_filestat_set_times", 3, 1, *subject.path(path), 7, 8, 5),
        lambda each, path: each.set_times_at(FOLLOW, path, at(0, 7), at(0, 8)),
    ),
    "read-a-link": (
        lambda subject, path: subject.call("path_readlink", 3, *subject.path(path), BUFFER, 1000, RESULT),
        lambda each, path: without_result(each.readlink_at(path)),
    ),
    "create-a-directory": (
        lambda subject, path: subject.at("path_create_directory", path),
        lambda each, path: each.create_directory_at(path),
    ),
    "remove-a-directory": (
        lambda subject, path: subject.at("path_remove_directory", path),
        lambda each, path: each.remove_directory_at(path),
    ),
    "unlink": (
        lambda subject, path: subject.at("path_unlink_file", path),
        lambda each, path: each.unlink_file_at(path),
    ),
    "rename-to": (
        lambda subject, path: subject.call("path_rename", 3, *subject.path("file"), 3, *subject.path(path, 1)),
        lambda each, path: each.rename_at("file", each, path),
    ),
    "rename-from": (
        lambda subject, path: subject.call("path_rename", 3, *subject.path(path), 3, *subject.path("renamed", 1)),
        lambda each, path: each.rename_at(path, each, "renamed"),
    ),
    "link-to": (
        lambda subject, path: subject.call("path_link", 3, 0, *subject.path("file"), 3, *subject.path(path, 1)),
        lambda each, path: each.link_at(NO_FOLLOW, "file", each, path),
    ),
    "link-from": (
        lambda subject, path: subject.call("path_link", 3, 0, *subject.path(path), 3, *subject.path("linked", 1)),
        lambda each, path: each.link_at(NO_FOLLOW, path, each, "linked"),
    ),
    "make-a-link": (
        lambda subject, path: subject.call("path_symlink", *subject.path("../x"), 3, *subject.path(path, 1)),
        lambda each, path: each.symlink_at("../x", path),
    ),
    "make-a-link-to": (
        lambda subject, path: subject.call("path_symlink", *subject.path(path), 3, *subject.path("made", 1)),
        lambda each, path: each.symlink_at(path, "made"),
    ),
}
"""What can be done with a path: in preview 1, and in 0.2."""

HOSTILE = (*PATHS, *TARGETS, "a\0b", "\0", "file\0", "x" * 5000, "./" * 2100, "x" * 1_000_000)


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_path_leads_where_it_leads_in_preview_1(name: str, tmp_path: Path) -> None:
    homes = [tmp_path / each / "home" for each in ("old", "new")]
    for home in homes:
        outside = home.parent / "outside"
        home.mkdir(parents=True)
        outside.mkdir()
        (outside / "secret").write_bytes(b"of the house")
        furnish(home, outside)
    old, new = OPERATIONS[name]
    with ours(granted_in_preview1(homes[0])) as subject:
        expected = [as_label(old(subject, path)) for path in HOSTILE if len(path) < 8000]
    found: list[str] = []

    async def work(directory: Descriptor) -> None:
        found.extend([await told(new(directory, path)) for path in HOSTILE])

    with_directory(homes[1], work)
    assert found.pop() == "name-too-long"
    assert dict(zip(HOSTILE, found, strict=False)) == dict(zip(HOSTILE, expected, strict=False))
    for home in homes:
        assert (home.parent / "outside" / "secret").read_bytes() == b"of the house"
        assert os.listdir(home.parent / "outside") == ["secret"]
        assert sorted(os.listdir(home.parent)) == ["home", "outside"]
    assert tree(homes[0]) == tree(homes[1])


def tree(path: Path) -> list[str]:
    return sorted(str(each.relative_to(path)) for each in path.rglob("*"))


def test_a_directory_below_leads_out_neither(home: Path) -> None:
    async def work(directory: Descriptor) -> None:
        below = await opened(directory, "below", READ, DIRECTORY)
        paths = ("inner", "..", "../file", "back", "deep/../inner", "deep/../..", "back-too-far", ".")
        found = {path: await told(below.open_at(FOLLOW, path, OpenFlags(0), READ)) for path in paths}
        assert {path for path, error in found.items() if not error} == {"inner", "deep/../inner", "."}
        assert {found[path] for path in ("..", "../file", "back", "deep/../..", "back-too-far")} == {"not-permitted"}

    with_directory(home, work)


def test_a_link_that_takes_the_place_of_something_leads_nowhere(home: Path) -> None:
    """Somebody swaps a directory and a link out of it, over and over, while a guest opens what is below."""
    race, real = home / "race", home / "real"
    real.mkdir()
    (real / "secret").write_bytes(b"of the guest")
    real.rename(race)
    link = home / "link"
    link.symlink_to("../outside")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            race.rename(real)
            link.rename(race)
            race.rename(link)
            real.rename(race)

    thread = threading.Thread(target=swap)

    async def work(directory: Descriptor) -> None:
        seen: set[str] = set()
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            found = await opened(directory, "race/secret")
            if isinstance(found, Descriptor):
                content, _ = await found.read(100, 0)
                assert content == b"of the guest"
                found.on_drop()
                seen.add("opened")
            else:
                seen.add(found)
        assert seen <= {"opened", "no-entry", "not-permitted", "loop", "not-directory"}
        assert "opened" in seen

    thread.start()
    try:
        with_directory(home, work)
    finally:
        stop.set()
        thread.join()


# Bounds.


def test_an_instance_has_a_limit_of_open_files_and_gives_them_back(home: Path) -> None:
    before = BUDGET._used

    async def main() -> None:
        guest = Guest(granted(home))
        directory = await guest.directory()
        held = [await opened(directory, "file") for _ in range(MAX_OPEN - 1)]
        assert all(isinstance(each, Descriptor) for each in held)
        assert await opened(directory, "file") == "insufficient-memory"
        stream = await held[0].read_via_stream(0)
        held[0].on_drop()
        assert await opened(directory, "file") == "insufficient-memory"  # the stream has it still
        stream.on_drop()
        assert isinstance(await opened(directory, "file"), Descriptor)
        for _ in range(1000):
            assert len(await Preopens(state_of(guest)).get_directories()) == 1
        guest.close()
        for each in held[1:]:
            each.on_drop()  # after its instance

    run(main())
    gc.collect()
    until = time.monotonic() + 5
    while BUDGET._used != before:
        assert time.monotonic() < until, "files are still open"
        time.sleep(0.01)


def test_an_instance_has_a_limit_of_streams(home: Path) -> None:
    async def work(directory: Descriptor) -> None:
        file = await opened(directory, "file", READ | WRITE)
        streams: list[Any] = []
        for _ in range(MAX_STREAMS // 4):
            streams += [await file.read_via_stream(0), await file.write_via_stream(0)]
            streams += [await file.append_via_stream(), await directory.read_directory()]
        for call in (file.read_via_stream(0), file.write_via_stream(0), directory.read_directory()):
            assert await outcome(call) == "insufficient-memory"
        for each in streams:
            each.on_drop()
        assert await contents(await file.read_via_stream(0)) == b"0123456789"
        assert directory._files.streams == 1

    with_directory(home, work)


def test_directories_are_told_by_their_names_and_opened_when_they_are_used(home: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    before = BUDGET._used

    async def main() -> None:
        guest = Guest(granted(home, second))
        found = await Preopens(state_of(guest)).get_directories()
        assert [name for _, name in found] == [".", "second"]
        assert BUDGET._used == before
        assert ("file", "regular-file") in await entries(found[0][0])
        assert await entries(found[1][0]) == []
        await found[0][0].rename_at("file", found[1][0], "moved")
        assert await entries(found[1][0]) == [("moved", "regular-file")]
        nothing = Guest()
        assert await Preopens(state_of(nothing)).get_directories() == []
        guest.close()

    run(main())


def test_a_directory_that_is_gone_is_an_error(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()

    async def main() -> None:
        guest = Guest(granted(gone))
        directory = await guest.directory()
        gone.rmdir()
        assert await opened(directory, ".") == "no-entry"
        assert await outcome(directory.stat()) == "no-entry"
        assert not await directory.is_same_object(directory)

    run(main())


def test_a_slow_file_system_holds_up_nobody(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept = threading.Event()

    def slow(number: int) -> os.stat_result:
        time.sleep(0.3)
        slept.set()
        return os.stat(number)

    async def work(directory: Descriptor) -> None:
        file = await opened(directory, "file")
        monkeypatch.setattr(os, "fstat", slow)
        asking = asyncio.create_task(file.stat())
        turns = 0
        while not slept.is_set():
            await asyncio.sleep(0.01)
            turns += 1
        monkeypatch.undo()
        assert turns > 10
        assert (await asking).size == 10

    with_directory(home, work)


def test_a_fifo_holds_up_nobody(home: Path) -> None:
    async def work(directory: Descriptor) -> None:
        assert await opened(directory, "fifo", WRITE) == "no-such-device"  # nobody reads it
        fifo = await opened(directory, "fifo")
        assert label(await fifo.get_type()) == label(DescriptorType.FIFO)
        assert await outcome(fifo.read(1, 0)) == "invalid-seek"

    with_directory(home, work)
