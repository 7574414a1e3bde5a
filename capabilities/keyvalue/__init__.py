"""Stores of keys and values: what stands behind the interfaces `keyvalue` and `kv`.

`host` answers the guests and hands their calls to the backends, a module each. This module holds what the backends
share: their Protocols, and the limits and errors that make them answer alike.
"""

from __future__ import annotations

from collections.abc import Iterable
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


class StoreError(CapabilityError):
    """Anything that can go wrong with a store and has no class of its own."""


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
