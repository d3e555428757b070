"""A BatchNormalization behind an activation becomes a depthwise 1x1 convolution."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from autoprec.backends.scheme import ORT_CPU
from autoprec.graph.model import check_model
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.norm_to_conv import NormToConvPass
from autoprec.lowering.passes.quantize_weights import QuantizeWeightsPass
from autoprec.lowering.placement import WeightPoint
from autoprec.precision import Precision

from ...helpers.lowering_bench import Bench, array_of, loaded, node_named, ops, run, sqnr_db
from ...helpers.networks import random_feed
from ...helpers.onnx_builder import Builder


def relu_bn(rank: int = 4) -> onnx.ModelProto:
    b = Builder()
    spatial = [8] * (rank - 2)
    x = b.node("Relu", "relu", [b.input("x", ["N", 32, *spatial])])
    b.bn("bn", x, 32)
    b.output("bn_out", ["N", 32, *spatial])
    return b.model()


@pytest.mark.parametrize("rank", [3, 4, 5])
def test_the_convolution_computes_the_same_under_the_same_names(rank: int) -> None:
    proto = relu_bn(rank)
    model = loaded(proto).ir
    feed = random_feed(proto, 3)
    before = run(model, feed)

    assert NormToConvPass(GraphEditor(model), ["bn"])(model).modified
    check_model(model)
    node = node_named(model, "bn")
    assert (node.op_type, node.outputs[0].name) == ("Conv", "bn_out")
    assert sqnr_db(before, run(model, feed)) > 120


def test_a_norm_of_vectors_is_left() -> None:
    model = loaded(relu_bn(2)).ir

    assert not NormToConvPass(GraphEditor(model), ["bn"])(model).modified


def test_its_int8_weights_are_exact() -> None:
    """One weight and one scale for each channel: the code is always 127."""
    model = loaded(relu_bn()).ir
    NormToConvPass(GraphEditor(model), ["bn"])(model)
    exact = array_of(node_named(model, "bn").inputs[1])
    QuantizeWeightsPass(
        GraphEditor(model), [WeightPoint(node="bn", index=1, precision=Precision.INT8, axis=0)], Precision.FP32
    )(model)
    stored = node_named(model, "bn").inputs[1].producer()
    codes, scales = array_of(stored.inputs[0]).astype(np.float32), array_of(stored.inputs[1])

    np.testing.assert_allclose(codes * scales.reshape(-1, 1, 1, 1), exact, rtol=1e-6)


def test_on_the_cpu_it_runs_in_8_bits_and_for_tensorrt_it_stays_a_norm() -> None:
    b = Builder()
    value = b.bn("bn", b.node("Relu", "relu", [b.conv("conv", b.image(), 32, 32)]), 32)
    b.conv("after", value, 32, 32)
    b.output("after_out", ["N", 32, 8, 8])
    proto = b.model()
    cpu = Bench(proto, ORT_CPU, Precision.FP32)
    lowered = cpu.lower(cpu.uniform(Precision.INT8))
    other = Bench(proto)

    assert node_named(lowered.ir, "bn").op_type == "Conv"
    assert node_named(lowered.ir, "bn").inputs[1].producer().op_type == "DequantizeLinear"
    assert {"relu_out", "bn_out"} <= {point.tensor for point in lowered.placement.activations}
    assert len(ops(other.lower(other.uniform(Precision.INT8)).ir, "BatchNormalization")) == 1
