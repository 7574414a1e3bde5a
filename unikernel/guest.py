"""What process 1 runs: the application of the image, or the function service, with what the launcher handed over."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import select
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slight_py import logs, loop, output
from slight_py.engine import Engine, InvalidModule, Limits
from slight_py.errors import UsageError
from unikernel import control, init
from unikernel import manifest as manifests

if TYPE_CHECKING:
    from capabilities.http.routes import RouteTable
    from capabilities.keyvalue.memory import MemoryStores
    from slight_py.compilation import CompileLimits
    from slight_py.runner import AnyLoaded, BaseRun, RunConfig, Running
    from slight_py.slightfile import Grant, Slightfile
    from slight_py.wasi import Directory
    from unikernel.manifest import App, AppManifest, Cpu
    from unikernel.manifest import Grant as PackedGrant
    from unikernel.service import Settings

log = logging.getLogger("slight_py")

APP = Path("/app")
"""`app.json`, `module.cwasm` and `custom/N/`, see image.py."""

OPEN_FILES = 1 << 16
"""Connections and files at once."""

MEMORY, CONCURRENT, TIMEOUT = 256 << 20, 1000, 30.0
"""The limits where the launcher says nothing, those of `slight-py run`."""

_WITHOUT_FILES = (
    *("http", "keyvalue.memory", "keyvalue.redis", "kv.redis", "messaging.memory", "messaging.mosquitto"),
    *("messaging.nats", "messaging.confluent_apache_kafka", "messaging.azsbus", "mq.azsbus"),
)
"""Resource types that write no files."""

PAGE = 1 << 16
"""Bytes of a page of WebAssembly."""

COMPILER = 24 << 20
"""Bytes that the process takes in which a module is compiled, before it begins."""

ROOM, ROOM_TO_SERVE = 6 << 20, 14 << 20
"""Bytes that the system must be able to give once the application is loaded; the second where it is yet to import the
HTTP server, which takes 8 MiB. With 3.5 MiB left a server was seen to get nowhere, with 7.5 it served."""


def main(launcher: init.Launcher, boot: Mapping[str, Any]) -> int:
    """Runs the application to its end; returns its exit code. Raises UsageError, and MemoryError."""
    try:
        return _main(launcher, boot)
    finally:
        output.flush()


def _main(launcher: init.Launcher, boot: Mapping[str, Any]) -> int:
    logs.configure(boot["options"].get("verbose", False))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    manifest = _manifest()
    directories = _mount(boot["volumes"], manifest.grants)
    if manifest.app is None:
        return _serve_functions(launcher, boot)
    config = _config(manifest, manifest.app, boot, directories)
    room = ROOM_TO_SERVE if manifest.app.serves else ROOM
    init.check_memory(room)
    loaded = _load(config, manifest.cpu)
    init.check_memory(room)
    launcher.send("phase", "loaded")
    try:
        application = _application(config, loaded, launcher)
    except InvalidModule as error:
        raise UsageError(f"{config.app}: the module can't be run: {error}") from None
    # What there is now stays: the collector needn't look at it again and again.
    gc.freeze()
    return loop.run(_controlled(launcher, application.main))


# What the image and the launcher give.


def _manifest() -> AppManifest:
    """Raises UsageError."""
    try:
        return manifests.app_from_json((APP / "app.json").read_bytes())
    except ValueError as error:
        raise UsageError(f"the image's app.json can't be read: {error}; build the image again") from None


def _config(manifest: AppManifest, app: App, boot: Mapping[str, Any], directories: list[Directory]) -> RunConfig:
    from capabilities.http.settings import HttpSettings
    from slight_py.runner import RunConfig, cors
    from slight_py.wasi import WasiSettings

    options = boot["options"]
    slightfile = _slightfile(manifest, boot["values"])
    # A module that serves no requests has one instance; to make room for more takes time.
    requests = options.get("max_concurrent", CONCURRENT) if app.serves else 0
    names = ("max_body", "request_timeout", "max_concurrent", "drain_timeout")
    http = {name: options[name] for name in names if name in options}
    return RunConfig(
        app=Path(app.name),
        slightfile=slightfile,
        wasi=WasiSettings((app.name, *boot["args"]), boot["env"], tuple(directories)),
        limits=Limits(memory=options.get("max_memory", MEMORY), instances=requests + 16),
        http=HttpSettings(**http, cors=cors(slightfile)),
        access_log=options.get("access_log"),
        verbose=options.get("verbose", False),
    )


def _slightfile(manifest: AppManifest, values: Mapping[str, str]) -> Slightfile:
    """The slightfile that the image was built with, and the values that it left out. Raises UsageError."""
    from slight_py.slightfile import Slightfile

    path = Path(manifest.slightfile) if manifest.slightfile else None
    grants, missing = [], []
    for number, packed in enumerate(manifest.grants):
        place = f"{path}:{packed.line}: " if path and packed.line else ""
        grant, lacks = _grant(packed, number, values, place)
        grants.append(grant)
        missing += [f"{place}{packed.resource}: {lack}" for lack in lacks]
    if missing:
        raise UsageError(*missing)
    return Slightfile(path, manifest.specversion, tuple(grants), manifest.app.name if manifest.app else "")


def _grant(packed: PackedGrant, number: int, values: Mapping[str, str], place: str) -> tuple[Grant, list[str]]:
    """An entry of the slightfile, and what is missing to it."""
    from capabilities import registry
    from capabilities.permissions import Rule
    from slight_py.slightfile import Grant

    name = packed.resource
    file, colon, class_name = name.rpartition(":")
    try:
        if colon and file.endswith(".py"):
            from capabilities import custom

            path = APP / "custom" / str(number) / os.path.basename(file)
            kind, family = custom.declared(name, str(path), class_name)
        else:
            found, found_family = registry.resource_type(name), registry.family(packed.family)
            if found is None or found_family is None:
                raise UsageError(f"{place}{name}: the image has no such capability; build the image again")
            kind, family = found, found_family
    except registry.RegistryError as error:
        raise UsageError(f"{place}{name}: {error}") from error
    configs, missing = {}, []
    for key, config in packed.configs.items():
        if config.value is not None:
            configs[key] = config.value
        elif config.source is not None and config.source in values:
            configs[key] = values[config.source]
        else:
            missing.append(f"the value of {key} is handed over at the start, and {config.source!r} is not; set it")
    rules = () if packed.allow is None else (Rule((), dict(packed.allow)),)
    return Grant(kind, family, packed.name, configs, packed.line, allow=rules), missing


def _mount(volumes: list[dict[str, Any]], grants: Iterable[PackedGrant]) -> list[Directory]:
    """Mounts the directories of the host; returns them as the module sees them."""
    if volumes or any(grant.resource not in _WITHOUT_FILES for grant in grants):
        init.make_root_writable()
    if not volumes:
        return []
    from slight_py.wasi import Directory

    return [
        Directory(Path(init.mount_volume(each["tag"], each["path"], each["writable"])), each["path"], each["writable"])
        # What lies in another one is mounted after it.
        for each in sorted(volumes, key=lambda each: os.path.normpath(each["path"]))
    ]


def _load(config: RunConfig, cpu: Cpu) -> AnyLoaded:
    """Takes the module or the component as it was compiled. Raises UsageError."""
    from slight_py import runner

    engine = _engine(config.limits)
    try:
        return runner.reload(engine, config, (APP / "module.cwasm").read_bytes())
    except InvalidModule as error:
        hint = "; build the image with --cpu portable" if cpu == "native" else "; build the image again"
        raise UsageError(f"{config.app}: this machine doesn't run it as it was compiled: {error}{hint}") from None


def _engine(limits: Limits) -> Engine:
    try:
        return Engine(limits)
    except InvalidModule as error:
        raise UsageError(str(error)) from None


# Running.


def _application(config: RunConfig, loaded: AnyLoaded, launcher: init.Launcher) -> BaseRun:
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


async def _controlled(launcher: init.Launcher, run: Callable[[], Awaitable[int]]) -> int:
    """Runs something, and does meanwhile what the launcher says."""
    running = asyncio.ensure_future(run())
    # It handles signals once it has begun. Until then they wait in the channel, as process 1 would lose them.
    await asyncio.sleep(0)
    launcher.send("phase", "entered")
    if launcher.file is not None:
        asyncio.get_running_loop().add_reader(launcher.file, _listen, launcher)
        # What came along with an earlier message makes nothing readable.
        _obey(launcher, launcher.take())
    return await running


def _listen(launcher: init.Launcher) -> None:
    try:
        _obey(launcher, launcher.read())
    except init.LauncherGone:
        init.end()


def _obey(launcher: init.Launcher, lines: list[bytes]) -> None:
    """Does what the launcher says. The answer to a ping comes from the event loop: one that is stuck shows.

    A loop may wait for a file of the host's, too, so a launcher should wait for 30 seconds, as for any request.
    """
    for line in lines:
        try:
            message = control.from_launcher(line)
        except control.ControlError as error:
            log.warning("the launcher said what can't be understood: %s", error)
            continue
        if message.kind == "signal":
            os.kill(os.getpid(), message.value)
        elif message.kind == "ping":
            launcher.send("pong", message.value)
        elif message.kind == "resume":
            init.renew(message.value)


# The function service.


def _serve_functions(launcher: init.Launcher, boot: Mapping[str, Any]) -> int:
    """Serves one client after the other, until a signal; returns the exit code."""
    if not boot["channel"]:
        raise UsageError("the image is a function service, which is reached over a channel; run it with --channel DIR")
    from unikernel.service import Settings

    options = boot["options"]
    # The other half is for the compilation of the next module, and for what is read and written.
    memory = min(MEMORY, init.available_memory() // 2 & -PAGE)
    engine = _engine(Limits(memory=options.get("max_memory", memory), instances=4))
    init.check_memory(ROOM)
    gc.freeze()
    clients = _port_clients if launcher.file is not None else _vsock_clients
    settings = Settings(engine, options.get("request_timeout", TIMEOUT), lambda: _compilation(options))
    return loop.run(_controlled(launcher, lambda: _until_signal(clients(settings))))


def _compilation(options: Mapping[str, Any]) -> CompileLimits:
    """What the compilation of a module may take of a machine that has as much memory as now."""
    from slight_py.compilation import CompileLimits

    available = init.available_memory()
    usual = CompileLimits()
    return CompileLimits(
        options.get("max_module", min(usual.size, available // 8)),
        options.get("compile_timeout", usual.seconds),
        options.get("compile_memory", min(usual.memory, max(available - COMPILER - ROOM, 0))),
    )


async def _until_signal(serving: Awaitable[None]) -> int:
    import signal

    this = asyncio.ensure_future(serving)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, this.cancel)
    # A service ends when it is told to, and as it should: with 0, like a server.
    with suppress(asyncio.CancelledError):
        await this
    return 0


async def _port_clients(settings: Settings) -> None:
    """Serves whoever holds the other end of the two virtio ports."""
    from unikernel import service

    command, data = (init.open_port(name, init.PORT_TIME) for name in (control.COMMAND, control.DATA))
    if command is None or data is None:
        raise UsageError("the machine has no channel for the function service; run the image with --channel DIR")
    while True:
        while service.hung_up(command) or service.hung_up(data):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(service.PAUSE)
        await service.serve(command, data, settings)
        # What the client left behind is not the next one's, and what the next one sends is not to be lost.
        for file in (command, data):
            with suppress(OSError):
                while service.hung_up(file) and os.read(file, 1 << 16):
                    pass


async def _vsock_clients(settings: Settings) -> None:
    """Serves who connects to the two vsock ports, one after the other."""
    from unikernel import service

    listeners = [_vsock_listener(port) for port in (control.COMMAND_VSOCK, control.DATA_VSOCK)]
    while True:
        opened = await _client(listeners)
        await service.serve(opened[0].fileno(), opened[1].fileno(), settings)
        for each in opened:
            each.close()


async def _client(listeners: list[socket.socket]) -> list[socket.socket]:
    """A connection to each of the listeners, none of which has gone away again: paired with what another client
    connects, it would leave every later one with halves that don't belong together."""
    current = asyncio.get_running_loop()
    opened = [(await current.sock_accept(each))[0] for each in listeners]
    while gone := [at for at, each in enumerate(opened) if _has_gone(each)]:
        for at in gone:
            opened[at].close()
            opened[at], _ = await current.sock_accept(listeners[at])
    return opened


def _has_gone(opened: socket.socket) -> bool:
    """Whether the other end of a connection has been closed, whatever is still to be read."""
    poll = select.poll()
    poll.register(opened, select.POLLRDHUP)
    return bool(poll.poll(0))


def _vsock_listener(port: int) -> socket.socket:
    try:
        listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        listener.bind((socket.VMADDR_CID_ANY, port))
    except OSError as error:
        raise UsageError(f"the machine has no channel for the function service: vsock: {error.strerror}") from None
    listener.setblocking(False)
    listener.listen()
    return listener
