"""What bench.profile runs in a tree of the project, this one or an earlier one, whose modules it imports.

    PYTHONPATH=TREE python -P bench/hot_path.py serve GUEST PORT OUTPUT
    PYTHONPATH=TREE python -P bench/hot_path.py loop GUEST OUTPUT
    PYTHONPATH=TREE python -P bench/hot_path.py constant PORT

`serve` serves /hello until SIGTERM, and notes when each step of each request ends. `loop` answers hellos one after the
other without HTTP. Both write what each step takes to OUTPUT, as JSON. `constant` serves /hello without a guest: what
HTTP alone takes.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import resource
import signal
import statistics
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

from aiohttp.test_utils import make_mocked_request

from bindgen.runtime import Lower
from capabilities.bindings import http_handler
from capabilities.bindings.http_types import Method, Request, Response
from capabilities.http import connection
from capabilities.http.listen import bind
from capabilities.http.message import guest_headers
from capabilities.http.routes import RouteTable
from capabilities.http.server import HttpService
from capabilities.keyvalue.memory import MemoryStores
from slight_py import linker, loop, modules, slightfile, wasi
from slight_py.engine import REALLOC, Engine, ExportedFunction, Instance, Limits, describe
from slight_py.handlers import Handlers
from slight_py.runner import Loaded

WARM_UP, CALLS = 2000, 20_000

PAGES = 1000

STEPS = (
    "routing, and the guest's request",
    "instance: what WASI gives it",
    "instance: its store",
    "instance: instantiation",
    "lowering: planning",
    "lowering: the guest allocates",
    "lowering: placing",
    "the call",
    "lifting",
    "the instance's end",
    "the head of the answer",
)

_stamps: list[float] = []

_clock: Callable[[], float] = perf_counter


def _stamp() -> None:
    _stamps.append(_clock())


def _page_faults() -> float:
    """How many this process has had that needed no disk."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


class Constant:
    """A dispatcher that answers what the guest would."""

    def resolve(self, handler: str) -> str:
        return handler

    async def handle(self, handler: str, request: Request) -> Response:
        return Response(200, request.headers, b"hello")


class Stores(MemoryStores):
    """In earlier trees the linker takes stores, and later a function that gives them: this is both."""

    __slots__ = ()

    def __call__(self) -> Stores:
        return self


class Stamped(Instance):
    """An instance that notes when its steps end."""

    __slots__ = ()

    async def allocate(self, lower: Lower) -> None:
        _stamp()
        realloc = getattr(self._program, "realloc", None) or self._own_function(REALLOC, REALLOC)
        calls = [(0, 0, align, size) for size, align, _ in lower.blocks]
        begin: Any = getattr(self, "_begin", None)  # in earlier trees, a coroutine does all of it
        pointers = begin(realloc, calls, True) if begin else await self._call(realloc, calls, True)
        if isinstance(pointers, int):
            pointers = await self._finish(realloc, pointers)
        _stamp()
        lower.place(pointers)
        _stamp()

    async def call(self, export: Any, args: Any) -> Any:
        result = await super().call(export, args)
        _stamp()
        return result


class Stamping:
    """A dispatcher that runs the guest as `Handlers.handle` does."""

    def __init__(self, guest: Path) -> None:
        engine = Engine(Limits())
        module = modules.load(engine, guest)
        loaded = Loaded(describe(module), slightfile.embedded(), engine, module)
        stores: Any = Stores()
        directories = (wasi.Directory(Path(), "."),)
        settings = wasi.WasiSettings((guest.name,), {"ADDRESS": "127.0.0.1:3000"}, directories)
        handlers = Handlers(loaded.program(linker.Backends(stores), None), settings)
        self.resolve = handlers.resolve
        self._program, self._template = handlers._program, handlers._wasi

    async def handle(self, handler: ExportedFunction, request: Request) -> Response:
        _stamp()
        # In earlier trees, each instance has a configuration of its own, and may run in a thread.
        earlier = hasattr(self._template, "make")
        given = self._template.make() if earlier else self._template
        _stamp()
        instance = Stamped(self._program, False, False, given) if earlier else Stamped(self._program, False, given)
        _stamp()
        if not hasattr(instance, "start"):  # an earlier tree's
            await instance._start()
        elif state := instance.start():
            await instance.finish_start(state)
        _stamp()
        response = await http_handler.handle_http(instance, handler, request)
        _stamp()
        instance.close()
        _stamp()
        return response


class Service(HttpService):
    """The server, which notes the steps of each request that was answered without a wait, as nearly all are."""

    def __init__(self, dispatcher: Stamping) -> None:
        super().__init__(dispatcher)
        self.rounds: list[list[float]] = []

    def _route(self, request: Any) -> Any:
        _stamps.clear()
        _stamp()
        return super()._route(request)

    def _encode(self, *args: Any) -> Any:
        encoded = super()._encode(*args)
        _stamp()
        if len(_stamps) == len(STEPS) + 1:
            self.rounds.append([after - before for before, after in pairwise(_stamps)])
        return encoded


TABLE = RouteTable().add("GET", "/hello", "handle_hello").add("GET", "/person/:name", "handle_hello")


async def constant(port: int) -> None:
    service = HttpService(Constant())
    await service.start(bind(f"127.0.0.1:{port}"), TABLE)
    await asyncio.Event().wait()


async def serve(guest: Path, port: int) -> dict[str, Any]:
    """Microseconds of each step: medians of the requests until SIGTERM."""
    service = Service(Stamping(guest))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await service.start(bind(f"127.0.0.1:{port}"), TABLE)
    await stop.wait()
    await service.stop()
    return by_step(service.rounds[WARM_UP:], statistics.median, 1e6)


def page_fault() -> float:
    """Microseconds for the first write to a page of fresh memory, at best."""
    best = 1e9
    for _ in range(20):
        with mmap.mmap(-1, PAGES * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as fresh:
            fresh.madvise(mmap.MADV_NOHUGEPAGE)
            began = perf_counter()
            for at in range(0, len(fresh), mmap.PAGESIZE):
                fresh[at] = 1
            best = min(best, perf_counter() - began)
    return best / PAGES * 1e6


async def run_loop(guest: Path) -> dict[str, Any]:
    """Microseconds of each step, median and least, its page faults, and what a page fault takes."""
    global _clock
    dispatcher = Stamping(guest)
    service = Service(dispatcher)
    await service.start(bind("127.0.0.1:0"), TABLE)
    handler = dispatcher.resolve("handle_hello")
    assert handler is not None
    request = make_mocked_request("GET", "/hello", headers={"Host": "127.0.0.1:3000"})
    # The server had aiohttp's request in earlier trees, and now has what aiohttp parsed.
    head = request._message if hasattr(connection, "Incoming") else request

    async def hello() -> None:
        match = service._route(head)
        message = Request(Method.GET, request.raw_path, guest_headers(request.raw_headers), list(match.params), b"")
        response = await dispatcher.handle(handler, message)
        service._encode(head, response, match.handler, True)

    async def hellos(count: int) -> list[list[float]]:
        service.rounds = []
        for _ in range(count):
            await hello()
        return service.rounds

    await hellos(WARM_UP)
    found = await hellos(CALLS)
    _clock = _page_faults
    faults = await hellos(WARM_UP)
    await service.stop()
    return {
        "fault": page_fault(),
        "median": by_step(found, statistics.median, 1e6),
        "least": by_step(found, min, 1e6),
        "faults": by_step(faults, statistics.median, 1),
    }


def by_step(rounds: list[list[float]], what: Callable[[Sequence[float]], float], unit: float) -> dict[str, float]:
    return {name: what(each) * unit for name, each in zip(STEPS, zip(*rounds, strict=True), strict=True)}


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", guest, port, output]:
            Path(output).write_text(json.dumps(loop.run(serve(Path(guest), int(port)))))
        case ["loop", guest, output]:
            Path(output).write_text(json.dumps(loop.run(run_loop(Path(guest)))))
        case ["constant", port]:
            loop.run(constant(int(port)))
