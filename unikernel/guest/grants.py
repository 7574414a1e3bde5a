"""What the application is granted: the slightfile that the image was built with, and the values that it left out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from capabilities import registry
from capabilities.permissions import Rule
from slight_py import slightfile
from slight_py.errors import UsageError
from slight_py.slightfile import Slightfile
from unikernel.manifest import AppManifest, Grant


def granted(folder: Path, manifest: AppManifest, values: Mapping[str, str]) -> Slightfile:
    """The slightfile of an image, whose Python files are below `folder`. Raises UsageError."""
    path = Path(manifest.slightfile) if manifest.slightfile else None
    grants, missing = [], []
    for number, packed in enumerate(manifest.grants):
        place = f"{path}:{packed.line}: " if path and packed.line else ""
        grant, lacks = _grant(folder / "custom" / str(number), packed, values, place)
        grants.append(grant)
        missing += [f"{place}{packed.resource}: {lack}" for lack in lacks]
    if missing:
        raise UsageError(*missing)
    return Slightfile(path, manifest.specversion, tuple(grants), manifest.app.name if manifest.app else "")


def _grant(folder: Path, packed: Grant, values: Mapping[str, str], place: str) -> tuple[slightfile.Grant, list[str]]:
    """An entry of the slightfile, and what is missing to it. `folder` has the Python file that it names."""
    name = packed.resource
    file, colon, class_name = name.rpartition(":")
    try:
        if colon and file.endswith(".py"):
            from capabilities import custom

            kind, family = custom.declared(name, str(folder / os.path.basename(file)), class_name)
        else:
            known, known_family = registry.resource_type(name), registry.family(packed.family)
            if known is None or known_family is None:
                raise UsageError(f"{place}{name}: the image has no such capability; build the image again")
            kind, family = known, known_family
    except registry.RegistryError as error:
        raise UsageError(f"{place}{name}: {error}") from error
    configs, missing = {}, []
    for key, config in packed.configs.items():
        if config.value is not None:
            configs[key] = config.value
        elif config.source is not None and config.source in values:
            configs[key] = values[config.source]
        else:
            missing.append(f"the value of {key} is handed over at the start, and {config.source!r} is not; set it")
    rules = () if packed.allow is None else (Rule((), dict(packed.allow)),)
    return slightfile.Grant(kind, family, packed.name, configs, packed.line, allow=rules), missing
