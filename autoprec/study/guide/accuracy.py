"""What a plan loses: sensitivities corrected in context, and a monotone link from their sum to the judged drop.

The noise that a unit adds alone is measured with all others in FP32, the wrong anchor for a plan in which half of
them are lowered: arXiv 2607.12266 finds that additive effects explain 85 to 93 % of the loss once their
coefficients are fitted in context. So each sensitivity has a factor of its own, 1 until evaluated plans say
otherwise. The judged drop follows the noise by a monotone link (isotonic regression: Ayer et al. 1955), and what
the link leaves is given to units by ridge regression.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import ndtr

from autoprec.plan import Assignment
from autoprec.precision import Array, Precision
from autoprec.stats.intervals import r2, spearman

Losses = Mapping[tuple[str, Precision], float]

TRUSTED_RANK = 0.5
"""A model that ranks unseen plans worse than this is not leant on."""
TRUSTED_PLANS = 8
"""So many unseen plans it takes to say so."""
_FEWEST_RANKED = 4
_DOUBTS = (0.03, 0.1, 0.3)
_NOISES = (0.05, 0.1, 0.2)
_SHARED = (1.0, 0.2)
"""How far all sensitivities together may be wrong, in e-folds, and how far the power of their sum may be from 1."""
_STEPS = 4
_BUMPS = (0.1, 0.3, 1.0)
_SCATTERS = (0.03, 0.1, 0.2, 0.4)
_FAR = 20.0  # judged drops beyond so many bounds are all equally hopeless


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What accuracy is fitted to.

    Attributes:
        plan: unit -> precision.
        noise: of the outputs, None where only the drop is known.
        drop: as judged against the bound.
    """

    plan: Assignment
    noise: float | None
    drop: float


class AccuracyFit:
    """The models of noise and drop, fitted to evaluated plans.

    Args:
        losses: (unit, precision) -> additive loss, missing means none.
        evaluated: plans with what they lost.
        bound: the most drop that is allowed.
    """

    def __init__(self, losses: Losses, evaluated: Sequence[Evaluated], bound: float) -> None:
        self.bound = bound
        self._keys = {key: index for index, key in enumerate(k for k, v in losses.items() if v > 0)}
        self._base = np.array([losses[key] for key in self._keys])
        self._fit_noise([e for e in evaluated if e.noise is not None and 0 < e.noise < math.inf])
        self._fit_drop([e for e in evaluated if not math.isnan(e.drop)])

    @property
    def losses(self) -> dict[tuple[str, Precision], float]:
        """The corrected sensitivities: (unit, precision) -> noise in context."""
        return {key: float(self._context[index]) for key, index in self._keys.items()}

    def noise(self, plans: Sequence[Assignment]) -> Array:
        """Predicted noise of the outputs: a power of the sum, which saturates where the power is below 1."""
        total = self._marks(plans) @ self._context
        logs = np.log(np.maximum(total, 1e-300))
        result: Array = np.where(total > 0, np.exp(logs + self._power * (logs - self._centre)), 0.0)
        return result

    def drop(self, plans: Sequence[Assignment]) -> tuple[Array, Array]:
        """Predicted judged drop, and its standard deviation."""
        marks = self._marks(plans)
        noise = marks @ self._context
        linked = self.link(noise)
        rows = _shares(marks, self._context)
        known = rows @ self._rows.T * self._bump**2
        rest = known @ self._rest
        doubt = self._bump**2 * (rows**2).sum(axis=1) + self._scatter**2
        if len(self._rest):
            doubt = doubt - (known * cho_solve(self._factor, known.T).T).sum(axis=1)
        scale = np.maximum(linked, 0.0) + self.unit
        deviation = scale * np.sqrt(np.maximum(doubt, 1e-6))
        return linked + scale * rest, np.where(noise > 0, deviation, 1e-9)

    def feasible(self, plans: Sequence[Assignment]) -> Array:
        """The probability that each plan meets the bound."""
        mean, deviation = self.drop(plans)
        result: Array = ndtr((self.bound - mean) / deviation)
        return result

    def link(self, noise: Array) -> Array:
        """The drop that goes with a noise: piecewise linear, never falling, 0 at no noise."""
        inside = np.interp(noise, self._at, self._linked)
        last = self._at[-1]
        beyond = self._linked[-1] * noise / last if last > 0 else inside
        return np.where(noise > last, np.maximum(beyond, inside), inside)

    def budget(self, drop: float) -> float:
        """The most noise whose linked drop is at most `drop`; infinite where every drop seen is less."""
        above = np.flatnonzero(self._linked > drop)
        if not len(above):
            tail = self._linked[-1]
            return float(self._at[-1] * drop / tail) if tail > 0 and drop > 0 else math.inf
        index = int(above[0])
        left, right = self._linked[index - 1], self._linked[index]
        share = (drop - left) / (right - left)
        return float(self._at[index - 1] + share * (self._at[index] - self._at[index - 1]))

    def slopes(self) -> dict[tuple[str, Precision], float]:
        """(unit, precision) -> what it adds to the drop of plans near the bound: the link's slope, and the rest."""
        at = min(self.budget(self.bound), float(self._at[-1])) or 1.0
        near = float(self.link(np.array([at]))[0])
        per_noise = near / at if near > 0 else self.unit / at
        extra = self._bump**2 * (self._rows.T @ self._rest) * (max(near, 0.0) + self.unit) / at
        values = self._context * np.maximum(per_noise + extra, 0.05 * per_noise)
        return {key: float(values[index]) for key, index in self._keys.items()}

    def _marks(self, plans: Sequence[Assignment]) -> Array:
        marks = np.zeros((len(plans), len(self._keys)))
        for row, plan in enumerate(plans):
            indices = [self._keys[key] for key in plan.items() if key in self._keys]
            marks[row, indices] = 1.0
        return marks

    def _fit_noise(self, evaluated: Sequence[Evaluated]) -> None:
        """Factors in the logarithm: Gauss-Newton from 1, each step a ridge regression."""
        self._context, self._power, self._centre = self._base.copy(), 0.0, 0.0
        marks = self._marks([e.plan for e in evaluated])
        seen = (marks @ self._base) > 0
        marks, noise = marks[seen], np.array([float(e.noise or 0.0) for e in evaluated])[seen]
        if not len(noise):
            return
        self._centre = float(np.median(np.log(marks @ self._base)))
        # Parameters: all sensitivities together, the power beyond 1, and one factor for each.
        logs = np.zeros(2 + len(self._keys))
        spread, scatter = _DOUBTS[0], _NOISES[-1]
        for step in range(_STEPS):
            context = self._base * np.exp(logs[2:])
            totals = np.log(marks @ context)
            shares = _shares(marks, context) * (1 + logs[1])
            ones = np.full((len(noise), 1), _SHARED[0])
            rows = np.concatenate([ones, _SHARED[1] * (totals - self._centre)[:, None], shares], axis=1)
            scale = np.array([*_SHARED, *np.ones(len(self._keys))])
            # Linear in the logarithms round where they are: predicted + rows @ (new - old).
            old = logs / scale
            predicted = totals + logs[0] + logs[1] * (totals - self._centre)
            target = np.log(noise) - predicted + rows @ old
            if step <= 1:
                spread, scatter = _likeliest(rows, target, _DOUBTS, _NOISES, shared=2)
            deviation = np.full(len(logs), spread)
            deviation[:2] = 1.0
            gram = (rows * deviation**2) @ rows.T + scatter**2 * np.eye(len(target))
            logs = np.clip(scale * deviation**2 * (rows.T @ np.linalg.solve(gram, target)), -5, 5)
            logs[1] = float(np.clip(logs[1], -0.5, 1.0))
        self._power = float(logs[1])
        self._centre += float(logs[0])  # the factor of all goes into the context
        self._context = self._base * np.exp(logs[0] + logs[2:])

    def _fit_drop(self, evaluated: Sequence[Evaluated]) -> None:
        drops = np.array([e.drop for e in evaluated])
        usual = float(np.median(np.abs(drops[np.isfinite(drops)]))) if np.isfinite(drops).any() else 1.0
        self.unit = max(abs(self.bound), 0.1 * usual, 1e-12)
        drops = np.clip(drops, -_FAR * self.unit, _FAR * self.unit)
        marks = self._marks([e.plan for e in evaluated])
        noise = marks @ self._context
        self._at, self._linked = _isotonic(noise, drops)
        self._rows = _shares(marks, self._context)
        linked = self.link(noise)
        rest = (drops - linked) / (np.maximum(linked, 0.0) + self.unit)
        self._bump, self._scatter = _BUMPS[-1], _SCATTERS[-1]
        if len(rest) >= 8:
            self._bump, self._scatter = _likeliest(self._rows, rest, _BUMPS, _SCATTERS, shared=0)
        gram = self._bump**2 * self._rows @ self._rows.T + self._scatter**2 * np.eye(len(rest))
        self._factor = cho_factor(gram) if len(rest) else None
        self._rest: Array = cho_solve(self._factor, rest) if len(rest) else rest


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """How well predictions made before the measurement agreed with it.

    Attributes:
        plans: that were predicted.
        rank: Spearman's correlation, None where there are fewer than four plans or all are equal.
        best_fifth: the same among the fifth that measured best.
        r2: coefficient of determination of the logarithms for noise, of the values for latency.
        error: mean absolute error relative to measured values above 0.
        worst: the largest such error.
        worst_plan: the number of the trial that has it.
    """

    plans: int
    rank: float | None
    best_fifth: float | None
    r2: float | None
    error: float | None
    worst: float | None
    worst_plan: int | None

    @property
    def trusted(self) -> bool:
        """Whether there is no reason against leaning on the model."""
        return self.plans < TRUSTED_PLANS or (self.rank is not None and self.rank >= TRUSTED_RANK)


def fidelity(pairs: Sequence[tuple[int, float, float]], *, logarithmic: bool = False) -> Fidelity:
    """Compare what was predicted with what was measured.

    Args:
        pairs: trial number, predicted, measured; those with anything not finite are left out.
        logarithmic: whether R2 is that of the logarithms; what is not above 0 is left out then.
    """
    kept = [(n, p, m) for n, p, m in pairs if math.isfinite(p) and math.isfinite(m) and (m > 0 or not logarithmic)]
    if not kept:
        return Fidelity(plans=0, rank=None, best_fifth=None, r2=None, error=None, worst=None, worst_plan=None)
    predicted, measured = np.array([p for _, p, _ in kept]), np.array([m for _, _, m in kept])
    best = np.argsort(measured)[: math.ceil(len(kept) / 5)]
    sides = (np.log(measured), np.log(np.maximum(predicted, 1e-300))) if logarithmic else (measured, predicted)
    known = len(kept) >= _FEWEST_RANKED and np.ptp(measured) > 0
    errors = {n: abs(p / m - 1) for n, p, m in kept if m > 0}
    worst = max(errors, key=lambda number: errors[number], default=None)
    return Fidelity(
        plans=len(kept),
        rank=_rank(predicted, measured),
        best_fifth=_rank(predicted[best], measured[best]),
        r2=r2(*sides) if known else None,
        error=float(np.mean(list(errors.values()))) if errors else None,
        worst=None if worst is None else errors[worst],
        worst_plan=worst,
    )


def _rank(x: Array, y: Array) -> float | None:
    if len(x) < _FEWEST_RANKED or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return spearman(x, y)


def _shares(marks: Array, context: Array) -> Array:
    """Which share of a plan's noise comes from each (unit, precision): float64[plans, keys]."""
    parts = marks * context
    total = parts.sum(axis=1, keepdims=True)
    result: Array = np.divide(parts, total, out=np.zeros_like(parts), where=total > 0)
    return result


def _likeliest(
    rows: Array, target: Array, doubts: Sequence[float], noises: Sequence[float], shared: int
) -> tuple[float, float]:
    """Of a grid, the deviation of the parameters beyond the first `shared`, and the noise, with most evidence."""
    common = rows[:, :shared] @ rows[:, :shared].T
    own = rows[:, shared:] @ rows[:, shared:].T
    best, chosen = -math.inf, (doubts[0], noises[-1])
    for doubt, noise in itertools.product(doubts, noises):
        factor = np.linalg.cholesky(common + doubt**2 * own + noise**2 * np.eye(len(target)))
        scaled = np.linalg.solve(factor, target)
        evidence = -0.5 * float(scaled @ scaled) - float(np.log(np.diag(factor)).sum())
        if evidence > best:
            best, chosen = evidence, (doubt, noise)
    return chosen


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
