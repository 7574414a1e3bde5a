"""Values of a WIT type, as the Python host bindings have them, for hypothesis."""

from __future__ import annotations

import math
import struct
from collections.abc import Awaitable, Callable, Mapping
from types import ModuleType
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from bindgen.backends.python_names import declared
from bindgen.runtime import Err, Ok, Some
from bindgen.wit_parser.model import (
    Enum,
    ExpectedOf,
    Flags,
    Interface,
    ListOf,
    OptionOf,
    Primitive,
    Record,
    Resource,
    TupleOf,
    Type,
    TypeDef,
    Union,
    Variant,
    unaliased,
)

_BITS = {
    Primitive.U8: (0, 8),
    Primitive.U16: (0, 16),
    Primitive.U32: (0, 32),
    Primitive.U64: (0, 64),
    Primitive.S8: (1, 8),
    Primitive.S16: (1, 16),
    Primitive.S32: (1, 32),
    Primitive.S64: (1, 64),
}


class HostResource:
    """A resource of the host, which is only itself. Its methods answer with their arguments, and are noted."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Awaitable[tuple[Any, ...]]]:
        if name.startswith("__"):
            raise AttributeError(name)

        async def answer(*arguments: Any) -> tuple[Any, ...]:
            self.called.append(name)
            return arguments

        return answer


def values(type_: Type, modules: Mapping[Interface, ModuleType]) -> SearchStrategy[Any]:
    """Values of a type; `modules` are the generated modules."""
    real = unaliased(type_)
    match real:
        case Primitive.BOOL:
            return st.booleans()
        case Primitive.UNIT:
            return st.none()
        case Primitive.CHAR:
            return st.characters(exclude_categories=["Cs"])
        case Primitive.STRING:
            return st.text(max_size=20)
        case Primitive.FLOAT32:
            return st.floats(width=32)
        case Primitive.FLOAT64:
            return st.floats()
        case Primitive():
            signed, bits = _BITS[real]
            low = -(1 << (bits - 1)) if signed else 0
            high = (1 << (bits - signed)) - 1
            return st.one_of(st.sampled_from([low, high, 0]), st.integers(low, high))
        case ListOf(element):
            if unaliased(element) is Primitive.U8:
                return st.binary(max_size=40)
            return st.lists(values(element, modules), max_size=5)
        case TupleOf(items):
            return st.tuples(*(values(item, modules) for item in items))
        case OptionOf(value):
            inner = unaliased(value)
            some = values(value, modules)
            if inner is Primitive.UNIT or isinstance(inner, OptionOf):
                return st.none() | some.map(Some)
            return st.none() | some
        case ExpectedOf(ok, err):
            return values(ok, modules).map(Ok) | values(err, modules).map(Err)
        case Resource():
            return st.builds(HostResource)
    assert isinstance(real, TypeDef)
    module = modules[real.interface]
    names = declared(real.interface)
    match real.kind:
        case Record(fields):
            parts = st.tuples(*(values(field.type, modules) for field in fields))
            return parts.map(lambda items: getattr(module, names[real])(*items))
        case Flags(labels):
            return st.integers(0, (1 << len(labels)) - 1).map(getattr(module, names[real]))
        case Enum(labels):
            return st.integers(0, len(labels) - 1).map(getattr(module, names[real]))
        case Variant(cases) | Union(cases):
            classes = [getattr(module, names[real, number]) for number in range(len(cases))]
            payloads = [_payload(case.type, modules) for case in cases]
            return st.one_of(*(st.builds(each, *payload) for each, payload in zip(classes, payloads, strict=True)))
    raise AssertionError(f"no values for {real}")


def _payload(type_: Type | None, modules: Mapping[Interface, ModuleType]) -> list[SearchStrategy[Any]]:
    return [] if type_ is None or unaliased(type_) is Primitive.UNIT else [values(type_, modules)]


def some(strategy: st.SearchStrategy[Any], count: int, use: Callable[[Any], None]) -> None:
    """Calls `use` with a few examples, always the same."""

    @settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def call(example: Any) -> None:
        use(example)

    call()


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same. A float is only the same as one with the same bits, so NaN is itself."""
    if isinstance(one, float) and isinstance(other, float):
        if math.isnan(one) and math.isnan(other):
            return struct.pack("<d", one) == struct.pack("<d", other)
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Err):
        return same(one.value, other.value)
    if hasattr(one, "__dataclass_fields__"):
        return all(same(getattr(one, name), getattr(other, name)) for name in one.__dataclass_fields__)
    return bool(one == other)
