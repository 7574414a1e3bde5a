"""Types of the component model and values of theirs, drawn at random, and a memory to keep them in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from bindgen.runtime import Err, Ok, Some
from slight_py.component import types as t
from slight_py.component.handles import HandleTable
from slight_py.component.plan import Encoding

HOST_RESOURCE = t.ResourceType("input-stream", "wasi:io/streams")

NUMBERS = (t.S8, t.U8, t.S16, t.U16, t.S32, t.U32, t.S64, t.U64)
labels = st.lists(st.from_regex(r"[a-z][a-z0-9]{0,4}", fullmatch=True), min_size=1, max_size=40, unique=True)


def _cases(types: st.SearchStrategy[t.ValueType]) -> st.SearchStrategy[tuple[t.Case, ...]]:
    payloads = st.none() | types
    return labels.flatmap(
        lambda names: st.tuples(*[payloads] * len(names)).map(
            lambda drawn: tuple(t.Case(name, each) for name, each in zip(names, drawn, strict=True))
        )
    )


def _fields(types: st.SearchStrategy[t.ValueType]) -> st.SearchStrategy[tuple[t.Field, ...]]:
    return st.lists(types, min_size=1, max_size=5).map(
        lambda drawn: tuple(t.Field(f"f{number}", each) for number, each in enumerate(drawn))
    )


def _compound(types: st.SearchStrategy[t.ValueType]) -> st.SearchStrategy[t.ValueType]:
    return st.one_of(
        types.map(t.ListOf),
        st.builds(t.MapOf, st.sampled_from([t.STRING, t.U32]), types),
        st.builds(t.FixedListOf, types, st.integers(1, 4)),
        st.lists(types, min_size=1, max_size=5).map(lambda items: t.TupleOf(tuple(items))),
        _fields(types).map(t.Record),
        _cases(types).map(t.Variant),
        types.map(t.OptionOf),
        st.builds(t.ResultOf, st.none() | types, st.none() | types),
    )


plain_types = st.one_of(
    st.sampled_from([*NUMBERS, t.BOOL, t.F32, t.F64, t.CHAR, t.STRING]),
    labels.map(lambda names: t.Enum(tuple(names))),
    labels.map(lambda names: t.Flags(tuple(names[:32]))),
)
types = st.recursive(plain_types | st.just(t.Own(HOST_RESOURCE)), _compound, max_leaves=8)
"""Any type but borrows, streams, futures and error contexts."""

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


class HostObject:
    """What stands behind a handle."""


def values(type_: t.ValueType) -> st.SearchStrategy[Any]:
    """Values as they are had back when they were lowered and lifted."""
    match type_:
        case t.Primitive(name="bool"):
            return st.booleans()
        case t.Primitive(name="f32" | "f64"):
            return st.floats(width=32 if type_ is t.F32 else 64)
        case t.Primitive(name="char"):
            return st.characters(exclude_categories=["Cs"])
        case t.Primitive(name="string"):
            return _texts
        case t.Primitive(name=name):
            bits = int(name[1:])
            return (
                st.integers(0, (1 << bits) - 1)
                if name[0] == "u"
                else st.integers(-(1 << bits - 1), (1 << bits - 1) - 1)
            )
        case t.ListOf():
            if type_.element is t.U8:
                return st.binary(max_size=20)
            return st.lists(values(type_.element), max_size=4)
        case t.MapOf():
            return st.lists(st.tuples(values(type_.key), values(type_.value)), max_size=4)
        case t.FixedListOf():
            size = type_.length
            if type_.element is t.U8:
                return st.binary(min_size=size, max_size=size)
            return st.lists(values(type_.element), min_size=size, max_size=size)
        case t.TupleOf():
            return st.tuples(*map(values, type_.items))
        case t.Record():
            return st.fixed_dictionaries({field.name: values(field.type) for field in type_.fields})
        case t.Flags():
            return st.sets(st.sampled_from(type_.names)).map(frozenset)
        case t.Enum():
            return st.sampled_from(type_.names)
        case t.OptionOf():
            inner = values(type_.value)
            return st.none() | (inner.map(Some) if isinstance(type_.value, t.OptionOf) else inner)
        case t.ResultOf():
            sides = [st.none() if each is None else values(each) for each in (type_.ok, type_.err)]
            return sides[0].map(Ok) | sides[1].map(Err)
        case t.Variant():
            return st.sampled_from(type_.cases).flatmap(
                lambda case: st.tuples(st.just(case.name), st.none() if case.type is None else values(case.type))
            )
        case t.Own():
            return st.builds(HostObject)
    raise TypeError(type_)


typed_values = types.flatmap(lambda type_: st.tuples(st.just(type_), values(type_)))


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same. NaNs are, and errors are compared by what they carry."""
    if isinstance(one, float):
        return isinstance(other, float) and (one == other or (math.isnan(one) and math.isnan(other)))
    if isinstance(one, Ok | Err | Some):
        return type(one) is type(other) and same(one.value, other.value)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


class FakeSpace:
    """A guest that is a memory alone: it allocates blocks one behind the other, with room between them."""

    instance = 0

    def __init__(self, size: int = 1 << 20, encoding: Encoding = "utf8") -> None:
        self._bytes = bytearray(size)
        self.handles = HandleTable()
        self.encoding = encoding
        self.end = 8
        self.allocated: list[tuple[int, int]] = []
        """Where the blocks are, and their sizes."""

    @property
    def memory(self) -> memoryview:
        return memoryview(self._bytes)

    async def allocate(self, lower: Any) -> None:
        lower.place(self.place([(size, align) for size, align, _ in lower.blocks]))

    def place(self, blocks: Sequence[tuple[int, int]]) -> list[int]:
        pointers = []
        for size, alignment in blocks:
            pointers.append(t.align(self.end, alignment))
            self.allocated.append((pointers[-1], size))
            self.end = pointers[-1] + size + 3
        return pointers
