"""A greeter that knows its manners."""

from __future__ import annotations

from collections.abc import Mapping

from bindgen.runtime import Err
from capabilities.errors import ConfigError

from . import greeter
from .greeter import (
    GreeterErrorBookFull,
    GreeterErrorNameTooLong,
    GreeterErrorNobody,
    GreeterErrorSignedBefore,
    Person,
)

NAME_LIMIT = 40
BOOK_LIMIT = 1000


class PoliteGreeter:
    """Implements `GreeterHost`."""

    INTERFACES = (greeter,)
    OPTIONAL = ("GREETING",)

    def __init__(self, configs: Mapping[str, str]) -> None:
        self._greeting = configs.get("GREETING", "Good day")
        if not self._greeting:
            raise ConfigError("it's empty; leave it out, or say something", "GREETING")

    async def greet(self, person: Person) -> str:
        return f"{self._greeting}, {_full_name(person)}!"

    async def guest_book_new(self) -> GuestBook:
        return GuestBook()


class GuestBook:
    """Implements `greeter.GuestBook`. It goes when the guest drops it, or ends."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    async def sign(self, person: Person) -> int:
        name = _full_name(person)
        if name in self._names:
            raise Err(GreeterErrorSignedBefore(name))
        if len(self._names) == BOOK_LIMIT:
            raise Err(GreeterErrorBookFull())
        self._names.add(name)
        return len(self._names)


def _full_name(person: Person) -> str:
    if not person.name:
        raise Err(GreeterErrorNobody())
    name = f"{person.title} {person.name}" if person.title else person.name
    if len(name) > NAME_LIMIT:
        raise Err(GreeterErrorNameTooLong(NAME_LIMIT))
    return name
