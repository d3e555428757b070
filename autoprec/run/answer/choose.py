"""Which of the finalists is the answer, by rounds that all of them shared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from autoprec.study.goal import Goal
from autoprec.study.trial import Trial
from autoprec.timing.compare import Timing

_CONFIDENCE = 0.95
SAME_SIZE = 1.005
"""Sizes within half a percent count as equal, and the faster plan is chosen: so much is names and padding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """An accepted plan, measured again beside the others.

    Attributes:
        name: among the run's candidates.
        trial: what the search measured.
        timing: in the shared rounds.
        ratio: of that to FP32's.
        size: bytes.
        uniform: whether it is the same precision everywhere.
    """

    name: str
    trial: Trial
    timing: Timing
    ratio: float
    size: int
    uniform: bool


def choose(goal: Goal, contenders: Sequence[Contender], limit_ms: float | None = None) -> Contender | None:
    """The answer, which is in the objective never worse than the best uniform plan among the contenders.

    Args:
        goal: what is minimised, and the bounds; all contenders met them in the search.
        contenders: at least one.
        limit_ms: the most latency in milliseconds, where it was asked for in these.

    Returns:
        The answer; None where no contender turned out to be fast enough.
    """
    able = [c for c in contenders if fast_enough(goal, c, limit_ms)]
    if not able:
        return None
    uniform = [c for c in able if c.uniform]
    if goal.objective == "size":
        least = min(c.size for c in able)
        most = min([least * SAME_SIZE, *(float(c.size) for c in uniform)])
        return min((c for c in able if c.size <= most), key=lambda c: c.timing.median_ms)
    if goal.objective == "accuracy":
        return min(able, key=lambda c: (*_cost(goal, c), not c.uniform))
    best = min(able, key=lambda c: c.timing.median_ms)
    rival = min(uniform, key=lambda c: c.timing.median_ms, default=best)
    # The fastest of several in the same rounds may owe that to luck, so that each of the comparisons that could have
    # been made must err less often: the interval is widened by Bonferroni's rule.
    others = max(sum(not c.uniform for c in able), 1)
    surely = best is rival or best.timing.ratio_to(rival.timing, 1 - (1 - _CONFIDENCE) / others).high < 1.0
    if best.uniform or not surely:
        return rival
    # Of plans that the clock cannot tell from the fastest, and that are no slower than the uniform one, the most
    # accurate: it costs nothing.
    limit = rival.timing.median_ms if rival.uniform else math.inf
    equal = [c for c in able if c.timing.median_ms <= limit and c.timing.ratio_to(best.timing).low <= 1.0]
    return min(equal, key=lambda c: (c.trial.measured.judged_drop, c.timing.median_ms))


def fast_enough(goal: Goal, contender: Contender, limit_ms: float | None) -> bool:
    """Whether the shared rounds keep the bound on the latency; milliseconds are compared as such."""
    if math.isinf(goal.max_latency):
        return True
    return contender.timing.median_ms <= limit_ms if limit_ms is not None else contender.ratio <= goal.max_latency


def _cost(goal: Goal, contender: Contender) -> tuple[float, float]:
    measured = contender.trial.measured
    return goal.cost(measured.judged_drop, contender.ratio, contender.size, measured.noise)
