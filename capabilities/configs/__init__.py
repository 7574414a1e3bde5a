"""Settings, which are kept outside of a module: what stands behind the interface `configs`.

`host` answers the guests and hands their calls to the backends: `memory`, `envvars`, `usersecrets` and `azapp`. This
module holds what the backends share: their Protocol, and the limits and errors that make them answer alike.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from capabilities.errors import CapabilityError
from capabilities.grants import quote

KEY_LIMIT = 4096
"""How long a key, or the name of a grant, may be: in bytes of UTF-8."""

VALUE_LIMIT = 1024 * 1024
"""How long a value may be, in bytes. What keeps the settings may allow less."""

ALL_LIMIT = 16 * 1024 * 1024
"""How much all settings of a name may have, in bytes of their keys and values, where they are asked for together."""


class ConfigsError(CapabilityError):
    """Anything that can go wrong with settings and has no class of its own."""


class NotFound(ConfigsError):
    """There is no setting of this key."""


class InvalidValue(ConfigsError):
    """The key or the value can't be kept."""


class PermissionDenied(ConfigsError):
    """The settings can't be read or changed with the rights that there are."""


class IoFailed(ConfigsError):
    """Reading or writing failed, or took too long."""


class Backend(Protocol):
    """What keeps settings.

    A backend is made as `Backend(configs)` from a mapping of strings: that checks the configuration, raises
    ConfigError, and does no I/O.
    """

    REQUIRED: ClassVar[tuple[str, ...]]
    """The keys that the configuration must have."""

    OPTIONAL: ClassVar[tuple[str, ...]]
    """The keys that it may have."""

    async def get(self, name: str, key: str) -> bytes:
        """A setting of those that the guest opened under `name`. Raises ConfigsError, NotFound above all."""
        ...

    async def set(self, name: str, key: str, value: bytes) -> None:
        """Gives a setting this value, in place of the one that it may have. Raises ConfigsError."""
        ...

    async def close(self) -> None:
        """Lets go of what the backend holds."""
        ...


class Listed(Protocol):
    """What a backend may be able to do besides. One that can't has no such method."""

    async def items(self, name: str) -> list[tuple[str, bytes]]:
        """All settings of those that the guest opened under `name`, in no particular order. Raises ConfigsError, also
        past ALL_LIMIT."""
        ...


def check_items(items: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """The same settings. Raises ConfigsError past ALL_LIMIT."""
    if sum(len(key.encode()) + len(value) for key, value in items) > ALL_LIMIT:
        raise ConfigsError(f"the settings have more than {ALL_LIMIT} bytes in all")
    return items


def check_key(key: str) -> None:
    """Raises InvalidValue past KEY_LIMIT."""
    if len(key.encode()) > KEY_LIMIT:
        raise InvalidValue(f"a key may have {KEY_LIMIT} bytes, and this one has more")


def check_value(value: bytes) -> None:
    """Raises InvalidValue past VALUE_LIMIT."""
    if len(value) > VALUE_LIMIT:
        raise InvalidValue(f"{len(value)} bytes are more than the {VALUE_LIMIT} a setting may have")


def not_found(key: str) -> NotFound:
    return NotFound(f"there is no setting {quote(key)}")
