"""Networks whose channels differ so much in range that uniform INT8 fails, as a stem before a depthwise convolution."""

from __future__ import annotations

import numpy as np
import onnx

from .onnx_builder import Builder

CHANNELS = 32
SPREAD = np.logspace(-1.5, 1.5, CHANNELS)


def uneven(activation: str = "Relu") -> onnx.ModelProto:
    """A depthwise convolution of a value whose channels differ a thousandfold, behind a Relu, or a SiLU as in YOLOX."""
    b = Builder()
    spread = SPREAD.reshape(-1, 1, 1, 1)
    weight = b.const("w", spread * b.random.normal(0, 0.2, (CHANNELS, CHANNELS, 1, 1)))
    stem = b.node("Conv", "stem", [b.image(), weight])
    if activation == "SiLU":
        value = b.node("Mul", "v", [stem, b.node("Sigmoid", "sigmoid", [stem])])
    else:
        value = b.node(activation, "v", [stem])
    rows = b.const("dw.w", b.random.normal(0, 0.3, (CHANNELS, 1, 3, 3)) / spread)
    out = b.node("Conv", "dw", [value, rows], group=CHANNELS, pads=[1, 1, 1, 1])
    b.output(b.node("Relu", "relu", [out]), ["N", CHANNELS, None, None])
    return b.model()


def unlike() -> onnx.ModelProto:
    """A convolution of a Concat whose inputs differ a thousandfold."""
    b = Builder()
    x = b.image()
    wide = b.node("Mul", "wide", [b.node("Relu", "r1", [b.conv("c1", x, 32, 32)]), b.const("k", np.full((), 1000.0))])
    value = b.node("Concat", "v", [wide, b.node("Relu", "r2", [b.conv("c2", x, 32, 32)])], axis=1)
    weight = b.random.normal(0, 0.1, (16, 64, 1, 1))
    weight[:, :32] /= 1000
    out = b.node("Conv", "reader", [value, b.const("w", weight)])
    b.output(b.node("Relu", "relu", [out]), ["N", 16, None, None])
    return b.model()
