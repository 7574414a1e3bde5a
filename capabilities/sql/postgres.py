"""`sql.postgres`: databases in PostgreSQL.

libpq does the protocol; psycopg makes the connections. Statements go through the extended protocol with their
parameters as text and of no declared type, so that the server converts each to the type that its place has.
"""

from __future__ import annotations

import asyncio
import fcntl
import select
import struct
import termios
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar, Final

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq.abc import PGresult

from capabilities.errors import ConfigError
from capabilities.sql import (
    RESULT_LIMIT,
    RESULT_VALUES,
    STATEMENT_SECONDS,
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

MAX_CONNECTIONS = 16
"""How many connections a process has at most. PostgreSQL allows 100 in all, unless it's told otherwise."""

CONNECT_SECONDS = 5
CANCEL_SECONDS = 3.0
"""How long the server may take to hear that a statement is to stop."""

CONVERSION_BATCH = 10_000
"""How many rows are converted before the event loop gets its turn."""

OPTIONS = (
    f"-c statement_timeout={STATEMENT_SECONDS:g}s -c datestyle=ISO -c intervalstyle=postgres -c client_encoding=UTF8"
)
"""What every connection begins with, beside what POSTGRES_CONNECTION_URL says."""

_KINDS: Final[Mapping[int, Kind]] = {
    16: Kind.BOOLEAN,
    17: Kind.BINARY,
    20: Kind.INT64,
    21: Kind.INT32,
    23: Kind.INT32,
    26: Kind.UINT32,  # oid
    28: Kind.UINT32,  # xid
    29: Kind.UINT32,  # cid
    700: Kind.FLOAT,
    701: Kind.DOUBLE,
    1082: Kind.DATE,
    1083: Kind.TIME,
    1266: Kind.TIME,  # with a time zone
    1114: Kind.TIMESTAMP,
    1184: Kind.TIMESTAMP,  # with a time zone
    5069: Kind.UINT64,  # xid8
}
"""By the OIDs of PostgreSQL's types (`pg_type.dat`). Any other type is a text."""

_SERVER_ENDS = ("57P01", "57P02", "57P03")
"""The codes with which it ends connections."""

_PARAMETERS_MISSING = "08P01"
"""The code that it answers with where there are more or fewer parameters than placeholders."""


class PostgresBackend:
    """Databases at POSTGRES_CONNECTION_URL, which has the form that libpq's manual gives ("Connection URIs").

    Every name that is granted with one URL is the database of that URL.
    """

    REQUIRED: ClassVar[tuple[str, ...]] = ("POSTGRES_CONNECTION_URL",)
    OPTIONAL: ClassVar[tuple[str, ...]] = ()

    def __init__(self, configs: Mapping[str, str]) -> None:
        """Raises ConfigError."""
        self._server = _Server(configs.get("POSTGRES_CONNECTION_URL", ""))
        self._connections = Connections(self._server.connect, MAX_CONNECTIONS)

    async def run(self, session: int, name: str, statement: str, parameters: list[str]) -> Rows:
        """Raises SqlError."""
        return await self._connections.run(session, statement, parameters)

    async def end(self, session: int) -> None:
        await self._connections.end(session)

    async def close(self) -> None:
        await self._connections.close()


class _Server:
    """Where the database is, and how to get there. It holds a password: nothing prints it."""

    def __init__(self, url: str) -> None:
        """Raises ConfigError, which shows nothing of the URL."""
        if not url.startswith(("postgres://", "postgresql://")):
            raise _bad_url("it starts with neither postgres:// nor postgresql://")
        try:
            settings = conninfo_to_dict(url)
        except psycopg.Error:
            raise _bad_url(
                "it is not postgresql://USER:PASSWORD@HOST:PORT/DATABASE (in a password, '/', '?', '#' and '@' are "
                "written %2F, %3F, %23 and %40)"
            ) from None
        host, port = settings.get("host") or "localhost", settings.get("port") or 5432
        if not all(_is_port(each) for each in str(port).split(",")):
            raise _bad_url("its port is not a number from 1 to 65535")
        self.place = ", ".join(f"{each}:{port}" for each in str(host).split(","))
        """For the user."""
        options = f"{settings.get('options') or ''} {OPTIONS}".strip()
        self._conninfo = make_conninfo(
            url, options=options, connect_timeout=CONNECT_SECONDS, fallback_application_name="slight-py"
        )

    async def connect(self) -> _Connection:
        """Raises SqlError."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return _Connection(await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True), self)
        except TimeoutError:
            raise self.away("no answer in time") from None
        except psycopg.Error as error:
            raise self._refusal(error) from None
        except OSError as error:
            raise self.away(error.strerror or "it can't be reached") from None

    def away(self, why: str) -> SqlError:
        """The error for a server that can't be used."""
        notice = f"sql.postgres {self.place}: {why}; start it, or correct POSTGRES_CONNECTION_URL"
        return SqlError("the database can't be reached", notice)

    def _refusal(self, error: psycopg.Error) -> SqlError:
        """The error for a connection that was not made.

        libpq gives what the server says as text alone. Only what is known to hold no secret is told.
        """
        text = str(error).lower()
        if "authentication failed" in text or "no password supplied" in text or "pg_hba.conf" in text:
            notice = f"sql.postgres {self.place}: the server refuses the user or the password"
            return AccessViolation("the database refuses the access", f"{notice}; correct POSTGRES_CONNECTION_URL")
        for words, why in _REASONS:
            if words in text:
                return self.away(why)
        return self.away("no connection can be made")


_REASONS = (
    ("connection refused", "connection refused"),
    ("too many clients", "it has too many connections"),
    ("remaining connection slots", "it has too many connections"),
    ("starting up", "it is starting"),
    ("shutting down", "it is shutting down"),
    ("certificate verify failed", "its certificate is not trusted"),
    ("server certificate for", "its certificate is for another host"),
    ("root certificate", "the file of trusted certificates can't be read"),
    ("does not support ssl", "it does not speak TLS"),
    ("no such file or directory", "there is no such socket"),
    ("does not exist", "there is no such database or user"),
    ("timeout", "no answer in time"),
    ("resolve", "its name can't be resolved"),
    ("name or service not known", "its name can't be resolved"),
    ("closed the connection unexpectedly", "it closes the connection"),
)
"""What libpq and the server say, and what the user is told of it."""


def _bad_url(reason: str) -> ConfigError:
    return ConfigError(f"POSTGRES_CONNECTION_URL is not the URL of a database: {reason}", "POSTGRES_CONNECTION_URL")


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) < 65_536


class _Connection:
    """One connection. libpq is used without blocking: it only reads where there is something to read."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], server: _Server) -> None:
        self._connection = connection
        self._server = server
        self._pg = connection.pgconn
        self._pg.nonblocking = 1

    @property
    def in_transaction(self) -> bool:
        status = self._pg.transaction_status
        return status in (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR)

    @property
    def is_usable(self) -> bool:
        """Where the server has ended the connection, there is something to read: its last words, or the end."""
        if self._pg.status != pq.ConnStatus.OK or self._pg.transaction_status == pq.TransactionStatus.ACTIVE:
            return False
        return self.in_transaction or _waiting_bytes(self._pg.socket) == 0

    async def run(self, statement: str, parameters: list[str]) -> Rows:
        """Raises SqlError."""
        text = numbered(statement, len(parameters))
        try:
            self._pg.send_query_params(text.encode(), [each.encode() for each in parameters])
            self._pg.set_single_row_mode()  # so that no more of a result is in memory than is counted
            received: list[tuple[bytes | None, ...]] = []
            result = await self._result(received)
        except psycopg.Error:
            raise self._lost() from None
        match result.status:
            case pq.ExecStatus.TUPLES_OK:
                return await _rows(result, received)
            case pq.ExecStatus.COMMAND_OK:
                return Rows((), [])
            case pq.ExecStatus.EMPTY_QUERY:
                raise SyntaxFault("the statement is empty")
        raise self._describe(result)

    async def reset(self) -> None:
        """Raises SqlError."""
        try:
            for command in (b"ROLLBACK", b"DISCARD ALL")[not self.in_transaction :]:
                self._pg.send_query(command)
                result = await self._result()
                if result.status != pq.ExecStatus.COMMAND_OK:
                    raise self._describe(result)
        except psycopg.Error:
            raise self._lost() from None
        while self._pg.notifies():
            pass

    async def close(self) -> None:
        if self._pg.transaction_status == pq.TransactionStatus.ACTIVE:
            # The server would run the statement to its end.
            with suppress(psycopg.Error, OSError, TimeoutError):
                async with asyncio.timeout(CANCEL_SECONDS):
                    await self._connection.cancel_safe(timeout=CANCEL_SECONDS)
        await self._connection.close()

    async def _result(self, rows: list[tuple[bytes | None, ...]] | None = None) -> PGresult:
        """The result of what was sent, without its rows, which go into `rows`.

        Raises psycopg.Error where the connection breaks, and SqlError.
        """
        while self._pg.flush():
            await _ready(self._pg.socket, writable=True)
            if _waiting_bytes(self._pg.socket):
                self._pg.consume_input()
        size = values = count = 0
        is_over = False
        last = None
        while True:
            while self._pg.is_busy():
                await _ready(self._pg.socket)
                self._pg.consume_input()
            result = self._pg.get_result()
            if result is None:
                break
            if result.status == pq.ExecStatus.SINGLE_TUPLE and rows is not None:
                if not is_over:
                    row = tuple(result.get_value(0, index) for index in range(result.nfields))
                    rows.append(row)
                    size += sum(map(len, filter(None, row)))
                    values += max(1, len(row))  # a row without columns takes its place, too
                    if size > RESULT_LIMIT or values > RESULT_VALUES:
                        # Stopped, and received to its end: a connection that is closed takes its transaction with it.
                        is_over = True
                        rows.clear()
                        await self._connection.cancel_safe(timeout=CANCEL_SECONDS)
                count += 1
                if not count % CONVERSION_BATCH:
                    await asyncio.sleep(0)
                continue
            if result.status in (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH):
                await self._connection.close()
                raise SqlError("COPY from and to the client is not possible here; the connection was closed")
            last = result
        if is_over:
            raise too_large()
        if last is None:
            raise self._lost()
        return last

    def _lost(self) -> SqlError:
        return SqlError("the connection to the database broke", self._server.away("the connection broke").notice)

    def _describe(self, result: PGresult) -> SqlError:
        """For an error that the server answered with, by its code (PostgreSQL's manual, appendix A)."""
        state = _field(result, pq.DiagnosticField.SQLSTATE)
        message = _field(result, pq.DiagnosticField.MESSAGE_PRIMARY)
        if state in _SERVER_ENDS or self._pg.status != pq.ConnStatus.OK:
            return self._lost()
        if state in ("42501", "25006") or state.startswith("28"):
            return AccessViolation(message)
        if state == _PARAMETERS_MISSING or state.startswith(("42", "3F", "26", "34")):
            return SyntaxFault(message)
        if state.startswith(("23", "44")):
            return ConstraintViolation(message)
        if state == "57014":
            return SqlError("the statement was stopped: it took too long, or somebody stopped it")
        if state.startswith(("53", "58", "F0", "XX")):
            # A guest can raise any error with any text: none of it is told.
            notice = f"sql.postgres {self._server.place}: an error of class {state[:2]}; look into the server's log"
            return SqlError(f"the database is in trouble (SQLSTATE {state})", notice)
        return SqlError(f"{message} (SQLSTATE {state})")


def _field(result: PGresult, field: pq.DiagnosticField) -> str:
    return (result.error_field(field) or b"").decode(errors="replace")


async def _rows(result: PGresult, received: list[tuple[bytes | None, ...]]) -> Rows:
    """The rows as they were received, converted by what the result says of its columns. Raises SqlError."""
    indices = range(result.nfields)
    convert = [_CONVERTERS.get(result.ftype(index), _text) for index in indices]
    rows = []
    try:
        columns = tuple((result.fname(index) or b"").decode() for index in indices)
        for number, data in enumerate(received):
            if number and not number % CONVERSION_BATCH:
                await asyncio.sleep(0)
            rows.append(tuple((Kind.NULL, None) if each is None else convert[at](each) for at, each in enumerate(data)))
    except UnicodeDecodeError:
        raise SqlError("the result holds a text that is not UTF-8") from None
    return Rows(columns, rows)


def _text(data: bytes) -> Value:
    return Kind.TEXT, data.decode()


def _converter(kind: Kind) -> Any:
    match kind:
        case Kind.BOOLEAN:
            return lambda data: (kind, data == b"t")
        case Kind.BINARY:
            unescape = pq.Escaping().unescape_bytea
            return lambda data: (kind, bytes(unescape(data)))
        case Kind.FLOAT | Kind.DOUBLE:
            return lambda data: (kind, float(data))
        case Kind.DATE | Kind.TIME | Kind.TIMESTAMP:
            return lambda data: (kind, data.decode())
    return lambda data: (kind, int(data))


_CONVERTERS: Final = {oid: _converter(kind) for oid, kind in _KINDS.items()}


def _waiting_bytes(descriptor: int) -> int:
    """How many bytes can be read at once; 1 where the other end has closed."""
    buffer = fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4)
    (count,) = struct.unpack("i", buffer)
    if count:
        return int(count)
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return len(poll.poll(0))


async def _ready(descriptor: int, writable: bool = False) -> None:
    """Waits until there is something to read; or with `writable`, until there is room to write, too."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def done() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(descriptor, done)
    if writable:
        loop.add_writer(descriptor, done)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
        if writable:
            loop.remove_writer(descriptor)
