"""A line to a server, which tests cut, mend and slow down: `async with Line(port) as line: ... line.port ...`."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.servers import HOST, free_port


class Line:
    """A port of 127.0.0.1 behind which another one is, in the event loop of the test."""

    def __init__(self, behind: int) -> None:
        self.port = free_port()
        self.received = 0
        """How many bytes clients have sent."""
        self._behind = behind
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._left: int | None = None
        self._broken = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.mend()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.cut()
        self.release()
        if self._connections:
            await asyncio.wait(self._connections)

    async def mend(self) -> None:
        """Lets clients connect."""
        self._left = None
        self._broken.clear()
        self._server = await asyncio.start_server(self._accept, HOST, self.port)

    async def cut(self) -> None:
        """Breaks all connections; further ones are refused."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._broken.set()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    def cut_after(self, received: int) -> None:
        """Does the same when clients have sent so many more bytes."""
        self._left = received

    async def broken(self) -> None:
        """Waits until that has happened."""
        await self._broken.wait()

    def hold(self) -> None:
        """Passes nothing on until `release`."""
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._connect(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, here = await asyncio.open_connection(HOST, self._behind)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, here}
        await asyncio.gather(self._pass(reader, here, True), self._pass(there, writer, False))
        self._writers -= {writer, here}

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                await self._open.wait()
                if sent:
                    self.received += len(data)
                    if self._left is not None:
                        self._left -= len(data)
                        if self._left < 0:
                            await self.cut()
                writer.write(data)
                await writer.drain()
        writer.close()
