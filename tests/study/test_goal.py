"""What a search minimises and under which bounds."""

from __future__ import annotations

import math

import pytest

from autoprec.study.goal import Goal, goal_of, improves


def test_a_number_is_the_most_drop_of_the_fastest_plan() -> None:
    assert goal_of(0.01) == Goal("latency", 0.01)
    assert goal_of(Goal("size", 0.2)) == Goal("size", 0.2)


def test_both_bounds_hold() -> None:
    goal = Goal("accuracy", max_drop=0.1, max_latency=0.5)

    assert goal.accepts(0.1, 0.5)
    assert not goal.accepts(0.11, 0.5)
    assert not goal.accepts(0.1, 0.51)
    assert not goal.accepts(0.1, math.inf)


def test_worthless_outputs_are_never_accepted_and_what_was_not_judged_is() -> None:
    assert not Goal(max_latency=0.5).accepts(math.inf, 0.1)
    assert Goal(max_drop=0.1).accepts(math.nan, 0.1)


def test_a_drop_below_zero_is_luck_and_the_noise_decides() -> None:
    goal = Goal("accuracy", max_latency=0.5)

    assert goal.cost(-0.02, 0.4, None, 0.3) == (0.0, 0.3)
    assert goal.cost(-0.02, 0.4, None, 0.3) > goal.cost(0.0, 0.5, None, 0.1)


def test_of_equal_sizes_the_faster_is_better() -> None:
    goal = Goal("size", max_drop=0.1)

    assert goal.cost(0.0, 0.4, 100, 0.0) < goal.cost(0.0, 0.5, 100, 0.0) < goal.cost(0.0, 0.1, 101, 0.0)
    assert goal.cost(0.0, 0.4, None, 0.0)[0] == math.inf


def test_nearest_is_the_least_drop_or_with_a_limit_of_time_the_fastest_within_the_drop() -> None:
    drops, limited = Goal(max_drop=0.1), Goal("accuracy", 0.1, 0.5)

    assert drops.short_of(0.2, 0.9) < drops.short_of(0.3, 0.1)
    assert limited.short_of(0.05, 0.7) < limited.short_of(0.0, 0.8) < limited.short_of(0.2, 0.1)


@pytest.mark.parametrize(
    ("cost", "best", "expected"),
    [
        ((0.97, 0.0), (1.0, 0.0), True),
        ((0.99, 0.0), (1.0, 5.0), False),
        ((1.0, 0.5), (1.0, 1.0), True),
        ((1.1, 0.5), (1.0, 1.0), False),
        ((0.0, 0.5), (0.0, 1.0), True),
        ((0.0, 0.0), (0.0, 0.0), False),
        ((3.0, 1.0), (math.inf, math.inf), True),
    ],
)
def test_an_improvement_is_two_percent(cost: tuple[float, float], best: tuple[float, float], expected: bool) -> None:
    assert improves(cost, best) is expected


def test_words() -> None:
    assert (Goal("size").better, Goal(max_drop=1).bounds, Goal("accuracy", 1, 1).bounds) == (
        "smaller",
        "the bound",
        "the bounds",
    )
