"""Bounds on a drop that cannot be meant, and samples that are too few to say anything about one."""

from __future__ import annotations

import math

import numpy as np

from autoprec.errors import UsageError
from autoprec.metrics.metric import Metric
from autoprec.precision import Array

_SHARES = ("top1", "agreement", "cosine", "map", "map50", "miou", "f1", "macro-accuracy", "edit-similarity")
_MANY_POINTS = 0.2
"""A larger bound on a score between 0 and 1 is rarely meant: it is mostly a number of percentage points."""
_TIMES = 10.0
_FEWEST = 4
"""With fewer samples to select or to report with, one sample decides everything."""
_FEW = 16


def told_in_points(name: str) -> bool:
    """Whether people tell a drop of the metric of that name in percentage points: it is a share of samples or so."""
    return name != "cosine" and (name in _SHARES or name.partition("@")[0] == "recall")


def refuse_points(metric: Metric) -> None:
    """Refuse a bound in percentage points for a metric that is no share.

    Raises:
        UsageError: it is none, as far as autoprec knows.
    """
    if not (metric.built_in and told_in_points(metric.name)):
        raise UsageError(
            f"--max-drop must be a plain number in the unit of {metric.name}, as percentage points are for metrics "
            f"that are shares of samples, such as top1"
        )


def bound_text(name: str, max_drop: float) -> str:
    """A bound on the drop in words, so that nobody is wrong by a factor of 100."""
    if math.isinf(max_drop):
        return f"{name} may drop by any amount"
    many = "" if 100 * max_drop == 1 else "s"
    points = f" ({100 * max_drop:g} percentage point{many})" if told_in_points(name) else ""
    return f"{name} may drop by at most {max_drop:g}{points}"


def refuse_bound(metric: Metric, max_drop: float) -> None:
    """Refuse a bound that no drop of a built-in metric can exceed.

    Raises:
        UsageError: the metric lies between 0 and 1, and the bound is finite and above 1.
    """
    if metric.built_in and metric.name in _SHARES and 1 < max_drop < math.inf:
        raise UsageError(
            f"--max-drop must be at most 1 for the metric {metric.name}, which lies between 0 and 1, got {max_drop:g}: "
            f"no plan could exceed it; for {max_drop:g} percentage points give {max_drop / 100:g}, for no bound inf"
        )


def doubtful_bound(metric: Metric, max_drop: float) -> str | None:
    """Why a bound on a built-in metric is perhaps not what was meant, None where nothing speaks against it."""
    if not metric.built_in or math.isinf(max_drop):
        return None
    if metric.name in _SHARES and max_drop > _MANY_POINTS:
        return (
            f"a drop of {max_drop:g} of {metric.name} is {100 * max_drop:g} percentage points; for {max_drop:g} points "
            f"give {max_drop / 100:g}"
        )
    if metric.name == "sqnr" and max_drop >= 1:
        return (
            f"a bound of {max_drop:g} for sqnr allows as much noise as signal: it is a ratio of powers, not decibels; "
            f"30 dB is 0.001"
        )
    return None


def doubtful_for_scores(metric: Metric, scores: Array, max_drop: float) -> str | None:
    """Why a bound allows everything, or nearly, by the scores that FP32 itself has; None where it does not.

    Args:
        metric: the user's metric; of a built-in one the limits are known already.
        scores: float64[samples], those of FP32.
        max_drop: the bound.
    """
    if metric.built_in or math.isinf(max_drop) or scores.min() < 0:
        return None
    mean = float(np.mean(scores))
    if metric.higher_is_better and max_drop >= mean:
        return (
            f"FP32 scores {mean:.4g} on average by {metric.name}, so a drop of {max_drop:g} allows every plan whose "
            f"scores are not negative; give a smaller --max-drop"
        )
    if not metric.higher_is_better and max_drop >= _TIMES * mean > 0:
        return (
            f"FP32 scores {mean:.4g} on average by {metric.name}, where lower is better, so a drop of {max_drop:g} "
            f"allows {1 + max_drop / mean:.0f} times as much; give a smaller --max-drop"
        )
    return None


def few_samples(select: int, report: int, max_drop: float) -> str | None:
    """Why so few samples can say little about a bound, None where they are not few.

    Raises:
        UsageError: there are too few samples to say anything.
    """
    fewest = min(select, report)
    if fewest < _FEWEST:
        raise UsageError(
            f"at least {_FEWEST} samples are needed to select plans with, and {_FEWEST} others to report with, but "
            f"there are {select} and {report}; give more evaluation data, some hundred samples if you can"
        )
    if fewest >= _FEW or math.isinf(max_drop):
        return None
    # That nothing changed among n samples shows, with 95 % confidence, only that fewer than this share of all change.
    unseen = 1 - 0.05 ** (1 / fewest)
    return (
        f"plans are selected with {select} samples and judged with {report} others: with so few, a fault in up to "
        f"{unseen:.0%} of all samples can stay unseen; give more evaluation data, some hundred samples if you can"
    )
