"""What the backends at Azure Storage have in common: their configuration, and a client that keeps to it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from capabilities import endpoints
from capabilities.errors import ConfigError

if TYPE_CHECKING:
    from azure.storage.blob.aio import BlobServiceClient

KEYS = ("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_KEY")
"""The config keys that must be there."""

OPTIONAL = ("AZURE_STORAGE_BLOB_ENDPOINT",)

CONNECT_SECONDS = 3.0
READ_SECONDS = 20.0
"""How long nothing may come of an answer."""

RETRIES = 2
"""How often a request is made again, where the connection breaks or the service is too busy."""


class Client:
    """Azure's client of an account's blobs, made when it is asked for first."""

    def __init__(self, configs: Mapping[str, str], **settings: Any) -> None:
        """`settings` are further or other ones of `BlobServiceClient`. Raises ConfigError."""
        endpoints.require("azure.storage.blob", "azure")
        self._account = endpoints.credential(configs, KEYS[0])
        if not re.fullmatch("[a-z0-9]{3,24}", self._account):
            raise ConfigError("AZURE_STORAGE_ACCOUNT has 3 to 24 lower-case letters and digits", KEYS[0])
        self._key = endpoints.base64_credential(configs, KEYS[1])
        address = endpoints.endpoint(configs, "AZURE_STORAGE_BLOB_ENDPOINT")
        self.endpoint = address or f"https://{self._account}.blob.core.windows.net"
        self._settings = settings
        self._making: asyncio.Task[BlobServiceClient] | None = None

    @property
    def where(self) -> str:
        """Where the service is, for whoever runs slight-py."""
        return f"at {endpoints.host(self.endpoint)}"

    async def get(self) -> BlobServiceClient:
        """The client. A caller that is cancelled leaves the others theirs."""
        if self._making is None or (self._making.done() and (self._making.cancelled() or self._making.exception())):
            self._making = asyncio.create_task(asyncio.to_thread(self._make))
        return await asyncio.shield(self._making)

    def _make(self) -> BlobServiceClient:
        """In a thread, as it reads files, and takes a while to import."""
        from azure.core.credentials import AzureNamedKeyCredential
        from azure.storage.blob.aio import BlobServiceClient, LinearRetry

        common: dict[str, Any] = {
            "connection_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            # By default, it waits 15 seconds before it tries again.
            "retry_policy": LinearRetry(backoff=1, retry_total=RETRIES, random_jitter_range=1),
        }
        credential = AzureNamedKeyCredential(self._account, self._key)
        return BlobServiceClient(self.endpoint, credential, **{**common, **self._settings})

    async def close(self) -> None:
        if self._making is not None:
            await asyncio.wait([self._making])
            if not self._making.cancelled() and not self._making.exception():
                await self._making.result().close()
