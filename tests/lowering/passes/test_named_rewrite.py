"""A pass over named nodes says of each node that it left why it could not be rewritten."""

from __future__ import annotations

import onnx
import pytest

from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.fold_batch_norm import FoldBatchNormPass
from autoprec.lowering.passes.gemm_to_matmul import GemmToMatMulPass
from autoprec.lowering.passes.named_rewrite import NamedRewritePass
from autoprec.lowering.passes.norm_to_conv import NormToConvPass

from ...helpers.lowering_bench import loaded
from ...helpers.networks import BUILDERS
from ...helpers.onnx_builder import CHANNELS, Builder


def transposed_gemm() -> onnx.ModelProto:
    b = Builder()
    b.node("Gemm", "fc", [b.input("x", [16, 16]), b.weight("w", 16, 16)], transA=1)
    b.output("fc_out", [16, 16])
    return b.model()


def flat_norm() -> onnx.ModelProto:
    b = Builder()
    b.bn("bn", b.input("x", ["N", CHANNELS]), CHANNELS)
    b.output("bn_out", ["N", CHANNELS])
    return b.model()


@pytest.mark.parametrize(
    ("made", "name", "model", "reason"),
    [
        (GemmToMatMulPass, "fc", transposed_gemm(), "its first operand is transposed"),
        (NormToConvPass, "bn", flat_norm(), "a convolution takes three to five dimensions"),
        (FoldBatchNormPass, "conv", BUILDERS["conv_relu"](), "its result is not read by one BatchNormalization alone"),
    ],
)
def test_the_reason_is_told(made: type[NamedRewritePass], name: str, model: onnx.ModelProto, reason: str) -> None:
    graph = loaded(model).ir
    result = made(GraphEditor(graph), [name]).call(graph)

    assert not result.modified
    assert result.refused == {name: reason}


def test_nodes_that_were_rewritten_or_not_named_have_no_reason() -> None:
    model = loaded(BUILDERS["mlp"]()).ir
    result = GemmToMatMulPass(GraphEditor(model), ["fc1"]).call(model)

    assert result.modified
    assert result.refused == {}
