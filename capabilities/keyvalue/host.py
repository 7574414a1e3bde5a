"""Answers a guest's `keyvalue` and `kv` imports with the stores that it is granted."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import TypeVar

from bindgen.runtime import Err
from capabilities.bindings.keyvalue import Keyvalue, KeyvalueErrorUnexpectedError
from capabilities.bindings.kv import Kv
from capabilities.bindings.types import ErrorErrorWithDescription
from capabilities.grants import Grants, NotGranted
from capabilities.keyvalue import Backend

T = TypeVar("T")


def hosts(grants: Mapping[str, Backend]) -> dict[str, object]:
    """What answers each interface of the family: see `KeyvalueStores` for `grants`."""
    stores = KeyvalueStores(grants)
    return {"keyvalue": stores, "kv": KvStores(stores)}


class KeyvalueStores:
    """Implements `KeyvalueHost`.

    `grants` says which backend keeps the store of which name; the name `*` stands for every name that has no grant
    of its own.
    """

    __slots__ = ("_grants",)

    def __init__(self, grants: Mapping[str, Backend]) -> None:
        self._grants = Grants("keyvalue", "store", grants)

    async def keyvalue_open(self, name: str) -> Keyvalue:
        """Raises Err[KeyvalueError]: `unexpected-error` for a name that is not granted."""
        try:
            backend = self._grants.of(name)
        except NotGranted as error:
            raise Err(KeyvalueErrorUnexpectedError(str(error))) from None
        return await backend.open(name)


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
