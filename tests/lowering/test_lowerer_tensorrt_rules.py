"""What TensorRT's parser and builder demand of every lowered model: a violation is a build error."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from autoprec.lowering.lowerer import Lowered
from autoprec.lowering.passes.type_slots import DATA_TYPES, OPSET_QDQ
from autoprec.precision import CARRIERS, Precision

from ..helpers.lowering_bench import Bench, array_of, bench, lowered_everywhere, node_named, ops, run, sqnr_db
from ..helpers.onnx_builder import Builder

INT8 = Precision.INT8


@pytest.fixture(scope="module")
def everywhere() -> list[tuple[str, Lowered]]:
    return [found for carrier in CARRIERS for found in lowered_everywhere(carrier)]


def conversions(lowered: Lowered) -> list[ir.Node]:
    return ops(lowered.ir, "QuantizeLinear", "DequantizeLinear")


def test_quantisation_is_symmetric_all_zero_points_are_zero(everywhere: list[tuple[str, Lowered]]) -> None:
    for name, lowered in everywhere:
        for node in conversions(lowered):
            if len(node.inputs) > 2:
                assert not np.any(array_of(node.inputs[2]).astype(np.float32)), (name, node.name)
                assert node.inputs[2].dtype in (ir.DataType.INT8, ir.DataType.FLOAT8E4M3FN)


def test_scales_are_constant_positive_and_finite(everywhere: list[tuple[str, Lowered]]) -> None:
    for name, lowered in everywhere:
        for node in conversions(lowered):
            scale = array_of(node.inputs[1]).astype(np.float64)
            assert np.all((scale > 0) & (scale < np.inf)), (name, node.name)


def test_scales_are_scalars_or_one_for_each_slice_along_an_explicit_axis(
    everywhere: list[tuple[str, Lowered]],
) -> None:
    vectors = 0
    for name, lowered in everywhere:
        for node in conversions(lowered):
            scale = array_of(node.inputs[1])
            if scale.ndim:
                vectors += 1
                axis = node.attributes["axis"].as_int()
                expected = (node.inputs[0].shape[axis],)
                if "block_size" in node.attributes:
                    expected = list(node.inputs[0].shape)
                    expected[axis] = -(-expected[axis] // node.attributes["block_size"].as_int())
                assert scale.shape == tuple(expected), (name, node.name)
    assert vectors > 100


def test_only_weights_have_a_scale_for_each_channel(everywhere: list[tuple[str, Lowered]]) -> None:
    for name, lowered in everywhere:
        for node in conversions(lowered):
            if array_of(node.inputs[1]).ndim:
                assert node.op_type == "DequantizeLinear", (name, node.name)
                assert node.inputs[0].is_initializer()


def test_no_quantised_value_has_rank_0_or_fewer_than_8_elements(everywhere: list[tuple[str, Lowered]]) -> None:
    for name, lowered in everywhere:
        for node in ops(lowered.ir, "QuantizeLinear"):
            shape = node.inputs[0].shape
            assert len(shape) > 0, (name, node.name)
            assert np.prod([dim if isinstance(dim, int) else 8 for dim in shape]) >= 8


def test_the_scale_of_a_quantisation_has_the_type_of_its_input(everywhere: list[tuple[str, Lowered]]) -> None:
    for name, lowered in everywhere:
        for node in ops(lowered.ir, "QuantizeLinear"):
            assert node.inputs[0].dtype == node.inputs[1].dtype, (name, node.name)


def test_a_dequantised_value_has_the_type_of_its_scale(everywhere: list[tuple[str, Lowered]]) -> None:
    for name, lowered in everywhere:
        for node in ops(lowered.ir, "DequantizeLinear"):
            assert node.outputs[0].dtype == node.inputs[1].dtype, (name, node.name)


def test_both_ends_of_a_pair_use_the_same_number(everywhere: list[tuple[str, Lowered]]) -> None:
    """Whatever types the two scales are stored in."""
    for name, lowered in everywhere:
        for node in ops(lowered.ir, "DequantizeLinear"):
            quantize = node.inputs[0].producer()
            if quantize is not None:
                scales = [array_of(n.inputs[1]).astype(np.float64) for n in (quantize, node)]
                np.testing.assert_array_equal(*scales, err_msg=f"{name} {node.name}")


def test_half_scales_and_fp8_come_with_opset_19_and_bf16_with_22(everywhere: list[tuple[str, Lowered]]) -> None:
    for name, lowered in everywhere:
        opset = lowered.ir.opset_imports[""]
        kinds = {
            value.dtype for node in lowered.ir.graph for value in (*node.inputs, *node.outputs) if value is not None
        }
        if ir.DataType.BFLOAT16 in kinds:
            assert opset >= 22, name
        if conversions(lowered) and kinds & {ir.DataType.FLOAT16, ir.DataType.FLOAT8E4M3FN}:
            assert opset >= 19, name
        assert opset >= OPSET_QDQ


def test_a_dequantised_weight_feeds_its_op_directly(everywhere: list[tuple[str, Lowered]]) -> None:
    for name, lowered in everywhere:
        for node in ops(lowered.ir, "DequantizeLinear"):
            if node.inputs[0].is_initializer():
                kinds = {reader.op_type for reader in node.outputs[0].consumers()}
                assert kinds <= {"Conv", "ConvTranspose", "Gemm", "MatMul", "Gather"}, (name, kinds)


def test_a_transposed_weight_is_folded_before_it_is_quantised() -> None:
    b = Builder()
    turned = b.node("Transpose", "turn", [b.weight("w", 48, 64)], perm=[1, 0])
    b.node("MatMul", "mm", [b.input("x", ["N", 64]), turned])
    b.output("mm_out", ["N", 48])
    one = Bench(b.model())
    lowered = one.lower(one.uniform(INT8)).ir
    reader = node_named(lowered, "mm").inputs[1].producer()

    assert ops(lowered, "Transpose") == []
    assert (reader.op_type, reader.inputs[0].shape) == ("DequantizeLinear", ir.Shape([64, 48]))
    assert one.sqnr(lowered) > 35


def test_biases_are_never_quantised(everywhere: list[tuple[str, Lowered]]) -> None:
    for name, lowered in everywhere:
        for node in ops(lowered.ir, "Conv", "ConvTranspose", "Gemm"):
            if len(node.inputs) > 2:
                assert node.inputs[2].is_initializer(), (name, node.name)
                assert node.inputs[2].dtype in DATA_TYPES.values()


def linear_block(op: str, *shape: int, **attributes: int) -> Bench:
    """One linear op whose output channels differ in size by three orders of magnitude, between two others."""
    b = Builder()
    sizes = np.geomspace(1e-3, 1, 32)
    group = attributes.get("group", 1)
    axis = {"Conv": 0, "ConvTranspose": 1, "Gemm": 0 if attributes.get("transB") else 1}.get(op, len(shape) - 1)
    weight = b.random.normal(0, 0.1, shape)
    if group == 1 or op == "Conv":
        weight *= sizes.reshape([-1 if place == axis else 1 for place in range(len(shape))])
    x = b.image() if op.startswith("Conv") else b.input("x", ["N", 32] if len(shape) == 2 else ["N", 4, 16, 32])
    b.node(op, "op", [x, b.const("w", weight)], **attributes)
    b.output("op_out", [None] * (2 if len(shape) == 2 else 4))
    return Bench(b.model())


@pytest.mark.parametrize(
    ("one", "axis"),
    [
        (linear_block("Conv", 32, 32, 3, 3), 0),
        (linear_block("Conv", 32, 16, 3, 3, group=2), 0),
        (linear_block("ConvTranspose", 32, 32, 3, 3), 1),
        (linear_block("ConvTranspose", 32, 16, 3, 3, group=2), None),
        (linear_block("Gemm", 32, 32, transB=1), 0),
        (linear_block("Gemm", 32, 32), 1),
        (linear_block("MatMul", 32, 32), 1),
        (linear_block("MatMul", 4, 32, 32), None),
    ],
)
def test_weights_are_quantised_along_their_output_channels(one: Bench, axis: int | None) -> None:
    """Every output channel keeps its accuracy, the small ones too, where there is an axis for them."""
    lowered = one.lower(one.uniform(INT8)).ir
    reader = node_named(lowered, "op").inputs[1].producer()
    out, reference = run(lowered, one.feed)["op_out"], one.reference["op_out"]
    channel = 1 if out.ndim == 4 and "Conv" in node_named(lowered, "op").op_type else out.ndim - 1
    parts = [sqnr_db({"y": np.take(reference, [c], channel)}, {"y": np.take(out, [c], channel)}) for c in range(32)]

    assert (reader.attributes["axis"].as_int() if axis is not None else None) == axis
    assert array_of(reader.inputs[1]).ndim == (0 if axis is None else 1)
    if axis is not None:
        assert min(parts) > 30


def test_graph_inputs_and_outputs_are_never_changed(everywhere: list[tuple[str, Lowered]]) -> None:
    for name, lowered in everywhere:
        original = bench(name).model.graph
        for side in ("inputs", "outputs"):
            before, after = ([(v.name, v.dtype) for v in getattr(g, side)] for g in (original, lowered.ir.graph))
            assert before == after, name
