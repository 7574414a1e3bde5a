"""The two implementations of the canonical ABI agree: the texts of types of WIT and of binaries, and values at run time
with the specification that generated modules are held against."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bindgen.runtime import Err, Ok, Some
from bindgen.structure import function_text, type_text
from bindgen.wit_parser import model
from slight_py.component import types as t
from slight_py.component.values import Passing
from tests.bindgen.component_types import KEY, TYPES, handles_changed, interface_of, values_of
from tests.bindgen.specification import Guest
from tests.component.values_of_types import FakeSpace, HostObject, same

THING = t.ResourceType("thing", "test:values/things")

PATIENT = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def of_a_binary(type_: model.Type) -> t.ValueType:
    """The type as a component's binary has it."""
    match type_:
        case model.TypeDef(kind=model.Alias(target)):
            return of_a_binary(target)
        case model.Primitive():
            return t.Primitive({"float32": "f32", "float64": "f64"}.get(type_.value, type_.value))
        case model.ListOf(element):
            return t.ListOf(of_a_binary(element))
        case model.OptionOf(value):
            return t.OptionOf(of_a_binary(value))
        case model.ExpectedOf(ok, err):
            return t.ResultOf(*(None if model.is_unit(each) else of_a_binary(each) for each in (ok, err)))
        case model.TupleOf(items):
            return t.TupleOf(tuple(map(of_a_binary, items)))
        case model.Own():
            return t.Own(THING)
        case model.TypeDef(kind=model.Record(fields)):
            return t.Record(tuple(t.Field(each.name, of_a_binary(each.type)) for each in fields))
        case model.TypeDef(kind=model.Variant(cases)):
            return t.Variant(tuple(t.Case(each.name, each.type and of_a_binary(each.type)) for each in cases))
        case model.TypeDef(kind=model.Enum(labels)):
            return t.Enum(tuple(each.name for each in labels))
        case model.TypeDef(kind=model.Flags(labels)):
            return t.Flags(tuple(each.name for each in labels))
    raise AssertionError(type_)


def at_run_time(type_: t.ValueType, value: Any) -> Any:
    """The value as `slight_py.component.values` has it; it was one of `tests.bindgen.specification`."""
    match type_:
        case t.ListOf(element):
            return bytes(value) if element == t.U8 else [at_run_time(element, each) for each in value]
        case t.OptionOf(inner):
            some = value[0] and at_run_time(inner, value[1])
            return None if not value[0] else Some(some) if isinstance(inner, t.OptionOf) else some
        case t.ResultOf(ok, err):
            number, payload = value
            side = err if number else ok
            return (Err if number else Ok)(None if side is None else at_run_time(side, payload))
        case t.TupleOf(items):
            return tuple(at_run_time(inner, each) for inner, each in zip(items, value, strict=True))
        case t.Record(fields):
            return {each.name: at_run_time(each.type, part) for each, part in zip(fields, value, strict=True)}
        case t.Variant(cases):
            case_ = cases[value[0]]
            return case_.name, None if case_.type is None else at_run_time(case_.type, value[1])
        case t.Enum(names):
            return names[value[0]]
        case t.Flags(names):
            return frozenset(name for number, name in enumerate(names) if value >> number & 1)
    return value


@given(TYPES)
@PATIENT
def test_a_type_has_the_same_text_from_wit_and_from_a_binary(type_: model.Type) -> None:
    assert type_text(type_) == t.text(of_a_binary(type_))


@given(st.lists(TYPES, max_size=3), TYPES, st.booleans())
@PATIENT
def test_so_has_a_function(params: list[model.Type], result: model.Type, is_async: bool) -> None:
    (function,) = interface_of(("f", params, result), is_async=is_async).functions
    fields = tuple(t.Field(each.name, of_a_binary(each.type)) for each in function.params)
    assert function_text(function) == t.text(t.FuncType(fields, of_a_binary(result), is_async))


@given(st.data(), st.sampled_from(["utf8", "utf16", "latin1+utf16"]))
@PATIENT
def test_values_at_run_time_lie_where_the_specification_says(data: st.DataObject, encoding: Any) -> None:
    type_ = data.draw(TYPES)
    drawn = data.draw(values_of(type_))
    things = [HostObject() for _ in range(4)]
    real = of_a_binary(type_)
    expected = at_run_time(real, handles_changed(type_, drawn, things.__getitem__))
    space = FakeSpace(encoding=encoding)
    guest = Guest(encoding)
    guest.data, guest.end = space._bytes, 1 << 16

    def hand_over(number: int) -> int:
        return space.handles.add(KEY, things[number], "")

    def taken(index: int) -> int:
        return things.index(space.handles.take(KEY, index, ""))

    passing = Passing([real], 16)
    value = handles_changed(type_, drawn, hand_over)
    flat = guest.lower(type_, value)
    if passing.in_memory:
        flat = [guest.realloc(real.size, real.alignment)]
        guest.store(type_, value, flat[0])
    assert same(passing.lift(space, flat, "here"), [expected])

    flat = asyncio.run(passing.lower(space, [expected], "here"))
    found = guest.load(type_, int(flat[0])) if passing.in_memory else guest.lift(type_, iter(flat))
    assert handles_changed(type_, found, taken) == drawn
