"""Answers a guest's `http-client` imports, and what components import in its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bindgen.runtime import Err
from capabilities import http_client, notices
from capabilities.bindings.http_types import (
    HttpError,
    HttpErrorInvalidUrl,
    HttpErrorProtocolError,
    HttpErrorStatusError,
    HttpErrorTimeoutError,
    HttpErrorUnexpectedError,
    Request,
    Response,
)
from capabilities.http.message import guest_headers
from capabilities.http_client import Client, HttpClientError

if TYPE_CHECKING:
    from capabilities.wasi.http_0_3_client import ClientHost
    from capabilities.wasi.http_outgoing import OutgoingHandlerHost


def hosts(grants: Mapping[str, Client]) -> dict[str, object]:
    """What answers the interfaces of the family, which has no names: there is one grant."""
    (client,) = grants.values()
    return {
        "http-client": HttpClientHost(client),
        "wasi:http/outgoing-handler@0.2.12": OutgoingHandler(client),
        "wasi:http/client@0.3.0": ComponentClient(client),
    }


class OutgoingHandler:
    """Answers `wasi:http/outgoing-handler` with what is imported for the first request: nothing else needs it."""

    __slots__ = ("_client", "_host")

    def __init__(self, client: Any) -> None:
        self._client = client
        self._host: OutgoingHandlerHost | None = None

    async def handle(self, request: Any, options: Any) -> Any:
        """Raises Err[ErrorCode]."""
        if self._host is None:
            from capabilities.wasi.http_outgoing import OutgoingHandlerHost

            self._host = OutgoingHandlerHost(self._client)
        return await self._host.handle(request, options)


class ComponentClient:
    """The same for `wasi:http/client`."""

    __slots__ = ("_client", "_host")

    def __init__(self, client: Any) -> None:
        self._client = client
        self._host: ClientHost | None = None

    async def send(self, request: Any) -> Any:
        """Raises Err[ErrorCode]."""
        if self._host is None:
            from capabilities.wasi.http_0_3_client import ClientHost

            self._host = ClientHost(self._client)
        return await self._host.send(request)


class HttpClientHost:
    """Implements `HttpClientHost` of the bindings."""

    __slots__ = ("_client",)

    def __init__(self, client: Client) -> None:
        self._client = client

    async def request(self, req: Request) -> Response:
        """Raises Err[HttpError]. The request's `params`, which are a route's own, are not sent."""
        try:
            response = await self._client.send(
                http_client.Request(req.method.name, req.uri, req.headers, req.body or b"")
            )
        except HttpClientError as error:
            if error.notice is not None:
                notices.tell(error.notice)
            raise Err(_case(error)) from None
        return Response(response.status, guest_headers(tuple(response.headers)), response.body)


def _case(error: HttpClientError) -> HttpError:
    match error:
        case http_client.InvalidUrl():
            return HttpErrorInvalidUrl(str(error))
        case http_client.TimedOut():
            return HttpErrorTimeoutError(str(error))
        case http_client.RefusedByProxy():
            return HttpErrorStatusError(error.status)
        case (
            http_client.InvalidRequest() | http_client.InvalidResponse() | http_client.Broken() | http_client.TooLarge()
        ):
            return HttpErrorProtocolError(str(error))
    return HttpErrorUnexpectedError(str(error))
