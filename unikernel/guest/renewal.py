"""What has to be new in each machine, also in one that goes on from a snapshot: the clock, and random numbers.

Process 1 imports this before anything else, so it is kept light. Numbers come from Linux's header `linux/random.h`.
"""

from __future__ import annotations

import os
import sys
import time

RNDADDENTROPY, RNDRESEEDCRNG = 0x40085203, 0x5207


def renew(now: int, seed: bytes) -> None:
    """Sets the clock, in nanoseconds since the epoch, and mixes random data of the launcher's into the kernel's.

    A machine that is restored from a snapshot a second time would otherwise draw the same numbers as the first.
    """
    import fcntl

    time.clock_settime_ns(time.CLOCK_REALTIME, now)
    file = os.open("/dev/urandom", os.O_RDWR)
    try:
        # struct rand_pool_info: bits of entropy, bytes, and these.
        header = (len(seed) * 8).to_bytes(4, sys.byteorder) + len(seed).to_bytes(4, sys.byteorder)
        fcntl.ioctl(file, RNDADDENTROPY, header + seed)
        fcntl.ioctl(file, RNDRESEEDCRNG)
    finally:
        os.close(file)
    if random := sys.modules.get("random"):
        random.seed()
    if ssl := sys.modules.get("ssl"):
        ssl.RAND_add(seed, len(seed))  # OpenSSL draws from a pool of its own
