"""The Rust that hosts are built with: new enough for the crate `wasmtime`, which Debian's own rustc is not.

It is the first on PATH that is, or Debian's `-web` packages, which browsers are built with: they conflict with the
`rustc` that the example guests need, so they are unpacked into the user's cache and not installed.
`python -m tests.rust_toolchain` does that where it's needed.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from slight_py import cache
from unikernel.native.toolchain import UnpackError, libraries, unpack

MINIMUM = (1, 95)
"""wasmtime 50 declares 1.97, and compiles with this."""

PACKAGES = ("rustc-web", "cargo-web")

MISSING = (
    f"Rust {MINIMUM[0]}.{MINIMUM[1]} or newer is missing, and Debian's rustc-web can't be had here; "
    "type: rustup toolchain install stable"
)


def unpacked() -> Path:
    """Where Debian's packages are unpacked."""
    return cache.directory("rust-web")


@functools.cache
def cargo() -> tuple[Path, dict[str, str]]:
    """A cargo that is new enough, and the environment that it is to run in. Raises AssertionError where there is none.

    `rustup` chooses a toolchain by the folder, so what is asked for is what is found here.
    """
    for folder in [*os.get_exec_path(), unpacked() / "usr" / "bin"]:
        found, environment = Path(folder, "cargo"), _environment(Path(folder))
        if (
            found.exists()
            and Path(folder, "rustc").exists()
            and _version(Path(folder, "rustc"), environment) >= MINIMUM
        ):
            return found, environment
    raise AssertionError(MISSING)


def _environment(folder: Path) -> dict[str, str]:
    """In which the Rust of a folder finds itself: first on PATH, with its own libraries."""
    environment = {
        **os.environ,
        "PATH": f"{folder}:{os.environ.get('PATH', os.defpath)}",
        "RUSTC": str(folder / "rustc"),
    }
    return environment | libraries(unpacked()) if folder.is_relative_to(unpacked()) else environment


def _version(rustc: Path, environment: dict[str, str]) -> tuple[int, ...]:
    done = subprocess.run([rustc, "--version"], env=environment, capture_output=True, text=True, check=False)
    numbers = re.match(r"rustc (\d+)\.(\d+)", done.stdout)
    return tuple(map(int, numbers.groups())) if numbers else (0, 0)


def prepare() -> None:
    """Unpacks Debian's packages, unless there is a Rust that is new enough. Raises AssertionError where that fails."""
    with suppress(AssertionError):
        cargo()
        return
    try:
        unpack(unpacked(), PACKAGES)
    except UnpackError:
        raise AssertionError(MISSING) from None
    cargo.cache_clear()
    cargo()


if __name__ == "__main__":
    try:
        prepare()
    except AssertionError as error:
        sys.exit(str(error))
