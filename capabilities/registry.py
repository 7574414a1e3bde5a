"""Which capability families and resource types there are, and what each needs.

Nothing here imports a backend until one is used: see the functions `load_...`. Other packages add families and
resource types through the entry point group `slight_py.capabilities`; they are looked up only for a name that is not
built in, since reading the metadata of every installed package costs more than the whole of this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from operator import attrgetter
from types import ModuleType
from typing import TYPE_CHECKING, Any

from capabilities import builtin
from capabilities.families import RUNTIME, Family, ResourceType

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["RUNTIME", "Family", "RegistryError", "ResourceType"]
"""What packages that add capabilities import from here, beside the functions."""

ENTRY_POINT_GROUP = "slight_py.capabilities"


class RegistryError(Exception):
    """An installed package's entry point, or a backend, cannot be used; str() is one line that says which and why."""


_FAMILIES = {family.name: family for family in builtin.FAMILIES}
_RESOURCE_TYPES = {resource.name: resource for resource in builtin.RESOURCE_TYPES}


def resource_type(name: str) -> ResourceType | None:
    """The resource type that a slightfile calls `name`; None if nothing defines it.

    Raises RegistryError if an installed package defines it and cannot be used.
    """
    if name in _RESOURCE_TYPES:
        return _RESOURCE_TYPES[name]
    installed = _installed(name)
    if not isinstance(installed, ResourceType):
        return None
    if family(installed.family) is None:
        raise RegistryError(
            f"resource type {name!r} of an installed package belongs to the family {installed.family!r}, "
            f"which nothing defines; update the package or uninstall it"
        )
    return installed


def family(name: str) -> Family | None:
    """The family called `name`; None if nothing defines it.

    Raises RegistryError if an installed package defines it and cannot be used.
    """
    if name in _FAMILIES:
        return _FAMILIES[name]
    installed = _installed(name)
    return installed if isinstance(installed, Family) else None


def families() -> tuple[Family, ...]:
    """The families that are built in."""
    return tuple(_FAMILIES.values())


def family_of(interface: str) -> Family | None:
    """The family that a guest asks for when it imports from `interface`; None if nothing serves it.

    Raises RegistryError if nothing serves it and an installed package that might cannot be used.
    """
    for family in _FAMILIES.values():
        if interface in family.interfaces:
            return family
    broken: RegistryError | None = None
    for point in _entry_points():
        try:
            installed = _load(point)
        except RegistryError as error:
            broken = broken or error
            continue
        if isinstance(installed, Family) and installed.interfaces.get(interface):
            return installed
    if broken is not None:
        raise broken
    return None


def names() -> tuple[str, ...]:
    """The name of every resource type that there is (and of installed families), sorted."""
    return tuple(sorted({*_RESOURCE_TYPES, *(point.name for point in _entry_points())}))


def available(family_name: str) -> tuple[ResourceType, ...]:
    """The resource types of a family that can be used, the preferred first, without second names for the same backend.

    Types of installed packages come last; one that cannot be loaded is left out, and is an error where it is named.
    """
    first_of: dict[str, ResourceType] = {}
    for resource in (*builtin.RESOURCE_TYPES, *_installed_resource_types()):
        if resource.family == family_name:
            first_of.setdefault(resource.load, resource)
    return tuple(first_of.values())


def load_backend(resource: ResourceType) -> Callable[[Mapping[str, str]], Any]:
    """Import what makes the backend of a resource type: what its `load` names.

    Raises RegistryError if that fails, most often because a library that it needs is not installed.
    """
    found: Callable[[Mapping[str, str]], Any] = _import(resource.name, resource.load, resource.extra)
    return found


def load_host(family: Family) -> Callable[..., Mapping[str, Any]]:
    """Import what makes the hosts of a family: what its `host` names. Raises RegistryError if that fails."""
    found: Callable[..., Mapping[str, Any]] = _import(family.name, family.host)
    return found


def load_bindings(family: Family, interface: str) -> ModuleType:
    """Import the generated module of an interface that a family serves. Raises RegistryError if that fails."""
    name = family.interfaces[interface]
    found: ModuleType = _import(family.name, name)
    if {each.module for each in getattr(found, "IMPORTS", ())} != {interface}:
        raise RegistryError(
            f"{family.name} cannot be used: {name} is not what `slight-py bindgen python` makes of {interface}"
        )
    return found


def _import(owner: str, target: str, extra: str = "") -> Any:
    """What `target` names as an entry point does; or as a slightfile does, with the path of a file for its module.

    `extra` is that of this package which brings what the target imports.
    """
    module, *attribute = target.rsplit(":", 1)
    if "/" in module:
        from capabilities import custom

        return custom.load_class(module, *attribute)
    try:
        found = import_module(module)
        return attrgetter(*attribute)(found) if attribute else found
    except ModuleNotFoundError as error:
        install = f"pip install 'slight-py[{extra}]'" if extra else "install it with pip"
        raise RegistryError(f"{owner} needs the Python module {error.name!r}; {install}") from error
    except Exception as error:
        raise RegistryError(f"{owner} cannot be used: {_reason(error)}") from error


def _entry_points() -> tuple[EntryPoint, ...]:
    from importlib.metadata import entry_points  # Tens of milliseconds, which a run of built-in types never pays.

    return tuple(entry_points(group=ENTRY_POINT_GROUP))


def _installed(name: str) -> ResourceType | Family | None:
    points = [point for point in _entry_points() if point.name == name]
    if len(points) > 1:
        packages = " and ".join(sorted(map(_package, points)))
        raise RegistryError(f"{name!r} is defined by more than one package, {packages}; uninstall all but one")
    return _load(points[0]) if points else None


def _installed_resource_types() -> Iterator[ResourceType]:
    for point in _entry_points():
        try:
            installed = _load(point)
        except RegistryError:
            continue
        if isinstance(installed, ResourceType):
            yield installed


def _load(point: EntryPoint) -> ResourceType | Family:
    try:
        installed = point.load()
    except Exception as error:
        raise _broken(point, f"cannot be loaded: {_reason(error)}") from error
    if not isinstance(installed, ResourceType | Family):
        raise _broken(point, f"is neither a ResourceType nor a Family, but {type(installed).__name__}")
    if installed.name != point.name:
        raise _broken(point, f"calls itself {installed.name!r}")
    return installed


def _broken(point: EntryPoint, what: str) -> RegistryError:
    return RegistryError(
        f"{point.name!r}, which the installed package {_package(point)} adds to slight-py, {what}; "
        f"update the package or uninstall it"
    )


def _package(point: EntryPoint) -> str:
    return (point.dist.name if point.dist is not None else None) or "of unknown name"


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
