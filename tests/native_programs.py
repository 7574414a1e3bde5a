"""Parts of the native machine as ordinary programs (unikernel/native/examples), for tests that speak to them."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

from slight_py import cache
from tests.rust_toolchain import cargo
from unikernel.native import SOURCES


@functools.cache
def program(name: str, features: str = "std") -> Path:
    """The program of an example, built once for all tests. Raises AssertionError with the compiler's messages."""
    command, environment = cargo()
    target = cache.directory("native-tests")
    options = ["--quiet", "--locked", "--ignore-rust-version", "--target-dir", str(target)]
    done = subprocess.run(
        [command, "build", "--features", features, "--example", name, *options],
        cwd=SOURCES,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return target / "debug" / "examples" / name
