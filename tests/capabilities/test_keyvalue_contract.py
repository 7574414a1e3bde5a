"""What every key/value backend does alike, through `keyvalue` and through `kv`, the interface's form of 2022.

The stores of the native machine are among them: a guest can't tell which kind of machine it runs on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from bindgen.runtime import Err
from capabilities.bindings.keyvalue import (
    Keyvalue,
    KeyvalueErrorInvalidKey,
    KeyvalueErrorInvalidValue,
    KeyvalueErrorKeyNotFound,
)
from capabilities.bindings.kv import Kv
from capabilities.bindings.types import ErrorErrorWithDescription
from capabilities.keyvalue import KEY_LIMIT, VALUE_LIMIT
from capabilities.keyvalue.host import KeyvalueStores, KvStores
from tests.keyvalue_subjects import ANY_NAME, NATIVE, SERVICES, Subject


@dataclass(slots=True)
class Stores:
    """A backend behind one of the two interfaces."""

    subject: Subject
    open_named: Callable[[str], Awaitable[Keyvalue | Kv]]
    described: bool
    """Whether errors are texts alone."""

    async def open(self, name: str) -> Keyvalue | Kv:
        self.subject.prepare(name)
        return await self.open_named(name)

    async def check_fails(self, call: Awaitable[Any], case: type[Any]) -> None:
        with pytest.raises(Err) as caught:
            await call
        error: Any = caught.value.value
        assert type(error) is (ErrorErrorWithDescription if self.described else case)
        assert error.value


Scenario = Callable[[Stores], Awaitable[None]]


@pytest.fixture(params=[*ANY_NAME, *SERVICES, *NATIVE])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["keyvalue", "kv"])
def run(request: pytest.FixtureRequest, subject: Subject) -> Callable[[Scenario], None]:
    """Runs a scenario against a backend behind an interface."""

    async def main(scenario: Scenario) -> None:
        async with subject.make() as opened:
            stores = KeyvalueStores({"*": opened})
            if request.param == "kv":
                await scenario(Stores(subject, KvStores(stores).kv_open, described=True))
            else:
                await scenario(Stores(subject, stores.keyvalue_open, described=False))

    return lambda scenario: asyncio.run(main(scenario))


Run = Callable[[Scenario], None]


def test_a_value_comes_back_byte_for_byte(run: Run) -> None:
    async def scenario(stores: Stores) -> None:
        store = await stores.open("store")
        for value in (
            bytes(range(256)),
            b"\r\n",
            b"\0",
            b"\xff\xfe",
            bytes(min(1_000_003, stores.subject.value_limit)),
        ):
            await store.set("key", value)
            assert await store.get("key") == value

    run(scenario)


def test_an_empty_value_is_a_value_and_no_missing_key(run: Run) -> None:
    async def scenario(stores: Stores) -> None:
        store = await stores.open("store")
        await store.set("empty", b"")
        assert await store.get("empty") == b""
        assert await store.keys() == ["empty"]
        await store.delete("empty")
        await stores.check_fails(store.get("empty"), KeyvalueErrorKeyNotFound)

    run(scenario)


def test_a_missing_key_is_key_not_found(run: Run) -> None:
    async def scenario(stores: Stores) -> None:
        store = await stores.open("store")
        await stores.check_fails(store.get("missing"), KeyvalueErrorKeyNotFound)
        await stores.check_fails(store.delete("missing"), KeyvalueErrorKeyNotFound)
        await store.set("other", b"value")
        await stores.check_fails(store.get("missing"), KeyvalueErrorKeyNotFound)
        await stores.check_fails(store.delete("missing"), KeyvalueErrorKeyNotFound)

    run(scenario)


def test_a_deleted_key_is_gone(run: Run) -> None:
    async def scenario(stores: Stores) -> None:
        store = await stores.open("store")
        await store.set("key", b"value")
        await store.delete("key")
        assert await store.keys() == []
        await stores.check_fails(store.get("key"), KeyvalueErrorKeyNotFound)
        await stores.check_fails(store.delete("key"), KeyvalueErrorKeyNotFound)

    run(scenario)


def test_set_replaces_the_whole_value(run: Run) -> None:
    async def scenario(stores: Stores) -> None:
        store = await stores.open("store")
        for value in (b"first", b"a longer second", b"3"):
            await store.set("key", value)
            assert await store.get("key") == value
        assert await store.keys() == ["key"]

    run(scenario)


def test_an_empty_store_lists_no_keys(run: Run) -> None:
    async def scenario(stores: Stores) -> None:
        assert await (await stores.open("nothing was ever written here")).keys() == []

    run(scenario)


def test_any_text_is_a_key_of_its_own(run: Run) -> None:
    async def scenario(stores: Stores) -> None:
        store = await stores.open("store")
        keys = stores.subject.keys
        for number, key in enumerate(keys):
            await store.set(key, f"value {number}".encode())
        assert sorted(await store.keys()) == sorted(keys)
        for number, key in enumerate(keys):
            assert await store.get(key) == f"value {number}".encode()
        for number, key in enumerate(keys):
            await store.delete(key)
            assert sorted(await store.keys()) == sorted(keys[number + 1 :])

    run(scenario)


def test_keys_are_listed_exactly_when_they_are_many(run: Run) -> None:
    async def scenario(stores: Stores) -> None:
        store, other = await stores.open("store"), await stores.open("store2")
        keys = [f"key {number}" for number in range(stores.subject.many)]
        await asyncio.gather(*(store.set(key, b"") for key in keys), *(other.set(key, b"") for key in keys[:100]))
        assert sorted(await store.keys()) == sorted(keys)

    run(scenario)


def test_a_key_may_repeat_the_name_of_its_store(run: Run) -> None:
    async def scenario(stores: Stores) -> None:
        store = await stores.open("store")
        keys = ["store:", "store:store:", "store", "store:a:store:"]
        for key in keys:
            await store.set(key, b"")
        assert sorted(await store.keys()) == sorted(keys)

    run(scenario)


def test_stores_of_other_names_see_nothing_of_each_other(run: Run) -> None:
    async def scenario(stores: Stores) -> None:
        keys = ["key", "b:key", ":key", "3Ab:key", "b/key", "a/key"]
        opened = {name: await stores.open(name) for name in stores.subject.names}
        for name, store in opened.items():
            assert await store.keys() == []
            for key in keys:
                await stores.check_fails(store.get(key), KeyvalueErrorKeyNotFound)
                await stores.check_fails(store.delete(key), KeyvalueErrorKeyNotFound)
                await store.set(key, f"{name} {key}".encode())
        for name, store in opened.items():
            assert sorted(await store.keys()) == sorted(keys)
            assert [await store.get(key) for key in keys] == [f"{name} {key}".encode() for key in keys]

    run(scenario)


def test_a_store_that_is_opened_twice_is_one_store(run: Run) -> None:
    async def scenario(stores: Stores) -> None:
        one, other = await stores.open("store"), await stores.open("store")
        await one.set("key", b"value")
        assert await other.get("key") == b"value"

    run(scenario)


def test_a_key_past_the_limit_is_invalid(run: Run) -> None:
    async def scenario(stores: Stores) -> None:
        store = await stores.open("store")
        for key in ("k" * (KEY_LIMIT + 1), "é" * (KEY_LIMIT // 2 + 1)):
            await stores.check_fails(store.get(key), KeyvalueErrorInvalidKey)
            await stores.check_fails(store.set(key, b""), KeyvalueErrorInvalidKey)
            await stores.check_fails(store.delete(key), KeyvalueErrorInvalidKey)
        await stores.check_fails(stores.open("n" * (KEY_LIMIT + 1)), KeyvalueErrorInvalidKey)

    run(scenario)


@pytest.mark.parametrize("kind", [*ANY_NAME, *NATIVE])
def test_the_longest_name_is_a_name(run: Run) -> None:
    async def scenario(stores: Stores) -> None:
        store = await stores.open("n" * KEY_LIMIT)
        await store.set("key", b"value")
        assert await store.get("key") == b"value"
        assert await (await stores.open("n" * (KEY_LIMIT - 1))).keys() == []

    run(scenario)


def test_a_value_past_the_limit_is_invalid(run: Run) -> None:
    async def scenario(stores: Stores) -> None:
        store = await stores.open("store")
        await store.set("key", b"value")
        await stores.check_fails(store.set("key", bytes(VALUE_LIMIT + 1)), KeyvalueErrorInvalidValue)
        assert await store.get("key") == b"value"

    run(scenario)


def test_the_longest_value_is_kept(subject: Subject) -> None:
    async def scenario() -> None:
        subject.prepare("store")
        async with subject.make() as opened:
            store = await opened.open("store")
            value = b"\xff" * subject.value_limit
            await store.set("key", value)
            assert await store.get("key") == value

    asyncio.run(scenario())


def test_a_thousand_gets_at_once_are_all_answered(run: Run) -> None:
    async def scenario(stores: Stores) -> None:
        store = await stores.open("store")
        keys = [f"key {number}" for number in range(min(1_000, stores.subject.many))]
        await asyncio.gather(*(store.set(key, key.encode()) for key in keys))
        values = await asyncio.gather(*(store.get(key) for key in keys))
        assert values == [key.encode() for key in keys]

    run(scenario)


def test_of_many_deletes_at_once_one_finds_the_key(run: Run) -> None:
    async def scenario(stores: Stores) -> None:
        store = await stores.open("store")
        await store.set("key", b"value")
        answers = await asyncio.gather(*(store.delete("key") for _ in range(50)), return_exceptions=True)
        assert answers.count(None) == 1
        assert sum(isinstance(answer, Err) for answer in answers) == 49

    run(scenario)


def test_a_cancelled_call_leaves_the_others_their_answers(run: Run) -> None:
    async def scenario(stores: Stores) -> None:
        store = await stores.open("store")
        keys = [f"key {number}" for number in range(200)]
        await asyncio.gather(*(store.set(key, key.encode()) for key in keys))
        tasks = [asyncio.ensure_future(store.get(key)) for key in keys]
        await asyncio.sleep(0.001)
        for task in tasks[::2]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert answers[1::2] == [key.encode() for key in keys[1::2]]
        assert await asyncio.gather(*(store.get(key) for key in keys)) == [key.encode() for key in keys]

    run(scenario)
