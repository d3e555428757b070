"""Which finalist is the answer when all were measured side by side."""

from __future__ import annotations

from autoprec.precision import Precision
from autoprec.run.answer.choose import Contender, choose
from autoprec.study.goal import Goal
from autoprec.study.trial import Measurement, Trial
from autoprec.timing.compare import Timing


def contender(
    name: str, ms: float, *, size: int = 100, drop: float = 0.0, noise: float = 0.0, spread: float = 0.0
) -> Contender:
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
    return Contender(
        name=name, trial=trial, timing=Timing(rounds), ratio=ms / 10, size=size, uniform=name.startswith("uniform")
    )


def chosen(goal: Goal, *contenders: Contender, limit_ms: float | None = None) -> str | None:
    found = choose(goal, contenders, limit_ms)
    return None if found is None else found.name


def test_a_plan_that_is_not_faster_for_certain_leaves_the_uniform_one() -> None:
    uniform = contender("uniform int8", 5.0)

    assert chosen(Goal(), contender("plan", 4.0), uniform) == "plan"
    assert chosen(Goal(), contender("plan", 4.9, spread=2.0), uniform) == "uniform int8"


def test_the_smallest_wins_and_within_half_a_percent_the_faster() -> None:
    goal = Goal("size", 0.1)

    assert chosen(goal, contender("small", 9.0, size=900), contender("fast", 5.0, size=1000)) == "small"
    assert chosen(goal, contender("small", 9.0, size=1000), contender("fast", 5.0, size=1004)) == "fast"
    assert chosen(goal, contender("small", 9.0, size=1000), contender("fast", 5.0, size=1006)) == "small"


def test_speed_never_makes_it_larger_than_the_smallest_uniform_plan() -> None:
    goal, uniform = Goal("size", 0.1), contender("uniform int8", 9.0, size=1000)

    assert chosen(goal, uniform, contender("fast", 5.0, size=1001)) == "uniform int8"
    assert chosen(goal, uniform, contender("small", 9.5, size=996), contender("fast", 5.0, size=999)) == "fast"


def test_the_most_accurate_wins_among_those_that_are_fast_enough_in_the_shared_rounds() -> None:
    goal = Goal("accuracy", max_latency=0.5)
    plans = contender("exact", 5.2, drop=0.0), contender("good", 4.9, drop=0.01), contender("fast", 2.0, drop=0.2)

    assert chosen(goal, *plans) == "good"
    assert chosen(goal, *plans, limit_ms=5.3) == "exact"
    assert chosen(goal, *plans, limit_ms=3.0) == "fast"
    assert chosen(goal, *plans, limit_ms=1.0) is None


def test_of_equally_accurate_plans_the_one_nearest_to_fp32_wins() -> None:
    goal = Goal("accuracy", max_latency=0.5)
    lucky, near = contender("lucky", 4.0, drop=-0.01, noise=0.3), contender("near", 4.5, drop=0.0, noise=0.1)

    assert chosen(goal, lucky, near) == "near"
    equal = contender("plan", 4.0, drop=0.0, noise=0.1), contender("uniform int8", 4.5, drop=0.0, noise=0.1)
    assert chosen(goal, *equal) == "uniform int8"
