"""The URLs of requests, taken apart once: what is checked is what is connected to.

Whatever two readers of a URL could read differently is refused: a backslash, a space, a second `@`, an address in
another form than the usual one.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import TypeAlias
from urllib.parse import quote, unquote_to_bytes, urljoin

import idna

from capabilities import grants
from capabilities.http_client import InvalidUrl

Address: TypeAlias = IPv4Address | IPv6Address

PORTS = {"http": 80, "https": 443}
"""The schemes, each with the port of a URL that names none."""

URL_LIMIT = 8_190
"""How long a URL may be, in bytes."""

_URL = re.compile(
    r"(?P<scheme>[a-z]+)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(#.*)?", re.IGNORECASE
)
_AUTHORITY = re.compile(r"(?:(?P<user>[^@]*)@)?(?P<host>\[[^\[\]@]*\]|[^\[\]@:]*)(?::(?P<port>[0-9]*))?")
_AMBIGUOUS = re.compile(r"[\x00-\x20\x7f\\]")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

# RFC 3986 has no place for "<>^`{|} in a URL, so they are percent-encoded.
_KEPT = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"<>^`{|}')


@dataclass(frozen=True, slots=True)
class Url:
    """A URL of one of the schemes in PORTS."""

    scheme: str
    host: str
    """A name, in ASCII, lower case and without a dot at its end; or an address in its usual form, without brackets."""
    port: int
    target: str
    """Path and query, percent-encoded: what the request's first line has."""
    authorization: str | None = None
    """What the header Authorization is by the user and the password of the URL, where it has them."""

    @property
    def address(self) -> Address | None:
        """The host, where it is an address."""
        return as_address(self.host)

    @property
    def origin(self) -> str:
        """Scheme, host and port as text: what a message may show."""
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{bracketed(self.host)}{port}"

    def join(self, reference: str) -> Url:
        """What a redirect to `reference` leads to. User and password in it are ignored. Raises InvalidUrl.

        Servers do write spaces there, and browsers encode them.
        """
        try:
            joined = parse(urljoin(f"{self.origin}{self.target}", reference.replace(" ", "%20")))
        except ValueError:  # of urljoin, for brackets that hold no address
            raise InvalidUrl("it is no URL") from None
        return Url(joined.scheme, joined.host, joined.port, joined.target)


def parse(text: str) -> Url:
    """Raises InvalidUrl, whose text is for the guest."""
    if len(text.encode(errors="replace")) > URL_LIMIT:
        raise InvalidUrl(f"it has more than {URL_LIMIT} bytes")
    if _AMBIGUOUS.search(text):
        raise InvalidUrl("it has a space, a backslash or a control character, which must be percent-encoded")
    parts = _URL.fullmatch(text)
    scheme = parts["scheme"].lower() if parts else ""
    if parts is None or scheme not in PORTS:
        raise InvalidUrl("it is not a whole URL that starts with http:// or https://")
    authority = _AUTHORITY.fullmatch(parts["authority"])
    if authority is None or not authority["host"]:
        raise InvalidUrl("it has no host, or what stands in its place is not HOST or HOST:PORT")
    port = int(authority["port"][:6]) if authority["port"] else PORTS[scheme]
    if not 0 < port < 65_536:
        raise InvalidUrl("its port is not one of 1 to 65535")
    target = quote((parts["path"] or "/") + (parts["query"] or ""), safe=_KEPT)
    return Url(scheme, canonical_host(authority["host"]), port, target, _basic(authority["user"]))


def canonical_host(text: str) -> str:
    """A host in the one form that it is compared and connected to in. Raises InvalidUrl."""
    if text.startswith("["):
        try:
            return str(IPv6Address(text.strip("[]").replace("%", "no zones")))
        except AddressValueError:
            raise InvalidUrl("what it has in brackets is no IPv6 address") from None
    name = _ascii(text).lower().removesuffix(".")
    *_, last = labels = name.split(".")
    if _NUMBER.fullmatch(last):
        # 127.1, 0x7f000001, 2130706433 and 017700000001 are 127.0.0.1 to some, and names to others.
        try:
            return str(IPv4Address(name))
        except AddressValueError:
            raise InvalidUrl("an IPv4 address is written as four decimal numbers, as in 192.0.2.1") from None
    if len(name) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise InvalidUrl(f"{grants.quote(text)} is no name of a host")
    return name


def as_address(host: str) -> Address | None:
    """The address that a canonical host is, or None for a name."""
    try:
        return IPv6Address(host) if ":" in host else IPv4Address(host)
    except AddressValueError:
        return None


def bracketed(host: str) -> str:
    """A canonical host as it stands before a port."""
    return f"[{host}]" if ":" in host else host


def _ascii(name: str) -> str:
    """A name in its form of ASCII, as browsers have it: UTS 46, which also folds digits and dots of other scripts."""
    if name.isascii():
        return name
    try:
        return idna.encode(name, uts46=True, transitional=False).decode()
    except (idna.IDNAError, UnicodeError):
        raise InvalidUrl(f"{grants.quote(name)} is no name of a host") from None


def _basic(user: str | None) -> str | None:
    """RFC 7617."""
    if not user:
        return None
    name, _, password = user.partition(":")
    return "Basic " + b64encode(unquote_to_bytes(name) + b":" + unquote_to_bytes(password)).decode()
