"""Types that follow from the schemas of operators, where inference says nothing or something else."""

from __future__ import annotations

import onnx_ir as ir

from autoprec.graph.schemas import complete_types, signature_of

from ..helpers.networks import prepared
from ..helpers.onnx_builder import Builder

FLOAT = ir.TensorType(ir.DataType.FLOAT)


def behind_a_foreign_operator(b: Builder) -> str:
    """An operator of another domain, of whose result nothing is known."""
    return b.node("Thing", "thing", [b.input("x", ["N", 4])], domain="somebody")


def test_the_weights_of_a_product_tell_the_type_of_its_other_operand() -> None:
    b = Builder()
    hidden = b.node("Relu", "relu", [behind_a_foreign_operator(b)])
    b.node("MatMul", "product", [hidden, b.weight("w", 4, 4)])
    b.output("product_out", None)
    graph = prepared(b.model(check=False)).graph

    assert {v.dtype for node in graph for v in node.outputs} == {ir.DataType.FLOAT}


def test_what_no_slot_tells_stays_unknown() -> None:
    unknown, indices = ir.Value(name="d"), ir.Value(name="a", type=ir.TensorType(ir.DataType.INT64))
    node = ir.node("Gather", [unknown, indices])
    complete_types([node, ir.node("Conv", [unknown], domain="mine")], {"": 17})

    assert (unknown.type, node.outputs[0].type) == (None, None)


def test_a_split_into_a_sequence_gives_a_sequence() -> None:
    b = Builder()
    parts = b.node("SplitToSequence", "split", [b.node("Relu", "relu", [b.input("x", ["N", 4])])], axis=1)
    same = b.node("Identity", "same", [parts])
    maybe = b.node("OptionalGetElement", "get", [b.node("Optional", "wrap", [same])])
    b.node("SequenceAt", "part", [maybe, b.const("first", 0, "int64")])
    b.output("part_out", None)
    types = {str(v.name): v.type for node in prepared(b.model(check=False)).graph for v in node.outputs}

    sequence = ir.SequenceType(FLOAT)
    assert types == {
        "relu_out": FLOAT,
        "split_out": sequence,
        "same_out": sequence,
        "wrap_out": ir.OptionalType(sequence),
        "get_out": sequence,
        "part_out": FLOAT,
    }


def test_each_result_of_an_operator_with_mixed_results_has_a_variable_of_its_own() -> None:
    scan = ir.node("Loop", [None, None, ir.Value(name="a"), ir.Value(name="b")], num_outputs=2)
    signature = signature_of(scan, {"": 17})

    assert signature is not None
    assert len(set(signature.inputs[2:])) == len(set(signature.outputs)) == 2
