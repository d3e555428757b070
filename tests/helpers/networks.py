"""Tiny ONNX models with seeded weights: the blocks that networks are made of.

Every builder returns a checked `onnx.ModelProto` of opset 17 whose first axis is the symbol "N". Channels
are wide enough (32 and more) that 8-bit kernels are not refused for narrowness, weights have the scale of
trained ones (He initialisation).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import TensorProto, helper

from autoprec.graph.preparation import prepare
from autoprec.graph.topology import Topology
from autoprec.units.find import find_units
from autoprec.units.records import Partition

from .onnx_builder import CHANNELS, SIDE, Builder

Array = npt.NDArray[Any]

TOKENS = 16
WIDTH = 64
HEADS = 4


def conv_relu() -> onnx.ModelProto:
    b = Builder()
    b.node("Relu", "relu", [b.conv("conv", b.image(), CHANNELS, 48)])
    b.output("relu_out", ["N", 48, SIDE, SIDE])
    return b.model()


def resnet_block(downsample: bool = False) -> onnx.ModelProto:
    """Stem conv+relu, then conv1+bn1+relu1, conv2+bn2, skip (perhaps down+down.bn), add, relu2."""
    b = Builder()
    cout, stride = (64, 2) if downsample else (CHANNELS, 1)
    stem = b.node("Relu", "stem.relu", [b.conv("stem", b.image(), CHANNELS, CHANNELS)])
    first = b.bn("bn1", b.conv("conv1", stem, CHANNELS, cout, strides=[stride] * 2), cout)
    second = b.bn("bn2", b.conv("conv2", b.node("Relu", "relu1", [first]), cout, cout), cout)
    skip = stem
    if downsample:
        skip = b.bn("down.bn", b.conv("down", stem, CHANNELS, cout, kernel=1, strides=[2, 2]), cout)
    b.node("Relu", "relu2", [b.node("Add", "add", [second, skip])])
    b.output("relu2_out", ["N", cout, SIDE // stride, SIDE // stride])
    return b.model()


def mha_block() -> onnx.ModelProto:
    """Projections q, k, v with bias, q @ k.T * scale + mask, softmax, @ v, out projection, residual, norm."""
    b = Builder()
    x, mask = b.input("x", ["N", TOKENS, WIDTH]), b.input("mask", ["N", 1, 1, TOKENS])
    split = b.const("split", [0, TOKENS, HEADS, WIDTH // HEADS], np.int64)
    heads = {}
    for name in "qkv":
        shaped = b.node("Reshape", f"{name}.split", [b.linear(name, x, WIDTH, WIDTH), split])
        perm = [0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]
        heads[name] = b.node("Transpose", f"{name}.heads", [shaped], perm=perm)
    scores = b.node("MatMul", "qk", [heads["q"], heads["k"]])
    scaled = b.node("Mul", "scale", [scores, b.const("factor", (WIDTH // HEADS) ** -0.5)])
    masked = b.node("Add", "masked", [scaled, mask])
    weights = b.node("Softmax", "softmax", [masked], axis=-1)
    context = b.node("MatMul", "av", [weights, heads["v"]])
    merged = b.node("Transpose", "merge.t", [context], perm=[0, 2, 1, 3])
    flat = b.node("Reshape", "merge", [merged, b.const("merged", [0, TOKENS, WIDTH], np.int64)])
    residual = b.node("Add", "residual", [b.linear("out", flat, WIDTH, WIDTH), x])
    scale = b.const("norm.scale", b.random.uniform(0.5, 1.5, WIDTH))
    b.node("LayerNormalization", "norm", [residual, scale, b.const("norm.bias", np.zeros(WIDTH))], axis=-1)
    b.output("norm_out", ["N", TOKENS, WIDTH])
    return b.model()


def silu_block() -> onnx.ModelProto:
    """conv1 with x * sigmoid(x), then conv2."""
    b = Builder()
    value = b.conv("conv1", b.image(), CHANNELS, CHANNELS)
    silu = b.node("Mul", "mul", [value, b.node("Sigmoid", "sigmoid", [value])])
    b.conv("conv2", silu, CHANNELS, CHANNELS)
    b.output("conv2_out", ["N", CHANNELS, SIDE, SIDE])
    return b.model()


def gelu_block(kind: Literal["erf", "tanh"] = "erf") -> onnx.ModelProto:
    """Linear fc1, GELU written out in primitive ops, linear fc2."""
    b = Builder()
    x = b.linear("fc1", b.input("x", ["N", TOKENS, WIDTH]), WIDTH, 128)
    half, one = b.const("half", 0.5), b.const("one", 1.0)
    if kind == "erf":
        inner = b.node("Erf", "erf", [b.node("Div", "div", [x, b.const("root2", 2**0.5)])])
    else:
        power = b.node("Pow", "pow", [x, b.const("three", 3.0)])
        cube = b.node("Mul", "cubic", [power, b.const("c", 0.044715)])
        bent = b.node("Mul", "bent", [b.node("Add", "poly", [x, cube]), b.const("k", (2 / np.pi) ** 0.5)])
        inner = b.node("Tanh", "tanh", [bent])
    product = b.node("Mul", "gate", [x, b.node("Add", "plus1", [inner, one])])
    b.linear("fc2", b.node("Mul", "halve", [product, half]), 128, WIDTH)
    b.output("fc2.add_out", ["N", TOKENS, WIDTH])
    return b.model()


def depthwise_block() -> onnx.ModelProto:
    """Depthwise 3x3 + BN + ReLU6, then pointwise + BN + ReLU6."""
    b = Builder()
    zero, six = b.const("zero", 0.0), b.const("six", 6.0)
    deep = b.bn("dw.bn", b.conv("dw", b.image(), CHANNELS, CHANNELS, group=CHANNELS), CHANNELS)
    clipped = b.node("Clip", "dw.relu6", [deep, zero, six])
    wide = b.bn("pw.bn", b.conv("pw", clipped, CHANNELS, 64, kernel=1), 64)
    b.node("Clip", "pw.relu6", [wide, zero, six])
    b.output("pw.relu6_out", ["N", 64, SIDE, SIDE])
    return b.model()


def concat_block() -> onnx.ModelProto:
    """Two conv+relu branches, Concat, conv."""
    b = Builder()
    x = b.image()
    left = b.node("Relu", "left.relu", [b.conv("left", x, CHANNELS, CHANNELS)])
    right = b.node("Relu", "right.relu", [b.conv("right", x, CHANNELS, CHANNELS, kernel=1)])
    b.conv("after", b.node("Concat", "concat", [left, right], axis=1), 2 * CHANNELS, CHANNELS)
    b.output("after_out", ["N", CHANNELS, SIDE, SIDE])
    return b.model()


def shared_weight() -> onnx.ModelProto:
    """One initializer read by two MatMuls of different inputs, whose results are concatenated."""
    b = Builder()
    weight = b.weight("w", WIDTH, WIDTH, fan_in=WIDTH)
    products = [b.node("MatMul", f"mm_{n}", [b.input(n, ["N", WIDTH]), weight]) for n in ("a", "b")]
    b.node("Concat", "both", products, axis=1)
    b.output("both_out", ["N", 2 * WIDTH])
    return b.model()


def if_body() -> onnx.ModelProto:
    """conv+relu, then an If whose branches hold a Conv each over the captured relu_out, then a conv."""
    b = Builder()
    flag = b.input("flag", [], TensorProto.BOOL)
    relu = b.node("Relu", "relu", [b.conv("conv", b.image(), CHANNELS, CHANNELS)])
    branches = {}
    for name in ("then_branch", "else_branch"):
        inner = Builder(len(name))
        inner.conv(f"{name}.conv", relu, CHANNELS, CHANNELS, kernel=1)
        out = helper.make_tensor_value_info(f"{name}.conv_out", TensorProto.FLOAT, ["N", CHANNELS, SIDE, SIDE])
        branches[name] = helper.make_graph(inner.nodes, name, [], [out], inner.initializers)
    b.conv("after", b.node("If", "if", [flag], **branches), CHANNELS, CHANNELS)
    b.output("after_out", ["N", CHANNELS, SIDE, SIDE])
    return b.model()


def mlp() -> onnx.ModelProto:
    b = Builder()
    hidden = b.node("Relu", "relu", [b.gemm("fc1", b.input("x", ["N", WIDTH]), WIDTH, 128)])
    b.gemm("fc2", hidden, 128, CHANNELS)
    b.output("fc2_out", ["N", CHANNELS])
    return b.model()


def encoder(layers: int) -> onnx.ModelProto:
    """Layers of one product, an activation and a normalisation each."""
    b = Builder()
    x = b.input("x", ["N", 6, 32])
    for index in range(layers):
        x = b.node("Gelu", f"gelu{index}", [b.linear(f"fc{index}", x, 32, 32)])
    b.output(x, ["N", 6, 32])
    model = b.model(check=False)
    model.opset_import[0].version = 20
    return model


def lookup(width: int = 64) -> onnx.ModelProto:
    """Tokens looked up in a table of rows of this width, and a product of them."""
    b = Builder()
    rows = b.node("Gather", "table", [b.const("rows", b.random.normal(size=(100, width))), b.input("ids", ["N", 6], 7)])
    b.output(b.linear("fc", rows, width, 32), ["N", 6, 32])
    return b.model()


def embedding_mlp() -> onnx.ModelProto:
    """Token ids -> table -> flatten -> Gemm-Relu-Gemm."""
    b = Builder()
    table = b.const("table", b.random.normal(0, 0.5, (100, 16)))
    rows = b.node("Gather", "embed", [table, b.input("ids", ["N", 4], TensorProto.INT64)], axis=0)
    flat = b.node("Flatten", "flatten", [rows], axis=1)
    b.gemm("fc2", b.node("Relu", "relu", [b.gemm("fc1", flat, 64, 128)]), 128, CHANNELS)
    b.output("fc2_out", ["N", CHANNELS])
    return b.model()


def conv_transpose_block() -> onnx.ModelProto:
    """conv+relu, ConvTranspose (stride 2) + bias + relu, conv."""
    b = Builder()
    low = b.node("Relu", "relu", [b.conv("conv", b.image(), CHANNELS, 64)])
    weight = b.weight("up.w", 64, CHANNELS, 2, 2, fan_in=64)
    up = b.node("ConvTranspose", "up", [low, weight, b.const("up.b", np.zeros(CHANNELS))], strides=[2, 2])
    b.conv("after", b.node("Relu", "up.relu", [up]), CHANNELS, CHANNELS)
    b.output("after_out", ["N", CHANNELS, 2 * SIDE, 2 * SIDE])
    return b.model()


def pool_block() -> onnx.ModelProto:
    """conv+relu+maxpool, conv, average pool, conv, global average pool, flatten, Gemm."""
    b = Builder()
    first = b.node("Relu", "relu", [b.conv("conv1", b.image(), CHANNELS, CHANNELS)])
    pooled = b.node("MaxPool", "maxpool", [first], kernel_shape=[2, 2], strides=[2, 2])
    second = b.conv("conv2", pooled, CHANNELS, 64)
    mean = b.node("AveragePool", "avgpool", [second], kernel_shape=[2, 2], strides=[2, 2])
    third = b.node("GlobalAveragePool", "gap", [b.conv("conv3", mean, 64, 64)])
    b.gemm("fc", b.node("Flatten", "flatten", [third], axis=1), 64, CHANNELS)
    b.output("fc_out", ["N", CHANNELS])
    return b.model()


BUILDERS = {
    "conv_relu": conv_relu,
    "resnet_block": resnet_block,
    "resnet_downsample": lambda: resnet_block(downsample=True),
    "mha_block": mha_block,
    "silu_block": silu_block,
    "gelu_erf": lambda: gelu_block("erf"),
    "gelu_tanh": lambda: gelu_block("tanh"),
    "depthwise_block": depthwise_block,
    "concat_block": concat_block,
    "shared_weight": shared_weight,
    "if_body": if_body,
    "mlp": mlp,
    "embedding_mlp": embedding_mlp,
    "conv_transpose_block": conv_transpose_block,
    "pool_block": pool_block,
}
"""Every block by name, for tests that state something of all of them."""


def random_feed(model: onnx.ModelProto, n: int, seed: int = 0) -> dict[str, Array]:
    """`n` samples for every input: normal floats, token ids below 100, true flags."""
    random = np.random.default_rng(seed)
    feed: dict[str, Array] = {}
    constant = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name in constant:
            continue
        kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        dims = value.type.tensor_type.shape.dim
        shape = [dim.dim_value if dim.HasField("dim_value") else n for dim in dims]
        if kind == np.bool_:
            feed[value.name] = np.ones(shape, np.bool_)
        elif np.issubdtype(kind, np.integer):
            feed[value.name] = random.integers(0, 100, shape).astype(kind)
        else:
            feed[value.name] = random.normal(size=shape).astype(kind)
    return feed


def write(model: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    """Save `model` in `folder` and return its path."""
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def prepared(model: onnx.ModelProto) -> ir.Model:
    """The model as `load_model` hands it to the rest of the program."""
    return prepare(ir.from_proto(model))


def cut(model: onnx.ModelProto) -> tuple[Topology, Partition]:
    """The units of `model`."""
    graph = prepared(model).graph
    return Topology(graph), find_units(graph)


def partition(model: onnx.ModelProto) -> Partition:
    return cut(model)[1]


def units(model: onnx.ModelProto) -> dict[str, tuple[str, str]]:
    """Unit name -> kind and its nodes in one string."""
    return {unit.name: (unit.kind, " ".join(unit.nodes)) for unit in partition(model).units}


def run_unoptimised(model: bytes | Path, feed: dict[str, Array]) -> list[Array]:
    """The outputs under ONNX Runtime without its optimiser, so that equal arithmetic gives equal bits."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model if isinstance(model, bytes) else str(model), options)
    return list(session.run(None, feed))
