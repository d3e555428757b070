"""Which nodes of the usual blocks form which unit, and why the others are in none."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from ..helpers.networks import (
    TOKENS,
    WIDTH,
    concat_block,
    conv_relu,
    conv_transpose_block,
    depthwise_block,
    embedding_mlp,
    gelu_block,
    if_body,
    mha_block,
    mlp,
    partition,
    pool_block,
    resnet_block,
    shared_weight,
    silu_block,
    units,
)
from ..helpers.onnx_builder import CHANNELS, Builder

COPY = "moves data without arithmetic"
SHAPE = "shape arithmetic"


def test_a_convolution_takes_its_activation() -> None:
    assert units(conv_relu()) == {"conv": ("conv", "conv relu")}


def test_a_residual_block_adds_in_its_second_convolution() -> None:
    assert units(resnet_block()) == {
        "stem": ("conv", "stem stem.relu"),
        "conv1": ("conv", "conv1 bn1 relu1"),
        "conv2": ("conv", "conv2 bn2 add relu2"),
    }
    assert partition(resnet_block()).unit("conv2").inputs == ("relu1_out", "stem.relu_out")


@pytest.mark.parametrize("down_first", [True, False])
def test_of_two_convolved_branches_the_longer_one_adds(down_first: bool) -> None:
    model = resnet_block(downsample=True)
    if down_first:
        nodes = {node.name: node for node in model.graph.node}
        order = ["stem", "stem.relu", "down", "down.bn", "conv1", "bn1", "relu1", "conv2", "bn2", "add", "relu2"]
        copies = [nodes[name] for name in order]
        del model.graph.node[:]
        model.graph.node.extend(copies)
    assert units(model) == {
        "stem": ("conv", "stem stem.relu"),
        "conv1": ("conv", "conv1 bn1 relu1"),
        "down": ("conv", "down down.bn"),
        "conv2": ("conv", "conv2 bn2 add relu2"),
    }


def test_silu_belongs_to_the_convolution() -> None:
    assert units(silu_block()) == {"conv1": ("conv", "conv1 sigmoid mul"), "conv2": ("conv", "conv2")}


def test_gelu_belongs_to_the_product_in_both_spellings() -> None:
    assert units(gelu_block("erf")) == {
        "fc1": ("matmul", "fc1 fc1.add div erf plus1 gate halve"),
        "fc2": ("matmul", "fc2 fc2.add"),
    }
    assert units(gelu_block("tanh"))["fc1"] == (
        "matmul",
        "fc1 fc1.add pow cubic poly bent tanh plus1 gate halve",
    )


def test_depthwise_and_pointwise_are_two_units() -> None:
    assert units(depthwise_block()) == {
        "dw": ("conv", "dw dw.bn dw.relu6"),
        "pw": ("conv", "pw pw.bn pw.relu6"),
    }


def test_a_concat_is_in_no_unit_and_edges_pass_through_it() -> None:
    found = partition(concat_block())
    assert units(concat_block()) == {
        "left": ("conv", "left left.relu"),
        "right": ("conv", "right right.relu"),
        "after": ("conv", "after"),
    }
    assert found.reasons["concat"].startswith(COPY)
    between = {(edge.producer, edge.consumer, edge.tensor) for edge in found.edges}
    assert {("left", "after", "left.relu_out"), ("right", "after", "right.relu_out")} <= between


def test_products_that_share_a_weight_are_two_units() -> None:
    assert units(shared_weight()) == {"mm_a": ("matmul", "mm_a"), "mm_b": ("matmul", "mm_b")}
    assert [unit.weights for unit in partition(shared_weight()).units] == [WIDTH**2] * 2


def test_a_body_stays_as_it_is_and_what_it_captures_leaves_its_unit() -> None:
    found = partition(if_body())
    assert units(if_body()) == {"conv": ("conv", "conv relu"), "after": ("conv", "after")}
    assert found.unit("conv").outputs == ("relu_out",)
    assert found.reasons == {
        "if": "control flow: it stays in FP32 with its bodies",
        "if/then_branch/then_branch.conv": "inside the then_branch of If 'if': bodies stay in FP32",
        "if/else_branch/else_branch.conv": "inside the else_branch of If 'if': bodies stay in FP32",
    }
    between = {(edge.producer, edge.consumer, edge.tensor) for edge in found.edges}
    assert {("conv", "", "relu_out"), ("", "after", "if_out")} <= between


def test_gemm_and_embedding() -> None:
    assert units(mlp()) == {"fc1": ("matmul", "fc1 relu"), "fc2": ("matmul", "fc2")}
    assert units(embedding_mlp())["embed"] == ("embedding", "embed")
    assert partition(embedding_mlp()).unit("embed").weights == 1600


def test_a_transposed_convolution() -> None:
    assert units(conv_transpose_block())["up"] == ("conv", "up up.relu")


def test_pools() -> None:
    assert units(pool_block()) == {
        "conv1": ("conv", "conv1 relu maxpool"),
        "conv2": ("conv", "conv2"),
        "avgpool": ("pool", "avgpool"),
        "conv3": ("conv", "conv3"),
        "gap": ("pool", "gap"),
        "fc": ("matmul", "fc"),
    }


def test_multiply_accumulates_are_counted_by_hand() -> None:
    macs = {unit.name: unit.macs for unit in partition(pool_block()).units}
    assert macs == {
        "conv1": 32 * 9 * 32 * 64,
        "conv2": 32 * 9 * 64 * 16,
        "avgpool": 0,
        "conv3": 64 * 9 * 64 * 4,
        "gap": 0,
        "fc": 64 * 32,
    }
    assert partition(conv_transpose_block()).unit("up").macs == 64 * 64 * 32 * 4
    assert partition(depthwise_block()).unit("dw").macs == 32 * 9 * 64
    attention = partition(mha_block())
    assert attention.unit("v").macs == 3 * TOKENS * WIDTH * WIDTH
    assert attention.unit("av").macs == 2 * TOKENS * TOKENS * WIDTH


def test_a_recurrent_layer_counts_its_macs_and_its_first_state_is_no_unit() -> None:
    b = Builder()
    x = b.input("x", [10, "N", 32])
    batch = b.node(
        "Slice", "batch", [b.node("Shape", "shape", [x]), *(b.const(f"i{n}", [n], np.int64) for n in (1, 2))]
    )
    size = b.node("Concat", "size", [b.const("one", [1], np.int64), batch, b.const("hidden", [64], np.int64)], axis=0)
    state = b.node("ConstantOfShape", "zeros", [size])
    w, r = b.weight("w", 1, 256, 32), b.weight("r", 1, 256, 64)
    b.node("LSTM", "lstm", [x, w, r, "", "", state, state], hidden_size=64)
    b.output("lstm_out", [10, 1, "N", 64])
    found = partition(b.model())
    assert [(unit.name, unit.kind, unit.macs) for unit in found.units] == [("lstm", "lstm", 10 * 256 * (32 + 64))]
    assert SHAPE in found.reasons["zeros"]


# ---------------------------------------------------------------------------- fusion in odd places


def test_a_convolution_read_twice_keeps_its_activation_out() -> None:
    b = Builder()
    first = b.conv("conv1", b.image(), CHANNELS, CHANNELS)
    b.node("Add", "add", [b.node("Relu", "relu", [first]), b.conv("conv2", first, CHANNELS, CHANNELS)])
    b.output("add_out", ["N", CHANNELS, 8, 8])
    assert units(b.model()) == {
        "conv1": ("conv", "conv1"),
        "conv2": ("conv", "conv2 add"),
        "relu": ("pointwise", "relu"),
    }


def test_a_value_that_leaves_the_graph_ends_its_unit() -> None:
    b = Builder()
    b.node("Relu", "relu", [b.conv("conv", b.image(), CHANNELS, CHANNELS)])
    b.output("relu_out", ["N", CHANNELS, 8, 8])
    b.output("conv_out", ["N", CHANNELS, 8, 8])
    assert units(b.model()) == {"conv": ("conv", "conv"), "relu": ("pointwise", "relu")}


def test_a_broadcast_add_is_not_fused_as_a_residual() -> None:
    b = Builder()
    bias = b.input("bias", ["N", CHANNELS, 1, 1])
    b.node("Add", "add", [b.conv("conv", b.image(), CHANNELS, CHANNELS), bias])
    b.output("add_out", ["N", CHANNELS, 8, 8])
    assert units(b.model()) == {"conv": ("conv", "conv"), "add": ("add", "add")}


def test_a_branch_that_ends_in_a_transpose_does_not_keep_the_other_from_adding() -> None:
    b = Builder()
    x = b.image(8)
    long = b.conv("a3", b.conv("a2", b.conv("a1", x, 8, 32), 32, 32), 32, 8)
    turned = b.node("Transpose", "turn", [long], perm=[0, 2, 3, 1])
    short = b.conv("short", x, 8, 8)
    b.node("Add", "add", [turned, short])
    b.output("add_out", ["N", 8, 8, 8])
    assert units(b.model())["short"] == ("conv", "short add")


def test_projections_of_one_value_for_different_places_are_apart() -> None:
    """Keys and values of two layers read the same memory: one pair for each layer."""
    b = Builder()
    memory, query = b.input("memory", ["N", TOKENS, WIDTH]), b.input("query", ["N", TOKENS, WIDTH])
    for layer in ("1", "2"):
        k, v = (b.linear(f"{name}{layer}", memory, WIDTH, WIDTH) for name in "kv")
        q = b.linear(f"q{layer}", query, WIDTH, WIDTH)
        turned = b.node("Transpose", f"turn{layer}", [k], perm=[0, 2, 1])
        soft = b.node("Softmax", f"soft{layer}", [b.node("MatMul", f"qk{layer}", [q, turned])])
        query = b.linear(f"o{layer}", b.node("MatMul", f"av{layer}", [soft, v]), WIDTH, WIDTH)
    b.output(query, ["N", TOKENS, WIDTH])
    found = units(b.model())
    assert found["v1"] == ("matmul", "k1 k1.add v1 v1.add")
    assert found["v2"] == ("matmul", "k2 k2.add v2 v2.add")
    assert found["av1"] == ("attention", "qk1 soft1 av1")


def test_gate_and_up_are_one_unit_with_their_product() -> None:
    b = Builder()
    x = b.input("x", ["N", TOKENS, WIDTH])
    gate, up = (b.node("MatMul", name, [x, b.weight(f"{name}.w", WIDTH, 128)]) for name in ("gate", "up"))
    silu = b.node("Mul", "silu", [gate, b.node("Sigmoid", "sigmoid", [gate])])
    b.node("MatMul", "down", [b.node("Mul", "product", [silu, up]), b.weight("down.w", 128, WIDTH)])
    b.output("down_out", ["N", TOKENS, WIDTH])
    found = units(b.model())
    assert set(found) == {"up", "down"}
    assert set(found["up"][1].split()) == {"gate", "up", "sigmoid", "silu", "product"}


def test_a_written_out_layer_norm_is_one_unit() -> None:
    b = Builder()
    x = b.input("x", ["N", TOKENS, WIDTH])
    centred = b.node("Sub", "sub", [x, b.node("ReduceMean", "mean", [x], axes=[-1])])
    square = b.node("Pow", "pow", [centred, b.const("two", 2.0)])
    variance = b.node("Add", "eps", [b.node("ReduceMean", "var", [square], axes=[-1]), b.const("e", 1e-5)])
    normal = b.node("Div", "div", [centred, b.node("Sqrt", "sqrt", [variance])])
    b.node("MatMul", "fc", [b.node("Mul", "scale", [normal, b.const("g", np.ones(WIDTH))]), b.weight("w", WIDTH, 32)])
    b.output("fc_out", ["N", TOKENS, 32])
    assert units(b.model()) == {
        "scale": ("norm", "mean sub pow var eps sqrt div scale"),
        "fc": ("matmul", "fc"),
    }


def test_scales_of_a_resize_are_shape_arithmetic() -> None:
    b = Builder()
    x = b.image()
    size = b.node("Cast", "size", [b.node("Shape", "shape", [x])], to=TensorProto.FLOAT)
    part = b.node("Slice", "part", [size, *(b.const(f"i{n}", [n], np.int64) for n in (2, 4))])
    ratio = b.node("Div", "ratio", [b.const("wanted", [16.0, 16.0]), part])
    scales = b.node("Concat", "scales", [b.const("ones", [1.0, 1.0]), ratio], axis=0)
    b.node("Resize", "resize", [b.conv("conv", x, CHANNELS, CHANNELS), "", scales])
    b.output("resize_out", ["N", CHANNELS, None, None])
    found = partition(b.model())
    assert {unit.name: unit.kind for unit in found.units} == {"conv": "conv", "resize": "resize"}
    assert set(found.reasons) == {"shape", "size", "part", "ratio", "scales"}
    assert all(SHAPE in reason for reason in found.reasons.values())


def test_other_reasons() -> None:
    b = Builder()
    x = b.input("x", ["N", 4])
    strange = b.node("Strange", "strange", [x], domain="com.example")
    known = b.node("Relu", "relu", [b.node("Add", "add", [strange, x])])
    wide = b.node("Cast", "wide", [known], to=TensorProto.DOUBLE)
    half = b.node("Cast", "half", [known], to=TensorProto.FLOAT16)
    b.node("Exp", "exp64", [wide])
    b.node("Exp", "exp16", [half])
    b.node("RandomNormalLike", "noise", [known])
    b.node("ArgMax", "argmax", [known], axis=1)
    b.node("Neg", "folded", [b.const("c", [1.0, 2.0])])
    for name, kind in (("exp64", 11), ("exp16", 10), ("noise", 1)):
        b.output(f"{name}_out", ["N", 4], kind)
    b.output("argmax_out", ["N", 1], TensorProto.INT64)
    b.output("folded_out", [2])
    found = partition(b.model(check=False))
    assert [unit.nodes for unit in found.units] == [("add", "relu")]
    assert found.reasons == {
        "strange": "operator com.example.Strange: it is not known which precisions it has",
        "wide": "FP64 arithmetic stays as it is",
        "half": "already in half precision in the model",
        "exp64": "FP64 arithmetic stays as it is",
        "exp16": "already in half precision in the model",
        "noise": "random numbers: its output cannot be compared",
        "argmax": "integer, boolean or shape arithmetic",
        "folded": "constant: every runtime folds it",
    }


def test_a_node_whose_type_is_unknown_says_so() -> None:
    b = Builder()
    b.node("Relu", "relu", [b.node("Strange", "strange", [b.input("x", ["N", 4])], domain="com.example")])
    b.output("add_out", ["N", 4])
    b.node("Add", "add", [b.node("Strange", "again", ["relu_out"], domain="com.example"), "x"])
    found = partition(b.model(check=False))
    assert found.reasons["relu"] == "its type is not known: an operator before it is not standard"


def test_a_foreign_operator_is_a_boundary_on_both_sides() -> None:
    b = Builder()
    first = b.node("Relu", "relu", [b.conv("conv", b.image(), CHANNELS, CHANNELS)])
    strange = b.node("Strange", "strange", [first], domain="com.example")
    b.conv("after", strange, CHANNELS, CHANNELS)
    b.output("after_out", ["N", CHANNELS, 8, 8])
    model = b.model(check=False)
    model.graph.value_info.add(name="strange_out").type.CopyFrom(model.graph.output[0].type)
    between = {(edge.producer, edge.consumer, edge.tensor) for edge in partition(model).edges}
    assert between == {
        ("", "conv", "x"),
        ("conv", "", "relu_out"),
        ("", "after", "strange_out"),
        ("after", "", "after_out"),
    }
