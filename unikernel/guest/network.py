"""The machine's network: the loopback, the interface to the outside, and the names that stand for both hosts.

The addresses come with the launcher's boot message (see control.md). A launcher without a control channel has them on
the kernel's command line, as `ip=ADDRESS::GATEWAY:MASK::eth0:off:NAMESERVER`, which the kernel puts into effect if it
has what that takes (Linux's admin-guide/nfs/nfsroot.rst).

Process 1 imports this before anything else, so it is kept light. Numbers come from the headers of Linux:
`linux/sockios.h`, `linux/if.h`, `linux/route.h`.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

SIOCSIFFLAGS, SIOCGIFADDR, SIOCSIFADDR, SIOCSIFNETMASK, IFF_UP = 0x8914, 0x8915, 0x8916, 0x891C, 1
SIOCADDRT, RTF_UP, RTF_GATEWAY = 0x890B, 1, 2

INTERFACE = "eth0"
"""The one to the outside, where the launcher says nothing of its name."""

HOSTS, RESOLV = "/run/hosts", "/run/resolv.conf"
"""What /etc/hosts and /etc/resolv.conf of an image are links to: what is in them is known at boot, and not before."""


class Network:
    """The addresses of a machine, IPv4 texts; empty where there is none."""

    __slots__ = ("address", "gateway", "host", "interface", "mask", "nameserver")

    def __init__(self, address: str, mask: str, gateway: str, nameserver: str, host: str, interface: str) -> None:
        self.address = address
        self.mask = mask
        self.gateway = gateway
        self.nameserver = nameserver
        self.host = host
        """What `host.localhost` stands for: the host's loopback, where the machine reaches that."""
        self.interface = interface


def of_message(given: Mapping[str, str]) -> Network:
    """What the boot message says under `network`, checked by `control`."""
    address, _, prefix = given["address"].partition("/")
    return Network(
        address, mask_of(int(prefix)), given["gateway"], given["nameserver"], given["host"], interface=INTERFACE
    )


def mask_of(prefix: int) -> str:
    """The network mask of so many bits: 255.255.255.0 for 24."""
    bits = (1 << 32) - (1 << (32 - prefix))
    return ".".join(str(byte) for byte in bits.to_bytes(4, "big"))


def of_command_line(line: str) -> Network | None:
    """What the kernel's command line says; None where it has no `ip=` with an address and an interface. There, the
    gateway is taken for the host."""
    for word in line.split():
        if word.startswith("ip="):
            fields = [*word.removeprefix("ip=").split(":"), "", ""]
            if len(fields) < 8 or not fields[0] or not fields[5]:
                return None
            address, _, gateway, mask, _, interface, _, nameserver = fields[:8]
            return Network(address, mask, gateway, nameserver, gateway, interface)
    return None


def bring_up_loopback() -> None:
    """Raises OSError."""
    _set("lo", SIOCSIFFLAGS, IFF_UP.to_bytes(2, sys.byteorder))
    write_names(None)


def bring_up(network: Network) -> None:
    """Gives the interface its address, unless the kernel has, and the names their files. Raises OSError, with what is
    the matter, where there is no such interface or an address is none."""
    if not os.path.exists(f"/sys/class/net/{network.interface}"):
        raise OSError(f"the machine has no network device {network.interface}")
    if not _has_address(network.interface):
        _set(network.interface, SIOCSIFADDR, _place(network.address))
        _set(network.interface, SIOCSIFNETMASK, _place(network.mask))
        _set(network.interface, SIOCSIFFLAGS, IFF_UP.to_bytes(2, sys.byteorder))
        if network.gateway:
            _add_route(network.gateway)
    write_names(network)


def write_names(network: Network | None) -> None:
    """What the C library resolves names with."""
    host = f"{network.host} host.localhost\n" if network and network.host else ""
    with open(HOSTS, "w") as file:
        file.write(f"127.0.0.1 localhost\n{host}")
    with open(RESOLV, "w") as file:
        file.write(f"nameserver {network.nameserver}\n" if network and network.nameserver else "")


def _has_address(interface: str) -> bool:
    try:
        _set(interface, SIOCGIFADDR, b"")
    except OSError:
        return False
    return True


def _set(interface: str, request: int, value: bytes) -> None:
    """An ioctl with a struct ifreq: the interface's name in 16 bytes, a union of 24."""
    _ioctl(request, interface.encode().ljust(16, b"\0") + value.ljust(24, b"\0"))


def _add_route(gateway: str) -> None:
    # struct rtentry: padding, destination, gateway, mask, flags.
    everywhere = _place("0.0.0.0")
    flags = (RTF_UP | RTF_GATEWAY).to_bytes(2, sys.byteorder)
    _ioctl(SIOCADDRT, bytes(8) + everywhere + _place(gateway) + everywhere + flags + bytes(62))


def _place(address: str) -> bytes:
    """An address as struct sockaddr_in: the family, a port, four bytes, padding."""
    import socket

    return (socket.AF_INET.to_bytes(2, sys.byteorder) + bytes(2) + socket.inet_aton(address)).ljust(16, b"\0")


def _ioctl(request: int, value: bytes) -> None:
    import fcntl
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, request, value)
