"""Brings together what a component imports, what the slightfile grants, and what answers it.

Interfaces are told by their names and versions, as `wasi:http/types@0.2.12`: a version answers a guest that was built
for a compatible one, by semantic versioning, and functions are compared by their types one by one. So a guest of an
older version runs, and one of a newer version that uses nothing new.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from bindgen.runtime import Import
from capabilities import registry
from capabilities.registry import Family, RegistryError
from slight_py import linker
from slight_py.component import system
from slight_py.component.plan import ImportedFunction, Lower
from slight_py.component.program import Component, Provide
from slight_py.component.types import text
from slight_py.errors import UsageError
from slight_py.linker import Backends
from slight_py.slightfile import Slightfile


def compatible(version: str) -> str:
    """What versions have in common that can stand in for each other: the first number that isn't 0, and all before it;
    of a version before a release, such as 0.2.0-draft2, the whole."""
    if "-" in version:
        return version
    numbers = version.split("+")[0].split(".")
    for count, number in enumerate(numbers, 1):
        if number != "0":
            return ".".join(numbers[:count])
    return version


def find(interface: str, known: Iterable[str]) -> str | None:
    """The interface among those known that answers one of that name and version; None where none does."""
    name, _, version = interface.partition("@")
    wanted = name, compatible(version)
    for each in known:
        name, _, version = each.partition("@")
        if (name, compatible(version)) == wanted:
            return each
    return None


@dataclass(frozen=True, slots=True)
class _Served:
    """What answers an interface: of a family, or of WASI's own, where there is none."""

    known: str
    """The interface as it is known here, with its version."""
    family: Family | None
    bindings: ModuleType


def needed(component: Component) -> dict[str, list[ImportedFunction]]:
    """The functions that a component's core modules import of its host, by interface; "" for those of none."""
    found: dict[tuple[str, str], ImportedFunction] = {}
    for step in component.layout.steps:
        for _, _, source in step.imports:
            if isinstance(source, Lower) and isinstance(source.function, ImportedFunction):
                function = source.function
                found.setdefault((function.interface or "", function.name), function)
    by_interface: dict[str, list[ImportedFunction]] = {}
    for (interface, _), function in found.items():
        by_interface.setdefault(interface, []).append(function)
    return by_interface


@linker.usage_errors()
def check(path: Path, component: Component, slightfile: Slightfile, link_all: bool) -> Slightfile:
    """Raises UsageError for all that the component needs and doesn't get, each with what to do about it.

    Returns the slightfile, with the embedded backends added for what it doesn't grant if `link_all`.
    """
    problems, families = examine(component, slightfile)
    slightfile, refused = linker.granted(path, families, slightfile, link_all)
    if problems or refused:
        raise UsageError(*(f"{path}: {problem}" for problem in problems), *refused)
    return slightfile


@linker.usage_errors()
def examine(component: Component, slightfile: Slightfile) -> tuple[list[str], dict[str, Family]]:
    """What the component needs that nothing provides, granted or not; and the families of the interfaces it needs."""
    problems: list[str] = []
    families: dict[str, Family] = {}
    for interface, functions in needed(component).items():
        served = _served(interface, slightfile)
        if served is None:
            names = ", ".join(function.name for function in functions)
            what = interface or "functions that are of no interface"
            problems.append(f"imports {what} ({names}), which nothing provides{_why(interface, slightfile)}")
            continue
        problems += _mismatches(functions, served)
        if served.family is not None:
            families.setdefault(interface, served.family)
    return problems, families


@linker.usage_errors()
def provide(component: Component, slightfile: Slightfile, backends: Backends) -> Provide:
    """What answers a component's imports. `check` has found nothing missing.

    Raises UsageError for what stands behind a capability and can't be used."""
    answers: dict[tuple[str, str], tuple[Import, Any]] = {}
    for interface, functions in needed(component).items():
        served = _served(interface, slightfile)
        assert served is not None, interface
        host = None
        if served.family is not None:
            host = backends.host(served.family, served.known, slightfile)
        definitions = _definitions(served)
        for function in functions:
            definition, answerer = linker.observed(definitions[function.name]), host
            if served.family is None:
                definition, answerer = system.bind(served.known, definition)
            answers[interface, function.name] = linker.answered(definition, answerer), answerer
    return lambda function: answers[function.interface or "", function.name]


def families(component: Component, slightfile: Slightfile) -> set[str]:
    """The names of the families that answer a component's imports."""
    served = (_served(interface, slightfile) for interface in needed(component))
    return {each.family.name for each in served if each is not None and each.family is not None}


def modules(component: Component, slightfile: Slightfile) -> set[str]:
    """The names of the modules that answer a component's imports, besides those of backends and of the Python files
    that the slightfile names: the generated ones, and those of WASI's own hosts."""
    from capabilities import custom

    names: set[str] = set()
    for interface in needed(component):
        served = _served(interface, slightfile)
        if served is not None:
            names |= {served.bindings.__name__, *system.host_modules(served.known)}
    return {name for name in names if not custom.is_of_file(name)}


def _served(interface: str, slightfile: Slightfile) -> _Served | None:
    """What answers an interface: WASI itself, or a family, a granted one first. None where nothing does."""
    bindings = system.bindings(interface)
    known = find(interface, bindings)
    if known is not None:
        return _Served(known, None, import_module(bindings[known]))
    family = _family(interface, slightfile)
    if family is None:
        return None
    known = find(interface, family.interfaces) or interface
    return _Served(known, family, registry.load_bindings(family, known))


def _family(interface: str, slightfile: Slightfile) -> Family | None:
    with suppress(RegistryError):  # `_why` says it
        for family in (*(grant.family for grant in slightfile.grants), *registry.families()):
            if find(interface, family.interfaces):
                return family
        return registry.family_of(interface)
    return None


def _definitions(served: _Served) -> dict[str, Import]:
    return {each.name: each for each in served.bindings.IMPORTS}


def _mismatches(functions: Iterable[ImportedFunction], served: _Served) -> list[str]:
    """What of an interface there is not, or is otherwise."""
    definitions = _definitions(served)
    found = []
    for each in functions:
        definition = definitions.get(each.name)
        if definition is None:
            found.append(
                f"imports {each.interface}: {each.name}, which {_shown(served)} doesn't have; build it against that"
            )
        elif definition.type != text(each.type):
            found.append(
                f"imports {each.interface}: {each.name} as {text(each.type)}, but it is {definition.type}; build it"
                f" against {_shown(served)}"
            )
    return found


def _shown(served: _Served) -> str:
    """The interface with the version that there is."""
    return getattr(served.bindings, "INTERFACE", served.known)


def _why(interface: str, slightfile: Slightfile) -> str:
    name = interface.partition("@")[0]
    known = [*system.interfaces()]
    for family in (*(grant.family for grant in slightfile.grants), *registry.families()):
        known += family.interfaces
    others = sorted({each for each in known if each.partition("@")[0] == name})
    if others:
        return f"; there is {' and '.join(others)}: build it against that"
    try:
        registry.family_of(interface)
    except RegistryError as error:
        return f"; {error}"
    return f"; if it is one of your own, {linker.OWN_CLASS}"
