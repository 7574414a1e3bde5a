"""What the slightfile lets a module reach, and how long and how much it may receive."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TypeVar

from capabilities.errors import ConfigError
from capabilities.http_client import InvalidUrl, Refused, RefusedAddress
from capabilities.http_client.addresses import is_public, unmapped
from capabilities.http_client.urls import PORTS, Address, Url, as_address, bracketed, canonical_host

KEYS = ("ALLOW_HOSTS", "ALLOW_SCHEMES", "ALLOW_PRIVATE", "TIMEOUT_SECONDS", "MAX_RESPONSE_MIB")
"""The config keys, all optional."""

TIMEOUT_SECONDS = 30
"""How long a request may take, with its redirects, unless the configuration says otherwise."""

MAX_RESPONSE_MIB = 64
"""How large the body of a response may be, unless the configuration says otherwise."""


@dataclass(frozen=True, slots=True)
class HostPattern:
    """An entry of ALLOW_HOSTS: `HOST`, `*.DOMAIN` or `*`, and a port or none."""

    text: str
    host: str
    """The part before the port; of `*.DOMAIN` this is `.DOMAIN`, and of `*` it's empty."""
    port: int | None

    def matches(self, host: str, port: int) -> bool:
        if self.port not in (None, port):
            return False
        return not self.host or host == self.host or (self.host.startswith(".") and host.endswith(self.host))


@dataclass(frozen=True, slots=True)
class Policy:
    """What a client may do."""

    hosts: tuple[HostPattern, ...]
    schemes: tuple[str, ...]
    private: tuple[IPv4Network | IPv6Network, ...]
    """The networks that may be reached though they aren't public."""
    seconds: int
    response_bytes: int

    @classmethod
    def from_configs(cls, configs: Mapping[str, str]) -> Policy:
        """Raises ConfigError."""
        return cls(
            tuple(_hosts(_entries(configs, "ALLOW_HOSTS", "*"))),
            tuple(_schemes(_entries(configs, "ALLOW_SCHEMES", "https, http"))),
            tuple(_networks(_entries(configs, "ALLOW_PRIVATE", ""))),
            _number(configs, "TIMEOUT_SECONDS", TIMEOUT_SECONDS, 3_600),
            _number(configs, "MAX_RESPONSE_MIB", MAX_RESPONSE_MIB, 128) * 1024 * 1024,
        )

    def check(self, url: Url) -> None:
        """Raises Refused for what can be told from the URL alone: its scheme, its host, and the host's address where
        it is one."""
        if url.scheme not in self.schemes:
            add = _line("ALLOW_SCHEMES", (*self.schemes, url.scheme))
            raise _refusal(url.origin, f"by {url.scheme}, which the slightfile does not grant", add, Refused)
        if not any(pattern.matches(url.host, url.port) for pattern in self.hosts):
            granted = [pattern.text for pattern in self.hosts]
            port = "" if url.port in PORTS.values() else f":{url.port}"
            add = _line("ALLOW_HOSTS", (*granted, f"{bracketed(url.host)}{port}"))
            raise _refusal(
                url.origin, f"which the slightfile does not grant (it grants {', '.join(granted)})", add, Refused
            )
        if url.address is not None:
            self.check_addresses(url.host, url.port, [url.address])

    def check_addresses(self, host: str, port: int, addresses: Iterable[Address]) -> None:
        """Raises Refused if a host that is granted has an address that isn't."""
        for address in addresses:
            if not self.permits(host, port, address):
                raise self.address_refusal(host, port, address)

    def permits(self, host: str, port: int, address: Address) -> bool:
        """Whether a connection to a host that is granted may go to an address.

        One that isn't public must be granted: by its network; or where the host is that address or a name of this
        machine's own, by the host, written out.
        """
        if self.is_open(address):
            return True
        literal = as_address(host)
        own = (
            address.is_loopback if is_own_name(host) else literal is not None and unmapped(literal) == unmapped(address)
        )
        return own and any(pattern.host == host and pattern.matches(host, port) for pattern in self.hosts)

    def is_open(self, address: Address) -> bool:
        """Whether a connection may go to an address whatever the host is called."""
        address = unmapped(address)
        return is_public(address) or any(address in network for network in self.private)

    def may_be_opened(self, address: Address) -> bool:
        """Whether there is any host for which a connection may go to an address."""
        if self.is_open(address):
            return True
        address = unmapped(address)
        literals = [as_address(pattern.host) for pattern in self.hosts]
        return any(unmapped(literal) == address for literal in literals if literal is not None) or (
            address.is_loopback and any(is_own_name(pattern.host) for pattern in self.hosts)
        )

    def address_refusal(self, host: str, port: int, address: Address) -> RefusedAddress:
        add = _line("ALLOW_PRIVATE", (*map(str, self.private), str(unmapped(address))))
        where = f"{bracketed(host)}:{port}" + ("" if as_address(host) else f", which is at {address}")
        why = "and that is no public address, nor one that the slightfile grants"
        return _refusal(where, why, add, RefusedAddress)


def is_own_name(host: str) -> bool:
    """Whether it is a name of this machine's loopback: RFC 6761 section 6.3."""
    return host == "localhost" or host.endswith(".localhost")


R = TypeVar("R", bound=Refused)


def _refusal(where: str, why: str, line: str, kind: type[R]) -> R:
    return kind(
        "the slightfile does not grant a request to this server",
        f"http-client: the module asked for {where}, {why}; add to the [capability.configs] of the capability "
        f'with resource = "http-client": {line}',
    )


def _line(key: str, entries: tuple[str, ...]) -> str:
    return f'{key} = "{", ".join(entries)}"'


# The configuration. What is wrong with it is said without its values, as for any other capability.


def _entries(configs: Mapping[str, str], key: str, default: str) -> list[str]:
    """The parts of a list with commas. Raises ConfigError for a list that has an empty one, or none."""
    text = configs.get(key, default)
    entries = [entry.strip() for entry in text.split(",")]
    if key not in configs and not text:
        return []
    if "" in entries:
        raise ConfigError("an entry is empty; leave the key out, or separate entries by one comma", key)
    return entries


def _hosts(entries: list[str]) -> Iterator[HostPattern]:
    for number, entry in enumerate(entries, 1):
        name, colon, digits = (entry, "", "") if entry.endswith("]") else entry.rpartition(":")
        name = name if colon else entry
        if colon and not (digits.isascii() and digits.isdecimal() and 0 < int(digits[:6]) < 65_536):
            raise _bad_host(number, "what follows its ':' is no port (an IPv6 address is written in brackets)")
        port = int(digits) if colon else None
        try:
            host = "" if name == "*" else canonical_host(name.removeprefix("*."))
        except InvalidUrl:
            raise _bad_host(number, "it is no host") from None
        yield HostPattern(entry, f".{host}" if name.startswith("*.") else host, port)


def _bad_host(number: int, why: str) -> ConfigError:
    example = 'write hosts as in "api.example.com, *.example.org, 192.0.2.1:8080", without a scheme'
    return ConfigError(f"entry {number} can't be used: {why}; {example}", "ALLOW_HOSTS")


def _schemes(entries: list[str]) -> Iterator[str]:
    for number, entry in enumerate(entries, 1):
        if entry not in PORTS:
            raise ConfigError(f"entry {number} is none of https and http", "ALLOW_SCHEMES")
        yield entry


def _networks(entries: list[str]) -> Iterator[IPv4Network | IPv6Network]:
    for number, entry in enumerate(entries, 1):
        try:
            yield ip_network(entry)
        except ValueError:
            example = 'write them as in "127.0.0.1, 10.1.0.0/16, fd00::/8"'
            text = f"entry {number} is neither an address nor a network; {example}"
            raise ConfigError(text, "ALLOW_PRIVATE") from None


def _number(configs: Mapping[str, str], key: str, default: int, most: int) -> int:
    text = configs.get(key, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 0 < int(text) <= most):
        raise ConfigError(f"it is not a whole number from 1 to {most}", key)
    return int(text)
