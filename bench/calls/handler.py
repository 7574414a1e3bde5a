"""What the host's side of one HTTP request costs: a request lowered into memory, a response lifted from it.

The guest is none: memory, and addresses that were worked out before. So it is the generated Python and
`bindgen.runtime` that are measured, and the turns that a coroutine takes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from struct import pack_into
from typing import Any

from bindgen import runtime
from bindgen.runtime import Flat, Handles, Lower, Resources
from capabilities.bindings import http_handler
from capabilities.bindings.http_types import Method, Request, Response

CALLS, ROUNDS = 100, 1000
"""Rounds are short and many, so that the best of them is one that nothing else got in the way of."""

RESULT_AT, HEADERS_AT, TEXTS_AT, FREE_AT = 64, 1024, 8192, 16_384
"""Where a response lies in memory: itself, its list of headers, its texts; and what may be allocated."""


class Memory:
    """A guest that is nothing but memory with a response in it."""

    def __init__(self, response: Response) -> None:
        self.handles = Handles()
        self.resources = Resources()
        self.reused = False
        self._bytes = bytearray(65_536)
        self.memory = memoryview(self._bytes)
        self._pointers: list[int] = []
        self._free = TEXTS_AT
        headers = response.headers or []
        pairs = [number for header in headers for text in header for number in self._text(text.encode())]
        pack_into(f"<{len(pairs)}I", self._bytes, HEADERS_AT, *pairs)
        body = self._text(response.body or b"")
        pack_into(
            *("<B3xH2xB3xIIB3xII", self._bytes, RESULT_AT, 0, response.status),
            *(response.headers is not None, HEADERS_AT, len(headers), response.body is not None, *body),
        )

    def _text(self, data: bytes) -> tuple[int, int]:
        at = self._free
        self._bytes[at : at + len(data)] = data
        self._free += len(data)
        return at, len(data)

    async def allocate(self, lower: Lower) -> None:
        blocks = lower.blocks
        if len(blocks) != len(self._pointers):
            self._pointers = [FREE_AT + 1024 * number for number in range(len(blocks))]
        lower.place(self._pointers)

    async def free(self, blocks: Sequence[tuple[int, int, int]]) -> None:
        pass

    async def drop(self, resource: str, rep: int) -> None:
        pass

    async def call(self, export: Any, args: Sequence[Flat]) -> Any:
        return RESULT_AT


def measure() -> None:
    """Prints the costs by the form of `Lift` and `Lower` and by the number of headers."""
    print("\n| the host's side of a request | no headers, µs | 1, µs | 10, µs |")
    print("| --- | --- | --- | --- |")
    for name, lift, lower in (
        ("as it is built", runtime.Lift, runtime.Lower),
        ("in Python", runtime.PureLift, runtime.PureLower),
    ):
        http_handler.__dict__.update(Lift=lift, Lower=lower)
        costs = " | ".join(f"{microseconds(headers):.1f}" for headers in (0, 1, 10))
        print(f"| {name} | {costs} |")


def microseconds(headers: int) -> float:
    """What a request and a response of so many headers each take, at best."""
    some = [(f"x-header-number-{number}", f"the value of number {number}") for number in range(headers)]
    request = Request(Method.GET, "/hello/world?with=query", some, [], b"")
    response = Response(200, some, b"Hello, world!")
    guest = Memory(response)
    best = 1e9
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(CALLS):
            _run(guest, request)
        best = min(best, time.perf_counter() - began)
    assert _run(guest, request) == response
    return best / CALLS * 1e6


def _run(guest: Memory, request: Request) -> Response:
    try:
        http_handler.handle_http(guest, None, request).send(None)
    except StopIteration as done:
        answer: Response = done.value
        return answer
    raise AssertionError("nothing here waits")
