"""The function service, between two sockets: its protocol, and modules that mean harm."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from slight_py.compilation import CompileLimits
from slight_py.engine import Limits
from tests.wat import FOREVER, binary, engine, many_functions, run
from unikernel.guest import service

USUAL = CompileLimits()

LIMITS = Limits(memory=4 << 20, instances=4)

BUFFER = 1024

MEMORY = '(memory (export "memory") 1)'

ROOM = 65536 - BUFFER


def module(process: str, *fields: str, pointer: str = f"(i32.const {BUFFER})", memory: str = MEMORY) -> bytes:
    """A module whose `process_data` does what `process` says, with the length in the local $n."""
    return binary(
        "\n".join(
            (
                *(field for field in fields if field.startswith("(import")),
                memory,
                f'(func (export "get_buffer_ptr") (result i32) {pointer})',
                f'(func (export "process_data") (param $n i32) (result i32) {process})',
                *(field for field in fields if not field.startswith("(import")),
            )
        )
    )


UPPER = module(
    f"""
    (local $at i32)
    (block $end (loop $next
      (br_if $end (i32.ge_u (local.get $at) (local.get $n)))
      (i32.store8 offset={BUFFER} (local.get $at)
        (i32.and (i32.const 0xdf) (i32.load8_u offset={BUFFER} (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $next)))
    (local.get $n)"""
)

ECHO = module("(local.get $n)")

COUNT = module(
    f"""
    (if (i32.eq (i32.load8_u (i32.const {BUFFER})) (i32.const 33)) (then (unreachable)))
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (i32.store8 (i32.const {BUFFER}) (i32.add (i32.const 48) (global.get $count)))
    (i32.const 1)""",
    "(global $count (mut i32) (i32.const 0))",
)
"""Answers with the number of the job, as a digit; traps at `!`."""


class Client:
    """What a client does, in as many lines as it takes."""

    def __init__(self, command: socket.socket, data: socket.socket) -> None:
        self.command, self.data = command, data
        self._loop = asyncio.get_running_loop()
        for each in (command, data):
            each.setblocking(False)

    async def say(self, content: bytes) -> None:
        await self._loop.sock_sendall(self.command, content)

    async def line(self) -> str:
        line = b""
        while not line.endswith(b"\n"):
            received = await self._loop.sock_recv(self.command, 1)
            assert received, "the service has gone"
            line += received
        return line.decode().rstrip("\n")

    async def module(self, wasm: bytes) -> str:
        await self.say(b"MODULE %d\n" % len(wasm) + wasm)
        return await self.line()

    async def job(self, content: bytes) -> bytes | str:
        """The result, or the answer where it is an error."""
        await self.say(b"JOB %d\n" % len(content))
        sending = asyncio.create_task(self._loop.sock_sendall(self.data, content))
        answer = await self.line()
        await sending
        word, _, size = answer.partition(" ")
        return await self.receive(int(size)) if word == "DONE" else answer

    async def receive(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            found += await self._loop.sock_recv(self.data, size - len(found))
        return found


@asynccontextmanager
async def connected(time_limit: float = 5.0, limits: CompileLimits = USUAL) -> AsyncIterator[Client]:
    (command, its_command), (data, its_data) = socket.socketpair(), socket.socketpair()
    settings = service.Settings(engine(LIMITS), time_limit, lambda: limits)
    serving = service.serve(its_command.fileno(), its_data.fileno(), settings)
    task = asyncio.create_task(serving)
    try:
        yield Client(command, data)
    finally:
        command.close()
        data.close()
        await task
        its_command.close()
        its_data.close()


def with_client(
    talk: Callable[[Client], Awaitable[None]], time_limit: float = 5.0, limits: CompileLimits = USUAL
) -> None:
    """Runs a conversation, after which the service must have ended and let go of every instance."""

    async def main() -> None:
        async with connected(time_limit, limits) as client:
            await talk(client)

    run(main(), 30)


def test_a_module_is_ready_with_the_room_from_its_buffer_to_the_end_of_its_memory() -> None:
    async def talk(client: Client) -> None:
        assert await client.module(UPPER) == f"READY {ROOM}"
        assert await client.job(b"hello") == b"HELLO"
        assert await client.job(b"") == b""
        assert await client.job(b"a" * ROOM) == b"A" * ROOM

    with_client(talk)


def test_a_module_may_say_how_long_its_buffer_is() -> None:
    wasm = module("(local.get $n)", '(func (export "get_buffer_size") (result i32) (i32.const 10))')

    async def talk(client: Client) -> None:
        assert await client.module(wasm) == "READY 10"
        assert await client.job(b"0123456789") == b"0123456789"
        assert await client.job(b"0123456789a") == "ERROR 11 bytes don't fit into the module's buffer of 10"

    with_client(talk)


def test_a_payload_that_is_too_large_is_refused_and_the_channels_live_on() -> None:
    async def talk(client: Client) -> None:
        await client.module(UPPER)
        size = 5 << 20
        assert await client.job(b"a" * size) == f"ERROR {size} bytes don't fit into the module's buffer of {ROOM}"
        assert await client.job(b"on") == b"ON"

    with_client(talk)


def test_a_job_before_there_is_a_module_is_refused_with_its_payload() -> None:
    async def talk(client: Client) -> None:
        assert await client.job(b"lost") == "ERROR there is no module yet"
        await client.module(UPPER)
        assert await client.job(b"kept") == b"KEPT"

    with_client(talk)


def test_a_new_module_takes_the_place_of_the_old_one() -> None:
    async def talk(client: Client) -> None:
        for _ in range(3 * LIMITS.instances):
            assert (await client.module(UPPER)).startswith("READY")
            assert await client.job(b"one") == b"ONE"
            assert (await client.module(ECHO)).startswith("READY")
            assert await client.job(b"one") == b"one"

    with_client(talk)


def test_an_instance_keeps_its_state_until_it_traps() -> None:
    async def talk(client: Client) -> None:
        await client.module(COUNT)
        assert [await client.job(b" ") for _ in range(3)] == [b"1", b"2", b"3"]
        answer = await client.job(b"!")
        assert isinstance(answer, str)
        assert answer.startswith("ERROR the module trapped: wasm trap: wasm `unreachable`")
        assert [await client.job(b" ") for _ in range(2)] == [b"1", b"2"]

    with_client(talk)


def test_a_job_that_takes_too_long_is_ended() -> None:
    wasm = module(f"(if (i32.eqz (local.get $n)) (then {FOREVER})) (local.get $n)")

    async def talk(client: Client) -> None:
        await client.module(wasm)
        assert await client.job(b"") == "ERROR the module took more than 0.2 seconds"
        assert await client.job(b"on") == b"on"

    with_client(talk, 0.2)


@pytest.mark.parametrize(
    ("wasm", "words"),
    [
        (b"", "can't be used"),
        (b"\0asm\1\0\0\0\xff\xff", "can't be used"),
        (binary(""), "does not export get_buffer_ptr() -> i32"),
        (
            binary(f'{MEMORY} (func (export "get_buffer_ptr") (result i64) i64.const 0)'),
            "does not export get_buffer_ptr",
        ),
        (
            binary('(func (export "get_buffer_ptr") (result i32) i32.const 0)'),
            "does not export process_data(i32) -> i32",
        ),
        (module("(i32.const 0)", memory="(memory 1)"), "does not export its memory"),
        (module("(i32.const 0)", '(import "env" "f" (func))'), "can't be used"),
        (module("(i32.const 0)", '(import "env" "f" (func (param v128)))'), "env::f (v128)"),
        (module("(i32.const 0)", "(func $s unreachable) (start $s)"), "trapped"),
        (module("(i32.const 0)", f"(func $s {FOREVER}) (start $s)"), "took more than 0.5 seconds"),
        (module("(i32.const 0)", memory='(memory (export "memory") 65)'), "can't be"),
        (module("(i32.const 0)", pointer="(i32.const -1)"), "get_buffer_ptr returned -1"),
        (module("(i32.const 0)", pointer="(i32.const 65537)"), "get_buffer_ptr returned 65537"),
        (module("(i32.const 0)", pointer="unreachable"), "trapped"),
        (
            module("(i32.const 0)", '(func (export "get_buffer_size") (result i32) (i32.const -5))'),
            "get_buffer_size returned -5",
        ),
        (
            module("(i32.const 0)", f'(func (export "get_buffer_size") (result i32) (i32.const {ROOM + 1}))'),
            f"get_buffer_size returned {ROOM + 1}",
        ),
    ],
)
def test_a_module_that_cant_be_used_is_refused_and_the_next_one_is_taken(wasm: bytes, words: str) -> None:
    async def talk(client: Client) -> None:
        answer = await client.module(wasm)
        assert answer.startswith("ERROR ")
        assert words in answer
        assert await client.job(b"x") == "ERROR there is no module yet"
        assert await client.module(UPPER) == f"READY {ROOM}"
        assert await client.job(b"on") == b"ON"

    with_client(talk, 0.5)


@pytest.mark.parametrize(
    ("process", "words"),
    [
        ("(i32.const -1)", "process_data returned -1"),
        ("(i32.const 0x7fffffff)", "process_data returned 2147483647"),
        (f"(i32.const {ROOM + 1})", f"process_data returned {ROOM + 1}, and the module's buffer has {ROOM} bytes"),
        ("(global.set $at (i32.const -4)) (i32.const 1)", "get_buffer_ptr returned -4"),
        ("(global.set $at (i32.const 65536)) (i32.const 1)", "process_data returned 1, and the module's buffer has 0"),
        ("(i32.store (i32.const 65536) (i32.const 0)) (i32.const 0)", "out of bounds"),
        ("(call $deep (local.get $n))", "call stack exhausted"),
    ],
)
def test_a_result_that_cant_be_is_refused_and_the_instance_thrown_away(process: str, words: str) -> None:
    wasm = module(
        f"(if (result i32) (i32.eqz (local.get $n)) (then {process}) (else (local.get $n)))",
        f"(global $at (mut i32) (i32.const {BUFFER}))",
        "(func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))",
        pointer="(global.get $at)",
    )

    async def talk(client: Client) -> None:
        await client.module(wasm)
        for _ in range(2 * LIMITS.instances):
            answer = await client.job(b"")
            assert isinstance(answer, str)
            assert answer.startswith("ERROR ")
            assert words in answer
        assert await client.job(b"on") == b"on"

    with_client(talk)


def test_a_result_is_taken_from_where_the_memory_has_grown_to() -> None:
    process = """
    (drop (memory.grow (i32.const 1)))
    (global.set $at (i32.const 65536))
    (i32.store (i32.const 65536) (i32.const 0x21212121))
    (i32.const 4)"""
    wasm = module(process, f"(global $at (mut i32) (i32.const {BUFFER}))", pointer="(global.get $at)")

    async def talk(client: Client) -> None:
        await client.module(wasm)
        assert await client.job(b"x") == b"!!!!"
        assert await client.job(b"x" * 65536) == b"!!!!"

    with_client(talk)


def test_a_module_gets_wasi_without_files() -> None:
    imports = (
        '(import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))',
        '(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))',
    )
    process = """
    (if (i32.eqz (local.get $n)) (then (call $exit (i32.const 7))))
    (i32.store (i32.const 1024) (call $prestat (i32.const 3) (i32.const 0)))
    (i32.const 1)"""

    async def talk(client: Client) -> None:
        assert await client.module(module(process, *imports)) == f"READY {ROOM}"
        assert await client.job(b"x") == b"\x08"  # EBADF: there is no such descriptor
        assert await client.job(b"") == "ERROR the module ended itself with code 7"
        assert await client.job(b"x") == b"\x08"

    with_client(talk)


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"HELLO", b"JOB", b"JOB ", b"JOB x", b"JOB -1", b"JOB 1 2", b"JOB 1.5", b"JOB \xd9\xa1", b"job 1"),
        *(b"MODULE", b"MODULE 99999999999999999999", b"x" * 100_000, b"\xff\0\x1b[2J"),
    ],
)
def test_a_line_that_is_no_command_is_refused_and_the_next_one_is_taken(line: bytes) -> None:
    async def talk(client: Client) -> None:
        await client.say(line + b"\n")
        assert await client.line() == "ERROR a command is `MODULE` or `JOB` with a number of bytes"
        await client.module(UPPER)
        assert await client.job(b"on") == b"ON"

    with_client(talk)


def test_a_module_past_the_limit_is_read_to_its_end_and_refused() -> None:
    async def talk(client: Client) -> None:
        answer = await client.module(b"JOB 5\n" * 100_000)
        assert answer == "ERROR a module of 600000 bytes is too large; 1000 is the limit"
        await client.module(UPPER)
        assert await client.job(b"on") == b"ON"

    with_client(talk, limits=CompileLimits(size=1000))


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (CompileLimits(memory=100 << 20), "to compile it takes more than 100 MiB of memory"),
        (CompileLimits(seconds=0.5), "to compile it takes more than 0.5 seconds"),
    ],
)
def test_a_module_that_takes_too_much_to_compile_is_refused_and_the_next_one_is_taken(
    limits: CompileLimits, words: str
) -> None:
    async def talk(client: Client) -> None:
        answering = asyncio.create_task(client.module(many_functions(100_000)))
        turns = 0
        while not answering.done():
            await asyncio.sleep(0.01)
            turns += 1
        assert turns > 10  # others had their turn
        answer = await answering
        assert answer.startswith("ERROR the module can't be used: ")
        assert words in answer
        assert await client.module(UPPER) == f"READY {ROOM}"
        assert await client.job(b"on") == b"ON"

    with_client(talk, limits=limits)


def test_a_service_that_is_ended_while_it_compiles_leaves_no_process() -> None:
    async def main() -> None:
        (command, its_command), (data, its_data) = socket.socketpair(), socket.socketpair()
        settings = service.Settings(engine(LIMITS))
        serving = asyncio.create_task(service.serve(its_command.fileno(), its_data.fileno(), settings))
        wasm = many_functions(200_000)
        await asyncio.to_thread(command.sendall, b"MODULE %d\n" % len(wasm) + wasm)
        await asyncio.sleep(0.5)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        for each in (command, its_command, data, its_data):
            each.close()

    began = time.monotonic()
    asyncio.run(main())  # which waits for the thread that waits for the process
    assert time.monotonic() - began < 4


def test_commands_may_come_in_one_piece_and_in_single_bytes() -> None:
    async def talk(client: Client) -> None:
        await client._loop.sock_sendall(client.data, b"onetwo")
        await client.say(b"MODULE %d\n" % len(UPPER) + UPPER + b"JOB 3\nJOB 3\n")
        assert [await client.line() for _ in range(3)] == [f"READY {ROOM}", "DONE 3", "DONE 3"]
        assert await client.receive(6) == b"ONETWO"
        for byte in b"JOB 2\n":
            await client.say(bytes([byte]))
            await asyncio.sleep(0)
        await client._loop.sock_sendall(client.data, b"on")
        assert await client.line() == "DONE 2"
        assert await client.receive(2) == b"ON"

    with_client(talk)


@pytest.mark.parametrize("cut", [b"", b"JOB", b"MODULE 100\nabc", b"JOB 100\n"])
def test_a_client_that_goes_away_ends_the_service(cut: bytes) -> None:
    async def talk(client: Client) -> None:
        await client.module(UPPER)
        await client.say(cut)

    with_client(talk)


def test_a_client_that_goes_away_during_a_result_ends_the_service() -> None:
    async def talk(client: Client) -> None:
        await client.module(module("(i32.const 4000000)", memory='(memory (export "memory") 64)'))
        await client.say(b"JOB 0\n")
        assert await client.line() == "DONE 4000000"

    with_client(talk)


def test_a_job_has_its_bytes_in_the_modules_memory_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read from the data channel is read into the memory itself."""
    reads: list[int] = []
    readv = service.os.readv

    def noted(file: int, views: list[memoryview]) -> int:
        reads.append(len(views[0]))
        return readv(file, views)

    async def talk(client: Client) -> None:
        await client.module(ECHO)
        monkeypatch.setattr(service.os, "readv", noted)
        assert await client.job(b"x" * 1000) == b"x" * 1000
        assert 1000 in reads

    with_client(talk)
