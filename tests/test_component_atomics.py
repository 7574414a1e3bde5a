"""Components in several processes that change the same values in one step each."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import component_toolchain
from tests.command import Server, running
from tests.redis_server import RedisServer

REQUESTS = 40

SLIGHTFILE = """
specversion = "0.2"

[[capability]]
resource = "keyvalue.{backend}"
name = "{name}"
    [capability.configs]
    {configs}
"""


@pytest.mark.parametrize("backend", ["memory", "filesystem", "redis"])
def test_no_change_is_lost(backend: str, tmp_path: Path) -> None:
    with RedisServer() as redis:
        configs = {
            "memory": "",
            "filesystem": f'DIRECTORY = "{tmp_path / "stores"}"',
            "redis": f'REDIS_ADDRESS = "{redis.address}"',
        }[backend]
        slightfile = tmp_path / "slightfile.toml"
        slightfile.write_text(SLIGHTFILE.format(backend=backend, name="values", configs=configs))
        app = component_toolchain.build_c("atomics_component")
        with running("run", app, "-c", slightfile, "--listen", "127.0.0.1:0", "--workers", "2") as server:
            found = server.wait_for(r"serving at 127\.0\.0\.1:(\d+)")
            server.port = int(found[1])
            check(server)


def check(server: Server) -> None:
    with ThreadPoolExecutor(8) as pool:
        sums = list(pool.map(lambda _: server.get("/n?add"), range(REQUESTS)))
        swaps = list(pool.map(lambda _: server.get("/text?swap"), range(REQUESTS)))
    assert {answer.status for answer in (*sums, *swaps)} == {200}
    assert sorted(int(answer.body) for answer in sums) == list(range(1, REQUESTS + 1))
    assert sorted(len(answer.body) for answer in swaps) == list(range(1, REQUESTS + 1))
    assert server.get("/n").body == b"%d" % REQUESTS
    assert server.get("/text").body == b"x" * REQUESTS
    refused = server.get("/text?add")
    assert refused.status == 500
    assert b"no number" in refused.body


def test_a_store_that_is_not_granted_is_denied(tmp_path: Path) -> None:
    slightfile = tmp_path / "slightfile.toml"
    slightfile.write_text(SLIGHTFILE.format(backend="memory", name="others", configs=""))
    app = component_toolchain.build_c("atomics_component")
    with running("run", app, "-c", slightfile, "--listen", "127.0.0.1:0") as server:
        server.port = int(server.wait_for(r"serving at 127\.0\.0\.1:(\d+)")[1])
        assert server.get("/key").status == 403
        server.wait_for("the module asked for the store 'values', which the slightfile does not grant")
