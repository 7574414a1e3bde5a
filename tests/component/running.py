"""Components in text form, made into programs and instances on the real engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import wasmtime

from bindgen.runtime import Import
from slight_py.component import binary, calls
from slight_py.component.instance import ComponentInstance, Lifted
from slight_py.component.plan import ImportedFunction
from slight_py.component.program import Component, ComponentProgram, letters
from slight_py.component.types import lowered_core_type
from slight_py.engine import Engine, Limits, Module
from tests import wat

Answer = Callable[[Any, Any, tuple[Any, ...]], Coroutine[Any, Any, Any]]
"""What answers an imported function: `await answer(host, guest, flat arguments)`."""

REALLOC = """
(global $free (mut i32) (i32.const 8192))
(func $realloc (export "realloc") (param $old i32) (param $size i32) (param $align i32) (param $new i32) (result i32)
  (local $at i32)
  (local.set $at
    (i32.and (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
             (i32.sub (i32.const 0) (local.get $align))))
  (global.set $free (i32.add (local.get $at) (local.get $new)))
  (local.get $at))
"""
"""Never frees. The first 8 KiB of the memory are the module's own."""


LIMITS = Limits(memory=16 << 20, instances=16)


def engine() -> Engine:
    """The engine that the tests share."""
    return wat.engine(LIMITS)


def compiled(text: str) -> tuple[Component, list[Module]]:
    """A component that is read, and its core modules."""
    return _compiled(text, engine())


@cache
def _compiled(text: str, engine: Engine) -> tuple[Component, list[Module]]:
    wasm = bytes(wasmtime.wat2wasm(text))
    component = Component.of(binary.read(wasm), wasm)
    return component, engine.compile_together(component.modules(), component.shape)


def program(text: str, hosts: Mapping[str, Answer] | None = None) -> ComponentProgram:
    """A component, linked with what answers its imported functions by their names."""
    component, modules = compiled(text)

    def provide(function: ImportedFunction) -> tuple[Import, Any]:
        params, result = letters(lowered_core_type(function.type))
        assert hosts is not None
        return Import(function.interface or "", function.name, params, result, hosts[function.name]), None

    return ComponentProgram(engine(), component, modules, provide)


class Caller:
    """An instance whose exported functions are called by their names."""

    def __init__(self, made: ComponentProgram, instance: ComponentInstance) -> None:
        self.program = made
        self.instance = instance

    def function(self, name: str, interface: str | None = None) -> Lifted:
        found = self.program.function(interface, name)
        assert isinstance(found, Lifted), name
        return found

    async def __call__(self, name: str, *args: Any, interface: str | None = None) -> Any:
        return await calls.call(self.instance, self.function(name, interface), args)


@asynccontextmanager
async def instance(text: str, hosts: Mapping[str, Answer] | None = None) -> AsyncIterator[Caller]:
    """An instance of a component, which is closed at the end."""
    made = program(text, hosts)
    found = await made.instantiate(reused=True)
    try:
        yield Caller(made, found)
    finally:
        found.close()
