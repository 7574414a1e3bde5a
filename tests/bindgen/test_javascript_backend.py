"""Values go through a guest in JavaScript and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bindgen import runtime
from bindgen.backends import BackendError, javascript
from bindgen.wit_parser import load_many
from tests.bindgen import echo_javascript
from tests.bindgen.roundtrip import Caller, Case
from tests.bindgen.test_roundtrip import EDGES, MANY, SHAPES, TYPES, Host, echoes, functions
from tests.bindgen.values import values


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("javascript"), SHAPES, functions(), echo_javascript.compile_echo)


@pytest.mark.parametrize("number", range(len(TYPES)), ids=TYPES)
def test_every_shape_comes_back_as_it_was(case: Case, number: int) -> None:
    type_ = case.exported.functions[number].params[0].type
    # Which NaN a NaN is, JavaScript does not keep.
    numbers = values(type_, case.module_of).filter(lambda value: "nan" not in repr(value))
    several = st.lists(numbers, min_size=10, max_size=20)

    @settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(several)
    def check(some: list[Any]) -> None:
        async def body(call: Caller) -> None:
            for value in some:
                await echoes(call, f"shape{number}", value)

        case.run(body, Host())

    check()


def test_values_at_the_edges_come_back_as_they_were(case: Case) -> None:
    async def body(call: Caller) -> None:
        for type_, edges in EDGES.items():
            for value in edges:
                await echoes(call, f"shape{TYPES.index(type_)}", value)

    case.run(body, Host())


@pytest.mark.parametrize("name", MANY)
def test_functions_of_many_parameters_return_all_of_them(case: Case, name: str) -> None:
    function = next(each for each in case.exported.functions if each.name == name)
    shapes = [
        values(param.type, case.module_of).filter(lambda value: "nan" not in repr(value)) for param in function.params
    ]
    strategy = st.tuples(*shapes)

    @settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def check(some: tuple[Any, ...]) -> None:
        async def body(call: Caller) -> None:
            before = await call.live_blocks()
            answer = await call(name, *some)
            assert repr(answer) == repr(some or None)
            assert await call.live_blocks() == before

        case.run(body, Host())

    check()


def test_an_expected_is_returned_or_thrown(case: Case) -> None:
    async def body(call: Caller) -> None:
        before = await call.live_blocks()
        assert await call("coded", False) == ["a", "", "ü"]
        for name, error in (("plain-error", "it was asked to"), ("coded", 2), ("bare", None)):
            await call(name, False)
            with pytest.raises(runtime.Err) as caught:
                await call(name, True)
            assert caught.value.value == error
        assert await call("answers", runtime.Ok("text")) == "text"
        assert await call.live_blocks() == before

    case.run(body, Host())


def test_resources_of_the_guests_own_are_refused(tmp_path: Path) -> None:
    (tmp_path / "own.wit").write_text("resource thing { touch: func() }\n")
    with pytest.raises(BackendError, match="can't define resources"):
        javascript.write([], load_many([tmp_path / "own.wit"]))
