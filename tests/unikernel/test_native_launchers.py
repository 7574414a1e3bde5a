"""Native images without our launcher: by QEMU alone, and by the loaders that uhyve, Firecracker and Cloud Hypervisor
have."""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from tests.native_programs import program
from tests.servers import free_port
from tests.unikernel.test_native_run import SECONDS, built, demo, probe
from unikernel import elf, machine

BOARDS = {
    "microvm": ("microvm,acpi=off", "virtio-net-device", "virtio-rng-device"),
    "q35": ("q35", "virtio-net-pci", "virtio-rng-pci"),
}
"""Machines of QEMU's, with devices on virtio-mmio and on PCI."""


def qemu(
    path: Path, line: str, *more: str, kind: str = "microvm,acpi=off", rng: str = "virtio-rng-device"
) -> list[str]:
    """QEMU's command line for an image, whose kernel gets a `line`."""
    words = [machine.QEMU, "-M", kind, "-cpu", "max", "-accel", "tcg", "-m", "64M", "-nodefaults", "-no-user-config"]
    words += ["-display", "none", "-no-reboot", "-serial", "stdio", "-device", rng]
    return [*words, "-kernel", str(path), "-append", line, *more]


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("line", ["", "ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:off:10.0.2.3"], ids=["dhcp", "ip"])
def test_a_server_is_reached(board: str, line: str) -> None:
    kind, network, rng = BOARDS[board]
    port = free_port()
    net = f"user,id=net,hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:3000"
    command = qemu(demo().path, line, "-netdev", net, "-device", f"{network},netdev=net", kind=kind, rng=rng)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            # One console for all, in no order: the module's lines, and the machine's.
            said = {process.stdout.readline().decode().rstrip() for _ in range(3)}
            assert said == {"guest starting server", "guest moving on", "slight-py: serving at 0.0.0.0:3000"}
            deadline = time.monotonic() + SECONDS
            while not answers(port):
                assert time.monotonic() < deadline, "no answer"
                time.sleep(0.05)
        finally:
            process.kill()


def answers(port: int) -> bool:
    with (
        contextlib.suppress(OSError, http.client.HTTPException),
        urllib.request.urlopen(f"http://127.0.0.1:{port}/hello", timeout=5) as answer,
    ):
        return bool(answer.read() == b"hello")
    return False


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("SLIGHT_ARGS=\"arguments 'one two'\"", ["probe.wasm", "arguments", "one two"]),
        ("SLIGHT_ARGS=environment SLIGHT_ENV_GREETING='good day'", ["GREETING=good day"]),
    ],
)
def test_what_a_launcher_says_can_be_words_of_the_command_line(line: str, expected: list[str]) -> None:
    command = qemu(built(probe()).path, line)
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
    assert done.stdout.splitlines() == expected


def test_a_server_without_a_network_device_is_told_to_have_one() -> None:
    done = subprocess.run(qemu(demo().path, ""), capture_output=True, text=True, timeout=SECONDS, check=True)
    assert "the machine has no network device; give it a virtio-net device" in done.stdout


def test_the_loader_of_uhyve_takes_the_image() -> None:
    done = subprocess.run([program("hermit_loader"), demo().path], capture_output=True, text=True, check=True)
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    content = demo().path.read_bytes()
    loaded = [each for each in elf.segments(content, "") if each.type == elf.PT_LOAD]
    assert int(said["start"]) == loaded[0].address
    assert int(said["end"]) == loaded[-1].address + demo().root.size
    assert loaded[0].address <= int(said["entry"]) < loaded[0].address + loaded[0].size
    assert said["interface"] in ("None", "Some(1)")


def test_the_loader_of_firecracker_and_cloud_hypervisor_puts_the_image_where_it_belongs(tmp_path: Path) -> None:
    image, memory = demo(), tmp_path / "memory"
    done = subprocess.run([program("linux_loader"), image.path, memory], capture_output=True, text=True, check=True)
    said = {name: int(value) for name, value in (line.split() for line in done.stdout.splitlines())}
    content, written = image.path.read_bytes(), memory.read_bytes()
    base = 1 << 20
    loaded = [each for each in elf.segments(content, "") if each.type == elf.PT_LOAD]
    for each in loaded:
        place = each.physical - base
        assert written[place : place + each.size] == content[each.offset : each.end]
        assert not any(written[place + each.size : place + each.memory])
    assert said["end"] == loaded[-1].physical + loaded[-1].memory == base + len(written)
    # Where the application begins, and both entries lie in the kernel's code.
    assert written[loaded[-1].physical - base :].startswith(b"slightAP")
    for entry in (said["start"], said["entry"]):
        assert loaded[0].physical <= entry < loaded[0].physical + loaded[0].size
    cli, cld = 0xFA, 0xFC
    assert written[said["entry"] - base :].startswith(bytes([cli, cld]))
    assert said["entry"] != said["start"]
