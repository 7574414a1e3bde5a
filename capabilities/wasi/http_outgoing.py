"""wasi:http/outgoing-handler 0.2: requests of a component, by the client that the slightfile grants it."""

from __future__ import annotations

import asyncio

from bindgen.runtime import Err, Ok
from capabilities import http_client
from capabilities.bindings.wasi_http_0_2 import types
from capabilities.http_client import HttpClientError
from capabilities.http_client.client import HttpClient
from capabilities.http_client.download import Download
from capabilities.http_client.upload import Upload
from capabilities.wasi.http import IncomingResponse, OutgoingRequest, RequestOptions
from capabilities.wasi.http_errors import Failed, code_of
from capabilities.wasi.http_requests import declared_length, tell, texts, timeouts
from capabilities.wasi.io import Event, Pollable


class OutgoingHandlerHost:
    """Answers `wasi:http/outgoing-handler`."""

    __slots__ = ("_client",)

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    async def handle(self, request: OutgoingRequest, options: RequestOptions | None) -> FutureIncomingResponse:
        """Raises Err[ErrorCode] for a request that can't be sent or isn't granted."""
        try:
            upload = None
            if request.content is not None:
                upload = Upload(declared_length(request.fields, types))
                request.content.attach(upload)
            if request.method_name == "CONNECT":
                raise Failed(types.ErrorCodeHTTPRequestMethodInvalid())
            asked = http_client.Request(request.method_name, request.url, texts(request.fields, types))
            self._client.check(asked)
        except (HttpClientError, Failed) as error:
            if upload is not None:
                upload.abandon()
            raise Err(told(error)) from None
        return FutureIncomingResponse(asyncio.ensure_future(self._client.stream(asked, upload, timeouts(options))))


class FutureIncomingResponse:
    """The resource `future-incoming-response`."""

    __slots__ = ("_answered", "_event", "_task")

    def __init__(self, task: asyncio.Task[Download]) -> None:
        self._task = task
        self._event = Event()
        self._answered = False
        task.add_done_callback(self._done)

    async def subscribe(self) -> Pollable:
        return self._event

    async def get(self) -> Ok[Ok[IncomingResponse] | Err[types.ErrorCode]] | Err[None] | None:
        if self._answered:
            return Err(None)
        if not self._event.is_ready():
            return None
        self._answered = True
        error = self._task.exception()
        if error is not None:
            return Ok(Err(told(error)))
        return Ok(Ok(IncomingResponse(self._task.result())))

    def on_drop(self) -> None:
        """A request that is under way is given up."""
        if self._answered:
            return
        self._answered = True
        if not self._task.done():
            self._task.cancel()
        elif not self._task.cancelled() and self._task.exception() is None:
            self._task.result().close()

    def _done(self, task: asyncio.Task[Download]) -> None:
        if self._answered and not task.cancelled() and task.exception() is None:
            task.result().close()  # it came when nobody waited any more
        self._event.set()


def told(error: BaseException) -> types.ErrorCode:
    """The case of `error-code` for what went wrong; whoever runs the component is told what to do about it."""
    tell(error)
    code: types.ErrorCode | None = code_of(error, types)
    return code or types.ErrorCodeInternalError(type(error).__name__)
