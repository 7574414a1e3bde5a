"""Which capability families and resource types there are, and what each needs.

Nothing here imports a backend: `load_backend` does, when one is used. Other packages add families and resource types
through the entry point group `slight_py.capabilities`; they are looked up only for a name that is not built in, since
reading the metadata of every installed package costs more than the whole of this module.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINT_GROUP = "slight_py.capabilities"


class RegistryError(Exception):
    """An installed package's entry point, or a backend, cannot be used; str() is one line that says which and why."""


@dataclass(frozen=True, slots=True)
class ResourceType:
    """What can stand behind a capability, under the name that a slightfile calls it by.

    `required` and `optional` are its config keys. `load` names, as an entry point does (`package.module:Class`), what
    makes the backend from a mapping of the configs; it is empty for a type of upstream's that this version does not
    have.
    """

    name: str
    family: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    load: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """The resource types that serve the same guest imports, and so can replace each other.

    `interfaces` are the guest's import modules that mean this family. `embedded` is the resource type used when there
    is no slightfile, or None. `named` is whether a guest opens the capability by a name; of a family without names
    a slightfile holds one entry.
    """

    name: str
    interfaces: tuple[str, ...]
    embedded: str | None = None
    named: bool = True


_FAMILIES = {
    family.name: family
    for family in (
        Family("keyvalue", ("keyvalue", "kv"), embedded="keyvalue.memory"),
        Family("http", ("http-server",), embedded="http", named=False),
        Family("http-client", ("http-client",), named=False),
        Family("messaging", ("messaging",)),
        Family("configs", ("configs",)),
        Family("distributed_locking", ("distributed-locking",)),
        Family("sql", ("sql",)),
        Family("blob", ("blob-store",)),
    )
}

_CORS = (
    "CORS_ALLOW_ORIGIN",
    "CORS_ALLOW_METHODS",
    "CORS_ALLOW_HEADERS",
    "CORS_EXPOSE_HEADERS",
    "CORS_MAX_AGE",
    "CORS_ALLOW_CREDENTIALS",
)

_MEMORY = ResourceType("keyvalue.memory", "keyvalue", load="capabilities.keyvalue.memory:MemoryStores")
_REDIS = ResourceType(
    "keyvalue.redis",
    "keyvalue",
    required=("REDIS_ADDRESS",),
    load="capabilities.keyvalue.redis:RedisBackend",
)
_FILESYSTEM = ResourceType(
    "keyvalue.filesystem",
    "keyvalue",
    optional=("DIRECTORY",),
    load="capabilities.keyvalue.filesystem:FilesystemBackend",
)
_HTTP = ResourceType("http", "http", optional=_CORS, load="capabilities.http.cors:Cors.from_configs")

# In order of preference: the first of each backend is the name that messages suggest.
_AVAILABLE = (
    _MEMORY,
    _FILESYSTEM,
    _REDIS,
    replace(_FILESYSTEM, name="kv.filesystem"),
    replace(_REDIS, name="kv.redis"),
    _HTTP,
)

# Upstream has these and this version does not: an error can say so, instead of calling them unknown.
_UNAVAILABLE = {
    "keyvalue": ("keyvalue.awsdynamodb", "keyvalue.azblob", "keyvalue.dapr", "kv.awsdynamodb", "kv.azblob"),
    "http-client": ("http-client",),
    "messaging": (
        "messaging.filesystem",
        "messaging.mosquitto",
        "messaging.nats",
        "messaging.confluent_apache_kafka",
        "messaging.azsbus",
        "mq.filesystem",
        "mq.azsbus",
    ),
    "configs": ("configs.envvars", "configs.usersecrets", "configs.azapp"),
    "distributed_locking": ("distributed_locking.etcd", "lockd.etcd"),
    "sql": ("sql.postgres",),
    "blob": ("blobstore.aws_s3", "blobstore.azblob"),
}

_RESOURCE_TYPES = {resource.name: resource for resource in _AVAILABLE} | {
    name: ResourceType(name, family) for family, names in _UNAVAILABLE.items() for name in names
}


def resource_type(name: str) -> ResourceType | None:
    """The resource type that a slightfile calls `name`; None if nothing defines it.

    Raises RegistryError if an installed package defines it and cannot be used.
    """
    built_in = _RESOURCE_TYPES.get(name)
    if built_in is not None and built_in.load:
        return built_in
    installed = _installed(name)
    if not isinstance(installed, ResourceType):
        return built_in
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
    for built_in in _FAMILIES.values():
        if interface in built_in.interfaces:
            return built_in
    broken: RegistryError | None = None
    for point in _entry_points():
        try:
            installed = _load(point)
        except RegistryError as error:
            broken = broken or error
            continue
        if isinstance(installed, Family) and interface in installed.interfaces:
            return installed
    if broken is not None:
        raise broken
    return None


def names() -> tuple[str, ...]:
    """The name of every resource type that there is, available or not (and of installed families), sorted."""
    return tuple(sorted({*_RESOURCE_TYPES, *(point.name for point in _entry_points())}))


def available(family_name: str) -> tuple[ResourceType, ...]:
    """The resource types of a family that can be used, the preferred first, without second names for the same backend.

    Types of installed packages come last; one that cannot be loaded is left out, and is an error where it is named.
    """
    first_of: dict[str, ResourceType] = {}
    for resource in (*_AVAILABLE, *_installed_resource_types()):
        if resource.family == family_name:
            first_of.setdefault(resource.load, resource)
    return tuple(first_of.values())


def load_backend(resource: ResourceType) -> Any:
    """Import what makes the backend of an available resource type: what its `load` names.

    Raises RegistryError if that fails, most often because a library that it needs is not installed.
    """
    module, _, attribute = resource.load.partition(":")
    try:
        return attrgetter(attribute)(import_module(module))
    except ModuleNotFoundError as error:
        raise RegistryError(f"{resource.name} needs the Python module {error.name!r}; install it with pip") from error
    except Exception as error:
        raise RegistryError(f"{resource.name} cannot be used: {_reason(error)}") from error


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
