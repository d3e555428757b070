"""Loading and saving models, and the words of every refusal."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from autoprec.errors import ModelError, RunDirectoryError
from autoprec.graph import onnx_file
from autoprec.graph.model import check_model, load_model, save_model, to_bytes
from autoprec.graph.topology import all_nodes
from autoprec.units.find import find_units

from ..helpers.networks import BUILDERS, conv_relu, if_body, mlp, random_feed, resnet_block, run_unoptimised, write
from ..helpers.onnx_builder import Builder

# ---------------------------------------------------------------------------- what loads


@pytest.mark.parametrize("name", BUILDERS)
def test_preparing_changes_no_result(name: str, tmp_path: Path) -> None:
    proto = BUILDERS[name]()
    feed = random_feed(proto, 2)
    loaded = load_model(write(proto, tmp_path))
    for before, after in zip(
        run_unoptimised(proto.SerializeToString(), feed), run_unoptimised(to_bytes(loaded.ir), feed), strict=True
    ):
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
    np.testing.assert_array_equal(
        run_unoptimised(proto.SerializeToString(), feed), run_unoptimised(to_bytes(loaded.ir), feed)
    )


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


def test_infinity_in_the_mask_of_an_attention_is_no_broken_weight(tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", ["N", 4, 8])
    mask = b.const("mask", np.triu(np.full((4, 4), -np.inf), 1))
    b.node("Attention", "attention", [x, x, x, mask], q_num_heads=2, kv_num_heads=2)
    b.output("attention_out", ["N", 4, 8])
    proto = b.model(check=False)
    proto.opset_import[0].version = 23
    load_model(write(proto, tmp_path))


def test_a_graph_needs_no_name(tmp_path: Path) -> None:
    b = Builder()
    b.node("Relu", "relu", [b.input("x", ["N", 4])])
    b.output("relu_out", ["N", 4])
    proto = b.model()
    proto.graph.name = ""
    load_model(write(proto, tmp_path))


# ---------------------------------------------------------------------------- what is refused


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
def test_what_is_quantised_in_the_model_is_left_as_it_is(quantize: Callable[[Builder], None], tmp_path: Path) -> None:
    b = Builder()
    b.input("x", ["N", 4])
    quantize(b)
    b.output("dq_out", ["N", 4])
    partition = find_units(load_model(write(b.model(check=False), tmp_path)).graph)

    assert not partition.units
    assert any("in 8 bits in the model" in reason or "operator com" in reason for reason in partition.reasons.values())


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
    np.testing.assert_array_equal(run_unoptimised(saved, feed), run_unoptimised(proto.SerializeToString(), feed))


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
