"""`slight-py image run --vmm uhyve`: a native image under uhyve, the hypervisor of the Hermit project.

uhyve loads the same file as QEMU does, by the Hermit entry that it has as well, under KVM alone. It has no channel for
messages: what the application prints is uhyve's output, its exit code is uhyve's, and what the launcher would tell the
machine are words of its command line. Its options are those of uhyve 0.10 (`uhyve --help`).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import json
import logging
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from slight_py import cache, limits
from slight_py.errors import UsageError
from unikernel import children, volumes
from unikernel.checks import printable
from unikernel.events import ending_signals
from unikernel.guest import network
from unikernel.image import Image
from unikernel.options import RunOptions
from unikernel.values import allowed
from unikernel.volumes import Volume

log = logging.getLogger("slight_py")

UHYVE, INSTALL = "uhyve", "cargo install uhyve --version 0.10.0 --locked"
KVM = Path("/dev/kvm")

STEP, LEAST = 2 << 20, 16 << 20
"""Bytes: the memory of a machine is a multiple of the one, and at least the other."""

ROOM = 12_000
"""Bytes of a command line: uhyve's device tree, which it is in, has 16 KiB."""

_PANICKED = 101
"""The exit code of a program in Rust that panicked, as uhyve does where it can't make a machine."""

_STDERR_LIMIT = 1 << 16


@dataclass(frozen=True, slots=True)
class Tap:
    """A network device of the host that the machine is connected to. Without addresses, the machine asks by DHCP."""

    name: str
    address: ipaddress.IPv4Interface | None = None
    gateway: ipaddress.IPv4Address | None = None


async def run(image: Image, options: RunOptions, tap: Tap | None) -> int:
    """Runs an image; returns the exit code of its application, and 1 where there was no machine.

    Raises UsageError for what the user can put right.
    """
    _check(image, options)
    mapped = volumes.check(options.volumes)
    _check_mapped(mapped)
    uhyve = find()
    values = allowed(image, options)
    if values or options.env or options.args:
        log.warning("what the image is given is on uhyve's command line, which others on this host can see")
    command = arguments(image, options, values, mapped, tap)
    return await _stay(uhyve, command, options.verbose)


def _check(image: Image, options: RunOptions) -> None:
    """Raises UsageError for what there is not under uhyve, by name."""
    if image.manifest.flavour != "native":
        raise UsageError(
            f"{image.path}: --vmm uhyve boots native images, and this is one of {image.manifest.flavour.capitalize()}; "
            "build it with --native, or leave --vmm out"
        )
    image.flavour.check_run(image, options)
    refused = {
        "-p": (bool(options.ports), "uhyve forwards no ports: connect the machine with --tap"),
        "--channel": (options.channel is not None, "uhyve has no channels"),
        "--snapshot": (options.snapshot is not None, "uhyve takes no snapshots"),
        "--restore": (options.restore is not None, "uhyve takes no snapshots"),
        "--accel tcg": (options.accel == "tcg", "uhyve emulates no processor"),
    }
    if any(given for given, _ in refused.values()):
        raise UsageError(
            *(f"{name}: {why}; leave {name} out, or --vmm uhyve" for name, (given, why) in refused.items() if given)
        )
    if options.memory % STEP or options.memory < LEAST:
        raise UsageError(
            f"--memory: under uhyve a machine has a multiple of {STEP >> 20}M, and at least {LEAST >> 20}M; give that "
            "much"
        )


def _check_mapped(mapped: Sequence[Volume]) -> None:
    """Raises UsageError for directories that the machine would not see as they are: the kernel learns the paths of
    files, and uhyve tells it of no others."""
    problems = []
    for volume in (volume for volume in mapped if not volume.is_file):
        inner = next((each.name for each in sorted(volume.host.iterdir()) if each.is_dir()), None)
        if inner is not None:
            problems.append(
                f"--volume {volume.host}:{volume.guest}: under uhyve a directory has files alone, and in this one is "
                f"the directory {inner}; name each directory with --map DIR:GUEST, or leave --vmm uhyve out"
            )
        elif not _files([volume]):
            problems.append(f"--volume {volume.host}:{volume.guest}: it has no files, and uhyve maps in nothing else")
    if problems:
        raise UsageError(*problems)


def _files(mapped: Sequence[Volume]) -> list[PurePosixPath]:
    """The files' paths in the machine."""
    return [
        path
        for volume in mapped
        for path in (
            [volume.guest]
            if volume.is_file
            else [volume.guest / each.name for each in sorted(volume.host.iterdir()) if each.is_file()]
        )
    ]


def find() -> Path:
    """The uhyve of this machine: on PATH, or where cargo puts programs. Raises UsageError."""
    places = [shutil.which(UHYVE), Path.home() / ".cargo" / "bin" / UHYVE]
    with contextlib.suppress(OSError):
        places.append(cache.directory("uhyve") / "bin" / UHYVE)
    for place in places:
        if place is not None and Path(place).exists():
            return Path(place)
    raise UsageError(f"--vmm uhyve: uhyve is not installed; install it: {INSTALL}")


def arguments(
    image: Image, options: RunOptions, values: Mapping[str, str], mapped: Sequence[Volume], tap: Tap | None
) -> list[str]:
    """uhyve's arguments for an image. Raises UsageError where there are too many for the machine."""
    # A uhyve.toml of the folder or of the user is not for our machines.
    words = ["--config", os.devnull, "--memory-size", f"{options.memory >> 20}MiB"]
    for volume in mapped:
        words += ["--file-mapping", f"{volume.host}:{volume.guest}"]
    if tap is not None:
        words += ["--net", f"tap:{tap.name}"]
    told = _command_line(options, values, mapped, tap)
    quoted = [shlex.quote(word) for word in told]
    if sum(len(word.encode(errors="surrogateescape")) + 1 for word in quoted) > ROOM:
        raise UsageError(
            f"what the machine is told is longer than {ROOM:,} bytes, for which uhyve has no room; name fewer files "
            "with --map, or shorter values and arguments, or leave --vmm uhyve out"
        )
    return [*words, str(image.path), *quoted]


def _command_line(
    options: RunOptions, values: Mapping[str, str], mapped: Sequence[Volume], tap: Tap | None
) -> list[str]:
    """What the kernel is told, as words."""
    words = [f"{name}={value}" for name, value in values.items()]
    words += [f"SLIGHT_FILE={path}" for path in _files(mapped)]
    if said := _said(options):
        words.append(f"SLIGHT_OPTIONS={json.dumps(said)}")
    words += [f"SLIGHT_ENV_{name}={value}" for name, value in options.env.items()]
    if options.args:
        words.append(f"SLIGHT_ARGS={shlex.join(options.args)}")
    if tap is not None and tap.address is not None:
        mask = network.mask_of(tap.address.network.prefixlen)
        words.append(f"ip={tap.address.ip}::{tap.gateway or ''}:{mask}::eth0:off")
    return words


def _said(options: RunOptions) -> dict[str, Any]:
    """The options that the kernel is told of, which has the same defaults but for what depends on the machine's
    memory: its command line has little room."""
    said = dict(options.limits) | {limits.VERBOSE.name: options.verbose}
    unusual = (option for option in limits.ALL if option is limits.MAX_MEMORY or option.of(said) != option.default)
    return {option.name: said[option.name] for option in unusual if option.name in said}


async def _start(uhyve: Path, arguments: Sequence[str], verbose: bool) -> asyncio.subprocess.Process:
    """Starts uhyve, which ends when this thread does. Its standard error is a pipe. Raises UsageError."""
    try:
        return await asyncio.create_subprocess_exec(
            str(uhyve),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", os.defpath), "RUST_LOG": "info" if verbose else "error"},
            # Its own session: Ctrl-C reaches the launcher alone.
            start_new_session=True,
            preexec_fn=functools.partial(children.belong_to, os.getpid()),
        )
    except OSError as error:
        raise UsageError(f"{uhyve}: it can't be started: {error.strerror}; install it: {INSTALL}") from None


async def _stay(uhyve: Path, arguments: Sequence[str], verbose: bool) -> int:
    """Runs uhyve to its end; returns its exit code. Signals end it."""
    asked: list[int] = []
    process: asyncio.subprocess.Process | None = None

    def end(number: int) -> None:
        asked.append(number)
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM if len(asked) == 1 else signal.SIGKILL)

    # Before it starts: a signal that comes at once is not to end this process alone.
    loop = asyncio.get_running_loop()
    for number, meant in ending_signals().items():
        loop.add_signal_handler(number, end, meant)
    process = await _start(uhyve, arguments, verbose)
    if asked:
        process.kill()
    assert process.stderr is not None
    said = b""
    while received := await process.stderr.read(1 << 16):
        said = (said + received)[-_STDERR_LIMIT:]
        if verbose:
            for line in received.decode(errors="replace").splitlines():
                print(printable(line), file=sys.stderr)
    code = await process.wait()
    if asked:
        return 128 + asked[0]
    if code < 0 or (code == _PANICKED and b"panicked" in said):
        log.error("uhyve: %s; --vmm qemu boots the image as well", _why(said, code))
        return 1
    return code


def _why(said: bytes, code: int) -> str:
    """Why uhyve made no machine: there is no KVM, which it says in no words of ours, or what it says first, or how it
    ended."""
    if not os.access(KVM, os.R_OK | os.W_OK):
        return f"{KVM} is missing, or not for you to use"
    lines = [line.strip() for line in said.decode(errors="replace").splitlines()]
    lines = [line for line in lines if line and not line.startswith(("note:", "thread ", "stack backtrace"))]
    if b"kvm_cpu.rs" in said and lines:
        return f"KVM stopped the machine: {printable(lines[0])[:300]}"
    return printable(lines[0])[:300] if lines else f"it was ended by signal {-code}" if code < 0 else "it panicked"
