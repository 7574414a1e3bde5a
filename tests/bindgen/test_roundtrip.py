"""Values go through a guest and back: the host's bindings, and those of each guest language, agree on every shape."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from bindgen import runtime
from bindgen.plan import ABI
from bindgen.wit_parser.model import Function, Type, components
from tests.bindgen import echo_c, echo_rust
from tests.bindgen.roundtrip import FORMS, Caller, Case, Compile, parse, use_form
from tests.bindgen.values import same, values

LANGUAGES: dict[str, Compile] = {"c": echo_c.compile_echo, "rust": echo_rust.compile_echo}

SHAPES = (Path(__file__).parent / "shapes.wit").read_text()

TYPES = [
    *("bool", "u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "float32", "float64", "char", "string"),
    *("colour", "many", "f1", "f8", "f9", "f16", "f17", "f32", "f33", "f64", "f65"),
    *("point", "mixed", "inner", "outer", "odd", "beyond", "joined", "either", "name", "names"),
    *("list<u8>", "list<s16>", "list<u64>", "list<float32>", "list<bool>", "list<char>", "list<string>"),
    *("list<list<string>>", "list<odd>", "list<joined>", "list<either>", "list<mixed>", "list<f65>"),
    *("option<u8>", "option<u64>", "option<string>", "option<option<u32>>", "option<unit>", "option<float64>"),
    *("list<option<u64>>", "list<option<option<u8>>>", "list<tuple<string, string>>", "list<colour>"),
    *("tuple<u8>", "tuple<u8, u64, u8>", "tuple<string, list<u8>>", "tuple<float32, float64, bool, char>"),
    *("list<expected<string, u8>>", "list<expected<unit, unit>>", "option<list<expected<list<u32>, odd>>>"),
    *("tuple<option<expected<_, string>>, u8>", "tuple<list<outer>, option<outer>>"),
]
"""What one function each takes and returns."""

MANY = {
    "none": [],
    "sixteen": ["u8"] * 16,
    "seventeen": ["u8"] * 17,
    "forty": ["u8", "string", "u64", "float64"] * 10,
    "mixed-params": ["mixed", "joined", "list<string>", "option<odd>"],
}
"""Functions by how many parameters they have; each returns all of them."""


def functions() -> str:
    lines = [f"shape{number}: func(value: {type_}) -> {type_}" for number, type_ in enumerate(TYPES)]
    for name, types in MANY.items():
        params = ", ".join(f"p{number}: {type_}" for number, type_ in enumerate(types))
        result = f" -> tuple<{', '.join(types)}>" if types else ""
        lines.append(f"{name}: func({params}){result}")
    lines += [
        "answers: func(value: expected<string, odd>) -> expected<string, odd>",
        "plain-error: func(fails: bool) -> expected<_, string>",
        "bare: func(fails: bool) -> expected<_, _>",
        "coded: func(fails: bool) -> expected<list<string>, colour>",
    ]
    return "\n".join(lines) + "\n"


class Host:
    """Answers with the arguments; the functions that fail, fail when they are asked to."""

    def __getattr__(self, name: str) -> Any:
        async def answer(*arguments: Any) -> Any:
            return arguments[0] if len(arguments) == 1 else arguments or None

        return answer

    async def answers(self, value: Any) -> str:
        if isinstance(value, runtime.Err):
            raise runtime.Err(value.value)
        return str(value.value)

    async def plain_error(self, fails: bool) -> None:
        if fails:
            raise runtime.Err("it was asked to")

    async def bare(self, fails: bool) -> None:
        if fails:
            raise runtime.Err(None)

    async def coded(self, fails: bool) -> list[str]:
        if fails:
            raise runtime.Err(2)
        return ["a", "", "ü"]


@pytest.fixture(scope="module", params=LANGUAGES)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    directory = tmp_path_factory.mktemp(request.param)
    return Case(directory, SHAPES, functions(), LANGUAGES[request.param])


@pytest.fixture(params=FORMS)
def case(built: Case, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Case:
    use_form(request.param, built.modules.values(), monkeypatch)
    return built


async def echoes(call: Caller, name: str, value: Any) -> None:
    """Asserts that a value comes back as it was, and that the guest frees what it held."""
    before = await call.live_blocks()
    answer = await call(name, value)
    assert same(answer, value)
    assert await call.live_blocks() == before


@pytest.mark.parametrize("number", range(len(TYPES)), ids=TYPES)
def test_every_shape_comes_back_as_it_was(case: Case, number: int) -> None:
    type_ = case.exported.functions[number].params[0].type

    @settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.lists(values(type_, case.module_of), min_size=3, max_size=10))
    def check(some: list[Any]) -> None:
        async def body(call: Caller) -> None:
            for value in some:
                await echoes(call, f"shape{number}", value)

        case.run(body, Host())

    check()


EDGES: dict[str, list[Any]] = {
    "u8": [0, 255],
    "s8": [-128, 127],
    "u16": [0, 65_535],
    "s16": [-32_768, 32_767],
    "u32": [0, 2**32 - 1],
    "s32": [-(2**31), 2**31 - 1],
    "u64": [0, 2**64 - 1],
    "s64": [-(2**63), 2**63 - 1],
    "float32": [0.0, -0.0, math.inf, -math.inf, 2.0**-149, 3.4028234663852886e38],
    "float64": [0.0, -0.0, math.inf, -math.inf, 5e-324, 1.7976931348623157e308],
    "char": ["\0", "\x7f", "ß", "\ud7ff", "\ue000", "\uffff", "\U0001f600", "\U0010ffff"],
    "string": ["", "\0", "a\0b", "ß", "漢字", "🕷⚡", "\U0010ffff", "x" * 100_000],
    "list<u8>": [b"", b"\0", bytes(range(256)) * 400],
    "list<string>": [[], [""], ["", "a", ""], ["x"] * 5000],
    "list<u64>": [[], [2**64 - 1], list(range(10_000))],
    "option<option<u32>>": [None, runtime.Some(None), runtime.Some(7)],
    "option<unit>": [None, runtime.Some(None)],
}


@pytest.mark.parametrize("type_", EDGES)
def test_limits_come_back_as_they_were(case: Case, type_: str) -> None:
    async def body(call: Caller) -> None:
        for value in EDGES[type_]:
            await echoes(call, f"shape{TYPES.index(type_)}", value)

    case.run(body, Host())


@pytest.mark.parametrize("payload", [0x7FF8_0000_0000_0000, 0x7FF8_0000_0000_0001, 0xFFF8_1234_5678_9ABC])
def test_a_nan_keeps_its_payload(case: Case, payload: int) -> None:
    nan = struct.unpack("<d", struct.pack("<Q", payload))[0]

    async def body(call: Caller) -> None:
        await echoes(call, f"shape{TYPES.index('float64')}", nan)
        await echoes(call, f"shape{TYPES.index('option<float64>')}", nan)
        joined = case.modules["shapes"].JoinedD(nan)
        await echoes(call, f"shape{TYPES.index('joined')}", joined)

    case.run(body, Host())


@pytest.mark.parametrize("name", MANY)
def test_functions_take_any_number_of_parameters(case: Case, name: str) -> None:
    function = next(each for each in case.exported.functions if each.name == name)
    shapes = [values(param.type, case.module_of) for param in function.params]

    @settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.tuples(*shapes))
    def check(arguments: tuple[Any, ...]) -> None:
        async def body(call: Caller) -> None:
            before = await call.live_blocks()
            assert same(await call(name, *arguments), arguments or None)
            assert await call.live_blocks() == before

        case.run(body, Host())

    check()


def test_results_are_returned_and_errors_are_raised(case: Case) -> None:
    shapes = case.modules["shapes"]

    async def body(call: Caller) -> None:
        before = await call.live_blocks()
        assert await call("answers", runtime.Ok("fine")) == "fine"
        for problem in (shapes.OddA(2**64 - 1), shapes.OddC((1, 2, 3, 2**32 - 1)), shapes.OddD()):
            with pytest.raises(runtime.Err) as caught:
                await call("answers", runtime.Err(problem))
            assert caught.value.value == problem
        assert await call("plain-error", False) is None
        with pytest.raises(runtime.Err) as text:
            await call("plain-error", True)
        assert text.value.value == "it was asked to"
        assert await call("bare", False) is None
        with pytest.raises(runtime.Err):
            await call("bare", True)
        assert await call("coded", False) == ["a", "", "ü"]
        with pytest.raises(runtime.Err) as code:
            await call("coded", True)
        assert code.value.value is shapes.Colour.BLUE
        assert await call.live_blocks() == before

    case.run(body, Host())


# Interfaces that hypothesis writes.

_LEAVES = ["bool", "u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64", "float32", "float64", "char", "string"]


def types_over(leaves: list[str]) -> st.SearchStrategy[str]:
    """Type expressions over some names."""
    return st.recursive(
        st.sampled_from(leaves),
        lambda inner: st.one_of(
            inner.map("list<{}>".format),
            inner.map("option<{}>".format),
            st.tuples(inner, inner).map(lambda pair: f"expected<{pair[0]}, {pair[1]}>"),
            st.lists(inner, min_size=1, max_size=4).map(lambda items: f"tuple<{', '.join(items)}>"),
        ),
        max_leaves=5,
    )


@st.composite
def interfaces(draw: st.DrawFn) -> tuple[str, str]:
    """Definitions of types that build on one another, and functions that take and return them."""
    names = list(_LEAVES)
    lines = []
    for number in range(draw(st.integers(2, 6))):
        name = f"t{number}"
        kind = draw(st.sampled_from(["record", "variant", "union", "type"]))
        types = draw(st.lists(types_over(names), min_size=1, max_size=5))
        if kind == "type":
            lines.append(f"type {name} = {types[0]}")
        elif kind == "record":
            lines.append(f"record {name} {{ {', '.join(f'f{n}: {each}' for n, each in enumerate(types))} }}")
        elif kind == "union":
            lines.append(f"union {name} {{ {', '.join(types)} }}")
        else:
            cases = [f"c{n}({each})" for n, each in enumerate(types)]
            lines.append(f"variant {name} {{ {', '.join([*cases, 'nothing'])} }}")
        names.append(name)
    results = draw(st.lists(types_over(names), min_size=4, max_size=8))
    # A function that returns an expected raises its error; as part of a tuple it is a value like any other.
    functions = [f"shape{n}: func(value: tuple<{each}>) -> tuple<{each}>" for n, each in enumerate(results)]
    return "\n".join(lines) + "\n", "\n".join(functions) + "\n"


def overlaps(function: Function) -> bool:
    """Whether a payload reaches into what stands behind its variant, as the layout of 0.2 has it for some types."""
    waiting: list[Type] = [param.type for param in function.params]
    while waiting:
        type_ = waiting.pop()
        if ABI.extent(type_) > ABI.size_align(type_).size:
            return True
        waiting += components(type_)
    return False


@pytest.mark.parametrize("language", LANGUAGES)
def test_host_and_guest_agree_on_interfaces_that_nobody_thought_of(
    language: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    @settings(
        max_examples=4,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(interfaces(), st.data())
    def check(interface: tuple[str, str], data: st.DataObject) -> None:
        directory = tmp_path_factory.mktemp("any")
        assume(not any(map(overlaps, parse(directory, *interface)[1].functions)))
        case = Case(directory, *interface, LANGUAGES[language])
        arguments = [
            (
                function.name,
                data.draw(st.lists(values(function.params[0].type, case.module_of), min_size=3, max_size=5)),
            )
            for function in case.exported.functions
        ]

        async def body(call: Caller) -> None:
            for name, some in arguments:
                for value in some:
                    await echoes(call, name, value)

        case.run(body, Host())

    check()
