"""Components that do whatever a script says: they import all that a release of WASI has, and call any of it, and any
built-in function of the canonical ABI, with any arguments.

A component is compiled once, and its scripts are bytes that are put into its memory, so that thousands of them run in
the time that one component takes to compile. The core code is a small machine: an instruction is the number of a
function (16 bits) and its operands, each a kind (32 bits) and a value (64 bits); see `Operand`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cache

from bindgen.runtime import Import
from slight_py.component import system
from slight_py.component.types import (
    Borrow,
    Case,
    CoreFuncType,
    Enum,
    Field,
    Flags,
    FuncType,
    FutureOf,
    ListOf,
    OptionOf,
    Own,
    Primitive,
    Record,
    ResourceType,
    ResultOf,
    StreamOf,
    TupleOf,
    ValueType,
    Variant,
    lowered_core_type,
)

FAMILIES = {
    "wasi:http/outgoing-handler@0.2.12": "capabilities.bindings.wasi_http_0_2.outgoing_handler",
    "wasi:http/client@0.3.0": "capabilities.bindings.wasi_http_0_3.client",
    "wasi:keyvalue/store@0.2.0-draft2": "capabilities.bindings.wasi_keyvalue_0_2_0_draft2.store",
    "wasi:keyvalue/atomics@0.2.0-draft2": "capabilities.bindings.wasi_keyvalue_0_2_0_draft2.atomics",
    "wasi:keyvalue/batch@0.2.0-draft2": "capabilities.bindings.wasi_keyvalue_0_2_0_draft2.batch",
    "wasi:config/store@0.2.0-rc.1": "capabilities.bindings.wasi_config_0_2_0_rc_1.store",
}
"""Interfaces of capabilities that are granted, and their generated modules."""

ENCODINGS = ("utf8", "utf16", "latin1+utf16")


# What is where in the memory of such a component.

CELLS_AT = 256
"""Numbers that the script keeps: 8 bytes each, the last handle of each sort among them."""
DATA_AT = 4096
OUT_AT = 16384
SCRIPT_AT = 32768
ALLOCATOR_SCRIPT_AT = 120_000
"""What the allocator does where it doesn't only allocate."""
HEAP_AT = 131_072
EVENT_CELL = 0
"""The first of three cells for the event that a callback is told."""


class Operand(IntEnum):
    """What an operand stands for."""

    VALUE = 0
    CELL = 1
    """The 32 bits at an address."""
    HANDLE = 2
    """The 32 bits at an address without the lowest four: a subtask, as a call says it."""
    END = 3
    """An address counted from the memory's end."""
    WAIT = 4
    """What a callback returns to wait for the set whose handle is at an address."""


class Step(IntEnum):
    """Instructions that call nothing of the host's."""

    STOP = 0
    """Returns its operand, which ends the call of core code; the next one goes on behind that."""
    STORE8 = 1
    STORE32 = 2
    STORE64 = 3
    COPY = 4
    """32 bits from the second address to the first one."""
    FOLLOW = 5
    """The same, from behind a pointer: what the pointer at the second address points to, at a distance."""
    GROW = 6
    TRAP = 7
    FOREVER = 8
    AGAIN = 9
    """Goes back to an address of the script, as often as said; counts in a cell."""
    NEST = 10
    """Runs a script at an address within this one."""
    SKIP = 11
    """Goes on at an address of the script if the byte at the second operand isn't 0."""
    ALLOCATOR = 12
    """Says how the allocator behaves from now on: see `Allocator`."""


class Allocator(IntEnum):
    HONEST = 0
    NULL = 1
    UNALIGNED = 2
    OUTSIDE = 3
    GROWS = 4
    TRAPS = 5
    SCRIPT = 6
    ITSELF = 7
    FOREVER = 8
    LAST_BYTE = 9
    SAME = 10


FIRST_CALL = 16
"""The number of the first function that is imported."""


# Types.

_TOKEN = re.compile(r"->|[A-Za-z0-9_:/.-]+|[<>{}(),]")


class _Parser:
    """Reads structural texts of types: see slight_py.component.types.text."""

    def __init__(self, text: str, resources: dict[str, ResourceType]) -> None:
        self._tokens: list[str] = _TOKEN.findall(text)
        self._at = 0
        self._resources = resources

    def function(self) -> FuncType:
        is_async = self._accept("async")
        self._expect("func")
        self._expect("(")
        params = tuple(Field(*each) for each in self._fields(")"))
        result = self.type() if self._accept("->") else None
        return FuncType(params, result, is_async)

    def type(self) -> ValueType:
        found = self._optional()
        assert found is not None
        return found

    def _optional(self) -> ValueType | None:
        word = self._next()
        match word:
            case "_":
                return None
            case "list" | "option" | "result" | "tuple":
                return self._made_of(word, self._arguments())
            case "stream" | "future":
                made = StreamOf if word == "stream" else FutureOf
                return made(self._arguments()[0] if self._peek() == "<" else None)
            case "own" | "borrow":
                self._expect("<")
                key = self._next()
                self._expect(">")
                return (Own if word == "own" else Borrow)(self._resource(key))
            case "record":
                self._expect("{")
                return Record(tuple(Field(*each) for each in self._fields("}")))
            case "variant":
                self._expect("{")
                return Variant(tuple(self._cases()))
            case "enum" | "flags":
                self._expect("{")
                names = tuple(self._names())
                return Enum(names) if word == "enum" else Flags(names)
        return Primitive(word)

    def _made_of(self, word: str, parts: list[ValueType | None]) -> ValueType:
        if word == "result":
            return ResultOf(*parts)
        given = [each for each in parts if each is not None]
        if word == "tuple":
            return TupleOf(tuple(given))
        return ListOf(given[0]) if word == "list" else OptionOf(given[0])

    def _resource(self, key: str) -> ResourceType:
        interface, _, name = key.rpartition("/")
        return self._resources.setdefault(key, ResourceType(name, interface))

    def _arguments(self) -> list[ValueType | None]:
        self._expect("<")
        found = [self._optional()]
        while not self._accept(">"):
            self._expect(",")
            found.append(self._optional())
        return found

    def _fields(self, end: str) -> Iterator[tuple[str, ValueType]]:
        while not self._accept(end):
            name = self._next().rstrip(":")
            yield name, self.type()
            self._accept(",")

    def _cases(self) -> Iterator[Case]:
        while not self._accept("}"):
            name = self._next()
            payload = None
            if self._accept("("):
                payload = self.type()
                self._expect(")")
            yield Case(name, payload)
            self._accept(",")

    def _names(self) -> Iterator[str]:
        while not self._accept("}"):
            yield self._next()
            self._accept(",")

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]

    def _accept(self, token: str) -> bool:
        if self._peek() == token:
            self._at += 1
            return True
        return False

    def _expect(self, token: str) -> None:
        found = self._next()
        assert found == token, (found, token, self._tokens)


class _Printer:
    """Writes types in the text format: definitions, innermost first."""

    def __init__(self, resource_names: dict[str, str], prefix: str = "t", names_types: bool = False) -> None:
        """With `names_types`, those that need a name where they are imported are exported."""
        self._resource_names = resource_names
        self._prefix = prefix
        self._names_types = names_types
        self.known: dict[ValueType, str] = {}
        """What types are called."""
        self.exported: dict[ValueType, str] = {}
        """The names of those that are exported."""
        self.lines: list[str] = []

    def of(self, type_: ValueType) -> str:
        """What a type is called."""
        if isinstance(type_, Primitive):
            return type_.name
        if type_ not in self.known:
            definition = self._definition(type_)
            name = f"${self._prefix}{len(self.lines)}"
            self.lines.append(f"(type {name} {definition})")
            if self._names_types and isinstance(type_, Record | Variant | Enum | Flags):
                self.exported[type_] = f"type-{len(self.exported)}"
                self.lines.append(f'(export "{self.exported[type_]}" (type {name}-named (eq {name})))')
                name += "-named"
            self.known[type_] = name
        return self.known[type_]

    def function(self, type_: FuncType) -> str:
        params = " ".join(f'(param "{each.name}" {self.of(each.type)})' for each in type_.params)
        result = f"(result {self.of(type_.result)})" if type_.result is not None else ""
        return f"(func {'async' if type_.is_async else ''} {params} {result})"

    def _definition(self, type_: ValueType) -> str:
        match type_:
            case Own() | Borrow():
                word = "own" if isinstance(type_, Own) else "borrow"
                return f"({word} {self._resource_names[type_.resource.key]})"
            case Enum() | Flags():
                names = " ".join(f'"{name}"' for name in type_.names)
                return f"({'enum' if isinstance(type_, Enum) else 'flags'} {names})"
            case Record():
                fields = " ".join(f'(field "{each.name}" {self.of(each.type)})' for each in type_.fields)
                return f"(record {fields})"
            case Variant():
                cases = (f'(case "{each.name}" {self._maybe(each.type)})' for each in type_.cases)
                return f"(variant {' '.join(cases)})"
            case ResultOf():
                error = f"(error {self.of(type_.err)})" if type_.err is not None else ""
                return f"(result {self._maybe(type_.ok)} {error})"
            case StreamOf() | FutureOf():
                word = "stream" if isinstance(type_, StreamOf) else "future"
                return f"({word} {self._maybe(type_.element)})"
        word = {ListOf: "list", OptionOf: "option", TupleOf: "tuple"}[type(type_)]
        return f"({word} {' '.join(map(self.of, type_.parts()))})"

    def _maybe(self, type_: ValueType | None) -> str:
        return "" if type_ is None else self.of(type_)


def resources_in(type_: ValueType) -> Iterator[ResourceType]:
    """The resource types that occur in a type."""
    if isinstance(type_, Own | Borrow):
        yield type_.resource
    for part in type_.parts():
        yield from resources_in(part)


def parts_of(function: FuncType) -> list[ValueType]:
    return [each.type for each in function.params] + ([] if function.result is None else [function.result])


# What a component can call.


@dataclass(frozen=True)
class Call:
    """Something that a script can call."""

    name: str
    """Of an import with its interface, or of a built-in function."""
    core: CoreFuncType
    function: FuncType | None = None
    """What it's lowered from; None for a built-in function."""
    is_async: bool = False
    about: ValueType | ResourceType | None = None
    """The stream, the future or the resource that a built-in function is about."""


@dataclass
class World:
    """A component and what its scripts can call."""

    name: str
    text: str
    calls: list[Call]
    given: dict[str, str] = field(default_factory=dict)
    """The sorts of handles that an exported function gets, by its name and in order."""
    cells: dict[str, int] = field(default_factory=dict)
    """The cell of each sort of handle, as an address."""

    def __post_init__(self) -> None:
        self._numbers = {id(call): number for number, call in enumerate(self.calls, FIRST_CALL)}

    def number(self, call: Call) -> int:
        """Of the instruction that makes a call."""
        return self._numbers[id(call)]


def sort_of(type_: ValueType | ResourceType) -> str:
    """What handles are told apart by: a resource's key, or the text of a readable end."""
    from slight_py.component.types import text

    if isinstance(type_, ResourceType):
        return type_.key
    if isinstance(type_, Own | Borrow):
        return type_.resource.key
    return text(type_)


# fmt: off
_PLAIN = {
    "waitable-set.new": ((), "i"), "waitable-set.drop": (("i",), ""), "waitable.join": (("i", "i"), ""),
    "subtask.drop": (("i",), ""), "subtask.cancel": (("i",), "i"), "subtask.cancel async": (("i",), "i"),
    "task.cancel": ((), ""), "backpressure.inc": ((), ""), "backpressure.dec": ((), ""), "thread.yield": ((), "i"),
    "context.get i32 0": ((), "i"), "context.set i32 0": (("i",), ""),
}
_WITH_MEMORY = {
    "waitable-set.wait": (("i", "i"), "i"), "waitable-set.poll": (("i", "i"), "i"),
}
_OF_CHANNELS = {
    "new": ((), "I"), "read": (("i", "i", "i"), "i"), "read async": (("i", "i", "i"), "i"),
    "write": (("i", "i", "i"), "i"), "write async": (("i", "i", "i"), "i"),
    "cancel-read": (("i",), "i"), "cancel-read async": (("i",), "i"),
    "cancel-write": (("i",), "i"), "cancel-write async": (("i",), "i"),
    "drop-readable": (("i",), ""), "drop-writable": (("i",), ""),
}
# fmt: on
"""Parameters and result of the built-in functions, a letter each."""

_CORE = {"i": "i32", "I": "i64", "f": "f32", "d": "f64"}
_LETTER = {core: letter for letter, core in _CORE.items()}


def _core(signature: tuple[Sequence[str], str]) -> CoreFuncType:
    params, result = signature
    return CoreFuncType(tuple(_CORE[each] for each in params), tuple(_CORE[each] for each in result))


class _Builder:
    """Writes the text of one component."""

    def __init__(self, encoding: str) -> None:
        self.resources: dict[str, ResourceType] = {}
        self.names: dict[str, str] = {}
        """How the text calls a resource type, by its key."""
        self.lines: list[str] = []
        self.calls: list[Call] = []
        self._options = f'(memory (core memory $libc "memory")) string-encoding={encoding}'
        self.realloc = '(realloc (core func $libc "realloc"))'
        self.printer = _Printer(self.names, "c")
        self._printed = 0

    @property
    def options(self) -> str:
        return f"{self._options} {self.realloc}"

    def imports(self, interfaces: dict[str, str]) -> None:
        """Imports interfaces by the names of their generated modules."""
        functions = {name: self._functions(module) for name, module in interfaces.items()}
        ordered = _ordered(functions)
        for number, name in enumerate(ordered):
            self._interface(f"$i{number}", name, functions[name])
        self.lines.append(_LIBC)
        for number, name in enumerate(ordered):
            for definition, type_ in functions[name]:
                self._lower(f"$i{number}", name, definition, type_)

    def _functions(self, module: str) -> list[tuple[Import, FuncType]]:
        definitions = importlib.import_module(module).IMPORTS
        return [(each, _Parser(each.type, self.resources).function()) for each in definitions]

    def _interface(self, variable: str, name: str, functions: list[tuple[Import, FuncType]]) -> None:
        plain = name.partition("@")[0]
        used = {each.key: each for _, type_ in functions for part in parts_of(type_) for each in resources_in(part)}
        for definition, _ in functions:  # a resource of which only methods speak, or nobody
            if definition.name.startswith("["):
                owner = definition.name.partition("]")[2].partition(".")[0]
                key = f"{plain}/{owner}"
                self.resources.setdefault(key, ResourceType(owner, plain))
        used |= {key: each for key, each in self.resources.items() if each.interface == plain}
        inner: dict[str, str] = {}
        lines = []
        for count, (key, resource) in enumerate(used.items()):
            inner[key] = f"$r{count}"
            if resource.interface == plain:
                lines.append(f'(export "{resource.name}" (type $r{count} (sub resource)))')
            else:
                lines.append(f"(alias outer 1 {self.names[key]} (type $r{count}))")
        printer = _Printer(inner, names_types=True)
        exports = [f'(export "{definition.name}" {printer.function(type_)})' for definition, type_ in functions]
        self.lines.append(f'(import "{name}" (instance {variable} {" ".join([*lines, *printer.lines, *exports])}))')
        for key, resource in used.items():
            if resource.interface == plain:
                self.names[key] = f"$res{len(self.names)}"
                self.lines.append(f'(alias export {variable} "{resource.name}" (type {self.names[key]}))')
        for type_, called in printer.exported.items():
            if type_ not in self.printer.known:
                self.printer.known[type_] = f"$named{len(self.printer.known)}"
                self.lines.append(f'(alias export {variable} "{called}" (type {self.printer.known[type_]}))')

    def _lower(self, variable: str, interface: str, definition: Import, type_: FuncType) -> None:
        for is_async in (False, True):
            if is_async and definition.call_async is None:
                continue
            options = f"{self.options}{' async' if is_async else ''}"
            core = lowered_core_type(type_, is_async)
            call = Call(f"{interface}#{definition.name}", core, type_, is_async)
            self.add(call, f'lower (func {variable} "{definition.name}") {options}')

    def add(self, call: Call, canonical: str) -> None:
        for line in self.printer.lines[self._printed :]:
            self.lines.append(line)
        self._printed = len(self.printer.lines)
        self.lines.append(f"(core func $f{len(self.calls)} (canon {canonical}))")
        self.calls.append(call)

    def drops(self) -> None:
        for key, resource in self.resources.items():
            self.add(Call("resource.drop", _core(("i", "")), about=resource), f"resource.drop {self.names[key]}")

    def asynchronous(self, results: Sequence[ValueType | None]) -> None:
        """The built-in functions for tasks, and those for all streams and futures that functions mention; `results` are
        those that exported functions may return."""
        for name, signature in _PLAIN.items():
            self.add(Call(name, _core(signature)), name)
        for name, signature in _WITH_MEMORY.items():
            self.add(Call(name, _core(signature)), f'{name} (memory (core memory $libc "memory"))')
        for type_ in self._channels(results):
            self._channel(type_)
        for result in results:
            params = () if result is None else (Field("result", result),)
            core = lowered_core_type(FuncType(params, None), False)
            given = "" if result is None else f"(result {self.printer.of(result)})"
            call = Call("task.return", core, FuncType(params, None))
            self.add(call, f"task.return {given} {self._options}")

    def _channels(self, results: Sequence[ValueType | None]) -> list[StreamOf | FutureOf]:
        found: dict[StreamOf | FutureOf, None] = {}

        def look(type_: ValueType) -> None:
            for part in type_.parts():
                look(part)
            if isinstance(type_, StreamOf | FutureOf):
                found[type_] = None

        for call in self.calls:
            for part in parts_of(call.function) if call.function is not None else ():
                look(part)
        for result in results:
            if result is not None:
                look(result)
        return [*found]

    def _channel(self, type_: StreamOf | FutureOf) -> None:
        is_future = isinstance(type_, FutureOf)
        name = self.printer.of(type_)
        for operation, (params, result) in _OF_CHANNELS.items():
            word, *flags = operation.split()
            if is_future and word in ("read", "write"):
                params = params[:2]
            options = " ".join(flags)
            if word in ("read", "write"):
                options = f"{self.options} {options}"
            kind = "future" if is_future else "stream"
            call = Call(f"{kind}.{operation}", _core((params, result)), about=type_)
            self.add(call, f"{kind}.{word} {name} {options}")

    def main(self) -> str:
        """The core module that runs scripts, and its instance."""
        imports = "".join(
            f'(import "" "f{number}" (func $f{number} {_signature(call.core)}))'
            for number, call in enumerate(self.calls)
        )
        given = " ".join(f'(export "f{number}" (func $f{number}))' for number in range(len(self.calls)))
        functions = "".join(_machine_call(number, call.core) for number, call in enumerate(self.calls))
        table = " ".join(f"$c{number}" for number in range(len(self.calls)))
        return f"""
          (core module $m
            (import "libc" "memory" (memory 4)) (import "libc" "hook" (table $hook 1 funcref))
            (import "libc" "mode" (global $mode (mut i32)))
            {imports} {_MACHINE} {functions}
            (table $steps funcref (elem {_STEPS} {table})))
          (core instance $m (instantiate $m (with "libc" (instance $libc)) (with "" (instance {given}))))"""


def _ordered(functions: dict[str, list[tuple[Import, FuncType]]]) -> list[str]:
    """Interfaces, each after those whose resources it uses."""
    found: list[str] = []

    def place(name: str) -> None:
        if name in found:
            return
        plain = {each.partition("@")[0]: each for each in functions}
        for _, type_ in functions[name]:
            for part in parts_of(type_):
                for resource in resources_in(part):
                    if resource.interface != name.partition("@")[0]:
                        place(plain[resource.interface])
        found.append(name)

    for name in functions:
        place(name)
    return found


def _signature(core: CoreFuncType) -> str:
    return f"(param {' '.join(core.params)}) (result {' '.join(core.results)})"


_OPERANDS = {
    "i32": "(i32.wrap_i64 (call $operand))",
    "i64": "(call $operand)",
    "f32": "(f32.reinterpret_i32 (i32.wrap_i64 (call $operand)))",
    "f64": "(f64.reinterpret_i64 (call $operand))",
}


def _machine_call(number: int, core: CoreFuncType) -> str:
    """The instruction that calls an import, and stores its result where the last operand says."""
    made = f"(call $f{number} {' '.join(_OPERANDS[each] for each in core.params)})"
    if not core.results:
        return f"(func $c{number} {made})"
    (result,) = core.results
    store = f"({result}.store (i32.wrap_i64 (call $operand)) (local.get $made))"
    return f"(func $c{number} (local $made {result}) (local.set $made {made}) {store})"


_LIBC = f"""
(core module $libc-module
  (memory (export "memory") 4)
  (table $hook (export "hook") 1 funcref)
  (global $mode (export "mode") (mut i32) (i32.const 0))
  (global $free (mut i32) (i32.const {HEAP_AT}))
  (type $script (func (param i32) (result i32)))
  (func $honest (param $align i32) (param $size i32) (result i32) (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
    (global.set $free (i32.add (local.get $at) (local.get $size)))
    (loop $grow
      (if (i32.gt_u (global.get $free) (i32.mul (memory.size) (i32.const 65536)))
        (then
          (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then (unreachable)))
          (br $grow))))
    (local.get $at))
  (func $realloc (export "realloc") (param $old i32) (param $was i32) (param $align i32) (param $size i32) (result i32)
    (block $same (block $last (block $forever (block $itself (block $script (block $traps (block $grows
    (block $outside (block $unaligned (block $null (block $honest
      (br_table $honest $null $unaligned $outside $grows $traps $script $itself $forever $last $same $honest
        (global.get $mode)))
      (return (call $honest (local.get $align) (local.get $size))))
      (return (i32.const 0)))
      (return (i32.const {HEAP_AT + 1})))
      (return (i32.const -16)))
      (drop (memory.grow (i32.const 1)))
      (return (call $honest (local.get $align) (local.get $size))))
      (unreachable))
      (return (call_indirect $hook (type $script) (i32.const {ALLOCATOR_SCRIPT_AT}) (i32.const 0))))
      (return (call $realloc (local.get $old) (local.get $was) (local.get $align) (local.get $size))))
      (loop $again (br $again)) unreachable)
      (return (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1))))
      (i32.const {HEAP_AT})))
(core instance $libc (instantiate $libc-module))
"""

_STEPS = (
    "$none $store8 $store32 $store64 $copy $follow $grow $trap $forever $again $nest $skip $allocator $none $none $none"
)

_MACHINE = """
  (global $pc (mut i32) (i32.const 0))
  (global $next (mut i32) (i32.const 0))
  (type $step (func))
  (func $operand (result i64) (local $kind i32) (local $value i64)
    (local.set $kind (i32.load align=1 (global.get $pc)))
    (local.set $value (i64.load offset=4 align=1 (global.get $pc)))
    (global.set $pc (i32.add (global.get $pc) (i32.const 12)))
    (if (i32.eq (local.get $kind) (i32.const 1))
      (then (return (i64.load32_u align=1 (i32.wrap_i64 (local.get $value))))))
    (if (i32.eq (local.get $kind) (i32.const 2))
      (then (return (i64.shr_u (i64.load32_u align=1 (i32.wrap_i64 (local.get $value))) (i64.const 4)))))
    (if (i32.eq (local.get $kind) (i32.const 3))
      (then (return (i64.add (local.get $value) (i64.extend_i32_u (i32.mul (memory.size) (i32.const 65536)))))))
    (if (i32.eq (local.get $kind) (i32.const 4))
      (then (return (i64.or (i64.const 2)
        (i64.shl (i64.load32_u align=1 (i32.wrap_i64 (local.get $value))) (i64.const 4))))))
    (local.get $value))
  (func $number (result i32) (i32.wrap_i64 (call $operand)))
  (func $run (param $at i32) (result i32) (local $step i32)
    (global.set $pc (local.get $at))
    (loop $on
      (local.set $step (i32.load16_u align=1 (global.get $pc)))
      (global.set $pc (i32.add (global.get $pc) (i32.const 2)))
      (if (i32.eqz (local.get $step)) (then (return (call $number))))
      (call_indirect $steps (type $step) (local.get $step))
      (br $on))
    unreachable)
  (elem (table $hook) (i32.const 0) func $run)
  (func $none)
  (func $store8 (i32.store8 (call $number) (call $number)))
  (func $store32 (i32.store align=1 (call $number) (call $number)))
  (func $store64 (i64.store align=1 (call $number) (call $operand)))
  (func $copy (i32.store align=1 (call $number) (i32.load align=1 (call $number))))
  (func $follow
    (i32.store align=1 (call $number) (i32.load align=1 (i32.add (i32.load align=1 (call $number)) (call $number)))))
  (func $grow (drop (memory.grow (call $number))))
  (func $trap unreachable)
  (func $forever (loop $again (br $again)))
  (func $again (local $cell i32) (local $most i32) (local $to i32)
    (local.set $cell (call $number)) (local.set $most (call $number)) (local.set $to (call $number))
    (i32.store align=1 (local.get $cell) (i32.add (i32.load align=1 (local.get $cell)) (i32.const 1)))
    (if (i32.lt_u (i32.load align=1 (local.get $cell)) (local.get $most)) (then (global.set $pc (local.get $to)))))
  (func $nest (local $to i32) (local $back i32)
    (local.set $to (call $number)) (local.set $back (global.get $pc))
    (drop (call $run (local.get $to)))
    (global.set $pc (local.get $back)))
  (func $skip (local $to i32)
    (local.set $to (call $number))
    (if (i32.load8_u (call $number)) (then (global.set $pc (local.get $to)))))
  (func $allocator (global.set $mode (call $number)))
"""


def _export(name: str, params: Sequence[str], cells: Sequence[int], has_result: bool) -> str:
    """An exported function that keeps its arguments in cells and runs the script."""
    named = " ".join(f"(param $p{number} i32)" for number in range(len(params)))
    kept = " ".join(
        f"(i32.store (i32.const {cell}) (local.get $p{number}))" for number, cell in enumerate(cells[: len(params)])
    )
    run = f"(local.set $result (call $run (i32.const {SCRIPT_AT}))) (global.set $next (global.get $pc))"
    returned = "(local.get $result)" if has_result else ""
    return f"""(func (export "{name}") {named} {"(result i32)" if has_result else ""} (local $result i32)
      {kept} {run} {returned})"""


_CALLBACK = f"""
(func (export "callback") (param i32 i32 i32) (result i32) (local $result i32)
  (i32.store (i32.const {CELLS_AT}) (local.get 0))
  (i32.store (i32.const {CELLS_AT + 8}) (local.get 1))
  (i32.store (i32.const {CELLS_AT + 16}) (local.get 2))
  (local.set $result (call $run (global.get $next)))
  (global.set $next (global.get $pc))
  (local.get $result))
"""


def _cells(builder: _Builder) -> dict[str, int]:
    """A cell for each sort of handle, behind those for events and for counting."""
    sorts: dict[str, None] = dict.fromkeys(("set", "subtask"))
    for call in builder.calls:
        if call.about is not None:
            sorts[sort_of(call.about)] = None
            if isinstance(call.about, StreamOf | FutureOf):
                sorts[f"writable {sort_of(call.about)}"] = None
    return {sort: CELLS_AT + 8 * (32 + number) for number, sort in enumerate(sorts)}


def _interfaces(release: str) -> dict[str, str]:
    """What a component of a release of WASI imports: that, and the capabilities beside it."""
    found = {}
    of_wasi = {name: system.bindings(name)[name] for name in sorted(system.interfaces())}
    for name, module in {**of_wasi, **FAMILIES}.items():
        is_0_3 = name.endswith("@0.3.0")
        if is_0_3 != (release == "0.3"):
            continue
        found[getattr(importlib.import_module(module), "INTERFACE", name)] = module
    return found


@cache
def release_0_2(encoding: str) -> World:
    """All of WASI 0.2: answers requests, and is a program."""
    builder = _Builder(encoding)
    builder.imports(_interfaces("0.2"))
    builder.drops()
    cells = _cells(builder)
    given = ("wasi:http/types/incoming-request", "wasi:http/types/response-outparam")
    request, outparam = (builder.names[each] for each in given)
    main = builder.main().replace(
        "(table $steps",
        _export("handle", ("i", "i"), [cells[each] for each in given], False) + _export("run", (), (), True)
        + "(table $steps",
    )  # fmt: skip
    text = f"""(component {" ".join(builder.lines)} {main}
      (type $own-request (own {request})) (type $own-outparam (own {outparam}))
      (func $handle (param "request" $own-request) (param "response-out" $own-outparam)
        (canon lift (core func $m "handle") {builder.options}))
      (func $run (result (result)) (canon lift (core func $m "run") {builder.options}))
      (instance $handler (export "handle" (func $handle)))
      (instance $program (export "run" (func $run)))
      (export "wasi:http/incoming-handler@0.2.12" (instance $handler))
      (export "wasi:cli/run@0.2.12" (instance $program)))"""
    return World(f"0.2 {encoding}", text, builder.calls, {"handle": " ".join(given), "run": ""}, cells)


LIFTS = ("callback", "stackful", "sync")


@cache
def release_0_3(encoding: str, lift: str) -> World:
    """All of WASI 0.3, whose functions are lifted in one of the ways in LIFTS."""
    builder = _Builder(encoding)
    builder.imports(_interfaces("0.3"))
    builder.drops()
    code = _Parser(_error_code(), builder.resources).type()
    response = Own(builder.resources["wasi:http/types/response"])
    answered, ended = ResultOf(response, code), ResultOf(None, None)
    builder.asynchronous((answered, ended))
    cells = _cells(builder)
    given = "wasi:http/types/request"
    has_result = lift != "stackful"
    functions = _export("handle", ("i",), [cells[given]], has_result) + _export("run", (), (), has_result) + _CALLBACK
    main = builder.main().replace("(table $steps", functions + "(table $steps")
    options = {
        "callback": 'async (callback (core func $m "callback"))',
        "stackful": "async",
        "sync": "",
    }[lift]
    request = Own(builder.resources[given])
    names = builder.printer.of(request), builder.printer.of(answered), builder.printer.of(ended)
    text = f"""(component {" ".join(builder.lines)} {main}
      {" ".join(builder.printer.lines[builder._printed :])}
      (func $handle async (param "request" {names[0]}) (result {names[1]})
        (canon lift (core func $m "handle") {builder.options} {options}))
      (func $run async (result {names[2]}) (canon lift (core func $m "run") {builder.options} {options}))
      (instance $handler (export "handle" (func $handle)))
      (instance $program (export "run" (func $run)))
      (export "wasi:http/handler@0.3.0" (instance $handler))
      (export "wasi:cli/run@0.3.0" (instance $program)))"""
    return World(f"0.3 {encoding} {lift}", text, builder.calls, {"handle": given, "run": ""}, cells)


def _error_code() -> str:
    from capabilities.bindings.wasi_http_0_3 import types

    return str(types.ERROR_CODE_TYPE)


def named(name: str) -> World:
    """A world by its name."""
    release, encoding, *lift = name.split()
    return release_0_2(encoding) if release == "0.2" else release_0_3(encoding, *lift)


NAMES: Iterable[str] = (
    *(f"0.2 {encoding}" for encoding in ENCODINGS),
    *(f"0.3 {encoding} {lift}" for encoding, lift in zip(ENCODINGS, LIFTS, strict=True)),
    "0.3 utf8 stackful",
    "0.3 latin1+utf16 callback",
)
