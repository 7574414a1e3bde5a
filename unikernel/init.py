"""Process 1 of the machine, and the only one: from the kernel's first call to the reboot that ends it.

It sets up what a system's init does, says hello to the launcher, runs `guest.main`, and reports the exit code. It
never returns: the kernel panics where process 1 ends. What takes long to import is imported after the hello.

Numbers come from the headers of Linux: `linux/mount.h`, `linux/random.h`, `linux/reboot.h`.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress

from unikernel import control, network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, NoReturn

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_MOVE = 1, 2, 4, 8, 4096, 8192
RB_AUTOBOOT = 0x01234567
RNDADDENTROPY, RNDRESEEDCRNG = 0x40085203, 0x5207
SYS_FINIT_MODULE = 313

PORTS = "/sys/class/virtio-ports"
VIRTIO_CONSOLE = "0x0003"
"""What sysfs has for a virtio-serial device."""

PORT_TIME = 2.0
"""Seconds that the ports of such a device may take to appear."""

HANGUP_TIME = 1.0
"""Seconds after which a launcher that has hung up is gone. One that restores a snapshot is away for a moment."""

MODULES = "/lib/modules/slight"
"""Where a kernel that isn't ours has its modules: the file `order` has their names, a line each."""

HOSTNAME = "slight"

ROOM = 12 << 20
"""Bytes that the system must be able to give before the runtime is imported. That takes 7 MiB, and what is left then is
looked at again."""

MSIZE = 262144
"""Bytes of a 9p message, and so of the largest read of a file in one go. The kernel's limit for virtio is 512000."""


class LauncherGone(Exception):
    """Nobody reads what the machine says any more."""


class Launcher:
    """The control channel, or what stands for it where a launcher has none: the console."""

    def __init__(self, file: int | None) -> None:
        self.file = file
        self._lines = control.Lines()
        self._received: list[bytes] = []

    def send(self, kind: str, value: Any, at: bool = True) -> None:
        """Raises LauncherGone."""
        if self.file is None:
            if kind == "errors":
                for line in value:
                    print(f"slight-py: error: {line}", file=sys.stderr, flush=True)
            return
        line = memoryview(control.encode(kind, value, since_boot() if at else None))
        try:
            while line:
                line = line[os.write(self.file, line) :]
        except OSError:
            raise LauncherGone from None

    def receive(self) -> control.Message:
        """The next message, waited for. Raises LauncherGone, or ControlError."""
        assert self.file is not None
        while not self._received:
            self._received += self.read()
        return control.from_launcher(self._received.pop(0))

    def take(self) -> list[bytes]:
        """The lines that came along with the last message."""
        lines, self._received = self._received, []
        return lines

    def read(self) -> list[bytes]:
        """The lines that are there; waits for some where there is nothing to read. Raises LauncherGone, or
        ControlError."""
        assert self.file is not None
        try:
            received = os.read(self.file, 1 << 16)
        except OSError:
            raise LauncherGone from None
        if not received and not connected(self.file, HANGUP_TIME):
            raise LauncherGone
        return self._lines.feed(received)


def main() -> NoReturn:
    """Runs the machine to its end."""
    began = since_boot()
    if os.getpid() != 1:
        print("slight-py: error: this is for process 1 of a virtual machine alone", file=sys.stderr)
        sys.exit(2)
    launcher = Launcher(None)
    code = 1
    try:
        launcher = _come_up(began)
        code = _run(launcher)
    except LauncherGone:
        end()
    except BaseException:
        _say_why(launcher)
    try:
        _finish(launcher, code)
    except LauncherGone:
        pass
    finally:
        end()


def _come_up(began: float) -> Launcher:
    _mount_system()
    _load_modules()
    launcher = _find_launcher()
    launcher.send("hello", {"at": began}, at=False)
    network.bring_up_loopback()
    return launcher


def _run(launcher: Launcher) -> int:
    """Runs the application; returns the exit code."""
    from slight_py.errors import UsageError

    try:
        check_memory(ROOM)
        # First, so that nobody who connects early finds a machine without a network.
        boot = _boot(launcher)
        _bring_up_network(boot)
        from unikernel import guest

        launcher.send("phase", "imported")
        return guest.main(launcher, boot)
    except UsageError as error:
        launcher.send("errors", list(error.lines))
        return 2
    except MemoryError:
        launcher.send("errors", ["not enough memory for the runtime and the application; give more with --memory"])
        return 1
    except control.ControlError as error:
        launcher.send("errors", [f"the launcher and the image don't understand each other: {error}; build it again"])
        return 1


def check_memory(room: int) -> None:
    """Raises MemoryError where the system can't give as many bytes: it would read its own programs from the disk over
    and over, and be taken for hung."""
    if available_memory() < room:
        raise MemoryError


def available_memory() -> int:
    """How many bytes the system can give now."""
    with open("/proc/meminfo") as file:
        facts = dict(line.split(":") for line in file)
    available, _, _ = facts["MemAvailable"].strip().partition(" ")
    return int(available) << 10


def _boot(launcher: Launcher) -> dict[str, Any]:
    """What the launcher hands over, put into effect as far as it concerns the system."""
    if launcher.file is None:
        return _boot_of_environment()
    message = launcher.receive()
    if message.kind != "boot":
        raise control.ControlError(f"a message {message.kind!r} where 'boot' belongs")
    boot: dict[str, Any] = message.value
    renew(boot)
    return boot


def _boot_of_environment() -> dict[str, Any]:
    """The same for a launcher that knows only the kernel's command line: its words NAME=VALUE are our environment.

    SLIGHT_ARGS has the module's arguments, quoted as for a shell, SLIGHT_ENV_NAME a variable that it sees as NAME.
    """
    import shlex

    prefix = "SLIGHT_ENV_"
    return {
        "env": {name.removeprefix(prefix): value for name, value in os.environ.items() if name.startswith(prefix)},
        "args": shlex.split(os.environ.get("SLIGHT_ARGS", "")),
        "values": dict(os.environ),
        "volumes": [],
        "network": None,
        "options": {},
        "channel": True,
    }


def _bring_up_network(boot: dict[str, Any]) -> None:
    """Raises UsageError."""
    from slight_py.errors import UsageError

    given = boot["network"]
    found = network.of_message(given) if given else network.of_command_line(_first_line("/proc/cmdline"))
    if found is None:
        return
    try:
        network.bring_up(found)
    except OSError as error:
        raise UsageError(
            f"the network {found.address} of the machine can't be brought up: {error}; give it a network device and "
            "addresses of that network"
        ) from None


def renew(given: dict[str, Any]) -> None:
    """Sets the clock, and mixes random data of the launcher's into the kernel's.

    A machine that is restored from a snapshot a second time would otherwise draw the same numbers as the first.
    """
    import fcntl

    time.clock_settime_ns(time.CLOCK_REALTIME, given["time"])
    seed = given["seed"]
    file = os.open("/dev/urandom", os.O_RDWR)
    try:
        # struct rand_pool_info: bits of entropy, bytes, and these.
        header = (len(seed) * 8).to_bytes(4, sys.byteorder) + len(seed).to_bytes(4, sys.byteorder)
        fcntl.ioctl(file, RNDADDENTROPY, header + seed)
        fcntl.ioctl(file, RNDRESEEDCRNG)
    finally:
        os.close(file)
    if random := sys.modules.get("random"):
        random.seed()
    if ssl := sys.modules.get("ssl"):
        ssl.RAND_add(seed, len(seed))  # OpenSSL draws from a pool of its own


# File systems.


def _mount_system() -> None:
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    # The kernel mounts it over a disk, and not over an initramfs.
    if not os.path.exists("/dev/urandom"):
        mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID)
    for path in ("/tmp", "/run"):
        mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV)
    with suppress(OSError), open("/proc/sys/kernel/hostname", "w") as file:  # a kernel without sysctl has none
        file.write(HOSTNAME)


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """mount(2). Raises OSError."""
    import ctypes

    texts = [text.encode() for text in (source, target, kind)]
    if ctypes.CDLL(None, use_errno=True).mount(*texts, ctypes.c_ulong(flags), options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def make_root_writable() -> None:
    """Where the root is read-only, has it take what is written into memory. Call it before files are opened there."""
    if not os.statvfs("/").f_flag & os.ST_RDONLY:
        return
    upper, work, root = "/run/root/upper", "/run/root/work", "/run/root/merged"
    for path in (upper, work, root):
        os.makedirs(path)
    mount("overlay", root, "overlay", 0, f"lowerdir=/,upperdir={upper},workdir={work}")
    for path in ("/proc", "/sys", "/dev", "/tmp"):
        mount(path, root + path, "", MS_MOVE)
    # The overlay's own layers are in /run, so that stays where it is and is seen in a second place.
    mount("/run", f"{root}/run", "", MS_BIND)
    os.chroot(root)
    os.chdir("/")


def mount_volume(tag: str, path: str, writable: bool) -> str:
    """Mounts a directory of the host, and returns where. Raises UsageError."""
    from slight_py.errors import UsageError

    place = os.path.normpath(os.path.join("/", path))
    try:
        os.makedirs(place, exist_ok=True)
        if os.stat(place).st_dev == os.stat("/").st_dev and os.listdir(place):
            raise UsageError(f"--volume: {path} is a directory of the machine's own; choose another place")
        # No cache: what the host changes is seen at once, and nothing is lost where the machine is ended.
        options = f"trans=virtio,version=9p2000.L,msize={MSIZE},cache=none"
        mount(tag, place, "9p", MS_NOSUID | MS_NODEV | (0 if writable else MS_RDONLY), options)
    except OSError as error:
        raise UsageError(f"--volume: {path} can't be mounted: {error.strerror}") from None
    return place


# Devices.


def _load_modules() -> None:
    """Loads the modules of a kernel that has some, in their order."""
    if not os.path.exists(f"{MODULES}/order"):
        return
    import ctypes

    syscall = ctypes.CDLL(None, use_errno=True).syscall
    with open(f"{MODULES}/order") as names:
        for name in names.read().split():
            file = os.open(f"{MODULES}/{name}", os.O_RDONLY)
            if syscall(SYS_FINIT_MODULE, file, b"", 0):
                print(f"slight-py: the kernel's module {name} can't be loaded: {os.strerror(ctypes.get_errno())}")
            os.close(file)


def _find_launcher() -> Launcher:
    if not _has_ports():
        return Launcher(None)
    file = open_port(control.CONTROL, PORT_TIME)
    if file is None:
        return Launcher(None)
    for target, name in enumerate((control.STDIN, control.STDIO, control.STDERR)):
        port = open_port(name, PORT_TIME)
        if port is not None:
            os.dup2(port, target)
            os.close(port)
    return Launcher(file)


def _has_ports() -> bool:
    """Whether there is a virtio-serial device, whose ports may be about to appear."""
    folder = "/sys/bus/virtio/devices"
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return any(_first_line(f"{folder}/{name}/device") == VIRTIO_CONSOLE for name in names)


def open_port(name: str, wait: float) -> int | None:
    """A virtio-serial port by its name, open, for `wait` seconds at most; None where there is none.

    Ports appear one after the other, and the launcher's end a little later: until then a read finds the end.
    """
    for _ in _until(wait):
        for device, found in _ports():
            if found == name:
                file = os.open(f"/dev/{device}", os.O_RDWR | os.O_CLOEXEC)
                connected(file, wait)
                return file
    return None


def _ports() -> Iterator[tuple[str, str]]:
    for device in os.listdir(PORTS) if os.path.isdir(PORTS) else []:
        yield device, _first_line(f"{PORTS}/{device}/name")


def connected(file: int, wait: float) -> bool:
    """Whether somebody holds the other end of a port; one who is away for less than `wait` seconds does."""
    import select

    poll = select.poll()
    poll.register(file, select.POLLOUT)
    return any(not any(event & select.POLLHUP for _, event in poll.poll(0)) for _ in _until(wait))


def _until(seconds: float) -> Iterator[None]:
    """Once at least, and again every millisecond until the time is over."""
    end = time.monotonic() + seconds
    while True:
        yield
        if time.monotonic() > end:
            return
        time.sleep(0.001)


def _first_line(path: str) -> str:
    try:
        with open(path) as file:
            return file.readline().strip()
    except OSError:
        return ""


# The end.


def since_boot() -> float:
    """Seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _say_why(launcher: Launcher) -> None:
    """A mistake of ours: whoever reports it needs to see where it is."""
    import traceback

    traceback.print_exc()
    try:
        launcher.send("errors", ["the runtime failed; what is above says where"])
    except LauncherGone:
        end()


def _finish(launcher: Launcher, code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os.sync()
    launcher.send("exit", code & 0xFF)
    # What was written is the launcher's to fetch, and a reset would take it away: the launcher ends the machine.
    while launcher.file is not None:
        with suppress(control.ControlError):
            launcher.read()


def end() -> NoReturn:
    """Has the machine reset, on which its launcher ends it."""
    import ctypes

    while True:
        os.sync()
        ctypes.CDLL(None).reboot(RB_AUTOBOOT)
        time.sleep(1)
