"""Generated modules of components' interfaces: values that pass through them both ways, and guests that lie."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bindgen.runtime import Err, GuestFault, component
from bindgen.runtime.text import UTF16_TAG, Encoding
from bindgen.wit_parser.model import ListOf, Primitive, TupleOf, Type
from tests.bindgen.component_types import (
    KEY,
    TYPES,
    handles_changed,
    interface_of,
    module_of,
    modules_of_text,
    values_of,
)
from tests.bindgen.specification import Guest, alignment, flat_types, size

FORMS = ("C", "Python")
"""The two forms of what lifts and lowers: bindgen/runtime/_support.c, and bindgen/runtime/component.py."""


def use_form(form: str, *modules: ModuleType) -> None:
    """Has generated modules lift and lower in that form."""
    assert component.Lift is not component.PureLift, "bindgen/runtime/_support.c is not built"
    chosen = (component.Lift, component.Lower) if form == "C" else (component.PureLift, component.PureLower)
    for module in modules:
        for name, found in zip(("Lift", "Lower"), chosen, strict=True):
            if hasattr(module, name):
                setattr(module, name, found)


# Any types, both ways.


class Relay:
    """A host whose function calls the one that the guest exports, and answers what that answers."""

    def __init__(self, module: ModuleType, guest: Guest) -> None:
        self._module = module
        self._guest = guest

    async def echo(self, *values: Any) -> Any:
        return await self._module.echo(self._guest, None, *values)


class Echo:
    """Calls an import with values as a component would, and is itself an export that returns what it gets."""

    def __init__(self, module: ModuleType, guest: Guest, params: Sequence[Type], result: Type) -> None:
        self._module = module
        self._guest = guest
        self._params = TupleOf(tuple(params))
        self._result = result
        self.received: list[Any] = []
        guest.function = self._answer

    def call(self, *values: Any) -> Any:
        """What the import returns."""
        guest = self._guest
        (definition,) = self._module.IMPORTS
        args = self._lowered(guest.lower(self._params, values), values)
        area = 0
        if len(flat_types(self._result)) > 1:
            area = guest.realloc(size(self._result), alignment(self._result))
            args.append(area)
        assert len(args) == len(definition.params)
        flat = asyncio.run(definition.call(Relay(self._module, guest), guest, tuple(args)))
        return guest.load(self._result, area) if area else guest.lift(self._result, iter([flat]))

    def _lowered(self, flat: list[Any], values: Any) -> list[Any]:
        if len(flat) <= 16:
            return flat
        area = self._guest.realloc(size(self._params), alignment(self._params))
        self._guest.store(self._params, values, area)
        return [area]

    def _answer(self, args: Sequence[Any]) -> Any:
        guest = self._guest
        if len(flat_types(self._params)) > 16:
            values = guest.load(self._params, args[0])
        else:
            values = guest.lift(self._params, iter(args))
        self.received.append(values)
        (value,) = values
        if len(flat_types(self._result)) > 1:
            area = guest.realloc(size(self._result), alignment(self._result))
            guest.store(self._result, value, area)
            return area
        (flat,) = guest.lower(self._result, value) or (None,)
        return flat


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("generated")


ENCODINGS: tuple[Encoding, ...] = ("utf8", "utf16", "latin1+utf16")


@pytest.mark.parametrize("form", FORMS)
@given(data=st.data())
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
def test_a_value_of_any_type_passes_four_times_unchanged(form: str, directory: Path, data: st.DataObject) -> None:
    """From the guest to the host as a parameter, back as one, and both ways once more as a result."""
    type_ = data.draw(TYPES)
    module = module_of(interface_of(("echo", [type_], type_)), directory)
    use_form(form, module)
    for _ in range(3):
        _passes(module, type_, data.draw(values_of(type_)), data.draw(st.sampled_from(ENCODINGS)))


def _passes(module: ModuleType, type_: Type, value: Any, encoding: Encoding) -> None:
    guest = Guest(encoding)
    things = [object() for _ in range(4)]
    held = handles_changed(type_, value, lambda number: guest.handles.add(KEY, things[number], ""))
    echo = Echo(module, guest, [type_], type_)
    answer = echo.call(held)
    assert handles_changed(type_, answer, lambda index: things.index(guest.handles.held[index][1])) == value
    assert len(echo.received) == len(guest.finished) == 1


# One interface by hand: what hosts see, and what lying guests are told.

WIT = """
package test:shop@1.2.3;

interface types {
  resource basket { constructor(); add: func(name: string); }
  record item { name: string, count: u16, price: option<s8> }
  variant trouble { gone, other(string) }
  flags wishes { fast, gift, silent }
  enum color { red, green }
}

interface shop {
  use types.{basket, item, trouble, wishes, color};
  resource clerk {
    constructor(name: string);
    ask: func(things: list<item>) -> result<string, trouble>;
    hire: static func() -> option<clerk>;
    wave: func() -> bool;
  }
  buy: func(it: basket, %with: wishes, in: color) -> result<_, trouble>;
  look: func(them: list<borrow<basket>>) -> u8;
  small: func(a: u8, b: s8, c: u16, d: s16, e: bool, f: char) -> s8;
  many: func(a: u64, b: u64, c: u64, d: u64, e: u64, f: u64, g: u64, h: u64, i: u64,
    j: u64, k: u64, l: u64, m: u64, n: u64, o: u64, p: u64, q: string) -> string;
  numbers: func(them: list<u32>, %flags: list<bool>) -> list<s16>;
  texts: func(them: list<string>, pairs: list<tuple<string, string>>) -> list<string>;
}

interface talk {
  use types.{basket, trouble};
  deliver: func(to: borrow<basket>, what: string) -> result<list<string>, trouble>;
  count: func() -> u32;
}

world all { import shop; export talk; }
"""


@pytest.fixture(scope="module")
def written(directory: Path) -> dict[str, ModuleType]:
    return modules_of_text(WIT, directory)


@pytest.fixture(params=FORMS)
def modules(written: dict[str, ModuleType], request: pytest.FixtureRequest) -> dict[str, ModuleType]:
    use_form(request.param, *written.values())
    return written


TEXTS = ListOf(Primitive.STRING)
PAIRS = ListOf(TupleOf((Primitive.STRING, Primitive.STRING)))


class Clerk:
    """A resource of the host; `trouble` is what it fails with."""

    trouble: Any

    async def ask(self, things: list[Any]) -> str:
        if not things:
            raise Err(self.trouble)
        return ", ".join(f"{each.count} {each.name} at {each.price}" for each in things)

    async def wave(self) -> bool:
        return True


class ShopHost:
    def __init__(self, types: ModuleType) -> None:
        self.types = types
        self.seen: list[Any] = []

    async def clerk_new(self, name: str) -> Clerk:
        clerk = Clerk()
        clerk.trouble = self.types.TroubleOther(f"{name}: nothing was asked for")
        return clerk

    async def clerk_hire(self) -> Clerk | None:
        return None

    async def buy(self, it: object, with_: Any, in_: Any) -> None:
        self.seen.append((it, with_, in_))
        if with_ == self.types.Wishes.SILENT:
            raise Err(self.types.TroubleGone())

    async def look(self, them: list[object]) -> int:
        self.seen.append(them)
        return len(them)

    async def small(self, *values: Any) -> int:
        self.seen.append(values)
        return -1

    async def many(self, *values: Any) -> str:
        self.seen.append(values)
        return str(values[-1])

    async def numbers(self, them: list[int], flags: list[bool]) -> list[int]:
        self.seen.append((them, flags))
        return [-1, 2]

    async def texts(self, them: list[str], pairs: list[tuple[str, str]]) -> list[str]:
        self.seen.append((them, pairs))
        return [*them, *(text for pair in pairs for text in pair)]


class Shop:
    """A guest of the interface and its host."""

    def __init__(self, modules: dict[str, ModuleType], encoding: Encoding = "utf8") -> None:
        self.modules = modules
        self.guest = Guest(encoding)
        self.host = ShopHost(modules["types"])
        self._by_name = {each.name: each for each in modules["shop"].IMPORTS}

    def call(self, name: str, *args: Any) -> Any:
        definition = self._by_name[name]
        assert len(args) == len(definition.params), definition.params
        return asyncio.run(definition.call(self.host, self.guest, args))

    def text(self, text: str) -> tuple[int, int]:
        return self.guest.place(Primitive.STRING, text)

    def add(self, key: str, value: object) -> int:
        return self.guest.handles.add(f"test:shop/{key}", value, "")


@pytest.fixture
def shop(modules: dict[str, ModuleType]) -> Shop:
    return Shop(modules)


def test_a_constructor_makes_what_the_guest_owns(shop: Shop) -> None:
    index = shop.call("[constructor]clerk", *shop.text("Ann"))
    key, clerk = shop.guest.handles.held[index]
    assert key == "test:shop/shop/clerk"
    assert isinstance(clerk, Clerk)
    assert shop.call("[method]clerk.wave", index) == 1
    assert index in shop.guest.handles.held  # it was lent


def test_an_error_is_lowered_with_its_text(shop: Shop) -> None:
    index = shop.call("[constructor]clerk", *shop.text("Ann"))
    shop.call("[method]clerk.ask", index, 8, 0, 0x100)
    tag, case, pointer, length = struct.unpack_from("<B3xB3xII", shop.guest.data, 0x100)
    assert (tag, case) == (1, 1)
    assert bytes(shop.guest.data[pointer : pointer + length]) == b"Ann: nothing was asked for"


def test_records_come_out_of_a_list(shop: Shop) -> None:
    index = shop.call("[constructor]clerk", *shop.text("Ann"))
    items = shop.guest.realloc(2 * 12, 4)
    for number, (name, count, price) in enumerate([("nut", 3, None), ("fig", 65_535, -4)]):
        pointer, length = shop.text(name)
        struct.pack_into(
            "<IIHBb", shop.guest.data, items + 12 * number, pointer, length, count, price is not None, price or 0
        )
    shop.call("[method]clerk.ask", index, items, 2, 0x100)
    tag, pointer, length = struct.unpack_from("<B3xII", shop.guest.data, 0x100)
    assert tag == 0
    assert bytes(shop.guest.data[pointer : pointer + length]) == b"3 nut at None, 65535 fig at -4"


def test_an_owned_resource_is_the_hosts_and_unknown_flags_are_ignored(shop: Shop) -> None:
    basket = object()
    index = shop.add("types/basket", basket)
    shop.call("buy", index, 0xFFFF_FFF9, 1, 0x100)
    types = shop.host.types
    assert shop.host.seen == [(basket, types.Wishes.FAST, types.Color.GREEN)]
    assert shop.guest.handles.held == {}
    assert shop.guest.data[0x100] == 0


def test_borrowed_resources_stay_the_guests(shop: Shop) -> None:
    baskets = [object(), object()]
    indices = [shop.add("types/basket", each) for each in baskets]
    struct.pack_into("<II", shop.guest.data, 0x200, *reversed(indices))
    assert shop.call("look", 0x200, 2) == 2
    assert shop.host.seen == [[baskets[1], baskets[0]]]
    assert len(shop.guest.handles.held) == 2


def test_what_is_too_wide_for_a_small_number_is_cut_off(shop: Shop) -> None:
    answer = shop.call("small", 0x1_23, 0xFFFF_FF80, 0xABCD_1234, 0x0001_8000, 0x100, 0x1F600)
    assert answer == 0xFFFF_FFFF
    assert shop.host.seen == [(0x23, -128, 0x1234, -32_768, True, "\N{GRINNING FACE}")]


def test_more_than_sixteen_flat_parameters_are_in_memory(shop: Shop) -> None:
    text = shop.text("end")
    struct.pack_into("<16QII", shop.guest.data, 0x400, *range(16), *text)
    shop.call("many", 0x400, 0x100)
    assert shop.host.seen == [(*range(16), "end")]
    pointer, length = struct.unpack_from("<II", shop.guest.data, 0x100)
    assert bytes(shop.guest.data[pointer : pointer + length]) == b"end"


def test_any_number_but_0_is_true_in_memory_too(shop: Shop) -> None:
    shop.guest.data[0x200:0x203] = bytes([0, 1, 200])
    struct.pack_into("<2I", shop.guest.data, 0x210, 7, 0xFFFF_FFFF)
    shop.call("numbers", 0x210, 2, 0x200, 3, 0x100)
    assert shop.host.seen == [([7, 0xFFFF_FFFF], [False, True, True])]
    pointer, length = struct.unpack_from("<II", shop.guest.data, 0x100)
    assert struct.unpack_from("<2h", shop.guest.data, pointer) == (-1, 2)
    assert (length, pointer % 2) == (2, 0)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_lists_of_texts_are_in_the_guests_encoding(modules: dict[str, ModuleType], encoding: Encoding) -> None:
    shop = Shop(modules, encoding)
    words, pairs = ["", "é", "\N{GRINNING FACE}x"], [("a", "€")]
    them = shop.guest.lower(TEXTS, words)
    both = shop.guest.lower(PAIRS, pairs)
    shop.call("texts", *them, *both, 0x100)
    assert shop.host.seen == [(words, pairs)]
    assert shop.guest.load(TEXTS, 0x100) == [*words, "a", "€"]


# Guests that lie. Memory ends at 0x10000.

END = 0x1_0000
LIES = [
    ("[constructor]clerk", (END, 1), "name: 1 bytes at 0x10000 reach past the end of memory, 0x10000"),
    ("[constructor]clerk", (0xFFFF_FFFF, 0xFFFF_FFFF), "name: the text has 4294967295 bytes; it may have 268435455"),
    ("[constructor]clerk", (0xFFFF_FFFF, 0), "name: 0 bytes at 0xffffffff reach past the end of memory, 0x10000"),
    ("[constructor]clerk", (0x300, 2), "name: the text is not UTF-8: invalid start byte at byte 0"),
    ("[method]clerk.wave", (9,), "self: 9 is no handle of test:shop/shop/clerk"),
    ("[method]clerk.wave", (2,), "self: 2 is no handle of test:shop/shop/clerk"),
    ("[method]clerk.ask", (1, 2, 1, 0x100), "things: the pointer 0x2 is not a multiple of 4"),
    ("[method]clerk.ask", (1, 4, 0xFFFF_FFFF, 0x100), "things: 51539607540 bytes at 0x4 reach past the end"),
    ("[method]clerk.ask", (1, 4, 0, 0x102), "result: the pointer 0x102 is not a multiple of 4"),
    ("[method]clerk.ask", (1, 4, 0, END - 4), "result: 16 bytes at 0xfffc reach past the end of memory"),
    ("[method]clerk.ask", (1, 0x300, 1, 0x100), "things: 2 is not a case of option"),
    ("buy", (2, 0, 2, 0x100), "in: 2 is not a case of color"),
    ("buy", (1, 0, 0, 0x100), "it: 1 is no handle of test:shop/types/basket"),
    ("look", (0x2FE, 1), "them: the pointer 0x2fe is not a multiple of 4"),
    ("small", (0, 0, 0, 0, 0, 0xD800), "f: 0xd800 is not a Unicode scalar value"),
    ("small", (0, 0, 0, 0, 0, 0x11_0000), "f: 0x110000 is not a Unicode scalar value"),
    ("many", (0x404, 0x100), "parameters: the pointer 0x404 is not a multiple of 8"),
    ("many", (END - 8, 0x100), "parameters: 136 bytes at 0xfff8 reach past the end of memory"),
    ("numbers", (2, 0, 0, 0, 0x100), "them: the pointer 0x2 is not a multiple of 4"),
    ("numbers", (END, 1, 0, 0, 0x100), "them: 4 bytes at 0x10000 reach past the end of memory"),
    ("texts", (2, 0, 0, 0, 0x100), "them: the pointer 0x2 is not a multiple of 4"),
    ("texts", (0, 0, 6, 0, 0x100), "pairs: the pointer 0x6 is not a multiple of 4"),
    ("texts", (0, 0, END + 4, 0, 0x100), "pairs: 0 bytes at 0x10004 reach past the end of memory"),
    ("texts", (0x308, 1, 0, 0, 0x100), "them: 255 bytes at 0xffffff reach past the end of memory"),
]


@pytest.mark.parametrize(("name", "args", "message"), LIES)
def test_a_lie_ends_the_guest_and_is_named(shop: Shop, name: str, args: tuple[int, ...], message: str) -> None:
    clerk = Clerk()
    clerk.trouble = shop.host.types.TroubleGone()
    assert shop.add("shop/clerk", clerk) == 1
    assert shop.add("types/basket", object()) == 2
    # Bytes that are no text; a record whose option has a third case; a text that is far away.
    shop.guest.data[0x300:0x310] = b"\xff\xff\0\0" + bytes(4) + struct.pack("<II", 0xFF_FFFF, 0xFF)
    struct.pack_into("<IIHBb", shop.guest.data, 0x300, 0xFFFF if "ask" not in name else 0, 0, 0, 2, 0)
    if name == "texts":
        struct.pack_into("<II", shop.guest.data, 0x308, 0xFF_FFFF, 0xFF)
    with pytest.raises(GuestFault) as raised:
        shop.call(name, *args)
    assert str(raised.value).startswith(f"test:shop/shop@1.2.3: {name}: {message}")
    assert shop.host.seen == []


@pytest.mark.parametrize(
    ("encoding", "args", "message"),
    [
        ("utf16", (0x301, 1), "the pointer 0x301 is not a multiple of 2"),
        ("utf16", (0x300, 1), "the text is not UTF-16-LE: unexpected end of data at byte 0"),
        ("utf16", (END - 2, 2), "4 bytes at 0xfffe reach past the end of memory"),
        ("utf16", (0, 1 << 27), "the text has 268435456 bytes; it may have 268435455"),
        ("latin1+utf16", (0x301, 1), "the pointer 0x301 is not a multiple of 2"),
        ("latin1+utf16", (0x300, 1 | UTF16_TAG), "the text is not UTF-16-LE: unexpected end of data at byte 0"),
    ],
)
def test_a_text_of_another_encoding_is_checked(
    modules: dict[str, ModuleType], encoding: Encoding, args: tuple[int, int], message: str
) -> None:
    shop = Shop(modules, encoding)
    shop.guest.data[0x300:0x302] = b"\x00\xd8"  # half of a pair of surrogates
    with pytest.raises(GuestFault) as raised:
        shop.call("[constructor]clerk", *args)
    assert str(raised.value).startswith(f"test:shop/shop@1.2.3: [constructor]clerk: name: {message}")


@pytest.mark.parametrize("lie", [0, 0x1_0000, 0x301])
def test_useless_memory_from_realloc_ends_the_guest(shop: Shop, lie: int) -> None:
    shop.guest.realloc = lambda _size, _align: lie
    with pytest.raises(GuestFault, match=f"the function's realloc returned {lie:#x} for 4 bytes aligned to 2"):
        shop.call("numbers", 0, 0, 0, 0, 0x100)


# Exports.


def deliver(shop: Shop, answer: Any) -> Any:
    """Calls the guest's `deliver`, which returns what `answer` makes of its arguments."""
    shop.guest.function = answer
    talk = shop.modules["talk"]
    return asyncio.run(talk.deliver(shop.guest, None, "basket", "bread"))


def test_an_export_gets_its_arguments_and_the_result_is_lifted_before_it_ends(shop: Shop) -> None:
    def answer(args: Sequence[Any]) -> int:
        handle, pointer, length = args
        assert shop.guest.handles.held[handle] == ("test:shop/types/basket", "basket")
        texts = shop.guest.place(TEXTS, ["got", str(shop.guest.data[pointer : pointer + length], "utf-8")])
        struct.pack_into("<B3xII", shop.guest.data, 0x100, 0, *texts)
        return 0x100

    assert deliver(shop, answer) == ["got", "bread"]
    assert shop.guest.finished == [0x100]


def test_an_error_of_an_export_is_raised_when_it_has_ended(shop: Shop) -> None:
    def answer(_args: Sequence[Any]) -> int:
        struct.pack_into("<B3xB", shop.guest.data, 0x100, 1, 0)
        return 0x100

    with pytest.raises(Err) as raised:
        deliver(shop, answer)
    assert raised.value.value == shop.modules["types"].TroubleGone()
    assert shop.guest.finished == [0x100]


@pytest.mark.parametrize(
    ("pointer", "tag", "message"),
    [
        (0x102, 0, "the pointer 0x102 is not a multiple of 4"),
        (0xFFFC, 0, "16 bytes at 0xfffc reach past the end of memory"),
        (0x100, 2, "2 is not a case of result"),
    ],
)
def test_a_result_of_an_export_that_is_none_ends_the_guest(shop: Shop, pointer: int, tag: int, message: str) -> None:
    shop.guest.data[0x100] = tag
    with pytest.raises(GuestFault) as raised:
        deliver(shop, lambda _args: pointer)
    assert message in str(raised.value)
    assert shop.guest.finished == []


def test_a_flat_result_of_an_export_is_returned(shop: Shop) -> None:
    shop.guest.function = lambda _args: 7
    assert asyncio.run(shop.modules["talk"].count(shop.guest, None)) == 7
    assert shop.guest.finished == [7]
