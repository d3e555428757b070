"""Products in MXFP8 and NVFP4: what the graph says, what the simulation computes, and what TensorRT-RTX makes of it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from autoprec.backends.scheme import ORT_CPU, TENSORRT_8, TENSORRT_RTX
from autoprec.errors import PlanError
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.scale_blocks import ScaleBlocksPass
from autoprec.lowering.placement import WeightPoint
from autoprec.precision import Precision
from autoprec.ranges.bins import Range
from autoprec.ranges.scaled_blocks import scale_of_all, scaled_blocks

from ...helpers.lowering_bench import Bench, array_of, loaded, node_named, run
from ...helpers.networks import mlp
from ...helpers.onnx_builder import Builder

MXFP8, NVFP4, FP16, FP32 = (Precision(p) for p in ("mxfp8", "nvfp4", "fp16", "fp32"))


def twin_products(carrier: Precision = FP16) -> Bench:
    """Two products of one unit read one value, and a third reads their product."""
    b = Builder()
    x = b.input("x", ["N", 32, 64])
    both = b.node("Mul", "both", [b.linear("left", x, 64, 96), b.linear("right", x, 64, 96)])
    b.output(b.linear("last", both, 96, 48), ["N", 32, 48])
    return Bench(b.model(), TENSORRT_RTX, carrier)


@pytest.mark.parametrize("precision", [MXFP8, NVFP4])
def test_the_simulation_is_a_product_of_what_the_blocks_stand_for(precision: Precision) -> None:
    one = twin_products(FP32)
    lowered = one.lower({**dict.fromkeys(one.possible, FP32), "right": precision}, simulate=True).ir
    lowered.graph.outputs.append(node_named(lowered, "left").outputs[0])
    x, weight = one.feed["x"], array_of(next(v for v in one.model.graph.initializers.values() if v.name == "left.w"))
    of_all = scale_of_all(one.ranges.extent["x"]) if precision is NVFP4 else None
    exact = scaled_blocks(x, precision, of_all).values() @ scaled_blocks(weight.T, precision).values().T

    np.testing.assert_allclose(
        run(lowered, one.feed)[str(node_named(lowered, "left").outputs[0].name)], exact, rtol=1e-4, atol=1e-4
    )


def test_one_value_is_quantised_once_and_each_matrix_has_its_codes_in_blocks_along_its_rows() -> None:
    one = twin_products()
    graph = one.lower({"right": NVFP4, "last": MXFP8}).ir.graph
    kinds = [node.op_type for node in graph if node.domain == "trt"]
    found = {str(v.name): v for v in graph.initializers.values()}

    assert (kinds.count("TRT_FP4DynamicQuantize"), kinds.count("TRT_MXFP8DynamicQuantize")) == (1, 1)
    assert kinds.count("TRT_MXFP8DequantizeLinear") == 2
    sizes = {v.dtype.name: v.shape.numpy() for n, v in found.items() if n.startswith("last.w") and v.dtype and v.shape}
    assert sizes == {"FLOAT8E4M3FN": (96, 48), "UINT8": (3, 48)}
    codes, scales = (next(v for n, v in found.items() if n == f"left.w/nvfp4{end}") for end in ("", ".scale"))
    assert (codes.dtype, scales.dtype) == (ir.DataType.FLOAT4E2M1, ir.DataType.FLOAT8E4M3FN)
    assert scales.shape == (4, 96)


def test_an_nvfp4_unit_needs_the_range_of_what_it_reads_and_an_mxfp8_unit_none() -> None:
    one = twin_products()
    plan = dict.fromkeys(one.possible, FP32)

    assert one.lowerer.lower({**plan, "right": MXFP8}, None)
    with pytest.raises(PlanError, match="calibrated ranges"):
        one.lowerer.lower({**plan, "right": NVFP4}, None)


def test_only_products_whose_depth_is_a_multiple_of_the_block_can_run_so_and_only_on_tensorrt() -> None:
    b = Builder()
    b.output(b.linear("fc", b.input("x", ["N", 32, 48]), 48, 32), ["N", 32, 32])
    said = {p: Bench(b.model(), TENSORRT_RTX, FP16).possible["fc"][p] for p in (MXFP8, NVFP4)}

    assert said == {MXFP8: "its depth of 48 is not a multiple of the block", NVFP4: None}
    for scheme in (ORT_CPU, TENSORRT_8):
        assert Bench(mlp(), scheme, FP32).possible["fc1"][NVFP4] == "this runtime has no NVFP4"


def test_products_without_constant_weights_or_a_scale_are_refused() -> None:
    model = loaded(mlp()).ir
    node = next(n for n in model.graph if n.op_type == "Gemm")
    point = WeightPoint(node=str(node.name), index=1, precision=NVFP4, axis=0)
    with pytest.raises(ir.passes.PreconditionError, match="constant matrix"):
        ScaleBlocksPass(GraphEditor(model), [point], {}, {})(model)


def test_a_range_of_zeros_has_a_scale() -> None:
    assert scale_of_all(Range(0, 0)) == 1
