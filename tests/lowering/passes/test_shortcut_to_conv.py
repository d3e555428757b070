"""A shortcut of a strided Slice and a Pad of channels becomes one convolution, and computes the same."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from autoprec.backends.scheme import TENSORRT, TENSORRT_8
from autoprec.graph.model import check_model
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.shortcut_to_conv import ShortcutToConvPass
from autoprec.precision import Precision

from ...helpers.lowering_bench import Bench, loaded, node_named, ops, run, sqnr_db
from ...helpers.networks import random_feed
from ...helpers.onnx_builder import Builder

END = 2**31 - 1
CHANNELS = (0, 4, 0, 0, 0, 12, 0, 0)


def block(
    starts: tuple[int, ...] = (0, 0),
    ends: tuple[int, ...] = (END, END),
    pads: tuple[int, ...] = CHANNELS,
    *,
    fill: float = 0.0,
    split: bool = False,
) -> onnx.ModelProto:
    """A residual block whose shortcut halves the image and adds channels; `split` slices one axis at a time."""
    b = Builder()
    x = b.node("Relu", "relu", [b.conv("stem", b.input("x", ["N", 3, 10, 10]), 3, 16)])
    main = b.conv("down", x, 16, 32, strides=[2, 2])
    skip = x
    for name, axes in (("rows", (0,)), ("columns", (1,))) if split else (("slice", (0, 1)),):
        skip = b.node(
            "Slice",
            name,
            [
                skip,
                b.const(f"{name}.starts", [starts[i] for i in axes], np.int64),
                b.const(f"{name}.ends", [ends[i] for i in axes], np.int64),
                b.const(f"{name}.axes", [i + 2 for i in axes], np.int64),
                b.const(f"{name}.steps", [2] * len(axes), np.int64),
            ],
        )
    pad = b.node("Pad", "pad", [skip, b.const("pads", pads, np.int64), b.const("fill", fill)])
    y = b.node("Relu", "end", [b.node("Add", "add", [main, pad])])
    b.conv("next", y, 32, 32)
    b.output("next_out", ["N", 32, 5, 5])
    return b.model()


@pytest.mark.parametrize("split", [False, True])
def test_the_convolution_gives_the_same_numbers(split: bool) -> None:
    proto = block(split=split)
    model = loaded(proto).ir
    feed = random_feed(proto, 3)
    before = run(model, feed)

    assert ShortcutToConvPass(GraphEditor(model), ["pad"])(model).modified
    check_model(model)
    assert (node_named(model, "pad").op_type, ops(model, "Slice", "Pad")) == ("Conv", [])
    assert sqnr_db(before, run(model, feed)) > 120  # ONNX Runtime adds in another order where it fuses


@pytest.mark.parametrize(
    "proto",
    [
        block(starts=(1, 0)),
        block(ends=(9, END)),
        block(fill=1.0),
        block(pads=(0, 4, 1, 0, 0, 12, -1, 0)),
    ],
    ids=["another first row", "not all rows", "another number than zero", "rows are padded too"],
)
def test_anything_else_is_left(proto: onnx.ModelProto) -> None:
    model = loaded(proto).ir

    assert not ShortcutToConvPass(GraphEditor(model), ["pad"])(model).modified


def test_beside_int8_the_convolution_and_the_skip_are_in_8_bits() -> None:
    """TensorRT then fuses the Add, and converts nothing before it."""
    one = Bench(block(), TENSORRT_8, Precision.FP16)
    placement = one.lower(one.uniform(Precision.INT8)).placement

    edges = {edge for point in placement.activations for edge in point.consumers}
    assert {("pad", 0), ("add", 1)} <= edges
    assert ("pad", 1) in {(point.node, point.index) for point in placement.weights}


def test_beside_fp16_the_convolution_is_told_so_and_reads_no_pair() -> None:
    one = Bench(block(), TENSORRT_8, Precision.FP16)
    lowered = one.lower(one.uniform(Precision.FP16)).ir

    assert node_named(lowered, "pad").metadata_props["autoprec.precision"] == "fp16"
    assert ops(lowered, "QuantizeLinear") == []


def test_runtimes_that_were_not_measured_keep_the_slice() -> None:
    one = Bench(block(), TENSORRT, Precision.FP16)

    assert len(ops(one.lower(one.uniform(Precision.INT8)).ir, "Slice", "Pad")) == 2
