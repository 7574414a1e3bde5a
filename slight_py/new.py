"""`slight-py new`: a project for a guest, which builds and runs at once."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bindgen.backends import c, rust
from bindgen.wit_parser import load_many
from bindgen.wit_parser.model import Interface
from slight_py import interfaces
from slight_py.errors import UsageError
from slight_py.toolchains import WASI_TARGETS, find_rust

TEMPLATES = Path(__file__).resolve().parent / "templates"

_IMPORTS, _EXPORTS = ("keyvalue", "http-server"), ("http-handler",)
"""The interfaces of the guest that every template is."""


@dataclass(frozen=True, slots=True)
class Template:
    """A language that projects are made in: its folder in templates/, with what every project has beside that."""

    write: Callable[[Sequence[Interface], Sequence[Interface]], Mapping[str, str]]
    """Gives the bindings, by their files' names."""
    bindings: str
    """The folder for them."""
    build: Callable[[str], tuple[str, str]]
    """The command that builds the project of a name, and where it puts the module."""


def _build_c(name: str) -> tuple[str, str]:
    python = "python3" if sys.prefix == sys.base_prefix else "python"
    options = "-target wasm32-wasi -Oz -s -Ibindings"
    return f"{python} -m ziglang cc {options} -o {name}.wasm main.c bindings/*.c", f"{name}.wasm"


def _build_rust(name: str) -> tuple[str, str]:
    rust = find_rust()
    target = (rust and rust.target) or WASI_TARGETS[0]
    cargo = "cargo"
    if rust is not None and shutil.which("cargo") != str(rust.cargo):
        cargo = f"RUSTC={rust.rustc} {rust.cargo}"  # the first one of PATH can't build for WASI
    return f"{cargo} build --release --target {target}", f"target/{target}/release/{name}.wasm"


TEMPLATES_OF = {
    "c": Template(c.write, "bindings", _build_c),
    "rust": Template(rust.write, "bindings", _build_rust),
}
"""The languages that there are projects for."""


def new(text: str, language: str, parent: Path) -> str:
    """Makes the project `NAME` or `NAME@vX.Y.Z` in a folder NAME of `parent`; returns what to type then.

    Raises UsageError, also where there is something of that name.
    """
    name, at, version = text.partition("@")
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,63}", name) or name in ("test", "core", "std", "alloc", "proc_macro"):
        raise UsageError(
            f"{name!r} can't be a project's name: that is a letter, then letters, digits, - or _, all small"
        )
    if at:
        interfaces.check_version(name, version)
    folder = parent / name
    if folder.exists():
        raise UsageError(f"{folder} is there already; choose another name")
    template = TEMPLATES_OF[language]
    try:
        return _write(folder, name, language, template)
    except OSError as error:
        raise UsageError(f"{error.filename}: can't be written: {error.strerror}") from None


def _write(folder: Path, name: str, language: str, template: Template) -> str:
    wit, bindings = folder / "wit", folder / template.bindings
    interfaces.copy(interfaces.files(*_IMPORTS), wit)
    imports, exports = ([wit / f"{each}.wit" for each in names] for names in (_IMPORTS, _EXPORTS))
    loaded = load_many([*imports, *exports])
    bindings.mkdir(parents=True)
    files = template.write(loaded[: len(imports)], loaded[len(imports) :])
    for file, text in files.items():
        (bindings / file).write_text(text, encoding="utf-8")
    if language == "rust":
        modules = sorted(Path(file).stem for file in files)
        visible = "".join(f"{'' if module == 'canonical_abi' else 'pub '}mod {module};\n" for module in modules)
        (bindings / "lib.rs").write_text(f"//! The interfaces of Spiderlightning: the generated modules.\n\n{visible}")
    build, module = template.build(name)
    commands = "\n".join(
        [f"cd {shlex.quote(name)}", build, f"slight-py run {module} -c slightfile.toml"],
    )
    bindgen = (
        f"slight-py bindgen {language} "
        + " ".join(f"--import wit/{each}.wit" for each in _IMPORTS)
        + "".join(f" --export wit/{each}.wit" for each in _EXPORTS)
        + f" --out-dir {template.bindings}"
    )
    values = {"name": name, "commands": commands, "bindings": f"`{template.bindings}/`", "bindgen": bindgen}
    for source in (TEMPLATES / language).rglob("*"):
        if source.is_file():
            _fill(source, folder / source.relative_to(TEMPLATES / language), values)
    for common in ("slightfile.toml", "README.md"):
        _fill(TEMPLATES / common, folder / common, values)
    return commands


def _fill(source: Path, target: Path, values: Mapping[str, str]) -> None:
    """Writes a file of a template, with the values in place of their names in `{{…}}`."""
    text = source.read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
