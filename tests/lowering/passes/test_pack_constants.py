"""Large constants of few levels are stored in INT8 without loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from autoprec.graph.model import check_model
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.pack_constants import PackConstantsPass

from ...helpers.lowering_bench import loaded, ops, run
from ...helpers.networks import random_feed
from ...helpers.onnx_builder import Builder


def masked(constant: Any) -> onnx.ModelProto:
    b = Builder()
    array = np.asarray(constant, np.float32)
    b.node("Add", "add", [b.input("x", ["N", *array.shape]), b.const("mask", array)])
    b.output("add_out", ["N", *array.shape])
    return b.model()


def test_a_mask_is_packed_bit_for_bit() -> None:
    proto = masked(np.triu(np.full((80, 80), -1e4), 1))
    model = loaded(proto).ir
    feed = random_feed(proto, 2)
    before = run(model, feed)["add_out"]

    assert PackConstantsPass(GraphEditor(model))(model).modified
    check_model(model)
    assert "mask" not in model.graph.initializers
    np.testing.assert_array_equal(run(model, feed)["add_out"], before)


@pytest.mark.parametrize(
    ("constant", "why"),
    [
        (np.random.default_rng(0).normal(size=(80, 80)), "too many levels"),
        (np.triu(np.full((80, 80), -np.inf), 1), "infinity has no code"),
        (np.triu(np.full((60, 60), -1e4), 1), "small"),
        (np.zeros((80, 80)), "all zero: no scale"),
        (np.tile([0.1, 0.25], (80, 40)), "levels that are no multiples of one step"),
        (np.where(np.eye(80) > 0, 200.0, 1.0), "more than 127 steps"),
    ],
)
def test_other_constants_are_left(constant: Any, why: str) -> None:
    model = loaded(masked(constant)).ir

    assert not PackConstantsPass(GraphEditor(model))(model).modified, why
    assert ops(model, "DequantizeLinear") == []


def test_weights_of_linear_ops_are_left() -> None:
    """Ternary weights would fit, but in 8 bits without a pair on the activation they are half a quantised op."""
    b = Builder()
    b.node("MatMul", "mm", [b.input("x", ["N", 80]), b.const("w", np.sign(b.random.normal(size=(80, 80))))])
    b.output("mm_out", ["N", 80])

    model = loaded(b.model()).ir

    assert not PackConstantsPass(GraphEditor(model))(model).modified
