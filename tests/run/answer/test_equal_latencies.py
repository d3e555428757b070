"""Which of the finalists is the answer, by the rounds that they share."""

from __future__ import annotations

import numpy as np

from autoprec.precision import Precision
from autoprec.run.answer.choose import Contender, choose
from autoprec.study.goal import Goal
from autoprec.study.trial import Measurement, Trial
from autoprec.timing.compare import Timing

FP32, INT8 = Precision.FP32, Precision.INT8
PLANS = {
    "uniform fp32": {"a": FP32, "b": FP32},
    "uniform int8": {"a": INT8, "b": INT8},
    "trial 1": {"a": INT8, "b": FP32},
    "trial 2": {"a": FP32, "b": INT8},
}


def rounds(ms: float, seed: int) -> Timing:
    """Nine rounds that vary by 4 %, each engine in its own order."""
    return Timing(tuple(ms * np.random.default_rng(seed).permutation(np.linspace(0.98, 1.02, 9))))


def chosen(ms: dict[str, float], drops: dict[str, float]) -> str:
    contenders = []
    for seed, (name, value) in enumerate(ms.items()):
        if name in drops:
            drop, number = drops[name], int(name[-1]) if name.startswith("trial") else 0
            trial = Trial(
                number=number,
                origin=name,
                plan=PLANS[name],
                measured=Measurement(
                    drop=drop, judged_drop=drop, noise=drop, kl=None, agreement=None, latency_ratio=value / 10.0
                ),
                feasible=True,
            )
            contenders.append(
                Contender(
                    name=name,
                    trial=trial,
                    timing=rounds(value, seed),
                    ratio=value / 10.0,
                    size=1,
                    uniform="uniform" in name,
                )
            )
    winner = choose(Goal(max_drop=0.01), contenders)
    assert winner is not None
    return winner.name


MS = {"uniform fp32": 10.0, "uniform int8": 7.0}


def test_of_plans_that_the_clock_cannot_tell_apart_the_one_of_least_drop() -> None:
    drops = {"uniform fp32": 0.0, "trial 1": 0.009, "trial 2": 0.002}

    assert chosen({**MS, "trial 1": 5.0, "trial 2": 5.02}, drops) == "trial 2"
    assert chosen({**MS, "trial 1": 5.0, "trial 2": 5.6}, drops) == "trial 1"


def test_never_slower_than_the_fastest_uniform_plan() -> None:
    drops = {"uniform fp32": 0.0, "uniform int8": 0.008, "trial 1": 0.001}

    assert chosen({**MS, "trial 1": 7.02}, drops) == "uniform int8"
    assert chosen({**MS, "trial 1": 6.99}, drops) == "uniform int8"
    assert chosen({**MS, "trial 1": 6.0}, drops) == "trial 1"
