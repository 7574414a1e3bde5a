"""WASI 0.2 but for files: what a guest is told, clocks, random numbers, standard streams, sockets, and the end."""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
import time
from typing import Any

import pytest

from bindgen.runtime import Err, GuestFault, Ok
from capabilities.bindings.wasi_clocks_0_2.wall_clock import Datetime
from capabilities.wasi import io
from slight_py.engine import Exit
from slight_py.output import Writer
from slight_py.wasi import WasiSettings, preview2
from slight_py.wasi.preview2 import BINDINGS, bind, cli, clocks, filesystem, random, sockets, state_of
from slight_py.wasi.preview2.streams import StandardInput, StandardOutput
from slight_py.wasi.stdio import Input, Output
from tests.component.wasi2 import Guest, check_answers, contents, generated, outcome, run

# That there is an answer to all of it.


RESOURCES: dict[str, type] = {
    "Error": io.Error,
    "Pollable": io.Pollable,
    "InputStream": io.InputStream,
    "OutputStream": io.OutputStream,
    "TerminalInput": cli.TerminalInput,
    "TerminalOutput": cli.TerminalOutput,
    "Descriptor": filesystem.Descriptor,
    "DirectoryEntryStream": filesystem.DirectoryEntryStream,
    "Network": sockets.Network,
}
"""What answers each resource. Nobody is given a socket."""

NEVER_GIVEN = {"TcpSocket", "UdpSocket", "IncomingDatagramStream", "OutgoingDatagramStream", "ResolveAddressStream"}


@pytest.mark.parametrize("interface", BINDINGS)
def test_every_function_is_answered_with_the_parameters_of_its_binding(interface: str) -> None:
    answers = {**preview2._SHARED, **preview2._OF_AN_INSTANCE}
    check_answers(BINDINGS[interface], answers[interface], RESOURCES, NEVER_GIVEN)
    for each in importlib.import_module(BINDINGS[interface]).IMPORTS:
        definition, _ = bind(each)
        assert (definition.module, definition.name, definition.params) == (each.module, each.name, each.params)


def test_all_of_wasi_0_2_is_there() -> None:
    packages = ("cli", "clocks", "filesystem", "io", "random", "sockets")
    # What a component exports is not imported.
    assert set(BINDINGS.values()) == generated("0_2", packages) - {"capabilities.bindings.wasi_cli_0_2.run"}


def test_an_instance_has_one_object_of_its_own_for_each_interface() -> None:
    async def main() -> None:
        (first, *_) = importlib.import_module(BINDINGS["wasi:cli/stdin"]).IMPORTS
        definition, host = bind(first)
        assert host is None
        one, other = Guest(), Guest()
        seen: list[Any] = []

        async def call(answering: Any, guest: Any, arguments: tuple[Any, ...]) -> None:
            seen.append((answering, guest, arguments))

        definition, _ = bind(type(first)(**{**{f: getattr(first, f) for f in first.__slots__}, "call": call}))
        for guest in (one, one, other):
            await definition.call(None, guest, (1, 2))
        assert seen[0][0] is seen[1][0] is not seen[2][0]
        assert seen[0][1:] == (one, (1, 2))

    run(main())


# What a guest is told.


def test_a_guest_is_told_its_arguments_and_variables_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the house")
    settings = WasiSettings(("app", "größe", "", "\udcff"), {"HOME": "/", "LEER": "", "ODD": "a\udc80"})

    async def main() -> None:
        environment = cli.Environment(state_of(Guest(settings)))
        for _ in range(2):
            assert await environment.get_arguments() == ["app", "größe", "", "\ufffd"]
            assert await environment.get_environment() == [("HOME", "/"), ("LEER", ""), ("ODD", "a\ufffd")]
        assert await environment.initial_cwd() is None
        nothing = cli.Environment(state_of(Guest()))
        assert (await nothing.get_arguments(), await nothing.get_environment()) == ([], [])

    run(main())


# The end.


@pytest.mark.parametrize(("status", "code"), [(Ok(None), 0), (Err(None), 1)])
def test_an_exit_ends_the_instance(status: Any, code: int) -> None:
    with pytest.raises(Exit) as ended:
        run(cli.ExitHost().exit(status))
    assert ended.value.code == code


@pytest.mark.parametrize("code", [0, 3, 255])
def test_an_exit_with_a_code_ends_the_instance(code: int) -> None:
    with pytest.raises(Exit) as ended:
        run(cli.ExitHost().exit_with_code(code))
    assert ended.value.code == code


# Clocks.

MS = 1_000_000
"""Nanoseconds."""


def test_the_monotonic_clock_begins_with_the_instance_and_never_goes_back() -> None:
    async def main() -> None:
        clock = clocks.MonotonicClock(state_of(Guest()))
        first = await clock.now()
        assert first < 10_000 * MS
        await asyncio.sleep(0.02)
        assert 15 * MS < await clock.now() - first < 5_000 * MS
        assert 0 < await clock.resolution() < 100 * MS

    run(main())


def test_a_guest_waits_for_an_instant_and_for_a_duration() -> None:
    async def main() -> None:
        clock = clocks.MonotonicClock(state_of(Guest()))
        began = await clock.now()
        for pollable in (await clock.subscribe_instant(began + 30 * MS), await clock.subscribe_duration(30 * MS)):
            assert not await pollable.ready()
        await pollable.block()
        assert 25 * MS < await clock.now() - began < 5_000 * MS
        assert await (await clock.subscribe_instant(began)).ready()
        assert await (await clock.subscribe_instant(0)).ready()
        assert await (await clock.subscribe_duration(0)).ready()
        for endless in (await clock.subscribe_instant((1 << 64) - 1), await clock.subscribe_duration((1 << 64) - 1)):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(endless.block(), 0.02)

    run(main())


def test_the_wall_clock_tells_the_time() -> None:
    async def main() -> None:
        found = await clocks.WallClock().now()
        assert abs(found.seconds - time.time()) < 5
        assert 0 <= found.nanoseconds < 10**9
        resolution = await clocks.WallClock().resolution()
        assert isinstance(resolution, Datetime)
        assert (resolution.seconds, resolution.nanoseconds) > (0, 0)

    run(main())


def test_a_guest_is_not_told_where_the_machine_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()

    async def main() -> None:
        found = await clocks.Timezone().display(Datetime(0, 0))
        assert (found.utc_offset, found.name, found.in_daylight_saving_time) == (0, "UTC", False)
        assert await clocks.Timezone().utc_offset(Datetime(0, 0)) == 0

    run(main())
    monkeypatch.undo()
    time.tzset()


# Random numbers.


@pytest.mark.parametrize("size", [0, 1, 1 << 16, (1 << 16) + 1, 1 << 20])
def test_random_bytes_are_as_many_as_asked_for_and_never_the_same(size: int) -> None:
    async def main() -> None:
        for call in (random.Random().get_random_bytes, random.Insecure().get_insecure_random_bytes):
            found = await call(size), await call(size)
            assert [len(each) for each in found] == [size, size]
            assert size < 16 or found[0] != found[1]

    run(main())


@pytest.mark.parametrize("size", [(64 << 20) + 1, (1 << 64) - 1])
def test_too_many_random_bytes_end_the_guest(size: int) -> None:
    for call in (random.Random().get_random_bytes, random.Insecure().get_insecure_random_bytes):
        with pytest.raises(GuestFault, match=f"random-bytes: {size} bytes are more than the 67108864"):
            run(call(size))


def test_many_random_bytes_hold_up_nobody() -> None:
    async def main() -> None:
        asking = asyncio.create_task(random.Random().get_random_bytes(64 << 20))
        turns = 0
        while not asking.done():
            await asyncio.sleep(0.001)
            turns += 1
        assert turns > 5
        assert len(await asking) == 64 << 20

    run(main())


def test_random_numbers_fill_all_their_bits() -> None:
    async def main() -> None:
        for call in (random.Random().get_random_u64, random.Insecure().get_insecure_random_u64):
            found = [await call() for _ in range(200)]
            assert len(set(found)) == 200
            assert max(found) >> 60
            assert max(found) < 1 << 64
        state = state_of(Guest())
        seeds = [await random.InsecureSeed(state).insecure_seed() for _ in range(100)]
        assert len(set(seeds)) == 100
        one = random.InsecureSeed(state)  # the same for an instance
        assert await one.insecure_seed() == await one.insecure_seed() == await one.get_insecure_seed()

    run(main())


# Sockets.


def test_no_socket_and_no_look_up_is_granted() -> None:
    async def main() -> None:
        assert await sockets.NetworkHost().network_error_code(io.Error(OSError(111, ""))) is None
        network = await sockets.InstanceNetwork().instance_network()
        for call in (
            sockets.TcpCreateSocket().create_tcp_socket(0),
            sockets.UdpCreateSocket().create_udp_socket(1),
            sockets.IpNameLookup().resolve_addresses(network, "example.com"),
        ):
            assert await outcome(call) == "access-denied"

    run(main())


# Standard streams.


def pipe_output(limit: int | None = None) -> tuple[StandardOutput, int, Writer]:
    reader, writer = os.pipe()
    found = Writer(writer)
    return StandardOutput(Output(found, writer)), reader, found


def test_what_is_printed_comes_out_in_order() -> None:
    async def main() -> None:
        out, reader, writer = pipe_output()
        assert 0 < await out.check_write() <= 1 << 16
        await out.write(b"hello, ")
        await out.blocking_write_and_flush(b"world\n")
        await out.blocking_flush()
        await out.check_write()
        await out.write_zeroes(2)
        await writer.out(writer.accepted)
        assert os.read(reader, 100) == b"hello, world\n\0\0"
        assert await outcome(cli.Stdout().get_stdout()) is not await outcome(cli.Stdout().get_stdout())

    run(main())


def test_output_that_nobody_reads_makes_the_guest_wait_and_nobody_else() -> None:
    async def main() -> None:
        out, reader, writer = pipe_output()
        other, other_reader, _ = pipe_output()
        printed = 0
        while permit := await out.check_write():
            await out.write(bytes(permit))
            printed += permit
            await asyncio.sleep(0.01)
        assert printed <= 4 << 16
        pollable = await out.subscribe()
        assert not await pollable.ready()
        blocked = [asyncio.create_task(pollable.block()), asyncio.create_task(out.blocking_write_and_flush(b"!"))]
        await asyncio.sleep(0.05)
        assert not any(each.done() for each in blocked)
        await other.blocking_write_and_flush(b"x")
        assert await asyncio.to_thread(os.read, other_reader, 1) == b"x"
        found = b""
        while not found.endswith(b"!"):
            found += await asyncio.to_thread(os.read, reader, 1 << 16)
        await asyncio.gather(*blocked)
        assert found == bytes(printed) + b"!"
        assert writer.waiting == 0

    run(main())


def test_a_guest_learns_that_nobody_reads_its_output_any_more() -> None:
    async def main() -> None:
        out, reader, writer = pipe_output()
        os.close(reader)
        await out.blocking_write_and_flush(b"x")
        await writer.out(writer.accepted)
        assert await outcome(out.blocking_write_and_flush(b"x")) == "failed: Broken pipe"
        assert await outcome(out.blocking_write_and_flush(b"x")) == "closed"
        assert await outcome(out.check_write()) == "closed"

    run(main())


def test_waiting_for_room_that_is_given_up_leaves_nothing_behind() -> None:
    async def main() -> None:
        out, _, writer = pipe_output()
        while permit := await out.check_write():
            await out.write(bytes(permit))
            await asyncio.sleep(0.01)
        pollable = await out.subscribe()
        blocked = asyncio.create_task(pollable.block())
        await asyncio.sleep(0.01)
        assert writer._waiting
        blocked.cancel()
        out.on_drop()
        await asyncio.sleep(0.01)
        assert not writer._waiting
        assert await pollable.ready()

    run(main())


def typed() -> tuple[Input, int]:
    reader, writer = os.pipe()
    return Input(reader), writer


def test_input_is_read_as_it_comes_to_its_end() -> None:
    async def main() -> None:
        source, writer = typed()
        stream = StandardInput(source)
        assert await stream.read(10) == b""
        pollable = await stream.subscribe()
        assert not await pollable.ready()
        os.write(writer, b"hello")
        await pollable.block()
        assert await stream.read(0) == b""
        assert await stream.read(2) == b"he"
        assert await stream.blocking_skip(1) == 1
        stream.on_drop()
        second = StandardInput(source)
        assert await second.blocking_read(1 << 40) == b"lo"
        waiting = asyncio.create_task(second.blocking_read(10))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        threading.Timer(0.01, os.write, (writer, b"more")).start()
        assert await waiting == b"more"
        os.close(writer)
        assert await outcome(second.blocking_read(10)) == "closed"
        assert await outcome(second.read(10)) == "closed"
        assert await outcome(second.read(0)) == "closed"
        assert await (await second.subscribe()).ready()

    run(main())


def test_a_guest_that_polls_its_input_and_a_clock_wakes_with_the_clock() -> None:
    async def main() -> None:
        source, writer = typed()
        stream = StandardInput(source)
        clock = clocks.MonotonicClock(state_of(Guest()))
        pollables = [await stream.subscribe(), await clock.subscribe_duration(20 * MS)]
        assert await io.poll(pollables) == [1]
        stream.on_drop()
        assert await io.poll(pollables) == [0, 1]
        os.close(writer)

    run(main())


def test_a_handler_has_no_input() -> None:
    async def main() -> None:
        state = state_of(Guest())
        assert await contents(await cli.Stdin(state).get_stdin()) == b""
        assert await cli.TerminalStdin(state).get_terminal_stdin() is None
        given = state_of(Guest(stdin=True))
        assert isinstance(await cli.Stdin(given).get_stdin(), StandardInput)

    run(main())


def test_terminals_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> list[Any]:
        state = state_of(Guest(stdin=True))
        return [
            await cli.TerminalStdin(state).get_terminal_stdin(),
            await cli.TerminalStdout().get_terminal_stdout(),
            await cli.TerminalStderr().get_terminal_stderr(),
        ]

    monkeypatch.setattr(os, "isatty", lambda descriptor: descriptor != 1)
    found = run(main())
    assert [type(each).__name__ for each in found] == ["TerminalInput", "NoneType", "TerminalOutput"]
