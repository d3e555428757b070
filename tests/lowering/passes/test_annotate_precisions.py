"""Precisions are written beside the listed nodes, and nothing else of the model changes."""

from __future__ import annotations

import onnx
import pytest

from autoprec.graph.model import check_model, to_bytes
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.annotate_precisions import AnnotatePrecisionsPass
from autoprec.precision import PRECISION_KEY, Precision

from ...helpers.lowering_bench import loaded
from ...helpers.networks import BUILDERS

FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8


def written(model: onnx.ModelProto) -> dict[str, str]:
    """Node -> the precision in its metadata, for nodes that have one."""
    return {
        node.name: entry.value
        for node in model.graph.node
        for entry in node.metadata_props
        if entry.key == PRECISION_KEY
    }


def without_metadata(model: onnx.ModelProto) -> bytes:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        del node.metadata_props[:]
    return copy.SerializeToString(deterministic=True)


def proto(name: str) -> onnx.ModelProto:
    """The model as it is before the pass, in the serialisation of onnx_ir."""
    return onnx.load_from_string(to_bytes(loaded(BUILDERS[name]()).ir))


def test_exactly_the_listed_nodes_carry_their_precision() -> None:
    model = loaded(BUILDERS["resnet_block"]()).ir
    wanted = {"stem": FP16, "conv1": INT8, "add": FP32}

    assert AnnotatePrecisionsPass(GraphEditor(model), wanted)(model).modified
    check_model(model)
    assert written(onnx.load_from_string(to_bytes(model))) == {"stem": "fp16", "conv1": "int8", "add": "fp32"}


@pytest.mark.parametrize("name", BUILDERS)
def test_no_node_tensor_opset_or_ir_version_changes(name: str) -> None:
    before = proto(name)
    model = loaded(BUILDERS[name]()).ir
    AnnotatePrecisionsPass(GraphEditor(model), {node.name: FP16 for node in before.graph.node})(model)
    after = onnx.load_from_string(to_bytes(model))

    assert written(after) == {node.name: "fp16" for node in before.graph.node}
    assert without_metadata(after) == without_metadata(before)
    assert (after.ir_version, after.opset_import) == (before.ir_version, before.opset_import)


def test_what_an_earlier_plan_left_is_taken_away() -> None:
    model = loaded(BUILDERS["mlp"]()).ir
    AnnotatePrecisionsPass(GraphEditor(model), {"fc1": FP16, "relu": FP16})(model)
    AnnotatePrecisionsPass(GraphEditor(model), {"fc2": INT8})(model)

    assert written(onnx.load_from_string(to_bytes(model))) == {"fc2": "int8"}


def test_other_metadata_stays() -> None:
    model = loaded(BUILDERS["mlp"]()).ir
    for node in model.graph:
        node.metadata_props["source"] = f"layer of {node.name}"
    AnnotatePrecisionsPass(GraphEditor(model), {"fc1": FP16})(model)

    assert all(node.metadata_props["source"] == f"layer of {node.name}" for node in model.graph)


@pytest.mark.parametrize("wanted", [{}, {"nothing of that name": FP16}])
def test_a_model_without_listed_nodes_is_not_modified(wanted: dict[str, Precision]) -> None:
    model = loaded(BUILDERS["mlp"]()).ir
    before = to_bytes(model)

    assert not AnnotatePrecisionsPass(GraphEditor(model), wanted)(model).modified
    assert to_bytes(model) == before
