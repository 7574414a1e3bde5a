"""A backend of the main process, as a worker sees it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from slight_py import sharing


@asynccontextmanager
async def as_worker(backend: Any) -> AsyncIterator[Any]:
    """What stands for `backend`, which has a method `connect`, in a worker that lives as long as the block."""
    key: sharing.Key = ("test", ())
    here, there = socket.socketpair()
    serving = asyncio.create_task(sharing.serve({key: backend}, here))
    connection = sharing.Connection(there)
    yield connection.backend(key)
    await connection.close()
    await serving
