"""Every key/value backend, and the servers that some need: the fixtures `kind` and `subject`."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from capabilities.keyvalue import KEY_LIMIT, VALUE_LIMIT, Backend, azblob, dapr, dynamodb
from capabilities.keyvalue.azblob import AzureBlobBackend
from capabilities.keyvalue.dapr import DaprBackend
from capabilities.keyvalue.dynamodb import DynamoDbBackend
from capabilities.keyvalue.filesystem import FilesystemBackend
from capabilities.keyvalue.memory import MemoryStores, RemoteMemoryStores, serve
from capabilities.keyvalue.redis import RedisBackend
from tests.azurite_server import AzuriteServer
from tests.dapr_server import DaprServer
from tests.moto_server import MotoServer
from tests.native_keyvalue import image_in_memory, image_in_redis, machine_stores, native_stores
from tests.redis_server import RedisServer
from tests.servers import HOST

KEYS = [
    "",
    " ",
    ".",
    "..",
    "...",
    "../../etc/passwd",
    "/",
    "/etc/passwd",
    "a",
    "A",
    "a/b",
    "a//b",
    "a:b",
    ":",
    "a.",
    ".a",
    "a b",
    "*",
    "a*",
    "?",
    "[a]",
    "[^a]",
    "\\",
    "\\*",
    "%",
    "%%",
    "%41",
    "%2F",
    "%2f",
    "~",
    "new\nline",
    "\r\n",
    "nul\0nul",
    "\0",
    "\x7f",
    "caf\u00e9",
    "cafe\u0301",
    "ключ",
    "🦀",
    "\ufeff",
    "x" * 255,
    "x" * 256,
    "x" * 300,
    "é" * 300,
    "k" * KEY_LIMIT,
]
"""Keys that a careless backend would mix up, lose, or put somewhere else."""

NAMES = [
    "",
    "a",
    "A",
    "a:b",
    "a:",
    ":",
    "a%3Ab",
    "a%3A",
    "%",
    "*",
    "[a]",
    "..",
    ".",
    "a/b",
    "../a",
    "\0",
    "🦀",
    "n" * 300,
]


PREPARED = [f"store-{number}" for number in range(5)]
"""Names that every service allows."""


@dataclass(slots=True)
class Subject:
    """A backend, and what it allows."""

    make: Callable[[], Any]
    prepare: Callable[[str], None] = lambda name: None
    """Makes the store of a name, where there must be something of that name first."""
    names: list[str] = field(default_factory=lambda: NAMES)
    keys: list[str] = field(default_factory=lambda: KEYS)
    value_limit: int = VALUE_LIMIT
    many: int = 1_200
    """So many keys need several pages of a listing."""


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@asynccontextmanager
async def remote_memory() -> AsyncIterator[RemoteMemoryStores]:
    parent, worker = socket.socketpair()
    serving = asyncio.create_task(serve(MemoryStores(), parent))
    remote = RemoteMemoryStores(worker)
    yield remote
    await remote.close()
    await serving


@asynccontextmanager
async def closing(backend: Backend) -> AsyncIterator[Backend]:
    yield backend
    await backend.close()


@pytest.fixture(scope="module")
def moto_server() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@pytest.fixture(scope="module")
def azurite_server() -> Iterator[AzuriteServer]:
    with AzuriteServer() as server:
        yield server


@pytest.fixture(scope="module")
def dapr_server() -> Iterator[DaprServer]:
    with DaprServer() as server:
        yield server
        assert server.violations == []


ANY_NAME = ["memory", "remote memory", "filesystem", "redis"]
"""Those where any text is the name of a store."""

SERVICES = ["dynamodb", "azblob", "dapr"]

NATIVE = ["native memory", "native redis"]
"""Those of the native machine, in an ordinary program. Any text is the name of a store there, too."""

MACHINE = ["machine memory", "machine redis"]
"""The same as a guest in a machine sees them."""

_MACHINE_VALUE = 8 << 20
"""How long values are there at most, in bytes: longer ones take a while on an emulated processor."""

_numbers = itertools.count()


@pytest.fixture
def subject(kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
    match kind:
        case "memory":
            return Subject(lambda: closing(MemoryStores()))
        case "remote memory":
            return Subject(remote_memory)
        case "filesystem":
            return Subject(lambda: closing(FilesystemBackend({"DIRECTORY": str(tmp_path / "stores")})))
        case "redis":
            address = emptied(request).address
            return Subject(lambda: closing(RedisBackend({"REDIS_ADDRESS": address})))
        case "native memory":
            return Subject(lambda: native_stores("memory"))
        case "native redis":
            address = emptied(request).address
            return Subject(lambda: native_stores("redis", address))
        case "machine memory":
            return Subject(lambda: machine_stores(image_in_memory()), value_limit=_MACHINE_VALUE)
        case "machine redis":
            address = emptied(request).address.replace(HOST, "host.localhost")
            return Subject(lambda: machine_stores(image_in_redis(), REDIS_ADDRESS=address), value_limit=_MACHINE_VALUE)
    monkeypatch.setattr(dynamodb, "SCAN_ITEMS", 50)
    monkeypatch.setattr(azblob, "LIST_BLOBS", 50)
    monkeypatch.setattr(dapr, "PAGE_KEYS", 50)
    return service(kind, request, f"-{next(_numbers)}")


def emptied(request: pytest.FixtureRequest) -> RedisServer:
    """A Redis without data."""
    server: RedisServer = request.getfixturevalue("redis_server")
    server.cli("FLUSHALL")
    return server


def service(kind: str, request: pytest.FixtureRequest, suffix: str) -> Subject:
    """A backend whose names are chosen by the service. Each test has stores of its own, by the suffix."""
    prepared: set[str] = set()

    def prepare(create: Callable[[str], None]) -> Callable[[str], None]:
        def once(name: str) -> None:
            if name not in prepared and len(name) <= KEY_LIMIT:
                prepared.add(name)
                create(f"{plain(name)}{suffix}")

        return once

    @asynccontextmanager
    async def renamed(backend: Any) -> AsyncIterator[Any]:
        class Renamed:
            async def open(self, name: str) -> Any:
                return await backend.open(f"{plain(name)}{suffix}")

        yield Renamed()
        await backend.close()

    match kind:
        case "dynamodb":
            moto: MotoServer = request.getfixturevalue("moto_server")
            keys = [key for key in KEYS if len(key.encode()) <= dynamodb.KEY_BYTES]
            limit = 300_000  # moto counts an item's bytes as base64, and refuses one of 405,000
            return Subject(
                lambda: renamed(DynamoDbBackend(moto.configs())), prepare(moto.create_table), PREPARED, keys, limit, 120
            )
        case "azblob":
            azurite: AzuriteServer = request.getfixturevalue("azurite_server")
            keys = [key for key in KEYS if len(key) <= azblob.NAME_CHARACTERS]
            return Subject(
                lambda: renamed(AzureBlobBackend(azurite.configs())),
                prepare(azurite.create_container),
                *(PREPARED, keys, VALUE_LIMIT, 120),
            )
    server: DaprServer = request.getfixturevalue("dapr_server")
    # Each byte of what isn't plain takes three.
    keys = [key for key in KEYS if 3 * len(key.encode()) <= dapr.KEY_BYTES]
    return Subject(lambda: renamed(DaprBackend(server.configs())), lambda name: None, PREPARED, keys, dapr.VALUE_BYTES)


def plain(name: str) -> str:
    """The same name where it's one that every service allows."""
    return name if len(name) > KEY_LIMIT else name.replace(" ", "-")


@pytest.fixture(params=[*ANY_NAME, *SERVICES])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)
