"""The compilers that components are built with.

Rust's standard library for WASI 0.2 is in no package of Debian, but its sources are: it is built once, into the user's
cache, with the C library that Debian has for WASI preview 1. Where a Rust of PATH has one already, that is used.
componentize-js is npm's, and kept in the cache, too; what there is for C and Python comes with the extra `dev`.
`python -m tests.component_toolchain` prepares it where it's needed.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

from slight_py import cache
from slight_py.new import FOLDER
from tests.command import SOURCES, guest
from unikernel.native import toolchain

TARGET = "wasm32-wasip2"

LIBC = Path("/usr/lib/rustlib/wasm32-wasi/lib/self-contained")
"""Where Debian's libstd-rust-dev-wasm32 has its C library."""

START_SECONDS = 180.0
"""How long a component may take to be compiled that has a whole interpreter in it, on a machine that has more to do."""

COMPONENTIZE_JS = "@bytecodealliance/componentize-js@0.23.0"


def environment(**more: str) -> dict[str, str]:
    """The user's own, which says where npm and cargo get packages from, and keep them."""
    return {**os.environ, **more}


@functools.cache
def rust() -> dict[str, str]:
    """The environment in which `cargo build --target wasm32-wasip2` works. Raises AssertionError where there is none.

    What it has built of the packages of others stays in the cache, for the next test.
    """
    for folder in os.get_exec_path():
        rustc = Path(folder, "rustc")
        if Path(folder, "cargo").exists() and rustc.exists() and toolchain.has_library(rustc, environment(), TARGET):
            return _building(rustc, environment())
    rustc = toolchain.unpacked() / "usr" / "bin" / "rustc"
    unpacked = environment(**toolchain.libraries(toolchain.unpacked()))
    assert toolchain.has_library(rustc, unpacked, TARGET), "python -m tests.component_toolchain was not run"
    return _building(rustc, unpacked)


def _building(rustc: Path, variables: dict[str, str]) -> dict[str, str]:
    """The environment with which a compiler's cargo is found, and keeps what it has built."""
    built = toolchain.build_directory("components-in-rust", rustc, variables, TARGET)
    path = f"{rustc.parent}:{variables['PATH']}"
    return {**variables, "PATH": path, "RUSTC": str(rustc), "CARGO_TARGET_DIR": str(built)}


def javascript() -> dict[str, str]:
    """The environment in which `componentize-js` is found. Raises AssertionError where there is none."""
    programs = _npm() / "node_modules" / ".bin"
    assert (programs / "componentize-js").exists(), "python -m tests.component_toolchain was not run"
    return environment(PATH=f"{programs}:{os.environ['PATH']}")


def _npm() -> Path:
    return cache.directory(COMPONENTIZE_JS.rpartition("/")[2].replace("@", "-"))


def python() -> dict[str, str]:
    """The environment in which the programs are found that pip has installed beside this interpreter."""
    zig = str(Path.home() / ".cache/zig")
    return environment(PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}", ZIG_GLOBAL_CACHE_DIR=zig)


@functools.cache
def build_c(name: str) -> Path:
    """Builds a component of tests/guests_src, whose world is that of projects in C. Raises CalledProcessError."""
    module, core = guest(name), guest(f"{name}.core")
    bindings = FOLDER / "component-c" / "bindings"
    sources = [SOURCES / f"{name}.c", bindings / "guest.c", bindings / "guest_component_type.o"]
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-mexec-model=reactor", "-Oz"]
    subprocess.run([*zig, f"-I{bindings}", "-o", core, *sources], env=python(), check=True)
    subprocess.run(["wasm-tools", "component", "new", core, "-o", module], env=python(), check=True)
    return module


def prepare() -> None:
    """Builds the standard library and installs componentize-js, unless they are there. Raises AssertionError, or
    CalledProcessError with what failed on standard error."""
    try:
        javascript()
    except AssertionError:
        _npm().mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--silent", "--prefix", _npm(), COMPONENTIZE_JS], check=True)
        javascript()
    try:
        rust()
    except AssertionError:
        try:
            _build()
        except toolchain.ToolchainError as error:
            raise AssertionError(str(error)) from None
        rust.cache_clear()
        rust()


def _build() -> None:
    """Unpacks Debian's Rust and builds the standard library from its sources. Raises ToolchainError."""
    toolchain.unpack(print)
    # The C library is not looked for before the target has a standard library.
    libc = toolchain.unpacked() / "usr" / "lib" / "rustlib" / TARGET / "lib" / "self-contained"
    shutil.copytree(LIBC, libc, dirs_exist_ok=True)
    toolchain.add_library(TARGET, "std,panic_abort", print, flags=f"-L native={libc}")


if __name__ == "__main__":
    try:
        prepare()
    except AssertionError as error:
        sys.exit(str(error))
