"""Between the messages on the wire and those that a guest sees.

A guest is not trusted with the framing of its response: what it may set is checked, what the server sets is not its to
set, and nothing that it writes can end a header line.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

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
