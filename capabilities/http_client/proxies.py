"""The proxies that the environment names: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in upper or lower case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network

from yarl import URL

from capabilities.errors import ConfigError
from capabilities.http_client.urls import PORTS, Url, bracketed


@dataclass(frozen=True, slots=True, repr=False)
class Proxy:
    """A proxy. Its URL may hold a password: nothing prints it."""

    url: URL
    variable: str
    """The environment variable that names it."""


class Proxies:
    """Which proxy requests go through."""

    __slots__ = ("_direct", "_proxies")

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Raises ConfigError for a variable that names no proxy that can be used."""
        self._proxies = {scheme: _proxy(environment, f"{scheme}_proxy".upper()) for scheme in PORTS}
        entries = (_variable(environment, "NO_PROXY") or "").lower().split(",")
        self._direct = [entry.strip().removeprefix("*.").lstrip(".") for entry in entries if entry.strip()]

    def of(self, url: Url) -> Proxy | None:
        """The proxy for a URL, or None where the connection goes to the server itself."""
        proxy = self._proxies[url.scheme]
        return proxy if proxy and not any(_covers(entry, url) for entry in self._direct) else None


def _covers(entry: str, url: Url) -> bool:
    """Whether an entry of NO_PROXY means a host: `*`, the name, a domain above it, its address or network; with a port
    or without."""
    name = bracketed(url.host)
    if entry in ("*", name, f"{name}:{url.port}"):
        return True
    if url.address is None:
        return f"{name}:{url.port}".endswith(f".{entry}") or name.endswith(f".{entry}")
    try:
        return url.address in ip_network(entry, strict=False)
    except ValueError:
        return False


def _variable(environment: Mapping[str, str], name: str) -> str | None:
    """The value of an environment variable; the lower case comes first, as with other programs."""
    return environment.get(name.lower()) or environment.get(name)


def _proxy(environment: Mapping[str, str], variable: str) -> Proxy | None:
    text = _variable(environment, variable)
    if not text:
        return None
    try:
        url = URL(text if "://" in text else f"http://{text}")
        usable = url.scheme in PORTS and bool(url.host) and bool(url.port)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(
            f"the environment variable {variable} names no proxy that can be used: write http://HOST:PORT or "
            "http://USER:PASSWORD@HOST:PORT, or unset it"
        )
    return Proxy(url, variable)
