"""Estimates and confidence intervals for paired scores and for interleaved timings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
"""The arrays of this package; all statistics are computed in float64."""

# How many resampled values are held at a time: 8 MiB of float64. The memory of a bootstrap then does not grow with
# samples times resamples.
_CHUNK_ELEMENTS = 1 << 20

# 1 / quantile(3/4) of the standard normal distribution: this factor makes the median absolute deviation an estimate
# of the standard deviation for normal values.
_NORMAL_CONSISTENCY = 1.482602218505602


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the ends of its confidence interval, all in the unit of the estimate."""

    estimate: float
    low: float
    high: float


def paired_bootstrap(
    reference_scores: npt.ArrayLike,
    scores: npt.ArrayLike,
    higher_is_better: bool,
    confidence: float = 0.95,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the mean drop from reference to candidate, which is positive if the candidate is worse.

    The interval is a percentile interval over resampled samples, each of which keeps its pair of scores (Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13). If no sample changed, the interval is
    [0, 0], which is too narrow: by the rule of three, 95 % confidence still allows changes in 3 / n of all samples.

    Args:
        reference_scores: the score of each sample under the reference, float[n].
        scores: the scores of the candidate for the same samples in the same order, float[n].
        higher_is_better: whether a higher score is the better one.
        confidence: the share of intervals that should cover the true drop.
        resamples: the number of bootstrap resamples.
        seed: the seed of the resampling; equal seeds give equal intervals.

    Raises:
        ValueError: there are no scores, the numbers of scores differ, or an option is out of range.
    """
    before, after = _pair(reference_scores, scores)
    drops = before - after if higher_is_better else after - before
    generator = np.random.default_rng(seed)
    means = [
        drops[generator.integers(0, len(drops), (rows, len(drops)))].mean(axis=1)
        for rows in _chunks(resamples, len(drops))
    ]
    return _interval(float(drops.mean()), np.concatenate(means), confidence)


def median(values: npt.ArrayLike) -> float:
    """Return the median as a float.

    Raises:
        ValueError: there are no values.
    """
    return float(np.median(_values(values)))


def mad(values: npt.ArrayLike) -> float:
    """Return a robust standard deviation: the median absolute deviation from the median, times 1.4826.

    For normal values it estimates the standard deviation, and up to half of the values may be outliers (Rousseeuw
    and Croux, Alternatives to the Median Absolute Deviation, JASA 88, 1993).

    Raises:
        ValueError: there are no values.
    """
    array = _values(values)
    return _NORMAL_CONSISTENCY * float(np.median(np.abs(array - np.median(array))))


def spearman(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Return Spearman's rank correlation, which is Pearson's correlation of the ranks.

    The result is NaN if there are fewer than two pairs or if one side is constant (Spearman, The Proof and
    Measurement of Association between Two Things, American Journal of Psychology 15, 1904).

    Raises:
        ValueError: there are no values, or not one y for each x.
    """
    ranks = [shared_ranks(side)[0] - (len(side) + 1) / 2 for side in _pair(x, y)]
    norm = np.sqrt(np.prod([np.square(side).sum() for side in ranks]))
    return float(np.dot(*ranks) / norm) if norm > 0 else float("nan")


def ratio_of_medians(
    baseline_ms: npt.ArrayLike,
    candidate_ms: npt.ArrayLike,
    confidence: float = 0.95,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the candidate's median time divided by the baseline's; a ratio below 1 means that it is faster.

    The times come from interleaved rounds: in round i both were measured one after the other, so a change of the
    clock rate affects both. The bootstrap therefore resamples whole rounds, not single times (a block bootstrap:
    Künsch, The Jackknife and the Bootstrap for General Stationary Observations, Annals of Statistics 17, 1989).

    Args:
        baseline_ms: the times of the baseline in milliseconds, float[rounds] or float[rounds, repeats].
        candidate_ms: the times of the candidate in the same rounds; the number of repeats may differ.
        confidence: the share of intervals that should cover the true ratio.
        resamples: the number of bootstrap resamples.
        seed: the seed of the resampling; equal seeds give equal intervals.

    Raises:
        ValueError: there are no rounds, their numbers differ, a time is not above 0, or an option is out of range.
    """
    baseline, candidate = (_rounds(times) for times in (baseline_ms, candidate_ms))
    if len(baseline) != len(candidate):
        raise ValueError(f"both sides must have the same rounds, got {len(baseline)} and {len(candidate)}")
    generator = np.random.default_rng(seed)
    ratios = []
    for rows in _chunks(resamples, baseline.size + candidate.size):
        picks = generator.integers(0, len(baseline), (rows, len(baseline)))
        medians = [np.median(side[picks].reshape(rows, -1), axis=1) for side in (candidate, baseline)]
        ratios.append(medians[0] / medians[1])
    estimate = float(np.median(candidate) / np.median(baseline))
    return _interval(estimate, np.concatenate(ratios), confidence)


def r2(measured: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Return the coefficient of determination: 1 minus squared error over the variance of the measured values.

    A perfect prediction has 1. A prediction that is no better than the mean of `measured` has 0, and a worse one is
    below 0. The result is NaN if all measured values are equal.

    Raises:
        ValueError: there are no values, or not one prediction for each measured value.
    """
    truth, guess = _pair(measured, predicted)
    spread = np.square(truth - truth.mean()).sum()
    return float(1 - np.square(truth - guess).sum() / spread) if spread > 0 else float("nan")


def shared_ranks(values: Array) -> tuple[Array, Array]:
    """Return the rank of each value, counted from 1, and the size of each group of equal values.

    Equal values share the mean of their ranks, as rank tests demand.
    """
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Array = (np.cumsum(counts) - (counts - 1) / 2)[group]
    return ranks, counts.astype(np.float64)


def _values(values: npt.ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError("there must be at least one value")
    return array


def _pair(x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Array, Array]:
    left, right = _values(x), _values(y)
    if left.ndim != 1 or left.shape != right.shape:
        raise ValueError(f"both sides must be lists of the same length, got shapes {left.shape} and {right.shape}")
    return left, right


def _rounds(times_ms: npt.ArrayLike) -> Array:
    array = _values(times_ms)
    if not (array > 0).all():
        raise ValueError("every time must be above 0")
    return array.reshape(len(array), -1)


def _chunks(resamples: int, elements: int) -> list[int]:
    """Return how many resamples each chunk makes, so that a chunk holds about `_CHUNK_ELEMENTS` values."""
    if resamples < 1:
        raise ValueError(f"there must be at least 1 resample, got {resamples}")
    size = max(1, _CHUNK_ELEMENTS // elements)
    full, rest = divmod(resamples, size)
    return [size] * full + [rest] * (rest > 0)


def _interval(estimate: float, statistics: Array, confidence: float) -> Interval:
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence must lie between 0 and 1, got {confidence}")
    tail = (1 - confidence) / 2
    low, high = np.quantile(statistics, [tail, 1 - tail])
    return Interval(estimate, float(low), float(high))
