"""The engine: guests as coroutines, their ends, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import gc
import resource
import threading
import time
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bindgen.runtime import GuestFault, Import, Lower
from slight_py import engine
from slight_py.engine import Engine, Instance, InvalidModule, Limits, Program, Trap
from tests import wat

FEW = Limits(memory=1 << 20, instances=8)


@pytest.fixture(autouse=True, params=wat.STORES)
def _store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    wat.use_store(request.param, monkeypatch)


class Host:
    """What answers a guest's imports in these tests."""

    def __init__(self) -> None:
        self.waiting = 0
        self.gone = 0
        self.go = asyncio.Event()

    async def wait(self) -> None:
        self.waiting += 1
        try:
            await self.go.wait()
        finally:
            self.gone += 1


async def _wait(host: Host, guest: Instance, args: tuple[Any, ...]) -> None:
    await host.wait()


async def _text(host: Host, guest: Instance, args: tuple[Any, ...]) -> None:
    """Has the guest allocate memory while it waits."""
    lower = Lower(guest, "test: text")
    lower.bytes(b"text")
    await guest.allocate(lower)


async def _fail(host: Host, guest: Instance, args: tuple[Any, ...]) -> None:
    raise ZeroDivisionError("a bug of the host")


async def _late(host: Host, guest: Instance, args: tuple[Any, ...]) -> None:
    await host.wait()
    await _text(host, guest, args)


async def _at_once(host: Host, guest: Instance, args: tuple[Any, ...]) -> None:
    pass


GUEST = f"""
(import "test" "wait" (func $wait))
(import "test" "text" (func $text))
(import "test" "fail" (func $fail))
(import "test" "late" (func $late))
(import "test" "at-once" (func $at-once))
{wat.MEMORY}
(global $evil (mut i32) (i32.const 0))
(func (export "canonical_abi_realloc") (param i32 i32 i32 i32) (result i32)
  (if (global.get $evil) (then {wat.FOREVER}))
  (i32.const 1024))
(func (export "compute") {wat.FOREVER})
(func (export "wait") (call $wait))
(func (export "text") (call $text))
(func (export "text-for-ever") (global.set $evil (i32.const 1)) (call $text))
(func (export "turn-evil") (global.set $evil (i32.const 1)))
(func (export "trap") (unreachable))
(func (export "fail") (call $fail))
(func (export "late") (call $late))
(func (export "ask-for-ever") (loop $forever (call $at-once) (br $forever)))
(func (export "answer") (result i32) (i32.const 42))
"""

STARTS_FOR_EVER = f"{wat.MEMORY} (func $start {wat.FOREVER}) (start $start)"


def imports(host: Host) -> dict[tuple[str, str], tuple[Import, Any]]:
    calls = {"wait": _wait, "text": _text, "fail": _fail, "late": _late, "at-once": _at_once}
    return {("test", name): (Import("test", name, "", "", call), host) for name, call in calls.items()}


def guest(host: Host, limits: Limits = wat.LIMITS, fields: str = GUEST) -> Program:
    return wat.program(wat.binary(fields), imports(host), limits)


async def use(program: Program, name: str) -> Any:
    """Calls an export of a fresh instance."""
    instance = await program.instantiate()
    try:
        return await instance.call(program.info.functions[name], ())
    finally:
        instance.close()


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def reserved() -> int:
    """Bytes of address space that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * 4096


# Many at once.


def test_a_thousand_guests_wait_at_once_on_one_thread() -> None:
    async def main() -> None:
        host = Host()
        program = guest(host, Limits())
        before = {each for each in threading.enumerate() if each.name != "epoch"}
        tasks = [asyncio.create_task(use(program, "wait")) for _ in range(1000)]
        await wat.until(lambda: host.waiting == 1000)
        # One that another test has left may end meanwhile.
        assert {each for each in threading.enumerate() if each.name != "epoch"} <= before
        host.go.set()
        assert await asyncio.gather(*tasks) == [None] * 1000

    wat.run(main())


def test_a_guest_too_many_is_told_so_and_harms_no_other() -> None:
    async def main() -> None:
        host = Host()
        program = guest(host, FEW)
        tasks = [asyncio.create_task(use(program, "wait")) for _ in range(8)]
        await wat.until(lambda: host.waiting == 8)
        with pytest.raises(Trap, match="all 8 instances are in use"):
            await use(program, "answer")
        host.go.set()
        assert await asyncio.gather(*tasks) == [None] * 8
        assert await use(program, "answer") == 42

    wat.run(main())


def test_however_many_guests_compute_one_of_them_has_its_turn_in_a_round_of_the_loop() -> None:
    async def main() -> float:
        program = guest(Host())
        tasks = [asyncio.create_task(use(program, "compute")) for _ in range(30)]
        await asyncio.sleep(0.2)
        began = time.perf_counter()
        for _ in range(20):
            await asyncio.sleep(0)
        took = time.perf_counter() - began
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return took

    # 20 turns of 2 ms; if all 30 had theirs in every round, it would be 600.
    assert wat.run(main()) < 15 * 20 * engine.TICK


def test_a_guest_that_waited_for_long_does_not_wait_for_its_turn_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = 0
    turn = Engine.turn

    async def counted(self: Engine) -> None:
        nonlocal turns
        turns += 1
        await turn(self)

    monkeypatch.setattr(Engine, "turn", counted)

    async def main() -> None:
        host = Host()
        program = guest(host)
        tasks = [asyncio.create_task(use(program, "late")) for _ in range(30)]
        await wat.until(lambda: host.waiting == 30)
        await asyncio.sleep(20 * engine.TICK)
        host.go.set()
        await asyncio.gather(*tasks)

    wat.run(main())
    assert turns < 10  # of those that were under way at a tick


def test_a_guest_that_is_answered_at_once_gives_others_their_turn() -> None:
    async def main() -> None:
        program = guest(Host())
        endless = asyncio.create_task(use(program, "ask-for-ever"))
        began = time.monotonic()
        for _ in range(10):
            await asyncio.sleep(0.001)
        assert time.monotonic() - began < 1
        assert not endless.done()
        endless.cancel()
        await asyncio.gather(endless, return_exceptions=True)

    wat.run(main())


def test_guests_that_compute_have_as_many_turns_each() -> None:
    count = '(global $count (export "count") (mut i32) (i32.const 0))'
    forever = "(loop $l (global.set $count (i32.add (global.get $count) (i32.const 1))) (br $l))"
    fields = f"""{wat.MEMORY} {count}
    (func (export "compute") {forever})
    (func (export "counted") (result i32) (global.get $count))"""

    async def main() -> list[int]:
        program = guest(Host(), fields=fields)
        functions = program.info.functions
        instances = [await program.instantiate() for _ in range(5)]
        tasks = [asyncio.create_task(each.call(functions["compute"], ())) for each in instances]
        await asyncio.sleep(0.5)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        counts = [await each.call(functions["counted"], ()) for each in instances]
        for each in instances:
            each.close()
        return counts

    counts = wat.run(main())
    assert min(counts) * 4 > max(counts)


# Ends.


async def _cancelled_in_start(host: Host) -> None:
    await guest(host, FEW, STARTS_FOR_EVER).instantiate()


async def _cancelled_in_top_allocate(host: Host) -> None:
    program = guest(host, FEW)
    instance = await program.instantiate()
    try:
        await instance.call(program.info.functions["turn-evil"], ())
        lower = Lower(instance, "test: argument")
        lower.bytes(b"text")
        await instance.allocate(lower)
    finally:
        instance.close()


def _cancelled_in(name: str) -> Callable[[Host], Awaitable[None]]:
    async def using(host: Host) -> None:
        await use(guest(host, FEW), name)

    return using


STATES: dict[str, Callable[[Host], Awaitable[None]]] = {
    "starting": _cancelled_in_start,
    "computing": _cancelled_in("compute"),
    "waiting-for-an-import": _cancelled_in("wait"),
    "asked-for-memory": _cancelled_in_top_allocate,
    "asked-for-memory-by-an-import": _cancelled_in("text-for-ever"),
}


@pytest.mark.parametrize("using", STATES.values(), ids=STATES)
def test_a_guest_can_be_cancelled_and_its_place_is_free(using: Callable[[Host], Awaitable[None]]) -> None:
    async def main() -> None:
        host = Host()
        for delay in (0, 0.001, 0.003, 0.005, 0.01):
            tasks = [asyncio.ensure_future(using(host)) for _ in range(FEW.instances)]
            await asyncio.sleep(delay)
            assert not any(task.done() for task in tasks)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert all(task.cancelled() for task in tasks)
            assert not engine._instances
        assert host.gone == host.waiting
        program = guest(host, FEW)
        assert await asyncio.gather(*(use(program, "answer") for _ in range(FEW.instances))) == [42] * FEW.instances

    wat.run(main())


def test_nothing_is_left_of_thousands_of_guests_however_they_end() -> None:
    async def main() -> None:
        host = Host()
        program = guest(host, FEW)

        async def some_of_each() -> None:
            waiting = [asyncio.create_task(use(program, "wait")) for _ in range(4)]
            for name, error in (("answer", None), ("text", None), ("trap", Trap), ("fail", ZeroDivisionError)):
                if error is None:
                    await use(program, name)
                else:
                    with pytest.raises(error):
                        await use(program, name)
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)

        for _ in range(20):
            await some_of_each()
        gc.collect()
        before = resident()
        for _ in range(1000):
            await some_of_each()
        assert not engine._instances
        gc.collect()
        assert resident() - before < 16 << 20

    wat.run(main(), 20)


BLOCKS = ("one", "two", "three")

ALLOCATES = f"""
(import "test" "at-once" (func $at-once))
(import "test" "patient" (func $patient))
{wat.MEMORY}
(global $how (mut i32) (i32.const 0))
(func (export "canonical_abi_realloc") (param i32 i32 i32 i32) (result i32)
  (if (i32.eq (global.get $how) (i32.const 1)) (then (call $at-once)))
  (if (i32.eq (global.get $how) (i32.const 2)) (then {wat.FOREVER}))
  (i32.const 1024))
(func (export "refused") (global.set $how (i32.const 1)))
(func (export "endless") (global.set $how (i32.const 2)))
(func (export "patient") (result i32) (global.set $how (i32.const 2)) (call $patient) (i32.const 7))
"""
"""A guest that allocates well, or with an import, or for ever."""


async def _allocate(guest: Instance) -> None:
    lower = Lower(guest, "test: allocate")
    for text in BLOCKS:
        lower.string(text)
    await guest.allocate(lower)


async def _patient(host: Host, guest: Instance, args: tuple[Any, ...]) -> None:
    """Gives up when the guest takes too long, and answers all the same."""
    with suppress(TimeoutError):
        async with asyncio.timeout(0.02):
            await _allocate(guest)


def allocating() -> Program:
    calls = {"at-once": _at_once, "patient": _patient}
    imports = {("test", name): (Import("test", name, "", "", call), Host()) for name, call in calls.items()}
    return wat.program(wat.binary(ALLOCATES), imports)


def test_a_host_may_give_up_a_call_into_the_guest_and_the_guest_goes_on() -> None:
    async def main() -> None:
        program = allocating()
        assert await use(program, "patient") == 7

    wat.run(main())


def test_guests_that_fail_while_they_allocate_leave_nothing() -> None:
    async def main() -> None:
        program = allocating()

        async def fail(how: str) -> None:
            instance = await program.instantiate()
            await instance.call(program.info.functions[how], ())
            task = asyncio.create_task(_allocate(instance))
            await asyncio.sleep(0)
            task.cancel()
            with suppress(GuestFault, asyncio.CancelledError):
                await task
            instance.close()

        async def some(count: int) -> int:
            for _ in range(count):
                await fail("refused")
            for _ in range(count // 20):
                await fail("endless")
            gc.collect()
            return resident()

        before = await some(500)
        assert await some(4000) - before < 3 << 20

    wat.run(main(), 60)


def test_code_in_a_straight_line_gives_others_their_turn_between_its_imports() -> None:
    """It never comes to where the engine's clock is looked at."""

    async def slow(host: Host, guest: Instance, args: tuple[Any, ...]) -> None:
        time.sleep(0.001)  # noqa: ASYNC251  # as a host that copies much

    async def main() -> None:
        calls = "(call $slow)" * 1000
        fields = f'(import "test" "slow" (func $slow)) {wat.MEMORY} (func (export "line") {calls})'
        program = wat.program(wat.binary(fields), {("test", "slow"): (Import("test", "slow", "", "", slow), Host())})
        line = asyncio.create_task(use(program, "line"))
        longest = 0.0
        while not line.done():
            began = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - began)
        await line
        assert longest < 0.2

    wat.run(main())


def test_what_an_import_raises_is_raised_to_the_caller_with_where_it_was() -> None:
    async def main() -> None:
        program = guest(Host())
        with pytest.raises(ZeroDivisionError, match="a bug of the host") as error:
            await use(program, "fail")
        assert traceback.extract_tb(error.tb)[-1].name == "_fail"
        assert await use(program, "answer") == 42

    wat.run(main())


def test_a_trap_says_why_and_where() -> None:
    fields = f'{wat.MEMORY} (func $inner (unreachable)) (func (export "outer") (call $inner))'

    async def main() -> None:
        with pytest.raises(Trap) as trap:
            await use(guest(Host(), fields=fields), "outer")
        assert str(trap.value) == "wasm trap: wasm `unreachable` instruction executed"
        assert "inner" in trap.value.backtrace

    wat.run(main())


def nested(catching: type[Exception]) -> Program:
    """A guest whose import calls it again, which traps, and catches what that raises."""
    fields = f"""
    (import "test" "again" (func $again))
    {wat.MEMORY}
    (func (export "inner") (unreachable))
    (func (export "outer") (call $again))
    """

    async def again(_: None, guest: Instance, args: tuple[Any, ...]) -> None:
        with suppress(catching):
            await guest.call(program.info.functions["inner"], ())

    program = wat.program(wat.binary(fields), {("test", "again"): (Import("test", "again", "", "", again), None)})
    return program


@pytest.mark.parametrize("catching", [Trap, KeyError])
def test_a_guest_that_trapped_stays_ended_though_an_import_goes_on(catching: type[Exception]) -> None:
    async def main() -> None:
        program = nested(catching)
        instance = await program.instantiate()
        for name in ("outer", "outer", "inner"):
            with pytest.raises(Trap, match="unreachable"):
                await instance.call(program.info.functions[name], ())
        instance.close()

    wat.run(main())


def test_a_guest_that_is_closed_cannot_be_called() -> None:
    async def main() -> None:
        program = guest(Host())
        instance = await program.instantiate()
        instance.close()
        instance.close()
        with pytest.raises(RuntimeError, match="the instance is closed"):
            await instance.call(program.info.functions["answer"], ())
        with pytest.raises(GuestFault):
            _ = instance.memory

    wat.run(main())


def test_calls_may_be_nested_and_each_has_its_own_result() -> None:
    fields = f"""
    (import "test" "more" (func $more (param i32) (result i32)))
    {wat.MEMORY}
    (func (export "sum") (param $n i32) (result i32)
      (if (result i32) (local.get $n)
        (then (i32.add (local.get $n) (call $more (i32.sub (local.get $n) (i32.const 1)))))
        (else (i32.const 0))))
    """

    async def more(_: None, guest: Instance, args: tuple[int]) -> Any:
        await asyncio.sleep(0)
        return await guest.call(program.info.functions["sum"], args)

    program = wat.program(wat.binary(fields), {("test", "more"): (Import("test", "more", "i", "i", more), None)})

    async def main() -> None:
        instance = await program.instantiate()
        assert await instance.call(program.info.functions["sum"], (15,)) == 120
        with pytest.raises(GuestFault, match="nested 16 deep"):
            await instance.call(program.info.functions["sum"], (16,))
        instance.close()

    wat.run(main())


VALUES = (0, 1, 0x7FFF_FFFF, 0xFFFF_FFFF), (0, 1, 1 << 63, (1 << 64) - 1), (0.0, -1.5, 1e300)


def test_values_of_every_type_pass_both_ways() -> None:
    types = {"i": "i32", "I": "i64", "f": "f32", "d": "f64"}
    echoes = "\n".join(f'(import "test" "{n}" (func ${n} (param {t}) (result {t})))' for n, t in types.items())
    exports = "\n".join(
        f'(func (export "{n}") (param {t}) (result {t}) (call ${n} (local.get 0)))' for n, t in types.items()
    )
    seen: list[Any] = []

    async def echo(_: None, guest: Instance, args: tuple[Any]) -> Any:
        seen.append(args[0])
        return args[0]

    links = {("test", each): (Import("test", each, each, each, echo), None) for each in types}

    async def main() -> None:
        program = wat.program(wat.binary(f"{echoes} {wat.MEMORY} {exports}"), links)
        instance = await program.instantiate()
        for name, values in zip("iId", VALUES, strict=True):
            for value in values:
                assert await instance.call(program.info.functions[name], (value,)) == value
                assert seen.pop() == value
        assert await instance.call(program.info.functions["f"], (0.5,)) == 0.5
        instance.close()

    wat.run(main())


def test_a_module_that_wants_wasi_and_is_given_none_finds_nothing() -> None:
    fields = f"""
    (import "wasi_snapshot_preview1" "args_sizes_get" (func $args (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
    {wat.MEMORY}
    (func (export "args") (result i32) (drop (call $args (i32.const 0) (i32.const 4))) (i32.load (i32.const 0)))
    (func (export "directory") (result i32) (call $prestat (i32.const 3) (i32.const 0)))
    """

    async def main() -> None:
        program = wat.program(wat.binary(fields))
        assert await use(program, "args") == 0
        assert await use(program, "directory") == 8  # EBADF

    wat.run(main())


# Room.


def test_an_engine_is_released_with_what_was_made_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine._Ticker, "LINGER", 0.01)
    before = reserved()

    def make() -> int:
        made = Engine(Limits(instances=16))
        program = Program(made, made.compile(wat.binary(GUEST)), imports(Host()))
        assert asyncio.run(use(program, "answer")) == 42
        return reserved()

    assert make() - before > 16 * (4 << 30)
    deadline = time.monotonic() + 5
    while reserved() - before > 1 << 30:
        assert time.monotonic() < deadline
        gc.collect()
        time.sleep(0.01)


def test_more_instances_than_the_system_has_mappings_for_are_refused() -> None:
    with pytest.raises(InvalidModule, match=r"vm\.max_map_count"):
        Engine(Limits(instances=10_000_000))


def test_more_instances_than_there_is_address_space_for_are_refused() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (reserved() + (64 << 30), hard))
    try:
        with pytest.raises(InvalidModule, match="ulimit -v"):
            Engine(Limits(instances=1000))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
