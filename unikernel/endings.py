"""What is said of a machine that ends without an exit code, or that is ended."""

from __future__ import annotations

import logging

from slight_py.limits import size_text
from unikernel.flavours import OUT_OF_MEMORY
from unikernel.image import Image
from unikernel.pings import PATIENCE
from unikernel.streams import Console

log = logging.getLogger("slight_py")

_LAST_LINES = 10


def not_up(patience: float, memory: int) -> str:
    """Of one whose runtime is not up after some seconds. `memory` is what the machine has, in bytes."""
    return (
        f"the runtime in the machine is not up after {patience:g} s; give it more time with --boot-timeout, "
        f"or more memory than --memory {size_text(memory)}"
    )


def hung(memory: int) -> str:
    """Of one that has not answered for long."""
    return (
        f"the guest has not answered for {PATIENCE:g} s, and was ended; "
        f"if it has too little memory, give it more than --memory {size_text(memory)}"
    )


def down(image: Image, console: Console, memory: int, verbose: bool) -> str:
    """Of one that went down, by its kernel's last words. They are shown where they don't tell enough."""
    lines = list(console.lines)
    reason = image.flavour.last_words(lines)
    if reason == OUT_OF_MEMORY:
        return f"{reason}; give it more than --memory {size_text(memory)}"
    if not lines:
        return f"the machine ended before its kernel said a word; it may need more than --memory {size_text(memory)}"
    show_console(console, verbose)
    return reason or "the machine ended without an exit code"


def show_console(console: Console, verbose: bool) -> None:
    """The kernel's last words, unless they have been seen."""
    if not verbose:
        for line in list(console.lines)[-_LAST_LINES:]:
            log.error("kernel: %s", line)
