"""Fits a table into the width of a terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

Rows = Sequence[Sequence[str]]
_GAP = 2
_NARROW = 8
"""No column is made narrower than this, unless it is."""


def screen_width() -> int:
    """The number of characters in a line of the terminal, 80 where there is none."""
    return max(shutil.get_terminal_size((80, 24)).columns, 40)


def without_spare(header: Sequence[str], rows: Rows, spare: Sequence[str], width: int) -> tuple[list[str], Rows]:
    """The table without those of its spare columns that do not fit, the last one given going first."""
    titles, kept = list(header), [list(row) for row in rows]
    for title in reversed(spare):
        if _total(_widths(titles, kept)) > width and title in titles:
            index = titles.index(title)
            titles.pop(index)
            for row in kept:
                row.pop(index)
    return titles, kept


def fitted(header: Sequence[str], rows: Rows, width: int) -> list[str]:
    """The lines of an aligned table without frames, cells being broken into lines where it is too wide.

    Cells are broken at spaces. Names without spaces are broken anywhere, but only where nothing else helps.

    Args:
        header: the titles.
        rows: the cells.
        width: the most characters of a line.
    """
    widths = _widths(header, rows)
    table = [header, *rows]
    longest = [max((len(word) for row in table for word in row[i].split()), default=1) for i in range(len(header))]
    for least in (longest, [min(word, _NARROW) for word in longest]):
        while _total(widths) > width:
            able = [i for i in range(len(widths)) if widths[i] > least[i]]
            if not able:
                break
            widths[max(able, key=widths.__getitem__)] -= 1
    lines: list[str] = []
    for row in [header, ["-" * w for w in widths], *rows]:
        cells = [
            textwrap.wrap(cell, max(w, 1), break_on_hyphens=False) or [""] for cell, w in zip(row, widths, strict=True)
        ]
        for number in range(max(map(len, cells))):
            parts = [cell[number] if number < len(cell) else "" for cell in cells]
            lines.append((" " * _GAP).join(p.ljust(w) for p, w in zip(parts, widths, strict=True)).rstrip())
    return lines


def wrapped(text: str, width: int) -> str:
    """The lines of a text, broken between words and indented as it begins; words stay whole, paths among them."""
    lines = []
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip())]
        lines.append(
            textwrap.fill(
                line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, tabsize=4
            )
        )
    return "\n".join(lines)


def _widths(header: Sequence[str], rows: Rows) -> list[int]:
    return [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)
