"""Answers a component's `wasi:keyvalue` imports with the stores that it is granted, in both drafts that are in use.

The drafts 0.2.0-draft and 0.2.0-draft2 differ in the types of cursors and of increments, in what `get-many` returns,
and in that the later one can compare and swap. Their interface `watcher`, by which a component would be told of
changes, is not served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Iterator
from functools import cache
from importlib import import_module
from itertools import islice
from typing import Any, TypeVar, cast
from zlib import crc32

from bindgen.runtime import Err
from capabilities import notices
from capabilities.errors import CapabilityError
from capabilities.grants import Grants, NotGranted
from capabilities.keyvalue import (
    LISTING_KEY_BYTES,
    LISTING_LIMIT,
    NUMBERS,
    VALUE_LIMIT,
    Atomic,
    AuthenticationFailed,
    Backend,
    InvalidKey,
    InvalidValue,
    KeyNotFound,
    NoSuchStore,
    Probed,
    Store,
    StoreError,
)

T = TypeVar("T")

DRAFTS = ("0.2.0-draft", "0.2.0-draft2")

PAGE_BYTES = 4 * 1024 * 1024
"""How much one answer to `list-keys` may have, where a key takes its length and LISTING_KEY_BYTES. A store with no more
is listed at once."""

MAX_PAGES = LISTING_LIMIT // PAGE_BYTES + 1

TURN_KEYS = 10_000
"""How many keys of a listing are looked at before the event loop gets its turn: some milliseconds' worth."""

READS_AT_ONCE = 8
"""How many values `get-many` reads at the same time: they are held in memory together, before they are counted."""

CHANGES_AT_ONCE = 64
"""How many keys `set-many` and `delete-many` change at the same time."""


def hosts(grants: Grants[Backend]) -> dict[str, object]:
    """What answers each interface of `wasi:keyvalue`. `grants` says which backend keeps the store of which name."""
    made: dict[str, object] = {}
    for draft in DRAFTS:
        host = Stores(draft, grants)
        made |= {f"wasi:keyvalue/{name}@{draft}": host for name in ("store", "atomics", "batch")}
    return made


class Stores:
    """Implements `StoreHost`, `AtomicsHost` and `BatchHost` of one draft."""

    __slots__ = ("_draft", "_grants")

    def __init__(self, draft: str, grants: Grants[Backend]) -> None:
        self._draft = draft
        self._grants = grants

    async def open(self, identifier: str) -> Bucket:
        """Raises Err: `access-denied` for a name that is not granted."""
        try:
            store = await self._grants.of(identifier).open(identifier)
        except InvalidKey as error:
            raise self._failure(NoSuchStore(str(error), error.notice)) from None
        except CapabilityError as error:
            raise self._failure(error) from None
        return Bucket(self._draft, store)

    # Atomics.

    async def increment(self, bucket: Bucket, key: str, delta: int) -> int:
        """Raises Err: `other` for a value that is no number, as for a sum that a result can't be."""
        return await bucket.increment(key, delta, unsigned=self._draft == "0.2.0-draft")

    async def cas_new(self, bucket: Bucket, key: str) -> Cas:
        cas = Cas(bucket, key)
        await cas.current()
        return cas

    async def swap(self, cas: Cas, value: bytes) -> None:
        """Raises Err: `cas-failed`, with what the next attempt takes, where the value is another by now."""
        atomics = _types(self._draft, "atomics")
        try:
            if await cas.swap(value):
                return
            await cas.current()
        except Err as error:
            raise Err(atomics.CasErrorStoreError(error.value)) from None
        raise Err(atomics.CasErrorCasFailed(cas))

    # Batch.

    async def get_many(self, bucket: Bucket, keys: list[str]) -> list[Any]:
        """The pairs, in the order of the keys. Raises Err, also where the values have more than VALUE_LIMIT in all."""
        found: list[Any] = []
        size = 0
        for some in _chunks(keys, READS_AT_ONCE):
            values = await _together(bucket.get(key) for key in some)
            size += sum(len(value) for value in values if value is not None)
            if size > VALUE_LIMIT:
                raise self._failure(InvalidValue(f"the values have more than {VALUE_LIMIT} bytes in all"))
            pairs = zip(some, values, strict=True)
            if self._draft == "0.2.0-draft":
                found += (None if value is None else (key, value) for key, value in pairs)
            else:
                found += pairs
        return found

    async def set_many(self, bucket: Bucket, key_values: list[tuple[str, bytes]]) -> None:
        for some in _chunks(key_values, CHANGES_AT_ONCE):
            await _together(bucket.set(key, value) for key, value in some)

    async def delete_many(self, bucket: Bucket, keys: list[str]) -> None:
        for some in _chunks(keys, CHANGES_AT_ONCE):
            await _together(bucket.delete(key) for key in some)

    def _failure(self, error: CapabilityError) -> Err[Any]:
        return _failure(self._draft, error)


class Bucket:
    """Implements the resource: one store."""

    __slots__ = ("_draft", "_store")

    def __init__(self, draft: str, store: Store) -> None:
        self._draft = draft
        self._store = store

    async def get(self, key: str) -> bytes | None:
        return await self._ask(_maybe(self._store.get(key)))

    async def set(self, key: str, value: bytes) -> None:
        await self._ask(self._store.set(key, value))

    async def delete(self, key: str) -> None:
        await self._ask(_maybe(self._store.delete(key)))

    async def exists(self, key: str) -> bool:
        if hasattr(self._store, "exists"):
            return await self._ask(cast(Probed, self._store).exists(key))
        return await self.get(key) is not None

    async def list_keys(self, cursor: Any) -> Any:
        """A page of the keys, and the cursor of the next one. Raises Err, for a cursor that is none as well."""
        text = self._draft != "0.2.0-draft"
        number = await self._ask(_number(cursor))
        keys, following = await self._ask(_page(await self._ask(self._store.keys()), number))
        response = _types(self._draft, "store").KeyResponse
        return response(keys, str(following) if text and following is not None else following)

    async def increment(self, key: str, delta: int, unsigned: bool) -> int:
        return await self._ask(_increment(self._atomic("increment"), key, delta, unsigned))

    async def read(self, key: str) -> tuple[bytes | None, str]:
        return await self._ask(self._atomic("swap").read(key))

    async def swap(self, key: str, version: str, value: bytes) -> bool:
        return await self._ask(self._atomic("swap").swap(key, version, value))

    def _atomic(self, ability: str) -> Atomic:
        """The store, if it has the ability. Raises Err where it doesn't."""
        if not hasattr(self._store, ability):
            raise _failure(self._draft, StoreError(f"this store can't {ability}: what keeps it has no such operation"))
        return cast(Atomic, self._store)

    async def _ask(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except CapabilityError as error:
            raise _failure(self._draft, error) from None
        except Err as error:  # of a backend of another package, in the words of the interface of 2022
            text = getattr(error.value, "value", None)
            raise _failure(self._draft, StoreError(text if isinstance(text, str) else "the store failed")) from None


class Cas:
    """Implements the resource: which version of a value a swap is to replace. It holds no value: those may be large."""

    __slots__ = ("_bucket", "_key", "_version")

    def __init__(self, bucket: Bucket, key: str) -> None:
        self._bucket = bucket
        self._key = key
        self._version = ""

    async def current(self) -> bytes | None:
        """The value as it is now. From here on, a swap replaces this one."""
        value, self._version = await self._bucket.read(self._key)
        return value

    async def swap(self, value: bytes) -> bool:
        return await self._bucket.swap(self._key, self._version, value)


async def _increment(store: Atomic, key: str, delta: int, unsigned: bool) -> int:
    if delta not in NUMBERS:
        raise InvalidValue(f"{delta} doesn't fit into 64 bits with a sign, in which numbers are kept")
    number = await store.increment(key, delta)
    if unsigned and number < 0:
        raise InvalidValue(f"the sum {number} is negative, which this draft of the interface can't return")
    return number


async def _maybe(call: Awaitable[T]) -> T | None:
    """What a call returns, and None where there is no such key."""
    try:
        return await call
    except KeyNotFound:
        return None
    except Err as error:
        from capabilities.bindings.keyvalue import KeyvalueErrorKeyNotFound

        if isinstance(error.value, KeyvalueErrorKeyNotFound):
            return None
        raise


# Several keys.


def _chunks(items: list[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


async def _together(calls: Iterable[Awaitable[T]]) -> list[T]:
    """What the calls return. Raises what the first of them raises that fails, when all have ended."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return cast(list[T], results)


# Pages. A key's page is told by its checksum, so nothing of a listing is kept for a component between its calls, and a
# key that is there from the first page to the last is on exactly one of them, whatever changes meanwhile. A cursor is
# the number of pages, and which of them is the next.


async def _number(cursor: int | str | None) -> int | None:
    if cursor is None or isinstance(cursor, int):
        return cursor
    if not (cursor.isascii() and cursor.isdigit()) or len(cursor) > 20:
        raise _bad_cursor()
    return int(cursor)


async def _page(keys: list[str], cursor: int | None) -> tuple[list[str], int | None]:
    if cursor is None:
        pages, page = await _count_pages(keys), 0
    else:
        pages, page = divmod(cursor, 1 << 32)
        if not 0 < page < pages <= MAX_PAGES:
            raise _bad_cursor()
    following = pages << 32 | page + 1 if page + 1 < pages else None
    if pages == 1:
        return keys, None
    found: list[str] = []
    for some in _chunks(keys, TURN_KEYS):
        found += (key for key in some if crc32(key.encode()) % pages == page)
        await asyncio.sleep(0)
    return found, following


async def _count_pages(keys: list[str]) -> int:
    size = 0
    for some in _chunks(keys, TURN_KEYS):
        size += sum(len(key.encode()) + LISTING_KEY_BYTES for key in some)
        await asyncio.sleep(0)
    return max(1, min(-(-size // PAGE_BYTES), MAX_PAGES))


def _bad_cursor() -> StoreError:
    return StoreError("the cursor is none that list-keys gave")


# Errors.


def _failure(draft: str, error: CapabilityError) -> Err[Any]:
    """What the component is told; whoever runs it is told the notice."""
    if error.notice is not None:
        notices.tell(error.notice)
    store = _types(draft, "store")
    match error:
        case NoSuchStore():
            return Err(store.ErrorNoSuchStore())
        case NotGranted() | AuthenticationFailed():
            return Err(store.ErrorAccessDenied())
    return Err(store.ErrorOther(str(error)))


@cache
def _types(draft: str, interface: str) -> Any:
    """The generated module of an interface, which a component that uses the interface has had imported already."""
    return import_module(f"capabilities.bindings.wasi_keyvalue_{draft.replace('.', '_').replace('-', '_')}.{interface}")
