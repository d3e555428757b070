"""The size model on plans whose bytes add up."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from autoprec.precision import Precision
from autoprec.study.guide.neighbours import drawn, uniform_assignments
from autoprec.study.guide.size import SizeFit, combined, size_pricing
from autoprec.study.guide.solve import Problem, fastest
from autoprec.units.records import Partition

from ..test_sampler import NAMES, PROBLEM

FP32, INT8 = Precision.FP32, Precision.INT8


def sized(seed: int = 0) -> Problem:
    """The chain of test_sampler with weights of very different sizes."""
    random = np.random.default_rng(seed)
    units = [replace(u, weights=int(np.exp(random.uniform(4, 12)))) for u in PROBLEM.partition.units]
    return replace(PROBLEM, partition=Partition(units=tuple(units), reasons={}, edges=PROBLEM.partition.edges))


def bytes_of(problem: Problem, plan: dict[str, Precision]) -> float:
    """Weights by precision with a fifth more for INT8's scales, 300 for each boundary, 5000 for the rest."""
    total = 5000.0
    for unit in problem.partition.units:
        total += unit.weights * (4 if plan[unit.name] is FP32 else 1.2)
    edges = problem.partition.edges
    return total + 300 * sum(plan.get(e.producer, FP32) is not plan.get(e.consumer, FP32) for e in edges)


def fitted(problem: Problem, plans: list[dict[str, Precision]]) -> SizeFit:
    return SizeFit(size_pricing(problem), plans, np.array([bytes_of(problem, plan) for plan in plans]))


@pytest.mark.parametrize("seed", range(3))
def test_eight_plans_predict_the_size_of_others_within_two_percent(seed: int) -> None:
    problem, random = sized(seed), np.random.default_rng(seed)
    both = list(uniform_assignments(problem))
    known = both + [drawn(problem, both[n % 2], random) for n in range(6)]
    fit = fitted(problem, known)
    others = [drawn(problem, both[n % 2], random) for n in range(30)]
    predicted = fit.fit.predict(others)[0] * fit.unit

    true = np.array([bytes_of(problem, plan) for plan in others])
    assert float(np.abs(predicted / true - 1).max()) < 0.02


def test_the_program_finds_the_smallest_plan_within_a_budget() -> None:
    problem = sized()
    plans = [dict(zip(NAMES, row, strict=True)) for row in itertools.product((FP32, INT8), repeat=len(NAMES))]
    fit = fitted(problem, plans[::60])
    budget = 0.5 * problem.total_loss(plans[-1])
    found = fastest(problem, fit.fit.model, budget)

    assert found is not None
    least = min(bytes_of(problem, p) for p in plans if problem.total_loss(p) <= budget)
    assert bytes_of(problem, found) <= 1.01 * least


def test_combined_prices_are_the_weighted_sum_of_both() -> None:
    problem, random = sized(), np.random.default_rng(1)
    both = list(uniform_assignments(problem))
    first = fitted(problem, both).fit.model
    other = replace(first, unary=dict.fromkeys(first.unary, 2.0), constant=1.0, edge=0.1)
    plan = drawn(problem, both[0], random)
    alone = [m.predict(problem.partition, plan, FP32) for m in (first, other, combined(first, other, 0.5))]

    assert alone[2] == pytest.approx(alone[0] + 0.5 * alone[1], rel=1e-6)
