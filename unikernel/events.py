"""What happens while a machine runs, in the order that it happens, and how long to wait for it."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from typing import Any

from slight_py.errors import UsageError
from unikernel.control import Message


class Failure(Exception):
    """The machine ended, or never came up, and not by the will of its application. One line says why."""


class EndedError(Exception):
    """The end of a run, with its exit code."""

    def __init__(self, code: int) -> None:
        self.code = code


@dataclass(frozen=True, slots=True)
class Said:
    """The guest sent a message."""

    message: Message


@dataclass(frozen=True, slots=True)
class Broke:
    """The guest sent what is no message, or what comes out of it can't be written."""

    what: str
    output: bool = False


@dataclass(frozen=True, slots=True)
class Down:
    """The machine was shut down, or reset, by its guest. QEMU is still there."""


@dataclass(frozen=True, slots=True)
class Gone:
    """QEMU has ended."""


@dataclass(frozen=True, slots=True)
class Signal:
    """This process got a signal."""

    number: int


@dataclass(frozen=True, slots=True)
class Hung:
    """The guest has not answered for long."""


def ending_signals() -> dict[int, int]:
    """The signals that end what this process runs, each with the one that it counts as. SIGHUP, for a terminal that was
    closed, is not among them under nohup, which has it ignored."""
    hangup: dict[int, int] = (
        {} if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else {signal.SIGHUP: signal.SIGTERM}
    )
    return {signal.SIGINT: signal.SIGINT, signal.SIGTERM: signal.SIGTERM, **hangup}


class Events:
    """A queue of events, and a deadline for the next one."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self._deadline: tuple[float, UsageError | Failure] | None = None

    @property
    def has_deadline(self) -> bool:
        return self._deadline is not None

    def set_deadline(self, seconds: float, failure: UsageError | Failure) -> None:
        """Has `next` raise a failure in some seconds."""
        self._deadline = (asyncio.get_running_loop().time() + seconds, failure)

    def clear_deadline(self) -> None:
        self._deadline = None

    def post(self, event: Any) -> None:
        self.queue.put_nowait(event)

    async def next(self) -> Any:
        """The next event. Raises what the deadline says once it has passed."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout_at(self._deadline and self._deadline[0]):
                    return await self.queue.get()
            except TimeoutError:
                assert self._deadline is not None
                when, failure = self._deadline
                if loop.time() - when < 1:
                    raise failure from None
                # This process itself was stopped: what the machine has said meanwhile is still to be read.
                self.set_deadline(5, failure)

    def catch_signals(self) -> None:
        """Makes events of the signals that end a run."""
        loop = asyncio.get_running_loop()
        for number, meant in ending_signals().items():
            loop.add_signal_handler(number, self.post, Signal(meant))

    def forget(self) -> None:
        """Drops what a machine that is gone has sent; signals are for the next one."""
        events = [self.queue.get_nowait() for _ in range(self.queue.qsize())]
        for event in events:
            if isinstance(event, Signal):
                self.post(event)
