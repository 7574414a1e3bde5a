"""Where a slightfile's values can be, beside the file itself: `${STORE.NAME}`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

STORES = {
    "envvars": "the environment variable {!r}",
    "usersecrets": "the secret {!r}",
    "azapp": "the setting {!r} of Azure App Configuration",
}
"""The stores, and what their values are called in messages, given their names."""


class StoreError(Exception):
    """Why a value can't be had, as a sentence goes on that begins with the value's name, and what to do about it."""


class Stores:
    """The stores of one slightfile."""

    def __init__(
        self,
        path: Path,
        environment: Mapping[str, str],
        secrets: Mapping[str, str],
        look_up: Callable[[str, str], str] | None = None,
    ) -> None:
        """`secrets` are the file's own, still encrypted. `look_up` says what stands for a value that isn't in the
        environment, in place of the store."""
        self.secrets = secrets
        self._path = path
        self._environment = environment
        self._look_up = look_up

    def has(self, store: str, name: str) -> bool:
        """Whether a store holds a value of that name."""
        if store == "envvars":
            return name in self._environment
        if store == "usersecrets":
            return name in self.secrets
        try:
            return bool(self.find(store, name))
        except StoreError:
            return False

    def find(self, store: str, name: str) -> str:
        """A value. Raises StoreError."""
        if store == "envvars":
            return self._variable(name)
        if store == "usersecrets" and name not in self.secrets:
            raise StoreError(f"is not in the file; add it: slight-py secret -c {self._path} -k {name}")
        if self._look_up is not None:
            return self._look_up(store, name)
        return self._secret(name) if store == "usersecrets" else _app_configuration(name)

    def _variable(self, name: str) -> str:
        value = self._environment.get(name)
        if value is None:
            raise StoreError("is not set; set it")
        if re.search("[\udc80-\udcff]", value):  # how Python shows the bytes of a variable that are not text
            raise StoreError("is not UTF-8; set it to text")
        return value

    def _secret(self, name: str) -> str:
        from capabilities.configs.vault import VaultError, decrypt

        try:
            return decrypt(name, self.secrets[name])
        except VaultError as error:
            raise StoreError(f"can't be read: {error}") from None


def _app_configuration(name: str) -> str:
    """A setting of the store that the environment names. This is done before there is an event loop."""
    import asyncio

    from capabilities.configs import ConfigsError
    from capabilities.configs.azapp import AppConfiguration
    from capabilities.errors import ConfigError

    async def get() -> bytes:
        store = AppConfiguration({})
        try:
            return await store.get("", name)
        finally:
            await store.close()

    try:
        return asyncio.run(get()).decode()
    except ConfigError as error:
        about = f"{error.key}: " if error.key and error.key not in str(error) else ""
        raise StoreError(f"can't be looked up: {about}{error}") from None
    except ConfigsError as error:
        raise StoreError(f"can't be looked up: {error.notice or error}") from None
