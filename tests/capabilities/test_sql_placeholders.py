"""Which placeholders a statement has."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities.sql import STATEMENT_LIMIT
from capabilities.sql.placeholders import numbered


@pytest.mark.parametrize(
    ("statement", "parameters", "expected"),
    [
        ("SELECT ?", 1, "SELECT $1"),
        ("SELECT ?, ?", 2, "SELECT $1, $2"),
        ("SELECT $2, $1", 2, "SELECT $2, $1"),
        ("SELECT '?', \"?\", ? -- ?", 1, "SELECT '?', \"?\", $1 -- ?"),
        ("SELECT /* ? /* ? */ ? */ ?", 1, "SELECT /* ? /* ? */ ? */ $1"),
        ("SELECT 'it''s ?', ?", 1, "SELECT 'it''s ?', $1"),
        (r"SELECT E'\'?', ?", 1, r"SELECT E'\'?', $1"),
        (r"SELECT '\', ?", 1, r"SELECT '\', $1"),
        ("SELECT $$ ? $$, $a$ ? $$ $a$, ?", 1, "SELECT $$ ? $$, $a$ ? $$ $a$, $1"),
        # An operator of PostgreSQL's, which has no parameter or stands beside numbers.
        ("SELECT a ? 'b'", 0, "SELECT a ? 'b'"),
        ("SELECT a ? $1", 1, "SELECT a ? $1"),
        ("SELECT a ? 'b', ?", 1, "SELECT a ? 'b', ?"),
        # What has no end is no statement, and stays what it is.
        ("SELECT ? 'a", 1, "SELECT ? 'a"),
        ("SELECT ? /* a", 1, "SELECT ? /* a"),
        ("SELECT ? $a$ b", 1, "SELECT ? $a$ b"),
        ("SELECT a$1, ?", 1, "SELECT a$1, $1"),
        ("", 0, ""),
    ],
)
def test_placeholders_are_told_from_operators_texts_and_comments(
    statement: str, parameters: int, expected: str
) -> None:
    assert numbered(statement, parameters) == expected


def test_placeholders_are_written_for_sqlite() -> None:
    assert numbered("SELECT $2, '$1', $1", 2, "?{}") == "SELECT ?2, '$1', ?1"
    assert numbered("SELECT ?, ?", 2, "?{}") == "SELECT ?1, ?2"


@given(st.text(), st.text())
def test_nothing_in_a_text_is_a_placeholder(text: str, name: str) -> None:
    quoted = "'{}' AS \"{}\"".format(text.replace("'", "''"), name.replace('"', '""'))
    assert numbered(f"SELECT {quoted}, ?", 1) == f"SELECT {quoted}, $1"


@pytest.mark.parametrize("part", ["'", '"', "/*", "$a$", "E'\\'", "$$", "?", "$1", "--", "*/", "$a", "$a1$ $b1$ "])
def test_a_long_statement_takes_no_time(part: str) -> None:
    began = time.monotonic()
    numbered(part * (STATEMENT_LIMIT // len(part)), 1)
    assert time.monotonic() - began < 2
