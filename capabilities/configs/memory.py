"""`configs.memory`: settings that live as long as one `run`, and that all its workers share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from capabilities.configs import ConfigsError, check_items, not_found

LIMIT = 16 * 1024 * 1024
"""How much all settings may take, in bytes of their names, keys and values and ENTRY_BYTES each."""

ENTRY_BYTES = 192


class MemoryConfigs:
    """The settings themselves. They are in the main process: see `shared` of `capabilities.families.ResourceType`."""

    REQUIRED: ClassVar[tuple[str, ...]] = ()
    OPTIONAL: ClassVar[tuple[str, ...]] = ()

    def __init__(self, configs: Mapping[str, str]) -> None:
        self._settings: dict[tuple[str, str], bytes] = {}
        self._used = 0

    def connect(self) -> MemoryConfigs:
        """The same for everybody: nothing in here belongs to one process."""
        return self

    async def get(self, name: str, key: str) -> bytes:
        value = self._settings.get((name, key))
        if value is None:
            raise not_found(key)
        return value

    async def items(self, name: str) -> list[tuple[str, bytes]]:
        return check_items([(key, value) for (opened, key), value in self._settings.items() if opened == name])

    async def set(self, name: str, key: str, value: bytes) -> None:
        """Raises ConfigsError, and changes nothing, where the limit leaves no room."""
        old = self._settings.get((name, key))
        growth = len(value)
        growth += len(name.encode()) + len(key.encode()) + ENTRY_BYTES if old is None else -len(old)
        if growth > 0 and self._used + growth > LIMIT:
            raise ConfigsError(f"the settings in memory are full: they may take {LIMIT} bytes in all")
        self._settings[name, key] = value
        self._used += growth

    async def close(self) -> None:
        """Nothing: whoever has opened it, the settings stay until the run ends."""
