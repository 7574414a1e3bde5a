"""What the measurements are said with: tables, plots, and the machine that the others are compared with."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import machines
from bench.boots import FLOOR, time_rows
from bench.image import plot
from bench.images import archive, sizes_table
from bench.native import Compared, Target, comparison
from bench.plots import Bar, Group, svg
from bench.table import Row, table

SVG = "{http://www.w3.org/2000/svg}"


def texts(written: str) -> list[str | None]:
    return [each.text for each in ElementTree.fromstring(written).iter(f"{SVG}text")]


def widths(written: str) -> list[float]:
    return [float(each.attrib["width"]) for each in ElementTree.fromstring(written).iter(f"{SVG}rect")]


def test_a_table_has_a_column_of_targets_where_there_are_some() -> None:
    row = Row("hello", "requests/s", 500, 1000, 0.05, "≥ 0.4", True)
    assert table([row]).splitlines()[0] == "| what | ours | floor | ratio | spread | target |"
    assert table([row]).splitlines()[2] == "| hello | 500 requests/s | 1,000 | 0.50 | ±5% | ✓ ≥ 0.4 |"
    without = table([Row("memory", "MiB", 80)], "under TCG", "empty init")
    assert without.splitlines() == [
        "| under TCG | ours | empty init | ratio | spread |",
        "| --- | --- | --- | --- | --- |",
        "| memory | 80.00 MiB |  |  |  |",
    ]


def test_times_are_medians_and_multiples_of_the_empty_init() -> None:
    floor, answer = time_rows([{FLOOR: 100, "answer": 250}, {FLOOR: 300, "answer": 650}, {FLOOR: 200, "answer": 600}])
    assert (floor.ours, floor.ratio) == (200, 1)
    assert (answer.ours, answer.ratio, answer.spread) == (600, 3, 1 / 3)


def test_sizes_are_by_part_with_the_whole_at_the_end() -> None:
    sizes = {
        "one": {"kernel": 4_000_000, "whole": 4_500_000},
        "two": {"kernel": 4_000_000, "app": 1, "whole": 5_000_000},
    }
    assert sizes_table(sizes).splitlines() == [
        "| part, MB | one | two |",
        "| --- | --: | --: |",
        "| kernel | 4.00 | 4.00 |",
        "| app | 0.00 | 0.00 |",
        "| whole | 4.50 | 5.00 |",
    ]


def test_both_flavours_are_held_against_a_bound_against_each_other_and_against_the_empty_init() -> None:
    rows = [
        Compared("image", "MB", [1.5], [26.0], Target(2.5)),
        Compared("start", "ms", [90, 100, 130], [3000, 2000, 4000], Target(0.2, "empty"), [300, 400, 500]),
        Compared("speed", "requests/s", [2000], [1000], Target(3, "linux", least=True)),
        Compared("request", "thousand", [50], [200]),
    ]
    assert [row.met for row in rows] == [True, False, False, None]
    assert comparison(rows, "tcg").splitlines() == [
        "| under TCG | native | Linux | empty init | ratio | spread | target |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| image | 1.50 MB | 26.00 |  | 0.06 |  | ✓ ≤ 2.5 MB |",
        "| start | 100 ms | 3,000 | 400 | 0.25 | ±20%, ±33% | ✗ ≤ 0.2 × empty init |",
        "| speed | 2,000 requests/s | 1,000 |  | 2.00 |  | ✗ ≥ 3 × Linux |",
        "| request | 50.00 thousand | 200 |  | 0.25 |  |  |",
    ]


def test_a_number_that_is_its_bound_reaches_it() -> None:
    assert Compared("speed", "requests/s", [3000], [1000], Target(3, "linux", least=True)).met
    assert Compared("start", "ms", [100], [1000], Target(0.5, "empty"), [200]).met
    assert not Compared("start", "ms", [101], [1000], Target(0.5, "empty"), [200]).met


def test_bars_are_as_long_as_their_values_in_each_group() -> None:
    groups = [
        Group("Time", "ms", [Bar("a", 1000), Bar("b", 500), Bar("c", 0)]),
        Group("Size", "MB", [Bar("d", 2)]),
        Group("None", "MB", []),
    ]
    longest, half, none, alone = widths(svg("Both", groups))
    assert longest == alone
    assert abs(half - longest / 2) < 0.1
    assert none == 1


def test_a_plot_says_titles_units_labels_and_numbers_as_they_are() -> None:
    found = texts(svg("A & B", [Group("Time <x>", "ms", [Bar('"a"', 1234, "2 ×"), Bar("b", 7)])]))
    assert found == ["A & B", "Time <x>, ms", '"a"', "1,234 (2 ×)", "b", "7"]


def test_an_image_is_plotted_by_its_largest_parts_first() -> None:
    sizes = {"http demo": {"app": 1_000_000, "kernel": 4_000_000, "whole": 5_000_000}}
    rows = [*time_rows([{FLOOR: 100, "the guest up": 150}]), Row("the least --memory that serves", "MiB", 68)]
    found = texts(plot(sizes, rows, "tcg"))
    assert found.index("kernel") < found.index("app")
    assert "150 (1.5 ×)" in found
    assert "68.00" not in found
    assert any(each and "under TCG" in each for each in found)


def test_the_archive_of_the_empty_init_is_newc() -> None:
    content = archive(b"\x7fELF!")
    header = content[:110]
    assert header[:6] == b"070701"
    size, length = int(header[54:62], 16), int(header[94:102], 16)
    assert (size, length) == (5, len("init") + 1)
    at = (110 + length + 3) // 4 * 4
    assert content[110 : 110 + length] == b"init\0"
    assert content[at : at + size] == b"\x7fELF!"
    assert content[(at + size + 3) // 4 * 4 :].startswith(b"070701")
    assert content.rstrip(b"\0").endswith(b"TRAILER!!!")


def test_the_least_memory_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def serves(path: Path, accel: str, memory: int) -> bool:
        tried.append(memory)
        return memory >= 20

    monkeypatch.setattr(machines, "_serves_with", serves)
    assert [machines.least_memory(Path("demo.img"), "tcg", 64, 4) for _ in range(2)] == [20, 20]
    assert len(tried) == len(set(tried))
    assert tried[0] == 64
