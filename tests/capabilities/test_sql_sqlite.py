"""`sql.sqlite`: where its databases are, and what a hostile guest can't do."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from capabilities.errors import ConfigError
from capabilities.sql import AccessViolation, Rows, SqlError, sqlite
from capabilities.sql.sqlite import DATABASES, SqliteBackend, SqliteClient, file_name
from tests.shared_backends import as_worker


@asynccontextmanager
async def client(**configs: str) -> AsyncIterator[SqliteClient]:
    backend = SqliteBackend(configs)
    yield backend.connect()
    await backend.close()


async def run(client: SqliteClient, statement: str, *parameters: str, name: str = "db") -> Rows:
    return await asyncio.wait_for(client.run(1, name, statement, list(parameters)), 20)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary directory, for one test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_without_a_directory_databases_are_gone_with_the_backend(temporary: Path) -> None:
    async def scenario() -> None:
        async with client() as database:
            await run(database, "CREATE TABLE t (a)")
            (directory,) = os.listdir(temporary)
            assert os.stat(temporary / directory).st_mode & 0o777 == 0o700
            assert "db.db" in os.listdir(temporary / directory)

    asyncio.run(scenario())
    assert list(temporary.iterdir()) == []


def test_with_a_directory_they_stay(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "down"

    async def scenario(statement: str) -> Rows:
        async with client(DIRECTORY=str(directory)) as database:
            return await run(database, statement)

    asyncio.run(scenario("CREATE TABLE t AS SELECT 42 AS answer"))
    assert asyncio.run(scenario("SELECT answer FROM t")).rows == [((2, 42),)]
    assert sqlite3.connect(directory / "db.db").execute("SELECT answer FROM t").fetchall() == [(42,)]
    assert directory.stat().st_mode & 0o777 == 0o700


def test_all_workers_see_the_same_database() -> None:
    async def scenario() -> None:
        backend = SqliteBackend({})
        async with as_worker(backend) as one, as_worker(backend) as two:
            await one.run(1, "db", "CREATE TABLE t (a)", [])
            await one.run(1, "db", "BEGIN", [])
            await one.run(1, "db", "INSERT INTO t VALUES (1)", [])
            # The same number is another session in another worker.
            assert (await two.run(1, "db", "SELECT * FROM t", [])).rows == []
            await two.end(1)
            await one.run(1, "db", "COMMIT", [])
            assert (await two.run(1, "db", "SELECT * FROM t", [])).rows == [((2, 1),)]
        await backend.close()

    asyncio.run(scenario())


def test_the_transactions_of_a_worker_that_dies_are_taken_back() -> None:
    async def scenario() -> None:
        backend = SqliteBackend({})
        here = backend.connect()
        await run(here, "CREATE TABLE t (a)")
        async with as_worker(backend) as worker:
            await worker.run(1, "db", "BEGIN IMMEDIATE", [])
            await worker.run(1, "db", "INSERT INTO t VALUES (1)", [])
        await run(here, "INSERT INTO t VALUES (2)")
        assert (await run(here, "SELECT * FROM t")).rows == [((2, 2),)]
        await backend.close()

    asyncio.run(scenario())


NAMES = ["", "a", "A", ".", "..", "...", "../../etc/passwd", "/", "a/b", "a%2Fb", "%", "\0", "a.db", "🦀", "n" * 300]


def test_every_name_is_a_database_of_its_own_in_the_directory(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with client(DIRECTORY=str(tmp_path / "databases")) as database:
            for name in NAMES:
                await run(database, "CREATE TABLE t AS SELECT $1 AS name", name.replace("\0", "nul"), name=name)

    asyncio.run(scenario())
    assert [each.name for each in tmp_path.iterdir()] == ["databases"]
    assert len({file_name(name) for name in NAMES}) == len(NAMES)
    assert all("/" not in file_name(name) and not file_name(name).startswith(".") for name in NAMES)


@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH '{}/other.db' AS other",
        "ATTACH ':memory:' AS other",
        "DETACH main",
        "VACUUM",
        "VACUUM INTO '{}/other.db'",
        "SELECT load_extension('{}/other.so')",
        "CREATE VIRTUAL TABLE v USING fts5(a)",
        "CREATE TEMP TABLE private (a)",
        "CREATE TEMP VIEW private AS SELECT 1",
        "CREATE TABLE temp.t (a)",
        "CREATE TABLE Temp.t AS SELECT 1",
        "CREATE VIEW temp.v AS SELECT 1",
        "CREATE TRIGGER temp.r AFTER INSERT ON main.t BEGIN SELECT 1; END",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA journal_mode",
        "PRAGMA writable_schema = 1",
        "PRAGMA temp_store_directory = '{}'",
        "PRAGMA data_store_directory = '{}'",
        "PRAGMA max_page_count = 1000000000",
        "PRAGMA hard_heap_limit = 0",
        "PRAGMA trusted_schema = 1",
        "PRAGMA foreign_keys = 0",
        "PRAGMA synchronous = 0",
        "PRAGMA locking_mode = EXCLUSIVE",
        "PRAGMA wal_checkpoint",
        "PRAGMA database_list",
        "PRAGMA module_list",
        "SELECT * FROM pragma_database_list",
        "SELECT last_insert_rowid()",
        "SELECT sql FROM sqlite_stmt",
        "SELECT COUNT(*) FROM SQLITE_STMT AS s",
    ],
)
def test_a_guest_reaches_nothing_but_its_database(statement: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with client(DIRECTORY=str(tmp_path / "databases")) as database:
            await run(database, "CREATE TABLE t (a)")
            with pytest.raises(AccessViolation) as caught:
                await run(database, statement.format(tmp_path))
            assert str(tmp_path) not in str(caught.value)
            await run(database, "INSERT INTO t VALUES (1)")

    asyncio.run(scenario())
    assert os.listdir(tmp_path) == ["databases"]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX i ON t (a)",
        "CREATE VIEW v AS SELECT * FROM t",
        "CREATE TRIGGER r AFTER INSERT ON t BEGIN DELETE FROM t; END",
        "ALTER TABLE t ADD COLUMN b",
        "ALTER TABLE t RENAME TO u",
        "ALTER TABLE t RENAME COLUMN a TO b",
        "ALTER TABLE t DROP COLUMN c",
        "DROP TRIGGER old_trigger",
        "DROP VIEW old_view",
        "DROP INDEX old_index",
        "INSERT INTO t (a) VALUES (1) ON CONFLICT DO NOTHING",
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 3) SELECT * FROM c",
        "SELECT json_extract('[1]', '$[0]'), upper('a'), date('now')",
        "PRAGMA table_info(t)",
        "SELECT name FROM sqlite_schema",
        "SELECT name FROM sqlite_temp_schema",
        "SAVEPOINT s",
        "ANALYZE",
        "REINDEX",
        "DROP TABLE t",
    ],
)
def test_what_a_database_is_for_works(statement: str) -> None:
    async def scenario() -> None:
        async with client() as database:
            await run(database, "CREATE TABLE t (a UNIQUE, c)")
            await run(database, "CREATE INDEX old_index ON t (a)")
            await run(database, "CREATE VIEW old_view AS SELECT a FROM t")
            await run(database, "CREATE TRIGGER old_trigger AFTER INSERT ON t BEGIN DELETE FROM t; END")
            await run(database, statement)

    asyncio.run(scenario())


def test_what_a_statement_takes_is_bounded() -> None:
    numbers = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT {})"

    async def scenario() -> None:
        async with client() as database:
            with pytest.raises(SqlError, match="too big"):
                await run(database, "SELECT zeroblob(1000000000)")
            with pytest.raises(SqlError, match="too big"):
                await run(database, "SELECT replace(hex(zeroblob(10000)), '0', hex(zeroblob(100000)))")
            sorting = " SELECT n FROM (SELECT n, randomblob(1000) AS r FROM c ORDER BY r)"
            with pytest.raises(SqlError, match="memory"):
                await run(database, numbers.format(1_000_000) + sorting)
            with pytest.raises(SqlError, match="too complex"):
                await run(database, f"SELECT 'a' LIKE '{'%a' * 1000}'")
            with pytest.raises(SqlError, match="too large"):
                await run(database, numbers.format(100) + " SELECT zeroblob(1000000) FROM c")
            assert (await run(database, "SELECT 1")).rows == [((2, 1),)]

    asyncio.run(scenario())


def test_functions_whose_time_grows_with_the_square_of_a_text_end_in_time() -> None:
    long, short = "zeroblob(1000000)", "CAST(zeroblob(500000) || x'01' AS BLOB)"

    async def scenario() -> None:
        async with client() as database:
            for statement in (f"SELECT instr({long}, {short})", f"SELECT replace({long}, {short}, x'02')"):
                await run(database, statement)
            with pytest.raises(SqlError, match="too big"):
                await run(database, "SELECT instr(zeroblob(2000000), zeroblob(1000000))")

    asyncio.run(scenario())


def test_the_log_of_a_database_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 4 * 1024 * 1024
    monkeypatch.setattr(sqlite, "TEMPORARY_BYTES", limit)

    async def scenario() -> None:
        backend = SqliteBackend({})
        database = backend.connect()
        await database.run(1, "a", "CREATE TABLE t (x)", [])
        await database.run(1, "a", "INSERT INTO t VALUES (zeroblob(900000))", [])
        await database.run(2, "a", "BEGIN", [])
        await database.run(2, "a", "SELECT count(*) FROM t", [])
        said = ""
        for _ in range(60):
            try:
                await database.run(1, "a", "UPDATE t SET x = randomblob(900000)", [])
            except SqlError as error:
                said = str(error)
        assert "is full" in said
        log = f"{backend._temporary}/a.db-wal"
        assert os.stat(log).st_size < 2 * limit
        await database.run(2, "a", "COMMIT", [])
        await database.run(1, "a", "UPDATE t SET x = randomblob(900000)", [])
        assert os.stat(log).st_size < limit
        await backend.close()

    asyncio.run(scenario())


def test_statements_that_have_ended_take_no_memory() -> None:
    parameter = "x" * 900_000

    async def scenario() -> None:
        async with client() as database:
            for number in range(600):
                assert (await run(database, f"SELECT length($1), {number}", parameter)).rows[0][0] == (2, 900_000)
            await run(database, "CREATE TABLE t (a)", name="another")

    asyncio.run(scenario())


NO_MEMORY = """
import asyncio
from capabilities.sql import SqlError, sqlite

async def scenario():
    backend = sqlite.SqliteBackend({})
    for _ in range(10):
        try:
            await backend.connect().run(1, "db", "SELECT 1", [])
        except SqlError as error:
            print(error)
    await backend.close()

sqlite.HEAP_BYTES = 20_000
asyncio.run(scenario())
"""


def test_no_memory_for_a_connection_is_an_error() -> None:
    # In a process of its own: what bounds SQLite's memory can't be raised again.
    done = subprocess.run([sys.executable, "-c", NO_MEMORY], capture_output=True, text=True, timeout=20, check=False)
    assert done.stderr == ""
    assert done.stdout == "the statement takes too much memory: SQLite may have 20000 bytes\n" * 10


def test_what_was_allowed_in_a_transaction_is_not_allowed_after_it() -> None:
    async def scenario() -> None:
        async with client() as database:
            await run(database, "BEGIN")
            await run(database, "SELECT last_insert_rowid()")
            await run(database, "COMMIT")
            with pytest.raises(AccessViolation):
                await run(database, "SELECT last_insert_rowid()")

    asyncio.run(scenario())


def test_a_database_is_bounded_in_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "TEMPORARY_BYTES", 1_000_000)

    async def scenario() -> None:
        async with client() as database:
            await run(database, "CREATE TABLE t (a)")
            for _ in range(7):
                await run(database, "INSERT INTO t VALUES (zeroblob(100000))")
            with pytest.raises(SqlError, match="full") as caught:
                await run(database, "INSERT INTO t VALUES (zeroblob(400000))")
            assert caught.value.notice is not None
            await run(database, "DELETE FROM t")
            await run(database, "INSERT INTO t VALUES (zeroblob(100000))")

    asyncio.run(scenario())


def test_so_many_databases_may_be_open() -> None:
    async def scenario() -> None:
        async with client() as database:
            for number in range(DATABASES):
                await run(database, "SELECT 1", name=str(number))
            with pytest.raises(SqlError, match="no more may be"):
                await run(database, "SELECT 1", name="one more")
            await run(database, "SELECT 1", name="0")

    asyncio.run(scenario())


def test_writers_wait_for_each_other_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with client() as database:
            await run(database, "CREATE TABLE t (a)")
            await database.run(1, "db", "BEGIN IMMEDIATE", [])
            waiting = [asyncio.create_task(database.run(n, "db", "INSERT INTO t VALUES (1)", [])) for n in range(2, 9)]
            await asyncio.sleep(0.2)
            await database.run(1, "db", "COMMIT", [])
            await asyncio.gather(*waiting)
            await database.run(1, "db", "BEGIN IMMEDIATE", [])
            monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.2)
            with pytest.raises(SqlError, match="locked"):
                await database.run(2, "db", "INSERT INTO t VALUES (1)", [])

    asyncio.run(scenario())


def test_the_number_of_a_new_row_is_known_in_its_transaction() -> None:
    async def scenario() -> None:
        async with client() as database:
            await run(database, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
            assert (await run(database, "INSERT INTO t VALUES (7) RETURNING id")).rows == [((2, 7),)]
            await run(database, "BEGIN")
            await run(database, "INSERT INTO t DEFAULT VALUES")
            assert (await run(database, "SELECT last_insert_rowid()")).rows == [((2, 8),)]

    asyncio.run(scenario())


def test_the_storage_classes_of_sqlite() -> None:
    async def scenario() -> None:
        async with client() as database:
            rows = await run(database, "SELECT 1, 9223372036854775807, 1.5, 'é', x'00ff', NULL, x'', ''")
            assert rows.rows == [
                ((2, 1), (2, 2**63 - 1), (6, 1.5), (7, "é"), (12, b"\0\xff"), (0, None), (12, b""), (7, ""))
            ]
            with pytest.raises(SqlError, match="UTF-8"):
                await run(database, "SELECT CAST(x'ff' AS TEXT)")

    asyncio.run(scenario())


def test_a_directory_that_can_not_be_had(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def scenario() -> None:
        async with client(DIRECTORY=str(tmp_path / "file" / "below")) as database:
            with pytest.raises(SqlError) as caught:
                await run(database, "SELECT 1")
            assert str(tmp_path) not in str(caught.value)
            assert caught.value.notice is not None
            assert f"{tmp_path}/file/below: Not a directory" in caught.value.notice

    asyncio.run(scenario())


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "db.db").write_text("something else" * 1000)

    async def scenario() -> None:
        async with client(DIRECTORY=str(tmp_path)) as database:
            with pytest.raises(SqlError) as caught:
                await run(database, "SELECT 1")
            assert caught.value.notice is not None
            assert "not a database" in caught.value.notice

    asyncio.run(scenario())


@pytest.mark.parametrize("directory", ["", "a\0b"])
def test_a_directory_that_is_no_path_is_refused(directory: str) -> None:
    with pytest.raises(ConfigError, match="DIRECTORY"):
        SqliteBackend({"DIRECTORY": directory})
