"""What a measurement says: rows, as a Markdown table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a measured thing, what it is compared with, and the ratio it should reach."""

    name: str
    unit: str
    ours: float
    floor: float | None = None
    spread: float | None = None
    target: str = ""
    met: bool | None = None

    @property
    def ratio(self) -> float | None:
        return self.ours / self.floor if self.floor else None

    def as_json(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


def number(value: float, size: float | None = None) -> str:
    """A number with as many digits as matter to one of that size, its own if there is no other."""
    return f"{value:,.{0 if (value if size is None else size) >= 100 else 2}f}"


def line(row: Row, targets: bool = True) -> str:
    """A row as a line of the table."""
    floor = number(row.floor, row.ours) if row.floor is not None else ""
    ratio = f"{row.ratio:.2f}" if row.ratio is not None else ""
    around = f"±{row.spread:.0%}" if row.spread is not None else ""
    verdict = {True: "✓ ", False: "✗ ", None: ""}[row.met]
    cells = [row.name, f"{number(row.ours)} {row.unit}", floor, ratio, around]
    return _line([*cells, f"{verdict}{row.target}"] if targets else cells)


def table(rows: Sequence[Row], corner: str = "what", floor: str = "floor") -> str:
    """The rows as a Markdown table. `floor` is the name of what they are compared with."""
    targets = any(row.target for row in rows)
    head = [corner, "ours", floor, "ratio", "spread", *(["target"] if targets else [])]
    return "\n".join([_line(head), _line(["---"] * len(head)), *(line(row, targets) for row in rows)])


def lines_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of cells as they are."""
    return "\n".join([_line(head), _line(["---"] * len(head)), *(_line(cells) for cells in rows)])


def matrix(corner: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A Markdown table of one number for each pair of row and column."""
    numbers = ["---", *["--:"] * len(columns)]
    return "\n".join([_line([corner, *columns]), _line(numbers), *(_line([name, *cells]) for name, cells in rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
