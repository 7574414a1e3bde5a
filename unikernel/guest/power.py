"""The end of the machine. The number comes from Linux's header `linux/reboot.h`."""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

RB_AUTOBOOT = 0x01234567


def reset() -> NoReturn:
    """Has the machine reset, on which its launcher ends it."""
    import ctypes

    while True:
        os.sync()
        ctypes.CDLL(None).reboot(RB_AUTOBOOT)
        time.sleep(1)
