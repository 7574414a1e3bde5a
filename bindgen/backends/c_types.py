"""Writes the C types of an interface, what frees and copies their values, and the drops of its resources.

A named type stands in the header of its interface, and its functions in the source. One without a name stands in every
header that mentions it, its functions inline, all under a guard: whichever header comes first defines it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bindgen.backends.c_layout import WORD_FLAGS, canonical, is_copyable, members, payload_groups
from bindgen.backends.c_names import PREDEFINED, Names, field, tag_field
from bindgen.backends.c_text import comment, indented, listed
from bindgen.plan import Case, Choice, Elements, FlagSet, Handle, Labels, Part, Parts, Shape, shape
from bindgen.wit_parser.model import (
    Alias,
    ExpectedOf,
    Interface,
    OptionOf,
    Primitive,
    Record,
    Resource,
    Type,
    TypeDef,
    components,
    labels,
    written_with,
)

_UNSIGNED = {1: "uint8_t", 2: "uint16_t", 4: "uint32_t", 8: "uint64_t"}


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
        """Sees to it that a type is defined, unless there is nothing to it."""
        if isinstance(type_, TypeDef | Resource):
            if type_.interface is not self._interface:
                self.used.add(type_.interface)
                return
        else:
            type_ = canonical(type_)
        if shape(type_).is_empty or isinstance(type_, Primitive) or type_ in PREDEFINED or type_ in self._done:
            return
        self._done.add(type_)
        for part in written_with(type_):
            if not shape(part).is_empty:
                self.need(part)
        if isinstance(type_, Resource):
            self._define_resource(type_)
        elif not isinstance(type_, TypeDef):
            self._define_unnamed(type_)
        elif isinstance(type_.kind, Alias):
            self._define_alias(type_, type_.kind.type)
        else:
            self._define(type_)

    def _define(self, definition: TypeDef) -> None:
        name, whole = self._names.type(definition), shape(definition)
        self.header += ["", *comment(definition.docs)]
        match whole:
            case Labels(size=size):
                self.header += [f"typedef {_UNSIGNED[size]} {name};", *self._constants(definition)]
            case FlagSet(count=count) if count > WORD_FLAGS:
                self._define_word_flags(definition, name)
            case FlagSet():
                one = "UINT64_C(1)" if whole.count > 32 else "UINT32_C(1)"
                self.header += [f"typedef {_UNSIGNED[whole.size]} {name};", ""]
                for number, label in enumerate(labels(definition)):
                    constant = self._names.constant(definition, number)
                    self.header += [*comment(label.docs), f"#define {constant} ({one} << {number})"]
            case _:
                self.header += [*self._struct(definition), *self._constants(definition)]
        for head, body in self._functions(whole):
            self.header += ["", f"{head}({name} value);"]
            self.source += ["", f"{head}({name} value) {{", *indented(body), "}"]

    def _define_alias(self, definition: TypeDef, target: Type) -> None:
        """Another name for a type, and for the functions of what that stands for."""
        name, whole = self._names.type(definition), shape(definition)
        self.header += ["", *comment(definition.docs), f"typedef {self._names.type(target)} {name};"]
        if whole.owns and not isinstance(whole, Handle):
            head = f"void {self._names.helper('free', definition)}"
            self.header += ["", *_inline(head, name, [free(self._names, whole, "value")])]
        if is_copyable(whole):
            head = f"{name} {self._names.helper('dup', definition)}"
            self.header += ["", *_inline(head, name, [f"return {self._copy(whole, 'value')};"])]

    def _define_unnamed(self, type_: Type) -> None:
        name = self._names.type(type_)
        guard = self._names.claim(("guard", type_), name.upper())
        self.header += ["", f"#ifndef {guard}", f"#define {guard}", *self._struct(type_)]
        for head, body in self._functions(shape(type_)):
            self.header += ["", *_inline(head, name, body)]
        self.header += ["#endif"]

    def _define_resource(self, resource: Resource) -> None:
        name = self._names.type(resource)
        self.header += ["", *comment(resource.docs), "typedef struct {", "    uint32_t handle;", f"}} {name};"]
        drop = self._names.helper("drop", resource)
        self.header += ["", *comment("Gives a handle up."), f"void {drop}({name} handle);"]
        private = self._names.claim(("import drop", resource), f"import_{drop}")
        declaration = [f"void {private}(uint32_t handle);"]
        self.source += ["", *imported("canonical_abi", f"resource_drop_{resource.name}", declaration)]
        self.source += ["", f"void {drop}({name} handle) {{", f"    {private}(handle.handle);", "}"]

    # Definitions.

    def _struct(self, type_: Type) -> list[str]:
        """The struct of a type that is no number."""
        match shape(type_):
            case Elements(element=element):
                pointed = "void" if element.is_empty else self._names.type(element.type)
                body = [f"const {pointed} *ptr;", "size_t len;"]
            case Choice() as whole:
                tag = "bool" if isinstance(type_, OptionOf | ExpectedOf) else _UNSIGNED[whole.tag_size]
                fields = self._fields(whole)
                union = ["union {", *indented(fields), "};"] if len(fields) > 1 else fields
                body = [f"{tag} {tag_field(whole)};", *union]
            case whole:
                body = self._fields(whole)
        return ["typedef struct {", *indented(body), f"}} {self._names.type(type_)};"]

    def _fields(self, whole: Shape) -> list[str]:
        """The fields of a record, or the payloads of a variant, of types as the interface spells them."""
        those: Sequence[Part | Case] = whole.parts if isinstance(whole, Parts) else ()
        if isinstance(whole, Choice):
            those = [case for case in whole.cases if case.payload]
        docs = [""] * len(those)
        if isinstance(whole.type, TypeDef) and isinstance(whole.type.kind, Record):
            docs = [each.docs for each in whole.type.kind.fields]
        lines = []
        for part, type_, about in zip(those, components(whole.type), docs, strict=True):
            if not shape(type_).is_empty:
                lines += [*comment(about), f"{self._names.type(type_)} {field(whole, part)};"]
        return lines

    def _constants(self, definition: TypeDef) -> list[str]:
        """The numbers of cases or flags."""
        body = []
        for number, label in enumerate(labels(definition)):
            body += [*comment(label.docs), f"{self._names.constant(definition, number)},"]
        return ["", "enum {", *indented(body), "};"] if body else []

    def _define_word_flags(self, definition: TypeDef, name: str) -> None:
        words = len(shape(definition).slots)
        self.header += ["typedef struct {", f"    uint32_t words[{words}];", f"}} {name};"]
        self.header += ["", "/* The numbers of the flags. */", *self._constants(definition)[1:]]
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

    def _functions(self, whole: Shape) -> list[tuple[str, list[str]]]:
        """What frees and copies the values of a type: heads without their parameter, and bodies."""
        found = []
        if whole.owns:
            found.append((f"void {self._names.helper('free', whole.type)}", self._free(whole)))
        if is_copyable(whole):
            head = f"{self._names.type(whole.type)} {self._names.helper('dup', whole.type)}"
            found.append((head, [*self._dup(whole), "return value;"]))
        return found

    def _free(self, whole: Shape) -> list[str]:
        """Statements that free `value`."""
        if not isinstance(whole, Elements):
            return each_part(self._names, whole, "value.", lambda part, value, _: self._freed(part, value))
        if whole.element.is_empty:
            return ["(void)value;"]
        loop = [f"for (size_t i = 0; i < value.len; i++) {each}" for each in self._freed(whole.element, "value.ptr[i]")]
        align = f"_Alignof({self._names.type(whole.element.type)})"
        block = ["(void *)value.ptr", "value.len * sizeof *value.ptr", align]
        return [*loop, *listed("canonical_abi_free(", block, ");")]

    def _freed(self, part: Shape, value: str) -> list[str]:
        return [free(self._names, part, value)] if part.owns else []

    def _dup(self, whole: Shape) -> list[str]:
        """Statements that put copies in the place of what `value` owns."""
        if not isinstance(whole, Elements):
            return each_part(self._names, whole, "value.", lambda part, value, _: self._copied(part, value))
        if whole.element.is_empty:
            return []
        element = self._names.type(whole.element.type)
        size, block = "size_t size = value.len * sizeof *value.ptr;", ["value.ptr", "size", f"_Alignof({element})"]
        each = self._copied(whole.element, "copy[i]")
        if not each:
            return [size, *listed("value.ptr = abi_copy(", block, ");")]
        loop = [f"for (size_t i = 0; i < value.len; i++) {line}" for line in each]
        return [size, *listed(f"{element} *copy = abi_copy(", block, ");"), *loop, "value.ptr = copy;"]

    def _copied(self, part: Shape, value: str) -> list[str]:
        return [f"{value} = {self._copy(part, value)};"] if part.owns else []

    def _copy(self, whole: Shape, value: str) -> str:
        """An expression for a copy of a value which owns memory."""
        return f"{self._names.helper('dup', whole.type)}({value})"


def _inline(head: str, type_: str, body: list[str]) -> list[str]:
    """The definition of an inline function of a value."""
    return [*listed(f"static inline {head}(", [f"{type_} value"], ") {"), *indented(body), "}"]


def free(names: Names, whole: Shape, value: str) -> str:
    """A statement that frees a value which owns something."""
    return f"{names.helper('drop' if isinstance(whole, Handle) else 'free', whole.type)}({value});"


def each_part(names: Names, whole: Shape, value: str, act: Callable[[Shape, str, int], list[str]]) -> list[str]:
    """Statements for every part of a value that is there: the fields of a record, the payload of the case that it is.

    `value` is what stands before its fields: `value->`. `act` gets a part's shape, the part itself, and its offset.
    """
    if isinstance(whole, Parts):
        found = [act(part.shape, value + field(whole, part), part.offset) for part in members(whole)]
        return [line for lines in found for line in lines]
    assert isinstance(whole, Choice), whole
    branches = []
    for group in payload_groups(whole):
        case, payload = group[0]
        if lines := act(payload, value + field(whole, case), whole.payload_offset):
            branches.append(([each.number for each, _ in group], lines))
    return _switch(names, whole, value + tag_field(whole), branches)


def _switch(names: Names, whole: Choice, tag: str, branches: list[tuple[list[int], list[str]]]) -> list[str]:
    """Statements for the case that a variant is of, by tags."""
    if branches and len(branches[0][0]) == len(whole.cases):
        return branches[0][1]
    match whole.type, branches:
        case _, []:
            return []
        case TypeDef() as definition, _:
            lines = [f"switch ({tag}) {{"]
            for tags, body in branches:
                lines += [f"case {names.constant(definition, each)}:" for each in tags]
                lines += indented([*body, "break;"])
            return [*lines, "}"]
        case _, [((number,), body)]:
            condition = f"if ({tag if number else f'!{tag}'})"
            return [f"{condition} {body[0]}"] if len(body) == 1 else [f"{condition} {{", *indented(body), "}"]
    (_, ok), (_, err) = branches
    return [f"if ({tag}) {{", *indented(err), "} else {", *indented(ok), "}"]


def imported(module: str, name: str, declaration: list[str]) -> list[str]:
    """The declaration of a function that the guest imports."""
    return [f'__attribute__((import_module("{module}"), import_name("{name}")))', *declaration]
