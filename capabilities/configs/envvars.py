"""`configs.envvars`: the environment variables of slight-py.

What a guest sets is seen by the guests of the same run, and by nobody else: it changes no variable of this process,
which takes its own settings from there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import ClassVar

from capabilities.configs import InvalidValue, NotFound, PermissionDenied, check_items
from capabilities.configs.memory import MemoryConfigs
from capabilities.errors import ConfigError
from capabilities.grants import quote


class EnvironmentConfigs:
    """The variables, and in front of them what guests have set. It is in the main process, for all workers."""

    REQUIRED: ClassVar[tuple[str, ...]] = ()
    OPTIONAL: ClassVar[tuple[str, ...]] = ("VARIABLES",)

    def __init__(self, configs: Mapping[str, str]) -> None:
        """`VARIABLES` names those that a guest may read, separated by commas, with `*` for any characters; without it,
        a guest may read all of them."""
        self._patterns = [name.strip() for name in configs.get("VARIABLES", "*").split(",")]
        if not all(self._patterns):
            raise ConfigError("names of environment variables, separated by commas, as in APP_*, LANG", "VARIABLES")
        self._written = MemoryConfigs({})

    def connect(self) -> EnvironmentConfigs:
        return self

    async def get(self, name: str, key: str) -> bytes:
        self._check(key)
        try:
            # A variable that was set is one of the environment's, whatever the name that the guest opened.
            return await self._written.get("", key)
        except NotFound:
            value = os.environb.get(key.encode())
            if value is None:
                raise
            return value

    async def items(self, name: str) -> list[tuple[str, bytes]]:
        """The variables that a guest may read, but for those whose names aren't UTF-8."""
        found = {key: value for raw, value in os.environb.items() if (key := _decoded(raw)) and self._is_granted(key)}
        return check_items([*(found | dict(await self._written.items(""))).items()])

    async def set(self, name: str, key: str, value: bytes) -> None:
        self._check(key)
        if b"\0" in value:
            raise InvalidValue("an environment variable holds no NUL byte")
        await self._written.set("", key, value)

    def _check(self, key: str) -> None:
        if not key or "=" in key or "\0" in key:
            raise InvalidValue("the name of an environment variable is not empty, and has no '=' and no NUL in it")
        if not self._is_granted(key):
            raise PermissionDenied(
                f"the environment variable {quote(key)} is not granted",
                f"configs.envvars: the module asked for the environment variable {quote(key)}, which VARIABLES does "
                "not name; add it there",
            )

    def _is_granted(self, key: str) -> bool:
        return any(fnmatchcase(key, pattern) for pattern in self._patterns)

    async def close(self) -> None:
        """Nothing: what was set stays until the run ends."""


def _decoded(name: bytes) -> str:
    """Nothing, where it isn't UTF-8."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return ""
