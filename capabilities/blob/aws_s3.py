"""`blobstore.aws_s3`: a container is a bucket of S3, or of a store that speaks its protocol.

https://docs.aws.amazon.com/AmazonS3/latest/API/ describes the requests and the codes of their errors.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from capabilities import aws, blob, endpoints
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

REQUEST_SECONDS = 60.0
"""How long a request may take with all its attempts."""

PART_LIMIT = 10_000
"""How many parts an object may have."""

_BUCKET = re.compile(r"(?!xn--|\d+\.\d+\.\d+\.\d+$)[a-z0-9](?:[a-z0-9]|[.-](?![.])){1,61}[a-z0-9]")

_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 can't hold, not even escaped."""

_DENIED = {
    "401", "403", "AccessDenied", "AllAccessDisabled", "ExpiredToken", "InvalidAccessKeyId", "InvalidSecurity",
    "InvalidToken", "RequestTimeTooSkewed", "SignatureDoesNotMatch", "UnauthorizedAccess",
}  # fmt: skip

_UNAVAILABLE = {"500", "502", "503", "504", "InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown"}


class S3Backend:
    """Buckets that exist: none is made, as its name is taken for everybody then."""

    REQUIRED: ClassVar[tuple[str, ...]] = aws.KEYS
    OPTIONAL: ClassVar[tuple[str, ...]] = aws.OPTIONAL

    def __init__(self, configs: Mapping[str, str]) -> None:
        """Raises ConfigError."""
        self._client = aws.Client(
            "s3",
            configs,
            # Behind other addresses than AWS's, no DNS need know the buckets.
            s3={"addressing_style": "path" if "AWS_ENDPOINT_URL" in configs else "auto"},
            # Not all stores know AWS's newer checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        self.room = Room(ROOM_BYTES)
        self.known: set[str] = set()
        """Buckets that are there, as an answer has told."""

    async def open(self, name: str) -> S3Container:
        """Raises InvalidName."""
        if not _BUCKET.fullmatch(name):
            raise InvalidName(
                f"no bucket of S3 can be called {quote(name)}: its name has 3 to 63 of a-z, 0-9, '-' and '.'"
            )
        return S3Container(self, name)

    async def close(self) -> None:
        await self._client.close()

    async def call(self, operation: str, bucket: str, name: str | None = None, **parameters: Any) -> Any:
        """Makes a request; returns its answer, whose body is read. Raises BlobError."""
        if name is not None:
            parameters["Key"] = name
        client = await self._client.get()
        with self._errors(bucket, name):
            async with asyncio.timeout(REQUEST_SECONDS):
                if operation != "list_buckets":
                    parameters["Bucket"] = bucket
                answer = await getattr(client, operation)(**parameters)
                if operation == "get_object":
                    async with answer["Body"] as body:
                        answer["Body"] = await body.read()
        self.known.add(bucket)
        return answer

    @contextmanager
    def _errors(self, bucket: str, name: str | None) -> Iterator[None]:
        """Raises BlobError for what aiobotocore, aiohttp and the system raise."""
        from aiohttp import ClientError as HttpError
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
        from botocore.exceptions import ConnectionError as NoConnection

        try:
            yield
        except ClientError as error:
            raise self.refusal(error.response, bucket, name) from None
        except TimeoutError:
            raise self._unavailable("it does not answer in time") from None
        except (HTTPClientError, NoConnection, HttpError, OSError) as error:
            raise self._unavailable(endpoints.reason(error)) from None
        except BotoCoreError as error:
            raise self._failure(type(error).__name__) from None

    def refusal(self, response: Mapping[str, Any], bucket: str, name: str | None) -> BlobError:
        """For an error that S3 answered with."""
        code = str(response.get("Error", {}).get("Code", ""))
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if code == "NoSuchBucket" or (code == "404" and name is None):
            self.known.discard(bucket)
            return ContainerNotFound(
                f"there is no bucket {quote(bucket)}",
                f"blobstore.aws_s3: S3 {self._client.where} has no bucket {quote(bucket)}; create it, or correct the "
                "name in the slightfile",
            )
        if code in ("NoSuchKey", "404") and name is not None:
            return object_not_found(name)
        if code in ("PreconditionFailed", "412", "InvalidRange", "416"):
            return replaced()
        if code in ("NoSuchUpload", "InvalidPart"):
            return Replaced("somebody else has ended the upload of the object")
        if code == "EntityTooLarge":
            return TooLarge("the object is larger than S3 allows")
        if code in ("KeyTooLongError", "InvalidURI"):
            return InvalidName(f"S3 can't hold an object that is called {quote(name or '')}")
        if code in _DENIED:
            return NotPermitted(
                "S3 refuses the credentials, or does not allow them this",
                f"blobstore.aws_s3: S3 {self._client.where} refuses access to the bucket {quote(bucket)} ({code}); "
                "correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or allow them this bucket",
            )
        if code in _UNAVAILABLE or (isinstance(status, int) and status >= 500):
            return self._unavailable("it can't answer now")
        return self._failure(code)

    def _unavailable(self, reason: str) -> BlobError:
        return Unavailable(
            f"S3 can't be reached: {reason}",
            f"blobstore.aws_s3: S3 {self._client.where} can't be reached: {reason}; start it, or correct "
            "AWS_ENDPOINT_URL and AWS_REGION",
        )

    def _failure(self, code: str) -> BlobError:
        """For what has no class of its own."""
        if not re.fullmatch(r"\w{2,60}", code):
            code = "an error without a name"
        return BlobError(
            f"S3 answered with an error: {code}",
            f"blobstore.aws_s3: S3 {self._client.where} answered with an error: {code}; its documentation says "
            "what that means",
        )


class S3Container:
    """One bucket."""

    __slots__ = ("_backend", "_bucket")

    def __init__(self, backend: S3Backend, bucket: str) -> None:
        self._backend = backend
        self._bucket = bucket

    async def info(self) -> Info:
        """Only the list of all buckets says when one was made."""
        more: dict[str, Any] = {}
        await self.call("head_bucket")
        while True:
            answer = await self.call("list_buckets", Prefix=self._bucket, **more)
            for bucket in answer.get("Buckets", ()):
                if bucket["Name"] == self._bucket:
                    return Info(int(bucket["CreationDate"].timestamp()))
            if not answer.get("ContinuationToken"):
                raise NotPermitted("the bucket belongs to somebody else, so S3 does not say when it was made")
            more = {"ContinuationToken": answer["ContinuationToken"]}

    async def read(self, name: str) -> RangeReader:
        head = await self._head(name)
        etag = head["ETag"]

        async def fetch(offset: int, length: int) -> bytes:
            wanted = f"bytes={offset}-{offset + length - 1}"
            try:
                answer = await self.call("get_object", name, Range=wanted, IfMatch=etag)
            except ObjectNotFound:
                raise replaced() from None
            data: bytes = answer["Body"]
            return data

        return RangeReader(head["ContentLength"], fetch, self._backend.room)

    async def write(self, name: str) -> PartWriter:
        return PartWriter(_Upload(self, name), self._backend.room)

    async def pages(self) -> AsyncIterator[list[str]]:
        more: dict[str, Any] = {}
        while True:
            answer = await self.call("list_objects_v2", MaxKeys=blob.PAGE, **more)
            if names := [each["Key"] for each in answer.get("Contents", ())]:
                yield names
            if not answer.get("IsTruncated"):
                return
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    async def has(self, name: str) -> bool:
        return await self._find(name) is not None

    async def object_info(self, name: str) -> Info:
        head = await self._head(name)
        return Info(int(head["LastModified"].timestamp()), head["ContentLength"])

    async def delete(self, name: str) -> None:
        """S3 deletes what isn't there without a word, so it's looked for first."""
        await self._head(name)
        await self.call("delete_object", name)

    async def delete_all(self, names: Sequence[str]) -> None:
        fit = [name for name in names if not _NOT_IN_XML.search(name)]
        for start in range(0, len(fit), blob.PAGE):
            wanted = [{"Key": name} for name in fit[start : start + blob.PAGE]]
            answer = await self.call("delete_objects", Delete={"Objects": wanted, "Quiet": True})
            for error in answer.get("Errors", ()):
                raise self._backend.refusal({"Error": error}, self._bucket, None)
        for name in names:
            if _NOT_IN_XML.search(name):
                await self.call("delete_object", name)

    async def _head(self, name: str) -> Any:
        """What S3 knows of an object. Raises ObjectNotFound."""
        head = await self._find(name)
        if head is None:
            raise object_not_found(name)
        return head

    async def _find(self, name: str) -> Any:
        """The same, or None. As HEAD doesn't say what is missing, the bucket is looked for where it isn't known."""
        try:
            return await self.call("head_object", name)
        except ObjectNotFound:
            if self._bucket not in self._backend.known:
                await self.call("head_bucket")
            return None

    async def call(self, operation: str, name: str | None = None, **parameters: Any) -> Any:
        """Makes a request about the bucket, or one of its objects. Raises BlobError."""
        return await self._backend.call(operation, self._bucket, name, **parameters)


class _Upload:
    """An object on its way: implements `Upload` with a multipart upload, which begins with the first part."""

    part_limit = PART_LIMIT

    def __init__(self, container: S3Container, name: str) -> None:
        self._container = container
        self._name = name
        self._id: str | None = None
        self._parts: list[dict[str, Any]] = []

    async def put(self, data: bytes) -> None:
        await self._container.call("put_object", self._name, Body=data)

    async def send(self, number: int, data: bytes) -> None:
        if self._id is None:
            self._id = (await self._container.call("create_multipart_upload", self._name))["UploadId"]
        answer = await self._container.call("upload_part", self._name, UploadId=self._id, PartNumber=number, Body=data)
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})

    async def finish(self) -> None:
        await self._container.call(
            "complete_multipart_upload", self._name, UploadId=self._id, MultipartUpload={"Parts": self._parts}
        )

    async def cancel(self) -> None:
        if self._id is not None:
            await self._container.call("abort_multipart_upload", self._name, UploadId=self._id)
