"""Between the messages on the wire and those that a guest sees.

A guest is not trusted with the framing of its response: what it may set is checked, what the server sets is not its to
set, and nothing that it writes can end a header line.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple

from capabilities.bindings.http_types import Headers, Response
from capabilities.http.cors import TOKEN

NO_CONTENT = (204, 205, 304)
"""The statuses whose response has no content: RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5."""

# What becomes of a header that a guest sets.
_KEPT, _DROPPED, _CONNECTION, _CORS, _DATE, _INVALID = range(6)

# The server's own (RFC 9110 section 7.6.1 for the connection's), and what a guest copies from its request.
_NOT_THE_GUESTS = frozenset(
    ("content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect")
)

_CACHED_NAME = 100
"""The longest name of a header whose fate is remembered."""

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


class BadResponse(Exception):
    """A guest's response can't be sent. `str()` says why, for the log."""


def guest_headers(raw: tuple[tuple[bytes, bytes], ...]) -> Headers:
    """Headers as a guest sees them: in order, names in lower case.

    A value that isn't UTF-8 is read as ISO 8859-1, which takes any bytes.
    """
    try:
        return [(_lower(name), value.decode()) for name, value in raw]
    except UnicodeDecodeError:
        return [(_lower(name), _text(value)) for name, value in raw]


@lru_cache(maxsize=1024)
def _lower(name: bytes) -> str:
    return name.decode("latin-1").lower()


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def origin_form(target: str) -> str:
    """Path and query of a request's target: an absolute URL's too, and never a fragment."""
    target = target.partition("#")[0]
    if target.startswith("/") or target == "*":
        return target
    rest = target.partition("://")[2]
    start = next((at for at, char in enumerate(rest) if char in "/?"), len(rest))
    return rest[start:] if rest[start : start + 1] == "/" else "/" + rest[start:]


def authority(target: str) -> str | None:
    """Host and port of a request's target, where that is an absolute URL: RFC 9112 section 3.2.2 has them take the
    place of the header."""
    _, scheme_ends, rest = target.partition("://")
    host = rest.partition("/")[0].partition("?")[0].partition("#")[0].rpartition("@")[2]
    return host if scheme_ends and host else None


def encode_head(response: Response, method: str, own_lines: str, cors_is_ours: bool) -> bytes:
    """The head of a response to a request with that method, ended by its empty line.

    `own_lines` are header lines of the server, and `cors_is_ours` says that they are about CORS. Content-Length and
    Date are set here.

    Raises BadResponse.
    """
    status = response.status
    line = _STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n"
    if not 200 <= status <= 599:
        raise BadResponse(f"the status {status} is not one of 200 to 599")
    parts = [line, own_lines]
    named_by_connection: list[str] = []
    dated = False
    for name, value in response.headers or ():
        kind = _kind(name) if len(name) <= _CACHED_NAME else _kind_of(name)
        if kind:
            if kind == _INVALID:
                raise BadResponse(f"the header name {name!r} is not a token")
            if kind == _CONNECTION:
                named_by_connection += value.lower().split(",")
            dated = dated or kind == _DATE
            if kind in (_DROPPED, _CONNECTION) or (kind == _CORS and cors_is_ours):
                continue
        if not value.isprintable() and _has_control(value):
            raise BadResponse(f"the header {name} holds a control character: {value!r}")
        parts.append(f"{name}: {value}\r\n")
    if named_by_connection:
        dropped = {name.strip() for name in named_by_connection}
        parts[2:] = [part for part in parts[2:] if part.partition(":")[0].lower() not in dropped]
    length = _content_length(response, method)
    if length is not None:
        parts.append(f"Content-Length: {length}\r\n")
    if not dated:
        parts.append(_date_line())
    parts.append("\r\n")
    try:
        return "".join(parts).encode()
    except UnicodeEncodeError:
        raise BadResponse("a header is not Unicode text") from None


def _content_length(response: Response, method: str) -> int | None:
    """The Content-Length to send, if any: RFC 9110 section 8.6.

    The answer to HEAD says how long that to GET is; a guest that left the content away for HEAD didn't tell.
    """
    status = response.status
    if status in NO_CONTENT:
        return 0 if status == 205 else None
    length = len(response.body) if response.body else 0
    return None if method == "HEAD" and not length else length


def _kind_of(name: str) -> int:
    lower = name.lower()
    if not name or not TOKEN.issuperset(name):
        return _INVALID
    if lower in _NOT_THE_GUESTS or lower.startswith("proxy-"):
        return _DROPPED
    if lower.startswith("access-control-"):
        return _CORS
    return {"connection": _CONNECTION, "date": _DATE}.get(lower, _KEPT)


_kind = lru_cache(maxsize=1024)(_kind_of)


def _has_control(value: str) -> bool:
    """Whether there is a character that no header value may hold: RFC 9110 section 5.5."""
    return any((char < " " and char != "\t") or char == "\x7f" for char in value)


_date = (0, "")


def _date_line() -> str:
    """The header Date, worked out once a second."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, f"Date: {formatdate(now, usegmt=True)}\r\n")
    return _date[1]


# Responses that are streamed. Their headers are bytes, as components have them.

Fields = Sequence[tuple[str, bytes]]
"""Headers or trailers: names, and values without the spaces around them."""

_CACHED_FIELDS, _CACHED_VALUE = 8, 128
"""How many headers a list may have that is remembered, and how long their values may be, in bytes."""

_CONTROL = re.compile(rb"[\0-\x08\x0a-\x1f\x7f]")
"""What no header value may hold: RFC 9110 section 5.5."""

_LENGTH = re.compile(rb"[0-9]{1,18}")

_NOT_IN_TRAILERS = frozenset(
    (
        *("age", "authorization", "cache-control", "content-encoding", "content-range", "content-type", "expires"),
        *("location", "max-forwards", "range", "retry-after", "set-cookie", "vary", "www-authenticate"),
    )
)
"""What is needed before the content, besides what is not a guest's to send: RFC 9110 section 6.5.1."""


class FieldLines(NamedTuple):
    """The headers of a response as they are sent."""

    lines: bytes
    length: int | None
    """What Content-Length says, which is not in `lines`."""
    dated: bool
    """Whether there is a Date in them."""


def field_lines(fields: Fields, cors_is_ours: bool) -> FieldLines:
    """The header lines of a guest's response. Raises BadResponse.

    What belongs to the connection is left out, as in `encode_head`; but Content-Length and Trailer are the guest's.
    """
    if len(fields) <= _CACHED_FIELDS:
        for name, value in fields:
            if len(value) > _CACHED_VALUE or len(name) > _CACHED_NAME:
                break
        else:
            return _cached_field_lines(tuple(fields), cors_is_ours)
    return _field_lines(fields, cors_is_ours)


def _field_lines(fields: Fields, cors_is_ours: bool) -> FieldLines:
    parts: list[bytes] = []
    length: int | None = None
    dated = False
    for name, value in fields:
        kind = _kind_of(name)
        lower = name.lower()
        _check_field(name, value, kind)
        if lower == "content-length":
            length = _declared(value, length)
        elif kind in (_DATE, _KEPT) or lower == "trailer" or (kind == _CORS and not cors_is_ours):
            dated = dated or kind == _DATE
            parts += (name.encode(), b": ", value, b"\r\n")
    return FieldLines(b"".join(parts), length, dated)


_cached_field_lines = lru_cache(maxsize=256)(_field_lines)


def _check_field(name: str, value: bytes, kind: int) -> None:
    """Raises BadResponse."""
    if kind == _INVALID:
        raise BadResponse(f"the header name {name[:100]!r} is not a token")
    if _CONTROL.search(value):
        raise BadResponse(f"the header {name[:100]} holds a control character: {value[:100]!r}")


def _declared(value: bytes, before: int | None) -> int:
    """A Content-Length. Raises BadResponse for one that is no number, and for two that differ."""
    if not _LENGTH.fullmatch(value) or (before is not None and before != int(value)):
        raise BadResponse(f"the Content-Length {value[:100]!r} is no number, or there is another one")
    return int(value)


def informational_head(status: int, fields: Fields) -> bytes:
    """A response with a status below 200. Raises BadResponse; 100 and 101 are the server's own affair."""
    if not 102 <= status <= 199:
        raise BadResponse(f"the status {status} is not one of 102 to 199")
    return _encoded_status_line(status) + field_lines(fields, True).lines + b"\r\n"


def status_line(status: int) -> bytes:
    """The first line of a response. Raises BadResponse for a status that is none of a response's."""
    if not 200 <= status <= 599:
        raise BadResponse(f"the status {status} is not one of 200 to 599")
    return _encoded_status_line(status)


@lru_cache(maxsize=256)
def _encoded_status_line(status: int) -> bytes:
    return (_STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n").encode()


@lru_cache(maxsize=64)
def encoded(lines: str) -> bytes:
    """Header lines of the server as they are sent."""
    return lines.encode()


def date_line() -> bytes:
    return encoded(_date_line())


def trailer_lines(fields: Fields) -> bytes:
    """Trailers as they are sent, without those that belong to the connection or before the content.

    Raises BadResponse.
    """
    parts: list[bytes] = []
    for name, value in fields:
        kind = _kind_of(name)
        _check_field(name, value, kind)
        if kind == _KEPT and name.lower() not in _NOT_IN_TRAILERS:
            parts += (name.encode(), b": ", value, b"\r\n")
    return b"".join(parts)


def trailers_of(lines: Sequence[bytes]) -> list[tuple[str, bytes]]:
    """The trailers of a request, from their lines, without those that belong to the connection or before the content:
    names in lower case."""
    found = []
    for line in lines:
        name, _, value = line.partition(b":")
        lower = _lower(name)
        if _kind_of(lower) == _KEPT and lower not in _NOT_IN_TRAILERS:
            found.append((lower, value.strip(b" \t")))
    return found
