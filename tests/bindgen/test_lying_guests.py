"""Guests that lie: every way to break the binary interface that a type has, made from the type.

Zero everywhere is an honest value of any type but a handle: false, 0, the first case, an empty text. A lie is that with
one thing changed: a number out of range, a tag past the last case, text that is not UTF-8, a pointer or a length past
the end of memory. The guest passes it to an import as flat values, or in memory where a list shows it, and returns it
from an export.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from struct import pack
from typing import Any

import pytest
import wasmtime

from bindgen import runtime
from bindgen.abi import Signature
from bindgen.plan import ABI
from bindgen.runtime import GuestFault
from bindgen.wit_parser import load_many
from bindgen.wit_parser.model import (
    Enum,
    ExpectedOf,
    Flags,
    ListOf,
    OptionOf,
    Primitive,
    Record,
    TupleOf,
    Type,
    TypeDef,
    Union,
    Variant,
    cases,
    components,
    unaliased,
)
from slight_py.engine import Program, Trap, describe
from tests.bindgen.roundtrip import FORMS, Echo, bindings, engine, use_form
from tests.bindgen.test_roundtrip import SHAPES, TYPES


@pytest.fixture(autouse=True, params=FORMS)
def _form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    use_form(request.param, [runtime], monkeypatch)


PAGE = 65_536
BAD_TEXT, GOOD = 64, 128
"""Where memory holds text that is not UTF-8, and zeros."""
SCRATCH = 4096
"""Where lies in memory begin."""


@dataclass(frozen=True)
class Lie:
    """What is not zero: flat values by slot, or bytes by offset; and what the fault is to say."""

    says: str
    slots: dict[int, int] = field(default_factory=dict)
    writes: dict[int, bytes] = field(default_factory=dict)

    def moved(self, slots: int = 0, offset: int = 0) -> Lie:
        return replace(
            self,
            slots={at + slots: value for at, value in self.slots.items()},
            # What a list shows has an address of its own.
            writes={at + offset if at < SCRATCH else at: data for at, data in self.writes.items()},
        )

    def under(self, tag: int, size: int) -> Lie:
        """The lie in the payload of a case."""
        writes = {0: tag.to_bytes(size, "little"), **self.writes} if self.writes else {}
        return replace(self, slots={0: tag, **self.slots}, writes=writes)


_RANGES = {
    Primitive.BOOL: ([2, 255], "is not a bool"),
    Primitive.CHAR: ([0xD800, 0xDFFF, 0x11_0000, 0xFFFF_FFFF], "is not a Unicode scalar value"),
}
_FLAT_RANGES = {
    Primitive.U8: ([256, 2**32 - 1], "is not a u8"),
    Primitive.U16: ([65_536, 2**32 - 1], "is not a u16"),
    Primitive.S8: ([128, 2**32 - 129], "is not an s8"),
    Primitive.S16: ([32_768, 2**32 - 32_769], "is not an s16"),
}
PAST_THE_END = [(PAGE, 1), (PAGE - 1, 2), (0, PAGE + 1), (0, 2**32 - 1), (2**32 - 1, 1), (2**32 - 1, 2**32 - 1)]
"""Pointers and lengths, the last ones such that 32 bits would wrap."""


def lies(type_: Type) -> Iterator[Lie]:
    """The lies about a value of a type: as flat values, and as the bytes in memory that mean the same."""
    real = unaliased(type_)
    match real:
        case Primitive.STRING:
            yield Lie("is not UTF-8", {0: BAD_TEXT, 1: 2}, {0: pack("<II", BAD_TEXT, 2)})
            yield from _past_the_end()
        case ListOf(element):
            yield from _past_the_end()
            yield from _in_list(element)
        case Primitive():
            size = ABI.size_align(real).size
            values, says = _RANGES.get(real, ([], ""))
            for value in values:
                yield Lie(says, {0: value}, {0: value.to_bytes(size, "little")})
            values, says = _FLAT_RANGES.get(real, ([], ""))
            for value in values:
                yield Lie(says, {0: value})
        case TypeDef(kind=Flags(labels)):
            yield from _about_flags(len(labels))
        case TypeDef(kind=Record()) | TupleOf():
            types = components(real)
            slot = 0
            for part, at in zip(types, ABI.offsets(types)[0], strict=True):
                yield from (lie.moved(slot, at) for lie in lies(part))
                slot += len(ABI.flatten(part))
        case OptionOf() | ExpectedOf() | TypeDef(kind=Variant() | Union() | Enum()):
            tag_size = ABI.tag_size(len(cases(real)))
            for tag in (len(cases(real)), 255):
                yield Lie("is not a case of", {0: tag}, {0: tag.to_bytes(tag_size, "little")})
            for number, (_, payload) in enumerate(cases(real)):
                for lie in lies(payload) if payload is not None else ():
                    yield lie.moved(1, ABI.payload_offset(real)).under(number, tag_size)


def _past_the_end() -> Iterator[Lie]:
    for pointer, length in PAST_THE_END:
        yield Lie(
            "past the end of memory|hands over too much", {0: pointer, 1: length}, {0: pack("<II", pointer, length)}
        )


def _about_flags(count: int) -> Iterator[Lie]:
    size = ABI.flags_size(count)
    for bit in (count, 8 * size - 1):
        if count <= bit < 8 * size:
            value = 1 << bit
            words = {n: value >> 32 * n & 0xFFFF_FFFF for n in range(max(1, size // 4))}
            yield Lie("more than the", words, {0: value.to_bytes(size, "little")})
    if count < 32 and size < 4:
        yield Lie("more than the", {0: 1 << 31})


def _in_list(element: Type) -> Iterator[Lie]:
    """A list of two elements, the second of which is a lie. It lies at SCRATCH, beyond the value's own bytes."""
    stride = ABI.size_align(element).size
    for lie in lies(element):
        if lie.writes and all(at < SCRATCH for at in lie.writes):
            inside = {SCRATCH + stride + at: data for at, data in lie.writes.items()}
            yield Lie(lie.says, {0: SCRATCH, 1: 2}, {0: pack("<II", SCRATCH, 2), **inside})


def memory_of(lie: Lie, at: int) -> dict[int, bytes]:
    """Where a lie's bytes lie, its value being at `at`. What a list shows has an address of its own."""
    return {offset if offset >= SCRATCH else at + offset: data for offset, data in lie.writes.items()}


def data_of(writes: dict[int, bytes]) -> str:
    """Data segments of a WAT module."""
    escaped = {at: "".join(f"\\{byte:02x}" for byte in data) for at, data in writes.items()}
    return "".join(f'(data (i32.const {at}) "{text}")' for at, text in escaped.items())


_WASM = {"i": "i32", "I": "i64", "f": "f32", "d": "f64"}


def passes(signature: Signature, slots: dict[int, int], writes: dict[int, bytes], name: str = "lie") -> bytes:
    """A guest that calls its import `name` with a lie."""
    params = " ".join(_WASM[letter] for letter in signature.params)
    arguments = " ".join(
        f"({_WASM[letter]}.const {slots.get(number, 0)})" for number, letter in enumerate(signature.params)
    )
    return _module(
        f'(import "host-side" "{name}" (func $lie {f"(param {params})" if params else ""}))',
        f'(func (export "run") (call $lie {arguments}))',
        writes,
    )


def returns(signature: Signature, result: int, writes: dict[int, bytes], name: str = "lie") -> bytes:
    """A guest of which the export `name` returns a lie."""
    kind = _WASM[signature.result]
    return _module("", f'(func (export "{name}") (result {kind}) ({kind}.const {result}))', writes)


def _module(imports: str, function: str, writes: dict[int, bytes]) -> bytes:
    memory = data_of({BAD_TEXT: b"\xc3\x28", **writes})
    return bytes(wasmtime.wat2wasm(f'(module {imports} (memory (export "memory") 1) {function} {memory})'))


def _fault(wasm: bytes, modules: dict[str, Any], side: str) -> str:
    """Runs a guest that lies; returns what the fault says."""

    async def run() -> None:
        module = engine().compile(wasm)
        definitions = {(each.module, each.name): (each, Echo()) for each in modules["host_side"].IMPORTS}
        instance = await Program(engine(), module, definitions).instantiate()
        try:
            functions = describe(module).functions
            if side == "import":
                await instance.call(functions["run"], ())
            else:
                await modules["guest_side"].lie(instance, functions["lie"])
        finally:
            instance.close()

    with pytest.raises((GuestFault, Trap)) as caught:
        asyncio.run(run())
    assert caught.type is GuestFault
    return str(caught.value)


@pytest.mark.parametrize("type_", TYPES)
def test_a_lie_ends_its_guest_and_is_named(type_: str, tmp_path: Path) -> None:
    (tmp_path / "shapes.wit").write_text(SHAPES)
    (tmp_path / "host-side.wit").write_text(f"use * from shapes\nlie: func(it: {type_})\n")
    (tmp_path / "guest-side.wit").write_text(f"use * from shapes\nlie: func() -> tuple<{type_}>\n")
    imported, exported = load_many([tmp_path / "host-side.wit", tmp_path / "guest-side.wit"])
    modules = bindings(tmp_path, [imported], [exported])
    passed = ABI.signature(imported.functions[0], "import")
    returned = ABI.signature(exported.functions[0], "export")
    value = imported.functions[0].params[0].type
    for lie in lies(value):
        if lie.slots and not passed.indirect_params:
            said = _fault(passes(passed, lie.slots, memory_of(lie, GOOD)), modules, "import")
            assert said.startswith("host-side: lie: it: ")
            assert any(part in said for part in lie.says.split("|")), said
        if lie.writes and returned.result_pointer:
            said = _fault(returns(returned, GOOD, memory_of(lie, GOOD)), modules, "export")
            assert said.startswith("guest-side: lie: result: ")
            assert any(part in said for part in lie.says.split("|")), said
        if lie.slots and not returned.result_pointer:
            said = _fault(returns(returned, lie.slots[0], {}), modules, "export")
            assert any(part in said for part in lie.says.split("|")), said


@pytest.mark.parametrize("pointer", [PAGE, PAGE - 4, 2**32 - 8, 2**32 - 1])
def test_a_result_past_the_end_of_memory_is_a_fault(pointer: int, tmp_path: Path) -> None:
    (tmp_path / "shapes.wit").write_text(SHAPES)
    (tmp_path / "host-side.wit").write_text("lie: func() -> tuple<u64, u64>\n")
    (tmp_path / "guest-side.wit").write_text("lie: func() -> tuple<u64, u64>\n")
    imported, exported = load_many([tmp_path / "host-side.wit", tmp_path / "guest-side.wit"])
    modules = bindings(tmp_path, [imported], [exported])
    taken = _fault(returns(ABI.signature(exported.functions[0], "export"), pointer, {}), modules, "export")
    assert taken.startswith("guest-side: lie: result: 16 bytes at")
    given = _fault(passes(ABI.signature(imported.functions[0], "import"), {0: pointer}, {}), modules, "import")
    assert given.startswith("host-side: lie: result: 16 bytes at")
