"""Whole models in other opsets."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from autoprec.graph.opset.convert import align_functions, raised

from ...helpers.lowering_bench import loaded, run, sqnr_db
from ...helpers.networks import BUILDERS, random_feed


def test_a_model_that_is_new_enough_is_returned_itself() -> None:
    model = loaded(BUILDERS["mlp"]()).ir

    assert raised(model, 17) is model
    assert raised(model, 13) is model


@pytest.mark.parametrize("target", [19, 22])
def test_raising_keeps_names_and_results(target: int) -> None:
    for name in ("resnet_block", "mha_block", "pool_block", "if_body"):
        proto = BUILDERS[name]()
        model = loaded(proto).ir
        newer = raised(model, target)
        feed = random_feed(proto, 2)

        assert newer.opset_imports[""] == target
        assert model.opset_imports[""] == 17
        assert {n.name for n in model.graph} <= {n.name for n in newer.graph}
        # Runtimes have other kernels for other opsets: the order of sums may change, nothing else.
        assert sqnr_db(run(model, feed), run(newer, feed)) > 110


def test_a_function_of_an_older_opset_is_raised_before_it_is_inlined() -> None:
    """Its ReduceMean has its axes as an attribute, which the model's opset does not read."""
    inner = ir.Value(name="inner")
    mean = ir.node("ReduceMean", [inner], {"axes": [1], "keepdims": 1}, outputs=[ir.Value(name="made")], name="mean")
    body = ir.Graph([inner], mean.outputs, nodes=[mean], opset_imports={"": 13})
    function = ir.Function("local", "Mean", graph=body, attributes=[])
    source = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([2, 3]))
    call = ir.node("Mean", [source], domain="local", outputs=[ir.Value(name="y")], name="call")
    graph = ir.Graph([source], call.outputs, nodes=[call], opset_imports={"": 18, "local": 1}, name="g")
    model = align_functions(ir.Model(graph, ir_version=10, functions=[function]))
    (reduce,) = (node for node in model.functions.values().__iter__().__next__() if node.op_type == "ReduceMean")

    assert "axes" not in reduce.attributes
    assert len(reduce.inputs) == 2
