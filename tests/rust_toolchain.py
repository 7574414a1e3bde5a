"""The Rust that hosts are built with: new enough for the crate `wasmtime`, which Debian's own rustc is not.

It is found, or unpacked, where the kernel of native images has its own from. `python -m tests.rust_toolchain` does that
where it's needed.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from unikernel.native import toolchain

MISSING = (
    "Rust {}.{} or newer is missing, and Debian's rustc-web can't be had here; type: rustup toolchain install stable"
).format(*toolchain.MINIMUM)


@functools.cache
def cargo() -> tuple[Path, dict[str, str]]:
    """A cargo that is new enough, and the environment that it is to run in. Raises AssertionError where there is none.

    `rustup` chooses a toolchain by the folder, so what is asked for is what is found here.
    """
    found = toolchain.find()
    assert found, MISSING
    return found


def prepare() -> None:
    """Unpacks Debian's packages, unless there is a Rust that is new enough. Raises ToolchainError where that fails."""
    if not toolchain.find():
        toolchain.unpack(print)


if __name__ == "__main__":
    try:
        prepare()
    except toolchain.ToolchainError:
        sys.exit(MISSING)
