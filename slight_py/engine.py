"""WebAssembly on one event loop: modules, the programs they make with their hosts, and instances as coroutines.

With capi.py, slots.py and store.py, the only module that touches wasmtime's C API. `Store` runs a guest until it is
done, calls an import or has had its turn; an `Instance` turns that into a coroutine, in which an import's answer is
awaited like anything else. A guest that only computes gives the loop back whenever the engine's epoch moves on.

Modules, engines and what else the C API hands out by pointer are held as `capi.Owned`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import mmap
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from ctypes import byref, c_bool, c_char_p, c_size_t, c_uint8, c_uint32, c_void_p
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct
from typing import Any

from bindgen.runtime import Flat, GuestFault, Handles, Import, Lower, Resources, rest
from slight_py import capi, sections, slots, store
from slight_py.capi import Owned, Vec, function
from slight_py.sessions import Sessions
from slight_py.store import CALLED, DONE, FAILED, TRAPPED, YIELDED, Store

TICK = 0.002
"""Seconds between two epochs: how long a guest computes before others have their turn."""

REALLOC, FREE, DROP = "canonical_abi_realloc", "canonical_abi_free", "canonical_abi_drop_"
_SIGNATURES = {REALLOC: ("iiii", "i"), FREE: ("iii", ""), DROP: ("i", "")}

WASI = "wasi_snapshot_preview1"


class InvalidModule(Exception):
    """The bytes are not a module that this engine runs; str() says why."""


class UnsupportedModule(InvalidModule):
    """The module is sound, and asks for what this engine doesn't give; str() says what."""


class Trap(Exception):
    """A guest was ended by a trap; str() is the reason, `backtrace` wasmtime's account of where."""

    def __init__(self, reason: str, backtrace: str = "") -> None:
        super().__init__(reason)
        self.backtrace = backtrace


class Exit(Exception):
    """A guest ended itself with WASI's `proc_exit`."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the guest exited with code {code}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Limits:
    """What one instance may use, and how many there may be."""

    memory: int = 256 << 20
    """Bytes of linear memory per instance."""
    instances: int = 1100
    """Instances at once in this process."""
    table_elements: int = 100_000
    stack: int = 512 << 10
    """Bytes of stack per guest."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What one program takes in each store: a module one of everything, a component one for each module that it has an
    instance of."""

    instances: int = 1
    memories: int = 1
    tables: int = 1
    stacks: int = 2
    """A guest that is asked for memory while it waits for an import runs on a second one, and so does each component
    that another one calls."""


# The C API: an engine, its configuration and wasmtime's pool.
_wasm = functools.partial(function, prefix="wasm_")
_config_new = _wasm("config_new", c_void_p)
_config_delete = _wasm("config_delete", None, c_void_p)
_config_target = function("config_target_set", c_void_p, c_void_p, c_char_p)
_config_pool = function("pooling_allocation_strategy_set", None, c_void_p, c_void_p)
_pool_new = function("pooling_allocation_config_new", c_void_p)
_pool_delete = function("pooling_allocation_config_delete", None, c_void_p)
_engine_new = _wasm("engine_new_with_config", c_void_p, c_void_p)
_engine_delete = _wasm("engine_delete", None, c_void_p)
_increment_epoch = function("engine_increment_epoch", None, c_void_p)

# Modules, and the types of what they import and export.
_module_new = function("module_new", c_void_p, c_void_p, c_char_p, c_size_t, c_void_p)
_module_deserialize = function("module_deserialize", c_void_p, c_void_p, c_char_p, c_size_t, c_void_p)
_module_serialize = function("module_serialize", c_void_p, c_void_p, c_void_p)
_module_delete = function("module_delete", None, c_void_p)
_module_imports = function("module_imports", None, c_void_p, c_void_p)
_module_exports = function("module_exports", None, c_void_p, c_void_p)
_imports_delete = _wasm("importtype_vec_delete", None, c_void_p)
_exports_delete = _wasm("exporttype_vec_delete", None, c_void_p)
_import_module = _wasm("importtype_module", c_void_p, c_void_p)
_import_name = _wasm("importtype_name", c_void_p, c_void_p)
_import_type = _wasm("importtype_type", c_void_p, c_void_p)
_export_name = _wasm("exporttype_name", c_void_p, c_void_p)
_export_type = _wasm("exporttype_type", c_void_p, c_void_p)
_extern_kind = _wasm("externtype_kind", c_uint8, c_void_p)
_extern_function = _wasm("externtype_as_functype_const", c_void_p, c_void_p)
_function_new = _wasm("functype_new", c_void_p, c_void_p, c_void_p)
_function_delete = _wasm("functype_delete", None, c_void_p)
_function_params = _wasm("functype_params", c_void_p, c_void_p)
_function_results = _wasm("functype_results", c_void_p, c_void_p)
_types_new = _wasm("valtype_vec_new", None, c_void_p, c_size_t, c_void_p)
_type_new = _wasm("valtype_new", c_void_p, c_uint8)
_type_kind = _wasm("valtype_kind", c_uint8, c_void_p)

# Linkers.
_linker_new = function("linker_new", c_void_p, c_void_p)
_linker_delete = function("linker_delete", None, c_void_p)
_linker_clone = function("linker_clone", c_void_p, c_void_p)
_linker_pre = function("linker_instantiate_pre", c_void_p, c_void_p, c_void_p, c_void_p)
_pre_delete = function("instance_pre_delete", None, c_void_p)
_define_unchecked = function(
    "linker_define_func_unchecked",
    *[c_void_p, c_void_p, c_char_p, c_size_t, c_char_p, c_size_t, c_void_p],
    *[c_void_p, c_void_p, c_void_p],
)
_define_async = function(
    "linker_define_async_func",
    *[c_void_p, c_void_p, c_char_p, c_size_t, c_char_p, c_size_t, c_void_p],
    *[c_void_p, c_void_p, c_void_p],
)

FUNCTION, GLOBAL, TABLE, MEMORY = range(4)
"""The kinds of imports and exports (`wasm.h`)."""

_LETTERS = "iIfd"
"""The numbers that values may be, by their kind."""


def check(error: int | None) -> None:
    """Raises InvalidModule for an error of the C API."""
    if error:
        raise InvalidModule(_one_line(capi.error_message(error)))


class Module(Owned):
    """A compiled module."""

    def __init__(self, pointer: int, core: _Core) -> None:
        super().__init__(pointer, _module_delete)
        self.core = core

    def serialize(self) -> bytes:
        """Its machine code, which `Engine.load` takes."""
        return serialize([self])


SLOTS, POOL = b"S", b"P"
"""How a module's instances get their memory: see slots.py. A compiled module begins with it."""

_HEAD = Struct("<cIIIII")
"""How compiled modules begin: how they get their memory, their Shape, and how many there are. The size of each follows,
and then each one's machine code."""
_SIZE = Struct("<Q")


def serialize(modules: Sequence[Module]) -> bytes:
    """The machine code of modules that were compiled together, which `Engine.load_together` takes."""
    core = modules[0].core
    codes = [capi.taken(_module_serialize, each.pointer) for each in modules]
    shape = core.shape
    head = _HEAD.pack(core.allocation, shape.instances, shape.memories, shape.tables, shape.stacks, len(codes))
    return b"".join([head, *(_SIZE.pack(len(code)) for code in codes), *codes])


class Engine:
    """Compiles modules, and holds the memory of their instances and the clock that takes turns."""

    def __init__(
        self, limits: Limits | None = None, target: str | None = None, with_slots: bool = slots.available
    ) -> None:
        """Compiles for this machine, or for any machine of a `target`, such as x86_64-unknown-linux-gnu, and with or
        without slots for those modules that suit them.

        Raises InvalidModule where the system has no room for the instances.
        """
        self.limits = limits or Limits()
        self.target = target
        self.with_slots = with_slots
        check_room(self.limits)
        self._cores: dict[tuple[bytes, Shape], _Core] = {}
        self._making = threading.Lock()
        self.instances = 0
        """How many there are now."""
        self._turns: deque[asyncio.Future[None]] = deque()
        """Those that wait for their turn, the next one first."""

    @property
    def identity(self) -> str:
        """Tells engines apart whose compiled modules are not each other's: the library's build, the limits, the
        target, and whether there are slots."""
        status = capi.library.stat()
        return f"{status.st_size} {status.st_mtime_ns} {self.limits} {self.target or ''} {self.with_slots}"

    def compile(self, wasm: bytes) -> Module:
        """Compiles a module. Raises InvalidModule."""
        return self.compile_together([wasm], Shape())[0]

    def compile_together(self, wasms: Sequence[bytes], shape: Shape) -> list[Module]:
        """Compiles the modules of one program, whose instances will be in one store. Raises InvalidModule."""
        suits = (
            self.with_slots
            and shape.memories <= 1
            and all(slots.suits(each, self.limits.memory, self.limits.table_elements) for each in wasms)
        )
        modules = []
        for wasm in wasms:
            readable = check_signatures(wasm)
            modules.append(self._module(SLOTS if suits else POOL, shape, _module_new, wasm))
            if not readable:
                raise UnsupportedModule("its types or imports are of a kind that is not known here")
        return modules

    def load(self, compiled: bytes) -> Module:
        """Takes a module that `serialize` gave. Only for bytes that this program wrote: they are machine code.

        Raises InvalidModule where they come from another version of the engine or another machine.
        """
        return self.load_together(compiled)[0]

    def load_together(self, compiled: bytes) -> list[Module]:
        """Takes modules that `serialize` gave. As `load`."""
        if len(compiled) < _HEAD.size:
            raise InvalidModule("it is no compiled module")
        allocation, *numbers, count = _HEAD.unpack_from(compiled)
        if allocation not in (SLOTS, POOL) or len(compiled) < _HEAD.size + _SIZE.size * count:
            raise InvalidModule("it is no compiled module")
        if allocation == SLOTS and not slots.native:
            raise InvalidModule("it was compiled for memory slots, which slight_py/_slots.c is not built for here")
        modules = []
        at = _HEAD.size + _SIZE.size * count
        for number in range(count):
            (size,) = _SIZE.unpack_from(compiled, _HEAD.size + _SIZE.size * number)
            code = compiled[at : at + size]
            modules.append(self._module(allocation, Shape(*numbers), _module_deserialize, code))
            at += size
        if not modules:
            raise InvalidModule("it is no compiled module")
        return modules

    def _module(self, allocation: bytes, shape: Shape, make: Callable[..., int | None], content: bytes) -> Module:
        with self._making:
            core = self._cores.get((allocation, shape))
            if core is None:
                if self._cores or shape != Shape():  # for the first one there was room when the engine was made
                    check_room(self.limits, [*(each.shape for each in self._cores.values()), shape])
                core = self._cores[allocation, shape] = _Core(allocation, shape, self.limits, self.target)
        found = c_void_p()
        check(make(core.pointer, content, len(content), byref(found)))
        return Module(found.value or 0, core)

    async def turn(self) -> None:
        """Waits for the next turn of a guest that computes.

        In a round of the event loop one of them has its turn, and not all: so whatever else there is to do waits for
        one, however many there are.
        """
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._turns.append(turn)
        if len(self._turns) == 1:
            loop.call_soon(self._next_turn)
        try:
            await turn
        except BaseException:
            if turn in self._turns:
                self._turns.remove(turn)
            raise

    def _next_turn(self) -> None:
        """Lets one of those that wait go on, and others in the next rounds of the event loop."""
        if self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(None)
        if self._turns:
            asyncio.get_running_loop().call_soon(self._next_turn)


class _Core:
    """An engine of wasmtime's, with its clock. All of its modules have their instances' memory in the same way."""

    def __init__(self, allocation: bytes, shape: Shape, limits: Limits, target: str | None) -> None:
        """Raises InvalidModule."""
        self.allocation = allocation
        self.shape = shape
        config = _config_new()
        try:
            if target is not None:
                check(_config_target(config, target.encode()))
            if allocation == SLOTS:
                _use_slots(config, limits, shape)
            else:
                _use_pool(config, limits, shape)
        except BaseException:
            _config_delete(config)
            raise
        for setting, kind, value in (
            ("epoch_interruption", c_bool, True),
            # A guest that waits on shared memory would stop the loop; 64-bit and further memories aren't in the
            # interface.
            ("wasm_threads", c_bool, False),
            ("wasm_memory64", c_bool, False),
            ("wasm_multi_memory", c_bool, False),
            # No guest of ours uses garbage collection and what is built on it. Its heaps would be outside the limit of
            # memory, and the C API ends the process where it is asked for the type of a function with such a reference.
            ("gc_support", c_bool, False),
            ("wasm_gc", c_bool, False),
            ("wasm_function_references", c_bool, False),
            ("wasm_exceptions", c_bool, False),
            ("wasm_stack_switching", c_bool, False),
            ("max_wasm_stack", c_size_t, limits.stack),
            ("async_stack_size", c_size_t, _stack_size(limits)),
        ):
            function(f"config_{setting}_set", None, c_void_p, kind)(config, value)
        self.pointer: int = _engine_new(config)  # which takes the configuration over
        self._owned = Owned(self.pointer, _engine_delete)
        self.ticker = _Ticker(self._owned)
        self.driver = Owned(_linker_new(self.pointer), _linker_delete)
        """A linker of its own, as no module may import what is in it."""
        if store.driver_address:
            signature = _function_type("", "")
            check(_define_unchecked(self.driver.pointer, b"", 0, b"", 0, signature, store.driver_address, None, None))
            _function_delete(signature)


def _stack_size(limits: Limits) -> int:
    """Bytes of stack for a guest and for what it calls of wasmtime."""
    return limits.stack + (1 << 20)


def _stacks(limits: Limits, shape: Shape) -> int:
    """How many stacks there are."""
    return limits.instances * min(shape.stacks, store.MAX_DEPTH)


def _use_slots(config: int, limits: Limits, shape: Shape) -> None:
    # What a module begins with is copied: slots take nothing that is mapped.
    function("config_memory_init_cow_set", None, c_void_p, c_bool)(config, False)
    try:
        slots.configure(config, limits.instances, limits.memory, _stacks(limits, shape), _stack_size(limits))
    except MemoryError:
        raise InvalidModule(f"the system has no room for {limits.instances} instances at once; allow fewer") from None


def _use_pool(config: int, limits: Limits, shape: Shape) -> None:
    pool = _pool_new()
    for limit, width, number in (
        ("total_core_instances", c_uint32, limits.instances * shape.instances),
        ("total_memories", c_uint32, limits.instances * shape.memories),
        ("total_tables", c_uint32, limits.instances * shape.tables),
        ("total_stacks", c_uint32, _stacks(limits, shape)),
        ("max_memory_size", c_size_t, limits.memory),
        ("table_elements", c_size_t, limits.table_elements),
        # A table is small: to clear it costs less than to give its pages back.
        ("table_keep_resident", c_size_t, 64 << 10),
        ("max_core_instance_size", c_size_t, 16 << 20),
    ):
        function(f"pooling_allocation_config_{limit}_set", None, c_void_p, width)(pool, number)
    _config_pool(config, pool)
    _pool_delete(pool)


def check_signatures(wasm: bytes) -> bool:
    """Raises UnsupportedModule for imports and exports whose types the C API can't describe: it would end the process.
    Returns whether the module could be read to its end."""
    try:
        found = sections.unpassable(wasm)
    except sections.Unreadable:
        return False
    if found:
        functions = ", ".join(f"{name} ({type_})" for name, type_ in found.items())
        raise UnsupportedModule(
            f"there are types in signatures that can't be passed between a module and its host: {functions}; pass such "
            "values in memory"
        )
    return True


_OF_MEMORY, _OF_STACK = 4, 2
"""Mappings of memory that a memory takes, in up to as many parts, and a stack with its guard."""

_SLOT = (4 << 30) + (64 << 20)
"""Bytes of address space for one memory of up to 4 GiB: all that a 32-bit address reaches is reserved."""


def check_room(limits: Limits, shapes: Sequence[Shape] = (Shape(),)) -> None:
    """Raises InvalidModule where the memories and stacks of such programs, each with as many instances as there may be,
    don't fit into the process: wasmtime would end it, now or later."""
    memories = sum(each.memories for each in shapes)
    mappings = memories * _OF_MEMORY + sum(min(each.stacks, store.MAX_DEPTH) for each in shapes) * _OF_STACK
    needed = limits.instances * mappings
    with contextlib.suppress(OSError):
        most = int(Path("/proc/sys/vm/max_map_count").read_text())
        if needed > most:
            raise InvalidModule(
                f"{limits.instances} instances at once take {needed} mappings of memory, and the system gives a "
                f"process {most} (vm.max_map_count); allow fewer at once"
            )
    addresses = limits.instances * _SLOT * memories
    try:
        mmap.mmap(-1, addresses, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0).close()
    except OSError:
        raise InvalidModule(
            f"{limits.instances} instances at once take {addresses >> 30} GiB of address space, and "
            "the system doesn't give a process that much (ulimit -v); allow fewer at once"
        ) from None


class _Ticker:
    """Moves the engine's epoch on while guests run; a while after the last one its thread ends."""

    LINGER = 1.0
    """Seconds."""

    def __init__(self, engine: Owned) -> None:
        # The object and not its address alone: the thread must not outlive the engine.
        self._engine = engine
        self.running = 0
        """How many guests run."""
        self.ticks = 0
        """How often it has moved on."""
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def enter(self) -> None:
        """A guest begins to run. When it's done, there is one less of `running`."""
        self.running += 1
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="epoch", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        pointer = self._engine.pointer
        idle = 0.0
        while True:
            time.sleep(TICK)
            _increment_epoch(pointer)
            self.ticks += 1
            idle = 0.0 if self.running else idle + TICK
            if idle >= self.LINGER:
                with self._lock:
                    # In this order: whoever comes between the two sees that there is no thread, and waits for the lock.
                    this, self._thread = self._thread, None
                    if not self.running:
                        return
                    self._thread = this


@dataclass(frozen=True, slots=True)
class ExportedFunction:
    """A function that a module exports, by its place among the exports."""

    name: str
    index: int
    params: str
    result: str


@dataclass(frozen=True, slots=True)
class Imported:
    """A function that a module imports."""

    module: str
    name: str
    params: str
    results: str


@dataclass(slots=True)
class ModuleInfo:
    """What a module imports and exports."""

    imports: list[Imported] = field(default_factory=list)
    other_imports: list[tuple[str, str]] = field(default_factory=list)
    """Imported memories, tables and globals, which no interface provides."""
    functions: dict[str, ExportedFunction] = field(default_factory=dict)
    memory: int | None = None
    """The place of the exported memory among the exports."""
    exports: dict[str, tuple[int, int]] = field(default_factory=dict)
    """All exports: the kind of each, and its place."""

    def function(self, name: str, params: str, result: str) -> ExportedFunction | None:
        """The exported function of that name, if it has that signature."""
        found = self.functions.get(name)
        return found if found is not None and (found.params, found.result) == (params, result) else None


def describe(module: Owned) -> ModuleInfo:
    """What a compiled module imports and exports."""
    info = ModuleInfo()
    types = Vec()
    _module_imports(module.pointer, byref(types))
    for each in types.pointers():
        place, name, kind = _text(_import_module(each)), _text(_import_name(each)), _import_type(each)
        if _extern_kind(kind) == FUNCTION:
            info.imports.append(Imported(place, name, *_signature(kind)))
        else:
            info.other_imports.append((place, name))
    _imports_delete(byref(types))
    _module_exports(module.pointer, byref(types))
    for index, each in enumerate(types.pointers()):
        name, kind = _text(_export_name(each)), _export_type(each)
        info.exports[name] = _extern_kind(kind), index
        if _extern_kind(kind) == FUNCTION:
            info.functions[name] = ExportedFunction(name, index, *_signature(kind))
        elif _extern_kind(kind) == MEMORY and name == "memory":
            info.memory = index
    _exports_delete(byref(types))
    return info


def _text(name: int) -> str:
    return Vec.from_address(name).bytes().decode()


def _signature(kind: int) -> tuple[str, str]:
    """The parameters and results of a function's type as letters; `?` for those that no interface uses (v128,
    references)."""
    function_type = _extern_function(kind)
    vectors = (Vec.from_address(of(function_type)) for of in (_function_params, _function_results))
    kinds = ([_type_kind(each) for each in vector.pointers()] for vector in vectors)
    params, results = ("".join(_LETTERS[each] if each < len(_LETTERS) else "?" for each in found) for found in kinds)
    return params, results


def _function_type(params: str, results: str) -> int:
    """The address of a new type, which is the caller's to delete."""
    vectors = Vec(), Vec()
    for vector, letters in zip(vectors, (params, results), strict=True):
        types = (c_void_p * len(letters))(*[_type_new(_LETTERS.index(letter)) for letter in letters])
        _types_new(byref(vector), len(letters), types)
    # A vector takes its types over, and the function's type its vectors.
    return int(_function_new(byref(vectors[0]), byref(vectors[1])))


@dataclass(frozen=True, slots=True)
class AtOnce(Import):
    """An import whose `call` may return the flat result itself, an integer or None, in place of a coroutine."""

    call: Callable[[Any, Any, tuple[Any, ...]], Any]


@dataclass(frozen=True, slots=True)
class Harmless(AtOnce):
    """One that a guest may call while it is asked for memory, too: it reaches nothing but the instance's own state."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What a component has otherwise than a module of Spiderlightning's binary interface, which goes by names."""

    realloc: ExportedFunction | None
    memory: int | None
    """The number of the exported memory that the instance itself shows."""
    instance: type[Instance]
    """What its instances are."""
    main: Any = None
    """What an instance of a component says of itself as a guest (slight_py/component/instance.py)."""


@dataclass(frozen=True, slots=True)
class _Further:
    """A module of a component that is instantiated after the first one."""

    number: int
    """That of its instance in the store."""
    module: Module
    linker: Owned
    """What the host gives it."""
    given: Sequence[tuple[str, str, int, str]]
    """What earlier instances give it: by module and name, the instance and the name of its export."""


class Program:
    """A module linked with its hosts, from which instances are made; or the modules of a component."""

    def __init__(
        self,
        engine: Engine,
        module: Module,
        imports: Mapping[tuple[str, str], tuple[Import, Any]],
        info: ModuleInfo | None = None,
        traits: Traits | None = None,
    ) -> None:
        """`imports` gives what answers each imported function, by module and name, WASI's among them.
        `info` is what `describe` says of the module, where that is known already. `traits` are a component's.

        Raises InvalidModule for an import that nothing provides.
        """
        self.engine = engine
        self.info = info or describe(module)
        self.core = module.core
        self._module = module
        self.wants_wasi = False
        self.imports: list[tuple[Import, Any]] = []
        """What answers the imports by their numbers, and the hosts that it asks."""
        self._linker = self._linked(self.info, imports)
        pre = c_void_p()
        check(_linker_pre(self._linker.pointer, module.pointer, byref(pre)))
        self.pre = pre.value or 0
        self._owned = Owned(self.pre, _pre_delete)
        self.further: list[_Further] = []
        if traits is None:
            traits = Traits(self.info.function(REALLOC, *_SIGNATURES[REALLOC]), self.info.memory, Instance)
        self.realloc = traits.realloc
        self.memory = traits.memory
        self._instance = traits.instance
        self.main = traits.main
        self.initializer = self.info.function("_initialize", "", "")
        """What a reactor has called before any other of its functions."""
        self.memory_limit = engine.limits.memory // self.core.shape.memories
        """Bytes of each memory: those of a component share what an instance may have."""

    def add(
        self,
        module: Module,
        imports: Mapping[tuple[str, str], tuple[Import, Any]],
        given: Sequence[tuple[str, str, int, str]],
        info: ModuleInfo,
    ) -> None:
        """Adds a module that is instantiated after those before. `given` says what it imports of them: by module and
        name, the number of the instance and the name of its export.

        Raises InvalidModule for an import that can't be provided.
        """
        self.further.append(_Further(len(self.further) + 1, module, self._linked(info, imports), given))

    def _linked(self, info: ModuleInfo, imports: Mapping[tuple[str, str], tuple[Import, Any]]) -> Owned:
        """A linker with what the host gives a module."""
        linker = Owned(_linker_new(self.core.pointer), _linker_delete)
        for each in info.imports:
            self.wants_wasi = self.wants_wasi or each.module == WASI
            if found := imports.get((each.module, each.name)):
                self._define(linker, each, *found)
        return linker

    def _define(self, linker: Owned, imported: Imported, definition: Import, host: Any) -> None:
        signature = _function_type(definition.params, definition.result)
        module, name = imported.module.encode(), imported.name.encode()
        number = len(self.imports) | (store.HARMLESS if isinstance(definition, Harmless) else 0)
        error = _define_async(
            *(linker.pointer, module, len(module), name, len(name), signature),
            *(store.enter_address, number, None),
        )
        _function_delete(signature)
        if error:
            raise InvalidModule(f"{imported.module}::{imported.name} can't be defined: {_error(error)}")
        self.imports.append((definition, host))

    async def instantiate(self, wasi: Any = None, reused: bool = False) -> Instance:
        """A fresh instance, with what `wasi` gives it (a `Context` of slight_py/wasi): nothing but output, by default.

        Raises Trap, Exit or GuestFault where its start function fails, InvalidModule where the module needs more
        than the limits allow.
        """
        if self.engine.instances >= self.engine.limits.instances:
            raise Trap(f"all {self.engine.limits.instances} instances are in use")
        instance = self._instance(self, reused, wasi)
        try:
            if state := instance.start():
                await instance.finish_start(state)
            for further in self.further:
                if state := instance.start_further(further):
                    await instance.finish_further(further, state)
        except BaseException:
            instance.close()
            raise
        return instance


_instances: set[Instance] = set()
"""Those that were not closed."""

_going: set[asyncio.Task[None]] = set()
"""Frees long lists."""


def _let_go(rows: Sequence[Any]) -> None:
    """Frees a long list in pieces, when nobody else has it any more: a million texts at once take 50 ms."""

    async def free(rows: list[Any]) -> None:
        await asyncio.sleep(0)
        # Besides the one that counts, this function alone.
        while rows and sys.getrefcount(rows) == 2:
            del rows[-Lower.PIECE :]
            await asyncio.sleep(0)

    if isinstance(rows, list):
        task = asyncio.create_task(free(rows))
        _going.add(task)
        task.add_done_callback(_going.discard)


class Instance:
    """One instance of a program, with a store of its own; the `Guest` of the generated bindings."""

    __slots__ = (
        "_computing",
        "_depth",
        "_ended",
        "_handles",
        "_linker",
        "_program",
        "_resources",
        "_sessions",
        "_store",
        "_ticker",
        "_waiting",
        "files",
        "reused",
        "started",
        "wasi",
    )

    def __init__(self, program: Program, reused: bool, wasi: Any) -> None:
        self.reused = reused
        self.wasi = wasi
        """What WASI gives it."""
        self.files: Any = None
        """What it has open there (`Files`), which is closed with it. Most instances open nothing, and need no table."""
        self.started = time.monotonic_ns() if program.wants_wasi else 0
        """When the guest's own monotonic clock began, by `time.monotonic_ns()`."""
        self._program = program
        limits, core = program.engine.limits, program.core
        self._ticker = core.ticker
        self._store = Store(core.pointer, program.memory_limit, limits.table_elements, core.driver.pointer)
        self._handles: Any = None
        self._linker: Owned | None = None
        """That of a module which is being instantiated."""
        self._resources: Resources | None = None
        self._sessions: Sessions | None = None
        self._ended: Exception | None = None
        """What ended the guest, or that it was closed: there is no calling it any more."""
        self._depth = 0
        """How many calls are under way that weren't done at once."""
        self._computing = False
        """Whether the innermost of them gave others their turn in the midst of what it computes."""
        self._waiting: list[asyncio.Future[None]] = []
        """Those that wait for either to change."""
        _instances.add(self)
        program.engine.instances += 1

    def start(self) -> int:
        """Instantiates the module. DONE, or the state that `finish_start` goes on from."""
        ticker = self._ticker
        ticker.enter()
        try:
            state = self._store.start(self._program.pre)
        finally:
            ticker.running -= 1
        if state == DONE:
            self._started()
        return state

    async def finish_start(self, state: int) -> None:
        """Goes on where the module has a start function that isn't done at once."""
        ticker = self._ticker
        ticker.enter()
        try:
            await self._drive("the start function", state)
        finally:
            ticker.running -= 1
        self._started()

    def _started(self) -> None:
        self._store.end()
        self._set_memory(0)

    def _set_memory(self, instance: int) -> None:
        """Takes the memory, where the core instance that is there now exports it."""
        memory = self._program.memory
        if memory is not None and memory >> store.EXPORT_BITS == instance:
            self._store.set_memory(memory)

    def start_further(self, further: _Further) -> int:
        """Instantiates a further module of a component. DONE, or the state that `finish_further` goes on from.

        Raises InvalidModule for an import that earlier instances don't provide as the module wants it.
        """
        ticker = self._ticker
        linker = Owned(_linker_clone(further.linker.pointer), _linker_delete)
        for module, name, number, export in further.given:
            if error := self._store.define(linker.pointer, module, name, number, export):
                raise InvalidModule(f"{module}::{name} can't be provided: {_error(error)}")
        ticker.enter()
        try:
            self._store.instantiate_further(linker.pointer, further.module.pointer)
            self._linker = linker
            state = self._store.advance()
        finally:
            ticker.running -= 1
        if state == DONE:
            self._started_further(further)
        return state

    async def finish_further(self, further: _Further, state: int) -> None:
        """Goes on where such a module has a start function that isn't done at once."""
        ticker = self._ticker
        ticker.enter()
        try:
            await self._drive("the start function", state)
        finally:
            ticker.running -= 1
        self._started_further(further)

    def _started_further(self, further: _Further) -> None:
        self._store.end()
        self._linker = None
        self._set_memory(further.number)

    @property
    def handles(self) -> Any:
        """What the guest holds of its hosts'. Most instances hold nothing, and need no table."""
        if self._handles is None:
            self._handles = Handles()
        return self._handles

    @property
    def resources(self) -> Resources:
        """The guest's own resources."""
        if self._resources is None:
            self._resources = Resources()
        return self._resources

    @property
    def sessions(self) -> Sessions:
        """What its hosts keep for it alone."""
        if self._sessions is None:
            self._sessions = Sessions()
        return self._sessions

    def close(self) -> None:
        """Ends the instance and releases what it held."""
        self._ended = self._ended or RuntimeError("the instance is closed")
        self._store.close()
        self._linker = None
        if self.files is not None:
            self.files.close()
            self.files = None
        if self._sessions is not None:
            self._sessions.end()
            self._sessions = None
        if self in _instances:
            _instances.discard(self)
            self._program.engine.instances -= 1

    # The Guest protocol.

    @property
    def memory(self) -> memoryview:
        memory = self._store.memory
        if memory is None:
            raise GuestFault("the guest exports no memory, or calls an import from its start function")
        return memory

    @property
    def memory_for_wasi(self) -> memoryview:
        """The same, but that WASI may be called from the start function, too: it asks nothing of the guest."""
        memory = self._store.memory
        if memory is None:
            memory = self._store.callers_memory
            if memory is None:
                raise GuestFault("the guest exports no memory")
        return memory

    async def may_call(self) -> None:
        """Waits until `call` can begin at once: while no other call computes. Raises what ended the instance."""
        if self._computing:
            await self._until(self._may_begin)

    async def call(self, export: ExportedFunction, args: Sequence[Flat]) -> Any:
        """Calls an exported function. Raises Trap, Exit, or what an import raised.

        Several tasks may call at a time: see `_drive`.
        """
        if self._computing:
            await self.may_call()
        done = self._begin(export, (args,), False)
        return (done if isinstance(done, list) else await self._finish(export, done))[0]

    async def initialize(self) -> None:
        """Calls a reactor's `_initialize`, which comes before any other of its functions."""
        if self._program.initializer is not None:
            await self.call(self._program.initializer, ())

    async def allocate(self, lower: Lower, realloc: ExportedFunction | None = None) -> None:
        """With `realloc`, that is asked in place of the program's own."""
        if lower.blocks:
            realloc = realloc or self._program.realloc or self._own_function(REALLOC, REALLOC, f"{lower.where}: ")
            if self._computing:
                await self.may_call()
            done = self._begin(realloc, [(0, 0, align, size) for size, align, _ in lower.blocks], True)
            pointers = done if isinstance(done, list) else await self._finish(realloc, done)
            lower.place(pointers)
            if lower.later:
                allocate = functools.partial(self._allocate_texts, realloc, lower.text_align)
                await lower.place_later(pointers, allocate)
                for _, rows, _ in lower.later:
                    _let_go(rows)

    async def _allocate_texts(self, realloc: ExportedFunction, align: int, sizes: list[int]) -> list[Any]:
        await self._program.engine.turn()
        return await self._call(realloc, [(0, 0, align, size) for size in sizes], True)

    async def free(self, blocks: Sequence[tuple[int, int, int]]) -> None:
        if blocks:
            await self._call(self._own_function(FREE, FREE), blocks, True)

    async def drop(self, resource: str, rep: int) -> None:
        await self.call(self._own_function(DROP + resource, DROP), (rep,))

    def _own_function(self, name: str, kind: str, where: str = "") -> ExportedFunction:
        """A function that the binary interface asks of a guest."""
        params, result = _SIGNATURES[kind]
        function = self._program.info.function(name, params, result)
        if function is None:
            signature = f"({', '.join(['i32'] * len(params))}){' -> i32' if result else ''}"
            raise GuestFault(f"{where}the guest does not export {name}{signature}")
        return function

    # How a guest is run.

    async def _call(self, export: ExportedFunction, calls: Sequence[Sequence[Flat]], guarded: bool) -> list[Any]:
        """What `_begin` begins, to its end."""
        if self._computing:
            await self.may_call()
        done = self._begin(export, calls, guarded)
        return done if isinstance(done, list) else await self._finish(export, done)

    def _begin(self, export: ExportedFunction, calls: Sequence[Sequence[Flat]], guarded: bool) -> list[Any] | int:
        """Calls a function once for each of `calls`, and returns the results; or, where the guest isn't done at once,
        the state that `_finish` goes on from. `guarded` refuses it the imports."""
        if self._ended is not None:
            raise self._ended
        ticker = self._ticker
        ticker.enter()
        done: list[Any] | int = []
        try:
            done = self._store.call(export.index, export.params, export.result, calls, guarded)
        except RecursionError:
            raise GuestFault(f"calls into the guest and from it are nested {store.MAX_DEPTH} deep") from None
        except IndexError:
            # The store has the exports once the module is instantiated, which ends with the start function.
            raise GuestFault(
                f"the guest calls an import from its start function that needs {export.name}, which can be called only"
                " when the guest has started"
            ) from None
        finally:
            if isinstance(done, list):
                ticker.running -= 1
        return done

    async def _finish(self, export: ExportedFunction, state: int) -> list[Any]:
        """Goes on with what `_begin` began."""
        depth = self._depth = self._depth + 1
        try:
            await self._drive(export.name, state)
            return self._store.results()
        finally:
            self._ticker.running -= 1
            if self._depth == depth:
                self._depth -= 1
                self._computing = False
                self._store.end()
            else:
                # This one can't be ended before those that are nested in it, nor waited for.
                self._ended = self._ended or Trap("a call was given up while others were nested in it")
            self._changed()

    async def _drive(self, name: str, state: int) -> None:
        """Goes on from `state`, which `advance` said, until the innermost calls are made: answers what the guest asks
        meanwhile.

        Several tasks may be here at a time, since calls nest: a call begins while all others wait for imports, and goes
        on when it is the innermost again. So those that began later come first.
        """
        depth = self._depth
        advance, go_on = self._store.advance, self._store.go_on
        imports = self._program.imports
        ticker = self._ticker
        began = ticker.ticks
        while state:
            if state == CALLED:
                number, args = self._store.imported()
                definition, host = imports[number]
                try:
                    answer: Any = definition.call(host, self, args)
                    if answer is None or type(answer) is int:
                        value = answer
                    else:
                        try:
                            awaited = answer.send(None)
                        except StopIteration as done:
                            value = done.value
                        else:
                            value = await rest(answer, awaited, self._store.renew)
                            if self._depth != depth or self._computing or self._ended is not None:
                                await self._until(functools.partial(self._may_go_on, depth))
                            began = ticker.ticks
                except (GuestFault, Trap) as fault:
                    self._failed(fault)
                    raise
                except Exit as exit_:
                    self._ended = self._ended or exit_
                    raise
                except Exception as error:
                    if definition.failure is None:
                        raise
                    raise definition.failure(host, error) from error
                if ticker.ticks - began > 1:
                    # Code in a straight line doesn't look at the epoch, and each answer may have taken a while.
                    await self._turn()
                    self._store.renew()
                    began = ticker.ticks
                state = go_on(definition.result, value)
                continue
            if state == YIELDED:
                await self._turn()
                began = ticker.ticks
            else:
                # A host that the guest failed inside of may have caught that, and gone on.
                self._ended = self._ended or self._failure(state, name)
                raise self._ended
            state = advance()

    def _failed(self, fault: Exception) -> None:
        """The guest has called an import as it must not. A module can be called again all the same, by who wants to."""

    async def _turn(self) -> None:
        """Others have their turn, in the midst of what the innermost call computes."""
        self._computing = True
        try:
            await self._program.engine.turn()
        finally:
            self._computing = False
            self._changed()

    def _may_begin(self) -> bool:
        return not self._computing

    def _may_go_on(self, depth: int) -> bool:
        return self._depth == depth and not self._computing

    async def _until(self, may: Callable[[], bool]) -> None:
        """Waits until the calls under way allow something. Raises what ended the instance meanwhile."""
        while self._ended is None:
            if may():
                return
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter
        raise self._ended

    def _changed(self) -> None:
        """Has those that wait look again."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(None)

    def _failure(self, state: int, name: str) -> Exception:
        """What ended the instance."""
        found = self._store.failure() or 0
        if state == TRAPPED:
            return _trap_error(found)
        if state == FAILED:
            return _error(found)
        definition, _ = self._program.imports[found]
        return GuestFault(f"{name} calls {definition.module}::{definition.name}")


# Traps and errors.


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _trap_error(pointer: int) -> Trap:
    return _from_message(capi.trap_message(pointer))


def _error(pointer: int) -> Exception:
    return _from_message(capi.error_message(pointer))


def _from_message(message: str) -> Trap:
    """wasmtime's messages are a backtrace, `Caused by:` and the reason."""
    backtrace, _, reason = message.rpartition("Caused by:")
    return Trap(_one_line(reason), backtrace.strip())
