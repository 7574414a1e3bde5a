"""The canonical ABI at run time: what is lowered is lifted again, and what breaks the rules is refused.

Expected bytes are worked out by hand from CanonicalABI.md, and sizes by the rules of C, which are the same.
"""

from __future__ import annotations

import asyncio
import ctypes
import struct
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bindgen.runtime import Err, GuestFault, Lift, Ok, Some
from slight_py.component import types as t
from slight_py.component.codecs import codec
from slight_py.component.handles import BorrowScope, Resource
from slight_py.component.lifting import ErrorContext
from slight_py.component.values import Passing, element_form
from tests.component.values_of_types import HOST_RESOURCE, NUMBERS, FakeSpace, HostObject, same, typed_values, types

encodings = st.sampled_from(["utf8", "utf16", "latin1+utf16"])


def lower(space: FakeSpace, passing: Passing, values: list[Any], **more: Any) -> list[Any]:
    return asyncio.run(passing.lower(space, values, "test", **more))


def lowered(type_: t.ValueType, value: Any, space: FakeSpace | None = None) -> list[Any]:
    return lower(space or FakeSpace(), Passing([type_], 16), [value])


def lifted(type_: t.ValueType, flat: list[int | float], space: FakeSpace | None = None) -> Any:
    return Passing([type_], 16).lift(space or FakeSpace(), flat, "test")[0]


def stored(type_: t.ValueType, value: Any, space: FakeSpace) -> bytes:
    """The bytes of a value in memory."""
    lower(space, Passing([type_], 0), [value], out=0x8000)
    return bytes(space.memory[0x8000 : 0x8000 + type_.size])


@given(st.lists(typed_values, min_size=1, max_size=3), st.sampled_from([0, 1, 4, 16]), encodings)
@settings(max_examples=150, deadline=None)
@example([(t.OptionOf(t.OptionOf(t.U8)), Some(None))], 16, "utf8")
@example([(t.STRING, "aé"), (t.STRING, "a\U0001f600")], 16, "latin1+utf16")
def test_what_is_lowered_is_lifted_again(typed: Any, most: Any, encoding: Any) -> None:
    space = FakeSpace(encoding=encoding)
    passing = Passing([type_ for type_, _ in typed], most)
    values = [value for _, value in typed]
    flat = lower(space, passing, values)
    assert passing.in_memory or len(flat) == sum(len(type_.flat) for type_, _ in typed)
    assert same(passing.lift(space, flat, "test"), values)
    assert len(space.handles) == 0


@given(st.lists(typed_values, min_size=1, max_size=3), encodings)
@settings(max_examples=70, deadline=None)
def test_nothing_is_written_but_what_was_allocated(typed: Any, encoding: Any) -> None:
    space = FakeSpace(encoding=encoding)
    space.memory[:] = b"\xa5" * len(space.memory)
    passing = Passing([type_ for type_, _ in typed], 4)
    lower(space, passing, [value for _, value in typed])
    untouched = bytearray(space.memory)
    for pointer, size in space.allocated:
        untouched[pointer : pointer + size] = b"\xa5" * size
    assert untouched == b"\xa5" * len(untouched)


@given(typed_values, st.data())
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_a_value_or_a_fault(typed: Any, data: Any) -> None:
    """A hostile guest hands over whatever it likes, and nothing but a GuestFault comes of it."""
    type_, _ = typed
    space = FakeSpace(size=4096)
    space.memory[:] = data.draw(st.binary(min_size=64, max_size=64)) * 64
    passing = Passing([type_], 0)
    faults = []
    try:
        passing.lift(space, [data.draw(st.integers(0, 5000))], "call: param")
    except GuestFault as fault:
        faults.append(str(fault))
    assert all(fault.startswith("call: param: ") for fault in faults)


@given(types, st.data())
@settings(max_examples=100, deadline=None)
def test_any_core_values_are_a_value_or_a_fault(type_: Any, data: Any) -> None:
    space = FakeSpace(size=4096)
    passing = Passing([type_], 16)
    words = {"i32": st.integers(0, (1 << 32) - 1), "i64": st.integers(0, (1 << 64) - 1)}
    floats = {"f32": st.floats(width=32), "f64": st.floats()}
    flat = ("i32",) if passing.in_memory else type_.flat
    args = data.draw(st.tuples(*[{**words, **floats}[each] for each in flat]))
    faults = []
    try:
        passing.lift(space, args, "call: param")
    except GuestFault as fault:
        faults.append(str(fault))
    assert all(fault.startswith("call: param: ") for fault in faults)


def in_c(type_: t.ValueType) -> Any:
    """A type of C that is laid out by the same rules."""
    primitives = dict(zip((each.name for each in NUMBERS), "bBhHiIqQ", strict=True)) | {"f32": "f", "f64": "d"}
    letters = {name: getattr(ctypes, f"c_{kind}") for name, kind in _C_NAMES.items()}
    match type_:
        case t.Primitive(name=name) if name in primitives:
            return letters[name]
        case t.Primitive(name="bool"):
            return ctypes.c_uint8
        case t.Primitive(name="string") | t.ListOf() | t.MapOf():
            return ctypes.c_uint32 * 2
        case t.FixedListOf():
            return in_c(type_.element) * type_.length
        case t.TupleOf():
            return _struct([in_c(each) for each in type_.items])
        case t.Record():
            return _struct([in_c(field.type) for field in type_.fields])
        case t.Flags():
            count = len(type_.names)
            return ctypes.c_uint8 if count <= 8 else ctypes.c_uint16 if count <= 16 else ctypes.c_uint32
        case t.Enum():
            return ctypes.c_uint8
        case t.Variant() | t.OptionOf() | t.ResultOf():
            payloads = [in_c(case.type) for case in type_.cases if case.type is not None]
            union = type("Payload", (ctypes.Union,), {"_fields_": [(f"c{n}", each) for n, each in enumerate(payloads)]})
            return _struct([ctypes.c_uint8, *([union] if payloads else [])])
    return ctypes.c_uint32


_C_NAMES = {
    "s8": "int8", "u8": "uint8", "s16": "int16", "u16": "uint16", "s32": "int32", "u32": "uint32",
    "s64": "int64", "u64": "uint64", "f32": "float", "f64": "double",
}  # fmt: skip


def _struct(members: list[Any]) -> Any:
    return type("Struct", (ctypes.Structure,), {"_fields_": [(f"m{n}", each) for n, each in enumerate(members)]})


@given(types)
@settings(max_examples=100, deadline=None)
def test_sizes_and_alignments_are_those_of_c(type_: Any) -> None:
    assert (type_.size, type_.alignment) == (ctypes.sizeof(in_c(type_)), ctypes.alignment(in_c(type_)))


@pytest.mark.parametrize(
    ("type_", "value", "data"),
    [
        (t.BOOL, True, b"\x01"),
        (t.S16, -2, b"\xfe\xff"),
        (t.CHAR, "€", b"\xac\x20\0\0"),
        (t.F32, 1.5, b"\0\0\xc0\x3f"),
        (t.OptionOf(t.U32), 7, b"\1\0\0\0\7\0\0\0"),
        (t.ResultOf(t.U8, t.U16), Err(0x102), b"\1\0\2\1"),
        (t.ResultOf(None, None), Err(None), b"\1"),
        (t.Flags(tuple("abcdefghi")), {"a", "i"}, b"\1\1"),
        (t.Enum(("x", "y")), "y", b"\1"),
        (t.Enum(tuple(f"c{n}" for n in range(256))), "c255", b"\xff"),
        (t.Enum(tuple(f"c{n}" for n in range(257))), "c256", b"\0\1"),
        (t.TupleOf((t.U8, t.U32, t.U8)), (1, 2, 3), b"\1\0\0\0\2\0\0\0\3\0\0\0"),
        (t.Record((t.Field("a", t.U8), t.Field("b", t.U64))), {"a": 1, "b": 2}, b"\1" + bytes(7) + b"\2" + bytes(7)),
        (t.FixedListOf(t.U16, 3), [1, 2, 3], b"\1\0\2\0\3\0"),
        (t.Variant((t.Case("a", None), t.Case("b", t.F64))), ("b", 1.0), b"\1" + bytes(13) + b"\xf0\x3f"),
    ],
)
def test_bytes_in_memory(type_: Any, value: Any, data: Any) -> None:
    assert stored(type_, value, FakeSpace()) == data


@pytest.mark.parametrize(
    ("encoding", "value", "units", "data"),
    [
        ("utf8", "é€", 5, "é€".encode()),
        ("utf16", "é€", 2, b"\xe9\0\xac\x20"),
        ("utf16", "\U0001f600", 2, b"\x3d\xd8\x00\xde"),
        ("latin1+utf16", "é", 1, b"\xe9"),
        ("latin1+utf16", "é€", 2 | 1 << 31, b"\xe9\0\xac\x20"),
        ("latin1+utf16", "", 0, b""),
    ],
)
def test_strings_in_their_encodings(encoding: Any, value: Any, units: Any, data: Any) -> None:
    space = FakeSpace(encoding=encoding)
    pointer, length = lowered(t.STRING, value, space)
    assert length == units
    assert space.memory[pointer : pointer + len(data)] == data
    assert pointer % (1 if encoding == "utf8" else 2) == 0


@pytest.mark.parametrize(
    ("type_", "flat", "value"),
    [
        (t.S8, [0xFF], -1),
        (t.S8, [0xFFFF_FF80], -128),
        (t.U8, [0x1FF], 0xFF),
        (t.S32, [0x8000_0000], -(1 << 31)),
        (t.S64, [(1 << 64) - 1], -1),
        (t.BOOL, [2], True),
        (t.Flags(("a", "b")), [0xFFFF_FFFF], frozenset("ab")),
        (t.ResultOf(t.F32, t.U64), [0, 0x3FC00000], Ok(1.5)),
        (t.ResultOf(t.F64, t.U32), [0, 0x3FF8_0000_0000_0000], Ok(1.5)),
        (t.ResultOf(t.U32, t.F64), [0, 0xFFFF_FFFF_0000_0001], Ok(1)),
        (t.ResultOf(t.F32, t.U32), [0, 0x3FC00000], Ok(1.5)),
    ],
)
def test_core_values_are_read_as_the_specification_says(type_: Any, flat: Any, value: Any) -> None:
    """Bits beyond a type's are nothing; what shares a slot with values of other cases is had back."""
    assert same(lifted(type_, flat), value)


@pytest.mark.parametrize(
    ("type_", "value", "flat"),
    [
        (t.S8, -1, [0xFFFF_FFFF]),
        (t.S64, -1, [(1 << 64) - 1]),
        (t.ResultOf(t.F32, t.U64), Ok(1.5), [0, 0x3FC00000]),
        (t.ResultOf(t.F64, t.U32), Ok(1.5), [0, 0x3FF8_0000_0000_0000]),
        (t.ResultOf(None, t.TupleOf((t.U8, t.F64))), Ok(None), [0, 0, 0.0]),
    ],
)
def test_core_values_that_are_handed_over(type_: Any, value: Any, flat: Any) -> None:
    assert lowered(type_, value) == flat


PAIR = struct.Struct("<II")


@pytest.mark.parametrize(
    ("type_", "flat", "message"),
    [
        (t.CHAR, [0xD800], "0xd800 is not a Unicode scalar value"),
        (t.CHAR, [0x110000], "0x110000 is not a Unicode scalar value"),
        (t.Enum(("a", "b")), [2], "2 is not a case of enum{a, b}"),
        (t.OptionOf(t.U8), [2, 0], "2 is not a case of option<u8>"),
        (t.STRING, [0, 4097], "4097 bytes at 0x0 reach past the end of memory, 0x1000"),
        (t.STRING, [4097, 0], "0 bytes at 0x1001 reach past"),
        (t.STRING, [0xFFFF_FFFF, 0xFFFF_FFFF], "a string of 4294967295 bytes is longer"),
        (t.ListOf(t.U32), [2, 1], "0x2 is not aligned to 4 bytes"),
        (t.ListOf(t.U32), [2, 0], "0x2 is not aligned to 4 bytes"),
        (t.ListOf(t.U64), [8, 1 << 29], "a list of 4294967296 bytes is longer"),
        (t.ListOf(t.STRING), [0, 513], "4104 bytes at 0x0 reach past the end of memory"),
        (t.Own(HOST_RESOURCE), [3], "there is no handle 3, where one of wasi:io/streams/input-stream is expected"),
    ],
)
def test_what_breaks_the_rules_is_refused(type_: Any, flat: Any, message: Any) -> None:
    with pytest.raises(GuestFault) as caught:
        lifted(type_, flat, FakeSpace(size=4096))
    assert str(caught.value).startswith("test: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("encoding", "data", "units"),
    [
        ("utf8", b"\xff", 1),
        ("utf8", b"\xed\xa0\x80", 3),
        ("utf16", b"\0\xd8", 1),
        ("latin1+utf16", b"\0\xd8", 1 | 1 << 31),
    ],
)
def test_a_text_that_is_not_of_its_encoding_is_refused(encoding: Any, data: Any, units: Any) -> None:
    space = FakeSpace(encoding=encoding)
    space.memory[64 : 64 + len(data)] = data
    with pytest.raises(GuestFault, match="the text is not utf-"):
        lifted(t.STRING, [64, units], space)


@pytest.mark.parametrize("encoding", ["utf16", "latin1+utf16"])
def test_a_text_of_two_byte_units_must_be_aligned(encoding: Any) -> None:
    with pytest.raises(GuestFault, match="0x41 is not aligned to 2 bytes"):
        lifted(t.STRING, [65, 0], FakeSpace(encoding=encoding))


def test_lists_that_overlap_are_bounded_by_what_a_call_may_hand_over() -> None:
    space = FakeSpace(size=1 << 20)
    type_ = t.ListOf(t.ListOf(t.U8))
    count = Lift.LIMIT // (1 << 19) + 1
    for index in range(count):
        PAIR.pack_into(space.memory, 8 * index, 0, 1 << 19)
    with pytest.raises(GuestFault, match="the call hands over too much"):
        lifted(type_, [0, count], space)


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (t.U8, 256),
        (t.S8, -129),
        (t.U32, -1),
        (t.CHAR, "\ud800"),
        (t.STRING, "\ud800"),
        (t.FixedListOf(t.U16, 2), [1]),
        (t.FixedListOf(t.OptionOf(t.STRING), 2), ["a"]),
        (t.Record((t.Field("a", t.U8),)), {"b": 1}),
        (t.Variant((t.Case("a", None),)), ("b", None)),
        (t.Enum(("a",)), "b"),
        (t.Flags(("a",)), {"b"}),
        (t.ListOf(t.U16), [1 << 16]),
        (t.ListOf(t.U8), [256]),
        (t.F32, 1e300),
        (t.ResultOf(t.U8, None), 3),
    ],
)
@pytest.mark.parametrize("most", [0, 16])
def test_values_that_are_not_of_the_type_are_an_error_of_the_host(type_: Any, value: Any, most: Any) -> None:
    with pytest.raises(ValueError, match=r"^test: a value is not of its type: "):
        lower(FakeSpace(), Passing([type_], most), [value])


def test_places_that_the_guest_gives_are_checked() -> None:
    class Lying(FakeSpace):
        answer = 0

        def place(self, blocks: Any) -> Any:
            return [self.answer for _ in blocks]

    space = Lying(size=4096)
    for answer, message in [(4096, "realloc returned 0x1000 for 2 bytes"), (0xFFFF_FFFF, "realloc returned")]:
        space.answer = answer
        with pytest.raises(GuestFault, match=f"^test: {message}"):
            lowered(t.STRING, "ab", space)
    space.answer = 2
    with pytest.raises(GuestFault, match="aligned to 4"):
        lowered(t.ListOf(t.U32), [1], space)
    with pytest.raises(GuestFault, match=r"at 0x2 of a memory"):
        lower(space, Passing([t.U32], 0), [1], out=2)
    with pytest.raises(GuestFault, match=r"at 0x1000 of a memory"):
        lower(space, Passing([t.U32], 0), [1], out=4096)


def test_a_list_that_changes_while_it_is_handed_over_is_an_error() -> None:
    values = ["a", "b"]

    class Slow(FakeSpace):
        async def allocate(self, lower: Any) -> None:
            values.append("c")
            await super().allocate(lower)

    with pytest.raises(RuntimeError, match="changed while"):
        lowered(t.ListOf(t.STRING), values, Slow())


def test_a_lent_resource_stays_until_the_call_is_done() -> None:
    space, thing = FakeSpace(), HostObject()
    index = space.handles.add(HOST_RESOURCE.key, thing)
    lenders: list[int] = []
    assert Passing([t.Borrow(HOST_RESOURCE)], 16).lift(space, [index], "call", lenders) == [thing]
    with pytest.raises(GuestFault, match=f"call: handle {index} .* is lent to a call that isn't done"):
        Passing([t.Own(HOST_RESOURCE)], 16).lift(space, [index], "call")
    for each in lenders:
        space.handles.give_back(each)
    assert Passing([t.Own(HOST_RESOURCE)], 16).lift(space, [index], "call") == [thing]


def test_a_resource_is_lent_to_a_call_by_a_handle_of_its_own() -> None:
    space, thing, scope = FakeSpace(), HostObject(), BorrowScope()
    (index,) = lower(space, Passing([t.Borrow(HOST_RESOURCE)], 16), [thing], scope=scope)
    assert scope.borrows == 1
    assert space.handles.get(HOST_RESOURCE.key, index) is thing
    with pytest.raises(GuestFault, match="was lent to the guest, and is not its own"):
        Passing([t.Own(HOST_RESOURCE)], 16).lift(space, [index], "call")
    space.handles.drop(HOST_RESOURCE.key, index)
    assert scope.borrows == 0


def test_a_component_knows_its_own_resource_by_its_representation() -> None:
    mine = t.ResourceType("thing", "a:b/c", FakeSpace.instance)
    other = t.ResourceType("thing", "a:b/c", FakeSpace.instance + 1)
    space = FakeSpace()
    assert lower(space, Passing([t.Borrow(mine)], 16), [Resource(mine, 77)], scope=BorrowScope()) == [77]
    assert len(space.handles) == 0
    with pytest.raises(ValueError, match=r"where a resource a:b/c/thing of a component is expected"):
        lower(space, Passing([t.Own(mine)], 16), [Resource(other, 77)])


def test_an_error_context_keeps_its_message() -> None:
    space = FakeSpace()
    (index,) = lowered(t.ERROR_CONTEXT, ErrorContext("broken"), space)
    assert lifted(t.ERROR_CONTEXT, [index], space) == ErrorContext("broken")


@given(typed_values, st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_elements_of_streams_lie_one_after_the_other(typed: Any, count: Any) -> None:
    type_, value = typed
    space = FakeSpace()
    form = element_form(type_)
    values = bytes([value] * count) if type_ is t.U8 else [value] * count

    async def store() -> None:
        later = form.store(space, "test", 0x8000, values)
        if later is not None:
            await later

    asyncio.run(store())
    assert same(form.load(space, "test", 0x8000, count), values)


def test_a_type_is_worked_out_once() -> None:
    assert codec(t.ListOf(t.STRING)) is codec(t.ListOf(t.STRING))
