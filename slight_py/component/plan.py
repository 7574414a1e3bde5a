"""What a component is once its binary has been read and checked: everything that has to be known to run it.

A plan is symbolic and holds no code: core modules are ranges of the file's bytes. Nested components are gone; what is
left of them is the order in which core modules are instantiated, what stands behind every import of theirs, and what
the component exports. Component instances are numbers, 0 for the component itself; each has a handle table of its own.

`slight_py.component.binary.read` makes plans.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from slight_py.component.types import (
    AnyType,
    ComponentType,
    CoreFuncType,
    FuncType,
    InstanceType,
    ModuleType,
    ResourceType,
    ValueType,
)

CoreKind: TypeAlias = Literal["func", "table", "memory", "global", "tag"]
Encoding: TypeAlias = Literal["utf8", "utf16", "latin1+utf16"]


@dataclass(eq=False, frozen=True, slots=True)
class CoreModule:
    """A core module, which may be instantiated more than once, or never."""

    number: int
    """Its place in `Plan.modules`."""
    start: int
    end: int
    """Its bytes are `file[start:end]`."""
    name: str | None
    """What the component calls the module in its custom section `component-name`, or the module itself in its section
    `name`. wit-component calls its own modules `wit-component:adapter:wasi_snapshot_preview1`,
    `wit-component-shim-module` and `wit-component-fixup`."""
    type: ModuleType


# Core functions: what a core module can import, and what options name.


@dataclass(frozen=True, slots=True)
class CoreExport:
    """An export of a core instance that is instantiated earlier."""

    instance: int
    """The instantiation's place in `Plan.core_instances`."""
    name: str
    kind: CoreKind


@dataclass(frozen=True, slots=True)
class Options:
    """The canonical options of a lift, a lowering or a built-in function, as far as they were given."""

    memory: CoreExport | None = None
    realloc: CoreFunction | None = None
    post_return: CoreFunction | None = None
    callback: CoreFunction | None = None
    is_async: bool = False
    encoding: Encoding = "utf8"


@dataclass(eq=False, frozen=True, slots=True)
class Lower:
    """`canon lower`: a function of a component, to be called as a core function."""

    function: ComponentFunction
    options: Options
    instance: int
    """The component instance that calls: handles are of its table."""
    core_type: CoreFuncType


BuiltinName: TypeAlias = Literal[
    "resource.new",
    "resource.drop",
    "resource.rep",
    "task.return",
    "task.cancel",
    "subtask.cancel",
    "subtask.drop",
    "backpressure.inc",
    "backpressure.dec",
    "context.get",
    "context.set",
    "thread.yield",
    "stream.new",
    "stream.read",
    "stream.write",
    "stream.cancel-read",
    "stream.cancel-write",
    "stream.drop-readable",
    "stream.drop-writable",
    "future.new",
    "future.read",
    "future.write",
    "future.cancel-read",
    "future.cancel-write",
    "future.drop-readable",
    "future.drop-writable",
    "error-context.new",
    "error-context.debug-message",
    "error-context.drop",
    "waitable-set.new",
    "waitable-set.wait",
    "waitable-set.poll",
    "waitable-set.drop",
    "waitable.join",
]


@dataclass(eq=False, frozen=True, slots=True)
class Builtin:
    """A built-in core function of the canonical ABI."""

    name: BuiltinName
    instance: int
    """The component instance whose handles and tasks it works on."""
    core_type: CoreFuncType
    type: ValueType | ResourceType | None = None
    """The resource of `resource.*`; the stream or future of `stream.*` and `future.*`; the result of `task.return`."""
    options: Options = field(default_factory=Options)
    """Of `task.return`, `*.read`, `*.write` and `error-context.*`; the memory of `waitable-set.wait` and `.poll`.
    `is_async` tells whether `*.read`, `*.write`, `*.cancel-*` and `subtask.cancel` return before they are done."""
    is_cancellable: bool = False
    """Of `thread.yield`, `waitable-set.wait` and `waitable-set.poll`."""
    slot: int = 0
    """Which value `context.get` and `context.set` mean."""


CoreFunction: TypeAlias = CoreExport | Lower | Builtin


# Component functions.


@dataclass(eq=False, frozen=True, slots=True)
class ImportedFunction:
    """A function that the host provides."""

    interface: str | None
    """The imported instance, `wasi:io/streams@0.2.12`; None for a function imported by itself."""
    name: str
    """As the interface names it: `[method]input-stream.read`."""
    type: FuncType


@dataclass(eq=False, frozen=True, slots=True)
class LiftedFunction:
    """`canon lift`: a core function, to be called as a component's."""

    core: CoreFunction
    type: FuncType
    options: Options
    instance: int
    """The component instance that is called: handles are of its table."""
    core_type: CoreFuncType


ComponentFunction: TypeAlias = ImportedFunction | LiftedFunction


# Instances.


@dataclass(frozen=True, slots=True)
class CoreImport:
    module: str
    name: str
    source: CoreFunction
    """A CoreExport for what isn't a function."""


@dataclass(eq=False, frozen=True, slots=True)
class CoreInstance:
    """One instantiation of a core module."""

    number: int
    """Its place in `Plan.core_instances`."""
    module: CoreModule
    imports: tuple[CoreImport, ...]
    """Those of the module, in the module's order."""
    instance: int
    """The component instance that it belongs to."""


@dataclass(frozen=True, slots=True)
class ComponentInstance:
    number: int
    parent: int | None
    """The instance of the component that it is nested in; None for the outermost."""


@dataclass(eq=False, frozen=True, slots=True)
class ImportedInstance:
    """An interface that the host provides."""

    name: str
    """`wasi:io/streams@0.2.12`, or a name of the component's own."""
    type: InstanceType
    exports: Mapping[str, Extern]
    """Its functions are ImportedFunctions; its types say which resources they name."""
    implements: str | None = None
    """The interface that it is, where `name` doesn't say so: a component may import one interface several times."""


@dataclass(eq=False, frozen=True, slots=True)
class ExportedInstance:
    exports: Mapping[str, Extern]
    implements: str | None = None
    """The interface that it is, where the name of the export doesn't say so."""


@dataclass(eq=False, frozen=True, slots=True)
class ExportedComponent:
    """A component exported as such, to be instantiated by whoever gets it: known by its type, and not run here."""

    type: ComponentType


Extern: TypeAlias = (
    ImportedFunction
    | LiftedFunction
    | ImportedInstance
    | ExportedInstance
    | ExportedComponent
    | CoreModule
    | ModuleType
    | AnyType
)
"""What an import or an export is. A ModuleType stands for a core module that isn't in the file."""


@dataclass(frozen=True, slots=True)
class LocalResource:
    """A resource that a component of the file implements."""

    type: ResourceType
    destructor: CoreFunction | None
    """Called with the representation (an i32) when the last owner drops the handle."""


@dataclass(eq=False, frozen=True, slots=True)
class Plan:
    modules: tuple[CoreModule, ...]
    core_instances: tuple[CoreInstance, ...]
    """In the order in which they are instantiated; everything that an import names comes earlier."""
    component_instances: tuple[ComponentInstance, ...]
    imports: Mapping[str, Extern]
    """In the component's order: ImportedInstance, ImportedFunction, or a type."""
    exports: Mapping[str, Extern]
    resources: Mapping[ResourceType, LocalResource]
    """Those that components of the file implement; all others are the host's."""
    producers: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    """The custom section `producers`: what the component was made with, such as
    `{"processed-by": (("wit-component", "0.240.0"),)}`."""
    name: str | None = None
    """From the custom section `component-name`."""

    # There are no start functions: they take and give values, which no version of WASI has; the reader refuses them.
