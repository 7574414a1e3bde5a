"""`keyvalue.azblob`: a store is a container of Azure Blob Storage, and every key a blob in it.

Plain keys are the names of their blobs, as with Spiderlightning's `slight`. Azure takes no empty name and none of more
than 1024 characters, and changes or refuses some others on their way: see `escaping`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from capabilities import azure, endpoints
from capabilities.errors import CapabilityError
from capabilities.grants import quote
from capabilities.keyvalue import (
    VALUE_LIMIT,
    AuthenticationFailed,
    ConnectionFailed,
    InvalidKey,
    InvalidValue,
    KeyNotFound,
    Listing,
    NoSuchStore,
    StoreError,
    TimedOut,
    check_value,
    encode,
    increment_by_swap,
    key_not_found,
)
from capabilities.keyvalue.escaping import Escaping

if TYPE_CHECKING:
    from azure.storage.blob.aio import BlobServiceClient

NAME_CHARACTERS = 1024
"""How long the name of a blob may be."""

READ_SECONDS = 10.0
"""How long Azure may say nothing, before the request is sent again."""

CALL_SECONDS = 30.0
"""How long a call may take, with all its attempts: the largest values take a while."""

LIST_BLOBS = 500
"""How many names one page of a listing has: a few milliseconds of the event loop."""

# Control characters and the like don't pass through XML, a backslash becomes a slash, and segments of a path that end
# with a dot, or are empty, are dropped on the way.
_CHARACTER = "[^/\\\\\x00-\x1f\x7f-\x9f\ufdd0-\ufdef\ufeff\ufffe\uffff]"
_LAST = "[^./\\\\\x00-\x1f\x7f-\x9f\ufdd0-\ufdef\ufeff\ufffe\uffff]"
_KEYS = Escaping(
    re.compile(f"(?! )(?:{_CHARACTER}*{_LAST}/)*{_CHARACTER}*{_LAST}(?<! )"), NAME_CHARACTERS, in_characters=True
)

_CONTAINER = re.compile(r"[a-z0-9](?:-?[a-z0-9]){2,62}")


class AzureBlobBackend:
    """Stores in the containers of one storage account."""

    REQUIRED: ClassVar[tuple[str, ...]] = azure.KEYS
    OPTIONAL: ClassVar[tuple[str, ...]] = azure.OPTIONAL

    __slots__ = ("_client", "place")

    def __init__(self, configs: Mapping[str, str]) -> None:
        """Raises ConfigError."""
        self._client = azure.Client(
            configs,
            read_timeout=READ_SECONDS,
            # A value is read and written by one request, so nobody sees half of one.
            max_single_put_size=VALUE_LIMIT,
            max_single_get_size=VALUE_LIMIT,
        )
        self.place = f"azure blob storage {endpoints.host(self._client.endpoint)}"
        """Where it is, in notices."""

    async def open(self, name: str) -> AzureBlobStore:
        """Raises InvalidKey for a name that no container can have."""
        encode(name)
        if not _CONTAINER.fullmatch(name) or len(name) > 63:
            raise InvalidKey(
                f"there can be no store {quote(name)}: the name of a container has 3 to 63 small letters, digits and "
                "single '-'"
            )
        return AzureBlobStore(self, name)

    async def close(self) -> None:
        await self._client.close()

    @asynccontextmanager
    async def call(self, container: str, key: str | None = None) -> AsyncIterator[BlobServiceClient]:
        """Azure's client, for a call whose time is bounded. `key` is the one that the call is about, if it's about one.
        Raises StoreError for what goes wrong in it."""
        try:
            async with asyncio.timeout(CALL_SECONDS):
                yield await self._client.get()
        except TimeoutError:
            raise self._timed_out() from None
        except CapabilityError:
            raise
        except OSError:
            raise self._broken() from None
        except Exception as error:  # the client fails in many ways where what answers is something else
            if getattr(error, "error_code", None) == "BlobNotFound" and key is not None:
                raise key_not_found(key) from None
            raise self._described(error, container) from None

    def _described(self, error: Exception, container: str) -> StoreError:
        from azure.core import exceptions as errors

        match error:
            case errors.ServiceRequestTimeoutError() | errors.ServiceResponseTimeoutError():
                return self._timed_out()
            case errors.ServiceRequestError() | errors.ServiceResponseError() | errors.IncompleteReadError():
                return self._broken()
            case errors.HttpResponseError():
                code = str(getattr(error, "error_code", None) or "")
                return self._refusal(error.status_code or 0, code, container)
        text = "what answers is not Azure Blob Storage"
        return StoreError(text, f"{self.place}: {text} ({type(error).__name__}); correct the endpoint")

    def _refusal(self, status: int, code: str, container: str) -> StoreError:
        """For an error that Azure answered with: an HTTP status, and a word for it."""
        word = code if re.fullmatch("[A-Za-z]{1,80}", code) else str(status)
        if status in (401, 403):
            notice = f"it refuses the key for the container {container} ({word}); correct AZURE_STORAGE_ACCOUNT and "
            notice += "AZURE_STORAGE_KEY, and look whether the clock is right"
            return AuthenticationFailed("Azure refuses the account and key", f"{self.place}: {notice}")
        if code == "ContainerNotFound":
            notice = f"there is no container {container}; create it"
            return NoSuchStore("Azure has no container for this store", f"{self.place}: {notice}")
        if status in (429, 503):
            return TimedOut("Azure has too many requests", f"{self.place}: it has too many requests ({word})")
        if status == 413:
            return InvalidValue("Azure takes no value of this size")
        if status >= 500:
            return ConnectionFailed("Azure can't answer", f"{self.place}: it answers with the error {word}")
        notice = f"it answers with the error {word} for the container {container}"
        return StoreError(f"Azure answered with an error: {word}", f"{self.place}: {notice}")

    def _timed_out(self) -> TimedOut:
        notice = "no answer in time; look whether it can be reached, or correct AZURE_STORAGE_ACCOUNT"
        return TimedOut("Azure did not answer in time", f"{self.place}: {notice}")

    def _broken(self) -> ConnectionFailed:
        notice = "it can't be reached, or the connection broke; look whether it can be reached, or correct "
        notice += "AZURE_STORAGE_ACCOUNT"
        return ConnectionFailed("Azure can't be reached", f"{self.place}: {notice}")


class AzureBlobStore:
    """One container."""

    __slots__ = ("_backend", "_container")

    def __init__(self, backend: AzureBlobBackend, container: str) -> None:
        self._backend = backend
        self._container = container

    async def get(self, key: str) -> bytes:
        return (await self._download(key))[0]

    async def _download(self, key: str) -> tuple[bytes, str]:
        """The value and the ETag of its blob."""
        name = _KEYS.escape(key)
        async with self._backend.call(self._container, key) as client:
            stream = await client.get_blob_client(self._container, name).download_blob()
            if stream.size > VALUE_LIMIT:
                raise InvalidValue(f"the blob has {stream.size} bytes: too many for a value")
            return await stream.readall(), stream.properties.etag

    async def set(self, key: str, value: bytes) -> None:
        name = _KEYS.escape(key)
        check_value(value)
        async with self._backend.call(self._container) as client:
            blob = client.get_blob_client(self._container, name)
            await blob.upload_blob(value, overwrite=True, length=len(value))

    async def exists(self, key: str) -> bool:
        name = _KEYS.escape(key)
        try:
            async with self._backend.call(self._container, key) as client:
                await client.get_blob_client(self._container, name).get_blob_properties()
        except KeyNotFound:
            return False
        return True

    async def increment(self, key: str, delta: int) -> int:
        return await increment_by_swap(self, key, delta)

    async def read(self, key: str) -> tuple[bytes | None, str]:
        """A blob's version is its ETag, which every change replaces."""
        try:
            return await self._download(key)
        except KeyNotFound:
            return None, ""

    async def swap(self, key: str, version: str, value: bytes) -> bool:
        """Not sent again: the second request would find what the first one wrote."""
        from azure.core import MatchConditions
        from azure.core.exceptions import ResourceExistsError, ResourceModifiedError

        name = _KEYS.escape(key)
        check_value(value)
        condition: dict[str, Any] = {"overwrite": False}
        if version:
            condition = {"overwrite": True, "etag": version, "match_condition": MatchConditions.IfNotModified}
        async with self._backend.call(self._container) as client:
            blob = client.get_blob_client(self._container, name)
            try:
                await blob.upload_blob(value, length=len(value), retry_total=0, **condition)
            except (ResourceExistsError, ResourceModifiedError):
                return False
        return True

    async def keys(self) -> list[str]:
        """Blobs whose names are none of `escaping`, which others may have put there, are left out."""
        async with self._backend.call(self._container) as client:
            container = client.get_container_client(self._container)
            pages = container.list_blob_names(results_per_page=LIST_BLOBS).by_page()
        listing = Listing()
        while True:
            async with self._backend.call(self._container):
                try:
                    names = [name async for name in await anext(pages)]
                except StopAsyncIteration:
                    return listing.keys
            listing.add(map(_KEYS.unescape, names))

    async def delete(self, key: str) -> None:
        """Not sent again: the second request would not find what the first one removed."""
        name = _KEYS.escape(key)
        async with self._backend.call(self._container, key) as client:
            blob = client.get_blob_client(self._container, name)
            await blob.delete_blob(delete_snapshots="include", retry_total=0)
