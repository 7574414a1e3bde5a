"""The event loop: uvloop's where it is installed (`pip install 'slight-py[fast]'`), else asyncio's own."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

KEPT = 8 << 20
"""How many freed bytes of memory stay with the process at the end of its heap."""

FROM_HEAP = 1 << 20
"""Blocks of less than that many bytes come from the heap."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end on a loop of its own."""
    _keep_memory()
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def _keep_memory() -> None:
    """Has the C library hold on to memory for a while.

    glibc gives more than 128 KiB back at once, which is two bodies of 64 KiB: a page fault for each of their pages when
    the next ones come. See mallopt(3); other C libraries have their own ways.
    """
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, KEPT)
        mallopt(_M_MMAP_THRESHOLD, FROM_HEAP)
