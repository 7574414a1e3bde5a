"""Native machines whose devices are on PCI: QEMU's board q35, also in place of the one that the launcher asks for."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.unikernel.test_native_application import alone
from tests.unikernel.test_native_network import PCI, Q35, answer, demo, serving
from tests.unikernel.test_native_run import as_a_process, built, probe, run
from unikernel import machine

MESSAGES = range(57, 63)
"""The vectors that the kernel has for messages of devices (src/cpu/interrupts.rs)."""

LINES = range(32, 56)
"""The vectors of the inputs of the IOAPIC."""

EDGE, LEVEL = 0, 1
"""How messages interrupt, and how lines do."""

WRAPPER = """#!{python}
import os, re, sys
words = [re.sub("^microvm[^ ]*$", "q35", word) for word in sys.argv[1:]]
words = [re.sub("^(virtio-[a-z0-9]+)-device", r"\\1-pci{vectors}", word) for word in words]
os.execv("{qemu}", [sys.argv[0], *words, "-trace", "apic_deliver_irq", "-D", "{log}"])
"""


def on_pci(folder: Path, vectors: str) -> dict[str, str]:
    """The environment of a launcher whose machines have their devices on PCI, each with an option about its messages.
    Their interrupts are written to a file `log` in the folder."""
    wrapper = folder / machine.QEMU
    qemu, log = shutil.which(machine.QEMU), folder / "log"
    wrapper.write_text(WRAPPER.format(python=sys.executable, vectors=vectors, qemu=qemu, log=log))
    wrapper.chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


def interrupts(log: Path) -> set[tuple[int, int]]:
    """The vectors of interrupts that a machine's devices made, each with how it did."""
    pattern = r"delivery_mode 0 vector (\d+) trigger_mode (\d)"
    found = {(int(vector), int(mode)) for vector, mode in re.findall(pattern, log.read_text())}
    return {(vector, mode) for vector, mode in found if vector >= LINES.start}


@pytest.mark.parametrize("vectors", ["", ",vectors=1"])
def test_devices_interrupt_by_messages_where_they_can(tmp_path: Path, vectors: str) -> None:
    env = on_pci(tmp_path, vectors)
    words = ("--accel", "tcg", "--volume", f"{tmp_path}:/data:ro", "--", "read", "/data/file")
    (tmp_path / "file").write_text("what is to be read\n")
    done = run(built(probe()), *words, env=env)
    assert (done.code, done.out) == (0, "what is to be read\n"), done.err
    found = interrupts(tmp_path / "log")
    # Of the console, and of the shared folder.
    assert len(found) >= 2
    assert all(vector in MESSAGES and mode == EDGE for vector, mode in found), found


def test_devices_that_have_no_messages_interrupt_by_their_lines(tmp_path: Path) -> None:
    words = ("--accel", "tcg", "--", "input")
    env = on_pci(tmp_path, ",vectors=0")
    assert run(built(probe()), *words, stdin="one\ntwo", env=env) == as_a_process(probe(), *words[2:], stdin="one\ntwo")
    found = interrupts(tmp_path / "log")
    assert found
    assert all(vector in LINES and mode == LEVEL for vector, mode in found), found


@pytest.mark.parametrize(
    ("options", "vectors", "mode"), [("", MESSAGES, EDGE), (",vectors=0", LINES, LEVEL)], ids=["messages", "lines"]
)
def test_a_network_card_interrupts_by_messages_or_by_its_line(
    tmp_path: Path, options: str, vectors: range, mode: int
) -> None:
    log = tmp_path / "log"
    with serving("10.0.2.15", *Q35, "-device", PCI + options, "-trace", "apic_deliver_irq", "-D", str(log)) as port:
        assert answer(port) == (200, b"hello")
    found = interrupts(log)
    assert found
    assert all(vector in vectors and way == mode for vector, way in found), found


def test_registers_may_lie_higher_than_ram_can(tmp_path: Path) -> None:
    """As Cloud Hypervisor has them. Here firmware puts them behind the memory that could be added, since the registers
    of one device have no room below 4 GiB."""
    log = tmp_path / "log"
    far = ("-m", "64M,slots=1,maxmem=600G", "-device", "pci-testdev,membar=8G", "-trace", "pci_update_mappings_add")
    with serving("10.0.2.15", *Q35, "-device", PCI, *far, "-D", str(log)) as port:
        assert answer(port) == (200, b"hello")
    places = [int(place, 16) for place in re.findall(r"virtio-net-pci.*?0x([0-9a-f]+)\+", log.read_text())]
    assert max(places) >= 600 << 30, log.read_text()


def test_a_device_that_is_said_to_lie_in_memory_is_told() -> None:
    (line,) = alone(demo(), "-append", "virtio_mmio.device=512@0x200000:5")
    assert line == "slight-machine: the device at 0x200000 can't be used: the machine's memory lies there"
