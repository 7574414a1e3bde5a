"""The layout of generated text."""

from __future__ import annotations

import ast

import pytest

from bindgen.backends.python_text import module_of, names_in
from bindgen.backends.text import LINE_LENGTH, folded, paragraphs, plus

LONG = "a_name_that_is_longer_than_others"


def items(count: int) -> str:
    return ", ".join(f"{LONG}_{number}" for number in range(count))


def test_a_line_that_fits_stays_as_it_is() -> None:
    line = f"f({'a' * (LINE_LENGTH - 3)})"
    assert folded(line) == [line]


def test_what_stands_in_brackets_has_a_line_of_its_own_or_one_for_each_item() -> None:
    assert folded(f"    {LONG} = {LONG}({items(2)})", ",") == [
        f"    {LONG} = {LONG}(",
        f"        {items(2)}",
        "    )",
    ]
    assert folded(f"    f({items(4)}) -> None:", ",") == [
        "    f(",
        *(f"        {LONG}_{number}," for number in range(4)),
        "    ) -> None:",
    ]
    assert folded(f"f({items(4)});")[-2:] == [f"    {LONG}_3", ");"]


@pytest.mark.parametrize(
    "line",
    [
        f"a = f(g({items(4)}), h({items(5)}), ())",
        f"a = ({'b' * 130},)",
        f"a = [({LONG}, {LONG}) for {LONG} in f({items(4)})]",
        f"a = f({LONG}[{LONG} : {LONG} + 4], {LONG}[{LONG} : {LONG} + 8], ())",
        f"a = f({'b' * 130})",
    ],
)
def test_a_folded_line_means_the_same(line: str) -> None:
    lines = folded(line, ",")
    assert len(lines) > 2
    assert ast.dump(ast.parse("\n".join(lines))) == ast.dump(ast.parse(line))


def test_a_line_without_brackets_is_left_alone() -> None:
    line = f"a = {'b' * 130}() + c()"
    assert folded(line) == [line]


def test_documentation_is_wrapped_and_keeps_its_lines() -> None:
    assert paragraphs("one two three\n\nfour", 8) == ["one two", "three", "", "four"]
    assert paragraphs("a-word-that-is-long", 8) == ["a-word-that-is-long"]


@pytest.mark.parametrize(("offset", "expected"), [(0, "at + 2"), (2, "at + 4"), (-2, "at")])
def test_an_address_behind_another_has_one_number(offset: int, expected: str) -> None:
    assert plus("at + 2", offset) == expected


def test_the_names_of_a_text_are_neither_attributes_nor_words_of_strings() -> None:
    lines = ['"""Any words', 'of documentation."""', 'a = lift.at + f("b", c.d)  # e', 'x = "Any"']
    assert names_in(lines) == {"a", "lift", "f", "c", "e", "x"}


def test_two_empty_lines_stand_around_what_is_defined() -> None:
    blocks = [["import a"], [], ["A = 1"], ["def f():", "    pass"], ["B = 2"], ["C = 3"]]
    assert module_of(blocks) == "import a\n\nA = 1\n\n\ndef f():\n    pass\n\n\nB = 2\n\nC = 3\n"


def test_documentation_is_not_folded() -> None:
    docs = ['"""', f"f({items(5)})", '"""']
    assert module_of([docs]).splitlines() == docs
