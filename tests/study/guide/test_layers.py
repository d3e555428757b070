"""What profiles of measured plans add to the latency model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autoprec.precision import Precision
from autoprec.study.guide.columns import SHARED
from autoprec.study.guide.latency import Crossing, LatencyModel
from autoprec.study.guide.pricing import Pricing

from ...helpers.timed_plans import Timed, fitted, layers_of
from .test_latency import FP32, INT8, NAMES, chain, plans, planted

ENGINE_MS, EXTRA_MS = 0.3, 0.002
"""FP32's latency, and what profiling adds to each layer."""


def truth() -> LatencyModel:
    """Units far from their profile, and boundaries of which each has its own price."""
    model, _ = planted()
    random = np.random.default_rng(11)
    unary = {key: price * float(random.uniform(0.6, 1.6)) for key, price in model.unary.items()}
    own: dict[Crossing, float] = {
        (edge.producer, edge.consumer, p, q): float(random.uniform(0, 0.06))
        for edge in chain().edges
        for p, q in ((FP32, INT8), (INT8, FP32))
    }
    return replace(model, unary=unary, own=own)


def profiled(model: LatencyModel, plan: dict[str, Precision]) -> Timed:
    """A plan with its latency, and what a profiler would show of it."""
    partition = chain()
    layers = {name: ENGINE_MS * model.unary[name, plan[name]] + EXTRA_MS for name in NAMES}
    for edge in partition.edges:
        price = model.boundary(edge, plan.get(edge.producer, FP32), plan.get(edge.consumer, FP32))
        layers[edge.consumer or edge.producer] += ENGINE_MS * price
    return Timed(plan, model.predict(partition, plan, FP32), layers)


def error(measured: list[Timed], unseen: list[Timed]) -> float:
    """Mean relative error on unseen plans."""
    fit = fitted(Pricing(chain(), planted()[1], FP32), measured)
    means, _ = fit.predict([timed.plan for timed in unseen])
    return float(np.mean([abs(mean / timed.latency - 1) for mean, timed in zip(means, unseen, strict=True)]))


@pytest.mark.parametrize("count", [6, 10, 14])
def test_profiled_plans_predict_more_than_the_same_plans_that_were_only_timed(count: int) -> None:
    model = truth()
    seen, unseen = ([profiled(model, plan) for plan in plans(n, seed)] for n, seed in ((count, 0), (40, 7)))

    assert error(seen, unseen[2:]) < 0.5 * error([replace(timed, layers_ms=None) for timed in seen], unseen[2:])


def test_a_profile_that_says_nothing_of_units_is_not_believed() -> None:
    """A runtime that makes one layer of all units can only be shared out by their work."""
    model = truth()
    seen, unseen = ([profiled(model, plan) for plan in plans(n, seed)] for n, seed in ((25, 0), (40, 7)))
    timed_only = [replace(timed, layers_ms=None) for timed in seen]
    shared_out = [
        replace(timed, layers_ms=dict.fromkeys(NAMES, timed.latency * ENGINE_MS / len(NAMES))) for timed in seen
    ]

    assert error(shared_out, unseen[2:]) < 1.1 * error(timed_only, unseen[2:])


def test_what_profiling_adds_to_each_layer_is_taken_off() -> None:
    seen = [profiled(truth(), plan) for plan in plans(10, 0)]
    layers = layers_of(Pricing(chain(), planted()[1], FP32), seen)

    assert layers.shares.sum(axis=1) == pytest.approx([timed.latency for timed in seen], rel=1e-3)


def test_the_belief_is_that_of_one_regression_over_all_units() -> None:
    """Solved unit by unit, it must be what the joint system of all layers gives."""
    pricing = Pricing(chain(), planted()[1], FP32)
    seen = [profiled(truth(), plan) for plan in plans(8, 0)]
    layers, columns = layers_of(pricing, seen), pricing.columns.total
    random = np.random.default_rng(2)
    guess, deviation = random.standard_normal(columns) / 50, random.uniform(0.05, 0.5, columns)
    deviation[2] = 0.0  # one that is fixed
    belief = layers.believe(guess, deviation, 0.1)

    local, rows = pricing.local_rows([timed.plan for timed in seen])
    joint = np.zeros((len(seen), len(NAMES), columns))
    for place, own in enumerate(pricing.blocks):
        joint[:, place, : pricing.columns.common] = local[:, place]
        joint[:, place, own] = rows[:, own]
    joint = joint.reshape(-1, columns)
    noise = (0.1 * (np.maximum(layers.shares, 0) + 0.15 / len(NAMES))).ravel()
    gram = (joint * deviation**2) @ joint.T + np.diag(noise**2)
    gain = np.linalg.solve(gram, joint * deviation**2).T
    mean = guess + gain @ (layers.shares.ravel() - joint @ guess)
    covariance = np.diag(deviation**2) - gain @ (joint * deviation**2)

    assert belief.mean == pytest.approx(mean, abs=1e-9)
    tested = pricing.rows(plans(5, 3))
    assert belief.covariance(tested) == pytest.approx(covariance @ tested.T, abs=1e-9)


def test_drawn_parameters_scatter_as_the_belief_says() -> None:
    pricing = Pricing(chain(), planted()[1], FP32)
    layers = layers_of(pricing, [profiled(truth(), plan) for plan in plans(6, 0)])
    guess = np.zeros(pricing.columns.total)
    deviation = np.full(len(guess), 0.2)
    belief, row = layers.believe(guess, deviation, 0.1), pricing.rows(plans(5, 3)[4:])
    random = np.random.default_rng(0)
    drawn = np.array([(row @ belief.drawn(random)).item() for _ in range(2000)])

    assert drawn.mean() == pytest.approx((row @ belief.mean).item(), abs=4 * drawn.std() / 2000**0.5)
    assert drawn.std() == pytest.approx((row @ belief.covariance(row)).item() ** 0.5, rel=0.06)


def test_local_rows_add_up_to_the_rows_of_the_plan() -> None:
    pricing = Pricing(chain(), planted()[1], FP32)
    drawn = plans(6, 1)
    local, own = pricing.local_rows(drawn)
    rows = pricing.rows(drawn)

    assert own[:, pricing.columns.common :] == pytest.approx(rows[:, pricing.columns.common :])
    constant = np.zeros(pricing.columns.common)
    constant[SHARED - 1] = 1
    assert local.sum(axis=1) + constant == pytest.approx(rows[:, : pricing.columns.common])


@pytest.mark.parametrize("with_profiles", [True, False])
def test_predictions_unit_by_unit_are_those_of_whole_rows(with_profiles: bool) -> None:
    """The mean is that of the prices, and a plan is predicted alone as it is among others."""
    pricing = Pricing(chain(), planted()[1], FP32)
    seen = [profiled(truth(), plan) for plan in plans(9, 0)]
    fit = fitted(pricing, seen if with_profiles else [replace(timed, layers_ms=None) for timed in seen])
    unseen = plans(30, 5)
    mean, deviation = fit.predict(unseen)
    one = [fit.predict([plan]) for plan in unseen]

    assert mean == pytest.approx([fit.model.predict(chain(), plan, FP32) for plan in unseen], rel=1e-9)
    assert mean == pytest.approx([float(m[0]) for m, _ in one], rel=1e-9)
    assert deviation == pytest.approx([float(d[0]) for _, d in one], rel=1e-6)
