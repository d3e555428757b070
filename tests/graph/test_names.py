"""New names are free among all names of a graph, those in bodies and functions too."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from autoprec.graph.names import Names, names_in, rename_duplicates

from ..helpers.networks import conv_relu, if_body, mlp, prepared


@given(st.lists(st.sampled_from(["x", "x#1", "x#2", "conv", "conv_out", "conv.w", "new", ""]), max_size=12))
def test_no_name_is_given_twice_or_was_there_before(wishes: list[str]) -> None:
    graph = prepared(conv_relu()).graph
    before, names = set(names_in(graph)), Names(graph)
    given_names = [names.new(wish) for wish in wishes]

    assert len(set(given_names)) == len(given_names)
    assert not before & set(given_names)


def test_a_free_name_is_given_as_it_was_wished_and_a_taken_one_gets_a_number() -> None:
    names = Names(prepared(conv_relu()).graph)

    assert [names.new("s"), names.new("s"), names.new("conv_out"), names.new("relu")] == [
        "s",
        "s#1",
        "conv_out#1",
        "relu#1",
    ]


def test_names_in_bodies_are_taken() -> None:
    names = Names(prepared(if_body()).graph)

    for taken in ("then_branch.conv", "then_branch.conv_out", "else_branch.conv.w"):
        assert names.new(taken) == f"{taken}#1"


def test_names_in_functions_are_taken() -> None:
    inner = helper.make_node("Relu", ["a"], ["inside"], name="inner")
    function = helper.make_function("own", "F", ["a"], ["inside"], [inner], [helper.make_opsetid("", 17)])
    graph = helper.make_graph(
        [helper.make_node("F", ["x"], ["y"], domain="own")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model = ir.from_proto(helper.make_model(graph, functions=[function], opset_imports=opsets))
    names = Names(model.graph, model.functions.values())

    assert (names.new("inside"), names.new("inner")) == ("inside#1", "inner#1")


def doubled(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with one name for all its nodes."""
    for node in model.graph.node:
        node.name = "same"
    return model


def test_nodes_that_share_a_name_get_one_each() -> None:
    graph = ir.from_proto(doubled(mlp())).graph
    rename_duplicates(graph)

    assert [node.name for node in graph] == ["same", "same#1", "same#2"]


def test_they_get_the_names_that_the_units_know_them_by() -> None:
    original = ir.from_proto(doubled(mlp())).graph
    rename_duplicates(original)

    assert [node.name for node in original] == [node.name for node in prepared(doubled(mlp())).graph]


def test_names_that_are_there_once_stay() -> None:
    graph = ir.from_proto(mlp()).graph
    before = [node.name for node in graph]
    rename_duplicates(graph)

    assert [node.name for node in graph] == before
