"""`sql.sqlite`: databases in files, by the SQLite that comes with Python.

The main process keeps them, and its workers ask it, so all see the same databases whatever the file system can lock.
SQLite runs in threads. Guests are hostile: an authorizer refuses what reaches other files or changes how the connection
works, and limits bound what a statement takes.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from typing import Any, ClassVar, Final
from urllib.parse import quote

from capabilities.errors import ConfigError
from capabilities.sql import (
    PARAMETERS,
    RESULT_LIMIT,
    RESULT_VALUES,
    AccessViolation,
    ConstraintViolation,
    Kind,
    Rows,
    SqlError,
    SyntaxFault,
    Value,
    too_large,
)
from capabilities.sql.connections import Connections
from capabilities.sql.placeholders import numbered

THREADS = 8
"""How many statements run at once."""

MAX_CONNECTIONS = 8
"""How many connections a database has at most."""

DATABASES = 16
"""How many databases there may be without DIRECTORY, and how many may be open with it."""

PAGE_BYTES = 4096
TEMPORARY_BYTES = 256 * 1024 * 1024
"""How large a database may get without DIRECTORY."""

KEPT_BYTES = 4 * 1024 * 1024 * 1024
"""How large it may get with DIRECTORY."""

HEAP_BYTES = 256 * 1024 * 1024
"""How much memory SQLite may take in the process: for what it sorts and groups, too, which takes no files."""

CACHE_BYTES = 512 * 1024
"""How much of a database each connection has in memory: a small part of HEAP_BYTES for all of them together."""

BUSY_SECONDS = 5.0
"""How long a statement waits for those that hold the database's locks."""

VALUE_BYTES = 1024 * 1024
"""How long a text or a blob may be. The time of instr(), replace() and trim() grows with the square of it, and nothing
interrupts them: some seconds with this."""

LIMITS: Final[Mapping[int, int]] = {
    sqlite3.SQLITE_LIMIT_LENGTH: VALUE_BYTES,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: PARAMETERS,
    # The time that a pattern takes grows with its length times that of the text, and nothing interrupts it.
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 256,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 32,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}

_ALLOWED: Final = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_INSERT,
    sqlite3.SQLITE_UPDATE,
    sqlite3.SQLITE_DELETE,
    sqlite3.SQLITE_CREATE_TABLE,
    sqlite3.SQLITE_CREATE_INDEX,
    sqlite3.SQLITE_CREATE_VIEW,
    sqlite3.SQLITE_CREATE_TRIGGER,
    sqlite3.SQLITE_DROP_TABLE,
    sqlite3.SQLITE_DROP_INDEX,
    sqlite3.SQLITE_DROP_VIEW,
    sqlite3.SQLITE_DROP_TRIGGER,
    sqlite3.SQLITE_ALTER_TABLE,
    sqlite3.SQLITE_REINDEX,
    sqlite3.SQLITE_ANALYZE,
    sqlite3.SQLITE_TRANSACTION,
    sqlite3.SQLITE_SAVEPOINT,
    sqlite3.SQLITE_RECURSIVE,
}
"""What a statement may do, by the authorizer's codes. Not among them: ATTACH, and with it VACUUM; temporary tables,
which the next one to use the connection would see; virtual tables, some of which read memory and other files."""

_ALLOWED_TEMPORARY: Final = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_UPDATE}
"""What it may do in the schema `temp`, where ALTER TABLE looks for views and triggers to change. `CREATE TABLE temp.t`
has the code of a table that stays."""

_PRAGMAS: Final = {"table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo"}
_PRAGMAS_ASK: Final = {"foreign_key_list", "foreign_key_check"}

_TABLES_DENIED: Final = {"sqlite_stmt"}
"""Tables about the connection, with what others run on it."""

_FUNCTIONS_DENIED: Final = {"load_extension", "fts3_tokenizer", "writefile", "readfile", "edit"}

_OF_CONNECTION: Final = {"last_insert_rowid", "changes", "total_changes"}
"""Functions about the connection's last statement, which outside of a transaction may be anybody's."""

_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class SqliteBackend:
    """Databases in the directory DIRECTORY, each in a file of its name. Without DIRECTORY they are in a directory of
    their own, which is removed with the backend.
    """

    REQUIRED: ClassVar[tuple[str, ...]] = ()
    OPTIONAL: ClassVar[tuple[str, ...]] = ("DIRECTORY",)

    def __init__(self, configs: Mapping[str, str]) -> None:
        """Raises ConfigError."""
        directory = configs.get("DIRECTORY")
        if directory is not None and (not directory or "\0" in directory):
            raise ConfigError("DIRECTORY is not a path: give the directory that the databases are kept in", "DIRECTORY")
        self._kept = None if directory is None else os.path.abspath(directory)
        self._temporary: str | None = None
        self._databases: dict[str, Connections] = {}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="sqlite")
        self._clients = itertools.count()
        self._opening = asyncio.Lock()
        """Whoever opens a database first makes its directory, and its journal."""

    def connect(self) -> SqliteClient:
        """The backend for one process."""
        return SqliteClient(self, next(self._clients))

    async def run(self, session: tuple[int, int], name: str, statement: str, parameters: list[str]) -> Rows:
        """Raises SqlError."""
        file = file_name(name)
        if file not in self._databases:
            if len(self._databases) >= DATABASES:
                raise SqlError(f"{DATABASES} databases are open, and no more may be")
            self._databases[file] = Connections(self._connector(file), MAX_CONNECTIONS)
        return await self._databases[file].run(session, statement, parameters)

    async def end(self, session: tuple[int, int]) -> None:
        for database in self._databases.values():
            await database.end(session)

    async def close(self) -> None:
        for database in self._databases.values():
            await database.close()
        self._databases.clear()
        self._threads.shutdown(wait=False)
        if self._temporary is not None:
            await asyncio.to_thread(shutil.rmtree, self._temporary, ignore_errors=True)

    def _connector(self, file: str) -> Callable[[], Awaitable[_Connection]]:
        async def connect() -> _Connection:
            try:
                async with self._opening:
                    database = await asyncio.wrap_future(self._threads.submit(self._open, file))
                return _Connection(database, self._threads, self._log(file))
            except OSError as error:
                raise self._inaccessible(error.strerror or "it can't be used") from None
            except sqlite3.Error as error:
                raise self._inaccessible(str(error)) from None
            except MemoryError:
                raise _no_memory() from None

        return connect

    def _log(self, file: str) -> tuple[str, int]:
        """Where the write-ahead log of an open database is, and how large it may get, in bytes."""
        directory = self._kept or self._temporary or ""
        return os.path.join(directory, f"{file}-wal"), TEMPORARY_BYTES if self._kept is None else KEPT_BYTES

    def _inaccessible(self, why: str) -> SqlError:
        where = self._kept or "the temporary directory"
        notice = f"sql.sqlite: {where}: {why}; give a DIRECTORY that can be written"
        return SqlError("the database can't be opened", notice)

    def _open(self, file: str) -> sqlite3.Connection:
        """In a thread. Raises OSError and sqlite3.Error."""
        if self._kept is not None:
            os.makedirs(self._kept, mode=0o700, exist_ok=True)
            directory, limit, synchronous = self._kept, KEPT_BYTES, "FULL"
        else:
            self._temporary = self._temporary or tempfile.mkdtemp(prefix="slight-py-sql-")
            directory, limit, synchronous = self._temporary, TEMPORARY_BYTES, "OFF"
        path = os.path.join(directory, file)
        # A statement that is kept keeps its parameters, which count as SQLite's memory, and what was allowed to it.
        database = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=0)
        try:
            for pragma in (
                f"hard_heap_limit={HEAP_BYTES}",
                f"page_size={PAGE_BYTES}",
                "busy_timeout=2000",
                "journal_mode=WAL",
                "busy_timeout=0",
                f"synchronous={synchronous}",
                "temp_store=MEMORY",
                f"cache_size=-{CACHE_BYTES // 1024}",
                "foreign_keys=ON",
                "trusted_schema=OFF",
                "cell_size_check=ON",
            ):
                database.execute(f"PRAGMA {pragma}").fetchall()
            (page_bytes,) = database.execute("PRAGMA page_size").fetchone()
            database.execute(f"PRAGMA max_page_count={limit // page_bytes}").fetchall()
            for category, number in LIMITS.items():
                database.setlimit(category, number)
        except BaseException:
            database.close()
            raise
        return database


class SqliteClient:
    """What one process sees of the backend: its sessions are its own, and end with it."""

    def __init__(self, backend: SqliteBackend, number: int) -> None:
        self._backend = backend
        self._number = number
        self._sessions: set[int] = set()

    async def run(self, session: int, name: str, statement: str, parameters: list[str]) -> Rows:
        """Raises SqlError."""
        self._sessions.add(session)
        return await self._backend.run((self._number, session), name, statement, parameters)

    async def end(self, session: int) -> None:
        self._sessions.discard(session)
        await self._backend.end((self._number, session))

    async def close(self) -> None:
        for session in list(self._sessions):
            await self.end(session)


def file_name(name: str) -> str:
    """The name of a database's file, which no other name has: percent-encoded as in a URL."""
    encoded = quote(name, safe="")
    if encoded.startswith("."):
        encoded = f"%2E{encoded[1:]}"
    if len(encoded) > 200:
        encoded = f"%%{sha256(name.encode()).hexdigest()}"
    return f"{encoded or '%'}.db"


class _Connection:
    """One connection. What blocks is done by a thread, one thing at a time."""

    def __init__(self, database: sqlite3.Connection, threads: ThreadPoolExecutor, log: tuple[str, int]) -> None:
        self._database = database
        self._threads = threads
        self._log, self._log_limit = log
        self._job: Future[Any] | None = None
        database.set_authorizer(self._authorize)

    @property
    def in_transaction(self) -> bool:
        return self._database.in_transaction

    @property
    def is_usable(self) -> bool:
        return True

    async def run(self, statement: str, parameters: list[str]) -> Rows:
        """Raises SqlError."""
        text = numbered(statement, len(parameters), "?{}")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + BUSY_SECONDS
        pause = 0.001
        while True:
            try:
                rows: Rows = await self._in_thread(self._execute, text, parameters)
                return rows
            except MemoryError:
                raise _no_memory() from None
            except sqlite3.Error as error:
                code = _code(error)
                if code & 0xFF not in _BUSY or code == sqlite3.SQLITE_BUSY_SNAPSHOT or loop.time() > deadline:
                    raise _describe(error) from None
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.05)

    async def reset(self) -> None:
        """Raises SqlError."""
        if self._database.in_transaction:
            try:
                await self._in_thread(self._database.rollback)
            except sqlite3.Error as error:
                raise _describe(error) from None
            except MemoryError:
                raise _no_memory() from None

    async def close(self) -> None:
        while self._job is not None and not self._job.done():
            # Again and again: what comes before the statement has begun has no effect.
            self._database.interrupt()
            await asyncio.sleep(0.02)
        await self._in_thread(self._database.close)

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        self._job = self._threads.submit(function, *arguments)
        return await asyncio.wrap_future(self._job)

    def _execute(self, text: str, parameters: list[str]) -> Rows:
        """In a thread. Raises sqlite3.Error and SqlError."""
        self._check_log(text)
        cursor = self._database.cursor()
        try:
            cursor.execute(text, parameters)
            if cursor.description is None:
                return Rows((), [])
            columns = tuple(column[0] for column in cursor.description)
            most = RESULT_VALUES // len(columns)
            rows: list[tuple[Value, ...]] = []
            size = 0
            for row in cursor:
                size += sum(len(each) for each in row if isinstance(each, str | bytes))
                if len(rows) == most or size > RESULT_LIMIT:
                    raise too_large()
                rows.append(tuple(map(_value, row)))
            return Rows(columns, rows)
        finally:
            cursor.close()

    def _check_log(self, text: str) -> None:
        """The log grows for as long as a transaction reads what it was before. Raises SqlError where it is too large,
        but for what ends a transaction."""
        try:
            size = os.stat(self._log).st_size
        except OSError:
            return
        if size <= self._log_limit or text.lstrip().upper().startswith(("COMMIT", "END", "ROLLBACK")):
            return
        if not self._database.in_transaction:
            self._database.set_authorizer(None)  # it refuses guests this
            try:
                self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                self._database.set_authorizer(self._authorize)
            if os.stat(self._log).st_size <= self._log_limit:
                return
        raise SqlError("the database is full: its log can't be shortened while a transaction is open")

    def _authorize(
        self, action: int, first: str | None, second: str | None, schema: str | None, _trigger: str | None
    ) -> int:
        """Whether a statement may do something: see SQLite's manual, "Authorizer Action Codes"."""
        match action:
            case sqlite3.SQLITE_FUNCTION:
                name = (second or "").lower()
                allowed = name not in _FUNCTIONS_DENIED
                if name in _OF_CONNECTION:
                    allowed = self._database.in_transaction
            case sqlite3.SQLITE_READ:
                allowed = (first or "").lower() not in _TABLES_DENIED
            case sqlite3.SQLITE_PRAGMA:
                allowed = first in _PRAGMAS | _PRAGMAS_ASK
            case _:
                allowed = action in (_ALLOWED_TEMPORARY if schema == "temp" else _ALLOWED)
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _value(value: Any) -> Value:
    match value:
        case None:
            return int(Kind.NULL), None
        case int():
            return int(Kind.INT64), value
        case float():
            return int(Kind.DOUBLE), value
        case str():
            return int(Kind.TEXT), value
    return int(Kind.BINARY), bytes(value)


def _no_memory() -> SqlError:
    return SqlError(f"the statement takes too much memory: SQLite may have {HEAP_BYTES} bytes")


def _code(error: sqlite3.Error) -> int:
    """SQLite's extended code; SQLITE_OK for what Python's module finds wrong itself."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK))


def _describe(error: sqlite3.Error) -> SqlError:
    match _code(error) & 0xFF:
        case sqlite3.SQLITE_ERROR if str(error).startswith("not authorized"):
            return AccessViolation(str(error))  # to use a function
        case sqlite3.SQLITE_ERROR | sqlite3.SQLITE_RANGE:
            return SyntaxFault(str(error))
        case sqlite3.SQLITE_OK if isinstance(error, sqlite3.ProgrammingError):
            return SyntaxFault(str(error))  # two statements, or placeholders without a parameter
        case sqlite3.SQLITE_CONSTRAINT:
            return ConstraintViolation(str(error))
        case sqlite3.SQLITE_AUTH | sqlite3.SQLITE_PERM:
            return AccessViolation(str(error))
        case sqlite3.SQLITE_READONLY:
            return AccessViolation(str(error), f"sql.sqlite: {error}; make the files in DIRECTORY writable")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return SqlError("the database is locked by another transaction; try again")
        case sqlite3.SQLITE_FULL:
            return SqlError(
                "the database is full", f"sql.sqlite: {error}: the file system's limit, or that of a database"
            )
    return SqlError(str(error))
