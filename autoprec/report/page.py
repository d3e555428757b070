"""A report as one page of HTML that needs no other file and no network."""

from __future__ import annotations

import base64
import hashlib
import math
from importlib.resources import files
from typing import Any

from autoprec.files.printable import printable
from autoprec.report.plots import COLOURS, FOUR_BITS, can_plot, svg
from autoprec.report.sections import Arc, Column, Drawing, Report, number_of, shown

HINT = "the plots are left out, as Matplotlib is not installed; `pip install 'autoprec[report]'` adds them"
TIMELESS = "the plots are left out for lack of time; `autoprec report RUN` adds them"
PRECISIONS = (
    "fp64",
    "fp32",
    "bf16",
    "fp16",
    "fp8",
    "int8",
    "int8-dynamic",
    "int8-weights",
    "mxfp8",
    "nvfp4",
    *FOUR_BITS,
)
_WIDE = 1000.0
_HIGH = 120.0


def page(report: Report, *, plots: bool = True) -> str:
    """The report as HTML.

    Args:
        report: the report.
        plots: whether it has plots, which take about a second; without Matplotlib it has none.
    """
    from jinja2 import Environment
    from markupsafe import Markup

    def plain(value: Any) -> Any:
        return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    drawn, number = plots and can_plot(), 0
    figures: dict[str, list[Markup]] = {}
    for section in report.sections:
        for plot in section.plots if drawn else ():
            number += 1
            figures.setdefault(section.key, []).append(Markup(svg(plot, number)))
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=plain)
    environment.filters |= {"arc": _arc, "shown": shown, "heading": _heading, "number": _number}
    script = _packaged("table.js")
    style = _packaged("page.css") + "".join(f".{p}{{--precision:{COLOURS[p]}}}" for p in PRECISIONS)
    return environment.from_string(_packaged("page.html")).render(
        report=report,
        figures=figures,
        hint=None if drawn else TIMELESS if can_plot() else HINT,
        style=Markup(style),
        script=Markup(script),
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        precisions=PRECISIONS,
        colours=COLOURS,
    )


def _packaged(name: str) -> str:
    return (files("autoprec.report") / "templates" / name).read_text(encoding="utf-8")


def _heading(column: Column) -> str:
    return f"{column.title}, {column.unit}" if column.unit else column.title


def _number(cell: Any) -> str:
    """What a cell is sorted by, empty for a text."""
    value = number_of(cell)
    return "" if math.isnan(value) else repr(value)


def _arc(arc: Arc, drawing: Drawing) -> str:
    """The path of an arc above the strip of units."""
    scale = _WIDE / drawing.units
    start, end = (arc.start + 0.5) * scale, (arc.end + 0.5) * scale
    share = abs(arc.end - arc.start) / drawing.units
    top = _HIGH - 2 * (18 + (_HIGH - 22) * min(share * 3, 1.0) * 0.75)
    return f"M{start:.1f} {_HIGH:g} Q{(start + end) / 2:.1f} {max(top, -_HIGH + 8):.1f} {end:.1f} {_HIGH:g}"
