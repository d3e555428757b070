"""Elimination and a price of loss against trying everything."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from autoprec.study.guide.eliminate import Costs, Elimination, cheapest_within


def costs(seed: int) -> Costs:
    """Up to six units with up to three choices, some of which are ruled out, and random pairs of units."""
    random = np.random.default_rng(seed)
    counts = random.integers(1, 4, random.integers(1, 7))
    pairs = {
        (a, b): random.random((counts[a], counts[b]))
        for a, b in itertools.combinations(range(len(counts)), 2)
        if random.random() < 0.5
    }
    own = [random.random(count) for count in counts]
    for prices in own:
        if len(prices) > 1 and random.random() < 0.2:
            prices[0] = np.inf
    return Costs(own, [random.random(count) for count in counts], pairs)


@pytest.mark.parametrize("seed", range(20))
def test_it_finds_the_least_cost_and_nearly_the_least_within_a_budget(seed: int) -> None:
    one = costs(seed)
    counts = [len(prices) for prices in one.own]
    every = [one.of(choices) for choices in itertools.product(*map(range, counts))]
    budget = 0.6 * max(loss for _, loss in every)
    allowed = [cost for cost, loss in every if loss <= budget and np.isfinite(cost)]
    found = cheapest_within(one, budget)

    assert one.of(Elimination(counts, one.pairs).least(one.own))[0] == pytest.approx(min(cost for cost, _ in every))
    if not allowed:
        assert found is None
        return
    assert found is not None
    assert one.of(found)[1] <= budget + 1e-9
    assert one.of(found)[0] <= min(allowed) + 0.15  # of six units each is a large share


def test_of_three_hundred_units_the_budget_is_all_but_spent() -> None:
    """By the price of loss no plan can be cheaper than what is found by more than one per cent."""
    random, count = np.random.default_rng(0), 300
    ends = {*itertools.pairwise(range(count)), *((unit, unit + 3) for unit in range(0, count - 3, 2))}
    pairs = {end: (1 - np.eye(2)) * 0.2 for end in ends}
    size, lost = random.lognormal(0, 1, count), random.lognormal(0, 2, count)
    one = Costs([np.array([s, 0.4 * s]) for s in size], [np.array([0.0, loss]) for loss in lost], pairs)
    budget = 0.05 * float(lost.sum())
    cost, loss = one.of(cheapest_within(one, budget) or ())

    assert 0.98 * budget < loss <= budget
    elimination = Elimination([2] * count, pairs)
    prices = np.geomspace(1e-3, 10, 20)
    both = list(zip(one.own, one.loss, strict=True))
    bounds = [one.of(elimination.least([own + price * lost for own, lost in both])) for price in prices]
    bound = max(c + price * (s - budget) for price, (c, s) in zip(prices, bounds, strict=True))
    assert bound <= cost + 1e-9
    assert cost <= 1.01 * bound


def test_units_that_are_too_tangled_are_left_to_others() -> None:
    pairs = {ends: np.zeros((3, 3)) for ends in itertools.combinations(range(12), 2)}
    one = Costs([np.ones(3)] * 12, [np.ones(3)] * 12, pairs)

    assert not Elimination([3] * 12, pairs).fits
    assert cheapest_within(one, 20.0) is None
