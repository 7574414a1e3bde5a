"""What an image is given of what it asks for: values that it leaves out, and the network.

What an image asks for is in its own manifest, and anybody may have written that: it gets what the user names, and no
other value and no network.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from slight_py.errors import UsageError
from unikernel.image import Image
from unikernel.options import RunOptions

if TYPE_CHECKING:
    from slight_py import slightfile as slightfiles


def allowed(image: Image, options: RunOptions) -> dict[str, str]:
    """The values that the image leaves out, by their names.

    Raises UsageError with a line for each thing that it asks for and doesn't get.
    """
    from slight_py import slightfile as slightfiles

    module = image.manifest.app.name if image.manifest.app else ""
    grants = slightfiles.load(options.slightfile).for_module(module).grants if options.slightfile is not None else ()
    values: dict[str, str] = {}
    problems = []
    if image.manifest.needs_network and not options.network and all(grant.resource.local for grant in grants):
        problems.append(
            f"{image.path}: the image asks for the network; let it reach the host and the network with --net, or give "
            "the slightfile with -c"
        )
    if options.restore is None:
        values, missing = _values(image, options.passed, grants)
        problems += missing
    if problems:
        raise UsageError(*problems)
    return values


def _values(
    image: Image, passed: Sequence[str], grants: Sequence[slightfiles.Grant]
) -> tuple[dict[str, str], list[str]]:
    """The values that the image asks for, as far as the user allows them, and what is to be said of the others."""
    uses, values = _asked(image, {(grant.family.name, grant.name): grant.configs for grant in grants})
    problems = [
        f"{image.path}: --pass {name}: the image asks for no such value; it asks for {', '.join(uses) or 'none'}"
        for name in passed
        if name not in uses
    ]
    for name, use in uses.items():
        if name in values:
            continue
        if name in passed and name in os.environ:
            values[name] = os.environ[name]
        elif name in passed:
            problems.append(f"{image.path}: --pass {name}: the environment variable is not set; set it")
        else:
            problems.append(
                f"{image.path}: the image asks for the value {name}, for {use}; let it have the environment variable "
                f"with --pass {shlex.quote(name)}, or give the slightfile with -c"
            )
    return values, problems


def _asked(image: Image, granted: Mapping[tuple[str, str], Mapping[str, str]]) -> tuple[dict[str, str], dict[str, str]]:
    """The names of the values that the image asks for, each with what it is for, and the values that the user's
    slightfile has for them. `granted` are its configurations, by family and name."""
    uses: dict[str, str] = {}
    values: dict[str, str] = {}
    for grant in image.manifest.grants:
        configs = granted.get((grant.family, grant.name), {})
        for key, config in grant.configs.items():
            if config.source is not None:
                uses.setdefault(config.source, f"{key} of {grant.resource} {grant.name!r}")
                if key in configs:
                    values.setdefault(config.source, configs[key])
    return uses, values
