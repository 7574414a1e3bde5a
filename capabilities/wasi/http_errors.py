"""What goes wrong with a message, as wasi:http says it: the same for all its versions.

`types` is the generated module of a version's `types`: the cases of `error-code` have the same names in all.
"""

from __future__ import annotations

import re
from typing import Any

from capabilities import http_client
from capabilities.http import dispatch


class Failed(Exception):
    """An operation failed for the reason `code`, a case of `error-code`."""

    def __init__(self, code: object) -> None:
        super().__init__(describe(code))
        self.code = code


def code_of(error: BaseException, types: Any) -> Any | None:
    """The case of `error-code` for an error of the server's or the client's; None for any other error."""
    match error:
        case Failed():
            return error.code
        case dispatch.WrongLength():
            return types.ErrorCodeHTTPRequestBodySize(error.written)
        case dispatch.BodyTooLarge():
            return types.ErrorCodeHTTPRequestBodySize(None)
        case dispatch.TrailersTooLarge():
            return types.ErrorCodeHTTPRequestTrailerSectionSize(None)
        case dispatch.BodyTimeout():
            return types.ErrorCodeConnectionReadTimeout()
        case dispatch.BodyBroken():
            return types.ErrorCodeHTTPProtocolError()
        case ConnectionError():
            return types.ErrorCodeConnectionTerminated()
        case http_client.HttpClientError():
            return _code_of_client(error, types)
    return None


def _code_of_client(error: http_client.HttpClientError, types: Any) -> Any:
    match error:
        case http_client.InvalidUrl():
            return types.ErrorCodeHTTPRequestURIInvalid()
        case http_client.RefusedAddress():
            return types.ErrorCodeDestinationIPProhibited()
        case http_client.Refused():
            return types.ErrorCodeHTTPRequestDenied()
        case http_client.UnknownName():
            return types.ErrorCodeDNSError(types.DNSErrorPayload(None, None))
        case http_client.Untrusted():
            return types.ErrorCodeTLSCertificateError()
        case http_client.TlsFailed():
            return types.ErrorCodeTLSProtocolError()
        case http_client.Unreachable():
            return types.ErrorCodeConnectionRefused()
        case http_client.NotConnectedInTime():
            return types.ErrorCodeConnectionTimeout()
        case http_client.StalledResponse():
            return types.ErrorCodeConnectionReadTimeout()
        case http_client.TimedOut():
            return types.ErrorCodeHTTPResponseTimeout()
        case http_client.Broken():
            return types.ErrorCodeHTTPResponseIncomplete()
        case http_client.InvalidResponse() | http_client.InvalidRequest():
            return types.ErrorCodeHTTPProtocolError()
        case http_client.TooManyRequests():
            return types.ErrorCodeConnectionLimitReached()
        case http_client.TooLarge():
            return types.ErrorCodeHTTPResponseBodySize(None)
    return types.ErrorCodeInternalError(str(error))


_STATUSES = {
    "DNSTimeout": 504,
    "DNSError": 502,
    "DestinationNotFound": 500,
    "DestinationUnavailable": 503,
    "DestinationIPProhibited": 502,
    "DestinationIPUnroutable": 502,
    "ConnectionRefused": 502,
    "ConnectionTerminated": 502,
    "ConnectionTimeout": 504,
    "ConnectionReadTimeout": 504,
    "ConnectionWriteTimeout": 504,
    "ConnectionLimitReached": 503,
    "TLSProtocolError": 502,
    "TLSCertificateError": 502,
    "TLSAlertReceived": 502,
    "HTTPRequestDenied": 403,
    "HTTPRequestLengthRequired": 411,
    "HTTPRequestBodySize": 413,
    "HTTPRequestMethodInvalid": 405,
    "HTTPRequestURIInvalid": 400,
    "HTTPRequestURITooLong": 414,
    "HTTPRequestHeaderSectionSize": 431,
    "HTTPRequestHeaderSize": 431,
    "HTTPRequestTrailerSectionSize": 431,
    "HTTPRequestTrailerSize": 431,
    "HTTPResponseIncomplete": 502,
    "HTTPResponseHeaderSectionSize": 502,
    "HTTPResponseHeaderSize": 502,
    "HTTPResponseBodySize": 502,
    "HTTPResponseTrailerSectionSize": 502,
    "HTTPResponseTrailerSize": 502,
    "HTTPResponseTransferCoding": 502,
    "HTTPResponseContentCoding": 502,
    "HTTPResponseTimeout": 504,
    "HTTPUpgradeFailed": 502,
    "HTTPProtocolError": 502,
    "LoopDetected": 502,
}
"""RFC 9209 section 2.3, from which the cases are: what it recommends. Any other case is 500."""


def status_of(code: object) -> int:
    """The status of the response to a request that a guest answers with an error."""
    return _STATUSES.get(_case(code), 500)


def describe(code: object) -> str:
    """A case of `error-code` for the log: `HTTP-request-denied`."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", _case(code))
    value = getattr(code, "value", None)
    return text if value is None else f"{text}: {value}"


def _case(code: object) -> str:
    return type(code).__name__.removeprefix("ErrorCode")
