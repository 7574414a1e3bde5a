"""The backends: every one turns resolved interfaces into files of its language."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from bindgen.plan import Side
from bindgen.wit_parser.model import Interface

Write: TypeAlias = Callable[..., dict[str, str]]
"""The imported and the exported interfaces in, and each option of the backend by its name; files by name out. Raises
BackendError."""


@dataclass(frozen=True, slots=True)
class Option:
    """What the user of a backend may choose, `--NAME VALUE`."""

    name: str
    metavar: str
    default: str
    help: str


@dataclass(frozen=True, slots=True)
class Backend:
    """What writes the bindings of one language for one side."""

    language: str
    side: Side | None
    """None where the files are for readers, whatever the side."""
    write: Write
    options: tuple[Option, ...] = ()
    for_components: str = ""
    """What writes such bindings for components, if this one doesn't; else empty."""


class BackendError(Exception):
    """The interfaces ask for what a backend can't write; str() says what and what to do."""


def interfaces_of(imports: Sequence[Interface], exports: Sequence[Interface]) -> list[Interface]:
    """What bindings are written for: the interfaces, and all that they use.

    Raises BackendError for an interface with resources that is both imported and exported.
    """
    for interface in imports:
        if interface in exports and interface.resources:
            raise BackendError(
                f"{interface.path}: the guest can't both import and export {interface.name!r}, as its resources would"
                " be the host's and the guest's at once; write two sets of bindings"
            )
    return reachable([*imports, *exports])


def reachable(interfaces: Iterable[Interface]) -> list[Interface]:
    """The interfaces and all that they use."""
    found: list[Interface] = []
    waiting = list(interfaces)
    while waiting:
        interface = waiting.pop()
        if interface not in found:
            found.append(interface)
            waiting += [use.target.interface for use in interface.uses]
    return sorted(found, key=lambda interface: interface.name)
