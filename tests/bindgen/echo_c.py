"""A guest in C that hands every argument on to an import of the same shape, and returns what that gives.

It is nothing but the generated bindings and those calls, for round trips. It frees what it owns, and tells how many
blocks of memory it holds: `live-blocks() -> u32`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from bindgen.backends import c, reachable
from bindgen.backends.c_calls import signature
from bindgen.backends.c_layout import WORD_FLAGS
from bindgen.backends.c_names import Names
from bindgen.backends.c_types import free
from bindgen.plan import FlagSet, shape
from bindgen.wit_parser.model import (
    Enum,
    Flags,
    Function,
    Interface,
    Resource,
    Type,
    TypeDef,
    Union,
    Variant,
    unaliased,
)
from tests.bindgen.roundtrip import export_names, pairs

WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wsign-conversion", "-Wshadow", "-Werror")
"""What generated C has to pass."""

COUNT_BLOCKS = ("-Drealloc=counted_realloc", "-Dfree=counted_free")
"""What has the bindings allocate through the functions of `COUNTED`."""

COUNTED = """\
#undef realloc
#undef free
void *realloc(void *ptr, size_t size);
void free(void *ptr);
void *counted_realloc(void *ptr, size_t size);
void counted_free(void *ptr);

#define GUARD UINT64_C(0x6775617264206d65)

static uint32_t live_blocks;

/* A block of the bindings: its size, its bytes, and what must be there still when it is freed. */
void *counted_realloc(void *ptr, size_t size) {
    uint64_t *block = ptr ? NULL : realloc(NULL, size + 16);
    if (!block) return NULL;
    uint64_t guard = GUARD;
    *block = size;
    __builtin_memcpy((uint8_t *)(block + 1) + size, &guard, 8);
    live_blocks++;
    return block + 1;
}

void counted_free(void *ptr) {
    uint64_t guard;
    uint64_t *block = (uint64_t *)ptr - 1;
    __builtin_memcpy(&guard, (uint8_t *)ptr + *block, 8);
    if (guard != GUARD) __builtin_trap();
    live_blocks--;
    free(block);
}

__attribute__((export_name("live-blocks")))
uint32_t count_live_blocks(void) {
    return live_blocks;
}
"""
"""The part of a guest's source that counts the blocks of the bindings, and traps if one was written past its end."""


def echo_source(imports: Sequence[Interface], exports: Sequence[Interface]) -> str:
    """The guest's own source. It is compiled with `COUNT_BLOCKS`, beside `c.write(imports, exports)`.

    The functions of the one are those of the other, in their order, with the same shapes: `_echo` says what may differ.
    Their types may be shared, or each its own.
    """
    interfaces = reachable([*imports, *exports])
    names = Names(interfaces)
    lines = [f'#include "{names.stem(interface)}.h"' for interface in interfaces]
    lines += ["", COUNTED, *(line for interface in interfaces for line in _constants(names, interface))]
    for number, resource in enumerate(each for interface in exports for each in interface.resources):
        lines += _destructor(names, resource, f"end_{number}")
    exported_as = export_names(exports)
    for number, (call, function) in enumerate(pairs(imports, exports)):
        lines += _echo(names, call, function, f"echo_{number}", exported_as[function])
    return "\n".join(lines) + "\n"


def _constants(names: Names, interface: Interface) -> list[str]:
    """Assertions that each flag and each case has a constant, and that it is the right one."""
    lines = []
    for definition in interface.types:
        form = shape(definition)
        is_bit = isinstance(form, FlagSet) and form.count <= WORD_FLAGS
        for number in range(_count(definition)):
            value = f"UINT64_C(1) << {number}" if is_bit else str(number)
            lines.append(f'_Static_assert({names.constant(definition, number)} == {value}, "a constant");')
    return lines


def _count(definition: TypeDef) -> int:
    """How many flags or cases a type has."""
    match definition.kind:
        case Flags(labels):
            return len(labels)
        case Variant(cases) | Union(cases):
            return len(cases)
        case Enum(labels):
            return len(labels)
    return 0


def _destructor(names: Names, resource: Resource, name: str) -> list[str]:
    """What is exported to end a resource of the guest, which does nothing."""
    macro = names.destructor_macro(resource)
    return [f"static void {name}(void *rep) {{", "    (void)rep;", "}", f"{macro}({name})", ""]


def _echo(names: Names, call: Function, function: Function, name: str, exported: str) -> list[str]:
    """A function `name` that calls `call`, and the macro that exports it as `function`, under the name `exported`.

    A method of the guest drops its own handle, and `call` does without. Where `call` returns nothing, the result is a
    new resource of the guest.
    """
    theirs, ours = signature(names, call), signature(names, function)
    # Whatever the interface calls them: a name of its own for each, so that none hides the function that is called.
    ours = replace(ours, params=tuple((f"p{number}", type_) for number, (_, type_) in enumerate(ours.params)))
    body: list[str] = []
    arguments = []
    passed = ours.params[len(ours.params) - len(theirs.params) :]
    for (_, their_type), (argument, type_) in zip(theirs.params, passed, strict=True):
        arguments.append(_converted(names, argument, type_, their_type, f"their_{argument}", body))
    for (out, their_type), (_, type_) in zip(theirs.outs, ours.outs, strict=True):
        if names.type(their_type) == names.type(type_):
            arguments.append(out)
        else:
            body.append(f"{names.type(their_type)} their_{out};")
            arguments.append(f"&their_{out}")
    invoke = f"{names.function(call)}({', '.join(arguments)});"
    body.append(invoke if theirs.result == "void" else f"{theirs.result} result = {invoke}")
    body += [free(names, shape(type_), argument) for argument, type_ in ours.params if shape(type_).owns]
    for argument, (out, type_) in zip(arguments[len(passed) :], ours.outs, strict=True):
        if argument != out:
            condition = "result" if out == "ok" else "!result"
            body.append(f"if ({condition}) __builtin_memcpy({out}, {argument}, sizeof({names.type(type_)}));")
    if ours.result == theirs.result:
        body += [] if ours.result == "void" else ["return result;"]
    elif theirs.result == "void":
        body.append(f"return {names.helper('new', unaliased(function.result))}(NULL);")
    else:
        body.append(f"return {_converted(names, 'result', call.result, function.result, 'ours', body)};")
    head = f"static {ours.result} {name}({', '.join(ours.declared(names))}) {{"
    export = f'{names.export_macro(function)}("{exported}", {name})'
    return [head, *(f"    {line}" for line in body), "}", export, ""]


def _converted(names: Names, value: str, have: Type, want: Type, name: str, body: list[str]) -> str:
    """`value` as a C type of the same shape; what it takes is added to `body`."""
    if names.type(have) == names.type(want):
        return value
    body += [f"{names.type(want)} {name};", f"__builtin_memcpy(&{name}, &{value}, sizeof {name});"]
    return name


def compile_echo(imports: Sequence[Interface], exports: Sequence[Interface], directory: Path) -> Path:
    """Writes the bindings and the guest into `directory`, and builds them; returns the module."""
    files = c.write(imports, exports) | {"echo.c": echo_source(imports, exports)}
    for name, text in files.items():
        (directory / name).write_text(text)
    sources = [directory / name for name in files if name.endswith(".c")]
    # The types of the two interfaces may differ in name only, and are used for each other.
    return compile_c(sources, directory / "echo.wasm", [*COUNT_BLOCKS, "-fno-strict-aliasing"])


def compile_c(sources: Iterable[Path], module: Path, flags: Iterable[str] = ()) -> Path:
    """Builds a reactor from C sources; returns `module`."""
    zig_cc("-target", "wasm32-wasi", "-mexec-model=reactor", "-s", *flags, "-o", module, *sources)
    return module


def zig_cc(*arguments: str | Path) -> None:
    """Runs the compiler. Raises AssertionError with its messages if there are any."""
    user_cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    environment = {"ZIG_GLOBAL_CACHE_DIR": str(Path(user_cache, "zig")), **os.environ}
    command: list[str | Path] = [sys.executable, "-m", "ziglang", "cc", "-O1", *WARNINGS, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
