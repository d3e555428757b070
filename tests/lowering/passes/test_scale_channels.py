"""Channels of a value are divided, and the products that read it multiplied, without a change of the outputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from autoprec.graph.model import check_model
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.scale_channels import ScaleChannelsPass
from autoprec.precision import Array

from ...helpers.lowering_bench import loaded, node_named, ops, run, sqnr_db
from ...helpers.networks import random_feed
from ...helpers.onnx_builder import Builder

CHANNELS = 8
SPREAD = np.logspace(-2, 2, CHANNELS)


def image_to(b: Builder, made: str, reader: str = "conv") -> onnx.ModelProto:
    """The value `made`, and a convolution of it."""
    if reader == "depthwise":
        weight, group = b.weight("w2", CHANNELS, 1, 3, 3), CHANNELS
    elif reader == "grouped":
        weight, group = b.weight("w2", 4, 4, 3, 3), 2
    else:
        weight, group = b.weight("w2", 6, CHANNELS, 3, 3), 1
    if reader == "transposed":
        out = b.node("ConvTranspose", "reader", [made, b.weight("w3", CHANNELS, 6, 3, 3)])
    else:
        out = b.node("Conv", "reader", [made, weight], group=group, pads=[1, 1, 1, 1])
    b.output(out, ["N", None, None, None])
    return b.model()


def conv(b: Builder, name: str = "first", channels: int = CHANNELS) -> str:
    x = b.image() if name == "first" else "x"
    bias = b.const(f"b_{name}", b.random.normal(0, 1, channels))
    return b.node("Conv", name, [x, b.weight(f"w_{name}", channels, 32, 1, 1), bias])


def relu(b: Builder) -> str:
    return b.node("Relu", "v", [conv(b)])


def prelu(b: Builder) -> str:
    return b.node("PRelu", "v", [conv(b), b.const("slope", b.random.random((CHANNELS, 1, 1)))])


def normalised(b: Builder) -> str:
    return b.node("Relu", "v", [b.bn("bn", conv(b), CHANNELS)])


def pooled(b: Builder) -> str:
    return b.node("MaxPool", "v", [b.node("LeakyRelu", "leaky", [conv(b)])], kernel_shape=[2, 2], strides=[2, 2])


def joined(b: Builder) -> str:
    one, two = conv(b, channels=CHANNELS // 2), conv(b, "second", CHANNELS // 2)
    return b.node("Concat", "v", [b.node("Relu", "r1", [one]), two], axis=1)


def added(b: Builder) -> str:
    return b.node("Add", "v", [conv(b), conv(b, "second")])


def silu(b: Builder) -> str:
    made = conv(b)
    return b.node("Mul", "v", [made, b.node("Sigmoid", "sigmoid", [made])])


def clipped(b: Builder) -> str:
    return b.node("Clip", "v", [conv(b), b.const("low", np.zeros(())), b.const("high", np.full((), 6.0))])


def read_twice(b: Builder) -> str:
    made = relu(b)
    b.output(b.node("Exp", "exp", [made]), ["N", None, None, None])
    return made


def scaled(proto: onnx.ModelProto, value: str, factor: Array) -> tuple[float, int, dict[str, str]]:
    """The SQNR of the outputs behind the pass, the number of Muls that it added, and what it refused."""
    model, feed = loaded(proto).ir, random_feed(proto, 3)
    before, muls = run(model, feed), len(ops(model, "Mul"))
    result = ScaleChannelsPass(GraphEditor(model), {value: factor}).call(model)
    check_model(model)
    return sqnr_db(before, run(model, feed)), len(ops(model, "Mul")) - muls, dict(result.refused)


@pytest.mark.parametrize("reader", ["conv", "depthwise", "grouped", "transposed"])
@pytest.mark.parametrize("make", [relu, prelu, normalised, pooled, joined, added])
def test_what_makes_a_value_takes_the_division_in(make: Callable[[Builder], str], reader: str) -> None:
    b = Builder()
    found, muls, refused = scaled(image_to(b, make(b), reader), "v_out", SPREAD)
    assert (muls, refused) == (0, {})
    assert found > 110


@pytest.mark.parametrize("make", [silu, clipped, read_twice])
def test_a_product_reads_a_divided_copy_where_nothing_can_take_the_division_in(
    make: Callable[[Builder], str],
) -> None:
    b = Builder()
    found, muls, refused = scaled(image_to(b, make(b), "depthwise"), "v_out", SPREAD)
    assert (muls, refused) == (1, {})
    assert found > 110


def matrix(b: Builder, op: str, norm: bool, turned: bool = False) -> onnx.ModelProto:
    x = b.input("x", ["N", 16])
    if norm:
        gain, shift = b.const("g", b.random.random(16) + 0.5), b.const("s", b.random.normal(0, 1, 16))
        value = b.node("LayerNormalization", "v", [x, gain, shift], axis=-1)
    else:
        value = b.node("Add", "v", [b.node("MatMul", "m", [x, b.weight("wm", 16, 16)]), b.const("bm", np.ones(16))])
    weight = b.weight("w", *((6, 16) if turned else (16, 6)))
    attributes = {"transB": 1} if turned else {}
    b.output(b.node(op, "reader", [value, weight], **attributes), ["N", 6])
    return b.model()


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize(("op", "turned"), [("MatMul", False), ("Gemm", False), ("Gemm", True)])
def test_normalisations_and_biases_before_matrix_products_take_it_in(op: str, turned: bool, norm: bool) -> None:
    found, muls, refused = scaled(matrix(Builder(), op, norm, turned), "v_out", np.logspace(-2, 2, 16))
    assert (muls, refused) == (0, {})
    assert found > 110


@pytest.mark.parametrize(
    ("factor", "why"),
    [(np.ones(3), "8 channels"), (np.zeros(CHANNELS), "positive"), (np.full(CHANNELS, np.inf), "finite")],
)
def test_factors_that_cannot_be_are_refused_and_nothing_is_changed(factor: Array, why: str) -> None:
    b = Builder()
    proto = image_to(b, relu(b))
    found, _, refused = scaled(proto, "v_out", factor)
    assert why in refused["v_out"]
    assert found == 200


def test_a_value_that_no_product_reads_is_refused() -> None:
    b = Builder()
    proto = image_to(b, relu(b))
    assert "no product" in scaled(proto, "first_out", SPREAD)[2]["first_out"]
    assert "no such value" in scaled(proto, "nowhere", SPREAD)[2]["nowhere"]


def test_weights_that_another_node_shares_stay_as_they_are() -> None:
    b = Builder()
    made = relu(b)
    weight = b.weight("w2", 6, CHANNELS, 1, 1)
    for name, value in (("reader", made), ("other", b.node("Exp", "exp", [b.node("Neg", "neg", [made])]))):
        b.output(b.node("Conv", name, [value, weight]), ["N", 6, None, None])
    proto = b.model()
    found, _, _ = scaled(proto, "v_out", SPREAD)
    assert found > 110
    assert node_named(loaded(proto).ir, "other").inputs[1].name == "w2"
