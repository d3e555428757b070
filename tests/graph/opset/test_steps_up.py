"""What older opsets said otherwise, written for newer ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from autoprec.errors import ModelError
from autoprec.graph.opset.convert import to_opset
from autoprec.graph.preparation import prepare

from ...helpers.opset_models import IMAGE, assert_same, one_node

F = np.float32
PER_CHANNEL = [np.ones(4, F), np.zeros(4, F), np.zeros(4, F), np.ones(4, F)]


@pytest.mark.parametrize(
    ("op", "opset", "constants", "attributes"),
    [
        ("BatchNormalization", 7, PER_CHANNEL, {"spatial": 1}),
        ("Clip", 7, [], {"min": -0.5, "max": 0.5}),
        ("Clip", 10, [], {"max": 0.5}),
        ("Dropout", 7, [], {"ratio": 0.3}),
        ("GridSample", 16, [np.random.default_rng(0).uniform(-1, 1, (2, 3, 3, 2)).astype(F)], {"mode": "bicubic"}),
        ("Pad", 9, [], {"pads": [0, 0, 1, 1, 0, 0, 1, 1], "value": 2.0}),
        ("Pad", 9, [], {"pads": [0, 0, 1, 1, 0, 0, 1, 1], "mode": "reflect"}),
        ("ReduceSum", 11, [], {"axes": [2, 3], "keepdims": 0}),
        ("ReduceMean", 11, [], {"axes": [2, 3]}),
        ("Resize", 10, [np.array([1, 1, 1.7, 2.3], F)], {"mode": "nearest"}),
        ("Resize", 10, [np.array([1, 1, 0.6, 0.7], F)], {"mode": "nearest"}),
        ("Resize", 10, [np.array([1, 1, 2, 1.5], F)], {"mode": "linear"}),
        ("Slice", 9, [], {"starts": [1], "ends": [5], "axes": [2]}),
        ("Softmax", 11, [], {}),
        ("Softmax", 11, [], {"axis": 3}),
        ("LogSoftmax", 9, [], {"axis": 2}),
        ("Unsqueeze", 11, [], {"axes": [0]}),
        ("Upsample", 7, [], {"mode": "nearest", "scales": [1.0, 1.0, 2.0, 2.0]}),
        ("Upsample", 9, [np.array([1, 1, 2, 1.5], F)], {"mode": "nearest"}),
        ("Upsample", 9, [np.array([1, 1, 2, 2], F)], {"mode": "linear"}),
    ],
)
@pytest.mark.parametrize("target", [13, 22])
def test_a_raised_node_computes_the_same(
    op: str, opset: int, constants: list[Any], attributes: dict[str, Any], target: int
) -> None:
    if opset < target:
        assert_same(one_node(op, opset, constants, **attributes), target)


@pytest.mark.parametrize(("op", "attributes"), [("Split", {"axis": 1, "split": [1, 3]}), ("TopK", {"k": 2})])
def test_a_raised_node_of_two_outputs_computes_the_same(op: str, attributes: dict[str, Any]) -> None:
    assert_same(one_node(op, 9, [], 2, **attributes), 18)


def test_the_scales_of_groups_become_those_of_channels() -> None:
    constants = [np.arange(2).astype(F), np.ones(2, F)]
    model = one_node("GroupNormalization", 18, constants, num_groups=2)
    model.graph.output[0].type.tensor_type.shape.CopyFrom(model.graph.input[0].type.tensor_type.shape)
    raised = assert_same(model, 21)

    assert [value.shape[0] for value in raised.graph.initializers.values()] == [4, 4]


def test_a_normalisation_for_each_activation_is_refused_by_name() -> None:
    model = one_node("BatchNormalization", 7, [np.ones((4, 6, 6), F)] * 4, image=IMAGE, spatial=0)
    with pytest.raises(ModelError, match=r"node 'n' \(BatchNormalization\) cannot be written in opset 9: spatial = 0"):
        to_opset(prepare(ir.from_proto(model)), 13)
