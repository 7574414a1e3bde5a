"""wasi:http 0.2: the resources of `types`, and what a handler of incoming requests is called with.

The rules are those of the WIT of `wasi:http@0.2` (`wit/wasi/http-0.2`): what it says traps raises GuestFault. What
sends requests is in `http_outgoing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn, Protocol

from bindgen.runtime import Err, GuestFault, Ok
from capabilities.bindings.wasi_http_0_2 import types
from capabilities.bindings.wasi_io_0_2 import error as io_error
from capabilities.http.dispatch import Exchange, RequestBody, WrongLength
from capabilities.http.message import BadResponse
from capabilities.wasi import http_fields
from capabilities.wasi.http_bodies import BodyInput, BodyOutput, HasChildren, OutgoingContent, Parent
from capabilities.wasi.http_errors import Failed, code_of, describe, status_of
from capabilities.wasi.http_fields import FieldList, FieldsTooLarge, ForbiddenField, InvalidField, Pair
from capabilities.wasi.http_parts import Asked, Parts
from capabilities.wasi.io import Error, Event, InputStream, OutputStream, Pollable

_WHERE = "wasi:http/types"


# Fields.


class Fields:
    """The resource `fields`."""

    __slots__ = ("_list", "_mutable", "_parent")

    def __init__(self, content: FieldList, parent: HasChildren | None = None) -> None:
        """With `parent`, whose child it is, it's immutable."""
        self._list = content
        self._mutable = parent is None
        self._parent = parent
        if parent is not None:
            parent.children += 1

    async def get(self, name: str) -> list[bytes]:
        return self._list.get(name)

    async def has(self, name: str) -> bool:
        return self._list.has(name)

    async def set(self, name: str, value: Sequence[bytes]) -> None:
        self._check_mutable()
        try:
            self._list.set(name, value)
        except (InvalidField, ForbiddenField, FieldsTooLarge) as error:
            _refuse(error)

    async def delete(self, name: str) -> None:
        self._check_mutable()
        try:
            self._list.delete(name)
        except (InvalidField, ForbiddenField) as error:
            _refuse(error)

    async def append(self, name: str, value: bytes) -> None:
        self._check_mutable()
        try:
            self._list.append(name, value)
        except (InvalidField, ForbiddenField, FieldsTooLarge) as error:
            _refuse(error)

    async def entries(self) -> list[Pair]:
        return list(self._list.pairs)

    async def clone(self) -> Fields:
        return Fields(self._list.copy())

    def on_drop(self) -> None:
        self._leave()

    def take(self) -> FieldList:
        """What is in it, for a message that the guest has handed it over to."""
        self._leave()
        return self._list if self._mutable else self._list.copy()

    def _leave(self) -> None:
        parent, self._parent = self._parent, None
        if parent is not None:
            parent.children -= 1

    def _check_mutable(self) -> None:
        """Raises Err[HeaderError]."""
        if not self._mutable:
            raise Err(types.HeaderErrorImmutable())


def _refuse(error: Exception) -> NoReturn:
    """Raises Err[HeaderError], or GuestFault for what 0.2 has no error for."""
    match error:
        case InvalidField():
            raise Err(types.HeaderErrorInvalidSyntax()) from None
        case ForbiddenField():
            raise Err(types.HeaderErrorForbidden()) from None
    raise GuestFault(f"{_WHERE}: fields: {error}") from None


def _check_childless(parent: HasChildren, what: str, children: str) -> None:
    """Raises GuestFault."""
    if parent.children:
        raise GuestFault(f"{_WHERE}: {what}: its {children} must be dropped first")


# Requests that come in.

_PARTS = Parts(types)


class IncomingRequest(Parent):
    """The resource `incoming-request`."""

    __slots__ = ("_consumed", "_exchange", "_headers")

    def __init__(self, exchange: Exchange) -> None:
        super().__init__()
        self._exchange = exchange
        self._headers: FieldList | None = None
        self._consumed = False

    async def method(self) -> types.Method:
        found: types.Method = _PARTS.method(self._exchange.method)
        return found

    async def path_with_query(self) -> str | None:
        return self._exchange.target or None

    async def scheme(self) -> types.Scheme | None:
        found: types.Scheme = _PARTS.scheme(self._exchange.scheme)
        return found

    async def authority(self) -> str | None:
        return self._exchange.authority

    async def headers(self) -> Fields:
        if self._headers is None:
            self._headers = http_fields.of_message(self._exchange.headers)
        return Fields(self._headers, self)

    async def consume(self) -> IncomingBody:
        if self._consumed:
            raise Err(None)
        self._consumed = True
        body = self._exchange.body
        body.wanted = True
        return IncomingBody(body)

    def on_drop(self) -> None:
        _check_childless(self, "incoming-request", "headers")


class IncomingBody(Parent):
    """The resource `incoming-body`."""

    __slots__ = ("_streamed", "source")

    def __init__(self, source: RequestBody) -> None:
        super().__init__()
        self.source = source
        self._streamed = False

    async def stream(self) -> InputStream:
        if self._streamed:
            raise Err(None)
        self._streamed = True
        return BodyInput(self.source, self)

    def on_drop(self) -> None:
        self.source.close()
        _check_childless(self, "incoming-body", "stream")


class FutureTrailers(Parent):
    """The resource `future-trailers`: what is left of the body is read, and dropped, when somebody asks for them."""

    __slots__ = ("_answer", "_event", "_source")

    def __init__(self, source: RequestBody) -> None:
        super().__init__()
        self._source = source
        self._event = Event()
        self._answer: Ok[FieldList | None] | Err[types.ErrorCode] | None = None

    async def subscribe(self) -> Pollable:
        self._read_on()
        return self._event

    async def get(self) -> Ok[Ok[Fields | None] | Err[types.ErrorCode]] | Err[None] | None:
        if self._answer is None and self._event.is_ready():
            return Err(None)  # it was asked for before
        self._read_on()
        answer, self._answer = self._answer, None
        match answer:
            case None:
                return None
            case Ok(FieldList() as found):
                return Ok(Ok(Fields(found, self)))
            case Ok():
                return Ok(Ok(None))
        return Ok(answer)

    def on_drop(self) -> None:
        self._source.close()
        _check_childless(self, "future-trailers", "trailers")

    def _read_on(self) -> None:
        """Reads until the trailers are there, or as far as there is something to read."""
        source = self._source
        try:
            while not self._event.is_ready():
                if source.take(1 << 16):
                    continue
                if not source.ended:
                    source.when_ready(self._read_on)
                    return
                pairs = [pair for pair in source.trailers() if pair[0] not in http_fields.FORBIDDEN]
                self._resolve(Ok(FieldList(pairs) if pairs else None))
        except Exception as error:
            code = code_of(error, types) or types.ErrorCodeInternalError(str(error))
            self._resolve(Err(code))

    def _resolve(self, answer: Ok[FieldList | None] | Err[types.ErrorCode]) -> None:
        self._answer = answer
        self._event.set()


# What goes out.


class OutgoingBody:
    """The resource `outgoing-body`."""

    __slots__ = ("_written", "content")

    def __init__(self, content: OutgoingContent) -> None:
        self.content = content
        self._written = False

    async def write(self) -> OutputStream:
        if self._written:
            raise Err(None)
        self._written = True
        return BodyOutput(self.content)

    def on_drop(self) -> None:
        self.content.cut("the guest dropped the outgoing-body without finish")
        _check_childless(self.content, "outgoing-body", "stream")


def _response_too_long(written: int) -> Failed:
    return Failed(types.ErrorCodeHTTPResponseBodySize(written))


def _request_too_long(written: int) -> Failed:
    return Failed(types.ErrorCodeHTTPRequestBodySize(written))


class OutgoingResponse(Parent):
    """The resource `outgoing-response`."""

    __slots__ = ("content", "fields", "status")

    def __init__(self, fields: FieldList) -> None:
        super().__init__()
        self.fields = fields
        self.status = 200
        self.content: OutgoingContent | None = None
        """The body, where the guest has asked for it."""

    async def status_code(self) -> int:
        return self.status

    async def set_status_code(self, status_code: int) -> None:
        if not 100 <= status_code <= 599:
            raise Err(None)
        self.status = status_code

    async def headers(self) -> Fields:
        return Fields(self.fields, self)

    async def body(self) -> OutgoingBody:
        if self.content is not None:
            raise Err(None)
        self.content = OutgoingContent(_response_too_long)
        return OutgoingBody(self.content)

    def on_drop(self) -> None:
        _check_childless(self, "outgoing-response", "headers")


class OutgoingRequest(Asked):
    """The resource `outgoing-request`."""

    __slots__ = ("children", "content", "fields")

    PARTS = _PARTS

    def __init__(self, fields: FieldList) -> None:
        super().__init__()
        self.children = 0
        self.fields = fields
        self.content: OutgoingContent | None = None
        """The body, where the guest has asked for it."""

    async def body(self) -> OutgoingBody:
        if self.content is not None:
            raise Err(None)
        self.content = OutgoingContent(_request_too_long)
        return OutgoingBody(self.content)

    async def method(self) -> types.Method:
        found: types.Method = _PARTS.method(self.method_name)
        return found

    async def path_with_query(self) -> str | None:
        return self._path

    async def scheme(self) -> types.Scheme | None:
        return None if self._scheme is None else _PARTS.scheme(self._scheme)

    async def authority(self) -> str | None:
        return self._authority

    async def headers(self) -> Fields:
        return Fields(self.fields, self)

    def on_drop(self) -> None:
        _check_childless(self, "outgoing-request", "headers")


class RequestOptions:
    """The resource `request-options`. All times are in nanoseconds."""

    __slots__ = ("between_bytes", "connect", "first_byte")

    def __init__(self) -> None:
        self.connect: int | None = None
        self.first_byte: int | None = None
        self.between_bytes: int | None = None

    async def connect_timeout(self) -> int | None:
        return self.connect

    async def set_connect_timeout(self, duration: int | None) -> None:
        self.connect = duration

    async def first_byte_timeout(self) -> int | None:
        return self.first_byte

    async def set_first_byte_timeout(self, duration: int | None) -> None:
        self.first_byte = duration

    async def between_bytes_timeout(self) -> int | None:
        return self.between_bytes

    async def set_between_bytes_timeout(self, duration: int | None) -> None:
        self.between_bytes = duration


class ResponseOutparam:
    """The resource `response-outparam`."""

    __slots__ = ("exchange",)

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    async def send_informational(self, status: int, headers: types.Fields) -> None:
        assert isinstance(headers, Fields)  # there are no others
        fields = headers.take()
        if not 100 <= status <= 199:
            raise Err(types.ErrorCodeHTTPProtocolError())
        try:
            self.exchange.inform(status, fields.pairs)
        except BadResponse as error:
            raise Err(types.ErrorCodeInternalError(str(error))) from None
        except ConnectionError:
            raise Err(types.ErrorCodeConnectionTerminated()) from None


# Responses that come in.


class Received(RequestBody, Protocol):
    """A response that came, and its body."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]: ...


class IncomingResponse(Parent):
    """The resource `incoming-response`."""

    __slots__ = ("_consumed", "_headers", "_received")

    def __init__(self, received: Received) -> None:
        super().__init__()
        self._received = received
        self._headers = http_fields.of_message(received.headers)
        self._consumed = False

    async def status(self) -> int:
        return self._received.status

    async def headers(self) -> Fields:
        return Fields(self._headers, self)

    async def consume(self) -> IncomingBody:
        if self._consumed:
            raise Err(None)
        self._consumed = True
        return IncomingBody(self._received)

    def on_drop(self) -> None:
        if not self._consumed:
            self._received.close()
        _check_childless(self, "incoming-response", "headers")


# The functions that belong to no resource, and the constructors.


class TypesHost:
    """Answers `wasi:http/types`."""

    async def fields_new(self) -> Fields:
        return Fields(FieldList())

    async def fields_from_list(self, entries: Sequence[Pair]) -> Fields:
        try:
            return Fields(FieldList.checked(entries))
        except (InvalidField, ForbiddenField, FieldsTooLarge) as error:
            _refuse(error)

    async def outgoing_request_new(self, headers: Fields) -> OutgoingRequest:
        return OutgoingRequest(headers.take())

    async def outgoing_response_new(self, headers: Fields) -> OutgoingResponse:
        return OutgoingResponse(headers.take())

    async def request_options_new(self) -> RequestOptions:
        return RequestOptions()

    async def response_outparam_set(
        self, param: ResponseOutparam, response: Ok[OutgoingResponse] | Err[types.ErrorCode]
    ) -> None:
        exchange = param.exchange
        if isinstance(response, Err):
            reason = f"the guest answered with the error {describe(response.value)}"
            exchange.fail(status_of(response.value), reason)
            return
        answer = response.value
        try:
            writer = exchange.start(answer.status, answer.fields.pairs)
        except BadResponse as error:
            exchange.fail(500, f"the response can't be sent: {error}")
            return
        content = answer.content
        if content is None:
            content = OutgoingContent(_response_too_long)
            content.finish(())
        content.attach(writer)

    async def incoming_body_finish(self, this: IncomingBody) -> FutureTrailers:
        if this.children:
            this.source.close()
        _check_childless(this, "incoming-body.finish", "stream")
        return FutureTrailers(this.source)

    async def outgoing_body_finish(self, this: OutgoingBody, trailers: Fields | None) -> None:
        content = this.content
        if content.children:
            content.cut("the guest finished the outgoing-body before it dropped its stream")
        _check_childless(content, "outgoing-body.finish", "stream")
        try:
            content.finish(trailers.take().pairs if trailers is not None else ())
        except WrongLength as error:
            failure = content.too_long(error.written)
            assert isinstance(failure, Failed)
            raise Err(failure.code) from None
        except ConnectionError:
            raise Err(types.ErrorCodeConnectionTerminated()) from None

    async def http_error_code(self, err: io_error.Error) -> types.ErrorCode | None:
        found: types.ErrorCode | None = code_of(err.cause, types) if isinstance(err, Error) else None
        return found


def incoming(exchange: Exchange) -> tuple[IncomingRequest, ResponseOutparam]:
    """What `incoming-handler.handle` is called with to answer a request."""
    return IncomingRequest(exchange), ResponseOutparam(exchange)
