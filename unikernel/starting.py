"""From nothing, or from a snapshot, to a guest that listens."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unikernel import acceleration, control, endings, forwards, snapshot
from unikernel.control import Message
from unikernel.events import Broke, EndedError, Events, Failure, Said
from unikernel.forwards import Forwards
from unikernel.machine import Accel, Machine
from unikernel.options import RunOptions
from unikernel.qmp import QmpError
from unikernel.snapshot import Snapshot
from unikernel.vm import Vm

log = logging.getLogger("slight_py")

ANSWER_TIME = 10.0
"""Seconds that the guest of a snapshot has for its first answer."""

BROKEN_PIPE = 128 + signal.SIGPIPE

Handle = Callable[[Any], Awaitable[None]]
"""What is done with an event, such as a signal, that is no step of the start."""


class Starter:
    """Starts the machine of one run. `vm` is the machine at work, or the one that was tried last."""

    def __init__(self, qemu: Path, template: Machine, options: RunOptions, events: Events, forwards: Forwards) -> None:
        self._qemu = qemu
        self._template = template
        self._options = options
        self._events = events
        self._forwards = forwards
        self.accel: Accel = "tcg"
        self.vm = Vm(events.queue)

    async def boot(self, message: bytes, handle: Handle) -> None:
        """Boots until the guest says hello, under KVM where that works, and sends it the boot message.

        Raises EndedError, and UsageError and Failure.
        """
        accel, patience = self._options.accel, self._options.boot_timeout
        if accel != "auto" or not acceleration.worth_a_try(self._qemu):
            await self._boot_under("kvm" if accel == "kvm" else "tcg", patience, handle)
        else:
            await self._boot_under_either(patience, handle)
        self.vm.send(message)

    async def _boot_under_either(self, patience: float, handle: Handle) -> None:
        try:
            await self._boot_under("kvm", min(acceleration.TRIAL, patience), handle)
        except Failure as failure:
            log.debug("KVM doesn't work here, so QEMU emulates the processor: %s", failure)
            await self.vm.end()
            self._events.forget()
            await self._boot_under("tcg", patience, handle)
            # Only now is it KVM's fault, and not the image's, or too little memory.
            acceleration.remember_failure(self._qemu)

    async def _boot_under(self, accel: Accel, patience: float, handle: Handle) -> None:
        begin = asyncio.get_running_loop().time()
        self.accel = accel
        await self._start()
        try:
            await forwards.open_all(self.vm, self._forwards.asked)
        except QmpError as error:
            raise Failure(await self.vm.why_it_has_gone(str(error))) from None
        self._events.set_deadline(patience, Failure(endings.not_up(patience, self._options.memory)))
        match await self._events.next():
            case Said(Message(kind="hello", value=value)):
                took = asyncio.get_running_loop().time() - begin
                log.debug("the guest is up, %.3f s after its kernel began, %.3f s after QEMU", value["at"], took)
            case Said():
                raise Failure("the guest doesn't begin with its hello; it is another version's")
            case Broke(what, output=True):
                log.error("%s before the runtime in the machine was up", what)
                raise EndedError(BROKEN_PIPE)
            case event:
                await handle(event)
                raise AssertionError("an end before the hello is an end")
        self._events.clear_deadline()

    async def restore(self, path: Path, saved: Snapshot, handle: Handle) -> None:
        """Goes on with a snapshot until the guest answers. Raises EndedError, and UsageError and Failure."""
        self.accel = saved.accel
        with path.open("rb") as file:
            await self._start((file.fileno(),), ("-incoming", "defer"))
            await snapshot.restore(self.vm.qmp, file, saved)
        self.vm.send(control.resume(time.time_ns(), secrets.token_bytes(control.SEED_BYTES)))
        self.vm.send(control.ping(0))
        await self.vm.qmp.execute("cont")
        self._events.set_deadline(
            ANSWER_TIME, Failure(f"the guest of the snapshot doesn't answer within {ANSWER_TIME:g} s")
        )
        while self._events.has_deadline:
            event = await self._events.next()
            if isinstance(event, Said) and event.message.kind == "pong":
                self._events.clear_deadline()
            else:
                await handle(event)
        # Not before: until the guest has its new random data, it would draw the same numbers each time.
        if saved.serving:
            await forwards.open_all(self.vm, {*self._forwards.asked, *self._forwards.of(*saved.serving)})

    async def _start(self, files: Sequence[int] = (), extra: Sequence[str] = ()) -> None:
        self.vm = Vm(self._events.queue)
        await self.vm.start(self._qemu, replace(self._template, accel=self.accel), files, extra)
