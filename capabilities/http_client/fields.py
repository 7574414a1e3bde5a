"""The headers of requests and responses: which of them a guest may set, and which it sees.

Those that say where a message ends, or that are between two machines of a connection, are the client's own: a guest
that could set them could have a server read two requests where there is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from capabilities.grants import quote
from capabilities.http.cors import TOKEN
from capabilities.http_client import InvalidRequest, InvalidResponse

METHODS = frozenset(("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"))

HEADERS_LIMIT = 128
"""How many headers a request may have, and a response."""

HEADER_BYTES = 16_384
"""How long a header may be, in bytes, of a request with its name and of a response without it."""

_CONNECTION = frozenset(("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings"))
"""RFC 9110 section 7.6.1. All that begins with `proxy-` belongs to them."""

_OWN = frozenset(("content-length", "expect", "host"))
"""What the client says itself of a request."""

_CREDENTIALS = frozenset(("authorization", "cookie", "cookie2"))
"""What is for one origin alone: RFC 9110 section 15.4."""

_ABOUT_CONTENT = frozenset(
    ("content-encoding", "content-language", "content-location", "content-md5", "content-type", "digest")
)
"""What makes no sense without the body."""

Fields = list[tuple[str, str]]


def for_request(headers: Sequence[tuple[str, str]]) -> Fields:
    """The headers of a guest that are sent. Raises InvalidRequest."""
    if len(headers) > HEADERS_LIMIT:
        raise InvalidRequest(f"the request has more than {HEADERS_LIMIT} headers")
    for name, value in headers:
        if not name or not TOKEN.issuperset(name):
            raise InvalidRequest(f"the header name {quote(name)} is not a token")
        if any((char < " " and char != "\t") or char == "\x7f" for char in value):
            raise InvalidRequest(f"the header {quote(name)} holds a control character")
        if len(name) + len(value.encode()) > HEADER_BYTES:
            raise InvalidRequest(f"the header {quote(name)} has more than {HEADER_BYTES} bytes")
    connection = _connection(headers)
    return [(name, value.strip(" \t")) for name, value in headers if name.lower() not in connection | _OWN]


def for_another_origin(headers: Fields) -> Fields:
    """The headers that may follow a redirect from one origin to another."""
    return [(name, value) for name, value in headers if name.lower() not in _CREDENTIALS]


def without_content(headers: Fields) -> Fields:
    """The headers of a request that is sent again without its body."""
    return [(name, value) for name, value in headers if name.lower() not in _ABOUT_CONTENT]


def of_response(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of a response that a guest sees. Raises InvalidResponse for a body in a coding that is not undone."""
    texts = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
    codings = [value.strip().lower() for name, value in texts if name.lower() == "transfer-encoding"]
    if codings not in ([], ["chunked"]):
        raise InvalidResponse("the response's Transfer-Encoding is another one than chunked")
    hidden = _connection(texts) | ({"content-length"} if codings else frozenset())
    return [raw for raw, (name, _) in zip(headers, texts, strict=True) if name.lower() not in hidden]


def text(value: bytes) -> str:
    """A header's value as text: UTF-8, or ISO 8859-1, which takes any bytes."""
    try:
        return value.decode().strip()
    except UnicodeDecodeError:
        return value.decode("latin-1").strip()


def _connection(headers: Iterable[tuple[str, str]]) -> frozenset[str]:
    """The names, in lower case, of those headers that concern the connection alone."""
    names = {name.lower() for name, _ in headers}
    listed = (value.lower().split(",") for name, value in headers if name.lower() == "connection")
    named = {name.strip() for names_of_one in listed for name in names_of_one}
    return _CONNECTION | named | {name for name in names if name.startswith("proxy-")}
