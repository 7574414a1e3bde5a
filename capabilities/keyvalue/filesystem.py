"""`keyvalue.filesystem`: a store is a directory, and every key a file in it.

The name of a file is its key, percent-encoded as in a URL (RFC 3986); so a plain key is its own file's name. Names
are told apart by how they start:

- `.` starts no key's file (a key's leading dot is encoded): such files are values being written.
- `%` alone is the empty key.
- `%%` starts the file of a key whose encoded form a directory can't hold: the key's SHA-256 follows. That file has
  the key in it, before the value.

The directories of the stores have names by the same rule. Guests choose keys and names: no path is ever made from
them otherwise, and no symbolic link in a store is followed.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import secrets
import stat
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import ClassVar, ParamSpec, TypeVar
from urllib.parse import quote as percent_encode
from urllib.parse import unquote as percent_decode

from capabilities.errors import ConfigError
from capabilities.keyvalue import (
    KEY_LIMIT,
    LISTING_KEY_BYTES,
    LISTING_LIMIT,
    VALUE_LIMIT,
    InvalidValue,
    IoFailed,
    check_value,
    encode,
    key_not_found,
    too_many_keys,
)

P = ParamSpec("P")
T = TypeVar("T")

NAME_MAX = 255
"""How long a file's name may be on Linux, in bytes (`limits.h`)."""

_KEY_LENGTH = struct.Struct("<I")
"""What starts a file that has its key in it."""

_IN_DIRECTORY = os.O_NOFOLLOW | os.O_CLOEXEC


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
    """One store. Every call opens its directory anew, so it may be removed and made again while guests run."""

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

    def _get(self, key: str) -> bytes:
        name = file_name(key)
        prefix = _prefix(name, key)
        try:
            with self._open_directory() as directory, _open_value(name, directory) as file:
                size = os.fstat(file).st_size
                if size > VALUE_LIMIT + len(prefix):
                    raise InvalidValue(f"the file has {size} bytes: too many for a value")
                with open(file, "rb", closefd=False) as reader:
                    data = reader.read()
        except FileNotFoundError:
            raise key_not_found(key) from None
        if not data.startswith(prefix):
            raise IoFailed(f"the file {name} does not start with its key")
        return data[len(prefix) :]

    def _set(self, key: str, value: bytes) -> None:
        """Writes a file of another name, then gives it the key's, so that readers see the old value or the new."""
        os.makedirs(self._parent, mode=0o700, exist_ok=True)
        with self._open_parent() as parent, suppress(FileExistsError):
            os.mkdir(self._name, mode=0o700, dir_fd=parent)
        name = file_name(key)
        temporary = f".{secrets.token_hex(8)}"
        with self._open_directory() as directory:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _IN_DIRECTORY
            file = os.open(temporary, flags, mode=0o600, dir_fd=directory)
            try:
                with open(file, "wb") as writer:
                    writer.write(_prefix(name, key))
                    writer.write(value)
                os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                os.unlink(temporary, dir_fd=directory)
                raise

    def _keys(self) -> list[str]:
        keys = []
        size = 0
        try:
            with self._open_directory() as directory, os.scandir(directory) as entries:
                for entry in entries:
                    key = _read_key(entry.name, directory) if entry.is_file(follow_symlinks=False) else None
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
            with self._open_directory() as directory:
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
            directory = os.open(self._name, os.O_RDONLY | os.O_DIRECTORY | _IN_DIRECTORY, dir_fd=parent)
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


@contextmanager
def _open_value(name: str, directory: int) -> Iterator[int]:
    """A descriptor of a value's file. Whatever is not a plain file is no value: raises FileNotFoundError."""
    try:
        # O_NONBLOCK: opening a pipe would wait for somebody to write to it.
        file = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _IN_DIRECTORY, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a symbolic link, a socket
            raise FileNotFoundError from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise FileNotFoundError
        yield file
    finally:
        os.close(file)


# Keys and the names of their files.


def file_name(key: str) -> str:
    """The name of a key's file, which no other key has. It is no path: neither `.`, `..`, nor has it a `/`."""
    name = percent_encode(key, safe="") or "%"
    if name.startswith("."):
        name = f"%2E{name[1:]}"
    if len(name) > NAME_MAX:
        return f"%%{hashlib.sha256(key.encode()).hexdigest()}"
    return name


def _prefix(name: str, key: str) -> bytes:
    """What comes before the value in the key's file."""
    if not name.startswith("%%"):
        return b""
    data = key.encode()
    return _KEY_LENGTH.pack(len(data)) + data


def _read_key(name: str, directory: int) -> str | None:
    """The key of a file of this name; None where `file_name` gives no key that name, or the file has vanished."""
    if not name.isascii() or name.startswith("."):
        return None
    try:
        if name.startswith("%%"):
            with _open_value(name, directory) as file:
                data = os.read(file, _KEY_LENGTH.size + KEY_LIMIT)
            (length,) = _KEY_LENGTH.unpack_from(data)
            key = data[_KEY_LENGTH.size : _KEY_LENGTH.size + length].decode()
        else:
            key = "" if name == "%" else percent_decode(name, errors="strict")
    except (FileNotFoundError, UnicodeDecodeError, struct.error):
        return None
    return key if file_name(key) == name else None
