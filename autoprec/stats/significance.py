"""Tests of whether two sets of scores or timings differ, with the size of the difference.

They use NumPy alone, so that the gate and its pytest plugin need not load scipy.stats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from autoprec.stats.intervals import Array, Interval, paired_bootstrap, shared_ranks

ALPHA = 0.01
"""The significance level: a loss that chance produces more rarely than this counts as real.

Only a change for the worse matters to a gate, so all tests are one-sided.
"""
_FLIPS = 9999  # with the observed signs that makes 10000 assignments, so the smallest possible p is 1 / 10000


class SignificanceTest(str, Enum):
    """The test by which two sets of scores are compared."""

    MCNEMAR = "McNemar"
    SIGN_FLIPS = "sign flips"
    SWAPS = "swapped samples"
    STUDENT = "Student's test over blocks"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The result of a paired comparison.

    Attributes:
        change: the mean loss with its 95 % interval; a value above 0 means that the later scores are worse.
        p: the probability that chance alone produces so large a loss or a larger one.
        samples: the number of pairs.
        lost: the number of pairs that got worse.
        won: the number of pairs that got better.
        test: the test that gave `p`.
    """

    change: Interval
    p: float
    samples: int
    lost: int
    won: int
    test: SignificanceTest

    @property
    def different(self) -> bool:
        """Whether the loss is significant at the level `ALPHA`."""
        return self.p < ALPHA


def compare_scores(before: Array, after: Array, higher_is_better: bool) -> Compared:
    """Compare the scores of the same samples before and after a change, both float[n] and finite.

    Scores of 0 and 1 are compared by McNemar's exact test (McNemar 1947). Other scores are compared by flipping the
    signs of the paired differences at random (Fisher 1935), which is valid for any distribution that is symmetric.
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
            test=SignificanceTest.MCNEMAR,
        )
    span = paired_bootstrap(before, after, higher_is_better)
    return Compared(
        change=span,
        p=sign_flips(loss),
        samples=loss.size,
        lost=lost,
        won=won,
        test=SignificanceTest.SIGN_FLIPS,
    )


def mcnemar(lost: int, won: int) -> float:
    """Return the exact probability of at least `lost` losses among the changed decisions.

    The null hypothesis is that a changed decision is as likely a loss as a win.
    """
    changed = lost + won
    tail = sum(math.comb(changed, k) for k in range(lost, changed + 1))
    return float(Fraction(tail, 2**changed))  # exact integers: for many decisions 2**changed exceeds any float


def paired_decisions(lost: int, won: int, samples: int, confidence: float = 0.95) -> Interval:
    """Return the difference of two paired proportions, with an interval that has a width even if nothing changed.

    Half an observation is added to each of the four cells of the table of outcomes (Agresti and Min 2005, "Simple
    improved confidence intervals for comparing matched proportions").
    """
    half = NormalDist().inv_cdf((1 + confidence) / 2)
    a, b, n = lost + 0.5, won + 0.5, samples + 2
    centre, spread = (a - b) / n, math.sqrt((a + b) - (a - b) ** 2 / n) / n
    return Interval((lost - won) / samples, max(centre - half * spread, -1.0), min(centre + half * spread, 1.0))


def sign_flips(losses: Array, seed: int = 0) -> float:
    """Return the probability of so large a mean loss if each difference were as likely to have the other sign.

    Args:
        losses: the differences, float[n], above 0 where the later score is worse.
        seed: the seed of the random signs.
    """
    changed = losses[losses != 0]
    if not changed.size or changed.sum() <= 0:
        return 1.0
    generator = np.random.default_rng(seed)
    total, hits = float(changed.sum()), 0
    rows = max(1, (1 << 20) // changed.size)  # bounds the memory of the signs to about a million at a time
    for start in range(0, _FLIPS, rows):
        signs = generator.integers(0, 2, (min(rows, _FLIPS - start), changed.size)) * 2 - 1
        # The tolerance counts sums that are equal but for rounding as equal.
        hits += int((signs @ changed >= total * (1 - 1e-12)).sum())
    return (hits + 1) / (_FLIPS + 1)


def upper_t(change: Interval, groups: int) -> float:
    """Return the probability of so large a loss by Student's test.

    Args:
        change: the loss with its 95 % interval by Student's distribution.
        groups: the number of independent groups behind it.
    """
    from scipy.special import stdtr, stdtrit

    if groups < 2 or change.estimate <= 0:
        return 1.0
    error = (change.high - change.estimate) / float(stdtrit(groups - 1, 0.975))
    return float(stdtr(groups - 1, -change.estimate / error)) if error > 0 else 0.0


def signed_ranks(differences: npt.ArrayLike) -> float:
    """Return the p-value of Wilcoxon's signed-rank test that the differences, float[n], tend to be above 0.

    It uses the normal approximation with corrections for ties and continuity, which is good from about ten pairs on.
    """
    values = np.asarray(differences, np.float64)
    values = values[values != 0]
    count = values.size
    if count == 0:
        return 1.0
    ranks, ties = _ranks_and_ties(np.abs(values))
    mean = count * (count + 1) / 4
    variance = count * (count + 1) * (2 * count + 1) / 24 - ties / 48
    return _upper_tail(float(ranks[values > 0].sum()), mean, variance)


def rank_sum(before: npt.ArrayLike, after: npt.ArrayLike) -> float:
    """Return the p-value of the Mann-Whitney test that `after`, float[m], tends to be above `before`, float[n].

    It uses the normal approximation with corrections for ties and continuity, which is good from about eight values
    on each side.
    """
    first, second = np.asarray(before, np.float64), np.asarray(after, np.float64)
    n, m = first.size, second.size
    ranks, ties = _ranks_and_ties(np.concatenate([first, second]))
    above = float(ranks[n:].sum()) - m * (m + 1) / 2
    total = n + m
    variance = n * m / 12 * ((total + 1) - ties / (total * (total - 1)))
    return _upper_tail(above, n * m / 2, variance)


def _upper_tail(statistic: float, mean: float, variance: float) -> float:
    """Return the probability of a value of at least `statistic`; the 0.5 is the continuity correction."""
    if variance <= 0:  # all values are equal, so there is no evidence of a difference
        return 1.0
    return NormalDist().cdf(-(statistic - mean - 0.5) / math.sqrt(variance))


def _ranks_and_ties(values: Array) -> tuple[Array, float]:
    """Return the ranks and the sum of t**3 - t over groups of t equal values, which reduces the variance."""
    ranks, sizes = shared_ranks(values)
    return ranks, float((sizes**3 - sizes).sum())
