"""Bytes between the machine's serial ports and this process: its standard streams, and the kernel's messages."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import select
import socket
import termios
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from unikernel.checks import printable

log = logging.getLogger("slight_py")

_CHUNK = 1 << 16
_LINE = 1000
_LINES = 400


class Output(threading.Thread):
    """Writes what comes from a socket to a file of this process, until the socket ends.

    A thread, as a write may wait for as long as the reader of the other end likes, and the descriptor is shared with
    other processes, so it can't be made non-blocking. As long as it waits, nothing is read, and the machine waits too.
    A reader that has gone is told to `on_broken`, in this thread, and what comes after is read and dropped.
    """

    def __init__(self, source: socket.socket, target: int, on_broken: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._source = source
        self._target = target
        self._on_broken = on_broken
        self._writing = False
        self._broken = False
        self.count = 0
        """Bytes that came."""

    @property
    def waits(self) -> bool:
        """Whether bytes have come that aren't written yet."""
        # In this order: see `run`.
        return unread(self._source) > 0 or self._writing

    def run(self) -> None:
        with suppress(OSError):  # an end like any other
            while True:
                _wait_for(self._source.fileno(), select.POLLIN)
                # Before the bytes leave the socket, so that they are seen in one place or the other.
                self._writing = True
                received = self._source.recv(_CHUNK)
                if not received:
                    break
                self.count += len(received)
                self._write(received)
                self._writing = False
        self._writing = False

    def _write(self, content: bytes) -> None:
        rest = memoryview(content)
        while rest and not self._broken:
            try:
                rest = rest[os.write(self._target, rest) :]
            except BlockingIOError:
                # Somebody made it non-blocking.
                _wait_for(self._target, select.POLLOUT)
            except OSError:
                self._broken = True
                self._on_broken()


class Input(threading.Thread):
    """Gives a file of this process to a socket, and its end as the socket's end.

    A thread, as not every file can be waited for in another way. It ends with the process.
    """

    def __init__(self, source: int, target: socket.socket) -> None:
        super().__init__(daemon=True)
        self._source = source
        self._target = target

    def run(self) -> None:
        with suppress(OSError):
            while received := self._read():
                self._target.sendall(received)
        with suppress(OSError):
            # Not close(): QEMU would drop what the machine has not read yet.
            self._target.shutdown(socket.SHUT_WR)

    def _read(self) -> bytes:
        while True:
            _wait_for(self._source, select.POLLIN)
            if _is_ours(self._source):
                return os.read(self._source, _CHUNK)
            # To read now would stop this process (SIGTTIN): the line is for the terminal's foreground.
            threading.Event().wait(0.5)


class Console:
    """The kernel's messages: the last lines are kept, and with --verbose all are shown."""

    def __init__(self, opened: socket.socket) -> None:
        """Takes over a connected, non-blocking socket."""
        self._socket = opened
        self._rest = b""
        self.lines: deque[str] = deque(maxlen=_LINES)

    async def read(self) -> None:
        """Reads to the end."""
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while received := await loop.sock_recv(self._socket, _CHUNK):
                *lines, self._rest = (self._rest + received).split(b"\n")
                for line in lines:
                    self._take(line)
                if len(self._rest) > _LINE:
                    self._take(self._rest)
                    self._rest = b""
        if self._rest:
            self._take(self._rest)

    def _take(self, line: bytes) -> None:
        text = printable(line.decode(errors="backslashreplace").strip())[:_LINE]
        if text:
            self.lines.append(text)
            log.debug("kernel: %s", text)


def unread(opened: socket.socket) -> int:
    """Bytes that can be read from a socket now."""
    count = bytearray(4)
    try:
        fcntl.ioctl(opened, termios.FIONREAD, count)
    except (OSError, ValueError):
        return 0
    return int.from_bytes(count, "little")


def _wait_for(file: int, event: int) -> None:
    """Waits until a file can be read (POLLIN) or written (POLLOUT), or has ended. Not by select(2), which knows the
    first 1,024 files of a process alone."""
    waiting = select.poll()
    waiting.register(file, event)
    waiting.poll()


def _is_ours(file: int) -> bool:
    """Whether this process may read a file now: from a terminal, only in its foreground."""
    try:
        return os.tcgetpgrp(file) == os.getpgrp()
    except OSError:
        return True
