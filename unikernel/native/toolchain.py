"""The Rust that the kernel of native images is built with.

It is the first on PATH that is new enough and has the target (`rustup target add x86_64-unknown-none`). Else it is
Debian's `-web` packages, which browsers are built with: they conflict with the `rustc` that the example guests need, so
they are unpacked into the user's cache and not installed. They come with a library for their own machine; for other
targets it is built from its sources, once, beside them.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from slight_py.cache import directory, locked, replacing
from slight_py.errors import UsageError
from slight_py.toolchains import said

TARGET = "x86_64-unknown-none"
MINIMUM = (1, 95)
"""wasmtime 50 declares 1.97, and compiles with this."""

PACKAGES = ("rustc-web", "cargo-web", "rust-web-src", "lld")

INSTALL = f"rustup toolchain install stable && rustup target add {TARGET}"

SECONDS = 1800.0
"""To download the packages, or to build a library, on any connection and machine that can be worked with."""

_PROGRAM = '[package]\nname = "empty"\nversion = "0.1.0"\nedition = "2021"\n'


class ToolchainError(Exception):
    """There is no Rust to be had; str() says why."""


def unpacked() -> Path:
    """Where Debian's packages are unpacked. Raises OSError for a user without a home."""
    return directory("rust-web")


def obtain(progress: Callable[[str], None]) -> tuple[Path, dict[str, str]]:
    """A cargo for the kernel's target, and the environment that it is to run in. Raises UsageError where there is none,
    and OSError."""
    if found := find(TARGET):
        return found
    try:
        unpack(progress)
        # A kernel is optimised as a whole, which takes the library's bitcode.
        memory = ["-Z", "build-std-features=compiler-builtins-mem"]
        add_library(TARGET, "core,alloc", progress, memory, flags="-C embed-bitcode=yes")
    except ToolchainError as error:
        raise UsageError(
            f"the kernel of native images takes Rust {MINIMUM[0]}.{MINIMUM[1]} or newer with the target {TARGET}: "
            f"{error}; type: {INSTALL}"
        ) from None
    if found := find(TARGET):
        return found
    raise UsageError(f"{unpacked()}: this Rust doesn't work; remove the folder, or install Rust with rustup")


def can_be_had() -> bool:
    """Whether there is a Rust, or Debian's packages to unpack one from."""
    with suppress(OSError):
        return find(TARGET) is not None or shutil.which("apt-get") is not None
    return False


def find(target: str | None = None) -> tuple[Path, dict[str, str]] | None:
    """The first cargo that is new enough, on PATH or unpacked, with a library for the target; and the environment that
    it is to run in. Raises OSError."""
    for folder in [*map(Path, os.get_exec_path()), unpacked() / "usr" / "bin"]:
        rustc, cargo = folder / "rustc", folder / "cargo"
        if rustc.exists() and cargo.exists():
            environment = _environment(folder)
            if _version(rustc, environment) >= MINIMUM and (target is None or has_library(rustc, environment, target)):
                return cargo, environment
    return None


def _environment(folder: Path) -> dict[str, str]:
    """In which the Rust of a folder finds itself: first on PATH, with its own libraries and linker."""
    path = f"{folder}:{os.environ.get('PATH', os.defpath)}"
    environment = {**os.environ, "PATH": path, "RUSTC": str(folder / "rustc"), "RUSTC_BOOTSTRAP": "1"}
    if not folder.is_relative_to(unpacked()):
        return environment
    environment |= libraries(unpacked())
    # Debian's Rust has no linker of its own.
    if linker := shutil.which("ld.lld", path=path):
        environment[f"CARGO_TARGET_{TARGET.upper().replace('-', '_')}_LINKER"] = linker
    return environment


def libraries(root: Path) -> dict[str, str]:
    """The environment in which programs find the libraries that are unpacked beside them."""
    return {"LD_LIBRARY_PATH": str(root / "usr" / "lib" / "x86_64-linux-gnu")}


def _version(rustc: Path, environment: dict[str, str]) -> tuple[int, ...]:
    numbers = re.match(r"rustc (\d+)\.(\d+)", said(rustc, "--version", environment=environment))
    return tuple(map(int, numbers.groups())) if numbers else (0, 0)


def has_library(rustc: Path, environment: dict[str, str], target: str) -> bool:
    """Whether a compiler has Rust's library for a target."""
    return any(name.startswith("libcore-") for name in _library(rustc, environment, target))


def _library(rustc: Path, environment: dict[str, str], target: str) -> list[str]:
    """The files of Rust's library for a target, sorted; none where a compiler has none."""
    folder = said(rustc, "--print", "target-libdir", "--target", target, environment=environment)
    return sorted(path.name for path in Path(folder).glob("*.rlib")) if folder else []


def build_directory(name: str, rustc: Path, environment: dict[str, str], target: str) -> Path:
    """Where cargo keeps what it builds for a target with a compiler: another folder for another library, as cargo
    doesn't notice that a compiler's library was built anew, and what was built with the old one is of no use then."""
    library = "\n".join(_library(rustc, environment, target))
    return directory(f"{name}-{hashlib.sha256(library.encode()).hexdigest()[:8]}")


@contextmanager
def only_of(
    sources: str,
    built: Path,
    clean: Sequence[str | Path],
    folder: Path,
    environment: Mapping[str, str],
    progress: Callable[[str], None],
) -> Iterator[None]:
    """Has one process at a time build in cargo's directory `built`, where nothing is left of other sources than those
    that `sources` stands for: else the command `clean` is run in `folder` first.

    Cargo tells sources apart by their age: what it has built of one clone it takes for that of another one whose files
    are older. Raises OSError, and CalledProcessError.
    """
    built.mkdir(parents=True, exist_ok=True)
    lock = built.with_name(f"{built.name}.lock")
    with locked(lock, lambda: progress(f"waiting for another slight-py, which builds in {built}")):
        last = built / "sources"
        if not last.exists() or last.read_text() != sources:
            last.unlink(missing_ok=True)
            command = [*clean, "--target-dir", built]
            subprocess.run(
                command, cwd=folder, env=environment, check=True, capture_output=True, text=True, timeout=SECONDS
            )
            last.write_text(sources)
        yield


def unpack(progress: Callable[[str], None]) -> None:
    """Unpacks Debian's packages, and the libraries that are missing for them, into the cache, unless they are there.
    Raises ToolchainError where they can't be had, and OSError."""
    if _is_unpacked():
        return
    if shutil.which("apt-get") is None:
        raise ToolchainError("Debian's packages can't be had here")
    with _locked(progress):
        if not _is_unpacked():
            progress("getting a Rust that is new enough, which takes a few minutes, once")
            _unpack()


def _is_unpacked() -> bool:
    sources = unpacked() / "usr" / "lib" / "rustlib" / "src" / "rust" / "library"
    return (unpacked() / "usr" / "bin" / "cargo").exists() and sources.exists()


def _locked(progress: Callable[[str], None]) -> AbstractContextManager[None]:
    """The folder of Debian's packages, for one process at a time. Raises OSError."""
    unpacked().parent.mkdir(parents=True, exist_ok=True)
    lock = unpacked().with_suffix(".lock")
    return locked(lock, lambda: progress("waiting for another slight-py, which is getting a Rust"))


def _unpack() -> None:
    folder = unpacked()
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        Path(scratch, "partial").mkdir()
        if _download(scratch):  # the lists of packages may be missing, or old
            _run(["apt-get", "-qq", "update"])
            if _download(scratch):
                raise ToolchainError(f"Debian's packages {', '.join(PACKAGES)} can't be had here")
        root = Path(scratch, "root")
        for package in Path(scratch).glob("*.deb"):
            if _run(["dpkg", "-x", str(package), str(root)]):
                raise ToolchainError(f"{package.name} can't be unpacked")
        shutil.rmtree(folder, ignore_errors=True)
        root.rename(folder)


def _download(place: str) -> int:
    """Downloads the packages and the libraries that are missing for them; returns apt-get's exit code."""
    options = ["--download-only", "-qq", "-y", "-o", f"Dir::Cache::archives={place}", "-o", "Debug::NoLocking=1"]
    return _run(["apt-get", "install", *options, *PACKAGES])


def _run(command: Sequence[str]) -> int:
    """The exit code of a command. Raises ToolchainError for one that goes on for ever."""
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=SECONDS).returncode
    except subprocess.TimeoutExpired:
        raise ToolchainError(f"`{command[0]}` was not done within {SECONDS:g} s") from None


def add_library(
    target: str, crates: str, progress: Callable[[str], None], options: Sequence[str] = (), flags: str = ""
) -> None:
    """Builds these crates of Rust's library for a target from the sources that are unpacked, and puts them where the
    compiler looks for them, unless they are there. `flags` are rustc's. Raises ToolchainError, and OSError."""
    rustc = unpacked() / "usr" / "bin" / "rustc"
    environment = _environment(rustc.parent) | {"RUSTFLAGS": flags}
    if has_library(rustc, environment, target):
        return
    with _locked(progress):
        if not has_library(rustc, environment, target):
            progress(f"building Rust's library for {target}, which takes a minute, once")
            _build_library(target, crates, options, environment)


def _build_library(target: str, crates: str, options: Sequence[str], environment: dict[str, str]) -> None:
    place = unpacked() / "usr" / "lib" / "rustlib" / target / "lib"
    with tempfile.TemporaryDirectory(dir=unpacked().parent) as scratch:
        program = Path(scratch)
        (program / "src").mkdir()
        (program / "src" / "lib.rs").write_text("#![no_std]\n")
        (program / "Cargo.toml").write_text(_PROGRAM)
        command = [str(unpacked() / "usr" / "bin" / "cargo"), "build", "--quiet", "--release", "--target", target]
        command += ["-Z", f"build-std={crates}", *options]
        try:
            subprocess.run(
                command, cwd=program, env=environment, check=True, capture_output=True, text=True, timeout=SECONDS
            )
        except subprocess.CalledProcessError as error:
            raise ToolchainError(f"Rust's library for {target} can't be built: {error.stderr.strip()}") from None
        except subprocess.TimeoutExpired:
            raise ToolchainError(f"Rust's library for {target} was not built within {SECONDS:g} s") from None
        place.mkdir(parents=True, exist_ok=True)
        built = [path for path in program.glob(f"target/{target}/release/deps/*.rlib") if "libempty-" not in path.name]
        # What `has_library` looks for comes last, and each is whole when it has its name: this process may be killed.
        for path in sorted(built, key=lambda path: path.name.startswith("libcore-")):
            with replacing(place / path.name) as file:
                file.write(path.read_bytes())
