"""What a report consists of: sections with texts, tables and the data of plots, free of any format of a file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

SCHEMA = 1
KIND = "autoprec report"


class Form(Enum):
    """How the cells of a column are written."""

    TEXT = "text"
    PRECISION = "precision"
    COUNT = "count"
    SHARE = "share"
    RATIO = "ratio"
    POINTS = "points"
    NUMBER = "number"
    TINY = "tiny"

    @property
    def numeric(self) -> bool:
        """Whether the cells are numbers, so that they are aligned to the right."""
        return self not in (Form.TEXT, Form.PRECISION)


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with its interval.

    Attributes:
        value: the estimate.
        low: the lower end.
        high: the upper end.
    """

    value: float
    low: float
    high: float


Cell = str | int | float | Figure | None


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        title: what it holds.
        form: how its cells are written.
        unit: the unit of its numbers, empty for none.
    """

    title: str
    form: Form = Form.TEXT
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        columns: the columns.
        rows: the rows, a cell for each column.
        marked: the indices of the rows that the reader should see first.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    marked: frozenset[int] = frozenset()

    def without_empty_columns(self) -> Table:
        """The table without the columns in which nothing stands."""
        kept = [i for i in range(len(self.columns)) if any(row[i] not in (None, "") for row in self.rows)]
        rows = [[row[i] for i in kept] for row in self.rows]
        return Table([self.columns[i] for i in kept], rows, self.marked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """A point of a scatter plot.

    Attributes:
        x: where it is.
        y: likewise.
        group: what it is drawn as.
        label: what it is.
    """

    x: float
    y: float
    group: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """The data of a scatter plot.

    Attributes:
        title: what is to be seen.
        x: what the horizontal axis shows, with its unit.
        y: likewise the vertical axis.
        dots: the points.
        line: a horizontal line, None for none.
        diagonal: whether the line on which both are equal is drawn.
    """

    title: str
    x: str
    y: str
    dots: Sequence[Dot]
    line: float | None = None
    diagonal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """The data of a plot along the network.

    Attributes:
        title: what is to be seen.
        y: what the vertical axis shows, with its unit.
        series: name -> a value for each unit in the order of the network, NaN where there is none.
        logarithmic: whether the vertical axis is.
    """

    title: str
    y: str
    series: Mapping[str, Sequence[float]]
    logarithmic: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Units that follow each other in one precision.

    Attributes:
        precision: the precision.
        first: the index of the first unit.
        last: that of the last.
        text: what they are.
    """

    precision: str
    first: int
    last: int
    text: str


@dataclass(frozen=True, slots=True)
class Arc:
    """A value that is converted on its way from one unit to another one.

    Attributes:
        start: the index of the unit that makes it.
        end: the index of the unit that reads it.
        text: what is converted.
    """

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """A plan drawn along the network.

    Attributes:
        units: the number of units.
        parts: the units in order.
        arcs: the conversions.
    """

    units: int
    parts: Sequence[Part]
    arcs: Sequence[Arc]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A section of a report.

    Attributes:
        key: its name in JSON and in the address of a page.
        title: its heading.
        notes: paragraphs.
        table: the table below them.
        plots: the plots between them.
        drawing: the plan along the network, beside the plots.
        code: lines to copy, empty for none.
    """

    key: str
    title: str
    notes: Sequence[str] = ()
    table: Table | None = None
    plots: Sequence[Scatter | Curves] = ()
    drawing: Drawing | None = None
    code: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """One figure of the answer.

    Attributes:
        title: what it is.
        figure: the figure.
        text: what it means.
    """

    title: str
    figure: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report.

    Attributes:
        title: its title.
        state: what became of the run, in a sentence.
        cards: the answer in a few figures.
        sections: the rest.
        written_by: the release of autoprec that wrote it.
    """

    title: str
    state: str
    cards: Sequence[Card]
    sections: Sequence[Section]
    written_by: str

    def to_record(self) -> dict[str, Any]:
        """The report as JSON: tables with their numbers, without the plots, which show the same."""
        return {
            "schema": SCHEMA,
            "kind": KIND,
            "autoprec": self.written_by,
            "title": self.title,
            "state": self.state,
            "answer": [{"title": c.title, "figure": c.figure, "text": c.text} for c in self.cards],
            "sections": {section.key: _record(section) for section in self.sections},
        }


def _record(section: Section) -> dict[str, Any]:
    table = section.table
    return {
        "title": section.title,
        "notes": list(section.notes),
        "code": section.code or None,
        "columns": [] if table is None else [{"title": c.title, "unit": c.unit or None} for c in table.columns],
        "rows": [] if table is None else [[_plain(cell) for cell in row] for row in table.rows],
    }


def _plain(cell: Cell) -> Any:
    return {"estimate": cell.value, "low": cell.low, "high": cell.high} if isinstance(cell, Figure) else cell


def number_of(cell: Cell) -> float:
    """What a table is sorted by; NaN for a text."""
    value = cell.value if isinstance(cell, Figure) else cell
    return float(value) if isinstance(value, (int, float)) else math.nan


def shown(cell: Cell, form: Form) -> str:
    """A cell as people read it."""
    if cell is None:
        return "-"
    if isinstance(cell, Figure):
        if cell.low == cell.high:
            return _number(cell.value, form)
        return f"{_number(cell.value, form)} ({_number(cell.low, form)} to {_number(cell.high, form)})"
    return cell if isinstance(cell, str) else _number(float(cell), form)


def _number(value: float, form: Form) -> str:
    if not math.isfinite(value):
        return "-" if math.isnan(value) else "infinite"
    written = {
        Form.COUNT: f"{value:,.0f}",
        Form.SHARE: f"{value:.0%}" if abs(value) >= 0.0995 or value == 0 else f"{value:.1%}",
        Form.RATIO: f"{value:.3f}",
        Form.POINTS: f"{100 * value:+.2f}" if round(100 * value, 2) else "0.00",
        Form.TINY: f"{value:.2g}",
    }
    return written.get(form, f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}")
