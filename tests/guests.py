"""The example guests for tests: `example("keyvalue-demo-c")` is the path of its module."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@cache
def example(name: str) -> Path:
    """Builds an example unless it's up to date; returns its module.

    Raises AssertionError with the compiler's messages where it can't be built.
    """
    command: list[str | Path] = [sys.executable, EXAMPLES / "build.py", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return EXAMPLES / "build" / f"{name}.wasm"


def slightfile(name: str, backend: str = "memory") -> Path:
    """The slightfile of an example whose stores are in `memory`, `redis` or `filesystem`."""
    return EXAMPLES / name / ("slightfile.toml" if backend == "memory" else f"slightfile-{backend}.toml")
