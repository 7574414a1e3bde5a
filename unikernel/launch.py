"""Boots an image and stays with it: its output is this process's, and so are the signals and the exit code."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import os
import secrets
import shlex
import signal
import socket
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from slight_py.errors import UsageError
from unikernel import acceleration, control, elf, machine, snapshot, volumes
from unikernel.control import COMMAND, DATA, ControlError, Message
from unikernel.flavours import OUT_OF_MEMORY
from unikernel.image import Image, copy_part
from unikernel.machine import NETWORK, Accel, Forward, Machine, Ram, Share
from unikernel.qmp import QmpError
from unikernel.snapshot import Snapshot
from unikernel.vm import Broke, Down, Failure, Gone, Said, Vm

if TYPE_CHECKING:
    from slight_py import slightfile as slightfiles

log = logging.getLogger("slight_py")

PING_INTERVAL, PINGS = 5.0, 6
"""Seconds between pings, and how many may go without an answer."""

GRACE = 10.0
"""Seconds that a machine has to shut down, after its application has had its time."""

FORWARDS_LIMIT = 64
"""Ports that an application may open by serving: it is untrusted, and each is a port of the host."""

_BROKEN_PIPE = 128 + signal.SIGPIPE

_LAST_LINES = 10


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How an image is run. `docs/image.md` has what each means."""

    memory: int = 256 << 20
    """Bytes."""
    cpus: int = 1
    ports: tuple[tuple[str, int, int], ...] = ()
    """Address and port of the host, port in the machine."""
    env: Mapping[str, str] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    volumes: tuple[volumes.Asked, ...] = ()
    accel: Literal["auto", "kvm", "tcg"] = "auto"
    slightfile: Path | None = None
    """Where the values come from that the image leaves out. It opens the network, too, if it grants what needs it."""
    passed: tuple[str, ...] = ()
    """The environment variables that the image may have as such values."""
    network: bool = False
    """Whether the image may reach the host and the network."""
    channel: Path | None = None
    snapshot: Path | None = None
    restore: Path | None = None
    boot_timeout: float = 60.0
    """Seconds until the runtime in the machine is up."""
    verbose: bool = False
    limits: Mapping[str, Any] = field(default_factory=dict)
    """`control.OPTIONS`, but for `verbose`."""


@dataclass(frozen=True, slots=True)
class Signal:
    """This process got a signal."""

    number: int


@dataclass(frozen=True, slots=True)
class Hung:
    """The guest has not answered for long."""


class _EndedError(Exception):
    """The end, with the exit code."""

    def __init__(self, code: int) -> None:
        self.code = code


async def run(image: Image, options: RunOptions) -> int:
    """Boots an image; returns the exit code of its application, and 1 where the machine failed.

    Raises UsageError for what the user can put right, such as a port that is taken.
    """
    qemu = machine.find()
    taken = _check(image, options)
    values = allowed(image, options)
    shared = volumes.check(options.volumes)
    with ExitStack() as stack:
        shares = stack.enter_context(volumes.shared(shared))
        channel = stack.enter_context(_channel(options.channel)) if options.channel else ()
        template = Machine(
            image,
            options.memory,
            options.cpus,
            "tcg",
            console="",
            serial=channel,
            initrd=stack.enter_context(_initrd(image)) if image.root.type == "initramfs" else None,
            shares=[share for share, _ in shares],
            ram=stack.enter_context(_ram(options)),
            network=image.manifest.needs_network,
        )
        boot = _boot_message(options, values, shares)
        launch = Launch(qemu, image, options, template, boot, taken)
        try:
            return await launch.main()
        except Failure as failure:
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
            f"--memory {snapshot.size_text(options.memory)}: the kernel alone reaches up to {least / 1e6:.0f} MB; "
            "give more, as in --memory 128M"
        )
    for host, _, _ in options.ports:
        if _ipv4(host) is None:
            raise UsageError(f"-p {host}: ports are forwarded from IPv4 addresses; give one, as in 127.0.0.1:8080:3000")
    if options.restore is None:
        return None
    if options.env or options.args or options.slightfile or options.passed:
        raise UsageError(
            "--restore goes on with the variables, the values and the arguments of the snapshot; leave out others"
        )
    taken = snapshot.read(options.restore)
    snapshot.check(
        options.restore, taken, image, options.memory, options.cpus, options.accel, options.channel is not None
    )
    return taken


def _least_memory(image: Image) -> int:
    """Bytes of memory below which there is no room for the kernel where it is to be loaded."""
    with image.path.open("rb") as file:
        content = file.read(image.manifest.kernel.size)
    loaded = [each for each in elf.segments(content, str(image.path)) if each.type == elf.PT_LOAD]
    return max((each.physical + each.memory for each in loaded), default=0)


def allowed(image: Image, options: RunOptions) -> dict[str, str]:
    """The values that the image leaves out, by their names. What an image asks for is in its own manifest, and anybody
    may have written that: it gets what the user names, and no other value and no network.

    Raises UsageError with a line for each thing that it asks for and doesn't get.
    """
    from slight_py import slightfile as slightfiles

    module = image.manifest.app.name if image.manifest.app else ""
    grants = slightfiles.load(options.slightfile).for_module(module).grants if options.slightfile is not None else ()
    found: dict[str, str] = {}
    problems = []
    if image.manifest.needs_network and not options.network and all(each.resource.local for each in grants):
        problems.append(
            f"{image.path}: the image asks for the network; let it reach the host and the network with --net, or give "
            "the slightfile with -c"
        )
    if options.restore is None:
        found, missing = _values(image, options.passed, grants)
        problems += missing
    if problems:
        raise UsageError(*problems)
    return found


def _values(
    image: Image, passed: Sequence[str], grants: Sequence[slightfiles.Grant]
) -> tuple[dict[str, str], list[str]]:
    """The values that the image asks for, as far as the user allows them, and what is to be said of the others."""
    given = {(each.family.name, each.name): each.configs for each in grants}
    found: dict[str, str] = {}
    asked: dict[str, str] = {}
    """What each value is for."""
    for grant in image.manifest.grants:
        configs = given.get((grant.family, grant.name), {})
        for key, config in grant.configs.items():
            if config.source is not None:
                asked.setdefault(config.source, f"{key} of {grant.resource} {grant.name!r}")
                if key in configs:
                    found.setdefault(config.source, configs[key])
    problems = [
        f"{image.path}: --pass {name}: the image asks for no such value; it asks for {', '.join(asked) or 'none'}"
        for name in passed
        if name not in asked
    ]
    for name, use in asked.items():
        if name in found:
            continue
        if name in passed and name in os.environ:
            found[name] = os.environ[name]
        elif name in passed:
            problems.append(f"{image.path}: --pass {name}: the environment variable is not set; set it")
        else:
            problems.append(
                f"{image.path}: the image asks for the value {name}, for {use}; let it have the environment variable "
                f"with --pass {shlex.quote(name)}, or give the slightfile with -c"
            )
    return found, problems


def _boot_message(options: RunOptions, values: Mapping[str, str], shares: list[tuple[Share, str]]) -> bytes:
    for text in (*options.args, *options.env, *options.env.values(), *values.values()):
        # What the shell gave as bytes that are no text has surrogates in their place.
        if not text.isascii() and any("\ud800" <= each <= "\udfff" for each in text):
            raise UsageError("an argument, a variable or a value is not UTF-8; the machine takes nothing else")
    try:
        return control.boot(
            env=options.env,
            args=options.args,
            values=values,
            volumes=[(share.tag, path, share.writable) for share, path in shares],
            network=machine.ADDRESSES,
            time=time.time_ns(),
            seed=secrets.token_bytes(control.SEED_BYTES),
            options=dict(options.limits) | {"verbose": options.verbose},
            channel=options.channel is not None,
        )
    except ControlError:
        raise UsageError(
            f"variables, values and arguments are too long together; {control.LIMIT} bytes are the limit"
        ) from None


@contextmanager
def _ram(options: RunOptions) -> Iterator[Ram | None]:
    """The memory of a machine that is saved, or that goes on."""
    if options.snapshot:
        with snapshot.memory_for(options.snapshot, options.memory) as path:
            yield Ram(path, kept=True)
    else:
        yield Ram(options.restore, kept=False) if options.restore else None


@contextmanager
def _initrd(image: Image) -> Iterator[Path]:
    """The root file system of an image as a file of its own."""
    with tempfile.NamedTemporaryFile(prefix="slight-py-") as file:
        copy_part(image, image.root.offset, image.root.size, file)
        file.flush()
        yield Path(file.name)


# The channel.


@contextmanager
def _channel(folder: Path) -> Iterator[tuple[tuple[str, str], ...]]:
    """Serial ports whose host's ends are sockets in a directory. QEMU makes them, and they are removed at the end.

    Until `_open_channel` they have hidden names: they are there already for a try of KVM, which may fail.
    """
    folder = folder.absolute()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise UsageError(f"--channel {folder}: it can't be made: {error.strerror}; give another directory") from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022:
        raise UsageError(
            f"--channel {folder}: this is not a directory that you alone may write to; give another, or one to be made"
        )
    sockets = [_socket(folder, name) for name in (COMMAND, DATA)]
    paths = [path for each in sockets for path in (each, _hidden(each))]
    for path in paths:
        _clear(path)
    words = [f"socket,path={str(_hidden(each)).replace(',', ',,')},server=on,wait=off" for each in sockets]
    try:
        yield tuple(zip((COMMAND, DATA), words, strict=True))
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def _socket(folder: Path, name: str) -> Path:
    return folder / f"{name.removeprefix('slight.')}.sock"


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}")


def _open_channel(folder: Path) -> None:
    """Gives the sockets the names that clients know. Raises UsageError."""
    try:
        for name in (COMMAND, DATA):
            path = _socket(folder, name)
            _hidden(path).rename(path)
    except OSError as error:
        raise UsageError(f"--channel {folder}: its sockets have gone: {error.strerror}; leave them there") from None


def _clear(path: Path) -> None:
    """Removes a socket that a machine left behind. Raises UsageError for one in use, and for what is no socket."""
    if len(os.fsencode(path)) > 107:  # sockaddr_un, see unix(7)
        raise UsageError(f"--channel: {path} is too long for the name of a socket; give a shorter directory")
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise UsageError(f"--channel: {path} is not a socket; remove it, or give another directory")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # one whose queue is full is in use as well
        if probe.connect_ex(str(path)) not in (0, errno.EAGAIN):
            path.unlink(missing_ok=True)
            return
    raise UsageError(f"--channel: {path} is another machine's, which runs; give another directory")


class Launch:
    """One run of an image."""

    def __init__(
        self, qemu: Path, image: Image, options: RunOptions, template: Machine, boot: bytes, taken: Snapshot | None
    ) -> None:
        self._qemu = qemu
        self._image = image
        self._options = options
        self._template = template
        self._message = boot
        self._taken = taken
        self._events: asyncio.Queue[Any] = asyncio.Queue()
        self._vm = Vm(self._events)
        self._accel: Accel = "tcg"
        self._pings: asyncio.Task[None] | None = None
        self._asked_forwards = [Forward(_ipv4(host) or host, port, guest) for host, port, guest in options.ports]
        self._signals = 0
        self._unanswered = 0
        self._code: int | None = None
        """The guest's exit code, once it has given it."""
        self._fault: UsageError | Failure | None = None
        """What went wrong, while the guest is being ended for it."""
        self._output_gone = False
        self._deadline: tuple[float, UsageError | Failure] | None = None

    async def main(self) -> int:
        """Raises UsageError and Failure."""
        self._catch_signals()
        try:
            if self._taken is not None:
                await self._restore(self._taken)
            else:
                await self._boot()
            self._vm.open_input()
            if self._options.channel is not None:
                _open_channel(self._options.channel)
            self._pings = asyncio.create_task(self._ping())
            while True:
                await self._handle(await self._next())
        except _EndedError as ended:
            if self._fault is not None:
                raise self._fault from None
            return _BROKEN_PIPE if self._output_gone else ended.code
        except QmpError as error:
            raise Failure(await self._vm.why_it_has_gone(str(error))) from None
        finally:
            if self._pings is not None:
                self._pings.cancel()
            await self._vm.end()

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._events.put_nowait, Signal(number))
        # The terminal was closed. Under nohup that is not for us.
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            loop.add_signal_handler(signal.SIGHUP, self._events.put_nowait, Signal(signal.SIGTERM))

    # From nothing to a guest that listens.

    async def _boot(self) -> None:
        """Boots until the guest says hello, under KVM where that works, and tells it what it needs."""
        accel, patience = self._options.accel, self._options.boot_timeout
        if accel != "auto" or not acceleration.worth_a_try(self._qemu):
            await self._boot_under("kvm" if accel == "kvm" else "tcg", patience)
            return
        try:
            await self._boot_under("kvm", min(acceleration.TRIAL, patience))
        except Failure as failure:
            log.debug("KVM doesn't work here, so QEMU emulates the processor: %s", failure)
            await self._vm.end()
            self._forget_events()
            await self._boot_under("tcg", patience)
            # Only now is it KVM's fault, and not the image's, or too little memory.
            acceleration.remember_failure(self._qemu)

    async def _boot_under(self, accel: Accel, patience: float) -> None:
        begin = asyncio.get_running_loop().time()
        self._accel = accel
        await self._start()
        try:
            for forward in self._asked_forwards:
                await self._open(forward)
        except QmpError as error:
            raise Failure(await self._vm.why_it_has_gone(str(error))) from None
        self._set_deadline(patience, Failure(self._not_up(patience)))
        match await self._next():
            case Said(Message(kind="hello", value=value)):
                took = asyncio.get_running_loop().time() - begin
                log.debug("the guest is up, %.2f s after its kernel began, %.2f s after QEMU", value["at"], took)
            case Said():
                raise Failure("the guest doesn't begin with its hello; it is another version's")
            case Broke(what, output=True):
                log.error("%s before the runtime in the machine was up", what)
                raise _EndedError(_BROKEN_PIPE)
            case event:
                await self._handle(event)
                raise AssertionError("an end before the hello is an end")
        self._deadline = None
        self._vm.send(self._message)

    async def _start(self, files: Sequence[int] = (), extra: Sequence[str] = ()) -> None:
        self._vm = Vm(self._events)
        await self._vm.start(self._qemu, replace(self._template, accel=self._accel), files, extra)

    async def _restore(self, taken: Snapshot) -> None:
        """Goes on with a snapshot until the guest answers."""
        assert self._options.restore is not None
        self._accel = taken.accel
        with self._options.restore.open("rb") as file:
            await self._start((file.fileno(),), ("-incoming", "defer"))
            await snapshot.restore(self._vm.qmp, file, taken)
        self._vm.send(control.resume(time.time_ns(), secrets.token_bytes(control.SEED_BYTES)))
        self._vm.send(control.ping(0))
        await self._vm.qmp.execute("cont")
        self._set_deadline(GRACE, Failure(f"the guest of the snapshot doesn't answer within {GRACE:g} s"))
        while self._deadline is not None:
            event = await self._next()
            if isinstance(event, Said) and event.message.kind == "pong":
                self._deadline = None
            else:
                await self._handle(event)
        # Not before: until the guest has its new random data, it would draw the same numbers each time.
        if taken.serving:
            for forward in {*self._asked_forwards, *self._forwards_of(*taken.serving)}:
                await self._open(forward)
            self._say_serving(*taken.serving)

    def _forget_events(self) -> None:
        """Drops what a machine that is gone has sent; signals are for the next one."""
        events = [self._events.get_nowait() for _ in range(self._events.qsize())]
        for event in events:
            if isinstance(event, Signal):
                self._events.put_nowait(event)

    # From there to the end.

    async def _next(self) -> Any:
        """The next event. Raises what the deadline says once it has passed."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout_at(self._deadline and self._deadline[0]):
                    return await self._events.get()
            except TimeoutError:
                assert self._deadline is not None
                when, failure = self._deadline
                if loop.time() - when < 1:
                    raise failure from None
                # This process itself was stopped: what the machine has said meanwhile is still to be read.
                self._set_deadline(5, failure)

    def _set_deadline(self, seconds: float, failure: UsageError | Failure) -> None:
        self._deadline = (asyncio.get_running_loop().time() + seconds, failure)

    async def _handle(self, event: Any) -> None:
        match event:
            case Said(message):
                await self._hear(message)
            case Signal(number):
                self._pass_on(number)
            case Broke(output=True):
                self._output_gone = True
                self._ask_to_end(signal.SIGTERM)
            case Broke(what):
                raise Failure(what)
            case Hung():
                self._show_console()
                memory = snapshot.size_text(self._options.memory)
                raise Failure(
                    f"the guest has not answered for {PINGS * PING_INTERVAL:g} s, and was ended; "
                    f"if it has too little memory, give it more than --memory {memory}"
                )
            case Down():
                await self._finish()
            case Gone():
                if self._code is None:
                    raise Failure(await self._vm.why_it_has_gone("QEMU has ended"))
                await self._finish()

    async def _hear(self, message: Message) -> None:
        value = message.value
        match message.kind:
            case "pong":
                self._unanswered = 0
            case "serving":
                await self._serve(value["address"], value["port"])
            case "phase":
                log.debug("the guest: %s, %.2f s after its kernel began", value, message.at or 0)
                if value == "entered" and self._image.manifest.app is None and self._options.snapshot:
                    await self._save(None)
            case "errors":
                for line in value:
                    log.error("error: %s", line)
            case "exit":
                self._code = value
                # A kernel that reboots resets its devices first, and what is still on its way through them is lost.
                with suppress(QmpError):
                    await self._vm.qmp.execute("stop")
                await self._finish()
            case _:
                raise Failure(f"the guest sends another {message.kind}; it is broken")

    def _pass_on(self, number: int) -> None:
        self._signals += 1
        if self._signals > 2 or self._pings is None:
            raise _EndedError(128 + number)
        self._ask_to_end(number)

    def _ask_to_end(self, number: int) -> None:
        if self._deadline is None:
            patience = float(self._options.limits.get("drain_timeout") or 0) + GRACE
            failure = Failure(f"the application has not ended within {patience:g} s, and was ended")
            self._set_deadline(patience, self._fault or failure)
        self._vm.send(control.signal(number))

    async def _finish(self) -> None:
        """The machine does nothing more: lets out what it has still written. Raises _EndedError or Failure."""
        self._deadline = None
        drained = asyncio.create_task(self._vm.drain())
        drained.add_done_callback(lambda _: self._events.put_nowait(drained))
        while (event := await self._next()) is not drained:
            match event:
                case Signal(number):
                    drained.cancel()
                    raise _EndedError(128 + number)
                case Said(Message(kind="errors") as message):
                    await self._hear(message)
                case Said(Message(kind="exit", value=code)) if self._code is None:
                    self._code = code
        if self._code is None:
            raise Failure(self._why_down())
        if self._options.snapshot:
            raise Failure(f"the application ended before it served, with exit code {self._code}: nothing was saved")
        raise _EndedError(self._code)

    def _why_down(self) -> str:
        """Why a machine went down of which no exit code came, by its kernel's last words."""
        lines = list(self._vm.console.lines)
        memory = f"--memory {snapshot.size_text(self._options.memory)}"
        reason = self._image.flavour.last_words(lines)
        if reason == OUT_OF_MEMORY:
            return f"{reason}; give it more than {memory}"
        if not lines:
            return f"the machine ended before its kernel said a word; it may need more than {memory}"
        self._show_console()
        return reason or "the machine ended without an exit code"

    def _not_up(self, patience: float) -> str:
        memory = snapshot.size_text(self._options.memory)
        return (
            f"the runtime in the machine is not up after {patience:g} s; give it more time with --boot-timeout, "
            f"or more memory than --memory {memory}"
        )

    def _show_console(self) -> None:
        """The kernel's last words, unless they have been seen."""
        if not self._options.verbose:
            for line in list(self._vm.console.lines)[-_LAST_LINES:]:
                log.error("kernel: %s", line)

    async def _ping(self) -> None:
        loop = asyncio.get_running_loop()
        number = 0
        while True:
            begin = loop.time()
            await asyncio.sleep(PING_INTERVAL)
            # Neither is the guest's fault: this process was stopped, or the reader of the output holds all up.
            if loop.time() - begin > 2 * PING_INTERVAL or self._vm.held_up:
                self._unanswered = 0
            if self._unanswered >= PINGS:
                self._events.put_nowait(Hung())
                return
            self._unanswered += 1
            number += 1
            self._vm.send(control.ping(number))

    # What it serves.

    async def _serve(self, address: str, port: int) -> None:
        if self._options.snapshot:
            await self._save((address, port))
        if self._fault is not None:
            return
        try:
            for forward in self._forwards_of(address, port):
                await self._open(forward)
        except UsageError as error:
            self._fault = error
            self._deadline = None
            self._ask_to_end(signal.SIGTERM)
        else:
            self._say_serving(address, port)

    def _forwards_of(self, address: str, port: int) -> list[Forward]:
        """What leads to a port of the machine: what -p says of it, else the address that the application asked for."""
        chosen = [forward for forward in self._asked_forwards if forward.guest == port]
        if chosen:
            return chosen
        host, _, asked = address.rpartition(":")
        # The application is not trusted with names: to look one up tells others of it.
        found = _ipv4(host.removeprefix("[").removesuffix("]")) or "127.0.0.1"
        return [Forward(found, int(asked) if asked.isdecimal() and 0 < int(asked) < 1 << 16 else port, port)]

    def _say_serving(self, address: str, port: int) -> None:
        for forward in self._forwards_of(address, port):
            log.info("serving at %s", forward)

    async def _open(self, forward: Forward) -> None:
        """Forwards a port, unless it is. Raises UsageError for one that is taken, and QmpError."""
        if forward in self._vm.forwards:
            return
        if len(self._vm.forwards) >= FORWARDS_LIMIT:
            raise UsageError(f"the application serves at more than {FORWARDS_LIMIT} ports, which is the limit")
        if await self._vm.qmp.human(f"hostfwd_add {NETWORK} {forward.rule}"):
            raise UsageError(_why_taken(forward))
        self._vm.forwards.add(forward)

    async def _save(self, serving: tuple[str, int] | None) -> None:
        """Takes the snapshot; raises _EndedError."""
        if self._pings is not None:
            self._pings.cancel()
        manifest, options = self._image.manifest, self._options
        assert options.snapshot is not None
        assert self._template.ram is not None
        taken = Snapshot(
            manifest.kernel.sha256,
            manifest.root.sha256,
            self._vm.qmp.version,
            self._accel,
            options.memory,
            options.cpus,
            options.channel is not None,
            serving,
        )
        size = await snapshot.save(self._vm, self._template.ram.path, options.snapshot, taken)
        log.info("%s: a snapshot of %.1f MB", options.snapshot, size / 1e6)
        raise _EndedError(0)


def _ipv4(host: str) -> str | None:
    """The IPv4 address that stands for a host's name or address, if one does: QEMU forwards from no other."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if address.version == 4:
        return str(address)
    return "127.0.0.1" if address.is_loopback else "0.0.0.0" if address.is_unspecified else None


def _why_taken(forward: Forward) -> str:
    from capabilities.http import listen

    hint = f"forward another port with -p OTHER:{forward.guest}"
    try:
        for opened in listen.bind(str(forward)):
            opened.close()
    except listen.ListenError as error:
        return f"{error}; {hint}"
    return f"can't forward {forward}; {hint}"
