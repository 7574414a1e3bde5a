"""Guests that answer requests in the native machine's host, called from Python as those of `slight_py.handlers` are.

The program `handler_line` has them, built as an ordinary one (unikernel/native/examples/handler_line.rs, which
describes the messages).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import queue
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

from bindgen.runtime import Err
from capabilities.bindings import http_types
from capabilities.bindings.http_types import Request, Response
from capabilities.http.dispatch import HandlerFailure
from capabilities.http.settings import HttpSettings
from capabilities.keyvalue.memory import MemoryStores
from slight_py import ahead
from tests.native_programs import program
from tests.wat import LIMITS, SERVED

SECONDS = 10.0
"""The most that the program may take to load a module, to begin to serve, or to end."""

ENDED = "handler_line has ended"
"""What fails a test whose program is gone."""

_ERRORS = {
    "invalid-url": http_types.HttpErrorInvalidUrl,
    "timeout-error": http_types.HttpErrorTimeoutError,
    "protocol-error": http_types.HttpErrorProtocolError,
    "status-error": http_types.HttpErrorStatusError,
    "unexpected-error": http_types.HttpErrorUnexpectedError,
}

_log = logging.getLogger("slight_py.http")


class NativeHost:
    """The program, and what it is told and says. A thread reads that: tests have an event loop each, or several."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        assert process.stdin is not None
        self._process = process
        self._input = process.stdin
        self._folder = folder
        self._numbers = itertools.count()
        self._asked: dict[int, Future[Response]] = {}
        self._said: queue.Queue[dict[str, Any]] = queue.Queue()
        self._hearing = threading.Thread(target=self._hear)
        self._hearing.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def handlers(self, wasm: bytes, *, stores: MemoryStores | None = None) -> NativeHandlers:
        """What answers requests with a module. Its stores begin with the values of `stores`."""
        path = self._folder / f"{next(self._numbers)}.cwasm"
        path.write_bytes(ahead.compile_ahead(wasm, ahead.TARGET))
        limits = {"memory": LIMITS.memory, "instances": LIMITS.instances}
        number: int = self.told({"module": str(path), **limits})["loaded"]
        kept = {} if stores is None else stores._stores
        for name, values in kept.items():
            for key, value in values.items():
                self.tell({"module": number, "store": name.decode(), "key": key.decode()}, value)
        return NativeHandlers(self, number)

    def tell(self, message: dict[str, Any], body: bytes | None = None) -> None:
        sized = message if body is None else {**message, "body": len(body)}
        self._input.write(json.dumps(sized).encode() + b"\n" + (body or b""))
        self._input.flush()

    def told(self, message: dict[str, Any]) -> dict[str, Any]:
        """The program's answer to what is no request to a handler."""
        self.tell(message)
        said = self._said.get(timeout=SECONDS)
        assert said, ENDED
        return said

    async def ask(self, message: dict[str, Any], body: bytes) -> Response:
        """What a handler answers. Raises what `slight_py.handlers.Handlers.handle` raises."""
        number = next(self._numbers)
        answer: Future[Response] = Future()
        self._asked[number] = answer
        self.tell({**message, "ask": number}, body)
        try:
            return await asyncio.wrap_future(answer)
        except asyncio.CancelledError:
            self.tell({"cancel": number})
            raise

    def close(self) -> None:
        """Ends the program. Raises AssertionError where it failed."""
        self._input.close()
        assert self._process.wait(SECONDS) == 0
        self._hearing.join()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message: dict[str, Any] = json.loads(line)
            body = self._process.stdout.read(message["body"]) if "body" in message else None
            if "ask" in message:
                self._answered(message, body)
            elif "log" in message:
                _log.error(message["log"])
            else:
                self._said.put(message)
        self._said.put({})
        for answer in self._asked.values():
            if answer.set_running_or_notify_cancel():
                answer.set_exception(AssertionError(ENDED))

    def _answered(self, message: dict[str, Any], body: bytes | None) -> None:
        answer = self._asked.pop(message["ask"])
        # A request that is cancelled now may have been answered before.
        if not answer.set_running_or_notify_cancel():
            return
        if "ended" in message:
            answer.set_exception(HandlerFailure(message["ended"]))
        elif "error" in message:
            answer.set_exception(Err(_ERRORS[message["error"]](message["value"])))
        else:
            headers = [(name, value) for name, value in message["headers"]] if "headers" in message else None
            answer.set_result(Response(message["status"], headers, body))


class NativeHandlers:
    """A `Dispatcher` of `capabilities.http`, in another process."""

    def __init__(self, host: NativeHost, module: int) -> None:
        self._host = host
        self._module = module

    def resolve(self, handler: str) -> str | None:
        return handler if self._host.told({"module": self._module, "resolve": handler})["resolved"] else None

    async def handle(self, handler: str, request: Request) -> Response:
        message = {
            "module": self._module,
            "handler": handler,
            "method": request.method.name,
            "uri": request.uri,
            "headers": request.headers,
            "params": request.params,
        }
        return await self._host.ask(message, request.body or b"")

    @asynccontextmanager
    async def serving(self, settings: HttpSettings) -> AsyncIterator[int]:
        """The native machine's HTTP server on a port of 127.0.0.1, with the time limit of `settings`."""
        routes = [["GET", f"/{name}", name] for name in SERVED if self.resolve(name)]
        start = {"module": self._module, "routes": routes, "request_timeout": settings.request_timeout}
        port = (await asyncio.to_thread(self._host.told, start))["port"]
        try:
            yield port
        finally:
            assert await asyncio.to_thread(self._host.told, {"stop": port}) == {"stopped": port}


@contextmanager
def native_host() -> Iterator[NativeHost]:
    """A program that lives as long as the block."""
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen([program("handler_line")], stdin=PIPE, stdout=PIPE) as process,
    ):
        try:
            host = NativeHost(process, Path(folder))
            yield host
            host.close()
        finally:
            process.kill()
