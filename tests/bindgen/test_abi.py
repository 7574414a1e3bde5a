"""The binary interface of wit-bindgen 0.2, against numbers worked out by hand from its rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindgen.abi import Abi2022, Signature, SizeAlign
from bindgen.wit_parser import load
from bindgen.wit_parser.model import (
    Alias,
    Case,
    Enum,
    ExpectedOf,
    Field,
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
    cases,
    components,
    contains_handle,
    has_heap,
    is_unit,
)

WIT = Path(__file__).parents[2] / "wit"

ABI = Abi2022()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wit")


def interface_of(text: str, scratch: Path) -> Interface:
    path = scratch / "x.wit"
    path.write_text(text)
    return load(path)


def type_of(spelled: str, scratch: Path) -> Type:
    """`spelled` is a type, or items of which the last one defines it."""
    text = spelled if " {" in spelled else f"type t = {spelled}"
    return interface_of(f"resource r {text}", scratch).types[-1]


NOBODY = Interface("x", Path("x.wit"), "", (), (), (), ())


def defined(kind: Any) -> TypeDef:
    return TypeDef("t", "", NOBODY, kind)


def variant(*payloads: Type | None) -> TypeDef:
    return defined(Variant(tuple(Case(f"c{index}", "", payload) for index, payload in enumerate(payloads))))


def labels(count: int) -> tuple[Label, ...]:
    return tuple(Label(f"l{index}", "") for index in range(count))


# Layout in memory, and flattening: size, alignment, how far the value reaches, flat types.

LAYOUTS = {
    "bool": (1, 1, 1, "i"),
    "u8": (1, 1, 1, "i"),
    "s8": (1, 1, 1, "i"),
    "u16": (2, 2, 2, "i"),
    "s16": (2, 2, 2, "i"),
    "u32": (4, 4, 4, "i"),
    "s32": (4, 4, 4, "i"),
    "u64": (8, 8, 8, "I"),
    "s64": (8, 8, 8, "I"),
    "float32": (4, 4, 4, "f"),
    "float64": (8, 8, 8, "d"),
    "char": (4, 4, 4, "i"),
    "string": (8, 4, 8, "ii"),
    "unit": (0, 1, 0, ""),
    "list<u64>": (8, 4, 8, "ii"),
    "r": (4, 4, 4, "i"),
    # Records: fields in order, each aligned, the whole rounded up.
    "tuple<>": (0, 1, 0, ""),
    "tuple<u8>": (1, 1, 1, "i"),
    "tuple<u8, u32, u16>": (12, 4, 12, "iii"),
    "tuple<u8, u64, u8>": (24, 8, 24, "iIi"),
    "tuple<u8, tuple<u8, u16>, u8>": (8, 2, 8, "iiii"),
    "tuple<u8, unit, u8>": (2, 1, 2, "ii"),
    "tuple<float32, string, float64, r>": (32, 8, 32, "fiidi"),
    "record t {}": (0, 1, 0, ""),
    "record t { a: u8, b: u32, c: u16 }": (12, 4, 12, "iii"),
    # Variants: a tag, then the payload.
    "option<unit>": (1, 1, 1, "i"),
    "option<u8>": (2, 1, 2, "ii"),
    "option<u16>": (4, 2, 4, "ii"),
    "option<u64>": (16, 8, 16, "iI"),
    "option<string>": (12, 4, 12, "iii"),
    "option<option<float32>>": (12, 4, 12, "iif"),
    "option<tuple<>>": (1, 1, 1, "i"),
    "expected": (1, 1, 1, "i"),
    "expected<_, string>": (12, 4, 12, "iii"),
    "expected<u64, u8>": (16, 8, 16, "iI"),
    "expected<float32, float32>": (8, 4, 8, "if"),
    "expected<float32, s32>": (8, 4, 8, "ii"),
    "expected<float32, float64>": (16, 8, 16, "iI"),
    "expected<float32, s64>": (16, 8, 16, "iI"),
    "expected<float64, u8>": (16, 8, 16, "iI"),
    "expected<float64, float64>": (16, 8, 16, "id"),
    "expected<tuple<float32, float64>, tuple<u8, u8, float32>>": (24, 8, 24, "iiIf"),
    "variant t { a, b }": (1, 1, 1, "i"),
    "variant t { a, b(unit), c(string) }": (12, 4, 12, "iii"),
    "union t { u8, string, float64 }": (16, 8, 16, "iIi"),
    "union t { float32 }": (8, 4, 8, "if"),
    "enum t { a, b }": (1, 1, 1, "i"),
    # Where a size is no multiple of the alignment, or a payload reaches past it.
    "variant t { a(tuple<u8, u8>), b(u16) }": (4, 2, 4, "iii"),
    "variant t { a(tuple<u8, u8, u8>), b(u16) }": (4, 2, 5, "iiii"),
    "variant t { a(tuple<u8, u8, u8, u8>), b(u16) }": (5, 2, 6, "iiiii"),
    "union t { string, u64 }": (16, 8, 16, "iIi"),
    "expected<tuple<u32, u32, u32>, u64>": (16, 8, 20, "iIii"),
    "expected<tuple<u32, u32, u32, u32>, u64>": (20, 8, 24, "iIiii"),
    "option<expected<tuple<u32, u32, u32, u32>, u64>>": (28, 8, 32, "iiIiii"),
    "tuple<expected<tuple<u32, u32, u32, u32>, u64>, u8>": (24, 8, 24, "iIiiii"),
    "tuple<u8, expected<tuple<u32, u32, u32, u32>, u64>>": (32, 8, 32, "iiIiii"),
    "tuple<five, u8>": (6, 2, 6, "iiiiii"),
    "tuple<five, five>": (12, 2, 12, "iiiiiiiiii"),
    "option<five>": (7, 2, 8, "iiiiii"),
    "list<five>": (8, 4, 8, "ii"),
}


@pytest.mark.parametrize("spelled", LAYOUTS)
def test_a_type_has_the_layout_and_the_flat_types_that_the_rules_give(spelled: str, scratch: Path) -> None:
    text = spelled
    if "five" in spelled:
        text = f"variant five {{ a(tuple<u8, u8, u8, u8>), b(u16) }} type t = {spelled}"
    type_ = type_of(text, scratch)
    size, align, reach, flat = LAYOUTS[spelled]
    assert (ABI.size_align(type_), ABI.extent(type_), ABI.flatten(type_)) == (SizeAlign(size, align), reach, flat)


@pytest.mark.parametrize(
    ("count", "size", "align", "flat"),
    [
        (0, 1, 1, "i"),
        (1, 1, 1, "i"),
        (8, 1, 1, "i"),
        (9, 2, 2, "i"),
        (16, 2, 2, "i"),
        (17, 4, 4, "i"),
        (32, 4, 4, "i"),
        (33, 8, 4, "ii"),
        (64, 8, 4, "ii"),
        (65, 12, 4, "iii"),
    ],
)
def test_flags_take_a_byte_two_or_as_many_words_as_hold_them(count: int, size: int, align: int, flat: str) -> None:
    type_ = defined(Flags(labels(count)))
    assert ABI.flags_size(count) == size
    assert (ABI.size_align(type_), ABI.flatten(type_)) == (SizeAlign(size, align), flat)


@pytest.mark.parametrize(("count", "size"), [(1, 1), (255, 1), (256, 2), (65_535, 2), (65_536, 4)])
def test_a_tag_grows_with_the_number_of_cases(count: int, size: int) -> None:
    enum = defined(Enum(labels(count)))
    assert ABI.tag_size(count) == size
    assert (ABI.size_align(enum), ABI.flatten(enum)) == (SizeAlign(size, size), "i")
    with_payload = variant(Primitive.U8, *[None] * (count - 1))
    assert ABI.size_align(with_payload) == SizeAlign(size + 1, size)
    assert ABI.payload_offset(with_payload) == size


def test_the_fields_of_a_record_lie_at_aligned_offsets(scratch: Path) -> None:
    request = next(it for it in load(WIT / "http-types.wit").types if it.name == "request")
    assert isinstance(request.kind, Record)
    assert ABI.offsets(field.type for field in request.kind.fields) == ((0, 4, 12, 20, 28), SizeAlign(40, 4))
    assert ABI.offsets([]) == ((), SizeAlign(0, 1))
    assert ABI.offsets([Primitive.U8, Primitive.U64, Primitive.U8]) == ((0, 8, 16), SizeAlign(24, 8))


def test_an_alias_is_what_it_stands_for(scratch: Path) -> None:
    types = interface_of(
        "variant v { a(e), b(string) } type e = nothing type nothing = unit type w = v type x = w", scratch
    ).types
    v, x = types[0], types[4]
    assert ABI.size_align(x) == ABI.size_align(v) == SizeAlign(12, 4)
    assert ABI.flatten(x) == ABI.flatten(v) == "iii"
    assert cases(x) == (("a", None), ("b", Primitive.STRING))
    assert ABI.payload_offset(x) == 4
    assert components(x) == components(v) == (Primitive.STRING,)
    assert is_unit(types[2])
    assert not is_unit(v)


def test_whatever_has_cases_can_be_seen_as_a_variant(scratch: Path) -> None:
    u64, string = Primitive.U64, Primitive.STRING
    seen = {
        OptionOf(u64): ((("none", None), ("some", u64)), 8),
        ExpectedOf(Primitive.UNIT, string): ((("ok", None), ("err", string)), 4),
        type_of("union u { string, u64 }", scratch): ((("0", string), ("1", u64)), 8),
        type_of("enum e { x, y }", scratch): ((("x", None), ("y", None)), 1),
    }
    for type_, view in seen.items():
        assert (cases(type_), ABI.payload_offset(type_)) == view
    for other in (Primitive.U8, ListOf(u64), TupleOf(()), type_of("flags f { a }", scratch)):
        with pytest.raises(TypeError):
            cases(other)


@pytest.mark.parametrize(
    ("flats", "joined"),
    [
        ([], ""),
        (["", ""], ""),
        (["i", ""], "i"),
        (["f", ""], "f"),
        (["f", "f"], "f"),
        (["f", "i"], "i"),
        (["f", "d"], "I"),
        (["d", "d"], "d"),
        (["i", "I"], "I"),
        (["i", "d"], "I"),
        (["I", "d"], "I"),
        (["f", "i", "d"], "I"),
        (["if", "f", "fid"], "iid"),
    ],
)
def test_cases_share_slots_that_hold_any_of_them(flats: list[str], joined: str) -> None:
    assert ABI.join(flats) == joined


# Functions.


def signatures(function: str, scratch: Path) -> tuple[Signature, Signature]:
    interface = interface_of(f"resource r {{ {function} }}" if "self" in function else function, scratch)
    (found,) = interface.functions or interface.resources[0].functions
    return ABI.signature(found, "import"), ABI.signature(found, "export")


def u32s(count: int) -> str:
    return ", ".join(f"p{index}: u32" for index in range(count))


@pytest.mark.parametrize(
    ("function", "imported", "exported"),
    [
        ("f: func()", Signature("", "", False, False), Signature("", "", False, False)),
        ("f: func(a: u64) -> u64", Signature("I", "I", False, False), Signature("I", "I", False, False)),
        ("f: func() -> expected", Signature("", "i", False, False), Signature("", "i", False, False)),
        ("f: func() -> tuple<float32>", Signature("", "f", False, False), Signature("", "f", False, False)),
        ("f: func() -> tuple<>", Signature("", "", False, False), Signature("", "", False, False)),
        ("f: func(a: string) -> string", Signature("iii", "", False, True), Signature("ii", "i", False, True)),
        ("f: func() -> option<u8>", Signature("i", "", False, True), Signature("", "i", False, True)),
        (f"f: func({u32s(16)})", Signature("i" * 16, "", False, False), Signature("i" * 16, "", False, False)),
        (f"f: func({u32s(17)})", Signature("i", "", True, False), Signature("i", "", True, False)),
        (f"f: func({u32s(16)}) -> string", Signature("i" * 17, "", False, True), Signature("i" * 16, "i", False, True)),
        (f"f: func({u32s(17)}) -> string", Signature("ii", "", True, True), Signature("i", "i", True, True)),
        (f"f: func({u32s(17)}) -> u64", Signature("i", "I", True, False), Signature("i", "I", True, False)),
        ("self: func()", Signature("i", "", False, False), Signature("i", "", False, False)),
        ("static self: func()", Signature("", "", False, False), Signature("", "", False, False)),
        ("static self: func() -> r", Signature("", "i", False, False), Signature("", "i", False, False)),
        (f"self: func({u32s(15)})", Signature("i" * 16, "", False, False), Signature("i" * 16, "", False, False)),
        (f"self: func({u32s(16)})", Signature("i", "", True, False), Signature("i", "", True, False)),
    ],
)
def test_a_function_has_the_signature_that_the_rules_give(
    function: str, imported: Signature, exported: Signature, scratch: Path
) -> None:
    assert signatures(function, scratch) == (imported, exported)


def test_the_interfaces_of_this_project_have_the_signatures_that_guests_have() -> None:
    (handle_http,) = load(WIT / "http-handler.wit").functions
    assert ABI.signature(handle_http, "export") == Signature("i" * 10, "i", False, True)
    keyvalue = {
        ABI.name(it): ABI.signature(it, "import").params for it in load(WIT / "keyvalue.wit").resources[0].functions
    }
    assert keyvalue == {
        "keyvalue::open": "iii",
        "keyvalue::get": "iiii",
        "keyvalue::set": "iiiiii",
        "keyvalue::keys": "ii",
        "keyvalue::delete": "iiii",
    }


def test_a_method_passes_its_handle_first(scratch: Path) -> None:
    resource = interface_of("resource r { m: func(a: u8) static s: func(a: u8) }", scratch).resources[0]
    method, static = resource.functions
    assert ABI.param_types(method) == (resource, Primitive.U8)
    assert ABI.param_types(static) == (Primitive.U8,)


# What a value holds.


@pytest.mark.parametrize(
    ("spelled", "heap", "handle"),
    [
        ("u8", False, False),
        ("unit", False, False),
        ("string", True, False),
        ("list<u8>", True, False),
        ("r", False, True),
        ("handle r", False, True),
        ("list<r>", True, True),
        ("tuple<u8, option<expected<_, string>>>", True, False),
        ("tuple<u8, option<expected<_, r>>>", False, True),
        ("list<list<tuple<u8, option<r>>>>", True, True),
        ("record t { a: u8, b: r }", False, True),
        ("record t { a: u8, b: string }", True, False),
        ("variant t { a, b(u8), c(unit) }", False, False),
        ("union t { u8, r, string }", True, True),
        ("enum t { a }", False, False),
        ("flags t { a }", False, False),
    ],
)
def test_what_a_value_holds_is_found_however_deep_it_is(spelled: str, heap: bool, handle: bool, scratch: Path) -> None:
    type_ = type_of(spelled, scratch)
    assert (has_heap(type_), contains_handle(type_)) == (heap, handle)


def test_the_deepest_types_that_the_parser_lets_through_can_be_read(scratch: Path) -> None:
    types = interface_of(
        f"type a = {'option<' * 62}u8{'>' * 62} type b = {'tuple<' * 62}string{'>' * 62}", scratch
    ).types
    assert [ABI.size_align(it) for it in types] == [SizeAlign(63, 1), SizeAlign(8, 4)]
    assert [ABI.flatten(it) for it in types] == ["i" * 63, "ii"]
    assert [ABI.extent(it) for it in types] == [63, 8]
    assert [has_heap(it) for it in types] == [False, True]


# Laws.

SIMPLE = st.sampled_from([*Primitive, ListOf(Primitive.U8), Resource("r", "", NOBODY, ())])


def made_of(inner: st.SearchStrategy[Type]) -> st.SearchStrategy[Type]:
    several = st.lists(inner, min_size=1, max_size=4)
    return st.one_of(
        st.builds(OptionOf, inner),
        st.builds(ExpectedOf, inner, inner),
        several.map(lambda items: TupleOf(tuple(items))),
        several.map(lambda payloads: variant(*payloads)),
        inner.map(lambda type_: defined(Alias(type_))),
    )


TYPES = st.recursive(SIMPLE, made_of, max_leaves=12)


def everything(type_: Type) -> tuple[SizeAlign, int, str, bool, bool]:
    return ABI.size_align(type_), ABI.extent(type_), ABI.flatten(type_), has_heap(type_), contains_handle(type_)


@given(TYPES, TYPES)
def test_types_that_say_the_same_are_laid_out_the_same(one: Type, other: Type) -> None:
    fields = Record((Field("a", "", one), Field("b", "", other)))
    union = Union((Case("0", "", one), Case("1", "", other)))
    assert everything(TupleOf((one, other))) == everything(defined(fields))
    assert everything(ExpectedOf(one, other)) == everything(variant(one, other)) == everything(defined(union))
    assert everything(OptionOf(one)) == everything(variant(None, one)) == everything(ExpectedOf(Primitive.UNIT, one))


@given(st.lists(TYPES, max_size=5))
def test_fields_follow_each_other_aligned(types: list[Type]) -> None:
    starts, layout = ABI.offsets(types)
    end = 0
    for start, type_ in zip(starts, types, strict=True):
        field = ABI.size_align(type_)
        assert start % field.align == 0
        assert 0 <= start - end < field.align
        end = start + field.size
    assert layout.size % layout.align == 0
    assert 0 <= layout.size - end < layout.align


@given(st.lists(TYPES, min_size=1, max_size=5))
def test_every_payload_lies_within_what_its_variant_reaches(payloads: list[Type]) -> None:
    type_ = variant(*payloads)
    offset = ABI.payload_offset(type_)
    for payload in payloads:
        assert offset % ABI.size_align(payload).align == 0
        assert offset + ABI.extent(payload) <= ABI.extent(type_)
        assert len(ABI.flatten(payload)) < len(ABI.flatten(type_))
    assert ABI.size_align(type_).size <= ABI.extent(type_)
