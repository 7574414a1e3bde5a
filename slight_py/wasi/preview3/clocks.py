"""wasi:clocks 0.3."""

from __future__ import annotations

import time

from capabilities.bindings.wasi_clocks_0_3.system_clock import Instant
from capabilities.wasi.io import Timer
from slight_py.wasi.descriptors import SECOND
from slight_py.wasi.preview2.clocks import resolution
from slight_py.wasi.preview2.state import State


class MonotonicClock:
    """Answers `wasi:clocks/monotonic-clock`. The clock begins with the instance."""

    def __init__(self, state: State) -> None:
        self._started = state.started

    async def now(self) -> int:
        return time.monotonic_ns() - self._started

    async def get_resolution(self) -> int:
        return resolution("monotonic")

    async def wait_until(self, when: int) -> None:
        await Timer(self._started + when).block()

    async def wait_for(self, how_long: int) -> None:
        await Timer(time.monotonic_ns() + how_long).block()


class SystemClock:
    """Answers `wasi:clocks/system-clock`."""

    async def now(self) -> Instant:
        return Instant(*divmod(time.time_ns(), SECOND))

    async def get_resolution(self) -> int:
        return resolution("time")


class Timezone:
    """Answers `wasi:clocks/timezone`, which isn't stable yet: a guest isn't told where the machine stands."""

    async def iana_id(self) -> str | None:
        return None

    async def utc_offset(self, when: Instant) -> int | None:
        return None

    async def to_debug_string(self) -> str:
        return "no time zone is told"
