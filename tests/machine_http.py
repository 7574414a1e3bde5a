"""The HTTP server of booted native machines, around the same Python functions that the server in Python is tested with.

The machine's guest (tests/guests_src/bridge.c) puts each request into a store, and looks for the answer there; this
process is behind the store (bridge.py). A machine is booted for some settings, and kept for the next test that has
the same.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from bindgen.runtime import Err
from capabilities.bindings.http_types import Request
from capabilities.http import connection
from capabilities.http.access import CLIENT_GONE, AccessRecord
from capabilities.http.settings import HttpSettings
from tests import bridge
from tests.booted import ENDED, Booted, image_of
from tests.command import EMULATED, build_guest, guest
from tests.native_http import Handlers, cors_configs
from tests.servers import HOST, free_port

SERVERS = 60
"""How many servers a machine has, one after the other: the launcher forwards 64 ports of one."""

MACHINES = 3
"""How many machines are kept."""

MEMORY = 400 << 20
"""Bytes of a machine: the longest body lies in it several times, on its way."""

SILENT = 0.2
"""Seconds for which a guest that looks for an answer every few milliseconds hasn't done so once it has ended."""

QEMU_CLIENT = "10.0.2.2"
"""Where all clients are, as machines see them: QEMU's user network doesn't tell their own addresses."""

_log = logging.getLogger("slight_py.http")


@dataclass
class Asked:
    """A request that a handler works at."""

    task: asyncio.Task[None]
    request: Request
    handler: str

    def is_of(self, record: AccessRecord) -> bool:
        path = self.request.uri.partition("?")[0]
        return (self.request.method.name, path, self.handler) == (record.method, record.path, record.handler)


class MachineService:
    """What of `HttpService` the tests of all servers use."""

    def __init__(self, machine: Machine, functions: Handlers, on_access: Callable[[AccessRecord], None] | None) -> None:
        self._machine = machine
        self._functions = functions
        self._on_access = on_access
        self._loop = asyncio.get_running_loop()
        self._asked: dict[bytes, Asked] = {}
        self._giving_up: set[asyncio.Task[None]] = set()
        self._serving = asyncio.Event()
        self._stopping = False
        self._stopped = asyncio.Event()
        self._has_ended = False

    async def start(self, routes: Sequence[tuple[str, str, str]], base: str) -> int:
        """Serves these routes below a base; returns the port."""
        port = free_port()
        lines = [f"{method} {_word(pattern)} {handler}" for method, pattern, handler in routes]
        self._machine.booted.tell(*([f"base {_word(base)}"] if base else []), *lines, f"serve {HOST}:{port}")
        await asyncio.wait_for(self._serving.wait(), EMULATED)
        assert not self._has_ended, ENDED
        return port

    async def stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            self._machine.booted.tell("stop")
        await asyncio.wait_for(self._stopped.wait(), EMULATED)
        assert not self._has_ended, ENDED
        await self._check_guests()
        tasks = [each.task for each in self._asked.values()] + list(self._giving_up)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _check_guests(self) -> None:
        """Raises AssertionError where a guest goes on whose request was under way when its server had stopped."""
        looked = self._machine.store.looked
        last = {key: looked[key] for key in self._asked}
        if last:
            await asyncio.sleep(SILENT)
            assert last == {key: looked[key] for key in last}, "a guest goes on when its server has stopped"

    # What threads call.

    def heard(self, line: str) -> None:
        """The machine has written a line."""
        self._loop.call_soon_threadsafe(self._hear, line)

    def asked(self, key: bytes, content: bytes) -> None:
        """A guest has put a request into its store."""
        self._loop.call_soon_threadsafe(self._begin, key, content)

    # What happens in the test's event loop.

    def _hear(self, line: str) -> None:
        if line == ENDED:
            self._has_ended = True
            self._serving.set()
            self._stopped.set()
        elif line == "bridge: stopped":
            self._stopped.set()
        elif line.startswith("slight-py: serving at "):
            self._serving.set()
        elif line.startswith("slight-py: warning: "):
            _log.warning(line.removeprefix("slight-py: warning: ").replace(QEMU_CLIENT, HOST))
        elif line.startswith("{"):
            self._over(AccessRecord(**json.loads(line.replace(QEMU_CLIENT, HOST))))
        else:
            _log.error(line.removeprefix("slight-py: "))

    def _begin(self, key: bytes, content: bytes) -> None:
        handler, request = bridge.unpack(content)
        task = asyncio.create_task(self._answer(key, handler, request))
        self._asked[key] = Asked(task, request, handler)
        task.add_done_callback(lambda _: self._asked.pop(key))

    async def _answer(self, key: bytes, handler: str, request: Request) -> None:
        try:
            answer = bridge.pack(await self._functions.handle(self._functions.resolve(handler), request))
        except Err as error:
            answer = bridge.pack_error(error.value)
        except Exception:  # whatever a handler fails with
            answer = bridge.pack_trap()
        self._machine.store.answers[key] = answer

    def _over(self, record: AccessRecord) -> None:
        if self._on_access is not None:
            self._on_access(record)
        if record.status in (CLIENT_GONE, 504):
            task = asyncio.create_task(self._give_up(record))
            self._giving_up.add(task)
            task.add_done_callback(self._giving_up.discard)

    async def _give_up(self, record: AccessRecord) -> None:
        """Cancels the handler whose request the server has given up: the guest that asked is gone, and looks for no
        answer any more."""
        looked = self._machine.store.looked
        while keys := [key for key, asked in self._asked.items() if asked.is_of(record)]:
            key = min(keys, key=lambda each: looked[each])
            if time.monotonic() - looked[key] > SILENT:
                self._asked[key].task.cancel()
                return
            await asyncio.sleep(SILENT / 10)


def _word(text: str) -> str:
    """A text as bridge.c takes it."""
    return f"={text.encode().hex()}"


@dataclass(frozen=True)
class Settings:
    """What a machine is booted with."""

    options: tuple[str, ...]
    cors: tuple[tuple[str, str], ...]
    memory: int

    @staticmethod
    def of(settings: HttpSettings) -> Settings:
        assert settings.body_timeout == HttpSettings().body_timeout, (
            "no option of a machine says how long bodies may take"
        )
        options = (
            f"--max-body={settings.max_body}",
            f"--request-timeout={settings.request_timeout}",
            f"--max-concurrent={settings.max_concurrent}",
            f"--drain-timeout={settings.drain_timeout}",
        )
        # Responses that wait for their clients may take an eighth of a machine's memory.
        memory = min(MEMORY, 8 * connection.MAX_UNSENT)
        return Settings(options, tuple(cors_configs(settings.cors).items()), memory)


class Machine:
    """A booted machine. It serves for one test after the other."""

    def __init__(self, settings: Settings) -> None:
        self.service: MachineService | None = None
        """The one that is at work."""
        self.left = SERVERS
        """How many servers it can still have."""
        self.store = bridge.Store(self._asked)
        self.booted = Booted(
            _image(settings.cors),
            *settings.options,
            *(f"--memory={settings.memory}", "--access-log=json", "--net", "--pass=REDIS_ADDRESS"),
            hear=self._heard,
            REDIS_ADDRESS=self.store.address,
        )

    def close(self) -> None:
        code = self.booted.close()
        self.store.close()
        assert code == 0, code

    def _heard(self, line: str) -> None:
        if self.service is not None:
            self.service.heard(line)

    def _asked(self, key: bytes, content: bytes) -> None:
        if self.service is not None:
            self.service.asked(key, content)


@cache
def _image(cors: tuple[tuple[str, str], ...]) -> Path:
    build_guest("bridge")
    http = '[[capability]]\nresource = "http"\nname = "http"\n'
    if cors:
        http += "[capability.configs]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in cors)
    stores = '[[capability]]\nresource = "keyvalue.redis"\nname = "*"\n'
    return image_of(
        guest("bridge"), http + stores + '[capability.configs]\nREDIS_ADDRESS = "${envvars.REDIS_ADDRESS}"\n'
    )


@dataclass
class Machines:
    """Those that were booted, the one that was used last at the end."""

    kept: dict[Settings, Machine] = field(default_factory=dict)

    def get(self, settings: Settings) -> Machine:
        machine = self.kept.pop(settings, None)
        if machine is not None and not machine.left:
            machine.close()
            machine = None
        if len(self.kept) == MACHINES:
            self.kept.pop(next(iter(self.kept))).close()
        machine = machine or Machine(settings)
        self.kept[settings] = machine
        machine.left -= 1
        return machine

    def lose(self, machine: Machine) -> None:
        """Ends one that does nothing any more."""
        self.kept = {settings: kept for settings, kept in self.kept.items() if kept is not machine}
        machine.booted.kill()

    def close(self) -> None:
        """Ends them. Raises AssertionError where one fails."""
        while self.kept:
            self.kept.popitem()[1].close()


machines = Machines()


@asynccontextmanager
async def machine_service(
    functions: Handlers,
    routes: Sequence[tuple[str, str, str]],
    settings: HttpSettings,
    on_access: Callable[[AccessRecord], None] | None,
    base: str,
) -> AsyncIterator[tuple[MachineService, int]]:
    """A server at work for these routes below a base, and its port."""
    machine = await asyncio.to_thread(machines.get, Settings.of(settings))
    service = machine.service = MachineService(machine, functions, on_access)
    try:
        port = await service.start(routes, base)
        try:
            yield service, port
        finally:
            await service.stop()
    except TimeoutError:
        machines.lose(machine)
        raise
    finally:
        machine.service = None
