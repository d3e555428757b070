"""What TensorRT 8.6.0 really said of engines on an H200: the placement does there what it is meant to."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoprec.backends.tensorrt.inspector import parse_layers
from autoprec.backends.tensorrt.nodes import precision_of, ran_as
from autoprec.backends.tensorrt.records import EngineLayer
from autoprec.precision import Precision

RECORDED = Path(__file__).parent / "recorded"
MOBILENET_INT8 = "8.6.0-mobilenet_v1_075-int8-b128.json"
MOBILENET_FP16 = "8.6.0-mobilenet_v1_075-fp16-b128-beginning.json"
RESNET50_INT8 = "8.6.0-resnet50-int8-b32-beginning.json"


def layers(name: str) -> tuple[EngineLayer, ...]:
    return parse_layers((RECORDED / name).read_text(encoding="utf-8"))


def convolutions(name: str) -> list[EngineLayer]:
    return [layer for layer in layers(name) if "Conv" in layer.kind]


@pytest.mark.parametrize(("name", "count"), [(MOBILENET_INT8, 32), (MOBILENET_FP16, 6), (RESNET50_INT8, 12)])
def test_every_layer_is_read(name: str, count: int) -> None:
    found = layers(name)

    assert len(found) == count
    assert all(layer.inputs and layer.outputs and layer.tactic for layer in found)


def test_metadata_joined_by_control_characters_names_each_node() -> None:
    residual = next(layer for layer in layers(RESNET50_INT8) if "layer0.1.add" in layer.nodes)

    assert residual.nodes == ("layer0.1.c", "layer0.1.add", "layer0.1.act")


def test_uniform_int8_leaves_nothing_between_the_convolutions() -> None:
    """One Reformat quantises the input; all else are convolutions from INT8 to INT8, the pool, and the head."""
    kinds = [layer.kind for layer in layers(MOBILENET_INT8)]

    assert kinds == ["Reformat", *["CaskConvolution"] * 27, "CaskPooling", "CaskConvolution", "NoOp", "NoOp"]
    inside = convolutions(MOBILENET_INT8)[:-1]
    assert {tensor.dtype for layer in inside for tensor in (*layer.inputs, *layer.outputs)} == {"int8"}


def test_activations_are_fused_into_their_convolutions() -> None:
    fused = [layer.nodes for layer in convolutions(MOBILENET_INT8)[:-1]]

    assert all(nodes == (nodes[0], f"{nodes[0]}_relu") for nodes in fused)


def test_a_residual_block_is_one_convolution_with_two_int8_inputs() -> None:
    """NVIDIA's own reference engine of a QAT ResNet has the same: conv, Add and Relu in one kernel."""
    residuals = [layer for layer in convolutions(RESNET50_INT8) if any(node.endswith(".add") for node in layer.nodes)]

    assert len(residuals) == 3
    for layer in residuals:
        assert [tensor.dtype for tensor in layer.inputs] == ["int8", "int8"]
        assert [tensor.dtype for tensor in layer.outputs] == ["int8"]
        assert [node.rpartition(".")[2] for node in layer.nodes] == ["c", "add", "act"]


def test_the_first_convolution_takes_the_pool_into_its_kernel() -> None:
    assert layers(RESNET50_INT8)[1].nodes == ("stem", "stem.act", "pool")


@pytest.mark.parametrize(
    ("name", "precision"),
    [(MOBILENET_INT8, Precision.INT8), (RESNET50_INT8, Precision.INT8), (MOBILENET_FP16, Precision.FP16)],
)
def test_what_a_convolution_ran_in_is_seen(name: str, precision: Precision) -> None:
    anchors = [layer.nodes[0] for layer in convolutions(name)]
    found = ran_as(layers(name), anchors)

    assert {node: ran.precision for node, ran in found.items()} == dict.fromkeys(anchors, precision)
    assert all(precision_of(layer) is precision for layer in convolutions(name))
