"""WASI preview 1: each of its functions, as a guest calls it.

Numbers, layouts and rights are those of WASI's `wasi_snapshot_preview1` witx files. Where those leave something open,
it is as in wasmtime; docs/wasi.md says what differs. What can be answered at once is, without waiting; the rest waits
in a thread or for whoever reads what is printed (files.py, stdio.py), and holds up nobody but the guest.

A pointer past the guest's memory, or one that isn't aligned, ends the guest, as the witx documents ask.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import time
from collections.abc import Callable, Coroutine
from struct import Struct
from typing import Any, NoReturn

from bindgen.runtime import GuestFault, Import
from slight_py.engine import WASI, Exit, Instance, Trap
from slight_py.wasi import files as opened
from slight_py.wasi import sandbox
from slight_py.wasi.context import NOTHING, Context, Texts
from slight_py.wasi.files import Directory, File, Files, Status, Stream, in_thread
from slight_py.wasi.sandbox import Times, failure

Function = Callable[[Any, Instance, tuple[Any, ...]], Coroutine[Any, Any, int]]
Wait = Callable[[], Coroutine[Any, Any, None]]

IMPORTS: list[Import] = []
"""All functions of preview 1."""

# Error numbers.

SUCCESS, EBADF, EINVAL, EIO, ENAMETOOLONG, ENOTDIR, ENOTSOCK, ENOTSUP = 0, 8, 28, 29, 37, 54, 57, 58

# fmt: off
_NAMES = (
    "SUCCESS", "2BIG", "ACCES", "ADDRINUSE", "ADDRNOTAVAIL", "AFNOSUPPORT", "AGAIN", "ALREADY", "BADF", "BADMSG",
    "BUSY", "CANCELED", "CHILD", "CONNABORTED", "CONNREFUSED", "CONNRESET", "DEADLK", "DESTADDRREQ", "DOM", "DQUOT",
    "EXIST", "FAULT", "FBIG", "HOSTUNREACH", "IDRM", "ILSEQ", "INPROGRESS", "INTR", "INVAL", "IO", "ISCONN", "ISDIR",
    "LOOP", "MFILE", "MLINK", "MSGSIZE", "MULTIHOP", "NAMETOOLONG", "NETDOWN", "NETRESET", "NETUNREACH", "NFILE",
    "NOBUFS", "NODEV", "NOENT", "NOEXEC", "NOLCK", "NOLINK", "NOMEM", "NOMSG", "NOPROTOOPT", "NOSPC", "NOSYS",
    "NOTCONN", "NOTDIR", "NOTEMPTY", "NOTRECOVERABLE", "NOTSOCK", "NOTSUP", "NOTTY", "NXIO", "OVERFLOW", "OWNERDEAD",
    "PERM", "PIPE", "PROTO", "PROTONOSUPPORT", "PROTOTYPE", "RANGE", "ROFS", "SPIPE", "SRCH", "STALE", "TIMEDOUT",
    "TXTBSY", "XDEV",
)
# fmt: on
"""Those of WASI in their order, without the E."""

_ERRORS = {getattr(errno, f"E{name}"): number for number, name in enumerate(_NAMES) if hasattr(errno, f"E{name}")}
"""WASI's numbers by the system's."""


def function(params: str) -> Callable[[Function], Function]:
    """Provides a function that is answered at once and fails in no other way than by what it returns."""

    def provide(answer: Function) -> Function:
        IMPORTS.append(Import(WASI, answer.__name__, params, "i", answer))
        return answer

    return provide


def function_of_files(params: str) -> Callable[[Function], Function]:
    """Provides a function that may raise OSError."""

    def provide(answer: Function) -> Function:
        @functools.wraps(answer)
        async def call(host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
            try:
                return await answer(host, guest, args)
            except OSError as error:
                return _ERRORS.get(error.errno or 0, EIO)
            except OverflowError:  # a size or a position that the system has no number for
                return EINVAL

        return function(params)(call)

    return provide


# The guest's memory, and what it has.


def _view(guest: Instance, name: str, what: str, at: int, size: int, align: int = 1) -> memoryview:
    """The memory, in which so many bytes lie at an address. Raises GuestFault where they don't."""
    memory = guest.memory_for_wasi
    if at + size > len(memory):
        _fault(name, what, f"{size} bytes at {at:#x} reach past the end of memory, {len(memory):#x}")
    if at % align:
        _fault(name, what, f"{at:#x} is not a multiple of {align}")
    return memory


def _fault(name: str, what: str, fault: str) -> NoReturn:
    raise GuestFault(f"{WASI}: {name}: {what}: {fault}")


def _case(name: str, what: str, value: int, count: int) -> int:
    """A value that is one of `count` cases. Raises GuestFault for another."""
    if value >= count:
        _fault(name, what, f"{value} is not one of the {count} there are")
    return value


def _flags(name: str, what: str, value: int, count: int) -> int:
    """A set of `count` flags. Raises GuestFault for another."""
    if value >> count:
        _fault(name, what, f"{value:#x} has more than the {count} flags there are")
    return value


def _context(guest: Instance) -> Context:
    context: Context = guest.wasi or NOTHING
    return context


def _files(guest: Instance) -> Files:
    if guest.files is None:
        guest.files = _context(guest).files()
    files: Files = guest.files
    return files


_U32, _U64 = Struct("<I"), Struct("<Q")
_BUFFER = Struct("<II")
"""Address and size."""


_TOO_LONG = b"x" * sandbox.MAX_PATH
"""Any path that is too long: it isn't copied to be refused."""


def _path(guest: Instance, name: str, at: int, size: int, what: str = "path") -> bytes:
    """A path that the guest hands over. Raises EILSEQ where it is not UTF-8."""
    memory = _view(guest, name, what, at, size)
    if size >= sandbox.MAX_PATH:
        return _TOO_LONG
    found = bytes(memory[at : at + size])
    try:
        found.decode()
    except UnicodeDecodeError:
        raise failure(errno.EILSEQ) from None
    return found


_BUFFERS = 1024
"""How many buffers a call may name, as for readv(2) in Linux."""


def _buffer(guest: Instance, name: str, at: int, count: int) -> tuple[int, int]:
    """Address and size of the first buffer with anything in it, which is the one that is read or written: a call may do
    less than it is asked for. Raises EINVAL for too many."""
    memory = _view(guest, name, "iovs", at, count * 8, 4)
    if count > _BUFFERS:
        raise failure(errno.EINVAL)
    for number in range(at, at + count * 8, 8):
        size = _U32.unpack_from(memory, number + 4)[0]
        if size:
            buffer = _U32.unpack_from(memory, number)[0]
            _view(guest, name, "buf", buffer, size)
            return buffer, size
    return 0, 0


_SHORT = 4096
"""Bytes that are printed at once, as a pipe takes them (PIPE_BUF)."""


def _short(guest: Instance, name: str, at: int, count: int) -> bytes | None:
    """What is in all buffers, where it is so little that it is printed at once: a C library has a line in two of them,
    and what others print must not come between. None where it's more."""
    memory = guest.memory_for_wasi
    buffers = [_BUFFER.unpack_from(memory, each) for each in range(at, at + count * 8, 8)]
    if sum(size for _, size in buffers) > _SHORT:
        return None
    return b"".join(_view(guest, name, "buf", buffer, size)[buffer : buffer + size] for buffer, size in buffers if size)


# Arguments, variables, clocks, random numbers.


def _texts(guest: Instance, name: str, texts: Texts, pointers_at: int, content_at: int) -> int:
    _view(guest, name, "pointers", pointers_at, 4 * len(texts.starts), 4 if texts.starts else 1)
    memory = _view(guest, name, "buf", content_at, len(texts.content))
    for number, start in enumerate(texts.starts):
        _U32.pack_into(memory, pointers_at + 4 * number, content_at + start)
    memory[content_at : content_at + len(texts.content)] = texts.content
    return SUCCESS


def _sizes(guest: Instance, name: str, texts: Texts, count_at: int, size_at: int) -> int:
    _view(guest, name, "count", count_at, 4, 4)
    memory = _view(guest, name, "size", size_at, 4, 4)
    _U32.pack_into(memory, count_at, len(texts.starts))
    _U32.pack_into(memory, size_at, len(texts.content))
    return SUCCESS


@function("ii")
async def args_get(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    return _texts(guest, "args_get", _context(guest).args, *args)


@function("ii")
async def args_sizes_get(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    return _sizes(guest, "args_sizes_get", _context(guest).args, *args)


@function("ii")
async def environ_get(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    return _texts(guest, "environ_get", _context(guest).env, *args)


@function("ii")
async def environ_sizes_get(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    return _sizes(guest, "environ_sizes_get", _context(guest).env, *args)


_REALTIME, _MONOTONIC = 0, 1
_CLOCKS = 4


def _no_clock(name: str, clock: int) -> int:
    """The processor's time is not the guest's alone, and not told."""
    _case(name, "id", clock, _CLOCKS)
    return EBADF


@function("ii")
async def clock_res_get(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    clock, at = args
    if clock > _MONOTONIC:
        return _no_clock("clock_res_get", clock)
    memory = _view(guest, "clock_res_get", "resolution", at, 8, 8)
    _U64.pack_into(memory, at, max(1, round(time.get_clock_info(("time", "monotonic")[clock]).resolution * 1e9)))
    return SUCCESS


@function("iIi")
async def clock_time_get(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    clock, _, at = args
    if clock > _MONOTONIC:
        return _no_clock("clock_time_get", clock)
    memory = _view(guest, "clock_time_get", "time", at, 8, 8)
    # The guest's own clock begins with it: it isn't told for how long the machine has been running.
    _U64.pack_into(memory, at, time.time_ns() if clock == _REALTIME else time.monotonic_ns() - guest.started)
    return SUCCESS


_RANDOM = 1 << 16
"""Random bytes that are asked for in one go, in some 0.2 ms."""


@function("ii")
async def random_get(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    """Random numbers of the kernel's. A generator in the process would repeat itself in each copy of a machine that is
    restored from a snapshot."""
    at, size = args
    memory = _view(guest, "random_get", "buf", at, size)
    end = at + size
    while end - at > _RANDOM:
        memory[at : at + _RANDOM] = os.urandom(_RANDOM)
        at += _RANDOM
        await asyncio.sleep(0)
        memory = guest.memory_for_wasi
    memory[at:end] = os.urandom(end - at)
    return SUCCESS


# Descriptors.

_NONBLOCK, _APPEND, _DSYNC, _RSYNC, _SYNC = 4, 1, 2, 8, 16
_FLAGS = 5

_FD_DATASYNC, _FD_READ, _FD_SEEK, _FDSTAT_SET_FLAGS, _FD_SYNC, _FD_TELL, _FD_WRITE = (1 << n for n in range(7))
_RIGHTS = 30
_ALL_RIGHTS = (1 << _RIGHTS) - 1
_FD_READDIR = 1 << 14
_PATH_FILESTAT_SET_SIZE, _FD_FILESTAT_SET_SIZE = 1 << 19, 1 << 22

# path_create_directory to path_rename_target, path_filestat_get, path_filestat_set_times, fd_filestat_get,
# fd_filestat_set_times, path_symlink, path_remove_directory, path_unlink_file
_OF_GRANTED = sum(1 << n for n in (9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 21, 23, 24, 25, 26))
# and, for what is opened there, all that files have
_INHERITED = _OF_GRANTED | sum(1 << n for n in (0, 1, 2, 3, 4, 5, 6, 7, 8, 22, 27))

_FDSTAT = Struct("<BxH4xQQ")
_FILESTAT = Struct("<QQB7xQQQQQ")


@function_of_files("i")
async def fd_close(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    _files(guest).remove(args[0]).close()
    return SUCCESS


@function_of_files("ii")
async def fd_renumber(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    _files(guest).renumber(*args)
    return SUCCESS


@function_of_files("ii")
async def fd_fdstat_get(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    number, at = args
    entry = _files(guest).get(number)
    memory = _view(guest, "fd_fdstat_get", "stat", at, _FDSTAT.size, 8)
    flags = 0
    if isinstance(entry, Stream):
        filetype = entry.filetype
        rights = inherited = _FD_WRITE if entry.output else _FD_READ
    elif isinstance(entry, Directory):
        filetype = opened.DIRECTORY
        if entry.guest is not None:
            rights, inherited = _OF_GRANTED, _INHERITED
        else:
            without = _FD_SEEK | _FD_FILESTAT_SET_SIZE | _PATH_FILESTAT_SET_SIZE | _FD_WRITE
            rights = inherited = _ALL_RIGHTS & ~without
    else:
        filetype = entry.filetype
        flags = _APPEND * entry.append | _NONBLOCK * entry.nonblocking
        without = (0 if entry.reads else _FD_READ | _FD_READDIR) | (0 if entry.writes else _FD_WRITE)
        rights = inherited = _ALL_RIGHTS & ~without
    _FDSTAT.pack_into(memory, at, filetype, flags, rights, inherited)
    return SUCCESS


@function_of_files("ii")
async def fd_fdstat_set_flags(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    number, flags = args
    _flags("fd_fdstat_set_flags", "flags", flags, _FLAGS)
    file = _files(guest).file(number)
    if flags & (_DSYNC | _RSYNC | _SYNC):
        return EINVAL
    file.append = bool(flags & _APPEND)
    file.nonblocking = bool(flags & _NONBLOCK)
    return SUCCESS


@function_of_files("iII")
async def fd_fdstat_set_rights(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    for each in args[1:]:
        _flags("fd_fdstat_set_rights", "rights", each, _RIGHTS)
    if isinstance(_files(guest).get(args[0]), Stream):
        return EBADF
    return ENOTSUP


@function_of_files("iIIi")
async def fd_advise(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    number, offset, size, advice = args
    _case("fd_advise", "advice", advice, len(_ADVICE))
    await in_thread(os.posix_fadvise, _files(guest).file(number).owned, offset, size, _ADVICE[advice])
    return SUCCESS


_ADVICE = (
    os.POSIX_FADV_NORMAL, os.POSIX_FADV_SEQUENTIAL, os.POSIX_FADV_RANDOM, os.POSIX_FADV_WILLNEED,
    os.POSIX_FADV_DONTNEED, os.POSIX_FADV_NOREUSE,
)  # fmt: skip


@function_of_files("iII")
async def fd_allocate(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    _files(guest).file(args[0])
    return ENOTSUP


@function_of_files("i")
async def fd_datasync(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    await in_thread(os.fdatasync, _files(guest).file(args[0]).owned)
    return SUCCESS


@function_of_files("i")
async def fd_sync(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    await in_thread(os.fsync, _files(guest).file(args[0]).owned)
    return SUCCESS


def _put_status(guest: Instance, name: str, at: int, found: Status) -> int:
    memory = _view(guest, name, "stat", at, _FILESTAT.size, 8)
    mask = (1 << 64) - 1
    _FILESTAT.pack_into(
        *(memory, at, found.device, found.identity, found.filetype, found.links, found.size),
        *(each & mask for each in (found.accessed, found.modified, found.changed)),
    )
    return SUCCESS


@function_of_files("ii")
async def fd_filestat_get(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    number, at = args
    files = _files(guest)
    entry = files.get(number)
    if isinstance(entry, Stream):
        found = Status(entry.filetype)
    else:
        found = opened.status(await in_thread(os.fstat, await entry.opened(files)))
    return _put_status(guest, "fd_filestat_get", at, found)


@function_of_files("iI")
async def fd_filestat_set_size(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    file = _files(guest).file(args[0])
    if not file.writable:
        raise failure(errno.EPERM)
    await in_thread(os.ftruncate, file.owned, args[1])
    return SUCCESS


def _times(name: str, accessed: int, modified: int, flags: int) -> Times:
    """The times that are to be set. Raises EINVAL where one is both a given one and now."""
    _flags(name, "flags", flags, 4)
    if flags & 3 == 3 or flags & 12 == 12:
        raise failure(errno.EINVAL)
    return Times(
        accessed if flags & 1 else True if flags & 2 else None,
        modified if flags & 4 else True if flags & 8 else None,
    )


@function_of_files("iIIi")
async def fd_filestat_set_times(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    times = _times("fd_filestat_set_times", *args[1:])
    files = _files(guest)
    entry = files.get(args[0])
    if isinstance(entry, Stream):
        return EBADF
    if not entry.writable:
        raise failure(errno.EPERM)
    if isinstance(entry, Directory):
        await in_thread(sandbox.set_times_at, await entry.opened(files), b".", False, times, time.time_ns())
    else:
        await in_thread(times.set, entry.owned, time.time_ns())
    return SUCCESS


_PRESTAT = Struct("<B3xI")


@function_of_files("ii")
async def fd_prestat_get(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    number, at = args
    entry = _files(guest).get(number)
    if not isinstance(entry, Directory) or entry.guest is None:
        return EBADF
    _PRESTAT.pack_into(_view(guest, "fd_prestat_get", "buf", at, _PRESTAT.size, 4), at, 0, len(entry.guest))
    return SUCCESS


@function_of_files("iii")
async def fd_prestat_dir_name(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    number, at, size = args
    entry = _files(guest).get(number)
    if not isinstance(entry, Directory) or entry.guest is None:
        return ENOTDIR
    if size < len(entry.guest):
        return ENAMETOOLONG
    _view(guest, "fd_prestat_dir_name", "path", at, len(entry.guest))[at : at + len(entry.guest)] = entry.guest
    return SUCCESS


# Reading and writing.


def _put_number(guest: Instance, name: str, what: str, at: int, value: int, number: Struct = _U32) -> int:
    number.pack_into(_view(guest, name, what, at, number.size, number.size), at, value)
    return SUCCESS


async def _read(guest: Instance, file: File, buffer: int, size: int, position: int) -> int:
    return await file.read(lambda: guest.memory_for_wasi, buffer, size, position)


async def _write(guest: Instance, file: File, buffer: int, size: int, position: int) -> int:
    return await file.write(lambda: guest.memory_for_wasi, buffer, size, position)


@function_of_files("iiii")
async def fd_read(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    number, buffers_at, count, at = args
    buffer, size = _buffer(guest, "fd_read", buffers_at, count)
    _view(guest, "fd_read", "size", at, 4, 4)
    entry = _files(guest).get(number)
    if isinstance(entry, File):
        done = await _read(guest, entry, buffer, size, entry.position)
        entry.position += done
    elif isinstance(entry, Stream) and entry.output is None:
        found = await entry.input.read(size) if entry.input is not None and size else b""
        done = len(found)
        guest.memory_for_wasi[buffer : buffer + done] = found
    else:
        return EBADF
    return _put_number(guest, "fd_read", "size", at, done)


@function_of_files("iiiIi")
async def fd_pread(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    number, buffers_at, count, position, at = args
    buffer, size = _buffer(guest, "fd_pread", buffers_at, count)
    _view(guest, "fd_pread", "size", at, 4, 4)
    entry = _files(guest).get(number)
    if isinstance(entry, Stream):
        raise failure(errno.EBADF if entry.output else errno.ESPIPE)
    if isinstance(entry, Directory):
        return EBADF
    return _put_number(guest, "fd_pread", "size", at, await _read(guest, entry, buffer, size, position))


@function_of_files("iiii")
async def fd_write(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    number, buffers_at, count, at = args
    buffer, size = _buffer(guest, "fd_write", buffers_at, count)
    _view(guest, "fd_write", "size", at, 4, 4)
    entry = _files(guest).get(number)
    if isinstance(entry, Stream):
        if entry.output is None:
            return EBADF
        line = _short(guest, "fd_write", buffers_at, count)
        if line is None:
            done = await entry.output.write(lambda: guest.memory_for_wasi, buffer, size)
        else:
            done = await entry.output.write(lambda: memoryview(line), 0, len(line))
    elif isinstance(entry, File):
        done = await _write(guest, entry, buffer, size, entry.position)
        if entry.append:
            entry.position = (await in_thread(os.fstat, entry.owned)).st_size
        else:
            entry.position += done
    else:
        return EBADF
    return _put_number(guest, "fd_write", "size", at, done)


@function_of_files("iiiIi")
async def fd_pwrite(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    number, buffers_at, count, position, at = args
    buffer, size = _buffer(guest, "fd_pwrite", buffers_at, count)
    _view(guest, "fd_pwrite", "size", at, 4, 4)
    entry = _files(guest).get(number)
    if isinstance(entry, Stream):
        raise failure(errno.ESPIPE if entry.output else errno.EBADF)
    if isinstance(entry, Directory):
        return EBADF
    return _put_number(guest, "fd_pwrite", "size", at, await _write(guest, entry, buffer, size, position))


_SET, _CUR, _END = 0, 1, 2


@function_of_files("iIii")
async def fd_seek(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    number, offset, whence, at = args
    _case("fd_seek", "whence", whence, _END + 1)
    file = _files(guest).seekable(number)
    if offset >> 63:
        offset -= 1 << 64
    if whence == _CUR:
        offset += file.position
    elif whence == _END:
        offset += (await in_thread(os.fstat, file.owned)).st_size
    if not 0 <= offset < 1 << 64:
        return EINVAL
    _put_number(guest, "fd_seek", "position", at, offset, _U64)
    file.position = offset
    return SUCCESS


@function_of_files("ii")
async def fd_tell(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    position = _files(guest).seekable(args[0]).position
    return _put_number(guest, "fd_tell", "position", args[1], position, _U64)


@function_of_files("iiiIi")
async def fd_readdir(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    number, buffer, size, cookie, at = args
    _view(guest, "fd_readdir", "buf", buffer, size)
    _view(guest, "fd_readdir", "size", at, 4, 4)
    files = _files(guest)
    directory = await files.directory(number).opened(files)
    done = 0
    while done < size:
        found, cookie, last = await in_thread(opened.read_entries, directory, cookie, size - done)
        if last:
            break
        piece = min(len(found), size - done)
        guest.memory_for_wasi[buffer + done : buffer + done + piece] = found[:piece]
        done += piece
    return _put_number(guest, "fd_readdir", "size", at, done)


# Paths.


def _lookup(name: str, flags: int) -> bool:
    """Whether a link at the end of a path is followed."""
    return _flags(name, "lookup flags", flags, 1) == 1


@function_of_files("iiiiiIIii")
async def path_open(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    number, lookup, path_at, path_size, oflags, rights, inherited, flags, at = args
    follow = _lookup("path_open", lookup)
    _flags("path_open", "oflags", oflags, 4)
    _flags("path_open", "rights", rights | inherited, _RIGHTS)
    _flags("path_open", "flags", flags, _FLAGS)
    path = _path(guest, "path_open", path_at, path_size)
    _view(guest, "path_open", "fd", at, 4, 4)
    files = _files(guest)
    directory = files.get(number)
    if not isinstance(directory, Directory):
        return ENOTDIR if isinstance(directory, File) else EBADF
    if flags & (_DSYNC | _RSYNC | _SYNC):
        return ENOTSUP
    create, must_be_directory, exclusive, truncate = (bool(oflags & bit) for bit in (1, 2, 4, 8))
    if must_be_directory and (create or exclusive or truncate):
        return EINVAL
    writes = bool(rights & _FD_WRITE) or create or truncate
    reads = bool(rights & _FD_READ) or not rights & _FD_WRITE
    if writes:
        directory.check_writable()
    system = os.O_RDWR if reads and writes else os.O_WRONLY if writes else os.O_RDONLY
    system |= os.O_CREAT * create | os.O_TRUNC * truncate | os.O_DIRECTORY * must_be_directory
    system |= os.O_EXCL * (create and exclusive)
    entry = await files.open_at(directory, path, follow, system)
    if isinstance(entry, File):
        entry.append = bool(flags & _APPEND)
        entry.nonblocking = bool(flags & _NONBLOCK)
    return _put_number(guest, "path_open", "fd", at, files.add(entry))


async def _at(guest: Instance, number: int, work: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function of sandbox.py with a directory."""
    files = _files(guest)
    return await in_thread(work, await files.directory(number).opened(files), *arguments)


def _changeable(guest: Instance, *numbers: int) -> None:
    """Raises EPERM for directories in which nothing may be changed."""
    for each in [_files(guest).directory(number) for number in numbers]:
        each.check_writable()


@function_of_files("iii")
async def path_create_directory(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    number, path_at, size = args
    path = _path(guest, "path_create_directory", path_at, size)
    _changeable(guest, number)
    await _at(guest, number, sandbox.create_directory, path)
    return SUCCESS


@function_of_files("iii")
async def path_remove_directory(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    number, path_at, size = args
    path = _path(guest, "path_remove_directory", path_at, size)
    _changeable(guest, number)
    await _at(guest, number, sandbox.remove_directory, path)
    return SUCCESS


@function_of_files("iii")
async def path_unlink_file(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    number, path_at, size = args
    path = _path(guest, "path_unlink_file", path_at, size)
    _changeable(guest, number)
    await _at(guest, number, sandbox.unlink, path)
    return SUCCESS


@function_of_files("iiiii")
async def path_filestat_get(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    number, lookup, path_at, size, at = args
    follow = _lookup("path_filestat_get", lookup)
    path = _path(guest, "path_filestat_get", path_at, size)
    _view(guest, "path_filestat_get", "stat", at, _FILESTAT.size, 8)
    found = await _at(guest, number, sandbox.stat_at, path, follow)
    return _put_status(guest, "path_filestat_get", at, opened.status(found))


@function_of_files("iiiiIIi")
async def path_filestat_set_times(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    number, lookup, path_at, size, accessed, modified, flags = args
    follow = _lookup("path_filestat_set_times", lookup)
    times = _times("path_filestat_set_times", accessed, modified, flags)
    path = _path(guest, "path_filestat_set_times", path_at, size)
    _changeable(guest, number)
    await _at(guest, number, sandbox.set_times_at, path, follow, times, time.time_ns())
    return SUCCESS


@function_of_files("iiiiiii")
async def path_link(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    number, lookup, path_at, size, to, to_at, to_size = args
    follow = _lookup("path_link", lookup)
    path = _path(guest, "path_link", path_at, size)
    to_path = _path(guest, "path_link", to_at, to_size, "new path")
    _changeable(guest, number, to)
    if follow:
        return EINVAL
    files = _files(guest)
    await _at(guest, number, sandbox.link, path, await files.directory(to).opened(files), to_path)
    return SUCCESS


@function_of_files("iiiiii")
async def path_rename(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    number, path_at, size, to, to_at, to_size = args
    path = _path(guest, "path_rename", path_at, size)
    to_path = _path(guest, "path_rename", to_at, to_size, "new path")
    _changeable(guest, number, to)
    files = _files(guest)
    await _at(guest, number, sandbox.rename, path, await files.directory(to).opened(files), to_path)
    return SUCCESS


@function_of_files("iiiii")
async def path_symlink(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    target_at, target_size, number, path_at, size = args
    target = _path(guest, "path_symlink", target_at, target_size, "target")
    path = _path(guest, "path_symlink", path_at, size)
    _changeable(guest, number)
    files = _files(guest)
    await in_thread(sandbox.symlink, target, await files.directory(number).opened(files), path)
    return SUCCESS


@function_of_files("iiiiii")
async def path_readlink(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    number, path_at, path_size, buffer, size, at = args
    path = _path(guest, "path_readlink", path_at, path_size)
    _view(guest, "path_readlink", "buf", buffer, size)
    _view(guest, "path_readlink", "size", at, 4, 4)
    found = await _at(guest, number, sandbox.read_link, path)
    try:
        found.decode()
    except UnicodeDecodeError:
        raise failure(errno.EILSEQ) from None
    done = min(len(found), size)
    guest.memory_for_wasi[buffer : buffer + done] = found[:done]
    return _put_number(guest, "path_readlink", "size", at, done)


# Waiting: 48-byte subscriptions in, 32-byte events out.

_SUBSCRIPTION = Struct("<QB7xI4xQ8xH6x")
_EVENT = Struct("<QHB5xQH6x")
_CLOCK, _READABLE, _WRITABLE = 0, 1, 2
_ABSOLUTE = 1
_MOST = 4096
"""Subscriptions in one call."""


@function_of_files("iiii")
async def poll_oneoff(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
    """Waits until the first of the clocks has run out, or one of the descriptors is ready. A file always is, as it is
    for poll(2)."""
    subscriptions_at, events_at, count, count_at = args
    if not 0 < count <= _MOST:
        return EINVAL
    name = "poll_oneoff"
    memory = _view(guest, name, "subscriptions", subscriptions_at, count * _SUBSCRIPTION.size, 8)
    _view(guest, name, "events", events_at, count * _EVENT.size, 8)
    _view(guest, name, "events", count_at, 4, 4)
    end = subscriptions_at + count * _SUBSCRIPTION.size
    waits: list[tuple[float | Wait, int, int, int]] = []
    """How long to wait, in seconds or for what, and the event then: user data, error, kind."""
    for user_data, kind, which, timeout, flags in _SUBSCRIPTION.iter_unpack(memory[subscriptions_at:end]):
        if kind == _CLOCK and which <= _MONOTONIC:
            waits.append((_seconds(guest, which, timeout, flags), user_data, 0, kind))
        elif kind == _CLOCK:
            waits.append((0.0, user_data, ENOTSUP, kind))
        elif kind in (_READABLE, _WRITABLE):
            waits.append((_ready(_files(guest).get(which), kind), user_data, 0, kind))
        else:
            _fault(name, "subscriptions", f"{kind} is not a kind of event")
    ready = await _first([wait for wait, *_ in waits])
    memory = guest.memory_for_wasi
    told = [event for (_, *event), is_ready in zip(waits, ready, strict=True) if is_ready]
    for place, (user_data, error, kind) in enumerate(told):
        _EVENT.pack_into(memory, events_at + place * _EVENT.size, user_data, error, kind, kind != _CLOCK, 0)
    return _put_number(guest, name, "events", count_at, len(told))


def _seconds(guest: Instance, clock: int, timeout: int, flags: int) -> float:
    """How long a clock still runs. `timeout` is in nanoseconds, a point in time or a span of it."""
    if flags & _ABSOLUTE:
        timeout -= time.time_ns() if clock == _REALTIME else time.monotonic_ns() - guest.started
    return max(0.0, timeout / 1e9)


def _ready(entry: opened.Entry, kind: int) -> float | Wait:
    """What makes a descriptor ready. Raises EBADF for one that never is."""
    if isinstance(entry, File):
        return 0.0
    if isinstance(entry, Stream):
        if kind == _READABLE and entry.output is None:
            return entry.input.ready if entry.input is not None else 0.0
        if kind == _WRITABLE and entry.output is not None:
            return entry.output.room
    raise failure(errno.EBADF)


async def _first(waits: list[float | Wait]) -> list[bool]:
    """Waits for the first of several; returns which are over."""
    seconds = min((wait for wait in waits if isinstance(wait, float)), default=None)
    tasks = {number: asyncio.create_task(wait()) for number, wait in enumerate(waits) if not isinstance(wait, float)}
    if tasks:
        try:
            await asyncio.wait(tasks.values(), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over = {number for number, task in tasks.items() if task.done()}
            for task in tasks.values():
                task.cancel()
    else:
        await asyncio.sleep(seconds or 0.0)
        over = set()
    timed_out = not over
    return [
        number in over or (isinstance(wait, float) and (wait == 0 or (timed_out and wait <= (seconds or 0))))
        for number, wait in enumerate(waits)
    ]


# The end, and what there is nothing behind.

_EXIT_CODES = 126
_SIGNALS = 31


async def _proc_exit(_host: Any, _guest: Instance, args: tuple[Any, ...]) -> None:
    if args[0] >= _EXIT_CODES:  # those above are a shell's own
        raise Trap("exit with invalid exit status outside of [0..126)")
    raise Exit(args[0])


IMPORTS.append(Import(WASI, "proc_exit", "i", "", _proc_exit))


@function("i")
async def proc_raise(_host: Any, _guest: Instance, args: tuple[Any, ...]) -> int:
    _case("proc_raise", "signal", args[0], _SIGNALS)
    return ENOTSUP


@function("")
async def sched_yield(_host: Any, _guest: Instance, _args: tuple[Any, ...]) -> int:
    """Guests have their turns anyway."""
    return SUCCESS


def _no_socket(name: str, params: str) -> None:
    @function_of_files(params)
    @_named(name)
    async def answer(_host: Any, guest: Instance, args: tuple[Any, ...]) -> int:
        _files(guest).get(args[0])
        return ENOTSOCK


def _named(name: str) -> Callable[[Function], Function]:
    def named(answer: Function) -> Function:
        answer.__name__ = name
        return answer

    return named


for _name, _params in (("accept", "iii"), ("recv", "iiiiii"), ("send", "iiiii"), ("shutdown", "ii")):
    _no_socket(f"sock_{_name}", _params)

FUNCTIONS = frozenset(each.name for each in IMPORTS)
"""The names of all of them."""
