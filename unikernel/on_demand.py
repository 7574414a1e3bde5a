"""Scale to zero: listens in a machine's place, boots it when somebody connects, and ends it when nobody is there.

A client that connects waits until a machine serves, however many connect meanwhile; then bytes are handed on between
its connection and one to the machine, each way until that way is finished. A machine that doesn't come up costs its
clients their connections, and the next one is a new try.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from slight_py.errors import UsageError
from unikernel.events import ending_signals

log = logging.getLogger("slight_py")

_CHUNK = 1 << 16
BACKLOG = 512
"""Clients that may wait to be accepted."""

STOP_SECONDS = 30.0
"""How long a machine may take to end, before it is left to whoever stops it for good."""


class Running(Protocol):
    """A machine that serves."""

    async def connect(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to one of its ports. Raises OSError, and TimeoutError where it takes none for long."""

    async def ended(self) -> str:
        """Waits until the machine has ended by itself, and tells why, in a line."""

    async def stop(self) -> None:
        """Ends the machine, and waits until it has."""


class BootError(Exception):
    """The machine did not come up, or ended; str() is a line that says why."""


@dataclass(frozen=True, slots=True)
class Listener:
    """An address of the host, and the port of the machine that it stands for."""

    host: str
    port: int
    guest: int


class OnDemand:
    """A machine that runs while somebody is connected to it, and for a while after that."""

    def __init__(self, boot: Callable[[], Awaitable[Running]], idle: float) -> None:
        """`boot` gives a machine once it serves, and raises BootError. `idle` is how many seconds it stays without a
        connection."""
        self._boot = boot
        self._idle = idle
        self._booting: asyncio.Task[Running] | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._timer: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None

    async def serve(self, listeners: Sequence[Listener], until: asyncio.Event) -> None:
        """Serves at the addresses until an event is set. Raises UsageError for an address that can't be had."""
        servers = []
        try:
            for listener in listeners:
                servers.append(await self._listen(listener))
            await until.wait()
        finally:
            for server in servers:
                server.close()
            await self._end()

    async def _listen(self, listener: Listener) -> asyncio.Server:
        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            client = asyncio.ensure_future(self._serve_client(listener.guest, reader, writer))
            self._clients.add(client)
            client.add_done_callback(self._left)

        try:
            server = await asyncio.start_server(connected, listener.host, listener.port, backlog=BACKLOG)
        except OSError as error:
            raise UsageError(
                f"{listener.host}:{listener.port} can't be listened at: {error.strerror or error}; give another port "
                f"with -p OTHER:{listener.guest}"
            ) from None
        log.info("serving at %s:%d, with a machine when somebody connects", *server.sockets[0].getsockname()[:2])
        return server

    # One client.

    async def _serve_client(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._keep()
        try:
            machine = await self._machine()
            inner_reader, inner_writer = await machine.connect(port)
        except BootError:
            writer.transport.abort()  # the line about it is written once, however many waited
            return
        except (OSError, TimeoutError) as error:
            log.error("the machine takes no connection at its port %d: %s", port, error or "it doesn't answer")
            writer.transport.abort()
            return
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(reader, inner_writer))
                both.create_task(_copy(inner_reader, writer))
        except* OSError:
            pass  # one side is gone, and so is the other
        finally:
            writer.transport.abort()
            inner_writer.transport.abort()

    def _left(self, client: asyncio.Task[None]) -> None:
        self._clients.discard(client)
        if not client.cancelled() and (error := client.exception()) is not None:
            log.error("a connection ended: %s", error)
        if not self._clients:
            self._leave_alone()

    def _keep(self) -> None:
        """Somebody is there: the machine stays."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _leave_alone(self) -> None:
        """Nobody is there: the machine, or the one that is yet to come up, has its time from now on."""
        if self._booting is not None and self._timer is None:
            self._timer = asyncio.create_task(self._stop_after(self._idle))

    # The machine.

    async def _machine(self) -> Running:
        """The machine that serves, booted where there is none. Raises BootError."""
        if self._stopping is not None:
            # Its memory and ports are free for the next one then.
            await asyncio.wait([self._stopping])
        if self._booting is None:
            self._booting = asyncio.create_task(self._start())
            self._booting.add_done_callback(_heard)
        # Shielded: a client that leaves takes the boot from nobody else.
        return await asyncio.shield(self._booting)

    async def _start(self) -> Running:
        begin = asyncio.get_running_loop().time()
        try:
            machine = await self._boot()
        except Exception as error:
            # Whatever it is: all who wait get an end, and the next client a new try.
            log.error("%s", error if isinstance(error, BootError) else f"the machine can't be booted: {error!r}")
            self._booting = None
            raise BootError(str(error)) from error
        except asyncio.CancelledError:
            self._booting = None
            raise
        log.info("the machine is up after %.2f s", asyncio.get_running_loop().time() - begin)
        self._watch = asyncio.create_task(self._watch_over(machine))
        if not self._clients:
            self._leave_alone()
        return machine

    async def _watch_over(self, machine: Running) -> None:
        """Forgets a machine that has ended by itself."""
        why = await machine.ended()
        log.error("%s; the next client gets a new machine", why)
        self._booting = None

    async def _stop_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._timer = None
        if not self._clients and self._booting is not None and self._booting.done():
            self._stopping = asyncio.create_task(self._stop(self._booting.result()))

    async def _stop(self, machine: Running) -> None:
        if self._watch is not None:
            self._watch.cancel()  # what it looks out for is wanted now
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await machine.stop()
        except TimeoutError:
            log.error("the machine has not ended within %g s", STOP_SECONDS)
        except Exception as error:
            log.error("the machine can't be ended: %r", error)
        log.info("the machine has ended: nobody was connected for %g s", self._idle)
        self._booting = self._stopping = None

    async def _end(self) -> None:
        """Ends everything: the connections, and the machine."""
        booting, stopping = self._booting, self._stopping
        tasks = [*self._clients, *filter(None, (self._timer, self._watch))]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if stopping is not None:
            await asyncio.wait([stopping])
        elif booting is not None and not booting.done():
            booting.cancel()
            await asyncio.wait([booting])
        elif booting is not None and booting.exception() is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await booting.result().stop()


def _heard(task: asyncio.Task[Running]) -> None:
    """Whether a boot failed was said, though its clients may all have left."""
    if not task.cancelled():
        task.exception()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hands on what comes until its sender has finished, no faster than it is taken. Raises OSError."""
    while chunk := await reader.read(_CHUNK):
        writer.write(chunk)
        await writer.drain()
    with suppress(OSError, RuntimeError):  # a socket that is closed already
        writer.write_eof()


def until_signal() -> asyncio.Event:
    """An event that a signal sets, one of `ending_signals`."""
    ending = asyncio.Event()
    for number in ending_signals():
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    return ending
