"""The interfaces that components import without a grant, WASI's own, and what answers them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any

from bindgen.runtime import Import
from slight_py.wasi import preview2, preview3

_OTHERS: Mapping[str, tuple[str, str]] = {
    "wasi:http/types@0.2.0": (
        "capabilities.bindings.wasi_http_0_2.types",
        "capabilities.wasi.http:TypesHost",
    ),
    "wasi:http/types@0.3.0": (
        "capabilities.bindings.wasi_http_0_3.types",
        "capabilities.wasi.http_0_3:TypesHost",
    ),
    "wasi:logging/logging@0.1.0-draft": (
        "capabilities.bindings.wasi_logging_0_1_0_draft.logging",
        "capabilities.wasi.logging:Logging",
    ),
}
"""Interfaces that are answered by what is imported when a component asks for it: the generated module, and the class of
the host."""


def _with_version(bindings: Mapping[str, str], version: str) -> dict[str, str]:
    return {f"{name}@{version}": module for name, module in bindings.items()}


BINDINGS: Mapping[str, str] = {
    **_with_version(preview2.BINDINGS, "0.2.0"),
    **_with_version(preview3.BINDINGS, "0.3.0"),
    **{name: module for name, (module, _) in _OTHERS.items()},
}
"""The generated module of each interface, by name and a version that all compatible ones can stand in for."""


def bind(interface: str, definition: Import) -> tuple[Import, Any]:
    """What answers a function of an interface of BINDINGS: the definition to link, and the host that it asks."""
    if interface in _OTHERS:
        return definition, _host(_OTHERS[interface][1])
    release: Callable[[Import], tuple[Import, Any]] = preview3.bind if interface.endswith("@0.3.0") else preview2.bind
    return release(definition)


def host_modules(interface: str) -> tuple[str, ...]:
    """The module of what answers an interface, where that is imported when a component asks for it."""
    return (_OTHERS[interface][1].partition(":")[0],) if interface in _OTHERS else ()


@cache
def _host(name: str) -> Any:
    module, _, made = name.partition(":")
    return getattr(import_module(module), made)()
