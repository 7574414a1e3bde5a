"""Components that nobody would write: changed in their bytes, in their sections, and in the words of their text, so
that many are whole but import and export something else than there is."""

from __future__ import annotations

import random
import re
from functools import cache

import wasmtime

from tests.component import guests, mutations, texts
from tests.fuzz import worlds

_WORDS = (
    "u8", "u16", "u32", "u64", "s32", "s64", "string", "bool", "char", "f32", "f64", "own", "borrow", "async", "list",
    "option", "tuple", "result", "param", "func", "resource", "@0.2.0", "@0.2.12", "@0.3.0", "@0.2.99", "@0.4.0",
    "@1.0.0", "@0.2.0-rc.1", "utf8", "utf16", "latin1+utf16", "i32", "i64", "memory", "realloc", "callback", "run",
    "handle", "wasi:io", "wasi:cli", "wasi:http", "wasi:filesystem", "wasi:nothing", "eq", "sub resource",
)  # fmt: skip

_PLACES = re.compile("|".join(re.escape(word) for word in sorted(_WORDS, key=len, reverse=True)))


@cache
def seeds() -> tuple[str, ...]:
    """The texts that cases begin with: small ones more often than those that import all of WASI."""
    bodies = ("(i32.const 0)", "unreachable", "(call $exit (i32.const 1)) (i32.const 0)")
    server = guests.SERVER.replace("BODY", "(call $answer (local.get $outparam) (i32.const 200))")
    commands = [guests.COMMAND.replace("BODY", body) for body in bodies]
    return (
        *texts.VALID.values(),
        *([server] * 4),
        *(commands * 2),
        *(worlds.named(name).text for name in worlds.NAMES),
    )


def make(rng: random.Random) -> bytes:
    """The bytes of one component."""
    if rng.random() < 0.6:
        for _ in range(10):
            try:
                wasm = bytes(wasmtime.wat2wasm(_reworded(rng, rng.choice(seeds()))))
            except wasmtime.WasmtimeError:
                continue  # the words don't make sense there
            return wasm if rng.random() < 0.8 else mutations.mutated(rng, [wasm])
    wasm = bytes(wasmtime.wat2wasm(rng.choice(seeds())))
    if rng.random() < 0.1:
        return wasm[: rng.randrange(len(wasm))]
    return mutations.mutated(rng, [wasm])


def _reworded(rng: random.Random, text: str) -> str:
    """A text with some words in place of others."""
    places = [*_PLACES.finditer(text)]
    for place in sorted(
        rng.sample(places, min(len(places), rng.choice((0, 1, 1, 2, 3)))), key=lambda each: -each.start()
    ):
        text = text[: place.start()] + rng.choice(_WORDS) + text[place.end() :]
    return text
