"""wasmtime's C API as it is declared here, beside what the package `wasmtime` makes of its headers."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
import wasmtime._bindings as bindings
import wasmtime._ffi

from slight_py import capi, engine, store


def test_the_library_is_the_package_s() -> None:
    assert capi.library == wasmtime._ffi.filename


def test_the_c_api_is_declared_as_its_package_declares_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions that are called, and the sizes of what they are handed."""
    declared = [each for module in (capi, store, engine) for each in vars(module).values() if hasattr(each, "argtypes")]

    def function(*arguments: Any) -> Any:
        declared.append(capi.function(*arguments))
        return declared[-1]

    monkeypatch.setattr(engine, "function", function)
    for allocation in (engine.SLOTS, engine.POOL):
        engine._Core(allocation, engine.Shape(), engine.Limits(instances=1), None)
    assert len(declared) > 75
    for ours in declared:
        theirs = getattr(bindings, f"_{ours.__name__}")
        assert list(map(ctypes.sizeof, ours.argtypes)) == list(map(ctypes.sizeof, theirs.argtypes)), ours.__name__
        if ours.restype is not None:
            assert ctypes.sizeof(ours.restype) == ctypes.sizeof(theirs.restype), ours.__name__
    sizes = {"val": store._VAL_SIZE, "extern": ctypes.sizeof(store._Extern), "instance": ctypes.sizeof(store._Instance)}
    assert sizes == {name: ctypes.sizeof(getattr(bindings, f"wasmtime_{name}_t")) for name in sizes}
    assert bindings.wasmtime_val_t.of.offset == bindings.wasmtime_extern_t.of.offset == store._UNION
