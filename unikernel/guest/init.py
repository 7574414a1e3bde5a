"""Process 1 of the machine, and the only one: from the kernel's first call to the reboot that ends it.

It sets up what a system's init does, says hello to the launcher, runs `work.main`, and reports the exit code. It never
returns: the kernel panics where process 1 ends. What takes long to import is imported after the hello.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from unikernel.checks import ControlError
from unikernel.guest import launcher as launchers
from unikernel.guest import memory, mounts, network, ports, power, renewal
from unikernel.guest.launcher import Launcher, LauncherGone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

MODULES = "/lib/modules/slight"
"""Where a kernel that isn't ours has its modules: the file `order` has their names, a line each."""

SYS_FINIT_MODULE = 313
"""The system call's number on x86-64."""

ROOM = 12 << 20
"""Bytes that the system must be able to give before the runtime is imported. That takes 7 MiB, and what is left then is
looked at again."""


def main() -> NoReturn:
    """Runs the machine to its end."""
    began = launchers.since_boot()
    if os.getpid() != 1:
        print("slight-py: error: this is for process 1 of a virtual machine alone", file=sys.stderr)
        sys.exit(2)
    launcher = Launcher(None)
    code = 1
    try:
        launcher = _come_up(began)
        code = _run(launcher)
    except LauncherGone:
        power.reset()
    except BaseException:
        _say_why(launcher)
    try:
        _finish(launcher, code)
    except LauncherGone:
        pass
    finally:
        power.reset()


def _come_up(began: float) -> Launcher:
    mounts.mount_system()
    _load_modules()
    launcher = launchers.find()
    launcher.send("hello", {"at": began}, at=False)
    network.bring_up_loopback()
    return launcher


def _run(launcher: Launcher) -> int:
    """Runs the application; returns the exit code."""
    from slight_py.errors import UsageError

    try:
        memory.check(ROOM)
        # First, so that nobody who connects early finds a machine without a network.
        boot = _boot(launcher)
        _bring_up_network(boot)
        from unikernel.guest import work

        launcher.send("phase", "imported")
        return work.main(launcher, boot)
    except UsageError as error:
        launcher.send("errors", list(error.lines))
        return 2
    except MemoryError:
        launcher.send("errors", ["not enough memory for the runtime and the application; give more with --memory"])
        return 1
    except ControlError as error:
        launcher.send("errors", [f"the launcher and the image don't understand each other: {error}; build it again"])
        return 1


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


# What the launcher hands over.


def _boot(launcher: Launcher) -> dict[str, Any]:
    """The boot message, put into effect as far as it concerns clock and random numbers."""
    if launcher.file is None:
        return _boot_of_environment()
    message = launcher.receive()
    if message.kind != "boot":
        raise ControlError(f"a message {message.kind!r} where 'boot' belongs")
    boot: dict[str, Any] = message.value
    renewal.renew(boot["time"], boot["seed"])
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
    wanted = network.of_message(given) if given else network.of_command_line(ports.first_line("/proc/cmdline"))
    if wanted is None:
        return
    try:
        network.bring_up(wanted)
    except OSError as error:
        raise UsageError(
            f"the network {wanted.address} of the machine can't be brought up: {error}; give it a network device and "
            "addresses of that network"
        ) from None


# The end.


def _say_why(launcher: Launcher) -> None:
    """A mistake of ours: whoever reports it needs to see where it is."""
    import traceback

    traceback.print_exc()
    try:
        launcher.send("errors", ["the runtime failed; what is above says where"])
    except LauncherGone:
        power.reset()


def _finish(launcher: Launcher, code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os.sync()
    launcher.send("exit", code & 0xFF)
    # What was written is the launcher's to fetch, and a reset would take it away: the launcher ends the machine.
    while launcher.file is not None:
        with suppress(ControlError):
            launcher.read()
