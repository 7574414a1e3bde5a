"""Which stores a guest may open, and what it's told of the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bindgen.runtime import Err
from capabilities import keyvalue, notices
from capabilities.bindings.keyvalue import (
    KeyvalueErrorAuthenticationError,
    KeyvalueErrorConnectionError,
    KeyvalueErrorInvalidKey,
    KeyvalueErrorInvalidValue,
    KeyvalueErrorIoError,
    KeyvalueErrorKeyNotFound,
    KeyvalueErrorTimeoutError,
    KeyvalueErrorUnexpectedError,
)
from capabilities.bindings.types import ErrorErrorWithDescription
from capabilities.errors import CapabilityError
from capabilities.keyvalue.filesystem import FilesystemBackend
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


class Failing:
    """A store whose every call fails with one error, and the backend that opens it."""

    REQUIRED = OPTIONAL = ()

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def open(self, name: str) -> Any:
        return self

    async def close(self) -> None:
        pass

    async def get(self, key: str) -> bytes:
        raise self._error

    async def set(self, key: str, value: bytes) -> None:
        raise self._error

    async def keys(self) -> list[str]:
        raise self._error

    async def delete(self, key: str) -> None:
        raise self._error


async def errors(error: Exception) -> list[Any]:
    """What a guest gets of each call, where its store fails with this error."""
    stores = KeyvalueStores({"*": Failing(error)})
    found = []
    for store in (await stores.keyvalue_open("store"), await KvStores(stores).kv_open("store")):
        for call in (store.get("key"), store.set("key", b""), store.keys(), store.delete("key")):
            with pytest.raises(Err) as caught:
                await call
            found.append(caught.value.value)
    return found


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    notices.forget()
    with caplog.at_level(logging.WARNING, "slight_py"):
        yield caplog
    notices.forget()


@pytest.mark.parametrize(
    ("kind", "case"),
    [
        (keyvalue.KeyNotFound, KeyvalueErrorKeyNotFound),
        (keyvalue.InvalidKey, KeyvalueErrorInvalidKey),
        (keyvalue.InvalidValue, KeyvalueErrorInvalidValue),
        (keyvalue.ConnectionFailed, KeyvalueErrorConnectionError),
        (keyvalue.AuthenticationFailed, KeyvalueErrorAuthenticationError),
        (keyvalue.TimedOut, KeyvalueErrorTimeoutError),
        (keyvalue.IoFailed, KeyvalueErrorIoError),
        (keyvalue.StoreError, KeyvalueErrorUnexpectedError),
        (CapabilityError, KeyvalueErrorUnexpectedError),
    ],
)
def test_each_class_of_errors_is_a_case_of_the_interface(
    kind: type[CapabilityError], case: Any, told: pytest.LogCaptureFixture
) -> None:
    class Derived(kind):
        pass

    for error in (kind("why"), Derived("why")):
        assert asyncio.run(errors(error)) == [case("why")] * 4 + [ErrorErrorWithDescription("why")] * 4
    assert not told.messages


def test_the_user_is_told_a_notice_once_and_the_guest_never(told: pytest.LogCaptureFixture) -> None:
    error = keyvalue.ConnectionFailed("it is away", "redis 127.0.0.1:1: it is away; start it")
    assert asyncio.run(errors(error))[:4] == [KeyvalueErrorConnectionError("it is away")] * 4
    assert told.messages == ["redis 127.0.0.1:1: it is away; start it"]


def test_a_backend_may_raise_the_interfaces_own_errors(told: pytest.LogCaptureFixture) -> None:
    error = Err(KeyvalueErrorTimeoutError("why"))
    expected = [KeyvalueErrorTimeoutError("why")] * 4 + [ErrorErrorWithDescription("why")] * 4
    assert asyncio.run(errors(error)) == expected


def test_files_are_in_a_directory_of_the_users_own_only_where_every_name_is_granted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "named").mkdir(mode=0o700)
    (tmp_path / "named" / "key").write_bytes(b"what slight wrote")

    async def scenario() -> None:
        named = await KeyvalueStores({"named": FilesystemBackend({})}).keyvalue_open("named")
        assert await named.get("key") == b"what slight wrote"
        chosen = await KeyvalueStores({"*": FilesystemBackend({})}).keyvalue_open("named")
        assert await chosen.keys() == []

    asyncio.run(scenario())
