"""Sees through what wit-component adds to a component, so that most components become one core instance.

A lowered function needs the memory of the module that imports it, which is there only once that module is
instantiated. So wit-component has the module import trampolines of a *shim* module, which call through a table, and a
*fixup* module, instantiated last, puts the lowered functions into that table. Both are recognised here by their every
byte: a trampoline is then what it calls. The start function of a fixup is called when all is instantiated.

And an *adapter* module answers imports of WASI preview 1 by functions of WASI 0.2; slight-py answers preview 1 itself,
and needs no adapter.

What isn't exactly so is left as it is, and runs with all of its core instances.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from slight_py import sections
from slight_py.component.plan import (
    Builtin,
    CoreExport,
    CoreFunction,
    CoreInstance,
    CoreModule,
    ExportedInstance,
    Extern,
    LiftedFunction,
    Lower,
    Options,
    Plan,
)
from slight_py.component.types import CoreFuncType, ModuleType

_WASI = frozenset(("wasi:cli", "wasi:clocks", "wasi:filesystem", "wasi:io", "wasi:random", "wasi:sockets"))
"""The packages that adapters import from. A module that gives preview 1 and imports from others is none."""

TABLE = "$imports"
"""The table of a shim, as it is exported and imported."""

_MAIN = "__main_module__"
"""Where an adapter imports functions of the module from that it was made for."""


@dataclass(frozen=True, slots=True)
class Preview1:
    """A function of WASI preview 1, which slight-py answers itself."""

    name: str
    memory: CoreExport


@dataclass(frozen=True, slots=True)
class Main:
    """`wasi:cli/run`, which runs the `_start` of a module of preview 1 and has no result if that returns."""

    start: CoreExport


Source = CoreFunction | Preview1 | Main


@dataclass(frozen=True, slots=True)
class Step:
    """A core instance that is left: what each of its imports is, in the module's order."""

    instance: CoreInstance
    imports: Sequence[tuple[str, str, Source]]
    code: bytes = b""
    """The core module, where it's none of the component's own."""


@dataclass(slots=True)
class Layout:
    """The core instances of a component that are to be made, in order."""

    steps: list[Step]
    starts: list[CoreExport] = field(default_factory=list)
    """What is called when all is instantiated, without arguments."""
    _shims: Mapping[int, Mapping[str, CoreFunction]] = field(default_factory=dict)
    """What stands behind the trampolines of each shim."""
    _adapters: Mapping[int, _Adapter] = field(default_factory=dict)
    _bridges: dict[Source, CoreExport] = field(default_factory=dict)
    """Canonical functions that the host calls, and the exports that are the same."""

    def called(self, function: CoreFunction) -> Source:
        """What the host calls where it calls a core function."""
        source = self.resolve(function)
        return self._bridges.get(source, source)

    def add_bridges(self, plan: Plan) -> None:
        """Adds a core module for each canonical function that the host calls, as a function that is lifted or as an
        option: only exports can be called, so the module imports it and exports it again."""
        for function in (*_called(plan), *self._allocators()):
            source = self.resolve(function)
            if not isinstance(source, Lower | Builtin) or source in self._bridges:
                continue
            number = len(plan.core_instances) + len(self._bridges)
            type_ = ModuleType({("", _BRIDGED): source.core_type}, {_BRIDGED: source.core_type})
            module = CoreModule(len(plan.modules) + len(self._bridges), 0, 0, None, type_)
            self._bridges[source] = CoreExport(number, _BRIDGED, "func")
            instance = CoreInstance(number, module, (), source.instance)
            self.steps.append(Step(instance, [("", _BRIDGED, source)], _bridge(source.core_type)))

    def _allocators(self) -> list[CoreFunction]:
        sources = [source for step in self.steps for _, _, source in step.imports]
        return [
            each.options.realloc
            for each in sources
            if isinstance(each, Lower | Builtin) and each.options.realloc is not None
        ]

    def resolve(self, source: CoreFunction) -> Source:
        """What a core function is once shims and adapters are gone."""
        while isinstance(source, CoreExport) and source.instance in self._shims:
            behind = self._shims[source.instance].get(source.name)
            if behind is None:
                return source
            source = behind
        if isinstance(source, CoreExport) and source.instance in self._adapters:
            return self._adapters[source.instance].resolve(source)
        return source

    def place(self, export: CoreExport) -> int | None:
        """The place of a core instance among the steps; None for one that is gone."""
        return next((place for place, step in enumerate(self.steps) if step.instance.number == export.instance), None)


@dataclass(frozen=True, slots=True)
class _Adapter:
    memory: CoreExport
    start: CoreExport | None
    functions: Mapping[str, CoreFuncType]
    """Those of preview 1 that are answered here."""

    def resolve(self, source: CoreExport) -> Source:
        if source.name in self.functions:
            return Preview1(source.name, self.memory)
        if source.name.startswith("wasi:cli/run@") and source.name.endswith("#run") and self.start is not None:
            return Main(self.start)
        return source


def layout(plan: Plan, wasm: bytes) -> Layout:
    """The core instances that a component needs. `wasm` is its file."""
    found = _simplified(plan, wasm) or _whole(plan)
    found.add_bridges(plan)
    return found


def _whole(plan: Plan) -> Layout:
    """All core instances, as the component has them."""
    return Layout(
        [Step(each, [(one.module, one.name, one.source) for one in each.imports]) for each in plan.core_instances]
    )


def _simplified(plan: Plan, wasm: bytes) -> Layout | None:
    """Without shims, fixups and adapters; None where that isn't the same."""
    shims, fixups = _shims(plan, wasm)
    adapters = {each.number: adapter for each in plan.core_instances if (adapter := _adapter(each)) is not None}
    gone = {*shims, *fixups, *adapters}
    if not gone:
        return None
    starts = [start for start in fixups.values() if start is not None]
    found = Layout([], starts, shims, adapters)
    found.steps = [
        Step(each, [(one.module, one.name, found.resolve(one.source)) for one in each.imports])
        for each in plan.core_instances
        if each.number not in gone
    ]
    last = max((step.instance.number for step in found.steps), default=0)
    if any(start is not None and number < last for number, start in fixups.items()):
        return None  # what comes later may rely on it
    return found if _holds(found, plan, gone) else None


def _holds(found: Layout, plan: Plan, gone: set[int]) -> bool:
    """Whether nothing that is left needs an instance that is gone, or one that comes later."""
    for function in (*_called(plan), *found.starts):
        source = found.resolve(function)
        if isinstance(source, Preview1) or any(each.instance in gone for each in named_exports(source)):
            return False
    done: set[int] = set()
    for step in found.steps:
        for _, _, source in step.imports:
            for export in named_exports(source):
                if export.instance in gone and found.resolve(export) == export:
                    return False
            if isinstance(source, CoreExport) and source.instance not in done:
                return False
            if isinstance(source, Main):
                return False  # nobody but the host calls it
        done.add(step.instance.number)
    return bool(found.steps)


def _called(plan: Plan) -> Iterator[CoreFunction]:
    """The core functions that the host calls, or that options of what it calls name."""
    for lifted in lifted_functions(plan):
        yield lifted.core
        yield from _options(lifted.options)
    for local in plan.resources.values():
        if local.destructor is not None:
            yield local.destructor


def _options(options: Options) -> list[CoreFunction]:
    named = (options.memory, options.realloc, options.post_return, options.callback)
    return [each for each in named if each is not None]


def lifted_functions(plan: Plan) -> Iterator[LiftedFunction]:
    """All functions of components that are exported, or that another component imports."""
    stack: list[Extern] = list(plan.exports.values())
    while stack:
        each = stack.pop()
        if isinstance(each, LiftedFunction):
            yield each
        elif isinstance(each, ExportedInstance):
            stack += each.exports.values()
    for instance in plan.core_instances:
        for one in instance.imports:
            if isinstance(one.source, Lower) and isinstance(one.source.function, LiftedFunction):
                yield one.source.function


def named_exports(source: Source) -> list[CoreExport]:
    """The core exports that a core function is or that its options name."""
    match source:
        case CoreExport():
            return [source]
        case Preview1():
            return [source.memory]
        case Main():
            return [source.start]
        case Lower() | Builtin():
            return [each for each in _options(source.options) if isinstance(each, CoreExport)]


# Bridges.

_BRIDGED = "f"


def _bridge(type_: CoreFuncType) -> bytes:
    """A module that imports a function and exports it again."""
    numbers = {"i32": 0x7F, "i64": 0x7E, "f32": 0x7D, "f64": 0x7C}
    params, results = (bytes(numbers[each] for each in types) for types in (type_.params, type_.results))
    name = bytes((len(_BRIDGED),)) + _BRIDGED.encode()
    sections_ = {
        sections.TYPE: b"\x60" + bytes((len(params),)) + params + bytes((len(results),)) + results,
        sections.IMPORT: b"\0" + name + b"\0\0",
        sections.EXPORT: name + b"\0\0",
    }
    return b"\0asm\1\0\0\0" + b"".join(
        bytes((number, len(content) + 1, 1)) + content for number, content in sections_.items()
    )


# Adapters.


def _adapter(instance: CoreInstance) -> _Adapter | None:
    """What an adapter of preview 1 gives; None for what is none: it has the memory of another module, imports nothing
    but WASI and that module, and its functions are those of preview 1 and what wit-component adds."""
    memory = start = None
    for each in instance.imports:
        source = each.source
        if (each.module, each.name) == ("env", "memory") and isinstance(source, CoreExport):
            memory = source
        elif (each.module, each.name) == (_MAIN, "_start") and isinstance(source, CoreExport):
            start = source
        elif each.module != _MAIN and each.module.partition("/")[0] not in _WASI:
            return None
    answered = _preview1(instance.module.type)
    return None if memory is None or not answered else _Adapter(memory, start, answered)


def _preview1(type_: ModuleType) -> dict[str, CoreFuncType]:
    """The functions of preview 1 that a module exports, as they are answered here. Empty where it exports one that is
    not, or anything else but what wit-component adds to adapters."""
    known = _known()
    found = {}
    for name, export in type_.exports.items():
        if name in known:
            if known[name] != export:
                return {}
            found[name] = known[name]
        elif not name.startswith(("cabi_", "wasi:cli/run@", "reset_adapter_state")):
            return {}
    return found


@functools.cache
def _known() -> dict[str, CoreFuncType]:
    from slight_py import wasi

    names = {"i": "i32", "I": "i64", "f": "f32", "d": "f64"}
    return {
        each.name: CoreFuncType(tuple(names[letter] for letter in each.params), tuple(names[x] for x in each.result))
        for each in wasi.IMPORTS
    }


# Shims and fixups.


def _shims(plan: Plan, wasm: bytes) -> tuple[dict[int, dict[str, CoreFunction]], dict[int, CoreExport | None]]:
    """What stands behind the trampolines of shims; and the fixups, each with its start function."""
    shims: dict[int, dict[str, CoreFunction]] = {}
    fixups: dict[int, CoreExport | None] = {}
    users: dict[int, set[int]] = {}
    """Who imports the table of each instance."""
    for each in plan.core_instances:
        for one in each.imports:
            if isinstance(one.source, CoreExport) and one.source.name == TABLE and one.source.kind == "table":
                users.setdefault(one.source.instance, set()).add(each.number)
    for shim, fixers in users.items():
        trampolines = _trampolines(plan.core_instances[shim], wasm)
        if trampolines is None or len(fixers) != 1:
            continue
        (fixup,) = fixers
        found = _fixed(plan.core_instances[fixup], wasm)
        if found is not None and all(slot < len(found.placed) for slot in trampolines.values()):
            shims[shim] = {name: found.placed[slot] for name, slot in trampolines.items()}
            fixups[fixup] = found.start
    return shims, fixups


@dataclass(slots=True)
class _Content:
    """What of a module is looked at here; None for a module that holds anything else."""

    types: list[bytes] = field(default_factory=list)
    functions: list[int] = field(default_factory=list)
    exports: dict[str, tuple[int, int]] = field(default_factory=dict)
    codes: list[bytes] = field(default_factory=list)
    tables: int = 0
    element: bytes = b""
    start: int | None = None


def _content(module: CoreModule, wasm: bytes, allowed: frozenset[int]) -> _Content | None:
    found = _Content()
    try:
        for number, section in sections.sections(wasm[module.start : module.end]):
            if number == 0:
                continue  # a custom section, which means nothing to the module's working
            if number not in allowed:
                return None
            match number:
                case sections.TYPE:
                    found.types = [_function_type(section) for _ in range(section.unsigned())]
                case sections.FUNCTION:
                    found.functions = [section.unsigned() for _ in range(section.unsigned())]
                case sections.TABLE:
                    found.tables = section.unsigned()
                case sections.EXPORT:
                    for _ in range(section.unsigned()):
                        name = section.name()
                        found.exports[name] = section.byte(), section.unsigned()
                case sections.CODE:
                    found.codes = [section.bytes(section.unsigned()) for _ in range(section.unsigned())]
                case sections.START:
                    found.start = section.unsigned()
                case sections.ELEMENT:
                    found.element = section.bytes(section.end - section.at)
    except sections.Unreadable:
        return None
    return found


def _function_type(section: sections.Reader) -> bytes:
    """A function's type as bytes: parameters and results are numbers of one byte each. Raises Unreadable for others."""
    if section.byte() != 0x60:
        raise sections.Unreadable("a type that is no function's")
    params = section.bytes(section.unsigned())
    results = section.bytes(section.unsigned())
    return bytes((len(params),)) + params + results


def _trampolines(instance: CoreInstance, wasm: bytes) -> dict[str, int] | None:
    """For each function that a shim exports, the slot of the table that it calls; None for what is no shim."""
    allowed = frozenset((sections.TYPE, sections.FUNCTION, sections.TABLE, sections.EXPORT, sections.CODE))
    content = _content(instance.module, wasm, allowed)
    if content is None or instance.imports or content.tables != 1 or len(content.codes) != len(content.functions):
        return None
    found: dict[str, int] = {}
    for name, (kind, index) in content.exports.items():
        if kind != 0:
            if name != TABLE:
                return None
            continue
        slot = _slot(content, index)
        if slot is None:
            return None
        found[name] = slot
    return found


def _slot(content: _Content, index: int) -> int | None:
    """The slot of the table that a function calls with its own parameters and does nothing else; None for another."""
    if index >= len(content.codes):
        return None
    code = content.codes[index]
    try:
        own = content.types[content.functions[index]]
        reader = sections.Reader(code, 0, len(code))
        if reader.unsigned() != 0:  # variables of its own
            return None
        for number in range(own[0]):
            if reader.byte() != _LOCAL_GET or reader.unsigned() != number:
                return None
        if reader.byte() != _I32_CONST:
            return None
        slot = reader.unsigned()
        if code[reader.at - 1] & 0x40:
            return None  # a negative number
        if reader.byte() != _CALL_INDIRECT or content.types[reader.unsigned()] != own or reader.unsigned() != 0:
            return None
        return slot if reader.byte() == _END and reader.at == reader.end else None
    except (sections.Unreadable, IndexError):
        return None


_LOCAL_GET, _I32_CONST, _CALL_INDIRECT, _END = 0x20, 0x41, 0x11, 0x0B


@dataclass(frozen=True, slots=True)
class _Fixed:
    """What a fixup does."""

    placed: Sequence[CoreFunction]
    """What it puts into the table, slot by slot."""
    start: CoreExport | None


_FIXUP = frozenset((sections.TYPE, sections.IMPORT, sections.START, sections.ELEMENT))


def _fixed(instance: CoreInstance, wasm: bytes) -> _Fixed | None:
    """What a fixup does; None for what is no fixup, or does more: it exports nothing, so nobody needs it."""
    content = _content(instance.module, wasm, _FIXUP)
    if content is None:
        return None
    functions = [each.source for each in instance.imports if each.name != TABLE]
    tables = len(instance.imports) - len(functions)
    if tables != 1 or any(isinstance(each, CoreExport) and each.kind != "func" for each in functions):
        return None
    try:
        reader = sections.Reader(content.element, 0, len(content.element))
        # One active segment, of the table 0, from the slot 0 on.
        if reader.unsigned() != 1 or reader.bytes(4) != bytes((0, _I32_CONST, 0, _END)):
            return None
        placed = [functions[reader.unsigned()] for _ in range(reader.unsigned())]
        start = None if content.start is None else functions[content.start]
    except (sections.Unreadable, IndexError):
        return None
    if reader.at != reader.end or not (start is None or isinstance(start, CoreExport)):
        return None
    return _Fixed(placed, start)
