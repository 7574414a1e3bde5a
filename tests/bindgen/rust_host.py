"""Hosts in Rust: the generated bindings, a program around them, and modules compiled ahead for it.

The package in `host_in_rust/` has the dependencies, locked, and `harness.rs`. A test adds the bindings of its
interfaces and modules of its own, and builds the whole in a folder of its own. The dependencies are compiled once.
"""

from __future__ import annotations

import functools
import re
import shutil
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wasmtime
from wasmtime import _bindings as ffi

from bindgen.backends import reachable, rust_host
from bindgen.backends.python_names import declared
from bindgen.backends.rust_names import HostNames, name_modules
from bindgen.backends.rust_text import render
from bindgen.backends.rust_types import case_path, case_payload, construct, fields
from bindgen.plan import shape
from bindgen.runtime import Err, Some
from bindgen.wit_parser.model import (
    Enum,
    ExpectedOf,
    Flags,
    Interface,
    ListOf,
    OptionOf,
    Primitive,
    Record,
    Resource,
    TupleOf,
    Type,
    TypeDef,
    Union,
    Variant,
    unaliased,
)
from slight_py import cache
from tests.rust_toolchain import cargo

PACKAGE = Path(__file__).with_name("host_in_rust")

_FLOATS = {Primitive.FLOAT32: ("f32", "<f", "<I"), Primitive.FLOAT64: ("f64", "<d", "<Q")}


def target_directory() -> Path:
    """Where cargo keeps what it has compiled, for all tests."""
    return cache.directory("rust-host")


def build(
    directory: Path, imports: Sequence[Interface], exports: Sequence[Interface], modules: Mapping[str, str]
) -> Path:
    """Builds a host of bindings and of `modules`, texts by file name, of which `main.rs` is the root and declares its
    own modules alone; returns the program. Raises AssertionError with the compiler's messages."""
    package = write_package(directory, {**rust_host.write(imports, exports), **modules}, ["harness.rs"])
    _cargo("build", package)
    return (target_directory() / "debug" / "rust-host").rename(directory / "rust-host")


def build_without_std(directory: Path, imports: Sequence[Interface], exports: Sequence[Interface]) -> Path:
    """Builds the bindings as a library for a program without the standard library; returns the folder of its sources.
    Raises AssertionError with the compiler's messages."""
    files = rust_host.write(imports, exports)
    package = write_package(directory, {**files, "main.rs": ""}, [])
    (package / "src" / "main.rs").rename(package / "src" / "lib.rs")
    _cargo("build", package)
    return package / "src"


def write_package(directory: Path, files: Mapping[str, str], more: Sequence[str]) -> Path:
    """Writes a package of `files`. Its root, `main.rs`, declares the bindings, and modules of `more` files."""
    package = directory / "host"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("target"))
    for name, text in files.items():
        (package / "src" / name).write_text(text)
    root = package / "src" / "main.rs"
    text = root.read_text()
    own = [f"{name}.rs" for name in re.findall(r"^mod (\w+);$", text, re.MULTILINE)]
    names = [name for name in [*files, *more] if name not in ("main.rs", *own)]
    # rustc finds no file for a name with characters beyond ASCII by itself.
    visibility = "" if text else "pub "
    declared = "".join(f'#[path = "{name}"]\n{visibility}mod {Path(name).stem};\n' for name in names)
    head = "#![deny(warnings)]\n" + ("#![allow(dead_code)]\n" if text else "#![no_std]\n")
    root.write_text(f"{head}{declared}{text}")
    return package


def _cargo(verb: str, package: Path) -> None:
    command, environment = cargo()
    options = ["--quiet", "--locked", "--ignore-rust-version", "--target-dir", str(target_directory())]
    done = subprocess.run(
        [command, verb, *options], cwd=package, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@functools.cache
def _engine() -> wasmtime.Engine:
    """What compiles for the host: as `engine` in harness.rs, which has no garbage collector and no threads."""
    config = wasmtime.Config()
    pointer = config.ptr()
    ffi.wasmtime_config_memory_init_cow_set(pointer, False)
    ffi.wasmtime_config_gc_support_set(pointer, False)
    ffi.wasmtime_config_concurrency_support_set(pointer, False)
    for feature in ("threads", "gc", "function_references", "exceptions", "component_model"):
        setattr(config, f"wasm_{feature}", False)
    return wasmtime.Engine(config)


def compile_ahead(wasm: bytes | str, path: Path) -> Path:
    """Compiles a module, given as bytes or as text, into `path`."""
    binary = wasmtime.wat2wasm(wasm) if isinstance(wasm, str) else wasm
    path.write_bytes(bytes(wasmtime.Module(_engine(), binary).serialize()))
    return path


def names_of(interface: Interface, imports: Sequence[Interface], exports: Sequence[Interface]) -> HostNames:
    """The names of a generated module, for code in another that uses all that is in it."""
    return HostNames(interface, name_modules(reachable([*imports, *exports])), exports)


# Values as Rust.


def expression(names: HostNames, type_: Type, value: Any) -> str:
    """The expression for a value, which is as the Python bindings have it. A resource of the host is a `ZzResource`."""
    real = unaliased(type_)
    match real:
        case Primitive.UNIT:
            return "()"
        case Primitive.BOOL:
            return str(value).lower()
        case Primitive.CHAR:
            return f"'\\u{{{ord(value):x}}}'"
        case Primitive.STRING:
            return f"String::from({_quoted(value)})"
        case Primitive.FLOAT32 | Primitive.FLOAT64:
            return _float(real, value)
        case Primitive():
            return f"{value}{real.value.replace('s', 'i')}"
        case ListOf(element):
            return _list(names, element, value)
        case TupleOf(items):
            inner = [expression(names, item, each) for item, each in zip(items, value, strict=True)]
            return constructed(names, type_, inner)
        case OptionOf(inner_type):
            wrapped = isinstance(value, Some)
            return (
                "None" if value is None else f"Some({expression(names, inner_type, value.value if wrapped else value)})"
            )
        case ExpectedOf(ok, err):
            failed = isinstance(value, Err)
            return f"{'Err' if failed else 'Ok'}({expression(names, err if failed else ok, value.value)})"
        case TypeDef(kind=Record()):
            mine = [getattr(value, name) for name in value.__dataclass_fields__]
            inner = [expression(names, part, each) for (_, part), each in zip(fields(real), mine, strict=True)]
            return constructed(names, type_, inner)
        case TypeDef(kind=Enum()):
            return case_path(names, real, int(value))
        case TypeDef(kind=Flags()):
            size = shape(real).size
            words = [str(int(value) >> 32 * n & 0xFFFF_FFFF) for n in range(max(1, size // 4))]
            listed = ", ".join(words)
            return f"{names.use(real)}({listed})" if size <= 4 else f"{names.use(real)}([{listed}])"
        case TypeDef(kind=Variant(cases) | Union(cases)):
            classes = [declared(real.interface)[real, number] for number in range(len(cases))]
            number = classes.index(type(value).__name__)
            path, held = case_path(names, real, number), case_payload(real, number)
            return path if held is None else f"{path}({expression(names, held, value.value)})"
        case Resource():
            return f"{names.use(real)}::new(ZzResource)"
    raise AssertionError(real)


def constructed(names: HostNames, type_: Type, values: Sequence[str]) -> str:
    """The expression for a record or a tuple of `values`."""
    return "\n".join(render([construct(names, type_, values)]))


def _list(names: HostNames, element: Type, value: Any) -> str:
    if unaliased(element) is Primitive.U8:
        escaped = "".join(map("\\x{:02x}".format, value))
        return f'b"{escaped}".to_vec()'
    if len(value) > 100 and all(each == value[0] for each in value):
        return f"vec![{expression(names, element, value[0])}; {len(value)}]"
    items = ", ".join(expression(names, element, each) for each in value)
    return f"Vec::<{names.owned(element)}>::from([{items}])"


def _float(type_: Primitive, value: float) -> str:
    """By its bits, so that a NaN is itself."""
    name, as_float, as_bits = _FLOATS[type_]
    return f"{name}::from_bits({struct.unpack(as_bits, struct.pack(as_float, value))[0]})"


def _quoted(text: str) -> str:
    plain = all(" " <= each <= "~" and each not in '"\\' for each in text)
    return f'"{text}"' if plain else '"' + "".join(f"\\u{{{ord(each):x}}}" for each in text) + '"'
