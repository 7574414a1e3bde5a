"""Listening sockets, made before there is a server, so that a taken port is known early and told in one line."""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from bindgen.runtime import Err
from capabilities.bindings.http_types import HttpRouterErrorInvalidUrl

_WHY = {
    errno.EADDRINUSE: "something else listens there",
    errno.EACCES: "not permitted (ports below 1024 are for root, or take the capability CAP_NET_BIND_SERVICE)",
    errno.EPERM: "not permitted",
    errno.EADDRNOTAVAIL: "this machine doesn't have that address",
}

_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

_ANY_PORT_TRIES = 10

_SO_ATTACH_FILTER = 26
"""From Linux's asm-generic/socket.h."""

_NO_SYN = (
    (0x30, 0, 0, 13),  # A = the flags of the TCP header
    (0x54, 0, 0, 0x12),  # A &= SYN | ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFF_FFFF),  # take
)
"""A program of the kernel's packet filter (bpf(4)): code, jumps and operand of each instruction."""

_Target: TypeAlias = tuple[int, Any]
"""A family of addresses, and an address as the `socket` module has it for that family: host and port come first."""


class ListenError(Exception):
    """The address is taken, or not permitted. The message is one line and names the address."""

    def __init__(self, address: str, error: OSError) -> None:
        why = _WHY.get(error.errno or 0) or error.strerror or type(error).__name__
        super().__init__(f"can't listen on {address}: {why}")


def bind(address: str, reuse_port: bool = False) -> list[socket.socket]:
    """Sockets bound to `HOST:PORT`, not listening yet: one for each address of the host, all with one port.

    An IPv6 address stands in brackets, and port 0 is any free one. With `reuse_port` other sockets of the same user
    may share the port (see `share`); that nobody listens there yet is made sure of first, as the kernel would share
    with a stranger, too. A host name may take a look-up, so this can block.

    Raises `Err[HttpRouterErrorInvalidUrl]` for an address that can't be read or a host that isn't known, and
    ListenError.
    """
    host, port = parse(address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Err(HttpRouterErrorInvalidUrl(f"{address[:300]!r}: there is no host of that name")) from None
    targets = list(dict.fromkeys((info[0], info[4]) for info in found))
    try:
        if reuse_port and port:
            for opened in _bind_all(targets):
                opened.close()
        for _ in range(_ANY_PORT_TRIES):
            with suppress(_PortTakenError):
                return _bind_all(targets, reuse_port)
        raise OSError(errno.EADDRINUSE, "")
    except OSError as error:
        raise ListenError(address, error) from None


def share(sockets: Sequence[socket.socket]) -> list[socket.socket]:
    """More sockets on the addresses of `sockets`, which were bound with `reuse_port`: a set for one more worker.

    Raises ListenError.
    """
    shared = [(opened.family, opened.getsockname()) for opened in sockets]
    try:
        return _bind_all(shared, reuse_port=True)
    except OSError as error:
        raise ListenError(name_of(sockets[0]), error) from None


def close_to_more(opened: socket.socket) -> None:
    """Has the system ignore whoever begins to connect to a listening socket, until it is closed.

    Connections that the system has made and nobody has accepted would be reset when the socket is closed. With this,
    there is an end to them. Who is ignored tries again after a second, and is refused then.
    """
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in _NO_SYN))
    fprog = struct.pack("@HP", len(_NO_SYN), ctypes.addressof(program))
    with suppress(OSError):  # a system without packet filters: some may be reset
        opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)


def name_of(opened: socket.socket) -> str:
    """The address of a bound socket, as `bind` takes it."""
    host, port = opened.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _PortTakenError(Exception):
    """The free port of one address is taken on another: another one may do."""


def parse(address: str) -> tuple[str, int]:
    """The host and the port of an address, as `bind` takes it. Raises `Err[HttpRouterErrorInvalidUrl]`."""
    host, _, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    readable = host and address.isascii() and address.isprintable() and port.isdigit() and len(port) <= 5
    if not readable or (":" in host) != bracketed or int(port) > 65535:
        text = f"{address[:300]!r} is not HOST:PORT, as in 127.0.0.1:3000 or [::1]:3000"
        raise Err(HttpRouterErrorInvalidUrl(text))
    return host, int(port)


def _bind_all(targets: Sequence[_Target], reuse_port: bool = False) -> list[socket.socket]:
    """A socket for each target, on one port. Targets that the machine lacks are left out, unless it lacks all.

    Raises OSError, and _PortTakenError where only the choice of a free port went wrong.
    """
    opened: list[socket.socket] = []
    missing: OSError | None = None
    any_port = targets[0][1][1] == 0
    try:
        for family, (host, port, *rest) in targets:
            if any_port and opened:
                port = opened[0].getsockname()[1]
            try:
                opened.append(_bind_one(family, (host, port, *rest), reuse_port))
            except OSError as error:
                if any_port and opened and error.errno == errno.EADDRINUSE:
                    raise _PortTakenError from None
                if error.errno not in _NO_SUCH_ADDRESS:
                    raise
                missing = error
        if missing is not None and not opened:
            raise missing
    except BaseException:
        for one in opened:
            one.close()
        raise
    return opened


def _bind_one(family: int, target: Any, reuse_port: bool) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        # So that connections of a server that was stopped just now don't keep the port.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        opened.setblocking(False)
        opened.bind(target)
    except BaseException:
        opened.close()
        raise
    return opened
