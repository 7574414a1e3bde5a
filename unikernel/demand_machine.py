"""`slight-py image run --on-demand`: the machines that clients are served with, which QEMU runs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import replace

from slight_py.errors import UsageError
from unikernel import forwards, launch
from unikernel.forwards import Forward
from unikernel.image import Image
from unikernel.on_demand import BootError, Listener, OnDemand, until_signal
from unikernel.options import RunOptions
from unikernel.running import Run

LOOPBACK = "127.0.0.1"


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
        self._ports = {guest: _free_port() for guest in self._served}
        private = tuple((LOOPBACK, port, guest) for guest, port in self._ports.items())
        self._options = replace(options, ports=private)
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
            raise BootError(self._why_not())

    def _why_not(self) -> str:
        """Why a machine is of no use to anybody, once its run has ended."""
        assert self._task is not None
        error = self._task.exception()
        if isinstance(error, UsageError):
            return "; ".join(error.lines)
        if error is not None:
            return f"{self._image.path}: {error}"
        return f"{self._image.path}: the application ended with exit code {self._task.result()} before it served"

    # What a run tells its caller.

    def began(self, run: Run) -> None:
        self._run = run

    def serves(self, forward: Forward) -> None:
        if forward.guest in self._served:
            self._served[forward.guest].set()

    # What is asked of a machine that serves.

    async def connect(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        await self._served[port].wait()
        return await asyncio.open_connection(LOOPBACK, self._ports[port])

    async def ended(self) -> None:
        assert self._task is not None
        await asyncio.wait([self._task])

    async def stop(self) -> None:
        assert self._task is not None
        if self._run is None:
            self._task.cancel()
        else:
            self._run.stop()
        try:
            with contextlib.suppress(UsageError):
                await self._task
        except asyncio.CancelledError:
            # Its patience is over, or there was no machine yet: QEMU ends with the task.
            self._task.cancel()
            await asyncio.wait([self._task])


def _free_port() -> int:
    """A port of the loopback that is free now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
