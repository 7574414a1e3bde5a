"""Components that are cut short, changed at random, or no components at all: all that is raised is ComponentErrors."""

from __future__ import annotations

import random
from contextlib import suppress
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from slight_py.component import binary
from slight_py.component.errors import ComponentError
from tests.component.mutations import Findings, compare, corpus, mutated

PREAMBLE = b"\0asm\x0d\0\1\0"

CASES = 2_000

HARMLESS = (
    "in a core module",  # wasmtime compiles them before anything runs
    # What wasmtime can do, but has switched off.
    "not supported without the stack switching feature",
    "requires the component model error-context feature",
    "Fixed-length lists require the component model fixed-length lists feature",
    "this was historically accepted as",  # `cancellable`
    # What wasmtime can't do.
    "is a reexport of an imported function which is not implemented",
    "exporting a component from the root component is not supported",
    "unsupported type export",
    # Two types that are equal are taken for one, where wasmtime wants each to have a name.
    "not valid to be used as",
    "does not have a name in this context",
)
"""Why wasmtime refuses what is taken here."""


@cache
def components() -> list[bytes]:
    return corpus()


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    for wasm in (content, PREAMBLE + content):
        with suppress(ComponentError):
            binary.read(wasm)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_component_that_is_cut_short_is_read_or_refused(data: st.DataObject) -> None:
    wasm = data.draw(st.sampled_from(components()))
    end = data.draw(st.integers(0, len(wasm)))
    with suppress(ComponentError):
        binary.read(wasm[:end])


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_component_with_any_bytes_changed_is_read_or_refused(data: st.DataObject) -> None:
    wasm = bytearray(data.draw(st.sampled_from(components())))
    for at in data.draw(st.lists(st.integers(0, len(wasm) - 1), min_size=1, max_size=4)):
        wasm[at] = data.draw(st.integers(0, 255))
    with suppress(ComponentError):
        binary.read(bytes(wasm))


def test_mutated_components_are_taken_only_where_wasmtime_takes_them_or_it_does_no_harm() -> None:
    chance = random.Random(20261129)
    findings = Findings()
    for _ in range(CASES):
        compare(mutated(chance, components()), findings)
    assert findings.wrong == []
    assert findings.taken > CASES // 20
    assert findings.only_there == {}
    assert [reason for reason in findings.only_here if not any(each in reason for each in HARMLESS)] == []
