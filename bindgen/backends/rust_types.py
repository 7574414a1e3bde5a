"""The types of an interface in Rust, for guests and hosts: their declarations, and what errors and flags can do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bindgen.backends.rust_names import Names, case_names, derives, error_types, field_names, flag_names
from bindgen.backends.rust_text import Code, Items, docs, use
from bindgen.plan import shape
from bindgen.wit_parser.model import (
    Alias,
    Enum,
    Flags,
    Interface,
    Label,
    Primitive,
    Record,
    Type,
    TypeDef,
    Union,
    Variant,
    cases,
    unaliased,
)

TAGS = {1: "u8", 2: "u16", 4: "u32"}
"""The types of tags, by their size in bytes."""


class Types:
    """Writes the types of one module."""

    def __init__(self, names: Names, interfaces: Iterable[Interface], error_trait: str) -> None:
        """`interfaces` are all that are written together. `error_trait` is the path of the trait of errors."""
        self._names = names
        self._errors = error_types(interfaces)
        self._error_trait = error_trait

    def declared(self, definition: TypeDef) -> list[Code]:
        """A type, and what it implements apart from the binary interface."""
        name = self._names.use(definition)
        code = docs(definition.docs)
        match definition.kind:
            case Alias(target):
                return [*code, f"pub type {name} = {self._names.owned(target)};"]
            case Record(fields_):
                body: list[Code] = []
                for field, name_ in zip(fields_, field_names(definition), strict=True):
                    body += [*docs(field.docs), f"pub {name_}: {self._names.owned(field.type)},"]
                code += [derives(definition), *braces(f"pub struct {name}", body)]
            case Enum(labels):
                named = zip(labels, case_names(definition), strict=True)
                body = [line for label, name_ in named for line in [*docs(label.docs), f"{name_},"]]
                code += [f"#[repr({enum_representation(definition)})]", derives(definition)]
                code += braces(f"pub enum {name}", body)
            case Flags(labels):
                code += [derives(definition), f"pub struct {name}(pub(super) {flags_representation(definition)});"]
                code += flags_items(self._names, definition, labels)
            case Variant(those) | Union(those):
                body = []
                named_cases = zip(those, case_names(definition), cases(definition), strict=True)
                for case, name_, (_, payload) in named_cases:
                    holds = f"({self._names.owned(payload)})" if payload else ""
                    body += [*docs(case.docs), f"{name_}{holds},"]
                code += [derives(definition), *braces(f"pub enum {name}", body)]
        return code + (self._error(definition) if definition in self._errors else [])

    def wide_tuples(self) -> list[tuple[Type, list[Code]]]:
        """The structs that long tuples are, each with the tuple."""
        found: list[tuple[Type, list[Code]]] = []
        for tuple_ in self._names.own_wide():
            items = [f"pub {self._names.owned(item)}" for item in tuple_.items]
            found.append((tuple_, [derives(tuple_), Items(f"pub struct {self._names.wide(tuple_)}(", items, ");")]))
        return found

    def _error(self, definition: TypeDef) -> list[Code]:
        """What makes a type an error: its cases in words."""
        name = self._names.use(definition)
        arms: list[Code] = []
        if isinstance(definition.kind, Variant | Union | Enum):
            for (case, payload), case_name in zip(cases(definition), case_names(definition), strict=True):
                path = f"{name}::{case_name}"
                words = "" if isinstance(definition.kind, Union) else case.replace("-", " ")
                if payload is None:
                    arms.append(f'{path} => f.write_str("{words}"),')
                    continue
                shown = "{value}" if self._has_display(payload) else "{value:?}"
                arms.append(f'{path}(value) => write!(f, "{words}{": " if words else ""}{shown}"),')
        body: list[Code] = ["match self {", arms, "}"] if arms else ['write!(f, "{self:?}")']
        return [
            "",
            f"impl core::fmt::Display for {name} {{",
            ["fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {", body, "}"],
            "}",
            "",
            f"impl {self._error_trait} for {name} {{}}",
        ]

    def _has_display(self, type_: Type) -> bool:
        real = unaliased(type_)
        return isinstance(real, Primitive) or real in self._errors


def used(names: Names) -> list[Code]:
    """What is used from other interfaces is to be found in a module, too."""
    lines: list[Code] = []
    for module, targets in sorted(names.used().items()):
        spelled = sorted(there if there == here else f"{there} as {here}" for there, here in targets)
        lines += ["", *use(f"pub use super::{module}::", spelled)]
    return lines


def braces(head: str, body: Sequence[Code]) -> list[Code]:
    """A block, of which the brackets stand on one line where it is empty."""
    return [f"{head} {{", body, "}"] if body else [f"{head} {{}}"]


def enum_representation(definition: TypeDef) -> str:
    """The number that an enum is."""
    return TAGS[shape(definition).size]


def flags_representation(definition: TypeDef) -> str:
    """What holds flags: a number, or 32-bit words."""
    size = shape(definition).size
    return TAGS.get(size, f"[u32; {size // 4}]")


def flags_items(names: Names, definition: TypeDef, labels: Sequence[Label]) -> list[Code]:
    """The constants, methods and operators of flags."""
    name = names.use(definition)
    size = shape(definition).size
    is_number = size <= 4
    body: list[Code] = []
    for number, (label, constant) in enumerate(zip(labels, flag_names(definition), strict=True)):
        value = f"{name}(1 << {number})" if is_number else f"{name}::only({number})"
        body += [*docs(label.docs), f"pub const {constant}: {name} = {value};"]
    body += [""] if labels else []
    zero = "0" if is_number else f"[0; {size // 4}]"
    body += ["/// None of them.", "pub const fn empty() -> Self {", [f"{name}({zero})"], "}", ""]
    body += ["/// Whether all of `other` are among them.", "pub fn contains(self, other: Self) -> bool {"]
    body += [["self & other == other"], "}"]
    if not is_number:
        body += ["", "const fn only(number: usize) -> Self {", ["let mut flags = Self::empty();"]]
        body += [["flags.0[number / 32] = 1 << (number % 32);", "flags"], "}"]
    code: list[Code] = ["", f"impl {name} {{", body, "}"]
    for trait, method, operator in (("BitOr", "bitor", "|"), ("BitAnd", "bitand", "&")):
        assign: list[Code] = [f"self.0 {operator}= other.0;"]
        if not is_number:
            assign = [
                "for (mine, others) in self.0.iter_mut().zip(other.0) {",
                [f"*mine {operator}= others;"],
                "}",
            ]
        code += [
            "",
            f"impl core::ops::{trait} for {name} {{",
            ["type Output = Self;", ""],
            [f"fn {method}(mut self, other: Self) -> Self {{", [f"self {operator}= other;", "self"], "}"],
            "}",
            "",
            f"impl core::ops::{trait}Assign for {name} {{",
            [f"fn {method}_assign(&mut self, other: Self) {{", assign, "}"],
            "}",
        ]
    return code
