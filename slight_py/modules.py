"""Module and component files: read, told from what they are not, compiled, and kept compiled on disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from slight_py import compilation
from slight_py.cache import directory, replacing
from slight_py.compilation import CompileLimits
from slight_py.engine import Engine, InvalidModule, Module, Shape, UnsupportedModule, serialize
from slight_py.errors import UsageError

_MAGIC = b"\0asm"
_MODULE, _COMPONENT = b"\1\0\0\0", b"\x0d\0\1\0"

_NEEDS_MORE = re.compile(
    "must be enabled|not enabled|is disabled|are disallowed|without the .* feature|multiple memories|pooling allocator"
    "|allow fewer at once"
)
"""What wasmtime says of a sound module with a feature that is off, or past the limits."""

_MEMORY = re.compile(r"memory has a minimum byte size of (\d+) which exceeds the limit")
"""What it says of one that begins with more memory than an instance may have."""

CACHE_LIMIT = 64
"""How many compiled modules are kept; the ones longest unused go first."""


def read(path: Path, limit: int = CompileLimits().size) -> bytes:
    """The bytes of a module or a component. Raises UsageError for another file, and for one with too many bytes."""
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
        return wasm
    if len(version) < 4:
        raise UsageError(f"{path}: the file is cut short; copy or build it again")
    if version[2:] == _COMPONENT[2:]:
        raise UsageError(
            f"{path}: a component of the binary format's version {int.from_bytes(version[:2], 'little'):#x}, not 0xd,"
            " can't be run; build it with current tools"
        )
    if version != _MODULE:
        raise UsageError(f"{path}: WebAssembly of version {int.from_bytes(version, 'little')}, not 1, can't be run")
    return wasm


def _is_text(wasm: bytes) -> bool:
    return wasm.lstrip().startswith((b"(", b";;"))


def is_component(wasm: bytes) -> bool:
    return wasm[4:8] == _COMPONENT


def load(
    engine: Engine, path: Path, cache: bool = True, limits: CompileLimits | None = None, wasm: bytes | None = None
) -> Module:
    """The module in a file, compiled now or at an earlier start. `wasm` is the file's content where that was read
    already. Raises UsageError, for a component, too."""
    limits = limits or CompileLimits()
    wasm = wasm or read(path, limits.size)
    if is_component(wasm):
        raise UsageError(f"{path}: this is a component; only `slight-py run` takes components")
    (module,) = compiled(engine, path, wasm, [wasm], Shape(), cache, limits)
    return module


def compiled(
    engine: Engine,
    path: Path,
    wasm: bytes,
    modules: Sequence[bytes],
    shape: Shape,
    cache: bool,
    limits: CompileLimits,
) -> list[Module]:
    """The modules in a file, compiled together, now or at an earlier start. `wasm` is the whole file. Raises
    UsageError."""
    kept = _cached_path([wasm, *(each for each in modules if each is not wasm)], engine, shape) if cache else None
    if kept and (found := _load_cached(engine, kept)):
        return found
    try:
        found = compilation.compile_together(engine, modules, shape, limits)
    except InvalidModule as error:
        raise _why(path, wasm, error) from None
    if kept:
        with contextlib.suppress(OSError):  # a full or read-only disk: the next start compiles again
            _keep(kept, serialize(found))
    return found


def compiled_ahead(path: Path, wasm: bytes, limits: CompileLimits) -> bytes:
    """The machine code of a module for the native machine, see ahead.py. Raises UsageError."""
    try:
        return compilation.compile_ahead(wasm, limits)
    except InvalidModule as error:
        raise _why(path, wasm, error) from None


def _why(path: Path, wasm: bytes, error: InvalidModule) -> UsageError:
    """What to say of a module or a component that could not be compiled."""
    too_large = _MEMORY.search(str(error))
    if too_large:
        begins = f"its memory begins with {int(too_large[1]):,} bytes"
        return UsageError(f"{path}: {begins}, and an instance may have less; allow more with --max-memory")
    needs_more = isinstance(error, UnsupportedModule) or _NEEDS_MORE.search(str(error))
    what = "needs more than slight-py gives" if needs_more else "is broken or cut short"
    return UsageError(f"{path}: the {'component' if is_component(wasm) else 'module'} {what}: {error}")


def cache_directory() -> Path:
    """Where compiled modules are kept. Raises OSError for a user without a home."""
    return directory("modules")


def _cached_path(content: Sequence[bytes], engine: Engine, shape: Shape) -> Path | None:
    """Where the compiled form of modules is kept, by their content, the engine and its settings.

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
    key = hashlib.sha256(f"{engine.identity} {shape} {[len(each) for each in content]}\n".encode())
    for each in content:
        key.update(each)
    return kept / key.hexdigest()


def _load_cached(engine: Engine, path: Path) -> list[Module] | None:
    """Kept modules, if the file is there and whole: the file begins with the digest of the rest."""
    try:
        content = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    digest, code = content[:32], content[32:]
    if hashlib.sha256(code).digest() != digest:
        return None
    try:
        return engine.load_together(code)
    except InvalidModule:
        return None


def _keep(path: Path, code: bytes) -> None:
    """Writes compiled modules, in one step for whoever starts meanwhile, and removes the oldest ones."""
    with replacing(path) as file:
        file.write(hashlib.sha256(code).digest() + code)
    kept = sorted(path.parent.iterdir(), key=lambda each: each.stat().st_mtime, reverse=True)
    for old in kept[CACHE_LIMIT:]:
        old.unlink(missing_ok=True)
