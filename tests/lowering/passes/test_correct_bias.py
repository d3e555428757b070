"""The mean error of rounded weights is taken out of the bias."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.correct_bias import CorrectBiasPass, channel_error
from autoprec.lowering.passes.quantize_weights import QuantizeWeightsPass
from autoprec.lowering.placement import WeightPoint
from autoprec.lowering.weight_axis import axis_of_weight
from autoprec.precision import Precision

from ...helpers.lowering_bench import array_of, loaded, node_named, run
from ...helpers.onnx_builder import Builder

INT8 = Precision.INT8


def linear(op: str, group: int = 1, bias: bool = True, **attributes: float) -> onnx.ModelProto:
    """One linear op without padding, so that the correction is exact."""
    b = Builder()
    if op == "Conv":
        x, weight = b.input("x", ["N", 32, 6, 6]), b.weight("w", 16, 32 // group, 3, 3)
        attributes["group"] = group
    else:
        x, weight = b.input("x", ["N", 32]), b.weight("w", *((16, 32) if attributes.get("transB") else (32, 16)))
    inputs = [x, weight, *([b.const("b", b.random.normal(0, 1, 16))] if bias and op != "MatMul" else [])]
    last = b.node(op, "op", inputs, **attributes)
    if op == "MatMul" and bias:
        last = b.node("Add", "op.add", [last, b.const("b", b.random.normal(0, 1, 16))])
    b.output(last, ["N", 16, 4, 4] if op == "Conv" else ["N", 16])
    return b.model()


CASES = [
    linear("Conv"),
    linear("Conv", bias=False),
    linear("Conv", group=4),
    linear("Gemm"),
    linear("Gemm", transB=1, alpha=0.5, beta=2.0),
    linear("Gemm", bias=False),
    linear("MatMul"),
]


def quantised(proto: onnx.ModelProto) -> tuple[ir.Model, WeightPoint, np.ndarray]:
    model = loaded(proto).ir
    node = node_named(model, "op")
    point = WeightPoint(node="op", index=1, precision=INT8, axis=axis_of_weight(node, 1))
    weight = array_of(node.inputs[1])
    QuantizeWeightsPass(GraphEditor(model), [point], Precision.FP32)(model)
    return model, point, weight


@pytest.mark.parametrize("proto", CASES)
def test_the_mean_of_each_output_channel_is_as_before(proto: onnx.ModelProto) -> None:
    x = np.random.default_rng(0).normal(3, 1, (64, *([32, 6, 6] if "Conv" in str(proto) else [32]))).astype("f4")
    if x.ndim == 4:  # the same mean at every place of a channel, so that the formula holds exactly
        x += np.linspace(-2, 2, 32, dtype="f4").reshape(1, -1, 1, 1) - x.mean(axis=(0, 2, 3), keepdims=True)
        x = np.broadcast_to(x.mean(axis=(2, 3), keepdims=True), x.shape).copy()
    means = {"x": x.mean(axis=(0, 2, 3) if x.ndim == 4 else 0, dtype=np.float64)}

    def channel_means(model: ir.Model) -> np.ndarray:
        (out,) = run(model, {"x": x}).values()
        return out.mean(axis=(0, 2, 3) if out.ndim == 4 else 0, dtype=np.float64)

    reference = channel_means(loaded(proto).ir)
    model, point, weight = quantised(proto)
    before = np.abs(channel_means(model) - reference)
    assert CorrectBiasPass(GraphEditor(model), [point], {"op": weight}, means)(model).modified
    after = np.abs(channel_means(model) - reference)

    assert before.max() > 3e-3
    assert after.max() < before.max() / 100


def test_a_product_without_a_bias_behind_it_gets_none() -> None:
    model, point, weight = quantised(linear("MatMul", bias=False))

    assert not CorrectBiasPass(GraphEditor(model), [point], {"op": weight}, {"x": np.ones(32)})(model).modified


def test_values_that_were_not_calibrated_are_passed_over() -> None:
    model, point, weight = quantised(linear("Gemm"))

    assert not CorrectBiasPass(GraphEditor(model), [point], {"op": weight}, {})(model).modified


def test_a_bias_that_runs_along_the_rows_is_left() -> None:
    b = Builder()
    product = b.node("MatMul", "op", [b.input("x", [16, 32]), b.weight("w", 32, 16)])
    b.node("Add", "op.add", [product, b.const("rows", b.random.normal(0, 1, (16, 1)))])
    b.output("op.add_out", [16, 16])
    model, point, weight = quantised(b.model())

    assert not CorrectBiasPass(GraphEditor(model), [point], {"op": weight}, {"x": np.ones(32)})(model).modified


def test_it_requires_stored_weights() -> None:
    model = loaded(linear("Gemm")).ir
    with pytest.raises(ir.passes.PreconditionError, match="input 1 of 'op' must be stored in codes"):
        CorrectBiasPass(GraphEditor(model), [WeightPoint(node="op", index=1, precision=INT8, axis=1)], {}, {})(model)


def test_grouped_convolutions_take_the_means_of_their_group() -> None:
    node = node_named(loaded(linear("Conv", group=4)).ir, "op")
    error = np.zeros((16, 8, 3, 3))
    error[5, 2] = 1.0  # group 1, so channel 8 + 2
    mean = np.zeros(32)
    mean[10] = 1.0
    found = channel_error(node, error, mean)

    assert found is not None
    assert np.flatnonzero(found).tolist() == [5]
    assert found[5] == 9.0
