"""Weights in blocks of 4 bits are stored as DequantizeLinear of opset 21 reads them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from autoprec.backends.scheme import ORT_CPU, TENSORRT_RTX
from autoprec.graph.model import check_model
from autoprec.graph.weight_files import FileWeight, WeightStore
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.quantize_blocks import QuantizeBlocksPass, grid_of
from autoprec.lowering.placement import WeightPoint
from autoprec.precision import Precision

from ...helpers.lowering_bench import Bench, loaded, node_named, run
from ...helpers.networks import mlp
from ...helpers.onnx_builder import Builder

FOUR_BITS = [p for p in Precision if p.block]


def bench(scheme=ORT_CPU, carrier: Precision = Precision.FP32) -> Bench:  # type: ignore[no-untyped-def]
    b = Builder()
    b.output(b.linear("mm", b.input("x", ["N", 5, 128]), 128, 24), ["N", 5, 24])
    return Bench(b.model(), scheme, carrier)


@pytest.mark.parametrize("precision", FOUR_BITS)
def test_the_product_is_that_of_what_the_codes_stand_for(precision: Precision) -> None:
    one = bench()
    lowered = one.lowerer.lower({"mm": precision}, None, simulate=True).ir
    check_model(lowered)
    found = grid_of(node_named(lowered, "mm"))
    assert found is not None
    grid, codes = found
    bias = one.proto.graph.initializer[1]

    expected = one.feed["x"] @ grid.values(codes) + np.frombuffer(bias.raw_data, np.float32)

    assert (grid.block, grid.zeros is not None) == (precision.block, precision.has_zero_points)
    np.testing.assert_allclose(run(lowered, one.feed)["mm.add_out"], expected, rtol=1e-4, atol=1e-4)
    assert one.sqnr(lowered) > 15


def test_what_is_stored_is_an_eighth_of_the_weights_and_the_scales() -> None:
    lowered = bench(TENSORRT_RTX, Precision.FP16).lowerer.lower({"mm": Precision.INT4_128}, None).ir
    sizes = {str(v.dtype): v.const_value.nbytes for v in lowered.graph.initializers.values() if v.const_value}

    assert sizes["INT4"] == 128 * 24 // 2
    assert [v.shape for v in lowered.graph.initializers.values() if "scale" in str(v.name)] == [(1, 24)]


def test_weights_that_lie_in_a_file_are_packed_into_it() -> None:
    store = WeightStore()
    codes = np.arange(-8, 8).repeat(3).reshape(6, 8).astype(ir.DataType.INT4.numpy())

    kept = store.put(codes, "w")

    assert isinstance(kept, FileWeight)
    assert kept.nbytes == 24
    np.testing.assert_array_equal(kept.numpy(), codes)


def test_a_gemm_that_was_not_rewritten_is_refused() -> None:
    model = loaded(mlp()).ir
    point = WeightPoint(node="fc1", index=1, precision=Precision.INT4_32, axis=0)
    with pytest.raises(ir.passes.PreconditionError, match="constant matrix"):
        QuantizeBlocksPass(GraphEditor(model), [point], Precision.FP32)(model)
