"""Headers and trailers as all versions of wasi:http have them: the resource `fields`, without its errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from capabilities.http.cors import TOKEN
from capabilities.wasi import allowance
from capabilities.wasi.allowance import Allowance

FORBIDDEN = frozenset(
    (
        *("connection", "host", "http2-settings", "keep-alive", "proxy-authenticate", "proxy-authorization"),
        *("proxy-connection", "transfer-encoding", "upgrade"),
    )
)
"""What a guest neither sets nor sees, as it belongs to the connection or is said elsewhere (`authority`): Wasmtime has
the same names."""

MAX_BYTES = 128 * 1024
"""How large all names and values of one `fields` may be together."""

MAX_FIELDS = 1024
"""How many values one `fields` may hold."""

_CONTROL = re.compile(rb"[\0-\x08\x0a-\x1f\x7f]")
"""What no value may hold: RFC 9110 section 5.5."""

Pair = tuple[str, bytes]


class InvalidField(Exception):
    """A name or a value has another syntax than HTTP's."""


class ForbiddenField(Exception):
    """A name is in FORBIDDEN."""


class FieldsTooLarge(Exception):
    """There would be more than MAX_BYTES or MAX_FIELDS."""


PAIR_BYTES = 128
"""What a name and a value take in the host's memory, besides their own bytes."""


class FieldList:
    """Names and values in order. Names keep the case that they were given, and are the same in any case.

    What a guest puts in counts in its allowance as long as there is the list.
    """

    __slots__ = ("_allowance", "_held", "pairs", "size")

    def __init__(self, pairs: Iterable[Pair] = ()) -> None:
        """`pairs` are not checked: they come from the host."""
        self.pairs: list[Pair] = list(pairs)
        self.size = -1
        """Bytes of all names and values, or -1 where nobody has counted."""
        self._allowance: Allowance | None = None
        self._held = 0

    def __del__(self) -> None:
        if self._allowance is not None:
            self._allowance.give_back(self._held)

    def _hold(self, size: int) -> None:
        """Counts the list as one of so many bytes. Raises GuestFault where the guest holds too much."""
        if self._allowance is None:
            self._allowance = allowance.of_guest.get()
        self._allowance.take(size - self._held)
        self._held = size

    @classmethod
    def checked(cls, pairs: Iterable[Pair]) -> FieldList:
        """A list with what a guest gives. Raises InvalidField, ForbiddenField, FieldsTooLarge."""
        made = cls()
        for name, value in pairs:
            made.append(name, value)
        return made

    def get(self, name: str) -> list[bytes]:
        lower = name.lower()
        return [value for each, value in self.pairs if each.lower() == lower]

    def has(self, name: str) -> bool:
        lower = name.lower()
        return any(each.lower() == lower for each, _ in self.pairs)

    def set(self, name: str, values: Sequence[bytes]) -> None:
        """Puts values in the place of those of that name. Nothing is changed where it raises what `checked` does."""
        check_name(name)
        for value in values:
            _check_value(value)
        lower = name.lower()
        kept = [pair for pair in self.pairs if pair[0].lower() != lower]
        size = _size(kept) + sum(len(name) + len(value) for value in values)
        _check_size(size, len(kept) + len(values))
        self._hold(size + PAIR_BYTES * (len(kept) + len(values)))
        self.pairs = kept + [(name, value) for value in values]
        self.size = size

    def append(self, name: str, value: bytes) -> None:
        """Raises what `checked` does."""
        check_name(name)
        _check_value(value)
        size = (_size(self.pairs) if self.size < 0 else self.size) + len(name) + len(value)
        _check_size(size, len(self.pairs) + 1)
        self._hold(size + PAIR_BYTES * (len(self.pairs) + 1))
        self.pairs.append((name, value))
        self.size = size

    def delete(self, name: str) -> list[bytes]:
        """Returns the values that were there. Raises InvalidField and ForbiddenField."""
        check_name(name)
        found = self.get(name)
        if found:
            lower = name.lower()
            self.pairs = [pair for pair in self.pairs if pair[0].lower() != lower]
            self.size = -1
        return found

    def copy(self) -> FieldList:
        """Another one with the same names and values. Raises GuestFault where the guest holds too much."""
        made = FieldList(self.pairs)
        made._hold(PAIR_BYTES * len(made.pairs))
        return made


def of_message(headers: Sequence[tuple[bytes, bytes]]) -> FieldList:
    """The headers of a message that came over the wire, as a guest sees them: names in lower case."""
    found = [(_seen_name(name), value) for name, value in headers]
    return FieldList(pair for pair in found if pair[0])


@lru_cache(maxsize=1024)
def _seen_name(name: bytes) -> str:
    """A name in lower case; nothing for one that a guest doesn't see."""
    lower = name.decode("latin-1").lower()
    return "" if lower in FORBIDDEN else lower


@lru_cache(maxsize=1024)
def _state(name: str) -> type[Exception] | None:
    if not name or not TOKEN.issuperset(name):
        return InvalidField
    return ForbiddenField if name.lower() in FORBIDDEN else None


def is_name(name: str) -> bool:
    """Whether it is the name of a field by its syntax."""
    return bool(name) and TOKEN.issuperset(name)


def check_name(name: str) -> None:
    """Raises InvalidField and ForbiddenField."""
    problem = _state(name) if len(name) <= 100 else None if is_name(name) else InvalidField
    if problem is not None:
        raise problem(name[:100])


def _check_value(value: bytes) -> None:
    if _CONTROL.search(value):
        raise InvalidField("a value holds a control character")


def _size(pairs: Iterable[Pair]) -> int:
    return sum(len(name) + len(value) for name, value in pairs)


def _check_size(size: int, count: int) -> None:
    if size > MAX_BYTES or count > MAX_FIELDS:
        raise FieldsTooLarge(f"{count} fields of {size} bytes are more than {MAX_FIELDS} or {MAX_BYTES} bytes")
