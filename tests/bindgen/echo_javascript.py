"""A guest in JavaScript that hands every argument on to an import of the same shape, and returns what that gives.

It is nothing but the generated modules and those calls, linked with the engine of `slight-py buildjs`. It tells how
many blocks of memory it holds: `live-blocks() -> u32`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bindgen.backends import javascript
from bindgen.wit_parser.model import Interface
from slight_py.javascript import build, engine
from tests.bindgen.roundtrip import export_names, pairs


def compile_echo(imports: Sequence[Interface], exports: Sequence[Interface], directory: Path) -> Path:
    """Builds the echo in a directory; returns the module."""
    files = javascript.write(imports, exports)
    names = export_names(exports)
    owner = {function: interface for interface in (*imports, *exports) for function in interface.functions}
    handlers, macros = [], []
    for number, (called, exported) in enumerate(pairs(imports, exports)):
        ours, theirs = (javascript.camel(function.name) for function in (exported, called))
        handlers.append(f"  guest.{ours}((...values) => host.{theirs}(...values)),")
        macro = f"{owner[exported].name}_{exported.name}_EXPORT".upper().replace("-", "_")
        macros.append(f'{macro}("{names[exported]}", {number})')
    (imported,), (own,) = imports, exports
    main = [
        'import "slight:prelude";',
        f'import * as host from "slight:{imported.name}";',
        f'import * as guest from "slight:{own.name}";',
        "__slight.handlers = [",
        *handlers,
        "];",
    ]
    live = '__attribute__((export_name("live-blocks"))) int live(void) { slight_start(); return slight_blocks; }'
    modules = {"main": "\n".join(main).encode(), **build.modules(files)}
    code = {
        **files,
        "modules.c": build.table(modules),
        "exports.c": "\n".join(['#include "exports.h"', *macros, live, ""]),
    }
    module = directory / "echo-javascript.wasm"
    build.link(engine.objects(None, print), code, ("imports.c", "modules.c", "exports.c"), module)
    return module
