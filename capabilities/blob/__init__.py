"""Containers of objects, which may be larger than memory: what stands behind the interface `blob-store`.

`host` answers the guests and hands their calls to the backends: `filesystem`, `aws_s3` and `azblob`; `transfer` is
what the two have in common that reach their objects over a network. This module holds what the backends share: their
Protocols, and the limits and errors that make them answer alike.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from capabilities.errors import CapabilityError
from capabilities.grants import quote

NAME_LIMIT = 1024
"""How long an object's name may be, in bytes of UTF-8: what S3 allows. It has one byte at least."""

READ_LIMIT = 8 * 1024 * 1024
"""How much one `read` returns at most, in bytes."""

PAGE = 1000
"""How many names one page of a listing has at most, and so many are deleted with one request."""


class BlobError(CapabilityError):
    """Anything that can go wrong with objects and has no class of its own."""


class ContainerNotFound(BlobError):
    """There is no container of that name."""


class ObjectNotFound(BlobError):
    """There is no object of that name."""


class InvalidName(BlobError):
    """No container, or no object, can have that name."""


class NotPermitted(BlobError):
    """What keeps the objects refuses the credentials, or doesn't allow them this."""


class Unavailable(BlobError):
    """What keeps the objects can't be reached, or doesn't answer in time."""


class Replaced(BlobError):
    """The object was replaced or deleted while it was read, or written."""


class TooLarge(BlobError):
    """The object is larger than what keeps it allows."""


class Busy(BlobError):
    """Too many streams are open at once, or too much of what they hold is under way."""


@dataclass(frozen=True, slots=True)
class Info:
    """What is known of a container or an object. `created` is in seconds since the beginning of 1970; `size` is that of
    an object, in bytes."""

    created: int
    size: int = 0


class Reader(Protocol):
    """Reads one object from its beginning to its end, as it was when the reader was made."""

    @property
    def left(self) -> int:
        """How many bytes were not read yet."""
        ...

    async def read(self, size: int) -> bytes:
        """The next bytes: `size` of them, or READ_LIMIT or what is left where that is less.

        Raises BlobError. After an error, the next call begins at the same place.
        """
        ...

    async def close(self) -> None:
        """Lets go of what the reader holds. It's of no use afterwards."""
        ...


class Writer(Protocol):
    """Writes one object, which nobody sees before it is committed. After an error it can only be aborted."""

    async def write(self, data: bytes) -> None:
        """Adds to what was written before. Raises BlobError."""
        ...

    async def commit(self) -> None:
        """Puts the object in place, instead of one of the same name. Raises BlobError."""
        ...

    async def abort(self) -> None:
        """Drops what was written, unless it is committed."""
        ...


class Container(Protocol):
    """The objects of one container. All methods raise BlobError."""

    async def info(self) -> Info: ...

    async def read(self, name: str) -> Reader:
        """Raises ObjectNotFound."""
        ...

    async def write(self, name: str) -> Writer: ...

    def pages(self) -> AsyncIterator[list[str]]:
        """The names of all objects, in no particular order."""
        ...

    async def has(self, name: str) -> bool: ...

    async def object_info(self, name: str) -> Info:
        """Raises ObjectNotFound."""
        ...

    async def delete(self, name: str) -> None:
        """Raises ObjectNotFound."""
        ...

    async def delete_all(self, names: Sequence[str]) -> None:
        """Deletes those of them that are there."""
        ...


class Backend(Protocol):
    """Where containers are kept.

    A backend is made as `Backend(configs)` from a mapping of strings: that checks the configuration, raises
    ConfigError, and does no I/O.
    """

    async def open(self, name: str) -> Container:
        """The container of that name, which costs nothing until it is used. Raises InvalidName."""
        ...

    async def close(self) -> None:
        """Lets go of what the backend holds. Its containers and streams are of no use afterwards."""
        ...


def check_name(name: str) -> None:
    """Raises InvalidName for what is no object's name."""
    if not name:
        raise InvalidName("an object's name can't be empty")
    size = len(name.encode())
    if size > NAME_LIMIT:
        raise InvalidName(f"an object's name of {size} bytes is longer than the {NAME_LIMIT} that it may have")


def object_not_found(name: str) -> ObjectNotFound:
    return ObjectNotFound(f"there is no object {quote(name)}")


def replaced() -> Replaced:
    return Replaced("the object was replaced or deleted while it was read")
