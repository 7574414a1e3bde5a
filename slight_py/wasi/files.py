"""What a guest has open: the table of its descriptors, and the files and directories behind them.

Everything that the system may take its time for is done in a thread, in pieces of up to PIECE bytes, which are copied:
a guest that is ended meanwhile takes its memory with it. A descriptor of the system is closed when nobody is at work on
it any more, so no thread comes to use a number that means another file by then.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import os
import resource
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from struct import Struct
from typing import Any, NamedTuple, TypeVar

from slight_py.wasi import sandbox
from slight_py.wasi.sandbox import failure
from slight_py.wasi.stdio import INPUT, OUTPUTS, Input, Output

T = TypeVar("T")

log = logging.getLogger("slight_py")

MAX_OPEN = 256
"""Descriptors of the system that an instance may have open."""

MAX_STREAMS = 1024
"""Streams of files and directories that an instance may have, each with up to 64 KiB in it."""

PIECE = 1 << 20
"""Bytes that a thread reads or writes before the guest's memory is looked at again."""

AT_ONCE = 1 << 16
"""Bytes that are read without a thread where the system has them in memory."""

WARN_EVERY = 60.0
"""Seconds from one warning that descriptors are short to the next."""


# Threads.

THREADS = 8


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, "files")


class Budget:
    """How many descriptors of the system guests have open, of all that the process may have: half of them are left to
    connections and to the process itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._used = 0
        self._warned = float("-inf")

    @property
    def limit(self) -> int:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2

    def take(self) -> None:
        """Raises ENFILE where too many are open, and says so in the log."""
        with self._lock:
            limit = self.limit
            if self._used < limit:
                self._used += 1
                return
            now = time.monotonic()
            warn = now - self._warned >= WARN_EVERY
            if warn:
                self._warned = now
        if warn:
            log.warning(
                "guests have %d files open, half of the descriptors that this process may have; they can't open more "
                "until some are closed (ulimit -n)", limit,
            )  # fmt: skip
        raise failure(errno.ENFILE)

    def give_back(self) -> None:
        with self._lock:
            self._used -= 1


BUDGET = Budget()
"""That of this process."""


class Owned:
    """A descriptor of the system."""

    __slots__ = ("_closing", "_number", "_users", "mode")

    _lock = threading.Lock()
    """For all of them: it is held for a moment."""

    def __init__(self, number: int) -> None:
        """Takes over a descriptor that BUDGET was asked for."""
        self.mode = os.fstat(number).st_mode
        self._number = number
        self._users = 0
        self._closing = False

    def use(self) -> int:
        """The number, which stays this file's until `leave`. Raises EBADF where it is closed."""
        with self._lock:
            if self._closing:
                raise failure(errno.EBADF)
            self._users += 1
            return self._number

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            last = self._closing and not self._users
        if last:
            self._close()

    def close(self) -> None:
        """Closes it, now or when whoever is at work on it is done."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            if self._users:
                return
        self._close()

    def _close(self) -> None:
        """In a thread: the end of a file may take its time, where it is a removed one, or on another machine."""
        try:
            _pool().submit(_close, self._number)
        except RuntimeError:  # the process ends
            _close(self._number)


def _close(number: int) -> None:
    with suppress(OSError):
        os.close(number)
    BUDGET.give_back()


async def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """What a function returns that is called in a thread. It gets the number of each argument that is Owned, which
    stays open until the function is done, even if nobody waits any more; an Owned that it returns then is closed.

    Raises EBADF where one is closed already.
    """
    used: list[Owned] = []
    try:
        numbers = [_use(each, used) if isinstance(each, Owned) else each for each in arguments]
        future = _pool().submit(work, *numbers)
    except BaseException:
        _leave(used)
        raise
    if used:
        future.add_done_callback(partial(_leave, used))
    try:
        return await asyncio.wrap_future(future)
    except BaseException:
        future.add_done_callback(_discard)
        raise


def _use(owned: Owned, used: list[Owned]) -> int:
    number = owned.use()
    used.append(owned)
    return number


def _leave(used: Sequence[Owned], _done: object = None) -> None:
    for each in used:
        each.leave()


def _discard(future: Future[Any]) -> None:
    if not future.cancelled() and future.exception() is None and isinstance(found := future.result(), Owned):
        found.close()


# What there is in the table.


@dataclass(frozen=True, slots=True)
class Status:
    """What is told of a file."""

    filetype: int
    links: int = 0
    size: int = 0
    identity: int = 0
    """A number that is the same for the same file, and another one for others."""
    accessed: int = 0
    modified: int = 0
    changed: int = 0
    """Nanoseconds since 1970."""
    device: int = 0


UNKNOWN, BLOCK_DEVICE, CHARACTER_DEVICE, DIRECTORY, REGULAR_FILE = 0, 1, 2, 3, 4
SOCKET_STREAM, SYMBOLIC_LINK = 6, 7

_FILETYPES = {
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFCHR: CHARACTER_DEVICE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFREG: REGULAR_FILE,
    stat.S_IFLNK: SYMBOLIC_LINK,
    stat.S_IFSOCK: SOCKET_STREAM,
}


def status(found: os.stat_result) -> Status:
    # All directories of a guest are one device to it: numbers of the system's tell it nothing.
    return Status(
        _FILETYPES.get(stat.S_IFMT(found.st_mode), UNKNOWN), found.st_nlink, found.st_size,
        _identity(found.st_dev, found.st_ino), found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns, 1,
    )  # fmt: skip


def _identity(device: int, inode: int) -> int:
    return hash((device, inode)) & (1 << 64) - 1


class Stream:
    """Standard input, output or error."""

    def __init__(self, input_: Input | None, output: Output | None) -> None:
        """Without either, it is an input that is at its end."""
        self.input = input_
        self.output = output

    @property
    def filetype(self) -> int:
        source = self.input or self.output
        return CHARACTER_DEVICE if source is not None and source.is_terminal else UNKNOWN

    def close(self) -> None:
        """The process goes on using it."""


class File:
    """An open file. The guest's position in it is kept here, and not by the system."""

    def __init__(self, owned: Owned, filetype: int, flags: int, writable: bool) -> None:
        """`flags` are those that the system opened it with; `writable` says whether it may be changed at all."""
        self.owned = owned
        self.filetype = filetype
        self.reads = flags & os.O_ACCMODE != os.O_WRONLY
        self.writes = flags & os.O_ACCMODE != os.O_RDONLY
        self.writable = writable
        self.position = 0
        self.append = False
        self.nonblocking = False

    def close(self) -> None:
        self.owned.close()

    async def opened(self, _files: Files) -> Owned:
        return self.owned

    async def read(self, memory: Callable[[], memoryview], at: int, size: int, position: int) -> int:
        """Reads into memory, which is asked for after each wait; returns how many bytes, fewer only at the end."""
        done = 0
        if size <= AT_ONCE:
            done = self._read_cached(memory()[at : at + size], position)
            if done < 0:
                return ~done
        while done < size:
            piece = min(size - done, PIECE)
            try:
                found = await in_thread(_pread, self.owned, piece, position + done)
            except OSError:
                if done:
                    break
                raise
            memory()[at + done : at + done + len(found)] = found
            done += len(found)
            if len(found) < piece:
                break
        return done

    def _read_cached(self, view: memoryview, position: int) -> int:
        """Reads what the system has in memory: how many bytes; where they are all that there are, ~ of that."""
        if not hasattr(os, "RWF_NOWAIT"):
            return 0
        number = self.owned.use()
        try:
            count = os.preadv(number, [view], position, os.RWF_NOWAIT)
            if count == len(view):
                return ~count
            if count == 0 or os.preadv(number, [view[count:]], position + count, os.RWF_NOWAIT) == 0:
                return ~count
        except OSError:
            pass  # it isn't in memory, or this is no file for that: a thread reads it, from the beginning
        finally:
            self.owned.leave()
        return 0

    async def read_bytes(self, size: int, position: int) -> bytes:
        """Up to PIECE bytes, fewer only at the end."""
        size = min(size, PIECE)
        if size <= AT_ONCE:
            buffer = bytearray(size)
            done = self._read_cached(memoryview(buffer), position)
            if done < 0:
                return bytes(memoryview(buffer)[:~done])
        return await in_thread(_pread, self.owned, size, position)

    async def write_bytes(self, data: bytes, position: int) -> int:
        """Writes bytes; returns how many, fewer only where an error came after some."""
        done, view = 0, memoryview(data)
        while True:
            piece = view[done : done + PIECE]
            try:
                count = await in_thread(os.pwrite, self.owned, piece, position + done)
            except OSError:
                if done:
                    return done
                raise
            done += count
            if done == len(data) or count < len(piece):
                return done

    async def write(self, memory: Callable[[], memoryview], at: int, size: int, position: int) -> int:
        """Writes from memory, at the end if it appends; returns how many bytes."""
        write = _append if self.append else os.pwrite
        done = 0
        while True:
            piece = min(size - done, PIECE)
            data = bytes(memory()[at + done : at + done + piece])
            try:
                count = await in_thread(write, self.owned, data, position + done)
            except OSError:
                if done:
                    return done
                raise
            done += count
            if done == size or count < piece:
                return done


def _pread(number: int, size: int, position: int) -> bytes:
    """As many bytes as there are, up to `size`."""
    found = os.pread(number, size, position)
    if 0 < len(found) < size:
        with suppress(OSError):
            while more := os.pread(number, size - len(found), position + len(found)):
                found += more
    return found


def _append(number: int, data: bytes, _position: int) -> int:
    return os.pwritev(number, [data], 0, os.RWF_APPEND)


class Directory:
    """An open directory. One that is granted is opened when it is first used."""

    def __init__(self, owned: Owned | None, writable: bool, granted: Granted | None = None) -> None:
        """Either `owned`, or `granted` and yet to be opened."""
        self._owned = owned
        self._granted = granted
        self._closed = False
        self.guest = None if granted is None else granted.guest
        """The name of a granted one."""
        self.writable = writable

    def close(self) -> None:
        self._closed = True
        if self._owned is not None:
            self._owned.close()

    async def opened(self, files: Files) -> Owned:
        """Its descriptor. Raises OSError where it can't be opened, EBADF where it is closed meanwhile."""
        if self._owned is None:
            assert self._granted is not None
            found = await files.open(_open_granted, self._granted.host)
            if self._closed:
                found.close()
                raise failure(errno.EBADF)
            if self._owned is None:
                self._owned = found
            else:
                found.close()  # another call has opened it meanwhile
        return self._owned

    def check_writable(self) -> None:
        if not self.writable:
            raise failure(errno.EPERM)


def _open_granted(host: str) -> int:
    return os.open(host, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


Entry = Stream | File | Directory


@dataclass(frozen=True, slots=True)
class Granted:
    """A directory of the host as a guest gets it: where it is, its name for the guest, whether that may write."""

    host: str
    guest: bytes
    writable: bool


class Files:
    """The descriptors of one instance."""

    def __init__(self, directories: Sequence[Granted], stdin: bool) -> None:
        self._open = 0
        self._closed = False
        self.entries: dict[int, Entry] = {
            0: Stream(INPUT if stdin else None, None),
            1: Stream(None, OUTPUTS[1]),
            2: Stream(None, OUTPUTS[2]),
        }
        self.streams = 0
        """How many streams of files and directories there are."""
        self._writes: set[asyncio.Future[None]] = set()
        self._free: set[int] = set()
        """Numbers below the highest one that was given out, whose entries are closed."""
        self._next = 3
        for each in directories:
            self.entries[self._next] = Directory(None, each.writable, each)
            self._next += 1

    def close(self) -> None:
        """Closes all there is; what comes from a thread later is closed as it comes."""
        self._closed = True
        for each in self.entries.values():
            each.close()
        self.entries.clear()

    # What is being written.

    @contextmanager
    def writing(self) -> Iterator[None]:
        """While the block lasts, a piece of a stream is being written."""
        done = asyncio.get_running_loop().create_future()
        self._writes.add(done)
        try:
            yield
        finally:
            self._writes.discard(done)
            done.set_result(None)

    async def settle(self) -> None:
        """Waits until all is written that was handed over in streams before: a guest that has written may look at the
        file at once."""
        if self.streams:
            await asyncio.sleep(0)  # Whoever was handed something begins to write it.
            if self._writes:
                await asyncio.wait(set(self._writes))

    # The table.

    def get(self, number: int) -> Entry:
        """Raises EBADF for a number that is no descriptor."""
        try:
            return self.entries[number]
        except KeyError:
            raise failure(errno.EBADF) from None

    def file(self, number: int) -> File:
        found = self.entries.get(number)
        if not isinstance(found, File):
            raise failure(errno.EBADF)
        return found

    def seekable(self, number: int) -> File:
        if isinstance(self.entries.get(number), Stream):
            raise failure(errno.ESPIPE)
        return self.file(number)

    def directory(self, number: int) -> Directory:
        found = self.entries.get(number)
        if not isinstance(found, Directory):
            raise failure(errno.EBADF)
        return found

    def add(self, entry: Entry) -> int:
        """Gives an entry a number: the highest of those that were closed, else the next one, as wasmtime does."""
        if self._free:
            number = max(self._free)
            self._free.discard(number)
        else:
            number = self._next
            self._next += 1
        self.entries[number] = entry
        return number

    def remove(self, number: int) -> Entry:
        found = self.get(number)
        del self.entries[number]
        self._free.add(number)
        return found

    def renumber(self, number: int, to: int) -> None:
        """Gives the entry of one number another one, whose entry is closed."""
        entry, old = self.get(number), self.get(to)
        if number != to:
            old.close()
            del self.entries[number]
            self._free.add(number)
            self.entries[to] = entry

    # Opening.

    async def open(self, work: Callable[..., int], *arguments: Any) -> Owned:
        """Calls a function that returns a new descriptor of the system, in a thread.

        Raises EMFILE or ENFILE where there may be no more of them.
        """
        if sum(not isinstance(each, Stream) for each in self.entries.values()) >= MAX_OPEN:
            raise failure(errno.EMFILE)
        return await in_thread(_opened, work, *arguments)

    async def open_at(self, directory: Directory, path: bytes, follow: bool, flags: int) -> File | Directory:
        """Opens what a path leads to, with the system's `flags`."""
        owned = await self.open(sandbox.open_at, await directory.opened(self), path, follow, flags)
        if self._closed:
            owned.close()
            raise failure(errno.EBADF)
        if stat.S_ISDIR(owned.mode):
            return Directory(owned, directory.writable)
        return File(owned, _FILETYPES.get(stat.S_IFMT(owned.mode), UNKNOWN), flags, directory.writable)


def _opened(work: Callable[..., int], *arguments: Any) -> Owned:
    BUDGET.take()
    try:
        number = work(*arguments)
    except BaseException:
        BUDGET.give_back()
        raise
    try:
        return Owned(number)
    except BaseException:
        _close(number)
        raise


# Directories, read.

_HEAD = Struct("<QqHB")
"""`struct linux_dirent64`: inode, where the next entry is, length of this one, type; the name and a NUL follow."""

_ENTRY = Struct("<QQIB3x")
"""`dirent` of WASI: where the next entry is, inode, length of the name, type; the name follows."""

_ENTRIES = 1 << 14
"""Bytes of entries that a thread looks at in one go: Python takes a millisecond for them, which others wait for."""


class _Listed(NamedTuple):
    """An entry as the system tells it."""

    name: bytes
    mode: int
    """Its type, as in `st_mode`; 0 where it has just gone."""
    inode: int
    following: int
    """The cookie of the next one."""


def _listed(number: int, cookie: int, size: int) -> list[_Listed]:
    """Entries of an open directory, from the one that `cookie` stands for, about `size` bytes at most; none at the
    end."""
    buffer = ctypes.create_string_buffer(min(max(size, 1 << 12), _ENTRIES))
    if cookie:
        try:
            os.lseek(number, cookie, os.SEEK_SET)
        except OverflowError:
            raise failure(errno.EINVAL) from None
    count = _getdents()(number, buffer, len(buffer))
    if count < 0:
        raise failure(ctypes.get_errno())
    found = []
    at = 0
    while at < count:
        inode, following, length, kind = _HEAD.unpack_from(buffer, at)
        name = buffer.raw[at + _HEAD.size : at + length].partition(b"\0")[0]
        at += length
        mode = kind << 12
        if not kind:
            with suppress(FileNotFoundError):  # it has just gone
                mode = os.stat(name, dir_fd=number, follow_symlinks=False).st_mode
        found.append(_Listed(name, mode, inode, following & (1 << 64) - 1))
    return found


def read_entries(start: int, cookie: int, size: int) -> tuple[bytes, int, bool]:
    """Entries of a directory as WASI preview 1 has them, from the one that `cookie` stands for, about `size` bytes at
    most; the cookie of the next one; and whether these are the last ones. Raises EILSEQ for a name that is not
    UTF-8."""
    number = sandbox.open_directory(start)
    try:
        own = os.fstat(number)
        entries = _listed(number, cookie, size)
        found = bytearray()
        for name, mode, inode, following in entries:
            _check_text(name)
            if name == b"..":
                inode = own.st_ino  # what is above is nothing of the guest's
            filetype = _FILETYPES.get(stat.S_IFMT(mode), UNKNOWN)
            found += _ENTRY.pack(following, _identity(own.st_dev, inode), len(name), filetype) + name
            cookie = following
        return bytes(found), cookie, not entries
    finally:
        os.close(number)


def read_names(start: int, cookie: int, size: int) -> tuple[list[tuple[bytes, int]], int, bool]:
    """Names and types (as in `st_mode`) of all entries but `.` and `..`, with the parameters and the rest of
    `read_entries`."""
    number = sandbox.open_directory(start)
    try:
        entries = _listed(number, cookie, size)
        following = entries[-1].following if entries else cookie
        names = [(name, mode) for name, mode, _, _ in entries if name not in (b".", b"..")]
        return names, following, not entries
    finally:
        os.close(number)


@cache
def _getdents() -> Any:
    function = ctypes.CDLL(None, use_errno=True).getdents64
    function.argtypes, function.restype = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t), ctypes.c_ssize_t
    return function


def _check_text(name: bytes) -> None:
    try:
        name.decode()
    except UnicodeDecodeError:
        raise failure(errno.EILSEQ) from None
