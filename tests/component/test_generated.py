"""Functions of generated types, lifted and lowered: wasmtime agrees on the types of their core functions."""

from __future__ import annotations

from collections.abc import Iterable

import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from slight_py.component import binary
from slight_py.component.plan import Lower
from slight_py.component.types import (
    BOOL,
    CHAR,
    F32,
    F64,
    S8,
    S16,
    S32,
    S64,
    STRING,
    U8,
    U16,
    U32,
    U64,
    Borrow,
    Case,
    CoreFuncType,
    Enum,
    Field,
    Flags,
    FuncType,
    FutureOf,
    ListOf,
    MapOf,
    OptionOf,
    Own,
    Primitive,
    Record,
    ResourceType,
    ResultOf,
    StreamOf,
    TupleOf,
    ValueType,
    Variant,
    lifted_core_type,
    lowered_core_type,
    text,
)
from tests.component.verdicts import wasmtime_says

THING = ResourceType("")

PRIMITIVES = (BOOL, S8, U8, S16, U16, S32, U32, S64, U64, F32, F64, CHAR, STRING)


def labels(most: int) -> st.SearchStrategy[tuple[str, ...]]:
    return st.integers(1, most).map(lambda count: tuple(f"n{number}" for number in range(count)))


def members(types: st.SearchStrategy[ValueType]) -> st.SearchStrategy[list[tuple[str, ValueType]]]:
    return st.lists(types, min_size=1, max_size=6).map(lambda all_: [(f"m{at}", each) for at, each in enumerate(all_)])


def compound(types: st.SearchStrategy[ValueType]) -> st.SearchStrategy[ValueType]:
    """A type made of others, which may be borrowed handles."""
    return st.one_of(
        types.map(ListOf),
        types.map(OptionOf),
        st.builds(ResultOf, st.none() | types, st.none() | types),
        st.lists(types, min_size=1, max_size=5).map(lambda items: TupleOf(tuple(items))),
        members(types).map(lambda fields: Record(tuple(Field(*each) for each in fields))),
        members(types | st.none()).map(lambda cases: Variant(tuple(Case(*each) for each in cases))),
        st.builds(MapOf, st.sampled_from((BOOL, U8, S64, CHAR, STRING)), types),
    )


def streams(types: st.SearchStrategy[ValueType]) -> st.SearchStrategy[ValueType]:
    carried = st.none() | types.filter(lambda type_: type_ != CHAR)
    return st.one_of(carried.map(StreamOf), carried.map(FutureOf))


SIMPLE = st.one_of(
    st.sampled_from(PRIMITIVES),
    labels(300).map(Enum),
    labels(32).map(Flags),
    st.just(Own(THING)),
)
RESULTS = st.recursive(SIMPLE, lambda types: compound(types) | streams(types), max_leaves=12)
PARAMS = RESULTS | st.recursive(SIMPLE | st.just(Borrow(THING)), compound, max_leaves=6)
FUNCTIONS = st.builds(
    lambda params, result, is_async: FuncType(
        tuple(Field(f"p{at}", each) for at, each in enumerate(params)), result, is_async
    ),
    st.lists(PARAMS, max_size=6),
    st.none() | RESULTS,
    st.booleans(),
)


class _Definitions:
    """Types as definitions in the text format, innermost first."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def of(self, type_: ValueType) -> str:
        """What a type is called."""
        if isinstance(type_, Primitive):
            return type_.name
        definition = self._definition(type_)
        self.lines.append(f"(type $t{len(self.lines)} {definition})")
        return f"$t{len(self.lines) - 1}"

    def _definition(self, type_: ValueType) -> str:
        match type_:
            case Own() | Borrow():
                return f"({'own' if isinstance(type_, Own) else 'borrow'} $thing)"
            case Enum() | Flags():
                names = " ".join(f'"{name}"' for name in type_.names)
                return f"({'enum' if isinstance(type_, Enum) else 'flags'} {names})"
            case Record():
                return f"(record {' '.join(map(self._field, type_.fields))})"
            case Variant():
                return f"(variant {' '.join(map(self._case, type_.cases))})"
            case ResultOf():
                error = f" (error {self.of(type_.err)})" if type_.err is not None else ""
                return f"(result {self.of(type_.ok) if type_.ok is not None else ''}{error})"
        word = {ListOf: "list", OptionOf: "option", TupleOf: "tuple", MapOf: "map", StreamOf: "stream"}
        return f"({word.get(type(type_), 'future')} {' '.join(self._all(type_.parts()))})"

    def _field(self, field: Field) -> str:
        return f'(field "{field.name}" {self.of(field.type)})'

    def _case(self, case: Case) -> str:
        return f'(case "{case.name}"{"" if case.type is None else " " + self.of(case.type)})'

    def _all(self, types: Iterable[ValueType]) -> list[str]:
        return [self.of(each) for each in types]


def signature(type_: CoreFuncType) -> str:
    return f"(param {' '.join(type_.params)}) (result {' '.join(type_.results)})"


def source(type_: FuncType, is_async: bool) -> str:
    """A component that lifts a core function to a function of this type, and lowers that for a core module."""
    definitions = _Definitions()
    params = " ".join(f'(param "{each.name}" {definitions.of(each.type)})' for each in type_.params)
    result = "" if type_.result is None else f"(result {definitions.of(type_.result)})"
    options = "(memory $memory) (realloc $realloc)" + is_async * " async"
    return f"""(component
      (core module $m
        (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
        (func (export "callback") (param i32 i32 i32) (result i32) unreachable)
        (func (export "f") {signature(lifted_core_type(type_, is_async, is_async))} unreachable))
      (core instance $i (instantiate $m))
      (alias core export $i "memory" (core memory $memory))
      (alias core export $i "realloc" (core func $realloc))
      (alias core export $i "callback" (core func $callback))
      (type $thing (resource (rep i32)))
      {" ".join(definitions.lines)}
      (func $f {"async " * type_.is_async}{params} {result}
        (canon lift (core func $i "f") {options} {is_async * "(callback $callback)"}))
      (core func $lowered (canon lower (func $f) {options}))
      (core module $user (import "host" "f" (func {signature(lowered_core_type(type_, is_async))})))
      (core instance (instantiate $user (with "host" (instance (export "f" (func $lowered)))))))"""


@given(FUNCTIONS, st.booleans())
@settings(max_examples=150, deadline=None)
def test_core_functions_have_the_types_that_wasmtime_works_out(type_: FuncType, is_async: bool) -> None:
    wasm = bytes(wasmtime.wat2wasm(source(type_, is_async and type_.is_async)))
    assert wasmtime_says(wasm) is None
    (imported,) = binary.read(wasm).core_instances[1].imports
    assert isinstance(imported.source, Lower)
    assert text(imported.source.function.type) == text(type_)


@given(FUNCTIONS, st.sampled_from(("(memory $memory)", "(realloc $realloc)", "(memory $memory) (realloc $realloc)")))
@settings(max_examples=100, deadline=None)
def test_the_options_that_a_function_needs_are_those_that_wasmtime_asks_for(type_: FuncType, left_out: str) -> None:
    wasm = bytes(wasmtime.wat2wasm(source(type_, False).replace(left_out, "")))
    try:
        binary.read(wasm)
    except binary.InvalidComponent:
        assert wasmtime_says(wasm) is not None
    else:
        assert wasmtime_says(wasm) is None
