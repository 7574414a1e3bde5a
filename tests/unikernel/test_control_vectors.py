"""The lines that every reader of the control channel takes or refuses, whatever language it is in: this one as well."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.command import ROOT
from unikernel import control
from unikernel.checks import ControlError
from unikernel.control import Message

VECTORS: Mapping[str, Any] = json.loads((ROOT / "unikernel/control_vectors.json").read_text())

READERS: Mapping[str, Callable[[bytes], Message]] = {
    "guest": control.from_guest,
    "launcher": control.from_launcher,
}


def line(vector: Mapping[str, Any]) -> bytes:
    if "bytes" in vector:
        return bytes.fromhex(vector["bytes"])
    if "parts" in vector:
        return "".join(text * times for text, times in vector["parts"]).encode()
    return vector["line"].encode()


def vectors(verdict: str) -> list[Any]:
    return [
        pytest.param(direction, vector, id=f"{direction}-{number}")
        for direction in READERS
        for number, vector in enumerate(VECTORS[direction][verdict])
    ]


def with_seeds_in_hexadecimal(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: with_seeds_in_hexadecimal(member) for name, member in value.items()}
    return value.hex() if isinstance(value, bytes) else value


@pytest.mark.parametrize(("direction", "vector"), vectors("accepted"))
def test_a_line_is_taken_with_its_meaning(direction: str, vector: Mapping[str, Any]) -> None:
    message = READERS[direction](line(vector))
    assert message.kind == vector["kind"]
    assert with_seeds_in_hexadecimal(message.value) == vector["value"]
    assert message.at == vector.get("at")


@pytest.mark.parametrize(("direction", "vector"), vectors("refused"))
def test_a_line_that_breaks_a_rule_is_refused(direction: str, vector: Mapping[str, Any]) -> None:
    with pytest.raises(ControlError) as refused:
        READERS[direction](line(vector))
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("vector", [vector for vector in VECTORS["launcher"]["accepted"] if vector["kind"] == "boot"])
def test_a_launcher_writes_what_a_guest_reads(vector: Mapping[str, Any]) -> None:
    value = vector["value"]
    written = control.boot(
        **value
        | {
            "seed": bytes.fromhex(value["seed"]),
            "volumes": [(volume["tag"], volume["path"], volume["writable"]) for volume in value["volumes"]],
        }
    )
    assert with_seeds_in_hexadecimal(control.from_launcher(written.removesuffix(b"\n")).value) == value


@pytest.mark.parametrize("vector", VECTORS["guest"]["accepted"])
def test_a_guest_writes_what_a_launcher_reads(vector: Mapping[str, Any]) -> None:
    written = control.encode(vector["kind"], vector["value"], vector.get("at"))
    message = control.from_guest(written.removesuffix(b"\n"))
    assert (message.kind, message.value, message.at) == (vector["kind"], vector["value"], vector.get("at"))


def test_every_kind_and_every_member_of_the_document_has_its_vectors() -> None:
    document = (ROOT / "unikernel/control.md").read_text()
    for direction in READERS:
        for vector in VECTORS[direction]["accepted"]:
            assert f"| `{vector['kind']}` |" in document
    boots = [vector["value"] for vector in VECTORS["launcher"]["accepted"] if vector["kind"] == "boot"]
    assert {name for value in boots for name in value["options"]} == control.OPTIONS.keys()
    for name in (*boots[0], *control.OPTIONS):
        assert f"| `{name}` |" in document
