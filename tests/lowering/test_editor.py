"""An editor gives free names, shares constants by what they are for, and follows values and nodes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from autoprec.lowering.editor import GraphEditor

from ..helpers.lowering_bench import loaded, node_named
from ..helpers.networks import BUILDERS


def mlp() -> tuple[ir.Model, GraphEditor]:
    model = loaded(BUILDERS["mlp"]()).ir
    return model, GraphEditor(model)


def converted(model: ir.Model, value: ir.Value) -> ir.Value:
    """A conversion of a value, not read by anybody yet."""
    made = ir.Value(type=value.type, shape=value.shape)
    model.graph.append(ir.node("Identity", [value], outputs=[made], name="conversion"))
    return made


def test_a_constant_is_shared_by_what_it_is_for_and_not_by_its_name() -> None:
    _, editor = mlp()
    one, two = (np.array(number, np.float32) for number in (1, 2))
    first = editor.shared_constant(("zero", 1), "zero", one)

    assert editor.shared_constant(("zero", 1), "zero", one) is first
    other = editor.shared_constant(("zero", 2), "zero", two)
    assert other is not first
    assert (first.name, other.name) == ("zero", "zero#1")


def test_a_users_weight_is_never_taken_for_a_constant_of_that_name() -> None:
    _, editor = mlp()

    assert editor.shared_constant("scale", "fc1.w", np.array(1, np.float32)).name == "fc1.w#1"


def test_what_takes_over_has_the_name_and_the_readers() -> None:
    model, editor = mlp()
    old = node_named(model, "fc1").outputs[0]
    new = ir.Value(type=old.type, shape=old.shape)
    editor.take_over(old, new, "fc1_out/codes")

    assert (new.name, old.name) == ("fc1_out", "fc1_out/codes")
    assert node_named(model, "relu").inputs[0] is new


def test_a_pair_moves_the_readers_and_keeps_the_raw_value() -> None:
    model, editor = mlp()
    value = node_named(model, "relu").outputs[0]
    final = converted(model, ir.Value(name="codes", type=value.type, shape=value.shape))
    editor.quantized(value, final, "relu_out/raw")
    row = editor.record().values["relu_out"]

    assert (row.exact, row.raw, row.final) == (value, value, final)


def test_rounding_behind_a_pair_changes_what_the_pair_quantises() -> None:
    model, editor = mlp()
    value = node_named(model, "relu").outputs[0]
    final, rounded = (ir.Value(type=value.type, shape=value.shape) for _ in range(2))
    model.graph.append(ir.node("Identity", [value], outputs=[final], name="pair"))
    editor.quantized(value, final, "relu_out/raw")
    editor.rounded(value, rounded, "relu_out/raw/exact")
    row = editor.record().values["relu_out"]

    assert (row.exact, row.raw, row.final) == (value, rounded, final)


def test_a_node_leads_to_those_that_do_its_work_however_often_it_is_replaced() -> None:
    _, editor = mlp()
    first, second, third = (ir.node("Identity", [None], name=name) for name in ("a", "b", "c"))
    (node,) = editor.record().nodes["fc1"]
    editor.became(node, [first, second])
    editor.became(first, [third])

    assert set(editor.record().nodes["fc1"]) == {second, third}


def test_nodes_that_are_replaced_by_one_share_it() -> None:
    _, editor = mlp()
    made = ir.node("Identity", [None], name="made")
    nodes = editor.record().nodes
    for name in ("fc1", "relu"):
        editor.became(nodes[name][0], [made])

    assert editor.record().nodes["fc1"] == editor.record().nodes["relu"] == (made,)


def test_values_that_are_gone_are_not_recorded() -> None:
    model, editor = mlp()
    last = node_named(model, "fc2")
    model.graph.outputs.clear()
    model.graph.remove(last)

    assert "fc2_out" not in editor.record().values
