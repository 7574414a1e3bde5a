"""Brings together what a module imports, what the slightfile grants, and what stands behind it.

No interface is known here by its name: what a family's interfaces are, how their calls are lifted and lowered, and
what answers them is the registry's to say, of what is built in as of anybody's package or file.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bindgen.runtime import CANONICAL_ABI, Err, Import, guest_resource_imports, host_resource_imports
from capabilities import registry
from capabilities.errors import ConfigError
from capabilities.grants import Granted
from capabilities.permissions import Permissions
from capabilities.registry import Family, RegistryError
from slight_py import sessions, wasi
from slight_py.engine import DROP, WASI, ModuleInfo, Trap
from slight_py.errors import UsageError
from slight_py.sessions import asked_of
from slight_py.slightfile import Grant, Slightfile, embedded, suggest

if TYPE_CHECKING:
    from capabilities.bindings.http_server import HttpServerHost, Router, Server
    from capabilities.keyvalue import Backend
    from slight_py.sharing import Key

log = logging.getLogger("slight_py")

_OF_OWN_RESOURCES = ("resource_new_", "resource_get_", "resource_clone_")
"""What a guest imports for a resource that it defines, and only for such a one."""

Links = Mapping[tuple[str, str], tuple[Import, Any]]
"""What answers each imported function, by module and name: the binding, and the host that it asks."""


@contextmanager
def usage_errors() -> Iterator[None]:
    """A package or a file that can't be used is for the user to put right."""
    try:
        yield
    except RegistryError as error:
        raise UsageError(str(error)) from error


@dataclass(slots=True)
class Backends:
    """What stands behind the capabilities in one process.

    Each backend is made once, however many grants name it with the same configuration, and the hosts of each family
    are made once of its backends.
    """

    memory: Callable[[], Backend]
    """Says what `keyvalue.memory` stands for in this process, which nothing is until a module asks for it."""
    shared: Callable[[Key], Any] | None = None
    """In a worker, what stands for a backend that the main process shares with it."""
    made: dict[Key, Any] = field(default_factory=dict)
    hosts: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    """By module and family, what answers each of its interfaces."""

    def host(self, family: Family, interface: str, slightfile: Slightfile) -> Any:
        """What answers an interface of a family that is granted.

        Raises UsageError where it can't be made, or lacks a method of the interface.
        """
        key = slightfile.module, family.name
        if key not in self.hosts:
            grants = slightfile.grants_for(family.name)
            backends = {grant.name: self.of(grant, slightfile) for grant in grants}
            if slightfile.path is not None:
                lines = {grant.name: grant.line for grant in grants}
                backends = Granted(backends, str(slightfile.path), lines, grants[0].resource)
            self.hosts[key] = _hosts(family, backends, _permissions(grants, slightfile))
        host = self.hosts[key].get(interface)
        if family not in registry.families():
            _check_host(host, family, interface, slightfile)
        return host

    def of(self, grant: Grant, slightfile: Slightfile) -> Any:
        """The backend of a grant. Raises UsageError where it can't be made from the grant's configuration."""
        if grant.resource.name == "keyvalue.memory":
            return self.memory()
        key = (grant.resource.load, tuple(sorted(grant.configs.items())))
        where = f"{slightfile.place(grant)}{grant.resource.name}"
        if grant.resource.shared and self.shared is not None:
            return _attached(grant, self.shared(key), where)
        if key not in self.made:
            self.made[key] = _backend(grant, where)
        return _attached(grant, self.made[key].connect(), where) if grant.resource.shared else self.made[key]

    async def close(self) -> None:
        """Closes the backends, each whatever becomes of the others, when what instances kept of them is closed."""
        await sessions.closed()
        for backend in self.made.values():
            if hasattr(backend, "close"):
                try:
                    await backend.close()
                except Exception as error:
                    log.error("%s can't be closed: %s", type(backend).__name__, _described(error, type(backend)))


def _attached(grant: Grant, connected: Any, where: str) -> Any:
    """The backend of a shared resource, by what it has been connected with."""
    attach = getattr(_class(grant, where), "attach", None)
    return connected if attach is None else attach(connected)


def _class(grant: Grant, where: str) -> Any:
    try:
        return registry.load_backend(grant.resource)
    except RegistryError as error:
        raise UsageError(f"{where}: {error}") from error


def _backend(grant: Grant, where: str) -> Any:
    make = _class(grant, where)
    try:
        return make(grant.configs)
    except ConfigError as error:
        about = f": {error.key}" if error.key and error.key not in str(error) else ""
        raise UsageError(f"{where}{about}: {error}") from None
    except Exception as error:
        raise UsageError(f"{where} can't be made: {_described(error, make, secret=True)}") from error


def _permissions(grants: Iterable[Grant], slightfile: Slightfile) -> dict[str, Permissions]:
    """What a module may do under each name."""
    return {
        grant.name: Permissions(slightfile.place(grant), grant.family.name, slightfile.module, grant.allow)
        for grant in grants
    }


def _hosts(family: Family, backends: Mapping[str, Any], permissions: Mapping[str, Permissions]) -> Mapping[str, Any]:
    """What answers each interface of a family. Raises RegistryError, or UsageError."""
    if not family.host:
        (backend,) = backends.values()
        return dict.fromkeys(family.interfaces, backend)
    make = registry.load_host(family)
    try:
        return dict(make(backends, permissions) if family.actions else make(backends))
    except Exception as error:
        raise UsageError(f"{family.name} can't be used: {family.host} failed: {_described(error, make)}") from error


def _check_host(host: object, family: Family, interface: str, slightfile: Slightfile) -> None:
    """Raises UsageError where a host of somebody else's lacks a method of its interface."""
    from capabilities import custom

    grants = slightfile.grants_for(family.name)
    where = family.host or f"{slightfile.place(grants[0])}{grants[0].resource.name}"
    if host is None:
        raise UsageError(f"{where}: it gives no host for the interface {interface!r}; add one")
    answers = host.session() if hasattr(host, "session") else host
    faults = custom.faults(answers, registry.load_bindings(family, interface))
    if faults:
        raise UsageError(*(f"{where}: {fault}" for fault in faults))


def _described(error: Exception, raised_by: object, secret: bool = False) -> str:
    from capabilities import custom

    return custom.describe(error, custom.home(raised_by), secret=secret)


def interfaces(info: ModuleInfo) -> list[str]:
    """The interfaces that a module imports functions from, in the order of its imports. WASI is not among them."""
    return list(dict.fromkeys(each.module for each in info.imports if each.module not in (WASI, CANONICAL_ABI)))


def family_of(interface: str, slightfile: Slightfile) -> Family | None:
    """The family that answers an interface, a granted one first; None if this version has no such interface.

    Raises RegistryError if an installed package that might have it cannot be used.
    """
    for grant in slightfile.grants:
        if grant.family.interfaces.get(interface):
            return grant.family
    return registry.family_of(interface)


@usage_errors()
def check(path: Path, info: ModuleInfo, slightfile: Slightfile, link_all: bool) -> Slightfile:
    """Raises UsageError for all that the module needs and doesn't get, each with what to do about it.

    Returns the slightfile, with the embedded backends added for what it doesn't grant if `link_all`.
    """
    problems = [
        f"{path}: imports {module}::{name}, which is not a function; nothing provides it"
        for module, name in info.other_imports
    ]
    served = _served(info, slightfile)
    definitions = _definitions(info, served)
    missing: dict[str, list[str]] = {}
    """The functions that nothing provides, by what they are imported from."""
    for each in info.imports:
        definition = definitions.get((each.module, each.name))
        if definition is None:
            missing.setdefault(each.module, []).append(each.name)
        elif (definition.params, definition.result) != (each.params, each.results):
            problems.append(
                f"{path}: imports {each.module}::{each.name} as {shown(each.params, each.results)}, but it is "
                f"{shown(definition.params, definition.result)}; build the module against the interface in wit/"
            )
    if len(missing) > 1:
        # The resources of an interface that nothing provides: whoever provides it provides those too.
        missing.pop(CANONICAL_ABI, None)
    problems += [
        f"{path}: imports {interface} ({', '.join(functions)}), which nothing provides; {_why(interface, served)}"
        for interface, functions in missing.items()
    ]
    problems += [f"{path}: {problem}" for problem in _ambiguous(info, served)]
    slightfile, refused = granted(path, served, slightfile, link_all)
    problems += refused
    if problems:
        raise UsageError(*problems)
    return slightfile


def granted(
    path: Path, served: Mapping[str, Family], slightfile: Slightfile, link_all: bool
) -> tuple[Slightfile, list[str]]:
    """The slightfile, with the embedded backends added for what it doesn't grant if `link_all`; and what is not granted
    even so, of the families that serve a module's interfaces."""
    problems = []
    for interface, family in served.items():
        if slightfile.grants_for(family.name):
            continue
        # What the slightfile grants to other modules alone is not to be had in this way, either.
        withheld = any(grant.family.name == family.name for grant in slightfile.others)
        extra = embedded().grants_for(family.name) if link_all and not withheld else ()
        slightfile = replace(slightfile, grants=slightfile.grants + extra)
        if not extra:
            problems.append(_not_granted(path, interface, family, slightfile))
    return slightfile, problems


@usage_errors()
def link(
    info: ModuleInfo, slightfile: Slightfile, backends: Backends, http: Callable[[], HttpServerHost] | None
) -> Links:
    """What answers a module's imports. `check` has found nothing missing.

    `http` makes what answers a module that may start servers. Without it, the program is one that handles requests,
    and starts no servers. Raises UsageError for what stands behind a capability and can't be used.
    """
    served = _served(info, slightfile)
    own = {interface for interface, family in served.items() if family.host == registry.RUNTIME}
    # First of all, since the bindings of a capability in a Python file can be imported once the file has been.
    hosts = {
        interface: backends.host(family, interface, slightfile)
        for interface, family in served.items()
        if interface not in own
    }
    if own:
        hosts |= dict.fromkeys(own, (http or _NoServers)())
    definitions = _definitions(info, served)
    links: dict[tuple[str, str], tuple[Import, Any]] = {}
    for each in info.imports:
        definition = definitions.get((each.module, each.name))
        if definition is not None:
            host = hosts.get(each.module)
            if each.module in hosts:
                definition = answered(observed(definition), host, guarded=each.module not in own)
            links[each.module, each.name] = (definition, host)
    return links


def observed(definition: Import) -> Import:
    """The import, shown with --verbose."""
    if log.isEnabledFor(logging.DEBUG):
        from slight_py import trace

        return trace.traced(definition)
    return definition


def answered(definition: Import, host: Any, guarded: bool = True) -> Import:
    """The import as an instance calls it: answered by the instance's own session of the host where that has sessions,
    and `guarded`, but for what answers by itself for what fails."""
    if hasattr(host, "session"):
        definition = _in_session(definition)
    return _guarded(definition) if guarded else definition


# What there is to import.


def _served(info: ModuleInfo, slightfile: Slightfile) -> dict[str, Family]:
    """The family that answers each interface, of those that a module imports and that are available."""
    found: dict[str, Family] = {}
    for interface in interfaces(info):
        if _is_of_components(interface):
            continue
        with suppress(RegistryError):  # `_why` says it
            family = family_of(interface, slightfile)
            if family is not None:
                found[interface] = family
    return found


def _is_of_components(interface: str) -> bool:
    """Whether it is an interface of components alone, such as `wasi:keyvalue/store@0.2.0-draft`: modules have another
    binary interface."""
    return ":" in interface


def _definitions(info: ModuleInfo, served: Mapping[str, Family]) -> dict[tuple[str, str], Import]:
    """The functions that a module can import. Raises RegistryError."""
    imports: list[Import] = [*wasi.IMPORTS]
    for interface, family in served.items():
        imports += registry.load_bindings(family, interface).IMPORTS
    for name in _resources(served):
        imports += host_resource_imports(name)
    for name in _own_resources(info):
        imports += guest_resource_imports(name)
    return {(each.module, each.name): each for each in imports}


def _resources(served: Mapping[str, Family]) -> dict[str, list[str]]:
    """The resources that a module may hold, each with the interfaces that have one of that name.

    It may hold those of an interface that it imports nothing from: another one of the family may hand them out.
    """
    found: dict[str, list[str]] = {}
    for family in {family.name: family for family in served.values()}.values():
        for interface in family.interfaces:
            if _is_of_components(interface):
                continue
            for name in registry.load_bindings(family, interface).RESOURCES:
                found.setdefault(name, []).append(interface)
    return found


def _own_resources(info: ModuleInfo) -> set[str]:
    """The resources that a module defines itself, by what it imports for them, and exports."""
    names = {name.removeprefix(DROP) for name in info.functions if name.startswith(DROP)}
    for each in info.imports:
        if each.module == CANONICAL_ABI:
            names |= {each.name.removeprefix(prefix) for prefix in _OF_OWN_RESOURCES if each.name.startswith(prefix)}
    return names


def _ambiguous(info: ModuleInfo, served: Mapping[str, Family]) -> list[str]:
    """The resources that share a name: the handles of one could be taken for those of the other."""
    found = _resources(served)
    for name in _own_resources(info):
        if name in found:
            found[name].append("the module itself")
    return [
        f"the resource {name!r} is defined by {' and by '.join(owners)}, and the binary interface tells resources "
        "apart by their names alone; rename one"
        for name, owners in found.items()
        if len(owners) > 1
    ]


def _guarded(definition: Import) -> Import:
    """The same import, but that the guest is ended, and nothing else, where what answers it fails."""

    def failure(host: Any, error: Exception) -> Trap:
        reason = f"{definition.module}::{definition.name}: {type(host).__name__} failed: "
        return Trap(reason + _described(error, type(host)), "".join(traceback.format_exception(error)))

    return replace(definition, failure=failure)


def _in_session(definition: Import) -> Import:
    """The same import, but that the instance's own session of the host answers it."""

    return asked_of(definition, lambda host, guest: guest.sessions.of(host))


class _NoServers:
    """Answers for the instances that handle requests: those start no servers of their own."""

    async def router_new(self) -> Router:
        from capabilities.bindings.http_types import HttpRouterErrorUnexpectedError

        raise Err(HttpRouterErrorUnexpectedError("a handler can't start a server; only the program's entry point can"))

    async def router_new_with_base(self, base: str) -> Router:
        return await self.router_new()

    async def server_serve(self, address: str, router: Router) -> Server:
        raise AssertionError("there is no router to serve")


# What to say.


OWN_CLASS = 'write a Python class for it and grant that with resource = "FILE.py:CLASS" (docs/custom-capabilities.md)'
"""The way out where there is nothing behind an interface."""


def _why(interface: str, served: Mapping[str, Family]) -> str:
    if interface == CANONICAL_ABI:
        return "no interface that the module imports has a resource of that name"
    if interface == WASI or interface in served:
        return "that interface has no such function; build the module against another version of it"
    try:
        registry.family_of(interface)
    except RegistryError as error:
        return str(error)
    return f"it is no interface of Spiderlightning. If it is one of your own, {OWN_CLASS}"


def _not_granted(path: Path, interface: str, family: Family, slightfile: Slightfile) -> str:
    lines = suggest(family.name, slightfile.specversion)
    add = f"add {_inline(lines)}" if lines else "add a resource that serves it"
    if slightfile.path is None:
        return f"{path}: imports {interface}, which needs a slightfile: {add}, and run it with -c"
    other = next((grant for grant in slightfile.others if grant.family.name == family.name), None)
    if other is not None:
        add = f'add "{path.name}" to the modules of the one on line {other.line}, or {add}'
    use = ", or use --link-all-capabilities" if family.embedded and other is None else ""
    return (
        f"{slightfile.path}: {path.name} imports {interface}, and no capability of the family {family.name!r} is "
        f"granted; {add}{use}"
    )


def _inline(lines: str) -> str:
    """The lines of a slightfile, in a sentence."""
    header, *rest = lines.split("\n")
    return f"{header} with {' and '.join(rest)}"


def shown(params: str, results: str) -> str:
    """A signature as text, `(i32, i32) -> (i32)`."""
    names = {"i": "i32", "I": "i64", "f": "f32", "d": "f64", "?": "a type that no interface uses"}
    return f"({', '.join(names[each] for each in params)}) -> ({', '.join(names[each] for each in results)})"
