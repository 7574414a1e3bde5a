"""What a host keeps for one instance of a guest."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bindgen.runtime import Import
from slight_py import linker, sessions
from slight_py.engine import Trap
from slight_py.sessions import Sessions
from tests import wat


class Host:
    """Counts its sessions, and what becomes of them."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.held = False
        """Whether calls of its sessions don't end."""

    def session(self) -> Session:
        self.sessions.append(Session())
        if self.held:
            self.sessions[-1].goes_on.clear()
        return self.sessions[-1]


class Session:
    def __init__(self) -> None:
        self.calls = 0
        self.closed = 0
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.closes = asyncio.Event()
        self.closes.set()
        self.fails = False

    async def note(self) -> None:
        self.calls += 1
        await self.goes_on.wait()

    async def close(self) -> None:
        await self.closes.wait()
        self.closed += 1
        if self.fails:
            raise RuntimeError("the network is gone")


async def _note(host: Any, guest: Any, arguments: tuple[Any, ...]) -> None:
    await host.note()


NOTE = linker._in_session(Import("notes", "note", "", "", _note))

GUEST = wat.binary(
    '(import "notes" "note" (func $note))'
    '(func (export "twice") (call $note) (call $note))'
    '(func (export "never"))'
    '(func (export "trap") (call $note) (unreachable))'
)


def program(*hosts: Host) -> Any:
    return wat.program(GUEST, {("notes", "note"): (NOTE, hosts[0])})


async def call(made: Any, name: str) -> None:
    instance = await made.instantiate()
    try:
        await instance.call(made.info.functions[name], ())
    finally:
        instance.close()


def test_each_instance_has_a_session_of_its_own_which_ends_with_it() -> None:
    async def main() -> None:
        host = Host()
        made = program(host)
        first, second = await made.instantiate(), await made.instantiate()
        for instance in (first, second, first):
            await instance.call(made.info.functions["twice"], ())
        assert [each.calls for each in host.sessions] == [4, 2]
        first.close()
        await sessions.closed()
        assert [each.closed for each in host.sessions] == [1, 0]
        second.close()
        second.close()
        await sessions.closed()
        assert [each.closed for each in host.sessions] == [1, 1]

    wat.run(main())


def test_an_instance_that_asks_nothing_has_no_session() -> None:
    async def main() -> None:
        host = Host()
        await call(program(host), "never")
        assert host.sessions == []

    wat.run(main())


def test_a_session_ends_with_an_instance_that_traps() -> None:
    async def main() -> None:
        host = Host()
        with pytest.raises(Trap):
            await call(program(host), "trap")
        await sessions.closed()
        assert [each.closed for each in host.sessions] == [1]

    wat.run(main())


def test_a_session_ends_with_an_instance_whose_call_is_cancelled() -> None:
    async def main() -> None:
        host = Host()
        host.held = True
        made = program(host)
        running = asyncio.create_task(call(made, "twice"))
        await wat.until(lambda: host.sessions)
        running.cancel()
        await asyncio.wait([running])
        await sessions.closed()
        assert [(each.calls, each.closed) for each in host.sessions] == [(1, 1)]

    wat.run(main())


def test_an_instance_does_not_wait_for_its_sessions_and_the_end_does_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "CLOSE_SECONDS", 0.05)

    async def main() -> None:
        host = Host()
        mine = Sessions()
        session = mine.of(host)
        assert mine.of(host) is session
        session.closes.clear()
        mine.end()
        await sessions.closed()
        assert session.closed == 0
        session.closes.set()
        await sessions.closed()
        assert session.closed == 1

    wat.run(main())


def test_a_session_that_can_not_be_closed_is_logged_and_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        mine = Sessions()
        first, second = mine.of(Host()), mine.of(Host())
        first.fails = True
        mine.end()
        await sessions.closed()
        assert (first.closed, second.closed) == (1, 1)

    wat.run(main())
    assert "Session can't be closed: RuntimeError: the network is gone" in caplog.text
