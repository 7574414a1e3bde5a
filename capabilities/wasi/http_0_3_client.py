"""wasi:http/client 0.3: requests of a component, by the client that the slightfile grants it."""

from __future__ import annotations

from bindgen.runtime import Err, Ok
from capabilities import http_client
from capabilities.bindings.wasi_http_0_3 import types
from capabilities.http.dispatch import WrongLength
from capabilities.http_client import HttpClientError
from capabilities.http_client.client import HttpClient
from capabilities.http_client.upload import Upload
from capabilities.wasi import http_fields
from capabilities.wasi.http_0_3 import Content, HostContent, Request, Response, code, in_background, send
from capabilities.wasi.http_errors import Failed
from capabilities.wasi.http_requests import declared_length, tell, texts, timeouts


class ClientHost:
    """Answers `wasi:http/client`."""

    __slots__ = ("_client",)

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    async def send(self, request: Request) -> Response:
        """The response, as soon as its head is there. Raises Err[ErrorCode]."""
        content = request.content
        upload: Upload | None = None
        try:
            if request.method_name == "CONNECT":
                raise Failed(types.ErrorCodeHTTPRequestMethodInvalid())
            asked = http_client.Request(request.method_name, request.url, texts(request.fields, types))
            self._client.check(asked)
            if content.is_empty:
                in_background(_finish(content))
            else:
                upload = Upload(declared_length(request.fields, types))
                in_background(_upload(content, upload))
            received = await self._client.stream(asked, upload, timeouts(request.options))
        except BaseException as error:
            if upload is not None:
                upload.abandon()
            content.end(Err(code(error)))
            if not isinstance(error, HttpClientError | Failed | WrongLength):
                raise
            tell(error)
            raise Err(code(error)) from None
        return Response(http_fields.of_message(received.headers), HostContent(received), received.status)


async def _upload(content: Content, upload: Upload) -> None:
    try:
        await send(content, upload)
    except Exception:
        upload.abandon()  # whoever waits for the response is told


async def _finish(content: Content) -> None:
    """Ends a body that there isn't, once its guest has written the trailers that it has to write."""
    try:
        await content.trailers()
    except Exception as error:
        content.end(Err(code(error)))
    else:
        content.end(Ok(None))
