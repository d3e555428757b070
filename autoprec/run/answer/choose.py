"""Which of the finalists is the answer, by rounds that all of them shared."""

from __future__ import annotations

import math
from collections.abc import Sequence

from autoprec.run.answer.side_by_side import SideBySide
from autoprec.study.goal import Goal

_CONFIDENCE = 0.95
SAME_SIZE = 1.005
"""Sizes within half a percent count as equal, and the faster plan is chosen: names and padding differ by that."""


def choose(goal: Goal, side: SideBySide, limit_ms: float | None = None) -> str | None:
    """The answer, which is never worse in the objective than the best uniform plan among the finalists.

    Args:
        goal: what is minimised, and the bounds; all finalists met them in the search.
        side: at least one finalist, and what the shared rounds showed.
        limit_ms: the most milliseconds, where the latency was bounded in these.

    Returns:
        The name of the answer; None where no finalist turned out to be fast enough.
    """
    able = [name for name in side.trials if _fast_enough(goal, side, name, limit_ms)]
    if not able:
        return None
    if goal.objective == "size":
        return _smallest(side, able)
    if goal.objective == "accuracy":
        return min(able, key=lambda name: (*_cost(goal, side, name), name not in side.uniform))
    return _fastest(side, able)


def _smallest(side: SideBySide, able: Sequence[str]) -> str:
    """The fastest of those that are about as small as the smallest, and no larger than a uniform plan."""
    least = min(side.sizes[name] for name in able)
    most = min([least * SAME_SIZE, *(float(side.sizes[name]) for name in able if name in side.uniform)])
    return min((name for name in able if side.sizes[name] <= most), key=side.pace)


def _fastest(side: SideBySide, able: Sequence[str]) -> str:
    """The fastest, if it is certainly faster than the best uniform plan; the more accurate one of equally fast ones."""
    best = min(able, key=side.pace)
    rival = min((name for name in able if name in side.uniform), key=side.pace, default=best)
    # The fastest of several in the same rounds may be the luckiest. Each comparison that could have been made must
    # therefore be wrong less often: the interval is widened by the Bonferroni correction.
    others = max(sum(name not in side.uniform for name in able), 1)
    confidence = 1 - (1 - _CONFIDENCE) / others
    surely = best is rival or side.timings[best].ratio_to(side.timings[rival], confidence).high < 1.0
    if best in side.uniform or not surely:
        return rival
    # Among plans that the clock cannot tell from the fastest and that are no slower than the uniform one, the most
    # accurate is taken: it costs nothing.
    limit = side.pace(rival) if rival in side.uniform else math.inf
    equal = [
        name for name in able if side.pace(name) <= limit and side.timings[name].ratio_to(side.timings[best]).low <= 1.0
    ]
    return min(equal, key=lambda name: (side.drop(name), side.pace(name)))


def _fast_enough(goal: Goal, side: SideBySide, name: str, limit_ms: float | None) -> bool:
    """Whether the shared rounds keep the bound on the latency; milliseconds are compared with milliseconds."""
    if math.isinf(goal.max_latency):
        return True
    return side.ms(name) <= limit_ms if limit_ms is not None else side.ratio(name) <= goal.max_latency


def _cost(goal: Goal, side: SideBySide, name: str) -> tuple[float, float]:
    noise = side.trials[name].measured.noise
    return goal.cost(side.drop(name), side.ratio(name), side.sizes[name], noise)
