"""What is logged, and where: a line a record on standard error, in the main process and in the workers alike.

Nobody waits for whoever reads standard error (output.py). If that one can't keep up, lines are left out, and it is said
how many.
"""

from __future__ import annotations

import logging
import threading

from capabilities import notices
from slight_py import output

MAX_WAITING = 1 << 20
"""Up to how many bytes wait to be written when another line is taken."""


class Lines:
    """Lines for standard error, in their order."""

    def __init__(self, writer: output.Writer) -> None:
        self._writer = writer
        self._lock = threading.Lock()
        self._left_out = 0
        self.accepted = 0
        """Bytes that were handed over, ever."""
        writer.preface = self._told

    def write(self, line: str) -> None:
        """Has a line written, and returns at once."""
        with self._lock:
            if self._writer.waiting > MAX_WAITING:
                self._left_out += 1
                return
            data = line.encode(errors="backslashreplace")
            self.accepted += len(data)
        self._writer.write(data)

    def _told(self) -> bytes:
        """What is said of the lines that were left out."""
        with self._lock:
            left_out, self._left_out = self._left_out, 0
        if not left_out:
            return b""
        return b"slight-py: %d lines of the log are left out: standard error isn't read in time\n" % left_out


lines = Lines(output.STANDARD_ERROR)
"""Those of this process."""


class _Handler(logging.Handler):
    complained = False
    """Whether there was a warning or an error."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            self.complained = True
        if module := notices.module.get():
            record.msg, record.args = f"{module}: {record.getMessage().removeprefix(f'{module}: ')}", ()
        lines.write(self.format(record) + "\n")


class _Formatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class calls it so
        warning = "warning: " if record.levelno == logging.WARNING else ""
        return f"slight-py: {warning}{record.message}"


_handler = _Handler()
_handler.setFormatter(_Formatter())


def silent() -> bool:
    """Whether no guest has printed anything in this process, and there was no warning and no error."""
    printed = output.STANDARD_OUTPUT.accepted + output.STANDARD_ERROR.accepted - lines.accepted
    return not printed and not _handler.complained


def configure(verbose: bool) -> None:
    # What the libraries say of their own accord is of no use to whoever runs a module; their details may hold secrets.
    logging.basicConfig(level=logging.WARNING if verbose else logging.CRITICAL, handlers=[_handler])
    logging.getLogger("slight_py").setLevel(logging.DEBUG if verbose else logging.INFO)
