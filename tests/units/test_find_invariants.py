"""What holds for the units of every graph: usual blocks, random graphs, the zoo."""

from __future__ import annotations

import os
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from autoprec.graph.model import load_model, to_bytes
from autoprec.graph.topology import Topology
from autoprec.units.find import find_units
from autoprec.units.keys import structural_keys
from autoprec.units.records import Partition, UnitKind

from ..helpers.networks import BUILDERS, cut, prepared, random_feed
from ..helpers.onnx_builder import CHANNELS, Builder
from ..helpers.renamed_models import renamed

WIDTH = 32


def check_invariants(topology: Topology, found: Partition) -> None:
    by_name = {str(node.name): node for node in topology.nodes}
    owned = [name for unit in found.units for name in unit.nodes]
    assert len(owned) == len(set(owned)), "a node in two units"
    assert not set(owned) & set(found.reasons), "a node in a unit has a reason"
    assert set(by_name) <= set(owned) | set(found.reasons), "a node without unit or reason"
    assert len({unit.name for unit in found.units}) == len(found.units)
    assert len({unit.key for unit in found.units}) == len(found.units)
    for unit in found.units:
        assert isinstance(unit.kind, UnitKind)
        assert set(unit.anchors) <= set(unit.nodes)
        assert unit.name == unit.anchors[-1]
        members = {by_name[name] for name in unit.nodes}
        assert topology.is_convex(members), f"{unit.name} is not convex"
        assert list(unit.nodes) == sorted(unit.nodes, key=lambda name: topology.index[by_name[name]])
    check_edges(topology, found)
    check_order(topology, found)


def check_edges(topology: Topology, found: Partition) -> None:
    names = {unit.name for unit in found.units} | {""}
    made = {str(value.name): topology.index[node] for node in topology.nodes for value in node.outputs}
    assert len(set(found.edges)) == len(found.edges)
    for edge in found.edges:
        assert {edge.producer, edge.consumer} <= names
        assert edge.producer != edge.consumer
        if edge.producer:
            assert edge.tensor in found.unit(edge.producer).outputs
            assert edge.tensor in made


def check_order(topology: Topology, found: Partition) -> None:
    """Units run one after another in the order given: no unit needs one that comes later."""
    by_name = {str(node.name): node for node in topology.nodes}
    home = {by_name[name]: place for place, unit in enumerate(found.units) for name in unit.nodes}
    circles: TopologicalSorter[object] = TopologicalSorter()  # the class itself takes no index on Python 3.10
    for node in topology.nodes:
        for after in topology.successors[node]:
            before, behind = home.get(node, node), home.get(after, after)
            if before != behind:
                circles.add(behind, before)
            if isinstance(before, int) and isinstance(behind, int):
                assert before <= behind
    circles.prepare()  # raises CycleError


@pytest.mark.parametrize("name", BUILDERS)
def test_blocks(name: str) -> None:
    check_invariants(*cut(BUILDERS[name]()))


@pytest.mark.parametrize("name", [name for name in BUILDERS if name != "if_body"])
def test_the_graph_between_a_units_inputs_and_outputs_is_the_unit(name: str) -> None:
    """Each unit, cut out by its inputs and outputs, computes what it computes in the whole model."""
    model = prepared(BUILDERS[name]())
    whole = onnx.load_from_string(to_bytes(model))
    types = {str(v.name): v for node in model.graph for v in node.outputs} | {
        str(v.name): v for v in model.graph.inputs
    }
    feed = random_feed(whole, 2)
    full = onnx.ModelProto()
    full.CopyFrom(whole)
    known = {value.name for value in full.graph.output}
    full.graph.output.extend(helper.make_empty_tensor_value_info(v) for v in types if v not in known | set(feed))
    session = plain_session(full)
    results = dict(zip([o.name for o in session.get_outputs()], session.run(None, feed), strict=True)) | feed
    for unit in find_units(model.graph).units:
        nodes = [node for node in whole.graph.node if node.name in unit.nodes]
        inputs = [helper.make_tensor_value_info(v, int(types[v].dtype), [None] * results[v].ndim) for v in unit.inputs]
        outputs = [helper.make_empty_tensor_value_info(v) for v in unit.outputs]
        part = helper.make_graph(nodes, "part", inputs, outputs, whole.graph.initializer)
        opsets = {"opset_imports": whole.opset_import, "ir_version": whole.ir_version}
        alone = plain_session(helper.make_model(part, **opsets))
        for value, array in zip(unit.outputs, alone.run(None, {v: results[v] for v in unit.inputs}), strict=True):
            np.testing.assert_array_equal(array, results[value])


def plain_session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3  # initializers that a part does not read
    return ort.InferenceSession(model.SerializeToString(), options)


UNARY = ("Relu", "Sigmoid", "Softmax", "Identity", "Transpose", "Neg", "Exp", "CumSumLike", "Scaled")
BINARY = ("Add", "Mul", "MatMul")
STEPS = st.lists(
    st.tuples(st.sampled_from((*UNARY, *BINARY, "Linear", "Linear", "Norm")), st.integers(0, 99), st.integers(0, 99)),
    min_size=3,
    max_size=25,
)


def random_model(steps: list[tuple[str, int, int]]) -> onnx.ModelProto:
    """Each step reads one or two of the last six values; all values are square matrices."""
    b = Builder()
    values = [b.input("x", [WIDTH, WIDTH])]
    b.const("axis", 1, np.int64)
    for place, (op, first, second) in enumerate(steps):
        recent = values[-6:]
        a, c = recent[first % len(recent)], recent[second % len(recent)]
        name = f"n{place}"
        if op == "Linear":
            value = b.linear(name, a, WIDTH, WIDTH)
        elif op == "Norm":
            value = b.node("LayerNormalization", name, [a, b.const(f"{name}.g", np.ones(WIDTH))])
        elif op == "CumSumLike":
            value = b.node("CumSum", name, [a, "axis"])
        elif op == "Scaled":
            size = b.node("Cast", f"{name}.cast", [b.node("Size", f"{name}.size", [c])], to=TensorProto.FLOAT)
            value = b.node("Div", name, [a, size])
        else:
            value = b.node(op, name, [a, c] if op in BINARY else [a])
        values.append(value)
    b.output(values[-1], [WIDTH, WIDTH])
    if len(values) > 6:
        b.output(values[len(values) // 2], [WIDTH, WIDTH])
    return b.model(check=False)


@given(STEPS)
def test_random_graphs(steps: list[tuple[str, int, int]]) -> None:
    check_invariants(*cut(random_model(steps)))


@given(STEPS)
def test_cutting_twice_gives_the_same(steps: list[tuple[str, int, int]]) -> None:
    model = random_model(steps)
    assert cut(model)[1] == cut(model)[1]


@given(STEPS)
def test_keys_of_random_graphs_are_blind_to_names(steps: list[tuple[str, int, int]]) -> None:
    model = random_model(steps)
    assert keys(cut(model)[1]) == keys(cut(renamed(model, "other"))[1])


def keys(found: Partition) -> list[str]:
    return [unit.key for unit in found.units]


@pytest.mark.parametrize("name", BUILDERS)
def test_keys_are_blind_to_names(name: str) -> None:
    first, second = cut(BUILDERS[name]())[1], cut(renamed(BUILDERS[name](), "other"))[1]
    assert keys(first) == keys(second)
    assert [unit.nodes for unit in first.units] != [unit.nodes for unit in second.units]


def test_keys_see_attributes_places_and_weight_shapes() -> None:
    def key(kernel: int = 3, stride: int = 1, before: bool = False, channels: int = CHANNELS) -> str:
        b = Builder()
        x = b.node("Relu", "first", [b.image()]) if before else b.image()
        b.conv("conv", x, CHANNELS, channels, kernel, strides=[stride] * 2)
        b.output("conv_out", None)
        graph = prepared(b.model(check=False)).graph
        topology = Topology(graph)
        return structural_keys(topology, [topology.nodes[-1:]])[0]

    variants = [key(), key(kernel=5), key(stride=2), key(before=True), key(channels=48)]
    assert len(set(variants)) == len(variants)


def test_a_long_chain_is_cut_into_its_blocks() -> None:
    """3000 nodes in 600 residual blocks: ancestors are bit sets, so this takes about a second."""
    b = Builder()
    x = b.input("x", ["N", WIDTH])
    weight = b.weight("w", WIDTH, WIDTH)
    for block in range(600):
        inner = b.node("Relu", f"relu{block}", [b.node("MatMul", f"a{block}", [x, weight])])
        x = b.node("Add", f"add{block}", [b.node("MatMul", f"b{block}", [inner, weight]), x])
        x = b.node("Softmax", f"softmax{block}", [x])
    b.output(x, ["N", WIDTH])
    found = cut(b.model())[1]
    assert [unit.nodes for unit in found.units[-3:]] == [("a599", "relu599"), ("b599", "add599"), ("softmax599",)]
    assert len(found.units) == 1800


def zoo() -> Iterator[Path]:
    folder = os.environ.get("AUTOPREC_ZOO")
    return iter(sorted(Path(folder).rglob("*.onnx")) if folder else [])


@pytest.mark.zoo
@pytest.mark.skipif("AUTOPREC_ZOO" not in os.environ, reason="AUTOPREC_ZOO names no folder of models")
def test_zoo() -> None:
    models = list(zoo())
    assert models
    for path in models:
        model = load_model(path)
        found = find_units(model.graph)
        check_invariants(Topology(model.graph), found)
        linear = {node.name for node in model.graph if node.op_type in ("Conv", "Gemm", "MatMul")}
        assert linear <= {name for unit in found.units for name in unit.anchors}, path
