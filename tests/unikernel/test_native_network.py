"""The network of native machines, on QEMU's boards and without a launcher: where addresses come from, and what is said
where none comes."""

from __future__ import annotations

import http.client
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import pytest

from tests.command import EMULATED
from tests.guests import example, slightfile
from tests.servers import HOST, free_port
from tests.unikernel.test_native_application import alone, image

MICROVM = ("-M", "microvm,acpi=off")
Q35 = ("-M", "q35")
LEGACY = "virtio-net-device,netdev=net"
PCI = "virtio-net-pci,netdev=net"
MACHINE = ("-cpu", "max", "-accel", "tcg", "-m", "64M", "-no-reboot", "-nodefaults", "-no-user-config")


@cache
def demo() -> Path:
    return image(example("http-server-demo-c"), slightfile("http-server-demo-c"))


@contextmanager
def serving(guest: str, *words: str) -> Iterator[int]:
    """A machine whose port 3000, at the address `guest`, is one of ours; gives that one."""
    port = free_port()
    net = ["-netdev", f"user,id=net,hostfwd=tcp:{HOST}:{port}-{guest}:3000"]
    command = [
        "qemu-system-x86_64",
        *MACHINE,
        *net,
        *words,
        "-display",
        "none",
        "-serial",
        "null",
        "-kernel",
        str(demo()),
    ]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            yield port
        finally:
            process.kill()


def answer(port: int) -> tuple[int, bytes]:
    """What the application answers. QEMU takes connections before the machine does, which end without an answer."""
    until = time.monotonic() + EMULATED
    while True:
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection(HOST, port, timeout=5)
            connection.request("GET", "/hello")
            response = connection.getresponse()
            return response.status, response.read()
        assert time.monotonic() < until, "the machine doesn't answer"
        time.sleep(0.1)


@pytest.mark.parametrize(
    "words",
    [
        (*MICROVM, "-device", LEGACY),
        (*MICROVM, "-global", "virtio-mmio.force-legacy=false", "-device", LEGACY),
        (*Q35, "-device", PCI),
        (*Q35, "-device", f"{PCI},disable-legacy=on", "-device", "virtio-rng-pci", "-device", "virtio-serial-pci"),
    ],
    ids=["mmio-legacy", "mmio", "pci-transitional", "pci-among-others"],
)
def test_a_machine_has_its_address_from_dhcp_on_every_board(words: tuple[str, ...]) -> None:
    with serving("10.0.2.15", *words) as port:
        assert answer(port) == (200, b"hello")


def test_the_command_line_gives_an_address() -> None:
    word = "ip=10.0.2.77::10.0.2.2:255.255.255.0"
    with serving("10.0.2.77", *MICROVM, "-device", LEGACY, "-append", word) as port:
        assert answer(port) == (200, b"hello")


def test_a_network_where_nobody_answers_is_told_after_a_time() -> None:
    lines = alone(demo(), "-netdev", "hubport,id=net,hubid=0", "-device", LEGACY)
    why = "neither a DHCP server nor a router gave an address in 10 seconds: give one with ip=ADDRESS::ROUTER:MASK"
    assert lines[-1] == f"slight-py: error: the machine has no network: {why}"


@pytest.mark.parametrize(
    ("word", "what"),
    [
        ("ip=10.0.2.77", "there is no mask"),
        ("ip=10.0.2.777:::255.0.0.0", 'the address "10.0.2.777" is not an IPv4 address'),
        ("ip=224.0.0.1:::255.0.0.0", "no machine can have that address"),
    ],
)
def test_an_address_that_is_none_is_told(word: str, what: str) -> None:
    network = ("-netdev", "user,id=net", "-device", LEGACY)
    (line,) = alone(demo(), *network, "-append", word)
    assert line == f"slight-py: error: {word}: {what}; write ip=ADDRESS::ROUTER:MASK or ip=dhcp"
