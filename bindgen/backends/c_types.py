"""Writes the C types of an interface, what frees and copies their values, and the drops of its resources.

A named type stands in the header of its interface, and its functions in the source. One without a name stands in every
header that mentions it, its functions inline, all under a guard: whichever header comes first defines it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bindgen.backends.c_layout import (
    WORD_FLAGS,
    canonical,
    flags_count,
    is_empty,
    is_variant,
    members,
    owns,
    payload_groups,
    payloads,
)
from bindgen.backends.c_names import PREDEFINED, Names, field, flags_type, tag_field
from bindgen.backends.c_text import comment, indented, listed
from bindgen.plan import choice, shape
from bindgen.wit_parser.model import (
    Alias,
    Enum,
    ExpectedOf,
    Flags,
    Interface,
    Label,
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
    contains_handle,
    has_heap,
    unaliased,
)
from bindgen.wit_parser.model import cases as cases_of

_TAGS = {1: "uint8_t", 2: "uint16_t", 4: "uint32_t"}


class Types:
    """Collects the types that one header needs, each after those that it's made of."""

    def __init__(self, names: Names, interface: Interface) -> None:
        self._names = names
        self._interface = interface
        self._done: set[Type] = set()
        self.header: list[str] = []
        self.source: list[str] = []
        self.used: set[Interface] = set()
        """The interfaces whose headers are to be included."""

    def need(self, type_: Type) -> None:
        """Sees to it that a type is defined."""
        if isinstance(type_, TypeDef | Resource):
            if type_.interface is not self._interface:
                self.used.add(type_.interface)
                return
        else:
            type_ = canonical(type_)
        if is_empty(type_) or isinstance(type_, Primitive) or type_ in PREDEFINED or type_ in self._done:
            return
        self._done.add(type_)
        for part in _parts(type_):
            self.need(part)
        if isinstance(type_, Resource):
            self._define_resource(type_)
        elif isinstance(type_, TypeDef):
            self._define(type_)
        else:
            self._define_unnamed(type_)

    def _define(self, definition: TypeDef) -> None:
        name = self._names.type(definition)
        self.header += ["", *comment(definition.docs)]
        match definition.kind:
            case Alias(target):
                self.header += [f"typedef {self._names.type(target)} {name};", *self._forwarded(definition)]
                return
            case Enum(labels):
                self.header += [f"typedef {_TAGS[shape(definition).size]} {name};"]
                self.header += self._constants(definition, labels)
            case Flags(labels):
                self._define_flags(definition, labels)
            case Variant(cases) | Union(cases):
                self.header += self._struct(definition)
                self.header += self._constants(definition, [Label(case.name, case.docs) for case in cases])
            case Record():
                self.header += self._struct(definition)
        for head, body in self._functions(definition):
            self.header += ["", f"{head};"]
            self.source += ["", f"{head} {{", *indented(body), "}"]

    def _define_unnamed(self, type_: Type) -> None:
        guard = self._names.claim(("guard", type_), self._names.type(type_).upper())
        self.header += ["", f"#ifndef {guard}", f"#define {guard}", *self._struct(type_)]
        for head, body in self._functions(type_):
            self.header += ["", *_inline(head, body)]
        self.header += ["#endif"]

    def _define_resource(self, resource: Resource) -> None:
        name = self._names.type(resource)
        self.header += ["", *comment(resource.docs), "typedef struct {", "    uint32_t handle;", f"}} {name};"]
        drop = self._names.helper("drop", resource)
        self.header += ["", *comment("Gives a handle up."), f"void {drop}({name} handle);"]
        private = self._names.claim(("import drop", resource), f"import_{drop}")
        self.source += [
            "",
            *imported("canonical_abi", f"resource_drop_{resource.name}", [f"void {private}(uint32_t handle);"]),
            "",
            f"void {drop}({name} handle) {{",
            f"    {private}(handle.handle);",
            "}",
        ]

    # Definitions.

    def _struct(self, type_: Type) -> list[str]:
        """The struct of a type that is no number."""
        if isinstance(type_, ListOf):
            element = "void" if is_empty(type_.element) else self._names.type(type_.element)
            body = [f"const {element} *ptr;", "size_t len;"]
        elif is_variant(type_):
            body = [f"{self._tag_type(type_)} {tag_field(type_)};", *self._union(type_)]
        else:
            body = []
            for number, part in members(type_):
                if isinstance(type_, TypeDef) and isinstance(type_.kind, Record):
                    body += comment(type_.kind.fields[number].docs)
                body.append(f"{self._names.type(part)} {field(type_, number)};")
        return ["typedef struct {", *indented(body), f"}} {self._names.type(type_)};"]

    def _union(self, type_: Type) -> list[str]:
        found = [f"{self._names.type(part)} {field(type_, tag)};" for tag, part in payloads(type_)]
        return ["union {", *indented(found), "};"] if len(found) > 1 else found

    def _tag_type(self, type_: Type) -> str:
        if isinstance(type_, OptionOf | ExpectedOf):
            return "bool"
        return _TAGS[choice(type_).tag_size]

    def _constants(self, definition: TypeDef, labels: tuple[Label, ...] | list[Label]) -> list[str]:
        body = []
        for number, label in enumerate(labels):
            body += [*comment(label.docs), f"{self._names.constant(definition, number)},"]
        return ["", "enum {", *indented(body), "};"] if body else []

    def _define_flags(self, definition: TypeDef, labels: tuple[Label, ...]) -> None:
        name = self._names.type(definition)
        count = flags_count(definition)
        if count > WORD_FLAGS:
            self._define_word_flags(definition, labels)
            return
        one = "UINT64_C(1)" if count > 32 else "UINT32_C(1)"
        self.header += [f"typedef {flags_type(definition)} {name};", ""]
        for number, label in enumerate(labels):
            self.header += comment(label.docs)
            self.header += [f"#define {self._names.constant(definition, number)} ({one} << {number})"]

    def _define_word_flags(self, definition: TypeDef, labels: tuple[Label, ...]) -> None:
        name = self._names.type(definition)
        words = len(shape(definition).slots)
        self.header += ["typedef struct {", f"    uint32_t words[{words}];", f"}} {name};"]
        self.header += ["", "/* The numbers of the flags. */", *self._constants(definition, labels)[1:]]
        has, with_ = self._names.helper("has", definition), self._names.helper("with", definition)
        self.header += [
            "",
            f"static inline bool {has}({name} flags, unsigned number) {{",
            "    return flags.words[number / 32] >> (number % 32) & 1;",
            "}",
            "",
            f"static inline {name} {with_}({name} flags, unsigned number) {{",
            "    flags.words[number / 32] |= UINT32_C(1) << (number % 32);",
            "    return flags;",
            "}",
        ]

    # Freeing and copying.

    def _functions(self, type_: Type) -> list[tuple[str, list[str]]]:
        """What frees and copies the values of a type: heads and bodies."""
        name = self._names.type(type_)
        found = []
        if owns(type_):
            found.append((f"void {self._names.helper('free', type_)}({name} value)", self._free(type_)))
        if is_copyable(type_):
            body = [*self._dup(type_), "return value;"]
            found.append((f"{name} {self._names.helper('dup', type_)}({name} value)", body))
        return found

    def _forwarded(self, definition: TypeDef) -> list[str]:
        """The functions of what an alias stands for, under its own name."""
        real = unaliased(definition)
        lines: list[str] = []
        if isinstance(real, Resource) or not owns(real):
            return lines
        name = self._names.type(definition)
        head = f"void {self._names.helper('free', definition)}({name} value)"
        lines += ["", *_inline(head, [free(self._names, real, "value")])]
        if is_copyable(real):
            head = f"{name} {self._names.helper('dup', definition)}({name} value)"
            lines += ["", *_inline(head, [f"return {self.dup(real, 'value')};"])]
        return lines

    def dup(self, type_: Type, value: str) -> str:
        """An expression for a copy of a value which owns memory."""
        return f"{self._names.helper('dup', canonical(type_))}({value})"

    def _free(self, type_: Type) -> list[str]:
        if isinstance(type_, ListOf):
            if is_empty(type_.element):
                return ["(void)value;"]
            each = free(self._names, type_.element, "value.ptr[i]") if owns(type_.element) else ""
            loop = [f"for (size_t i = 0; i < value.len; i++) {each}"] if each else []
            block = [
                "(void *)value.ptr",
                "value.len * sizeof *value.ptr",
                f"_Alignof({self._names.type(type_.element)})",
            ]
            return [*loop, *listed("canonical_abi_free(", block, ");")]
        return self._each_part(type_, lambda part, value: free(self._names, part, value) if owns(part) else "")

    def _dup(self, type_: Type) -> list[str]:
        """Statements that put copies in the place of what `value` owns."""
        if isinstance(type_, ListOf):
            if is_empty(type_.element):
                return []
            element = self._names.type(type_.element)
            size = "size_t size = value.len * sizeof *value.ptr;"
            block = ["value.ptr", "size", f"_Alignof({element})"]
            if not owns(type_.element):
                return [size, *listed("value.ptr = abi_copy(", block, ");")]
            return [
                size,
                *listed(f"{element} *copy = abi_copy(", block, ");"),
                f"for (size_t i = 0; i < value.len; i++) copy[i] = {self.dup(type_.element, 'copy[i]')};",
                "value.ptr = copy;",
            ]
        return self._each_part(type_, lambda part, value: f"{value} = {self.dup(part, value)};" if owns(part) else "")

    def _each_part(self, type_: Type, statement: Callable[[Type, str], str]) -> list[str]:
        """A statement for every part of `value` that is there."""
        if is_variant(type_):
            groups = payload_groups(type_)
            branches = [(tags, statement(part, f"value.{field(type_, tags[0])}")) for tags, part in groups]
            return switch(self._names, type_, "value.", [(tags, [line]) for tags, line in branches if line])
        found = [statement(part, f"value.{field(type_, number)}") for number, part in members(type_)]
        return [line for line in found if line]


def _inline(head: str, body: list[str]) -> list[str]:
    """The definition of an inline function."""
    start, _, parameters = head.partition("(")
    return [*listed(f"static inline {start}(", [parameters], " {"), *indented(body), "}"]


def free(names: Names, type_: Type, value: str) -> str:
    """A statement that frees a value which owns something."""
    real = canonical(type_)
    return f"{names.helper('drop' if isinstance(real, Resource) else 'free', real)}({value});"


def is_copyable(type_: Type) -> bool:
    """Whether a value owns memory and no handles, of which there are no copies."""
    return has_heap(type_) and not contains_handle(type_)


def switch(names: Names, type_: Type, value: str, branches: Sequence[tuple[tuple[int, ...], list[str]]]) -> list[str]:
    """Statements for the case that a variant is of, by tags. `value` is what stands before its fields: `value->`."""
    if not branches:
        return []
    if len(branches[0][0]) == len(cases_of(type_)):
        return branches[0][1]
    tag = f"{value}{tag_field(type_)}"
    if isinstance(type_, TypeDef):
        lines = [f"switch ({tag}) {{"]
        for tags, body in branches:
            lines += [f"case {names.constant(type_, each)}:" for each in tags]
            lines += indented([*body, "break;"])
        return [*lines, "}"]
    if len(branches) == 1:
        ((number,), body) = branches[0]
        condition = tag if number else f"!{tag}"
        return [f"if ({condition}) {body[0]}"] if len(body) == 1 else [f"if ({condition}) {{", *indented(body), "}"]
    (_, ok), (_, err) = branches
    return [f"if ({tag}) {{", *indented(err), "} else {", *indented(ok), "}"]


def imported(module: str, name: str, declaration: list[str]) -> list[str]:
    """The declaration of a function that the guest imports."""
    return [f'__attribute__((import_module("{module}"), import_name("{name}")))', *declaration]


def _parts(type_: Type) -> list[Type]:
    """What has to be defined before a type is."""
    match type_:
        case TypeDef(kind=Alias(target)):
            return [target]
        case TypeDef(kind=Record()) | TupleOf():
            return [part for _, part in members(type_)]
        case ListOf(element):
            return [element]
        case TypeDef(kind=Variant() | Union()) | OptionOf() | ExpectedOf():
            return [part for _, part in payloads(type_)]
    return []
