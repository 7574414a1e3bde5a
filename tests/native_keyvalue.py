"""The key/value stores of the native machine, as backends for the tests that all backends pass.

The program `keyvalue_line` has them, built as an ordinary one (unikernel/native/examples/keyvalue_line.rs, which
describes what goes over the pipe). A guest that answers the same (tests/guests_src/keyvalue_line.c) has them in a
machine.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from capabilities import keyvalue
from tests.command import COMMAND, build_guest, environment, guest, scratch, slight_py
from tests.native_programs import program
from unikernel.native import BUILD_SECONDS

MACHINE = "400M"
"""The machine's memory: the longest value lies in it several times, on its way."""

_CASES: dict[str, type[keyvalue.StoreError]] = {
    "key-not-found": keyvalue.KeyNotFound,
    "invalid-key": keyvalue.InvalidKey,
    "invalid-value": keyvalue.InvalidValue,
    "connection-error": keyvalue.ConnectionFailed,
    "authentication-error": keyvalue.AuthenticationFailed,
    "timeout-error": keyvalue.TimedOut,
    "unexpected-error": keyvalue.StoreError,
}


@asynccontextmanager
async def native_stores(*arguments: str) -> AsyncIterator[NativeStores]:
    """The stores of `keyvalue_line ARGUMENTS`, which lives as long as the block."""
    process = await asyncio.create_subprocess_exec(program("keyvalue_line"), *arguments, stdin=PIPE, stdout=PIPE)
    stores = NativeStores(process)
    yield stores
    await stores.close()


@asynccontextmanager
async def machine_stores(image: Path, **values: str) -> AsyncIterator[NativeStores]:
    """The stores of a machine that runs `image`, of the guest `keyvalue_line`, for as long as the block."""
    granted = ["--net", *(f"--pass={name}" for name in values)] if values else []
    command = [*COMMAND, "image", "run", "--accel", "tcg", "--memory", MACHINE, *granted, str(image)]
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env=environment(**values))
    stores = NativeStores(process)
    yield stores
    await stores.close()


@functools.cache
def image_in_memory() -> Path:
    """An image of the guest, whose stores are in memory."""
    return _image("memory", 'resource = "keyvalue.memory"\nname = "*"')


@functools.cache
def image_in_redis() -> Path:
    """An image of the guest, whose stores are in the Redis at REDIS_ADDRESS."""
    address = 'REDIS_ADDRESS = "${envvars.REDIS_ADDRESS}"'
    return _image("redis", f'resource = "keyvalue.redis"\nname = "*"\n    [capability.configs]\n    {address}')


def _image(name: str, capability: str) -> Path:
    build_guest("keyvalue_line")
    slightfile, image = scratch() / f"keyvalue-{name}.toml", scratch() / f"keyvalue-{name}.img"
    slightfile.write_text(f'specversion = "0.2"\n\n[[capability]]\n{capability}\n')
    command = ["image", "build", str(guest("keyvalue_line")), "-c", str(slightfile), "--native", "-o", str(image)]
    done = slight_py(*command, seconds=BUILD_SECONDS)
    assert done.code == 0, done.err
    return image


class NativeStores:
    """A `Backend` of `capabilities.keyvalue`, in another process."""

    REQUIRED = OPTIONAL = ()

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        self._process = process
        self._input = process.stdin
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._receiving = asyncio.create_task(self._receive())

    async def open(self, name: str) -> NativeStore:
        await self.ask("open", name)
        return NativeStore(self, name)

    async def close(self) -> None:
        self._input.close()
        await self._receiving
        assert await self._process.wait() == 0

    async def ask(self, operation: str, name: str, key: str = "", value: bytes = b"") -> bytes:
        """What is answered to a request. Raises StoreError."""
        number = next(self._numbers)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        parts = (name.encode(), key.encode(), value)
        self._send(number, operation, *parts)
        try:
            return await answer
        except asyncio.CancelledError:
            self._waiting.pop(number, None)
            self._send(number, "cancel", b"", b"", b"")
            raise

    def _send(self, number: int, operation: str, *parts: bytes) -> None:
        lengths = " ".join(str(len(part)) for part in parts)
        self._input.write(b"".join((f"{number} {operation} {lengths}\n".encode(), *parts)))

    async def _receive(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            number, case, length = line.decode().split()
            data = await self._process.stdout.readexactly(int(length))
            # A request that was given up may have been answered meanwhile.
            answer = self._waiting.pop(int(number), None)
            if answer is None or answer.done():
                continue
            if case == "ok":
                answer.set_result(data)
            else:
                text, _, notice = data.decode().partition("\0")
                answer.set_exception(_CASES[case](text, notice or None))
        for answer in self._waiting.values():
            answer.set_exception(AssertionError("keyvalue_line has ended"))


class NativeStore:
    """A `Store` of `capabilities.keyvalue`."""

    def __init__(self, stores: NativeStores, name: str) -> None:
        self._stores = stores
        self._name = name

    async def get(self, key: str) -> bytes:
        return await self._stores.ask("get", self._name, key)

    async def set(self, key: str, value: bytes) -> None:
        await self._stores.ask("set", self._name, key, value)

    async def keys(self) -> list[str]:
        packed = await self._stores.ask("keys", self._name)
        keys, at = [], 0
        while at < len(packed):
            start = at + 4
            at = start + int.from_bytes(packed[at:start], "little")
            keys.append(packed[start:at].decode())
        return keys

    async def delete(self, key: str) -> None:
        await self._stores.ask("delete", self._name, key)
