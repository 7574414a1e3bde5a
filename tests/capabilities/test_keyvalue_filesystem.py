"""`keyvalue.filesystem`: whatever the keys and names, files stay inside their store, and nothing outside gets in."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import string
import threading
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from capabilities.errors import ConfigError
from capabilities.filenames import NAME_MAX, file_name
from capabilities.keyvalue import (
    VALUE_LIMIT,
    InvalidValue,
    IoFailed,
    KeyNotFound,
    Store,
    StoreError,
)
from capabilities.keyvalue import filesystem as backend_module
from capabilities.keyvalue.filesystem import FilesystemBackend

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
AWKWARD = st.text(st.sampled_from("./%~aA0\0\n é")) | st.integers(1, 400).map(lambda length: "x" * length)


async def open_store(directory: Path, name: str = "store") -> Store:
    return await FilesystemBackend({"DIRECTORY": str(directory)}).open(name)


async def check_fails(call: Awaitable[Any], case: type[Any]) -> None:
    with pytest.raises(StoreError) as caught:
        await call
    assert type(caught.value) is case


def every_file(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir()}


# Keys and the names of their files.


@given(TEXT | AWKWARD, TEXT | AWKWARD)
def test_two_keys_never_have_one_file(one: str, other: str) -> None:
    assume(one != other)
    assert file_name(one) != file_name(other)


@given(TEXT | AWKWARD)
def test_a_files_name_stays_inside_the_directory(key: str) -> None:
    name = file_name(key)
    assert name not in ("", ".", "..")
    assert not set(name) & {"/", "\0"}
    assert name.isascii()
    assert name.isprintable()
    assert len(name) <= NAME_MAX
    assert not name.startswith("."), "names that start with a dot are those of values being written"


@given(st.text(f"{string.ascii_letters}{string.digits}._-", min_size=1, max_size=NAME_MAX))
def test_a_plain_key_is_its_files_name(key: str) -> None:
    assume(not key.startswith("."))
    assert file_name(key) == key


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("", "%"),
        (".", "%2E"),
        ("..", "%2E."),
        (".hidden", "%2Ehidden"),
        ("a/b", "a%2Fb"),
        ("100%", "100%25"),
        ("é", "%C3%A9"),
        ("\0", "%00"),
    ],
)
def test_other_keys_are_percent_encoded(key: str, name: str) -> None:
    assert file_name(key) == name


def test_the_file_of_a_plain_key_holds_the_value_alone_as_upstreams_does(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await open_store(tmp_path)
        await store.set("key.txt", b"ours")
        assert (tmp_path / "store" / "key.txt").read_bytes() == b"ours"
        (tmp_path / "store" / "theirs").write_bytes(b"value")
        assert await store.get("theirs") == b"value"
        assert sorted(await store.keys()) == ["key.txt", "theirs"]

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["..", ".", "", "/etc", "../../outside", "a/../..", "\0", "x" * 1_000])
def test_a_stores_name_stays_inside_the_directory(tmp_path: Path, name: str) -> None:
    async def scenario() -> None:
        directory = tmp_path / "one" / "two"
        store = await open_store(directory, name)
        for key in ("../../../key", "/key", "..", "", "y" * 1_000):
            await store.set(key, b"value")
        (only,) = directory.iterdir()
        assert len(list(only.iterdir())) == 5
        assert len(every_file(tmp_path)) == 5

    asyncio.run(scenario())


def test_a_file_that_no_key_would_have_is_not_listed(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await open_store(tmp_path)
        await store.set("key", b"value")
        await store.set("z" * 300, b"value")
        directory = tmp_path / "store"
        long_file = file_name("z" * 300)
        for name in (
            "%2f",
            "%61",
            "a b",
            "é",
            "%",
            "%zz",
            "%FF",
            "%%",
            f"%%{0:064x}",
            ".leftover",
            "%2E%2E",
            long_file[:-1],
        ):
            (directory / name).write_bytes(b"\x01\0\0\0")
        (directory / "%%short").write_bytes(b"\x01")
        (directory / os.fsdecode(b"\xff")).write_bytes(b"")
        assert sorted(await store.keys()) == ["", "key", "z" * 300]  # "%" is the empty key's

    asyncio.run(scenario())


def test_the_file_of_a_long_key_that_was_tampered_with_is_an_io_error(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await open_store(tmp_path)
        await store.set("z" * 300, b"value")
        (tmp_path / "store" / file_name("z" * 300)).write_bytes(b"something else")
        await check_fails(store.get("z" * 300), IoFailed)
        assert await store.keys() == []

    asyncio.run(scenario())


# What others may have put in the way.


def test_a_symbolic_link_in_the_store_is_no_value(tmp_path: Path) -> None:
    async def scenario() -> None:
        outside = tmp_path / "secret"
        outside.write_bytes(b"secret")
        store = await open_store(tmp_path)
        await store.set("other", b"")
        (tmp_path / "store" / "key").symlink_to(outside)
        await check_fails(store.get("key"), KeyNotFound)
        await check_fails(store.delete("key"), KeyNotFound)
        assert await store.keys() == ["other"]
        await store.set("key", b"value")
        assert await store.get("key") == b"value"
        assert outside.read_bytes() == b"secret"

    asyncio.run(scenario())


def test_the_store_itself_may_not_be_a_symbolic_link(tmp_path: Path) -> None:
    async def scenario() -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "key").write_bytes(b"secret")
        stores = tmp_path / "stores"
        stores.mkdir()
        (stores / "store").symlink_to(outside)
        store = await open_store(stores)
        for call in (store.get("key"), store.set("key", b"value"), store.keys(), store.delete("key")):
            await check_fails(call, IoFailed)
        assert (outside / "key").read_bytes() == b"secret"
        assert every_file(outside) == {"key"}

    asyncio.run(scenario())


def test_a_pipe_a_socket_or_a_directory_is_no_value_and_nothing_waits_for_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await open_store(tmp_path)
        await store.set("other", b"")
        directory = tmp_path / "store"
        os.mkfifo(directory / "pipe")
        (directory / "directory").mkdir()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(directory / "socket"))
        for key in ("pipe", "directory", "socket"):
            await check_fails(asyncio.wait_for(store.get(key), 5), KeyNotFound)
            await check_fails(store.delete(key), KeyNotFound)
        assert await store.keys() == ["other"]
        await check_fails(store.set("directory", b"value"), IoFailed)
        assert sorted(every_file(directory)) == ["other", "pipe", "socket"]

    asyncio.run(scenario())


def test_a_file_that_is_no_directory_in_the_stores_place_is_an_io_error(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "store").write_bytes(b"")
        store = await open_store(tmp_path)
        for call in (store.get("key"), store.set("key", b"value"), store.keys(), store.delete("key")):
            await check_fails(call, IoFailed)

    asyncio.run(scenario())


def test_a_file_that_is_too_long_for_a_value_is_an_invalid_value(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await open_store(tmp_path)
        await store.set("key", b"")
        os.truncate(tmp_path / "store" / "key", VALUE_LIMIT + 1)
        await check_fails(store.get("key"), InvalidValue)

    asyncio.run(scenario())


def test_a_listing_past_the_limit_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "LISTING_LIMIT", 1_000)

    async def scenario() -> None:
        store = await open_store(tmp_path)
        await store.set("x" * 900, b"")
        assert await store.keys() == ["x" * 900]
        await store.set("y" * 900, b"")
        await check_fails(store.keys(), StoreError)

    asyncio.run(scenario())


# The system's temporary directory, which is everybody's.


def test_without_a_directory_stores_are_in_the_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    async def scenario() -> None:
        store = await FilesystemBackend({}).open("my-container")
        await store.set("key", b"value")
        assert (tmp_path / "my-container" / "key").read_bytes() == b"value"

    asyncio.run(scenario())


def test_what_is_made_is_for_the_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    async def scenario() -> None:
        await (await FilesystemBackend({}).open("store")).set("key", b"value")
        assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "store" / "key").stat().st_mode) == 0o600

    before = os.umask(0)
    try:
        asyncio.run(scenario())
    finally:
        os.umask(before)


def test_in_the_temporary_directory_another_users_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "key").write_bytes(b"planted")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    async def scenario() -> None:
        store = await FilesystemBackend({}).open("store")
        for call in (store.get("key"), store.set("key", b"value"), store.keys(), store.delete("key")):
            await check_fails(call, IoFailed)
        assert every_file(tmp_path / "store") == {"key"}
        assert await (await open_store(tmp_path)).get("key") == b"planted", "a DIRECTORY is its owner's affair"

    asyncio.run(scenario())


def test_in_the_temporary_directory_a_directory_that_all_may_write_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "store").mkdir()
    (tmp_path / "store").chmod(0o777)

    async def scenario() -> None:
        await check_fails((await FilesystemBackend({}).open("store")).keys(), IoFailed)

    asyncio.run(scenario())


def test_where_the_guest_chooses_names_it_reaches_nothing_else_in_the_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "secrets").mkdir(mode=0o700)
    (tmp_path / "secrets" / "key").write_bytes(b"secret")

    async def scenario() -> None:
        backend = FilesystemBackend({}).for_any_name()
        for name in ("secrets", "../secrets", "..", "."):
            store = await backend.open(name)
            assert await store.keys() == []
            await check_fails(store.get("key"), KeyNotFound)
            await store.set("key", b"value")
        assert (tmp_path / "secrets" / "key").read_bytes() == b"secret"
        own = tmp_path / f"slight-py-{os.geteuid()}"
        assert (own / "secrets" / "key").read_bytes() == b"value"
        assert stat.S_IMODE(own.stat().st_mode) == 0o700
        assert set(os.listdir(tmp_path)) == {"secrets", own.name}

    asyncio.run(scenario())


def test_where_the_guest_chooses_names_a_directory_that_another_user_made_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    own = tmp_path / f"slight-py-{os.geteuid()}"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    async def check_refused() -> None:
        store = await FilesystemBackend({}).for_any_name().open("store")
        for call in (store.set("key", b"value"), store.keys(), store.get("key"), store.delete("key")):
            await check_fails(call, IoFailed)

    own.symlink_to(elsewhere)
    asyncio.run(check_refused())
    own.unlink()
    own.mkdir()
    own.chmod(0o777)
    asyncio.run(check_refused())
    assert list(elsewhere.iterdir()) == []
    assert list(own.iterdir()) == []


def test_with_a_directory_of_its_own_stores_of_any_name_are_in_that(tmp_path: Path) -> None:
    async def scenario() -> None:
        backend = FilesystemBackend({"DIRECTORY": str(tmp_path)}).for_any_name()
        await (await backend.open("store")).set("key", b"value")
        assert (tmp_path / "store" / "key").read_bytes() == b"value"

    asyncio.run(scenario())


def test_the_notice_of_an_error_names_the_directory_and_the_mend(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"")

    async def scenario() -> None:
        with pytest.raises(IoFailed) as caught:
            await (await open_store(tmp_path)).get("key")
        assert str(caught.value) == "Not a directory"
        assert str(caught.value.notice).startswith(f"keyvalue.filesystem: {tmp_path}/store: Not a directory; ")
        assert "DIRECTORY" in str(caught.value.notice)

    asyncio.run(scenario())


# Reading and writing.


def test_reading_makes_no_directory(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await open_store(tmp_path / "stores")
        assert await store.keys() == []
        await check_fails(store.get("key"), KeyNotFound)
        await check_fails(store.delete("key"), KeyNotFound)

    asyncio.run(scenario())
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_removed_while_it_is_open_starts_anew(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await open_store(tmp_path)
        await store.set("old", b"")
        (tmp_path / "store" / "old").unlink()
        (tmp_path / "store").rmdir()
        await check_fails(store.get("old"), KeyNotFound)
        await store.set("new", b"")
        assert await store.keys() == ["new"]

    asyncio.run(scenario())


def test_a_reader_never_sees_half_a_value(tmp_path: Path) -> None:
    values = [bytes([digit]) * 1_000_000 for digit in range(4)]

    async def scenario() -> None:
        store = await open_store(tmp_path)
        await store.set("key", values[0])

        async def write(value: bytes) -> None:
            for _ in range(10):
                await store.set("key", value)

        async def read() -> None:
            for _ in range(20):
                assert await store.get("key") in values
                assert await store.keys() == ["key"]

        await asyncio.gather(*map(write, values), read(), read())
        assert os.listdir(tmp_path / "store") == ["key"]

    asyncio.run(scenario())


def test_a_write_that_fails_leaves_the_old_value_and_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        store = await open_store(tmp_path)
        await store.set("key", b"old")

        def replace(*_: Any, **__: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "replace", replace)
        await check_fails(store.set("key", b"new"), IoFailed)
        assert await store.get("key") == b"old"
        assert os.listdir(tmp_path / "store") == ["key"]

    asyncio.run(scenario())


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await open_store(tmp_path)
        await store.set("key", b"value")
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            await store.set("key", b"value")
            await store.get("key")
            await store.keys()
            await check_fails(store.get("missing"), KeyNotFound)
            await check_fails(store.delete("missing"), KeyNotFound)
            await store.set("z" * 300, b"")
        assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(scenario())


def test_files_are_not_touched_from_the_loops_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = set()
    really_open = os.open

    def recording_open(*args: Any, **kwargs: Any) -> int:
        threads.add(threading.get_ident())
        return really_open(*args, **kwargs)

    async def scenario() -> None:
        store = await open_store(tmp_path)
        monkeypatch.setattr(os, "open", recording_open)
        await store.set("key", b"value")
        await store.get("key")
        await store.keys()
        await store.delete("key")

    asyncio.run(scenario())
    assert threads
    assert threading.get_ident() not in threads


# The configuration.


@pytest.mark.parametrize("directory", ["", "a\0b"])
def test_a_directory_that_is_no_path_is_a_config_error(directory: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FilesystemBackend({"DIRECTORY": directory})
    assert caught.value.key == "DIRECTORY"


def test_a_relative_directory_starts_where_the_process_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def scenario() -> None:
        store = await FilesystemBackend({"DIRECTORY": "data/stores"}).open("store")
        monkeypatch.chdir("/")
        await store.set("key", b"value")
        assert (tmp_path / "data" / "stores" / "store" / "key").read_bytes() == b"value"

    asyncio.run(scenario())


def test_making_the_backend_touches_no_file(tmp_path: Path) -> None:
    FilesystemBackend({"DIRECTORY": str(tmp_path / "stores")})
    assert list(tmp_path.iterdir()) == []
