"""Answers a guest's `configs` imports, and those of `wasi:config`, with the settings that it is granted."""

from __future__ import annotations

from collections.abc import Mapping

from bindgen.runtime import Err
from capabilities import notices
from capabilities.bindings.configs import (
    Configs,
    ConfigsError,
    ConfigsErrorInvalidValue,
    ConfigsErrorIoError,
    ConfigsErrorNotFound,
    ConfigsErrorPermissionDenied,
    ConfigsErrorUnexpectedError,
)
from capabilities.configs import Backend, InvalidValue, IoFailed, NotFound, PermissionDenied, check_key, check_value
from capabilities.errors import CapabilityError
from capabilities.grants import Grants
from capabilities.wasi import config as wasi_config


def hosts(grants: Mapping[str, Backend]) -> dict[str, object]:
    """What answers each interface of the family. `grants` says which backend keeps the settings of which name."""
    return {"configs": ConfigsHost(grants), **wasi_config.hosts(grants)}


class ConfigsHost:
    """Implements the host of `configs`."""

    __slots__ = ("_grants",)

    def __init__(self, grants: Mapping[str, Backend]) -> None:
        self._grants = Grants("configs", "settings", grants)

    async def configs_open(self, name: str) -> Configs:
        """Raises Err[ConfigsError]."""
        try:
            check_key(name)
            return _Settings(self._grants.of(name), name)
        except CapabilityError as error:
            raise Err(_case(error)) from None


class _Settings:
    """Implements the resource: the settings of one name."""

    __slots__ = ("_backend", "_name")

    def __init__(self, backend: Backend, name: str) -> None:
        self._backend = backend
        self._name = name

    async def get(self, key: str) -> bytes:
        try:
            check_key(key)
            return await self._backend.get(self._name, key)
        except CapabilityError as error:
            raise Err(_case(error)) from None

    async def set(self, key: str, value: bytes) -> None:
        try:
            check_key(key)
            check_value(value)
            await self._backend.set(self._name, key, value)
        except CapabilityError as error:
            raise Err(_case(error)) from None


def _case(error: CapabilityError) -> ConfigsError:
    if error.notice is not None:
        notices.tell(error.notice)
    match error:
        case NotFound():
            return ConfigsErrorNotFound(str(error))
        case InvalidValue():
            return ConfigsErrorInvalidValue(str(error))
        case PermissionDenied():
            return ConfigsErrorPermissionDenied(str(error))
        case IoFailed():
            return ConfigsErrorIoError(str(error))
    return ConfigsErrorUnexpectedError(str(error))
