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
from ..helpers.onnx_builder import Builder

INT4 = Precision.INT4_32


def test_each_value_that_such_a_product_reads_is_seen_with_its_channels() -> None:
    bench = Bench(mha_block(), ORT_CPU, Precision.FP32)
    assert widths(bench) == {"x": 64, "merge_out": 64}
    convolutions = Bench(conv_relu(), ORT_CPU, Precision.FP32)
    assert widths(convolutions) == {}
    assert list(widths(convolutions, of_8_bits=True).values()) == [9 * 32]


def widths(bench: Bench, *, of_8_bits: bool = False) -> dict[str, int]:
    found = values_with_moments(bench.lowerer, bench.possible, of_8_bits=of_8_bits)
    return {reading.value: reading.channels for reading in found.values()}


def seen(bench: Bench, *, of_8_bits: bool = False) -> RangeTable:
    job = bench.calibration(OrtBackend(1))
    read = values_with_moments(bench.lowerer, bench.possible, of_8_bits=of_8_bits)
    return with_moments(job, bench.ranges, read, of_8_bits=of_8_bits)


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
        apart.fingerprint
        == together.fingerprint
        == moments_fingerprint(bench.ranges.fingerprint, [("x", ""), ("merge_out", "")])
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


def test_weights_of_8_bits_are_rounded_by_them_where_the_table_says_so_and_again_from_a_plan() -> None:
    """A grouped and a plain convolution; the plan without moments is what it was before there were any."""
    bench = Bench(grouped().model(), ORT_CPU, Precision.FP32)
    table, plan = seen(bench, of_8_bits=True), bench.uniform(Precision.INT8)
    again = ranges_from_record(json.loads(json.dumps(table.to_record())), "a plan", PlanError)

    def codes(ranges: RangeTable) -> list[bytes]:
        weights = bench.lowerer.lower(plan, ranges).ir.graph.initializers.values()
        return [v.const_value.tobytes() for v in weights if v.const_value is not None and len(v.const_value.shape) > 2]

    assert len(codes(table)) == len(table.readings) == 2
    assert codes(again) == codes(table)
    assert all(one != other for one, other in zip(codes(table), codes(bench.ranges), strict=True))
    assert codes(replace(table, rounds_8_bits=False)) == codes(bench.ranges)
    assert again.fingerprint != moments_fingerprint(bench.ranges.fingerprint, table.readings)
    assert table.for_plan([Precision.FP8]).readings == {}
    assert table.for_plan([Precision.INT8]) is table


def grouped() -> Builder:
    b = Builder()
    hidden = b.conv("first", b.input("x", ["N", 8, 9, 9]), 8, 12, 3, group=2)
    b.output(b.conv("second", hidden, 12, 16, 3), ["N", 16, 9, 9])
    return b


def test_a_plan_without_such_weights_keeps_none() -> None:
    table = seen(Bench(mlp(), ORT_CPU, Precision.FP32))

    assert table.for_plan([Precision.INT8]).moments == {}
    assert table.for_plan([INT4]) is table
    assert "moments" not in replace(table, moments={}).to_record()
