"""WASI preview 1 as guests of slight-py have it: wasmtime's own, but for waiting.

wasmtime's C API offers WASI with calls that block. The one that is meant to block, `poll_oneoff` (every sleep is one),
is answered here instead, so that a guest that sleeps holds up nobody else. Layouts are those of WASI's
`wasi_snapshot_preview1` witx files.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct
from typing import Any

from bindgen.support import GuestFault, Import, Lift
from slight_py.engine import WASI, Instance, ModuleInfo
from slight_py.errors import UsageError
from slight_py.store import WasiTemplate

# fmt: off
FUNCTIONS = frozenset((
    "args_get", "args_sizes_get", "clock_res_get", "clock_time_get", "environ_get", "environ_sizes_get", "fd_advise",
    "fd_allocate", "fd_close", "fd_datasync", "fd_fdstat_get", "fd_fdstat_set_flags", "fd_fdstat_set_rights",
    "fd_filestat_get", "fd_filestat_set_size", "fd_filestat_set_times", "fd_pread", "fd_prestat_dir_name",
    "fd_prestat_get", "fd_pwrite", "fd_read", "fd_readdir", "fd_renumber", "fd_seek", "fd_sync", "fd_tell", "fd_write",
    "path_create_directory", "path_filestat_get", "path_filestat_set_times", "path_link", "path_open", "path_readlink",
    "path_remove_directory", "path_rename", "path_symlink", "path_unlink_file", "poll_oneoff", "proc_exit",
    "proc_raise", "random_get", "sched_yield", "sock_accept", "sock_recv", "sock_send", "sock_shutdown",
))
# fmt: on
"""All of preview 1, which is final."""


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory of the host that a guest may use."""

    host: Path
    guest: str
    writable: bool = True


@dataclass(frozen=True, slots=True)
class WasiSettings:
    """What a guest gets from WASI. Standard output and error are the process's own."""

    args: Sequence[str] = ()
    """The first one is the program's name."""
    env: Mapping[str, str] = field(default_factory=dict)
    directories: Sequence[Directory] = ()


def check(settings: WasiSettings) -> None:
    """Raises UsageError for what wasmtime would refuse."""
    for directory in settings.directories:
        if not directory.host.is_dir():
            raise UsageError(f"--dir: {directory.host} is not a directory")
        if not os.access(directory.host, os.R_OK | os.X_OK):
            raise UsageError(f"--dir: {directory.host} can't be read")
    for text in (*settings.args, *settings.env, *settings.env.values()):
        if "\0" in text:
            raise UsageError(f"{text!r}: an argument or a variable can't hold a NUL character")


def template(settings: WasiSettings, info: ModuleInfo, stdin: bool) -> WasiTemplate:
    """What makes the configurations of a module's instances. With `stdin`, the process's standard input is theirs."""
    # Each instance opens its directories anew: not for a module that can't open a file in them.
    wants_files = any(each.module == WASI and each.name.startswith("path_") for each in info.imports)
    granted = settings.directories if wants_files else ()
    directories = [(str(each.host), each.guest, each.writable) for each in granted]
    return WasiTemplate(settings.args, settings.env, directories, stdin)


# poll_oneoff: 48-byte subscriptions in, 32-byte events out.

_SUBSCRIPTION = Struct("<QB7xI4xQ8xH6x")
_EVENT = Struct("<QHB5x16x")
_CLOCK, _FD_READ, _FD_WRITE = 0, 1, 2
_ABSOLUTE = 1
_REALTIME, _MONOTONIC = 0, 1
_EINVAL, _ENOTSUP = 28, 58
_MOST = 4096
"""Subscriptions in one call."""


async def _poll_oneoff(_host: None, guest: Instance, args: tuple[Any, ...]) -> int:
    """Waits until the first of the clocks has run out. A file is always ready, as it is for poll(2)."""
    subscriptions_at, events_at, count, count_at = args
    lift = Lift(guest, f"{WASI}: poll_oneoff", "subscriptions")
    if not 0 < count <= _MOST:
        return _EINVAL
    lift.range(subscriptions_at, count * _SUBSCRIPTION.size)
    lift.at = "events"
    lift.range(events_at, count * _EVENT.size)
    lift.range(count_at, 4)
    end = subscriptions_at + count * _SUBSCRIPTION.size
    waits: list[tuple[float, int, int, int]] = []
    for user_data, kind, clock, timeout, flags in _SUBSCRIPTION.iter_unpack(lift.memory[subscriptions_at:end]):
        if kind in (_FD_READ, _FD_WRITE):
            waits.append((0, user_data, 0, kind))
        elif kind == _CLOCK and clock in (_REALTIME, _MONOTONIC):
            waits.append((_seconds(guest, clock, timeout, flags), user_data, 0, kind))
        elif kind == _CLOCK:
            waits.append((0, user_data, _ENOTSUP, kind))
        else:
            raise GuestFault(f"{WASI}: poll_oneoff: subscriptions: {kind} is not a kind of event")
    first = min(wait for wait, *_ in waits)
    await asyncio.sleep(first)
    memory = guest.memory
    ready = [event for wait, *event in waits if wait <= first]
    for number, (user_data, errno, kind) in enumerate(ready):
        _EVENT.pack_into(memory, events_at + number * _EVENT.size, user_data, errno, kind)
    memory[count_at : count_at + 4] = len(ready).to_bytes(4, "little")
    return 0


def _seconds(guest: Instance, clock: int, timeout: int, flags: int) -> float:
    """How long a clock still runs. `timeout` is in nanoseconds, a point in time or a span of it."""
    if flags & _ABSOLUTE:
        # wasmtime's monotonic clock begins with the instance.
        timeout -= time.time_ns() if clock == _REALTIME else time.monotonic_ns() - guest.started
    return max(0.0, timeout / 1e9)


IMPORTS = (Import(WASI, "poll_oneoff", "iiii", "i", _poll_oneoff),)
"""What is answered here rather than by wasmtime."""
