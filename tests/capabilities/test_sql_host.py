"""What a guest is told through the interface `sql`."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from bindgen.runtime import Err
from capabilities import notices
from capabilities.bindings import sql
from capabilities.sql import (
    PARAMETER_LIMIT,
    PARAMETERS,
    STATEMENT_LIMIT,
    AccessViolation,
    ConstraintViolation,
    Kind,
    Rows,
    SqlError,
    SyntaxFault,
)
from capabilities.sql.host import STATEMENTS_LIMIT, Databases, Session, hosts


class Fake:
    """A backend that answers with what it is given."""

    def __init__(self, answer: Rows | Exception) -> None:
        self.answer = answer
        self.calls: list[tuple[Any, ...]] = []
        self.ended: list[int] = []

    async def run(self, session: int, name: str, statement: str, parameters: list[str]) -> Rows:
        self.calls.append((session, name, statement, parameters))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def end(self, session: int) -> None:
        self.ended.append(session)

    async def close(self) -> None:
        pass


def session_of(backend: Any, name: str = "db") -> Session:
    host = hosts({name: backend})["sql"]
    assert isinstance(host, Databases)
    return host.session()


async def query(backend: Fake, text: str = "SELECT 1", *parameters: str) -> list[sql.RowItem]:
    session = session_of(backend)
    database = await session.sql_open("db")
    return await database.query(await session.statement_prepare(text, list(parameters)))


def test_every_kind_of_value_has_its_type() -> None:
    values = {
        Kind.INT32: (1, sql.DataTypeInt32(1)),
        Kind.INT64: (2, sql.DataTypeInt64(2)),
        Kind.UINT32: (3, sql.DataTypeUint32(3)),
        Kind.UINT64: (4, sql.DataTypeUint64(4)),
        Kind.FLOAT: (0.5, sql.DataTypeFloat(0.5)),
        Kind.DOUBLE: (0.25, sql.DataTypeDouble(0.25)),
        Kind.TEXT: ("a", sql.DataTypeStr("a")),
        Kind.BOOLEAN: (True, sql.DataTypeBoolean(True)),
        Kind.DATE: ("2026-11-30", sql.DataTypeDate("2026-11-30")),
        Kind.TIME: ("17:05:00", sql.DataTypeTime("17:05:00")),
        Kind.TIMESTAMP: ("2026-11-30 17:05:00", sql.DataTypeTimestamp("2026-11-30 17:05:00")),
        Kind.BINARY: (b"\0", sql.DataTypeBinary(b"\0")),
        Kind.NULL: (None, sql.DataTypeNull()),
    }
    assert values.keys() == set(Kind)
    columns = tuple(kind.name for kind in values)
    row: Any = tuple((int(kind), value) for kind, (value, _) in values.items())
    items = asyncio.run(query(Fake(Rows(columns, [row]))))
    assert items == [sql.RowItem(kind.name, item) for kind, (_, item) in values.items()]


def test_rows_come_one_after_the_other_with_doubles_of_columns() -> None:
    rows = Rows(("a", "b", "a"), [((2, 1), (2, 2), (2, 3)), ((2, 4), (2, 5), (2, 6))])
    items = asyncio.run(query(Fake(rows)))
    assert [(item.field_name, item.value) for item in items] == [
        (name, sql.DataTypeInt64(value)) for name, value in zip("abaaba", range(1, 7), strict=True)
    ]


@pytest.mark.parametrize(
    ("error", "case"),
    [
        (SyntaxFault("text"), sql.SqlErrorSyntaxError),
        (ConstraintViolation("text"), sql.SqlErrorConstraintViolation),
        (AccessViolation("text"), sql.SqlErrorAccessViolation),
        (SqlError("text"), sql.SqlErrorUnexpectedError),
    ],
)
def test_every_error_has_its_case(error: SqlError, case: type[Any]) -> None:
    with pytest.raises(Err) as caught:
        asyncio.run(query(Fake(error)))
    assert caught.value.value == case("text")


def test_the_user_is_told_once_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    notices.forget()
    backend = Fake(SqlError("it is away", "postgres HOST: start it"))
    with caplog.at_level(logging.WARNING, "slight_py"):
        for _ in range(2):
            with pytest.raises(Err) as caught:
                asyncio.run(query(backend))
    assert caught.value.value == sql.SqlErrorUnexpectedError("it is away")
    assert caplog.messages == ["postgres HOST: start it"]


def test_a_name_that_is_not_granted_is_an_error_that_says_what_is() -> None:
    with pytest.raises(Err) as caught:
        asyncio.run(session_of(Fake(SqlError(""))).sql_open("other"))
    assert caught.value.value == sql.SqlErrorUnexpectedError("no database 'other' is granted; granted: 'db'")


def test_preparing_can_not_fail_and_running_tells_why() -> None:
    backend = Fake(Rows((), []))
    cases: list[tuple[str, list[str], type[Any], str]] = [
        ("", [], sql.SqlErrorSyntaxError, "empty"),
        (" \n", [], sql.SqlErrorSyntaxError, "empty"),
        ("SELECT '\0'", [], sql.SqlErrorSyntaxError, "U+0000"),
        ("SELECT $1", ["a\0b"], sql.SqlErrorUnexpectedError, "parameter 1 holds the character U+0000"),
        ("é" * STATEMENT_LIMIT, [], sql.SqlErrorUnexpectedError, "may have"),
        ("SELECT 1", ["a" * (PARAMETER_LIMIT + 1)], sql.SqlErrorUnexpectedError, "may have"),
        ("SELECT 1", [""] * (PARAMETERS + 1), sql.SqlErrorUnexpectedError, "may have"),
    ]

    async def scenario() -> None:
        for text, parameters, case, words in cases:
            with pytest.raises(Err) as caught:
                await query(backend, text, *parameters)
            assert type(caught.value.value) is case
            assert words in caught.value.value.value

    asyncio.run(scenario())
    assert backend.calls == []


def test_an_instance_keeps_a_bounded_amount_of_statements() -> None:
    async def scenario() -> None:
        session = session_of(Fake(Rows((), [])))
        database = await session.sql_open("db")
        parameter = "a" * PARAMETER_LIMIT
        most = STATEMENTS_LIMIT // PARAMETER_LIMIT - 1
        for _ in range(3):
            kept = [await session.statement_prepare("SELECT $1", [parameter]) for _ in range(most)]
            await database.exec(kept[-1])
            refused = await session.statement_prepare("SELECT $1", [parameter + "a" * 100])
            one_more = await session.statement_prepare("SELECT $1", [parameter])
            for statement, words in ((refused, "may have"), (one_more, "drop some")):
                with pytest.raises(Err) as caught:
                    await database.exec(statement)
                assert words in caught.value.value.value
            # What the guest has dropped counts no more.
            kept.clear()
        del statement, refused, one_more
        assert session.prepared_bytes == 0

    asyncio.run(scenario())


def test_each_instance_is_a_session_that_ends_where_it_was_used() -> None:
    async def scenario() -> None:
        used, unused = Fake(Rows((), [])), Fake(Rows((), []))
        host: Any = hosts({"db": used, "other": unused})["sql"]
        sessions = [host.session(), host.session()]
        for session in sessions:
            database = await session.sql_open("db")
            await database.exec(await session.statement_prepare("SELECT $1", ["a"]))
            await session.close()
        assert used.calls == [(1, "db", "SELECT $1", ["a"]), (2, "db", "SELECT $1", ["a"])]
        assert (used.ended, unused.ended) == ([1, 2], [])

    asyncio.run(scenario())
