"""A program of JavaScript becomes a module of WebAssembly."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bindgen.backends import BackendError, javascript
from bindgen.wit_parser import WitError, load_many
from slight_py import cache, interfaces
from slight_py.errors import UsageError
from slight_py.javascript import engine

EXPORTED = ("http-handler",)
"""The interfaces that a program exports the functions of."""

_LEFT_OUT = ("http-server-export", "types", "kv")
"""Those that a program of JavaScript has no use for."""

DESCRIBE_SECONDS = 60.0
"""How long the top level of a program may take while it is built."""

PRINTED_LIMIT = 1 << 20
"""How many bytes the top level of a program may print while it is built."""

_TAKEN = frozenset(["memory", "main", "_start", "canonical_abi_realloc", "canonical_abi_free"])

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Program:
    """What a program is made of."""

    files: dict[str, bytes]
    """Its files, by the names that their modules have: `app/main.js`."""
    interfaces: list[str]
    """Those that it imports."""
    handlers: list[str]
    """The functions that it exports, but `main`."""


def build(source: Path, output: Path, sources: Path | None, own: Sequence[Path], progress: Progress) -> None:
    """Builds the program whose main file is `source`. `own` are WIT files beside those of Spiderlightning.

    Raises UsageError.
    """
    objects = engine.objects(sources, progress)
    known = {path.stem: path for path in [*interfaces.paths(), *own] if path.stem not in _LEFT_OUT}
    program = describe(source, objects, known)
    imports = [name for name in program.interfaces if name not in EXPORTED]
    exports = list(EXPORTED) if program.handlers else []
    written = _write([known[name] for name in imports], [known[name] for name in exports])
    handlers = [f'HTTP_HANDLER_HANDLE_HTTP_EXPORT("{kebab(name)}", {at})' for at, name in enumerate(program.handlers)]
    main = [
        'import "slight:prelude";',
        *(['import { handleHttp } from "slight:http-handler";'] if handlers else []),
        f"import * as app from {json.dumps(_name(source))};",
        f"__slight.handlers = [{', '.join(f'handleHttp(app.{name})' for name in program.handlers)}];",
        "__slight.main = app.main;",
    ]
    linked = {"main": "\n".join(main).encode(), **modules(written), **program.files}
    code = {**written, "modules.c": table(linked), "exports.c": "\n".join(['#include "exports.h"', *handlers, ""])}
    link(objects, code, ("imports.c", "modules.c", "exports.c"), output)


def describe(source: Path, objects: Sequence[Path], known: Mapping[str, Path]) -> Program:
    """Runs the top level of a program where it can ask nothing, to see what it is made of. Raises UsageError."""
    if not source.is_file():
        raise UsageError(f"{source}: there is no such file")
    folder = source.resolve().parent
    with tempfile.TemporaryDirectory() as scratch:
        describer = _describer(objects, known, _name(source), Path(scratch))
        code, out, err = _ran(describer, folder, source)
    if code:
        raise UsageError(*(f"{source}: {line.strip()}" for line in err.splitlines() if line.strip()))
    loaded, functions = _said(out, source)
    handlers = [name for name in functions if name != "main"]
    _check_handlers(source, handlers)
    return Program(
        {name: _file(folder, name.removeprefix("app/"), source) for name in loaded if name.startswith("app/")},
        [name for name in known if f"slight:{name}" in loaded],
        handlers,
    )


def _ran(describer: Path, folder: Path, source: Path) -> tuple[int, str, str]:
    """Runs the top level of a program, with its folder to read from; returns the exit code, and what was printed.

    Raises UsageError where it takes too long, or prints too much.
    """
    command = [sys.executable, "-m", "slight_py", "run", str(describer), "--dir", f"{folder}::app:ro"]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        deadline = time.monotonic() + DESCRIBE_SECONDS
        try:
            while process.poll() is None:
                if time.monotonic() > deadline:
                    raise UsageError(
                        f"{source}: its top level runs for more than {DESCRIBE_SECONDS:g} seconds while it is built; "
                        "put what it does into a function `main`"
                    )
                if max(os.fstat(each.fileno()).st_size for each in (out, err)) > PRINTED_LIMIT:
                    raise UsageError(
                        f"{source}: its top level prints more than {PRINTED_LIMIT} bytes while it is built"
                    )
                time.sleep(0.01)
        finally:
            process.kill()
            process.wait()
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read(PRINTED_LIMIT).decode(errors="replace"))
        return process.returncode, texts[0], texts[1]


def _said(out: str, source: Path) -> tuple[list[str], list[str]]:
    """The modules that a program has loaded, and the functions that it exports. It was the program's to print, and may
    be anything. Raises UsageError."""
    try:
        said = json.loads(out.splitlines()[-1])
        loaded, functions = said["loaded"], said["functions"]
    except (IndexError, KeyError, TypeError, ValueError):
        loaded = functions = None
    for names in (loaded, functions):
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UsageError(f"{source}: it does not say what it exports; it must leave __slight and JSON alone")
    assert loaded is not None
    assert functions is not None
    return list(dict.fromkeys(loaded)), functions


def _file(folder: Path, name: str, source: Path) -> bytes:
    """A file of a program. Raises UsageError for one outside of its folder: a program names what it likes."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder) or not path.is_file():
        raise UsageError(f"{source}: {name!r} is no file of its folder, so it can't be a part of the module")
    return path.read_bytes()


def _check_handlers(source: Path, handlers: Sequence[str]) -> None:
    exported: dict[str, str] = {}
    for name in handlers:
        if name == "default" or not re.fullmatch(r"[A-Za-z_$][A-Za-z0-9_$]*", name) or kebab(name) in _TAKEN:
            raise UsageError(f"{source}: {name} can't be the name of an exported function; give it another one")
        if kebab(name) in exported:
            raise UsageError(
                f"{source}: {exported[kebab(name)]} and {name} would both be exported as {kebab(name)}; rename one"
            )
        exported[kebab(name)] = name


def kebab(name: str) -> str:
    """`handleHello` and `handle_hello` are `handle-hello`, which a route names."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"-\1", name).replace("_", "-").replace("$", "-").lower().strip("-")


def _name(source: Path) -> str:
    return f"app/{source.name}"


def _describer(objects: Sequence[Path], known: Mapping[str, Path], main: str, scratch: Path) -> Path:
    """The engine with all interfaces in it and no function behind them: kept, but for the name of the main file."""
    written = _write([path for name, path in known.items() if name not in EXPORTED], [known[name] for name in EXPORTED])
    text = f"""
        import "slight:prelude";
        import * as app from {json.dumps(main)};
        const functions = Object.keys(app).filter((name) => typeof app[name] === "function");
        console.log(JSON.stringify({{ loaded: __slight.loaded, functions }}));
    """
    linked = {"main": text.encode(), **modules(written)}
    nothing = '#include "slight.h"\nconst import_t slight_imports[1] = {0};\nconst int slight_imports_count = 0;\n'
    code = {**written, "imports.c": nothing, "modules.c": table(linked)}
    digest = hashlib.sha256(repr((sorted(code.items()), [str(path) for path in objects])).encode()).hexdigest()[:16]
    kept = cache.directory("javascript") / f"describe-{digest}.wasm"
    if not kept.is_file():
        made = scratch / "describe.wasm"
        link(objects, code, ("imports.c", "modules.c"), made)
        with cache.replacing(kept) as file:
            file.write(made.read_bytes())
    return kept


def _write(imports: Sequence[Path], exports: Sequence[Path]) -> dict[str, str]:
    try:
        loaded = load_many([*imports, *exports])
        return javascript.write(loaded[: len(imports)], loaded[len(imports) :])
    except (WitError, BackendError) as error:
        raise UsageError(*str(error).splitlines()) from None


def modules(written: Mapping[str, str]) -> dict[str, bytes]:
    """The generated modules, by the names that they are imported by."""
    found = {
        f"slight:{name.removesuffix('.js')}": text.encode() for name, text in written.items() if name.endswith(".js")
    }
    return {"slight:prelude": (engine.HERE / "prelude.js").read_bytes(), **found}


def table(modules: Mapping[str, bytes]) -> str:
    """The modules as C. Each ends with a byte of 0, which the engine's parser looks for."""
    lines = ['#include "slight.h"', ""]
    entries = []
    for number, (name, text) in enumerate(modules.items()):
        lines.append(f"static const char text_{number}[] = {{{','.join(map(str, text))}{',' if text else ''}0}};")
        entries.append(f"    {{{json.dumps(name)}, text_{number}, {len(text)}}},")
    lines += ["", "const module_t slight_modules[] = {", *entries, "};", ""]
    return "\n".join([*lines, f"const int slight_modules_count = {len(modules)};", ""])


def link(objects: Sequence[Path], code: Mapping[str, str], files: Sequence[str], output: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        for name, text in code.items():
            Path(scratch, name).write_text(text, encoding="utf-8")
        sources = [str(Path(scratch, name)) for name in files]
        made = Path(scratch, "out.wasm")
        options = ["-s", "-w", "-Wl,-z,stack-size=1048576", f"-I{engine.HERE}", f"-I{scratch}", "-o", str(made)]
        engine.cc([*options, *sources, *map(str, objects)])
        try:
            output.write_bytes(made.read_bytes())
        except OSError as error:
            raise UsageError(f"{output}: can't be written: {error.strerror}") from None
