"""How well predictions agree with what was measured afterwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoprec.precision import Array
from autoprec.stats.intervals import r2, spearman

TRUSTED_RANK = 0.5
"""A model whose rank correlation on unseen plans is below this is not trusted."""
TRUSTED_PLANS = 8
"""With fewer unseen plans than this, a low rank correlation says nothing."""
_FEWEST_RANKED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """How well predictions that were made before the measurement agreed with it.

    Attributes:
        plans: the number of plans that were predicted.
        rank: Spearman's rank correlation, None where there are fewer than four plans or all are equal.
        best_fifth: the same correlation among the fifth of the plans that measured best.
        r2: the coefficient of determination, of the logarithms for noise and of the values for other figures.
        error: the mean absolute error relative to measured values above 0.
        worst: the largest such error.
        worst_plan: the number of the trial that has the largest error.
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
        """Whether there is no reason against relying on the model."""
        return self.plans < TRUSTED_PLANS or (self.rank is not None and self.rank >= TRUSTED_RANK)


def fidelity(pairs: Sequence[tuple[int, float, float]], *, logarithmic: bool = False) -> Fidelity:
    """Compare what was predicted with what was measured.

    Args:
        pairs: the trial number, the predicted figure and the measured figure; pairs that are not finite are left out.
        logarithmic: whether R2 is that of the logarithms; measured figures that are not above 0 are left out then.
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
