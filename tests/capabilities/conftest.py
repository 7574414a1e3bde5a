"""Fixtures that the tests of several capabilities use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import http_serving, machine_http
from tests.keyvalue_subjects import azurite_server, dapr_server, kind, moto_server, redis_server, subject

__all__ = ["azurite_server", "dapr_server", "kind", "moto_server", "redis_server", "subject"]


@pytest.fixture
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has `http_serving.serving` be the HTTP server of this name."""
    if request.param == "machine":
        request.getfixturevalue("machines")
    monkeypatch.setattr(http_serving, "server", request.param)


@pytest.fixture(scope="module")
def machines() -> Iterator[None]:
    """Ends the machines that the tests of a module have booted."""
    yield
    machine_http.machines.close()
