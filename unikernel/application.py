"""An application on its way into an image: checked as `slight-py run` does, but for the values that only a run has."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from capabilities import registry
from capabilities.http.settings import HttpSettings
from capabilities.permissions import allowed
from slight_py import __version__, modules, runner
from slight_py import slightfile as slightfiles
from slight_py.compilation import CompileLimits
from slight_py.component.running import LoadedComponent
from slight_py.engine import Limits
from slight_py.errors import UsageError
from slight_py.slightfile import Grant, Slightfile
from slight_py.wasi import WasiSettings
from unikernel import closure, flavours, manifest
from unikernel.flavours import Flavour

REDIS = ("keyvalue.redis", "kv.redis")

_PUBLIC: Mapping[str, tuple[str, ...]] = {
    **{
        name: tuple(resource.optional if (resource := registry.resource_type(name)) else ())
        for name in ("http", "http-client")
    },
    "keyvalue.filesystem": ("DIRECTORY",),
    "kv.filesystem": ("DIRECTORY",),
    "blobstore.filesystem": ("DIRECTORY",),
    "sql.sqlite": ("DIRECTORY",),
    "messaging.filesystem": ("DIRECTORY",),
    "mq.filesystem": ("DIRECTORY",),
}
"""The config keys, by resource type, that never hold a secret."""


class _Reference(str):
    """In place of a value that the slightfile takes from the environment: the name of the variable."""

    __slots__ = ()


class _References(dict[str, str]):
    """An environment in which every variable is set, to a reference to it.

    Whether one is *in* it is told of the real one: of a 0.1 slightfile, which optional values there are depends on it.
    """

    def get(self, key: str, default: Any = None) -> Any:
        return _Reference(key)


def _reference(store: str, name: str) -> str:
    """In place of a value that another store holds: it is handed over when the image runs, under the same name."""
    return _Reference(name)


@dataclass(slots=True)
class Application:
    """An application that was found to be right, as far as that shows without the values that it is run with."""

    facts: manifest.App | None = None
    slightfile: Slightfile = field(default_factory=lambda: Slightfile(None, "0.2", ()))
    grants: tuple[manifest.Grant, ...] = ()
    compiled: bytes = b""
    """What the flavour's runtime takes."""
    interfaces: tuple[str, ...] | None = None
    """Of a component, the names of the modules that answer its imports and call its export; None of a module."""

    def has(self, *resources: str) -> bool:
        return any(grant.resource.name in resources for grant in self.slightfile.grants)

    @property
    def foreign(self) -> list[Grant]:
        """The grants of capabilities that are not built in."""
        return [grant for grant in self.slightfile.grants if not is_built_in(grant)]


def load(
    app: Path,
    slightfile: Path | None,
    cpu: Literal["portable", "native"] = "portable",
    link_all: bool = False,
    compilation: CompileLimits | None = None,
    flavour: Flavour | None = None,
) -> Application:
    """Compiles the module for a flavour, Linux where none is given, and checks what it needs. Raises UsageError, as
    `slight-py run` does."""
    flavour = flavour or flavours.named("linux")
    compilation = compilation or CompileLimits()
    wasm = modules.read(app, compilation.size)
    flavour.check_module(app, wasm)
    environment = _References((name, name) for name in os.environ)
    granted = slightfiles.load(slightfile, environment, _reference) if slightfile else slightfiles.embedded()
    granted = granted.for_module(app.name)
    config = runner.RunConfig(
        app, granted, WasiSettings(), Limits(instances=1), HttpSettings(), compilation=compilation
    )
    loaded, compiled = flavour.load(config, wasm, cpu, link_all)
    granted = loaded.slightfile
    if slightfile is None:
        # There is no naming what the module may want: what it imports is all that it gets.
        wanted = loaded.families()
        granted = replace(granted, grants=tuple(grant for grant in granted.grants if grant.family.name in wanted))
    _refuse_what_is_lacking(app, granted, flavour)
    _check_backends(granted, flavour)
    facts = manifest.App(app.name, hashlib.sha256(wasm).hexdigest(), len(wasm), loaded.entry_name(app), loaded.serves())
    interfaces = loaded.modules_of_interfaces() if isinstance(loaded, LoadedComponent) else None
    return Application(facts, granted, _grants(granted), compiled, interfaces)


def manifest_of(
    application: Application,
    *,
    flavour: manifest.Flavour,
    cpu: manifest.Cpu,
    python: str,
    kernel: manifest.Kernel,
    root: manifest.RootType,
    packages: Mapping[str, str],
) -> manifest.Manifest:
    """The manifest of an image, without what is known of its parts when they are packed: see `image.complete`."""
    path = application.slightfile.path
    return manifest.Manifest(
        flavour=flavour,
        slight_py=__version__,
        python=python,
        wasmtime=version("wasmtime"),
        cpu=cpu,
        app=application.facts,
        slightfile=path.name if path else None,
        specversion=application.slightfile.specversion,
        grants=application.grants,
        kernel=kernel,
        root=manifest.Root(root, 0, 0, ""),
        parts=(),
        packages=packages,
        needs_network=any(not grant.resource.local for grant in application.slightfile.grants),
    )


def _refuse_what_is_lacking(app: Path, slightfile: Slightfile, flavour: Flavour) -> None:
    """Raises UsageError with a line for each capability that can't be in an image of that flavour."""
    lacking = ((grant, flavour.lacks(grant, _known(grant))) for grant in slightfile.grants)
    problems = [f"{slightfile.place(grant) or f'{app}: '}{text}" for grant, text in lacking if text is not None]
    if problems:
        raise UsageError(*problems)


def _known(grant: Grant) -> dict[str, str]:
    """Those of its values that are there already, and not for a run to look up."""
    return {key: value for key, value in grant.configs.items() if not isinstance(value, _Reference)}


def _check_backends(slightfile: Slightfile, flavour: Flavour) -> None:
    """Raises UsageError for a backend that can't be made, as far as its values are known now."""
    for grant in slightfile.grants:
        if grant.family.host != registry.RUNTIME:
            flavour.check_backend(grant, slightfile, _known(grant))
        elif len(_known(grant)) == len(grant.configs):
            runner.cors(slightfile)


def is_built_in(grant: Grant) -> bool:
    """Whether a capability is not one that others wrote."""
    return grant.resource.load.partition(".")[0] in closure.OWN


def _grants(slightfile: Slightfile) -> tuple[manifest.Grant, ...]:
    """The grants as the image has them: without any value that may be a secret."""
    values = [value for grant in slightfile.grants for value in grant.configs.values()]
    names: dict[str, str] = {value: value for value in values if isinstance(value, _Reference)}
    """What is handed over under each name."""

    def config(grant: Grant, key: str, value: str) -> manifest.Config:
        if isinstance(value, _Reference):
            return manifest.Config(source=str(value))
        if _is_public(grant.resource.name, key, value):
            return manifest.Config(value=value)
        return manifest.Config(source=_name(key, value, names))

    return tuple(
        manifest.Grant(
            *(grant.resource.name, grant.family.name, grant.name, grant.line),
            {key: config(grant, key, value) for key, value in grant.configs.items()},
            allowed(grant.allow, slightfile.module) if grant.allow else None,
        )
        for grant in slightfile.grants
    )


def _name(key: str, value: str, names: dict[str, str]) -> str:
    """The name for a value: its key, with a number where that has another value already."""
    name, number = key, 1
    while name in names and (isinstance(names[name], _Reference) or names[name] != value):
        number += 1
        name = f"{key}_{number}"
    names[name] = value
    return name


def _is_public(resource: str, key: str, value: str) -> bool:
    """Whether a value that the slightfile spells out can't be a secret."""
    if resource in REDIS and key == "REDIS_ADDRESS":
        return _is_bare(value)
    return key in _PUBLIC.get(resource, ())


def _is_bare(address: str) -> bool:
    """Whether an address is one alone, without a user, a password or options."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return bool(parts.scheme) and not any(sign in address for sign in "@?#")


def left_out(application: Application) -> Iterator[str]:
    """What the user should know of values that the slightfile spells out and the image doesn't have."""
    slightfile = application.slightfile
    for grant, packed in zip(slightfile.grants, application.grants, strict=True):
        for key, config in packed.configs.items():
            if config.source is not None and not isinstance(grant.configs[key], _Reference):
                yield (
                    f"{slightfile.place(grant)}{key} may be a secret, so the image is without it; it is handed over "
                    f"when the image runs, with -c FILE, or as an environment variable with --pass {config.source}"
                )
