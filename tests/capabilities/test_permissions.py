"""What a slightfile allows a module."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities import notices
from capabilities.permissions import NotAllowed, Permissions, Rule, allowed, matches

TEXT = st.text("ab*.é", max_size=8)


@given(TEXT, TEXT)
def test_a_star_is_any_text_and_nothing_else_is_special(pattern: str, name: str) -> None:
    expected = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
    assert matches(pattern, name) == (expected.fullmatch(name) is not None)


@pytest.mark.parametrize(
    ("pattern", "name", "does"),
    [
        ("", "", True),
        ("", "a", False),
        ("*", "", True),
        ("*", "a\nb", True),
        ("orders.*", "orders.", True),
        ("orders.*", "orders", False),
        ("orders.*", "orders.new.urgent", True),
        ("orders.*", "Orders.new", False),
        ("a*a", "a", False),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("[ab]", "a", False),
        ("a?", "ab", False),
    ],
)
def test_patterns(pattern: str, name: str, does: bool) -> None:
    assert matches(pattern, name) == does


def test_a_long_topic_takes_no_long_time() -> None:
    began = time.monotonic()
    assert not matches("*a" * 50 + "b", "a" * 65_536)
    assert time.monotonic() - began < 1


RULES = (
    Rule(("a.wasm",), {"publish": ("orders.*",), "subscribe": ()}),
    Rule(("a.wasm", "b.wasm"), {"publish": (), "subscribe": ("news",)}),
    Rule((), {"publish": ("hello",), "subscribe": ()}),
)


def test_rules_add_up() -> None:
    assert allowed(RULES, "a.wasm") == {"publish": ("orders.*", "hello"), "subscribe": ("news",)}
    assert allowed(RULES, "b.wasm") == {"publish": ("hello",), "subscribe": ("news",)}
    assert allowed(RULES, "c.wasm") == {"publish": ("hello",), "subscribe": ()}


def test_without_rules_everything_is_allowed_and_with_any_nothing_else() -> None:
    Permissions("", "messaging", "a.wasm", ()).check("publish", "anything")
    mine = Permissions("", "messaging", "c.wasm", RULES[:1])
    for action in ("publish", "subscribe", "burn"):
        with pytest.raises(NotAllowed):
            mine.check(action, "orders.new")


def test_what_is_reached_besides_must_be_allowed_too() -> None:
    mine = Permissions("", "messaging", "a.wasm", (Rule((), {"subscribe": ("orders/*",)}),))
    mine.check("subscribe", "orders/#")
    with pytest.raises(NotAllowed):
        mine.check("subscribe", "orders/#", ["orders"])


def test_a_refusal_says_where_and_what_to_add(caplog: pytest.LogCaptureFixture) -> None:
    notices.forget()
    mine = Permissions("slightfile.toml:3: ", "messaging", 'a"b.wasm', RULES)
    for _ in range(3):
        with pytest.raises(NotAllowed, match=r"^the slightfile does not allow this module to publish 'a\\nb'$"):
            mine.check("publish", "a\nb")
    assert [record.getMessage() for record in caplog.records] == [
        "slightfile.toml:3: messaging: the module asked to publish 'a\\nb', which the slightfile does not allow it; "
        'add [[capability.allow]] with modules = ["a\\"b.wasm"] and publish = ["a\\nb"]'
    ]
