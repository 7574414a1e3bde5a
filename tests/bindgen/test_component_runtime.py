"""What lifts and lowers values of components, in both of its forms, with texts in all encodings."""

from __future__ import annotations

import asyncio
import gc
import struct
import sys
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindgen.runtime import GuestFault, component
from bindgen.runtime.component import signed
from bindgen.runtime.text import UTF16_TAG, Encoding, codec_of, encode
from tests.bindgen.specification import Guest

ENCODINGS: tuple[Encoding, ...] = ("utf8", "utf16", "latin1+utf16")


@pytest.fixture(params=["C", "Python"])
def forms(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """The classes that lift and lower."""
    if request.param == "Python":
        return component.PureLift, component.PureLower
    assert component.Lift is not component.PureLift, "bindgen/runtime/_support.c is not built"
    return component.Lift, component.Lower


# Encodings.


@given(st.text(), st.sampled_from(ENCODINGS))
def test_what_is_encoded_can_be_read(text: str, encoding: Encoding) -> None:
    data, units = encode(text, encoding)
    codec, size = codec_of(units, encoding)
    assert size == len(data)
    assert data.decode(codec) == text


def test_a_text_takes_a_byte_a_character_where_it_can() -> None:
    assert encode("aé", "latin1+utf16") == (b"a\xe9", 2)
    assert encode("a€", "latin1+utf16") == ("a€".encode("utf-16-le"), 2 | UTF16_TAG)
    assert encode("aé", "utf16") == ("aé".encode("utf-16-le"), 2)
    assert encode("aé", "utf8") == ("aé".encode(), 3)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_surrogate_is_refused(encoding: Encoding) -> None:
    with pytest.raises(UnicodeEncodeError):
        encode("\ud800", encoding)


# Lifting.


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("text", ["", "plain", "é", "€\N{GRINNING FACE}"])
def test_a_text_is_read_where_it_is_and_where_a_pair_says_so(
    forms: tuple[Any, Any], encoding: Encoding, text: str
) -> None:
    guest = Guest(encoding)
    data, units = encode(text, encoding)
    guest.data[0x100 : 0x100 + len(data)] = data
    struct.pack_into("<II", guest.data, 0x200, 0x100, units)
    lift = forms[0](guest, "here")
    assert lift.string(0x100, units) == text
    assert lift.string_at(0x200) == text
    assert lift.texts(0x200, 1) == [text]
    assert lift.rows(1, 0x200, 1) == [(text,)]


def test_an_empty_list_has_to_lie_in_memory_and_be_aligned(forms: tuple[Any, Any]) -> None:
    lift = forms[0](Guest(), "here")
    for empty in (lift.bytes(0x1_0000, 0), lift.string(0x1_0000, 0), lift.texts(0x1_0000, 0), lift.rows(2, 8, 0)):
        assert not empty
    for call in (
        lambda: lift.bytes(0x1_0001, 0),
        lambda: lift.string(0x1_0001, 0),
        lambda: lift.texts(2, 0),
        lambda: lift.rows(2, 0x1_0004, 0),
        lambda: lift.list(8, 8, 8, 4, 0),
        lambda: lift.numbers(4, 2, 0),
    ):
        with pytest.raises(GuestFault, match=r"here: result: (the pointer|0 bytes at)"):
            call()


def test_an_area_has_to_be_aligned_and_lie_in_memory(forms: tuple[Any, Any]) -> None:
    lift = forms[0](Guest(), "here")
    lift.area(0xFFF8, 8, 8)
    with pytest.raises(GuestFault, match="here: result: the pointer 0xfffc is not a multiple of 8"):
        lift.area(0xFFFC, 4, 8)
    with pytest.raises(GuestFault, match="here: result: 9 bytes at 0xfff8 reach past the end of memory, 0x10000"):
        lift.area(0xFFF8, 9, 8)
    with pytest.raises(GuestFault, match="reach past the end"):
        lift.area(0xFFFF_FFF8, 0xFFFF_FFFF, 8)


def test_handles_are_asked_for_with_the_place_that_messages_name(forms: tuple[Any, Any]) -> None:
    guest = Guest()
    lift = forms[0](guest, "here")
    lift.at = "there"
    index = guest.handles.add("key", "value", "")
    assert lift.borrow("key", index) == "value"
    assert lift.own("key", index) == "value"
    for ask in (lift.borrow, lift.own):
        with pytest.raises(GuestFault, match="here: there: 1 is no handle of key"):
            ask("key", index)
    lending = forms[0](guest, "here", lends=True)
    index = guest.handles.add("key", "value", "")
    assert lending.borrow("key", index) == "value"
    assert (lending.lent, guest.handles.lent, lift.lent) == ([index], [index], None)
    assert forms[1](guest, "here").own("key", 3) == 2


def test_a_call_may_hand_over_so_much_and_no_more(forms: tuple[Any, Any]) -> None:
    guest = Guest(size=1 << 20)
    lift = forms[0](guest, "here")
    for _ in range(32):
        lift.string(0, 1 << 20)  # zeros are text
    with pytest.raises(GuestFault, match="the call hands over too much"):
        lift.bytes(0, 1)


# Lowering.


class Careful(Guest):
    """A guest that gives long lists their texts, as an engine does."""

    async def allocate(self, lower: Any) -> None:
        pointers = [self.realloc(size, align) for size, align, _ in lower.blocks]
        lower.place(pointers)
        if lower.later:
            await lower.place_later(pointers, lambda sizes: self._more(sizes, lower.text_align))

    async def _more(self, sizes: Sequence[int], align: int) -> list[int]:
        await asyncio.sleep(0)
        return [self.realloc(size, align) for size in sizes]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("count", [3, 5000])
def test_lists_of_texts_are_written_in_the_guests_encoding(
    forms: tuple[Any, Any], encoding: Encoding, count: int
) -> None:
    guest = Careful(encoding, 1 << 20)
    texts = [f"{number} é €"[: number % 7] for number in range(count)]
    lower = forms[1](guest, "here")
    lower.string("é")
    lower.texts(texts)
    lower.rows([(text, "x") for text in texts], 2)
    asyncio.run(guest.allocate(lower))
    word, table, rows = lower.take(), lower.take(), lower.take()
    lift = forms[0](guest, "here")
    assert lift.string(*word) == "é"
    assert lift.texts(*table) == texts
    assert lift.rows(2, *rows) == [(text, "x") for text in texts]


def test_texts_are_aligned_as_their_encoding_asks(forms: tuple[Any, Any]) -> None:
    for encoding, align in (("utf8", 1), ("utf16", 2), ("latin1+utf16", 2)):
        lower = forms[1](Guest(encoding), "here")
        lower.string("aé")
        assert [(size, at) for size, at, _ in lower.blocks] == [(len(encode("aé", encoding)[0]), align)]
        assert lower.text_align == align
        with pytest.raises(GuestFault, match="here: the function's realloc returned"):
            lower.place([0x1_0000 if align == 1 else 0x101])


def test_what_is_no_text_is_the_hosts_mistake(forms: tuple[Any, Any]) -> None:
    for encoding in ENCODINGS:
        lower = forms[1](Guest(encoding), "here")
        for value in (None, b"bytes", 5):
            with pytest.raises((TypeError, AttributeError)):
                lower.string(value)
        with pytest.raises(UnicodeEncodeError):
            lower.string("\ud800")


def test_a_guest_without_an_encoding_is_refused(forms: tuple[Any, Any]) -> None:
    class Bare:
        memory = memoryview(bytearray(8))
        handles = None

    for each in forms:
        with pytest.raises(AttributeError, match="encoding"):
            each(Bare(), "here")


# Numbers.


@given(st.integers(0, (1 << 32) - 1), st.sampled_from([8, 16]))
def test_a_small_signed_number_is_what_its_lowest_bits_mean(value: int, bits: int) -> None:
    low = (value & (1 << bits) - 1).to_bytes(bits // 8, "little")
    assert signed(value, bits) == int.from_bytes(low, "little", signed=True)


# Memory of our own.


@pytest.mark.parametrize("which", [0, 1])
def test_nothing_is_kept_of_a_call_that_is_done(forms: tuple[Any, Any], which: int) -> None:
    guest = Guest("utf16")
    found = weakref.ref(guest)
    before = sys.getrefcount("utf16")
    for _ in range(100):
        made = forms[which](guest, "here")
        if which:
            made.string("text")
            made.place([0x100])
        else:
            made.string(0, 4)
    del made, guest
    gc.collect()
    assert found() is None
    assert sys.getrefcount("utf16") - before < 10
