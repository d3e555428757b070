"""Which layers of TensorRT 8.6 get which precision, and which shapes inputs may have."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from autoprec.backends.tensorrt.bindings import Bindings
from autoprec.backends.tensorrt.network import (
    check_shapes,
    has_quantization,
    layer_owners,
    set_limits,
    set_precisions,
    set_shapes,
)
from autoprec.backends.tensorrt.records import ShapeProfile
from autoprec.errors import BackendError

from ...helpers.tensorrt.fake_builder import FLOAT, HALF, INT8, INT32, FakeLayer, FakeTensor, make

NODES = {"a": "fp16", "b": "fp32", "c": "int8", "d": "", "e_1": "fp32", "e": "fp16"}
WEAK = Bindings(make("8.6.0"), "tensorrt", (8, 6, 0), "weak")


def ask(*layers: FakeLayer) -> int:
    return set_precisions(WEAK, layers, NODES)


def asked(layer: FakeLayer) -> tuple[str | None, dict[int, str]]:
    return getattr(layer.precision, "name", None), {n: dtype.name for n, dtype in layer.output_types.items()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a", ("HALF", {0: "HALF"})), ("b", ("FLOAT", {0: "FLOAT"})), ("c", (None, {})), ("d", (None, {}))],
)
def test_float_nodes_are_asked_for_and_others_are_left_alone(name: str, expected: tuple[Any, ...]) -> None:
    layer = FakeLayer(name)

    assert ask(layer) == (expected[0] is not None)
    assert asked(layer) == expected


@pytest.mark.parametrize("kind", ["CONSTANT", "SHAPE", "QUANTIZE", "DEQUANTIZE", "CAST"])
def test_layers_whose_type_is_given_are_left_alone(kind: str) -> None:
    layer = FakeLayer("a", kind)

    assert ask(layer) == 0
    assert asked(layer) == (None, {})


def test_beside_quantisation_a_layer_normalization_is_left_alone() -> None:
    """TensorRT 8.6 computes it in FP32 there, and with FP16 weights it finds no kernel for the whole transformer."""
    helper, norm = FakeLayer("(Unnamed Layer* 1) [Shuffle]", "SHUFFLE"), FakeLayer("a", "NORMALIZATION")
    other = FakeLayer("b", "MATRIX_MULTIPLY")

    ask(helper, norm, other)
    assert asked(norm) == ("HALF", {0: "HALF"}), "without quantised layers it can run in FP16"

    helper, norm = FakeLayer("(Unnamed Layer* 1) [Shuffle]", "SHUFFLE"), FakeLayer("a", "NORMALIZATION")
    assert ask(helper, norm, FakeLayer("q", "QUANTIZE"), other) == 1
    assert asked(norm) == asked(helper) == (None, {})
    assert asked(other) == ("FLOAT", {0: "FLOAT"})


@pytest.mark.parametrize("outputs", [(INT32,), (INT8,), (INT32, INT32), ()])
def test_layers_without_float_outputs_are_left_alone(outputs: tuple[str, ...]) -> None:
    layer = FakeLayer("a", outputs=outputs)

    assert ask(layer) == 0
    assert asked(layer) == (None, {})


def test_only_the_float_outputs_are_typed() -> None:
    """TopK gives values and indices."""
    layer = FakeLayer("b", "TOPK", (HALF, INT32))
    ask(layer)

    assert asked(layer) == ("FLOAT", {0: "FLOAT"})


def test_an_output_of_the_network_keeps_its_type() -> None:
    layer = FakeLayer("a", outputs=(FakeTensor(SimpleNamespace(name=FLOAT), output=True), FLOAT))
    ask(layer)

    assert asked(layer) == ("HALF", {1: "HALF"})


def test_tensors_that_hold_shapes_are_left_alone() -> None:
    layer = FakeLayer("a")
    layer.outputs[0].is_shape_tensor = True

    assert ask(layer) == 0


@pytest.mark.parametrize(
    ("layer", "owner"),
    [
        (FakeLayer("a"), "a"),
        (FakeLayer("a_4"), "a"),
        (FakeLayer("e_1"), "e_1"),
        (FakeLayer("e_2"), "e"),
        (FakeLayer("whatever", metadata="[ONNX Layer: b]"), "b"),
        (FakeLayer("a", metadata="[ONNX Layer: b]"), "b"),
        (FakeLayer("a", metadata="[ONNX Layer: gone]"), "a"),
        (FakeLayer("x"), None),
        (FakeLayer("a", "CONSTANT"), None),
    ],
)
def test_a_layer_belongs_to_the_node_that_it_names(layer: FakeLayer, owner: str | None) -> None:
    assert layer_owners([layer], NODES) == [owner]


def test_helpers_without_a_name_belong_to_the_node_made_after_them() -> None:
    layers = [
        FakeLayer("(Unnamed Layer* 0) [Shuffle]", "SHUFFLE"),
        FakeLayer("a"),
        FakeLayer("(Unnamed Layer* 2) [Constant]", "CONSTANT"),
        FakeLayer("(Unnamed Layer* 3) [Shuffle]", "SHUFFLE"),
        FakeLayer("(Unnamed Layer* 4) [ElementWise]", "ELEMENTWISE"),
        FakeLayer("b"),
        FakeLayer("(Unnamed Layer* 6) [Shuffle]", "SHUFFLE"),
        FakeLayer("of no node"),
        FakeLayer("(Unnamed Layer* 8) [Shuffle]", "SHUFFLE"),
    ]

    assert layer_owners(layers, NODES) == ["a", "a", None, "b", "b", "b", None, None, None]
    assert ask(*layers) == 5


def test_quantization_is_seen() -> None:
    assert has_quantization([FakeLayer("a"), FakeLayer("q", "DEQUANTIZE")])
    assert not has_quantization([FakeLayer("a")])


def test_values_with_a_limit_get_a_symmetric_range_and_others_none() -> None:
    layer = FakeLayer("a", outputs=(FakeTensor(WEAK.module.DataType.FLOAT, name="y"), FakeTensor(INT32, name="n")))
    given = FakeTensor(WEAK.module.DataType.FLOAT, name="x")
    network = SimpleNamespace(num_inputs=1, get_input=lambda n: given, num_layers=1, get_layer=lambda n: layer)
    layer.outputs[1].dtype = WEAK.module.DataType.INT32

    assert set_limits(network, {"y": 2.5, "n": 4.0, "elsewhere": 1.0}) == 1
    assert layer.outputs[0].dynamic_range == (-2.5, 2.5)
    assert not hasattr(given, "dynamic_range")


def profile(*shapes: tuple[int, ...]) -> ShapeProfile:
    return ShapeProfile(*shapes)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (((1, 3), (2, 3), (4, 3)), r"has the shape \(\?, 3, 8\) in the model and cannot be \(1, 3\)"),
        (((1, 3, 8), (2, 3, 8), (4, 4, 8)), r"cannot be \(4, 4, 8\); give shapes that differ only where .* '\?'"),
        (((0, 3, 8), (1, 3, 8), (1, 3, 8)), r"sizes of the input 'x' must be 1 or more, found \(0, 3, 8\)"),
        (((2, 3, 8), (1, 3, 8), (4, 3, 8)), r"least <= best <= largest, found 2, 1, 4 for axis 0"),
        (((1, 3, 8), (5, 3, 8), (4, 3, 8)), r"least <= best <= largest, found 1, 5, 4 for axis 0"),
    ],
)
def test_shapes_that_the_model_cannot_take_are_refused(shapes: tuple[tuple[int, ...], ...], words: str) -> None:
    with pytest.raises(BackendError, match=words):
        check_shapes("x", (-1, 3, 8), profile(*shapes))


class Inputs:
    def __init__(self, **inputs: tuple[int, ...]) -> None:
        self.tensors = [FakeTensor(None, shape, name=name) for name, shape in inputs.items()]
        self.num_inputs = len(self.tensors)
        self.set: dict[str, tuple[Any, ...]] = {}

    def get_input(self, number: int) -> FakeTensor:
        return self.tensors[number]

    def set_shape(self, name: str, *shapes: Any) -> None:
        self.set[name] = shapes

    def set_shape_input(self, name: str, *values: Any) -> None:
        self.set[f"values of {name}"] = values


def test_only_dynamic_inputs_need_shapes() -> None:
    inputs = Inputs(x=(-1, 3), fixed=(1, 3))

    assert set_shapes(inputs, inputs, {"x": profile((1, 3), (2, 3), (4, 3))})
    assert inputs.set == {"x": ((1, 3), (2, 3), (4, 3))}
    assert not set_shapes(Inputs(fixed=(1, 3)), None, {"fixed": profile((1, 3), (1, 3), (1, 3))})


def test_an_input_that_holds_a_shape_gets_its_values() -> None:
    inputs = Inputs(size=(2,))
    inputs.tensors[0].is_shape_tensor = True

    assert set_shapes(inputs, inputs, {"size": profile((1, 1), (2, 2), (4, 4))})
    assert inputs.set == {"values of size": ((1, 1), (2, 2), (4, 4))}
    with pytest.raises(BackendError, match=r"the input 'size' holds a shape, so the values .* have to be said"):
        set_shapes(inputs, inputs, {})
    with pytest.raises(BackendError, match="found 4, 2, 4 for axis 0"):
        set_shapes(inputs, inputs, {"size": profile((4, 1), (2, 2), (4, 4))})


def test_an_input_without_shapes_is_named() -> None:
    with pytest.raises(BackendError, match=r"the input 'z' has the dynamic shape \(\?, 3\), so the shapes .* be said"):
        set_shapes(Inputs(x=(1, 3), z=(-1, 3)), None, {})


def test_shapes_of_an_input_that_is_not_there_are_refused() -> None:
    with pytest.raises(BackendError, match="shapes are given for 'zz'; the model's inputs are x, z"):
        set_shapes(Inputs(x=(1, 3), z=(1, 3)), None, {"zz": profile((1,), (1,), (1,))})


@pytest.mark.parametrize("shape", [(1, 4), (2, 3)])
def test_shapes_of_a_fixed_input_must_be_its_own(shape: tuple[int, ...]) -> None:
    with pytest.raises(BackendError, match=r"has the shape \(1, 3\) in the model and cannot be"):
        set_shapes(Inputs(x=(1, 3)), None, {"x": profile(shape, shape, shape)})
