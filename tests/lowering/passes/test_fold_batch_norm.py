"""A BatchNormalization directly behind a convolution goes into its weights."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from autoprec.graph.model import check_model
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.fold_batch_norm import FoldBatchNormPass

from ...helpers.lowering_bench import loaded, node_named, ops, run, sqnr_db
from ...helpers.networks import BUILDERS, random_feed
from ...helpers.onnx_builder import Builder


def conv_bn(op: str = "Conv", group: int = 1, bias: bool = True, twice: bool = False) -> onnx.ModelProto:
    b = Builder()
    x = b.image()
    weight = b.weight("w", 32, 32 // group, 3, 3)
    extra = [b.const("b", b.random.normal(0, 1, 32))] if bias else []
    value = b.node(op, "conv", [x, weight, *extra], group=group)
    normed = b.bn("bn", value, 32)
    if twice:
        normed = b.node("Add", "add", [normed, b.node("Relu", "relu", [value])])
    else:
        normed = b.node("Relu", "relu", [normed])
    b.output(normed, ["N", 32, None, None])
    return b.model()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("op", "group"), [("Conv", 1), ("Conv", 4), ("Conv", 32), ("ConvTranspose", 1)])
def test_the_folded_convolution_computes_the_same(op: str, group: int, bias: bool) -> None:
    proto = conv_bn(op, group, bias)
    model = loaded(proto).ir
    feed = random_feed(proto, 4)
    before = run(model, feed)

    assert FoldBatchNormPass(GraphEditor(model), ["conv"])(model).modified
    check_model(model)
    assert ops(model, "BatchNormalization") == []
    assert node_named(model, "conv").outputs[0].name == "bn_out"
    assert sqnr_db(before, run(model, feed)) > 120


@pytest.mark.parametrize(
    ("proto", "why"),
    [
        (conv_bn(twice=True), "the unnormalised result is read by another node"),
        (conv_bn("ConvTranspose", group=4), "its output channels lie on two axes"),
    ],
)
def test_what_cannot_be_folded_is_left(proto: onnx.ModelProto, why: str) -> None:
    model = loaded(proto).ir

    assert not FoldBatchNormPass(GraphEditor(model), ["conv"])(model).modified, why
    assert len(ops(model, "BatchNormalization")) == 1


def test_convolutions_that_are_not_named_are_left() -> None:
    model = loaded(BUILDERS["resnet_block"]()).ir
    FoldBatchNormPass(GraphEditor(model), ["conv1"])(model)

    assert [node.name for node in ops(model, "BatchNormalization")] == ["bn2"]


def test_the_shared_weight_of_another_convolution_is_untouched() -> None:
    b = Builder()
    x = b.image()
    weight = b.weight("w", 32, 32, 3, 3)
    left = b.bn("bn", b.node("Conv", "left", [x, weight]), 32)
    b.node("Add", "add", [left, b.node("Conv", "right", [x, weight])])
    b.output("add_out", ["N", 32, 6, 6])
    proto = b.model()
    model = loaded(proto).ir
    feed = random_feed(proto, 2)
    before = run(model, feed)
    FoldBatchNormPass(GraphEditor(model), ["left", "right"])(model)

    assert node_named(model, "right").inputs[1].name == "w"
    np.testing.assert_allclose(run(model, feed)["add_out"], before["add_out"], atol=1e-4)
