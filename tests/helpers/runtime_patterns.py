"""Small networks of a producer, what lies between, and a consumer: what ONNX Runtime's optimiser rewrites."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
import onnx

from .onnx_builder import CHANNELS, SIDE, Builder

Block = Callable[[Builder, str, str], str]
"""Adds nodes to a builder: (builder, name, input) -> output."""

WIDTH, TOKENS = 48, 6


def _conv(b: Builder, name: str, x: str) -> str:
    return b.conv(name, x, CHANNELS, CHANNELS)


def _bare_conv(b: Builder, name: str, x: str) -> str:
    return b.node("Conv", name, [x, b.weight(f"{name}.w", CHANNELS, CHANNELS, 3, 3)], pads=[1] * 4)


def _depthwise(b: Builder, name: str, x: str) -> str:
    weights = b.random.normal(0, 1, (CHANNELS, 1, 3, 3)) * np.geomspace(0.05, 1, CHANNELS).reshape(-1, 1, 1, 1)
    inputs = [x, b.const(f"{name}.w", weights), b.const(f"{name}.b", b.random.normal(0, 0.1, CHANNELS))]
    return b.node("Conv", name, inputs, pads=[1] * 4, group=CHANNELS)


def _conv_transpose(b: Builder, name: str, x: str) -> str:
    inputs = [
        x,
        b.weight(f"{name}.w", CHANNELS, CHANNELS, 3, 3),
        b.const(f"{name}.b", b.random.normal(0, 0.1, CHANNELS)),
    ]
    return b.node("ConvTranspose", name, inputs, pads=[1] * 4)


def _flat_gemm(b: Builder, name: str, x: str) -> str:
    pooled = b.node("GlobalAveragePool", f"{name}.pool", [x])
    return b.gemm(name, b.node("Flatten", f"{name}.flatten", [pooled]), CHANNELS, WIDTH)


def _matmul(b: Builder, name: str, x: str) -> str:
    return b.node("MatMul", name, [x, b.weight(f"{name}.w", WIDTH, WIDTH, fan_in=WIDTH)])


def _linear(b: Builder, name: str, x: str) -> str:
    return b.linear(name, x, WIDTH, WIDTH)


def _linear_row(b: Builder, name: str, x: str) -> str:
    """A bias of shape [1, n], as Keras and JAX write it, in front of the product."""
    return b.node(
        "Add", f"{name}.add", [b.const(f"{name}.b", b.random.normal(0, 0.1, (1, WIDTH))), _matmul(b, name, x)]
    )


def _gemm(b: Builder, name: str, x: str) -> str:
    inputs = [
        x,
        b.weight(f"{name}.w", WIDTH, WIDTH, fan_in=WIDTH),
        b.const(f"{name}.b", b.random.normal(0, 0.1, WIDTH)),
    ]
    return b.node("Gemm", name, inputs)


def _gemm_t(b: Builder, name: str, x: str) -> str:
    return b.gemm(name, x, WIDTH, WIDTH)


def _bare_gemm(b: Builder, name: str, x: str) -> str:
    return b.node("Gemm", name, [x, b.weight(f"{name}.w", WIDTH, WIDTH)], transB=1)


def _residual(op: str) -> Block:
    """X op f(x) with another product between, which both branches share."""
    return lambda b, name, x: b.node(op, f"{name}.{op}", [b.node("Tanh", f"{name}.tanh", [x]), x])


def _self_sum(b: Builder, name: str, x: str) -> str:
    return b.node("Add", f"{name}.add", [x, "x"])


def _op(op: str, *constants: object, **attributes: object) -> Block:
    def add(b: Builder, name: str, x: str) -> str:
        inputs = [
            x,
            *(b.const(f"{name}.{op}.{i}", c, getattr(c, "dtype", np.float32)) for i, c in enumerate(constants)),
        ]
        return b.node(op, f"{name}.{op}", inputs, **attributes)

    return add


def _then(*blocks: Block) -> Block:
    def add(b: Builder, name: str, x: str) -> str:
        for number, block in enumerate(blocks):
            x = block(b, f"{name}.{number}", x)
        return x

    return add


def _silu(b: Builder, name: str, x: str) -> str:
    return b.node("Mul", f"{name}.mul", [x, b.node("Sigmoid", f"{name}.sigmoid", [x])])


def _gelu(b: Builder, name: str, x: str) -> str:
    erf = b.node("Erf", f"{name}.erf", [b.node("Div", f"{name}.div", [x, b.const(f"{name}.root", 2**0.5)])])
    half = b.node("Mul", f"{name}.mul", [x, b.node("Add", f"{name}.one", [erf, b.const(f"{name}.1", 1.0)])])
    return b.node("Mul", f"{name}.half", [half, b.const(f"{name}.h", 0.5)])


def _excite(b: Builder, name: str, x: str) -> str:
    pooled = b.node("GlobalAveragePool", f"{name}.pool", [x])
    return b.node("Mul", f"{name}.mul", [x, b.node("Sigmoid", f"{name}.gate", [pooled])])


def _concat(b: Builder, name: str, x: str) -> str:
    half = b.node(
        "Slice",
        f"{name}.half",
        [x, *(b.const(f"{name}.{k}", [v], np.int64) for k, v in zip("sea", (0, CHANNELS // 2, 1), strict=True))],
    )
    other = b.node("MaxPool", f"{name}.other", [half], kernel_shape=[3, 3], pads=[1] * 4)
    return b.node("Concat", f"{name}.concat", [half, other], axis=1)


def _split(b: Builder, name: str, x: str) -> str:
    first = b.node("Split", f"{name}.split", [x], outputs=2, axis=1)
    return b.node("Concat", f"{name}.swap", [f"{name}.split_out1", first], axis=1)


def _norm(b: Builder, name: str, x: str) -> str:
    return b.bn(f"{name}.bn", x, CHANNELS)


def _layer_norm(b: Builder, name: str, x: str) -> str:
    return b.node(
        "LayerNormalization",
        f"{name}.norm",
        [x, b.const(f"{name}.g", np.ones(WIDTH)), b.const(f"{name}.be", np.zeros(WIDTH))],
    )


def _resize(b: Builder, name: str, x: str) -> str:
    scales = b.const(f"{name}.scales", [1, 1, 2, 2])
    return b.node(
        "Resize",
        f"{name}.resize",
        [x, "", scales],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def _nothing(b: Builder, name: str, x: str) -> str:
    return x


_PADS = np.array([0, 0, 0, 0, 0, 0, 1, 1])
_RELU = _op("Relu")
IMAGE: dict[str, Block] = {
    "conv": _conv,
    "bare_conv": _bare_conv,
    "depthwise": _depthwise,
    "conv_transpose": _conv_transpose,
}
IMAGE_END: dict[str, Block] = {**IMAGE, "gemm": _flat_gemm}
IMAGE_BETWEEN: dict[str, Block] = {
    "nothing": _nothing,
    "relu": _RELU,
    "relu6": _op("Clip", 0.0, 6.0),
    "leaky": _op("LeakyRelu", alpha=0.1),
    "sigmoid": _op("Sigmoid"),
    "hard_swish": _op("HardSwish"),
    "hard_sigmoid": _op("HardSigmoid"),
    "silu": _silu,
    "excite": _excite,
    "pad": _op("Pad", _PADS),
    "relu_pad": _then(_RELU, _op("Pad", _PADS)),
    "relu_max_pool": _then(_RELU, _op("MaxPool", kernel_shape=[2, 2], strides=[2, 2])),
    "max_pool": _op("MaxPool", kernel_shape=[3, 3], pads=[1] * 4),
    "average_pool": _op("AveragePool", kernel_shape=[2, 2], strides=[2, 2]),
    "relu_resize": _then(_RELU, _resize),
    "relu_concat": _then(_RELU, _concat),
    "relu_split": _then(_RELU, _split),
    "relu_norm": _then(_RELU, _norm),
    "norm_relu": _then(_norm, _RELU),
    "residual": _residual("Add"),
    "product": _residual("Mul"),
    "relu_transpose": _then(_RELU, _op("Transpose", perm=[0, 1, 3, 2])),
    "relu_reshape": _then(_RELU, _op("Reshape", np.array([0, 0, SIDE // 2, SIDE * 2]))),
    "relu_slice": _then(_RELU, _op("Slice", np.array([1]), np.array([7]), np.array([2]))),
    "relu_unsqueeze": _then(_RELU, _op("Unsqueeze", np.array([0])), _op("Squeeze", np.array([0]))),
    "depth_to_space": _then(_op("SpaceToDepth", blocksize=2), _op("DepthToSpace", blocksize=2)),
}
CHAIN_BETWEEN = tuple(name for name in IMAGE_BETWEEN if name not in ("hard_swish", "hard_sigmoid"))
"""What stands between where a third convolution follows, so that the second is between two pairs."""
MATRIX: dict[str, Block] = {
    "matmul": _matmul,
    "linear": _linear,
    "linear_row": _linear_row,
    "gemm": _gemm,
    "gemm_t": _gemm_t,
    "bare_gemm": _bare_gemm,
}
TOKENS_ALONE = ("matmul", "linear", "linear_row")
"""The producers and consumers that read three dimensions too."""
MATRIX_BETWEEN: dict[str, Block] = {
    "nothing": _nothing,
    "relu": _RELU,
    "relu6": _op("Clip", 0.0, 6.0),
    "leaky": _op("LeakyRelu", alpha=0.1),
    "sigmoid": _op("Sigmoid"),
    "silu": _silu,
    "gelu": _gelu,
    "softmax": _op("Softmax", axis=-1),
    "norm": _layer_norm,
    "residual": _residual("Add"),
    "product": _residual("Mul"),
    "skip": _self_sum,
    "dropout": _op("Identity"),
    "relu_reshape": _then(_RELU, _op("Reshape", np.array([0, 0]))),
}


def pattern(domain: str, producer: str, between: str, consumer: str) -> onnx.ModelProto:
    """The network of three parts, whose producer is called "first" and whose consumer "last"."""
    b = Builder()
    if domain in ("image", "chain"):
        last = IMAGE_END[consumer](b, "last", IMAGE_BETWEEN[between](b, "mid", IMAGE[producer](b, "first", b.image())))
        rank = 2 if consumer == "gemm" else 4
        if domain == "chain":
            last = IMAGE["conv"](b, "end", _RELU(b, "behind", last))
    else:
        x = b.input("x", ["N", WIDTH] if domain.startswith("matrix") else ["N", TOKENS, WIDTH])
        last = MATRIX[consumer](b, "last", MATRIX_BETWEEN[between](b, "mid", MATRIX[producer](b, "first", x)))
        rank = 2 if domain.startswith("matrix") else 3
        if domain == "matrix chain":
            last = MATRIX["linear"](b, "end", _RELU(b, "behind", last))
    b.output(last, [f"d{axis}" if axis else "N" for axis in range(rank)])
    return b.model(check=False)


def patterns() -> Iterator[tuple[str, str, str, str]]:
    """Every (domain, producer, between, consumer)."""
    yield from product(["image"], IMAGE, IMAGE_BETWEEN, IMAGE_END)
    yield from product(["chain"], ["conv"], CHAIN_BETWEEN, IMAGE)
    yield from product(["matrix"], MATRIX, MATRIX_BETWEEN, MATRIX)
    yield from product(["matrix chain"], ["matmul", "linear", "gemm"], ["nothing", "relu", "residual"], MATRIX)
    skip = ("relu_reshape",)
    yield from product(["tokens"], TOKENS_ALONE, [m for m in MATRIX_BETWEEN if m not in skip], TOKENS_ALONE)
