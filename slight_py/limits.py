"""The options that bound what a module may use, each spelled once: its name, its kind, what it is unless said, and what
it is for.

The command line has them as `--name`, and the boot message of a machine under `options` (unikernel/control.md). What
runs without either has the same defaults. Process 1 of a machine imports this before anything else, so it is kept
light.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

SIZE, SECONDS, COUNT, LOG, FLAG = "size", "seconds", "count", "log", "flag"
"""Kinds: whole bytes, seconds, a whole number, a form of the access log, yes or no."""

LOG_FORMS = ("plain", "json")


class Option:
    """One option."""

    __slots__ = ("about", "default", "kind", "name")

    def __init__(self, name: str, kind: str, default: Any, about: str) -> None:
        self.name = name
        """As it is in the boot message; on the command line with hyphens."""
        self.kind = kind
        self.default = default
        """What it is where nobody says; in bytes or seconds."""
        self.about = about
        """What it bounds, for `--help`."""

    @property
    def flag(self) -> str:
        """As it is on the command line."""
        return f"--{self.name.replace('_', '-')}"

    def of(self, options: Mapping[str, Any]) -> Any:
        """Its value among those that were said, else the default."""
        return options.get(self.name, self.default)


MAX_MEMORY = Option("max_memory", SIZE, 256 << 20, "memory of an instance")
MAX_BODY = Option("max_body", SIZE, 10 << 20, "body of a request")
REQUEST_TIMEOUT = Option("request_timeout", SECONDS, 30.0, "time of a request")
MAX_CONCURRENT = Option("max_concurrent", COUNT, 1000, "requests at once")
DRAIN_TIMEOUT = Option("drain_timeout", SECONDS, 30.0, "time to finish at the end")

MAX_MODULE = Option("max_module", SIZE, 64 << 20, "of the module")
COMPILE_TIMEOUT = Option("compile_timeout", SECONDS, 120.0, "time that it may take")
COMPILE_MEMORY = Option("compile_memory", SIZE, 2 << 30, "memory that it may take")

ACCESS_LOG = Option("access_log", LOG, None, "a line on stderr for each request")
VERBOSE = Option("verbose", FLAG, False, "say more")

HTTP = (MAX_BODY, REQUEST_TIMEOUT, MAX_CONCURRENT, DRAIN_TIMEOUT)
"""What bounds a server."""

RUNNING = (MAX_MEMORY, *HTTP)
"""What bounds a module, wherever it runs."""

COMPILATION = (MAX_MODULE, COMPILE_TIMEOUT, COMPILE_MEMORY)
"""What bounds the compilation of a module."""

ALL = (*RUNNING, *COMPILATION, ACCESS_LOG, VERBOSE)


def size_text(size: int) -> str:
    """Bytes as the command line takes them: 256M."""
    for unit, letter in ((1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")):
        if size % unit == 0:
            return f"{size // unit}{letter}"
    return str(size)
