"""Components that call WASI's functions with whatever they like: they reach the host with values of the right types, or
are ended, in C as in Python."""

from __future__ import annotations

import asyncio
import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bindgen.runtime import GuestFault, Import, component
from bindgen.runtime.text import Encoding

BINDINGS = Path(__file__).resolve().parents[2] / "capabilities" / "bindings"
SIZE = 1 << 12


def modules() -> list[ModuleType]:
    names = sorted(f"{path.parent.name}.{path.stem}" for path in BINDINGS.glob("wasi_*/*.py"))
    found = [importlib.import_module(f"capabilities.bindings.{name}") for name in names if "__init__" not in name]
    return [module for module in found if getattr(module, "IMPORTS", ())]


IMPORTS = [(module, definition) for module in modules() for definition in module.IMPORTS]


class Reached(Exception):
    """The host's method was called, with such arguments."""


class Anything:
    """A host, or a resource of one: each method says that it was reached."""

    def __getattr__(self, name: str) -> Any:
        async def method(*args: Any) -> None:
            raise Reached(name, repr(args))

        return method

    def __repr__(self) -> str:
        return "a resource"


class Table:
    """Handles from 1 to 7 are of every resource, and stand for every stream."""

    def get(self, _key: Any, index: int, where: Any) -> Anything:
        if not 0 < index < 8:
            raise GuestFault(f"{where}: there is no handle {index}")
        return Anything()

    take = lend = take_stream = take_future = get


class Guest:
    def __init__(self, memory: bytes, encoding: Encoding) -> None:
        self.memory = memoryview(bytearray(memory))
        self.encoding = encoding
        self.handles = self.channels = Table()

    async def allocate(self, lower: Any) -> None:
        raise AssertionError("no host returns anything here")


def outcome(module: ModuleType, call: Any, args: tuple[Any, ...], guest: Guest, form: str) -> tuple[str, ...]:
    """What comes of a call: what the guest is told, or what the host gets."""
    chosen = (component.Lift, component.Lower) if form == "C" else (component.PureLift, component.PureLower)
    for name, found in zip(("Lift", "Lower"), chosen, strict=True):
        if hasattr(module, name):
            setattr(module, name, found)
    try:
        asyncio.run(call(Anything(), guest, args))
    except GuestFault as fault:
        return ("ended", str(fault))
    except Reached as reached:
        return ("reached", *reached.args)
    raise AssertionError("the host was not asked")


NUMBERS = st.one_of(
    st.integers(0, 9),
    st.sampled_from([SIZE - 16, SIZE - 1, SIZE, SIZE + 8, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFF8, 0xFFFF_FFFF]),
    st.integers(0, SIZE).map(lambda number: number & ~7),
    st.integers(0, 0xFFFF_FFFF),
)
ARGUMENTS = {
    "i": NUMBERS,
    "I": st.one_of(NUMBERS, st.integers(0, (1 << 64) - 1)),
    "f": st.floats(width=32),
    "d": st.floats(),
}
MEMORY = st.lists(
    st.one_of(
        st.just(b"\0\0\0\0"),
        st.binary(min_size=4, max_size=4),
        NUMBERS.map(lambda number: number.to_bytes(8, "little")[:4]),
    ),
    max_size=64,
)


@given(st.sampled_from(IMPORTS), st.data())
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_call_is_refused_or_reaches_the_host_in_both_forms_alike(
    chosen: tuple[ModuleType, Import], data: st.DataObject
) -> None:
    module, definition = chosen
    args = tuple(data.draw(ARGUMENTS[letter]) for letter in definition.params)
    memory = (b"".join(data.draw(MEMORY)) * SIZE)[:SIZE].ljust(SIZE, b"\0")
    encoding = data.draw(st.sampled_from(["utf8", "utf16", "latin1+utf16"]))
    outcomes = [outcome(module, definition.call, args, Guest(memory, encoding), form) for form in ("C", "Python")]
    assert outcomes[0] == outcomes[1]
    if outcomes[0][0] == "ended":
        assert outcomes[0][1].startswith(f"{definition.module}: {definition.name}: ")


@pytest.mark.parametrize("form", ["C", "Python"])
def test_every_function_can_be_reached(form: str) -> None:
    """With handles that there are, and an empty memory, nothing is refused but what must not be 0."""
    for module, definition in IMPORTS:
        args = tuple(
            1 if definition.name.startswith("[method]") and not number else 0
            for number in range(len(definition.params))
        )
        refused = outcome(module, definition.call, args, Guest(bytes(SIZE), "utf8"), form)
        assert refused[0] == "reached" or re.search(r"there is no handle 0$", refused[1]), (definition.name, refused)
