"""The latency model recovers what was planted in made-up measurements."""

from __future__ import annotations

import numpy as np
import pytest

from autoprec.precision import Precision
from autoprec.study.guide.columns import BOUNDARIES, crossing
from autoprec.study.guide.latency import LatencyModel
from autoprec.study.guide.pricing import Pricing
from autoprec.units.records import Edge, Partition, Unit

from ...helpers.timed_plans import Timed, fitted

NAMES = [f"u{number}" for number in range(12)]
FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8


def chain() -> Partition:
    random = np.random.default_rng(5)
    units = tuple(
        Unit(name=n, kind="conv", nodes=(n,), anchors=(n,), inputs=(), outputs=(), macs=1, weights=1, key=n)
        for n in NAMES
    )
    places = ["", *NAMES, ""]
    sizes = random.integers(100, 5000, len(places))
    return Partition(
        units=units,
        reasons={},
        edges=tuple(Edge(a, b, f"{a}>{b}", int(s)) for a, b, s in zip(places[:-1], places[1:], sizes, strict=False)),
    )


def planted() -> tuple[LatencyModel, dict[tuple[str, Precision], float]]:
    random = np.random.default_rng(1)
    prior = {}
    for name in NAMES:
        prior[name, FP32] = float(random.uniform(0.02, 0.1))
        prior[name, INT8] = prior[name, FP32] * float(random.uniform(0.2, 0.6))
    truth = LatencyModel(
        unary={key: 1.1 * value for key, value in prior.items()}, up=4e-5, down=2e-5, cast=0.0, edge=0.01, constant=0.05
    )
    return truth, prior


def plans(count: int, seed: int) -> list[dict[str, Precision]]:
    random = np.random.default_rng(seed)
    drawn = [{n: INT8 if random.random() < share else FP32 for n in NAMES} for share in random.random(count - 2)]
    return [dict.fromkeys(NAMES, FP32), dict.fromkeys(NAMES, INT8), *drawn]


def fit(prior: dict[tuple[str, Precision], float], measured: list[Timed]) -> LatencyModel:
    return fitted(Pricing(chain(), prior, FP32), measured).model


def test_predictions_for_unseen_plans_are_right_after_enough_measurements() -> None:
    partition, (truth, prior) = chain(), planted()
    measured = [Timed(plan, truth.predict(partition, plan, FP32)) for plan in plans(60, 0)]
    model = fit(prior, measured)
    unseen = plans(30, 7)[2:]
    errors = [model.predict(partition, plan, FP32) / truth.predict(partition, plan, FP32) - 1 for plan in unseen]

    assert np.abs(errors).max() < 0.03


def test_planted_prices_are_recovered() -> None:
    partition, (truth, prior) = chain(), planted()
    model = fit(prior, [Timed(p, truth.predict(partition, p, FP32)) for p in plans(400, 0)])

    assert model.up == pytest.approx(truth.up, rel=0.15)
    assert model.down == pytest.approx(truth.down, rel=0.25)


def test_it_learns_that_one_unit_is_slow_in_int8_though_its_profile_says_otherwise() -> None:
    partition, (truth, prior) = chain(), planted()
    slow = {**truth.unary, ("u5", INT8): truth.unary["u5", FP32] * 4}
    real = LatencyModel(
        unary=slow, up=truth.up, down=truth.down, cast=truth.cast, edge=truth.edge, constant=truth.constant
    )
    model = fit(prior, [Timed(p, real.predict(partition, p, FP32)) for p in plans(60, 0)])

    assert model.unary["u5", INT8] > model.unary["u5", FP32]
    assert model.unary["u4", INT8] < model.unary["u4", FP32]


def test_before_anything_mixed_was_measured_boundaries_cost_something() -> None:
    partition, (truth, prior) = chain(), planted()
    model = fit(prior, [Timed(p, truth.predict(partition, p, FP32)) for p in plans(2, 0)])
    edge = partition.edges[3]

    assert model.boundary(edge, FP32, INT8) > 0
    assert model.boundary(edge, INT8, FP32) > 0
    assert model.boundary(edge, INT8, INT8) == 0


def test_no_price_is_negative_whatever_was_measured() -> None:
    _, prior = planted()
    random = np.random.default_rng(3)
    model = fit(prior, [Timed(plan, float(random.uniform(0.1, 3))) for plan in plans(20, 0)])

    assert min(model.up, model.down, model.cast, model.edge, model.constant) >= 0


@pytest.mark.parametrize(
    ("producer", "consumer", "kind"),
    [(INT8, FP32, "up"), (FP32, INT8, "down"), (FP16, FP32, "cast"), (INT8, INT8, None), (Precision.FP8, INT8, "down")],
)
def test_the_direction_of_a_crossing(producer: Precision, consumer: Precision, kind: str | None) -> None:
    assert crossing(producer, consumer) == kind


def test_the_outside_counts_as_the_carrier() -> None:
    partition, (_, prior) = chain(), planted()
    ends = partition.edges[0].elements, partition.edges[-1].elements
    pricing = Pricing(partition, prior, FP32)
    shared = pricing.rows([dict.fromkeys(NAMES, INT8)])[0]

    assert tuple(shared[1:4] * pricing.largest) == pytest.approx((ends[1], ends[0], 0))
    assert tuple(shared[4:6]) == (2, 1)


def test_a_unit_that_quantises_at_run_time_takes_and_gives_floats() -> None:
    dynamic = Precision.INT8_DYNAMIC
    assert [crossing(dynamic, FP32), crossing(FP32, dynamic)] == [None, None]
    assert [crossing(dynamic, INT8), crossing(INT8, dynamic)] == ["down", "up"]


def test_plans_that_differ_in_such_units_alone_have_no_boundaries() -> None:
    partition, dynamic = chain(), Precision.INT8_DYNAMIC
    prior = {(name, p): 0.1 for name in NAMES for p in (FP32, INT8, dynamic)}
    pricing = Pricing(partition, prior, FP32)
    mixed = {name: (FP32, dynamic)[index % 2] for index, name in enumerate(NAMES)}
    model = LatencyModel(unary=prior, up=1.0, down=1.0, cast=1.0, edge=1.0, constant=0.0)

    assert not pricing.rows([mixed])[:, BOUNDARIES].any()
    assert model.predict(partition, mixed, FP32) == pytest.approx(0.1 * len(NAMES))
