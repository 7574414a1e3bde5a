"""`wasi:keyvalue`, both drafts, over every backend that keeps keys and values."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindgen.runtime import Err
from capabilities import keyvalue as stores
from capabilities import notices, registry
from capabilities.bindings.keyvalue import KeyvalueErrorKeyNotFound, KeyvalueErrorUnexpectedError
from capabilities.bindings.wasi_keyvalue_0_2_0_draft import store as store1
from capabilities.bindings.wasi_keyvalue_0_2_0_draft2 import atomics as atomics2
from capabilities.bindings.wasi_keyvalue_0_2_0_draft2 import store as store2
from capabilities.keyvalue import KEY_LIMIT, VALUE_LIMIT, dapr
from capabilities.keyvalue.filesystem import FilesystemBackend
from capabilities.keyvalue.host import hosts
from capabilities.keyvalue.memory import MemoryStores
from capabilities.wasi import keyvalue
from tests.dapr_server import DaprServer
from tests.keyvalue_subjects import Subject

DRAFT, DRAFT2 = keyvalue.DRAFTS
TYPES: dict[str, Any] = {DRAFT: store1, DRAFT2: store2}


@dataclass(slots=True)
class Opened:
    """A store of a component, and the functions that take it."""

    draft: str
    host: keyvalue.Stores
    bucket: keyvalue.Bucket
    kind: str

    async def fails(self, call: Awaitable[Any], case: str = "ErrorOther") -> str:
        """The text of the error, which is of that case."""
        with pytest.raises(Err) as caught:
            await call
        error: Any = caught.value.value
        assert type(error) is getattr(TYPES[self.draft], case)
        return str(getattr(error, "value", ""))


Scenario = Callable[[Opened], Awaitable[None]]
Run = Callable[[Scenario], None]


@pytest.fixture(autouse=True)
def _fresh_notices() -> None:
    notices.forget()


@asynccontextmanager
async def opened(subject: Subject, kind: str, draft: str) -> AsyncIterator[Opened]:
    async with subject.make() as backend:
        subject.prepare("store")
        host = host_of({"*": backend}, draft)
        yield Opened(draft, host, await host.open("store"), kind)


def host_of(grants: dict[str, Any], draft: str) -> keyvalue.Stores:
    host = hosts(grants)[f"wasi:keyvalue/store@{draft}"]
    assert isinstance(host, keyvalue.Stores)
    return host


@pytest.fixture(params=keyvalue.DRAFTS)
def run(request: pytest.FixtureRequest, subject: Subject, kind: str) -> Run:
    """Runs a scenario against a backend behind one of the drafts."""

    async def main(scenario: Scenario) -> None:
        async with opened(subject, kind, request.param) as each:
            await scenario(each)

    return lambda scenario: asyncio.run(main(scenario))


@pytest.fixture
def run2(subject: Subject, kind: str) -> Run:
    """The same, with the later draft alone."""

    async def main(scenario: Scenario) -> None:
        async with opened(subject, kind, DRAFT2) as each:
            await scenario(each)

    return lambda scenario: asyncio.run(main(scenario))


def _is_what_the_bindings_ask(host: keyvalue.Stores, bucket: keyvalue.Bucket, cas: keyvalue.Cas) -> None:
    """For the type checker: what answers has what the generated Protocols say."""
    _bucket1: store1.Bucket = bucket
    _bucket2: store2.Bucket = bucket
    _cas: atomics2.Cas = cas


# What all backends do.


def test_a_value_comes_back_and_a_missing_one_is_none(run: Run) -> None:
    async def scenario(stores: Opened) -> None:
        bucket = stores.bucket
        assert await bucket.get("key") is None
        assert await bucket.exists("key") is False
        await bucket.set("key", bytes(range(256)))
        assert await bucket.get("key") == bytes(range(256))
        assert await bucket.exists("key") is True
        assert await bucket.exists("other") is False
        await stores.fails(bucket.exists("k" * (KEY_LIMIT + 1)))
        await bucket.delete("key")
        await bucket.delete("key")  # there is nothing to do
        assert await bucket.get("key") is None

    run(scenario)


def test_keys_are_listed_at_once_where_they_are_few(run: Run) -> None:
    async def scenario(stores: Opened) -> None:
        if stores.kind == "dapr":
            await stores.bucket.set("a", b"")
        assert (await stores.bucket.list_keys(None)).keys == (["a"] if stores.kind == "dapr" else [])
        for key in ("a", "b"):
            await stores.bucket.set(key, b"")
        page = await stores.bucket.list_keys(None)
        assert type(page) is TYPES[stores.draft].KeyResponse
        assert sorted(page.keys) == ["a", "b"]
        assert page.cursor is None

    run(scenario)


def test_pages_have_every_key_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyvalue, "PAGE_BYTES", 500)

    async def scenario(stores: Opened) -> None:
        keys = [f"key-{number}" for number in range(60)]
        await stores.host.set_many(stores.bucket, [(key, b"") for key in keys])
        pages, cursor = [], None
        while True:
            page = await stores.bucket.list_keys(cursor)
            pages.append(page.keys)
            assert type(page.cursor) in (str if stores.draft == DRAFT2 else int, type(None))
            if (cursor := page.cursor) is None:
                break
            await stores.bucket.delete(page.keys[0])  # changes nothing of where the others are
        assert len(pages) > 3
        assert sorted(key for page in pages for key in page) == sorted(keys)

    run(scenario)


def test_several_keys_are_read_set_and_deleted_at_once(run: Run) -> None:
    async def scenario(stores: Opened) -> None:
        host, bucket = stores.host, stores.bucket
        pairs = [(f"key-{number}", b"%d" % number) for number in range(70)]
        await host.set_many(bucket, pairs)
        found = await host.get_many(bucket, ["key-3", "none", "key-69", "key-3"])
        three, last = ("key-3", b"3"), ("key-69", b"69")
        assert found == [three, None if stores.draft == DRAFT else ("none", None), last, three]
        await host.delete_many(bucket, ["none", *(key for key, _ in pairs[1:])])
        assert (await bucket.list_keys(None)).keys == ["key-0"]
        await host.set_many(bucket, [])
        await host.delete_many(bucket, [])
        assert await host.get_many(bucket, []) == []

    run(scenario)


def test_a_value_that_is_too_long_is_refused_and_the_others_of_a_batch_are_waited_for(run: Run) -> None:
    async def scenario(stores: Opened) -> None:
        long = bytes(VALUE_LIMIT + 1)
        assert "more than" in await stores.fails(stores.bucket.set("key", long))
        await stores.fails(stores.host.set_many(stores.bucket, [("a", long), ("b", b"1")]))
        assert await stores.bucket.get("a") is None
        assert await stores.bucket.get("b") == b"1"

    run(scenario)


def test_a_number_is_counted_up(run: Run) -> None:
    async def scenario(stores: Opened) -> None:
        if stores.kind == "dapr":
            await stores.bucket.set("n", b"0")
        assert await stores.host.increment(stores.bucket, "n", 5) == 5
        assert await stores.host.increment(stores.bucket, "n", 0) == 5
        assert await stores.bucket.get("n") == b"5"
        await stores.bucket.set("n", b"41")
        assert await stores.host.increment(stores.bucket, "n", 1) == 42

    run(scenario)


def test_numbers_end_where_64_bits_with_a_sign_do(run: Run) -> None:
    async def scenario(stores: Opened) -> None:
        await stores.bucket.set("n", b"%d" % (2**63 - 2))
        assert await stores.host.increment(stores.bucket, "n", 1) == 2**63 - 1
        await stores.fails(stores.host.increment(stores.bucket, "n", 1))
        assert await stores.bucket.get("n") == b"%d" % (2**63 - 1)

    run(scenario)


@pytest.mark.parametrize(
    "value", [b"", b"one", b" 1", b"1 ", b"+1", b"01", b"-0", b"1.0", b"\xff", b"%d" % 2**63, b"9" * 30, b"1" * 100_000]
)
def test_a_value_that_is_no_number_is_not_counted_up(run2: Run, value: bytes) -> None:
    async def scenario(stores: Opened) -> None:
        await stores.bucket.set("n", value)
        assert "number" in await stores.fails(stores.host.increment(stores.bucket, "n", 1))
        assert await stores.bucket.get("n") == value

    run2(scenario)


def test_increments_at_once_are_all_counted(run2: Run) -> None:
    async def scenario(stores: Opened) -> None:
        await stores.bucket.set("n", b"0")
        sums = await asyncio.gather(*(stores.host.increment(stores.bucket, "n", -1) for _ in range(10)))
        assert sorted(sums) == list(range(-10, 0))
        assert await stores.bucket.get("n") == b"-10"

    run2(scenario)


def test_a_value_is_swapped_if_it_is_still_the_one_that_was_seen(run2: Run) -> None:
    async def scenario(stores: Opened) -> None:
        host, bucket = stores.host, stores.bucket
        await bucket.set("key", b"old")
        cas = await host.cas_new(bucket, "key")
        assert await cas.current() == b"old"
        await host.swap(cas, b"new")
        assert await bucket.get("key") == b"new"

        cas = await host.cas_new(bucket, "key")
        await bucket.set("key", b"somebody else's")
        failure = await _cas_failure(host.swap(cas, b"lost"))
        assert isinstance(failure, atomics2.CasErrorCasFailed)
        assert await bucket.get("key") == b"somebody else's"
        assert await failure.value.current() == b"somebody else's"
        await host.swap(failure.value, b"tried again")  # type: ignore[arg-type]  # the host's own, as the runtime gives it
        assert await bucket.get("key") == b"tried again"

        await bucket.delete("key")
        assert isinstance(await _cas_failure(host.swap(await _stale(host, bucket), b"")), atomics2.CasErrorCasFailed)
        assert await bucket.get("key") is None

    run2(scenario)


async def _stale(host: keyvalue.Stores, bucket: keyvalue.Bucket) -> keyvalue.Cas:
    """What is to replace a value that is gone."""
    await bucket.set("key", b"once more")
    cas = await host.cas_new(bucket, "key")
    await bucket.delete("key")
    return cas


async def _cas_failure(call: Awaitable[Any]) -> Any:
    with pytest.raises(Err) as caught:
        await call
    return caught.value.value


def test_a_key_is_made_by_a_swap_where_there_was_none(run2: Run) -> None:
    async def scenario(stores: Opened) -> None:
        host, bucket = stores.host, stores.bucket
        cas, late = await host.cas_new(bucket, "key"), await host.cas_new(bucket, "key")
        assert await cas.current() is None
        if stores.kind == "dapr":
            failure = await _cas_failure(host.swap(cas, b"first"))
            assert failure == atomics2.CasErrorStoreError(
                store2.ErrorOther("Dapr can't compare and swap where there is no value yet: set one first")
            )
            return
        await host.swap(cas, b"first")
        failure = await _cas_failure(host.swap(late, b"second"))
        assert isinstance(failure, atomics2.CasErrorCasFailed)
        assert await bucket.get("key") == b"first"

    run2(scenario)


def test_of_swaps_at_once_one_succeeds(run2: Run) -> None:
    async def scenario(stores: Opened) -> None:
        host, bucket = stores.host, stores.bucket
        await bucket.set("key", b"0")
        attempts = [await host.cas_new(bucket, "key") for _ in range(8)]
        swaps = (host.swap(cas, b"by %d" % number) for number, cas in enumerate(attempts))
        results = await asyncio.gather(*swaps, return_exceptions=True)
        assert [result is None for result in results].count(True) == 1
        winner = next(number for number, result in enumerate(results) if result is None)
        assert await bucket.get("key") == b"by %d" % winner

    run2(scenario)


# What is refused.


@pytest.mark.parametrize("draft", keyvalue.DRAFTS)
def test_a_store_that_is_not_granted_is_denied_and_the_user_told(draft: str, caplog: pytest.LogCaptureFixture) -> None:
    host = host_of({"mine": MemoryStores()}, draft)
    with pytest.raises(Err) as caught:
        asyncio.run(host.open("other"))
    assert caught.value.value == TYPES[draft].ErrorAccessDenied()
    assert "the module asked for the store 'other'" in caplog.text


@pytest.mark.parametrize("draft", keyvalue.DRAFTS)
def test_a_name_that_no_store_can_have_is_no_such_store(draft: str) -> None:
    host = host_of({"*": MemoryStores()}, draft)
    with pytest.raises(Err) as caught:
        asyncio.run(host.open("n" * (KEY_LIMIT + 1)))
    assert caught.value.value == TYPES[draft].ErrorNoSuchStore()


def test_a_table_that_does_not_exist_is_no_such_store(request: pytest.FixtureRequest) -> None:
    from capabilities.keyvalue.dynamodb import DynamoDbBackend

    backend = DynamoDbBackend(request.getfixturevalue("moto_server").configs())

    async def main() -> Any:
        bucket = await host_of({"*": backend}, DRAFT2).open("no-table")
        try:
            with pytest.raises(Err) as caught:
                await bucket.get("key")
            return caught.value.value
        finally:
            await backend.close()

    assert asyncio.run(main()) == store2.ErrorNoSuchStore()


@pytest.mark.parametrize(
    "cursor", [0, 1, 1 << 32, 5 << 32 | 5, 5 << 32 | 9, 2**64 - 1, (keyvalue.MAX_PAGES + 1) << 32 | 1]
)
@pytest.mark.parametrize("draft", keyvalue.DRAFTS)
def test_a_cursor_that_a_component_made_up_is_refused(draft: str, cursor: int) -> None:
    check_cursor(draft, str(cursor) if draft == DRAFT2 else cursor)


@given(st.text())
def test_a_text_that_is_no_cursor_is_refused(cursor: str) -> None:
    check_cursor(DRAFT2, cursor)


def check_cursor(draft: str, cursor: int | str) -> None:
    async def main() -> None:
        bucket = await host_of({"*": MemoryStores()}, draft).open("store")
        with pytest.raises(Err) as caught:
            await bucket.list_keys(cursor)
        assert caught.value.value == TYPES[draft].ErrorOther("the cursor is none that list-keys gave")

    asyncio.run(main())


def test_the_values_of_a_batch_are_bounded_together() -> None:
    async def main() -> None:
        host = host_of({"*": MemoryStores()}, DRAFT2)
        bucket = await host.open("store")
        await bucket.set("key", bytes(VALUE_LIMIT // 2))
        assert len(await host.get_many(bucket, ["key"] * 2)) == 2
        with pytest.raises(Err) as caught:
            await host.get_many(bucket, ["key"] * 3)
        assert caught.value.value == store2.ErrorOther(f"the values have more than {VALUE_LIMIT} bytes in all")

    asyncio.run(main())


def test_the_first_draft_returns_no_negative_number() -> None:
    async def main() -> None:
        host = host_of({"*": MemoryStores()}, DRAFT)
        bucket = await host.open("store")
        await bucket.set("n", b"-3")
        with pytest.raises(Err) as caught:
            await host.increment(bucket, "n", 1)
        assert "the sum -2 is negative" in caught.value.value.value
        assert await host.increment(bucket, "n", 2) == 0
        with pytest.raises(Err) as caught:
            await host.increment(bucket, "n", 2**63)
        assert "64 bits with a sign" in caught.value.value.value

    asyncio.run(main())


# Backends that can do less.


class Plain:
    """A backend of another package, which has the Protocol's methods alone."""

    async def open(self, name: str) -> Plain:
        return self

    async def get(self, key: str) -> bytes:
        raise Err(KeyvalueErrorKeyNotFound("nothing"))

    async def set(self, key: str, value: bytes) -> None:
        raise Err(KeyvalueErrorUnexpectedError("it is full"))

    async def keys(self) -> list[str]:
        return []

    async def delete(self, key: str) -> None:
        raise Err(KeyvalueErrorKeyNotFound("nothing"))

    async def close(self) -> None:
        pass


def test_a_backend_without_atomics_says_so_and_may_speak_in_the_old_interface() -> None:
    async def main() -> None:
        host = host_of({"*": Plain()}, DRAFT2)
        bucket = await host.open("store")
        assert await bucket.get("key") is None
        await bucket.delete("key")
        with pytest.raises(Err) as caught:
            await bucket.set("key", b"")
        assert caught.value.value == store2.ErrorOther("it is full")
        for call, ability in ((host.increment(bucket, "n", 1), "increment"), (host.cas_new(bucket, "n"), "swap")):
            with pytest.raises(Err) as caught:
                await call
            assert f"can't {ability}" in caught.value.value.value

    asyncio.run(main())


def test_a_dapr_store_without_etags_says_that_it_cannot_swap(caplog: pytest.LogCaptureFixture) -> None:
    async def main(server: DaprServer) -> None:
        backend = dapr.DaprBackend(server.configs())
        host = host_of({"*": backend}, DRAFT2)
        bucket = await host.open("store")
        await bucket.set("n", b"1")
        with pytest.raises(Err) as caught:
            await host.increment(bucket, "n", 1)
        assert caught.value.value == store2.ErrorOther("this state store of Dapr can't compare and swap")
        await backend.close()

    with DaprServer(etags=False) as server:
        asyncio.run(main(server))
    assert "has no ETags" in caplog.text


def test_an_old_sidecar_that_refuses_an_etag_makes_a_swap_fail() -> None:
    async def main(server: DaprServer) -> None:
        backend = dapr.DaprBackend(server.configs())
        host = host_of({"*": backend}, DRAFT2)
        bucket = await host.open("store")
        await bucket.set("key", b"old")
        cas = await host.cas_new(bucket, "key")
        await bucket.set("key", b"new")
        assert isinstance(await _cas_failure(host.swap(cas, b"lost")), atomics2.CasErrorCasFailed)
        await backend.close()

    with DaprServer(old_etags=True) as server:
        asyncio.run(main(server))


# Files.


def test_processes_count_files_up_together(tmp_path: Path) -> None:
    import subprocess
    import sys

    program = (
        "import asyncio, sys\n"
        "from capabilities.keyvalue.filesystem import FilesystemBackend\n"
        "async def main():\n"
        "    store = await FilesystemBackend({'DIRECTORY': sys.argv[1]}).open('store')\n"
        "    for _ in range(100): await store.increment('n', 1)\n"
        "asyncio.run(main())\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, tmp_path]) for _ in range(3)]
    assert [each.wait(60) for each in running] == [0, 0, 0]
    store = asyncio.run(FilesystemBackend({"DIRECTORY": str(tmp_path)}).open("store"))
    assert asyncio.run(store.get("n")) == b"300"


def test_a_directory_that_somebody_else_keeps_locked_is_a_time_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl
    import os

    from capabilities.keyvalue import filesystem

    monkeypatch.setattr(filesystem, "LOCK_SECONDS", 0.05)

    async def main() -> None:
        store = await FilesystemBackend({"DIRECTORY": str(tmp_path)}).open("store")
        await store.set("key", b"old")
        directory = os.open(tmp_path / "store", os.O_RDONLY)
        fcntl.flock(directory, fcntl.LOCK_EX)
        with pytest.raises(stores.TimedOut):
            await store.set("key", b"new")
        assert await store.get("key") == b"old"
        os.close(directory)
        await store.set("key", b"new")
        assert await store.keys() == ["key"]

    asyncio.run(main())


# What is registered.


@pytest.mark.parametrize("draft", keyvalue.DRAFTS)
def test_every_interface_is_registered_with_its_bindings_and_has_a_host(draft: str) -> None:
    family = registry.family("keyvalue")
    assert family is not None
    answered = hosts({"*": MemoryStores()})
    for name in ("store", "atomics", "batch"):
        interface = f"wasi:keyvalue/{name}@{draft}"
        assert registry.family_of(interface) is family
        bindings = registry.load_bindings(family, interface)
        assert answered[interface] is not None
        assert interface == bindings.INTERFACE


def test_the_watchers_of_the_drafts_are_not_served() -> None:
    for draft in keyvalue.DRAFTS:
        assert registry.family_of(f"wasi:keyvalue/watcher@{draft}") is None
