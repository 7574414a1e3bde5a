"""`slight-py new`: a project for a guest, or for a capability, which builds and runs at once."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bindgen.backends import c, javascript, python, rust
from bindgen.wit_parser import load_many
from bindgen.wit_parser.model import Interface
from slight_py import interfaces
from slight_py.errors import UsageError
from slight_py.toolchains import WASI_TARGETS, find_rust

FOLDER = Path(__file__).resolve().parent / "templates"

BINDINGS = "bindings"
"""The folder of a project for what is generated."""

Write = Callable[[Sequence[Interface], Sequence[Interface]], Mapping[str, str]]
"""Gives the bindings for what a guest imports and exports, by their files' names."""


@dataclass(frozen=True, slots=True)
class Template:
    """What a project is made of."""

    folders: tuple[str, ...]
    """The folders in templates/ whose files are the project's."""
    shipped: tuple[str, ...]
    """The interfaces that come with slight-py, for the folder wit/ of the project; its own are there already."""
    imports: tuple[str, ...]
    """The interfaces in wit/ that the guest imports."""
    exports: tuple[str, ...]
    """Those that it exports."""
    bindings: Mapping[str, Write]
    """What writes the bindings, by the language that `slight-py bindgen` calls it by."""
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


def _build_js(name: str) -> tuple[str, str]:
    return f"slight-py buildjs main.js -o {name}.wasm", f"{name}.wasm"


def _write_crate(imports: Sequence[Interface], exports: Sequence[Interface]) -> Mapping[str, str]:
    """The bindings for Rust, and the file that makes a crate of them."""
    files = rust.write(imports, exports)
    modules = sorted(Path(file).stem for file in files)
    visible = "".join(f"{'' if module == 'canonical_abi' else 'pub '}mod {module};\n" for module in modules)
    return {**files, "lib.rs": f"//! The interfaces of Spiderlightning: the generated modules.\n\n{visible}"}


def _visits(language: str, bindings: Mapping[str, Write], build: Callable[[str], tuple[str, str]]) -> Template:
    """An HTTP server that counts visits, the same in every language."""
    imports = ("keyvalue", "http-server")
    return Template(("visits", language), imports, imports, ("http-handler",), bindings, build)


TEMPLATES = {
    "c": _visits("c", {"c": c.write}, _build_c),
    "js": _visits("js", {"javascript": javascript.write}, _build_js),
    "rust": _visits("rust", {"rust": _write_crate}, _build_rust),
    # No interpreter of Python for WASI preview 1 reaches a guest's imports: what is in Python is the host's side.
    "python": Template(("python",), (), ("greeter",), (), {"python": python.write, "c": c.write}, _build_c),
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
    template = TEMPLATES[language]
    try:
        return _write(folder, name, template)
    except OSError as error:
        raise UsageError(f"{error.filename}: can't be written: {error.strerror}") from None


def _write(folder: Path, name: str, template: Template) -> str:
    build, module = template.build(name)
    commands = "\n".join([f"cd {shlex.quote(name)}", build, f"slight-py run {module} -c slightfile.toml"])
    options = [f"--import wit/{each}.wit" for each in template.imports]
    options += [f"--export wit/{each}.wit" for each in template.exports]
    bindgen = "\n".join(
        " ".join(["slight-py bindgen", language, *options, f"--out-dir {BINDINGS}"]) for language in template.bindings
    )
    values = {"name": name, "commands": commands, "bindgen": bindgen}
    for each in template.folders:
        for source in (FOLDER / each).rglob("*"):
            # pip leaves what it compiles of a file in Python beside it.
            if source.is_file() and source.parent.name != "__pycache__":
                _fill(source, folder / source.relative_to(FOLDER / each), values)
    wit, bindings = folder / "wit", folder / BINDINGS
    interfaces.copy(interfaces.files(*template.shipped), wit)
    loaded = load_many([wit / f"{each}.wit" for each in (*template.imports, *template.exports)])
    imports, exports = loaded[: len(template.imports)], loaded[len(template.imports) :]
    bindings.mkdir(exist_ok=True)
    for write in template.bindings.values():
        for file, text in write(imports, exports).items():
            (bindings / file).write_text(text, encoding="utf-8")
    return commands


def _fill(source: Path, target: Path, values: Mapping[str, str]) -> None:
    """Writes a file of a template, with the values in place of their names in `{{…}}`."""
    text = source.read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
