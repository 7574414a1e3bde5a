"""Module files: read, told from what they are not, compiled, and kept compiled on disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from pathlib import Path

from slight_py import compilation
from slight_py.cache import directory, replacing
from slight_py.compilation import CompileLimits
from slight_py.engine import Engine, InvalidModule, Module, UnsupportedModule
from slight_py.errors import UsageError

_MAGIC = b"\0asm"
_MODULE, _COMPONENT = b"\1\0\0\0", b"\x0d\0\1\0"

_NEEDS_MORE = re.compile(
    "must be enabled|not enabled|is disabled|are disallowed|without the .* feature|multiple memories|pooling allocator"
)
"""What wasmtime says of a sound module with a feature that is off, or past the limits."""

CACHE_LIMIT = 64
"""How many compiled modules are kept; the ones longest unused go first."""


def read(path: Path, limit: int = CompileLimits().size) -> bytes:
    """The bytes of a module. Raises UsageError for a file that isn't one, or has more bytes than the limit."""
    try:
        with path.open("rb") as file:
            wasm = file.read(limit + 1)
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise UsageError(f"{path}: this is a directory; name the .wasm file in it") from None
    except OSError as error:
        raise UsageError(f"{path}: it can't be read: {error.strerror}") from None
    if not wasm:
        raise UsageError(f"{path}: the file is empty; build the module again")
    if not wasm.startswith(_MAGIC):
        hint = "; this looks like its text format, which `wat2wasm` turns into a module" if _is_text(wasm) else ""
        raise UsageError(f"{path}: this is not a WebAssembly module{hint}")
    if len(wasm) > limit:
        raise UsageError(f"{path}: the module has more than {limit:,} bytes; allow more with --max-module")
    version = wasm[4:8]
    if version == _COMPONENT:
        raise UsageError(
            f"{path}: this is a component; slight-py runs core modules that were built with the bindings of"
            " Spiderlightning (target wasm32-wasi, without `cargo component`)"
        )
    if len(version) < 4:
        raise UsageError(f"{path}: the file is cut short; copy or build it again")
    if version != _MODULE:
        raise UsageError(f"{path}: WebAssembly of version {int.from_bytes(version, 'little')}, not 1, can't be run")
    return wasm


def _is_text(wasm: bytes) -> bool:
    return wasm.lstrip().startswith((b"(", b";;"))


def load(engine: Engine, path: Path, cache: bool = True, limits: CompileLimits | None = None) -> Module:
    """The module in a file, compiled now or at an earlier start. Raises UsageError."""
    limits = limits or CompileLimits()
    wasm = read(path, limits.size)
    kept = _cached_path(wasm, engine) if cache else None
    if kept and (module := _load_cached(engine, kept)):
        return module
    try:
        module = compilation.compile_apart(engine, wasm, limits)
    except InvalidModule as error:
        needs_more = isinstance(error, UnsupportedModule) or _NEEDS_MORE.search(str(error))
        what = "needs more than slight-py gives" if needs_more else "is broken or cut short"
        raise UsageError(f"{path}: the module {what}: {error}") from None
    if kept:
        with contextlib.suppress(OSError):  # a full or read-only disk: the next start compiles again
            _keep(kept, module.serialize())
    return module


def cache_directory() -> Path:
    """Where compiled modules are kept. Raises OSError for a user without a home."""
    return directory("modules")


def _cached_path(wasm: bytes, engine: Engine) -> Path | None:
    """Where the compiled form of a module is kept, by its content, the engine and its settings.

    What is kept is machine code, so a directory that others may write to is not used.
    """
    try:
        kept = cache_directory()
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = kept.stat()
    except OSError:
        return None
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022:
        return None
    key = hashlib.sha256(f"{engine.identity}\n".encode())
    key.update(wasm)
    return kept / key.hexdigest()


def _load_cached(engine: Engine, path: Path) -> Module | None:
    """A kept module, if it is there and whole: the file begins with the digest of the rest."""
    try:
        content = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    digest, compiled = content[:32], content[32:]
    if hashlib.sha256(compiled).digest() != digest:
        return None
    try:
        return engine.load(compiled)
    except InvalidModule:
        return None


def _keep(path: Path, compiled: bytes) -> None:
    """Writes a compiled module, in one step for whoever starts meanwhile, and removes the oldest ones."""
    with replacing(path) as file:
        file.write(hashlib.sha256(compiled).digest() + compiled)
    kept = sorted(path.parent.iterdir(), key=lambda each: each.stat().st_mtime, reverse=True)
    for old in kept[CACHE_LIMIT:]:
        old.unlink(missing_ok=True)
