"""wasi:random 0.2.

All numbers are the kernel's, those that may be insecure too: a generator in the process would repeat itself in each
copy of a machine that is restored from a snapshot.
"""

from __future__ import annotations

import asyncio
import os

from bindgen.runtime import GuestFault
from slight_py.wasi.preview2.state import State

MAX_BYTES = 64 << 20
"""Bytes that one call returns at most."""

AT_ONCE = 1 << 16
"""Bytes that are asked for without a thread, in some 0.2 ms."""


async def _bytes(name: str, count: int) -> bytes:
    if count > MAX_BYTES:
        raise GuestFault(f"wasi:random: {name}: {count} bytes are more than the {MAX_BYTES} that one call returns")
    if count > AT_ONCE:
        return await asyncio.to_thread(os.urandom, count)
    return os.urandom(count)


def _u64() -> int:
    return int.from_bytes(os.urandom(8), "little")


class Random:
    """Answers `wasi:random/random`."""

    async def get_random_bytes(self, len_: int) -> bytes:
        return await _bytes("get-random-bytes", len_)

    async def get_random_u64(self) -> int:
        return _u64()


class Insecure:
    """Answers `wasi:random/insecure`."""

    async def get_insecure_random_bytes(self, len_: int) -> bytes:
        return await _bytes("get-insecure-random-bytes", len_)

    async def get_insecure_random_u64(self) -> int:
        return _u64()


class InsecureSeed:
    """Answers `wasi:random/insecure-seed`: with the same for all of an instance's life, as if it were a value and not
    a function."""

    def __init__(self, _state: State) -> None:
        self._seed = _u64(), _u64()

    async def insecure_seed(self) -> tuple[int, int]:
        return self._seed

    async def get_insecure_seed(self) -> tuple[int, int]:
        """The same, by its name in WASI 0.3."""
        return self._seed
