"""What the tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.azurite_server import AzuriteServer
from tests.etcd_server import EtcdServer
from tests.moto_server import MotoServer
from tests.postgres_server import PostgresServer
from tests.redis_server import RedisServer


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """A Redis for all tests that leave in it what is theirs alone."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def shared_moto() -> Iterator[MotoServer]:
    """The same for S3 and DynamoDB. No test creates a user in it."""
    with MotoServer() as server:
        yield server


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL for all tests that leave in it what is theirs alone."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def shared_azurite() -> Iterator[AzuriteServer]:
    """The same for Azure Blob Storage."""
    with AzuriteServer() as server:
        yield server


@pytest.fixture(scope="session")
def shared_etcd() -> Iterator[EtcdServer]:
    """An etcd for all tests that leave in it what is theirs alone."""
    with EtcdServer() as server:
        yield server
