"""Requests to other servers: what stands behind the interface `http-client`.

This module says what a client is: its Protocol, its messages and its errors. `client` is the one that there is, on
aiohttp, with `upload` and `download` for bodies that are streamed; `urls`, `addresses`, `fields`, `policy`, `resolver`
and `proxies` decide what it sends and where, and `connections` what it listens to. `host` answers the guests. The page
for users is docs/http-client.md.

Nothing is imported here, as a module that sends no requests needs no aiohttp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from capabilities.errors import CapabilityError


@dataclass(frozen=True, slots=True)
class Request:
    """A request. Nothing of it is trusted."""

    method: str
    url: str
    """A whole one, `https://HOST/PATH?QUERY`."""
    headers: Sequence[tuple[str, str]]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """The response of the server that the last redirect led to."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    """As they were sent, in order, without those that concern the connection."""
    body: bytes
    """As it was sent: what `Content-Encoding` says holds for it."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a request whose bodies are streamed may wait, in seconds; None for as long as the client lets all."""

    connect: float | None = None
    """For a connection."""
    first_byte: float | None = None
    """For the head of the response, while nothing of the request's body is sent."""
    between_bytes: float | None = None
    """For more of the response's body."""


class Client(Protocol):
    """What sends requests.

    A client is made as `Client(configs)` from a mapping of strings: that checks the configuration, raises ConfigError,
    and does no I/O. All guests of a process share one, with its connections.
    """

    REQUIRED: ClassVar[tuple[str, ...]]
    """The keys that the configuration must have."""

    OPTIONAL: ClassVar[tuple[str, ...]]
    """The keys that it may have."""

    async def send(self, request: Request) -> Response:
        """The response to a request, whatever its status. Redirects are followed. Raises HttpClientError."""
        ...

    async def close(self) -> None:
        """Closes all connections. The client is of no use afterwards."""
        ...


class HttpClientError(CapabilityError):
    """Anything that can go wrong with a request and has no class of its own."""


class InvalidUrl(HttpClientError):
    """The request's URL is none that a request can be sent to."""


class InvalidRequest(HttpClientError):
    """The method or a header is none that HTTP has."""


class Refused(HttpClientError):
    """The configuration doesn't grant requests to this server, or by this scheme."""


class RefusedAddress(Refused):
    """The server is granted, and at an address that is not."""


class Unreachable(HttpClientError):
    """There is no connection: the name is unknown, the server or the proxy doesn't accept one, TLS fails."""


class UnknownName(Unreachable):
    """There is no address of the server's name."""


class TlsFailed(Unreachable):
    """TLS fails."""


class Untrusted(TlsFailed):
    """The server's certificate is not trusted."""


class TimedOut(HttpClientError):
    """There was no whole response in time."""


class NotConnectedInTime(TimedOut):
    """There was no connection in time."""


class StalledResponse(TimedOut):
    """Nothing of the response's body came for too long."""


class Broken(HttpClientError):
    """The connection ended before the response did."""


class InvalidResponse(HttpClientError):
    """What came back is not HTTP, or leads nowhere: redirects without end, or to no URL."""


class TooLarge(HttpClientError):
    """The request or the response is larger than is allowed."""


class TooManyRequests(HttpClientError):
    """There are too many requests at once."""


class RefusedByProxy(HttpClientError):
    """A proxy answered in the server's place."""

    def __init__(self, status: int, message: str, notice: str | None = None) -> None:
        super().__init__(message, notice)
        self.status = status
        """The status of the proxy's response."""
