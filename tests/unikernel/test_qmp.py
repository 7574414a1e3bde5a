"""QEMU's monitor protocol, against QEMU and against a monitor that misbehaves."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from unikernel import machine
from unikernel.qmp import Qmp, QmpError

GREETING = b'{"QMP": {"version": {"qemu": {"micro": 3, "minor": 2, "major": 7}}, "capabilities": []}}\r\n'
ACCEPTED = b'{"return": {}}\r\n'


def against(sent: bytes, use: Callable[[Qmp], Awaitable[None]]) -> list[tuple[str, object]]:
    """Runs `use` with a client of a monitor that has `sent` all it says in advance; returns the events."""
    events: list[tuple[str, object]] = []

    async def main() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        qmp = Qmp(ours, lambda name, data: events.append((name, data)))
        with theirs:
            theirs.sendall(sent)
            try:
                async with asyncio.timeout(10):
                    await use(qmp)
            finally:
                await qmp.close()

    asyncio.run(main())
    return events


def test_a_real_qemu_answers_and_says_its_version():
    async def main() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            words = ["-M", "none", "-display", "none", "-chardev", f"socket,id=monitor,fd={theirs.fileno()}"]
            process = await machine.start(
                machine.find(), [*words, "-mon", "chardev=monitor,mode=control"], [theirs.fileno()]
            )
        qmp = Qmp(ours, lambda _name, _data: None)
        try:
            async with asyncio.timeout(30):
                await qmp.connect()
                assert qmp.version.count(".") == 2
                assert (await qmp.execute("query-status"))["running"] is True
                assert (await qmp.human("info version")).startswith(qmp.version)
                with pytest.raises(QmpError, match="no-such-thing"):
                    await qmp.execute("no-such-thing")
                await qmp.execute("getfd", {"fdname": "terminal"}, fds=(0,))
                await qmp.execute("closefd", {"fdname": "terminal"})
                await qmp.execute("quit")
                assert await process.wait() == 0
                with pytest.raises(QmpError, match="QEMU has gone"):
                    await qmp.execute("query-status")
        finally:
            await qmp.close()
            if process.returncode is None:
                process.kill()
                await process.wait()

    asyncio.run(main())


def test_an_event_between_a_command_and_its_answer_is_an_event():
    async def use(qmp: Qmp) -> None:
        await qmp.connect()
        assert qmp.version == "7.2.3"
        assert await qmp.execute("query") == 5

    sent = GREETING + ACCEPTED + b'{"event": "STOP", "data": {"a": 1}}\r\n{"return": 5}\r\n{"event": "RESUME"}\r\n'
    assert against(sent, use)[0] == ("STOP", {"a": 1})


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"\x00\n", "not JSON"),
        (b"[" * 100_000 + b"\n", "not JSON"),
        (b'{"hello": 1}\n', "neither an answer nor an event"),
        (b'{"return": {}}\n', "without its greeting"),
        (b'{"QMP": {"version": 7}}\n', "without its greeting"),
    ],
)
def test_what_is_not_the_protocol_is_an_error(sent: bytes, message: str):
    async def use(qmp: Qmp) -> None:
        with pytest.raises(QmpError, match=message):
            await qmp.connect()

    against(sent, use)


def test_a_monitor_that_is_silent_is_waited_for_with_an_end():
    async def use(qmp: Qmp) -> None:
        await qmp.connect()
        with pytest.raises(QmpError, match=r"within 0\.1 s"):
            await qmp.execute("query-status", time=0.1)
        with pytest.raises(QmpError, match="didn't answer before"):
            await qmp.execute("query-status")

    against(GREETING + ACCEPTED, use)
