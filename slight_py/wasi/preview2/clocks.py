"""wasi:clocks 0.2."""

from __future__ import annotations

import time
from typing import Literal

from capabilities.bindings.wasi_clocks_0_2.timezone import TimezoneDisplay
from capabilities.bindings.wasi_clocks_0_2.wall_clock import Datetime
from capabilities.wasi.io import Pollable, Timer
from slight_py.wasi.descriptors import SECOND
from slight_py.wasi.preview2.state import State


def resolution(clock: Literal["monotonic", "time"]) -> int:
    """The resolution of one of Python's clocks, in nanoseconds, at least one."""
    return max(1, round(time.get_clock_info(clock).resolution * SECOND))


class MonotonicClock:
    """Answers `wasi:clocks/monotonic-clock`. The clock begins with the instance."""

    def __init__(self, state: State) -> None:
        self._started = state.started

    async def now(self) -> int:
        return time.monotonic_ns() - self._started

    async def resolution(self) -> int:
        return resolution("monotonic")

    async def subscribe_instant(self, when: int) -> Pollable:
        return Timer(self._started + when)

    async def subscribe_duration(self, when: int) -> Pollable:
        return Timer(time.monotonic_ns() + when)


class WallClock:
    """Answers `wasi:clocks/wall-clock`."""

    async def now(self) -> Datetime:
        return Datetime(*divmod(time.time_ns(), SECOND))

    async def resolution(self) -> Datetime:
        return Datetime(*divmod(resolution("time"), SECOND))


class Timezone:
    """Answers `wasi:clocks/timezone`, which isn't stable yet: a guest isn't told where the machine stands."""

    async def display(self, when: Datetime) -> TimezoneDisplay:
        return TimezoneDisplay(0, "UTC", False)

    async def utc_offset(self, when: Datetime) -> int:
        return 0
