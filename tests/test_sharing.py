"""Backends that live in the main process, asked from workers."""

from __future__ import annotations

import asyncio
import io
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from struct import pack
from typing import Any

import pytest

from bindgen.runtime import Err
from capabilities.bindings.keyvalue import KeyvalueErrorKeyNotFound
from capabilities.errors import CapabilityError
from capabilities.messaging import DeliveryFailed, PayloadTooLarge
from slight_py import sharing
from slight_py.sharing import Connection, Gone, serve
from tests.command import environment
from tests.wat import until

KEY = ("tests.test_sharing:Notes", (("A", "1"),))


class Notes:
    """A backend whose main process counts what happens to it."""

    def __init__(self) -> None:
        self.users: list[User] = []

    def connect(self) -> User:
        self.users.append(User())
        return self.users[-1]


class Foreign(CapabilityError):
    """An error of a module that is none of the capabilities'."""


class User:
    def __init__(self) -> None:
        self.closed = 0
        self.waiting = 0
        self.cancelled = 0
        self.goes_on = asyncio.Event()

    async def echo(self, *values: Any) -> Any:
        return values

    async def slow(self, seconds: float, value: Any) -> Any:
        await asyncio.sleep(seconds)
        return value

    async def wait(self) -> str:
        self.waiting += 1
        try:
            await self.goes_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1
        return "went on"

    async def fail(self, kind: str) -> None:
        match kind:
            case "capability":
                raise PayloadTooLarge("too large", "tell the user")
            case "interface":
                raise Err(KeyvalueErrorKeyNotFound("not there"))
            case "foreign":
                raise Foreign("not for messages")
            case _:
                raise RuntimeError("a secret of the main process")

    async def one(self, value: int) -> int:
        return value

    async def unspeakable(self) -> Any:
        return socket.SocketType

    async def huge(self) -> bytes:
        return bytes(sharing.MESSAGE_LIMIT + 1)

    def at_once(self) -> str:
        return "not for workers"

    async def _private(self) -> str:
        return "not for workers"

    async def close(self) -> None:
        self.closed += 1


Scenario = Callable[[Any, Notes, Connection], Awaitable[None]]


@asynccontextmanager
async def shared() -> AsyncIterator[tuple[Notes, Connection, asyncio.Task[None]]]:
    notes = Notes()
    here, there = socket.socketpair()
    serving = asyncio.create_task(serve({KEY: notes}, here))
    connection = Connection(there)
    try:
        yield notes, connection, serving
    finally:
        await connection.close()
        await serving


def run(scenario: Scenario) -> None:
    async def main() -> None:
        async with asyncio.timeout(30), shared() as (notes, connection, _):
            await scenario(connection.backend(KEY), notes, connection)

    asyncio.run(main())


def test_values_and_dataclasses_and_errors_come_back_as_they_are() -> None:
    async def scenario(remote: Any, notes: Notes, connection: Connection) -> None:
        values = (None, True, 1 << 70, 0.5, "text", b"bytes", [1], {"a": (1,)}, "x" * 100_000)
        assert await remote.echo(*values) == values
        case = KeyvalueErrorKeyNotFound("it's gone")
        assert await remote.echo([case], {"deep": (case,)}) == ([case], {"deep": (case,)})
        (error,) = await remote.echo(DeliveryFailed("text", "notice"))
        assert (type(error), str(error), error.notice) == (DeliveryFailed, "text", "notice")

    run(scenario)


def test_what_a_backend_raises_is_raised_in_the_worker_and_a_failure_says_nothing_of_the_main_process() -> None:
    async def scenario(remote: Any, notes: Notes, connection: Connection) -> None:
        with pytest.raises(PayloadTooLarge) as error:
            await remote.fail("capability")
        assert (str(error.value), error.value.notice) == ("too large", "tell the user")
        with pytest.raises(Err) as err:
            await remote.fail("interface")
        assert err.value.value == KeyvalueErrorKeyNotFound("not there")
        for call in (
            remote.fail("otherwise"),
            remote.fail("foreign"),
            remote.one(),
            remote.one(1, 2),
            remote.unspeakable(),
        ):
            with pytest.raises(CapabilityError, match=r"^it failed in the main process$"):
                await call
        assert await remote.one(1) == 1

    run(scenario)


def test_what_is_too_long_to_send_fails_alone() -> None:
    async def scenario(remote: Any, notes: Notes, connection: Connection) -> None:
        with pytest.raises(CapabilityError, match="more than processes tell each other"):
            await remote.huge()
        with pytest.raises(pickle.PicklingError):
            await remote.echo(socket.SocketType)
        with pytest.raises(CapabilityError, match="more than processes tell each other"):
            await remote.echo(bytes(sharing.MESSAGE_LIMIT + 1))
        assert await remote.one(1) == 1

    run(scenario)


def test_many_calls_at_once_get_their_own_answers_in_any_order() -> None:
    async def scenario(remote: Any, notes: Notes, connection: Connection) -> None:
        calls = [remote.slow((number * 7 % 50) / 1000, number) for number in range(1_000)]
        assert await asyncio.gather(*calls) == list(range(1_000))
        large = [remote.echo(bytes([number]) * 300_000) for number in range(50)]
        assert await asyncio.gather(*large) == [(bytes([number]) * 300_000,) for number in range(50)]

    run(scenario)


def test_a_cancelled_call_ends_in_the_main_process_and_leaves_the_others_alone() -> None:
    async def scenario(remote: Any, notes: Notes, connection: Connection) -> None:
        calls = [asyncio.create_task(remote.wait()) for _ in range(10)]
        assert await remote.one(0) == 0
        (user,) = notes.users
        assert user.waiting == 10
        for call in calls[::2]:
            call.cancel()
        await asyncio.wait(calls[::2])
        assert await remote.one(1) == 1
        assert (user.waiting, user.cancelled) == (5, 5)
        user.goes_on.set()
        assert await asyncio.gather(*calls[1::2]) == ["went on"] * 5

    run(scenario)


def test_a_call_that_is_cancelled_before_it_begins_does_not_begin() -> None:
    async def scenario(remote: Any, notes: Notes, connection: Connection) -> None:
        assert await remote.one(0) == 0
        for _ in range(100):
            call = asyncio.create_task(remote.wait())
            await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
        assert await remote.one(1) == 1
        assert notes.users[0].waiting == 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda failure: pytest.fail(str(failure)))
        run(scenario)


def test_what_a_worker_has_open_ends_with_it() -> None:
    async def main() -> None:
        async with shared() as (notes, connection, serving):
            remote = connection.backend(KEY)
            waiting = asyncio.create_task(remote.wait())
            await remote.one(0)
            await connection.close()
            with pytest.raises(Gone):
                await waiting
            await serving
            (user,) = notes.users
            assert (user.closed, user.waiting, user.cancelled) == (1, 0, 1)
            with pytest.raises(Gone):
                await remote.one(0)

    asyncio.run(main())


def test_without_the_main_process_every_call_says_that_it_is_gone() -> None:
    async def main() -> None:
        here, there = socket.socketpair()
        connection = Connection(there)
        remote = connection.backend(KEY)
        waiting = asyncio.create_task(remote.wait())
        await asyncio.sleep(0.05)
        here.close()
        for call in (waiting, remote.one(0)):
            with pytest.raises(Gone):
                await call
        await connection.close()

    asyncio.run(main())


def test_a_connection_that_nothing_was_asked_of_can_be_closed() -> None:
    async def main() -> None:
        async with shared() as (notes, _, _):
            pass
        assert notes.users == []

    asyncio.run(main())


WORKER = """
import asyncio, socket, sys
from slight_py.sharing import Connection

async def main():
    connection = Connection(socket.socket(fileno=int(sys.argv[1])))
    remote = connection.backend(("tests.test_sharing:Notes", (("A", "1"),)))
    print(await remote.one(7), flush=True)
    await remote.wait()

asyncio.run(main())
"""


def test_a_worker_that_is_killed_leaves_nothing_behind() -> None:
    async def main() -> None:
        notes = Notes()
        here, there = socket.socketpair()
        serving = asyncio.create_task(serve({KEY: notes}, here))
        command = [sys.executable, "-c", WORKER, str(there.fileno())]
        worker = await asyncio.create_subprocess_exec(
            *command, pass_fds=[there.fileno()], env=environment(), stdout=subprocess.PIPE
        )
        there.close()
        assert worker.stdout is not None
        assert await worker.stdout.readline() == b"7\n"
        await until(lambda: notes.users[0].waiting)
        worker.send_signal(signal.SIGKILL)
        await worker.wait()
        await serving
        assert (notes.users[0].closed, notes.users[0].cancelled) == (1, 1)

    asyncio.run(asyncio.wait_for(main(), 20))


# A worker that means harm.


def framed(data: bytes) -> bytes:
    return pack("=I", len(data)) + data


class Reduced:
    """What a pickle makes anything of."""

    def __init__(self, *reduced: Any) -> None:
        self._reduced = reduced

    def __reduce__(self) -> Any:
        return self._reduced


def persistent(pid: Any) -> bytes:
    """A question whose argument is what stands for an object."""

    class Token:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return pid if isinstance(obj, Token) else None

    packed = io.BytesIO()
    Pickler(packed, pickle.HIGHEST_PROTOCOL).dump((1, KEY, "echo", (Token(),)))
    return packed.getvalue()


BAD = {
    "a function": pickle.dumps((1, KEY, "echo", (Reduced(os.mkdir, ("made-by-a-pickle",)),))),
    "a class of ours": pickle.dumps((1, KEY, "echo", (Reduced(KeyvalueErrorKeyNotFound, ("x",)),))),
    "a change of a class": b"\x80\x04ccapabilities.errors\nCapabilityError\nN}\x8c\x01xK\x01s\x86b.",
    "an object of a function's": persistent(("os", "mkdir", ("made-by-a-pickle",))),
    "an object of a class that holds no value": persistent(("slight_py.engine", "Engine", ())),
    "an object of no class": persistent(("capabilities.nothing", "Nothing", ())),
    "an object that can't be made": persistent(("capabilities.bindings.keyvalue", "KeyvalueErrorKeyNotFound", (1, 2))),
    "no pickle": b"hello",
    "no question": pickle.dumps("hello"),
    "a question without a number": pickle.dumps(("1", KEY, "echo", ())),
    "another backend": pickle.dumps((1, ("tests.test_sharing:Notes", ()), "echo", ())),
    "a backend that is none": pickle.dumps((1, ("x", ([],)), "echo", ())),
    "a method of its own": pickle.dumps((1, KEY, "_private", ())),
    "a method that doesn't wait": pickle.dumps((1, KEY, "at_once", ())),
    "a method that is not there": pickle.dumps((1, KEY, "nothing", ())),
    "its end": pickle.dumps((1, KEY, "close", ())),
    "a special method": pickle.dumps((1, KEY, "__init__", ())),
}


@pytest.mark.parametrize(
    "data", [framed(each) for each in BAD.values()] + [pack("=I", 0xFFFFFFFF)], ids=[*BAD, "length"]
)
def test_a_worker_that_breaks_the_protocol_is_cut_off_and_no_other_one(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)

    async def main() -> None:
        notes = Notes()
        here, there = socket.socketpair()
        bad_here, bad = socket.socketpair()
        serving = [asyncio.create_task(serve({KEY: notes}, each)) for each in (here, bad_here)]
        connection = Connection(there)
        remote = connection.backend(KEY)
        assert await remote.one(1) == 1
        bad.sendall(data)
        await serving[1]
        assert bad.recv(1) == b""
        bad.close()
        assert await remote.one(2) == 2
        await connection.close()
        await serving[0]

    asyncio.run(asyncio.wait_for(main(), 20))
    assert list(tmp_path.iterdir()) == []
    assert not hasattr(CapabilityError, "x")
    assert "a worker is cut off from what it shares: " in caplog.text


def test_a_number_that_is_used_twice_is_refused() -> None:
    async def main() -> None:
        notes = Notes()
        here, there = socket.socketpair()
        serving = asyncio.create_task(serve({KEY: notes}, here))
        there.sendall(framed(pickle.dumps((1, KEY, "wait", ()))) * 2)
        await serving
        assert (notes.users[0].waiting, notes.users[0].closed) == (0, 1)
        there.close()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_worker_that_reads_no_answers_is_not_read() -> None:
    async def main() -> None:
        notes = Notes()
        here, there = socket.socketpair()
        there.setblocking(False)
        serving = asyncio.create_task(serve({KEY: notes}, here))
        sent = 0

        async def ask() -> None:
            nonlocal sent
            for number in range(10_000):
                question = framed(pickle.dumps((number, KEY, "echo", (bytes(100_000),))))
                await asyncio.get_running_loop().sock_sendall(there, question)
                sent += len(question)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask(), 2)
        assert sent < 20_000_000
        there.close()
        await serving
        assert notes.users[0].closed == 1

    asyncio.run(asyncio.wait_for(main(), 20))
