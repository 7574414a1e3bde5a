"""What is logged, and where: a line a record on standard error, in the main process and in the workers alike."""

from __future__ import annotations

import logging
import sys


def configure(verbose: bool) -> None:
    level = logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(level=level, format="slight-py: %(message)s", stream=sys.stderr)
    # What the libraries say of their own accord is of no use to whoever runs a module.
    for library in ("asyncio", "aiohttp", "redis"):
        logging.getLogger(library).setLevel(logging.DEBUG if verbose else logging.CRITICAL)
