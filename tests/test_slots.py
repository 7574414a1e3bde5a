"""Slots: a guest finds its memory as if nobody had been there before, and reaches nothing beyond it."""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import random
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slight_py import modules, slots
from slight_py.engine import POOL, SLOTS, Engine, Instance, InvalidModule, Limits, Program, Trap
from tests import wat

PAGE = 64 << 10
PAGE_OF_HOST = mmap.PAGESIZE

KEEP, KEEP_ALL = 256 << 10, 64 << 20
"""How many bytes stay with a slot, and with all of them: see slight_py/_slots.c."""

LIMITS = Limits(memory=64 << 20, instances=4)

DATA = b"what it begins with"

FUNCTIONS = """
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
    (func (export "store") (param i32) (i32.store8 (local.get 0) (i32.const 1)))
    (func (export "far") (param i32) (result i32) (i32.load8_u offset=0xffffffff (local.get 0)))
"""


def guest(pages: int = 2) -> bytes:
    return wat.binary(f'(memory (export "memory") {pages}) {wat.data(100, DATA)} {FUNCTIONS}')


def guest_of(pages: int) -> bytes:
    """One without data, which has room in no memory."""
    return wat.binary(f'(memory (export "memory") {pages}) {FUNCTIONS}')


@pytest.fixture
def engine() -> Engine:
    """One whose slots nobody has used."""
    assert slots.native, "slight_py/_slots.c is not built: pip install --editable ."
    return Engine(LIMITS, with_slots=True)


def program(engine: Engine, wasm: bytes) -> Program:
    module = engine.compile(wasm)
    assert module.core.allocation == SLOTS
    return Program(engine, module, {})


async def call(instance: Instance, name: str, *args: int) -> int:
    export = instance._program.info.functions[name]
    return await instance.call(export, args)


def fresh(pages: int) -> bytes:
    memory = bytearray(pages * PAGE)
    memory[100 : 100 + len(DATA)] = DATA
    return bytes(memory)


async def use(program: Program, pages: int, work: Callable[[memoryview], None], grow: int = 0) -> None:
    """Has an instance do some work in its memory, which must be as new before. All is of one slot, the last used."""
    instance = await program.instantiate()
    try:
        assert bytes(instance.memory) == fresh(pages)
        if grow:
            assert await call(instance, "grow", grow) == pages
            assert not any(bytes(instance.memory[pages * PAGE :]))
        work(instance.memory)
    finally:
        instance.close()


def write(*ranges: tuple[int, int]) -> Callable[[memoryview], None]:
    def work(memory: memoryview) -> None:
        for start, end in ranges:
            memory[start:end] = b"\xaa" * (end - start)

    return work


def everywhere(memory: memoryview) -> None:
    memory[:] = b"\xaa" * len(memory)


def every_other_page(memory: memoryview) -> None:
    for at in range(0, len(memory), 8192):
        memory[at] = 0xAA


WORKS = {
    "nothing": lambda memory: None,
    "a byte": write((0, 1)),
    "the last byte": lambda memory: memory.__setitem__(-1, 0xAA),
    "its data": write((100, 120)),
    "less than is kept": write((4096, KEEP - 4096)),
    "more than is kept": everywhere,
    "more regions than one look finds": every_other_page,
}


@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS)
@pytest.mark.parametrize("grow", [0, 1, 40])
def test_the_next_guest_sees_nothing_of_the_last_one(
    engine: Engine, work: Callable[[memoryview], None], grow: int
) -> None:
    found = program(engine, guest(20))

    async def main() -> None:
        for _ in range(3):
            await use(found, 20, work, grow)

    wat.run(main())


def test_guests_of_all_sizes_that_write_anywhere_leave_nothing(engine: Engine) -> None:
    programs = {pages: program(engine, guest(pages)) for pages in (1, 2, 5, 17, 60)}
    chance = random.Random(1)

    def work(memory: memoryview) -> None:
        for _ in range(chance.choice((0, 1, 5, 100))):
            start = chance.randrange(len(memory))
            end = min(len(memory), start + chance.choice((1, 100, 5000, 300_000)))
            memory[start:end] = b"\xaa" * (end - start)

    async def main() -> None:
        for _ in range(400):
            pages = chance.choice(list(programs))
            await use(programs[pages], pages, work, chance.choice((0, 0, 1, 30)))

    wat.run(main(), 60)


def test_guests_beside_one_another_have_memories_of_their_own(engine: Engine) -> None:
    found = program(engine, guest())

    async def main() -> None:
        instances = [await found.instantiate() for _ in range(LIMITS.instances)]
        for number, instance in enumerate(instances, 1):
            instance.memory[:] = bytes([number]) * len(instance.memory)
        for number, instance in enumerate(instances, 1):
            assert set(instance.memory) == {number}
            instance.close()

    wat.run(main())


@pytest.mark.parametrize("at", [PAGE * 2, PAGE * 3 - 1, PAGE * 42 - 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("name", ["load", "store"])
def test_what_lies_behind_the_memory_is_out_of_reach_though_the_last_guest_had_it(
    engine: Engine, name: str, at: int
) -> None:
    found = program(engine, guest())

    async def main() -> None:
        await use(found, 2, everywhere, grow=40)
        instance = await found.instantiate()
        try:
            with pytest.raises(Trap, match="out of bounds memory access"):
                await call(instance, name, at)
        finally:
            instance.close()

    wat.run(main())


@pytest.mark.parametrize("at", [0, 1, PAGE, 2**31, 2**32 - 1])
def test_an_offset_that_passes_all_addresses_reaches_no_other_slot(engine: Engine, at: int) -> None:
    found = program(engine, guest())

    async def main() -> None:
        instances = [await found.instantiate() for _ in range(LIMITS.instances)]
        try:
            for instance in instances:
                with pytest.raises(Trap, match="out of bounds memory access"):
                    await call(instance, "far", at)
        finally:
            for instance in instances:
                instance.close()

    wat.run(main())


def test_a_memory_grows_to_its_limit_and_no_further(engine: Engine) -> None:
    found = program(engine, guest())
    most = LIMITS.memory // PAGE

    async def main() -> None:
        instance = await found.instantiate()
        try:
            assert await call(instance, "grow", most - 2) == 2
            assert len(instance.memory) == LIMITS.memory
            instance.memory[-1] = 1
            assert await call(instance, "grow", 1) == 2**32 - 1
            assert await call(instance, "grow", 2**32 - 1) == 2**32 - 1
        finally:
            instance.close()

    wat.run(main())


def test_a_slot_whose_guest_trapped_serves_the_next(engine: Engine) -> None:
    found = program(engine, guest())

    async def main() -> None:
        for _ in range(3 * LIMITS.instances):
            instance = await found.instantiate()
            try:
                everywhere(instance.memory)
                with pytest.raises(Trap):
                    await call(instance, "load", 2**31)
            finally:
                instance.close()
        await use(found, 2, everywhere)

    wat.run(main())


def test_a_memory_that_could_not_grow_has_grown_by_nothing() -> None:
    """The kernel opens memory mapping by mapping, and leaves open what it had opened when it fails amid that."""
    code = """
        import asyncio, resource
        from slight_py.engine import Engine, Limits, Trap
        from tests.test_slots import address, call, guest_of, program

        engine = Engine(Limits(memory=64 << 20, instances=3), with_slots=True)
        of = {pages: program(engine, guest_of(pages)) for pages in (0, 2, 20)}

        def use(instance):
            instance.memory[:] = b"x" * len(instance.memory)

        async def main():
            first, second = await of[2].instantiate(), await of[20].instantiate()
            slot = address(first)
            use(first), use(second)
            second.close()
            second = await of[0].instantiate()  # what it has no use for is one mapping with the end of the first slot
            assert await call(first, "grow", 38) == 2
            use(first)
            first.close()
            empty = await of[0].instantiate()
            used = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")][0]
            limits = resource.getrlimit(resource.RLIMIT_DATA)
            resource.setrlimit(resource.RLIMIT_DATA, (used * 1024 + 10 * 65536, limits[1]))
            grown = await call(empty, "grow", 60)
            resource.setrlimit(resource.RLIMIT_DATA, limits)
            assert grown == 2**32 - 1
            try:
                await call(empty, "store", 12345)
            except Trap:
                pass
            else:
                print("it wrote behind its memory")
            empty.close()
            after = await of[2].instantiate()
            assert address(after) == slot
            assert not any(after.memory)
            after.close()
            second.close()

        asyncio.run(main())
    """
    assert outside(code) == (0, "", "")


# What stays with the slots.


def address(instance: Instance) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(instance.memory))


def resident(start: int, size: int = LIMITS.memory) -> int:
    """Bytes of memory that this process has behind an address, whether it may use them or not.

    Documentation/admin-guide/mm/pagemap.rst: 64 bits a page, the highest of which says that it is there.
    """
    with open("/proc/self/pagemap", "rb") as pagemap:
        pagemap.seek(start // PAGE_OF_HOST * 8)
        entries = pagemap.read(size // PAGE_OF_HOST * 8)
    return sum(entry >> 63 for (entry,) in struct.iter_unpack("<Q", entries)) * PAGE_OF_HOST


def test_what_a_guest_had_goes_back_to_the_system_but_for_a_little(engine: Engine) -> None:
    found = program(engine, guest(512))

    async def main() -> None:
        for _ in range(3):
            instance = await found.instantiate()
            everywhere(instance.memory)
            slot = address(instance)
            assert resident(slot) == 512 * PAGE
            instance.close()
            assert resident(slot) <= KEEP

    wat.run(main())


def test_guests_of_ever_smaller_memories_hoard_nothing(engine: Engine) -> None:
    """Each writes at the end of a memory that reaches less far than the last one's."""
    pages = range(900, 3, -40)
    programs = [program(engine, guest(each)) for each in pages]

    async def main() -> None:
        used = set()
        for each, found in zip(pages, programs, strict=True):
            instance = await found.instantiate()
            write(((each - 3) * PAGE, each * PAGE))(instance.memory)
            used.add(address(instance))
            instance.close()
        (slot,) = used
        assert resident(slot) <= KEEP

    wat.run(main())


@pytest.mark.parametrize("step", [4096, 4 << 20])
@pytest.mark.parametrize("writes", [False, True])
def test_a_guest_that_touches_much_makes_nothing_slower_for_those_that_come_after(
    engine: Engine, writes: bool, step: int
) -> None:
    large, small = program(engine, guest(1000)), program(engine, guest(1))

    async def small_ones() -> float:
        best = 1.0
        for _ in range(20):
            began = time.perf_counter()
            for _ in range(10):
                (await small.instantiate()).close()
            best = min(best, time.perf_counter() - began)
        return best / 10

    async def main() -> None:
        before = await small_ones()
        instance = await large.instantiate()
        for at in range(0, len(instance.memory), step):
            if writes:
                instance.memory[at] = 1
            else:
                assert instance.memory[at] == 0
        instance.close()
        assert await small_ones() - before < 100e-6

    wat.run(main())


def test_all_slots_together_keep_no_more_than_their_share() -> None:
    count = 300
    engine = Engine(Limits(memory=1 << 20, instances=count), with_slots=True)
    found = program(engine, guest(4))

    async def main() -> None:
        instances = [await found.instantiate() for _ in range(count)]
        used = [address(instance) for instance in instances]
        for instance in instances:
            everywhere(instance.memory)
        assert sum(resident(each, 1 << 20) for each in used) == count * 4 * PAGE
        for instance in instances:
            instance.close()
        assert sum(resident(each, 1 << 20) for each in used) <= KEEP_ALL
        await use(found, 4, everywhere)

    wat.run(main())


# Where the kernel doesn't say which pages hold something.


def test_a_process_after_a_fork_does_without_the_map_of_its_parents_pages() -> None:
    code = """
        import asyncio, os
        from slight_py.engine import Engine, Limits, Program
        from tests.test_slots import FUNCTIONS, everywhere, guest, program, use

        engine = Engine(Limits(memory=64 << 20, instances=4), with_slots=True)
        found = program(engine, guest(20))

        async def main():
            for grow in (0, 3, 0):
                await use(found, 20, everywhere, grow)

        asyncio.run(main())
        child = os.fork()
        if child == 0:
            try:
                asyncio.run(main())
            except BaseException as error:
                print(error, flush=True)
                os._exit(1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        asyncio.run(main())
    """
    assert outside(code) == (0, "", "")


def outside(code: str) -> tuple[int, str, str]:
    """What a process of its own says of Python code."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


# Which modules they are for.


def allocation(fields: str, limits: Limits = LIMITS) -> bytes:
    return Engine(limits, with_slots=True).compile(wat.binary(fields)).core.allocation


def functions(count: int) -> str:
    return " ".join(["(func)"] * count)


SUITABLE = {
    "nothing": "",
    "as much data as may be": f"(memory 3) {wat.data(0, bytes(slots.MAX_DATA - 100))}",
    "a table": "(table 100 funcref)",
    "many functions": functions(slots.MAX_DEFINITIONS),
    "the largest memory": f"(memory {LIMITS.memory // PAGE})",
}
UNSUITABLE = {
    "much data": f"(memory 3) {wat.data(0, bytes(slots.MAX_DATA))}",
    "too many functions": functions(slots.MAX_DEFINITIONS + 1),
}


@pytest.mark.parametrize("fields", SUITABLE.values(), ids=SUITABLE)
def test_usual_modules_are_for_slots(fields: str) -> None:
    assert allocation(fields) == SLOTS


@pytest.mark.parametrize("fields", UNSUITABLE.values(), ids=UNSUITABLE)
def test_others_are_for_the_pool(fields: str) -> None:
    assert allocation(fields) == POOL


PAST_THE_LIMITS = {
    "two tables": "(table 1 funcref) (table 1 funcref)",
    "a table that is too long": f"(table {LIMITS.table_elements + 1} funcref)",
    "a memory that is too large": f"(memory {LIMITS.memory // PAGE + 1})",
    "two memories": "(memory 1) (memory 1)",
}


@pytest.mark.parametrize("fields", PAST_THE_LIMITS.values(), ids=PAST_THE_LIMITS)
def test_a_module_past_the_limits_is_refused_before_it_runs(fields: str) -> None:
    with pytest.raises(InvalidModule, match=r"pooling allocator|multiple memories"):
        allocation(fields)


@pytest.mark.parametrize("wasm", [b"", b"\0asm", b"\0asm\1\0\0\0\x0b", b"\0asm\1\0\0\0\x05\xff\xff\xff\xff\xff\xff"])
def test_bytes_that_are_no_module_are_left_to_wasmtime(wasm: bytes) -> None:
    assert slots.suits(wasm[:8], LIMITS.memory, LIMITS.table_elements)
    with pytest.raises(InvalidModule):
        Engine(LIMITS, with_slots=True).compile(wasm)


def test_every_beginning_of_a_module_is_read_without_a_failure() -> None:
    wasm = guest()
    for end in range(len(wasm)):
        slots.suits(wasm[:end], LIMITS.memory, LIMITS.table_elements)


# Compiled modules.


def test_a_compiled_module_says_where_its_instances_have_their_memory(engine: Engine) -> None:
    without = Engine(LIMITS, with_slots=False)
    for compiler, allocation in ((engine, SLOTS), (without, POOL)):
        compiled = compiler.compile(guest()).serialize()
        for loader in (engine, without):
            assert loader.load(compiled).core.allocation == allocation


@pytest.mark.parametrize("compiled", [b"", b"S", b"P", b"X", b"Snothing", b"\x7fELF"])
def test_bytes_that_are_no_compiled_module_are_refused(engine: Engine, compiled: bytes) -> None:
    with pytest.raises(InvalidModule):
        engine.load(compiled)


def test_without_c_modules_are_for_the_pool_and_those_for_slots_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    app = tmp_path / "app.wasm"
    app.write_bytes(guest())
    made = Engine(LIMITS, with_slots=True)
    compiled = modules.load(made, app).serialize()
    assert compiled[:1] == SLOTS
    monkeypatch.setattr(slots, "native", False)
    with pytest.raises(InvalidModule, match=r"_slots\.c is not built"):
        made.load(compiled)
    assert modules.load(Engine(LIMITS, with_slots=False), app).core.allocation == POOL


def test_as_many_instances_as_the_limits_say_and_the_next_one_is_told_so(engine: Engine) -> None:
    found = program(engine, guest())

    async def main() -> None:
        instances = [await found.instantiate() for _ in range(LIMITS.instances)]
        with pytest.raises(Trap, match="all 4 instances are in use"):
            await found.instantiate()
        for instance in instances:
            instance.close()
        await use(found, 2, everywhere)

    wat.run(main())


def test_modules_without_a_memory_and_of_the_pool_count_as_well(engine: Engine) -> None:
    kinds = "(table 100 funcref)", UNSUITABLE["much data"]
    programs = [Program(engine, engine.compile(wat.binary(fields)), {}) for fields in kinds]

    async def main() -> None:
        instances = [await programs[number % 2].instantiate() for number in range(LIMITS.instances)]
        for each in programs:
            with pytest.raises(Trap, match="all 4 instances are in use"):
                await each.instantiate()
        for instance in instances:
            instance.close()
            instance.close()
        (await programs[0].instantiate()).close()

    wat.run(main())


def test_a_module_of_the_other_kind_is_refused_where_there_is_no_room_for_it() -> None:
    code = """
        import resource
        from slight_py.engine import Engine, InvalidModule, Limits
        from tests.test_slots import UNSUITABLE, guest
        from tests import wat

        limits = Limits(memory=1 << 20, instances=16)
        used = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize")][0]
        most = used * 1024 + int(16 * 4.2 * 2**30) + (2 << 30)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        engine = Engine(limits, with_slots=True)
        engine.compile(guest())
        try:
            engine.compile(wat.binary(UNSUITABLE["much data"]))
        except InvalidModule as error:
            assert "ulimit -v" in str(error)
        else:
            print("it was taken")
    """
    assert outside(code) == (0, "", "")


def test_a_function_without_end_in_a_slot_gives_others_their_turn(engine: Engine) -> None:
    found = program(engine, wat.binary(f'(func (export "compute") {wat.FOREVER}) (memory (export "memory") 1)'))

    async def main() -> None:
        instance = await found.instantiate()
        endless = asyncio.create_task(call(instance, "compute"))
        await asyncio.sleep(0.05)
        assert not endless.done()
        endless.cancel()
        await asyncio.gather(endless, return_exceptions=True)
        instance.close()

    wat.run(main())


def test_a_guest_that_recurses_without_end_runs_out_of_stack_and_no_further(engine: Engine) -> None:
    found = program(engine, wat.binary('(func $f (export "f") (call $f)) (memory (export "memory") 1)'))

    async def main() -> None:
        for _ in range(3 * LIMITS.instances):
            instance = await found.instantiate()
            with pytest.raises(Trap, match="call stack exhausted"):
                await call(instance, "f")
            instance.close()

    wat.run(main())
