"""Runs the scripts of a case: each in an instance of its own, those that answer requests behind a real server with a
real client, all of them at the same time. What must hold meanwhile and afterwards is checked here."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import re
import sys
import time
import traceback
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import wasmtime

from bindgen.runtime import Err, GuestFault
from capabilities.http.dispatch import BodyError, Exchange, HandlerFailure, WrongLength
from capabilities.http.listen import bind
from capabilities.http.message import BadResponse
from capabilities.http.settings import HttpSettings
from capabilities.http.streaming import StreamingService
from capabilities.http_client import HttpClientError
from capabilities.keyvalue.memory import MemoryStores
from slight_py import linker, slightfile, wasi
from slight_py.component import binary, link
from slight_py.component.instance import ComponentInstance, Lifted
from slight_py.component.program import Component, ComponentProgram
from slight_py.component.serving import AsyncHandler, Handler, IncomingHandler
from slight_py.component.streams import Dropped
from slight_py.engine import Engine, Exit, InvalidModule, Limits, Trap
from slight_py.runner import RunConfig
from slight_py.wasi import Directory, WasiSettings
from slight_py.wasi.preview2 import state_of
from tests.fuzz.scripts import PORT, Case, Script
from tests.fuzz.worlds import World, named

LIMITS = Limits(memory=8 << 20, instances=128)

SECONDS = 0.2
"""How long a script may run."""

LATE = 8.0
"""Seconds after which whatever was to end by then is late: a machine with other things to do takes its time."""

SECRET = b"nobody but the host knows this"

KEPT = 64
"""File descriptors that may be more than after the first case: connections that the client of HTTP keeps for a while.
What is left by each case comes to more soon."""

EXPECTED = (
    Trap, GuestFault, Exit, Err, InvalidModule, HandlerFailure, TimeoutError, WrongLength, ConnectionError, BadResponse,
    HttpClientError, Dropped, BodyError, asyncio.CancelledError,
)  # fmt: skip
"""What a guest or a client can have raised."""

HEAD = re.compile(rb"HTTP/1\.1 [1-9][0-9]{2} [^\r\n\0]*\r\n([!#-'*+.^-z|~0-9A-Z-]+:[^\r\n\0]*\r\n)*\r\n")
"""The head of a response."""


class Found(Exception):
    """What was found, and how it shows."""

    def __init__(self, what: str, detail: str) -> None:
        super().__init__(what, detail)
        self.what, self.detail = what, detail


class Stage:
    """One world, ready to make instances."""

    def __init__(self, world: World, wasi_settings: WasiSettings) -> None:
        self.world = world
        self.engine = Engine(LIMITS)
        wasm = bytes(wasmtime.wat2wasm(world.text))
        component = Component.of(binary.read(wasm), wasm)
        granted = slightfile.embedded()
        problems, _ = link.examine(component, granted)
        assert not problems, problems
        modules = self.engine.compile_together(component.modules(), component.shape)
        stores = MemoryStores()
        provide = link.provide(component, granted, linker.Backends(lambda: stores))
        self.program = ComponentProgram(self.engine, component, modules, provide)
        self.granted = granted
        self.settings = wasi_settings
        self.context = wasi.Context(wasi_settings)
        release = world.name[:3].replace(".", "_")
        self._runs = importlib.import_module(f"capabilities.bindings.wasi_cli_{release}.run")
        handler = "wasi:http/incoming-handler@0.2.12" if release == "0_2" else "wasi:http/handler@0.3.0"
        version = "0.2.12" if release == "0_2" else "0.3.0"
        self._handle = self._function(handler, "handle")
        self._run = self._function(f"wasi:cli/run@{version}", "run")
        self._base = IncomingHandler if release == "0_2" else AsyncHandler

    def _function(self, interface: str, name: str) -> Lifted:
        found = self.program.function(interface, name)
        assert isinstance(found, Lifted)
        return found

    def dispatcher(self, play: Play) -> Handler:
        """What answers the requests of a case."""

        class Scripted(self._base):
            async def handle(self, exchange: Exchange) -> None:
                _exchange.set(exchange)
                try:
                    await super().handle(exchange)
                except Exception as error:
                    play.check_error(error)
                    raise

        config = RunConfig(Path("app.wasm"), self.granted, self.settings, LIMITS, HttpSettings())
        found: Handler = Scripted(Prepared(self.program, play), self._handle, config)
        return found

    async def run(self, play: Play, script: Script) -> None:
        """Runs a script as a program, as `slight-py run` does."""
        instance = await self.program.instantiate(self.context)
        assert isinstance(instance, ComponentInstance)
        try:
            play.prepare(instance, script)
            try:
                await self._runs.run(instance.guest(self._run), self._run)
                printing = set(state_of(instance).unfinished)
            finally:
                play.check_memory(instance)
        finally:
            instance.close()
        if printing:
            await asyncio.wait(printing)


_exchange: ContextVar[Exchange] = ContextVar("_exchange")
"""The request that is answered."""


class Prepared:
    """A program whose instances have the script of the request that they are made for."""

    def __init__(self, program: ComponentProgram, play: Play) -> None:
        self._program = program
        self._play = play

    async def instantiate(self, context: wasi.Context) -> Watched:
        instance = await self._program.instantiate(context)
        self._play.prepare(instance, self._play.script_of(_exchange.get()))
        return Watched(instance, self._play)


class Watched:
    """An instance whose memory is looked at before it's closed."""

    def __init__(self, instance: ComponentInstance, play: Play) -> None:
        self._instance = instance
        self._play = play

    def __getattr__(self, name: str) -> Any:
        return getattr(self._instance, name)

    def close(self) -> None:
        try:
            self._play.check_memory(self._instance)
        finally:
            self._instance.close()


class Play:
    """One case at work."""

    def __init__(self, stage: Stage, case: Case) -> None:
        self._stage = stage
        self._case = case
        self._port = 0
        """Where a handler has SECONDS."""
        self._patient_port = 0
        """Where it may take longer: who is honest is only slow because others are not."""
        self.calls = 0
        self._found: Found | None = None

    def prepare(self, instance: ComponentInstance, script: Script) -> None:
        """Puts a script into the memory of a fresh instance."""
        self.calls += 1
        memory = instance.memory
        for at, content in script.image:
            memory[at : at + len(content)] = self._with_port(content)

    def _with_port(self, content: bytes) -> bytes:
        port = str(self._port)
        for encoding in ("utf-8", "utf-16-le"):
            content = content.replace(PORT.encode(encoding), port.rjust(len(PORT), "0").encode(encoding))
        return content

    def check_memory(self, instance: ComponentInstance) -> None:
        """Finds what a guest must not be able to read."""
        if SECRET in bytes(instance.memory[: 1 << 18]):
            self._found = Found("escape", "a file outside of the granted directory was read")

    def check_error(self, error: BaseException) -> None:
        """Finds what no guest must be able to cause, also where the server or the engine has made something else of
        it."""
        cause: BaseException | None = error
        while cause is not None:
            if not isinstance(cause, EXPECTED):
                self._found = Found("exception", "".join(traceback.format_exception(error)))
            cause = cause.__cause__

    def script_of(self, exchange: Exchange) -> Script:
        number = next((int(value) for name, value in exchange.headers if name.lower() == b"script"), None)
        if number is None:  # one that a component has sent itself
            return Script("handle")
        return self._case.scripts[number]

    async def go(self) -> None:
        """Runs all of it. Raises Found."""
        loop = asyncio.get_running_loop()
        began = time.monotonic()
        hasty, patient = [await self._serve(seconds) for seconds in (SECONDS, LATE)]
        self._port, self._patient_port = hasty[1], patient[1]
        try:
            await asyncio.gather(*(self._one(number, each) for number, each in enumerate(self._case.scripts)))
        finally:
            await asyncio.gather(hasty[0].stop(), patient[0].stop())
        if (took := time.monotonic() - began) > LATE + 4:
            raise Found("late", f"the case took {took:.1f} s")
        await self._end(loop)
        if self._found is not None:
            raise self._found

    async def _serve(self, seconds: float) -> tuple[StreamingService, int]:
        """A server whose handlers may take so long, and its port."""
        settings = HttpSettings(request_timeout=seconds, body_timeout=seconds, drain_timeout=0.2, max_concurrent=120)
        service = StreamingService(self._stage.dispatcher(self), settings)
        sockets = bind("127.0.0.1:0")
        port: int = sockets[0].getsockname()[1]
        await service.start(sockets)
        return service, port

    async def _one(self, number: int, script: Script) -> None:
        if script.entry == "handle":
            await self._client(number, script)
            return
        began = time.monotonic()
        try:
            async with asyncio.timeout(SECONDS):
                await self._stage.run(self, script)
        except Exception as error:
            self.check_error(error)
        if (took := time.monotonic() - began) > SECONDS + LATE:
            raise Found("late", f"script {number} with {SECONDS} s took {took:.1f} s")

    async def _client(self, number: int, script: Script) -> None:
        port = self._patient_port if script.honest else self._port
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        answer = b""
        try:
            request = script.request
            head = f"{request['head']}Script: {number}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode("latin-1") + request["body"].encode())
            if request["end"] == "leave":
                await asyncio.sleep(0.01)
                return
            if request["end"] == "half":
                writer.write_eof()
            async with asyncio.timeout(LATE):
                while len(answer) < 4 << 20 and (piece := await reader.read(1 << 16)):
                    answer += piece
        except ConnectionError:
            pass
        except TimeoutError:
            raise Found("no-end", f"the answer to script {number} doesn't end: {answer[:300]!r}") from None
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
        self._check_answer(number, script, answer)

    def _check_answer(self, number: int, script: Script, answer: bytes) -> None:
        head = HEAD.match(answer)
        if answer and head is None:
            raise Found("bad-head", f"the answer to script {number} has a head that is none: {answer[:1000]!r}")
        if head is not None and b"\r\nx-injected" in head[0].lower():
            raise Found("injected", f"the answer to script {number} has a field that was in another's value")
        if script.honest and not (answer.startswith(b"HTTP/1.1 200 ") and b"hello" in answer):
            raise Found("no-answer", f"script {number}, which is honest, is answered with {answer[:1000]!r}")

    async def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        """Checks that nothing is left."""
        this = asyncio.current_task()
        deadline = loop.time() + LATE
        while True:
            left = [each for each in asyncio.all_tasks() if each is not this]
            if not left and not self._stage.engine.instances:
                break
            if loop.time() > deadline:
                told = "\n".join(map(_waiting, left))
                raise Found("leak", f"{self._stage.engine.instances} instances and {len(left)} tasks are left:\n{told}")
            await asyncio.sleep(0.01)


def _waiting(task: asyncio.Task[Any]) -> str:
    """A task, and where in each of its coroutines it waits."""
    places = []
    at: Any = task.get_coro()
    while getattr(at, "cr_frame", None) is not None:
        places.append(f"{at.cr_code.co_filename}:{at.cr_frame.f_lineno} {at.cr_code.co_qualname}")
        at = at.cr_await
    return "\n  ".join((repr(task), *places))


class Player:
    """Runs cases, and keeps the worlds that they have used."""

    def __init__(self, directory: Path) -> None:
        self._stages: dict[str, Stage] = {}
        self._outside = directory / "outside"
        self._inside = self._outside / "data"
        self._inside.mkdir(parents=True)
        (self._outside / "secret").write_bytes(SECRET)
        self._make_inside()
        self._settings = WasiSettings(("app", "one"), {"NAME": "value"}, (Directory(self._inside, "."),))
        self._known = self._entries()
        self._files: int | None = None
        # One loop for all cases: what stands behind capabilities belongs to one.
        self._runner = asyncio.Runner()
        _log_exceptions()

    def _make_inside(self) -> None:
        (self._inside / "directory").mkdir(exist_ok=True)
        # A script may have put a link in its place, which must not be written through here.
        (self._inside / "file").unlink(missing_ok=True)
        (self._inside / "file").write_bytes(b"content of a file" * 100)
        with suppress(FileExistsError):
            (self._inside / "link").symlink_to("../secret")
        with suppress(FileExistsError):
            (self._inside / "inside").symlink_to("file")
        with suppress(FileExistsError):
            (self._inside / "directory" / "up").symlink_to(self._outside)

    def _entries(self) -> list[str]:
        return sorted(each.name for each in self._outside.iterdir())

    def play(self, case: Case) -> int:
        """Runs a case; returns how many scripts were run. Raises Found."""
        with suppress(OSError):
            self._make_inside()
        stage = self._stages.get(case.world)
        if stage is None:
            stage = self._stages[case.world] = Stage(named(case.world), self._settings)
            self._files = None
            gc.collect()
            gc.freeze()  # a world has many objects, which all stay
        play = Play(stage, case)
        self._runner.run(play.go())
        gc.collect()  # says what nobody has awaited
        self._check(stage)
        return play.calls

    def _check(self, stage: Stage) -> None:
        if self._entries() != self._known or (self._outside / "secret").read_bytes() != SECRET:
            raise Found("escape", f"something was written outside of the granted directory: {self._entries()}")
        for each in self._inside.iterdir():
            if not each.is_symlink() and each.is_file() and each.stat().st_size > 1 << 20:
                each.unlink()
        count = len(os.listdir("/proc/self/fd"))
        if self._files is None:
            self._files = count
        if count > self._files + KEPT:
            opened = [os.readlink(f"/proc/self/fd/{each}") for each in os.listdir("/proc/self/fd")[-20:] if _open(each)]
            raise Found("descriptors", f"{count - self._files} file descriptors are left: {opened}")


def _open(number: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{number}")


def _log_exceptions() -> None:
    """Has exceptions that are logged stand on standard error, where the harness looks for them."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(lambda record: bool(record.exc_info) or record.name == "asyncio")
    logging.getLogger().addHandler(handler)
