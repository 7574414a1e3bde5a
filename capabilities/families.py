"""What a capability family is, and a resource type: the words that the registry speaks in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

RUNTIME = "runtime"
"""The `host` of a family that the runtime answers itself."""


@dataclass(frozen=True, slots=True)
class ResourceType:
    """What can stand behind a capability, under the name that a slightfile calls it by.

    `required` and `optional` are its config keys. `load` names, as an entry point does (`package.module:Class`), what
    makes the backend from a mapping of the configs. `extra` is the extra of this package that brings the libraries
    which it imports (`slight-py[nats]`).

    `shared` is whether all workers of one run share what it keeps: it is made in the main process alone, and has a
    method `connect`, whose result is the backend, for the main process and for each worker, and has coroutine methods
    that take and return values (slight_py/sharing.py). A backend that is more than those is what a function `attach` of
    the class makes of that result, in whichever process it is used.

    `local` is whether it works without a network, as an image's machine has none unless the user opens it.

    `secrets` is whether its configs are the slightfile's [[secret_settings]], still encrypted, beside its config keys.
    """

    name: str
    family: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    load: str = ""
    extra: str = ""
    shared: bool = False
    local: bool = False
    secrets: bool = False


@dataclass(frozen=True, slots=True)
class Family:
    """The resource types that serve the same guest imports, and so can replace each other.

    `interfaces` are those that a guest imports, each with the module that `slight-py bindgen python` made of it
    (`package.bindings.greeter`), which is imported when a guest asks for it.

    `host` names, as an entry point does (`package.module:function`), what is called with the granted backends by the
    names they are granted under, and returns what answers each interface: a mapping from its name to an object with
    the methods of its module's Protocol `...Host`. Without a `host`, the backend is that object, of every interface.

    `embedded` is the resource type used when there is no slightfile, or None. `named` is whether a guest opens the
    capability by a name; of a family without names a slightfile holds one entry. A family without a `host` has no
    names, as nothing would tell its backends apart.

    `actions` are what a slightfile can allow modules one by one (`publish`, say). The `host` of a family with actions
    is called with a second mapping, from the names to the `Permissions` of the module (capabilities/permissions.py),
    and checks them.
    """

    name: str
    interfaces: Mapping[str, str]
    host: str = ""
    embedded: str | None = None
    named: bool = False
    actions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.interfaces, Mapping):
            raise TypeError(f"the interfaces of the family {self.name!r} must be a mapping from each to its module")
        if self.named and not self.host:
            raise ValueError(f"the family {self.name!r} has names, so it needs a host to find its backends by them")
