"""The interface http-server as a guest calls it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bindgen.runtime import Err
from capabilities.bindings.http_server import HttpServerHost
from capabilities.bindings.http_types import (
    HttpRouterErrorInvalidUrl,
    HttpRouterErrorUnexpectedError,
)
from capabilities.http.host import HttpHost
from capabilities.http.listen import ListenError, bind
from capabilities.http.routes import RouteTable
from capabilities.http.server import HttpService
from tests.http_serving import Functions, Serving, hello


class Starts:
    """Stands in for what starts servers: notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, RouteTable]] = []
        self.stopped = 0

    async def __call__(self, address: str, table: RouteTable) -> Starts:
        self.asked.append((address, table))
        return self

    async def stop(self) -> None:
        self.stopped += 1


def test_a_router_hands_its_routes_to_the_server() -> None:
    async def main() -> None:
        starts = Starts()
        host: HttpServerHost = HttpHost(Functions(handle_a=hello), starts)
        router = await host.router_new_with_base("/api")
        router = await router.get("/a", "handle_a")
        router = await router.put("/b", "handle-a")
        router = await router.post("/c", "handle_a")
        router = await router.delete("/d/:id", "handle_a")
        server = await host.server_serve("127.0.0.1:0", router)
        ((address, table),) = starts.asked
        assert address == "127.0.0.1:0"
        assert table.routes == (
            ("GET", "/api/a", "handle_a"),
            ("PUT", "/api/b", "handle-a"),
            ("POST", "/api/c", "handle_a"),
            ("DELETE", "/api/d/:id", "handle_a"),
        )
        await server.stop()
        await server.stop()
        assert starts.stopped == 2

    asyncio.run(main())


def test_registering_a_route_leaves_the_old_router_as_it_was() -> None:
    async def main() -> None:
        starts = Starts()
        host = HttpHost(Functions(a=hello), starts)
        router = await host.router_new()
        await router.get("/a", "a")
        await host.server_serve("x:1", router)
        assert starts.asked[0][1].routes == ()

    asyncio.run(main())


def test_a_handler_that_is_not_exported_is_told_when_its_route_is_registered() -> None:
    async def main() -> None:
        router = await HttpHost(Functions(a=hello), Starts()).router_new()
        with pytest.raises(Err) as caught:
            await router.post("/", "handle_gone")
        assert caught.value.value == HttpRouterErrorUnexpectedError("no exported function 'handle-gone'")

    asyncio.run(main())


def test_a_handler_of_another_signature_is_told_why() -> None:
    class Odd(Functions):
        def resolve(self, handler: str) -> Any | None:
            raise ValueError(f"{handler} takes 3 parameters, a handler takes 10")

    async def main() -> None:
        router = await HttpHost(Odd(), Starts()).router_new()
        with pytest.raises(Err) as caught:
            await router.get("/", "odd")
        assert caught.value.value == HttpRouterErrorUnexpectedError("odd takes 3 parameters, a handler takes 10")

    asyncio.run(main())


def test_a_route_or_base_that_makes_no_sense_is_an_invalid_url() -> None:
    async def main() -> None:
        host = HttpHost(Functions(a=hello), Starts())
        router = await host.router_new()
        for attempt in (router.get("/:", "a"), host.router_new_with_base("api")):
            with pytest.raises(Err) as caught:
                await attempt
            assert isinstance(caught.value.value, HttpRouterErrorInvalidUrl)

    asyncio.run(main())


def test_a_guest_can_serve_stop_and_serve_again() -> None:
    async def main() -> None:
        functions = Functions(hello=hello)

        async def start(address: str, table: RouteTable) -> HttpService:
            sockets = bind(address)
            service = HttpService(functions)
            await service.start(sockets, table)
            return service

        host = HttpHost(functions, start)
        router = await (await host.router_new()).get("/", "hello")
        (probe,) = bind("127.0.0.1:0")
        port = probe.getsockname()[1]
        probe.close()
        for _ in range(2):
            server = await host.server_serve(f"127.0.0.1:{port}", router)
            with pytest.raises(ListenError, match="something else listens there"):
                await host.server_serve(f"127.0.0.1:{port}", router)
            client = Serving(HttpService(functions), functions, port)
            response = await client.raw(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert response.endswith(b"hello")
            await server.stop()

    asyncio.run(main())
