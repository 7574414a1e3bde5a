"""What a component says of a request that it sends, as the client takes it: the same for all versions of wasi:http.

`types` is the generated module of a version's `types`.
"""

from __future__ import annotations

from typing import Any, Protocol

from capabilities import http_client, notices
from capabilities.http_client import HttpClientError
from capabilities.wasi.http_errors import Failed
from capabilities.wasi.http_fields import FieldList

LONGEST = 86_400.0
"""Seconds that a timeout of a guest is at most: it may ask for 584 years."""


class Options(Protocol):
    """The resource `request-options`, with times in nanoseconds."""

    connect: int | None
    first_byte: int | None
    between_bytes: int | None


def timeouts(options: Options | None) -> http_client.Timeouts:
    if options is None:
        return http_client.Timeouts()
    return http_client.Timeouts(
        _seconds(options.connect), _seconds(options.first_byte), _seconds(options.between_bytes)
    )


def _seconds(nanoseconds: int | None) -> float | None:
    """At least a moment, as 0 means no limit to many."""
    return None if nanoseconds is None else min(LONGEST, max(0.001, nanoseconds / 1e9))


def declared_length(fields: FieldList, types: Any) -> int | None:
    """What Content-Length says. Raises Failed where it says nothing that makes sense."""
    found = set(fields.get("content-length"))
    if not found:
        return None
    digits = found.pop()
    if found or not digits.isdigit() or len(digits) > 18:
        raise Failed(types.ErrorCodeHTTPProtocolError())
    return int(digits)


def texts(fields: FieldList, types: Any) -> list[tuple[str, str]]:
    """Headers as the client takes them. Raises Failed for a value that is not UTF-8."""
    try:
        return [(name, value.decode()) for name, value in fields.pairs]
    except UnicodeDecodeError:
        raise Failed(types.ErrorCodeHTTPProtocolError()) from None


def tell(error: BaseException) -> None:
    """Tells whoever runs the component what to do about an error of the client's."""
    if isinstance(error, HttpClientError) and error.notice is not None:
        notices.tell(error.notice)
