"""Modules that no compiler writes: mutations of real ones, and where tests/fuzz/smith is built, generated ones."""

from __future__ import annotations

import random
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests import wat
from tests.fuzz import smith

ROOT = Path(__file__).resolve().parents[2]

EXAMPLES = ("bare-c", "keyvalue-demo-c", "kv-2022-c", "on-server-init")
"""The examples that are mutated: the small ones, as compilation is most of what a case takes."""

_LOOP = f'(func (export "_start") {wat.FOREVER})'
_TYPES = """
(func (export "f1") (param i32 i64 f32 f64) (result i32 i64) (local.get 0) (local.get 1))
(func (export "_start"))
"""
_TABLES = """
(table (export "table") 4 8 funcref) (global (export "g") (mut i64) (i64.const 7)) (func $f) (elem (i32.const 0) $f)
(func (export "_start") (call_indirect (i32.const 0)))
"""
_SIMD = """
(func (export "vector") (param v128) (result v128) (local.get 0))
(func (export "_start") (drop (i8x16.add (v128.const i64x2 1 2) (v128.const i64x2 3 4))))
"""
_REFERENCES = '(func (export "any") (param externref) (result funcref) (ref.null func)) (func (export "_start"))'
_IMPORTS = """
(import "keyvalue" "keyvalue::open" (func $open (param i32 i32 i32)))
(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
(memory (export "memory") 1)
(func (export "_start") (call $open (i32.const 0) (i32.const 4) (i32.const 16))
  (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
"""
TEXTS = (_LOOP, _TYPES, _TABLES, _SIMD, _REFERENCES, _IMPORTS)


def seeds() -> list[bytes]:
    """The modules that mutations begin with: the texts above, and the examples that are built."""
    built = [ROOT / "examples/build" / f"{name}.wasm" for name in EXAMPLES]
    texts = [wat.binary(text) for text in TEXTS] + [wat.module()]
    return texts + [path.read_bytes() for path in built if path.exists()]


def make(rng: random.Random, known: list[bytes]) -> bytes:
    """The module that a generator's state gives."""
    chosen = rng.choice(known)
    program = smith.built()
    if program is not None and rng.random() < 0.6:
        number = rng.getrandbits(63)
        chosen = (_run(program, number) if rng.random() < 0.5 else _mutated(program, number, chosen)) or chosen
        if rng.random() < 0.8:
            return chosen
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        chosen = rng.choice(MUTATIONS)(rng, chosen)
    return chosen


def _run(program: Path, *words: int | Path) -> bytes:
    done = subprocess.run([program, *map(str, words)], capture_output=True, timeout=60, check=False)
    return done.stdout


def _mutated(program: Path, number: int, wasm: bytes) -> bytes:
    with tempfile.NamedTemporaryFile(suffix=".wasm") as file:
        file.write(wasm)
        file.flush()
        return _run(program, number, Path(file.name))


# Mutations.

INTERESTING = (0, 1, 2, 0x3F, 0x40, 0x5E, 0x5F, 0x60, 0x63, 0x64, 0x6F, 0x70, 0x7B, 0x7C, 0x7D, 0x7E, 0x7F, 0x80, 0xFF)
"""Bytes that mean something in the binary format: types, section numbers, ends of numbers."""


def _bytes(rng: random.Random, wasm: bytes) -> bytes:
    changed = bytearray(wasm)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(8, len(changed)) if len(changed) > 8 else 0
        if at:
            changed[at] = rng.choice(INTERESTING) if rng.random() < 0.7 else rng.randrange(256)
    return bytes(changed)


def _head(rng: random.Random, wasm: bytes) -> bytes:
    """Bytes near the beginning, where the types and the imports are."""
    return wasm[:8] + _bytes(rng, b"\0" * 8 + wasm[8:200])[8:] + wasm[200:]


def _cut(rng: random.Random, wasm: bytes) -> bytes:
    return wasm[: rng.randrange(len(wasm) + 1)]


def _insert(rng: random.Random, wasm: bytes) -> bytes:
    at = rng.randrange(min(8, len(wasm)), len(wasm) + 1)
    return wasm[:at] + rng.randbytes(rng.choice((1, 2, 5, 64))) + wasm[at:]


def _remove(rng: random.Random, wasm: bytes) -> bytes:
    at = rng.randrange(min(8, len(wasm)), len(wasm) + 1)
    return wasm[:at] + wasm[at + rng.choice((1, 2, 8, 64)) :]


def _sections(rng: random.Random, wasm: bytes) -> bytes:
    """Sections that change places, are doubled, left out, cut short with the right size, or emptied."""
    parts = list(split(wasm))
    if not parts:
        return wasm
    at = rng.randrange(len(parts))
    number, content = parts[at]
    match rng.randrange(7):
        case 0:
            parts.pop(at)
        case 1:
            parts.insert(rng.randrange(len(parts) + 1), parts[at])
        case 2:
            other = rng.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        case 3:
            parts[at] = (number, content[: rng.randrange(len(content) + 1)])
        case 4:
            parts[at] = (rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 255)), content)
        case 5:
            parts[at] = (number, _leb(rng.choice((0, 1, 1000, 2**31, 2**32 - 1))) + content[1:])
        case 6:
            parts[at] = (number, _bytes(rng, b"\0" * 8 + content)[8:])
    return join(parts)


def _custom(rng: random.Random, wasm: bytes) -> bytes:
    """A custom section with a name that tools read, and whatever in it."""
    name = rng.choice((b"name", b"producers", b"target_features", b"dylink.0", b"linking", rng.randbytes(5)))
    parts = list(split(wasm))
    parts.insert(rng.randrange(len(parts) + 1), (0, _leb(len(name)) + name + rng.randbytes(rng.randrange(200))))
    return join(parts)


MUTATIONS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _bytes, _bytes, _head, _head, _cut, _insert, _remove, _sections, _sections, _custom,
)  # fmt: skip


def split(wasm: bytes) -> list[tuple[int, bytes]]:
    """The sections, by number; what is broken ends them."""
    found = []
    at = 8
    while at < len(wasm):
        number, at, size = wasm[at], at + 1, 0
        for shift in range(0, 35, 7):
            if at >= len(wasm):
                return found
            byte = wasm[at]
            at += 1
            size |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
        found.append((number, wasm[at : at + size]))
        at += size
    return found


def join(parts: list[tuple[int, bytes]]) -> bytes:
    return b"\0asm\1\0\0\0" + b"".join(bytes((number,)) + _leb(len(content)) + content for number, content in parts)


def _leb(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*encoded, number))
