"""Fixtures that the tests of several capabilities use."""

from __future__ import annotations

import pytest

from tests import http_serving
from tests.keyvalue_subjects import azurite_server, dapr_server, kind, moto_server, redis_server, subject

__all__ = ["azurite_server", "dapr_server", "kind", "moto_server", "redis_server", "subject"]


@pytest.fixture(params=["python", "native"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has `http_serving.serving` be one HTTP server, then the other."""
    monkeypatch.setattr(http_serving, "native", request.param == "native")
