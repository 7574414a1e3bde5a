"""The plan of a call: against steps and places worked out by hand, and what backends may ask."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import bindgen.backends
from bindgen.abi import Direction
from bindgen.plan import (
    Allocate,
    Call,
    Check,
    Choice,
    Elements,
    Free,
    FreeOwned,
    Handle,
    LiftParam,
    LiftResult,
    LowerParam,
    LowerResult,
    Reserve,
    Return,
    Run,
    Side,
    call,
    choice,
    conversions,
    parts,
    shape,
)
from bindgen.wit_parser import load
from bindgen.wit_parser.model import ListOf, OptionOf, Primitive, TupleOf

FUNCTIONS = """
variant joined { a(u32), b(float32), c(u64), d }
resource r { get: func(key: string) -> expected<list<u8>, string> }
plain: func(a: u8, b: s64) -> u32
wide: func(a: string, b: string, c: string, d: string, e: string, f: string, g: string, h: string, i: u8)
bare: func() -> expected<_, _>
"""


@pytest.fixture
def calls(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "x.wit"
    path.write_text(FUNCTIONS)
    interface = load(path)
    functions = [*interface.functions, *interface.resources[0].functions]
    return {function.name: function for function in functions} | {"joined": interface.types[0]}


def steps(calls: dict[str, Any], name: str, side: Side, direction: Direction) -> list[str]:
    """The steps by name, with the numbers that they carry."""
    found: Call = call(calls[name], side, direction)
    texts = []
    for step in found.steps:
        match step:
            case Check(area, extent):
                texts.append(f"check {area} {extent}")
            case Reserve(area, extent, align, lasts):
                texts.append(f"reserve {area} {extent}/{align}{' for ever' if lasts else ''}")
            case Free(area, extent, align):
                texts.append(f"free {area} {extent}/{align}")
            case Allocate(area):
                texts.append(f"allocate {area.extent if area else 'blocks'}")
            case LiftParam(number, part) | LowerParam(number, part):
                texts.append(f"{'lift' if isinstance(step, LiftParam) else 'lower'} {number} {part.name}")
            case LiftResult() | LowerResult() | Run() | FreeOwned() | Return():
                texts.append(type(step).__name__)
    return texts


def test_the_host_answers_a_method_that_returns_an_expected(calls: dict[str, Any]) -> None:
    assert steps(calls, "get", "host", "import") == [
        *("lift 0 self", "lift 1 key", "check result 12", "Run", "allocate blocks", "LowerResult")
    ]


def test_the_host_calls_with_more_than_sixteen_slots_through_memory(calls: dict[str, Any]) -> None:
    assert steps(calls, "wide", "host", "export") == [
        *("allocate 68", *(f"lower {number} {name}" for number, name in enumerate("abcdefghi")), "Run", "LiftResult")
    ]


def test_the_guest_sets_areas_aside_and_frees_what_it_was_handed(calls: dict[str, Any]) -> None:
    assert steps(calls, "get", "guest", "import") == [
        *("reserve result 12/4", "lower 0 self", "lower 1 key", "Run", "Return", "LiftResult")
    ]
    assert steps(calls, "get", "guest", "export") == [
        *("reserve result 12/4 for ever", "lift 0 self", "lift 1 key", "Run", "LowerResult")
    ]
    taken = [f"lift {number} {name}" for number, name in enumerate("abcdefghi")]
    assert steps(calls, "wide", "guest", "export") == [*taken, "free params 68/4", "Run", "LowerResult"]


def test_numbers_need_nothing_but_the_call(calls: dict[str, Any]) -> None:
    assert steps(calls, "plain", "host", "import") == ["lift 0 a", "lift 1 b", "Run", "LowerResult"]
    assert steps(calls, "plain", "host", "export") == ["lower 0 a", "lower 1 b", "Run", "LiftResult"]


def test_an_expected_that_is_spelled_out_has_sides(calls: dict[str, Any]) -> None:
    found = call(calls["get"], "host", "import")
    assert found.name == "r::get"
    assert found.sides is not None
    assert [case.name for case in found.sides] == ["ok", "err"]
    assert found.result_offset == 4
    bare = call(calls["bare"], "host", "import")
    assert bare.sides is not None
    assert [case.payload for case in bare.sides] == [None, None]


def test_the_cases_of_a_variant_say_how_they_travel(calls: dict[str, Any]) -> None:
    found = choice(calls["joined"])
    assert (found.slots, found.payload_offset, found.tag_size) == ("iI", 8, 1)
    assert [list(conversions(case)) for case in found.cases] == [[("I", "i")], [("I", "f")], [("I", "I")], []]
    assert [case.unused for case in found.cases] == ["", "", "", "I"]


def test_parts_lie_one_after_the_other() -> None:
    tuple_ = TupleOf((Primitive.U8, Primitive.STRING, Primitive.U64))
    assert [(part.offset, part.first_slot, part.slots_of("abcd")) for part in parts(tuple_)] == [
        (0, 0, "a"),
        (4, 1, "bc"),
        (16, 3, "d"),
    ]


def test_a_list_says_how_far_its_last_element_reaches() -> None:
    odd = shape(ListOf(OptionOf(TupleOf((Primitive.U8, Primitive.U64)))))
    assert isinstance(odd, Elements)
    assert isinstance(odd.element, Choice)
    assert (odd.element.size, odd.overhang) == (24, 0)


def test_no_backend_computes_what_the_plan_says() -> None:
    for path in sorted(Path(bindgen.backends.__file__).parent.glob("*.py")):
        imported = {
            alias.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and node.module in ("bindgen", "bindgen.abi")
            for alias in node.names
        }
        # What a C compiler does with a struct is C's own affair, and is held against the plan.
        assert imported - {"plan", "Direction"} <= ({"align_up"} if path.stem == "c_layout" else set())


def test_the_same_type_has_the_same_shape(calls: dict[str, Any]) -> None:
    found = call(calls["get"], "guest", "export")
    assert isinstance(found.params.parts[0].shape, Handle)
    assert found.params.parts[1].shape is shape(Primitive.STRING)
