"""The measurements run, and say what they measured."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.guests import example

ROOT = Path(__file__).resolve().parent.parent


def measure(*arguments: str) -> str:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120).stdout


def test_calls_are_compared_with_those_written_by_hand() -> None:
    text = measure("bench.calls", "--calls", "20")
    rows = re.findall(r"^\| (a .+?) \| [\d.]+ \| [\d.]+ \| [\d.]+ \|$", text, re.MULTILINE)
    assert rows == ["a string", "a record of ten fields", "a list of 1,000 strings"]
    assert re.search(r"bindings for all of wit/: \d+ ms", text)


def test_http_is_compared_with_bare_aiohttp() -> None:
    assert example("http-server-demo-rust").is_file()
    text = measure("bench.http", "--seconds", "1", "--rounds", "1", "memory")
    assert "| set on memory |" in text
    assert "| get on memory |" in text
