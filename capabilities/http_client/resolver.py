"""Names to addresses: looked up where nothing else waits for it, and only those handed on that may be connected to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from ipaddress import ip_address
from threading import Thread
from typing import TypeAlias

from aiohttp.abc import AbstractResolver, ResolveResult

from capabilities.http_client.policy import Policy, is_own_name
from capabilities.http_client.urls import Address

LookUp: TypeAlias = Callable[[str], Awaitable[list[Address]]]
"""The addresses of a name. Raises OSError."""

THREADS = 16
"""How many names are looked up at once. Further ones wait."""


class SystemLookUp:
    """Asks the system's resolver, which blocks for as long as name servers don't answer.

    Each lookup has a thread of its own, which nothing waits for at the end of the process: those of an executor would
    be waited for. It counts as running until the thread has ended, whether or not somebody still wants the answer.
    """

    __slots__ = ("_free",)

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(THREADS)

    async def __call__(self, name: str) -> list[Address]:
        """Raises OSError."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Address]] = loop.create_future()
        await self._free.acquire()

        def finish(addresses: list[Address], error: OSError | None) -> None:
            self._free.release()
            if not answer.done():
                answer.set_exception(error) if error else answer.set_result(addresses)

        def run() -> None:
            addresses, failure = [], None
            try:
                addresses = _get_addresses(name)
            except OSError as error:
                failure = error
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(finish, addresses, failure)

        try:
            Thread(target=run, name="look-up", daemon=True).start()
        except RuntimeError:
            self._free.release()
            raise OSError("the system has no thread left") from None
        return await answer


def _get_addresses(name: str) -> list[Address]:
    """Raises OSError."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        if not is_own_name(name):
            raise
        return [ip_address("127.0.0.1")]  # not every system's resolver keeps to RFC 6761
    # A link-local address ends in `%` and an interface, which is not the address's own.
    return [ip_address(str(address[0]).partition("%")[0]) for *_, address in found]


class PolicyResolver(AbstractResolver):
    """Answers aiohttp with those addresses of a name that the policy permits.

    aiohttp connects to the very addresses that it is given, so a name that changes its address later gains nothing.
    """

    def __init__(self, look_up: LookUp, policy: Policy | None) -> None:
        """Without a policy, it permits any address: it resolves the names of proxies, which guests don't choose."""
        self._look_up = look_up
        self._policy = policy

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises OSError, and Refused."""
        addresses = await self._look_up(host)
        if self._policy is not None:
            permitted = [address for address in addresses if self._policy.permits(host, port, address)]
            if not permitted:
                self._policy.check_addresses(host, port, addresses)
            addresses = permitted
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """There is nothing to close."""
