"""The client: requests go out through aiohttp's, on connections that all guests of a process share.

aiohttp's own ways with redirects, cookies, credentials and the environment are not used. It follows redirects without
asking, would hand the cookies of one guest to the next, and reads the user's .netrc.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from ipaddress import ip_address
from os import strerror
from socket import gaierror, socket
from typing import Any, ClassVar

import aiohttp
from aiohttp.client import _RequestContextManager
from yarl import URL

from capabilities.grants import quote
from capabilities.http_client import (
    Broken,
    HttpClientError,
    InvalidRequest,
    InvalidResponse,
    InvalidUrl,
    NotConnectedInTime,
    Refused,
    RefusedByProxy,
    Request,
    Response,
    TimedOut,
    Timeouts,
    TlsFailed,
    TooLarge,
    TooManyRequests,
    UnknownName,
    Unreachable,
    Untrusted,
    fields,
    urls,
)
from capabilities.http_client.connections import Connector
from capabilities.http_client.download import Download, too_large
from capabilities.http_client.policy import KEYS, Policy
from capabilities.http_client.proxies import Proxies, Proxy
from capabilities.http_client.resolver import LookUp, PolicyResolver, SystemLookUp
from capabilities.http_client.upload import Upload
from capabilities.http_client.urls import Url

MAX_REDIRECTS = 10
"""How many redirects of one request are followed."""

MAX_CONNECTIONS = 256
"""A process's connections, at most, to servers, and as many to proxies. Requests beyond that wait for one."""

MAX_CONNECTIONS_PER_SERVER = 64

CONNECT_SECONDS = 10.0
"""How long making a connection to one address of a server may take, with TLS."""

LOOK_UP_SECONDS = 2.0
"""How long the addresses of a name are looked for that a proxy will look up itself."""

REQUEST_BYTES = 64 * 1024 * 1024
"""How large the body of a request may be."""

MAX_STREAMED = 1_000
"""How many requests whose bodies are streamed a process may have at once, those that wait for a connection included."""

READ_AHEAD = 64 * 1024
"""How many bytes of a streamed response are received before they are read; twice that stops the server."""

MAX_HELD_BYTES = 256 * 1024 * 1024
"""How much the bodies of all requests and responses of a process may hold at once."""

_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True, slots=True)
class _Hop:
    """A request on its way to one server: the guest's, or what a redirect made of it."""

    method: str
    url: Url
    headers: fields.Fields
    body: bytes


class HttpClient:
    """Implements `Client`."""

    REQUIRED: ClassVar[tuple[str, ...]] = ()
    OPTIONAL: ClassVar[tuple[str, ...]] = KEYS

    __slots__ = ("_held", "_look_up", "_policy", "_proxies", "_sessions", "_streamed", "_tls")

    def __init__(
        self, configs: Mapping[str, str], look_up: LookUp | None = None, environment: Mapping[str, str] = os.environ
    ) -> None:
        """`look_up` is what finds the addresses of names, and `environment` what names the proxies.

        Raises ConfigError.
        """
        self._policy = Policy.from_configs(configs)
        self._proxies = Proxies(environment)
        self._look_up = look_up or SystemLookUp()
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        """With the connections to servers, and with those to proxies, whose addresses no guest chooses."""
        self._tls: asyncio.Future[ssl.SSLContext] | None = None
        self._held = 0
        """How many bytes the bodies hold that are under way."""
        self._streamed = 0
        """How many requests are under way whose bodies are streamed."""

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()

    async def send(self, request: Request) -> Response:
        """Raises HttpClientError."""
        if request.method not in fields.METHODS:
            raise InvalidRequest(f"the method {quote(request.method)} is none of {', '.join(sorted(fields.METHODS))}")
        if len(request.body) > REQUEST_BYTES:
            raise TooLarge(f"the request's body has more than {REQUEST_BYTES} bytes")
        hop = _hop(request)
        with self._holding(len(request.body)):
            try:
                async with asyncio.timeout(self._policy.seconds):
                    return await self._follow(hop)
            except aiohttp.ConnectionTimeoutError:
                raise NotConnectedInTime("there was no connection to the server in time") from None
            except TimeoutError:
                raise TimedOut(f"there was no whole response in {self._policy.seconds} seconds") from None

    def check(self, request: Request) -> None:
        """Raises what can be told of a request before it's sent: InvalidRequest, InvalidUrl, Refused."""
        self._policy.check(_hop(request).url)

    async def stream(self, request: Request, upload: Upload | None, timeouts: Timeouts) -> Download:
        """Sends a request whose body is what is written to `upload`; returns the response as soon as its head is there.

        Redirects are not followed, and any method is sent but CONNECT. Raises HttpClientError.
        """
        hop = _hop(request)
        if self._streamed >= MAX_STREAMED:
            raise TooManyRequests(f"there are {MAX_STREAMED} requests at once already; try again later")
        self._streamed += 1
        try:
            response = await self._begin(hop, upload, timeouts)
        except BaseException:
            self._streamed -= 1
            raise

        def ended() -> None:
            self._streamed -= 1

        pause = min(timeouts.between_bytes or self._policy.seconds, self._policy.seconds)
        return Download(
            response, pause, self._policy.response_bytes, partial(_described, url=hop.url, proxy=None), ended
        )

    async def _begin(self, hop: _Hop, upload: Upload | None, timeouts: Timeouts) -> aiohttp.ClientResponse:
        """The response to a request whose body is streamed, once its head is there."""
        seconds = min(timeouts.first_byte or self._policy.seconds, self._policy.seconds)
        loop = asyncio.get_running_loop()
        proxy = self._proxies.of(hop.url)
        try:
            async with asyncio.timeout(seconds) as limit:
                if upload is not None:
                    upload.on_sent = lambda: limit.reschedule(loop.time() + seconds)
                asking = await self._asking(hop, proxy, upload and upload.payload(), timeouts.connect)
                response = await asking
        except aiohttp.ConnectionTimeoutError:
            raise NotConnectedInTime("there was no connection to the server in time") from None
        except TimeoutError:
            raise TimedOut(f"there was no response in {seconds:g} seconds") from None
        except (aiohttp.ClientError, ValueError, OSError) as error:
            if upload is not None and upload.failure is not None:
                raise upload.failure from None
            raise _described(error, hop.url, proxy) from error
        finally:
            if upload is not None:
                upload.on_sent = None
        try:
            _check(response, proxy)
        except HttpClientError:
            response.close()
            raise
        return response

    async def _asking(
        self, hop: _Hop, proxy: Proxy | None, data: Any, connect: float | None = None
    ) -> _RequestContextManager:
        """A request that is about to be sent to one server: making a connection to each of its addresses may take
        CONNECT_SECONDS, and having one `connect` seconds. Raises HttpClientError where it's not granted."""
        self._policy.check(hop.url)
        if proxy is not None:
            await self._check_for_proxy(hop.url)
        return self._session(proxied=proxy is not None).request(
            hop.method,
            _yarl(hop.url),
            headers=_with_defaults(hop.headers),
            data=data,
            allow_redirects=False,
            proxy=proxy.url if proxy else None,
            ssl=await self._tls_for(hop.url, proxy),
            timeout=aiohttp.ClientTimeout(connect=connect, sock_connect=CONNECT_SECONDS),
            read_bufsize=READ_AHEAD,
        )

    async def _follow(self, hop: _Hop) -> Response:
        """The response that the last redirect leads to."""
        for _ in range(MAX_REDIRECTS + 1):
            async with self._open(hop) as response:
                following = _redirected(hop, response)
                if following is None:
                    return await self._read(response)
            hop = following
        raise InvalidResponse(f"there are more than {MAX_REDIRECTS} redirects")

    @asynccontextmanager
    async def _open(self, hop: _Hop) -> AsyncIterator[aiohttp.ClientResponse]:
        """Sends the request to one server; the response, whose body has yet to be read.

        Every error within becomes one of ours.
        """
        proxy = self._proxies.of(hop.url)
        try:
            # As bytes, it would go out in one piece, however large it is.
            data = BytesIO(hop.body) if hop.body else None
            async with await self._asking(hop, proxy, data) as response:
                _check(response, proxy)
                yield response
        except (aiohttp.ClientError, ValueError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise _described(error, hop.url, proxy) from error

    async def _check_for_proxy(self, url: Url) -> None:
        """Raises Refused for a name that has an address which isn't granted, before a proxy is given it.

        The proxy looks it up again, and may know others: what it connects to is its own to decide. Where this system
        doesn't know the name, as behind many proxies, the proxy is given it.
        """
        if url.address is not None:
            return
        try:
            async with asyncio.timeout(LOOK_UP_SECONDS):
                addresses = await self._look_up(url.host)
        except OSError:  # TimeoutError, too
            return
        self._policy.check_addresses(url.host, url.port, addresses)

    async def _read(self, response: aiohttp.ClientResponse) -> Response:
        """The response with its body. Raises TooLarge as soon as there is more of it than may be."""
        headers = fields.of_response(response.raw_headers)
        limit = self._policy.response_bytes
        expected = response.content_length if response.method != "HEAD" else None
        if expected is not None and expected > limit:
            raise too_large(limit)
        body = bytearray()
        with self._holding(0) as hold:
            async for chunk in response.content.iter_any():
                if len(body) + len(chunk) > limit:
                    raise too_large(limit)
                hold(len(chunk))
                body += chunk
            return Response(response.status, headers, bytes(body))

    @contextmanager
    def _holding(self, size: int) -> Iterator[Callable[[int], None]]:
        """Counts `size` bytes, and those that the function is called with, until the end of the block.

        Raises HttpClientError where all requests together would hold more than MAX_HELD_BYTES.
        """
        held = 0

        def hold(size: int) -> None:
            nonlocal held
            if self._held + size > MAX_HELD_BYTES:
                raise HttpClientError("the requests that are under way hold too much; try again later")
            self._held += size
            held += size

        try:
            hold(size)
            yield hold
        finally:
            self._held -= held

    async def _tls_for(self, url: Url, proxy: Proxy | None) -> ssl.SSLContext | bool:
        """What TLS is spoken with to a server or its proxy; True, aiohttp's default, where none is."""
        if url.scheme != "https" and (proxy is None or proxy.url.scheme != "https"):
            return True
        if self._tls is None or (self._tls.done() and self._tls.exception()):
            # Reads the certificates of all authorities, for 40 ms. Whoever comes first begins it, and may be cancelled.
            self._tls = asyncio.ensure_future(asyncio.to_thread(_make_tls_context))
        return await asyncio.shield(self._tls)

    def _session(self, proxied: bool) -> aiohttp.ClientSession:
        """With its connections, made when it is first needed: that takes a running loop."""
        if proxied not in self._sessions:
            connector = Connector(
                resolver=PolicyResolver(self._look_up, None if proxied else self._policy),
                use_dns_cache=False,
                limit=MAX_CONNECTIONS,
                limit_per_host=MAX_CONNECTIONS_PER_SERVER,
                socket_factory=None if proxied else self._make_socket,
            )
            self._sessions[proxied] = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
                auto_decompress=False,
                trust_env=False,
                max_line_size=fields.HEADER_BYTES,
                max_field_size=fields.HEADER_BYTES,
                max_headers=fields.HEADERS_LIMIT,
            )
        return self._sessions[proxied]

    def _make_socket(self, info: tuple[Any, ...]) -> socket:
        """The socket of a connection to a server, for the address that it is about to connect to.

        The URL and the resolver have been asked before. This is for what aiohttp may find to connect to without them.
        """
        family, kind, protocol, _, address = info
        if not self._policy.may_be_opened(ip_address(address[0])):
            raise Refused("the slightfile does not grant a request to this server")
        return socket(family, kind, protocol)


def _hop(request: Request) -> _Hop:
    """Raises InvalidRequest and InvalidUrl."""
    headers = fields.for_request(request.headers)
    url = urls.parse(request.url)
    if url.authorization and not any(name.lower() == "authorization" for name, _ in headers):
        headers.append(("Authorization", url.authorization))
    return _Hop(request.method, url, headers, request.body)


def _check(response: aiohttp.ClientResponse, proxy: Proxy | None) -> None:
    """Raises RefusedByProxy and InvalidResponse."""
    if response.status == 407 and proxy is not None:
        raise _refused_by(proxy, 407)
    if not 200 <= response.status <= 999:
        raise InvalidResponse(f"the response has the status {response.status}")


def _make_tls_context() -> ssl.SSLContext:
    """With the system's certificates, or those of SSL_CERT_FILE and SSL_CERT_DIR."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(("http/1.1",))
    return context


def _yarl(url: Url) -> URL:
    """The URL as aiohttp takes it, with nothing encoded again."""
    made = URL(url.origin + url.target, encoded=True)
    if made.raw_host != url.host:
        raise InvalidUrl("it has no host that can be used")
    return made


def _with_defaults(headers: fields.Fields) -> fields.Fields:
    """What a guest leaves to the client. Nothing is decompressed here, so nothing compressed is asked for."""
    spelled: dict[str, str] = {}
    for name, _ in headers:
        spelled.setdefault(name.lower(), name)
    defaults = (("User-Agent", "slight-py"), ("Accept", "*/*"), ("Accept-Encoding", "identity"))
    left_out = [(name, value) for name, value in defaults if name.lower() not in spelled]
    # In two spellings, the second would take the place of the first.
    return [*left_out, *((spelled[name.lower()], value) for name, value in headers)]


# Redirects.


def _redirected(hop: _Hop, response: aiohttp.ClientResponse) -> _Hop | None:
    """The request that a redirect asks for, or None where the response is none: RFC 9110 section 15.4."""
    location = next((value for name, value in response.raw_headers if name.lower() == b"location"), None)
    if response.status not in _REDIRECTS or location is None:
        return None
    try:
        url = hop.url.join(fields.text(location))
    except InvalidUrl as error:
        raise InvalidResponse(f"it redirects to a URL that can't be followed: {error}") from None
    following = replace(hop, url=url)
    if url.origin != hop.url.origin:
        following = replace(following, headers=fields.for_another_origin(hop.headers))
    is_get = (response.status == 303 and hop.method != "HEAD") or (response.status < 303 and hop.method == "POST")
    if is_get:
        following = replace(following, method="GET", headers=fields.without_content(following.headers), body=b"")
    return following


# Errors. Their texts are the guest's to read: none has an address, or anything about a proxy.


def _refused_by(proxy: Proxy, status: int) -> RefusedByProxy:
    mend = "give it USER:PASSWORD@ in" if status == 407 else "ask whoever runs it, or correct"
    notice = (
        f"http-client: the proxy of {proxy.variable} refuses a request with the status {status}; {mend} that variable"
    )
    return RefusedByProxy(status, "the proxy refuses the request", notice)


def _described(error: Exception, url: Url, proxy: Proxy | None) -> HttpClientError:
    where = f"http-client: {url.origin}"
    match error:
        case aiohttp.ClientHttpProxyError() if proxy is not None:
            return _refused_by(proxy, error.status)
        case aiohttp.ClientProxyConnectionError() if proxy is not None:
            reason = _reason(error)
            where = f"http-client: the proxy of {proxy.variable}"
            notice = f"{where} can't be reached: {reason}; start it, or correct that variable"
            return Unreachable(f"the proxy can't be reached: {reason}", notice)
        case aiohttp.ClientConnectorCertificateError():
            reason = _reason(error)
            mend = "SSL_CERT_FILE can name a file with the certificates to trust"
            return Untrusted(f"the server can't be trusted: {reason}", f"{where}: {reason}; {mend}")
        case aiohttp.ClientConnectorError(os_error=TimeoutError()):
            return NotConnectedInTime("there was no connection to the server in time")
        case aiohttp.ClientConnectorError():
            reason = _reason(error)
            match error.os_error:
                case ssl.SSLError():
                    kind: type[Unreachable] = TlsFailed
                case gaierror():
                    kind = UnknownName
                case _:
                    kind = Unreachable
            return kind(f"the server can't be reached: {reason}", f"{where} can't be reached: {reason}")
        case aiohttp.ClientPayloadError():
            return Broken("the response ended before it was whole, or its body is malformed")
        case aiohttp.ClientResponseError():
            return InvalidResponse("the response is not HTTP, or has too many or too large headers")
        case aiohttp.ClientConnectionError() | OSError():
            return Broken("the server closed the connection before the response was whole")
        case aiohttp.InvalidURL():
            return InvalidUrl("it is no URL that can be used")
    return HttpClientError("the request failed")


def _reason(error: aiohttp.ClientConnectorError) -> str:
    """Why there is no connection."""
    match error.os_error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.os_error.verify_message}"
        case ssl.SSLError():
            return "TLS failed"
        case gaierror():
            return "there is no address of that name"
        case OSError(errno=int(number)):
            return strerror(number)
    return "the connection failed"
