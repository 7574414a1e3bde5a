"""Runs a module or a component from its entry point to its end, in the main process of a `run`.

What only some modules need is imported when a module needs it: the HTTP server takes longer to import than a small
module to run.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from bindgen.runtime import Err, GuestFault
from capabilities import notices
from capabilities.errors import ConfigError
from capabilities.http.cors import Cors
from capabilities.http.settings import HttpSettings
from slight_py import linker, logs, modules, open_files, wasi
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
    Shape,
    Trap,
    check_room,
    describe,
)
from slight_py.errors import UsageError
from slight_py.slightfile import Slightfile

if TYPE_CHECKING:
    from socket import socket

    from capabilities.http.host import HttpHost
    from capabilities.http.routes import RouteTable
    from capabilities.keyvalue.memory import MemoryStores
    from slight_py.component.running import LoadedComponent
    from slight_py.handlers import Handlers

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
    listen: str = "127.0.0.1:3000"
    """Where a component that answers requests is served. A module says itself where it wants to be."""
    instance_requests: int = 1
    """How many requests an instance of a component may answer, where that exports `wasi:http/handler` of WASI 0.3."""


class Running(Protocol):
    """A server at work, in this process or in several."""

    async def stop(self) -> None:
        """Finishes the requests under way and ends."""


Start: TypeAlias = "Callable[[str, RouteTable | None], Awaitable[Running]]"
"""Starts to serve at an address: a table of routes of a module, or a component, which has none."""


class Service(Protocol):
    """An HTTP server in this process."""

    async def start(self, sockets: Sequence[socket], table: Any) -> None:
        """Listens on sockets, and returns. A component has no table of routes. Raises ListenError."""

    async def stop(self) -> None:
        """Finishes the requests under way and ends."""


@dataclass(slots=True)
class Checked:
    """A module that was found to be right, and what it is given."""

    info: ModuleInfo
    slightfile: Slightfile

    def imports_something(self) -> bool:
        """Whether it imports an interface, WASI aside."""
        return bool(linker.interfaces(self.info))

    def families(self) -> set[str]:
        """The names of the families whose interfaces it imports."""
        imported = (linker.family_of(each, self.slightfile) for each in linker.interfaces(self.info))
        return {family.name for family in imported if family is not None}

    def entry_name(self, path: Path) -> str:
        """Where it begins. Raises UsageError where it has no entry point."""
        return entry_point(path, self.info.functions).name

    def serves(self) -> bool:
        """Whether it may answer requests."""
        return "http" in self.families() and bool(self.slightfile.grants_for("http"))


@dataclass(slots=True)
class Loaded(Checked):
    """A module that is ready to run, and the engine it runs on."""

    engine: Engine
    module: Module

    def program(self, backends: linker.Backends, http: Callable[[], HttpHost] | None) -> Program:
        """The module as it is linked to start servers, or without `http`, to handle their requests."""
        links = linker.link(self.info, self.slightfile, backends, http)
        return Program(self.engine, self.module, links, self.info)

    @property
    def shape(self) -> Shape:
        """What an instance takes of the engine's pool."""
        return self.module.core.shape

    def serialize(self) -> bytes:
        """What `reload` takes."""
        return self.module.serialize()

    def uses_listen(self) -> bool:
        """Whether `--listen` says where it's served: a module says that itself."""
        return False

    def run(self, config: RunConfig, stores: Callable[[], MemoryStores], **others: Any) -> Run:
        """What runs it. Raises InvalidModule, and UsageError."""
        return Run(config, self, stores, **others)

    def service(self, config: RunConfig, backends: linker.Backends) -> Service:
        """What answers requests in a process that does nothing else."""
        from slight_py.handlers import Handlers

        return http_service(config, Handlers(self.program(backends, None), config.wasi))


def http_service(config: RunConfig, handlers: Handlers) -> Service:
    """A server of a module's routes."""
    from capabilities.http.server import HttpService
    from slight_py import access

    return HttpService(handlers, config.http, access.logger(config.access_log, config.module))


AnyLoaded: TypeAlias = "Loaded | LoadedComponent"
AnyChecked: TypeAlias = "Checked | LoadedComponent"


def load(config: RunConfig, link_all: bool = False, engine: Engine | None = None) -> AnyLoaded:
    """Compiles the module or the component and checks what it needs, for an `engine` of its own where none is given.

    Raises UsageError.
    """
    wasm = modules.read(config.app, config.compilation.size)
    try:
        engine = engine or Engine(config.limits)
    except InvalidModule as error:
        raise UsageError(str(error)) from None
    if modules.is_component(wasm):
        from slight_py.component import running

        return running.load(engine, config, wasm, link_all)
    check_fresh(config)
    module = modules.load(engine, config.app, config.cache, config.compilation, wasm)
    info = describe(module)
    slightfile = linker.check(config.app, info, config.slightfile, link_all)
    return Loaded(info, slightfile, engine, module)


def check_fresh(config: RunConfig) -> None:
    """Raises UsageError where instances are to answer several requests, which can't be asked of this app."""
    if config.instance_requests != 1:
        raise UsageError(
            f"{config.app}: --instance-requests is for components that export wasi:http/handler of WASI 0.3, whose "
            "instances may answer several requests; leave it out"
        )


def reload(engine: Engine, config: RunConfig, serialized: bytes) -> AnyLoaded:
    """What `serialize` made of a module or a component, which is checked already."""
    if modules.is_component(serialized):
        from slight_py.component import running

        return running.reload(engine, config, serialized)
    module = engine.load(serialized)
    return Loaded(describe(module), config.slightfile, engine, module)


def entry_point(path: Path, functions: dict[str, ExportedFunction]) -> ExportedFunction:
    """Where the module begins. Raises UsageError where it has no entry point."""
    for name, signature in ENTRY_POINTS.items():
        if name in functions:
            function = functions[name]
            if (function.params, function.result) != signature:
                raise UsageError(f"{path}: the exported function {name} has another signature than an entry point")
            return function
    raise UsageError(f"{path}: exports none of {', '.join(ENTRY_POINTS)}; build it as a program, not as a library")


async def run(config: RunConfig, loaded: AnyLoaded) -> int:
    """Runs a loaded module to its end; returns the exit code. Raises UsageError."""
    return await run_all([(config, loaded)])


async def run_all(modules: Sequence[tuple[RunConfig, AnyLoaded]]) -> int:
    """Runs loaded modules, all at the same time, until each has ended; returns the exit code. Raises UsageError.

    They have no more of each other than the backends that they share.
    """
    open_files.allow()
    if len(modules) > 1:
        try:
            check_room(modules[0][0].limits, [loaded.shape for _, loaded in modules])
        except InvalidModule as error:
            raise UsageError(f"{error}; there are {len(modules)} modules, each with so many") from None
    _check_ports(modules)

    @cache
    def stores() -> MemoryStores:
        from capabilities.keyvalue.memory import MemoryStores

        return MemoryStores()

    backends = linker.Backends(stores)

    def workers_of(config: RunConfig, loaded: AnyLoaded) -> Start:
        async def start(address: str, table: RouteTable | None) -> Running:
            from slight_py.workers import Workers

            # The workers get the slightfile as it was found to be, with what --link-all-capabilities added to it.
            workers = Workers(replace(config, slightfile=loaded.slightfile), loaded, stores(), backends)
            await workers.start(address, table)
            return workers

        return start

    runs: list[BaseRun] = []
    for config, loaded in modules:
        start = workers_of(config, loaded) if config.workers > 1 else None
        try:
            runs.append(loaded.run(config, stores, start=start, backends=backends))
        except InvalidModule as error:
            raise UsageError(f"{config.app}: it can't be run: {error}") from None
    return await _main(runs, backends)


def _check_ports(modules: Sequence[tuple[RunConfig, AnyLoaded]]) -> None:
    """Raises UsageError where several components would be served at one port."""
    served = [config for config, loaded in modules if loaded.uses_listen()]
    if len(served) > 1 and not served[0].listen.endswith(":0"):
        names = " and ".join(config.app.name for config in served)
        raise UsageError(
            f"{names} answer requests, and --listen gives them one address, {served[0].listen}; let them have free "
            "ports with --listen 127.0.0.1:0, or run each by a command of its own"
        )


def cors(slightfile: Slightfile) -> Cors:
    """The CORS settings of the slightfile's `http` capability. Raises UsageError."""
    grants = slightfile.grants_for("http")
    if not grants:
        return Cors()
    try:
        return Cors.from_configs(grants[0].configs)
    except ConfigError as error:
        raise UsageError(f"{slightfile.place(grants[0])}http: {error.key}: {error}") from None


async def _main(runs: Sequence[BaseRun], backends: linker.Backends) -> int:
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


class BaseRun:
    """One module or component at work: its entry point, and the servers that it started."""

    def __init__(
        self,
        config: RunConfig,
        loaded: AnyLoaded,
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
        if code and logs.silent():
            asked = self._loaded.imports_something() and not self._config.verbose
            more = "; --verbose shows what it asked for" if asked else ""
            log.error("%s ended with code %d and said nothing%s", self._config.app.name, code, more)
        await wasi.printed()
        return code

    async def _outcome(self) -> int:
        """Runs the guest; returns the exit code that its outcome means."""
        try:
            return await self._begin()
        except Exit as ended:
            return ended.code
        except Trap as trap:
            log.error("%s: the guest trapped: %s", self._config.app, trap)
            log.debug("%s", trap.backtrace)
        except GuestFault as fault:
            log.error("%s: the guest broke the binary interface: %s", self._config.app, fault)
        except InvalidModule as error:
            raise UsageError(f"{self._config.app}: it can't be run: {error}") from None
        return 1

    async def _begin(self) -> int:
        """Runs the entry point, or starts to serve; returns the exit code."""
        raise NotImplementedError

    def service(self) -> Service:
        """What answers requests in this process."""
        raise NotImplementedError

    # Servers.

    async def _serve(self, address: str, table: RouteTable | None) -> Running:
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

    async def _serve_here(self, address: str, table: RouteTable | None) -> Running:
        from capabilities.http.listen import bind, name_of

        service = self.service()
        sockets = await asyncio.to_thread(bind, address)
        await service.start(sockets, table)
        log.info("serving at %s", name_of(sockets[0]))
        return service

    async def _stop(self) -> None:
        await asyncio.gather(*(server.stop() for server in self._servers))


class Run(BaseRun):
    """A module at work."""

    def __init__(
        self,
        config: RunConfig,
        loaded: Loaded,
        stores: Callable[[], MemoryStores],
        start: Start | None = None,
        backends: linker.Backends | None = None,
    ) -> None:
        super().__init__(config, loaded, stores, start, backends)
        self._module = loaded
        self._program = loaded.program(self.backends, self._http)
        self._entry = entry_point(config.app, loaded.info.functions)

    async def _begin(self) -> int:
        instance = await self._program.instantiate(wasi.Context(self._config.wasi, stdin=self._config.reads_input))
        try:
            await instance.initialize()
            return await self._enter(instance)
        finally:
            instance.close()

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

    def _http(self) -> HttpHost:
        """What answers a module that may start servers."""
        from capabilities.http.host import HttpHost
        from slight_py.handlers import Handlers

        self.handlers = Handlers(self._module.program(self.backends, None), self._config.wasi)
        return HttpHost(self.handlers, self._serve)

    def service(self) -> Service:
        return http_service(self._config, self.handlers)


class _Server:
    """A server that says when it has stopped."""

    def __init__(self, running: Running, ended: Callable[[Running], None]) -> None:
        self._running = running
        self._ended = ended

    async def stop(self) -> None:
        await self._running.stop()
        self._ended(self)
