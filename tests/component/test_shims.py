"""Components with the shim, fixup and adapter modules of wit-component: what is seen through, and what isn't."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bindgen.runtime import GuestFault
from slight_py.component.shims import Main, Preview1
from tests import wat
from tests.component.running import Caller, compiled, instance, program

SHIM = """
(func (export "0") (param i32 i32) (local.get 0) (local.get 1) (call_indirect (param i32 i32) (i32.const 0)))
(func (export "1") (param i32) (result i32) (call_indirect (param i32) (result i32) (local.get 0) (i32.const 1)))
(table (export "$imports") 2 2 funcref)
"""

FIXUP = """
(import "" "0" (func (param i32 i32)))
(import "" "1" (func (param i32) (result i32)))
(import "" "$imports" (table 2 2 funcref))
(elem (i32.const 0) func 0 1)
"""

COMPONENT = """
(component
  (import "tell" (func $tell (param "text" string)))
  (import "double" (func $double (param "number" u32) (result u32)))
  (core module $shim SHIM)
  (core module $fixup FIXUP)
  (core module $main
    (import "env" "tell" (func $tell (param i32 i32)))
    (import "env" "double" (func $double (param i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 8) "a text")
    (global $initialized (mut i32) (i32.const 0))
    (func (export "_initialize") (global.set $initialized (i32.const 5)))
    (func (export "run") (param i32) (result i32)
      (call $tell (i32.const 8) (i32.const 6))
      (i32.add (call $double (local.get 0)) (global.get $initialized)))
    START)
  (core instance $shim (instantiate $shim))
  (core instance $main (instantiate $main (with "env" (instance
    (export "tell" (func $shim "0")) (export "double" (func $shim "1"))))))
  (core func $tell (canon lower (func $tell) (memory (core memory $main "memory"))))
  (core func $double (canon lower (func $double)))
  (core instance $fixup (instantiate $fixup (with "" (instance
    (export "0" (func $tell)) (export "1" (func $double)) (export "$imports" (table $shim "$imports"))
    (export "start" (func $main "_initialize"))))))
  (func (export "run") (param "number" u32) (result u32) (canon lift (core func $main "run"))))
"""


def text(shim: str = SHIM, fixup: str = FIXUP, start: str = "") -> str:
    return COMPONENT.replace("SHIM", shim).replace("FIXUP", fixup).replace("START", start)


def steps(source: str) -> int:
    """How many core instances are left of a component."""
    return len(compiled(source)[0].layout.steps)


async def ran(source: str) -> tuple[int, list[str]]:
    """What `run` returns for 4, and what the component told meanwhile."""
    told: list[str] = []

    async def tell(_host: Any, guest: Any, args: tuple[int, int]) -> None:
        told.append(bytes(guest.memory[args[0] : sum(args)]).decode())

    async def double(_host: Any, _guest: Any, args: tuple[int]) -> int:
        return 2 * args[0]

    async with instance(source, {"tell": tell, "double": double}) as call:
        return await call("run", 4), told


def test_a_component_with_a_shim_is_one_core_instance() -> None:
    assert steps(text()) == 1
    assert asyncio.run(ran(text())) == (8, ["a text"])


def test_the_start_function_of_a_fixup_is_called_when_all_is_there() -> None:
    fixup = FIXUP.replace(
        '(import "" "$imports"', '(import "" "start" (func $start)) (start $start) (import "" "$imports"'
    )
    assert steps(text(fixup=fixup)) == 1
    assert asyncio.run(ran(text(fixup=fixup))) == (13, ["a text"])


PASS = "(local.get 0) (local.get 1) (call"


def later(content: str) -> str:
    """The same with slots one further on, and a table with one more."""
    for slot in (1, 0):
        content = content.replace(f"i32.const {slot}", f"i32.const {slot + 1}")
    return content.replace("2 2 funcref", "3 3 funcref")


INEXACT = {
    "a trampoline that does more": (SHIM.replace(PASS, f"nop {PASS}"), FIXUP),
    "a trampoline with a variable": (SHIM.replace(PASS, f"(local i32) {PASS}"), FIXUP),
    "a trampoline that swaps": (SHIM.replace(PASS, "(local.get 1) (local.get 0) (call"), FIXUP),
    "a shim with a memory": (SHIM + "(memory 1)", FIXUP),
    "a shim that exports more": (SHIM + '(global (export "g") i32 (i32.const 1))', FIXUP),
    "a fixup with two segments": (SHIM, FIXUP.replace("func 0 1)", "func 0) (elem (i32.const 1) func 1)")),
    "a fixup with a function of its own": (
        SHIM,
        FIXUP.replace("func 0 1)", "func 0 $own)") + "(func $own (param i32) (result i32) (call 1 (local.get 0)))",
    ),
    "a fixup that begins elsewhere": (later(SHIM), later(FIXUP)),
}


@pytest.mark.parametrize("shape", INEXACT)
def test_what_is_not_exactly_a_shim_or_a_fixup_runs_as_it_is(shape: str) -> None:
    source = text(*INEXACT[shape])
    assert steps(source) == 3
    if "swaps" in shape:
        return  # it tells what isn't in memory
    assert asyncio.run(ran(source)) == (8, ["a text"])


def test_slots_in_another_order_are_seen_through() -> None:
    shim = (
        SHIM.replace("i32.const 0", "i32.const 9")
        .replace("i32.const 1", "i32.const 0")
        .replace("i32.const 9", "i32.const 1")
    )
    fixup = FIXUP.replace("func 0 1)", "func 1 0)")
    assert steps(text(shim, fixup)) == 1
    assert asyncio.run(ran(text(shim, fixup))) == (8, ["a text"])


def test_a_start_function_that_calls_through_a_shim_ends_the_instance() -> None:
    start = "(func $start (call $tell (i32.const 8) (i32.const 6))) (start $start)"

    async def main() -> None:
        with pytest.raises(GuestFault, match="from a start function, before it has a memory"):
            await ran(text(start=start))

    asyncio.run(main())


# Adapters.

ADAPTED = """
(component
  (import "wasi:cli/exit@0.2.0" (instance $exit (export "exit" (func (param "status" (result))))))
  (core module $shim
    (func (export "0") (param i32) (local.get 0) (call_indirect (param i32) (i32.const 0)))
    (func (export "1") (param i32 i32) (result i32)
      (local.get 0) (local.get 1) (call_indirect (param i32 i32) (result i32) (i32.const 1)))
    (table (export "$imports") 2 2 funcref))
  (core module $fixup
    (import "" "0" (func (param i32)))
    (import "" "1" (func (param i32 i32) (result i32)))
    (import "" "$imports" (table 2 2 funcref))
    (elem (i32.const 0) func 0 1))
  (core module $main
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
      (drop (call $sizes (i32.const 0) (i32.const 4))) (i32.const 64))
    (func (export "_start") (drop (call $sizes (i32.const 0) (i32.const 4))) (call $exit (i32.load (i32.const 0)))))
  (core module $adapter
    (import "env" "memory" (memory 1))
    (import "__main_module__" "_start" (func $start))
    (import "IMPORTED" "exit" (func $exit (param i32)))
    (func (export "proc_exit") (param i32) (call $exit (local.get 0)))
    (func (export "args_sizes_get") (param i32 i32) (result i32)
      (i32.store (local.get 0) (i32.const 1)) (i32.const 0))
    (func (export "wasi:cli/run@0.2.0#run") (result i32) (call $start) (i32.const 0))
    MORE)
  (core instance $shim (instantiate $shim))
  (core instance $main (instantiate $main (with "wasi_snapshot_preview1" (instance
    (export "proc_exit" (func $shim "0")) (export "args_sizes_get" (func $shim "1"))))))
  (core func $exit (canon lower (func $exit "exit")))
  (core instance $adapter (instantiate $adapter
    (with "env" (instance (export "memory" (memory $main "memory"))))
    (with "__main_module__" (instance (export "_start" (func $main "_start"))))
    (with "IMPORTED" (instance (export "exit" (func $exit))))))
  (core instance $fixup (instantiate $fixup (with "" (instance
    (export "0" (func $adapter "proc_exit")) (export "1" (func $adapter "args_sizes_get"))
    (export "$imports" (table $shim "$imports"))))))
  (func $run (result (result)) (canon lift (core func $adapter "wasi:cli/run@0.2.0#run")))
  (instance $run (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $run)))
"""


def adapted(imported: str = "wasi:cli/exit@0.2.0", more: str = "") -> str:
    return ADAPTED.replace("IMPORTED", imported).replace("MORE", more)


def test_an_adapter_of_preview_1_is_left_out() -> None:
    component, _ = compiled(adapted())
    (step,) = component.layout.steps
    assert [type(source) for _, _, source in step.imports] == [Preview1, Preview1]
    assert [source.name for _, _, source in step.imports if isinstance(source, Preview1)] == [
        "proc_exit",
        "args_sizes_get",
    ]
    instance_ = component.plan.exports["wasi:cli/run@0.2.0"]
    assert isinstance(component.layout.resolve(instance_.exports["run"].core), Main)


@pytest.mark.parametrize(
    ("imported", "more"),
    [
        ("acme:virtual/exit@0.2.0", ""),
        ("wasi:cli/exit@0.2.0", '(func (export "of-its-own"))'),
        ("wasi:cli/exit@0.2.0", '(func (export "fd_close") (param i64) (result i32) (i32.const 0))'),
    ],
)
def test_what_gives_preview_1_and_is_no_adapter_runs_as_it_is(imported: str, more: str) -> None:
    assert steps(adapted(imported, more)) == 4

    async def main() -> None:
        codes = []

        async def exit_(_host: Any, _guest: Any, args: tuple[int]) -> None:
            codes.append(args[0])

        async with instance(adapted(imported, more), {"exit": exit_}) as call:
            await call("run", interface="wasi:cli/run@0.2.0")
        assert codes == [1]

    asyncio.run(main())


def test_an_allocator_may_ask_what_an_adapter_knows_by_itself() -> None:
    source = adapted().replace(
        "  (func $run (result",
        """  (core module $taker (func (export "take") (param i32 i32)))
  (core instance $taker (instantiate $taker))
  (func (export "take") (param "text" string) (canon lift (core func $taker "take")
    (memory (core memory $main "memory")) (realloc (core func $main "cabi_realloc"))))
  (func $run (result""",
    )
    assert steps(source) == 2

    async def main() -> None:
        made = program(source, {"exit": _never})
        found = await made.instantiate()
        try:
            await Caller(made, found)("take", "some text")
        finally:
            found.close()

    asyncio.run(main())


async def _never(_host: Any, _guest: Any, _args: tuple[Any, ...]) -> None:
    raise AssertionError


@pytest.fixture(autouse=True, params=wat.STORES)
def _store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    wat.use_store(request.param, monkeypatch)
