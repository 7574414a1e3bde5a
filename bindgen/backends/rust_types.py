"""The types of an interface in Rust, for guests and hosts: their declarations, how values are made of parts and taken
apart, and what errors and flags can do."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from bindgen.backends.rust_names import MAX_TUPLE, Names, case_names, derives, field_names, flag_names
from bindgen.backends.rust_text import Code, Items, Value, docs, use
from bindgen.plan import shape
from bindgen.wit_parser.model import (
    Alias,
    Enum,
    ExpectedOf,
    Flags,
    Label,
    OptionOf,
    Primitive,
    Record,
    TupleOf,
    Type,
    TypeDef,
    Union,
    Variant,
    cases,
    unaliased,
)

TAGS = {1: "u8", 2: "u16", 4: "u32"}
"""The types of tags, by their size in bytes."""

FLAT_TYPES = {"i": "u32", "I": "u64", "f": "f32", "d": "f64"}
"""What a flat value is in Rust."""


class Types:
    """Writes the types of one module."""

    def __init__(self, names: Names, errors: Collection[TypeDef], error_trait: str) -> None:
        """`errors` are the types that are errors, and `error_trait` the path of the trait that they have."""
        self._names = names
        self._errors = errors
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


# Fields and cases.


def fields(type_: Type) -> list[tuple[str, Type]]:
    """The names and types of what a record or a tuple is made of."""
    real = unaliased(type_)
    if isinstance(real, TupleOf):
        return [(str(number), item) for number, item in enumerate(real.items)]
    assert isinstance(real, TypeDef)
    assert isinstance(real.kind, Record)
    return [(name, field.type) for name, field in zip(field_names(real), real.kind.fields, strict=True)]


def construct(names: Names, type_: Type, values: Sequence[Value]) -> Items:
    """A record or a tuple of `values`."""
    real = unaliased(type_)
    if not isinstance(real, TupleOf):
        parts = zip(fields(type_), values, strict=True)
        items = [name if name == value else _named(f"{name}: ", value) for (name, _), value in parts]
        return Items(f"{names.owned(real)} {{", items, "}")
    if len(real.items) > MAX_TUPLE:
        return Items(f"{names.wide(real)}(", values, ")")
    if len(values) == 1:
        return Items("(", values, ",)")
    return Items("(", values, ")")


def _named(prefix: str, value: Value) -> Value:
    return prefix + value if isinstance(value, str) else replace(value, head=prefix + value.head)


def case_path(names: Names, type_: Type, number: int) -> str:
    """What a case is called in a pattern and in an expression."""
    real = unaliased(type_)
    match real:
        case OptionOf():
            return ("None", "Some")[number]
        case ExpectedOf():
            return ("Ok", "Err")[number]
    assert isinstance(real, TypeDef)
    return f"{names.use(real)}::{case_names(real)[number]}"


def case_payload(type_: Type, number: int) -> Type | None:
    """What a case of a Rust enum holds: that of an option or an expected may be `()`."""
    real = unaliased(type_)
    match real:
        case OptionOf(value):
            return (None, value)[number]
        case ExpectedOf(ok, err):
            return (ok, err)[number]
    return cases(real)[number][1]
