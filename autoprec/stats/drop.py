"""The drop of a metric from FP32 to a plan, with a narrower interval than counting changed decisions gives.

With a few hundred labelled samples, the count of lost and won decisions is uncertain by a percentage point or more.
Two facts tell more than the count: by how much each decision was won or lost (its margin), and how many decisions
changed at all, whatever their labels are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from autoprec.stats.intervals import Array, paired_bootstrap
from autoprec.stats.resampling import mean_with_error

PRIOR_SHARE = (0.30, 0.20)
"""The prior of (drop / share of changed decisions): its mean and its standard deviation.

These numbers were chosen, not fitted. In a measurement with a dozen INT8 plans for each of four classifiers and 650 to
1500 labelled samples, the mean of this ratio lay between 0.03 and 0.32 and changed from plan to plan
(tests/benchmarks/drop_interval.py).
"""
# The width of the smoothing in standard deviations of the noise. A wider smoothing gives a smaller variance, but it
# no longer sees how many margins lie close to zero, which is what decides the drop.
_NOISE_WIDTHS = 1.5
_WITHIN = 10  # the smoothing reaches at least this many of the samples nearest to zero, however small the noise is
_LOGISTIC = 1.702  # with this steepness the logistic curve differs from the normal distribution by less than 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """The drop of a metric with its confidence interval, all in the unit of the metric.

    Attributes:
        estimate: the mean drop; a positive value means that the plan is worse than FP32.
        low: the lower end of the interval.
        high: the upper end of the interval.
        samples: the number of samples that the estimate rests on.
        method: how the drop was estimated: "smoothed" from margins, "shrunken" from counted decisions with the
            prior, "counted" as the mean of the scores, "resampled" as the difference of two figures over the samples,
            or "blocks" likewise, computed again without one block of samples each.
    """

    estimate: float
    low: float
    high: float
    samples: int
    method: str

    def certifies(self, bound: float) -> bool:
        """Return whether the whole interval lies within the bound, the largest drop allowed."""
        return self.high <= bound

    def error(self, confidence: float = 0.95) -> float | None:
        """Return the standard error behind an interval of that confidence; None if the interval is infinite."""
        half = (self.high - self.low) / 2
        return half / NormalDist().inv_cdf((1 + confidence) / 2) if math.isfinite(half) else None

    def samples_to_certify(self, bound: float) -> int | None:
        """Return about how many samples would certify the bound if the estimate stayed the same.

        None means that no number of samples would, since the estimate itself exceeds the bound.
        """
        if self.certifies(bound):
            return self.samples
        if not self.estimate < bound:
            return None
        # The width of an interval shrinks with the square root of the number of samples.
        return math.ceil(self.samples * ((self.high - self.estimate) / (bound - self.estimate)) ** 2)


NO_DROP = Drop(estimate=math.inf, low=math.inf, high=math.inf, samples=0, method="counted")
"""The drop of a plan whose outputs are not finite."""


def estimate_drop(
    before: npt.ArrayLike,
    after: npt.ArrayLike,
    higher_is_better: bool,
    *,
    margins: tuple[Array, Array] | None = None,
    changed: float | None = None,
    confidence: float = 0.95,
) -> Drop:
    """Estimate the mean drop of a metric from FP32 to a plan.

    Scores other than 0 and 1 are averaged and get a paired bootstrap interval. For decisions, two steps reduce the
    variance of the count. First, if margins are known, each decision counts by a smooth step over its margin that is
    as wide as the noise of the margins: a margin that shrank counts a little before the decision is lost, and a
    decision that was just lost counts half. Second, the result is averaged with the drop that so many changed
    decisions usually cause, weighted by the inverse variances: a few changed decisions cannot hide a large drop, and
    many of them count even if losses and gains happen to balance (Efron and Morris 1975, "Data Analysis Using
    Stein's Estimator and Its Generalizations").

    Args:
        before: the scores of FP32, float[n].
        after: the scores of the plan for the same samples, float[n].
        higher_is_better: whether a higher score is the better one.
        margins: for decisions, how much FP32 and the plan prefer the right answer, float[n] each; None if unknown.
        changed: the share of samples whose decision differs from FP32's; by default the share of changed scores.
        confidence: the probability with which the interval should cover the true drop.
    """
    first, second = np.asarray(before, np.float64), np.asarray(after, np.float64)
    loss = first - second if higher_is_better else second - first
    count = loss.size
    decisions = bool(np.isin(np.concatenate([first, second]), (0.0, 1.0)).all())
    if count < 2 or not decisions:
        return counted_drop(first, second, higher_is_better, confidence)
    # A plan that changes nothing, such as FP32 itself, drops by exactly 0; the prior below would add uncertainty.
    if not loss.any() and not changed and (margins is None or np.array_equal(*margins)):
        return Drop(estimate=0.0, low=0.0, high=0.0, samples=count, method="counted")
    sample, method = loss, "shrunken"
    if margins is not None:
        sample, method = smoothed_losses(*margins), "smoothed"
    # Zero changes in n samples does not mean that none exist, so we add the variance of a tenth of a decision.
    variance = float(sample.var(ddof=1)) / count + (0.1 / count) ** 2
    share = max(float(np.abs(loss).mean()), changed or 0.0)
    share = (share * count + 0.5) / (count + 1)  # half a pseudo-change, so that the prior is never exactly zero
    usual, spread = PRIOR_SHARE[0] * share, (PRIOR_SHARE[1] * share) ** 2
    weight = spread / (spread + variance)
    estimate = weight * float(sample.mean()) + (1 - weight) * usual
    half = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(weight * variance)
    return Drop(estimate=estimate, low=estimate - half, high=estimate + half, samples=count, method=method)


def counted_drop(before: npt.ArrayLike, after: npt.ArrayLike, higher_is_better: bool, confidence: float = 0.95) -> Drop:
    """Return the plain mean drop with its paired bootstrap interval; the arguments are those of `estimate_drop`."""
    span = paired_bootstrap(before, after, higher_is_better, confidence)
    return Drop(estimate=span.estimate, low=span.low, high=span.high, samples=np.size(before), method="counted")


def set_drop(loss: Array, groups: int, confidence: float = 0.95, *, resampled: bool = True) -> Drop:
    """Return the drop of a figure over a data set.

    Args:
        loss: by how much more each sample contributes to FP32's figure than to the plan's, float64[n].
        groups: the number of independent groups of samples behind the contributions.
        confidence: the probability with which the interval should cover the true drop.
        resampled: whether the figure follows from statistics of samples; else it was computed again by blocks.
    """
    span = mean_with_error(loss, groups, confidence)
    method = "resampled" if resampled else "blocks"
    return Drop(estimate=span.estimate, low=span.low, high=span.high, samples=len(loss), method=method)


def smoothed_losses(before: Array, after: Array) -> Array:
    """Return what each sample adds to the drop if a decision counts by a smooth step over its margin.

    Args:
        before: the margins of FP32, float[n], above 0 where its decision is right.
        after: the margins of the plan, float[n].

    Returns:
        float[n], whose mean is the smoothed drop. The step is 1.5 times as wide as the noise of margins near zero.
    """
    noise = after - before
    nearest = np.sort(np.abs(before))[min(before.size - 1, _WITHIN)]
    width = max(_NOISE_WIDTHS * float(noise.std()), float(nearest), 1e-12)
    # Large margins often carry more noise, but only margins near zero decide. So the noise is estimated again with
    # weights that favour margins within the width, after a weighted regression took out the part of it that is a
    # common shift or shrinking. Four rounds are enough for the width to settle.
    for _ in range(4):
        weights = np.exp(-0.5 * (before / width) ** 2)
        design = np.stack([np.ones_like(before), before / width], axis=1)
        # The small ridge keeps the equations solvable if all weighted margins are equal.
        normal = design.T @ (design * weights[:, None]) + 1e-9 * weights.sum() * np.eye(2)
        shift = np.linalg.solve(normal, design.T @ (noise * weights))
        rest = noise - design @ shift
        width = max(_NOISE_WIDTHS * math.sqrt(float((weights * rest**2).sum() / weights.sum())), float(nearest), 1e-12)
    result: Array = _step(before / width) - _step(after / width)
    return result


def _step(values: Array) -> Array:
    # The logistic function, written with tanh, which cannot overflow for large negative values as exp(-x) does.
    result: Array = 0.5 * (1 + np.tanh(0.5 * _LOGISTIC * values))
    return result
