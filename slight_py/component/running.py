"""Runs components: a program to its end, or a server for as long as nobody stops it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from struct import Struct
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bindgen.runtime import Err, Export
from capabilities.wasi import allowance
from capabilities.wasi.allowance import Allowance
from slight_py import modules, wasi
from slight_py.component import binary, link
from slight_py.component.plan import ExportedInstance, LiftedFunction
from slight_py.component.program import Component, ComponentProgram, Start
from slight_py.component.types import text
from slight_py.engine import Engine, Module, Shape, UnsupportedModule, serialize
from slight_py.errors import UsageError
from slight_py.linker import Backends
from slight_py.runner import BaseRun, RunConfig, Service, check_fresh
from slight_py.runner import Start as StartServer
from slight_py.slightfile import Slightfile
from slight_py.wasi.preview2 import state_of

if TYPE_CHECKING:
    from capabilities.keyvalue.memory import MemoryStores

log = logging.getLogger("slight_py")

_SIZE = Struct("<Q")

_PROGRAMS = {
    "wasi:cli/run@0.2.0": "capabilities.bindings.wasi_cli_0_2.run",
    "wasi:cli/run@0.3.0": "capabilities.bindings.wasi_cli_0_3.run",
}
_REUSABLE = "wasi:http/handler@0.3.0"
"""What an instance can be called for several times."""

_HANDLERS = {
    "wasi:http/incoming-handler@0.2.0": "capabilities.bindings.wasi_http_0_2.incoming_handler",
    _REUSABLE: "capabilities.bindings.wasi_http_0_3.handler",
}
"""What a component can export to be run, and to be served: the generated modules, which take a while to import, by the
interface and a version that all compatible ones can stand in for."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a component begins, or what answers requests."""

    interface: str
    """As the component calls it, with its own version."""
    export: Export
    bindings: ModuleType
    serves: bool


def entry_point(component: Component) -> Entry:
    """What of a component is run. Raises UsageError where it exports nothing to run, or too much."""
    found = [
        each
        for interfaces, serves in ((_PROGRAMS, False), (_HANDLERS, True))
        for interface, module in interfaces.items()
        if (each := _exported(component, interface, module, serves)) is not None
    ]
    if not found:
        exports = ", ".join(component.plan.exports) or "nothing"
        raise UsageError(
            f"exports neither wasi:cli/run, to be run, nor wasi:http/incoming-handler or wasi:http/handler, to answer "
            f"requests; it exports {exports}"
        )
    if len(found) > 1:
        both = " and ".join(each.interface for each in found)
        raise UsageError(f"exports {both}, and only one of them can be run; export one, or make two components")
    return found[0]


def _exported(component: Component, interface: str, module: str, serves: bool) -> Entry | None:
    name = link.find(interface, component.plan.exports)
    if name is None:
        return None
    bindings = import_module(module)
    (export,) = bindings.EXPORTS
    instance = component.plan.exports[name]
    function = instance.exports.get(export.name) if isinstance(instance, ExportedInstance) else None
    if not isinstance(function, LiftedFunction):
        raise UsageError(f"exports {name} without a function {export.name} of its own; build it anew")
    if text(function.type) != export.type:
        raise UsageError(
            f"exports {name}: {export.name} as {text(function.type)}, but it is {export.type}; build it against "
            f"{export.module}"
        )
    return Entry(name, export, bindings, serves)


@dataclass(slots=True)
class LoadedComponent:
    """A component that is ready to run, and the engine it runs on."""

    engine: Engine
    component: Component
    modules: Sequence[Module]
    slightfile: Slightfile
    entry: Entry

    def program(self, backends: Backends) -> ComponentProgram:
        """The component linked with what answers its imports. Raises InvalidModule, and UsageError."""
        provide = link.provide(self.component, self.slightfile, backends)
        return ComponentProgram(self.engine, self.component, self.modules, provide)

    @property
    def shape(self) -> Shape:
        """What an instance takes of the engine's pool."""
        return self.component.shape

    def serialize(self) -> bytes:
        """What `reload` takes: the component's file, its size at the end, and before that the compiled modules."""
        wasm = self.component.wasm
        return b"".join((wasm, serialize(self.modules), _SIZE.pack(len(wasm))))

    def imports_something(self) -> bool:
        """Whether it imports an interface that the slightfile grants."""
        return bool(self.families())

    def families(self) -> set[str]:
        """The names of the families whose interfaces it imports."""
        return link.families(self.component, self.slightfile)

    def entry_name(self, _: Path) -> str:
        """The interface that it exports to be run, or to answer requests."""
        return self.entry.interface

    def serves(self) -> bool:
        """Whether it answers requests."""
        return self.entry.serves

    def uses_listen(self) -> bool:
        """Whether `--listen` says where it's served."""
        return self.entry.serves

    def modules_of_interfaces(self) -> tuple[str, ...]:
        """The names of the modules that are imported for what it imports and exports."""
        return (self.entry.bindings.__name__, *link.modules(self.component, self.slightfile))

    def run(self, config: RunConfig, stores: Callable[[], MemoryStores], **others: Any) -> ComponentRun:
        """What runs it. Raises InvalidModule, and UsageError."""
        return ComponentRun(config, self, stores, **others)

    def service(self, config: RunConfig, backends: Backends) -> Service:
        """What answers requests in a process that does nothing else."""
        return _service(config, self.program(backends), self.entry)


def load(engine: Engine, config: RunConfig, wasm: bytes, link_all: bool) -> LoadedComponent:
    """Reads and compiles a component, and checks what it needs. Raises UsageError."""
    try:
        component = Component.of(binary.read(wasm), wasm)
    except binary.ComponentError as error:
        raise UsageError(f"{config.app}: {error}") from None
    try:
        entry = entry_point(component)
    except UsageError as error:
        raise UsageError(*(f"{config.app}: {line}" for line in error.lines)) from None
    if entry.export.module != _REUSABLE:
        check_fresh(config)
    slightfile = link.check(config.app, component, config.slightfile, link_all)
    compiled = modules.compiled(
        engine, config.app, wasm, component.modules(), component.shape, config.cache, config.compilation
    )
    return LoadedComponent(engine, component, compiled, slightfile, entry)


def reload(engine: Engine, config: RunConfig, serialized: bytes) -> LoadedComponent:
    """What `serialize` made of a component, which is checked already."""
    (size,) = _SIZE.unpack_from(serialized, len(serialized) - _SIZE.size)
    wasm = serialized[:size]
    component = Component.of(binary.read(wasm), wasm)
    compiled = engine.load_together(serialized[size : -_SIZE.size])
    return LoadedComponent(engine, component, compiled, config.slightfile, entry_point(component))


class ComponentRun(BaseRun):
    """A component at work."""

    def __init__(
        self,
        config: RunConfig,
        loaded: LoadedComponent,
        stores: Callable[[], MemoryStores],
        start: StartServer | None = None,
        backends: Backends | None = None,
    ) -> None:
        super().__init__(config, loaded, stores, start, backends)
        self._entry = loaded.entry
        self._program = loaded.program(self.backends)

    async def _begin(self) -> int:
        if self._entry.serves:
            try:
                await self._serve(self._config.listen, None)
            except Err as error:  # the address makes no sense
                raise UsageError(f"{self._config.app}: --listen: {error.value.value}") from None
            return 0
        allowance.of_guest.set(Allowance())
        instance = await self._program.instantiate(wasi.Context(self._config.wasi, stdin=self._config.reads_input))
        try:
            function = self._program.function(self._entry.interface, self._entry.export.name)
            if isinstance(function, Start):
                await instance.call(function.export, ())
                return 0
            if function is None:
                raise UnsupportedModule(f"{self._entry.interface} is none of its own functions")
            code = 0
            try:
                await self._entry.bindings.run(instance.guest(function), function)
            except Err:
                code = 1
            printing = set(state_of(instance).unfinished)
        finally:
            instance.close()
        # What it handed over ends with the instance, and is printed to that end.
        if printing:
            await asyncio.wait(printing)
        return code

    def service(self) -> Service:
        return _service(self._config, self._program, self._entry)


def _service(config: RunConfig, program: ComponentProgram, entry: Entry) -> Service:
    from slight_py.component import serving

    return serving.service(config, program, entry)
