"""The process of a hypervisor, as far as it is the same for each: it belongs to the launcher that started it."""

from __future__ import annotations

import ctypes
import os
import resource
import signal

_PR_SET_PDEATHSIG = 1

LIBC = ctypes.CDLL(None, use_errno=True)


def belong_to(parent: int) -> None:
    """Has this process end when the thread that started it does, however that ends, and leave no core file.

    `parent` is the process of that thread. For `preexec_fn`: between fork and exec, nothing here may import, log or
    allocate much.
    """
    LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it has ended already, and nothing tells of that any more
        os._exit(1)
    # A core file would hold the machine's memory, with the values that were handed over.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
