"""How much a metric dropped, known better than by counting changed decisions.

A few hundred labelled samples give a count of lost and won decisions that is uncertain by a point or more. Two
things are known beyond the count: by how much each decision was won or lost (its margin), and how many decisions
changed at all, whatever their labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from autoprec.stats.intervals import paired_bootstrap

Array = npt.NDArray[np.float64]

PRIOR_SHARE = (0.30, 0.20)
"""Mean and deviation of (drop / share of changed decisions) before a plan's own labels are looked at.

A choice, not a fit: the mean of this ratio over a dozen INT8 plans each of four classifiers, with 650 to 1500
labelled samples, lay between 0.03 and 0.32 and changed with the plans (tests/benchmarks/drop_interval.py).
"""
_NOISE_WIDTHS = 1.5  # wider smoothing is steadier, but no longer sees how the margins bunch close to zero
_WITHIN = 10  # samples that the smoothing must reach, however small the noise
_LOGISTIC = 1.702  # a logistic curve of this steepness is the normal distribution function within 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """The drop of a metric with its interval.

    Attributes:
        estimate: positive = worse.
        low: end of the interval.
        high: end of the interval.
        samples: that it rests on.
        method: "smoothed" from margins, "shrunken" from counted decisions, or "counted" from scores as they are.
    """

    estimate: float
    low: float
    high: float
    samples: int
    method: str

    def certifies(self, bound: float) -> bool:
        """Whether the whole interval meets the bound."""
        return self.high <= bound

    def error(self, confidence: float = 0.95) -> float | None:
        """The standard error that the interval of that confidence comes from; None where nothing is known."""
        half = (self.high - self.low) / 2
        return half / NormalDist().inv_cdf((1 + confidence) / 2) if math.isfinite(half) else None

    def samples_to_certify(self, bound: float) -> int | None:
        """About how many samples would certify the bound if the estimate stayed; None where none would."""
        if self.certifies(bound):
            return self.samples
        if not self.estimate < bound:
            return None
        return math.ceil(self.samples * ((self.high - self.estimate) / (bound - self.estimate)) ** 2)


def estimate_drop(
    before: npt.ArrayLike,
    after: npt.ArrayLike,
    higher_is_better: bool,
    *,
    margins: tuple[Array, Array] | None = None,
    changed: float | None = None,
    confidence: float = 0.95,
) -> Drop:
    """The mean drop of a metric from FP32 to a plan.

    Scores other than 0 and 1 are averaged, with a paired bootstrap interval. For decisions the count is made
    steadier twice. With margins, each decision counts by a smooth step over its margin that is as wide as the
    noise of the margins, so that a margin that shrank counts before it is lost, and one lost by a hair counts
    half (a control variate with the labels' own information). Then the result is averaged with what so many
    changed decisions usually cost, by inverse variances: few changes cannot hide a large drop, and many cannot be
    outweighed by a lucky balance of them. Efron and Morris 1975, "Data Analysis Using Stein's Estimator and Its
    Generalizations".

    Args:
        before: FP32's scores, float[n].
        after: the plan's, of the same samples.
        higher_is_better: the direction of the scores.
        margins: for decisions, by how much FP32 and the plan prefer the right answer, each float[n].
        changed: share of samples whose decision differs from FP32's; by default that of changed scores.
        confidence: of the interval.
    """
    first, second = np.asarray(before, np.float64), np.asarray(after, np.float64)
    loss = first - second if higher_is_better else second - first
    count = loss.size
    decisions = bool(np.isin(np.concatenate([first, second]), (0.0, 1.0)).all())
    if count < 2 or not decisions:
        return counted_drop(first, second, higher_is_better, confidence)
    if not loss.any() and not changed and (margins is None or np.array_equal(*margins)):
        return Drop(estimate=0.0, low=0.0, high=0.0, samples=count, method="counted")
    sample, method = loss, "shrunken"
    if margins is not None:
        sample, method = smoothed_losses(*margins), "smoothed"
    # No change seen in n samples leaves some unseen: one of a tenth of a decision is added to the error.
    variance = float(sample.var(ddof=1)) / count + (0.1 / count) ** 2
    share = max(float(np.abs(loss).mean()), changed or 0.0)
    share = (share * count + 0.5) / (count + 1)
    usual, spread = PRIOR_SHARE[0] * share, (PRIOR_SHARE[1] * share) ** 2
    weight = spread / (spread + variance)
    estimate = weight * float(sample.mean()) + (1 - weight) * usual
    half = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(weight * variance)
    return Drop(estimate=estimate, low=estimate - half, high=estimate + half, samples=count, method=method)


def counted_drop(before: npt.ArrayLike, after: npt.ArrayLike, higher_is_better: bool, confidence: float = 0.95) -> Drop:
    """The mean drop with its paired bootstrap interval, and nothing else."""
    span = paired_bootstrap(before, after, higher_is_better, confidence)
    return Drop(estimate=span.estimate, low=span.low, high=span.high, samples=np.size(before), method="counted")


def smoothed_losses(before: Array, after: Array) -> Array:
    """What each sample adds to the drop when a decision counts by a smooth step over its margin.

    Args:
        before: FP32's margins, float[n], above 0 where it is right.
        after: the plan's.

    Returns:
        float[n]; their mean is the drop, smoothed over 1.5 times the noise that margins near zero have.
    """
    noise = after - before
    nearest = np.sort(np.abs(before))[min(before.size - 1, _WITHIN)]
    width = max(_NOISE_WIDTHS * float(noise.std()), float(nearest), 1e-12)
    for _ in range(4):
        weights = np.exp(-0.5 * (before / width) ** 2)
        design = np.stack([np.ones_like(before), before / width], axis=1)
        normal = design.T @ (design * weights[:, None]) + 1e-9 * weights.sum() * np.eye(2)
        shift = np.linalg.solve(normal, design.T @ (noise * weights))
        rest = noise - design @ shift
        width = max(_NOISE_WIDTHS * math.sqrt(float((weights * rest**2).sum() / weights.sum())), float(nearest), 1e-12)
    result: Array = _step(before / width) - _step(after / width)
    return result


def _step(values: Array) -> Array:
    result: Array = 0.5 * (1 + np.tanh(0.5 * _LOGISTIC * values))
    return result
