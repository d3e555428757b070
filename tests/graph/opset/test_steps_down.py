"""What newer opsets say otherwise, written for older ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autoprec.errors import ModelError

from ...helpers.opset_models import IMAGE, assert_same, one_node, rewritten

F = np.float32


def whole(*numbers: int) -> Any:
    return np.array(numbers, np.int64)


@pytest.mark.parametrize(
    ("op", "opset", "constants", "attributes"),
    [
        ("AveragePool", 19, [], {"kernel_shape": [2, 2], "dilations": [1, 1]}),
        ("Gelu", 20, [], {}),
        ("Gelu", 20, [], {"approximate": "tanh"}),
        ("GridSample", 20, [np.random.default_rng(0).uniform(-1, 1, (2, 3, 3, 2)).astype(F)], {"mode": "linear"}),
        ("GroupNormalization", 21, [np.arange(4).astype(F), np.ones(4, F)], {"num_groups": 2}),
        ("GroupNormalization", 21, [np.arange(4).astype(F), np.ones(4, F)], {"num_groups": 1}),
        ("GroupNormalization", 18, [np.arange(2).astype(F), np.ones(2, F)], {"num_groups": 2}),
        ("Mish", 18, [], {}),
        ("Pad", 18, [whole(1, 2, 1, 0), np.array(3.0, F), whole(2, -1)], {}),
        ("RMSNormalization", 23, [np.arange(36).reshape(6, 6).astype(F)], {"axis": 2}),
        ("ReduceL2", 18, [whole(-1)], {"keepdims": 0}),
        ("ReduceMax", 18, [], {}),
        ("ReduceMean", 18, [], {"noop_with_empty_axes": 1}),
        ("Resize", 18, [None, np.array([2, 1.5], F)], {"mode": "linear", "axes": [2, 3]}),
        ("Resize", 19, [None, None, whole(9, 7)], {"mode": "linear", "axes": [3, 2]}),
        ("Swish", 24, [], {"alpha": 1.5}),
        ("Attention", 23, [IMAGE, IMAGE], {"is_causal": 1}),
    ],
)
def test_a_lowered_node_computes_the_same(
    op: str, opset: int, constants: list[Any], attributes: dict[str, Any]
) -> None:
    assert_same(one_node(op, opset, constants, **attributes), 17)


def test_parts_of_unequal_size_are_written_out() -> None:
    assert_same(one_node("Split", 18, [], 2, image=IMAGE[:, :3], axis=1, num_outputs=2), 17, IMAGE[:, :3])


@pytest.mark.parametrize(
    ("op", "opset", "constants", "attributes", "why"),
    [
        ("Resize", 18, [None, np.array([1, 1, 0.5, 0.5], F)], {"mode": "linear", "antialias": 1}, "antialias is not"),
        ("Pad", 19, [whole(0, 0, 1, 1, 0, 0, 1, 1)], {"mode": "wrap"}, "the mode wrap is not known there"),
        ("CumProd", 26, [np.array(0, np.int64)], {}, "it does not exist there, and ONNX does not define it by other"),
        ("AveragePool", 19, [], {"kernel_shape": [2, 2], "dilations": [2, 2]}, "dilations are not known there"),
        (
            "AveragePool",
            19,
            [],
            {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [0, 0, 1, 1], "ceil_mode": 1},
            "a last window that starts in the padding counts there",
        ),
        (
            "MaxPool",
            22,
            [],
            {"kernel_shape": [1, 1], "strides": [2, 2], "pads": [0, 0, 1, 1], "ceil_mode": 1},
            "a last window that starts in the padding counts there",
        ),
        ("Mod", 28, [np.full((2, 4, 6, 6), 0.3, F)], {}, "a remainder of floats has the sign of the dividend there"),
    ],
)
def test_what_an_older_opset_cannot_say_is_refused_by_name(
    op: str, opset: int, constants: list[Any], attributes: dict[str, Any], why: str
) -> None:
    with pytest.raises(ModelError, match=rf"node 'n' \({op}\) cannot be written in opset \d+: {why}"):
        rewritten(one_node(op, opset, constants, **attributes), 17)
