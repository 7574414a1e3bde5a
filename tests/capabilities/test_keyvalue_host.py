"""Which stores a guest may open, and what it's told of the others."""

from __future__ import annotations

import asyncio

import pytest

from bindgen.runtime import Err
from capabilities.bindings.keyvalue import KeyvalueErrorUnexpectedError
from capabilities.bindings.types import ErrorErrorWithDescription
from capabilities.keyvalue.host import KeyvalueStores, KvStores
from capabilities.keyvalue.memory import MemoryStores


def test_a_granted_name_opens_its_own_backend() -> None:
    async def scenario() -> None:
        one, other = MemoryStores(), MemoryStores()
        stores = KeyvalueStores({"one": one, "other": other})
        await (await stores.keyvalue_open("one")).set("key", b"value")
        assert await (await one.open("one")).get("key") == b"value"
        assert other.used_bytes == 0

    asyncio.run(scenario())


def test_a_name_that_is_not_granted_is_an_error_that_says_what_is() -> None:
    async def scenario() -> None:
        stores = KeyvalueStores({"cats": MemoryStores(), "dogs": MemoryStores()})
        with pytest.raises(Err) as caught:
            await stores.keyvalue_open("mice")
        assert caught.value.value == KeyvalueErrorUnexpectedError("no store 'mice' is granted; granted: 'cats', 'dogs'")
        with pytest.raises(Err) as caught:
            await KvStores(stores).kv_open("mice")
        assert caught.value.value == ErrorErrorWithDescription("no store 'mice' is granted; granted: 'cats', 'dogs'")

    asyncio.run(scenario())


def test_without_grants_nothing_opens() -> None:
    async def scenario() -> None:
        for name in ("", "*", "store"):
            with pytest.raises(Err):
                await KeyvalueStores({}).keyvalue_open(name)

    asyncio.run(scenario())


def test_a_star_is_no_pattern_inside_a_name() -> None:
    async def scenario() -> None:
        with pytest.raises(Err):
            await KeyvalueStores({"cats*": MemoryStores()}).keyvalue_open("cats2")

    asyncio.run(scenario())


def test_a_star_grants_every_name_that_has_no_grant_of_its_own() -> None:
    async def scenario() -> None:
        every, cats = MemoryStores(), MemoryStores()
        stores = KeyvalueStores({"*": every, "cats": cats})
        for name in ("", "*", "dogs"):
            await (await stores.keyvalue_open(name)).set("key", b"value")
        assert cats.used_bytes == 0
        await (await stores.keyvalue_open("cats")).set("key", b"value")
        assert cats.used_bytes > 0

    asyncio.run(scenario())


def test_a_hostile_name_is_shown_on_one_short_line() -> None:
    async def scenario() -> None:
        with pytest.raises(Err) as caught:
            await KeyvalueStores({"cats": MemoryStores()}).keyvalue_open("a\nb\x1b[31m" + "x" * 1_000_000)
        text = caught.value.value.value
        assert len(text) < 200
        assert text.isprintable()

    asyncio.run(scenario())


def test_a_guest_of_2022_gets_the_text_of_the_same_error() -> None:
    async def scenario() -> None:
        stores = KeyvalueStores({"*": MemoryStores()})
        store, described = await stores.keyvalue_open("store"), await KvStores(stores).kv_open("store")
        with pytest.raises(Err) as caught:
            await store.get("key")
        with pytest.raises(Err) as caught_described:
            await described.get("key")
        assert caught_described.value.value == ErrorErrorWithDescription(caught.value.value.value)

    asyncio.run(scenario())
