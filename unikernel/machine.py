"""The machine that QEMU makes of an image: its command line, and the process.

The machine is QEMU's `microvm`: virtio devices on virtio-mmio, one serial port for the kernel's messages, no PCI and
no ACPI. See QEMU's manual, "microvm (i386 virtual platform)".
"""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from slight_py.errors import UsageError
from unikernel import children
from unikernel.image import Image

QEMU = "qemu-system-x86_64"

Accel: TypeAlias = Literal["kvm", "tcg"]

NETWORK = "network"
"""The id of the user network, for QEMU's monitor."""

GUEST_ADDRESS = "10.0.2.15"
"""Of the machine in QEMU's user network."""

ADDRESSES: Mapping[str, str] = {
    "address": f"{GUEST_ADDRESS}/24",
    "gateway": "10.0.2.2",
    "nameserver": "10.0.2.3",
    "host": "10.0.2.2",
}
"""The addresses there, as the boot message has them. See QEMU's manual, "Using the user mode network stack"."""

SHARES_LIMIT = 4
"""Of the eight virtio-mmio devices that a microvm has, disk, network, serial ports and random numbers take four."""

_SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
"""What QEMU denies itself, so that a guest that breaks out of it starts no process."""

_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE, _CAP_NET_BIND_SERVICE = 1, 10
_KEPT = (_CAP_DAC_OVERRIDE, _CAP_NET_BIND_SERVICE)
"""What a root user's QEMU needs: volumes of other users, ports below 1024. It makes no device nodes."""


@dataclass(frozen=True, slots=True)
class Share:
    """A directory of the host that the machine finds as a 9p file system under `tag`."""

    tag: str
    folder: Path
    writable: bool


@dataclass(frozen=True, slots=True)
class Ram:
    """A file that the machine's memory begins as, and is `kept` in; else what changes is the machine's own."""

    path: Path
    kept: bool


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine for an image. The console and the serial ports are chardevs, QEMU's word for the host's end of them."""

    image: Image
    memory: int
    """Bytes."""
    cpus: int
    accel: Accel
    console: str
    """A chardev without its id, such as `stdio` or `socket,fd=5`."""
    serial: Sequence[tuple[str, str]] = ()
    """Names of virtio-serial ports, each with its chardev."""
    initrd: Path | None = None
    """The root file system of an image whose root is an initramfs."""
    shares: Sequence[Share] = ()
    ram: Ram | None = None
    network: bool = False
    """Whether it reaches the host and others, and is not only reached through the forwarded ports."""


def arguments(machine: Machine) -> list[str]:
    """The machine as QEMU's arguments, for whatever controls it."""
    flavour = machine.image.flavour
    words = ["-M", flavour.board(machine) + (",memory-backend=ram" if machine.ram else "")]
    if machine.ram:
        words += ["-object", f"memory-backend-file,id=ram,size={machine.memory}B,{_ram(machine.ram)}"]
    words += ["-cpu", "max", "-accel", machine.accel]
    words += ["-m", f"size={machine.memory}B", "-smp", str(machine.cpus)]
    words += ["-nodefaults", "-no-user-config", "-display", "none"]
    words += flavour.boot(machine)
    words += _network(machine)
    words += ["-device", "virtio-rng-device"]
    words += [*_chardev("console", machine.console), "-serial", "chardev:console"]
    if machine.serial:
        # Port 0 is for consoles. Each port that there could be takes memory of the machine, and time at boot.
        words += ["-device", f"virtio-serial-device,max_ports={len(machine.serial) + 1}"]
    for name, chardev in machine.serial:
        words += [*_chardev(name, chardev), "-device", f"virtserialport,chardev={name},id={name},name={name}"]
    for share in machine.shares:
        words += _share(share)
    return words


def _ram(ram: Ram) -> str:
    return f"mem-path={escaped(ram.path)},share={'on' if ram.kept else 'off'}"


def clock(machine: Machine) -> list[str]:
    """What spares an emulated machine the measuring of its clocks, or has it succeed."""
    if machine.accel == "kvm":
        return []
    if machine.image.manifest.kernel.source == "cloud":
        return [f"tsc_early_khz={tsc_khz()}"]
    # 0.2 s of loops that calibrate the timer of a local APIC; one processor can do without.
    return ["nolapic_timer", "no_timer_check"] if machine.cpus == 1 else []


def tsc_khz() -> int:
    """The rate of this processor's time stamp counter, which an emulated one shares.

    Debian's kernel measures it in a few milliseconds in which the host must not be busy, or never gets a clock: on a
    machine with ACPI and nothing else it has no second one to compare with.
    """
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(b"\x0f\x31\x48\xc1\xe2\x20\x48\x09\xd0\xc3")  # rdtsc; shl rdx, 32; or rax, rdx; ret
    read = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(page)))

    def both() -> tuple[int, int]:
        """Nanoseconds and ticks, from the try that took the least time."""
        tries = [(time.monotonic_ns(), read(), time.monotonic_ns()) for _ in range(50)]
        return min(tries, key=lambda each: each[2] - each[0])[:2]

    first = both()
    time.sleep(0.05)
    last = both()
    return round((last[1] - first[1]) * 1_000_000 / (last[0] - first[0]))


def _network(machine: Machine) -> list[str]:
    restrict = "off" if machine.network else "on"
    netdev = f"user,id={NETWORK},ipv6=off,restrict={restrict}"
    return ["-netdev", netdev, "-device", f"virtio-net-device,netdev={NETWORK}"]


def _share(share: Share) -> list[str]:
    # `none` is for QEMU without root: files belong to the user who runs it, and attributes that only root may set
    # are left. `remap` tells files of several file systems below the folder apart.
    fsdev = f"local,id={share.tag},path={escaped(share.folder)},security_model=none,multidevs=remap"
    fsdev += "" if share.writable else ",readonly=on"
    return ["-fsdev", fsdev, "-device", f"virtio-9p-device,fsdev={share.tag},mount_tag={share.tag}"]


def _chardev(name: str, chardev: str) -> list[str]:
    backend, comma, rest = chardev.partition(",")
    return ["-chardev", f"{backend},id={name}{comma}{rest}"]


def escaped(path: Path) -> str:
    """A path as a value in one of QEMU's comma-separated lists."""
    return str(path).replace(",", ",,")


def find() -> Path:
    """The QEMU of this machine. Raises UsageError."""
    found = shutil.which(QEMU)
    if found is None:
        raise UsageError(f"{QEMU} is not installed, and images run in it; install it: sudo apt install qemu-system-x86")
    return Path(found)


async def start(qemu: Path, words: Sequence[str], fds: Sequence[int]) -> asyncio.subprocess.Process:
    """Starts QEMU, with `fds` of this process as they are and nothing else of it. It ends when this thread does.

    Raises UsageError if it can't be started. Its standard error is a pipe.
    """
    environment = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    parent = os.getpid()

    def prepare() -> None:
        children.belong_to(parent)
        # The sockets that QEMU makes for --channel are the user's alone. Files in volumes get the modes that the
        # machine asks for all the same.
        os.umask(0o077)
        for capability in range(64):
            if capability not in _KEPT:
                children.LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)

    try:
        return await asyncio.create_subprocess_exec(
            str(qemu),
            *("-sandbox", _SANDBOX),
            # The end of the machine doesn't end QEMU: what the machine wrote last may still be on its way to us.
            *("-action", "reboot=shutdown,shutdown=pause"),
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=tuple(fds),
            env=environment,
            # Its own session: Ctrl-C reaches the launcher alone, which tells the machine.
            start_new_session=True,
            preexec_fn=prepare,
        )
    except OSError as error:
        raise UsageError(f"{qemu}: it can't be started: {error.strerror}") from None
