"""A guest in Rust that hands every argument on to an import of the same shape, and returns what that gives.

It is nothing but the generated bindings and those calls, for round trips. It tells how many blocks of memory it holds:
`live-blocks() -> u32`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from bindgen.backends import reachable, rust
from bindgen.backends.rust_names import (
    MAX_TUPLE,
    Names,
    case_names,
    field_names,
    flag_names,
    is_reference,
    name_modules,
    params_of,
)
from bindgen.wit_parser.model import (
    Enum,
    ExpectedOf,
    Flags,
    Function,
    FunctionKind,
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
    functions_of,
    is_unit,
    unaliased,
)
from tests.bindgen.roundtrip import export_names, pairs

TARGET = "wasm32-unknown-unknown"

NAMES_ARE_AS_THEY_ARE = [
    f"-A{lint}"
    for lint in (
        *("non-snake-case", "non-camel-case-types", "non-upper-case-globals"),
        *("uncommon-codepoints", "confusable-idents", "mixed-script-confusables"),
    )
]
"""The lints that are about how a name looks, which is the interface's choice."""

_HEAD = """\
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The system's allocator, which counts the blocks in use. A block that is freed as another than it is ends the guest.
struct Counting {
    live: AtomicU32,
}

/// What is allocated for a block: `head` bytes, the last of which say what the block is, and the block.
fn with_head(layout: Layout) -> (usize, Layout) {
    let head = layout.align().max(8);
    (head, Layout::from_size_align(head + layout.size(), head).unwrap())
}

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (head, whole) = with_head(layout);
        let block = System.alloc(whole).add(head);
        block.cast::<[usize; 2]>().sub(1).write_unaligned([layout.size(), layout.align()]);
        self.live.fetch_add(1, Relaxed);
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if block.cast::<[usize; 2]>().sub(1).read_unaligned() != [layout.size(), layout.align()] {
            std::process::abort();
        }
        let (head, whole) = with_head(layout);
        System.dealloc(block.sub(head), whole);
        self.live.fetch_sub(1, Relaxed);
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting { live: AtomicU32::new(0) };

#[export_name = "live-blocks"]
extern "C" fn live_blocks() -> u32 {
    ALLOCATOR.live.load(Relaxed)
}

struct Echo;
"""


def echo_source(imports: Sequence[Interface], exports: Sequence[Interface]) -> str:
    """The root of the crate whose other modules `rust.write(imports, exports)` gives.

    The functions of the one are those of the other, in their order, with the same shapes: `_Echo.function` says what
    may differ. Their types may be shared, or each its own; resources are shared. Only one exported interface may have
    resources, where there are several.
    """
    modules = name_modules(reachable([*imports, *exports]))
    echo = _Echo(modules)
    calls = {function: call for call, function in pairs(imports, exports)}
    lines = [
        "#![allow(unused_variables)] // an empty tuple is passed on as another one",
        "",
        *(_mod(name) for name in sorted({"canonical_abi", *modules.values()})),
        "",
        _HEAD,
    ]
    for interface in exports:
        lines += echo.interface(interface, calls)
    if len(exports) == 1:
        lines.append(f"{modules[exports[0]]}::export!(Echo);")
    else:
        exported_as = export_names(exports)
        lines += [line for interface in exports for line in echo.single_exports(interface, exported_as)]
    return "\n".join([*lines, *(text for _, text in echo.conversions.values())]) + "\n"


def _mod(name: str) -> str:
    """Rust finds no file by a name that isn't ASCII."""
    return f"mod {name};" if name.isascii() else f'#[path = "{name}.rs"]\nmod {name};'


def compile_echo(imports: Sequence[Interface], exports: Sequence[Interface], directory: Path) -> Path:
    """Writes the bindings and the guest into `directory`, and builds them; returns the module."""
    files = rust.write(imports, exports) | {"echo.rs": echo_source(imports, exports)}
    for name, text in files.items():
        (directory / name).write_text(text)
    return compile_rust(directory / "echo.rs", directory / "echo.wasm", *NAMES_ARE_AS_THEY_ARE)


def compile_rust(root: Path, module: Path, *options: str) -> Path:
    """Builds a crate as a library of WebAssembly; returns `module`. Raises AssertionError with rustc's messages.

    The guest needs nothing of WASI.
    """
    command: list[str | Path] = [find_rustc(), "--edition", "2021", "--crate-type", "cdylib", "--target", TARGET]
    command += ["-D", "warnings", "-C", "panic=abort", "-C", "strip=symbols", *options, "-o", module, root]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return module


@cache
def find_rustc() -> Path:
    """The first rustc of PATH that has a standard library for TARGET. Raises AssertionError where there is none."""
    for folder in os.get_exec_path():
        rustc = Path(folder, "rustc")
        if rustc.exists():
            ask: list[str | Path] = [rustc, "--print", "target-libdir", "--target", TARGET]
            answer = subprocess.run(ask, capture_output=True, text=True, check=False)
            if answer.returncode == 0 and Path(answer.stdout.strip()).is_dir():
                return rustc
    raise AssertionError(f"no rustc builds for {TARGET}: apt install rustc libstd-rust-dev-wasm32 lld")


class _Names(Names):
    """Names as the root of the crate has them."""

    def use(self, definition: TypeDef | Resource) -> str:
        there = Names(definition.interface, self._modules).use(definition)
        return f"{self._modules[definition.interface]}::{there}"

    def wide(self, tuple_: TupleOf) -> str:
        interface, name = self._wide[tuple_]
        return f"{self._modules[interface]}::{name}"


class _Echo:
    def __init__(self, modules: Mapping[Interface, str]) -> None:
        self._modules = modules
        self._homes = {function: interface for interface in modules for function in functions_of(interface)}
        self.conversions: dict[tuple[TypeDef, TypeDef], tuple[str, str]] = {}
        """Functions from a type of one interface to the same type of another: names and texts."""

    def interface(self, exported: Interface, calls: Mapping[Function, Function]) -> list[str]:
        """What implements an exported interface."""
        module, names = self._modules[exported], Names(exported, self._modules)
        constructed = [
            resource
            for resource in exported.resources
            if any(function.kind is FunctionKind.STATIC for function in resource.functions)
        ]
        lines = []
        if exported.functions or constructed:
            lines.append(f"impl {module}::Guest for Echo {{")
            lines += [f"    type {names.use(resource)} = Echo;" for resource in constructed]
            lines += [line for function in exported.functions for line in self.function(exported, function, calls)]
            lines += ["}", ""]
        for resource in exported.resources:
            lines.append(f"impl {module}::{names.guest_trait(resource)} for Echo {{")
            lines += [line for function in resource.functions for line in self.function(exported, function, calls)]
            lines += ["}", ""]
        return lines

    def single_exports(self, exported: Interface, exported_as: Mapping[Function, str]) -> list[str]:
        """Exports of the free functions, each under a name of its own."""
        module, names = self._modules[exported], Names(exported, self._modules)
        found = []
        for function in exported.functions:
            name = names.function(function)
            target = f"<Echo as {module}::Guest>::{name}"
            found.append(f'{module}::export_{name}!("{exported_as[function]}", {target});')
        return found

    def function(self, exported: Interface, function: Function, calls: Mapping[Function, Function]) -> list[str]:
        """A function that calls another one. Where that returns nothing, the result is a resource of the guest."""
        same = calls[function]
        names, theirs_names = _Names(exported, self._modules), _Names(self._homes[same], self._modules)
        own = 1 if function.kind is FunctionKind.METHOD else 0
        params, arguments = params_of(function)[own:], []
        lines = []
        for (name, ours), (_, theirs) in zip(params, params_of(same), strict=True):
            value = self.convert(ours, theirs, name, names, theirs_names)
            lines += [f"        let {name} = {value};"] if value != name else []
            arguments.append(_borrow(theirs, name))
        call = f"{self._called(same)}({', '.join(arguments)})"
        owned = ["&self"] * own
        owned += [f"{name}: {names.owned(type_)}" for name, type_ in params]
        if is_unit(same.result) and not is_unit(function.result):
            lines.append(f"        {call};")
            result = f"{names.owned(function.result)}::new(Echo)"
        else:
            result = self.convert(same.result, function.result, call, theirs_names, names)
        return [
            f"    fn {names.function(function)}({', '.join(owned)}) -> {names.owned(function.result)} {{",
            *lines,
            f"        {result}",
            "    }",
        ]

    def _called(self, function: Function) -> str:
        """The path of a function that the guest imports."""
        interface = self._homes[function]
        names = Names(interface, self._modules)
        owner = f"{names.use(function.resource)}::" if function.resource else ""
        return f"{self._modules[interface]}::{owner}{names.function(function)}"

    def convert(self, ours: Type, theirs: Type, value: str, one: _Names, other: _Names) -> str:
        """The `value` of a type as that of a type of the same shape, given the names that the two have."""
        ours, theirs = unaliased(ours), unaliased(theirs)

        def inner(first: Type, second: Type, text: str = "value") -> str:
            return self.convert(first, second, text, one, other)

        match ours, theirs:
            case _ if one.owned(ours) == other.owned(theirs):
                return value
            case ListOf(first), ListOf(second):
                return f"{value}.into_iter().map(|value| {inner(first, second)}).collect::<Vec<_>>()"
            case OptionOf(first), OptionOf(second):
                return f"{value}.map(|value| {inner(first, second)})"
            case ExpectedOf(ok, err), ExpectedOf(other_ok, other_err):
                return f"{value}.map(|value| {inner(ok, other_ok)}).map_err(|value| {inner(err, other_err)})"
            case TupleOf(firsts), TupleOf(seconds):
                items = [inner(*pair, f"value.{n}") for n, pair in enumerate(zip(firsts, seconds, strict=True))]
                head = other.wide(theirs) if len(items) > MAX_TUPLE else ""
                return f"{{ let value = {value}; {head}({', '.join(items)}{'' if head else ','}) }}"
            case TypeDef(), TypeDef():
                key = ours, theirs
                name = f"conversion_{len(self.conversions)}"
                if key not in self.conversions:
                    self.conversions[key] = name, ""
                    head = f"fn {name}(value: {one.use(ours)}) -> {other.use(theirs)}"
                    body = self._body(ours, theirs, one.use(ours), other.use(theirs), inner)
                    self.conversions[key] = name, f"\n{head} {{\n    {body}\n}}"
                return f"{self.conversions[key][0]}({value})"
        raise ValueError(f"{ours} is not another {theirs}")

    def _body(self, ours: TypeDef, theirs: TypeDef, one: str, other: str, inner: Callable[..., str]) -> str:
        """What turns a value of a named type into that of another with the same parts."""
        match ours.kind, theirs.kind:
            case Record(fields), Record(others):
                named = zip(field_names(ours), fields, field_names(theirs), others, strict=True)
                items = [
                    f"{theirs_name}: {inner(field.type, same.type, f'value.{name}')}"
                    for name, field, theirs_name, same in named
                ]
                return f"{other} {{ {', '.join(items)} }}"
            case Flags(), Flags():
                none = f"{other}::empty()"
                named = zip(flag_names(ours), flag_names(theirs), strict=True)
                kept = [f"(if value.contains({one}::{a}) {{ {other}::{b} }} else {{ {none} }})" for a, b in named]
                return " | ".join([none, *kept])
            case ((Variant(cases) | Union(cases)), (Variant(others) | Union(others))):
                arms = []
                for number, (case, same) in enumerate(zip(cases, others, strict=True)):
                    paths = f"{one}::{case_names(ours)[number]}", f"{other}::{case_names(theirs)[number]}"
                    if case.type is None or same.type is None or is_unit(case.type):
                        arms.append(f"{paths[0]} => {paths[1]}")
                    else:
                        arms.append(f"{paths[0]}(value) => {paths[1]}({inner(case.type, same.type)})")
                return f"match value {{ {', '.join(arms)} }}"
            case Enum(), Enum():
                named = zip(case_names(ours), case_names(theirs), strict=True)
                arms = [f"{one}::{a} => {other}::{b}" for a, b in named]
                return f"match value {{ {', '.join(arms)} }}"
        raise ValueError(f"{one} is not another {other}")


def _borrow(type_: Type, place: str, is_behind: bool = False) -> str:
    """What an import takes for the value at `place`, or behind the reference `place`."""
    real = unaliased(type_)
    match real:
        case Primitive.STRING:
            return f"{place}.as_str()"
        case ListOf():
            return f"{place}.as_slice()"
        case _ if is_reference(type_):
            return place if is_behind else f"&{place}"
        case OptionOf(value):
            return f"{place}.as_ref().map(|value| {_borrow(value, 'value', True)})"
        case ExpectedOf(ok, err):
            sides = _borrow(ok, "value", True), _borrow(err, "value", True)
            return f"{place}.as_ref().map(|value| {sides[0]}).map_err(|value| {sides[1]})"
        case TupleOf(items):
            return f"({''.join(_borrow(item, f'{place}.{number}') + ', ' for number, item in enumerate(items))})"
    return f"*{place}" if is_behind else place
