"""Hostile components: whatever they call built-in functions with, they get an answer or are ended by a GuestFault."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bindgen.runtime import GuestFault
from slight_py.component import types as t
from slight_py.component.builtins import MAX_MESSAGE, builtin
from slight_py.component.lifting import ERROR_CONTEXT_KEY
from slight_py.component.plan import Builtin, Options
from slight_py.component.subtasks import SUBTASK, Subtask
from tests.component.test_streams import FakeGuest, answered

TYPES = (t.StreamOf(t.U8), t.StreamOf(t.STRING), t.StreamOf(None), t.StreamOf(t.StreamOf(t.U8)))
FUTURES = (t.FutureOf(t.U16), t.FutureOf(t.Own(t.ResourceType("thing"))), t.FutureOf(None))

_ENDS = {
    "new": 0,
    "cancel-read": 1,
    "cancel-write": 1,
    "drop-readable": 1,
    "drop-writable": 1,
}
COUNTS: dict[str, int] = {
    "task.return": 1,
    "task.cancel": 0,
    "context.get": 0,
    "context.set": 1,
    "backpressure.set": 1,
    "backpressure.inc": 0,
    "backpressure.dec": 0,
    "thread.yield": 0,
    "subtask.cancel": 1,
    "subtask.drop": 1,
    "waitable-set.new": 0,
    "waitable-set.wait": 2,
    "waitable-set.poll": 2,
    "waitable-set.drop": 1,
    "waitable.join": 2,
    "error-context.new": 2,
    "error-context.debug-message": 2,
    "error-context.drop": 1,
    "stream.read": 3,
    "stream.write": 3,
    "future.read": 2,
    "future.write": 2,
    **{f"{kind}.{name}": count for kind in ("stream", "future") for name, count in _ENDS.items()},
}
"""How many parameters each function has."""

numbers = st.one_of(st.integers(0, 12), st.sampled_from([0x100, 0xFFFF8, 0xFFFFC, 1 << 20, 0x7FFF_FFFF, 0xFFFF_FFFF]))


@st.composite
def calls(draw: st.DrawFn) -> tuple[Builtin, tuple[int, ...]]:
    name = draw(st.sampled_from(sorted(COUNTS)))
    type_: Any = None
    if name.startswith("stream."):
        type_ = draw(st.sampled_from(TYPES))
    elif name.startswith("future."):
        type_ = draw(st.sampled_from(FUTURES))
    core = t.CoreFuncType(("i32",) * COUNTS[name], ("i32",))
    options = Options(is_async=draw(st.booleans()))
    of = Builtin(name, 0, core, type_, options, is_cancellable=draw(st.booleans()))
    return of, tuple(draw(numbers) for _ in range(COUNTS[name]))


@given(st.lists(calls(), min_size=1, max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_sequence_of_calls_is_answered_or_refused(sequence: Any) -> None:
    async def play() -> None:
        guest = FakeGuest()
        guest.handles.add(SUBTASK, Subtask(guest.handles))
        for of, args in sequence:
            found = builtin(of)
            assert found is not None
            try:
                async with asyncio.timeout(5):
                    await answered(found, guest, args)
            except GuestFault as fault:
                # A real component would be over now; what comes next must not meet anything half done all the same.
                where = str(fault)
                assert where
        guest.handles.close()
        await asyncio.sleep(0)
        assert len(guest.handles) == 0

    asyncio.run(play())


def test_the_host_keeps_little_of_a_message() -> None:
    guest = FakeGuest()
    size = 1 << 19
    guest.memory[:size] = b"x" * size
    new = builtin(Builtin("error-context.new", 0, t.CoreFuncType(("i32", "i32"), ("i32",))))
    assert new is not None
    index = asyncio.run(answered(new, guest, (0, size)))
    assert guest.handles.get(ERROR_CONTEXT_KEY, index).message == "x" * MAX_MESSAGE


def test_every_built_in_function_has_an_answer() -> None:
    for name in COUNTS:
        kind = t.StreamOf(t.U8) if name.startswith("stream.") else t.FutureOf(t.U8)
        assert builtin(Builtin(name, 0, t.CoreFuncType((), ()), kind)) is not None
    assert builtin(Builtin("resource.new", 0, t.CoreFuncType((), ()))) is None
