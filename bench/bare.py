"""The floor: what aiohttp does on uvloop with no wasm at all, with the same routes as examples/http-server-demo-rust.

python -m bench.bare PORT
"""

from __future__ import annotations

import os
import sys

import redis.asyncio
import uvloop
from aiohttp import web

STORE: dict[str, bytes] = {}


async def hello(_: web.Request) -> web.Response:
    return web.Response(body=b"hello")


async def person(request: web.Request) -> web.Response:
    return web.Response(body=f"hello {request.match_info['name']}".encode())


async def upload(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


async def get(_: web.Request) -> web.Response:
    return web.Response(body=STORE["key"])


async def put(request: web.Request) -> web.Response:
    STORE["key"] = await request.read()
    return web.Response(status=204)


def with_redis(app: web.Application) -> None:
    """The same two routes with a Redis behind them."""
    client = redis.asyncio.from_url(os.environ["REDIS_ADDRESS"])

    async def get(_: web.Request) -> web.Response:
        return web.Response(body=await client.get("my-container:key"))

    async def put(request: web.Request) -> web.Response:
        await client.set("my-container:key", await request.read())
        return web.Response(status=204)

    app.router.add_get("/get", get)
    app.router.add_put("/set", put)


def main() -> None:
    app = web.Application(client_max_size=1 << 20)
    app.router.add_get("/hello", hello)
    app.router.add_get("/person/{name}", person)
    app.router.add_post("/upload", upload)
    if "REDIS_ADDRESS" in os.environ:
        with_redis(app)
    else:
        app.router.add_get("/get", get)
        app.router.add_put("/set", put)
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


if __name__ == "__main__":
    main()
