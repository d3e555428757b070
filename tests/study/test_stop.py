"""When a search has run out of improvements, and how it says so."""

from __future__ import annotations

import math

from autoprec.precision import Precision
from autoprec.study.goal import Goal
from autoprec.study.stop import PATIENCE, StopReason, no_improvement, nothing_predicted
from autoprec.study.trial import Measurement, Trial

GOAL = Goal(max_drop=0.01)


def trial(number: int, latency: float, drop: float = 0.0) -> Trial:
    measured = Measurement(drop=drop, judged_drop=drop, noise=0.0, kl=None, agreement=None, latency_ratio=latency)
    feasible = GOAL.accepts(drop, latency)
    return Trial(number=number, origin="swap", plan={"u": Precision.INT8}, measured=measured, feasible=feasible)


def after(count: int, latency: float, drop: float = 0.0) -> list[Trial]:
    """One accepted trial, and so many after it."""
    return [trial(0, 0.5), *(trial(n, latency, drop) for n in range(1, count + 1))]


def test_ten_timed_trials_without_improvement_end_a_search() -> None:
    stop = no_improvement(after(PATIENCE, 0.5), GOAL, seeds=1)

    assert stop is not None
    assert stop.reason is StopReason.NO_IMPROVEMENT
    assert stop.text == "none of the last 10 plans was faster within the bound"
    assert no_improvement(after(PATIENCE - 1, 0.5), GOAL, seeds=1) is None


def test_trials_that_were_not_timed_are_worth_half_as_much() -> None:
    assert no_improvement(after(2 * PATIENCE - 1, math.inf, drop=1.0), GOAL, seeds=1) is None
    assert no_improvement(after(2 * PATIENCE, math.inf, drop=1.0), GOAL, seeds=1) is not None


def test_an_improvement_starts_the_count_anew() -> None:
    assert no_improvement([*after(PATIENCE - 1, 0.5), trial(PATIENCE, 0.4)], GOAL, seeds=1) is None


def test_while_nothing_is_accepted_the_search_goes_on() -> None:
    assert no_improvement([trial(n, 0.5, drop=1.0) for n in range(50)], GOAL, seeds=1) is None


def test_seeds_do_not_count() -> None:
    assert no_improvement(after(PATIENCE, 0.5), GOAL, seeds=2) is None


def test_where_nothing_meets_the_bounds_the_end_of_predictions_says_so() -> None:
    twin = Goal("accuracy", max_latency=0.3)

    assert nothing_predicted([], twin).text == "no other plan is predicted to meet the bound"
    assert nothing_predicted([trial(0, 0.5)], GOAL).text == "no other plan is predicted to be faster within the bound"
