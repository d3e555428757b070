"""The Pareto front: nothing on it is beaten, everything off it is beaten by something on it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprec.front.pareto import dominates, front, least_within, nearest

# Few values, so that ties and equal points are common.
COST = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0, math.inf])
POINTS = st.lists(st.tuples(COST, COST), max_size=14)
TRIPLES = st.lists(st.tuples(COST, COST, COST), max_size=10)


@given(POINTS | TRIPLES)
def test_no_point_on_the_front_dominates_another_on_it(points: list[tuple[float, ...]]) -> None:
    on = [points[place] for place in front(points)]

    assert not any(dominates(one, other) for one in on for other in on)


@given(POINTS | TRIPLES)
def test_every_point_off_the_front_is_dominated_by_one_on_it(points: list[tuple[float, ...]]) -> None:
    places = front(points)

    for place, point in enumerate(points):
        assert place in places or any(dominates(points[other], point) for other in places)


@given(POINTS)
def test_equal_points_share_their_fate(points: list[tuple[float, float]]) -> None:
    on = {points[place] for place in front(points)}

    assert front(points) == tuple(place for place, point in enumerate(points) if point in on)


@given(POINTS, COST)
def test_what_is_chosen_meets_the_limit_at_least_cost_and_lies_on_the_front(
    points: list[tuple[float, float]], limit: float
) -> None:
    costs, limited = [cost for cost, _ in points], [value for _, value in points]
    place = least_within(costs, limited, limit)

    able = [cost for cost, value in points if value <= limit]
    assert (place is None) == (not able)
    if place is not None:
        assert limited[place] <= limit
        assert costs[place] == min(able)
        assert place in front(points)


@given(POINTS.filter(bool))
def test_the_nearest_point_has_the_lowest_limited_figure_and_lies_on_the_front(
    points: list[tuple[float, float]],
) -> None:
    place = nearest([cost for cost, _ in points], [value for _, value in points])

    assert place is not None
    assert points[place][1] == min(value for _, value in points)
    assert place in front(points)


def test_a_small_front_by_hand() -> None:
    points = [(1.0, 0.0), (0.5, 0.02), (0.6, 0.02), (0.5, 0.02), (0.4, math.inf), (0.9, 0.01)]

    assert front(points) == (0, 1, 3, 4, 5)
    assert least_within([p[0] for p in points], [p[1] for p in points], 0.01) == 5
    assert nearest([p[1] for p in points], [p[0] for p in points]) == 4


def test_nothing_has_an_empty_front() -> None:
    assert front([]) == ()
    assert least_within([], [], 1.0) is None
    assert nearest([], []) is None


def test_a_cost_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="the costs of a point must be numbers"):
        front([(math.nan, 1.0)])
