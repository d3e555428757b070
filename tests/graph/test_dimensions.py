"""What dimensions of a model mean: placeholders, and where the samples are."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from autoprec.graph.model import Model, load_model

Shapes = dict[str, list[int | str]]


def load(tmp_path: object, inputs: Shapes, outputs: Shapes, table: list[int] | None = None) -> Model:
    """A model that adds its inputs up, so that each output depends on all of them; the output "table" is constant."""
    total = [helper.make_node("Sum", list(inputs), ["total"])]
    nodes = [helper.make_node("Identity", ["total"], [name]) for name in outputs if name != "table"]
    infos = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in x.items()] for x in (inputs, outputs)]
    weights = [helper.make_tensor("table", TensorProto.FLOAT, table, [0.0] * 24)] if table else []
    graph = helper.make_graph([*total, *nodes], "g", *infos, weights)
    path = f"{tmp_path}/model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return load_model(path)


@pytest.mark.parametrize("text", ["?", "-1", "", "None", "unknown", -1])
def test_a_placeholder_is_no_name_that_axes_share(tmp_path: object, text: int | str) -> None:
    model = load(tmp_path, {"x": [text, 3, text, text]}, {"y": [text, 3, text, text]})

    assert model.interface.inputs[0].shape == (None, 3, None, None)
    assert model.interface.batch_size is None


@pytest.mark.parametrize(
    ("inputs", "outputs", "axes"),
    [
        ({"x": ["N", 3]}, {"y": ["N", 3]}, [0, 0]),
        ({"x": [1, 3, "H", "W"]}, {"y": [1, 3, "H", "W"]}, [0, 0]),
        ({"x": ["N", "S"]}, {"y": ["N", "S"]}, [0, 0]),
        ({"x": ["N", 4], "state": [2, "N", 4], "rate": []}, {"y": [2, "N", 4]}, [0, 1, None, 1]),
        ({"x": ["S", "N", 3]}, {"y": ["S", "N", 3], "state": [1, "N", 3]}, [1, 1, 1]),
        ({"x": [1, 4], "state": [2, 1, 4]}, {"y": [2, 1, 4]}, [0, None, 0]),
        ({"x": [3, 8, 8]}, {"y": [10]}, [None, 0]),
        ({"x": [4, 3]}, {"y": [12, 3]}, [0, 0]),
    ],
)
def test_the_samples_are_on_the_axis_that_inputs_and_outputs_share(
    tmp_path: object, inputs: Shapes, outputs: Shapes, axes: list[int | None]
) -> None:
    found = load(tmp_path, inputs, outputs).interface

    assert [spec.sample_axis for spec in (*found.inputs, *found.outputs)] == axes


def test_an_output_that_depends_on_no_input_has_no_samples(tmp_path: object) -> None:
    model = load(tmp_path, {"x": ["N", 3]}, {"table": [6, 4], "y": ["N", 3]}, table=[6, 4])

    assert [spec.sample_axis for spec in model.interface.outputs] == [None, 0]
