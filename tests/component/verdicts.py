"""What wasmtime's own reader says of a component."""

from __future__ import annotations

from ctypes import byref, c_bool, c_char_p, c_size_t, c_void_p
from functools import cache
from typing import Any

from slight_py.capi import error_message, function

_new_config = function("config_new", c_void_p, prefix="wasm_")
_new_engine = function("engine_new_with_config", c_void_p, c_void_p, prefix="wasm_")
_new_component = function("component_new", c_void_p, c_void_p, c_char_p, c_size_t, c_void_p)
_delete_component = function("component_delete", None, c_void_p)

FEATURES = ("", "_async", "_async_stackful", "_more_async_builtins", "_map", "_implements")
"""What slight_py.component reads, too, as wasmtime's C API names it."""


@cache
def _engine() -> Any:
    config = _new_config()
    for feature in FEATURES:
        function(f"config_wasm_component_model{feature}_set", None, c_void_p, c_bool)(config, True)
    return _new_engine(config)


def wasmtime_says(wasm: bytes) -> str | None:
    """Why wasmtime refuses a component; None for one that it takes."""
    component = c_void_p()
    error = _new_component(_engine(), wasm, len(wasm), byref(component))
    if error:
        return error_message(error)
    _delete_component(component)
    return None
