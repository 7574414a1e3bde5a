"""A machine at work: the QEMU process, its monitor, and our ends of the machine's serial ports."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from unikernel import machine
from unikernel.checks import ControlError, printable
from unikernel.control import CONTROL, STDERR, STDIN, STDIO, Lines, from_guest
from unikernel.events import Broke, Down, Failure, Gone, Said
from unikernel.forwards import Forward
from unikernel.machine import Machine
from unikernel.qmp import Qmp, QmpError
from unikernel.streams import Console, Input, Output, unread

log = logging.getLogger("slight_py")

_QUIET = 3
_CHUNK = 1 << 16
_STDERR_LIMIT = 1 << 16
_UNHANDLED = 1000
"""Events that may wait before no more is read of what the guest says."""


class Vm:
    """One machine, from the start of QEMU to its end."""

    def __init__(self, post: asyncio.Queue[Any]) -> None:
        """What happens is put into `post` as an event."""
        self._post = post
        self._tasks: list[asyncio.Task[Any]] = []
        self._sockets: dict[str, socket.socket] = {}
        self._outputs: list[Output] = []
        self._stderr = b""
        self._outbox: asyncio.Queue[bytes] = asyncio.Queue()
        self.forwards: dict[Forward, Forward] = {}
        """Those that are open, by what was asked for: with their ports, where any that is free was."""
        self.console: Console
        self.process: asyncio.subprocess.Process
        self.qmp: Qmp

    async def start(
        self, qemu: Path, template: Machine, files: Sequence[int] = (), extra: Sequence[str] = (), time: float = 20.0
    ) -> None:
        """Starts QEMU with a machine and our channels to it.

        `files` are descriptors that QEMU gets, too, and `extra` more of its arguments. Raises Failure where QEMU ends
        at once, or doesn't answer within `time` seconds, and UsageError if it can't be started.
        """
        theirs: dict[str, socket.socket] = {}
        for name in ("monitor", "console", CONTROL, STDIO, STDERR, STDIN):
            self._sockets[name], theirs[name] = socket.socketpair()
        ends = {name: f"socket,fd={end.fileno()}" for name, end in theirs.items()}
        serial = [(name, ends[name]) for name in (CONTROL, STDIO, STDERR, STDIN)]
        built = replace(template, console=ends["console"], serial=(*serial, *template.serial))
        # In a thread: for Debian's kernel it measures a clock.
        words = [*await asyncio.to_thread(machine.arguments, built), *extra]
        words += ["-chardev", f"socket,id=monitor,{ends['monitor'].partition(',')[2]}"]
        words += ["-mon", "chardev=monitor,mode=control"]
        try:
            self.process = await machine.start(qemu, words, [*(end.fileno() for end in theirs.values()), *files])
        finally:
            for end in theirs.values():
                end.close()
        for name in ("monitor", "console", CONTROL):
            self._sockets[name].setblocking(False)
        self.console = Console(self._sockets["console"])
        self.qmp = Qmp(self._sockets["monitor"], self._on_event)
        self._run(self._read_stderr())
        self._run(self.console.read())
        self._run(self._read_control())
        self._run(self._write_control())
        self._run(self._wait())
        self._start_outputs()
        try:
            await self.qmp.connect(time)
        except QmpError as error:
            raise Failure(await self.why_it_has_gone(str(error))) from None

    def _run(self, what: Coroutine[Any, Any, Any]) -> None:
        self._tasks.append(asyncio.create_task(what))

    def _start_outputs(self) -> None:
        loop = asyncio.get_running_loop()

        def broken() -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._post.put_nowait, Broke("the reader of standard output has gone", True))

        self._outputs = [
            Output(self._sockets[STDIO], 1, broken),
            Output(self._sockets[STDERR], 2, lambda: None),
        ]
        for output in self._outputs:
            output.start()

    def open_input(self) -> None:
        """Gives the machine our standard input, from now on."""
        Input(0, self._sockets[STDIN]).start()

    @property
    def held_up(self) -> bool:
        """Whether the reader of our output takes its time, which the machine must wait for."""
        return any(output.waits for output in self._outputs)

    def send(self, message: bytes) -> None:
        """Sends a message to the guest, without waiting for one that reads none: it never answers either."""
        self._outbox.put_nowait(message)

    async def drain(self) -> None:
        """Waits until what the machine wrote before it was shut down has come out here.

        QEMU keeps what we have not taken, and hands it on whenever there is room; that it has no more can't be asked.
        So it is asked anything, a few times, and has gone through its events at each answer: if nothing came by then,
        nothing will.
        """
        quiet, count = 0, -1
        with suppress(QmpError):
            while quiet < _QUIET:
                await self.qmp.execute("query-status")
                busy = self.held_up or unread(self._sockets[CONTROL]) or unread(self._sockets["console"])
                before, count = count, sum(output.count for output in self._outputs)
                quiet = 0 if busy or count != before else quiet + 1
                await asyncio.sleep(0.01 if busy else 0)
        while self.held_up:  # noqa: ASYNC110 - threads do it
            await asyncio.sleep(0.01)

    async def end(self) -> None:
        """Ends QEMU, if it hasn't, and what belongs to it here."""
        if hasattr(self, "process"):
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
        if hasattr(self, "qmp"):
            await self.qmp.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for opened in self._sockets.values():
            # The threads that use them see the end. They close with the last one that does.
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)

    async def why_it_has_gone(self, otherwise: str) -> str:
        """What QEMU, which is about to end, says of it on its standard error; `otherwise` if it says nothing."""
        with suppress(TimeoutError):
            async with asyncio.timeout(2):
                await self.process.wait()
        await asyncio.wait(self._tasks[:1], timeout=1)
        lines = [line.strip() for line in printable_lines(self._stderr)]
        said = next((line for line in reversed(lines) if line), "")
        code = self.process.returncode
        if not said and code is not None and code < 0:
            return f"QEMU was ended by signal {-code}"
        return f"QEMU: {said.removeprefix(machine.QEMU).removeprefix(': ')}" if said else otherwise

    # What runs all the while.

    def _on_event(self, name: str, data: Mapping[str, Any]) -> None:
        if name == "SHUTDOWN" and data.get("guest"):
            self._post.put_nowait(Down())

    async def _read_stderr(self) -> None:
        assert self.process.stderr is not None
        while received := await self.process.stderr.read(_CHUNK):
            self._stderr = (self._stderr + received)[-_STDERR_LIMIT:]
            for line in printable_lines(received):
                log.debug("QEMU: %s", line)

    async def _read_control(self) -> None:
        loop = asyncio.get_running_loop()
        lines = Lines()
        try:
            while received := await loop.sock_recv(self._sockets[CONTROL], _CHUNK):
                for line in lines.feed(received):
                    self._post.put_nowait(Said(from_guest(line)))
                # A guest that says more than is handled has to wait, or it would fill our memory.
                while self._post.qsize() > _UNHANDLED:  # noqa: ASYNC110 - queues tell of what comes, not of what goes
                    await asyncio.sleep(0.01)
        except ControlError as error:
            self._post.put_nowait(Broke(f"the guest sends what is no message: {error}"))
        except OSError:
            pass  # QEMU has ended, which is seen elsewhere

    async def _write_control(self) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):  # QEMU has ended
            while True:
                await loop.sock_sendall(self._sockets[CONTROL], await self._outbox.get())

    async def _wait(self) -> None:
        await self.process.wait()
        self._post.put_nowait(Gone())


def printable_lines(content: bytes) -> list[str]:
    return [printable(line) for line in os.fsdecode(content).splitlines()]
