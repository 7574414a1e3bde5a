"""Fixtures that the tests of several capabilities use."""

from tests.keyvalue_subjects import azurite_server, dapr_server, kind, moto_server, redis_server, subject

__all__ = ["azurite_server", "dapr_server", "kind", "moto_server", "redis_server", "subject"]
