"""Draws the plots of a report with Matplotlib, as SVG that takes its text colour from the page around it."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from html import escape
from typing import Any

from autoprec.files.printable import printable
from autoprec.report.sections import Curves, Dot, Scatter

FOUR_BITS = ("int4-32", "int4-64", "int4-128", "int4-32-zp", "int4-64-zp", "int4-128-zp")
COLOURS = {
    "fp64": "#000000",
    "fp32": "#d55e00",
    "bf16": "#cc79a7",
    "fp16": "#e69f00",
    "fp8": "#56b4e9",
    "int8": "#0072b2",
    "int8-dynamic": "#009e73",
    "int8-weights": "#004d36",
    "mxfp8": "#7fb2d6",
    "nvfp4": "#5b3a8c",
    **dict(zip(FOUR_BITS, ("#f0e442", "#c9b800", "#8c8000", "#e69f00", "#b57b00", "#7a5200"), strict=True)),
    "answer": "#d55e00",
    "uniform": "#0072b2",
    "on the front": "#009e73",
    "other": "#999999",
    "trial": "#0072b2",
}
"""The colours of Okabe and Ito, which colour-blind people tell apart ("Color Universal Design", 2008)."""
_OTHERS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_MARKERS = {"answer": "*", "uniform": "s", "on the front": "o", "other": ".", "trial": "o"}
_LINES = ("-", "--", ":", "-.")
_BESIDE_TITLE = 3
"""So many names of curves fit beside the title of a plot."""
_INK, _FAINT = "#010203", "#040506"
"""Stand for colours of the page."""
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "autoprec",
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": _FAINT,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "text.parse_math": False,
}
_FAR = 20
"""A linear axis whose largest value is this many times the bound would hide what happens near the bound."""
_MARKED = 60


def can_plot() -> bool:
    """Whether Matplotlib is installed."""
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None


def svg(plot: Scatter | Curves, number: int) -> str:
    """One plot as an SVG element to stand in a page.

    Args:
        plot: its data.
        number: its number on the page, which keeps the names inside it apart from those of other plots.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(5.8, 3.7), layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(plot.title)
        labels = _scatter(axes, plot) if isinstance(plot, Scatter) else _curves(axes, plot)
        file = io.BytesIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return _inline(file.getvalue().decode(), plot.title, number, labels)


def _scatter(axes: Any, plot: Scatter) -> list[str]:
    axes.set_xlabel(plot.x)
    axes.set_ylabel(plot.y)
    groups = dict.fromkeys(dot.group for dot in plot.dots)
    for group in sorted(groups, key=list(COLOURS).index, reverse=True):
        # The first one of each group stands in the legend.
        axes.plot([], [], linestyle="none", label=group, **_style_of(group))
    for i, dot in enumerate(plot.dots):
        axes.plot(
            [dot.x],
            [dot.y],
            linestyle="none",
            gid=f"dot-{i}",
            zorder=4 if dot.group == "answer" else 3,
            **_style_of(dot.group),
        )
    if plot.line is not None:
        axes.axhline(plot.line, color="#d55e00", linestyle="--", linewidth=1.2, label="bound")
        if max((abs(dot.y) for dot in plot.dots), default=0) > _FAR * plot.line > 0:
            axes.set_yscale("symlog", linthresh=2 * plot.line)
            _plain_ticks(axes)
    if plot.diagonal:
        ends = _ends(plot.dots)
        axes.plot(ends, ends, color=_FAINT, linewidth=1, linestyle="--", label="equal")
    if len(groups) > 1 or plot.line is not None:
        axes.legend(loc="best")
    return [dot.label for dot in plot.dots]


def _style_of(group: str) -> dict[str, Any]:
    return {"marker": _MARKERS[group], "color": COLOURS[group], "markersize": 13 if group == "answer" else 7}


def _ends(dots: Sequence[Dot]) -> list[float]:
    values = [value for dot in dots for value in (dot.x, dot.y) if math.isfinite(value)]
    return [min(values), max(values)] if values else [0.0, 1.0]


def _curves(axes: Any, plot: Curves) -> list[str]:
    axes.set_xlabel("unit, in the order of the network")
    axes.set_ylabel(plot.y)
    for i, (name, values) in enumerate(plot.series.items()):
        drawn = [value if value > 0 or not plot.logarithmic else math.nan for value in values]
        colour = COLOURS[name] if name in COLOURS else _OTHERS[i % len(_OTHERS)]
        style = {"marker": "os^Dv"[i % 5], "markersize": 4} if len(values) <= _MARKED else {}
        line = _LINES[i % len(_LINES)] if style else "-"
        axes.plot(range(1, len(values) + 1), drawn, color=colour, linewidth=1.1, linestyle=line, label=name, **style)
    if plot.logarithmic and any(value > 0 for values in plot.series.values() for value in values):
        axes.set_yscale("log")
        _plain_ticks(axes)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if len(plot.series) <= _BESIDE_TITLE:  # where no curve can be
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(plot.series), borderaxespad=0.0)
    else:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=_BESIDE_TITLE, borderaxespad=0.0)
    return []


def _plain_ticks(axes: Any) -> None:
    """Write the ticks of a logarithmic axis as numbers: the usual ones are formulas, which names must not be."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_ylim()
    if axes.get_yscale() == "log" and high < 100 * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _inline(text: str, title: str, number: int, labels: Sequence[str]) -> str:
    """The element alone: without what only a file needs, with names of its own and the colours of the page."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    view = re.search(r'viewBox="([\d. ]+)"', text)
    head = f'<svg viewBox="{view[1] if view else "0 0 400 260"}" role="img" aria-label="{escape(printable(title))}">'
    text = re.sub(r"^<svg[^>]*>", head, text)
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>p{number}-", text)
    text = text.replace("xlink:href", "href").replace(_INK, "currentColor").replace(_FAINT, "var(--faint)")
    text = re.sub(r"font: [^;\"]*?(\d+(?:\.\d+)?)px [^;\"]*", r"font-size: \1px", text)
    for i, label in enumerate(labels):
        opening = f'<g id="p{number}-dot-{i}">'
        text = text.replace(opening, f"{opening}<title>{escape(printable(label))}</title>", 1)
    return text
