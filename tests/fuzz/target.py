"""The process in which cases are run: `python -m tests.fuzz.target DIRECTORY`.

It is told a case in a line of JSON on standard input, `{"kind": ..., "seed": ..., "number": ...}` or `{"kind": ...,
"file": ...}`, writes the case's bytes to the file `input` in its directory before anything is done with them, and
answers with a line of JSON: what was found, if anything, and what was done. If it dies, hangs or takes all memory, that
is a finding of the harness's, which watches it from outside.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bindgen.runtime import Err
from capabilities.bindings.http_types import Method, Request
from capabilities.http.dispatch import HandlerFailure
from capabilities.http.settings import HttpSettings
from capabilities.keyvalue.memory import MemoryStores
from slight_py import compilation, inspection, linker, runner, slightfile
from slight_py.engine import Engine, InvalidModule, Limits, Program, describe
from slight_py.errors import UsageError
from slight_py.handlers import Handlers
from slight_py.runner import Loaded, RunConfig
from slight_py.wasi import Directory, WasiSettings
from tests import wat
from tests.fuzz import guests, modules, requests
from tests.fuzz.serving import Server

if TYPE_CHECKING:
    from tests.fuzz.playing import Player

KINDS = ("module", "guest", "requests", "component", "script")

FILE_SIZE = 16 << 20
"""Bytes of the largest file that a case may write."""

DATA = 3 << 30
"""Bytes that a case may have at all (RLIMIT_DATA: reservations, which a guest's memory is, don't count)."""

RUN = 0.15
"""Seconds that a program may run before it is interrupted, as with Ctrl-C."""

HANDLE = 0.3
"""Seconds that a handler may take."""

APART = 20
"""Every so many cases, modules are compiled in a process of their own."""

LIMITS = Limits(memory=32 << 20, instances=20)


@dataclass
class Answer:
    """How a case ended."""

    finding: str | None = None
    """What was wrong, in a word."""
    detail: str = ""
    modules: int = 0
    calls: int = 0
    requests: int = 0
    last: bool = False
    """Whether the process is good for no more cases."""


class Finding(Exception):
    """What was found, and how it shows."""

    def __init__(self, what: str, detail: str) -> None:
        super().__init__(what)
        self.what, self.detail = what, detail


class Target:
    """Runs cases of all kinds."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # In a process of its own, as users have it, a case takes a tenth of a second more: some are compiled so.
        self._apart = compilation.compile_apart
        self._seeds = modules.seeds()
        self._server: Server | None = None
        self._player: Player | None = None
        self._errors = directory / "stderr"
        (directory / "data").mkdir(exist_ok=True)

    def run(self, case: dict[str, Any]) -> Answer:
        """Runs a case. Raises nothing."""
        answer = Answer()
        started = self._errors.stat().st_size
        try:
            apart = case.get("number", 0) % APART == 0
            compilation.compile_apart = self._apart if apart else lambda made, wasm, _: made.compile(wasm)
            content = self._content(case)
            (self._directory / "input").write_bytes(content)
            check: Callable[[bytes, Answer, random.Random], None] = getattr(self, f"_{case['kind']}")
            check(content, answer, rng_of(case))
        except Finding as found:
            answer.finding, answer.detail = found.what, found.detail
        except BaseException:
            answer.finding, answer.detail = "exception", traceback.format_exc()
        written = self._errors.read_bytes()[started:]
        if answer.finding is None and b"Traceback" in written:
            answer.finding, answer.detail = "traceback", written.decode(errors="replace")
        return answer

    def _content(self, case: dict[str, Any]) -> bytes:
        """The bytes of a case: the same ones for a seed and a number, whatever ran before."""
        if "file" in case:
            return Path(case["file"]).read_bytes()
        rng = rng_of(case)
        match case["kind"]:
            case "module":
                return modules.make(rng, self._seeds)
            case "guest":
                return wat.binary(guests.make(rng))
            case "component":
                from tests.fuzz import components  # as few as can be are imported before the first case

                return components.make(rng)
            case "script":
                from tests.fuzz import scripts

                return scripts.to_bytes(scripts.make(rng))
            case _:
                return requests.to_bytes(requests.make(rng))

    # Modules: what inspect, image build and run do with one.

    def _module(self, wasm: bytes, answer: Answer, rng: random.Random) -> None:
        from unikernel import application

        path = self._directory / "app.wasm"
        path.write_bytes(wasm)
        answer.modules = 1
        try:
            report = inspection.inspect(path)
            inspection.as_text(report).encode()
            inspection.as_json(report)
        except UsageError as error:
            _check_lines(error)
            _refused(lambda: application.load(path, None))
            return
        _refused(lambda: application.load(path, None))
        self._program(path, answer)

    def _program(self, path: Path, answer: Answer) -> None:
        """Runs a module's entry point as the command does, and interrupts it."""
        wasi = WasiSettings(("app", "one"), {"NAME": "value"}, (Directory(self._directory / "data", "."),))
        http = HttpSettings(max_concurrent=4, drain_timeout=0.2)
        config = RunConfig(path, slightfile.embedded(), wasi, LIMITS, http, cache=False, listen="127.0.0.1:0")

        async def limited(loaded: Any) -> None:
            asyncio.get_running_loop().call_later(RUN, os.kill, os.getpid(), signal.SIGINT)
            await runner.run(config, loaded)

        def run() -> None:
            asyncio.run(limited(runner.load(config)))

        _refused(run)
        answer.calls += 1

    # Guests that lie.

    def _guest(self, wasm: bytes, answer: Answer, rng: random.Random) -> None:
        path = self._directory / "app.wasm"
        path.write_bytes(wasm)
        answer.modules = 1
        found = Engine(LIMITS)
        try:
            module = found.compile(wasm)
            loaded = Loaded(describe(module), slightfile.embedded(), found, module)
            stores = MemoryStores()
            wasi = WasiSettings((), {}, (Directory(self._directory / "data", "."),))
            handlers = Handlers(loaded.program(linker.Backends(lambda: stores), None), wasi)
        except (InvalidModule, UsageError) as error:
            raise Finding("generator", f"the module is not one: {error}") from error
        asyncio.run(self._beside_an_honest_one(found, handlers, rng, answer))
        self._program(path, answer)

    async def _beside_an_honest_one(
        self, found: Engine, handlers: Handlers, rng: random.Random, answer: Answer
    ) -> None:
        honest = await Program(found, found.compile(wat.module(_FILLED)), {}).instantiate()
        try:
            before = bytes(honest.memory)
            function = handlers.resolve("handle-lie")
            assert function is not None
            for _ in range(3):
                answer.calls += 1
                began = time.monotonic()
                try:
                    async with asyncio.timeout(HANDLE):
                        await handlers.handle(function, _request(rng))
                except (HandlerFailure, Err, TimeoutError):
                    pass
                if (took := time.monotonic() - began) > HANDLE + 5:
                    raise Finding("late", f"a handler with {HANDLE} s took {took:.1f} s")
            if bytes(honest.memory) != before:
                raise Finding("memory", "the memory of another instance has changed")
        finally:
            honest.close()
        if found.instances:
            raise Finding("leak", f"{found.instances} instances are left")

    # Components: what is done with modules is done with them.

    def _component(self, wasm: bytes, answer: Answer, rng: random.Random) -> None:
        self._module(wasm, answer, rng)

    # Scripts for components.

    def _script(self, content: bytes, answer: Answer, rng: random.Random) -> None:
        from tests.fuzz import playing, scripts

        if self._player is None:
            self._player = playing.Player(self._directory)
        try:
            answer.calls += self._player.play(scripts.from_bytes(content))
        except playing.Found as found:
            raise Finding(found.what, found.detail) from found

    # Requests.

    def _requests(self, content: bytes, answer: Answer, rng: random.Random) -> None:
        if self._server is None:
            self._server = Server(self._directory)
        conversations = requests.from_bytes(content)
        answer.requests = len(conversations)
        try:
            found = asyncio.run(self._server.talk(conversations))
        finally:
            answer.last = not self._server.alive
        if found is not None:
            answer.last = True
            raise Finding(*found)


_FILLED = '(data (i32.const 4096) "' + "honest" * 600 + '")'


def rng_of(case: dict[str, Any]) -> random.Random:
    return random.Random(f"{case.get('kind')} {case.get('seed')} {case.get('number')}")


def _refused(act: Callable[[], object]) -> None:
    """Does it, or has it refused in words."""
    try:
        act()
    except UsageError as error:
        _check_lines(error)


def _check_lines(error: UsageError) -> None:
    if not error.lines or not all(error.lines):
        raise Finding("no-reason", "a module is refused without a reason")


def _request(rng: random.Random) -> Request:
    return Request(
        rng.choice(list(Method)),
        "/" + "a" * rng.choice((0, 1, 5000)),
        [("host", "localhost")] * rng.choice((0, 1, 100)),
        [("b", "c")] * rng.choice((0, 1)),
        rng.choice((None, b"", b"x" * 10, b"y" * 100_000)),
    )


def main(target: Any, directory: Path) -> None:
    """Answers cases until standard input ends. Standard output and error belong to the guests and to the log."""
    answers = os.fdopen(os.dup(1), "w")
    questions = os.fdopen(os.dup(0), "r")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_SIZE, FILE_SIZE))
    resource.setrlimit(resource.RLIMIT_DATA, (DATA, DATA))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in questions:
        answer = target.run(json.loads(line))
        answers.write(json.dumps(asdict(answer)) + "\n")
        answers.flush()
        if answer.last:
            break
    # Not sys.exit, which waits for threads: one that reads or writes for a guest may take for ever.
    os._exit(0)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    main(Target(place), place)
