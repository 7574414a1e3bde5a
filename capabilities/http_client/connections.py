"""aiohttp's connections, but that none of them listens to a server that has nothing to answer.

aiohttp goes on to parse what comes on a connection that is kept for later, and keeps every response that it finds: a
server that sends them without end would fill the memory.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from aiohttp import TCPConnector
from aiohttp.client_proto import ResponseHandler
from aiohttp.streams import StreamReader


class Connector(TCPConnector):
    """Makes its connections with _Connection. It takes a running loop to make one."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._factory = partial[ResponseHandler](_Connection, loop=self._loop)


class _Connection(ResponseHandler):
    """Is closed by what comes after the response and before the next request."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._answer: StreamReader | None = None
        """The body of the response, once its head is there."""

    def set_response_params(self, **params: Any) -> None:
        """Called for each request."""
        self._answer = None
        super().set_response_params(**params)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Called for the head of each response; those below 200 come before the one that counts."""
        message, body = data
        if message.code >= 200:
            self._answer = body
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        if data and self._answer is not None and self._answer.is_eof():
            self.abort()
            return
        super().data_received(data)
