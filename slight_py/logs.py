"""What is logged, and where: a line a record on standard error, in the main process and in the workers alike.

Nobody waits for whoever reads standard error: a thread writes the lines. If it can't keep up, lines are left out, and
it says how many.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress

_STANDARD_ERROR = 2

MAX_WAITING = 1 << 20
"""Up to how many characters of lines wait to be written."""

LAST_WORDS = 2.0
"""How long the end of a process waits until its last lines are written, in seconds."""


class Lines:
    """Lines that a thread writes to standard error, in their order."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[str] = []
        self._size = 0
        """Characters of the lines that wait, those that are being written included."""
        self._left_out = 0
        self._closing = False
        self._thread: threading.Thread | None = None

    def write(self, line: str) -> None:
        """Has a line written, and returns at once."""
        with self._changed:
            if self._size > MAX_WAITING:
                self._left_out += 1
                return
            self._waiting.append(line)
            self._size += len(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()
            elif len(self._waiting) == 1:
                self._changed.notify()

    def close(self) -> None:
        """Waits until all lines are written, for up to LAST_WORDS. More may be written afterwards."""
        with self._changed:
            thread, self._thread = self._thread, None
            self._closing = thread is not None
            self._changed.notify()
        if thread is not None:
            thread.join(LAST_WORDS)
            with self._changed:
                self._closing = False

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._left_out or self._closing):
                    self._changed.wait()
                lines, self._waiting = self._waiting, []
                left_out, self._left_out = self._left_out, 0
                if not (lines or left_out):
                    return
            if left_out:
                lines.append(
                    f"slight-py: {left_out} lines of the log are left out: standard error isn't read in time\n"
                )
            # Not through `sys.stderr`: a process can't end while a thread waits there.
            text = memoryview("".join(lines).encode(errors="backslashreplace"))
            with suppress(OSError):  # nobody reads it any more: all goes on all the same
                while text:
                    text = text[os.write(_STANDARD_ERROR, text) :]
            with self._changed:
                self._size = sum(map(len, self._waiting))


lines = Lines()
"""Those of this process."""


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        lines.write(self.format(record) + "\n")


def configure(verbose: bool) -> None:
    level = logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(level=level, format="slight-py: %(message)s", handlers=[_Handler()])
    # What the libraries say of their own accord is of no use to whoever runs a module.
    for library in ("asyncio", "aiohttp", "redis"):
        logging.getLogger(library).setLevel(logging.DEBUG if verbose else logging.CRITICAL)
