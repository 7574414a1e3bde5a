"""`blobstore.filesystem`: a container is a directory, and every object a file in it.

How names of objects become those of files, and names of containers those of directories: capabilities/filenames.py.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import secrets
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, ParamSpec, TypeVar

from capabilities import blob
from capabilities.blob import READ_LIMIT, BlobError, Info, InvalidName, ObjectNotFound, Replaced, object_not_found
from capabilities.blob.transfer import Room
from capabilities.errors import ConfigError
from capabilities.filenames import IN_DIRECTORY, NAME_LIMIT, file_name, open_descriptor, prefix, read_name

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound="_File")


def _room() -> Room:
    """Of the descriptors that the process may have, a quarter."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Room(max(64, (1 << 16 if most == resource.RLIM_INFINITY else most) // 4))


_files = _room()
"""How many files the streams of this process may have open."""


class FilesystemBackend:
    """Containers under the directory DIRECTORY, or else under one that lives as long as this backend.

    DIRECTORY may be relative to the directory that the process was started in; it is made when the first object is
    written. All workers of one run share the backend, which only says where a container is; each reads and writes the
    files itself.
    """

    REQUIRED: ClassVar[tuple[str, ...]] = ()
    OPTIONAL: ClassVar[tuple[str, ...]] = ("DIRECTORY",)

    __slots__ = ("_directory", "_making", "_temporary")

    def __init__(self, configs: Mapping[str, str]) -> None:
        """Raises ConfigError."""
        directory = configs.get("DIRECTORY")
        if directory is not None and (not directory or "\0" in directory):
            raise ConfigError(
                "DIRECTORY is not a path: give the directory that the containers are kept in", "DIRECTORY"
            )
        self._directory = os.path.abspath(directory) if directory is not None else None
        self._temporary: str | None = None
        self._making: asyncio.Task[str] | None = None

    def connect(self) -> Connection:
        """The backend as the main process and each worker know it."""
        return Connection(self)

    async def open(self, name: str) -> FilesystemContainer:
        """Raises InvalidName, and BlobError where there can be no directory."""
        if len(name.encode()) > NAME_LIMIT:
            raise InvalidName(f"a container's name of {len(name.encode())} bytes is too long")
        directory = self._directory or await self._own_directory()
        return FilesystemContainer(os.path.join(directory, file_name(name)))

    async def _own_directory(self) -> str:
        """The directory that is removed at the end, made by whoever comes first."""
        if self._making is None or (self._making.done() and self._temporary is None):
            self._making = asyncio.create_task(asyncio.to_thread(tempfile.mkdtemp, prefix="slight-py-blobs-"))
        try:
            self._temporary = await asyncio.shield(self._making)
        except OSError as error:
            what, where = "there is no directory for objects", tempfile.gettempdir()
            raise _failure(error, what, where, "set TMPDIR, or give a DIRECTORY") from None
        return self._temporary

    async def close(self) -> None:
        if self._making is not None:
            await asyncio.wait([self._making])
            if not self._making.exception():
                await asyncio.to_thread(shutil.rmtree, self._making.result(), ignore_errors=True)


def _failure(error: OSError, what: str, where: str, mend: str) -> BlobError:
    reason = os.strerror(error.errno or errno.EIO).lower()
    return BlobError(f"{what}: {reason}", f"blobstore.filesystem: {where}: {reason}; {mend}")


class Connection:
    """A backend that outlives this."""

    def __init__(self, backend: FilesystemBackend) -> None:
        self._backend = backend

    async def open(self, name: str) -> FilesystemContainer:
        return await self._backend.open(name)

    async def close(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class FilesystemContainer:
    """One container. Every call opens its directory anew, so it may be removed and made again while guests run."""

    path: str

    async def info(self) -> Info:
        """When a directory was made can't be had from Python: `created` is when an object last came or went. A
        container that was never written to is made."""
        return await self.run(self._info)

    async def read(self, name: str) -> FileReader:
        return await _opened(self._open_reader(name), FileReader.close)

    async def write(self, name: str) -> FileWriter:
        return await _opened(self._open_writer(name), FileWriter.abort)

    async def pages(self) -> AsyncIterator[list[str]]:
        names = self._names()
        while page := await self.run(_first, names):
            yield page

    async def has(self, name: str) -> bool:
        try:
            await self.object_info(name)
        except ObjectNotFound:
            return False
        return True

    async def object_info(self, name: str) -> Info:
        return await self.run(self._object_info, name)

    async def delete(self, name: str) -> None:
        await self.run(self._delete, name)

    async def delete_all(self, names: Sequence[str]) -> None:
        for start in range(0, len(names), blob.PAGE):  # a thread's work can't be stopped, so it is kept short
            await self.run(self._delete_all, names[start : start + blob.PAGE])

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls a function in a thread. Raises BlobError."""
        try:
            return await asyncio.to_thread(function, *args, **kwargs)
        except OSError as error:
            what, mend = "the files of the container can't be used", "make room, allow access, or correct DIRECTORY"
            raise _failure(error, what, self.path, mend) from None

    async def _open_reader(self, name: str) -> FileReader:
        return FileReader(self, *await self.run(self._open, name))

    async def _open_writer(self, name: str) -> FileWriter:
        return FileWriter(self, *await self.run(self._create, name), file_name(name))

    # In a thread, from here on.

    def _info(self) -> Info:
        self._make()
        with self.directory() as directory:
            return Info(int(os.fstat(directory).st_mtime))

    def _make(self) -> None:
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(self.path, mode=0o700)

    def _open(self, name: str) -> tuple[int, int, int]:
        """A descriptor of an object's file, where the object starts in it, and its size."""
        start = prefix(file_name(name), name)
        try:
            with self.directory() as directory:
                file = open_descriptor(file_name(name), directory)
        except FileNotFoundError:
            raise object_not_found(name) from None
        try:
            if os.pread(file, len(start), 0) != start:
                raise BlobError("the object's file does not start with the object's name")
            return file, len(start), max(0, os.fstat(file).st_size - len(start))
        except BaseException:
            os.close(file)
            raise

    def _create(self, name: str) -> tuple[int, str]:
        """A file of another name than the object's, and that name."""
        self._make()
        temporary = f".{secrets.token_hex(8)}"
        with self.directory() as directory:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | IN_DIRECTORY
            file = os.open(temporary, flags, mode=0o600, dir_fd=directory)
            try:
                write_all(file, prefix(file_name(name), name))
            except BaseException:
                os.close(file)
                os.unlink(temporary, dir_fd=directory)
                raise
        return file, temporary

    def _names(self) -> Iterator[str]:
        try:
            with self.directory() as directory, os.scandir(directory) as entries:
                for entry in entries:
                    name = read_name(entry.name, directory) if entry.is_file(follow_symlinks=False) else None
                    if name:  # an empty one is no object's
                        yield name
        except FileNotFoundError:
            return

    def _object_info(self, name: str) -> Info:
        status = self._status(name)
        return Info(int(status.st_mtime), max(0, status.st_size - len(prefix(file_name(name), name))))

    def _status(self, name: str) -> os.stat_result:
        """Raises ObjectNotFound, also for what is not a plain file."""
        try:
            with self.directory() as directory:
                status = os.stat(file_name(name), dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            raise object_not_found(name) from None
        if not stat.S_ISREG(status.st_mode):
            raise object_not_found(name)
        return status

    def _delete(self, name: str) -> None:
        self._status(name)
        try:
            with self.directory() as directory:
                os.unlink(file_name(name), dir_fd=directory)
        except FileNotFoundError:
            raise object_not_found(name) from None

    def _delete_all(self, names: Sequence[str]) -> None:
        for name in names:
            with suppress(ObjectNotFound):
                self._delete(name)

    @contextmanager
    def directory(self) -> Iterator[int]:
        """A descriptor of the container's directory. Raises FileNotFoundError where there is none yet."""
        directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | IN_DIRECTORY)
        try:
            yield directory
        finally:
            os.close(directory)


def _first(names: Iterator[str]) -> list[str]:
    return list(islice(names, blob.PAGE))


def write_all(file: int, data: bytes) -> None:
    """A file may take less than it's given at once."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


async def _opened(opening: Coroutine[Any, Any, F], end: Callable[[F], Coroutine[Any, Any, None]]) -> F:
    """The stream that `opening` opens. Where nobody waits for it any more, `end` is called."""
    try:
        await _files.wait(1)
    except BaseException:
        opening.close()  # it never began
        raise
    task = asyncio.create_task(opening)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        ending = asyncio.create_task(_end(task, end))
        _ending.add(ending)
        ending.add_done_callback(_ending.discard)
        raise
    except BaseException:
        _files.give(1)
        raise


_ending: set[asyncio.Task[None]] = set()


async def _end(opening: asyncio.Task[F], end: Callable[[F], Coroutine[Any, Any, None]]) -> None:
    with suppress(BlobError):
        try:
            stream = await opening
        except BaseException:
            _files.give(1)
            raise
        await end(stream)


class _File:
    """An open file. What threads do with it goes on where a caller is cancelled, so closing waits for that."""

    def __init__(self, container: FilesystemContainer, file: int) -> None:
        self._container = container
        self._file = file
        self._running: asyncio.Task[Any] | None = None
        self._open = True

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls a function in a thread, of which nobody else calls one meanwhile. Raises BlobError."""
        task = self._running = asyncio.create_task(self._container.run(function, *args, **kwargs))
        return await asyncio.shield(task)

    async def _close(self) -> bool:
        """Closes the file; returns whether it was open."""
        if self._running is not None and not self._running.done():
            await asyncio.wait([self._running])
        if not self._open:
            return False
        self._open = False
        _files.give(1)
        await self._container.run(os.close, self._file)
        return True


class FileReader(_File):
    """Implements `Reader`. The file is the object's as it was, whatever becomes of its name."""

    def __init__(self, container: FilesystemContainer, file: int, start: int, size: int) -> None:
        super().__init__(container, file)
        self._offset = start
        self.left = size

    async def read(self, size: int) -> bytes:
        size = min(size, READ_LIMIT, self.left)
        data = await self._run(_read_all, self._file, size, self._offset)
        if len(data) < size:
            raise Replaced("the object's file was made shorter while it was read")
        self._offset += size
        self.left -= size
        return data

    async def close(self) -> None:
        self.left = 0
        await self._close()


def _read_all(file: int, size: int, offset: int) -> bytes:
    """So many bytes, or fewer at the file's end."""
    pieces = []
    while size and (piece := os.pread(file, size, offset)):
        pieces.append(piece)
        size -= len(piece)
        offset += len(piece)
    return b"".join(pieces)


class FileWriter(_File):
    """Implements `Writer` with a file that has the object's name from when it is whole."""

    def __init__(self, container: FilesystemContainer, file: int, temporary: str, name: str) -> None:
        super().__init__(container, file)
        self._temporary = temporary
        self._name = name
        self._usable = True

    async def write(self, data: bytes) -> None:
        self._begin()
        await self._run(write_all, self._file, data)
        self._usable = True

    async def commit(self) -> None:
        self._begin()
        await self._run(self._put_in_place)
        await self._close()

    async def abort(self) -> None:
        self._usable = False
        if await self._close():
            await self._container.run(self._remove)

    def _begin(self) -> None:
        """What begins here has failed unless it says otherwise at its end: it may be cancelled, too."""
        if not self._usable:
            raise BlobError("the object can't be written any more: its stream has failed or is closed")
        self._usable = False

    def _put_in_place(self) -> None:
        """Readers see the old object or the new one, also after a crash of the machine."""
        os.fsync(self._file)
        with self._container.directory() as directory:
            os.replace(self._temporary, self._name, src_dir_fd=directory, dst_dir_fd=directory)
            os.fsync(directory)

    def _remove(self) -> None:
        # Where the commit was cancelled, it may have come to its end.
        with suppress(FileNotFoundError), self._container.directory() as directory:
            os.unlink(self._temporary, dir_fd=directory)
