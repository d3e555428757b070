"""The accuracy model recovers what was planted in made-up plans, and says how good it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprec.plan import Assignment
from autoprec.precision import Precision
from autoprec.stats.intervals import spearman
from autoprec.study.guide.accuracy import AccuracyFit
from autoprec.study.guide.fidelity import Fidelity, fidelity
from autoprec.study.guide.noise import Losses

FP32, INT8 = Precision.FP32, Precision.INT8
NAMES = [f"u{number}" for number in range(14)]
BOUND = 0.02


@dataclass(frozen=True)
class Evaluated:
    """A plan with what it lost; its noise may not be known."""

    plan: Assignment
    noise: float | None
    drop: float


def fitted(losses: Losses, plans: list[Evaluated], bound: float = BOUND) -> AccuracyFit:
    noises = np.array([math.nan if e.noise is None else e.noise for e in plans])
    return AccuracyFit(losses, [e.plan for e in plans], noises, np.array([e.drop for e in plans]), bound)


def planted(seed: int = 0) -> tuple[dict[tuple[str, Precision], float], dict[tuple[str, Precision], float]]:
    """Sensitivities measured alone, and what they are in context."""
    random = np.random.default_rng(seed)
    alone = {(name, INT8): float(np.exp(random.normal(-6, 1.2))) for name in NAMES}
    return alone, {key: value * 1.5 * float(np.exp(random.normal(0, 0.5))) for key, value in alone.items()}


def evaluated(count: int, seed: int, context: dict[tuple[str, Precision], float]) -> list[Evaluated]:
    random = np.random.default_rng(seed)
    found = []
    for share in random.random(count):
        plan = {name: INT8 if random.random() < share else FP32 for name in NAMES}
        noise = sum(context.get(item, 0.0) for item in plan.items())
        found.append(Evaluated(plan, noise, 1.5 * noise**0.8))
    return found


def error(fit: AccuracyFit, plans: list[Evaluated]) -> float:
    kept = [e for e in plans if e.noise]
    predicted = fit.noise([e.plan for e in kept])
    return float(np.mean([abs(p / (e.noise or 1) - 1) for p, e in zip(predicted, kept, strict=True)]))


def test_sensitivities_are_corrected_in_context() -> None:
    alone, context = planted()
    unseen = evaluated(40, 1, context)
    before = fitted(alone, evaluated(2, 2, context))
    after = fitted(alone, evaluated(40, 2, context))

    assert error(before, unseen) > 0.12
    assert error(after, unseen) < 0.5 * error(before, unseen)


def test_what_was_not_evaluated_keeps_its_sensitivity() -> None:
    alone, _ = planted()

    assert fitted(alone, []).losses == pytest.approx(alone)


def test_no_corrected_sensitivity_is_negative() -> None:
    alone, _ = planted()
    random = np.random.default_rng(0)
    plans = [Evaluated(e.plan, float(random.uniform(1e-6, 1)), float(random.normal())) for e in evaluated(30, 0, alone)]

    assert min(fitted(alone, plans).losses.values()) > 0


def test_the_drop_is_foretold_within_its_deviation() -> None:
    alone, context = planted()
    fit = fitted(alone, evaluated(40, 3, context))
    unseen = evaluated(60, 4, context)
    mean, deviation = fit.drop([e.plan for e in unseen])
    truth = np.array([e.drop for e in unseen])

    assert spearman(mean, truth) > 0.95
    assert np.mean(np.abs(mean - truth) <= 2 * deviation) > 0.85


def test_plans_are_told_apart_by_the_bound() -> None:
    alone, context = planted()
    fit = fitted(alone, evaluated(40, 3, context))
    unseen = evaluated(80, 5, context)
    likely = fit.feasible([e.plan for e in unseen])
    right = [(p > 0.5) == (e.drop <= BOUND) for p, e in zip(likely, unseen, strict=True)]

    assert np.mean(right) > 0.9


def test_fp32_drops_nothing_for_certain() -> None:
    alone, context = planted()
    fit = fitted(alone, evaluated(20, 3, context))
    mean, deviation = fit.drop([dict.fromkeys(NAMES, FP32)])

    assert (abs(mean[0]) <= 1e-9, deviation[0] <= 1e-6) == (True, True)
    assert fit.feasible([dict.fromkeys(NAMES, FP32)])[0] == pytest.approx(1)


@given(st.lists(st.tuples(st.floats(1e-6, 10), st.floats(-1, 5)), min_size=1, max_size=20))
def test_the_link_never_falls_and_the_budget_is_its_inverse(pairs: list[tuple[float, float]]) -> None:
    losses = {(f"p{place}", INT8): noise for place, (noise, _) in enumerate(pairs)}
    plans = [
        Evaluated({f"p{n}": INT8 if n == place else FP32 for n in range(len(pairs))}, None, drop)
        for place, (_, drop) in enumerate(pairs)
    ]
    fit = fitted(losses, plans, 0.1)
    grid = np.linspace(0, 12, 200)
    linked = fit.link(grid)

    assert (np.diff(linked) >= -1e-9).all()
    for drop in (0.05, 0.1, 1.0):
        budget = fit.budget(drop)
        if math.isfinite(budget):
            assert fit.link(np.array([budget * (1 - 1e-9)]))[0] <= drop + 1e-6


def test_outputs_that_are_not_finite_teach_only_that_they_are_over_the_bound() -> None:
    alone, context = planted()
    worst = Evaluated(dict.fromkeys(NAMES, INT8), math.inf, math.inf)
    fit = fitted(alone, [*evaluated(20, 3, context), worst])

    assert np.isfinite(fit.drop([e.plan for e in evaluated(10, 1, context)])[0]).all()
    assert fit.feasible([worst.plan])[0] < 0.2


def test_a_report_counts_ranks_errors_and_the_worst_plan() -> None:
    report = fidelity([(n, float(n), float(n)) for n in range(1, 11)] + [(11, 5.0, 20.0), (12, math.inf, 1.0)])

    assert report.plans == 11
    assert report.worst_plan == 11
    assert report.worst == pytest.approx(0.75)
    assert report.error == pytest.approx(0.75 / 11)
    assert report.rank is not None
    assert 0.5 < report.rank < 1
    assert fidelity([]) == Fidelity(
        plans=0, rank=None, best_fifth=None, r2=None, error=None, worst=None, worst_plan=None
    )


@pytest.mark.parametrize(("count", "trusted"), [(7, True), (8, False)])
def test_a_model_that_ranks_nothing_is_distrusted_once_eight_plans_show_it(count: int, trusted: bool) -> None:
    random = np.random.default_rng(1)
    pairs = [(n, float(random.uniform(1, 2)), float(count - n)) for n in range(count)]

    assert fidelity(pairs).trusted is trusted


def test_drops_of_either_sign_count_in_the_report() -> None:
    pairs = [(n, float(n), float(n)) for n in range(-5, 6)]

    assert fidelity(pairs).plans == 11
    assert fidelity(pairs).rank == pytest.approx(1)
