"""The options that bound a module: the same ones everywhere."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from capabilities.http.settings import HttpSettings
from slight_py import arguments, limits
from slight_py.compilation import CompileLimits
from slight_py.engine import Limits
from tests.command import ROOT


def parsed(*words: str) -> argparse.Namespace:
    parser = arguments.Parser()
    arguments.add_limits(parser)
    arguments.add_compilation(parser)
    return parser.parse_args(words)


def test_what_nobody_says_is_the_same_on_the_command_line_and_in_what_it_bounds() -> None:
    said = parsed()
    for option in (*limits.RUNNING, *limits.COMPILATION, limits.ACCESS_LOG):
        assert getattr(said, option.name) == option.default
    for option in limits.HTTP:
        assert getattr(HttpSettings(), option.name) == option.default
    assert Limits().memory == limits.MAX_MEMORY.default
    usual = CompileLimits()
    assert [usual.size, usual.seconds, usual.memory] == [option.default for option in limits.COMPILATION]


def test_help_says_what_an_option_is_unless_it_is_said() -> None:
    parser = argparse.ArgumentParser()
    arguments.add_limits(parser)
    arguments.add_compilation(parser)
    text = " ".join(parser.format_help().split())
    for words in (
        "--max-memory SIZE memory of an instance (256M)",
        "--max-concurrent N requests at once (1000)",
        "--request-timeout SECONDS time of a request (30)",
        "--compile-memory SIZE memory that it may take (2G)",
        "--access-log {plain,json}",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("option", "text", "value"),
    [
        (limits.MAX_BODY, "512K", 512 << 10),
        (limits.DRAIN_TIMEOUT, "0.5", 0.5),
        (limits.MAX_CONCURRENT, "10", 10),
        (limits.ACCESS_LOG, "json", "json"),
    ],
)
def test_a_value_is_read_by_the_kind_of_its_option(option: limits.Option, text: str, value: object) -> None:
    assert getattr(parsed(option.flag, text), option.name) == value


@pytest.mark.parametrize(("size", "text"), [(1 << 30, "1G"), (256 << 20, "256M"), (1536, "1536"), (3 << 10, "3K")])
def test_a_size_is_said_as_it_is_given(size: int, text: str) -> None:
    assert limits.size_text(size) == text
    assert arguments.size(text) == size


def test_a_machine_imports_them_without_what_is_slow_to_import() -> None:
    slow = {"asyncio", "dataclasses", "typing", "argparse", "enum"}
    code = f"import sys; sys.path.append({str(ROOT)!r}); import slight_py.limits; print({slow} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "set()\n"
