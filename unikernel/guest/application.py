"""The application at work: the module as it was compiled, with what it is granted."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capabilities.http.settings import HttpSettings
from slight_py import limits, loop, runner
from slight_py.engine import Engine, InvalidModule, Limits
from slight_py.errors import UsageError
from slight_py.runner import AnyLoaded, BaseRun, RunConfig
from slight_py.wasi import Directory, WasiSettings
from unikernel.guest import memory, orders
from unikernel.guest.grants import granted
from unikernel.guest.launcher import Launcher
from unikernel.manifest import App, AppManifest, Cpu

if TYPE_CHECKING:
    from capabilities.http.routes import RouteTable
    from capabilities.keyvalue.memory import MemoryStores
    from slight_py.runner import Running

ROOM, ROOM_TO_SERVE = 6 << 20, 14 << 20
"""Bytes that the system must be able to give once the application is loaded; the second where it is yet to import the
HTTP server, which takes 8 MiB. With 3.5 MiB left a server was seen to get nowhere, with 7.5 it served."""


def run(
    launcher: Launcher,
    folder: Path,
    manifest: AppManifest,
    app: App,
    boot: Mapping[str, Any],
    directories: Sequence[Directory],
) -> int:
    """Runs the application to its end; returns its exit code. Raises UsageError, and MemoryError.

    `folder` has what the image has of it, `boot` is the boot message, `directories` are what the module sees of the
    host.
    """
    config = _config(folder, manifest, app, boot, directories)
    room = ROOM_TO_SERVE if app.serves else ROOM
    memory.check(room)
    loaded = load(config, folder, manifest.cpu)
    memory.check(room)
    launcher.send("phase", "loaded")
    try:
        application = _application(config, loaded, launcher)
    except InvalidModule as error:
        raise UsageError(f"{config.app}: the module can't be run: {error}") from None
    # What there is now stays: the collector needn't look at it again and again.
    gc.freeze()
    return loop.run(orders.follow(launcher, application.main))


def _config(
    folder: Path, manifest: AppManifest, app: App, boot: Mapping[str, Any], directories: Sequence[Directory]
) -> RunConfig:
    options = boot["options"]
    slightfile = granted(folder, manifest, boot["values"])
    # A module that serves no requests has one instance; to make room for more takes time.
    requests = limits.MAX_CONCURRENT.of(options) if app.serves else 0
    http = {option.name: option.of(options) for option in limits.HTTP}
    return RunConfig(
        app=Path(app.name),
        slightfile=slightfile,
        wasi=WasiSettings((app.name, *boot["args"]), boot["env"], tuple(directories)),
        limits=Limits(memory=limits.MAX_MEMORY.of(options), instances=requests + 16),
        http=HttpSettings(**http, cors=runner.cors(slightfile)),
        access_log=limits.ACCESS_LOG.of(options),
        verbose=limits.VERBOSE.of(options),
    )


def load(config: RunConfig, folder: Path, cpu: Cpu) -> AnyLoaded:
    """Takes the module or the component as it was compiled. Raises UsageError."""
    try:
        engine = Engine(config.limits)
    except InvalidModule as error:
        raise UsageError(str(error)) from None
    try:
        return runner.reload(engine, config, (folder / "module.cwasm").read_bytes())
    except InvalidModule as error:
        hint = "; build the image with --cpu portable" if cpu == "native" else "; build the image again"
        raise UsageError(f"{config.app}: this machine doesn't run it as it was compiled: {error}{hint}") from None


def _application(config: RunConfig, loaded: AnyLoaded, launcher: Launcher) -> BaseRun:
    """The application as `slight-py run` has it, but that it listens at the machine's address, and says so."""

    @cache
    def stores() -> MemoryStores:
        from capabilities.keyvalue.memory import MemoryStores

        return MemoryStores()

    async def start(address: str, table: RouteTable | None) -> Running:
        from capabilities.http.listen import bind, parse

        _, port = parse(address)
        service = application.service()
        # The launcher forwards to this one address, from the one that was asked for.
        sockets = bind(f"0.0.0.0:{port}")
        await service.start(sockets, table)
        launcher.send("serving", {"address": address, "port": sockets[0].getsockname()[1]})
        return service

    application = loaded.run(config, stores, start=start)
    return application
