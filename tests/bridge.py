"""What the guest tests/guests_src/bridge.c takes for a Redis, in which it puts requests and finds the answers."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from io import BufferedReader

from capabilities.bindings import http_types
from capabilities.bindings.http_types import Method, Request, Response
from tests.servers import HOST

_RESPONSE, _ERROR, _ERROR_WITH_STATUS, _TRAP = range(4)
_METHODS = tuple(Method)
_ERRORS = tuple(
    getattr(http_types, f"HttpError{name}")
    for name in ("InvalidUrl", "TimeoutError", "ProtocolError", "StatusError", "UnexpectedError")
)


class Store:
    """What the guests of a machine take for a Redis, at a port of its own.

    Its threads call `on_request` with the key and the bytes of each request.
    """

    def __init__(self, on_request: Callable[[bytes, bytes], None]) -> None:
        self._on_request = on_request
        self._listener = socket.create_server((HOST, 0))
        self.address = f"redis://host.localhost:{self._listener.getsockname()[1]}"
        self.answers: dict[bytes, bytes] = {}
        """Those that nobody has fetched yet."""
        self.looked: dict[bytes, float] = {}
        """When each answer was last looked for, by a clock that goes on."""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # which ends the thread that accepts
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # it is closed
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection, connection.makefile("rb") as reader:
            while command := _command(reader):
                connection.sendall(self._do(*command))

    def _do(self, command: bytes, key: bytes, *values: bytes) -> bytes:
        store, _, key = key.partition(b":")
        match command, store, values:
            case b"SET", b"requests", (value,):
                self.looked[key] = time.monotonic()
                self._on_request(key, value)
                return b"+OK\r\n"
            case b"GET", b"answers", ():
                self.looked[key] = time.monotonic()
                answer = self.answers.pop(key, None)
                return b"$-1\r\n" if answer is None else b"$%d\r\n%s\r\n" % (len(answer), answer)
        raise AssertionError((command, store))


def _command(reader: BufferedReader) -> list[bytes]:
    """The next command of RESP, an array of strings; an empty one at the end."""
    begin = reader.readline()
    parts = []
    for _ in range(int(begin[1:] or 0)):
        length = int(reader.readline()[1:])
        parts.append(reader.read(length + 2)[:-2])
    return parts


# Requests and answers, as tests/guests_src/bridge.c describes them.


class _Packed:
    """The bytes of a request, taken from their beginning."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def number(self) -> int:
        self._at += 4
        return int.from_bytes(self._content[self._at - 4 : self._at], "little")

    def bytes(self) -> bytes:
        length = self.number()
        self._at += length
        return self._content[self._at - length : self._at]

    def text(self) -> str:
        return self.bytes().decode()

    def pairs(self) -> list[tuple[str, str]]:
        return [(self.text(), self.text()) for _ in range(self.number() // 2)]


def _number(number: int) -> bytes:
    return struct.pack("<I", number)


def _bytes(content: bytes) -> bytes:
    return _number(len(content)) + content


def pack(response: Response) -> bytes:
    headers, body = response.headers, response.body
    parts = [_number(_RESPONSE), _number(response.status), _number(headers is not None)]
    if headers is not None:
        parts += [_number(2 * len(headers)), *(_bytes(text.encode()) for header in headers for text in header)]
    parts += [_number(body is not None), *([] if body is None else [_number(len(body)), _bytes(body.rstrip(b"\0"))])]
    return b"".join(parts)


def pack_error(error: http_types.HttpError) -> bytes:
    if isinstance(error, http_types.HttpErrorStatusError):
        return _number(_ERROR_WITH_STATUS) + _number(error.value)
    return _number(_ERROR) + _number(_ERRORS.index(type(error))) + _bytes(error.value.encode())


def pack_trap() -> bytes:
    """The answer to which a handler traps."""
    return _number(_TRAP)


def unpack(content: bytes) -> tuple[str, Request]:
    """A handler's name, and its request."""
    packed = _Packed(content)
    handler, method = packed.text(), _METHODS[packed.number()]
    return handler, Request(method, packed.text(), packed.pairs(), packed.pairs(), packed.bytes())
