"""One run of an image, from the start of its machine to the exit code."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from slight_py.errors import UsageError
from unikernel import channels, control, endings, forwards, snapshot
from unikernel.control import Message
from unikernel.events import Broke, Down, EndedError, Events, Failure, Gone, Hung, Said, Signal
from unikernel.forwards import Forward, Forwards
from unikernel.image import Image
from unikernel.machine import Machine
from unikernel.options import RunOptions
from unikernel.pings import Pings
from unikernel.qmp import QmpError
from unikernel.snapshot import Snapshot
from unikernel.starting import BROKEN_PIPE, Starter
from unikernel.vm import Vm

log = logging.getLogger("slight_py")

GRACE = 10.0
"""Seconds that a machine has to shut down, after its application has had its time."""


class Caller(Protocol):
    """Who runs an image in place of a user at a terminal: signals and standard input are not the machine's then."""

    def began(self, run: Run) -> None:
        """A run begins."""

    def serves(self, forward: Forward) -> None:
        """The application serves at a port, which a port of the host leads to."""


class Run:
    """One run of an image: its output is this process's, and so are the signals and the exit code."""

    def __init__(
        self,
        qemu: Path,
        image: Image,
        options: RunOptions,
        template: Machine,
        boot: bytes,
        saved: Snapshot | None,
        caller: Caller | None = None,
    ) -> None:
        """`boot` is the message that the guest gets, `saved` the snapshot to go on with."""
        self._caller = caller
        self._image = image
        self._options = options
        self._template = template
        self._message = boot
        self._saved = saved
        self._events = Events()
        self._forwards = Forwards(options.ports)
        self._starter = Starter(qemu, template, options, self._events, self._forwards)
        self._pings: Pings | None = None
        self._signals = 0
        self._code: int | None = None
        """The guest's exit code, once it has given it."""
        self._fault: UsageError | Failure | None = None
        """What went wrong, while the guest is being ended for it."""
        self._output_gone = False

    @property
    def _vm(self) -> Vm:
        return self._starter.vm

    async def main(self) -> int:
        """Raises UsageError and Failure."""
        if self._caller is None:
            self._events.catch_signals()
        else:
            self._caller.began(self)
        try:
            await self._start()
            if self._caller is None:
                self._vm.open_input()
            if self._options.channel is not None:
                channels.publish(self._options.channel)
            self._pings = Pings(self._vm, self._events)
            while True:
                await self._handle(await self._events.next())
        except EndedError as ended:
            if self._fault is not None:
                raise self._fault from None
            return BROKEN_PIPE if self._output_gone else ended.code
        except QmpError as error:
            raise Failure(await self._vm.why_it_has_gone(str(error))) from None
        finally:
            self._stop_pings()
            await self._vm.end()

    def stop(self) -> None:
        """Ends the application as SIGTERM would."""
        self._events.post(Signal(signal.SIGTERM))

    async def settle(self) -> None:
        """Waits until QEMU has seen what there was to see for it, such as connections: it goes through all that between
        two answers. Returns as well where it has gone."""
        with suppress(QmpError):
            for _ in range(2):
                await self._vm.qmp.execute("query-status")

    async def _start(self) -> None:
        if self._saved is None:
            await self._starter.boot(self._message, self._handle)
            return
        assert self._options.restore is not None
        await self._starter.restore(self._options.restore, self._saved, self._handle)
        if self._saved.serving:
            self._say_serving(*self._saved.serving)

    # What happens.

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
                endings.show_console(self._vm.console, self._options.verbose)
                raise Failure(endings.hung(self._options.memory))
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
                if self._pings is not None:
                    self._pings.answered()
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

    # The end.

    def _pass_on(self, number: int) -> None:
        self._signals += 1
        if self._signals > 2 or self._pings is None:
            raise EndedError(128 + number)
        self._ask_to_end(number)

    def _ask_to_end(self, number: int) -> None:
        if not self._events.has_deadline:
            patience = float(self._options.limits.get("drain_timeout") or 0) + GRACE
            failure = Failure(f"the application has not ended within {patience:g} s, and was ended")
            self._events.set_deadline(patience, self._fault or failure)
        self._vm.send(control.signal(number))

    async def _finish(self) -> None:
        """The machine does nothing more: lets out what it has still written. Raises EndedError or Failure."""
        self._events.clear_deadline()
        drained = asyncio.create_task(self._vm.drain())
        drained.add_done_callback(self._events.post)
        while (event := await self._events.next()) is not drained:
            match event:
                case Signal(number):
                    drained.cancel()
                    raise EndedError(128 + number)
                case Said(Message(kind="errors") as message):
                    await self._hear(message)
                case Said(Message(kind="exit", value=code)) if self._code is None:
                    self._code = code
        if self._code is None:
            options = self._options
            raise Failure(endings.down(self._image, self._vm.console, options.memory, options.verbose))
        if self._options.snapshot:
            raise Failure(f"the application ended before it served, with exit code {self._code}: nothing was saved")
        raise EndedError(self._code)

    def _stop_pings(self) -> None:
        if self._pings is not None:
            self._pings.stop()

    # What it serves.

    async def _serve(self, address: str, port: int) -> None:
        if self._options.snapshot:
            await self._save((address, port))
        if self._fault is not None:
            return
        try:
            await forwards.open_all(self._vm, self._forwards.of(address, port))
        except UsageError as error:
            self._fault = error
            self._events.clear_deadline()
            self._ask_to_end(signal.SIGTERM)
        else:
            self._say_serving(address, port)

    def _say_serving(self, address: str, port: int) -> None:
        for forward in self._forwards.of(address, port):
            if self._caller is None:
                log.info("serving at %s", forward)
            else:
                self._caller.serves(self._vm.forwards[forward])

    async def _save(self, serving: tuple[str, int] | None) -> None:
        """Takes the snapshot; raises EndedError."""
        self._stop_pings()
        path, ram = self._options.snapshot, self._template.ram
        assert path is not None
        assert ram is not None
        machine = snapshot.of(self._image, self._options, self._vm.qmp.version, self._starter.accel, serving)
        size = await snapshot.save(self._vm, ram.path, path, machine)
        log.info("%s: a snapshot of %.1f MB", path, size / 1e6)
        raise EndedError(0)
