"""Instructions that the processor of a machine executes for a request.

QEMU's emulator counts them, by the plugin instructions.c: all of them, the kernel's and the guest's, and none of the
host's. The number hardly depends on what else the host does, which time does.
"""

from __future__ import annotations

import http.client
import os
import shlex
import struct
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bench.images import compiled
from bench.machines import SERVING, get, launcher, watched
from bench.processes import free_port
from unikernel import machine

REQUESTS, WARM_UP = 100, 50
"""Requests that are counted in a round, and how many of each kind go before the first round."""

HELLO, NOWHERE = ("/hello", 200), ("/nowhere", 404)
"""A path that has an instance answer, and one that the server answers without, with their status."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Instructions of one request, in the mean of a round's."""

    request: float
    """One that an instance answers."""
    instance: float
    """What that takes more than one which the server answers alone: to make the instance, call and end it."""


def prepare(scratch: Path) -> Path:
    """Builds the plugin, and puts a QEMU that uses it, under its usual name, into a directory that is returned."""
    source = (Path(__file__).parent / "instructions.c").read_text()
    plugin = compiled(source, scratch / "instructions.so", "-target", "x86_64-linux-gnu", "-shared", "-fPIC")
    (scratch / "count").write_bytes(bytes(8))
    folder = scratch / "counting"
    folder.mkdir()
    words = shlex.join([str(machine.find()), "-plugin", f"{plugin},into={scratch / 'count'}"])
    (folder / machine.QEMU).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    (folder / machine.QEMU).chmod(0o755)
    return folder


def executed(folder: Path) -> int:
    """How many instructions the QEMU of that directory has counted, in all its machines since `prepare`."""
    number: int = struct.unpack("=Q", (folder.parent / "count").read_bytes())[0]
    return number


def counted(path: Path, folder: Path, rounds: int) -> list[Counted]:
    """Counts the requests of an image's machine. `folder` is that of `prepare`."""
    port = free_port()
    environment = os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}

    def each(path: str, status: int) -> float:
        """Instructions of a request, without what an idle machine would have executed in the same time."""
        begin, began = executed(folder), time.monotonic()
        for _ in range(REQUESTS):
            get(connection, path, status)
        return (executed(folder) - begin - idle * (time.monotonic() - began)) / REQUESTS

    with (
        watched(launcher(path, "tcg", "-p", f"{port}:3000"), 60.0 + 30.0 * rounds, environment) as run,
        closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection,
    ):
        run.heard(SERVING)
        for kind in (HELLO, NOWHERE):
            for _ in range(WARM_UP):
                get(connection, *kind)
        begin = executed(folder)
        time.sleep(1)
        idle = executed(folder) - begin
        found = []
        for _ in range(rounds):
            request, alone = each(*HELLO), each(*NOWHERE)
            found.append(Counted(request, request - alone))
    return found
