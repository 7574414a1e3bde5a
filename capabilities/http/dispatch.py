"""How the HTTP server reaches what answers requests. The runtime implements it.

There are two ways. A `Dispatcher` finds exported functions by the names that routes give them, gets whole requests, and
returns whole responses. A `StreamingDispatcher` gets each request as an `Exchange` as soon as its head is there, and
reads the body and writes the response piece by piece.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from bindgen.runtime import Err
from capabilities.bindings.http_types import HttpRouterErrorUnexpectedError, Request, Response


class HandlerFailure(Exception):
    """A handler trapped or broke the binary interface. `str()` of it is for the log, never for the client."""


class Dispatcher(Protocol):
    """Finds handlers by name and runs them."""

    def resolve(self, handler: str) -> Any | None:
        """The exported handler of this name, snake case read as kebab case, or None where there is none.

        Raises ValueError, with the reason, where a function of that name has another signature.
        """

    async def handle(self, handler: Any, request: Request) -> Response:
        """Runs what `resolve` returned in a fresh instance; cancelling it ends the instance.

        Raises `Err[HttpError]`, the handler's own error, or HandlerFailure.
        """


def resolve(dispatcher: Dispatcher, handler: str) -> Any:
    """The handler of that name. Raises `Err[HttpRouterErrorUnexpectedError]`, which names what is missing."""
    try:
        found = dispatcher.resolve(handler)
    except ValueError as error:
        raise Err(HttpRouterErrorUnexpectedError(str(error))) from None
    if found is None:
        exported = handler.replace("_", "-")
        raise Err(HttpRouterErrorUnexpectedError(f"no exported function {exported!r}"))
    return found


# Streaming.


class BodyError(Exception):
    """The body of a request can't be read on. `str()` says why."""


class BodyTooLarge(BodyError):
    """The body is longer than the server's `max_body`."""


class BodyTimeout(BodyError):
    """The client takes too long to send the body."""


class BodyBroken(BodyError):
    """The framing of the body is broken, or the client left before its end."""


class TrailersTooLarge(BodyError):
    """The trailers are larger than the server takes them."""


class WrongLength(Exception):
    """What was written of a response's body is not what its Content-Length says. The connection is cut."""

    def __init__(self, written: int, declared: int) -> None:
        super().__init__(f"the response has {written} bytes of the {declared} that its Content-Length says")
        self.written = written
        """How many bytes were written, those among them that are too many."""
        self.declared = declared
        """How many there should be."""


class RequestBody(Protocol):
    """The body of a request, which one reader reads.

    While nobody reads, the client is stopped once about 128 KiB wait here.
    """

    wanted: bool
    """Whether somebody is going to read it. A client that expects `100 Continue` is sent that when the reader waits, or
    else, where the body is wanted, before the response's head."""

    @property
    def ready(self) -> bool:
        """Whether `take` returns something or raises, or the body has ended."""

    @property
    def ended(self) -> bool:
        """Whether all of the body was read."""

    def take(self, most: int) -> bytes:
        """Up to `most` bytes of those that have come: none where none have, and at the end.

        Raises BodyError, also for what was too much of the body before.
        """

    def when_ready(self, call: Callable[[], None]) -> None:
        """Has `call` called once, with nothing, when `ready` becomes true. It takes the place of one given before."""

    async def read(self, most: int) -> bytes:
        """The next bytes, at least one and up to `most`; none at the end. Raises BodyError."""

    def trailers(self) -> list[tuple[str, bytes]]:
        """The fields after a body in chunks, names in lower case; none before the end. Raises TrailersTooLarge."""

    def close(self) -> None:
        """Nobody reads any more: what is to come is dropped."""


class ResponseBody(Protocol):
    """The body of a response, which one writer writes."""

    @property
    def room(self) -> int:
        """How many bytes may be written now. To write more is no error, but takes memory."""

    def write(self, data: bytes) -> None:
        """Sends a piece of the body, which must not change any more: at the end of this turn of the event loop, with
        others, or before.

        Raises WrongLength where it's more than the Content-Length that was set, and ConnectionError where the client
        is gone.
        """

    def when_room(self, call: Callable[[], None]) -> None:
        """Has `call` called once, with nothing, when `room` becomes more than 0."""

    async def drain(self) -> None:
        """Waits until there is room. Raises ConnectionError where the client is gone."""

    def finish(self, trailers: Sequence[tuple[str, bytes]] = ()) -> None:
        """That was the body. Trailers go out where it's sent in chunks: in HTTP/1.1, without a Content-Length.

        Raises WrongLength and ConnectionError as `write` does, and BadResponse for trailers that can't be sent.
        """

    def cut(self, reason: str) -> None:
        """The body won't get whole: the connection is closed, or, where nothing is sent yet, the client gets an answer
        with the status 500 when the handler ends. `reason` goes to the log."""


class Exchange(Protocol):
    """One request, and what answers it."""

    @property
    def method(self) -> str:
        """Any token: RFC 9110 section 9.1."""

    @property
    def target(self) -> str:
        """Path and query as they were sent; `*` where the request is about the server as a whole, and empty for
        CONNECT."""

    @property
    def authority(self) -> str | None:
        """Host and port that the request is for, None where it doesn't say."""

    @property
    def scheme(self) -> str:
        """`http` or `https`."""

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """In order, as they were sent."""

    @property
    def client(self) -> str:
        """The address of the connection's other end."""

    @property
    def body(self) -> RequestBody: ...

    def inform(self, status: int, headers: Sequence[tuple[str, bytes]]) -> None:
        """Sends a response before the one that counts, with a status from 102 to 199, to a client that knows of such:
        RFC 9110 section 15.2. Raises BadResponse for what can't be sent, and ConnectionError where the client is gone.
        """

    def start(self, status: int, headers: Sequence[tuple[str, bytes]], patience: float = 0.0) -> ResponseBody:
        """Sends the head of the response, with the first of its body: once, and `fail` doesn't come after it.

        Content-Length is the headers' own, if they have it. Otherwise a body that is whole before its writer waits for
        anything, or within `patience` seconds, gets one, and any other is sent in chunks. Raises BadResponse for what
        can't be sent.
        """

    def fail(self, status: int, reason: str) -> None:
        """Answers with a status that says that there was an error; `reason` goes to the log alone."""


class StreamingDispatcher(Protocol):
    """Answers requests piece by piece."""

    async def handle(self, exchange: Exchange) -> None:
        """Answers one request. It may go on after the response is finished.

        It's cancelled when the client leaves before the response is finished, and when it takes too long. Where it ends
        without a response the server answers with 500. Raises HandlerFailure where the handler trapped.
        """
