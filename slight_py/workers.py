"""Several processes that answer requests at one address.

The main process runs the module's entry point. When that starts a server, the main process opens a socket per worker,
all on the same port (SO_REUSEPORT lets the kernel spread the connections), and starts the workers, each with the table
of routes: an entry point runs once however many workers there are. Each worker has two more sockets, to what the main
process keeps for all of them: the stores of `keyvalue.memory`, and the other backends that workers share.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import signal
import socket
from collections import ChainMap
from contextlib import suppress
from functools import cache, partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from capabilities import notices
from capabilities.http.listen import bind, name_of, share
from capabilities.http.routes import RouteTable
from capabilities.keyvalue import memory
from capabilities.keyvalue.memory import MemoryStores
from slight_py import linker, logs, loop, output, runner, sharing
from slight_py.engine import Engine
from slight_py.errors import UsageError

log = logging.getLogger("slight_py")

_SPAWN = multiprocessing.get_context("spawn")

SIGNAL_TIME = 1.0
"""Seconds in which a signal that a worker has seen is seen by the main process, too."""

QUICK_DEATH = 1.0
"""A worker that ends sooner than this many seconds after its start is started again only as many seconds later."""


class Workers:
    """The worker processes of one server."""

    def __init__(
        self, config: runner.RunConfig, loaded: runner.AnyLoaded, stores: MemoryStores, backends: linker.Backends
    ) -> None:
        """The workers run the module that is `loaded`, whatever becomes of its file. They share `stores`, and those of
        the `backends` that are to be shared."""
        self._config = config
        self._compiled = loaded.serialize()
        self._stores = stores
        self._backends = backends
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()

    async def start(self, address: str, table: RouteTable | None) -> None:
        """Returns when all workers accept connections.

        Raises ListenError where the address can't be had, and UsageError where a worker doesn't come up.
        """
        first = await asyncio.to_thread(bind, address, True)
        sets = [first, *(share(first) for _ in range(self._config.workers - 1))]
        loop = asyncio.get_running_loop()
        ready: list[asyncio.Future[None]] = [loop.create_future() for _ in sets]
        for sockets, one in zip(sets, ready, strict=True):
            self._tasks.append(asyncio.create_task(self._keep(sockets, table, one)))
        try:
            await asyncio.gather(*ready)
        except asyncio.CancelledError:
            # Some may serve already, and get to finish what they answer.
            await self.stop()
            raise
        log.info("serving at %s with %d workers", name_of(first[0]), len(sets))

    async def stop(self) -> None:
        """Has every worker finish the requests under way and end."""
        self._stopping.set()
        await asyncio.gather(*self._tasks)

    async def _keep(
        self, listeners: list[socket.socket], table: RouteTable | None, ready: asyncio.Future[None]
    ) -> None:
        """Runs a worker at a socket, and another one whenever it dies."""
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            began = loop.time()
            try:
                how: object = await self._work(listeners, table, ready)
            except OSError as error:  # no process or no descriptor is to be had
                how = error.strerror
            if how == 0:
                # It was told to end: by a signal to all processes, which this one is about to see as well.
                with suppress(TimeoutError):
                    async with asyncio.timeout(SIGNAL_TIME):
                        await self._stopping.wait()
            if self._stopping.is_set():
                break
            if not ready.done():
                ready.set_exception(UsageError(f"{self._config.app}: a worker ended before it could serve ({how})"))
                break
            log.error("a worker ended unexpectedly (%s); starting another", how)
            if loop.time() - began < QUICK_DEATH:
                await asyncio.sleep(QUICK_DEATH)
        for listener in listeners:
            listener.close()

    async def _work(
        self, listeners: list[socket.socket], table: RouteTable | None, ready: asyncio.Future[None]
    ) -> int | None:
        """Runs one worker process to its end; returns its exit code."""
        stores_here, stores_there = socket.socketpair()
        shared_here, shared_there = socket.socketpair()
        channel, end = _SPAWN.Pipe()
        with stores_there, shared_there, end:
            arguments = (self._config, table and table.to_json(), listeners, stores_there, shared_there, end)
            process = _SPAWN.Process(target=_worker, args=arguments, name="slight-py worker", daemon=True)
            await asyncio.to_thread(_start, process)
        stores = asyncio.create_task(memory.serve(self._stores, stores_here))
        backends = ChainMap({sharing.NOTICES: sharing.Notices()}, self._backends.made)
        shared = asyncio.create_task(sharing.serve(backends, shared_here))
        ended = asyncio.create_task(_readable(process.sentinel))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            with suppress(EOFError, OSError):  # it has ended
                # Not among the arguments, which are written to a pipe that this process holds the other end of, too.
                await asyncio.to_thread(channel.send_bytes, self._compiled)
                await _readable(channel.fileno())
                channel.recv()
                if not ready.done():
                    ready.set_result(None)
            await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                for listener in listeners:  # while this end is open, connections would queue up behind the worker's
                    listener.close()
                process.terminate()
            await ended
        finally:
            for task in (stores, shared, ended, stopping):
                task.cancel()
            channel.close()
            if process.is_alive():
                process.kill()
            await asyncio.to_thread(process.join)
        return process.exitcode


def _start(process: SpawnProcess) -> None:
    """Starts a process that signals don't end: a terminal sends them to all processes, and the main process decides
    what they mean. The worker listens to SIGTERM once it serves."""
    resource_tracker.ensure_running()  # else `start` does it, which changes the thread's mask
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))


async def _readable(descriptor: int) -> None:
    """Waits until there is something to read, or the other end is closed."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(descriptor, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


# In the worker.


def _worker(
    config: runner.RunConfig,
    table: str | None,
    listeners: list[socket.socket],
    stores: socket.socket,
    shared: socket.socket,
    main: Connection,
) -> None:
    logs.configure(config.verbose)
    try:
        loop.run(_serve(config, RouteTable.from_json(table) if table else None, listeners, stores, shared, main))
    finally:
        output.flush()


async def _serve(
    config: runner.RunConfig,
    table: RouteTable | None,
    listeners: list[socket.socket],
    stores: socket.socket,
    shared: socket.socket,
    main: Connection,
) -> None:
    notices.module.set(config.module)
    engine = Engine(config.limits)
    loaded = runner.reload(engine, config, main.recv_bytes())
    main_process = sharing.Connection(shared)
    notices.redirect(main_process.tell)
    backends = linker.Backends(cache(partial(memory.RemoteMemoryStores, stores)), main_process.backend)
    service = loaded.service(config, backends)
    await service.start(listeners, table)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
    main.send("ready")
    parent = multiprocessing.parent_process()
    assert parent is not None
    orphaned = asyncio.create_task(_readable(parent.sentinel))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({orphaned, stopped}, return_when=asyncio.FIRST_COMPLETED)
    orphaned.cancel()
    await service.stop()
    await backends.close()
    await main_process.close()
