"""The shapes that values have in a run, and the sizes that follow from them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from autoprec.backends.ort import OrtBackend
from autoprec.backends.protocol import Backend
from autoprec.errors import UsageError
from autoprec.graph.model import Model, load_model
from autoprec.units.find import find_units
from autoprec.units.shapes import assumed_feed, shapes_in_run, sized_for
from autoprec.units.sizes import shapes_of_inputs, shapes_of_sizes, sized
from tests.helpers.onnx_builder import Builder


@pytest.fixture(scope="module")
def backend() -> Backend:
    return OrtBackend(1)


def halved() -> onnx.ModelProto:
    """A convolution on half of the channels, where the half is computed from a shape."""
    b = Builder()
    c0 = b.conv("c0", b.input("x", ["N", 3, 16, 16]), 3, 32)
    channels = b.node("Gather", "channels", [b.node("Shape", "shape", [c0]), b.const("one", [1], np.int64)])
    half = b.node("Div", "half", [channels, b.const("two", [2], np.int64)])
    part = b.node("Slice", "part", [c0, b.const("zero", [0], np.int64), half, "one"])
    b.output(b.conv("c1", part, 16, 32), ["N", "c", "h", "w"])
    return b.model()


def dynamic_sequence() -> onnx.ModelProto:
    """A product for each token and one for each sample."""
    b = Builder()
    tokens = b.node("MatMul", "per_token", [b.input("x", ["N", "S", 16]), b.weight("w0", 16, 64)])
    pooled = b.node("ReduceMean", "mean", [tokens], axes=[1], keepdims=0)
    b.output(b.node("MatMul", "per_sample", [pooled, b.weight("w1", 64, 512)]), ["N", 512])
    return b.model()


def chosen_branch() -> onnx.ModelProto:
    """A product behind an If, whose branches differ in shape, so that only a run tells what comes out."""
    b = Builder()
    x = b.input("x", ["N", "S", 8])
    total = b.node("ReduceSum", "total", [x], keepdims=0)
    chosen = b.node("Greater", "chosen", [total, b.const("limit", -1.0)])
    branches = {}
    for name, inner in (("then_branch", ["x", "x"]), ("else_branch", ["x"])):
        made = onnx.helper.make_tensor_value_info(f"{name}_out", onnx.TensorProto.FLOAT, None)
        joined = onnx.helper.make_node("Concat", inner, [made.name], f"{name}_join", axis=1)
        branches[name] = onnx.helper.make_graph([joined], name, [], [made])
    picked = b.node("If", "if", [chosen], **branches)
    b.output(b.node("MatMul", "product", [picked, b.weight("w", 8, 4)]), ["N", "T", 4])
    return b.model()


def summed_over_indices() -> onnx.ModelProto:
    """Einsum with a batch, heads and dots, and once without a product."""
    b = Builder()
    x = b.input("x", ["N", "T", 8])
    heads = b.node("Einsum", "heads", [x, b.weight("w", 4, 8, 2)], equation="btd, hdk -> bthk")
    mean = b.node("Einsum", "sum", [heads], equation="bthk->bth")
    b.output(b.node("Einsum", "dots", [mean, b.weight("v", 4, 3)], equation="...h,hk->...k"), ["N", "T", 3])
    return b.model()


def load(proto: onnx.ModelProto, path: object) -> Model:
    onnx.save(proto, f"{path}/model.onnx")
    return load_model(f"{path}/model.onnx")


@pytest.mark.parametrize(
    ("build", "shape", "macs"),
    [
        (halved, (1, 3, 16, 16), {"c0": 32 * 27 * 256, "c1": 32 * 144 * 256}),
        (dynamic_sequence, (1, 48, 16), {"per_token": 48 * 16 * 64, "per_sample": 64 * 512}),
        (chosen_branch, (1, 5, 8), {"product": 10 * 8 * 4}),
        (summed_over_indices, (1, 5, 8), {"heads": 5 * 8 * 4 * 2, "dots": 5 * 4 * 3}),
    ],
)
def test_macs_are_those_of_a_real_sample(
    tmp_path: object, backend: Backend, build: object, shape: tuple[int, ...], macs: dict[str, int]
) -> None:
    model = load(build(), tmp_path)  # type: ignore[operator]
    shapes = shapes_in_run(model, {"x": np.zeros(shape, np.float32)}, backend)
    found = sized(find_units(model.graph), model.graph, shapes)

    assert {unit.name: unit.macs for unit in found.units if unit.macs} == macs


def test_elements_of_edges_are_those_of_a_real_sample(tmp_path: object, backend: Backend) -> None:
    model = load(dynamic_sequence(), tmp_path)
    found = sized_for(find_units(model.graph), model, {"x": (1, 48, 16)}, backend)

    assert {edge.tensor: edge.elements for edge in found.edges if edge.producer in ("", "per_token")} == {
        "x": 48 * 16,
        "per_token_out": 48 * 64,
    }


def test_stored_shapes_are_enough_for_the_same_sizes(tmp_path: object, backend: Backend) -> None:
    model = load(halved(), tmp_path)
    found = sized_for(find_units(model.graph), model, {"x": (1, 3, 16, 16)}, backend)
    again = sized(find_units(model.graph), model.graph, shapes_of_sizes(found, model.graph))

    assert (again.units, again.edges) == (found.units, found.edges)
    assert shapes_of_inputs(found, model.graph) == {"x": (1, 3, 16, 16)}


def test_a_network_that_cannot_run_with_assumed_sizes_keeps_what_inference_tells(
    tmp_path: object, backend: Backend
) -> None:
    b = Builder()
    pooled = b.node("MaxPool", "pool", [b.conv("c0", b.input("x", ["N", 3, "H", "W"]), 3, 8)], kernel_shape=[4, 4])
    b.output(b.node("Flatten", "flat", [pooled]), ["N", "F"])
    model = load(b.model(), tmp_path)
    found = sized_for(find_units(model.graph), model, {"x": (1, 3, 1, 1)}, backend)

    assert found.unit("c0").macs == 8 * 27


@pytest.mark.parametrize("sizes", [{"y": (1, 3)}, {"x": (1, 48)}, {"x": (1, 48, 15)}])
def test_a_shape_that_no_input_can_have_is_refused(tmp_path: object, sizes: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(UsageError, match=r"must be (for an input of the model, x|like \['N', 'S', 16\])"):
        assumed_feed(load(dynamic_sequence(), tmp_path).interface, sizes)
