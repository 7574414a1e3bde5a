"""`keyvalue.awsdynamodb`: a store is a table of DynamoDB, and every key an item in it.

An item has the key in the string attribute `key`, which is the table's partition key, and the value in `value`: text
(UTF-8 without control characters but tabs and line ends) as a string, as Spiderlightning's `slight` writes and reads
it, anything else as binary. Both are read.

DynamoDB takes no empty key, and none of more than 2048 bytes: see `escaping`.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from capabilities.errors import ConfigError
from capabilities.grants import quote
from capabilities.keyvalue import (
    AuthenticationFailed,
    ConnectionFailed,
    InvalidKey,
    InvalidValue,
    Listing,
    StoreError,
    TimedOut,
    check_value,
    encode,
    key_not_found,
)
from capabilities.keyvalue.escaping import Escaping

if TYPE_CHECKING:
    from aiobotocore.session import AioSession

KEY_BYTES = 2048
"""How long a partition key may be, in bytes."""

ITEM_BYTES = 400 * 1024
"""How long an item may be, in bytes: its attributes' names and values."""

MAX_CONNECTIONS = 64
"""A backend's connections, at most."""

CONNECT_SECONDS = 3.0
"""How long making a connection may take."""

READ_SECONDS = 5.0
"""How long DynamoDB may say nothing, before the request is sent again."""

CALL_SECONDS = 10.0
"""How long a call may take, with all its attempts."""

ATTEMPTS = 3
"""How often a request is sent, at most: again where the connection broke, or DynamoDB says that it's too busy."""

SCAN_ITEMS = 500
"""How many items one page of a listing has: a few milliseconds of the event loop."""

_KEYS = Escaping(re.compile(r"(?s).+"), KEY_BYTES)
"""DynamoDB takes every key as it is but the empty one."""

_TABLE = re.compile(r"[A-Za-z0-9_.-]{3,255}")
_REGION = re.compile(r"[a-z0-9-]{1,63}")

_KEY, _VALUE = "key", "value"
_NAMES = {"#k": _KEY, "#v": _VALUE}
"""Both names are reserved words of DynamoDB's expressions."""

_REFUSED = {
    "AccessDeniedException",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_TOO_MANY = {
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}


class DynamoDbBackend:
    """Stores in the tables of one AWS account in one region."""

    REQUIRED: ClassVar[tuple[str, ...]] = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    OPTIONAL: ClassVar[tuple[str, ...]] = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL")

    __slots__ = ("_client", "_configs", "_opening", "_region", "place")

    def __init__(self, configs: Mapping[str, str]) -> None:
        """Raises ConfigError."""
        for key in self.REQUIRED:
            if not configs.get(key):
                raise ConfigError(f"{key} is missing: give the credentials of a user of AWS", key)
        self._region = configs.get("AWS_REGION") or configs.get("AWS_DEFAULT_REGION") or ""
        if not _REGION.fullmatch(self._region):
            raise ConfigError("AWS_REGION is not a region of AWS: give one like eu-central-1", "AWS_REGION")
        endpoint = configs.get("AWS_ENDPOINT_URL")
        if endpoint is not None and not re.match(r"https?://[^/?#@]+/?$", endpoint):
            raise ConfigError("AWS_ENDPOINT_URL is not a URL like http://127.0.0.1:8000", "AWS_ENDPOINT_URL")
        try:
            import aiobotocore.session  # noqa: F401  # to see whether it is there
        except ImportError:
            text = "keyvalue.awsdynamodb needs the Python package aiobotocore: pip install 'slight-py[aws]'"
            raise ConfigError(text) from None
        self._configs = dict(configs)
        self._opening: asyncio.Task[Any] | None = None
        self._client: Any = None
        self.place = f"dynamodb {endpoint or self._region}"
        """Where it is, in notices."""

    async def open(self, name: str) -> DynamoDbStore:
        """Raises InvalidKey for a name that no table can have."""
        encode(name)
        if not _TABLE.fullmatch(name):
            raise InvalidKey(
                f"there can be no store {quote(name)}: the name of a table has 3 to 255 letters, digits, '_', '-', '.'"
            )
        return DynamoDbStore(self, name)

    async def close(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await self._opening
        if self._client is not None:
            await self._client.__aexit__(None, None, None)

    async def call(self, operation: str, table: str, **parameters: Any) -> Any:
        """What an operation answers. Raises StoreError; botocore's ClientError for a condition that fails."""
        from botocore.exceptions import ClientError

        try:
            async with asyncio.timeout(CALL_SECONDS):
                client = self._client or await self._open_client()
                answer = await getattr(client, operation)(TableName=table, **parameters)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                raise
            raise self._refusal(error, table) from None
        except TimeoutError:
            raise self._timed_out() from None
        except Exception as error:  # botocore fails in many ways where what answers is something else
            raise self._broken(error) from None
        if "json" not in answer["ResponseMetadata"]["HTTPHeaders"].get("content-type", ""):
            raise self._broken(ValueError("no JSON"))  # which botocore takes for an empty answer
        return answer

    async def _open_client(self) -> Any:
        """The client, made by whoever comes first. A caller that is cancelled leaves the others theirs."""
        if self._opening is None or (self._opening.done() and self._client is None):
            self._opening = asyncio.create_task(self._make_client())
        return await asyncio.shield(self._opening)

    async def _make_client(self) -> Any:
        from aiobotocore.config import AioConfig

        session = await asyncio.to_thread(_make_session)
        client = session.create_client(
            "dynamodb",
            region_name=self._region,
            endpoint_url=self._configs.get("AWS_ENDPOINT_URL"),
            aws_access_key_id=self._configs["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self._configs["AWS_SECRET_ACCESS_KEY"],
            config=AioConfig(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                max_pool_connections=MAX_CONNECTIONS,
                retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
                # The slightfile alone says where DynamoDB is.
                ignore_configured_endpoint_urls=True,
            ),
        )
        self._client = await client.__aenter__()
        return self._client

    def _refusal(self, error: Any, table: str) -> StoreError:
        """For an error that DynamoDB answered with."""
        code, text = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        status = error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
        if code in _REFUSED or status in (401, 403):
            notice = f"it refuses the credentials for the table {table} ({_word(code)}); correct AWS_ACCESS_KEY_ID and "
            notice += "AWS_SECRET_ACCESS_KEY, or let that user get, put, delete and scan items of the table"
            return AuthenticationFailed("DynamoDB refuses the credentials", f"{self.place}: {notice}")
        if code in _TOO_MANY:
            notice = f"too many requests for the table {table}; give it more capacity"
            return TimedOut("DynamoDB has too many requests", f"{self.place}: {notice}")
        if code == "ResourceNotFoundException":
            notice = f"there is no table {table}; create it with the string partition key '{_KEY}'"
            return StoreError("DynamoDB has no table for this store", f"{self.place}: {notice}")
        if code == "ValidationException" and "size" in text.lower():
            return InvalidValue("DynamoDB takes no value of this size")
        if code == "ValidationException":
            notice = (
                f"the table {table} can't be used as a store: its partition key must be the string '{_KEY}', and it "
            )
            notice += "must have no sort key"
            return StoreError("the table is not one of a store", f"{self.place}: {notice}")
        if status >= 500:
            return ConnectionFailed("DynamoDB can't answer", f"{self.place}: it answers with the error {_word(code)}")
        notice = f"it answers with the error {_word(code)} for the table {table}"
        return StoreError(f"DynamoDB answered with an error: {_word(code)}", f"{self.place}: {notice}")

    def _timed_out(self) -> TimedOut:
        notice = "no answer in time; look whether it can be reached, or correct AWS_REGION or AWS_ENDPOINT_URL"
        return TimedOut("DynamoDB did not answer in time", f"{self.place}: {notice}")

    def _broken(self, error: Exception) -> StoreError:
        """For a connection that can't be made, or breaks."""
        from botocore import exceptions as boto

        if isinstance(error, boto.ReadTimeoutError | boto.ConnectTimeoutError):
            return self._timed_out()
        if isinstance(error, boto.ConnectionError | boto.HTTPClientError | OSError):
            notice = "it can't be reached, or the connection broke; correct AWS_REGION or AWS_ENDPOINT_URL"
            return ConnectionFailed("DynamoDB can't be reached", f"{self.place}: {notice}")
        text = "what answers is not a DynamoDB"
        return StoreError(text, f"{self.place}: {text} ({type(error).__name__}); correct AWS_ENDPOINT_URL")


class DynamoDbStore:
    """One table."""

    __slots__ = ("_backend", "_table")

    def __init__(self, backend: DynamoDbBackend, table: str) -> None:
        self._backend = backend
        self._table = table

    async def get(self, key: str) -> bytes:
        answer = await self._backend.call(
            *("get_item", self._table),
            Key={_KEY: {"S": _KEYS.escape(key)}},
            ConsistentRead=True,
            ProjectionExpression="#k, #v",
            ExpressionAttributeNames=_NAMES,
        )
        item = answer.get("Item")
        if item is None:
            raise key_not_found(key)
        match item.get(_VALUE):
            case {"B": bytes(value)}:
                return value
            case {"S": str(text)}:
                return text.encode()
        notice = f"{self._backend.place}: an item of the table {self._table} has no text and no bytes in '{_VALUE}'"
        raise InvalidValue("DynamoDB holds something other than a value under this key", notice)

    async def set(self, key: str, value: bytes) -> None:
        stored = _KEYS.escape(key)
        check_value(value, ITEM_BYTES - len(_KEY) - len(_VALUE) - len(stored.encode()))
        item = {_KEY: {"S": stored}, _VALUE: _attribute(value)}
        await self._backend.call("put_item", self._table, Item=item)

    async def keys(self) -> list[str]:
        """Items whose key is none of `escaping`, which others may have put there, are left out."""
        listing = Listing()
        start: dict[str, Any] = {}
        while True:
            page = await self._backend.call(
                *("scan", self._table),
                ConsistentRead=True,
                Limit=SCAN_ITEMS,
                ProjectionExpression="#k",
                ExpressionAttributeNames={"#k": _KEY},
                **start,
            )
            listing.add(_KEYS.unescape(item.get(_KEY, {}).get("S", "")) for item in page["Items"])
            if "LastEvaluatedKey" not in page:
                return listing.keys
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    async def delete(self, key: str) -> None:
        from botocore.exceptions import ClientError

        try:
            await self._backend.call(
                *("delete_item", self._table),
                Key={_KEY: {"S": _KEYS.escape(key)}},
                ConditionExpression="attribute_exists(#k)",
                ExpressionAttributeNames={"#k": _KEY},
            )
        except ClientError as error:
            if error.response["ResponseMetadata"].get("RetryAttempts"):
                # The first request may have removed the key, and its answer may be what was lost.
                text = "the connection broke while the key was deleted: it is gone, and may not have been there"
                raise ConnectionFailed(text) from None
            raise key_not_found(key) from None


def _make_session() -> AioSession:
    """A session that reads no file and no variable of the user's, and has what describes DynamoDB in memory: reading
    that takes 50 ms."""
    from aiobotocore.session import AioSession

    nowhere = (None, None, os.devnull, None)
    session = AioSession(
        session_vars={"profile": (None, None, None, None), "config_file": nowhere, "credentials_file": nowhere}
    )
    loader = session.get_component("data_loader")
    for data in ("service-2", "endpoint-rule-set-1"):
        loader.load_service_model("dynamodb", data)
    for name in ("partitions", "endpoints", "sdk-default-configuration", "_retry"):
        loader.load_data(name)
    return session


def _attribute(value: bytes) -> dict[str, str | bytes]:
    """A control character would take six bytes on the way."""
    if _CONTROL.search(value):
        return {"B": value}
    try:
        return {"S": value.decode()}
    except UnicodeDecodeError:
        return {"B": value}


_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def _word(code: str) -> str:
    """An error's code, which the service chooses, as messages show it."""
    return code if re.fullmatch("[A-Za-z0-9]{1,80}", code) else "unknown"
