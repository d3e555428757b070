"""Where branches meet: NVIDIA's placement rules 5 (residual Add) and 9 (Concat), one test for each clause."""

from __future__ import annotations

import onnx
import pytest

from autoprec.backends.scheme import ORT_CPU
from autoprec.precision import Precision

from ..helpers.lowering_bench import Bench, bench, edges, finish, int8_edges
from ..helpers.networks import BUILDERS
from ..helpers.onnx_builder import CHANNELS, Builder

INT8, FP8, FP16, FP32 = Precision.INT8, Precision.FP8, Precision.FP16, Precision.FP32


@pytest.mark.parametrize("precision", [INT8, FP8])
@pytest.mark.parametrize("name", ["resnet_block", "resnet_downsample"])
def test_rule_5_the_skip_of_a_residual_add_has_the_only_pair(name: str, precision: Precision) -> None:
    one = bench(name)
    lowered = one.lower(one.uniform(precision))
    add = next(node for node in lowered.ir.graph if node.op_type == "Add")
    producers = [value.producer().op_type for value in add.inputs]

    assert sorted(producers) == ["Conv", "DequantizeLinear"]
    assert add.inputs[producers.index("Conv")].producer().name == "conv2"


def test_rule_5_the_longer_branch_absorbs_the_add() -> None:
    b = Builder()
    stem = b.node("Relu", "stem.relu", [b.conv("stem", b.image(), CHANNELS, CHANNELS)])
    middle = b.node("Relu", "relu1", [b.conv("long1", stem, CHANNELS, CHANNELS)])
    # The short branch is written last, so that order alone would choose it.
    long = b.conv("long2", middle, CHANNELS, CHANNELS)
    short = b.conv("short", stem, CHANNELS, CHANNELS, kernel=1)
    last = b.node("Relu", "relu2", [b.node("Add", "add", [short, long])])

    assert int8_edges(finish(b, last))["short_out"] == {("add", 0)}


def test_rule_5_two_branches_of_one_backbone_are_no_residual_add() -> None:
    b = Builder()
    value = b.conv("conv", b.image(), CHANNELS, CHANNELS)
    left, right = b.node("Relu", "left", [value]), b.node("Tanh", "right", [value])
    last = b.conv("after", b.node("Relu", "relu", [b.node("Add", "add", [left, right])]), CHANNELS, CHANNELS)
    found = int8_edges(finish(b, last))

    assert not any(node == "add" for served in found.values() for node, _ in served)


@pytest.mark.parametrize("norm", [False, True])
def test_rule_5_no_pair_where_the_fork_is_the_backbone_itself(norm: bool) -> None:
    """As in ConvNeXt: the result of a convolution is the skip and starts the other branch as well."""
    b = Builder()
    base = b.conv("down", b.image(), CHANNELS, CHANNELS)
    base = b.bn("down.bn", base, CHANNELS) if norm else base
    first = b.node("Relu", "relu1", [b.conv("conv1", base, CHANNELS, CHANNELS)])
    second = b.conv("conv2", first, CHANNELS, CHANNELS, kernel=1)
    last = b.conv("after", b.node("Add", "add", [base, second]), CHANNELS, CHANNELS)
    proto = finish(b, last)
    skip = "down.bn_out" if norm else "down_out"

    assert int8_edges(proto)[skip] == {("conv1", 0)}
    assert int8_edges(proto, down=FP32)[skip] == {("conv1", 0)}, "a BN not folded makes no difference"


def test_rule_5_a_lone_skip_pair_is_removed() -> None:
    """conv1 stays float and reads the skip tensor too, so a pair for the Add alone would only cost."""
    one = bench("resnet_block")
    lone, shared = (edges(one.place(one.uniform(INT8, conv1=p))) for p in (FP16, INT8))

    assert shared["stem.relu_out"] == {("conv1", 0), ("add", 1)}
    assert "stem.relu_out" not in lone


def test_rule_5_no_skip_pair_where_the_skip_comes_from_a_float_unit() -> None:
    one = bench("resnet_downsample")

    assert "down.bn_out" in edges(one.place(one.uniform(INT8)))
    assert "down.bn_out" not in edges(one.place(one.uniform(INT8, down=FP16)))
    assert "down.bn_out" not in edges(one.place(one.uniform(INT8, down=FP8)))


def dense_block() -> onnx.ModelProto:
    """Two chained Concats whose parts are read by convolutions of their own."""
    b = Builder()
    x = b.node("Relu", "stem.relu", [b.conv("stem", b.image(), CHANNELS, CHANNELS)])
    first = b.node("Relu", "relu1", [b.conv("conv1", x, CHANNELS, CHANNELS)])
    joined = b.node("Concat", "cat1", [x, first], axis=1)
    second = b.node("Relu", "relu2", [b.conv("conv2", joined, 2 * CHANNELS, CHANNELS)])
    third = b.conv("conv3", second, CHANNELS, CHANNELS)
    every = b.node("Concat", "cat2", [joined, second], axis=1)
    last = b.conv("after", every, 3 * CHANNELS, CHANNELS)
    return finish(b, b.node("Add", "sum", [last, third]))


def test_rule_9_chained_concats_share_one_scale() -> None:
    one = Bench(dense_block(), unify_concat=True)
    plan = one.uniform(INT8)
    placement = one.place(plan)
    expected = frozenset({"stem.relu_out", "cat1_out", "relu2_out", "cat2_out"})
    lowered = one.lower(plan).ir
    scales = {
        float(node.inputs[1].const_value.numpy())
        for node in lowered.graph
        if node.op_type == "QuantizeLinear" and str(node.inputs[0].name).split("/")[0] in expected
    }

    assert placement.unified == (expected,)
    assert len(scales) == 1
    widest = max(one.ranges.clipped[name].magnitude for name in expected)
    assert next(iter(scales)) == pytest.approx(widest / 127, rel=1e-3)


def test_rule_9_scales_differ_without_the_option() -> None:
    one = Bench(dense_block())

    assert one.place(one.uniform(INT8)).unified == ()


def test_rule_9_a_concat_before_float_ops_needs_no_common_scale() -> None:
    one = Bench(dense_block(), unify_concat=True)

    (group,) = one.place(one.uniform(INT8, after=FP16)).unified
    assert "cat2_out" not in group


def test_rule_9_on_the_cpu_inputs_and_output_of_a_concat_share_their_scale() -> None:
    one = Bench(BUILDERS["concat_block"](), ORT_CPU, FP32, unify_concat=True)

    assert one.place(one.uniform(INT8)).unified == (frozenset({"left.relu_out", "right.relu_out", "concat_out"}),)
