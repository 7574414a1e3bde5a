"""`slight-py run` of modules that use databases and locks."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.command import Done, Server, serving, slight_py, wait_until
from tests.etcd_server import EtcdServer
from tests.guests import example, slightfile
from tests.postgres_server import PostgresServer
from tests.servers import HOST, free_port

SQL_OUTPUT = """\
name: Robert'); DROP TABLE users; --
email: bob@example.com
name: Ada
email: none
count: Int64(2)
"""


@pytest.mark.parametrize("grants", [[], ["-c", slightfile("sql-demo-rust")]])
def test_a_database_in_sqlite_is_gone_when_the_run_ends(grants: list[str | Path], tmp_path: Path) -> None:
    done = slight_py("run", example("sql-demo-rust"), *grants, env={"TMPDIR": str(tmp_path)})
    assert done == Done(0, SQL_OUTPUT, "")
    assert list(tmp_path.iterdir()) == []


def test_a_database_in_postgres(shared_postgres: PostgresServer) -> None:
    grants = slightfile("sql-demo-rust", "postgres")
    env = {"POSTGRES_CONNECTION_URL": shared_postgres.url}
    assert slight_py("run", example("sql-demo-rust"), "-c", grants, env=env) == Done(0, SQL_OUTPUT, "")
    assert shared_postgres.psql("SELECT COUNT(*) FROM pg_tables WHERE tablename = 'users'") == "0"


def test_the_user_is_told_that_a_database_is_away_and_the_module_gets_an_error() -> None:
    port = free_port()
    env = {"POSTGRES_CONNECTION_URL": f"postgresql://owner:secret@{HOST}:{port}/postgres"}
    done = slight_py("run", example("sql-demo-rust"), "-c", slightfile("sql-demo-rust", "postgres"), env=env)
    assert done.code == 1
    told = f"sql.postgres {HOST}:{port}: connection refused; start it, or correct POSTGRES_CONNECTION_URL"
    assert [line for line in done.errors if told in line]
    assert "secret" not in done.err


def count_visitors(server: Server, visitors: int) -> set[int]:
    """The numbers that so many visitors get who come at once."""
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: server.get("/count"), range(visitors)))
    assert {answer.status for answer in answers} == {200}
    return {int(answer.body) for answer in answers}


@pytest.mark.parametrize("backend", ["memory", "etcd"])
def test_handlers_in_several_workers_take_turns(backend: str, shared_etcd: EtcdServer) -> None:
    grants = slightfile("locking-demo-c", backend)
    env = {"ETCD_ENDPOINT": shared_etcd.endpoint}
    with serving(example("locking-demo-c"), "-c", grants, "--workers", "2", env=env) as server:
        assert count_visitors(server, 100) == set(range(1, 101))
        # A worker that dies takes no lock along.
        first, *_ = server.workers
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: first not in server.workers and len(server.workers) == 2, "another worker")
        assert count_visitors(server, 20) == set(range(101, 121))
        assert server.stop() == 0
    assert shared_etcd.keys == []


def test_a_handler_whose_request_is_given_up_leaves_no_lock_behind(shared_etcd: EtcdServer) -> None:
    grants = slightfile("locking-demo-c", "etcd")
    env = {"ETCD_ENDPOINT": shared_etcd.endpoint}
    holder = "my-locks/visitors/holder"
    shared_etcd.ctl("put", holder, "")  # as one who came first
    with serving(example("locking-demo-c"), "-c", grants, "--request-timeout", "1", env=env) as server:
        assert server.get("/count").status >= 500
        wait_until(lambda: shared_etcd.keys == [holder], "its key is gone")
        shared_etcd.ctl("del", holder)
        assert server.get("/count").status == 200
        assert shared_etcd.keys == []
