"""Parts of the native machine as ordinary programs (unikernel/native/examples), for tests that speak to them."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

from slight_py import cache
from tests.rust_toolchain import cargo
from unikernel import native
from unikernel.native import SOURCES, toolchain


@functools.cache
def program(name: str) -> Path:
    """The program of an example, built once for all tests. Raises AssertionError with the compiler's messages."""
    done = run_cargo("build", "--example", name)
    assert done.returncode == 0, done.stderr
    return _target() / "debug" / "examples" / name


def run_cargo(command: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of cargo's on the native machine, as a program of this system: always with the same features, so
    that everything is compiled once."""
    program, own = cargo()
    always = ["--quiet", "--locked", "--ignore-rust-version", "--features", "guests", "--target-dir", str(_target())]
    clean = [program, "clean", "--package", "slight-machine"]
    with toolchain.only_of(native.key("examples/**/*", "tests/**/*"), _target(), clean, SOURCES, own, print):
        return subprocess.run(
            [program, command, *always, *options],
            cwd=SOURCES,
            env={**own, **environment},
            capture_output=True,
            text=True,
            check=False,
        )


def _target() -> Path:
    return cache.directory("native-tests")
