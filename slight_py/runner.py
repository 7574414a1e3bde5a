"""Runs a module from its entry point to its end, in the main process of a `run`.

What only some modules need is imported when a module needs it: the HTTP server takes longer to import than a small
module to run.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

from bindgen.runtime import Err, GuestFault
from capabilities import notices
from capabilities.errors import ConfigError
from capabilities.http.cors import Cors
from capabilities.http.settings import HttpSettings
from slight_py import linker, modules, wasi
from slight_py.compilation import CompileLimits
from slight_py.engine import (
    Engine,
    Exit,
    ExportedFunction,
    Instance,
    InvalidModule,
    Limits,
    Module,
    ModuleInfo,
    Program,
    Trap,
    check_room,
    describe,
)
from slight_py.errors import UsageError
from slight_py.slightfile import Slightfile

if TYPE_CHECKING:
    from capabilities.http.host import HttpHost
    from capabilities.http.routes import RouteTable
    from capabilities.keyvalue.memory import MemoryStores

log = logging.getLogger("slight_py")

ENTRY_POINTS = {"on-server-init": ("", "i"), "_start": ("", ""), "main": ("ii", "i")}
"""The first of these that a module exports is where it begins, with these parameters and results."""


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Everything about a `run`, decided before it begins. It is handed to the worker processes as it is."""

    app: Path
    slightfile: Slightfile
    wasi: wasi.WasiSettings
    limits: Limits
    http: HttpSettings
    workers: int = 1
    cache: bool = True
    compilation: CompileLimits = field(default_factory=CompileLimits)
    access_log: str | None = None
    """`plain` or `json`."""
    verbose: bool = False
    module: str = ""
    """What log lines call the module, where it is one of several."""
    reads_input: bool = True
    """Whether its program has standard input: one module alone can read it."""


class Running(Protocol):
    """A server at work, in this process or in several."""

    async def stop(self) -> None:
        """Finishes the requests under way and ends."""


Start: TypeAlias = "Callable[[str, RouteTable], Awaitable[Running]]"
"""Starts to serve a table of routes at an address."""


@dataclass(slots=True)
class Loaded:
    """A module that is ready to run, and the engine it runs on."""

    engine: Engine
    module: Module
    info: ModuleInfo
    slightfile: Slightfile

    def program(self, backends: linker.Backends, http: Callable[[], HttpHost] | None) -> Program:
        """The module as it is linked to start servers, or without `http`, to handle their requests."""
        links = linker.link(self.info, self.slightfile, backends, http)
        return Program(self.engine, self.module, links, self.info)


def load(config: RunConfig, link_all: bool = False) -> Loaded:
    """Compiles the module and checks what it needs. Raises UsageError."""
    try:
        engine = Engine(config.limits)
    except InvalidModule as error:
        raise UsageError(str(error)) from None
    module = modules.load(engine, config.app, config.cache, config.compilation)
    info = describe(module)
    slightfile = linker.check(config.app, info, config.slightfile, link_all)
    return Loaded(engine, module, info, slightfile)


def entry_point(path: Path, functions: dict[str, ExportedFunction]) -> ExportedFunction:
    """Where the module begins. Raises UsageError where it has no entry point."""
    for name, signature in ENTRY_POINTS.items():
        if name in functions:
            function = functions[name]
            if (function.params, function.result) != signature:
                raise UsageError(f"{path}: the exported function {name} has another signature than an entry point")
            return function
    raise UsageError(f"{path}: exports none of {', '.join(ENTRY_POINTS)}; build it as a program, not as a library")


async def run(config: RunConfig, loaded: Loaded) -> int:
    """Runs a loaded module to its end; returns the exit code. Raises UsageError."""
    return await run_all([(config, loaded)])


async def run_all(modules: Sequence[tuple[RunConfig, Loaded]]) -> int:
    """Runs loaded modules, all at the same time, until each has ended; returns the exit code. Raises UsageError.

    They have no more of each other than the backends that they share.
    """
    _allow_open_files()
    if len(modules) > 1:
        try:
            check_room(modules[0][0].limits, len(modules))
        except InvalidModule as error:
            raise UsageError(f"{error}; there are {len(modules)} modules, each with so many") from None

    @cache
    def stores() -> MemoryStores:
        from capabilities.keyvalue.memory import MemoryStores

        return MemoryStores()

    backends = linker.Backends(stores)

    def workers_of(config: RunConfig, loaded: Loaded) -> Start:
        async def start(address: str, table: RouteTable) -> Running:
            from slight_py.workers import Workers

            # The workers get the slightfile as it was found to be, with what --link-all-capabilities added to it.
            workers = Workers(replace(config, slightfile=loaded.slightfile), loaded, stores(), backends)
            await workers.start(address, table)
            return workers

        return start

    runs = []
    for config, loaded in modules:
        start = workers_of(config, loaded) if config.workers > 1 else None
        try:
            runs.append(Run(config, loaded, stores, start, backends))
        except InvalidModule as error:
            raise UsageError(f"{config.app}: the module can't be run: {error}") from None
    return await _main(runs, backends)


def _allow_open_files() -> None:
    """As many as the system lets this process have: every connection and every directory of a guest is one.

    The limit that shells set, 1,024 most often, is there for programs that call select(2).
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def cors(slightfile: Slightfile) -> Cors:
    """The CORS settings of the slightfile's `http` capability. Raises UsageError."""
    grants = slightfile.grants_for("http")
    if not grants:
        return Cors()
    try:
        return Cors.from_configs(grants[0].configs)
    except ConfigError as error:
        raise UsageError(f"{slightfile.place(grants[0])}http: {error.key}: {error}") from None


async def _main(runs: Sequence[Run], backends: linker.Backends) -> int:
    """Runs modules until all have ended and their servers have; returns the exit code: the first one that isn't 0.

    SIGINT and SIGTERM end them: servers finish the requests under way first, unless a second signal comes. Then the
    code is 0 where one of them served, and what the signal means where none did. Raises UsageError, for any of them.
    """
    loop = asyncio.get_running_loop()
    this = asyncio.current_task()
    assert this is not None
    interrupted: asyncio.Future[int] = loop.create_future()
    served = False

    def on_signal(number: int) -> None:
        nonlocal served
        if interrupted.done():
            this.cancel()
        else:
            served = any(run.serves for run in runs)
            interrupted.set_result(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    for run in runs:
        run.turn = runs[0].turn
    tasks = [asyncio.create_task(run.until(interrupted)) for run in runs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        codes = [task.result() for task in tasks if task in done]  # or what one of them has raised
        failed = next((code for code in codes if code), 0)
        by_signal = None in codes and not served
        return failed or (128 + interrupted.result() if by_signal else 0)
    except asyncio.CancelledError:
        if not interrupted.done():
            raise
        return 128 + interrupted.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await backends.close()


class Run:
    """One module at work: its entry point, and the servers that it started."""

    def __init__(
        self,
        config: RunConfig,
        loaded: Loaded,
        stores: Callable[[], MemoryStores],
        start: Start | None = None,
        backends: linker.Backends | None = None,
    ) -> None:
        """`stores` says what `keyvalue.memory` keeps its values in. `start` serves a table of routes; without it, this
        process does. `backends` are those of several modules."""
        self._config = config
        self._loaded = loaded
        self.backends = backends or linker.Backends(stores)
        """What stands behind the module's capabilities in this process."""
        self._start = start or self._serve_here
        self._servers: set[Running] = set()
        self._starting = False
        """Whether the module has asked for a server that isn't among those yet: it may answer requests already."""
        self.turn = asyncio.Lock()
        """For one server that starts after the other: two sockets can be bound to a port until one listens."""
        self._program = loaded.program(self.backends, self._http)
        self._entry = entry_point(config.app, loaded.info.functions)

    async def main(self) -> int:
        """Runs the module until it has ended and its servers have; returns the exit code. Raises UsageError."""
        return await _main([self], self.backends)

    @property
    def serves(self) -> bool:
        return bool(self._servers) or self._starting

    async def until(self, interrupted: asyncio.Future[int]) -> int | None:
        """Runs the module until it has ended and its servers have, or it is interrupted. Returns what it ended with,
        None where a signal did. Raises UsageError for what only shows now, such as a port that is taken."""
        if self._config.module:
            notices.module.set(self._config.module)
        guest = asyncio.create_task(self._guest())
        try:
            await asyncio.wait((guest, interrupted), return_when=asyncio.FIRST_COMPLETED)
            code = guest.result() if guest.done() else None
            if code and self._config.module:
                log.error("it ended with exit code %d; the others go on", code)
            if code == 0 and self._servers:
                await asyncio.wait((interrupted,))
            await self._stop()
            return code
        finally:
            guest.cancel()
            with suppress(asyncio.CancelledError, UsageError):
                await guest

    async def _guest(self) -> int:
        """Runs the entry point; returns the exit code that its outcome means.

        The program has ended when what it printed is out, however long its reader takes: as where it had waited for
        each write, and as it may in all it does. A signal ends it before that.
        """
        code = await self._outcome()
        await wasi.printed()
        return code

    async def _outcome(self) -> int:
        try:
            instance = await self._program.instantiate(wasi.Context(self._config.wasi, stdin=self._config.reads_input))
            try:
                await instance.initialize()
                return await self._enter(instance)
            finally:
                instance.close()
        except Exit as ended:
            return ended.code
        except Trap as trap:
            log.error("%s: the guest trapped: %s", self._config.app, trap)
            log.debug("%s", trap.backtrace)
        except GuestFault as fault:
            log.error("%s: the guest broke the binary interface: %s", self._config.app, fault)
        except InvalidModule as error:
            raise UsageError(f"{self._config.app}: the module can't be run: {error}") from None
        return 1

    async def _enter(self, instance: Instance) -> int:
        match self._entry.name:
            case "on-server-init":
                from capabilities.bindings import http_server_export
                from capabilities.http.access import printable

                try:
                    await http_server_export.on_server_init(instance, self._entry)
                except Err as err:
                    log.error("%s: on-server-init failed: %s", self._config.app, printable(err.value))
                    return 1
                return 0
            case "main":
                # Without WASI there are no arguments: argc 0 and a null argv.
                return int(await instance.call(self._entry, (0, 0))) & 0xFF
            case _:
                await instance.call(self._entry, ())
                return 0

    # Servers.

    def _http(self) -> HttpHost:
        """What answers a module that may start servers."""
        from capabilities.http.host import HttpHost
        from slight_py.handlers import Handlers

        self.handlers = Handlers(self._loaded.program(self.backends, None), self._config.wasi)
        return HttpHost(self.handlers, self._serve)

    async def _serve(self, address: str, table: RouteTable) -> Running:
        from capabilities.http.listen import ListenError

        self._starting = True
        try:
            async with self.turn:
                server = _Server(await self._start(address, table), self._servers.discard)
            self._servers.add(server)
        except ListenError as error:
            raise UsageError(f"{self._config.app}: {error}") from None
        finally:
            self._starting = False
        return server

    async def _serve_here(self, address: str, table: RouteTable) -> Running:
        from capabilities.http.listen import bind, name_of
        from capabilities.http.server import HttpService
        from slight_py import access

        service = HttpService(
            self.handlers, self._config.http, access.logger(self._config.access_log, self._config.module)
        )
        sockets = await asyncio.to_thread(bind, address)
        await service.start(sockets, table)
        log.info("serving at %s", name_of(sockets[0]))
        return service

    async def _stop(self) -> None:
        await asyncio.gather(*(server.stop() for server in self._servers))


class _Server:
    """A server that says when it has stopped."""

    def __init__(self, running: Running, ended: Callable[[Running], None]) -> None:
        self._running = running
        self._ended = ended

    async def stop(self) -> None:
        await self._running.stop()
        self._ended(self)
