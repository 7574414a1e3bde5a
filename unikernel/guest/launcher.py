"""The launcher as the machine sees it: the control channel, or what stands for it where a launcher has none.

Process 1 imports this before anything else, so it is kept light.
"""

from __future__ import annotations

import os
import sys
import time

from unikernel import control
from unikernel.guest import ports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HANGUP_TIME = 1.0
"""Seconds after which a launcher that has hung up is gone. One that restores a snapshot is away for a moment."""


class LauncherGone(Exception):
    """Nobody reads what the machine says any more."""


class Launcher:
    """The control channel, or what stands for it where a launcher has none: the console."""

    def __init__(self, file: int | None) -> None:
        """`file` is the channel's descriptor."""
        self.file = file
        self._lines = control.Lines()
        self._received: list[bytes] = []

    def send(self, kind: str, value: Any, at: bool = True) -> None:
        """Raises LauncherGone."""
        if self.file is None:
            if kind == "errors":
                for line in value:
                    print(f"slight-py: error: {line}", file=sys.stderr, flush=True)
            return
        rest = memoryview(control.encode(kind, value, since_boot() if at else None))
        try:
            while rest:
                rest = rest[os.write(self.file, rest) :]
        except OSError:
            raise LauncherGone from None

    def receive(self) -> control.Message:
        """The next message, waited for. Raises LauncherGone, or ControlError."""
        assert self.file is not None
        while not self._received:
            self._received += self.read()
        return control.from_launcher(self._received.pop(0))

    def take(self) -> list[bytes]:
        """The lines that came along with the last message."""
        lines, self._received = self._received, []
        return lines

    def read(self) -> list[bytes]:
        """The lines that are there; waits for some where there is nothing to read. Raises LauncherGone, or
        ControlError."""
        assert self.file is not None
        try:
            received = os.read(self.file, 1 << 16)
        except OSError:
            raise LauncherGone from None
        if not received and not ports.is_connected(self.file, HANGUP_TIME):
            raise LauncherGone
        return self._lines.feed(received)


def find() -> Launcher:
    """The launcher of this machine, which has the standard streams from now on if it has a channel."""
    if not ports.has_device():
        return Launcher(None)
    file = ports.open_port(control.CONTROL)
    if file is None:
        return Launcher(None)
    for target, name in enumerate((control.STDIN, control.STDIO, control.STDERR)):
        port = ports.open_port(name)
        if port is not None:
            os.dup2(port, target)
            os.close(port)
    return Launcher(file)


def since_boot() -> float:
    """Seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
