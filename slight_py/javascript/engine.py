"""The engine's sources and objects, which are kept between builds."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from slight_py import cache
from slight_py.errors import UsageError

HERE = Path(__file__).resolve().parent

CRATE = "rquickjs-sys"
VERSION = "0.14.0"
"""The crate that has the sources of QuickJS-ng 0.16.2 in it."""

_FILES = ("quickjs.c", "libregexp.c", "libunicode.c", "dtoa.c")

FLAGS = ("-target", "wasm32-wasi", "-std=gnu17", "-Oz", "-D_GNU_SOURCE", "-fno-sanitize=undefined")
SECONDS = 300.0
"""How long a compiler, or the fetching of the sources, may take."""


def objects(sources: Path | None, progress: Callable[[str], None]) -> tuple[Path, ...]:
    """The compiled engine, from the cache or made now; `sources` is a folder of QuickJS-ng's own.

    Raises UsageError where a tool is missing, or the sources don't compile.
    """
    if find_spec("ziglang") is None:
        raise UsageError("JavaScript needs zig to be built: pip install ziglang")
    sources = sources or fetched(progress)
    missing = [name for name in _FILES if not (sources / name).is_file()]
    if missing:
        raise UsageError(f"{sources}: no sources of QuickJS-ng: there is no {missing[0]}; name its folder with -e")
    headers = b"".join(path.read_bytes() for path in [*sorted(sources.glob("*.h")), HERE / "slight.h"])
    kept = cache.directory("javascript")
    kept.mkdir(parents=True, exist_ok=True)
    made = []
    for file in (*(sources / name for name in _FILES), HERE / "engine.c"):
        digest = hashlib.sha256(" ".join(FLAGS).encode() + headers + file.read_bytes()).hexdigest()
        made.append(kept / f"{file.stem}-{digest[:16]}.o")
        if not made[-1].is_file():
            progress(f"compiling {file.name} of the engine for JavaScript, once")
            with cache.replacing(made[-1]) as target:
                cc(["-c", "-w", f"-I{sources}", f"-I{HERE}", "-o", target.name, str(file)])
    return tuple(made)


def cc(arguments: Sequence[str]) -> None:
    """Runs zig's C compiler. Raises UsageError with what it says."""
    command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, *arguments]
    done = _run(command, Path())
    if done.returncode:
        raise UsageError(f"the engine for JavaScript can't be built: {done.stderr.strip()[-2000:]}")


def fetched(progress: Callable[[str], None]) -> Path:
    """The sources, from crates.io by cargo, which checks them against the lock file here. Raises UsageError."""
    kept = cache.directory("javascript") / f"{CRATE}-{VERSION}"
    if kept.is_dir():
        return kept
    if shutil.which("cargo") is None:
        raise UsageError(
            f"cargo is missing, which fetches QuickJS-ng from crates.io ({CRATE} {VERSION}); type: "
            f"{'' if os.geteuid() == 0 else 'sudo '}apt install cargo, or name its sources with -e DIR"
        )
    progress("fetching the engine for JavaScript, once")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
        for name in ("Cargo.toml", "Cargo.lock"):
            shutil.copy(HERE / "crate" / name, scratch)
        Path(scratch, "lib.rs").touch()
        crate = _folder_of_crate(Path(scratch))
        copy = Path(scratch, "copy")
        copy.mkdir()
        for source in (crate / "quickjs").iterdir():
            if source.suffix in (".c", ".h") or source.name == "LICENSE":
                shutil.copy(source, copy)
        try:
            copy.rename(kept)
        except OSError:
            if not kept.is_dir():
                raise
    return kept


def _folder_of_crate(project: Path) -> Path:
    done = _run(["cargo", "fetch", "--locked"], project)
    if done.returncode:
        raise UsageError(f"QuickJS-ng can't be fetched from crates.io: {done.stderr.strip()[-500:]}")
    done = _run(["cargo", "metadata", "--offline", "--locked", "--format-version=1"], project)
    packages = json.loads(done.stdout)["packages"] if done.returncode == 0 else []
    for package in packages:
        if package["name"] == CRATE:
            return Path(package["manifest_path"]).parent
    raise UsageError(f"cargo does not say where it put {CRATE}: {done.stderr.strip()[-500:]}")


def _run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise UsageError(f"{command[0]} took longer than {SECONDS:g} seconds; try again") from None
