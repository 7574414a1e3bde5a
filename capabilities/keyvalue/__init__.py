"""Stores of keys and values: what stands behind the interfaces `keyvalue` and `kv`.

`host` answers the guests and hands their calls to the backends: `memory`, `redis` and `filesystem`. This module holds
what the backends share: their Protocol, and the limits and errors that make them answer alike.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from bindgen.runtime import Err
from capabilities.bindings.keyvalue import (
    Keyvalue,
    KeyvalueError,
    KeyvalueErrorInvalidKey,
    KeyvalueErrorInvalidValue,
    KeyvalueErrorKeyNotFound,
    KeyvalueErrorUnexpectedError,
)
from capabilities.grants import quote

KEY_LIMIT = 65_536
"""How long a key, or the name of a store, may be: in bytes of UTF-8. Both may be empty."""

VALUE_LIMIT = 64 * 1024 * 1024
"""How long a value may be, in bytes."""

LISTING_LIMIT = 64 * 1024 * 1024
"""How much `keys` may return, in bytes, where a key takes its length and LISTING_KEY_BYTES."""

LISTING_KEY_BYTES = 32


class Backend(Protocol):
    """Where stores are kept.

    A backend is made as `Backend(configs)` from a mapping of strings: that checks the configuration, raises
    ConfigError, and does no I/O. (`memory` takes no configuration.)
    """

    REQUIRED: ClassVar[tuple[str, ...]]
    """The keys that the configuration must have."""

    OPTIONAL: ClassVar[tuple[str, ...]]
    """The keys that it may have."""

    async def open(self, name: str) -> Keyvalue:
        """The store of that name, which costs nothing until it is used.

        Raises Err[KeyvalueErrorInvalidKey] for a name past KEY_LIMIT.
        """
        ...

    async def close(self) -> None:
        """Lets go of what the backend holds. Its stores are of no use afterwards."""
        ...


def encode(text: str) -> bytes:
    """The UTF-8 of a key or of a store's name. Raises Err[KeyvalueErrorInvalidKey] past KEY_LIMIT."""
    data = text.encode()
    if len(data) > KEY_LIMIT:
        raise Err(KeyvalueErrorInvalidKey(f"{len(data)} bytes are more than the {KEY_LIMIT} a key may have"))
    return data


def check_value(value: bytes) -> None:
    """Raises Err[KeyvalueErrorInvalidValue] past VALUE_LIMIT."""
    if len(value) > VALUE_LIMIT:
        text = f"{len(value)} bytes are more than the {VALUE_LIMIT} a value may have"
        raise Err(KeyvalueErrorInvalidValue(text))


def key_not_found(key: str) -> Err[KeyvalueError]:
    return Err(KeyvalueErrorKeyNotFound(f"there is no value under {quote(key)}"))


def too_many_keys() -> Err[KeyvalueError]:
    return Err(KeyvalueErrorUnexpectedError("the store holds more keys than can be listed at once"))
