"""WASI 0.2 as a guest has it, called from Python, and each call's outcome by its name in the WIT."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Awaitable, Collection, Coroutine, Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from bindgen.runtime import Err
from capabilities.bindings.wasi_filesystem_0_2.types import DescriptorFlags, OpenFlags, PathFlags
from capabilities.bindings.wasi_io_0_2.streams import StreamErrorClosed, StreamErrorLastOperationFailed
from slight_py.sessions import Sessions
from slight_py.wasi import Context, Directory, WasiSettings
from slight_py.wasi.preview2 import state_of
from slight_py.wasi.preview2.filesystem import Descriptor, Preopens

T = TypeVar("T")

READ, WRITE = DescriptorFlags.READ, DescriptorFlags.WRITE
NO_FLAGS = DescriptorFlags(0)
FOLLOW, NO_FOLLOW = PathFlags.SYMLINK_FOLLOW, PathFlags(0)
OPEN = OpenFlags(0)


class Guest:
    """An instance, as far as WASI asks anything of it."""

    def __init__(self, settings: WasiSettings | None = None, stdin: bool = False) -> None:
        self.wasi = Context(settings or WasiSettings(), stdin)
        self.files: Any = None
        self.started = 0
        self.sessions = Sessions()

    def close(self) -> None:
        if self.files is not None:
            self.files.close()

    async def directory(self) -> Descriptor:
        """The first directory that is granted."""
        return (await Preopens(state_of(self)).get_directories())[0][0]


def granted(*directories: Path, writable: bool = True) -> WasiSettings:
    names = [".", *(each.name for each in directories[1:])]
    return WasiSettings(
        directories=[Directory(each, name, writable) for each, name in zip(directories, names, strict=True)]
    )


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, 60))


async def outcome(call: Awaitable[Any]) -> Any:
    """What a call returns, or the name of its error: that of the WIT's case."""
    try:
        return await call
    except Err as error:
        value = error.value
    if isinstance(value, StreamErrorClosed):
        return "closed"
    if isinstance(value, StreamErrorLastOperationFailed):
        return f"failed: {await value.value.to_debug_string()}"
    return label(value)


def label(value: Any) -> str:
    """`no-entry` for a case of an enum, or of a variant without values."""
    if isinstance(value, Enum):
        return value.name.lower().replace("_", "-")
    raise AssertionError(value)


async def opened(
    directory: Descriptor, path: str, flags: DescriptorFlags = READ, how: OpenFlags = OPEN, follow: PathFlags = FOLLOW
) -> Any:
    """The descriptor, or the name of the error."""
    return await outcome(directory.open_at(follow, path, how, flags))


async def entries(directory: Descriptor) -> list[tuple[str, str]]:
    """Name and type of all that is in a directory, sorted."""
    stream = await directory.read_directory()
    found = []
    while (entry := await stream.read_directory_entry()) is not None:
        found.append((entry.name, label(entry.type)))
    stream.on_drop()
    return sorted(found)


async def contents(stream: Any, sizes: Sequence[int] = (1 << 16,)) -> bytes:
    """All that a stream has, read in turns of these sizes."""
    found, turn = b"", 0
    while (piece := await outcome(stream.blocking_read(sizes[turn % len(sizes)]))) != "closed":
        assert isinstance(piece, bytes), piece
        assert 0 < len(piece) <= sizes[turn % len(sizes)]
        found += piece
        turn += 1
    return found


# That the generated bindings are answered.


def check_answers(module: str, host: Any, resources: Mapping[str, type], never_given: Collection[str]) -> None:
    """Checks that the host of an interface and its resources have all methods, with the parameters of its binding."""
    for name, protocol in vars(importlib.import_module(module)).items():
        if not (inspect.isclass(protocol) and protocol.__module__ == module and hasattr(protocol, "_is_protocol")):
            continue
        if not protocol._is_protocol or name in never_given:
            continue
        methods = {each: found for each, found in vars(protocol).items() if inspect.iscoroutinefunction(found)}
        if name.endswith("Host"):
            answering: Any = host if inspect.isclass(host) else type(host)
        else:
            answering = resources[name]
        for method, found in methods.items():
            own = getattr(answering, method)
            assert inspect.iscoroutinefunction(inspect.unwrap(own)), (name, method)
            assert list(inspect.signature(own).parameters) == list(inspect.signature(found).parameters), (name, method)


def generated(version: str, packages: Iterable[str]) -> set[str]:
    """The names of all generated modules of packages of WASI."""
    found = set()
    for package in packages:
        name = f"capabilities.bindings.wasi_{package}_{version}"
        folder = Path(importlib.import_module(name).__file__ or "").parent
        found |= {f"{name}.{each.stem}" for each in folder.glob("*.py") if each.stem != "__init__"}
    return found
