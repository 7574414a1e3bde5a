"""What comes over the wire from clients that are broken or mean harm: requests, and what random changes make of them,
in pieces of random sizes at random times."""

from __future__ import annotations

import random
from dataclasses import dataclass
from struct import pack, unpack_from

from tests import wat

PATHS = (
    "/hello",
    "/hello",
    "/hello?q=1",
    "/echo/a",
    "/echo/%2e%2e",
    "/none",
    "*",
    "http://h/hello",
    "//",
    "/\xff",
    "h",
)
METHODS = ("GET", "GET", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "get", "X" * 40)
VERSIONS = ("HTTP/1.1",) * 8 + ("HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/9.9", "http/1.1", "HTTP/1.1 ")
HEADERS = (
    "Connection: keep-alive", "Connection: close", "Connection: upgrade", "Upgrade: h2c", "Expect: 100-continue",
    "Expect: 200-maybe", "Transfer-Encoding: gzip", "Transfer-Encoding: chunked, chunked", "Content-Length: -1",
    "Content-Length: 99999999999999999999", "Content-Length: 5, 5", "Content-Length:", "Host: other", "X: \x00",
    "X-Long: " + "a" * 9000, " folded: yes", "No colon", ": empty", "Cookie: " + "b=c; " * 200, "Origin: http://o",
    "Accept-Encoding: gzip, br", "Range: bytes=0-1", "X-Caf\xe9: \xe9", "Te: trailers", "Trailer: X",
)  # fmt: skip
INTERESTING = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"\r\n\r\n",
    b"\xff",
    b"0\r\n\r\n",
    b"FFFFFFFF\r\n",
    b";",
)


_VALID = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclass(frozen=True)
class Conversation:
    """What one connection sends."""

    pieces: list[bytes]
    pauses: list[float]
    """Seconds before each of the pieces."""
    end: str
    """`close`, `half` (the client sends no more, and waits for the end), `reset`, or `wait` for the answers to
    what is valid: to a server, who sends no more is gone."""
    valid: int = 0
    """How many valid requests it begins with, each of which is answered with 200, whatever comes after them."""


def make(rng: random.Random) -> list[Conversation]:
    """The conversations of one batch, which go on at the same time."""
    return [_conversation(rng) for _ in range(rng.choice((1, 2, 8)))]


def _conversation(rng: random.Random) -> Conversation:
    stream = b"".join(_request(rng) for _ in range(rng.choice((1, 1, 2, 5, 30))))
    for _ in range(rng.choice((0, 0, 1, 1, 2, 8))):
        stream = _mutate(rng, stream)
    valid = rng.choice((1, 2, 5, 30)) if rng.random() < 0.3 else 0
    stream = _VALID * valid + stream
    cuts = sorted(rng.randrange(len(stream) + 1) for _ in range(rng.choice((0, 0, 1, 3, 20))))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    slow = rng.random() < 0.2
    pauses = [rng.choice((0.0, 0.001, 0.02)) if slow else 0.0 for _ in pieces]
    end = rng.choice(("close", "half", "half", "reset"))
    return Conversation(pieces, pauses, "wait" if valid else end, valid)


def _request(rng: random.Random) -> bytes:
    lines = [f"{rng.choice(METHODS)} {rng.choice(PATHS)} {rng.choice(VERSIONS)}", "Host: localhost"]
    lines += rng.sample(HEADERS, rng.choice((0, 0, 0, 1, 2, 5)))
    if rng.random() < 0.05:
        lines += [f"X-{number}: {number}" for number in range(rng.choice((100, 140, 2000)))]
    body = b""
    match rng.randrange(6):
        case 0:
            body = rng.randbytes(rng.choice((0, 1, 100, 70_000)))
            lines.append(f"Content-Length: {len(body)}")
        case 1:
            lines.append("Transfer-Encoding: chunked")
            for _ in range(rng.choice((0, 1, 3, 50))):
                chunk = rng.randbytes(rng.choice((1, 10, 5000)))
                body += f"{len(chunk):x}{rng.choice(('', '', ';a=b'))}\r\n".encode() + chunk + b"\r\n"
            body += rng.choice((b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"00000\r\n\r\n", b"-1\r\n\r\n", b""))
        case 2 if rng.random() < 0.2:
            lines += ["Content-Length: 3", "Transfer-Encoding: chunked"]
            body = b"0\r\n\r\n"
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body


def _mutate(rng: random.Random, stream: bytes) -> bytes:
    at = rng.randrange(len(stream) + 1)
    match rng.randrange(6):
        case 0:
            return stream[:at] + rng.choice(INTERESTING) + stream[at:]
        case 1:
            return stream[:at] + stream[at + rng.choice((1, 2, 10)) :]
        case 2:
            return stream[:at] + bytes((rng.randrange(256),)) + stream[at + 1 :]
        case 3:
            return stream[:at] + rng.randbytes(rng.choice((1, 16, 300, 20_000))) + stream[at:]
        case 4:
            return stream[:at]
        case _:
            return stream.replace(b"\r\n", b"\n", rng.choice((1, 3, -1)))


# The guest that answers.

_TEXTS = ("/hello", "/echo/:name", "handle-hello", "127.0.0.1:0")


def server() -> bytes:
    """A module that serves `/hello` and `/echo/:name` for each method at a free port of 127.0.0.1."""
    places: dict[str, str] = {}
    at = 1024
    for text in _TEXTS:
        places[text] = f"(i32.const {at}) (i32.const {len(text)})"
        at += len(text)
    router = "(i32.load (i32.const 2052))"
    calls = ["(call $new (i32.const 2048))"]
    methods = ("get", "put", "post", "delete")
    for method in methods:
        for route in ("/hello", "/echo/:name"):
            calls.append(f"(call ${method} {router} {places[route]} {places['handle-hello']} (i32.const 2048))")
    calls.append(f"(call $serve {places['127.0.0.1:0']} {router} (i32.const 2064))")
    imports = "".join(
        f'(import "http-server" "router::{method}" (func ${method} (param i32 i32 i32 i32 i32 i32)))'
        for method in methods
    )
    return wat.module(
        f'(func (export "_start") {" ".join(calls)} (if (i32.load8_u (i32.const 2064)) (then (unreachable))))',
        f'(data (i32.const 1024) "{"".join(_TEXTS)}")',
        '(func (export "canonical_abi_free") (param i32 i32 i32))',
        imports='(import "http-server" "router::new" (func $new (param i32)))'
        '(import "http-server" "server::serve" (func $serve (param i32 i32 i32 i32)))' + imports,
    )


def to_bytes(conversations: list[Conversation]) -> bytes:
    """What `from_bytes` reads: a file that reproduces a batch."""
    parts = [pack("<I", len(conversations))]
    for each in conversations:
        parts.append(pack("<8sII", each.end.encode(), each.valid, len(each.pieces)))
        for piece, pause in zip(each.pieces, each.pauses, strict=True):
            parts.append(pack("<dI", pause, len(piece)) + piece)
    return b"".join(parts)


def from_bytes(content: bytes) -> list[Conversation]:
    (count,), at = unpack_from("<I", content), 4
    found = []
    for _ in range(count):
        end, valid, pieces = unpack_from("<8sII", content, at)
        at += 16
        conversation = Conversation([], [], end.rstrip(b"\0").decode(), valid)
        for _ in range(pieces):
            pause, size = unpack_from("<dI", content, at)
            at += 12
            conversation.pieces.append(content[at : at + size])
            conversation.pauses.append(pause)
            at += size
        found.append(conversation)
    return found
