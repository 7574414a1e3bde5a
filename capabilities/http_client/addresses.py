"""Which addresses are public: the unicast addresses of the Internet, and no others.

The tables are those of IANA's registries of special-purpose addresses. What Python's `ipaddress` calls global differs
from one version to the next, and it doesn't look at addresses that are embedded in others.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from capabilities.http_client.urls import Address

_SPECIAL_IPV4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this host, and this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # shared behind a provider's NAT; Alibaba Cloud's metadata
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # Azure's platform, as a virtual machine sees it; public by its number only
            "169.254.0.0/16",  # link-local; the metadata of most clouds
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments; Oracle Cloud's metadata
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)

_GLOBAL_UNICAST = IPv6Network("2000::/3")
"""All that IANA has given out for unicast; loopback, private, link-local and multicast are elsewhere."""

_SPECIAL_IPV6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments; Teredo, which embeds addresses
            "2001:db8::/32",  # documentation
            "3fff::/20",  # documentation
        ),
    )
)

_NAT64 = IPv6Network("64:ff9b::/96")


def unmapped(address: Address) -> Address:
    """The IPv4 address that an IPv4-mapped one is to the kernel; any other address as it is."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def is_public(address: Address) -> bool:
    address = unmapped(address)
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_IPV4)
    if address in _NAT64:  # a gateway makes a connection to the embedded address of it
        return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    if address.sixtofour is not None:
        return is_public(address.sixtofour)
    return address in _GLOBAL_UNICAST and not any(address in network for network in _SPECIAL_IPV6)
