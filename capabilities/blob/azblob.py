"""`blobstore.azblob`: a container is one of Azure Blob Storage, an object a block blob in it.

https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api describes the requests and the codes of their
errors.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, ClassVar, TypeVar

from capabilities import azure, blob, endpoints
from capabilities.blob import (
    BlobError,
    ContainerNotFound,
    Info,
    InvalidName,
    NotPermitted,
    ObjectNotFound,
    Replaced,
    TooLarge,
    Unavailable,
    object_not_found,
    replaced,
)
from capabilities.blob.transfer import ROOM_BYTES, PartWriter, RangeReader, Room
from capabilities.grants import quote

if TYPE_CHECKING:
    from azure.core.exceptions import HttpResponseError
    from azure.storage.blob import BlobProperties
    from azure.storage.blob.aio import BlobClient, BlobServiceClient, ContainerClient

T = TypeVar("T")

REQUEST_SECONDS = 60.0
"""How long a request may take with all its attempts."""

PART_LIMIT = 50_000
"""How many blocks a blob may have."""

DELETIONS = 16
"""How many blobs are deleted at once."""

_CONTAINER = re.compile(r"\$web|(?=.{3,63}$)[a-z0-9](-?[a-z0-9])*")

_AWKWARD = re.compile(r"[\x00-\x1f\x7f-\x9f\\\ufffe\uffff]|\.(/|$)")
"""What Azure, or what is on the way to it, takes for something else: no blob is certain to keep such a name."""


class AzureBackend:
    """Containers that exist: none is made."""

    REQUIRED: ClassVar[tuple[str, ...]] = azure.KEYS
    OPTIONAL: ClassVar[tuple[str, ...]] = azure.OPTIONAL

    def __init__(self, configs: Mapping[str, str]) -> None:
        """Raises ConfigError."""
        self._client = azure.Client(configs)
        self.room = Room(ROOM_BYTES)

    async def open(self, name: str) -> AzureContainer:
        """Raises InvalidName."""
        if not _CONTAINER.fullmatch(name):
            raise InvalidName(
                f"no container of Azure can be called {quote(name)}: its name has 3 to 63 of a-z, 0-9 and single '-'"
            )
        return AzureContainer(self, name)

    async def close(self) -> None:
        await self._client.close()

    async def call(self, container: str, name: str | None, request: Callable[[BlobServiceClient], Awaitable[T]]) -> T:
        """Makes a request about a container, or a blob in it. Raises BlobError."""
        client = await self._client.get()
        with self._errors(container, name):
            async with asyncio.timeout(REQUEST_SECONDS):
                return await request(client)
        raise AssertionError("unreachable")

    @contextmanager
    def _errors(self, container: str, name: str | None) -> Iterator[None]:
        """Raises BlobError for what Azure's client, aiohttp and the system raise."""
        from aiohttp import ClientError
        from azure.core.exceptions import AzureError, HttpResponseError

        try:
            yield
        except TimeoutError:
            raise self._unavailable("it does not answer in time") from None
        except HttpResponseError as error:
            raise self._refusal(error, container, name) from None
        except (AzureError, ClientError, OSError) as error:
            raise self._unavailable(endpoints.reason(error)) from None

    def _refusal(self, error: HttpResponseError, container: str, name: str | None) -> BlobError:
        """For an error that Azure answered with."""
        status = error.status_code
        known = getattr(error, "error_code", None)
        code = str(getattr(known, "value", known) or "")  # it is an enumeration's case where Azure's client knows it
        if status is None:
            return self._unavailable(endpoints.reason(error))
        if code in ("ContainerNotFound", "ContainerBeingDeleted") or (status == 404 and name is None):
            return ContainerNotFound(
                f"there is no container {quote(container)}",
                f"blobstore.azblob: Azure Blob Storage {self._client.where} has no container {quote(container)}; "
                "create it, or correct the name in the slightfile",
            )
        if status == 404 and name is not None:
            return object_not_found(name)
        if status in (412, 416):
            return replaced()
        if code in ("InvalidBlockList", "InvalidBlobOrBlock"):
            return Replaced(
                "somebody else has written the object meanwhile, which drops what was sent of it: write it again"
            )
        if status == 413:
            return TooLarge("the object is larger than Azure allows")
        if code in ("InvalidResourceName", "InvalidUri", "OutOfRangeInput"):
            return InvalidName(f"Azure can't hold an object that is called {quote(name or '')}")
        if status in (401, 403):
            return NotPermitted(
                "Azure refuses the credentials, or does not allow them this",
                f"blobstore.azblob: Azure Blob Storage {self._client.where} refuses access to the container "
                f"{quote(container)} ({code or status}); correct AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY",
            )
        if status >= 500:
            return self._unavailable("it can't answer now")
        what = code if re.fullmatch(r"\w{2,60}", code) else f"the status {status}"
        return BlobError(
            f"Azure answered with an error: {what}",
            f"blobstore.azblob: Azure Blob Storage {self._client.where} answered with an error: {what}; its "
            "documentation says what that means",
        )

    def _unavailable(self, reason: str) -> BlobError:
        return Unavailable(
            f"Azure can't be reached: {reason}",
            f"blobstore.azblob: Azure Blob Storage {self._client.where} can't be reached: {reason}; start it, or "
            "correct AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_BLOB_ENDPOINT",
        )


def check_blob_name(name: str) -> None:
    """Raises InvalidName for what Azure could take for another name."""
    if _AWKWARD.search(name):
        raise InvalidName(
            f"Azure can't hold an object that is called {quote(name)}: its name has control characters or '\\', or a "
            "part that ends with '.'"
        )


class AzureContainer:
    """One container."""

    __slots__ = ("_backend", "_name")

    def __init__(self, backend: AzureBackend, name: str) -> None:
        self._backend = backend
        self._name = name

    async def info(self) -> Info:
        """Azure doesn't say when a container was made: `created` is when its properties changed last."""
        properties = await self._call(lambda client: client.get_container_properties())
        return Info(int(properties.last_modified.timestamp()))

    async def read(self, name: str) -> RangeReader:
        from azure.core import MatchConditions

        properties = await self._properties(name)

        async def fetch(offset: int, length: int) -> bytes:
            async def request(client: BlobClient) -> bytes:
                # Not another version of the blob than that whose size is known.
                condition = MatchConditions.IfNotModified
                stream = await client.download_blob(offset, length, etag=properties.etag, match_condition=condition)
                return await stream.readall()

            try:
                return await self.call(name, request)
            except ObjectNotFound:
                raise replaced() from None

        return RangeReader(properties.size, fetch, self._backend.room)

    async def write(self, name: str) -> PartWriter:
        check_blob_name(name)
        return PartWriter(_Upload(self, name), self._backend.room)

    async def pages(self) -> AsyncIterator[list[str]]:
        token: str | None = None
        while True:
            names, token = await self._call(functools.partial(_page, token))
            if names:
                yield names
            if not token:
                return

    async def has(self, name: str) -> bool:
        try:
            await self._properties(name)
        except ObjectNotFound:
            return False
        return True

    async def object_info(self, name: str) -> Info:
        properties = await self._properties(name)
        return Info(int(properties.last_modified.timestamp()), properties.size)

    async def delete(self, name: str) -> None:
        check_blob_name(name)
        await self.call(name, lambda client: client.delete_blob(delete_snapshots="include"))

    async def delete_all(self, names: Sequence[str]) -> None:
        async def delete_some() -> None:
            for name in left:
                with suppress(ObjectNotFound):
                    await self.delete(name)

        left = iter(names)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(DELETIONS, len(names))):
                    group.create_task(delete_some())
        except ExceptionGroup as error:
            raise error.exceptions[0] from None

    async def _properties(self, name: str) -> BlobProperties:
        """What Azure knows of a blob. Raises ObjectNotFound."""
        check_blob_name(name)
        return await self.call(name, lambda client: client.get_blob_properties())

    async def call(self, name: str, request: Callable[[BlobClient], Awaitable[T]]) -> T:
        """Makes a request about a blob. Raises BlobError."""
        return await self._backend.call(
            self._name, name, lambda service: request(service.get_blob_client(self._name, name))
        )

    async def _call(self, request: Callable[[ContainerClient], Awaitable[T]]) -> T:
        """Makes a request about the container. Raises BlobError."""
        return await self._backend.call(
            self._name, None, lambda service: request(service.get_container_client(self._name))
        )


async def _page(token: str | None, client: ContainerClient) -> tuple[list[str], str | None]:
    """The next names, and where those after them begin."""
    pages = client.list_blob_names(results_per_page=blob.PAGE).by_page(token)
    async for page in pages:
        return [name async for name in page], pages.continuation_token  # type: ignore[attr-defined]  # it has one
    return [], None


class _Upload:
    """An object on its way: implements `Upload` with blocks, which belong to no blob until they are committed."""

    part_limit = PART_LIMIT

    def __init__(self, container: AzureContainer, name: str) -> None:
        self._container = container
        self._name = name
        self._prefix = secrets.token_hex(8)
        """Tells the blocks of two writers of one name apart."""
        self._blocks: list[str] = []

    async def put(self, data: bytes) -> None:
        await self._container.call(self._name, lambda client: client.upload_blob(data, overwrite=True))

    async def send(self, number: int, data: bytes) -> None:
        block = base64.b64encode(f"{self._prefix}-{number:08}".encode()).decode()
        await self._container.call(self._name, lambda client: client.stage_block(block, data, len(data)))
        self._blocks.append(block)

    async def finish(self) -> None:
        from azure.storage.blob import BlobBlock

        blocks = [BlobBlock(block) for block in self._blocks]
        await self._container.call(self._name, lambda client: client.commit_block_list(blocks))

    async def cancel(self) -> None:
        """Nothing: Azure drops blocks that nobody commits, after a week or with the blob's next commit."""
