"""Components as programs: linked, instantiated, called, and ended."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from bindgen.runtime import GuestFault
from slight_py import modules
from slight_py.compilation import CompileLimits
from slight_py.component import binary
from slight_py.component.handles import Resource
from slight_py.component.program import Component
from slight_py.engine import Engine, Limits, Shape, Trap
from slight_py.errors import UsageError
from tests import wat
from tests.component.running import REALLOC, engine, instance, program


@pytest.fixture(autouse=True, params=wat.STORES)
def _store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    wat.use_store(request.param, monkeypatch)


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


# One core instance.

ADDER = """
(component
  (core module $m (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))
  (core instance $i (instantiate $m))
  (func (export "add") (param "a" u8) (param "b" u32) (result u32) (canon lift (core func $i "add"))))
"""


def test_a_function_is_called_by_its_types() -> None:
    async def main() -> None:
        async with instance(ADDER) as call:
            assert await call("add", 2, 3) == 5
            assert await call("add", 255, (1 << 32) - 1) == 254
            with pytest.raises(ValueError, match="not of its type"):
                await call("add", 2, 1 << 32)
            assert await call("add", 1, 1) == 2, "values of the host's that are wrong end no guest"

    run(main())


ECHO = f"""
(component
  (core module $m
    (memory (export "memory") 1)
    {REALLOC}
    (global $returned (export "returned") (mut i32) (i32.const 0))
    (func (export "echo") (param i32 i32) (result i32)
      (i32.store (i32.const 16) (local.get 0))
      (i32.store (i32.const 20) (local.get 1))
      (i32.const 16))
    (func (export "post") (param i32)
      (global.set $returned (i32.add (global.get $returned) (local.get 0))))
    (func (export "count") (result i32) (global.get $returned)))
  (core instance $i (instantiate $m))
  (func (export "echo") (param "text" string) (result string)
    (canon lift (core func $i "echo") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))
      (post-return (core func $i "post"))))
  (func (export "count") (result u32) (canon lift (core func $i "count"))))
"""


def test_post_return_is_called_once_with_the_result_after_it_was_lifted() -> None:
    async def main() -> None:
        async with instance(ECHO) as call:
            assert await call("echo", "Grüße") == "Grüße"
            assert await call("count") == 16
            assert await call("echo", "") == ""
            assert await call("count") == 32

    run(main())


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("utf8", "a€𝄞"), ("utf16", "a€𝄞"), ("latin1+utf16", "é"), ("latin1+utf16", "a€𝄞")],
)
def test_texts_are_in_the_encoding_that_the_options_say(encoding: str, text: str) -> None:
    memory = '(memory (core memory $i "memory"))'
    source = ECHO.replace(memory, f"{memory} string-encoding={encoding}")

    async def main() -> None:
        async with instance(source) as call:
            assert await call("echo", text) == text

    run(main())


# What a guest breaks.


def hostile(realloc: str, body: str = "", result: str = "string") -> str:
    """A component whose function `f` takes a text, and its allocator."""
    return f"""
(component
  (import "ask" (func $ask))
  (core module $m
    (import "" "ask" (func $ask))
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) {realloc})
    (func (export "post") (param i32) {"(call $ask)" if "POST" in body else ""})
    (func (export "f") (param i32 i32) (result i32) {body.replace("POST", "")}))
  (core func $lowered (canon lower (func $ask)))
  (core instance $i (instantiate $m (with "" (instance (export "ask" (func $lowered))))))
  (func (export "f") (param "text" string) (result {result})
    (canon lift (core func $i "f") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))
      (post-return (core func $i "post")))))
"""


async def _ask(_host: Any, _guest: Any, _args: tuple[Any, ...]) -> None:
    pass


@pytest.mark.parametrize(
    ("realloc", "body", "match"),
    [
        ("(i32.const 65530)", "(i32.const 0)", "0xfffa"),
        ("(i32.const -1)", "(i32.const 0)", "0xffffffff"),
        ("(unreachable)", "(i32.const 0)", "unreachable"),
        ("(call $ask) (i32.const 16)", "(i32.const 0)", "calls .*ask"),
        ("(i32.const 16)", "(i32.const 2)", "aligned"),
        ("(i32.const 16)", "(i32.const 65532)", "past the end"),
        ("(i32.const 16)", "(i32.const -4)", "past the end"),
        ("(i32.const 16)", "(i32.store (i32.const 4) (i32.const 65537)) (i32.const 0)", "past the end"),
        ("(i32.const 16)", "(i32.store (i32.const 4) (i32.const -1)) (i32.const 0)", "longer than|past the end"),
        ("(i32.const 16)", "(i32.store8 (i32.const 64) (i32.const 0xff))"
         "(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 1)) (i32.const 0)", "not utf-8"),
        ("(i32.const 16)", "POST (i32.const 0)", "calls .*ask"),
        ("(i32.const 16)", "(unreachable)", "unreachable"),
    ],
)  # fmt: skip
def test_a_guest_that_breaks_a_rule_is_ended(realloc: str, body: str, match: str) -> None:
    async def main() -> None:
        async with instance(hostile(realloc, body), {"ask": _ask}) as call:
            with pytest.raises((GuestFault, Trap), match=match):
                await call("f", "some text")
            with pytest.raises((GuestFault, Trap)):
                await call("f", "")

    run(main())


def test_a_guest_is_not_entered_while_it_calls_somebody() -> None:
    entered = []

    async def main() -> None:
        async def again(_host: Any, guest: Any, _args: tuple[Any, ...]) -> None:
            entered.append(True)
            await call("f", "again")

        async with instance(hostile("(i32.const 16)", "(call $ask) (i32.const 0)"), {"ask": again}) as call:
            with pytest.raises(GuestFault, match="cannot enter component instance"):
                await call("f", "first")

    run(main())
    assert entered == [True]


# Several core instances.

SHARED = """
(component
  (import "tell" (func $tell (param "text" string)))
  (core module $memory
    (memory (export "memory") 1)
    (table (export "table") 2 funcref)
    (global (export "base") (mut i32) (i32.const 40)))
  (core module $text
    (import "env" "memory" (memory 1))
    (import "env" "table" (table 2 funcref))
    (import "env" "base" (global $base (mut i32)))
    (import "env" "tell" (func $tell (param i32 i32)))
    (data (i32.const 40) "from another module")
    (elem (i32.const 1) $say)
    (func $say (call $tell (global.get $base) (i32.const 19)))
    (func (export "trap") unreachable))
  (core module $user
    (import "env" "table" (table 2 funcref))
    (import "env" "base" (global $base (mut i32)))
    (type $t (func))
    (func (export "move") (param i32) (global.set $base (local.get 0)))
    (func (export "say") (call_indirect (type $t) (i32.const 1))))
  (core instance $one (instantiate $memory))
  (core func $lowered (canon lower (func $tell) (memory (core memory $one "memory"))))
  (core instance $two (instantiate $text (with "env" (instance
    (export "memory" (memory $one "memory")) (export "table" (table $one "table"))
    (export "base" (global $one "base")) (export "tell" (func $lowered))))))
  (core instance $three (instantiate $user (with "env" (instance
    (export "table" (table $one "table")) (export "base" (global $one "base"))))))
  (func (export "say") (canon lift (core func $three "say")))
  (func (export "move") (param "to" u32) (canon lift (core func $three "move")))
  (func (export "trap") (canon lift (core func $two "trap"))))
"""


class Told:
    """Notes what guests tell."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.waiting = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

    async def tell(self, _host: Any, guest: Any, args: tuple[Any, ...]) -> None:
        self.waiting.set()
        await self.go.wait()
        at, length = args
        self.texts.append(bytes(guest.memory[at : at + length]).decode())


def test_core_instances_share_a_memory_a_table_and_a_global() -> None:
    async def main() -> None:
        told = Told()
        async with instance(SHARED, {"tell": told.tell}) as call:
            assert len(call.program.component.layout.steps) == 3
            await call("say")
            await call("move", 45)
            await call("say")
        assert told.texts[0] == "from another module"
        assert told.texts[1].startswith("another module")

    run(main())


def test_a_trap_in_one_core_instance_ends_all_of_them() -> None:
    async def main() -> None:
        async with instance(SHARED, {"tell": Told().tell}) as call:
            with pytest.raises(Trap, match="unreachable"):
                await call("trap")
            with pytest.raises(Trap, match="unreachable"):
                await call("move", 1)

    run(main())


def test_an_instance_is_closed_while_a_core_instance_waits_for_an_import() -> None:
    async def main() -> None:
        told = Told()
        told.go.clear()
        before = engine().instances
        made = program(SHARED, {"tell": told.tell})
        found = await made.instantiate()
        function = made.function(None, "say")
        task = asyncio.ensure_future(found.call(function, ()))
        await told.waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        found.close()
        assert engine().instances == before
        assert told.texts == []

    run(main())


def test_many_instances_of_several_modules_come_and_go() -> None:
    async def main() -> None:
        told = Told()
        made = program(SHARED, {"tell": told.tell})
        for _ in range(100):
            found = await made.instantiate()
            await found.call(made.function(None, "say"), ())
            found.close()
        gc.collect()
        assert told.texts == ["from another module"] * 100

    run(main())


def test_as_many_instances_as_the_limit_says_are_there_at_once() -> None:
    async def main() -> None:
        made = program(SHARED, {"tell": Told().tell})
        found = []
        try:
            for _ in range(engine().limits.instances - engine().instances):
                found.append(await made.instantiate())
            with pytest.raises(Trap, match="all 16 instances are in use"):
                await made.instantiate()
        finally:
            for each in found:
                each.close()

    run(main())


GREEDY = """
(component
  (core module $m (memory (export "memory") 1)
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))
  (core instance $a (instantiate $m))
  (core instance $b (instantiate $m))
  (func (export "grow-a") (param "pages" u32) (result s32) (canon lift (core func $a "grow")))
  (func (export "grow-b") (param "pages" u32) (result s32) (canon lift (core func $b "grow"))))
"""


def test_the_memories_of_a_component_share_what_an_instance_may_have() -> None:
    half = engine().limits.memory // 2 // wat.PAGE

    async def main() -> None:
        async with instance(GREEDY) as call:
            assert await call("grow-a", half) == -1
            assert await call("grow-a", half - 1) == 1
            assert await call("grow-b", half - 1) == 1
            assert await call("grow-b", 1) == -1

    run(main())


def test_a_component_with_more_memories_than_the_system_has_mappings_for_is_refused(tmp_path: Path) -> None:
    instances = " ".join(f"(core instance $i{number} (instantiate $m))" for number in range(100))
    path = tmp_path / "app.wasm"
    path.write_bytes(wasmtime.wat2wasm(f"(component (core module $m (memory 1)) {instances})"))
    wasm = path.read_bytes()
    component = Component.of(binary.read(wasm), wasm)
    assert component.shape == Shape(instances=100, memories=100, tables=1, stacks=2)
    limits = Limits(instances=200)
    with pytest.raises(UsageError, match="needs more than slight-py gives: 200 instances at once take 80800 mappings"):
        modules.compiled(
            Engine(limits), path, wasm, component.modules(), component.shape, cache=False, limits=CompileLimits()
        )


START = """
(component
  (import "tell" (func $tell (param "text" string)))
  (core module $memory (memory (export "memory") 1) (data (i32.const 0) "started"))
  (core module $starts
    (import "env" "tell" (func $tell (param i32 i32)))
    (func $start (call $tell (i32.const 0) (i32.const 7)))
    (start $start))
  (core instance $one (instantiate $memory))
  (core func $lowered (canon lower (func $tell) (memory (core memory $one "memory"))))
  (core instance $two (instantiate $starts (with "env" (instance (export "tell" (func $lowered)))))))
"""


def test_a_start_function_may_call_an_import_and_wait() -> None:
    async def main() -> None:
        told = Told()
        told.go.clear()
        made = program(START, {"tell": told.tell})
        task = asyncio.ensure_future(made.instantiate())
        await told.waiting.wait()
        assert not task.done()
        told.go.set()
        (await task).close()
        assert told.texts == ["started"]

    run(main())


def test_a_start_function_that_traps_ends_the_instance() -> None:
    source = START.replace("(call $tell (i32.const 0) (i32.const 7))", "unreachable")

    async def main() -> None:
        before = engine().instances
        with pytest.raises(Trap, match="unreachable"):
            await program(source, {"tell": Told().tell}).instantiate()
        assert engine().instances == before

    run(main())


# Components in components.

RESOURCES = f"""
(component
  (component $maker
    (core module $m
      (import "" "new" (func $new (param i32) (result i32)))
      (import "" "rep" (func $rep (param i32) (result i32)))
      (memory (export "memory") 1)
      {REALLOC}
      (global $dropped (mut i32) (i32.const 0))
      (func (export "dtor") (param i32) (global.set $dropped (i32.add (global.get $dropped) (local.get 0))))
      (func (export "make") (param i32) (result i32) (call $new (local.get 0)))
      (func (export "value") (param i32) (result i32) (local.get 0))
      (func (export "take") (param i32) (result i32) (call $rep (local.get 0)))
      (func (export "dropped") (result i32) (global.get $dropped))
      (func (export "texts") (param i32 i32) (result i32)
        (i32.store (i32.const 0) (local.get 0))
        (i32.store (i32.const 4) (local.get 1))
        (i32.const 0)))
    (core module $t (table (export "table") 1 funcref)
      (type $f (func (param i32))) (func (export "dtor") (param i32)
        (call_indirect (type $f) (local.get 0) (i32.const 0))))
    (core module $fix (import "" "table" (table 1 funcref)) (import "" "dtor" (func (param i32)))
      (elem (i32.const 0) 0))
    (core instance $t (instantiate $t))
    (type $thing' (resource (rep i32) (dtor (core func $t "dtor"))))
    (core func $new (canon resource.new $thing'))
    (core func $rep (canon resource.rep $thing'))
    (core instance $i (instantiate $m (with "" (instance (export "new" (func $new)) (export "rep" (func $rep))))))
    (core instance $fix (instantiate $fix (with "" (instance
      (export "table" (table $t "table")) (export "dtor" (func $i "dtor"))))))
    (export $thing "thing" (type $thing'))
    (func (export "make") (param "value" u32) (result (own $thing)) (canon lift (core func $i "make")))
    (func (export "value") (param "thing" (borrow $thing)) (result u32) (canon lift (core func $i "value")))
    (func (export "take") (param "thing" (own $thing)) (result u32) (canon lift (core func $i "take")))
    (func (export "dropped") (result u32) (canon lift (core func $i "dropped")))
    (func (export "texts") (param "list" (list string)) (result (list string))
      (canon lift (core func $i "texts") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))
  (component $user
    (import "maker" (instance $maker
      (export "thing" (type $thing (sub resource)))
      (export "make" (func (param "value" u32) (result (own $thing))))
      (export "value" (func (param "thing" (borrow $thing)) (result u32)))
      (export "take" (func (param "thing" (own $thing)) (result u32)))
      (export "dropped" (func (result u32)))
      (export "texts" (func (param "list" (list string)) (result (list string))))))
    (alias export $maker "thing" (type $thing))
    (core module $libc (memory (export "memory") 1) {REALLOC})
    (core instance $libc (instantiate $libc))
    (core func $make (canon lower (func $maker "make")))
    (core func $value (canon lower (func $maker "value")))
    (core func $take (canon lower (func $maker "take")))
    (core func $texts (canon lower (func $maker "texts") (memory (core memory $libc "memory"))
      (realloc (core func $libc "realloc"))))
    (core func $drop (canon resource.drop $thing))
    (core module $m
      (import "" "make" (func $make (param i32) (result i32)))
      (import "" "value" (func $value (param i32) (result i32)))
      (import "" "take" (func $take (param i32) (result i32)))
      (import "" "drop" (func $drop (param i32)))
      (import "" "texts" (func $texts (param i32 i32 i32)))
      (import "" "memory" (memory 1))
      (func (export "use") (param i32) (result i32)
        (local $thing i32) (local $value i32)
        (local.set $thing (call $make (local.get 0)))
        (local.set $value (call $value (local.get $thing)))
        (call $drop (local.get $thing))
        (local.get $value))
      (func (export "give") (param i32) (result i32) (call $take (call $make (local.get 0))))
      (func (export "twice") (param i32) (result i32)
        (local $thing i32)
        (local.set $thing (call $make (local.get 0)))
        (call $drop (local.get $thing))
        (call $value (local.get $thing)))
      (func (export "pass") (param i32 i32) (result i32)
        (call $texts (local.get 0) (local.get 1) (i32.const 64))
        (i32.const 64))
      (func (export "outside") (param i32 i32) (result i32)
        (call $texts (i32.const 65532) (i32.const 1) (i32.const 64))
        (i32.const 64))
      (func (export "wrong") (param i32 i32) (result i32)
        (call $texts (local.get 0) (local.get 1) (i32.const 65532))
        (i32.const 64)))
    (core instance $i (instantiate $m (with "" (instance
      (export "make" (func $make)) (export "value" (func $value)) (export "take" (func $take))
      (export "drop" (func $drop)) (export "texts" (func $texts)) (export "memory" (memory $libc "memory"))))))
    (func (export "use") (param "value" u32) (result u32) (canon lift (core func $i "use")))
    (func (export "give") (param "value" u32) (result u32) (canon lift (core func $i "give")))
    (func (export "twice") (param "value" u32) (result u32) (canon lift (core func $i "twice")))
    (func (export "pass") (param "list" (list string)) (result (list string))
      (canon lift (core func $i "pass") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
    (func (export "outside") (param "list" (list string)) (result (list string))
      (canon lift (core func $i "outside") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
    (func (export "wrong") (param "list" (list string)) (result (list string))
      (canon lift (core func $i "wrong") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc")))))
  (instance $maker (instantiate $maker))
  (instance $user (instantiate $user (with "maker" (instance $maker))))
  (export "maker" (instance $maker))
  (export "user" (instance $user)))
"""


def test_a_resource_goes_from_one_component_to_another_and_ends_in_its_own() -> None:
    async def main() -> None:
        async with instance(RESOURCES) as call:
            assert await call("use", 41, interface="user") == 41
            assert await call("dropped", interface="maker") == 41
            # What is handed over belongs to the maker, which hasn't dropped it.
            assert await call("give", 7, interface="user") == 7
            assert await call("dropped", interface="maker") == 41

    run(main())


def test_a_handle_that_was_dropped_is_refused() -> None:
    async def main() -> None:
        async with instance(RESOURCES) as call:
            with pytest.raises(GuestFault, match="there is no handle 1"):
                await call("twice", 1, interface="user")
            with pytest.raises(GuestFault):
                await call("use", 1, interface="user")

    run(main())


def test_lists_of_texts_go_from_one_memory_to_another_and_back() -> None:
    texts = ["", "Grüße", "x" * 1000]

    async def main() -> None:
        async with instance(RESOURCES) as call:
            assert await call("pass", texts, interface="user") == texts

    run(main())


@pytest.mark.parametrize("function", ["outside", "wrong"])
def test_a_pointer_past_the_callers_memory_is_refused(function: str) -> None:
    async def main() -> None:
        async with instance(RESOURCES) as call:
            with pytest.raises(GuestFault, match="0xfffc"):
                await call(function, ["text"], interface="user")

    run(main())


def test_the_host_holds_a_resource_of_a_component_by_an_object() -> None:
    async def main() -> None:
        async with instance(RESOURCES) as call:
            thing = await call("make", 5, interface="maker")
            assert isinstance(thing, Resource)
            assert await call("value", thing, interface="maker") == 5
            await thing.drop()
            assert await call("dropped", interface="maker") == 5
            with pytest.raises(ValueError, match="where a resource"):
                await call("value", object(), interface="maker")

    run(main())


PARENT = """
(component
  (core module $m (func (export "f") (result i32) (i32.const 1)))
  (core instance $i (instantiate $m))
  (func $own (result u32) (canon lift (core func $i "f")))
  (component $child
    (import "f" (func $f (result u32)))
    (core func $lowered (canon lower (func $f)))
    (core module $m (import "" "f" (func $f (result i32))) (func (export "g") (result i32) (call $f)))
    (core instance $i (instantiate $m (with "" (instance (export "f" (func $lowered))))))
    (func (export "g") (result u32) (canon lift (core func $i "g"))))
  (instance $child (instantiate $child (with "f" (func $own))))
  (export "g" (func $child "g")))
"""


def test_a_component_does_not_call_the_one_around_it() -> None:
    async def main() -> None:
        async with instance(PARENT) as call:
            with pytest.raises(GuestFault, match="cannot enter component instance"):
                await call("g")

    run(main())


# Canonical functions that are called without a core module between.

DIRECT = """
(component
  (import "double" (func $double (param "number" u32) (result u32)))
  (type $thing' (resource (rep i32)))
  (core func $new (canon resource.new $thing'))
  (core func $drop (canon resource.drop $thing'))
  (core func $twice (canon lower (func $double)))
  (export $thing "thing" (type $thing'))
  (func (export "make") (param "value" u32) (result (own $thing)) (canon lift (core func $new)))
  (func (export "end") (param "thing" (own $thing)) (canon lift (core func $drop)))
  (func (export "twice") (param "number" u32) (result u32) (canon lift (core func $twice))))
"""


def test_a_canonical_function_is_lifted_without_a_core_module_between() -> None:
    async def double(_host: Any, _guest: Any, args: tuple[int]) -> int:
        return 2 * args[0]

    async def main() -> None:
        async with instance(DIRECT, {"double": double}) as call:
            assert await call("twice", 21) == 42
            thing = await call("make", 7)
            assert thing.rep == 7
            await call("end", thing)
            await call("end", await call("make", 8))

    run(main())
