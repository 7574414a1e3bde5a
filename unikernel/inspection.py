"""`slight-py image inspect`: what is in an image, with sizes, versions and hashes, and what boots it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from capabilities.http.access import printable
from unikernel import flavours, image
from unikernel.image import Image
from unikernel.manifest import Manifest, to_json


@dataclass(frozen=True, slots=True)
class Report:
    """What there is to say about an image."""

    path: str
    bytes: int
    manifest: Manifest
    handed_over: tuple[str, ...]
    """The names of the values that are not in the image, and given to it at boot."""
    command_line: str
    """The kernel's, for a launcher that asks for it."""


def inspect(found: Image) -> Report:
    """Raises UsageError for an image whose parts are not those that it was built with."""
    image.verify(found)
    manifest = found.manifest
    return Report(
        str(found.path), found.size, manifest, manifest.sources, found.flavour.command_line(manifest.root.type)
    )


def as_json(report: Report) -> str:
    """The manifest as it is in the image, and around it what is not in there."""
    manifest: dict[str, Any] = json.loads(to_json(report.manifest))
    about = {"path": report.path, "bytes": report.bytes}
    return json.dumps(
        about | manifest | {"handed_over": report.handed_over, "command_line": report.command_line}, indent=2
    )


def as_text(report: Report) -> str:
    manifest = report.manifest
    lines = [f"{report.path}: {report.bytes:,} bytes", ""]
    lines += _about(manifest)
    lines += ["", "parts", *(f"  {part.name:<18}{part.size:>12,}" for part in manifest.parts)]
    packages = [f"  {name} {version}" for name, version in manifest.packages.items()]
    lines += ["", "packages", *packages] if packages else ["", "packages: none"]
    lines += ["", *_grants(manifest)]
    lines += ["", f"handed over at boot: {', '.join(report.handed_over) or 'nothing'}"]
    lines += [f"network: {'reaches the host and beyond' if manifest.needs_network else 'serves, and reaches nothing'}"]
    if report.command_line:
        lines += ["", "the kernel's command line", f"  {report.command_line}"]
    return "\n".join(printable(line, len(line)) for line in lines)


def _about(manifest: Manifest) -> list[str]:
    app, kernel, root = manifest.app, manifest.kernel, manifest.root
    lines = ["app: none; this is a function service"]
    if app is not None:
        cpu = "any x86-64" if manifest.cpu == "portable" else "processors like the one that it was built on"
        lines = [f"app: {app.name}, {app.size:,} bytes, begins at {app.entry}", f"  sha256 {app.sha256}"]
        lines += [f"  compiled for {cpu}"]
    text = flavours.named(manifest.flavour).kernel_text(kernel)
    lines += [f"flavour: {manifest.flavour}"]
    lines += [f"kernel: {text}, {kernel.size:,} bytes", f"  sha256 {kernel.sha256}"]
    lines += [f"root: {root.type}, {root.size:,} bytes at {root.offset:,}", f"  sha256 {root.sha256}"]
    python = f"Python {manifest.python}, " if manifest.python else ""
    return [*lines, f"slight-py {manifest.slight_py}, {python}wasmtime {manifest.wasmtime}"]


def _grants(manifest: Manifest) -> list[str]:
    if not manifest.grants:
        return ["grants: none"]
    lines = [f"grants ({manifest.slightfile or 'no slightfile'}, specversion {manifest.specversion})"]
    for grant in manifest.grants:
        lines.append(f"  {grant.resource} {grant.name!r}")
        for key, config in grant.configs.items():
            lines.append(
                f"    {key} = {config.value!r}" if config.source is None else f"    {key} from {config.source}"
            )
        for action, names in (grant.allow or {}).items():
            lines.append(f"    may {action} {', '.join(map(repr, names)) or 'nothing'}")
    return lines
