"""What a model's metadata asks of the builder."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from autoprec.backends.tensorrt.asked_by_model import is_left_to_builder, requested_limits, requested_precisions
from autoprec.errors import BackendError
from autoprec.precision import LIMITS_KEY

from ...helpers.tensorrt.precision_models import chain, node, serialised, value


def test_precisions_are_read_from_the_metadata_of_every_node() -> None:
    assert requested_precisions(chain(("r1", "fp16"), ("r2", ""), ("r3", "int8"))) == {
        "r1": "fp16",
        "r2": "",
        "r3": "int8",
    }


def test_bodies_and_nodes_without_a_name_are_read_too() -> None:
    bodies = {
        name: helper.make_graph(
            [node("Relu", f"{name}.relu", ["x"], f"{name}.out", "fp32")], name, [], [value(f"{name}.out", [4])]
        )
        for name in ("then_branch", "else_branch")
    }
    outer = [node("If", "if", ["flag"], "z", **bodies), node("Relu", "", ["z"], "y", "fp16")]
    model = serialised(outer, [value("flag", [], TensorProto.BOOL), value("x", [4])], [value("y", [4])])

    assert requested_precisions(model) == {
        "if": "",
        "y": "fp16",
        "then_branch.relu": "fp32",
        "else_branch.relu": "fp32",
    }


def test_a_damaged_model_is_refused() -> None:
    with pytest.raises(BackendError, match=r"the ONNX model cannot be read.* export it again"):
        requested_precisions(b"\xff" * 40)


def left_to_builder(limits: str) -> bytes:
    model = onnx.load_from_string(chain(("r1", "")))
    model.metadata_props.add(key=LIMITS_KEY, value=limits)
    return bytes(model.SerializeToString())


def test_limits_are_read_where_precisions_are_left_to_the_builder() -> None:
    assert requested_limits(left_to_builder('{"x": 2, "y": 0.5}')) == {"x": 2.0, "y": 0.5}
    assert requested_limits(chain(("r1", "fp16"))) is None
    assert is_left_to_builder(left_to_builder("{}"))
    assert not is_left_to_builder(chain(("r1", "fp16")))


@pytest.mark.parametrize("text", ["{", "[1]", '{"x": "many"}'])
def test_damaged_limits_are_refused(text: str) -> None:
    with pytest.raises(BackendError, match=r"limits in the model's metadata are damaged .* lower the plan again"):
        requested_limits(left_to_builder(text))
