"""The sections of a module's binary format: what has to be known of a module before wasmtime is asked.

Section numbers and layouts are those of the WebAssembly specification, "Binary Format", "Modules".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT, START, ELEMENT, CODE, DATA = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11


class Unreadable(Exception):
    """The bytes end too early, or hold what is not read here. What is wrong with a module is wasmtime's to say."""


@dataclass(slots=True)
class Reader:
    """Reads the bytes of a module one after the other. Its methods raise Unreadable."""

    wasm: bytes
    at: int
    end: int

    def byte(self) -> int:
        if self.at >= self.end:
            raise Unreadable("the section ends too early")
        self.at += 1
        return self.wasm[self.at - 1]

    def unsigned(self) -> int:
        """A number of up to 32 bits in LEB128."""
        value = 0
        for shift in range(0, 35, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise Unreadable("a number that is too long")

    def bytes(self, size: int) -> bytes:
        if size > self.end - self.at:
            raise Unreadable("the section ends too early")
        self.at += size
        return self.wasm[self.at - size : self.at]

    def name(self) -> str:
        return self.bytes(self.unsigned()).decode(errors="replace")

    def limits(self) -> int:
        """The limits of a table or a memory: the smallest size."""
        flags = self.byte()
        smallest = self.unsigned()
        if flags & 1:
            self.unsigned()
        return smallest


def sections(wasm: bytes) -> Iterator[tuple[int, Reader]]:
    """The number and the content of each section. Raises Unreadable."""
    module = Reader(wasm, 8, len(wasm))
    while module.at < module.end:
        number = module.byte()
        size = module.unsigned()
        start = module.at
        module.bytes(size)
        yield number, Reader(wasm, start, start + size)


def unpassable(wasm: bytes) -> dict[str, str]:
    """The imported and exported functions, such as `env::f`, that have a type in their signature which isn't passed
    between modules and hosts, and the name of that type: v128, or any reference but funcref.

    Raises Unreadable.
    """
    types: list[str | None] = []
    functions: list[int] = []
    """The types of all functions, the imported ones first."""
    found: dict[str, str | None] = {}
    try:
        for number, section in sections(wasm):
            if number == TYPE:
                for _ in range(section.unsigned()):
                    types += _recursion_group(section)
            elif number == IMPORT:
                for _ in range(section.unsigned()):
                    name = f"{section.name()}::{section.name()}"
                    if (type_ := _imported(section)) is not None:
                        functions.append(type_)
                        found[name] = found.get(name) or types[type_]
            elif number == FUNCTION:
                functions += [section.unsigned() for _ in range(section.unsigned())]
            elif number == EXPORT:
                for _ in range(section.unsigned()):
                    name = section.name()
                    kind, index = section.byte(), section.unsigned()
                    if kind == 0:
                        found[name] = types[functions[index]]
    except IndexError:
        raise Unreadable("a number of a type or a function that there is not") from None
    return {name: type_ for name, type_ in found.items() if type_}


def _imported(section: Reader) -> int | None:
    """The type of an imported function; None for an import of another kind."""
    match section.byte():
        case 0:
            return section.unsigned()
        case 1:
            _value_type(section)
            section.limits()
        case 2:
            section.limits()
        case 3:
            _value_type(section)
            section.byte()
        case 4:
            section.byte()
            section.unsigned()
        case kind:
            raise Unreadable(f"an import of the kind {kind}")
    return None


# Types. Those that wasmtime refuses are read too, so that a refusal can name the function.

_NUMBERS = frozenset((0x7F, 0x7E, 0x7D, 0x7C))
_PACKED = frozenset((0x78, 0x77))
_FUNCREF, _V128 = 0x70, 0x7B
_REFERENCES = {
    0x6F: "externref",
    0x6E: "anyref",
    0x6D: "eqref",
    0x6C: "i31ref",
    0x6B: "structref",
    0x6A: "arrayref",
    0x69: "exnref",
    0x68: "contref",
    0x71: "nullref",
    0x72: "nullexternref",
    0x73: "nullfuncref",
    0x74: "nullexnref",
    0x75: "nullcontref",
}
_NULLABLE, _NOT_NULLABLE = 0x63, 0x64
_FUNCTION_TYPE, _STRUCT, _ARRAY, _CONTINUATION = 0x60, 0x5F, 0x5E, 0x5D
_GROUP, _SUBTYPE, _FINAL_SUBTYPE = 0x4E, 0x50, 0x4F


def _value_type(section: Reader) -> str | None:
    """Reads a type; its name if it isn't passed between modules and hosts."""
    kind = section.byte()
    if kind in _NUMBERS or kind == _FUNCREF:
        return None
    if kind == _V128:
        return "v128"
    if kind in (_NULLABLE, _NOT_NULLABLE):
        section.unsigned()  # what it refers to
        return "a typed reference"
    if kind not in _REFERENCES:
        raise Unreadable(f"a type of the kind {kind:#x}")
    return _REFERENCES[kind]


def _recursion_group(section: Reader) -> list[str | None]:
    """Reads one entry of the type section, which may define several types: for each the first type in its signature
    that isn't passed."""
    kind = section.byte()
    if kind == _GROUP:
        return [_defined(section, section.byte()) for _ in range(section.unsigned())]
    return [_defined(section, kind)]


def _defined(section: Reader, kind: int) -> str | None:
    if kind in (_SUBTYPE, _FINAL_SUBTYPE):
        for _ in range(section.unsigned()):
            section.unsigned()
        kind = section.byte()
    if kind == _FUNCTION_TYPE:
        params = [_value_type(section) for _ in range(section.unsigned())]
        results = [_value_type(section) for _ in range(section.unsigned())]
        return next(filter(None, params + results), None)
    if kind in (_STRUCT, _ARRAY):
        for _ in range(section.unsigned() if kind == _STRUCT else 1):
            if section.at < section.end and section.wasm[section.at] in _PACKED:
                section.byte()
            else:
                _value_type(section)
            section.byte()  # whether it changes
    elif kind == _CONTINUATION:
        section.unsigned()
    else:
        raise Unreadable(f"a type of the kind {kind:#x}")
    return None
