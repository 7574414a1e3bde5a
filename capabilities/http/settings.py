"""The settings of a server. They are known, and travel to the workers, before there is one."""

from __future__ import annotations

from dataclasses import dataclass, field

from capabilities.http.cors import Cors


@dataclass(frozen=True)
class HttpSettings:
    """The limits of one server."""

    max_body: int = 10 * 1024 * 1024
    """The most bytes of a request's body: more is answered with 413."""
    request_timeout: float = 30.0
    """How many seconds a handler may take: then it is cancelled, and the client gets 504."""
    body_timeout: float = 30.0
    """How many seconds a client may take to send a body: then it gets 408."""
    max_concurrent: int = 1000
    """The most requests at once, from the first byte of the body to the handler's end: more are answered with 503."""
    drain_timeout: float = 30.0
    """How many seconds requests under way get to end when the server stops."""
    cors: Cors = field(default_factory=Cors)
