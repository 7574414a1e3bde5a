"""WebAssembly on one event loop: modules, the programs they make with their hosts, and instances as coroutines.

With store.py, the only module that touches wasmtime's C API. `Store` runs a guest until it is done, calls an import or
has had its turn; an `Instance` turns that into a coroutine, in which an import's answer is awaited like anything else.
A guest that only computes gives the loop back whenever the engine's epoch moves on.

The C API is used through the bindings that the `wasmtime` package carries. They are private to it, which is why its
version is pinned.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import mmap
import queue
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from ctypes import POINTER, byref, c_size_t, c_void_p
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import wasmtime
import wasmtime._bindings as ffi
from wasmtime._ffi import filename as library

from bindgen.support import Flat, GuestFault, Handles, Import, Lower, Resources
from slight_py import store
from slight_py.store import CALLED, FAILED, TRAPPED, YIELDED, Store, WasiTemplate

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


_increment_epoch = store.function("engine_increment_epoch", None, c_void_p)
_pre_delete = store.function("instance_pre_delete", None, c_void_p)
_define_async = store.function(
    "linker_define_async_func",
    *[c_void_p, c_void_p, ctypes.c_char_p, c_size_t, ctypes.c_char_p, c_size_t, c_void_p],
    *[c_void_p, c_void_p, c_void_p],
)

_LETTERS = {"i32": "i", "i64": "I", "f32": "f", "f64": "d"}


def _letters(types: Sequence[wasmtime.ValType]) -> str:
    """A signature's types as letters; `?` for those that no interface uses (v128, references)."""
    return "".join(_LETTERS.get(str(each), "?") for each in types)


class Engine:
    """Compiles modules, and holds the pool of instances and the clock that takes turns."""

    def __init__(self, limits: Limits | None = None) -> None:
        """Raises InvalidModule where the system has no room for the pool."""
        self.limits = limits or Limits()
        _check_room(self.limits)
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
            # A table is small: to clear it costs less than to give its pages back.
            "table_keep_resident": 64 << 10,
            "max_core_instance_size": 16 << 20,
        }.items():
            getattr(ffi, f"wasmtime_pooling_allocation_config_{limit}_set")(pool, number)
        ffi.wasmtime_pooling_allocation_strategy_set(config.ptr(), pool)
        ffi.wasmtime_pooling_allocation_config_delete(pool)
        try:
            self._engine = wasmtime.Engine(config)
        except wasmtime.WasmtimeError as error:
            raise InvalidModule(f"the engine can't be set up: {error}") from None
        self.pointer = ctypes.cast(self._engine.ptr(), c_void_p).value or 0
        self._ticker = _Ticker(self._engine)
        self._waiting = 0

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

    async def turn(self) -> None:
        """Waits for the next turn of a guest that computes.

        In a round of the event loop one of them has its turn, and not all: so whatever else there is to do waits for
        one, however many there are.
        """
        self._waiting += 1
        try:
            for _ in range(self._waiting):
                await asyncio.sleep(0)
        finally:
            self._waiting -= 1


_MAPPINGS = 8
"""Mappings of memory that an instance takes: two stacks with their guards, and its memory in up to three parts."""

_SLOT = (4 << 30) + (64 << 20)
"""Bytes of address space for one memory of up to 4 GiB: the pool reserves all that a 32-bit address reaches."""


def _check_room(limits: Limits) -> None:
    """Raises InvalidModule where the pool doesn't fit into a process: wasmtime would end the process, now or later."""
    needed = limits.instances * _MAPPINGS
    with contextlib.suppress(OSError):
        most = int(Path("/proc/sys/vm/max_map_count").read_text())
        if needed > most:
            raise InvalidModule(
                f"{limits.instances} instances at once take {needed} mappings of memory, and the system gives a "
                f"process {most} (vm.max_map_count); allow fewer at once"
            )
    try:
        mmap.mmap(-1, limits.instances * _SLOT, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0).close()
    except OSError:
        raise InvalidModule(
            f"{limits.instances} instances at once take {limits.instances * _SLOT >> 30} GiB of address space, and "
            "the system doesn't give a process that much (ulimit -v); allow fewer at once"
        ) from None


def abandoned() -> bool:
    """Whether a guest still runs in a thread, though nothing waits for it any more."""
    return any(instance.abandoned for instance in _instances)


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
        self,
        engine: Engine,
        module: wasmtime.Module,
        imports: Mapping[tuple[str, str], tuple[Import, Any]],
        info: ModuleInfo | None = None,
    ) -> None:
        """`imports` gives what answers each imported function, by module and name; WASI's own need not be among them.
        `info` is what `describe` says of the module, where that is known already.

        Raises InvalidModule for an import that nothing provides.
        """
        self.engine = engine
        self.info = info or describe(module)
        self._module = module
        self._linker = wasmtime.Linker(engine._engine)
        self.wants_wasi = any(each.module == WASI for each in self.info.imports)
        if self.wants_wasi:
            self._linker.define_wasi()
            self._linker.allow_shadowing = True
        self._imports: list[tuple[Import, Any]] = []
        for each in self.info.imports:
            if found := imports.get((each.module, each.name)):
                self._define(*found)
        pre = POINTER(ffi.wasmtime_instance_pre_t)()
        error = ffi.wasmtime_linker_instantiate_pre(self._linker.ptr(), module.ptr(), byref(pre))
        if error:
            raise InvalidModule(_one_line(str(wasmtime.WasmtimeError._from_ptr(error))))
        self.pre = ctypes.cast(pre, c_void_p).value or 0
        # Not at the end of the process: a guest that nothing waits for any more may be at it in its thread.
        weakref.finalize(self, _pre_delete, self.pre).atexit = False

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
        module, name = definition.module.encode(), definition.name.encode()
        error = _define_async(
            *(self._linker.ptr(), module, len(module), name, len(name), signature.ptr()),
            *(store.enter_address, len(self._imports), None),
        )
        if error:
            raise InvalidModule(f"{definition.module}::{definition.name} can't be defined: {_error(error)}")
        self._imports.append((definition, host))

    def import_at(self, number: int) -> tuple[Import, Any]:
        """What answers the import of that number, and the host that it asks."""
        return self._imports[number]

    async def instantiate(
        self, wasi: WasiTemplate | None = None, in_thread: bool = False, reused: bool = False
    ) -> Instance:
        """A fresh instance, with what `wasi` gives it where the module wants WASI: nothing but output, by default.

        With `in_thread`, the guest runs in a thread of its own, so that one which reads its standard input, say, holds
        up nobody. It can't be ended while it does.

        Raises Trap, Exit or GuestFault where its start function fails, InvalidModule where the module needs more
        than the limits allow.
        """
        instance = Instance(self, in_thread, reused, (wasi or _NO_WASI).make() if self.wants_wasi else 0)
        try:
            await instance._start()
        except BaseException:
            instance.close()
            raise
        return instance


_NO_WASI = WasiTemplate((), {}, (), stdin=False)

_instances: set[Instance] = set()
"""Those that were not closed."""


class Instance:
    """One instance of a program, with a store of its own; the `Guest` of the generated bindings."""

    __slots__ = ("_ended", "_program", "_store", "_thread", "handles", "resources", "reused", "started")

    def __init__(self, program: Program, in_thread: bool, reused: bool, wasi: int) -> None:
        self.handles = Handles()
        self.resources = Resources()
        self.reused = reused
        self.started = time.monotonic_ns() if wasi else 0
        """When the guest's own monotonic clock began, by `time.monotonic_ns()`."""
        self._program = program
        limits = program.engine.limits
        self._store = Store(program.engine.pointer, limits.memory, limits.table_elements, wasi)
        self._thread = _Thread() if in_thread else None
        self._ended: Exception | None = None
        """What ended the guest, or that it was closed: there is no calling it any more."""
        _instances.add(self)

    async def _start(self) -> None:
        self._store.instantiate(self._program.pre)
        await self._drive("the start function")
        self._store.end()
        if self._program.info.memory is not None:
            self._store.set_memory(self._program.info.memory)

    def close(self) -> None:
        """Ends the instance and releases what it held.

        One whose thread still runs is left alone: its callbacks may come at any time.
        """
        if not self.abandoned:
            self._ended = self._ended or RuntimeError("the instance is closed")
            self._store.close()
            if self._thread is not None:
                self._thread.stop()
            _instances.discard(self)

    @property
    def abandoned(self) -> bool:
        """Whether the instance was to end while its thread ran it."""
        return self._thread is not None and not self._thread.idle

    # The Guest protocol.

    @property
    def memory(self) -> memoryview:
        memory = self._store.memory
        if memory is None:
            raise GuestFault("the guest exports no memory, or calls an import from its start function")
        return memory

    async def call(self, export: ExportedFunction, args: Sequence[Flat]) -> Any:
        """Calls an exported function. Raises Trap, Exit, or what an import raised."""
        return (await self._call(export, (args,), False))[0]

    async def allocate(self, lower: Lower) -> None:
        if lower.blocks:
            realloc = self._own_function(REALLOC, REALLOC, f"{lower.where}: ")
            calls = [(0, 0, align, size) for size, align, _ in lower.blocks]
            pointers = await self._call(realloc, calls, True)
            lower.place(pointers)

    async def free(self, blocks: Sequence[tuple[int, int, int]]) -> None:
        if blocks:
            await self._call(self._own_function(FREE, FREE), blocks, True)

    async def drop(self, resource: str, rep: int) -> None:
        await self.call(self._own_function(DROP + resource, DROP), (rep,))

    def _own_function(self, name: str, kind: str, where: str = "") -> ExportedFunction:
        """A function that the binary interface asks of a guest."""
        function = self._program.info.functions.get(name)
        params, result = _SIGNATURES[kind]
        if function is None or (function.params, function.result) != (params, result):
            signature = f"({', '.join(['i32'] * len(params))}){' -> i32' if result else ''}"
            raise GuestFault(f"{where}the guest does not export {name}{signature}")
        return function

    # How a guest is run.

    async def _call(self, export: ExportedFunction, calls: Sequence[Sequence[Flat]], guarded: bool) -> list[Any]:
        """Calls a function once for each of `calls`, and returns the results. `guarded` refuses it the imports."""
        if self._ended is not None:
            raise self._ended
        try:
            self._store.begin(export.index, export.params, export.result, calls, guarded)
        except RecursionError:
            raise GuestFault(f"calls into the guest and from it are nested {store.MAX_DEPTH} deep") from None
        try:
            await self._drive(export.name)
            return self._store.results()
        finally:
            if not self.abandoned:
                self._store.end()

    async def _drive(self, name: str) -> None:
        """Advances the guest until the innermost calls are made, and answers what it asks meanwhile."""
        advance = self._store.advance
        with self._program.engine.busy():
            while state := advance() if self._thread is None else await self._thread.run(advance):
                if state == CALLED:
                    number, args = self._store.imported()
                    definition, host = self._program.import_at(number)
                    value = await definition.call(host, self, args)
                    self._store.answer(definition.result, value)
                elif state == YIELDED:
                    await self._program.engine.turn()
                else:
                    # A host that the guest failed inside of may have caught that, and gone on.
                    self._ended = self._ended or self._failure(state, name)
                    raise self._ended

    def _failure(self, state: int, name: str) -> Exception:
        """What ended the instance."""
        found = self._store.failure() or 0
        if state == TRAPPED:
            return _trap_error(found)
        if state == FAILED:
            return _error(found)
        definition, _ = self._program.import_at(found)
        return GuestFault(f"{name} calls {definition.module}::{definition.name}")


class _Thread:
    """A thread that runs one guest."""

    def __init__(self) -> None:
        self.idle = True
        self._work: queue.SimpleQueue[tuple[Callable[[], int], asyncio.Future[int]] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        # A daemon: a guest that waits for input for ever must not keep the process from ending.
        threading.Thread(target=self._run, name="guest", daemon=True).start()

    def stop(self) -> None:
        self._work.put(None)

    async def run(self, advance: Callable[[], int]) -> int:
        done: asyncio.Future[int] = self._loop.create_future()
        self.idle = False
        self._work.put((advance, done))
        return await done

    def _run(self) -> None:
        while work := self._work.get():
            advance, done = work
            state = advance()
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
                self._loop.call_soon_threadsafe(self._finish, done, state)

    def _finish(self, done: asyncio.Future[int], state: int) -> None:
        self.idle = True
        if not done.done():
            done.set_result(state)


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
