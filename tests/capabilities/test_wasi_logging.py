"""`wasi:logging`: what a component logs, in the log of slight-py."""

from __future__ import annotations

import asyncio
import logging

import pytest

from capabilities.bindings.wasi_logging_0_1_0_draft.logging import Level, LoggingHost
from capabilities.wasi.logging import CONTEXT_LIMIT, MESSAGE_LIMIT, Logging


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, logger="slight_py")
    return caplog


def log(level: Level, context: str, message: str) -> None:
    host: LoggingHost = Logging()
    asyncio.run(host.log(level, context, message))


def lines(told: pytest.LogCaptureFixture) -> list[str]:
    return [line for name, _, line in told.record_tuples if name == "slight_py"]


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (Level.TRACE, logging.DEBUG),
        (Level.DEBUG, logging.DEBUG),
        (Level.INFO, logging.INFO),
        (Level.WARN, logging.WARNING),
        (Level.ERROR, logging.ERROR),
        (Level.CRITICAL, logging.CRITICAL),
    ],
)
def test_a_message_has_its_level_and_its_context(level: Level, expected: int, told: pytest.LogCaptureFixture) -> None:
    log(level, "billing", "it is paid")
    ((name, number, line),) = (each for each in told.record_tuples if each[0] == "slight_py")
    assert (name, number) == ("slight_py", expected)
    assert line == f"guest {level.name.lower()}: billing: it is paid"


def test_no_context_leaves_nothing(told: pytest.LogCaptureFixture) -> None:
    log(Level.INFO, "", "100% done %s")
    assert lines(told) == ["guest info: 100% done %s"]


def test_a_message_is_one_line_whatever_is_in_it(told: pytest.LogCaptureFixture) -> None:
    log(Level.INFO, "a\nb", "one\r\nslight-py: two\x1b[31m\u2028\u202e")
    assert lines(told) == [r"guest info: a\nb: one\r\nslight-py: two\x1b[31m\u2028\u202e"]


def test_long_texts_are_cut(told: pytest.LogCaptureFixture) -> None:
    log(Level.INFO, "c" * 1_000_000, "m" * 1_000_000)
    assert lines(told) == [f"guest info: {'c' * CONTEXT_LIMIT}…: {'m' * MESSAGE_LIMIT}…"]
