"""The Rust program in `smith/`, which generates and mutates modules with wasm-smith and wasm-mutate: built once, and
kept in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from slight_py import cache as kept

SOURCES = Path(__file__).parent / "smith"
VARIABLE = "SLIGHT_PY_FUZZ_SMITH"
"""A variable of the environment that says where the program is; where it is empty, there is none."""


def _place() -> Path:
    key = hashlib.sha256()
    for name in ("Cargo.toml", "Cargo.lock", "src/main.rs"):
        key.update((SOURCES / name).read_bytes())
    return kept.directory("fuzz") / f"smith-{key.hexdigest()[:16]}"


@cache
def built() -> Path | None:
    """The program, if `build` has built it."""
    named = os.environ.get(VARIABLE)
    place = _place() if named is None else Path(named)
    return place if place.is_file() else None


def build() -> str | None:
    """Builds the program unless it is there. Returns why it can't be built, where it can't."""
    place = _place()
    if place.exists():
        return None
    cargo = shutil.which("cargo")
    if cargo is None:
        return "there is no cargo"
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
        command = [cargo, "build", "--release", "--locked", "--quiet", "--target-dir", scratch]
        done = subprocess.run(command, cwd=SOURCES, capture_output=True, text=True, check=False)
        if done.returncode:
            return next((line for line in done.stderr.splitlines() if line.startswith("error")), "cargo failed")
        Path(scratch, "release/smith").replace(place)
    built.cache_clear()
    return None
