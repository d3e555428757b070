"""Statistics of paired scores and interleaved timings; pure NumPy, no input or output."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_CHUNK_ELEMENTS = 1 << 20
"""Resampled values held at once, 8 MiB of float64: memory does not grow with samples times resamples."""

_NORMAL_CONSISTENCY = 1.482602218505602
"""1 / quantile(3/4) of the standard normal: makes the MAD estimate a normal's standard deviation."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the confidence interval round it."""

    estimate: float
    low: float
    high: float


def paired_bootstrap(
    reference_scores: npt.ArrayLike,
    scores: npt.ArrayLike,
    higher_is_better: bool,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The mean drop from reference to candidate, positive where the candidate is worse.

    Percentile interval over resampled samples, each kept with its pair: Efron and Tibshirani, An
    Introduction to the Bootstrap (1993), chapters 8 and 13. Where no sample changed, the interval is [0,
    0]; by the rule of three, 95 % confidence then still allows changes in up to 3 / n of all samples.

    Args:
        reference_scores: float[n], one score per sample.
        scores: float[n], of the same samples in the same order.
        higher_is_better: the direction of the scores.
        confidence: the share of intervals that should cover the true drop.
        resamples: bootstrap resamples.
        seed: of the resampling; equal seeds give equal intervals.

    Raises:
        ValueError: there are no scores, or not one candidate score per reference score.
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
    """The median.

    Raises:
        ValueError: there are no values.
    """
    return float(np.median(_values(values)))


def mad(values: npt.ArrayLike) -> float:
    """A robust standard deviation: the median absolute deviation from the median, times 1.4826.

    For normal values it estimates the standard deviation; up to half of the values may be outliers.
    Rousseeuw and Croux, Alternatives to the Median Absolute Deviation, JASA 88 (1993).

    Raises:
        ValueError: there are no values.
    """
    array = _values(values)
    return _NORMAL_CONSISTENCY * float(np.median(np.abs(array - np.median(array))))


def spearman(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Spearman's rank correlation: Pearson's correlation of the ranks, ties sharing their mean rank.

    NaN where there are fewer than two pairs or one side is constant. Spearman, The Proof and Measurement of
    Association between Two Things, American Journal of Psychology 15 (1904).

    Raises:
        ValueError: there are no values, or not one y per x.
    """
    ranks = [_ranks(side) - (len(side) + 1) / 2 for side in _pair(x, y)]
    norm = np.sqrt(np.prod([np.square(side).sum() for side in ranks]))
    return float(np.dot(*ranks) / norm) if norm > 0 else float("nan")


def ratio_of_medians(
    baseline_ms: npt.ArrayLike,
    candidate_ms: npt.ArrayLike,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The candidate's median time over the baseline's: below 1 is faster.

    Times come from interleaved rounds: in round i both were measured one after the other, so a drift of the
    clock hits both. The bootstrap therefore resamples rounds, not single times (a block bootstrap: Künsch,
    The Jackknife and the Bootstrap for General Stationary Observations, Annals of Statistics 17, 1989).

    Args:
        baseline_ms: float[rounds] or float[rounds, repeats], above 0.
        candidate_ms: the same rounds; the number of repeats may differ.
        confidence: the share of intervals that should cover the true ratio.
        resamples: bootstrap resamples.
        seed: of the resampling; equal seeds give equal intervals.

    Raises:
        ValueError: there are no rounds, their numbers differ, or a time is not above 0.
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
    """The coefficient of determination: 1 minus squared error over the measured values' own spread.

    1 is a perfect prediction, 0 no better than the mean of `measured`, below 0 worse than that; NaN where all
    measured values are equal.

    Raises:
        ValueError: there are no values, or not one prediction per measured value.
    """
    truth, guess = _pair(measured, predicted)
    spread = np.square(truth - truth.mean()).sum()
    return float(1 - np.square(truth - guess).sum() / spread) if spread > 0 else float("nan")


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


def _ranks(values: Array) -> Array:
    """Ranks from 1, ties sharing their mean rank."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: Array = (last - (counts - 1) / 2)[group]
    return shared


def _chunks(resamples: int, elements: int) -> list[int]:
    """Resamples per chunk, so that a chunk holds about `_CHUNK_ELEMENTS` values."""
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
