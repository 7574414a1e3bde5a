"""How many files this process may have open: every connection and every directory of a guest is one."""

from __future__ import annotations

import resource
from contextlib import suppress


def allow() -> None:
    """Allows as many as the system lets this process have, and what it starts.

    The limit that shells set, 1,024 most often, is there for programs that call select(2).
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
