"""How a generated Rust module moves values: through memory, and as flat WebAssembly values.

In memory, every type knows how to lend, take and give itself: the traits `Lend` and `Own` of canonical_abi.rs, which
are implemented there for what has no name, and by the functions at the top of this module for what has one.

Flat values are for one call alone, so a call's own code makes them (`Lowering`) or reads them (`Lifting`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from bindgen.backends.rust_names import (
    MAX_TUPLE,
    PRIMITIVES,
    Names,
    case_names,
    field_names,
    flag_names,
    is_borrowed,
    is_copy,
    is_plain,
)
from bindgen.backends.rust_text import Code, Items, Match, Signature, arm, docs, render
from bindgen.backends.scope import Scope
from bindgen.plan import choice, parts, shape
from bindgen.wit_parser.model import (
    Enum,
    ExpectedOf,
    Flags,
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
    cases,
    is_unit,
    unaliased,
)

FLAT_TYPES = {"i": "u32", "I": "u64", "f": "f32", "d": "f64", "p": "*mut u8", "n": "usize"}
"""What a flat value is in Rust. `p` and `n` are the pointer and the length of a string or list, both i32."""

_TAGS = {1: "u8", 2: "u16", 4: "u32"}


# Fields and cases.


def fields(type_: Type) -> list[tuple[str, Type]]:
    """The names and types of what a record or a tuple is made of."""
    real = unaliased(type_)
    if isinstance(real, TupleOf):
        return [(str(number), item) for number, item in enumerate(real.items)]
    assert isinstance(real, TypeDef)
    assert isinstance(real.kind, Record)
    return [(name, field.type) for name, field in zip(field_names(real), real.kind.fields, strict=True)]


def construct(names: Names, type_: Type, values: Sequence[str | Items], target: str = "", tail: str = "") -> Items:
    """A record or a tuple of `values`."""
    real = unaliased(type_)
    if not isinstance(real, TupleOf):
        parts = zip(fields(type_), values, strict=True)
        items = [name if name == value else _named(f"{name}: ", value) for (name, _), value in parts]
        return Items(f"{names.owned(real)} {{", items, f"}}{tail}", target)
    if len(real.items) > MAX_TUPLE:
        return Items(f"{names.wide(real)}(", values, f"){tail}", target)
    if len(values) == 1:
        return Items("(", [values[0]], f",){tail}", target)
    return Items("(", values, f"){tail}", target)


def _named(prefix: str, value: str | Items) -> str | Items:
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


# In memory.


def memory(names: Names, type_: Type) -> list[Code]:
    """The implementations of `Lend` and `Own` for a type that has a name."""
    real = unaliased(type_)
    match real:
        case Resource():
            lend, take, give = _resource(names, real)
        case TypeDef(kind=Enum()):
            lend, take, give = _enum(real)
        case TypeDef(kind=Flags()):
            lend, take, give = [], [f"{names.use(real)}(abi::take(at))"], ["abi::give(self.0, at);"]
        case TypeDef(kind=Variant() | Union()):
            lend, take, give = _variant(names, real)
        case _:
            lend, take, give = _record(names, real)
    layout = shape(real)
    if is_copy(real):
        # To lend a value that owns nothing is to write it.
        lend = ["abi::give(*self, at);"] if layout.extent else []
    return [
        "",
        f"impl abi::Lend for {names.owned(real)} {{",
        [
            f"const SIZE: usize = {layout.size};",
            f"const ALIGN: usize = {layout.align};",
            *([f"const EXTENT: usize = {layout.extent};"] if layout.extent != layout.size else []),
            "",
            *_method("lend", ["&self", "at: *mut u8", "loan: &mut abi::Loan"], "", lend),
        ],
        "}",
        "",
        f"impl abi::Own for {names.owned(real)} {{",
        [
            *_method("take", ["at: *const u8"], " -> Self", take),
            "",
            *_method("give", ["self", "at: *mut u8"], "", give),
        ],
        "}",
    ]


_Bodies: TypeAlias = tuple[list[Code], list[Code], list[Code]]
"""The bodies of lend, take and give. That of lend is for those that own something."""


def _resource(names: Names, resource: Resource) -> _Bodies:
    return (
        ["abi::lend(&self.handle, at, loan);"],
        [f"{names.use(resource)} {{ handle: abi::take(at) }}"],
        ["abi::give(std::mem::ManuallyDrop::new(self).handle, at);"],
    )


def _enum(definition: TypeDef) -> _Bodies:
    tag = _TAGS[shape(definition).size]
    taken = f"abi::take::<{tag}>(at)"
    lifted = taken if tag == "u32" else f"{taken}.into()"
    return [], [f"Self::lift({lifted})"], [f"abi::give(self as {tag}, at);"]


def _record(names: Names, type_: Type) -> _Bodies:
    values: list[str] = []
    lend: list[Code] = []
    give: list[Code] = []
    for (name, type_of_part), part in zip(fields(type_), parts(type_), strict=True):
        if is_unit(type_of_part):
            values.append("()")
            continue
        at = f"at.add({part.offset})" if part.offset else "at"
        values.append(f"abi::take({at})")
        lend.append(Items("abi::lend(", [f"&self.{name}", at, "loan"], ");"))
        give.append(Items("abi::give(", [f"self.{name}", at], ");"))
    return lend, [construct(names, type_, values)], give


def _variant(names: Names, type_: TypeDef) -> _Bodies:
    view = choice(type_)
    tag_type, offset = _TAGS[view.tag_size], str(view.payload_offset)
    lend: list[Code] = []
    take: list[Code] = []
    give: list[Code] = []
    for case in view.cases:
        number = case.number
        path, tag = case_path(names, type_, number), f"{number}_{tag_type}"
        if case.payload is None:
            lend += arm(path, [], Items("abi::give(", [tag, "at"], ")"))
            take += arm(str(number), [], Items(path))
            give += arm(path, [], Items("abi::give(", [tag, "at"], ")"))
        else:
            lend += arm(f"{path}(value)", [], Items("abi::lend_case(", [tag, "value", offset, "at", "loan"], ")"))
            take += arm(str(number), [], Items(f"{path}(abi::take(at.add({offset})))"))
            give += arm(f"{path}(value)", [], Items("abi::give_case(", [tag, "value", offset, "at"], ")"))
    unknown = "tag" if tag_type == "u32" else "tag.into()"
    take.append(f'tag => abi::unknown_case("{type_.name}", {unknown}),')
    return (
        ["match self {", lend, "}"],
        [f"match abi::take::<{tag_type}>(at) {{", take, "}"],
        ["match self {", give, "}"],
    )


def _method(name: str, parameters: list[str], result: str, body: list[Code]) -> list[Code]:
    head = f"unsafe fn {name}"
    used = [parameter if mentions(body, parameter) else _unnamed(parameter) for parameter in parameters]
    if not body:
        return [f"{head}({', '.join(used)}){result} {{}}"]
    return [Signature(head, used, result), body, "}"]


def mentions(code: Sequence[Code], parameter: str) -> bool:
    """Whether `code` uses a parameter, be it given with its type."""
    name = parameter.partition(":")[0].lstrip("&")
    return re.search(rf"(?<!\.)\b{name}\b", "\n".join(render(code))) is not None


def _unnamed(parameter: str) -> str:
    name, colon, type_ = parameter.partition(":")
    return f"_{colon}{type_}" if colon else name


# What an enum and flags are besides.


def enum_lift(names: Names, definition: TypeDef) -> list[Code]:
    """The function from a tag to the case."""
    name = names.use(definition)
    arms: list[Code] = [f"{number} => {name}::{case}," for number, case in enumerate(case_names(definition))]
    arms.append(f'_ => abi::unknown_case("{definition.name}", tag),')
    return [
        "",
        f"impl {name} {{",
        ["pub(super) fn lift(tag: u32) -> Self {", ["match tag {", arms, "}"], "}"],
        "}",
    ]


def enum_representation(definition: TypeDef) -> str:
    return _TAGS[shape(definition).size]


def flags_representation(definition: TypeDef) -> str:
    """What holds flags: a number, or 32-bit words."""
    size = shape(definition).size
    return _TAGS.get(size, f"[u32; {size // 4}]")


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
            f"impl std::ops::{trait} for {name} {{",
            ["type Output = Self;", ""],
            [f"fn {method}(mut self, other: Self) -> Self {{", [f"self {operator}= other;", "self"], "}"],
            "}",
            "",
            f"impl std::ops::{trait}Assign for {name} {{",
            [f"fn {method}_assign(&mut self, other: Self) {{", assign, "}"],
            "}",
        ]
    return code


# Flat values.


def ending(statements: Sequence[Code], value: str | Items) -> list[Code]:
    """`statements`, then `value`; where the last one only gives it that name, the value itself."""
    *before, last = statements or [""]
    match last:
        case Match([name], subject, arms) if name == value:
            return [*before, f"match {subject} {{", arms, "}"]
        case Items(target=target) if target == f"let {value} =":
            return [*before, replace(last, target="", tail=last.tail.removesuffix(";"))]
    return [*statements, value]


@dataclass(frozen=True, slots=True)
class Flat:
    """An expression of a flat value."""

    text: str
    kind: str
    """A key of FLAT_TYPES."""


def flat_params(params: Sequence[tuple[str, Type]]) -> list[list[Flat]]:
    """The flat parameters that each of some parameters, given by name and type, travels as."""
    scope = Scope([name for name, _ in params])
    found = []
    for name, type_ in params:
        kinds = _flat_kinds(type_)
        stem = name.rstrip("_")
        if len(kinds) == 1:
            found.append([Flat(name, kinds)])
        elif kinds == "pn":
            found.append([Flat(name, "p"), Flat(scope.fresh(f"{stem}_len"), "n")])
        else:
            found.append([Flat(scope.fresh(f"{stem}_{number}"), kind) for number, kind in enumerate(kinds)])
    return found


def _flat_kinds(type_: Type) -> str:
    """A flat type each. In a variant, where types share slots, a pointer is a number like others."""
    match unaliased(type_):
        case Primitive.STRING | ListOf():
            return "pn"
        case TypeDef(kind=Record()) | TupleOf() as real:
            return "".join(_flat_kinds(part) for _, part in fields(real))
    return shape(type_).slots


Form: TypeAlias = Literal["param", "place", "ref"]
"""What an expression is that is to be lowered: of the type that a parameter has, a place that holds the value, or a
reference to it."""


class Lowering:
    """Makes flat values. What doesn't fit into an expression is computed first, by `statements`."""

    def __init__(self, names: Names, taken: set[str], is_nested: bool = False) -> None:
        self._names = names
        self._taken = taken
        self._is_nested = is_nested
        self.statements: list[Code] = []

    def lower(self, type_: Type, text: str, form: Form) -> list[Flat]:
        """The flat values of the value `text`."""
        real = unaliased(type_)
        if form == "param" and is_borrowed(type_):
            form = "ref"
        match real:
            case Primitive.STRING:
                return [Flat(f"{text}.as_ptr()", "p"), Flat(f"{text}.len()", "n")]
            case Primitive():
                return _number(real, f"*{text}" if form == "ref" else text)
            case Resource():
                return [Flat(f"{text}.handle", "i")]
            case ListOf(element):
                return [self._elements(element, text, form), Flat(f"{text}.len()", "n")]
            case TypeDef(kind=Flags()):
                return _flags(real, text)
            case TypeDef(kind=Enum()):
                return [Flat(f"{'*' if form == 'ref' else ''}{text} as u32", "i")]
            case TypeDef(kind=Record()) | TupleOf():
                inner: Form = "param" if form == "param" else "place"
                parts = fields(real)
                return [flat for name, part in parts for flat in self.lower(part, _part(text, name), inner)]
        return self._cases(real, text, form)

    def _elements(self, element: Type, text: str, form: Form) -> Flat:
        if unaliased(element) is Primitive.U8:
            return Flat(f"{text}.as_ptr()", "p")
        if is_plain(element):
            return Flat(f"{text}.as_ptr().cast::<u8>()", "p")
        return Flat(f"abi::lend_list({'&' if form == 'place' else ''}{text}, &mut loan)", "p")

    def _cases(self, type_: Type, text: str, form: Form) -> list[Flat]:
        """The flat values of a variant, an option or an expected."""
        arms: list[Code] = []
        view = choice(type_)
        letters = view.slots
        for case in view.cases:
            number = case.number
            path, payload = case_path(self._names, type_, number), case_payload(type_, number)
            inner = Lowering(self._names, {*self._taken, "value"}, is_nested=True)
            flats = inner.lower(payload, "value", "param" if form == "param" else "ref") if payload else []
            values = [_to_slot(flat, want) for flat, want in zip(flats, case.joined, strict=True)]
            suffixes = self._is_nested and number == 0
            values = [
                _literal(number, "i", suffixes),
                *values,
                *(_literal(0, letter, suffixes) for letter in case.unused),
            ]
            if payload is not None:
                path += "(value)" if mentions([*inner.statements, *values], "value") else "(_)"
            value = Items("(", values, ")") if len(values) > 1 else Items(values[0])
            arms += arm(path, inner.statements, value)
        names = self._fresh(text, len(letters))
        self.statements.append(Match(names, f"&{text}" if form == "place" else text, arms))
        return [Flat(name, letter) for name, letter in zip(names, letters, strict=True)]

    def _fresh(self, text: str, count: int) -> list[str]:
        """Names of variables for the flat values of what is at `text`."""
        stem = _joined(re.sub(r"\W+", "_", text))
        while any(f"{stem}_{number}" in self._taken for number in range(count)):
            stem += "2"
        found = [f"{stem}_{number}" for number in range(count)]
        self._taken.update(found)
        return found


def _literal(number: int, letter: str, has_suffix: bool) -> str:
    """The suffix says the type where nothing else does: in the first case of a variant within another."""
    point = ".0" if letter in "fd" else ""
    return f"{number}{point}" + (f"_{FLAT_TYPES[letter]}" if has_suffix else "")


def _number(type_: Primitive, text: str) -> list[Flat]:
    match type_:
        case Primitive.UNIT:
            return []
        case Primitive.BOOL | Primitive.U8 | Primitive.U16 | Primitive.CHAR:
            return [Flat(f"u32::from({text})", "i")]
        case Primitive.S8 | Primitive.S16 | Primitive.S32:
            return [Flat(f"{text} as u32", "i")]
        case Primitive.S64:
            return [Flat(f"{text} as u64", "I")]
    return [Flat(text, shape(type_).slots)]


def _flags(definition: TypeDef, text: str) -> list[Flat]:
    size = shape(definition).size
    bits = _part(text, "0")
    if size <= 4:
        return [Flat(bits if size == 4 else f"u32::from({bits})", "i")]
    return [Flat(f"{bits}[{word}]", "i") for word in range(size // 4)]


def _part(text: str, name: str) -> str:
    """A field, or an item of a tuple: how rustfmt writes `x.0.0` depends on its version."""
    is_item = re.search(r"\.\d+$", text) is not None
    return f"({text}).{name}" if is_item and name.isdigit() else f"{text}.{name}"


def _to_slot(flat: Flat, want: str) -> str:
    """A flat value in the slot of a variant: a float in an integer's slot travels as its bits."""
    match flat.kind, want:
        case (("p" | "n"), _):
            return f"{flat.text} as {FLAT_TYPES[want]}"
        case "i", "I":
            return f"u64::from({flat.text})"
        case ("f", "i") | ("d", "I"):
            return f"{flat.text.lstrip('*')}.to_bits()"
        case "f", "I":
            return f"u64::from({flat.text.lstrip('*')}.to_bits())"
    return flat.text


class Lifting:
    """Reads flat values that the host hands over. What doesn't fit into an expression is computed by `statements`."""

    def __init__(self, names: Names, taken: set[str]) -> None:
        self._names = names
        self._taken = taken
        self.statements: list[Code] = []

    def lift(self, type_: Type, flats: Sequence[Flat], name: str) -> str | Items:
        """An expression for the value that travels as `flats`; `name` is what a variable for it may be called."""
        real = unaliased(type_)
        texts = [flat.text for flat in flats]
        match real:
            case TupleOf(()):
                return "()"
            case Primitive.STRING:
                return Items("abi::take_string(", texts, ")")
            case ListOf():
                return Items("abi::take_list(", texts, ")")
            case Primitive():
                return _from_flat(real, texts)
            case Resource():
                field = "handle" if texts[0] == "handle" else f"handle: {texts[0]}"
                return f"{self._names.use(real)} {{ {field} }}"
            case TypeDef(kind=Flags()):
                size = shape(real).size
                bits = (
                    f"[{', '.join(texts)}]" if size > 4 else texts[0] if size == 4 else f"{texts[0]} as {_TAGS[size]}"
                )
                return f"{self._names.use(real)}({bits})"
            case TypeDef(kind=Enum()):
                return f"{self._names.use(real)}::lift({texts[0]})"
        name = self._fresh(name)
        if isinstance(real, TupleOf) or (isinstance(real, TypeDef) and isinstance(real.kind, Record)):
            values = [
                self.lift(type_of_part, part.slots_of(flats), _joined(f"{name}_{field}"))
                for (field, type_of_part), part in zip(fields(real), parts(real), strict=True)
            ]
            self.statements.append(construct(self._names, real, values, f"let {name} =", ";"))
        else:
            self.statements.append(Match([name], texts[0], self._cases(real, flats[1:])))
        return name

    def _cases(self, type_: Type, slots: Sequence[Flat]) -> list[Code]:
        arms: list[Code] = []
        for number in range(len(cases(type_))):
            path, payload = case_path(self._names, type_, number), case_payload(type_, number)
            if payload is None:
                arms.append(f"{number} => {path},")
                continue
            inner = Lifting(self._names, {*self._taken})
            flats = [_from_slot(slot, want) for slot, want in zip(slots, _flat_kinds(payload), strict=False)]
            arms += arm(str(number), inner.statements, Items(f"{path}(", [inner.lift(payload, flats, "value")], ")"))
        real = unaliased(type_)
        name = real.name if isinstance(real, TypeDef) else "option" if isinstance(real, OptionOf) else "expected"
        return [*arms, f'tag => abi::unknown_case("{name}", tag),']

    def _fresh(self, name: str) -> str:
        while name in self._taken:
            name += "2"
        self._taken.add(name)
        return name


def _joined(name: str) -> str:
    """Words with one underscore between them: two are bad style in Rust."""
    return re.sub("_+", "_", name).strip("_")


def _from_flat(type_: Primitive, texts: Sequence[str]) -> str:
    match type_:
        case Primitive.UNIT:
            return "()"
        case Primitive.BOOL:
            return f"{texts[0]} != 0"
        case Primitive.CHAR:
            return f"char::from_u32_unchecked({texts[0]})"
        case Primitive.U32 | Primitive.U64 | Primitive.FLOAT32 | Primitive.FLOAT64:
            return texts[0]
    return f"{texts[0]} as {PRIMITIVES[type_]}"


def _from_slot(slot: Flat, want: str) -> Flat:
    """The flat value of a case in the slot of its variant."""
    match slot.kind, want:
        case _, ("p" | "n"):
            return Flat(f"{slot.text} as {FLAT_TYPES[want]}", want)
        case "I", "i":
            return Flat(f"{slot.text} as u32", "i")
        case "i", "f":
            return Flat(f"f32::from_bits({slot.text})", "f")
        case "I", "f":
            return Flat(f"f32::from_bits({slot.text} as u32)", "f")
        case "I", "d":
            return Flat(f"f64::from_bits({slot.text})", "d")
    return slot
