"""A guest in Rust that hands every argument on to an import of the same shape, and returns what that gives.

It is nothing but the generated bindings and those calls, for round trips. It tells how many blocks of memory it holds:
`live-blocks() -> u32`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

from bindgen.backends import reachable, rust
from bindgen.backends.rust_names import MAX_TUPLE, Names, camel, case_names, flag_names, is_borrowed, local, snake
from bindgen.wit_parser.model import (
    Enum,
    ExpectedOf,
    Flags,
    Function,
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
    is_unit,
    unaliased,
)

TARGET = "wasm32-unknown-unknown"

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


def echo_source(imported: Interface, exported: Interface) -> str:
    """The root of the crate whose other modules `rust.write([imported], [exported])` gives.

    Both interfaces have free functions of the same names and shapes. Their types may be shared, or each its own;
    resources are shared.
    """
    modules = sorted({"canonical_abi", *(snake(each.name) for each in reachable([imported, exported]))})
    echo = _Echo(imported, exported)
    functions = [line for function in exported.functions for line in echo.function(function)]
    lines = [
        "#![allow(unused_variables)] // an empty tuple is passed on as another one",
        "",
        *(f"mod {name};" for name in modules),
        "",
        _HEAD,
        f"impl {snake(exported.name)}::Guest for Echo {{",
        *functions,
        "}",
        "",
        f"{snake(exported.name)}::export!(Echo);",
        *echo.conversions.values(),
    ]
    return "\n".join(lines) + "\n"


def compile_echo(imported: Interface, exported: Interface, directory: Path) -> Path:
    """Writes the bindings and the guest into `directory`, and builds them; returns the module."""
    files = rust.write([imported], [exported]) | {"echo.rs": echo_source(imported, exported)}
    for name, text in files.items():
        (directory / name).write_text(text)
    return compile_rust(directory / "echo.rs", directory / "echo.wasm")


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
        return f"{snake(definition.interface.name)}::{camel(definition.name)}"

    def wide(self, tuple_: TupleOf) -> str:
        interface, name = self._wide[tuple_]
        return f"{snake(interface.name)}::{name}"


class _Echo:
    def __init__(self, imported: Interface, exported: Interface) -> None:
        self.imported = imported
        self.exported = exported
        self.conversions: dict[str, str] = {}
        """By name, functions from a type of one interface to the same type of the other."""

    def function(self, function: Function) -> list[str]:
        (same,) = [each for each in self.imported.functions if each.name == function.name]
        names = _Names(self.exported, {})
        params = [
            (local(param.name), param.type, there.type)
            for param, there in zip(function.params, same.params, strict=True)
        ]
        lines = []
        for name, ours, theirs in params:
            value = self.convert(ours, theirs, name)
            lines += [f"        let {name} = {value};"] if value != name else []
        arguments = [_borrow(type_, name) for name, _, type_ in params]
        call = f"{snake(self.imported.name)}::{snake(same.name)}({', '.join(arguments)})"
        owned = ", ".join(f"{name}: {names.owned(type_)}" for name, type_, _ in params)
        return [
            f"    fn {snake(function.name)}({owned}) -> {names.owned(function.result)} {{",
            *lines,
            f"        {self.convert(same.result, function.result, call, back=True)}",
            "    }",
        ]

    def convert(self, ours: Type, theirs: Type, value: str, back: bool = False) -> str:
        """The `value` of a type of the exported interface as that of the imported one, or back."""
        ours, theirs = unaliased(ours), unaliased(theirs)
        one, other = _Names(self.exported, {}), _Names(self.imported, {})
        if back:
            one, other = other, one

        def inner(first: Type, second: Type, text: str = "value") -> str:
            return self.convert(first, second, text, back)

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
                name = f"{snake(ours.interface.name)}_to_{snake(theirs.interface.name)}_{snake(theirs.name)}"
                if name not in self.conversions:
                    body = self._body(ours, theirs, inner)
                    self.conversions[name] = f"""
fn {name}(value: {one.use(ours)}) -> {other.use(theirs)} {{
    {body}
}}"""
                return f"{name}({value})"
        raise ValueError(f"{ours} is not another {theirs}")

    def _body(self, ours: TypeDef, theirs: TypeDef, inner: Callable[..., str]) -> str:
        """What turns a value of a named type into that of another with the same parts."""
        one, other = (_Names(each.interface, {}).use(each) for each in (ours, theirs))
        match ours.kind, theirs.kind:
            case Record(fields), Record(others):
                items = [
                    f"{snake(field.name)}: {inner(field.type, same.type, f'value.{snake(field.name)}')}"
                    for field, same in zip(fields, others, strict=True)
                ]
                return f"{other} {{ {', '.join(items)} }}"
            case Flags(labels), Flags():
                names = flag_names(ours)
                none = f"{other}::empty()"
                kept = [f"(if value.contains({one}::{it}) {{ {other}::{it} }} else {{ {none} }})" for it in names]
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
            case Enum(labels), Enum():
                arms = [f"{one}::{camel(label.name)} => {other}::{camel(label.name)}" for label in labels]
                return f"match value {{ {', '.join(arms)} }}"
        raise ValueError(f"{one} is not another {other}")


def _borrow(type_: Type, place: str, is_reference: bool = False) -> str:
    """What an import takes for the value at `place`, or behind the reference `place`."""
    real = unaliased(type_)
    if is_borrowed(type_):
        return place if is_reference else f"&{place}"
    match real:
        case Primitive.STRING:
            return f"{place}.as_str()"
        case ListOf():
            return f"{place}.as_slice()"
        case OptionOf(value):
            return f"{place}.as_ref().map(|value| {_borrow(value, 'value', True)})"
        case ExpectedOf(ok, err):
            sides = _borrow(ok, "value", True), _borrow(err, "value", True)
            return f"{place}.as_ref().map(|value| {sides[0]}).map_err(|value| {sides[1]})"
        case TupleOf(items):
            return f"({''.join(_borrow(item, f'{place}.{number}') + ', ' for number, item in enumerate(items))})"
    return f"*{place}" if is_reference else place
