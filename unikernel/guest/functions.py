"""The function service at work: over which channels its clients come, and what memory it may take."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import signal
import socket
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from typing import Any

from slight_py import limits, loop
from slight_py.compilation import CompileLimits
from slight_py.engine import Engine, InvalidModule, Limits
from slight_py.errors import UsageError
from unikernel import control
from unikernel.guest import memory, orders, ports, service
from unikernel.guest.launcher import Launcher
from unikernel.guest.service import Settings

PAGE = 1 << 16
"""Bytes of a page of WebAssembly."""

COMPILER = 24 << 20
"""Bytes that the process takes in which a module is compiled, before it begins."""

ROOM = 6 << 20
"""Bytes that the system must be able to give besides."""


def serve(launcher: Launcher, has_channel: bool, options: Mapping[str, Any]) -> int:
    """Serves one client after the other, until a signal; returns the exit code. Raises UsageError, and MemoryError.

    `options` are those of the boot message.
    """
    if not has_channel:
        raise UsageError("the image is a function service, which is reached over a channel; run it with --channel DIR")
    # The other half is for the compilation of the next module, and for what is read and written.
    most = min(limits.MAX_MEMORY.default, memory.available() // 2 & -PAGE)
    try:
        engine = Engine(Limits(memory=options.get(limits.MAX_MEMORY.name, most), instances=4))
    except InvalidModule as error:
        raise UsageError(str(error)) from None
    memory.check(ROOM)
    gc.freeze()
    clients = port_clients if launcher.file is not None else vsock_clients
    settings = Settings(engine, limits.REQUEST_TIMEOUT.of(options), lambda: _compilation(options))
    return loop.run(orders.follow(launcher, lambda: _until_signal(clients(settings))))


def _compilation(options: Mapping[str, Any]) -> CompileLimits:
    """What the compilation of a module may take of a machine that has as much memory as now."""
    available = memory.available()
    size = min(limits.MAX_MODULE.default, available // 8)
    room = min(limits.COMPILE_MEMORY.default, max(available - COMPILER - ROOM, 0))
    return CompileLimits(
        options.get(limits.MAX_MODULE.name, size),
        limits.COMPILE_TIMEOUT.of(options),
        options.get(limits.COMPILE_MEMORY.name, room),
    )


async def _until_signal(serving: Awaitable[None]) -> int:
    this = asyncio.ensure_future(serving)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, this.cancel)
    # A service ends when it is told to, and as it should: with 0, like a server.
    with suppress(asyncio.CancelledError):
        await this
    return 0


# Clients.


async def port_clients(settings: Settings) -> None:
    """Serves whoever holds the other end of the two virtio ports. Raises UsageError where there are none."""
    command, data = (ports.open_port(name) for name in (control.COMMAND, control.DATA))
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


async def vsock_clients(settings: Settings) -> None:
    """Serves who connects to the two vsock ports, one after the other. Raises UsageError where there is no vsock."""
    listeners = [_vsock_listener(port) for port in (control.COMMAND_VSOCK, control.DATA_VSOCK)]
    while True:
        opened = await _client(listeners)
        await service.serve(opened[0].fileno(), opened[1].fileno(), settings)
        for connection in opened:
            connection.close()


async def _client(listeners: list[socket.socket]) -> list[socket.socket]:
    """A connection to each of the listeners, none of which has gone away again: paired with what another client
    connects, it would leave every later one with halves that don't belong together."""
    current = asyncio.get_running_loop()
    opened = [(await current.sock_accept(listener))[0] for listener in listeners]
    while gone := [at for at, connection in enumerate(opened) if _has_gone(connection)]:
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
