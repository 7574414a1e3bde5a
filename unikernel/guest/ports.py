"""The virtio-serial ports of the machine, by their names. Process 1 imports this before anything else, so it is kept
light."""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PORTS, DEVICES = "/sys/class/virtio-ports", "/sys/bus/virtio/devices"

VIRTIO_CONSOLE = "0x0003"
"""What sysfs has for a virtio-serial device."""

APPEAR_TIME = 2.0
"""Seconds that the ports of such a device may take to appear."""


def has_device() -> bool:
    """Whether there is a virtio-serial device, whose ports may be about to appear."""
    names = os.listdir(DEVICES) if os.path.isdir(DEVICES) else []
    return any(first_line(f"{DEVICES}/{name}/device") == VIRTIO_CONSOLE for name in names)


def open_port(wanted: str, wait: float = APPEAR_TIME) -> int | None:
    """A port by its name, open, for `wait` seconds at most; None where there is none.

    Ports appear one after the other, and the launcher's end a little later: until then a read finds the end.
    """
    for _ in _until(wait):
        for device, name in _ports():
            if name == wanted:
                file = os.open(f"/dev/{device}", os.O_RDWR | os.O_CLOEXEC)
                is_connected(file, wait)
                return file
    return None


def is_connected(file: int, wait: float) -> bool:
    """Whether somebody holds the other end of a port; one who is away for less than `wait` seconds does."""
    import select

    poll = select.poll()
    poll.register(file, select.POLLOUT)
    return any(not any(event & select.POLLHUP for _, event in poll.poll(0)) for _ in _until(wait))


def first_line(path: str) -> str:
    """Of a file of the kernel's; empty where there is none."""
    try:
        with open(path) as file:
            return file.readline().strip()
    except OSError:
        return ""


def _ports() -> Iterator[tuple[str, str]]:
    """The devices of the ports that are there, and their names."""
    for device in os.listdir(PORTS) if os.path.isdir(PORTS) else []:
        yield device, first_line(f"{PORTS}/{device}/name")


def _until(seconds: float) -> Iterator[None]:
    """Once at least, and again every millisecond until the time is over."""
    end = time.monotonic() + seconds
    while True:
        yield
        if time.monotonic() > end:
            return
        time.sleep(0.001)
