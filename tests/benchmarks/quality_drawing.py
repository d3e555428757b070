"""Best-so-far against evaluations for each sampler on a measured table, as text and as SVG."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from autoprec.cli.screen import print_table
from autoprec.errors import UsageError
from autoprec.study.ledger.samplers import make_sampler
from tests.helpers.exhaustive_table import Table, disturbed, greedy, load, searched

COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#7f7f7f", "#8c564b")
TOP = 1.5  # of the picture: times the optimum's latency


def draw_table(options: argparse.Namespace) -> None:
    table = load(options.table, options.drop)
    bound = float(np.quantile(table.drop, options.feasible))
    evaluations = round(options.share * len(table.latency))
    curves = {}
    for name in options.samplers.split(","):
        try:
            runs = [curve(table, name, bound, evaluations, seed) for seed in range(options.seeds)]
        except UsageError as error:
            print(f"{name} is left out: {error}")
            continue
        curves[name] = np.array(runs)
    print(f"{len(table.latency)} plans, {options.drop} at most {bound:.4g}; {options.seeds} seeds; 1 is the optimum")
    marks = sorted({min(evaluations, max(2, round(evaluations * share))) for share in (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)})
    print_table(
        ["sampler", *(f"after {mark}" for mark in marks), "within 1 %"],
        [
            [name, *(spread(runs[:, mark - 1]) for mark in marks), f"{np.mean(runs[:, -1] <= 1.01):.0%}"]
            for name, runs in curves.items()
        ],
    )
    if options.picture is not None:
        options.picture.write_text(picture(curves, evaluations), encoding="utf-8")


def curve(table: Table, name: str, bound: float, evaluations: int, seed: int) -> Any:
    """Best-so-far after each evaluation, filled up to the end."""
    known = disturbed(table, seed)
    if name == "greedy":
        best = greedy(known, bound)[:evaluations]
    else:
        sampler = make_sampler(name, known.problem, known.prior, bound, seed)
        best = searched(known, sampler, bound, evaluations)
    return np.concatenate([best, np.full(evaluations - len(best), best[-1])])


def spread(values: Any) -> str:
    low, middle, high = np.quantile(np.where(np.isfinite(values), values, 99), (0.1, 0.5, 0.9))
    return f"{middle:.3f} ({low:.3f}-{high:.3f})"


def picture(curves: dict[str, Any], evaluations: int) -> str:
    """Medians as lines, the range from the 10th to the 90th percentile as bands."""
    width, height, left, under = 720, 420, 60, 40

    def point(number: float, value: float) -> str:
        x = left + (width - left - 130) * number / evaluations
        y = (height - under) * (1 - (min(value, TOP) - 1) / (TOP - 1)) + 5
        return f"{x:.1f},{y:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + 15}" font-size="12">',
        f'<rect width="{width}" height="{height + 15}" fill="white"/>',
    ]
    for value in np.arange(1, TOP + 0.01, 0.1):
        x, y = point(0, value).split(",")
        parts.append(f'<line x1="{x}" y1="{y}" x2="{width - 130}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{float(y) + 4}" text-anchor="end">{value:.1f}</text>')
    parts.append(f'<text x="{left}" y="{height + 5}">0</text>')
    parts.append(f'<text x="{width - 130}" y="{height + 5}" text-anchor="end">{evaluations} evaluations</text>')
    for place, (name, runs) in enumerate(curves.items()):
        colour = COLOURS[place % len(COLOURS)]
        low, middle, high = np.quantile(np.where(np.isfinite(runs), runs, 99), (0.1, 0.5, 0.9), axis=0)
        numbers = range(1, evaluations + 1)
        band = [point(n, v) for n, v in zip(numbers, high, strict=True)]
        band += [point(n, v) for n, v in zip(reversed(numbers), low[::-1], strict=True)]
        line = " ".join(point(n, v) for n, v in zip(numbers, middle, strict=True))
        parts.append(f'<polygon points="{" ".join(band)}" fill="{colour}" opacity="0.12"/>')
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{width - 120}" y="{30 + 18 * place}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>"])
