"""Products whose activations are quantised at run time compute what ONNX defines, and are fused by ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from autoprec.backends.ort import OrtBackend
from autoprec.backends.scheme import ORT_CPU, ORT_CPU_7BIT
from autoprec.graph.model import check_model, to_bytes
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.quantize_at_run_time import QuantizeAtRunTimePass
from autoprec.precision import Array, Precision

from ...helpers.lowering_bench import Bench, loaded, node_named, run
from ...helpers.networks import mha_block, mlp
from ...helpers.onnx_builder import Builder

FP32, INT8, DYNAMIC = Precision.FP32, Precision.INT8, Precision.INT8_DYNAMIC


def bench_of(builder: Builder) -> Bench:
    return Bench(builder.model(), ORT_CPU_7BIT, FP32)


def product(*shape: int, transposed: bool = False) -> Bench:
    """X @ W alone, W of this shape, perhaps turned round in the graph."""
    b = Builder()
    x = b.input("x", ["N", *shape[:-2], 6, shape[-2]])
    stored = shape[::-1] if transposed else shape
    w = b.const("w", b.random.normal(size=stored))
    b.node("MatMul", "mm", [x, b.node("Transpose", "turn", [w], perm=[1, 0]) if transposed else w])
    b.output("mm_out", ["N", *shape[:-2], 6, shape[-1]])
    return bench_of(b)


def dynamic_by_hand(x: Array, weight: Array, largest: int) -> Array:
    """ONNX's DynamicQuantizeLinear of the whole tensor, times weights with a scale for each column or one for all."""
    low, high = min(x.min(), 0), max(x.max(), 0)
    scale = (high - low) / 255
    zero = np.clip(np.rint(-low / scale), 0, 255)
    codes = np.clip(np.rint(x / scale) + zero, 0, 255) - zero
    over = np.abs(weight).max(axis=0 if weight.ndim == 2 else None) / largest
    exact: Array = (codes @ np.rint(weight / over)) * (scale * over)
    return exact


@pytest.mark.parametrize("shape", [(32, 24), (3, 32, 24)])
def test_the_arithmetic_is_that_of_the_onnx_operators(shape: tuple[int, ...]) -> None:
    one = product(*shape)
    weight = next(v.const_value.numpy() for v in one.model.graph.initializers.values() if v.const_value is not None)
    lowered = one.lowerer.lower({"mm": DYNAMIC}, None)  # no ranges are needed

    found = run(lowered.ir, one.feed)["mm_out"]

    np.testing.assert_allclose(found, dynamic_by_hand(one.feed["x"], weight, 64), rtol=1e-4, atol=1e-4)
    twin = run(one.lowerer.lower({"mm": DYNAMIC}, None, simulate=True).ir, one.feed)["mm_out"]
    np.testing.assert_allclose(twin, found, rtol=1e-4, atol=1e-4)


def test_a_weight_that_is_turned_round_in_the_graph_has_a_scale_for_each_column() -> None:
    one = product(32, 24, transposed=True)
    assert one.sqnr(one.lower({"mm": DYNAMIC}).ir) > 35


def test_products_that_read_one_value_quantise_it_once() -> None:
    one = Bench(mha_block(), ORT_CPU_7BIT, FP32)
    lowered = one.lower(one.uniform(DYNAMIC)).ir
    check_model(lowered)

    read = [node.inputs[0].name for node in lowered.graph if node.op_type == "DynamicQuantizeLinear" and node.inputs[0]]

    assert sorted(read) == ["merge_out", "x"]
    assert sum(node.op_type == "MatMulInteger" for node in lowered.graph) == 4
    assert not any(node.op_type == "DequantizeLinear" for node in lowered.graph)  # of weights, which nothing reads


def test_onnx_runtime_fuses_each_product_with_its_bias() -> None:
    """A Gemm too: its bias is added, as a Sub would stay a kernel of its own."""
    one = Bench(mlp(), ORT_CPU_7BIT, FP32)
    lowered = one.lower(one.uniform(DYNAMIC))
    names = [unit.anchors[0] for unit in one.partition.units]
    assert all(any(n.op_type == "Add" for n in lowered.record.nodes[name]) for name in names)

    found = OrtBackend(1).inspect(to_bytes(lowered.ir), names)

    assert {(ran.operator, ran.precision) for ran in found.values()} == {("DynamicQuantizeMatMul", DYNAMIC)}


def test_a_weight_that_two_plans_share_is_stored_once() -> None:
    b = Builder()
    w = b.const("w", b.random.normal(size=(32, 32)))
    first = b.node("Tanh", "between", [b.node("MatMul", "first", [b.input("x", ["N", 6, 32]), w])])
    b.node("MatMul", "second", [first, w])
    b.output("second_out", ["N", 6, 32])
    one = bench_of(b)
    lowered = one.lower({"first": DYNAMIC, "second": INT8}).ir

    stored = [value for value in lowered.graph.initializers.values() if value.dtype is ir.DataType.INT8]

    assert [value.shape for value in stored if value.shape and len(value.shape) == 2] == [(32, 32)]
    assert one.sqnr(lowered) > 25


def test_weights_in_float_are_refused() -> None:
    model = loaded(mha_block()).ir
    with pytest.raises(ir.passes.PreconditionError, match="symmetric 8-bit weights"):
        QuantizeAtRunTimePass(GraphEditor(model), [str(node_named(model, "out").name)])(model)


def test_simulated_arithmetic_does_not_saturate_on_any_cpu() -> None:
    """CPUs without VNNI add two products in 16 bits, in which the largest codes do not fit."""
    b = Builder()
    x = b.input("x", ["N", 6, 64])
    b.node("MatMul", "mm", [x, b.const("w", np.ones((64, 24)))])
    b.output("mm_out", ["N", 6, 24])
    one = Bench(b.model(), ORT_CPU, FP32)
    feed = {"x": np.ones((2, 6, 64), np.float32)}

    twin = run(one.lowerer.lower({"mm": DYNAMIC}, None, simulate=True).ir, feed)

    np.testing.assert_allclose(twin["mm_out"], 64.0, rtol=1e-5)
