"""Moments are collected of what products with weights in blocks read, and rounding by them is what a plan gets."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from autoprec.backends.ort import OrtBackend
from autoprec.backends.scheme import ORT_CPU
from autoprec.calibrate.moments import moments_fingerprint, values_with_moments, with_moments
from autoprec.errors import PlanError
from autoprec.precision import Precision
from autoprec.ranges.table import RangeTable, ranges_from_record

from ..helpers.lowering_bench import Bench
from ..helpers.networks import conv_relu, mha_block, mlp

INT4 = Precision.INT4_32


def test_each_value_that_such_a_product_reads_is_seen_with_its_channels() -> None:
    bench = Bench(mha_block(), ORT_CPU, Precision.FP32)
    assert values_with_moments(bench.lowerer, bench.possible) == {"x": 64, "merge_out": 64}
    convolutions = Bench(conv_relu(), ORT_CPU, Precision.FP32)
    assert values_with_moments(convolutions.lowerer, convolutions.possible) == {}


def seen(bench: Bench) -> RangeTable:
    job = bench.calibration(OrtBackend(1))
    return with_moments(job, bench.ranges, values_with_moments(bench.lowerer, bench.possible))


def test_they_are_those_of_the_data_however_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(mha_block(), ORT_CPU, Precision.FP32)
    together = seen(bench)
    monkeypatch.setattr("autoprec.calibrate.moments._MOST_BYTES", 1)  # a pass for each value
    apart = with_moments(
        bench.calibration(OrtBackend(1), batch=3), bench.ranges, values_with_moments(bench.lowerer, bench.possible)
    )
    x = bench.feed["x"].reshape(-1, 64)
    exact = x.T @ x / np.trace(x.T @ x) * 64

    # The parts that are kept are the largest ones; those of noise are all alike.
    np.testing.assert_allclose(np.diag(together.moments["x"].matrix()), np.diag(exact), rtol=0.01)
    np.testing.assert_allclose(apart.moments["x"].matrix(), together.moments["x"].matrix(), atol=2e-2)
    assert (
        apart.fingerprint == together.fingerprint == moments_fingerprint(bench.ranges.fingerprint, ["x", "merge_out"])
    )


def test_a_plan_that_is_read_again_rounds_as_the_run_did() -> None:
    bench = Bench(mlp(), ORT_CPU, Precision.FP32)
    table, plan = seen(bench), bench.uniform(INT4)
    record = json.loads(json.dumps(table.to_record()))
    again = ranges_from_record(record, "a plan", PlanError)

    def stored(ranges: RangeTable) -> list[bytes]:
        lowered = bench.lowerer.lower(plan, ranges).ir
        return [v.const_value.tobytes() for v in lowered.graph.initializers.values() if v.const_value is not None]

    assert stored(again) == stored(table)
    assert stored(table) != stored(replace(table, moments={}))
    record["moments"]["x"]["rest"] = "?"
    with pytest.raises(PlanError, match="damaged"):
        ranges_from_record(record, "a plan", PlanError)


def test_a_plan_without_such_weights_keeps_none() -> None:
    table = seen(Bench(mlp(), ORT_CPU, Precision.FP32))

    assert table.for_plan([Precision.INT8]).moments == {}
    assert table.for_plan([INT4]) is table
    assert "moments" not in replace(table, moments={}).to_record()
