"""The compilers of guests that this machine has."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SECONDS = 10.0
"""How long a program may take to say what it is asked."""

WASI_TARGETS = ("wasm32-wasip1", "wasm32-wasi")
"""What rustc calls WASI preview 1: since Rust 1.78, and before."""


def said(*command: str | Path, environment: Mapping[str, str] | None = None) -> str:
    """What a program prints, without white space around it; nothing where it fails. Its environment is this process's
    where none is given."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout or done.stderr).strip() if done.returncode == 0 else ""


@dataclass(frozen=True, slots=True)
class Rust:
    """A rustc with a cargo beside it."""

    rustc: Path
    target: str
    """The name that it has for WASI preview 1; nothing where it has no standard library for that."""

    @property
    def cargo(self) -> Path:
        return self.rustc.with_name("cargo")


def find_rust() -> Rust | None:
    """The first Rust of PATH that builds for WASI, else the first one, else None."""
    first: Rust | None = None
    for folder in os.get_exec_path():
        rustc = Path(folder, "rustc")
        if rustc.exists() and rustc.with_name("cargo").exists():
            found = Rust(rustc, next((target for target in WASI_TARGETS if _has_target(rustc, target)), ""))
            if found.target:
                return found
            first = first or found
    return first


def _has_target(rustc: Path, target: str) -> bool:
    folder = said(rustc, "--print", "target-libdir", "--target", target)
    return bool(folder) and Path(folder).is_dir()
