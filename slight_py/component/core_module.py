"""What a core module imports and exports, read from its binary. Its code and its data are passed over.

Section numbers and layouts are those of the WebAssembly specification, "Binary Format". What is wrong inside of code
is wasmtime's to say, which compiles the module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from slight_py.component.errors import InvalidComponent
from slight_py.component.plan import CoreKind
from slight_py.component.reading import Reader
from slight_py.component.types import (
    CoreExternType,
    CoreFuncType,
    GlobalType,
    Limits,
    MemoryType,
    ModuleType,
    TableType,
    TagType,
)

PREAMBLE = b"\0asm\x01\0\0\0"
MAX_ENTRIES = 1_000_000
"""Of any section; wasmtime's limit for most of them."""
MAX_PARAMS = 1_000

CUSTOM, TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT, TAG = 0, 1, 2, 3, 4, 5, 6, 7, 13
KINDS: dict[int, CoreKind] = {0: "func", 1: "table", 2: "memory", 3: "global", 4: "tag"}

CoreType: TypeAlias = CoreFuncType | None
"""None for a struct, an array or a continuation, which nothing here looks into."""

_VALUES = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64", 0x7B: "v128"}
_HEAP_TYPES = {
    0x70: "func",
    0x6F: "extern",
    0x6E: "any",
    0x6D: "eq",
    0x6C: "i31",
    0x6B: "struct",
    0x6A: "array",
    0x69: "exn",
    0x68: "cont",
    0x71: "none",
    0x72: "noextern",
    0x73: "nofunc",
    0x74: "noexn",
    0x75: "nocont",
}
_NULLABLE, _NOT_NULLABLE, _SHARED = 0x63, 0x64, 0x65
_FUNCTION_TYPE, _STRUCT, _ARRAY, _CONTINUATION = 0x60, 0x5F, 0x5E, 0x5D
_GROUP, _SUBTYPE, _FINAL_SUBTYPE = 0x4E, 0x50, 0x4F
_PACKED = (0x78, 0x77)


def value_type(reader: Reader) -> str:
    kind = reader.peek()
    if kind in _VALUES:
        reader.byte()
        return _VALUES[kind]
    return reference_type(reader)


def reference_type(reader: Reader) -> str:
    kind = reader.byte()
    if kind in _HEAP_TYPES:
        return f"(ref null {_HEAP_TYPES[kind]})"
    if kind in (_NULLABLE, _NOT_NULLABLE):
        return f"(ref {'null ' * (kind == _NULLABLE)}{_heap_type(reader)})"
    raise reader.invalid(f"{kind:#x} is no type of core WebAssembly", reader.at - 1)


def _heap_type(reader: Reader) -> str:
    kind = reader.peek()
    if kind == _SHARED:
        raise reader.unsupported("types shared between threads are not supported")
    if kind in _HEAP_TYPES:
        reader.byte()
        return _HEAP_TYPES[kind]
    return str(reader.index())


def function_type(reader: Reader) -> CoreFuncType:
    params = reader.many("parameters of a core function", MAX_PARAMS, lambda: value_type(reader))
    results = reader.many("results of a core function", MAX_PARAMS, lambda: value_type(reader))
    return CoreFuncType(tuple(params), tuple(results))


def type_group(reader: Reader) -> list[CoreType]:
    """An entry of a type section, which may define several types that refer to each other."""
    if reader.peek() == _GROUP:
        reader.byte()
        return reader.many("types", MAX_ENTRIES, lambda: _defined(reader))
    return [_defined(reader)]


def _defined(reader: Reader) -> CoreType:
    kind = reader.byte()
    if kind in (_SUBTYPE, _FINAL_SUBTYPE):
        reader.many("supertypes", 1, reader.u32)
        kind = reader.byte()
    match kind:
        case 0x60:
            return function_type(reader)
        case 0x5F:
            reader.many("fields", 10_000, lambda: _struct_field(reader))
        case 0x5E:
            _struct_field(reader)
        case 0x5D:
            reader.u32()
        case _:
            raise reader.invalid(f"{kind:#x} is no type definition of core WebAssembly", reader.at - 1)
    return None


def _struct_field(reader: Reader) -> None:
    if reader.peek() in _PACKED:
        reader.byte()
    else:
        value_type(reader)
    reader.flag()


def limits(reader: Reader) -> Limits:
    return _limits(reader)[0]


def _limits(reader: Reader, has_page_size: bool = False) -> tuple[Limits, int]:
    """The limits of a table or a memory, and the size of the memory's pages."""
    flags = reader.byte()
    if flags & ~(0b1111 if has_page_size else 0b111):
        raise reader.invalid(f"{flags:#x} are no limits of a table or a memory", reader.at - 1)
    is_64 = bool(flags & 4)
    smallest = _size(reader, is_64)
    largest = _size(reader, is_64) if flags & 1 else None
    if largest is not None and largest < smallest:
        raise reader.invalid(f"a smallest size of {smallest} with a largest of {largest}")
    page_size = 65536
    if flags & 8:
        exponent = reader.u32()
        if exponent not in (0, 16):
            raise reader.invalid(f"pages of 2^{exponent} bytes")
        page_size = 1 << exponent
    return Limits(smallest, largest, is_64, bool(flags & 2)), page_size


def _size(reader: Reader, is_64: bool) -> int:
    if not is_64:
        return reader.u32()
    start = reader.at
    value = 0
    for shift in range(0, 70, 7):
        byte = reader.byte()
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value
    raise reader.invalid("a number of more than 64 bits", start)


def table_type(reader: Reader) -> TableType:
    return TableType(reference_type(reader), limits(reader))


def memory_type(reader: Reader) -> MemoryType:
    at = reader.at
    type_ = MemoryType(*_limits(reader, has_page_size=True))
    largest = (1 << (64 if type_.limits.is_64 else 32)) // type_.page_size
    if max(type_.limits.minimum, type_.limits.maximum or 0) > largest:
        raise reader.invalid(f"a memory of more than {largest:,} pages", at)
    if type_.limits.is_shared and type_.limits.maximum is None:
        raise reader.invalid("a shared memory without a largest size", at)
    return type_


def global_type(reader: Reader) -> GlobalType:
    type_ = value_type(reader)
    return GlobalType(type_, reader.flag())


def tag_type(reader: Reader, types: Sequence[object]) -> TagType:
    if reader.byte() != 0:
        raise reader.invalid("a tag that is no exception", reader.at - 1)
    return TagType(function_of(reader, types, reader.u32()))


def function_of(reader: Reader, types: Sequence[object], index: int) -> CoreFuncType:
    """The function type with the number `index`."""
    found = types[index] if index < len(types) else None
    if not isinstance(found, CoreFuncType):
        raise reader.invalid(f"core type {index} is no type of a function")
    return found


def import_type(reader: Reader, types: Sequence[object]) -> CoreExternType:
    """What is imported, after its names."""
    match reader.byte():
        case 0:
            return function_of(reader, types, reader.u32())
        case 1:
            return table_type(reader)
        case 2:
            return memory_type(reader)
        case 3:
            return global_type(reader)
        case 4:
            return tag_type(reader, types)
        case kind:
            raise reader.invalid(f"{kind:#x} is no kind of import of a core module", reader.at - 1)


class _Module:
    """The index spaces of a core module, as far as imports and exports need them."""

    def __init__(self) -> None:
        self.types: list[CoreType] = []
        self.imports: dict[tuple[str, str], CoreExternType] = {}
        self.functions: list[int | CoreFuncType] = []
        """Type numbers of the module's own functions, types of imported ones."""
        self.spaces: dict[str, list[CoreExternType]] = {"table": [], "memory": [], "global": [], "tag": []}
        self.exports: dict[str, CoreExternType] = {}
        self.name: str | None = None

    def read(self, number: int, section: Reader) -> None:
        match number:
            case 0:
                self._custom(section)
                return
            case 1:
                for _ in range(section.count("types", MAX_ENTRIES)):
                    self.types += type_group(section)
            case 2:
                for _ in range(section.count("imports", MAX_ENTRIES)):
                    self._import(section)
            case 3:
                self.functions += _type_numbers(section)
            case 4:
                self.spaces["table"] += section.many("tables", 100, lambda: self._table(section))
            case 5:
                self.spaces["memory"] += section.many("memories", 100, lambda: memory_type(section))
            case 6:
                self.spaces["global"] += section.many("globals", MAX_ENTRIES, lambda: self._global(section))
            case 7:
                for _ in range(section.count("exports", MAX_ENTRIES)):
                    self._export(section)
            case 13:
                self.spaces["tag"] += section.many("tags", MAX_ENTRIES, lambda: tag_type(section, self.types))
            case _:
                return  # code, data and the like
        section.finish(f"section {number} of a core module")

    def _import(self, section: Reader) -> None:
        start = section.at
        name = (section.name(), section.name())
        type_ = import_type(section, self.types)
        if name in self.imports:
            raise section.invalid(f"a core module imports {name[0]} {name[1]} twice, which can't be told apart", start)
        self.imports[name] = type_
        if isinstance(type_, CoreFuncType):
            self.functions.append(type_)
        else:
            self.spaces[kind_of(type_)].append(type_)

    def _table(self, section: Reader) -> TableType:
        if section.peek() != 0x40:
            return table_type(section)
        section.byte()
        section.expect(0, "before a table with a first value")
        type_ = table_type(section)
        _skip_constant(section)
        return type_

    def _global(self, section: Reader) -> GlobalType:
        type_ = global_type(section)
        _skip_constant(section)
        return type_

    def _export(self, section: Reader) -> None:
        start = section.at
        name = section.name()
        kind = KINDS.get(section.byte())
        index = section.u32()
        if kind is None:
            raise section.invalid(f"the export {name} of a core module is of no known kind", start)
        if name in self.exports:
            raise section.invalid(f"a core module exports {name} twice", start)
        space: Sequence[int | CoreExternType] = self.functions if kind == "func" else self.spaces[kind]
        if index >= len(space):
            raise section.invalid(f"the export {name} of a core module is {kind} {index}, which there is not", start)
        found = space[index]
        self.exports[name] = function_of(section, self.types, found) if isinstance(found, int) else found

    def _custom(self, section: Reader) -> None:
        """Looks for the module's name: subsection 0 of the custom section `name`, which nothing depends on."""
        if section.name() != "name":
            return
        try:
            for number, part in section.sections():
                if number == 0:
                    self.name = part.name()
                    return
        except InvalidComponent:
            return


def _type_numbers(section: Reader) -> Sequence[int]:
    """The function section. It has an entry for every function of the module, so it is read in one go where entries
    are of one byte, as in most modules.
    """
    count = section.count("functions", MAX_ENTRIES)
    numbers = section.wasm[section.at : section.at + count]
    if numbers.isascii():
        section.skip(count)
        return numbers
    return [section.u32() for _ in range(count)]


def _skip_constant(section: Reader) -> None:
    """Passes over a constant expression."""
    while True:
        match section.byte():
            case 0x0B:  # end
                return
            case 0x41 | 0xD0:  # i32.const, ref.null
                section.skip_signed(5)
            case 0x42:  # i64.const
                section.skip_signed(10)
            case 0x43:  # f32.const
                section.skip(4)
            case 0x44:  # f64.const
                section.skip(8)
            case 0x23 | 0xD2:  # global.get, ref.func
                section.u32()
            case 0x6A | 0x6B | 0x6C | 0x7C | 0x7D | 0x7E:  # additions, subtractions and multiplications
                pass
            case 0xFD:  # v128.const
                if section.u32() != 12:
                    raise section.unsupported("a first value of a global that is not a plain constant")
                section.skip(16)
            case 0xFB:
                _skip_gc_instruction(section)
            case other:
                raise section.invalid(f"the instruction {other:#x} in a constant", section.at - 1)


def _skip_gc_instruction(section: Reader) -> None:
    """Passes over the rest of an instruction that makes a struct, an array or an i31."""
    match section.u32():
        case 0 | 1 | 6 | 7:  # struct.new, struct.new_default, array.new, array.new_default
            section.u32()
        case 8:  # array.new_fixed
            section.u32()
            section.u32()
        case 26 | 27 | 28:  # any.convert_extern, extern.convert_any, ref.i31
            pass
        case _:
            raise section.invalid("an instruction that is no constant")


def kind_of(type_: CoreExternType) -> CoreKind:
    match type_:
        case CoreFuncType():
            return "func"
        case TableType():
            return "table"
        case MemoryType():
            return "memory"
        case GlobalType():
            return "global"
        case TagType():
            return "tag"


def read(wasm: bytes, start: int, end: int) -> tuple[ModuleType, str | None]:
    """The type of the core module in a range of a file, and its name. Raises InvalidComponent."""
    reader = Reader(wasm, start, end)
    if wasm[start : min(start + 8, end)] != PREAMBLE:
        raise reader.invalid("what should be a core module doesn't begin as one of version 1 does")
    reader.skip(8)
    module = _Module()
    for number, section in reader.sections():
        module.read(number, section)
    return ModuleType(module.imports, module.exports), module.name
