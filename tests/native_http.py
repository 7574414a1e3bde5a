"""The HTTP server of the native machine, around the same Python functions that the server in Python is tested with.

It is the program `http_bridge`, which asks this process for the answer to each request
(unikernel/native/examples/http_bridge.rs describes the messages).
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from bindgen.runtime import Err
from capabilities.bindings.http_types import Method, Request, Response
from capabilities.http import connection
from capabilities.http.access import AccessRecord
from capabilities.http.cors import Cors
from capabilities.http.dispatch import Dispatcher, HandlerFailure
from capabilities.http.settings import HttpSettings
from tests.native_programs import program

SECONDS = 10.0
"""The most that the program may take to begin, or to end after it has stopped serving."""

_LINE = 1 << 20
"""The longest message, in bytes. A request of 128 headers of 8,190 bytes is no part of any test here."""

_log = logging.getLogger("slight_py.http")


class Handlers(Dispatcher, Protocol):
    """A dispatcher that knows its handlers."""

    handlers: dict[str, Any]


class NativeService:
    """What of `HttpService` the tests of both servers use."""

    def __init__(self, process: Process, functions: Handlers, on_access: Callable[[AccessRecord], None] | None) -> None:
        assert process.stdin is not None
        self._process = process
        self._input = process.stdin
        self._functions = functions
        self._on_access = on_access
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._stopped = asyncio.Event()

    async def stop(self) -> None:
        if not self._stopped.is_set():
            self.send({"stop": True})
            await self._stopped.wait()

    def send(self, message: dict[str, Any], body: bytes = b"") -> None:
        self._input.write(json.dumps(message).encode() + b"\n" + body)

    async def hear(self) -> tuple[dict[str, Any], bytes]:
        """The program's next message. An empty one when it has ended."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        message: dict[str, Any] = json.loads(line) if line else {}
        return message, await self._process.stdout.readexactly(message.get("body", 0))

    async def work(self) -> None:
        """Does what the program asks for, until it ends."""
        while True:
            match await self.hear():
                case {"id": int(number)} as message, body:
                    self._tasks[number] = asyncio.create_task(self._answer(message, body))
                case {"cancelled": int(number)}, _:
                    self._tasks[number].cancel()
                case {"error": str(line)}, _:
                    _log.error(line)
                case {"warning": str(line)}, _:
                    _log.warning(line)
                case {"access": dict(record)}, _:
                    assert self._on_access is not None
                    self._on_access(AccessRecord(**record))
                case {"stopped": True}, _:
                    self._stopped.set()
                case message, _:
                    assert not message, message
                    self._stopped.set()
                    return

    async def _answer(self, message: dict[str, Any], body: bytes) -> None:
        number = message["id"]
        request = Request(
            Method[message["method"]],
            message["uri"],
            [(name, value) for name, value in message["headers"]],
            [(name, value) for name, value in message["params"]],
            body,
        )
        try:
            handler = self._functions.resolve(message["handler"])
            response: Response = await self._functions.handle(handler, request)
        except Err as error:
            case = re.sub("(?<!^)([A-Z])", r"-\1", type(error.value).__name__.removeprefix("HttpError")).lower()
            self.send({"id": number, "error": case, "value": error.value.value})
        except HandlerFailure as failure:
            self.send({"id": number, "ended": str(failure)})
        except Exception as error:
            self.send({"id": number, "ended": f"{type(error).__name__}: {error}"})
        else:
            content = response.body or b""
            answer = {"id": number, "status": response.status, "headers": response.headers}
            self.send(answer if response.body is None else {**answer, "body": len(content)}, content)

    async def close(self) -> None:
        """Ends the program. Raises AssertionError where it fails."""
        await self.stop()
        self._input.close()
        assert await asyncio.wait_for(self._process.wait(), SECONDS) == 0


@asynccontextmanager
async def native_service(
    functions: Handlers,
    routes: Sequence[tuple[str, str, str]],
    settings: HttpSettings,
    on_access: Callable[[AccessRecord], None] | None,
) -> AsyncIterator[tuple[NativeService, int]]:
    """A server at work for these routes, and its port."""
    process = await asyncio.create_subprocess_exec(program("http_bridge"), stdin=PIPE, stdout=PIPE, limit=_LINE)
    service = NativeService(process, functions, on_access)
    start = {
        "routes": routes,
        "handlers": list(functions.handlers),
        "access": on_access is not None,
        "cors": cors_configs(settings.cors),
        "settings": _settings(settings),
    }
    service.send(start)
    started, _ = await asyncio.wait_for(service.hear(), SECONDS)
    working = asyncio.create_task(service.work())
    try:
        yield service, started["port"]
    finally:
        await service.close()
        await working


def _settings(settings: HttpSettings) -> dict[str, float]:
    """As the program has them: limits that are constants in Python, and that tests change, are settings there."""
    return {
        "max_body": settings.max_body,
        "request_timeout": settings.request_timeout,
        "body_timeout": settings.body_timeout,
        "max_concurrent": settings.max_concurrent,
        "drain_timeout": settings.drain_timeout,
        "max_unsent": connection.MAX_UNSENT,
        "idle_timeout": connection.IDLE_TIMEOUT,
        "grace": connection.GRACE,
        "linger": connection.LINGER,
        "send_stall": connection.SEND_STALL,
    }


def cors_configs(cors: Cors) -> dict[str, str]:
    """The configuration that `cors` was made of, where that says no more than which origins there are."""
    configs = {"CORS_ALLOW_ORIGIN": ", ".join(cors._by_origin) or "none"}
    again = Cors.from_configs(configs)
    assert (again._by_origin, again._others) == (cors._by_origin, cors._others), "other keys than the origins are set"
    return configs
