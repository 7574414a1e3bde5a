"""`keyvalue.dapr`: a store is a state store of Dapr, which its sidecar reaches over HTTP.

Source: Dapr's State management API reference (https://docs.dapr.io/reference/api/state_api/).

Dapr keeps JSON. A value that is text (UTF-8) is a string in it, as other applications write it; any other value is an
object `{"slight-py-base64": "..."}`. What others keep there and is neither is read as it is: the JSON itself.

A key stands in the path of a URL, where not every server leaves slashes and dots alone, and Dapr allows no `||`: plain
keys are letters, digits and `_-.:@`, all others are escaped, see `escaping`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote as percent_encode
from urllib.parse import urlsplit

from capabilities.errors import ConfigError
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
)
from capabilities.keyvalue.escaping import Escaping

if TYPE_CHECKING:
    import aiohttp

ADDRESS = "http://127.0.0.1:3500"
"""Where a sidecar listens, unless it is told otherwise."""

KEY_BYTES = 1024
"""How long a key may be in a URL: the sidecar reads 4 KiB of headers, by default."""

MAX_CONNECTIONS = 64
"""A backend's connections, at most."""

CONNECT_SECONDS = 3.0
"""How long making a connection may take."""

CALL_SECONDS = 10.0
"""How long a request may take, with the wait for a connection."""

VALUE_BYTES = 16 * 1024 * 1024
"""How long a value may be, in bytes. A sidecar takes 4 MiB, unless it is told otherwise."""

ANSWER_BYTES = 6 * VALUE_BYTES + 1024
"""How long an answer may be: JSON may write a byte as six."""

PAGE_KEYS = 500
"""How many keys one page of a query has."""

LARGE = 256 * 1024
"""From how many bytes on a value is turned to JSON and back in a thread: the event loop has others to serve."""

DELETE_ATTEMPTS = 10
"""How often a key is deleted anew whose value somebody changes at the same time."""

_KEYS = Escaping(re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.:@-]+"), KEY_BYTES)

_STORE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")

_BYTES = "slight-py-base64"
"""The one name in the object that stands for a value which is no text."""

_CANT_SWAP = "this state store of Dapr can't compare and swap"
_CANT_CREATE = "Dapr can't compare and swap where there is no value yet: set one first"
_CANT_QUERY = "this state store of Dapr can't list its keys"


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    etag: str | None


class DaprBackend:
    """Stores behind the Dapr sidecar at DAPR_HTTP_ENDPOINT, or DAPR_ADDRESS, which is another name of it."""

    REQUIRED: ClassVar[tuple[str, ...]] = ()
    OPTIONAL: ClassVar[tuple[str, ...]] = ("DAPR_HTTP_ENDPOINT", "DAPR_ADDRESS", "DAPR_API_TOKEN")

    __slots__ = ("_address", "_session", "_token", "place")

    def __init__(self, configs: Mapping[str, str]) -> None:
        """Raises ConfigError."""
        given = {key: configs[key] for key in self.OPTIONAL[:2] if key in configs}
        if len(set(given.values())) > 1:
            raise ConfigError("DAPR_HTTP_ENDPOINT and DAPR_ADDRESS differ: give one of them", "DAPR_ADDRESS")
        key, address = next(iter(given.items()), ("DAPR_HTTP_ENDPOINT", ADDRESS))
        if "://" not in address:
            address = f"http://{address}"
        if not _is_address(address):
            raise ConfigError(f"{key} is not the address of a Dapr sidecar: give one like {ADDRESS}", key)
        self._token = configs.get("DAPR_API_TOKEN", "")
        if not self._token.isascii() or not self._token.isprintable():
            raise ConfigError(
                "DAPR_API_TOKEN can't be sent: it has characters that no header can have", "DAPR_API_TOKEN"
            )
        # Here, since importing it takes a while.
        from aiohttp import ClientSession  # noqa: F401

        self._address = address.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self.place = f"dapr {urlsplit(address).netloc}"
        """Where it is, in notices."""

    async def open(self, name: str) -> DaprStore:
        """Raises InvalidKey for a name that no component of Dapr can have."""
        encode(name)
        if not _STORE.fullmatch(name):
            raise InvalidKey(
                f"there can be no store {quote(name)}: the name of a state store has letters, digits, '_', '-' and '.'"
            )
        return DaprStore(self, name)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def request(
        self, method: str, path: str, store: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> _Answer:
        """What the sidecar answers, with any status but those that `_refusal` knows. Raises StoreError."""
        import aiohttp
        from yarl import URL

        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={"dapr-api-token": self._token} if self._token else {},
                connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS),
                timeout=aiohttp.ClientTimeout(total=CALL_SECONDS, sock_connect=CONNECT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        url = URL(f"{self._address}/{path}", encoded=True)
        try:
            async with self._session.request(
                method,
                url,
                data=body,
                headers={"Content-Type": "application/json", **(headers or {})},
                allow_redirects=False,
            ) as response:
                answer = _Answer(response.status, await _read(response), response.headers.get("ETag"))
        except TimeoutError:
            notice = f"{self.place}: no answer in time; look whether it runs, or correct DAPR_HTTP_ENDPOINT"
            raise TimedOut("Dapr did not answer in time", notice) from None
        except (aiohttp.ClientError, OSError) as error:
            reason = getattr(error, "strerror", None) or "the connection broke"
            notice = f"{self.place}: {reason}; start the sidecar (dapr run), or correct DAPR_HTTP_ENDPOINT"
            raise ConnectionFailed("Dapr can't be reached", notice) from None
        refusal = self._refusal(answer, store)
        if refusal is not None:
            raise refusal
        return answer

    def _refusal(self, answer: _Answer, store: str) -> StoreError | None:
        """For an error that has nothing to do with the key."""
        code = error_code(answer)
        if answer.status in (401, 403):
            notice = f"{self.place}: it refuses the request ({answer.status}); correct DAPR_API_TOKEN, or let this "
            notice += f"application use the state store {store}"
            return AuthenticationFailed("Dapr refuses the token", notice)
        if code in ("ERR_STATE_STORE_NOT_FOUND", "ERR_STATE_STORE_NOT_CONFIGURED", "ERR_STATE_STORES_NOT_CONFIGURED"):
            notice = f"{self.place}: there is no state store {store}; add a component of that name"
            return NoSuchStore("Dapr has no such state store", notice)
        if answer.status == 413:
            notice = (
                f"{self.place}: it takes no value of this size; start it with a larger --dapr-http-max-request-size"
            )
            return InvalidValue("Dapr takes no value of this size", notice)
        if answer.status in (429, 503):
            notice = f"{self.place}: it has too many requests, or isn't ready ({answer.status})"
            return TimedOut("Dapr has too many requests", notice)
        return None

    def failure(self, answer: _Answer, store: str) -> StoreError:
        """For any other answer than those that are expected."""
        code = error_code(answer) or f"status {answer.status}"
        notice = f"{self.place}: it answers with the error {code} for the state store {store}; see its log"
        if answer.status >= 500:
            return ConnectionFailed("Dapr's state store fails", notice)
        return StoreError(f"Dapr answered with an error: {code}", notice)


class DaprStore:
    """One state store."""

    __slots__ = ("_backend", "_name")

    def __init__(self, backend: DaprBackend, name: str) -> None:
        self._backend = backend
        self._name = name

    async def get(self, key: str) -> bytes:
        value = (await self._state(key))[0]
        if value is None:
            raise key_not_found(key)
        return value

    async def _state(self, key: str) -> tuple[bytes | None, str | None]:
        """The value of a key, and its ETag, which not every state store has."""
        # Else some state stores read from a replica, which may not have the last value yet.
        answer = await self._send("GET", f"/{_in_path(key)}?consistency=strong")
        if answer.status == 204:
            return None, None
        if answer.status != 200:
            raise self._backend.failure(answer, self._name)
        value = await _maybe_in_thread(_from_json, answer.body)
        if len(value) > VALUE_BYTES:
            raise InvalidValue(f"the state has {len(value)} bytes: too many for a value")
        return value, answer.etag

    async def set(self, key: str, value: bytes) -> None:
        answer = await self._save({"key": _KEYS.escape(key), "options": {"consistency": "strong"}}, value)
        if answer.status not in (200, 201, 204):
            raise self._backend.failure(answer, self._name)

    async def _save(self, state: Mapping[str, Any], value: bytes) -> _Answer:
        """What the sidecar says to a state that is to have this value, and is told the rest of it by `state`."""
        check_value(value, VALUE_BYTES)
        head = json.dumps(state)[:-1].encode()
        body = b"".join((b"[", head, b', "value": ', await _maybe_in_thread(_to_json, value), b"}]"))
        return await self._send("POST", "", body)

    async def increment(self, key: str, delta: int) -> int:
        return await increment_by_swap(self, key, delta)

    async def read(self, key: str) -> tuple[bytes | None, str]:
        """A state's version is its ETag. Raises StoreError where the state store has none."""
        value, etag = await self._state(key)
        if value is not None and not etag:
            notice = f"{self._backend.place}: the state store {self._name} has no ETags, so it can't compare and swap; "
            raise StoreError(_CANT_SWAP, f"{notice}use one that has, or another resource type")
        return value, etag or ""

    async def swap(self, key: str, version: str, value: bytes) -> bool:
        """Raises StoreError where there was no value: without an ETag, Dapr checks nothing."""
        if not version:
            notice = f"{self._backend.place}: only a value that is there can be swapped or counted up; set one first"
            raise StoreError(_CANT_CREATE, notice)
        options = {"concurrency": "first-write", "consistency": "strong"}
        answer = await self._save({"key": _KEYS.escape(key), "etag": version, "options": options}, value)
        if answer.status in (200, 201, 204):
            return True
        if _is_etag_mismatch(answer):
            return False
        raise self._backend.failure(answer, self._name)

    async def keys(self) -> list[str]:
        """Dapr lists keys for the state stores alone that can be queried, and calls its query API an alpha."""
        listing = Listing()
        page: dict[str, Any] = {"limit": PAGE_KEYS}
        while True:
            body = json.dumps({"filter": {}, "page": page}).encode()
            path = f"v1.0-alpha1/state/{percent_encode(self._name, safe='')}/query"
            answer = await self._backend.request("POST", path, self._name, body=body)
            if answer.status == 204:  # there is nothing
                return listing.keys
            if answer.status != 200:
                raise self._cant_list(answer)
            stored, token = self._page(answer)
            listing.add(map(_KEYS.unescape, stored))
            if not token or token == page.get("token"):
                return listing.keys
            page = {"limit": PAGE_KEYS, "token": token}

    def _page(self, answer: _Answer) -> tuple[list[str], str]:
        """The keys of one page as they are stored, and what asks for the next one."""
        try:
            content = json.loads(answer.body)
            stored = [str(result["key"]) for result in content.get("results") or []]
            return stored, content.get("token") or ""
        except (ValueError, TypeError, KeyError, AttributeError):
            raise self._backend.failure(answer, self._name) from None

    def _cant_list(self, answer: _Answer) -> StoreError:
        code = error_code(answer)
        place = f"{self._backend.place}: the state store {self._name}"
        if answer.status in (404, 405, 501) or code in ("ERR_STATE_STORE_NOT_SUPPORTED", "ERR_METHOD_NOT_FOUND"):
            notice = f"{place} can't list its keys: its component doesn't have Dapr's query API; use one that has, or "
            return StoreError(_CANT_QUERY, f"{notice}another resource type")
        if code == "ERR_STATE_QUERY":
            notice = f"{place} can't list its keys: a query failed; see the sidecar's log, or use another resource type"
            return StoreError(_CANT_QUERY, notice)
        return self._backend.failure(answer, self._name)

    async def delete(self, key: str) -> None:
        """Dapr doesn't say whether there was a value, so that is looked up first. By its ETag, no other is deleted."""
        path = f"/{_in_path(key)}"
        for _ in range(DELETE_ATTEMPTS):
            answer = await self._send("GET", f"{path}?consistency=strong")
            if answer.status == 204:
                raise key_not_found(key)
            if answer.status != 200:
                raise self._backend.failure(answer, self._name)
            headers = {"If-Match": answer.etag} if answer.etag else {}
            answer = await self._send("DELETE", f"{path}?concurrency=first-write&consistency=strong", headers=headers)
            if answer.status in (200, 204):
                return
            if not headers or not _is_etag_mismatch(answer):
                break
        raise self._backend.failure(answer, self._name)

    async def _send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> _Answer:
        start = f"v1.0/state/{percent_encode(self._name, safe='')}"
        return await self._backend.request(method, start + path, self._name, body=body, headers=headers)


def error_code(answer: _Answer) -> str:
    """The code of an error that Dapr answered with, or nothing."""
    if answer.status < 400:
        return ""
    try:
        code = json.loads(answer.body)["errorCode"]
    except (ValueError, KeyError, TypeError):
        return ""
    return code if isinstance(code, str) and re.fullmatch("[A-Z_]{1,80}", code) else ""


def _is_etag_mismatch(answer: _Answer) -> bool:
    """Newer versions answer with 409, older ones with 500 and say why in the text alone."""
    return answer.status == 409 or (answer.status == 500 and b"etag" in answer.body.lower())


def _is_address(address: str) -> bool:
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https")
        and bool(parts.hostname)
        and "@" not in parts.netloc
        and not (parts.query or parts.fragment or parts.path.strip("/"))
        and address.isprintable()
    )


def _in_path(key: str) -> str:
    return percent_encode(_KEYS.escape(key), safe="")


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body. Raises InvalidValue where it is longer than any value's can be."""
    pieces = []
    size = 0
    async for piece in response.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > ANSWER_BYTES:
            raise InvalidValue("the state is too long for a value")
    return b"".join(pieces)


# Values and JSON.


async def _maybe_in_thread(function: Any, data: bytes) -> bytes:
    converted: bytes = function(data) if len(data) < LARGE else await asyncio.to_thread(function, data)
    return converted


def _to_json(value: bytes) -> bytes:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = "\0"
    # Not every state store takes a NUL in JSON.
    if "\0" not in text:
        return json.dumps(text, ensure_ascii=False).encode()
    return json.dumps({_BYTES: base64.b64encode(value).decode()}).encode()


def _from_json(body: bytes) -> bytes:
    try:
        state = json.loads(body)
    except (ValueError, RecursionError):
        return body
    match state:
        case str():
            try:
                return state.encode()
            except UnicodeEncodeError:  # half a surrogate pair
                return body
        case {"slight-py-base64": str(encoded)} if len(state) == 1:  # _BYTES
            try:
                return base64.b64decode(encoded, validate=True)
            except (binascii.Error, ValueError):
                return body
    return body
