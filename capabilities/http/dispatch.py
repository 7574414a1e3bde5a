"""How the HTTP server reaches the functions that answer requests. The runtime implements it."""

from __future__ import annotations

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
