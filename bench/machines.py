"""Machines at work: started, listened to line by line, asked for an answer, and ended."""

from __future__ import annotations

import http.client
import re
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Literal

from bench.processes import ROOT, free_port
from unikernel import machine
from unikernel.image import Image
from unikernel.machine import Accel, Machine

TIME = 60.0
"""Seconds for everything but the building of images."""

SLIGHT_PY_IMAGE = (sys.executable, "-m", "slight_py", "image")

SERVING = re.compile("serving at")
"""What the launcher says when its ports lead to an application that listens."""


class Ended(Exception):
    """A process ended, or its time did, before it said what was waited for."""


class Watched:
    """A process, and what it says line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._last: deque[str] = deque(maxlen=5)

    def heard(self, pattern: re.Pattern[str]) -> tuple[re.Match[str], float]:
        """The next line that matches, and when it came. Raises Ended."""
        assert self._process.stdout is not None
        for text in self._process.stdout:
            when = time.monotonic()
            self._last.append(text)
            if found := pattern.search(text):
                return found, when
        raise Ended("".join(self._last))


@contextmanager
def watched(
    command: Sequence[str], limit: float = TIME, environment: Mapping[str, str] | None = None
) -> Iterator[Watched]:
    """Runs a command, and ends it at the end, or after `limit` seconds."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    timer = threading.Timer(limit, process.kill)
    timer.start()
    try:
        yield Watched(process)
    finally:
        process.terminate()
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate(timeout=20)
        timer.cancel()


def launcher(path: Path, accel: Accel | Literal["auto"], *options: str) -> list[str]:
    """The command that boots an image as users do."""
    return [*SLIGHT_PY_IMAGE, "run", str(path), "--accel", accel, *options]


def qemu(image: Image, memory: int, accel: Accel, serial: Sequence[tuple[str, str]] = ()) -> list[str]:
    """The launcher's machine without the launcher, with `memory` bytes and the kernel's console as standard output."""
    template = Machine(image, memory, 1, accel, "stdio", serial=serial)
    return [str(machine.find()), *machine.arguments(template), "-no-reboot"]


def ask(port: int) -> None:
    """One request, over a connection of its own. Raises OSError or HTTPException where it isn't answered with 200."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        get(connection, "/hello", 200)


def get(connection: http.client.HTTPConnection, path: str, status: int) -> None:
    """One request over a connection. Raises OSError, or HTTPException for an answer with another status."""
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    if answer.status != status:
        raise http.client.HTTPException(f"the status of {path} is {answer.status}")


@cache
def least_memory(path: Path, accel: Accel, most: int, step: int) -> int:
    """The least bytes of memory, in steps of `step` up to `most`, with which the http demo is served. Machine after
    machine is booted for that, so it is done once.

    Raises SystemExit where `most` is not enough.
    """
    fails, works = 0, most // step
    if not _serves_with(path, accel, works * step):
        raise SystemExit(f"bench: {path.name} does not answer within {MEMORY_TIME:g} s")
    while works - fails > 1:
        middle = (works + fails) // 2
        if _serves_with(path, accel, middle * step):
            works = middle
        else:
            fails = middle
    return works * step


MEMORY_TIME = 30.0
"""Seconds that a machine has to answer with an amount of memory that is tried."""

MEMORY_REQUESTS = 10
"""Requests that a machine answers if its memory is enough."""


def _serves_with(path: Path, accel: Accel, memory: int) -> bool:
    port = free_port()
    command = launcher(path, accel, "--memory", f"{memory >> 10}K", "-p", f"{port}:3000")
    try:
        with watched(command, MEMORY_TIME) as run:
            run.heard(SERVING)
            for _ in range(MEMORY_REQUESTS):
                ask(port)
    except (Ended, OSError, http.client.HTTPException):
        return False
    return True


@contextmanager
def connected(path: Path) -> Iterator[socket.socket]:
    """A connection to a socket that is about to be made."""
    end = time.monotonic() + TIME
    with socket.socket(socket.AF_UNIX) as opened:
        opened.settimeout(TIME)
        while opened.connect_ex(str(path)):
            if time.monotonic() > end:
                raise SystemExit(f"bench: no machine listens at {path.name} after {TIME:g} s")
            time.sleep(0.01)
        yield opened
