"""WebAssembly on one event loop: the only module that touches wasmtime's C API.

A guest runs on its own stack (a fiber) inside `wasmtime_call_future_poll`. When it calls an import, the C API calls
back on that stack; the callback does nothing but note the call, and the poll returns. The coroutine that polls then
awaits the import's answer like any other coroutine, on the thread's own stack, and polls again. A guest that only
computes gives the loop back whenever the engine's epoch moves on.

The C API is used through the bindings that the `wasmtime` package carries. They are private to it, which is why its
version is pinned. Ownership of every pointer follows the headers of wasmtime's C API (`wasmtime/async.h` first of all).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import itertools
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from ctypes import POINTER, addressof, byref, c_bool, c_char, c_size_t, c_void_p
from dataclasses import dataclass, field
from struct import Struct
from typing import Any

import wasmtime
import wasmtime._bindings as ffi
from wasmtime._ffi import dll
from wasmtime._ffi import filename as library

from bindgen.support import Flat, GuestFault, Handles, Import, Lower, Resources

TICK = 0.002
"""Seconds between two epochs: how long a guest computes before others have their turn."""

REALLOC, FREE, DROP = "canonical_abi_realloc", "canonical_abi_free", "canonical_abi_drop_"
_SIGNATURES = {REALLOC: ("iiii", "i"), FREE: ("iii", ""), DROP: ("i", "")}

WASI = "wasi_snapshot_preview1"


class InvalidModule(Exception):
    """The bytes are not a module that this engine runs; str() says why."""


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


# The C API, with arguments as plain integers: half the cost of ctypes pointers. Functions are taken by index, since an
# attribute of `dll` is shared with the package's own bindings and must keep its argument types.


def _function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    function = dll[name]
    function.restype, function.argtypes = result, arguments
    return function


_store_new = _function("wasmtime_store_new", c_void_p, c_void_p, c_void_p, c_void_p)
_store_context = _function("wasmtime_store_context", c_void_p, c_void_p)
_store_delete = _function("wasmtime_store_delete", None, c_void_p)
_store_limiter = _function("wasmtime_store_limiter", None, c_void_p, *[ctypes.c_int64] * 5)
_set_epoch_deadline = _function("wasmtime_context_set_epoch_deadline", None, c_void_p, ctypes.c_uint64)
_yield_on_epoch = _function("wasmtime_context_epoch_deadline_async_yield_and_update", None, c_void_p, ctypes.c_uint64)
_increment_epoch = _function("wasmtime_engine_increment_epoch", None, c_void_p)
_get_data = _function("wasmtime_context_get_data", c_void_p, c_void_p)
_set_wasi = _function("wasmtime_context_set_wasi", c_void_p, c_void_p, c_void_p)
_caller_context = _function("wasmtime_caller_context", c_void_p, c_void_p)
_instantiate = _function(
    "wasmtime_instance_pre_instantiate_async", c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p
)
_export_nth = _function(
    "wasmtime_instance_export_nth", c_bool, c_void_p, c_void_p, c_size_t, c_void_p, c_void_p, c_void_p
)
_call_async = _function(
    "wasmtime_func_call_async",
    c_void_p,
    *[c_void_p, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_void_p],
)
_poll = _function("wasmtime_call_future_poll", c_bool, c_void_p)
_future_delete = _function("wasmtime_call_future_delete", None, c_void_p)
_memory_data = _function("wasmtime_memory_data", c_void_p, c_void_p, c_void_p)
_memory_size = _function("wasmtime_memory_data_size", c_size_t, c_void_p, c_void_p)
_define_async = _function(
    "wasmtime_linker_define_async_func",
    *[c_void_p, c_void_p, ctypes.c_char_p, c_size_t, ctypes.c_char_p, c_size_t, c_void_p],
    *[c_void_p, c_void_p, c_void_p],
)

# A value is a kind (one byte) and a union at offset 8, 32 bytes in all (`wasmtime/val.h`).
_VAL_SIZE = ctypes.sizeof(ffi.wasmtime_val_t)
_VAL_FORMATS = {"i": "8xI20x", "I": "8xQ16x", "f": "8xf20x", "d": "8xd16x"}
_VAL_KINDS = {"i": 0, "I": 1, "f": 2, "d": 3}
_VAL_PACK = {letter: Struct("<B7x" + text[2:]) for letter, text in _VAL_FORMATS.items()}
_VAL_UNPACK = {letter: Struct("<" + text) for letter, text in _VAL_FORMATS.items()}


@functools.cache
def _packer(letters: str) -> Callable[..., bytes]:
    """Packs the arguments of a call: a kind and a value for each letter."""
    return Struct("<" + "".join("B7x" + _VAL_FORMATS[letter][2:] for letter in letters)).pack


_LETTERS = {"i32": "i", "i64": "I", "f32": "f", "f64": "d"}


def _letters(types: Sequence[wasmtime.ValType]) -> str:
    """A signature's types as letters; `?` for those that no interface uses (v128, references)."""
    return "".join(_LETTERS.get(str(each), "?") for each in types)


# The callbacks. They run on the guest's stack, must not raise, and leave all work to the coroutine that polls. What
# they are given is a token: the number of the instance, and how deep the call is nested in others.

_instances: dict[int, Instance] = {}
_numbers = itertools.count(1)

_DEPTH_BITS = 4
MAX_DEPTH = 1 << _DEPTH_BITS
"""How many calls into a guest may be nested: it calls an import, which calls it (to allocate, say), and so on."""

_CONTINUATION = Struct("<QQQ")


def _resume(token: int) -> bool:
    """Polled until the import's answer is in place."""
    return _instances[token >> _DEPTH_BITS]._resumed(token % MAX_DEPTH)


def _enter(
    function: int | None,
    caller: int,
    args: int,
    _nargs: int,
    results: int,
    _nresults: int,
    _trap: int,
    continuation: int,
) -> None:
    """A guest calls an import."""
    instance = _instances[_get_data(_caller_context(caller))]
    code = _CONTINUATION.pack(_RESUME, instance._entered(function or 0, args, results), 0)
    ctypes.memmove(continuation, code, len(code))


_continuation_callback = ctypes.CFUNCTYPE(c_bool, c_void_p)
_import_callback = ctypes.CFUNCTYPE(
    None, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_void_p
)
_CALLBACKS = _continuation_callback(_resume), _import_callback(_enter)
_RESUME, _ENTER = (ctypes.cast(callback, c_void_p).value or 0 for callback in _CALLBACKS)


class Engine:
    """Compiles modules, and holds the pool of instances and the clock that takes turns."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        config = wasmtime.Config()
        config.epoch_interruption = True
        # A guest that waits on shared memory would stop the loop; 64-bit and further memories aren't in the interface.
        config.wasm_threads = False
        config.wasm_memory64 = False
        config.wasm_multi_memory = False
        config.max_wasm_stack = self.limits.stack
        ffi.wasmtime_config_async_stack_size_set(config.ptr(), self.limits.stack + (1 << 20))
        pool = ffi.wasmtime_pooling_allocation_config_new()
        for limit, number in {
            "total_core_instances": self.limits.instances,
            "total_memories": self.limits.instances,
            "total_tables": self.limits.instances,
            # A guest that is asked for memory while it waits for an import runs on a second stack.
            "total_stacks": self.limits.instances * 2,
            "max_memory_size": self.limits.memory,
            "table_elements": self.limits.table_elements,
            "max_core_instance_size": 16 << 20,
        }.items():
            getattr(ffi, f"wasmtime_pooling_allocation_config_{limit}_set")(pool, number)
        ffi.wasmtime_pooling_allocation_strategy_set(config.ptr(), pool)
        ffi.wasmtime_pooling_allocation_config_delete(pool)
        try:
            self._engine = wasmtime.Engine(config)
        except wasmtime.WasmtimeError as error:
            raise InvalidModule(f"the engine can't be set up: {error}") from None
        self.pointer = ctypes.cast(self._engine.ptr(), c_void_p).value
        self._ticker = _Ticker(self._engine)

    @property
    def identity(self) -> str:
        """Tells engines apart whose compiled modules are not each other's: the library's build, and the limits."""
        status = library.stat()
        return f"{status.st_size} {status.st_mtime_ns} {self.limits}"

    def compile(self, wasm: bytes) -> wasmtime.Module:
        """Compiles a module. Raises InvalidModule."""
        try:
            return wasmtime.Module(self._engine, wasm)
        except wasmtime.WasmtimeError as error:
            raise InvalidModule(_one_line(str(error))) from None

    def load(self, compiled: bytes) -> wasmtime.Module:
        """Takes a module that `serialize` gave. Only for bytes that this program wrote: they are machine code.

        Raises InvalidModule where they come from another version of the engine or another machine.
        """
        try:
            return wasmtime.Module.deserialize(self._engine, compiled)
        except wasmtime.WasmtimeError as error:
            raise InvalidModule(_one_line(str(error))) from None

    def busy(self) -> contextlib.AbstractContextManager[None]:
        """Keeps the clock going for as long as a guest runs."""
        return self._ticker


def abandoned() -> bool:
    """Whether a guest still runs in a thread, though nothing waits for it any more."""
    return any(instance.abandoned for instance in _instances.values())


class _Ticker:
    """Moves the engine's epoch on while guests run; a while after the last one its thread ends."""

    LINGER = 1.0
    """Seconds."""

    def __init__(self, engine: wasmtime.Engine) -> None:
        # The object and not its address alone: the thread must not outlive the engine.
        self._engine = engine
        self._running = 0
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._running += 1
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="epoch", daemon=True)
                    self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._running -= 1

    def _run(self) -> None:
        pointer = ctypes.cast(self._engine.ptr(), c_void_p)
        idle = 0.0
        while True:
            time.sleep(TICK)
            _increment_epoch(pointer)
            idle = 0.0 if self._running else idle + TICK
            if idle >= self.LINGER:
                with self._lock:
                    # In this order: whoever comes between the two sees that there is no thread, and waits for the lock.
                    this, self._thread = self._thread, None
                    if not self._running:
                        return
                    self._thread = this


@dataclass(frozen=True, slots=True)
class ExportedFunction:
    """A function that a module exports, by its place among the exports."""

    name: str
    index: int
    params: str
    result: str


@dataclass(slots=True)
class _LinkedImport:
    definition: Import
    host: Any
    unpack: Callable[[bytes], tuple[Any, ...]]
    args_size: int


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


def describe(module: wasmtime.Module) -> ModuleInfo:
    info = ModuleInfo()
    for each in module.imports:
        kind, name = each.type, each.name or ""
        if isinstance(kind, wasmtime.FuncType):
            info.imports.append(Imported(each.module, name, _letters(kind.params), _letters(kind.results)))
        else:
            info.other_imports.append((each.module, name))
    for index, export in enumerate(module.exports):
        kind = export.type
        if isinstance(kind, wasmtime.FuncType):
            info.functions[export.name] = ExportedFunction(
                export.name, index, _letters(kind.params), _letters(kind.results)
            )
        elif isinstance(kind, wasmtime.MemoryType) and export.name == "memory":
            info.memory = index
    return info


class Program:
    """A module linked with its hosts, from which instances are made."""

    def __init__(
        self, engine: Engine, module: wasmtime.Module, imports: Mapping[tuple[str, str], tuple[Import, Any]]
    ) -> None:
        """`imports` gives what answers each imported function, by module and name; WASI's own need not be among them.

        Raises InvalidModule for an import that nothing provides.
        """
        self.engine = engine
        self.info = describe(module)
        self._module = module
        self._linker = wasmtime.Linker(engine._engine)
        self.wants_wasi = any(each.module == WASI for each in self.info.imports)
        if self.wants_wasi:
            self._linker.define_wasi()
            self._linker.allow_shadowing = True
        self._imports: list[_LinkedImport] = []
        for each in self.info.imports:
            if found := imports.get((each.module, each.name)):
                self._define(*found)
        pre = POINTER(ffi.wasmtime_instance_pre_t)()
        error = ffi.wasmtime_linker_instantiate_pre(self._linker.ptr(), module.ptr(), byref(pre))
        if error:
            raise InvalidModule(_one_line(str(wasmtime.WasmtimeError._from_ptr(error))))
        self._pre = ctypes.cast(pre, c_void_p).value

    def _define(self, definition: Import, host: Any) -> None:
        types = {
            "i": wasmtime.ValType.i32,
            "I": wasmtime.ValType.i64,
            "f": wasmtime.ValType.f32,
            "d": wasmtime.ValType.f64,
        }
        signature = wasmtime.FuncType(
            [types[letter]() for letter in definition.params],
            [types[letter]() for letter in definition.result],
        )
        unpack = Struct("<" + "".join(_VAL_FORMATS[letter] for letter in definition.params))
        module, name = definition.module.encode(), definition.name.encode()
        error = _define_async(
            *(self._linker.ptr(), module, len(module), name, len(name), signature.ptr()),
            *(_ENTER, len(self._imports), None),
        )
        if error:
            raise InvalidModule(f"{definition.module}::{definition.name} can't be defined")
        self._imports.append(_LinkedImport(definition, host, unpack.unpack, unpack.size))

    async def instantiate(
        self, wasi: Callable[[], Any] | None = None, in_thread: bool = False, reused: bool = False
    ) -> Instance:
        """A fresh instance. `wasi` makes the C API's configuration where the module wants WASI.

        With `in_thread`, the guest runs in a thread of its own, so that one which reads its standard input, say, holds
        up nobody. It can't be ended while it does.

        Raises Trap, Exit or GuestFault where its start function fails, InvalidModule where the module needs more
        than the limits allow.
        """
        instance = Instance(self, in_thread, reused)
        try:
            await instance._start(wasi)
        except BaseException:
            instance.close()
            raise
        return instance


class _Activation:
    """Calls into a guest, one after the other, and the import that the guest called meanwhile, if it waits for one."""

    __slots__ = ("answered", "calls", "future", "guard", "imported", "result", "results")

    def __init__(self, calls: list[tuple[int, bytes, int, str]], guard: str) -> None:
        self.calls = calls
        """The next ones, the first last: address of the function, arguments, how many, letter of the result."""
        self.results: list[Any] = []
        self.guard = guard
        """What the guest is asked for, if it must not call imports meanwhile."""
        self.future: int | None = None
        """The call under way, and the letter of its result."""
        self.result = ""
        self.imported: tuple[int, int, int] | None = None
        """The import that the guest called: its number, and where its arguments and results are."""
        self.answered = False


class Instance:
    """One instance of a program, with a store of its own; the `Guest` of the generated bindings.

    At any time there is one call into it, and others nested in that: each made while the guest waits for an import. A
    nested call runs inside the poll of the outer one, since that is where the guest's stacks may be used.
    """

    __slots__ = (
        "_activations",
        "_args",
        "_args_at",
        "_context",
        "_error",
        "_externs",
        "_failure",
        "_instance",
        "_memory",
        "_number",
        "_program",
        "_store",
        "_thread",
        "_trap",
        "handles",
        "resources",
        "reused",
        "started",
    )

    def __init__(self, program: Program, in_thread: bool, reused: bool) -> None:
        self.handles = Handles()
        self.resources = Resources()
        self.reused = reused
        self.started = 0
        """When the guest's own monotonic clock began, by `time.monotonic_ns()`."""
        self._program = program
        self._number = next(_numbers)
        self._store: int | None = _store_new(program.engine.pointer, self._number, None)
        self._context = _store_context(self._store)
        self._thread = _Thread() if in_thread else None
        self._externs: dict[int, Any] = {}
        self._memory: Any = None
        self._instance = ffi.wasmtime_instance_t()
        self._trap = c_void_p()
        self._error = c_void_p()
        # Arguments, and behind them the result. Calls copy their arguments at once, so one place serves all of them.
        self._args = (c_char * (_VAL_SIZE * 17))()
        self._args_at = addressof(self._args)
        self._activations: list[_Activation] = []
        self._failure: BaseException | None = None
        """What ends the instance, found on the guest's stack."""
        _instances[self._number] = self

    async def _start(self, wasi: Callable[[], Any] | None) -> None:
        limits = self._program.engine.limits
        _store_limiter(self._store, limits.memory, limits.table_elements, -1, -1, -1)
        _yield_on_epoch(self._context, 1)
        _set_epoch_deadline(self._context, 1)
        if self._program.wants_wasi and wasi is not None:
            _set_wasi(self._context, wasi())
            self.started = time.monotonic_ns()
        activation = _Activation([], "")
        at = addressof(self._instance)
        activation.future = _instantiate(self._program._pre, self._context, at, *self._outcome())
        await self._drive(activation)
        if self._program.info.memory is not None:
            self._memory = self._extern(self._program.info.memory).of.memory

    def close(self) -> None:
        """Ends the instance and releases what it held.

        One whose thread still runs is left alone: its callbacks may come at any time.
        """
        if self._store is not None and not self.abandoned:
            _store_delete(self._store)
            self._store = None
            del _instances[self._number]

    @property
    def abandoned(self) -> bool:
        """Whether the instance was to end while its thread ran it."""
        return self._thread is not None and not self._thread.idle

    def _outcome(self) -> tuple[int, int]:
        """Where the C API puts a trap or an error."""
        self._trap.value = self._error.value = None
        return addressof(self._trap), addressof(self._error)

    def _extern(self, index: int) -> Any:
        """The export at `index`."""
        found = self._externs.get(index)
        if found is None:
            found = ffi.wasmtime_extern_t()
            name, length = c_void_p(), c_size_t()
            where = (addressof(self._instance), index, addressof(name), addressof(length), addressof(found))
            if not _export_nth(self._context, *where):
                raise GuestFault(f"export {index} does not exist")
            self._externs[index] = found
        return found

    def _own_function(self, name: str, kind: str) -> ExportedFunction:
        """A function that the binary interface asks of a guest."""
        function = self._program.info.functions.get(name)
        params, result = _SIGNATURES[kind]
        if function is None or (function.params, function.result) != (params, result):
            signature = f"({', '.join(['i32'] * len(params))}){' -> i32' if result else ''}"
            raise GuestFault(f"the guest does not export {name}{signature}")
        return function

    # The Guest protocol.

    @property
    def memory(self) -> memoryview:
        if self._memory is None:
            raise GuestFault("the guest exports no memory, or calls an import from its start function")
        at = addressof(self._memory)
        return _view(_memory_data(self._context, at), _memory_size(self._context, at))

    async def call(self, export: ExportedFunction, args: Sequence[Flat]) -> Any:
        """Calls an exported function. Raises Trap, Exit, or what an import raised."""
        return (await self._call(export, [args]))[0]

    async def allocate(self, lower: Lower) -> None:
        if lower.blocks:
            realloc = self._own_function(REALLOC, REALLOC)
            pointers = await self._call(realloc, [(0, 0, align, size) for size, align, _ in lower.blocks], REALLOC)
            lower.place(self.memory, pointers)

    async def free(self, blocks: Sequence[tuple[int, int, int]]) -> None:
        if blocks:
            await self._call(self._own_function(FREE, FREE), blocks, FREE)

    async def drop(self, resource: str, rep: int) -> None:
        await self.call(self._own_function(DROP + resource, DROP), (rep,))

    async def _call(self, export: ExportedFunction, calls: Sequence[Sequence[Flat]], guard: str = "") -> list[Any]:
        """Calls a function once for each of `calls`, and returns the results."""
        function = addressof(self._extern(export.index).of.func)
        pack = _packer(export.params)
        kinds = [_VAL_KINDS[letter] for letter in export.params]
        packed = [
            (function, pack(*itertools.chain.from_iterable(zip(kinds, args, strict=True))), len(args), export.result)
            for args in reversed(calls)
        ]
        activation = _Activation(packed, guard)
        await self._drive(activation)
        return activation.results

    # How a guest is run.

    async def _drive(self, activation: _Activation) -> None:
        """Makes the calls of an activation, and answers the imports that the guest calls meanwhile."""
        depth = len(self._activations)
        if depth == MAX_DEPTH:
            raise GuestFault(f"calls into the guest and from it are nested {MAX_DEPTH} deep")
        self._activations.append(activation)
        outermost = self._activations[0]
        try:
            with self._program.engine.busy():
                while True:
                    if self._thread is None:
                        self._advance(outermost)
                    else:
                        await self._thread.run(self._advance, outermost)
                    if self._failure is not None:
                        raise self._failure
                    if activation.future is None and not activation.calls:
                        return
                    if activation.imported is None:
                        await asyncio.sleep(0)  # the epoch moved on: the others have their turn
                    else:
                        imported, activation.imported = activation.imported, None
                        await self._answer(activation, *imported)
        finally:
            if not self.abandoned:
                self._end(activation)

    def _end(self, activation: _Activation) -> None:
        if activation.future is not None:
            _future_delete(activation.future)
            activation.future = None
        self._activations.remove(activation)

    def _advance(self, activation: _Activation) -> bool:
        """Runs the guest until it has done what it's asked for, has called an import, or its turn is over.

        True in the first case. A nested activation is advanced on the stack of the one around it.
        """
        results = self._args_at + 16 * _VAL_SIZE
        results_in = memoryview(self._args)[16 * _VAL_SIZE :]
        try:
            while True:
                if activation.future is None:
                    if not activation.calls:
                        return True
                    function, args, count, activation.result = activation.calls.pop()
                    ctypes.memmove(self._args_at, args, len(args))
                    activation.future = _call_async(
                        *(self._context, function, self._args_at, count, results, len(activation.result)),
                        *self._outcome(),
                    )
                if not _poll(activation.future):
                    return False
                _future_delete(activation.future)
                activation.future = None
                self._raise_outcome()
                letter = activation.result
                activation.results.append(_VAL_UNPACK[letter].unpack_from(results_in)[0] if letter else None)
        except BaseException as error:
            self._failure = error
            return False

    def _raise_outcome(self) -> None:
        if self._trap.value:
            raise _trap_error(self._trap.value)
        if self._error.value:
            raise _error(self._error.value)

    async def _answer(self, activation: _Activation, function: int, args: int, results: int) -> None:
        linked = self._program._imports[function]
        definition = linked.definition
        flat = linked.unpack(ctypes.string_at(args, linked.args_size))
        value = await definition.call(linked.host, self, flat)
        if definition.result:
            letter = definition.result
            ctypes.memmove(results, _VAL_PACK[letter].pack(_VAL_KINDS[letter], value), _VAL_SIZE)
        activation.answered = True

    def _entered(self, function: int, args: int, results: int) -> int:
        """On the guest's stack: it calls an import. Returns the token to resume it with."""
        depth = len(self._activations) - 1
        activation = self._activations[depth]
        activation.answered = False
        if activation.guard:
            definition = self._program._imports[function].definition
            self._failure = GuestFault(f"{activation.guard} calls {definition.module}::{definition.name}")
        else:
            activation.imported = (function, args, results)
        return self._number << _DEPTH_BITS | depth

    def _resumed(self, depth: int) -> bool:
        """On the guest's stack: an import that it called is polled. True once the answer is in place."""
        if self._failure is None and depth + 1 < len(self._activations):
            self._advance(self._activations[depth + 1])
            return False
        return self._activations[depth].answered


class _Thread:
    """A thread that runs one guest."""

    def __init__(self) -> None:
        self.idle = True
        self._work: queue.SimpleQueue[tuple[Callable[[_Activation], bool], _Activation, asyncio.Future[None]]]
        self._work = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        # A daemon: a guest that waits for input for ever must not keep the process from ending.
        threading.Thread(target=self._run, name="guest", daemon=True).start()

    async def run(self, advance: Callable[[_Activation], bool], activation: _Activation) -> None:
        done: asyncio.Future[None] = self._loop.create_future()
        self.idle = False
        self._work.put((advance, activation, done))
        await done

    def _run(self) -> None:
        while True:
            advance, activation, done = self._work.get()
            advance(activation)
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
                self._loop.call_soon_threadsafe(self._finish, done)

    def _finish(self, done: asyncio.Future[None]) -> None:
        self.idle = True
        if not done.done():
            done.set_result(None)


_views: dict[tuple[int, int], memoryview] = {}


def _view(base: int, size: int) -> memoryview:
    """The memory at `base`. Slots of the pool come again, so their views are kept."""
    view = _views.get((base, size))
    if view is None:
        if len(_views) > 4096:
            _views.clear()
        view = memoryview((ctypes.c_ubyte * size).from_address(base)).cast("B")
        _views[base, size] = view
    return view


# Traps and errors.


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _trap_error(pointer: int) -> Trap:
    trap = wasmtime.Trap._from_ptr(ctypes.cast(pointer, POINTER(ffi.wasm_trap_t)))
    return _from_message(trap.message)


def _error(pointer: int) -> Exception:
    error = wasmtime.WasmtimeError._from_ptr(ctypes.cast(pointer, POINTER(ffi.wasmtime_error_t)))
    if isinstance(error, wasmtime.ExitTrap):
        return Exit(error.code)
    return _from_message(str(error))


def _from_message(message: str) -> Trap:
    """wasmtime's messages are a backtrace, `Caused by:` and the reason."""
    backtrace, _, reason = message.rpartition("Caused by:")
    return Trap(_one_line(reason), backtrace.strip())
