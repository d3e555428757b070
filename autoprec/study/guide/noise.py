"""The noise of a plan's outputs: sensitivities corrected in context.

The noise that a unit adds alone is measured with all other units in FP32, which is the wrong reference for a plan in
which half of them are lowered: arXiv 2607.12266 finds that additive effects explain 85 to 93 % of the loss once their
coefficients are fitted in context. So each sensitivity has a factor of its own, which is 1 until measured plans say
otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoprec.plan import Assignment
from autoprec.precision import Array, Precision
from autoprec.study.guide.evidence import likeliest
from autoprec.study.guide.local import summed
from autoprec.study.guide.plan_table import NUMBER, PRECISIONS, PlanTable

Losses = Mapping[tuple[str, Precision], float]

_DEVIATIONS = (0.03, 0.1, 0.3)
"""How far single sensitivities may be wrong, in e-folds; the evidence chooses."""
_NOISES = (0.05, 0.1, 0.2)
_SHARED = (1.0, 0.2)
"""How far all sensitivities together may be wrong, in e-folds, and how far the power of their sum may be from 1."""
_STEPS = 4


class Entries:
    """The (unit, precision) pairs that lose something, as the columns of matrices.

    Args:
        losses: (unit, precision) -> the noise that it adds alone; missing means none.
    """

    def __init__(self, losses: Losses) -> None:
        self._index = {key: index for index, key in enumerate(k for k, v in losses.items() if v > 0)}
        self.losses = np.array([losses[key] for key in self._index])

    def __len__(self) -> int:
        return len(self._index)

    def indicators(self, plans: Sequence[Assignment]) -> Array:
        """float64[plans, entries]: 1 where the plan has that pair, otherwise 0."""
        found = np.zeros((len(plans), len(self._index)))
        for row, plan in enumerate(plans):
            indices = [self._index[key] for key in plan.items() if key in self._index]
            found[row, indices] = 1.0
        return found

    def summed(self, plans: Sequence[Assignment], values: Array) -> Array:
        """What the entries of each plan add up to, float64[plans, width], of values float64[entries, width]."""
        if not isinstance(plans, PlanTable):
            result: Array = self.indicators(plans) @ values
            return result
        units = {name: unit for unit, name in enumerate(plans.names)}
        tables = np.zeros((len(units), len(PRECISIONS), values.shape[1]))
        for (name, precision), index in self._index.items():
            if name in units:
                tables[units[name], NUMBER[precision]] = values[index]
        around = [[unit] for unit in range(len(units))]
        numbers = plans.numbers.astype(np.intp)
        return summed(numbers, around, values.shape[1], lambda unit, rows: tables[unit, rows[:, unit]])

    def by_pair(self, values: Array) -> dict[tuple[str, Precision], float]:
        """(unit, precision) -> its value in float64[entries]."""
        return {key: float(values[index]) for key, index in self._index.items()}


@dataclass(frozen=True, slots=True)
class NoiseModel:
    """A plan's noise is a power of the sum of its corrected sensitivities, which saturates where the power is below 1.

    Attributes:
        context: the corrected sensitivities, float64[entries].
        power: how far the power of the sum is from 1.
        centre: the logarithm of the sum at which the power changes nothing.
    """

    context: Array
    power: float
    centre: float

    def predict(self, entries: Entries, plans: Sequence[Assignment]) -> Array:
        """The predicted noise, float64[plans]."""
        total = entries.summed(plans, self.context[:, None])[:, 0]
        logs = np.log(np.maximum(total, 1e-300))
        result: Array = np.where(total > 0, np.exp(logs + self.power * (logs - self.centre)), 0.0)
        return result

    def shares(self, indicators: Array) -> Array:
        """float64[plans, entries]: the share of each plan's noise that comes from each entry."""
        return _shares(indicators, self.context)


def fit_noise(entries: Entries, indicators: Array, noise: Array) -> NoiseModel:
    """Fit the factors in the logarithm by Gauss-Newton from 1, where each step is a ridge regression.

    Args:
        entries: the additive sensitivities.
        indicators: the measured plans, as `Entries.indicators` gives them.
        noise: what was measured, float64[plans], above 0.
    """
    base = entries.losses
    seen = (indicators @ base) > 0
    indicators, noise = indicators[seen], noise[seen]
    if not len(noise):
        return NoiseModel(base.copy(), 0.0, 0.0)
    centre = float(np.median(np.log(indicators @ base)))
    scale = np.array([*_SHARED, *np.ones(len(entries))])
    # Parameters: all sensitivities together, the power beyond 1, and one factor for each.
    logs = np.zeros(2 + len(entries))
    spread, scatter = _DEVIATIONS[0], _NOISES[-1]
    for step in range(_STEPS):
        rows, predicted = _linearised(indicators, base * np.exp(logs[2:]), logs, centre)
        # Linear in the logarithms round where they are: predicted + rows @ (new - old).
        target = np.log(noise) - predicted + rows @ (logs / scale)
        if step <= 1:  # the evidence changes little once the first steps have come near
            spread, scatter = likeliest(rows, target, _DEVIATIONS, _NOISES, shared=2)
        deviation = np.full(len(logs), spread)
        deviation[:2] = 1.0
        gram = (rows * deviation**2) @ rows.T + scatter**2 * np.eye(len(target))
        logs = np.clip(scale * deviation**2 * (rows.T @ np.linalg.solve(gram, target)), -5, 5)
        logs[1] = float(np.clip(logs[1], -0.5, 1.0))
    # The factor of all sensitivities goes into the context.
    return NoiseModel(base * np.exp(logs[0] + logs[2:]), float(logs[1]), centre + float(logs[0]))


def _linearised(indicators: Array, context: Array, logs: Array, centre: float) -> tuple[Array, Array]:
    """The derivatives of the logarithm of the noise by the scaled parameters, and the logarithm itself."""
    totals = np.log(indicators @ context)
    shares = _shares(indicators, context) * (1 + logs[1])
    ones = np.full((len(totals), 1), _SHARED[0])
    rows = np.concatenate([ones, _SHARED[1] * (totals - centre)[:, None], shares], axis=1)
    return rows, totals + logs[0] + logs[1] * (totals - centre)


def _shares(indicators: Array, context: Array) -> Array:
    parts = indicators * context
    total = parts.sum(axis=1, keepdims=True)
    result: Array = np.divide(parts, total, out=np.zeros_like(parts), where=total > 0)
    return result
