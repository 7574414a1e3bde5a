"""The binary interface of components: sizes, places and flat types, against an implementation of the specification."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from bindgen.abi import CanonicalAbi, Signature, SizeAlign
from bindgen.plan import PLANS, Check, Choice, Finish, Handle, Parts
from bindgen.structure import function_text, type_text
from bindgen.wit_parser.model import (
    Borrow,
    Enum,
    ExpectedOf,
    FixedListOf,
    Flags,
    Function,
    FunctionKind,
    FutureOf,
    ListOf,
    OptionOf,
    Own,
    Param,
    Primitive,
    Record,
    StreamOf,
    TupleOf,
    Type,
    Variant,
)
from tests.bindgen import specification
from tests.bindgen.component_types import KEY, THING, TYPES, cases, defined, fields, labels

ABI = CanonicalAbi()
U8, U16, U32, U64, STRING, UNIT = (
    Primitive.U8,
    Primitive.U16,
    Primitive.U32,
    Primitive.U64,
    Primitive.STRING,
    Primitive.UNIT,
)


# By hand.

LAYOUTS: list[tuple[Type, tuple[int, int], str]] = [
    # The size of a variant is a multiple of its alignment, unlike in 2022.
    (defined(Variant(cases([TupleOf((U8, U8, U8)), U16]))), (6, 2), "iiii"),
    (OptionOf(U64), (16, 8), "iI"),
    (ExpectedOf(STRING, UNIT), (12, 4), "iii"),
    # A byte tells 256 cases apart.
    (defined(Enum(labels(256))), (1, 1), "i"),
    (defined(Enum(labels(257))), (2, 2), "i"),
    (defined(Enum(labels(65_537))), (4, 4), "i"),
    (defined(Flags(labels(8))), (1, 1), "i"),
    (defined(Flags(labels(9))), (2, 2), "i"),
    (defined(Flags(labels(17))), (4, 4), "i"),
    (Own(THING), (4, 4), "i"),
    (Borrow(THING), (4, 4), "i"),
    (StreamOf(U8), (4, 4), "i"),
    (FutureOf(None), (4, 4), "i"),
    (ListOf(U64), (8, 4), "ii"),
    (FixedListOf(U16, 3), (6, 2), "iii"),
    (TupleOf((U8, U64, U8)), (24, 8), "iIi"),
    (defined(Variant(cases([Primitive.FLOAT32, U32]))), (8, 4), "ii"),
    (defined(Variant(cases([Primitive.FLOAT32, Primitive.FLOAT64]))), (16, 8), "iI"),
    (defined(Variant(cases([Primitive.FLOAT32, None]))), (8, 4), "if"),
]


@pytest.mark.parametrize(("type_", "layout", "flat"), LAYOUTS, ids=[type_text(each[0])[:40] for each in LAYOUTS])
def test_a_type_lies_in_memory_and_travels_as_it_should(type_: Type, layout: tuple[int, int], flat: str) -> None:
    assert ABI.size_align(type_) == SizeAlign(*layout)
    assert ABI.flatten(type_) == flat
    assert ABI.extent(type_) == layout[0]


PATIENT = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(TYPES)
@PATIENT
def test_types_lie_in_memory_and_travel_as_the_specification_says(type_: Type) -> None:
    assert ABI.size_align(type_) == SizeAlign(specification.size(type_), specification.alignment(type_))
    assert ABI.flatten(type_) == specification.flat_types(type_)


@given(TYPES)
@PATIENT
def test_a_plan_places_parts_and_payloads_where_the_specification_does(type_: Type) -> None:
    shape = PLANS.shape(type_)
    assert (shape.size, shape.align, shape.slots) == (
        specification.size(type_),
        specification.alignment(type_),
        specification.flat_types(type_),
    )
    kind, inside = specification.despecialized(type_)
    if isinstance(shape, Parts):
        end = 0
        for part, inner in zip(shape.parts, inside, strict=True):
            end = specification.align_to(end, specification.alignment(inner))
            assert part.offset == end
            end += specification.size(inner)
    if isinstance(shape, Choice):
        assert kind == "variant"
        start = specification.discriminant_size(len(inside))
        assert shape.payload_offset == specification.align_to(start, specification.payload_alignment(inside))


# Functions.


def function(params: list[Type], result: Type = UNIT, **more: Any) -> Function:
    named = tuple(Param(f"p{number}", type_) for number, type_ in enumerate(params))
    return Function(more.pop("name", "f"), "", more.pop("kind", FunctionKind.FREE), more.pop("of", None), named, result)


def test_functions_are_named_as_a_component_names_them() -> None:
    method = function([], name="get", kind=FunctionKind.METHOD, of=THING)
    static = function([], name="find", kind=FunctionKind.STATIC, of=THING)
    constructor = function([], Own(THING), name="whatever", kind=FunctionKind.CONSTRUCTOR, of=THING)
    names = [ABI.name(each) for each in (function([]), method, static, constructor)]
    assert names == ["f", "[method]thing.get", "[static]thing.find", "[constructor]thing"]


def test_sixteen_flat_parameters_and_one_flat_result_are_passed_as_they_are() -> None:
    assert ABI.signature(function([U8] * 16, U64), "import") == Signature("i" * 16, "I", False, False)
    assert ABI.signature(function([U8] * 17), "import") == Signature("i", "", True, False)
    assert ABI.signature(function([], STRING), "import") == Signature("i", "", False, True)
    assert ABI.signature(function([], STRING), "export") == Signature("", "i", False, True)


def test_an_asynchronous_import_has_four_flat_parameters_and_its_result_in_memory() -> None:
    assert ABI.async_signature(function([U8] * 4)) == Signature("iiii", "i", False, False)
    assert ABI.async_signature(function([U8] * 5)) == Signature("i", "i", True, False)
    assert ABI.async_signature(function([], U8)) == Signature("i", "i", False, True)
    assert ABI.async_signature(function([U8] * 5, STRING)) == Signature("ii", "i", True, True)


def test_a_task_returns_up_to_sixteen_flat_values() -> None:
    assert ABI.return_signature(function([], TupleOf((U8,) * 16))) == Signature("i" * 16, "", False, False)
    assert ABI.return_signature(function([], TupleOf((U8,) * 17))) == Signature("i", "", True, False)
    assert ABI.return_signature(function([])) == Signature("", "", False, False)


def test_a_method_borrows_its_own_resource() -> None:
    method = function([U8], kind=FunctionKind.METHOD, of=THING)
    assert ABI.param_types(method) == (Borrow(THING), U8)
    first = PLANS.call(method, "host", "import").params.parts[0].shape
    assert isinstance(first, Handle)
    assert (first.ownership, first.resource) == ("borrow", THING)


def test_a_pointer_has_to_be_aligned_and_a_call_of_the_host_is_finished() -> None:
    plan = PLANS.call(function([U64] * 17, ListOf(U64)), "host", "import")
    assert [step for step in plan.steps if isinstance(step, Check)] == [Check("params", 136, 8), Check("result", 8, 4)]
    steps = PLANS.call(function([], STRING), "host", "export").steps
    assert isinstance(steps[-1], Finish)


# Texts.

TEXTS = [
    (ListOf(Primitive.FLOAT32), "list<f32>"),
    (FixedListOf(U8, 4), "list<u8, 4>"),
    (ExpectedOf(UNIT, STRING), "result<_, string>"),
    (ExpectedOf(UNIT, UNIT), "result<_, _>"),
    (OptionOf(TupleOf((U8, Primitive.CHAR))), "option<tuple<u8, char>>"),
    (defined(Record(fields([U8, STRING]))), "record{f0: u8, f1: string}"),
    (defined(Variant(cases([None, U8]))), "variant{c0, c1(u8)}"),
    (defined(Enum(labels(2))), "enum{l0, l1}"),
    (defined(Flags(labels(2))), "flags{l0, l1}"),
    (Own(THING), f"own<{KEY}>"),
    (Borrow(THING), f"borrow<{KEY}>"),
    (StreamOf(None), "stream"),
    (FutureOf(ExpectedOf(UNIT, UNIT)), "future<result<_, _>>"),
    (Primitive.ERROR_CONTEXT, "error-context"),
]


@pytest.mark.parametrize(("type_", "text"), TEXTS, ids=[each[1] for each in TEXTS])
def test_a_type_has_one_text(type_: Type, text: str) -> None:
    assert type_text(type_) == text


def test_a_function_has_one_text() -> None:
    method = function([U8], ListOf(U8), name="get", kind=FunctionKind.METHOD, of=THING)
    assert function_text(method) == f"func(self: borrow<{KEY}>, p0: u8) -> list<u8>"
    asynchronous = function([])
    asynchronous.is_async = True
    assert function_text(asynchronous) == "async func()"


def test_a_resource_has_a_key_without_a_version() -> None:
    assert KEY == "test:values/things/thing"
