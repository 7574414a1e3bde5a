"""wasi:sockets 0.2: a component that imports it runs, and is denied each socket and each look-up. No slightfile can
grant them yet."""

from __future__ import annotations

from typing import Any, NoReturn

from bindgen.runtime import Err
from capabilities.bindings.wasi_sockets_0_2.network import ErrorCode
from capabilities.wasi.io import Error


def _denied() -> NoReturn:
    raise Err(ErrorCode.ACCESS_DENIED)


class Network:
    """The resource `network`: it gives access to nothing."""


class NetworkHost:
    """Answers the function of `wasi:sockets/network` that is of no resource."""

    async def network_error_code(self, err: Error) -> ErrorCode | None:
        """None: no stream leads to a network."""
        return None


class InstanceNetwork:
    """Answers `wasi:sockets/instance-network`."""

    async def instance_network(self) -> Network:
        return Network()


class IpNameLookup:
    """Answers `wasi:sockets/ip-name-lookup`."""

    async def resolve_addresses(self, network: Network, name: str) -> NoReturn:
        _denied()


class TcpCreateSocket:
    """Answers `wasi:sockets/tcp-create-socket`."""

    async def create_tcp_socket(self, address_family: Any) -> NoReturn:
        _denied()


class UdpCreateSocket:
    """Answers `wasi:sockets/udp-create-socket`."""

    async def create_udp_socket(self, address_family: Any) -> NoReturn:
        _denied()
