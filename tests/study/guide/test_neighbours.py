"""Plans that differ a little from a plan."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from autoprec.precision import Precision
from autoprec.study.guide.neighbours import drawn, neighbours, uniform_assignments
from autoprec.study.guide.solve import Problem
from autoprec.units.records import Edge, Partition, Unit

FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8
NAMES = [f"u{number}" for number in range(8)]
CHOICES = dict.fromkeys(NAMES, (FP32, INT8)) | {"u2": (FP32,), "u5": (FP32, FP16, INT8)}
EDGES = tuple(Edge(a, b, f"{a}>{b}", 10) for a, b in [*itertools.pairwise(["", *NAMES, ""]), ("u0", "u7")])
UNITS = tuple(
    Unit(name=n, kind="conv", nodes=(n,), anchors=(n,), inputs=(), outputs=(), macs=1, weights=1, key=n) for n in NAMES
)
PROBLEM = Problem(Partition(units=UNITS, reasons={}, edges=EDGES), CHOICES, {}, FP32)
MIDDLE = {name: INT8 if name in ("u0", "u1") else FP32 for name in NAMES}


def found() -> list[dict[str, Precision]]:
    return list(neighbours(PROBLEM, MIDDLE, np.random.default_rng(0)))


def changes(plan: dict[str, Precision]) -> dict[str, Precision]:
    return {name: p for name, p in plan.items() if MIDDLE[name] is not p}


def test_every_neighbour_differs_and_may_be_chosen() -> None:
    for plan in found():
        assert changes(plan)
        assert all(p in CHOICES[name] for name, p in plan.items())


def test_every_single_change_is_there() -> None:
    single = [changes(plan) for plan in found() if len(changes(plan)) == 1]

    for name, options in CHOICES.items():
        for p in options:
            assert p is MIDDLE[name] or {name: p} in single


def test_pairs_along_an_edge_blocks_and_exchanges_are_there() -> None:
    moved = [changes(plan) for plan in found()]

    assert {"u0": FP32, "u1": FP32} in moved
    assert {"u3": INT8, "u4": INT8, "u5": INT8, "u6": INT8} in moved
    assert {"u0": FP32, "u6": INT8} in moved


def test_drawn_plans_differ_in_blocks_that_may_be_chosen() -> None:
    random = np.random.default_rng(2)
    plans = [drawn(PROBLEM, MIDDLE, random) for _ in range(50)]

    assert all(p in CHOICES[name] for plan in plans for name, p in plan.items())
    assert len({tuple(plan.values()) for plan in plans}) > 20


def test_uniform_plans_give_each_unit_the_precision_if_it_can_have_it() -> None:
    plans = list(uniform_assignments(PROBLEM))

    assert {name: INT8 if INT8 in options else FP32 for name, options in CHOICES.items()} in plans
    assert dict.fromkeys(NAMES, FP32) in plans
    assert len(plans) == 3


def test_round_a_plan_of_many_units_there_are_no_more_neighbours_than_can_be_looked_at() -> None:
    names = [f"u{number}" for number in range(600)]
    units = tuple(replace(UNITS[0], name=name) for name in names)
    edges = tuple(Edge(a, b, f"{a}>{b}", 10) for a, b in itertools.pairwise(names))
    problem = Problem(Partition(units=units, reasons={}, edges=edges), dict.fromkeys(names, (FP32, INT8)), {}, FP32)
    middle = {name: INT8 if number % 3 else FP32 for number, name in enumerate(names)}
    found = neighbours(problem, middle, np.random.default_rng(0))

    assert 2000 < len(found) < 4000
    assert all(plan != middle for plan in found)
