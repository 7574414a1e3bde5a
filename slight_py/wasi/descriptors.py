"""The resource `descriptor` of wasi:filesystem, as far as it is the same in WASI 0.2 and 0.3: with the directories, the
rules for paths and the bounds of WASI preview 1 (files.py, sandbox.py).

A descriptor of a guest stands for an entry in the instance's table of files. The streams that are made of it keep that
entry open, whatever the guest drops first.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import wraps
from typing import Any, ClassVar, Concatenate, ParamSpec, Protocol, TypeVar

from bindgen.runtime import Err
from slight_py.wasi import sandbox
from slight_py.wasi.files import MAX_STREAMS, Directory, File, Files, Owned, in_thread
from slight_py.wasi.sandbox import Times, failure

P = ParamSpec("P")
T = TypeVar("T")
D = TypeVar("D", bound="Descriptor")

SECOND = 1_000_000_000
"""Nanoseconds."""

# Flags, which have the same numbers in both versions.

READ, WRITE, FILE_INTEGRITY_SYNC, DATA_INTEGRITY_SYNC, REQUESTED_WRITE_SYNC, MUTATE_DIRECTORY = (
    1 << number for number in range(6)
)
CREATE, DIRECTORY, EXCLUSIVE, TRUNCATE = (1 << number for number in range(4))
SYMLINK_FOLLOW = 1

_ADVICE = (
    os.POSIX_FADV_NORMAL, os.POSIX_FADV_SEQUENTIAL, os.POSIX_FADV_RANDOM, os.POSIX_FADV_WILLNEED,
    os.POSIX_FADV_DONTNEED, os.POSIX_FADV_NOREUSE,
)  # fmt: skip

# Errors.

_NAMES = {
    "ACCES": "access", "AGAIN": "would-block", "ALREADY": "already", "BADF": "bad-descriptor", "BUSY": "busy",
    "DEADLK": "deadlock", "DQUOT": "quota", "EXIST": "exist", "FBIG": "file-too-large",
    "ILSEQ": "illegal-byte-sequence", "INPROGRESS": "in-progress", "INTR": "interrupted", "INVAL": "invalid",
    "IO": "io", "ISDIR": "is-directory", "LOOP": "loop", "MLINK": "too-many-links", "MSGSIZE": "message-size",
    "NAMETOOLONG": "name-too-long", "NODEV": "no-device", "NOENT": "no-entry", "NOLCK": "no-lock",
    "NOMEM": "insufficient-memory", "NOSPC": "insufficient-space", "NOTDIR": "not-directory", "NOTEMPTY": "not-empty",
    "NOTRECOVERABLE": "not-recoverable", "NOTSUP": "unsupported", "NOSYS": "unsupported", "NOTTY": "no-tty",
    "NXIO": "no-such-device", "OVERFLOW": "overflow", "PERM": "not-permitted", "PIPE": "pipe", "ROFS": "read-only",
    "SPIPE": "invalid-seek", "TXTBSY": "text-file-busy", "XDEV": "cross-device",
}  # fmt: skip

LABELS = {getattr(errno, f"E{name}"): label for name, label in _NAMES.items() if hasattr(errno, f"E{name}")}
"""The cases of WASI's `error-code` by the system's numbers."""


class Timestamp(Protocol):
    """A point in time: `datetime` in 0.2, `instant` in 0.3."""

    seconds: int
    nanoseconds: int


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one version of wasi:filesystem says it."""

    error: Callable[[OSError], Any]
    """The `error-code` of an error of the system."""
    kind: Callable[[int], Any]
    """The `descriptor-type` of a `st_mode`."""
    stat: Callable[[os.stat_result], Any]
    flags: Callable[[int], Any]
    hash: Callable[[int, int], Any]
    now: type
    """The class of the case `now` of a `new-timestamp`, and that of `timestamp`, whose value is a Timestamp."""
    timestamp: type


def fallible(
    answer: Callable[Concatenate[D, P], Awaitable[T]],
) -> Callable[Concatenate[D, P], Coroutine[Any, Any, T]]:
    """Turns the system's errors into WASI's, and has a call find what was written before it in streams."""

    @wraps(answer)
    async def call(self: D, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            await self._files.settle()
            return await answer(self, *args, **kwargs)
        except OSError as error:
            raise Err(self.DIALECT.error(error)) from None
        except OverflowError:  # a size, a position or a time that the system has no number for
            raise Err(self.DIALECT.error(failure(errno.EINVAL))) from None

    return call


def check_position(position: int) -> int:
    """Raises EINVAL for a position in a file that the system has no number for."""
    if position >> 63:
        raise failure(errno.EINVAL)
    return position


_SECRET = secrets.token_bytes(32)
"""Keeps guests from learning numbers of the system's from hashes."""


def _hash(found: os.stat_result) -> tuple[int, int]:
    """128 bits that tell a file, its size and its times from others."""
    about = (found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    digest = hashlib.blake2b(repr(about).encode(), digest_size=16, key=_SECRET).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def _path(path: str) -> bytes:
    """Raises ENAMETOOLONG without looking at a path that is too long."""
    if len(path) >= sandbox.MAX_PATH:
        raise failure(errno.ENAMETOOLONG)
    return path.encode()


class Opened:
    """An entry of the instance's table of files, and how many descriptors and streams use it. The last one to end
    closes it."""

    __slots__ = ("_number", "_users", "entry", "files")

    def __init__(self, files: Files, entry: File | Directory) -> None:
        self.files = files
        self.entry = entry
        self._number = files.add(entry)
        self._users = 1

    def begin_stream(self) -> None:
        """Notes a stream of it. Raises ENOMEM where the instance has too many."""
        if self.files.streams >= MAX_STREAMS:
            raise failure(errno.ENOMEM)
        self.files.streams += 1
        self._users += 1

    def end_stream(self) -> None:
        self.files.streams -= 1
        self.leave()

    def leave(self) -> None:
        """Ends one use of it."""
        self._users -= 1
        # A descriptor may end after its instance, whose files are closed then.
        if not self._users and self.files.entries.get(self._number) is self.entry:
            self.files.remove(self._number).close()


class Granted(Opened):
    """A directory that was granted, which stays in the table."""

    __slots__ = ()

    def __init__(self, files: Files, entry: Directory) -> None:
        self.files = files
        self.entry = entry
        self._users = 1

    def leave(self) -> None:
        """It stays."""


class Writing:
    """Writes to a file, from a position on or always at its end. The descriptor of the system is kept open from `begin`
    to `end`, even if the instance ends."""

    __slots__ = ("_file", "_files", "_number", "_position")

    def __init__(self, files: Files, file: File, position: int | None) -> None:
        """Without a position, it appends."""
        self._files = files
        self._file = file
        self._position = position
        self._number: int | None = None

    def begin(self) -> int:
        if self._number is None:
            self._number = self._file.owned.use()
        return self._number

    def end(self) -> None:
        if self._number is not None:
            self._number = None
            self._file.owned.leave()

    async def put(self, data: bytes) -> None:
        """Writes all of it. Raises OSError."""
        number, todo = self.begin(), memoryview(data)
        with self._files.writing():
            while todo:
                if self._position is None:
                    count = await in_thread(os.pwritev, number, [todo], 0, os.RWF_APPEND)
                else:
                    count = await in_thread(os.pwrite, number, todo, check_position(self._position))
                    self._position += count
                todo = todo[count:]


class Descriptor:
    """The resource `descriptor`, without its streams."""

    DIALECT: ClassVar[Dialect]

    __slots__ = ("_mutates", "_opened")

    def __init__(self, opened: Opened, mutates: bool) -> None:
        """`mutates` says whether it was opened as a directory that is to be changed, which is only told: what may be
        changed was decided with `--dir`."""
        self._opened = opened
        self._mutates = mutates

    def on_drop(self) -> None:
        self._opened.leave()

    # What it stands for.

    @property
    def _files(self) -> Files:
        return self._opened.files

    @property
    def _file(self) -> File:
        """Raises EBADF for a directory."""
        entry = self._opened.entry
        if isinstance(entry, Directory):
            raise failure(errno.EBADF)
        return entry

    @property
    def _readable(self) -> File:
        """Raises EBADF for what isn't open for reading."""
        file = self._file
        if not file.reads:
            raise failure(errno.EBADF)
        return file

    @property
    def _writable(self) -> File:
        """Raises EBADF for what isn't open for writing."""
        file = self._file
        if not file.writes:
            raise failure(errno.EBADF)
        return file

    @property
    def _directory(self) -> Directory:
        """Raises ENOTDIR for a file."""
        entry = self._opened.entry
        if isinstance(entry, File):
            raise failure(errno.ENOTDIR)
        return entry

    @property
    def _changeable(self) -> Directory:
        """The same, for a change in it. Raises EROFS where nothing may be changed."""
        directory = self._directory
        if not directory.writable:
            raise failure(errno.EROFS)
        return directory

    async def _owned(self) -> Owned:
        return await self._opened.entry.opened(self._files)

    async def _at(self, directory: Directory, work: Callable[..., T], *arguments: Any) -> T:
        """Calls a function of sandbox.py with a directory."""
        return await in_thread(work, await directory.opened(self._files), *arguments)

    def _times(self, accessed: Any, modified: Any) -> Times:
        return Times(self._time(accessed), self._time(modified))

    def _time(self, wanted: Any) -> int | bool | None:
        """A `new-timestamp` as `Times` has it. Raises EINVAL for more nanoseconds than a second has."""
        is_point = isinstance(wanted, self.DIALECT.timestamp)
        if is_point:
            point: Timestamp = wanted.value
            if point.nanoseconds >= SECOND:
                raise failure(errno.EINVAL)
            return point.seconds * SECOND + point.nanoseconds
        return True if isinstance(wanted, self.DIALECT.now) else None

    # Files.

    @fallible
    async def advise(self, offset: int, length: int, advice: int) -> None:
        await in_thread(os.posix_fadvise, self._file.owned, offset, length, _ADVICE[advice])

    @fallible
    async def sync_data(self) -> None:
        await self._sync(os.fdatasync)

    @fallible
    async def sync(self) -> None:
        await self._sync(os.fsync)

    async def _sync(self, work: Callable[[int], None]) -> None:
        """Nothing for what isn't open for writing, as the WIT says."""
        entry = self._opened.entry
        if isinstance(entry, File) and entry.writes:
            await in_thread(work, entry.owned)

    @fallible
    async def set_size(self, size: int) -> None:
        file = self._file
        if not file.writable:
            raise failure(errno.EROFS)
        await in_thread(os.ftruncate, file.owned, size)

    # What is told of it.

    @fallible
    async def get_flags(self) -> Any:
        entry = self._opened.entry
        if isinstance(entry, Directory):
            return self.DIALECT.flags(READ | MUTATE_DIRECTORY * self._mutates)
        return self.DIALECT.flags(READ * entry.reads | WRITE * entry.writes)

    @fallible
    async def get_type(self) -> Any:
        entry = self._opened.entry
        return self.DIALECT.kind(stat.S_IFDIR if isinstance(entry, Directory) else entry.owned.mode)

    @fallible
    async def stat(self) -> Any:
        return self.DIALECT.stat(await in_thread(os.fstat, await self._owned()))

    @fallible
    async def set_times(self, data_access_timestamp: Any, data_modification_timestamp: Any) -> None:
        times = self._times(data_access_timestamp, data_modification_timestamp)
        entry = self._opened.entry
        if not entry.writable:
            raise failure(errno.EROFS)
        if isinstance(entry, Directory):
            await self._at(entry, sandbox.set_times_at, b".", False, times, time.time_ns())
        else:
            await in_thread(times.set, entry.owned, time.time_ns())

    async def is_same_object(self, other: Descriptor) -> bool:
        try:
            found = [await in_thread(os.fstat, await each._owned()) for each in (self, other)]
        except OSError:
            return False
        return os.path.samestat(*found)

    @fallible
    async def metadata_hash(self) -> Any:
        return self.DIALECT.hash(*_hash(await in_thread(os.fstat, await self._owned())))

    # Paths below a directory.

    @fallible
    async def open_at(self: D, path_flags: int, path: str, open_flags: int, flags: int) -> D:
        directory = self._directory
        system = _system_flags(open_flags, flags)
        if open_flags & (CREATE | TRUNCATE) or flags & (WRITE | MUTATE_DIRECTORY):
            directory = self._changeable
        entry = await self._files.open_at(directory, _path(path), bool(path_flags & SYMLINK_FOLLOW), system)
        return type(self)(Opened(self._files, entry), bool(flags & MUTATE_DIRECTORY))

    @fallible
    async def stat_at(self, path_flags: int, path: str) -> Any:
        return self.DIALECT.stat(await self._status(path_flags, path))

    @fallible
    async def metadata_hash_at(self, path_flags: int, path: str) -> Any:
        return self.DIALECT.hash(*_hash(await self._status(path_flags, path)))

    async def _status(self, path_flags: int, path: str) -> os.stat_result:
        follow = bool(path_flags & SYMLINK_FOLLOW)
        return await self._at(self._directory, sandbox.stat_at, _path(path), follow)

    @fallible
    async def set_times_at(
        self, path_flags: int, path: str, data_access_timestamp: Any, data_modification_timestamp: Any
    ) -> None:
        times = self._times(data_access_timestamp, data_modification_timestamp)
        follow = bool(path_flags & SYMLINK_FOLLOW)
        await self._at(self._changeable, sandbox.set_times_at, _path(path), follow, times, time.time_ns())

    @fallible
    async def create_directory_at(self, path: str) -> None:
        await self._at(self._changeable, sandbox.create_directory, _path(path))

    @fallible
    async def remove_directory_at(self, path: str) -> None:
        await self._at(self._changeable, sandbox.remove_directory, _path(path))

    @fallible
    async def unlink_file_at(self, path: str) -> None:
        await self._at(self._changeable, sandbox.unlink, _path(path))

    @fallible
    async def link_at(self, old_path_flags: int, old_path: str, new_descriptor: Descriptor, new_path: str) -> None:
        old, new = self._changeable, new_descriptor._changeable
        if old_path_flags & SYMLINK_FOLLOW:
            raise failure(errno.EINVAL)
        await self._at(old, sandbox.link, _path(old_path), await new.opened(self._files), _path(new_path))

    @fallible
    async def rename_at(self, old_path: str, new_descriptor: Descriptor, new_path: str) -> None:
        old, new = self._changeable, new_descriptor._changeable
        await self._at(old, sandbox.rename, _path(old_path), await new.opened(self._files), _path(new_path))

    @fallible
    async def symlink_at(self, old_path: str, new_path: str) -> None:
        directory = await self._changeable.opened(self._files)
        await in_thread(sandbox.symlink, _path(old_path), directory, _path(new_path))

    @fallible
    async def readlink_at(self, path: str) -> str:
        return decoded(await self._at(self._directory, sandbox.read_link, _path(path)))


def decoded(name: bytes) -> str:
    """Raises EILSEQ for a name that is not UTF-8."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise failure(errno.EILSEQ) from None


def _system_flags(open_flags: int, flags: int) -> int:
    """What open(2) is told. Raises ENOTSUP and EINVAL for what can't be asked for."""
    if flags & (FILE_INTEGRITY_SYNC | DATA_INTEGRITY_SYNC | REQUESTED_WRITE_SYNC):
        raise failure(errno.ENOTSUP)
    create, exclusive = bool(open_flags & CREATE), bool(open_flags & EXCLUSIVE)
    truncate, directory = bool(open_flags & TRUNCATE), bool(open_flags & DIRECTORY)
    if directory and (create or exclusive or truncate):
        raise failure(errno.EINVAL)
    writes = bool(flags & WRITE) or create or truncate
    reads = bool(flags & READ) or not flags & WRITE
    system = os.O_RDWR if reads and writes else os.O_WRONLY if writes else os.O_RDONLY
    system |= os.O_CREAT * create | os.O_TRUNC * truncate | os.O_DIRECTORY * directory
    return system | os.O_EXCL * (create and exclusive)


def granted(files: Files, kind: type[D]) -> list[tuple[D, str]]:
    """A descriptor for each directory that is granted, and its name for the guest."""
    return [
        (kind(Granted(files, each), each.writable), each.guest.decode())
        for each in files.entries.values()
        if isinstance(each, Directory) and each.guest is not None
    ]
