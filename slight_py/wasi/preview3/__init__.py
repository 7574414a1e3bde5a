"""WASI 0.3: what components have of the system, besides what a slightfile grants. `bind` is as in preview2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bindgen.runtime import Import
from slight_py.wasi.preview2 import State, bind_among, modules
from slight_py.wasi.preview2.cli import ExitHost, TerminalStderr, TerminalStdin, TerminalStdout
from slight_py.wasi.preview2.random import InsecureSeed
from slight_py.wasi.preview3.cli import Environment, Stderr, Stdin, Stdout
from slight_py.wasi.preview3.clocks import MonotonicClock, SystemClock, Timezone
from slight_py.wasi.preview3.filesystem import Preopens
from slight_py.wasi.preview3.random import ShortInsecure, ShortRandom
from slight_py.wasi.preview3.sockets import IpNameLookup, Types

__all__ = ["BINDINGS", "bind"]

_SHARED: Mapping[str, Any] = {
    "wasi:cli/exit": ExitHost(),
    "wasi:cli/types": None,
    "wasi:cli/terminal-input": None,
    "wasi:cli/terminal-output": None,
    "wasi:cli/terminal-stdout": TerminalStdout(),
    "wasi:cli/terminal-stderr": TerminalStderr(),
    "wasi:clocks/types": None,
    "wasi:clocks/system-clock": SystemClock(),
    "wasi:clocks/timezone": Timezone(),
    "wasi:filesystem/types": None,
    "wasi:random/random": ShortRandom(),
    "wasi:random/insecure": ShortInsecure(),
    "wasi:sockets/types": Types(),
    "wasi:sockets/ip-name-lookup": IpNameLookup(),
}
"""What answers all instances. None: the interface has only types, or methods of resources."""

_OF_AN_INSTANCE: Mapping[str, Callable[[State], Any]] = {
    "wasi:cli/environment": Environment,
    "wasi:cli/stdin": Stdin,
    "wasi:cli/stdout": Stdout,
    "wasi:cli/stderr": Stderr,
    "wasi:cli/terminal-stdin": TerminalStdin,
    "wasi:clocks/monotonic-clock": MonotonicClock,
    "wasi:filesystem/preopens": Preopens,
    "wasi:random/insecure-seed": InsecureSeed,
}
"""What makes the object that answers one instance."""

BINDINGS: Mapping[str, str] = modules("0_3", _SHARED, _OF_AN_INSTANCE)
"""The generated module of each interface of WASI 0.3 that is answered here, by the interface's name without version."""


def bind(definition: Import) -> tuple[Import, Any]:
    """What answers an imported function: the definition to link, and the host that it asks.

    Raises KeyError for an interface that isn't in BINDINGS.
    """
    return bind_among(definition, _SHARED, _OF_AN_INSTANCE)
