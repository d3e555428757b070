"""Reading a graph: constants, shapes, reachability, fingerprints."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from autoprec.graph.fingerprints import graph_fingerprint, weights_fingerprint
from autoprec.graph.topology import Topology, all_graphs, elements, static_shape

from ..helpers.networks import BUILDERS, conv_relu, if_body, mha_block, mlp, prepared, shared_weight
from ..helpers.onnx_builder import Builder
from ..helpers.renamed_models import renamed


def topology(builder: Builder) -> Topology:
    return Topology(prepared(builder.model()).graph)


def names(values: frozenset[ir.Value]) -> set[str]:
    return {str(value.name) for value in values}


def layered(parents: list[tuple[int, int]]) -> Topology:
    """Adds of two earlier values each; value 0 is the input."""
    b = Builder()
    values = [b.input("x", ["N", 4])]
    for place, (first, second) in enumerate(parents, start=1):
        values.append(b.node("Add", f"n{place}", [values[first % place], values[second % place]]))
    b.output(values[-1], ["N", 4])
    return topology(b)


def test_constants_are_initializers_and_what_follows_from_them_alone() -> None:
    b = Builder()
    b.input("x", ["N", 3])
    moved = b.node("Transpose", "t", [b.const("w", np.ones((4, 3)))])
    noise = b.node("RandomNormalLike", "noise", [moved])
    b.node("Add", "add", [b.node("MatMul", "m", ["x", moved]), b.node("ReduceSum", "sum", [noise])])
    b.output("add_out", None)
    t = Topology(prepared(b.model(check=False)).graph)
    assert names(t.constants) == {"w", "t_out"}


def test_shape_values_hang_on_shapes_but_weights_looked_up_by_position_do_not() -> None:
    b = Builder()
    b.input("x", ["N", "L", 4])
    length = b.node("Gather", "length", [b.node("Shape", "shape", ["x"]), b.const("one", 1, np.int64)])
    root = b.node("Sqrt", "root", [b.node("Cast", "cast", [length], to=TensorProto.FLOAT)])
    span = b.node("Range", "span", [b.const("zero", 0, np.int64), length, b.const("step", 1, np.int64)])
    places = b.node("Gather", "places", [b.const("table", np.ones((9, 4))), span])
    b.node("Div", "div", [b.node("Add", "add", ["x", places]), root])
    b.output("div_out", ["N", "L", 4])
    t = topology(b)
    assert names(t.shape_values) == {"shape_out", "length_out", "root_out", "cast_out", "span_out"}
    by_name = {node.name: node for node in t.nodes}
    assert [value.name for value in t.flowing_inputs(by_name["div"])] == ["add_out"]
    assert [value.name for value in t.dynamic_inputs(by_name["div"])] == ["add_out", "root_out"]


def test_a_value_read_in_a_body_escapes_and_is_a_dependency() -> None:
    t = Topology(prepared(if_body()).graph)
    by_name = {node.name: node for node in t.nodes}
    assert names(t.captured) == {"relu_out"}
    assert t.escapes(by_name["relu"].outputs[0])
    assert not t.escapes(by_name["conv"].outputs[0])
    assert "relu_out" in {value.name for value in t.dependencies(by_name["if"])}
    assert by_name["if"] in t.successors[by_name["relu"]]
    assert len(list(all_graphs(t.graph))) == 3


def test_nodes_out_of_order_are_sorted() -> None:
    model = conv_relu()
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    assert [node.name for node in Topology(ir.from_proto(model).graph).nodes] == ["conv", "relu"]


def test_a_consumer_that_reads_a_value_twice_is_listed_once() -> None:
    b = Builder()
    b.node("Mul", "square", [b.input("x", ["N", 4])] * 2)
    b.output("square_out", ["N", 4])
    t = topology(b)
    assert [node.name for node in t.consumers(t.graph.inputs[0])] == ["square"]


PARENTS = st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=2, max_size=14)


@given(PARENTS, st.data())
def test_convexity_agrees_with_a_search_along_all_paths(parents: list[tuple[int, int]], data: st.DataObject) -> None:
    t = layered(parents)
    members = set(data.draw(st.lists(st.sampled_from(t.nodes), min_size=1, unique=True)))

    def returns(node: ir.Node) -> bool:
        return any(after in members or returns(after) for after in t.successors[node])

    outside = {after for node in members for after in t.successors[node]} - members
    assert t.is_convex(members) == (not any(returns(node) for node in outside))


def test_unknown_dimensions_count_once() -> None:
    value = ir.Value(name="v", shape=ir.Shape(["N", 3, None]), type=ir.TensorType(ir.DataType.FLOAT))
    assert static_shape(value) == (1, 3, 1)
    assert elements(value) == 3
    assert static_shape(ir.Value(name="w")) is None


@pytest.mark.parametrize("name", BUILDERS)
def test_fingerprints_are_blind_to_names(name: str) -> None:
    first, second = prepared(BUILDERS[name]()).graph, prepared(renamed(BUILDERS[name](), "other")).graph
    assert graph_fingerprint(first) == graph_fingerprint(second)
    assert weights_fingerprint(first) == weights_fingerprint(second)


def test_fingerprints_tell_the_blocks_apart() -> None:
    graphs = [prepared(build()).graph for build in BUILDERS.values()]
    assert len({graph_fingerprint(graph) for graph in graphs}) == len(graphs)


def change_attribute(model: onnx.ModelProto) -> None:
    conv = next(node for node in model.graph.node if node.name == "conv")
    next(attribute for attribute in conv.attribute if attribute.name == "pads").ints[0] = 0


def change_operator(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Tanh"


def change_connection(model: onnx.ModelProto) -> None:
    model.graph.node[1].input[0] = "x"


def change_interface(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8


def change_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 18


@pytest.mark.parametrize(
    "change", [change_attribute, change_operator, change_connection, change_interface, change_opset]
)
def test_the_graph_fingerprint_sees(change: Callable[[onnx.ModelProto], None]) -> None:
    model = conv_relu()
    before = graph_fingerprint(ir.from_proto(model).graph)
    change(model)
    assert graph_fingerprint(ir.from_proto(model).graph) != before


def test_the_graph_fingerprint_sees_which_value_a_body_captures() -> None:
    before, model = prepared(if_body()).graph, if_body()
    branch = next(node for node in model.graph.node if node.op_type == "If").attribute[0].g
    branch.node[0].input[0] = "conv_out"
    assert graph_fingerprint(prepared(model).graph) != graph_fingerprint(before)


def test_the_graph_fingerprint_sees_an_operator_inside_a_body() -> None:
    before, model = prepared(if_body()).graph, if_body()
    node = next(node for node in model.graph.node if node.op_type == "If").attribute[0].g.node[0]
    node.attribute.append(helper.make_attribute("strides", [1, 1]))
    assert graph_fingerprint(prepared(model).graph) != graph_fingerprint(before)


def test_the_graph_fingerprint_is_blind_to_weights() -> None:
    model = mlp()
    before = graph_fingerprint(prepared(mlp()).graph)
    model.graph.initializer[0].CopyFrom(flipped(model.graph.initializer[0], 0))
    assert graph_fingerprint(prepared(model).graph) == before


def flipped(tensor: onnx.TensorProto, bit: int) -> onnx.TensorProto:
    data = bytearray(tensor.raw_data)
    data[bit // 8] ^= 1 << bit % 8
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    copy.raw_data = bytes(data)
    return copy


@given(st.data())
def test_the_weights_fingerprint_sees_a_single_bit(data: st.DataObject) -> None:
    model = data.draw(st.sampled_from([mlp, shared_weight, mha_block, if_body]))()
    tensors = list(model.graph.initializer)
    for node in model.graph.node:
        for attribute in node.attribute:
            tensors += attribute.g.initializer
    before = weights_fingerprint(ir.from_proto(model).graph)
    chosen = data.draw(st.sampled_from(tensors))
    chosen.CopyFrom(flipped(chosen, data.draw(st.integers(0, 8 * len(chosen.raw_data) - 1))))
    assert weights_fingerprint(ir.from_proto(model).graph) != before


def test_the_weights_fingerprint_of_strings_is_of_their_content() -> None:
    def with_words(*words: str) -> str:
        b = Builder()
        b.initializers.append(numpy_helper.from_array(np.array(words, dtype=object), "words"))
        b.node("Gather", "look", ["words", b.input("x", ["N"], TensorProto.INT64)])
        b.output("look_out", ["N"], TensorProto.STRING)
        return weights_fingerprint(prepared(b.model()).graph)

    assert with_words("a", "b") == with_words("a", "b")
    assert with_words("a", "b") != with_words("a", "c")
