"""Addresses of Redis are read here as the kernel of native images reads them, whose own tests take the same vectors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from capabilities.errors import ConfigError
from capabilities.keyvalue.redis import parse_address
from tests.command import ROOT

VECTORS: Mapping[str, Any] = json.loads((ROOT / "unikernel/redis_vectors.json").read_text())


@pytest.mark.parametrize("vector", VECTORS["taken"], ids=lambda vector: repr(vector["address"]))
def test_an_address_is_taken_apart(vector: Mapping[str, Any]) -> None:
    found = parse_address(vector["address"])
    assert {name: getattr(found, name) for name in vector if name != "address"} == {
        name: value for name, value in vector.items() if name != "address"
    }


@pytest.mark.parametrize("address", VECTORS["refused"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError):
        parse_address(address)
