"""How the kernel is made smaller than by what Cargo.toml says, in ways that cargo and rustc have no stable option for.

`build` in this package goes by it. What is built by hand, as README.md says, works as well, and is larger.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from slight_py.toolchains import said

LINKING = ("-Cllvm-args=-enable-global-merge-func",)  # functions that differ in constants alone become one
"""Options of rustc's for the program, in which all crates are optimised as one."""

# Panics tell where they are: a file and a line in our code, and a file in that of others. Nobody is told columns.
_PLACES = (
    "-Zprofile-rustflags",
    '--config=profile.release.rustflags=["-Zlocation-detail=file,line"]',
    '--config=profile.release.package."*".rustflags=["-Zlocation-detail=file"]',
)

_LIBRARY = ("-Zbuild-std=core,alloc", "-Zbuild-std-features=compiler-builtins-mem,optimize_for_size")


def cargo_options(rustc: Path, environment: Mapping[str, str]) -> list[str]:
    """Cargo's options. Rust's library is built for size as the rest is, where its sources are beside the compiler:
    Debian's are; rustup has them as the component `rust-src`."""
    sources = _library(rustc, environment)
    return [*_PLACES, *(_LIBRARY if (sources / "Cargo.lock").exists() else [])]


def flags(rustc: Path, environment: Mapping[str, str]) -> str:
    """Cargo's variable CARGO_ENCODED_RUSTFLAGS. Files are named without the folders that crates are in, which have to
    have been fetched."""
    home = Path(environment.get("CARGO_HOME") or Path.home() / ".cargo")
    folders = [*sorted((home / "registry" / "src").glob("*/")), _library(rustc, environment)]
    return "\x1f".join(f"--remap-path-prefix={folder}/=" for folder in folders)


def _library(rustc: Path, environment: Mapping[str, str]) -> Path:
    """Where a compiler has the sources of its library, if it has them."""
    root = said(rustc, "--print", "sysroot", environment=environment)
    return Path(root, "lib", "rustlib", "src", "rust", "library")
