"""What a type of a generated Rust module knows of the binary interface: how to lend, take and give its values.

Every type has the traits `Lend` and `Own` of canonical_abi.rs, for memory and for flat values. Those of types without a
name are implemented there; here is what implements them for the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bindgen.backends.rust_names import Names, anonymous_types, case_names, is_copy
from bindgen.backends.rust_text import Code, Items, Signature, arm
from bindgen.backends.rust_types import TAGS, case_path, construct, fields
from bindgen.plan import Choice, FlagSet, Handle, Labels, parts, shape
from bindgen.wit_parser.model import Interface, Resource, Type, TypeDef, unaliased


def implementations(names: Names, type_: Type) -> list[Code]:
    """The implementations of `Lend` and `Own`."""
    real, layout = unaliased(type_), shape(type_)
    match layout:
        case Handle(resource=resource):
            bodies = _handle(names, resource)
        case Labels():
            bodies = _enum(names, layout)
        case FlagSet():
            bodies = _flags(names, layout)
        case Choice():
            bodies = _variant(names, layout)
        case _:
            bodies = _record(names, real)
    if is_copy(real):
        # To lend a value that owns nothing is to write it.
        bodies = replace(bodies, lend=["abi::give(*self, at);"] if layout.extent else [])
    slots = "slots: &mut [u64]"
    return [
        "",
        f"impl abi::Lend for {names.owned(real)} {{",
        [
            f"const SIZE: usize = {layout.size};",
            f"const ALIGN: usize = {layout.align};",
            *([f"const EXTENT: usize = {layout.extent};"] if layout.extent != layout.size else []),
            f"const SLOTS: usize = {len(layout.slots)};",
            "",
            *_method("lend", ["&self", "at: *mut u8", "loan: &mut abi::Loan"], "", bodies.lend),
            "",
            *_method("lend_flat", ["&self", slots, "loan: &mut abi::Loan"], "", bodies.lend_flat),
        ],
        "}",
        "",
        f"impl abi::Own for {names.owned(real)} {{",
        [
            *_method("take", ["at: *const u8"], " -> Self", bodies.take),
            "",
            *_method("take_flat", ["slots: &[u64]"], " -> Self", bodies.take_flat),
            "",
            *_method("give", ["self", "at: *mut u8"], "", bodies.give),
        ],
        "}",
    ]


@dataclass(frozen=True, slots=True)
class _Bodies:
    """The bodies of the methods. That of `lend` is for types that own something."""

    lend: list[Code]
    lend_flat: list[Code]
    take: list[Code]
    take_flat: list[Code]
    give: list[Code]


def _handle(names: Names, resource: Resource) -> _Bodies:
    name = names.use(resource)
    return _Bodies(
        ["abi::lend(&self.handle, at, loan);"],
        ["abi::lend_flat(&self.handle, slots, loan);"],
        [f"{name} {{ handle: abi::take(at) }}"],
        [f"{name} {{ handle: abi::take_flat(slots) }}"],
        ["abi::give(std::mem::ManuallyDrop::new(self).handle, at);"],
    )


def _flags(names: Names, flags: FlagSet) -> _Bodies:
    name = names.use(flags.definition)
    return _Bodies(
        [],
        ["abi::lend_flat(&self.0, slots, loan);"],
        [f"{name}(abi::take(at))"],
        [f"{name}(abi::take_flat(slots))"],
        ["abi::give(self.0, at);"],
    )


def _enum(names: Names, enum: Labels) -> _Bodies:
    tag = TAGS[enum.size]
    taken = f"abi::take::<{tag}>(at)"
    return _Bodies(
        [],
        ["slots[0] = *self as u64;"],
        [f"Self::lift({taken if tag == 'u32' else f'{taken}.into()'})"],
        ["Self::lift(slots[0] as u32)"],
        [f"abi::give(self as {tag}, at);"],
    )


def _record(names: Names, type_: Type) -> _Bodies:
    parts_ = [
        (name, part) for (name, _), part in zip(fields(type_), parts(type_), strict=True) if not part.shape.is_empty
    ]
    at = {name: f"at.add({part.offset})" if part.offset else "at" for name, part in parts_}
    slots = {name: f"slots[{part.first_slot}..]" for name, part in parts_}
    lend: list[Code] = [Items("abi::lend(", [f"&self.{name}", at[name], "loan"], ");") for name in at]
    flat: list[Code] = [Items("abi::lend_flat(", [f"&self.{name}", f"&mut {slots[name]}", "loan"], ");") for name in at]
    give: list[Code] = [Items("abi::give(", [f"self.{name}", at[name]], ");") for name in at]
    # What holds nothing may lie anywhere.
    take = [f"abi::take({at.get(name, 'at')})" for name, _ in fields(type_)]
    take_flat = [f"abi::take_flat(&{slots.get(name, 'slots[..0]')})" for name, _ in fields(type_)]
    return _Bodies(lend, flat, [construct(names, type_, take)], [construct(names, type_, take_flat)], give)


def _variant(names: Names, variant: Choice) -> _Bodies:
    tag_type, offset = TAGS[variant.tag_size], str(variant.payload_offset)
    assert isinstance(variant.type, TypeDef)
    name = variant.type.name
    lend: list[Code] = []
    flat: list[Code] = []
    take: list[Code] = []
    take_flat: list[Code] = []
    give: list[Code] = []
    for case in variant.cases:
        number = str(case.number)
        path, tag = case_path(names, variant.type, case.number), f"{number}_{tag_type}"
        if case.payload is None:
            lend += arm(path, [], Items("abi::give(", [tag, "at"], ")"))
            flat.append(f"{path} => slots[0] = {number},")
            take += arm(number, [], Items(path))
            take_flat += arm(number, [], Items(path))
            give += arm(path, [], Items("abi::give(", [tag, "at"], ")"))
        else:
            held = f"{path}(value)"
            lend += arm(held, [], Items("abi::lend_case(", [tag, "value", offset, "at", "loan"], ")"))
            flat += arm(held, [], Items("abi::lend_case_flat(", [number, "value", "slots", "loan"], ")"))
            take += arm(number, [], Items(f"{path}(abi::take(at.add({offset})))"))
            take_flat += arm(number, [], Items(f"{path}(abi::take_flat(&slots[1..]))"))
            give += arm(held, [], Items("abi::give_case(", [tag, "value", offset, "at"], ")"))
    take.append(f'tag => abi::unknown_case("{name}", {"tag" if tag_type == "u32" else "tag.into()"}),')
    take_flat.append(f'tag => abi::unknown_case("{name}", tag),')
    return _Bodies(
        ["match self {", lend, "}"],
        ["match self {", flat, "}"],
        [f"match abi::take::<{tag_type}>(at) {{", take, "}"],
        ["match slots[0] as u32 {", take_flat, "}"],
        ["match self {", give, "}"],
    )


def _method(name: str, parameters: list[str], result: str, body: list[Code]) -> list[Code]:
    head = f"unsafe fn {name}"
    if not body:
        return [f"{head}({', '.join(parameters)}){result} {{}}"]
    return [Signature(head, parameters, result), body, "}"]


def layouts(interface: Interface, names: Names) -> list[Code]:
    """What holds the types without names to the layout that the plan gives them: canonical_abi.rs reckons theirs."""
    lines: list[Code] = []
    for type_ in anonymous_types(interface):
        layout = shape(type_)
        numbers = [str(number) for number in (layout.size, layout.align, layout.extent, len(layout.slots))]
        lines.append(Items(f"const _: () = abi::has_layout::<{names.owned(type_)}>(", numbers, ");"))
    return ["", *lines] if lines else []


def enum_lift(names: Names, definition: TypeDef) -> list[Code]:
    """The function from the tag of an enum to the case."""
    name = names.use(definition)
    arms: list[Code] = [f"{number} => {name}::{case}," for number, case in enumerate(case_names(definition))]
    arms.append(f'_ => abi::unknown_case("{definition.name}", tag),')
    return [
        "",
        f"impl {name} {{",
        ["pub(super) fn lift(tag: u32) -> Self {", ["match tag {", arms, "}"], "}"],
        "}",
    ]
