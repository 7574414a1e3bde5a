"""wasi:sockets 0.3: a component that imports it runs, and is denied each socket and each look-up. No slightfile can
grant them yet."""

from __future__ import annotations

from typing import Any, NoReturn

from bindgen.runtime import Err
from capabilities.bindings.wasi_sockets_0_3 import ip_name_lookup, types


class Types:
    """Answers `wasi:sockets/types`."""

    async def tcp_socket_create(self, address_family: Any) -> NoReturn:
        raise Err(types.ErrorCodeAccessDenied())

    async def udp_socket_create(self, address_family: Any) -> NoReturn:
        raise Err(types.ErrorCodeAccessDenied())


class IpNameLookup:
    """Answers `wasi:sockets/ip-name-lookup`."""

    async def resolve_addresses(self, name: str) -> NoReturn:
        raise Err(ip_name_lookup.ErrorCodeAccessDenied())
