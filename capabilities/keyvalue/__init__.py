"""Stores of keys and values: what stands behind the interfaces `keyvalue` and `kv`.

`host` answers the guests and hands their calls to the backends, a module each. This module holds what the backends
share: their Protocols, and the limits and errors that make them answer alike.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Iterable
from hashlib import sha256
from typing import ClassVar, Protocol

from capabilities.errors import CapabilityError
from capabilities.grants import quote

KEY_LIMIT = 65_536
"""How long a key, or the name of a store, may be: in bytes of UTF-8. Both may be empty. What keeps the keys may allow
less."""

VALUE_LIMIT = 64 * 1024 * 1024
"""How long a value may be, in bytes. What keeps the values may allow less."""

LISTING_LIMIT = 64 * 1024 * 1024
"""How much `keys` may return, in bytes, where a key takes its length and LISTING_KEY_BYTES."""

LISTING_KEY_BYTES = 32

NUMBERS = range(-(2**63), 2**63)
"""The numbers that `increment` counts in: those of a signed integer of 64 bits, as in Redis."""

INCREMENT_ATTEMPTS = 30
"""How often an increment is tried anew where somebody changes the value at the same time."""

INCREMENT_PAUSE = 0.05
"""How long it waits before it tries again, in seconds, at most for each time that it has failed."""

_NUMBER = re.compile(rb"0|-?[1-9][0-9]{0,18}")
"""A number in decimal digits, in the one form that Redis takes."""


class StoreError(CapabilityError):
    """Anything that can go wrong with a store and has no class of its own."""


class NoSuchStore(StoreError):
    """What keeps the stores has none of this name, and makes none."""


class KeyNotFound(StoreError):
    """The store holds no value under the key."""


class InvalidKey(StoreError):
    """The store can't hold a key like this one, or there can be no store of this name."""


class InvalidValue(StoreError):
    """The store can't hold a value like this one, or holds something under the key that is no value."""


class ConnectionFailed(StoreError):
    """What keeps the store can't be reached, or the connection broke: a change may have been made or not."""


class AuthenticationFailed(StoreError):
    """What keeps the store refuses the credentials, or doesn't allow them this store or this operation."""


class TimedOut(StoreError):
    """What keeps the store didn't answer in time, or turns calls away since there are too many."""


class IoFailed(StoreError):
    """Reading or writing failed."""


class Backend(Protocol):
    """Where stores are kept.

    A backend is made as `Backend(configs)` from a mapping of strings: that checks the configuration, raises
    ConfigError, and does no I/O. (`memory` takes no configuration.)

    A backend may have a method `for_any_name`, whose result is the backend that is used where the slightfile grants
    every name, and so the guest chooses the names of the stores.
    """

    REQUIRED: ClassVar[tuple[str, ...]]
    """The keys that the configuration must have."""

    OPTIONAL: ClassVar[tuple[str, ...]]
    """The keys that it may have."""

    async def open(self, name: str) -> Store:
        """The store of that name, which costs nothing until it is used. Raises InvalidKey for a name past KEY_LIMIT."""
        ...

    async def close(self) -> None:
        """Lets go of what the backend holds. Its stores are of no use afterwards."""
        ...


class Store(Protocol):
    """The keys and values of one name. Every method raises StoreError."""

    async def get(self, key: str) -> bytes:
        """The value under the key, which may be empty. Raises KeyNotFound."""
        ...

    async def set(self, key: str, value: bytes) -> None:
        """Puts the value under the key, in place of what may be there."""
        ...

    async def keys(self) -> list[str]:
        """The keys, in no particular order, as a list that the store doesn't keep."""
        ...

    async def delete(self, key: str) -> None:
        """Removes the key and its value. Raises KeyNotFound."""
        ...


class Atomic(Protocol):
    """What a store may be able to do besides, so that nothing comes between its reading and its writing, whoever else
    uses the store through slight-py. A store that can't has no such method."""

    async def increment(self, key: str, delta: int) -> int:
        """Adds to the number under the key, which is 0 where there is no value, and returns the sum. `delta` is one of
        NUMBERS.

        The value is the number in decimal digits. Raises InvalidValue for a value that is no number of NUMBERS, and for
        a sum that is none; nothing is changed then.
        """
        ...

    async def read(self, key: str) -> tuple[bytes | None, str]:
        """The value under the key, None where there is none, and its version for `swap`."""
        ...

    async def swap(self, key: str, version: str, value: bytes) -> bool:
        """Puts the value under the key where what is there is still of that version, and says whether it did."""
        ...


class Probed(Protocol):
    """What a store may be able to do besides, where that is cheaper than to get the value."""

    async def exists(self, key: str) -> bool:
        """Whether there is a value under the key."""
        ...


class Listing:
    """The keys that a store is found to have, page by page, up to LISTING_LIMIT."""

    __slots__ = ("_size", "keys")

    def __init__(self) -> None:
        self.keys: list[str] = []
        self._size = 0

    def add(self, keys: Iterable[str | None]) -> None:
        """Adds those that are keys. Raises StoreError past the limit."""
        found = [key for key in keys if key is not None]
        self.keys += found
        self._size += sum(len(key.encode()) + LISTING_KEY_BYTES for key in found)
        if self._size > LISTING_LIMIT:
            raise too_many_keys()


def encode(text: str) -> bytes:
    """The UTF-8 of a key or of a store's name. Raises InvalidKey past KEY_LIMIT."""
    data = text.encode()
    if len(data) > KEY_LIMIT:
        raise InvalidKey(f"{len(data)} bytes are more than the {KEY_LIMIT} a key may have")
    return data


def check_value(value: bytes, limit: int = VALUE_LIMIT) -> None:
    """Raises InvalidValue past the limit, which is in bytes."""
    if len(value) > limit:
        raise InvalidValue(f"{len(value)} bytes are more than the {limit} a value may have")


def key_not_found(key: str) -> KeyNotFound:
    return KeyNotFound(f"there is no value under {quote(key)}")


def too_many_keys() -> StoreError:
    return StoreError("the store holds more keys than can be listed at once")


def too_many_changes(key: str) -> StoreError:
    return StoreError(f"the value under {quote(key)} is changed by others all the time")


# Numbers and versions.


def parse_number(value: bytes) -> int:
    """The number that a value is. Raises InvalidValue for any other."""
    if not _NUMBER.fullmatch(value) or (number := int(value)) not in NUMBERS:
        raise InvalidValue("the value under the key is no number: decimal digits that fit into 64 bits with a sign")
    return number


def add(value: bytes | None, delta: int) -> int:
    """The number that a value is, or 0 where there is none, and `delta`. Raises InvalidValue."""
    number = (0 if value is None else parse_number(value)) + delta
    if number not in NUMBERS:
        raise InvalidValue(f"the sum {number} doesn't fit into 64 bits with a sign")
    return number


def version_of(value: bytes | None) -> str:
    """The version of a value where what keeps it has none of its own: its SHA-256, and the empty text for no value."""
    return "" if value is None else sha256(value).hexdigest()


async def increment_by_swap(store: Atomic, key: str, delta: int) -> int:
    """An increment for stores that can swap alone. Raises StoreError where others change the value again and again."""
    for attempt in range(1, INCREMENT_ATTEMPTS + 1):
        value, version = await store.read(key)
        number = add(value, delta)
        if await store.swap(key, version, b"%d" % number):
            return number
        await asyncio.sleep(random.uniform(0, INCREMENT_PAUSE * attempt))
    raise too_many_changes(key)
