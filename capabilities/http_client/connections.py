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

from capabilities.http.connection import Ending

EARLY_LIMIT = 20
"""How many responses below 200 may come before the one that counts: RFC 9110 section 15.2."""


class Connector(TCPConnector):
    """Makes its connections with _Connection. It takes a running loop to make one."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        factory: Any = partial(_Connection, loop=self._loop)
        self._factory = factory


class _Connection(ResponseHandler):
    """Is closed by what comes after the response and before the next request, and by too much that comes before it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._answer: StreamReader | None = None
        """The body of the response, once its head is there."""
        self._early = 0
        """How many responses below 200 have come."""
        self.ending = Ending()
        """What is kept of the response, for its trailers."""

    def set_response_params(self, **params: Any) -> None:
        """Called for each request."""
        self._answer = None
        self._early = 0
        self.ending = Ending()
        super().set_response_params(**params)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Called for the head of each response; those below 200 come before the one that counts."""
        message, body = data
        if message.code >= 200:
            self._answer = body
        else:
            self._early += 1
        if self._early > EARLY_LIMIT:
            self.abort()
            return
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        if data and self._answer is not None and self._answer.is_eof():
            self.abort()
            return
        if data:
            self.ending.add(data)
        super().data_received(data)
