"""Which finalist is the answer when all were measured side by side."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from autoprec.precision import Precision
from autoprec.run.answer.choose import choose
from autoprec.run.answer.side_by_side import SideBySide
from autoprec.run.uniform import FP32_PLAN
from autoprec.study.goal import Goal
from autoprec.study.trial import Measurement, Trial
from autoprec.timing.compare import Timing


@dataclass(frozen=True)
class Finalist:
    name: str
    trial: Trial
    timing: Timing
    size: int


def finalist(
    name: str, ms: float, *, size: int = 100, drop: float = 0.0, noise: float = 0.0, spread: float = 0.0
) -> Finalist:
    """A plan that takes `ms` where FP32 takes 10."""
    measured = Measurement(
        drop=drop,
        judged_drop=drop,
        noise=noise,
        kl=None,
        agreement=None,
        latency_ratio=ms / 10,
        samples=None,
        ratio_error=size,
    )
    trial = Trial(number=0, origin=name, plan={"u": Precision.FP32}, measured=measured, feasible=True)
    rounds = tuple(ms + spread * (place % 3 - 1) for place in range(9))
    return Finalist(name, trial, Timing(rounds), size)


def chosen(goal: Goal, *finalists: Finalist, limit_ms: float | None = None) -> str | None:
    side = SideBySide(
        trials={f.name: f.trial for f in finalists},
        timings={FP32_PLAN: Timing((10.0,) * 9), **{f.name: f.timing for f in finalists}},
        sizes={f.name: f.size for f in finalists},
        uniform={f.name: f.trial.plan for f in finalists if f.name.startswith("uniform")},
    )
    return choose(goal, side, limit_ms)


def test_a_plan_that_is_not_faster_for_certain_leaves_the_uniform_one() -> None:
    uniform = finalist("uniform int8", 5.0)

    assert chosen(Goal(), finalist("plan", 4.0), uniform) == "plan"
    assert chosen(Goal(), finalist("plan", 4.9, spread=2.0), uniform) == "uniform int8"


def test_the_smallest_wins_and_within_half_a_percent_the_faster() -> None:
    goal = Goal("size", 0.1)

    assert chosen(goal, finalist("small", 9.0, size=900), finalist("fast", 5.0, size=1000)) == "small"
    assert chosen(goal, finalist("small", 9.0, size=1000), finalist("fast", 5.0, size=1004)) == "fast"
    assert chosen(goal, finalist("small", 9.0, size=1000), finalist("fast", 5.0, size=1006)) == "small"


def test_speed_never_makes_it_larger_than_the_smallest_uniform_plan() -> None:
    goal, uniform = Goal("size", 0.1), finalist("uniform int8", 9.0, size=1000)

    assert chosen(goal, uniform, finalist("fast", 5.0, size=1001)) == "uniform int8"
    assert chosen(goal, uniform, finalist("small", 9.5, size=996), finalist("fast", 5.0, size=999)) == "fast"


def test_the_most_accurate_wins_among_those_that_are_fast_enough_in_the_shared_rounds() -> None:
    goal = Goal("accuracy", max_latency=0.5)
    plans = finalist("exact", 5.2, drop=0.0), finalist("good", 4.9, drop=0.01), finalist("fast", 2.0, drop=0.2)

    assert chosen(goal, *plans) == "good"
    assert chosen(goal, *plans, limit_ms=5.3) == "exact"
    assert chosen(goal, *plans, limit_ms=3.0) == "fast"
    assert chosen(goal, *plans, limit_ms=1.0) is None


def test_of_equally_accurate_plans_the_one_nearest_to_fp32_wins() -> None:
    goal = Goal("accuracy", max_latency=0.5)
    lucky, near = finalist("lucky", 4.0, drop=-0.01, noise=0.3), finalist("near", 4.5, drop=0.0, noise=0.1)

    assert chosen(goal, lucky, near) == "near"
    equal = finalist("plan", 4.0, drop=0.0, noise=0.1), finalist("uniform int8", 4.5, drop=0.0, noise=0.1)
    assert chosen(goal, *equal) == "uniform int8"


def jittery(name: str, ms: float, drop: float, seed: int) -> Finalist:
    """A finalist whose nine rounds vary by 4 %, in an order of its own."""
    rounds = ms * np.random.default_rng(seed).permutation(np.linspace(0.98, 1.02, 9))
    return replace(finalist(name, ms, drop=drop, noise=drop), timing=Timing(tuple(rounds)))


def test_of_plans_that_the_clock_cannot_tell_apart_the_one_of_least_drop() -> None:
    goal, fp32 = Goal(max_drop=0.01), jittery("uniform fp32", 10.0, 0.0, 0)

    assert chosen(goal, fp32, jittery("trial 1", 5.0, 0.009, 2), jittery("trial 2", 5.02, 0.002, 3)) == "trial 2"
    assert chosen(goal, fp32, jittery("trial 1", 5.0, 0.009, 2), jittery("trial 2", 5.6, 0.002, 3)) == "trial 1"


def test_it_is_never_slower_than_the_fastest_uniform_plan() -> None:
    goal = Goal(max_drop=0.01)
    uniform = jittery("uniform fp32", 10.0, 0.0, 0), jittery("uniform int8", 7.0, 0.008, 1)

    assert chosen(goal, *uniform, jittery("trial 1", 7.02, 0.001, 2)) == "uniform int8"
    assert chosen(goal, *uniform, jittery("trial 1", 6.99, 0.001, 2)) == "uniform int8"
    assert chosen(goal, *uniform, jittery("trial 1", 6.0, 0.001, 2)) == "trial 1"


def test_on_a_busy_machine_plans_are_ordered_by_the_shares_that_are_told() -> None:
    """The clock favours INT8, which others disturbed less; the least disturbed runs say that it is slower."""
    quick, slow = finalist("uniform int8", 9.0), finalist("uniform fp32", 10.0)
    busy = {
        "uniform int8": Timing((9.0,) * 9, (6.0,) * 9, (6.0,) * 9, disturbed=True),
        "uniform fp32": Timing((10.0,) * 9, (5.0,) * 9, (5.0,) * 9, disturbed=True),
    }

    assert chosen(Goal(), quick, slow) == "uniform int8"
    assert chosen(Goal(), *(replace(f, timing=busy[f.name]) for f in (quick, slow))) == "uniform fp32"
