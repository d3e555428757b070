"""The Pareto front of measured plans, and the choice on it: all figures are costs, lower is better."""

from __future__ import annotations

import math
from collections.abc import Sequence


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether `one` is nowhere worse than `other` and somewhere better; equal points do not dominate each other."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and any(a < b for a, b in zip(one, other, strict=True))


def front(points: Sequence[Sequence[float]]) -> tuple[int, ...]:
    """The indices of the points that no other dominates, in order; equal points stay together, on it or off it.

    Args:
        points: the costs of each, as many for all; infinite is worse than any finite cost.

    Raises:
        ValueError: a cost is not a number, which is neither better nor worse than another.
    """
    if any(math.isnan(cost) for point in points for cost in point):
        raise ValueError("the costs of a point must be numbers")
    return tuple(index for index, point in enumerate(points) if not any(dominates(other, point) for other in points))


def least_within(costs: Sequence[float], limited: Sequence[float], limit: float) -> int | None:
    """The index of least cost among those whose limited figure is at most `limit`, None where there is none.

    Of equal costs the lower limited figure wins, then the earlier index: the choice lies on the front of both.
    """
    able = [index for index, value in enumerate(limited) if value <= limit]
    return min(able, key=lambda index: (costs[index], limited[index], index), default=None)


def nearest(costs: Sequence[float], limited: Sequence[float]) -> int | None:
    """The index that comes nearest to a limit which none meets: the lowest limited figure, then the least cost."""
    indices = range(len(limited))
    return min(indices, key=lambda index: (limited[index], costs[index], index), default=None)
