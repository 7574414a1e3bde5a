"""`configs.azapp`: Azure App Configuration, through Microsoft's client `azure-appconfiguration`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from capabilities import endpoints
from capabilities.configs import ConfigsError, InvalidValue, IoFailed, PermissionDenied, check_items, not_found
from capabilities.errors import ConfigError

if TYPE_CHECKING:
    from azure.appconfiguration.aio import AzureAppConfigurationClient

KEYS = ("AZAPPCONFIG_ENDPOINT", "AZAPPCONFIG_KEYID", "AZAPPCONFIG_KEYSECRET")
"""The configs. Those that the slightfile doesn't have come from the environment, as with Spiderlightning's slight."""

_NO_LABEL = "\0"
"""What stands for no label in a request for settings."""

SECONDS = 10.0
"""How long a request may take, with all that it waits for."""


class AppConfiguration:
    """One store of settings, the same one under every name."""

    REQUIRED: ClassVar[tuple[str, ...]] = ()
    OPTIONAL: ClassVar[tuple[str, ...]] = KEYS

    def __init__(self, configs: Mapping[str, str]) -> None:
        """Raises ConfigError for values that are missing or can't be right."""
        values = {key: configs.get(key) or os.environ.get(key, "") for key in KEYS}
        for key, value in values.items():
            if not value:
                raise ConfigError("it is missing; give it among the configs, or as an environment variable", key)
        self._endpoint = endpoints.address(values[KEYS[0]], KEYS[0])
        self._id = endpoints.credential(values, KEYS[1])
        self._secret = endpoints.base64_credential(values, KEYS[2])
        self._where = f"configs.azapp {endpoints.host(self._endpoint)}"
        endpoints.require("azure.appconfiguration", "azapp")
        self._client: AzureAppConfigurationClient | None = None

    async def get(self, name: str, key: str) -> bytes:
        from azure.core.exceptions import ResourceNotFoundError

        if not key:
            raise not_found(key)
        try:
            async with asyncio.timeout(SECONDS):
                setting = await self._connected().get_configuration_setting(key)
        except ResourceNotFoundError:
            raise not_found(key) from None
        except Exception as error:
            raise self._mapped(error) from None
        if setting is None or setting.value is None:
            raise not_found(key)
        return str(setting.value).encode()

    async def items(self, name: str) -> list[tuple[str, bytes]]:
        """Those without a label, as `get` finds them."""
        found: list[tuple[str, bytes]] = []
        try:
            async with asyncio.timeout(SECONDS):
                async for setting in self._connected().list_configuration_settings(label_filter=_NO_LABEL):
                    found.append((setting.key, (setting.value or "").encode()))
        except Exception as error:
            raise self._mapped(error) from None
        return check_items(found)

    async def set(self, name: str, key: str, value: bytes) -> None:
        from azure.appconfiguration import ConfigurationSetting

        if not key or key in (".", "..") or "%" in key:
            raise InvalidValue("App Configuration keeps no setting whose key is empty, '.', '..', or has a '%' in it")
        try:
            text = value.decode()
        except UnicodeDecodeError:
            raise InvalidValue("App Configuration keeps text alone, and the value is not UTF-8") from None
        try:
            async with asyncio.timeout(SECONDS):
                await self._connected().set_configuration_setting(ConfigurationSetting(key=key, value=text))
        except Exception as error:
            raise self._mapped(error) from None

    async def close(self) -> None:
        if self._client is not None:
            with suppress(Exception):
                await self._client.close()

    def _connected(self) -> AzureAppConfigurationClient:
        from azure.appconfiguration.aio import AzureAppConfigurationClient
        from azure.core.pipeline.policies import AsyncRetryPolicy

        if self._client is None:
            text = f"Endpoint={self._endpoint};Id={self._id};Secret={self._secret}"
            # What has failed is tried once more at once; for longer, a guest is not kept waiting.
            retries = AsyncRetryPolicy(retry_total=1, retry_backoff_factor=0.1)
            self._client = AzureAppConfigurationClient.from_connection_string(text, retry_policy=retries)
        return self._client

    def _mapped(self, error: Exception) -> Exception:
        """What a guest and the user are told of what the client raises."""
        from azure.core.exceptions import (
            ClientAuthenticationError,
            HttpResponseError,
            ServiceRequestError,
            ServiceResponseError,
        )

        match error:
            case TimeoutError():
                return IoFailed(
                    "App Configuration did not answer in time", f"{self._where}: no answer in {SECONDS:g} s"
                )
            case ClientAuthenticationError() | HttpResponseError(status_code=401 | 403):
                return PermissionDenied(
                    "App Configuration refuses the key",
                    f"{self._where}: it refuses the key; correct AZAPPCONFIG_KEYID and AZAPPCONFIG_KEYSECRET",
                )
            case HttpResponseError(status_code=413):
                return InvalidValue("App Configuration keeps at most 10,000 bytes of a setting")
            case HttpResponseError(status_code=400):
                return InvalidValue("App Configuration can't keep a setting like this one")
            case ServiceRequestError() | ServiceResponseError():
                return IoFailed(
                    "App Configuration can't be reached",
                    f"{self._where}: it can't be reached; correct AZAPPCONFIG_ENDPOINT, or wait until it is back",
                )
            case HttpResponseError():
                status = error.status_code
                return ConfigsError(
                    f"App Configuration answered with the status {status}",
                    f"{self._where}: it answered with the status {status}",
                )
        return error
