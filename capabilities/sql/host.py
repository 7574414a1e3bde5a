"""Answers a guest's `sql` imports with the databases that it is granted."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from bindgen.runtime import Err
from capabilities import notices
from capabilities.bindings import sql
from capabilities.errors import CapabilityError
from capabilities.grants import Grants, NotGranted
from capabilities.sql import (
    NAME_LIMIT,
    PARAMETER_LIMIT,
    PARAMETERS,
    STATEMENT_LIMIT,
    AccessViolation,
    Backend,
    ConstraintViolation,
    Kind,
    Rows,
    SqlError,
    SyntaxFault,
)

STATEMENTS_LIMIT = 64 * 1024 * 1024
"""How much an instance may have prepared and not dropped, in bytes of statements and their parameters."""

_CASES: Final[tuple[tuple[type[CapabilityError], type[sql.SqlError]], ...]] = (
    (SyntaxFault, sql.SqlErrorSyntaxError),
    (ConstraintViolation, sql.SqlErrorConstraintViolation),
    (AccessViolation, sql.SqlErrorAccessViolation),
    (CapabilityError, sql.SqlErrorUnexpectedError),
)
"""Which error is which case: the first one that fits."""

_TYPES: Final[Mapping[int, Callable[[Any], sql.DataType]]] = {
    Kind.INT32: sql.DataTypeInt32,
    Kind.INT64: sql.DataTypeInt64,
    Kind.UINT32: sql.DataTypeUint32,
    Kind.UINT64: sql.DataTypeUint64,
    Kind.FLOAT: sql.DataTypeFloat,
    Kind.DOUBLE: sql.DataTypeDouble,
    Kind.TEXT: sql.DataTypeStr,
    Kind.BOOLEAN: sql.DataTypeBoolean,
    Kind.DATE: sql.DataTypeDate,
    Kind.TIME: sql.DataTypeTime,
    Kind.TIMESTAMP: sql.DataTypeTimestamp,
    Kind.BINARY: sql.DataTypeBinary,
    Kind.NULL: lambda _: sql.DataTypeNull(),
}


def hosts(grants: Mapping[str, Backend]) -> dict[str, object]:
    """What answers the interface of the family: see `Databases` for `grants`."""
    return {"sql": Databases(grants)}


class Databases:
    """Makes what implements `SqlHost` for each instance of a guest.

    `grants` says which backend keeps the database of which name; the name `*` stands for every name that has no grant
    of its own.
    """

    def __init__(self, grants: Mapping[str, Backend]) -> None:
        self.grants = Grants("sql", "database", grants)
        self._numbers = itertools.count(1)

    def session(self) -> Session:
        return Session(self.grants, next(self._numbers))


class Session:
    """Implements `SqlHost` for one instance."""

    def __init__(self, grants: Grants[Backend], number: int) -> None:
        self._grants = grants
        self._number = number
        self.prepared_bytes = 0
        """What the instance has prepared and not dropped."""
        self._used: dict[int, Backend] = {}
        """The backends that the instance has used, by their identity."""

    async def statement_prepare(self, query: str, params: list[str]) -> sql.Statement:
        """Can't fail: what is wrong with a statement shows when it is run."""
        parameter_bytes = sum(len(each.encode()) for each in params)
        size = len(query.encode()) + parameter_bytes
        if size - parameter_bytes > STATEMENT_LIMIT or parameter_bytes > PARAMETER_LIMIT or len(params) > PARAMETERS:
            return Statement(self, "", (), fault=_too_long())
        if self.prepared_bytes + size > STATEMENTS_LIMIT:
            text = f"this instance has prepared {STATEMENTS_LIMIT} bytes of statements: drop some of them first"
            return Statement(self, "", (), fault=SqlError(text))
        return Statement(self, query, tuple(params), size)

    async def sql_open(self, name: str) -> sql.Sql:
        """Raises Err[SqlError]: `unexpected-error` for a name that is not granted."""
        try:
            backend = self._grants.of(name)
        except NotGranted as error:
            raise Err(sql.SqlErrorUnexpectedError(str(error))) from None
        if len(name.encode()) > NAME_LIMIT:
            raise Err(sql.SqlErrorUnexpectedError(f"a database's name may have {NAME_LIMIT} bytes"))
        self._used[id(backend)] = backend
        return Database(backend, self._number, name)

    async def close(self) -> None:
        await asyncio.gather(*(backend.end(self._number) for backend in self._used.values()))


class Statement:
    """Implements the resource `statement`. It counts as prepared until the guest has dropped it."""

    __slots__ = ("_session", "_size", "fault", "parameters", "query")

    def __init__(
        self, session: Session, query: str, parameters: tuple[str, ...], size: int = 0, fault: SqlError | None = None
    ) -> None:
        """`size` is in bytes. `fault` is why it can't be run, where that is known already."""
        self.query = query
        self.parameters = parameters
        self.fault = fault
        self._session = session
        self._size = size
        session.prepared_bytes += size

    def __del__(self) -> None:
        self._session.prepared_bytes -= self._size


class Database:
    """Implements the resource `sql`."""

    __slots__ = ("_backend", "_name", "_session")

    def __init__(self, backend: Backend, session: int, name: str) -> None:
        self._backend = backend
        self._session = session
        self._name = name

    async def query(self, q: sql.Statement) -> list[sql.RowItem]:
        """Raises Err[SqlError]."""
        rows = await self._run(cast(Statement, q))
        return [
            sql.RowItem(column, _TYPES[kind](value))
            for row in rows.rows
            for column, (kind, value) in zip(rows.columns, row, strict=True)
        ]

    async def exec(self, q: sql.Statement) -> None:
        """Raises Err[SqlError]."""
        await self._run(cast(Statement, q))

    async def _run(self, statement: Statement) -> Rows:
        try:
            _check(statement)
            return await self._backend.run(self._session, self._name, statement.query, list(statement.parameters))
        except CapabilityError as error:
            if error.notice:
                notices.tell(error.notice)
            case = next(case for kind, case in _CASES if isinstance(error, kind))
            raise Err(case(str(error))) from None


def _check(statement: Statement) -> None:
    """Raises SqlError for what no backend is asked to run."""
    if statement.fault is not None:
        raise statement.fault
    if not statement.query.strip():
        raise SyntaxFault("the statement is empty")
    if "\0" in statement.query:
        raise SyntaxFault("the statement holds the character U+0000")
    for number, parameter in enumerate(statement.parameters, 1):
        if "\0" in parameter:
            raise SqlError(f"parameter {number} holds the character U+0000, which a database's texts can't")


def _too_long() -> SqlError:
    text = (
        f"a statement may have {STATEMENT_LIMIT} bytes, and {PARAMETERS} parameters of {PARAMETER_LIMIT} bytes in all"
    )
    return SqlError(text)
