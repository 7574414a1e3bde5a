"""Answers a guest's `http-client` imports."""

from __future__ import annotations

from collections.abc import Mapping

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


def hosts(grants: Mapping[str, Client]) -> dict[str, object]:
    """What answers the interface of the family, which has no names: there is one grant."""
    (client,) = grants.values()
    return {"http-client": HttpClientHost(client)}


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
