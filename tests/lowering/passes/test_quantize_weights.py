"""Constants stored in 8 bits: how they are read, and what the pass demands and promises."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from autoprec.backends.scheme import ORT_CPU_7BIT
from autoprec.graph.model import check_model
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.quantize_weights import QuantizeWeightsPass
from autoprec.lowering.placement import WeightPoint
from autoprec.precision import Precision

from ...helpers.lowering_bench import Bench, array_of, loaded, node_named, ops, run, sqnr_db
from ...helpers.networks import BUILDERS, random_feed

INT8, FP8 = Precision.INT8, Precision.FP8


@pytest.mark.parametrize(
    ("precision", "dtype", "floor_db"), [(INT8, ir.DataType.INT8, 35), (FP8, ir.DataType.FLOAT8E4M3FN, 25)]
)
def test_weights_are_stored_in_8_bits_with_an_explicit_axis(
    precision: Precision, dtype: ir.DataType, floor_db: float
) -> None:
    proto = BUILDERS["mlp"]()
    model = loaded(proto).ir
    feed = random_feed(proto, 8)
    before = run(model, feed)
    QuantizeWeightsPass(
        GraphEditor(model),
        [
            WeightPoint(node="fc1", index=1, precision=precision, axis=0),
            WeightPoint(node="fc2", index=1, precision=precision, axis=0),
        ],
        Precision.FP32,
    )(model)
    if precision is FP8:
        model.opset_imports[""] = 19
    check_model(model)
    reader = node_named(model, "fc1").inputs[1].producer()

    assert reader.op_type == "DequantizeLinear"
    assert reader.attributes["axis"].as_int() == 0
    assert (reader.inputs[0].dtype, reader.inputs[0].shape) == (dtype, ir.Shape([128, 64]))
    assert array_of(reader.inputs[1]).shape == (128,)
    assert len(reader.inputs) == 2, "symmetric: no zero point"
    assert "fc1.w" not in model.graph.initializers
    assert floor_db < sqnr_db(before, run(model, feed)) < floor_db + 25


def test_a_shared_weight_is_stored_once() -> None:
    model = loaded(BUILDERS["shared_weight"]()).ir
    QuantizeWeightsPass(
        GraphEditor(model),
        [WeightPoint(node=n, index=1, precision=INT8, axis=1) for n in ("mm_a", "mm_b")],
        Precision.FP32,
    )(model)

    assert len(ops(model, "DequantizeLinear")) == 1
    assert node_named(model, "mm_a").inputs[1] is node_named(model, "mm_b").inputs[1]


def test_a_shared_weight_stays_float_for_the_node_that_is_not_named() -> None:
    model = loaded(BUILDERS["shared_weight"]()).ir
    QuantizeWeightsPass(
        GraphEditor(model), [WeightPoint(node="mm_a", index=1, precision=INT8, axis=1)], Precision.FP32
    )(model)

    assert node_named(model, "mm_b").inputs[1].name == "w"


def test_an_embedding_is_dequantised_after_the_gather() -> None:
    proto = BUILDERS["embedding_mlp"]()
    model = loaded(proto).ir
    feed = random_feed(proto, 8)
    before = run(model, feed)
    QuantizeWeightsPass(
        GraphEditor(model),
        [WeightPoint(node="embed", index=0, precision=INT8, axis=1, after_gather=True)],
        Precision.FP32,
    )(model)
    check_model(model)
    rows = node_named(model, "embed").outputs[0]

    assert rows.dtype == ir.DataType.INT8
    assert [node.op_type for node in rows.consumers()] == ["DequantizeLinear"]
    assert node_named(model, "flatten").inputs[0].name == "embed_out"
    assert 30 < sqnr_db(before, run(model, feed)) < 60


def test_codes_fit_the_rounded_scale() -> None:
    """With scales in BF16 (8 bits of mantissa) the codes are computed again, so nothing is lost or clipped."""
    model = loaded(BUILDERS["mlp"]()).ir
    weight = array_of(node_named(model, "fc1").inputs[1])
    QuantizeWeightsPass(GraphEditor(model), [WeightPoint(node="fc1", index=1, precision=INT8, axis=0)], Precision.BF16)(
        model
    )
    reader = node_named(model, "fc1").inputs[1].producer()
    scales = array_of(reader.inputs[1]).reshape(-1, 1)

    error = np.abs(array_of(reader.inputs[0]) * scales - weight)
    assert np.all(error <= scales * 0.5000001)
    assert np.array_equal(scales.view(np.uint32) & 0xFFFF, np.zeros_like(scales, np.uint32))


@pytest.mark.parametrize(
    ("point", "words"),
    [
        (WeightPoint(node="relu", index=0, precision=INT8, axis=0), "input 0 of 'relu' must be an initializer"),
        (WeightPoint(node="nowhere", index=1, precision=INT8, axis=0), "input 1 of 'nowhere' must be an initializer"),
    ],
)
def test_it_requires_initializers(point: WeightPoint, words: str) -> None:
    model = loaded(BUILDERS["mlp"]()).ir
    with pytest.raises(ir.passes.PreconditionError, match=words):
        QuantizeWeightsPass(GraphEditor(model), [point], Precision.FP32)(model)


def test_it_ensures_that_its_points_are_stored() -> None:
    model = loaded(BUILDERS["mlp"]()).ir
    point = WeightPoint(node="fc1", index=1, precision=INT8, axis=0)
    with pytest.raises(ir.passes.PostconditionError, match="input 1 of 'fc1' must be stored in codes"):
        QuantizeWeightsPass(GraphEditor(model), [point], Precision.FP32).ensures(model)


@pytest.mark.parametrize("name", ["mlp", "resnet_block"])
def test_with_7_bit_weights_real_kernels_are_as_good_as_exact_arithmetic_on_every_cpu(name: str) -> None:
    """All weights and inputs positive, so that 8-bit codes would saturate sums of two products in 16 bits."""
    proto = BUILDERS[name]()
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.abs(onnx.numpy_helper.to_array(tensor)), tensor.name))
    found = Bench(proto, ORT_CPU_7BIT, Precision.FP32)
    plan = found.uniform(INT8)
    lowered, few = found.lower(plan).ir, found.lower(plan, simulate=True).ir
    stored = [v.const_value for v in lowered.graph.initializers.values() if v.dtype is ir.DataType.INT8]

    assert max(int(np.abs(array_of_codes(tensor)).max()) for tensor in stored) == 64
    real, exact = found.sqnr(lowered, exact=False), found.sqnr(few)
    assert exact > 25
    assert real == pytest.approx(exact, abs=1.0)


def array_of_codes(tensor: ir.TensorProtocol | None) -> np.ndarray:
    assert tensor is not None
    return tensor.numpy().astype(np.int64)
