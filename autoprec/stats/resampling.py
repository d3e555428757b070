"""Figures over a data set that are no means: what each sample contributes, and how uncertain a difference is."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from autoprec.stats.intervals import Array, Interval

MOST_GROUPS = 256
"""The most groups of samples that are left out one after the other, so that a large data set does not take longer."""
_FEWEST_GROUPS = 32
_LEAVING_OUT = 4e7
"""About how many statistics may be summed for the contributions of one model."""
_DRAWING = 1e8
"""About how many statistics may be summed for the draws of one bootstrap."""
_DRAWS = (200, 2000)
_LEAST_FREEDOM = 4.0
_CHUNK = 1 << 20
"""How many weighted statistics are held at a time."""


def contributions_of(figures: Callable[[Array], Array], samples: int, size: int) -> tuple[Array, int]:
    """Return what each sample contributes to a figure, float64[samples], and the number of independent groups.

    One group of samples at a time is left out, a single sample where there are few. The mean of the contributions is
    the figure, and their variance over the number of samples is the variance of the figure.

    Args:
        figures: weights float64[draws, samples] -> the figure of each draw.
        samples: the number of samples.
        size: the number of statistics of all samples, which says how long one figure takes.
    """
    groups = min(samples, max(_FEWEST_GROUPS, min(MOST_GROUPS, int(_LEAVING_OUT / max(size, 1)))))
    member = np.arange(samples) % groups
    weights = (member[None, :] != np.arange(groups)[:, None]).astype(np.float64)
    full = float(figures(np.ones((1, samples)))[0])
    if groups < 2:
        return np.full(samples, full), groups
    left_out = in_chunks(figures, weights, size)
    return spread_over(full, left_out, member), groups


def spread_over(full: float, left_out: Array, member: npt.NDArray[np.int64]) -> Array:
    """Return what each sample contributes, from figures without one group of samples each.

    Args:
        full: the figure of all samples.
        left_out: the figures without each group, float64[groups].
        member: the group of each sample, int64[samples].
    """
    groups, sizes = len(left_out), np.bincount(member, minlength=len(left_out))
    pseudo = (groups - 1) * (left_out.mean() - left_out)
    # A sample stands for its whole group. Its deviation is that of a group's mean, which is smaller than that of one
    # sample by the square root of the group's size.
    deviation = (pseudo * np.sqrt(sizes))[member]
    result: Array = full + deviation - deviation.mean()
    return result


def in_chunks(figures: Callable[[Array], Array], weights: Array, size: int) -> Array:
    """Return the figure of each row of weights; few rows at a time, so that the memory stays bounded."""
    rows = max(1, _CHUNK // max(size, 1))
    return np.concatenate([figures(weights[start : start + rows]) for start in range(0, len(weights), rows)])


def drawn_differences(difference: Callable[[Array], Array], samples: int, size: int, seed: int = 0) -> Array:
    """Return the difference of two figures in each draw of a bootstrap over samples, float64[draws].

    Both figures get the same weights, so that each sample keeps its pair of statistics.

    Args:
        difference: weights float64[draws, samples] -> the difference of each draw.
        samples: the number of samples.
        size: the number of statistics of all samples on both sides.
        seed: the seed of the draws.
    """
    generator = np.random.default_rng(seed)
    draws = int(np.clip(_DRAWING / max(size, 1), *_DRAWS))
    weights = generator.multinomial(samples, np.full(samples, 1 / samples), size=draws).astype(np.float64)
    return in_chunks(difference, weights, size)


def effective_number(values: Array) -> float:
    """Return how many values of one size would scatter as these do: small ones hardly count, zeros not at all."""
    squares = float(np.square(values).sum())
    return float(np.abs(values).sum()) ** 2 / squares if squares > 0 else 0.0


def effect_of(contributions: Array) -> float:
    """Return how much the contribution of a sample could change: as much as the largest deviation among the samples.

    Where all samples contribute the same, such as right decisions alone, it is that contribution.
    """
    middle = float(contributions.mean())
    largest = float(np.abs(contributions - middle).max())
    return largest if largest > 1e-9 * abs(middle) else abs(middle)


def mean_with_error(values: Array, groups: int, confidence: float, effect: float = 0.0) -> Interval:
    """Return the mean of contributions, or of differences of such, with its interval by Student's distribution.

    That nothing changed among n samples does not mean that nothing ever does. So one more change is allowed for, of the
    size of those that were seen, or of `effect` where none was: it counts for nothing where most samples changed.

    Args:
        values: float64[n].
        groups: the number of independent groups behind them, at least 2.
        confidence: the probability with which the interval should cover the true mean.
        effect: how much the contribution of a sample could change.
    """
    from scipy.special import stdtrit

    estimate = float(values.mean())
    if groups < 2:
        return Interval(estimate, -math.inf, math.inf)
    changed = effective_number(values)
    unchanged = 1 - changed / len(values)
    unseen = 0.0
    if unchanged > 0:
        unseen = unchanged * (float(np.square(values).sum()) + unchanged * effect**2) / (changed + unchanged)
    squares = float(np.square(values - estimate).sum()) + unseen
    error = math.sqrt(squares / len(values) ** 2 * groups / (groups - 1))
    # So few changes say little about their own spread. Without any, the interval is nearly that of the rule of three.
    freedom = min(groups - 1.0, max(changed, _LEAST_FREEDOM))
    half = float(stdtrit(freedom, (1 + confidence) / 2)) * error
    return Interval(estimate, estimate - half, estimate + half)
