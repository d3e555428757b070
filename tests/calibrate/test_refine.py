"""One calibrator for each value, where the outputs of the whole network say so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprec.backends.ort import OrtBackend
from autoprec.backends.scheme import ORT_CPU, TENSORRT, Scheme
from autoprec.calibrate.choose import ONE_FOR_ALL, ONE_FOR_EACH, UNCORRECTED, calibrate_model, choose_ranges
from autoprec.calibrate.observe import Observed, needed_tensors, observe
from autoprec.calibrate.refine import adjustable, refine
from autoprec.data.dataset import Dataset
from autoprec.graph.model import to_bytes
from autoprec.lowering.possible import uniform
from autoprec.metrics.evaluator import Evaluator
from autoprec.metrics.metric import load_metric
from autoprec.metrics.outcome import Outcome
from autoprec.precision import Precision
from autoprec.ranges.bins import Range
from autoprec.ranges.table import RangeTable

from ..helpers.lowering_bench import Bench, bench

BACKEND = OrtBackend(threads=1)
FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8
CASES = [
    (name, scheme, carrier)
    for name in ("conv_relu", "depthwise_block", "mha_block", "concat_block", "mlp")
    for scheme, carrier in ((ORT_CPU, FP32), (TENSORRT, FP16), (TENSORRT, FP32))
]


def plan_of(one: Bench) -> dict[str, Precision]:
    return uniform(one.partition, INT8, one.possible, one.carrier)


def scaled(table: RangeTable, factor: float, *only: str) -> RangeTable:
    """The table with wider or narrower ranges, of all values or of some."""
    spans = {
        name: Range(span.low * factor, span.high * factor) if not only or name in only else span
        for name, span in table.clipped.items()
    }
    return replace(table, clipped=spans, method=f"times {factor:g}")


def refined(one: Bench, best: RangeTable, *others: RangeTable) -> RangeTable:
    data = Dataset.from_arrays(one.feed)
    values = needed_tensors(one.lowerer, one.possible)
    histograms = observe(one.lowerer, values, BACKEND, data, 16).histograms
    with BACKEND.build(to_bytes(one.model.ir), exact=True) as reference:
        evaluator = Evaluator.against(reference, data, one.model.interface, load_metric("sqnr"), 16)
        return refine(one.calibration(BACKEND), evaluator, histograms, best, others)


def noise(one: Bench, table: RangeTable) -> float:
    lowered = to_bytes(one.lowerer.lower(plan_of(one), table, simulate=True).ir)
    with BACKEND.build(to_bytes(one.model.ir), exact=True) as reference, BACKEND.build(lowered, exact=True) as engine:
        data = Dataset.from_arrays(one.feed)
        return Evaluator.against(reference, data, one.model.interface, load_metric("sqnr"), 16).evaluate(engine).noise


@pytest.mark.parametrize(("name", "scheme", "carrier"), CASES)
def test_a_model_that_is_fed_its_scales_computes_what_one_that_holds_them_does(
    name: str, scheme: Scheme, carrier: Precision
) -> None:
    one = bench(name, scheme, carrier)
    other = scaled(one.ranges, 0.37)

    with (
        adjustable(one.lowerer, plan_of(one), BACKEND, one.ranges) as engine,
        BACKEND.build(to_bytes(one.lowerer.lower(plan_of(one), other, simulate=True).ir), exact=True) as held,
        BACKEND.build(to_bytes(one.lowerer.lower(plan_of(one), one.ranges, simulate=True).ir), exact=True) as before,
    ):
        fed, expected, unlike = engine.under(other).run(one.feed), held.run(one.feed), before.run(one.feed)

    assert any(not np.array_equal(unlike[key], expected[key]) for key in expected), "the other scales must matter"
    for key, array in expected.items():
        np.testing.assert_array_equal(fed[key], array)


def test_the_one_value_that_its_calibrator_spoils_gets_another() -> None:
    one = bench("mlp", TENSORRT, FP32)
    spoilt = scaled(one.ranges, 0.05, "relu_out")

    table = refined(one, spoilt, one.ranges)

    assert dict(table.chosen) == {"relu_out": one.ranges.method}
    assert table.clipped["relu_out"] == one.ranges.clipped["relu_out"]
    assert {n: s for n, s in table.clipped.items() if n != "relu_out"} == {
        n: s for n, s in spoilt.clipped.items() if n != "relu_out"
    }
    assert noise(one, table) < 0.1 * noise(one, spoilt)


@settings(max_examples=25)
@given(st.lists(st.floats(0.05, 3.0), min_size=1, max_size=3), st.floats(0.2, 1.5))
def test_noise_never_rises(factors: list[float], start: float) -> None:
    one = bench("conv_relu", ORT_CPU, FP32)

    first = scaled(one.ranges, start)

    table = refined(one, first, *(scaled(one.ranges, factor) for factor in factors))

    if table.chosen:
        assert noise(one, table) < 0.99 * noise(one, first)
    else:
        assert table.clipped == first.clipped


def test_with_nothing_else_to_choose_from_the_table_stays() -> None:
    one = bench("mlp", TENSORRT, FP32)

    table = refined(one, one.ranges, one.ranges)

    assert dict(table.chosen) == {}
    assert table.clipped == one.ranges.clipped


def observed(one: Bench, shift: float) -> Observed:
    values = needed_tensors(one.lowerer, one.possible)
    found = observe(one.lowerer, values, BACKEND, Dataset.from_arrays(one.feed), 16)
    return replace(found, means={name: mean + shift for name, mean in found.means.items()})


@pytest.mark.parametrize(("shift", "kept"), [(0.0, True), (50.0, False)])
def test_biases_are_corrected_only_where_that_helps(shift: float, kept: bool) -> None:
    one = bench("conv_relu", TENSORRT, FP32)
    tables = {"minmax": replace(one.ranges, means=observed(one, shift).means)}

    table = choose_ranges(one.calibration(BACKEND), observed(one, shift), tables)

    assert bool(table.means) is kept
    assert (table.evidence[UNCORRECTED] >= table.evidence[ONE_FOR_EACH]) is kept


def test_what_was_chosen_on_few_samples_must_hold_on_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The refined table is kept only where samples that did not choose it agree."""
    one = bench("mlp", TENSORRT, FP32)
    data = Dataset.from_arrays({name: np.concatenate([array] * 4) for name, array in one.feed.items()})
    found = observed(one, 0.0)

    def choose(worse: float) -> RangeTable:
        monkeypatch.setattr("autoprec.calibrate.choose.refine", lambda *_, **__: scaled(one.ranges, worse))
        return choose_ranges(one.calibration(BACKEND, data), found, {"minmax": one.ranges})

    assert choose(0.05).clipped == one.ranges.clipped
    better = scaled(one.ranges, 20.0)
    monkeypatch.setattr("autoprec.calibrate.choose.refine", lambda *_, **__: one.ranges)
    kept = choose_ranges(one.calibration(BACKEND, data), found, {"wide": better})
    assert kept.clipped == one.ranges.clipped
    assert kept.evidence[ONE_FOR_EACH] < kept.evidence[ONE_FOR_ALL]


def test_a_calibrator_that_the_recipe_names_is_used_for_every_value() -> None:
    one = bench("mlp", TENSORRT, FP32)

    table = calibrate_model(one.calibration(BACKEND, method="percentile"))

    assert (dict(table.chosen), dict(table.evidence)) == ({}, {})


def test_averages_and_blends_lie_within_what_was_seen() -> None:
    one = bench("mlp", TENSORRT, FP32)
    widest = calibrate_model(one.calibration(BACKEND, method="minmax", batch=4)).clipped
    for recipe in ({"method": "average"}, {"method": "blend", "blend": (("minmax", 1.0), ("average", 1.0))}):
        found = calibrate_model(one.calibration(BACKEND, batch=4, **recipe)).clipped
        assert found.keys() == widest.keys()
        assert all(found[name].high < widest[name].high for name in widest if name != "x")
        assert all(found[name].high > 0.3 * widest[name].high for name in widest)


def test_a_range_that_does_not_help_on_the_first_samples_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    one = bench("mlp", TENSORRT, FP32)
    data = Dataset.from_arrays(one.feed)
    looked: list[int] = []
    evaluate = Evaluator.evaluate

    def counted(self: Evaluator, *arguments: Any) -> Outcome:
        outcome = evaluate(self, *arguments)
        looked.append(len(outcome.scores))
        return outcome

    monkeypatch.setattr(Evaluator, "evaluate", counted)
    histograms = observe(one.lowerer, needed_tensors(one.lowerer, one.possible), BACKEND, data, 16).histograms
    spoilt = scaled(one.ranges, 0.05, "relu_out")
    with BACKEND.build(to_bytes(one.model.ir), exact=True) as reference:
        evaluator = Evaluator.against(reference, data, one.model.interface, load_metric("sqnr"), 4)
        table = refine(one.calibration(BACKEND), evaluator, histograms, one.ranges, [spoilt])

    assert dict(table.chosen) == {}
    assert looked == [data.count, 4]
