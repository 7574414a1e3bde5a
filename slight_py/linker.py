"""Brings together what a module imports, what the slightfile grants, and what stands behind it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from bindgen.support import Err, Guest, Import
from capabilities import registry
from capabilities.bindings.http_server import HttpServerHost, Router, Server
from capabilities.bindings.http_types import HttpRouterErrorUnexpectedError
from capabilities.errors import ConfigError
from capabilities.keyvalue import Backend
from slight_py import wasi
from slight_py.engine import WASI, Imported, ModuleInfo
from slight_py.errors import UsageError
from slight_py.slightfile import Grant, Slightfile, embedded, suggest

CANONICAL_ABI = "canonical_abi"

_BINDINGS = {
    "keyvalue": "capabilities.bindings.keyvalue",
    "kv": "capabilities.bindings.kv",
    "http-server": "capabilities.bindings.http_server",
}
"""The generated module of each interface that a guest may import."""

Links = Mapping[tuple[str, str], tuple[Import, Any]]
"""What answers each imported function, by module and name: the binding, and the host that it asks."""


@dataclass(slots=True)
class Backends:
    """The backends of one process, each made once however many grants name it with the same configuration."""

    memory: Backend
    """What `keyvalue.memory` stands for in this process."""
    made: dict[tuple[str, tuple[tuple[str, str], ...]], Backend] = field(default_factory=dict)

    def of(self, grant: Grant, slightfile: Path | None) -> Backend:
        """Raises UsageError where the backend can't be made from the grant's configuration."""
        if grant.resource.name == "keyvalue.memory":
            return self.memory
        key = (grant.resource.load, tuple(sorted(grant.configs.items())))
        if key not in self.made:
            where = f"{slightfile}:{grant.line}: {grant.resource.name}"
            try:
                self.made[key] = registry.load_backend(grant.resource)(grant.configs)
            except ConfigError as error:
                about = f": {error.key}" if error.key else ""
                raise UsageError(f"{where}{about}: {error}") from None
            except registry.RegistryError as error:
                raise UsageError(f"{where}: {error}") from None
        return self.made[key]

    async def close(self) -> None:
        for backend in self.made.values():
            await backend.close()


def needed(info: ModuleInfo) -> dict[str, list[Imported]]:
    """The functions that a module imports, by the interface it imports them from. WASI's are not among them."""
    found: dict[str, list[Imported]] = {}
    for each in info.imports:
        if each.module != WASI:
            found.setdefault(each.module, []).append(each)
    return found


def check(path: Path, info: ModuleInfo, slightfile: Slightfile, link_all: bool) -> Slightfile:
    """Raises UsageError for all that the module needs and doesn't get, each with what to do about it.

    Returns the slightfile, with the embedded backends added for what it doesn't grant if `link_all`.
    """
    problems = [
        f"{path}: imports {module}::{name}, which is not a function; nothing provides it"
        for module, name in info.other_imports
    ]
    available = _available(info)
    for each in info.imports:
        definition = available.get((each.module, each.name))
        if each.module == WASI and each.name in wasi.FUNCTIONS:
            continue
        if definition is None:
            problems.append(f"{path}: imports {each.module}::{each.name}, which nothing provides{_why(each.module)}")
        elif (definition.params, definition.result) != (each.params, each.results):
            problems.append(
                f"{path}: imports {each.module}::{each.name} as {shown(each.params, each.results)}, but it is "
                f"{shown(definition.params, definition.result)}; build the module against the interface in wit/"
            )
    for interface in needed(info):
        family = registry.family_of(interface) if interface in _BINDINGS else None
        if family is None or slightfile.grants_for(family.name):
            continue
        if link_all and family.embedded:
            extra = tuple(grant for grant in embedded().grants if grant.resource.family == family.name)
            slightfile = replace(slightfile, grants=slightfile.grants + extra)
        else:
            problems.append(
                f"{slightfile.path}: {path.name} imports {interface}, and no capability of the family "
                f"{family.name!r} is granted; add {_inline(suggest(family.name, slightfile.specversion))}, "
                "or use --link-all-capabilities"
            )
    if problems:
        raise UsageError(*problems)
    return slightfile


def _inline(lines: str) -> str:
    """The lines of a slightfile, in a sentence."""
    header, *rest = lines.split("\n")
    return f"{header} with {' and '.join(rest)}"


def _why(interface: str) -> str:
    family = registry.family_of(interface)
    if family is not None and interface not in _BINDINGS:
        return f"; the capability {family.name!r} is not available in this version of slight-py"
    return "; is the module built for Spiderlightning?"


def shown(params: str, results: str) -> str:
    """A signature as text, `(i32, i32) -> (i32)`."""
    names = {"i": "i32", "I": "i64", "f": "f32", "d": "f64", "?": "a type that no interface uses"}
    return f"({', '.join(names[each] for each in params)}) -> ({', '.join(names[each] for each in results)})"


def _available(info: ModuleInfo) -> dict[tuple[str, str], Import]:
    """The bindings of the interfaces that a module imports from, and the drops of every resource."""
    found: dict[tuple[str, str], Import] = {}
    for interface in needed(info):
        if interface in _BINDINGS:
            imports: Iterable[Import] = import_module(_BINDINGS[interface]).IMPORTS
            found |= {(each.module, each.name): each for each in imports}
    found |= {(each.module, each.name): each for each in _drops(info)}
    found |= {(each.module, each.name): each for each in wasi.IMPORTS}
    return found


def _drops(info: ModuleInfo) -> Iterable[Import]:
    """`resource_drop_NAME` for the resources of the interfaces that the module imports from."""
    prefix = "resource_drop_"
    resources = set()
    for interface in needed(info):
        if interface in _BINDINGS:
            resources |= set(import_module(_BINDINGS[interface]).RESOURCES)
    for each in info.imports:
        name = each.name.removeprefix(prefix)
        if each.module == CANONICAL_ABI and each.name.startswith(prefix) and name in resources:
            yield Import(CANONICAL_ABI, each.name, "i", "", _drop(name))


def _drop(resource: str) -> Any:
    async def drop(_host: None, guest: Guest, args: tuple[int]) -> None:
        guest.handles.drop(resource, args[0])

    return drop


class _NoServers:
    """Answers `http-server` for the instances that handle requests: those start no servers of their own."""

    async def router_new(self) -> Router:
        raise Err(HttpRouterErrorUnexpectedError("a handler can't start a server; only the program's entry point can"))

    async def router_new_with_base(self, base: str) -> Router:
        return await self.router_new()

    async def server_serve(self, address: str, router: Router) -> Server:
        raise AssertionError("there is no router to serve")


def link(info: ModuleInfo, slightfile: Slightfile, backends: Backends, http: HttpServerHost | None) -> Links:
    """What answers a module's imports. `check` has found nothing missing.

    Without `http`, the program is one that handles requests, and starts no servers.
    """
    hosts: dict[str, Any] = {}
    interfaces = needed(info)
    if "keyvalue" in interfaces or "kv" in interfaces:
        from capabilities.keyvalue.host import KeyvalueStores, KvStores

        grants = {grant.name: backends.of(grant, slightfile.path) for grant in slightfile.grants_for("keyvalue")}
        hosts["keyvalue"] = stores = KeyvalueStores(grants)
        hosts["kv"] = KvStores(stores)
    if "http-server" in interfaces:
        hosts["http-server"] = http or _NoServers()
    available = _available(info)
    return {
        (each.module, each.name): (available[each.module, each.name], hosts.get(each.module))
        for each in info.imports
        if (each.module, each.name) in available
    }
