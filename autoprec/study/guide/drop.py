"""The judged drop of a plan as a function of its noise.

The drop follows the noise by a monotone link (isotonic regression: Ayer et al. 1955). What the link leaves over is
given to units by ridge regression.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from autoprec.plan import Assignment
from autoprec.precision import Array
from autoprec.study.guide.evidence import likeliest
from autoprec.study.guide.noise import Entries, NoiseModel

_DEVIATIONS = (0.1, 0.3, 1.0)
_SCATTERS = (0.03, 0.1, 0.2, 0.4)
_FEWEST_FOR_EVIDENCE = 8
_FAR = 20.0
"""Judged drops beyond so many bounds are all equally hopeless."""


@dataclass(frozen=True, slots=True)
class Link:
    """The drop that goes with a noise: piecewise linear, never falling, and 0 at no noise.

    Attributes:
        noise: the knots, float64[knots], rising from 0.
        drop: the drop at each knot, float64[knots], never falling.
    """

    noise: Array
    drop: Array

    def __call__(self, noise: Array) -> Array:
        """The drop at each noise; beyond the last knot it goes on in proportion."""
        inside = np.interp(noise, self.noise, self.drop)
        last = self.noise[-1]
        beyond = self.drop[-1] * noise / last if last > 0 else inside
        return np.where(noise > last, np.maximum(beyond, inside), inside)

    def budget(self, drop: float) -> float:
        """The most noise whose drop is at most `drop`; infinite where every drop seen is less."""
        above = np.flatnonzero(self.drop > drop)
        if not len(above):
            tail = self.drop[-1]
            return float(self.noise[-1] * drop / tail) if tail > 0 and drop > 0 else math.inf
        index = int(above[0])
        left, right = self.drop[index - 1], self.drop[index]
        share = (drop - left) / (right - left)
        return float(self.noise[index - 1] + share * (self.noise[index] - self.noise[index - 1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class DropModel:
    """The link, and a Gaussian regression of what it leaves over, relative to the drop.

    Attributes:
        unit: a usual drop: the scale of what is left over where the link says no drop.
        link: noise -> drop.
        rows: the share of the noise of each measured plan that comes from each entry, float64[plans, entries].
        deviation: the standard deviation of what one entry leaves over.
        scatter: the standard deviation of what no entry explains.
        factor: the Cholesky factor of the measured plans' covariance, None where there are none.
        rest: the solution of that covariance for what the link leaves over, float64[plans].
    """

    unit: float
    link: Link
    rows: Array
    deviation: float
    scatter: float
    factor: Any
    rest: Array

    def predict(self, noise_model: NoiseModel, entries: Entries, plans: Sequence[Assignment]) -> tuple[Array, Array]:
        """The predicted drop of each plan and its standard deviation, float64[plans] each."""
        context = noise_model.context[:, None]
        found = entries.summed(plans, np.concatenate([context, context**2, context * self.rows.T], axis=1))
        noise = found[:, 0]
        linked = self.link(noise)
        # The share of an entry is its part of the plan's noise, so sums of shares are sums of parts over the noise.
        whole = np.where(noise > 0, noise, np.inf)
        known = found[:, 2:] / whole[:, None] * self.deviation**2
        rest = known @ self.rest
        doubt = self.deviation**2 * found[:, 1] / whole**2 + self.scatter**2
        if len(self.rest):
            doubt = doubt - (known * cho_solve(self.factor, known.T).T).sum(axis=1)
        scale = np.maximum(linked, 0.0) + self.unit
        deviation = scale * np.sqrt(np.maximum(doubt, 1e-6))
        return linked + scale * rest, np.where(noise > 0, deviation, 1e-9)  # FP32 drops nothing for certain

    def extra(self) -> Array:
        """What each entry leaves over beyond the link, relative to the drop, float64[entries]."""
        result: Array = self.deviation**2 * (self.rows.T @ self.rest)
        return result


def fit_drop(noise_model: NoiseModel, indicators: Array, drops: Array, bound: float) -> DropModel:
    """Fit to judged plans.

    Args:
        noise_model: what the noise of a plan is made of.
        indicators: the judged plans, as `Entries.indicators` gives them.
        drops: their judged drops, float64[plans], not NaN.
        bound: the most drop that is allowed.
    """
    usual = float(np.median(np.abs(drops[np.isfinite(drops)]))) if np.isfinite(drops).any() else 1.0
    unit = max(abs(bound), 0.1 * usual, 1e-12)
    drops = np.clip(drops, -_FAR * unit, _FAR * unit)
    noise = indicators @ noise_model.context
    link = Link(*_isotonic(noise, drops))
    rows = noise_model.shares(indicators)
    linked = link(noise)
    rest = (drops - linked) / (np.maximum(linked, 0.0) + unit)
    deviation, scatter = _DEVIATIONS[-1], _SCATTERS[-1]
    if len(rest) >= _FEWEST_FOR_EVIDENCE:
        deviation, scatter = likeliest(rows, rest, _DEVIATIONS, _SCATTERS, shared=0)
    gram = deviation**2 * rows @ rows.T + scatter**2 * np.eye(len(rest))
    factor = cho_factor(gram) if len(rest) else None
    return DropModel(
        unit=unit,
        link=link,
        rows=rows,
        deviation=deviation,
        scatter=scatter,
        factor=factor,
        rest=cho_solve(factor, rest) if len(rest) else rest,
    )


def _isotonic(x: Array, y: Array) -> tuple[Array, Array]:
    """Knots of the never falling function of least squares through (0, 0): pool adjacent violators."""
    order = np.argsort(x, kind="stable")
    blocks: list[tuple[float, float, float]] = [(0.0, 0.0, 1e3)]  # mean x, mean y, weight; FP32 drops nothing
    for index in order[x[order] > 0]:
        blocks.append((float(x[index]), float(y[index]), 1.0))
        while len(blocks) > 1 and blocks[-2][1] >= blocks[-1][1]:
            (x1, y1, w1), (x2, y2, w2) = blocks[-2:]
            total = w1 + w2
            blocks[-2:] = [((x1 * w1 + x2 * w2) / total, (y1 * w1 + y2 * w2) / total, total)]
    merged = np.array(blocks)
    return merged[:, 0], merged[:, 1]
