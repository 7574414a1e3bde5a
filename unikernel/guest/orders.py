"""What the launcher says while something runs in the machine."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable

from unikernel import control
from unikernel.checks import ControlError
from unikernel.guest import power, renewal
from unikernel.guest.launcher import Launcher, LauncherGone

log = logging.getLogger("slight_py")


async def follow(launcher: Launcher, run: Callable[[], Awaitable[int]]) -> int:
    """Runs something to its end, does meanwhile what the launcher says, and returns what it returns."""
    running = asyncio.ensure_future(run())
    # It handles signals once it has begun. Until then they wait in the channel, as process 1 would lose them.
    await asyncio.sleep(0)
    launcher.send("phase", "entered")
    if launcher.file is not None:
        asyncio.get_running_loop().add_reader(launcher.file, _listen, launcher)
        # What came along with an earlier message makes nothing readable.
        _obey(launcher, launcher.take())
    return await running


def _listen(launcher: Launcher) -> None:
    try:
        _obey(launcher, launcher.read())
    except LauncherGone:
        power.reset()


def _obey(launcher: Launcher, lines: list[bytes]) -> None:
    """Does what the launcher says. The answer to a ping comes from the event loop: one that is stuck shows.

    A loop may wait for a file of the host's, too, so a launcher should wait for 30 seconds, as for any request.
    """
    for line in lines:
        try:
            message = control.from_launcher(line)
        except ControlError as error:
            log.warning("the launcher said what can't be understood: %s", error)
            continue
        if message.kind == "signal":
            os.kill(os.getpid(), message.value)
        elif message.kind == "ping":
            launcher.send("pong", message.value)
        elif message.kind == "resume":
            renewal.renew(message.value["time"], message.value["seed"])
