"""Files and directories of the host in the machine, over 9p.

A directory is shared as it is. A file can't be: it is put into a private directory, under the name that the machine
knows it by, as a hard link where the file system has them, else as a copy that is brought back at the end.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from slight_py.errors import UsageError
from unikernel.machine import SHARES_LIMIT, Share

log = logging.getLogger("slight_py")

Asked: TypeAlias = tuple[Path, str, bool]
"""What --volume asks for: a path of the host, a path in the machine, whether it may be written to."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A file or a directory of the host. `host` is free of symbolic links, and was there when it was looked at."""

    host: Path
    guest: PurePosixPath
    writable: bool
    is_file: bool

    @property
    def mounted_at(self) -> PurePosixPath:
        return self.guest.parent if self.is_file else self.guest


def check(asked: Iterable[Asked]) -> list[Volume]:
    """The volumes that are asked for. Raises UsageError with a line for each mistake."""
    errors: list[str] = []
    volumes: list[Volume] = []
    for host, guest, writable in asked:
        try:
            volumes.append(_volume(host, guest, writable))
        except UsageError as error:
            errors += error.lines
    errors = errors or _clashes(volumes)
    if errors:
        raise UsageError(*errors)
    return volumes


def _volume(host: Path, guest: str, writable: bool) -> Volume:
    place = f"--volume {host}:{guest}"
    path = PurePosixPath(guest)
    if not path.is_absolute() or ".." in path.parts:
        raise UsageError(f"{place}: {guest!r} is not a path in the machine; write one that begins with /, as in /data")
    try:
        found = host.resolve(strict=True)
        kind = found.stat().st_mode
    except FileNotFoundError:
        raise UsageError(f"{place}: there is no {host} on this machine; create it, or name another one") from None
    except (OSError, RuntimeError) as error:
        raise UsageError(f"{place}: {host} can't be used: {getattr(error, 'strerror', None) or error}") from None
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise UsageError(f"{place}: {host} is neither a file nor a directory; only those can be shared")
    wanted = os.R_OK | (os.W_OK if writable else 0) | (os.X_OK if stat.S_ISDIR(kind) else 0)
    if not os.access(found, wanted):
        hint = "; add :ro to share it for reading alone" if writable and os.access(found, wanted & ~os.W_OK) else ""
        raise UsageError(f"{place}: you may not read{' and write' if writable else ''} {host}{hint}")
    if stat.S_ISREG(kind) and not path.name:
        raise UsageError(f"{place}: a file needs a name in the machine; write one, as in /data/{found.name}")
    # Collapses `//` as well, which PurePosixPath keeps at the front.
    return Volume(found, PurePosixPath("/", *path.parts[1:]), writable, stat.S_ISREG(kind))


def _clashes(volumes: list[Volume]) -> list[str]:
    errors: list[str] = []
    seen: dict[PurePosixPath, Volume] = {}
    for volume in volumes:
        if volume.guest in seen:
            errors.append(f"--volume: {volume.guest} is given twice; give each volume a path of its own")
        seen[volume.guest] = volume
    for path, shared in _by_mount(volumes).items():
        if len(shared) > 1 and not all(each.is_file for each in shared):
            errors.append(f"--volume: {path} is a volume, and holds files that are volumes; put them elsewhere")
        elif len({each.writable for each in shared}) > 1:
            errors.append(f"--volume: of the files in {path} some are :ro and some are not; put them apart")
        elif path == PurePosixPath("/"):
            errors.append(
                f"--volume: {shared[0].guest} lies in /, which is the image's; choose a directory, as in /data"
            )
    if len(_by_mount(volumes)) > SHARES_LIMIT:
        errors.append(
            f"--volume: the machine takes at most {SHARES_LIMIT} directories; put files into one, or share a "
            "directory above several"
        )
    return errors


def _by_mount(volumes: Iterable[Volume]) -> dict[PurePosixPath, list[Volume]]:
    found: dict[PurePosixPath, list[Volume]] = {}
    for volume in volumes:
        found.setdefault(volume.mounted_at, []).append(volume)
    return found


@contextmanager
def shared(volumes: Iterable[Volume]) -> Iterator[list[tuple[Share, str]]]:
    """What the machine gets for volumes that were checked: shares, each with the path that it is mounted at.

    Outer directories come before those in them. At the end the private directories are removed, and copies and files
    that were replaced are brought back. Raises UsageError.
    """
    with ExitStack() as stack:
        shares: list[tuple[Share, str]] = []
        for number, (path, each) in enumerate(sorted(_by_mount(volumes).items())):
            folder = stack.enter_context(_folder_of_files(each)) if each[0].is_file else each[0].host
            shares.append((Share(f"volume{number}", folder, each[0].writable), str(path)))
        yield shares


@contextmanager
def _folder_of_files(files: list[Volume]) -> Iterator[Path]:
    with ExitStack() as stack:
        folder = stack.enter_context(_private_folder(files[0].host.parent))
        for file in files:
            stack.enter_context(_in_folder(file, folder))
        yield folder


@contextmanager
def _private_folder(beside: Path) -> Iterator[Path]:
    """Beside a file, where a hard link to it can be; elsewhere if that is not permitted."""
    try:
        made = tempfile.TemporaryDirectory(prefix=".slight-py-", dir=beside, ignore_cleanup_errors=True)
    except OSError:
        made = tempfile.TemporaryDirectory(prefix="slight-py-", ignore_cleanup_errors=True)
    with made as folder:
        yield Path(folder)


@contextmanager
def _in_folder(file: Volume, folder: Path) -> Iterator[None]:
    place = folder / file.guest.name
    try:
        _link_or_copy(file.host, place)
        before = place.stat()
    except OSError as error:
        raise UsageError(f"--volume {file.host}: it can't be shared: {error.strerror}") from None
    linked = os.path.samefile(place, file.host)
    try:
        yield
    finally:
        if file.writable:
            _bring_back(file.host, place, before, linked)


def _link_or_copy(file: Path, place: Path) -> None:
    with suppress(OSError):
        os.link(file, place, follow_symlinks=False)
        return
    # Opened without following: what was a file when it was looked at may have become a link since.
    with open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as source, place.open("xb") as copy:
        shutil.copyfileobj(source, copy)


def _bring_back(file: Path, place: Path, before: os.stat_result, linked: bool) -> None:
    """Writes what the machine made of a file over the file, unless it was the same file all along.

    The machine may have put anything there, a symbolic link to a file of the user's among others: only a plain file
    is taken.
    """
    try:
        source = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        log.warning("--volume %s: the machine left no file in its place; it is as it was", file)
        return
    with open(source, "rb") as changed:
        after = os.fstat(source)
        same = (after.st_ino, after.st_dev) == (before.st_ino, before.st_dev)
        untouched = (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        if not stat.S_ISREG(after.st_mode) or (same and (linked or untouched)):
            return
        try:
            with open(os.open(file, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC), "wb") as target:
                shutil.copyfileobj(changed, target)
        except OSError as error:
            log.error("--volume %s: what the machine wrote can't be brought back: %s", file, error.strerror)
