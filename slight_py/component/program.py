"""From a component's plan to a program that instances are made from: core modules, their imports, what is exported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from bindgen.runtime import Import
from slight_py import sections, wasi
from slight_py.component import calls, resources
from slight_py.component.instance import ComponentInstance, Lifted, Place
from slight_py.component.plan import (
    Builtin,
    CoreExport,
    CoreFunction,
    ExportedInstance,
    Extern,
    ImportedFunction,
    LiftedFunction,
    Lower,
    Options,
    Plan,
)
from slight_py.component.shims import Layout, Main, Preview1, Source, Step, layout, lifted_functions
from slight_py.component.types import CoreFuncType, ResourceType
from slight_py.engine import (
    FUNCTION,
    MEMORY,
    Engine,
    ExportedFunction,
    Harmless,
    InvalidModule,
    Module,
    ModuleInfo,
    Program,
    Shape,
    Traits,
    UnsupportedModule,
    describe,
)
from slight_py.store import EXPORT_BITS, export_number

Provide = Callable[[ImportedFunction], tuple[Import, Any]]
"""Says what answers an imported function, and the host that it asks."""

_LETTERS = {"i32": "i", "i64": "I", "f32": "f", "f64": "d"}


@dataclass(frozen=True, slots=True)
class Component:
    """A component that is read, and which of its core modules are to be compiled."""

    plan: Plan
    wasm: bytes
    layout: Layout

    @classmethod
    def of(cls, plan: Plan, wasm: bytes) -> Component:
        return cls(plan, wasm, layout(plan, wasm))

    def modules(self) -> list[bytes]:
        """The core modules that are needed, each once."""
        return list(self._needed().values())

    def _needed(self) -> dict[int, bytes]:
        """The modules that are needed by their numbers."""
        found = {}
        for step in self.layout.steps:
            module = step.instance.module
            found[module.number] = step.code or self.wasm[module.start : module.end]
        return found

    def number(self, step: Step) -> int:
        """The place of a step's module among `modules`."""
        return list(self._needed()).index(step.instance.module.number)

    @property
    def shape(self) -> Shape:
        """What an instance takes of the engine's pool."""
        defined = {number: _defined(code) for number, code in self._needed().items()}
        counts = [defined[step.instance.module.number] for step in self.layout.steps]
        components = {step.instance.instance for step in self.layout.steps}
        return Shape(
            len(counts),
            max(1, sum(memories for memories, _ in counts)),
            max(1, sum(tables for _, tables in counts)),
            1 + len(components),
        )


def _defined(wasm: bytes) -> tuple[int, int]:
    """How many memories and tables a module defines."""
    memories = tables = 0
    try:
        for number, section in sections.sections(wasm):
            if number == sections.MEMORY:
                memories += section.unsigned()
            elif number == sections.TABLE:
                tables += section.unsigned()
    except sections.Unreadable:
        pass  # wasmtime says what is wrong
    return memories, tables


@dataclass(frozen=True, slots=True)
class Start:
    """`wasi:cli/run` of a module of preview 1: its `_start`."""

    export: ExportedFunction


class ComponentProgram:
    """A component linked with its hosts, from which instances are made."""

    def __init__(self, engine: Engine, component: Component, modules: Sequence[Module], provide: Provide) -> None:
        """`modules` are those of `component.modules()`, compiled. Raises InvalidModule for what can't be linked."""
        self.component = component
        self._layout = component.layout
        self._plan = component.plan
        self._provide = provide
        self._modules = [modules[component.number(step)] for step in self._layout.steps]
        described: dict[int, ModuleInfo] = {}
        for module in modules:
            described[id(module)] = describe(module)
        self._infos = [described[id(module)] for module in self._modules]
        self._main = self._most_common()
        self.program = self._linked(engine)
        self._starts = [self._exported(each) for each in self._layout.starts]

    async def instantiate(self, wasi: Any = None, reused: bool = False) -> ComponentInstance:
        """A fresh instance. Raises what `Program.instantiate` does."""
        instance = await self.program.instantiate(wasi, reused)
        assert isinstance(instance, ComponentInstance)
        try:
            for start in self._starts:
                await instance.call(start, ())
        except BaseException:
            instance.close()
            raise
        return instance

    def function(self, interface: str | None, name: str) -> Lifted | Start | None:
        """An exported function; of the component itself where there is no interface. None where there is none.

        Raises InvalidModule for one that can't be called.
        """
        found: Extern | None
        if interface is None:
            found = self._plan.exports.get(name)
        else:
            instance = self._plan.exports.get(interface)
            found = instance.exports.get(name) if isinstance(instance, ExportedInstance) else None
        if not isinstance(found, LiftedFunction):
            return None
        core = self._layout.resolve(found.core)
        if isinstance(core, Main):
            return Start(self._exported(core.start))
        return self._lifted(found, name)

    # Places.

    def _most_common(self) -> Place:
        """What most canonical functions name: the instance itself is the guest for those."""
        places = Counter(self._places())
        with_memory = [(count, place) for place, count in places.items() if place.memory is not None]
        if not with_memory:
            return next(iter(places), Place(0, None, None, "utf8"))
        _, (part, memory) = max(
            (
                (sum(n for n, each in with_memory if (each.part, each.memory) == key), key)
                for key in dict.fromkeys((each.part, each.memory) for _, each in with_memory)
            ),
            key=lambda found: found[0],
        )
        reallocs = Counter(
            each.realloc for each in self._places() if (each.part, each.memory) == (part, memory) and each.realloc
        )
        realloc = reallocs.most_common(1)[0][0] if reallocs else None
        return Place(part, memory, realloc, "utf8")

    def _places(self) -> Iterator[Place]:
        for step in self._layout.steps:
            for _, _, source in step.imports:
                if isinstance(source, Lower | Builtin):
                    yield self._place(source.options, source.instance)
                elif isinstance(source, Preview1):
                    yield self._preview1_place(source, step)
        for lifted in lifted_functions(self._plan):
            if not isinstance(self._layout.resolve(lifted.core), Main):
                yield self._place(lifted.options, lifted.instance)

    def _place(self, options: Options, part: int) -> Place:
        memory = None if options.memory is None else self._number(options.memory, MEMORY)
        realloc = None if options.realloc is None else self._core(options.realloc)
        return Place(part, memory, realloc, options.encoding)

    def _preview1_place(self, source: Preview1, step: Step) -> Place:
        return Place(step.instance.instance, self._number(source.memory, MEMORY), None, "utf8")

    def _is_main(self, place: Place) -> bool:
        """Whether the instance itself can be the guest."""
        main = self._main
        return (
            place.part == main.part
            and place.encoding == main.encoding
            and place.memory in (None, main.memory)
            and place.realloc in (None, main.realloc)
        )

    # Core functions.

    def _number(self, export: CoreExport, kind: int) -> int:
        """The number of a core export in the store."""
        place = self._layout.place(export)
        if place is None:
            raise InvalidModule(f"{export.name!r} of a module that is left out is needed")
        found, index = self._infos[place].exports.get(export.name, (None, 0))
        if found != kind:
            raise InvalidModule(f"a module lacks the export {export.name!r} that the component names")
        return export_number(place, index)

    def _exported(self, export: CoreExport) -> ExportedFunction:
        place = self._layout.place(export)
        found = None if place is None else self._infos[place].functions.get(export.name)
        if found is None:
            raise InvalidModule(f"a module lacks the exported function {export.name!r} that the component names")
        return replace(found, index=export_number(place or 0, found.index))

    def _core(self, function: CoreFunction) -> ExportedFunction:
        """A core function that is called from here."""
        source = self._layout.called(function)
        assert isinstance(source, CoreExport), source
        return self._exported(source)

    def _lifted(self, lifted: LiftedFunction, name: str) -> Lifted:
        options = lifted.options
        core = self._core(lifted.core)
        place = self._place(options, lifted.instance)
        return Lifted(
            name,
            core.index,
            core.params,
            core.result,
            place,
            lifted.type,
            None if options.post_return is None else self._core(options.post_return),
            None if options.callback is None else self._core(options.callback),
            options.is_async,
            self._is_main(place),
        )

    # Linking.

    def _linked(self, engine: Engine) -> Program:
        steps = list(zip(self._layout.steps, self._modules, self._infos, strict=True))
        step, module, info = steps[0]
        imports, _ = self._imports(step)
        realloc = self._main.realloc
        traits = Traits(realloc, self._main.memory, ComponentInstance, self._main)
        program = Program(engine, module, imports, info, traits)
        for step, module, info in steps[1:]:
            imports, given = self._imports(step)
            program.add(module, imports, given, info)
        return program

    def _imports(self, step: Step) -> tuple[dict[tuple[str, str], tuple[Import, Any]], list[tuple[str, str, int, str]]]:
        """What the host gives a core instance, and what earlier ones do."""
        imports: dict[tuple[str, str], tuple[Import, Any]] = {}
        given: list[tuple[str, str, int, str]] = []
        for module, name, source in step.imports:
            if isinstance(source, CoreExport):
                number = self._number(source, _KINDS[source.kind]) >> EXPORT_BITS
                given.append((module, name, number, source.name))
            else:
                imports[module, name] = self._host_function(source, step)
        return imports, given

    def _host_function(self, source: Source, step: Step) -> tuple[Import, Any]:
        match source:
            case Preview1():
                definition = next(each for each in wasi.IMPORTS if each.name == source.name)
                # An adapter answers most of preview 1 by what it knows, and so may be called by an allocator.
                seen = self._seen_from(definition, self._preview1_place(source, step))
                return Harmless(seen.module, seen.name, seen.params, seen.result, seen.call), None
            case Lower():
                return self._lowered(source)
            case Builtin():
                place = self._place(source.options, source.instance)
                return self._seen_from(resources.builtin(source, self._destructor(source)), place), None
        raise AssertionError(source)

    def _lowered(self, lower: Lower) -> tuple[Import, Any]:
        place = self._place(lower.options, lower.instance)
        params, result = letters(lower.core_type)
        function = lower.function
        if isinstance(function, LiftedFunction):
            name = "a function of another component"
            if self._related(lower.instance, function.instance):
                return calls.refused(name, params, result), None
            export = self._lifted(function, name)
            return self._seen_from(calls.between(name, params, result, export, lower.options.is_async), place), None
        definition, host = self._provide(function)
        if lower.options.is_async:
            definition = _asynchronous(definition)
        return self._seen_from(definition, place), host

    def _seen_from(self, definition: Import, place: Place) -> Import:
        """The same import, answered with the guest that the function's options mean."""
        if self._is_main(place):
            return definition
        call = definition.call

        def answer(host: Any, guest: ComponentInstance, args: tuple[Any, ...]) -> Any:
            return call(host, guest.view(place), args)

        return replace(definition, call=answer)

    def _related(self, one: int, other: int) -> bool:
        """Whether a component instance is the other, or is nested in it, or the other in it."""
        return one in self._ancestors(other) or other in self._ancestors(one)

    def _ancestors(self, number: int) -> list[int]:
        found = []
        at: int | None = number
        while at is not None:
            found.append(at)
            at = self._plan.component_instances[at].parent
        return found

    def _destructor(self, builtin: Builtin) -> resources.Destructor | None:
        """Of the resource that a built-in function is about, where a component implements it and has one."""
        if builtin.name != "resource.new":
            return None
        assert isinstance(builtin.type, ResourceType)
        local = self._plan.resources.get(builtin.type)
        if local is None or local.destructor is None:
            return None
        return resources.Destructor(self._core(local.destructor), builtin.instance)


def _asynchronous(definition: Import) -> Import:
    """An import as it is where it's lowered with `async`. Raises UnsupportedModule where it can't be."""
    lowered = definition.call_async
    if lowered is None:
        raise UnsupportedModule(f"{definition.module}: {definition.name} can't be called asynchronously")

    async def call(host: Any, guest: ComponentInstance, args: tuple[Any, ...]) -> int:
        guest.state.explain = None if definition.failure is None else partial(definition.failure, host)
        return await lowered.call(host, guest, args)

    return replace(definition, params=lowered.params, result="i", call=call)


_KINDS = {"func": FUNCTION, "global": 1, "table": 2, "memory": MEMORY}


def letters(type_: CoreFuncType) -> tuple[str, str]:
    """Parameters and result of a core function, a letter each. Raises UnsupportedModule for what isn't a number."""
    try:
        return "".join(_LETTERS[each] for each in type_.params), "".join(_LETTERS[each] for each in type_.results)
    except KeyError as error:
        raise UnsupportedModule(f"a canonical function with a value of type {error.args[0]}") from None
