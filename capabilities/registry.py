"""Which capability families and resource types there are, and what each needs.

Nothing here imports a backend until one is used: see the functions `load_...`. Other packages add families and
resource types through the entry point group `slight_py.capabilities`; they are looked up only for a name that is not
built in, since reading the metadata of every installed package costs more than the whole of this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from operator import attrgetter
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINT_GROUP = "slight_py.capabilities"

RUNTIME = "runtime"
"""The `host` of a family that the runtime answers itself."""


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

    `interfaces` are those that a guest imports, each with the module that `slight-py bindgen python` made of it
    (`package.bindings.greeter`), which is imported when a guest asks for it. An interface of upstream's that this
    version does not have has no module, but "".

    `host` names, as an entry point does (`package.module:function`), what is called with the granted backends by the
    names they are granted under, and returns what answers each interface: a mapping from its name to an object with
    the methods of its module's Protocol `...Host`. Without a `host`, the backend is that object, of every interface.

    `embedded` is the resource type used when there is no slightfile, or None. `named` is whether a guest opens the
    capability by a name; of a family without names a slightfile holds one entry. A family without a `host` has no
    names, as nothing would tell its backends apart.
    """

    name: str
    interfaces: Mapping[str, str]
    host: str = ""
    embedded: str | None = None
    named: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.interfaces, Mapping):
            raise TypeError(f"the interfaces of the family {self.name!r} must be a mapping from each to its module")
        if self.named and not self.host and self.is_available:
            raise ValueError(f"the family {self.name!r} has names, so it needs a host to find its backends by them")

    @property
    def is_available(self) -> bool:
        return any(self.interfaces.values())


_FAMILIES = {
    family.name: family
    for family in (
        Family(
            "keyvalue",
            {"keyvalue": "capabilities.bindings.keyvalue", "kv": "capabilities.bindings.kv"},
            host="capabilities.keyvalue.host:hosts",
            embedded="keyvalue.memory",
            named=True,
        ),
        Family("http", {"http-server": "capabilities.bindings.http_server"}, host=RUNTIME, embedded="http"),
        # Upstream has these and this version does not: an error can say so, instead of calling them unknown.
        Family("http-client", {"http-client": ""}),
        Family("messaging", {"messaging": ""}, named=True),
        Family("configs", {"configs": ""}, named=True),
        Family("distributed_locking", {"distributed-locking": ""}, named=True),
        Family("sql", {"sql": ""}, named=True),
        Family("blob", {"blob-store": ""}, named=True),
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

# Known for the same reason as the families above.
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
    built_in = _FAMILIES.get(name)
    if built_in is not None and built_in.is_available:
        return built_in
    installed = _installed(name)
    return installed if isinstance(installed, Family) else built_in


def families() -> tuple[Family, ...]:
    """The families that are built in."""
    return tuple(_FAMILIES.values())


def family_of(interface: str) -> Family | None:
    """The family that a guest asks for when it imports from `interface`; None if nothing serves it.

    Raises RegistryError if nothing serves it and an installed package that might cannot be used.
    """
    built_in = next((family for family in _FAMILIES.values() if interface in family.interfaces), None)
    if built_in is not None and built_in.interfaces[interface]:
        return built_in
    broken: RegistryError | None = None
    for point in _entry_points():
        try:
            installed = _load(point)
        except RegistryError as error:
            broken = broken or error
            continue
        if isinstance(installed, Family) and installed.interfaces.get(interface):
            return installed
    if built_in is None and broken is not None:
        raise broken
    return built_in


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


def load_backend(resource: ResourceType) -> Callable[[Mapping[str, str]], Any]:
    """Import what makes the backend of an available resource type: what its `load` names.

    Raises RegistryError if that fails, most often because a library that it needs is not installed.
    """
    found: Callable[[Mapping[str, str]], Any] = _import(resource.name, resource.load)
    return found


def load_host(family: Family) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """Import what makes the hosts of a family: what its `host` names. Raises RegistryError if that fails."""
    found: Callable[[Mapping[str, Any]], Mapping[str, Any]] = _import(family.name, family.host)
    return found


def load_bindings(family: Family, interface: str) -> ModuleType:
    """Import the generated module of an interface that a family serves. Raises RegistryError if that fails."""
    name = family.interfaces[interface]
    found: ModuleType = _import(family.name, name)
    if {each.module for each in getattr(found, "IMPORTS", ())} != {interface}:
        raise RegistryError(
            f"{family.name} cannot be used: {name} is not what `slight-py bindgen python --import` makes of {interface}"
        )
    return found


def _import(owner: str, target: str) -> Any:
    """What `target` names as an entry point does; or as a slightfile does, with the path of a file for its module."""
    module, *attribute = target.rsplit(":", 1)
    if "/" in module:
        from capabilities import custom

        return custom.load_class(module, *attribute)
    try:
        found = import_module(module)
        return attrgetter(*attribute)(found) if attribute else found
    except ModuleNotFoundError as error:
        raise RegistryError(f"{owner} needs the Python module {error.name!r}; install it with pip") from error
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
