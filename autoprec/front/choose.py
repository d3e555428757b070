"""Which of the measured plans lie on the front, and which one a bound chooses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from autoprec.errors import UsageError
from autoprec.front.loaded import LoadedRun
from autoprec.front.pareto import front, least_within, nearest
from autoprec.front.points import Chosen, Cost, Point


def front_of(points: Sequence[Point], objective: Cost | None) -> tuple[Point, ...]:
    """The points that no other beats in both the objective and the drop, cheapest first.

    Args:
        points: measured plans.
        objective: latency or size; None for the plans that no other beats in latency, drop and size at once, fastest
            first.
    """
    able = _able(points, objective)
    if objective is None:
        joint = front([point.costs for point in able])
        return tuple(sorted((able[index] for index in joint), key=lambda p: (p.costs, p.trial.number)))
    indices = front([(point.cost(objective), point.drop) for point in able])
    return tuple(sorted((able[index] for index in indices), key=lambda p: (p.cost(objective), p.trial.number)))


def point_of(points: Sequence[Point], number: int) -> Point:
    """The measured plan of that trial number.

    Raises:
        UsageError: there is none.
    """
    found = next((point for point in points if point.trial.number == number), None)
    if found is None:
        numbers = ", ".join(str(point.trial.number) for point in points)
        raise UsageError(f"a point must be the number of a measured plan, one of {numbers}; got {number}")
    return found


def within(run: LoadedRun, max_drop: float | None, objective: Cost | None) -> Chosen:
    """The plan of least latency or size whose drop is within the bound.

    Under the run's own bound and objective it is the run's answer, which was chosen by more rounds.

    Args:
        run: the run.
        max_drop: the bound, None for the run's.
        objective: latency or size, None for the run's.

    Raises:
        UsageError: the bound is below 0.
    """
    goal, answer = run.studied.goal, run.answer
    bound = run.studied.max_drop if max_drop is None else max_drop
    if not bound >= 0:
        raise UsageError(f"--max-drop must be 0 or more, got {bound:g}; FP32 itself has drop 0")
    own: Cost = "size" if goal.objective == "size" else "latency"
    if max_drop is None and objective is None and math.isfinite(goal.max_latency):
        return _by_goal(run)
    text = f"a drop of at most {bound:g}"
    same = bound == goal.max_drop and objective in (None, own) and goal.objective != "accuracy"
    if answer is not None and same and answer.trial.feasible:
        return Chosen(answer, answer, text)
    wanted: Cost = objective or own
    return _least(_able(run.points, wanted), lambda p: p.cost(wanted), lambda p: p.drop, bound, text)


def fast_enough(run: LoadedRun, max_ratio: float | None, max_ms: float | None) -> Chosen:
    """The plan of least drop that is fast enough.

    Args:
        run: the run.
        max_ratio: the most latency, as a share of FP32's.
        max_ms: the most latency in milliseconds, instead.

    Raises:
        UsageError: the limit is not above 0, or is in milliseconds and the run's are not known.
    """
    limit, text = latency_limit(run, max_ratio, max_ms)
    return _least(_able(run.points, "latency"), lambda p: p.drop, lambda p: p.cost("latency"), limit, text)


def latency_limit(run: LoadedRun, max_ratio: float | None, max_ms: float | None) -> tuple[float, str]:
    """A limit as a share of FP32's latency, and as a text.

    Raises:
        UsageError: it is not above 0, or in milliseconds and the run's are not known.
    """
    root, value = run.directory.root, max_ms if max_ratio is None else max_ratio
    if run.studied.objective == "throughput":
        raise UsageError(
            f"the run {root} measured throughput, so no latency of its plans is known; tune without "
            f"--objective throughput to bound the latency"
        )
    if value is None or not value > 0:
        raise UsageError("--max-latency must be more than 0: a share of FP32's latency such as 0.5, or 5ms")
    if max_ratio is not None:
        return max_ratio, f"a latency of at most {max_ratio:g} of FP32's"
    if run.unit_ms is None:
        raise UsageError(
            f"--max-latency must be a share of FP32's latency such as 0.5, since the run {root} did not end and left "
            f"no milliseconds; the same `autoprec tune` goes on with it"
        )
    return value / run.unit_ms, f"a latency of at most {value:g} ms"


def _by_goal(run: LoadedRun) -> Chosen:
    """What a run with a bound on the latency was for."""
    goal, answer = run.studied.goal, run.answer
    text = f"a latency of at most {goal.max_latency:.3g} of FP32's"
    text += f" and a drop of at most {goal.max_drop:g}" if math.isfinite(goal.max_drop) else ""
    if answer is not None and answer.trial.feasible:
        return Chosen(answer, answer, text)
    able = _able(run.points, "latency")
    feasible = [p for p in able if p.trial.feasible]
    costs = [goal.cost(p.drop, p.cost("latency"), p.size, p.trial.measured.noise) for p in feasible]
    best = feasible[costs.index(min(costs))] if feasible else None
    near = min(able, key=lambda p: goal.short_of(p.drop, p.cost("latency")), default=None)
    return Chosen(best, best or near, text)


def _able(points: Sequence[Point], objective: Cost | None) -> list[Point]:
    """The points whose cost and drop are known; a plan whose outputs are worthless has an infinite drop."""
    wanted: Cost = objective or "latency"
    return [p for p in points if math.isfinite(p.cost(wanted)) and math.isfinite(p.drop)]


def _least(
    points: Sequence[Point],
    wanted: Callable[[Point], float],
    bounded: Callable[[Point], float],
    limit: float,
    text: str,
) -> Chosen:
    """The point that is least in one figure among those within the limit of another, and the nearest to it."""
    costs, bounds = [wanted(point) for point in points], [bounded(point) for point in points]
    index, near = least_within(costs, bounds, limit), nearest(costs, bounds)
    return Chosen(None if index is None else points[index], None if near is None else points[near], text)
