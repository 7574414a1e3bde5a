"""What `slight-py inspect` says of a component."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from capabilities.http.access import printable
from slight_py.component import binary, link, names, running
from slight_py.component.plan import (
    ExportedInstance,
    Extern,
    ImportedFunction,
    ImportedInstance,
    LiftedFunction,
    Plan,
)
from slight_py.component.program import Component
from slight_py.component.types import text
from slight_py.errors import UsageError
from slight_py.slightfile import embedded, suggest

_WASI = ("wasi:cli", "wasi:clocks", "wasi:filesystem", "wasi:http", "wasi:io", "wasi:random", "wasi:sockets")
"""The packages that carry WASI's own version. Proposals such as wasi:keyvalue have versions of their own."""
_WIDTH = 120
"""The most characters of a line that shows a function with its type."""


@dataclass(frozen=True, slots=True)
class CoreModuleReport:
    name: str | None
    bytes: int


@dataclass(frozen=True, slots=True)
class ComponentReport:
    """What there is to say about a component."""

    path: str
    bytes: int
    wasi: list[str]
    """The versions of WASI that it was built for, as far as they matter for compatibility: `0.2`, `0.3`."""
    imports: dict[str, list[str]]
    """Functions with their types, by the interface that they are of; those of none have the interface ""."""
    exports: dict[str, list[str]]
    """The same for what it exports."""
    core_modules: list[CoreModuleReport]
    core_instances: int
    """How many there are when it runs. Often one, as slight-py does itself what shims and adapters do."""
    made_with: list[str]
    """The tools and the languages that the component names."""
    entry_point: str | None
    """The exported interface that `slight-py run` calls."""
    capabilities: list[str]
    """Families, by the names of docs/slightfile.md, and those of installed packages."""
    unknown: list[str]
    """What nothing in this version provides, or not as the component wants it: `imports ...`, with what to do."""
    slightfile: str
    """One that grants what the component needs."""


def inspect(path: Path, wasm: bytes) -> ComponentReport:
    """`wasm` is the content of the file. Raises UsageError for a component that is invalid or not supported."""
    try:
        component = Component.of(binary.read(wasm), wasm)
    except binary.ComponentError as error:
        raise UsageError(f"{path}: {error}") from None
    plan = component.plan
    unknown, families = link.examine(component, embedded())
    capabilities = list(dict.fromkeys(family.name for family in families.values()))
    entries = [suggest(family, "0.2") for family in capabilities]
    return ComponentReport(
        path=str(path),
        bytes=len(wasm),
        wasi=_wasi_versions(plan),
        imports=_by_interface(plan.imports),
        exports=_by_interface(plan.exports),
        core_modules=[CoreModuleReport(each.name, each.end - each.start) for each in plan.modules],
        core_instances=len(component.layout.steps),
        made_with=[f"{name} {version}".strip() for field in plan.producers.values() for name, version in field],
        entry_point=_entry_point(component),
        capabilities=capabilities,
        unknown=unknown,
        slightfile="\n\n".join(['specversion = "0.2"', *filter(None, entries)]) + "\n",
    )


def _wasi_versions(plan: Plan) -> list[str]:
    interfaces = [name for name in (*plan.imports, *plan.exports) if name.partition("/")[0] in _WASI]
    versions = {link.compatible(version) for name in interfaces if (version := names.version(name)) is not None}
    return sorted(versions)


def _by_interface(externs: Mapping[str, Extern]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, extern in externs.items():
        match extern:
            case ImportedFunction() | LiftedFunction():
                found.setdefault("", []).append(f"{name}: {text(extern.type)}")
            case ImportedInstance() | ExportedInstance():
                found[name] = list(_functions(extern.exports))
    return found


def _functions(exports: Mapping[str, Extern]) -> Iterator[str]:
    for name, extern in exports.items():
        if isinstance(extern, ImportedFunction | LiftedFunction):
            yield f"{name}: {text(extern.type)}"


def _entry_point(component: Component) -> str | None:
    try:
        return running.entry_point(component).interface
    except UsageError:
        return None


def as_text(report: ComponentReport) -> str:
    wasi = f" for WASI {' and '.join(report.wasi)}" if report.wasi else ""
    lines = [f"{report.path}: {report.bytes:,} bytes, a component{wasi}"]
    for title, externs in (("imports", report.imports), ("exports", report.exports)):
        lines += ["", title]
        for interface, functions in externs.items():
            lines += [f"  {interface}"] * bool(interface)
            lines += [_line("    " if interface else "  ", function) for function in functions]
    lines += [
        "",
        "core modules",
        *(f"  {each.name or 'unnamed'}: {each.bytes:,} bytes" for each in report.core_modules),
    ]
    lines += ["", f"core instances: {report.core_instances}"]
    lines += [f"made with: {', '.join(report.made_with) or 'no tool that says so'}"]
    lines += [f"entry point: {report.entry_point or 'none that slight-py runs'}"]
    lines += [f"capabilities: {', '.join(report.capabilities) or 'none'}"]
    lines += [f"can't be run: it {each}" for each in report.unknown]
    lines += ["", "a slightfile that serves it:", "", *report.slightfile.splitlines()]
    return "\n".join(printable(line, len(line)) for line in lines)


def _line(indent: str, function: str) -> str:
    """A function with its type; only its name where the type, with all that it is made of, is longer than a line."""
    line = f"{indent}{function}"
    return line if len(line) <= _WIDTH else f"{indent}{function.partition(': ')[0]}"
