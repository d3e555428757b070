"""Whether two sets of figures differ, and by how much: exact and rank tests in NumPy alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from autoprec.stats.intervals import Interval, paired_bootstrap

Array = npt.NDArray[np.float64]

ALPHA = 0.01
"""A difference that chance makes more rarely than this counts as one; only worse counts, so tests are one-sided."""
_FLIPS = 9999


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A paired comparison.

    Attributes:
        change: mean loss, above 0 = worse, with its 95 % interval.
        p: probability of so much loss or more by chance.
        samples: pairs.
        lost: pairs that got worse.
        won: pairs that got better.
        test: which test.
    """

    change: Interval
    p: float
    samples: int
    lost: int
    won: int
    test: str

    @property
    def different(self) -> bool:
        """Whether chance does not explain the loss."""
        return self.p < ALPHA


def compare_scores(before: Array, after: Array, higher_is_better: bool) -> Compared:
    """The loss from `before` to `after`, both float[n] and finite, of the same samples.

    Scores of 0 and 1 are compared by McNemar's exact test (McNemar 1947), others by sign flips of the paired
    differences (Fisher 1935), which holds whatever their distribution as long as it is symmetric.
    """
    loss = before - after if higher_is_better else after - before
    lost, won = int((loss > 0).sum()), int((loss < 0).sum())
    if np.isin(np.concatenate([before, after]), (0.0, 1.0)).all():
        return Compared(
            change=paired_decisions(lost, won, loss.size),
            p=mcnemar(lost, won),
            samples=loss.size,
            lost=lost,
            won=won,
            test="McNemar",
        )
    span = paired_bootstrap(before, after, higher_is_better)
    return Compared(change=span, p=sign_flips(loss), samples=loss.size, lost=lost, won=won, test="sign flips")


def mcnemar(lost: int, won: int) -> float:
    """The exact probability of at least `lost` of the changed decisions being losses if both were as likely."""
    changed = lost + won
    tail = sum(math.comb(changed, k) for k in range(lost, changed + 1))
    return float(Fraction(tail, 2**changed))


def paired_decisions(lost: int, won: int, samples: int, confidence: float = 0.95) -> Interval:
    """The difference of two paired proportions with an interval that no change does not shrink to nothing.

    Agresti and Min 2005, "Simple improved confidence intervals for comparing matched proportions".
    """
    half = NormalDist().inv_cdf((1 + confidence) / 2)
    a, b, n = lost + 0.5, won + 0.5, samples + 2
    centre, spread = (a - b) / n, math.sqrt((a + b) - (a - b) ** 2 / n) / n
    return Interval((lost - won) / samples, max(centre - half * spread, -1.0), min(centre + half * spread, 1.0))


def sign_flips(losses: Array, seed: int = 0) -> float:
    """Probability of so large a mean if each difference were as likely to have the other sign."""
    changed = losses[losses != 0]
    if not changed.size or changed.sum() <= 0:
        return 1.0
    generator = np.random.default_rng(seed)
    total, hits = float(changed.sum()), 0
    rows = max(1, (1 << 20) // changed.size)
    for start in range(0, _FLIPS, rows):
        signs = generator.integers(0, 2, (min(rows, _FLIPS - start), changed.size)) * 2 - 1
        hits += int((signs @ changed >= total * (1 - 1e-12)).sum())
    return (hits + 1) / (_FLIPS + 1)


def signed_ranks(differences: npt.ArrayLike) -> float:
    """Wilcoxon's signed-rank test: probability of so high ranks above 0 if both signs were as likely.

    By the normal approximation with correction for ties and continuity, which is good from about ten pairs on.
    """
    values = np.asarray(differences, np.float64)
    values = values[values != 0]
    count = values.size
    if count == 0:
        return 1.0
    ranks, ties = _ranks(np.abs(values))
    mean = count * (count + 1) / 4
    variance = count * (count + 1) * (2 * count + 1) / 24 - ties / 48
    return _upper_tail(float(ranks[values > 0].sum()), mean, variance)


def rank_sum(before: npt.ArrayLike, after: npt.ArrayLike) -> float:
    """Mann and Whitney's test: probability of `after` being so far above `before` if both were alike.

    By the normal approximation with correction for ties and continuity, good from about eight values a side on.
    """
    first, second = np.asarray(before, np.float64), np.asarray(after, np.float64)
    n, m = first.size, second.size
    ranks, ties = _ranks(np.concatenate([first, second]))
    above = float(ranks[n:].sum()) - m * (m + 1) / 2
    total = n + m
    variance = n * m / 12 * ((total + 1) - ties / (total * (total - 1)))
    return _upper_tail(above, n * m / 2, variance)


def _upper_tail(statistic: float, mean: float, variance: float) -> float:
    if variance <= 0:
        return 1.0
    return NormalDist().cdf(-(statistic - mean - 0.5) / math.sqrt(variance))


def _ranks(values: Array) -> tuple[Array, float]:
    """Ranks from 1, ties sharing their mean, and the sum over ties of t^3 - t."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Array = (np.cumsum(counts) - (counts - 1) / 2)[group]
    return ranks, float((counts.astype(np.float64) ** 3 - counts).sum())
