"""Writes tables into the documents, between markers: no number in them is typed by hand."""

from __future__ import annotations

import json
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.processes import ROOT
from bench.table import matrix

PERFORMANCE = ROOT / "docs/performance.md"


def fill(text: str, name: str, content: str) -> str:
    """The text with `content` between `<!-- table: NAME -->` and the next `<!-- end -->`.

    Raises ValueError where it has no such place.
    """
    place = re.compile(rf"(<!-- table: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    filled, count = place.subn(lambda found: f"{found[1]}{content}\n{found[2]}", text)
    if count != 1:
        raise ValueError(f"there are {count} places for the table {name}, in place of one")
    return filled


def save(name: str, numbers: Any, plots: dict[str, str], tables: dict[str, str], document: Path = PERFORMANCE) -> None:
    """Keeps NAME.json and the plots, SVG by their file's name, beside the document, and fills its tables."""
    text = document.read_text()
    for place, content in tables.items():
        text = fill(text, place, content)
    document.write_text(text)
    written = {f"{name}.json": json.dumps(numbers, indent=1) + "\n"} | plots
    for file, content in written.items():
        (document.parent / file).write_text(content)
    print(f"\nsaved: {', '.join(str(document.parent / file) for file in (document.name, *written))}")


def machine() -> dict[str, str]:
    """What was measured on."""
    model = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "processor": f"{model[1] if model else platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "system": f"Linux {platform.release()}",
        "Python": platform.python_version(),
        **{package: version(package) for package in ("wasmtime", "aiohttp", "uvloop", "redis")},
    }


def machine_table(found: dict[str, str]) -> str:
    return matrix("measured on", [""], [(name, [value]) for name, value in found.items()]).replace("--:", "---")
