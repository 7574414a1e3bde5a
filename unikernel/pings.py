"""Whether a guest is alive: it is asked now and then, and must answer."""

from __future__ import annotations

import asyncio

from unikernel import control
from unikernel.events import Events, Hung
from unikernel.vm import Vm

INTERVAL, UNANSWERED = 5.0, 6
"""Seconds between pings, and how many may go without an answer."""

PATIENCE = INTERVAL * UNANSWERED
"""Seconds until a guest that doesn't answer is given up."""


class Pings:
    """Pings to one machine, from now on. `Hung` is posted once too many of them have gone without an answer."""

    def __init__(self, vm: Vm, events: Events) -> None:
        self._vm = vm
        self._events = events
        self._unanswered = 0
        self._task = asyncio.create_task(self._ping())

    def answered(self) -> None:
        self._unanswered = 0

    def stop(self) -> None:
        self._task.cancel()

    async def _ping(self) -> None:
        loop = asyncio.get_running_loop()
        number = 0
        while True:
            begin = loop.time()
            await asyncio.sleep(INTERVAL)
            # Neither is the guest's fault: this process was stopped, or the reader of the output holds all up.
            if loop.time() - begin > 2 * INTERVAL or self._vm.held_up:
                self._unanswered = 0
            if self._unanswered >= UNANSWERED:
                self._events.post(Hung())
                return
            self._unanswered += 1
            number += 1
            self._vm.send(control.ping(number))
