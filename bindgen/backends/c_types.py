"""Writes the C types of an interface, what frees and copies their values, and the drops of its resources.

A named type stands in the header of its interface, and its functions in the source. One without a name stands in every
header that mentions it, its functions inline, all under a guard: whichever header comes first defines it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bindgen.backends.c_layout import WORD_FLAGS, agrees, canonical, is_copyable, members, payloads
from bindgen.backends.c_names import PREDEFINED, Names, field, tag_field
from bindgen.backends.c_text import comment, define, guarded
from bindgen.backends.text import indented
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

_UNSIGNED = {1: "uint8_t", 2: "uint16_t", 4: "uint32_t"}


class Types:
    """Collects the types that one header needs, each after those that it's made of."""

    def __init__(self, names: Names, interface: Interface) -> None:
        self._names = names
        self._interface = interface
        self._done: set[Type] = set()
        self.header: list[list[str]] = []
        self.source: list[list[str]] = []
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
        elif isinstance(type_, TypeDef):
            self._define(type_)
        else:
            self._define_unnamed(type_)

    def _define(self, definition: TypeDef) -> None:
        name, whole = self._names.type(definition), shape(definition)
        self.header += [[*comment(definition.docs), *self._typedef(definition)], self._constants(definition)]
        if whole.type is definition and isinstance(whole, FlagSet) and whole.count > WORD_FLAGS:
            self.header += self._of_words(definition, name)
        for head, body in self._functions(definition):
            self.header.append([f"{head}({name} value);"])
            self.source.append(define(head, [f"{name} value"], body))

    def _define_unnamed(self, type_: Type) -> None:
        name = self._names.type(type_)
        guard = self._names.claim(("guard", type_), name.upper())
        lines = [f"#ifndef {guard}", f"#define {guard}", *self._typedef(type_)]
        for head, body in self._functions(type_):
            lines += ["", *define(f"static inline {head}", [f"{name} value"], body)]
        self.header.append([*lines, "#endif"])

    def _define_resource(self, resource: Resource) -> None:
        name, drop = self._names.type(resource), self._names.helper("drop", resource)
        self.header.append([*comment(resource.docs), "typedef struct {", "    uint32_t handle;", f"}} {name};"])
        self.header.append([*comment("Gives a handle up."), f"void {drop}({name} handle);"])
        private = self._names.claim(("import drop", resource), f"import_{drop}")
        self.source += [
            imported("canonical_abi", f"resource_drop_{resource.name}", f"void {private}(uint32_t handle);"),
            define(f"void {drop}", [f"{name} handle"], [f"{private}(handle.handle);"]),
        ]

    # Definitions.

    def _typedef(self, type_: Type) -> list[str]:
        name = self._names.type(type_)
        if isinstance(type_, TypeDef) and isinstance(type_.kind, Alias):
            return [f"typedef {self._names.type(type_.kind.type)} {name};"]
        whole = shape(type_)
        match whole:
            case Elements(element=element):
                pointed = "void" if element.is_empty else self._names.type(element.type)
                body = [f"const {pointed} *ptr;", "size_t len;"]
            case Choice():
                tag = "bool" if isinstance(type_, OptionOf | ExpectedOf) else _UNSIGNED[whole.tag_size]
                fields = self._fields(whole)
                union = ["union {", *indented(fields), "};"] if len(fields) > 1 else fields
                body = [f"{tag} {tag_field(whole)};", *union]
            case FlagSet(count=count, slots=words) if count > WORD_FLAGS:
                body = [f"uint32_t words[{len(words)}];"]
            case Labels(size=size) | FlagSet(size=size):
                return [f"typedef {_UNSIGNED[size]} {name};"]
            case _:
                body = self._fields(whole)
        # Where values are copied whole, the type has to lie in memory as the host has it.
        layout = f"abi_layout({name}, {whole.size}, {whole.align});"
        return ["typedef struct {", *indented(body), f"}} {name};", *([layout] if agrees(whole) else [])]

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
        """The numbers of cases, and of flags where they are many; the bits of few flags."""
        whole = shape(definition)
        is_bits = isinstance(whole, FlagSet) and whole.count <= WORD_FLAGS
        lines = []
        for number, label in enumerate(labels(definition)):
            name = self._names.constant(definition, number)
            value = f"#define {name} (UINT32_C(1) << {number})" if is_bits else f"{name},"
            lines += [*comment(label.docs), value]
        return lines if is_bits or not lines else ["enum {", *indented(lines), "};"]

    def _of_words(self, definition: TypeDef, name: str) -> list[list[str]]:
        """What looks for a flag among many, and what adds one."""
        parameters = [f"{name} flags", "unsigned number"]
        word, bit = "flags.words[number / 32]", "number % 32"
        has = f"static inline bool {self._names.helper('has', definition)}"
        with_ = f"static inline {name} {self._names.helper('with', definition)}"
        return [
            define(has, parameters, [f"return {word} >> ({bit}) & 1;"]),
            define(with_, parameters, [f"{word} |= UINT32_C(1) << ({bit});", "return flags;"]),
        ]

    # Freeing and copying.

    def _functions(self, type_: Type) -> list[tuple[str, list[str]]]:
        """What frees and copies the values of a type: heads without their parameter, and bodies."""
        whole = shape(type_)
        is_alias = whole.type != type_
        found = []
        if whole.owns and not isinstance(whole, Handle):
            body = self._freed(whole, "value") if is_alias else self._free(whole)
            found.append((f"void {self._names.helper('free', type_)}", body))
        if is_copyable(whole):
            body = self._copied(whole, "value") if is_alias else self._dup(whole)
            head = f"{self._names.type(type_)} {self._names.helper('dup', type_)}"
            found.append((head, [*body, "return value;"]))
        return found

    def _free(self, whole: Shape) -> list[str]:
        """Statements that free `value`."""
        if not isinstance(whole, Elements):
            return each_part(self._names, whole, "value.", lambda part, value, _: self._freed(part, value))
        if whole.element.is_empty:
            return ["(void)value;"]
        loop = [f"for (size_t i = 0; i < value.len; i++) {each}" for each in self._freed(whole.element, "value.ptr[i]")]
        align = f"_Alignof({self._names.type(whole.element.type)})"
        return [*loop, f"canonical_abi_free((void *)value.ptr, value.len * sizeof *value.ptr, {align});"]

    def _freed(self, part: Shape, value: str) -> list[str]:
        return [free(self._names, part, value)] if part.owns else []

    def _dup(self, whole: Shape) -> list[str]:
        """Statements that put copies in the place of what `value` owns."""
        if not isinstance(whole, Elements):
            return each_part(self._names, whole, "value.", lambda part, value, _: self._copied(part, value))
        if whole.element.is_empty:
            return []
        element = self._names.type(whole.element.type)
        copy = f"{element} *copy = abi_copy(value.ptr, value.len * sizeof *copy, _Alignof({element}));"
        loop = [f"for (size_t i = 0; i < value.len; i++) {line}" for line in self._copied(whole.element, "copy[i]")]
        return [copy, *loop, "value.ptr = copy;"]

    def _copied(self, part: Shape, value: str) -> list[str]:
        return [f"{value} = {self._names.helper('dup', part.type)}({value});"] if part.owns else []


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
    lines = []
    for case, payload in payloads(whole):
        if body := act(payload, value + field(whole, case), whole.payload_offset):
            lines += guarded(_is_of(names, whole, value + tag_field(whole), case), body)
    return lines


def _is_of(names: Names, whole: Choice, tag: str, case: Case) -> str:
    """Whether a value is of a case, by its tag."""
    if isinstance(whole.type, TypeDef):
        return f"{tag} == {names.constant(whole.type, case.number)}"
    return tag if case.number else f"!{tag}"


def imported(module: str, name: str, declaration: str) -> list[str]:
    """The declaration of a function that the guest imports."""
    return [f'__attribute__((import_module("{module}"), import_name("{name}")))', declaration]
