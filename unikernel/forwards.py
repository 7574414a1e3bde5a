"""Ports of the host that lead to ports of the machine, as QEMU's user network forwards them (`hostfwd`)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slight_py.errors import UsageError
from unikernel.machine import GUEST_ADDRESS, NETWORK
from unikernel.qmp import QmpError

if TYPE_CHECKING:
    from unikernel.vm import Vm

LIMIT = 64
"""Ports that an application may open by serving: it is untrusted, and each is a port of the host."""


@dataclass(frozen=True, slots=True)
class Forward:
    """A port of the host (an IPv4 address) that leads to a port of the machine."""

    host: str
    port: int
    """0 for any that is free."""
    guest: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def rule(self) -> str:
        """As QEMU has it."""
        return f"tcp:{self.host}:{self.port}-{GUEST_ADDRESS}:{self.guest}"


class Forwards:
    """What leads to the ports of a machine: what the user asks for, else what the application does."""

    def __init__(self, asked: Iterable[tuple[str, int, int]]) -> None:
        """`asked` are the forwards of -p: address and port of the host, port in the machine."""
        self.asked = [Forward(ipv4(host) or host, port, guest) for host, port, guest in asked]

    def of(self, address: str, port: int) -> list[Forward]:
        """What leads to a port of the machine: what -p says of it, else the address that the application asked for."""
        chosen = [forward for forward in self.asked if forward.guest == port]
        if chosen:
            return chosen
        host, _, digits = address.rpartition(":")
        # The application is not trusted with names: to look one up tells others of it.
        reachable = ipv4(host.removeprefix("[").removesuffix("]")) or "127.0.0.1"
        is_port = digits.isdecimal() and 0 < int(digits) < 1 << 16
        return [Forward(reachable, int(digits) if is_port else port, port)]


async def open_all(vm: Vm, forwards: Iterable[Forward]) -> None:
    """Forwards ports, but for those that are forwarded. Raises UsageError for one that is taken, and QmpError."""
    for forward in forwards:
        if forward in vm.forwards:
            continue
        if len(vm.forwards) >= LIMIT:
            raise UsageError(f"the application serves at more than {LIMIT} ports, which is the limit")
        if await vm.qmp.human(f"hostfwd_add {NETWORK} {forward.rule}"):
            raise UsageError(_why_refused(forward))
        vm.forwards[forward] = forward if forward.port else await _chosen(vm, forward)


async def _chosen(vm: Vm, forward: Forward) -> Forward:
    """A forward from any port that is free, with the one that QEMU has chosen. Raises QmpError."""
    known = {(each.host, each.port) for each in vm.forwards.values()}
    for line in (await vm.qmp.human("info usernet")).splitlines():
        match line.split():
            case ["TCP[HOST_FORWARD]", _, forward.host, port, _, guest, *_]:
                found = Forward(forward.host, int(port), int(guest))
                if found.guest == forward.guest and (found.host, found.port) not in known:
                    return found
    raise QmpError(f"QEMU doesn't say which port leads to the machine's port {forward.guest}")


def ipv4(host: str) -> str | None:
    """The IPv4 address that stands for a host's name or address, if one does: QEMU forwards from no other."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if address.version == 4:
        return str(address)
    return "127.0.0.1" if address.is_loopback else "0.0.0.0" if address.is_unspecified else None


def _why_refused(forward: Forward) -> str:
    from capabilities.http import listen

    hint = f"forward another port with -p OTHER:{forward.guest}"
    try:
        for opened in listen.bind(str(forward)):
            opened.close()
    except listen.ListenError as error:
        return f"{error}; {hint}"
    return f"can't forward {forward}; {hint}"
