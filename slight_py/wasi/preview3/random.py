"""wasi:random 0.3. All numbers are the kernel's, as in 0.2."""

from __future__ import annotations

import os

from slight_py.wasi.preview2.random import AT_ONCE, Insecure, Random


class ShortRandom(Random):
    """Answers `wasi:random/random`. A call returns as many bytes as come without a thread: who wants more asks
    again."""

    async def get_random_bytes(self, max_len: int) -> bytes:
        return os.urandom(min(max_len, AT_ONCE))


class ShortInsecure(Insecure):
    """Answers `wasi:random/insecure`."""

    async def get_insecure_random_bytes(self, max_len: int) -> bytes:
        return os.urandom(min(max_len, AT_ONCE))
