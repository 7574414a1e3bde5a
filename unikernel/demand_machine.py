"""`slight-py image run --on-demand`: the machines that clients are served with, which QEMU runs."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from slight_py.errors import UsageError
from unikernel import forwards, launch
from unikernel.events import Failure
from unikernel.forwards import Forward
from unikernel.image import Image
from unikernel.on_demand import BootError, Listener, OnDemand, until_signal
from unikernel.options import RunOptions
from unikernel.running import Run

log = logging.getLogger("slight_py")

LOOPBACK = "127.0.0.1"

CONNECT_SECONDS = 10.0
"""How long a machine that says it serves may take to take a connection."""


async def run(image: Image, options: RunOptions, idle: float) -> int:
    """Listens at the ports that are asked for until a signal; returns 0 then. A machine without a connection is ended
    after `idle` seconds.

    Raises UsageError for what the user can put right.
    """
    refused = {"--snapshot": options.snapshot is not None, "--channel": options.channel is not None}
    for name in (name for name, given in refused.items() if given):
        raise UsageError(f"{name} and --on-demand exclude each other; leave one out")
    if not options.ports:
        raise UsageError("--on-demand listens at the ports that -p names; name one, as in -p 3000")
    launch.check(image, options)
    listeners = [Listener(forwards.ipv4(host) or host, port, guest) for host, port, guest in options.ports]

    async def boot() -> QemuMachine:
        machine = QemuMachine(image, options)
        await machine.boot()
        return machine

    await OnDemand(boot, idle).serve(listeners, until_signal())
    return 0


class QemuMachine:
    """One machine. Its ports are forwarded from ports of the loopback that nobody else is told of."""

    def __init__(self, image: Image, options: RunOptions) -> None:
        self._image = image
        self._served = {guest: asyncio.Event() for _, _, guest in options.ports}
        self._ports: dict[int, int] = {}
        """The private port of each that is served, which QEMU chooses: nobody can take it in between."""
        private = tuple((LOOPBACK, 0, guest) for guest in self._served)
        self._options = replace(options, ports=private)
        self._turn = asyncio.Lock()
        """Whose it is to connect."""
        self._next: asyncio.Task[None] | None = None
        self._run: Run | None = None
        self._task: asyncio.Task[int] | None = None

    async def boot(self) -> None:
        """Boots until one of the ports is served. Raises BootError."""
        self._task = asyncio.create_task(launch.run(self._image, self._options, self))
        served = [asyncio.create_task(event.wait()) for event in self._served.values()]
        try:
            await asyncio.wait([self._task, *served], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.stop()
            raise
        finally:
            for waiting in served:
                waiting.cancel()
        if self._task.done():
            raise BootError(self._why(" before it served"))

    def _why(self, when: str) -> str:
        """Why a machine has ended, once it has; `when` is for one whose application ended."""
        assert self._task is not None
        error = self._task.exception()
        if isinstance(error, UsageError):
            return "; ".join(error.lines)
        if error is not None:
            return f"{self._image.path}: {error}"
        return f"{self._image.path}: the application ended with exit code {self._task.result()}{when}"

    # What a run tells its caller.

    def began(self, run: Run) -> None:
        self._run = run

    def serves(self, forward: Forward) -> None:
        if forward.guest in self._served:
            self._ports[forward.guest] = forward.port
            self._served[forward.guest].set()

    # What is asked of a machine that serves.

    async def connect(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(CONNECT_SECONDS):
            await self._served[port].wait()
        await self._turn.acquire()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await asyncio.open_connection(LOOPBACK, self._ports[port])
        finally:
            self._next = asyncio.create_task(self._pass_on_turn())

    async def _pass_on_turn(self) -> None:
        """Lets the next one connect once QEMU has accepted what it could: no more than two connections may wait for
        that, and the system has those that come on top try again after seconds, of which it makes fewer each time."""
        assert self._run is not None
        try:
            await self._run.settle()
        finally:
            self._turn.release()

    async def ended(self) -> str:
        assert self._task is not None
        await asyncio.wait([self._task])
        return self._why("")

    async def stop(self) -> None:
        assert self._task is not None
        if self._run is None:
            self._task.cancel()
        else:
            self._run.stop()
        try:
            await asyncio.wait([self._task])
        finally:
            # If the caller's patience is over: QEMU ends with the task.
            self._task.cancel()
            await asyncio.wait([self._task])
        if not self._task.cancelled() and isinstance(error := self._task.exception(), Failure):
            log.error("%s: %s", self._image.path, error)
