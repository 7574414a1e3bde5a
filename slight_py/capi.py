"""wasmtime's C API: its library, and the ways of its pointers.

The library is the one in the `wasmtime` package, whose version is pinned. The package itself is not imported: it
declares the whole of the C API, which takes longer than all other imports of a small module but asyncio. Functions take
and return addresses as plain integers, which is half the cost of ctypes pointers.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable
from ctypes import byref, c_size_t, c_void_p
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def _package() -> Path:
    """Where the package is. Raises ModuleNotFoundError where it is not installed."""
    found = find_spec("wasmtime")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'wasmtime'", name="wasmtime")
    return Path(found.submodule_search_locations[0])


package = _package()
library = package / f"linux-{os.uname().machine}" / "_libwasmtime.so"
_dll = ctypes.CDLL(str(library))


def function(name: str, result: Any, *arguments: Any, prefix: str = "wasmtime_") -> Callable[..., Any]:
    """A function of the C API."""
    found = _dll[prefix + name]
    found.restype, found.argtypes = result, arguments
    return found


def address(name: str) -> int:
    """Where a function of the C API is."""
    return ctypes.cast(_dll[name], c_void_p).value or 0


class Owned:
    """What a pointer of the C API points to, which is released with this object.

    Not at the end of the process: the epoch's thread may be at it.
    """

    def __init__(self, pointer: int, release: Callable[[int], None]) -> None:
        self.pointer = pointer
        weakref.finalize(self, release, pointer).atexit = False


class Vec(ctypes.Structure):
    """A `wasm_..._vec_t` of any kind: of bytes, or of pointers."""

    _fields_ = (("size", c_size_t), ("data", c_void_p))

    def pointers(self) -> list[int]:
        return list((c_void_p * self.size).from_address(self.data)) if self.size else []

    def bytes(self) -> bytes:
        return ctypes.string_at(self.data, self.size)


_bytes_delete = function("byte_vec_delete", None, c_void_p, prefix="wasm_")
_error_message = function("error_message", None, c_void_p, c_void_p)
_error_delete = function("error_delete", None, c_void_p)
_trap_message = function("trap_message", None, c_void_p, c_void_p, prefix="wasm_")
_trap_delete = function("trap_delete", None, c_void_p, prefix="wasm_")


def taken(write: Callable[..., Any], *arguments: Any) -> bytes:
    """The bytes that a function writes to the vector behind its other arguments."""
    found = Vec()
    write(*arguments, byref(found))
    try:
        return found.bytes()
    finally:
        _bytes_delete(byref(found))


def error_message(error: int) -> str:
    """What a `wasmtime_error_t` says. Releases it."""
    text = taken(_error_message, error).decode()
    _error_delete(error)
    return text


def trap_message(trap: int) -> str:
    """What a `wasm_trap_t` says. Releases it."""
    text = taken(_trap_message, trap)[:-1].decode()  # which ends with a NUL
    _trap_delete(trap)
    return text
