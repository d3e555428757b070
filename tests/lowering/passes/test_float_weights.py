"""Weights behind a QuantizeLinear give back the very codes that were stored, and nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from autoprec.graph.model import check_model, to_bytes
from autoprec.graph.topology import const_array
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.float_weights import FloatWeightsPass
from autoprec.lowering.passes.quantize_weights import QuantizeWeightsPass
from autoprec.lowering.placement import WeightPoint
from autoprec.lowering.weight_axis import axis_of_weight
from autoprec.precision import Precision

from ...helpers.lowering_bench import array_of, loaded, ops, run
from ...helpers.networks import BUILDERS, random_feed

INT8 = Precision.INT8
LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def quantized(name: str) -> ir.Model:
    """A block whose weights are INT8 initializers, each behind a DequantizeLinear."""
    model = loaded(BUILDERS[name]()).ir
    points = [
        WeightPoint(node=str(node.name), index=index, precision=INT8, axis=axis_of_weight(node, index))
        for node in ops(model, *LINEAR)
        for index in (0, 1)
        if (array := const_array(node.inputs[index])) is not None and array.ndim > 1
    ]
    QuantizeWeightsPass(GraphEditor(model), points, Precision.FP32)(model)
    return model


def with_output(model: ir.Model, value: ir.Value) -> ir.Model:
    """The model with one more output."""
    model = model.clone()
    model.graph.outputs.append(next(v for node in model.graph for v in node.outputs if v.name == value.name))
    return model


def weight_pairs(model: ir.Model) -> list[tuple[ir.Node, ir.Node]]:
    """(QuantizeLinear, DequantizeLinear) of each weight."""
    return [(node.inputs[0].producer(), node) for node in ops(model, "DequantizeLinear")]  # type: ignore[misc,union-attr]


@pytest.mark.parametrize("name", BUILDERS)
def test_every_block_computes_the_same_bits(name: str) -> None:
    model = quantized(name)
    feed = random_feed(BUILDERS[name](), 2)
    opset, version, before = dict(model.opset_imports), model.ir_version, run(model, feed)
    pairs = len(ops(model, "DequantizeLinear"))

    assert FloatWeightsPass(GraphEditor(model))(model).modified is (pairs > 0)
    check_model(model)  # with full shape inference
    onnx.checker.check_model(onnx.load_from_string(to_bytes(model)), full_check=True)
    assert (dict(model.opset_imports), model.ir_version) == (opset, version)
    assert len(ops(model, "QuantizeLinear")) == len(ops(model, "DequantizeLinear")) == pairs
    for output, array in run(model, feed).items():
        np.testing.assert_array_equal(array, before[output])


@pytest.mark.parametrize("name", ["resnet_block", "conv_transpose_block", "mlp", "shared_weight", "mha_block"])
def test_the_quantizers_give_the_stored_codes_back_bit_for_bit(name: str) -> None:
    model = quantized(name)
    stored = {node.name: array_of(node.inputs[0]) for node in ops(model, "DequantizeLinear")}
    FloatWeightsPass(GraphEditor(model))(model)
    feed = random_feed(BUILDERS[name](), 1)

    assert stored
    for quantize, dequantize in weight_pairs(model):
        found = run(with_output(model, quantize.outputs[0]), feed)[str(quantize.outputs[0].name)]
        assert found.dtype == np.int8
        np.testing.assert_array_equal(found, stored[dequantize.name])


@pytest.mark.parametrize("name", ["resnet_block", "conv_transpose_block", "mlp", "mha_block"])
def test_no_constant_of_a_quantized_weight_is_left_in_8_bits_but_zero_points(name: str) -> None:
    model = quantized(name)
    FloatWeightsPass(GraphEditor(model))(model)
    eight = [value for value in model.graph.initializers.values() if value.dtype is ir.DataType.INT8]

    for quantize, dequantize in weight_pairs(model):
        assert array_of(quantize.inputs[0]).dtype == np.float32
        assert quantize.inputs[1] is dequantize.inputs[1]
        assert quantize.inputs[2] is dequantize.inputs[2]
        assert quantize.attributes.get_int("axis", 1) == dequantize.attributes.get_int("axis", 1)
    assert {use.node.op_type for value in eight for use in value.uses()} <= {"QuantizeLinear", "DequantizeLinear"}
    assert all(not array_of(value).any() for value in eight)


def test_a_weight_that_two_products_read_is_stored_once() -> None:
    model = quantized("shared_weight")
    FloatWeightsPass(GraphEditor(model))(model)

    assert len(ops(model, "QuantizeLinear")) == 1
    assert len([v for v in model.graph.initializers.values() if array_of(v).size > 1000]) == 1


def test_a_model_without_such_weights_is_left() -> None:
    model = loaded(BUILDERS["resnet_block"]()).ir
    before = to_bytes(model)

    assert not FloatWeightsPass(GraphEditor(model))(model).modified
    assert to_bytes(model) == before


def test_pairs_on_activations_are_left() -> None:
    model = dequantizing(np.ones((4, 4), np.int8), np.float32(0.5), None)
    scale = next(v for v in model.graph.initializers.values() if array_of(v).dtype == np.float32)
    x = model.graph.inputs[0]
    pair = ir.node("QuantizeLinear", [x, scale], name="x.q"), ir.node("DequantizeLinear", [], name="x.dq")
    back = ir.node("DequantizeLinear", [pair[0].outputs[0], scale], name="x.dq")
    product = ops(model, "MatMul")[0]
    model.graph.insert_before(product, [pair[0], back])
    product.replace_input_with(0, back.outputs[0])
    FloatWeightsPass(GraphEditor(model))(model)

    assert back.inputs[0].producer() is pair[0]
    assert len(back.inputs) == 2


def shifted(zero: Any, *, constant: bool = True) -> ir.Model:
    """Codes 1 with a zero point."""
    model = dequantizing(np.ones((4, 4), np.int8), np.float32(0.5), None)
    point = ir.Value(name="zero", type=ir.TensorType(ir.DataType.INT8), shape=ir.Shape([]))
    if constant:
        point.const_value = ir.tensor(np.asarray(zero, np.int8), name="zero")
        model.graph.register_initializer(point)
    else:
        model.graph.inputs.append(point)
    (node,) = ops(model, "DequantizeLinear")
    node.resize_inputs(3)
    node.replace_input_with(2, point)
    return model


@pytest.mark.parametrize(("zero", "constant"), [(3, True), (0, False)])
def test_codes_with_a_zero_point_are_refused(zero: int, constant: bool) -> None:
    """Their floats would be wrong, and none the wiser."""
    model = shifted(zero, constant=constant)
    before = to_bytes(model)
    with pytest.raises(ir.passes.PreconditionError, match="the zero point of 'w/dequantize' must be 0"):
        FloatWeightsPass(GraphEditor(model))(model)

    assert to_bytes(model) == before


def test_a_zero_point_of_0_is_none() -> None:
    model = shifted(0)
    feed = {"x": np.ones((2, 4), np.float32)}
    before = run(model, feed)["y"]

    assert FloatWeightsPass(GraphEditor(model))(model).modified
    np.testing.assert_array_equal(run(model, feed)["y"], before)


def test_what_is_not_converted_is_found() -> None:
    """The check behind the pass is no empty one."""
    model = quantized("mlp")
    with pytest.raises(ir.passes.PostconditionError, match=r"dequantize' still reads a constant"):
        FloatWeightsPass(GraphEditor(model)).ensures(model)


def dequantizing(codes: np.ndarray[Any, Any], scale: Any, axis: int | None) -> ir.Model:
    """A product of x and dequantized codes, where the codes have two dimensions."""
    attributes = {} if axis is None else {"axis": axis}
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["w_dq"], name="w/dequantize", **attributes),
        helper.make_node("MatMul", ["x", "w_dq"], ["y"], name="mm"),
    ]
    rows, columns = codes.shape
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, rows])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, columns])],
        [numpy_helper.from_array(codes, "w"), numpy_helper.from_array(np.asarray(scale, np.float32), "s")],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8))


@settings(max_examples=60, deadline=None)
@given(
    axis=st.sampled_from([None, 0, 1, -1, -2]),
    seed=st.integers(0, 2**31),
    exponents=st.tuples(st.integers(-60, 30), st.integers(-60, 30)),
)
def test_any_codes_at_any_scale_survive(axis: int | None, seed: int, exponents: tuple[int, int]) -> None:
    """All 255 codes that a symmetric weight can have and -128, at scales with random last bits."""
    random = np.random.default_rng(seed)
    codes = np.stack([random.permutation(np.arange(-128, 128)) for _ in range(6)], 1).astype(np.int8)
    size = () if axis is None else (codes.shape[axis],)
    power = 2.0 ** random.uniform(min(exponents), max(exponents), size)
    scale = (random.uniform(1, 2, size) * power).astype(np.float32)
    model = dequantizing(codes, scale, axis)
    feed = {"x": random.normal(size=(2, 256)).astype(np.float32)}
    before = run(model, feed)["y"]
    FloatWeightsPass(GraphEditor(model))(model)
    (quantize,) = ops(model, "QuantizeLinear")
    outputs = run(with_output(model, quantize.outputs[0]), feed)

    np.testing.assert_array_equal(outputs[str(quantize.outputs[0].name)], codes)
    np.testing.assert_array_equal(outputs["y"], before)
