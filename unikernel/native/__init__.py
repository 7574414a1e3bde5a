"""The kernel of native images: the one that this package was shipped with, or built here from its sources, and kept."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from slight_py.cache import directory, locked, replacing
from slight_py.errors import UsageError
from unikernel.native import smaller, toolchain

SOURCES = Path(__file__).parent
SHIPPED = SOURCES / "kernel.elf"
"""In a package that was built with it, which has no sources."""

BUILD_SECONDS = 1800.0
"""A build takes two minutes on two cores; one that takes this long has gone wrong."""

_WAITING = "waiting for another slight-py, which is building the kernel of native images"
_INPUTS = (
    "Cargo.toml",
    "Cargo.lock",
    "build.rs",
    "link.ld",
    "smaller.py",
    ".cargo/config.toml",
    "src/**/*",
    "postcard/**/*",
)


def kernel(progress: Callable[[str], None] = lambda line: None) -> Path:
    """The kernel's ELF file. `progress` is told of what takes time. Raises UsageError where it can't be built."""
    if not (SOURCES / "Cargo.toml").exists():
        if SHIPPED.exists():
            return SHIPPED
        raise UsageError(f"{SHIPPED}: the kernel of native images is missing; install slight-py again")
    try:
        kept = _place()
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not kept.exists():
            with locked(kept.with_name("native.lock"), lambda: progress(_WAITING)):
                kept = _place()  # waiting may have taken long
                if not kept.exists():
                    content = build("slight-machine", [], progress)
                    if kept != _place():
                        raise UsageError("the sources of the kernel have changed while it was built; try again")
                    with replacing(kept) as file:
                        file.write(content)
    except OSError as error:
        raise UsageError(f"no kernel can be made and kept: {error}; is the disk full, or not yours?") from None
    return kept


def kept() -> Path | None:
    """The kernel, if `kernel` would build nothing."""
    if not (SOURCES / "Cargo.toml").exists():
        return SHIPPED if SHIPPED.exists() else None
    try:
        path = _place()
    except OSError:
        return None
    return path if path.exists() else None


def key(*more: str) -> str:
    """Tells kernels of different sources apart, and of different files that `more` patterns name."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in (*_INPUTS, *more) for path in SOURCES.glob(pattern) if path.is_file()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(SOURCES)} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def _place() -> Path:
    """Where the kernel of these sources is kept. Raises OSError for a user without a home."""
    return directory("kernels") / f"native-{key()}.elf"


def build(program: str, options: Sequence[str], progress: Callable[[str], None]) -> bytes:
    """Builds a program of the kernel's sources with cargo, and returns its ELF file. Raises UsageError, and OSError."""
    cargo, environment = toolchain.obtain(progress)
    progress("building the kernel of native images, which takes two minutes, once")
    rustc = Path(environment["RUSTC"])
    built = toolchain.build_directory("native-kernel", rustc, environment, toolchain.TARGET)
    place = ["--release", "--target", toolchain.TARGET]
    command = [str(cargo), "rustc", "--quiet", "--locked", "--ignore-rust-version", "--bin", program, *options, *place]
    command += ["--target-dir", str(built), *smaller.cargo_options(rustc, environment), "--", *smaller.LINKING]
    fetch = [str(cargo), "fetch", "--quiet", "--locked", "--target", toolchain.TARGET]
    clean = [str(cargo), "clean", "--package", "slight-machine", *place]

    def run(command: Sequence[str], environment: dict[str, str]) -> None:
        subprocess.run(
            command, cwd=SOURCES, env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS, check=True
        )

    try:
        with toolchain.only_of(key(), built, clean, SOURCES, environment, progress):
            run(fetch, environment)
            run(command, environment | {"CARGO_ENCODED_RUSTFLAGS": smaller.flags(rustc, environment)})
            return (built / toolchain.TARGET / "release" / program).read_bytes()
    except subprocess.TimeoutExpired:
        raise UsageError(f"the kernel of native images was not built within {BUILD_SECONDS:g} s") from None
    except subprocess.CalledProcessError as error:
        lines = str(error.stderr).strip().splitlines() or ["cargo gives no reason"]
        reason = next((line for line in lines if line.startswith("error")), lines[-1])
        raise UsageError(
            f"the kernel of native images can't be built: {reason}; `{' '.join(command)}` shows more"
        ) from None
