"""Lends the connections to one database: for a statement, or from the begin of a transaction to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Protocol

from capabilities.sql import STATEMENT_SECONDS, Rows, SqlError

WAIT_SECONDS = 10.0
"""How long a statement waits for a connection."""

IDLE_SECONDS = 30.0
"""How long a transaction may go without a statement. It holds locks that others wait for."""

TRANSACTION_SECONDS = 120.0
"""How long it may take in all. A database keeps what it was for those who read it."""


class Connection(Protocol):
    """One connection, which one caller at a time uses."""

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction was begun and has not ended."""
        ...

    @property
    def is_usable(self) -> bool:
        """Whether it can run another statement, as far as can be told without asking."""
        ...

    async def run(self, statement: str, parameters: list[str]) -> Rows:
        """Raises SqlError. After a call that is cancelled, `close` is all that may be called."""
        ...

    async def reset(self) -> None:
        """Ends an open transaction and forgets what statements have set. Raises SqlError."""
        ...

    async def close(self) -> None:
        """Ends it, and the statement that it may be running."""
        ...


@dataclass(slots=True)
class _Transaction:
    connection: Connection
    timer: asyncio.TimerHandle
    began: float
    """When it was first put back, by the event loop's clock."""


class Connections:
    """At most `size` connections, which `connect` makes when they are needed."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], size: int) -> None:
        self._connect = connect
        self._size = size
        self._free = asyncio.Semaphore(size)
        self._idle: list[Connection] = []
        self._transactions: dict[Hashable, _Transaction] = {}
        """The connections that are in a transaction, by the session that has begun it."""
        self._expired: set[Hashable] = set()
        """The sessions whose transaction was taken back for want of a statement, and that were not told."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, session: Hashable, statement: str, parameters: list[str]) -> Rows:
        """Runs a statement for a session. Raises SqlError."""
        if session in self._expired:
            self._expired.discard(session)
            raise SqlError(
                f"the transaction was taken back: it had no statement for {IDLE_SECONDS:g} seconds, or took "
                f"{TRANSACTION_SECONDS:g} in all"
            )
        transaction = self._transactions.pop(session, None)
        if transaction is None:
            connection = await self._take()
        else:
            transaction.timer.cancel()
            connection = transaction.connection
        try:
            async with asyncio.timeout(STATEMENT_SECONDS):
                rows = await connection.run(statement, parameters)
        except TimeoutError:
            self._discard(connection)
            raise SqlError(f"the statement took more than {STATEMENT_SECONDS:g} seconds") from None
        except SqlError:
            self._put_back(session, connection, transaction)
            raise
        except BaseException:
            self._discard(connection)
            raise
        self._put_back(session, connection, transaction)
        return rows

    async def end(self, session: Hashable) -> None:
        """Takes back what the session's transaction has done, if it has one."""
        self._expired.discard(session)
        if transaction := self._transactions.pop(session, None):
            transaction.timer.cancel()
            self._begin(self._reset(transaction.connection))

    async def close(self) -> None:
        for transaction in self._transactions.values():
            transaction.timer.cancel()
            self._idle.append(transaction.connection)
        self._transactions.clear()
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.close()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _take(self) -> Connection:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._free.acquire()
        except TimeoutError:
            raise SqlError(f"all {self._size} connections to the database are in use") from None
        try:
            while self._idle:
                connection = self._idle.pop()
                if connection.is_usable:
                    return connection
                self._begin(connection.close())
            async with asyncio.timeout(STATEMENT_SECONDS):
                return await self._connect()
        except TimeoutError:
            self._free.release()
            raise SqlError(f"there was no connection to the database in {STATEMENT_SECONDS:g} seconds") from None
        except BaseException:
            self._free.release()
            raise

    def _put_back(self, session: Hashable, connection: Connection, earlier: _Transaction | None) -> None:
        """`earlier` is what the connection was taken from, unless it was in no transaction."""
        if not connection.is_usable:
            self._discard(connection)
        elif connection.in_transaction:
            loop = asyncio.get_running_loop()
            began = earlier.began if earlier else loop.time()
            ends = min(loop.time() + IDLE_SECONDS, began + TRANSACTION_SECONDS)
            timer = loop.call_at(ends, self._expire, session)
            self._transactions[session] = _Transaction(connection, timer, began)
        else:
            self._begin(self._reset(connection))

    def _expire(self, session: Hashable) -> None:
        transaction = self._transactions.pop(session)
        self._expired.add(session)
        self._begin(self._reset(transaction.connection))

    async def _reset(self, connection: Connection) -> None:
        """Whoever ran the statement has its result by now and does not wait for this."""
        try:
            async with asyncio.timeout(STATEMENT_SECONDS):
                await connection.reset()
        except (SqlError, TimeoutError):
            await connection.close()
        else:
            self._idle.append(connection)
        finally:
            self._free.release()

    def _discard(self, connection: Connection) -> None:
        self._free.release()
        self._begin(connection.close())

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
