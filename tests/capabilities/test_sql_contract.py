"""What every backend of `sql` does alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest

from capabilities.sql import (
    RESULT_VALUES,
    AccessViolation,
    Backend,
    ConstraintViolation,
    Kind,
    Rows,
    SqlError,
    SyntaxFault,
    connections,
)
from capabilities.sql.postgres import PostgresBackend
from capabilities.sql.sqlite import SqliteBackend
from tests.postgres_server import PostgresServer
from tests.shared_backends import as_worker

_numbers = count(1)


class Database:
    """A backend with a table of its own, `t`, as one session sees it."""

    def __init__(self, backend: Backend, table: str, session: int = 1) -> None:
        self.backend = backend
        self.session = session
        self._table = table

    async def run(self, statement: str, *parameters: str) -> Rows:
        text = statement.replace("TABLE_T", self._table)
        return await asyncio.wait_for(self.backend.run(self.session, "db", text, list(parameters)), 20)

    async def values(self, statement: str, *parameters: str) -> list[list[Any]]:
        rows = await self.run(statement, *parameters)
        return [[value for _, value in row] for row in rows.rows]

    def other(self, session: int) -> Database:
        return Database(self.backend, self._table, session)

    async def end(self) -> None:
        await self.backend.end(self.session)


Scenario = Callable[[Database], Coroutine[Any, Any, None]]
Run = Callable[[Scenario], None]


@pytest.fixture(params=["sqlite", "sqlite, in a worker", "postgres"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a scenario with a database."""

    @asynccontextmanager
    async def made() -> AsyncIterator[Backend]:
        if request.param == "postgres":
            server: PostgresServer = request.getfixturevalue("shared_postgres")
            postgres = PostgresBackend({"POSTGRES_CONNECTION_URL": server.url})
            yield postgres
            await postgres.close()
            return
        sqlite = SqliteBackend({})
        if request.param == "sqlite":
            yield sqlite.connect()
        else:
            async with as_worker(sqlite) as backend:
                yield backend
        await sqlite.close()

    def run(scenario: Scenario) -> None:
        async def whole() -> None:
            async with made() as backend:
                database = Database(backend, f"t{next(_numbers)}")
                await database.run(
                    "CREATE TABLE TABLE_T (id INTEGER PRIMARY KEY, name TEXT UNIQUE, weight DOUBLE PRECISION)"
                )
                await scenario(database)
                await database.end()
                await database.other(99).run("DROP TABLE TABLE_T")

        asyncio.run(whole())

    return run


INSERT = "INSERT INTO TABLE_T (id, name, weight) VALUES ($1, $2, $3)"


def test_parameters_reach_columns_as_their_types(run: Run) -> None:
    async def scenario(database: Database) -> None:
        assert await database.run(INSERT, "7", "Ada", "1.5") == Rows((), [])
        rows = await database.run("SELECT name, weight, id + 1 AS next FROM TABLE_T WHERE id = $1", "7")
        assert rows.columns == ("name", "weight", "next")
        ((name, weight, following),) = rows.rows
        assert (name, weight) == ((Kind.TEXT, "Ada"), (Kind.DOUBLE, 1.5))
        assert following[1] == 8

    run(scenario)


def test_a_parameter_is_never_part_of_the_statement(run: Run) -> None:
    async def scenario(database: Database) -> None:
        texts = ["'; DROP TABLE x; --", "$1", "?", '"', "\\", "🦀\n", "", "NULL", "a" * 100_000]
        for number, text in enumerate(texts):
            await database.run(INSERT, str(number), text, "0")
        assert await database.values("SELECT name FROM TABLE_T ORDER BY id") == [[text] for text in texts]

    run(scenario)


def test_question_marks_are_placeholders_too(run: Run) -> None:
    async def scenario(database: Database) -> None:
        await database.run("INSERT INTO TABLE_T (id, name) VALUES (?, ?)", "1", "what?")
        statement = "SELECT id, '?', name /* ? */ FROM TABLE_T WHERE name = ? -- ?"
        assert await database.values(statement, "what?") == [[1, "?", "what?"]]

    run(scenario)


def test_a_placeholder_may_come_twice_and_in_any_order(run: Run) -> None:
    async def scenario(database: Database) -> None:
        await database.run("INSERT INTO TABLE_T (name, id) VALUES ($2, $1)", "1", "a")
        assert await database.values("SELECT id FROM TABLE_T WHERE name = $1 OR name = $1", "a") == [[1]]

    run(scenario)


def test_as_many_placeholders_as_parameters(run: Run) -> None:
    async def scenario(database: Database) -> None:
        for parameters in ((), ("1",), ("1", "2", "3")):
            with pytest.raises(SyntaxFault):
                await database.run("SELECT id FROM TABLE_T WHERE id = $1 AND name = $2", *parameters)

    run(scenario)


def test_columns_keep_their_order_and_their_doubles(run: Run) -> None:
    async def scenario(database: Database) -> None:
        rows = await database.run("SELECT 2 AS b, 1 AS a, 3 AS b")
        assert rows.columns == ("b", "a", "b")
        assert [value for _, value in rows.rows[0]] == [2, 1, 3]

    run(scenario)


def test_null_is_null_and_no_parameter_is(run: Run) -> None:
    async def scenario(database: Database) -> None:
        await database.run("INSERT INTO TABLE_T (id, name) VALUES (1, NULL), (2, NULLIF($1, '')), (3, $2)", "", "")
        rows = await database.run("SELECT name FROM TABLE_T ORDER BY id")
        assert rows.rows == [((Kind.NULL, None),), ((Kind.NULL, None),), ((Kind.TEXT, ""),)]

    run(scenario)


def test_errors_are_told_apart_and_the_next_statement_works(run: Run) -> None:
    async def scenario(database: Database) -> None:
        await database.run(INSERT, "1", "a", "0")
        cases = {
            "SELEC 1": SyntaxFault,
            "SELECT * FROM nothing_of_that_name": SyntaxFault,
            "SELECT nothing FROM TABLE_T": SyntaxFault,
            "SELECT 1; SELECT 2": SyntaxFault,
            "INSERT INTO TABLE_T (id) VALUES (1)": ConstraintViolation,
            "INSERT INTO TABLE_T (id, name) VALUES (2, 'a')": ConstraintViolation,
        }
        for statement, kind in cases.items():
            with pytest.raises(SqlError) as caught:
                await database.run(statement)
            assert type(caught.value) is kind, statement
            assert str(caught.value)
            assert caught.value.notice is None
        assert await database.values("SELECT id FROM TABLE_T") == [[1]]

    run(scenario)


def test_a_transaction_belongs_to_its_session(run: Run) -> None:
    async def scenario(database: Database) -> None:
        other = database.other(2)
        await database.run("BEGIN")
        await database.run(INSERT, "1", "a", "0")
        assert await database.values("SELECT id FROM TABLE_T") == [[1]]
        assert await other.values("SELECT id FROM TABLE_T") == []
        await database.run("COMMIT")
        assert await other.values("SELECT id FROM TABLE_T") == [[1]]
        await database.run("BEGIN")
        await database.run("DELETE FROM TABLE_T")
        await database.run("ROLLBACK")
        assert await database.values("SELECT id FROM TABLE_T") == [[1]]

    run(scenario)


def test_the_end_of_a_session_takes_its_transaction_back(run: Run) -> None:
    async def scenario(database: Database) -> None:
        await database.run("BEGIN")
        await database.run(INSERT, "1", "a", "0")
        await database.end()
        other = database.other(2)
        await other.run(INSERT, "1", "b", "0")  # and its locks are free
        assert await other.values("SELECT name FROM TABLE_T") == [["b"]]

    run(scenario)


def test_a_transaction_that_does_nothing_is_taken_back_and_its_session_told(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(database: Database) -> None:
        await database.run("BEGIN")
        await database.run(INSERT, "1", "a", "0")
        await asyncio.sleep(0.5)
        with pytest.raises(SqlError, match="taken back"):
            await database.run("COMMIT")
        assert await database.values("SELECT id FROM TABLE_T") == []

    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.3)
    run(scenario)


ENDLESS = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n > 0) SELECT MAX(n % 7) FROM c"


def test_a_statement_that_never_ends_is_stopped(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(database: Database) -> None:
        with pytest.raises(SqlError, match=r"0\.5 seconds"):
            await database.run(ENDLESS)
        assert await database.values("SELECT 1") == [[1]]

    monkeypatch.setattr(connections, "STATEMENT_SECONDS", 0.5)
    run(scenario)


def test_a_cancelled_statement_is_stopped_and_leaves_no_connection_behind(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(database: Database) -> None:
        for session in range(20):  # more than there are connections
            call = asyncio.create_task(database.other(session).run(ENDLESS))
            await asyncio.sleep(0.02)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        assert await database.values("SELECT 1") == [[1]]

    monkeypatch.setattr(connections, "WAIT_SECONDS", 10.0)
    run(scenario)


def test_where_all_connections_are_in_transactions_others_get_an_error(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(database: Database) -> None:
        begun = await asyncio.gather(
            *(database.other(session).run("BEGIN") for session in range(100)), return_exceptions=True
        )
        failed = {str(each) for each in begun if isinstance(each, SqlError)}
        assert len(failed) == 1
        assert "connections to the database are in use" in failed.pop()
        for session in range(100):
            await database.other(session).end()
        assert await database.values("SELECT 1") == [[1]]

    monkeypatch.setattr(connections, "WAIT_SECONDS", 0.2)
    run(scenario)


def test_a_result_is_bounded(run: Run) -> None:
    async def scenario(database: Database) -> None:
        numbers = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {}) SELECT n, n FROM c"
        assert len((await database.run(numbers.format(RESULT_VALUES // 2))).rows) == RESULT_VALUES // 2
        with pytest.raises(SqlError, match="too large"):
            await database.run(numbers.format(RESULT_VALUES // 2 + 1))
        assert await database.values("SELECT 1") == [[1]]

    run(scenario)


def test_many_sessions_at_once(run: Run) -> None:
    async def scenario(database: Database) -> None:
        async def insert(number: int) -> None:
            await database.other(number).run(INSERT, str(number), str(number), "0")

        await asyncio.gather(*map(insert, range(200)))
        assert await database.values("SELECT COUNT(*), SUM(id) FROM TABLE_T") == [[200, sum(range(200))]]

    run(scenario)


def test_what_a_statement_sets_is_not_there_for_the_next_session(run: Run) -> None:
    async def scenario(database: Database) -> None:
        for statement in ("SET search_path TO nowhere", "CREATE TEMP TABLE private (a INTEGER)"):
            try:
                await database.run(statement)
            except (SyntaxFault, AccessViolation):
                continue
        await database.end()
        for session in range(2, 30):
            assert await database.other(session).values("SELECT id FROM TABLE_T") == []
            with pytest.raises(SyntaxFault):
                await database.other(session).run("SELECT * FROM private")

    run(scenario)
