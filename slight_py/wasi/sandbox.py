"""Paths below a granted directory: found component by component, so that none leads out of it.

Each component is opened by its name in the directory before it, never by a longer path, and never through a symbolic
link: those are read, and their targets walked in the same way. So whatever others rename or replace meanwhile, every
descriptor that is held is one that was reached from the granted directory downwards; `..` goes back to the descriptor
before, not to what the system calls the parent.

All functions here block, and take and return descriptors of the system. They raise OSError.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

MAX_LINKS = 40
"""Symbolic links on the way of one path, as in Linux."""

MAX_DEPTH = 256
"""Directories that one path leads down: each is a descriptor while it is walked."""

MAX_PATH = 4096
"""Bytes of a path, as in Linux."""

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def failure(number: int) -> OSError:
    """The error of that number, as the system would raise it."""
    return OSError(number, os.strerror(number))


class Place(NamedTuple):
    """Where a path leads: a name in a directory. It may be that of a symbolic link, or of nothing yet.

    A system call that takes a name with a slash behind it may follow a link: `with_slash` is for those alone that never
    do. For the others, `check_slash` says what the slash means.
    """

    directory: int
    name: bytes
    """`.` where the path leads to the directory itself."""
    slash: bool
    """Whether the path ends in a slash: only a directory is meant."""

    @property
    def with_slash(self) -> bytes:
        """The name as the path has it, for mkdir(2), rmdir(2), unlink(2) and rename(2)."""
        return self.name + b"/" if self.slash else self.name

    def status(self) -> os.stat_result:
        return os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)

    def check_slash(self) -> None:
        """Raises ENOTDIR where the path ends in a slash, and leads to anything but a directory."""
        if self.slash and not stat.S_ISDIR(self.status().st_mode):
            raise failure(errno.ENOTDIR)


@contextmanager
def place(start: int, path: bytes, follow: bool) -> Iterator[Place]:
    """Where `path` leads from the directory `start`, for as long as the block lasts.

    With `follow`, a symbolic link at its end is followed. Raises EPERM for a path that leads out of the directory.
    """
    if not path:
        raise failure(errno.ENOENT)
    if len(path) >= MAX_PATH:
        raise failure(errno.ENAMETOOLONG)
    if b"\0" in path:
        raise failure(errno.EINVAL)
    opened: list[int] = []
    try:
        yield _walk(start, path, follow, opened)
    finally:
        for each in opened:
            os.close(each)


def _walk(start: int, path: bytes, follow: bool, opened: list[int]) -> Place:
    """`opened` takes the directories below `start` that lead to the place, each in the one before it."""
    todo = _components(path)
    slash = path.endswith(b"/")
    links = 0
    while True:
        name = todo.pop()
        at = opened[-1] if opened else start
        if name == b"..":
            if not opened:
                raise failure(errno.EPERM)
            os.close(opened.pop())
        elif name != b".":
            if todo:
                # What it names must be a directory, or lead to one.
                try:
                    found = os.open(name, _STEP, dir_fd=at)
                except OSError as error:
                    if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                        raise
                    target = _target(at, name)
                    if target is None:
                        raise failure(errno.ENOTDIR) from None
                else:
                    if len(opened) == MAX_DEPTH:
                        os.close(found)
                        raise failure(errno.ENAMETOOLONG)
                    opened.append(found)
                    continue
            else:
                target = _target(at, name) if follow else None
                if target is None:
                    return Place(at, name, slash)
                slash |= target.endswith(b"/")
            links += 1
            if links > MAX_LINKS:
                raise failure(errno.ELOOP)
            todo += _components(target)
        if not todo:
            return Place(opened[-1] if opened else start, b".", slash)


def _components(path: bytes) -> list[bytes]:
    """The components of a path, the first last; those that mean nothing are left out. Raises EPERM for an absolute
    path."""
    if path.startswith(b"/"):
        raise failure(errno.EPERM)
    found = [each for each in path.split(b"/") if each]
    found.reverse()
    return found or [b"."]


def _target(directory: int, name: bytes) -> bytes | None:
    """What a symbolic link leads to; None for what is none, or is not there."""
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise


# What can be done with a path.


def open_directory(start: int) -> int:
    """The same directory, to be read."""
    return os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=start)


def open_at(start: int, path: bytes, follow: bool, flags: int) -> int:
    """Opens a file or a directory. A FIFO or a device is opened without waiting for anything, and keeps being so."""
    creates = bool(flags & os.O_CREAT)
    slash = path.endswith(b"/")
    follow = not slash and not flags & os.O_EXCL and follow if creates else slash or follow
    with place(start, path, follow) as found:
        if found.slash and creates and found.name != b".":
            raise failure(errno.EISDIR)
        if found.slash and not creates:
            flags |= os.O_DIRECTORY
        always = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            return os.open(found.name, flags | always, 0o666, dir_fd=found.directory)
        except OSError as error:
            # A link with O_DIRECTORY is "not a directory"; without, and for all others, it is one link too many.
            if error.errno == errno.ENOTDIR and stat.S_ISLNK(found.status().st_mode):
                raise failure(errno.ELOOP) from None
            raise


def stat_at(start: int, path: bytes, follow: bool) -> os.stat_result:
    with place(start, path, follow or path.endswith(b"/")) as found:
        found.check_slash()
        return found.status()


class Times(NamedTuple):
    """Times of a file to be set: nanoseconds since 1970, True for now, None to leave one as it is."""

    accessed: int | bool | None
    modified: int | bool | None

    def set(self, target: int | bytes, now: int, directory: int | None = None) -> None:
        """Sets those of an open file, or of a name in a directory."""
        if self.accessed is True and self.modified is True:
            # All that somebody may do who can write to a file, and doesn't own it.
            os.utime(target, dir_fd=directory, follow_symlinks=directory is None)
            return
        if self.accessed is None and self.modified is None:
            return
        status = os.stat(target, dir_fd=directory, follow_symlinks=directory is None)
        chosen = [
            now if wanted is True else found if wanted is None else int(wanted)
            for wanted, found in zip(self, (status.st_atime_ns, status.st_mtime_ns), strict=True)
        ]
        os.utime(target, ns=(chosen[0], chosen[1]), dir_fd=directory, follow_symlinks=directory is None)


def set_times_at(start: int, path: bytes, follow: bool, times: Times, now: int) -> None:
    with place(start, path, follow or path.endswith(b"/")) as found:
        found.check_slash()
        times.set(found.name, now, found.directory)


def create_directory(start: int, path: bytes) -> None:
    with place(start, path, follow=False) as found:
        os.mkdir(found.with_slash, dir_fd=found.directory)


def remove_directory(start: int, path: bytes) -> None:
    with place(start, path, follow=False) as found:
        os.rmdir(found.with_slash, dir_fd=found.directory)


def unlink(start: int, path: bytes) -> None:
    with place(start, path, follow=False) as found:
        os.unlink(found.with_slash, dir_fd=found.directory)


def rename(start: int, path: bytes, to: int, to_path: bytes) -> None:
    with place(start, path, follow=False) as old, place(to, to_path, follow=False) as new:
        os.rename(old.with_slash, new.with_slash, src_dir_fd=old.directory, dst_dir_fd=new.directory)


def link(start: int, path: bytes, to: int, to_path: bytes) -> None:
    with place(start, path, follow=path.endswith(b"/")) as old:
        old.check_slash()
        with place(to, to_path, follow=False) as new:
            new.check_slash()
            directories = {"src_dir_fd": old.directory, "dst_dir_fd": new.directory}
            os.link(old.name, new.name, **directories, follow_symlinks=False)


def symlink(target: bytes, start: int, path: bytes) -> None:
    """Raises EPERM for an absolute target: another program might follow it."""
    if target.startswith(b"/"):
        raise failure(errno.EPERM)
    if b"\0" in target:
        raise failure(errno.EINVAL)
    with place(start, path, follow=False) as found:
        found.check_slash()
        os.symlink(target, found.name, dir_fd=found.directory)


def read_link(start: int, path: bytes) -> bytes:
    """Raises EPERM where the target is absolute: it says something of the machine."""
    with place(start, path, follow=path.endswith(b"/")) as found:
        found.check_slash()
        target = os.readlink(found.name, dir_fd=found.directory)
    if target.startswith(b"/"):
        raise failure(errno.EPERM)
    return target
