"""A float op between quantised ones keeps ONNX Runtime's optimiser out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autoprec.backends.scheme import ORT_CPU
from autoprec.graph.model import check_model
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.isolate_floats import IsolateFloatsPass
from autoprec.precision import Precision

from ...helpers.cpu_kernels import needs_exact_products
from ...helpers.lowering_bench import Bench, array_of, bench, node_named, ops, run, sqnr_db
from ...helpers.networks import BUILDERS
from ...helpers.onnx_builder import Builder

FP32, INT8 = Precision.FP32, Precision.INT8


def three_convs() -> Bench:
    """A float convolution with weights of very different size in each channel between two quantised ones."""
    b = Builder()
    value = b.node("Relu", "relu1", [b.conv("conv1", b.image(), 32, 32)])
    weight = b.random.normal(0, 0.06, (32, 32, 3, 3)) * np.geomspace(1, 1e-3, 32).reshape(-1, 1, 1, 1)
    value = b.node("Conv", "middle", [value, b.const("w", weight)], pads=[1] * 4)
    value = b.node("Mul", "rescale", [value, b.const("r", np.geomspace(1, 1e3, 32).reshape(1, -1, 1, 1))])
    b.conv("conv3", b.node("Relu", "relu2", [value]), 32, 32)
    b.output("conv3_out", ["N", 32, 8, 8])
    return Bench(b.model(), ORT_CPU, FP32)


@needs_exact_products
def test_a_float_convolution_between_quantised_ones_stays_float_in_the_runtime() -> None:
    one = bench("resnet_block", ORT_CPU, FP32)
    lowered = one.lower(one.uniform(INT8, conv1=FP32)).ir
    real, exact = one.sqnr(lowered, exact=False), one.sqnr(lowered)

    assert node_named(lowered, "conv1").inputs[0].producer().inputs[1].shape == [32]
    assert real == pytest.approx(exact, abs=0.5)


def test_the_values_are_the_same_bit_for_bit() -> None:
    one = three_convs()
    plan = one.uniform(INT8, middle=FP32)
    lowered = one.lower(plan).ir
    plain = Bench(one.proto, replace(ORT_CPU, float_islands=False), FP32).lower(plan).ir

    np.testing.assert_array_equal(run(lowered, one.feed)["conv3_out"], run(plain, one.feed)["conv3_out"])


def test_pairs_that_nothing_reads_any_more_are_removed() -> None:
    one = bench("resnet_block", ORT_CPU, FP32)
    lowered = one.lower(one.uniform(INT8, conv1=FP32)).ir

    assert all(node.outputs[0].uses() or node.outputs[0].is_graph_output() for node in ops(lowered, "DequantizeLinear"))


def test_an_embedding_looked_up_in_int8_is_left() -> None:
    """Its dequantisation has a scale for each column and no zero point."""
    b = Builder()
    rows = b.node("Gather", "embed", [b.weight("table", 100, 64), b.input("ids", ["N"], 7)])
    b.gemm("fc", rows, 64, 32)
    b.output("fc_out", ["N", 32])
    one = Bench(b.model(), ORT_CPU, FP32)
    lowered = one.lower({"embed": INT8, "fc": FP32}).ir
    check_model(lowered)

    assert not IsolateFloatsPass(GraphEditor(lowered))(lowered).modified
    assert one.sqnr(lowered, exact=False) > 35


@needs_exact_products
@pytest.mark.parametrize("name", sorted(set(BUILDERS) - {"conv_transpose_block"}))
def test_real_kernels_and_the_simulation_agree_on_random_mixed_plans(name: str) -> None:
    """The runtime's optimisers must not change what a plan means; 8-bit kernels only round sums differently."""
    one = bench(name, ORT_CPU, FP32)
    for seed in range(8):
        plan = {u: p if p is INT8 else FP32 for u, p in one.random_plan(seed).items()}
        lowered = one.lower(plan).ir
        real, exact = run(lowered, one.feed, exact=False), run(lowered, one.feed)

        assert sqnr_db(exact, real) > 34, (seed, plan)
        assert one.sqnr(lowered, exact=False) > 28, (seed, plan)


def test_scales_of_an_isolated_float_op_are_all_the_same() -> None:
    one = bench("resnet_block", ORT_CPU, FP32)
    reader = node_named(one.lower(one.uniform(INT8, conv1=FP32)).ir, "conv1").inputs[0].producer()

    assert len(set(array_of(reader.inputs[1]).tolist())) == 1
    assert reader.attributes["axis"].as_int() == 1
