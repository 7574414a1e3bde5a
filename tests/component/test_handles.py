"""The handle table, held against a model: a dictionary, and the rule that the last index given back comes first."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, precondition, rule

from bindgen.runtime import GuestFault
from slight_py.component.handles import BorrowScope, HandleTable, Resource, key_of
from slight_py.component.types import ResourceType

KEYS = ("wasi:io/streams/input-stream", "waitable set", ResourceType("thing", "a:b/c", 0))
"""A resource of the host, something that is no resource, and a resource of a component."""


class TableMachine(RuleBasedStateMachine):
    """Adds, takes, lends, borrows and drops handles at random, in the table and in the model."""

    indices = Bundle("indices")

    def __init__(self) -> None:
        super().__init__()
        self.table = HandleTable()
        self.model: dict[int, tuple[object, object]] = {}
        self.free: list[int] = []
        self.top = 1
        self.calls: list[list[int]] = []
        self.scopes: dict[int, BorrowScope] = {}

    def expected_index(self) -> int:
        if self.free:
            return self.free.pop()
        self.top += 1
        return self.top - 1

    def forget(self, index: int) -> None:
        del self.model[index]
        self.scopes.pop(index, None)
        self.free.append(index)

    def lent(self, index: int) -> bool:
        return any(index in call for call in self.calls)

    @rule(target=indices, key=st.sampled_from(KEYS))
    def add(self, key: Any) -> Any:
        value = object()
        index = self.table.add(key, value, "test")
        assert index == self.expected_index()
        self.model[index] = key, value
        return index

    @rule(target=indices, key=st.sampled_from(KEYS), again=st.booleans())
    def add_borrow(self, key: Any, again: Any) -> Any:
        scope = next(iter(self.scopes.values())) if again and self.scopes else BorrowScope()
        value = object()
        index = self.table.add_borrow(key, value, scope, "test")
        assert index == self.expected_index()
        self.model[index] = key, value
        self.scopes[index] = scope
        return index

    @rule(index=indices | st.integers(0, 40), key=st.sampled_from(KEYS))
    def get(self, index: Any, key: Any) -> None:
        if self.model.get(index, (None,))[0] is key:
            assert self.table.get(key, index, "test") is self.model[index][1]
        else:
            with pytest.raises(GuestFault, match=rf"^test: .*handle {index}\b"):
                self.table.get(key, index, "test")

    @rule(target=indices, index=consumes(indices) | st.integers(0, 40), key=st.sampled_from(KEYS))
    def take(self, index: Any, key: Any) -> Any:
        right = self.model.get(index, (None,))[0] is key
        if right and not self.lent(index) and index not in self.scopes:
            assert self.table.take(key, index, "test") is self.model[index][1]
            self.forget(index)
            return multiple()
        with pytest.raises(GuestFault, match=rf"^test: .*handle {index}\b"):
            self.table.take(key, index, "test")
        return index

    @rule(target=indices, index=consumes(indices) | st.integers(0, 40), key=st.sampled_from(KEYS))
    def drop(self, index: Any, key: Any) -> Any:
        if self.model.get(index, (None,))[0] is key and not self.lent(index):
            scope, value = self.scopes.get(index), self.model[index][1]
            assert self.table.drop(key, index, "test") is (None if scope else value)
            self.forget(index)
            return multiple()
        with pytest.raises(GuestFault, match=rf"^test: .*handle {index}\b"):
            self.table.drop(key, index, "test")
        return index

    @rule(index=indices, key=st.sampled_from(KEYS), again=st.booleans())
    def lend(self, index: Any, key: Any, again: Any) -> None:
        if not again or not self.calls:
            self.calls.append([])
        if self.model.get(index, (None,))[0] is key:
            assert self.table.lend(key, index, "test") is self.model[index][1]
            self.calls[-1].append(index)
        else:
            with pytest.raises(GuestFault):
                self.table.lend(key, index, "test")

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def give_back(self, data: Any) -> None:
        for index in self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1))):
            self.table.give_back(index)

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.table) == len(self.model)
        for scope in self.scopes.values():
            assert scope.borrows == sum(other is scope for other in self.scopes.values())


TestTable = TableMachine.TestCase
TestTable.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


class Closing:
    """An object of the host that counts how often it is dropped."""

    def __init__(self, fails: bool = False) -> None:
        self.drops = 0
        self.fails = fails

    def on_drop(self) -> None:
        self.drops += 1
        if self.fails:
            raise OSError("can't be closed")


def test_index_0_is_never_given_out_nor_accepted() -> None:
    table = HandleTable()
    assert table.add("a", object()) == 1
    with pytest.raises(GuestFault, match="there is no handle 0"):
        table.get("a", 0)


def test_an_instance_holds_so_many_handles_at_most() -> None:
    table = HandleTable()
    for _ in range(HandleTable.LIMIT):
        last = table.add("a", object())
    with pytest.raises(GuestFault, match=f"^send: request: the guest holds {HandleTable.LIMIT} handles"):
        table.add("a", object(), "send: request")
    table.take("a", last)
    assert table.add("a", object()) == last


def test_the_message_says_which_handle_is_of_what() -> None:
    table = HandleTable()
    index = table.add("wasi:io/poll/pollable", object())
    with pytest.raises(
        GuestFault, match=r"^read: self: handle 1 is of wasi:io/poll/pollable, not of wasi:io/streams/input-stream$"
    ):
        table.get("wasi:io/streams/input-stream", index, "read: self")


def test_the_end_of_an_instance_drops_what_it_owned_and_not_what_it_was_lent() -> None:
    table = HandleTable()
    owned, failing, lent, taken = Closing(), Closing(fails=True), Closing(), Closing()
    table.add("a", failing)
    table.add("a", owned)
    table.add_borrow("a", lent, BorrowScope())
    table.take("a", table.add("a", taken))
    table.close()
    table.close()
    assert (owned.drops, failing.drops, lent.drops, taken.drops) == (1, 1, 0, 0)
    assert len(table) == 0


def test_resources_of_two_components_that_look_alike_are_not_mistaken() -> None:
    mine, theirs = ResourceType("thing", "a:b/c", 0), ResourceType("thing", "a:b/c", 1)
    assert key_of(mine) != key_of(theirs)
    table = HandleTable()
    index = table.add(key_of(mine), Resource(mine, 7))
    with pytest.raises(GuestFault):
        table.get(key_of(theirs), index)


def test_resources_of_the_host_are_the_same_whoever_names_them() -> None:
    assert key_of(ResourceType("thing", "a:b/c")) == key_of(ResourceType("thing", "a:b/c")) == "a:b/c/thing"


def test_a_resource_is_destroyed_once() -> None:
    destroyed = []

    async def destructor(rep: Any) -> None:
        destroyed.append(rep)

    async def drop_twice(resource: Any) -> None:
        await resource.drop()
        await resource.drop()

    asyncio.run(drop_twice(Resource(ResourceType("thing", "a:b/c", 0), 7, destructor)))
    assert destroyed == [7]
