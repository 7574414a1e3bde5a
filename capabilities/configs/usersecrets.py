"""`configs.usersecrets`: the secrets that `slight-py secret` put into the slightfile."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import ClassVar

from capabilities.configs import IoFailed, PermissionDenied, check_items, not_found
from capabilities.configs.vault import VaultError, decrypt
from capabilities.grants import quote


class UserSecrets:
    """Its configs are the [[secret_settings]] of the slightfile: a secret's name, and its value, still encrypted."""

    REQUIRED: ClassVar[tuple[str, ...]] = ()
    OPTIONAL: ClassVar[tuple[str, ...]] = ()

    def __init__(self, configs: Mapping[str, str]) -> None:
        self._encrypted = configs

    async def get(self, name: str, key: str) -> bytes:
        text = self._encrypted.get(key)
        if text is None:
            raise not_found(key)
        try:
            return (await asyncio.to_thread(decrypt, key, text)).encode()
        except VaultError as error:
            raise IoFailed(
                "the secret can't be read", f"configs.usersecrets: the secret {quote(key)} can't be read: {error}"
            ) from None

    async def items(self, name: str) -> list[tuple[str, bytes]]:
        return check_items([(key, await self.get(name, key)) for key in self._encrypted])

    async def set(self, name: str, key: str, value: bytes) -> None:
        """Refused: a guest would write into the file that says what it may do."""
        raise PermissionDenied(
            "a secret is set with `slight-py secret`, and not by a module",
            "configs.usersecrets: the module tried to set a secret; set it yourself: slight-py secret -c FILE -k KEY",
        )

    async def close(self) -> None:
        """Nothing is held."""
