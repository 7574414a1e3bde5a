"""WASI 0.2: what components have of the system, besides what a slightfile grants.

`bind` says what answers an imported function. What is the same for all instances is one object of the process; the
rest an instance gets when it first asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bindgen.runtime import Import
from capabilities.wasi.io import PollHost
from slight_py.sessions import asked_of
from slight_py.wasi.preview2.cli import (
    Environment,
    ExitHost,
    Stderr,
    Stdin,
    Stdout,
    TerminalStderr,
    TerminalStdin,
    TerminalStdout,
)
from slight_py.wasi.preview2.clocks import MonotonicClock, Timezone, WallClock
from slight_py.wasi.preview2.filesystem import Preopens, Types
from slight_py.wasi.preview2.random import Insecure, InsecureSeed, Random
from slight_py.wasi.preview2.sockets import InstanceNetwork, IpNameLookup, NetworkHost, TcpCreateSocket, UdpCreateSocket
from slight_py.wasi.preview2.state import State, WasiGuest, state_of

__all__ = ["BINDINGS", "State", "WasiGuest", "bind", "bind_among", "modules", "state_of"]

_SHARED: Mapping[str, Any] = {
    "wasi:io/error": None,
    "wasi:io/poll": PollHost(),
    "wasi:io/streams": None,
    "wasi:cli/exit": ExitHost(),
    "wasi:cli/stdout": Stdout(),
    "wasi:cli/stderr": Stderr(),
    "wasi:cli/terminal-input": None,
    "wasi:cli/terminal-output": None,
    "wasi:cli/terminal-stdout": TerminalStdout(),
    "wasi:cli/terminal-stderr": TerminalStderr(),
    "wasi:clocks/timezone": Timezone(),
    "wasi:clocks/wall-clock": WallClock(),
    "wasi:filesystem/types": Types(),
    "wasi:random/random": Random(),
    "wasi:random/insecure": Insecure(),
    "wasi:sockets/network": NetworkHost(),
    "wasi:sockets/instance-network": InstanceNetwork(),
    "wasi:sockets/ip-name-lookup": IpNameLookup(),
    "wasi:sockets/tcp": None,
    "wasi:sockets/tcp-create-socket": TcpCreateSocket(),
    "wasi:sockets/udp": None,
    "wasi:sockets/udp-create-socket": UdpCreateSocket(),
}
"""What answers all instances. None: the interface has only methods of resources, which answer by themselves."""

_OF_AN_INSTANCE: Mapping[str, Callable[[State], Any]] = {
    "wasi:cli/environment": Environment,
    "wasi:cli/stdin": Stdin,
    "wasi:cli/terminal-stdin": TerminalStdin,
    "wasi:clocks/monotonic-clock": MonotonicClock,
    "wasi:filesystem/preopens": Preopens,
    "wasi:random/insecure-seed": InsecureSeed,
}
"""What makes the object that answers one instance."""


def modules(version: str, *interfaces: Mapping[str, Any]) -> dict[str, str]:
    """The generated modules of interfaces: `capabilities.bindings.wasi_clocks_0_2.wall_clock` for
    `wasi:clocks/wall-clock`."""
    found = {}
    for interface in (name for names in interfaces for name in names):
        package, _, name = interface.removeprefix("wasi:").partition("/")
        found[interface] = f"capabilities.bindings.wasi_{package}_{version}.{name.replace('-', '_')}"
    return found


BINDINGS: Mapping[str, str] = modules("0_2", _SHARED, _OF_AN_INSTANCE)
"""The generated module of each interface of WASI 0.2 that is answered here, by the interface's name without version."""


def bind(definition: Import) -> tuple[Import, Any]:
    """What answers an imported function: the definition to link, and the host that it asks.

    Raises KeyError for an interface that isn't in BINDINGS.
    """
    return bind_among(definition, _SHARED, _OF_AN_INSTANCE)


def bind_among(
    definition: Import, shared: Mapping[str, Any], of_an_instance: Mapping[str, Callable[[State], Any]]
) -> tuple[Import, Any]:
    """The same, with what answers the interfaces."""
    interface = definition.module.partition("@")[0]
    if interface in shared:
        return definition, shared[interface]
    return _for_instance(definition, of_an_instance[interface]), None


def _for_instance(definition: Import, make: Callable[[State], Any]) -> Import:
    """The same import, but that the instance's own object answers it."""

    def host_of(guest: WasiGuest) -> Any:
        return guest.sessions.kept(make, lambda: make(state_of(guest)))

    return asked_of(definition, lambda _host, guest: host_of(guest))
