"""What lifts and lowers, in C and in Python: the two do the same whatever a guest shows, and neither holds memory."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path
from struct import error as struct_error
from struct import pack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bindgen import runtime
from bindgen.runtime import GuestFault, Handles, PureLower, Resources, rest
from tests.bindgen.roundtrip import FORMS, lift_and_lower

SIZE = 512
"""Bytes of memory that a guest has here."""

many = settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


class Memory:
    """A guest that is nothing but memory."""

    def __init__(self, content: bytes = b"", reused: bool = True) -> None:
        self.handles = Handles()
        self.resources = Resources()
        self.reused = reused
        self.bytes = bytearray(content.ljust(SIZE, b"\0"))
        self.memory = memoryview(self.bytes)


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    return lift_and_lower(request.param)


# Hostile numbers.

EDGES = [0, 1, 2, 3, 4, 5, 7, 8, 9, 16, SIZE - 16, SIZE - 9, SIZE - 8, SIZE - 7, SIZE - 4, SIZE - 1, SIZE, SIZE + 1]
EDGES += [65_535, 65_536, 65_537, 2**31 - 1, 2**31, 2**32 - SIZE, 2**32 - 8, 2**32 - 1, 2**32, 2**61 - 1, 2**61]
EDGES += [2**62 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - SIZE, 2**64 - 8, 2**64 - 1, 2**64, 2**70]

numbers = st.sampled_from(EDGES) | st.integers(0, SIZE)
words = st.sampled_from([each for each in EDGES if each < 2**32]) | st.integers(0, SIZE) | st.integers(0, 12)


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """Memory with pointers and lengths in its first half, right and wrong ones, and with texts in the second."""
    head = draw(st.lists(words, min_size=SIZE // 8, max_size=SIZE // 8))
    tail = draw(st.text(max_size=60).map(str.encode) | st.binary(max_size=SIZE // 2) | st.just(b"plain text " * 23))
    return pack(f"<{len(head)}I", *head) + tail[: SIZE // 2].ljust(SIZE // 2, b"x")


LIFTS: dict[str, tuple[st.SearchStrategy[Any], ...]] = {
    "string": (numbers, numbers),
    "bytes": (numbers, numbers),
    "string_at": (numbers,),
    "bytes_at": (numbers,),
    "pair": (numbers,),
    "texts": (numbers, numbers),
    "rows": (st.integers(1, 3), numbers, numbers),
    "range": (numbers, numbers),
    "tag": (numbers, st.sampled_from([1, 2, 5, 255, 256]), st.just("some-variant")),
    "case": (numbers, numbers, st.just("some-variant")),
    "list": (st.integers(0, 16), st.integers(0, 16), st.sampled_from([1, 2, 4, 8]), numbers, numbers),
    "numbers": (st.sampled_from([1, 2, 4, 8]), numbers, numbers),
}

lifts = st.sampled_from(sorted(LIFTS)).flatmap(lambda name: st.tuples(st.just(name), *LIFTS[name]))


def outcome(call: Any, *arguments: Any) -> tuple[type, Any]:
    """What a call returns or raises."""
    try:
        found = call(*arguments)
    except (GuestFault, ValueError, TypeError, AttributeError, OverflowError, LookupError, StopIteration) as error:
        return type(error), str(error)
    except struct_error as error:
        return type(error), str(error)
    return type(found), bytes(found) if isinstance(found, memoryview) else found


@many
@given(
    contents(),
    st.lists(lifts, max_size=8),
    st.booleans(),
    st.sampled_from([runtime.Lift.LIMIT, 0, 7, 8, 63, 100, 4096, 5000, 10_000]),
)
def test_both_forms_lift_and_refuse_the_same(content: bytes, calls: list[Any], owns: bool, left: int) -> None:
    both = [lift_and_lower(form)[0](Memory(content), "test: lift", "this", owns) for form in FORMS]
    for lift in both:
        lift.left = left
    for name, *arguments in calls:
        one, other = [outcome(getattr(lift, name), *arguments) for lift in both]
        assert one == other
        if issubclass(one[0], Exception):
            return  # the guest's end
        assert both[0].left == both[1].left
        assert both[0].owned == both[1].owned


texts = st.text(max_size=12)
small = st.integers(0, 40)

LOWERS: dict[str, tuple[st.SearchStrategy[Any], ...]] = {
    "block": (small, st.sampled_from([1, 2, 4, 8])),
    "list": (st.integers(0, 12), st.integers(0, 16), st.sampled_from([1, 2, 4, 8]), small | st.just(2**33)),
    "string": (texts,),
    "bytes": (st.binary(max_size=12),),
    "texts": (st.lists(texts, max_size=5),),
    "rows": (st.lists(st.tuples(texts, texts), max_size=4) | st.lists(st.tuples(texts), max_size=2), st.just(2)),
}

lowers = st.sampled_from(sorted(LOWERS)).flatmap(lambda name: st.tuples(st.just(name), *LOWERS[name]))


@many
@given(st.lists(lowers, max_size=6), st.data())
def test_both_forms_lower_and_refuse_the_same(calls: list[Any], data: st.DataObject) -> None:
    guests = [Memory() for _ in FORMS]
    both = [lift_and_lower(form)[1](guest, "test: lower") for form, guest in zip(FORMS, guests, strict=True)]
    for name, *arguments in calls:
        one, other = [outcome(getattr(lower, name), *arguments) for lower in both]
        assert one == other
        if issubclass(one[0], Exception):
            return
    sizes = [[block[:2] for block in lower.blocks] for lower in both]
    assert sizes[0] == sizes[1]
    pointers = data.draw(st.just(bump(sizes[0])) | st.lists(numbers, min_size=len(sizes[0]), max_size=len(sizes[0])))
    one, other = [outcome(lower.place, pointers) for lower in both]
    assert one == other
    assert guests[0].bytes == guests[1].bytes
    if issubclass(one[0], Exception):
        return
    for at in data.draw(st.lists(st.none() | numbers, max_size=12)):
        one, other = [outcome(lower.take) if at is None else outcome(lower.put, at) for lower in both]
        assert one[0] is other[0]
        if issubclass(one[0], Exception):
            return
        assert one[1] == other[1]
        assert guests[0].bytes == guests[1].bytes


def bump(blocks: list[tuple[int, int]]) -> list[int]:
    """Addresses for blocks, one after the other."""
    found, at = [], 8
    for size, align in blocks:
        at = -(-at // align) * align
        found.append(at)
        at += size
    return found


# One by one.


def test_a_table_of_texts_is_lowered_and_lifted(form: tuple[Any, Any]) -> None:
    lift, lower = form
    guest = Memory()
    rows = [("a", ""), ("ß", "漢字"), ("", "🕷")]
    lowering = lower(guest, "test: rows")
    lowering.string("before")
    lowering.rows(rows, 2)
    lowering.texts(["x", "yz"])
    lowering.string("behind")
    lowering.place(bump([block[:2] for block in lowering.blocks]))
    lifting = lift(guest, "test: rows")
    assert lifting.string(*lowering.take()) == "before"
    assert lifting.rows(2, *lowering.take()) == rows
    assert lowering.put(256) == lifting.pair(256)[0]
    assert lifting.texts(*lifting.pair(256)) == ["x", "yz"]
    assert lifting.string(*lowering.take()) == "behind"
    with pytest.raises(StopIteration):
        lowering.take()


def test_a_list_of_elements_that_take_no_room_is_not_freed(form: tuple[Any, Any]) -> None:
    lifting = form[0](Memory(), "test: list", owns=True)
    assert len(lifting.list(0, 0, 1, 8, 3)) == 3
    assert lifting.owned == []
    assert len(lifting.list(4, 4, 4, 8, 3)) == 3
    assert lifting.owned == [(8, 12, 4)]


def test_a_table_may_have_thousands_of_columns(form: tuple[Any, Any]) -> None:
    lowering = form[1](Memory(), "test: rows")
    lowering.rows([("",) * 2000] * 2, 2000)
    assert [block[0] for block in lowering.blocks] == [8 * 2000 * 2, *[0] * 4000]


class Growing(Memory):
    """A guest whose memory is another one whenever it was asked for something."""

    def allocate(self, sizes: list[int], align: int) -> list[int]:
        start = -(-len(self.bytes) // align) * align
        found = []
        for size in sizes:
            found.append(start)
            start += -(-size // align) * align
        self.memory.release()
        self.bytes = bytearray(bytes(self.bytes).ljust(start, b"\0"))
        self.memory = memoryview(self.bytes)
        return found


LONG = [f"text {number} é" for number in range(2 * PureLower.PIECE + 100)]


@pytest.mark.parametrize("width", [0, 3])
def test_a_long_list_is_handed_over_in_pieces(form: tuple[Any, Any], width: int) -> None:
    lift, lower = form
    guest = Growing()
    asked = []

    async def allocate(sizes: list[int]) -> list[int]:
        asked.append(len(sizes))
        return guest.allocate(sizes, 1)

    rows = list(zip(LONG, [*LONG[1:], "last"], [""] * len(LONG), strict=True))
    lowering = lower(guest, "test: long")
    lowering.string("before")
    if width:
        lowering.rows(rows, width)
    else:
        lowering.texts(LONG)
    lowering.texts(["x"])
    assert len(lowering.blocks) == 4
    pointers = guest.allocate([block[0] for block in lowering.blocks], 4)
    lowering.place(pointers)
    asyncio.run(lowering.place_later(pointers, allocate))
    assert max(asked) <= PureLower.PIECE
    assert sum(asked) == len(LONG) * (width or 1)
    lifting = lift(guest, "test: long")
    lifting.left = 1 << 40
    assert lifting.string(*lowering.take()) == "before"
    lowering.put(0)
    assert (lifting.rows(width, *lifting.pair(0)) if width else lifting.texts(*lifting.pair(0))) == (
        rows if width else LONG
    )
    assert lifting.texts(*lowering.take()) == ["x"]


@pytest.mark.parametrize("useless", [0, 2**32 - 1])
def test_useless_memory_for_a_text_of_a_long_list_is_refused(form: tuple[Any, Any], useless: int) -> None:
    guest = Growing()

    async def allocate(sizes: list[int]) -> list[int]:
        return [useless, *guest.allocate(sizes[1:], 1)]

    lowering = form[1](guest, "test: long")
    lowering.texts(LONG)
    pointers = guest.allocate([block[0] for block in lowering.blocks], 4)
    lowering.place(pointers)
    with pytest.raises(GuestFault, match=r"^test: long: canonical_abi_realloc returned 0x"):
        asyncio.run(lowering.place_later(pointers, allocate))


def test_a_long_list_that_changes_meanwhile_is_refused(form: tuple[Any, Any]) -> None:
    guest = Growing()
    texts = list(LONG)

    async def allocate(sizes: list[int]) -> list[int]:
        texts.append("another")
        return guest.allocate(sizes, 1)

    lowering = form[1](guest, "test: long")
    lowering.texts(texts)
    pointers = guest.allocate([block[0] for block in lowering.blocks], 4)
    lowering.place(pointers)
    with pytest.raises(RuntimeError, match="the list changed"):
        asyncio.run(lowering.place_later(pointers, allocate))


def test_a_row_of_another_width_is_refused(form: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="3 values where 2 are expected"):
        form[1](Memory(), "test: rows").rows([("a", "b", "c")], 2)


ANSWERS = [5, None, [5], [(5,)], [("a", 5)], [b"ab"], {1: 2}]


@pytest.mark.parametrize(
    ("method", "value"),
    [("bytes", 5), ("bytes", None), *((method, value) for method in ("string", "texts", "rows") for value in ANSWERS)],
)
def test_what_a_host_answers_wrong_is_told_the_same(method: str, value: Any) -> None:
    both = [lift_and_lower(form)[1](Memory(), "test: answer") for form in FORMS]
    arguments = (value, 2) if method == "rows" else (value,)
    one, other = [outcome(getattr(lower, method), *arguments) for lower in both]
    assert one == other


def test_text_that_no_guest_may_have_is_refused(form: tuple[Any, Any]) -> None:
    with pytest.raises(UnicodeEncodeError):
        form[1](Memory(), "test: text").string("\ud800")


def test_memory_may_be_released_between_calls(form: tuple[Any, Any]) -> None:
    lift, lower = form
    guest = Memory(b"text")
    lifting, lowering = lift(guest, "test: memory"), lower(guest, "test: memory")
    lowering.texts(["a"])
    lowering.place([64, 128])
    assert lifting.string(0, 4) == "text"
    assert lifting.rows(1, 64, 1) == [("a",)]
    guest.memory.release()
    guest.bytes.clear()
    for call in (lambda: lifting.string(0, 4), lambda: lifting.texts(0, 1), lambda: lowering.put(0)):
        with pytest.raises((ValueError, TypeError)):
            call()


def test_a_guest_without_memory_is_refused(form: tuple[Any, Any]) -> None:
    class Bare(Memory):
        @property
        def memory(self) -> memoryview:
            raise GuestFault("the guest exports no memory")

        @memory.setter
        def memory(self, memory: memoryview) -> None:
            pass

    lowering = form[1](Bare(), "test: f")
    lowering.string("x")
    for call in (lambda: form[0](Bare(), "test: f"), lambda: lowering.place([8])):
        with pytest.raises(GuestFault, match=r"^test: f: the guest exports no memory$"):
            call()


@pytest.mark.parametrize("kind", [0, 1])
def test_what_refers_to_itself_is_collected(form: tuple[Any, Any], kind: int) -> None:
    class Holder(Memory):
        held: Any

    guest = Holder()
    guest.held = form[kind](guest, "test: cycle")
    seen = weakref.ref(guest)
    del guest
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize("call", [("texts", 0, 8), ("rows", 2, 0, 4), ("string", 80, 5), ("tag", 84, 2, "x")])
def test_a_fault_leaves_nothing_behind(form: tuple[Any, Any], call: tuple[Any, ...]) -> None:
    # The last of eight texts is none.
    guest = Memory(pack("<16I", *[80, 4] * 7, 80, 5).ljust(80) + b"text\xff")
    name, *arguments = call

    def fault() -> None:
        lift = form[0](guest, "test: fault", owns=True)
        assert "test: fault" in outcome(getattr(lift, name), *arguments)[1]

    fault()
    gc.collect()
    before = sys.getrefcount(guest.memory), sys.getallocatedblocks()
    for _ in range(200):
        fault()
    gc.collect()
    references, blocks = sys.getrefcount(guest.memory), sys.getallocatedblocks()
    assert references == before[0]
    assert blocks < before[1] + 100


STRANGE = [None, -1, -(2**70), 1.5, "1", b"1", [], (1, 2), True, 2**70]


@pytest.mark.parametrize("kind", [0, 1])
def test_no_argument_ends_the_process(form: tuple[Any, Any], kind: int) -> None:
    made = form[kind]
    names = [*LIFTS] if kind == 0 else [*LOWERS, "place", "put", "take"]
    for name in names:
        for subject in (made(Memory(), "test: strange"), made.__new__(made)):
            for count in range(6):
                for each in STRANGE:
                    try:
                        getattr(subject, name)(*[each] * count)
                    except Exception:
                        continue
    for arguments in ((), (None,), (1, 2, 3, 4, 5)):
        with pytest.raises((TypeError, AttributeError)):
            made(*arguments)


# Coroutines that are begun by hand.


async def _waits(steps: list[str]) -> str:
    try:
        for _ in range(2):
            await asyncio.sleep(0)
            steps.append("waited")
        return "done"
    except asyncio.CancelledError:
        steps.append("cancelled")
        raise


async def _by_hand(steps: list[str], kept: object) -> str:
    begun = _waits(steps)
    return await rest(begun, begun.send(None), lambda: steps.append("goes on"))


def test_the_rest_of_a_coroutine_is_awaited_as_the_whole_would_be() -> None:
    steps: list[str] = []
    assert asyncio.run(_by_hand(steps, None)) == "done"
    assert steps == ["goes on", "waited", "goes on", "waited"]


def test_a_coroutine_that_is_cancelled_in_its_rest_holds_nothing() -> None:
    class Kept:
        pass

    async def main() -> None:
        steps: list[str] = []
        kept = Kept()
        held = weakref.ref(kept)
        task = asyncio.create_task(_by_hand(steps, kept))
        del kept
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        await asyncio.sleep(0)
        assert steps == ["goes on", "cancelled"]
        assert held() is None

    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()


def test_a_type_checker_finds_what_generated_modules_import(tmp_path: Path) -> None:
    (tmp_path / "check.py").write_text("from bindgen.runtime import Err\n\nvalue: int = Err(1).value\n")
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    command = [sys.executable, "-m", "mypy", "--strict", "check.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "Success: no issues found in 1 source file\n"
