"""Modules compiled ahead of time for the native machine, whose kernel has wasmtime's runtime in it and no compiler.

The kernel loads a module only where it was compiled by the same version of wasmtime with the same settings. So they are
here and nowhere else in Python; `unikernel/native/src/host/engine.rs` has the settings that the kernel's runtime
expects. `python -m slight_py.ahead IN.wasm OUT.cwasm [host]` compiles one by hand.
"""

from __future__ import annotations

import sys
from ctypes import byref, c_bool, c_char_p, c_size_t, c_uint64, c_void_p
from pathlib import Path

from slight_py import capi
from slight_py.capi import Owned, function
from slight_py.engine import InvalidModule, ModuleInfo, UnsupportedModule, check, check_signatures, describe

TARGET, MACHINE = b"x86_64-unknown-linux-gnu", b"x86_64-unknown-none-eabi"
"""What the library compiles for, and what a module is said to be compiled for. The C API compiles for the system alone
that it runs on; the code is the same for one without an operating system, and the runtime compares the names of the
processor and of the system. The others make the name as long as it has to be, of words that the runtime knows: it looks
for one that it doesn't know in all its lists, at each start."""

SETTINGS: dict[str, bool | int] = {
    # A processor's fault would have to be turned into a trap: the code checks all that it does instead.
    "signals_based_traps": False,
    # There are no files to map memory from, no unwinder, and no threads.
    "memory_init_cow": False,
    "native_unwind_info": False,
    "concurrency_support": False,
    "gc_support": False,
    # Memory takes no more addresses than it has bytes, in bytes.
    "memory_reservation": 0,
    "memory_guard_size": 0,
    "memory_reservation_for_growth": 1 << 20,
    # How a guest that computes is ended, and others have their turn.
    "epoch_interruption": True,
    # What `slight-py run` doesn't have either: see engine.py.
    "wasm_threads": False,
    "wasm_memory64": False,
    "wasm_multi_memory": False,
    "wasm_gc": False,
    "wasm_function_references": False,
    "wasm_exceptions": False,
    "wasm_stack_switching": False,
    "wasm_component_model": False,
    # What relaxed SIMD may do in either way, it does without a call to a function: that would be passed its numbers in
    # another way than the kernel's code expects.
    "wasm_relaxed_simd_deterministic": False,
}
"""Of wasmtime's Config, by the names that its C API has for them."""

PROCESSOR = ("has_sse3", "has_ssse3", "has_sse41", "has_sse42", "has_popcnt")
"""Instructions that the code may use besides those of every x86-64 processor: what QEMU's and every processor of the
last fifteen years has. The kernel refuses a module that needs more than its processor gives."""

_ELF_HEADER = 64
"""Bytes."""

_config_new = function("config_new", c_void_p, prefix="wasm_")
_config_target = function("config_target_set", c_void_p, c_void_p, c_char_p)
_config_flag = function("config_cranelift_flag_enable", None, c_void_p, c_char_p)
_engine_new = function("engine_new_with_config", c_void_p, c_void_p, prefix="wasm_")
_engine_delete = function("engine_delete", None, c_void_p, prefix="wasm_")
_module_new = function("module_new", c_void_p, c_void_p, c_char_p, c_size_t, c_void_p)
_module_deserialize = function("module_deserialize", c_void_p, c_void_p, c_char_p, c_size_t, c_void_p)
_module_serialize = function("module_serialize", c_void_p, c_void_p, c_void_p)
_module_delete = function("module_delete", None, c_void_p)


def compile_ahead(wasm: bytes, target: bytes = MACHINE) -> bytes:
    """The machine code of a module, as wasmtime's `Module::deserialize` takes it. The same module gives the same bytes.

    `target` is MACHINE, or TARGET for the kernel's parts as a program of this system, which its tests are. It is
    compiled in this process, without limits: see `compilation.compile_ahead`. Raises InvalidModule.
    """
    readable = check_signatures(wasm)
    engine = Owned(_engine_new(_config()), _engine_delete)
    found = c_void_p()
    check(_module_new(engine.pointer, wasm, len(wasm), byref(found)))
    module = Owned(found.value or 0, _module_delete)
    if not readable:
        raise UnsupportedModule("its types or imports are of a kind that is not known here")
    return _for_target(capi.taken(_module_serialize, module.pointer), TARGET, target)


def described(compiled: bytes) -> ModuleInfo:
    """What a module imports and exports that `compile_ahead` has compiled for MACHINE. Raises InvalidModule where this
    processor lacks what is in PROCESSOR."""
    engine = Owned(_engine_new(_config()), _engine_delete)
    code = _for_target(compiled, MACHINE, TARGET)
    found = c_void_p()
    check(_module_deserialize(engine.pointer, code, len(code), byref(found)))
    return describe(Owned(found.value or 0, _module_delete))


def _for_target(compiled: bytes, was: bytes, target: bytes) -> bytes:
    """A compiled module with another name for what it was compiled for.

    It is an ELF file whose first section begins with a version of the format, wasmtime's version with its length, and
    the name with its length (wasmtime's `engine/serialization.rs`).
    """
    at = _ELF_HEADER + 2 + compiled[_ELF_HEADER + 1]
    name = bytes((len(was),)) + was
    if compiled[_ELF_HEADER] != 0 or compiled[at : at + len(name)] != name or len(target) != len(was):
        raise InvalidModule("this version of wasmtime writes compiled modules in another form")
    return compiled[: at + 1] + target + compiled[at + len(name) :]


def _config() -> int:
    """Settings for an engine, which takes them over."""
    config: int = _config_new()
    check(_config_target(config, TARGET))
    for name, value in SETTINGS.items():
        kind = c_bool if isinstance(value, bool) else c_uint64
        function(f"config_{name}_set", None, c_void_p, kind)(config, value)
    for flag in PROCESSOR:
        _config_flag(config, flag.encode())
    return config


def main(words: list[str]) -> None:
    """Compiles the module in one file to another: `IN.wasm OUT.cwasm`, and `host` for this system."""
    source, place, *rest = words
    target = TARGET if rest == ["host"] else MACHINE
    Path(place).write_bytes(compile_ahead(Path(source).read_bytes(), target))


if __name__ == "__main__":
    main(sys.argv[1:])
