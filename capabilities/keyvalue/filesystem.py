"""`keyvalue.filesystem`: a store is a directory, and every key a file in it.

How keys become names of files, and names of stores those of directories: capabilities/filenames.py.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import ClassVar, ParamSpec, TypeVar

from capabilities.errors import ConfigError
from capabilities.filenames import IN_DIRECTORY, file_name, open_plain, prefix, read_name
from capabilities.keyvalue import (
    LISTING_KEY_BYTES,
    LISTING_LIMIT,
    VALUE_LIMIT,
    InvalidValue,
    IoFailed,
    KeyNotFound,
    TimedOut,
    add,
    check_value,
    encode,
    key_not_found,
    too_many_keys,
    version_of,
)

P = ParamSpec("P")
T = TypeVar("T")


LOCK_SECONDS = 10.0
"""How long a change waits for the changes of others, which take microseconds."""

LOCK_PAUSE = 0.0002
"""How long it waits before it looks again, in seconds, the first time: twice as long each time after."""

LOCK_LONGEST_PAUSE = 0.02


class FilesystemBackend:
    """Stores under the directory DIRECTORY, or else under the system's temporary directory.

    DIRECTORY may be relative to the directory that the process was started in; it is made when the first value is
    written. In the temporary directory, which others write to as well, a store's directory must be the user's own; and
    where a guest chooses the names of stores, those are in a directory there that has nothing else in it.
    """

    REQUIRED: ClassVar[tuple[str, ...]] = ()
    OPTIONAL: ClassVar[tuple[str, ...]] = ("DIRECTORY",)

    __slots__ = ("_directory", "_own", "_shared")

    def __init__(self, configs: Mapping[str, str]) -> None:
        """Raises ConfigError."""
        directory = configs.get("DIRECTORY")
        self._shared = directory is None
        self._own = False
        if directory is None:
            directory = os.environ.get("TMPDIR") or "/tmp"
        elif not directory or "\0" in directory:
            raise ConfigError("DIRECTORY is not a path: give the directory that the stores are kept in", "DIRECTORY")
        self._directory = os.path.abspath(directory)

    def for_any_name(self) -> FilesystemBackend:
        """The backend for names that a guest chooses. Without DIRECTORY it has a directory of the user's own: the guest
        could name any other program's directory in the temporary one."""
        if not self._shared:
            return self
        own = FilesystemBackend({})
        own._own = True
        own._directory = os.path.join(self._directory, f"slight-py-{os.geteuid()}")
        return own

    async def open(self, name: str) -> FilesystemStore:
        """Raises InvalidKey for a name past KEY_LIMIT."""
        encode(name)
        return FilesystemStore(self._directory, file_name(name), self._shared, self._own)

    async def close(self) -> None:
        pass


class FilesystemStore:
    """One store. Every call opens its directory anew, so it may be removed and made again while guests run.

    Whatever changes a key holds a lock on the directory meanwhile (flock), so that nothing comes between the reading
    and the writing of an increment or a swap, in this process or in another one of slight-py.
    """

    __slots__ = ("_name", "_own", "_parent", "_shared")

    def __init__(self, parent: str, name: str, shared: bool, own: bool) -> None:
        """The directory `name` in the directory `parent`. With `shared`, it must be the user's own, and with `own`, so
        must `parent`."""
        self._parent = parent
        self._name = name
        self._shared = shared
        self._own = own

    async def get(self, key: str) -> bytes:
        encode(key)
        return await self._in_thread(self._get, key)

    async def set(self, key: str, value: bytes) -> None:
        encode(key)
        check_value(value)
        await self._in_thread(self._set, key, value)

    async def keys(self) -> list[str]:
        return await self._in_thread(self._keys)

    async def delete(self, key: str) -> None:
        encode(key)
        await self._in_thread(self._delete, key)

    async def exists(self, key: str) -> bool:
        encode(key)
        return await self._in_thread(self._exists, key)

    async def increment(self, key: str, delta: int) -> int:
        encode(key)
        return await self._in_thread(self._increment, key, delta)

    async def read(self, key: str) -> tuple[bytes | None, str]:
        encode(key)
        return await self._in_thread(self._read, key)

    async def swap(self, key: str, version: str, value: bytes) -> bool:
        encode(key)
        check_value(value)
        return await self._in_thread(self._swap, key, version, value)

    def _get(self, key: str) -> bytes:
        try:
            with self._open_directory() as directory:
                return _read_file(directory, key)
        except FileNotFoundError:
            raise key_not_found(key) from None

    def _exists(self, key: str) -> bool:
        try:
            with self._open_directory() as directory, open_plain(file_name(key), directory):
                return True
        except FileNotFoundError:
            return False

    def _set(self, key: str, value: bytes) -> None:
        self._make_directory()
        with self._open_directory() as directory, _written(directory, key, value) as temporary, _locked(directory):
            os.replace(temporary, file_name(key), src_dir_fd=directory, dst_dir_fd=directory)

    def _increment(self, key: str, delta: int) -> int:
        self._make_directory()
        with self._open_directory() as directory, _locked(directory):
            number = add(_maybe_read_file(directory, key), delta)
            with _written(directory, key, b"%d" % number) as temporary:
                os.replace(temporary, file_name(key), src_dir_fd=directory, dst_dir_fd=directory)
        return number

    def _read(self, key: str) -> tuple[bytes | None, str]:
        try:
            value: bytes | None = self._get(key)
        except KeyNotFound:
            value = None
        return value, version_of(value)

    def _swap(self, key: str, version: str, value: bytes) -> bool:
        self._make_directory()
        with self._open_directory() as directory, _written(directory, key, value) as temporary, _locked(directory):
            if version_of(_maybe_read_file(directory, key)) != version:
                os.unlink(temporary, dir_fd=directory)
                return False
            os.replace(temporary, file_name(key), src_dir_fd=directory, dst_dir_fd=directory)
        return True

    def _make_directory(self) -> None:
        os.makedirs(self._parent, mode=0o700, exist_ok=True)
        with self._open_parent() as parent, suppress(FileExistsError):
            os.mkdir(self._name, mode=0o700, dir_fd=parent)

    def _keys(self) -> list[str]:
        keys = []
        size = 0
        try:
            with self._open_directory() as directory, os.scandir(directory) as entries:
                for entry in entries:
                    key = read_name(entry.name, directory) if entry.is_file(follow_symlinks=False) else None
                    if key is None:
                        continue
                    size += len(key.encode()) + LISTING_KEY_BYTES
                    if size > LISTING_LIMIT:
                        raise too_many_keys()
                    keys.append(key)
        except FileNotFoundError:
            return []
        return keys

    def _delete(self, key: str) -> None:
        name = file_name(key)
        try:
            with self._open_directory() as directory, _locked(directory):
                if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                    raise FileNotFoundError
                os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            raise key_not_found(key) from None

    @contextmanager
    def _open_parent(self) -> Iterator[int]:
        """A descriptor of the directory that the store's is in. Raises FileNotFoundError where there is none yet."""
        parent = os.open(self._parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC | (os.O_NOFOLLOW if self._own else 0))
        try:
            if self._own:
                _check_own(parent, self._parent)
            yield parent
        finally:
            os.close(parent)

    @contextmanager
    def _open_directory(self) -> Iterator[int]:
        """A descriptor of the store's directory. Raises FileNotFoundError where there is none yet."""
        with self._open_parent() as parent:
            directory = os.open(self._name, os.O_RDONLY | os.O_DIRECTORY | IN_DIRECTORY, dir_fd=parent)
        try:
            if self._shared:
                _check_own(directory, os.path.join(self._parent, self._name))
            yield directory
        finally:
            os.close(directory)

    async def _in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await asyncio.to_thread(function, *args, **kwargs)
        except OSError as error:
            reason = os.strerror(error.errno or errno.EIO)
            mend = _MENDS.get(error.errno or errno.EIO, "name another place with DIRECTORY in the slightfile")
            notice = f"keyvalue.filesystem: {os.path.join(self._parent, self._name)}: {reason}; {mend}"
            raise IoFailed(reason, notice) from None


def _read_file(directory: int, key: str) -> bytes:
    """The value of a key. Raises FileNotFoundError."""
    name = file_name(key)
    start = prefix(name, key)
    with open_plain(name, directory) as file:
        size = os.fstat(file).st_size
        if size > VALUE_LIMIT + len(start):
            raise InvalidValue(f"the file has {size} bytes: too many for a value")
        with open(file, "rb", closefd=False) as reader:
            data = reader.read()
    if not data.startswith(start):
        raise IoFailed(f"the file {name} does not start with its key")
    return data[len(start) :]


def _maybe_read_file(directory: int, key: str) -> bytes | None:
    try:
        return _read_file(directory, key)
    except FileNotFoundError:
        return None


@contextmanager
def _written(directory: int, key: str, value: bytes) -> Iterator[str]:
    """A file of another name with what belongs under the key, so that readers see the old value or the new. It is to
    be renamed or removed, and is removed where that fails."""
    temporary = f".{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | IN_DIRECTORY
    file = os.open(temporary, flags, mode=0o600, dir_fd=directory)
    try:
        with open(file, "wb") as writer:
            writer.write(prefix(file_name(key), key))
            writer.write(value)
        yield temporary
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=directory)
        raise


@contextmanager
def _locked(directory: int) -> Iterator[None]:
    """Keeps every other change of the store out. Raises TimedOut where somebody else holds the lock for long."""
    deadline = time.monotonic() + LOCK_SECONDS
    pause = LOCK_PAUSE
    while True:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimedOut("the store's directory is locked by somebody else") from None
        time.sleep(pause)
        pause = min(2 * pause, LOCK_LONGEST_PAUSE)
    try:
        yield
    finally:
        fcntl.flock(directory, fcntl.LOCK_UN)


_ALLOW = "let the user that runs slight-py read and write it, or name another place with DIRECTORY in the slightfile"
_MAKE_ROOM = "make room, or name another place with DIRECTORY in the slightfile"
_MENDS = {
    errno.EACCES: _ALLOW,
    errno.EPERM: _ALLOW,
    errno.ENOSPC: _MAKE_ROOM,
    errno.EDQUOT: _MAKE_ROOM,
    errno.EMFILE: "allow the process more open files (ulimit -n)",
}
"""What to do about an error of the system."""


def _check_own(directory: int, path: str) -> None:
    """Anyone may have made a directory of this name in the temporary directory."""
    status = os.fstat(directory)
    if status.st_uid != os.geteuid() or status.st_mode & stat.S_IWOTH:
        raise IoFailed(
            "the store's directory in the temporary directory is not the user's own",
            f"keyvalue.filesystem: {path}: the directory is somebody else's, or all may write to it; name another "
            "place with DIRECTORY in the slightfile",
        )
