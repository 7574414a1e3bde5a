"""The measurements run, and say what they measured."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.document import PERFORMANCE, fill, save
from bench.http import ROWS, SECTIONS, _below, _ticks, cpu_seconds, plots
from bench.memory import STEP, Reading, anonymous, growth
from bench.processes import free_port, server, wrk
from bench.profile import FAULT, HTTP, OF_NOW, SUM, WHOLE, Parts, hot_path, profile_table
from bench.profile import measure as profile
from bench.profile import plot as profile_plot
from bench.table import Row
from slight_py import slots
from tests.command import wait_until
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


def test_what_an_instance_of_a_component_takes_is_measured() -> None:
    assert example("component-hello-c").is_file()
    text = measure("bench.components", "instances", "--rounds", "1")
    assert re.search(r"^\| an instance of hello \| [\d.]+ µs \|", text, re.MULTILINE)


# Processor time, memory, tables and plots.


def test_processor_time_is_found_whatever_the_program_is_called() -> None:
    fields = ["S", "1", *["0"] * 9, "150", "25", "7", "9"]
    assert _ticks(f"12 (a ) b (c) {' '.join(fields)}") == 175


def test_the_processor_time_of_workers_counts_for_their_server() -> None:
    code = "while True: pass"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    with subprocess.Popen([sys.executable, "-c", parent]) as process:
        try:
            wait_until(lambda: bool(_below(process.pid)) and cpu_seconds(process.pid) > 0.3, "the child's time")
        finally:
            for child in _below(process.pid):
                os.kill(child, signal.SIGKILL)


SMAPS = """\
1000-3000 rw-p 00000000 00:00 0
Rss:                  64 kB
Anonymous:            12 kB
10000-20000 rw-p 00000000 00:01 7                          /memfd:wasm-memory-image (deleted)
Anonymous:             8 kB
VmFlags: rd wr mr mw me ac
20000-30000 ---p 00000000 00:00 0
Anonymous:             0 kB
ff000-fff00 rw-p 00000000 00:00 0                          [heap]
Anonymous:             4 kB
"""


def test_pages_in_a_guest_s_memory_are_told_from_others() -> None:
    assert anonymous(SMAPS.splitlines(True), []) == (24, 0)
    assert anonymous(SMAPS.splitlines(True), [range(0x10000, 0x30000)]) == (24, 8)
    assert anonymous(SMAPS.splitlines(True), [range(0x1000, 0x2000), range(0xFF000, 0xFF001)]) == (24, 16)


def test_memory_is_what_an_instance_adds_after_the_first_step() -> None:
    readings = [Reading(100 + ours, 10 * n, n, n) for n, ours in enumerate((0, 5000, 5400, 5800, 9000, 9400))]
    assert growth(readings) == {"ours": 400 / STEP, "guests": 10 / STEP, "page_tables": 1 / STEP, "blocks": 1 / STEP}


def test_a_busy_instance_takes_memory_of_its_own_and_of_ours() -> None:
    assert example("http-server-demo-rust").is_file()
    busy, idle = (json.loads(measure("bench.memory", kind)) for kind in ("busy", "idle"))
    assert busy["guests"] > idle["guests"]
    assert busy["ours"] > idle["ours"] > 0
    assert busy["ours"] + busy["page_tables"] < 64


DOCUMENT = "a\n<!-- table: one -->\nold\n<!-- end -->\nb\n<!-- table: two -->\n<!-- end -->\n"


def test_a_table_goes_between_its_marks() -> None:
    filled = fill(fill(DOCUMENT, "two", r"| \1 |"), "one", "new")
    assert filled == "a\n<!-- table: one -->\nnew\n<!-- end -->\nb\n<!-- table: two -->\n| \\1 |\n<!-- end -->\n"


def test_a_table_without_a_place_is_refused() -> None:
    with pytest.raises(ValueError, match="three"):
        fill(DOCUMENT, "three", "new")


def test_the_document_has_a_place_for_every_table(tmp_path: Path) -> None:
    copy = tmp_path / PERFORMANCE.name
    copy.write_text(PERFORMANCE.read_text())
    tables = {name: f"| {name} |" for name in (*SECTIONS, "machine", "profile")}
    save("numbers", {"a": 1}, {"plot.svg": "<svg/>"}, tables, copy)
    assert all(table in copy.read_text() for table in tables.values())
    assert json.loads((tmp_path / "numbers.json").read_text()) == {"a": 1}
    assert (tmp_path / "plot.svg").read_text() == "<svg/>"


def test_every_section_has_its_rows() -> None:
    assert [row for section in SECTIONS.values() for row in section.rows] == list(ROWS)


def test_the_document_shows_the_plots_that_are_written() -> None:
    written = plots({name: [] for name in SECTIONS}).keys() | {"performance-profile.svg"}
    assert set(re.findall(r"\]\(([\w-]+\.svg)\)", PERFORMANCE.read_text())) == written


def test_rows_are_plotted_beside_what_they_are_compared_with() -> None:
    rows = [Row("hello", "requests/s", 600, 1000), Row("hello, p99 latency", "ms", 3, 2)]
    found = plots({"http": rows, "workers": [], "start": [Row("cold start", "ms", 250)], "instances": []})
    http = found["performance-http.svg"]
    assert http.index(">hello<") < http.index(">600 (0.60 ×)<") < http.index(">bare aiohttp<") < http.index(">1,000<")
    assert "p99" in http
    assert "cold start" in found["performance-start.svg"]


FORMS = {
    "before": {HTTP: 20.0, "the call": 8.0, WHOLE: 40.0, FAULT: 1.0},
    "now": {HTTP: 20.0, "the call": 4.0, WHOLE: 30.0, FAULT: 1.0},
    "now, at best": {"the call": 3.5},
}


def test_the_profile_has_the_sum_of_its_parts_beside_the_whole() -> None:
    lines = profile_table(FORMS).splitlines()
    assert lines[0] == "| µs | before | now | now, at best |"
    assert "| the call | 8.0 | 4.0 | 3.5 |" in lines
    assert lines[-3:-1] == [f"| {SUM} | 28.0 | 24.0 |  |", f"| {WHOLE} | 40.0 | 30.0 |  |"]


def test_the_profile_tells_the_least_of_the_rounds() -> None:
    def round_of(a: float, b: float) -> tuple[Parts, dict[str, Parts]]:
        return {"a": a, "b": b}, {kind: {"a": a / 2} for kind in OF_NOW.values()}

    rounds = iter([round_of(2, 1), round_of(1.5, 4)])
    found = profile({"now": lambda: next(rounds)}, 2)
    assert found == {"now": {"a": 1.5, "b": 1.0}} | {column: {"a": 0.75} for column in OF_NOW}


def test_steps_are_plotted_beside_what_they_took_before() -> None:
    written = profile_plot(FORMS)
    assert "8.00" in written
    assert written.count(">before<") == 3
    assert "page fault" not in written


def test_every_step_of_a_hello_is_timed(tmp_path: Path) -> None:
    guest = str(example("http-server-demo-rust"))
    output = tmp_path / "steps.json"
    command = [sys.executable, "-P", *hot_path("loop", guest, str(output))]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, timeout=120)
    found = json.loads(output.read_text())
    assert all(0 < found["least"][name] <= value for name, value in found["median"].items())
    # Pages stay with the slot of a memory: see slight_py/slots.py.
    assert (found["faults"]["lowering: the guest allocates"] == 0) == slots.available
    port = free_port()
    with server(["-P", *hot_path("serve", guest, str(port), str(output))], port, {"PYTHONPATH": str(ROOT)}):
        wrk(port, "/hello", 1)
    served = json.loads(output.read_text())
    assert served.keys() == found["median"].keys()
    assert all(value > 0 for value in served.values())
