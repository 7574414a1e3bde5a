"""What the backends at AWS have in common: their configuration, and a client that keeps to it."""

from __future__ import annotations

import asyncio
import functools
import os
import re
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from capabilities import endpoints
from capabilities.errors import ConfigError

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""The config keys that must be there."""

OPTIONAL = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL")
"""Those that may be there; one of the first two must."""

CONNECT_SECONDS = 3.0
READ_SECONDS = 20.0
"""How long nothing may come of an answer."""

ATTEMPTS = 3
"""How often a request is tried at most, where the connection breaks or the service is too busy."""

CONNECTIONS = 64
"""How many connections a client has at most."""


class Client:
    """aiobotocore's client of one service, made when it is asked for first.

    Nothing but the configuration says what it does: neither the user's files for AWS's tools nor their variables.
    """

    def __init__(self, service: str, configs: Mapping[str, str], **settings: Any) -> None:
        """`settings` are further or other ones of aiobotocore's `AioConfig`. Raises ConfigError."""
        endpoints.require("aiobotocore", "aws")
        self._key, self._secret = (endpoints.credential(configs, key) for key in KEYS)
        self.region = _region(configs)
        self.endpoint = _endpoint(configs)
        self._service = service
        self._settings = settings
        self._stack = AsyncExitStack()
        self._making: asyncio.Task[Any] | None = None

    @property
    def where(self) -> str:
        """Where the service is, for whoever runs slight-py."""
        return f"at {endpoints.host(self.endpoint)}" if self.endpoint else f"in {self.region}"

    async def get(self) -> Any:
        """The client. A caller that is cancelled leaves the others theirs."""
        if self._making is None or (self._making.done() and (self._making.cancelled() or self._making.exception())):
            self._making = asyncio.create_task(self._make())
        return await asyncio.shield(self._making)

    async def _make(self) -> Any:
        session = await asyncio.to_thread(_session)
        client = session.create_client(
            self._service,
            region_name=self.region,
            endpoint_url=self.endpoint,
            aws_access_key_id=self._key,
            aws_secret_access_key=self._secret,
            config=_config(self._settings),
        )
        return await self._stack.enter_async_context(client)

    async def close(self) -> None:
        if self._making is not None:
            await asyncio.wait([self._making])
        await self._stack.aclose()


def _region(configs: Mapping[str, str]) -> str:
    key = "AWS_REGION" if "AWS_REGION" in configs else "AWS_DEFAULT_REGION"
    region = configs.get(key)
    if region is None:
        raise ConfigError(
            "AWS_REGION is missing (or AWS_DEFAULT_REGION): give the region, as in eu-central-1", "AWS_REGION"
        )
    if not re.fullmatch(r"[a-z0-9](-?[a-z0-9])*", region):
        raise ConfigError(f"{key} is not a region: it is written as in eu-central-1", key)
    return region


def _endpoint(configs: Mapping[str, str]) -> str | None:
    key = "AWS_ENDPOINT_URL"
    address = endpoints.endpoint(configs, key)
    if address and "_" in endpoints.host(address):
        raise ConfigError(f"{key} has a '_' in its host, which AWS's library refuses: give another name, or an IP", key)
    return address


@functools.cache
def _session() -> Any:
    """aiobotocore's session, which remembers what it has read of AWS's services. It takes a while to import."""
    from aiobotocore.session import AioSession

    nothing = (None, None, os.devnull, None)
    return AioSession({"profile": (None, None, None, None), "config_file": nothing, "credentials_file": nothing})


def _config(settings: Mapping[str, Any]) -> Any:
    from aiobotocore.config import AioConfig

    common: dict[str, Any] = {
        "warm_up_loader_caches": True,  # in a thread
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": READ_SECONDS,
        "max_pool_connections": CONNECTIONS,
        "retries": {"mode": "standard", "total_max_attempts": ATTEMPTS},
        "ignore_configured_endpoint_urls": True,
    }
    return AioConfig(**{**common, **settings})
