"""Names that guests choose, as names of files: any name has a file of its own, and plain ones keep their name.

The name of a file is the guest's name, percent-encoded as in a URL (RFC 3986). Names are told apart by how they start:

- `.` starts no such file (a leading dot is encoded): such files are those that are being written.
- `%` alone is the empty name.
- `%%` starts the file of a name whose encoded form a directory can't hold: the name's SHA-256 follows. That file has
  the name in it, before its content.

Guests are hostile: no path is ever made from their names otherwise, and no symbolic link is followed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote as percent_encode
from urllib.parse import unquote as percent_decode

NAME_MAX = 255
"""How long a file's name may be on Linux, in bytes (`limits.h`)."""

NAME_LIMIT = 65_536
"""How long the name of a guest's may be, in bytes of UTF-8, that `read_name` finds in a file."""

IN_DIRECTORY = os.O_NOFOLLOW | os.O_CLOEXEC
"""What every file is opened with."""

_LENGTH = struct.Struct("<I")
"""What starts a file that has its name in it."""


def file_name(name: str) -> str:
    """The name of a name's file, which no other has. It is no path: neither `.`, `..`, nor has it a `/`."""
    encoded = percent_encode(name, safe="") or "%"
    if encoded.startswith("."):
        encoded = f"%2E{encoded[1:]}"
    if len(encoded) > NAME_MAX:
        return f"%%{hashlib.sha256(name.encode()).hexdigest()}"
    return encoded


def prefix(file: str, name: str) -> bytes:
    """What comes before the content in the file of that name."""
    if not file.startswith("%%"):
        return b""
    data = name.encode()
    return _LENGTH.pack(len(data)) + data


def read_name(file: str, directory: int) -> str | None:
    """The name whose file this is; None where `file_name` gives no name this file, or the file has vanished."""
    if not file.isascii() or file.startswith("."):
        return None
    try:
        if file.startswith("%%"):
            with open_plain(file, directory) as descriptor:
                data = os.read(descriptor, _LENGTH.size + NAME_LIMIT)
            (length,) = _LENGTH.unpack_from(data)
            name = data[_LENGTH.size : _LENGTH.size + length].decode()
        else:
            name = "" if file == "%" else percent_decode(file, errors="strict")
    except (FileNotFoundError, UnicodeDecodeError, struct.error):
        return None
    return name if file_name(name) == file else None


@contextmanager
def open_plain(file: str, directory: int) -> Iterator[int]:
    """A descriptor of a plain file, to read. Whatever is none raises FileNotFoundError, as one that isn't there."""
    descriptor = open_descriptor(file, directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_descriptor(file: str, directory: int) -> int:
    """The same as `open_plain`, but that the caller closes it."""
    try:
        # O_NONBLOCK: opening a pipe would wait for somebody to write to it.
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | IN_DIRECTORY, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a symbolic link, a socket
            raise FileNotFoundError from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError
    return descriptor
