"""Draws measurements as horizontal bars, in SVG.

The file has no background and no style for light or dark: its colours can be read on both, whatever the page chose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from bench.table import number

WIDTH = 760
"""Pixels, as all lengths here: about the width of a column of text."""

LEFT, RIGHT, MARGIN = 290, 120, 16
"""The room for labels, that for the numbers behind the longest bar, and that around all."""

BAR, PITCH = 16, 26
"""The height of a bar, and from one to the next."""

HEADING, GAP = 34, 14
"""The height of a group's heading, and what is free below a group."""

TEXT, OURS, FLOOR = "#737c86", "#3f8ae0", "#9a8f7d"
"""The contrast of the text is above 4 with white and with the near-black of dark pages."""

FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"


@dataclass(frozen=True, slots=True)
class Bar:
    """One number. `floor` is for what others are compared with, which has another colour."""

    label: str
    value: float
    note: str = ""
    """What stands behind the number, in parentheses."""
    floor: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Bars of one unit, drawn to one scale."""

    title: str
    unit: str
    bars: Sequence[Bar]


def svg(title: str, groups: Sequence[Group]) -> str:
    """A plot of the groups, one below the other. All values are 0 or more."""
    parts: list[str] = []
    top = MARGIN + 24
    for group in groups:
        parts += _group(group, top)
        top += HEADING + PITCH * len(group.bars) + GAP
    height = top + MARGIN - GAP
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'height="{height}" role="img" font-family="{FONT}" font-size="14" fill="{TEXT}">',
            f"<title>{escape(title)}</title>",
            _text(MARGIN, MARGIN + 8, title, 'font-size="18" font-weight="600"'),
            *parts,
            "</svg>\n",
        ]
    )


def _group(group: Group, top: float) -> list[str]:
    parts = [_text(MARGIN, top + 20, f"{group.title}, {group.unit}", 'font-weight="600"')]
    longest = max((bar.value for bar in group.bars), default=0) or 1
    for index, bar in enumerate(group.bars):
        y = top + HEADING + PITCH * index
        length = bar.value / longest * (WIDTH - LEFT - RIGHT - MARGIN)
        colour = FLOOR if bar.floor else OURS
        middle = y + BAR - 3
        note = f" ({bar.note})" if bar.note else ""
        parts += [
            _text(LEFT - 10, middle, bar.label, 'text-anchor="end"'),
            # One pixel at least: what is small is there all the same.
            f'<rect x="{LEFT}" y="{y}" width="{max(length, 1):.1f}" height="{BAR}" rx="2" fill="{colour}"/>',
            _text(LEFT + max(length, 1) + 8, middle, f"{number(bar.value, longest)}{note}"),
        ]
    return parts


def _text(x: float, y: float, text: str, attributes: str = "") -> str:
    space = " " if attributes else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{space}{attributes}>{escape(text)}</text>'
