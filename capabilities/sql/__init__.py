"""Relational databases: what stands behind the interface `sql`.

`host` answers the guests and hands their statements to the backends: `sqlite` and `postgres`. This module holds what
the backends share: their Protocol, values, limits and errors. `connections` lends their connections to the guests.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Protocol, TypeAlias

from capabilities.errors import CapabilityError

NAME_LIMIT = 65_536
"""How long the name of a database may be, in bytes of UTF-8."""

STATEMENT_LIMIT = 256 * 1024
"""How long a statement may be, in bytes of UTF-8."""

PARAMETER_LIMIT = 16 * 1024 * 1024
"""How long the parameters of a statement may be together, in bytes of UTF-8."""

PARAMETERS = 1_000
"""How many parameters a statement may have."""

RESULT_LIMIT = 64 * 1024 * 1024
"""How long the values of a result may be together, in bytes, as the database hands them out."""

RESULT_VALUES = 200_000
"""How many values a result may have: columns times rows. They are handed to a guest in about 0.3 seconds, in which
nobody else has a turn."""

STATEMENT_SECONDS = 20.0
"""How long a statement may run: less than a request may take, so that its handler hears of it."""


class SqlError(CapabilityError):
    """Anything that can go wrong with a statement and has no class of its own."""


class SyntaxFault(SqlError):
    """The statement isn't one, or names what doesn't exist."""


class ConstraintViolation(SqlError):
    """The data doesn't keep to a constraint."""


class AccessViolation(SqlError):
    """Whoever runs the statement may not do this."""


class Kind(IntEnum):
    """What a value is, and in parentheses its type in Python."""

    NULL = 0
    """(None)"""
    INT32 = 1
    """(int)"""
    INT64 = 2
    """(int)"""
    UINT32 = 3
    """(int)"""
    UINT64 = 4
    """(int)"""
    FLOAT = 5
    """In 32 bits (float)"""
    DOUBLE = 6
    """In 64 bits (float)"""
    TEXT = 7
    """(str) So are the kinds that have no other place here: `numeric`, arrays, JSON."""
    BOOLEAN = 8
    """(bool)"""
    DATE = 9
    """As in 2026-11-30 (str)"""
    TIME = 10
    """As in 17:05:00.25 (str)"""
    TIMESTAMP = 11
    """As in 2026-11-30 17:05:00.25+00 (str)"""
    BINARY = 12
    """(bytes)"""


Value: TypeAlias = "tuple[int, int | float | str | bool | bytes | None]"
"""A number of `Kind`, and the value."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What a statement returns."""

    columns: tuple[str, ...]
    """The names of the columns, in their order. More than one may have the same name."""
    rows: list[tuple[Value, ...]]


class Backend(Protocol):
    """Where databases are kept.

    A backend is made as `Backend(configs)` from a mapping of strings: that checks the configuration, raises
    ConfigError, and does no I/O. Its methods take and return plain values, so that they can be called from another
    process.
    """

    REQUIRED: ClassVar[tuple[str, ...]]
    """The keys that the configuration must have."""

    OPTIONAL: ClassVar[tuple[str, ...]]
    """The keys that it may have."""

    async def run(self, session: int, name: str, statement: str, parameters: list[str]) -> Rows:
        """Runs one statement in the database `name`, and returns its rows; none where it's not of the kind that has.

        `session` is a number of the caller's choice. A transaction that a session begins is its own until it ends it;
        without one, each statement is a transaction. A parameter is the value of the placeholder `$N`, from 1, and is
        converted to the type that the statement needs there.

        Raises SqlError. A call that is cancelled stops the statement.
        """
        ...

    async def end(self, session: int) -> None:
        """Takes back what the session's open transactions have done."""
        ...

    async def close(self) -> None:
        """Lets go of what the backend holds."""
        ...


def too_large() -> SqlError:
    text = f"the result is too large: it may have {RESULT_VALUES} values and {RESULT_LIMIT} bytes; use LIMIT"
    return SqlError(text)
