"""Boots an image and stays with it: checks what is asked for, makes what the machine needs, and runs it."""

from __future__ import annotations

import logging
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from slight_py.errors import UsageError
from slight_py.limits import size_text
from unikernel import channels, control, elf, forwards, machine, snapshot, values, volumes
from unikernel.checks import LIMIT, ControlError
from unikernel.events import Failure
from unikernel.image import Image, copy_part
from unikernel.machine import Machine, Share
from unikernel.options import RunOptions
from unikernel.running import Caller, Run
from unikernel.snapshot import Snapshot
from unikernel.volumes import Volume

log = logging.getLogger("slight_py")


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found when all that is asked for was checked."""

    qemu: Path
    saved: Snapshot | None
    """The snapshot to go on with."""
    values: Mapping[str, str]
    """What the image gets of what it leaves out."""
    volumes: Sequence[Volume]


def check(image: Image, options: RunOptions) -> Checked:
    """Raises UsageError for what the user can put right before anything is booted."""
    qemu = machine.find()
    saved = _check(image, options)
    return Checked(qemu, saved, values.allowed(image, options), volumes.check(options.volumes))


async def run(image: Image, options: RunOptions, caller: Caller | None = None) -> int:
    """Boots an image, for a `caller` or for the user; returns the exit code of its application.

    Raises UsageError for what the user can put right, such as a port that is taken. Where the machine fails, the user
    is told and it returns 1; for a caller it raises Failure.
    """
    checked = check(image, options)
    with ExitStack() as stack:
        shares = stack.enter_context(volumes.shared(checked.volumes))
        template = Machine(
            image,
            options.memory,
            options.cpus,
            "tcg",
            console="",
            serial=stack.enter_context(channels.sockets(options.channel)) if options.channel else (),
            initrd=stack.enter_context(_initrd(image)) if image.root.type == "initramfs" else None,
            shares=[share for share, _ in shares],
            ram=stack.enter_context(snapshot.ram(options)),
            network=image.manifest.needs_network,
        )
        message = _boot_message(options, checked.values, shares)
        try:
            return await Run(checked.qemu, image, options, template, message, checked.saved, caller).main()
        except Failure as failure:
            if caller is not None:
                raise
            log.error("%s: %s", image.path, failure)
            return 1


def _check(image: Image, options: RunOptions) -> Snapshot | None:
    """What was said to a command as a whole, and the snapshot to restore. Raises UsageError."""
    if image.manifest.app is None and options.channel is None:
        raise UsageError(f"{image.path}: this is a function service, which is reached through --channel DIR; give one")
    if image.manifest.app is not None and options.channel is not None:
        raise UsageError(f"{image.path}: --channel is for a function service, and this image has an app; leave it out")
    image.flavour.check_run(image, options)
    if (options.snapshot or options.restore) and options.volumes:
        raise UsageError("--volume and snapshots exclude each other: QEMU can't save a shared directory; leave one out")
    if options.memory <= (least := _least_memory(image)):
        raise UsageError(
            f"--memory {size_text(options.memory)}: the kernel alone reaches up to {least / 1e6:.0f} MB; "
            "give more, as in --memory 128M"
        )
    for host, _, _ in options.ports:
        if forwards.ipv4(host) is None:
            raise UsageError(f"-p {host}: ports are forwarded from IPv4 addresses; give one, as in 127.0.0.1:8080:3000")
    if options.restore is None:
        return None
    if options.env or options.args or options.slightfile or options.passed:
        raise UsageError(
            "--restore goes on with the variables, the values and the arguments of the snapshot; leave out others"
        )
    saved = snapshot.read(options.restore)
    snapshot.check(
        options.restore, saved, image, options.memory, options.cpus, options.accel, options.channel is not None
    )
    return saved


def _least_memory(image: Image) -> int:
    """Bytes of memory below which there is no room for the kernel where it is to be loaded."""
    with image.path.open("rb") as file:
        segments = elf.headers(file.read(elf.PAGE), str(image.path))
    return max((segment.physical + segment.memory for segment in segments if segment.type == elf.PT_LOAD), default=0)


def _boot_message(options: RunOptions, allowed: Mapping[str, str], shares: list[tuple[Share, str]]) -> bytes:
    for text in (*options.args, *options.env, *options.env.values(), *allowed.values()):
        # What the shell gave as bytes that are no text has surrogates in their place.
        if not text.isascii() and any("\ud800" <= sign <= "\udfff" for sign in text):
            raise UsageError("an argument, a variable or a value is not UTF-8; the machine takes nothing else")
    try:
        return control.boot(
            env=options.env,
            args=options.args,
            values=allowed,
            volumes=[(share.tag, path, share.writable) for share, path in shares],
            network=machine.ADDRESSES,
            time=time.time_ns(),
            seed=secrets.token_bytes(control.SEED_BYTES),
            options=dict(options.limits) | {"verbose": options.verbose},
            channel=options.channel is not None,
        )
    except ControlError:
        raise UsageError(
            f"variables, values and arguments are too long together; {LIMIT} bytes are the limit"
        ) from None


@contextmanager
def _initrd(image: Image) -> Iterator[Path]:
    """The root file system of an image as a file of its own."""
    with tempfile.NamedTemporaryFile(prefix="slight-py-") as file:
        copy_part(image, image.root.offset, image.root.size, file)
        file.flush()
        yield Path(file.name)
