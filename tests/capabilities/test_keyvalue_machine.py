"""What every key/value backend does alike, as a guest in a native machine sees it: the tests of
test_keyvalue_contract.py, through a guest that QEMU boots for each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from capabilities.keyvalue.host import KeyvalueStores
from tests.capabilities.test_keyvalue_contract import (
    Scenario,
    Stores,
    test_a_cancelled_call_leaves_the_others_their_answers,
    test_a_deleted_key_is_gone,
    test_a_key_may_repeat_the_name_of_its_store,
    test_a_key_past_the_limit_is_invalid,
    test_a_missing_key_is_key_not_found,
    test_a_store_that_is_opened_twice_is_one_store,
    test_a_thousand_gets_at_once_are_all_answered,
    test_a_value_comes_back_byte_for_byte,
    test_a_value_past_the_limit_is_invalid,
    test_an_empty_store_lists_no_keys,
    test_an_empty_value_is_a_value_and_no_missing_key,
    test_any_text_is_a_key_of_its_own,
    test_keys_are_listed_exactly_when_they_are_many,
    test_of_many_deletes_at_once_one_finds_the_key,
    test_set_replaces_the_whole_value,
    test_stores_of_other_names_see_nothing_of_each_other,
    test_the_longest_value_is_kept,
)
from tests.keyvalue_subjects import MACHINE, Subject

__all__ = [
    "test_a_cancelled_call_leaves_the_others_their_answers",
    "test_a_deleted_key_is_gone",
    "test_a_key_may_repeat_the_name_of_its_store",
    "test_a_key_past_the_limit_is_invalid",
    "test_a_missing_key_is_key_not_found",
    "test_a_store_that_is_opened_twice_is_one_store",
    "test_a_thousand_gets_at_once_are_all_answered",
    "test_a_value_comes_back_byte_for_byte",
    "test_a_value_past_the_limit_is_invalid",
    "test_an_empty_store_lists_no_keys",
    "test_an_empty_value_is_a_value_and_no_missing_key",
    "test_any_text_is_a_key_of_its_own",
    "test_keys_are_listed_exactly_when_they_are_many",
    "test_of_many_deletes_at_once_one_finds_the_key",
    "test_set_replaces_the_whole_value",
    "test_stores_of_other_names_see_nothing_of_each_other",
    "test_the_longest_value_is_kept",
]


@pytest.fixture(params=MACHINE)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(subject: Subject) -> Callable[[Scenario], None]:
    """Runs a scenario against the stores of a machine."""

    async def main(scenario: Scenario) -> None:
        async with subject.make() as opened:
            stores = KeyvalueStores({"*": opened})
            await scenario(Stores(subject, stores.keyvalue_open, described=False))

    return lambda scenario: asyncio.run(main(scenario))
