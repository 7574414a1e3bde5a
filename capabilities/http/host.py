"""Answers a guest's `http-server` imports."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, cast

from capabilities.bindings import http_server
from capabilities.bindings.http_types import Uri
from capabilities.http.dispatch import Dispatcher, resolve
from capabilities.http.routes import RouteTable


class RunningServer(Protocol):
    """A server at work, in this process or in several."""

    async def stop(self) -> None:
        """Finishes the requests under way and ends. It may be called again."""


class HttpHost:
    """Implements `HttpServerHost`."""

    __slots__ = ("_dispatcher", "_start")

    def __init__(self, dispatcher: Dispatcher, start: Callable[[str, RouteTable], Awaitable[RunningServer]]) -> None:
        """`start` serves a table of routes at an address; what it raises ends the guest's call."""
        self._dispatcher = dispatcher
        self._start = start

    async def router_new(self) -> http_server.Router:
        return Router(self._dispatcher, RouteTable())

    async def router_new_with_base(self, base: Uri) -> http_server.Router:
        """Raises `Err[HttpRouterErrorInvalidUrl]` where `base` can't begin a route."""
        return Router(self._dispatcher, RouteTable.with_base(base))

    async def server_serve(self, address: str, router: http_server.Router) -> http_server.Server:
        """Raises `Err[HttpRouterError]`, and ListenError where the address is taken or not permitted."""
        return Server(await self._start(address, cast(Router, router).table))


class Router:
    """Implements the resource `router`."""

    __slots__ = ("_dispatcher", "table")

    def __init__(self, dispatcher: Dispatcher, table: RouteTable) -> None:
        self._dispatcher = dispatcher
        self.table = table

    async def get(self, route: str, handler: str) -> http_server.Router:
        return self._add("GET", route, handler)

    async def put(self, route: str, handler: str) -> http_server.Router:
        return self._add("PUT", route, handler)

    async def post(self, route: str, handler: str) -> http_server.Router:
        return self._add("POST", route, handler)

    async def delete(self, route: str, handler: str) -> http_server.Router:
        return self._add("DELETE", route, handler)

    def _add(self, method: str, route: str, handler: str) -> http_server.Router:
        """Raises `Err[HttpRouterError]` for a route that makes no sense and a handler that the guest doesn't export."""
        table = self.table.add(method, route, handler)
        resolve(self._dispatcher, handler)
        return Router(self._dispatcher, table)


class Server:
    """Implements the resource `server`."""

    __slots__ = ("_running",)

    def __init__(self, running: RunningServer) -> None:
        self._running = running

    async def stop(self) -> None:
        await self._running.stop()
