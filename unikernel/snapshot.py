"""Snapshots: a machine that is ready to serve, in a file, and back.

    0        the machine's memory, as it is
    then     its processor and devices, as QEMU's migration has them
    at last  4096 bytes: a line that says what the file is, and JSON about the machine

A machine that is restored maps the memory from the file, so that nothing is read before it is used, and several share
what none has changed. Memory that was never used takes no room on the disk (the file has holes).

The memory has every value in it that was handed over at boot: the file is its owner's alone, as a key would be.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from slight_py.errors import UsageError
from slight_py.limits import size_text
from unikernel.checks import ControlError
from unikernel.control import Message, from_guest
from unikernel.events import Failure
from unikernel.image import Image
from unikernel.machine import Accel, Ram
from unikernel.options import RunOptions
from unikernel.qmp import Qmp, QmpError
from unikernel.vm import Vm

_MAGIC = b"slight-py snapshot 1\n"
_FOOT = 4096

_WITHOUT_MEMORY = {"capabilities": [{"capability": "x-ignore-shared", "state": True}]}
"""Memory that is shared with a file, which is there already, stays out of the migration."""

_TIME = 300.0
"""Seconds for QEMU to write or read a machine."""

_SETTLED, _SETTLE_LIMIT, _SETTLE_STEP = 0.1, 10.0, 0.25
"""A machine has settled when it takes less than this part of a processor, measured over a step; or after the limit."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What must be the same where the machine goes on, and what it serves."""

    kernel: str
    root: str
    """SHA-256 hashes, from the image's manifest."""
    qemu: str
    """Its version."""
    accel: Accel
    memory: int
    cpus: int
    channel: bool
    serving: tuple[str, int] | None
    """The address that the application asked for, and the port in the machine."""
    size: int = 0
    """Bytes of the file."""


def of(image: Image, options: RunOptions, qemu: str, accel: Accel, serving: tuple[str, int] | None) -> Snapshot:
    """What a snapshot says of the machine of an image, which runs under that version of QEMU."""
    kernel, root = image.manifest.kernel.sha256, image.manifest.root.sha256
    return Snapshot(kernel, root, qemu, accel, options.memory, options.cpus, options.channel is not None, serving)


def read(path: Path) -> Snapshot:
    """What a snapshot file says of itself. Raises UsageError for a file that is none, or not a whole one."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(size - _FOOT, 0))
            foot = file.read()
    except OSError as error:
        raise UsageError(f"{path}: it can't be read: {error.strerror}") from None
    if not foot.startswith(_MAGIC):
        raise UsageError(f"{path}: this is not a snapshot that slight-py image run --snapshot made, or not a whole one")
    try:
        saved = _from_json(json.loads(foot[len(_MAGIC) :]))
    except (ValueError, KeyError, TypeError, RecursionError, ControlError):
        raise UsageError(f"{path}: the snapshot is damaged; take it again with --snapshot") from None
    if size != saved.size or size < saved.memory:
        raise UsageError(f"{path}: the snapshot has {size:,} of {saved.size:,} bytes; copy it again")
    return saved


def _from_json(fields: Mapping[str, Any]) -> Snapshot:
    serving = fields["serving"]
    if serving is not None:
        # Checked as when it came from the guest.
        address, port = serving
        line = json.dumps({"serving": {"address": address, "port": port}}).encode()
        said: Message = from_guest(line)
        serving = (said.value["address"], said.value["port"])
    return Snapshot(
        kernel=str(fields["kernel"]),
        root=str(fields["root"]),
        qemu=str(fields["qemu"]),
        accel="kvm" if fields["accel"] == "kvm" else "tcg",
        memory=int(fields["memory"]),
        cpus=int(fields["cpus"]),
        channel=bool(fields["channel"]),
        serving=serving,
        size=int(fields["size"]),
    )


def check(path: Path, saved: Snapshot, image: Image, memory: int, cpus: int, accel: str, channel: bool) -> None:
    """Raises UsageError where the machine that is asked for is not the one that a snapshot was taken of."""
    manifest = image.manifest
    errors: list[str] = []
    if (saved.kernel, saved.root) != (manifest.kernel.sha256, manifest.root.sha256):
        errors.append(f"{path}: the snapshot is of another image than {image.path}; take it again with --snapshot")
    if saved.memory != memory:
        errors.append(f"{path}: the snapshot is of a machine with --memory {size_text(saved.memory)}; give the same")
    if saved.cpus != cpus:
        errors.append(f"{path}: the snapshot is of a machine with --cpus {saved.cpus}; give the same")
    if accel not in ("auto", saved.accel):
        errors.append(
            f"{path}: the snapshot was taken under {saved.accel.upper()} and goes on there alone; leave out --accel"
        )
    if saved.channel != channel:
        given = "without --channel; leave it out" if channel else "with --channel; give it"
        errors.append(f"{path}: the snapshot was taken {given}")
    if errors:
        raise UsageError(*errors)


@contextmanager
def ram(options: RunOptions) -> Iterator[Ram | None]:
    """The memory of a machine that is saved, or that goes on; None for any other. Raises UsageError."""
    if options.snapshot:
        with memory_for(options.snapshot, options.memory) as path:
            yield Ram(path, kept=True)
    else:
        yield Ram(options.restore, kept=False) if options.restore else None


@contextmanager
def memory_for(path: Path, memory: int) -> Iterator[Path]:
    """A file beside `path`, for its owner alone, which is to be the memory of a machine that is saved there.

    It is removed unless it was renamed by then. Raises UsageError where it can't be made.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            made = Path(file.name)
            file.truncate(memory)
    except OSError as error:
        raise UsageError(f"{path}: it can't be written: {error.strerror}; give another place") from None
    try:
        yield made
    finally:
        made.unlink(missing_ok=True)


async def save(vm: Vm, memory: Path, path: Path, saved: Snapshot) -> int:
    """Saves a machine as `path`, once it has nothing more to do, and leaves it stopped.

    `memory` is the file that the machine's memory is in. Returns the bytes on the disk. Raises UsageError where the
    file can't be written, and Failure where QEMU doesn't do it.
    """
    await _settle(vm.process.pid)
    try:
        with memory.open("r+b") as file:
            await _save(vm.qmp, file, saved)
            size = os.fstat(file.fileno()).st_blocks * 512
        os.replace(memory, path)
    except OSError as error:
        raise UsageError(f"{path}: it can't be written: {error.strerror}; give another place") from None
    return size


async def _save(qmp: Qmp, file: IO[bytes], saved: Snapshot) -> None:
    os.lseek(file.fileno(), saved.memory, os.SEEK_SET)
    try:
        await qmp.execute("stop")
        await qmp.execute("getfd", {"fdname": "snapshot"}, fds=(file.fileno(),))
        await qmp.execute("migrate-set-capabilities", _WITHOUT_MEMORY)
        await qmp.execute("migrate", {"uri": "fd:snapshot"})
        await _finished(qmp)
    except QmpError as error:
        raise Failure(f"the snapshot can't be taken: QEMU: {error}") from None
    end = os.fstat(file.fileno()).st_size
    foot = _MAGIC + json.dumps(asdict(saved) | {"size": end + _FOOT}).encode()
    os.pwrite(file.fileno(), foot.ljust(_FOOT), end)


async def restore(qmp: Qmp, file: IO[bytes], saved: Snapshot) -> None:
    """Brings a machine back that waits for it (`-incoming defer`), and leaves it stopped.

    `file` is a snapshot that QEMU was given at its start. Raises UsageError where it is another QEMU's, and Failure.
    """
    if qmp.version != saved.qemu:
        raise UsageError(
            f"{file.name}: the snapshot was taken with QEMU {saved.qemu}, and this is {qmp.version}; "
            "take it again with --snapshot"
        )
    os.lseek(file.fileno(), saved.memory, os.SEEK_SET)
    try:
        await qmp.execute("migrate-set-capabilities", _WITHOUT_MEMORY)
        await qmp.execute("migrate-incoming", {"uri": f"fd:{file.fileno()}"})
        await _finished(qmp)
    except QmpError as error:
        raise Failure(f"the snapshot can't be restored: {error}") from None


async def _finished(qmp: Qmp) -> None:
    async def poll() -> None:
        pause = 0.001
        while True:
            state = await qmp.execute("query-migrate")
            match state.get("status"):
                case "completed":
                    return
                case "failed" | "cancelled":
                    raise QmpError(str(state.get("error-desc", "it gives no reason")))
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.1)

    try:
        await asyncio.wait_for(poll(), _TIME)
    except TimeoutError:
        raise QmpError(f"it isn't done after {_TIME:g} s") from None


async def _settle(process: int) -> None:
    """Waits until a process has little to do."""
    loop = asyncio.get_running_loop()
    end = loop.time() + _SETTLE_LIMIT
    spent = _processor_time(process)
    while loop.time() < end:
        begin = loop.time()
        await asyncio.sleep(_SETTLE_STEP)
        before, spent = spent, _processor_time(process)
        if spent - before < _SETTLED * (loop.time() - begin):
            return


def _processor_time(process: int) -> float:
    """Seconds of processor time that a process has taken; 0 for one that has ended."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return 0
    # The name, in parentheses, may hold spaces. See proc(5): utime and stime are fields 14 and 15.
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
