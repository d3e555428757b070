"""Products of weights of 4 or 8 bits run in ONNX Runtime's kernel for them, whatever stands around them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from autoprec.backends.ort import OrtBackend
from autoprec.backends.scheme import ORT_CPU
from autoprec.graph.model import to_bytes
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.block_kernels import BlockKernelsPass
from autoprec.precision import Precision
from autoprec.proof.inspect import verified

from ...helpers.lowering_bench import Bench, loaded, run, sqnr_db
from ...helpers.networks import mlp, shared_weight
from ...helpers.onnx_builder import Builder

FP32 = Precision.FP32


def odd() -> Bench:
    """Three blocks of 32, so that zero points fill their last byte by half; the bias is that of a residual Add too."""
    b = Builder()
    x = b.input("x", ["N", 5, 96])
    b.output(b.node("Add", "skip", [b.linear("mm", x, 96, 96), x]), ["N", 5, 96])
    return Bench(b.model(), ORT_CPU, FP32)


BENCHES = {"Gemm and Relu": mlp(), "one weight for two": shared_weight()}


@pytest.mark.parametrize("precision", [p for p in Precision if p.block == 32] + [Precision.INT8_WEIGHTS])
@pytest.mark.parametrize("name", ["odd", *BENCHES])
def test_the_kernel_runs_as_asked_and_computes_what_is_simulated(name: str, precision: Precision) -> None:
    one = odd() if name == "odd" else Bench(BENCHES[name], ORT_CPU, FP32)
    plan = one.uniform(precision)
    lowered, twin = one.lower(plan).ir, one.lower(plan, simulate=True).ir

    checked = verified(one.lowerer, plan, OrtBackend(1), to_bytes(lowered))

    assert precision in plan.values()
    assert {u.ran for u in checked.units if u.requested is precision} == {precision}
    assert checked.refused == ()
    # What is read is rounded to 8 bits in blocks, which loses far less than 4 bits of the weights do.
    assert sqnr_db(run(twin, one.feed), run(lowered, one.feed, exact=False)) > 33
    assert (one.sqnr(twin) < 30) is (precision.bits == 4)


def test_the_bias_is_a_part_of_the_kernel_and_the_residual_is_not() -> None:
    lowered = odd().lower({"mm": Precision.INT4_32}).ir

    assert [node.op_type for node in lowered.graph] == ["MatMulNBits", "Add"]
    assert len(lowered.graph[0].inputs) == 6


def test_products_in_float_are_refused() -> None:
    model = loaded(mlp()).ir
    with pytest.raises(ir.passes.PreconditionError, match="weights in blocks"):
        BlockKernelsPass(GraphEditor(model), ["fc1"])(model)


def test_zero_points_have_two_in_a_byte() -> None:
    lowered = odd().lower({"mm": Precision.INT4_32_ZP}).ir
    shapes = {str(v.name).rsplit("/", 1)[-1]: v.const_value.numpy() for v in lowered.graph.initializers.values()}  # type: ignore[union-attr]

    assert (shapes["packed"].shape, shapes["zero_points"].shape) == ((96, 3, 16), (96, 2))
    assert {a.dtype for name, a in shapes.items() if name in ("packed", "zero_points")} == {np.dtype(np.uint8)}


@pytest.mark.parametrize(("depth", "block"), [(576, 64), (2048, 128), (48, 64), (100, 128)])
def test_a_scale_for_each_column_is_repeated_for_the_blocks_of_the_fewest_bytes(depth: int, block: int) -> None:
    b = Builder()
    b.output(b.linear("mm", b.input("x", ["N", 2, depth]), depth, 8), ["N", 2, 8])
    lowered = Bench(b.model(), ORT_CPU, FP32).lower({"mm": Precision.INT8_WEIGHTS}).ir
    codes, scales = (lowered.graph[0].inputs[i].const_value.numpy() for i in (1, 2))  # type: ignore[union-attr]

    assert codes.shape == (8, -(-depth // block), block)
    assert (scales == scales[:, :1]).all()
    assert (codes.reshape(8, -1)[:, depth:] == 128).all()  # zero, which adds nothing


def test_two_products_of_one_weight_store_it_once() -> None:
    for precision in (Precision.INT4_32, Precision.INT8_WEIGHTS):
        one = Bench(shared_weight(), ORT_CPU, FP32)
        graph = one.lower(one.uniform(precision)).ir.graph
        kernels = [node for node in graph if node.op_type == "MatMulNBits"]

        assert len(kernels) > 1
        assert len({node.inputs[1] for node in kernels}) == 1
