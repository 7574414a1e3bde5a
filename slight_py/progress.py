"""What a person who watches sees of something that takes longer than a second."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

DELAY = 1.0
"""Seconds after which something is said."""


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Says `what` on standard error if it takes a while and a terminal shows it."""
    if not sys.stderr.isatty():
        yield
        return
    said = threading.Event()

    def say() -> None:
        said.set()
        sys.stderr.write(f"slight-py: {what} …")
        sys.stderr.flush()

    timer = threading.Timer(DELAY, say)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        if said.is_set():
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
