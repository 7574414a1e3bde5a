"""What is kept from one run to the next: where it lies, how a file gets there whole, and who may put it there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def directory(name: str) -> Path:
    """Where things of that name are kept, by the XDG Base Directory Specification.

    Raises OSError for a user without a home.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or ".")
    if not base.is_absolute():  # which the specification says to ignore
        try:
            base = Path.home() / ".cache"
        except RuntimeError as error:
            raise OSError(str(error)) from None
    return base / "slight-py" / name


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` in one step when it is whole, and leaves nothing where it doesn't get that
    far. Raises OSError."""
    import tempfile

    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            yield file
            file.close()
            os.replace(file.name, path)
        except BaseException:  # Ctrl-C as well; it goes on
            os.unlink(file.name)
            raise


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """For one process at a time: another one may be making what this one needs. `path` is a file for this alone, and
    `waiting` is called if another process is waited for.

    A process that is killed has the lock no longer, and what it started never has it. Raises OSError.
    """
    import fcntl

    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
