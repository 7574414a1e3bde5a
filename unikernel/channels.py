"""The sockets of a function service, in a directory that only its user may write to."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slight_py.errors import UsageError
from unikernel.control import COMMAND, DATA

_NAME_LIMIT = 107
"""Bytes of a socket's path, see unix(7)."""


@contextmanager
def sockets(folder: Path) -> Iterator[tuple[tuple[str, str], ...]]:
    """Serial ports by name, with QEMU's words for sockets in a directory as the host's ends of them. QEMU makes the
    sockets, and they are removed at the end. Raises UsageError.

    Until `publish` they have hidden names: they are there already for a try of KVM, which may fail.
    """
    folder = folder.absolute()
    _check_folder(folder)
    public = [_socket(folder, name) for name in (COMMAND, DATA)]
    paths = [*public, *map(_hidden, public)]
    for path in paths:
        _clear(path)
    words = [f"socket,path={str(_hidden(path)).replace(',', ',,')},server=on,wait=off" for path in public]
    try:
        yield tuple(zip((COMMAND, DATA), words, strict=True))
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def publish(folder: Path) -> None:
    """Gives the sockets the names that clients know. Raises UsageError."""
    try:
        for name in (COMMAND, DATA):
            path = _socket(folder, name)
            _hidden(path).rename(path)
    except OSError as error:
        raise UsageError(f"--channel {folder}: its sockets have gone: {error.strerror}; leave them there") from None


def _check_folder(folder: Path) -> None:
    """Makes the directory where there is none. Raises UsageError where others may write to it."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise UsageError(f"--channel {folder}: it can't be made: {error.strerror}; give another directory") from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022:
        raise UsageError(
            f"--channel {folder}: this is not a directory that you alone may write to; give another, or one to be made"
        )


def _socket(folder: Path, name: str) -> Path:
    return folder / f"{name.removeprefix('slight.')}.sock"


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}")


def _clear(path: Path) -> None:
    """Removes a socket that a machine left behind. Raises UsageError for one in use, and for what is no socket."""
    if len(os.fsencode(path)) > _NAME_LIMIT:
        raise UsageError(f"--channel: {path} is too long for the name of a socket; give a shorter directory")
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise UsageError(f"--channel: {path} is not a socket; remove it, or give another directory")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # one whose queue is full is in use as well
        if probe.connect_ex(str(path)) not in (0, errno.EAGAIN):
            path.unlink(missing_ok=True)
            return
    raise UsageError(f"--channel: {path} is another machine's, which runs; give another directory")
