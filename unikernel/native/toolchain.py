"""The Rust that the kernel of native images is built with.

It is the first on PATH that is new enough and has the target (`rustup target add x86_64-unknown-none`). Else it is
Debian's `-web` packages, which browsers are built with: they conflict with the `rustc` that the example guests need, so
they are unpacked into the user's cache and not installed. They have no library for the target, but its sources: it is
built once, beside them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from slight_py.cache import directory
from slight_py.errors import UsageError
from slight_py.toolchains import said

TARGET = "x86_64-unknown-none"
MINIMUM = (1, 95)
"""wasmtime 50 declares 1.97, and compiles with this."""

PACKAGES = ("rustc-web", "cargo-web", "rust-web-src")

SECONDS = 1800.0
"""To download the packages, or to build the library, on any connection and machine that can be worked with."""

_PROGRAM = '[package]\nname = "empty"\nversion = "0.1.0"\nedition = "2021"\n'


class UnpackError(Exception):
    """Debian's packages can't be had here; str() says why."""


def obtain(progress: Callable[[str], None]) -> tuple[Path, dict[str, str]]:
    """A cargo, and the environment that it is to run in. Raises UsageError where there is none, and OSError."""
    if found := _find():
        return found
    folder = directory("rust-none")
    progress("getting a Rust that is new enough, which takes a few minutes, once")
    try:
        unpack(folder, PACKAGES, _build_library)
    except (UnpackError, subprocess.SubprocessError) as error:
        raise UsageError(
            f"the kernel of native images takes Rust {MINIMUM[0]}.{MINIMUM[1]} or newer with the target {TARGET}: "
            f"{error}; type: rustup toolchain install stable && rustup target add {TARGET}"
        ) from None
    if found := _find():
        return found
    raise UsageError(f"{folder}: this Rust doesn't work; remove the folder, or install Rust with rustup")


def _find() -> tuple[Path, dict[str, str]] | None:
    ours = directory("rust-none")
    for folder in [*map(Path, os.get_exec_path()), ours / "usr" / "bin"]:
        rustc, cargo = folder / "rustc", folder / "cargo"
        if rustc.exists() and cargo.exists():
            environment = _environment(folder, ours)
            if _version(rustc, environment) >= MINIMUM and _has_target(rustc, environment):
                return cargo, environment
    return None


def _environment(folder: Path, unpacked: Path) -> dict[str, str]:
    """In which the Rust of a folder finds itself: first on PATH, with its own libraries."""
    path = f"{folder}:{os.environ.get('PATH', os.defpath)}"
    environment = {**os.environ, "PATH": path, "RUSTC": str(folder / "rustc"), "RUSTC_BOOTSTRAP": "1"}
    return environment | libraries(unpacked) if folder.is_relative_to(unpacked) else environment


def libraries(root: Path) -> dict[str, str]:
    """The environment in which programs find the libraries that are unpacked beside them."""
    return {"LD_LIBRARY_PATH": str(root / "usr" / "lib" / "x86_64-linux-gnu")}


def _version(rustc: Path, environment: dict[str, str]) -> tuple[int, ...]:
    numbers = re.match(r"rustc (\d+)\.(\d+)", said(rustc, "--version", environment=environment))
    return tuple(map(int, numbers.groups())) if numbers else (0, 0)


def _has_target(rustc: Path, environment: dict[str, str]) -> bool:
    folder = said(rustc, "--print", "target-libdir", "--target", TARGET, environment=environment)
    return bool(folder) and any(Path(folder).glob("libcore-*.rlib"))


def unpack(folder: Path, packages: Sequence[str], finish: Callable[[Path], None] = lambda root: None) -> None:
    """Unpacks Debian's packages, and the libraries that are missing for them, into a folder, which is there when all of
    it is: `finish` is called with it before. Raises UnpackError where they can't be had."""
    if shutil.which("apt-get") is None:
        raise UnpackError("Debian's packages can't be had here")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        Path(scratch, "partial").mkdir()
        if _download(scratch, packages):  # the lists of packages may be missing, or old
            subprocess.run(["apt-get", "-qq", "update"], capture_output=True, check=False, timeout=SECONDS)
            if _download(scratch, packages):
                raise UnpackError(f"Debian's packages {', '.join(packages)} can't be had here")
        root = Path(scratch, "root")
        for package in Path(scratch).glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, root], check=True, timeout=SECONDS)
        finish(root)
        shutil.rmtree(folder, ignore_errors=True)
        root.rename(folder)


def _download(place: str, packages: Sequence[str]) -> int:
    """Downloads the packages and the libraries that are missing for them; returns apt-get's exit code."""
    options = ["--download-only", "-qq", "-y", "-o", f"Dir::Cache::archives={place}", "-o", "Debug::NoLocking=1"]
    command = ["apt-get", "install", *options, *packages]
    return subprocess.run(command, capture_output=True, check=False, timeout=SECONDS).returncode


def _build_library(root: Path) -> None:
    """Builds `core` and `alloc` for the target from their sources, and puts them where the compiler looks for them."""
    library = root / "usr" / "lib" / "rustlib" / TARGET / "lib"
    library.mkdir(parents=True)
    program = root / "empty"
    (program / "src").mkdir(parents=True)
    (program / "src" / "lib.rs").write_text("#![no_std]\n")
    (program / "Cargo.toml").write_text(_PROGRAM)
    cargo = root / "usr" / "bin" / "cargo"
    command = [str(cargo), "build", "--quiet", "--release", "--target", TARGET]
    command += ["-Z", "build-std=core,alloc", "-Z", "build-std-features=compiler-builtins-mem"]
    environment = _environment(cargo.parent, root)
    subprocess.run(command, cwd=program, env=environment, check=True, capture_output=True, timeout=SECONDS)
    for built in (program / "target" / TARGET / "release" / "deps").glob("*.rlib"):
        if not built.name.startswith("libempty-"):
            shutil.copy(built, library)
    shutil.rmtree(program)
    shutil.rmtree(root / "usr" / "src")
