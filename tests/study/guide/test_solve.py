"""The mixed-integer program against trying everything."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprec.precision import Precision
from autoprec.study.guide.latency import LatencyModel
from autoprec.study.guide.solve import Cap, Problem, fastest, most_accurate
from autoprec.units.records import Edge, Partition, Unit

OPTIONS = (Precision.FP32, Precision.FP16, Precision.INT8)


def unit(name: str) -> Unit:
    return Unit(
        name=name,
        kind="conv",
        nodes=(name,),
        anchors=(name,),
        inputs=(f"{name}.in",),
        outputs=(f"{name}.out",),
        macs=1,
        weights=1,
        key=name,
    )


def partition(names: list[str], edges: list[tuple[str, str, int]]) -> Partition:
    return Partition(
        units=tuple(map(unit, names)), reasons={}, edges=tuple(Edge(a, b, f"{a}->{b}", size) for a, b, size in edges)
    )


@st.composite
def problems(draw: st.DrawFn) -> tuple[Problem, LatencyModel, float]:
    """Up to five units, any edges between them or to the outside, random costs, losses and budgets."""
    names = [f"u{number}" for number in range(draw(st.integers(1, 5)))]
    pairs = [(a, b) for a, b in itertools.combinations(["", *names], 2)] + [(name, "") for name in names]
    chosen = draw(st.lists(st.sampled_from(pairs), max_size=7, unique=True))
    edges = [(a, b, draw(st.integers(1, 50))) for a, b in chosen]
    choices = {
        name: tuple(draw(st.lists(st.sampled_from(OPTIONS), min_size=1, max_size=3, unique=True))) for name in names
    }
    amounts = st.floats(0.01, 1.0)
    loss = {(name, p): draw(amounts) for name in names for p in OPTIONS if p is not Precision.FP32}
    prices = {name: draw(st.floats(0, 0.02)) for name in ("up", "down", "cast")}
    unary = {(name, p): draw(amounts) for name in names for p in OPTIONS}
    model = LatencyModel(unary=unary, **prices, edge=draw(st.floats(0, 0.3)), constant=0.1)
    budget = draw(st.sampled_from([0.0, 0.3, 1.0, math.inf]))
    return Problem(partition(names, edges), choices, loss, Precision.FP32), model, budget


def every_plan(problem: Problem) -> list[dict[str, Precision]]:
    names = list(problem.choices)
    return [dict(zip(names, row, strict=True)) for row in itertools.product(*problem.choices.values())]


def latency(problem: Problem, model: LatencyModel, plan: Mapping[str, Precision]) -> float:
    return model.predict(problem.partition, plan, problem.carrier)


@given(problems())
@settings(max_examples=60)
def test_it_finds_the_fastest_plan_within_the_budget(drawn: tuple[Problem, LatencyModel, float]) -> None:
    problem, model, budget = drawn
    allowed = [plan for plan in every_plan(problem) if problem.total_loss(plan) <= budget * (1 + 1e-6)]
    found = fastest(problem, model, budget)

    if not allowed:
        assert found is None
    else:
        assert found is not None
        assert problem.total_loss(found) <= budget * (1 + 1e-5) + 1e-9
        best = min(latency(problem, model, plan) for plan in allowed)
        assert latency(problem, model, found) <= best * (1 + 1e-3) + 1e-6


@given(problems())
@settings(max_examples=20)
def test_excluded_plans_come_out_in_order_until_nothing_is_left(drawn: tuple[Problem, LatencyModel, float]) -> None:
    problem, model, _ = drawn
    everything = every_plan(problem)[:20]
    excluded: list[dict[str, Precision]] = []
    while len(excluded) < min(8, len(everything)):
        found = fastest(problem, model, math.inf, excluded)
        assert found is not None
        assert found not in excluded
        excluded.append(found)
    times = [latency(problem, model, plan) for plan in excluded]

    assert all(later >= earlier * (1 - 1e-3) - 1e-6 for earlier, later in itertools.pairwise(times))


@given(problems(), st.integers(0, 6), st.floats(-0.2, 0.3))
@settings(max_examples=40)
def test_own_prices_exclusions_and_a_budget_hold_together(
    drawn: tuple[Problem, LatencyModel, float], excluded: int, own: float
) -> None:
    """One boundary has a price of its own, the fastest plans may not come out again, and the budget holds."""
    problem, model, budget = drawn
    special = {(e.producer, e.consumer, kind): own for e in problem.partition.edges[:1] for kind in ("up", "down")}
    model = replace(model, own=special)
    ranked = sorted(
        (plan for plan in every_plan(problem) if problem.total_loss(plan) <= budget * (1 + 1e-6)),
        key=lambda plan: latency(problem, model, plan),
    )
    found = fastest(problem, model, budget, ranked[:excluded])

    if len(ranked) <= excluded:
        assert found is None
    else:
        assert found is not None
        assert found not in ranked[:excluded]
        assert latency(problem, model, found) <= latency(problem, model, ranked[excluded]) * (1 + 1e-3) + 1e-6


def test_nothing_is_left_when_every_plan_is_excluded() -> None:
    problem = Problem(partition(["a"], []), {"a": OPTIONS}, {}, Precision.FP32)
    model = LatencyModel(
        unary=dict.fromkeys(((("a", p)) for p in OPTIONS), 1.0), up=0, down=0, cast=0, edge=0, constant=0
    )

    assert fastest(problem, model, math.inf, [{"a": p} for p in OPTIONS]) is None


def test_dear_boundaries_keep_neighbours_in_one_precision() -> None:
    """Each unit alone is faster in INT8, the first may not be, and crossing costs more than that wins."""
    problem = Problem(
        partition(["a", "b"], [("a", "b", 100)]), {"a": OPTIONS[:1], "b": (OPTIONS[0], OPTIONS[2])}, {}, OPTIONS[0]
    )
    unary = {("a", OPTIONS[0]): 1.0, ("b", OPTIONS[0]): 1.0, ("b", OPTIONS[2]): 0.5}

    assert fastest(problem, LatencyModel(unary=unary, up=0, down=0.01, cast=0, edge=0, constant=0), math.inf) == {
        "a": OPTIONS[0],
        "b": OPTIONS[0],
    }
    assert fastest(problem, LatencyModel(unary=unary, up=0, down=0.001, cast=0, edge=0, constant=0), math.inf) == {
        "a": OPTIONS[0],
        "b": OPTIONS[2],
    }


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e6])
def test_losses_of_any_size_are_compared_with_budgets_of_the_same(scale: float) -> None:
    names = ["a", "b", "c"]
    choices = dict.fromkeys(names, (Precision.FP32, Precision.INT8))
    loss = {(name, Precision.INT8): scale * size for name, size in zip(names, (1.0, 2.0, 4.0), strict=True)}
    unary = {(name, p): 1.0 if p is Precision.FP32 else 0.5 for name in names for p in choices["a"]}
    found = fastest(
        Problem(partition(names, []), choices, loss, Precision.FP32),
        LatencyModel(unary=unary, up=0, down=0, cast=0, edge=0, constant=0),
        3.5 * scale,
    )

    assert found == {"a": Precision.INT8, "b": Precision.INT8, "c": Precision.FP32}


@given(problems(), st.floats(0.2, 3.0), st.integers(0, 4))
@settings(max_examples=60)
def test_it_finds_the_most_accurate_plan_that_is_fast_enough(
    drawn: tuple[Problem, LatencyModel, float], limit: float, excluded: int
) -> None:
    """Losses span nine powers of ten, so that the solver's tolerances would pass over the small ones."""
    problem, model, budget = drawn
    loss = {key: value * 1e-9 ** (place % 4 / 3) for place, (key, value) in enumerate(problem.loss.items())}
    problem = replace(problem, loss=loss)
    ranked = sorted(
        (p for p in every_plan(problem) if latency(problem, model, p) <= limit and problem.total_loss(p) <= budget),
        key=problem.total_loss,
    )
    found = most_accurate(problem, Cap(model, limit + 1e-7), budget * (1 + 1e-9), ranked[:excluded])

    if len(ranked) > excluded:
        assert found is not None
        assert found not in ranked[:excluded]
        assert problem.total_loss(found) <= problem.total_loss(ranked[excluded]) * (1 + 1e-3) + 1e-15
    if found is not None:
        assert latency(problem, model, found) <= limit + 1e-5
        assert problem.total_loss(found) <= budget * (1 + 1e-5)


@given(problems(), st.floats(0.2, 3.0), st.data())
@settings(max_examples=60)
def test_a_second_figure_is_bounded_beside_the_loss(
    drawn: tuple[Problem, LatencyModel, float], limit: float, data: st.DataObject
) -> None:
    """The smallest plan within a budget of loss and a limit of latency, as for an engine's size."""
    problem, model, budget = drawn
    unary = {key: data.draw(st.floats(0.01, 1.0)) for key in model.unary}
    size = LatencyModel(unary=unary, up=0.0, down=0.0, cast=0.0, edge=0.05, constant=0.2)
    able = [
        p
        for p in every_plan(problem)
        if latency(problem, model, p) <= limit and problem.total_loss(p) <= budget * (1 + 1e-6)
    ]
    found = fastest(problem, size, budget, cap=Cap(model, limit + 1e-7))

    if able:
        assert found is not None
        least = min(latency(problem, size, p) for p in able)
        assert latency(problem, size, found) <= least * (1 + 1e-3) + 1e-6
    if found is not None:
        assert latency(problem, model, found) <= limit + 1e-5


def test_nothing_is_fast_enough() -> None:
    problem = Problem(partition(["a"], []), {"a": OPTIONS}, {}, Precision.FP32)
    model = LatencyModel(unary={("a", p): 1.0 for p in OPTIONS}, up=0, down=0, cast=0, edge=0, constant=0.5)

    assert most_accurate(problem, Cap(model, 1.4)) is None
    assert most_accurate(problem, Cap(model, 1.6)) is not None
