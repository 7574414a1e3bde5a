"""Guests that call wasi:http 0.2 in any order: whatever they do, their calls end, and so do their requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bindgen.runtime import Err, GuestFault, Ok
from capabilities.bindings.wasi_http_0_2 import types
from capabilities.http import connection as connection_module
from capabilities.http.cors import Cors
from capabilities.http.dispatch import Exchange, HandlerFailure
from capabilities.http.settings import HttpSettings
from capabilities.wasi.http import TypesHost, incoming
from tests.http_serving import streaming

HOST = TypesHost()
SETTINGS = HttpSettings(cors=Cors(origins=()), request_timeout=2, body_timeout=1, max_body=1000)

CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
REQUESTS = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"HEAD / HTTP/1.0\r\n\r\n",
    b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello",
    CHUNKED + b"5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    CHUNKED + b"5\r\nhello\r\nzz\r\n",
    CHUNKED + b"7d0\r\n" + bytes(2000),
)

NAMES = st.sampled_from(["a", "Content-Length", "host", "", "a b", "x" * 300])
VALUES = st.sampled_from([b"", b"1", b"5", b"\n", b"\xff", b"x" * 70_000])
SIZES = st.sampled_from([0, 1, 5, 4096, 4097, 1 << 16, 1 << 40, (1 << 64) - 1])
DATA = st.sampled_from([b"", b"hello", bytes(4096), bytes(4097), bytes(1 << 16)])
STATUSES = st.sampled_from([0, 100, 200, 204, 304, 599, 65_535])
PICKS = st.integers(0, 1 << 16)

STEPS = st.one_of(
    *(
        st.tuples(st.just(name), PICKS, *arguments)
        for name, *arguments in (
            ("get", NAMES),
            ("has", NAMES),
            ("set", NAMES, st.lists(VALUES, max_size=2)),
            ("append", NAMES, VALUES),
            ("delete", NAMES),
            ("entries",),
            ("clone",),
            ("headers",),
            ("method",),
            ("authority",),
            ("consume",),
            ("stream",),
            ("read", SIZES),
            ("blocking_read", SIZES),
            ("skip", SIZES),
            ("subscribe",),
            ("block",),
            ("ready",),
            ("body",),
            ("output",),
            ("trailers",),
            ("set_status_code", STATUSES),
            ("write", DATA),
            ("check_write",),
            ("blocking_write_and_flush", DATA),
            ("blocking_flush",),
            ("write_zeroes", SIZES),
            ("drop",),
            ("new_fields",),
            ("new_response",),
            ("finish_incoming",),
            ("finish_outgoing",),
            ("set_response",),
            ("set_error",),
            ("inform", STATUSES),
            ("turn",),
        )
    )
)


_APART = ("FutureTrailers", "OutgoingBody")
"""What has a method of the same name as others, with other parameters."""


class Guest:
    """What a guest holds, and what it does with it: each step takes one of those that can do it."""

    def __init__(self, exchange: Exchange) -> None:
        self.held: list[Any] = list(incoming(exchange))

    def pick(self, number: int, able: Callable[[Any], bool]) -> Any:
        found = [each for each in self.held if able(each)]
        if not found:
            raise Err(None)
        return found[number % len(found)]

    def take(self, number: int, kind: str) -> Any:
        """One that is handed over: the guest has it no more."""
        found = self.pick(number, lambda each: type(each).__name__ == kind)
        self.held.remove(found)
        return found

    async def do(self, name: str, number: int, *arguments: Any) -> None:
        match name:
            case "turn":
                await asyncio.sleep(0)
            case "output":
                body = self.pick(number, lambda each: type(each).__name__ == "OutgoingBody")
                self.keep(await body.write())
            case "trailers":
                future = self.pick(number, lambda each: type(each).__name__ == "FutureTrailers")
                self.keep(await future.get())
            case "drop":
                dropped = self.pick(number, lambda each: True)
                self.held.remove(dropped)
                if hasattr(dropped, "on_drop"):
                    dropped.on_drop()
            case "new_fields":
                self.held.append(await HOST.fields_new())
            case "new_response":
                self.held.append(await HOST.outgoing_response_new(self.take(number, "Fields")))
            case "finish_incoming":
                self.held.append(await HOST.incoming_body_finish(self.take(number, "IncomingBody")))
            case "finish_outgoing":
                trailers = self.take(number, "Fields") if number % 2 else None
                await HOST.outgoing_body_finish(self.take(number, "OutgoingBody"), trailers)
            case "set_response":
                response = self.take(number, "OutgoingResponse")
                await HOST.response_outparam_set(self.take(number, "ResponseOutparam"), Ok(response))
            case "set_error":
                await HOST.response_outparam_set(
                    self.take(number, "ResponseOutparam"), Err(types.ErrorCodeLoopDetected())
                )
            case "inform":
                param = self.pick(number, lambda each: type(each).__name__ == "ResponseOutparam")
                await param.send_informational(*arguments, await HOST.fields_new())
            case _:
                called = self.pick(number, lambda each: hasattr(each, name) and type(each).__name__ not in _APART)
                self.keep(await getattr(called, name)(*arguments))

    def keep(self, result: object) -> None:
        while isinstance(result, Ok):
            result = result.value
        if type(result).__module__.startswith("capabilities.wasi"):
            self.held.append(result)

    def close(self) -> None:
        held, self.held = self.held, []
        for each in held:
            with suppress(GuestFault):
                getattr(each, "on_drop", lambda: None)()


def handler(steps: list[Any]) -> Callable[[Exchange], Awaitable[None]]:
    async def handle(exchange: Exchange) -> None:
        guest = Guest(exchange)
        try:
            for name, *arguments in steps:
                try:
                    await asyncio.wait_for(guest.do(name, *arguments), 0.05)
                except (Err, TimeoutError):
                    pass
                except GuestFault as fault:
                    raise HandlerFailure(str(fault)) from fault
        finally:
            guest.close()

    return handle


@pytest.fixture(autouse=True)
def _short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "LINGER", 0.01)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.sampled_from(REQUESTS), st.lists(STEPS, max_size=30))
def test_whatever_a_guest_does_its_client_gets_an_answer(request_: bytes, steps: list[Any]) -> None:
    async def main() -> bytes:
        async with streaming(handler(steps), SETTINGS) as server:
            return await server.raw(request_)

    records: list[logging.LogRecord] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    logger, kept = logging.getLogger("slight_py.http"), Kept()
    logger.addHandler(kept)
    try:
        answer = asyncio.run(main())
    finally:
        logger.removeHandler(kept)
    assert answer.startswith(b"HTTP/1.1 ")
    for record in records:
        # Errors of Python are ours.
        assert not any(word in record.getMessage() for word in ("Error:", "the server failed")), record.getMessage()
