"""`slight-py inspect`: what a module imports and exports, which capabilities that means, and a slightfile for it.

What it says of components is in slight_py/component/inspection.py.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from capabilities.bindings import http_handler
from capabilities.http.access import printable
from capabilities.registry import RegistryError
from slight_py import modules
from slight_py.compilation import CompileLimits
from slight_py.engine import Engine, ExportedFunction, Limits, ModuleInfo, describe
from slight_py.errors import UsageError
from slight_py.linker import family_of, interfaces, shown
from slight_py.runner import ENTRY_POINTS
from slight_py.slightfile import embedded, suggest

if TYPE_CHECKING:
    from slight_py.component.inspection import ComponentReport


@dataclass(frozen=True, slots=True)
class Report:
    """What there is to say about a module."""

    path: str
    bytes: int
    imports: dict[str, list[str]]
    """Functions by the interface they are imported from, each with its signature."""
    exports: list[str]
    entry_point: str | None
    handlers: list[str]
    """Exported functions that a route can name."""
    capabilities: list[str]
    """Families, by the names of docs/slightfile.md, and those of installed packages."""
    unknown: list[str]
    """Imported interfaces that nothing in this version provides."""
    slightfile: str
    """One that grants what the module needs."""


def inspect(path: Path, limits: CompileLimits | None = None) -> Report | ComponentReport:
    """Raises UsageError for a file that is neither a module nor a component, and for an installed package that can't be
    used."""
    limits = limits or CompileLimits()
    wasm = modules.read(path, limits.size)
    if modules.is_component(wasm):
        from slight_py.component import inspection

        return inspection.inspect(path, wasm)
    info = describe(modules.load(Engine(Limits(instances=1)), path, limits=limits, wasm=wasm))
    families, unknown = _families(info)
    functions = info.functions.values()
    return Report(
        path=str(path),
        bytes=path.stat().st_size,
        imports=_imports(info),
        exports=[f"{each.name}{shown(each.params, each.result)}" for each in functions],
        entry_point=next((name for name in ENTRY_POINTS if name in info.functions), None),
        handlers=[each.name for each in functions if _is_handler(each)],
        capabilities=families,
        unknown=unknown,
        slightfile=_slightfile(families),
    )


def _imports(info: ModuleInfo) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in info.imports:
        found.setdefault(each.module, []).append(f"{each.name}{shown(each.params, each.results)}")
    return found


def _is_handler(function: ExportedFunction) -> bool:
    return (function.params, function.result) == (http_handler.HANDLE_HTTP.params, http_handler.HANDLE_HTTP.result)


def _families(info: ModuleInfo) -> tuple[list[str], list[str]]:
    """The capability families that the imports mean, and the interfaces that mean none that is available."""
    families: list[str] = []
    unknown: list[str] = []
    for interface in interfaces(info):
        try:
            family = family_of(interface, embedded())
        except RegistryError as error:
            raise UsageError(str(error)) from error
        if family is None:
            unknown.append(interface)
        elif family.name not in families:
            families.append(family.name)
    return families, unknown


def _slightfile(families: list[str]) -> str:
    entries = [suggest(family, "0.2") for family in families]
    return "\n\n".join(['specversion = "0.2"', *filter(None, entries)]) + "\n"


def as_json(report: Report | ComponentReport) -> str:
    return json.dumps(asdict(report), indent=2)


def as_text(report: Report | ComponentReport) -> str:
    if not isinstance(report, Report):
        from slight_py.component import inspection

        return inspection.as_text(report)
    lines = [f"{report.path}: {report.bytes:,} bytes", "", "imports"]
    for module, functions in report.imports.items():
        lines += [f"  {module}", *(f"    {function}" for function in functions)]
    lines += ["", "exports", *(f"  {function}" for function in report.exports)]
    lines += ["", f"entry point: {report.entry_point or 'none: this is a library'}"]
    lines += [f"handlers: {', '.join(report.handlers) or 'none'}"]
    lines += [f"capabilities: {', '.join(report.capabilities) or 'none'}"]
    if report.unknown:
        lines += [f"not provided: {', '.join(report.unknown)}"]
    lines += ["", "a slightfile that serves it:", "", *report.slightfile.splitlines()]
    return "\n".join(printable(line, len(line)) for line in lines)
