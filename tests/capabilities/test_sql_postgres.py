"""`sql.postgres` against a real PostgreSQL: its types, its errors, its faults."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import uvloop

from capabilities.errors import ConfigError
from capabilities.sql import AccessViolation, ConstraintViolation, Kind, Rows, SqlError, SyntaxFault, postgres
from capabilities.sql.postgres import MAX_CONNECTIONS, PostgresBackend
from tests.postgres_server import PostgresServer
from tests.servers import HOST, free_port, make_certificate


@asynccontextmanager
async def backend_at(url: str) -> AsyncIterator[PostgresBackend]:
    backend = PostgresBackend({"POSTGRES_CONNECTION_URL": url})
    yield backend
    await backend.close()


async def run(backend: PostgresBackend, statement: str, *parameters: str, session: int = 1) -> Rows:
    return await asyncio.wait_for(backend.run(session, "db", statement, list(parameters)), 20)


async def fails(backend: PostgresBackend, statement: str = "SELECT 1", *parameters: str) -> SqlError:
    """The error that a statement ends with."""
    with pytest.raises(SqlError) as caught:
        await run(backend, statement, *parameters)
    for text in (str(caught.value), caught.value.notice or ""):
        assert PostgresServer.PASSWORD not in text
        assert "wrong-password" not in text
    assert HOST not in str(caught.value)
    return caught.value


TYPES = {
    "smallint": ("-7", Kind.INT32, -7),
    "integer": ("2147483647", Kind.INT32, 2**31 - 1),
    "bigint": ("-9223372036854775808", Kind.INT64, -(2**63)),
    "oid": ("4294967295", Kind.UINT32, 2**32 - 1),
    "xid8": ("18446744073709551615", Kind.UINT64, 2**64 - 1),
    "real": ("0.1", Kind.FLOAT, 0.1),
    "double precision": ("1e308", Kind.DOUBLE, 1e308),
    "boolean": ("yes", Kind.BOOLEAN, True),
    "bytea": ("\\x00ff", Kind.BINARY, b"\0\xff"),
    "date": ("2026-11-30", Kind.DATE, "2026-11-30"),
    "time": ("17:05:00.25", Kind.TIME, "17:05:00.25"),
    "timetz": ("17:05:00+02", Kind.TIME, "17:05:00+02"),
    "timestamp": ("2026-11-30 17:05:00", Kind.TIMESTAMP, "2026-11-30 17:05:00"),
    "timestamptz": ("2026-11-30T17:05:00Z", Kind.TIMESTAMP, "2026-11-30 17:05:00+00"),
    "text": ("é🦀\n'\"\\", Kind.TEXT, "é🦀\n'\"\\"),
    "varchar(3)": ("abc", Kind.TEXT, "abc"),
    "numeric": ("123456789012345678901234567890.5", Kind.TEXT, "123456789012345678901234567890.5"),
    "uuid": ("{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}", Kind.TEXT, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    "jsonb": ('{"a":[1,"?"]}', Kind.TEXT, '{"a": [1, "?"]}'),
    "integer[]": ("{1,NULL,3}", Kind.TEXT, "{1,NULL,3}"),
    "interval": ("36 hours", Kind.TEXT, "36:00:00"),
    "inet": ("10.0.0.1/8", Kind.TEXT, "10.0.0.1/8"),
}
"""By type: the text of a parameter, and what comes back."""


def test_a_parameter_reaches_a_column_of_each_type_and_comes_back(shared_postgres: PostgresServer) -> None:
    async def scenario() -> None:
        async with backend_at(f"{shared_postgres.url}?options=-c%20TimeZone%3DUTC") as backend:
            columns = [f"c{number} {name}" for number, name in enumerate(TYPES)]
            await run(backend, f"CREATE TABLE all_types ({', '.join(columns)})")
            places = ", ".join(f"${number}" for number in range(1, len(TYPES) + 1))
            await run(backend, f"INSERT INTO all_types VALUES ({places})", *(text for text, _, _ in TYPES.values()))
            await run(backend, "INSERT INTO all_types (c0) VALUES (NULL)")
            full, empty = (await run(backend, "SELECT * FROM all_types")).rows
            assert list(full) == [(kind, value) for _, kind, value in TYPES.values()]
            assert set(empty) == {(Kind.NULL, None)}
            await run(backend, "DROP TABLE all_types")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("statement", "parameters", "kind", "text"),
    [
        ("SELECT", ["1"], SyntaxFault, "bind message"),
        ("SELECT $1::integer", ["2 OR 1=1"], SqlError, 'invalid input syntax for type integer: "2 OR 1=1"'),
        ("SELECT 1 / $1::integer", ["0"], SqlError, "division by zero"),
        ("CREATE TABLE nowhere.t (a integer)", [], SyntaxFault, "nowhere"),
        ("EXECUTE nothing", [], SyntaxFault, "nothing"),
        ("SELECT nothing()", [], SyntaxFault, "nothing"),
        ("-- nothing", [], SyntaxFault, "empty"),
        ("SELECT * FROM pg_authid", [], AccessViolation, "permission denied"),
        ("COPY (SELECT 1) TO STDOUT", [], SqlError, "COPY"),
        ("COPY pg_temp.t FROM STDIN", [], SyntaxFault, "pg_temp"),
        ("COPY (SELECT 1) TO PROGRAM 'id'", [], AccessViolation, "must be superuser"),
        ("CREATE TEMP TABLE t (a integer CHECK (a > 0)); SELECT 1", [], SyntaxFault, "multiple commands"),
        ("SELECT pg_read_file('/etc/passwd')", [], AccessViolation, "permission denied"),
    ],
)
def test_errors_are_told_apart_by_their_codes(
    statement: str, parameters: list[str], kind: type[SqlError], text: str, shared_postgres: PostgresServer
) -> None:
    shared_postgres.psql(
        "DO $$ BEGIN CREATE ROLE guest LOGIN PASSWORD 'guest'; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    )

    async def scenario() -> None:
        async with backend_at(shared_postgres.url_of("guest", "guest")) as backend:
            error = await fails(backend, statement, *parameters)
            assert type(error) is kind
            assert text in str(error)
            assert (await run(backend, "SELECT 1")).rows == [((Kind.INT32, 1),)]

    asyncio.run(scenario())


def test_constraints_of_all_kinds(shared_postgres: PostgresServer) -> None:
    async def scenario() -> None:
        async with backend_at(shared_postgres.url) as backend:
            await run(backend, "CREATE TABLE parent (id integer PRIMARY KEY)")
            await run(
                backend,
                "CREATE TABLE child (id integer NOT NULL UNIQUE REFERENCES parent, CHECK (id > 0))",
            )
            for value in ("NULL", "1", "-1"):
                assert type(await fails(backend, f"INSERT INTO child VALUES ({value})")) is ConstraintViolation
            await run(backend, "DROP TABLE child, parent")

    asyncio.run(scenario())


def test_a_failed_transaction_stays_failed_until_its_end(shared_postgres: PostgresServer) -> None:
    async def scenario() -> None:
        async with backend_at(shared_postgres.url) as backend:
            await run(backend, "BEGIN")
            await fails(backend, "SELECT nothing")
            assert "aborted" in str(await fails(backend, "SELECT 1"))
            await run(backend, "ROLLBACK")
            await run(backend, "SELECT 1")

    asyncio.run(scenario())


def test_connections_are_used_again_and_are_few(shared_postgres: PostgresServer) -> None:
    async def scenario() -> None:
        async with backend_at(f"{shared_postgres.url}?application_name=few") as backend:
            await asyncio.gather(*(run(backend, "SELECT pg_sleep(0.02)", session=n) for n in range(60)))
            (((_, most),),) = (
                await run(backend, "SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = 'few'")
            ).rows
            assert isinstance(most, int)
            assert 2 <= most <= MAX_CONNECTIONS

    asyncio.run(scenario())


def test_a_session_leaves_nothing_behind(shared_postgres: PostgresServer) -> None:
    async def scenario() -> None:
        async with backend_at(shared_postgres.url) as backend:
            for statement in (
                "SET datestyle = 'German'",
                "SELECT set_config('statement_timeout', '0', false)",
                "SELECT pg_advisory_lock(7)",
                "CREATE TEMP TABLE private AS SELECT 1",
                "LISTEN channel",
                "PREPARE private AS SELECT 1",
            ):
                await run(backend, statement)
            await asyncio.sleep(0.1)
            ((date, timeout, locks),) = (
                await run(
                    backend,
                    "SELECT '2026-11-30'::date, current_setting('statement_timeout'),"
                    " (SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory')",
                )
            ).rows
            assert (date, timeout[1], locks[1]) == ((Kind.DATE, "2026-11-30"), "20s", 0)
            for statement in ("SELECT * FROM private", "EXECUTE private"):
                assert type(await fails(backend, statement)) is SyntaxFault

    asyncio.run(scenario())


def test_a_stopped_statement_is_stopped_in_the_server(shared_postgres: PostgresServer) -> None:
    async def scenario() -> None:
        async with backend_at(shared_postgres.url) as backend:
            await run(backend, "BEGIN")
            await run(backend, "SET LOCAL statement_timeout = 0")
            call = asyncio.create_task(run(backend, "SELECT 'stop me', pg_sleep(1000)"))
            await asyncio.sleep(0.2)
            call.cancel()
            with suppress(asyncio.CancelledError):
                await call

    asyncio.run(scenario())
    deadline = time.monotonic() + 5
    query = "SELECT COUNT(*) FROM pg_stat_activity WHERE query LIKE '%stop me%' AND pid <> pg_backend_pid()"
    while shared_postgres.psql(query) != "0":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_one_large_value_is_refused_and_the_next_statement_works(shared_postgres: PostgresServer) -> None:
    async def scenario() -> None:
        async with backend_at(shared_postgres.url) as backend:
            assert "too large" in str(await fails(backend, "SELECT repeat('x', 100000000)"))
            assert "too large" in str(await fails(backend, "SELECT repeat('x', 1000000) FROM generate_series(1, 1000)"))
            (((_, text),),) = (await run(backend, "SELECT repeat('x', 10000000)")).rows
            assert text == "x" * 10_000_000
            (((_, length),),) = (await run(backend, "SELECT length($1)", "é" * 5_000_000)).rows
            assert length == 5_000_000

    asyncio.run(scenario())


def test_an_ordinary_large_result_is_received_and_one_without_columns_is_bounded(
    shared_postgres: PostgresServer,
) -> None:
    async def scenario() -> None:
        async with backend_at(shared_postgres.url) as backend:
            for _ in range(3):
                rows = (await run(backend, "SELECT repeat('x', 300) FROM generate_series(1, 150000)")).rows
                assert len(rows) == 150_000
            assert "too large" in str(await fails(backend, "SELECT FROM generate_series(1, 6000000)"))

    asyncio.run(scenario())


def test_a_result_that_is_too_large_does_not_end_a_transaction_without_a_word(shared_postgres: PostgresServer) -> None:
    async def scenario() -> None:
        async with backend_at(shared_postgres.url) as backend:
            await run(backend, "BEGIN")
            assert "too large" in str(await fails(backend, "SELECT n FROM generate_series(1, 3000000) AS g(n)"))
            assert "aborted" in str(await fails(backend, "SELECT 1"))
            await run(backend, "ROLLBACK")
            assert len((await run(backend, "SELECT 1")).rows) == 1

    asyncio.run(scenario())


def test_uvloop_does_as_well(shared_postgres: PostgresServer) -> None:
    async def scenario() -> None:
        async with backend_at(shared_postgres.url) as backend:
            assert len((await run(backend, "SELECT repeat('x', 100) FROM generate_series(1, 10000)")).rows) == 10_000
            await asyncio.gather(*(run(backend, "SELECT $1", "a" * 1_000_000, session=n) for n in range(10)))

    uvloop.run(scenario())


# Faults.


def test_a_server_that_is_away_at_the_start_is_used_when_it_comes() -> None:
    with PostgresServer() as server:
        server.stop()

        async def scenario() -> None:
            async with backend_at(server.url) as backend:
                error = await fails(backend)
                assert str(error) == "the database can't be reached"
                where = f"sql.postgres {HOST}:{server.port}"
                assert error.notice == f"{where}: connection refused; start it, or correct POSTGRES_CONNECTION_URL"
                await asyncio.to_thread(server.start)
                await run(backend, "SELECT 1")
                # It ends under load, and comes back.
                calls = [asyncio.create_task(run(backend, "SELECT pg_sleep(30)", session=n)) for n in range(10)]
                await asyncio.sleep(0.5)
                await asyncio.to_thread(server.stop)
                for result in await asyncio.gather(*calls, return_exceptions=True):
                    assert isinstance(result, SqlError)
                    assert str(result) == "the connection to the database broke"
                    assert result.notice is not None
                await fails(backend)
                await asyncio.to_thread(server.start)
                await run(backend, "SELECT 1")
                # Idle connections that the server has closed are not used.
                await asyncio.gather(*(run(backend, "SELECT pg_sleep(0.05)", session=n) for n in range(5)))
                await asyncio.to_thread(server.stop)
                await asyncio.to_thread(server.start)
                for session in range(8):
                    await run(backend, "SELECT 1", session=session)

        asyncio.run(scenario())


def test_wrong_credentials_and_databases(shared_postgres: PostgresServer) -> None:
    async def scenario() -> None:
        for url, kind, words in (
            (shared_postgres.url_of("owner", "wrong-password"), AccessViolation, "refuses the user or the password"),
            (shared_postgres.url_of("nobody", "wrong-password"), AccessViolation, "refuses the user or the password"),
            (shared_postgres.url_of("owner", shared_postgres.PASSWORD, "none"), SqlError, "no such database"),
            (f"{shared_postgres.url}?sslmode=require", SqlError, "does not speak TLS"),
            ("postgresql://user:wrong-password@no-such-host.invalid/db", SqlError, "can't be resolved"),
        ):
            async with backend_at(url) as backend:
                error = await fails(backend)
                assert type(error) is kind, error.notice
                assert error.notice is not None
                assert words in error.notice

    asyncio.run(scenario())


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "CONNECT_SECONDS", 0.3)

    async def scenario(port: int) -> None:
        async with backend_at(f"postgresql://user:wrong-password@{HOST}:{port}/db") as backend:
            error = await fails(backend)
            assert error.notice is not None
            assert "no answer in time" in error.notice

    with socket.create_server((HOST, 0)) as silent:
        monkeypatch.setattr(postgres, "make_conninfo", lambda url, **_: url)
        asyncio.run(scenario(silent.getsockname()[1]))


def test_a_server_that_is_stopped_in_the_middle() -> None:
    from capabilities.sql import connections

    with PostgresServer() as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "STATEMENT_SECONDS", 0.5)

        async def scenario() -> None:
            async with backend_at(server.url) as backend:
                await run(backend, "SELECT 1")
                pid = int(str((await run(backend, "SELECT pg_backend_pid()")).rows[0][0][1]))
                await asyncio.sleep(0.1)
                os.kill(pid, signal.SIGSTOP)
                try:
                    assert "more than 0.5 seconds" in str(await fails(backend))
                finally:
                    os.kill(pid, signal.SIGCONT)
                await run(backend, "SELECT 1")

        asyncio.run(scenario())


def test_tls() -> None:
    with PostgresServer(tls=True) as server:

        async def scenario() -> None:
            encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            for options in ("sslmode=require", f"sslmode=verify-full&sslrootcert={server.certificate}"):
                async with backend_at(f"{server.url}?{options}") as backend:
                    assert (await run(backend, encrypted)).rows == [((Kind.BOOLEAN, True),)]
                    (((_, text),),) = (await run(backend, "SELECT $1::text", "x" * 1_000_000)).rows
                    assert text == "x" * 1_000_000
            other = server.directory / "other.pem"
            make_certificate(other, server.directory / "other-key.pem")
            async with backend_at(f"{server.url}?sslmode=verify-full&sslrootcert={other}") as backend:
                error = await fails(backend)
                assert error.notice is not None
                assert "its certificate is not trusted" in error.notice

        asyncio.run(scenario())


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:5432",
        "mysql://user:wrong-password@host/db",
        "postgresql://user:wrong-password@host:port/db",
        "postgresql://user:wrong-password@host/db?nothing=1",
        "postgresql://user:wrong-password@host:99999999/db",
    ],
)
def test_a_url_that_is_none_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PostgresBackend({"POSTGRES_CONNECTION_URL": url})
    assert caught.value.key == "POSTGRES_CONNECTION_URL"
    assert "wrong-password" not in str(caught.value)
    assert "POSTGRES_CONNECTION_URL is not the URL of a database" in str(caught.value)


def test_nothing_is_connected_to_before_it_is_used() -> None:
    PostgresBackend({"POSTGRES_CONNECTION_URL": f"postgresql://user@{HOST}:{free_port()}/db"})
