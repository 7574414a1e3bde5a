"""Answers a guest's `keyvalue` and `kv` imports, and those of `wasi:keyvalue`, with the stores that it is granted."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from copy import copy
from typing import Any, TypeVar

from bindgen.runtime import Err
from capabilities import notices
from capabilities.bindings.keyvalue import (
    Keyvalue,
    KeyvalueError,
    KeyvalueErrorAuthenticationError,
    KeyvalueErrorConnectionError,
    KeyvalueErrorInvalidKey,
    KeyvalueErrorInvalidValue,
    KeyvalueErrorIoError,
    KeyvalueErrorKeyNotFound,
    KeyvalueErrorTimeoutError,
    KeyvalueErrorUnexpectedError,
)
from capabilities.bindings.kv import Kv
from capabilities.bindings.types import ErrorErrorWithDescription
from capabilities.errors import CapabilityError
from capabilities.grants import Grants
from capabilities.keyvalue import (
    AuthenticationFailed,
    Backend,
    ConnectionFailed,
    InvalidKey,
    InvalidValue,
    IoFailed,
    KeyNotFound,
    Store,
    TimedOut,
)
from capabilities.wasi import keyvalue as wasi_keyvalue

T = TypeVar("T")

_CASES: tuple[tuple[type[CapabilityError], type[KeyvalueError]], ...] = (
    (KeyNotFound, KeyvalueErrorKeyNotFound),
    (InvalidKey, KeyvalueErrorInvalidKey),
    (InvalidValue, KeyvalueErrorInvalidValue),
    (ConnectionFailed, KeyvalueErrorConnectionError),
    (AuthenticationFailed, KeyvalueErrorAuthenticationError),
    (TimedOut, KeyvalueErrorTimeoutError),
    (IoFailed, KeyvalueErrorIoError),
)
"""The interface's case for each class of errors. Any other is `unexpected-error`."""


def hosts(grants: Mapping[str, Backend]) -> dict[str, object]:
    """What answers each interface of the family: see `KeyvalueStores` for `grants`."""
    stores = KeyvalueStores(grants)
    return {"keyvalue": stores, "kv": KvStores(stores), **wasi_keyvalue.hosts(stores.grants)}


class KeyvalueStores:
    """Implements `KeyvalueHost`.

    `grants` says which backend keeps the store of which name; the name `*` stands for every name that has no grant
    of its own.
    """

    __slots__ = ("grants",)

    def __init__(self, grants: Mapping[str, Backend]) -> None:
        backends: dict[str, Backend] = copy(
            dict(grants) if not isinstance(grants, dict) else grants
        )  # what it knows of the slightfile stays
        if "*" in backends:
            backends["*"] = _for_any_name(backends["*"])
        self.grants = Grants("keyvalue", "store", backends)

    async def keyvalue_open(self, name: str) -> Keyvalue:
        """Raises Err[KeyvalueError]: `unexpected-error` for a name that is not granted."""
        try:
            return _Keyvalue(await self.grants.of(name).open(name))
        except CapabilityError as error:
            raise _answer(error) from None


def _for_any_name(backend: Any) -> Any:
    return backend.for_any_name() if hasattr(backend, "for_any_name") else backend


class _Keyvalue:
    """A store as guests know it. An Err passes as it is: backends of other packages may raise the interface's own."""

    __slots__ = ("_store",)

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, key: str) -> bytes:
        try:
            return await self._store.get(key)
        except CapabilityError as error:
            raise _answer(error) from None

    async def set(self, key: str, value: bytes) -> None:
        try:
            await self._store.set(key, value)
        except CapabilityError as error:
            raise _answer(error) from None

    async def keys(self) -> list[str]:
        try:
            return await self._store.keys()
        except CapabilityError as error:
            raise _answer(error) from None

    async def delete(self, key: str) -> None:
        try:
            await self._store.delete(key)
        except CapabilityError as error:
            raise _answer(error) from None


def _answer(error: CapabilityError) -> Err[KeyvalueError]:
    """What the guest is told; whoever runs it is told the notice."""
    if error.notice is not None:
        notices.tell(error.notice)
    for kind, case in _CASES:
        if isinstance(error, kind):
            return Err(case(str(error)))
    return Err(KeyvalueErrorUnexpectedError(str(error)))


class KvStores:
    """Implements `KvHost`, the interface's form of 2022, over the same stores."""

    __slots__ = ("_stores",)

    def __init__(self, stores: KeyvalueStores) -> None:
        self._stores = stores

    async def kv_open(self, name: str) -> Kv:
        """Raises Err[ErrorErrorWithDescription]."""
        return _Kv(await _described(self._stores.keyvalue_open(name)))


class _Kv:
    """A store as guests of 2022 know it: its errors are texts alone."""

    __slots__ = ("_store",)

    def __init__(self, store: Keyvalue) -> None:
        self._store = store

    async def get(self, key: str) -> bytes:
        return await _described(self._store.get(key))

    async def set(self, key: str, value: bytes) -> None:
        await _described(self._store.set(key, value))

    async def keys(self) -> list[str]:
        return await _described(self._store.keys())

    async def delete(self, key: str) -> None:
        await _described(self._store.delete(key))


async def _described(answer: Awaitable[T]) -> T:
    try:
        return await answer
    except Err as err:
        raise Err(ErrorErrorWithDescription(err.value.value)) from None
