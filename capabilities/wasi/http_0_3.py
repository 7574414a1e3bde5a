"""wasi:http 0.3: the resources of `types`, and the response of a handler on its way to the client.

The rules are those of the WIT of `wasi:http@0.3` (`wit/wasi/http-0.3`). Bodies are streams of the component model, and
trailers a future that comes after them. What sends requests is in `http_0_3_client`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TypeAlias

from bindgen.runtime import Err, Ok
from bindgen.runtime.component import FutureReader, StreamReader
from capabilities.bindings.wasi_http_0_3 import types
from capabilities.http.dispatch import Exchange, RequestBody, ResponseBody, WrongLength
from capabilities.http.message import BadResponse
from capabilities.wasi import http_fields
from capabilities.wasi.http_errors import Failed, code_of, describe, status_of
from capabilities.wasi.http_fields import FieldList, FieldsTooLarge, ForbiddenField, InvalidField, Pair
from capabilities.wasi.http_parts import Asked, Parts

PIECE = 64 * 1024
"""How many bytes of a body are read at a time."""

PATIENCE = 0.001
"""How many seconds the head of a response waits for a short body to be sent with it: guests return it before."""

Trailers: TypeAlias = "Ok[Fields | None] | Err[types.ErrorCode]"
"""What comes after a body."""

Sent: TypeAlias = "Ok[None] | Err[types.ErrorCode]"
"""How the transmission of a message has ended."""

_PARTS = Parts(types)


# Fields.


class Fields:
    """The resource `fields`."""

    __slots__ = ("content", "mutable")

    def __init__(self, content: FieldList, mutable: bool = True) -> None:
        self.content = content
        self.mutable = mutable

    async def get(self, name: str) -> list[bytes]:
        return self.content.get(name)

    async def has(self, name: str) -> bool:
        return self.content.has(name)

    async def set(self, name: str, value: Sequence[bytes]) -> None:
        with self._changing():
            self.content.set(name, value)

    async def delete(self, name: str) -> None:
        with self._changing():
            self.content.delete(name)

    async def get_and_delete(self, name: str) -> list[bytes]:
        with self._changing():
            return self.content.delete(name)

    async def append(self, name: str, value: bytes) -> None:
        with self._changing():
            self.content.append(name, value)

    async def copy_all(self) -> list[Pair]:
        return list(self.content.pairs)

    async def clone(self) -> Fields:
        return Fields(self.content.copy())

    def take(self) -> FieldList:
        """What is in it, for a message that the guest has handed it over to."""
        return self.content if self.mutable else self.content.copy()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Raises Err[HeaderError]."""
        if not self.mutable:
            raise Err(types.HeaderErrorImmutable())
        with _checking():
            yield


@contextmanager
def _checking() -> Iterator[None]:
    """Raises Err[HeaderError] for what a list of fields can't hold."""
    try:
        yield
    except (InvalidField, ForbiddenField, FieldsTooLarge) as error:
        _refuse(error)


def _refuse(error: Exception) -> NoReturn:
    match error:
        case InvalidField():
            raise Err(types.HeaderErrorInvalidSyntax()) from None
        case ForbiddenField():
            raise Err(types.HeaderErrorForbidden()) from None
    raise Err(types.HeaderErrorSizeExceeded()) from None


# Bodies.


class Transmission:
    """How a message that a guest has made gets on: the future that it waits for."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        self.future: asyncio.Future[Sent] = asyncio.get_running_loop().create_future()

    def end(self, how: Sent) -> None:
        if not self.future.done():
            self.future.set_result(how)


class GuestContent:
    """The body of a message that a guest has made."""

    __slots__ = ("_contents", "_trailers", "transmission")

    def __init__(self, contents: StreamReader[bytes] | None, trailers: FutureReader[Trailers]) -> None:
        self._contents = contents
        self._trailers = trailers
        self.transmission = Transmission()

    @property
    def is_empty(self) -> bool:
        return self._contents is None

    def expect(self) -> None:
        """It will be read: the guest needn't wait for that with a short body."""
        if self._contents is not None:
            self._contents.expect(PIECE)
        self._trailers.expect()

    async def read(self) -> bytes:
        """The next bytes; none at the end. Raises an exception where the guest has ended."""
        return b"" if self._contents is None else await self._contents.read(PIECE)

    async def trailers(self) -> list[Pair]:
        """Those after the body. Raises Failed where the guest says that there was an error."""
        answer = await self._trailers
        if isinstance(answer, Err):
            raise Failed(answer.value)
        return [] if answer.value is None else answer.value.take().pairs

    def hand_over(self) -> tuple[Any, Any]:
        """Stream and trailers, for a guest that consumes the body itself."""
        return (_Nothing() if self._contents is None else self._contents), self._trailers

    def end(self, how: Sent) -> None:
        """Nobody reads any more."""
        if self._contents is not None:
            self._contents.close()
        self._trailers.close()
        self.transmission.end(how)


class HostContent:
    """The body of a message that came over the wire."""

    __slots__ = ("_source",)

    def __init__(self, source: RequestBody) -> None:
        self._source = source

    @property
    def is_empty(self) -> bool:
        return self._source.ended

    async def read(self) -> bytes:
        self._source.wanted = True
        return await self._source.read(PIECE)

    async def trailers(self) -> list[Pair]:
        return [pair for pair in self._source.trailers() if pair[0] not in http_fields.FORBIDDEN]

    def hand_over(self) -> tuple[Any, Any]:
        self._source.wanted = True
        stream = _Stream(self._source)
        return stream, stream.trailers()

    def end(self, how: Sent) -> None:
        self._source.close()


class _Stream(AsyncIterator[bytes]):
    """What a guest reads of a body that comes over the wire. It ends where that breaks, and the trailers say why."""

    __slots__ = ("_error", "_over", "_source")

    def __init__(self, source: RequestBody) -> None:
        self._source = source
        self._error: Exception | None = None
        self._over = asyncio.Event()

    def __aiter__(self) -> _Stream:
        return self

    async def __anext__(self) -> bytes:
        try:
            data = await self._source.read(PIECE)
        except Exception as error:
            self._error = error
            data = b""
        if not data:
            self._over.set()
            raise StopAsyncIteration
        return data

    async def aclose(self) -> None:
        """The guest reads no more."""
        self._over.set()

    async def trailers(self) -> Trailers:
        """Those after the body, once the stream is over; what the guest has not read of it is dropped."""
        await self._over.wait()
        try:
            if self._error is not None:
                raise self._error
            while await self._source.read(PIECE):
                pass
            pairs = await HostContent(self._source).trailers()
        except Exception as error:
            return Err(code(error))
        return Ok(Fields(FieldList(pairs), mutable=False) if pairs else None)


class _Nothing(AsyncIterator[bytes]):
    """The stream of a body that there isn't."""

    def __aiter__(self) -> _Nothing:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration


Content = GuestContent | HostContent


def code(error: BaseException) -> types.ErrorCode:
    found: types.ErrorCode | None = code_of(error, types)
    return found or types.ErrorCodeInternalError(type(error).__name__)


_background: set[asyncio.Task[None]] = set()
"""What goes on while nobody waits for it: tasks must be held by somebody."""


def in_background(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(work)
    _background.add(task)
    task.add_done_callback(_background.discard)


async def _report(result: FutureReader[Sent], report: Callable[[Sent], None]) -> None:
    """Passes on what a guest says of how it has handled a message; nothing where it ends before."""
    try:
        how: Sent = await result
    except Exception:
        how = Err(types.ErrorCodeInternalError(None))
    report(how)


# Messages.


class RequestOptions:
    """The resource `request-options`. All times are in nanoseconds."""

    __slots__ = ("between_bytes", "connect", "first_byte", "mutable")

    def __init__(self) -> None:
        self.connect: int | None = None
        self.first_byte: int | None = None
        self.between_bytes: int | None = None
        self.mutable = True

    async def get_connect_timeout(self) -> int | None:
        return self.connect

    async def set_connect_timeout(self, duration: int | None) -> None:
        self._check_mutable()
        self.connect = duration

    async def get_first_byte_timeout(self) -> int | None:
        return self.first_byte

    async def set_first_byte_timeout(self, duration: int | None) -> None:
        self._check_mutable()
        self.first_byte = duration

    async def get_between_bytes_timeout(self) -> int | None:
        return self.between_bytes

    async def set_between_bytes_timeout(self, duration: int | None) -> None:
        self._check_mutable()
        self.between_bytes = duration

    async def clone(self) -> RequestOptions:
        made = RequestOptions()
        made.connect, made.first_byte, made.between_bytes = self.connect, self.first_byte, self.between_bytes
        return made

    def _check_mutable(self) -> None:
        """Raises Err[RequestOptionsError]."""
        if not self.mutable:
            raise Err(types.RequestOptionsErrorImmutable())


class Request(Asked):
    """The resource `request`."""

    __slots__ = ("content", "fields", "options")

    PARTS = _PARTS

    def __init__(self, fields: FieldList, content: Content, options: RequestOptions | None = None) -> None:
        super().__init__()
        self.fields = fields
        self.content = content
        self.options = options

    @classmethod
    def incoming(cls, exchange: Exchange) -> Request:
        """A request that a server got: what `handler.handle` is called with."""
        made = cls(http_fields.of_message(exchange.headers), HostContent(exchange.body))
        made.method_name = exchange.method
        made._path = exchange.target or None
        made._scheme = exchange.scheme
        made._authority = exchange.authority
        return made

    async def get_method(self) -> types.Method:
        found: types.Method = _PARTS.method(self.method_name)
        return found

    async def get_path_with_query(self) -> str | None:
        return self._path

    async def get_scheme(self) -> types.Scheme | None:
        return None if self._scheme is None else _PARTS.scheme(self._scheme)

    async def get_authority(self) -> str | None:
        return self._authority

    async def get_options(self) -> RequestOptions | None:
        return self.options

    async def get_headers(self) -> Fields:
        return Fields(self.fields, mutable=False)

    def on_drop(self) -> None:
        self.content.end(Err(types.ErrorCodeInternalError("the request was dropped")))


class Response:
    """The resource `response`."""

    __slots__ = ("content", "fields", "status")

    def __init__(self, fields: FieldList, content: Content, status: int = 200) -> None:
        self.fields = fields
        self.content = content
        self.status = status

    async def get_status_code(self) -> int:
        return self.status

    async def set_status_code(self, status_code: int) -> None:
        if not 100 <= status_code <= 599:
            raise Err(None)
        self.status = status_code

    async def get_headers(self) -> Fields:
        return Fields(self.fields, mutable=False)

    def on_drop(self) -> None:
        self.content.end(Err(types.ErrorCodeInternalError("the response was dropped")))


# The functions that belong to no resource, and the constructors.


class TypesHost:
    """Answers `wasi:http/types`."""

    async def fields_new(self) -> Fields:
        return Fields(FieldList())

    async def fields_from_list(self, entries: Sequence[Pair]) -> Fields:
        with _checking():
            return Fields(FieldList.checked(entries))

    async def request_new(
        self,
        headers: Fields,
        contents: StreamReader[bytes] | None,
        trailers: FutureReader[Trailers],
        options: RequestOptions | None,
    ) -> tuple[Request, Awaitable[Sent]]:
        content = GuestContent(contents, trailers)
        if options is not None:
            options.mutable = False
        return Request(headers.take(), content, options), content.transmission.future

    async def request_consume_body(self, this: Request, res: FutureReader[Sent]) -> tuple[Any, Awaitable[Trailers]]:
        return _consume(this.content, res)

    async def request_options_new(self) -> RequestOptions:
        return RequestOptions()

    async def response_new(
        self, headers: Fields, contents: StreamReader[bytes] | None, trailers: FutureReader[Trailers]
    ) -> tuple[Response, Awaitable[Sent]]:
        content = GuestContent(contents, trailers)
        return Response(headers.take(), content), content.transmission.future

    async def response_consume_body(self, this: Response, res: FutureReader[Sent]) -> tuple[Any, Awaitable[Trailers]]:
        return _consume(this.content, res)


def _consume(content: Content, result: FutureReader[Sent]) -> tuple[Any, Awaitable[Trailers]]:
    """Hands a body over to a guest, which says in `result` what has become of it."""
    report = content.transmission.end if isinstance(content, GuestContent) else lambda _: None
    in_background(_report(result, report))
    stream, trailers = content.hand_over()
    return stream, trailers


# Sending a body.


async def send(content: Content, writer: ResponseBody) -> None:
    """Sends a body as it comes, and says how that has ended to whoever made it.

    Raises what goes wrong, once the connection is cut.
    """
    try:
        while data := await content.read():
            writer.write(data)
            if writer.room <= 0:
                await writer.drain()
        writer.finish(await content.trailers())
    except BaseException as error:
        if isinstance(error, Exception) and not isinstance(error, WrongLength | ConnectionError):
            writer.cut(f"the body can't be sent: {error or type(error).__name__}")
        content.end(Err(_sending_code(error)))
        raise
    content.end(Ok(None))


def _sending_code(error: BaseException) -> types.ErrorCode:
    return types.ErrorCodeHTTPResponseBodySize(error.written) if isinstance(error, WrongLength) else code(error)


def expect(answer: object) -> None:
    """Takes note of what a handler has returned, before it goes on: a response is about to be sent."""
    if isinstance(answer, Response) and isinstance(answer.content, GuestContent):
        answer.content.expect()


async def respond(exchange: Exchange, response: Response) -> None:
    """Sends what a handler has returned, as its body comes. What goes wrong is in the log."""
    content = response.content
    try:
        writer = exchange.start(response.status, response.fields.pairs, PATIENCE)
    except BadResponse as error:
        content.end(Err(code(error)))
        exchange.fail(500, f"the response can't be sent: {error}")
        return
    with suppress(Exception):  # the connection is cut then, and the log says why
        await send(content, writer)


def refuse(exchange: Exchange, code: types.ErrorCode) -> None:
    """Answers where a handler has returned an error."""
    exchange.fail(status_of(code), f"the guest answered with the error {describe(code)}")
