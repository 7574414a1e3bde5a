"""`keyvalue.awsdynamodb`: a store is a table of DynamoDB, and every key an item in it.

An item has the key in the string attribute `key`, which is the table's partition key, and the value in `value`: text
(UTF-8 without control characters but tabs and line ends) as a string, as Spiderlightning's `slight` writes and reads
it, anything else as binary. Both are read.

DynamoDB takes no empty key, and none of more than 2048 bytes: see `escaping`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from capabilities import aws
from capabilities.grants import quote
from capabilities.keyvalue import (
    AuthenticationFailed,
    ConnectionFailed,
    InvalidKey,
    InvalidValue,
    Listing,
    NoSuchStore,
    StoreError,
    TimedOut,
    check_value,
    encode,
    increment_by_swap,
    key_not_found,
    version_of,
)
from capabilities.keyvalue.escaping import Escaping

KEY_BYTES = 2048
"""How long a partition key may be, in bytes."""

ITEM_BYTES = 400 * 1024
"""How long an item may be, in bytes: its attributes' names and values."""

READ_SECONDS = 5.0
"""How long DynamoDB may say nothing, before the request is sent again."""

CALL_SECONDS = 10.0
"""How long a call may take, with all its attempts."""

SCAN_ITEMS = 500
"""How many items one page of a listing has: a few milliseconds of the event loop."""

_KEYS = Escaping(re.compile(r"(?s).+"), KEY_BYTES)
"""DynamoDB takes every key as it is but the empty one."""

_TABLE = re.compile(r"[A-Za-z0-9_.-]{3,255}")

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


class ConditionFailed(Exception):
    """An item that a request's condition doesn't hold for. `sent_again` says whether that was not the first attempt."""

    def __init__(self, sent_again: bool) -> None:
        super().__init__(sent_again)
        self.sent_again = sent_again


class DynamoDbBackend:
    """Stores in the tables of one AWS account in one region."""

    REQUIRED: ClassVar[tuple[str, ...]] = aws.KEYS
    OPTIONAL: ClassVar[tuple[str, ...]] = aws.OPTIONAL

    __slots__ = ("_client", "place")

    def __init__(self, configs: Mapping[str, str]) -> None:
        """Raises ConfigError."""
        self._client = aws.Client("dynamodb", configs, read_timeout=READ_SECONDS)
        self.place = f"dynamodb {self._client.endpoint or self._client.region}"
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
        await self._client.close()

    async def call(self, operation: str, table: str, **parameters: Any) -> Any:
        """What an operation answers. Raises StoreError, and ConditionFailed."""
        try:
            async with asyncio.timeout(CALL_SECONDS):
                client = await self._client.get()
                answer = await getattr(client, operation)(TableName=table, **parameters)
        except TimeoutError:
            raise self._timed_out() from None
        except Exception as error:  # botocore fails in many ways where what answers is something else
            raise self._described(error, table) from None
        if "json" not in answer["ResponseMetadata"]["HTTPHeaders"].get("content-type", ""):
            raise self._described(ValueError("no JSON"), table)  # which botocore takes for an empty answer
        return answer

    def _described(self, error: Exception, table: str) -> StoreError | ConditionFailed:
        from botocore import exceptions as boto

        match error:
            case boto.ClientError() if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                return ConditionFailed(bool(error.response["ResponseMetadata"].get("RetryAttempts")))
            case boto.ClientError():
                return self._refusal(error, table)
            case boto.ReadTimeoutError() | boto.ConnectTimeoutError():
                return self._timed_out()
            case boto.ConnectionError() | boto.HTTPClientError() | OSError():
                notice = "it can't be reached, or the connection broke; correct AWS_REGION or AWS_ENDPOINT_URL"
                return ConnectionFailed("DynamoDB can't be reached", f"{self.place}: {notice}")
        text = "what answers is not a DynamoDB"
        return StoreError(text, f"{self.place}: {text} ({type(error).__name__}); correct AWS_ENDPOINT_URL")

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
            return NoSuchStore("DynamoDB has no table for this store", f"{self.place}: {notice}")
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


class DynamoDbStore:
    """One table."""

    __slots__ = ("_backend", "_table")

    def __init__(self, backend: DynamoDbBackend, table: str) -> None:
        self._backend = backend
        self._table = table

    async def get(self, key: str) -> bytes:
        stored = await self._stored(key)
        if stored is None:
            raise key_not_found(key)
        return self._value(stored)

    async def _stored(self, key: str) -> Mapping[str, Any] | None:
        """The attribute with the value of a key; None where there is no item."""
        answer = await self._backend.call(
            *("get_item", self._table),
            Key={_KEY: {"S": _KEYS.escape(key)}},
            ConsistentRead=True,
            ProjectionExpression="#k, #v",
            ExpressionAttributeNames=_NAMES,
        )
        item = answer.get("Item")
        return None if item is None else item.get(_VALUE, {})

    def _value(self, stored: Mapping[str, Any]) -> bytes:
        match stored:
            case {"B": bytes(value)}:
                return value
            case {"S": str(text)}:
                return text.encode()
        notice = f"{self._backend.place}: an item of the table {self._table} has no text and no bytes in '{_VALUE}'"
        raise InvalidValue("DynamoDB holds something other than a value under this key", notice)

    async def set(self, key: str, value: bytes) -> None:
        stored = _KEYS.escape(key)
        _check_item(stored, value)
        item = {_KEY: {"S": stored}, _VALUE: _attribute(value)}
        await self._backend.call("put_item", self._table, Item=item)

    async def exists(self, key: str) -> bool:
        answer = await self._backend.call(
            *("get_item", self._table),
            Key={_KEY: {"S": _KEYS.escape(key)}},
            ConsistentRead=True,
            ProjectionExpression="#k",
            ExpressionAttributeNames={"#k": _KEY},
        )
        return "Item" in answer

    async def increment(self, key: str, delta: int) -> int:
        return await increment_by_swap(self, key, delta)

    async def read(self, key: str) -> tuple[bytes | None, str]:
        stored = await self._stored(key)
        value = None if stored is None else self._value(stored)
        return value, version_of(value)

    async def swap(self, key: str, version: str, value: bytes) -> bool:
        """On the condition that the value is still the one that is read first here, and was of that version."""
        name = _KEYS.escape(key)
        _check_item(name, value)
        found = await self._stored(key)
        if version_of(None if found is None else self._value(found)) != version:
            return False
        condition: dict[str, Any] = {
            "ConditionExpression": "attribute_not_exists(#k)",
            "ExpressionAttributeNames": {"#k": _KEY},
        }
        if found is not None:
            condition = {
                "ConditionExpression": "#v = :found",
                "ExpressionAttributeNames": {"#v": _VALUE},
                "ExpressionAttributeValues": {":found": found},
            }
        item = {_KEY: {"S": name}, _VALUE: _attribute(value)}
        try:
            await self._backend.call("put_item", self._table, Item=item, **condition)
        except ConditionFailed as error:
            if error.sent_again:
                text = "the connection broke while the value was swapped: it may be the new one"
                raise ConnectionFailed(text) from None
            return False
        return True

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
        try:
            await self._backend.call(
                *("delete_item", self._table),
                Key={_KEY: {"S": _KEYS.escape(key)}},
                ConditionExpression="attribute_exists(#k)",
                ExpressionAttributeNames={"#k": _KEY},
            )
        except ConditionFailed as error:
            if error.sent_again:
                # The first request may have removed the key, and its answer may be what was lost.
                text = "the connection broke while the key was deleted: it is gone, and may not have been there"
                raise ConnectionFailed(text) from None
            raise key_not_found(key) from None


def _check_item(stored: str, value: bytes) -> None:
    """Raises InvalidValue for a value that is too long beside its key."""
    check_value(value, ITEM_BYTES - len(_KEY) - len(_VALUE) - len(stored.encode()))


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
