"""A Gemm becomes MatMul and Sub, which ONNX Runtime runs on 8-bit codes without quantising the result."""

from __future__ import annotations

import numpy as np
import pytest

from autoprec.backends.ort import OrtBackend
from autoprec.backends.scheme import ORT_CPU
from autoprec.graph.model import check_model, to_bytes
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.gemm_to_matmul import GemmToMatMulPass
from autoprec.precision import Precision

from ...helpers.lowering_bench import Bench, loaded, node_named, run
from ...helpers.networks import mlp, random_feed


def test_the_product_computes_the_same_and_keeps_the_name() -> None:
    proto = mlp()
    model = loaded(proto).ir
    gemms = [str(node.name) for node in model.graph if node.op_type == "Gemm"]
    feed = random_feed(proto, 3)
    before = run(model, feed)

    assert gemms
    assert GemmToMatMulPass(GraphEditor(model), gemms)(model).modified
    check_model(model)
    assert [node_named(model, name).op_type for name in gemms] == ["MatMul"] * len(gemms)
    for name, array in run(model, feed).items():
        np.testing.assert_allclose(array, before[name], rtol=1e-5, atol=1e-6)


def test_other_gemms_are_left_alone() -> None:
    model = loaded(mlp()).ir

    assert not GemmToMatMulPass(GraphEditor(model), ["no such node"])(model).modified


@pytest.mark.parametrize("threads", [1, 2])
def test_every_quantised_gemm_runs_in_an_8_bit_kernel(threads: int) -> None:
    one = Bench(mlp(), ORT_CPU, Precision.FP32)
    lowered = one.lower(one.uniform(Precision.INT8))
    names = [unit.anchors[0] for unit in one.partition.units]

    ran = OrtBackend(threads).inspect(to_bytes(lowered.ir), names)

    assert {name: ran[name].quantized for name in names} == dict.fromkeys(names, True)
