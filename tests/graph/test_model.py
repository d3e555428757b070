"""Loading and saving models, and the words of every refusal."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from autoprec.errors import ModelError, RunDirectoryError
from autoprec.graph import onnx_file
from autoprec.graph.model import check_model, load_model, save_model, to_bytes
from autoprec.graph.topology import all_nodes

from ..helpers.networks import BUILDERS, conv_relu, if_body, mlp, random_feed, resnet_block, write
from ..helpers.onnx_builder import Builder

FOLDER = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def run(model: bytes | Path, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model if isinstance(model, bytes) else str(model), options)
    return list(session.run(None, feed))


def external(model: onnx.ModelProto, folder: Path, data: str = "weights.bin") -> Path:
    """Save `model` with every initializer in the file `data`."""
    path = folder / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location=data, size_threshold=0)
    return path


# ---------------------------------------------------------------------------- what loads


@pytest.mark.parametrize("name", BUILDERS)
def test_preparing_changes_no_result(name: str, tmp_path: Path) -> None:
    proto = BUILDERS[name]()
    feed = random_feed(proto, 2)
    loaded = load_model(write(proto, tmp_path))
    for before, after in zip(run(proto.SerializeToString(), feed), run(to_bytes(loaded.ir), feed), strict=True):
        np.testing.assert_array_equal(before, after)


def test_the_interface_has_names_types_and_shapes(tmp_path: Path) -> None:
    interface = load_model(write(if_body(), tmp_path)).interface
    assert [(spec.name, spec.dtype, spec.shape) for spec in interface.inputs] == [
        ("flag", np.dtype(bool), ()),
        ("x", np.dtype(np.float32), ("N", 32, 8, 8)),
    ]
    assert [spec.name for spec in interface.outputs] == ["after_out"]


def test_constant_nodes_become_initializers(tmp_path: Path) -> None:
    b = Builder()
    b.input("x", ["N", 4])
    b.nodes.append(helper.make_node("Constant", [], ["c"], value_floats=[1.0, 2.0, 3.0, 4.0]))
    b.node("Add", "add", ["x", "c"])
    b.output("add_out", ["N", 4])
    graph = load_model(write(b.model(), tmp_path)).graph
    assert [node.op_type for node in graph] == ["Add"]
    assert list(graph.initializers) == ["c"]


def test_an_initializer_that_is_also_an_input_is_no_input(tmp_path: Path) -> None:
    proto = mlp()
    proto.ir_version = 3  # then every initializer had to be one
    for tensor in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    loaded = load_model(write(proto, tmp_path))
    assert [spec.name for spec in loaded.interface.inputs] == ["x"]
    check_model(loaded.ir)


def test_functions_are_inlined(tmp_path: Path) -> None:
    opset = [helper.make_opsetid("", 17)]
    inner = [helper.make_node("MatMul", ["a", "w"], ["m"]), helper.make_node("Relu", ["m"], ["y"])]
    function = helper.make_function("mine", "Block", ["a", "w"], ["y"], inner, opset)
    b = Builder()
    b.input("x", ["N", 8])
    first = b.node("Block", "one", ["x", b.weight("w1", 8, 8)], domain="mine")
    b.node("Block", "two", [first, b.weight("w2", 8, 8)], domain="mine")
    b.output("two_out", ["N", 8])
    proto = b.model([function])
    loaded = load_model(write(proto, tmp_path))
    assert [node.op_type for node in loaded.graph] == ["MatMul", "Relu"] * 2
    assert not loaded.ir.functions
    feed = random_feed(proto, 3)
    np.testing.assert_array_equal(run(proto.SerializeToString(), feed), run(to_bytes(loaded.ir), feed))


def test_nodes_get_unique_names_and_keep_those_that_are(tmp_path: Path) -> None:
    proto = resnet_block()
    for node, name in zip(proto.graph.node, ["", "a", "a", "a#1", "b"], strict=False):
        node.name = name
    names = [node.name for node in load_model(write(proto, tmp_path)).graph]
    assert len(set(names)) == len(names)
    assert names[0] == "stem_out"
    assert names[3:5] == ["a#1", "b"]


def test_nodes_in_bodies_get_unique_names_too(tmp_path: Path) -> None:
    proto = if_body()
    for attribute in next(node for node in proto.graph.node if node.op_type == "If").attribute:
        attribute.g.node[0].name = "conv"
    names = [node.name for node in all_nodes(load_model(write(proto, tmp_path)).graph)]
    assert len(names) == 6
    assert len(set(names)) == 6


def test_types_are_carried_on_behind_an_unknown_operator(tmp_path: Path) -> None:
    b = Builder()
    strange = b.node("Strange", "strange", [b.image()], domain="com.example")
    b.node("Relu", "relu", [b.conv("conv", strange, 32, 32)])
    b.output("relu_out", ["N", 32, 8, 8])
    graph = load_model(write(b.model(check=False), tmp_path)).graph
    assert {str(node.outputs[0].dtype) for node in graph if node.name != "strange"} == {"FLOAT"}


def test_infinity_in_a_mask_is_no_broken_weight(tmp_path: Path) -> None:
    b = Builder()
    mask = b.const("mask", np.triu(np.full((4, 4), -np.inf), 1))
    b.node("Softmax", "softmax", [b.node("Add", "add", [b.input("x", ["N", 4, 4]), mask])])
    b.output("softmax_out", ["N", 4, 4])
    load_model(write(b.model(), tmp_path))


def test_external_data_is_read_into_memory(tmp_path: Path) -> None:
    proto = conv_relu()
    feed = random_feed(proto, 2)
    path = external(conv_relu(), tmp_path)
    loaded = load_model(path)
    (tmp_path / "weights.bin").unlink()
    np.testing.assert_array_equal(run(to_bytes(loaded.ir), feed), run(proto.SerializeToString(), feed))
    inside = load_model(write(proto, tmp_path, "inside.onnx"))
    assert loaded.weights_fingerprint == inside.weights_fingerprint
    assert loaded.graph_fingerprint == inside.graph_fingerprint


def test_a_link_to_a_model_reads_the_data_beside_the_link(tmp_path: Path) -> None:
    store, shown = tmp_path / "store", tmp_path / "shown"
    store.mkdir()
    shown.mkdir()
    external(conv_relu(), store).rename(store / "0a1b")
    (store / "weights.bin").rename(shown / "weights.bin")
    (shown / "model.onnx").symlink_to(store / "0a1b")
    assert load_model(shown / "model.onnx").interface.inputs[0].name == "x"


def test_loading_writes_nothing(tmp_path: Path) -> None:
    path = external(conv_relu(), tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    load_model(path)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


# ---------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not an ONNX model, or it is truncated: it holds no graph; export it again"),
        (b"this is text, and no model\n" * 40, "is not an ONNX model"),
        (bytes(np.random.default_rng(0).integers(0, 256, 4096, dtype=np.uint8)), "is not an ONNX model"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 64, "is not an ONNX model"),
    ],
    ids=["empty", "text", "random", "image"],
)
def test_a_file_that_is_no_model(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=words):
        load_model(path)


@pytest.mark.parametrize("name", ["model.txt", "model.json", "model.textproto", "model"])
def test_the_name_of_a_file_does_not_decide_how_it_is_read(name: str, tmp_path: Path) -> None:
    assert load_model(write(mlp(), tmp_path, name)).interface.inputs


def test_a_missing_path(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no such file: .*gone\.onnx; give the path of an ONNX model"):
        load_model(tmp_path / "gone.onnx")


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a folder; give the path of the ONNX file in it"):
        load_model(tmp_path)


MLP_BYTES = mlp().SerializeToString()


@FOLDER
@given(st.integers(0, len(MLP_BYTES) - 1))
def test_every_truncation_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(MLP_BYTES[:length])
    with pytest.raises(ModelError, match=r"truncated|not valid ONNX"):
        load_model(path)


def test_the_last_bytes_are_missed_too(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for missing in range(1, 200):
        path.write_bytes(MLP_BYTES[:-missing])
        with pytest.raises(ModelError, match=r"truncated|not valid ONNX"):
            load_model(path)


@FOLDER
@given(st.lists(st.tuples(st.integers(0, 600), st.integers(1, 255)), min_size=1, max_size=4))
def test_a_damaged_file_loads_or_is_refused_but_never_crashes(tmp_path: Path, damage: list[tuple[int, int]]) -> None:
    """Damage at the end is in the graph's structure, not in the weights."""
    content = bytearray(MLP_BYTES)
    for place, change in damage:
        content[-1 - place] ^= change
    path = tmp_path / "model.onnx"
    path.write_bytes(bytes(content))
    with contextlib.suppress(ModelError):
        load_model(path)


def test_missing_external_data(tmp_path: Path) -> None:
    path = external(conv_relu(), tmp_path)
    (tmp_path / "weights.bin").unlink()
    words = r"keeps weight 'conv\.w' in the file 'weights\.bin', which is missing; put it beside the model"
    with pytest.raises(ModelError, match=words):
        load_model(path)


@pytest.mark.parametrize("kept", [0, 1, 0.5])
def test_truncated_external_data(kept: float, tmp_path: Path) -> None:
    path = external(conv_relu(), tmp_path)
    data = tmp_path / "weights.bin"
    content = data.read_bytes()
    data.write_bytes(content[: -1 if kept == 1 else int(kept * len(content))])
    with pytest.raises(ModelError, match=r"the weight file 'weights\.bin' of .* is truncated; copy it again"):
        load_model(path)


def edit_entry(path: Path, key: str, value: str) -> None:
    proto = onnx.load(path, load_external_data=False)
    for entry in proto.graph.initializer[0].external_data:
        if entry.key == key:
            entry.value = value
    path.write_bytes(proto.SerializeToString())


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", ""])
def test_external_data_must_lie_in_the_models_folder(location: str, tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(100_000))
    folder = tmp_path / "inner"
    folder.mkdir()
    path = external(conv_relu(), folder)
    edit_entry(path, "location", location)
    with pytest.raises(ModelError, match="must lie in the model's folder"):
        load_model(path)


@pytest.mark.parametrize(("key", "value"), [("length", "12"), ("offset", "-4"), ("offset", "many")])
def test_a_broken_reference_to_external_data(key: str, value: str, tmp_path: Path) -> None:
    path = external(conv_relu(), tmp_path)
    edit_entry(path, key, value)
    with pytest.raises(ModelError, match=r"weight 'conv\.w' .*export the model again"):
        load_model(path)


@pytest.mark.parametrize("hard", [True, False])
def test_external_data_that_is_a_link_to_elsewhere(hard: bool, tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    path = external(conv_relu(), folder)
    (folder / "weights.bin").rename(tmp_path / "blob")
    if hard:
        (folder / "weights.bin").hardlink_to(tmp_path / "blob")
    else:
        (folder / "weights.bin").symlink_to(tmp_path / "blob")
    with pytest.raises(ModelError, match="which is a link to elsewhere; put a copy beside the model"):
        load_model(path)


def test_external_data_in_a_body_is_checked_too(tmp_path: Path) -> None:
    path = external(if_body(), tmp_path)
    proto = onnx.load(path, load_external_data=False)
    body = next(node for node in proto.graph.node if node.op_type == "If").attribute[0].g
    tensor = body.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="gone.bin")
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match=r"in the file 'gone\.bin', which is missing"):
        load_model(path)


def spoil(proto: onnx.ModelProto, name: str, value: float) -> onnx.ModelProto:
    tensor = next(tensor for tensor in proto.graph.initializer if tensor.name == name)
    data = bytearray(tensor.raw_data)
    data[:4] = struct.pack("<f", value)
    tensor.raw_data = bytes(data)
    return proto


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(value: float, tmp_path: Path) -> None:
    path = write(spoil(conv_relu(), "conv.w", value), tmp_path)
    with pytest.raises(ModelError, match=r"weight 'conv\.w' of .* holds NaN or infinity; train or export"):
        load_model(path)


def test_nan_in_a_mask_is_refused(tmp_path: Path) -> None:
    b = Builder()
    b.node("Add", "add", [b.input("x", ["N", 4]), b.const("mask", [0, 0, np.nan, 0])])
    b.output("add_out", ["N", 4])
    with pytest.raises(ModelError, match=r"weight 'mask' of .* holds NaN"):
        load_model(write(b.model(), tmp_path))


def test_weights_of_bodies_are_checked(tmp_path: Path) -> None:
    proto = if_body()
    tensor = next(node for node in proto.graph.node if node.op_type == "If").attribute[0].g.initializer[0]
    tensor.CopyFrom(numpy_helper.from_array(np.full((32, 32, 1, 1), np.nan, np.float32), tensor.name))
    with pytest.raises(ModelError, match=r"weight '\w+_branch\.conv\.w' .* holds NaN"):
        load_model(write(proto, tmp_path))


def quantize_linear(b: Builder) -> None:
    pair = [b.const("scale", 0.1), b.const("zero", 0, np.int8)]
    b.node("DequantizeLinear", "dq", [b.node("QuantizeLinear", "q", ["x", *pair]), *pair])


def matmul_integer(b: Builder) -> None:
    eight = b.node("Cast", "eight", ["x"], to=TensorProto.INT8)
    product = b.node("MatMulInteger", "mmi", [eight, b.const("w", np.ones((4, 4)), np.int8)])
    b.node("Cast", "dq", [product], to=TensorProto.FLOAT)


def runtime_operator(b: Builder) -> None:
    b.node("QLinearAdd", "dq", ["x"], domain="com.microsoft")


@pytest.mark.parametrize("quantize", [quantize_linear, matmul_integer, runtime_operator])
def test_a_quantised_model(quantize: Callable[[Builder], None], tmp_path: Path) -> None:
    b = Builder()
    b.input("x", ["N", 4])
    quantize(b)
    b.output("dq_out", ["N", 4])
    words = r"must be a float model, but node '\w+' is \w+: it is quantised already; give the model from before"
    with pytest.raises(ModelError, match=words):
        load_model(write(b.model(check=False), tmp_path))


def test_a_model_without_inputs(tmp_path: Path) -> None:
    b = Builder()
    b.node("Relu", "relu", [b.const("x", np.ones((1, 4)))])
    b.output("relu_out", [1, 4])
    with pytest.raises(ModelError, match="must have at least one input that is not an initializer; export it with its"):
        load_model(write(b.model(), tmp_path))


def test_an_operator_that_does_not_exist(tmp_path: Path) -> None:
    b = Builder()
    b.node("Conw", "conv", [b.image()])
    b.output("conv_out", ["N"])
    with pytest.raises(ModelError, match=r"is not valid ONNX: .*Conw"):
        load_model(write(b.model(check=False), tmp_path))


def test_a_weight_whose_bytes_do_not_fit_its_shape(tmp_path: Path) -> None:
    proto = conv_relu()
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-4]
    with pytest.raises(ModelError, match="is not valid ONNX"):
        load_model(write(proto, tmp_path))


# ---------------------------------------------------------------------------- saving


@pytest.mark.parametrize("limit", [None, 1000], ids=["one file", "weights beside"])
def test_a_saved_model_is_the_same(limit: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proto = resnet_block()
    loaded = load_model(write(proto, tmp_path))
    if limit is not None:
        monkeypatch.setattr(onnx_file, "PROTOBUF_LIMIT_BYTES", limit)
    saved = tmp_path / "out" / "lowered.onnx"
    save_model(loaded.ir, saved)
    files = {file.name for file in saved.parent.iterdir()}
    assert files == ({"lowered.onnx"} if limit is None else {"lowered.onnx", "lowered.onnx.data"})
    again = load_model(saved)
    assert again.graph_fingerprint == loaded.graph_fingerprint
    assert again.weights_fingerprint == loaded.weights_fingerprint
    feed = random_feed(proto, 2)
    np.testing.assert_array_equal(run(saved, feed), run(proto.SerializeToString(), feed))


def test_saving_beside_leaves_the_model_in_memory_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_model(write(mlp(), tmp_path))
    before = to_bytes(loaded.ir)
    monkeypatch.setattr(onnx_file, "PROTOBUF_LIMIT_BYTES", 1000)
    save_model(loaded.ir, tmp_path / "lowered.onnx")
    assert to_bytes(loaded.ir) == before


@pytest.mark.parametrize("limit", [None, 1000])
def test_a_place_that_cannot_be_written(limit: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_model(write(mlp(), tmp_path))
    if limit is not None:
        monkeypatch.setattr(onnx_file, "PROTOBUF_LIMIT_BYTES", limit)
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match="cannot write"):
        save_model(loaded.ir, tmp_path / "file" / "lowered.onnx")


def test_the_checker_passes_models_too_large_for_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_model(write(resnet_block(), tmp_path))
    monkeypatch.setattr(onnx_file, "PROTOBUF_LIMIT_BYTES", 1000)
    check_model(loaded.ir)
    next(iter(loaded.graph)).op_type = "Conw"
    with pytest.raises(ModelError, match="not valid ONNX, please report this"):
        check_model(loaded.ir)
