"""WASI 0.3: what differs from 0.2."""

from __future__ import annotations

import asyncio
import importlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from bindgen.runtime import Err, Ok
from capabilities.bindings.wasi_cli_0_3 import stdin
from capabilities.bindings.wasi_cli_0_3.types import ErrorCode
from capabilities.bindings.wasi_clocks_0_3.system_clock import Instant
from capabilities.bindings.wasi_filesystem_0_3.types import (
    DescriptorFlags,
    NewTimestampNoChange,
    NewTimestampTimestamp,
    OpenFlags,
    PathFlags,
)
from capabilities.wasi.io import CAPACITY
from slight_py import sessions
from slight_py.component.channels import Channels
from slight_py.component.handles import HandleTable
from slight_py.component.streams import Dropped
from slight_py.output import Writer
from slight_py.wasi import WasiSettings, preview3
from slight_py.wasi.files import BUDGET, MAX_OPEN, MAX_STREAMS
from slight_py.wasi.preview2 import state_of
from slight_py.wasi.preview2.cli import TerminalInput, TerminalOutput
from slight_py.wasi.preview3 import BINDINGS, bind, cli, clocks, filesystem, random, sockets, streams
from slight_py.wasi.preview3.filesystem import Descriptor, Preopens
from slight_py.wasi.stdio import Input, Output
from tests.component.wasi2 import Guest, check_answers, generated, granted, run

READ, WRITE = DescriptorFlags.READ, DescriptorFlags.WRITE
FOLLOW = PathFlags.SYMLINK_FOLLOW


# That there is an answer to all of it.


RESOURCES = {"Descriptor": Descriptor, "TerminalInput": TerminalInput, "TerminalOutput": TerminalOutput}


@pytest.mark.parametrize("interface", BINDINGS)
def test_every_function_is_answered_with_the_parameters_of_its_binding(interface: str) -> None:
    answers = {**preview3._SHARED, **preview3._OF_AN_INSTANCE}
    check_answers(BINDINGS[interface], answers[interface], RESOURCES, {"TcpSocket", "UdpSocket"})
    for each in getattr(importlib.import_module(BINDINGS[interface]), "IMPORTS", ()):
        definition, _ = bind(each)
        assert (definition.module, definition.name, definition.params) == (each.module, each.name, each.params)
        assert (definition.call_async is None) == (each.call_async is None)


def test_all_of_wasi_0_3_is_there() -> None:
    packages = ("cli", "clocks", "filesystem", "random", "sockets")
    assert set(BINDINGS.values()) == generated("0_3", packages) - {"capabilities.bindings.wasi_cli_0_3.run"}


def test_a_call_that_a_guest_goes_on_during_is_answered_by_the_instances_own_object() -> None:
    async def main() -> None:
        imports = importlib.import_module(BINDINGS["wasi:clocks/monotonic-clock"]).IMPORTS
        (wait,) = [bind(each)[0] for each in imports if each.name == "wait-for"]
        begun: list[Any] = []

        class Host(Guest):
            encoding = "utf8"

            async def subtask(self, work: Any, lower: Any, lent: Any) -> int:
                begun.append(await work)
                return 2

        guest = Host()
        assert wait.call_async is not None
        began = time.monotonic()
        assert await wait.call_async.call(None, guest, (20_000_000,)) == 2
        assert time.monotonic() - began > 0.015
        assert begun == [None]

    run(main())


# What stands in for a guest's end of a stream.


class Written:
    """A stream that a guest hands over, with what it writes."""

    def __init__(self, *pieces: bytes | BaseException) -> None:
        self._pieces = list(pieces)
        self.closed = False

    async def read(self, limit: int) -> bytes:
        await asyncio.sleep(0)
        if not self._pieces:
            return b""
        piece = self._pieces.pop(0)
        if isinstance(piece, BaseException):
            raise piece
        assert len(piece) <= limit
        return piece

    def close(self) -> None:
        self.closed = True

    def __aiter__(self) -> Any:
        raise NotImplementedError


async def pieces(stream: Any) -> list[Any]:
    return [each async for each in stream]


# Command line, clocks, random numbers, sockets.


def test_a_guest_is_told_its_arguments_and_variables() -> None:
    async def main() -> None:
        environment = cli.Environment(state_of(Guest(WasiSettings(("app", "größe"), {"HOME": "/"}))))
        assert await environment.get_arguments() == ["app", "größe"]
        assert await environment.get_environment() == [("HOME", "/")]
        assert await environment.get_initial_cwd() is None

    run(main())


def test_clocks_tell_and_wait() -> None:
    async def main() -> None:
        clock = clocks.MonotonicClock(state_of(Guest()))
        began = await clock.now()
        assert began < 10**10
        await clock.wait_for(20_000_000)
        await clock.wait_until(began + 40_000_000)
        assert 35_000_000 < await clock.now() - began < 5 * 10**9
        await clock.wait_until(0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(clock.wait_for((1 << 64) - 1), 0.01)
        now = await clocks.SystemClock().now()
        assert abs(now.seconds - time.time()) < 5
        assert 0 <= now.nanoseconds < 10**9
        for each in (clock, clocks.SystemClock()):
            assert 0 < await each.get_resolution() < 10**8
        zone = clocks.Timezone()
        assert (await zone.iana_id(), await zone.utc_offset(now)) == (None, None)
        assert await zone.to_debug_string()

    run(main())


def test_random_bytes_are_up_to_as_many_as_asked_for_and_one_at_least() -> None:
    async def main() -> None:
        for call in (random.ShortRandom().get_random_bytes, random.ShortInsecure().get_insecure_random_bytes):
            for size in (0, 1, 1000, 1 << 16):
                assert len(await call(size)) == size
            assert 0 < len(await call((1 << 64) - 1)) <= 1 << 16
            assert await call(32) != await call(32)

    run(main())


def test_no_socket_and_no_look_up_is_granted() -> None:
    async def main() -> None:
        for call in (
            sockets.Types().tcp_socket_create(0),
            sockets.Types().udp_socket_create(1),
            sockets.IpNameLookup().resolve_addresses("example.com"),
        ):
            with pytest.raises(Err) as refused:
                await call
            assert type(refused.value.value).__name__ == "ErrorCodeAccessDenied"

    run(main())


# Standard streams.


def printed(monkeypatch: pytest.MonkeyPatch) -> tuple[int, Writer]:
    """Has standard output go into a pipe."""
    reader, writer = os.pipe()
    found = Writer(writer)
    monkeypatch.setitem(cli.OUTPUTS, 1, Output(found, writer))
    return reader, found


def test_a_stream_is_printed_to_its_end_even_if_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        reader, writer = printed(monkeypatch)
        guest = Guest()
        stdout = cli.Stdout(state_of(guest))
        first = Written(b"hello, ", b"world")
        assert await (await stdout.write_via_stream(first)) == Ok(None)
        assert first.closed
        result = await stdout.write_via_stream(Written(b"!"))
        result.cancel()
        await asyncio.wait(set(state_of(guest).unfinished))
        await writer.out(writer.accepted)
        assert os.read(reader, 100) == b"hello, world!"
        assert not set(state_of(guest).unfinished)

    run(main())


class Endless(Written):
    """One that has nothing, and doesn't end."""

    is_read = False

    async def read(self, limit: int) -> bytes:
        self.is_read = True
        await asyncio.sleep(1000)
        return b""


def test_streams_that_wait_to_be_printed_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as may be at a time hold bytes; the others are not read."""

    async def main() -> None:
        printed(monkeypatch)
        guest = Guest()
        stdout = cli.Stdout(state_of(guest))
        endless = [Endless() for _ in range(1000)]
        for each in endless:
            await stdout.write_via_stream(each)
        await asyncio.sleep(0.05)
        assert sum(each.is_read for each in endless) == cli.AT_ONCE
        tasks = set(state_of(guest).unfinished)
        assert len(tasks) == 1000
        for each in tasks:
            each.cancel()
        await asyncio.wait(tasks)

    run(main())


def test_a_guest_cannot_hand_over_more_streams_to_be_printed_than_others_of_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It keeps no handle of what it has handed over, so handles are no limit."""

    async def main() -> None:
        printed(monkeypatch)
        guest = Guest()
        stdout = cli.Stdout(state_of(guest))
        for _ in range(MAX_STREAMS):
            await stdout.write_via_stream(Endless())
        data = Written(b"x")
        assert (await (await stdout.write_via_stream(data))).value == ErrorCode.IO
        assert data.closed
        tasks = set(state_of(guest).unfinished)
        for each in tasks:
            each.cancel()
        await asyncio.wait(tasks)
        assert isinstance(await (await stdout.write_via_stream(Written(b"x"))), Ok)

    run(main())


def test_a_guest_learns_that_nobody_reads_its_output(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        reader, writer = printed(monkeypatch)
        os.close(reader)
        stdout = cli.Stdout(state_of(Guest()))
        await (await stdout.write_via_stream(Written(b"x")))
        await writer.out(writer.accepted)
        data = Written(b"x", b"y")
        assert (await (await stdout.write_via_stream(data))).value == ErrorCode.PIPE
        assert data.closed

    run(main())


def test_a_stream_that_breaks_off_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        printed(monkeypatch)
        data = Written(b"x", asyncio.CancelledError())
        result = await cli.Stdout(state_of(Guest())).write_via_stream(data)
        assert (await result).value == ErrorCode.IO
        assert data.closed

    run(main())


def test_input_comes_as_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr(cli, "INPUT", Input(reader))

    async def main() -> None:
        stream, result = await cli.Stdin(state_of(Guest(stdin=True))).read_via_stream()
        os.write(writer, b"hello")
        assert await anext(stream.__aiter__()) == b"hello"
        os.close(writer)
        assert await pieces(stream) == []
        assert await result == Ok(None)
        nothing, result = await cli.Stdin(state_of(Guest())).read_via_stream()
        assert await pieces(nothing) == []
        assert await result == Ok(None)

    run(main())


def test_input_that_nobody_wants_any_more_is_no_error() -> None:
    async def main() -> None:
        stream, result = await cli.Stdin(state_of(Guest(stdin=True))).read_via_stream()
        await stream.aclose()
        assert await result == Ok(None)
        assert await pieces(stream) == []

    run(main())


@pytest.mark.parametrize("turns", [0, 1, 5])
def test_a_stream_that_a_guest_gives_up_at_once_or_later_resolves_its_future(turns: int) -> None:
    async def main() -> None:
        stream, result = await cli.Stdin(state_of(Guest(stdin=True))).read_via_stream()
        handles = HandleTable()
        Channels(handles).add_stream(stdin._STREAM_U8, stream, "read-via-stream")
        for _ in range(turns):
            await asyncio.sleep(0)
        handles.close()
        assert await asyncio.wait_for(result, 5) == Ok(None)

    run(main())


# Files.


def with_directory(home: Path, work: Any, writable: bool = True) -> None:
    before = BUDGET._used

    async def main() -> None:
        guest = Guest(granted(home, writable=writable))
        ((directory, name),) = await Preopens(state_of(guest)).get_directories()
        assert name == "."
        await work(directory)
        guest.close()
        await sessions.closed()

    run(main())
    until = time.monotonic() + 5
    while BUDGET._used != before:
        assert time.monotonic() < until, "files are still open"
        time.sleep(0.01)


async def opened(directory: Descriptor, path: str, flags: DescriptorFlags = READ, how: int = 0) -> Descriptor:
    return await directory.open_at(FOLLOW, path, OpenFlags(how), flags)


async def error(call: Any) -> str:
    """The name of the error's case, `NoEntry`."""
    with pytest.raises(Err) as failed:
        await call
    return case(failed.value)


def case(failed: Any) -> str:
    assert isinstance(failed, Err)
    return type(failed.value).__name__.removeprefix("ErrorCode")


@pytest.mark.parametrize("size", [0, 10, 200_000])
def test_a_file_comes_as_a_stream_from_a_position(size: int, tmp_path: Path) -> None:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)

    async def work(directory: Descriptor) -> None:
        file = await opened(directory, "file")
        stream, result = await file.read_via_stream(0)
        rest, rest_result = await file.read_via_stream(5)
        file.on_drop()  # which the streams outlive
        found = await pieces(stream)
        assert b"".join(found) == data
        assert all(0 < len(each) <= CAPACITY for each in found)
        assert b"".join(await pieces(rest)) == data[5:]
        assert await result == await rest_result == Ok(None)

    with_directory(tmp_path, work)


def test_a_stream_is_written_at_a_position_and_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")

    async def work(directory: Descriptor) -> None:
        file = await opened(directory, "file", WRITE)
        results = [
            await file.write_via_stream(Written(b"ab", b"cd"), 2),
            await file.append_via_stream(Written(b"END")),
            await file.write_via_stream(Written(), 0),
        ]
        file.on_drop()
        assert [await each for each in results] == [Ok(None)] * 3

    with_directory(tmp_path, work)
    assert (tmp_path / "file").read_bytes() == b"01abcd6789END"


def test_what_a_guest_has_written_is_there_when_it_looks_at_once(tmp_path: Path) -> None:
    class Watched(Written):
        """A guest that looks at the file as soon as each of its writes is done, and then writes more."""

        def __init__(self, file: Descriptor, *pieces: bytes) -> None:
            super().__init__(*pieces)
            self.seen: list[asyncio.Task[Any]] = []
            self._file = file

        async def read(self, limit: int) -> bytes:
            if self.seen:
                await self.seen[-1]
            piece = await super().read(limit)
            self.seen.append(asyncio.create_task(self._file.stat()))
            return piece

    async def work(directory: Descriptor) -> None:
        file = await opened(directory, "file", READ | WRITE, OpenFlags.CREATE)
        data = Watched(file, b"hello", b", ", b"world")
        assert await (await file.append_via_stream(data)) == Ok(None)
        assert [(await each).size for each in data.seen] == [5, 7, 12, 12]

    with_directory(tmp_path, work)


def test_what_was_handed_over_is_written_even_if_the_guest_ends_at_once(tmp_path: Path) -> None:
    async def work(directory: Descriptor) -> None:
        file = await opened(directory, "file", WRITE, OpenFlags.CREATE)
        result = await file.write_via_stream(Written(*[b"x" * 1000] * 50), 0)
        result.cancel()
        directory._files.close()

    with_directory(tmp_path, work)
    assert (tmp_path / "file").read_bytes() == b"x" * 50_000


def test_what_can_not_be_read_or_written_is_told_by_the_future(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")

    async def work(directory: Descriptor) -> None:
        reading, writing = await opened(directory, "file"), await opened(directory, "file", WRITE)
        for descriptor, position, expected in (
            (writing, 0, "BadDescriptor"), (directory, 0, "BadDescriptor"), (reading, 1 << 63, "Invalid"),
        ):  # fmt: skip
            stream, result = await descriptor.read_via_stream(position)
            assert await pieces(stream) == []
            assert case(await result) == expected
        for descriptor, position, expected in (
            (reading, 0, "BadDescriptor"), (directory, 0, "BadDescriptor"), (writing, 1 << 63, "Invalid"),
            (writing, 1 << 62, "FileTooLarge"),
        ):  # fmt: skip
            data = Written(b"x")
            assert case(await (await descriptor.write_via_stream(data, position))) == expected
            assert data.closed
        assert case(await (await reading.append_via_stream(Written(b"x")))) == "BadDescriptor"

    with_directory(tmp_path, work)


def test_a_stream_that_is_given_up_closes_its_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(200_000))

    async def work(directory: Descriptor) -> None:
        for _ in range(MAX_OPEN * 2):
            file = await opened(directory, "file")
            stream, result = await file.read_via_stream(0)
            file.on_drop()
            assert await anext(stream.__aiter__())
            await stream.aclose()
            assert await result == Ok(None)

    with_directory(tmp_path, work)


def test_an_instance_has_a_limit_of_streams(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")

    async def work(directory: Descriptor) -> None:
        file = await opened(directory, "file", READ | WRITE)
        held = [(await file.read_via_stream(0))[0] for _ in range(MAX_STREAMS)]
        for call in (file.read_via_stream(0), directory.read_directory()):
            stream, result = await call
            assert await pieces(stream) == []
            assert case(await result) == "InsufficientMemory"
        data = Written(b"new")
        assert case(await (await file.write_via_stream(data, 0))) == "InsufficientMemory"
        assert data.closed
        for each in held:
            await each.aclose()
        assert await (await file.write_via_stream(Written(b"new"), 0)) == Ok(None)
        assert directory._files.streams == 0

    with_directory(tmp_path, work)
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_directory_comes_as_a_stream_of_entries(tmp_path: Path) -> None:
    names = {f"file with a rather long name {number}" for number in range(2000)}
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("nowhere")

    async def work(directory: Descriptor) -> None:
        stream, result = await directory.read_directory()
        found = [entry for piece in await pieces(stream) for entry in piece]
        assert {entry.name for entry in found} == names | {"link"}
        assert len(found) == len(names) + 1
        types = {entry.name: type(entry.type).__name__ for entry in found}
        assert types["link"] == "DescriptorTypeSymbolicLink"
        assert types[min(names)] == "DescriptorTypeRegularFile"
        assert await result == Ok(None)
        file = await opened(directory, min(names))
        stream, result = await file.read_directory()
        assert await pieces(stream) == []
        assert case(await result) == "NotDirectory"

    with_directory(tmp_path, work)


def test_a_name_that_is_no_text_ends_the_entries(tmp_path: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))).touch()

    async def work(directory: Descriptor) -> None:
        stream, result = await directory.read_directory()
        assert await pieces(stream) == []
        assert case(await result) == "IllegalByteSequence"

    with_directory(tmp_path, work)


def test_statuses_and_times_may_be_before_1970(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123")

    async def work(directory: Descriptor) -> None:
        file = await opened(directory, "file", WRITE)
        await file.set_times(NewTimestampTimestamp(Instant(-5, 250_000_000)), NewTimestampTimestamp(Instant(5, 7)))
        found = await file.stat()
        assert (found.size, found.link_count, type(found.type).__name__) == (4, 1, "DescriptorTypeRegularFile")
        assert found.data_access_timestamp == Instant(-5, 250_000_000)
        assert found.data_modification_timestamp == Instant(5, 7)
        await file.set_times(NewTimestampNoChange(), NewTimestampTimestamp(Instant(8, 0)))
        assert (await file.stat()).data_access_timestamp == Instant(-5, 250_000_000)
        call = file.set_times(NewTimestampNoChange(), NewTimestampTimestamp(Instant(0, 10**9)))
        assert await error(call) == "Invalid"

    with_directory(tmp_path, work)


ERRORS = {
    "nothing": "NoEntry", "file/x": "NotDirectory", "../x": "NotPermitted", "/etc/passwd": "NotPermitted",
    "out": "NotPermitted", "loop": "Loop", "x" * 300: "NameTooLong", "a\0b": "Invalid", "y" * 5000: "NameTooLong",
}  # fmt: skip


@pytest.mark.parametrize("path", ERRORS, ids=[each[:10].replace("\0", "0") for each in ERRORS])
def test_errors_have_the_cases_of_this_version(path: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "out").symlink_to("../secret")
    (tmp_path / "loop").symlink_to("loop")

    async def work(directory: Descriptor) -> None:
        assert await error(opened(directory, path)) == ERRORS[path]
        assert await error(directory.stat_at(FOLLOW, path)) == ERRORS[path]

    with_directory(tmp_path, work)


def test_nothing_is_changed_in_a_directory_for_reading_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")

    async def work(directory: Descriptor) -> None:
        calls: Iterable[Any] = (
            opened(directory, "file", WRITE), opened(directory, "new", READ, OpenFlags.CREATE),
            directory.create_directory_at("x"), directory.unlink_file_at("file"), directory.symlink_at("x", "y"),
            directory.rename_at("file", directory, "y"), directory.link_at(PathFlags(0), "file", directory, "y"),
        )  # fmt: skip
        for call in calls:
            assert await error(call) == "ReadOnly"

    with_directory(tmp_path, work, writable=False)
    assert (tmp_path / "file").read_bytes() == b"old"


def test_too_many_open_files_are_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    async def work(directory: Descriptor) -> None:
        held = [await opened(directory, "file") for _ in range(MAX_OPEN - 1)]
        with pytest.raises(Err) as failed:
            await opened(directory, "file")
        assert failed.value.value == filesystem.types.ErrorCodeOther("Too many open files")
        for each in held:
            each.on_drop()

    with_directory(tmp_path, work)


def test_a_guest_that_ends_in_the_midst_of_its_output_is_no_error_of_the_host() -> None:
    """A stream whose writer has ended is closed, and whoever waits for it learns that it wasn't whole."""
    closed: list[bool] = []

    class Broken:
        async def read(self, _limit: int) -> bytes:
            raise Dropped

        def close(self) -> None:
            closed.append(True)

    async def main() -> None:
        result, task = streams.write_all(Broken(), never, lambda _error: ErrorCode.IO)
        await task
        found = await result
        assert isinstance(found, Err)
        assert found.value is ErrorCode.IO

    async def never(_piece: bytes) -> None:
        raise AssertionError

    run(main())
    assert closed == [True]
