"""Asynchronous tasks of components on the real engine: they wait, take turns, are cancelled, and break rules."""

from __future__ import annotations

import asyncio
import gc
import re
import weakref
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from bindgen.runtime import AsyncCall, GuestFault, Import
from slight_py.component import task_calls
from slight_py.component.plan import ImportedFunction
from slight_py.component.program import ComponentProgram, letters
from slight_py.component.types import lowered_core_type
from slight_py.engine import Trap
from tests.component import running
from tests.component.running import Caller

# The text of components. Each of them imports two functions of the host: `wait` is asynchronous, `block` isn't.

BUILTINS = """
  (core module $libc (memory (export "memory") 1))
  (core instance $libc (instantiate $libc))
  (core func $wait (canon lower (func $wait) async (memory (core memory $libc "memory"))))
  (core func $wait-here (canon lower (func $wait)))
  (core func $block (canon lower (func $block)))
  (core func $return (canon task.return (result u32)))
  (core func $cancel (canon task.cancel))
  (core func $context (canon context.get i32 0))
  (core func $set-context (canon context.set i32 0))
  (core func $inc (canon backpressure.inc))
  (core func $dec (canon backpressure.dec))
  (core func $new-set (canon waitable-set.new))
  (core func $wait-set (canon waitable-set.wait (memory (core memory $libc "memory"))))
  (core func $poll-set (canon waitable-set.poll (memory (core memory $libc "memory"))))
  (core func $drop-set (canon waitable-set.drop))
  (core func $join (canon waitable.join))
  (core func $drop-subtask (canon subtask.drop))
  (core func $cancel-subtask (canon subtask.cancel async))
  (core func $yield (canon thread.yield))
"""

_TYPES = {
    "wait": "(param i32 i32) (result i32)",
    "wait-here": "(param i32) (result i32)",
    "block": "(param i32) (result i32)",
    "return": "(param i32)",
    "cancel": "",
    "context": "(result i32)",
    "set-context": "(param i32)",
    "inc": "",
    "dec": "",
    "new-set": "(result i32)",
    "wait-set": "(param i32 i32) (result i32)",
    "poll-set": "(param i32 i32) (result i32)",
    "drop-set": "(param i32)",
    "join": "(param i32 i32)",
    "drop-subtask": "(param i32)",
    "cancel-subtask": "(param i32) (result i32)",
    "yield": "(result i32)",
}

_FUNCTION = re.compile(r'\(func \(export "([a-z-]+)"\)')


def inner(body: str, sync: str = "", stackful: str = "") -> str:
    """A component with the functions of a core module, all of them `(x: u32) -> u32`. Those that aren't named in `sync`
    or `stackful` are asynchronous and have the callback `callback`."""
    imports = "\n".join(f'(import "" "{name}" (func ${name} {type_}))' for name, type_ in _TYPES.items())
    given = " ".join(f'(export "{name}" (func ${name}))' for name in _TYPES)
    exports = []
    for name in _FUNCTION.findall(body):
        if name == "callback":
            continue
        asynchronous = name not in sync.split()
        options = "async" if asynchronous else ""
        if asynchronous and name not in stackful.split():
            options += ' (callback (core func $m "callback"))'
        kind = "async" if asynchronous else ""
        lift = f'(canon lift (core func $m "{name}") {options})'
        exports.append(f'(func (export "{name}") {kind} (param "x" u32) (result u32) {lift})')
    return f"""
      (import "wait" (func $wait async (param "x" u32) (result u32)))
      (import "block" (func $block (param "x" u32) (result u32)))
      {BUILTINS}
      (core module $m (import "libc" "memory" (memory 1)) {imports} {body})
      (core instance $m (instantiate $m
        (with "libc" (instance $libc)) (with "" (instance {given}))))
      {" ".join(exports)}"""


def component(body: str, sync: str = "", stackful: str = "") -> str:
    return f"(component {inner(body, sync, stackful)})"


WAITS = """
  ;; Has the host wait for x, and returns what it says: at once, or when the callback is told of it.
  (func $finish (call $return (i32.load (call $context))))
  (func (export "run") (param $x i32) (result i32) (local $status i32) (local $set i32)
    (call $set-context (i32.add (i32.const 1024) (i32.mul (i32.const 4) (local.get $x))))
    (local.set $status (call $wait (local.get $x) (call $context)))
    (if (i32.eq (local.get $status) (i32.const 2)) (then (call $finish) (return (i32.const 0))))
    (local.set $set (call $new-set))
    (call $join (i32.shr_u (local.get $status) (i32.const 4)) (local.get $set))
    (i32.or (i32.const 2) (i32.shl (local.get $set) (i32.const 4))))
  (func (export "callback") (param $event i32) (param $index i32) (param $state i32) (result i32)
    (if (i32.eq (local.get $event) (i32.const 6)) (then (call $cancel) (return (i32.const 0))))
    (if (i32.eq (local.get $state) (i32.const 1)) (then unreachable))
    (call $drop-subtask (local.get $index))
    (call $finish)
    (i32.const 0))
  ;; Gives the call up that it has begun, and returns how far that was.
  (func (export "gives-up") (param $x i32) (result i32)
    (call $return (call $cancel-subtask
      (i32.shr_u (call $wait (local.get $x) (i32.const 1024)) (i32.const 4))))
    (i32.const 0))
  ;; Waits in the midst of core code.
  (func (export "waits-here") (param $x i32) (result i32)
    (call $return (call $wait-here (local.get $x)))
    (i32.const 0))
  (func (export "blocks") (param $x i32) (result i32)
    (call $return (call $block (local.get $x)))
    (i32.const 0))
  (func (export "floods") (param i32) (result i32)
    (loop $again (drop (call $wait (i32.const 1) (i32.const 0))) (br $again)) (i32.const 0))
  (func (export "hold") (param i32) (result i32) (call $inc) (i32.const 0))
  (func (export "let") (param i32) (result i32) (call $dec) (i32.const 0))
  (func (export "blocks-synchronously") (param $x i32) (result i32) (call $block (local.get $x)))
"""

WAITING = component(WAITS, sync="hold let blocks-synchronously")

CHAIN = f"""(component
  (import "wait" (func $wait async (param "x" u32) (result u32)))
  (import "block" (func $block (param "x" u32) (result u32)))
  (component $c {inner(WAITS, sync="hold let blocks-synchronously")})
  (instance $far (instantiate $c (with "wait" (func $wait)) (with "block" (func $block))))
  (instance $near (instantiate $c (with "wait" (func $far "run")) (with "block" (func $block))))
  (export "run" (func $near "run"))
  (export "gives-up" (func $near "gives-up"))
  (export "waits-here" (func $near "waits-here"))
  (export "floods" (func $near "floods"))
  (export "hold-far" (func $far "hold"))
  (export "let-far" (func $far "let"))
)"""
"""A component that calls another instance of itself, where the other calls the host."""


class Host:
    """Answers calls with what it was called with, plus 1000, once somebody lets them go."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.cancelled: list[int] = []
        self._gates: dict[int, asyncio.Future[None]] = {}
        self._more = asyncio.Event()
        self.at_once = False

    def let(self, x: int) -> None:
        self._gates[x].set_result(None)

    async def answer(self, x: int) -> int:
        self.begun.append(x)
        self._more.set()
        if not self.at_once:
            self._gates[x] = asyncio.get_running_loop().create_future()
            try:
                await self._gates[x]
            except asyncio.CancelledError:
                self.cancelled.append(x)
                raise
        return x + 1000

    async def call(self, _host: Any, _guest: Any, args: tuple[int]) -> int:
        return await self.answer(args[0])

    async def call_async(self, _host: Any, guest: Any, args: tuple[int, int]) -> int:
        async def lower(value: int) -> None:
            guest.memory[args[1] : args[1] + 4] = value.to_bytes(4, "little")

        return await guest.subtask(self.answer(args[0]), lower, ())

    def provide(self, function: ImportedFunction) -> tuple[Import, Any]:
        params, result = letters(lowered_core_type(function.type))
        asynchronous, _ = letters(lowered_core_type(function.type, True))
        both = AsyncCall(asynchronous, self.call_async)
        return Import("", function.name, params, result, self.call, call_async=both), None

    async def until_begun(self, *calls: int) -> None:
        """Waits until the host has been called so."""
        async with asyncio.timeout(10):
            while not set(calls) <= set(self.begun):
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def instance(text: str, host: Host | None = None) -> AsyncIterator[Caller]:
    host = host or Host()
    component, modules = running.compiled(text)
    made = ComponentProgram(running.engine(), component, modules, host.provide)
    found = await made.instantiate(reused=True)
    try:
        yield Caller(made, found)
    finally:
        found.close()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(20):
            return await work

    return asyncio.run(limited())


both = pytest.mark.parametrize("text", [WAITING, CHAIN], ids=["alone", "chain"])


@both
def test_a_call_that_is_done_at_once_needs_no_callback(text: Any) -> None:
    async def play() -> None:
        host = Host()
        host.at_once = True
        async with instance(text, host) as guest:
            assert await guest("run", 5) == 1005
            await guest.instance.idle()

    run(play())


@both
def test_many_tasks_of_one_instance_wait_at_a_time_and_return_in_any_order(text: Any) -> None:
    async def play() -> None:
        host = Host()
        async with instance(text, host) as guest, asyncio.TaskGroup() as group:
            calls = [group.create_task(guest("run", x)) for x in range(100)]
            await host.until_begun(*range(100))
            for x in reversed(range(100)):
                host.let(x)
                assert await calls[x] == x + 1000
            await guest.instance.idle()

    run(play())


@both
def test_a_subtask_that_is_given_up_is_cancelled_down_to_the_host(text: Any) -> None:
    async def play() -> None:
        host = Host()
        async with instance(text, host) as guest:
            assert await guest("gives-up", 7) == 4  # cancelled before it returned
            if text is WAITING:
                assert host.cancelled == [7]
            # The component goes on as before.
            call = asyncio.create_task(guest("run", 8))
            await host.until_begun(8)
            host.let(8)
            assert await call == 1008

    run(play())


@both
def test_core_code_may_wait_for_an_asynchronous_function(text: Any) -> None:
    async def play() -> None:
        host = Host()
        async with instance(text, host) as guest:
            call = asyncio.create_task(guest("waits-here", 3))
            await host.until_begun(3)
            host.let(3)
            assert await call == 1003
            await guest.instance.idle()

    run(play())


def test_core_code_that_waits_keeps_other_tasks_out() -> None:
    async def play() -> None:
        host = Host()
        async with instance(WAITING, host) as guest, asyncio.TaskGroup() as group:
            first, second = (group.create_task(guest("blocks", x)) for x in (1, 2))
            await host.until_begun(1)
            for _ in range(10):
                await asyncio.sleep(0)
            assert host.begun == [1]
            host.let(1)
            assert await first == 1001
            await host.until_begun(2)
            host.let(2)
            assert await second == 1002

    run(play())


def test_calls_that_began_later_are_done_first() -> None:
    """Calls into a store nest, whoever makes them: one that can go on earlier waits for those in it."""

    async def play() -> None:
        host = Host()
        async with instance(WAITING, host) as guest:
            function = guest.function("blocks-synchronously")
            done: list[int] = []

            async def call(x: int) -> None:
                assert await guest.instance.call(function, (x,)) == x + 1000
                done.append(x)

            async with asyncio.TaskGroup() as group:
                for x in (1, 2, 3):
                    group.create_task(call(x))
                    await host.until_begun(x)
                for x in (1, 2):
                    host.let(x)
                    for _ in range(10):
                        await asyncio.sleep(0)
                assert done == []
                host.let(3)
            assert done == [3, 2, 1]

    run(play())


def test_a_call_that_is_given_up_under_others_ends_the_instance() -> None:
    async def play() -> None:
        host = Host()
        async with instance(WAITING, host) as guest:
            function = guest.function("blocks-synchronously")
            outer, nested = (asyncio.create_task(guest.instance.call(function, (x,))) for x in (1, 2))
            await host.until_begun(1, 2)
            outer.cancel()
            await asyncio.wait([outer])
            host.let(2)
            with pytest.raises(Trap, match="a call was given up while others were nested in it"):
                await nested

    run(play())


def test_a_component_that_is_ended_keeps_nothing_of_the_call_that_it_was_ended_for() -> None:
    class Kept:
        pass

    async def play() -> None:
        host = Host()
        kept: list[weakref.ref[Kept]] = []

        async def call(_host: Any, _guest: Any, _args: tuple[int]) -> int:
            lifted = Kept()
            kept.append(weakref.ref(lifted))
            raise GuestFault("the next argument is none")

        host.call = call
        async with instance(WAITING, host) as guest:
            with pytest.raises(GuestFault, match="the next argument is none"):
                await guest.instance.call(guest.function("blocks-synchronously"), (1,))
        (ref,) = kept
        assert ref() is None

    gc.disable()  # which would let go of it some time
    try:
        run(play())
    finally:
        gc.enable()


def test_a_component_that_has_enough_to_do_lets_no_task_in() -> None:
    async def play() -> None:
        host = Host()
        async with instance(WAITING, host) as guest, asyncio.TaskGroup() as group:
            running_before = group.create_task(guest("run", 1))
            await host.until_begun(1)
            await guest("hold", 0)
            later = [group.create_task(guest("run", x)) for x in (2, 3)]
            for _ in range(10):
                await asyncio.sleep(0)
            host.let(1)
            assert await running_before == 1001
            assert host.begun == [1]
            await guest("let", 0)
            await host.until_begun(2, 3)
            for x, call in zip((2, 3), later, strict=True):
                host.let(x)
                assert await call == x + 1000

    run(play())


def test_a_call_that_was_not_let_in_is_given_up_before_it_starts() -> None:
    async def play() -> None:
        host = Host()
        async with instance(CHAIN, host) as guest:
            await guest("hold-far", 0)
            assert await guest("gives-up", 1) == 3  # cancelled before it started
            await guest("let-far", 0)
            assert host.begun == []

    run(play())


def test_a_function_without_a_callback_waits_in_its_core_code() -> None:
    text = component(
        """(func (export "run") (param $x i32) (local $status i32) (local $set i32)
             (local.set $status (call $wait (local.get $x) (i32.const 1024)))
             (local.set $set (call $new-set))
             (call $join (i32.shr_u (local.get $status) (i32.const 4)) (local.get $set))
             (if (call $poll-set (local.get $set) (i32.const 2048)) (then unreachable))
             (if (i32.ne (call $wait-set (local.get $set) (i32.const 2048)) (i32.const 1)) (then unreachable))
             (call $drop-subtask (i32.load (i32.const 2048)))
             (call $drop-set (local.get $set))
             (call $return (i32.load (i32.const 1024))))
           (func (export "callback") (param i32 i32 i32) (result i32) unreachable)""",
        stackful="run",
    )

    async def play() -> None:
        host = Host()
        async with instance(text, host) as guest:
            call = asyncio.create_task(guest("run", 4))
            await host.until_begun(4)
            host.let(4)
            assert await call == 1004
            await guest.instance.idle()
            assert len(guest.instance.handles) == 0

    run(play())


@pytest.mark.parametrize("stackful", ["run", ""])
def test_what_a_task_has_returned_is_there_while_its_core_code_waits(stackful: str) -> None:
    """A handler may write the body of its response then, which its caller reads."""
    text = component(
        f"""(func (export "run") (param $x i32) {"" if stackful else "(result i32)"}
             (call $return (local.get $x))
             (drop (call $wait-here (local.get $x)))
             {"" if stackful else "(i32.const 0)"})
           (func (export "callback") (param i32 i32 i32) (result i32) unreachable)""",
        stackful=stackful,
    )

    async def play() -> None:
        host = Host()
        async with instance(text, host) as guest:
            lifted = guest.function("run")
            returned = guest.instance.run(lifted, (7,), lambda _guest, result: result, lambda _guest, args: args[0])
            assert await returned == 7
            await host.until_begun(7)
            assert guest.instance.state.tasks
            host.let(7)
            await guest.instance.idle()

    run(play())


def test_a_task_that_yields_lets_others_have_their_turn() -> None:
    text = component(
        """(global $left (mut i32) (i32.const 0))
           (func (export "run") (param $x i32) (result i32)
             (global.set $left (i32.add (global.get $left) (local.get $x)))
             (i32.const 1))
           (func (export "callback") (param $event i32) (param i32 i32) (result i32)
             (if (local.get $event) (then unreachable))
             (drop (call $yield))
             (if (result i32) (global.get $left)
               (then (global.set $left (i32.sub (global.get $left) (i32.const 1))) (i32.const 1))
               (else (call $return (i32.const 9)) (i32.const 0))))"""
    )

    async def play() -> None:
        async with instance(text) as guest, asyncio.TaskGroup() as group:
            calls = [group.create_task(guest("run", 50)) for _ in range(2)]
            assert [await each for each in calls] == [9, 9]

    run(play())


# What breaks the rules.

IDLE = '(func (export "callback") (param i32 i32 i32) (result i32) unreachable)'


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("(call $return (i32.const 1)) (call $return (i32.const 1)) (i32.const 0)", "the task has returned before"),
        ("(i32.const 0)", "run: the task has ended and never called task.return"),
        ("(call $return (i32.const 1)) (i32.const 3)", "unsupported callback code 3"),
        (
            "(call $return (i32.const 1)) (i32.const 0x52)",
            "there is no handle 5, where one of waitable set is expected",
        ),
        ("(call $cancel) (i32.const 0)", "task.cancel: the task wasn't asked to cancel itself"),
        ("(call $dec) (i32.const 0)", "backpressure.dec: called more often than backpressure.inc"),
        ("(call $join (call $new-set) (i32.const 0)) (i32.const 0)", "the handle 1 is nothing to wait for"),
        ("(call $join (i32.const 8) (i32.const 0)) (i32.const 0)", "waitable.join: there is no handle 8"),
        ("(call $drop-set (i32.const 8)) (i32.const 0)", "waitable-set.drop: there is no handle 8"),
        (
            "(call $drop-subtask (i32.shr_u (call $wait (i32.const 1) (i32.const 0)) (i32.const 4))) (i32.const 0)",
            "subtask.drop: cannot drop a subtask which has not yet resolved",
        ),
        (
            "(call $join (i32.shr_u (call $wait (i32.const 1) (i32.const 0)) (i32.const 4)) (call $new-set))"
            " (call $drop-set (i32.const 2)) (i32.const 0)",
            "waitable-set.drop: cannot drop waitable set with 1 waitables",
        ),
        (
            "(drop (call $poll-set (call $new-set) (i32.const 65532))) (i32.const 0)",
            "waitable-set.poll: the event is wanted at 0xfffc, which isn't in memory",
        ),
        (
            "(drop (call $poll-set (call $new-set) (i32.const 2))) (i32.const 0)",
            "the event is wanted at 0x2, which isn't in memory or isn't aligned",
        ),
        ("unreachable", "unreachable"),
    ],
)
def test_a_task_that_breaks_a_rule_ends_the_instance(body: Any, message: Any) -> None:
    text = component(
        f"""(func (export "run") (param i32) (result i32) {body})
            (func (export "other") (param i32) (result i32) (call $return (i32.const 1)) (i32.const 0)) {IDLE}"""
    )

    async def play() -> None:
        async with instance(text) as guest:
            with pytest.raises((GuestFault, Trap), match=re.escape(message)):
                await run_to_its_end(guest)
            with pytest.raises((GuestFault, Trap), match=re.escape(message)):
                await guest("other", 0)

    run(play())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("(call $return (i32.const 1)) (i32.const 0)", "task.return: the function that the host called isn't lifted"),
        ("(call $wait-set (call $new-set) (i32.const 8))", "cannot block a synchronous task before returning"),
    ],
)
def test_a_synchronous_function_can_not_do_what_a_task_does(body: Any, message: Any) -> None:
    text = component(f'(func (export "run") (param i32) (result i32) {body}) {IDLE}', sync="run")

    async def play() -> None:
        async with instance(text) as guest:
            with pytest.raises(GuestFault, match=re.escape(message)):
                await guest("run", 0)

    run(play())


async def run_to_its_end(guest: Caller) -> None:
    await guest("run", 0)
    await guest.instance.idle()


TRAPS = """
  (func (export "trap") (param i32) (result i32) unreachable)
"""


def test_a_trap_of_one_task_ends_all_others() -> None:
    async def play() -> None:
        host = Host()
        async with instance(component(WAITS + TRAPS, sync="hold let blocks-synchronously"), host) as guest:
            waiting = [asyncio.create_task(guest("run", x)) for x in range(3)]
            await host.until_begun(0, 1, 2)
            with pytest.raises(Trap, match="unreachable"):
                await guest("trap", 0)
            for each in waiting:
                with pytest.raises(Trap, match="unreachable"):
                    await each
            with pytest.raises(Trap, match="unreachable"):
                await guest.instance.idle()

    run(play())


def test_an_instance_that_is_closed_cancels_what_the_host_does_for_it() -> None:
    async def play() -> None:
        host = Host()
        async with instance(WAITING, host) as guest:
            waiting = asyncio.create_task(guest("run", 1))
            await host.until_begun(1)
        with pytest.raises(RuntimeError, match="the instance is closed"):
            await waiting
        await asyncio.sleep(0)
        assert host.cancelled == [1]

    run(play())


@both
@pytest.mark.parametrize("held", [False, True])
def test_a_component_may_not_begin_calls_without_end(text: Any, held: bool) -> None:
    """Neither of the host nor of another component, whether that lets them in or not."""

    async def play() -> None:
        async with instance(text) as guest:
            if held and text is CHAIN:
                await guest("hold-far", 0)
            with pytest.raises(GuestFault, match=r"4096 calls of .* are under way"):
                await guest("floods", 0)

    run(play())


def test_an_instance_may_be_closed_while_core_code_waits() -> None:
    async def play() -> None:
        host = Host()
        async with instance(WAITING, host) as guest:
            first, second = (asyncio.create_task(guest("blocks", x)) for x in (1, 2))
            await host.until_begun(1)
            host.let(1)
            assert await first == 1001
            # The second one was let in later, and goes on at the side.
            await host.until_begun(2)
        with pytest.raises(RuntimeError, match="the instance is closed"):
            await second
        await asyncio.sleep(0)
        assert host.cancelled == [2]

    run(play())


KEEPS = """(component
  (import "thing" (type $thing (sub resource)))
  (core func $drop (canon resource.drop $thing))
  (core func $return (canon task.return))
  (core module $m
    (import "" "drop" (func $drop (param i32)))
    (import "" "return" (func $return))
    (func (export "run") (param $thing i32) (param $drops i32) (result i32)
      (if (local.get $drops) (then (call $drop (local.get $thing))))
      (call $return)
      (i32.const 0))
    (func (export "sync") (param $thing i32) (param $drops i32)
      (if (local.get $drops) (then (call $drop (local.get $thing)))))
    (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
  (core instance $m (instantiate $m (with "" (instance
    (export "drop" (func $drop)) (export "return" (func $return))))))
  (func (export "run") async (param "thing" (borrow $thing)) (param "drops" bool)
    (canon lift (core func $m "run") async (callback (core func $m "callback"))))
  (func (export "sync") (param "thing" (borrow $thing)) (param "drops" bool)
    (canon lift (core func $m "sync")))
)"""


@pytest.mark.parametrize("name", ["run", "sync"])
@pytest.mark.parametrize("by", ["values", "bindings"])
def test_what_a_call_was_lent_must_be_dropped_before_it_returns(name: Any, by: Any) -> None:
    """By values of types that are known at run time, and as generated bindings make calls."""

    async def lend(guest: Caller, drops: bool) -> None:
        function = guest.function(name)
        if by == "values":
            await guest(name, Thing(), drops)
            return
        args = guest.instance.handles.borrow("thing", Thing(), "test"), int(drops)
        if name == "run":
            await guest.instance.run(function, args, lambda *_: None, lambda *_: None)
        else:
            await guest.instance.finish(function, await guest.instance.call(function, args))

    async def play() -> None:
        async with instance(KEEPS) as guest:
            await lend(guest, True)
            await lend(guest, True)
            with pytest.raises(GuestFault, match=r"1 .*still"):
                await lend(guest, False)

    run(play())


NEVER = component(
    """(func (export "run") (param i32) (result i32) (i32.or (i32.const 2) (i32.shl (call $new-set) (i32.const 4))))
       (func (export "here") (param i32) (result i32) (call $wait-set (call $new-set) (i32.const 0)))
       (func (export "callback") (param i32 i32 i32) (result i32) unreachable)"""
)


@pytest.mark.parametrize("name", ["run", "here"])
def test_a_task_that_waits_for_nothing_is_ended(name: Any) -> None:
    async def play() -> None:
        async with instance(NEVER) as guest:
            with pytest.raises(Trap, match="deadlock detected"):
                await guest(name, 0)

    run(play())


def test_a_task_that_waits_for_the_host_is_not_taken_for_stuck() -> None:
    async def play() -> None:
        for name in ("run", "waits-here", "blocks"):
            host = Host()
            async with instance(WAITING, host) as guest:
                call = asyncio.create_task(guest(name, 1))
                await asyncio.sleep(3 * task_calls.PATIENCE)
                host.let(1)
                assert await call == 1001

    run(play())


LENDS = """(component
  (import "thing" (type $thing (sub resource)))
  (import "make" (func $make (result (own $thing))))
  (import "use" (func $use async (param "x" (borrow $thing))))
  (core module $libc (memory (export "memory") 1))
  (core instance $libc (instantiate $libc))
  (core func $make (canon lower (func $make)))
  (core func $use (canon lower (func $use) async))
  (core func $drop (canon resource.drop $thing))
  (core func $return (canon task.return))
  (core func $new-set (canon waitable-set.new))
  (core func $join (canon waitable.join))
  (core module $m
    (import "" "make" (func $make (result i32)))
    (import "" "use" (func $use (param i32) (result i32)))
    (import "" "drop" (func $drop (param i32)))
    (import "" "return" (func $return))
    (import "" "new-set" (func $new-set (result i32)))
    (import "" "join" (func $join (param i32 i32)))
    (global $thing (mut i32) (i32.const 0))
    (func (export "run") (param $early i32) (result i32) (local $set i32)
      (global.set $thing (call $make))
      (local.set $set (call $new-set))
      (call $join (i32.shr_u (call $use (global.get $thing)) (i32.const 4)) (local.get $set))
      (if (local.get $early) (then (call $drop (global.get $thing))))
      (i32.or (i32.const 2) (i32.shl (local.get $set) (i32.const 4))))
    (func (export "callback") (param i32 i32 i32) (result i32)
      (call $drop (global.get $thing))
      (call $return)
      (i32.const 0)))
  (core instance $m (instantiate $m (with "" (instance
    (export "make" (func $make)) (export "use" (func $use)) (export "drop" (func $drop))
    (export "return" (func $return)) (export "new-set" (func $new-set)) (export "join" (func $join))))))
  (func (export "run") async (param "early" bool)
    (canon lift (core func $m "run") async (callback (core func $m "callback"))))
)"""


class Thing:
    """A resource of the host."""

    def __init__(self) -> None:
        self.drops = 0

    def on_drop(self) -> None:
        self.drops += 1


class Things(Host):
    """Makes things, and uses them until somebody lets it go."""

    def __init__(self) -> None:
        super().__init__()
        self.thing = Thing()

    async def make(self, _host: Any, guest: Any, _args: tuple[()]) -> int:
        return guest.handles.add("thing", self.thing, "make")

    async def use(self, _host: Any, guest: Any, args: tuple[int]) -> int:
        assert guest.handles.lend("thing", args[0], "use") is self.thing
        return await guest.subtask(self.answer(0), None, args)

    def provide(self, function: ImportedFunction) -> tuple[Import, Any]:
        if function.name == "make":
            return Import("", "make", "", "i", self.make), None
        return Import("", "use", "i", "", partial(self.use), call_async=AsyncCall("i", self.use)), None


def test_what_is_lent_to_a_subtask_can_be_dropped_when_that_is_done() -> None:
    async def play() -> None:
        host = Things()
        async with instance(LENDS, host) as guest:
            call = asyncio.create_task(guest("run", False))
            await host.until_begun(0)
            host.let(0)
            await call
            assert host.thing.drops == 1

    run(play())


def test_what_is_lent_to_a_subtask_can_not_be_dropped_before() -> None:
    async def play() -> None:
        host = Things()
        async with instance(LENDS, host) as guest:
            with pytest.raises(GuestFault, match="handle 1 of thing is lent to a call that isn't done"):
                await guest("run", True)
        assert host.thing.drops == 1  # at the end of the instance

    run(play())
