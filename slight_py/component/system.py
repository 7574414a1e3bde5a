"""The interfaces that components import without a grant, WASI's own, and what answers them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from bindgen.runtime import Import

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


_RELEASES = ("0.2", "0.3")


def _release(release: str) -> ModuleType:
    """What answers the interfaces of a release of WASI. A component takes those of one, most often, and the import of
    either takes longer than a small component to run."""
    if release == "0.3":
        from slight_py.wasi import preview3

        return preview3
    from slight_py.wasi import preview2

    return preview2


@cache
def _bindings(release: str) -> Mapping[str, str]:
    found = {f"{name}@{release}.0": module for name, module in _release(release).BINDINGS.items()}
    return found | {name: module for name, (module, _) in _OTHERS.items()}


def bindings(interface: str) -> Mapping[str, str]:
    """The generated modules of the interfaces that one of this name and version may be among, by name and a version
    that all compatible ones can stand in for."""
    return _bindings(_release_of(interface))


def _release_of(interface: str) -> str:
    return "0.3" if interface.partition("@")[2].startswith("0.3") else "0.2"


def interfaces() -> set[str]:
    """All that there are."""
    return {interface for release in _RELEASES for interface in _bindings(release)}


def bind(interface: str, definition: Import) -> tuple[Import, Any]:
    """What answers a function of an interface of `bindings`: the definition to link, and the host that it asks."""
    if interface in _OTHERS:
        return definition, _host(_OTHERS[interface][1])
    found: tuple[Import, Any] = _release(_release_of(interface)).bind(definition)
    return found


def host_modules(interface: str) -> tuple[str, ...]:
    """The module of what answers an interface, where that is imported when a component asks for it."""
    return (_OTHERS[interface][1].partition(":")[0],) if interface in _OTHERS else ()


@cache
def _host(name: str) -> Any:
    module, _, made = name.partition(":")
    return getattr(import_module(module), made)()
