"""What the tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.etcd_server import EtcdServer
from tests.postgres_server import PostgresServer
from tests.redis_server import RedisServer


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """A Redis for all tests that leave in it what is theirs alone."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL for all tests that leave in it what is theirs alone."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def shared_etcd() -> Iterator[EtcdServer]:
    """An etcd for all tests that leave in it what is theirs alone."""
    with EtcdServer() as server:
        yield server
