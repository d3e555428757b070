"""The drop of a metric from FP32 to a plan, with an interval that also uses by how much decisions were won or lost.

With a few hundred labelled samples, the count of lost and won decisions is uncertain by a percentage point or more. The
margins of the decisions tell more than the count, as long as the plan changes few of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from autoprec.stats.intervals import Array, paired_bootstrap
from autoprec.stats.resampling import effective_number, mean_with_error

MOST_CHANGED = 0.05
"""The largest share of changed decisions at which margins are used.

Where more change, the noise of the margins is no longer small beside the margins, and smoothing hides a part of the
drop; the count is certain enough then. Chosen with the networks of tests/benchmarks/drop_interval.py in view, as are
the constants below.
"""
_FARTHEST = 1.5  # smoothed and counted drop may differ by at most this many standard errors of their difference
_COUNTED = 0.35  # the weight of the count in the estimate; the rest is the smoothed drop
_UNSEEN = 0.5  # the standard error is at least this many decisions: what was not seen among n samples may exist
# The smoothing is as wide as the noise of margins near zero, but it reaches at least this many of the samples nearest
# to zero, however small the noise is.
_WITHIN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """The drop of a metric with its confidence interval, all in the unit of the metric.

    Attributes:
        estimate: the mean drop; a positive value means that the plan is worse than FP32.
        low: the lower end of the interval.
        high: the upper end of the interval.
        samples: the number of samples that the estimate rests on.
        method: how the drop was estimated: "smoothed" from margins and the count, "counted" from decisions alone,
            "unfit" likewise because the margins are unfit, "averaged" from scores that are no decisions, "resampled"
            as the difference of two figures over the samples, or "blocks" likewise, computed again without one block
            of samples each.
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
    confidence: float = 0.95,
) -> Drop:
    """Estimate the mean drop of a metric from FP32 to a plan.

    Where margins are known and few decisions changed, the estimate is a mean of two: the count of lost and won
    decisions, and the same count with a smooth step in place of each decision, so that a margin that shrank counts a
    little before the decision is lost. The smoothed one varies less, but it may be biased. So its bias is taken to be
    about as large as the error of the count. Where more than `MOST_CHANGED` of the decisions changed, the count alone
    is used; where the two differ by more than their errors explain, the interval of the count, and of the mean where
    that reaches farther.

    Args:
        before: the scores of FP32, float[n].
        after: the scores of the plan for the same samples, float[n].
        higher_is_better: whether a higher score is the better one.
        margins: for decisions, how much FP32 and the plan prefer the right answer, float[n] each; None if unknown.
        confidence: the probability with which the interval should cover the true drop.
    """
    counted = counted_drop(before, after, higher_is_better, confidence)
    if counted.method == "averaged" or margins is None or counted.samples < 2:
        return counted
    first, second = np.asarray(before, np.float64), np.asarray(after, np.float64)
    loss, count = first - second if higher_is_better else second - first, counted.samples
    if np.array_equal(*margins):  # a plan that changes nothing, such as FP32 itself
        return Drop(estimate=0.0, low=0.0, high=0.0, samples=count, method="counted") if not loss.any() else counted
    if not np.isfinite(margins).all() or np.abs(loss).mean() > MOST_CHANGED:
        return replace(counted, method="unfit")
    smooth = smoothed_losses(*margins)
    sample, apart = blended(loss, smooth), loss - smooth
    # Where no decision changed, the spread of `apart` does not show how many could have.
    spread = max(float(apart.var(ddof=1)), 0.5 * float(np.abs(smooth).mean()))
    unexplained, unseen = spread / count, (_UNSEEN / count) ** 2
    # The estimate keeps this share of the bias of the smoothed drop, which may be as large as the count's error.
    bias = _COUNTED * (1 - _COUNTED) * unexplained
    error = math.sqrt(float(sample.var(ddof=1)) / count + bias + unseen)
    estimate, half = float(sample.mean()), NormalDist().inv_cdf((1 + confidence) / 2) * error
    low, high = estimate - half, estimate + half
    if float(apart.mean()) ** 2 > _FARTHEST**2 * (unexplained + unseen):
        return replace(counted, low=min(low, counted.low), high=max(high, counted.high), method="unfit")
    return Drop(estimate=estimate, low=low, high=high, samples=count, method="smoothed")


def counted_drop(before: npt.ArrayLike, after: npt.ArrayLike, higher_is_better: bool, confidence: float = 0.95) -> Drop:
    """Return the plain mean drop; the arguments are those of `estimate_drop`.

    Decisions, scores of 0 and 1, get the adjusted Wald interval of paired proportions: one more lost and one more won
    decision among two more samples, so that it has a width where no decision changed (Bonett and Price 2012,
    "Adjusted Wald Confidence Interval for a Difference of Binomial Proportions Based on Paired Data", Journal of
    Educational and Behavioral Statistics 37). Other scores get a paired bootstrap interval.
    """
    first, second = np.asarray(before, np.float64), np.asarray(after, np.float64)
    count, decisions = first.size, bool(np.isin(np.concatenate([first, second]), (0.0, 1.0)).all())
    if not decisions or count < 2:
        span = paired_bootstrap(first, second, higher_is_better, confidence)
        return Drop(estimate=span.estimate, low=span.low, high=span.high, samples=count, method="averaged")
    loss = first - second if higher_is_better else second - first
    lost, won = (int((loss == sign).sum()) for sign in (1.0, -1.0))
    more, fewer = (lost + 1) / (count + 2), (won + 1) / (count + 2)
    middle, variance = more - fewer, (more + fewer - (more - fewer) ** 2) / (count + 2)
    half = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(variance)
    estimate, low, high = (lost - won) / count, max(middle - half, -1.0), min(middle + half, 1.0)
    return Drop(estimate=estimate, low=min(low, estimate), high=max(high, estimate), samples=count, method="counted")


def blended(loss: Array, smooth: Array) -> Array:
    """Return what each sample adds to the estimate, float64[n].

    Args:
        loss: what each adds to the counted drop, float64[n].
        smooth: what each adds to the smoothed drop, float64[n].
    """
    result: Array = _COUNTED * loss + (1 - _COUNTED) * smooth
    return result


def set_drop(
    loss: Array, groups: int, confidence: float = 0.95, *, effect: float = 0.0, method: str = "resampled"
) -> Drop:
    """Return the drop of a figure over a data set.

    Args:
        loss: by how much more each sample contributes to FP32's figure than to the plan's, float64[n].
        groups: the number of independent groups of samples behind the contributions.
        confidence: the probability with which the interval should cover the true drop.
        effect: how much the contribution of a sample could change, see `mean_with_error`.
        method: how the contributions were found, see `Drop`.
    """
    span = mean_with_error(loss, groups, confidence, effect)
    return Drop(estimate=span.estimate, low=span.low, high=span.high, samples=len(loss), method=method)


def smoothed_set_drop(counted: Drop, loss: Array, smooth: Array, confidence: float) -> Drop:
    """Return the drop of a figure of decisions, of which each counts by a smooth step too; see `estimate_drop`.

    Args:
        counted: the drop without smoothing.
        loss: by how much more each sample contributes to FP32's figure than to the plan's, float64[n].
        smooth: the same where each decision counts by a smooth step, float64[n].
        confidence: the probability with which the interval should cover the true drop.
    """
    count = len(loss)
    if count < 2 or effective_number(loss) > MOST_CHANGED * count:
        return counted
    apart, sample = loss - smooth, blended(loss, smooth)
    spread = max(float(apart.var(ddof=1)), 0.5 * float(np.square(smooth).mean()))
    bias = _COUNTED * (1 - _COUNTED) * spread / count
    error = math.sqrt(float(sample.var(ddof=1)) / count + bias + (_UNSEEN / count) ** 2)
    estimate, half = float(sample.mean()), NormalDist().inv_cdf((1 + confidence) / 2) * error
    low, high = estimate - half, estimate + half
    if float(apart.mean()) ** 2 > _FARTHEST**2 * (spread / count + (_UNSEEN / count) ** 2):
        return replace(counted, low=min(low, counted.low), high=max(high, counted.high))
    return Drop(estimate=estimate, low=low, high=high, samples=count, method="smoothed")


def smoothed_losses(before: Array, after: Array) -> Array:
    """Return what each sample adds to the drop if a decision counts by a smooth step over its margin.

    Args:
        before: the margins of FP32, float[n], above 0 where its decision is right.
        after: the margins of the plan, float[n].

    Returns:
        float[n], whose mean is the smoothed drop. The step is as wide as the noise of margins near zero.
    """
    noise = after - before
    nearest = np.sort(np.abs(before))[min(before.size - 1, _WITHIN)]
    width = max(float(noise.std()), float(nearest), 1e-12)
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
        width = max(math.sqrt(float((weights * rest**2).sum() / weights.sum())), float(nearest), 1e-12)
    result: Array = _step(before / width) - _step(after / width)
    return result


def _step(values: Array) -> Array:
    # The integral of the Gaussian kernel of fourth order, whose smoothing leaves slopes and bends of a density as they
    # are (Wand and Schucany 1990, "Gaussian-based kernels"). The normal distribution is written with tanh, which
    # cannot overflow and differs from it by less than 0.001.
    far = np.clip(values, -12.0, 12.0)
    normal = 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (far + 0.044715 * far**3)))
    result: Array = normal + 0.5 * far * np.exp(-0.5 * far**2) / math.sqrt(2 * math.pi)
    return result
